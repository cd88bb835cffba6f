"""
The profile of a jail about which nobody says otherwise.

Every call of the tables is in exactly one of three lists here, which a test checks: a
new kernel does not decide by itself what a jail may call.
"""

import errno
import functools
from collections.abc import Collection
from typing import Final

from jailbox.linux.seccomp.profile import ALLOW, Compare, Op, Profile, Rule, deny
from jailbox.spec.capabilities import DEFAULT_CAPABILITIES, capability_name

__all__ = ["default_profile"]

# What any program may call. About what Docker allows, in the kernel's own groups.
_ALLOWED: Final = """
    access cachestat chdir chmod chown close close_range copy_file_range creat dup dup2
    dup3 faccessat faccessat2 fadvise64 fallocate fchdir fchmod fchmodat fchmodat2
    fchown fchownat fcntl fdatasync flock fstat fstatfs fsync ftruncate futimesat getcwd
    getdents getdents64 lchown link linkat lseek lstat mkdir mkdirat mknod mknodat
    name_to_handle_at newfstatat open openat openat2 pread64 preadv preadv2 pwrite64
    pwritev pwritev2 read readahead readlink readlinkat readv rename renameat renameat2
    rmdir sendfile splice stat statfs statx symlink symlinkat sync sync_file_range
    syncfs tee truncate umask unlink unlinkat utime utimensat utimes write writev

    fgetxattr flistxattr fremovexattr fsetxattr getxattr getxattrat lgetxattr listxattr
    listxattrat llistxattr lremovexattr lsetxattr removexattr removexattrat setxattr
    setxattrat

    epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd
    eventfd2 fanotify_mark inotify_add_watch inotify_init inotify_init1 inotify_rm_watch
    io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit pipe pipe2 poll
    ppoll pselect6 select signalfd signalfd4 timerfd_create timerfd_gettime
    timerfd_settime

    brk get_mempolicy madvise map_shadow_stack mbind membarrier memfd_create
    memfd_secret mincore mlock mlock2 mlockall mmap mprotect mremap mseal msync munlock
    munlockall munmap pkey_alloc pkey_free pkey_mprotect process_mrelease
    remap_file_pages set_mempolicy

    execve execveat exit exit_group fork futex futex_requeue futex_wait futex_waitv
    futex_wake get_robust_list getpgid getpgrp getpid getppid getsid gettid kill
    pidfd_open pidfd_send_signal rseq rt_sigaction rt_sigpending rt_sigprocmask
    rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo
    restart_syscall set_robust_list set_tid_address setpgid setsid sigaltstack tgkill
    tkill vfork wait4 waitid

    process_vm_readv process_vm_writev ptrace uprobe uretprobe

    getcpu getpriority getrlimit getrusage ioprio_get ioprio_set prlimit64
    sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr
    sched_getparam sched_getscheduler sched_rr_get_interval sched_setaffinity
    sched_setattr sched_setparam sched_setscheduler sched_yield setpriority setrlimit

    capget capset getegid geteuid getgid getgroups getresgid getresuid getuid setfsgid
    setfsuid setgid setgroups setregid setresgid setresuid setreuid setuid

    arch_prctl landlock_add_rule landlock_create_ruleset landlock_restrict_self prctl
    riscv_flush_icache riscv_hwprobe seccomp

    adjtimex alarm clock_adjtime clock_getres clock_gettime clock_nanosleep getitimer
    gettimeofday nanosleep pause setitimer time timer_create timer_delete
    timer_getoverrun timer_gettime timer_settime times

    accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom
    recvmmsg recvmsg sendmmsg sendmsg sendto setsockopt shutdown

    mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget
    msgrcv msgsnd semctl semget semop semtimedop shmat shmctl shmdt shmget

    getrandom listmount statmount sysinfo uname
"""

# What a program in a jail has no business with. EPERM: falling back to an older call
# for the same thing would not help.
_REFUSED: Final = """
    acct add_key bpf chroot clock_settime delete_module fanotify_init finit_module
    fsconfig fsmount fsopen fspick init_module ioperm iopl kcmp kexec_file_load
    kexec_load keyctl lookup_dcookie migrate_pages mount mount_setattr move_mount
    move_pages nfsservctl open_by_handle_at open_tree open_tree_attr perf_event_open
    pidfd_getfd pivot_root process_madvise quotactl quotactl_fd reboot request_key
    set_mempolicy_home_node setdomainname sethostname setns settimeofday swapoff swapon
    syslog umount2 userfaultfd vhangup
"""

# What this jail's kernel does not have, as far as programs can tell: they do without.
# clone3 hides its flags behind a pointer, which a filter cannot follow; io_uring makes
# calls that no filter sees; modify_ldt and vmsplice have more history than use; the
# rest of the first lines is young, and has an older way for the same.
_ABSENT: Final = """
    clone3 file_getattr file_setattr io_uring_enter io_uring_register io_uring_setup
    lsm_get_self_attr lsm_list_modules lsm_set_self_attr modify_ldt vmsplice

    _sysctl afs_syscall create_module epoll_ctl_old epoll_wait_old get_kernel_syms
    get_thread_area getpmsg putpmsg query_module security set_thread_area sysfs tuxcall
    uselib ustat vserver
"""

