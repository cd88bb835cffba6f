"""
Layers that jails write into a directory of the disk, and what becomes of them.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

import jailbox as jb
from jailbox.engine.base import Io
from jailbox.engine.local import LocalEngine
from jailbox.errors import LaunchError
from jailbox.flow import drive
from jailbox.run.overlays import UPPER
from jailbox.run.rootfs import Rootfs
from jailbox.spec.container import ContainerSpec
from jailbox.spec.digest import Digest
from jailbox.spec.result import Result
from jailbox.store.written import writing

pytestmark = pytest.mark.userns

OLD_KERNELS = {"this one": None, "6.12": (6, 12, 0), "6.1": (6, 1, 0)}


@pytest.fixture
def engine() -> Iterator[LocalEngine]:
    """Make an engine with nothing in it."""
    engine = LocalEngine()
    yield engine
    engine.close()


@pytest.fixture(params=OLD_KERNELS)
def any_engine(request: pytest.FixtureRequest) -> Iterator[LocalEngine]:
    """Make an engine that may believe to be on another kernel."""
    engine = LocalEngine()
    kernel = OLD_KERNELS[request.param]
    if kernel is not None:
        engine._facts = attrs.evolve(engine.facts, kernel=kernel)
    if not engine.facts.is_rootful and kernel is not None and kernel < (6, 6, 0):
        engine.close()
        pytest.skip(f"Linux {request.param} needs root, or a degradation")
    yield engine
    engine.close()


def run_on(engine: LocalEngine, layer: Path, below: Path, script: str) -> Result[str]:
    """Run a script of a shell on a directory as its writable layer."""
    spec = ContainerSpec(
        image=jb.Image.from_dir(below).source,
        command=("/bin/busybox", "sh", "-ec", script),
        env={"PATH": "/bin"},
    )
    fd = os.open(layer, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        result: Result[str] = drive(engine.run_on(fd, spec, Io()))
    finally:
        os.close(fd)
    return result


def is_whiteout(path: Path) -> bool:
    """Return whether a path is the mark of something that is not there."""
    found = path.lstat()
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


class TestWriting:
    def test_what_is_written_is_a_layer(
        self, any_engine: LocalEngine, tmp_path: Path, busybox_rootfs: Path
    ) -> None:
        """
        The directory holds what the program wrote and the marks of what it removed,
        owned as in an image, and by none of the jail's private ids; so it is when
        layers have to be named, too.
        """
        script = (
            "echo x > /etc/new; rm /etc/passwd; rm -r /home; mkdir /home;"
            " echo y > /home/y"
        )
        done = run_on(any_engine, tmp_path, busybox_rootfs, script)

        upper = tmp_path / UPPER
        assert (done.exit_code, done.stderr) == (0, "")
        assert (upper / "etc/new").read_text() == "x\n"
        assert is_whiteout(upper / "etc/passwd")
        assert os.getxattr(upper / "home", "user.overlay.opaque") == b"y"
        owners = {path.lstat().st_uid for path in upper.rglob("*")}
        assert owners == {os.geteuid()}

    @pytest.mark.root
    def test_owners_are_those_of_the_image(
        self, engine: LocalEngine, tmp_path: Path, busybox_rootfs: Path
    ) -> None:
        """
        A file that was given to somebody in the jail is that id's on the disk, and one
        that is copied up to be changed keeps its owner and its set-id bits.
        """
        below = tmp_path / "below"
        (below / "srv").mkdir(parents=True)
        (below / "srv/tool").write_text("old")
        os.chown(below / "srv/tool", 7, 8)
        (below / "srv/tool").chmod(0o4755)
        layer = tmp_path / "layer"
        layer.mkdir()
        script = "echo x > /f; chown 5:65535 /f; touch -t 202001010000 /srv/tool"

        with pytest.MonkeyPatch.context() as patch:
            both = Rootfs(layers=(str(below), str(busybox_rootfs)))
            patch.setattr(engine, "rootfs", lambda _: both)
            done = run_on(engine, layer, busybox_rootfs, script)

        new, tool = (layer / UPPER / name for name in ("f", "srv/tool"))
        assert (done.exit_code, done.stderr) == (0, "")
        assert (new.stat().st_uid, new.stat().st_gid) == (5, 65535)
        assert (tool.stat().st_uid, tool.stat().st_gid) == (7, 8)
        assert stat.S_IMODE(tool.stat().st_mode) == 0o4755
        assert tool.read_text() == "old"

    def test_a_second_run_goes_on(
        self, engine: LocalEngine, tmp_path: Path, busybox_rootfs: Path
    ) -> None:
        """
        A further run on the directory sees what the one before wrote.
        """
        run_on(engine, tmp_path, busybox_rootfs, "echo one > /log; rm /etc/group")
        script = "echo two >> /log; cat /log; test ! -e /etc/group; id -u"
        done = run_on(engine, tmp_path, busybox_rootfs, script)

        assert (done.stdout, done.stderr) == ("one\ntwo\n0\n", "")

    def test_a_directory_that_cannot_be_one_is_refused(
        self, engine: LocalEngine, busybox_rootfs: Path
    ) -> None:
        """
        A directory of a file system that takes no writing is refused with the step.
        """
        with pytest.raises(LaunchError) as caught:
            run_on(engine, Path("/proc/self"), busybox_rootfs, "true")

        assert caught.value.step in {"tree", "dir", "overlay"}


class TestKeeping:
    def build(
        self, engine: LocalEngine, store_path: Path, below: Path, script: str
    ) -> tuple[str, Digest]:
        """Run a script, and keep what it wrote; the tree, and its diff id."""
        store = engine.images.store(str(store_path))
        with store.adding(), writing(store) as layer:
            spec = ContainerSpec(
                image=jb.Image.from_dir(below).source,
                command=("/bin/busybox", "sh", "-ec", script),
                env={"PATH": "/bin"},
            )
            drive(engine.run_on(layer.fileno(), spec, Io()))
            record, descriptor = layer.keep(engine.images.workshop)
            assert store.blobs.size(descriptor.digest) == descriptor.size
        return store.layers.path(record.tree), record.diff_id

    def test_the_tree_is_kept_as_it_stands(
        self, engine: LocalEngine, tmp_path: Path, busybox_rootfs: Path
    ) -> None:
        """
        What was written becomes a layer of the store by being renamed: the files are
        the same ones. Nothing is left of the jail's other directories.
        """
        script = "mkdir /srv; echo x > /srv/x; rm /etc/passwd; stat -c %i /srv/x"
        tree, _ = self.build(engine, tmp_path / "store", busybox_rootfs, script)

        assert Path(tree, "srv/x").read_text() == "x\n"
        assert is_whiteout(Path(tree, "etc/passwd"))
        assert os.listdir(Path(tree).parent) == ["root"]
        assert os.listdir(tmp_path / "store/tmp") == []

    def test_the_same_files_make_the_same_layer(
        self, engine: LocalEngine, tmp_path: Path, busybox_rootfs: Path
    ) -> None:
        """
        A layer that the store has already is taken, and the second tree goes.
        """
        script = "mkdir /srv; echo x > /srv/x; touch -d @1000000 /srv/x /srv"
        results = {
            self.build(engine, tmp_path / "store", busybox_rootfs, script)
            for _ in range(2)
        }

        assert len(results) == 1
        assert os.listdir(tmp_path / "store/tmp") == []
        assert len(os.listdir(tmp_path / "store/trees")) == 1

    def test_what_is_not_kept_is_removed(
        self, engine: LocalEngine, tmp_path: Path, busybox_rootfs: Path
    ) -> None:
        """
        A layer that nobody keeps leaves nothing in the store.
        """
        store = engine.images.store(str(tmp_path / "store"))
        spec = ContainerSpec(
            image=jb.Image.from_dir(busybox_rootfs).source,
            command=("/bin/busybox", "touch", "/x"),
        )
        with writing(store) as layer:
            drive(engine.run_on(layer.fileno(), spec, Io()))

        assert os.listdir(tmp_path / "store/tmp") == []
        assert os.listdir(tmp_path / "store/trash") == []
