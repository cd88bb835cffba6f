"""
Blobs: bytes by digest, accepted only whole.

A blob is a file under the name of its digest, read-only, on the disk before it has that
name. Bytes enter by a `BlobWriter`, which counts and hashes them as they pass and gives
them no name unless digest and size are what was expected.
"""

from types import TracebackType
from typing import BinaryIO, Self

from jailbox.errors import DigestMismatch, NotFound
from jailbox.spec.digest import ALGORITHMS, Digest
from jailbox.store.adding import Additions
from jailbox.store.files import READ_ONLY_FILE, Files, Temporary

__all__ = ["BlobWriter", "Blobs", "blob_file"]


def blob_file(digest: Digest) -> str:
    """Name the file of a blob."""
    return f"blobs/{digest.algorithm}/{digest.hex}"


class Blobs:
    """The blobs of a store."""

    def __init__(self, files: Files, additions: Additions) -> None:
        self._files = files
        self._additions = additions

    def writer(
        self,
        expected: Digest | None = None,
        size: int | None = None,
        *,
        origin: str | None = None,
    ) -> "BlobWriter":
        """
        Begin to store bytes. Use it as a context manager: without `commit` none stay.

        Args:
            expected: Their digest, or ``None`` to be told by `commit`.

            size: Their number, or ``None``.

            origin: Where they come from, for the error if they are something else.
        """
        return BlobWriter(self._files, self._additions, expected, size, origin)

    def put(self, data: bytes, expected: Digest | None = None) -> Digest:
        """
        Store bytes that are in memory.

        Raises:
            DigestMismatch: If they are not what was expected.
        """
        with self.writer(expected, len(data)) as writer:
            writer.write(data)
            return writer.commit()

    def has(self, digest: Digest, size: int | None = None) -> bool:
        """
        Return whether a blob is there, and as long as it should be.

        Between `Store.adding` and its end, a blob that is there stays there.
        """
        with self._additions.looking("blob", digest):
            found = self.size(digest)
        return found is not None and (size is None or size == found)

    def size(self, digest: Digest) -> int | None:
        """Return how long a blob is, in bytes; ``None`` if it is not there."""
        found = self._files.stat(blob_file(digest))
        return None if found is None else found.st_size

    def open(self, digest: Digest) -> BinaryIO:
        """
        Open a blob for reading; the caller closes it.

        What is read is not checked here: `read` does, and so does unpacking.

        Raises:
            NotFound: If it is not there.
        """
        name = blob_file(digest)
        with self._files.trying("open a blob", name):
            try:
                return open(self._files.open(name), "rb")
            except FileNotFoundError:
                raise NotFound("blob", str(digest), where=self._files.path) from None

    def read(self, digest: Digest) -> bytes:
        """
        Read a small blob whole, and check it.

        Raises:
            NotFound: If it is not there.

            DigestMismatch: If its bytes have changed on the disk.
        """
        name = blob_file(digest)
        data = self._files.read(name, "read a blob")
        if data is None:
            raise NotFound("blob", str(digest), where=self._files.path)
        actual = Digest.of(data, digest.algorithm)
        if actual != digest:
            raise DigestMismatch(str(digest), str(actual), self._files.where(name))
        return data

    def list(self) -> list[Digest]:
        """Return the digests of all blobs that are there."""
        return [
            Digest(algorithm, name)
            for algorithm in ALGORITHMS
            for name in self._files.list(f"blobs/{algorithm}")
        ]


class BlobWriter:
    """
    Bytes on their way to become a blob.

    Attributes:
        written: How many came so far.
    """

    def __init__(
        self,
        files: Files,
        additions: Additions,
        expected: Digest | None,
        size: int | None,
        origin: str | None,
    ) -> None:
        self._files = files
        self._additions = additions
        self._expected = expected
        self._size = size
        self._origin = origin or (f"blob {expected}" if expected else "blob")
        self._hasher = (expected or Digest.of(b"")).hasher()
        self._algorithm = expected.algorithm if expected else "sha256"
        self._temporary: Temporary | None = files.temporary("store a blob")
        self.written = 0

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """
        Take some bytes; returns how many, which is all.

        Raises:
            DigestMismatch: If there are more than were announced. They are not stored.

            ValueError: If it was committed or closed.
        """
        temporary = self._open()
        count = memoryview(data).nbytes
        self.written += count
        if self._size is not None and self.written > self._size:
            raise DigestMismatch(
                f"{self._size} bytes", f"{self.written} or more", self._origin
            )
        self._hasher.update(data)
        temporary.write(data)
        return count

    def commit(self) -> Digest:
        """
        Check what came, and store it. It is on the disk when this returns.

        A blob that is there already stays as it is.

        Raises:
            DigestMismatch: If size or digest is not what was expected.
        """
        temporary = self._open()
        if self._size is not None and self.written != self._size:
            raise DigestMismatch(
                f"{self._size} bytes", f"{self.written} bytes", self._origin
            )
        actual = Digest(self._algorithm, self._hasher.hexdigest())
        if self._expected is not None and actual != self._expected:
            raise DigestMismatch(str(self._expected), str(actual), self._origin)
        with self._additions.relying("blob", actual):
            temporary.publish(blob_file(actual), mode=READ_ONLY_FILE)
        self.close()
        return actual

    def fileno(self) -> int:
        """The descriptor of what came so far, owned here: for those who read along."""
        return self._open().fileno()

    def close(self) -> None:
        """Drop what was not committed. Idempotent."""
        temporary, self._temporary = self._temporary, None
        if temporary is not None:
            temporary.close()

    def _open(self) -> Temporary:
        if self._temporary is None:
            raise ValueError("the blob is committed or closed")
        return self._temporary

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
