"""
What is done on kernels before 6.13, done here: layers by name, trees built anew.

The plan follows from the facts, and every kernel since still takes what the older ones
want. So an engine that believes to be on an older kernel walks the longer way on this
one. The real ones are booted in `tests/vm`.
"""

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

import jailbox as jb
from jailbox import Security
from jailbox.engine import choose
from jailbox.engine.base import Io
from jailbox.engine.local import LocalEngine
from jailbox.errors import NotEnforced, Unsupported
from jailbox.flow import drive
from jailbox.linux.facts import HostFacts, facts_from
from jailbox.linux.messages import STEPS
from jailbox.linux.plan import LaunchPlan
from jailbox.linux.record import Descriptors, encode_start
from jailbox.run import sandbox
from jailbox.run.compile import compile_container
from jailbox.run.rootfs import Rootfs
from jailbox.spec.container import ContainerSpec
from tests.linux.test_facts import readings
from tests.run.test_compile import ALL_CAPS

pytestmark = pytest.mark.userns

HOST = jb.Image.host()
KERNELS = {"6.14": (6, 14, 0), "6.12": (6, 12, 0), "6.1": (6, 1, 0)}


@pytest.fixture(params=KERNELS)
def engine(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LocalEngine]:
    """Make an engine that believes to be on another kernel the one that is used."""
    engine = LocalEngine()
    engine._facts = attrs.evolve(engine.facts, kernel=KERNELS[request.param])
    if not engine.facts.is_rootful and not engine.facts.tmpfs_keeps_user_attributes:
        pytest.skip(f"Linux {request.param} needs root, or a degradation")
    monkeypatch.setitem(choose._engines, os.getpid(), engine)
    yield engine
    engine.close()


@pytest.fixture
def directory(busybox_rootfs: Path) -> jb.Image:
    """Return an image with files and directories of its own."""
    return jb.Image.from_dir(busybox_rootfs)


def changed(jail: jb.Container) -> set[tuple[str, str]]:
    """What is different in a container, and how."""
    return {(change.kind, change.path) for change in jail.changes()}


