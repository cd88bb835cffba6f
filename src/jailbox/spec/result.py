"""
What came of a program: how it ended, what it wrote, what it used.

Plain facts, brought by `jailbox.run`; nothing here measures. The sentences made of
them are in `jailbox.spec.explain`.
"""

from enum import StrEnum
from typing import TYPE_CHECKING, Generic, Literal, Self, TypeAlias

import attrs

from jailbox.errors import ExitError, LimitExceeded, OutOfMemory, printable, shown
from jailbox.spec.limits import DEFAULT_LIMITS, Limits
from jailbox.spec.signals import signal_name
from jailbox.spec.units import format_duration, format_size

if TYPE_CHECKING:
    # Only type checkers need to know that Result alone means Result[str]; they bring
    # typing_extensions with them, a running program does not.
    from typing_extensions import TypeVar

    Text = TypeVar("Text", str, bytes, default=str)
else:
    from typing import TypeVar

    Text = TypeVar("Text", str, bytes)

__all__ = ["DEFAULT_USAGE", "Cause", "CauseKind", "Result", "Usage", "Verdict"]


class Verdict(StrEnum):
    """
    Why a program ended.

    Read from the side of the jail's init, so that the program cannot fake it.
    """

    OK = "ok"
    """It exited with code 0."""

    EXIT = "exit"
    """It exited with another code."""

    SIGNAL = "signal"
    """A signal ended it, that no limit sent."""

    MEMORY = "memory"
    """The memory limit was reached."""

    CPU_TIME = "cpu_time"
    """The processor time of the whole tree was used up."""

    WALL = "wall"
    """The wall-clock time was used up."""

    PIDS = "pids"
    """It failed after the limit of processes had been reached."""

    DISK = "disk"
    """It failed after the writable layer was full."""

    OUTPUT = "output"
    """It wrote more than a stream may hold."""

    DENIED = "denied"
    """It made a system call for which the filter kills."""

    @property
    def is_limit(self) -> bool:
        """Whether a limit of the run was the reason."""
        return self in _LIMITS


_LIMITS = frozenset(
    {
        Verdict.MEMORY,
        Verdict.CPU_TIME,
        Verdict.WALL,
        Verdict.PIDS,
        Verdict.DISK,
        Verdict.OUTPUT,
    }
)

CauseKind: TypeAlias = Literal[
    "missing", "permission", "interpreter", "loader", "architecture", "format"
]


@attrs.frozen
class Cause:
    """
    Why a program could not be executed at all.

    Attributes:
        kind: ``missing``: no such file. ``permission``: not executable for that user,
            or a mount forbids it. ``interpreter``: the program of its ``#!`` line is
            missing. ``loader``: its dynamic loader is missing. ``architecture``: made
            for another processor. ``format``: no program at all.

        path: The program.

        detail: The interpreter, the loader, or the architecture; ``None`` if unknown.
    """

    kind: CauseKind
    path: str
    detail: str | None = None


@attrs.frozen(kw_only=True)
class Usage:
    """
    What a program and everything it started have used.

    >>> Usage(cpu_user=1.5, cpu_system=0.5, wall=2.1).cpu
    2.0

    Attributes:
        cpu_user: Seconds of processor time outside of the kernel.

        cpu_system: Seconds of processor time in the kernel.

        wall: Seconds from start to end.

        memory_peak: The most bytes in use at one time; ``None`` if not measured.

        io_read: Bytes read from block devices; ``None`` if not measured.

        io_written: Bytes written to block devices; ``None`` if not measured.

        processes: The most processes at one time; ``None`` if not measured.
    """

    cpu_user: float = 0.0
    cpu_system: float = 0.0
    wall: float = 0.0
    memory_peak: int | None = None
    io_read: int | None = None
    io_written: int | None = None
    processes: int | None = None

    @property
    def cpu(self) -> float:
        """Seconds of processor time, in and outside of the kernel."""
        return self.cpu_user + self.cpu_system

    def __str__(self) -> str:
        parts = [
            f"cpu {format_duration(self.cpu)}",
            f"wall {format_duration(self.wall)}",
        ]
        if self.memory_peak is not None:
            parts.append(f"memory {format_size(self.memory_peak)}")
        if self.io_read is not None:
            parts.append(f"read {format_size(self.io_read)}")
        if self.io_written is not None:
            parts.append(f"written {format_size(self.io_written)}")
        if self.processes is not None:
            parts.append(f"processes {self.processes}")
        return ", ".join(parts)


