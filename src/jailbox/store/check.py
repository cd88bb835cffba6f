"""
Whether everything in a store is what it should be.

A quick check looks at every record and at whether what it speaks of is there, and as
long as it should be. A full one reads every byte: blobs against their digest, trees
against the fingerprint that was taken when they were unpacked.

Others may add and remove in the meantime. What looks wrong is looked at again, and is
only told if the record that speaks of it is still there.
"""

from collections.abc import Callable, Iterator
from typing import Literal, TypeAlias

import attrs

from jailbox.errors import ContentError, JailboxError, NotFound
from jailbox.spec.digest import Digest
from jailbox.spec.document import ImageDocument, Manifest
from jailbox.store.blobs import Blobs, blob_file
from jailbox.store.files import Files
from jailbox.store.images import Images
from jailbox.store.layers import Layers, tree_directory
from jailbox.store.records import ImageRecord, image_file, layer_file
from jailbox.store.tags import Tags
from jailbox.store.workshop import Workshop

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
    """

    objects: int
    damage: tuple[Damage, ...]

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
        workshop: Callable[[], Workshop],
    ) -> None:
        self._files = files
        self._blobs = blobs
        self._layers = layers
        self._images = images
        self._tags = tags
        self._workshop = workshop

    def run(self, *, full: bool) -> CheckReport:
        """
        Look at everything. See `Store.check`.
        """
        damage: list[Damage] = []
        objects = 0
        parts = [
            self._check_tags(),
            self._check_images(full=full),
            self._check_layers(full=full),
        ]
        if full:
            parts.append(self._check_blobs())
        for count, found in parts:
            objects += count
            damage += found
        return CheckReport(objects, tuple(dict.fromkeys(damage)))

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

    def _check_layers(self, *, full: bool) -> tuple[int, list[Damage]]:
        trees = self._layers.list()
        found = []
        for tree in trees:
            damage = self._layer_problem(tree, full=full)
            if damage is not None and self._files.stat(layer_file(tree)) is not None:
                found.append(damage)
        return len(trees), found

    def _layer_problem(self, tree: Digest, *, full: bool) -> Damage | None:
        name, place = layer_file(tree), tree_directory(tree)
        try:
            record = self._layers.get(tree)
        except ContentError as error:
            return self._damage("layer", str(tree), name, str(error))
        if record is None:
            return self._damage("tree", str(tree), place, "is not there")
        if not full:
            return None
        try:
            self._layers.noted(record)
            with self._layers.opened(tree) as root:
                fingerprint = self._workshop().fingerprint(root)
        except JailboxError as error:
            return self._damage("tree", str(tree), place, str(error))
        if fingerprint != record.fingerprint:
            problem = "has changed since it was unpacked"
            return self._damage("tree", str(tree), place, problem)
        return None

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
