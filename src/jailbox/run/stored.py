"""
An image of a store as a root file system.
"""

import os
import stat

import attrs

from jailbox.errors import ContentError, NotFound
from jailbox.linux.inroot import FILE_MAX
from jailbox.run.names import Etc
from jailbox.run.rootfs import Rootfs, stack_of
from jailbox.spec.image import DEFAULT_PATH, ImageConfig
from jailbox.store.records import ImageRecord
from jailbox.store.store import Store

__all__ = ["StoredImage", "read_stored"]


@attrs.frozen
class StoredImage:
    """
    What a start needs of an image in a store. It never changes: read once.

    Attributes:
        trees: Where its layers are, the uppermost first.

        config: How it wants to be run.

        passwd: The text of its ``/etc/passwd``.

        group: The text of its ``/etc/group``.

        etc: What its ``/etc`` is like, if it is a directory.
    """

    trees: tuple[str, ...]
    config: ImageConfig
    passwd: str
    group: str
    etc: Etc | None

    def rootfs(self) -> Rootfs:
        """
        Put its root together, as it is on the disk now.

        Raises:
            ContentError: If a layer is not there.
        """
        try:
            found = [os.stat(tree, follow_symlinks=False).st_ino for tree in self.trees]
        except OSError as error:
            raise ContentError(
                f"a layer of the image is not there: {error.filename}",
                hint="The store was changed by something else: load the image again.",
            ) from error
        return Rootfs(
            layers=self.trees,
            # Held by a keeper, a tree keeps its inode from being given to another.
            stack=stack_of(self.trees, ",".join(map(str, found))),
            config=self.config,
            passwd=self.passwd,
            group=self.group,
            etc=self.etc,
        )


def read_stored(store: Store, record: ImageRecord) -> StoredImage:
    """
    Look at an image of which a lease is held.

    Raises:
        ContentError: If something of it is damaged.
    """
    trees = [store.layers.path(layer.tree) for layer in reversed(record.layers)]
    config = store.images.document(record).config
    return StoredImage(
        trees=tuple(trees),
        config=attrs.evolve(config, env={"PATH": DEFAULT_PATH} | dict(config.env)),
        passwd=_stored_text(store, record, "/etc/passwd"),
        group=_stored_text(store, record, "/etc/group"),
        etc=_etc(store, record),
    )


def _etc(store: Store, record: ImageRecord) -> Etc | None:
    with store.images.merged(record) as merged:
        found = merged.child(merged.root(), "etc")
    if found is None:
        return Etc()
    return Etc(stat.S_IMODE(found.status.st_mode)) if found.is_directory else None


def _stored_text(store: Store, record: ImageRecord, path: str) -> str:
    try:
        with store.images.open_file(record, path) as file:
            return file.read(FILE_MAX).decode("utf-8", "replace")
    except NotFound:
        return ""
