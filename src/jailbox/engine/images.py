"""
Images of this machine: stores, opened once, and what their verbs come down to.

A store is opened when it is first asked for, and closed with the engine. Layers are
worked on by the engine's keeper, in children of it that see nothing else.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, BinaryIO

import attrs

from jailbox.engine.base import ArchiveFormat
from jailbox.errors import ImageNotFound
from jailbox.linux.facts import HostFacts
from jailbox.linux.keeper import Keeper
from jailbox.linux.machine import host_platform
from jailbox.linux.workshop import UnpackPolicy, Workshop
from jailbox.registry.client import Client
from jailbox.registry.events import Event
from jailbox.registry.keep import pull_image, push_image
from jailbox.run.stored import StoredImage, read_stored
from jailbox.spec.change import Change
from jailbox.spec.digest import Digest
from jailbox.spec.document import Manifest
from jailbox.spec.image import ImageConfig, Stored
from jailbox.spec.info import ImageInfo, LayerInfo
from jailbox.spec.platform import Platform
from jailbox.spec.reference import Reference
from jailbox.store.archive import load, save
from jailbox.store.layout import write_layout, write_layout_tar
from jailbox.store.leases import Lease
from jailbox.store.records import ImageRecord
from jailbox.store.rootfs import import_rootfs
from jailbox.store.store import Store

if TYPE_CHECKING:
    from jailbox.engine.debian import Run
    from jailbox.spec.debian import DebianWish
    from jailbox.store.check import CheckReport
    from jailbox.store.prune import Pruned
    from jailbox.store.usage import Usage

__all__ = ["LocalImages"]


class LocalImages:
    """
    The images of this machine.

    Thread-safe. Belongs to an engine, and ends with it.

    Args:
        facts: The machine.

        keeper: Gives a living keeper, which works on layers.

        run: Runs a container, in which an image is made.

        path: Where the usual store is; ``None`` for where this user's is.

        offline: Never ask a registry.
    """

    def __init__(
        self,
        facts: Callable[[], HostFacts],
        keeper: Callable[[], Keeper],
        *,
        run: "Run",
        path: str | None = None,
        offline: bool = False,
    ) -> None:
        self._facts = facts
        self._run = run
        self._workshop = Workshop(keeper)
        self._path = path
        self._offline = offline
        self._lock = threading.Lock()
        self._stores: dict[str | None, Store] = {}

    def close(self) -> None:
        """Close every store. What is leased stays leased."""
        with self._lock:
            stores, self._stores = list(self._stores.values()), {}
        for store in stores:
            store.close()

    def release(self, store: str | None = None) -> None:
        """Close a store; it is opened again when it is needed."""
        where = self._where(store)
        with self._lock:
            found = self._stores.pop(where, None)
        if found is not None:
            found.close()

    def _where(self, path: str | None) -> str | None:
        return self._path if path is None else os.path.abspath(path)

    @property
    def workshop(self) -> Workshop:
        """Who works on layers."""
        return self._workshop

    def store(self, path: str | None = None) -> Store:
        """Open the store at *path*, or the usual one; or find it open."""
        where = self._where(path)
        with self._lock:
            found = self._stores.get(where)
            if found is None:
                found = Store(
                    where,
                    workshop=lambda: self._workshop,
                    policy=_policy(self._facts()),
                )
                self._stores[where] = found
            return found

    # ---- finding -----------------------------------------------------------

    def find(self, name: str, store: str | None = None) -> Stored:
        """Find an image by name, digest, or the first digits of one."""
        return Stored(self.store(store).get(name).digest, store)

    def list(self, store: str | None = None) -> Sequence[Stored]:
        """Find all images."""
        return [
            Stored(record.digest, store) for record in self.store(store).images.list()
        ]

    def names(self, image: Stored) -> tuple[Reference, ...]:
        """Return the names of an image."""
        return self.store(image.store).tags.of(image.digest)

    def info(self, image: Stored) -> ImageInfo:
        """Describe an image."""
        store, record = self._record(image)
        document = store.images.document(record)
        manifest = Manifest.from_bytes(store.images.manifest(record))
        layers = store.images.layers(record)
        return ImageInfo(
            digest=record.digest,
            id=record.config,
            platform=document.platform,
            created=document.created,
            author=document.author,
            config=document.config,
            history=document.history,
            layers=tuple(
                LayerInfo(digest=blob.digest, diff_id=layer.diff_id, size=layer.size)
                for blob, layer in zip(manifest.layers, layers, strict=True)
            ),
            annotations=manifest.annotations,
        )

    def _record(self, image: Stored) -> tuple[Store, ImageRecord]:
        store = self.store(image.store)
        return store, store.get(image.digest)

    # ---- using -------------------------------------------------------------

    def lease(self, image: Stored) -> Lease:
        """Keep an image from being removed until the lease is released."""
        return self.store(image.store).lease(image.digest)

    def root(self, image: Stored) -> StoredImage:
        """Tell what a start needs of an image of which a lease is held."""
        store, record = self._record(image)
        return read_stored(store, record)

    def open(self, image: Stored, path: str) -> BinaryIO:
        """Open a file of an image."""
        store, record = self._record(image)
        return store.images.open_file(record, path)

    def diff(self, before: Stored, after: Stored) -> tuple[Change, ...]:
        """Compare two images of one store."""
        store, record = self._record(before)
        return store.images.diff(record, self._record(after)[1])

    # ---- naming and removing -----------------------------------------------

    def tag(self, image: Stored, name: Reference) -> None:
        """Give an image a further name; another image loses it."""
        self.store(image.store).tags.set(name, image.digest)

    def untag(self, name: Reference, store: str | None = None) -> None:
        """Take a name away; the image stays."""
        self.store(store).tags.remove(name)

    def remove(self, image: Stored, *, force: bool = False) -> None:
        """Remove an image, and the garbage it leaves."""
        store = self.store(image.store)
        store.remove(image.digest, force=force)
        store.gc()

    # ---- files -------------------------------------------------------------

    def load(
        self,
        source: str | BinaryIO,
        *,
        select: str | None = None,
        move: bool = False,
        platform: Platform | None = None,
        store: str | None = None,
    ) -> Sequence[Stored]:
        """Take in the images of an archive or a layout: all of them, or none."""
        loaded = load(
            self.store(store),
            source,
            platform=platform or host_platform(),
            select=select,
            move=move,
        )
        return [Stored(one.record.digest, store) for one in loaded]

    def import_rootfs(
        self,
        source: str | BinaryIO,
        *,
        names: Sequence[Reference],
        config: ImageConfig | None,
        platform: Platform | None,
        move: bool = False,
        store: str | None = None,
    ) -> Stored:
        """Make an image of a root file system in a tar archive."""
        loaded = import_rootfs(
            self.store(store),
            source,
            platform=platform or host_platform(),
            config=config,
            names=names,
            move=move,
        )
        return Stored(loaded.record.digest, store)

    def save(
        self,
        images: Sequence[tuple[Stored, Sequence[Reference] | None]],
        target: str | BinaryIO,
        form: ArchiveFormat,
    ) -> None:
        """Write images of one store, each under the names given, or all that it has."""
        store = self.store(images[0][0].store)
        with contextlib.ExitStack() as stack:
            chosen: list[tuple[ImageRecord, Sequence[Reference]]] = []
            for image, names in images:
                lease = stack.enter_context(store.lease(image.digest))
                wanted = store.tags.of(image.digest) if names is None else names
                chosen.append((lease.record, wanted))
            if form == "docker":
                save(store, chosen, target)
            elif form == "oci":
                write_layout_tar(store, chosen, target)
            else:
                assert isinstance(target, str)  # noqa: S101  # the face has seen to it
                write_layout(store, chosen, target)

    # ---- packages ----------------------------------------------------------

    def debian(
        self,
        wish: "DebianWish",
        *,
        platform: Platform | None = None,
        refresh: bool = False,
        store: str | None = None,
        timeout: float | None = None,
    ) -> Stored:
        """
        Find the image that was made for an equal wish, or make it of packages.

        Raises:
            ImageNotFound: If it has to be made, and this engine is offline.
        """
        from jailbox.engine.debian import debian_image, debian_name

        where, machine = self.store(store), platform or _plain(host_platform())
        name = debian_name(wish, machine)
        if not refresh and (found := where.tags.get(name)) is not None:
            return Stored(found, store)
        if self._offline:
            raise ImageNotFound(name.familiar(), hint=_OFFLINE)
        debian_image(
            wish, machine, where, run=self._run, facts=self._facts(), timeout=timeout
        )
        return Stored(where.get(name).digest, store)

    # ---- registries --------------------------------------------------------

    def pull(
        self,
        name: Reference,
        *,
        client: Client | None = None,
        platform: Platform | None = None,
        store: str | None = None,
        timeout: float | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> Stored:
        """
        Pull an image and give it its name.

        Raises:
            ImageNotFound: If there is none, or this engine is offline.
        """
        if self._offline:
            raise ImageNotFound(
                name.tagged().familiar(),
                hint=_OFFLINE,
            )
        with contextlib.ExitStack() as stack:
            if client is None:
                client = stack.enter_context(Client())
            record = pull_image(
                client,
                self.store(store),
                name,
                platform=platform or host_platform(),
                insist=platform is None,
                timeout=timeout,
                on_event=on_event,
            )
        return Stored(record.digest, store)

    def push(
        self,
        image: Stored,
        name: Reference,
        *,
        client: Client | None = None,
        timeout: float | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> Digest:
        """Push an image under a name; the digest by which it is found there."""
        with contextlib.ExitStack() as stack:
            if client is None:
                client = stack.enter_context(Client())
            pushed = push_image(
                client,
                self.store(image.store),
                image.digest,
                name.tagged(),
                timeout=timeout,
                on_event=on_event,
            )
        return pushed.digest

    def resolve(self, name: Reference, client: Client | None = None) -> Digest:
        """Ask what a name stands for in its registry now; one HEAD."""
        with contextlib.ExitStack() as stack:
            if client is None:
                client = stack.enter_context(Client())
            return client.resolve(name).digest

    # ---- stores as a whole -------------------------------------------------

    def check(self, store: str | None = None, *, full: bool = False) -> "CheckReport":
        """Look whether a store is what it should be."""
        return self.store(store).check(full=full)

    def usage(self, store: str | None = None) -> "Usage":
        """Add up what a store takes."""
        return self.store(store).usage()

    def prune(
        self,
        store: str | None = None,
        *,
        max_bytes: int | None = None,
        older_than: float | None = None,
    ) -> "Pruned":
        """Remove what was not used for long."""
        return self.store(store).prune(max_bytes=max_bytes, older_than=older_than)


_OFFLINE = "This program is offline (JAILBOX_OFFLINE): load it from a file."


def _plain(platform: Platform) -> Platform:
    """Forget the variant of a processor that Debian is not built for separately."""
    if platform.architecture == "arm":
        return platform
    return attrs.evolve(platform, variant=None)


def _policy(facts: HostFacts) -> UnpackPolicy:
    """Decide what layers may hold here."""
    return UnpackPolicy(
        owners="single" if facts.id_mode == "single" else "keep",
        # Only root of the host may make them. No jail can use them either way.
        devices="make" if facts.is_rootful else "skip",
    )
