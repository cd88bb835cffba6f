"""
Ordinary users for one test run, and a place where they can run tests.

Root is the only one who can make users, so everything here needs root. An
ordinary user cannot read the checkout or the interpreter of the person who runs
the tests; so a test that must pass for ordinary users runs inside a *shelf*: a
world-readable directory with the system's Python, the project installed from its
wheel, and a copy of the tests and of the documentation.
"""

import contextlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

from tests.distribution import PROJECT, do

# The user database is one file with one lock.
LOCK_PATIENCE = 10.0


@attrs.frozen
class User:
    """
    Somebody without any rights, who exists as long as the test run.

    Attributes:
        has_ranges: Whether ``/etc/subuid`` and ``/etc/subgid`` name a range.
    """

    name: str
    uid: int
    gid: int
    home: Path
    has_ranges: bool

    def environment(self) -> dict[str, str]:
        """Return the environment of a fresh login."""
        return {
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "LOGNAME": self.name,
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "USER": self.name,
            "XDG_RUNTIME_DIR": str(self.home / ".run"),
        }

    def run(
        self,
        argv: list[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """
        Run *argv* as this user and capture what it says.

        Args:
            argv: The command.

            cwd: Where; otherwise at home.

            env: Added to the environment of a fresh login.

            timeout: Seconds.
        """
        return subprocess.run(
            argv,
            user=self.uid,
            group=self.gid,
            extra_groups=[],
            cwd=cwd or self.home,
            env={**self.environment(), **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


@attrs.frozen
class Shelf:
    """A world-readable place: a Python that has jailbox, the tests, the docs."""

    path: Path

    @property
    def python(self) -> Path:
        """Return the interpreter."""
        return self.path / "venv/bin/python"

    def pytest(
        self, user: User, *args: str, timeout: float = 600
    ) -> subprocess.CompletedProcess[str]:
        """Run the tests that *args* name, from the project root, as *user*."""
        command = [str(self.python), "-m", "pytest", "-p", "no:cacheprovider", *args]
        return user.run(command, cwd=self.path, timeout=timeout)


def fill_shelf(path: Path, wheel: Path) -> Shelf:
    """Make a shelf in *path*, an empty directory that everybody may read."""
    do(["/usr/bin/python3", "-m", "venv", path / "venv"], path)
    shelf = Shelf(path)
    do([shelf.python, "-m", "pip", "install", "--quiet", f"{wheel}[test]"], path)
    for name in ("docs", "tests"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PROJECT / name, path / name, ignore=ignore)
    for name in ("CHANGELOG.md", "README.md", "pyproject.toml"):
        shutil.copy(PROJECT / name, path)
    return shelf


@contextlib.contextmanager
def temporary_user(suffix: str, place: Path, *, ranges: bool) -> Iterator[User]:
    """
    Make a user, and remove it with its home and whatever it still runs.

    Args:
        suffix: One letter, to tell the users of one test run apart.

        place: A directory that everybody may enter; the home is made in it.

        ranges: Whether the user gets a range of subordinate ids.
    """
    _remove_stale()
    name = f"jbt{os.getpid()}{suffix}"
    home = place / name
    count = 65536 if ranges else 0
    keys = ["--key", f"SUB_UID_COUNT={count}", "--key", f"SUB_GID_COUNT={count}"]
    where = ["--create-home", "--home-dir", str(home), "--shell", "/bin/sh"]
    _with_lock(["useradd", *where, *keys, name])
    try:
        entry = pwd.getpwnam(name)
        user = User(name, entry.pw_uid, entry.pw_gid, home, ranges)
        (home / ".run").mkdir(mode=0o700)
        os.chown(home / ".run", user.uid, user.gid)
        yield user
    finally:
        _remove(name)


def _remove(name: str) -> None:
    uid = pwd.getpwnam(name).pw_uid
    deadline = time.monotonic() + LOCK_PATIENCE
    while running := _processes_of(uid):
        for pid in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise RuntimeError(f"processes of {name} do not die: {running}")
        time.sleep(0.01)
    _with_lock(["userdel", "--force", "--remove", name])


def _processes_of(uid: int) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{entry}/status").read_text(encoding="utf-8")
                # A zombie is dead; whoever adopted it may reap it late.
                if re.search(
                    rf"^State:\t[^ZX](?s:.*)^Uid:.*\b{uid}\b", status, re.MULTILINE
                ):
                    found.append(int(entry))
    return found


def _remove_stale() -> None:
    """Remove users of test runs that were killed before they could."""
    for entry in pwd.getpwall():
        match = re.fullmatch(r"jbt(\d+)[a-z]", entry.pw_name)
        if match and not os.path.exists(f"/proc/{match[1]}"):
            with contextlib.suppress(KeyError):  # Another test run was faster.
                _remove(entry.pw_name)


def _with_lock(argv: list[str]) -> None:
    deadline = time.monotonic() + LOCK_PATIENCE
    while True:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        # 12 from userdel: a mail spool that never was.
        if done.returncode in {0, 12}:
            return
        if "lock" not in done.stderr or time.monotonic() > deadline:
            raise RuntimeError(f"{argv} failed: {done.stderr}")
        time.sleep(0.1)
