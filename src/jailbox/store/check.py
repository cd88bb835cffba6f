"""
Whether everything in a store is what it should be.

A quick check looks at every record and at whether what it speaks of is there, and as
long as it should be. A full one reads every byte: blobs against their digest, trees
against what comes of unpacking them again, or a fingerprint where that cannot be done.

Others may add and remove in the meantime. What looks wrong is looked at again, and is
only told if the record that speaks of it is still there.
"""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Literal, TypeAlias

import attrs

from jailbox.errors import ContentError, JailboxError, NotFound
from jailbox.spec.digest import Digest
from jailbox.spec.document import ImageDocument, Manifest
from jailbox.store.blobs import Blobs, blob_file
from jailbox.store.files import Files
from jailbox.store.images import Images
from jailbox.store.layers import Layers, Unverifiable, tree_directory
from jailbox.store.records import ImageRecord, image_file, layer_file
from jailbox.store.tags import Tags

__all__ = ["CheckReport", "Checker", "Damage", "Kind"]

Kind: TypeAlias = Literal["tag", "image", "layer", "blob", "tree"]

_CHUNK = 1 << 20


@attrs.frozen
class Damage:
    """
    One thing that is not what it should be.

    Attributes:
        kind: What it is.

        name: Its name: a digest, or the file of a tag.

        path: Where it is.

        problem: What is wrong with it.
    """

    kind: Kind
    name: str
    path: str
    problem: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.problem} ({self.path})"


@attrs.frozen
class CheckReport:
    """
    What a check found.

    Attributes:
        objects: How many tags, images, layers and blobs were looked at.

        damage: What is wrong; empty for a store in which all is well.

        unverified: How many layers could not be read against anything, for what they
            were unpacked from is not here.
    """

    objects: int
    damage: tuple[Damage, ...]
    unverified: int = 0

    @property
    def ok(self) -> bool:
        """Whether all is well."""
        return not self.damage


