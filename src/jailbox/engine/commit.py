"""
Images made of containers: what was written becomes layers on those of the image.

Nothing of the image below is read: its layers are named again. What the container
wrote is read once, by a worker that sees nothing else, and packed while it is read.
"""

import contextlib
import os
from collections.abc import Sequence
from datetime import UTC, datetime

import attrs

from jailbox.engine.images import LocalImages
from jailbox.errors import SpecError
from jailbox.run.overlays import UPPER
from jailbox.spec.commit import CommitSpec
from jailbox.spec.container import ContainerSpec
from jailbox.spec.descriptor import Descriptor
from jailbox.spec.document import History, ImageDocument, Manifest
from jailbox.spec.image import Directory, Stored
from jailbox.spec.media import (
    OCI_CONFIG,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    OCI_MANIFEST,
    compression_of,
)
from jailbox.store.incoming import Ready, publish, receiving
from jailbox.store.records import LayerRecord
from jailbox.store.store import Store
from jailbox.store.written import store_layer

__all__ = ["base_of", "commit_layers"]

_OCI_TYPES = {"none": OCI_LAYER, "gzip": OCI_LAYER_GZIP, "zstd": OCI_LAYER_ZSTD}


def base_of(spec: ContainerSpec) -> Stored:
    """
    Return the image that a container's files lie on.

    Raises:
        SpecError: If it is in no store: there are no layers to build on.
    """
    if isinstance(spec.image, Stored):
        return spec.image
    if isinstance(spec.image, Directory):
        hint = (
            "Make an image of the directory first, with Image.from_tar() of a tar of"
            " it, and a container of that."
        )
    else:
        hint = (
            "Image.host() is this machine as it is now, which no other has: use"
            " changes().apply() for the files, or an image of a store."
        )
    raise SpecError(
        "image",
        "is in no store, so that nothing can be committed on top of it",
        value=spec.image,
        accepted="an image that was loaded, pulled or built",
        hint=hint,
    )


def commit_layers(
    images: LocalImages, base: Stored, layers: Sequence[int], wish: CommitSpec
) -> Stored:
    """
    Make an image of layers that a container wrote.

    Args:
        images: Whose stores they are.

        base: What they lie on; it is leased.

        layers: Descriptors of writable layers, the lowest first, owned as in images.
            Nobody writes to them meanwhile.

        wish: What is wanted.
    """
    store = images.store(base.store)
    below = store.get(base.digest)
    document = store.images.document(below)
    manifest = Manifest.from_bytes(store.images.manifest(below))
    records = list(store.images.layers(below))
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    said = History(
        created=now, author=wish.author, created_by="jailbox commit",
        comment=wish.message,
    )  # fmt: skip
    with receiving(store):
        added: list[Descriptor] = []
        for layer in layers:
            found = _add(images, store, layer, records)
            if found is not None:
                record, descriptor = found
                records.append(record)
                added.append(descriptor)
        history = [said] * len(added) or [attrs.evolve(said, empty_layer=True)]
        config = ImageDocument(
            platform=document.platform,
            created=now,
            author=wish.author or document.author,
            config=wish.config(document.config),
            diff_ids=tuple(record.diff_id for record in records),
            history=(*document.history, *history),
        ).to_bytes()
        store.blobs.put(config)
        kept = [
            attrs.evolve(one, media_type=_OCI_TYPES[compression_of(one.media_type)])
            for one in manifest.layers
        ]
        made = Manifest(
            config=Descriptor.of(config, OCI_CONFIG), layers=(*kept, *added)
        ).to_bytes()
        names = () if wish.reference is None else (wish.reference,)
        loaded = publish(store, (Ready(made, OCI_MANIFEST, names),), move=True)
    return Stored(loaded[0].record.digest, base.store)


def _add(
    images: LocalImages, store: Store, layer: int, below: Sequence[LayerRecord]
) -> tuple[LayerRecord, Descriptor] | None:
    """Make a layer of what was written; ``None`` if that is nothing."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    with contextlib.ExitStack() as stack:
        upper = os.open(UPPER, flags, dir_fd=layer)
        stack.callback(os.close, upper)
        if not os.listdir(upper):
            return None
        _, packed = store_layer(store, images.workshop, upper)
    record = store.layers.add(
        packed.digest,
        media_type=packed.media_type,
        diff_id=packed.diff_id,
        parents=below,
    )
    return record, Descriptor(
        media_type=packed.media_type, digest=packed.digest, size=packed.size
    )
