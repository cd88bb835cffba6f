"""
Where the cases are, that others wrote.

They are no part of this repository: `--conformance=DIR` names their folder, and beside
a checkout it is found by itself.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[2]
SIBLING = PROJECT.parent / "shared" / "conformance"


def folder(config: pytest.Config) -> Path | None:
    """Return the folder of the cases, or ``None``."""
    given = config.getoption("conformance")
    found = Path(given) if given else SIBLING
    return found if found.is_dir() else None


def cases(config: pytest.Config, collection: str) -> Iterator[dict[str, Any]]:
    """Read the cases of a collection."""
    found = folder(config)
    index = None if found is None else found / collection / "index.jsonl"
    if index is None or not index.is_file():
        return
    with index.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test its cases: it names the collection by a marker."""
    marker = metafunc.definition.get_closest_marker("collection")
    if marker is None:
        return
    name = marker.args[0]
    found = list(cases(metafunc.config, name))
    if found:
        metafunc.parametrize("case", found, ids=[case["id"] for case in found])
        return
    absent = pytest.param(
        None, marks=pytest.mark.skip(reason=f"no conformance cases here: {name}")
    )
    metafunc.parametrize("case", [absent], ids=["absent"])


@pytest.fixture
def collection(request: pytest.FixtureRequest) -> Path:
    """Return the folder of the collection that a test names by its marker."""
    marker = request.node.get_closest_marker("collection")
    found = folder(request.config)
    assert found is not None
    assert marker is not None
    return found / str(marker.args[0])


@pytest.fixture
def conformance(request: pytest.FixtureRequest) -> Path | None:
    """Return the folder of all cases, or ``None``."""
    return folder(request.config)
