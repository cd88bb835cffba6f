"""
Operations on the files of a container, as flows: one conversation with an agent each.
"""

import contextlib
import errno
import os
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from socket import socket
from typing import Protocol, TypeAlias

import attrs

from jailbox.errors import EngineError
from jailbox.flow import Flow, offload
from jailbox.linux.tree import (
    Bounds,
    Copied,
    Flag,
    Item,
    LayerChange,
    Reply,
    Request,
    Stat,
    Task,
    ask,
    receive,
    send,
    send_items,
)
from jailbox.run.landing import (
    DIRECTORY_MODE,
    FILE_MODE,
    Content,
    Place,
    bytes_of,
    items_of,
    jail_path,
    landing,
    name_of,
    patterns_of,
    slashed_path,
)
from jailbox.run.users import identify
from jailbox.spec.change import Change, ChangeKind, FileType
from jailbox.spec.command import User, user_of
from jailbox.spec.texts import AnyPath, text_of
from jailbox.spec.units import parse_duration

__all__ = ["READ_MAX", "Agents", "FileFlows", "Owner", "Source", "Timeout"]

Timeout: TypeAlias = float | timedelta | None

Owner: TypeAlias = int | str | User | None
"""``1000``, ``"1000:100"``, ``"www-data"``; names are those of the container."""

Source: TypeAlias = "AnyPath | bytearray | memoryview | Mapping[str, Content]"

READ_MAX = 1 << 30
"""Bytes that are read into memory unless more is asked for."""

_PASSWD_MAX = 1 << 20


class Agents(Protocol):
    """Where the agents of one container come from."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Where its writable layers are seen, in the order of their numbers."""

    @property
    def mount_points(self) -> frozenset[str]:
        """What was made to be mounted on, if it was not there."""

    def connect(self, overlay: int = -1) -> AbstractContextManager[socket]:
        """
        Open a conversation with an agent, which ends with the socket.

        Args:
            overlay: Number of the layer that it shall compare, or -1.
        """


def _change(layer: str, change: LayerChange) -> Change:
    seen = change.old if change.kind is ChangeKind.REMOVED else change.now
    path = f"{layer.rstrip('/')}/{change.path}"
    if seen is None:  # the agent checked that it is not
        return Change(change.kind, path)
    size = seen.size if seen.type in {FileType.FILE, FileType.SYMLINK} else 0
    return Change(
        change.kind,
        path,
        seen.type,
        size=size,
        mode=seen.mode,
        uid=seen.uid,
        gid=seen.gid,
    )


