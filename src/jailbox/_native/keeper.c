/* keeper.c - the parent of every jail of one host process.
 *
 * PROBLEM  The host is somebody's Python: it may die at any instruction, it
 *          must not see our children, and it is far too large to fork.
 * CHOICE   A process of ours, some dozens of kilobytes, that knows nothing of
 *          the host but its pidfd and one socket.  It makes what a jail needs
 *          outside of itself (cgroups, a range of ids), clones the init, and
 *          takes all of it away when the init has ended.  When the host dies,
 *          it kills what is left and takes that away too.
 * REJECTED PR_SET_PDEATHSIG in the host's children: it fires when the thread
 *          that made them ends.
 *
 * CONTENTS  groups . starting . ending . the socket . the loop */
#include "keeper.h"

#define LINGER_NS 5000000000u /* how long a busy cgroup is tried again */
#define LINGER_POLL_NS 2000000u
#define FILES_ENOUGH 65536u

#define JAIL_ENDED (-1)   /* its groups may linger */
#define JAIL_RESTING (-2) /* it may be started again: its ids are kept */

/* One jail.  It has a mapping of its own, with a copy of its record behind it,
 * so that a thousand jails cost a thousand times two pages and no more. */
struct jail {
  struct jail *next;
  size_t mapped;
  uint64_t id;
  int pid; /* or one of the states below */
  int pidfd;
  int channel;
  bool released; /* nobody will start it again */
  uint64_t linger;
  struct userns userns;
  struct jb_gone gone;
  struct record record;
};

struct keeper {
  struct ids ids;
  int self;
  int template;
  int signals;
  bool outlive;
  bool ending; /* the host is gone: kill, clean up, exit */
  struct jail *jails;
  struct userns ready[READY_MAX];
  size_t ready_count;
  struct rooms nets[READY_MAX];
  size_t nets_count;
  struct record config;
  struct visitors visitors;
  int prepared[JB_PREPARED_MAX];
};

void close_others(int *keep, size_t count)
{
  for (size_t i = 1; i < count; i++)
    for (size_t k = i; k > 0 && keep[k - 1] > keep[k]; k--) {
      int swap = keep[k];
      keep[k] = keep[k - 1];
      keep[k - 1] = swap;
    }
  unsigned from = 0;
  for (size_t i = 0; i < count; i++) {
    if (keep[i] < 0 || (unsigned)keep[i] < from)
      continue;
    if ((unsigned)keep[i] > from)
      (void)sys_close_range(from, (unsigned)keep[i] - 1, 0);
    from = (unsigned)keep[i] + 1;
  }
  (void)sys_close_range(from, ~0u, 0);
}

/* ---- groups ------------------------------------------------------------- */

static const char *group_path(const struct record *record,
                              const struct jb_group *group, const char *name,
                              char *buffer, size_t size)
{
  struct text path = text_into(buffer, size);
  text_add(&path, record_text(record, group->path));
  if ((group->flags & JB_GROUP_SHARED) == 0) {
    text_add(&path, "/");
    text_add(&path, name);
  }
  return buffer;
}

/* Write one file of a group; where another's limit stands in the way the
 * kernel says so here, before anything of the jail exists. */
static long write_setting(int dir, const char *file, const char *value)
{
  long fd = sys_openat(dir, file, O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0);
  if (fd < 0)
    return fd;
  long rc = sys_write((int)fd, value, text_length(value));
  (void)sys_close((int)fd);
  return rc < 0 ? rc : 0;
}

/* Make one group; its descriptor, or -1 with *report*. */
static int group_make(const struct record *record, const struct jb_group *group,
                      const char *name, struct jb_report *report)
{
  char path[JB_DETAIL_SIZE];
  size_t count;
  (void)group_path(record, group, name, path, sizeof(path));
  long rc = sys_mkdirat(AT_FDCWD, path, 0755);
  if (rc < 0 && !(rc == -JB_EEXIST && (group->flags & JB_GROUP_SHARED) != 0))
    return refuse(report, JB_STEP_CGROUP, rc, -1, path);
  long dir = sys_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  if (dir < 0)
    return refuse(report, JB_STEP_CGROUP, dir, -1, path);
  const struct jb_setting *settings =
    record_array(record, group->settings, sizeof(*settings), &count);
  for (size_t i = 0; i < count; i++) {
    const char *file = record_text(record, settings[i].file);
    rc = write_setting((int)dir, file, record_text(record, settings[i].value));
    if (rc < 0) {
      size_t length = text_length(path);
      struct text text = text_into(path + length, sizeof(path) - length);
      text_add(&text, "/");
      text_add(&text, file);
      (void)sys_close((int)dir);
      return refuse(report, JB_STEP_CGROUP, rc, (int)i, path);
    }
  }
  return (int)dir;
}

