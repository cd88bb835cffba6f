/* spawn.c - the extension's half: start the keeper, talk to it.
 *
 * PROBLEM  The host process is large, threaded, and watches its own children.
 *          A fork copies its page tables (80 to 100 ms at 2 GiB); a child of
 *          it would show up in its waitpid(-1) and raise its SIGCHLD; and a
 *          child that holds its memory inside a jail could be read from there.
 * CHOICE   Twice clone(CLONE_VM | CLONE_VFORK), as posix_spawn does once.  The
 *          first child raises no signal when it ends and is waited for here;
 *          the second executes the helper from a sealed memfd and, its parent
 *          being gone, belongs to the system's init.  The host never becomes
 *          its parent.
 * REJECTED One clone with exit_signal 0: execve sets the signal to SIGCHLD
 *          again (fs/exec.c, de_thread and begin_new_exec).
 *
 * RULES    What runs in the children shares the host's memory: raw system
 *          calls only, nothing is written but their own stacks and *spawn*. */
#include "channel.h"

#define KEEPER_SOCKET 3
#define KEEPER_HOST 4
#define KEEPER_LOCK 5
#define KEEPER_FREE 6
#define STACK_SIZE ((size_t)32768)
#define SEALABLE 3u /* MFD_CLOEXEC | MFD_ALLOW_SEALING */

extern const unsigned char jb_helper_image[];
extern const unsigned long jb_helper_image_size;

struct spawn {
  int image;  /* the sealed memfd */
  int socket; /* the keeper's end */
  int host;   /* pidfd of the host process */
  int lock;   /* says that the keeper lives, to whoever asks */
  int error;  /* -errno of what was refused */
  char *stack;
};

static int descend(struct spawn *spawn, void (*entry)(void *), char *stack,
                   uint64_t exit_signal)
{
  struct clone_args args = {
    .flags = CLONE_VM | CLONE_VFORK | CLONE_CLEAR_SIGHAND,
    .exit_signal = exit_signal,
    .stack = (uint64_t)(uintptr_t)stack,
    .stack_size = STACK_SIZE,
  };
  return (int)jb_clone_into(&args, sizeof(args), entry, spawn);
}

/* Put *from* at number *to* where it stays open across execve. */
static int place(int from, int to)
{
  long rc = from == to ? sys_fcntl(from, F_SETFD, 0) : sys_dup3(from, to, 0);
  return rc < 0 ? (int)rc : 0;
}

__attribute__((noinline)) static void become_keeper(void *argument)
{
  struct spawn *spawn = argument;
  char name[] = "jailbox";
  char *argv[] = {name, NULL};
  char *envp[] = {NULL};
  uint64_t none = 0;

  /* Numbers 0 to 4 may be anything in the host, even closed: move what we
   * need above them first, then down to its place. */
  long image = sys_fcntl(spawn->image, F_DUPFD_CLOEXEC, KEEPER_FREE);
  long socket = sys_fcntl(spawn->socket, F_DUPFD_CLOEXEC, KEEPER_FREE);
  long host = sys_fcntl(spawn->host, F_DUPFD_CLOEXEC, KEEPER_FREE);
  long lock = sys_fcntl(spawn->lock, F_DUPFD_CLOEXEC, KEEPER_FREE);
  long null = sys_openat(AT_FDCWD, "/dev/null", O_RDWR, 0);
  const long all[] = {image, socket, host, lock, null};
  for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
    if (all[i] < 0) {
      spawn->error = (int)all[i];
      sys_exit_group(1);
    }
  for (int fd = 0; fd < 3; fd++)
    (void)place((int)null, fd);
  int rc = place((int)socket, KEEPER_SOCKET);
  if (rc == 0)
    rc = place((int)host, KEEPER_HOST);
  if (rc == 0)
    rc = place((int)lock, KEEPER_LOCK);
  (void)sys_setsid();
  (void)sys_chdir("/");
  (void)sys_rt_sigprocmask(JB_SIG_SETMASK, &none, NULL);
  /* Whatever the host left inheritable dies at the exec; image is ours and
   * close-on-exec. */
  (void)sys_close_range(KEEPER_FREE, ~0u, CLOSE_RANGE_CLOEXEC);
  if (rc == 0)
    rc = (int)sys_execveat((int)image, "", argv, envp, AT_EMPTY_PATH);
  spawn->error = rc;
  sys_exit_group(1);
}

__attribute__((noinline)) static void stand_between(void *argument)
{
  struct spawn *spawn = argument;
  int pid =
    descend(spawn, become_keeper, spawn->stack + STACK_SIZE, JB_SIGCHLD);
  if (pid < 0)
    spawn->error = pid;
  sys_exit_group(0);
}

