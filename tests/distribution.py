"""
The package as a stranger gets it: an sdist, and a wheel that was built from it.

Built once for a test run, from a copy of the tree, so that the build in place is not
touched.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import attrs

PROJECT = Path(__file__).parent.parent
FILES = ("LICENSE", "README.md", "pyproject.toml", "setup.py")


@attrs.frozen
class Distribution:
    """The two files of a release."""

    sdist: Path
    wheel: Path


def build(place: Path) -> Distribution:
    """Build both in *place*, an empty directory."""
    source = place / "source"
    copy_sources(source)
    do([sys.executable, "setup.py", "--quiet", "sdist", "--dist-dir", place], source)
    (sdist,) = place.glob("*.tar.gz")
    do(["tar", "-xzf", sdist], place)
    unpacked = place / sdist.name.removesuffix(".tar.gz")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    do([*pip, "--no-build-isolation", "--wheel-dir", place, unpacked], place)
    (wheel,) = place.glob("*.whl")
    return Distribution(sdist, wheel)


def copy_sources(to: Path) -> None:
    """Copy what is needed to build, and nothing that was built."""
    ignore = shutil.ignore_patterns("*.so", "*.egg-info", "__pycache__")
    shutil.copytree(PROJECT / "src", to / "src", ignore=ignore)
    for name in FILES:
        shutil.copy(PROJECT / name, to)


def do(command: list[str | Path], cwd: Path) -> None:
    """Run a command of the test set-up; what it said is in the error."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command} failed:\n{done.stdout}{done.stderr}")
