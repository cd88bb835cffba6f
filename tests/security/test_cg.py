"""
CG: limits that hold, and that only the host can change.
"""

import errno
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import attrs
import pytest

import jailbox as jb
from jailbox.engine.base import Io
from jailbox.engine.local import LocalEngine
from jailbox.flow import drive
from jailbox.linux.cgroup import CgroupLayout
from jailbox.spec.container import ContainerSpec
from jailbox.spec.image import Host
from tests.leaks import settle
from tests.security.asking import Answers, Asker, on_the_host

MIB = 1 << 20

STORMS = 12


def groups_of_ours() -> set[str]:
    """Every control group of this process's keeper, in every hierarchy."""
    found = set()
    for top, names, _ in os.walk("/sys/fs/cgroup"):
        for name in names:
            path = os.path.join(top, name)
            if re.search(rf"/jailbox/{os.getpid()}-[0-9a-f]+/.", path):
                found.add(path)
    return found


def own_groups() -> str:
    """The control groups that this process is in."""
    return Path("/proc/self/cgroup").read_text(encoding="ascii")


@pytest.mark.cgroup
class TestLimits:
    def test_cg1_processes(self, ask: Asker) -> None:
        """
        CG1: With 64 processes allowed a fork is refused before the 65th; the host still
        forks, and of the group nothing is left.
        """
        limits = jb.Limits(processes=64)
        result = ask.run(jb.Image.host(), "forks", "200", limits=limits)
        answers = Answers.of(result.stdout)

        assert "EAGAIN" == answers["forks.stopped"]
        assert 32 <= int(answers["forks.made"]) < 64
        assert 0 == subprocess.run(["true"], check=True).returncode
        assert not groups_of_ours()

    def test_cg2_memory(self, ask: Asker) -> None:
        """
        CG2: Who takes 200 MiB of 64 is killed, and the result says that it was memory.
        """
        result = ask.run(jb.Image.host(), "eat", "200", memory="64M")

        assert signal.SIGKILL == result.signal
        assert "memory" == result.verdict
        assert result.usage.memory_peak is not None
        assert 32 * MIB <= result.usage.memory_peak <= 80 * MIB

    def test_cg3_killed_from_outside(self, ask: Asker) -> None:
        """
        CG3: A SIGKILL from outside is not taken for a lack of memory.
        """
        with jb.Container(jb.Image.host(), memory="64M") as jail:  # noqa: SIM117
            with jail.popen(["sleep", "60"]) as process:
                process.kill()
                process.wait(5)
                result = process.result()

        assert signal.SIGKILL == result.signal
        assert "signal" == result.verdict

    @pytest.mark.slow
    def test_cg4_processor(self, ask: Asker) -> None:
        """
        CG4: Half a processor does half the work: 2 s of a busy loop use at most 1.2 s.
        """
        result = ask.run(
            jb.Image.host(), "burn", "2", limits=jb.Limits(cpus=0.5), timeout=20
        )

        assert int(Answers.of(result.stdout)["burn.ms"]) <= 1200

    def test_cg8_nothing_is_left(self) -> None:
        """
        CG8: After the end of a jail no hierarchy has a directory of its name.

        The one jail that may wait for the next start has, until it is sent away.
        """
        limits = jb.Limits(memory="64M", processes=16, cpus=1)
        for _ in range(5):
            jb.run(jb.Image.host(), ["true"], limits=limits)
        waiting = {Path(group).name for group in groups_of_ours()}
        settle()
        deadline = time.monotonic() + 1
        while (left := groups_of_ours()) and time.monotonic() < deadline:
            time.sleep(0.005)

        assert len(waiting) <= 1
        assert not left

    def test_cg13_the_caller_stays_where_it_is(self) -> None:
        """
        CG13: The control groups of the caller are the same before and after, and no
        group of a jail is below one of them.
        """
        before = own_groups()
        with jb.Container(jb.Image.host(), memory="64M") as jail:
            jail.exec(["true"])
            below = [
                path
                for path in groups_of_ours()
                for own in re.findall(r"^\d+:[^:]*:(/.+)$", before, re.MULTILINE)
                if f"{own}/" in path
            ]
            during = own_groups()

        assert before == during == own_groups()
        if os.geteuid() == 0:
            assert [] == below


def test_cg5_a_jail_cannot_change_its_limits(answers: Answers) -> None:
    """
    CG5: No file of control groups can be written in a jail.
    """
    assert "0" == answers["writable-below./sys/fs/cgroup"]
    for name, verdict in answers.group("open-write").items():
        if name.startswith("/sys/fs/cgroup"):
            assert verdict in {"EROFS", "EACCES", "ENOENT"}, name


@pytest.mark.cgroup
@pytest.mark.root
def test_cg6_a_paused_jail_can_be_killed() -> None:
    """
    CG6: Killing a paused jail ends everything within a second (runc #2105).
    """
    jail = jb.Container(jb.Image.host()).start()
    try:
        marker = f"jailbox-{os.urandom(8).hex()}"
        with jail.popen(["sh", "-c", "read line", marker], stdin=True):
            pid = on_the_host(marker)
            jail.pause()
            assert "paused" == jail.state
            began = time.monotonic()
            jail.kill()
            while os.path.exists(f"/proc/{pid}") and time.monotonic() < began + 5:
                time.sleep(0.001)

            assert time.monotonic() - began < 1
    finally:
        jail.remove()


