"""What test runs that were cut off have left is removed by the next one."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.scratch import make, sweep


def dead() -> int:
    """Return the number of a process that is no more."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_what_the_dead_left_is_removed(tmp_path: Path) -> None:
    """Directories of a process that is no more go, with everything in them."""
    names = {f"jailbox-tests-{dead()}-abc_1", f"jailbox-tests-vm-{dead()}-x"}
    for name in names:
        (tmp_path / name / "below").mkdir(parents=True)
        (tmp_path / name / "below/file").touch()

    assert names == set(sweep(str(tmp_path)))
    assert [] == os.listdir(tmp_path)


def test_the_rest_stays(tmp_path: Path) -> None:
    """What a living process has, and what carries no number, is left alone."""
    mine = make(directory=str(tmp_path))
    (tmp_path / "jailbox-tests-abc").mkdir()
    (tmp_path / f"other-{dead()}-x").mkdir()

    assert [] == sweep(str(tmp_path))
    assert 3 == len(os.listdir(tmp_path))
    mine.rmdir()


@pytest.mark.root
def test_mounts_are_not_entered(tmp_path: Path) -> None:
    """Where something is mounted nothing is removed: it may be anybody's."""
    place = tmp_path / f"jailbox-tests-{dead()}-x"
    (place / "mount").mkdir(parents=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", place / "mount"], check=True
    )
    try:
        (place / "mount/file").touch()

        assert [] == sweep(str(tmp_path))
        assert (place / "mount/file").exists()
    finally:
        subprocess.run(["umount", place / "mount"], check=True)
