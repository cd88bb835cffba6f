"""
Plans and requests as the bytes that the helper reads.

The other side of this file is ``_native/jailbox.h``: a fixed part, then whatever has
no fixed size, named by spans from the start of the record. Pure; a test compares each
format with what the C compiler says.
"""

import struct
from collections.abc import Iterable, Sequence

import attrs

from jailbox.linux.plan import (
    Attach,
    Back,
    Dir,
    Enter,
    File,
    Forth,
    Fs,
    Graft,
    Group,
    LaunchPlan,
    Lay,
    Link,
    Map,
    Mask,
    Namespaces,
    Node,
    Op,
    Open,
    Overlay,
    Past,
    Prepared,
    Program,
    ReadOnly,
    Root,
    Stage,
    Strike,
    Sysctl,
    Take,
    Tree,
)

__all__ = [
    "CONFIGURE",
    "EXEC",
    "EXITED",
    "GONE",
    "GROUP",
    "KILL",
    "LARGE",
    "NOTE",
    "OP",
    "PREPARE",
    "PROGRAM",
    "READY",
    "REPORT",
    "SIGNAL",
    "START",
    "STARTED",
    "WORK",
    "WORKED",
    "Descriptors",
    "Work",
    "encode_configure",
    "encode_exec",
    "encode_prepare",
    "encode_start",
    "encode_work",
    "stamp_start",
]

SPAN = struct.Struct("<II")
PROGRAM = struct.Struct("<4I 8I 2I 2I 3Q 8I 7i I Q 2H i i I Q")
START = struct.Struct("<II Q 64s II Q ii 10I QQ iI 4I Q 3I i 4i 2I")
OP = struct.Struct("<II ii 4I QQ 4I")
GROUP = struct.Struct("<4I II")
SETTING = struct.Struct("<4I")
COLLECT = struct.Struct("<II 2I")
RLIMIT = struct.Struct("<II QQ")
EXEC = struct.Struct("<4I")
CONFIGURE = struct.Struct("<8I 14I")
PREPARE = struct.Struct("<III i 2I")
KILL = struct.Struct("<II Q")
SIGNAL = struct.Struct("<I i I I")
LARGE = struct.Struct("<II")
REPORT = struct.Struct("<I iii 256s")
READY = struct.Struct("<4I")
STARTED = struct.Struct("<I i")
EXITED = struct.Struct("<I i i I 4Q")
GONE = struct.Struct("<I i 3Q i I 16I")
WORK = struct.Struct("<5I 5i 2I 2Q 4I 6I")
WORKED = struct.Struct("<I i i I 3Q 5Q II")
NOTE = struct.Struct("<8I")

MESSAGE_CONFIGURE, MESSAGE_START, MESSAGE_KILL, MESSAGE_EXEC = 1, 2, 3, 4
MESSAGE_SIGNAL, MESSAGE_LARGE, MESSAGE_PREPARE, MESSAGE_WORK = 5, 6, 7, 8
MESSAGE_REPORT, MESSAGE_READY, MESSAGE_STARTED = 16, 17, 18
MESSAGE_EXITED, MESSAGE_GONE, MESSAGE_WORKED = 19, 20, 21

_ID, _NAME, _FDS = 8, 16, 84  # where stamp_start() writes
_NAME_SIZE = 64

_USERNS, _NET, _LAYER, _KEYRING, _AHEAD = 1, 2, 4, 8, 16
_INTO, _TASKS, _SHARED = 1, 2, 4
_TTY, _AGENT, _NO_NEW_PRIVS, _KEEP_GROUPS, _MAKE_CWD, _LOG = 1, 2, 4, 8, 16, 32
_QUIET = 64
_RECURSIVE, _IDMAP, _MAKE_DIR, _MAKE_FILE, _STRICT, _OPTIONAL = 1, 2, 4, 8, 16, 32
_USERXATTR, _VOLATILE, _REUSE, _PREPARED, _STACK = 64, 128, 512, 1024, 2048
_BY_NAME, _LAID, _RETURN, _FROM_SLOT = 4096, 8192, 16384, 32768

