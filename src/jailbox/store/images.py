"""
Images: a manifest as it arrived, its config, and the layers that both speak of.

The record of an image is also its lease: whoever uses the image holds a shared lock on
that file, and whoever removes it needs an exclusive one. It is never rewritten, so
the lock is on what was read.
"""

import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterable
from typing import BinaryIO, Final

from jailbox.errors import ContentError, ImageNotFound, InUse, NotFound, StoreError
from jailbox.spec.change import Change
from jailbox.spec.digest import Digest
from jailbox.spec.document import ImageDocument, Manifest
from jailbox.store.adding import Additions, GcLock
from jailbox.store.blobs import Blobs
from jailbox.store.files import Files, read_all
from jailbox.store.layers import Layers
from jailbox.store.leases import Lease
from jailbox.store.locks import (
    EXCLUSIVE,
    SHARED,
    Held,
    adopt,
    holders,
    is_still,
    open_held,
)
from jailbox.store.merged import Merged, compare
from jailbox.store.records import (
    ImageRecord,
    LayerRecord,
    Stacked,
    StoredBlob,
    image_file,
)

__all__ = ["Images"]

_CACHED: Final = 256
_SHORT: Final = 4

_PATIENCE: Final = 0.1
"""Seconds that setting a tag, or looking, may delay a removal."""

_FRESH: Final = 60
"""Seconds for which a lease does not note again that an image is used."""


