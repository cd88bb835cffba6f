"""
A client of registries: what it may do where, and the verbs.

Nothing is global: connections, tokens and settings belong to the client, and end with
it. Every verb is one operation with one deadline.
"""

import contextlib
import os
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self, TypeVar

import attrs

from jailbox.errors import (
    ContentError,
    ImageNotFound,
    RegistryError,
    SpecError,
)
from jailbox.registry.credentials import Keychain
from jailbox.registry.events import Event, Warned
from jailbox.registry.exchange import Exchange
from jailbox.registry.http import Transport
from jailbox.registry.pace import Call
from jailbox.registry.repository import Fetched, Repository
from jailbox.registry.settings import Endpoint, Place, Settings, place_of
from jailbox.registry.tokens import Gate
from jailbox.registry.wire import Wire
from jailbox.spec.descriptor import Descriptor
from jailbox.spec.reference import Reference

__all__ = ["Client", "Operation"]

T = TypeVar("T")
OnEvent = Callable[[Event], None]


class Client:
    """
    A client of registries. Close it, or use it as a context manager.

    Safe to use from several threads.

    Args:
        endpoints: How registries are reached that are not reached in the usual way, by
            name: ``{"127.0.0.1:5000": Endpoint(plain_http=True)}``.

        keychain: Who we are. By default, what is in the files of Docker and Podman.
            ``Keychain()`` is nobody in particular, and reads nothing.

        settings: How to behave.
    """

    def __init__(
        self,
        *,
        endpoints: Mapping[str, Endpoint] | None = None,
        keychain: Keychain | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.settings = Settings() if settings is None else settings
        self.keychain = Keychain.of_user() if keychain is None else keychain
        self._endpoints = {
            name.lower(): each for name, each in (endpoints or {}).items()
        }
        self._lock = threading.Lock()
        self._transports: dict[Endpoint, Transport] = {}
        self._gates: dict[Place, Gate] = {}

    def close(self) -> None:
        """Close all connections. Closing twice is harmless."""
        with self._lock:
            transports = list(self._transports.values())
            self._transports.clear()
            self._gates.clear()
        for each in transports:
            each.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        names = ", ".join(sorted(self._endpoints)) or "the usual way"
        return f"<Client: {names}>"

    # ---- verbs -----------------------------------------------------------------

    def resolve(
        self, reference: Reference | str, *, timeout: float | None = None
    ) -> Descriptor:
        """
        Return what a name stands for now, without fetching it: one HEAD.

        Raises:
            ImageNotFound: If the registry has no such image.

            Unauthorized, RateLimited, RegistryError: If it does not answer.

            DeadlineExceeded: If *timeout* is over.
        """
        name = _reference(reference)
        with self.operation(f"resolving {name.familiar()}", timeout=timeout) as doing:
            return doing.first(name, lambda repository: repository.resolve(name))

    def manifest(
        self, reference: Reference | str, *, timeout: float | None = None
    ) -> Fetched:
        """Fetch a manifest or an index, as the bytes that it is."""
        name = _reference(reference)
        with self.operation(f"fetching {name.familiar()}", timeout=timeout) as doing:
            return doing.first(name, lambda repository: repository.manifest(name))

    def tags(
        self, reference: Reference | str, *, timeout: float | None = None
    ) -> tuple[str, ...]:
        """List the tags of a repository; a tag of *reference* does not matter."""
        name = _reference(reference)
        action = f"listing the tags of {name.familiar()}"
        with self.operation(action, timeout=timeout) as doing:
            return doing.home(name).tags()

    def referrers(
        self, reference: Reference | str, *, timeout: float | None = None
    ) -> tuple[Descriptor, ...]:
        """List what says something about an image: signatures, attestations."""
        name = _reference(reference)
        action = f"listing the referrers of {name.familiar()}"
        with self.operation(action, timeout=timeout) as doing:
            repository = doing.home(name)
            digest = name.digest or repository.resolve(name).digest
            return repository.referrers(digest)

    def delete(
        self, reference: Reference | str, *, timeout: float | None = None
    ) -> None:
        """
        Delete a manifest from a registry, by tag or by digest.

        By digest all its tags go too. Many registries allow no deletion, or none by
        tag: `RegistryError` with status 405 or 400.
        """
        name = _reference(reference)
        with self.operation(f"deleting {name.familiar()}", timeout=timeout) as doing:
            doing.home(name).delete_manifest(name)

    # ---- for transfers -----------------------------------------------------------

    @contextlib.contextmanager
    def operation(
        self,
        action: str,
        *,
        timeout: float | None = None,
        on_event: OnEvent | None = None,
    ) -> "Iterator[Operation]":
        """
        Begin one operation: its deadline, and whom it reports to.

        Args:
            action: What it is, for errors.

            timeout: How long it may take, in seconds.

            on_event: Is called with every event, one at a time.
        """
        yield Operation(self, Call(action, timeout), on_event)

    def transport(self, endpoint: Endpoint) -> Transport:
        """Return the connections to whatever is reached like *endpoint*."""
        with self._lock:
            found = self._transports.get(endpoint)
            if found is None:
                found = Transport(
                    self.settings.bounds,
                    lambda: _context(endpoint),
                    proxy=self.settings.proxy,
                    connections=max(8, self.settings.parallel),
                )
                self._transports[endpoint] = found
            return found

    def gate(self, place: Place) -> Gate:
        """Return the way into a repository, with the tokens that it has."""
        with self._lock:
            found = self._gates.get(place)
            if found is None:
                found = self._gates[place] = Gate(place, self.keychain)
            return found

    def places(self, reference: Reference) -> tuple[Place, ...]:
        """Return where an image may be pulled from: the mirrors, then the registry."""
        domain, path = reference.domain.lower(), reference.path
        home = place_of(domain, path, self._endpoints)
        mirrors = (
            place_of(mirror, path, self._endpoints, mirror_of=domain)
            for mirror in home.endpoint.mirrors
        )
        return (*mirrors, home)


class Operation:
    """
    One operation of a client.

    Attributes:
        call: Its deadline, and how to end it.
    """

    def __init__(self, client: Client, call: Call, on_event: OnEvent | None) -> None:
        self.client = client
        self.call = call
        self._on_event = on_event
        self._telling = threading.Lock()
        self._wire = Wire(client.transport, client.settings, call, self.tell)

    def tell(self, event: Event) -> None:
        """Report an event: one at a time, whichever thread it comes from."""
        if self._on_event is not None:
            with self._telling:
                self._on_event(event)

    def at(self, place: Place, reference: Reference) -> Repository:
        """Return a repository at one place."""
        exchange = Exchange(place, self.client.gate(place), self._wire)
        return Repository(exchange, _name(reference))

    def home(self, reference: Reference) -> Repository:
        """Return the repository at its registry, not at a mirror."""
        return self.at(self.client.places(reference)[-1], reference)

    def first(self, reference: Reference, ask: Callable[[Repository], T]) -> T:
        """
        Ask the mirrors and then the registry; the first answer counts.

        What a mirror says against it is a warning. What the registry says is raised.
        """
        *mirrors, home = self.client.places(reference)
        for place in mirrors:
            try:
                return ask(self.at(place, reference))
            except (RegistryError, ImageNotFound, ContentError) as error:
                message = f"the mirror {place.registry} was of no use: {error}"
                self.tell(Warned(message))
        return ask(self.at(home, reference))


def _name(reference: Reference) -> str:
    return attrs.evolve(reference, tag=None, digest=None).familiar()


def _reference(given: Reference | str) -> Reference:
    return given if isinstance(given, Reference) else Reference.parse(given)


def _context(endpoint: Endpoint) -> ssl.SSLContext:
    """Trust what the system trusts, and what the caller named for this registry."""
    context = ssl.create_default_context()
    if endpoint.ca is None:
        return context
    try:
        if isinstance(endpoint.ca, bytes):
            context.load_verify_locations(cadata=endpoint.ca.decode())
        else:
            context.load_verify_locations(cafile=os.fspath(endpoint.ca))
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) else "no text of ASCII"
        value: Any = "bytes" if isinstance(endpoint.ca, bytes) else endpoint.ca
        raise SpecError(
            "ca",
            f"cannot be used: {what or 'no certificate in it'}",
            value=str(value),
            accepted="a file of certificates (PEM)",
        ) from None
    return context
