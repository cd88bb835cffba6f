"""
The files of a container, running or not: read, write, copy in and out, compare.

Here is decided what a call means: which path, which owner, where a copy lands. The
copying itself is `jailbox.linux.tree`; the rights behind it are those of an agent
inside of the container, so no path of a container is ever looked up on the host.

`FileFlows` has every operation once, as a flow; `Files` is the blocking face, and
`jailbox.run.paths.ContainerPath` the one that looks like `pathlib`.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Generator, Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from socket import socket
from typing import Any, Protocol, TypeAlias, overload

import attrs

from jailbox.errors import EngineError, SpecError, SpecTypeError, shown
from jailbox.flow import Flow, drive, offload
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
from jailbox.run.paths import ContainerPath
from jailbox.run.users import identify
from jailbox.spec.change import Change, ChangeKind, FileType
from jailbox.spec.command import User, user_of
from jailbox.spec.texts import AnyPath, absolute_path, text_of
from jailbox.spec.units import parse_duration

__all__ = [
    "Agents",
    "Bounds",
    "ContainerPath",
    "Copied",
    "FileFlows",
    "Files",
    "Owner",
    "Source",
    "Stat",
    "items_of",
]

Timeout: TypeAlias = float | timedelta | None

Owner: TypeAlias = int | str | User | None
"""``1000``, ``"1000:100"``, ``"www-data"``; names are those of the container."""

Content: TypeAlias = bytes | bytearray | memoryview | str

Source: TypeAlias = "AnyPath | bytearray | memoryview | Mapping[str, Content]"

READ_MAX = 1 << 30
"""Bytes that are read into memory unless more is asked for."""

_PASSWD_MAX = 1 << 20
_DIRECTORY_MODE = 0o755
_FILE_MODE = 0o644


class Agents(Protocol):
    """Where the agents of one container come from."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Where its writable layers are seen, in the order of their numbers."""

    def connect(self, overlay: int = -1) -> AbstractContextManager[socket]:
        """
        Open a conversation with an agent, which ends with the socket.

        Args:
            overlay: Number of the layer that it shall compare, or -1.
        """


# --- what a call means ------------------------------------------------------


def _jail_path(value: AnyPath, argument: str = "path") -> str:
    return absolute_path(value, argument, "Paths in a container start with /.")


def _slashed(value: AnyPath, argument: str) -> tuple[str, bool]:
    """Take a path of a jail, and whether it was written as a directory."""
    text = text_of(value, argument)
    path = _jail_path(text, argument)
    return path, text.endswith(("/", "/."))


def _name_of(path: str) -> str:
    return path.rpartition("/")[2]


@attrs.frozen
class _Place:
    """
    A path of the host, ready to be opened.

    Attributes:
        directory: The directory it is in.

        name: Its name there, or ``.`` for the directory itself.
    """

    directory: str
    name: str

    @classmethod
    def of(cls, path: str) -> "_Place":
        directory, name = os.path.split(path.rstrip("/"))
        if name in {"", ".", ".."}:
            return cls(path or ".", ".")
        return cls(directory or ".", name)

    @contextlib.contextmanager
    def opened(self) -> Generator[int]:
        """Open the directory, for as long as this lasts."""
        fd = os.open(self.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)

    @property
    def raw(self) -> bytes:
        """The name in bytes."""
        return os.fsencode(self.name)


def _landing(target: str, name: str, *, contents: bool) -> _Place:
    """
    Decide where a copy to the host lands; the table stands at `Files.get`.

    Args:
        target: As the caller wrote it.

        name: What the source is called.

        contents: Whether the inside of the source is meant, not itself.
    """
    follow = target.endswith(("/", "/."))
    bare = target.rstrip("/") or "/"
    try:
        mode = os.stat(target).st_mode if follow else os.lstat(bare).st_mode
    except FileNotFoundError:
        return _Place.of(bare)
    if stat.S_ISLNK(mode) and os.path.isdir(bare):
        raise SpecError(
            "target",
            "is a symbolic link to a directory",
            value=target,
            hint="It may have come out of a container. To write where it points to, "
            "end the path with a slash.",
        )
    if not stat.S_ISDIR(mode):
        return _Place.of(bare)
    if contents:
        return _Place(target, ".")
    return _Place(target, name)


