"""
Images made from nothing, for tests of the store.
"""

import functools
import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jailbox.spec.digest import Digest
from jailbox.spec.reference import Reference
from jailbox.store.records import ImageRecord, LayerRecord
from jailbox.store.store import Store
from tests.store.workshops import Layout, PlainWorkshop, plain, tar_of

__all__ = ["LAYER", "add_image", "add_layers", "manifest_of", "named", "open_store"]

LAYER = "application/vnd.oci.image.layer.v1.tar"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"


def open_store(
    path: Path | str,
    workshop: PlainWorkshop | None = None,
    *,
    read_only: bool = False,
    timeout: float = 10,
) -> Store:
    """Open a store whose workshop is of Python."""
    work = workshop or PlainWorkshop()
    return Store(
        path,
        workshop=lambda: work,
        opener=plain,
        read_only=read_only,
        timeout=timeout,
    )


@functools.cache
def named(text: str) -> Reference:
    """Read a name."""
    return Reference.parse(text)


def manifest_of(config: bytes, layers: Sequence[bytes]) -> bytes:
    """Make a manifest of plain layers."""

    def pointing(kind: str, data: bytes) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        return {"mediaType": kind, "digest": digest, "size": len(data)}

    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": pointing(CONFIG, config),
            "layers": [pointing(LAYER, layer) for layer in layers],
        },
        indent=3,
    ).encode()


def config_of(layers: Sequence[bytes], **more: object) -> bytes:
    """Make a config of plain layers."""
    return json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {
                "type": "layers",
                "diff_ids": [str(Digest.of(layer)) for layer in layers],
            },
            **more,
        }
    ).encode()


def add_layers(store: Store, layers: Sequence[bytes]) -> list[LayerRecord]:
    """Store and unpack plain layers, each on top of those before."""
    below: list[LayerRecord] = []
    for layer in layers:
        digest = store.blobs.put(layer)
        below.append(
            store.layers.add(digest, media_type=LAYER, diff_id=digest, parents=below)
        )
    return below


def add_image(
    store: Store, *layouts: Layout, name: str | None = None, **more: object
) -> ImageRecord:
    """
    Make an image of layers, as a pull does: blobs, layers, config, manifest, name.

    Args:
        store: Where to.

        layouts: Its layers, the lowest first.

        name: Its name, or ``None``.

        more: For its config.
    """
    layers = [tar_of(layout) for layout in layouts]
    config = config_of(layers, **more)
    with store.adding():
        add_layers(store, layers)
        store.blobs.put(config)
        record = store.images.add(manifest_of(config, layers))
        if name is not None:
            store.tags.set(named(name), record.digest)
    return record


def stream(layout: Layout) -> io.BytesIO:
    """Make a plain layer that can be read once."""
    return io.BytesIO(tar_of(layout))
