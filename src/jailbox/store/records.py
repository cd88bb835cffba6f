"""
Records: the small files that alone make anything visible.

A record is JSON with a checksum over its body, so a flipped byte in it is found when it
is read, and not believed. Each says what it is a record of; under another name it is no
record of that. Values and bytes, nothing is opened here.
"""

import functools
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

import attrs

from jailbox.errors import ContentError, SpecError
from jailbox.spec.digest import Digest
from jailbox.spec.reference import Reference

__all__ = [
    "ImageRecord",
    "LayerRecord",
    "Owners",
    "Stacked",
    "StoredBlob",
    "TagRecord",
    "VolumeRecord",
    "image_file",
    "layer_file",
    "tag_file",
    "volume_file",
]

Owners: TypeAlias = Literal["keep", "single"]
"""How files of a tree are owned: each by its owner, or all by one and noted beside."""

_HEAD: Final = b'{"sha256":"'
_MIDDLE: Final = b'","record":'
_TAIL: Final = b"}\n"
_BODY_AT: Final = len(_HEAD) + 64 + len(_MIDDLE)
_HINT: Final = "Remove the image and get it again; check(full=True) tells all damage."


def _sealed(body: Mapping[str, Any]) -> bytes:
    data = json.dumps(body, sort_keys=True, separators=(",", ":")).encode("ascii")
    seal = hashlib.sha256(data).hexdigest().encode("ascii")
    return b"".join((_HEAD, seal, _MIDDLE, data, _TAIL))


def _opened(data: bytes, path: str) -> dict[str, Any]:
    body = data[_BODY_AT : -len(_TAIL)]
    seal = hashlib.sha256(body).hexdigest().encode("ascii")
    if data != b"".join((_HEAD, seal, _MIDDLE, body, _TAIL)):
        raise _damaged(path)
    document: dict[str, Any] = json.loads(body)
    return document


def _damaged(path: str) -> ContentError:
    return ContentError(f"a record of the store is damaged: {path}", hint=_HINT)


# ---- names of files --------------------------------------------------------

_ODD = re.compile(r"[^A-Za-z0-9._-]")
_NAME_MAX = 200


@functools.lru_cache(1024)
def tag_file(reference: Reference) -> str:
    """
    Name the file of a tag.

    Slashes, colons and what else is not plain are written as ``%`` and two digits. A
    name that is too long for a file keeps its beginning, and its hash tells it apart.
    """
    text = str(reference.tagged())
    name = _ODD.sub(_escaped, text)
    if len(name) > _NAME_MAX:
        name = f"{name[:100]}%{hashlib.sha256(text.encode()).hexdigest()}"
    return f"tags/{name}"


def _escaped(odd: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in odd[0].encode())


def image_file(digest: Digest) -> str:
    """Name the file of an image's record."""
    return f"records/images/{digest.hex}.json"


def layer_file(tree: Digest) -> str:
    """Name the file of a layer's record."""
    return f"records/layers/{tree.hex}.json"


def volume_file(name: str) -> str:
    """Name the file of a volume's record."""
    return f"records/volumes/{name}.json"


# ---- tags ------------------------------------------------------------------


@attrs.frozen
class TagRecord:
    """
    A name, and the image that it means.

    Attributes:
        reference: The name, with tag or digest.

        digest: Digest of the image's manifest.
    """

    reference: Reference
    digest: Digest

    def to_bytes(self) -> bytes:
        """Write the record."""
        return _sealed({"reference": str(self.reference), "digest": str(self.digest)})

    @classmethod
    def from_bytes(cls, data: bytes, path: str) -> "TagRecord":
        """
        Read the record.

        Raises:
            ContentError: If it is damaged.
        """
        body = _opened(data, path)
        try:
            return cls(Reference.parse(body["reference"]), Digest.parse(body["digest"]))
        except (KeyError, SpecError) as error:
            raise _damaged(path) from error


# ---- layers ----------------------------------------------------------------


