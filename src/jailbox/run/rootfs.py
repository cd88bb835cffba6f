"""
What a root file system is put together from, as a value.

A root is an overlay: layers below, and above them whatever the jail writes. Some
directories of the host can be overlaid beside it, or shown read-only. Nothing is
mounted here and nothing is read.
"""

import attrs

from jailbox.linux.plan import Prepared
from jailbox.spec.image import ImageConfig

__all__ = ["Rootfs", "Shown"]


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

        prepared: A layer that the keeper builds once, below the others.

        overlays: Directories that can be written to in the jail alone.

        shown: Directories that cannot be written to.

        config: How the image wants to be run.

        passwd: Where users are looked up: the text of ``/etc/passwd``.

        group: The text of ``/etc/group``.
    """

    layers: tuple[str, ...] = ()
    prepared: Prepared | None = None
    overlays: tuple[Shown, ...] = ()
    shown: tuple[Shown, ...] = ()
    config: ImageConfig = ImageConfig()
    passwd: str = ""
    group: str = ""
