"""The ordinary users of the test run are as ordinary as they say."""

import os
import pwd
from pathlib import Path

import pytest

from tests.users import Shelf, User, temporary_user


def ranges_of(user: User) -> list[str]:
    """Return the lines about *user* in both files of subordinate ids."""
    return [
        line
        for file in ("/etc/subuid", "/etc/subgid")
        for line in Path(file).read_text(encoding="utf-8").splitlines()
        if line.startswith(f"{user.name}:")
    ]


@pytest.mark.root
def test_ordinary_user(ordinary_user: User) -> None:
    """The ordinary user has no rights, and one range of ids in each file."""
    said = ordinary_user.run(
        ["sh", "-c", "id -u; id -G; grep CapEff /proc/self/status"]
    )

    assert said.stdout.splitlines() == [
        str(ordinary_user.uid),
        str(ordinary_user.gid),
        "CapEff:\t0000000000000000",
    ]
    assert [line.split(":")[2] for line in ranges_of(ordinary_user)] == ["65536"] * 2


@pytest.mark.root
def test_plain_user(plain_user: User) -> None:
    """The plain user has no range of ids."""
    assert ranges_of(plain_user) == []


@pytest.mark.root
def test_removed(shared_place: Path) -> None:
    """A user goes away with its home, its ranges and what it still runs."""
    with temporary_user("t", shared_place, ranges=True) as user:
        script = "setsid sleep 60 >/dev/null 2>&1 & echo $!"
        pid = int(user.run(["sh", "-c", script]).stdout)
        state = Path(f"/proc/{pid}/stat")
        assert state.exists()

    assert not user.home.exists()
    assert ranges_of(user) == []
    assert user.name not in {entry.pw_name for entry in pwd.getpwall()}
    assert not state.exists() or " Z " in state.read_text(encoding="ascii")


@pytest.mark.root
@pytest.mark.slow
def test_shelf(plain_user: User, shelf: Shelf) -> None:
    """An ordinary user can run a test of ours with the installed package."""
    module = "tests/test_leaks.py::test_quiet"
    done = shelf.pytest(plain_user, "-q", module)
    assert "1 passed" in done.stdout, done.stdout + done.stderr

    where = plain_user.run(
        [str(shelf.python), "-c", "import jailbox; print(jailbox.__file__)"],
        cwd=shelf.path,
    )
    assert where.stdout.startswith(os.fspath(shelf.path / "venv")), where.stderr
