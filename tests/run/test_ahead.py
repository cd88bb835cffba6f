"""
Jails that are made before they are asked for: nobody can tell, but by the clock.

After two equal starts in a row the keeper makes the next jail ahead. What is proved
here is that such a jail shows the present, serves once, and is soon forgotten.
"""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import attrs
import pytest

import jailbox as jb
from jailbox import Limits, Mount, Security
from jailbox.engine.choose import default_engine
from jailbox.run.compile import compile_container
from jailbox.run.rootfs import Rootfs
from jailbox.spec.container import ContainerSpec
from tests.leaks import helpers, tasks
from tests.run.test_compile import ROOTFS, facts

HOST = jb.Image.host()


def waiting() -> list[int]:
    """List the inits of ours that wait for a start."""
    everyone = tasks()
    return [p for p in helpers(everyone) if everyone[p].name == "jailbox-ahead"]


def await_waiting(*, there: bool = True, patience: float = 5.0) -> list[int]:
    """Wait until one waits, or none."""
    deadline = time.monotonic() + patience
    while bool(found := waiting()) != there and time.monotonic() < deadline:
        time.sleep(0.005)
    return found


def ahead_of(*args: object, **options: object) -> None:
    """Start twice; now the third one waits."""
    for _ in range(2):
        jb.run(*args, **options)  # type: ignore[arg-type]
    assert await_waiting()


@pytest.fixture
def root(busybox_rootfs: Path, tmp_path: Path) -> Path:
    """Return a root directory that may be changed."""
    tmp_path.chmod(0o755)
    return Path(shutil.copytree(busybox_rootfs, tmp_path / "root", symlinks=True))


@pytest.mark.userns
class TestService:
    def test_it_is_the_third_start_that_finds_one(self) -> None:
        """
        A single start leaves nothing waiting; a second one like it does.
        """
        jb.run(HOST, ["true"], hostname="third")
        time.sleep(0.05)
        first = waiting()
        jb.run(HOST, ["true"], hostname="third")

        assert not first
        assert len(await_waiting()) == 1

    def test_each_serves_once(self) -> None:
        """
        What one program leaves in its jail, no later one finds.
        """
        script = "ls /tmp/left /dev/shm/left /run/left; touch /tmp/left /dev/shm/left"
        found = [jb.run(HOST, ["sh", "-c", script]) for _ in range(8)]

        assert {result.stdout for result in found} == {""}
        assert all(result.ok for result in found)

    def test_the_program_is_that_of_the_start(self) -> None:
        """
        Arguments, variables, directory, umask and input are those of this start.
        """
        ahead_of(HOST, ["true"])
        found = jb.run(
            HOST,
            ["sh", "-c", 'echo "$1 $A $PWD $(umask) $(cat)"', "sh", "argument"],
            env={"A": "variable"},
            cwd="/usr",
            umask=0o27,
            input="input",
        )

        assert found.stdout == "argument variable /usr 0027 input\n"

    def test_another_kind_is_not_mixed_up(self) -> None:
        """
        A start that differs in anything but its program gets a jail of its own.
        """
        ahead_of(HOST, ["true"], hostname="one")
        name = jb.run(HOST, ["hostname"], hostname="two")
        limit = jb.run(
            HOST, ["sh", "-c", "ulimit -n"], hostname="one",
            limits=Limits(rlimits={"nofile": 100}),
        )  # fmt: skip

        assert name.stdout == "two\n"
        assert limit.stdout == "100\n"

    def test_who_comes_once_sends_nobody_away(self) -> None:
        """
        A row of starts, each of its own kind, leaves the jail of a frequent kind.
        """
        ahead_of(HOST, ["true"])
        (one,) = waiting()
        for number in range(12):
            jb.run(HOST, ["true"], hostname=f"once-{number}")

        assert waiting() == [one]

    def test_a_record_too_large_for_the_gate_starts_as_ever(self) -> None:
        """
        100 kB of arguments do not fit into a message, and are passed whole.
        """
        ahead_of(HOST, ["true"])
        found = jb.run(HOST, ["sh", "-c", 'echo "${#1}"', "sh", "x" * 100_000])

        assert found.stdout == "100000\n"

    def test_a_missing_program_is_told_as_ever(self) -> None:
        """
        What cannot be executed is refused with the same step and file.
        """
        ahead_of(HOST, ["true"])
        with pytest.raises(jb.LaunchError, match="/nonexistent") as caught:
            jb.run(HOST, ["/nonexistent"])

        assert caught.value.step == "exec"


