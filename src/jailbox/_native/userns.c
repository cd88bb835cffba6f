/* userns.c - ranges of ids, and user namespaces as descriptors.
 *
 * PROBLEM  A jail's ids must stand for nobody on the host, and no two running
 *          jails may share them.  A user namespace is only usable once its
 *          maps are written, and only somebody outside may write a range.
 * CHOICE   The keeper makes a namespace ahead of its use: a child that shares
 *          its memory lives just long enough to be mapped and opened.  A range
 *          of ids is a byte of one file; who holds the lock on the byte holds
 *          the range, and the kernel frees it when the holder dies, however.
 * REJECTED A pid file or a table of ranges: both survive a crash and lie. */
#include "keeper.h"

#define RANGE_SIZE 65536u
#define CHILD_STACK 8192

static int lock_byte(int fd, short type, uint32_t byte)
{
  struct jb_flock lock = {.type = type, .start = (int64_t)byte, .length = 1};
  return (int)sys_fcntl_pointer(fd, 37 /* F_OFD_SETLK */, &lock);
}

static int claim_range(struct ids *ids, uint32_t *range)
{
  for (uint32_t tried = 0; tried < ids->ranges; tried++) {
    uint32_t candidate = (ids->next + tried) % ids->ranges;
    int rc = lock_byte(ids->lock, 1 /* F_WRLCK */, candidate);
    if (rc == 0) {
      ids->next = (candidate + 1) % ids->ranges;
      *range = candidate;
      return 0;
    }
    if (rc != -JB_EAGAIN && rc != -JB_EACCES)
      return rc;
  }
  return -JB_EAGAIN;
}

void userns_release(struct ids *ids, const struct userns *userns)
{
  if (userns->fd >= 0)
    (void)sys_close(userns->fd);
  if (!ids->rootless && ids->lock >= 0)
    (void)lock_byte(ids->lock, 2 /* F_UNLCK */, userns->range);
}

static int write_file(const char *path, const char *value)
{
  long fd = sys_openat(AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0);
  if (fd < 0)
    return (int)fd;
  long rc = sys_write((int)fd, value, text_length(value));
  (void)sys_close((int)fd);
  return rc < 0 ? (int)rc : 0;
}

static void proc_path(char *buffer, size_t size, int pid, const char *file)
{
  struct text path = text_into(buffer, size);
  text_add(&path, "/proc/");
  text_add_number(&path, (uint64_t)pid);
  text_add(&path, "/");
  text_add(&path, file);
}

__attribute__((noinline)) static void wait_for_the_end(void *argument)
{
  const struct ids *ids = argument;
  life_wait(ids->keeper);
}

/* A range may not lie across two of the parent's, so a namespace inside of
 * ours has our map with our ids on both sides. */
static int same_ids(const char *file, char *map, size_t size)
{
  char ours[1024];
  char path[32];
  struct text name = text_into(path, sizeof(path));
  struct text lines = text_into(map, size);
  text_add(&name, "/proc/self/");
  text_add(&name, file);
  long fd = sys_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0)
    return (int)fd;
  long got = sys_read((int)fd, ours, sizeof(ours) - 1);
  (void)sys_close((int)fd);
  if (got <= 0)
    return got < 0 ? (int)got : -JB_EIO;
  ours[got] = '\0';
  for (const char *at = ours; *at != '\0'; at++) {
    uint64_t fields[3] = {0};
    for (int i = 0; i < 3; i++) {
      while (*at == ' ')
        at++;
      fields[i] = text_number(at);
      while (*at >= '0' && *at <= '9')
        at++;
    }
    if (*at != '\n')
      return -JB_E2BIG; /* more ranges than we read at once */
    text_add_number(&lines, fields[0]);
    text_add(&lines, " ");
    text_add_number(&lines, fields[0]);
    text_add(&lines, " ");
    text_add_number(&lines, fields[2]);
    text_add(&lines, "\n");
  }
  return lines.overflow ? -JB_E2BIG : 0;
}

static int private_ids(const struct ids *ids, uint32_t base, char *map,
                       size_t size)
{
  struct text line = text_into(map, size);
  text_add(&line, "0 ");
  text_add_number(&line, base);
  text_add(&line, " ");
  text_add_number(&line, ids->count);
  text_add(&line, "\n");
  return 0;
}

