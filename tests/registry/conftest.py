"""A registry, a client that may speak to it, and what is in it."""

from collections.abc import Iterator

import pytest

from jailbox.registry.client import Client
from jailbox.spec.reference import Reference
from jailbox.testing import Registry
from tests.registries import HASTY


@pytest.fixture
def registry() -> Iterator[Registry]:
    """Return an empty registry that lets everybody do everything."""
    with Registry() as made:
        yield made


@pytest.fixture
def client(registry: Registry) -> Iterator[Client]:
    """Return a client that may speak to it, as nobody in particular."""
    with registry.client(settings=HASTY) as made:
        yield made


@pytest.fixture
def base(registry: Registry) -> Reference:
    """Return the name of an image in it, which may not be there yet."""
    return Reference.parse(f"{registry.address}/group/base:1")
