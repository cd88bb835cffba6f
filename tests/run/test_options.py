"""
What a caller may say of a container, seen from inside of it.
"""

import shutil
from pathlib import Path
from typing import Any, TypeAlias

import pytest

import jailbox as jb
from jailbox import Container, Image, ImageConfig, Limits, Mount, Network

pytestmark = pytest.mark.userns

Json: TypeAlias = Any


@pytest.fixture(scope="module")
def image(busybox_rootfs: Path) -> Image:
    """Return an image that leaves its names to us."""
    return Image.from_dir(busybox_rootfs)


def said(image: Image, command: str, **more: Json) -> str:
    """Run a command of the shell, and return what it says."""
    result = jb.run(image, ["sh", "-c", command], **more).check()
    out: str = result.stdout
    return out


class TestNames:
    def test_a_container_knows_its_name(self, image: Image) -> None:
        """
        The kernel, /etc/hostname and /etc/hosts agree on the name.
        """
        command = "hostname; cat /etc/hostname; grep -c '\\sweb$' /etc/hosts"

        assert "web\nweb\n1\n" == said(image, command, hostname="web")
        assert "web\nweb\n1\n" == said(Image.host(), command, hostname="web")

    def test_every_image_resolves_localhost(self, image: Image) -> None:
        """
        Localhost and the container's own name are found without anything in the image.
        """
        command = 'grep -c localhost /etc/hosts; grep -c "$(hostname)" /etc/hosts'

        for each in (image, Image.host()):
            first, second = said(each, command).split()
            assert int(first) >= 1
            assert int(second) >= 1

    def test_domain_name(self, image: Image) -> None:
        """
        The domain name is the kernel's, and part of the full name.
        """
        command = "cat /proc/sys/kernel/domainname; grep -o 'web[.].*' /etc/hosts"
        found = said(image, command, hostname="web", domainname="example.com")

        assert "example.com\nweb.example.com web\n" == found

    def test_hosts_and_resolver(self, image: Image) -> None:
        """
        Names and name servers of the caller's are in the files that programs read.
        """
        network = Network(
            hosts={"db": "192.0.2.7"}, dns=["192.0.2.53"], dns_search=["a.example"]
        )
        command = "grep db /etc/hosts; cat /etc/resolv.conf"

        assert "192.0.2.7\tdb\nnameserver 192.0.2.53\nsearch a.example\n" == said(
            image, command, network=network
        )

    def test_the_host_network_has_the_host_resolver(self, image: Image) -> None:
        """
        With the host's network, names are resolved as on the host.
        """
        host = Path("/etc/resolv.conf")
        if not host.is_file():
            pytest.skip("this machine has no /etc/resolv.conf")

        found = said(image, "cat /etc/resolv.conf", network="host")

        assert host.read_text(errors="replace") == found

    def test_names_are_no_changes(self, image: Image) -> None:
        """
        What we put into /etc is no change of the container's; what it writes there is.
        """
        with Container(image, hostname="web") as c:
            assert () == c.changes()
            c.exec(["sh", "-c", "echo x >> /etc/hosts"], check=True)
            assert ["/etc/hosts"] == [change.path for change in c.changes()]
            c.restart(0)
            assert c.path("/etc/hosts").read_text().endswith("x\n")

    def test_what_was_made_for_mounts_is_no_change(
        self, busybox_rootfs: Path, shared_place: Path
    ) -> None:
        """
        Directories that are made to mount on, and what only leads to them, are no
        changes; what a program puts beside them is, with what leads there.
        """
        bare = shared_place / "bare"
        (bare / "bin").mkdir(parents=True)
        shutil.copy(busybox_rootfs / "bin/busybox", bare / "bin/sh")
        mounts = (Mount.tmpfs("/mnt/deep/er"), Mount.tmpfs("/scratch"))
        with Container(Image.from_dir(bare), mounts=mounts) as c:
            c.exec(["/bin/sh", "-c", "echo x > /scratch/x"], check=True)
            assert () == c.changes()
            c.exec(["/bin/sh", "-c", "mkdir /mnt/deep/other /made"], check=True)
            found = [change.path for change in c.changes()]
        assert ["/made", "/mnt", "/mnt/deep", "/mnt/deep/other"] == found

    def test_mounts_begin_with_the_root(self, image: Image) -> None:
        """
        The first line of /proc/mounts is the root, and /etc/mtab shows the same.
        """
        assert "/\n" == said(image, "head -n1 /etc/mtab | cut -d' ' -f2")


