/* sys.h - the kernel, raw.
 *
 * PROBLEM  Between clone and exec, and in a process that has no C library,
 *          nothing may allocate, lock, or touch errno.  And the headers of an
 *          old distribution lack half of the calls that a jail is made of.
 * CHOICE   One inline function for each system call, named like the call.  It
 *          returns what the kernel returned: a result, or -errno.  Constants
 *          and structures that old headers lack stand at the end of the first
 *          part, each with the kernel that brought it.
 * RULES    1. A wrapper has the call's name and nothing else in it.
 *          2. No libc function, no errno, no static data.
 *
 * CONTENTS
 *   1. the call itself, for each architecture
 *   2. what old headers lack
 *   3. descriptors and files
 *   4. processes and signals
 *   5. mounts and namespaces
 *   6. identity and confinement
 *   7. sockets and waiting
 */
#ifndef JB_SYS_H
#define JB_SYS_H

#include <asm/unistd.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/fcntl.h>
#include <linux/futex.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/stat.h>
#include <linux/time_types.h>
#include <linux/types.h>
#include <stddef.h>
#include <stdint.h>

/* ---- 1. the call itself ------------------------------------------------ */

#if defined(JB_FAKE_KERNEL)

/* Tests bring a kernel of their own, which answers whatever they want. */
long jb_syscall(long number, long a, long b, long c, long d, long e, long f);
long jb_clone_into(struct clone_args *args, size_t size, void (*entry)(void *),
                   void *argument);

#elif defined(__x86_64__)

static inline long jb_syscall(long number, long a, long b, long c, long d,
                              long e, long f)
{
  long result;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8),
                     "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}

/* clone3 where the child starts on its own stack, in *entry*, which never
 * returns.  The child's stack pointer comes from the clone arguments, so it
 * must not touch the frame of the caller. */
static inline long jb_clone_into(struct clone_args *args, size_t size,
                                 void (*entry)(void *), void *argument)
{
  long result;
  register void (*r12)(void *) __asm__("r12") = entry;
  register void *r13 __asm__("r13") = argument;
  __asm__ volatile("syscall\n\t"
                   "test %%rax, %%rax\n\t"
                   "jnz 1f\n\t"
                   "xor %%ebp, %%ebp\n\t"
                   "mov %%r13, %%rdi\n\t"
                   "call *%%r12\n\t"
                   "hlt\n"
                   "1:"
                   : "=a"(result)
                   : "a"((long)__NR_clone3), "D"(args), "S"(size), "r"(r12),
                     "r"(r13)
                   : "rcx", "r11", "memory");
  return result;
}

#elif defined(__aarch64__)

static inline long jb_syscall(long number, long a, long b, long c, long d,
                              long e, long f)
{
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  register long x4 __asm__("x4") = e;
  register long x5 __asm__("x5") = f;
  __asm__ volatile("svc #0"
                   : "+r"(x0)
                   : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                   : "memory");
  return x0;
}

static inline long jb_clone_into(struct clone_args *args, size_t size,
                                 void (*entry)(void *), void *argument)
{
  register long x8 __asm__("x8") = __NR_clone3;
  register long x0 __asm__("x0") = (long)args;
  register long x1 __asm__("x1") = (long)size;
  register void (*x9)(void *) __asm__("x9") = entry;
  register void *x10 __asm__("x10") = argument;
  __asm__ volatile("svc #0\n\t"
                   "cbnz x0, 1f\n\t"
                   "mov x29, xzr\n\t"
                   "mov x0, x10\n\t"
                   "blr x9\n\t"
                   "brk #0\n"
                   "1:"
                   : "+r"(x0)
                   : "r"(x8), "r"(x1), "r"(x9), "r"(x10)
                   : "x30", "memory");
  return x0;
}

#elif defined(__riscv) && __riscv_xlen == 64

static inline long jb_syscall(long number, long a, long b, long c, long d,
                              long e, long f)
{
  register long a7 __asm__("a7") = number;
  register long a0 __asm__("a0") = a;
  register long a1 __asm__("a1") = b;
  register long a2 __asm__("a2") = c;
  register long a3 __asm__("a3") = d;
  register long a4 __asm__("a4") = e;
  register long a5 __asm__("a5") = f;
  __asm__ volatile("ecall"
                   : "+r"(a0)
                   : "r"(a7), "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a5)
                   : "memory");
  return a0;
}

