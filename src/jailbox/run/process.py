"""
One program in a jail: talk to it, wait for it, end it.

Written as flows; the faces below them are one line each. A `Process` owns its
descriptors and, for an exec, everything that the program started: dropping it ends
them.
"""

import math
import os
import sys
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Generic, Self

from jailbox.errors import DeadlineExceeded, EngineError, SpecError
from jailbox.flow import Flow, drive, ready
from jailbox.linux.messages import Exited, Reason, refusal
from jailbox.run.channel import Channel
from jailbox.run.outcome import Wiring, outcome
from jailbox.run.streams import Capture, Feed, Record, StreamName, lines_of
from jailbox.run.verdict import exit_code_of, signal_of
from jailbox.spec.command import Input
from jailbox.spec.result import Result, Text
from jailbox.spec.signals import signal_number
from jailbox.spec.units import parse_duration

__all__ = ["Process", "Wiring"]

_SIGKILL = 9
_SIGTERM = 15
_END_PATIENCE = 10.0
"""Seconds that the end of a killed jail may take before we say that something is wrong.
The keeper itself gives up on a busy control group after five."""

_LOOK = 0.015
"""Seconds after its deadline that a monitor usually takes."""

_LATE = 0.25
"""Seconds after its deadline that a monitor may take before we end the whole jail."""


def _close_leftovers(owner: int, channel: Channel, kill: Callable[[], None]) -> None:
    """End what a dropped process left running; a forked child ends nothing."""
    if os.getpid() == owner:
        kill()
    channel.close()


