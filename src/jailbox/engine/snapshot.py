"""
Snapshots of containers: layers that nobody writes to any more.

A snapshot takes the writable layer of a container as it is, and has the container write
to a new one above it. No file is touched, so it takes the same time whatever there is.
Those who come from a snapshot, the container itself and its forks, have the layer below
their own; it goes when the last of them, and the snapshot, are gone.

The root of a jail cannot be exchanged under the programs that run in it. So a snapshot
of a container that runs is one of a container where nothing runs but its init; or the
programs are ended, when that is asked for.
"""

import os
from collections.abc import Sequence

import attrs

from jailbox.linux.fd import Fd
from jailbox.spec.change import Change, ChangeKind
from jailbox.spec.image import Source

__all__ = ["Generation", "Snapshot", "combined"]


class Generation:
    """
    One layer that nobody writes to any more. Shared; closed with its last user.

    Attributes:
        changes: What differs in it from what lies below, once somebody has asked.
    """

    def __init__(self, layer: Fd) -> None:
        self._layer = layer
        self.changes: tuple[Change, ...] | None = None

    def fileno(self) -> int:
        """The layer, owned here."""
        return self._layer.fileno()

    @property
    def size(self) -> int:
        """Bytes of memory that it takes."""
        found = os.fstatvfs(self.fileno())
        return (found.f_blocks - found.f_bfree) * found.f_frsize


@attrs.frozen(eq=False)
class Snapshot:
    """
    The files of a container at one moment; they never change.

    It takes memory for as long as it, or a container that comes from it, is there.

    Attributes:
        container: The name of the container that it was taken of.

        source: The image below.

        layers: What lies above that, the latest first.
    """

    container: str
    source: Source = attrs.field(repr=False)
    layers: tuple[Generation, ...] = attrs.field(repr=False)

    @property
    def size(self) -> int:
        """Bytes of memory that it takes, beside its image."""
        return sum(layer.size for layer in self.layers)


def combined(steps: Sequence[Sequence[Change]]) -> tuple[Change, ...]:
    """
    Put changes that came one after the other together, as if they were one.

    Args:
        steps: The changes of each time; those of the earliest first.
    """
    found: dict[str, Change] = {}
    for step in steps:
        for change in step:
            before = found.pop(change.path, None)
            was_added = before is not None and before.kind is ChangeKind.ADDED
            if change.kind is ChangeKind.REMOVED:
                _forget_below(found, change.path)
                if was_added:
                    continue
            found[change.path] = change
            if change.kind is not ChangeKind.REMOVED and before is not None:
                kind = ChangeKind.ADDED if was_added else ChangeKind.MODIFIED
                found[change.path] = attrs.evolve(change, kind=kind)
    return tuple(found[path] for path in sorted(found))


def _forget_below(found: dict[str, Change], path: str) -> None:
    """A directory is gone: one change says so, for all that was in it."""
    for other in [name for name in found if name.startswith(f"{path}/")]:
        del found[other]