/* Remove groups, the last one first.  0, or what the first one left said. */
static int groups_remove(const struct record *record, struct jb_span span,
                         const char *name, bool shared)
{
  char path[JB_DETAIL_SIZE];
  size_t count;
  int first = 0;
  const struct jb_group *groups =
    record_array(record, span, sizeof(*groups), &count);
  for (size_t i = count; i-- > 0;) {
    if (!shared && (groups[i].flags & JB_GROUP_SHARED) != 0)
      continue;
    (void)group_path(record, &groups[i], name, path, sizeof(path));
    long rc = sys_unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
    if (rc < 0 && rc != -JB_ENOENT && first == 0)
      first = (int)-rc;
  }
  return first;
}

/* ---- starting ----------------------------------------------------------- */

struct making {
  struct launch launch;
  struct jb_report report;
  int tasks[16];
  int into;
  size_t groups_made;
};

static int make_groups(struct making *making)
{
  size_t count;
  const struct record *record = &making->launch.record;
  const struct jb_start *start = making->launch.start;
  const struct jb_group *groups =
    record_array(record, start->groups, sizeof(*groups), &count);
  for (size_t i = 0; i < count; i++) {
    int dir = fault(&making->launch, JB_STEP_CGROUP)
                ? refuse(&making->report, JB_STEP_CGROUP, start->fail_errno, -1,
                         "injected")
                : group_make(record, &groups[i], start->name, &making->report);
    if (dir < 0)
      return -1;
    if ((int32_t)i == start->cpu_group)
      making->launch.cpu_file = (int)sys_openat(
        dir, record_text(record, start->cpu_file), O_RDONLY | O_CLOEXEC, 0);
    if ((groups[i].flags & JB_GROUP_TASKS) != 0 &&
        making->launch.task_count < 16) {
      long tasks = sys_openat(dir, "tasks", O_WRONLY | O_CLOEXEC, 0);
      if (tasks < 0) {
        (void)sys_close(dir);
        return refuse(&making->report, JB_STEP_CGROUP, tasks, (int)i, "tasks");
      }
      making->tasks[making->launch.task_count++] = (int)tasks;
    }
    if ((groups[i].flags & JB_GROUP_INTO) != 0 && making->into < 0)
      making->into = dir;
    else
      (void)sys_close(dir);
  }
  return 0;
}

static void forget(struct keeper *keeper, struct jail *jail)
{
  struct jail **at = &keeper->jails;
  while (*at != jail)
    at = &(*at)->next;
  *at = jail->next;
  (void)sys_munmap(jail, jail->mapped);
}

/* A jail that is started again gets the ids that its layer is owned by. */
static bool wake(struct keeper *keeper, uint64_t id, struct userns *userns)
{
  for (struct jail *jail = keeper->jails; jail != NULL; jail = jail->next)
    if (jail->id == id && jail->pid == JAIL_RESTING) {
      *userns = jail->userns;
      forget(keeper, jail);
      return true;
    }
  return false;
}

static int take_userns(struct keeper *keeper, struct making *making)
{
  making->launch.userns = (struct userns){.fd = -1};
  if ((making->launch.start->flags & JB_START_USERNS) == 0)
    return 0;
  if (wake(keeper, making->launch.start->id, &making->launch.userns))
    return 0;
  if (keeper->ready_count != 0) {
    making->launch.userns = keeper->ready[--keeper->ready_count];
    return 0;
  }
  return userns_make(&keeper->ids, &making->launch.userns, &making->report);
}

static int take_rooms(struct keeper *keeper, struct making *making)
{
  bool net = (making->launch.start->flags & JB_START_NET) != 0;
  if (net && keeper->nets_count != 0) {
    making->launch.rooms = keeper->nets[--keeper->nets_count];
    return 0;
  }
  return rooms_make(net, &making->launch.rooms, &making->report);
}

