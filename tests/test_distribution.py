"""What is in a release, and what is not."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.distribution import PROJECT, Distribution, copy_sources

NATIVE = PROJECT / "src/jailbox/_native"

pytestmark = pytest.mark.slow

# setup.py as it runs where there is no Linux.
ELSEWHERE = """
import runpy, sys, sysconfig
sysconfig.get_config_vars()  # Of this machine: Python has none for elsewhere.
sys.platform = "elsewhere"
sys.argv = ["setup.py", "--quiet", "bdist_wheel"]
runpy.run_path("setup.py", run_name="__main__")
"""


def names(wheel: Path) -> set[str]:
    """Return what is in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_sdist_is_complete(distribution: Distribution) -> None:
    """The sdist has every C file, header and stub; a wheel was built from it alone."""
    with tarfile.open(distribution.sdist) as archive:
        has = {name.partition("/")[2] for name in archive.getnames()}

    wanted = [*NATIVE.glob("*.[ch]"), *NATIVE.glob("*.py*")]
    assert {str(file.relative_to(PROJECT)) for file in wanted} <= has


def test_one_wheel_for_all_pythons(distribution: Distribution) -> None:
    """One wheel serves every Python from 3.11 on (PEP 384)."""
    assert "-cp311-abi3-linux_" in distribution.wheel.name


def test_wheel_is_lean(distribution: Distribution) -> None:
    """A wheel has the extension and the types, no C, no recipe, no tests."""
    has = names(distribution.wheel)

    assert "jailbox/_native/_lib.abi3.so" in has
    assert "jailbox/_native/_lib.pyi" in has
    assert "jailbox/py.typed" in has
    assert not [name for name in has if name.endswith((".c", ".h"))]
    assert "jailbox/_native/build.py" not in has
    assert all(name.startswith(("jailbox/", "jailbox-")) for name in has)


def test_pure_wheel_elsewhere(tmp_path: Path) -> None:
    """Where there is no Linux, the wheel is pure Python and needs no compiler."""
    copy_sources(tmp_path / "source")
    subprocess.run(
        [sys.executable, "-c", ELSEWHERE],
        cwd=tmp_path / "source",
        env={"PATH": ""},
        check=True,
        capture_output=True,
    )

    (wheel,) = tmp_path.glob("source/dist/*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert not [name for name in names(wheel) if name.endswith(".so")]
