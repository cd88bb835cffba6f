"""What the tests of the store are given."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

MEMORY = Path("/dev/shm")


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """
    Return a directory in memory, where there is one.

    A store waits for its disk at every step, and ``syncfs`` waits for what everybody
    else has written to the same file system. What order things reach the disk in is
    tested where it matters.
    """
    if not MEMORY.is_dir():
        yield tmp_path
        return
    place = Path(tempfile.mkdtemp(prefix="store-", dir=MEMORY))
    yield place
    shutil.rmtree(place)
