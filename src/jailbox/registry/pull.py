"""
Whole images from a registry.

A tag is resolved once, and everything below it is asked for by digest: it does not
matter if the tag moves meanwhile.
"""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, closing

import attrs

from jailbox.errors import (
    ContentError,
    DigestMismatch,
    Malformed,
    NotFound,
    RegistryError,
)
from jailbox.registry.client import Client, OnEvent, Operation
from jailbox.registry.download import Download
from jailbox.registry.events import Done, Resolved, Warned
from jailbox.registry.repository import Fetched, Repository
from jailbox.registry.transfer import (
    Destination,
    Layer,
    Sink,
    job_of,
    side_by_side,
    watched,
)
from jailbox.spec.descriptor import Descriptor
from jailbox.spec.digest import Digest
from jailbox.spec.document import ImageDocument, Manifest
from jailbox.spec.media import is_config, is_layer
from jailbox.spec.pick import pick
from jailbox.spec.platform import Platform, rank
from jailbox.spec.reference import Reference
from jailbox.spec.strict import DOCUMENT_MAX

__all__ = ["Getter", "Pulled", "pull"]

_BEGINNINGS_MAX = 2


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
        getter = Getter(doing, reference, top)
        chosen, data, manifest = pick(
            top.descriptor, getter.document, platform, smaller=smaller
        )
        config_data, document = _config(getter, destination, manifest)
        if document is not None:
            _check_platform(
                doing, reference, document, platform, smaller=smaller, insist=insist
            )
        jobs = _layer_jobs(getter, destination, manifest, document)
        side_by_side(doing, jobs)
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
    getter: "Getter", destination: Destination, manifest: Manifest
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
    getter: "Getter",
    destination: Destination,
    manifest: Manifest,
    document: ImageDocument | None,
) -> list[Callable[[], None]]:
    """Say what is to be got."""
    jobs = []
    for number, blob in enumerate(manifest.layers):
        if document is None or not is_layer(blob.media_type):
            jobs.append(
                job_of(getter.blob, blob, destination.has_blob, destination.blob)
            )
        else:
            diff_ids = document.diff_ids[: number + 1]
            layer = Layer(blob=blob, diff_ids=diff_ids, check=getter.check)
            jobs.append(job_of(getter.layer, layer, destination))
    # In this order: a layer may have to wait for those below it.
    return jobs


class Getter:
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
                    for piece in watched(self._doing, blob, pieces):
                        sink.write(piece)
                    sink.commit()
            except DigestMismatch:
                if not download.resumed or beginning == _BEGINNINGS_MAX:
                    raise
            else:
                self._doing.tell(Done(blob.digest, blob.size, "received"))
                return
