"""
Containers that are kept, put back and multiplied; and images that are made of them.
"""

import io
import os
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

import jailbox as jb
from jailbox import Container, Image, ImageConfig, Limits, Mount, Store
from jailbox.engine import choose
from jailbox.engine.local import LocalEngine
from jailbox.engine.snapshot import combined
from jailbox.spec.change import Change

pytestmark = pytest.mark.userns


@pytest.fixture
def image(busybox_rootfs: Path) -> Image:
    """Return an image of a directory."""
    return Image.from_dir(busybox_rootfs, ImageConfig(env={"PATH": "/bin"}))


@pytest.fixture(scope="module")
def store(
    busybox_rootfs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    """Return a store with one image in it."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        archive.add(busybox_rootfs, arcname=".", filter=_by_root)
    tar.seek(0)
    config = ImageConfig(cmd=("/bin/sh",), env={"PATH": "/bin"}, labels={"a": "1"})
    with Store(tmp_path_factory.mktemp("store")) as store:
        Image.from_tar(tar, "base:1", config=config, store=store)
        yield store


def _by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    return entry


def sh(jail: Container, script: str) -> str:
    """Run a script in a container; what it printed."""
    done = jail.exec(["sh", "-ec", script], check=True)
    text: str = done.stdout
    return text


def changed(jail: Container) -> set[str]:
    """What is different in a container."""
    return {str(change) for change in jail.changes()}


class TestSnapshots:
    def test_a_reset_takes_everything_back(self, image: Image) -> None:
        """
        After a reset the files are what they were: content, owners, what was there
        and what was not.
        """
        with Container(image) as jail:
            sh(jail, "echo one > /f; rm /etc/group; mkdir /d; echo x > /d/x")
            before = sh(jail, "ls -lnR /etc /d; cat /f")
            snapshot = jail.snapshot()
            sh(jail, "echo two > /f; echo g > /etc/group; rm -r /d; touch /new")
            jail.reset(snapshot)

            assert sh(jail, "ls -lnR /etc /d; cat /f") == before
            assert changed(jail) == {
                "added /d", "added /d/x", "added /f", "removed /etc/group",
            }  # fmt: skip

    def test_a_snapshot_can_be_used_many_times(self, image: Image) -> None:
        """
        A snapshot stays what it is, however often a container comes back to it.
        """
        with Container(image) as jail:
            sh(jail, "echo one > /f")
            snapshot = jail.snapshot()
            for word in ("two", "three"):
                sh(jail, f"echo {word} >> /f")
                assert sh(jail, "cat /f") == f"one\n{word}\n"
                jail.reset(snapshot)

            assert sh(jail, "cat /f") == "one\n"

    def test_snapshots_of_snapshots(self, image: Image) -> None:
        """
        There can be several, and it can be gone back and forth between them.
        """
        with Container(image) as jail:
            taken = []
            for number in range(4):
                sh(jail, f"echo {number} >> /log; touch /{number}")
                taken.append(jail.snapshot())
            sh(jail, "rm /log /0")
            found = []
            for number in (1, 3, 0):
                jail.reset(taken[number])
                found.append(sh(jail, "cat /log | wc -l; ls / | grep -c '^[0-9]$'"))

            assert found == ["2\n2\n", "4\n4\n", "1\n1\n"]

    def test_of_a_container_that_does_not_run(self, image: Image) -> None:
        """
        A snapshot of a container that was never started is its image; it does not run
        after a reset, either, if it did not before.
        """
        jail = Container(image)
        empty = jail.snapshot()
        jail.start()
        sh(jail, "touch /x")
        jail.stop(timeout=0)
        full = jail.snapshot()
        jail.reset(empty)

        assert jail.state is jb.ContainerState.STOPPED
        assert changed(jail) == set()
        jail.reset(full)
        assert changed(jail) == {"added /x"}
        jail.remove()

    def test_what_runs_is_not_ended_unasked(self, image: Image) -> None:
        """
        While a program runs a snapshot is refused, naming it, and nothing happens to
        it; with *end* it is ended.
        """
        with Container(image) as jail:
            sh(jail, "touch /x; sleep 1000 > /dev/null 2>&1 &")
            with pytest.raises(jb.StateError, match="running sleep") as caught:
                jail.snapshot()
            assert "end=True" in caught.value.__notes__[0]
            assert "sleep" in sh(jail, "ps")
            jail.snapshot(end=True)

            assert "sleep" not in sh(jail, "ps")
            assert sh(jail, "ls /x") == "/x\n"

    def test_a_main_program_is_started_anew(self, image: Image) -> None:
        """
        A reset ends the main program, and starts it again on the old files.
        """
        command = ["sh", "-c", "echo started >> /log; exec sleep 1000"]
        with Container(image, command) as jail:
            while not jail.path("/log").exists():
                time.sleep(0.01)
            with pytest.raises(jb.StateError, match="its main program"):
                jail.snapshot()
            snapshot = jail.snapshot(end=True)
            sh(jail, "echo mine >> /log")
            jail.reset(snapshot)
            wanted = "started\nstarted\n"
            deadline = time.monotonic() + 5
            while (log := sh(jail, "cat /log")) != wanted:
                assert time.monotonic() < deadline, log

            assert jail.state is jb.ContainerState.RUNNING

    def test_memory_file_systems_are_not_lost_unasked(self, image: Image) -> None:
        """
        What lies on a file system in memory would be lost: that is refused.
        """
        with (
            Container(image, mounts=[Mount.tmpfs("/scratch")]) as jail,
            pytest.raises(jb.StateError, match="memory file systems"),
        ):
            jail.snapshot()

    def test_the_bound_of_the_disk_is_of_all_layers(self, image: Image) -> None:
        """
        Who writes, is kept, and writes again gets no more than the limit in all.
        """
        with Container(image, limits=Limits(disk="8M")) as jail:
            sh(jail, "dd if=/dev/zero of=/a bs=1M count=5 2>/dev/null")
            jail.snapshot()
            done = jail.exec(["dd", "if=/dev/zero", "of=/b", "bs=1M", "count=5"])

            assert not done.ok
            assert "No space left" in done.stderr

    def test_of_another_image(self, image: Image) -> None:
        """
        A snapshot of another image is refused, and nothing is ended.
        """
        with Container(image) as jail, Container(Image.host()) as other:
            snapshot = jail.snapshot()
            with pytest.raises(jb.SpecError, match="another image"):
                other.reset(snapshot)

            assert other.state is jb.ContainerState.RUNNING

    def test_on_the_host(self) -> None:
        """
        A container on the host's programs is put back in all of its directories.
        """
        with Container(Image.host()) as jail:
            sh(jail, "echo 1 > /etc/one; echo 1 > /usr/one")
            snapshot = jail.snapshot()
            sh(jail, "echo 2 > /etc/one; rm /usr/one; touch /usr/two")
            assert changed(jail) == {"added /etc/one", "added /usr/two"}
            jail.reset(snapshot)

            assert sh(jail, "cat /etc/one /usr/one; ls /usr").startswith("1\n1\n")
            assert changed(jail) == {"added /etc/one", "added /usr/one"}

    def test_older_kernels_refuse(
        self, image: Image, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Where layers cannot lie below others, the kernel that can is named.
        """
        engine = LocalEngine()
        engine._facts = attrs.evolve(engine.facts, kernel=(6, 14, 0))
        monkeypatch.setitem(choose._engines, os.getpid(), engine)
        with (
            Container(image) as jail,
            pytest.raises(jb.Unsupported, match=r"Linux 6\.15"),
        ):
            jail.snapshot()
        engine.close()

    def test_size(self, image: Image) -> None:
        """
        A snapshot tells how much memory it takes, and takes milliseconds for any size.
        """
        with Container(image) as jail:
            sh(jail, "dd if=/dev/zero of=/a bs=1M count=64 2>/dev/null")
            began = time.monotonic()
            snapshot = jail.snapshot()
            took = time.monotonic() - began

            assert 64 << 20 <= snapshot.size < 66 << 20
            assert took < 1


class TestCopies:
    def test_the_host_stays_as_it_is(self, image: Image, tmp_path: Path) -> None:
        """
        A directory of the host is changed in the container alone, and what differs is
        among its changes; a reset takes it back.
        """
        source = tmp_path / "source"
        source.mkdir()
        (source / "kept").write_text("old")
        (source / "gone").write_text("old")
        with Container(image, mounts=[Mount.cow(source, "/work")]) as jail:
            snapshot = jail.snapshot()
            sh(jail, "cd /work; echo new > kept; rm gone; echo x > added; id > /x")

            assert changed(jail) == {
                "added /work/added", "modified /work/kept", "removed /work/gone",
                "added /x",
            }  # fmt: skip
            assert sorted(os.listdir(source)) == ["gone", "kept"]
            assert (source / "kept").read_text() == "old"
            jail.reset(snapshot)
            assert sh(jail, "cat /work/kept /work/gone") == "oldold"

    def test_it_can_be_changed_on_a_read_only_root(
        self, image: Image, tmp_path: Path
    ) -> None:
        """
        A root that is read-only is so without what was wanted to be changed.
        """
        mounts = [Mount.cow(tmp_path, "/srv")]
        script = "echo x > /srv/x && cat /srv/x; echo x > /x"
        done = jb.run(image, ["sh", "-c", script], mounts=mounts, read_only=True)

        assert done.stdout == "x\n"
        assert "Read-only file system" in done.stderr
        assert os.listdir(tmp_path) == []


class TestChanges:
    def test_applied_to_a_directory(self, image: Image, tmp_path: Path) -> None:
        """
        Applied to the directory that a copy was made of, everything is as in the
        container; what has nothing to do with it stays.
        """
        source = tmp_path / "source"
        (source / "d").mkdir(parents=True)
        for name in ("kept", "gone", "same", "d/x"):
            (source / name).write_text("old\n")
        script = (
            "cd /work; echo new > kept; rm gone; rm -r d; echo x > d; ln -s /etc l;"
            " mkdir -p a/b; echo y > a/b/c; chmod 4750 a/b/c; mkfifo p; echo z > /z"
        )
        with Container(image, mounts=[Mount.cow(source, "/work")]) as jail:
            sh(jail, script)
            changes = jail.changes().below("/work")
            skipped = changes.apply(source)

        assert [change.path for change in skipped] == ["/work/p"]
        assert sorted(os.listdir(source)) == ["a", "d", "kept", "l", "same"]
        assert (source / "kept").read_text() == "new\n"
        assert (source / "d").read_text() == "x\n"
        assert os.readlink(source / "l") == "/etc"
        assert (source / "a/b/c").read_text() == "y\n"
        assert (source / "a/b/c").stat().st_mode & 0o7777 == 0o750

    def test_no_link_is_followed(self, image: Image, tmp_path: Path) -> None:
        """
        A link in the directory leads nowhere: what would go through it is refused, and
        what it points to stays as it is.
        """
        outside, target = tmp_path / "outside", tmp_path / "target"
        outside.mkdir()
        target.mkdir()
        (target / "d").symlink_to(outside)
        with Container(image) as jail:
            sh(jail, "mkdir /d; echo x > /d/x")
            only = jail.changes().below("/d")
            only._below = "/"
            with pytest.raises(jb.SpecError, match="no directory: d"):
                only.apply(target)

        assert os.listdir(outside) == []

    def test_as_a_patch(self, image: Image) -> None:
        """
        Texts are shown as ``diff -u`` shows them, against the image, also when there
        was a snapshot in between; other files are named.
        """
        with Container(image) as jail:
            sh(jail, "printf 'a\\nb' > /new; printf '\\0' > /binary")
            jail.snapshot()
            sh(jail, "echo more >> /etc/group; rm /etc/passwd")
            patch = jail.changes().as_patch()

        assert "Binary files /dev/null and b/binary differ\n" in patch
        assert "--- /dev/null\n+++ b/new\n@@ -0,0 +1,2 @@\n+a\n+b\n\\ No" in patch
        assert "--- a/etc/group\n+++ b/etc/group\n" in patch
        assert "\n+more\n" in patch
        assert "--- a/etc/passwd\n+++ /dev/null\n" in patch

    def test_discarded(self, image: Image) -> None:
        """
        What is discarded was never there.
        """
        with Container(image) as jail:
            sh(jail, "rm /etc/group; touch /x")
            jail.snapshot()
            sh(jail, "touch /y")
            jail.changes().discard()

            assert jail.changes() == ()
            assert sh(jail, "ls /etc/group") == "/etc/group\n"


class TestForks:
    def test_forks_diverge(self, image: Image) -> None:
        """
        Ten forks have the files of the one that was forked, then their own; nobody
        sees what another writes, and the parent is as it was.
        """
        with Container(image) as jail:
            sh(jail, "echo base > /f; chmod 600 /f")
            forks = jail.fork(10)
            for number, fork in enumerate(forks):
                sh(fork, f"echo {number} >> /f; rm /etc/group; touch /{number}")
            sh(jail, "echo parent >> /f")

            assert [sh(fork, "cat /f") for fork in forks] == [
                f"base\n{number}\n" for number in range(10)
            ]
            assert sh(jail, "cat /f; ls /etc/group; stat -c '%a %u' /f") == (
                "base\nparent\n/etc/group\n600 0\n"
            )
            assert changed(forks[0]) == {
                "added /f", "added /0", "removed /etc/group",
            }  # fmt: skip
            for fork in forks:
                fork.remove()

    def test_forks_outlive_what_they_come_from(self, image: Image) -> None:
        """
        What a fork is made of stays when the container that was forked is removed.
        """
        with Container(image) as jail:
            sh(jail, "echo base > /f; chown 1:1 /f 2>/dev/null || true")
            owner = sh(jail, "stat -c %u /f")
            (fork,) = jail.fork()
        with fork:
            assert sh(fork, "cat /f") == "base\n"
            assert sh(fork, "stat -c %u /f") == owner

    def test_of_a_snapshot(self, image: Image) -> None:
        """
        A fork can be made of an earlier moment, and leaves the container alone.
        """
        with Container(image) as jail:
            sh(jail, "echo early > /f")
            snapshot = jail.snapshot()
            sh(jail, "echo late > /f")
            (fork,) = jail.fork(snapshot=snapshot)
            with fork:
                assert sh(fork, "cat /f") == "early\n"
            assert sh(jail, "cat /f") == "late\n"


class TestCommits:
    def test_what_was_written_is_in_the_image(self, store: Store) -> None:
        """
        A container of the new image has what the first one wrote, has not what it
        removed, and everything belongs to whom it belonged.
        """
        with Container(Image.get("base:1", store=store)) as jail:
            sh(jail, "echo x > /x; rm /etc/group; rm -r /home; mkdir /home")
            sh(jail, "chown 5:6 /x 2>/dev/null || true; chmod 4755 /x")
            owner = sh(jail, "stat -c '%a %u %g' /x")
            image = jail.commit("new:1", message="why", author="me")
        names = ["sh", "-c", "cat /x; ls /etc/group /home; stat -c '%a %u %g' /x"]
        done = jb.run(image, names)

        assert done.stdout == f"x\n/home:\n{owner}"
        assert Image.get("new:1", store=store) == image
        info = image.info
        assert (info.history[-1].comment, info.history[-1].author) == ("why", "me")
        assert len(info.layers) == 2
        assert store.check(full=True).damage == ()

    def test_the_config_can_be_changed(self, store: Store) -> None:
        """
        What is not given is the image's; variables and labels are added to its.
        """
        jail = Container(Image.get("base:1", store=store))
        plain = jail.commit()
        image = jail.commit(
            cmd=["cat", "/etc/passwd"], env={"A": "b"}, labels={"b": "2"}, cwd="/tmp"
        )
        jail.remove()

        assert plain.config.cmd == ("/bin/sh",)
        assert image.config.cmd == ("cat", "/etc/passwd")
        assert dict(image.config.env) == {"PATH": "/bin", "A": "b"}
        assert dict(image.config.labels) == {"a": "1", "b": "2"}
        assert jb.run(image).stdout.startswith("root:")
        assert len(image.info.layers) == 1

    def test_while_it_runs(self, store: Store) -> None:
        """
        A container with programs in it is committed; they go on afterwards.
        """
        command = ["sh", "-c", "i=0; while :; do i=$((i+1)); echo $i > /n; done"]
        with Container(Image.get("base:1", store=store), command) as jail:
            while not jail.path("/n").exists():
                time.sleep(0.01)
            image = jail.commit()
            first = int(jb.run(image, ["cat", "/n"]).stdout or 0)
            deadline = time.monotonic() + 5
            while int(jail.path("/n").read_text() or 0) <= first:
                assert time.monotonic() < deadline

            assert jail.state is jb.ContainerState.RUNNING

    def test_snapshots_become_layers(self, store: Store) -> None:
        """
        A container that comes from snapshots is committed with all that lies below it.
        """
        with Container(Image.get("base:1", store=store)) as jail:
            sh(jail, "echo one > /log; touch /gone")
            jail.snapshot(end=True)
            sh(jail, "echo two >> /log; rm /gone")
            (fork,) = jail.fork(end=True)
            with fork:
                image = fork.commit()
        with image.open("/log") as file:
            assert file.read() == b"one\ntwo\n"
        with pytest.raises(jb.NotFound):
            image.open("/gone")
        assert len(image.info.layers) == 3

    def test_images_without_a_store_are_refused(self, image: Image) -> None:
        """
        The host, and a directory, are nothing that an image could lie on; it is said
        what could be done instead.
        """
        for source in (image, Image.host()):
            jail = Container(source)
            with pytest.raises(jb.SpecError, match="in no store") as caught:
                jail.commit("x:1")
            assert caught.value.__notes__
            jail.remove()


class TestCombined:
    def test_a_step_after_the_other(self) -> None:
        """
        What was added and removed is nothing, what was removed and added is modified,
        and what goes with its directory is not told.
        """
        first = [
            Change("added", "/a"), Change("added", "/d"), Change("added", "/d/x"),
            Change("modified", "/m"), Change("removed", "/r"), Change("added", "/s"),
            Change("modified", "/h"), Change("modified", "/h/x"),
        ]  # fmt: skip
        second = [
            Change("removed", "/a"), Change("removed", "/d"), Change("removed", "/m"),
            Change("added", "/r"), Change("modified", "/s"), Change("removed", "/h"),
        ]  # fmt: skip

        assert [str(change) for change in combined([first, second])] == [
            "removed /h", "removed /m", "modified /r", "added /s",
        ]  # fmt: skip
