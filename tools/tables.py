"""
Write ``src/jailbox/linux/tables.py`` from the kernel's headers.

Run it where ``linux-libc-dev`` of an x86-64 Debian is installed; the C preprocessor
reads the headers, so that what is written is what a C program would have got::

    python tools/tables.py            write the file
    python tools/tables.py --check    change nothing, fail if the file would change

The headers of a distribution are older than the kernels that people run. What came
later, up to the version in `LAST`, stands in `LATER`: since number 424 one number
means the same call everywhere, so that one list serves all architectures. Numbers
above are left out even when the headers have them, which makes the result the same
on every machine.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

TARGET = Path(__file__).parents[1] / "src" / "jailbox" / "linux" / "tables.py"

LAST = "6.18"
"""The newest kernel whose calls are known here."""

LAST_NUMBER = 469
"""The highest number of that kernel."""

# Source: Linux 6.18, scripts/syscall.tbl and arch/x86/entry/syscalls/syscall_64.tbl.
LATER = {
    451: "cachestat",
    452: "fchmodat2",
    453: "map_shadow_stack",
    454: "futex_wake",
    455: "futex_wait",
    456: "futex_requeue",
    457: "statmount",
    458: "listmount",
    459: "lsm_get_self_attr",
    460: "lsm_set_self_attr",
    461: "lsm_list_modules",
    462: "mseal",
    463: "setxattrat",
    464: "getxattrat",
    465: "listxattrat",
    466: "removexattrat",
    467: "open_tree_attr",
    468: "file_getattr",
    469: "file_setattr",
}
LATER_X86_64 = {335: "uretprobe", 336: "uprobe"}
LATER_RISCV64 = {258: "riscv_hwprobe", 259: "riscv_flush_icache"}

# What each architecture's own asm/unistd.h asks of the generic one.
# Source: Linux arch/{arm64,riscv}/include/uapi/asm/unistd.h.
GENERIC_WANTS = {
    "aarch64": ("RENAMEAT", "NEW_STAT", "SET_GET_RLIMIT", "SYS_CLONE3", "MEMFD_SECRET"),
    "riscv64": ("NEW_STAT", "SET_GET_RLIMIT", "SYS_CLONE3", "MEMFD_SECRET"),
}

# Source: Linux include/uapi/linux/audit.h: ELF machine, 64 bits, little-endian.
AUDIT_ARCHES = {"x86_64": 62, "aarch64": 183, "riscv64": 243}
AUDIT_64BIT_LE = 0x8000_0000 | 0x4000_0000

# Arguments that the kernel cuts before it looks at them, one letter for each
# argument: `i` keeps the low 32 bits, `h` the low 16 (umode_t), `.` all 64. What is
# not listed keeps everything.
# Source: the types in events/syscalls/*/format of tracefs, Linux 6.18; for calls
# without such an event their SYSCALL_DEFINE. The one exception is clone, whose flags
# are declared unsigned long and then cut by lower_32_bits() (kernel/fork.c).
WIDTHS = """
.....i: mbind preadv2 pwritev2
....i: add_key lsetxattr riscv_hwprobe setxattr
...i: listmount pkey_mprotect request_key statmount
...i.i: futex_wait
..i: getrandom ioperm landlock_create_ruleset lsm_list_modules madvise mlock2 msync
    readlink
..ii: futex_wake
.h: chmod creat mkdir
.hi: mknod
.i: access delete_module fsopen memfd_create pipe2 ppoll setdomainname sethostname
    swapon symlinkat umount2
.ih: mq_open open
.ii: chown lchown poll
.ii..i: futex
.ii.i: futex_waitv
.iii: futex_requeue perf_event_open rseq
i: accept alarm arch_prctl clock_adjtime clock_getres clock_gettime clock_settime
    clone close dup epoll_create epoll_create1 eventfd exit exit_group fchdir
    fdatasync fgetxattr flistxattr fremovexattr fstat fstatfs fsync ftruncate
    futimesat get_robust_list getgroups getitimer getpeername getpgid getrlimit
    getrusage getsid getsockname inotify_init1 io_setup io_uring_setup iopl keyctl
    memfd_secret migrate_pages mlockall modify_ldt mq_getsetattr mq_notify
    mq_timedreceive openat2 personality pkey_free prctl pread64 process_vm_readv
    process_vm_writev pselect6 pwrite64 read readahead rt_sigaction rt_sigprocmask
    sched_get_priority_max sched_get_priority_min sched_getparam sched_getscheduler
    sched_rr_get_interval sched_setparam select set_mempolicy setfsgid setfsuid
    setgid setgroups setitimer setrlimit setuid signalfd syncfs sysfs timer_create
    timer_delete timer_getoverrun timer_gettime timerfd_gettime umask userfaultfd
    ustat write
