"""
Images as their users hold them: made, found, run, sent, saved, removed.
"""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import jailbox as jb
from jailbox import Container, Image, Store
from jailbox.errors import ImageNotFound, InUse, InvalidReference, NotFound, StateError
from jailbox.registry.client import Client
from jailbox.spec.change import ChangeKind
from jailbox.spec.command import User
from jailbox.spec.image import ImageConfig
from jailbox.testing import Registry

pytestmark = pytest.mark.userns

PASSWD = b"root:x:0:0::/root:/bin/sh\nclerk:x:7:8::/:/bin/sh\n"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Return a store of its own, which is emptied at the end."""
    store = Store(tmp_path / "store")
    yield store
    for image in store.images():
        image.remove(force=True)
    store.close()


def rootfs(**files: bytes) -> io.BytesIO:
    """Make a root file system of a busybox and *files* of ``/etc``."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in ("bin", "etc", "tmp"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(folder)
        binary = Path("/bin/busybox").read_bytes()
        for name, content in {"bin/busybox": binary, **files}.items():
            path = name if "/" in name else f"etc/{name}"
            file = tarfile.TarInfo(path)
            file.size, file.mode = len(content), 0o755
            tar.addfile(file, io.BytesIO(content))
        for name in ("sh", "cat", "id", "ls", "sleep", "true"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    archive.seek(0)
    return archive


CONFIG = ImageConfig(
    env={"COLOR": "blue"},
    entrypoint=("cat",),
    cmd=("/etc/motd",),
    user=User("clerk"),
    labels={"who": "us"},
)


@pytest.fixture
def image(store: Store) -> Image:
    """Return an image called ``clerk:1`` that has all that a config can say."""
    made = rootfs(motd=b"hello\n", passwd=PASSWD)
    return Image.from_tar(made, "clerk:1", config=CONFIG, store=store)


class TestRunning:
    """An image says how it is run; whoever runs it has the last word."""

    def test_without_a_command(self, image: Image) -> None:
        """The image's entry point and command run, as its user."""
        assert jb.run(image).stdout == "hello\n"

    def test_arguments_follow_the_entry_point(self, image: Image) -> None:
        """A command of the caller's replaces that of the image."""
        assert jb.run(image, ["/etc/passwd"]).stdout.encode() == PASSWD

    def test_another_entry_point(self, image: Image) -> None:
        """An entry point of the caller's replaces both; [] is none."""
        told = "uid=7(clerk) gid=8 groups=8\n"

        assert jb.run(image, entrypoint=["id"]).stdout == told
        assert jb.run(image, ["id"], entrypoint=[]).stdout == told
        assert jb.run(image, "id; echo $COLOR", shell=True).stdout == told + "blue\n"

    def test_a_service_and_a_shell(self, store: Store) -> None:
        """A shell that is an image's own command waits: the container stays open."""
        config = ImageConfig(cmd=("sh",))
        image = Image.from_tar(rootfs(), config=config, store=store)

        with Container(image) as container:
            assert container.exec(["cat", "/proc/1/comm"]).ok
            assert container.state == "running"

    def test_by_name(self, image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
        """A name stands for an image of the usual store."""
        stored = image.source
        monkeypatch.setattr(Image, "get", lambda name: {"clerk:1": image}[name])

        assert jb.run("clerk:1").stdout == "hello\n"
        with Container("clerk:1", ["/etc/motd"]) as container:
            assert container.spec.image == stored

    def test_it_is_never_written_to(self, image: Image) -> None:
        """What a container writes is seen by no other."""
        script = "echo x >/etc/motd; rm /bin/ls; cat /etc/motd"

        assert jb.run(image, script, shell=True, user="0").stdout == "x\n"
        assert jb.run(image).stdout == "hello\n"

    def test_it_stays_while_it_is_used(self, image: Image, store: Store) -> None:
        """A container keeps its image: removing it names who uses it."""
        with Container(image, ["30"], entrypoint=["sleep"]):
            with pytest.raises(InUse, match=r"is used by .*pid"):
                image.remove(force=True)
            assert store.images() == [image]

        image.remove(force=True)
        assert store.images() == []


class TestFinding:
    """Names, digests and what is written down."""

    def test_names(self, image: Image, store: Store) -> None:
        """An image is found by name, by digest, and by the first digits of it."""
        digest = str(image.digest)
        for name in ("clerk:1", "docker.io/library/clerk:1", digest, digest[7:19]):
            assert Image.get(name, pull="never", store=store) == image

        image.tag("other/name")
        assert [name.familiar() for name in image.names] == [
            "clerk:1", "other/name:latest",
        ]  # fmt: skip
        Image.untag("clerk:1", store=store)
        with pytest.raises(ImageNotFound, match="clerk:1"):
            Image.get("clerk:1", pull="never", store=store)

    def test_offline(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        """IMG-13: what may not be pulled is missed at once, and no socket is opened."""
        monkeypatch.setattr("socket.socket", None)
        with pytest.raises(ImageNotFound):
            Image.get("nobody/has:this", pull="never", store=store)

    def test_bad_names(self, store: Store) -> None:
        """A name that is none says which part of it is wrong, before anything is."""
        with pytest.raises(InvalidReference, match="has an upper-case letter"):
            Image.get("Upper:1", store=store)
        assert not Path(store.path or "").exists()

    def test_info(self, image: Image) -> None:
        """IMG-10: everything that is written down is typed."""
        assert image.config.env["COLOR"] == "blue"
        assert image.config.labels == {"who": "us"}
        assert image.info.platform.os == "linux"
        assert [layer.size > 1_000_000 for layer in image.info.layers] == [True]

    def test_files(self, image: Image, store: Store) -> None:
        """IMG-12: files are read and images compared without running anything."""
        with image.open("/etc/motd") as file:
            assert file.read() == b"hello\n"
        with pytest.raises(NotFound):
            image.open("/etc/nothing")
        made = rootfs(motd=b"good bye\n", passwd=PASSWD, extra=b"")
        other = Image.from_tar(made, store=store)

        assert [(c.kind, c.path) for c in image.diff(other)] == [
            (ChangeKind.ADDED, "/etc/extra"),
            (ChangeKind.MODIFIED, "/etc/motd"),
        ]

    def test_images_that_are_no_stored_ones(self) -> None:
        """What only a stored image has says so for another."""
        with pytest.raises(StateError, match="in no store"):
            _ = Image.host().digest


class TestSending:
    """To a registry and back, to a file and back."""

    @pytest.fixture
    def registry(self) -> Iterator[Registry]:
        """Return a registry of this process."""
        with Registry() as registry:
            yield registry

    @pytest.fixture
    def client(self, registry: Registry) -> Iterator[Client]:
        """Return a client that knows that this registry speaks plain HTTP."""
        with registry.client() as client:
            yield client

    def test_push_and_pull(
        self, image: Image, registry: Registry, client: Client, tmp_path: Path
    ) -> None:
        """An image comes back from a registry with the same digest, and runs."""
        name = f"{registry.address}/a/clerk:1"
        digest = image.push(name, client=client)
        there = Store(tmp_path / "there")

        pulled = Image.get(name, client=client, store=there)

        assert (
            pulled.digest
            == digest
            == image.digest
            == Image.resolve(name, client=client)
        )
        assert jb.run(pulled).stdout == "hello\n"
        assert Image.get(name, pull="never", store=there) == pulled
        assert there.check(full=True).ok
        there.close()

    def test_pushed_twice(
        self, image: Image, registry: Registry, client: Client
    ) -> None:
        """REG-01: what a registry has is not sent again."""
        name = f"{registry.address}/a/clerk:1"
        image.push(name, client=client)
        before = len(registry.requests)
        image.push(name, client=client)

        again = registry.requests[before:]
        assert not [asked for asked in again if asked.method in {"POST", "PATCH"}]

    @pytest.mark.parametrize("form", ["docker", "oci", "oci-dir"])
    def test_save_and_load(self, image: Image, tmp_path: Path, form: str) -> None:
        """An image comes back from a file with the same digest and name."""
        place = tmp_path / "saved"
        image.save(place, format=form)  # type: ignore[arg-type]  # one of them
        there = Store(tmp_path / "there")

        (loaded,) = Image.load(place, store=there)

        assert loaded.digest == image.digest
        assert loaded.names == image.names
        assert jb.run(loaded).stdout == "hello\n"
        there.close()


class TestStore:
    """A store as a whole."""

    def test_usage_and_prune(self, image: Image, store: Store) -> None:
        """CLN-03: what is used adds up; what has no name and is old is removed."""
        full = store.usage().total
        assert full > 1_000_000
        Image.untag("clerk:1", store=store)

        pruned = store.prune()

        assert pruned.removed == (image.digest,)
        assert store.usage().total < full / 10
