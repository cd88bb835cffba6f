/* floor.c - what a start costs when nobody generalizes anything.
 *
 * PURPOSE  One straight program that makes the same jail as jailbox.run() of a
 *          no-op: the same namespaces, a private range of ids with idmapped
 *          lower layers, overlays with a tmpfs upper layer, /proc, /sys, /dev,
 *          masks, read-only paths, settings, groups with limits, capabilities,
 *          filter, Landlock scope, process 1, the program, captured output,
 *          and all of it taken away again.  Its times are the reference; the
 *          tables in floor_plan.h are printed from jailbox's own plan, so the
 *          two cannot drift apart.
 * NOT      No message, no report, no supervision, no deadline, no untrusted
 *          path: what a library needs on top is what the ratio measures.
 *
 * VARIANTS cold   every namespace is made while the clock runs
 *          ready  user, network, ipc and uts namespaces were made before, as a
 *                 pool would; entered and thrown away while the clock runs
 *          spawn  the program alone, vfork-style, output captured
 *
 * TALK     On standard input lines "PLAN VARIANT COUNT"; for each one line with
 *          COUNT times in nanoseconds on standard output.  PLAN is a name in
 *          floor_plan.h.  Ends at the end of file. */
#include "sys.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SAFE (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)
#define MS_SAFE 14u /* MS_NOSUID | MS_NODEV | MS_NOEXEC */
#define STACK 16384
#define GROUPS_MAX 8

struct tree {
  const char *source; /* NULL: the tree that was prepared */
  const char *target; /* "/": the root */
  bool overlay;       /* with a writable layer; otherwise shown read-only */
};

struct setting {
  const char *path;
  const char *value;
};

struct group {
  const char *parent;
  bool tasks; /* joined through `tasks` (version 1); otherwise cloned into */
  const struct setting *settings;
};

struct collect {
  int group;
  const char *file;
};

struct plan {
  const char *name;
  bool net;
  const struct tree *trees;
  const struct setting *sysctls;
  const char *const *readonly;
  const char *const *masked_directories;
  const char *const *masked_files;
  const struct group *groups;
  const struct collect *collects;
};

/* What the prepared tree is made of. */
struct entry {
  const char *path;
  const char *link;
  unsigned mode;
};

#include "floor_plan.h"

struct rooms {
  int user;
  int net;
  int ipc;
  int uts;
};

struct run {
  const struct plan *plan;
  struct rooms rooms;
  bool ready;
  bool net;
  int out[2];
  int err[2];
  int tasks[GROUPS_MAX];
  int task_count;
  int into;
};

static int template_ns = -1;
static int prepared = -1;
static char name[32];

static long must(long rc, const char *what)
{
  if (rc < 0) {
    fprintf(stderr, "floor: %s: errno %ld\n", what, -rc);
    fflush(stderr);
    sys_exit_group(1);
  }
  return rc;
}

static uint64_t now(void)
{
  struct __kernel_timespec at;
  (void)sys_clock_gettime(1, &at);
  return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

/* ---- once ---------------------------------------------------------------- */

/* A mount namespace that holds one empty read-only directory: entering it and
 * copying it costs the same however many mounts the host has. */
static void make_template(void)
{
  int gate[2];
  char path[48];
  char done = 0;
  must(sys_pipe2(gate, O_CLOEXEC), "pipe");
  struct clone_args args = {.flags = CLONE_NEWNS, .exit_signal = JB_SIGCHLD};
  long child = must(sys_clone3(&args), "clone template");
  if (child == 0) {
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
    must(sys_mount(NULL, "/", NULL, 0x44000, NULL), "private");
    must(sys_mount("none", "/tmp", "tmpfs", MS_SAFE, "mode=0755"), "tmpfs");
    must(sys_chdir("/tmp"), "chdir");
    must(sys_pivot_root(".", "."), "pivot_root");
    must(sys_umount2(".", 2), "umount");
    must(sys_mount_setattr(AT_FDCWD, ".", 0, &attr), "read-only");
    (void)sys_write(gate[1], &done, 1);
    for (;;)
      (void)sys_ppoll(NULL, 0, NULL);
  }
  must(sys_read(gate[0], &done, 1) - 1, "template");
  (void)snprintf(path, sizeof(path), "/proc/%ld/ns/mnt", child);
  template_ns = (int)must(sys_openat(AT_FDCWD, path, O_CLOEXEC, 0), path);
  (void)sys_kill((int)child, JB_SIGKILL);
  (void)sys_wait4((int)child, NULL, 0, NULL);
  (void)sys_close(gate[0]);
  (void)sys_close(gate[1]);
}

static void make_prepared(void)
{
  (void)sys_umask(0);
  int fs = (int)must(sys_fsopen("tmpfs", FSOPEN_CLOEXEC), "fsopen");
  (void)sys_fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0755", 0);
  must(sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0), "tmpfs");
  prepared = (int)must(sys_fsmount(fs, FSMOUNT_CLOEXEC, 0), "fsmount");
  (void)sys_close(fs);
  for (const struct entry *e = PREPARED; e->path != NULL; e++) {
    if (e->link != NULL)
      must(sys_symlinkat(e->link, prepared, e->path), e->path);
    else if (e->mode & S_IFDIR)
      (void)sys_mkdirat(prepared, e->path, e->mode & 07777);
    else
      must(sys_mknodat(prepared, e->path, e->mode, 0), e->path);
  }
}

