"""
The default filter, asked through a real kernel.

A process of its own puts the filter upon itself and tries calls with arguments that do
no harm if they get through: bad descriptors, null pointers, unknown flags. No right is
needed: `no_new_privs` allows anybody to be filtered. Root learns more, since for
others the kernel itself refuses some of these calls.
"""

import errno
import json
import platform
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jailbox.linux.seccomp import default_profile, program
from jailbox.linux.tables import SYSCALLS

PROBE = Path(__file__).parent / "seccomp_probe.py"

NUMBERS = SYSCALLS["x86_64"]
NOWHERE = 2**64 - 1
"""A bad descriptor, a bad address, all flags."""

Call = tuple[str, *tuple[int, ...]]
"""Name or number of a call, and its arguments."""

NEW_NAMESPACES = [1 << bit for bit in (7, 17, 25, 26, 27, 28, 29, 30)]

EPERM: list[Call] = [
    # SC2
    ("bpf", 99, 0, 0),
    ("perf_event_open", 0, 0, -1, -1, NOWHERE),
    ("userfaultfd", 1 << 30),
    ("open_by_handle_at", -1, 0, 0),
    ("init_module", 0, 0, 0),
    ("finit_module", -1, 0, 0),
    ("delete_module", 0, 0),
    ("kexec_load", 0, 0, 0, 0xFFFF),
    ("kexec_file_load", -1, -1, 0, 0, NOWHERE),
    ("reboot", 0, 0, 0, 0),
    ("swapon", 0, 0),
    ("swapoff", 0),
    ("acct", 1),
    ("quotactl", NOWHERE, 0, 0, 0),
    ("quotactl_fd", -1, 0, 0, 0),
    ("settimeofday", 0, 0),
    ("clock_settime", 0, 0),
    ("iopl", 4),
    ("ioperm", 0, 0, 0),
    ("kcmp", 0, 0, 99, 0, 0),
    ("pidfd_getfd", -1, 0, 0),
    ("lookup_dcookie", 0, 0, 0),
    ("vhangup",),
    ("syslog", 10, 0, 0),
    ("move_pages", 0, 0, 0, 0, 0, NOWHERE),
    ("migrate_pages", NOWHERE, 0, 0, 0),
    ("fanotify_init", NOWHERE, 0),
    ("nfsservctl", 0, 0, 0),
    # SC3
    ("mount", 0, 0, 0, 0, 0),
    ("umount2", 0, 0),
    ("pivot_root", 0, 0),
    ("fsopen", 0, 0),
    ("fsconfig", -1, 0, 0, 0, 0),
    ("fsmount", -1, 0, 0),
    ("fspick", -1, 0, 0),
    ("move_mount", -1, 0, -1, 0, 0),
    ("open_tree", -1, 0, 0),
    ("open_tree_attr", -1, 0, 0, 0, 0),
    ("mount_setattr", -1, 0, 0, 0, 0),
    # SC4
    ("setns", -1, 0),
    *(("unshare", flag) for flag in NEW_NAMESPACES),
    *(("clone", flag | 17, 0, 0, 0, 0) for flag in NEW_NAMESPACES[1:]),
    # SC7
    ("socket", 17, 3, 0),
    # SC8
    ("clone", 0xDEAD << 32 | 1 << 28 | 17, 0, 0, 0, 0),
    ("personality", 0xDEAD << 32 | 0x40000),
    # SC12
    ("personality", 0x40000),
    ("personality", 0x400000),
    # ID16
    ("keyctl", 0, 0, 0),
    ("add_key", 0, 0, 0, 0, 0),
    ("request_key", 0, 0, 0, 0),
]

ENOSYS: list[Call] = [
    # SC4
    ("clone3", 0, 0),
    # SC5
    ("io_uring_setup", 0, 0),
    ("io_uring_enter", -1, 0, 0, 0, 0, 0),
    ("io_uring_register", -1, 0, 0, 0),
    # SC6
    ("470",),
    ("999",),
    ("1023",),
    # SC11: getpid, and execve
    (str(0x40000000 | 39),),
    (str(0x40000000 | 520), 0, 0, 0),
    # C.2
    ("vmsplice", -1, 0, 0, 0),
    ("modify_ldt", 99, 0, 0),
]

NO_FAMILY: list[Call] = [
    # SC7
    *(("socket", family, 1, 0) for family in (15, 21, 30, 31, 38, 40, 44)),
    ("socket", 16, 3, 9),
    ("socketpair", 30, 1, 0, 0),
    # SC8
    ("socket", 1 << 32 | 38, 5, 0),
    ("socket", 1 << 32 | 16, 3, 1 << 32 | 9),
]