class Checker:
    """Looks at everything in a store."""

    def __init__(
        self,
        files: Files,
        blobs: Blobs,
        layers: Layers,
        images: Images,
        tags: Tags,
    ) -> None:
        self._files = files
        self._blobs = blobs
        self._layers = layers
        self._images = images
        self._tags = tags

    def run(self, *, full: bool) -> CheckReport:
        """
        Look at everything. See `Store.check`.
        """
        layers, found, unverified = self._check_layers(full=full)
        parts = [self._check_tags(), self._check_images(full=full), (layers, found)]
        if full:
            parts.append(self._check_blobs())
        return CheckReport(
            sum(count for count, _ in parts),
            tuple(dict.fromkeys(each for _, damage in parts for each in damage)),
            unverified,
        )

    # ---- tags --------------------------------------------------------------

    def _check_tags(self) -> tuple[int, list[Damage]]:
        entries = self._files.list("tags")
        found = []
        for entry in entries:
            name = f"tags/{entry}"
            problem = self._tag_problem(name)
            if problem is not None and self._files.stat(name) is not None:
                # Once more: it may have meant another image a moment ago.
                problem = self._tag_problem(name)
                if problem is not None:
                    found.append(self._damage("tag", entry, name, problem))
        return len(entries), found

    def _tag_problem(self, name: str) -> str | None:
        try:
            record = self._tags.record(name)
            if record is None:
                return None
            if self._tags.file_of(record) != name:
                return f"is the record of {record.reference}"
            if self._files.stat(image_file(record.digest)) is None:
                return f"means {record.digest}, which is not there"
        except JailboxError as error:
            return str(error)
        return None

    # ---- images ------------------------------------------------------------

    def _check_images(self, *, full: bool) -> tuple[int, list[Damage]]:
        digests = self._images.digests()
        found = []
        for digest in digests:
            name = image_file(digest)
            problems = list(self._image_problems(digest, full=full))
            if problems and self._files.stat(name) is not None:
                found += problems
        return len(digests), found

    def _image_problems(self, digest: Digest, *, full: bool) -> Iterator[Damage]:
        name = image_file(digest)
        try:
            record = self._images.get(digest)
        except ContentError as error:
            yield self._damage("image", str(digest), name, str(error))
            return
        if record is None:
            return
        for blob in record.blobs:
            size = self._blobs.size(blob.digest)
            if size is None:
                problem = f"is not there, though image {digest.short} needs it"
            elif size != blob.size:
                problem = f"has {size} bytes instead of {blob.size}"
            else:
                continue
            place = blob_file(blob.digest)
            yield self._damage("blob", str(blob.digest), place, problem)
        for layer in record.layers:
            if self._files.stat(layer_file(layer.tree)) is None:
                problem = f"has no record, though image {digest.short} needs it"
                place = layer_file(layer.tree)
                yield self._damage("layer", str(layer.tree), place, problem)
        if full:
            problem_or_none = self._document_problem(record)
            if problem_or_none is not None:
                yield self._damage("image", str(digest), name, problem_or_none)

    def _document_problem(self, record: ImageRecord) -> str | None:
        """Compare the record with the documents that it was made of."""
        try:
            manifest = Manifest.from_bytes(
                self._blobs.read(record.digest), record.media_type
            )
            config = self._blobs.read(manifest.config.digest)
            document = ImageDocument.from_bytes(config)
            document.check(manifest)
        except NotFound:
            return None  # Told as a blob that is not there.
        except JailboxError as error:
            return str(error)
        if document.diff_ids != tuple(layer.diff_id for layer in record.layers):
            return "its layers are not those of its config"
        return None

    # ---- layers and blobs ----------------------------------------------------

    def _check_layers(self, *, full: bool) -> tuple[int, list[Damage], int]:
        trees = self._layers.list()
        packed = self._packed() if full else {}
        found = []
        unverified = 0
        for tree in trees:
            try:
                damage = self._layer_problem(tree, packed.get(tree, ()), full=full)
            except Unverifiable:
                unverified += 1
                continue
            if damage and self._files.stat(layer_file(tree)) is not None:
                found.append(damage)
        return len(trees), found, unverified

    def _packed(self) -> dict[Digest, list[tuple[Digest, str]]]:
        """Find out which blobs each tree could have been unpacked from."""
        found: dict[Digest, list[tuple[Digest, str]]] = {}
        for digest in self._images.digests():
            # What cannot be read is told where images are checked.
            with contextlib.suppress(JailboxError):
                record = self._images.get(digest)
                if record is not None:
                    data = self._images.manifest(record)
                    manifest = Manifest.from_bytes(data, record.media_type)
                    for layer, blob in zip(record.layers, manifest.layers, strict=True):
                        one = (blob.digest, blob.media_type)
                        found.setdefault(layer.tree, []).append(one)
        return found

    def _layer_problem(
        self, tree: Digest, packed: Iterable[tuple[Digest, str]], *, full: bool
    ) -> Damage | None:
        name, place = layer_file(tree), tree_directory(tree)
        try:
            record = self._layers.get(tree)
        except ContentError as error:
            return self._damage("layer", str(tree), name, str(error))
        if record is None:
            return self._damage("tree", str(tree), place, "is not there")
        if not full:
            return None
        if record.blob is not None:
            packed = [*packed, (record.blob, record.media_type)]
        try:
            problem = self._layers.problem(record, packed)
        except JailboxError as error:
            problem = str(error)
        if problem is None:
            return None
        return self._damage("tree", str(tree), place, problem)

    def _check_blobs(self) -> tuple[int, list[Damage]]:
        digests = self._blobs.list()
        found = []
        for digest in digests:
            hasher = digest.hasher()
            try:
                with (
                    self._blobs.open(digest) as file,
                    self._files.trying("read a blob", blob_file(digest)),
                ):
                    while chunk := file.read(_CHUNK):
                        hasher.update(chunk)
            except NotFound:
                continue
            except JailboxError as error:
                problem = str(error)
            else:
                actual = hasher.hexdigest()
                if actual == digest.hex:
                    continue
                problem = f"has the digest {digest.algorithm}:{actual}"
            found.append(self._damage("blob", str(digest), blob_file(digest), problem))
        return len(digests), found

    def _damage(self, kind: Kind, name: str, place: str, problem: str) -> Damage:
        return Damage(kind, name, self._files.where(place), problem)
