"""
Directories that a test run makes for itself, and those that another one left.

They carry the number of their process. A run that was cut off leaves its own; the next
one removes what belongs to nobody any more.
"""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = "jailbox-tests-"

_NAME = re.compile(rf"{PREFIX}(?:[a-z]+-)?(\d+)-\w+")
_OF_USERS = re.compile(r"pytest-of-jbt(\d+)[a-z]")


def make(kind: str = "", directory: str | None = None) -> Path:
    """Make an empty directory of this process; whoever asked removes it."""
    prefix = f"{PREFIX}{kind}{'-' if kind else ''}{os.getpid()}-"
    return Path(tempfile.mkdtemp(prefix=prefix, dir=directory))


@contextlib.contextmanager
def scratch(directory: str | None = None) -> Iterator[Path]:
    """Make a directory of this process for a while."""
    place = make(directory=directory)
    try:
        yield place
    finally:
        shutil.rmtree(place)


def sweep(directory: str | None = None) -> list[str]:
    """
    Remove what test runs left whose process is no more.

    Where something is mounted, or what belongs to another user, stays: nothing but
    files that we made is ever removed.

    Args:
        directory: Where they are; otherwise where temporary files are.

    Returns:
        The names that are gone.
    """
    top = os.path.realpath(directory or tempfile.gettempdir())
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    places = [line.split(" ")[4] for line in mounts.splitlines()]
    gone = []
    for name in os.listdir(top):
        match = _NAME.fullmatch(name) or _OF_USERS.fullmatch(name)
        if match is None or os.path.exists(f"/proc/{match[1]}"):
            continue
        path = os.path.join(top, name)
        if any(place == path or place.startswith(f"{path}/") for place in places):
            continue
        with contextlib.suppress(OSError):
            if os.geteuid() in {0, os.lstat(path).st_uid}:
                shutil.rmtree(path)
                gone.append(name)
    return gone
