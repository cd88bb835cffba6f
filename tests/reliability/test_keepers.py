"""
Keepers that die, and what the next start finds of them.
"""

import contextlib
import fcntl
import random
import select
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

import jailbox as jb
from jailbox.engine.base import Io
from jailbox.engine.local import LocalEngine
from jailbox.flow import drive
from jailbox.linux.facts import read_facts
from jailbox.linux.keeper import Keeper, KeeperConfig
from jailbox.linux.state import run_directory, sweep
from jailbox.spec.container import ContainerSpec
from jailbox.spec.image import Host

pytestmark = [pytest.mark.userns, pytest.mark.slow]

SPEC = ContainerSpec(image=Host(), command=("true",), limits=jb.Limits(memory="64M"))


def groups_of(name: str) -> list[str]:
    """Every control group that carries the name of a keeper, in any hierarchy."""
    top = Path("/sys/fs/cgroup")
    places = (*top.glob(f"*/jailbox/{name}"), top / "jailbox" / name)
    return [str(path) for path in places if path.exists()]


def run(engine: LocalEngine) -> None:
    """Run something, whatever comes of it."""
    with contextlib.suppress(jb.JailboxError, OSError):
        drive(engine.run(SPEC, Io()))


def is_held(name: str) -> bool:
    """Whether some process still has the file of a keeper locked."""
    with open(Path(run_directory(), f"{name}.keeper"), "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


class TestDeadKeepers:
    def test_nobody_outlives_a_keeper(self) -> None:
        """
        A keeper that is killed while it makes namespaces for later has taken with it
        the children that it makes them with: nobody holds a descriptor of it (LIF2).
        """
        moment = random.Random(0)  # noqa: S311  # a moment, no secret
        config = KeeperConfig(facts=read_facts())
        held = []
        for _ in range(100):
            # It begins to stock up as soon as it has said that it is there.
            keeper = Keeper(config)
            time.sleep(moment.uniform(0, 0.002))
            signal.pidfd_send_signal(keeper.pidfd, signal.SIGKILL)
            keeper.close()
            deadline = time.monotonic() + 1
            while is_held(keeper.name) and time.monotonic() < deadline:
                time.sleep(0.001)
            if is_held(keeper.name):
                held.append(keeper.name)
        sweep(run_directory(), ())

        assert [] == held

    @pytest.mark.parametrize("seed", range(8))
    def test_the_next_start_removes_every_group(self, seed: int) -> None:
        """
        A keeper killed at any moment of starts leaves nothing after the next start.
        """
        moment = random.Random(seed)  # noqa: S311  # a moment, no secret
        engine = LocalEngine()
        drive(engine.run(SPEC, Io()))
        keeper = engine.keeper()
        stop = threading.Event()

        def again() -> None:
            while not stop.is_set():
                run(engine)

        threads = [threading.Thread(target=again) for _ in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(moment.uniform(0, 0.02))
        signal.pidfd_send_signal(keeper.pidfd, signal.SIGKILL)
        select.select([keeper.pidfd], [], [], 5)
        stop.set()
        for thread in threads:
            thread.join()
        name = keeper.name
        drive(engine.run(SPEC, Io()))

        # Whose jail took longer than a sweep waits is found by the next one.
        deadline = time.monotonic() + 5
        while groups_of(name) and time.monotonic() < deadline:
            sweep(run_directory(), ())
        assert [] == groups_of(name)
        engine.close()

    @pytest.mark.root
    @pytest.mark.cgroup
    def test_a_busy_group_keeps_the_name(self) -> None:
        """
        A keeper that cannot remove a group leaves its name, by which the group is found
        when it is no longer busy.
        """
        engine = LocalEngine()
        drive(engine.run(SPEC, Io()))
        name = engine.keeper().name
        intruder = subprocess.Popen(["sleep", "60"])
        try:
            box = engine.create(ContainerSpec(image=Host()))
            drive(box.start())
            inner = next(Path(groups_of(name)[0]).glob("box-*"))
            procs = "cgroup.procs"
            (inner / procs).write_text(str(intruder.pid))
            drive(box.remove())
            engine.close()
            file = Path(run_directory(), f"{name}.keeper")
            assert file.exists()
            assert groups_of(name)
        finally:
            intruder.kill()
            intruder.wait()
        deadline = time.monotonic() + 5
        while groups_of(name) and time.monotonic() < deadline:
            sweep(run_directory(), ())

        assert [] == groups_of(name)
        assert not file.exists()
