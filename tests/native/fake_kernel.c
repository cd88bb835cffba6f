/* fake_kernel.c - see the header.
 *
 * CONTENTS  chance . memory . what calls read and write . the call . running */
#include "fake_kernel.h"

#include <sanitizer/asan_interface.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JB_EFAULT_ 14

#define MAPPINGS_MAX 256
#define CHILDREN_MAX 64
#define MAPPING_MAX ((size_t)1 << 24)

/* For what a number alone does not show to the optimizer. */
static volatile unsigned char eaten;

static struct {
  uint64_t chance;
  uint64_t clock;
  uint32_t luck;
  uint32_t births;
  long calls;
  int next_fd;
  int next_pid;
  postman *post;
  jmp_buf *exit; /* of the innermost process that is played */
  struct letter letter;
  struct {
    void *at;
    size_t size;
  } mappings[MAPPINGS_MAX];
  int children[CHILDREN_MAX];
} kernel;

/* ---- chance ------------------------------------------------------------- */

void chance_seed(uint64_t seed)
{
  /* splitmix64: neighbors must have nothing in common */
  seed += 0x9e3779b97f4a7c15u;
  seed = (seed ^ (seed >> 30)) * 0xbf58476d1ce4e5b9u;
  seed = (seed ^ (seed >> 27)) * 0x94d049bb133111ebu;
  kernel.chance = (seed ^ (seed >> 31)) | 1;
}

uint32_t any(uint32_t below)
{
  /* xorshift64 */
  kernel.chance ^= kernel.chance << 13;
  kernel.chance ^= kernel.chance >> 7;
  kernel.chance ^= kernel.chance << 17;
  return below == 0 ? 0 : (uint32_t)((kernel.chance >> 16) % below);
}

static long refusal(void)
{
  static const int often[] = {JB_EPERM,  JB_ENOENT, JB_EINTR, JB_EAGAIN,
                              JB_EEXIST, JB_EINVAL, JB_ENOSPC};
  return any(4) == 0 ? -(long)(1 + any(120)) : -(long)often[any(7)];
}

/* ---- memory ------------------------------------------------------------- */

/* What the helper hands over to be read. */
static void eat(const void *from, size_t size)
{
  const unsigned char *at = from;
  /* That much the kernel finds out by itself: EFAULT. */
  if (at == NULL)
    return;
  for (size_t i = 0; i < size; i++)
    eaten = (unsigned char)(eaten ^ at[i]);
}

static void eat_text(long text)
{
  if (text != 0)
    eat((const void *)text, strlen((const char *)text) + 1);
}

static void eat_list(long list)
{
  char *const *at = (char *const *)list;
  for (; at != NULL && *at != NULL; at++)
    eat_text((long)*at);
}

/* What it hands over to be written: all of it must be there. */
static void serve_bytes(void *to, size_t size, size_t room)
{
  unsigned char *at = to;
  for (size_t i = 0; i < size; i++)
    at[i] = (unsigned char)any(256);
  eat(to, room);
}

/* Nothing behind a message may be looked at, though the mapping that it was
 * received into goes on, until the next one is received there. */
static void hide(char *at, size_t size, size_t room)
{
  for (size_t i = 0; i < MAPPINGS_MAX; i++)
    if (kernel.mappings[i].at == at && room <= kernel.mappings[i].size)
      ASAN_POISON_MEMORY_REGION(at + size, room - size);
}

static void show(char *at)
{
  for (size_t i = 0; i < MAPPINGS_MAX; i++)
    if (kernel.mappings[i].at == at)
      ASAN_UNPOISON_MEMORY_REGION(at, kernel.mappings[i].size);
}

static void clean_memory(void)
{
  for (size_t i = 0; i < MAPPINGS_MAX; i++) {
    show(kernel.mappings[i].at);
    free(kernel.mappings[i].at);
    kernel.mappings[i].at = NULL;
  }
}