i....i: move_pages
i...i: execveat file_getattr file_setattr fsetxattr msgrcv name_to_handle_at
i..i: accept4 cachestat fadvise64 landlock_add_rule lsm_get_self_attr mq_timedsend
    msgsnd newfstatat readlinkat recvfrom signalfd4 sync_file_range utimensat
    vmsplice
i..i.i: sendto
i..ii: process_madvise
i.h: fchmodat mkdirat
i.hi: fchmodat2 mknodat
i.i: bind bpf connect epoll_pwait2 faccessat finit_module fspick getdents getdents64
    getxattrat inotify_add_watch listxattrat lseek mount_setattr open_by_handle_at
    open_tree open_tree_attr quotactl recvmsg removexattrat renameat sched_setattr
    semop semtimedop sendmsg setxattrat shmat shmget syslog unlinkat wait4
i.i..i: copy_file_range splice
i.i.i: linkat move_mount renameat2
i.ih: openat
i.ii: epoll_pwait epoll_wait faccessat2 lsm_set_self_attr recvmmsg sched_getattr
    sendmmsg statx
i.iii: fchownat
ih: fchmod
ii: clock_nanosleep dup2 eventfd2 fallocate fanotify_init fcntl flock getpriority
    inotify_rm_watch ioctl ioprio_get kexec_file_load kill landlock_restrict_self
    listen msgctl msgget pidfd_open prlimit64 process_mrelease rt_sigqueueinfo
    sched_getaffinity sched_setaffinity sched_setscheduler seccomp sendfile setns
    setpgid setregid setreuid shmctl shutdown timer_settime timerfd_create
    timerfd_settime tkill
ii..i: fsconfig
ii.i: fanotify_mark io_uring_register pidfd_send_signal tee waitid
iii: close_range dup3 epoll_ctl fchown fsmount getsockopt ioprio_set kcmp membarrier
    pidfd_getfd quotactl_fd reboot rt_tgsigqueueinfo semctl semget setpriority
    setresgid setresuid socket socketpair tgkill
iii.i: setsockopt
iiii: io_uring_enter
"""


def preprocess(source: str) -> dict[str, str]:
    """Return the macros ``__NR_*`` that *source* leaves defined, by name."""
    result = subprocess.run(
        ["gcc", "-E", "-dM", "-x", "c", "-"],
        input=source,
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(re.findall(r"^#define (__NR\w*) (\w+)$", result.stdout, re.MULTILINE))


def numbers(macros: Mapping[str, str]) -> dict[str, int]:
    """Return name to number, following ``__NR_x`` to ``__NR3264_x`` to a number."""
    found = {}
    for macro, value in macros.items():
        name = macro.removeprefix("__NR_")
        number = macros.get(value, value)
        if name in {macro, "syscalls"} or not number.isdecimal():
            continue
        if int(number) <= LAST_NUMBER:
            found[name] = int(number)
    return found


def completed(found: Mapping[str, int], *later: Mapping[int, str]) -> dict[str, int]:
    """Add what came after the headers, and refuse headers that say otherwise."""
    complete = dict(found)
    for table in later:
        for number, name in table.items():
            if complete.setdefault(name, number) != number:
                raise SystemExit(
                    f"{name}: {complete[name]} in the headers, {number} here"
                )
    taken: dict[int, str] = {}
    for name, number in complete.items():
        if (other := taken.setdefault(number, name)) != name:
            raise SystemExit(f"{number} is both {name} and {other}")
    return dict(sorted(complete.items(), key=lambda item: item[1]))


def x86_64() -> dict[str, int]:
    """Read the table of x86-64."""
    macros = preprocess("#include <asm/unistd_64.h>\n")
    return completed(numbers(macros), LATER_X86_64, LATER)


def generic(arch: str) -> dict[str, int]:
    """Read the generic table as *arch* includes it."""
    wants = "".join(f"#define __ARCH_WANT_{want}\n" for want in GENERIC_WANTS[arch])
    macros = preprocess(f"{wants}#include <asm-generic/unistd.h>\n")
    # A marker for numbers of an architecture's own, not a call.
    macros.pop("__NR_arch_specific_syscall", None)
    own = LATER_RISCV64 if arch == "riscv64" else {}
    return completed(numbers(macros), own, LATER)


def widths(known: set[str]) -> dict[str, str]:
    """Parse `WIDTHS`; every name in it must be a call."""
    found: dict[str, str] = {}
    letters = ""
    for line in WIDTHS.strip().splitlines():
        head, colon, names = line.rpartition(": ")
        if colon:
            letters = head
        found |= dict.fromkeys(names.split(), letters)
    if unknown := found.keys() - known:
        raise SystemExit(f"WIDTHS names what is no call: {sorted(unknown)}")
    return dict(sorted(found.items()))


def literal(name: str, annotation: str, entries: Mapping[str, object]) -> str:
    """Print one dict as source text."""
    lines = [f"{name}: Final[{annotation}] = {{"]
    for key, value in entries.items():
        shown = f'"{value}"' if isinstance(value, str) else value
        lines.append(f'    "{key}": {shown},')
    return "\n".join([*lines, "}"])


def render() -> str:
    """Return the text of the module."""
    x86 = x86_64()
    arm, riscv = generic("aarch64"), generic("riscv64")
    common = dict(arm.items() & riscv.items())
    common = dict(sorted(common.items(), key=lambda item: item[1]))
    arm_own = {name: nr for name, nr in arm.items() if name not in common}
    riscv_own = {name: nr for name, nr in riscv.items() if name not in common}
    audit = {
        arch: f"{machine | AUDIT_64BIT_LE:#010x}"
        for arch, machine in AUDIT_ARCHES.items()
    }
    audit_lines = "\n".join(f'    "{arch}": {n},' for arch, n in audit.items())
    parts = [
        f'''\
"""
Numbers of the kernel: system calls, architectures, widths of arguments.

