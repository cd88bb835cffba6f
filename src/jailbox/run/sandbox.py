"""
What stands around programs: a jail that is made, entered, and taken away.

A `Sandbox` owns a jail of the keeper: its channel, its layer, and through them its
namespaces and groups. It knows nothing of names and states; `jailbox.engine` does.
"""

import errno
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import attrs

from jailbox.errors import EngineError, LaunchError, SpecError
from jailbox.flow import Flow, ready
from jailbox.linux.cgroup import CgroupReport, parse_collected
from jailbox.linux.fd import channel_pair, close_all, open_path
from jailbox.linux.hints import hint
from jailbox.linux.keeper import send
from jailbox.linux.messages import refusal
from jailbox.linux.plan import LaunchPlan, Program
from jailbox.linux.record import Descriptors, encode_exec, encode_start
from jailbox.run.channel import Channel
from jailbox.run.compile import PLACEHOLDER, Compiled
from jailbox.run.process import Process, Wiring
from jailbox.spec.limits import Limits
from jailbox.spec.result import Text

__all__ = ["Ends", "Sandbox", "Visit", "Wanted"]

_PATIENCE = 30.0

_MEMORY_FILES = (
    "memory.events",
    "memory.max_usage_in_bytes",
    "memory.oom_control",
    "memory.peak",
)


@attrs.frozen(kw_only=True)
class Wanted:
    """
    How a program is to be connected.

    Attributes:
        stdin: It gets a pipe; otherwise its input is empty.

        standing: Its input is silent and never ends, instead of being empty: a shell
            that nobody talks to waits.

        merge: Standard error goes where standard output goes.

        text: Output is given as text.

        pass_fds: Descriptors of the caller that it gets as 3, 4, ...; borrowed.

        max_output: Bytes of a stream that are kept.

        log: A file that its output goes to; borrowed. No capture then.

        timeout: Seconds, or ``None``.
    """

    stdin: bool = False
    standing: bool = False
    merge: bool = False
    text: bool = True
    pass_fds: tuple[int, ...] = ()
    max_output: int = 64 << 20
    log: int | None = None
    timeout: float | None = None


@attrs.frozen(kw_only=True)
class Visit:
    """
    How a detached jail is found: descriptors that its keeper gets; borrowed.

    Attributes:
        listener: The socket on which visitors come.

        home: The directory for the record of its end.

        lease: What keeps its image from being removed, or ``None``.
    """

    listener: int
    home: int
    lease: int | None = None


class _Asked(Protocol):
    """What a sandbox asks of a keeper."""

    def number(self) -> int: ...

    def start(
        self, record: bytearray, number: int, name: str, fds: Sequence[int]
    ) -> None: ...

    def kill(self, number: int, *, release: bool = False) -> None: ...


class Ends:
    """The two sides of a program's streams: theirs goes with the request."""

    def __init__(self, program: Program | None, wanted: Wanted) -> None:
        self.ours: dict[str, int] = {}
        self._theirs: list[int] = []
        self.fds: list[int] = []
        places: dict[str, int | None] = {}
        try:
            ours, theirs = channel_pair()
            self.channel = ours
            self._give(theirs)
            if program is not None and program.tty is None:
                if wanted.stdin:
                    places["stdin"] = self._pipe("stdin")
                elif wanted.standing:
                    places["stdin"] = self._give(_silence())
                if wanted.log is None:
                    places["stdout"] = self._pipe("stdout")
                    places["stderr"] = (
                        places["stdout"] if wanted.merge else self._pipe("stderr")
                    )
            if wanted.log is not None:
                places["log"] = self._lend(wanted.log)
            places["passed"] = len(self.fds)
            for fd in wanted.pass_fds:
                self._lend(fd)
        except OSError as error:
            self.abandon()
            raise _refused("stdio", error, "pipe") from error
        except BaseException:
            self.abandon()
            raise
        self.places = places
        self.pass_count = len(wanted.pass_fds)

    def _give(self, fd: int) -> int:
        self._theirs.append(fd)
        return self._lend(fd)

    def _lend(self, fd: int) -> int:
        self.fds.append(fd)
        return len(self.fds) - 1

    def _pipe(self, name: str) -> int:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        ours, theirs = (writer, reader) if name == "stdin" else (reader, writer)
        self.ours[name] = ours
        return self._give(theirs)

    def descriptors(
        self, *, layer: int | None = None, past: int = 0, sources: int = 0
    ) -> Descriptors:
        """Say which descriptor is what."""
        return Descriptors(
            channel=0,
            stdin=self.places.get("stdin"),
            stdout=self.places.get("stdout"),
            stderr=self.places.get("stderr"),
            log=self.places.get("log"),
            passed=self.places["passed"] or 0,
            pass_count=self.pass_count,
            layer=layer,
            past=past,
            sources=sources,
        )

    def sent(self) -> None:
        """Their side is with them: close our copies of it."""
        close_all(self._theirs)
        self._theirs = []

    def abandon(self) -> None:
        """Nothing came of it: close everything."""
        close_all(self._theirs)
        close_all(self.ours.values())
        self._theirs = []
        self.ours = {}
        if getattr(self, "channel", -1) >= 0:
            os.close(self.channel)
            self.channel = -1