class Process(Generic[Text]):
    """
    A program that runs, or has run, in a container.

    Iterating gives its output line by line, as it comes; `communicate` gives it
    input and waits. Use it as a context manager, or wait for it: dropped while it
    runs, it is ended, with a ``ResourceWarning``.

    Attributes:
        argv: The program and its arguments.
    """

    def __init__(
        self,
        wiring: Wiring,
        channel: Channel,
        *,
        stdin: int | None,
        stdout: int | None,
        stderr: int | None,
        max_output: int,
    ) -> None:
        self.argv = wiring.argv
        self._wiring = wiring
        self._channel = channel
        self._stdin = stdin
        self._feed: Feed | None = None
        bound = wiring.limits.output
        self._hard = bound is not None
        limit = max_output if bound is None else bound
        self._captures: list[Capture] = []
        if stdout is not None:
            self._captures.append(Capture(stdout, "stdout", limit))
        if stderr is not None:
            self._captures.append(Capture(stderr, "stderr", limit))
        self._limit = limit
        self._exceeded = False
        self._timed_out = False
        self._looked = False
        self._left: Exited | None = None
        self._began = time.monotonic()
        self._deadline = (
            None if wiring.timeout is None else self._began + wiring.timeout
        )
        self._result: Result[Text] | None = None
        self._closer: weakref.finalize[Any, Any] = weakref.finalize(
            self, _close_leftovers, os.getpid() if wiring.owned else 0, channel,
            wiring.kill,
        )  # fmt: skip
        self._closer.atexit = False

    # --- what is known -----------------------------------------------------

    @property
    def pid(self) -> int | None:
        """Its number in the jail; ``None`` before it was executed."""
        started = self._channel.started
        return None if started is None else started.pid

    @property
    def returncode(self) -> int | None:
        """As in ``subprocess``; ``None`` while it runs. Looks without waiting."""
        exited = self._exited()
        if exited is None:
            return None
        code = exit_code_of(exited.status)
        return code if code is not None else -(signal_of(exited.status) or 0)

    def poll(self) -> int | None:
        """The same as `returncode`."""
        return self.returncode

    def _exited(self) -> Exited | None:
        channel = self._channel
        if channel.exited is None and not channel.over:
            channel.update()
        if channel.exited is None and self._left is not None:
            return self._left
        if channel.exited is None and channel.over:
            # Killed together with its supervisor.
            return self._killed()
        return channel.exited

    def _killed(self) -> Exited:
        """Its end, as far as that is known when nobody tells of it."""
        return Exited(
            status=_SIGKILL,
            reason=Reason.NONE,
            disk_full=False,
            cpu_user=0.0,
            cpu_system=0.0,
            max_rss=0,
            wall=time.monotonic() - self._began,
        )

    def _finished(self) -> bool:
        channel = self._channel
        if channel.over or self._left is not None:
            return True
        return channel.exited is not None and not self._wiring.whole_jail

    # --- flows -------------------------------------------------------------

    def begin(self) -> Flow[None]:
        """
        Wait until the program has been executed.

        Raises:
            LaunchError: If a step was refused. Nothing is left then.
        """
        channel = self._channel
        deadline = time.monotonic() + _END_PATIENCE
        while channel.started is None:
            channel.update()
            if channel.started is not None:
                break
            if channel.report is not None or channel.over:
                yield from self._refused()
            yield from ready(reads=(channel.fileno(),), deadline=deadline)
            if time.monotonic() > deadline:
                self._wiring.kill()
                raise EngineError("the program was not started in time")
        self._take_terminal()

    def _refused(self) -> Flow[None]:
        """Wait until nothing is left of a jail that did not start, and say why."""
        channel = self._channel
        deadline = time.monotonic() + _END_PATIENCE
        while not channel.over and time.monotonic() < deadline:
            yield from ready(reads=(channel.fileno(),), deadline=deadline)
            channel.update()
        report = channel.report
        self.close()
        if report is not None:
            raise refusal(report)
        raise EngineError(
            "the jail ended before the program was executed",
            hint="Its init was killed, by the memory limit or from outside.",
        )

    def _take_terminal(self) -> None:
        terminal, self._channel.terminal = self._channel.terminal, None
        if terminal is not None and self._wiring.logged:
            # What it says goes to the log; here it can be typed at.
            self._stdin = terminal
        elif terminal is not None:
            self._captures.append(Capture(terminal, "stdout", self._limit))
            self._stdin = os.dup(terminal)

    def turn(self, deadline: float | None) -> Flow[list[tuple[StreamName, bytes]]]:
        """
        Wait until something happens, and deal with it.

        Returns:
            What was written, in the order in which it was met.
        """
        channel = self._channel
        if self._finished():
            return [
                (capture.name, data)
                for capture in self._captures
                for data in capture.drain()
            ]
        reads = [channel.fileno()]
        reads += [c.fd for c in self._captures if c.fd is not None]
        writes: tuple[int, ...] = ()
        if self._feed is not None and self._feed.fd is not None:
            writes = (self._feed.fd,)
        readable, writable = yield from ready(tuple(reads), writes, deadline)
        if writable and self._feed is not None:
            self._feed.write()
        pieces = [
            (capture.name, data)
            for capture in self._captures
            if capture.fd in readable and (data := capture.read())
        ]
        if channel.fileno() in readable:
            channel.update()
            if channel.report is not None and channel.started is None:
                yield from self._refused()
        if self._hard and not self._exceeded:
            self._exceeded = any(c.dropped for c in self._captures)
            if self._exceeded:
                self._wiring.kill()
        return pieces

    def _until_done(self, deadline: float | None) -> Flow[None]:
        """
        Go on until the end of the program.

        Raises:
            DeadlineExceeded: If *deadline* or the timeout comes first; everything that
                the program started is gone then.
        """
        try:
            while not self._done():
                due = self._due(deadline)
                yield from self.turn(due)
                if due is not None and time.monotonic() >= due:
                    yield from self._overdue(deadline)
        except DeadlineExceeded:
            raise
        except BaseException:
            # Ctrl-C, cancellation, a broken input: nobody waits for it any more.
            self._wiring.kill()
            self.close()
            raise
        self._settle()

    def _done(self) -> bool:
        return self._finished() and all(c.fd is None for c in self._captures)

    def _due(self, deadline: float | None) -> float | None:
        own = self._deadline
        if own is not None and self._wiring.supervised:
            own += _LATE if self._looked else _LOOK
        moments = [m for m in (own, deadline) if m is not None]
        return min(moments) if moments else None

    def _overdue(self, deadline: float | None) -> Flow[None]:
        if self._done():
            return
        own = self._deadline
        limit = self._wiring.timeout
        now = time.monotonic()
        paused = self._wiring.paused() and not self._wiring.whole_jail
        asked = deadline is not None and now >= deadline
        if self._wiring.supervised and not self._looked and not paused and not asked:
            # Its monitor is at work on it.
            self._looked = True
            return
        if own is None or (deadline is not None and deadline < own):
            limit = None if deadline is None else deadline - self._began
        self._timed_out = True
        if paused:
            self._leave()
        else:
            self._wiring.kill()
            yield from self._await_end()
        raise DeadlineExceeded(
            self._name(), limit if limit is not None else math.nan, self.result()
        )

    def _leave(self) -> None:
        """
        Give it up while its jail is paused.

        Nothing in a frozen jail can be ended, nor does it do anything. Its monitor sees
        that we have left as soon as it goes on, and ends all of it first.
        """
        for capture in self._captures:
            for _ in capture.drain():
                pass
        self._left = self._killed()
        self._settle()

    def _await_end(self) -> Flow[None]:
        """After a kill: wait until it is over, and take what it wrote."""
        patience = time.monotonic() + _END_PATIENCE
        last_resort = time.monotonic() + _LATE
        killed_jail = False
        while not self._done():
            yield from self.turn(last_resort if not killed_jail else patience)
            now = time.monotonic()
            if not killed_jail and now >= last_resort:
                # Its monitor is stopped or frozen: only the jail as a whole obeys.
                self._wiring.kill_jail()
                killed_jail = True
            if now >= patience:
                raise EngineError(
                    f"{self._name()} was killed and did not end",
                    hint="The kernel holds a process of it (state D); see ps.",
                )
        self._settle()

    def _settle(self) -> None:
        """It is over: give back everything but what was captured."""
        for capture in self._captures:
            capture.close()
        if self._feed is not None:
            self._feed.close()
        self.close_stdin()
        exited = self._channel.exited
        if exited is not None and exited.reason == Reason.TIMEOUT:
            self._timed_out = True
        self._closer.detach()
        if not self._wiring.whole_jail or self._channel.over:
            self._channel.close()

    def _name(self) -> str:
        return self.argv[0].rpartition("/")[2] or "the program"

    # --- faces -------------------------------------------------------------

    def wait(self, timeout: float | None = None) -> int:
        """
        Wait for its end, and return the code as in ``subprocess``.

        Output is read meanwhile and kept for `result`.

        Raises:
            DeadlineExceeded: After *timeout* seconds, or at the end of its own
                timeout. It is ended then, with everything it started.
        """
        drive(self.finish(timeout))
        code = self.returncode
        assert code is not None  # noqa: S101  # finish() waited for it
        return code

    def finish(self, timeout: float | None = None) -> Flow[None]:
        """The flow of `wait`."""
        deadline = None
        if timeout is not None:
            deadline = time.monotonic() + parse_duration(timeout, "timeout")
        if self._result is None:
            yield from self._until_done(deadline)
            self._raise_own_timeout()

    def _raise_own_timeout(self) -> None:
        if self._timed_out:
            limit = self._wiring.timeout
            raise DeadlineExceeded(
                self._name(), math.nan if limit is None else limit, self.result()
            )

    def communicate(
        self, input: Input | None = None, timeout: float | None = None
    ) -> Result[Text]:
        """
        Give it *input*, end its input, wait for its end, and return the result.

        Raises:
            DeadlineExceeded: As `wait`; ``error.result`` has the output so far.
        """
        return drive(self.communication(input, timeout))

    def communication(
        self, input: Input | None = None, timeout: float | None = None
    ) -> Flow[Result[Text]]:
        """The flow of `communicate`."""
        self._supply(input)
        yield from self.finish(timeout)
        return self.result()

    def _supply(self, input: Input | None) -> None:
        if input is not None:
            if self._stdin is None:
                raise SpecError(
                    "input",
                    "has nowhere to go",
                    accepted="a program started with stdin=True",
                )
            fd, self._stdin = self._stdin, None
            self._feed = Feed(fd, input)
        else:
            self.close_stdin()

    def write(self, data: str | bytes) -> None:
        """
        Write to its input, all of *data*, waiting while it does not read.

        Its output is read meanwhile, so that neither can block the other.

        Raises:
            BrokenPipeError: If it reads no more.
        """
        if self._stdin is None:
            raise SpecError(
                "write()",
                "has nowhere to go",
                accepted="a program started with stdin=True, before close_stdin()",
            )
        drive(self._write(data.encode() if isinstance(data, str) else data))

    def _write(self, data: bytes) -> Flow[None]:
        fd = self._stdin
        assert fd is not None  # noqa: S101  # write() has looked
        os.set_blocking(fd, False)
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(fd, rest) :]
            except BlockingIOError:
                reads = tuple(c.fd for c in self._captures if c.fd is not None)
                readable, _ = yield from ready(reads, (fd,))
                for capture in self._captures:
                    if capture.fd in readable:
                        capture.read()

    def close_stdin(self) -> None:
        """End its input."""
        if self._stdin is not None:
            os.close(self._stdin)
            self._stdin = None

    def signal(self, number: int | str) -> None:
        """Send it a signal: a number or a name."""
        self._channel.signal(signal_number(number, "signal"))

    def terminate(self) -> None:
        """Ask it to end (SIGTERM)."""
        self._channel.signal(_SIGTERM)

    def kill(self) -> None:
        """End it, and everything that it has started."""
        self._wiring.kill()

    def resize(self, columns: int, rows: int) -> None:
        """
        Change the size of its terminal.

        Raises:
            SpecError: If it has none.
        """
        terminal = next((c.fd for c in self._captures if c.fd is not None), None)
        if terminal is None or not os.isatty(terminal):
            raise SpecError("resize()", "needs a terminal", accepted="tty=(80, 24)")
        import termios

        termios.tcsetwinsize(terminal, (rows, columns))

    def __iter__(self) -> Iterator[Record]:
        """Give its output line by line, as it comes, until its end."""
        lines = lines_of()
        while not self._done():
            due = self._due(None)
            for stream, data in drive(self.turn(due)):
                yield from lines.feed(stream, data)
            if due is not None and time.monotonic() >= due and not self._done():
                drive(self._overdue(None))
        yield from lines.end()
        self._settle()
        self._raise_own_timeout()

    def chunks(self) -> Iterator[tuple[StreamName, bytes]]:
        """Give its output in the pieces in which it comes."""
        while not self._done():
            due = self._due(None)
            yield from drive(self.turn(due))
            if due is not None and time.monotonic() >= due and not self._done():
                drive(self._overdue(None))
        self._settle()
        self._raise_own_timeout()

    def result(self) -> Result[Text]:
        """
        What came of it.

        Raises:
            SpecError: If it still runs.
        """
        if self._result is not None:
            return self._result
        exited = self._exited()
        if exited is None:
            raise SpecError("result()", "is not there yet", accepted="wait() first")
        channel = self._channel
        if self._wiring.whole_jail and channel.exited is None and channel.gone is None:
            raise EngineError(
                "the keeper ended, and the jail with it",
                hint="It was killed from outside, or had no descriptors or memory "
                "left; the next start makes a new one.",
            )
        self._result = outcome(
            self._wiring,
            exited,
            channel.gone,
            self._captures,
            timed_out=self._timed_out,
            exceeded=self._exceeded,
        )
        return self._result

    def close(self) -> None:
        """End it if it still runs, and give everything back. Idempotent."""
        for capture in self._captures:
            capture.close()
        if self._feed is not None:
            self._feed.close()
        self.close_stdin()
        if self._closer.detach() is None:
            return
        running = self._channel.exited is None and not self._channel.over
        # At the end of the interpreter nobody can do anything about it any more.
        if running and self._wiring.owned and not sys.is_finalizing():
            self._wiring.kill()
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        closer: weakref.finalize[Any, Any] | None = getattr(self, "_closer", None)
        if closer is None:
            return  # it was never made
        running = closer.alive and self._channel.exited is None
        # At the end of the interpreter nobody can do anything about it any more.
        if running and self._wiring.owned and not sys.is_finalizing():
            warnings.warn(
                f"process {self.argv[0]!r} was dropped while it ran",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )
            # Whoever records the warning keeps us, but nobody keeps the program.
            closer()
        for capture in getattr(self, "_captures", ()):
            capture.close()

    def __repr__(self) -> str:
        code = self._channel.exited
        state = "running" if code is None and not self._channel.over else "ended"
        return f"<Process {list(self.argv)!r} {state}>"
