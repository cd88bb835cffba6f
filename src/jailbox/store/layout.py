"""
OCI image layouts: several images in a directory, or in a tar archive of one.

Read and written with the names where other tools look for them: containerd and Docker
write the full name as ``io.containerd.image.name``; skopeo, buildah and umoci have a
tag or a name as ``org.opencontainers.image.ref.name``.

Source: OCI image-spec v1.1, *image-layout.md*, *annotations.md*.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import attrs

from jailbox.errors import InvalidReference, Malformed, NotFound, SpecError
from jailbox.linux.fd import Fd
from jailbox.spec.descriptor import Descriptor
from jailbox.spec.digest import Digest
from jailbox.spec.document import (
    DOCUMENT_MAX,
    LAYOUT_VERSION,
    Index,
    Manifest,
    layout_version,
)
from jailbox.spec.media import is_config, is_index, is_manifest
from jailbox.spec.pick import manifests_of, pick
from jailbox.spec.platform import Platform, choose
from jailbox.spec.reference import Reference
from jailbox.spec.strict import dump_json
from jailbox.store.errors import storing
from jailbox.store.feeding import Source
from jailbox.store.incoming import Incoming
from jailbox.store.outgoing import (
    AnyTarget,
    Chosen,
    Outgoing,
    blob_name,
    copy_blobs,
    gathered,
    into,
)
from jailbox.store.shelf import DirectoryShelf, Shelf, read_small
from jailbox.store.store import Store

__all__ = [
    "FULL_NAME",
    "INDEX_FILE",
    "MARKER",
    "REF_NAME",
    "images_of_layout",
    "index_of",
    "is_layout",
    "marker",
    "write_layout",
    "write_layout_tar",
]

MARKER: Final = "oci-layout"
INDEX_FILE: Final = "index.json"

REF_NAME: Final = "org.opencontainers.image.ref.name"
FULL_NAME: Final = "io.containerd.image.name"

_KIND = "OCI layout"


# --- reading ------------------------------------------------------------------


def is_layout(shelf: Shelf) -> bool:
    """Say whether this is an OCI layout."""
    return shelf.find(MARKER) is not None and shelf.find(INDEX_FILE) is not None


def images_of_layout(
    shelf: Shelf,
    platform: Platform,
    *,
    select: str | None = None,
    repository: Reference | None = None,
) -> Iterator[Incoming]:
    """
    Yield the images of a layout.

    Of those that share a name, or have none, the one for a machine is taken. What is no
    image, as a signature, is passed over.

    Args:
        shelf: The files.

        platform: The machine.

        select: The one name that is wanted, as the layout writes it; ``None`` for all.

        repository: What a bare tag in the layout is a tag of. Without it, an image
            whose name is a bare tag gets no name.

    Raises:
        Malformed: If it breaks the specification.

        NotFound: If a blob is missing, or there is no image of that name or for that
            machine.

        DigestMismatch: If a document is not what its descriptor says.
    """
    layout_version(_must(shelf, MARKER))
    index = Index.from_bytes(_must(shelf, INDEX_FILE))
    groups = _groups(index)
    if select is not None:
        groups = _selected(groups, select)
    found = 0
    for entries in groups:
        top = _one(shelf, entries, platform)
        if top is None:
            continue
        found += 1
        yield _incoming(shelf, *top, repository)
    if not found:
        raise Malformed(_KIND, "has no images")


def _must(shelf: Shelf, name: str) -> bytes:
    data = read_small(shelf, name, DOCUMENT_MAX)
    if data is None:
        raise Malformed(_KIND, f"has no {name}")
    return data


def _label(entry: Descriptor) -> str | None:
    return entry.annotations.get(FULL_NAME) or entry.annotations.get(REF_NAME)


def _groups(index: Index) -> list[list[Descriptor]]:
    """
    Put together what is one image for several machines.

    That is what shares a name, or has no name and says its platform. Any other is an
    image of its own.
    """
    groups: dict[object, list[Descriptor]] = {}
    for place, entry in enumerate(index.manifests):
        if is_index(entry.media_type) or is_manifest(entry.media_type):
            label = _label(entry)
            alone = label is None and entry.platform is None
            groups.setdefault(place if alone else label, []).append(entry)
    return list(groups.values())


def _selected(groups: list[list[Descriptor]], select: str) -> list[list[Descriptor]]:
    """Keep the group of one name, however the layout writes it."""
    found = [
        entries
        for entries in groups
        if any(_is_called(entry, select) for entry in entries)
    ]
    if len(found) != 1:
        labels = {label for (entry, *_) in groups if (label := _label(entry))}
        have = ", ".join(sorted(labels)) or "no names"
        raise NotFound("image", select, where=f"the layout, which has {have}")
    return found


def _is_called(entry: Descriptor, name: str) -> bool:
    said = {entry.annotations.get(FULL_NAME), entry.annotations.get(REF_NAME)}
    if name in said:
        return True
    try:
        wanted = Reference.parse(name).tagged()
        return any(Reference.parse(one).tagged() == wanted for one in said if one)
    except InvalidReference:
        return False


def _one(
    shelf: Shelf, entries: Sequence[Descriptor], platform: Platform
) -> tuple[Descriptor, Descriptor] | None:
    """
    Choose among entries of one name: where it was found, and what.

    ``None`` if there is no image at all among them.
    """

    def fetch(place: Descriptor) -> bytes:
        return _blob(shelf, place)

    if len(entries) == 1 and is_index(entries[0].media_type):
        return entries[0], pick(entries[0], fetch, platform)[0]
    images = []
    for entry in entries:
        for place in manifests_of(entry, fetch):
            if not is_manifest(place.media_type):
                continue
            manifest = Manifest.from_bytes(
                place.verify(fetch(place), str(place.digest)), place.media_type
            )
            if is_config(manifest.config.media_type):
                images.append((entry, place))
    if len(images) <= 1:
        return images[0] if images else None
    chosen = choose([place for _, place in images], platform)
    if chosen is None:
        have = dict.fromkeys(str(p.platform) for _, p in images if p.platform)
        raise NotFound(
            "image for", str(platform), where=f"the layout, which has {', '.join(have)}"
        )
    return next(pair for pair in images if pair[1] is chosen)


def _incoming(
    shelf: Shelf,
    entry: Descriptor,
    place: Descriptor,
    repository: Reference | None,
) -> Incoming:
    data = place.verify(_blob(shelf, place), str(place.digest))
    manifest = Manifest.from_bytes(data, place.media_type)
    also = (_blob(shelf, entry),) if is_index(entry.media_type) else ()
    return Incoming(
        manifest=data,
        media_type=manifest.media_type,
        config=_blob(shelf, manifest.config),
        names=_names(entry, repository),
        layer=lambda layer: _open(shelf, layer),
        also=also,
    )


def _open(shelf: Shelf, place: Descriptor) -> Source:
    piece = shelf.find(blob_name(place.digest))
    if piece is None:
        raise NotFound("blob", str(place.digest), where="the image")
    return piece


def _blob(shelf: Shelf, place: Descriptor) -> bytes:
    data = read_small(shelf, blob_name(place.digest), DOCUMENT_MAX)
    if data is None:
        raise NotFound("blob", str(place.digest), where="the image")
    return data


def _names(entry: Descriptor, repository: Reference | None) -> tuple[Reference, ...]:
    """Read the name of an entry. One that makes no sense is only a label."""
    full, short = entry.annotations.get(FULL_NAME), entry.annotations.get(REF_NAME)
    try:
        if full:
            return (Reference.parse(full),)
        if short and ("/" in short or ":" in short):
            return (Reference.parse(short),)
        if repository is not None:
            return (repository.at(short) if short else repository,)
    except InvalidReference:
        pass
    return ()


# --- writing ------------------------------------------------------------------


def marker() -> bytes:
    """Return the content of the file ``oci-layout``."""
    return dump_json({"imageLayoutVersion": LAYOUT_VERSION})


def index_of(images: Sequence[Outgoing]) -> Index:
    """List images, once for each of their names."""
    return Index(manifests=tuple(entry for one in images for entry in _entries(one)))


def _entries(image: Outgoing) -> Iterator[Descriptor]:
    if not image.names:
        yield image.place
    for name in image.names:
        labels = {FULL_NAME: str(name)}
        if name.tag is not None:
            labels[REF_NAME] = name.tag
        yield attrs.evolve(image.place, annotations=labels)


def write_layout_tar(store: Store, chosen: Chosen, target: AnyTarget) -> None:
    """
    Write images as an archive of an OCI layout.

    The same images and names give the same bytes.

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
    with into(target) as place:
        place.put(MARKER, marker())
        place.put(INDEX_FILE, index_of(images).to_bytes())
        copy_blobs(store, images, place)


