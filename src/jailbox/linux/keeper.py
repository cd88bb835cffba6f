"""
The keeper, seen from the host: started once, asked for jails, told to end them.

It obeys: what a jail is made of is decided in plans. One keeper belongs to one
process. A forked child that finds its parent's keeper makes its own, and never
touches the parent's jails.

Source: ``_native/jailbox.h`` has the messages, ``_native/keeper.c`` the other side.
"""

import contextlib
import errno
import os
import threading
from collections.abc import Iterator, Sequence

import attrs

from jailbox._native import ffi, lib
from jailbox.errors import EngineError, LaunchError
from jailbox.linux.facts import HostFacts
from jailbox.linux.fd import channel_pair, close_all, open_path
from jailbox.linux.messages import Ready, Report, receive, refusal
from jailbox.linux.plan import Group, Prepared
from jailbox.linux.record import (
    KILL,
    LARGE,
    MESSAGE_KILL,
    MESSAGE_LARGE,
    encode_configure,
    encode_prepare,
    stamp_start,
)
from jailbox.linux.state import claim, run_directory, sweep

__all__ = ["ID_COUNT", "Keeper", "KeeperConfig", "send"]

ID_COUNT = 65536
"""Ids of a jail that has more than one."""

# systemd keeps 0x00080000 to 0x6fffffff for itself and everything from 2**31 on is
# trouble for somebody (systemd, UIDS-GIDS.md): these 4,096 ranges are nobody's.
_ID_FIRST = 0x7000_0000
_ID_RANGES = 4096

_ROOTLESS, _SUBUID, _OUTLIVE = 1, 2, 4

_PREPARED_MAX = 256
"""Trees that a keeper can hold (``JB_PREPARED_MAX``)."""

_DATAGRAM_MAX = 60_000
"""Bytes of a record that travel in a datagram; larger ones in a memfd."""


@attrs.frozen(kw_only=True)
class KeeperConfig:
    """
    What a keeper is started with.

    Attributes:
        facts: The machine.

        groups: Control groups that all of its jails stand below; ``{keeper}`` in a
            path is its name.

        outlive: It and its jails go on when this process ends.
    """

    facts: HostFacts
    groups: tuple[Group, ...] = ()
    outlive: bool = False


def send(fd: int, record: bytes | bytearray, fds: Sequence[int] = ()) -> None:
    """
    Send one record and its descriptors, which stay owned by the caller.

    Raises:
        OSError: If nobody is left at the other side.
    """
    if len(record) > _DATAGRAM_MAX:
        with _in_memory(record) as memory:
            outer = LARGE.pack(MESSAGE_LARGE, len(record))
            _send(fd, outer, [*fds, memory])
    else:
        _send(fd, record, fds)


def _send(fd: int, record: bytes | bytearray, fds: Sequence[int]) -> None:
    numbers = ffi.new("int[]", list(fds)) if fds else ffi.NULL
    failed = lib.jb_send(fd, ffi.from_buffer(record), len(record), numbers, len(fds))
    if failed:
        raise OSError(-failed, os.strerror(-failed))


@contextlib.contextmanager
def _in_memory(record: bytes | bytearray) -> Iterator[int]:
    memory = os.memfd_create("jailbox-record", os.MFD_CLOEXEC)
    try:
        view = memoryview(record)
        while view:
            view = view[os.write(memory, view) :]
        yield memory
    finally:
        os.close(memory)


