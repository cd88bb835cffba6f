"""
Asking the kernel from inside a jail, and what the answers are.

A jail is started once with a static program (``probe.c``) that asks dozens of
questions; the tests of this folder compare its answers. What it is not: a list of
what must hold. That is in the tests, by the identifiers of the project's security
checks.
"""

import contextlib
import ctypes
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

import jailbox as jb
from tests.leaks import tasks

PROBE = "/probe"
"""Where the probe is in a jail."""

DENIED = frozenset({"EPERM", "EACCES"})
UNWRITABLE = frozenset({"EROFS", "EACCES", "EPERM", "ENOENT"})


@attrs.frozen
class Answers:
    """What a probe said: by group and name."""

    text: str
    lines: Mapping[str, str]

    @classmethod
    def of(cls, text: str) -> "Answers":
        """Read the output of a probe."""
        pairs = [line.partition("=") for line in text.splitlines()]
        return cls(text, {name: value for name, _, value in pairs})

    def __getitem__(self, name: str) -> str:
        return self.lines[name]

    def __contains__(self, name: object) -> bool:
        return name in self.lines

    def group(self, name: str) -> dict[str, str]:
        """All answers of one group."""
        start = f"{name}."
        return {
            key.removeprefix(start): value
            for key, value in self.lines.items()
            if key.startswith(start)
        }

    @property
    def mounts(self) -> dict[str, "MountLine"]:
        """The mounts of the jail, by place; the uppermost one of each."""
        lines = [MountLine.of(text) for text in self.group("mountinfo").values()]
        return {line.place: line for line in lines}


@attrs.frozen
class MountLine:
    """One line of ``/proc/self/mountinfo``."""

    root: str
    place: str
    options: frozenset[str]
    tags: tuple[str, ...]
    kind: str
    source: str
    text: str

    @classmethod
    def of(cls, text: str) -> "MountLine":
        """Read a line, proc_pid_mountinfo(5)."""
        left, _, right = text.partition(" - ")
        _, _, _, root, place, options, *tags = left.split()
        kind, source, _ = right.split(" ", 2)
        flags = frozenset(options.split(","))
        return cls(root, place, flags, tuple(tags), kind, source, text)


def gone(pid: int, *, within: float) -> bool:
    """Wait until there is no such process, or a dead one that nobody reaped."""
    deadline = time.monotonic() + within
    while (task := tasks().get(pid)) is not None and not task.is_dead:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


def keeper_of(host: int) -> int:
    """
    Find the keeper of a host process: it holds a pidfd of its host.

    So do, for a moment, the children with which it makes namespaces ahead. They have
    its name too, and a lower number than it once the numbers have wrapped around.
    """
    found = {
        pid: task.parent
        for pid, task in tasks().items()
        if task.name == "jailbox-keeper" and _holds_pidfd_of(host, by=pid)
    }
    for pid, parent in found.items():
        if parent not in found:
            return pid
    raise AssertionError("no keeper")


def _holds_pidfd_of(host: int, *, by: int) -> bool:
    """Whether a process, which may end meanwhile, has a pidfd of *host*."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for fd in os.listdir(f"/proc/{by}/fdinfo"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                info = Path(f"/proc/{by}/fdinfo/{fd}").read_text(encoding="ascii")
                if f"\nPid:\t{host}\n" in info:
                    return True
    return False


def on_the_host(marker: str) -> int:
    """Find the process that has *marker* in its command line, as the host sees it."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        for entry in os.listdir("/proc"):
            if not entry.isdecimal() or int(entry) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                line = Path(f"/proc/{entry}/cmdline").read_bytes()
                if marker.encode() in line:
                    return int(entry)
    raise AssertionError(f"no process has {marker} in its command line")


def compile_probe(place: Path) -> Path:
    """Compile the probe into *place*, statically."""
    program = place / "probe"
    source = Path(__file__).parent / "probe.c"
    subprocess.run(
        ["gcc", "-O1", "-static", "-Wall", "-Werror", "-o", program, source],
        check=True,
    )
    program.chmod(0o755)
    return program


@attrs.frozen
class Asker:
    """Starts jails with a probe in them."""

    program: Path

    @property
    def mount(self) -> jb.Mount:
        """The probe, as it is seen in a jail."""
        return jb.Mount.bind(self.program, PROBE)

    def run(self, image: jb.Image, *words: str, **options: Any) -> jb.Result[str]:  # noqa: ANN401
        """Run the probe in a jail of its own."""
        mounts = [self.mount, *options.pop("mounts", ())]
        options.setdefault("timeout", 30)
        return jb.run(image, [PROBE, *words], mounts=mounts, **options)

    def __call__(self, image: jb.Image, *words: str, **options: Any) -> Answers:  # noqa: ANN401
        """Ask in a jail of its own, and demand answers."""
        result = self.run(image, *words, **options)
        assert result.ok, result
        return Answers.of(result.stdout)


@attrs.frozen
class HostThings:
    """
    What exists on the host and must not be found by a jail.

    Attributes:
        ipc_key: Key of a segment, a semaphore and a queue of System V.

        mqueue: Name of a POSIX message queue.

        abstract: Name of a listening abstract socket.

        port: Of a listening socket on 127.0.0.1.
    """

    ipc_key: int
    mqueue: str
    abstract: str
    port: int

    def environment(self) -> dict[str, str]:
        """Tell a probe."""
        return {
            "PROBE_ABSTRACT": self.abstract,
            "PROBE_HOST_PID": str(os.getpid()),
            "PROBE_IPC_KEY": str(self.ipc_key),
            "PROBE_MQUEUE": self.mqueue,
            "PROBE_PORT": str(self.port),
        }


_LIBC = ctypes.CDLL(None, use_errno=True)
_CREATE = 0o1000 | 0o600
_REMOVE = 0


def _made(number: int) -> int:
    if number < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return number


@contextlib.contextmanager
def host_things() -> Iterator[HostThings]:
    """Make them, and take them away."""
    key = 0x4A420000 | os.getpid() & 0xFFFF
    mqueue = f"/jailbox-tests-{os.getpid()}"
    with contextlib.ExitStack() as stack:
        shm = _made(_LIBC.shmget(key, 4096, _CREATE))
        stack.callback(_LIBC.shmctl, shm, _REMOVE, None)
        sem = _made(_LIBC.semget(key, 1, _CREATE))
        stack.callback(_LIBC.semctl, sem, 0, _REMOVE)
        msg = _made(_LIBC.msgget(key, _CREATE))
        stack.callback(_LIBC.msgctl, msg, _REMOVE, None)
        queue = _made(_LIBC.mq_open(mqueue.encode(), 0o102, 0o600, None))
        stack.callback(_LIBC.mq_unlink, mqueue.encode())
        stack.callback(os.close, queue)
        abstract = f"jailbox-tests-{os.getpid()}"
        unix = stack.enter_context(socket.socket(socket.AF_UNIX))
        unix.bind(f"\0{abstract}")
        unix.listen()
        inet = stack.enter_context(socket.socket())
        inet.bind(("127.0.0.1", 0))
        inet.listen()
        yield HostThings(key, mqueue, abstract, inet.getsockname()[1])
