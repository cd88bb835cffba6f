"""
A tree on its way to become a layer: hashed, packed and stored in one pass.

The workshop writes the plain archive into a pipe. Here one thread empties it, one
hashes what came (the ``diff_id``), and one compresses, hashes and stores that; so three
cores have work, and no byte is read twice. Between them are a few pieces of memory that
go round: whoever is slow makes the others wait, and nothing grows.

The first failure is the one that is told. It ends the others: a workshop whose pipe
nobody reads stops, and what it says then is only a consequence.
"""

import contextlib
import fcntl
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import TracebackType
from typing import Protocol, Self, TypeVar

import attrs

from jailbox.spec.digest import Digest, Hasher
from jailbox.spec.media import OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, Compression
from jailbox.store.compress import compressor

__all__ = ["PackedLayer", "Sink", "pack_layer"]

_PIECE = 1 << 20
# One is filled, one hashed, one compressed; the rest lets each of them be uneven.
_PIECES = 6

_MEDIA_TYPES: dict[Compression, str] = {
    "none": OCI_LAYER,
    "gzip": OCI_LAYER_GZIP,
    "zstd": OCI_LAYER_ZSTD,
}

T = TypeVar("T")


class Sink(Protocol):
    """Where packed bytes go: `jailbox.store.blobs.BlobWriter` is one."""

    def write(self, data: bytes | bytearray | memoryview, /) -> object:
        """Take some bytes."""

    def commit(self) -> Digest:
        """Keep what came, and say what it is."""


@attrs.frozen(kw_only=True)
class PackedLayer:
    """
    What a layer is, plain and packed.

    Attributes:
        diff_id: Digest of the plain archive.

        plain_size: How many bytes that is.

        digest: Digest of the packed bytes: the name of the blob.

        size: How many they are.

        media_type: What they are called in a manifest.
    """

    diff_id: Digest
    plain_size: int
    digest: Digest
    size: int
    media_type: str


class _Nowhere:
    """A sink that keeps nothing but the digest."""

    def __init__(self) -> None:
        self._hasher = _hasher()

    def write(self, data: bytes | bytearray | memoryview, /) -> None:
        self._hasher.update(data)

    def commit(self) -> Digest:
        return Digest("sha256", self._hasher.hexdigest())


def _hasher() -> Hasher:
    return Digest.of(b"").hasher()


class _Piece:
    """Some plain bytes, until everybody has seen them."""

    def __init__(self) -> None:
        self.memory = memoryview(bytearray(_PIECE))
        self.size = 0
        self.readers = 0


class _Pieces:
    """Pieces on their round: empty ones to the pipe, full ones to every consumer."""

    def __init__(self, consumers: int) -> None:
        self._lock = threading.Lock()
        self._empty: SimpleQueue[_Piece | None] = SimpleQueue()
        self.full: list[SimpleQueue[_Piece | None]] = [
            SimpleQueue() for _ in range(consumers)
        ]
        for _ in range(_PIECES):
            self._empty.put(_Piece())

    def take(self) -> _Piece | None:
        """Wait for an empty piece; ``None`` when it is over."""
        return self._empty.get()

    def pass_on(self, piece: _Piece) -> None:
        """Give a full piece to every consumer."""
        piece.readers = len(self.full)
        for queue in self.full:
            queue.put(piece)

    def give_back(self, piece: _Piece) -> None:
        """Say that one consumer has seen a piece."""
        with self._lock:
            piece.readers -= 1
            seen = piece.readers == 0
        if seen:
            self._empty.put(piece)

    def end(self) -> None:
        """Say that no more pieces come."""
        for queue in self.full:
            queue.put(None)

    def stop(self) -> None:
        """Wake whoever waits for an empty one: it is over."""
        self._empty.put(None)


