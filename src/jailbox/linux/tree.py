"""
Files between the host and a jail, typed: requests, jobs, and what came of them.

The other side is an *agent* in the jail, reached through a socket; the protocol and
its reasons stand in ``_native/tree.h``. Every operation is a flow: the C part works
until its socket would block, and what to wait for, and until when, is asked here.

It obeys. Which path is meant, who shall own a file and how much may be copied is
decided above, in `jailbox.run.files`.
"""

import contextlib
import errno
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal, Self, TypeAlias

import attrs

from jailbox._native import ffi, lib
from jailbox.errors import ContentError, DeadlineExceeded, EngineError, printable
from jailbox.flow import Flow, offload, ready
from jailbox.spec.change import ChangeKind, FileType

__all__ = [
    "Bounds",
    "Copied",
    "Item",
    "LayerChange",
    "Reply",
    "Request",
    "Stat",
    "Task",
    "ask",
    "receive",
    "send",
    "send_items",
    "serving",
]

_C: TypeAlias = Any  # A pointer or structure of cffi, which has no types.

_NS: Final = 1_000_000_000


# --- values -----------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Bounds:
    """
    How much one operation may move. What is reached is named in the error.

    Attributes:
        entries: Files, directories and links.

        bytes: Bytes of content; holes of sparse files count as if they were data.

        depth: Directories within each other; at most 256.
    """

    entries: int = attrs.field(default=1_000_000, validator=attrs.validators.gt(0))
    bytes: int = attrs.field(default=1 << 36, validator=attrs.validators.gt(0))
    depth: int = attrs.field(
        default=128, validator=[attrs.validators.gt(0), attrs.validators.le(256)]
    )


@attrs.frozen(kw_only=True)
class Stat:
    """
    What a path is, as `os.stat` says it, in ids of the jail.

    The fields of `os.stat_result` that mean something outside of the jail are there
    under their names, too.

    Attributes:
        name: Last component of its path.

        type: What it is.

        mode: Permission bits, without the type.

        uid: Owner.

        gid: Group.

        size: Bytes of a file's content.

        mtime_ns: Last change of the content, in nanoseconds since 1970.

        links: Number of hard links.

        inode: Number within *device*.

        device: Number of the file system.

        special: Number of the device, for a device node; else 0.

        target: What a symbolic link says; ``None`` for everything else.
    """

    name: str
    type: FileType
    mode: int = attrs.field(repr=lambda mode: f"0o{mode:o}")
    uid: int
    gid: int
    size: int
    mtime_ns: int
    links: int = attrs.field(repr=False)
    inode: int = attrs.field(repr=False)
    device: int = attrs.field(repr=False)
    special: int = attrs.field(repr=False)
    target: str | None = None

    @property
    def st_mode(self) -> int:
        """Type and permission bits."""
        return _TYPE_BITS[self.type] | self.mode

    @property
    def st_uid(self) -> int:
        """Owner."""
        return self.uid

    @property
    def st_gid(self) -> int:
        """Group."""
        return self.gid

    @property
    def st_size(self) -> int:
        """Size, in bytes."""
        return self.size

    @property
    def st_nlink(self) -> int:
        """Number of hard links."""
        return self.links

    @property
    def st_ino(self) -> int:
        """Inode."""
        return self.inode

    @property
    def st_mtime_ns(self) -> int:
        """Last change of the content, in nanoseconds."""
        return self.mtime_ns

    @property
    def st_mtime(self) -> float:
        """Last change of the content, in seconds."""
        return self.mtime_ns / _NS


_TYPE_BITS = {
    FileType.of_mode(number << 12): number << 12 for number in (1, 2, 4, 6, 8, 10, 12)
}


@attrs.frozen
class LayerChange:
    """
    One difference between a writable layer and what it lies on.

    Attributes:
        kind: Added, modified or removed.

        path: Below the layer, without a leading slash.

        now: What it is, or ``None`` if it was removed.

        old: What it was, or ``None`` if it was added.

        content: Whether the bytes, or the target of a link, differ.

        mode: Whether the permission bits differ.

        owner: Whether owner or group differ.

        mtime: Whether the time of the last change differs.

        attributes: Whether extended attributes or file capabilities differ.
    """

    kind: ChangeKind
    path: str
    now: Stat | None
    old: Stat | None
    content: bool = False
    mode: bool = False
    owner: bool = False
    mtime: bool = False
    attributes: bool = False


