"""
Work on files of the host, done where nothing else is in sight.

Layers come from strangers. Whatever looks into one does so in a child of the keeper
that has the tree for its root, no right but those that the work needs, and no more
system calls than it consists of (``_native/worker.h``). The host's process moves bytes
and waits, with the interpreter lock released.

It obeys: which bytes become which tree, and what a report means, is decided above.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import select
import signal
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Final, Literal, Self, TypeAlias

import attrs

from jailbox.errors import EngineError, LayerError, LayerTooLarge, StoreError
from jailbox.linux.fd import channel_pair
from jailbox.linux.keeper import Keeper
from jailbox.linux.messages import End, Gone, Report, Worked, receive, refusal
from jailbox.linux.record import NOTE, Work, encode_work

__all__ = [
    "Measured",
    "Owner",
    "PackPolicy",
    "Packed",
    "Skipped",
    "UnpackPolicy",
    "Unpacked",
    "Workshop",
]

# enum jb_work_kind
_UNPACK, _REMOVE, _MEASURE, _PACK = 1, 2, 3, 4
# JB_WORK_* and JB_WORKED_*
_MERGE, _READONLY, _ONE_ID, _DEVICES, _BOTTOM, _UNENDED = 1, 2, 4, 8, 16, 32
_NEEDS_LOWERS, _ENDED = 1, 2
# enum jb_work_reason
_SYSTEM, _STREAM, _NAME, _PARENT = 1, 2, 6, 14
_MAX_BYTES, _MAX_ENTRIES, _MAX_DEPTH, _MAX_NOTES, _MAX_LINKS = 15, 16, 17, 18, 19

_REASONS: Final = {
    _STREAM: "cannot be read",
    3: "is cut short",
    4: "has a header whose checksum is wrong",
    5: "has a field that is no number, or out of range",
    _NAME: "has a name that cannot be made",
    7: "has a malformed extended header",
    8: "has an extended header of more than 1 MiB",
    9: "has a malformed map of holes",
    10: "is of a kind that nobody knows",
    11: "is a hard link to a directory, or to what is not there",
    12: "would take the place of the root",
    13: "marks nothing that could be taken away",
    _PARENT: "has something on its way that is no directory",
}

_LIMITS: Final = {
    _MAX_BYTES: "bytes",
    _MAX_ENTRIES: "entries",
    _MAX_DEPTH: "depth",
    _MAX_NOTES: "bytes of notes",
    _MAX_LINKS: "bytes of hard links to later entries",
}

_NOTES_MAX, _LINKS_MAX = 256 << 20, 16 << 20

# JB_PACK_*; struct jb_pack_options, struct jb_pack_owner
_LAYER, _EXACT_TIMES, _EPOCH, _ANY_NAME = 1, 2, 4, 8
_OPTIONS, _OWNER = struct.Struct("=IIIIq"), struct.Struct("=IIIIII")
_CHANGED, _MARK = 20, 21
# PACK_LAYER_DEPTH
_PACK_DEPTH_MAX = 1000

_PIPE_SIZE = 1 << 20

_NOTE_KINDS: Final = {2: "device", 3: "xattr", 4: "ignored"}
_NOTE_OWNER = 1


# --- values -----------------------------------------------------------------


@attrs.frozen(kw_only=True)
class UnpackPolicy:
    """
    What a layer may take, and what becomes of what cannot be had here.

    Attributes:
        max_bytes: Bound of the archive, and of every file in it; holes count.

        max_entries: Bound of entries.

        max_depth: Bound of directories in each other.

        owners: ``keep`` gives every file its owner; ``single``, where there is one id
            only, reports them (`Unpacked.owners`) and gives no set-id bits to files
            whose owner they would not be.

        devices: Whether device nodes are made; skipped ones are reported.

        unended: The marks at the end of the archive may be missing: for bytes that
            were verified, or will be, by other means. Many writers forget them.
    """

    max_bytes: int = attrs.field(default=1 << 40, validator=attrs.validators.gt(0))
    max_entries: int = attrs.field(default=10_000_000, validator=attrs.validators.gt(0))
    max_depth: int = attrs.field(
        default=1024,
        validator=[attrs.validators.gt(0), attrs.validators.le(2048)],
    )
    owners: Literal["keep", "single"] = "keep"
    devices: Literal["make", "skip"] = "make"
    unended: bool = False


DEFAULT_POLICY = UnpackPolicy()


@attrs.frozen
class Owner:
    """
    Whose a file should be, where it could not be given away.

    Attributes:
        path: Where it is in the tree, no component a link.

        uid: Its owner.

        gid: Its group.

        mode: Its mode, type included; it was made without the set-id bits of a missing
            owner.
    """

    path: bytes
    uid: int
    gid: int
    mode: int


@attrs.frozen
class Skipped:
    """
    Something that was left out.

    Attributes:
        kind: A ``device`` that was not made; an ``xattr`` that was not set; an entry
            that means nothing here, and was ``ignored``.

        path: Where in the tree.

        name: Of the attribute; else empty.

        mode: Of the entry, type included.

        device: Major and minor number, of a device.

        uid: Its owner.

        gid: Its group.
    """

    kind: str
    path: bytes
    name: bytes
    mode: int
    device: tuple[int, int]
    uid: int
    gid: int


@attrs.frozen(kw_only=True)
class Unpacked:
    """
    What became of a layer.

    Attributes:
        entries: How many entries it has.

        bytes: Bytes of content in them, holes not counted.

        read: Bytes of the archive.

        self_contained: The tree is complete. If not, some entry is about what lies
            below: the layer is to be unpacked once more, with its lowers.

        whiteouts: Marks for things that are not there, each a node in the tree.

        opaque: Directories that are marked as hiding everything below.

        ended: The archive said that it ends.

        max_rss: Memory that the work took at most, in bytes.

        skipped: What was left out, in the order of the archive.

        owners: What the owners should be, likewise; of one path the last counts.
    """

    entries: int
    bytes: int
    read: int
    self_contained: bool
    whiteouts: int
    opaque: int
    ended: bool
    max_rss: int
    skipped: tuple[Skipped, ...] = attrs.field(default=(), repr=False)
    owners: tuple[Owner, ...] = attrs.field(default=(), repr=False)


@attrs.frozen
class Measured:
    """
    How much a tree takes.

    Attributes:
        bytes: Room on the disk, in bytes; files with several names count once.

        inodes: Files, directories and everything else.

        content: Bytes of content, holes counted.
    """

    bytes: int
    inodes: int
    content: int


@attrs.frozen(kw_only=True)
class PackPolicy:
    """
    What an archive says, where there is a choice.

    Attributes:
        epoch: No time is later than this, in seconds (``SOURCE_DATE_EPOCH``);
            ``None`` leaves times alone.

        times: Whole ``seconds``, as other tools write them, or ``exact`` ones, at a
            price of 1 KiB for each file.

        tree_base: The id that root has in the tree: that of a jail's range.

        lower_base: The same in what lies below.

        max_bytes: Bound of content, holes counted; 0 is none.

        max_entries: Bound of entries; 0 is none.
    """

    epoch: int | None = None
    times: Literal["seconds", "exact"] = "seconds"
    tree_base: int = 0
    lower_base: int = 0
    max_bytes: int = 0
    max_entries: int = 0


DEFAULT_PACKING = PackPolicy()

_Paths: TypeAlias = tuple[bytes, ...]


@attrs.frozen(kw_only=True)
class Packed:
    """
    What became an archive.

    Attributes:
        entries: How many entries it has.

        bytes: Bytes of content in them, holes counted.

        left_out: How many things no archive can hold: sockets, some attributes.

        skipped: Their paths; of very many, the first.

        max_rss: Memory that the work took at most, in bytes.
    """

    entries: int
    bytes: int
    left_out: int
    skipped: _Paths = attrs.field(default=(), repr=False)
    max_rss: int = 0


# --- work -------------------------------------------------------------------


class Workshop:
    """
    Has work on files done. Thread-safe; as many at once as there are callers.

    Every call blocks until the work is over and nothing of it is left running. What
    interrupts it (`KeyboardInterrupt`) ends the work; the tree is then half done.

    Args:
        keeper: Returns a living keeper.
    """

    def __init__(self, keeper: Callable[[], Keeper]) -> None:
        self._keeper = keeper

    def unpack(
        self,
        stream: int,
        target: int,
        *,
        lowers: Sequence[int] = (),
        bottom: bool = False,
        policy: UnpackPolicy = DEFAULT_POLICY,
    ) -> Unpacked:
        """
        Turn a tar archive into a tree.

        Without *lowers* the tree holds this layer only, as overlayfs wants it:
        whiteouts are character devices 0:0, opaque directories have the attribute
        ``user.overlay.opaque``. With them, the tree is the upper directory of an
        overlay of them, and everything means what it means there.

        Args:
            stream: Descriptor of a pipe or file with the plain archive; read to its
                end, unless there is an error.

            target: Descriptor of an empty directory that nobody else enters.

            lowers: Descriptors of the trees below, uppermost first.

            bottom: There is nothing below this layer: whiteouts mean nothing, and
                missing parents are made.

            policy: Bounds.

        Raises:
            LayerError: If the archive is malformed, or cannot become a tree.

            LayerTooLarge: If it exceeds a bound.

            StoreError: If the disk refuses.

            EngineError: If the worker, or the keeper, was killed.
        """
        flags = (
            _ONE_ID * (policy.owners == "single")
            | _DEVICES * (policy.devices == "make")
            | _BOTTOM * (bottom and not lowers)
            | _UNENDED * policy.unended
        )
        with contextlib.ExitStack() as stack:
            notes = os.memfd_create("jailbox-notes", os.MFD_CLOEXEC)
            stack.callback(os.close, notes)
            tree, name, space = target, b"", b""
            if lowers:
                flags |= _MERGE
                tree, name, space = stack.enter_context(self._halves(target))
            work = Work(
                kind=_UNPACK,
                flags=flags,
                tree=tree,
                stream=stream,
                notes=notes,
                name=name,
                space=space,
                lowers=tuple(lowers),
                max_bytes=policy.max_bytes,
                max_entries=policy.max_entries,
                max_depth=policy.max_depth,
            )
            worked, gone = self._do("unpack a layer", work)
            if worked.reason:
                raise _layer_error(worked, policy)
            skipped, owners = _read_notes(notes)
        return Unpacked(
            entries=worked.entries,
            bytes=worked.moved,
            read=worked.numbers[0],
            self_contained=not worked.flags & _NEEDS_LOWERS,
            whiteouts=worked.numbers[1],
            opaque=worked.numbers[2],
            ended=bool(worked.flags & _ENDED),
            max_rss=max(gone.max_rss, worked.resident),
            skipped=skipped,
            owners=owners,
        )

    def remove(self, parent: int, name: str | bytes) -> int:
        """
        Remove an entry of a directory with everything below, whoever owns it.

        Needs no room on the disk. What is not there is removed already.

        Args:
            parent: Descriptor of the directory.

            name: The entry; one component.

        Returns:
            How many files and directories are gone.

        Raises:
            StoreError: If the disk refuses.
        """
        work = Work(kind=_REMOVE, tree=parent, name=os.fsencode(name))
        return self._plain("remove a tree", work).entries

    def measure(self, tree: int) -> Measured:
        """
        Tell how much room a tree takes, whoever owns what is in it.

        Args:
            tree: Descriptor of a directory.

        Raises:
            StoreError: If the disk refuses.
        """
        work = Work(kind=_MEASURE, flags=_READONLY, tree=tree)
        worked = self._plain("measure a tree", work)
        return Measured(worked.numbers[0], worked.numbers[1], worked.moved)

    def pack(
        self,
        tree: int,
        out: int,
        *,
        kind: Literal["tree", "layer"] = "tree",
        lowers: Sequence[int] = (),
        owners: Iterable[Owner] = (),
        policy: PackPolicy = DEFAULT_PACKING,
    ) -> Packed:
        """
        Turn a tree into a tar archive: the same tree always into the same bytes.

        As a ``layer``, the marks of an overlay become those of the image
        specification. With *lowers*, only what differs from them is in it, and what
        leads there.

        Args:
            tree: Descriptor of the directory.

            out: Descriptor of a pipe or file that the archive is written to. Whoever
                reads the pipe does so meanwhile.

            kind: ``tree`` or ``layer``.

            lowers: Descriptors of the trees below a layer, uppermost first.

            owners: What owners and modes should be, where the tree does not tell.

            policy: Times, ids, bounds.

        Raises:
            LayerError: If there is something that no layer can say: a file that is
                called as a mark, content that is somewhere else.

            LayerTooLarge: If it exceeds a bound.

            StoreError: If the disk refuses, if something changed while it was read, or
                if nobody reads the pipe.

            EngineError: If the worker, or the keeper, was killed.
        """
        flags = (
            _LAYER * (kind == "layer")
            | _EXACT_TIMES * (policy.times == "exact")
            | _EPOCH * (policy.epoch is not None)
        )
        return self._pack(tree, out, flags, lowers, owners, policy)

    def fingerprint(self, tree: int) -> str:
        """
        Compute a digest of everything in a tree but times.

        A layer that was unpacked has the same one as another copy of it, with its
        whiteouts and opaque directories.

        Args:
            tree: Descriptor of the directory.

        Returns:
            64 hexadecimal digits.

        Raises:
            StoreError: If the disk refuses, or something changed meanwhile.
        """
        flags = _LAYER | _ANY_NAME | _EPOCH
        with _Digesting() as digesting:
            self._pack(tree, digesting.pipe, flags, (), (), PackPolicy(epoch=0))
        return digesting.digest

    def _pack(
        self,
        tree: int,
        out: int,
        flags: int,
        lowers: Sequence[int],
        owners: Iterable[Owner],
        policy: PackPolicy,
    ) -> Packed:
        options = _OPTIONS.pack(
            flags, policy.tree_base, policy.lower_base, 0, policy.epoch or 0
        )
        notes = os.memfd_create("jailbox-notes", os.MFD_CLOEXEC)
        try:
            work = Work(
                kind=_PACK,
                flags=_READONLY,
                tree=tree,
                stream=out,
                notes=notes,
                lowers=tuple(lowers),
                options=options + _owners_table(owners),
                max_bytes=policy.max_bytes,
                max_entries=policy.max_entries,
            )
            worked, gone = self._do("pack a tree", work)
            if worked.reason:
                raise _pack_error(worked, policy)
            skipped, _ = _read_notes(notes)
        finally:
            os.close(notes)
        return Packed(
            entries=worked.entries,
            bytes=worked.moved,
            left_out=worked.numbers[0],
            skipped=tuple(one.path for one in skipped),
            max_rss=max(gone.max_rss, worked.resident),
        )

    def _plain(self, action: str, work: Work) -> Worked:
        worked, _ = self._do(action, work)
        if worked.reason:
            raise StoreError(
                action, os.fsdecode(worked.detail), worked.errno or errno.EINVAL
            )
        return worked

    @contextlib.contextmanager
    def _halves(self, target: int) -> Iterator[tuple[int, bytes, bytes]]:
        """
        Make the work directory of an overlay beside its upper one.

        The directory that both stand in, and their names.
        """
        above = os.open("..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=target)
        try:
            upper = os.path.basename(os.readlink(b"/proc/self/fd/%d" % target))
            there = os.stat(upper, dir_fd=above, follow_symlinks=False)
            if not os.path.samestat(there, os.fstat(target)):
                raise StoreError("unpack a layer", os.fsdecode(upper), errno.ESTALE)
            space = b".work-%d-%b" % (os.getpid(), os.urandom(6).hex().encode())
            os.mkdir(space, 0o700, dir_fd=above)
            try:
                yield above, upper, space
            finally:
                self.remove(above, space)
        finally:
            os.close(above)

    def _do(self, action: str, work: Work) -> tuple[Worked, Gone]:
        """Have *work* done, and wait until nothing of it is left."""
        ours, theirs = channel_pair()
        try:
            try:
                self._keeper().work(self._record(work), (theirs, *work.descriptors()))
            finally:
                os.close(theirs)
            return _outcome(action, ours)
        finally:
            os.close(ours)

    def _record(self, work: Work) -> bytes:
        return encode_work(work)


def _outcome(action: str, channel: int) -> tuple[Worked, Gone]:
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    worked: Worked | None = None
    refused: Report | None = None
    while True:
        poll.poll()
        received = receive(channel)
        message = None if received is None else received[0]
        match message:
            case Report():
                if refused is None:
                    refused = message
            case Worked():
                worked = message
            case Gone() | End():
                break
    if refused is not None:
        raise refusal(refused)
    if worked is None or isinstance(message, End):
        raise _died(action, message)
    return worked, message


def _died(action: str, message: Gone | End) -> EngineError:
    if isinstance(message, End):
        return EngineError(f"cannot {action}", "the keeper of this process is gone")
    number = message.status & 0x7F
    if number == 0:
        ended = f"exited with code {message.status >> 8}"
    else:
        try:
            ended = f"was killed by {signal.Signals(number).name}"
        except ValueError:
            ended = f"was killed by signal {number}"
    return EngineError(
        f"cannot {action}",
        f"the worker {ended} (memory: {message.max_rss >> 10} KiB)",
        hint="Nothing else is affected; what it was making is incomplete.",
    )


def _layer_error(worked: Worked, policy: UnpackPolicy) -> Exception:
    name = os.fsdecode(worked.detail)
    if worked.reason in _LIMITS:
        limits = {
            _MAX_BYTES: policy.max_bytes,
            _MAX_ENTRIES: policy.max_entries,
            _MAX_DEPTH: policy.max_depth,
            _MAX_NOTES: _NOTES_MAX,
            _MAX_LINKS: _LINKS_MAX,
        }
        limit = _LIMITS[worked.reason]
        return LayerTooLarge(limit, limits[worked.reason], worked.entry, name)
    if worked.reason == _SYSTEM:
        return StoreError("unpack a layer", name, worked.errno)
    reason = _REASONS.get(worked.reason, f"reason {worked.reason}")
    return LayerError(reason, worked.entry, name, worked.errno or None)


def _pack_error(worked: Worked, policy: PackPolicy) -> Exception:
    name = os.fsdecode(worked.detail)
    if worked.reason in {_MAX_BYTES, _MAX_ENTRIES, _MAX_DEPTH}:
        bounds = {_MAX_BYTES: policy.max_bytes, _MAX_ENTRIES: policy.max_entries}
        bound = bounds.get(worked.reason, _PACK_DEPTH_MAX)
        return LayerTooLarge(_LIMITS[worked.reason], bound, worked.entry, name)
    if worked.reason == _MARK and worked.errno == errno.EINVAL:
        return LayerError(
            "has a name that would mean a removal in a layer", worked.entry, name
        )
    if worked.reason == _MARK:
        return LayerError(
            "has its content somewhere else: it was changed through an overlay with"
            " redirects or metacopies",
            worked.entry,
            name,
        )
    if worked.reason == _CHANGED:
        hint = "It was changed while it was read. Stop who writes there, and repeat."
        return StoreError("pack a tree", name, worked.errno, hint=hint)
    return StoreError("pack a tree", name, worked.errno or errno.EINVAL)


def _owners_table(owners: Iterable[Owner]) -> bytes:
    """Write owners in the order of the walk; of one path, the last counts."""
    last = {one.path: one for one in owners}
    return b"".join(
        _OWNER.pack(len(path), one.uid, one.gid, one.mode, 0, 0) + path
        for path, one in sorted(
            last.items(), key=lambda item: item[0].replace(b"/", b"\0")
        )
    )


class _Digesting:
    """A pipe whose other end is hashed, by a thread that ends with the `with`."""

    def __init__(self) -> None:
        self._reading, self.pipe = os.pipe2(os.O_CLOEXEC)
        # Where a user may not have that much, it works without.
        with contextlib.suppress(OSError):
            fcntl.fcntl(self.pipe, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        self._hasher = hashlib.sha256()
        self._thread = threading.Thread(target=self._hash, name="jailbox-digest")

    def _hash(self) -> None:
        buffer = memoryview(bytearray(_PIPE_SIZE))
        while size := os.readv(self._reading, [buffer]):
            self._hasher.update(buffer[:size])

    @property
    def digest(self) -> str:
        """Of everything, when it has ended."""
        return self._hasher.hexdigest()

    def __enter__(self) -> Self:
        try:
            self._thread.start()
        except BaseException:
            os.close(self.pipe)
            os.close(self._reading)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self.pipe)
        self._thread.join()
        os.close(self._reading)


def _read_notes(notes: int) -> tuple[tuple[Skipped, ...], tuple[Owner, ...]]:
    size = os.lseek(notes, 0, os.SEEK_END)
    data = os.pread(notes, size, 0) if size else b""
    skipped = []
    owners = []
    at = 0
    while at < len(data):
        kind, mode, uid, gid, major, minor, path_size, text_size = NOTE.unpack_from(
            data, at
        )
        at += NOTE.size
        path = data[at : at + path_size]
        text = data[at + path_size : at + path_size + text_size]
        at += path_size + text_size
        if kind == _NOTE_OWNER:
            owners.append(Owner(path, uid, gid, mode))
        else:
            word = _NOTE_KINDS.get(kind, str(kind))
            skipped.append(Skipped(word, path, text, mode, (major, minor), uid, gid))
    return tuple(skipped), tuple(owners)
