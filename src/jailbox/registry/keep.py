"""
Images between registries and the store of this machine.

A layer is unpacked while it arrives: it is written as a blob, and read along. Each has
a thread of its own, which ends with it; one that cannot stand alone waits for those
below it.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

from jailbox.errors import ContentError
from jailbox.registry.client import Client, OnEvent
from jailbox.registry.http import CHUNK
from jailbox.registry.pull import Pulled, pull
from jailbox.registry.push import push
from jailbox.registry.transfer import Layer, Sink
from jailbox.spec.descriptor import Descriptor
from jailbox.spec.digest import Digest
from jailbox.spec.platform import Platform
from jailbox.spec.reference import Reference
from jailbox.store.arriving import Arriving
from jailbox.store.blobs import BlobWriter
from jailbox.store.records import ImageRecord, LayerRecord
from jailbox.store.store import Store

__all__ = ["StoreDestination", "StoreSource", "pull_image", "push_image"]

# Seconds between two looks whether the pull is still on.
_LOOK_EVERY = 0.05


def pull_image(
    client: Client,
    store: Store,
    reference: Reference,
    *,
    platform: Platform,
    smaller: bool = False,
    insist: bool = True,
    timeout: float | None = None,
    on_event: OnEvent | None = None,
) -> ImageRecord:
    """
    Pull an image into a store, and give it its name there.

    Until everything is there, nothing is visible. What came before a failure is found
    again by the next attempt, unless `Store.gc` ran in between.

    Args:
        As `jailbox.registry.pull.pull`.

    Raises:
        As `pull`; and `UnsupportedMediaType`, if it is no image but something else; and
        `StoreError`, if the disk is full or fails.
    """
    with store.adding():
        pulled = pull(
            client,
            reference,
            StoreDestination(store),
            platform=platform,
            smaller=smaller,
            insist=insist,
            timeout=timeout,
            on_event=on_event,
        )
        return _record(store, reference, pulled)


def _record(store: Store, reference: Reference, pulled: Pulled) -> ImageRecord:
    also = [pulled.top.digest] if pulled.top.digest != pulled.manifest.digest else []
    media_type = pulled.manifest.media_type
    record = store.images.add(pulled.manifest_data, media_type, also=also)
    store.tags.set(reference, record.digest)
    return record


def push_image(
    client: Client,
    store: Store,
    image: Reference | Digest,
    reference: Reference,
    *,
    near: Iterable[Reference] = (),
    timeout: float | None = None,
    on_event: OnEvent | None = None,
) -> Descriptor:
    """
    Push an image of a store.

    Args:
        image: Which one.

        reference: What it is to be called.

        near: Under which names its blobs may be in the same registry.

    Returns:
        What the name stands for now.

    Raises:
        ImageNotFound: If the store has no such image.

        NotFound: If the store has not kept a packed layer of it.

        As `jailbox.registry.push.push`.
    """
    with store.lease(image) as lease:
        record = lease.record
        data = store.images.manifest(record)
        top = Descriptor(
            media_type=record.media_type, digest=record.digest, size=len(data)
        )
        names = [*near, *store.tags.of(record.digest)]
        return push(
            client,
            top,
            StoreSource(store),
            reference,
            near=dict.fromkeys(names),
            timeout=timeout,
            on_event=on_event,
        )


class StoreSource:
    """A store, as what `jailbox.registry.push.push` asks."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def document(self, descriptor: Descriptor, /) -> bytes:
        """Return the bytes of a manifest."""
        return self._store.blobs.read(descriptor.digest)

    def has_blob(self, blob: Descriptor, /) -> bool:
        """Return whether a blob is there."""
        return self._store.blobs.has(blob.digest, blob.size)

    def pieces(self, blob: Descriptor, /) -> Iterator[bytes]:
        """Read a blob. The registry checks what arrives."""
        with self._store.blobs.open(blob.digest) as file:
            while piece := file.read(CHUNK):
                yield piece