@pytest.mark.userns
class TestTime:
    def test_the_clock_begins_with_the_start(self) -> None:
        """
        Time spent waiting is nobody's: neither a deadline nor the bill counts it.
        """
        limits = Limits(wall=0.5)
        ahead_of(HOST, ["true"], limits=limits)
        time.sleep(0.6)
        assert waiting()
        found = jb.run(HOST, ["true"], limits=limits)

        assert found.ok
        assert found.usage.wall < 0.5

    def test_limits_of_time_hold(self) -> None:
        """
        The bound of wall-clock time ends a jail that was made ahead.
        """
        limits = Limits(wall=0.2)
        ahead_of(HOST, ["true"], limits=limits)
        found = jb.run(HOST, ["sleep", "100"], limits=limits)

        assert found.verdict is jb.Verdict.WALL
        assert found.usage.wall < 1

    def test_a_timeout_kills_it(self) -> None:
        """
        The caller's deadline ends a jail that was made ahead.
        """
        ahead_of(HOST, ["true"])
        began = time.monotonic()
        with pytest.raises(jb.DeadlineExceeded):
            jb.run(HOST, ["sleep", "100"], timeout=0.2)

        assert time.monotonic() - began < 1

    @pytest.mark.slow
    def test_it_is_forgotten_when_nobody_comes(self) -> None:
        """
        Some seconds after the last start nothing waits any more.
        """
        ahead_of(HOST, ["true"])

        assert not await_waiting(there=False, patience=4)

    def test_what_waits_can_be_sent_away(self) -> None:
        """
        An engine that settles holds nothing for starts to come.
        """
        ahead_of(HOST, ["true"])
        default_engine().settle()  # type: ignore[attr-defined]

        assert not await_waiting(there=False, patience=1)

    def test_the_death_of_one_that_waits_harms_nobody(self) -> None:
        """
        Killed from outside while it waits, it is replaced without a word.
        """
        ahead_of(HOST, ["true"])
        os.kill(waiting()[0], signal.SIGKILL)
        assert not await_waiting(there=False)
        found = [jb.run(HOST, ["echo", "x"]).stdout for _ in range(4)]

        assert found == ["x\n"] * 4


@pytest.mark.cgroup
class TestLimits:
    def test_memory_is_limited_and_counted_alike(self) -> None:
        """
        A jail made ahead is killed at the same limit, and its peak is not another's.
        """
        limits = Limits(memory="32M")
        fresh = jb.run(HOST, ["true"], limits=limits).usage.memory_peak
        jb.run(HOST, ["true"], limits=limits)
        assert await_waiting()
        ahead = jb.run(HOST, ["true"], limits=limits).usage.memory_peak
        eater = jb.run(
            HOST, ["python3", "-c", "x = bytearray(64 << 20)"], limits=limits
        )

        assert eater.verdict is jb.Verdict.MEMORY
        assert fresh is not None
        assert ahead is not None
        assert abs(ahead - fresh) < 2 << 20