_MAKE = {
    "": 0, "dir": _MAKE_DIR, "file": _MAKE_FILE, "source": _MAKE_DIR | _MAKE_FILE,
}  # fmt: skip

_KINDS: dict[type, int] = {
    Fs: 1, Tree: 2, Overlay: 3, Enter: 4, Root: 5, Attach: 6, Dir: 7, Link: 8,
    Node: 9, File: 10, Mask: 11, ReadOnly: 12, Sysctl: 13, Namespaces: 14, Open: 15,
    Take: 16, Lay: 2, Map: 2, Past: 2, Graft: 17, Stage: 18, Strike: 19, Back: 20,
    Forth: 21,
}  # fmt: skip

Span = tuple[int, int]
_NOTHING: Span = (0, 0)


@attrs.frozen(kw_only=True)
class Descriptors:
    """
    Which descriptor of a message is what, by its index; ``None`` where there is none.

    Attributes:
        channel: The other side of the conversation about the program.

        stdin: Standard input; ``None`` is the jail's null device.

        stdout: Standard output.

        stderr: Standard error.

        passed: The first of *pass_count* further ones.

        pass_count: How many of them.

        log: The log of the main program.

        layer: The writable layer kept from an earlier start.

        past: The first of the layers from before that.

        sources: The first of the host's trees.

        listener: Of a detached jail: the socket for visitors.

        hold: Likewise: our end of its channel.

        home: Likewise: the directory for the record of its end.

        lease: Likewise: what keeps its image from being removed.
    """

    channel: int = 0
    stdin: int | None = None
    stdout: int | None = None
    stderr: int | None = None
    passed: int = 0
    pass_count: int = 0
    log: int | None = None
    layer: int | None = None
    past: int = 0
    sources: int = 0
    listener: int | None = None
    hold: int | None = None
    home: int | None = None
    lease: int | None = None


@attrs.frozen(kw_only=True)
class Work:
    """
    Work on files of the host, for a worker; zero is no bound.

    Attributes:
        kind: Number of ``enum jb_work_kind``.

        tree: The directory that becomes its root.

        flags: Of ``JB_WORK_*``.

        stream: What it reads or writes.

        notes: The file that it writes ``struct jb_note`` to.

        lowers: What lies below the tree, uppermost first.

        name: The entry that is meant; of an overlay, its upper directory in the tree.

        space: Likewise, an empty directory beside that.

        options: A structure of the kind.

        max_bytes: Bound of what it reads and writes.

        max_entries: Bound of entries.

        max_depth: Bound of directories in each other.
    """

    kind: int
    tree: int
    flags: int = 0
    stream: int | None = None
    notes: int | None = None
    lowers: tuple[int, ...] = ()
    name: bytes = b""
    space: bytes = b""
    options: bytes = b""
    max_bytes: int = 0
    max_entries: int = 0
    max_depth: int = 0

    def descriptors(self) -> list[int]:
        """What goes with the record, after the channel."""
        ones = (self.tree, self.stream, self.notes)
        return [one for one in ones if one is not None] + list(self.lowers)


class _Heap:
    """What stands behind the fixed part of a record."""

    def __init__(self, fixed: int) -> None:
        self._start = fixed
        self._parts: list[bytes] = []
        self._size = 0

    def data(self, content: bytes) -> Span:
        """Place bytes, aligned for any array; empty ones take no place."""
        if not content:
            return _NOTHING
        offset = self._start + self._size
        # Aligned, and with a NUL behind it that the span does not count.
        padded = content + b"\0" * (8 - len(content) % 8)
        self._parts.append(padded)
        self._size += len(padded)
        return offset, len(content)

    def text(self, content: str) -> Span:
        """Place a string, as the file system spells it."""
        return self.data(content.encode("utf-8", "surrogateescape"))

    def strings(self, items: Iterable[str]) -> Span:
        """Place strings one behind the other, each with its NUL."""
        joined = "".join(f"{item}\0" for item in items)
        return self.text(joined)

    @property
    def size(self) -> int:
        """How many bytes were placed."""
        return self._size

    def bytes(self) -> bytes:
        """Everything that was placed."""
        return b"".join(self._parts)