_LAST_WORDS, _LAST_LINES = 800, 5

DEFAULT_USAGE = Usage()
"""Nothing used."""


@attrs.frozen(kw_only=True, repr=False)
class Result(Generic[Text]):
    """
    What came of a program.

    ``Result[str]`` by default, ``Result[bytes]`` for ``text=False``.

    Attributes:
        argv: The program and its arguments.

        stdout: What it wrote, as far as it was kept.

        stderr: What it wrote there, as far as it was kept; empty with a terminal.

        exit_code: Its exit code; ``None`` if a signal ended it.

        signal: The number of the signal that ended it; ``None`` if it exited.

        verdict: Why it ended.

        usage: What it used.

        limits: The limits it ran under.

        truncated: Whether output was cut off.

        degraded: Protections and limits that were not applied, as had been allowed.

        cause: Why it could not be executed; ``None`` if it could.
    """

    argv: tuple[str, ...]
    stdout: Text
    stderr: Text
    exit_code: int | None = None
    signal: int | None = None
    verdict: Verdict = attrs.field(converter=Verdict)
    usage: Usage = DEFAULT_USAGE
    limits: Limits = DEFAULT_LIMITS
    truncated: bool = False
    degraded: tuple[str, ...] = ()
    cause: Cause | None = None

    @property
    def ok(self) -> bool:
        """Whether it exited with code 0 and no limit was in the way."""
        return self.verdict is Verdict.OK

    @property
    def returncode(self) -> int:
        """The exit code, or minus the number of the signal, as in ``subprocess``."""
        if self.exit_code is not None:
            return self.exit_code
        return -(self.signal or 0)

    @property
    def program(self) -> str:
        """The name of the program, without directory, fit to print."""
        name = self.argv[0].rpartition("/")[2] if self.argv else ""
        return printable(name)[:64] or "the program"

    def summary(self) -> str:
        """Say how it ended, in half a sentence: ``make exited with code 2``."""
        if self.verdict.is_limit:
            return f"{self.program} ended: {_REACHED[self.verdict]}"
        if self.verdict is Verdict.DENIED:
            return f"{self.program} ended: a system call was denied"
        if self.exit_code is not None:
            return f"{self.program} exited with code {self.exit_code}"
        if self.signal is not None:
            return f"{self.program} was killed by {signal_name(self.signal)}"
        return f"{self.program} ended: {self.verdict}"

    def last_words(self) -> str:
        """
        The last lines of stderr, fit to print: at most five, indented.

        What was written comes from a jail, so control characters are escaped.
        """
        tail: str | bytes = self.stderr[-_LAST_WORDS:]
        text = tail if isinstance(tail, str) else tail.decode("utf-8", "replace")
        lines = text.rstrip().splitlines()[-_LAST_LINES:]
        return "\n".join(f"    {printable(line)}" for line in lines)

    def explain(self) -> str:
        """Say why it ended, and what to do about it, in sentences."""
        # Only asked when something went wrong: importing it now keeps imports short.
        from jailbox.spec.explain import explain

        return explain(self)

    def check(self) -> Self:
        """
        Return this result if the program ended well.

        Raises:
            OutOfMemory: If the memory limit was reached.

            LimitExceeded: If another limit was reached.

            ExitError: If it exited with another code than 0, or a signal ended it.
        """
        if self.ok:
            return self
        if self.verdict is Verdict.MEMORY:
            raise OutOfMemory(self)
        raise (LimitExceeded if self.verdict.is_limit else ExitError)(self)

    def __repr__(self) -> str:
        parts = [shown(list(self.argv[:4])), f"verdict={str(self.verdict)!r}"]
        if self.exit_code is not None:
            parts.append(f"exit_code={self.exit_code}")
        if self.signal is not None:
            parts.append(f"signal={self.signal}")
        parts += [f"stdout={shown(self.stdout)}", f"stderr={shown(self.stderr)}"]
        if self.truncated:
            parts.append("truncated=True")
        if self.degraded:
            parts.append(f"degraded={shown(self.degraded)}")
        return f"Result({', '.join(parts)})"


_REACHED = {
    Verdict.MEMORY: "memory limit reached",
    Verdict.CPU_TIME: "processor time used up",
    Verdict.WALL: "time used up",
    Verdict.PIDS: "limit of processes reached",
    Verdict.DISK: "writable layer full",
    Verdict.OUTPUT: "too much output",
}