static int map_and_open(const struct ids *ids, int pid, uint32_t base, int *fd,
                        struct jb_report *report)
{
  char path[48];
  char map[1024];
  const char *files[2] = {"uid_map", "gid_map"};
  for (int i = 0; i < 2; i++) {
    proc_path(path, sizeof(path), pid, files[i]);
    int rc = ids->rootless ? same_ids(files[i], map, sizeof(map))
                           : private_ids(ids, base, map, sizeof(map));
    if (rc == 0)
      rc = write_file(path, map);
    if (rc < 0)
      return refuse(report, JB_STEP_IDMAP, rc, -1, path);
  }
  proc_path(path, sizeof(path), pid, "ns/user");
  long ns = sys_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
  if (ns < 0)
    return refuse(report, JB_STEP_USERNS, ns, -1, path);
  *fd = (int)ns;
  return 0;
}

int userns_make(struct ids *ids, struct userns *out, struct jb_report *report)
{
  char stack[CHILD_STACK] __attribute__((aligned(16)));
  *out = (struct userns){.fd = -1};
  if (!ids->rootless) {
    int rc = claim_range(ids, &out->range);
    if (rc < 0)
      return refuse(report, JB_STEP_IDMAP, rc, -1, "id ranges");
    out->base = ids->first + out->range * RANGE_SIZE;
  }
  struct clone_args args = {
    .flags = CLONE_VM | CLONE_NEWUSER,
    .exit_signal = 0, /* not one of the jails that the keeper waits for */
    .stack = (uint64_t)(uintptr_t)stack,
    .stack_size = sizeof(stack),
  };
  int pid = (int)jb_clone_into(&args, sizeof(args), wait_for_the_end, ids);
  if (pid < 0) {
    userns_release(ids, out);
    return refuse(report, JB_STEP_USERNS, pid, -1, "clone");
  }
  int rc = map_and_open(ids, pid, out->base, &out->fd, report);
  (void)sys_kill(pid, JB_SIGKILL);
  while (sys_wait4(pid, NULL, JB_WALL, NULL) == -JB_EINTR)
    continue;
  if (rc < 0)
    userns_release(ids, out);
  return rc;
}

/* ---- the base user namespace of an ordinary user ------------------------ */

/* Run newuidmap or newgidmap for process *pid*; its exit status. */
static int run_mapper(const char *program, int pid, const char *arguments)
{
  char number[24];
  char words[1024];
  char *argv[64];
  size_t argc = 0;
  size_t size = text_length(arguments);
  struct text text = text_into(number, sizeof(number));
  text_add_number(&text, (uint64_t)pid);
  if (size >= sizeof(words))
    return -JB_E2BIG;
  for (size_t i = 0; i < size; i++)
    words[i] = arguments[i];
  words[size] = '\0';
  argv[argc++] = (char *)(uintptr_t)program;
  argv[argc++] = number;
  for (char *at = words; argc < 63 && *at != '\0';) {
    argv[argc++] = at;
    while (*at != ' ' && *at != '\0')
      at++;
    if (*at == ' ')
      *at++ = '\0';
  }
  argv[argc] = NULL;
  struct clone_args args = {.exit_signal = JB_SIGCHLD};
  long child = sys_clone3(&args);
  if (child == 0) {
    char *envp[] = {NULL};
    uint64_t none = 0;
    (void)sys_rt_sigprocmask(JB_SIG_SETMASK, &none, NULL);
    (void)sys_close_range(3, ~0u, 0);
    (void)sys_execveat(AT_FDCWD, program, argv, envp, 0);
    sys_exit_group(127);
  }
  int status = 0;
  if (child > 0)
    while (sys_wait4((int)child, &status, 0, NULL) == -JB_EINTR)
      continue;
  return child < 0 ? (int)child : status;
}

/* The mapper must stand outside the namespace that it maps, so it is forked
 * before the keeper enters, and told by a pipe. */
