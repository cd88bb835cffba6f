"""
The verbs of the distribution specification, for one repository at one place.

What comes back is checked: a document that was asked for by digest is the one of that
digest, whatever the registry says about it.

Source: opencontainers/distribution-spec v1.1, *spec.md*.
"""

import json
from collections.abc import Iterable
from typing import Any

import attrs

from jailbox.errors import (
    DigestMismatch,
    ImageNotFound,
    RegistryError,
    SpecError,
)
from jailbox.registry.address import next_page
from jailbox.registry.challenge import pull_scope, push_scope
from jailbox.registry.exchange import Exchange
from jailbox.registry.http import Reply, Request, Trouble
from jailbox.registry.settings import Place
from jailbox.spec.descriptor import Descriptor
from jailbox.spec.digest import Digest
from jailbox.spec.document import Index, Manifest, read_manifest
from jailbox.spec.media import DOCKER_SCHEMA_1, INDEXES, MANIFESTS
from jailbox.spec.reference import Reference
from jailbox.spec.strict import DOCUMENT_MAX

__all__ = ["ACCEPT", "Fetched", "Repository"]

# Schema 1 is asked for so that it can be refused by its name: a registry that has
# nothing else would say "not found" otherwise.
ACCEPT = ", ".join((*INDEXES, *MANIFESTS, *DOCKER_SCHEMA_1))

TAGS_MAX = 1_000_000
"""How many tags are listed, at most."""

_PAGES_MAX = 20_000
_PAGE_BYTES_MAX = 32 << 20

OK, CREATED, ACCEPTED, NO_CONTENT, PARTIAL = 200, 201, 202, 204, 206
NOT_FOUND = 404
# How registries say that they know no HEAD.
_NO_HEAD = frozenset({400, 405, 501})


@attrs.frozen
class Fetched:
    """
    A manifest or an index, as it came.

    Attributes:
        descriptor: Its media type, digest and size.

        data: The bytes that arrived.

        place: Where it came from.
    """

    descriptor: Descriptor
    data: bytes = attrs.field(repr=False)
    place: Place

    def read(self) -> Manifest | Index:
        """Return what the bytes say."""
        return read_manifest(self.data, self.descriptor.media_type)