def write_layout(store: Store, chosen: Chosen, target: str | os.PathLike[str]) -> None:
    """
    Write images into a directory that is an OCI layout, or becomes one.

    What is in the layout already stays; an image of the same name loses it. The list of
    images is replaced last, and whole.

    Args:
        store: Where the images are.

        chosen: The images, with their names.

        target: A directory that is a layout, or empty, or is not there.

    Raises:
        SpecError: If the directory is not empty, and no layout.

        NotFound, DigestMismatch, StoreError: As `write_layout_tar`.
    """
    images = gathered(store, chosen)
    path = os.fspath(target)
    with storing("write an image", path), contextlib.ExitStack() as undo:
        if not os.path.isdir(path):
            os.makedirs(path)
            undo.callback(_without_errors, os.rmdir, path)
        before = _before(path)
        if before is None:
            # Nothing was there: what is half done is ours.
            undo.callback(
                shutil.rmtree, os.path.join(path, "blobs"), ignore_errors=True
            )
            for name in (MARKER, INDEX_FILE):
                undo.callback(_without_errors, os.unlink, os.path.join(path, name))
        for algorithm in {d.algorithm for d in _digests(images)} | {"sha256"}:
            os.makedirs(os.path.join(path, "blobs", algorithm), exist_ok=True)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        with Fd(os.open(path, flags)) as root:
            place = _DirectoryPlace(root.fileno())
            copy_blobs(store, images, place)
            place.put(MARKER, marker())
            place.put(INDEX_FILE, _merged(before, index_of(images)).to_bytes())
        undo.pop_all()


