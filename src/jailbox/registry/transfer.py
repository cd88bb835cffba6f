"""
What pulling and pushing whole images have in common: two sides, and jobs side by side.

Whoever keeps what is pulled, or has what is pushed, is known by two small protocols:
`Destination` and `Source`. Blobs move in threads that end with the call.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from typing import Protocol

import attrs

from jailbox.registry.client import Operation
from jailbox.registry.events import Moved
from jailbox.registry.pace import Interrupted
from jailbox.spec.descriptor import Descriptor
from jailbox.spec.digest import Digest

__all__ = [
    "Destination",
    "Layer",
    "Sink",
    "Source",
    "job_of",
    "side_by_side",
    "watched",
]

_PROGRESS_EVERY = 0.1


class Sink(Protocol):
    """Where the bytes of one blob go. It checks their digest: nobody else does."""

    def write(self, data: bytes, /) -> object:
        """Take the next bytes."""

    def commit(self) -> object:
        """
        Make them visible: all have come.

        Raises:
            DigestMismatch: If they are not what was announced.
        """


@attrs.frozen(kw_only=True)
class Layer:
    """
    A layer that is to be pulled, and what is known about it.

    Attributes:
        blob: What is fetched.

        diff_ids: The digests of the plain tar of this layer and of all below, the
            lowest first; this layer's is the last.

        check: To be called now and then by whoever waits: raises if the pull is over,
            because its time is, or because something else has failed.
    """

    blob: Descriptor
    diff_ids: tuple[Digest, ...]
    check: Callable[[], None] = attrs.field(default=lambda: None, eq=False, repr=False)

    @property
    def diff_id(self) -> Digest:
        """The digest of its plain tar."""
        return self.diff_ids[-1]


class Destination(Protocol):
    """Where pulled images are kept. Called from several threads at once."""

    def has_blob(self, blob: Descriptor, /) -> bool:
        """Return whether these bytes are there already."""

    def blob(self, blob: Descriptor, /) -> AbstractContextManager[Sink]:
        """Begin to take a blob as it is. Without `Sink.commit`, nothing stays."""

    def read(self, blob: Descriptor, /) -> bytes:
        """Return the bytes of a small blob that is there."""

    def has_layer(self, layer: Layer, /) -> bool:
        """
        Return whether a layer is there already, unpacked.

        May unpack it first, from a blob that is there.
        """

    def layer(self, layer: Layer, /) -> AbstractContextManager[Sink]:
        """Begin to take a layer, and to unpack it while it comes."""

    def document(self, descriptor: Descriptor, data: bytes, /) -> None:
        """Keep a manifest or an index as these bytes."""


class Source(Protocol):
    """Where pushed images come from. Called from several threads at once."""

    def document(self, descriptor: Descriptor, /) -> bytes:
        """
        Return the bytes of a manifest or an index.

        Raises:
            NotFound: If it is not there.
        """

    def has_blob(self, blob: Descriptor, /) -> bool:
        """Return whether a blob is there."""

    def pieces(self, blob: Descriptor, /) -> Iterable[bytes]:
        """Return the bytes of a blob from the beginning, each time it is called."""


def job_of(work: Callable[..., None], *args: object) -> Callable[[], None]:
    """Bind *work* to what it is about, to be done by `side_by_side`."""
    return lambda: work(*args)


def watched(
    doing: Operation, blob: Descriptor, pieces: Iterable[bytes]
) -> Iterator[bytes]:
    """Pass bytes on and report them, a few times a second."""
    done, told = 0, time.monotonic()
    for piece in pieces:
        doing.call.check()
        yield piece
        done += len(piece)
        if (now := time.monotonic()) - told >= _PROGRESS_EVERY:
            doing.tell(Moved(blob.digest, done, blob.size))
            told = now


def side_by_side(doing: Operation, jobs: Sequence[Callable[[], None]]) -> None:
    """
    Do jobs in a few threads, which are gone at the end.

    The first failure ends the others, at once, and is the one that is raised.
    """
    if len(jobs) == 1:
        jobs[0]()
        return
    if not jobs:
        return
    most = min(doing.client.settings.parallel, len(jobs))
    with ThreadPoolExecutor(most, thread_name_prefix="jailbox-registry") as pool:
        running = [pool.submit(job) for job in jobs]
        try:
            done, _ = wait(running, return_when=FIRST_EXCEPTION)
        except BaseException:
            # Somebody wants out of here: Ctrl-C.
            doing.call.cancel()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        if any(each.exception() is not None for each in done):
            doing.call.cancel()
            pool.shutdown(wait=False, cancel_futures=True)
    failed = _failure(running)
    if failed is not None:
        raise failed


def _failure(running: Iterable[Future[None]]) -> BaseException | None:
    """Return what went wrong first; being ended because of it is not that."""
    found = None
    for each in running:
        error = None if each.cancelled() else each.exception()
        if error is not None and (found is None or isinstance(found, Interrupted)):
            found = error
    return found
