/* rooms.c - namespaces made ahead: network, ipc, uts.
 *
 * PROBLEM  A network namespace costs half a millisecond, an ipc namespace a
 *          tenth of one, and neither depends on who will live there.
 * CHOICE   A child that shares the keeper's memory and descriptors is born in
 *          new ones, brings the loopback up, opens them, and ends; the keeper
 *          goes on when it has (vfork).  What is left are descriptors, not
 *          processes.  A set is entered by one jail and closed: it is pooled,
 *          never used again. */
#include "keeper.h"

#define CHILD_STACK 8192

struct birth {
  bool net;
  long error;
  enum jb_step step;
  struct rooms rooms;
};

static long loopback_up(void)
{
  struct {
    char name[16];
    short flags;
    char rest[22];
  } request = {.name = "lo", .flags = 1 /* IFF_UP */};
  long fd = sys_socket(JB_AF_INET, JB_SOCK_DGRAM | JB_SOCK_CLOEXEC, 0);
  if (fd < 0)
    return fd;
  long rc = sys_ioctl((int)fd, 0x8914 /* SIOCSIFFLAGS */, &request);
  (void)sys_close((int)fd);
  return rc;
}

static int open_own(struct birth *birth, const char *path)
{
  long fd = sys_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0 && birth->error == 0) {
    birth->error = fd;
    birth->step = JB_STEP_ENTER;
  }
  return (int)fd;
}

__attribute__((noinline)) static void furnish(void *argument)
{
  struct birth *birth = argument;
  if (birth->net) {
    birth->error = loopback_up();
    birth->step = JB_STEP_LOOPBACK;
    birth->rooms.net = open_own(birth, "/proc/thread-self/ns/net");
  }
  birth->rooms.ipc = open_own(birth, "/proc/thread-self/ns/ipc");
  birth->rooms.uts = open_own(birth, "/proc/thread-self/ns/uts");
  sys_exit_group(0);
}

int rooms_enter(bool net, struct jb_report *report)
{
  long rc =
    sys_unshare(CLONE_NEWIPC | CLONE_NEWUTS | (net ? CLONE_NEWNET : 0u));
  if (rc < 0)
    return refuse(report, JB_STEP_ENTER, rc, -1, "unshare");
  rc = net ? loopback_up() : 0;
  return rc < 0 ? refuse(report, JB_STEP_LOOPBACK, rc, -1, "lo") : 0;
}

void rooms_close(struct rooms *rooms)
{
  int *fds[] = {&rooms->net, &rooms->ipc, &rooms->uts};
  for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
    if (*fds[i] >= 0)
      (void)sys_close(*fds[i]);
    *fds[i] = -1;
  }
}

int rooms_make(bool net, struct rooms *out, struct jb_report *report)
{
  char stack[CHILD_STACK] __attribute__((aligned(16)));
  struct birth birth = {.net = net, .rooms = {-1, -1, -1}};
  struct clone_args args = {
    .flags = CLONE_VM | CLONE_VFORK | CLONE_FILES | CLONE_NEWIPC |
             CLONE_NEWUTS | (net ? CLONE_NEWNET : 0u),
    .exit_signal = 0, /* not one of the jails that the keeper waits for */
    .stack = (uint64_t)(uintptr_t)stack,
    .stack_size = sizeof(stack),
  };
  *out = birth.rooms;
  int pid = (int)jb_clone_into(&args, sizeof(args), furnish, &birth);
  if (pid < 0)
    return refuse(report, JB_STEP_ENTER, pid, -1, "clone");
  while (sys_wait4(pid, NULL, JB_WALL, NULL) == -JB_EINTR)
    continue;
  *out = birth.rooms;
  if (birth.error == 0)
    return 0;
  rooms_close(out);
  return refuse(report, birth.step, birth.error, -1,
                birth.step == JB_STEP_LOOPBACK ? "lo" : "namespace");
}