# What a capability of the jail opens, as in Docker: it has the right to it anyway.
_GATES: Final = {
    "CAP_BPF": "bpf",
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_PERFMON": "perf_event_open",
    "CAP_SYSLOG": "syslog",
    "CAP_SYS_ADMIN": """
        bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie
        lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr
        move_mount open_tree open_tree_attr perf_event_open quotactl quotactl_fd
        setdomainname sethostname setns syslog umount2 unshare
    """,
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module finit_module init_module",
    "CAP_SYS_NICE": "set_mempolicy_home_node",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "CAP_SYS_RAWIO": "ioperm iopl",
    "CAP_SYS_TIME": "clock_settime settimeofday",
    "CAP_SYS_TTY_CONFIG": "vhangup",
}

# What jails inside of the jail need: namespaces, mounts, names.
_NESTING: Final = """
    clone clone3 fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree
    open_tree_attr pivot_root setdomainname sethostname setns umount2 unshare
"""

# include/uapi/linux/sched.h: NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
_NAMESPACES: Final = 0x7E02_0000
# The lowest bits are the signal that tells the parent, when clone looks at them.
_NAMESPACE_OF_TIME: Final = 0x80

_UNIX, _INET, _INET6, _NETLINK, _PACKET = 1, 2, 10, 16, 17
_NETLINK_AUDIT: Final = 9
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C

_WORD: Final = 0xFFFF_FFFF

# PER_LINUX32 and UNAME26, which change what uname says. The other bits take
# protections away: ADDR_NO_RANDOMIZE, MMAP_PAGE_ZERO, READ_IMPLIES_EXEC.
_PERSONALITIES: Final = 0x2_0008
_PERSONALITY_ASK: Final = _WORD


def default_profile(
    capabilities: Collection[str] = DEFAULT_CAPABILITIES,
    *,
    arch: str,
    nesting: bool = False,
) -> Profile:
    """
    Return what a jail may call when nobody says otherwise.

    Args:
        capabilities: The bounding set. A capability opens the calls that are of no
            use without it.

        arch: Of the machine, as ``uname -m`` says it.

        nesting: Whether jails may be made inside: namespaces and mounts.

    Raises:
        SpecError: If a capability is none.
        Unsupported: If the architecture has no table.
    """
    names = frozenset(map(capability_name, capabilities))
    return _default_profile(names, arch, nesting=nesting)


@functools.lru_cache(maxsize=64)
def _default_profile(
    capabilities: frozenset[str], arch: str, *, nesting: bool
) -> Profile:
    """Make a default profile; equal wishes give the same one."""
    opened = {
        name
        for capability in capabilities & _GATES.keys()
        for name in _GATES[capability].split()
    }
    if nesting:
        opened.update(_NESTING.split())
    eperm, enosys = deny(errno.EPERM), deny(errno.ENOSYS)
    nothing_there = deny(errno.EAFNOSUPPORT)
    sockets = ("socket", "socketpair")
    packet = ALLOW if "CAP_NET_RAW" in capabilities else eperm

    no_audit = Compare(2, Op.NE, _NETLINK_AUDIT)

    def same(index: int, value: int) -> tuple[Compare, ...]:
        return (Compare(index, Op.EQ, value),)

    def none_of(index: int, bits: int) -> tuple[Compare, ...]:
        return (Compare(index, Op.MASKED_EQ, 0, bits),)

    return Profile(
        arch=arch,
        default=enosys,
        rules=(
            Rule(tuple(sorted({*_ALLOWED.split(), *opened})), ALLOW),
            Rule(tuple(_REFUSED.split()), eperm),
            Rule(tuple(_ABSENT.split()), enosys),
            Rule(("clone",), ALLOW, none_of(0, _NAMESPACES)),
            Rule(("unshare",), ALLOW, none_of(0, _NAMESPACES | _NAMESPACE_OF_TIME)),
            Rule(("personality",), ALLOW, none_of(0, _WORD & ~_PERSONALITIES)),
            Rule(("personality",), ALLOW, same(0, _PERSONALITY_ASK)),
            Rule(("clone", "personality", "unshare"), eperm),
            # Typing into the terminal of whoever started the jail.
            Rule(("ioctl",), eperm, same(1, _TIOCSTI)),
            Rule(("ioctl",), eperm, same(1, _TIOCLINUX)),
            Rule(("ioctl",), ALLOW),
            Rule(sockets, ALLOW, same(0, _UNIX)),
            Rule(sockets, ALLOW, same(0, _INET)),
            Rule(sockets, ALLOW, same(0, _INET6)),
            Rule(sockets, packet, same(0, _PACKET)),
            Rule(sockets, ALLOW, (*same(0, _NETLINK), no_audit)),
            Rule(sockets, nothing_there),
        ),
    )