WORKS: list[Call] = [
    # SC7
    *(("socket", family, 2, 0) for family in (1, 2)),
    ("socket", 16, 3, 0),
    # SC12
    ("personality", 8),
    ("personality", 0x20000),
    ("personality", 0x20008),
    ("personality", 0xFFFFFFFF),
    ("personality", 0),
    ("getpid",),
]

NOT_REFUSED: list[Call] = [
    # SC13
    ("memfd_create", 0, 0),
    ("memfd_secret", 0),
    ("landlock_create_ruleset", 0, 0, 1),
    ("seccomp", 2, 0, 0),
    ("prctl", 22, 0, 0, 0, 0),
    ("mseal", 0, 0, 1),
    ("cachestat", -1, 0, 0, 0),
    ("futex_waitv", 0, 0, 0, 0, 0),
    ("statmount", 0, 0, 0, 0),
    ("get_mempolicy", 0, 0, 0, 0, 0),
    ("mbind", 0, 0, 0, 0, 0, 0),
    ("set_mempolicy", 0, 0, 0),
    ("rseq", 0, 0, 0, 0),
    ("membarrier", 0, 0, 0),
    # SC4: unsharing what is no namespace
    ("unshare", 0x400),
]

ALL = [*EPERM, *ENOSYS, *NO_FAMILY, *WORKS, *NOT_REFUSED]

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="the probe is written for x86-64"
)


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """Return what the probe found out."""
    wish = {
        "program": program(default_profile(arch="x86_64")).hex(),
        "calls": [
            [
                NUMBERS[name] if name in NUMBERS else int(name),
                [a & NOWHERE for a in args],
            ]
            for name, *args in ALL
        ],
    }
    done = subprocess.run(
        [sys.executable, "-I", PROBE],
        input=json.dumps(wish),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers: dict[str, Any] = json.loads(done.stdout)
    answers["calls"] = dict(zip(map(repr, ALL), answers["calls"], strict=True))
    return answers


def named(calls: list[Call]) -> pytest.MarkDecorator:
    """Make a test for each call."""
    return pytest.mark.parametrize("call", calls, ids=repr)


def test_one_filter(found: dict[str, Any]) -> None:
    """SC1: filters are on, and there is one more than before."""
    before, after = found["before"], found["after"]

    assert after["Seccomp"] == 2
    assert after["Seccomp_filters"] == before["Seccomp_filters"] + 1


@named(EPERM)
def test_eperm(found: dict[str, Any], call: Call) -> None:
    """SC2 to SC4, SC7, SC12, ID16: what a jail has no business with."""
    assert found["calls"][repr(call)] == -errno.EPERM


@named(ENOSYS)
def test_enosys(found: dict[str, Any], call: Call) -> None:
    """SC4 to SC6, SC11: what a jail's kernel does not have."""
    assert found["calls"][repr(call)] == -errno.ENOSYS


@named(NO_FAMILY)
def test_no_family(found: dict[str, Any], call: Call) -> None:
    """SC7, SC8: families of sockets that are not there."""
    assert found["calls"][repr(call)] == -errno.EAFNOSUPPORT


@named(WORKS)
def test_works(found: dict[str, Any], call: Call) -> None:
    """SC7, SC12: what programs use, works."""
    assert found["calls"][repr(call)] >= 0


@named(NOT_REFUSED)
def test_not_refused(found: dict[str, Any], call: Call) -> None:
    """SC13: whatever the kernel says about these calls, the filter does not refuse."""
    assert found["calls"][repr(call)] != -errno.EPERM


def test_terminal(found: dict[str, Any]) -> None:
    """SC8, SC9: nobody types into a terminal, whatever the high bits."""
    refused = [-errno.EPERM, -errno.EPERM, 0]

    assert found["typing"] == refused + refused


def test_processes(found: dict[str, Any]) -> None:
    """SC4: fork, threads and spawned programs work."""
    assert (found["fork"], found["thread"], found["spawn"]) == (0, 7, 3)


def test_tracing(found: dict[str, Any]) -> None:
    """SC14: a process may let its parent trace it."""
    assert found["traced"] == 0


def test_32_bit_entry(found: dict[str, Any]) -> None:
    """SC10: a call by ``int $0x80`` ends the process."""
    # A kernel without 32-bit programs has no such entry: a fault of the processor.
    assert -found["32 bit"] in {signal.SIGSYS, signal.SIGSEGV}
