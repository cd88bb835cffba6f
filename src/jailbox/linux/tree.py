"""
Files between the host and a jail, typed: requests, jobs, and what came of them.

The other side is an *agent* in the jail, reached through a socket; the protocol and
its reasons stand in ``_native/tree.h``. Every operation is a flow: the C part works
until its socket would block, and what to wait for, and until when, is asked here.

It obeys. Which path is meant, who shall own a file and how much may be copied is
decided above, in `jailbox.run.files`.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Self, TypeAlias

from jailbox._native import ffi, lib
from jailbox.errors import ContentError, DeadlineExceeded, EngineError, printable
from jailbox.flow import Flow, offload, ready
from jailbox.linux.tree_values import (
    NS,
    TYPE_BITS,
    Bounds,
    Copied,
    Item,
    LayerChange,
    Reply,
    Stat,
    Task,
)
from jailbox.linux.tree_wire import Flag, Reader, Request, decode
from jailbox.spec.change import FileType

__all__ = [
    "Bounds",
    "Copied",
    "Flag",
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
    reader = Reader()
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
        each.mode = TYPE_BITS[FileType(item.type)] | item.mode
        each.name, each.name_size = name, len(item.name)
        each.data, each.data_size = data, len(data)
        if item.mtime_ns is None:
            each.flags = lib.JB_TREE_TIME_NOW
        else:
            each.time_s, each.time_ns = divmod(item.mtime_ns, NS)
    return array, keep


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