class FileFlows:
    """
    Operations on the files of one container, as flows.

    Each opens a conversation of its own. `Files` documents them.
    """

    def __init__(self, agents: Agents) -> None:
        self._agents = agents

    def _ask(
        self, action: str, request: Request, timeout: Timeout, bounds: Bounds
    ) -> Flow[Reply]:
        """Do one thing that moves no file."""
        task = _task(action, request.path, None, timeout)
        with contextlib.ExitStack() as stack:
            sock = yield from self._connect(stack)
            return (yield from ask(sock, request, task, bounds))

    def _connect(self, stack: contextlib.ExitStack, layer: int = -1) -> Flow[socket]:
        connection = self._agents.connect(layer)
        return (yield from offload(lambda: stack.enter_context(connection)))

    # --- looking ---

    def stat(
        self, path: AnyPath, *, follow_symlinks: bool = True, timeout: Timeout = None
    ) -> Flow[Stat]:
        """See `Files.stat`."""
        place = jail_path(path)
        request = Request(verb="GET", path=place, flags=_follow(follow_symlinks))
        reply = yield from self._ask(f"stat {place!r}", request, timeout, Bounds())
        return attrs.evolve(_only(reply), name=name_of(place))

    def list(
        self,
        path: AnyPath,
        *,
        depth: int | None = 1,
        timeout: Timeout = None,
        bounds: Bounds | None = None,
    ) -> Flow[tuple[tuple[str, Stat], ...]]:
        """See `Files.list`."""
        place = jail_path(path)
        request = Request(verb="GET", path=place, flags=("FOLLOW",), depth=depth)
        reply = yield from self._ask(
            f"list {place!r}", request, timeout, bounds or Bounds()
        )
        if _only(reply).type is not FileType.DIRECTORY:
            raise _refused(errno.ENOTDIR, place)
        return reply.found[1:]

    def read(
        self, path: AnyPath, *, max_bytes: int = READ_MAX, timeout: Timeout = None
    ) -> Flow[bytes]:
        """See `Files.read`."""
        place = jail_path(path)
        request = Request(
            verb="GET",
            path=place,
            flags=("FOLLOW", "DATA_TOO"),
            max_bytes=max_bytes,
        )
        bounds = Bounds(entries=1, bytes=max_bytes)
        reply = yield from self._ask(f"read {place!r}", request, timeout, bounds)
        return _content(reply, place)

    # --- changing ---

    def write(
        self,
        path: AnyPath,
        data: Content,
        *,
        mode: int | None = None,
        owner: Owner = None,
        new: bool = False,
        parents: bool = False,
        timeout: Timeout = None,
    ) -> Flow[int]:
        """See `Files.write`."""
        place, slashed = slashed_path(path, "path")
        content = bytes_of(data, place)
        flags: tuple[Flag, ...] = ("FOLLOW",)
        flags += ("NEW_ONLY",) if new else ()
        flags += ("KEEP",) if mode is None and owner is None else ()
        flags += ("PARENTS",) if parents else ()
        item = Item("file", b"file", content, FILE_MODE if mode is None else mode)
        task = _task(f"write {place!r}", place, None, timeout)
        with contextlib.ExitStack() as stack:
            sock = yield from self._connect(stack)
            request = Request(
                verb="PUT",
                path=place + "/" * slashed,
                flags=flags,
                owner=(yield from _identity(sock, owner, task)),
            )
            return (yield from send_items(sock, request, [item], task)).bytes

    def mkdir(
        self,
        path: AnyPath,
        *,
        mode: int = DIRECTORY_MODE,
        parents: bool = False,
        exist_ok: bool = False,
        timeout: Timeout = None,
    ) -> Flow[None]:
        """See `Files.mkdir`."""
        place = jail_path(path)
        flags: tuple[Flag, ...] = ("PARENTS",) if parents else ()
        flags += ("EXIST_OK",) if exist_ok else ()
        request = Request(verb="MKDIR", path=place, mode=mode, flags=flags)
        yield from self._ask(f"mkdir {place!r}", request, timeout, Bounds())

    def remove(
        self,
        path: AnyPath,
        *,
        recursive: bool = False,
        directory: bool = False,
        missing_ok: bool = False,
        timeout: Timeout = None,
    ) -> Flow[None]:
        """See `Files.remove`."""
        place = jail_path(path)
        flags: tuple[Flag, ...] = ("RECURSIVE",) if recursive else ()
        flags += ("DIRECTORY",) if directory else ()
        flags += ("MISSING_OK",) if missing_ok else ()
        request = Request(verb="REMOVE", path=place, flags=flags)
        yield from self._ask(f"remove {place!r}", request, timeout, Bounds())

    def rename(
        self,
        path: AnyPath,
        target: AnyPath,
        *,
        replace: bool = True,
        timeout: Timeout = None,
    ) -> Flow[None]:
        """See `Files.rename`."""
        place, other = jail_path(path), jail_path(target, "target")
        request = Request(
            verb="RENAME",
            path=place,
            second=other,
            flags=() if replace else ("NEW_ONLY",),
        )
        action = f"rename {place!r} to {other!r}"
        yield from self._ask(action, request, timeout, Bounds())

    def symlink(
        self, path: AnyPath, target: AnyPath, *, timeout: Timeout = None
    ) -> Flow[None]:
        """See `Files.symlink`."""
        place = jail_path(path)
        request = Request(
            verb="LINK", path=place, second=text_of(target, "target"), owner=(0, 0)
        )
        yield from self._ask(f"make link {place!r}", request, timeout, Bounds())

    def change(
        self,
        path: AnyPath,
        *,
        mode: int | None = None,
        owner: Owner = None,
        mtime_ns: int | None = None,
        now: bool = False,
        follow_symlinks: bool = True,
        timeout: Timeout = None,
    ) -> Flow[None]:
        """See `Files.change`."""
        place = jail_path(path)
        flags = _follow(follow_symlinks)
        flags += ("MODE",) if mode is not None else ()
        flags += ("NOW",) if now else ()
        task = _task(f"change {place!r}", place, None, timeout)
        with contextlib.ExitStack() as stack:
            sock = yield from self._connect(stack)
            request = Request(
                verb="SET",
                path=place,
                flags=flags,
                mode=mode or 0,
                mtime_ns=mtime_ns,
                owner=(yield from _identity(sock, owner, task, unset=None)),
            )
            yield from ask(sock, request, task, Bounds())

    # --- copying ---

    def put(
        self,
        source: Source,
        target: AnyPath,
        *,
        excludes: Iterable[str] = (),
        owner: Owner = None,
        parents: bool = False,
        follow_symlinks: bool = False,
        xattrs: bool = False,
        timeout: Timeout = None,
        bounds: Bounds | None = None,
    ) -> Flow[Copied]:
        """See `Files.put`."""
        place, slashed = slashed_path(target, "target")
        patterns = patterns_of(excludes)
        flags: tuple[Flag, ...] = ("FOLLOW", "PARENTS") if parents else ("FOLLOW",)
        items: list[Item] = []
        local = None
        second = ""
        if isinstance(source, Mapping):
            items = items_of(source)
        elif isinstance(source, bytes | bytearray | memoryview):
            content = bytes_of(source, place)
            items = [Item("file", b"file", content, FILE_MODE)]
            flags += ("KEEP",) if owner is None else ()
        else:
            local = os.fsdecode(text_of(source, "source"))
            if follow_symlinks and not local.endswith("/."):
                local = os.path.realpath(local, strict=True)
        action = f"put {'content' if local is None else repr(local)} at {place!r}"
        task = _task(action, place, local, timeout)
        with contextlib.ExitStack() as stack:
            spot = None if local is None else Place.of(local)
            fd = -1 if spot is None else stack.enter_context(spot.opened())
            if spot is not None and spot.name != ".":
                flags += ("INTO",)
                second = os.fsencode(spot.name).decode("utf-8", "surrogateescape")
            sock = yield from self._connect(stack)
            request = Request(
                verb="PUT",
                path=place + "/" * slashed,
                second=second,
                flags=flags + (("XATTRS",) if xattrs else ()),
                owner=(yield from _identity(sock, owner, task)),
            )
            if spot is None:
                return (yield from send_items(sock, request, items, task))
            return (
                yield from send(
                    sock,
                    request,
                    fd,
                    spot.raw,
                    task,
                    bounds or Bounds(),
                    excludes=patterns,
                    xattrs=xattrs,
                )
            )

    def get(
        self,
        path: AnyPath,
        target: AnyPath,
        *,
        replace: bool = True,
        follow_symlinks: bool = False,
        keep_setid: bool = False,
        xattrs: bool = False,
        timeout: Timeout = None,
        bounds: Bounds | None = None,
    ) -> Flow[Copied]:
        """See `Files.get`."""
        place = jail_path(path)
        contents = place == "/" or text_of(path, "path").endswith("/.")
        local = os.fsdecode(text_of(target, "target"))
        spot = landing(local, name_of(place), contents=contents)
        if local.endswith("/") and not os.path.lexists(local.rstrip("/") or "/"):
            # A directory is meant, and only a directory can become one.
            found = yield from self.stat(path, follow_symlinks=follow_symlinks)
            if found.type is not FileType.DIRECTORY:
                raise _refused(errno.ENOTDIR, local)
        flags: tuple[Flag, ...] = ("DATA_TOO", *_follow(follow_symlinks or contents))
        flags += ("XATTRS",) if xattrs else ()
        request = Request(verb="GET", path=place, flags=flags, depth=None)
        task = _task(f"get {place!r} to {local!r}", place, local, timeout)
        with contextlib.ExitStack() as stack:
            fd = stack.enter_context(spot.opened())
            sock = yield from self._connect(stack)
            return (
                yield from receive(
                    sock,
                    request,
                    fd,
                    spot.raw,
                    task,
                    bounds or Bounds(),
                    replace=replace,
                    keep_setid=keep_setid,
                )
            )

    # --- comparing ---

    def changes(
        self, *, timeout: Timeout = None, bounds: Bounds | None = None
    ) -> Flow[tuple[Change, ...]]:
        """See `Files.changes`."""
        found: list[Change] = []
        task = _task("compare with the image", "/", None, timeout)
        for number, layer in enumerate(self._agents.layers):
            with contextlib.ExitStack() as stack:
                sock = yield from self._connect(stack, number)
                request = Request(verb="CHANGES", path=layer)
                reply = yield from ask(sock, request, task, bounds or Bounds())
            found += [_change(layer, each) for each in reply.changes]
        # What was replaced by another kind of thing was removed first.
        found.sort(key=lambda each: (each.path, each.kind is not ChangeKind.REMOVED))
        return _without_mount_points(found, self._agents.mount_points)

    def read_old(
        self, path: AnyPath, *, max_bytes: int = READ_MAX, timeout: Timeout = None
    ) -> Flow[bytes]:
        """See `Files.read_old`."""
        place = jail_path(path)
        layers = self._agents.layers
        within = [each for each in layers if _is_below(place, each)]
        if not within:
            raise _refused(errno.ENOENT, place)
        layer = max(within, key=len)
        request = Request(
            verb="GET",
            path="/" + place.removeprefix(layer).lstrip("/"),
            flags=("DATA_TOO",),
            where="lower",
            max_bytes=max_bytes,
        )
        task = _task(f"read {place!r} of the image", place, None, timeout)
        with contextlib.ExitStack() as stack:
            sock = yield from self._connect(stack, layers.index(layer))
            bounds = Bounds(entries=1, bytes=max_bytes)
            reply = yield from ask(sock, request, task, bounds)
        return _content(reply, place)


