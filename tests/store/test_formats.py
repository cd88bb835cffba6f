"""
Layouts and archives: what is written is read as the same image; what is wrong is not.
"""

import bz2
import gzip
import io
import json
import lzma
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jailbox.errors import (
    ContentError,
    DigestMismatch,
    JailboxError,
    Malformed,
    NotFound,
    SpecError,
    StoreError,
    UnsupportedMediaType,
)
from jailbox.spec.descriptor import Descriptor
from jailbox.spec.digest import Digest
from jailbox.spec.document import Index, Manifest
from jailbox.spec.image import ImageConfig
from jailbox.spec.media import (
    DOCKER_LAYER_GZIP,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    OCI_MANIFEST,
)
from jailbox.spec.platform import Platform
from jailbox.spec.reference import Reference
from jailbox.spec.strict import dump_json
from jailbox.store.archive import LIST_MAX, load, save
from jailbox.store.decompress import open_layer
from jailbox.store.layout import FULL_NAME, REF_NAME, write_layout, write_layout_tar
from jailbox.store.rootfs import import_rootfs
from jailbox.store.store import Store
from tests.store.formats import (
    Files,
    Made,
    content,
    layout_of,
    packed,
    spread,
    tarred,
    tree,
)
from tests.store.images import named
from tests.store.workshops import PlainWorkshop, tar_of

HERE = Platform.parse("linux/amd64")


@pytest.fixture
def store(tmp_path: Path) -> Any:  # noqa: ANN401  (a generator)
    """Return a store whose workshop is of Python."""
    work = PlainWorkshop()
    with Store(tmp_path / "store", workshop=lambda: work, opener=open_layer) as store:
        yield store


@pytest.fixture
def other(tmp_path: Path) -> Any:  # noqa: ANN401
    """Return a second store."""
    work = PlainWorkshop()
    with Store(tmp_path / "other", workshop=lambda: work, opener=open_layer) as store:
        yield store


