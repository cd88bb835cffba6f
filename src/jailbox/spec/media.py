"""
Media types: what the parts of an image are called, by OCI and by Docker.

Two families name the same things. Both are read; what jailbox makes itself is OCI's.
The first Docker manifests (schema 1) had no config and no layer sizes, and are refused.

Source: OCI image-spec, *media-types.md*; Distribution, *image/manifest-v2-2*.
"""

from typing import Literal, TypeAlias

from jailbox.errors import UnsupportedMediaType

__all__ = [
    "DOCKER_CONFIG",
    "DOCKER_FOREIGN_LAYER",
    "DOCKER_INDEX",
    "DOCKER_LAYER",
    "DOCKER_LAYER_GZIP",
    "DOCKER_LAYER_ZSTD",
    "DOCKER_MANIFEST",
    "DOCKER_SCHEMA_1",
    "INDEXES",
    "LAYERS",
    "MANIFESTS",
    "OCI_CONFIG",
    "OCI_EMPTY",
    "OCI_INDEX",
    "OCI_LAYER",
    "OCI_LAYER_GZIP",
    "OCI_LAYER_ZSTD",
    "OCI_MANIFEST",
    "Compression",
    "check_not_schema_1",
    "compression_of",
    "is_config",
    "is_index",
    "is_layer",
    "is_manifest",
]

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = f"{OCI_LAYER}+gzip"
OCI_LAYER_ZSTD = f"{OCI_LAYER}+zstd"
_OCI_FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar"

DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = f"{DOCKER_LAYER}.gzip"
DOCKER_LAYER_ZSTD = f"{DOCKER_LAYER}.zstd"
DOCKER_FOREIGN_LAYER = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
DOCKER_SCHEMA_1 = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)

MANIFESTS = (OCI_MANIFEST, DOCKER_MANIFEST)
INDEXES = (OCI_INDEX, DOCKER_INDEX)

Compression: TypeAlias = Literal["none", "gzip", "zstd"]

LAYERS: dict[str, Compression] = {
    OCI_LAYER: "none",
    OCI_LAYER_GZIP: "gzip",
    OCI_LAYER_ZSTD: "zstd",
    _OCI_FOREIGN: "none",
    f"{_OCI_FOREIGN}+gzip": "gzip",
    f"{_OCI_FOREIGN}+zstd": "zstd",
    DOCKER_LAYER: "none",
    DOCKER_LAYER_GZIP: "gzip",
    DOCKER_LAYER_ZSTD: "zstd",
    DOCKER_FOREIGN_LAYER: "gzip",
}
"""Every kind of layer that can be unpacked, and how it is said to be compressed."""

# The first images of schema 2 did not name their config's type.
_CONFIGS = (OCI_CONFIG, DOCKER_CONFIG, "application/octet-stream")


def is_manifest(media_type: str) -> bool:
    """Say whether this is the manifest of one image."""
    return media_type in MANIFESTS


def is_index(media_type: str) -> bool:
    """Say whether this is a list of manifests."""
    return media_type in INDEXES


def is_config(media_type: str) -> bool:
    """Say whether this is the config of an image, not of another artifact."""
    return media_type in _CONFIGS


def is_layer(media_type: str) -> bool:
    """Say whether this is a layer that can be unpacked."""
    return media_type in LAYERS


def compression_of(media_type: str) -> Compression:
    """
    Say how a layer is compressed, by its media type.

    The type is what a stranger wrote; whoever reads the bytes looks at them.

    Raises:
        UnsupportedMediaType: If it is no layer that can be unpacked: a file system
            image, encrypted, or anything but a tar archive.
    """
    try:
        return LAYERS[media_type]
    except KeyError:
        hint = None
        if media_type.endswith("+encrypted"):
            hint = "Layers that are encrypted have to be decrypted by another tool."
        raise UnsupportedMediaType(media_type, "layer", hint=hint) from None


def check_not_schema_1(media_type: str) -> None:
    """
    Refuse the first kind of Docker manifest, with a sentence.

    Raises:
        UnsupportedMediaType: If it is one.
    """
    if media_type in DOCKER_SCHEMA_1:
        raise UnsupportedMediaType(
            media_type,
            "image manifest",
            "is of Docker's schema 1, which was withdrawn in 2019",
            hint="Push the image again with a current tool: that makes schema 2.",
        )