static long map(size_t size, long fd)
{
  size_t place = 0;
  while (place < MAPPINGS_MAX && kernel.mappings[place].at != NULL)
    place++;
  if (size == 0)
    return -JB_EINVAL;
  if (size > MAPPING_MAX || place == MAPPINGS_MAX)
    return -JB_ENOMEM;
  char *at = calloc(1, size);
  if (at == NULL)
    return -JB_ENOMEM;
  /* Only a large record is mapped from a file. */
  if (fd >= 0 && kernel.letter.large != NULL)
    memcpy(at, kernel.letter.large,
           size < kernel.letter.large_size ? size : kernel.letter.large_size);
  kernel.mappings[place].at = at;
  kernel.mappings[place].size = size;
  return (long)at;
}

static long unmap(void *at)
{
  for (size_t i = 0; i < MAPPINGS_MAX; i++)
    if (kernel.mappings[i].at == at) {
      show(at);
      kernel.mappings[i].at = NULL;
      free(at);
      return 0;
    }
  return 0;
}

/* ---- what calls read and write ------------------------------------------ */

static long new_fd(void)
{
  kernel.next_fd = kernel.next_fd < 900 ? kernel.next_fd + 1 : 10;
  return kernel.next_fd;
}

static long new_child(void)
{
  int pid = ++kernel.next_pid;
  kernel.children[any(CHILDREN_MAX)] = pid;
  return pid;
}

static long wait_for(long pid, int *status, long options,
                     struct jb_rusage *usage)
{
  long found = pid > 0 ? pid : 0;
  for (size_t i = 0; i < CHILDREN_MAX && found == 0; i++)
    if (kernel.children[i] != 0 && any(3) == 0) {
      found = kernel.children[i];
      kernel.children[i] = 0;
    }
  if (status != NULL)
    *status = (int)any(0x10000);
  if (usage != NULL)
    *usage = (struct jb_rusage){.max_rss_kib = (long)any(1000)};
  return found != 0                                   ? found
         : (options & JB_WNOHANG) != 0 && any(2) == 0 ? 0
                                                      : -JB_ECHILD;
}

static long receive(struct jb_msghdr *header)
{
  char *to = header->iov->base;
  size_t room = header->iov->length;
  show(to);
  to[0] = to[room - 1] = 0;
  kernel.letter = (struct letter){0};
  kernel.post(to, room, &kernel.letter);
  size_t size = kernel.letter.size;
  if (size == 0 && any(2) == 0)
    return -JB_EAGAIN;
  header->flags = 0;
  size_t most =
    header->control_length < sizeof(struct jb_cmsghdr)
      ? 0
      : (header->control_length - sizeof(struct jb_cmsghdr)) / sizeof(int);
  size_t count = kernel.letter.fds < most ? kernel.letter.fds : most;
  if (kernel.letter.fds > most)
    header->flags |= JB_MSG_CTRUNC;
  if (count == 0) {
    header->control_length = 0;
  } else {
    struct jb_cmsghdr *control = header->control;
    int *fds = (int *)(void *)(control + 1);
    control->length = sizeof(*control) + count * sizeof(int);
    control->level = JB_SOL_SOCKET;
    control->type = JB_SCM_RIGHTS;
    for (size_t i = 0; i < count; i++)
      fds[i] = (int)new_fd();
    header->control_length = control->length;
  }
  hide(to, size, room);
  return (long)size;
}

static long send_out(const struct jb_msghdr *header)
{
  for (size_t i = 0; i < header->iov_count; i++)
    eat(header->iov[i].base, header->iov[i].length);
  if (header->control != NULL)
    eat(header->control, header->control_length);
  return (long)(header->iov_count == 0 ? 0 : header->iov[0].length);
}

static long poll_all(struct jb_pollfd *fds, size_t count)
{
  long ready = 0;
  for (size_t i = 0; i < count; i++) {
    fds[i].revents = 0;
    if (fds[i].fd >= 0 && any(count == 1 ? 12 : 3) == 0)
      fds[i].revents =
        any(24) == 0 ? JB_POLLHUP : (short)(fds[i].events | (short)any(2));
    ready += fds[i].revents != 0;
  }
  return ready;
}

static long read_into(void *to, size_t room)
{
  size_t size =
    any(4) == 0 ? 0 : any((uint32_t)(room < 4096 ? room + 1 : 4096));
  serve_bytes(to, size, room);
  /* Most of what is read are numbers. */
  if (any(2) == 0)
    for (size_t i = 0; i < size; i++)
      ((char *)to)[i] = "0123456789  \n\n"[any(14)];
  return (long)size;
}

