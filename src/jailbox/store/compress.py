"""
Packed bytes of plain ones, the same every time.

gzip is compressed in blocks of a fixed size, each with the end of the one before as its
dictionary, by as many threads as there are cores: one member for whoever reads it, and
bytes that do not depend on how many cores those were. zstd has threads of its own, of
which the same is true. Neither writes a name, a time or a host.

Another version of zlib or zstd may write other bytes: it is the digest of the plain
ones (``diff_id``) that names content.
"""

import os
import zlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Protocol, Self, TypeAlias

import zstandard

from jailbox.spec.media import Compression

__all__ = ["GZIP_LEVEL", "ZSTD_LEVEL", "Buffer", "Compressor", "compressor"]

Buffer: TypeAlias = bytes | bytearray | memoryview

GZIP_LEVEL = 6
ZSTD_LEVEL = 3


class Compressor(Protocol):
    """Takes plain bytes, and writes compressed ones."""

    def write(self, data: Buffer, /) -> None:
        """Take some; they may be changed when this returns."""

    def finish(self) -> None:
        """Write what is still to be written."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


def compressor(
    compression: Compression,
    write: Callable[[Buffer], object],
    *,
    level: int | None = None,
    threads: int | None = None,
) -> Compressor:
    """
    Make a writer of compressed bytes. Its threads end with its ``with``.

    The same bytes, level and version of the library give the same result, whatever the
    number of threads, and in whatever pieces they come.

    Args:
        compression: Which.

        write: Gets the compressed bytes, in the thread of the caller; what it is given
            is valid until it returns.

        level: Of the library; `GZIP_LEVEL` or `ZSTD_LEVEL` by default.

        threads: How many cores to use; all that this process may use by default.
    """
    if threads is None:
        threads = len(os.sched_getaffinity(0))
    if compression == "gzip":
        return _GzipWriter(write, GZIP_LEVEL if level is None else level, threads)
    if compression == "zstd":
        return _ZstdWriter(write, ZSTD_LEVEL if level is None else level, threads)
    return _PlainWriter(write)


class _Writer:
    """What compressors have in common: leaving early leaves nothing behind."""

    def close(self) -> None:
        """End without finishing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class _PlainWriter(_Writer):
    def __init__(self, write: Callable[[Buffer], object]) -> None:
        self._write = write

    def write(self, data: Buffer, /) -> None:
        self._write(data)

    def finish(self) -> None:
        pass


# Large blocks lose little at their ends, small ones fill all cores sooner.
_BLOCK = 128 << 10
_DICTIONARY = 32 << 10
# No name, no time, no operating system.
_GZIP_HEADER = b"\x1f\x8b\x08\x00" + bytes(4) + b"\x00\xff"
_MEMORY_LEVEL = 8


def _deflate(block: bytes, before: bytes, level: int, *, last: bool) -> bytes:
    """Compress a block so that it can stand behind the one *before*."""
    if before:
        packer = zlib.compressobj(
            level, zlib.DEFLATED, -zlib.MAX_WBITS, _MEMORY_LEVEL, zdict=before
        )
    else:
        packer = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS, _MEMORY_LEVEL)
    packed = packer.compress(block)
    return packed + packer.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)


class _GzipWriter(_Writer):
    """One member, made of blocks that are compressed side by side."""

    def __init__(
        self, write: Callable[[Buffer], object], level: int, threads: int
    ) -> None:
        self._write = write
        self._level = level
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._waiting: deque[Future[bytes]] = deque()
        self._begun = False
        self._block = bytearray()
        self._before = b""
        self._checksum = 0
        self._size = 0

    def write(self, data: Buffer, /) -> None:
        view = memoryview(data).cast("B")
        self._checksum = zlib.crc32(view, self._checksum)
        self._size += len(view)
        while view:
            if len(self._block) == _BLOCK:
                self._send(last=False)
            room = _BLOCK - len(self._block)
            self._block += view[:room]
            view = view[room:]

    def finish(self) -> None:
        self._send(last=True)
        while self._waiting:
            self._receive()
        self._write(
            self._checksum.to_bytes(4, "little")
            + (self._size & 0xFFFFFFFF).to_bytes(4, "little")
        )

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _send(self, *, last: bool) -> None:
        """Have a block compressed; at its turn, it is written."""
        block = bytes(self._block)
        self._block.clear()
        if not self._begun:
            self._write(_GZIP_HEADER)
            self._begun = True
        before, self._before = self._before, block[-_DICTIONARY:]
        if last and self._pool is None:
            # There is only one: no thread for it.
            self._write(_deflate(block, before, self._level, last=True))
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, "jailbox-gzip")
        while len(self._waiting) > 2 * self._threads:
            self._receive()
        self._waiting.append(
            self._pool.submit(_deflate, block, before, self._level, last=last)
        )

    def _receive(self) -> None:
        self._write(self._waiting.popleft().result())


class _ZstdWriter(_Writer):
    """One frame; the library has threads of its own."""

    def __init__(
        self, write: Callable[[Buffer], object], level: int, threads: int
    ) -> None:
        self._write = write
        # Without threads the library cuts differently; one thread cuts as many do.
        packer = zstandard.ZstdCompressor(level=level, threads=max(threads, 1))
        self._packer = packer.compressobj()

    def write(self, data: Buffer, /) -> None:
        packed = self._packer.compress(data)
        if packed:
            self._write(packed)

    def finish(self) -> None:
        self._write(self._packer.flush())
