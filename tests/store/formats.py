"""
Images made by hand, as the files of layouts and archives.
"""

import gzip
import json
import os
from pathlib import Path

import zstandard

from jailbox.spec.descriptor import Descriptor
from jailbox.spec.digest import Digest
from jailbox.spec.document import ImageDocument, Index, Manifest
from jailbox.spec.image import ImageConfig
from jailbox.spec.media import (
    DOCKER_CONFIG,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
)
from jailbox.spec.platform import Platform
from jailbox.store.layout import REF_NAME
from jailbox.store.records import ImageRecord
from jailbox.store.store import Store
from tests.store.workshops import Layout, tar_of

__all__ = [
    "Files",
    "Made",
    "content",
    "layout_of",
    "packed",
    "spread",
    "tarred",
    "tree",
]

Files = dict[str, bytes]


def packed(data: bytes, media_type: str) -> bytes:
    """Pack a layer as its type says."""
    if media_type.endswith("gzip"):
        return gzip.compress(data, mtime=0)
    if media_type.endswith("zstd"):
        return zstandard.compress(data)
    return data


class Made:
    """An image made by hand, as files of an OCI layout."""

    def __init__(
        self,
        *layouts: Layout,
        layer_type: str = OCI_LAYER_GZIP,
        docker: bool = False,
        platform: str = "linux/amd64",
        name: str | None = None,
    ) -> None:
        plain = [tar_of(layout) for layout in layouts]
        self.layers = [packed(data, layer_type) for data in plain]
        self.document = ImageDocument(
            platform=Platform.parse(platform),
            config=ImageConfig(env={"A": "1"}),
            diff_ids=tuple(map(Digest.of, plain)),
        )
        self.config = self.document.to_bytes()
        self.manifest = Manifest(
            media_type=DOCKER_MANIFEST if docker else OCI_MANIFEST,
            config=Descriptor.of(self.config, DOCKER_CONFIG if docker else OCI_CONFIG),
            layers=tuple(Descriptor.of(data, layer_type) for data in self.layers),
        )
        # As somebody else would write it.
        self.data = json.dumps(json.loads(self.manifest.to_bytes()), indent=3).encode()
        self.place = Descriptor.of(
            self.data,
            self.manifest.media_type,
            platform=Platform.parse(platform),
            annotations={} if name is None else {REF_NAME: name},
        )

    def files(self) -> Files:
        """Return its blobs, by their names in a layout."""
        return {
            f"blobs/sha256/{Digest.of(data).hex}": data
            for data in (self.data, self.config, *self.layers)
        }


def layout_of(*images: Made, index: Index | None = None) -> Files:
    """Make the files of a layout."""
    index = index or Index(manifests=tuple(image.place for image in images))
    files: Files = {
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        "index.json": index.to_bytes(),
    }
    for image in images:
        files |= image.files()
    return files


def tarred(files: dict[str, bytes]) -> bytes:
    """Make an archive."""
    return tar_of(dict(files))


def spread(files: dict[str, bytes], path: Path) -> Path:
    """Make a directory."""
    for name, data in files.items():
        place = path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return path


def tree(store: Store, record: ImageRecord) -> dict[str, str]:
    """Read the files of an image: later layers over earlier ones."""
    found = {}
    for layer in record.layers:
        top = Path(store.layers.path(layer.tree))
        for path in sorted(top.rglob("*")):
            name = str(path.relative_to(top))
            if path.is_file():
                found[name] = path.read_text()
            elif path.is_char_device():
                found.pop(name, None)
    return found


def content(store: Store) -> dict[str, list[str]]:
    """Return what is in a store, and on its way."""
    top = Path(store.path)
    found = {
        "blobs": sorted(str(digest) for digest in store.blobs.list()),
        "images": sorted(str(record.digest) for record in store.images.list()),
        "tags": sorted(str(name) for name in store.tags.list()),
    }
    for directory in ("trees", "tmp", "trash", "leases"):
        found[directory] = sorted(os.listdir(top / directory))
    return found
