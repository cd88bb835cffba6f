/* supervisor.c - the life of an init, and of the monitor of an exec.
 *
 * Both watch one program: they start it, pass signals on, reap whatever
 * becomes an orphan, hold it to its deadline, and report its end.
 *
 *   init     is process 1 of the jail.  Its program is the jail's main one, or
 *            there is none and it only takes requests.  When the program ends,
 *            or nobody is left at the channel, it exits, and the kernel kills
 *            the rest of the pid namespace.
 *   monitor  is forked by init for each exec and is a subreaper: whatever the
 *            program starts, also by setsid and double fork, has the monitor
 *            for an ancestor, and so one exec can be ended without the jail.
 *
 * WHY SO  A cgroup for each exec would do the same, but a process that joins
 *         one from inside waits for a grace period (6 to 12 ms), and an
 *         ordinary user often has none.
 *
 * Nothing here trusts the jail: a supervisor is not dumpable, its memory holds
 * no secret of the host, and what a program can do to it (a signal to a
 * monitor, a resource limit) ends that program or its jail. */
#include "keeper.h"

#include "tree.h"

#define CPU_POLL_FLOOR_NS 4000000u
#define END_TREE_NS 5000000000u
#define CPUCLOCK_SCHED 2
/* Large enough for every request that is not in a memfd; in the frame of who
 * supervises, because nothing here is static. */
#define REQUEST_SIZE GATE_SIZE
#define INIT_CAPABILITIES                                                      \
  ((uint64_t)1 << CAP_CHOWN | (uint64_t)1 << CAP_DAC_OVERRIDE |                \
   (uint64_t)1 << CAP_FOWNER | (uint64_t)1 << CAP_FSETID |                     \
   (uint64_t)1 << CAP_KILL | (uint64_t)1 << CAP_SETGID |                       \
   (uint64_t)1 << CAP_SETUID | (uint64_t)1 << CAP_SETPCAP)

struct supervisor {
  bool init;
  int channel;
  int signals;
  int program; /* pid, 0: none yet, -1: ended */
  int reason;
  uint64_t started;
  uint64_t deadline; /* monotonic ns, 0: none */
  bool ending;       /* its tree is being killed: its end is not told yet */
  bool ended;        /* ... but it has ended, so */
  int status;
  struct jb_rusage usage;
  uint64_t bounding;
  /* init only */
  const struct layer *layer;
  int cpu_file;
  uint64_t cpu_budget;
  uint32_t cpu_unit;
  uint32_t cpus;
  char cpu_key[32];
  int pipes[2]; /* the program's output, when it goes to a log; -1: ended */
  int log;
  uint64_t log_left;
};

/* ---- the log ------------------------------------------------------------ */

static void log_entry(struct supervisor *self, uint32_t stream,
                      const char *data, size_t size)
{
  struct __kernel_timespec now = {0};
  (void)sys_clock_gettime(0 /* CLOCK_REALTIME */, &now);
  struct jb_log_entry entry = {
    .time_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec,
    .stream = stream,
    .size = (uint32_t)size,
  };
  /* One writer, and the file was opened to append: entries stay whole. */
  (void)sys_write(self->log, &entry, sizeof(entry));
  if (size != 0)
    (void)sys_write(self->log, data, size);
}

/* Move what one stream has now.  Past the limit it is read and dropped: a
 * program must not stop because nobody keeps what it says. */
static void pump(struct supervisor *self, int which)
{
  char buffer[16384];
  long got = sys_read(self->pipes[which], buffer, sizeof(buffer));
  if (got == -JB_EAGAIN || got == -JB_EINTR)
    return;
  if (got <= 0) {
    (void)sys_close(self->pipes[which]);
    self->pipes[which] = -1;
    return;
  }
  size_t size = (size_t)got;
  if (size > self->log_left) {
    size = (size_t)self->log_left;
    if (size != 0)
      log_entry(self, (uint32_t)which + 1, buffer, size);
    if (self->log_left != 0)
      log_entry(self, 3, NULL, 0);
    self->log_left = 0;
    return;
  }
  if (self->log_left == 0)
    return;
  self->log_left -= size;
  log_entry(self, (uint32_t)which + 1, buffer, size);
}

