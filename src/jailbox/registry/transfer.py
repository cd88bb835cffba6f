"""
Whole images: from a registry, to a registry, from one to another.

A tag is resolved once, and everything below it is asked for by digest: it does not
matter if the tag moves meanwhile. Blobs move side by side, in threads that end with the
call.

Whoever keeps what is pulled, or has what is pushed, is known by two small protocols:
`Destination` and `Source`.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, closing
from typing import Protocol

import attrs

from jailbox.errors import (
    ContentError,
    DigestMismatch,
    Malformed,
    NotFound,
    RegistryError,
)
from jailbox.registry.client import Client, OnEvent, Operation
from jailbox.registry.download import Download, verified
from jailbox.registry.events import Done, Moved, Resolved, Warned
from jailbox.registry.pace import Interrupted
from jailbox.registry.repository import Fetched, Repository
from jailbox.registry.upload import Upload
from jailbox.spec.descriptor import Descriptor
from jailbox.spec.digest import Digest
from jailbox.spec.document import ImageDocument, Manifest, read_manifest
from jailbox.spec.media import is_config, is_layer, is_manifest
from jailbox.spec.pick import manifests_of, pick
from jailbox.spec.platform import Platform, rank
from jailbox.spec.reference import Reference
from jailbox.spec.strict import DOCUMENT_MAX

__all__ = [
    "Destination",
    "Layer",
    "Pulled",
    "Sink",
    "Source",
    "copy",
    "pull",
    "push",
]

_PROGRESS_EVERY = 0.1
_BEGINNINGS_MAX = 2


class Sink(Protocol):
    """Where the bytes of one blob go. It checks their digest: nobody else does."""

    def write(self, data: bytes, /) -> object:
        """Take the next bytes."""

    def commit(self) -> object:
        """
        Make them visible: all have come.

        Raises:
            DigestMismatch: If they are not what was announced.
        """


@attrs.frozen(kw_only=True)
class Layer:
    """
    A layer that is to be pulled, and what is known about it.

    Attributes:
        blob: What is fetched.

        diff_ids: The digests of the plain tar of this layer and of all below, the
            lowest first; this layer's is the last.

        check: To be called now and then by whoever waits: raises if the pull is over,
            because its time is, or because something else has failed.
    """

    blob: Descriptor
    diff_ids: tuple[Digest, ...]
    check: Callable[[], None] = attrs.field(default=lambda: None, eq=False, repr=False)

    @property
    def diff_id(self) -> Digest:
        """The digest of its plain tar."""
        return self.diff_ids[-1]


class Destination(Protocol):
    """Where pulled images are kept. Called from several threads at once."""

    def has_blob(self, blob: Descriptor, /) -> bool:
        """Return whether these bytes are there already."""

    def blob(self, blob: Descriptor, /) -> AbstractContextManager[Sink]:
        """Begin to take a blob as it is. Without `Sink.commit`, nothing stays."""

    def read(self, blob: Descriptor, /) -> bytes:
        """Return the bytes of a small blob that is there."""

    def has_layer(self, layer: Layer, /) -> bool:
        """
        Return whether a layer is there already, unpacked.

        May unpack it first, from a blob that is there.
        """

    def layer(self, layer: Layer, /) -> AbstractContextManager[Sink]:
        """Begin to take a layer, and to unpack it while it comes."""

    def document(self, descriptor: Descriptor, data: bytes, /) -> None:
        """Keep a manifest or an index as these bytes."""


class Source(Protocol):
    """Where pushed images come from. Called from several threads at once."""

    def document(self, descriptor: Descriptor, /) -> bytes:
        """
        Return the bytes of a manifest or an index.

        Raises:
            NotFound: If it is not there.
        """

    def has_blob(self, blob: Descriptor, /) -> bool:
        """Return whether a blob is there."""

    def pieces(self, blob: Descriptor, /) -> Iterable[bytes]:
        """Return the bytes of a blob from the beginning, each time it is called."""


@attrs.frozen(kw_only=True)
class Pulled:
    """
    What was pulled.

    Attributes:
        reference: The name that was asked for.

        top: What it stood for: a manifest, or an index.

        top_data: The bytes of that.

        manifest: The manifest of the one image that was chosen.

        manifest_data: The bytes of that.

        config_data: The bytes of its config.

        document: What the config says; ``None`` if this is an artifact of another kind.

        origin: The registry, or the mirror, that it came from.
    """

    reference: Reference
    top: Descriptor
    top_data: bytes = attrs.field(repr=False)
    manifest: Descriptor
    manifest_data: bytes = attrs.field(repr=False)
    config_data: bytes = attrs.field(repr=False)
    document: ImageDocument | None
    origin: str


def pull(
    client: Client,
    reference: Reference,
    destination: Destination,
    *,
    platform: Platform,
    smaller: bool = False,
    insist: bool = True,
    timeout: float | None = None,
    on_event: OnEvent | None = None,
) -> Pulled:
    """
    Pull an image: whatever of it is not there yet.

    Nothing is recorded here: the caller does that with what is returned. Blobs that
    are there when it fails may stay; they are whole.

    Args:
        client: Speaks to the registry.

        reference: Which image. Without tag and digest it is ``latest``.

        destination: Who keeps it.

        platform: For which machine.

        smaller: Whether the 32-bit relative of a platform will do.

        insist: Refuse an image whose config says that it is for another platform;
            otherwise that is a warning.

        timeout: How long it may take, in seconds.

        on_event: Is called with what happens (`jailbox.registry.events`).

    Raises:
        ImageNotFound: If there is no such image.

        NotFound: If there is none for the platform; it says for which there are.

        DigestMismatch: If something came that is not what it should be.

        Unauthorized, RateLimited, RegistryError: If the registry does not give it.

        DeadlineExceeded: If *timeout* is over.
    """
    action = f"pulling {reference.familiar()}"
    with client.operation(action, timeout=timeout, on_event=on_event) as doing:
        top = doing.first(reference, lambda repository: repository.manifest(reference))
        origin = str(top.place.origin)
        doing.tell(Resolved(str(reference), top.descriptor.digest, origin))
        getter = _Getter(doing, reference, top)
        chosen, data, manifest = pick(
            top.descriptor, getter.document, platform, smaller=smaller
        )
        config_data, document = _config(getter, destination, manifest)
        if document is not None:
            _check_platform(
                doing, reference, document, platform, smaller=smaller, insist=insist
            )
        jobs = _layer_jobs(getter, destination, manifest, document)
        _side_by_side(doing, jobs)
        destination.document(chosen, data)
        if chosen.digest != top.descriptor.digest:
            destination.document(top.descriptor, top.data)
        return Pulled(
            reference=reference,
            top=top.descriptor,
            top_data=top.data,
            manifest=chosen,
            manifest_data=data,
            config_data=config_data,
            document=document,
            origin=origin,
        )


def _config(
    getter: "_Getter", destination: Destination, manifest: Manifest
) -> tuple[bytes, ImageDocument | None]:
    """Get the config, and read it if it is that of an image."""
    config = manifest.config
    if config.size > DOCUMENT_MAX:
        problem = f"is larger than {DOCUMENT_MAX} bytes: {config.size}"
        raise Malformed("image config", problem)
    getter.blob(config, destination.has_blob, destination.blob)
    data = destination.read(config)
    if not is_config(config.media_type) or data.strip() == b"{}":
        return data, None
    document = ImageDocument.from_bytes(data)
    document.check(manifest)
    return data, document


def _check_platform(
    doing: Operation,
    reference: Reference,
    document: ImageDocument,
    platform: Platform,
    *,
    smaller: bool,
    insist: bool,
) -> None:
    """Look at what the config says: an index may lie, and a manifest says nothing."""
    if rank(document.platform, platform, smaller=smaller) is not None:
        return
    name, has = reference.familiar(), document.platform.normalized()
    if insist:
        raise NotFound("image for", str(platform), where=f"{name}, which is for {has}")
    doing.tell(Warned(f"{name} is for {has}, not for {platform}"))


def _layer_jobs(
    getter: "_Getter",
    destination: Destination,
    manifest: Manifest,
    document: ImageDocument | None,
) -> list[Callable[[], None]]:
    """Say what is to be got."""
    jobs = []
    for number, blob in enumerate(manifest.layers):
        if document is None or not is_layer(blob.media_type):
            jobs.append(_job(getter.blob, blob, destination.has_blob, destination.blob))
        else:
            diff_ids = document.diff_ids[: number + 1]
            layer = Layer(blob=blob, diff_ids=diff_ids, check=getter.check)
            jobs.append(_job(getter.layer, layer, destination))
    # In this order: a layer may have to wait for those below it.
    return jobs


def _job(work: Callable[..., None], *args: object) -> Callable[[], None]:
    return lambda: work(*args)


class _Getter:
    """Gets what a name stands for, where it was resolved, else at the registry."""

    def __init__(self, doing: Operation, reference: Reference, top: Fetched) -> None:
        self._doing = doing
        self._reference = reference
        self._known = {top.descriptor.digest: top.data}
        places = doing.client.places(reference)
        # The one that answered first; then the others, the registry itself included.
        self._places = sorted(places, key=lambda place: place != top.place)
        self.check = doing.call.check
        # The same bytes may be several layers: they come once, whoever is first.
        self._turns: dict[Digest, threading.Lock] = {}

    def document(self, descriptor: Descriptor) -> bytes:
        """Get a manifest or an index by its digest."""
        if (data := self._known.get(descriptor.digest)) is not None:
            return data
        fetched = self._try(
            lambda repository: repository.manifest(self._reference, descriptor)
        )
        return self._known.setdefault(descriptor.digest, fetched.data)

    def _try(self, ask: "Callable[[Repository], Fetched]") -> Fetched:
        *others, last = self._places
        for place in others:
            try:
                return ask(self._doing.at(place, self._reference))
            except (RegistryError, ContentError) as error:
                self._doing.tell(Warned(f"{place.registry} was of no use: {error}"))
        return ask(self._doing.at(last, self._reference))

    def blob(
        self,
        blob: Descriptor,
        has: Callable[[Descriptor], bool],
        begin: Callable[[Descriptor], AbstractContextManager[Sink]],
    ) -> None:
        """Get a blob as it is."""
        with self._turns.setdefault(blob.digest, threading.Lock()):
            if has(blob):
                self._doing.tell(Done(blob.digest, blob.size, "present"))
                return
            self._receive(blob, lambda: begin(blob))

    def layer(self, layer: Layer, destination: Destination) -> None:
        """Get a layer."""
        blob = layer.blob
        with self._turns.setdefault(blob.digest, threading.Lock()):
            if destination.has_layer(layer):
                self._doing.tell(Done(blob.digest, blob.size, "present"))
                return
            self._receive(blob, lambda: destination.layer(layer))

    def _receive(
        self, blob: Descriptor, begin: Callable[[], AbstractContextManager[Sink]]
    ) -> None:
        *others, last = self._places
        for place in others:
            try:
                self._receive_from(self._doing.at(place, self._reference), blob, begin)
            except (RegistryError, DigestMismatch) as error:
                self._doing.tell(Warned(f"{place.registry} was of no use: {error}"))
            else:
                return
        self._receive_from(self._doing.at(last, self._reference), blob, begin)

    def _receive_from(
        self,
        repository: Repository,
        blob: Descriptor,
        begin: Callable[[], AbstractContextManager[Sink]],
    ) -> None:
        """Get a blob; once more from the beginning if its parts do not fit together."""
        for beginning in range(1, _BEGINNINGS_MAX + 1):
            download = Download(repository, blob)
            try:
                with begin() as sink, closing(download.pieces()) as pieces:
                    for piece in _watched(self._doing, blob, pieces):
                        sink.write(piece)
                    sink.commit()
            except DigestMismatch:
                if not download.resumed or beginning == _BEGINNINGS_MAX:
                    raise
            else:
                self._doing.tell(Done(blob.digest, blob.size, "received"))
                return


def _watched(
    doing: Operation, blob: Descriptor, pieces: Iterable[bytes]
) -> Iterator[bytes]:
    """Pass bytes on and report them, a few times a second."""
    done, told = 0, time.monotonic()
    for piece in pieces:
        doing.call.check()
        yield piece
        done += len(piece)
        if (now := time.monotonic()) - told >= _PROGRESS_EVERY:
            doing.tell(Moved(blob.digest, done, blob.size))
            told = now


def _side_by_side(doing: Operation, jobs: Sequence[Callable[[], None]]) -> None:
    """
    Do jobs in a few threads, which are gone at the end.

    The first failure ends the others, at once, and is the one that is raised.
    """
    if len(jobs) == 1:
        jobs[0]()
        return
    if not jobs:
        return
    most = min(doing.client.settings.parallel, len(jobs))
    with ThreadPoolExecutor(most, thread_name_prefix="jailbox-registry") as pool:
        running = [pool.submit(job) for job in jobs]
        try:
            done, _ = wait(running, return_when=FIRST_EXCEPTION)
        except BaseException:
            # Somebody wants out of here: Ctrl-C.
            doing.call.cancel()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        if any(each.exception() is not None for each in done):
            doing.call.cancel()
            pool.shutdown(wait=False, cancel_futures=True)
    failed = _failure(running)
    if failed is not None:
        raise failed


def _failure(running: Iterable[Future[None]]) -> BaseException | None:
    """Return what went wrong first; being ended because of it is not that."""
    found = None
    for each in running:
        error = None if each.cancelled() else each.exception()
        if error is not None and (found is None or isinstance(found, Interrupted)):
            found = error
    return found


# ---- to a registry ---------------------------------------------------------------


def push(
    client: Client,
    top: Descriptor,
    source: Source,
    reference: Reference,
    *,
    near: Iterable[Reference] = (),
    timeout: float | None = None,
    on_event: OnEvent | None = None,
) -> Descriptor:
    """
    Push an image, or an index with all its images: whatever of it is not there yet.

    Blobs come first, then manifests, the named one last: a registry never has a name
    without its content. To push again after a failure sends only what is missing.

    Args:
        client: Speaks to the registry.

        top: What is pushed: a manifest or an index.

        source: Who has it.

        reference: Under which name. With a digest, it must be that of *top*.

        near: Where the blobs may be already; if it is another repository of the same
            registry, they are mounted from there and not sent.

        timeout: How long it may take, in seconds.

        on_event: Is called with what happens.

    Raises:
        DigestMismatch: If *reference* has another digest than *top*.

        NotFound: If *source* has not everything.

        Unauthorized, RateLimited, RegistryError: If the registry does not take it.

        DeadlineExceeded: If *timeout* is over.
    """
    action = f"pushing {reference.familiar()}"
    with client.operation(action, timeout=timeout, on_event=on_event) as doing:
        _push(doing, top, source, reference, near)
    return top


def _push(
    doing: Operation,
    top: Descriptor,
    source: Source,
    reference: Reference,
    near: Iterable[Reference],
) -> None:
    if reference.digest is not None and reference.digest != top.digest:
        name = reference.familiar()
        raise DigestMismatch(str(reference.digest), str(top.digest), name)
    repository = doing.home(reference)
    paths = [each.path for each in near if each.domain == reference.domain]
    documents = _documents(top, source)
    blobs: dict[Digest, Descriptor] = {}
    for descriptor, data in documents:
        read = read_manifest(data, descriptor.media_type)
        if isinstance(read, Manifest):
            for blob in (read.config, *read.layers):
                blobs.setdefault(blob.digest, blob)
    _side_by_side(
        doing,
        [
            _job(_send, doing, repository, blob, source, paths)
            for blob in blobs.values()
            # What its makers do not want to be passed on stays where it is, unless
            # somebody has taken it in on purpose.
            if not blob.urls or source.has_blob(blob)
        ],
    )
    for descriptor, data in documents:
        named = reference
        if descriptor.digest != top.digest:
            named = attrs.evolve(reference, tag=None, digest=descriptor.digest)
        repository.put_manifest(named, data, descriptor.media_type)


def _documents(top: Descriptor, source: Source) -> list[tuple[Descriptor, bytes]]:
    """Collect manifests and indexes, each after all that it points to."""
    found: dict[Digest, tuple[Descriptor, bytes]] = {}

    def fetch(descriptor: Descriptor) -> bytes:
        data = source.document(descriptor)
        # Filled from above; the order is turned round at the end.
        found.pop(descriptor.digest, None)
        found[descriptor.digest] = (descriptor, data)
        return data

    for each in manifests_of(top, fetch):
        if is_manifest(each.media_type):
            each.verify(fetch(each), str(each.digest))
    return list(reversed(found.values()))


def _send(
    doing: Operation,
    repository: Repository,
    blob: Descriptor,
    source: Source,
    near: Sequence[str],
) -> None:
    upload = Upload(
        repository, blob, lambda: _watched(doing, blob, source.pieces(blob)), near
    )
    doing.tell(Done(blob.digest, blob.size, upload.run()))


# ---- from one to another -----------------------------------------------------------


def copy(
    client: Client,
    source: Reference,
    target: Reference,
    *,
    platform: Platform | None = None,
    timeout: float | None = None,
    on_event: OnEvent | None = None,
) -> Descriptor:
    """
    Copy an image from one registry to another: nothing is unpacked, or kept here.

    Within one registry blobs are mounted. The manifests arrive as the bytes that they
    were, and so with the same digests.

    Args:
        client: Speaks to both.

        source: Which image.

        target: What it is to be called.

        platform: Copy the image for this machine only. By default all of them.

        timeout: How long it may take, in seconds.

        on_event: Is called with what happens.

    Raises:
        As `pull` and `push`.
    """
    action = f"copying {source.familiar()} to {target.familiar()}"
    with client.operation(action, timeout=timeout, on_event=on_event) as doing:
        top = doing.first(source, lambda repository: repository.manifest(source))
        resolved = Resolved(str(source), top.descriptor.digest, str(top.place.origin))
        doing.tell(resolved)
        origin = _Elsewhere(doing, source, top)
        chosen = top.descriptor
        if platform is not None:
            chosen = pick(top.descriptor, origin.document, platform)[0]
        _push(doing, chosen, origin, target, [source])
        return chosen


class _Elsewhere:
    """An image at another registry, as a source."""

    def __init__(self, doing: Operation, reference: Reference, top: Fetched) -> None:
        self._doing = doing
        self._reference = reference
        self._top = top
        self._getter = _Getter(doing, reference, top)

    def document(self, descriptor: Descriptor, /) -> bytes:
        return self._getter.document(descriptor)

    def has_blob(self, blob: Descriptor, /) -> bool:
        return self._there().has_blob(blob.digest)

    def pieces(self, blob: Descriptor, /) -> Iterator[bytes]:
        repository = self._there()
        pieces = Download(repository, blob).pieces()
        return verified(pieces, blob, f"blob {blob.digest} of {self._top.place.origin}")

    def _there(self) -> Repository:
        return self._doing.at(self._top.place, self._reference)