class Keeper:
    """
    A living keeper of this process.

    Thread-safe: requests are single messages.

    Attributes:
        name: Its name, which its control groups carry.

        owner: The process that started it.

        pidfd: Readable when it is gone; owned here.
    """

    def __init__(self, config: KeeperConfig) -> None:
        self.owner = os.getpid()
        self._lock = threading.Lock()
        # Held while the socket is used, and while it is closed: its number may be
        # another file's a moment later, and a request must not end up there.
        self._wire = threading.Lock()
        self._next = 0
        self._prepared: dict[str, int] = {}
        directory = run_directory()
        sweep(directory, _parents(config.groups))
        groups = [group.path for group in config.groups if "{keeper}" in group.path]
        self.name, lock = claim(directory, groups)
        state = os.path.join(directory, f"{self.name}.keeper")
        try:
            self._socket, self.pidfd = _spawn(config, self.name, directory, state, lock)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(state)
            raise
        finally:
            os.close(lock)

    @property
    def alive(self) -> bool:
        """Whether it is this process' own and still there."""
        if self.owner != os.getpid():
            return False
        with self._wire:
            return self._socket >= 0 and not _is_over(self.pidfd)

    @property
    def prepared(self) -> int:
        """How many shared trees it holds."""
        return len(self._prepared)

    def number(self) -> int:
        """Take a number for a new jail."""
        with self._lock:
            self._next += 1
            return self._next

    def start(
        self, record: bytearray, number: int, name: str, fds: Sequence[int]
    ) -> None:
        """
        Have a jail started. What comes of it is told on its channel, ``fds[0]``.

        Raises:
            EngineError: If the keeper is gone.
        """
        stamp_start(record, number, name, len(fds))
        self._request(record, fds)

    def kill(self, number: int, *, release: bool = False) -> None:
        """
        End a jail with everything in it. Harmless if it has ended.

        With *release* its range of ids is free for others.
        """
        # Gone with the keeper: everything has been killed then.
        with contextlib.suppress(EngineError):
            self._request(KILL.pack(MESSAGE_KILL, release, number), ())

    def work(self, record: bytes, fds: Sequence[int]) -> None:
        """
        Have a piece of work done. What comes of it is told on its channel, ``fds[0]``.

        Raises:
            EngineError: If the keeper is gone.
        """
        self._request(record, fds)

    def settle(self) -> None:
        """Throw away jails that were made before anybody asked for them."""
        self.kill(0)

    def prepare(self, prepared: Prepared) -> int | None:
        """
        Find the number of a shared tree, building it if it is new.

        Returns:
            The number; ``None`` if this keeper has as many trees as it can hold.

        Raises:
            LaunchError: If it cannot be built.
        """
        found = self._prepared.get(prepared.key)
        if found is not None:
            return found
        with self._lock:
            number = len(self._prepared)
            if number == _PREPARED_MAX:
                return None
            self._build(prepared, number)
            self._prepared[prepared.key] = number
            return number

    def _build(self, prepared: Prepared, number: int) -> None:
        ours, theirs = channel_pair()
        opened = [theirs]
        try:
            opened += map(open_path, prepared.sources)
            self._request(encode_prepare(prepared, number), opened)
            close_all(opened)
            opened = []
            answer = _wait(ours)
        finally:
            os.close(ours)
            close_all(opened)
        if isinstance(answer, Report):
            raise refusal(answer)

    def close(self) -> None:
        """End the keeper and every jail of it, and wait until all is gone."""
        # A forked child is alone with its copy; the lock may be held for ever in it.
        own = self.owner == os.getpid()
        with self._wire if own else contextlib.nullcontext():
            if self._socket < 0:
                return
            os.close(self._socket)
            self._socket = -1
        if own:
            _await_end(self.pidfd)
        os.close(self.pidfd)

    def leave(self) -> None:
        """Leave a keeper that outlives us to itself."""
        with self._wire:
            if self._socket >= 0:
                os.close(self._socket)
                os.close(self.pidfd)
                self._socket = -1

    def _request(self, record: bytes | bytearray, fds: Sequence[int]) -> None:
        try:
            with self._wire:
                send(self._socket, record, fds)
        except OSError as error:
            if error.errno not in {errno.EPIPE, errno.ECONNRESET, errno.EBADF}:
                raise
            raise EngineError(
                "the keeper of this process is gone",
                hint="It was killed from outside; the next start makes a new one.",
            ) from error


def _parents(groups: Sequence[Group]) -> tuple[str, ...]:
    """The directories in which keepers have theirs."""
    return tuple(
        os.path.dirname(group.path) for group in groups if "{keeper}" in group.path
    )


def _spawn(
    config: KeeperConfig, name: str, directory: str, state: str, lock: int
) -> tuple[int, int]:
    """Start the helper; its socket and its pidfd, owned by the caller."""
    facts = config.facts
    groups = [
        attrs.evolve(group, path=group.path.replace("{keeper}", name), shared=True)
        for group in config.groups
    ]
    flags = _OUTLIVE * config.outlive
    maps: dict[str, str] = {}
    count = ID_COUNT
    if facts.is_rootful:
        maps["lock_path"] = os.path.join(directory, "ids")
    else:
        flags |= _ROOTLESS
        if facts.id_mode == "subuid":
            flags |= _SUBUID
            assert facts.newuidmap is not None  # noqa: S101  # id_mode says so
            assert facts.newgidmap is not None  # noqa: S101
            maps["uid_map"] = _map(facts.euid, facts.subuid)
            maps["gid_map"] = _map(facts.egid, facts.subgid)
            maps["newuidmap"] = facts.newuidmap.path
            maps["newgidmap"] = facts.newgidmap.path
        else:
            count = 1
    record = encode_configure(
        flags=flags,
        uid=facts.euid,
        gid=facts.egid,
        id_first=_ID_FIRST,
        id_ranges=_ID_RANGES,
        id_count=count,
        parents=groups,
        state=state,
        **maps,
    )
    pidfd = ffi.new("int *", -1)
    report = ffi.new("struct jb_report *")
    host = os.pidfd_open(os.getpid())
    try:
        socket = lib.jb_keeper_spawn(
            ffi.from_buffer(record), len(record), host, lock, pidfd, report
        )
    finally:
        os.close(host)
    if socket < 0:
        raise refusal(Report.read(bytes(ffi.buffer(report))))
    return socket, pidfd[0]


def _map(own: int, ranges: Sequence[object]) -> str:
    """Arguments of newuidmap: our own id is 0, then the subordinate ones from 1 on."""
    words = [f"0 {own} 1"]
    inside = 1
    for part in ranges:
        start, count = part.start, part.count  # type: ignore[attr-defined]
        count = min(count, ID_COUNT - inside)
        if count > 0:
            words.append(f"{inside} {start} {count}")
            inside += count
    return " ".join(words)


def _is_over(pidfd: int) -> bool:
    import select

    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _await_end(pidfd: int) -> None:
    import select

    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll(10_000)


def _wait(channel: int) -> Ready | Report:
    """Wait for the answer to a request that the keeper carries out at once."""
    import select

    poll = select.poll()
    poll.register(channel, select.POLLIN)
    poll.poll(10_000)
    received = receive(channel)
    message = None if received is None else received[0]
    if isinstance(message, Ready | Report):
        return message
    raise LaunchError("spawn", errno.ETIMEDOUT, "keeper")