@attrs.frozen
class Copied:
    """
    What a copy moved.

    Attributes:
        entries: Files, directories and links.

        bytes: Bytes of content.

        skipped: Paths of devices, pipes and sockets, which are never copied, below
            the source. Of very many only the first are named.

        skipped_count: How many there were.
    """

    entries: int
    bytes: int
    skipped: tuple[str, ...] = ()
    skipped_count: int = 0


@attrs.frozen
class Reply:
    """
    What an agent answered, in its order.

    Attributes:
        found: Paths below the one that was asked for (``""`` is itself), and what
            they are.

        data: Content, if that was asked for.

        changes: Differences, if those were asked for.
    """

    found: tuple[tuple[str, Stat], ...] = ()
    data: bytes = b""
    changes: tuple[LayerChange, ...] = ()


@attrs.frozen
class Item:
    """
    Something in memory that is put into a jail.

    A directory is followed by what is in it, and by `Item.END`.

    Attributes:
        type: ``file``, ``directory``, ``symlink`` or ``end``.

        name: Its name.

        data: Content of a file, or target of a link.

        mode: Permission bits.

        mtime_ns: Last change, or ``None`` for now.
    """

    type: Literal["file", "directory", "symlink", "end"]
    name: bytes = b""
    data: bytes | bytearray | memoryview = b""
    mode: int = 0o644
    mtime_ns: int | None = None


@attrs.frozen
class Task:
    """
    What is being done: for errors, and until when.

    Attributes:
        action: As the caller would say it: ``put 'x' at '/y'``.

        path: The path in the jail that it is about.

        local: The path on the host that it is about, or ``None``.

        timeout: Seconds for all of it, or ``None``.

        deadline: Moment of `time.monotonic`, or ``None``.
    """

    action: str
    path: str
    local: str | None = None
    timeout: float | None = None
    deadline: float | None = None

    @classmethod
    def begin(
        cls,
        action: str,
        path: str,
        local: str | None = None,
        timeout: float | None = None,
    ) -> Self:
        """Make a task whose time runs from now on."""
        deadline = None if timeout is None else time.monotonic() + timeout
        return cls(action, path, local, timeout, deadline)


# --- requests ---------------------------------------------------------------

_FRAME = struct.Struct("=II")

Verb: TypeAlias = Literal[
    "GET", "PUT", "SET", "MKDIR", "REMOVE", "RENAME", "LINK", "CHANGES"
]

Flag: TypeAlias = Literal[
    "FOLLOW",
    "DATA_TOO",
    "XATTRS",
    "INTO",
    "PARENTS",
    "EXIST_OK",
    "NEW_ONLY",
    "KEEP",
    "OWNER",
    "MODE",
    "TIME",
    "NOW",
    "RECURSIVE",
    "MISSING_OK",
    "DIRECTORY",
]

_WHERE = {"root": "ROOT", "upper": "UPPER", "lower": "LOWER"}


