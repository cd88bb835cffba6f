"""
The documents of an image: descriptor, manifest, index, config.

A digest is over bytes. So a manifest that was received is stored and forwarded as the
bytes that arrived, and the values here are views of them; `to_bytes` is for what
jailbox makes itself. What a value does not know it keeps in ``extra`` and writes back,
so that changing one field of a foreign config loses nothing.

Source: OCI image-spec v1.1, *descriptor.md*, *manifest.md*, *image-index.md*,
*config.md*, *image-layout.md*; Distribution, *manifest-v2-2* for Docker's.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

import attrs

from jailbox.errors import Malformed, UnsupportedMediaType
from jailbox.spec.descriptor import (
    PLATFORM_KEYS,
    Descriptor,
    media_type_of,
    platform_document,
    platform_of,
)
from jailbox.spec.digest import Digest
from jailbox.spec.image import ImageConfig
from jailbox.spec.mapping import FrozenMap
from jailbox.spec.media import (
    OCI_INDEX,
    OCI_MANIFEST,
    check_not_schema_1,
    compression_of,
    is_config,
    is_index,
    is_manifest,
)
from jailbox.spec.platform import Platform
from jailbox.spec.strict import (
    DOCUMENT_MAX,
    Node,
    dump_json,
    frozen_extra,
    frozen_texts,
    joined,
    load_json,
    text_or_none,
)

__all__ = [
    "DOCUMENT_MAX",
    "LAYERS_MAX",
    "LAYOUT_VERSION",
    "MANIFESTS_MAX",
    "Descriptor",
    "History",
    "ImageDocument",
    "Index",
    "Manifest",
    "chain_ids",
    "layout_version",
    "load_json",
    "read_manifest",
]

LAYERS_MAX = 500
"""How many layers an image may have: what the kernel stacks (``OVL_MAX_STACK``)."""

MANIFESTS_MAX = 1000
"""How many manifests an index may list."""

LAYOUT_VERSION = "1.0.0"

_MEDIA_TYPE = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s\x00-\x1f\x7f]+")
_TIME = re.compile(
    r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?"
    r"([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
)

# What a web server says when it does not know.
_UNSAID = {"", "application/json", "application/octet-stream"}


def _time(node: Node | None) -> str | None:
    if node is not None and not _TIME.fullmatch(node.text()):
        raise node.refusal("is no time as of RFC 3339")
    return None if node is None else node.text()


# --- manifest and index ---------------------------------------------------------

_MANIFEST = (
    *("schemaVersion", "mediaType", "artifactType", "config", "layers"),
    *("subject", "annotations"),
)
_INDEX = (
    *("schemaVersion", "mediaType", "artifactType", "manifests"),
    *("subject", "annotations"),
)
_MANIFEST_KIND, _INDEX_KIND = "image manifest", "image index"


@attrs.frozen(kw_only=True)
class Manifest:
    """
    What one image, or another artifact, is made of.

    Attributes:
        media_type: Of OCI or of Docker.

        config: Points to its config.

        layers: Point to its layers, the lowest first.

        annotations: What its makers wrote on it.

        subject: What it says something about, if it does: signatures, ...

        artifact_type: What it is, if it is no image.

        extra: What this version does not know.

    Source: OCI image-spec v1.1, *manifest.md*.
    """

    media_type: str = OCI_MANIFEST
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: FrozenMap[str, str] = attrs.field(
        factory=FrozenMap, converter=frozen_texts
    )
    subject: Descriptor | None = None
    artifact_type: str | None = None
    extra: FrozenMap[str, Any] = attrs.field(
        factory=FrozenMap, converter=frozen_extra, repr=False
    )

    @classmethod
    def from_bytes(cls, data: bytes, media_type: str | None = None) -> Self:
        """
        Read a manifest.

        Args:
            data: Its bytes.

            media_type: What it is called by whoever points to it, or ``None``.

        Raises:
            Malformed: If it breaks the schema, has more than `LAYERS_MAX` layers or
                none, is called something else, or could also be read as an index.

            UnsupportedMediaType: If it is no manifest that is known here.
        """
        node = _node(data, _MANIFEST_KIND, media_type, _MANIFEST)
        said = _type_of(node, media_type, OCI_MANIFEST, is_manifest)
        if node.get("manifests") is not None:
            raise node.refusal("has manifests too, as an index")
        layers = node.need("layers").list(LAYERS_MAX)
        if not layers:
            raise node.refusal("has no layers")
        annotations, subject = node.get("annotations"), node.get("subject")
        return cls(
            media_type=said,
            config=Descriptor.from_node(node.need("config")),
            layers=tuple(Descriptor.from_node(layer) for layer in layers),
            annotations=annotations.text_map() if annotations else {},
            subject=Descriptor.from_node(subject) if subject else None,
            artifact_type=media_type_of(node.get("artifactType")),
            extra=node.rest(_MANIFEST),
        )

    def to_bytes(self) -> bytes:
        """Write it. The same manifest gives the same bytes, and so the same digest."""
        return dump_json(
            joined(
                {
                    "schemaVersion": 2,
                    "mediaType": self.media_type,
                    "artifactType": self.artifact_type,
                    "config": self.config.to_document(),
                    "layers": [layer.to_document() for layer in self.layers],
                    "subject": self.subject and self.subject.to_document(),
                    "annotations": dict(self.annotations) or None,
                },
                self.extra,
            )
        )

    def check_image(self) -> None:
        """
        Refuse what cannot be run: an artifact that is no image, layers that are no tar.

        Raises:
            UnsupportedMediaType: Naming the part.
        """
        if not is_config(self.config.media_type):
            raise UnsupportedMediaType(
                self.artifact_type or self.config.media_type,
                "manifest",
                "is of no image but of another artifact",
            )
        for layer in self.layers:
            compression_of(layer.media_type)


@attrs.frozen(kw_only=True)
class Index:
    """
    Several images under one name, one for each kind of machine.

    Attributes:
        media_type: Of OCI or of Docker.

        manifests: Point to the images, or to further indexes.

        annotations: What its makers wrote on it.

        subject: What it says something about, if it does.

        artifact_type: What it is, if it is no image.

        extra: What this version does not know.

    Source: OCI image-spec v1.1, *image-index.md*.
    """

    media_type: str = OCI_INDEX
    manifests: tuple[Descriptor, ...]
    annotations: FrozenMap[str, str] = attrs.field(
        factory=FrozenMap, converter=frozen_texts
    )
    subject: Descriptor | None = None
    artifact_type: str | None = None
    extra: FrozenMap[str, Any] = attrs.field(
        factory=FrozenMap, converter=frozen_extra, repr=False
    )

    @classmethod
    def from_bytes(cls, data: bytes, media_type: str | None = None) -> Self:
        """
        Read an index.

        Args:
            data: Its bytes.

            media_type: What it is called by whoever points to it, or ``None``.

        Raises:
            Malformed: If it breaks the schema, lists more than `MANIFESTS_MAX`, is
                called something else, or could also be read as a manifest.

            UnsupportedMediaType: If it is no index that is known here.
        """
        node = _node(data, _INDEX_KIND, media_type, _INDEX)
        said = _type_of(node, media_type, OCI_INDEX, is_index)
        for key in ("layers", "config"):
            if node.get(key) is not None:
                raise node.refusal(f"has {key} too, as a manifest")
        annotations, subject = node.get("annotations"), node.get("subject")
        return cls(
            media_type=said,
            manifests=tuple(
                Descriptor.from_node(item)
                for item in node.need("manifests").list(MANIFESTS_MAX)
            ),
            annotations=annotations.text_map() if annotations else {},
            subject=Descriptor.from_node(subject) if subject else None,
            artifact_type=media_type_of(node.get("artifactType")),
            extra=node.rest(_INDEX),
        )

    def to_bytes(self) -> bytes:
        """Write it. The same index gives the same bytes, and so the same digest."""
        return dump_json(
            joined(
                {
                    "schemaVersion": 2,
                    "mediaType": self.media_type,
                    "artifactType": self.artifact_type,
                    "manifests": [each.to_document() for each in self.manifests],
                    "subject": self.subject and self.subject.to_document(),
                    "annotations": dict(self.annotations) or None,
                },
                self.extra,
            )
        )

    def platforms(self) -> tuple[Platform, ...]:
        """Say for which machines there is an image."""
        found = (each.platform for each in self.manifests)
        return tuple(dict.fromkeys(p.normalized() for p in found if p is not None))


def _plain_type(media_type: str | None) -> str | None:
    """Take a Content-Type without its parameters; ``None`` if it says nothing."""
    plain = (media_type or "").partition(";")[0].strip().lower()
    return None if plain in _UNSAID else plain


def _node(data: bytes, kind: str, media_type: str | None, known: Iterable[str]) -> Node:
    """Read bytes as an object of schema version 2."""
    check_not_schema_1(_plain_type(media_type) or "")
    node = Node(kind, "", load_json(data, kind))
    _check_version(node)
    node.no_lookalikes({*known, "layers", "config", "manifests"})
    return node


def _check_version(node: Node) -> None:
    version = node.need("schemaVersion")
    if version.whole() == 1:
        check_not_schema_1("application/vnd.docker.distribution.manifest.v1+json")
    version.whole(2, 2)


def _type_of(
    node: Node,
    media_type: str | None,
    usual: str,
    known: Callable[[str], bool],
) -> str:
    """
    Say what a document is: what it says itself, and what it is called must agree.

    A document whose kind depends on who looks is two documents with one digest.
    """
    inside, outside = media_type_of(node.get("mediaType")), _plain_type(media_type)
    if inside is not None and outside is not None and inside != outside:
        raise node.refusal(f"calls itself {inside}, and is called {outside}")
    said = inside or outside or usual
    if not known(said):
        raise UnsupportedMediaType(said, node.kind)
    return said


def read_manifest(data: bytes, media_type: str | None = None) -> Manifest | Index:
    """
    Read what a name or a digest leads to: a manifest, or an index of several.

    Args:
        data: The bytes, already checked by whoever received them.

        media_type: The Content-Type, or the type in the descriptor that led here;
            ``None`` if it is not known.

    Raises:
        Malformed: If it breaks a schema, or can be read as both.

        UnsupportedMediaType: If it is neither, or a manifest of schema 1.
    """
    node = _node(data, "image manifest", media_type, {*_MANIFEST, *_INDEX})
    said = _plain_type(media_type) or media_type_of(node.get("mediaType"))
    if said is None:
        # OCI does not demand that documents say what they are.
        said = OCI_INDEX if node.get("manifests") is not None else OCI_MANIFEST
    if is_index(said):
        return Index.from_bytes(data, said)
    return Manifest.from_bytes(data, said)


# --- config -------------------------------------------------------------------

_HISTORY = ("created", "created_by", "author", "comment", "empty_layer")
_CONFIG = (
    *("created", "author", "config", "rootfs", "history"),
    *PLATFORM_KEYS,
)
_CONFIG_KIND = "image config"


@attrs.frozen(kw_only=True)
class History:
    """
    How one layer came to be, as its maker tells it.

    Attributes:
        created: When, as of RFC 3339.

        created_by: By which command.

        author: By whom.

        comment: Why.

        empty_layer: Whether it changed no file, so that no layer belongs to it.

        extra: What this version does not know.
    """

    created: str | None = None
    created_by: str | None = None
    author: str | None = None
    comment: str | None = None
    empty_layer: bool = False
    extra: FrozenMap[str, Any] = attrs.field(
        factory=FrozenMap, converter=frozen_extra, repr=False
    )

    @classmethod
    def from_node(cls, node: Node) -> Self:
        """Read it out of a config."""
        empty = node.get("empty_layer")
        return cls(
            created=_time(node.get("created")),
            created_by=text_or_none(node.get("created_by")),
            author=text_or_none(node.get("author")),
            comment=text_or_none(node.get("comment")),
            empty_layer=empty.flag() if empty else False,
            extra=node.rest(_HISTORY),
        )

    def to_document(self) -> dict[str, Any]:
        """Write it for a config."""
        return joined(
            {
                "created": self.created,
                "created_by": self.created_by,
                "author": self.author,
                "comment": self.comment,
                "empty_layer": self.empty_layer or None,
            },
            self.extra,
        )


@attrs.frozen(kw_only=True)
class ImageDocument:
    """
    The config of an image: what it is for, how it is run, and what its layers are.

    Its digest is what Docker calls the image's id.

    Attributes:
        platform: What machine it is for.

        created: When it was made, as of RFC 3339, or ``None``.

        author: Who made it, or ``None``.

        config: How it wants to be run.

        diff_ids: The digest of each layer's plain tar, the lowest first.

        history: How the layers came to be, the lowest first.

        extra: What this version does not know.

    Source: OCI image-spec v1.1, *config.md*.
    """

    platform: Platform
    created: str | None = None
    author: str | None = None
    config: ImageConfig = ImageConfig()
    diff_ids: tuple[Digest, ...]
    history: tuple[History, ...] = ()
    extra: FrozenMap[str, Any] = attrs.field(
        factory=FrozenMap, converter=frozen_extra, repr=False
    )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """
        Read a config.

        Raises:
            Malformed: If it breaks the schema, or has something in it that could not be
                given to the kernel.
        """
        node = Node(_CONFIG_KIND, "", load_json(data, _CONFIG_KIND))
        rootfs, config = node.need("rootfs"), node.get("config")
        history = node.get("history")
        if rootfs.need("type").text() != "layers":
            raise rootfs.refusal("is not of the type 'layers'")
        extra = dict(node.rest(_CONFIG))
        if rest := rootfs.rest(("type", "diff_ids")):
            extra["rootfs"] = rest
        diff_ids = rootfs.need("diff_ids").list(LAYERS_MAX)
        return cls(
            platform=platform_of(node),
            created=_time(node.get("created")),
            author=text_or_none(node.get("author")),
            config=ImageConfig.from_node(config) if config else ImageConfig(),
            diff_ids=tuple(item.read(Digest.parse) for item in diff_ids),
            history=tuple(History.from_node(h) for h in history.list())
            if history
            else (),
            extra=extra,
        )

    def to_bytes(self) -> bytes:
        """Write it. The same config gives the same bytes, and so the same digest."""
        return dump_json(
            joined(
                {
                    "created": self.created,
                    "author": self.author,
                    **platform_document(self.platform),
                    "config": self.config.to_document(),
                    "rootfs": {
                        "type": "layers",
                        "diff_ids": [str(diff_id) for diff_id in self.diff_ids],
                    },
                    "history": [step.to_document() for step in self.history] or None,
                },
                self.extra,
            )
        )

    def chain_ids(self) -> tuple[Digest, ...]:
        """Name each layer together with all below it."""
        return chain_ids(self.diff_ids)

    def check(self, manifest: Manifest) -> None:
        """
        Refuse a config that does not belong to a manifest.

        Raises:
            Malformed: If they do not have the same number of layers.
        """
        if len(manifest.layers) != len(self.diff_ids):
            raise Malformed(
                _CONFIG_KIND,
                f"has {len(self.diff_ids)} diff_ids for {len(manifest.layers)} layers",
            )


def chain_ids(diff_ids: Iterable[Digest]) -> tuple[Digest, ...]:
    """
    Name each layer together with all below it, the lowest first.

    The first chain id is the first diff id; each further one is the digest of the one
    before, a space, and the next diff id.

    Source: OCI image-spec, *config.md*, "Layer ChainID".
    """

    def walk() -> Iterator[Digest]:
        chain: Digest | None = None
        for diff_id in diff_ids:
            if chain is None:
                chain = diff_id
            else:
                chain = Digest.of(f"{chain} {diff_id}".encode(), chain.algorithm)
            yield chain

    return tuple(walk())


# --- layout -------------------------------------------------------------------


def layout_version(data: bytes) -> str:
    """
    Read the file ``oci-layout``; return the version of the layout.

    Raises:
        Malformed: If it is not `LAYOUT_VERSION`, the only one that there is.
    """
    kind = "oci-layout"
    node = Node(kind, "", load_json(data, kind)).need("imageLayoutVersion")
    if node.text() != LAYOUT_VERSION:
        raise node.refusal(f"is not {LAYOUT_VERSION}")
    return node.text()
