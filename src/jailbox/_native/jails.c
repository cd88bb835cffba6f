/* jails.c - jails as their keeper has them: made on request, taken away again.
 *
 * A jail begins with what stands outside of it (control groups, a range of ids,
 * namespaces), then the init is cloned and builds the rest (jail.c).  When the
 * init has ended, what the groups have counted is read, the groups are removed,
 * and the host is told; only then the jail is forgotten.
 *
 * CONTENTS  starting . ending . killing */
#include "jails.h"

#define LINGER_NS 5000000000u /* how long a busy cgroup is tried again */

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
  /* Who is made ahead has the time to make its own, and we have not.  But not
   * on the account of its groups, where they would be missing in others. */
  making->launch.own_rooms = making->launch.gate >= 0 && making->into < 0;
  if (making->launch.own_rooms)
    return 0;
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
  int keep[JB_FDS_MAX + JB_PREPARED_MAX + 25];
  size_t kept = 0;
  const struct launch *launch = &making->launch;
  const struct jb_start *start = launch->start;
  for (size_t i = 0; i < launch->fd_count && kept < JB_FDS_MAX; i++)
    if ((int32_t)i != start->listener && (int32_t)i != start->hold &&
        (int32_t)i != start->home && (int32_t)i != start->lease)
      keep[kept++] = launch->fds[i];
  for (size_t i = 0; i < launch->task_count; i++)
    keep[kept++] = making->tasks[i];
  keep[kept++] = launch->gate;
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
  jail->gate = -1;
  jail->mounts = -1;
  jail->next = keeper->jails;
  keeper->jails = jail;
  return jail;
}

struct jail *jail_make(struct keeper *keeper, const struct record *record,
                       const int *fds, size_t count, int gate,
                       struct jb_report *report)
{
  const struct jb_start *start = (const void *)record->base;
  struct making making = {
    .launch = {.record = *record,
               .start = start,
               .ops = start->ops,
               .prepared = keeper->prepared,
               .fds = fds,
               .fd_count = count,
               .gate = gate,
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
  if (jail == NULL) {
    (void)groups_remove(record, start->groups, start->name, false);
    userns_release(&keeper->ids, &making.launch.userns);
    *report = making.report;
  }
  return jail;
}

void jail_start(struct keeper *keeper, const struct record *record, int *fds,
                size_t count)
{
  const struct jb_start *start = (const void *)record->base;
  struct jb_report report = {.index = -1};
  if (record->size < sizeof(*start) || start->channel < 0 ||
      (size_t)start->channel >= count || start->name[JB_NAME_SIZE - 1] != '\0')
    return;
  struct jail *jail = NULL;
  if (count < start->fds) {
    /* The kernel drops what finds no free number here, and says nothing. */
    (void)refuse(&report, JB_STEP_STDIO, -JB_EMFILE, -1, "keeper");
  } else {
    jail = ahead_take(keeper, record, fds, count);
    if (jail == NULL)
      jail = jail_make(keeper, record, fds, count, -1, &report);
  }
  if (jail == NULL) {
    (void)channel_send(fds[start->channel], &report, sizeof(report), NULL, 0);
    return;
  }
  keeper->rush = clock_now() + RUSH_NS;
  if (start->listener >= 0 && keeper->outlive)
    visitors_open(&keeper->visitors, start, fds, count);
  jail->channel =
    (int)sys_fcntl(fds[start->channel], F_DUPFD_CLOEXEC, KEEPER_LOCK + 1);
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

static void tell(const struct jail *jail)
{
  size_t used = 0;
  for (size_t i = 0; i < jail->gone.collected; i++)
    used += jail->gone.lengths[i];
  if (jail->channel >= 0)
    (void)channel_send(jail->channel, &jail->gone,
                       offsetof(struct jb_gone, texts) + used, NULL, 0);
}

/* The mounts of a jail that nobody sees any more are taken down later: it takes
 * the kernel half a millisecond, which whoever waits for us need not. */
static void bury(struct keeper *keeper, struct jail *jail)
{
  if (jail->mounts < 0)
    return;
  if (keeper->grave_count == GRAVES_MAX)
    (void)jails_bury(keeper);
  keeper->graves[keeper->grave_count++] = jail->mounts;
}

bool jails_bury(struct keeper *keeper)
{
  if (keeper->grave_count == 0)
    return false;
  (void)sys_close(keeper->graves[--keeper->grave_count]);
  return true;
}

/* Take away what stands outside of the jail; false while it is busy. */
static bool dispose(struct keeper *keeper, struct jail *jail, uint64_t now)
{
  const struct jb_start *start = (const void *)jail->record.base;
  int left = groups_remove(&jail->record, start->groups, start->name, false);
  if (left == JB_EBUSY && now < jail->linger)
    return false;
  jail->gone.cleanup_errno = left;
  keeper->left = keeper->left || left != 0;
  tell(jail);
  keeper->rush = 0;
  if (jail->channel >= 0)
    (void)sys_close(jail->channel);
  bury(keeper, jail);
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

void jails_reap(struct keeper *keeper)
{
  for (;;) {
    int status = 0;
    struct jb_rusage usage;
    long pid = sys_wait4(-1, &status, JB_WNOHANG, &usage);
    if (pid == -JB_EINTR)
      continue;
    if (pid <= 0)
      return;
    if (workers_reap(&keeper->workers, (int)pid, status, &usage))
      continue;
    struct jail *jail = jail_of(keeper, (int)pid);
    if (jail == NULL)
      continue;
    jail->pid = JAIL_ENDED;
    if (jail->gate >= 0)
      ahead_ended(keeper, jail);
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
bool jails_dispose(struct keeper *keeper)
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

bool jails_none_run(const struct keeper *keeper)
{
  for (struct jail *jail = keeper->jails; jail != NULL; jail = jail->next)
    if (jail->pid != JAIL_RESTING)
      return false;
  return true;
}

void jails_kill_all(const struct keeper *keeper)
{
  for (struct jail *jail = keeper->jails; jail != NULL; jail = jail->next)
    if (jail->pid > 0)
      (void)sys_pidfd_send_signal(jail->pidfd, JB_SIGKILL);
}

/* ---- killing ------------------------------------------------------------ */

void jail_kill(struct keeper *keeper, const struct record *record)
{
  const struct jb_kill *request = (const void *)record->base;
  if (record->size < sizeof(*request))
    return;
  if (request->id == 0)
    ahead_forget(keeper);
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
