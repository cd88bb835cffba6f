"""
Layers that a jail wrote: packed, and then kept as they stand.

A jail writes into a directory below ``tmp``, as the upper directory of its overlay
(`jailbox.engine.local.LocalEngine.run_on`). What is there afterwards is the tree of a
layer already, with the same marks and owners as one that was unpacked. So it is read
once, to become the packed blob, and then renamed: nothing is written twice.

    with store.adding(), writing(store) as layer:
        drive(engine.run_on(layer.fileno(), spec, io))
        record, descriptor = layer.keep(workshop, parents=below)
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, Protocol

from jailbox.linux.workshop import DEFAULT_PACKING, PackPolicy
from jailbox.spec.descriptor import Descriptor
from jailbox.spec.media import Compression
from jailbox.store.diff import PackedLayer, pack_layer
from jailbox.store.files import Temporary
from jailbox.store.layers import Below
from jailbox.store.records import LayerRecord
from jailbox.store.store import Store

__all__ = ["Packed", "Packer", "Written", "store_layer", "writing"]

_UPPER = "0-upper"
"""What a jail calls the directory (`jailbox.run.overlays.UPPER`)."""


class Packed(Protocol):
    """What became an archive."""

    @property
    def entries(self) -> int:
        """How many entries it has."""

    @property
    def left_out(self) -> int:
        """How many things no archive can hold."""


class Packer(Protocol):
    """Makes archives of trees: `jailbox.linux.workshop.Workshop`."""

    def pack(
        self,
        tree: int,
        out: int,
        *,
        kind: Literal["tree", "layer"] = ...,
        policy: PackPolicy = ...,
    ) -> Packed:
        """Turn a tree into a tar archive."""


def store_layer(
    store: Store,
    packer: Packer,
    tree: int,
    *,
    compression: Compression = "zstd",
    policy: PackPolicy = DEFAULT_PACKING,
) -> tuple[Packed, PackedLayer]:
    """
    Pack the upper directory of an overlay into a blob of the store.

    Args:
        store: Where to; within `Store.adding`, or the blob is garbage.

        packer: Who reads the tree.

        tree: Descriptor of the directory.

        compression: How it is packed.

        policy: Times and ids.
    """
    work: Callable[[int], Packed] = lambda pipe: packer.pack(  # noqa: E731
        tree, pipe, kind="layer", policy=policy
    )
    with store.blobs.writer() as sink:
        return pack_layer(work, compression=compression, sink=sink)


class Written:
    """A layer that is being written, below ``tmp``; see `writing`."""

    def __init__(self, store: Store, temporary: Temporary) -> None:
        self._store = store
        self._temporary = temporary
        self._kept = False

    def fileno(self) -> int:
        """The directory that is given to a jail, owned here."""
        return self._temporary.fileno()

    def keep(
        self,
        packer: Packer,
        *,
        parents: Sequence[Below] = (),
        compression: Compression = "zstd",
        policy: PackPolicy = DEFAULT_PACKING,
    ) -> tuple[LayerRecord, Descriptor]:
        """
        Keep what was written as a layer of the store; once.

        Call it within `Store.adding`, when the jail is gone. If the store has the same
        layer already, that one is taken.

        Args:
            packer: Who reads the tree.

            parents: The layers below it, the lowest first.

            compression: How its blob is packed.

            policy: Times in the archive. Those of the tree stay as they are.

        Returns:
            The layer, and what points to its blob in a manifest.

        Raises:
            LayerError: If there is something that no layer can say.

            StoreError: If the disk refuses, or something changed while it was read.
        """
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        files = self._store._files  # noqa: SLF001  # of the same room
        with files.trying("keep a layer", self._temporary.name):
            tree = os.open(_UPPER, flags, dir_fd=self.fileno())
        try:
            came, packed = store_layer(
                self._store, packer, tree, compression=compression, policy=policy
            )
        finally:
            os.close(tree)
        descriptor = Descriptor(
            media_type=packed.media_type, digest=packed.digest, size=packed.size
        )
        if came.left_out:
            # There is more in the tree than in the layer: sockets.
            record = self._store.layers.add(
                packed.digest,
                media_type=packed.media_type,
                diff_id=packed.diff_id,
                parents=parents,
            )
        else:
            record = self._adopt(packed, came.entries, parents)
        return record, descriptor

    def _adopt(
        self, packed: PackedLayer, entries: int, parents: Sequence[Below]
    ) -> LayerRecord:
        layers = self._store.layers
        with layers._lock(packed.diff_id, None):  # noqa: SLF001  # of the same room
            found = layers.find(packed.diff_id, parents)
            if found is not None:
                return found
            record = layers.publish_tree(packed, entries, self._temporary, _UPPER)
            self._kept = True
            return record

    def close(self) -> None:
        """Remove what was not kept. Idempotent."""
        if not self._kept:
            self._kept = True
            self._store._trash.drop(self._temporary)  # noqa: SLF001  # likewise
        self._temporary.close()


@contextlib.contextmanager
def writing(store: Store) -> Iterator[Written]:
    """
    Make a directory for a layer to be written into; what is not kept is removed.

    Raises:
        StoreError: If it cannot be made.
    """
    files = store._files  # noqa: SLF001  # of the same room
    written = Written(store, files.temporary("write a layer", directory=True))
    try:
        yield written
    finally:
        written.close()