static void leave(void)
{
  longjmp(*kernel.exit, 1);
}

static long filter_of(const void *from)
{
  /* struct sock_fprog */
  struct {
    unsigned short count;
    const void *filter;
  } program;
  memcpy(&program, from, sizeof(program));
  eat(program.filter, (size_t)program.count * 8);
  return program.filter == NULL ? -JB_EFAULT_ : 0;
}

static long now(struct __kernel_timespec *out)
{
  kernel.clock += any(50) == 0 ? (uint64_t)any(~0u) * 8 : any(1000000);
  *out = (struct __kernel_timespec){
    .tv_sec = (long long)(kernel.clock / 1000000000u),
    .tv_nsec = (long long)(kernel.clock % 1000000000u)};
  return 0;
}

/* ---- the call ----------------------------------------------------------- */

/* Calls that no program can go on after, or that a loop waits for. */
static bool refusable(long number)
{
  return number != __NR_exit_group && number != __NR_munmap &&
         number != __NR_clock_gettime && number != __NR_close &&
         number != __NR_ppoll && number != __NR_wait4 && number != __NR_recvmsg;
}

long jb_syscall(long number, long a, long b, long c, long d, long e, long f)
{
  (void)f;
  if (kernel.calls-- <= 0)
    leave();
  if (kernel.luck != 0 && refusable(number) && any(kernel.luck) == 0)
    return refusal();
  switch (number) {
  case __NR_exit_group:
    leave();
    return 0;
  case __NR_mmap:
    return map((size_t)b, e);
  case __NR_munmap:
    return unmap((void *)a);
  case __NR_clone3:
    eat((const void *)a, (size_t)b);
    if ((((struct clone_args *)a)->flags & CLONE_PIDFD) != 0)
      *(int *)(uintptr_t)((struct clone_args *)a)->pidfd = (int)new_fd();
    if (any(kernel.births) != 0)
      return new_child();
    kernel.births = 3u << any(6);
    return 0;
  case __NR_wait4:
    return wait_for(a, (int *)b, c, (struct jb_rusage *)d);
  case __NR_recvmsg:
    return receive((struct jb_msghdr *)b);
  case __NR_sendmsg:
    return send_out((const struct jb_msghdr *)b);
  case __NR_ppoll:
    return poll_all((struct jb_pollfd *)a, (size_t)b);
  case __NR_read:
    return read_into((void *)b, (size_t)c);
  case __NR_pread64:
    return read_into((void *)b, (size_t)c);
  case __NR_write:
  case __NR_pwrite64:
    eat((const void *)b, (size_t)c);
    return c == 0 || any(30) != 0 ? c : c - 1;
  case __NR_getdents64:
    eat((const void *)b, (size_t)c);
    return 0;
  case __NR_readlinkat:
    eat_text(b);
    return read_into((void *)c, (size_t)d);
  case __NR_getcwd:
    memcpy((void *)a, any(8) == 0 ? "(unreachable)" : "/a", 3);
    return 3;
  case __NR_statx:
    eat_text(b);
    serve_bytes((void *)e, sizeof(struct statx), sizeof(struct statx));
    /* Whoever compares two files mostly finds them to be the same. */
    if (any(8) != 0)
      memset((void *)e, 0x41 + (int)any(2), sizeof(struct statx));
    return 0;
  case __NR_fstatfs:
    serve_bytes((void *)b, sizeof(struct jb_statfs), sizeof(struct jb_statfs));
    return 0;
  case __NR_clock_gettime:
    return now((struct __kernel_timespec *)b);
  case __NR_prlimit64:
    if (c != 0)
      eat((const void *)c, sizeof(struct jb_rlimit64));
    if (d != 0)
      serve_bytes((void *)d, sizeof(struct jb_rlimit64),
                  sizeof(struct jb_rlimit64));
    return 0;
  case __NR_getrusage:
    serve_bytes((void *)b, sizeof(struct jb_rusage), sizeof(struct jb_rusage));
    ((struct jb_rusage *)b)->user = (struct jb_timeval){any(9), any(9)};
    ((struct jb_rusage *)b)->system = (struct jb_timeval){any(9), any(9)};
    return 0;
  case __NR_execveat:
    eat_text(b);
    eat_list(c);
    eat_list(d);
    if (any(3) == 0)
      leave();
    return refusal();
  case __NR_seccomp:
    return filter_of((const void *)c);
  case __NR_setgroups:
    eat((const void *)b, (size_t)a * sizeof(uint32_t));
    return b == 0 && a != 0 ? -JB_EFAULT_ : 0;
  case __NR_sched_setaffinity:
    eat((const void *)c, (size_t)b);
    return c == 0 ? -JB_EFAULT_ : 0;
  case __NR_landlock_create_ruleset:
    eat((const void *)a, (size_t)b);
    return a == 0 ? -JB_EFAULT_ : new_fd();
  case __NR_mount_setattr:
    eat_text(b);
    eat((const void *)d, (size_t)e);
    return 0;
  case __NR_fsconfig:
    eat_text(c);
    /* A path or a value; the descriptor is no text. */
    if (b == FSCONFIG_SET_STRING)
      eat_text(d);
    return 0;
  case __NR_sethostname:
  case __NR_setdomainname:
    eat((const void *)a, (size_t)b);
    return 0;
  case __NR_pipe2:
    ((int *)a)[0] = (int)new_fd();
    ((int *)a)[1] = (int)new_fd();
    return 0;
  case __NR_fsopen:
  case __NR_memfd_create:
    eat_text(a);
    return new_fd();
  case __NR_openat2:
    eat((const void *)c, (size_t)d);
    eat_text(b);
    return new_fd();
  case __NR_openat:
  case __NR_open_tree:
    eat_text(b);
    return new_fd();
  case __NR_symlinkat:
    eat_text(a);
    eat_text(c);
    return 0;
  case __NR_linkat:
  case __NR_renameat2:
  case __NR_move_mount:
    eat_text(b);
    eat_text(d);
    return 0;
  case __NR_mkdirat:
  case __NR_mknodat:
  case __NR_unlinkat:
  case __NR_fchownat:
  case __NR_fchmodat:
  case __NR_utimensat:
  case __NR_faccessat:
    eat_text(b);
    return 0;
  case __NR_chdir:
  case __NR_chroot:
  case __NR_umount2:
    eat_text(a);
    return 0;
  case __NR_fsmount:
  case __NR_socket:
  case __NR_signalfd4:
  case __NR_pidfd_open:
  case __NR_accept4:
  case __NR_dup:
    return new_fd();
  case __NR_fcntl:
    if (b == F_DUPFD_CLOEXEC)
      return new_fd();
    return any(6) == 0 ? -JB_EAGAIN : 0;
  case __NR_dup3:
    return b;
  default:
    return 0;
  }
}