class TestLayout:
    """IMG-03: OCI layouts."""

    @pytest.mark.parametrize("layer_type", [OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD])
    @pytest.mark.parametrize(
        "form", ["directory", "tar", "tar.gz", "tar.zst", "stream"]
    )
    def test_read(
        self, store: Store, tmp_path: Path, layer_type: str, form: str
    ) -> None:
        """
        A layout is read from a directory, an archive, a packed one, and a stream, with
        layers of every kind; the manifest keeps its bytes.
        """
        made = Made({"a": "1"}, {"b": "2"}, layer_type=layer_type, name="a.b/c:d")
        files = layout_of(made)
        source: Any = tmp_path / "image"
        if form == "directory":
            spread(files, source)
        elif form == "stream":
            source = io.BytesIO(tarred(files))
        else:
            kind = {"tar": "", "tar.gz": "gzip", "tar.zst": "zstd"}[form]
            source.write_bytes(packed(tarred(files), kind))

        (loaded,) = load(store, source, platform=HERE)

        assert loaded.names == (named("a.b/c:d"),)
        assert loaded.record.digest == Digest.of(made.data)
        assert store.images.manifest(loaded.record) == made.data
        assert store.images.document(loaded.record) == made.document
        assert tree(store, loaded.record) == {"a": "1", "b": "2"}

    def test_round_trip(self, store: Store, other: Store, tmp_path: Path) -> None:
        """What is written is read back with equal digests, as directory and archive."""
        images = [
            Made({"a": "1"}, layer_type=OCI_LAYER_ZSTD, name="one"),
            Made({"b": "2"}, layer_type=DOCKER_LAYER_GZIP, docker=True, name="two"),
        ]
        load(store, io.BytesIO(tarred(layout_of(*images))), platform=HERE)
        chosen = [
            (store.get(image.place.digest), [named(f"x/{n}"), named(f"y/{n}")])
            for n, image in enumerate(images)
        ]
        write_layout(store, chosen, tmp_path / "layout")
        write_layout_tar(store, chosen, tmp_path / "layout.tar")

        for n, source in enumerate((tmp_path / "layout", tmp_path / "layout.tar")):
            loaded = load(other, source, platform=HERE)
            assert {one.record.digest for one in loaded} == {
                image.place.digest for image in images
            }
            assert len(other.tags.list()) == 4, n
            for name, digest in other.tags.list().items():
                assert images[int(name.path[-1])].place.digest == digest

    def test_same_bytes(self, store: Store) -> None:
        """The same images give the same archive, without time or owner."""
        (loaded,) = load(
            store, io.BytesIO(tarred(layout_of(Made({"a": "1"})))), platform=HERE
        )
        outputs = [io.BytesIO(), io.BytesIO()]
        for output in outputs:
            write_layout_tar(store, [(loaded.record, [named("a")])], output)
        assert outputs[0].getvalue() == outputs[1].getvalue()
        with tarfile.open(fileobj=io.BytesIO(outputs[0].getvalue())) as archive:
            assert {member.mtime for member in archive} == {0}
            assert archive.getnames()[:2] == ["oci-layout", "index.json"]

    def test_names(self, store: Store, tmp_path: Path) -> None:
        """
        A full name counts; a bare tag is a tag of what the caller says, or no name.
        """
        full = Made({"a": "1"})
        full.place = Descriptor.of(
            full.data,
            OCI_MANIFEST,
            annotations={FULL_NAME: "h.x/full:1", REF_NAME: "1"},
        )
        bare = Made({"b": "1"}, name="v2")
        odd = Made({"c": "1"}, name="NO:NAME AT ALL")
        files = spread(layout_of(full, bare, odd), tmp_path / "layout")

        loaded = load(store, files, platform=HERE)
        assert [one.names for one in loaded] == [(named("h.x/full:1"),), (), ()]

        loaded = load(store, files, platform=HERE, repository=named("h.x/r"))
        assert [one.names for one in loaded] == [
            (named("h.x/full:1"),),
            (named("h.x/r:v2"),),
            (),
        ]

    def test_one_of_several(self, store: Store, tmp_path: Path) -> None:
        """One image is taken by its name, and a name that is not there is refused."""
        files = layout_of(Made({"a": "1"}, name="one"), Made({"b": "1"}, name="two"))
        path = spread(files, tmp_path / "layout")

        (loaded,) = load(store, path, platform=HERE, select="two")
        assert tree(store, loaded.record) == {"b": "1"}
        with pytest.raises(NotFound, match="which has one, two"):
            load(store, path, platform=HERE, select="three")

    def test_by_its_short_name(self, store: Store) -> None:
        """A name is found whether the layout writes it short or in full."""
        made = Made({"a": "1"}, name="docker.io/library/debian:12")
        files = tarred(layout_of(made, Made({"b": "1"}, name="x:1")))
        for name in ("debian:12", "docker.io/library/debian:12"):
            (loaded,) = load(store, io.BytesIO(files), platform=HERE, select=name)
            assert loaded.record.digest == made.place.digest

    def test_several_without_names(self, store: Store) -> None:
        """Images that have neither name nor platform in the index all come in."""
        images = [Made({name: name}) for name in "abc"]
        for made in images:
            made.place = Descriptor.of(made.data, OCI_MANIFEST)
        loaded = load(store, io.BytesIO(tarred(layout_of(*images))), platform=HERE)
        assert [one.record.digest for one in loaded] == [
            made.place.digest for made in images
        ]

    def test_platforms(self, store: Store, tmp_path: Path) -> None:
        """
        Each machine gets its own of several images, whether an index lists them or they
        share a name; and if there is none, that is refused.
        """
        images = [
            Made({p: p}, platform=f"linux/{p}") for p in ("arm64", "amd64", "s390x")
        ]
        inner = Index(manifests=tuple(image.place for image in images)).to_bytes()
        top = Descriptor.of(inner, OCI_INDEX, annotations={REF_NAME: "x:1"})
        files = layout_of(*images, index=Index(manifests=(top,)))
        files[f"blobs/sha256/{top.digest.hex}"] = inner
        listed = spread(files, tmp_path / "listed")
        beside = spread(layout_of(*images), tmp_path / "beside")

        for path in (listed, beside):
            for machine, file in (("arm64", "arm64"), ("x86_64", "amd64")):
                wish = Platform.parse(machine)
                (loaded,) = load(store, path, platform=wish, move=True)
                assert tree(store, loaded.record) == {file: file}
            with pytest.raises(NotFound, match="linux/arm64, linux/amd64, linux/s390x"):
                load(store, path, platform=Platform.parse("riscv64"))
        assert store.blobs.has(top.digest)

    def test_one_alone_is_taken_as_it_is(self, store: Store) -> None:
        """A single image is loaded, also if it is for another machine."""
        source = io.BytesIO(tarred(layout_of(Made({"a": "1"}, platform="s390x"))))
        (loaded,) = load(store, source, platform=HERE)
        platform = store.images.document(loaded.record).platform
        assert platform.architecture == "s390x"

    def test_signatures_are_passed_over(self, store: Store) -> None:
        """What is no image is passed over; with nothing else, that is refused."""
        image = Made({"a": "1"}, name="a:b")
        artifact = Manifest(
            config=Descriptor.of(b"{}", "application/vnd.oci.empty.v1+json"),
            layers=(Descriptor.of(b"signed", "application/x-signature"),),
        ).to_bytes()
        place = Descriptor.of(artifact, OCI_MANIFEST)
        index = Index(manifests=(place, image.place))
        files = layout_of(image, index=index)
        files[f"blobs/sha256/{place.digest.hex}"] = artifact

        assert len(load(store, io.BytesIO(tarred(files)), platform=HERE)) == 1
        files["index.json"] = Index(manifests=(place,)).to_bytes()
        with pytest.raises(Malformed, match="no images"):
            load(store, io.BytesIO(tarred(files)), platform=HERE)

    def test_into_a_layout(self, store: Store, tmp_path: Path) -> None:
        """
        Writing into a layout adds to it; the same name means the new image, and what
        else is there stays.
        """
        first, second = Made({"a": "1"}), Made({"b": "2"})
        for made in (first, second):
            load(store, io.BytesIO(tarred(layout_of(made))), platform=HERE)
        one, two = (store.images.get(made.place.digest) for made in (first, second))
        assert one is not None
        assert two is not None
        path = tmp_path / "layout"
        write_layout(store, [(one, [named("x:1"), named("x:2")])], path)
        write_layout(store, [(two, [named("x:2")])], path)

        index = Index.from_bytes((path / "index.json").read_bytes())
        assert {
            entry.annotations[FULL_NAME]: entry.digest for entry in index.manifests
        } == {
            "docker.io/library/x:1": one.digest,
            "docker.io/library/x:2": two.digest,
        }
        assert not [name for name in os.listdir(path) if "tmp" in name]

    def test_not_over_something_else(self, store: Store, tmp_path: Path) -> None:
        """A directory with other things in it is left alone."""
        (tmp_path / "thesis").mkdir()
        (tmp_path / "thesis/a.txt").touch()
        with pytest.raises(SpecError, match="neither an OCI layout nor empty"):
            write_layout(store, [], tmp_path / "thesis")
        assert os.listdir(tmp_path / "thesis") == ["a.txt"]


