"""
Which image a descriptor leads to, on a machine of a kind.

An index may list indexes, and a registry may serve anything. So the way is bounded: in
depth, in documents, in bytes; and no document is believed before it is checked.

Source: OCI image-spec v1.1, *image-index.md*.
"""

from collections.abc import Callable, Iterator

import attrs

from jailbox.errors import Malformed, NotFound
from jailbox.spec.descriptor import Descriptor
from jailbox.spec.document import Index, Manifest
from jailbox.spec.media import is_index, is_manifest
from jailbox.spec.platform import Platform, choose
from jailbox.spec.strict import DOCUMENT_MAX

__all__ = ["INDEX_DEPTH_MAX", "INDEX_DOCUMENTS_MAX", "manifests_of", "pick"]

INDEX_DEPTH_MAX = 8
"""How many indexes may be followed from one to the next."""

INDEX_DOCUMENTS_MAX = 64
"""How many indexes are read to find one image."""

_MANIFEST_KIND, _INDEX_KIND = "image manifest", "image index"


def manifests_of(
    top: Descriptor, fetch: Callable[[Descriptor], bytes]
) -> Iterator[Descriptor]:
    """
    Yield every manifest that a descriptor leads to, indexes followed.

    A manifest that does not say its platform has that of the index above it.

    Args:
        top: Where to begin: a manifest or an index.

        fetch: Gives the bytes of a document. They are checked here.

    Raises:
        Malformed: If an index contains itself, or indexes are nested deeper than
            `INDEX_DEPTH_MAX`, or there are more than `INDEX_DOCUMENTS_MAX`.

        DigestMismatch: If bytes are not what their descriptor says.
    """
    read = 0

    def walk(place: Descriptor, above: tuple[Descriptor, ...]) -> Iterator[Descriptor]:
        nonlocal read
        if not is_index(place.media_type):
            yield place
            return
        if any(place.digest == each.digest for each in above):
            raise Malformed(_INDEX_KIND, f"contains itself: {place.digest}")
        if len(above) >= INDEX_DEPTH_MAX:
            raise Malformed(_INDEX_KIND, f"is nested deeper than {INDEX_DEPTH_MAX}")
        read += 1
        if read > INDEX_DOCUMENTS_MAX:
            raise Malformed(
                _INDEX_KIND, f"leads to more than {INDEX_DOCUMENTS_MAX} others"
            )
        data = _fetched(place, fetch)
        for inner in Index.from_bytes(data, place.media_type).manifests:
            if inner.platform is None and place.platform is not None:
                yield from walk(
                    attrs.evolve(inner, platform=place.platform), (*above, place)
                )
            else:
                yield from walk(inner, (*above, place))

    yield from walk(top, ())


def _fetched(place: Descriptor, fetch: Callable[[Descriptor], bytes]) -> bytes:
    """Get a document that is not too large, and is what it should be."""
    if place.size > DOCUMENT_MAX:
        raise Malformed(
            _INDEX_KIND if is_index(place.media_type) else _MANIFEST_KIND,
            f"is larger than {DOCUMENT_MAX} bytes: {place.size}",
        )
    return place.verify(fetch(place), str(place.digest))


def pick(
    top: Descriptor,
    fetch: Callable[[Descriptor], bytes],
    wish: Platform,
    *,
    smaller: bool = False,
) -> tuple[Descriptor, bytes, Manifest]:
    """
    Find the image for a machine: its descriptor, and its manifest as bytes and value.

    A manifest that *top* points to directly is taken as it is. One that does not say
    its platform may be another machine's: its config tells.

    Args:
        top: Where to begin: a manifest or an index.

        fetch: Gives the bytes of a document. They are checked here.

        wish: The machine.

        smaller: Whether a 32-bit relative will do: see `jailbox.spec.platform.rank`.

    Raises:
        NotFound: If there is none; it lists the platforms that there are.

        Malformed, DigestMismatch, UnsupportedMediaType: As `manifests_of` and
            `Manifest.from_bytes`.
    """
    found = tuple(manifests_of(top, fetch))
    if is_index(top.media_type):
        images = [each for each in found if is_manifest(each.media_type)]
        chosen = choose(images, wish, smaller=smaller)
        if chosen is None:
            have = dict.fromkeys(str(p.platform) for p in images if p.platform)
            raise NotFound(
                "image for",
                str(wish),
                where=f"the index, which has {', '.join(have) or 'none'}",
            )
    else:
        chosen = top
    data = _fetched(chosen, fetch)
    return chosen, data, Manifest.from_bytes(data, chosen.media_type)