def _index(index: int | None) -> int:
    return -1 if index is None else index


def _nanoseconds(seconds: float | None) -> int:
    # Zero means "none", so the shortest deadline is one nanosecond.
    return 0 if seconds is None else max(1, round(seconds * 1e9))


def _program(
    heap: _Heap,
    program: Program,
    fds: Descriptors,
    fault: tuple[int, int] = (0, 0),
    landlock: Span = _NOTHING,
) -> bytes:
    flags = (
        _TTY * (program.tty is not None)
        | _AGENT * program.agent
        | _NO_NEW_PRIVS * program.no_new_privs
        | _KEEP_GROUPS * (program.groups is None)
        | _MAKE_CWD * program.make_cwd
        | _LOG * (program.log_limit is not None and fds.log is not None)
        | _QUIET * program.quiet
    )
    columns, rows = program.tty or (0, 0)
    rlimits = b"".join(
        RLIMIT.pack(n, 0, soft, hard) for n, soft, hard in program.rlimits
    )
    groups = struct.pack(f"<{len(program.groups or ())}I", *(program.groups or ()))
    return PROGRAM.pack(
        flags,
        len(program.argv),
        len(program.env),
        program.umask,
        *heap.strings(program.argv),
        *heap.strings(program.env),
        *heap.text(program.path),
        *heap.text(program.cwd),
        program.uid,
        program.gid,
        *heap.data(groups),
        program.bounding,
        program.permitted,
        0,
        *heap.data(rlimits),
        *heap.data(program.seccomp),
        *landlock,
        *heap.data(program.affinity),
        fds.channel,
        _index(fds.stdin),
        _index(fds.stdout),
        _index(fds.stderr),
        fds.passed,
        fds.pass_count,
        0,
        fault[0],
        _nanoseconds(program.timeout),
        rows,
        columns,
        program.overlay,
        _index(fds.log),
        fault[1],
        program.log_limit or 0,
    )


_NO_PROGRAM = Program(no_new_privs=False)


def _op(heap: _Heap, op: Op, fds: Descriptors, sources: dict[int, int]) -> bytes:
    flags = source = mode = attr = number = over = 0
    slot = -1
    path: Span = _NOTHING
    data: Span = _NOTHING
    match op:
        case Fs(slot, kind, options, attr):
            path, data = heap.text(kind), heap.strings(options)
        case Tree(slot, origin, attr, recursive, idmap):
            flags = _RECURSIVE * recursive | _IDMAP * idmap
            if isinstance(origin, int):
                flags |= _PREPARED
                source = origin
            else:
                source = fds.sources + sources[id(op)]
        case Overlay(
            slot, lowers, source, name, userxattr, volatile, reuse, mode, attr,
            stack, below, by_name, given,
        ):  # fmt: skip
            flags = _USERXATTR * userxattr | _VOLATILE * volatile | _REUSE * reuse
            flags |= _BY_NAME * by_name
            number, over = below + 1, given + 1
            if stack:
                flags |= _STACK
                lowers = (*lowers, stack)
            path = heap.text(name)
            data = heap.data(struct.pack(f"<{len(lowers)}I", *lowers))
        case Graft(slot, target, source):
            path = heap.text(target)
        case Take(slot, idmapped):
            flags = _LAID | _IDMAP * idmapped
            source = _index(fds.layer)
        case Lay(slot, idmap, attr):
            flags = _LAID | _IDMAP * idmap
            source = _index(fds.layer)
        case Map(slot, source, attr):
            flags = _LAID | _IDMAP | _FROM_SLOT
        case Past(slot, index, idmap, attr):
            # Of a user namespace of ours it is taken as it is: it needs no other ids.
            flags = _IDMAP * idmap
            source = fds.past + index
        case Namespaces() | Back() | Forth() | Stage() | Strike():
            pass
        case Enter(returns):
            flags = _RETURN * returns
        case Root(slot):
            pass
        case Attach(source, target, make, strict):
            flags = _MAKE[make]
            flags |= _STRICT * strict
            path = heap.text(target)
        case Dir(slot, target, mode, exist_ok):
            flags = _OPTIONAL * exist_ok
            path = heap.text(target)
        case Link(slot, target, content, exist_ok):
            flags = _OPTIONAL * exist_ok
            path, data = heap.text(target), heap.text(content)
        case Node(slot, target, major, minor, mode):
            mode |= 0o020000
            number = (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)
            path = heap.text(target)
        case File(slot, target, body, mode, exist_ok):
            flags = _OPTIONAL * exist_ok
            path, data = heap.text(target), heap.data(body)
        case Open(slot, target, source):
            path = heap.text(target)
        case Mask(target, source, number):
            path = heap.text(target)
        case ReadOnly(target, attr):
            path = heap.text(target)
        case Sysctl(slot, target, value, optional):
            flags = _OPTIONAL * optional
            path, data = heap.text("sys/" + target), heap.text(value)
    kind_number = _KINDS[type(op)]
    if isinstance(op, Past) and not op.idmap:
        kind_number = _KINDS[Take]
    return OP.pack(
        kind_number, flags, slot, source, mode, 0, 0, over, attr, number,
        *path, *data,
    )  # fmt: skip