long jb_clone_into(struct clone_args *args, size_t size, void (*entry)(void *),
                   void *argument)
{
  jmp_buf ended;
  jmp_buf *volatile outer = kernel.exit;
  if (kernel.calls-- <= 0)
    leave();
  eat(args, size);
  if (kernel.luck != 0 && any(kernel.luck) == 0)
    return refusal();
  /* A child that nobody waits for may wait for ever. */
  volatile long rest = 0;
  if ((args->flags & CLONE_VFORK) == 0 && kernel.calls > 20) {
    rest = kernel.calls - 20;
    kernel.calls = 20;
  }
  kernel.exit = &ended;
  if (setjmp(ended) == 0)
    entry(argument);
  kernel.exit = outer;
  kernel.calls += rest;
  if (kernel.calls <= 0)
    leave();
  return new_child();
}

/* ---- running ------------------------------------------------------------ */

void kernel_run(void (*entry)(void), postman *post, uint32_t luck, long calls,
                bool child)
{
  jmp_buf ended;
  kernel.post = post;
  kernel.luck = luck;
  /* So that some are keepers for long, and others soon inits of inits. */
  kernel.births = child ? 1 : 3u << any(6);
  kernel.calls = calls;
  kernel.exit = &ended;
  kernel.next_fd = 10;
  kernel.next_pid = 100;
  memset(kernel.children, 0, sizeof(kernel.children));
  if (setjmp(ended) == 0)
    entry();
  kernel.exit = NULL;
  clean_memory();
}
