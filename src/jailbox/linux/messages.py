"""
What comes back on a channel, as frozen values, and refusals as errors.

The one place where (step, errno) of the C part becomes a `LaunchError`.
"""

import errno
import os
from typing import Self, TypeAlias

import attrs

from jailbox._native import ffi, lib
from jailbox.errors import LaunchError
from jailbox.linux.hints import hint
from jailbox.linux.record import (
    EXITED,
    GONE,
    MESSAGE_EXITED,
    MESSAGE_GONE,
    MESSAGE_READY,
    MESSAGE_REPORT,
    MESSAGE_STARTED,
    MESSAGE_WORKED,
    READY,
    REPORT,
    STARTED,
    WORKED,
)
from jailbox.spec.explain import explain_cause
from jailbox.spec.result import Cause

__all__ = [
    "END",
    "STEPS",
    "End",
    "Exited",
    "Gone",
    "Inbox",
    "Message",
    "Ready",
    "Reason",
    "Report",
    "Started",
    "Worked",
    "parse",
    "receive",
    "refusal",
]

STEPS = (
    "none", "spawn", "record", "userns", "idmap", "template", "cgroup", "clone",
    "life", "cgroup_join", "fs", "tree", "overlay", "enter", "loopback", "root",
    "attach", "dir", "link", "node", "file", "mask", "readonly", "sysctl", "hostname",
    "keyring", "identity", "fork", "tty", "stdio", "rlimit", "priority", "chdir",
    "capabilities", "no_new_privs", "landlock", "seccomp", "exec", "work",
)  # fmt: skip
"""Names of ``enum jb_step``, by number."""


class Reason:
    """Numbers of ``enum jb_reason``: what a supervisor brought about."""

    NONE, WALL, CPU_TIME, TIMEOUT, ABANDONED = range(5)