class Repository:
    """
    One repository at one place, for one operation.

    Args:
        exchange: Does the requests.

        name: What the caller calls it, for errors.
    """

    def __init__(self, exchange: Exchange, name: str) -> None:
        self.exchange = exchange
        self.place = exchange.place
        self.name = name

    @property
    def pulling(self) -> tuple[str, ...]:
        """What must be granted to pull."""
        return (pull_scope(self.place.repository),)

    @property
    def pushing(self) -> tuple[str, ...]:
        """What must be granted to push."""
        return (push_scope(self.place.repository),)

    def resolve(self, reference: Reference) -> Descriptor:
        """
        Return what a name stands for: one HEAD, if the registry answers it in full.

        Raises:
            ImageNotFound: If there is no such image.
        """
        what = _what(reference)
        reply = self.exchange.request(
            "HEAD",
            self.place.url(f"manifests/{what}"),
            want={OK, NOT_FOUND, *_NO_HEAD},
            scopes=self.pulling,
            headers={"Accept": ACCEPT},
            what=f"manifest {what}",
        )
        reply.close()
        if reply.status == NOT_FOUND:
            raise self._no_image(reference, "404: manifest unknown, not found")
        if reply.status == OK:
            digest = reference.digest or _digest_of(reply)
            kind = _media_type(reply)
            if digest and reply.length and kind in {*INDEXES, *MANIFESTS}:
                return Descriptor(media_type=kind, digest=digest, size=reply.length)
        return self.manifest(reference).descriptor

    def manifest(
        self, reference: Reference, known: Descriptor | None = None
    ) -> Fetched:
        """
        Fetch a manifest or an index.

        Args:
            reference: Its name; the digest counts more than the tag.

            known: What it must be, where a document points to it.

        Raises:
            ImageNotFound: If there is no such image.

            DigestMismatch: If the bytes are not those of the digest.
        """
        digest = reference.digest if known is None else known.digest
        what = _what(reference) if known is None else str(known.digest)
        url = self.place.url(f"manifests/{what}")
        with self.exchange.request(
            "GET",
            url,
            want={OK, NOT_FOUND},
            scopes=self.pulling,
            headers={"Accept": ACCEPT if known is None else _accept(known.media_type)},
            what=f"manifest {what}",
        ) as reply:
            if reply.status == NOT_FOUND:
                error = self.exchange.refusal(_asked(reply), reply)
                raise self._no_image(reference, f"404: {error.message}")
            limit = DOCUMENT_MAX if known is None else min(known.size, DOCUMENT_MAX)
            data = self._body(reply, url, limit, f"manifest {what}")
            said, kind = _digest_of(reply), _media_type(reply)
        origin = f"manifest {what} of {self.place.origin}/{self.place.repository}"
        if len(data) > limit:
            bound = (
                f"at most {DOCUMENT_MAX} bytes" if known is None else f"{limit} bytes"
            )
            raise DigestMismatch(bound, "more", origin)
        # Without a digest of ours the header is all that there is to hold it to.
        expected = digest or said
        actual = Digest.of(data, expected.algorithm if expected else "sha256")
        if expected is not None and actual != expected:
            raise DigestMismatch(str(expected), str(actual), origin)
        if known is not None:
            kind = known.media_type
        read = read_manifest(data, kind)
        return Fetched(
            Descriptor(media_type=read.media_type, digest=actual, size=len(data)),
            data,
            self.place,
        )

    def _body(self, reply: Reply, url: str, limit: int, what: str) -> bytes:
        data = reply.text(limit)
        if isinstance(data, Trouble):
            # The headers had come: what follows is short, and is asked for again.
            again = self.exchange.request(
                "GET",
                url,
                want={OK},
                scopes=self.pulling,
                headers={"Accept": ACCEPT},
                what=what,
            )
            with again:
                data = again.text(limit)
            if isinstance(data, Trouble):
                raise RegistryError("GET", url, f"{what}: {data.reason}")
        return data

    def _no_image(self, reference: Reference, said: str) -> ImageNotFound:
        where = f"{self.place.registry} ({said})"
        return ImageNotFound(reference.familiar(), where=where)

    def put_manifest(self, reference: Reference, data: bytes, media_type: str) -> None:
        """Store a manifest or an index under a tag, or under its digest."""
        self.exchange.request(
            "PUT",
            self.place.url(f"manifests/{_what(reference)}"),
            want={OK, CREATED, ACCEPTED, NO_CONTENT},
            scopes=self.pushing,
            headers={"Content-Type": media_type},
            body=lambda: [data],
            length=len(data),
            what=f"manifest {_what(reference)}",
        ).drop()

    def delete_manifest(self, reference: Reference) -> None:
        """
        Delete a tag, or a manifest with all its tags if a digest is given.

        Raises:
            ImageNotFound: If it is not there.

            RegistryError: If the registry deletes nothing, with status 405.
        """
        with self.exchange.request(
            "DELETE",
            self.place.url(f"manifests/{_what(reference)}"),
            want={OK, ACCEPTED, NO_CONTENT, NOT_FOUND},
            scopes=(f"repository:{self.place.repository}:delete",),
            what=f"delete {_what(reference)}",
        ) as reply:
            if reply.status == NOT_FOUND:
                raise self._no_image(reference, "404: manifest unknown, not found")

    def has_blob(self, digest: Digest, scopes: Iterable[str] | None = None) -> bool:
        """Return whether the registry has a blob in this repository."""
        asked = self.pulling if scopes is None else tuple(scopes)
        url = self.place.url(f"blobs/{digest}")
        what = f"blob {digest}"
        with self.exchange.request(
            "HEAD", url, want={OK, NOT_FOUND, *_NO_HEAD}, scopes=asked, what=what
        ) as reply:
            if reply.status not in _NO_HEAD:
                return reply.status == OK
        # One byte tells as much; if all of them come, the connection is given up.
        with self.exchange.request(
            "GET",
            url,
            want={OK, PARTIAL, NOT_FOUND, 405},
            scopes=asked,
            headers={"Range": "bytes=0-0"},
            what=what,
        ) as reply:
            return reply.status in {OK, PARTIAL}

    def tags(self) -> tuple[str, ...]:
        """
        List the tags, in the order of the registry, page by page.

        Raises:
            ImageNotFound: If there is no such repository.
        """
        found: dict[str, None] = {}
        for page in self._pages(self.place.url("tags/list")):
            tags = page.get("tags")
            if isinstance(tags, list):
                found.update((tag, None) for tag in tags if isinstance(tag, str))
            if len(found) > TAGS_MAX:
                raise RegistryError(
                    "GET",
                    self.place.url("tags/list"),
                    f"more than {TAGS_MAX} tags",
                )
        return tuple(found)

    def referrers(self, digest: Digest) -> tuple[Descriptor, ...]:
        """
        List what says something about a manifest: signatures, attestations.

        Asks the registry, or looks for the tag that stands in where it does not know.
        """
        found: list[Descriptor] = []
        url = self.place.url(f"referrers/{digest}")
        with self.exchange.request(
            "GET", url, want={OK, NOT_FOUND}, scopes=self.pulling, what="referrers"
        ) as reply:
            supported = reply.status == OK
        if supported:
            for page in self._pages(url):
                data = json.dumps(page).encode()
                found += Index.from_bytes(data).manifests
            return tuple(found)
        name = self.place.repository
        tag = f"{digest.algorithm}-{digest.hex}"[:128]
        try:
            fetched = self.manifest(
                Reference.parse(f"{self.place.registry}/{name}:{tag}")
            )
        except ImageNotFound:
            return ()
        read = fetched.read()
        return read.manifests if isinstance(read, Index) else ()

    def _pages(self, url: str) -> "Iterable[dict[str, Any]]":
        following: str | None = url
        seen: set[str] = set()
        while following is not None and len(seen) < _PAGES_MAX:
            if following in seen:
                # A last page that names itself as the next one.
                return
            seen.add(following)
            with self.exchange.request(
                "GET", following, want={OK, NOT_FOUND}, scopes=self.pulling
            ) as reply:
                if reply.status == NOT_FOUND:
                    raise ImageNotFound(
                        self.name,
                        where=f"{self.place.registry} (404: repository not found)",
                    )
                data = reply.text(_PAGE_BYTES_MAX)
                link = reply.headers.get("link")
            if isinstance(data, Trouble):
                raise RegistryError("GET", following, data.reason)
            page = _page(data)
            if page is None:
                raise RegistryError("GET", following, "the answer is no JSON object")
            yield page
            following = next_page(following, link)


def _page(data: bytes) -> dict[str, Any] | None:
    if len(data) > _PAGE_BYTES_MAX:
        return None
    try:
        page = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return page if isinstance(page, dict) else None


def _asked(reply: Reply) -> Request:
    return Request(method="GET", url=reply.url)


def _what(reference: Reference) -> str:
    """Return how a manifest is asked for: by digest if one is known."""
    if reference.digest is not None:
        return str(reference.digest)
    return reference.tagged().tag or ""


def _accept(media_type: str) -> str:
    """Ask for one type first, but take what a sloppy registry has instead."""
    others = [each for each in ACCEPT.split(", ") if each != media_type]
    return ", ".join([media_type, *others])


def _digest_of(reply: Reply) -> Digest | None:
    text = reply.headers.get("docker-content-digest", "").strip()
    try:
        return Digest.parse(text) if text else None
    except SpecError:
        return None


def _media_type(reply: Reply) -> str | None:
    """Return what a document is called; ``None`` if that says nothing about it."""
    text = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    return text if text.startswith("application/vnd.") else None