static long clone_init(const struct making *making, int *pidfd)
{
  struct clone_args args = {
    .flags = CLONE_NEWPID | CLONE_PIDFD,
    .pidfd = (uint64_t)(uintptr_t)pidfd,
    .exit_signal = JB_SIGCHLD,
  };
  if (making->into >= 0) {
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = (__u64)making->into;
  }
  return sys_clone3(&args);
}

/* Only what the child needs stays open in it: a descriptor of another jail's
 * channel would keep that jail from ending. */
__attribute__((noreturn)) static void become_jail(struct making *making)
{
  int keep[JB_FDS_MAX + JB_PREPARED_MAX + 24];
  size_t kept = 0;
  const struct launch *launch = &making->launch;
  const struct jb_start *start = launch->start;
  for (size_t i = 0; i < launch->fd_count && kept < JB_FDS_MAX; i++)
    if ((int32_t)i != start->listener && (int32_t)i != start->hold &&
        (int32_t)i != start->home)
      keep[kept++] = launch->fds[i];
  for (size_t i = 0; i < launch->task_count; i++)
    keep[kept++] = making->tasks[i];
  keep[kept++] = launch->template;
  keep[kept++] = launch->keeper;
  keep[kept++] = launch->userns.fd;
  keep[kept++] = launch->rooms.net;
  keep[kept++] = launch->rooms.ipc;
  keep[kept++] = launch->rooms.uts;
  if (launch->cpu_file >= 0)
    keep[kept++] = launch->cpu_file;
  for (size_t i = 0; i < JB_PREPARED_MAX; i++)
    if (launch->prepared[i] >= 0)
      keep[kept++] = launch->prepared[i];
  close_others(keep, kept);
  jail_main(launch);
}

static struct jail *remember(struct keeper *keeper, const struct making *making,
                             struct jb_report *report)
{
  const struct record *record = &making->launch.record;
  size_t size = sizeof(struct jail) + record->size;
  long at = sys_mmap(NULL, size, JB_PROT_RW, JB_MAP_PRIVATE_ANONYMOUS, -1, 0);
  if (at < 0 && at > -4096) {
    (void)refuse(report, JB_STEP_CLONE, at, -1, "mmap");
    return NULL;
  }
  struct jail *jail = (void *)at;
  char *copy = (char *)jail + sizeof(*jail);
  for (size_t i = 0; i < record->size; i++)
    copy[i] = record->base[i];
  jail->mapped = size;
  jail->record = (struct record){.base = copy, .size = record->size};
  jail->id = making->launch.start->id;
  jail->userns = making->launch.userns;
  jail->channel = -1;
  jail->next = keeper->jails;
  keeper->jails = jail;
  return jail;
}

static void start_jail(struct keeper *keeper, const struct record *record,
                       int *fds, size_t count)
{
  const struct jb_start *start = (const void *)record->base;
  if (record->size < sizeof(*start) || start->channel < 0 ||
      (size_t)start->channel >= count)
    return;
  if (count < start->fds) {
    /* The kernel drops what finds no free number here, and says nothing. */
    struct jb_report report;
    (void)refuse(&report, JB_STEP_STDIO, -JB_EMFILE, -1, "keeper");
    (void)channel_send(fds[start->channel], &report, sizeof(report), NULL, 0);
    return;
  }
  struct making making = {
    .launch = {.record = *record,
               .start = start,
               .ops = start->ops,
               .prepared = keeper->prepared,
               .fds = fds,
               .fd_count = count,
               .cpu_file = -1,
               .template = keeper->template,
               .keeper = keeper->self,
               .id_count = keeper->ids.count,
               .rootless = keeper->ids.rootless,
               .userns = {.fd = -1},
               .rooms = {-1, -1, -1}},
    .report = {.index = -1},
    .into = -1,
  };
  making.launch.tasks = making.tasks;
  int pidfd = -1;
  struct jail *jail = NULL;
  int rc = make_groups(&making);
  if (rc == 0)
    rc = take_userns(keeper, &making);
  if (rc == 0)
    rc = take_rooms(keeper, &making);
  if (rc == 0)
    jail = remember(keeper, &making, &making.report);
  if (jail != NULL) {
    long pid = fault(&making.launch, JB_STEP_CLONE)
                 ? -(long)start->fail_errno
                 : clone_init(&making, &pidfd);
    if (pid == 0)
      become_jail(&making);
    if (pid > 0) {
      jail->pid = (int)pid;
      jail->pidfd = pidfd;
      if (start->listener >= 0 && keeper->outlive)
        visitors_open(&keeper->visitors, start, fds, count);
      jail->channel =
        (int)sys_fcntl(fds[start->channel], F_DUPFD_CLOEXEC, KEEPER_LOCK + 1);
    } else {
      (void)refuse(&making.report, JB_STEP_CLONE, pid, -1, "clone3");
      forget(keeper, jail);
      jail = NULL;
    }
  }
  for (size_t i = 0; i < making.launch.task_count; i++)
    (void)sys_close(making.tasks[i]);
  if (making.into >= 0)
    (void)sys_close(making.into);
  if (making.launch.cpu_file >= 0)
    (void)sys_close(making.launch.cpu_file);
  rooms_close(&making.launch.rooms);
  if (jail != NULL)
    return;
  (void)channel_send(fds[start->channel], &making.report, sizeof(making.report),
                     NULL, 0);
  (void)groups_remove(record, start->groups, start->name, false);
  userns_release(&keeper->ids, &making.launch.userns);
}