def docker_archive(*images: tuple[Made, list[str]], legacy: bool = True) -> Files:
    """Make what ``docker save`` made before version 25: plain layers in directories."""
    files: Files = {}
    listed = []
    for made, names in images:
        config = f"{Digest.of(made.config).hex}.json"
        files[config] = made.config
        layers = []
        for n, (layer, diff_id) in enumerate(
            zip(made.layers, made.document.diff_ids, strict=True)
        ):
            name = f"{diff_id.hex[::-1]}/layer.tar"
            files[name] = layer
            if legacy:
                files[name.replace("layer.tar", "VERSION")] = b"1.0"
                files[name.replace("layer.tar", "json")] = b'{"id":"%d"}' % n
            layers.append(name)
        listed.append({"Config": config, "RepoTags": names, "Layers": layers})
    files["manifest.json"] = dump_json(listed)
    if legacy:
        files["repositories"] = b"{}"
    return files


class TestDockerArchive:
    """IMG-04: archives of ``docker save``."""

    def test_two_names(self, store: Store) -> None:
        """An archive with two tags of one image, and a second image, loads all."""
        one = Made({"a": "1"}, {"b": "2"}, layer_type=OCI_LAYER)
        two = Made({"a": "1"}, layer_type=OCI_LAYER)
        files = docker_archive((one, ["x:1", "h.x/y:2"]), (two, ["z:latest"]))

        loaded = load(store, io.BytesIO(tarred(files)), platform=HERE)

        assert [set(image.names) for image in loaded] == [
            {named("x:1"), named("h.x/y:2")},
            {named("z:latest")},
        ]
        assert loaded[0].record.config == Digest.of(one.config)
        assert tree(store, loaded[0].record) == {"a": "1", "b": "2"}
        again = load(store, io.BytesIO(tarred(files)), platform=HERE)
        assert again == loaded

    def test_links_between_layers(self, store: Store) -> None:
        """Docker writes a layer that it wrote before as a link to it."""
        made = Made({"a": "1"}, {"b": "2"}, layer_type=OCI_LAYER)
        files = docker_archive((made, ["x:1"]))
        names = [name for name in files if name.endswith("layer.tar")]
        tops = [name.partition("/")[0] for name in names]
        layout: dict[str, str | bytes | tuple[str, str] | None] = dict(files)
        layout[f"{'0' * 64}/layer.tar"] = ("symlink", f"../{tops[0]}/layer.tar")
        layout[f"{'1' * 64}/layer.tar"] = ("link", names[1])
        listed = json.loads(files["manifest.json"])
        listed[0]["Layers"] = [f"{'0' * 64}/layer.tar", f"{'1' * 64}/layer.tar"]
        layout["manifest.json"] = dump_json(listed)

        (loaded,) = load(store, io.BytesIO(tar_of(layout)), platform=HERE)
        assert tree(store, loaded.record) == {"a": "1", "b": "2"}

    @pytest.mark.parametrize("layer_type", [OCI_LAYER_GZIP, OCI_LAYER_ZSTD])
    def test_packed_layers(self, store: Store, layer_type: str) -> None:
        """Other tools pack the layers: they are recognized by their bytes."""
        made = Made({"a": "1"}, layer_type=layer_type)
        files = docker_archive((made, ["x:1"]), legacy=False)
        (loaded,) = load(store, io.BytesIO(tarred(files)), platform=HERE)
        manifest = Manifest.from_bytes(store.images.manifest(loaded.record))
        assert manifest.layers[0].media_type == layer_type
        assert tree(store, loaded.record) == {"a": "1"}

    def test_one_of_several(self, store: Store) -> None:
        """One image is taken by its name."""
        images = [Made({name: name}, layer_type=OCI_LAYER) for name in "ab"]
        files = docker_archive((images[0], ["a:1"]), (images[1], ["b:latest"]))
        (loaded,) = load(store, io.BytesIO(tarred(files)), platform=HERE, select="b")
        assert tree(store, loaded.record) == {"b": "b"}
        with pytest.raises(ContentError, match="no image c"):
            load(store, io.BytesIO(tarred(files)), platform=HERE, select="c")

    def test_before_docker_1_10(self, store: Store) -> None:
        """An archive with nothing but ``repositories`` and layers is an image too."""
        bottom, top = tar_of({"a": "1"}), tar_of({"b": "2"})
        ids = "a" * 64, "b" * 64
        files: Files = {
            "repositories": dump_json({"old": {"1": ids[1], "2": ids[1]}}),
            f"{ids[0]}/VERSION": b"1.0",
            f"{ids[0]}/layer.tar": bottom,
            f"{ids[0]}/json": dump_json(
                {"id": ids[0], "container_config": {"Cmd": ["sh", "-c", "x"]}}
            ),
            f"{ids[1]}/layer.tar": top,
            f"{ids[1]}/json": dump_json(
                {
                    "id": ids[1],
                    "parent": ids[0],
                    "created": "2014-01-01T00:00:00Z",
                    "architecture": "amd64",
                    "os": "linux",
                    "config": {"Env": ["A=1"], "Cmd": ["sh"]},
                }
            ),
        }
        (loaded,) = load(store, io.BytesIO(tarred(files)), platform=HERE)

        assert set(loaded.names) == {named("old:1"), named("old:2")}
        assert tree(store, loaded.record) == {"a": "1", "b": "2"}
        document = store.images.document(loaded.record)
        assert document.config.env == {"A": "1"}
        assert document.history[0].created_by == "sh -c x"

    @pytest.mark.parametrize("layer_type", [OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD])
    def test_written(self, store: Store, other: Store, layer_type: str) -> None:
        """
        What is written is a layout with equal digests, and has ``manifest.json`` with
        names and with layers that every engine can read.
        """
        made = Made({"a": "1"}, {"b": "2"}, layer_type=layer_type)
        (loaded,) = load(store, io.BytesIO(tarred(layout_of(made))), platform=HERE)
        output = io.BytesIO()
        save(store, [(loaded.record, [named("x:1"), named("h.x/y")])], output)

        with tarfile.open(fileobj=io.BytesIO(output.getvalue())) as archive:
            files = {
                member.name: archive.extractfile(member).read()  # type: ignore[union-attr]
                for member in archive
                if member.isfile()
            }
        (listed,) = json.loads(files["manifest.json"])
        assert listed["RepoTags"] == ["x:1", "h.x/y:latest"]
        assert files[listed["Config"]] == made.config
        for name, diff_id in zip(listed["Layers"], made.document.diff_ids, strict=True):
            data = files[name]
            plain = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
            assert Digest.of(plain) == diff_id

        (again,) = load(other, io.BytesIO(output.getvalue()), platform=HERE)
        assert again.record.digest == made.place.digest
        assert set(again.names) == {named("x:1"), named("h.x/y:latest")}
        # As an engine that knows no layouts.
        del files["oci-layout"]
        (old,) = load(other, io.BytesIO(tarred(files)), platform=HERE, move=True)
        assert old.record.config == again.record.config

    def test_img15_names_do_not_move(self, store: Store) -> None:
        """
        IMG15: an archive that names debian:12 does not move that tag, unless asked.
        """
        first, second = (Made({"a": text}, layer_type=OCI_LAYER) for text in "12")
        load(
            store,
            io.BytesIO(tarred(docker_archive((first, ["debian:12"])))),
            platform=HERE,
        )
        before = store.tags.get(named("debian:12"))
        evil = tarred(docker_archive((second, ["debian:12", "new:1"])))

        (loaded,) = load(store, io.BytesIO(evil), platform=HERE)
        assert loaded.kept == (named("debian:12"),)
        assert loaded.names == (named("new:1"),)
        assert store.tags.get(named("debian:12")) == before

        (loaded,) = load(store, io.BytesIO(evil), platform=HERE, move=True)
        assert loaded.kept == ()
        assert store.tags.get(named("debian:12")) == loaded.record.digest

    def test_img2_list(self, store: Store) -> None:
        """IMG2: a ``manifest.json`` of more than 1 MiB is refused."""
        files = {"manifest.json": b"[" + b" " * LIST_MAX + b"]"}
        with pytest.raises(Malformed, match="larger than 1048576"):
            load(store, io.BytesIO(tarred(files)), platform=HERE)