/* What the program wrote before it ended is in the pipes. */
static void pump_rest(struct supervisor *self)
{
  for (int which = 0; which < 2; which++) {
    struct jb_pollfd fd = {.events = JB_POLLIN};
    struct __kernel_timespec now = {0};
    while (self->pipes[which] >= 0) {
      fd.fd = self->pipes[which];
      if (sys_ppoll(&fd, 1, &now) != 1)
        break;
      pump(self, which);
    }
  }
}

/* ---- the end of a tree -------------------------------------------------- */

/* Kill the children of this process, once.  Returns whether there were any. */
static bool kill_children(void)
{
  char path[64];
  char buffer[4096];
  uint64_t pid = (uint64_t)sys_getpid();
  struct text text = text_into(path, sizeof(path));
  text_add(&text, "/proc/");
  text_add_number(&text, pid);
  text_add(&text, "/task/");
  text_add_number(&text, pid);
  text_add(&text, "/children");
  long fd = sys_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0)
    return false;
  long got = sys_read((int)fd, buffer, sizeof(buffer) - 1);
  (void)sys_close((int)fd);
  if (got <= 0)
    return false;
  buffer[got] = '\0';
  for (const char *at = buffer; *at != '\0';) {
    uint64_t child = text_number(at);
    while (*at >= '0' && *at <= '9')
      at++;
    /* A number cut off at the end of the buffer is read whole next time. */
    if (*at == '\0')
      break;
    if (child > 1)
      (void)sys_kill((int)child, JB_SIGKILL);
    while (*at == ' ')
      at++;
  }
  return true;
}

static void report_end(struct supervisor *self, int status,
                       const struct jb_rusage *usage)
{
  struct jb_statfs fs = {0};
  pump_rest(self);
  struct jb_exited exited = {
    .message = JB_MESSAGE_EXITED,
    .status = status,
    .reason = self->reason,
    .user_ns = (uint64_t)usage->user.seconds * 1000000000u +
               (uint64_t)usage->user.microseconds * 1000u,
    .system_ns = (uint64_t)usage->system.seconds * 1000000000u +
                 (uint64_t)usage->system.microseconds * 1000u,
    .max_rss = (uint64_t)usage->max_rss_kib * 1024u,
    .wall_ns = clock_now() - self->started,
  };
  if (self->layer != NULL && self->layer->fd >= 0 &&
      sys_fstatfs(self->layer->fd, &fs) == 0)
    exited.disk_full = (fs.blocks != 0 && fs.blocks_available == 0) ||
                       (fs.files != 0 && fs.files_free == 0);
  self->program = -1;
  (void)channel_send(self->channel, &exited, sizeof(exited), NULL, 0);
}

/* Reap what has ended.  Returns false when there is no child at all. */
static bool reap(struct supervisor *self)
{
  for (;;) {
    int status = 0;
    struct jb_rusage usage;
    long pid = sys_wait4(-1, &status, JB_WNOHANG, &usage);
    if (pid == -JB_EINTR)
      continue;
    if (pid == -JB_ECHILD)
      return false;
    if (pid <= 0)
      return true;
    if (pid != self->program)
      continue;
    if (self->ending) {
      self->status = status;
      self->usage = usage;
      self->ended = true;
    } else {
      report_end(self, status, &usage);
    }
  }
}

static void end_tree(struct supervisor *self)
{
  if (self->init) {
    /* From process 1 this reaches everybody else in the jail. */
    (void)sys_kill(-1, JB_SIGKILL);
    return;
  }
  /* A child that dies leaves its children to us, so this goes one generation
   * further each time; what forks meanwhile is met in the next round.  Only
   * then the end is told: who hears of it may rely on the whole tree. */
  uint64_t patience = clock_now() + END_TREE_NS;
  self->ending = true;
  while (clock_now() < patience) {
    (void)kill_children();
    if (!reap(self))
      break;
    struct __kernel_timespec moment = {.tv_nsec = 20000};
    (void)sys_nanosleep(&moment);
  }
  self->ending = false;
  if (self->ended)
    report_end(self, self->status, &self->usage);
  self->ended = false;
}