class TestTerminal:
    def test_run_at_a_terminal(self, image: Image) -> None:
        """
        A program can be run at a terminal of a size, at which its input is typed.
        """
        result = jb.run(
            image,
            ["sh", "-c", 'stty size; read x; echo "<$x>"; test -c /dev/console'],
            tty=(100, 30),
            input="hello\n",
        )

        assert result.ok
        assert "30 100\r\n" in result.stdout
        assert "<hello>\r\n" in result.stdout

    def test_main_program_at_a_terminal(self, image: Image) -> None:
        """
        What the main program says at its terminal is in the log.
        """
        with Container(image, ["sh", "-c", "tty; exit 3"], tty=True) as c:
            assert 3 == c.wait(10).exit_code
            assert b"/dev/pts/0\r\n" == b"".join(each.data for each in c.logs())


class TestImageConfig:
    def test_the_image_says_how_it_is_run(self, busybox_rootfs: Path) -> None:
        """
        Command, user, directory and variables of an image hold, and can be replaced.
        """
        config = ImageConfig(
            entrypoint=("sh", "-c"),
            cmd=("echo $GREETING; pwd",),
            cwd="/tmp",
            env={"GREETING": "hi"},
        )
        image = Image.from_dir(busybox_rootfs, config)

        assert "hi\n/tmp\n" == jb.run(image).stdout
        assert "0\n" == jb.run(image, ["id -u"]).stdout
        assert "x\n" == jb.run(image, ["echo", "x"], entrypoint=[]).stdout


class TestLimits:
    def test_shm(self, image: Image) -> None:
        """
        /dev/shm is as large as was asked for.
        """
        command = "df -k /dev/shm | tail -n1 | awk '{print $2}'"

        assert "65536\n" == said(image, command)
        assert "1024\n" == said(image, command, limits=Limits(shm="1M"))

    @pytest.mark.root
    def test_oom_score(self, image: Image) -> None:
        """
        Every program of a jail has the score that was asked for.
        """
        command = "cat /proc/self/oom_score_adj"
        limits = Limits(oom_score_adj=642)

        assert "642\n" == said(image, command, limits=limits)
        with Container(image, limits=limits) as c:
            assert "642\n" == c.exec(["sh", "-c", command]).stdout

    @pytest.mark.cgroup
    def test_reservation_and_shares(self, image: Image) -> None:
        """
        A reservation and shares are accepted where the controllers are.
        """
        limits = Limits(memory="64M", memory_reservation="32M", cpu_shares=512)

        assert jb.run(image, ["true"], limits=limits).ok

    def test_tmpfs_that_cannot_be_written(self, image: Image) -> None:
        """
        An empty file system can be read-only: it covers what is there.
        """
        mounts = [Mount.tmpfs("/usr", writable=False)]
        result = jb.run(image, ["touch", "/usr/x"], mounts=mounts)

        assert 1 == result.exit_code
        assert "Read-only" in result.stderr


class TestLife:
    def test_restart_keeps_files(self, image: Image) -> None:
        """
        A container that is started again has its files.
        """
        with Container(image) as c:
            c.path("/kept").write_text("x")
            c.restart(0)
            assert "x" == c.path("/kept").read_text()

    def test_result_and_pid(self, image: Image) -> None:
        """
        The result is there when the run is over, and the number while it lasts.
        """
        with Container(image, ["sh", "-c", "read x </dev/null; exit 4"]) as c:
            c.wait(10)
            assert c.result is not None
            assert 4 == c.result.exit_code
            assert c.pid is None
        with Container(image, ["sleep", "60"]) as c:
            assert c.result is None
            assert 2 == c.pid

    def test_remove_without_force(self, image: Image) -> None:
        """
        What runs is only removed by force; what does not is.
        """
        c = Container(image).start()

        with pytest.raises(jb.StateError, match="running"):
            c.remove(force=False)
        assert "running" == c.state
        c.stop(0)
        c.remove(force=False)

        assert c.state is None
