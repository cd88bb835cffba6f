"""
A blob that is read while it is still written: unpacking does not wait for its end.

What is read is not checked before the writer commits. That is no danger to those who
check what comes of it (`Layers.add` with a diff id), and to nobody else.
"""

import io
import os
import threading
from typing import BinaryIO, Self

from jailbox.spec.digest import Digest
from jailbox.store.blobs import BlobWriter

__all__ = ["Arriving"]

_STEP = 256 << 10


class Arriving:
    """
    The bytes that a `BlobWriter` got so far, and those to come.

    Use it as a context manager, or close it: readers then end with an error, unless
    `finish` was called.

    Attributes:
        digest: What the blob will be called.
    """

    def __init__(self, writer: BlobWriter, digest: Digest) -> None:
        self.digest = digest
        self._more = threading.Condition()
        self._there = 0
        self._over = False
        self._whole = False
        # Another open file, for the one of the writer holds a lock; without a name.
        own = f"/proc/self/fd/{writer.fileno()}"
        self._fd = os.open(own, os.O_RDONLY | os.O_CLOEXEC)

    def grown(self, size: int) -> None:
        """Say that *size* bytes are there."""
        with self._more:
            self._there = size
            self._more.notify_all()

    def finish(self) -> None:
        """Say that all are there."""
        with self._more:
            self._over = self._whole = True
            self._more.notify_all()

    def close(self) -> None:
        """Give up, if it is not finished; no more reading after that."""
        with self._more:
            self._over, self._whole = True, False
            self._more.notify_all()
            fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def open(self) -> BinaryIO:
        """Read it from the beginning. The caller closes what is returned."""
        return io.BufferedReader(_Reader(self), _STEP)

    def read_at(self, position: int, size: int) -> bytes:
        """
        Return bytes, at least one unless it is the end. Waits for them.

        Raises:
            ValueError: If there will be no more, and these were not all.
        """
        with self._more:
            self._more.wait_for(lambda: self._over or self._there > position)
            if not self._whole and self._over:
                raise ValueError("the blob did not arrive")
            return os.pread(self._fd, min(size, self._there - position), position)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Reader(io.RawIOBase):
    """One pass over a blob that is arriving."""

    def __init__(self, blob: Arriving) -> None:
        super().__init__()
        self._blob = blob
        self._position = 0

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        """Read some bytes; none at the end."""
        data = self._blob.read_at(self._position, len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