static void group_path(char *path, size_t size, const struct group *group)
{
  (void)snprintf(path, size, "%s/%s", group->parent, name);
}

static void make_parents(const struct group *group)
{
  char path[512];
  (void)snprintf(path, sizeof(path), "%s", group->parent);
  char *last = strrchr(path, '/');
  *last = '\0';
  (void)sys_mkdirat(AT_FDCWD, path, 0755);
  *last = '/';
  (void)sys_mkdirat(AT_FDCWD, path, 0755);
}

static void remove_parents(const struct group *group)
{
  char path[512];
  (void)snprintf(path, sizeof(path), "%s", group->parent);
  (void)sys_unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
  *strrchr(path, '/') = '\0';
  (void)sys_unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}

/* ---- namespaces ------------------------------------------------------------ */

static void wait_for_the_end(void *argument)
{
  (void)argument;
  for (;;)
    (void)sys_ppoll(NULL, 0, NULL);
}

static void write_map(long pid, const char *file)
{
  char path[48];
  static const char map[] = "0 " ID_BASE " 65536\n";
  (void)snprintf(path, sizeof(path), "/proc/%ld/%s", pid, file);
  int fd = (int)must(sys_openat(AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0), path);
  must(sys_write(fd, map, sizeof(map) - 1), path);
  (void)sys_close(fd);
}

static int make_user(void)
{
  char stack[4096] __attribute__((aligned(16)));
  char path[48];
  struct clone_args args = {.flags = CLONE_VM | CLONE_NEWUSER,
                            .stack = (uint64_t)(uintptr_t)stack,
                            .stack_size = sizeof(stack)};
  long pid = must(jb_clone_into(&args, sizeof(args), wait_for_the_end, NULL),
                  "clone user");
  write_map(pid, "uid_map");
  write_map(pid, "gid_map");
  (void)snprintf(path, sizeof(path), "/proc/%ld/ns/user", pid);
  int fd = (int)must(sys_openat(AT_FDCWD, path, O_CLOEXEC, 0), path);
  (void)sys_kill((int)pid, JB_SIGKILL);
  (void)sys_wait4((int)pid, NULL, JB_WALL, NULL);
  return fd;
}

static void loopback_up(void)
{
  struct {
    char name[16];
    short flags;
    char rest[22];
  } request = {.name = "lo", .flags = 1};
  int fd = (int)must(sys_socket(JB_AF_INET, JB_SOCK_DGRAM | JB_SOCK_CLOEXEC, 0),
                     "socket");
  must(sys_ioctl(fd, 0x8914, &request), "lo");
  (void)sys_close(fd);
}

static void furnish(void *argument)
{
  struct rooms *rooms = argument;
  if (rooms->net != -2) {
    loopback_up();
    rooms->net = (int)sys_openat(AT_FDCWD, "/proc/thread-self/ns/net", O_CLOEXEC, 0);
  }
  rooms->ipc = (int)sys_openat(AT_FDCWD, "/proc/thread-self/ns/ipc", O_CLOEXEC, 0);
  rooms->uts = (int)sys_openat(AT_FDCWD, "/proc/thread-self/ns/uts", O_CLOEXEC, 0);
  sys_exit_group(0);
}