def broken() -> dict[str, tuple[Callable[[], bytes], type[JailboxError]]]:
    """Name archives of which nothing must come in."""

    def layout(change: Callable[[Files], None]) -> Callable[[], bytes]:
        def make() -> bytes:
            files = layout_of(Made({"a": "1"}, {"b": "2"}, name="x:1"))
            change(files)
            return tarred(files)

        return make

    def docker(change: Callable[[Files], None]) -> Callable[[], bytes]:
        def make() -> bytes:
            made = Made({"a": "1"}, {"b": "2"}, layer_type=OCI_LAYER)
            files = docker_archive((made, ["x:1"]))
            change(files)
            return tarred(files)

        return make

    def last_blob(files: Files) -> str:
        return list(files)[-1]

    def flip(files: Files) -> None:
        name = last_blob(files)
        files[name] = files[name][:-1] + bytes([files[name][-1] ^ 1])

    def longer(files: Files) -> None:
        files[last_blob(files)] += b"\0"

    def missing(files: Files) -> None:
        del files[last_blob(files)]

    def listing(**change: object) -> Callable[[Files], None]:
        def apply(files: Files) -> None:
            listed = json.loads(files["manifest.json"])
            listed[0] |= change
            files["manifest.json"] = dump_json(listed)

        return apply

    def other_layer(files: Files) -> None:
        name = next(name for name in files if name.endswith("layer.tar"))
        files[name] = tar_of({"evil": "1"})

    def text(name: str, data: bytes) -> Callable[[Files], None]:
        return lambda files: files.__setitem__(name, data)

    return {
        "flipped byte": (layout(flip), DigestMismatch),
        "longer blob": (layout(longer), DigestMismatch),
        "missing blob": (layout(missing), NotFound),
        "other layout version": (
            layout(text("oci-layout", b'{"imageLayoutVersion":"9"}')),
            Malformed,
        ),
        "no index": (layout(lambda files: files.__delitem__("index.json")), Malformed),
        "index twice": (
            layout(text("./index.json", b"{}")),
            Malformed,
        ),
        "index is text": (layout(text("index.json", b"{")), Malformed),
        "layer that is another": (docker(other_layer), DigestMismatch),
        "layer that leads out": (
            docker(listing(Layers=["../../etc/shadow", "x"])),
            Malformed,
        ),
        "config that leads out": (docker(listing(Config="/etc/passwd")), Malformed),
        "too few layers": (docker(listing(Layers=[])), Malformed),
        "no config": (docker(listing(Config=None)), Malformed),
        "missing config": (docker(listing(Config="x.json")), Malformed),
        "bad name": (docker(listing(RepoTags=["NO NAME"])), Malformed),
        "names are text": (docker(listing(RepoTags="x:1")), Malformed),
        "list is no list": (docker(text("manifest.json", b"{}")), Malformed),
        "list and more": (docker(text("manifest.json", b'[],"a":[]')), Malformed),
        "nothing": (lambda: tarred({}), Malformed),
        "other things": (lambda: tarred({"etc/passwd": b"x"}), Malformed),
        "no tar": (lambda: b"x" * 10_000, Malformed),
        "empty": (lambda: b"", Malformed),
        "cut": (lambda: tarred(layout_of(Made({"a": "1"})))[:3000], ContentError),
        "cut gzip": (
            lambda: gzip.compress(tarred(layout_of(Made({"a": "1"}))))[:-20],
            Malformed,
        ),
    }


