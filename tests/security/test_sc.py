"""
SC: which system calls a program has.
"""

import ctypes
import os
import platform
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

import jailbox as jb
from jailbox.engine.choose import default_engine
from jailbox.engine.local import LocalEngine
from jailbox.linux.seccomp import default_profile, program
from jailbox.spec.command import argv_of
from jailbox.spec.container import ContainerSpec
from jailbox.spec.image import Host
from tests.security.asking import Answers, Asker, keeper_of, on_the_host

pytestmark = pytest.mark.userns

ON_X86 = platform.machine() == "x86_64"

REFUSED = [
    "acct",
    "bpf",
    "clock_settime",
    "delete_module",
    "fanotify_init",
    "finit_module",
    "init_module",
    "kcmp",
    "kexec_file_load",
    "kexec_load",
    "lookup_dcookie",
    "migrate_pages",
    "move_pages",
    "nfsservctl",
    "open_by_handle_at",
    "perf_event_open",
    "pidfd_getfd",
    "quotactl",
    "quotactl_fd",
    "reboot",
    "settimeofday",
    "swapoff",
    "swapon",
    "syslog",
    "userfaultfd",
    "vhangup",
] + ["ioperm", "iopl"] * ON_X86

MOUNTS = [
    "fsconfig", "fsmount", "fsopen", "fspick", "mount", "mount_setattr", "move_mount",
    "open_tree", "open_tree_attr", "pivot_root", "umount2",
]  # fmt: skip

USEFUL = [
    "cachestat", "futex_waitv", "get_mempolicy", "landlock_create_ruleset", "mbind",
    "membarrier", "memfd_create", "memfd_secret", "mseal", "rseq", "seccomp",
    "set_mempolicy", "statmount",
]  # fmt: skip

NAMESPACES = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"]


def test_sc1_one_filter(answers: Answers) -> None:
    """
    SC1: A program runs under exactly one filter.
    """
    assert "2" == answers["status.Seccomp"]
    assert "1" == answers["status.Seccomp_filters"]


@pytest.mark.parametrize("name", REFUSED)
def test_sc2_calls_of_administrators(name: str, answers: Answers) -> None:
    """
    SC2: What administers a machine, or has opened the kernel before, is EPERM.
    """
    assert "EPERM" == answers[f"call.{name}"]


@pytest.mark.parametrize("name", MOUNTS)
def test_sc3_mounts(name: str, answers: Answers) -> None:
    """
    SC3: Every call that makes or changes a mount is EPERM, the new ones too.
    """
    assert "EPERM" == answers[f"call.{name}"]


class TestSc4:
    def test_namespaces(self, answers: Answers) -> None:
        """
        SC4: No namespace can be joined or made, by unshare or by clone.
        """
        assert "EPERM" == answers["call.setns"]
        for name in [*NAMESPACES, "time"]:
            assert "EPERM" == answers[f"unshare.{name}"], name
        for name in NAMESPACES:
            assert "EPERM" == answers[f"clone.{name}"], name

    def test_clone3(self, answers: Answers) -> None:
        """
        SC4: clone3, whose flags no filter sees, does not exist.
        """
        assert "ENOSYS" == answers["call.clone3"]

    def test_processes_and_threads(self, answers: Answers) -> None:
        """
        SC4: fork, vfork, posix_spawn and threads of the C library work.
        """
        assert {"ok"} == set(answers.group("fork").values())


def test_sc5_io_uring(answers: Answers) -> None:
    """
    SC5: io_uring, which makes calls that no filter sees, does not exist.
    """
    for name in ("setup", "enter", "register"):
        assert "ENOSYS" == answers[f"call.io_uring_{name}"]


def test_sc6_unknown_calls(answers: Answers) -> None:
    """
    SC6: Numbers that no table knows are ENOSYS, so that programs fall back.
    """
    assert {"ENOSYS"} == {answers[f"call.{n}"] for n in ("999", "1023", "next")}


