"""
What a registry asks for when it says 401. Pure.

`parse` reads ``WWW-Authenticate``; `choose` picks what we can answer; `realm_of`
decides whether the place that hands out tokens may be asked at all.

Source: RFC 9110, 11.6.1; distribution, *docs/spec/auth/token.md*.
"""

import re
from collections.abc import Iterable, Mapping

import attrs

from jailbox.registry.address import Origin, Refusal, is_local, origin_of

__all__ = [
    "TOKEN_HOSTS",
    "Challenge",
    "choose",
    "is_here",
    "merge_scopes",
    "parse",
    "pull_scope",
    "push_scope",
    "realm_of",
]

TOKEN_HOSTS: Mapping[str, tuple[str, ...]] = {
    "docker.elastic.co": ("docker-auth.elastic.co",),
    "index.docker.io": ("auth.docker.io",),
    "lscr.io": ("ghcr.io",),
    "registry-1.docker.io": ("auth.docker.io",),
    "registry.digitalocean.com": ("api.digitalocean.com",),
    "registry.gitlab.com": ("gitlab.com",),
    "registry.hub.docker.com": ("auth.docker.io",),
}
"""The registries that are known to have their tokens elsewhere, and where."""

_HEADER_MAX = 64 << 10
_CHALLENGES_MAX = 16
_PARAMETERS_MAX = 32
_SCOPES_MAX = 64

# Linear, each of them: one class of characters, no alternatives that overlap.
_SPACE = re.compile(r"[ \t,]*")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_EQUALS = re.compile(r"[ \t]*=[ \t]*")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)(?:"|$)', re.DOTALL)
# More than a token, for some do not quote: realm=https://auth.example/token
_BARE = re.compile(r"[^ \t,\"]*")
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))")


@attrs.frozen
class Challenge:
    """
    One way to be let in.

    Attributes:
        scheme: ``bearer``, ``basic``, ..., in lower case.

        parameters: Its parameters, with names in lower case.
    """

    scheme: str
    parameters: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes that it names."""
        return tuple(self.parameters.get("scope", "").split()[:_SCOPES_MAX])

    @property
    def wants_more(self) -> bool:
        """Whether the token was good, but not for this."""
        return self.parameters.get("error") == "insufficient_scope"


def parse(header: str | None) -> tuple[Challenge, ...]:
    """
    Read a ``WWW-Authenticate`` header, several of them joined by commas.

    Reads what is there: a malformed rest ends the list, and nothing is refused.
    """
    text = (header or "")[:_HEADER_MAX]
    found: list[Challenge] = []
    position = _skip(text, 0)
    while position < len(text) and len(found) < _CHALLENGES_MAX:
        scheme = _TOKEN.match(text, position)
        if scheme is None:
            break
        parameters, position = _parameters(text, scheme.end())
        found.append(Challenge(scheme[0].lower(), parameters))
    return tuple(found)


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _parameters(text: str, position: int) -> tuple[dict[str, str], int]:
    """Read parameters up to the next scheme."""
    found: dict[str, str] = {}
    position = _skip(text, position)
    if blob := _TOKEN68.match(text, position):
        # ``Negotiate abc==``; but a scheme without parameters may follow instead,
        # which cannot be told apart and does not matter: we answer neither.
        name = _TOKEN.match(text, position)
        if name is None or name.end() != blob.end():
            return found, _skip(text, blob.end())
    while len(found) < _PARAMETERS_MAX:
        name = _TOKEN.match(text, position)
        equals = _EQUALS.match(text, name.end()) if name else None
        if name is None or equals is None:
            break
        if quoted := _QUOTED.match(text, equals.end()):
            value, position = re.sub(r"\\(.)", r"\1", quoted[1]), quoted.end()
        else:
            bare = _BARE.match(text, equals.end())
            value, position = (bare[0], bare.end()) if bare else ("", equals.end())
        # The first one counts: what is appended cannot change it.
        found.setdefault(name[0].lower(), value)
        position = _skip(text, position)
    return found, position


def choose(challenges: Iterable[Challenge]) -> Challenge | None:
    """Pick the challenge to answer: bearer before basic; ``None`` if there is none."""
    known: dict[str, Challenge] = {}
    for each in challenges:
        if each.scheme == "basic" or (
            each.scheme == "bearer" and "realm" in each.parameters
        ):
            known.setdefault(each.scheme, each)
    return known.get("bearer") or known.get("basic")


def realm_of(
    challenge: Challenge,
    registry: Origin,
    *,
    plain_http: bool,
    token_hosts: Iterable[str] = (),
) -> str | Refusal:
    """
    Decide whether the place that a challenge names may be asked for a token.

    It is a stranger's wish that we send credentials somewhere. The registry itself may
    be that place, by scheme, host and port; a host of `TOKEN_HOSTS` for this registry;
    or one that the caller named, as ``host`` or ``host:port``; nothing else. And none
    of them is this machine, unless the registry is on it, too.
    """
    realm = challenge.parameters.get("realm", "")
    origin = origin_of(realm)
    if origin is None:
        return Refusal("it wants a token from something that is no http address")
    if origin.scheme == "http" and not plain_http:
        return Refusal(
            f"it wants a token from {origin}, which is not encrypted",
            "To allow it: Endpoint(plain_http=True) for this registry.",
        )
    if origin == registry:
        return realm
    if is_here(origin.host) and not is_here(registry.host):
        return Refusal(f"it wants a token from the local address {origin.host}")
    allowed = {*TOKEN_HOSTS.get(registry.host, ()), *token_hosts}
    if origin.host in allowed or origin.netloc in allowed:
        return realm
    return Refusal(
        f"it wants a token from another place, {origin}",
        f"If that is right: Endpoint(token_hosts=[{origin.netloc!r}]) for it.",
    )


def is_here(host: str) -> bool:
    """Tell whether a host is this machine by its very name."""
    return is_local(host) or host == "localhost" or host.endswith(".localhost")


def pull_scope(repository: str) -> str:
    """Return what must be granted to pull from *repository*."""
    return f"repository:{repository}:pull"


def push_scope(repository: str) -> str:
    """Return what must be granted to push to *repository*."""
    return f"repository:{repository}:pull,push"


def merge_scopes(*groups: Iterable[str]) -> tuple[str, ...]:
    """Join scopes: each resource once, with every action asked for, sorted."""
    merged: dict[str, set[str]] = {}
    for scope in (each for group in groups for each in group):
        resource, _, actions = scope.rpartition(":")
        merged.setdefault(resource, set()).update(actions.split(","))
    return tuple(
        f"{resource}:{','.join(sorted(actions))}" if resource else ",".join(actions)
        for resource, actions in sorted(merged.items())
    )