@pytest.mark.root
@pytest.mark.cgroup
def test_cg9_a_group_that_is_there_already() -> None:
    """
    CG9: Where a group of that name is there, with something in it, the start is refused
    and the group left alone; a jail never joins what it has not made.
    """
    engine = LocalEngine()
    spec = ContainerSpec(
        image=Host(), command=("true",), limits=jb.Limits(memory=MIB * 64)
    )
    try:
        keeper = engine.keeper()
        parent = engine.facts.cgroups.holder("memory")
        assert parent is not None
        taken = Path(f"{parent.parent}/{keeper.name}/run-1")
        (taken / "other").mkdir(parents=True)
        with pytest.raises(jb.LaunchError) as caught:
            drive(engine.run(spec, Io()))
        assert (taken / "other").is_dir()
        (taken / "other").rmdir()
        taken.rmdir()
        assert drive(engine.run(spec, Io())).ok
    finally:
        engine.close()

    assert (caught.value.step, caught.value.errno) == ("cgroup", errno.EEXIST)
    assert str(taken) in str(caught.value)


@pytest.mark.userns
def test_cg10_no_right_to_limit() -> None:
    """
    CG10: Where nothing can enforce a limit, asking for it is an error that names the
    limit and a remedy, and never silence; without limits a jail runs.
    """
    engine = LocalEngine()
    engine._facts = attrs.evolve(engine.facts, cgroups=CgroupLayout())
    spec = ContainerSpec(image=Host(), command=("true",))
    limited = attrs.evolve(spec, limits=jb.Limits(cpus=0.5))
    try:
        assert drive(engine.run(spec, Io())).ok
        with pytest.raises(jb.NotEnforced, match="cpus") as caught:
            drive(engine.run(limited, Io()))
    finally:
        engine.close()

    assert caught.value.remedy


@pytest.mark.userns
@pytest.mark.parametrize(
    "limits",
    [
        {"cpuset": "0-1000000000"}, {"memory": 2**80}, {"memory": -1},
        {"memory": "1e3g"},
        {"cpus": float("nan")}, {"cpus": -1}, {"processes": 0}, {"wall": float("nan")},
        {"memory": float("inf")},
    ],
)  # fmt: skip
def test_cg11_absurd_limits(limits: dict[str, object]) -> None:
    """
    CG11: Absurd limits are refused at once (CVE-2018-20699).
    """
    began = time.monotonic()
    with pytest.raises((ValueError, TypeError)):
        jb.Limits(**limits)  # type: ignore[arg-type]

    assert time.monotonic() - began < 0.01


@pytest.mark.cgroup
@pytest.mark.slow
def test_cg14_fork_storms(ask: Asker) -> None:
    """
    CG14: Of a storm of forks nothing survives the kill, however often.
    """
    for number in range(STORMS):
        marker = f"jailbox{number}x{os.urandom(6).hex()}"
        with pytest.raises(jb.DeadlineExceeded):
            ask.run(
                jb.Image.host(),
                "storm",
                marker,
                timeout=0.05 + number * 0.01,
                limits=jb.Limits(processes=100),
            )
        assert not _alive(marker)


def _alive(marker: str) -> list[str]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal() and int(entry) != os.getpid():
            try:
                line = Path(f"/proc/{entry}/cmdline").read_bytes()
            except OSError:
                continue
            if marker.encode() in line:
                found.append(entry)
    return found


@pytest.mark.userns
def test_cg15_default_limits_never_fail() -> None:
    """
    CG15: In a host process with low hard limits a jail starts, with limits that are
    clamped to them.
    """
    program = (
        "import resource\n"
        "import jailbox as jb\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        "r = jb.run(jb.Image.host(), ['sh', '-c', 'ulimit -Sn; ulimit -Hn'])\n"
        "print(r.stdout)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        timeout=30,
        capture_output=True,
        text=True,
    )

    assert ["200", "200"] == done.stdout.split()


def test_cg16_the_oom_killer_is_not_told(answers: Answers) -> None:
    """
    CG16: A program cannot make itself the last that the kernel kills.
    """
    assert "EACCES" == answers["oom.lower"]


@pytest.mark.userns
@pytest.mark.slow
def test_cg17_endless_output() -> None:
    """
    CG17: A jail that prints without end costs the host no more than the bound on its
    output, and the result says that something is missing.
    """
    program = (
        "import resource\n"
        "import jailbox as jb\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "command = ['head', '-c', '300M', '/dev/zero']\n"
        "r = jb.run(jb.Image.host(), command, text=False, timeout=60)\n"
        "after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(len(r.stdout), bool(r.truncated), after - before, r.exit_code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        timeout=90,
        capture_output=True,
        text=True,
    )
    kept, truncated, grown, code = done.stdout.split()

    assert 64 * MIB == int(kept)
    assert ("True", "0") == (truncated, code)
    # What is kept, and once more while it is put together.
    assert int(grown) < 2 * 64 * 1024 + 16 * 1024
