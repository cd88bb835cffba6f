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
 * CONTENTS  the end . the socket . the loop */
#include "jails.h"

#define LINGER_POLL_NS 2000000u
#define FILES_ENOUGH 65536u
#define FIXED_POLLS 4

/* ---- the end ------------------------------------------------------------- */

__attribute__((noreturn)) static void leave(struct keeper *keeper)
{
  const struct jb_configure *config = (const void *)keeper->config.base;
  if (keeper->config.size < sizeof(*config))
    sys_exit_group(1);
  (void)groups_remove(&keeper->config, config->parents, "", true);
  const char *state = record_text(&keeper->config, config->state);
  /* Whoever sweeps finds by our name what is left to be removed. */
  if (state[0] != '\0' && !keeper->left)
    (void)sys_unlinkat(AT_FDCWD, state, 0);
  sys_exit_group(0);
}

/* ---- the socket --------------------------------------------------------- */

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
                          .fds = fds,
                          .fd_count = count,
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
  if (*kept >= 0) {
    /* Of what waits, nobody knows which tree of this number it has. */
    ahead_forget(keeper);
    (void)sys_close(*kept);
  }
  *kept = slots[0];
  struct jb_ready ready = {.message = JB_MESSAGE_READY};
  (void)channel_send(channel, &ready, sizeof(ready), NULL, 0);
}

static void start_worker(struct keeper *keeper, const struct message *message)
{
  const struct labor labor = {
    .record = message->record,
    .fds = message->fds,
    .fd_count = message->count,
    .template = keeper->template,
    .keeper = keeper->self,
    .rootless = keeper->ids.rootless,
  };
  workers_start(&keeper->workers, &labor);
}

static void kill_all(const struct keeper *keeper)
{
  jails_kill_all(keeper);
  workers_kill(&keeper->workers);
}

/* One request.  Returns false at the end of file. */
static bool take_request(struct keeper *keeper, char *buffer, size_t size)
{
  struct message message;
  long got = message_receive(KEEPER_SOCKET, buffer, size, &message);
  if (got <= 0)
    return got != 0;
  if (message.kind == JB_MESSAGE_START)
    jail_start(keeper, &message.record, message.fds, message.count);
  else if (message.kind == JB_MESSAGE_PREPARE)
    prepare_tree(keeper, &message.record, message.fds, message.count);
  else if (message.kind == JB_MESSAGE_WORK)
    start_worker(keeper, &message);
  else if (message.kind == JB_MESSAGE_KILL)
    jail_kill(keeper, &message.record);
  message_release(&message);
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
  if (ids_configure(&keeper->ids, keeper->self, config, &keeper->config,
                    report) < 0)
    return -1;
  /* Without it (EMFILE) nothing is made ahead. */
  keeper->mounts =
    (int)sys_openat(AT_FDCWD, "/proc/self/mountinfo", O_RDONLY | O_CLOEXEC, 0);
  keeper->template = template_make(keeper->self, report);
  return keeper->template < 0 ? -1 : 0;
}

/* Make the next jail, or one thing that it will want, or clear away what the
 * last one left.  Returns whether there is more to do. */
static bool stock_up(struct keeper *keeper)
{
  struct jb_report ignored;
  if (ahead_make(keeper) || jails_bury(keeper))
    return true;
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

/* A program that has just been started needs the processors more than we do:
 * nanoseconds until it has had them, 0 for now. */
static uint64_t rush_left(struct keeper *keeper)
{
  uint64_t now = clock_now();
  if (now < keeper->rush)
    return keeper->rush - now;
  keeper->rush = 0;
  return 0;
}

static void serve(struct keeper *keeper, char *buffer, size_t size)
{
  char info[128];
  bool connected = true;
  for (;;) {
    bool lingering = jails_dispose(keeper);
    if ((keeper->ending || !connected) && jails_none_run(keeper) &&
        workers_idle(&keeper->workers) && !visitors_expected(&keeper->visitors))
      leave(keeper);
    /* Who outlives its host has one jail, and will not have another. */
    uint64_t rush = rush_left(keeper);
    while (rush == 0 && connected && !keeper->ending && !keeper->outlive &&
           quiet(keeper) && stock_up(keeper))
      continue;
    uint64_t wait = ahead_expire(keeper);
    if (lingering && (wait == 0 || wait > LINGER_POLL_NS))
      wait = LINGER_POLL_NS;
    if (rush != 0 && (wait == 0 || wait > rush))
      wait = rush;
    struct jb_pollfd fds[FIXED_POLLS + VISITORS_POLLS + WORKERS_MAX] = {
      {.fd = keeper->signals, .events = JB_POLLIN},
      {.fd = connected ? KEEPER_SOCKET : -1, .events = JB_POLLIN},
      {.fd = keeper->outlive || keeper->ending ? -1 : KEEPER_HOST,
       .events = JB_POLLIN},
      {.fd = ahead_waits(keeper) ? keeper->mounts : -1, .events = JB_POLLPRI},
    };
    struct __kernel_timespec soon = {
      .tv_sec = (long long)(wait / 1000000000u),
      .tv_nsec = (long long)(wait % 1000000000u),
    };
    struct jb_pollfd *visiting = fds + FIXED_POLLS;
    size_t watched = visitors_watch(&keeper->visitors, visiting);
    struct jb_pollfd *working = visiting + watched;
    size_t workers = workers_watch(&keeper->workers, working);
    (void)sys_ppoll(fds, FIXED_POLLS + watched + workers,
                    wait == 0 ? NULL : &soon);
    if (fds[3].revents != 0)
      ahead_forget(keeper);
    workers_look(&keeper->workers, working, workers);
    if (visitors_serve(&keeper->visitors, visiting, watched, buffer, size))
      kill_all(keeper);
    if ((fds[0].revents & JB_POLLIN) != 0) {
      (void)sys_read(keeper->signals, info, sizeof(info));
      jails_reap(keeper);
    }
    if ((fds[1].revents & JB_POLLIN) != 0)
      connected = take_request(keeper, buffer, size);
    else if (fds[1].revents != 0)
      connected = false;
    if (fds[2].revents != 0 || (!connected && !keeper->outlive)) {
      keeper->ending = true;
      kill_all(keeper);
    }
  }
}

void keeper_main(void)
{
  /* In this frame, which lasts as long as the keeper: nothing is static. */
  char config[8192] __attribute__((aligned(8)));
  struct keeper keeper = {.template = -1, .mounts = -1};
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
  keeper.rush = clock_now() + RUSH_NS;
  serve(&keeper, (char *)at, JB_MESSAGE_SIZE);
  leave(&keeper);
}
