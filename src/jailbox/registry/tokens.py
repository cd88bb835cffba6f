"""
Being let in: challenges are answered, tokens fetched and kept, for one registry.

Credentials are looked up only when a registry asks for them, and sent only to its own
origin, or to the place for tokens that `challenge.realm_of` allows.
"""

import base64
import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from urllib.parse import quote

import attrs

from jailbox.errors import RegistryError, Unauthorized
from jailbox.registry.address import Refusal, origin_of, with_query
from jailbox.registry.challenge import (
    Challenge,
    choose,
    is_here,
    merge_scopes,
    realm_of,
)
from jailbox.registry.credentials import (
    Credentials,
    Found,
    IdentityToken,
    Keychain,
    Login,
    RegistryToken,
)
from jailbox.registry.http import Headers, Reply, Request, Trouble
from jailbox.registry.secret import Secret
from jailbox.registry.settings import Place
from jailbox.registry.wire import Answer, Wire, refused

__all__ = ["ANSWERS_MAX", "Gate"]

CLIENT_ID = "jailbox"

_TOKEN_MAX = 1 << 20
# As the specification says of a token that does not say it itself.
_LIFETIME = 60.0
# A token is not used in the last seconds of its life: it has to arrive, too.
_MARGIN = 5.0

# A token service that knows only the one of the two ways.
_NO_SUCH_WAY = frozenset({400, 404, 405, 501})


# How often one request may be answered with a challenge: the first new token is shared
# with other requests, which may use it up; the second one is not.
ANSWERS_MAX = 2


@attrs.frozen
class _Token:
    header: Secret
    until: float

    @property
    def is_good(self) -> bool:
        return time.monotonic() < self.until


