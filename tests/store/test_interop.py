"""
Other tools read what we write, and we read what they write, with equal digests.

The tools are the real ones: skopeo, umoci, buildah and podman. A missing one is skipped
with the reason. Their storage and configuration are in a directory of the test.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from jailbox.engine.choose import default_engine
from jailbox.engine.local import LocalEngine
from jailbox.linux.workshop import Workshop
from jailbox.spec.digest import Digest
from jailbox.spec.document import ImageDocument, Index, Manifest
from jailbox.spec.media import OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD
from jailbox.spec.platform import Platform
from jailbox.store.archive import load, save
from jailbox.store.layout import write_layout, write_layout_tar
from jailbox.store.records import ImageRecord
from jailbox.store.store import Store
from tests.store.formats import Made, layout_of, spread, tree
from tests.store.images import named

pytestmark = [pytest.mark.root, pytest.mark.userns, pytest.mark.slow]

HERE = Platform.parse("linux/amd64")
NAME = "localhost/box:1"

CONTAINERS_CONF = """
[engine]
lock_type = "file"
events_backend = "none"
cgroup_manager = "cgroupfs"
"""


@attrs.frozen
class Tools:
    """The tools, shut up in a directory."""

    place: Path

    def run(self, *argv: object) -> str:
        """Run a tool; return what it says."""
        words = [str(word) for word in argv]
        if shutil.which(words[0]) is None:
            pytest.skip(f"{words[0]} is not installed")
        conf = self.place / "containers.conf"
        conf.write_text(CONTAINERS_CONF)
        said = subprocess.run(
            words,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.place),
                "TMPDIR": str(self.place),
                "CONTAINERS_CONF": str(conf),
                "XDG_RUNTIME_DIR": str(self.place),
            },
            # podman makes a name of a path, and not every path is one.
            cwd=self.place.parent,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert said.returncode == 0, f"{words}: {said.stderr}"
        return said.stdout

    def skopeo(self, *argv: object) -> str:
        """Run skopeo."""
        return self.run("skopeo", "--insecure-policy", *argv)

    def stored(self, tool: str, *argv: object) -> str:
        """Run a tool that has a storage of its own."""
        return self.run(
            tool,
            f"--root={self.place}/{tool}-root",
            f"--runroot={self.place}/{tool}-run",
            "--storage-driver=vfs",
            *((f"--tmpdir={self.place}/{tool}-tmp",) if tool == "podman" else ()),
            *argv,
        )


@pytest.fixture
def tools(tmp_path: Path) -> Tools:
    """Return the tools."""
    place = tmp_path / "tools"
    place.mkdir()
    return Tools(place)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Return a store with the real workshop."""
    engine = default_engine()
    assert isinstance(engine, LocalEngine)
    with Store(tmp_path / "store", workshop=lambda: Workshop(engine.keeper)) as store:
        yield store


@pytest.fixture(params=[OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD])
def ours(
    request: pytest.FixtureRequest, store: Store, tmp_path: Path
) -> tuple[ImageRecord, Made]:
    """Return an image in the store, with layers of each kind."""
    made = Made(
        {"etc": None, "etc/one": "1", "gone": "x"},
        {"etc": None, "etc/two": "2", ".wh.gone": ""},
        layer_type=request.param,
    )
    path = spread(layout_of(made), tmp_path / "made")
    (loaded,) = load(store, path, platform=HERE)
    return loaded.record, made


def docker_forms(made: Made) -> tuple[str, ...]:
    """Docker's archive, where the tools can make one: not of zstd."""
    if made.manifest.layers[0].media_type == OCI_LAYER_ZSTD:
        return ()
    return ("docker-archive",)


class TestSkopeo:
    """skopeo reads and writes every form."""

    def test_reads_ours(
        self, store: Store, ours: tuple[ImageRecord, Made], tools: Tools, tmp_path: Path
    ) -> None:
        """Layout, archive of a layout and archive of Docker have our digests."""
        record, made = ours
        chosen = [(record, [named(NAME)])]
        write_layout(store, chosen, tmp_path / "layout")
        write_layout_tar(store, chosen, tmp_path / "layout.tar")
        save(store, chosen, tmp_path / "docker.tar")

        for source in (
            f"oci:{tmp_path}/layout:1",
            f"oci-archive:{tmp_path}/layout.tar",
        ):
            raw = tools.skopeo("inspect", "--raw", source)
            assert Digest.of(raw.encode()) == record.digest
        out = tmp_path / "dir"
        tools.skopeo(
            "copy",
            "--preserve-digests",
            f"oci:{tmp_path}/layout:1",
            f"dir:{out}",
        )
        assert (out / "manifest.json").read_bytes() == made.data
        docker = f"docker-archive:{tmp_path}/docker.tar:{NAME}"
        raw = tools.skopeo("inspect", "--raw", "--config", docker)
        assert Digest.of(raw.encode()) == record.config

    def test_writes(
        self, store: Store, ours: tuple[ImageRecord, Made], tools: Tools, tmp_path: Path
    ) -> None:
        """What it writes we read, with the digests that it started from."""
        record, made = ours
        write_layout(store, [(record, [named(NAME)])], tmp_path / "layout")
        source = f"oci:{tmp_path}/layout:1"
        for target in ("oci", "oci-archive", *docker_forms(made)):
            path = tmp_path / f"theirs-{target}"
            name = NAME if target == "docker-archive" else "v1"
            # Without, it packs what is plain.
            keep = () if target == "docker-archive" else ("--preserve-digests",)
            tools.skopeo("copy", *keep, source, f"{target}:{path}:{name}")

            (loaded,) = load(
                store, path, platform=HERE, repository=named("x"), move=True
            )
            assert loaded.record.config == record.config
            if target != "docker-archive":
                assert loaded.record.digest == record.digest
            assert tree(store, loaded.record) == tree(store, record)
        assert made.document == store.images.document(record)