class StoreDestination:
    """
    A store, as what `jailbox.registry.pull.pull` asks: for one image.

    To be used within `Store.adding`.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._slots: dict[tuple[Digest, ...], _Slot] = {}

    def has_blob(self, blob: Descriptor, /) -> bool:
        """Return whether a blob is there."""
        return self._store.blobs.has(blob.digest, blob.size)

    def blob(self, blob: Descriptor, /) -> AbstractContextManager[Sink]:
        """Begin to take a blob."""
        return self._store.blobs.writer(blob.digest, blob.size)

    def read(self, blob: Descriptor, /) -> bytes:
        """Return the bytes of a small blob."""
        return self._store.blobs.read(blob.digest)

    def document(self, descriptor: Descriptor, data: bytes, /) -> None:
        """Keep a manifest or an index."""
        self._store.blobs.put(data, descriptor.digest)

    def has_layer(self, layer: Layer, /) -> bool:
        """Return whether blob and tree are there; make the tree of the blob."""
        slot = self._slot(layer.diff_ids)
        slot.found(self._find(layer))
        if not self.has_blob(layer.blob):
            return False
        if slot.is_there:
            return True
        try:
            slot.found(self._add(layer.blob.digest, layer))
        except ContentError:
            # It has rotted, or is not what the image says: the registry's word counts.
            return False
        return True

    @contextmanager
    def layer(self, layer: Layer, /) -> Iterator[Sink]:
        """Begin to take a layer, and to unpack it while it comes."""
        slot = self._slot(layer.diff_ids)
        with self._store.blobs.writer(layer.blob.digest, layer.blob.size) as writer:
            if slot.is_there:
                yield writer
                return
            arriving = Arriving(writer, layer.blob.digest)
            unpacking = _Unpacking(lambda: self._add(arriving, layer))
            try:
                unpacking.start()
                yield _LayerSink(writer, arriving, unpacking, layer, slot)
            finally:
                # Nobody waits for what will not come: close first.
                arriving.close()
                unpacking.join()

    # ---- parts -------------------------------------------------------------------

    def _find(self, layer: Layer) -> LayerRecord | None:
        return self._store.layers.find(layer.diff_id, self._below(layer))

    def _add(self, source: Digest | Arriving, layer: Layer) -> LayerRecord:
        return self._store.layers.add(
            source,
            media_type=layer.blob.media_type,
            diff_id=layer.diff_id,
            parents=self._below(layer),
        )

    def _below(self, layer: Layer) -> "tuple[_Lower, ...]":
        counts = range(1, len(layer.diff_ids))
        return tuple(
            _Lower(
                layer.diff_ids[count - 1],
                self._slot(layer.diff_ids[:count]),
                layer.check,
            )
            for count in counts
        )

    def _slot(self, diff_ids: tuple[Digest, ...]) -> "_Slot":
        with self._lock:
            return self._slots.setdefault(diff_ids, _Slot())


class _Slot:
    """The place of one layer in an image: its tree, when it is there."""

    def __init__(self) -> None:
        self._there = threading.Event()
        self._record: LayerRecord | None = None

    @property
    def is_there(self) -> bool:
        """Whether the tree is there."""
        return self._record is not None

    def found(self, record: LayerRecord | None) -> None:
        """Note what was found, or made."""
        if record is not None:
            self._record = record
            self._there.set()

    def wait(self, check: Callable[[], None]) -> LayerRecord:
        """Return the record, when it is there; or raise what *check* does."""
        while not self._there.wait(_LOOK_EVERY):
            check()
        assert self._record is not None  # noqa: S101  (set before)
        return self._record


class _Lower:
    """A layer below another one, perhaps still on its way."""

    def __init__(self, diff_id: Digest, slot: _Slot, check: Callable[[], None]) -> None:
        self._diff_id = diff_id
        self._slot = slot
        self._check = check

    @property
    def diff_id(self) -> Digest:
        """The digest of its plain tar."""
        return self._diff_id

    @property
    def tree(self) -> Digest:
        """The name of its tree; waits for it."""
        return self._slot.wait(self._check).tree


class _Unpacking:
    """The thread that unpacks a layer while it arrives."""

    def __init__(self, work: Callable[[], LayerRecord]) -> None:
        self._work = work
        self._thread = threading.Thread(target=self._run, name="jailbox-unpack")
        self.record: LayerRecord | None = None
        self.error: BaseException | None = None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end, so many seconds; return whether it has come."""
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self.record = self._work()
        except BaseException as error:  # noqa: BLE001  (raised by who waits for it)
            self.error = error


class _LayerSink:
    """Where the bytes of a layer go: to the blob, and on to the unpacking."""

    def __init__(
        self,
        writer: BlobWriter,
        arriving: Arriving,
        unpacking: _Unpacking,
        layer: Layer,
        slot: _Slot,
    ) -> None:
        self._writer = writer
        self._arriving = arriving
        self._unpacking = unpacking
        self._layer = layer
        self._slot = slot

    def write(self, data: bytes, /) -> None:
        """Take the next bytes."""
        error = self._unpacking.error
        # If the content is wrong, the digest at the end says best whose fault it is.
        if error is not None and not isinstance(error, ContentError):
            raise error
        self._writer.write(data)
        self._arriving.grown(self._writer.written)

    def commit(self) -> None:
        """Store the blob, and wait until it is unpacked."""
        self._writer.commit()
        self._arriving.finish()
        while not self._unpacking.join(_LOOK_EVERY):
            self._layer.check()
        if self._unpacking.error is not None:
            raise self._unpacking.error
        self._slot.found(self._unpacking.record)
