"""
One jail for dozens of questions: what the tests of this folder share.
"""

import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import jailbox as jb
from jailbox.engine.choose import default_engine
from jailbox.engine.local import LocalEngine
from jailbox.spec.security import DEFAULT_MASKED_PATHS
from tests.security.asking import Answers, Asker, compile_probe, host_things


class Rounds:
    """
    Counts the rounds of a race: those asked for by ``--rounds``, else for some time.

    Attributes:
        came: What came of each round, counted.
    """

    def __init__(self, asked: int | None) -> None:
        self._asked = asked
        self.played = 0
        self.came: Counter[str] = Counter()

    def __call__(self, seconds: float) -> Iterator[int]:
        """Yield the number of each round."""
        deadline = time.monotonic() + seconds
        while self.played < self._asked if self._asked else time.monotonic() < deadline:
            yield self.played
            self.played += 1


@pytest.fixture
def rounds(
    request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> Iterator[Rounds]:
    """Return what counts the rounds of a race, and tells how many it had."""
    asked = request.config.getoption("--rounds")
    counted = Rounds(asked)
    yield counted
    if asked:
        name = request.node.name
        with capsys.disabled():
            print(  # noqa: T201  # the numbers are what was asked for
                f"\n{name}: {counted.played} rounds, {dict(counted.came)}"
            )


@pytest.fixture(scope="session")
def place() -> Iterator[Path]:
    """Return a directory of this run that is ours and that others may enter."""
    with tempfile.TemporaryDirectory(prefix="security-tests-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture(scope="session")
def ask(place: Path) -> Asker:
    """Return what asks the kernel from inside a jail."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    return Asker(compile_probe(place))


@pytest.fixture(scope="session", params=["host", "directory"])
def image(request: pytest.FixtureRequest) -> jb.Image:
    """Return each kind of image."""
    if request.param == "host":
        return jb.Image.host()
    return jb.Image.from_dir(request.getfixturevalue("busybox_rootfs"))


@pytest.fixture(scope="session")
def directory(busybox_rootfs: Path) -> jb.Image:
    """Return an image with a shell and a user database of its own."""
    return jb.Image.from_dir(busybox_rootfs)


@pytest.fixture(scope="session")
def answers(image: jb.Image, ask: Asker) -> Answers:
    """Return the answers of a root in a jail with every default."""
    # No longer than it takes: other test runs count what this one has on the host.
    with host_things() as things:
        env = things.environment()
        env["PROBE_MASKED"] = ":".join(DEFAULT_MASKED_PATHS)
        return ask(image, env=env)


@pytest.fixture(scope="session")
def one_id() -> bool:
    """Whether only one id is mapped: no other user can be had in a jail."""
    engine = default_engine()
    assert isinstance(engine, LocalEngine)
    return engine.facts.id_mode == "single"


@pytest.fixture(scope="session")
def many_ids(one_id: bool) -> None:  # noqa: FBT001
    """Demand that a jail has more users than one."""
    if one_id:
        pytest.skip("this account has no range of subordinate ids")


@pytest.fixture(scope="session")
def user_answers(image: jb.Image, ask: Asker, many_ids: None) -> Answers:
    """Return the answers of user 1000 in a jail with every default."""
    with host_things() as things:
        return ask(image, user="1000", env=things.environment())


@pytest.fixture
def rootfs(busybox_rootfs: Path, tmp_path: Path) -> Callable[[], Path]:
    """Return what makes a root file system that a test may spoil."""

    def make() -> Path:
        copy = tmp_path / "rootfs"
        shutil.copytree(busybox_rootfs, copy, symlinks=True)
        # The directories above it are closed, and a jail's root may not be us.
        os.chmod(tmp_path, 0o755)
        return copy

    return make