class TestRefused:
    """What is wrong is refused, and leaves nothing behind."""

    @pytest.mark.parametrize("name", broken())
    def test_nothing_comes_in(self, store: Store, name: str) -> None:
        """The store is as it was: no blob, tree, image, name or temporary file."""
        make, error = broken()[name]
        load(
            store,
            io.BytesIO(tarred(layout_of(Made({"before": "1"}, name="before:1")))),
            platform=HERE,
        )
        before = content(store)
        with pytest.raises(error) as refused:
            load(store, io.BytesIO(make()), platform=HERE)
        assert content(store) == before
        assert str(refused.value).isprintable()

    def test_second_of_two(self, store: Store) -> None:
        """If the second image is broken, the first one does not come in either."""
        good, bad = Made({"a": "1"}, name="a:1"), Made({"b": "2"}, name="b:1")
        files = layout_of(good, bad)
        del files[f"blobs/sha256/{Digest.of(bad.layers[0]).hex}"]
        before = content(store)
        with pytest.raises(NotFound):
            load(store, io.BytesIO(tarred(files)), platform=HERE)
        assert content(store) == before

    def test_layer_of_another_tree(self, store: Store) -> None:
        """
        IMG6: a packed layer that is not what its diff id says is refused, also if the
        tree of that diff id is here already.
        """
        good = Made({"a": "1"}, name="a:1")
        load(store, io.BytesIO(tarred(layout_of(good))), platform=HERE)
        before = content(store)
        bad = Made({"evil": "1"}, name="b:1")
        bad.document = good.document
        bad.config = good.config
        bad.manifest = Manifest(
            config=Descriptor.of(good.config, OCI_CONFIG),
            layers=bad.manifest.layers,
        )
        bad.data = bad.manifest.to_bytes()
        bad.place = Descriptor.of(bad.data, OCI_MANIFEST)
        with pytest.raises(DigestMismatch, match="layer sha256:"):
            load(store, io.BytesIO(tarred(layout_of(bad))), platform=HERE)
        assert content(store) == before

    def test_img16_layer_of_another_kind(self, store: Store) -> None:
        """IMG16: a layer that would have to be mounted is refused by its type."""
        made = Made({"a": "1"}, name="a:1", layer_type=OCI_LAYER)
        odd = "application/vnd.oci.image.layer.v1.squashfs"
        made.manifest = Manifest(
            config=made.manifest.config,
            layers=(Descriptor.of(made.layers[0], odd),),
        )
        made.data = made.manifest.to_bytes()
        made.place = Descriptor.of(made.data, OCI_MANIFEST)
        before = content(store)
        with pytest.raises(UnsupportedMediaType, match="squashfs"):
            load(store, io.BytesIO(tarred(layout_of(made))), platform=HERE)
        assert content(store) == before

    def test_no_such_file(self, store: Store, tmp_path: Path) -> None:
        """A path that is not there is an error of the disk, with its name."""
        with pytest.raises(StoreError, match="absent"):
            load(store, tmp_path / "absent", platform=HERE)

    def test_link_out_of_a_directory(self, store: Store, tmp_path: Path) -> None:
        """A link in a layout stays inside of it, whatever it says."""
        (tmp_path / "secret").write_text("{}")
        path = spread(layout_of(Made({"a": "1"})), tmp_path / "layout")
        (path / "index.json").unlink()
        for target in ("../secret", str(tmp_path / "secret")):
            (path / "index.json").symlink_to(target)
            with pytest.raises(Malformed, match="neither"):
                load(store, path, platform=HERE)
            (path / "index.json").unlink()

    def test_fifo_in_a_directory(self, store: Store, tmp_path: Path) -> None:
        """A FIFO in place of a blob holds nobody up."""
        made = Made({"a": "1"})
        path = spread(layout_of(made), tmp_path / "layout")
        blob = path / f"blobs/sha256/{Digest.of(made.layers[0]).hex}"
        blob.unlink()
        os.mkfifo(blob)
        with pytest.raises(ContentError, match="no regular file"):
            load(store, path, platform=HERE)

    def test_save_that_fails(self, store: Store, tmp_path: Path) -> None:
        """An archive that cannot be written whole is not there, and the old one is."""
        (loaded,) = load(
            store, io.BytesIO(tarred(layout_of(Made({"a": "1"})))), platform=HERE
        )
        target = tmp_path / "out.tar"
        target.write_text("old")
        config = Path(store.path) / f"blobs/sha256/{loaded.record.config.hex}"
        data = config.read_bytes()
        store.images.document(loaded.record)
        config.chmod(0o600)
        config.write_bytes(data[:-1] + b" ")
        with pytest.raises(DigestMismatch):
            save(store, [(loaded.record, [])], target)
        assert target.read_text() == "old"
        assert sorted(os.listdir(tmp_path)) == ["out.tar", "store"]