@pytest.mark.userns
class TestPresent:
    def test_a_changed_file_is_seen(self, root: Path) -> None:
        """
        What was written into the image's directory since is there.
        """
        image = jb.Image.from_dir(root)
        (root / "etc/word").write_text("old\n")
        ahead_of(image, ["cat", "/etc/word"])
        (root / "etc/word").write_text("new\n")
        (root / "etc/more").write_text("more\n")

        assert jb.run(image, ["cat", "/etc/word", "/etc/more"]).stdout == "new\nmore\n"

    def test_a_replaced_directory_is_seen(self, root: Path) -> None:
        """
        Another directory of the same name is another image.
        """
        image = jb.Image.from_dir(root)
        ahead_of(image, ["true"])
        root.rename(root.with_name("old"))
        shutil.copytree(root.with_name("old"), root, symlinks=True)
        (root / "etc/word").write_text("replaced\n")
        (root.with_name("old") / "etc/word").write_text("old\n")

        assert jb.run(image, ["cat", "/etc/word"]).stdout == "replaced\n"

    def test_a_changed_mode_of_the_root_is_seen(self, root: Path) -> None:
        """
        An overlay copies the mode of its lowest directory when it is made.
        """
        image = jb.Image.from_dir(root)
        root.chmod(0o755)
        ahead_of(image, ["true"])
        root.chmod(0o711)

        found = jb.run(image, ["stat", "-c", "%a", "/"], hostname="other").stdout
        assert jb.run(image, ["stat", "-c", "%a", "/"]).stdout == found

    @pytest.mark.root
    def test_a_mount_of_the_host_is_seen(self, root: Path) -> None:
        """
        What is mounted over the image's directory since is what runs.
        """
        other = root.with_name("other")
        shutil.copytree(root, other, symlinks=True)
        (root / "etc/word").write_text("below\n")
        (other / "etc/word").write_text("above\n")
        image = jb.Image.from_dir(root)
        ahead_of(image, ["true"])
        subprocess.run(["mount", "--bind", other, root], check=True)
        try:
            found = jb.run(image, ["cat", "/etc/word"]).stdout
        finally:
            default_engine().settle()  # type: ignore[attr-defined]
            subprocess.run(["umount", root], check=True)

        assert found == "above\n"

    @pytest.mark.root
    def test_any_change_of_mounts_throws_it_away(self, tmp_path: Path) -> None:
        """
        A mount somewhere else on the host ends what waits: it might hold a device.
        """
        ahead_of(HOST, ["true"])
        subprocess.run(["mount", "-t", "tmpfs", "none", tmp_path], check=True)
        try:
            left = await_waiting(there=False, patience=1)
        finally:
            subprocess.run(["umount", tmp_path], check=True)

        assert not left


LIVE = Rootfs(layers=("/srv/image",))


class TestPlans:
    """Which plans may be carried out a moment earlier."""

    @pytest.mark.parametrize(
        ("rootfs", "options", "ahead"),
        [
            (ROOTFS, {}, True),
            (attrs.evolve(ROOTFS, settled=True), {}, True),
            (
                attrs.evolve(ROOTFS, settled=True),
                {"mounts": [Mount.tmpfs("/tmp")]},
                True,
            ),
            (
                attrs.evolve(ROOTFS, settled=True),
                {"mounts": [Mount.tmpfs("/usr/x")]},
                False,
            ),
            (
                attrs.evolve(ROOTFS, settled=True),
                {"mounts": [Mount.bind("/srv", "/a"), Mount.tmpfs("/a/b")]},
                False,
            ),
            (LIVE, {}, True),
            (LIVE, {"mounts": [Mount.tmpfs("/data")]}, False),
            (LIVE, {"security": Security(masked_paths=["/etc/shadow"])}, False),
            (LIVE, {"security": Security(readonly_paths=["/proc/sys"])}, True),
        ],
    )
    def test_only_what_cannot_come_out_otherwise(
        self, rootfs: Rootfs, options: dict[str, object], *, ahead: bool
    ) -> None:
        """
        A target that is looked up where others may write is looked up at the start.
        """
        spec = ContainerSpec(image=HOST.source, command=("true",), **options)  # type: ignore[arg-type]
        plan = compile_container(
            spec, facts(), rootfs, keeper="K", prepared=None, hostname="h"
        ).plan

        assert plan.ahead is ahead

    @pytest.mark.parametrize("option", ["keep_layer", "given", "reuse"])
    def test_a_kept_layer_is_nobody_elses(self, option: str) -> None:
        """
        A layer that outlasts its jail is written to by jails that were asked for.
        """
        spec = ContainerSpec(image=HOST.source, command=("true",))
        plan = compile_container(
            spec,
            facts(),
            LIVE,
            keeper="K",
            prepared=None,
            hostname="h",
            **{option: True},
        ).plan

        assert not plan.ahead