def _without_errors(act: Callable[[str], object], path: str) -> None:
    with contextlib.suppress(OSError):
        act(path)


def _digests(images: Sequence[Outgoing]) -> Iterator[Digest]:
    for image in images:
        yield image.place.digest
        for part in (image.manifest.config, *image.manifest.layers):
            yield part.digest


def _before(path: str) -> Index | None:
    """Read the index of the layout that is there; ``None`` in an empty directory."""
    if not os.listdir(path):
        return None
    with DirectoryShelf(path) as shelf:
        if not is_layout(shelf):
            raise SpecError(
                "target",
                "is neither an OCI layout nor empty",
                value=path,
                accepted="a new directory, an empty one, or an OCI layout",
            )
        layout_version(_must(shelf, MARKER))
        return Index.from_bytes(_must(shelf, INDEX_FILE))


def _merged(before: Index | None, fresh: Index) -> Index:
    """Add to an index. An entry whose name is given anew is dropped."""
    if before is None:
        return fresh
    names = {_label(entry) for entry in fresh.manifests} - {None}
    addresses = {entry.address for entry in fresh.manifests}
    kept = tuple(
        entry
        for entry in before.manifests
        if _label(entry) not in names
        and (_label(entry) is not None or entry.address not in addresses)
    )
    return attrs.evolve(before, manifests=(*kept, *fresh.manifests))


class _DirectoryPlace:
    """Files below a directory, each there whole or not at all."""

    def __init__(self, root: int) -> None:
        self._root = root

    def put(self, name: str, data: bytes) -> None:
        """Write a small file, in place of what was there."""
        self._write(name, (data,))

    def pour(self, name: str, source: Source, size: int) -> None:
        """Write a blob, unless it is there."""
        try:
            found = os.stat(name, dir_fd=self._root, follow_symlinks=False)
        except FileNotFoundError:
            pass
        else:
            if found.st_size == size and self._is(name):
                return
        self._write(name, iter(lambda: source.read(1 << 20), b""))

    def _is(self, name: str) -> bool:
        """Say whether a blob that is there is what its name says."""
        _, algorithm, digits = name.split("/")
        digest = Digest(algorithm, digits)
        hasher = digest.hasher()
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=self._root)
        with open(fd, "rb") as file:
            while chunk := file.read(1 << 20):
                hasher.update(chunk)
        return hasher.hexdigest() == digits

    def _write(self, name: str, parts: "Iterator[bytes] | tuple[bytes, ...]") -> None:
        fresh = f"{name}.{secrets.token_hex(4)}.tmp"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(fresh, flags, 0o644, dir_fd=self._root)
        try:
            with open(fd, "wb") as file:
                file.writelines(parts)
            os.rename(fresh, name, src_dir_fd=self._root, dst_dir_fd=self._root)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(fresh, dir_fd=self._root)
            raise