def _ops(heap: _Heap, ops: Sequence[Op], fds: Descriptors) -> Span:
    sources: dict[int, int] = {}
    for op in ops:
        if isinstance(op, Tree) and isinstance(op.source, str):
            sources[id(op)] = len(sources)
    return heap.data(b"".join([_op(heap, op, fds, sources) for op in ops]))


def _groups(heap: _Heap, groups: Sequence[Group]) -> Span:
    packed = []
    for group in groups:
        settings = [
            SETTING.pack(*heap.text(name), *heap.text(value))
            for name, value in group.settings
        ]
        flags = {"into": _INTO, "tasks": _TASKS}.get(group.join, 0)
        flags |= _SHARED * group.shared
        packed.append(
            GROUP.pack(*heap.text(group.path), *heap.data(b"".join(settings)), flags, 0)
        )
    return heap.data(b"".join(packed))


def encode_start(
    plan: LaunchPlan, fds: Descriptors, fault: tuple[int, int] = (0, 0)
) -> bytearray:
    """
    Encode a START; `stamp_start` then says which jail it is.

    Args:
        plan: What to start.

        fds: Which descriptors will go with it.

        fault: In test builds: (step, errno) that is to be refused.
    """
    heap = _Heap(START.size + PROGRAM.size)
    main = _NO_PROGRAM if plan.program is None else plan.program
    # What all jails of a kind share comes first, and its size is told.
    groups = _groups(heap, plan.groups)
    collect = heap.data(
        b"".join(COLLECT.pack(c.group, 0, *heap.text(c.file)) for c in plan.collect)
    )
    ops = _ops(heap, plan.ops, fds)
    hostname = heap.text(plan.hostname)
    domainname = heap.text(plan.domainname)
    cpu_file, cpu_key = heap.text(plan.cpu_file), heap.text(plan.cpu_key)
    landlock = heap.data(main.landlock)
    common = heap.size
    program = _program(heap, main, fds, fault, landlock)
    rest = heap.bytes()
    fixed = START.pack(
        MESSAGE_START,
        START.size + len(program) + len(rest),
        0,
        b"",
        _USERNS * plan.userns
        | _NET * plan.network
        | _LAYER * plan.keep_layer
        | _KEYRING
        | _AHEAD * plan.ahead,
        0,
        plan.namespaces,
        fds.channel,
        plan.layer,
        *groups,
        *collect,
        *ops,
        *hostname,
        *domainname,
        _nanoseconds(plan.wall),
        _nanoseconds(plan.cpu_time),
        plan.cpu_group,
        plan.cpu_unit,
        *cpu_file,
        *cpu_key,
        plan.init_bounding,
        plan.cpus,
        *fault,
        plan.oom_score_adj,
        _index(fds.listener),
        _index(fds.hold),
        _index(fds.home),
        _index(fds.lease),
        common,
        0,
    )
    return bytearray(fixed + program + rest)