/* ---- ending ------------------------------------------------------------- */

static void collect(struct jail *jail)
{
  char path[JB_DETAIL_SIZE];
  size_t group_count;
  size_t count;
  size_t used = 0;
  const struct jb_start *start = (const void *)jail->record.base;
  const struct jb_group *groups =
    record_array(&jail->record, start->groups, sizeof(*groups), &group_count);
  const struct jb_collect *wanted =
    record_array(&jail->record, start->collect, sizeof(*wanted), &count);
  for (size_t i = 0; i < count && i < 16; i++) {
    jail->gone.lengths[i] = 0;
    jail->gone.collected = (uint32_t)i + 1;
    if (wanted[i].group >= group_count)
      continue;
    (void)group_path(&jail->record, &groups[wanted[i].group], start->name, path,
                     sizeof(path));
    size_t length = text_length(path);
    struct text text = text_into(path + length, sizeof(path) - length);
    text_add(&text, "/");
    text_add(&text, record_text(&jail->record, wanted[i].file));
    long fd = sys_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
      continue;
    long got = sys_read((int)fd, jail->gone.texts + used, JB_COLLECT_SIZE);
    (void)sys_close((int)fd);
    if (got > 0) {
      jail->gone.lengths[i] = (uint32_t)got;
      used += (size_t)got;
    }
  }
}

/* Take away what stands outside of the jail; false while it is busy. */
static bool dispose(struct keeper *keeper, struct jail *jail, uint64_t now)
{
  const struct jb_start *start = (const void *)jail->record.base;
  int left = groups_remove(&jail->record, start->groups, start->name, false);
  if (left == JB_EBUSY && now < jail->linger)
    return false;
  jail->gone.cleanup_errno = left;
  size_t used = 0;
  for (size_t i = 0; i < jail->gone.collected; i++)
    used += jail->gone.lengths[i];
  (void)channel_send(jail->channel, &jail->gone,
                     offsetof(struct jb_gone, texts) + used, NULL, 0);
  (void)sys_close(jail->channel);
  if ((start->flags & JB_START_LAYER) != 0 && !jail->released) {
    jail->pid = JAIL_RESTING;
    return true;
  }
  userns_release(&keeper->ids, &jail->userns);
  forget(keeper, jail);
  return true;
}

static struct jail *jail_of(const struct keeper *keeper, int pid)
{
  for (struct jail *jail = keeper->jails; jail != NULL; jail = jail->next)
    if (jail->pid == pid)
      return jail;
  return NULL;
}

