"""
Tags: names of images, one file each.

Setting one is a rename: whoever looks sees the old image or the new one, and both are
whole. It is found by its name alone, however many there are.
"""

import functools
from typing import Final

from jailbox.errors import ContentError, ImageNotFound
from jailbox.spec.digest import Digest
from jailbox.spec.reference import Reference
from jailbox.store.files import Files
from jailbox.store.images import Images
from jailbox.store.records import TagRecord, tag_file

__all__ = ["Tags"]

_CACHED: Final = 1024


class Tags:
    """The names in a store."""

    def __init__(self, files: Files, images: Images) -> None:
        self._files = files
        self._images = images
        # By its bytes: a record that was checked once need not be read again.
        self._read = functools.lru_cache(_CACHED)(TagRecord.from_bytes)

    def get(self, reference: Reference) -> Digest | None:
        """
        Return the image that a name means; ``None`` if there is no such name.

        A name without tag and digest means ``latest``.

        Raises:
            ContentError: If the record of the name is damaged.
        """
        record = self.record(tag_file(reference))
        if record is None or record.reference != reference.tagged():
            return None
        return record.digest

    def set(self, reference: Reference, digest: Digest) -> None:
        """
        Let a name mean an image. What it meant before loses the name, nothing else.

        It is on the disk when this returns.

        Raises:
            ImageNotFound: If the image is not there.
        """
        reference = reference.tagged()
        # Held, so that the image cannot go in the meantime.
        with self._images.lease(digest):
            self._files.write_over(
                tag_file(reference),
                TagRecord(reference, digest).to_bytes(),
                "set a tag",
            )

    def remove(self, reference: Reference) -> Digest:
        """
        Take a name away. The image stays.

        Returns:
            What it meant.

        Raises:
            ImageNotFound: If there is no such name.
        """
        name = tag_file(reference)
        digest = self.get(reference)
        if digest is None:
            raise ImageNotFound(reference.tagged().familiar(), where=self._files.path)
        self._files.withdraw([name], "remove a tag")
        return digest

    def list(self) -> dict[Reference, Digest]:
        """
        Return all names, sorted, with what they mean.

        Raises:
            ContentError: If a record is damaged.
        """
        found = {}
        for entry in self._files.list("tags"):
            record = self.record(f"tags/{entry}")
            if record is not None:
                found[record.reference] = record.digest
        return dict(sorted(found.items()))

    def of(self, digest: Digest) -> tuple[Reference, ...]:
        """Return all names of an image, sorted. Names whose record is damaged miss."""
        found = []
        for entry in self._files.list("tags"):
            try:
                record = self.record(f"tags/{entry}")
            except ContentError:
                continue
            if record is not None and record.digest == digest:
                found.append(record.reference)
        return tuple(sorted(found))

    def file_of(self, record: TagRecord) -> str:
        """Name the file that a record belongs in."""
        return tag_file(record.reference)

    def record(self, name: str) -> TagRecord | None:
        """
        Read the file of a tag; ``None`` if it is not there.

        Raises:
            ContentError: If it is damaged.
        """
        data = self._files.read(name, "read a tag")
        return None if data is None else self._read(data, self._files.where(name))
