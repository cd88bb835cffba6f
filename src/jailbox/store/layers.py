"""
Layers: unpacked once, shared by every image that has them.

A layer that needs nothing below it is the same everywhere: its tree is named by its
diff id. One that does (a hard link to a file of a lower layer, a directory that only a
lower one describes) is unpacked once more on top of its parents, and its tree is named
by its chain id.

The order, which no crash may change: unpack below ``tmp``; one ``syncfs``; rename into
``trees``; fsync of ``trees``; only then the record, which alone makes it visible.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO, Protocol, TypeAlias

import attrs

from jailbox.errors import ContentError, DigestMismatch, NotFound
from jailbox.linux.disk import sync_filesystem
from jailbox.linux.workshop import UnpackPolicy
from jailbox.spec.digest import Digest
from jailbox.spec.document import chain_ids
from jailbox.store.adding import Additions
from jailbox.store.arriving import Arriving
from jailbox.store.blobs import Blobs
from jailbox.store.diff import PackedLayer
from jailbox.store.feeding import Fed, Source, feed
from jailbox.store.files import RECORD_FILE, Files, Temporary
from jailbox.store.fingerprint import fingerprint
from jailbox.store.locks import EXCLUSIVE
from jailbox.store.owners import Noted
from jailbox.store.records import LayerRecord, layer_file
from jailbox.store.trash import Trash
from jailbox.store.workshop import Unpacked, Workshop

__all__ = ["Below", "Layers", "Opener", "Unverifiable", "tree_directory"]


class Below(Protocol):
    """What must be known of a layer by those that lie on it."""

    @property
    def diff_id(self) -> Digest:
        """The digest of its plain tar."""

    @property
    def tree(self) -> Digest:
        """The name of its tree. Asking for it may wait until it is unpacked."""


Opener: TypeAlias = Callable[[BinaryIO, str], Source]
"""Makes plain bytes of packed ones: (file, media type) to what is read from."""

_TREE, _OWNERS = "root", "owners"


def tree_directory(tree: Digest) -> str:
    """
    Name the directory of a tree.

    The files are below it, in ``root``: that may be anybody's and have any mode, and a
    directory that is not ours cannot be moved.
    """
    return f"trees/{tree.hex}"


class Unverifiable(Exception):
    """A tree came from bytes that are not here any more."""


class Layers:
    """The layers of a store."""

    def __init__(
        self,
        files: Files,
        additions: Additions,
        blobs: Blobs,
        trash: Trash,
        workshop: Callable[[], Workshop],
        opener: Opener,
        policy: UnpackPolicy,
    ) -> None:
        self._files = files
        self._additions = additions
        self._blobs = blobs
        self._trash = trash
        self._workshop = workshop
        self._opener = opener
        self._policy = policy

    # ---- finding -----------------------------------------------------------

    def find(
        self, diff_id: Digest, parents: Sequence[Below] = ()
    ) -> LayerRecord | None:
        """
        Find the layer *diff_id* on top of *parents*, unpacked.

        Between `Store.adding` and its end, a layer that is found stays there.

        Raises:
            ContentError: If its record is damaged.
        """
        chain = chain_ids([*(layer.diff_id for layer in parents), diff_id])[-1]
        for tree in dict.fromkeys((diff_id, chain)):
            with self._additions.looking("tree", tree):
                record = self.get(tree)
                if record is not None and record.diff_id == diff_id:
                    return record
        return None

    def get(self, tree: Digest) -> LayerRecord | None:
        """
        Read the record of a tree; ``None`` if there is none, or no tree to it.

        Raises:
            ContentError: If it is damaged.
        """
        name = layer_file(tree)
        data = self._files.read(name, "read a layer's record")
        if data is None:
            return None
        record = LayerRecord.from_bytes(data, self._files.where(name))
        if record.tree != tree:
            raise ContentError(
                f"a record stands for another: {self._files.where(name)}"
            )
        if self._files.stat(f"{tree_directory(tree)}/{_TREE}") is None:
            return None
        return record

    def path(self, tree: Digest) -> str:
        """Return the absolute path of a tree, for those who mount it."""
        return self._files.where(f"{tree_directory(tree)}/{_TREE}")

    def open(self, tree: Digest) -> int:
        """
        Open a tree; the descriptor (``O_PATH``) is the caller's.

        Raises:
            NotFound: If it is not there.
        """
        name = f"{tree_directory(tree)}/{_TREE}"
        with self._files.trying("open a layer", name):
            try:
                return self._files.open(name, os.O_PATH | os.O_DIRECTORY)
            except FileNotFoundError:
                raise NotFound("layer", str(tree), where=self._files.path) from None

    @contextlib.contextmanager
    def opened(self, tree: Digest) -> Iterator[int]:
        """
        Open a tree for the length of a block, so that it can be read.

        Raises:
            NotFound: If it is not there.
        """
        name = f"{tree_directory(tree)}/{_TREE}"
        with self._files.trying("open a layer", name):
            try:
                fd = self._files.open(name, os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                raise NotFound("layer", str(tree), where=self._files.path) from None
        try:
            yield fd
        finally:
            os.close(fd)

    def noted(self, record: LayerRecord) -> Noted:
        """
        Return what a tree could not be given; nothing for a tree that has it all.

        Raises:
            ContentError: If that has changed since it was noted.
        """
        name = f"{tree_directory(record.tree)}/{_OWNERS}"
        data = self._files.read(name, "read the owners of a layer")
        if (None if data is None else Digest.of(data)) != record.noted:
            raise ContentError(
                f"the owners of a layer have changed: {self._files.where(name)}"
            )
        return Noted() if data is None else Noted.from_bytes(data, name)

    def list(self) -> list[Digest]:
        """Name all trees that have a record."""
        return [
            Digest("sha256", entry.removesuffix(".json"))
            for entry in self._files.list("records/layers")
            if entry.endswith(".json")
        ]

    # ---- adding ------------------------------------------------------------

    def add(
        self,
        source: Digest | Arriving | Source,
        *,
        media_type: str,
        diff_id: Digest | None = None,
        parents: Sequence[Below] = (),
        timeout: float | None = None,
    ) -> LayerRecord:
        """
        Unpack a layer, unless it is there.

        Two processes that add the same layer at once do it once: the second waits.

        Args:
            source: A blob of this store, packed as *media_type* says; one that is
                still arriving; or where the plain tar is read from, once.

            media_type: What the layer is called in a manifest.

            diff_id: Digest of the plain tar, if it is known. It is checked.

            parents: The layers below it, the lowest first. Their trees are asked for
                only if the layer cannot stand alone.

            timeout: Seconds to wait for another process that adds the same layer.

        Raises:
            DigestMismatch: If the plain tar is not what *diff_id* says.

            ContentError: If it is no tar, or holds what cannot be unpacked.

            NotFound: If the blob is not there.

            StoreError: If the disk is full or fails.

            DeadlineExceeded: If another process adds it for longer than that.
        """
        with contextlib.ExitStack() as locks:
            if diff_id is not None:
                locks.enter_context(self._lock(diff_id, timeout))
                found = self.find(diff_id, parents)
                if found is not None:
                    return found
            temporary = self._files.temporary("unpack a layer", directory=True)
            try:
                unpacked, fed, lowers = self._unpack(
                    source, media_type, diff_id, parents, temporary
                )
                if diff_id is not None and fed.digest != diff_id:
                    raise DigestMismatch(str(diff_id), str(fed.digest), "layer")
                if diff_id is None:
                    locks.enter_context(self._lock(fed.digest, timeout))
                    found = self.find(fed.digest, parents)
                    if found is not None:
                        return found
                record = self._record(
                    source, media_type, fed, unpacked, parents, lowers, temporary
                )
                self._publish(record, temporary)
                return record
            finally:
                self._trash.drop(temporary)

    def publish_tree(
        self, packed: PackedLayer, entries: int, temporary: Temporary, name: str
    ) -> LayerRecord:
        """
        Make a layer of a tree that stands below ``tmp`` already.

        The lock on the layer is held (`jailbox.store.written`), and its blob is there.
        Nothing but the tree is left of *temporary*.

        Args:
            packed: What it is as an archive.

            entries: How many entries that has.

            temporary: The directory that becomes the layer's.

            name: The tree in it.
        """
        with self._files.trying("keep a layer", temporary.name):
            for other in os.listdir(temporary.fileno()):
                if other != name:
                    self._workshop().remove(temporary.fileno(), other)
            fd = temporary.fileno()
            os.rename(name, _TREE, src_dir_fd=fd, dst_dir_fd=fd)
        with self._root(temporary) as root:
            taken = self._workshop().measure(root)
        record = LayerRecord(
            tree=packed.diff_id,
            diff_id=packed.diff_id,
            size=packed.plain_size,
            media_type=packed.media_type,
            blob=packed.digest,
            entries=entries,
            disk=taken.bytes,
            inodes=taken.inodes,
            owners=self._policy.owners,
        )
        self._publish(record, temporary)
        return record

    # ---- checking ----------------------------------------------------------

    def problem(
        self, record: LayerRecord, packed: Iterable[tuple[Digest, str]]
    ) -> str | None:
        """
        Say what is wrong with a tree, reading all of it; ``None`` if nothing is.

        Args:
            record: The layer.

            packed: Blobs that it could be unpacked from, and what they are called. It
                is unpacked again from the first that is there, and compared.

        Raises:
            Unverifiable: If there is nothing to compare it with.
        """
        self.noted(record)
        with (
            self.opened(record.tree) as tree,
            self._files.trying("read a layer", tree_directory(record.tree)),
        ):
            found = fingerprint(tree)
        wanted = record.fingerprint
        if not wanted:
            for blob, media_type in packed:
                if self._blobs.size(blob) is not None:
                    wanted = self._again(record, blob, media_type, bottom=True)
                    if found != wanted and not record.lowers:
                        # It may stand alone and still lie on others: then its
                        # whiteouts mean something.
                        wanted = self._again(record, blob, media_type, bottom=False)
                    break
            else:
                raise Unverifiable
        return None if found == wanted else "has changed since it was unpacked"

    def _again(
        self, record: LayerRecord, blob: Digest, media_type: str, *, bottom: bool
    ) -> str:
        """Unpack a layer once more, below ``tmp``; return its fingerprint."""
        lowers = []
        for lower in record.lowers:
            one = self.get(lower)
            if one is None:
                raise NotFound("layer", str(lower), where=self._files.path)
            lowers.append(one)
        temporary = self._files.temporary("check a layer", directory=True)
        try:
            _, fed, _ = self._unpack(
                blob, media_type, record.diff_id, lowers, temporary, bottom=bottom
            )
            if fed.digest != record.diff_id:
                raise DigestMismatch(str(record.diff_id), str(fed.digest), str(blob))
            with (
                self._root(temporary) as root,
                self._files.trying("read a layer", temporary.name),
            ):
                return fingerprint(root)
        finally:
            self._trash.drop(temporary)

    # ---- the steps ---------------------------------------------------------

    def _lock(
        self, diff_id: Digest, timeout: float | None
    ) -> contextlib.AbstractContextManager[object]:
        name = f"locks/layer-{diff_id.hex}"
        what = f"layer {diff_id.short}"
        return self._files.lock(name, EXCLUSIVE, what, timeout=timeout)

    def _unpack(
        self,
        source: Digest | Arriving | Source,
        media_type: str,
        diff_id: Digest | None,
        parents: Sequence[Below],
        temporary: Temporary,
        *,
        bottom: bool = True,
    ) -> tuple[Unpacked, Fed, tuple[Digest, ...]]:
        """
        Unpack below *temporary*; on top of the parents only if it has to be.

        The third of what is returned are the trees that it was unpacked on.
        """
        # Whoever knows the digest will see that nothing is missing at the end.
        policy = attrs.evolve(
            self._policy, unended=self._policy.unended or diff_id is not None
        )
        with contextlib.ExitStack() as stack:
            first, again, keep = self._sources(source, media_type, parents, stack)
            with self._root(temporary, fresh=True) as target:
                unpacked, fed = feed(
                    first,
                    lambda stream: self._workshop().unpack(
                        stream, target, bottom=bottom and not parents, policy=policy
                    ),
                    also=keep,
                )
            if unpacked.self_contained or not parents:
                return unpacked, fed, ()
            self._clear(temporary)
            with self._root(temporary, fresh=True) as target:
                lowers = [
                    stack.enter_context(_closing(self.open(layer.tree)))
                    for layer in reversed(parents)
                ]
                second = again()
                unpacked, refed = feed(
                    second,
                    lambda stream: self._workshop().unpack(
                        stream, target, lowers=lowers, policy=policy
                    ),
                )
            if refed != fed:
                raise DigestMismatch(str(fed.digest), str(refed.digest), "layer")
            return unpacked, fed, tuple(layer.tree for layer in parents)

    def _sources(
        self,
        source: Digest | Arriving | Source,
        media_type: str,
        parents: Sequence[Below],
        stack: contextlib.ExitStack,
    ) -> tuple[Source, Callable[[], Source], Callable[[bytes], None] | None]:
        """Return what to read, how to read it again, and who must see it for that."""
        if isinstance(source, Digest | Arriving):
            blob = source

            def unpacking() -> Source:
                opened = (
                    blob.open()
                    if isinstance(blob, Arriving)
                    else self._blobs.open(blob)
                )
                return self._opener(stack.enter_context(opened), media_type)

            return unpacking(), unpacking, None
        if not parents:
            # There is nothing that it could be unpacked on.
            return source, lambda: source, None
        spool = self._files.temporary("keep a layer")
        stack.callback(spool.close)

        def spooled() -> Source:
            os.lseek(spool.fileno(), 0, os.SEEK_SET)
            return stack.enter_context(open(os.dup(spool.fileno()), "rb"))

        return source, spooled, spool.write

    @contextlib.contextmanager
    def _root(self, temporary: Temporary, *, fresh: bool = False) -> Iterator[int]:
        """Open the directory that becomes the tree, below *temporary*."""
        with self._files.trying("unpack a layer", temporary.name):
            if fresh:
                os.mkdir(_TREE, 0o700, dir_fd=temporary.fileno())
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(_TREE, flags, dir_fd=temporary.fileno())
        try:
            yield fd
        finally:
            os.close(fd)

    def _clear(self, temporary: Temporary) -> None:
        with self._files.trying("unpack a layer", temporary.name):
            self._workshop().remove(temporary.fileno(), _TREE)

    def _record(
        self,
        source: Digest | Arriving | Source,
        media_type: str,
        fed: Fed,
        unpacked: Unpacked,
        parents: Sequence[Below],
        lowers: tuple[Digest, ...],
        temporary: Temporary,
    ) -> LayerRecord:
        tree = fed.digest
        if lowers:
            tree = chain_ids([*(one.diff_id for one in parents), tree])[-1]
        noted = Noted.of(unpacked.owners, unpacked.skipped)
        written = noted.to_bytes() if noted else b""
        if written:
            with self._files.trying("note owners", temporary.name):
                _write(temporary.fileno(), _OWNERS, written)
        with self._root(temporary) as root:
            taken = self._workshop().measure(root)
            # What was unpacked from a blob can be unpacked again, to be compared.
            mark = ""
            if not isinstance(source, Digest | Arriving):
                with self._files.trying("take a fingerprint", temporary.name):
                    mark = fingerprint(root)
        return LayerRecord(
            tree=tree,
            diff_id=fed.digest,
            size=fed.size,
            media_type=media_type,
            blob=_blob_of(source),
            entries=unpacked.entries,
            disk=taken.bytes,
            inodes=taken.inodes,
            fingerprint=mark,
            owners=self._policy.owners,
            noted=Digest.of(written) if written else None,
            lowers=lowers,
        )

    def _publish(self, record: LayerRecord, temporary: Temporary) -> None:
        """Sync, rename, record. The lock on the layer is held."""
        files = self._files
        with files.trying("unpack a layer", temporary.name):
            sync_filesystem(temporary.fileno())
        name = tree_directory(record.tree)
        with self._additions.relying("tree", record.tree):
            if not temporary.move(name):
                # Without a record, or find() had found it: nobody's.
                self._remove(record.tree)
                temporary.move(name)
            try:
                files.write_new(
                    layer_file(record.tree), record.to_bytes(), "record a layer"
                )
            except BaseException:
                self._trash.take(name, "unpack a layer")
                raise

    def _remove(self, tree: Digest) -> None:
        self._files.withdraw([layer_file(tree)], "remove a layer")
        self._trash.take(tree_directory(tree), "remove a layer")


def _blob_of(source: Digest | Arriving | Source) -> Digest | None:
    if isinstance(source, Arriving):
        return source.digest
    return source if isinstance(source, Digest) else None


@contextlib.contextmanager
def _closing(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)


def _write(directory: int, name: str, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with open(os.open(name, flags, RECORD_FILE, dir_fd=directory), "wb") as file:
        file.write(data)