Written by ``tools/tables.py`` from the kernel's headers; do not edit. It holds what
the kernel up to {LAST} calls its calls, and no opinion about any of them: that is
`jailbox.linux.seccomp`'s.
"""

from collections.abc import Mapping
from typing import Final

LAST_KERNEL: Final = "{LAST}"
"""The newest kernel whose calls are listed."""

AUDIT_ARCH: Final[Mapping[str, int]] = {{
{audit_lines}
}}
"""What ``struct seccomp_data`` calls an architecture.

Source: kernel *include/uapi/linux/audit.h*, ``AUDIT_ARCH_*``."""
''',
        literal("_X86_64", "Mapping[str, int]", x86),
        literal("_GENERIC", "Mapping[str, int]", common),
        f'''
SYSCALLS: Final[Mapping[str, Mapping[str, int]]] = {{
    "x86_64": _X86_64,
    "aarch64": {{**_GENERIC, {inline(arm_own)}}},
    "riscv64": {{**_GENERIC, {inline(riscv_own)}}},
}}
"""Number of each system call, by architecture (as ``uname -m`` spells it) and name."""
''',
        literal("WIDTHS", "Mapping[str, str]", widths({*x86, *arm, *riscv})),
        '''\
"""Arguments of which the kernel keeps less than 64 bits, by name of the call.

One letter an argument: ``i`` keeps the low 32 bits, ``h`` the low 16, ``.`` all. A
filter that compares more than the kernel keeps can be walked around by setting a bit
that nobody looks at.

Source: types in *tracefs*, ``events/syscalls/*/format``."""
''',
    ]
    return "\n".join(parts)


def inline(entries: Mapping[str, int]) -> str:
    """Print a few entries for the middle of a dict."""
    return ", ".join(f'"{name}": {nr}' for name, nr in entries.items())


def formatted(text: str) -> str:
    """Return *text* as ruff formats it, so that the check can be of bytes."""
    result = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--stdin-filename", TARGET, "-"],
        input=text,
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout


def main() -> int:
    """Write or check the file; return the exit status."""
    parser = argparse.ArgumentParser(description="Write the tables of system calls.")
    parser.add_argument("--check", action="store_true", help="only compare")
    arguments = parser.parse_args()
    text = formatted(render())
    if not arguments.check:
        TARGET.write_text(text)
        return 0
    if TARGET.read_text() == text:
        return 0
    print(f"{TARGET} is out of date: run tools/tables.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
