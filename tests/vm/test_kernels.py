"""
Other kernels, and control groups of version 2 alone, in virtual machines.

Parts of the suite run in there; what they prove is in their own docstrings. Left out is
what measures time: everything takes some twenty times as long.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.security.asking import compile_probe
from tests.vm.disk import PROJECT, USERS, empty_disk, make_disk
from tests.vm.machine import VM, Done, Kernel, kernels, why_not

pytestmark = [pytest.mark.root, pytest.mark.slow]

KERNELS = ("6.1", "6.12")

LIMITS = (
    "tests/linux/cgroup/test_real.py",
    "tests/security/test_cg.py",
    "tests/run/test_limits.py::TestMemory",
    "tests/run/test_limits.py::TestOthers",
    "tests/run/test_limits.py::TestDegradation",
)
"""Limits and verdicts: CG1 to CG8 with the rest of that group."""

LIFE = (
    "tests/run/test_run.py::TestSurroundings",
    "tests/run/test_run.py::TestImages",
    "tests/container/test_life.py::TestStopAndKill",
    "tests/container/test_life.py::TestPause",
)
"""A jail as such, and a container that is stopped, started and looked at."""

WITHOUT = (
    "--deselect=tests/security/test_cg.py::test_cg17_endless_output",
    "--deselect=tests/security/test_cg.py::test_cg14_fork_storms",
    "--deselect=tests/run/test_limits.py::TestOthers::test_a_fork_bomb_is_contained",
    "--deselect=tests/container/test_life.py::TestPause::test_a_paused_container_can_be_removed",
)
"""What is bounded by time: gigabytes of output, and who forks first."""

REFUSED = """\
import jailbox as jb

try:
    jb.run(jb.Image.host(), ["true"])
except jb.NotEnforced as error:
    print(error.protection, error.degrade)
allowed = jb.Security(degrade={"overlay", "landlock"})
script = "cd /etc; echo x > new; rm group; cat new; ls; rm -r ld.so.conf.d"
result = jb.run(jb.Image.host(), ["sh", "-c", script], security=allowed)
print(result.stdout.split(), "group" in result.stdout, result.degraded)
print(result.stderr)
"""

DELEGATE = """\
set -e
cd /sys/fs/cgroup
echo +cpu +cpuset +io +memory +pids > cgroup.subtree_control
mkdir -p delegated/main
for each in delegated delegated/main; do
  chown $1 $each $each/cgroup.procs $each/cgroup.subtree_control $each/cgroup.threads