def _silence() -> int:
    """A pipe that its reader also holds open for writing: it never ends."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        return os.open(f"/proc/self/fd/{reader}", os.O_RDWR | os.O_CLOEXEC)
    finally:
        os.close(reader)
        os.close(writer)


_OURS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
"""What no request is to blame for."""


def _refused(step: str, error: OSError, detail: str) -> LaunchError:
    number = error.errno or 0
    return LaunchError(step, number, detail, hint=hint(step, number))


def _open_sources(plan: LaunchPlan) -> list[int]:
    opened: list[int] = []
    try:
        for path in plan.sources:
            opened.append(open_path(path))  # noqa: PERF401  # all of them are closed
    except OSError as error:
        close_all(opened)
        if error.errno in _OURS:
            raise _refused("tree", error, plan.sources[len(opened)]) from error
        raise SpecError(
            "source",
            f"cannot be opened: {error.strerror}",
            value=plan.sources[len(opened)],
            accepted="an existing file or directory; nothing is created for a mount",
        ) from error
    return opened


Records = Callable[[LaunchPlan, Descriptors], bytearray]
"""Gives the record of a plan; the engine keeps them, for equal plans are frequent."""


def fresh_record(plan: LaunchPlan, fds: Descriptors) -> bytearray:
    """Encode without keeping."""
    return encode_start(plan, fds)


class Sandbox:
    """
    One jail.

    Attributes:
        number: Its number with the keeper.

        name: The name of its groups.

        compiled: What it is.

        channel: The conversation with its init.

        paused: Its time stands still: whoever pauses it says so here.
    """

    def __init__(
        self,
        keeper: _Asked,
        compiled: Compiled,
        name: str,
        limits: Limits,
        *,
        number: int | None = None,
        records: Records = fresh_record,
    ) -> None:
        self._keeper = keeper
        self._records = records
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._oom_seen = 0
        self.number = keeper.number() if number is None else number
        self.name = name
        self.compiled = compiled
        self.limits = limits
        self.channel: Channel | None = None
        self.paused = False
        self._returned: int | None = None
        self._request: tuple[Program, Descriptors, bytes] | None = None

    # --- starting ------------------------------------------------------------

    def start(
        self,
        program: Program | None,
        wanted: Wanted,
        layer: int | None = None,
        past: Sequence[int] = (),
    ) -> Process[Text] | None:
        """
        Send the request. With a *program* it becomes the jail's main one.

        Args:
            program: The main program, or ``None`` for a jail that only takes requests.

            wanted: How it is connected.

            layer: The writable layer of an earlier start; borrowed.

            past: Layers of a time that is over, the latest first; borrowed.

        Returns:
            The main program; what comes of it is told by its flows.
        """
        plan = self.compiled.plan
        if program is not None:
            if plan.program is not program:
                plan = attrs.evolve(plan, program=program)
        elif self.compiled.security.landlock:
            # No program to carry it, but the jail's domain is made at its start.
            plan = attrs.evolve(plan, program=_domain(self.compiled))
        sources = _open_sources(plan)
        try:
            ends = Ends(program, wanted)
            try:
                self._send_start(plan, ends, layer, past, sources)
            except BaseException:
                ends.abandon()
                raise
        finally:
            close_all(sources)
        self.channel = Channel(ends.channel)
        if program is None:
            return None
        return self._process(program, wanted, ends, self.channel, whole_jail=True)

    def _send_start(
        self,
        plan: LaunchPlan,
        ends: Ends,
        layer: int | None,
        past: Sequence[int],
        sources: list[int],
    ) -> None:
        fds = list(ends.fds)
        place = None
        if layer is not None:
            place = len(fds)
            fds.append(layer)
        first = len(fds)
        fds += past
        descriptors = ends.descriptors(layer=place, past=first, sources=len(fds))
        record = self._records(plan, descriptors)
        self._keeper.start(record, self.number, self.name, [*fds, *sources])
        ends.sent()

    def start_detached(
        self, program: Program | None, wanted: Wanted, visit: "Visit"
    ) -> None:
        """
        Send the request for a jail whose keeper outlives us.

        Our end of its channel goes to the keeper; whoever wants to talk to the jail
        visits it.
        """
        plan = attrs.evolve(
            self.compiled.plan, program=program or _domain(self.compiled)
        )
        sources = _open_sources(plan)
        try:
            ends = Ends(program, wanted)
            try:
                fds = [*ends.fds, visit.listener, ends.channel, visit.home]
                first = len(ends.fds)
                if visit.lease is not None:
                    fds.append(visit.lease)
                descriptors = attrs.evolve(
                    ends.descriptors(sources=len(fds)),
                    listener=first,
                    hold=first + 1,
                    home=first + 2,
                    lease=None if visit.lease is None else first + 3,
                )
                record = self._records(plan, descriptors)
                self._keeper.start(record, self.number, self.name, [*fds, *sources])
            finally:
                ends.abandon()
        finally:
            close_all(sources)

    def main_process(self, program: Program) -> Process[Any]:
        """The main program of a jail that somebody else has started."""
        wiring = self._wiring(program, Wanted(), self._open_channel(), whole_jail=True)
        return Process(
            attrs.evolve(wiring, owned=False),
            self._open_channel(),
            stdin=None,
            stdout=None,
            stderr=None,
            max_output=0,
        )

    def await_ready(self) -> Flow[int | None]:
        """
        Wait until the jail takes requests.

        Returns:
            The writable layer, owned by the caller, or ``None``.

        Raises:
            LaunchError: If a step was refused. Nothing is left then.
        """
        channel = self._open_channel()
        deadline = time.monotonic() + _PATIENCE
        while channel.ready is None:
            channel.update()
            if channel.ready is not None:
                break
            if channel.over:
                report = channel.report
                self._returned, channel.layer = channel.layer, None
                channel.close()
                if report is not None:
                    raise refusal(report)
                raise EngineError("the jail ended before it was complete")
            yield from ready(reads=(channel.fileno(),), deadline=deadline)
            if time.monotonic() > deadline:
                self.kill()
                raise EngineError("the jail was not complete in time")
        layer, channel.layer = channel.layer, None
        return layer

    def returned_layer(self) -> int | None:
        """
        Take the layer that came back with a refusal; owned by the caller.

        Where overlays take their layers by name, one can be mounted only once: it comes
        back as another, and the one that was lent is of no use for a further start.
        """
        layer, self._returned = self._returned, None
        return layer

    def execute(self, program: Program, wanted: Wanted) -> Process[Text]:
        """Send the request to run *program* in the running jail."""
        ends = Ends(program, wanted)
        try:
            record = self._encoded(program, ends.descriptors())
            send(self._open_channel().fileno(), record, ends.fds)
            ends.sent()
        except BaseException:
            ends.abandon()
            raise
        channel = Channel(ends.channel)
        return self._process(program, wanted, ends, channel, whole_jail=False)

    def _encoded(self, program: Program, fds: Descriptors) -> bytes:
        """Encode a request; the same one is often made again."""
        kept = self._request
        if kept is not None and kept[0] is program and kept[1] == fds:
            return kept[2]
        record = encode_exec(program, fds)
        self._request = (program, fds, record)
        return record

    def request(self, program: Program, fds: Sequence[int]) -> None:
        """Send a request whose answers somebody else takes (the file agent)."""
        record = encode_exec(program, Descriptors(channel=0))
        send(self._open_channel().fileno(), record, fds)

    def _open_channel(self) -> Channel:
        if self.channel is None:
            raise EngineError("the jail was not started")
        return self.channel

    def _process(
        self,
        program: Program,
        wanted: Wanted,
        ends: Ends,
        channel: Channel,
        *,
        whole_jail: bool,
    ) -> Process[Text]:
        return Process(
            self._wiring(program, wanted, channel, whole_jail=whole_jail),
            channel,
            stdin=ends.ours.get("stdin"),
            stdout=ends.ours.get("stdout"),
            stderr=ends.ours.get("stderr"),
            max_output=wanted.max_output,
        )

    def _wiring(
        self, program: Program, wanted: Wanted, channel: Channel, *, whole_jail: bool
    ) -> Wiring:
        def end_exec() -> None:
            channel.signal(9, tree=True)

        return Wiring(
            argv=program.argv,
            limits=self.limits,
            degraded=self.compiled.security.degraded,
            kill=self.kill if whole_jail else end_exec,
            kill_jail=self.kill,
            collected=self.collected if whole_jail else self._counted,
            text=wanted.text,
            whole_jail=whole_jail,
            logged=wanted.log is not None,
            timeout=wanted.timeout,
            paused=lambda: self.paused,
            supervised=program.timeout is not None and not whole_jail,
        )

    # --- ending --------------------------------------------------------------

    def kill(self) -> None:
        """End everything in it. Harmless when it has ended, and in a forked child."""
        if os.getpid() == self._owner:
            self._keeper.kill(self.number)

    def release(self) -> None:
        """End everything in it, and give back its ids."""
        if os.getpid() == self._owner:
            self._keeper.kill(self.number, release=True)

    def await_end(self, deadline: float | None) -> Flow[bool]:
        """Wait until nothing of it is left; false if *deadline* comes first."""
        channel = self._open_channel()
        channel.update()
        # Of several threads that wait, the first one to notice closes the channel; a
        # number that the others still wait for must not become another file.
        with channel.watched() as fd:
            while not channel.over and fd is not None:
                if deadline is not None and time.monotonic() >= deadline:
                    return False
                yield from ready(reads=(fd,), deadline=deadline)
                channel.update()
        return True

    def close(self) -> None:
        """Leave the conversation; the init ends when nobody is left."""
        if self.channel is not None:
            self.channel.close()

    # --- what was counted ----------------------------------------------------

    def collected(self) -> CgroupReport:
        """What its groups counted, once it is gone."""
        gone = None if self.channel is None else self.channel.gone
        if gone is None:
            return CgroupReport()
        labels = [item.label for item in self.compiled.plan.collect]
        return parse_collected(dict(zip(labels, gone.collected, strict=False)))

    def _counted(self) -> CgroupReport:
        """What its groups counted since the last time, while it runs."""
        files = {}
        if self.limits.memory is not None:
            files = self.read_files(
                {
                    label: path
                    for label, path in self.compiled.cgroups.collect
                    if label.endswith(_MEMORY_FILES)
                }
            )
        report = parse_collected(files)
        with self._lock:
            new = report.oom_kills - self._oom_seen
            self._oom_seen = report.oom_kills
        return CgroupReport(
            oom_kills=max(0, new),
            oom_events=report.oom_events,
            memory_peak=report.memory_peak,
        )

    def read_files(self, paths: dict[str, str]) -> dict[str, bytes]:
        """Read files of its groups, by label; those that are not there are left out."""
        files = {}
        for label, path in paths.items():
            try:
                fd = os.open(self.path_of(path), os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                files[label] = os.read(fd, 4096)
            finally:
                os.close(fd)
        return files

    def path_of(self, path: str) -> str:
        """Put the jail's name into a planned path."""
        head, _, tail = path.rpartition(f"/{PLACEHOLDER}/")
        return f"{head}/{self.name}/{tail}"


def _domain(compiled: Compiled) -> Program:
    """A program that is none: it only carries what holds for the jail."""
    security = compiled.security
    return Program(landlock=security.landlock, no_new_privs=security.no_new_privs)