@pytest.mark.usefixtures("engine")
class TestRoots:
    def test_the_hosts_programs_run(self) -> None:
        """
        A jail on the host's programs starts, and its root writes where it may.
        """
        script = "echo x > /etc/x && cat /etc/x && stat -c %U:%G /etc /etc/passwd"
        result = jb.run(HOST, ["sh", "-c", script])

        assert result.stdout == "x\nroot:root\nroot:root\n"

    def test_no_name_is_left(self) -> None:
        """
        The layers are not in the jail's mounts, and no path of the host is told.
        """
        text = jb.run(HOST, ["cat", "/proc/self/mountinfo"]).stdout
        overlays = [line for line in text.splitlines() if " - overlay " in line]

        assert [line.split()[4] for line in overlays][:2] == ["/", "/usr"]
        for line in overlays:
            options = line.split(" - ")[1].split()[2].split(",")
            given = dict(option.partition("=")[::2] for option in options)
            # By descriptor they are told as what they are there: a root, each.
            assert given.get("lowerdir", "0") == "0"
            assert re.fullmatch(r"(layer)?/\d-upper", given["upperdir"])
        assert not [line for line in text.splitlines() if line.split()[4] == "/layer"]

    def test_a_directory_of_an_image_can_be_replaced(self, directory: jb.Image) -> None:
        """
        Where a directory of the image was removed a new one stands, and is empty.
        """
        script = "rm -r /etc && mkdir /etc && ls -A /etc && touch /etc/x && ls /etc"
        result = jb.run(directory, ["/bin/busybox", "sh", "-c", script])

        assert (result.stdout, result.stderr) == ("x\n", "")

    @pytest.mark.root
    def test_layers_hide_each_other(
        self, busybox_rootfs: Path, engine: LocalEngine, tmp_path: Path
    ) -> None:
        """
        Of two layers the upper one hides files and whole directories of the lower, as
        images note it.
        """
        upper = tmp_path / "upper"
        (upper / "etc").mkdir(parents=True)
        os.setxattr(upper / "etc", "user.overlay.opaque", b"y")
        (upper / "etc/own").touch()
        os.mknod(upper / "home", 0o020000, 0)
        two = Rootfs(layers=(str(upper), str(busybox_rootfs)))
        spec = ContainerSpec(image=HOST.source, command=("/bin/busybox", "ls", "/etc"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(LocalEngine, "rootfs", lambda *_: two)
            seen = drive(engine.run(spec, Io()))
            home = drive(
                engine.run(
                    attrs.evolve(spec, command=("/bin/busybox", "ls", "/home")), Io()
                )
            )

        assert seen.stdout == "own\n"
        assert "No such file" in home.stderr


class TestLayers:
    def test_a_layer_outlasts_its_jails(self, engine: LocalEngine) -> None:
        """
        What was written is there in the next jail of a container, and the one after.
        """
        program = ["sh", "-c", "echo 1 >> /n"]
        with jb.Container(HOST, command=program) as jail:
            jail.wait(10)
            for _ in range(2):
                jail.start()
                jail.wait(10)
            assert jail.path("/n").read_text() == "1\n1\n1\n"
            assert jail.path("/n").read_text() == "1\n1\n1\n"
        assert not engine.facts.can_clone_detached

    @pytest.mark.parametrize("step", ["overlay", "root", "identity"])
    @pytest.mark.usefixtures("engine")
    def test_a_refused_start_costs_no_layer(
        self, step: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A container whose start was refused, before or after its layer was mounted, can
        be started again and has what was written.
        """

        def refused(plan: LaunchPlan, fds: Descriptors) -> bytearray:
            return encode_start(plan, fds, fault=(STEPS.index(step), errno.ENOMEM))

        with jb.Container(HOST) as jail:
            jail.path("/kept").write_text("here")
            jail.stop(0)
            with monkeypatch.context() as patch:
                patch.setattr(sandbox, "encode_start", refused)
                with contextlib.suppress(jb.LaunchError):
                    jail.start()
            if jail.state == "running":
                pytest.skip("the helper was built without JAILBOX_FAULTS=1")
            jail.start()
            assert jail.path("/kept").read_text() == "here"

    @pytest.mark.usefixtures("engine")
    def test_changes_are_told(self, directory: jb.Image) -> None:
        """
        Changes are found, also that a directory hides the one of the image.
        """
        script = (
            "echo x > /new && rm /etc/group && rm -r /home && rm -r /etc && mkdir /etc"
            " && touch /etc/own && mkdir /var/sub && echo y >> /tmp/t"
        )
        with jb.Container(directory) as jail:
            jail.exec(["/bin/busybox", "sh", "-c", script], check=True)
            found = changed(jail)

        assert ("added", "/new") in found
        assert ("added", "/etc/own") in found
        assert ("removed", "/etc/group") in found
        assert ("removed", "/etc/passwd") in found
        assert ("removed", "/home") in found
        assert ("added", "/var/sub") in found
        assert not [path for kind, path in found if path.startswith(("/bin", "/usr"))]


class TestRefusals:
    def old(self, release: str, *, root: bool) -> HostFacts:
        """The facts of a recorded machine with another kernel."""
        seen = readings(caps=ALL_CAPS if root else "0", release=release)
        return facts_from(attrs.evolve(seen, euid=0 if root else 1000))

    def compile(self, facts: HostFacts, **security: Any) -> object:  # noqa: ANN401
        """Compile for that machine."""
        spec = ContainerSpec(image=HOST.source, security=Security(**security))
        rootfs = Rootfs(layers=("/x",))
        found = compile_container(
            spec, facts, rootfs, keeper="K", prepared=None, hostname="box"
        )
        return found.plan.degraded

    def test_an_ordinary_user_before_6_6(self) -> None:
        """
        An ordinary user's jail before Linux 6.6 cannot replace directories: refused by
        that name, or listed where it was allowed.
        """
        facts = self.old("6.1.0", root=False)
        with pytest.raises(NotEnforced, match=r"Linux 6\.6") as caught:
            self.compile(facts)

        assert caught.value.degrade == "overlay"
        degrade = {"overlay", "landlock"}
        assert "overlay" in self.compile(facts, degrade=degrade)  # type: ignore[operator]

    def test_too_old_for_root(self) -> None:
        """
        Root's layers are id-mapped, which an overlay takes since Linux 5.19.
        """
        with pytest.raises(Unsupported, match=r"5\.19"):
            self.compile(self.old("5.15.0", root=True))
