"""
Archives of ``docker save``: several images with their names in one file.

Three generations are read. Since Docker 25 the archive is an OCI layout with a
``manifest.json`` beside it: then the layout counts, for it has the manifests as they
were. Before, ``manifest.json`` lists config, names and layers, and the manifest is
made here, always the same one. Before Docker 1.10 there was a directory for each layer
with its own description, and a file ``repositories`` with the names.

Written is the newest kind, which older engines and other tools read as well.

Source: moby/docker-image-spec, *v1.2* ("Combined Image JSON + Filesystem Changeset
Format") and *v1*; containers/image, *docker-archive*.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import attrs

from jailbox.errors import InvalidReference, Malformed, UnsupportedMediaType
from jailbox.spec.descriptor import Descriptor
from jailbox.spec.digest import Digest
from jailbox.spec.document import LAYERS_MAX, History, ImageDocument, Manifest
from jailbox.spec.image import ImageConfig
from jailbox.spec.media import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, compression_of
from jailbox.spec.platform import Platform
from jailbox.spec.reference import Reference
from jailbox.spec.strict import DOCUMENT_MAX, Node, dump_json, load_json
from jailbox.store.decompress import open_layer
from jailbox.store.feeding import Source
from jailbox.store.incoming import (
    AnySource,
    Incoming,
    Loaded,
    copy_blob,
    layer_type,
    on_shelf,
    receiving,
    take,
)
from jailbox.store.layout import (
    INDEX_FILE,
    MARKER,
    images_of_layout,
    index_of,
    is_layout,
    marker,
)
from jailbox.store.outgoing import (
    AnyTarget,
    Chosen,
    Outgoing,
    blob_name,
    copy_blobs,
    gathered,
    into,
)
from jailbox.store.shelf import Shelf, read_small
from jailbox.store.store import Store

__all__ = ["LIST_MAX", "load", "save"]

LIST_MAX: Final = 1 << 20
"""The largest ``manifest.json`` or ``repositories`` of an archive, in bytes."""

_LIST, _REPOSITORIES = "manifest.json", "repositories"
_KIND = "image archive"
_IMAGES_MAX = 1000
_ID = re.compile(r"[0-9a-f]{64}")
_HEAD = 6


def load(
    store: Store,
    source: AnySource,
    *,
    platform: Platform,
    select: str | None = None,
    repository: Reference | None = None,
    move: bool = False,
) -> tuple[Loaded, ...]:
    """
    Take in the images of an archive or a layout: all of them, or none.

    Reads what ``docker save``, ``podman save``, ``skopeo copy``, ``buildah push`` and
    ``umoci`` write: OCI layouts as directory or archive, and archives of Docker, old
    and new, also packed by gzip or zstd.

    Args:
        store: Where to.

        source: A path, or a file that is read from where it stands.

        platform: Where there are several images of one name, for which machine.

        select: The one image that is wanted, by name; ``None`` for all.

        repository: What a bare tag of a layout is a tag of.

        move: Whether a name that means another image here gets the new one. If not, it
            is listed in `Loaded.kept`.

    Raises:
        Malformed: If it is no such archive, or breaks its rules.

        NotFound: If a part is missing, or the image that is wanted.

        DigestMismatch: If a part is not what it should be.

        UnsupportedMediaType: If a layer is no tar archive.

        StoreError: If it cannot be read, or stored.
    """
    with on_shelf(store, source) as shelf, receiving(store):
        if is_layout(shelf):
            images = images_of_layout(
                shelf, platform, select=select, repository=repository
            )
        elif (data := read_small(shelf, _LIST, LIST_MAX)) is not None:
            images = _listed(store, shelf, _entries(data), select)
        elif (data := read_small(shelf, _REPOSITORIES, LIST_MAX)) is not None:
            images = _oldest(store, shelf, data, select)
        else:
            raise Malformed(
                _KIND,
                "has neither index.json nor manifest.json",
                hint="An archive of a root file system is imported, not loaded.",
            )
        return take(store, images, move=move)


# --- manifest.json --------------------------------------------------------------


@attrs.frozen
class _Entry:
    """One image of ``manifest.json``."""

    config: str
    names: tuple[Reference, ...]
    layers: tuple[str, ...]


def _entries(data: bytes) -> tuple[_Entry, ...]:
    # It is a list; the strict reader takes objects.
    whole = Node(_LIST, "", load_json(b'{"images":' + data + b"}", _LIST))
    listed = whole.need("images").list(_IMAGES_MAX)
    if not listed or len(whole.object()) != 1:
        raise Malformed(_LIST, "lists no images")
    found = []
    for node in listed:
        tags, layers = node.get("RepoTags"), node.get("Layers")
        found.append(
            _Entry(
                config=node.need("Config").clean_text(),
                names=_names(tags.texts() if tags else ()),
                layers=tuple(
                    layer.clean_text()
                    for layer in (layers.list(LAYERS_MAX) if layers else ())
                ),
            )
        )
    return tuple(found)


def _names(texts: Sequence[str]) -> tuple[Reference, ...]:
    names = []
    for text in texts:
        try:
            names.append(Reference.parse(text))
        except InvalidReference as error:
            raise Malformed(_LIST, f"has a bad name: {error}") from error
    return tuple(names)


def _wanted(names: Sequence[Reference], select: str | None) -> bool:
    return select is None or Reference.parse(select).tagged() in {
        name.tagged() for name in names
    }


def _listed(
    store: Store, shelf: Shelf, entries: Sequence[_Entry], select: str | None
) -> Iterator[Incoming]:
    """Yield the images of ``manifest.json``."""
    chosen = [entry for entry in entries if _wanted(entry.names, select)]
    if not chosen:
        raise Malformed(_KIND, f"has no image {select}")
    copied: dict[str, Descriptor] = {}
    for entry in chosen:
        config = _must(shelf, entry.config)
        document = ImageDocument.from_bytes(config)
        if len(entry.layers) != len(document.diff_ids):
            raise Malformed(
                _LIST,
                f"has {len(entry.layers)} layers for {len(document.diff_ids)} diff_ids",
            )
        layers = tuple(_layer(store, shelf, name, copied) for name in entry.layers)
        yield _made(config, layers, entry.names)


def _must(shelf: Shelf, name: str) -> bytes:
    data = read_small(shelf, name, DOCUMENT_MAX)
    if data is None:
        raise Malformed(_KIND, "is missing", place=name)
    return data


def _layer(
    store: Store, shelf: Shelf, name: str, copied: dict[str, Descriptor]
) -> Descriptor:
    """Store a layer of which only the name in the archive is known, once."""
    if name not in copied:
        piece = shelf.find(name)
        if piece is None:
            raise Malformed(_KIND, "is missing", place=name)
        media_type = layer_type(piece.read(_HEAD))
        if media_type is None:
            raise UnsupportedMediaType(name, "layer", "is packed by xz or bzip2")
        piece.seek(0)
        digest, size = copy_blob(store, piece, origin=name)
        copied[name] = Descriptor(media_type=media_type, digest=digest, size=size)
    return copied[name]


def _made(
    config: bytes, layers: tuple[Descriptor, ...], names: tuple[Reference, ...]
) -> Incoming:
    """Make the manifest that the archive does not have."""
    manifest = Manifest(config=Descriptor.of(config, OCI_CONFIG), layers=layers)

    def stored(layer: Descriptor) -> Source:
        raise AssertionError(layer)  # it was copied before its digest was known

    return Incoming(manifest.to_bytes(), OCI_MANIFEST, config, names, stored)


# --- repositories ---------------------------------------------------------------


def _oldest(
    store: Store, shelf: Shelf, data: bytes, select: str | None
) -> Iterator[Incoming]:
    """Yield the images of an archive from before Docker 1.10."""
    whole = Node(_REPOSITORIES, "", load_json(data, _REPOSITORIES))
    tops: dict[str, list[Reference]] = {}
    for name in whole.object():
        for tag in whole.need(name).object():
            top = whole.need(name).need(tag).text()
            tops.setdefault(top, []).extend(_names([f"{name}:{tag}"]))
    chosen = {top: names for top, names in tops.items() if _wanted(names, select)}
    if not chosen:
        raise Malformed(_KIND, "has no images" if select is None else "has not that")
    copied: dict[str, Descriptor] = {}
    for top, names in chosen.items():
        chain = _chain(shelf, top)
        layers = tuple(
            _layer(store, shelf, f"{one}/layer.tar", copied) for one, _ in chain
        )
        config = _config(store, [node for _, node in chain], layers)
        yield _made(config.to_bytes(), layers, tuple(names))


def _chain(shelf: Shelf, top: str) -> list[tuple[str, Node]]:
    """Follow the parents of a layer; the lowest first."""
    chain: list[tuple[str, Node]] = []
    seen = set()
    one: str | None = top
    while one is not None:
        if not _ID.fullmatch(one) or one in seen or len(chain) >= LAYERS_MAX:
            raise Malformed(_KIND, "has a bad chain of parents", place=top)
        seen.add(one)
        name = f"{one}/json"
        node = Node(name, "", load_json(_must(shelf, name), name))
        chain.append((one, node))
        parent = node.get("parent")
        one = parent.text() if parent and parent.text() else None
    return chain[::-1]


def _config(
    store: Store, chain: Sequence[Node], layers: Sequence[Descriptor]
) -> ImageDocument:
    """Make the config that such an image does not have, of what its layers say."""
    top = chain[-1]
    config = top.get("config")
    return ImageDocument(
        platform=Platform(
            os=_said(top, "os") or "linux",
            architecture=_said(top, "architecture") or "amd64",
        ),
        created=_said(top, "created"),
        author=_said(top, "author"),
        config=ImageConfig.from_node(config) if config else ImageConfig(),
        diff_ids=tuple(_diff_id(store, layer) for layer in layers),
        history=tuple(_step(node) for node in chain),
    )


def _said(node: Node, key: str) -> str | None:
    found = node.get(key)
    return found.text() if found and found.text() else None


def _step(node: Node) -> History:
    container = node.get("container_config")
    command = container.get("Cmd") if container else None
    return History(
        created=_said(node, "created"),
        created_by=" ".join(command.texts()) if command else None,
        author=_said(node, "author"),
        comment=_said(node, "comment"),
    )


def _diff_id(store: Store, layer: Descriptor) -> Digest:
    if layer.media_type == OCI_LAYER:
        return layer.digest
    hasher = layer.digest.hasher()
    with store.blobs.open(layer.digest) as file:
        source = open_layer(file, layer.media_type)
        while chunk := source.read(1 << 20):
            hasher.update(chunk)
    return Digest(layer.digest.algorithm, hasher.hexdigest())


# --- writing ------------------------------------------------------------------


def save(store: Store, chosen: Chosen, target: AnyTarget) -> None:
    """
    Write images as an archive that ``docker load`` and other tools read.

    It is an OCI layout as well, with every digest as it was. Layers that are packed by
    zstd are in it a second time, plain, for engines that do not know zstd. The same
    images and names give the same bytes.

    Args:
        store: Where the images are.

        chosen: The images, with their names.

        target: A path, where it appears whole or not at all; or a file.

    Raises:
        NotFound: If a packed layer is not kept in the store.

        DigestMismatch: If a blob has changed on the disk.

        StoreError: If it cannot be written.
    """
    images = gathered(store, chosen)
    plain = _plain_layers(store, images)
    with into(target) as place:
        place.put(MARKER, marker())
        place.put(INDEX_FILE, index_of(images).to_bytes())
        place.put(_LIST, dump_json([_listing(image) for image in images]))
        copy_blobs(store, images, place)
        for name, (layer, size) in plain.items():
            with store.blobs.open(layer.digest) as file:
                place.pour(name, open_layer(file, layer.media_type), size)


def _listing(image: Outgoing) -> Mapping[str, Any]:
    return {
        "Config": blob_name(image.manifest.config.digest),
        "RepoTags": [name.familiar() for name in image.names if name.tag] or None,
        "Layers": [
            _layer_name(layer, diff_id)
            for layer, diff_id in zip(
                image.manifest.layers, image.document.diff_ids, strict=True
            )
        ],
    }


def _layer_name(layer: Descriptor, diff_id: Digest) -> str:
    if compression_of(layer.media_type) == "zstd":
        return f"{diff_id.hex}/layer.tar"
    return blob_name(layer.digest)


def _plain_layers(
    store: Store, images: Sequence[Outgoing]
) -> dict[str, tuple[Descriptor, int]]:
    """List the layers that go out plain, too, with their plain sizes."""
    found: dict[str, tuple[Descriptor, int]] = {}
    for image in images:
        records = store.images.layers(image.record)
        for layer, record in zip(image.manifest.layers, records, strict=True):
            if compression_of(layer.media_type) == "zstd":
                name = _layer_name(layer, record.diff_id)
                found[name] = (layer, record.size)
    return found