done
"""


@pytest.fixture(scope="module")
def disk(shared_place: Path, static_true: Path) -> Path:
    """Return a disk with the project and its tests."""
    if reason := why_not():
        pytest.skip(reason)
    place = shared_place / "vm"
    place.mkdir()
    image = place / "root.img"
    make_disk(image, place / "stage", [static_true, compile_probe(place)])
    subprocess.run(["rm", "-rf", place / "stage"], check=True)
    return image


def find_kernel(version: str) -> Kernel:
    """Find a kernel that was fetched."""
    found = [
        kernel
        for kernel in kernels(PROJECT / "build/kernels")
        if kernel.release.startswith(f"{version}.")
    ]
    if not found:
        pytest.skip(f"no Linux {version} in build/kernels (run tools/kernels)")
    return found[-1]


@pytest.fixture(scope="module", params=KERNELS)
def vm(request: pytest.FixtureRequest, disk: Path) -> Iterator[VM]:
    """Return a machine that is on."""
    with VM(find_kernel(request.param), disk) as vm:
        yield vm


def run_tests(
    vm: VM, *tests: str, user: str | None = None, group: str | None = None
) -> Done:
    """Run tests in the machine, as root or a user, perhaps in a group."""
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "--durations=5"]
    command += [
        "-p",
        "no:cacheprovider",
        # An emulated processor takes as many times as long to free what was used.
        "--patience=20",
        "--accepted-skips=tests/vm/accepted-skips.txt",
    ]
    return as_user(vm, [*command, *WITHOUT, *tests], user, group)


def as_user(vm: VM, command: list[str], user: str | None, group: str | None) -> Done:
    """Run a command in the machine."""
    if user is not None:
        number = str(USERS[user])
        become = ["setpriv", f"--reuid={number}", f"--regid={number}", "--clear-groups"]
        home = f"/home/{user}"
        become += [
            "env",
            f"HOME={home}",
            f"USER={user}",
            f"XDG_RUNTIME_DIR={home}/.run",
        ]
        command = ["sh", "-c", 'umask 077; mkdir -p "$XDG_RUNTIME_DIR"; exec "$@"', "-",
                   *command]  # fmt: skip
        command = [*become, *command]
    if group is not None:
        join = f'echo $$ > /sys/fs/cgroup/{group}/cgroup.procs; exec "$@"'
        command = ["sh", "-c", join, "-", *command]
    return vm.run(command, cwd=str(PROJECT), timeout=600)


def test_a_power_cut(disk: Path, tmp_path: Path) -> None:
    """
    A disk of a machine whose power is cut has what was synced, and not what was only
    written; the root disk forgets both.
    """
    kept = empty_disk(tmp_path / "kept.img")
    kernel = find_kernel(KERNELS[-1])
    mount = "mount /dev/vdb /mnt && "
    with VM(kernel, disk, disks=[kept], cpus=1) as vm:
        write = (
            "echo x > /mnt/synced && sync && echo x > /root/new && echo x > /mnt/not"
        )
        assert vm.run(["sh", "-c", mount + write]).status == 0
        vm.cut()
        vm.start()
        found = vm.run(["sh", "-c", mount + "cat /mnt/synced; ls /mnt /root/new"])

    assert found.output.startswith("x\n")
    assert "synced\n" in found.output
    assert "not\n" not in found.output
    assert "/root/new': No such file" in found.output


class TestRoot:
    def test_limits_hold(self, vm: VM) -> None:
        """
        In version 2 alone every limit holds, every verdict is right, and no group is
        left behind (CG12).
        """
        # The rest of them is run there by a user with groups.
        limits = LIMITS if vm.kernel.version < (6, 6) else LIMITS[:2]
        done = run_tests(vm, *limits)

        assert done.status == 0, done.output

    def test_jails_live(self, vm: VM) -> None:
        """
        Jails have what they should, and containers can be paused and started again.
        """
        done = run_tests(vm, *LIFE)

        assert done.status == 0, done.output


class TestUsers:
    @pytest.mark.parametrize("vm", ["6.12"], indirect=True)
    def test_a_user_with_delegated_groups(self, vm: VM) -> None:
        """
        Where groups were delegated, limits hold for an ordinary user too.
        """
        given = vm.run(["sh", "-c", DELEGATE, "-", str(USERS["ranger"])])
        done = run_tests(vm, *LIMITS, user="ranger", group="delegated/main")

        assert given.status == 0, given.output
        assert done.status == 0, done.output

    @pytest.mark.parametrize("vm", ["6.12"], indirect=True)
    def test_a_user_without_groups(self, vm: VM) -> None:
        """
        Without groups a jail starts all the same, and a limit is an error that names
        the file and what to do.
        """
        done = run_tests(vm, *LIFE, "tests/security/test_cg.py", user="plain")

        assert done.status == 0, done.output

    @pytest.mark.parametrize("vm", ["6.1"], indirect=True)
    @pytest.mark.parametrize("user", USERS)
    def test_a_user_of_an_old_kernel(self, vm: VM, user: str) -> None:
        """
        Before 6.6 an ordinary user's jail is refused by name. Where that was allowed it
        starts, and only directories of the image cannot be removed.
        """
        done = as_user(vm, [sys.executable, "-c", REFUSED], user, None)

        assert done.status == 0, done.output
        refused, wrote, missed = done.output.splitlines()[:3]
        assert refused == "overlay overlay"
        assert wrote.startswith("['x', ")
        assert "False ('landlock', 'overlay'" in wrote
        assert "ld.so.conf.d': Input/output error" in missed
