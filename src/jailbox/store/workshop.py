"""
What the store asks of whoever works on trees of files.

Trees hold files of many owners, with any modes, links and names; they come from
strangers. So the store never touches what is in them: a worker does, apart from this
process and without its rights. `jailbox.linux` has one; here is only what it must do.
"""

from collections.abc import Sequence
from typing import Protocol

from jailbox.linux.workshop import UnpackPolicy

__all__ = ["Measured", "NotedEntry", "NotedOwner", "Unpacked", "Workshop"]


class NotedOwner(Protocol):
    """Whose a file should be."""

    @property
    def path(self) -> bytes:
        """Where it is in the tree."""

    @property
    def uid(self) -> int:
        """Its owner."""

    @property
    def gid(self) -> int:
        """Its group."""

    @property
    def mode(self) -> int:
        """Its mode, type included."""


class NotedEntry(NotedOwner, Protocol):
    """What was left out."""

    @property
    def kind(self) -> str:
        """Whether it is a device, an attribute, or something else."""

    @property
    def name(self) -> bytes:
        """Of the attribute; else empty."""

    @property
    def device(self) -> tuple[int, int]:
        """Major and minor number, of a device."""


class Unpacked(Protocol):
    """What came of unpacking a layer."""

    @property
    def entries(self) -> int:
        """Files, directories and links in it."""

    @property
    def self_contained(self) -> bool:
        """Whether it needed nothing that is below it."""

    @property
    def owners(self) -> Sequence[NotedOwner]:
        """Owners and modes that the tree could not be given; empty if it has them."""

    @property
    def skipped(self) -> Sequence[NotedEntry]:
        """What was left out of the tree: devices, attributes."""


class Measured(Protocol):
    """What a tree takes."""

    @property
    def bytes(self) -> int:
        """Bytes on the disk."""

    @property
    def inodes(self) -> int:
        """Files, directories and everything else."""


class Workshop(Protocol):
    """Works on trees. Every descriptor is borrowed; every call blocks."""

    def unpack(
        self,
        stream: int,
        target: int,
        *,
        lowers: Sequence[int] = (),
        bottom: bool = False,
        policy: UnpackPolicy = ...,
    ) -> Unpacked:
        """Unpack the plain tar *stream* into an empty directory."""

    def remove(self, parent: int, name: str) -> object:
        """Delete a tree, whatever is in it."""

    def measure(self, tree: int) -> Measured:
        """Return what a tree takes on the disk."""
