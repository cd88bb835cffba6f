"""
Volumes: directories that outlast containers.
"""

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import jailbox as jb
from jailbox import Container, Image, Mount, Store, Volume
from jailbox.errors import InUse, NotEnforced, NotFound, SpecError
from jailbox.spec.image import ImageConfig

pytestmark = pytest.mark.userns


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Return a store of its own, which is emptied at the end."""
    store = Store(tmp_path / "store")
    yield store
    Volume.prune(store=store)
    for image in store.images():
        image.remove(force=True)
    store.close()


def layer(*entries: tuple[str, bytes | None, int, int]) -> io.BytesIO:
    """Make a tar of a busybox and entries: path, content or none, owner, mode."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        busybox = Path("/bin/busybox").read_bytes()
        for path, content, uid, mode in (
            ("bin", None, 0, 0o755),
            ("bin/busybox", busybox, 0, 0o755),
            *entries,
        ):
            entry = tarfile.TarInfo(path)
            entry.uid = entry.gid = uid
            entry.mode = mode
            entry.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            entry.size = len(content or b"")
            tar.addfile(entry, io.BytesIO(content or b""))
        for name in ("sh", "cat", "ls", "stat", "rm", "touch", "sleep"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    archive.seek(0)
    return archive


@pytest.fixture
def image(store: Store) -> Image:
    """Return an image that calls a directory of user 999 a volume."""
    made = layer(
        ("data", None, 999, 0o700),
        ("data/first", b"from the image\n", 999, 0o600),
        ("data/more", None, 5, 0o755),
        ("data/more/deep", b"x", 7, 0o644),
    )
    return Image.from_tar(made, config=ImageConfig(volumes=("/data",)), store=store)


def sh(image: Image, script: str, *mounts: Mount, **more: object) -> str:
    """Run a script."""
    done = jb.run(image, script, shell=True, mounts=mounts, check=True, **more)  # type: ignore[arg-type]
    return str(done.stdout)


class TestNamed:
    """A volume has a name, and keeps what was written."""

    def test_outlasts(self, store: Store) -> None:
        """What one container writes, the next one reads; the first one made it."""
        mount = Mount.volume("notes", "/mnt", store=store.path)
        sh(Image.host(), "echo hello > /mnt/a", mount)
        assert sh(Image.host(), "cat /mnt/a", mount) == "hello\n"
        assert Volume.list(store=store) == [Volume("notes", store)]

    def test_shared(self, store: Store) -> None:
        """Two containers that run see each other's files at once, and own them."""
        mount = Mount.volume("shared", "/mnt", store=store.path)
        with (
            Container(Image.host(), mounts=[mount]) as one,
            Container(Image.host(), mounts=[mount]) as two,
        ):
            one.exec(["sh", "-c", "echo 1 > /mnt/a; chmod 600 /mnt/a"], check=True)
            script = "cat /mnt/a; stat -c %u /mnt/a; rm /mnt/a"
            assert two.exec(["sh", "-c", script], check=True).stdout == "1\n0\n"
            assert one.exec(["ls", "/mnt"], check=True).stdout == ""

    def test_read_only(self, store: Store) -> None:
        """One that is mounted read only cannot be written to."""
        mount = Mount.volume("fixed", "/mnt", writable=False, store=store.path)
        done = jb.run(Image.host(), ["touch", "/mnt/a"], mounts=[mount])
        assert "Read-only file system" in done.stderr

    def test_seed(self, store: Store) -> None:
        """A seed is in it from the beginning, and nothing of the image."""
        seed: dict[str, str | bytes] = {"etc/app.toml": "a = 1\n", "bytes": b"\0"}
        Volume.create("seeded", seed=seed, store=store)
        mount = Mount.volume("seeded", "/usr/share", store=store.path)
        found = sh(Image.host(), "cd /usr/share; find . | sort; cat etc/*", mount)
        assert found == ".\n./bytes\n./etc\n./etc/app.toml\na = 1\n"

    def test_labels(self, store: Store) -> None:
        """Labels are kept, and find volumes."""
        Volume.create("a", labels={"of": "me", "x": "1"}, store=store)
        Volume.create("b", labels={"of": "you"}, store=store)
        assert Volume.get("a", store=store).labels == {"of": "me", "x": "1"}
        assert Volume.list(labels={"of": "you"}, store=store) == [Volume("b", store)]

    def test_taken(self, store: Store) -> None:
        """A name is given once; asking for what is there is fine if one says so."""
        Volume.create("a", store=store)
        with pytest.raises(SpecError, match="taken"):
            Volume.create("a", store=store)
        assert Volume.create("a", exist_ok=True, store=store) == Volume("a", store)

    def test_size(self, store: Store) -> None:
        """A bound that nothing would enforce is refused, and says what would."""
        with pytest.raises(NotEnforced, match="size of a volume") as caught:
            Volume.create("a", size="1G", store=store)
        assert "Mount.tmpfs" in str(caught.value.hint)
        assert Volume.list(store=store) == []


class TestRemoving:
    """A volume goes when it is told to, and never under somebody."""

    def test_in_use(self, store: Store) -> None:
        """While a container has it, it stays, and who has it is named; then it goes."""
        mount = Mount.volume("busy", "/mnt", store=store.path)
        volume = Volume("busy", store)
        with Container(Image.host(), mounts=[mount]) as container:
            container.exec(["touch", "/mnt/a"], check=True)
            with pytest.raises(InUse, match=f"pid {os.getpid()}"):
                volume.remove()
            assert Volume.prune(store=store) == ()
            container.stop(timeout=0)
            with pytest.raises(InUse):
                volume.remove()
        volume.remove()
        with pytest.raises(NotFound):
            volume.remove()
        assert os.listdir(f"{store.path}/volumes") == []

    def test_detached(self, store: Store) -> None:
        """One that outlives its program holds on to its volumes, and is named."""
        mount = Mount.volume("kept", "/mnt", store=store.path)
        name = f"volume-{os.getpid()}"
        box = Container(
            Image.host(), ["sleep", "60"], name=name, detach=True, mounts=[mount]
        )
        box.start()
        try:
            with pytest.raises(InUse, match=f"container {name}"):
                Volume("kept", store).remove()
        finally:
            box.remove()
        Volume("kept", store).remove()

    def test_again(self, store: Store) -> None:
        """One of the same name that is made later is empty."""
        mount = Mount.volume("twice", "/mnt", store=store.path)
        sh(Image.host(), "touch /mnt/a", mount)
        Volume("twice", store).remove()
        assert sh(Image.host(), "ls /mnt", mount) == ""

    def test_prune(self, store: Store) -> None:
        """Those that nobody uses go together."""
        for name in ("a", "b"):
            Volume.create(name, store=store)
        assert Volume.prune(store=store) == ("a", "b")
        assert Volume.list(store=store) == []

    def test_garbage(self, store: Store) -> None:
        """A directory that never got a record is removed by the next gc."""
        Volume.create("kept", store=store)
        assert store.path is not None
        orphan = Path(store.path, "volumes", "0" * 32, "data")
        orphan.mkdir(parents=True)
        (orphan / "file").touch()
        store.prune()
        assert not orphan.parent.exists()
        assert Volume.get("kept", store=store).size() >= 0


class TestCopied:
    """A new volume begins with what the image has at its place."""

    def test_owners(self, image: Image, store: Store) -> None:
        """Content, owners and modes are copied, the directory's own too; once."""
        mount = Mount.volume("db", "/data", store=store.path)
        script = "stat -c '%n %u:%g %a' /data /data/* /data/more/deep; cat /data/first"
        lines = sh(image, "cat /proc/self/uid_map").splitlines()
        several = sum(int(line.split()[2]) for line in lines) > 1
        db, five, seven = (999, 5, 7) if several else (0, 0, 0)
        assert sh(image, script, mount).splitlines() == [
            f"/data {db}:{db} 700",
            f"/data/first {db}:{db} 600",
            f"/data/more {five}:{five} 755",
            f"/data/more/deep {seven}:{seven} 644",
            "from the image",
        ]
        sh(image, "rm /data/first", mount)
        assert sh(image, "ls /data", mount) == "more\n"

    def test_without(self, image: Image, store: Store) -> None:
        """Whoever wants it empty gets it so."""
        mount = Mount.volume("bare", "/data", copy=False, store=store.path)
        assert sh(image, "ls -a /data", mount) == ".\n..\n"

    def test_elsewhere(self, image: Image, store: Store) -> None:
        """Where the image has nothing, it is empty and root's."""
        mount = Mount.volume("new", "/srv/new", store=store.path)
        assert sh(image, "stat -c '%u %a' /srv/new; ls /srv/new", mount) == "0 755\n"


class TestOfImages:
    """What an image calls a volume goes with the container."""

    def test_copied(self, image: Image) -> None:
        """It begins with what the image has, for each container anew."""
        for _ in range(2):
            assert sh(image, "ls /data; rm /data/first") == "first\nmore\n"

    def test_read_only(self, image: Image) -> None:
        """It can be written to where the root cannot, and is a mount of its own."""
        script = "touch /data/a && ! touch /b 2>/dev/null && cat /proc/mounts"
        assert " /data " in sh(image, script, read_only=True)

    def test_restarted(self, image: Image, store: Store) -> None:
        """It is the same for every start of a container, and gone with it."""
        with Container(image, ["sleep", "60"]) as container:
            container.exec(["touch", "/data/mine"], check=True)
            container.stop(timeout=0)
            container.start()
            found = container.exec(["ls", "/data"], check=True).stdout
            assert found == "first\nmine\nmore\n"
            assert container.changes() == ()
        assert store.path is not None
        assert os.listdir(f"{store.path}/tmp") == []
        assert os.listdir(f"{store.path}/trash") == []

    def test_named_instead(self, image: Image, store: Store) -> None:
        """Whoever mounts something there gets that."""
        mount = Mount.tmpfs("/data")
        assert sh(image, "ls /data", mount) == ""
        assert Volume.list(store=store) == []


@pytest.mark.parametrize("name", ["", ".a", "a/b", "a b", "x" * 101, "é"])
def test_names(name: str) -> None:
    """A name is letters, digits and a few signs: it cannot lead anywhere."""
    with pytest.raises(SpecError, match="name"):
        Volume(name)


@pytest.mark.parametrize("path", ["/a", "a//b", "../a", "a/..", "", "a\0"])
def test_seeds(path: str, store: Store) -> None:
    """What is no path below the volume is refused before anything is made."""
    with pytest.raises(SpecError, match="seed"):
        Volume.create("a", seed={path: b""}, store=store)
    assert Volume.list(store=store) == []
