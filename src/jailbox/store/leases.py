"""
A lease: an image that is in use, and so cannot be removed.
"""

from types import TracebackType
from typing import Self

from jailbox.store.locks import Held
from jailbox.store.records import ImageRecord

__all__ = ["Lease"]


class Lease:
    """
    An image that stays while this is held.

    Held by this process, and by whoever is given a copy of the descriptor; not by
    forked children. The kernel frees it when the last of them has closed it or ended,
    however that came about.

    Attributes:
        record: The image.
    """

    __slots__ = ("_held", "record")

    def __init__(self, record: ImageRecord, held: Held) -> None:
        self.record = record
        self._held = held

    def fileno(self) -> int:
        """
        The descriptor that is the lease, owned here.

        Send it to a process that shall go on holding the image when this one ends: the
        keeper of detached containers.
        """
        return self._held.fileno()

    @property
    def released(self) -> bool:
        """Whether it was released; always true in a forked child."""
        return self._held.closed

    def release(self) -> None:
        """Let go of the image, unless that has happened."""
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        state = "released" if self.released else "held"
        return f"<Lease of {self.record.digest} {state}>"