def items_of(mapping: Mapping[str, Content]) -> list[Item]:
    """
    Write names and contents as one directory with everything in it.

    Args:
        mapping: Contents by relative path. What stands before a slash becomes a
            directory; text is written in UTF-8.

    Raises:
        SpecError: If a path is absolute, leaves the directory, or is both a file and
            a directory.
    """
    root: dict[str, Any] = {}
    for path, content in mapping.items():
        text = text_of(path, "source")
        *directories, name = text.split("/")
        if any(part in {"", ".", ".."} for part in (*directories, name)):
            raise SpecError(
                "source",
                "has a path that is no plain relative one",
                value=path,
                accepted="names with single slashes between them: 'src/main.py'",
            )
        inner = root
        for part in directories:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                raise _both(path)
        if name in inner:
            raise _both(path)
        inner[name] = content
    items = [Item("directory", b"root", mode=_DIRECTORY_MODE)]
    # Without recursion, so that depth is bounded by what the agent takes, not by us.
    stack = [iter(sorted(root.items()))]
    while stack:
        name, content = next(stack[-1], ("", b""))
        raw = name.encode("utf-8", "surrogateescape")
        if not name:
            items.append(Item("end"))
            stack.pop()
        elif isinstance(content, dict):
            items.append(Item("directory", raw, mode=_DIRECTORY_MODE))
            stack.append(iter(sorted(content.items())))
        else:
            items.append(Item("file", raw, _bytes(content, name), mode=_FILE_MODE))
    return items


def _both(path: str) -> SpecError:
    return SpecError("source", "names a file that is also a directory", value=path)


def _bytes(content: object, name: str) -> bytes | bytearray | memoryview:
    if isinstance(content, str):
        return content.encode()
    if isinstance(content, bytes | bytearray):
        return content
    if isinstance(content, memoryview):
        return content.cast("B")
    raise SpecTypeError(
        "source",
        f"has no content for {shown(name)}",
        value=content,
        accepted="bytes or str",
    )


def _patterns(excludes: Iterable[str]) -> tuple[bytes, ...]:
    if isinstance(excludes, str | bytes):
        raise SpecTypeError(
            "excludes",
            "is one pattern, not several",
            value=excludes,
            accepted="a list: ['*.pyc', '.git']",
        )
    return tuple(os.fsencode(text_of(each, "excludes")) for each in excludes)


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


