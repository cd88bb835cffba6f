"""
What the store takes of the disk, and who takes it.

Bytes are those that the file system has given away, not lengths of files: the sum is
what `du` says. What several images share is counted once.
"""

from collections import Counter
from collections.abc import Iterator
from typing import TypeAlias

import attrs

from jailbox.spec.digest import ALGORITHMS, Digest
from jailbox.spec.mapping import FrozenMap
from jailbox.spec.reference import Reference
from jailbox.store.adding import Relied
from jailbox.store.blobs import blob_file
from jailbox.store.files import Files
from jailbox.store.images import Images
from jailbox.store.layers import Layers, tree_directory
from jailbox.store.records import ImageRecord
from jailbox.store.tags import Tags

__all__ = ["ImageUsage", "Part", "Usage", "measure"]

Part: TypeAlias = tuple[Relied, Digest]
"""A blob, or the tree of a layer."""

_BLOCK = 512
"""Bytes in a unit of ``st_blocks``, whatever the file system."""


@attrs.frozen(kw_only=True)
class ImageUsage:
    """
    What one image takes.

    Attributes:
        digest: Of its manifest.

        names: Its names.

        unique: Bytes that it alone needs: what removing it would free.

        shared: Bytes that others need too.

        last_used: When it was leased last, or added, in seconds since 1970.
    """

    digest: Digest
    names: tuple[Reference, ...]
    unique: int
    shared: int
    last_used: float

    @property
    def total(self) -> int:
        """Bytes that it would take alone."""
        return self.unique + self.shared


@attrs.frozen(kw_only=True)
class Usage:
    """
    What a store takes of the disk, in bytes.

    Attributes:
        blobs: What arrived, as it arrived, of images that are there.

        layers: The same unpacked.

        records: Records, names, directories and locks.

        garbage: What `Store.gc` would delete now, or finds to be needed by an addition
            in progress.

        images: What each image takes.

        parts: The same by parts: what each image needs, and the bytes of that. What
            several need is there several times.
    """

    blobs: int
    layers: int
    records: int
    garbage: int
    images: tuple[ImageUsage, ...]
    parts: FrozenMap[Digest, FrozenMap[Part, int]] = attrs.field(repr=False)

    @property
    def total(self) -> int:
        """Everything together."""
        return self.blobs + self.layers + self.records + self.garbage


def measure(files: Files, images: Images, layers: Layers, tags: Tags) -> Usage:
    """
    Add everything up. Looks at every object once, and into no tree.

    Raises:
        ContentError: If a record is damaged.
    """
    names: dict[Digest, list[Reference]] = {}
    for reference, digest in tags.list().items():
        names.setdefault(digest, []).append(reference)
    records = images.list()
    needs = {record.digest: frozenset(_things(record)) for record in records}
    sizes = dict(_sizes(files, layers))
    users = Counter(thing for things in needs.values() for thing in things)
    found = []
    for record in records:
        things = needs[record.digest]
        unique = sum(sizes.get(each, 0) for each in things if users[each] == 1)
        shared = sum(sizes.get(each, 0) for each in things if users[each] > 1)
        found.append(
            ImageUsage(
                digest=record.digest,
                names=tuple(names.get(record.digest, ())),
                unique=unique,
                shared=shared,
                last_used=images.last_used(record.digest),
            )
        )
    used = {thing: size for thing, size in sizes.items() if users[thing]}
    return Usage(
        blobs=sum(size for thing, size in used.items() if thing[0] == "blob"),
        layers=sum(size for thing, size in used.items() if thing[0] == "tree"),
        records=sum(_own(files)),
        garbage=sum(sizes.values()) - sum(used.values()) + sum(_leftovers(files)),
        images=tuple(found),
        parts=FrozenMap(
            {
                digest: FrozenMap({each: sizes.get(each, 0) for each in things})
                for digest, things in needs.items()
            }
        ),
    )


def _things(record: ImageRecord) -> Iterator[Part]:
    for blob in record.blobs:
        yield "blob", blob.digest
    for layer in record.layers:
        yield "tree", layer.tree


def _sizes(files: Files, layers: Layers) -> Iterator[tuple[Part, int]]:
    for algorithm in ALGORITHMS:
        for entry in files.list(f"blobs/{algorithm}"):
            digest = Digest(algorithm, entry)
            yield ("blob", digest), _taken(files, blob_file(digest))
    for tree in layers.list():
        record = layers.get(tree)
        if record is not None:
            around = _taken(files, tree_directory(tree))
            noted = _taken(files, f"{tree_directory(tree)}/owners")
            yield ("tree", tree), record.disk + around + noted


def _own(files: Files) -> Iterator[int]:
    directories = ["."]
    while directories:
        directory = directories.pop()
        yield _taken(files, directory)
        for entry in files.list(directory):
            name = entry if directory == "." else f"{directory}/{entry}"
            if directory in {".", "blobs", "records"} and entry != "format":
                directories.append(name)
            elif directory not in {"trees", "tmp", "trash"} and not name.startswith(
                "blobs/"
            ):
                yield _taken(files, name)


def _leftovers(files: Files) -> Iterator[int]:
    for directory in ("tmp", "trash"):
        for entry in files.list(directory):
            yield _taken(files, f"{directory}/{entry}")


def _taken(files: Files, name: str) -> int:
    found = files.stat(name)
    return 0 if found is None else found.st_blocks * _BLOCK