/* Process 1 could just exit and leave the killing to the kernel; but what the
 * kernel kills then is waited for by nobody, and missing in the bill. */
static void end_jail(void)
{
  long pid;
  (void)sys_kill(-1, JB_SIGKILL);
  do
    pid = sys_wait4(-1, NULL, 0, NULL);
  while (pid > 0 || pid == -JB_EINTR);
}

/* ---- deadlines ---------------------------------------------------------- */

static uint64_t rusage_ns(int who)
{
  struct jb_rusage usage = {0};
  (void)sys_getrusage(who, &usage);
  return (uint64_t)(usage.user.seconds + usage.system.seconds) * 1000000000u +
         (uint64_t)(usage.user.microseconds + usage.system.microseconds) *
           1000u;
}

/* Without a cgroup: what has been reaped, and the clock of what runs. */
static uint64_t cpu_of_everybody(void)
{
  char buffer[4096] __attribute__((aligned(8)));
  uint64_t total = rusage_ns(-1);
  long proc =
    sys_openat(AT_FDCWD, "/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  if (proc < 0)
    return total;
  for (;;) {
    long got = sys_getdents64((int)proc, buffer, sizeof(buffer));
    if (got <= 0)
      break;
    for (long at = 0; at < got;) {
      /* struct linux_dirent64: 16 bytes, length, type, name */
      uint16_t length = *(uint16_t *)(void *)(buffer + at + 16);
      const char *name = buffer + at + 19;
      struct __kernel_timespec used = {0};
      if (name[0] >= '1' && name[0] <= '9') {
        int clock = (int)(~(unsigned)text_number(name) << 3) | CPUCLOCK_SCHED;
        if (sys_clock_gettime(clock, &used) == 0)
          total += (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
      }
      at += length;
    }
  }
  (void)sys_close((int)proc);
  return total;
}

static uint64_t cpu_used(const struct supervisor *self)
{
  char buffer[512];
  if (self->cpu_file < 0)
    return cpu_of_everybody();
  long got = sys_pread64(self->cpu_file, buffer, sizeof(buffer) - 1, 0);
  if (got <= 0)
    return 0;
  buffer[got] = '\0';
  for (const char *line = buffer; *line != '\0';) {
    if (text_starts(line, self->cpu_key))
      return text_number(line + text_length(self->cpu_key)) * self->cpu_unit;
    while (*line != '\0' && *line++ != '\n')
      continue;
  }
  return 0;
}

/* A bound of the jail was reached. */
static void end_for(struct supervisor *self, int reason)
{
  self->reason = reason;
  end_tree(self);
  if (self->init && self->program == 0) {
    /* No main program whose end would be reported. */
    struct jb_rusage usage = {0};
    report_end(self, JB_SIGKILL, &usage);
    sys_exit_group(0);
  }
}

/* Nanoseconds until something is due, ~0 for never.  What is due is done. */
static uint64_t until_due(struct supervisor *self)
{
  uint64_t now = clock_now();
  uint64_t wait = ~(uint64_t)0;
  if (self->deadline != 0) {
    if (now >= self->deadline) {
      self->deadline = 0;
      end_for(self, self->init ? JB_REASON_WALL : JB_REASON_TIMEOUT);
    } else {
      wait = self->deadline - now;
    }
  }
  if (self->cpu_budget != 0) {
    uint64_t used = cpu_used(self);
    if (used >= self->cpu_budget) {
      self->cpu_budget = 0;
      end_for(self, JB_REASON_CPU_TIME);
    } else {
      /* All processors together cannot spend the rest any sooner. */
      uint64_t soonest = (self->cpu_budget - used) / self->cpus;
      if (soonest < CPU_POLL_FLOOR_NS)
        soonest = CPU_POLL_FLOOR_NS;
      wait = soonest < wait ? soonest : wait;
    }
  }
  return wait;
}

/* ---- requests ----------------------------------------------------------- */

static void refuse_to(int channel, const struct jb_report *report)
{
  (void)channel_send(channel, report, sizeof(*report), NULL, 0);
}

/* Give the program pipes to us for its output.  *fds* has room for them. */
static long log_output(struct supervisor *self, struct jb_program *program,
                       int *fds, size_t count)
{
  for (int which = 0; which < 2; which++) {
    int pipe[2];
    long rc = sys_pipe2(pipe, O_CLOEXEC);
    if (rc < 0)
      return rc;
    self->pipes[which] = pipe[0];
    fds[count + (size_t)which] = pipe[1];
  }
  program->out = (int32_t)count;
  program->err = (int32_t)count + 1;
  self->log = fds[program->log];
  self->log_left = program->log_limit;
  return 0;
}

/* Whether every descriptor that *program* names has come with it. */
static bool all_there(const struct jb_program *program, size_t count)
{
  const int32_t named[] = {program->in, program->out, program->err,
                           program->log};
  for (size_t i = 0; i < sizeof(named) / sizeof(named[0]); i++)
    if (named[i] >= 0 && (size_t)named[i] >= count)
      return false;
  return program->pass_count <= 0 ||
         (program->pass_first >= 0 &&
          (size_t)program->pass_first + (size_t)program->pass_count <= count);
}

static bool start_program(struct supervisor *self, const struct record *record,
                          const struct jb_program *program, const int *fds,
                          size_t count)
{
  struct jb_report report;
  struct spawned spawned = {.terminal = -1};
  struct jb_program logged = *program;
  int more[JB_FDS_MAX + 4];
  bool log = (program->flags & JB_PROGRAM_LOG) != 0 && program->log >= 0;
  bool terminal = (program->flags & JB_PROGRAM_TTY) != 0;
  self->started = clock_now();
  if (!all_there(program, count)) {
    (void)refuse(&report, JB_STEP_RECORD, JB_EINVAL, -1, "descriptors");
    refuse_to(self->channel, &report);
    return false;
  }
  if (log && !terminal && count <= JB_FDS_MAX) {
    for (size_t i = 0; i < count; i++)
      more[i] = fds[i];
    long rc = log_output(self, &logged, more, count);
    if (rc < 0) {
      (void)refuse(&report, JB_STEP_STDIO, rc, -1, "pipe");
      refuse_to(self->channel, &report);
      return false;
    }
    program = &logged;
    fds = more;
  }
  int rc =
    program_spawn(record, program, fds, self->bounding, &spawned, &report);
  if (program == &logged) {
    (void)sys_close(more[count]);
    (void)sys_close(more[count + 1]);
  }
  if (rc < 0) {
    refuse_to(self->channel, &report);
    return false;
  }
  struct jb_started started = {.message = JB_MESSAGE_STARTED,
                               .pid = spawned.pid};
  self->program = spawned.pid;
  if (program->timeout_ns != 0)
    self->deadline = self->started + program->timeout_ns;
  if ((program->flags & JB_PROGRAM_QUIET) == 0)
    (void)channel_send(self->channel, &started, sizeof(started),
                       &spawned.terminal, spawned.terminal >= 0 ? 1 : 0);
  if (log && terminal) {
    /* One stream, which ends when nobody has the terminal open any more. */
    self->pipes[0] = spawned.terminal;
    self->log = fds[program->log];
    self->log_left = program->log_limit;
  } else if (spawned.terminal >= 0) {
    (void)sys_close(spawned.terminal);
  }
  return true;
}

__attribute__((noreturn)) static void supervise(struct supervisor *self);

static int watch_children(void)
{
  uint64_t child = (uint64_t)1 << (JB_SIGCHLD - 1);
  return (int)sys_signalfd4(-1, &child, O_CLOEXEC | O_NONBLOCK);
}

static size_t keep_overlays(const struct layer *layer, int *keep)
{
  size_t kept = 0;
  for (size_t i = 0; layer != NULL && i < layer->count; i++) {
    keep[kept++] = layer->overlays[i].upper;
    keep[kept++] = layer->overlays[i].lower;
    keep[kept++] = layer->overlays[i].merged;
  }
  return kept;
}

/* Serve the files of the jail as the jail's root, with nothing else at hand
 * (tree.h).  It never executes: no file of the image can take its place. */
__attribute__((noreturn)) static void
agent_main(const struct supervisor *init, const struct record *record,
           const struct jb_program *program, int socket)
{
  struct jb_report report = {.index = -1};
  struct jb_tree_roots roots = {
    .upper = -1, .lower = -1, .merged = -1, .flags = JB_TREE_OWN_PROCESS};
  int32_t overlay = program->overlay;
  roots.root =
    (int32_t)sys_openat(AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
  if (init->layer != NULL && overlay >= 0 &&
      (size_t)overlay < init->layer->count) {
    roots.upper = init->layer->overlays[overlay].upper;
    roots.lower = init->layer->overlays[overlay].lower;
    roots.merged = init->layer->overlays[overlay].merged;
    if (roots.merged < 0)
      roots.flags |= JB_TREE_USERXATTR;
  }
  if (roots.root < 0 ||
      program_identity(record, program, init->bounding, &report) < 0)
    sys_exit_group(1);
  sys_exit_group(jb_tree_serve(socket, &roots, NULL) < 0 ? 1 : 0);
}

/* The child of init that an exec request makes. */
__attribute__((noreturn)) static void
monitor_main(const struct supervisor *init, const struct record *record,
             const struct jb_program *program, int *fds, size_t count)
{
  struct supervisor self = {.channel = fds[program->channel],
                            .pipes = {-1, -1},
                            .cpu_file = -1,
                            .bounding = init->bounding,
                            .cpus = 1};
  struct jb_report report = {.index = -1};
  bool agent = (program->flags & JB_PROGRAM_AGENT) != 0;
  (void)sys_prctl(PR_SET_NAME, (unsigned long)(uintptr_t)"jailbox-exec", 0, 0,
                  0);
  int keep[JB_FDS_MAX + 3 * JB_OVERLAYS_MAX + 2];
  size_t kept = 0;
  for (size_t i = 0; i < count; i++)
    keep[kept++] = fds[i];
  if (agent)
    kept += keep_overlays(init->layer, keep + kept);
  close_others(keep, kept);
  if (agent)
    agent_main(init, record, program, self.channel);
  /* Whatever loses its parent below us becomes our child, not init's. */
  (void)sys_prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  self.signals = watch_children();
  if (self.signals < 0) {
    (void)refuse(&report, JB_STEP_FORK, self.signals, -1, "signalfd");
    refuse_to(self.channel, &report);
    sys_exit_group(1);
  }
  if (!start_program(&self, record, program, fds, count))
    sys_exit_group(1);
  for (size_t i = 0; i < count; i++)
    if ((int32_t)i != program->channel)
      (void)sys_close(fds[i]);
  supervise(&self);
}

static void exec_request(struct supervisor *self, const struct record *record,
                         int *fds, size_t count)
{
  const struct jb_exec *exec = (const void *)record->base;
  if (record->size < sizeof(*exec) || exec->program.channel < 0 ||
      (size_t)exec->program.channel >= count)
    return;
  struct clone_args args = {.exit_signal = JB_SIGCHLD};
  long pid = sys_clone3(&args);
  if (pid == 0)
    monitor_main(self, record, &exec->program, fds, count);
  if (pid < 0) {
    struct jb_report report;
    (void)refuse(&report, JB_STEP_FORK, pid, -1, "monitor");
    refuse_to(fds[exec->program.channel], &report);
  }
}

static void signal_request(struct supervisor *self, const struct record *record)
{
  const struct jb_signal *request = (const void *)record->base;
  if (record->size < sizeof(*request))
    return;
  if (request->tree != 0 && request->signal == JB_SIGKILL)
    end_tree(self);
  else if (request->tree != 0 && self->init)
    (void)sys_kill(-1, request->signal);
  else if (self->program > 0)
    (void)sys_kill(self->program, request->signal);
}

/* One message.  Returns false when nobody is left at the other side. */
static bool take_request(struct supervisor *self, char *buffer, size_t size)
{
  struct message message;
  long got = message_receive(self->channel, buffer, size, &message);
  if (got <= 0)
    return got == -JB_EAGAIN || got == -JB_EMSGSIZE;
  if (message.kind == JB_MESSAGE_EXEC && self->init)
    exec_request(self, &message.record, message.fds, message.count);
  else if (message.kind == JB_MESSAGE_SIGNAL)
    signal_request(self, &message.record);
  message_release(&message);
  return true;
}

/* ---- the loop ----------------------------------------------------------- */

static void drain(int signals)
{
  char info[128];
  while (sys_read(signals, info, sizeof(info)) == sizeof(info))
    continue;
}

static void supervise(struct supervisor *self)
{
  char buffer[REQUEST_SIZE] __attribute__((aligned(8)));
  for (;;) {
    uint64_t wait = until_due(self);
    struct __kernel_timespec timeout = {
      .tv_sec = (long long)(wait / 1000000000u),
      .tv_nsec = (long long)(wait % 1000000000u),
    };
    struct jb_pollfd fds[4] = {
      {.fd = self->signals, .events = JB_POLLIN},
      {.fd = self->channel, .events = JB_POLLIN},
      {.fd = self->pipes[0], .events = JB_POLLIN},
      {.fd = self->pipes[1], .events = JB_POLLIN},
    };
    (void)sys_ppoll(fds, 4, wait == ~(uint64_t)0 ? NULL : &timeout);
    for (int which = 0; which < 2; which++)
      if (fds[2 + which].revents != 0)
        pump(self, which);
    drain(self->signals);
    bool children = reap(self);
    if (self->program < 0) {
      /* The rest of the jail ends with its process 1; what an exec left
       * running in the background stays, and is reaped here. */
      if (self->init && children)
        end_jail();
      if (self->init || !children)
        sys_exit_group(0);
      if (self->channel >= 0)
        (void)sys_close(self->channel);
      self->channel = -1;
      self->deadline = 0;
      continue;
    }
    if ((fds[1].revents & JB_POLLIN) != 0 &&
        take_request(self, buffer, REQUEST_SIZE))
      continue;
    if ((fds[1].revents & (JB_POLLHUP | JB_POLLERR | JB_POLLIN)) != 0) {
      if (self->init)
        sys_exit_group(0);
      self->reason = JB_REASON_ABANDONED;
      end_tree(self);
      sys_exit_group(0);
    }
  }
}

/* One Landlock domain for the whole jail, so that its programs may still
 * signal each other; and of the rights in the user namespace only those that
 * starting programs and serving files takes. */
static int confine(const struct launch *launch, struct jb_report *report)
{
  const struct jb_program *program = &launch->start->program;
  const enum jb_step both[] = {JB_STEP_LANDLOCK, JB_STEP_CAPABILITIES};
  for (size_t i = 0; i < 2; i++)
    if (fault(launch, both[i]))
      return refuse(report, both[i], launch->start->fail_errno, -1, "injected");
  if (program->landlock.length != 0) {
    long ruleset =
      sys_landlock_create_ruleset(record_at(&launch->record, program->landlock),
                                  program->landlock.length, 0);
    long rc =
      ruleset < 0 ? ruleset : sys_landlock_restrict_self((int)ruleset, 0);
    if (ruleset >= 0)
      (void)sys_close((int)ruleset);
    if (rc < 0)
      return refuse(report, JB_STEP_LANDLOCK, rc, -1, "landlock");
  }
  if ((launch->start->flags & JB_START_USERNS) == 0)
    return 0;
  uint64_t keep = launch->start->init_bounding | INIT_CAPABILITIES;
  if ((program->flags & JB_PROGRAM_NO_NEW_PRIVS) == 0)
    keep |= (uint64_t)1 << CAP_SYS_ADMIN; /* a filter without that promise */
  long rc = set_capabilities(keep, 0);
  return rc < 0 ? refuse(report, JB_STEP_CAPABILITIES, rc, -1, "capset") : 0;
}

/* What the building of the root left open is closed while the program runs
 * already; it got none of it. */
static void keep_needed(const struct supervisor *self,
                        const struct launch *launch, const struct layer *layer)
{
  const struct jb_program *program = &launch->start->program;
  int keep[3 * JB_OVERLAYS_MAX + 8];
  size_t kept = keep_overlays(layer, keep);
  keep[kept++] = self->channel;
  keep[kept++] = self->signals;
  keep[kept++] = self->pipes[0];
  keep[kept++] = self->pipes[1];
  keep[kept++] = self->cpu_file;
  keep[kept++] = layer->fd;
  if ((program->flags & JB_PROGRAM_LOG) != 0 && program->log >= 0)
    keep[kept++] = launch->fds[program->log];
  close_others(keep, kept);
}

/* Start the program that *record* asks for. */
static void begin(struct supervisor *self, const struct launch *launch,
                  const struct record *record, const int *fds, size_t count)
{
  const struct jb_start *start = (const void *)record->base;
  const struct jb_program *program = &start->program;
  const struct layer *layer = self->layer;
  if ((start->flags & JB_START_LAYER) != 0 || program->argc == 0) {
    struct jb_ready ready = {.message = JB_MESSAGE_READY,
                             .id_base = launch->userns.base,
                             .id_count = launch->id_count};
    (void)channel_send(self->channel, &ready, sizeof(ready), &layer->give,
                       layer->give >= 0 ? 1 : 0);
  }
  if (program->argc != 0 && !start_program(self, record, program, fds, count))
    sys_exit_group(1);
  if (start->wall_ns != 0)
    self->deadline = self->started + start->wall_ns;
}

/* Wait for the START that this jail was made for, make it ours, and begin.  In
 * a frame of its own: what it holds costs a jail nothing that never waited, and
 * is written over by the loop in one that did. */
__attribute__((noinline)) static void begin_later(struct supervisor *self,
                                                  const struct launch *launch)
{
  char buffer[GATE_SIZE] __attribute__((aligned(8)));
  struct message message;
  long got = gate_wait(launch->gate, buffer, sizeof(buffer), &message);
  const struct jb_start *start = (const void *)message.record.base;
  /* What the keeper sends is sound; it went away, or we have no descriptors. */
  if (got < (long)sizeof(*start) || start->channel < 0 ||
      (size_t)start->channel >= message.count)
    sys_exit_group(0);
  (void)sys_prctl(PR_SET_NAME, (unsigned long)(uintptr_t)"jailbox-init", 0, 0,
                  0);
  (void)sys_close(launch->gate);
  self->channel = message.fds[start->channel];
  self->started = clock_now();
  begin(self, launch, &message.record, message.fds, message.count);
  for (size_t i = 0; i < message.count; i++)
    if (message.fds[i] != self->channel && message.fds[i] != self->log)
      (void)sys_close(message.fds[i]);
}

void init_main(const struct launch *launch, const struct layer *layer)
{
  const struct jb_start *start = launch->start;
  bool ahead = launch->gate >= 0;
  struct supervisor self = {
    .init = true,
    .pipes = {-1, -1},
    .channel = ahead ? launch->gate : launch->fds[start->channel],
    .signals = watch_children(),
    .layer = layer,
    .cpu_file = launch->cpu_file,
    .cpu_budget = start->cpu_ns,
    .cpu_unit = start->cpu_unit_ns,
    .cpus = start->cpus == 0 ? 1 : start->cpus,
    .started = clock_now(),
  };
  struct text key = text_into(self.cpu_key, sizeof(self.cpu_key));
  text_add(&key, record_text(&launch->record, start->cpu_key));
  bool userns = (start->flags & JB_START_USERNS) != 0;
  self.bounding =
    userns ? bounding_drop(~(uint64_t)0, start->init_bounding) : ~(uint64_t)0;

  struct jb_report report = {.index = -1};
  if (confine(launch, &report) < 0) {
    launch_refuse(launch, &report, NULL, 0);
    sys_exit_group(1);
  }
  if (ahead) {
    keep_needed(&self, launch, layer);
    begin_later(&self, launch);
  } else {
    begin(&self, launch, &launch->record, launch->fds, launch->fd_count);
    keep_needed(&self, launch, layer);
  }
  supervise(&self);
}