def _without_mount_points(
    found: list[Change], points: frozenset[str]
) -> tuple[Change, ...]:
    """Leave out what was made for mounts: they, and what only leads to them."""
    kept: list[Change] = []
    # From the end, so that what lies in a directory is known before it.
    for change in reversed(found):
        path = change.path
        ours = change.kind is ChangeKind.ADDED and any(
            _is_below(point, path) for point in points
        )
        if not (ours and not any(_is_below(each.path, path) for each in kept)):
            kept.append(change)
    return tuple(reversed(kept))


def _refused(number: int, path: str) -> OSError:
    """Make the error that the kernel would have raised."""
    return OSError(number, os.strerror(number), path)


def _task(action: str, path: str, local: str | None, timeout: Timeout) -> Task:
    seconds = None if timeout is None else parse_duration(timeout, "timeout")
    return Task.begin(action, path, local, seconds)


def _follow(follow: bool) -> tuple[Flag, ...]:  # noqa: FBT001  # passed on
    return ("FOLLOW",) if follow else ()


def _is_below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _only(reply: Reply) -> Stat:
    """What was asked for; an agent that says nothing has not kept to the protocol."""
    if not reply.found:
        raise EngineError("file agent", "it answered without saying anything")
    return reply.found[0][1]


def _content(reply: Reply, path: str) -> bytes:
    kind = _only(reply).type
    if kind is FileType.DIRECTORY:
        raise _refused(errno.EISDIR, path)
    if kind is not FileType.FILE:
        error = _refused(errno.EOPNOTSUPP, path)
        error.add_note(f"It is a {kind}: it has no content to be copied.")
        raise error
    return reply.data


def _identity(
    sock: socket, owner: Owner, task: Task, unset: tuple[int, int] | None = (0, 0)
) -> Flow[tuple[int, int] | None]:
    """Find the numbers of *owner*, in the files of the container where needed."""
    user = user_of(owner)
    if user is None:
        return unset
    if isinstance(user.user, int) and isinstance(user.group, int):
        return user.user, user.group
    texts = []
    for path in ("/etc/passwd", "/etc/group"):
        request = Request(
            verb="GET", path=path, flags=("FOLLOW", "DATA_TOO"), max_bytes=_PASSWD_MAX
        )
        bounds = Bounds(entries=1, bytes=_PASSWD_MAX)
        try:
            reply = yield from ask(sock, request, task, bounds)
        except FileNotFoundError:
            texts.append("")
        else:
            texts.append(reply.data.decode("utf-8", "surrogateescape"))
    identity = identify(user, (), *texts)
    return identity.uid, identity.gid