/* Namespaces as descriptors, for the variant that has them ready. */
static void make_rooms(struct rooms *rooms, bool net)
{
  char stack[8192] __attribute__((aligned(16)));
  rooms->net = net ? -1 : -2;
  struct clone_args args = {
    .flags = CLONE_VM | CLONE_VFORK | CLONE_FILES | CLONE_NEWIPC |
             CLONE_NEWUTS | (net ? CLONE_NEWNET : 0u),
    .stack = (uint64_t)(uintptr_t)stack,
    .stack_size = sizeof(stack),
  };
  long pid =
    must(jb_clone_into(&args, sizeof(args), furnish, rooms), "clone rooms");
  (void)sys_wait4((int)pid, NULL, JB_WALL, NULL);
}

/* ---- the root -------------------------------------------------------------- */

static int lower(const struct tree *tree, int user)
{
  struct mount_attr attr = {
    .attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_IDMAP |
                (tree->overlay ? 0u : MOUNT_ATTR_RDONLY),
    .propagation = 0x40000,
    .userns_fd = (uint64_t)user,
  };
  int fd = (int)must(
    tree->source == NULL
      ? sys_open_tree(prepared, "",
                      OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH)
      : sys_open_tree(AT_FDCWD, tree->source,
                      OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC),
    "open_tree");
  must(sys_mount_setattr(fd, "", AT_EMPTY_PATH, &attr), "idmap");
  return fd;
}

static int directory(int layer, char *path, char part, unsigned mode)
{
  path[0] = part;
  must(sys_mkdirat(layer, path, mode), path);
  must(sys_fchownat(layer, path, ID_BASE_NUMBER, ID_BASE_NUMBER, 0), path);
  return (int)must(
    sys_openat(layer, path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0), path);
}

static int overlay(int layer, const struct tree *tree, int number, int user)
{
  char path[3] = {'u', (char)('0' + number), '\0'};
  int below = lower(tree, user);
  int fs = (int)must(sys_fsopen("overlay", FSOPEN_CLOEXEC), "overlay");
  int upper = directory(layer, path, 'u', 0755);
  int work = directory(layer, path, 'w', 0700);
  must(sys_fsconfig(fs, FSCONFIG_SET_FD, "lowerdir+", NULL, below), "lower");
  must(sys_fsconfig(fs, FSCONFIG_SET_FD, "upperdir", NULL, upper), "upper");
  must(sys_fsconfig(fs, FSCONFIG_SET_FD, "workdir", NULL, work), "work");
  (void)sys_fsconfig(fs, FSCONFIG_SET_FLAG, "userxattr", NULL, 0);
  (void)sys_fsconfig(fs, FSCONFIG_SET_FLAG, "volatile", NULL, 0);
  must(sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0), "overlay");
  return (int)must(sys_fsmount(fs, FSMOUNT_CLOEXEC,
                               MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV),
                   "fsmount overlay");
}

static void move_to(int tree, const char *target)
{
  must(sys_move_mount(tree, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH),
       target);
}

static void make_dev(void)
{
  static const struct {
    const char *path;
    unsigned device;
  } nodes[] = {{"/dev/null", 0x103}, {"/dev/zero", 0x105},   {"/dev/full", 0x107},
               {"/dev/random", 0x108}, {"/dev/urandom", 0x109}, {"/dev/tty", 0x500}};
  static const struct setting links[] = {{"/dev/ptmx", "pts/ptmx"},
                                         {"/dev/fd", "/proc/self/fd"},
                                         {"/dev/stdin", "/proc/self/fd/0"},
                                         {"/dev/stdout", "/proc/self/fd/1"},
                                         {"/dev/stderr", "/proc/self/fd/2"}};
  must(sys_mount("none", "/dev", "tmpfs", 2 | 8, "mode=755,size=65536"), "/dev");
  for (size_t i = 0; i < sizeof(nodes) / sizeof(nodes[0]); i++) {
    must(sys_mknodat(AT_FDCWD, nodes[i].path, S_IFCHR | 0666, nodes[i].device),
         nodes[i].path);
    (void)sys_fchownat(AT_FDCWD, nodes[i].path, ID_BASE_NUMBER, ID_BASE_NUMBER, 0);
  }
  for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
    must(sys_symlinkat(links[i].value, AT_FDCWD, links[i].path), links[i].path);
    (void)sys_fchownat(AT_FDCWD, links[i].path, ID_BASE_NUMBER, ID_BASE_NUMBER,
                       AT_SYMLINK_NOFOLLOW);
  }
  must(sys_mkdirat(AT_FDCWD, "/dev/pts", 0755), "/dev/pts");
  must(sys_mkdirat(AT_FDCWD, "/dev/shm", 01777), "/dev/shm");
  must(sys_mkdirat(AT_FDCWD, "/dev/mqueue", 01777), "/dev/mqueue");
  must(sys_mount("none", "/dev/pts", "devpts", 2 | 8,
                 "newinstance,ptmxmode=0666,mode=0620,gid=" TTY_GID),
       "devpts");
  must(sys_mount("none", "/dev/shm", "tmpfs", MS_SAFE, "mode=1777,size=67108864"),
       "shm");
  must(sys_mount("none", "/dev/mqueue", "mqueue", MS_SAFE, NULL), "mqueue");
}

