"""
Requests that are made again when that may help, and what errors say.

Between `http`, which decides nothing, and those who know what they ask for.
"""

import datetime as dt
import json
import logging
import random
from collections.abc import Callable, Iterable
from typing import Any

from jailbox.errors import (
    DeadlineExceeded,
    RateLimited,
    RegistryError,
    Unauthorized,
    shown,
)
from jailbox.registry import retry
from jailbox.registry.events import Event, Retried, Warned
from jailbox.registry.http import Reply, Request, Transport, Trouble
from jailbox.registry.pace import Call
from jailbox.registry.secret import Secret
from jailbox.registry.settings import Endpoint, Settings

__all__ = ["Answer", "Wire", "broke", "refused"]

log = logging.getLogger("jailbox.registry")

_ERROR_MAX = 64 << 10
_SAID_MAX = 300

TOO_MANY = 429


class Answer:
    """
    A JSON object whose texts may be secrets, and are not shown.

    Kept in a variable or printed by a traceback it says nothing.
    """

    __slots__ = ("_document",)

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document

    def __repr__(self) -> str:
        return "<answer ***>"

    def secret(self, key: str) -> Secret | None:
        """Return a text of it, wrapped; ``None`` if there is none."""
        value = self._document.get(key)
        return Secret(value) if isinstance(value, str) and value else None

    def number(self, key: str) -> float | None:
        """Return a number of it, or ``None``."""
        value = self._document.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return float(value)


class Wire:
    """
    The requests of one operation.

    Args:
        transports: Gives the connections for an endpoint.

        settings: How patient to be.

        call: The operation.

        on_event: Is told of repetitions and warnings, or ``None``.
    """

    def __init__(
        self,
        transports: Callable[[Endpoint], Transport],
        settings: Settings,
        call: Call,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        self.settings = settings
        self.call = call
        self._transports = transports
        self._on_event = on_event

    def tell(self, event: Event) -> None:
        """Report an event, if anybody listens."""
        if self._on_event is not None:
            self._on_event(event)

    def warn(self, message: str) -> None:
        """Report that something is not as it should be."""
        self.tell(Warned(message))

    def once(self, request: Request, endpoint: Endpoint) -> Reply | Trouble:
        """Make a request once."""
        log.debug("%s %s", request.method, request.url.partition("?")[0])
        return self._transports(endpoint).send(request, self.call)

    def patiently(self, request: Request, endpoint: Endpoint) -> Reply:
        """
        Make a request, again and again if that may help.

        Returns:
            The first answer that is no reason to try again.

        Raises:
            RegistryError: If there was no such answer.
        """
        attempt = 0
        while True:
            attempt += 1
            outcome = self.once(request, endpoint)
            if isinstance(outcome, Reply) and outcome.status not in retry.RETRIED:
                return outcome
            self.wait_after(request, outcome, attempt)

    def wait_after(
        self,
        request: Request,
        outcome: Reply | Trouble,
        attempt: int,
        *,
        what: str | None = None,
        hide: Iterable[Secret] = (),
    ) -> None:
        """
        Wait before the next attempt, after the failed one.

        Args:
            what: What was wanted, for errors.

            hide: What errors must not repeat.

        Raises:
            RegistryError: If there is to be no other; it says what happened last.
        """
        wish = None
        if isinstance(outcome, Trouble):
            error = broke(request.method, request.url, outcome)
            seconds = None if outcome.is_final else self._pause(attempt, None)
        else:
            now = dt.datetime.now(dt.UTC)
            wish = retry.retry_after(outcome.headers.get("retry-after"), now)
            error = refused(request.method, request.url, outcome, what, hide=hide)
            seconds = self._pause(attempt, wish)
        if seconds is None:
            if attempt > 1:
                error.add_note(f"Given up after {attempt} attempts.")
            raise error
        self.tell(Retried(f"{error.method} {error.url}", error.message, seconds))
        log.debug("again in %.2f s: %s", seconds, error.message)
        try:
            self.call.sleep(seconds)
        except DeadlineExceeded as over:
            over.add_note(f"Last: {error.message}")
            raise

    def _pause(self, attempt: int, wish: float | None) -> float | None:
        chance = random.random()  # noqa: S311  (it spreads clients, and hides nothing)
        return retry.pause(self.settings.retries, attempt, wish, jitter=chance)

    def json(self, reply: Reply, limit: int) -> Answer | Trouble:
        """Read an answer that is a JSON object; one that is not is an empty one."""
        data = reply.text(limit)
        return data if isinstance(data, Trouble) else Answer(_object(data, limit))


def _object(data: bytes, limit: int) -> dict[str, Any]:
    if len(data) > limit:
        return {}
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def broke(method: str, url: str, trouble: Trouble) -> RegistryError:
    """Make the error of a request that has no answer."""
    return RegistryError(method, url, trouble.reason, hint=trouble.hint)


def refused(
    method: str,
    url: str,
    reply: Reply,
    what: str | None = None,
    *,
    hide: Iterable[Secret] = (),
) -> RegistryError:
    """
    Make the error of an answer that is a refusal; reads its body.

    Args:
        what: What was wanted, in words, or ``None``.

        hide: What must not be repeated, should the registry repeat it.
    """
    status = reply.status
    code, said = _said(reply)
    if any(each and each.reveal() in said for each in hide):
        said = "what it said has a secret in it"
    reason = ": ".join(each for each in (what, _meaning(status, code), said) if each)
    now = dt.datetime.now(dt.UTC)
    wish = retry.retry_after(reply.headers.get("retry-after"), now)
    if status == TOO_MANY or code == "TOOMANYREQUESTS":
        return RateLimited(
            method,
            url,
            reason,
            status=status,
            retry_after=wish,
            reset=retry.reset_time(reply.headers, now),
            hint="Registries allow more to those who are logged in.",
        )
    if status in {401, 403}:
        return Unauthorized(method, url, reason, status=status, retry_after=wish)
    return RegistryError(method, url, reason, status=status, retry_after=wish)


_MEANINGS = {
    401: "unauthorized: authentication is required",
    403: "access is denied",
    404: "not found",
    405: "the registry does not allow this",
    406: "the registry has no such media type",
    413: "too large for the registry",
    415: "the registry does not accept this media type",
    416: "the registry has no such range",
    429: "too many requests",
}


def _meaning(status: int, code: str) -> str:
    """Return what a status means, in words; the code says more where there is one."""
    if code == "MANIFEST_UNKNOWN":
        return "manifest unknown, not found"
    if code == "NAME_UNKNOWN":
        return "repository name not known, not found"
    if status in _MEANINGS:
        return _MEANINGS[status]
    kind = {3: "an unexpected redirect", 4: "refused", 5: "the registry failed"}
    return kind.get(status // 100, "an unexpected answer")


def _said(reply: Reply) -> tuple[str, str]:
    """
    Return the code and the words of the registry, bounded and printable.

    Source: distribution-spec, "Error Codes".
    """
    data = reply.text(_ERROR_MAX)
    document = {} if isinstance(data, Trouble) else _object(data, _ERROR_MAX)
    errors = document.get("errors")
    first = errors[0] if isinstance(errors, list) and errors else None
    if not isinstance(first, dict):
        details = document.get("details")
        return "", shown(details[:_SAID_MAX]) if isinstance(details, str) else ""
    code, words = first.get("code"), first.get("message")
    return (
        code[:_SAID_MAX] if isinstance(code, str) else "",
        shown(words[:_SAID_MAX]) if isinstance(words, str) and words else "",
    )
