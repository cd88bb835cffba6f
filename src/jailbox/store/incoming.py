"""
Images on their way into the store from a file or a directory.

Whatever they come in, it ends here: every byte is checked against digest and size while
it is copied, every layer against its diff id, and only when all of all images is there
do they become visible, and only then do names move. What fails leaves nothing behind.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, Final, TypeAlias

import attrs

from jailbox.errors import DigestMismatch, JailboxError, Malformed
from jailbox.spec.descriptor import Descriptor
from jailbox.spec.digest import Digest
from jailbox.spec.document import ImageDocument, Manifest
from jailbox.spec.media import OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, compression_of
from jailbox.spec.reference import Reference
from jailbox.store.decompress import open_archive, open_layer
from jailbox.store.errors import storing
from jailbox.store.feeding import Source
from jailbox.store.records import ImageRecord, LayerRecord
from jailbox.store.shelf import ArchiveShelf, DirectoryShelf, Shelf
from jailbox.store.store import Store

__all__ = [
    "SPOOL_MAX",
    "AnySource",
    "Incoming",
    "Loaded",
    "Ready",
    "copy_blob",
    "layer_type",
    "on_shelf",
    "publish",
    "receiving",
    "take",
]

SPOOL_MAX: Final = 64 << 30
"""The most that an archive may hold, in bytes, if it has to be unpacked to be read."""

AnySource: TypeAlias = str | os.PathLike[str] | BinaryIO

_CHUNK = 1 << 20
_TIDY = 5.0  # seconds
_MAGIC = 6


@attrs.frozen
class Loaded:
    """
    An image that came in.

    Attributes:
        record: The image.

        names: The names that it has now.

        kept: Names that it came with, but which mean another image here. They were
            left as they are.
    """

    record: ImageRecord
    names: tuple[Reference, ...] = ()
    kept: tuple[Reference, ...] = ()


@attrs.frozen
class Incoming:
    """
    An image before it is taken in.

    Attributes:
        manifest: Its bytes.

        media_type: What the manifest is called.

        config: The bytes of its config.

        names: What it wants to be called.

        layer: Opens one of its layers; not asked for what is in the store.

        also: Documents to keep with it: the index that it was found in.
    """

    manifest: bytes
    media_type: str
    config: bytes
    names: tuple[Reference, ...]
    layer: Callable[[Descriptor], Source]
    also: tuple[bytes, ...] = ()


# --- reading ------------------------------------------------------------------


def layer_type(head: bytes) -> str | None:
    """Return the media type of a layer by how it begins; ``None`` if it has none."""
    if head.startswith(b"\x1f\x8b"):
        return OCI_LAYER_GZIP
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return OCI_LAYER_ZSTD
    return None if head.startswith((b"BZh", b"\xfd7zXZ\0")) else OCI_LAYER


@contextlib.contextmanager
def on_shelf(store: Store, source: AnySource) -> Iterator[Shelf]:
    """
    Open what images are in: a directory, or an archive, packed or not.

    Args:
        store: Where room is taken for what cannot be read in any order.

        source: A path, or a file that is read from where it stands.

    Raises:
        StoreError: If it cannot be read.

        Malformed: If it is neither a directory nor an archive of images.
    """
    with contextlib.ExitStack() as stack:
        if not isinstance(source, str | os.PathLike):
            yield _archive(store, source, getattr(source, "name", None), stack)
            return
        path = os.fspath(source)
        if os.path.isdir(path):
            shelf = stack.enter_context(DirectoryShelf(path))
            yield shelf
            return
        with storing("read an image", path):
            file = stack.enter_context(open(path, "rb"))
        yield _archive(store, file, path, stack)


def _archive(
    store: Store, file: BinaryIO, name: object, stack: contextlib.ExitStack
) -> Shelf:
    name = name if isinstance(name, str) else "archive"
    if not _can_be_sought(file):
        file = _spooled(store, file, stack)
    file.seek(0)
    packed = layer_type(file.read(_MAGIC)) != OCI_LAYER
    file.seek(0)
    if packed:
        file = _spooled(store, open_archive(file), stack)
    return stack.enter_context(ArchiveShelf(file, name))


def _can_be_sought(file: BinaryIO) -> bool:
    """Say whether it is a file of the disk, read from its beginning."""
    try:
        found = os.fstat(file.fileno())
        return file.tell() == 0 and found.st_size > 0
    except (OSError, AttributeError):
        # Not even a descriptor: a stream of Python's own.
        return False


def _spooled(store: Store, source: Source, stack: contextlib.ExitStack) -> BinaryIO:
    """Copy everything into a file of the store, which is gone at the end."""
    spool = stack.enter_context(store.spool())
    size = 0
    while chunk := source.read(_CHUNK):
        size += len(chunk)
        if size > SPOOL_MAX:
            raise Malformed("image archive", f"is larger than {SPOOL_MAX} bytes")
        spool.write(chunk)
    file = stack.enter_context(os.fdopen(os.dup(spool.fileno()), "rb"))
    file.seek(0)
    return file


# --- taking -------------------------------------------------------------------


@contextlib.contextmanager
def receiving(store: Store) -> Iterator[None]:
    """Keep what is added; if the block fails, remove what it left."""
    try:
        with store.adding():
            yield
    except BaseException:
        # What of it is somebody else's, too, stays. If others do not let us, the next
        # gc comes round to it.
        with contextlib.suppress(JailboxError):
            store.gc(timeout=_TIDY)
        raise


def copy_blob(
    store: Store,
    source: Source,
    expected: Digest | None = None,
    size: int | None = None,
    origin: str | None = None,
) -> tuple[Digest, int]:
    """
    Store bytes from somewhere; return their digest and number.

    Raises:
        DigestMismatch: If they are not what was expected. They are not stored.
    """
    with store.blobs.writer(expected, size, origin=origin) as writer:
        while chunk := source.read(_CHUNK):
            writer.write(chunk)
        written = writer.written
        return writer.commit(), written


def take(
    store: Store, images: Iterable[Incoming], *, move: bool = False
) -> tuple[Loaded, ...]:
    """
    Take images in: all of them, or none. Within `receiving`.

    Args:
        store: Where to.

        images: The images. Asked for one after the other.

        move: Whether a name that means another image here gets the new one.

    Raises:
        Malformed, DigestMismatch, UnsupportedMediaType: If something is not what it
            should be. No image of these is there then, and no name has moved.
    """
    ready = []
    for image in images:
        manifest = Manifest.from_bytes(image.manifest, image.media_type)
        manifest.check_image()
        document = ImageDocument.from_bytes(manifest.config.verify(image.config))
        document.check(manifest)
        _take_layers(store, image, manifest, document)
        store.blobs.put(image.config, manifest.config.digest)
        for data in image.also:
            store.blobs.put(data)
        ready.append(
            Ready(
                image.manifest,
                image.media_type,
                image.names,
                tuple(Digest.of(data) for data in image.also),
            )
        )
    return publish(store, ready, move=move)


def _take_layers(
    store: Store, image: Incoming, manifest: Manifest, document: ImageDocument
) -> None:
    below: list[LayerRecord] = []
    for place, diff_id in zip(manifest.layers, document.diff_ids, strict=True):
        new = not store.blobs.has(place.digest, place.size)
        if new:
            origin = f"layer {place.digest}"
            copy_blob(store, image.layer(place), place.digest, place.size, origin)
        found = store.layers.find(diff_id, below)
        if found is None:
            found = store.layers.add(
                place.digest,
                media_type=place.media_type,
                diff_id=diff_id,
                parents=below,
            )
        elif new:
            _check_unpacks_to(store, place, diff_id)
        below.append(found)


def _check_unpacks_to(store: Store, place: Descriptor, diff_id: Digest) -> None:
    """
    Refuse a packed layer that is not the one whose tree is here.

    It would never be used here, but it would be sent on.
    """
    if compression_of(place.media_type) == "none" and place.digest == diff_id:
        return
    hasher = diff_id.hasher()
    with store.blobs.open(place.digest) as file:
        source = open_layer(file, place.media_type)
        while chunk := source.read(_CHUNK):
            hasher.update(chunk)
    actual = Digest(diff_id.algorithm, hasher.hexdigest())
    if actual != diff_id:
        raise DigestMismatch(str(diff_id), str(actual), f"layer {place.digest}")


@attrs.frozen
class Ready:
    """
    An image of which everything but the record is in the store.

    Attributes:
        manifest: Its bytes.

        media_type: What the manifest is called.

        names: What it wants to be called.

        also: Documents to keep with it.
    """

    manifest: bytes
    media_type: str
    names: tuple[Reference, ...]
    also: tuple[Digest, ...] = ()


def publish(
    store: Store, images: Iterable[Ready], *, move: bool = False
) -> tuple[Loaded, ...]:
    """
    Make images visible and give them their names: all of it, or nothing.

    Args:
        store: Where they are.

        images: The images. One that is listed several times gets all names.

        move: Whether a name that means another image here gets the new one.
    """
    found: dict[Digest, ImageRecord] = {}
    names: dict[Digest, tuple[Reference, ...]] = {}
    with contextlib.ExitStack() as undo:
        for image in images:
            digest = Digest.of(image.manifest)
            if store.images.get(digest) is None:
                undo.callback(_withdraw, store, digest)
            record = store.images.add(image.manifest, image.media_type, also=image.also)
            found[digest] = record
            names[digest] = names.get(digest, ()) + image.names
        loaded = tuple(
            _name(store, record, names[digest], undo, move=move)
            for digest, record in found.items()
        )
        undo.pop_all()
        return loaded


def _withdraw(store: Store, digest: Digest) -> None:
    """Take back an image that was not there before."""
    with contextlib.suppress(JailboxError):
        store.images.remove(digest)


def _rename(store: Store, name: Reference, before: Digest | None) -> None:
    """Let a name mean again what it meant."""
    with contextlib.suppress(JailboxError):
        if before is None:
            store.tags.remove(name)
        else:
            store.tags.set(name, before)


def _name(
    store: Store,
    record: ImageRecord,
    names: tuple[Reference, ...],
    undo: contextlib.ExitStack,
    *,
    move: bool,
) -> Loaded:
    given, kept = [], []
    for name in dict.fromkeys(name.tagged() for name in names):
        before = store.tags.get(name)
        if before is None or move or before == record.digest:
            if before != record.digest:
                undo.callback(_rename, store, name, before)
                store.tags.set(name, record.digest)
            given.append(name)
        else:
            kept.append(name)
    return Loaded(record, tuple(given), tuple(kept))
