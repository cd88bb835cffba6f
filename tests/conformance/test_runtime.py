"""
What the peers promise about running containers, asked of us.

The cases are data of the collection ``runtime``: one half of them; whoever has the
other half gives its folder (``--conformance=DIR``). A case that is listed in
``runtime-differences.json`` is one where we decided otherwise; the reason stands beside
it, and a listed case that holds after all fails, so that the list stays true.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.conftest import folder
from tests.conformance.runtime_images import BUSYBOX, make_base
from tests.conformance.runtime_options import NotOffered
from tests.conformance.runtime_player import Player

HERE = Path(__file__).parent
DIFFERENCES: dict[str, str] = json.loads(
    (HERE / "runtime-differences.json").read_text(encoding="utf-8")
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of every case."""
    if "case" not in metafunc.fixturenames:
        return
    place = folder(metafunc.config)
    file = None if place is None else place / "runtime/cases.jsonl"
    if file is None or not file.is_file():
        skip = pytest.mark.skip(reason="no conformance cases here: runtime")
        absent = pytest.param({}, marks=skip)
        metafunc.parametrize("case", [absent], ids=["absent"])
        return
    with file.open(encoding="utf-8") as lines:
        cases = [json.loads(line) for line in lines]
    metafunc.parametrize("case", cases, ids=[case["id"] for case in cases])


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of the image ``busybox``."""
    root = tmp_path_factory.mktemp("conformance") / "busybox"
    if not BUSYBOX.exists():
        pytest.skip("busybox is not installed (Debian: busybox-static)")
    make_base(root)
    # Where a jail of an ordinary user's has to look from outside.
    for parent in (root, root.parent, root.parent.parent):
        parent.chmod(0o755)
    return root


@pytest.mark.userns
@pytest.mark.cgroup
@pytest.mark.root
@pytest.mark.slow
def test_case(case: dict[str, Any], base: Path, tmp_path: Path) -> None:
    """
    A container does what its peers promise of theirs, or why not is written down.
    """
    number = os.urandom(3).hex()
    player = Player(case, base, tmp_path, f"case-{number}")
    reason = DIFFERENCES.get(case["id"])
    try:
        found = player.play()
    except NotOffered as answer:
        pytest.xfail(f"not offered: {answer}")
    if reason is not None:
        assert found, f"{case['id']} holds: take it off the list ({reason})"
        pytest.xfail(reason)
    assert found == (), "\n".join(found)
