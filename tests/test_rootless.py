"""
What holds for root holds for ordinary users: the same tests, run as two of them.

One has a range of subordinate ids, the other has none and so a single id in a jail.
They run on the shelf, with the package installed from its wheel.
"""

import pytest

from tests.users import Shelf, User

# The rooms whose tests start jails; tests/security has a test of its own for this.
SUITE = (
    "tests/container",
    "tests/engine/test_written.py",
    "tests/run",
    "tests/test_docs.py::test_page",
)

pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.mark.parametrize("who", ["ordinary_user", "plain_user"])
def test_suite(who: str, shelf: Shelf, request: pytest.FixtureRequest) -> None:
    """The suite passes for an ordinary user, and skips only what may be skipped."""
    user: User = request.getfixturevalue(who)
    accepted = "--accepted-skips=tests/accepted-skips-rootless.txt"
    # Its agents are compiled from the C part, which is not installed; it needs no jail.
    without = "--ignore=tests/run/test_files.py"

    done = shelf.pytest(user, "-q", "--tb=short", accepted, without, *SUITE)

    assert done.returncode == 0, f"\n{done.stdout[-20000:]}{done.stderr}"