@attrs.frozen
class Report:
    """A step was refused."""

    step: int
    errno: int
    index: int
    detail: str
    head: bytes = b""

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Read a ``jb_report``."""
        _, step, number, index, detail = REPORT.unpack_from(data)
        name, _, head = detail.partition(b"\0")
        text = name.decode("utf-8", "surrogateescape")
        return cls(step, number, index, text, head)

    @property
    def name(self) -> str:
        """The step by its name."""
        return STEPS[self.step] if 0 <= self.step < len(STEPS) else f"{self.step}"


@attrs.frozen
class Ready:
    """The jail is complete and takes requests."""

    id_base: int
    id_count: int


@attrs.frozen
class Started:
    """The program has been executed; *pid* is its number in the jail."""

    pid: int


@attrs.frozen
class Exited:
    """The program has ended; times in seconds, sizes in bytes."""

    status: int
    reason: int
    disk_full: bool
    cpu_user: float
    cpu_system: float
    max_rss: int
    wall: float


@attrs.frozen
class Gone:
    """Nothing of the jail is left. *collected* are files of its groups, in order."""

    status: int
    cpu_user: float
    cpu_system: float
    max_rss: int
    cleanup_errno: int
    collected: tuple[bytes, ...]


@attrs.frozen
class Worked:
    """
    A worker has done what it could.

    Attributes:
        reason: Number of ``enum jb_work_reason``; 0: all of it.

        errno: What the kernel said, or 0.

        flags: Of ``JB_WORKED_*``.

        entry: The entry in question, from 0.

        entries: How many were done.

        moved: How many bytes were moved.

        numbers: Four more, of the kind.

        resident: Memory that it had at its end, in bytes; 0 if it could not tell.

        detail: What it was working on: a path.
    """

    reason: int
    errno: int
    flags: int
    entry: int
    entries: int
    moved: int
    numbers: tuple[int, ...]
    resident: int
    detail: bytes


@attrs.frozen
class End:
    """Nobody is left at the other side."""


Message: TypeAlias = Report | Ready | Started | Exited | Gone | Worked | End

_SIZE = GONE.size + 16 * 512 + 64
END = End()


def parse(data: bytes) -> Message:
    """Read one message."""
    kind = int.from_bytes(data[:4], "little")
    if kind == MESSAGE_REPORT:
        return Report.read(data)
    if kind == MESSAGE_READY:
        return Ready(*READY.unpack_from(data)[2:])
    if kind == MESSAGE_STARTED:
        return Started(STARTED.unpack_from(data)[1])
    if kind == MESSAGE_EXITED:
        _, status, reason, full, user, system, rss, wall = EXITED.unpack_from(data)
        return Exited(
            status, reason, bool(full), user / 1e9, system / 1e9, rss, wall / 1e9
        )
    if kind == MESSAGE_GONE:
        _, status, user, system, rss, left, count, *lengths = GONE.unpack_from(data)
        texts, at = [], GONE.size
        for length in lengths[:count]:
            texts.append(data[at : at + length])
            at += length
        return Gone(status, user / 1e9, system / 1e9, rss, left, tuple(texts))
    if kind == MESSAGE_WORKED:
        _, reason, number, flags, entry, entries, moved, *rest = WORKED.unpack_from(
            data
        )
        *numbers, resident, size, _ = rest
        return Worked(
            reason,
            number,
            flags,
            entry,
            entries,
            moved,
            tuple(numbers),
            resident,
            detail=data[WORKED.size : WORKED.size + size],
        )
    return END


class Inbox:
    """Room for one message, used again and again by one thread at a time."""

    __slots__ = ("_buffer", "_count", "_fd")

    def __init__(self) -> None:
        self._buffer = ffi.new("char[]", _SIZE)
        self._fd = ffi.new("int *", -1)
        self._count = ffi.new("size_t *", 0)

    def receive(self, channel: int) -> tuple[Message, int | None] | None:
        """
        Receive one message, without waiting; ``None`` if there is none yet.

        Returns:
            The message, and the descriptor that came with it or ``None``; owned by
            the caller.
        """
        buffer, fd, count = self._buffer, self._fd, self._count
        got = -errno.ECONNRESET
        while got == -errno.ECONNRESET:
            # Said once, and before what is still waiting to be read, when the other
            # side ended without having read all of ours: no reason to lose its last
            # words.
            got = lib.jb_receive(channel, buffer, _SIZE, fd, 1, count)
        if got == -errno.EAGAIN:
            return None
        if got in {0, -errno.EPIPE}:
            return END, None
        if got < 0:
            raise OSError(-got, os.strerror(-got))
        message = parse(ffi.buffer(buffer, got)[:])
        return message, fd[0] if count[0] else None


def receive(channel: int) -> tuple[Message, int | None] | None:
    """Receive one message, as `Inbox.receive`."""
    return Inbox().receive(channel)


def refusal(report: Report) -> LaunchError:
    """Make the error for a refused step, with what to do about it."""
    cause = _cause(report) if report.name == "exec" else None
    advice = explain_cause(cause) if cause else hint(report.name, report.errno)
    # Of a program the index only says whether the file is there.
    numbered = report.index >= 0 and report.name != "exec"
    return LaunchError(
        report.name,
        report.errno,
        report.detail or None,
        report.index if numbered else None,
        cause=cause,
        hint=advice,
    )


# Numbers of processors in ELF (elf.h), by the kernel's names for them.
_MACHINES = {
    2: "sparc", 3: "i686", 8: "mips", 20: "ppc", 21: "ppc64", 22: "s390x", 40: "arm",
    50: "ia64", 62: "x86_64", 183: "aarch64", 243: "riscv64", 247: "BPF",
    258: "loongarch64",
}  # fmt: skip
_ELF = b"\x7fELF"
_QUOTED = 20  # bytes of an ELF that _native/program.c quotes


def _cause(report: Report) -> Cause | None:
    """Tell from a refused exec, and how the file begins, what is wrong with it."""
    path, head = report.detail, report.head
    if report.errno == errno.EACCES:
        return Cause("permission", path)
    if report.errno == errno.ENOENT and report.index < 0:
        return Cause("missing", path)
    if report.errno == errno.ENOENT and head.startswith(_ELF):
        return Cause("loader", path, _name(head[_QUOTED:]))
    if report.errno == errno.ENOENT and head.startswith(b"#!"):
        line = head[2:].split(b"\n")[0].strip(b" \t")
        return Cause(
            "interpreter", path, _name(line.replace(b"\t", b" ").split(b" ")[0])
        )
    if report.errno != errno.ENOEXEC:
        return None
    if head.startswith(_ELF):
        number = int.from_bytes(head[18:20], "big" if head[5] == 2 else "little")  # noqa: PLR2004
        machine = _MACHINES.get(number, f"machine {number}")
        if machine != os.uname().machine:
            return Cause("architecture", path, machine)
    return Cause("format", path)


def _name(text: bytes) -> str | None:
    return text.partition(b"\0")[0].decode("utf-8", "surrogateescape") or None
