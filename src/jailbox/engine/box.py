"""
A container of this machine: its states, and what they allow.

A container is a writable layer and, while it runs, a jail on top of it. The layer and
the ids that own it outlast the jail until the container is removed, so that files can
be looked at, and the container started again.
"""

import contextlib
import os
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from jailbox.engine.base import Io, LogEntry, Stats
from jailbox.engine.changes import Changes
from jailbox.engine.snapshot import Generation, Snapshot, combined
from jailbox.errors import (
    DeadlineExceeded,
    EngineError,
    SpecError,
    StateError,
    Unsupported,
)
from jailbox.flow import Flow, drive, offload, ready
from jailbox.linux.cgroup import parse_stats
from jailbox.linux.fd import Fd
from jailbox.linux.keeper import Keeper
from jailbox.linux.plan import Program
from jailbox.run.compile import Compiled
from jailbox.run.files import Files
from jailbox.run.process import Process
from jailbox.run.rootfs import Rootfs
from jailbox.run.sandbox import Sandbox, Wanted
from jailbox.run.streams import check_input
from jailbox.spec.capabilities import capability_mask
from jailbox.spec.change import Change
from jailbox.spec.command import Input
from jailbox.spec.commit import CommitSpec
from jailbox.spec.container import ContainerSpec, ContainerState, ProgramSpec
from jailbox.spec.image import Directory, Host, Source, Stored
from jailbox.spec.mount import Tmpfs
from jailbox.spec.result import Result
from jailbox.spec.units import parse_duration

if TYPE_CHECKING:
    from jailbox.engine.local import LocalEngine
    from jailbox.engine.volumes import Mounted

__all__ = ["CREATED", "PAUSED", "RUNNING", "STOPPED", "LocalBox", "log_entries"]

_SIGKILL = 9
_SIGTERM = 15
_SIGSTOP = 19
_SIGCONT = 18
_FREEZE_PATIENCE = 10.0
_PAGE = 4096

_LOG_ENTRY = struct.Struct("<QII")
_STREAMS = {1: "stdout", 2: "stderr", 3: "truncated"}

# Enough to put a file anywhere and give it to anybody; within the jail's own ids.
_AGENT_CAPABILITIES = capability_mask(
    ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_SETGID",
     "CAP_SETUID")
)  # fmt: skip

CREATED, RUNNING = ContainerState.CREATED, ContainerState.RUNNING
PAUSED, STOPPED = ContainerState.PAUSED, ContainerState.STOPPED


class Viewed:
    """
    A container as it was: a former layer takes the place of the writable one.

    For looking at it, in a jail of its own, while the container goes on.
    """

    def __init__(
        self, box: "LocalBox", layer: Generation, below: tuple[Generation, ...]
    ) -> None:
        engine = box._engine  # noqa: SLF001  # of this room
        spec = attrs.evolve(box.spec, name=engine.new_name("past"))
        self._box = LocalBox(engine, spec)
        self._box._layer = Fd(os.dup(layer.fileno()))  # noqa: SLF001
        self._box._past = below  # noqa: SLF001

    def __enter__(self) -> "LocalBox":
        return self._box

    def __exit__(self, *_: object) -> None:
        drive(self._box.remove())