static void reap_jails(struct keeper *keeper)
{
  for (;;) {
    int status = 0;
    struct jb_rusage usage;
    long pid = sys_wait4(-1, &status, JB_WNOHANG, &usage);
    if (pid == -JB_EINTR)
      continue;
    if (pid <= 0)
      return;
    struct jail *jail = jail_of(keeper, (int)pid);
    if (jail == NULL)
      continue;
    jail->pid = JAIL_ENDED;
    (void)sys_close(jail->pidfd);
    jail->linger = clock_now() + LINGER_NS;
    jail->gone.message = JB_MESSAGE_GONE;
    jail->gone.status = status;
    jail->gone.user_ns = (uint64_t)usage.user.seconds * 1000000000u +
                         (uint64_t)usage.user.microseconds * 1000u;
    jail->gone.system_ns = (uint64_t)usage.system.seconds * 1000000000u +
                           (uint64_t)usage.system.microseconds * 1000u;
    jail->gone.max_rss = (uint64_t)usage.max_rss_kib * 1024u;
    collect(jail);
  }
}

/* Whether some jail still waits for its groups to become empty. */
static bool dispose_ended(struct keeper *keeper)
{
  bool lingering = false;
  uint64_t now = clock_now();
  for (struct jail *jail = keeper->jails, *next; jail != NULL; jail = next) {
    next = jail->next;
    if (jail->pid == JAIL_ENDED && !dispose(keeper, jail, now))
      lingering = true;
  }
  return lingering;
}

static bool nothing_runs(const struct keeper *keeper)
{
  for (struct jail *jail = keeper->jails; jail != NULL; jail = jail->next)
    if (jail->pid != JAIL_RESTING)
      return false;
  return true;
}

static void kill_all(const struct keeper *keeper)
{
  for (struct jail *jail = keeper->jails; jail != NULL; jail = jail->next)
    if (jail->pid > 0)
      (void)sys_pidfd_send_signal(jail->pidfd, JB_SIGKILL);
}

__attribute__((noreturn)) static void leave(struct keeper *keeper)
{
  const struct jb_configure *config = (const void *)keeper->config.base;
  (void)groups_remove(&keeper->config, config->parents, "", true);
  const char *state = record_text(&keeper->config, config->state);
  if (state[0] != '\0')
    (void)sys_unlinkat(AT_FDCWD, state, 0);
  sys_exit_group(0);
}

/* ---- the socket --------------------------------------------------------- */

static void kill_jail(struct keeper *keeper, const struct record *record)
{
  const struct jb_kill *request = (const void *)record->base;
  if (record->size < sizeof(*request))
    return;
  for (struct jail *jail = keeper->jails, *next; jail != NULL; jail = next) {
    next = jail->next;
    if (jail->id != request->id)
      continue;
    jail->released = jail->released || request->release != 0;
    if (jail->pid > 0)
      (void)sys_pidfd_send_signal(jail->pidfd, JB_SIGKILL);
    else if (jail->pid == JAIL_RESTING && request->release != 0) {
      userns_release(&keeper->ids, &jail->userns);
      forget(keeper, jail);
    }
  }
}

static void prepare_tree(struct keeper *keeper, const struct record *record,
                         const int *fds, size_t count)
{
  int slots[JB_SLOTS_MAX];
  struct jb_report report = {.index = -1};
  const struct jb_prepare *request = (const void *)record->base;
  if (record->size < sizeof(*request) || request->channel < 0 ||
      (size_t)request->channel >= count || request->number >= JB_PREPARED_MAX)
    return;
  for (size_t i = 0; i < JB_SLOTS_MAX; i++)
    slots[i] = -1;
  struct launch launch = {.record = *record,
                          .ops = request->ops,
                          .rootless = keeper->ids.rootless,
                          .userns = {.fd = -1}};
  int channel = fds[request->channel];
  (void)sys_umask(0);
  int rc = ops_run(&launch, slots, &report);
  (void)sys_umask(022);
  for (size_t i = 1; i < JB_SLOTS_MAX; i++)
    if (slots[i] >= 0)
      (void)sys_close(slots[i]);
  if (rc < 0) {
    if (slots[0] >= 0)
      (void)sys_close(slots[0]);
    (void)channel_send(channel, &report, sizeof(report), NULL, 0);
    return;
  }
  int *kept = &keeper->prepared[request->number];
  if (*kept >= 0)
    (void)sys_close(*kept);
  *kept = slots[0];
  struct jb_ready ready = {.message = JB_MESSAGE_READY};
  (void)channel_send(channel, &ready, sizeof(ready), NULL, 0);
}