static int map_from_outside(const struct jb_configure *configure,
                            const struct record *record,
                            struct jb_report *report)
{
  int gate[2];
  char go = 0;
  int self = (int)sys_getpid();
  long rc = sys_pipe2(gate, O_CLOEXEC);
  if (rc < 0)
    return refuse(report, JB_STEP_USERNS, rc, -1, "pipe");
  struct clone_args args = {.exit_signal = JB_SIGCHLD};
  long mapper = sys_clone3(&args);
  if (mapper == 0) {
    (void)sys_close(gate[1]);
    if (sys_read(gate[0], &go, 1) != 1)
      sys_exit_group(1);
    int status = run_mapper(record_text(record, configure->newuidmap), self,
                            record_text(record, configure->uid_map));
    if (status == 0)
      status = run_mapper(record_text(record, configure->newgidmap), self,
                          record_text(record, configure->gid_map));
    sys_exit_group(status == 0 ? 0 : 1);
  }
  (void)sys_close(gate[0]);
  if (mapper < 0) {
    (void)sys_close(gate[1]);
    return refuse(report, JB_STEP_USERNS, mapper, -1, "fork");
  }
  rc = sys_unshare(CLONE_NEWUSER);
  (void)sys_prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
  if (rc == 0)
    (void)sys_write(gate[1], "g", 1);
  (void)sys_close(gate[1]);
  int status = 0;
  while (sys_wait4((int)mapper, &status, 0, NULL) == -JB_EINTR)
    continue;
  if (rc < 0)
    return refuse(report, JB_STEP_USERNS, rc, -1, "unshare");
  if (status != 0)
    return refuse(report, JB_STEP_IDMAP, JB_EPERM, -1,
                  record_text(record, configure->newuidmap));
  return 0;
}

static int map_one_id(const struct jb_configure *configure,
                      struct jb_report *report)
{
  char map[48];
  long rc = sys_unshare(CLONE_NEWUSER);
  if (rc < 0)
    return refuse(report, JB_STEP_USERNS, rc, -1, "unshare");
  /* After a change of identity these files would belong to root. */
  (void)sys_prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
  /* A caller without rights may only map its group when nobody in the
   * namespace can drop one (user_namespaces(7)). */
  rc = write_file("/proc/self/setgroups", "deny");
  const uint32_t ids[2] = {configure->uid, configure->gid};
  const char *files[2] = {"/proc/self/uid_map", "/proc/self/gid_map"};
  for (int i = 0; i < 2 && rc == 0; i++) {
    struct text line = text_into(map, sizeof(map));
    text_add(&line, "0 ");
    text_add_number(&line, ids[i]);
    text_add(&line, " 1\n");
    rc = write_file(files[i], map);
  }
  if (rc < 0)
    return refuse(report, JB_STEP_IDMAP, rc, -1, "/proc/self/uid_map");
  return 0;
}

int ids_configure(struct ids *ids, int keeper,
                  const struct jb_configure *configure,
                  const struct record *record, struct jb_report *report)
{
  *ids = (struct ids){
    .keeper = keeper,
    .rootless = (configure->flags & JB_CONFIGURE_ROOTLESS) != 0,
    .count = configure->id_count,
    .first = configure->id_first,
    .ranges = configure->id_ranges,
    .lock = -1,
  };
  if (!ids->rootless) {
    if (ids->ranges == 0)
      return 0;
    const char *path = record_text(record, configure->lock_path);
    long fd = sys_openat(AT_FDCWD, path,
                         O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
      return refuse(report, JB_STEP_IDMAP, fd, -1, path);
    ids->lock = (int)fd;
    /* Neighbors start their search apart. */
    ids->next = (uint32_t)sys_getpid() * 37u % ids->ranges;
    return 0;
  }
  int rc = (configure->flags & JB_CONFIGURE_SUBUID) != 0
             ? map_from_outside(configure, record, report)
             : map_one_id(configure, report);
  if (rc < 0)
    return rc;
  long own = sys_setresgid(0);
  if (own == 0 && (configure->flags & JB_CONFIGURE_SUBUID) != 0)
    own = sys_setgroups(0, NULL);
  if (own == 0)
    own = sys_setresuid(0);
  if (own < 0)
    return refuse(report, JB_STEP_IDENTITY, own, -1, "base user namespace");
  (void)sys_prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
  /* The host's mounts as this user namespace may see and clone them. */
  own = sys_unshare(CLONE_NEWNS);
  if (own < 0)
    return refuse(report, JB_STEP_TEMPLATE, own, -1, "unshare");
  return 0;
}