class TestRootfs:
    """IMG-05: root file systems as archives."""

    @pytest.mark.parametrize("kind", ["", "gzip", "zstd", "xz", "bzip2"])
    def test_imported(self, store: Store, tmp_path: Path, kind: str) -> None:
        """An archive of a root file system becomes an image with one layer."""
        data = tar_of({"etc": None, "etc/hostname": "box"})
        source = tmp_path / "rootfs"
        match kind:
            case "xz":
                source.write_bytes(lzma.compress(data))
            case "bzip2":
                source.write_bytes(bz2.compress(data))
            case _:
                source.write_bytes(packed(data, kind))
        loaded = import_rootfs(
            store,
            source,
            platform=HERE,
            config=ImageConfig(cmd=("/bin/sh",)),
            names=[named("box")],
        )
        document = store.images.document(loaded.record)

        assert document.diff_ids == (Digest.of(data),)
        assert document.config.cmd == ("/bin/sh",)
        assert store.get("box") == loaded.record
        assert tree(store, loaded.record) == {"etc/hostname": "box"}

    def test_same_image(self, store: Store) -> None:
        """The same archive makes the same image, from a file or a stream."""
        data = tar_of({"a": "1"})
        images = [
            import_rootfs(store, io.BytesIO(data), platform=HERE) for _ in range(2)
        ]
        assert images[0].record == images[1].record

    def test_refused(self, store: Store) -> None:
        """What is no archive leaves nothing behind."""
        before = content(store)
        with pytest.raises(ContentError):
            import_rootfs(store, io.BytesIO(b"\x1f\x8bno"), platform=HERE)
        assert content(store) == before

    def test_names_do_not_move(self, store: Store) -> None:
        """A name that means another image stays, unless asked."""
        first = import_rootfs(
            store, io.BytesIO(tar_of({"a": "1"})), platform=HERE, names=[named("x")]
        )
        second = import_rootfs(
            store, io.BytesIO(tar_of({"a": "2"})), platform=HERE, names=[named("x")]
        )
        assert second.kept == (Reference.parse("x:latest"),)
        assert store.get("x") == first.record
