"""
Descriptors with exactly one owner.

Not for reading or writing: a descriptor is a number that somebody has to close.
"""

import os
import socket
import weakref
from collections.abc import Iterable
from types import TracebackType
from typing import Self

__all__ = ["Fd", "channel_pair", "close_all", "open_path"]


class Fd:
    """
    An open file descriptor with one owner.

    Close it, hand it over with `steal`, or use it as a context manager. Dropped
    without either, it is closed, for want of a better moment.
    """

    __slots__ = ("__weakref__", "_closer", "_number")

    def __init__(self, number: int) -> None:
        self._number = number
        # Bound to the number, never to self: a finalizer that refers to its object
        # keeps it alive for ever.
        self._closer = weakref.finalize(self, os.close, number)
        # At exit the kernel closes everything anyway, and a forked child would run
        # finalizers of its parent.
        self._closer.atexit = False

    def fileno(self) -> int:
        """The number, still owned here."""
        if not self._closer.alive:
            raise ValueError("the descriptor is closed")
        return self._number

    def steal(self) -> int:
        """Give up ownership: the caller now closes the returned number."""
        if self._closer.detach() is None:
            raise ValueError("the descriptor is closed")
        return self._number

    def close(self) -> None:
        """Close it, unless that has happened."""
        self._closer()

    @property
    def closed(self) -> bool:
        """Whether it is closed or was given away."""
        return not self._closer.alive

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def channel_pair() -> tuple[int, int]:
    """Make two ends of a channel that keeps messages whole; owned by the caller."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return ours.detach(), theirs.detach()


def open_path(path: str) -> int:
    """
    Open a place of the host; links are followed, as for everybody on the host.

    The result says which file was meant, whatever happens to the path afterwards; it
    can neither be read nor written. Owned by the caller.
    """
    return os.open(path, os.O_PATH | os.O_CLOEXEC)


def close_all(fds: Iterable[int]) -> None:
    """Close every one of *fds*."""
    for fd in fds:
        os.close(fd)
