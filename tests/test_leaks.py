"""The leak checker finds what it is there for, and nothing else."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.leaks import Census, helpers, leaked, tasks

# Calls itself as our helper does, and watches a process as a keeper does.
IMPOSTOR = """
import os, signal, sys
watched = int(sys.argv[1])
if watched:
    fd = os.pidfd_open(watched)
with open("/proc/self/comm", "w") as file:
    file.write("jailbox-test")
print(os.getpid(), flush=True)
signal.pause()
"""


@contextlib.contextmanager
def left(something: str) -> Iterator[None]:
    """Expect that the body leaves *something* behind and nothing else."""
    before = Census.take()
    yield
    (found,) = leaked(before, patience=0)
    assert something in found


@contextlib.contextmanager
def impostor(*, watching: int) -> Iterator[None]:
    """Run a helper that is nobody's child and watches a process (0: none)."""
    # The shell ends at once, so the program is adopted by somebody else.
    script = 'exec 3>&1; "$@" 3>&- &'
    command = ["sh", "-c", script, "sh", sys.executable, "-c", IMPOSTOR, str(watching)]
    read, write = os.pipe()
    subprocess.run(command, stdout=write, check=True)
    os.close(write)
    with open(read, encoding="ascii") as answer:
        pid = int(answer.readline())
    watch = os.pidfd_open(pid)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        select.select([watch], [], [])
        os.close(watch)


def processes(found: list[str]) -> int:
    """Return how many processes of ours are among what was *found*."""
    return sum(each.startswith("process: ") for each in found)


def test_quiet() -> None:
    """Doing nothing leaves nothing behind."""
    before = Census.take()

    assert leaked(before) == []


def test_cheap() -> None:
    """A census costs less than 10 ms for each hundred processes of the machine."""
    Census.take()
    processes = sum(entry.isdecimal() for entry in os.listdir("/proc"))

    times = []
    for _ in range(9):
        start = time.perf_counter()
        Census.take()
        times.append(time.perf_counter() - start)

    assert min(times) < 0.01 * max(processes / 100, 1)


def test_descriptor() -> None:
    """An open descriptor is found, by what it refers to."""
    with left("descriptor: /proc"):
        fd = os.open("/proc", os.O_RDONLY)
    os.close(fd)


def test_pipes_are_counted() -> None:
    """Two more pipe ends are two, although pipes have no names."""
    with left("descriptor: pipe (2 times)"):
        ends = os.pipe()
    for end in ends:
        os.close(end)


def test_thread() -> None:
    """A thread that goes on is found."""
    done = threading.Event()
    with left("thread: "):
        thread = threading.Thread(target=done.wait)
        thread.start()
    done.set()
    thread.join()


@pytest.mark.parametrize("argv", [["sleep", "60"], ["true"]], ids=["alive", "dead"])
def test_child(argv: list[str]) -> None:
    """A child process is found, alive or waiting to be reaped."""
    with left(f"child process: {argv[0]}"):
        child = subprocess.Popen(argv)
    child.kill()
    child.wait()


def test_orphan() -> None:
    """A helper that watches nobody is found although it is nobody's child."""
    before = Census.take()
    with impostor(watching=0):
        found = leaked(before, patience=0)

    assert processes(found) == 1


@pytest.mark.root
def test_second_keeper() -> None:
    """One helper may watch over us from the first start on; a second is a leak."""
    had_one = any(helpers(tasks()).values())
    before = Census.take()
    with impostor(watching=os.getpid()):
        first = leaked(before, patience=0)
        with impostor(watching=os.getpid()):
            second = leaked(before, patience=0)

    assert processes(first) == had_one
    assert processes(second) == processes(first) + 1


@pytest.mark.root
def test_stranger() -> None:
    """The helper of another host process is none of our business."""
    before = Census.take()
    with (
        subprocess.Popen(["sleep", "60"]) as host,
        impostor(watching=host.pid),
    ):
        found = leaked(before, patience=0)
        host.kill()

    assert processes(found) == 0


def test_late_is_not_leaked() -> None:
    """What goes away by itself within the patience is not a leak."""
    before = Census.take()
    thread = threading.Thread(target=time.sleep, args=(0.1,))
    thread.start()

    assert leaked(before) == []


def test_file() -> None:
    """A temporary file that is called after us is found."""
    with tempfile.TemporaryDirectory(prefix="x") as away, left("file: "):
        file = Path(away).with_name(f"jailbox-left-{os.getpid()}")
        file.touch()
    file.unlink()


@pytest.mark.root
def test_mount(tmp_path: Path) -> None:
    """A mount in the host's namespace is found."""
    with left("mount: "):
        subprocess.run(["mount", "-t", "tmpfs", "left", tmp_path], check=True)
    subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.root
@pytest.mark.cgroup
def test_control_group() -> None:
    """A control group below our parent is found."""
    parent = next(
        Path(line.split()[4], "jailbox")
        for line in Path("/proc/self/mountinfo").read_text("utf-8").splitlines()
        if " - cgroup" in line and "memory" in line
    )
    existed = parent.exists()
    with left("control group: "):
        (parent / f"left-{os.getpid()}").mkdir(parents=True)
    (parent / f"left-{os.getpid()}").rmdir()
    if not existed:
        parent.rmdir()