class TestSc7:
    def test_refused_families(self, answers: Answers) -> None:
        """
        SC7: Rare families of sockets, AF_ALG and AF_VSOCK among them, do not exist;
        nor does the audit protocol.
        """
        for family in (15, 21, 30, 31, 38, 40, 44, "audit", "pair-alg"):
            assert "EAFNOSUPPORT" == answers[f"socket.{family}"], family

    def test_usual_families(self, answers: Answers) -> None:
        """
        SC7: Local, internet and routing sockets work; raw ones are EPERM, and ping
        does not need them.
        """
        for family in ("unix", "inet", "inet6", "route"):
            assert "ok" == answers[f"socket.{family}"], family
        assert "EPERM" == answers["socket.packet"]
        assert "EPERM" == answers["socket.raw"]
        assert "ok" == answers["socket.ping"]


def test_sc8_garbage_in_upper_bits(answers: Answers) -> None:
    """
    SC8: Bits that the kernel does not look at change no verdict (CVE-2019-10063).
    """
    assert "EAFNOSUPPORT" == answers["socket.alg-garbage"]
    assert "EAFNOSUPPORT" == answers["socket.audit-garbage"]
    assert "EPERM" == answers["pty.TIOCSTI-garbage"]
    assert "EPERM" == answers["pty.TIOCLINUX-garbage"]
    for name in NAMESPACES:
        assert "EPERM" == answers[f"unshare.garbage-{name}"], name
        assert "EPERM" == answers[f"clone.garbage-{name}"], name
    for value in ("1", "40000", "100000", "400000", "8000000"):
        assert "EPERM" == answers[f"personality.garbage-{value}"], value


def test_sc9_typing_into_a_terminal(answers: Answers) -> None:
    """
    SC9: Nothing can be typed into a terminal or pasted into a console, not even into
    the program's own.
    """
    assert "ok" == answers["pty.peer"]
    assert "EPERM" == answers["pty.TIOCSTI"]
    assert "EPERM" == answers["pty.TIOCLINUX"]


@pytest.mark.skipif(not ON_X86, reason="another architecture has no such calls")
def test_sc10_calls_of_32_bit(answers: Answers) -> None:
    """
    SC10: The 32-bit way into the kernel is closed: it would pass by the numbers that
    the filter compares.
    """
    for name in ("int80-getpid", "int80-socketcall"):
        assert answers[f"abi.{name}"] in {"SIGSYS", "ENOSYS"}


@pytest.mark.skipif(not ON_X86, reason="another architecture has no such calls")
def test_sc11_calls_of_x32(answers: Answers) -> None:
    """
    SC11: Numbers of the x32 interface do not exist.
    """
    assert "ENOSYS" == answers["abi.x32-getpid"]


def test_sc12_personality(answers: Answers) -> None:
    """
    SC12: A program may ask for its personality and look like a 32-bit one; it may not
    take protections away.
    """
    for value in ("0", "8", "20000", "20008", "ffffffff"):
        assert "ok" == answers[f"personality.{value}"], value
    for value in ("1", "40000", "100000", "400000", "8000000"):
        assert "EPERM" == answers[f"personality.{value}"], value


@pytest.mark.parametrize("name", USEFUL)
def test_sc13_what_programs_use(name: str, answers: Answers) -> None:
    """
    SC13: What programs use and what harms nobody is not EPERM.
    """
    assert "EPERM" != answers[f"call.{name}"]
    assert "EINVAL" == answers["prctl.seccomp"]


class TestSc14:
    def test_own_children(self, answers: Answers) -> None:
        """
        SC14: A debugger works on its own children.
        """
        assert "ok" == answers["ptrace.child"]

    def test_init(self, answers: Answers) -> None:
        """
        SC14: Our process in a jail can be neither traced nor read.
        """
        assert "EPERM" == answers["ptrace.init"]
        assert "EPERM" == answers["ptrace.init-read"]


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.parametrize("error", ["EINVAL", "ENOMEM", "EFAULT"])
def test_sc15_no_start_without_the_filter(error: str, tmp_path: Path) -> None:
    """
    SC15: Where the kernel refuses the filter, the start fails at that step, and the
    program does not run.
    """
    if shutil.which("strace") is None:
        pytest.skip("no strace")
    script = (
        "import jailbox as jb, sys\n"
        "image = jb.Image.host()\n"
        "jb.run(image, ['true'])\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "try:\n"
        f"    mount = jb.Mount.bind({str(tmp_path)!r}, '/out', writable=True)\n"
        "    jb.run(image, ['touch', '/out/ran'], mounts=[mount])\n"
        "except jb.LaunchError as error:\n"
        "    print(error.step)\n"
    )
    pipe = subprocess.PIPE
    words = ["strace", "-f", "-o", "/dev/null", "-e", f"inject=seccomp:error={error}"]
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=pipe, stdout=pipe, text=True
    ) as host:
        assert host.stdout is not None
        assert "ready\n" == host.stdout.readline()
        words += ["-p", str(keeper_of(host.pid))]
        with subprocess.Popen(words, stderr=pipe, text=True) as tracer:
            assert tracer.stderr is not None
            assert "attached" in tracer.stderr.readline()
            said, _ = host.communicate("go\n", timeout=20)
            tracer.terminate()
            tracer.stderr.read()

    assert "seccomp\n" == said
    assert [] == os.listdir(tmp_path)


