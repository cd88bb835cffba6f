"""
Whole images to a registry, and from one registry to another.

Blobs come first, then manifests, the named one last: a registry never has a name
without its content.
"""

from collections.abc import Iterable, Iterator, Sequence

import attrs

from jailbox.errors import DigestMismatch
from jailbox.registry.client import Client, OnEvent, Operation
from jailbox.registry.download import Download, verified
from jailbox.registry.events import Done, Resolved
from jailbox.registry.pull import Getter
from jailbox.registry.repository import Fetched, Repository
from jailbox.registry.transfer import Source, job_of, side_by_side, watched
from jailbox.registry.upload import Upload
from jailbox.spec.descriptor import Descriptor
from jailbox.spec.digest import Digest
from jailbox.spec.document import Manifest, read_manifest
from jailbox.spec.media import is_manifest
from jailbox.spec.pick import manifests_of, pick
from jailbox.spec.platform import Platform
from jailbox.spec.reference import Reference

__all__ = ["copy", "push"]


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
    side_by_side(
        doing,
        [
            job_of(_send, doing, repository, blob, source, paths)
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
        repository, blob, lambda: watched(doing, blob, source.pieces(blob)), near
    )
    doing.tell(Done(blob.digest, blob.size, upload.run()))


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
        self._getter = Getter(doing, reference, top)

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
