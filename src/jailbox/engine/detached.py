"""
A container that outlives the program that started it.

It has a keeper of its own, and a directory in the run directory that is its name:
whoever of the same user finds the directory can talk to the keeper through a socket in
it, read the log, and learn how it ended. The directory is ours alone, so what is read
from it was written by us.

Its writable layer ends with its jail: a stopped detached container has a log and an
exit status, but no files, and is not started again.
"""

import contextlib
import errno
import os
import pickle
import shutil
import socket
import time
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from jailbox.engine.base import LogEntry
from jailbox.engine.box import PAUSED, RUNNING, STOPPED, LocalBox, log_entries
from jailbox.errors import EngineError, NotFound, SpecError, StateError, Unsupported
from jailbox.flow import Flow
from jailbox.linux.fd import Fd
from jailbox.linux.keeper import Keeper, KeeperConfig, send
from jailbox.linux.messages import END, Exited, Gone, Message, parse
from jailbox.linux.record import KILL, MESSAGE_KILL
from jailbox.linux.state import run_directory
from jailbox.run.channel import Channel
from jailbox.run.compile import Compiled
from jailbox.run.rootfs import Rootfs
from jailbox.run.sandbox import Sandbox, Visit, Wanted
from jailbox.spec.container import ContainerSpec, ContainerState

if TYPE_CHECKING:
    from jailbox.engine.local import LocalEngine

__all__ = ["DetachedBox", "find_detached", "list_detached"]

_JAIL = "jail"  # the one jail of its keeper
_NUMBER = 1
_VERSION = 1
_OVER = (
    "What a detached container has written ends with its jail, which nobody keeps; a "
    "writable mount keeps files beyond it."
)


@attrs.frozen(kw_only=True)
class _Record:
    """What another process must know to talk to it."""

    version: int
    spec: ContainerSpec
    rootfs: Rootfs
    compiled: Compiled