@attrs.frozen(kw_only=True)
class Request:
    """
    One request to an agent; the meaning of each field stands in ``tree.h``.

    Attributes:
        verb: What to do.

        path: Absolute path in the jail; may be empty for ``CHANGES``.

        second: A second path, a target, or a name.

        flags: How.

        where: Which directory of the agent a ``GET`` is about.

        depth: How far below the path a ``GET`` goes; ``None`` to the end.

        mode: Permission bits.

        owner: uid and gid; sets the flag ``OWNER``.

        mtime_ns: A time; sets the flag ``TIME``.

        max_bytes: Bound of a ``GET``; ``None`` leaves it to the bounds.
    """

    verb: Verb
    path: str = ""
    second: str = ""
    flags: tuple[Flag, ...] = ()
    where: Literal["root", "upper", "lower"] = "root"
    depth: int | None = 0
    mode: int = 0
    owner: tuple[int, int] | None = None
    mtime_ns: int | None = None
    max_bytes: int | None = None

    def encode(self) -> bytes:
        """
        Write it as a frame.

        Raises:
            OSError: ENAMETOOLONG, as the kernel would say.
        """
        path, second = encode(self.path), encode(self.second)
        for each in (path, second):
            if len(each) > lib.JB_TREE_PATH_MAX:
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        flags = 0
        for flag in self.flags:
            flags |= getattr(lib, f"JB_TREE_{flag}")
        fixed = ffi.new("struct jb_tree_request *")
        if self.owner is not None:
            flags |= lib.JB_TREE_OWNER
            fixed.uid, fixed.gid = self.owner
        if self.mtime_ns is not None:
            flags |= lib.JB_TREE_TIME
            fixed.time_s, fixed.time_ns = divmod(self.mtime_ns, _NS)
        fixed.flags = flags
        fixed.where = getattr(lib, f"JB_TREE_{_WHERE[self.where]}")
        fixed.depth = lib.JB_TREE_ALL if self.depth is None else self.depth
        fixed.mode = self.mode
        fixed.path_size = len(path)
        fixed.second_size = len(second)
        fixed.max_bytes = self.max_bytes or 0
        payload = bytes(ffi.buffer(fixed)) + path + second
        number = getattr(lib, f"JB_TREE_{self.verb}")
        return _FRAME.pack(number, len(payload)) + payload


def encode(path: str) -> bytes:
    """Write a path of a jail as its bytes."""
    return path.encode("utf-8", "surrogateescape")


def decode(path: bytes) -> str:
    """Read the bytes of a path of a jail; `encode` gives them back."""
    return path.decode("utf-8", "surrogateescape")


# --- jobs -------------------------------------------------------------------

_OPS: Final = (
    "starting",
    "finding the path",
    "opening",
    "looking at it",
    "listing",
    "reading",
    "reading the link",
    "creating",
    "writing",
    "replacing",
    "renaming",
    "removing",
    "changing the owner",
    "changing the mode",
    "changing the time",
    "extended attributes",
    "counting",
    "talking",
    "talking",
)
"""Names of ``enum jb_tree_op``, by number."""


