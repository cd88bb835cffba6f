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
    READY,
    REPORT,
    STARTED,
)

__all__ = [
    "STEPS",
    "End",
    "Exited",
    "Gone",
    "Message",
    "Ready",
    "Reason",
    "Report",
    "Started",
    "receive",
    "refusal",
]

STEPS = (
    "none", "spawn", "record", "userns", "idmap", "template", "cgroup", "clone",
    "life", "cgroup_join", "fs", "tree", "overlay", "enter", "loopback", "root",
    "attach", "dir", "link", "node", "file", "mask", "readonly", "sysctl", "hostname",
    "keyring", "identity", "fork", "tty", "stdio", "rlimit", "priority", "chdir",
    "capabilities", "no_new_privs", "landlock", "seccomp", "exec",
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

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Read a ``jb_report``."""
        _, step, number, index, detail = REPORT.unpack_from(data)
        text = detail.partition(b"\0")[0].decode("utf-8", "surrogateescape")
        return cls(step, number, index, text)

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
class End:
    """Nobody is left at the other side."""


Message: TypeAlias = Report | Ready | Started | Exited | Gone | End

_SIZE = GONE.size + 16 * 512 + 64
_END = End()


def _parse(data: bytes) -> Message:
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
    return _END


def receive(channel: int) -> tuple[Message, int | None] | None:
    """
    Receive one message, without waiting; ``None`` if there is none yet.

    Returns:
        The message, and the descriptor that came with it or ``None``; owned by the
        caller.
    """
    buffer = ffi.new("char[]", _SIZE)
    fd = ffi.new("int *", -1)
    count = ffi.new("size_t *", 0)
    got = lib.jb_receive(channel, buffer, _SIZE, fd, 1, count)
    if got == -errno.EAGAIN:
        return None
    if got in {0, -errno.ECONNRESET, -errno.EPIPE}:
        return _END, None
    if got < 0:
        raise OSError(-got, os.strerror(-got))
    message = _parse(bytes(ffi.buffer(buffer, got)))
    return message, fd[0] if count[0] else None


def refusal(report: Report) -> LaunchError:
    """Make the error for a refused step, with what to do about it."""
    return LaunchError(
        report.name,
        report.errno,
        report.detail or None,
        report.index if report.index >= 0 else None,
        hint=hint(report.name, report.errno),
    )
