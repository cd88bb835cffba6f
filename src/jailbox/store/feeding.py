"""
Bytes of a layer on their way into the workshop: hashed in passing.

The workshop reads a pipe. A thread fills it, so that decompressing and hashing here and
writing there go on at the same time. The reading end stays open here until the thread
has ended: it is never hit by SIGPIPE, which a host program may not ignore, and what
stands behind the end of the archive is hashed as well.
"""

import contextlib
import fcntl
import os
import threading
from collections.abc import Callable
from typing import Protocol, TypeVar

import attrs

from jailbox.spec.digest import Digest

__all__ = ["Fed", "Source", "feed"]

_CHUNK = 1 << 20

T = TypeVar("T")


class Source(Protocol):
    """Where the bytes come from."""

    def read(self, size: int, /) -> bytes:
        """Return some bytes, at most *size*; none at the end."""


@attrs.frozen
class Fed:
    """What passed: its digest, and how many bytes."""

    digest: Digest
    size: int


class _Feeder:
    """The thread's side."""

    def __init__(
        self, source: Source, pipe: int, also: Callable[[bytes], None] | None
    ) -> None:
        self._source = source
        self._pipe = pipe
        self._also = also
        self._stop = threading.Event()
        self.fed: Fed | None = None
        self.error: BaseException | None = None

    def run(self) -> None:
        """Pass everything on, and close the pipe."""
        hasher = Digest.of(b"").hasher()
        size = 0
        try:
            while not self._stop.is_set():
                chunk = self._source.read(_CHUNK)
                if not chunk:
                    self.fed = Fed(Digest("sha256", hasher.hexdigest()), size)
                    break
                size += len(chunk)
                hasher.update(chunk)
                if self._also is not None:
                    self._also(chunk)
                view = memoryview(chunk)
                while view and not self._stop.is_set():
                    view = view[os.write(self._pipe, view) :]
        except BaseException as error:  # noqa: BLE001  # raised where it is waited for
            self.error = error
        finally:
            os.close(self._pipe)

    def stop(self) -> None:
        """Have it end at the next chunk."""
        self._stop.set()


def feed(
    source: Source,
    work: Callable[[int], T],
    *,
    also: Callable[[bytes], None] | None = None,
) -> tuple[T, Fed]:
    """
    Have *work* read a pipe that *source* is poured into.

    Args:
        source: Gives plain bytes. What it raises is raised here.

        work: Is given the reading end, borrowed.

        also: Is given every piece, in passing.

    Returns:
        What *work* returned, and what passed.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        # Fewer wake-ups; where a user may not have that much, it works without.
        with contextlib.suppress(OSError):
            fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, _CHUNK)
        feeder = _Feeder(source, writing, also)
        thread = threading.Thread(target=feeder.run, name="jailbox-layer", daemon=True)
        try:
            thread.start()
        except BaseException:
            os.close(writing)
            raise
        try:
            came = work(reading)
        except BaseException:
            feeder.stop()
            raise
        finally:
            # Behind the end of an archive there may be more; and a thread that waits
            # for room in the pipe has to get it.
            while os.read(reading, _CHUNK):
                pass
            thread.join()
            # What was read tells more than what came of reading it.
            if feeder.error is not None:
                raise feeder.error
    finally:
        os.close(reading)
    assert feeder.fed is not None  # noqa: S101  # neither stopped nor failed
    return came, feeder.fed
