"""
Where requests go: origins, paths, redirects, pages, ranges. Pure.

A secret is bound to one origin: scheme, host and port. Everything here that names
another place says so, and the caller leaves the secrets behind.
"""

import ipaddress
import re
from typing import Literal
from urllib.parse import quote, urljoin, urlsplit

import attrs

__all__ = [
    "REDIRECTS_MAX",
    "Origin",
    "Refusal",
    "content_range",
    "hop",
    "is_local",
    "next_page",
    "origin_of",
    "uploaded_to",
    "with_query",
]

Scheme = Literal["http", "https"]

REDIRECTS_MAX = 10
"""How many redirects one request follows."""

REDIRECTS = frozenset({301, 302, 303, 307, 308})

_PORTS = {"http": 80, "https": 443}
_URL_MAX = 16 << 10
_LINKS_MAX = 64 << 10
_CONTROL = re.compile(r"[\x00-\x20\x7f]")
_RANGE = re.compile(r"bytes +([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)")


@attrs.frozen
class Origin:
    """
    What a secret is bound to.

    >>> str(Origin("https", "registry.example", 443))
    'https://registry.example'
    """

    scheme: str
    host: str
    port: int

    @property
    def netloc(self) -> str:
        """Host and port, as in a ``Host`` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}"


@attrs.frozen
class Refusal:
    """Why an address is not followed."""

    reason: str
    hint: str | None = None


def origin_of(url: str) -> Origin | None:
    """
    Return the origin of an absolute ``http`` or ``https`` URL.

    ``None`` for everything else: other schemes, user names in the address, ports that
    are none, control characters, texts of unreasonable length.
    """
    if len(url) > _URL_MAX or _CONTROL.search(url) or "\\" in url:
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _PORTS or not parts.hostname or "@" in parts.netloc:
        return None
    return Origin(parts.scheme, parts.hostname, port or _PORTS[parts.scheme])


def hop(url: str, location: str | None, *, plain_http: bool) -> str | Refusal:
    """
    Decide where a redirect leads.

    Args:
        url: What was asked for.

        location: The ``Location`` of the answer: absolute, or relative to *url*.

        plain_http: This registry may be spoken to without encryption.

    Returns:
        The absolute URL. Whether it has the same origin as *url* is for the caller to
        compare, for secrets and request bodies stay where they belong.
    """
    if not location:
        return Refusal("a redirect without a Location")
    if _CONTROL.search(location):
        return Refusal("a redirect to a malformed address")
    try:
        target = urljoin(url, location).partition("#")[0]
    except ValueError:
        return Refusal("a redirect to a malformed address")
    origin, source = origin_of(target), origin_of(url)
    if origin is None or source is None:
        return Refusal("a redirect to something that is no http or https address")
    if origin.scheme == "http" and source.scheme == "https" and not plain_http:
        return Refusal(
            f"a redirect from https to {origin} is refused",
            "A registry behind a proxy may need to be told that it is reached by "
            "https. To allow it: Endpoint(plain_http=True) for this registry.",
        )
    if origin.host != source.host and _is_link_local(origin.host):
        return Refusal(f"a redirect to the link-local address {origin.host} is refused")
    return target


def uploaded_to(url: str, location: str | None, *, plain_http: bool) -> str | Refusal:
    """Decide where an upload goes on, by the ``Location`` of the last answer."""
    if not location:
        return Refusal("the answer does not say where to upload to (no Location)")
    target = hop(url, location, plain_http=plain_http)
    if isinstance(target, Refusal):
        return attrs.evolve(
            target, reason=target.reason.replace("a redirect", "an upload", 1)
        )
    return target


def with_query(url: str, **values: str) -> str:
    """Add to the query of *url*, which may have one."""
    added = "&".join(f"{key}={quote(value, safe=':')}" for key, value in values.items())
    if not added:
        return url
    separator = "?" if "?" not in url else "" if url.endswith(("?", "&")) else "&"
    return f"{url}{separator}{added}"


def next_page(url: str, link: str | None) -> str | None:
    """
    Return where the next page is, by the ``Link`` header; ``None`` after the last one.

    Pages are asked for where the first one was, whatever the link names: a registry
    behind a proxy often does not know by which name it is reached. Source: RFC 8288.
    """
    target = _next_link(link) if link else None
    if target is None or _CONTROL.search(target):
        return None
    try:
        parts = urlsplit(urljoin(url, target))
    except ValueError:
        return None
    origin = origin_of(url)
    return f"{origin}{parts.path}" + (f"?{parts.query}" if parts.query else "")


def _next_link(text: str) -> str | None:
    """Return the target of the first link with the relation ``next``."""
    position = 0
    text = text[:_LINKS_MAX]
    while (start := text.find("<", position)) >= 0:
        end = text.find(">", start)
        if end < 0:
            return None
        # Parameters go up to the next comma that is in no quotes.
        position, quoted = end + 1, False
        while position < len(text) and (quoted or text[position] != ","):
            if text[position] == "\\" and quoted:
                position += 1
            elif text[position] == '"':
                quoted = not quoted
            position += 1
        for parameter in text[end + 1 : position].split(";"):
            name, _, value = parameter.partition("=")
            words = value.strip().strip('"').lower().split()
            if name.strip().lower() == "rel" and "next" in words:
                return text[start + 1 : end]
    return None


def content_range(text: str | None) -> tuple[int, int, int | None] | None:
    """
    Read a ``Content-Range`` of bytes: first, last and, unless it is ``*``, total.

    ``None`` if it is absent or makes no sense. Source: RFC 9110, 14.4.
    """
    found = _RANGE.fullmatch(text.strip()) if text and len(text) < 100 else None  # noqa: PLR2004
    if found is None:
        return None
    first, last = int(found[1]), int(found[2])
    total = None if found[3] == "*" else int(found[3])
    if first > last or (total is not None and last >= total):
        return None
    return first, last, total


def is_local(address: str) -> bool:
    """
    Tell whether an IP address is this machine or its link: loopback, link-local, none.

    The addresses at which clouds serve credentials are link-local.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return (
        ip.is_loopback
        or ip.is_link_local
        or ip.is_unspecified
        or ip.is_multicast
        or ip in _METADATA
    )


# The one that is not link-local: the instance metadata of AWS by IPv6.
_METADATA = frozenset({ipaddress.ip_address("fd00:ec2::254")})


def _is_link_local(host: str) -> bool:
    try:
        ip = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return ip.is_link_local or ip in _METADATA