class _Job:
    """
    One running operation of the C part.

    Owned by one flow. Whatever it borrows is kept alive in *keep*.
    """

    def __init__(self, make: Callable[..., _C], *args: object) -> None:
        error = ffi.new("int *")
        # The C part borrows what these point to.
        self._keep = args
        self._job = make(*args, error)
        if self._job == ffi.NULL:
            raise OSError(error[0], os.strerror(error[0]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Undo what is unfinished here, and free the memory."""
        job, self._job = self._job, ffi.NULL
        lib.jb_tree_free(job)

    def step(self) -> int:
        """Work until it would block; what it waits for."""
        return int(lib.jb_tree_step(self._job))

    @property
    def report(self) -> _C:
        """How it went."""
        return lib.jb_tree_report(self._job)

    def frames(self) -> bytes:
        """Frames that came in the last step."""
        size = ffi.new("size_t *")
        start = lib.jb_tree_frames(self._job, size)
        return bytes(ffi.buffer(start, size[0]))

    def copied(self) -> Copied:
        """What was moved."""
        report = self.report
        size = ffi.new("size_t *")
        start = lib.jb_tree_skipped(self._job, size)
        names = bytes(ffi.buffer(start, size[0])).split(b"\0")[:-1]
        return Copied(
            entries=report.entries,
            bytes=report.bytes,
            skipped=tuple(map(decode, names)),
            skipped_count=report.skipped,
        )


def _finish(
    job: _Job,
    sock: socket.socket,
    bounds: Bounds,
    task: Task,
    consume: Callable[[bytes], None] | None = None,
) -> Flow[None]:
    """Run *job* to its end, and raise what was refused."""
    fd = sock.fileno()
    while True:
        wants = yield from offload(job.step)
        if consume is not None:
            consume(job.frames())
        if wants == lib.JB_TREE_DONE:
            break
        if wants & lib.JB_TREE_WANTS_TIME:
            late = task.deadline is not None and time.monotonic() >= task.deadline
        else:
            reads = (fd,) if wants & lib.JB_TREE_WANTS_READ else ()
            writes = (fd,) if wants & lib.JB_TREE_WANTS_WRITE else ()
            late = not any((yield from ready(reads, writes, task.deadline)))
        if late:
            raise DeadlineExceeded(task.action, task.timeout or 0)
    if job.report.error:
        raise _refusal(job.report, bounds, task)


def _refusal(report: _C, bounds: Bounds, task: Task) -> Exception:
    """Make an exception of what was refused."""
    there = report.side == lib.JB_TREE_SIDE_AGENT
    if report.op == lib.JB_TREE_OP_BOUND:
        limit, name, what = {
            lib.JB_TREE_BOUND_ENTRIES: (bounds.entries, "entries", "entries"),
            lib.JB_TREE_BOUND_BYTES: (bounds.bytes, "bytes", "bytes"),
        }.get(report.bound, (bounds.depth, "depth", "directories within each other"))
        return ContentError(
            f"{task.action}: more than {limit} {what}",
            hint=f"Nothing was left half done. Bounds({name}=...) allows more.",
        )
    if report.op == lib.JB_TREE_OP_SOCKET:
        return EngineError(
            "file agent",
            f"{task.action}: it ended before it answered",
            hint="The container may have been stopped or killed meanwhile.",
        )
    if report.op == lib.JB_TREE_OP_PROTOCOL:
        return EngineError("file agent", f"{task.action}: the protocol was broken")
    path = task.path if there else task.local or task.path
    detail = decode(bytes(ffi.buffer(report.detail, report.detail_size)))
    if detail:
        path = f"{path.rstrip('/')}/{detail}"
    error = OSError(report.error, os.strerror(report.error), path)
    doing = _OPS[report.op] if 0 <= report.op < len(_OPS) else "working"
    place = "in the jail" if there else "on the host"
    error.add_note(printable(f"{task.action}: refused {place}, while {doing}."))
    return error


def _limits(bounds: Bounds) -> _C:
    return ffi.new(
        "struct jb_tree_limits *",
        {"entries": bounds.entries, "bytes": bounds.bytes, "depth": bounds.depth},
    )


def ask(
    sock: socket.socket, request: Request, task: Task, bounds: Bounds
) -> Flow[Reply]:
    """
    Send a request that has no stream, and collect what comes back.

    Args:
        sock: A socket to an agent; borrowed. After an exception that is no `OSError`
            it is of no further use.

        request: What to do.

        task: For errors, and until when.

        bounds: For what comes back; all of it is held in memory.
    """
    reader = _Reader()
    message = request.encode()
    with _Job(
        lib.jb_tree_ask,
        sock.fileno(),
        message,
        len(message),
        _limits(bounds),
    ) as job:
        yield from _finish(job, sock, bounds, task, reader.feed)
    return reader.reply()


def send(
    sock: socket.socket,
    request: Request,
    directory: int,
    name: bytes,
    task: Task,
    bounds: Bounds,
    *,
    excludes: Sequence[bytes] = (),
    xattrs: bool = False,
) -> Flow[Copied]:
    """
    Put a file or tree of the host.

    Symbolic links are copied, never followed; devices, pipes and sockets are skipped.

    Args:
        sock: A socket to an agent; borrowed.

        request: A ``PUT``.

        directory: Descriptor of the directory of the source; borrowed.

        name: The source in it, one component, or ``.``.

        task: For errors, and until when.

        bounds: For what is sent.

        excludes: Patterns of what is left out. One without a slash is compared with
            the name of everything, one with a slash with the path below the source;
            ``*`` and ``?`` do not stand for a slash, ``**`` does.

        xattrs: Whether attributes ``user.*`` are copied.
    """
    message = request.encode()
    patterns = b"".join(each + b"\0" for each in excludes)
    with _Job(
        lib.jb_tree_send,
        sock.fileno(),
        message,
        len(message),
        directory,
        ffi.from_buffer("char[]", name + b"\0"),
        ffi.from_buffer("char[]", patterns),
        len(patterns),
        lib.JB_TREE_WITH_XATTRS if xattrs else 0,
        _limits(bounds),
    ) as job:
        yield from _finish(job, sock, bounds, task)
        return job.copied()


def send_items(
    sock: socket.socket, request: Request, items: Sequence[Item], task: Task
) -> Flow[Copied]:
    """
    Put what is in memory.

    Args:
        sock: A socket to an agent; borrowed.

        request: A ``PUT``.

        items: One file or link, or one directory with everything in it.

        task: For errors, and until when.
    """
    message = request.encode()
    array, keep = _c_items(items)
    with _Job(
        lib.jb_tree_send_items, sock.fileno(), message, len(message), array, len(items)
    ) as job:
        yield from _finish(job, sock, Bounds(), task)
        del keep
        return job.copied()


def receive(
    sock: socket.socket,
    request: Request,
    directory: int,
    name: bytes,
    task: Task,
    bounds: Bounds,
    *,
    replace: bool = True,
    keep_setid: bool = False,
) -> Flow[Copied]:
    """
    Copy a file or tree of a jail to the host.

    Whatever the jail says is written below *directory*/*name* and nowhere else.
    Everything belongs to the caller.

    Args:
        sock: A socket to an agent; borrowed.

        request: A ``GET`` with data.

        directory: Descriptor of the directory of the target; borrowed.

        name: The target in it, one component. A directory that is there is merged
            with.

        task: For errors, and until when.

        bounds: For what is written.

        replace: Whether files and links that are there may be replaced.

        keep_setid: Whether set-id and sticky bits are kept. They are the jail's word.
    """
    message = request.encode()
    with _Job(
        lib.jb_tree_receive,
        sock.fileno(),
        message,
        len(message),
        directory,
        ffi.from_buffer("char[]", name + b"\0"),
        (lib.JB_TREE_REPLACE if replace else 0)
        | (lib.JB_TREE_KEEP_SETID if keep_setid else 0),
        _limits(bounds),
    ) as job:
        yield from _finish(job, sock, bounds, task)
        return job.copied()


def _c_items(items: Sequence[Item]) -> tuple[_C, list[object]]:
    """Write *items* as an array of C, and what must outlive it."""
    array = ffi.new("struct jb_tree_item[]", len(items))
    keep: list[object] = []
    for each, item in zip(array, items, strict=True):
        if item.type == "end":
            continue
        name, data = ffi.from_buffer(item.name), ffi.from_buffer(item.data)
        keep += name, data
        each.mode = _TYPE_BITS[FileType(item.type)] | item.mode
        each.name, each.name_size = name, len(item.name)
        each.data, each.data_size = data, len(data)
        if item.mtime_ns is None:
            each.flags = lib.JB_TREE_TIME_NOW
        else:
            each.time_s, each.time_ns = divmod(item.mtime_ns, _NS)
    return array, keep


# --- replies ----------------------------------------------------------------


class _Reader:
    """Reads frames that the C part has checked: sizes add up, names are names."""

    def __init__(self) -> None:
        self._entry = ffi.new("struct jb_tree_entry *")
        self._change = ffi.new("struct jb_tree_change *")
        self._open: list[str] = []
        self._found: list[tuple[str, Stat]] = []
        self._data: list[bytes] = []
        self._changes: list[LayerChange] = []

    def feed(self, frames: bytes) -> None:
        """Take whole frames."""
        at = 0
        while at < len(frames):
            kind, size = _FRAME.unpack_from(frames, at)
            at += _FRAME.size
            payload = frames[at : at + size]
            at += size
            if kind == lib.JB_TREE_DATA:
                self._data.append(payload)
            elif kind == lib.JB_TREE_HOLE:
                self._data.append(bytes(int.from_bytes(payload, sys.byteorder)))
            elif kind == lib.JB_TREE_ENTRY:
                self._take_entry(payload)
            elif kind == lib.JB_TREE_CHANGE:
                self._take_change(payload)
            elif self._open:
                self._open.pop()

    def reply(self) -> Reply:
        """Everything that came."""
        # One piece needs no copy.
        data = self._data[0] if len(self._data) == 1 else b"".join(self._data)
        return Reply(tuple(self._found), data, tuple(self._changes))

    def _take_entry(self, payload: bytes) -> None:
        entry = self._entry
        ffi.memmove(entry, payload, ffi.sizeof(entry[0]))
        at = ffi.sizeof(entry[0])
        name = decode(payload[at : at + entry.name_size])
        at += entry.name_size
        stat = _stat(entry, name, payload[at : at + entry.link_size])
        path = ""
        if self._open:
            # The top is called "" here: what it is called there, the caller knows.
            path = f"{self._open[-1]}/{name}" if self._open[-1] else name
        self._found.append((path, stat))
        if entry.flags & lib.JB_TREE_OPEN:
            self._open.append(path)

    def _take_change(self, payload: bytes) -> None:
        change = self._change
        ffi.memmove(change, payload, ffi.sizeof(change[0]))
        at = ffi.sizeof(change[0])
        path = payload[at : at + change.path_size]
        at += change.path_size
        now_link = payload[at : at + change.now.link_size]
        at += change.now.link_size
        old_link = payload[at : at + change.old.link_size]
        name = decode(path.rpartition(b"/")[2])
        what = change.what
        self._changes.append(
            LayerChange(
                _KINDS.get(change.kind, ChangeKind.MODIFIED),
                decode(path),
                _stat(change.now, name, now_link) if change.now.mode else None,
                _stat(change.old, name, old_link) if change.old.mode else None,
                content=bool(what & lib.JB_TREE_CONTENT),
                mode=bool(what & lib.JB_TREE_MODE_BITS),
                owner=bool(what & lib.JB_TREE_OWNERSHIP),
                mtime=bool(what & lib.JB_TREE_MTIME),
                attributes=bool(what & lib.JB_TREE_ATTRIBUTES),
            )
        )


_KINDS = {
    lib.JB_TREE_ADDED: ChangeKind.ADDED,
    lib.JB_TREE_MODIFIED: ChangeKind.MODIFIED,
    lib.JB_TREE_REMOVED: ChangeKind.REMOVED,
}


def _stat(entry: _C, name: str, link: bytes) -> Stat:
    kind = FileType.of_mode(entry.mode)
    return Stat(
        name=name,
        type=kind,
        mode=entry.mode & 0o7777,
        uid=entry.uid,
        gid=entry.gid,
        size=entry.size,
        mtime_ns=entry.time_s * _NS + entry.time_ns,
        links=entry.links,
        inode=entry.inode,
        device=_device(entry.device),
        special=_device(entry.special),
        target=decode(link) if kind is FileType.SYMLINK else None,
    )


def _device(number: int) -> int:
    return os.makedev(number >> 32, number & 0xFFFFFFFF)


# --- an agent of our own ----------------------------------------------------


@contextlib.contextmanager
def serving(
    root: int = -1,
    *,
    upper: int = -1,
    lower: int = -1,
    userxattr: bool = False,
    upper_base: int = 0,
    lower_base: int = 0,
) -> Iterator[socket.socket]:
    """
    Serve directories of the host in a thread, with the rights of this process.

    For layers, whose marks only the right identity reads (``trusted.overlay.*`` needs
    CAP_SYS_ADMIN of the host), and for tests. **Not for the root of a jail**: paths
    stay below *root*, but device nodes in it would be the host's.

    Args:
        root: Descriptor of a directory; this and the next two are borrowed until the
            socket is closed, and -1 if there is none.

        upper: A writable layer.

        lower: What it lies on, as one directory.

        userxattr: Whether the overlay keeps its marks in ``user.overlay.*``.

        upper_base: First id of the jail's range in *upper*.

        lower_base: The same in *lower*.
    """
    roots = ffi.new(
        "struct jb_tree_roots *",
        {
            "root": root,
            "upper": upper,
            "lower": lower,
            "merged": -1,
            "flags": lib.JB_TREE_USERXATTR if userxattr else 0,
            "upper_base": upper_base,
            "lower_base": lower_base,
        },
    )
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with theirs:
            lib.jb_tree_serve(theirs.fileno(), roots, ffi.NULL)

    # A daemon, because an interpreter that ends must not wait for a socket that
    # nobody closed. It touches nothing of Python while it serves.
    thread = threading.Thread(target=serve, name="jailbox-files", daemon=True)
    with ours:
        thread.start()
        yield ours
    thread.join()