/* The helper as a file that nobody can name, change, or truncate. */
static int sealed_image(void)
{
  long fd = sys_memfd_create("jailbox", SEALABLE | MFD_EXEC);
  if (fd == -JB_EINVAL) /* before 6.3 there is no MFD_EXEC */
    fd = sys_memfd_create("jailbox", SEALABLE);
  if (fd < 0)
    return (int)fd;
  size_t done = 0;
  while (done < jb_helper_image_size) {
    long wrote =
      sys_write((int)fd, jb_helper_image + done, jb_helper_image_size - done);
    if (wrote == -JB_EINTR)
      continue;
    if (wrote <= 0) {
      (void)sys_close((int)fd);
      return wrote == 0 ? -JB_EIO : (int)wrote;
    }
    done += (size_t)wrote;
  }
  long rc = sys_fcntl((int)fd, F_ADD_SEALS,
                      F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
  if (rc < 0) {
    (void)sys_close((int)fd);
    return (int)rc;
  }
  return (int)fd;
}

static int spawn_helper(struct spawn *spawn)
{
  uint64_t all = ~(uint64_t)0;
  uint64_t before = 0;
  long stacks =
    sys_mmap(NULL, 2 * STACK_SIZE, JB_PROT_RW, JB_MAP_STACK_GUARDED, -1, 0);
  if (stacks < 0 && stacks > -4096)
    return (int)stacks;
  spawn->stack = (char *)stacks;
  /* No handler of the host may run on the shared memory of a child. */
  (void)sys_rt_sigprocmask(JB_SIG_SETMASK, &all, &before);
  int pid = descend(spawn, stand_between, spawn->stack, 0);
  (void)sys_rt_sigprocmask(JB_SIG_SETMASK, &before, NULL);
  if (pid > 0)
    while (sys_wait4(pid, NULL, JB_WALL, NULL) == -JB_EINTR)
      continue;
  (void)sys_munmap(spawn->stack, 2 * STACK_SIZE);
  return pid < 0 ? pid : spawn->error;
}

static int wait_ready(int socket, int *pidfd, struct jb_report *report)
{
  struct jb_report answer;
  size_t count = 0;
  struct jb_pollfd poll = {.fd = socket, .events = JB_POLLIN};
  /* newuidmap asks the user database: give a slow one time. */
  struct __kernel_timespec patience = {.tv_sec = 30};
  long ready;
  do
    ready = sys_ppoll(&poll, 1, &patience);
  while (ready == -JB_EINTR);
  if (ready <= 0)
    return refuse(report, JB_STEP_SPAWN, ready == 0 ? JB_ETIMEDOUT : ready, -1,
                  "keeper");
  long got = channel_receive(socket, &answer, sizeof(answer), pidfd, 1, &count,
                             JB_MSG_DONTWAIT);
  if (got <= 0)
    return refuse(report, JB_STEP_SPAWN, got == 0 ? JB_ESRCH : got, -1,
                  "keeper");
  if (answer.message == JB_MESSAGE_READY && count == 1)
    return 0;
  *report = answer;
  return -1;
}

int jb_keeper_spawn(const void *config, size_t size, int host_pidfd, int lock,
                    int *pidfd, struct jb_report *report)
{
  int pair[2];
  struct spawn spawn = {.host = host_pidfd, .lock = lock};
  long rc = JB_CALL4(__NR_socketpair, JB_AF_UNIX,
                     JB_SOCK_SEQPACKET | JB_SOCK_CLOEXEC, 0, pair);
  if (rc < 0)
    return refuse(report, JB_STEP_SPAWN, rc, -1, "socketpair");
  spawn.socket = pair[1];
  spawn.image = sealed_image();
  rc = spawn.image;
  if (rc >= 0) {
    rc = spawn_helper(&spawn);
    (void)sys_close(spawn.image);
  }
  (void)sys_close(pair[1]);
  if (rc >= 0)
    rc = channel_send(pair[0], config, size, NULL, 0);
  if (rc < 0)
    (void)refuse(report, JB_STEP_SPAWN, rc, -1, "helper");
  else
    rc = wait_ready(pair[0], pidfd, report);
  if (rc < 0) {
    (void)sys_close(pair[0]);
    return -1;
  }
  return pair[0];
}

int jb_send(int socket, const void *record, size_t size, const int *fds,
            size_t count)
{
  return (int)channel_send(socket, record, size, fds, count);
}

long jb_receive(int socket, void *buffer, size_t size, int *fds, size_t room,
                size_t *count)
{
  return channel_receive(socket, buffer, size, fds, room, count,
                         JB_MSG_DONTWAIT);
}

int jb_open_in_root(int root, const char *path, int flags)
{
  struct open_how how = {
    .flags = (uint64_t)(unsigned)flags | O_CLOEXEC,
    .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
  };
  return (int)sys_openat2(root, path, &how);
}

int jb_sync_filesystem(int fd)
{
  return (int)sys_syncfs(fd);
}

int jb_landlock_abi(void)
{
  return (int)sys_landlock_create_ruleset(NULL, 0, 1 /* ..._VERSION */);
}

const char *jb_version(void)
{
  return JB_VERSION;
}
