"""Images of a few bytes, and who keeps them, for tests of registries."""

import contextlib
import gzip
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from typing import Any

import attrs

from jailbox.errors import DigestMismatch, NotFound
from jailbox.registry.http import Bounds
from jailbox.registry.retry import Policy
from jailbox.registry.settings import Settings
from jailbox.registry.transfer import Layer
from jailbox.spec import media
from jailbox.spec.descriptor import Descriptor
from jailbox.spec.digest import Digest
from jailbox.testing import Registry

# Tests do not wait for what they provoke.
HASTY = Settings(
    bounds=Bounds(connect=2, stall=2, answer=2),
    retries=Policy(attempts=4, backoff=0.01, backoff_max=0.02, retry_after_max=1),
)

__all__ = ["HASTY", "Made", "Shelf", "config_of", "index_of", "layer_of", "make", "put"]


def layer_of(name: str, content: bytes = b"hi\n") -> tuple[bytes, str]:
    """Make a layer with one file: compressed bytes, and digest of the plain ones."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    plain = file.getvalue()
    return gzip.compress(plain, 1, mtime=0), str(Digest.of(plain))


def config_of(diff_ids: list[str], platform: str = "linux/amd64") -> bytes:
    """Make the config of an image."""
    system, architecture, *variant = platform.split("/")
    document: dict[str, Any] = {
        "architecture": architecture,
        "os": system,
        "config": {"Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    if variant:
        document["variant"] = variant[0]
    return json.dumps(document).encode()


@attrs.frozen
class Made:
    """
    An image, or an index, in bytes.

    Attributes:
        top: What its name stands for.

        documents: Manifests and indexes, by digest.

        blobs: Configs and layers, by digest.
    """

    top: Descriptor
    documents: dict[Digest, tuple[str, bytes]]
    blobs: dict[Digest, bytes]

    # As `jailbox.registry.transfer.Source` wants it.

    def document(self, descriptor: Descriptor, /) -> bytes:
        """Return a manifest or an index."""
        try:
            return self.documents[descriptor.digest][1]
        except KeyError:
            raise NotFound("manifest", str(descriptor.digest)) from None

    def has_blob(self, blob: Descriptor, /) -> bool:
        """Return whether a blob is there."""
        return blob.digest in self.blobs

    def pieces(self, blob: Descriptor, /) -> Iterator[bytes]:
        """Return a blob in pieces."""
        if blob.digest not in self.blobs:
            raise NotFound("blob", str(blob.digest))
        data = self.blobs[blob.digest]
        for start in range(0, len(data), 50_000):
            yield data[start : start + 50_000]


def make(
    layers: int = 2,
    *,
    docker: bool = False,
    platform: str = "linux/amd64",
    big: int = 0,
    twice: bool = False,
    config: bytes | None = None,
    extra: dict[str, Any] | None = None,
) -> Made:
    """
    Make an image.

    Args:
        layers: How many layers it has.

        docker: Name its parts as Docker does.

        platform: For which machine.

        big: Bytes of noise in the last layer.

        twice: The first layer comes again at the end.

        config: Another config than the usual one: that of an artifact.

        extra: More fields of the manifest.
    """
    made = [layer_of(f"file-{n}", f"{platform} {n}\n".encode()) for n in range(layers)]
    if big:
        noise = bytes((n * n >> 7) & 0xFF for n in range(big // 10 + 1)) * 10
        data, diff_id = layer_of("big", noise[:big])
        # Stored rather than packed, so that the layer is as large as it says.
        plain = gzip.decompress(data)
        made[-1:] = [(gzip.compress(plain, 0, mtime=0), diff_id)]
    if twice:
        made.append(made[0])
    if config is None:
        config = config_of([diff_id for _, diff_id in made], platform)
        config_type = media.DOCKER_CONFIG if docker else media.OCI_CONFIG
    else:
        config_type = media.OCI_EMPTY
    layer_type = media.DOCKER_LAYER_GZIP if docker else media.OCI_LAYER_GZIP
    kind = media.DOCKER_MANIFEST if docker else media.OCI_MANIFEST
    document = {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": Descriptor.of(config, config_type).to_document(),
        "layers": [Descriptor.of(data, layer_type).to_document() for data, _ in made],
        **(extra or {}),
    }
    data = json.dumps(document).encode()
    top = Descriptor.of(data, kind)
    blobs = {Digest.of(each): each for each in (config, *(data for data, _ in made))}
    return Made(top, {top.digest: (kind, data)}, blobs)


def index_of(images: dict[str, Made], *, docker: bool = False) -> Made:
    """Make an index of images by platform; ``""`` is none, for an inner index."""
    kind = media.DOCKER_INDEX if docker else media.OCI_INDEX
    listed = []
    for platform, made in images.items():
        entry = made.top.to_document()
        if platform:
            system, architecture, *variant = platform.split("/")
            entry["platform"] = {"os": system, "architecture": architecture}
            if variant:
                entry["platform"]["variant"] = variant[0]
        listed.append(entry)
    document = {"schemaVersion": 2, "mediaType": kind, "manifests": listed}
    data = json.dumps(document).encode()
    top = Descriptor.of(data, kind)
    documents = {top.digest: (kind, data)}
    blobs: dict[Digest, bytes] = {}
    for made in images.values():
        documents |= made.documents
        blobs |= made.blobs
    return Made(top, documents, blobs)


def put(registry: Registry, name: str, made: Made, tag: str | None = "1") -> None:
    """Put an image into a registry, past its web server."""
    for data in made.blobs.values():
        registry.content.add_blob(name, data)
    for digest, (kind, data) in made.documents.items():
        own = tag if digest == made.top.digest else None
        registry.content.add_manifest(name, data, kind, own)


class Shelf:
    """Keeps what is pulled in memory, and checks it as a store must."""

    def __init__(self) -> None:
        self.blobs: dict[Digest, bytes] = {}
        self.layers: list[Layer] = []
        self.documents: dict[Digest, bytes] = {}
        self.begun = 0
        self.lock = threading.Lock()

    def has_blob(self, blob: Descriptor, /) -> bool:
        """Return whether a blob is there."""
        return blob.digest in self.blobs

    def has_layer(self, layer: Layer, /) -> bool:
        """Return whether a layer is there."""
        with self.lock:
            if any(each.diff_ids == layer.diff_ids for each in self.layers):
                return True
            if layer.blob.digest in self.blobs:
                self.layers.append(layer)
                return True
        return False

    def read(self, blob: Descriptor, /) -> bytes:
        """Return a blob."""
        return self.blobs[blob.digest]

    def document(self, descriptor: Descriptor, data: bytes, /) -> None:
        """Keep a manifest."""
        self.documents[descriptor.digest] = data

    @contextlib.contextmanager
    def blob(self, blob: Descriptor, /) -> Iterator["_Sink"]:
        """Take a blob."""
        with self.lock:
            self.begun += 1
        yield _Sink(self, blob, None)

    @contextlib.contextmanager
    def layer(self, layer: Layer, /) -> Iterator["_Sink"]:
        """Take a layer."""
        with self.lock:
            self.begun += 1
        yield _Sink(self, layer.blob, layer)


class _Sink:
    def __init__(self, shelf: Shelf, blob: Descriptor, layer: Layer | None) -> None:
        self._shelf = shelf
        self._blob = blob
        self._layer = layer
        self._data = bytearray()

    def write(self, data: bytes, /) -> None:
        """Take the next bytes."""
        self._data += data

    def commit(self) -> None:
        """Check and keep them."""
        data = bytes(self._data)
        if Digest.of(data) != self._blob.digest:
            raise DigestMismatch(str(self._blob.digest), str(Digest.of(data)), "sink")
        with self._shelf.lock:
            self._shelf.blobs[self._blob.digest] = data
            if self._layer is not None:
                self._shelf.layers.append(self._layer)
