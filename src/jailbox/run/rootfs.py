"""
What a root file system is put together from, as a value.

A root is an overlay: layers below, and above them whatever the jail writes. Some
directories of the host can be overlaid beside it, or shown read-only. Nothing is
mounted here and nothing is read.
"""

import hashlib
from collections.abc import Iterable, Sequence

import attrs

from jailbox.linux.plan import (
    ATTR_NODEV,
    ATTR_NOSUID,
    Dir,
    Fs,
    Graft,
    Op,
    Prepared,
    Tree,
)
from jailbox.run.names import Etc
from jailbox.spec.image import ImageConfig
from jailbox.spec.mount import AnyMount, Cow

__all__ = ["Rootfs", "Shown", "stack_of", "with_copies"]

_STACK_FROM = 3
"""Layers from which on a stack is cheaper than each for itself."""


@attrs.frozen
class Shown:
    """A place of the host that is seen at *target*."""

    source: str
    target: str


@attrs.frozen(kw_only=True, cache_hash=True)
class Rootfs:
    """
    A root file system to be.

    Attributes:
        layers: Directories of the host, the uppermost first.

        stack: The layers as one tree that the keeper builds once; ``None`` to have
            them taken one by one. What is in it never changes.

        prepared: A layer that the keeper builds once, below the others.

        overlays: Directories that can be written to in the jail alone.

        shown: Directories that cannot be written to.

        settled: No layer ever changes, as those of a store never do, or there is none
            but the prepared one.

        config: How the image wants to be run.

        passwd: Where users are looked up: the text of ``/etc/passwd``.

        group: The text of ``/etc/group``.

        etc: What ``/etc`` is like, if names can be put there.

        hostname: A host name that the image knows already.

        resolver: The host's ``resolv.conf``, where that is to be the jail's too.
    """

    layers: tuple[str, ...] = ()
    stack: Prepared | None = None
    prepared: Prepared | None = None
    overlays: tuple[Shown, ...] = ()
    shown: tuple[Shown, ...] = ()
    settled: bool = False
    config: ImageConfig = ImageConfig()
    passwd: str = ""
    group: str = ""
    etc: Etc | None = None
    hostname: str | None = None
    resolver: str | None = None


def stack_of(layers: Sequence[str], identity: str) -> Prepared | None:
    """
    Plan a tree with *layers* at ``0``, ``1``, ...; ``None`` if it is not worth it.

    Args:
        layers: Directories of the host, the uppermost first.

        identity: What tells these directories from later ones of the same names.
    """
    if len(layers) < _STACK_FROM:
        return None
    ops: list[Op] = [Fs(0, "tmpfs", ("mode=0700",), attr=0)]
    for number, path in enumerate(layers):
        slot, name = number + 1, str(number)
        ops += [
            Dir(0, name, 0o700),
            Tree(slot, path, ATTR_NOSUID | ATTR_NODEV, recursive=False),
            Graft(0, name, slot),
        ]
    key = hashlib.sha256("\0".join((identity, *layers)).encode()).hexdigest()
    return Prepared(key=f"stack-{key}", ops=tuple(ops))


def with_copies(rootfs: Rootfs, mounts: Iterable[AnyMount]) -> Rootfs:
    """
    Overlay directories of the host that are wanted with changes of the jail's own.

    A root of its own is no other thing: what is changed in them is found in the same
    way, and kept with the same layer.
    """
    wanted = tuple(
        Shown(mount.source, mount.target) for mount in mounts if isinstance(mount, Cow)
    )
    if not wanted:
        return rootfs
    # One that stands in another comes after it.
    wanted = tuple(sorted(wanted, key=lambda shown: shown.target.count("/")))
    return attrs.evolve(rootfs, overlays=(*rootfs.overlays, *wanted))
