"""
Images on their way out of the store, into a file or a directory.

What goes out is what came in: manifest, config and packed layers as bytes, so that
every digest stays what it was. Each byte is checked once more while it is copied.
"""

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, Final, Protocol, TypeAlias

import attrs

from jailbox.errors import DigestMismatch, NotFound
from jailbox.spec.descriptor import Descriptor
from jailbox.spec.digest import Digest
from jailbox.spec.document import ImageDocument, Manifest
from jailbox.spec.reference import Reference
from jailbox.store.errors import storing
from jailbox.store.feeding import Source
from jailbox.store.records import ImageRecord
from jailbox.store.store import Store

__all__ = [
    "AnyTarget",
    "Chosen",
    "Outgoing",
    "Place",
    "TarPlace",
    "blob_name",
    "copy_blobs",
    "gathered",
    "into",
]

AnyTarget: TypeAlias = str | os.PathLike[str] | BinaryIO

Chosen: TypeAlias = Sequence[tuple[ImageRecord, Sequence[Reference]]]
"""Images to be written, each with the names that it shall have there."""

_CHUNK: Final = 1 << 20
_BLOCK: Final = 512
_OCTAL_MAX: Final = 0o77777777777


def blob_name(digest: Digest) -> str:
    """Name the file of a blob in an OCI layout."""
    return f"blobs/{digest.algorithm}/{digest.hex}"


@attrs.frozen
class Outgoing:
    """
    An image before it is written.

    Attributes:
        place: Points to its manifest.

        data: The bytes of the manifest.

        manifest: The manifest.

        document: The config.

        record: The image in the store.

        names: What it shall be called.
    """

    place: Descriptor
    data: bytes
    manifest: Manifest
    document: ImageDocument
    record: ImageRecord
    names: tuple[Reference, ...]


def gathered(store: Store, chosen: Chosen) -> tuple[Outgoing, ...]:
    """
    Read the documents of images, and see that all of their layers are there.

    Raises:
        NotFound: If a packed layer is not kept.
    """
    found = []
    for record, names in chosen:
        data = store.images.manifest(record)
        manifest = Manifest.from_bytes(data, record.media_type)
        for layer in manifest.layers:
            if not store.blobs.has(layer.digest, layer.size):
                raise NotFound(
                    "packed layer",
                    str(layer.digest),
                    where=store.path,
                    hint="Only its files are kept here. Pull the image again.",
                )
        document = store.images.document(record)
        found.append(
            Outgoing(
                Descriptor.of(
                    data, record.media_type, platform=document.platform.normalized()
                ),
                data,
                manifest,
                document,
                record,
                tuple(dict.fromkeys(name.tagged() for name in names)),
            )
        )
    return tuple(found)


class Place(Protocol):
    """Where files are written: a directory, or an archive."""

    def put(self, name: str, data: bytes) -> None:
        """Write a small file."""

    def pour(self, name: str, source: Source, size: int) -> None:
        """Write a file of so many bytes."""


def copy_blobs(store: Store, images: Sequence[Outgoing], place: Place) -> None:
    """
    Write manifests, configs and packed layers, each once.

    Raises:
        DigestMismatch: If one has changed on the disk.
    """
    written: set[Digest] = set()
    for image in images:
        if image.place.digest not in written:
            written.add(image.place.digest)
            place.put(blob_name(image.place.digest), image.data)
        for part in (image.manifest.config, *image.manifest.layers):
            if part.digest in written:
                continue
            written.add(part.digest)
            with store.blobs.open(part.digest) as file:
                checked = Checked(file, part.digest, part.size)
                place.pour(blob_name(part.digest), checked, part.size)


class Checked:
    """A source that is what its digest says, or fails at its end."""

    def __init__(self, source: Source, digest: Digest, size: int) -> None:
        self._source = source
        self._digest = digest
        self._left = size
        self._hasher = digest.hasher()

    def read(self, size: int, /) -> bytes:
        """
        Return some bytes; none at the end.

        Raises:
            DigestMismatch: At the end, or when there are too many.
        """
        data = self._source.read(size)
        self._hasher.update(data)
        self._left -= len(data)
        if self._left < 0 or (self._left == 0 and data):
            actual = f"{self._digest.algorithm}:{self._hasher.hexdigest()}"
            if self._left < 0 or actual != str(self._digest):
                raise DigestMismatch(str(self._digest), actual, "blob of the store")
        return data


# --- archives -----------------------------------------------------------------


class TarPlace:
    """
    A tar archive that is written.

    The same files give the same bytes: no times, no owners, no names of this host.
    """

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._directories: set[str] = set()

    def put(self, name: str, data: bytes) -> None:
        """Write a small file."""
        self._header(name, len(data))
        self._write(data)
        self._write(bytes(-len(data) % _BLOCK))

    def pour(self, name: str, source: Source, size: int) -> None:
        """
        Write a file of so many bytes.

        Raises:
            DigestMismatch: If there are more or fewer.
        """
        self._header(name, size)
        left = size
        while left > 0 and (chunk := source.read(min(_CHUNK, left))):
            self._write(chunk)
            left -= len(chunk)
        if left:
            raise DigestMismatch(f"{size} bytes", f"{size - left} bytes", name)
        self._write(bytes(-size % _BLOCK))

    def finish(self) -> None:
        """Write the end."""
        self._write(bytes(2 * _BLOCK))

    def _header(self, name: str, size: int) -> None:
        for n, letter in enumerate(name):
            if letter == "/" and name[:n] not in self._directories:
                self._directories.add(name[:n])
                self._write(_tar_header(f"{name[:n]}/", 0, b"5", 0o755))
        self._write(_tar_header(name, size, b"0", 0o644))


def _tar_header(name: str, size: int, kind: bytes, mode: int) -> bytes:
    """Make the header of an entry; names here are short and plain."""
    written = b"%011o\0" % size
    if size > _OCTAL_MAX:
        written = b"\x80" + size.to_bytes(11, "big")
    block = bytearray(
        name.encode("ascii").ljust(100, b"\0")
        + b"%07o\0" % mode
        + b"%07o\0" % 0 * 2
        + written
        + b"%011o\0" % 0
        + b" " * 8
        + kind
        + bytes(100)
        + b"ustar\x0000"
    ).ljust(_BLOCK, b"\0")
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@contextlib.contextmanager
def into(target: AnyTarget) -> Iterator[TarPlace]:
    """
    Write an archive to a file, or to a path.

    At a path it appears whole or not at all, in place of what was there.

    Raises:
        StoreError: If it cannot be written.
    """
    if not isinstance(target, str | os.PathLike):
        place = TarPlace(target.write)
        yield place
        place.finish()
        return
    path = os.fspath(target)
    fresh = f"{path}.{secrets.token_hex(4)}.tmp"
    with storing("write an image", path), open(fresh, "xb") as file:
        try:
            place = TarPlace(file.write)
            yield place
            place.finish()
            file.flush()
            os.rename(fresh, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(fresh)
            raise
