"""
What every test is given and held to.

- A test marked with a need (``userns``, ``root``, ``cgroup``, ``network``) is
  skipped, with the reason, where the machine cannot do it.
- ``--accepted-skips=FILE`` names the skips that a run may have. Any other skip
  fails the run: a silent skip is how privileged code goes untested.
- After every test the machine must be as it was before (`tests.leaks`).
- Ordinary users, root file systems and static programs are made here, once for a
  run.
"""

import contextlib
import fnmatch
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import abilities
from tests.distribution import Distribution, build
from tests.leaks import PATIENCE, Census, leaked, settle
from tests.scratch import scratch, sweep
from tests.users import Shelf, User, fill_shelf, temporary_user

if TYPE_CHECKING:
    from jailbox import Image

PROJECT = Path(__file__).parent.parent
NATIVE = PROJECT / "src/jailbox/_native"

# Tests that may start jails, and with them the keeper.
KERNEL_MARKERS = {"cgroup", "root", "userns"}


# ---- needs and skips -------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add our options."""
    parser.addoption(
        "--accepted-skips",
        metavar="FILE",
        type=Path,
        help="fail if a test is skipped that FILE does not list",
    )
    parser.addoption(
        "--patience",
        metavar="SECONDS",
        type=float,
        default=PATIENCE,
        help="how long the kernel may take to free what a test had",
    )
    parser.addoption(
        "--rounds",
        metavar="N",
        type=int,
        help="how often each race is played; else for a second or two",
    )
    parser.addoption(
        "--conformance",
        metavar="DIR",
        type=Path,
        help="the conformance cases; else ../shared/conformance, if that is there",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Read what may be skipped."""
    file: Path | None = config.getoption("--accepted-skips")
    config.stash[ACCEPTED] = None if file is None else AcceptedSkips(file)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse to start jails with a C part that is older than its sources."""
    if not any(may_start_jails(item) for item in session.items):
        return
    sources = [*NATIVE.glob("*.[ch]"), NATIVE / "build.py"]
    for built in NATIVE.glob("_lib*.so"):
        since = built.stat().st_mtime
        if newer := [each.name for each in sources if each.stat().st_mtime > since]:
            raise pytest.UsageError(
                f"{built.name} is older than {', '.join(newer)}: run"
                " `python setup.py build_ext --inplace`"
            )


def may_start_jails(item: pytest.Item) -> bool:
    """Return whether a test is marked as one that may start jails."""
    return any(item.get_closest_marker(each) for each in KERNEL_MARKERS)


def pytest_report_header() -> list[str]:
    """Say on what kind of machine this is."""
    absent = {name: why() for name, why in abilities.ABILITIES.items()}
    can = [name for name, reason in absent.items() if reason is None]
    kinds = "+".join(sorted(abilities.cgroup_kinds())) or "none"
    machine = f"{platform.release()} {platform.machine()}"
    return [
        f"kernel: {machine}, uid {os.geteuid()}, control groups {kinds}",
        f"abilities: {', '.join(can)}",
        *(f"no {name}: {reason}" for name, reason in absent.items() if reason),
    ]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose needs this machine does not meet."""
    for name, why_not in abilities.ABILITIES.items():
        for marker in item.iter_markers(name):
            if reason := why_not(*marker.args):
                pytest.skip(reason)


class AcceptedSkips:
    """
    The skips that a test run may have.

    The file has a line for each: a pattern of test ids, two colons with spaces
    around, a pattern of reasons. Patterns are those of the shell; ``#`` starts a
    comment, which says why the skip is acceptable.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.unlisted: list[str] = []
        self._patterns: list[tuple[str, str]] = []
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if text := line.partition("#")[0].strip():
                test, separator, reason = text.partition(" :: ")
                if not separator:
                    raise pytest.UsageError(f"{file}:{number}: no ' :: ' in {text!r}")
                self._patterns.append((test.strip(), reason.strip()))

    def note(self, test: str, reason: str) -> None:
        """Remember that *test* was skipped if that is not listed."""
        if not any(
            fnmatch.fnmatchcase(test, each) and fnmatch.fnmatchcase(reason, why)
            for each, why in self._patterns
        ):
            self.unlisted.append(f"{test} :: {reason}")


ACCEPTED: pytest.StashKey[AcceptedSkips | None] = pytest.StashKey()
REPORTS: pytest.StashKey[dict[str, pytest.TestReport]] = pytest.StashKey()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember the outcome of every phase, and every skip."""
    report = yield
    item.stash.setdefault(REPORTS, {})[report.when] = report
    accepted = item.config.stash[ACCEPTED]
    # An expected failure is reported as skipped too, but it did run.
    if accepted and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        accepted.note(report.nodeid, reason.removeprefix("Skipped: "))
    return report


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Count a module that skips itself as a whole."""
    if report.skipped and isinstance(report.longrepr, tuple):
        SKIPPED_MODULES.append((report.nodeid, report.longrepr[2]))


SKIPPED_MODULES: list[tuple[str, str]] = []


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run that skipped what it may not skip."""
    accepted = session.config.stash[ACCEPTED]
    if accepted is None:
        return
    for module, reason in SKIPPED_MODULES:
        accepted.note(module, reason.removeprefix("Skipped: "))
    if accepted.unlisted and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Name the skips that failed the run."""
    accepted = config.stash[ACCEPTED]
    if accepted and accepted.unlisted:
        terminalreporter.section("skips that are not accepted", red=True)
        for line in accepted.unlisted:
            terminalreporter.line(line)
        terminalreporter.line(f"Accepted skips are listed in {accepted.file}.")


# ---- leaks -----------------------------------------------------------------

UNMARKED = """
A test that starts jails is marked with userns, root or cgroup: then the keeper counts
as there from the beginning."""


@pytest.fixture(scope="session")
def keeper() -> None:
    """
    Start the keeper, so that it counts as there from the beginning.

    It lives as long as the process that started it; what it needs (a socket, a
    parent of control groups) is not left behind by the test that came first.
    """
    # A machine or a build that cannot start jails says so in the tests proper.
    with contextlib.suppress(Exception):
        import jailbox

        jailbox.run(jailbox.Image.host(), ["true"], timeout=10)
        # With the host's network there is another tree that the keeper keeps.
        jailbox.run(jailbox.Image.host(), ["true"], network="host", timeout=10)


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """
    Compare the machine after each test with the machine before it.

    A test that failed is not held to it: its traceback keeps its variables alive.
    """
    if may_start_jails(request.node):
        request.getfixturevalue("keeper")
    before = Census.take()
    yield
    settle()
    call = request.node.stash.get(REPORTS, {}).get("call")
    if call is None or not call.failed:
        found = leaked(before, patience=request.config.getoption("--patience"))
        if found:
            hint = "" if may_start_jails(request.node) else UNMARKED
            pytest.fail("left behind:\n  " + "\n  ".join(found) + hint, pytrace=False)


# ---- programs and root file systems ----------------------------------------


@pytest.fixture(scope="session")
def shared_place() -> Iterator[Path]:
    """Return a directory of this run that every user may read."""
    # pytest's own directories are closed to others.
    sweep()
    with scratch() as place:
        place.chmod(0o755)
        yield place


@pytest.fixture(scope="session")
def static_true(shared_place: Path) -> Path:
    """Return a static program that does nothing, successfully."""
    program = shared_place / "true"
    compile_static("int main(void) { return 0; }\n", program)
    return program


def compile_static(source: str, program: Path) -> None:
    """Compile C *source* to a static *program*."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    subprocess.run(
        [compiler, "-Os", "-s", "-static", "-o", program, "-x", "c", "-"],
        input=source,
        text=True,
        check=True,
    )


PASSWD = """\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
sys:x:3:3:sys:/dev:/bin/false
mail:x:8:8:mail:/var/spool/mail:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
operator:x:37:37:Operator:/var:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
"""

GROUP = """\
root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
adm:x:4:
tty:x:5:
disk:x:6:
mail:x:8:
wheel:x:10:root
audio:x:29:
www-data:x:33:
operator:x:37:
users:x:100:
nogroup:x:65534:
"""


@pytest.fixture(scope="session")
def busybox_rootfs(shared_place: Path) -> Path:
    """
    Return a root file system with nothing but a static busybox.

    It has no image configuration: give argv, and a PATH if one is needed. It is
    shared by all tests of the run, so nobody may write to it from outside.
    """
    busybox = Path("/bin/busybox")
    if not busybox.exists():
        pytest.skip("no /bin/busybox (package busybox-static)")
    rootfs = shared_place / "busybox"
    for name in ("bin", "dev", "etc", "home", "proc", "root", "sys", "usr", "var"):
        (rootfs / name).mkdir(parents=True)
    (rootfs / "tmp").mkdir()
    (rootfs / "tmp").chmod(0o1777)
    shutil.copy(busybox, rootfs / "bin/busybox")
    applets = subprocess.run(
        [busybox, "--list"], capture_output=True, text=True, check=True
    ).stdout.split()
    for applet in applets:
        if applet != "busybox":
            (rootfs / "bin" / applet).symlink_to("/bin/busybox")
    (rootfs / "etc/passwd").write_text(PASSWD, encoding="ascii")
    (rootfs / "etc/group").write_text(GROUP, encoding="ascii")
    return rootfs


@pytest.fixture(scope="session")
def debian_image(keeper: None) -> Iterator["Image"]:
    """
    Return a Debian of the least that has apt, made once for a run.

    Its store is ``debian_image.source.store``; leave it as you found it.
    """
    del keeper  # It is there from the beginning.
    if reason := abilities.network():
        pytest.skip(reason)
    if shutil.which("mmdebstrap") is None:
        pytest.skip("no mmdebstrap (package mmdebstrap)")
    import jailbox

    # Thousands of files, each of which a disk would be asked to forget at the end.
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    if memory is not None:
        sweep(memory)
    with (
        scratch(memory) as place,
        jailbox.Store(place) as store,
    ):
        yield jailbox.Image.debian("bookworm", store=store)


# ---- the package, and ordinary users ----------------------------------------


@pytest.fixture(scope="session")
def ordinary_user(shared_place: Path) -> Iterator[User]:
    """Return an ordinary user with a range of subordinate ids."""
    _need_root()
    if shutil.which("newuidmap") is None:
        pytest.skip("no newuidmap (package uidmap)")
    with temporary_user("r", shared_place, ranges=True) as user:
        yield user


@pytest.fixture(scope="session")
def plain_user(shared_place: Path) -> Iterator[User]:
    """Return an ordinary user without subordinate ids."""
    _need_root()
    with temporary_user("p", shared_place, ranges=False) as user:
        yield user


@pytest.fixture(scope="session")
def distribution(shared_place: Path) -> Distribution:
    """Return the package as a stranger gets it."""
    place = shared_place / "distribution"
    place.mkdir()
    return build(place)


@pytest.fixture(scope="session")
def shelf(shared_place: Path, distribution: Distribution) -> Shelf:
    """Return a place where ordinary users can run tests."""
    _need_root()
    if not re.fullmatch(r"Python 3\.(1[1-9]|[2-9]\d)\..*\n", _system_python()):
        pytest.skip("no /usr/bin/python3 of version 3.11 or later")
    place = shared_place / "shelf"
    place.mkdir()
    return fill_shelf(place, distribution.wheel)


def _system_python() -> str:
    with contextlib.suppress(OSError):
        return subprocess.run(
            ["/usr/bin/python3", "--version"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    return ""


def _need_root() -> None:
    if reason := abilities.root():
        pytest.skip(f"only root can make users: {reason}")