static void protect(const struct plan *plan, int nothing)
{
  struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY | SAFE};
  for (const struct setting *s = plan->sysctls; s->path != NULL; s++) {
    int fd = (int)must(sys_openat(AT_FDCWD, s->path, O_WRONLY | O_CLOEXEC, 0),
                       s->path);
    must(sys_write(fd, s->value, strlen(s->value)), s->path);
    (void)sys_close(fd);
  }
  for (const char *const *path = plan->readonly; *path != NULL; path++) {
    int tree = (int)must(
      sys_open_tree(AT_FDCWD, *path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC), *path);
    must(sys_mount_setattr(tree, "", AT_EMPTY_PATH, &attr), *path);
    move_to(tree, *path);
  }
  for (const char *const *path = plan->masked_directories; *path != NULL; path++)
    move_to((int)must(sys_open_tree(nothing, "",
                                    OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC |
                                      AT_EMPTY_PATH),
                      *path),
            *path);
  for (const char *const *path = plan->masked_files; *path != NULL; path++)
    move_to((int)must(sys_open_tree(AT_FDCWD, "/dev/null",
                                    OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC),
                      *path),
            *path);
}

static void make_root(const struct run *run)
{
  int trees[16];
  int count = 0;
  int fs = (int)must(sys_fsopen("tmpfs", FSOPEN_CLOEXEC), "layer");
  (void)sys_fsconfig(fs, FSCONFIG_SET_STRING, "mode", "700", 0);
  must(sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0), "layer");
  int layer = (int)must(sys_fsmount(fs, FSMOUNT_CLOEXEC, 0), "layer");
  for (const struct tree *t = run->plan->trees; t->target != NULL; t++, count++)
    trees[count] = t->overlay ? overlay(layer, t, count, run->rooms.user)
                              : lower(t, run->rooms.user);
  must(sys_setns(template_ns, CLONE_NEWNS), "template");
  must(sys_unshare(CLONE_NEWNS), "unshare");
  int nothing = (int)must(sys_openat(AT_FDCWD, "/", O_PATH | O_CLOEXEC, 0), "/");
  move_to(trees[0], "/");
  must(sys_fchdir(trees[0]), "fchdir");
  must(sys_chroot("."), "chroot");
  for (int i = 1; i < count; i++)
    move_to(trees[i], run->plan->trees[i].target);
  must(sys_mount("none", "/proc", "proc", MS_SAFE, NULL), "proc");
  must(sys_mount("none", "/sys", "sysfs", MS_SAFE | 1, NULL), "sysfs");
  make_dev();
  protect(run->plan, nothing);
}

/* ---- the program ------------------------------------------------------------ */

static void set_capabilities(uint64_t mask)
{
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct data[2] = {
    {.effective = (uint32_t)mask, .permitted = (uint32_t)mask},
    {.effective = (uint32_t)(mask >> 32), .permitted = (uint32_t)(mask >> 32)},
  };
  must(sys_capset(&header, data), "capset");
}

struct child {
  const struct run *run;
  bool confined;
};

