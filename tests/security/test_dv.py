"""
DV: devices and terminals.
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

import jailbox as jb
from tests.security.asking import PROBE, Answers, Asker

pytestmark = pytest.mark.userns

NODES = {
    "null": "1:3", "zero": "1:5", "full": "1:7", "random": "1:8", "urandom": "1:9",
    "tty": "5:0",
}  # fmt: skip

OTHERS = {
    "console", "core", "fd", "mqueue", "ptmx", "pts", "shm", "stderr", "stdin",
    "stdout",
}  # fmt: skip

HARDWARE = [
    "fuse", "hpet", "kmem", "kmsg", "kvm", "loop-control", "loop0", "mapper/control",
    "mem", "net/tun", "port", "sda", "sg0", "tty0", "tty1", "vda", "vfio/vfio",
]  # fmt: skip


def test_dv1_six_nodes(answers: Answers) -> None:
    """
    DV1: /dev has the six usual nodes, by the right numbers, and nothing else but
    links and file systems.
    """
    devices = answers.group("dev")

    assert devices.items() >= NODES.items()
    assert devices.keys() - NODES.keys() <= OTHERS
    assert ":" not in "".join(v for k, v in devices.items() if k not in NODES)


def test_dv2_nodes_cannot_be_made(answers: Answers) -> None:
    """
    DV2: No device can be made, not even the null device; a pipe can.
    """
    assert "EPERM" == answers["mknod.char"]
    assert "EPERM" == answers["mknod.block"]
    assert "ok" == answers["mknod.fifo"]


@pytest.mark.root
def test_dv3_nodes_of_an_image(rootfs: Callable[[], Path], ask: Asker) -> None:
    """
    DV3: Device nodes that an image ships cannot be opened.
    """
    root = rootfs()
    nodes = {"sda": (8, 0), "vda": (254, 0), "ram": (1, 0)}
    for name, numbers in nodes.items():
        os.mknod(root / name, 0o666 | stat.S_IFBLK, os.makedev(*numbers))
    os.mknod(root / "mem", 0o666 | stat.S_IFCHR, os.makedev(1, 1))
    os.mknod(root / "zero", 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    paths = [f"/{name}" for name in (*nodes, "mem", "zero")]
    answers = ask(jb.Image.from_dir(root), "open", *paths)

    assert answers.group("open") == dict.fromkeys(paths, "EACCES")
    assert answers.group("open-write") == dict.fromkeys(paths, "EACCES")


@pytest.mark.parametrize("name", HARDWARE)
def test_dv4_no_hardware(name: str, answers: Answers) -> None:
    """
    DV4: Memory, disks, virtual machines, consoles and tunnels are not there.
    """
    assert "ENOENT" == answers[f"open./dev/{name}"]


class TestTerminals:
    def test_dv6_none_by_default(self, answers: Answers) -> None:
        """
        DV6: Without tty= no stream is a terminal, and there is no controlling one.
        """
        assert {"0"} == set(answers.group("isatty").values())
        assert "ENXIO" == answers["open./dev/tty"]

    def test_dv7_one_of_its_own(self, ask: Asker, image: jb.Image) -> None:
        """
        DV7: With tty= the streams are a terminal of the jail's own devpts, which is the
        controlling one of a session of its own; no other is open.
        """
        with jb.Container(image, mounts=[ask.mount]) as jail:  # noqa: SIM117
            with jail.popen([PROBE, "tty"], tty=True) as process:
                lines = [record.text for record in process]
        answers = Answers.of("\n".join(lines))

        assert {"1"} == set(answers.group("isatty").values())
        assert "/dev/pts/0" == answers["tty.name"]
        assert "1" == answers["tty.session"]
        assert "ok" == answers["tty.controlling"]
        assert "EPERM" == answers["tty.sti"]
        assert dict.fromkeys("012", "/dev/pts/0") == answers.group("fd")


def test_dv8_control_characters_are_escaped() -> None:
    """
    DV8: What somebody else named is printed without the power to move a cursor.
    """
    evil = "\x1b[2J\x07\r"
    result = jb.run(jb.Image.host(), ["sh", "-c", f"echo '{evil}'; exit 3", evil])
    with pytest.raises(jb.JailboxError) as exited:
        result.check()
    with pytest.raises(jb.JailboxError) as missing:
        jb.run(jb.Image.host(), [f"/no/{evil}"])
    with pytest.raises(jb.JailboxError) as unknown:
        jb.run(jb.Image.host(), ["true"], cwd=f"/{evil}")
    texts = [repr(result), result.explain()]
    texts += [str(caught.value) for caught in (exited, missing, unknown)]
    for text in texts:
        assert not set("\x1b\x07\r") & set(text), ascii(text)


def test_dv9_the_console(answers: Answers) -> None:
    """
    DV9: There is no console that could be written to.
    """
    assert "console" not in answers.group("dev")


@pytest.mark.parametrize("name", ["console", "ptmx", "tty", "null", "pts/0", "pts"])
def test_dv10_links_of_an_image(
    name: str, rootfs: Callable[[], Path], ask: Asker, tmp_path: Path
) -> None:
    """
    DV10: Devices that an image ships as links are not followed (CVE-2025-52565).
    """
    root = rootfs()
    canary = tmp_path / "canary"
    canary.write_text("of the host")
    before = canary.stat()
    link = root / "dev" / name
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(canary)
    answers = ask(jb.Image.from_dir(root))

    assert answers["dev.null"] == "1:3"
    assert answers["dev.pts"] == "directory"
    assert before == canary.stat()