class TestUmoci:
    """umoci keeps its images in layouts."""

    def test_reads_ours(
        self, store: Store, ours: tuple[ImageRecord, Made], tools: Tools, tmp_path: Path
    ) -> None:
        """It unpacks our layout to the files that are in it."""
        record, made = ours
        if made.manifest.layers[0].media_type == OCI_LAYER_ZSTD:
            pytest.skip("umoci 0.4 knows no zstd")
        write_layout(store, [(record, [named(NAME)])], tmp_path / "layout")
        said = json.loads(
            tools.run("umoci", "stat", "--json", "--image", f"{tmp_path}/layout:1")
        )
        assert len(said["history"] or ()) == len(made.document.history)
        tools.run(
            "umoci", "unpack", "--image", f"{tmp_path}/layout:1", tmp_path / "bundle"
        )
        rootfs = tmp_path / "bundle/rootfs"
        found = {
            str(path.relative_to(rootfs)): path.read_text()
            for path in rootfs.rglob("*")
            if path.is_file()
        }
        assert found == {"etc/one": "1", "etc/two": "2"}

    def test_writes(self, store: Store, tools: Tools, tmp_path: Path) -> None:
        """An image that it made is read, with the digest in its index."""
        layout = tmp_path / "layout"
        (tmp_path / "file").write_text("1")
        tools.run("umoci", "init", "--layout", layout)
        tools.run("umoci", "new", "--image", f"{layout}:v1")
        tools.run(
            "umoci", "insert", "--image", f"{layout}:v1", tmp_path / "file", "/file"
        )
        tools.run("umoci", "config", "--image", f"{layout}:v1", "--config.env", "A=1")

        (loaded,) = load(store, layout, platform=HERE, repository=named("h.x/u"))

        index = Index.from_bytes((layout / "index.json").read_bytes())
        assert loaded.record.digest == index.manifests[0].digest
        assert loaded.names == (named("h.x/u:v1"),)
        assert store.images.document(loaded.record).config.env["A"] == "1"
        assert tree(store, loaded.record) == {"file": "1"}


@pytest.mark.parametrize("tool", ["buildah", "podman"])
class TestStorages:
    """buildah and podman have a storage of their own."""

    def test_read_ours(
        self,
        store: Store,
        ours: tuple[ImageRecord, Made],
        tools: Tools,
        tmp_path: Path,
        tool: str,
    ) -> None:
        """They pull our layout, and podman loads our archives: the id is the config."""
        record, _ = ours
        chosen = [(record, [named(NAME)])]
        write_layout(store, chosen, tmp_path / "layout")
        said = tools.stored(tool, "pull", "oci:layout:1")
        assert record.config.hex in said
        if tool == "podman":
            for write, file in ((write_layout_tar, "l.tar"), (save, "d.tar")):
                write(store, chosen, tmp_path / file)
                tools.stored(tool, "load", "-i", tmp_path / file)
                said = tools.stored(
                    tool, "image", "inspect", "--format={{.Id}}", record.config.hex
                )
                assert said.strip() == record.config.hex

    def test_write(
        self,
        store: Store,
        ours: tuple[ImageRecord, Made],
        tools: Tools,
        tmp_path: Path,
        tool: str,
    ) -> None:
        """What they save we load: the same config, and the same files."""
        record, made = ours
        write_layout(store, [(record, [named(NAME)])], tmp_path / "layout")
        tools.stored(tool, "pull", "oci:layout:1")
        for form in ("oci-archive", "oci", *docker_forms(made)):
            path = tmp_path / f"saved-{form}"
            target = f"{form}:{path}:h.x/{tool}:{form}"
            tools.stored(tool, "push", record.config.hex, target)

            (loaded,) = load(store, path, platform=HERE)
            assert loaded.record.config == record.config
            assert loaded.names == (named(f"h.x/{tool}:{form}"),)
            assert tree(store, loaded.record) == tree(store, record)


def test_buildah_commits(store: Store, tools: Tools, tmp_path: Path) -> None:
    """An image that buildah built is read: its files, its config, its history."""
    (tmp_path / "file").write_text("1")
    container = tools.stored("buildah", "from", "scratch").strip()
    tools.stored("buildah", "copy", container, tmp_path / "file", "/file")
    tools.stored(
        "buildah", "config", "--env=A=1", '--cmd=["/file"]', "--label=a=b", container
    )
    tools.stored("buildah", "commit", container, f"oci:{tmp_path}/built:h.x/b:1")
    tools.stored("buildah", "rm", container)

    (loaded,) = load(store, tmp_path / "built", platform=HERE)

    document: ImageDocument = store.images.document(loaded.record)
    manifest = Manifest.from_bytes(store.images.manifest(loaded.record))
    assert loaded.names == (named("h.x/b:1"),)
    assert tree(store, loaded.record) == {"file": "1"}
    assert document.config.env["A"] == "1"
    assert document.config.cmd == ("/file",)
    assert document.config.labels["a"] == "b"
    assert len(document.diff_ids) == len(manifest.layers)