class LocalBox:
    """One container."""

    def __init__(self, engine: "LocalEngine", spec: ContainerSpec) -> None:
        self._engine = engine
        self._spec = spec
        self._owner = os.getpid()
        self._lock = threading.RLock()
        self._state: ContainerState | None = CREATED
        self._rootfs: Rootfs | None = None
        self._compiled: Compiled | None = None
        self._asked: (
            tuple[tuple[ProgramSpec, bool, int, int], Program, Rootfs, Compiled] | None
        ) = None
        self._sandbox: Sandbox | None = None
        self._main: Process[Any] | None = None
        self._layer: Fd | None = None
        self._past: tuple[Generation, ...] = ()
        self._log: Fd | None = None
        self._keeper: Keeper | None = None
        self._number: int | None = None
        self._result: Result[Any] | None = None
        self._mounted: Mounted | None = None
        # Its image stays for as long as it could be started.
        self._lease = engine.lease(spec)

    # --- what is known -----------------------------------------------------------

    @property
    def name(self) -> str:
        """Its name."""
        assert self._spec.name is not None  # noqa: S101  # the engine gave one
        return self._spec.name

    @property
    def spec(self) -> ContainerSpec:
        """What was wanted."""
        return self._spec

    @property
    def hostname(self) -> str:
        """Its host name: as wanted, or its name as far as that can be one."""
        if self._spec.hostname is not None:
            return self._spec.hostname
        return self.name.replace("_", "-").strip("-.")[:63].strip("-.")

    @property
    def state(self) -> ContainerState | None:
        """The state it is in now; ``None`` when it is removed."""
        with self._lock:
            self._look()
            return self._state

    @property
    def result(self) -> Result[Any] | None:
        """What came of its last run, if that is over."""
        with self._lock:
            self._look()
            if self._state is STOPPED and self._result is None:
                self._ended()
            return self._result

    @property
    def pid(self) -> int | None:
        """The number of its main program in it, while it runs."""
        with self._lock:
            self._look()
            running = self._state in {RUNNING, PAUSED}
            return self._main.pid if running and self._main is not None else None

    def _look(self) -> None:
        """Notice that it has ended by itself."""
        channel = None if self._sandbox is None else self._sandbox.channel
        if self._state in {RUNNING, PAUSED} and channel is not None:
            channel.update()
            if channel.over:
                self._state = STOPPED

    def _demand(self, action: str, *states: ContainerState) -> None:
        """
        Refuse what its state does not allow.

        Raises:
            StateError: If it is in none of *states*.
        """
        state = self.state
        if state not in states:
            raise StateError(
                self.name,
                "removed" if state is None else state,
                action,
                [str(s) for s in states],
            )

    def _running(self) -> Sandbox:
        assert self._sandbox is not None  # noqa: S101  # the state says so
        return self._sandbox

    # --- life ----------------------------------------------------------------------

    def start(self, timeout: float | None = None) -> Flow[None]:
        """Start it; with a command, until that has been executed."""
        with self._lock:
            self._demand("start", CREATED, STOPPED)
            self._drop_jail()
            sandbox = self._new_sandbox(self._spec)
            self._sandbox = sandbox
            self._result = None
            main = self._main_program()
            try:
                log = self._new_log() if main is not None else None
                wanted = Wanted(
                    log=log, max_output=0, standing=self._spec.command is None
                )
                self._main = sandbox.start(
                    main, wanted, self._layer_fd(), self._past_fds()
                )
                deadline = None if timeout is None else time.monotonic() + timeout
                yield from self._complete(sandbox, deadline, timeout)
            except BaseException:
                self._take_back(sandbox)
                sandbox.kill()
                self._drop_jail()
                raise
            self._state = RUNNING

    def _complete(
        self, sandbox: Sandbox, deadline: float | None, timeout: float | None
    ) -> Flow[None]:
        self._keep_layer((yield from sandbox.await_ready()))
        if self._main is not None:
            yield from self._main.begin()
        if deadline is not None and time.monotonic() > deadline:
            raise DeadlineExceeded(f"start of {self.name}", timeout or 0.0)

    def _main_program(self) -> Program | None:
        assert self._rootfs is not None  # noqa: S101  # _new_sandbox() set both
        assert self._compiled is not None  # noqa: S101
        spec = self._spec.program(self._rootfs.config)
        if spec is None:
            return None
        limit = self._spec.limits.output
        program = self._engine.compile_program(
            spec,
            self._spec,
            self._rootfs,
            self._compiled,
            hostname=self.hostname,
            log_limit=self._spec.max_output if limit is None else limit,
        )
        if self._layer is None:
            # Later another one may have been put in its place.
            self._engine.check_program(self._spec, program)
        return program

    def _new_sandbox(self, spec: ContainerSpec) -> Sandbox:
        engine = self._engine
        spec = self._within_limits(spec)
        rootfs = engine.rootfs(spec)
        compiled = engine.compile(
            self._with_volumes(spec, rootfs),
            rootfs,
            hostname=self.hostname,
            keep_layer=True,
            reuse=self._layer is not None,
            past=len(self._past),
        )
        self._rootfs, self._compiled = rootfs, compiled
        keeper = self._own_keeper()
        sandbox = Sandbox(
            keeper,
            compiled,
            engine.new_name("box"),
            spec.limits,
            number=self._number,
        )
        # The same number finds the same ids again, which own the layer.
        self._number = sandbox.number
        return sandbox

    def _within_limits(self, spec: ContainerSpec) -> ContainerSpec:
        """Count what lies in former layers as used: the bound is of all together."""
        disk = spec.limits.disk
        if disk is None or not self._past:
            return spec
        used = sum(layer.size for layer in self._past)
        limits = attrs.evolve(spec.limits, disk=max(disk - used, _PAGE))
        return attrs.evolve(spec, limits=limits)

    def _with_volumes(self, spec: ContainerSpec, rootfs: Rootfs) -> ContainerSpec:
        """Put directories in the place of volumes: the same for every start."""
        if self._mounted is None:
            self._mounted = drive(self._engine.mounted(spec, rootfs))
        if self._mounted is None:
            return spec
        return attrs.evolve(spec, mounts=self._mounted.spec.mounts)

    def _own_keeper(self) -> Keeper:
        """
        The keeper that knows whose ids own the layer.

        Raises:
            EngineError: If it has ended since the first start.
        """
        keeper = self._engine.keeper()
        if self._keeper is None:
            self._keeper = keeper
        elif self._keeper is not keeper:
            raise EngineError(
                f"the keeper of container {self.name} is gone",
                "it was killed from outside",
                hint="Remove the container and make another.",
            )
        return keeper

    def _keep_layer(self, layer: int | None) -> None:
        """
        Keep the layer as a jail hands it over, for the next one.

        It is the same layer, but what was lent may have lost its use with the jail.
        """
        if layer is not None:
            if self._layer is not None:
                self._layer.close()
            self._layer = Fd(layer)

    def _take_back(self, sandbox: Sandbox) -> None:
        """Keep the layer that comes back from a start that failed."""
        layer = sandbox.returned_layer()
        if self._layer is not None:
            self._keep_layer(layer)
        elif layer is not None:
            os.close(layer)  # nothing was ever written to it

    def _past_fds(self) -> list[int]:
        return [layer.fileno() for layer in self._past]

    def _layer_fd(self) -> int | None:
        return None if self._layer is None else self._layer.fileno()

    def _new_log(self) -> int:
        """A file without a name: on disk, for a log may be long."""
        if self._log is not None:
            self._log.close()
        with tempfile.TemporaryFile(prefix="jailbox-log-") as file:
            path = f"/proc/self/fd/{file.fileno()}"
            # Opened to append: whoever holds it can add, and nothing else.
            flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
            self._log = Fd(os.dup(file.fileno()))
            self._log_end = Fd(os.open(path, flags))
        return self._log_end.fileno()

    def _drop_jail(self) -> None:
        """Forget a jail that has ended."""
        if self._main is not None:
            self._main.close()
            self._main = None
        if self._sandbox is not None:
            self._sandbox.close()
            self._sandbox = None

    def stop(self, timeout: float | None = None) -> Flow[None]:
        """Ask it to end with its stop signal, give it time, then end it."""
        grace = self._spec.stop_timeout if timeout is None else timeout
        with self._lock:
            self._demand("stop", RUNNING, PAUSED, STOPPED, CREATED)
            if self._state in {STOPPED, CREATED}:
                return
            sandbox = self._running()
            if self._state is PAUSED:
                yield from self._thaw()
                self._state = RUNNING
            ask = self._main is not None and sandbox.channel is not None and grace > 0
            if ask and sandbox.channel is not None:
                sandbox.channel.signal(self._stop_signal)
        # Without the lock: others may look at it, and use it, while it has time.
        if ask and (yield from sandbox.await_end(time.monotonic() + grace)):
            self._note_end(sandbox)
        else:
            yield from self._end(sandbox)

    @property
    def _stop_signal(self) -> int:
        """What asks it to end: as wanted, or as its image says."""
        assert self._rootfs is not None  # noqa: S101  # it was started
        return self._spec.stop_signal or self._rootfs.config.stop_signal or _SIGTERM

    def _end(self, sandbox: Sandbox) -> Flow[None]:
        """Kill everything in a jail of ours and wait until it is gone."""
        sandbox.kill()
        if not (yield from sandbox.await_end(time.monotonic() + 10)):
            raise EngineError(f"container {self.name} was killed and did not end")
        self._note_end(sandbox)

    def _note_end(self, sandbox: Sandbox) -> None:
        """A jail is gone; unless somebody else has noticed, and gone on, it is ours."""
        with self._lock:
            if self._sandbox is sandbox and self._state in {RUNNING, PAUSED, STOPPED}:
                self._ended()

    def _ended(self) -> None:
        self._state = STOPPED
        if self._main is not None and self._result is None:
            drive(self._main.finish(10))
            self._result = self._main.result()

    def kill(self, number: int = _SIGKILL) -> Flow[None]:
        """Send its main program a signal; SIGKILL ends everything."""
        with self._lock:
            self._demand("kill", RUNNING, PAUSED)
            sandbox = self._running()
            if number != _SIGKILL and sandbox.channel is not None:
                sandbox.channel.signal(number, tree=self._main is None)
                return
        yield from self._end(sandbox)

    def pause(self, timeout: float | None = None) -> Flow[None]:
        """Stop the time of everything in it."""
        with self._lock:
            self._demand("pause", RUNNING)
            yield from self._freeze(timeout)
            self._state = PAUSED

    def resume(self) -> Flow[None]:
        """Let everything in it go on. Never waits for long."""
        with self._lock:
            self._demand("resume", PAUSED)
            yield from self._thaw()
            self._state = RUNNING

    def _freeze(self, timeout: float | None) -> Flow[None]:
        sandbox = self._running()
        freezer = sandbox.compiled.cgroups.freezer
        sandbox.paused = True
        if freezer is None:
            assert sandbox.channel is not None  # noqa: S101  # it runs
            sandbox.channel.signal(_SIGSTOP, tree=True)
            return
        patience = _FREEZE_PATIENCE if timeout is None else timeout
        deadline = time.monotonic() + patience
        _write(sandbox.path_of(freezer.path), freezer.freeze)
        while not _has_line(sandbox.path_of(freezer.state), freezer.frozen):
            if time.monotonic() > deadline:
                yield from self._thaw()
                raise DeadlineExceeded(f"pause of {self.name}", patience)
            yield from ready(deadline=time.monotonic() + 0.001)

    def _thaw(self) -> Flow[None]:
        sandbox = self._running()
        freezer = sandbox.compiled.cgroups.freezer
        sandbox.paused = False
        if freezer is None:
            assert sandbox.channel is not None  # noqa: S101  # it runs
            sandbox.channel.signal(_SIGCONT, tree=True)
        else:
            with contextlib.suppress(FileNotFoundError):
                _write(sandbox.path_of(freezer.path), freezer.thaw)
        return
        yield  # a flow, like its neighbors

    def wait(self, timeout: float | None = None) -> Flow[Result[Any]]:
        """Wait for the end of its main program."""
        self._demand("wait", RUNNING, PAUSED, STOPPED)
        deadline = None
        if timeout is not None:
            deadline = time.monotonic() + parse_duration(timeout, "timeout")
        sandbox = self._running()
        if not (yield from sandbox.await_end(deadline)):
            raise DeadlineExceeded(
                f"wait for {self.name}",
                timeout or 0.0,
                hint="The container goes on; stop() or kill() ends it.",
            )
        with self._lock:
            self._look()
            self._ended()
            if self._result is None:
                raise EngineError(f"container {self.name} has no main program")
            return self._result

    def remove(self) -> Flow[None]:
        """End it and remove everything of it. Idempotent."""
        with self._lock:
            if self._state is None or os.getpid() != self._owner:
                return
            self._look()
            sandbox = self._sandbox if self._state in {RUNNING, PAUSED} else None
        if sandbox is not None:
            yield from self._end(sandbox)
        with self._lock:
            if self._state is None:
                return
            self._drop_jail()
            # Also after a start that was refused, and a visit: they took ids as well.
            if self._number is not None and self._keeper is not None:
                self._keeper.kill(self._number, release=True)
            for fd in (self._layer, self._log):
                if fd is not None:
                    fd.close()
            self._layer = self._log = None
            self._past = ()
            if self._lease is not None:
                self._lease.release()
            if self._mounted is not None:
                self._mounted.release()
            self._state = None
        self._engine.forget(self.name)

    # --- programs --------------------------------------------------------------------

    def _start_program(
        self, spec: ProgramSpec, io: Io, *, quiet: bool = False
    ) -> Process[Any]:
        self._demand("execute in it", RUNNING)
        program = self._program_of(spec, quiet=quiet)
        wanted = Wanted(
            stdin=io.stdin,
            merge=spec.stderr == "stdout",
            text=io.text,
            pass_fds=io.pass_fds,
            max_output=spec.max_output,
            timeout=spec.timeout,
        )
        return self._running().execute(program, wanted)

    def _program_of(self, spec: ProgramSpec, *, quiet: bool) -> Program:
        rootfs, compiled = self._rootfs, self._compiled
        assert rootfs is not None  # noqa: S101  # it runs
        assert compiled is not None  # noqa: S101
        question = (spec, quiet, id(rootfs), id(compiled))
        # One value, so that threads that ask for different programs do not mix them up.
        asked = self._asked
        if asked is not None and asked[0] == question:
            return asked[1]
        spec.check()
        program = self._engine.compile_program(
            spec, self._spec, rootfs, compiled, hostname=self.hostname
        )
        if quiet:
            # One wake-up less: what is run to its end was executed.
            program = attrs.evolve(program, quiet=True)
        # The two are kept as well: while they live, their numbers are nobody else's.
        self._asked = (question, program, rootfs, compiled)
        return program

    def execute(
        self, program: ProgramSpec, io: Io, source: Input | None = None
    ) -> Flow[Result[Any]]:
        """Run a program in it to its end."""
        if source is not None:
            check_input(source)
            io = attrs.evolve(io, stdin=True)
        process = self._start_program(program, io, quiet=True)
        try:
            return (yield from process.communication(source))
        finally:
            process.close()

    def open(self, program: ProgramSpec, io: Io) -> Flow[Process[Any]]:
        """Start a program in it, until it has been executed."""
        process = self._start_program(program, io)
        try:
            yield from process.begin()
        except BaseException:
            process.close()
            raise
        return process

    # --- files ---------------------------------------------------------------------

    def files(self) -> Files:
        """Its files, whether it runs or not."""
        return Files(self)

    def connect(
        self, overlay: int = -1
    ) -> contextlib.AbstractContextManager[socket.socket]:
        """
        Open a conversation with a file agent inside.

        A container that does not run gets a jail for as long as this lasts, in which
        nothing runs but the agent.

        Args:
            overlay: Which of its layers the agent may compare, as `layers` numbers
                them.
        """
        return self._connected(overlay)

    @contextlib.contextmanager
    def _connected(self, overlay: int) -> Iterator[socket.socket]:
        with self._lock:
            self._demand("reach the files of", CREATED, RUNNING, STOPPED)
            running = self._state is RUNNING
            sandbox = self._running() if running else self._visit()
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                sandbox.request(self._agent(overlay), (theirs.fileno(),))
            yield ours
        finally:
            ours.close()
            if not running:
                sandbox.kill()
                drive(sandbox.await_end(time.monotonic() + 10))
                sandbox.close()

    def _visit(self) -> Sandbox:
        """Start a jail on our layer for the sake of its files."""
        spec = attrs.evolve(self._spec, command=None)
        sandbox = self._new_sandbox(spec)
        try:
            sandbox.start(None, Wanted(), self._layer_fd(), self._past_fds())
            drive(self._complete_visit(sandbox))
        except BaseException:
            self._take_back(sandbox)
            sandbox.kill()
            sandbox.close()
            raise
        return sandbox

    def _complete_visit(self, sandbox: Sandbox) -> Flow[None]:
        self._keep_layer((yield from sandbox.await_ready()))

    def _agent(self, overlay: int) -> Program:
        assert self._compiled is not None  # noqa: S101  # a jail is there
        security = self._compiled.security
        return Program(
            agent=True,
            groups=None if security.ids == 1 else (),
            bounding=security.capabilities | _AGENT_CAPABILITIES,
            permitted=_AGENT_CAPABILITIES,
            no_new_privs=True,
            overlay=overlay,
        )

    @property
    def layers(self) -> tuple[str, ...]:
        """Where its writable layers are seen, in the order of their numbers."""
        rootfs = self._rootfs or self._engine.rootfs(self._spec)
        return ("/", *(overlay.target for overlay in rootfs.overlays))

    @property
    def mount_points(self) -> frozenset[str]:
        """Where something is mounted, on what its start may have had to make."""
        if self._compiled is None:
            return frozenset()
        return self._compiled.mount_points

    def changes(self) -> Changes:
        """What differs from the image."""
        with self._lock:
            found = self.files().changes()
            if self._past:
                found = combined([*self._past_changes(), found])
            return Changes.of(self, found)

    def read_old(self, path: str, *, max_bytes: int) -> bytes:
        """Read a file as the image has it."""
        if not self._past:
            return self.files().read_old(path, max_bytes=max_bytes)
        with Viewed(self, self._past[-1], ()) as view:
            return view.files().read_old(path, max_bytes=max_bytes)

    @property
    def source(self) -> Source:
        """What its files lie on."""
        source = self._spec.image
        assert isinstance(source, Host | Directory | Stored)  # noqa: S101
        return source

    def _past_changes(self) -> list[tuple[Change, ...]]:
        """What each former layer changed, the earliest first; looked at once."""
        past, layer = self._past, self._layer
        found = []
        for number in reversed(range(len(past))):
            generation = past[number]
            if generation.changes is None:
                with Viewed(self, generation, past[number + 1 :]) as view:
                    generation.changes = view.files().changes()
            found.append(generation.changes)
        assert (self._past, self._layer) == (past, layer)  # noqa: S101
        return found

    # --- images and snapshots ------------------------------------------------------

    def commit(self, wish: CommitSpec) -> Flow[Stored]:
        """Make an image of its files."""
        from jailbox.engine.commit import base_of, commit_layers

        base = base_of(self._spec)
        with self._lock:
            self._demand("commit", CREATED, RUNNING, PAUSED, STOPPED)
            self._require_layers("commits of containers")
            freeze = wish.pause and self._state is RUNNING
            if freeze:
                yield from self._freeze(None)
            try:
                layers = [layer.fileno() for layer in reversed(self._past)]
                if self._layer is not None:
                    layers.append(self._layer.fileno())
                made: Stored = yield from offload(
                    lambda: commit_layers(self._engine.images, base, layers, wish)
                )
            finally:
                if freeze:
                    yield from self._thaw()
            return made

    def snapshot(self, *, end: bool = False) -> Flow[Snapshot]:
        """Keep its files as they are, without touching them."""
        with self._lock:
            self._demand("snapshot", CREATED, RUNNING, STOPPED)
            self._require_layers("snapshots of containers")
            runs = self._state is RUNNING
            if runs and not end:
                self._demand_idle()
            if runs:
                yield from self._end(self._running())
            if self._layer is not None:
                self._past = (Generation(self._layer), *self._past)
                self._layer = None
            taken = Snapshot(self.name, self.source, self._past)
            if runs:
                yield from self.start()
            return taken

    def reset(self, snapshot: Snapshot) -> Flow[None]:
        """End what runs in it, and let its files be those of a snapshot."""
        with self._lock:
            self._demand("reset", CREATED, RUNNING, PAUSED, STOPPED)
            self._require_layers("snapshots of containers")
            if snapshot.source != self._spec.image:
                raise SpecError(
                    "snapshot",
                    "is of another image",
                    value=snapshot.container,
                    accepted="a snapshot of this container, or of a fork of it",
                )
            runs = self._state in {RUNNING, PAUSED}
            if runs:
                yield from self._end(self._running())
            self._drop_jail()
            if self._layer is not None:
                self._layer.close()
                self._layer = None
            self._past = snapshot.layers
            if runs:
                yield from self.start()

    def fork(
        self, count: int, snapshot: Snapshot | None = None, *, end: bool = False
    ) -> Flow[Sequence["LocalBox"]]:
        """Make containers that have its files, and their own from there on."""
        with self._lock:
            runs = self.state is RUNNING
            if snapshot is None:
                snapshot = yield from self.snapshot(end=end)
            made: list[LocalBox] = []
            try:
                for _ in range(count):
                    box = self._engine.create(attrs.evolve(self._spec, name=None))
                    made.append(box)
                    yield from box.reset(snapshot)
                    if runs:
                        yield from box.start()
            except BaseException:
                for box in made:
                    yield from box.remove()
                raise
            return made

    def _require_layers(self, what: str) -> None:
        """
        Refuse where layers cannot be read, or lie below others, apart from their jail.

        Raises:
            Unsupported: If the kernel is too old.
        """
        if not self._engine.facts.can_clone_detached:
            raise Unsupported(what, since="6.15")

    def _demand_idle(self) -> None:
        """
        Refuse while anything runs in it but its init.

        Raises:
            StateError: If something does.
        """
        hint = (
            "Stop it, or give end=True: its programs are ended, and a main program is"
            " started anew. A commit can be made while they run."
        )
        if self._main is None and any(isinstance(m, Tmpfs) for m in self._spec.mounts):
            raise StateError(
                self.name, "running, with memory file systems", "snapshot",
                ["stopped"], hint=hint,
            )  # fmt: skip
        busy = ["its main program"] if self._main is not None else self._programs()
        if busy:
            raise StateError(
                self.name, f"running {', '.join(busy)}", "snapshot",
                ["created", "stopped", "running nothing"], hint=hint,
            )  # fmt: skip

    def _programs(self) -> list[str]:
        """Name what runs in it beside what is ours."""
        proc = self.files().path("/proc")
        found = []
        for entry in proc.iterdir():
            if entry.name.isdecimal():
                with contextlib.suppress(OSError):
                    name = (entry / "comm").read_bytes().decode("utf-8", "replace")
                    found.append(name.strip())
        return [name for name in found if not name.startswith("jailbox-")]

    # --- numbers and words ---------------------------------------------------------

    def stats(self) -> Stats:
        """What it uses now."""
        self._demand("look at the use of", RUNNING, PAUSED)
        sandbox = self._running()
        found = parse_stats(sandbox.read_files(dict(sandbox.compiled.cgroups.live)))
        return Stats(
            memory=found.memory,
            memory_peak=found.memory_peak,
            cpu_time=found.cpu_time,
            processes=found.processes,
            io_read=found.io_read,
            io_written=found.io_written,
        )

    def logs(self) -> Sequence[LogEntry]:
        """What its main program wrote so far."""
        with self._lock:
            if self._log is None:
                return ()
            fd = self._log.fileno()
            data = os.pread(fd, os.fstat(fd).st_size, 0)
        return tuple(log_entries(data))


def log_entries(data: bytes) -> Iterator[LogEntry]:
    """Read a log as init writes it; an entry that is being written is left out."""
    at = 0
    while at + _LOG_ENTRY.size <= len(data):
        moment, stream, size = _LOG_ENTRY.unpack_from(data, at)
        at += _LOG_ENTRY.size
        if at + size > len(data):
            return  # it is just being written
        yield LogEntry(
            moment / 1e9, _STREAMS.get(stream, "stdout"), data[at : at + size]
        )
        at += size


def _write(path: str, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def _has_line(path: str, line: str) -> bool:
    with open(path, encoding="ascii") as file:
        return line in file.read().splitlines()
