"""
Root file systems that become images: a tar archive, with a config of our own.

What ``docker import`` does. The archive is kept as the bytes that came and is the
image's only layer; what is in it is unpacked as any other layer is.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator

from jailbox.spec.descriptor import Descriptor
from jailbox.spec.document import History, ImageDocument, Manifest
from jailbox.spec.image import ImageConfig
from jailbox.spec.media import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST
from jailbox.spec.platform import Platform
from jailbox.spec.reference import Reference
from jailbox.store.decompress import Begun, open_archive
from jailbox.store.errors import storing
from jailbox.store.feeding import Source
from jailbox.store.incoming import (
    AnySource,
    Loaded,
    Ready,
    copy_blob,
    layer_type,
    publish,
    receiving,
)
from jailbox.store.store import Store

__all__ = ["import_rootfs"]

_CHUNK = 1 << 20
_HEAD = 6


def import_rootfs(
    store: Store,
    source: AnySource | Source,
    *,
    platform: Platform,
    config: ImageConfig | None = None,
    names: Iterable[Reference] = (),
    created: str | None = None,
    comment: str | None = None,
    move: bool = False,
) -> Loaded:
    """
    Make an image of a root file system in a tar archive, plain or packed.

    Packed by gzip or zstd it stays as it is; by xz or bzip2 it is kept plain.

    The same archive and config make the same image.

    Args:
        store: Where to.

        source: A path, or a file that is read from where it stands to its end.

        platform: What machine it is for.

        config: How it wants to be run.

        names: What to call it.

        created: When it was made, as of RFC 3339; ``None`` to say nothing.

        comment: What to say of it in its history.

        move: Whether a name that means another image here gets the new one.

    Raises:
        ContentError: If it is no tar, or holds what cannot be unpacked.

        StoreError: If it cannot be read, or stored.
    """
    with _reading(source) as file, receiving(store):
        layer = _stored(store, file)
        record = store.layers.add(layer.digest, media_type=layer.media_type)
        document = ImageDocument(
            platform=platform,
            created=created,
            config=config or ImageConfig(),
            diff_ids=(record.diff_id,),
            history=(History(created=created, comment=comment or "imported"),),
        ).to_bytes()
        store.blobs.put(document)
        manifest = Manifest(
            config=Descriptor.of(document, OCI_CONFIG), layers=(layer,)
        ).to_bytes()
        ready = Ready(manifest, OCI_MANIFEST, tuple(names))
        return publish(store, (ready,), move=move)[0]


@contextlib.contextmanager
def _reading(source: AnySource | Source) -> Iterator[Source]:
    if not isinstance(source, str | os.PathLike):
        yield source
        return
    path = os.fspath(source)
    with contextlib.ExitStack() as stack:
        with storing("read a root file system", path):
            file = stack.enter_context(open(path, "rb"))
        yield file


def _stored(store: Store, file: Source) -> Descriptor:
    """Keep the bytes as they came, and say what they are."""
    head = b""
    while len(head) < _HEAD and (chunk := file.read(_CHUNK)):
        head += chunk
    media_type = layer_type(head)
    source: Source = Begun(file, head)
    if media_type is None:
        # No layer may be packed by xz or bzip2.
        media_type, source = OCI_LAYER, open_archive(source)
    digest, size = copy_blob(store, source, origin="root file system")
    return Descriptor(media_type=media_type, digest=digest, size=size)
