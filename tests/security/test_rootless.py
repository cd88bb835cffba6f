"""
The checks of this folder, for an ordinary user.

Who runs the whole suite as root runs them twice more here: as a user with a range of
subordinate ids, and as one without, where a jail has a single id.
"""

import re

import pytest

from tests.users import Shelf, User

pytestmark = [pytest.mark.root, pytest.mark.slow]

# Fewer pass only if checks were taken away.
AT_LEAST = 400


@pytest.mark.parametrize("kind", ["ordinary_user", "plain_user"])
def test_the_same_checks_pass(
    kind: str, shelf: Shelf, request: pytest.FixtureRequest
) -> None:
    """
    Every check that needs no root passes for an ordinary user, with and without a range
    of subordinate ids; what is skipped says that it is for want of root, of control
    groups or of ids.
    """
    user: User = request.getfixturevalue(kind)
    done = shelf.pytest(
        user,
        "-q",
        "-rs",
        "tests/security",
        "--deselect",
        "tests/security/test_rootless.py",
        # A client of registries needs no rights, and has none.
        "--deselect",
        "tests/security/test_registry.py",
    )

    assert 0 == done.returncode, done.stdout[-4000:] + done.stderr[-2000:]
    passed = re.search(r"\b(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= AT_LEAST, done.stdout[-1000:]
    for line in done.stdout.splitlines():
        if line.startswith("SKIPPED"):
            assert re.search(
                "not root|control groups|subordinate|more than one id", line
            )