def stamp_start(record: bytearray, number: int, name: str, fds: int = 0) -> None:
    """
    Write which jail a START is about.

    Args:
        record: Made by `encode_start`.

        number: Of the jail.

        name: Of its groups.

        fds: How many descriptors go with it; fewer may arrive.
    """
    struct.pack_into("<Q64s", record, _ID, number, name.encode()[: _NAME_SIZE - 1])
    struct.pack_into("<I", record, _FDS, fds)


def encode_exec(
    program: Program, fds: Descriptors, fault: tuple[int, int] = (0, 0)
) -> bytes:
    """
    Encode a request to run *program* in a running jail.

    Args:
        program: What to run.

        fds: Which descriptors go with it.

        fault: In test builds: (step, errno) that is to be refused.
    """
    heap = _Heap(EXEC.size + PROGRAM.size)
    body = _program(heap, program, fds, fault)
    rest = heap.bytes()
    size = EXEC.size + len(body) + len(rest)
    return EXEC.pack(MESSAGE_EXEC, size, 0, 0) + body + rest


def encode_prepare(prepared: Prepared, number: int) -> bytes:
    """Encode a request to build the shared tree *number*; sources go with it."""
    heap = _Heap(PREPARE.size)
    ops = _ops(heap, prepared.ops, Descriptors(sources=1))
    rest = heap.bytes()
    fixed = PREPARE.pack(MESSAGE_PREPARE, PREPARE.size + len(rest), number, 0, *ops)
    return fixed + rest


def encode_work(work: Work, fault: tuple[int, int] = (0, 0)) -> bytes:
    """
    Encode a WORK; its descriptors go in the order that `Work` lists them.

    Args:
        work: What is to be done.

        fault: In test builds: (step, errno) that is to be refused.
    """
    heap = _Heap(WORK.size)
    name = heap.data(work.name)
    space = heap.data(work.space)
    options = heap.data(work.options)
    rest = heap.bytes()
    at = 1
    indices = []
    for one in (work.tree, work.stream, work.notes):
        indices.append(-1 if one is None else at)
        at += one is not None
    fixed = WORK.pack(
        MESSAGE_WORK,
        WORK.size + len(rest),
        work.kind,
        work.flags,
        1 + len(work.descriptors()),
        0,
        *indices,
        at if work.lowers else -1,
        len(work.lowers),
        0,
        work.max_bytes,
        work.max_entries,
        work.max_depth,
        *fault,
        0,
        *name,
        *space,
        *options,
    )
    return fixed + rest


def encode_configure(
    *,
    flags: int,
    uid: int,
    gid: int,
    id_first: int,
    id_ranges: int,
    id_count: int,
    lock_path: str = "",
    uid_map: str = "",
    gid_map: str = "",
    newuidmap: str = "",
    newgidmap: str = "",
    parents: Sequence[Group] = (),
    state: str = "",
) -> bytes:
    """Encode what a keeper must know; the names are those of ``jb_configure``."""
    heap = _Heap(CONFIGURE.size)
    spans = [
        heap.text(text) for text in (lock_path, uid_map, gid_map, newuidmap, newgidmap)
    ]
    spans += [_groups(heap, parents), heap.text(state)]
    rest = heap.bytes()
    numbers = (flags, uid, gid, id_first, id_ranges, id_count)
    flat = [number for span in spans for number in span]
    return (
        CONFIGURE.pack(MESSAGE_CONFIGURE, CONFIGURE.size + len(rest), *numbers, *flat)
        + rest
    )