class Gate:
    """
    The way into one repository's registry.

    Safe to use from several threads.

    Args:
        place: The registry and the repository.

        keychain: Where credentials are found.
    """

    def __init__(self, place: Place, keychain: Keychain) -> None:
        self._place = place
        self._keychain = keychain
        self._lock = threading.Lock()
        self._found: Found | None = None
        self._challenge: Challenge | None = None
        self._tokens: dict[tuple[str, ...], _Token] = {}

    @contextlib.contextmanager
    def _alone(self, wire: Wire) -> Iterator[None]:
        """Enter, one thread at a time; who waited may find what it wants."""
        left = wire.call.remaining()
        if not self._lock.acquire(timeout=-1 if left is None else left):
            wire.call.check()
        try:
            wire.call.check()
            yield
        finally:
            self._lock.release()

    def show(self, wire: Wire, scopes: tuple[str, ...]) -> Secret | None:
        """
        Return what to show without having been asked: what this registry wanted before.
        """
        with self._alone(wire):
            if self._challenge is None:
                return None
            if self._challenge.scheme == "basic":
                return self._basic(wire)
            token = self._tokens.get(scopes)
            if token is None or not token.is_good:
                token = self._fetch(wire, self._challenge, scopes)
                self._tokens[scopes] = token
            return token.header

    def answer(
        self,
        wire: Wire,
        challenges: tuple[Challenge, ...],
        scopes: tuple[str, ...],
        before: Secret | None,
        count: int,
    ) -> Secret | None:
        """
        Answer a challenge.

        Args:
            wire: Does the requests for tokens.

            challenges: What the registry asks for.

            scopes: What we want to do there.

            before: What was shown and not good enough, or ``None``.

            count: How many challenges were answered for this request before.

        Returns:
            What to show instead; ``None`` if nothing better can be shown.
        """
        chosen = choose(challenges)
        if chosen is None or count >= ANSWERS_MAX:
            return None
        with self._alone(wire):
            if chosen.scheme == "basic":
                header = self._basic(wire)
                if header is None or header == before:
                    return None
                self._challenge = chosen
                return header
            current = self._tokens.get(scopes)
            if (
                current is not None
                and current.is_good
                and current.header != before
                and not chosen.wants_more
            ):
                # Another thread has just got a new one.
                return current.header
            self._challenge = chosen
            token = self._fetch(wire, chosen, scopes)
            if count + 1 < ANSWERS_MAX:
                self._tokens[scopes] = token
            return token.header

    def secrets(self) -> tuple[Secret, ...]:
        """Return everything that a registry could repeat to us in an error."""
        credentials = None if self._found is None else self._found.credentials
        headers = [each.header for each in self._tokens.values()]
        match credentials:
            case Login():
                headers += [credentials.password, _basic_header(credentials)]
            case IdentityToken() | RegistryToken():
                headers.append(credentials.token)
        return tuple(Secret(each.reveal().rpartition(" ")[2]) for each in headers)

    def advice(self) -> str:
        """Say what can be done by someone who was not let in."""
        found, registry = self._found, self._place.registry
        if found is None or found.credentials is None:
            words = [f"No credentials for {registry} were found."]
            if found is not None:
                words += [f"{each[0].upper()}{each[1:]}." for each in found.warnings]
            words.append(
                f"Give them: Keychain({{{registry!r}: Login(USER, PASSWORD)}}), or log "
                f"in with a tool that keeps them: docker login {registry}."
            )
            return " ".join(words)
        return (
            f"The credentials known for {registry} do not allow this, or there is no "
            "such repository: many registries do not tell these apart."
        )

    # ---- below the lock ------------------------------------------------------

    def _credentials(self, wire: Wire) -> Credentials | None:
        if self._found is None:
            place = self._place
            self._found = self._keychain.find(place.registry, place.repository)
            for warning in self._found.warnings:
                wire.warn(warning)
        return self._found.credentials

    def _basic(self, wire: Wire) -> Secret | None:
        credentials = self._credentials(wire)
        return _basic_header(credentials) if isinstance(credentials, Login) else None

    def _fetch(
        self, wire: Wire, challenge: Challenge, scopes: tuple[str, ...]
    ) -> _Token:
        """Get a token for *scopes*, and for what the challenge names beside."""
        credentials = self._credentials(wire)
        if isinstance(credentials, RegistryToken):
            return _Token(_bearer(credentials.token), float("inf"))
        place = self._place
        realm = realm_of(
            challenge,
            place.origin,
            plain_http=place.endpoint.plain_http,
            token_hosts=place.endpoint.token_hosts,
        )
        if isinstance(realm, Refusal):
            raise RegistryError("GET", str(place.origin), realm.reason, hint=realm.hint)
        wanted = merge_scopes(scopes, challenge.scopes)
        return self._ask(wire, realm, challenge.parameters.get("service", ""), wanted)

    def _ask(
        self, wire: Wire, realm: str, service: str, scopes: tuple[str, ...]
    ) -> _Token:
        """Ask for a token, in the way that the credentials want; then in the other."""
        credentials = self._credentials(wire)
        if isinstance(credentials, IdentityToken):
            ways = [self._form(realm, service, scopes, credentials)]
        elif isinstance(credentials, Login):
            ways = [
                self._query(realm, service, scopes, credentials),
                self._form(realm, service, scopes, credentials),
            ]
        else:
            ways = [self._query(realm, service, scopes, None)]
        for last, request in enumerate(ways, start=1 - len(ways)):
            with self._asked(wire, request) as reply:
                if reply.status == 200:  # noqa: PLR2004  (OK)
                    return _read(wire, request, reply)
                if last < 0 and reply.status in _NO_SUCH_WAY:
                    continue
                raise self._turned_away(request, reply)
        raise AssertionError("a loop over two ways ends in one of them")

    def _query(
        self, realm: str, service: str, scopes: tuple[str, ...], login: Login | None
    ) -> Request:
        pairs = [("service", service)] if service else []
        pairs += [("scope", each) for each in scopes]
        if login is not None:
            pairs += [("account", login.username), ("client_id", CLIENT_ID)]
        query = "&".join(f"{key}={quote(value, safe=':,/')}" for key, value in pairs)
        url = with_query(realm)
        url += ("&" if "?" in url else "?") + query if query else ""
        headers: Headers = {"Accept": "application/json"}
        if login is not None:
            headers = {**headers, "Authorization": _basic_header(login)}
        return self._request("GET", url, headers)

    def _form(
        self,
        realm: str,
        service: str,
        scopes: tuple[str, ...],
        credentials: Login | IdentityToken,
    ) -> Request:
        public = {
            "service": service,
            "scope": " ".join(scopes),
            "client_id": CLIENT_ID,
            "access_type": "online",
        }
        form = Secret(_encoded_form(public, credentials))
        headers = {
            "Accept": "application/json",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        request = self._request("POST", realm, headers)
        return attrs.evolve(
            request,
            body=lambda: [form.reveal().encode()],
            length=len(form.reveal().encode()),
        )

    def _request(self, method: str, url: str, headers: Headers) -> Request:
        # Elsewhere than the registry, whatever the name resolves to, it must not be
        # this machine.
        own = self._place.origin
        foreign = origin_of(url) != own and not is_here(own.host)
        return Request(method=method, url=url, headers=headers, public_only=foreign)

    @contextlib.contextmanager
    def _asked(self, wire: Wire, request: Request) -> Iterator[Reply]:
        reply = wire.patiently(request, self._place.endpoint)
        try:
            yield reply
        finally:
            reply.drop()

    def _turned_away(self, request: Request, reply: Reply) -> RegistryError:
        if 300 <= reply.status < 400:  # noqa: PLR2004  (redirects)
            return RegistryError(
                request.method,
                request.url,
                "a request for a token was redirected, which is refused",
                status=reply.status,
            )
        what = "no token was given"
        error = refused(request.method, request.url, reply, what, hide=self.secrets())
        if isinstance(error, Unauthorized):
            error.add_note(self.advice())
        return error


def _read(wire: Wire, request: Request, reply: Reply) -> _Token:
    """Read a token out of an answer, without keeping the answer in a variable."""
    document = wire.json(reply, _TOKEN_MAX)
    if isinstance(document, Trouble):
        reason = f"the answer with the token broke: {document.reason}"
        raise RegistryError(request.method, request.url, reason)
    token = _token_of(document)
    if token is None:
        reason = "the answer has no token"
        raise RegistryError(request.method, request.url, reason, status=reply.status)
    return token


def _basic_header(login: Login) -> Secret:
    return Secret(
        "Basic "
        + base64.b64encode(
            f"{login.username}:{login.password.reveal()}".encode()
        ).decode()
    )


def _bearer(token: Secret) -> Secret:
    return Secret(f"Bearer {token.reveal()}")


def _encoded_form(public: Mapping[str, str], credentials: Login | IdentityToken) -> str:
    pairs = [f"{key}={quote(value, safe='')}" for key, value in public.items() if value]
    if isinstance(credentials, IdentityToken):
        pairs.append("grant_type=refresh_token")
        pairs.append(f"refresh_token={quote(credentials.token.reveal(), safe='')}")
    else:
        pairs.append("grant_type=password")
        pairs.append(f"username={quote(credentials.username, safe='')}")
        pairs.append(f"password={quote(credentials.password.reveal(), safe='')}")
    return "&".join(pairs)


def _token_of(document: Answer) -> _Token | None:
    secret = document.secret("token") or document.secret("access_token")
    if secret is None or not secret.reveal().isprintable():
        return None
    lifetime = document.number("expires_in")
    if lifetime is None or lifetime <= 0:
        lifetime = _LIFETIME
    margin = min(_MARGIN, lifetime / 2)
    return _Token(_bearer(secret), time.monotonic() + lifetime - margin)
