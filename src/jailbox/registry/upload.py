"""
A blob on its way to a registry: only if it is not there, and mounted if it is near.

An upload that broke is begun anew, after a look whether it arrived all the same: to
send a blob twice changes nothing.

Source: distribution-spec, "Pushing blobs".
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, TypeAlias

import attrs

from jailbox.errors import RegistryError, Unauthorized
from jailbox.registry import retry
from jailbox.registry.address import Refusal, uploaded_to, with_query
from jailbox.registry.challenge import pull_scope
from jailbox.registry.http import Reply, Request, Trouble
from jailbox.registry.repository import (
    ACCEPTED,
    CREATED,
    NO_CONTENT,
    NOT_FOUND,
    OK,
    Repository,
)
from jailbox.spec.descriptor import Descriptor

__all__ = ["How", "Upload"]

How: TypeAlias = Literal["present", "mounted", "sent"]
Source: TypeAlias = Callable[[], Iterable[bytes]]

CHUNK = 16 << 20
"""How much goes in one request where a registry wants a blob in parts, in bytes."""

_CHUNK_MIN = 256 << 10
_CHUNK_MAX = 1 << 30

_STORED = frozenset({OK, CREATED, NO_CONTENT})
_TOO_LARGE = 413
# How registries say that they do not take a blob in one piece.
_IN_PARTS = frozenset({404, 405, 411, 413, 415, 416, 501})


@attrs.frozen
class _Session:
    """Where an upload goes on, and the smallest part that the registry takes."""

    url: str
    least: int


class Upload:
    """
    One blob.

    Args:
        repository: Where to.

        blob: Which.

        source: Gives its bytes from the beginning, each time it is called.

        near: Other repositories of the same registry that may have it.
    """

    def __init__(
        self,
        repository: Repository,
        blob: Descriptor,
        source: Source,
        near: Iterable[str] = (),
    ) -> None:
        self._repository = repository
        self._blob = blob
        self._source = source
        self._near = [each for each in near if each != repository.place.repository]
        self._parts = False
        self._chunk = CHUNK

    def run(self) -> How:
        """
        See that the registry has the blob.

        Raises:
            RegistryError: If it does not take it.
        """
        exchange = self._repository.exchange
        attempt = 0
        while True:
            attempt += 1
            if self._repository.has_blob(self._blob.digest, self._repository.pushing):
                return "present" if attempt == 1 else "sent"
            if attempt == 1 and self._mounted():
                return "mounted"
            session, outcome = self._begin()
            if session is None and isinstance(outcome, Reply):
                if outcome.status == CREATED:
                    # Taken in one request.
                    outcome.drop()
                    return "sent"
            elif session is not None:
                request, outcome = self._send(session)
                if isinstance(outcome, Reply) and outcome.status in _STORED:
                    outcome.drop()
                    return "sent"
                if self._change_of_way(outcome):
                    attempt -= 1
                    continue
                if isinstance(outcome, Reply) and not _may_help(outcome):
                    raise exchange.refusal(request, outcome, self._what)
            assert outcome is not None  # noqa: S101  (a session, or why there is none)
            exchange.wait_after(self._begin_request(), outcome, attempt, self._what)

    @property
    def _what(self) -> str:
        return f"blob {self._blob.digest}"

    # ---- mounting --------------------------------------------------------------

    def _mounted(self) -> bool:
        """Have the registry take the blob out of another of its repositories."""
        repository = self._repository
        for name in self._near:
            url = repository.place.url(
                "blobs/uploads/", mount=str(self._blob.digest), **{"from": name}
            )
            request = Request(method="POST", url=url)
            try:
                outcome = repository.exchange.once(
                    request, (*repository.pushing, pull_scope(name))
                )
            except Unauthorized:
                # No token for both repositories: that is no reason not to push.
                continue
            if isinstance(outcome, Trouble):
                continue
            outcome.drop()
            if outcome.status == CREATED:
                return True
            if outcome.status == ACCEPTED:
                # It began an upload instead; ours has its own session.
                self._abandon(outcome)
        return False

    def _abandon(self, reply: Reply) -> None:
        session = self._session(reply)
        if session is not None:
            request = Request(method="DELETE", url=session.url)
            outcome = self._repository.exchange.once(request, self._repository.pushing)
            if isinstance(outcome, Reply):
                outcome.drop()

    # ---- sending ---------------------------------------------------------------

    def _begin_request(self) -> Request:
        url = self._repository.place.url("blobs/uploads/")
        return Request(method="POST", url=url)

    def _begin(self) -> tuple[_Session | None, Reply | Trouble | None]:
        """Begin an upload: where it goes on, or the answer that does not say so."""
        exchange, pushing = self._repository.exchange, self._repository.pushing
        request = self._begin_request()
        outcome = exchange.once(request, pushing)
        if isinstance(outcome, Reply) and outcome.status in {400, 405, 411, 501}:
            # One that takes blobs in a single request only.
            outcome.drop()
            request = self._whole(
                "POST", with_query(request.url, digest=str(self._blob.digest))
            )
            outcome = exchange.once(request, pushing)
            if isinstance(outcome, Reply) and outcome.status == CREATED:
                return None, outcome
        if isinstance(outcome, Trouble):
            return None, outcome
        if outcome.status != ACCEPTED:
            if not _may_help(outcome):
                raise exchange.refusal(request, outcome, self._what)
            return None, outcome
        outcome.drop()
        session = self._session(outcome)
        if session is None:
            where = self._location(outcome)
            reason = where.reason if isinstance(where, Refusal) else "no session"
            hint = where.hint if isinstance(where, Refusal) else None
            raise RegistryError(
                "POST",
                request.url,
                f"{self._what}: {reason}",
                status=ACCEPTED,
                hint=hint,
            )
        return session, None

    def _location(self, reply: Reply) -> str | Refusal:
        place = self._repository.place
        location = reply.headers.get("location")
        if not location and (name := reply.headers.get("docker-upload-uuid")):
            location = place.url(f"blobs/uploads/{name}")
        return uploaded_to(reply.url, location, plain_http=place.endpoint.plain_http)

    def _session(self, reply: Reply) -> _Session | None:
        where = self._location(reply)
        if isinstance(where, Refusal):
            return None
        text = reply.headers.get("oci-chunk-min-length", "")
        least = int(text) if text.isascii() and text.isdigit() else 0
        return _Session(where, min(least, _CHUNK_MAX))

    def _whole(self, method: str, url: str) -> Request:
        return Request(
            method=method,
            url=url,
            headers={"Content-Type": "application/octet-stream"},
            body=self._source,
            length=self._blob.size,
        )

    def _send(self, session: _Session) -> tuple[Request, Reply | Trouble]:
        if self._parts:
            return self._send_parts(session)
        url = with_query(session.url, digest=str(self._blob.digest))
        request = self._whole("PUT", url)
        return request, self._repository.exchange.once(
            request, self._repository.pushing
        )

    def _send_parts(self, session: _Session) -> tuple[Request, Reply | Trouble]:
        exchange, pushing = self._repository.exchange, self._repository.pushing
        url, position = session.url, 0
        for part in _parts(self._source(), max(self._chunk, session.least)):
            last = position + len(part) - 1
            request = Request(
                method="PATCH",
                url=url,
                headers={
                    "Content-Type": "application/octet-stream",
                    "Content-Range": f"{position}-{last}",
                },
                body=lambda part=part: [part],  # type: ignore[misc]
                length=len(part),
            )
            outcome = exchange.once(request, pushing)
            if isinstance(outcome, Trouble) or outcome.status not in {
                ACCEPTED,
                NO_CONTENT,
                CREATED,
                OK,
            }:
                return request, outcome
            outcome.drop()
            where = self._location(outcome)
            if not isinstance(where, Refusal):
                url = where
            position = last + 1
        request = Request(
            method="PUT", url=with_query(url, digest=str(self._blob.digest))
        )
        return request, exchange.once(request, pushing)

    def _change_of_way(self, outcome: Reply | Trouble) -> bool:
        """Go on in parts, or in smaller ones, where a registry wants it so."""
        if isinstance(outcome, Trouble) or outcome.status not in _IN_PARTS:
            return False
        if not self._parts:
            self._parts = True
        elif outcome.status == _TOO_LARGE and self._chunk > _CHUNK_MIN:
            self._chunk //= 4
        else:
            return False
        outcome.drop()
        return True


def _parts(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Put pieces together to parts of one size; the last may be shorter."""
    held = bytearray()
    for piece in pieces:
        held += piece
        while len(held) >= size:
            yield bytes(held[:size])
            del held[:size]
    if held:
        yield bytes(held)


def _may_help(reply: Reply) -> bool:
    """Tell whether a new upload may go better. A session may get lost: 404."""
    return reply.status in retry.RETRIED or reply.status == NOT_FOUND
