"""
Which images go when space is needed: those that nobody has used for longest.

Deciding is arithmetic over what `jailbox.store.usage` has measured.
"""

from collections import Counter

import attrs

from jailbox.spec.digest import Digest
from jailbox.store.usage import ImageUsage, Usage

__all__ = ["Ledger", "Pruned", "candidates", "is_old"]


@attrs.frozen(kw_only=True)
class Pruned:
    """
    What a prune did.

    Attributes:
        removed: The images that are gone.

        kept: Those that should have gone, but are in use.

        freed: Bytes of the disk that are free again.

        total: Bytes that the store takes now.
    """

    removed: tuple[Digest, ...]
    kept: tuple[Digest, ...]
    freed: int
    total: int


class Ledger:
    """
    What a store takes while images go one by one.

    Attributes:
        total: Bytes that it takes now.
    """

    def __init__(self, usage: Usage) -> None:
        self.total = usage.total
        self._parts = usage.parts
        self._users = Counter(part for parts in usage.parts.values() for part in parts)

    def remove(self, digest: Digest) -> None:
        """Take an image away, with what it alone needs."""
        for part, size in self._parts[digest].items():
            self._users[part] -= 1
            if not self._users[part]:
                self.total -= size


def candidates(
    usage: Usage,
    *,
    now: float,
    max_bytes: int | None = None,
    older_than: float | None = None,
) -> tuple[ImageUsage, ...]:
    """
    Say which images may go, the least recently used first.

    Those without a name, if nothing is asked for. With *older_than*, those that were
    not used for so many seconds; with *max_bytes* alone, any, as long as the store
    takes more; with both, either reason will do.
    """
    order = sorted(usage.images, key=lambda image: (image.last_used, image.digest))
    if max_bytes is None and older_than is None:
        return tuple(image for image in order if not image.names)
    if max_bytes is not None and usage.total > max_bytes:
        return tuple(order)
    if older_than is None:
        return ()
    return tuple(image for image in order if is_old(image, now, older_than))


def is_old(image: ImageUsage, now: float, older_than: float | None) -> bool:
    """Return whether an image was not used for *older_than* seconds."""
    return older_than is not None and now - image.last_used > older_than