/* One request.  Returns false at the end of file. */
static bool take_request(struct keeper *keeper, char *buffer, size_t size)
{
  int fds[JB_FDS_MAX + 1];
  size_t count = 0;
  void *large = NULL;
  long got = channel_receive(KEEPER_SOCKET, buffer, size, fds, JB_FDS_MAX + 1,
                             &count, JB_MSG_DONTWAIT);
  if (got == 0)
    return false;
  if (got < (long)sizeof(uint32_t))
    return true;
  struct record record = {.base = buffer, .size = (size_t)got};
  const struct jb_large *outer = (const void *)buffer;
  if (outer->message == JB_MESSAGE_LARGE && count > 0) {
    long at =
      sys_mmap(NULL, outer->size, 1 /* PROT_READ */, 2, fds[count - 1], 0);
    (void)sys_close(fds[--count]);
    if (at >= 0 || at < -4095) {
      large = (void *)at;
      record = (struct record){.base = large, .size = outer->size};
    }
  }
  uint32_t message = *(const uint32_t *)(const void *)record.base;
  if (message == JB_MESSAGE_START)
    start_jail(keeper, &record, fds, count);
  else if (message == JB_MESSAGE_PREPARE)
    prepare_tree(keeper, &record, fds, count);
  else if (message == JB_MESSAGE_KILL)
    kill_jail(keeper, &record);
  for (size_t i = 0; i < count; i++)
    (void)sys_close(fds[i]);
  if (large != NULL)
    (void)sys_munmap(large, outer->size);
  return true;
}

/* ---- the loop ----------------------------------------------------------- */

static void default_signals(void)
{
  struct jb_sigaction action = {0};
  uint64_t all = ~(uint64_t)0;
  /* SIG_IGN survives an exec: what the host ignores, a jail must not. */
  for (int signal = 1; signal <= 64; signal++)
    (void)sys_rt_sigaction(signal, &action);
  (void)sys_rt_sigprocmask(JB_SIG_SETMASK, &all, NULL);
}

static int prepare(struct keeper *keeper, struct jb_report *report)
{
  size_t count;
  const struct jb_configure *config = (const void *)keeper->config.base;
  struct jb_rlimit64 files;
  if (keeper->config.size < sizeof(*config) ||
      config->message != JB_MESSAGE_CONFIGURE)
    return refuse(report, JB_STEP_RECORD, JB_EPROTO, -1, "configure");
  /* A jail costs us three descriptors; the soft limit may be 1024. */
  if (sys_prlimit64(0, 7 /* RLIMIT_NOFILE */, NULL, &files) == 0) {
    /* With the right to, past the host's own: it is not the one who needs
     * them, and what programs get is said in their records. */
    struct jb_rlimit64 enough = {FILES_ENOUGH, FILES_ENOUGH};
    if (files.hard < FILES_ENOUGH && sys_prlimit64(0, 7, &enough, NULL) == 0)
      files = enough;
    files.soft = files.hard;
    (void)sys_prlimit64(0, 7, &files, NULL);
  }
  keeper->outlive = (config->flags & JB_CONFIGURE_OUTLIVE) != 0;
  keeper->self = (int)sys_pidfd_open((int)sys_getpid(), 0);
  if (keeper->self < 0)
    return refuse(report, JB_STEP_SPAWN, keeper->self, -1, "pidfd_open");
  uint64_t child = (uint64_t)1 << (JB_SIGCHLD - 1);
  keeper->signals = (int)sys_signalfd4(-1, &child, O_CLOEXEC | O_NONBLOCK);
  const struct jb_group *parents =
    record_array(&keeper->config, config->parents, sizeof(*parents), &count);
  for (size_t i = 0; i < count; i++) {
    int dir = group_make(&keeper->config, &parents[i], "", report);
    if (dir < 0)
      return -1;
    (void)sys_close(dir);
  }
  if (ids_configure(&keeper->ids, config, &keeper->config, report) < 0)
    return -1;
  keeper->template = template_make(report);
  return keeper->template < 0 ? -1 : 0;
}

/* Make one thing that the next jail will want.  Returns whether there is more
 * to make. */
