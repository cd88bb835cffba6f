"""How registries are reached: what the caller allows, for each of them."""

import os
import re
from collections.abc import Iterable, Mapping

import attrs

from jailbox.errors import SpecError, SpecTypeError
from jailbox.registry.address import Origin, origin_of, with_query
from jailbox.registry.http import FROM_ENVIRONMENT, Bounds
from jailbox.registry.retry import Policy
from jailbox.registry.secret import Secret

__all__ = ["Endpoint", "Place", "Settings", "place_of"]

DOCKER_HUB = "docker.io"
DOCKER_HUB_SERVER = "registry-1.docker.io"
"""Where the images of ``docker.io`` really are."""

_PREFIX = re.compile(r"[a-z0-9]+(?:[._/-]+[a-z0-9]+)*")


def _names(given: Iterable[str]) -> tuple[str, ...]:
    if isinstance(given, str):
        raise SpecTypeError("endpoint", "is one text", value=given, accepted="a list")
    return tuple(each.lower() for each in given)


def _secret(given: Secret | str | None) -> Secret | None:
    return Secret(given) if isinstance(given, str) else given


@attrs.frozen(kw_only=True)
class Endpoint:
    """
    How one registry is reached. The defaults are strict.

    Attributes:
        plain_http: It is spoken to without encryption: everybody on the way can read
            and change what is sent, passwords included. Never guessed, not even for
            this machine's own address.

        ca: A file of certificates (PEM) that are trusted for this registry, beside
            those of the system; or the text itself, as bytes.

        mirrors: Other registries that have the same images, asked first when pulling:
            ``host``, ``host:port``, or ``host/prefix``. How they are reached is said
            by endpoints of their own.

        token_hosts: Other places at which this registry may have its tokens made,
            ``host`` or ``host:port``. They are sent credentials.
    """

    plain_http: bool = False
    ca: str | bytes | os.PathLike[str] | None = None
    mirrors: tuple[str, ...] = attrs.field(default=(), converter=_names)
    token_hosts: tuple[str, ...] = attrs.field(default=(), converter=_names)


@attrs.frozen(kw_only=True)
class Settings:
    """
    How a client behaves.

    Attributes:
        bounds: How long the network may take.

        retries: What is tried again, and when.

        parallel: How many blobs move at once.

        proxy: The URL of a proxy, ``None`` for none. By default what the environment
            names.
    """

    bounds: Bounds = attrs.field(factory=Bounds)
    retries: Policy = attrs.field(factory=Policy)
    parallel: int = attrs.field(default=4, validator=attrs.validators.ge(1))
    proxy: Secret | None = attrs.field(default=FROM_ENVIRONMENT, converter=_secret)


@attrs.frozen(kw_only=True)
class Place:
    """
    A registry, or a mirror, and a repository in it: where requests go.

    Attributes:
        registry: What it is called: credentials are looked up by this.

        origin: Where it is.

        repository: The repository there.

        endpoint: How it is reached.

        mirror_of: The registry that it is a mirror of, or ``None``.
    """

    registry: str
    origin: Origin
    repository: str
    endpoint: Endpoint
    mirror_of: str | None = None

    def url(self, path: str, **query: str) -> str:
        """Return the address of something in the repository."""
        if self.mirror_of is not None:
            # One mirror may serve several registries: it is told which one is meant.
            query["ns"] = self.mirror_of
        return with_query(f"{self.origin}/v2/{self.repository}/{path}", **query)


def place_of(
    name: str,
    repository: str,
    endpoints: Mapping[str, Endpoint],
    *,
    mirror_of: str | None = None,
) -> Place:
    """
    Decide where a repository is.

    Args:
        name: The registry, ``docker.io`` included; a mirror may have a path.

        repository: The repository, as the reference says.

        endpoints: How registries are reached, by name.

        mirror_of: The registry that *name* is a mirror of, or ``None``.

    Raises:
        SpecError: If a mirror is no host.
    """
    host, _, prefix = name.lower().partition("/")
    endpoint = endpoints.get(host, Endpoint())
    scheme = "http" if endpoint.plain_http else "https"
    server = DOCKER_HUB_SERVER if host == DOCKER_HUB else host
    origin = origin_of(f"{scheme}://{server}")
    if origin is None or (prefix and not (mirror_of and _PREFIX.fullmatch(prefix))):
        raise SpecError(
            "mirrors" if mirror_of else "registry",
            "is no registry",
            value=name,
            accepted="'host', 'host:port', and for a mirror 'host/prefix'",
        )
    path = f"{prefix}/{repository}" if prefix else repository
    return Place(
        registry=host,
        origin=origin,
        repository=path,
        endpoint=endpoint,
        mirror_of=mirror_of,
    )
