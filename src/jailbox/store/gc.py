"""
Garbage: whatever has no record, or a record that nothing reaches.

Deciding is quick and keeps additions out for that long; deleting takes its time, when
everybody may add again. Both can end at any moment: what was decided is invisible, and
the next run goes on. What is in use is never garbage: an image that is leased keeps its
record, and a record keeps everything it speaks of.
"""

import attrs

from jailbox.errors import ContentError
from jailbox.spec.digest import ALGORITHMS, Digest
from jailbox.store.adding import Additions, GcLock
from jailbox.store.blobs import blob_file
from jailbox.store.files import Files
from jailbox.store.images import Images
from jailbox.store.trash import Trash

__all__ = ["Collected", "Collector"]


@attrs.frozen(kw_only=True)
class Collected:
    """
    What a run of gc did.

    Attributes:
        blobs: How many it deleted.

        layers: How many it deleted.

        leftovers: How many files and directories of additions, processes and
            deletions that ended too early.

        damaged: Images whose record cannot be read. As long as there are any, nobody
            knows what they need, and no blob or layer is deleted.
    """

    blobs: int = 0
    layers: int = 0
    leftovers: int = 0
    damaged: tuple[Digest, ...] = ()


class Collector:
    """The gc of a store."""

    def __init__(
        self,
        files: Files,
        additions: Additions,
        gc_lock: GcLock,
        images: Images,
        trash: Trash,
    ) -> None:
        self._files = files
        self._additions = additions
        self._gc_lock = gc_lock
        self._images = images
        self._trash = trash

    def run(self, timeout: float | None = None) -> Collected:
        """
        Delete all garbage. See `Store.gc`.

        Raises:
            DeadlineExceeded: If somebody adds something for longer than that.
        """
        away: list[str] = []
        with self._gc_lock.exclusive(timeout):
            needed = self._additions.living()
            damaged = []
            for digest in self._images.digests():
                try:
                    record = self._images.get(digest)
                except ContentError:
                    damaged.append(digest)
                    continue
                if record is not None:
                    needed["blob"].update(blob.digest for blob in record.blobs)
                    needed["tree"].update(layer.tree for layer in record.layers)
            blobs = layers = 0
            if not damaged:
                layers = self._layers(needed["tree"], away)
                blobs = self._blobs(needed["blob"])
            leftovers = self._temporaries(away) + self._locks()
        # What was given up earlier, and what was decided now.
        earlier = self._trash.empty()
        for name in away:
            if not name.startswith("trash/"):
                self._trash.delete(name)
        return Collected(
            blobs=blobs,
            layers=layers,
            leftovers=leftovers + max(0, earlier - len(away)),
            damaged=tuple(damaged),
        )

    def _layers(self, needed: set[Digest], away: list[str]) -> int:
        keep = {tree.hex for tree in needed}
        records = [
            f"records/layers/{entry}"
            for entry in self._files.list("records/layers")
            if entry.removesuffix(".json") not in keep
        ]
        self._files.withdraw(records, "remove a layer")
        have = {
            entry.removesuffix(".json") for entry in self._files.list("records/layers")
        }
        trees = [entry for entry in self._files.list("trees") if entry not in have]
        for entry in trees:
            name = self._trash.take(f"trees/{entry}", "remove a layer")
            if name is not None:
                away.append(name)
        return len(trees)

    def _blobs(self, needed: set[Digest]) -> int:
        keep = {blob_file(digest) for digest in needed}
        gone = 0
        for algorithm in ALGORITHMS:
            for entry in self._files.list(f"blobs/{algorithm}"):
                name = f"blobs/{algorithm}/{entry}"
                if name not in keep:
                    # No record spoke of it, so nobody has to be told in which order.
                    self._files.discard(name)
                    gone += 1
        return gone

    def _temporaries(self, away: list[str]) -> int:
        """Move to the trash what was being made by somebody who is gone."""
        gone = 0
        for entry in self._files.list("tmp"):
            name = f"tmp/{entry}"
            held = self._files.try_lock(name)
            if held is not None:
                with held:
                    moved = self._trash.take(name, "remove a leftover")
                if moved is not None:
                    away.append(moved)
                    gone += 1
        return gone

    def _locks(self) -> int:
        """Remove lock files that nobody holds, but for those that everybody uses."""
        gone = 0
        for entry in self._files.list("locks"):
            if not entry.startswith("layer-"):
                continue
            name = f"locks/{entry}"
            held = self._files.try_lock(name)
            if held is not None:
                with held:
                    self._files.discard(name)
        return gone