class Images:
    """The images of a store, by the digest of their manifest."""

    def __init__(
        self,
        files: Files,
        additions: Additions,
        gc_lock: GcLock,
        blobs: Blobs,
        layers: Layers,
    ) -> None:
        self._files = files
        self._additions = additions
        self._gc_lock = gc_lock
        self._blobs = blobs
        self._layers = layers
        # Content by its bytes or its digest: neither can become wrong.
        self._read = functools.lru_cache(_CACHED)(ImageRecord.from_bytes)
        self._document = functools.lru_cache(_CACHED)(self._read_document)

    # ---- finding -----------------------------------------------------------

    def get(self, digest: Digest) -> ImageRecord | None:
        """
        Read the record of an image; ``None`` if it is not there.

        Raises:
            ContentError: If it is damaged.
        """
        name = image_file(digest)
        data = self._files.read(name, "read an image's record")
        return None if data is None else self._checked(data, digest)

    def find(self, start: str) -> ImageRecord:
        """
        Find an image by the first digits of its digest, or of its config's.

        Args:
            start: At least four hexadecimal digits.

        Raises:
            ImageNotFound: If there is none, or more than one.
        """
        found = {}
        if len(start) >= _SHORT and start == start.lower():
            for record in self.list():
                if record.digest.hex.startswith(start) or record.config.hex.startswith(
                    start
                ):
                    found[record.digest] = record
        if len(found) == 1:
            return found.popitem()[1]
        hint = None
        if found:
            hint = "More than one begins so: " + ", ".join(map(str, sorted(found)))
        raise ImageNotFound(start, where=self._files.path, hint=hint)

    def digests(self) -> list[Digest]:
        """Return the digests of all images, sorted."""
        return [
            Digest("sha256" if len(entry) == 64 + 5 else "sha512", entry[:-5])
            for entry in self._files.list("records/images")
            if entry.endswith(".json")
        ]

    def list(self) -> list[ImageRecord]:
        """
        Return the records of all images.

        Raises:
            ContentError: If one is damaged.
        """
        found = map(self.get, self.digests())
        return [record for record in found if record is not None]

    def manifest(self, record: ImageRecord) -> bytes:
        """
        Return the manifest of an image, byte for byte as it arrived.

        Raises:
            DigestMismatch: If it has changed on the disk.
        """
        return self._blobs.read(record.digest)

    def document(self, record: ImageRecord) -> ImageDocument:
        """
        Return the config of an image.

        Raises:
            DigestMismatch: If it has changed on the disk.
        """
        return self._document(record.config)

    def layers(self, record: ImageRecord) -> tuple[LayerRecord, ...]:
        """
        Return the records of an image's layers, the lowest first.

        Raises:
            NotFound: If one is not there.
        """
        found = []
        for layer in record.layers:
            one = self._layers.get(layer.tree)
            if one is None:
                raise NotFound("layer", str(layer.tree), where=self._files.path)
            found.append(one)
        return tuple(found)

    def last_used(self, digest: Digest) -> float:
        """
        When an image was leased last, or added, in seconds since 1970.

        Exact to a minute. A time to come, as clocks that were set back leave it, is
        now. 0 if it is not there.
        """
        found = self._files.stat(image_file(digest))
        return 0 if found is None else min(found.st_mtime, time.time())

    # ---- looking inside ----------------------------------------------------

    def merged(self, record: ImageRecord) -> Merged:
        """
        Open the file system of an image, to be read where it lies; close it.

        Raises:
            NotFound: If a layer is not there.
        """
        trees: dict[Digest, int] = {}
        try:
            for layer in record.layers:
                if layer.tree not in trees:
                    trees[layer.tree] = self._layers.open(layer.tree)
            return Merged(record.layers, trees, record.digest.short)
        except BaseException:
            for fd in trees.values():
                os.close(fd)
            raise

    def open_file(self, record: ImageRecord, path: str) -> BinaryIO:
        """
        Open a file of an image for reading, without running anything.

        Links lead where they would in a container. The caller closes it.

        Args:
            record: The image.

            path: Absolute path in it.

        Raises:
            NotFound: If it is not there.

            ContentError: If it is no regular file.

            NotPermitted: If it belongs to one of our subordinate ids and is closed.
        """
        with self.merged(record) as merged:
            return merged.open(merged.find(path))

    def diff(self, before: ImageRecord, after: ImageRecord) -> tuple[Change, ...]:
        """
        Compare two images: what *after* has that *before* has not, and the reverse.

        Sorted by path. Times do not count. See `jailbox.store.merged.compare`.

        Raises:
            NotPermitted: If files of our subordinate ids would have to be read.
        """
        with self.merged(before) as one, self.merged(after) as other:
            return tuple(compare(one, other))

    # ---- adding ------------------------------------------------------------

    def add(
        self,
        manifest: bytes,
        media_type: str | None = None,
        *,
        also: Iterable[Digest] = (),
    ) -> ImageRecord:
        """
        Make an image visible, of which everything else is there.

        Its config must be a blob of this store and its layers must be unpacked. Of the
        packed layers those are kept that are there. Adding it again changes nothing.

        Args:
            manifest: The bytes that arrived. They are kept and forwarded as they are.

            media_type: What the manifest is called by whoever points to it.

            also: Further blobs to keep with it: the index that it was found in.

        Raises:
            Malformed: If manifest and config do not fit each other.

            NotFound: If the config, a layer or another blob is not there.
        """
        parsed = Manifest.from_bytes(manifest, media_type)
        parsed.check_image()
        with self._additions.open():
            digest = self._blobs.put(manifest)
            document = ImageDocument.from_bytes(self._blobs.read(parsed.config.digest))
            document.check(parsed)
            with self._gc_lock.shared():
                record = ImageRecord(
                    digest=digest,
                    media_type=parsed.media_type,
                    config=parsed.config.digest,
                    layers=self._stack(document.diff_ids),
                    blobs=self._kept(digest, parsed, also),
                    added=int(time.time()),
                )
                name = image_file(digest)
                self._files.write_new(name, record.to_bytes(), "record an image")
            # What was there before it is as good, and may differ in what it keeps.
            return self.get(digest) or record

    def _stack(self, diff_ids: Iterable[Digest]) -> tuple[Stacked, ...]:
        below: list[LayerRecord] = []
        for diff_id in diff_ids:
            found = self._layers.find(diff_id, below)
            if found is None:
                raise NotFound("layer", str(diff_id), where=self._files.path)
            below.append(found)
        return tuple(Stacked(layer.diff_id, layer.tree) for layer in below)

    def _kept(
        self, digest: Digest, manifest: Manifest, also: Iterable[Digest]
    ) -> tuple[StoredBlob, ...]:
        """List what is here of what the image needs to be sent on."""
        needed = dict.fromkeys((digest, manifest.config.digest, *also))
        found = {}
        for each in needed:
            size = self._blobs.size(each)
            if size is None:
                raise NotFound("blob", str(each), where=self._files.path)
            found[each] = size
        for layer in manifest.layers:
            size = self._blobs.size(layer.digest)
            if size == layer.size:
                found[layer.digest] = size
        return tuple(StoredBlob(each, size) for each, size in found.items())

    # ---- using -------------------------------------------------------------

    def lease(self, digest: Digest) -> Lease:
        """
        Use an image: nobody removes it until the lease is released.

        Costs the same however many images there are. It is noted that the image was
        used, once in a while, where the store can be written to.

        Raises:
            ImageNotFound: If it is not there.

            DeadlineExceeded: If somebody takes too long to remove it.

            ContentError: If its record is damaged.
        """
        name = image_file(digest)
        with self._files.trying("lease an image", name):
            try:
                held = self._files.lock(
                    name, SHARED, f"image {digest.short}", flags=os.O_RDONLY
                )
            except StoreError as error:
                if isinstance(error.__cause__, FileNotFoundError):
                    raise ImageNotFound(str(digest), where=self._files.path) from None
                raise
            try:
                record = self._checked(read_all(held.fileno()), digest)
                self._stamp(held.fileno())
                return Lease(record, held)
            except BaseException:
                held.close()
                raise

    def _stamp(self, fd: int) -> None:
        """Note that an image is used, if the store can be written to."""
        now = time.time()
        # Also if the clock was set back since.
        if abs(now - os.fstat(fd).st_mtime) > _FRESH:
            with contextlib.suppress(OSError):
                os.utime(fd, (now, now))

    # ---- removing ----------------------------------------------------------

    def remove(
        self, digest: Digest, names: Callable[[], Iterable[str]] = tuple
    ) -> None:
        """
        Make an image invisible. What it alone needed is garbage from then on.

        Args:
            digest: Of its manifest. The record may be damaged.

            names: Finds the files of its tags, which go first. Asked when nobody can
                add one any more.

        Raises:
            ImageNotFound: If it is not there.

            InUse: If somebody holds a lease on it; it names them.
        """
        name = image_file(digest)
        with self._files.trying("remove an image", name):
            try:
                held = open_held(name, os.O_RDWR | os.O_NOFOLLOW, dir_fd=self._files.fd)
            except FileNotFoundError:
                raise ImageNotFound(str(digest), where=self._files.path) from None
            with held:
                if not _adopted(held):
                    raise InUse(
                        "image",
                        str(digest),
                        holders(held),
                        hint="It can be removed when its containers have ended.",
                    )
                if not is_still(held, name, dir_fd=self._files.fd):
                    raise ImageNotFound(str(digest), where=self._files.path)
                self._files.withdraw(names(), "remove a tag")
                self._files.withdraw([name], "remove an image")

    def _checked(self, data: bytes, digest: Digest) -> ImageRecord:
        path = self._files.where(image_file(digest))
        record = self._read(data, path)
        if record.digest != digest:
            raise ContentError(f"a record stands for another: {path}")
        return record

    def _read_document(self, digest: Digest) -> ImageDocument:
        return ImageDocument.from_bytes(self._blobs.read(digest))


def _adopted(held: Held) -> bool:
    """Lock against everybody; short looks of others do not count as use."""
    deadline = time.monotonic() + _PATIENCE
    while not adopt(held, EXCLUSIVE):
        if time.monotonic() > deadline:
            return False
        time.sleep(_PATIENCE / 20)
    return True