static void become_program(void *argument)
{
  static char *const argv[] = {ARGV NULL};
  static char *const envp[] = {ENVP NULL};
  static const uint32_t groups[1] = {0};
  const struct child *child = argument;
  struct sock_fprog filter = {.len = sizeof(FILTER) / sizeof(FILTER[0]),
                              .filter = (struct sock_filter *)(uintptr_t)FILTER};
  int null = (int)must(
    sys_openat(AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC, 0), "null");
  (void)sys_setsid();
  (void)sys_dup3(null, 0, 0);
  (void)sys_dup3(child->run->out[1], 1, 0);
  (void)sys_dup3(child->run->err[1], 2, 0);
  if (child->confined) {
    (void)sys_close_range(3, ~0u, 0);
    (void)sys_chdir("/");
    for (size_t i = 0; i < sizeof(RLIMITS) / sizeof(RLIMITS[0]); i++) {
      struct jb_rlimit64 limit = {RLIMITS[i].soft, RLIMITS[i].hard};
      (void)sys_prlimit64(0, (int)RLIMITS[i].number, &limit, NULL);
    }
    (void)sys_umask(022);
    must(sys_setgroups(1, groups), "setgroups");
    must(sys_setresgid(0), "setresgid");
    must(sys_setresuid(0), "setresuid");
    set_capabilities(CAPABILITIES);
    must(sys_prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
    must(sys_seccomp(SECCOMP_SET_MODE_FILTER, 0, &filter), "seccomp");
  }
  (void)sys_execveat(AT_FDCWD, child->confined ? argv[0] : OUTSIDE, argv, envp, 0);
  sys_exit_group(127);
}

static long spawn(const struct run *run, bool confined)
{
  char stack[STACK] __attribute__((aligned(16)));
  struct child child = {.run = run, .confined = confined};
  struct clone_args args = {.flags = CLONE_VM | CLONE_VFORK,
                            .exit_signal = JB_SIGCHLD,
                            .stack = (uint64_t)(uintptr_t)stack,
                            .stack_size = sizeof(stack)};
  return must(jb_clone_into(&args, sizeof(args), become_program, &child), "vfork");
}

/* ---- process 1 --------------------------------------------------------------- */

static void confine(const struct run *run)
{
  static const unsigned char scope[] = {LANDLOCK};
  must(sys_setns(run->rooms.user, CLONE_NEWUSER), "user namespace");
  must(sys_setresgid(0), "setresgid");
  must(sys_setgroups(0, NULL), "setgroups");
  must(sys_setresuid(0), "setresuid");
  (void)sys_prctl(PR_SET_PDEATHSIG, JB_SIGKILL, 0, 0, 0);
  (void)sys_prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  for (unsigned cap = 0; cap <= LAST_CAPABILITY; cap++)
    if ((CAPABILITIES >> cap & 1u) == 0)
      must(sys_prctl(PR_CAPBSET_DROP, cap, 0, 0, 0), "bounding set");
  if (sizeof(scope) > 1) {
    long ruleset =
      must(sys_landlock_create_ruleset(scope, sizeof(scope) - 1, 0), "landlock");
    must(sys_landlock_restrict_self((int)ruleset, 0), "landlock");
  }
  set_capabilities(CAPABILITIES);
}

__attribute__((noreturn)) static void process_1(const struct run *run)
{
  int status = 0;
  (void)sys_prctl(PR_SET_PDEATHSIG, JB_SIGKILL, 0, 0, 0);
  for (int i = 0; i < run->task_count; i++)
    must(sys_write(run->tasks[i], "0", 1), "tasks");
  if (run->ready) {
    if (run->net)
      must(sys_setns(run->rooms.net, 0), "net");
    must(sys_setns(run->rooms.ipc, 0), "ipc");
    must(sys_setns(run->rooms.uts, 0), "uts");
  } else if (run->net) {
    loopback_up();
  }
  must(sys_unshare(CLONE_NEWCGROUP), "cgroup namespace");
  make_root(run);
  must(sys_sethostname("jailbox", 7), "hostname");
  (void)sys_keyctl_join_session();
  confine(run);
  long pid = spawn(run, true);
  (void)sys_close_range(0, ~0u, 0);
  while (sys_wait4(-1, &status, 0, NULL) != pid)
    continue;
  sys_exit_group(status >> 8 & 0xff);
}

/* ---- a start, from nothing to nothing ---------------------------------------- */

static void make_groups(struct run *run)
{
  char path[512];
  run->task_count = 0;
  run->into = -1;
  for (const struct group *g = run->plan->groups; g->parent != NULL; g++) {
    group_path(path, sizeof(path), g);
    must(sys_mkdirat(AT_FDCWD, path, 0755), path);
    int dir = (int)must(
      sys_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0), path);
    for (const struct setting *s = g->settings; s->path != NULL; s++) {
      int fd = (int)must(sys_openat(dir, s->path, O_WRONLY | O_CLOEXEC, 0), s->path);
      must(sys_write(fd, s->value, strlen(s->value)), s->path);
      (void)sys_close(fd);
    }
    if (g->tasks) {
      run->tasks[run->task_count++] =
        (int)must(sys_openat(dir, "tasks", O_WRONLY | O_CLOEXEC, 0), "tasks");
      (void)sys_close(dir);
    } else {
      run->into = dir;
    }
  }
}