# --- operations -------------------------------------------------------------


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
        place = _jail_path(path)
        request = Request(verb="GET", path=place, flags=_follow(follow_symlinks))
        reply = yield from self._ask(f"stat {place!r}", request, timeout, Bounds())
        return attrs.evolve(_only(reply), name=_name_of(place))

    def list(
        self,
        path: AnyPath,
        *,
        depth: int | None = 1,
        timeout: Timeout = None,
        bounds: Bounds | None = None,
    ) -> Flow[tuple[tuple[str, Stat], ...]]:
        """See `Files.list`."""
        place = _jail_path(path)
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
        place = _jail_path(path)
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
        place, slashed = _slashed(path, "path")
        content = _bytes(data, place)
        flags: tuple[Flag, ...] = ("FOLLOW",)
        flags += ("NEW_ONLY",) if new else ()
        flags += ("KEEP",) if mode is None and owner is None else ()
        flags += ("PARENTS",) if parents else ()
        item = Item("file", b"file", content, _FILE_MODE if mode is None else mode)
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
        mode: int = _DIRECTORY_MODE,
        parents: bool = False,
        exist_ok: bool = False,
        timeout: Timeout = None,
    ) -> Flow[None]:
        """See `Files.mkdir`."""
        place = _jail_path(path)
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
        place = _jail_path(path)
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
        place, other = _jail_path(path), _jail_path(target, "target")
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
        place = _jail_path(path)
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
        place = _jail_path(path)
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
        place, slashed = _slashed(target, "target")
        patterns = _patterns(excludes)
        flags: tuple[Flag, ...] = ("FOLLOW", "PARENTS") if parents else ("FOLLOW",)
        items: list[Item] = []
        local = None
        second = ""
        if isinstance(source, Mapping):
            items = items_of(source)
        elif isinstance(source, bytes | bytearray | memoryview):
            content = _bytes(source, place)
            items = [Item("file", b"file", content, _FILE_MODE)]
            flags += ("KEEP",) if owner is None else ()
        else:
            local = os.fsdecode(text_of(source, "source"))
            if follow_symlinks and not local.endswith("/."):
                local = os.path.realpath(local, strict=True)
        action = f"put {'content' if local is None else repr(local)} at {place!r}"
        task = _task(action, place, local, timeout)
        with contextlib.ExitStack() as stack:
            spot = None if local is None else _Place.of(local)
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
        place = _jail_path(path)
        contents = place == "/" or text_of(path, "path").endswith("/.")
        local = os.fsdecode(text_of(target, "target"))
        landing = _landing(local, _name_of(place), contents=contents)
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
            fd = stack.enter_context(landing.opened())
            sock = yield from self._connect(stack)
            return (
                yield from receive(
                    sock,
                    request,
                    fd,
                    landing.raw,
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
        return tuple(found)

    def read_old(
        self, path: AnyPath, *, max_bytes: int = READ_MAX, timeout: Timeout = None
    ) -> Flow[bytes]:
        """See `Files.read_old`."""
        place = _jail_path(path)
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


# --- the blocking face ------------------------------------------------------


class Files:
    """
    The files of one container.

    Paths are absolute, and resolved inside: neither a link nor ``..`` leaves the
    container. What the kernel refuses is the `OSError` that the same call on the host
    would raise, with a note that says what was tried and on which side.

    ``timeout`` bounds a call, in seconds or as a timedelta. ``bounds`` says how much
    it may move.
    """

    def __init__(self, agents: Agents) -> None:
        self.flows = FileFlows(agents)

    def path(self, path: AnyPath = "/") -> ContainerPath:
        """A path that can be used like a `pathlib.Path`. Touches nothing."""
        return ContainerPath(self, _jail_path(path))

    def stat(
        self, path: AnyPath, *, follow_symlinks: bool = True, timeout: Timeout = None
    ) -> Stat:
        """Look at *path*."""
        return drive(
            self.flows.stat(path, follow_symlinks=follow_symlinks, timeout=timeout)
        )

    def list(
        self,
        path: AnyPath,
        *,
        depth: int | None = 1,
        timeout: Timeout = None,
        bounds: Bounds | None = None,
    ) -> tuple[tuple[str, Stat], ...]:
        """
        List a directory: paths below it, and what they are, in no order.

        Args:
            path: The directory.

            depth: How far down; ``None`` to the end.
        """
        return drive(self.flows.list(path, depth=depth, timeout=timeout, bounds=bounds))

    def read(
        self, path: AnyPath, *, max_bytes: int = READ_MAX, timeout: Timeout = None
    ) -> bytes:
        """
        Read a file.

        A file that is being written to is read up to the size it had at first.

        Args:
            path: The file; a link is followed.

            max_bytes: How large it may be.

        Raises:
            ContentError: If the file is larger.

            OSError: If it is no file; a pipe or a device is never waited for.
        """
        return drive(self.flows.read(path, max_bytes=max_bytes, timeout=timeout))

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
    ) -> int:
        """
        Write a file, whole or not at all: nobody sees half of it.

        A file that is there leaves its mode and owner to the new one, unless one of
        them is given. A link is followed.

        Args:
            path: The file.

            data: Bytes, or text, which is written in UTF-8.

            mode: Permission bits; 0o644 for a new file.

            owner: Whose it is; root's of the container for a new file.

            new: Nothing may be there.

            parents: Make missing directories.

        Returns:
            How many bytes were written.
        """
        return drive(
            self.flows.write(
                path,
                data,
                mode=mode,
                owner=owner,
                new=new,
                parents=parents,
                timeout=timeout,
            )
        )

    def mkdir(
        self,
        path: AnyPath,
        *,
        mode: int = _DIRECTORY_MODE,
        parents: bool = False,
        exist_ok: bool = False,
        timeout: Timeout = None,
    ) -> None:
        """
        Make a directory, which belongs to root of the container.

        Args:
            path: The directory.

            mode: Permission bits, whatever the umask.

            parents: Make missing directories before it.

            exist_ok: A directory may be there.
        """
        drive(
            self.flows.mkdir(
                path, mode=mode, parents=parents, exist_ok=exist_ok, timeout=timeout
            )
        )

    def remove(
        self,
        path: AnyPath,
        *,
        recursive: bool = False,
        directory: bool = False,
        missing_ok: bool = False,
        timeout: Timeout = None,
    ) -> None:
        """
        Remove a file or a link.

        Args:
            path: What to remove; a link itself.

            recursive: A directory too, with everything below.

            directory: An empty directory, and nothing else.

            missing_ok: There may be nothing.
        """
        drive(
            self.flows.remove(
                path,
                recursive=recursive,
                directory=directory,
                missing_ok=missing_ok,
                timeout=timeout,
            )
        )

    def rename(
        self,
        path: AnyPath,
        target: AnyPath,
        *,
        replace: bool = True,
        timeout: Timeout = None,
    ) -> None:
        """
        Rename, atomically.

        Args:
            path: What to rename; a link itself.

            target: Its new path.

            replace: Whether something may be there that is lost.

        Raises:
            OSError: EXDEV between two mounts, and for a directory that the image
                brought along; copy it then.
        """
        drive(self.flows.rename(path, target, replace=replace, timeout=timeout))

    def symlink(
        self, path: AnyPath, target: AnyPath, *, timeout: Timeout = None
    ) -> None:
        """Make a symbolic link at *path* that says *target*, whatever that is."""
        drive(self.flows.symlink(path, target, timeout=timeout))

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
    ) -> None:
        """
        Change what is given of mode, owner and time.

        Args:
            path: What to change.

            mode: Permission bits.

            owner: Whose it shall be.

            mtime_ns: The time of its last change, in nanoseconds since 1970.

            now: That time is now.

            follow_symlinks: Whether a link stands for what it points to.
        """
        drive(
            self.flows.change(
                path,
                mode=mode,
                owner=owner,
                mtime_ns=mtime_ns,
                now=now,
                follow_symlinks=follow_symlinks,
                timeout=timeout,
            )
        )

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
    ) -> Copied:
        """
        Copy into the container.

        Where it lands, as with ``docker cp``:

        ==================  =======================  ============================
        *target* is         a directory is put       a file is put
        ==================  =======================  ============================
        a directory         inside it, by its name   inside it, by its name
        a file              NotADirectoryError       in place of the file
        missing             there                    there
        missing, with a /   there                    NotADirectoryError
        ==================  =======================  ============================

        A *source* that ends with ``/.``, and a mapping, is a directory whose *content*
        goes into *target*; bytes become the file *target* itself. A link at the end of
        *target* is followed, inside the container.

        In an existing directory, files and links are replaced, directories are merged
        and keep mode, owner and time; a directory never replaces something else, nor
        something else a directory. A file appears whole, and a directory that is new
        with everything in it, or not at all.

        Modes, times and symbolic links are kept, hard links become files of their own.
        Devices, pipes and sockets are skipped, and named in the result.

        Args:
            source: A path of the host; bytes; or a mapping of relative paths to bytes
                or text.

            target: A path in the container.

            excludes: Patterns of what stays out, as in
                ``["*.pyc", ".git", "docs/**/*.tmp"]``: without a slash they are
                compared with every name, else with the path below the source.

            owner: Whose it shall be; root's of the container unless said.

            parents: Make missing directories that lead to *target*.

            follow_symlinks: If *source* itself is a link, copy what it points to.

            xattrs: Copy attributes ``user.*`` too.

        Raises:
            ContentError: If a bound is reached. Nothing is left half done.
        """
        return drive(
            self.flows.put(
                source,
                target,
                excludes=excludes,
                owner=owner,
                parents=parents,
                follow_symlinks=follow_symlinks,
                xattrs=xattrs,
                timeout=timeout,
                bounds=bounds,
            )
        )

    @overload
    def get(
        self,
        path: AnyPath,
        target: None = None,
        *,
        max_bytes: int = READ_MAX,
        timeout: Timeout = None,
    ) -> bytes: ...

    @overload
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
    ) -> Copied: ...

    def get(
        self,
        path: AnyPath,
        target: AnyPath | None = None,
        *,
        replace: bool = True,
        follow_symlinks: bool = False,
        keep_setid: bool = False,
        xattrs: bool = False,
        max_bytes: int = READ_MAX,
        timeout: Timeout = None,
        bounds: Bounds | None = None,
    ) -> Copied | bytes:
        """
        Copy out of the container: to *target* on the host, or as bytes.

        Where it lands is said by the table at `put`, and ``/.`` means the same. Nothing
        is ever written outside of *target*, whatever the container does meanwhile:
        links are copied, and none is followed. A link at *target* itself is replaced,
        unless the path ends with a slash.

        Everything belongs to the caller. Modes and times are kept, but for set-id and
        sticky bits; devices, pipes and sockets are skipped, and named in the result.

        Args:
            path: A path in the container.

            target: A path of the host, or ``None`` for the content of a file: then
                this is `read`.

            replace: Whether files and links may be replaced.

            follow_symlinks: If *path* itself is a link, copy what it points to.

            keep_setid: Keep set-id and sticky bits; they are the container's word.

            xattrs: Copy attributes ``user.*`` too.

            max_bytes: How large the content may be; only without *target*.

        Raises:
            ContentError: If a bound is reached. Nothing is left half done.
        """
        if target is None:
            return self.read(path, max_bytes=max_bytes, timeout=timeout)
        return drive(
            self.flows.get(
                path,
                target,
                replace=replace,
                follow_symlinks=follow_symlinks,
                keep_setid=keep_setid,
                xattrs=xattrs,
                timeout=timeout,
                bounds=bounds,
            )
        )

    def changes(
        self, *, timeout: Timeout = None, bounds: Bounds | None = None
    ) -> tuple[Change, ...]:
        """
        What differs from the image, by path.

        What was written and written back is no change. A removed directory is one
        change, an added one is a change for everything in it, a renamed one is both.
        """
        return drive(self.flows.changes(timeout=timeout, bounds=bounds))

    def read_old(
        self, path: AnyPath, *, max_bytes: int = READ_MAX, timeout: Timeout = None
    ) -> bytes:
        """Read a file as the image has it; a link is not followed."""
        return drive(self.flows.read_old(path, max_bytes=max_bytes, timeout=timeout))
