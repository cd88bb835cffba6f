"""
Keepers that die, and what the next start finds of them.
"""

import subprocess
import time
from pathlib import Path

import pytest

import jailbox as jb
from jailbox.engine.base import Io
from jailbox.engine.local import LocalEngine
from jailbox.flow import drive
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


class TestDeadKeepers:
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