static bool stock_up(struct keeper *keeper)
{
  struct jb_report ignored;
  if (keeper->ready_count < READY_MAX) {
    if (userns_make(&keeper->ids, &keeper->ready[keeper->ready_count],
                    &ignored) < 0)
      return false;
    keeper->ready_count++;
    return true;
  }
  if (keeper->nets_count < READY_MAX) {
    if (rooms_make(true, &keeper->nets[keeper->nets_count], &ignored) < 0)
      return false;
    keeper->nets_count++;
    return true;
  }
  return false;
}

/* Whether another request is waiting; then stocking up can wait. */
static bool quiet(const struct keeper *keeper)
{
  struct jb_pollfd fds[2] = {
    {.fd = KEEPER_SOCKET, .events = JB_POLLIN},
    {.fd = keeper->signals, .events = JB_POLLIN},
  };
  struct __kernel_timespec now = {0};
  return sys_ppoll(fds, 2, &now) == 0;
}

static void serve(struct keeper *keeper, char *buffer, size_t size)
{
  char info[128];
  bool connected = true;
  for (;;) {
    bool lingering = dispose_ended(keeper);
    if ((keeper->ending || !connected) && nothing_runs(keeper) &&
        !visitors_expected(&keeper->visitors))
      leave(keeper);
    struct jb_pollfd fds[3 + VISITORS_POLLS] = {
      {.fd = keeper->signals, .events = JB_POLLIN},
      {.fd = connected ? KEEPER_SOCKET : -1, .events = JB_POLLIN},
      {.fd = keeper->outlive || keeper->ending ? -1 : KEEPER_HOST,
       .events = JB_POLLIN},
    };
    size_t watched = visitors_watch(&keeper->visitors, fds + 3);
    struct __kernel_timespec soon = {.tv_nsec = LINGER_POLL_NS};
    (void)sys_ppoll(fds, 3 + watched, lingering ? &soon : NULL);
    if (visitors_serve(&keeper->visitors, fds + 3, watched, buffer, size))
      kill_all(keeper);
    if ((fds[0].revents & JB_POLLIN) != 0) {
      (void)sys_read(keeper->signals, info, sizeof(info));
      reap_jails(keeper);
    }
    if ((fds[1].revents & JB_POLLIN) != 0)
      connected = take_request(keeper, buffer, size);
    else if (fds[1].revents != 0)
      connected = false;
    if (fds[2].revents != 0 || (!connected && !keeper->outlive)) {
      keeper->ending = true;
      kill_all(keeper);
    }
    /* Who outlives its host has one jail, and will not have another. */
    while (connected && !keeper->ending && !keeper->outlive && quiet(keeper) &&
           stock_up(keeper))
      continue;
  }
}

void keeper_main(void)
{
  /* In this frame, which lasts as long as the keeper: nothing is static. */
  char config[8192] __attribute__((aligned(8)));
  struct keeper keeper = {.template = -1};
  struct jb_report report = {.index = -1};
  size_t count = 0;
  int fd = -1;
  visitors_none(&keeper.visitors);
  for (size_t i = 0; i < JB_PREPARED_MAX; i++)
    keeper.prepared[i] = -1;
  default_signals();
  (void)sys_close_range(KEEPER_LOCK + 1, ~0u, 0);
  (void)sys_umask(022);
  (void)sys_prctl(PR_SET_NAME, (unsigned long)(uintptr_t)"jailbox-keeper", 0, 0,
                  0);
  long got =
    channel_receive(KEEPER_SOCKET, config, sizeof(config), &fd, 0, &count, 0);
  if (got <= 0)
    sys_exit_group(1);
  keeper.config = (struct record){.base = config, .size = (size_t)got};
  if (prepare(&keeper, &report) < 0) {
    (void)channel_send(KEEPER_SOCKET, &report, sizeof(report), NULL, 0);
    leave(&keeper);
  }
  struct jb_ready ready = {.message = JB_MESSAGE_READY,
                           .id_count = keeper.ids.count};
  (void)channel_send(KEEPER_SOCKET, &ready, sizeof(ready), &keeper.self, 1);
  long at = sys_mmap(NULL, JB_MESSAGE_SIZE, JB_PROT_RW,
                     JB_MAP_PRIVATE_ANONYMOUS, -1, 0);
  if (at < 0 && at > -4096)
    leave(&keeper);
  serve(&keeper, (char *)at, JB_MESSAGE_SIZE);
  leave(&keeper);
}