@attrs.frozen(kw_only=True)
class LayerRecord:
    """
    A layer that is unpacked.

    Attributes:
        tree: What its tree is called: the diff id if it is the same whatever is below
            it, else the chain id.

        diff_id: Digest of its plain tar.

        size: Length of its plain tar, in bytes.

        media_type: Of what it was unpacked from.

        blob: Digest of what it was unpacked from; ``None`` if that was not kept.

        entries: Files, directories and links in it.

        disk: Bytes that its tree takes on the disk.

        inodes: How many its tree takes.

        fingerprint: Of the tree as it was unpacked; empty if it was unpacked from a
            blob, which can be done again.

        owners: How its files are owned.

        noted: Digest of the owners that are noted beside the tree, if there are any.

        lowers: The trees that it was unpacked on, the lowest first; empty if it is the
            same whatever is below it.
    """

    tree: Digest
    diff_id: Digest
    size: int
    media_type: str
    blob: Digest | None = None
    entries: int = 0
    disk: int = 0
    inodes: int = 0
    fingerprint: str = ""
    owners: Owners = "keep"
    noted: Digest | None = None
    lowers: tuple[Digest, ...] = ()

    def to_bytes(self) -> bytes:
        """Write the record."""
        body = attrs.asdict(self, recurse=False)
        for name in ("tree", "diff_id"):
            body[name] = str(body[name])
        for name in ("blob", "noted"):
            body[name] = None if body[name] is None else str(body[name])
        body["lowers"] = [str(tree) for tree in self.lowers]
        return _sealed(body)

    @classmethod
    def from_bytes(cls, data: bytes, path: str) -> "LayerRecord":
        """
        Read the record.

        Raises:
            ContentError: If it is damaged.
        """
        body = _opened(data, path)
        try:
            for name in ("tree", "diff_id"):
                body[name] = Digest.parse(body[name])
            for name in ("blob", "noted"):
                if body[name] is not None:
                    body[name] = Digest.parse(body[name])
            body["lowers"] = tuple(map(Digest.parse, body["lowers"]))
            return cls(**body)
        except (KeyError, TypeError, SpecError) as error:
            raise _damaged(path) from error


# ---- images ----------------------------------------------------------------


@attrs.frozen
class Stacked:
    """A layer in an image: the digest of its plain tar, and what its tree is called."""

    diff_id: Digest
    tree: Digest


@attrs.frozen
class StoredBlob:
    """A blob that an image needs to be sent on as it came."""

    digest: Digest
    size: int


@attrs.frozen(kw_only=True)
class ImageRecord:
    """
    An image that is stored: everything that starting it needs.

    Attributes:
        digest: Of its manifest: its name in the store.

        media_type: Of its manifest.

        config: Digest of its config: what Docker calls its id.

        layers: Its layers, the lowest first.

        blobs: What is kept with it: manifest, config, packed layers that are here, and
            what else came along.

        added: When it was added, in seconds since 1970.
    """

    digest: Digest
    media_type: str
    config: Digest
    layers: tuple[Stacked, ...]
    blobs: tuple[StoredBlob, ...]
    added: int = 0

    def to_bytes(self) -> bytes:
        """Write the record."""
        return _sealed(
            {
                "digest": str(self.digest),
                "media_type": self.media_type,
                "config": str(self.config),
                "layers": [[str(one.diff_id), str(one.tree)] for one in self.layers],
                "blobs": [[str(one.digest), one.size] for one in self.blobs],
                "added": self.added,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes, path: str) -> "ImageRecord":
        """
        Read the record.

        Raises:
            ContentError: If it is damaged.
        """
        body = _opened(data, path)
        parse = Digest.parse
        try:
            return cls(
                digest=parse(body["digest"]),
                media_type=body["media_type"],
                config=parse(body["config"]),
                layers=tuple(Stacked(parse(d), parse(t)) for d, t in body["layers"]),
                blobs=tuple(StoredBlob(parse(d), size) for d, size in body["blobs"]),
                added=body["added"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(path) from error


# ---- volumes ---------------------------------------------------------------


@attrs.frozen(kw_only=True)
class VolumeRecord:
    """
    A volume.

    Attributes:
        name: Its name.

        tree: What its directory is called: a volume of the same name that is made
            later has another one.

        labels: Texts of its maker.

        created: When it was made, in seconds since 1970.
    """

    name: str
    tree: str
    labels: Mapping[str, str] = attrs.field(factory=dict)
    created: int = 0

    def to_bytes(self) -> bytes:
        """Write the record."""
        return _sealed({**attrs.asdict(self), "labels": dict(self.labels)})

    @classmethod
    def from_bytes(cls, data: bytes, path: str) -> "VolumeRecord":
        """
        Read the record.

        Raises:
            ContentError: If it is damaged.
        """
        try:
            return cls(**_opened(data, path))
        except TypeError as error:
            raise _damaged(path) from error
