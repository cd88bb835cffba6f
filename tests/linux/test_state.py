"""
The run directory: names of keepers, and what is left when one has died.
"""

import os
from pathlib import Path

import pytest

from jailbox.linux.state import claim, sweep


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a run directory."""
    place = tmp_path / "run"
    place.mkdir(mode=0o700)
    return place


def grow(parent: Path, name: str) -> Path:
    """Make what stands for the groups of a keeper."""
    group = parent / name
    (group / "run-2").mkdir(parents=True)
    return group


class TestSweep:
    def test_the_living_are_left_alone(self, run: Path, tmp_path: Path) -> None:
        """
        While its lock is held, nothing of a keeper is removed.
        """
        name, lock = claim(str(run), [f"{tmp_path}/memory/{{keeper}}"])
        group = grow(tmp_path / "memory", name)

        assert () == sweep(str(run), (f"{tmp_path}/memory",))
        assert group.exists()
        os.close(lock)

    def test_the_dead_are_swept_in_every_hierarchy(
        self, run: Path, tmp_path: Path
    ) -> None:
        """
        Groups of a dead keeper go wherever they are, also if whoever sweeps uses none.
        """
        kinds = ("memory", "pids", "cpu")
        wished = [f"{tmp_path}/{kind}/{{keeper}}" for kind in kinds]
        name, lock = claim(str(run), wished)
        groups = [grow(tmp_path / kind, name) for kind in kinds]
        os.close(lock)

        assert (name,) == sweep(str(run), ())
        assert not any(group.exists() for group in groups)
        assert [] == list(run.iterdir())
        assert () == sweep(str(run), ())

    def test_a_name_stays_as_long_as_its_groups(
        self, run: Path, tmp_path: Path
    ) -> None:
        """
        A group that cannot be removed keeps its name, so that the next one finds it.
        """
        name, lock = claim(str(run), [f"{tmp_path}/memory/{{keeper}}"])
        group = grow(tmp_path / "memory", name)
        (group / "run-2/busy").write_text("")
        os.close(lock)

        assert () == sweep(str(run), ())
        (group / "run-2/busy").unlink()
        assert (name,) == sweep(str(run), ())
        assert not group.exists()

    def test_only_groups_of_that_name(self, run: Path, tmp_path: Path) -> None:
        """
        What stands in the file counts only if it carries the keeper's name.
        """
        other = grow(tmp_path / "memory", "other")
        _, lock = claim(str(run), [str(other)])
        os.close(lock)

        sweep(str(run), ())

        assert other.exists()