static void drain(int fd)
{
  char buffer[4096];
  while (sys_read(fd, buffer, sizeof(buffer)) > 0)
    continue;
  (void)sys_close(fd);
}

static void collect_and_remove(const struct plan *plan)
{
  char path[512];
  char text[512];
  size_t count = 0;
  for (const struct collect *c = plan->collects; c->file != NULL; c++) {
    (void)snprintf(path, sizeof(path), "%s/%s/%s", plan->groups[c->group].parent,
                   name, c->file);
    long fd = sys_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (fd >= 0) {
      (void)sys_read((int)fd, text, sizeof(text));
      (void)sys_close((int)fd);
    }
  }
  while (plan->groups[count].parent != NULL)
    count++;
  while (count-- > 0) {
    group_path(path, sizeof(path), &plan->groups[count]);
    while (sys_unlinkat(AT_FDCWD, path, AT_REMOVEDIR) == -JB_EBUSY)
      continue;
  }
}

static void make_pipes(struct run *run)
{
  must(sys_pipe2(run->out, O_CLOEXEC), "pipe");
  must(sys_pipe2(run->err, O_CLOEXEC), "pipe");
}

/* The program's output to its end, then its status. */
static void follow(struct run *run, long pid)
{
  int status = -1;
  (void)sys_close(run->out[1]);
  (void)sys_close(run->err[1]);
  drain(run->out[0]);
  drain(run->err[0]);
  while (sys_wait4((int)pid, &status, 0, NULL) == -JB_EINTR)
    continue;
  must(status == 0 ? 0 : -(long)status, "the program failed");
}

static uint64_t time_jail(const struct plan *plan, bool ready)
{
  struct run run = {.plan = plan, .ready = ready, .net = plan->net};
  if (ready) {
    run.rooms.user = make_user();
    make_rooms(&run.rooms, run.net);
  }
  uint64_t began = now();
  make_pipes(&run);
  make_groups(&run);
  struct clone_args args = {.flags = CLONE_NEWPID, .exit_signal = JB_SIGCHLD};
  if (!ready) {
    run.rooms.user = make_user();
    args.flags |= CLONE_NEWIPC | CLONE_NEWUTS | (run.net ? CLONE_NEWNET : 0u);
  }
  if (run.into >= 0) {
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = (uint64_t)run.into;
  }
  long pid = must(sys_clone3(&args), "clone");
  if (pid == 0)
    process_1(&run);
  for (int i = 0; i < run.task_count; i++)
    (void)sys_close(run.tasks[i]);
  if (run.into >= 0)
    (void)sys_close(run.into);
  (void)sys_close(run.rooms.user);
  if (ready) {
    if (run.net)
      (void)sys_close(run.rooms.net);
    (void)sys_close(run.rooms.ipc);
    (void)sys_close(run.rooms.uts);
  }
  follow(&run, pid);
  collect_and_remove(plan);
  return now() - began;
}

static uint64_t time_spawn(void)
{
  struct run run = {.plan = NULL};
  uint64_t began = now();
  make_pipes(&run);
  follow(&run, spawn(&run, false));
  return now() - began;
}

int main(void)
{
  char line[128];
  (void)snprintf(name, sizeof(name), "start");
  make_template();
  make_prepared();
  for (const struct group *g = PLANS[0].groups; g->parent != NULL; g++)
    make_parents(g);
  while (fgets(line, sizeof(line), stdin) != NULL) {
    char which[64];
    char variant[16];
    int count = 0;
    const struct plan *plan = PLANS;
    if (sscanf(line, "%63s %15s %d", which, variant, &count) != 3)
      break;
    while (plan->name != NULL && strcmp(plan->name, which) != 0)
      plan++;
    if (plan->name == NULL && strcmp(variant, "spawn") != 0) {
      fprintf(stderr, "floor: no plan %s\n", which);
      return 2;
    }
    for (int i = 0; i < count; i++)
      printf("%llu ", (unsigned long long)(strcmp(variant, "spawn") == 0
                                              ? time_spawn()
                                              : time_jail(plan, strcmp(variant, "ready") == 0)));
    printf("\n");
    fflush(stdout);
  }
  for (const struct group *g = PLANS[0].groups; g->parent != NULL; g++)
    remove_parents(g);
  return 0;
}