class _Remote:
    """Its keeper, as far as a visitor can ask it for something."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def number(self) -> int:
        """The number of its one jail."""
        return _NUMBER

    def start(self, *_: object) -> None:
        """Refuse: it has been started."""
        raise StateError("detached", "running", "start")

    def kill(self, number: int, *, release: bool = False) -> None:
        """End the jail. Harmless if it has ended."""
        with contextlib.suppress(OSError):
            send(self._channel.fileno(), KILL.pack(MESSAGE_KILL, release, number))


def _home(name: str) -> str:
    return os.path.join(run_directory(), f"{name}.box")


def find_detached(engine: "LocalEngine", name: str) -> "DetachedBox":
    """
    Find a detached container of this user by its name.

    Raises:
        NotFound: If there is none.
    """
    try:
        with open(os.path.join(_home(name), "record"), "rb") as file:
            record = pickle.load(file)  # noqa: S301  # in a directory that is ours alone
    except FileNotFoundError:
        raise NotFound("container", name) from None
    if record.version != _VERSION:
        raise EngineError(f"container {name} was started by another version of jailbox")
    return DetachedBox.found(engine, record)


def list_detached(engine: "LocalEngine") -> tuple["DetachedBox", ...]:
    """Find every detached container of this user."""
    found = []
    for entry in sorted(os.listdir(run_directory())):
        name, dot, kind = entry.rpartition(".")
        if dot and kind == "box":
            with contextlib.suppress(NotFound, EngineError):
                found.append(find_detached(engine, name))
    return tuple(found)


class DetachedBox(LocalBox):
    """One detached container."""

    @classmethod
    def found(cls, engine: "LocalEngine", record: _Record) -> "DetachedBox":
        """Make the object for a container that somebody has started."""
        box = cls(engine, record.spec)
        box._rootfs, box._compiled = record.rootfs, record.compiled
        box._state = RUNNING
        box._join()
        return box

    # --- starting --------------------------------------------------------------

    def start(self, timeout: float | None = None) -> Flow[None]:
        """Start it, with a keeper of its own."""
        with self._lock:
            if self.state is STOPPED:
                raise StateError(
                    self.name,
                    STOPPED,
                    "start",
                    [ContainerState.CREATED],
                    hint=f"{_OVER} Remove it and start another.",
                )
            self._demand("start", ContainerState.CREATED)
            home = _home(self.name)
            try:
                os.mkdir(home, 0o700)
            except FileExistsError:
                raise SpecError(
                    "name",
                    "is taken by a detached container",
                    value=self.name,
                    accepted=f"another name; or Container.get({self.name!r}).remove()",
                ) from None
            try:
                yield from self._launch(home, timeout)
            except BaseException:
                if self._sandbox is not None:
                    self._sandbox.kill()
                    self._drop_jail()
                shutil.rmtree(home, ignore_errors=True)
                raise
            self._state = RUNNING

    def _launch(self, home: str, timeout: float | None) -> Flow[None]:
        engine = self._engine
        keeper = Keeper(
            KeeperConfig(facts=engine.facts, groups=engine.parents(), outlive=True)
        )
        try:
            self._rootfs = engine.rootfs(self._spec)
            self._compiled = engine.compile(
                self._with_volumes(self._spec, self._rootfs),
                self._rootfs,
                hostname=self.hostname,
                keeper=keeper,
                keep_layer=True,
            )
            main = self._main_program()
            self._write_record(home)
            with (
                Fd(os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as place,
                _listening(place) as listener,
                _log_file(home) as log,
            ):
                starter = Sandbox(
                    keeper, self._compiled, _JAIL, self._spec.limits, number=_NUMBER
                )
                starter.start_detached(
                    main,
                    Wanted(
                        log=log.fileno(),
                        max_output=0,
                        standing=self._spec.command is None,
                    ),
                    Visit(
                        listener=listener.fileno(),
                        home=place.fileno(),
                        lease=None if self._lease is None else self._lease.fileno(),
                    ),
                )
            self._join()
            deadline = None if timeout is None else time.monotonic() + timeout
            yield from self._complete(self._running(), deadline, timeout)
        finally:
            keeper.leave()

    def _write_record(self, home: str) -> None:
        assert self._rootfs is not None  # noqa: S101  # _launch() set both
        assert self._compiled is not None  # noqa: S101
        record = _Record(
            version=_VERSION,
            spec=self._spec,
            rootfs=attrs.evolve(self._rootfs, prepared=None),
            compiled=self._compiled,
        )
        path = os.path.join(home, "record")
        with open(f"{path}.new", "xb") as file:
            pickle.dump(record, file)
        os.rename(f"{path}.new", path)

    # --- joining -----------------------------------------------------------------

    def _join(self) -> None:
        """Connect to its keeper; or, when that is gone, read its last words."""
        channel = self._connect()
        assert self._compiled is not None  # noqa: S101  # whoever joins has it
        sandbox = Sandbox(
            _Remote(channel), self._compiled, _JAIL, self._spec.limits, number=_NUMBER
        )
        sandbox.channel = channel
        # Objects for it come and go; none of them may keep its visit open.
        weakref.finalize(self, channel.close).atexit = False
        self._sandbox = sandbox
        program = None if self._rootfs is None else self._main_program()
        self._main = None if program is None else sandbox.main_process(program)

    def _connect(self) -> Channel:
        home = _home(self.name)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            place = os.open(home, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                # By descriptor, for a path of a socket may have 107 bytes.
                sock.connect(f"/proc/self/fd/{place}/control")
                return Channel(sock.detach())
            except OSError as error:
                if error.errno not in {errno.ENOENT, errno.ECONNREFUSED}:
                    raise
            finally:
                os.close(place)
        channel = Channel(-1)
        channel.over = True
        for message in self._last_words():
            if isinstance(message, Exited):
                channel.exited = message
            elif isinstance(message, Gone):
                channel.gone = message
        return channel

    def _last_words(self) -> Iterator[Message]:
        try:
            with open(os.path.join(_home(self.name), "exit"), "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return  # its keeper was killed: nobody knows
        at = 0
        while at + 4 <= len(data):
            size = int.from_bytes(data[at : at + 4], "little")
            message = parse(data[at + 4 : at + 4 + size]) if size else END
            at += 4 + size
            yield message

    # --- what is different ---------------------------------------------------------

    @property
    def state(self) -> ContainerState | None:
        """The state it is in now; ``None`` when somebody has removed it."""
        with self._lock:
            gone = self._state in {RUNNING, PAUSED, STOPPED}
            if gone and not os.path.isdir(_home(self.name)):
                self._drop_jail()
                self._state = None
            return super().state

    def remove(self) -> Flow[None]:
        """End it and remove everything of it, whoever started it. Idempotent."""
        with self._lock:
            running = self.state in {RUNNING, PAUSED}
            sandbox = self._sandbox if running else None
        if sandbox is not None:
            yield from self._end(sandbox)
        with self._lock:
            self._drop_jail()
            if self._mounted is not None:
                self._mounted.release()
            self._state = None
            shutil.rmtree(_home(self.name), ignore_errors=True)
        self._engine.forget(self.name)

    def connect(
        self, overlay: int = -1
    ) -> contextlib.AbstractContextManager[socket.socket]:
        """Open a conversation with a file agent; only while it runs."""
        if self.state is STOPPED:
            raise StateError(
                self.name,
                STOPPED,
                "reach the files of it",
                [RUNNING],
                hint=f"{_OVER} Copy them out while it runs.",
            )
        return super().connect(overlay)

    def _require_layers(self, what: str) -> None:
        """Refuse: its layer is with its own keeper."""
        raise Unsupported(
            f"{what} that are detached",
            hint="Use a container that belongs to this process.",
        )

    def logs(self) -> tuple[LogEntry, ...]:
        """What its main program wrote so far."""
        try:
            with open(os.path.join(_home(self.name), "log"), "rb") as file:
                return tuple(log_entries(file.read()))
        except FileNotFoundError:
            return ()


@contextlib.contextmanager
def _listening(place: Fd) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.bind(f"/proc/self/fd/{place.fileno()}/control")
        sock.listen(16)
        yield sock


def _log_file(home: str) -> Fd:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return Fd(os.open(os.path.join(home, "log"), flags, 0o600))
