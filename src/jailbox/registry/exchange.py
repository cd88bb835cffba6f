"""
One logical request to a repository: let in, redirected, repeated.

A redirect to another origin is followed without what was shown to the first one.
"""

from collections.abc import Callable, Iterable

import attrs

from jailbox.errors import RegistryError, Unauthorized
from jailbox.registry import address, retry
from jailbox.registry.address import REDIRECTS, REDIRECTS_MAX, Refusal, origin_of
from jailbox.registry.challenge import merge_scopes, parse
from jailbox.registry.http import Headers, Reply, Request, Trouble
from jailbox.registry.secret import Secret
from jailbox.registry.settings import Place
from jailbox.registry.tokens import Gate
from jailbox.registry.wire import Wire, broke, refused

__all__ = ["Exchange"]

UNAUTHORIZED, FORBIDDEN = 401, 403


class Exchange:
    """
    Requests to one place.

    Args:
        place: The registry and the repository.

        gate: The way in.

        wire: The requests of the operation.
    """

    def __init__(self, place: Place, gate: Gate, wire: Wire) -> None:
        self.place = place
        self.wire = wire
        self._gate = gate

    def request(
        self,
        method: str,
        url: str,
        *,
        want: Iterable[int],
        scopes: Iterable[str],
        headers: Headers | None = None,
        body: Callable[[], Iterable[bytes]] | None = None,
        length: int = 0,
        what: str | None = None,
    ) -> Reply:
        """
        Make a request that changes nothing when it is made twice.

        Args:
            want: The statuses that are an answer.

            scopes: What must be granted.

            what: What is asked for, in words.

        Raises:
            Unauthorized, RateLimited, RegistryError: If there is no such answer.

            DeadlineExceeded: If the time of the operation is over.
        """
        asked = Request(
            method=method, url=url, headers=headers or {}, body=body, length=length
        )
        attempt = 0
        while True:
            attempt += 1
            outcome = self.once(asked, scopes)
            if isinstance(outcome, Reply):
                if outcome.status in want:
                    return outcome
                if outcome.status not in retry.RETRIED:
                    raise self.refusal(asked, outcome, what)
            self.wait_after(asked, outcome, attempt, what)

    def wait_after(
        self,
        request: Request,
        outcome: Reply | Trouble,
        attempt: int,
        what: str | None = None,
    ) -> None:
        """Wait before the next attempt; raise if there is to be none."""
        self.wire.wait_after(
            request, outcome, attempt, what=what, hide=self._gate.secrets()
        )

    def refusal(
        self, request: Request, outcome: Reply | Trouble, what: str | None = None
    ) -> RegistryError:
        """Make the error of an answer that was not wanted."""
        if isinstance(outcome, Trouble):
            return broke(request.method, request.url, outcome)
        with outcome:
            error = refused(
                request.method, outcome.url, outcome, what, hide=self._gate.secrets()
            )
        if isinstance(error, Unauthorized):
            error.hint = self._gate.advice()
            error.add_note(error.hint)
        return error

    def once(self, request: Request, scopes: Iterable[str]) -> Reply | Trouble:
        """
        Make a request: answer challenges, follow redirects, repeat nothing.

        Raises:
            RegistryError: If a redirect is refused, or a token.
        """
        place, endpoint = self.place, self.place.endpoint
        wanted = merge_scopes(scopes)
        shown = self._gate.show(self.wire, wanted)
        url, hops, answers = request.url, 0, 0
        while True:
            at_home = origin_of(url) == place.origin
            headers = dict(request.headers)
            if at_home and shown is not None:
                headers["Authorization"] = shown
            asked = attrs.evolve(request, url=url, headers=headers)
            reply = self.wire.once(asked, endpoint)
            if isinstance(reply, Trouble):
                return reply
            if at_home and reply.status in {UNAUTHORIZED, FORBIDDEN}:
                better = self._answer(reply, wanted, shown, answers)
                if better is not None:
                    reply.drop()
                    shown, answers = better, answers + 1
                    continue
            if reply.status in REDIRECTS:
                hops += 1
                reply.drop()
                url = self._next(asked, reply, hops)
                continue
            return reply

    def _answer(
        self,
        reply: Reply,
        wanted: tuple[str, ...],
        shown: Secret | None,
        answers: int,
    ) -> Secret | None:
        """Return what to show instead of *shown*, if that may help."""
        challenges = parse(reply.headers.get("www-authenticate"))
        more = any(each.wants_more for each in challenges)
        if reply.status != UNAUTHORIZED and not more:
            return None
        try:
            return self._gate.answer(self.wire, challenges, wanted, shown, answers)
        except BaseException:
            reply.close()
            raise

    def _next(self, request: Request, reply: Reply, hops: int) -> str:
        if hops > REDIRECTS_MAX:
            target: str | Refusal = Refusal(f"more than {REDIRECTS_MAX} redirects")
        else:
            target = address.hop(
                request.url,
                reply.headers.get("location"),
                plain_http=self.place.endpoint.plain_http,
            )
        if isinstance(target, Refusal):
            raise RegistryError(
                request.method,
                request.url,
                target.reason,
                status=reply.status,
                hint=target.hint,
            )
        return target
