"""
The store as its users hold it: rooms of one directory, and the verbs that need several.
"""

import contextlib
import os
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import attrs

from jailbox.errors import ContentError, ImageNotFound, InUse
from jailbox.linux.workshop import DEFAULT_POLICY, UnpackPolicy
from jailbox.spec.digest import Digest
from jailbox.spec.reference import Reference
from jailbox.store.adding import Additions, GcLock
from jailbox.store.blobs import Blobs
from jailbox.store.check import Checker, CheckReport
from jailbox.store.decompress import open_layer
from jailbox.store.files import Temporary
from jailbox.store.gc import Collected, Collector
from jailbox.store.images import Images
from jailbox.store.layers import Layers, Opener
from jailbox.store.leases import Lease
from jailbox.store.place import default_path, open_store
from jailbox.store.prune import Ledger, Pruned, candidates, is_old
from jailbox.store.records import ImageRecord, tag_file
from jailbox.store.tags import Tags
from jailbox.store.trash import Trash
from jailbox.store.usage import Usage, measure
from jailbox.store.volumes import Volumes
from jailbox.store.workshop import Workshop

__all__ = ["Store"]


class Store:
    """
    Images in a directory that processes share.

    Thread-safe. Close it, or use it as a context manager; leases outlive it.

    Attributes:
        path: Where it is, absolute.

        blobs: Bytes by digest.

        layers: Unpacked layers.

        images: Images by the digest of their manifest.

        tags: Names of images.

        volumes: Directories that outlast containers.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        *,
        workshop: Callable[[], Workshop],
        opener: Opener = open_layer,
        policy: UnpackPolicy = DEFAULT_POLICY,
        read_only: bool = False,
        timeout: float = 600,
    ) -> None:
        """
        Open a store; make one if there is none.

        Args:
            path: Its directory; ``None`` for this user's. See `default_path`.

            workshop: Gives who works on trees; asked when there is work.

            opener: Makes plain bytes of packed layers.

            policy: Bounds of layers that are unpacked, and how their files are owned.

            read_only: Never write: images can be found and leased.

            timeout: Seconds to wait for what other processes hold, unless a call says
                otherwise.

        Raises:
            SpecError: If there is something else than a store.

            ContentError: If it has a newer format.

            StoreError: If it cannot be opened or made.

            Unsupported: If its file system lacks something that a store needs.
        """
        where = default_path() if path is None else os.fspath(path)
        self._files = open_store(where, read_only=read_only, timeout=timeout)
        self.path = self._files.path
        gc_lock = GcLock(self._files)
        self._additions = Additions(self._files, gc_lock)
        self._trash = Trash(self._files, workshop)
        self.blobs = Blobs(self._files, self._additions)
        self.layers = Layers(
            self._files,
            self._additions,
            self.blobs,
            self._trash,
            workshop,
            opener,
            policy,
        )
        self.images = Images(
            self._files, self._additions, gc_lock, self.blobs, self.layers
        )
        self.tags = Tags(self._files, self.images)
        self.volumes = Volumes(self._files, gc_lock, self._trash, workshop)
        self._collector = Collector(
            self._files, self._additions, gc_lock, self.images, self._trash
        )
        self._checker = Checker(
            self._files, self.blobs, self.layers, self.images, self.tags
        )

    # ---- finding -----------------------------------------------------------

    def get(self, wish: Reference | Digest | str) -> ImageRecord:
        """
        Find an image: by name, by digest, or by the first digits of its digest.

        Raises:
            ImageNotFound: If it is not there.

            InvalidReference: If a text is neither name nor digits.
        """
        if isinstance(wish, str):
            try:
                return self.get(Reference.parse(wish))
            except ImageNotFound:
                with contextlib.suppress(ImageNotFound):
                    return self.images.find(wish.removeprefix("sha256:"))
                raise
        digest = wish if isinstance(wish, Digest) else self.tags.get(wish)
        found = None if digest is None else self.images.get(digest)
        if found is None:
            raise _not_found(wish, self.path)
        return found

    def lease(self, wish: ImageRecord | Reference | Digest) -> Lease:
        """
        Find an image and keep it from being removed, in one step.

        Costs the same however many images there are.

        Raises:
            ImageNotFound: If it is not there.
        """
        if isinstance(wish, ImageRecord):
            return self.images.lease(wish.digest)
        if isinstance(wish, Digest):
            return self.images.lease(wish)
        before = None
        while (digest := self.tags.get(wish)) is not None and digest != before:
            try:
                return self.images.lease(digest)
            except ImageNotFound:
                # It got another meaning, and the old one was removed: look again.
                before = digest
        raise _not_found(wish, self.path)

    # ---- adding ------------------------------------------------------------

    def adding(self) -> contextlib.AbstractContextManager[None]:
        """
        Keep everything that is added or found until the end of the block.

        Blobs and layers come before the image that needs them, and are garbage to gc
        until that is there: wrap a whole pull or load in this. Threads and nested
        blocks of one `Store` share it. If the process dies it ends.
        """
        return self._additions.open()

    def spool(self) -> Temporary:
        """
        Make a file in the store for bytes on their way; closing it removes it.

        Raises:
            StoreError: If it cannot be made.
        """
        return self._files.temporary("keep what is read")

    # ---- removing ----------------------------------------------------------

    def remove(self, wish: Reference | Digest, *, force: bool = False) -> None:
        """
        Remove a name, and the image if that was its last one; or an image by digest.

        What nothing needs any more is deleted by `gc`.

        Args:
            wish: A name, or the digest of an image.

            force: Given a digest, remove its names too.

        Raises:
            ImageNotFound: If it is not there.

            InUse: If the image is leased, or has names and *force* is not given.
                Nothing was removed.
        """
        if isinstance(wish, Digest):
            names = self.tags.of(wish)
            if names and not force:
                raise InUse(
                    "image",
                    str(wish),
                    (name.familiar() for name in names),
                    hint="Remove these names, or use force=True.",
                )
            self.images.remove(
                wish, lambda: tuple(map(tag_file, self.tags.of(wish) if force else ()))
            )
            return
        digest = self.tags.get(wish)
        if digest is None:
            raise _not_found(wish, self.path)
        if self.tags.of(digest) == (wish.tagged(),):
            self.images.remove(digest, lambda: (tag_file(wish),))
        else:
            self.tags.remove(wish)

    def prune(
        self,
        *,
        max_bytes: int | None = None,
        older_than: float | None = None,
        timeout: float | None = None,
    ) -> Pruned:
        """
        Remove images that were not used for long, with their names, and the garbage.

        The least recently used go first, and those that are in use never. Without
        arguments those go that have no name.

        Args:
            max_bytes: Remove until the store takes no more than that.

            older_than: Remove what was not used for so many seconds.

            timeout: As for `gc`.
        """
        self.gc(timeout=timeout)
        before, now = self.usage(), time.time()
        ledger = Ledger(before)
        removed, kept = [], []
        for image in candidates(
            before, now=now, max_bytes=max_bytes, older_than=older_than
        ):
            enough = max_bytes is not None and ledger.total <= max_bytes
            if enough and not is_old(image, now, older_than):
                continue
            try:
                self.remove(image.digest, force=True)
            except InUse:
                kept.append(image.digest)
                continue
            except ImageNotFound:
                pass  # Somebody else removed it: what it took is gone with it.
            else:
                removed.append(image.digest)
            ledger.remove(image.digest)
        self.gc(timeout=timeout)
        total = self.usage().total
        return Pruned(
            removed=tuple(removed),
            kept=tuple(kept),
            freed=max(0, before.total - total),
            total=total,
        )

    def gc(self, *, timeout: float | None = None) -> Collected:
        """
        Delete what no image and no addition in progress needs.

        Harmless at any time, in any number of processes: what is in use stays.

        Args:
            timeout: Seconds to wait for others to let it decide.

        Raises:
            DeadlineExceeded: If somebody adds something for longer than that.
        """
        collected = self._collector.run(timeout)
        # A damaged record is told by whoever wants that volume.
        with contextlib.suppress(ContentError):
            gone = self.volumes.collect(timeout)
            collected = attrs.evolve(collected, leftovers=collected.leftovers + gone)
        return collected

    # ---- looking at all of it ----------------------------------------------

    def usage(self) -> Usage:
        """
        Add up what the store takes of the disk, and which image takes how much of it.

        Raises:
            ContentError: If a record is damaged; `check` tells which are.
        """
        return measure(self._files, self.images, self.layers, self.tags)

    def check(self, *, full: bool = False) -> CheckReport:
        """
        Look whether everything is what it should be. Nothing is changed.

        Takes a moment for each object; with *full*, as long as reading everything: a
        single bit that has flipped in a blob or in a file of a layer is found.
        """
        return self._checker.run(full=full)

    # ---- owning ------------------------------------------------------------

    def close(self) -> None:
        """Let go of the directory. Idempotent; what is leased stays leased."""
        self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Store({self.path!r})"


def _not_found(wish: Reference | Digest, where: str) -> ImageNotFound:
    name = str(wish) if isinstance(wish, Digest) else wish.tagged().familiar()
    return ImageNotFound(name, where=where)