class _Line:
    """The threads between a pipe and a sink; they end with its ``with``."""

    def __init__(
        self,
        sink: Sink,
        compression: Compression,
        level: int | None,
        threads: int | None,
    ) -> None:
        self.error: BaseException | None = None
        self.plain_size = 0
        self.size = 0
        self.hasher = _hasher()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._sink = sink
        self._compression = compression
        self._level = level
        self._cores = threads
        # What is not compressed is hashed once: by the sink.
        work = [self._store] if compression == "none" else [self._hash, self._store]
        self._pieces = _Pieces(len(work))
        self._reading, self._writing = os.pipe2(os.O_CLOEXEC)
        # Fewer wake-ups; where a user may not have that much, it works without.
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._writing, fcntl.F_SETPIPE_SZ, _PIECE)
        self._threads = [
            threading.Thread(
                target=self._guarded, args=(step,), name="jailbox-pack", daemon=True
            )
            for step in (self._read, *work)
        ]

    @property
    def pipe(self) -> int:
        """Where the plain archive is to be written; borrowed."""
        return self._writing

    def finish(self) -> None:
        """Say that everything was written, and wait until it has arrived."""
        self._close_writing()
        for thread in self._threads:
            thread.join()

    def fail(self, error: BaseException) -> None:
        """Remember the first failure, and have everybody end."""
        with self._lock:
            if self.error is None:
                self.error = error
        self._stopped.set()
        self._pieces.stop()

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except BaseException as error:  # noqa: BLE001  # raised where it is waited for
            self.fail(error)

    # --- the threads ---

    def _read(self) -> None:
        """Empty the pipe. When this ends, nobody can write any more."""
        try:
            while not self._stopped.is_set():
                piece = self._pieces.take()
                if piece is None or not self._fill(piece):
                    break
                self.plain_size += piece.size
                self._pieces.pass_on(piece)
        finally:
            os.close(self._reading)
            self._pieces.end()

    def _fill(self, piece: _Piece) -> bool:
        """Read until a piece is full, or the end; whether there is anything in it."""
        piece.size = 0
        while piece.size < _PIECE:
            got = os.readv(self._reading, [piece.memory[piece.size :]])
            if not got:
                break
            piece.size += got
        return piece.size > 0

    def _consume(
        self, queue: SimpleQueue[_Piece | None], take: Callable[[memoryview], object]
    ) -> None:
        while (piece := queue.get()) is not None:
            if self._stopped.is_set():
                return
            take(piece.memory[: piece.size])
            self._pieces.give_back(piece)

    def _hash(self) -> None:
        self._consume(self._pieces.full[0], self.hasher.update)

    def _store(self) -> None:
        def write(data: bytes | bytearray | memoryview) -> None:
            self._sink.write(data)
            self.size += len(data)

        packing = compressor(
            self._compression, write, level=self._level, threads=self._cores
        )
        with packing as packer:
            self._consume(self._pieces.full[-1], packer.write)
            if not self._stopped.is_set():
                packer.finish()

    # --- resources ---

    def _close_writing(self) -> None:
        writing, self._writing = self._writing, -1
        if writing >= 0:
            os.close(writing)

    def __enter__(self) -> Self:
        started = []
        try:
            for thread in self._threads:
                thread.start()
                started.append(thread)
        except BaseException as error:
            self._threads = started
            self.fail(error)
            if not started:
                os.close(self._reading)
            self._pieces.end()
            self.finish()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self.fail(error)
        self.finish()


def pack_layer(
    work: Callable[[int], T],
    *,
    compression: Compression = "zstd",
    sink: Sink | None = None,
    level: int | None = None,
    threads: int | None = None,
) -> tuple[T, PackedLayer]:
    """
    Make a layer of the plain archive that *work* writes.

    Args:
        work: Is given a pipe, borrowed, and returns when it has written everything:
            `jailbox.linux.workshop.Workshop.pack`.

        compression: How it is packed.

        sink: Where the packed bytes go; it is committed when all of them are there.
            ``None`` keeps nothing.

        level: Of the compression; its own default if ``None``.

        threads: How many cores may compress; all by default. They change no byte.

    Returns:
        What *work* returned, and what the layer is.

    Raises:
        BaseException: What failed first: the work, or the sink. The sink is not
            committed then.
    """
    if sink is None:
        sink = _Nowhere()
    with _Line(sink, compression, level, threads) as line:
        try:
            came = work(line.pipe)
        except BaseException as error:
            # Unless it is what came of a sink that failed.
            line.fail(error)
            line.finish()
            if line.error is error or line.error is None:
                raise
            raise line.error from None
        line.finish()
    if line.error is not None:
        raise line.error
    digest = sink.commit()
    diff_id = digest
    if compression != "none":
        diff_id = Digest("sha256", line.hasher.hexdigest())
    return came, PackedLayer(
        diff_id=diff_id,
        plain_size=line.plain_size,
        digest=digest,
        size=line.size,
        media_type=_MEDIA_TYPES[compression],
    )
