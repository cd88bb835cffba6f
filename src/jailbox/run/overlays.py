"""
How the layers of a root become one writable tree, in the way that the kernel offers.

Nothing is mounted here: operations are collected, for the plan of a jail.
"""

from collections.abc import Sequence

import attrs

from jailbox.linux.facts import HostFacts
from jailbox.linux.plan import (
    ATTR_NODEV,
    ATTR_NOSUID,
    Dir,
    File,
    Fs,
    Link,
    Node,
    Op,
    Open,
    Overlay,
    Stage,
    Strike,
    Tree,
)
from jailbox.run.names import Etc
from jailbox.run.rootfs import Rootfs

__all__ = [
    "SCRATCH",
    "UPPER",
    "Lowers",
    "Overlays",
    "Slots",
    "names_layer",
    "past_layers",
    "root_overlay",
]


UPPER = "0-upper"
"""What the root of a jail got, in its writable layer."""

SCRATCH = ("0-work", "names")
"""What else is in a writable layer: of no use when the jail is gone."""


@attrs.frozen
class Lowers:
    """
    How the layers of the root are come by.

    Attributes:
        prepared: Number of a layer that the keeper has built.

        stack: Number of a tree with all of the layers.

        compare: They are looked at later without the writable layer.

        past: How many layers of the container itself lie above them.
    """

    prepared: int | None
    stack: int | None
    compare: bool
    past: int = 0


class Slots:
    """Hands out slots, and collects operations."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self._next = 0

    def new(self) -> int:
        """Take a slot that nobody has."""
        self._next += 1
        return self._next - 1

    def add(self, *ops: Op) -> None:
        """Append operations, in this order."""
        self.ops += ops


def root_overlay(
    slots: Slots,
    rootfs: Rootfs,
    lowers: Lowers,
    layer: int,
    *,
    deep: bool,
    idmap: bool,
    past: tuple[int, ...] = (),
) -> Overlay:
    """
    Take the layers of the root; the overlay of them is made by the caller.

    Slots in *past* are layers that lie above them.
    """
    attr = ATTR_NOSUID | ATTR_NODEV
    count = 0
    sources: list[str | int] = list(rootfs.layers)
    if lowers.stack is not None:
        sources, count, deep = [lowers.stack], len(rootfs.layers), True
    if lowers.prepared is not None:
        sources.append(lowers.prepared)
    taken = []
    for source in sources:
        taken.append(slots.new())
        shared = isinstance(source, int) and not count
        slots.add(
            Tree(taken[-1], source, attr, recursive=deep and not shared, idmap=idmap)
        )
    if lowers.prepared is None and rootfs.prepared is not None:
        taken.append(slots.new())
        slots.add(*_inline(rootfs.prepared.ops, taken[-1]))
    several = (count or len(taken)) + len(past) > 1
    below = slots.new() if lowers.compare and several else -1
    return Overlay(slots.new(), (*past, *taken), layer, "0", stack=count, below=below)


def past_layers(slots: Slots, past: Sequence[int], name: str) -> tuple[int, ...]:
    """Open what was written to the overlay *name* in each of some former layers."""
    found = tuple(slots.new() for _ in past)
    slots.add(
        *(
            Open(slot, f"{name}-upper", layer)
            for slot, layer in zip(found, past, strict=True)
        )
    )
    return found


class Overlays:
    """
    The overlays of a root, in the way that the kernel offers.

    By descriptor they are mounted at once. A stack has to stand in the jail's own mount
    namespace for that, and so has everything before Linux 6.13, where layers are given
    by name (`Stage`). Before Linux 6.6 a tmpfs has no ``user.*`` attributes: what the
    kernel notes about the writable layer is in ``trusted.*`` then. What images note
    about their layers is not, and is read by an overlay of its own below.
    """

    def __init__(
        self, slots: Slots, facts: HostFacts, *, reuse: bool, given: bool = False
    ) -> None:
        self._slots = slots
        self._reuse = reuse
        self.by_name = not facts.overlay_takes_descriptors
        # What is given becomes a layer of an image, which keeps its notes in user.*.
        self._trusted = (
            not facts.tmpfs_keeps_user_attributes and facts.is_rootful and not given
        )
        self._waiting: list[Op] = []

    def add(self, overlay: Overlay) -> int:
        """Add a writable one; its slot."""
        overlay = attrs.evolve(overlay, reuse=self._reuse)
        if self.by_name:
            self._name(overlay)
        elif overlay.stack:
            self._waiting.append(overlay)
        else:
            self._slots.add(overlay)
        return overlay.slot

    def _name(self, overlay: Overlay) -> None:
        several = len(overlay.lowers) > 1
        if several and (self._trusted or overlay.below >= 0):
            # What has had a name cannot have another one later.
            below = overlay.below if overlay.below >= 0 else self._slots.new()
            self._waiting.append(
                Overlay(
                    below, overlay.lowers, -1, "below", volatile=False, by_name=True
                )
            )
            overlay = attrs.evolve(overlay, lowers=(below,), below=-1)
        if overlay.given >= 0:
            image = overlay.lowers
            overlay = attrs.evolve(
                overlay,
                lowers=(overlay.given, *image),
                given=-1,
                below=image[0] if len(image) == 1 else -1,
            )
        self._waiting.append(
            attrs.evolve(overlay, userxattr=not self._trusted, by_name=True)
        )

    @property
    def late(self) -> bool:
        """Some can only be made in the jail's own mount namespace."""
        return bool(self._waiting)

    def finish(self) -> None:
        """Add what had to wait until here."""
        if self.by_name:
            self._waiting = [Stage(), *self._waiting, Strike()]
        self._slots.add(*self._waiting)


def _inline(ops: tuple[Op, ...], slot: int) -> list[Op]:
    """
    Turn the operations of a shared tree into those of a tree of the jail's own.

    Before Linux 6.15 a tree that is mounted nowhere cannot be cloned, so there is
    nothing to share. Its owners are the jail's from the start.
    """
    found: list[Op] = []
    for op in ops:
        match op:
            case Fs():
                options = (*op.options, "uid=0", "gid=0")
                found.append(attrs.evolve(op, slot=slot, options=options))
            case Dir() | Link() | Node() | File():
                found.append(attrs.evolve(op, slot=slot))
    return found


def names_layer(
    slots: Slots, layer: int | None, etc: Etc, names: tuple[tuple[str, bytes], ...]
) -> int:
    """
    Make a layer with nothing but names.

    Args:
        slots: Where it is added.

        layer: The slot of what is written to: it is made beside that. With ``None`` it
            is a file system of its own, which can be given a name (`Stage`).

        etc: What ``/etc`` is to be like.

        names: The files in it.
    """
    slot = slots.new()
    place, top = (slot, "") if layer is None else (layer, "names/")
    if layer is None:
        slots.add(Fs(slot, "tmpfs", ("mode=0755", "uid=0", "gid=0"), 0))
    else:
        slots.add(Dir(layer, "names", exist_ok=True))
    slots.add(
        Dir(place, f"{top}etc", etc.mode, exist_ok=True),
        *(File(place, f"{top}etc/{name}", text, exist_ok=True) for name, text in names),
        Link(place, f"{top}etc/mtab", "/proc/mounts", exist_ok=True),
    )
    if layer is not None:
        slots.add(Open(slot, "names", layer))
    return slot