class TestSc16:
    def test_images_and_variables_change_nothing(self, tmp_path: Path) -> None:
        """
        SC16: The filter depends on the capabilities and the explicit argument alone:
        not on variables, labels, users, commands or mounts.
        """
        engine = default_engine()
        assert isinstance(engine, LocalEngine)
        plain = ContainerSpec(image=Host(), command=argv_of(["true"]))
        dressed = ContainerSpec(
            image=Host(),
            command=argv_of(["sh", "-c", "seccomp=unconfined"]),
            env={"SECCOMP": "unconfined", "JAILBOX_SECCOMP": "unconfined"},
            labels={"seccomp": "unconfined", "jailbox.seccomp": "unconfined"},
            mounts=[jb.Mount.bind(tmp_path, "/x", writable=True)],
        )
        filters = {
            engine.compile(spec, engine.rootfs(spec), hostname="box").security.seccomp
            for spec in (plain, dressed)
        }

        assert 1 == len(filters)

    def test_the_argument_does(self, ask: Asker) -> None:
        """
        SC16: Only the argument that is called so turns the filter off.
        """
        security = attrs.evolve(jb.Security(), seccomp="unconfined")
        answers = ask(jb.Image.host(), "ids", security=security)

        assert "0" == answers["status.Seccomp"]


def test_sc17_priorities(answers: Answers) -> None:
    """
    SC17: No real-time scheduling, and no better niceness.
    """
    assert "EPERM" == answers["sched.fifo"]
    assert answers["sched.nice"] in {"EACCES", "EPERM"}


@pytest.mark.root
def test_sc18_the_filter_is_the_golden_one(ask: Asker) -> None:
    """
    SC18: What the kernel runs for a program is, instruction for instruction, what the
    default profile compiles to; its review is a golden file.
    """
    expected = program(default_profile(arch=platform.machine()))
    with jb.Container(jb.Image.host(), mounts=[ask.mount]) as jail:
        marker = f"jailbox-{os.urandom(8).hex()}"
        with jail.popen(["sh", "-c", "read line", marker], stdin=True) as process:
            loaded = _filter_of(on_the_host(marker))
            process.kill()
            process.wait(5)

    assert expected == loaded


_PTRACE_SEIZE, _PTRACE_INTERRUPT, _PTRACE_DETACH = 0x4206, 0x4207, 17
_PTRACE_GET_FILTER = 0x420C


def _filter_of(pid: int) -> bytes:
    """Read the filter of a process back from the kernel, ptrace(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.restype = ctypes.c_long
    libc.ptrace.argtypes = [
        ctypes.c_long,
        ctypes.c_long,
        ctypes.c_long,
        ctypes.c_void_p,
    ]

    def ptrace(request: int, number: int = 0, data: object = None) -> int:
        found = libc.ptrace(request, pid, number, data)
        if found < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return int(found)

    ptrace(_PTRACE_SEIZE)
    try:
        ptrace(_PTRACE_INTERRUPT)
        os.waitpid(pid, 0x40000000)
        count = ptrace(_PTRACE_GET_FILTER)
        buffer = ctypes.create_string_buffer(count * struct.calcsize("HBBI"))
        ptrace(_PTRACE_GET_FILTER, 0, buffer)
        return buffer.raw
    finally:
        ptrace(_PTRACE_DETACH)
