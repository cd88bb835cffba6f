"""
What the store asks of whoever works on trees of files.

Trees hold files of many owners, with any modes, links and names; they come from
strangers. So the store never touches what is in them: a worker does, apart from this
process and without its rights. `jailbox.linux` has one; here is only what it must do.
"""

from collections.abc import Sequence
from typing import Protocol

__all__ = ["Unpacked", "Workshop"]


class Unpacked(Protocol):
    """What came of unpacking a layer."""

    @property
    def entries(self) -> int:
        """Files, directories and links in it."""

    @property
    def self_contained(self) -> bool:
        """Whether it needed nothing that is below it."""

    @property
    def owners(self) -> bytes:
        """Owners and modes that the tree could not be given; empty if it has them."""


class Workshop(Protocol):
    """Works on trees. Every descriptor is borrowed; every call blocks."""

    def unpack(
        self, stream: int, target: int, *, lowers: Sequence[int] = ()
    ) -> Unpacked:
        """Unpack the plain tar *stream* into an empty directory."""

    def remove(self, parent: int, name: str) -> None:
        """Delete a tree, whatever is in it."""

    def measure(self, tree: int) -> tuple[int, int]:
        """Return how many bytes a tree takes on the disk, and how many inodes."""

    def fingerprint(self, tree: int) -> str:
        """Return a digest of everything in a tree: names, modes, owners, content."""