static inline long jb_clone_into(struct clone_args *args, size_t size,
                                 void (*entry)(void *), void *argument)
{
  register long a7 __asm__("a7") = __NR_clone3;
  register long a0 __asm__("a0") = (long)args;
  register long a1 __asm__("a1") = (long)size;
  register void (*t1)(void *) __asm__("t1") = entry;
  register void *t2 __asm__("t2") = argument;
  __asm__ volatile("ecall\n\t"
                   "bnez a0, 1f\n\t"
                   "mv fp, zero\n\t"
                   "mv a0, t2\n\t"
                   "jalr t1\n\t"
                   "ebreak\n"
                   "1:"
                   : "+r"(a0)
                   : "r"(a7), "r"(a1), "r"(t1), "r"(t2)
                   : "ra", "memory");
  return a0;
}

#else
#error "jailbox knows x86-64, aarch64 and riscv64"
#endif

#define JB_CALL0(n) jb_syscall((n), 0, 0, 0, 0, 0, 0)
#define JB_CALL1(n, a) jb_syscall((n), (long)(a), 0, 0, 0, 0, 0)
#define JB_CALL2(n, a, b) jb_syscall((n), (long)(a), (long)(b), 0, 0, 0, 0)
#define JB_CALL3(n, a, b, c)                                                   \
  jb_syscall((n), (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define JB_CALL4(n, a, b, c, d)                                                \
  jb_syscall((n), (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define JB_CALL5(n, a, b, c, d, e)                                             \
  jb_syscall((n), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)
#define JB_CALL6(n, a, b, c, d, e, f)                                          \
  jb_syscall((n), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e),       \
             (long)(f))

/* ---- 2. what old headers lack ------------------------------------------ */

/* Numbers at or above 424 are the same on every architecture. */
#ifndef __NR_landlock_create_ruleset
#define __NR_landlock_create_ruleset 444 /* 5.13 */
#define __NR_landlock_restrict_self 446
#endif
#ifndef __NR_mount_setattr
#define __NR_mount_setattr 442 /* 5.12 */
#endif
#ifndef MOUNT_ATTR_IDMAP
#define MOUNT_ATTR_IDMAP 0x00100000 /* 5.12 */
#endif
#ifndef MOUNT_ATTR_NOSYMFOLLOW
#define MOUNT_ATTR_NOSYMFOLLOW 0x00200000 /* 5.14 */
#endif
#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080 /* 5.6 */
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U /* 6.3 */
#define MFD_EXEC 0x0010U
#endif

/* The C library would bring these; its headers do not mix with uapi's. */
#define JB_EPERM 1
#define JB_ENOENT 2
#define JB_ESRCH 3
#define JB_EINTR 4
#define JB_EIO 5
#define JB_E2BIG 7
#define JB_ENOEXEC 8
#define JB_ECHILD 10
#define JB_EAGAIN 11
#define JB_ENOMEM 12
#define JB_EACCES 13
#define JB_EBUSY 16
#define JB_EEXIST 17
#define JB_EXDEV 18
#define JB_ENOTDIR 20
#define JB_EISDIR 21
#define JB_EINVAL 22
#define JB_ENFILE 23
#define JB_EMFILE 24
#define JB_ETXTBSY 26
#define JB_EFBIG 27
#define JB_ENOSPC 28
#define JB_EROFS 30
#define JB_EPIPE 32
#define JB_ENAMETOOLONG 36
#define JB_ENOSYS 38
#define JB_ENOTEMPTY 39
#define JB_ELOOP 40
#define JB_EPROTO 71
#define JB_EMSGSIZE 90
#define JB_EOPNOTSUPP 95
#define JB_ETIMEDOUT 110
#define JB_ESTALE 116

#define JB_SIGHUP 1
#define JB_SIGKILL 9
#define JB_SIGPIPE 13
#define JB_SIGTERM 15
#define JB_SIGCHLD 17
#define JB_SIGCONT 18
#define JB_SIGSTOP 19
#define JB_SIG_BLOCK 0
#define JB_SIG_SETMASK 2

#define JB_POLLIN 0x001
#define JB_POLLPRI 0x002
#define JB_POLLOUT 0x004
#define JB_POLLERR 0x008
#define JB_POLLHUP 0x010

#define JB_PROT_RW 3
#define JB_MAP_PRIVATE_ANONYMOUS 0x22
#define JB_MAP_STACK_GUARDED 0x20022

#define JB_AF_UNIX 1
#define JB_AF_INET 2
#define JB_SOCK_STREAM 1
#define JB_SOCK_DGRAM 2
#define JB_SOCK_SEQPACKET 5
#define JB_SOCK_CLOEXEC 02000000
#define JB_SOL_SOCKET 1
#define JB_SCM_RIGHTS 1
#define JB_MSG_DONTWAIT 0x40
#define JB_MSG_CTRUNC 0x08
#define JB_MSG_TRUNC 0x20
#define JB_MSG_NOSIGNAL 0x4000
#define JB_MSG_CMSG_CLOEXEC 0x40000000

#define JB_WNOHANG 1
#define JB_WALL 0x40000000

/* S_IF* without the C library; linux/stat.h has them already on Linux. */

struct jb_iovec {
  void *base;
  size_t length;
};

struct jb_msghdr {
  void *name;
  int name_length;
  struct jb_iovec *iov;
  size_t iov_count;
  void *control;
  size_t control_length;
  unsigned flags;
};

struct jb_cmsghdr {
  size_t length;
  int level;
  int type;
};

struct jb_pollfd {
  int fd;
  short events;
  short revents;
};

struct jb_timeval {
  long seconds;
  long microseconds;
};

/* struct rusage of wait4(2): only what is reported has a name. */
struct jb_rusage {
  struct jb_timeval user;
  struct jb_timeval system;
  long max_rss_kib;
  long rest[13];
};

struct jb_sigaction {
  void (*handler)(int);
  unsigned long flags;
#ifdef __x86_64__
  void (*restorer)(void);
#endif
  uint64_t mask;
};

/* struct statfs of the 64-bit architectures. */
struct jb_statfs {
  long type;
  long block_size;
  uint64_t blocks;
  uint64_t blocks_free;
  uint64_t blocks_available;
  uint64_t files;
  uint64_t files_free;
  int id[2];
  long name_length;
  long fragment_size;
  long flags;
  long spare[4];
};

struct jb_flock {
  short type;
  short whence;
  int64_t start;
  int64_t length;
  int pid;
};

struct jb_rlimit64 {
  uint64_t soft;
  uint64_t hard;
};

struct jb_winsize {
  uint16_t rows;
  uint16_t columns;
  uint16_t x;
  uint16_t y;
};

/* ---- 3. descriptors and files ------------------------------------------ */

static inline long sys_openat(int dir, const char *path, int flags, int mode)
{
  return JB_CALL4(__NR_openat, dir, path, flags, mode);
}

static inline long sys_openat2(int dir, const char *path,
                               const struct open_how *how)
{
  return JB_CALL4(__NR_openat2, dir, path, how, sizeof(*how));
}

static inline long sys_syncfs(int fd)
{
  return JB_CALL1(__NR_syncfs, fd);
}

static inline long sys_close(int fd)
{
  return JB_CALL1(__NR_close, fd);
}

static inline long sys_close_range(unsigned first, unsigned last,
                                   unsigned flags)
{
  return JB_CALL3(__NR_close_range, first, last, flags);
}

static inline long sys_read(int fd, void *buffer, size_t size)
{
  return JB_CALL3(__NR_read, fd, buffer, size);
}

static inline long sys_write(int fd, const void *buffer, size_t size)
{
  return JB_CALL3(__NR_write, fd, buffer, size);
}

static inline long sys_pread64(int fd, void *buffer, size_t size,
                               int64_t offset)
{
  return JB_CALL4(__NR_pread64, fd, buffer, size, offset);
}

static inline long sys_pwrite64(int fd, const void *buffer, size_t size,
                                int64_t offset)
{
  return JB_CALL4(__NR_pwrite64, fd, buffer, size, offset);
}

static inline long sys_lseek(int fd, int64_t offset, int whence)
{
  return JB_CALL3(__NR_lseek, fd, offset, whence);
}

static inline long sys_ftruncate(int fd, int64_t size)
{
  return JB_CALL2(__NR_ftruncate, fd, size);
}

static inline long sys_dup(int fd)
{
  return JB_CALL1(__NR_dup, fd);
}

static inline long sys_dup3(int from, int to, int flags)
{
  return JB_CALL3(__NR_dup3, from, to, flags);
}

static inline long sys_fcntl(int fd, int command, long argument)
{
  return JB_CALL3(__NR_fcntl, fd, command, argument);
}

static inline long sys_fcntl_pointer(int fd, int command, void *argument)
{
  return JB_CALL3(__NR_fcntl, fd, command, argument);
}

static inline long sys_ioctl(int fd, unsigned long request, void *argument)
{
  return JB_CALL3(__NR_ioctl, fd, request, argument);
}

static inline long sys_mkdirat(int dir, const char *path, unsigned mode)
{
  return JB_CALL3(__NR_mkdirat, dir, path, mode);
}

static inline long sys_mknodat(int dir, const char *path, unsigned mode,
                               unsigned device)
{
  return JB_CALL4(__NR_mknodat, dir, path, mode, device);
}

static inline long sys_unlinkat(int dir, const char *path, int flags)
{
  return JB_CALL3(__NR_unlinkat, dir, path, flags);
}

static inline long sys_symlinkat(const char *target, int dir, const char *path)
{
  return JB_CALL3(__NR_symlinkat, target, dir, path);
}

static inline long sys_linkat(int from, const char *old, int to,
                              const char *name, int flags)
{
  return JB_CALL5(__NR_linkat, from, old, to, name, flags);
}

static inline long sys_readlinkat(int dir, const char *path, char *buffer,
                                  size_t size)
{
  return JB_CALL4(__NR_readlinkat, dir, path, buffer, size);
}

static inline long sys_renameat2(int from, const char *old, int to,
                                 const char *name, unsigned flags)
{
  return JB_CALL5(__NR_renameat2, from, old, to, name, flags);
}

static inline long sys_fchmod(int fd, unsigned mode)
{
  return JB_CALL2(__NR_fchmod, fd, mode);
}

static inline long sys_fchmodat(int dir, const char *path, unsigned mode)
{
  return JB_CALL3(__NR_fchmodat, dir, path, mode);
}

static inline long sys_fchownat(int dir, const char *path, uint32_t uid,
                                uint32_t gid, int flags)
{
  return JB_CALL5(__NR_fchownat, dir, path, uid, gid, flags);
}

static inline long sys_utimensat(int dir, const char *path,
                                 const struct __kernel_timespec times[2],
                                 int flags)
{
  return JB_CALL4(__NR_utimensat, dir, path, times, flags);
}

static inline long sys_socketpair(int family, int type, int ends[2])
{
  return JB_CALL4(__NR_socketpair, family, type, 0, ends);
}

static inline long sys_shutdown(int socket, int how)
{
  return JB_CALL2(__NR_shutdown, socket, how);
}

static inline long sys_statx(int dir, const char *path, int flags,
                             unsigned mask, struct statx *out)
{
  return JB_CALL5(__NR_statx, dir, path, flags, mask, out);
}

static inline long sys_getdents64(int fd, void *buffer, size_t size)
{
  return JB_CALL3(__NR_getdents64, fd, buffer, size);
}

static inline long sys_fgetxattr(int fd, const char *name, void *value,
                                 size_t size)
{
  return JB_CALL4(__NR_fgetxattr, fd, name, value, size);
}

static inline long sys_fsetxattr(int fd, const char *name, const void *value,
                                 size_t size)
{
  return JB_CALL5(__NR_fsetxattr, fd, name, value, size, 0);
}

static inline long sys_lsetxattr(const char *path, const char *name,
                                 const void *value, size_t size)
{
  return JB_CALL5(__NR_lsetxattr, path, name, value, size, 0);
}

static inline long sys_fstatfs(int fd, struct jb_statfs *out)
{
  return JB_CALL2(__NR_fstatfs, fd, out);
}

static inline long sys_faccessat(int dir, const char *path, int mode)
{
  return JB_CALL3(__NR_faccessat, dir, path, mode);
}

static inline long sys_chdir(const char *path)
{
  return JB_CALL1(__NR_chdir, path);
}

static inline long sys_fchdir(int fd)
{
  return JB_CALL1(__NR_fchdir, fd);
}

static inline long sys_chroot(const char *path)
{
  return JB_CALL1(__NR_chroot, path);
}

static inline long sys_getcwd(char *buffer, size_t size)
{
  return JB_CALL2(__NR_getcwd, buffer, size);
}

static inline long sys_umask(unsigned mask)
{
  return JB_CALL1(__NR_umask, mask);
}

static inline long sys_pipe2(int fds[2], int flags)
{
  return JB_CALL2(__NR_pipe2, fds, flags);
}

static inline long sys_mmap(void *at, size_t size, int protection, int flags,
                            int fd, int64_t offset)
{
  return JB_CALL6(__NR_mmap, at, size, protection, flags, fd, offset);
}

static inline long sys_munmap(void *at, size_t size)
{
  return JB_CALL2(__NR_munmap, at, size);
}

static inline long sys_memfd_create(const char *name, unsigned flags)
{
  return JB_CALL2(__NR_memfd_create, name, flags);
}

/* ---- 4. processes and signals ------------------------------------------ */

static inline long sys_clone3(struct clone_args *args)
{
  return JB_CALL2(__NR_clone3, args, sizeof(*args));
}

static inline long sys_execveat(int dir, const char *path, char *const argv[],
                                char *const envp[], int flags)
{
  return JB_CALL5(__NR_execveat, dir, path, argv, envp, flags);
}

__attribute__((noreturn)) static inline void sys_exit_group(int status)
{
  for (;;)
    (void)JB_CALL1(__NR_exit_group, status);
}

static inline long sys_wait4(int pid, int *status, int options,
                             struct jb_rusage *usage)
{
  return JB_CALL4(__NR_wait4, pid, status, options, usage);
}

static inline long sys_kill(int pid, int signal)
{
  return JB_CALL2(__NR_kill, pid, signal);
}

static inline long sys_getpid(void)
{
  return JB_CALL0(__NR_getpid);
}

static inline long sys_pidfd_open(int pid, unsigned flags)
{
  return JB_CALL2(__NR_pidfd_open, pid, flags);
}

static inline long sys_pidfd_send_signal(int pidfd, int signal)
{
  return JB_CALL4(__NR_pidfd_send_signal, pidfd, signal, 0, 0);
}

static inline long sys_setsid(void)
{
  return JB_CALL0(__NR_setsid);
}

static inline long sys_prctl(int option, unsigned long a, unsigned long b,
                             unsigned long c, unsigned long d)
{
  return JB_CALL5(__NR_prctl, option, a, b, c, d);
}

static inline long sys_rt_sigprocmask(int how, const uint64_t *set,
                                      uint64_t *old)
{
  return JB_CALL4(__NR_rt_sigprocmask, how, set, old, 8);
}

static inline long sys_rt_sigaction(int signal, const struct jb_sigaction *act)
{
  return JB_CALL4(__NR_rt_sigaction, signal, act, 0, 8);
}

static inline long sys_signalfd4(int fd, const uint64_t *mask, int flags)
{
  return JB_CALL4(__NR_signalfd4, fd, mask, 8, flags);
}

static inline long sys_prlimit64(int pid, int resource,
                                 const struct jb_rlimit64 *limit,
                                 struct jb_rlimit64 *old)
{
  return JB_CALL4(__NR_prlimit64, pid, resource, limit, old);
}

static inline long sys_setpriority(int which, int who, int value)
{
  return JB_CALL3(__NR_setpriority, which, who, value);
}

static inline long sys_sched_setaffinity(int pid, size_t size, const void *mask)
{
  return JB_CALL3(__NR_sched_setaffinity, pid, size, mask);
}

static inline long sys_clock_gettime(int clock, struct __kernel_timespec *now)
{
  return JB_CALL2(__NR_clock_gettime, clock, now);
}

static inline long sys_getrusage(int who, struct jb_rusage *usage)
{
  return JB_CALL2(__NR_getrusage, who, usage);
}

static inline long sys_nanosleep(const struct __kernel_timespec *duration)
{
  return JB_CALL2(__NR_nanosleep, duration, 0);
}

/* ---- 5. mounts and namespaces ------------------------------------------ */

static inline long sys_open_tree(int dir, const char *path, unsigned flags)
{
  return JB_CALL3(__NR_open_tree, dir, path, flags);
}

static inline long sys_move_mount(int from, const char *source, int to,
                                  const char *target, unsigned flags)
{
  return JB_CALL5(__NR_move_mount, from, source, to, target, flags);
}

static inline long sys_fsopen(const char *type, unsigned flags)
{
  return JB_CALL2(__NR_fsopen, type, flags);
}

static inline long sys_fsconfig(int fs, unsigned command, const char *key,
                                const void *value, int aux)
{
  return JB_CALL5(__NR_fsconfig, fs, command, key, value, aux);
}

static inline long sys_fsmount(int fs, unsigned flags, unsigned attributes)
{
  return JB_CALL3(__NR_fsmount, fs, flags, attributes);
}

static inline long sys_mount_setattr(int dir, const char *path, unsigned flags,
                                     struct mount_attr *attr)
{
  return JB_CALL5(__NR_mount_setattr, dir, path, flags, attr, sizeof(*attr));
}

static inline long sys_mount(const char *source, const char *target,
                             const char *type, unsigned long flags,
                             const void *data)
{
  return JB_CALL5(__NR_mount, source, target, type, flags, data);
}

static inline long sys_umount2(const char *path, int flags)
{
  return JB_CALL2(__NR_umount2, path, flags);
}

static inline long sys_pivot_root(const char *root, const char *old)
{
  return JB_CALL2(__NR_pivot_root, root, old);
}

static inline long sys_unshare(unsigned long flags)
{
  return JB_CALL1(__NR_unshare, flags);
}

static inline long sys_setns(int fd, unsigned long type)
{
  return JB_CALL2(__NR_setns, fd, type);
}

static inline long sys_sethostname(const char *name, size_t length)
{
  return JB_CALL2(__NR_sethostname, name, length);
}

static inline long sys_setdomainname(const char *name, size_t length)
{
  return JB_CALL2(__NR_setdomainname, name, length);
}

/* ---- 6. identity and confinement --------------------------------------- */

static inline long sys_setresuid(uint32_t uid)
{
  return JB_CALL3(__NR_setresuid, uid, uid, uid);
}

static inline long sys_setresgid(uint32_t gid)
{
  return JB_CALL3(__NR_setresgid, gid, gid, gid);
}

/* Both tell the id that it was before, and nothing else. */
static inline long sys_setfsuid(uint32_t uid)
{
  return JB_CALL1(__NR_setfsuid, uid);
}

static inline long sys_setfsgid(uint32_t gid)
{
  return JB_CALL1(__NR_setfsgid, gid);
}

static inline long sys_capget(struct __user_cap_header_struct *header,
                              struct __user_cap_data_struct *data)
{
  return JB_CALL2(__NR_capget, header, data);
}

static inline long sys_setgroups(size_t count, const uint32_t *groups)
{
  return JB_CALL2(__NR_setgroups, count, groups);
}

static inline long sys_capset(const struct __user_cap_header_struct *header,
                              const struct __user_cap_data_struct *data)
{
  return JB_CALL2(__NR_capset, header, data);
}

static inline long sys_seccomp(unsigned operation, unsigned flags, void *args)
{
  return JB_CALL3(__NR_seccomp, operation, flags, args);
}

static inline long sys_landlock_create_ruleset(const void *attr, size_t size,
                                               unsigned flags)
{
  return JB_CALL3(__NR_landlock_create_ruleset, attr, size, flags);
}

static inline long sys_landlock_restrict_self(int ruleset, unsigned flags)
{
  return JB_CALL2(__NR_landlock_restrict_self, ruleset, flags);
}

static inline long sys_keyctl_join_session(void)
{
  return JB_CALL2(__NR_keyctl, 1 /* KEYCTL_JOIN_SESSION_KEYRING */, 0);
}

/* ---- 7. sockets and waiting -------------------------------------------- */

static inline long sys_socket(int family, int type, int protocol)
{
  return JB_CALL3(__NR_socket, family, type, protocol);
}

static inline long sys_sendmsg(int fd, const struct jb_msghdr *message,
                               int flags)
{
  return JB_CALL3(__NR_sendmsg, fd, message, flags);
}

static inline long sys_recvmsg(int fd, struct jb_msghdr *message, int flags)
{
  return JB_CALL3(__NR_recvmsg, fd, message, flags);
}

static inline long sys_ppoll(struct jb_pollfd *fds, size_t count,
                             const struct __kernel_timespec *timeout)
{
  return JB_CALL5(__NR_ppoll, fds, count, timeout, 0, 8);
}

#endif
