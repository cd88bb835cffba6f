"""
Descriptors: how documents point to content, and say what machine it is for.

Everything that leads from a name to bytes is a chain of them: the name to an index, the
index to a manifest, the manifest to config and layers. Whoever follows one checks the
bytes with `Descriptor.verify`.

Source: OCI image-spec v1.1, *descriptor.md*, *image-index.md*.
"""

import base64
import binascii
import re
from typing import Any, Self

import attrs

from jailbox.errors import ContentError, DigestMismatch
from jailbox.spec.digest import AnyDigest, Digest, ForeignDigest, digest_of
from jailbox.spec.mapping import FrozenMap
from jailbox.spec.platform import Platform
from jailbox.spec.strict import (
    Node,
    frozen_extra,
    frozen_texts,
    joined,
    load_json,
    text_or_none,
)

__all__ = [
    "PLATFORM_KEYS",
    "Descriptor",
    "media_type_of",
    "platform_document",
    "platform_of",
]

_MEDIA_TYPE = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s\x00-\x1f\x7f]+")


def media_type_of(node: Node | None) -> str | None:
    """Take a media type, if there is one."""
    if node is None:
        return None
    if not _MEDIA_TYPE.fullmatch(node.text()):
        raise node.refusal("is no media type")
    return node.text()


PLATFORM_KEYS = ("os", "architecture", "variant", "os.version", "os.features")
"""What says a platform, in a descriptor and in a config."""

_DESCRIPTOR = (
    *("mediaType", "digest", "size", "urls", "annotations", "data"),
    *("artifactType", "platform"),
)


def platform_of(node: Node) -> Platform:
    """Read a platform out of a document, in the words of the document."""
    version, features = node.get("os.version"), node.get("os.features")
    return Platform(
        os=node.need("os").text(),
        architecture=node.need("architecture").text(),
        variant=text_or_none(node.get("variant")) or None,
        os_version=text_or_none(version) or None,
        os_features=features.texts() if features else (),
    )


def platform_document(platform: Platform) -> dict[str, Any]:
    """Write a platform for a document."""
    return joined(
        {
            "architecture": platform.architecture,
            "os": platform.os,
            "os.version": platform.os_version,
            "os.features": list(platform.os_features) or None,
            "variant": platform.variant,
        },
        FrozenMap(),
    )


@attrs.frozen(kw_only=True)
class Descriptor:
    """
    A typed pointer to content: what it is, where it is, and how large.

    Attributes:
        media_type: What the content is.

        digest: Its address. Asking for it raises `ContentError` if the document has
            one by an algorithm that is not computed here; `address` never does.

        size: Its length, in bytes.

        urls: Where else it could be found. Never followed.

        annotations: What its makers wrote on it.

        platform: What machine it is for, or ``None`` if that is not said.

        artifact_type: What it is, if it is no image.

        data: The content itself, if it came along. See `embedded`.

        extra: What this version does not know.

    Source: OCI image-spec v1.1, *descriptor.md*.
    """

    media_type: str
    _digest: AnyDigest
    size: int
    urls: tuple[str, ...] = ()
    annotations: FrozenMap[str, str] = attrs.field(
        factory=FrozenMap, converter=frozen_texts
    )
    platform: Platform | None = None
    artifact_type: str | None = None
    data: bytes | None = attrs.field(default=None, repr=False)
    extra: FrozenMap[str, Any] = attrs.field(
        factory=FrozenMap, converter=frozen_extra, repr=False
    )

    @property
    def address(self) -> AnyDigest:
        """The digest as it stands, of a known algorithm or not."""
        return self._digest

    @property
    def digest(self) -> Digest:
        """The digest, by which the content is found and checked."""
        if isinstance(self._digest, ForeignDigest):
            raise ContentError(
                f"cannot check content by {self._digest.algorithm}: {self._digest}"
            )
        return self._digest

    @classmethod
    def of(
        cls,
        content: bytes,
        media_type: str,
        **more: Any,  # noqa: ANN401  (of the class)
    ) -> Self:
        """Point to these bytes. *more* are further attributes."""
        return cls(
            media_type=media_type, digest=Digest.of(content), size=len(content), **more
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a document that is a descriptor."""
        kind = "descriptor"
        return cls.from_node(Node(kind, "", load_json(data, kind)))

    @classmethod
    def from_node(cls, node: Node) -> Self:
        """
        Read it out of a document.

        Raises:
            Malformed: If it breaks the schema of the specification.
        """
        node.no_lookalikes(_DESCRIPTOR)
        urls, annotations = node.get("urls"), node.get("annotations")
        platform, data = node.get("platform"), node.get("data")
        extra = dict(node.rest(_DESCRIPTOR))
        if platform is not None and (rest := platform.rest(PLATFORM_KEYS)):
            extra["platform"] = rest
        return cls(
            media_type=media_type_of(node.need("mediaType")) or "",
            digest=node.need("digest").read(digest_of),
            size=node.need("size").whole(),
            urls=tuple(_url(item) for item in urls.list()) if urls else (),
            annotations=annotations.text_map() if annotations else {},
            platform=platform_of(platform) if platform else None,
            artifact_type=media_type_of(node.get("artifactType")),
            data=_base64(data) if data else None,
            extra=extra,
        )

    def to_document(self) -> dict[str, Any]:
        """Write it for a document."""
        platform, data = self.platform, self.data
        return joined(
            {
                "mediaType": self.media_type,
                "artifactType": self.artifact_type,
                "digest": str(self._digest),
                "size": self.size,
                "urls": list(self.urls) or None,
                "annotations": dict(self.annotations) or None,
                "data": None if data is None else base64.b64encode(data).decode(),
                "platform": None if platform is None else platform_document(platform),
            },
            self.extra,
        )

    def verify(self, content: bytes, origin: str = "content") -> bytes:
        """
        Return *content* if it is what this points to.

        Raises:
            DigestMismatch: If size or digest differ.
        """
        if len(content) != self.size:
            raise DigestMismatch(f"{self.size} bytes", f"{len(content)} bytes", origin)
        actual = Digest.of(content, self.digest.algorithm)
        if actual != self.digest:
            raise DigestMismatch(str(self.digest), str(actual), origin)
        return content

    def embedded(self) -> bytes | None:
        """Return the content that came along, checked; ``None`` if none did."""
        return None if self.data is None else self.verify(self.data, "embedded data")


def _url(node: Node) -> str:
    if not _URL.fullmatch(node.text()):
        raise node.refusal("is no address")
    return node.text()


def _base64(node: Node) -> bytes:
    try:
        return base64.b64decode(node.text(), validate=True)
    except (binascii.Error, ValueError):
        raise node.refusal("is no base64") from None
