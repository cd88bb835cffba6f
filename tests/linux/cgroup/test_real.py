"""
Plans obeyed on this machine: the kernel takes them, and the limits hold.

The few lines that obey stand in for the native part, which has its own tests.
"""

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from jailbox.linux.cgroup import (
    MEMORY_MIN,
    CgroupLayout,
    CgroupPlan,
    CgroupReport,
    cgroup_plan,
    parse_collected,
    parse_stats,
    update_writes,
)
from jailbox.linux.facts import read_facts
from jailbox.spec.limits import Limits

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

MIB = 1 << 20


def write(path: str, value: str) -> None:
    """Write to a file that is there, in one call, as the native part does."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def read(path: str) -> bytes:
    """Read a file."""
    with open(path, "rb") as file:
        return file.read()


def remove(path: str) -> None:
    """Remove a group; its dead may take a moment to leave."""
    for _ in range(100):
        try:
            os.rmdir(path)
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.02)
        else:
            return


@contextlib.contextmanager
def made(plan: CgroupPlan) -> Iterator[CgroupPlan]:
    """Make the directories of a plan, and remove what was made."""
    fresh = []
    try:
        for directory in plan.dirs:
            with contextlib.suppress(FileExistsError):
                os.mkdir(directory.path)
                fresh.append(directory.path)
            for file, value in directory.writes:
                write(f"{directory.path}/{file}", value)
        yield plan
    finally:
        for path in reversed(fresh):
            # The common parent may have become somebody else's too.
            remove(path) if "/jailbox/" in path else _remove_if_empty(path)


def _remove_if_empty(path: str) -> None:
    with contextlib.suppress(OSError):
        os.rmdir(path)


def run(plan: CgroupPlan, work: Callable[[], None]) -> int:
    """Run *work* in a child that joins the groups; its wait status."""
    pid = os.fork()
    if pid == 0:
        status = 99
        with contextlib.suppress(BaseException):
            for leaf in plan.leaves:
                join = "tasks" if leaf.join == "tasks" else "cgroup.procs"
                write(f"{leaf.path}/{join}", "0")
            work()
            status = 0
        os._exit(status)
    return os.waitpid(pid, 0)[1]


def report(plan: CgroupPlan) -> CgroupReport:
    """Collect what the plan says."""
    files = {}
    for label, path in plan.collect:
        with contextlib.suppress(FileNotFoundError):
            files[label] = read(path)
    return parse_collected(files)


def spin(seconds: float) -> Callable[[], None]:
    """Return work that uses up processor time."""

    def work() -> None:
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass

    return work


@pytest.fixture
def layout() -> CgroupLayout:
    """Return the control groups of this machine."""
    return read_facts().cgroups


@pytest.fixture
def group(layout: CgroupLayout) -> str:
    """Return the name of a keeper that no other test has."""
    return f"test-{os.getpid()}"


def test_within_the_limit(layout: CgroupLayout, group: str) -> None:
    """A process within its memory limit ends by itself, and its peak is counted."""
    limits = Limits(memory="64M")
    with made(cgroup_plan(limits, layout, "c1", keeper=group)) as plan:
        status = run(plan, lambda: bytearray(16 * MIB).clear())
        found = report(plan)

    assert status == 0
    assert found.oom_kills == 0
    assert found.memory_peak is not None
    assert 16 * MIB <= found.memory_peak < 64 * MIB
    assert not found.ran_out_of_memory(limits.memory)


def test_beyond_the_limit(layout: CgroupLayout, group: str) -> None:
    """CG2: a process past its memory limit is killed, and the limit is named."""
    limits = Limits(memory="32M")
    with made(cgroup_plan(limits, layout, "c1", keeper=group)) as plan:
        status = run(plan, lambda: bytearray(b"x" * 100 * MIB).clear())
        found = report(plan)

    assert os.WTERMSIG(status) == signal.SIGKILL
    assert found.oom_kills >= 1
    assert found.ran_out_of_memory(limits.memory)


def test_killed_from_outside(layout: CgroupLayout, group: str) -> None:
    """CG3: a SIGKILL from somebody else is not taken for a lack of memory."""
    limits = Limits(memory="32M")
    with made(cgroup_plan(limits, layout, "c1", keeper=group)) as plan:
        status = run(plan, lambda: signal.raise_signal(signal.SIGKILL))
        found = report(plan)

    assert os.WTERMSIG(status) == signal.SIGKILL
    assert not found.ran_out_of_memory(limits.memory)


def test_least_memory(layout: CgroupLayout, group: str) -> None:
    """In the least memory that is accepted a small program starts and ends."""
    limits = Limits(memory=MEMORY_MIN)
    with made(cgroup_plan(limits, layout, "c1", keeper=group)) as plan:
        status = run(plan, lambda: os.execv("/bin/true", ["true"]))

    assert status == 0


def test_processes(layout: CgroupLayout, group: str) -> None:
    """CG1: the bound of processes stops forks, and the refused ones are counted."""
    read_end, write_end = os.pipe()

    def work() -> None:
        children = 0
        with contextlib.suppress(BlockingIOError):
            while children < 50:
                if os.fork() == 0:
                    os.read(read_end, 1)
                    os._exit(0)
                children += 1
        os.write(write_end, b"x" * children)
        for _ in range(children):
            os.wait()

    limits = Limits(processes=8)
    try:
        with made(cgroup_plan(limits, layout, "c1", keeper=group)) as plan:
            status = run(plan, work)
            found = report(plan)
    finally:
        os.close(read_end)
        os.close(write_end)

    assert status == 0
    # Eight and our init, which is not there: seven beside the process itself, and one.
    assert found.processes_peak in {8, None}
    assert found.pids_denied >= 1


def test_clock_counts_the_dead(layout: CgroupLayout, group: str) -> None:
    """The clock of a time budget counts processes that are gone, waited for or not."""

    def work() -> None:
        # Nobody waits: their time is in no rusage.
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        for _ in range(2):
            if os.fork() == 0:
                spin(0.1)()
                os._exit(0)
        with contextlib.suppress(ChildProcessError):
            os.wait()

    limits = Limits(cpu_time=60)
    with made(cgroup_plan(limits, layout, "c1", keeper=group)) as plan:
        run(plan, work)
        assert plan.clock is not None
        now = parse_stats({label: read(path) for label, path in plan.live})
        found = report(plan)

    assert now.cpu_time is not None
    assert now.cpu_time >= 0.2
    assert found.cpu_user is not None
    assert found.cpu_system is not None
    assert found.cpu_user + found.cpu_system == pytest.approx(now.cpu_time, abs=0.05)


@pytest.mark.slow
def test_share_of_a_processor(layout: CgroupLayout, group: str) -> None:
    """CG4: with a tenth of a processor, 0.1 s of work takes most of a second."""
    limits = Limits(cpus=0.1)
    with made(cgroup_plan(limits, layout, "c1", keeper=group)) as plan:
        began = time.monotonic()
        status = run(plan, spin(0.1))
        took = time.monotonic() - began
        found = report(plan)

    assert status == 0
    assert took > 0.6
    assert found.throttled is not None
    assert found.throttled > 0


def test_cpuset(layout: CgroupLayout, group: str) -> None:
    """A cpuset holds a process that asks for all processors."""
    first = min(os.sched_getaffinity(0))
    everything = range((os.cpu_count() or 1) + 1)

    def work() -> None:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, everything)
        if os.sched_getaffinity(0) != {first}:
            raise AssertionError

    limits = Limits(cpuset=str(first))
    with made(cgroup_plan(limits, layout, "c1", keeper=group)) as plan:
        assert run(plan, work) == 0


def test_every_wish_at_once(layout: CgroupLayout, group: str) -> None:
    """The kernel takes every file of the largest plan, and every file can be read."""
    first = str(min(os.sched_getaffinity(0)))
    limits = Limits(
        memory="64M", swap="8M", cpus=1.25, cpuset=first, processes=1 << 22, cpu_time=1
    )
    plan = cgroup_plan(limits, layout, "c1", keeper=group, freezable=True)
    with made(plan):
        for directory in plan.leaves:
            for file, value in directory.writes:
                kept = read(f"{directory.path}/{file}").decode().strip()
                assert kept in {value, value.replace("+", "")}, file
        for _, path in plan.live:
            read(path)
        assert plan.freezer is not None
        assert os.access(plan.freezer.path, os.W_OK)


def test_changing_a_running_jail(layout: CgroupLayout, group: str) -> None:
    """The writes of a change are taken by the kernel, up and down."""
    small, large = Limits(memory="32M"), Limits(memory="96M", swap="8M", processes=7)
    with made(cgroup_plan(small, layout, "c1", keeper=group)) as plan:
        for old, new in ((small, large), (large, small), (small, Limits())):
            for path, value in update_writes(plan, layout, old, new):
                write(path, value)


def test_frozen_and_killed(layout: CgroupLayout, group: str) -> None:
    """CG6: a frozen process dies when it is killed as the plan says."""
    plan = cgroup_plan(Limits(), layout, "c1", keeper=group, freezable=True)
    with made(plan):
        freezer = plan.freezer
        assert freezer is not None
        ready, go = os.pipe()
        pid = os.fork()
        if pid == 0:
            for leaf in plan.leaves:
                join = "tasks" if leaf.join == "tasks" else "cgroup.procs"
                write(f"{leaf.path}/{join}", "0")
            os.write(go, b"x")
            signal.pause()
            os._exit(1)
        try:
            os.read(ready, 1)
            write(freezer.path, freezer.freeze)
            _until(lambda: _has_line(freezer.state, freezer.frozen))
            if plan.kill is not None:
                write(plan.kill, "1")
            else:
                os.kill(pid, signal.SIGKILL)
            if not freezer.killable:
                write(freezer.path, freezer.thaw)
        finally:
            os.close(ready)
            os.close(go)
            status = os.waitpid(pid, 0)[1]

    assert os.WTERMSIG(status) == signal.SIGKILL


def _has_line(path: str, line: str) -> bool:
    return re.search(rf"^{line}$", read(path).decode(), re.MULTILINE) is not None


def _until(true: Callable[[], bool]) -> None:
    """Wait for a state of the kernel that no descriptor tells in every version."""
    end = time.monotonic() + 5
    while not true():
        assert time.monotonic() < end
        time.sleep(0.001)
