"""
What is known of a stored image without looking into its files.
"""

import attrs

from jailbox.spec.digest import Digest
from jailbox.spec.document import History
from jailbox.spec.image import ImageConfig
from jailbox.spec.mapping import FrozenMap
from jailbox.spec.platform import Platform

__all__ = ["ImageInfo", "LayerInfo"]


@attrs.frozen(kw_only=True)
class LayerInfo:
    """
    A layer of an image.

    Attributes:
        digest: Of its bytes as they are sent; ``None`` if they are not kept, and made
            when they are needed.

        diff_id: Of its plain tar.

        size: Length of its plain tar, in bytes.
    """

    digest: Digest | None
    diff_id: Digest
    size: int


@attrs.frozen(kw_only=True)
class ImageInfo:
    """
    An image, described.

    Attributes:
        digest: Of its manifest.

        id: Digest of its config: what Docker calls its id.

        platform: What machine it is for.

        created: When it was made, as of RFC 3339, or ``None``.

        author: Who made it, or ``None``.

        config: How it wants to be run.

        history: How its layers came to be, the lowest first.

        layers: Its layers, the lowest first.

        annotations: What its makers wrote on its manifest.
    """

    digest: Digest
    id: Digest
    platform: Platform
    created: str | None
    author: str | None
    config: ImageConfig
    history: tuple[History, ...]
    layers: tuple[LayerInfo, ...]
    annotations: FrozenMap[str, str] = attrs.field(factory=FrozenMap)

    @property
    def size(self) -> int:
        """Bytes of all layers together, unpacked and not shared."""
        return sum(layer.size for layer in self.layers)
