"""
Images of strangers: documents that are too large, ambiguous, or lie.

The checks IMG1 to IMG16 that need no kernel, and REG15. What an archive or a layer can
do is in `test_tar.py` and in the rooms that read them.
"""

import contextlib
import json
import time
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from jailbox.errors import (
    DigestMismatch,
    InvalidReference,
    JailboxError,
    Malformed,
    NotFound,
    SpecError,
    UnsupportedMediaType,
)
from jailbox.run.compile import compile_container, compile_program
from jailbox.run.users import identify
from jailbox.spec.container import ContainerSpec
from jailbox.spec.descriptor import Descriptor
from jailbox.spec.digest import Digest, ForeignDigest, digest_of
from jailbox.spec.document import (
    LAYERS_MAX,
    MANIFESTS_MAX,
    ImageDocument,
    Index,
    Manifest,
    read_manifest,
)
from jailbox.spec.image import Host
from jailbox.spec.media import (
    DOCKER_CONFIG,
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    DOCKER_SCHEMA_1,
    LAYERS,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    compression_of,
)
from jailbox.spec.pick import INDEX_DEPTH_MAX, INDEX_DOCUMENTS_MAX, pick
from jailbox.spec.platform import Platform
from jailbox.spec.reference import Reference
from jailbox.spec.strict import DOCUMENT_MAX, load_json
from tests.run.test_compile import ROOTFS, facts

HERE = Platform.parse("linux/amd64")
LAYER = Descriptor.of(b"layer", OCI_LAYER_GZIP)
CONFIG = Descriptor.of(b"{}", OCI_CONFIG)
MANIFEST = Manifest(config=CONFIG, layers=(LAYER,))

READERS: dict[str, Callable[[bytes], object]] = {
    "manifest": Manifest.from_bytes,
    "index": Index.from_bytes,
    "config": ImageDocument.from_bytes,
    "either": read_manifest,
}


def config(**section: Any) -> bytes:  # noqa: ANN401  (JSON)
    """Make a config with this in its section for running."""
    return json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(b"layer"))]},
            "config": section,
        }
    ).encode()


def padded(document: bytes, size: int) -> bytes:
    """Fill a document with spaces."""
    return document + b" " * (size - len(document))


class TestSizes:
    """IMG1, IMG2: how large a document may be."""

    @pytest.mark.parametrize("reader", READERS)
    def test_img1_img2_one_byte_too_many(self, reader: str) -> None:
        """A manifest, index or config of 4 MiB and a byte is refused."""
        with pytest.raises(Malformed, match="larger than 4194304 bytes"):
            READERS[reader](padded(b"{}", DOCUMENT_MAX + 1))

    def test_img1_img2_the_largest(self) -> None:
        """One of exactly 4 MiB is read."""
        assert (
            Manifest.from_bytes(padded(MANIFEST.to_bytes(), DOCUMENT_MAX)) == MANIFEST
        )
        assert ImageDocument.from_bytes(padded(config(), DOCUMENT_MAX)).diff_ids

    def test_img1_not_even_fetched(self) -> None:
        """A manifest whose descriptor says that it is too large is not asked for."""
        top = Descriptor(
            media_type=OCI_MANIFEST, digest=Digest.of(b""), size=DOCUMENT_MAX + 1
        )

        def fetch(_: Descriptor) -> bytes:
            raise AssertionError("asked for")

        with pytest.raises(Malformed, match="larger than"):
            pick(top, fetch, HERE)


class TestConfusion:
    """IMG3: a document that is two documents with one digest."""

    @pytest.mark.parametrize("more", ["manifests", "Manifests", "mANIFESTS"])
    def test_img3_manifest_that_is_an_index_too(self, more: str) -> None:
        """A manifest with manifests is refused, in whatever case they are written."""
        document = json.loads(MANIFEST.to_bytes())
        for name in ("", OCI_MANIFEST, OCI_INDEX):
            both = document | {more: []}
            both.pop("mediaType")
            if name:
                both["mediaType"] = name
            with pytest.raises(Malformed):
                read_manifest(json.dumps(both).encode())

    @pytest.mark.parametrize("more", ["layers", "config", "Layers", "CONFIG"])
    def test_img3_index_that_is_a_manifest_too(self, more: str) -> None:
        """An index with layers or a config is refused, in whatever case."""
        document = json.loads(Index(manifests=()).to_bytes())
        for name in (None, OCI_INDEX):
            both = document | {more: [], "mediaType": name}
            with pytest.raises(Malformed):
                read_manifest(json.dumps(both).encode())

    @pytest.mark.parametrize("said", [OCI_INDEX, DOCKER_MANIFEST, "text/html"])
    def test_img3_other_name_outside(self, said: str) -> None:
        """A document that calls itself otherwise than it was called is refused."""
        with pytest.raises((Malformed, UnsupportedMediaType)):
            read_manifest(MANIFEST.to_bytes(), said)

    @pytest.mark.parametrize(
        "said",
        [None, OCI_MANIFEST, f"{OCI_MANIFEST}; charset=utf-8", "application/json"],
    )
    def test_img3_same_name_outside(self, said: str | None) -> None:
        """One that was called the same, or nothing in particular, is read."""
        assert read_manifest(MANIFEST.to_bytes(), said) == MANIFEST

    def test_img3_twins_by_case(self) -> None:
        """A key of a descriptor that other readers take for another one is refused."""
        document = json.loads(MANIFEST.to_bytes())
        document["layers"][0]["Digest"] = str(Digest.of(b"other"))
        with pytest.raises(Malformed, match=r"layers\[0\] has 'Digest'"):
            Manifest.from_bytes(json.dumps(document).encode())


DEEP = 100_000
HOSTILE: dict[str, bytes] = {
    "key twice": b'{"a": 1, "a": 1}',
    "key twice, escaped": b'{"a": 1, "\\u0061": 2}',
    "key twice, deep inside": b'{"a": [{"b": {"c": 1, "c": 2}}]}',
    "deep lists": b'{"a":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "deep objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "deep, never closed": b'{"a":' + b"[" * DEEP,
    "a little too deep": b'{"a":' + b"[" * 70 + b"]" * 70 + b"}",
    "NaN": b'{"a": NaN}',
    "Infinity": b'{"a": -Infinity}',
    "too large a fraction": b'{"a": 1e999}',
    "an int of 10^5 digits": b'{"a": ' + b"9" * DEEP + b"}",
    "a byte order mark": b'\xef\xbb\xbf{"a": 1}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "no UTF-8": b'{"a": "\xff"}',
    "half a surrogate pair": b'{"a": "\\ud800"}',
    "trailing data": b'{"a": 1} x',
    "a second document": b'{"a": 1}{"a": 1}',
    "a trailing comma": b'{"a": 1,}',
    "a comment": b'{"a": 1} // b',
    "NUL at the end": b'{"a": 1}\0',
    "a control character": b'{"a": "\x01"}',
    "a list": b"[1]",
    "a text": b'"a"',
    "nothing": b"",
}


class TestJson:
    """IMG4: JSON that readers understand differently, or never finish."""

    @pytest.mark.parametrize("name", HOSTILE)
    def test_img4_refused_at_once(self, name: str) -> None:
        """It is refused, within a second, with a printable line."""
        begun = time.monotonic()
        with pytest.raises(Malformed) as refused:
            load_json(HOSTILE[name], "image manifest")
        assert time.monotonic() - begun < 1
        assert str(refused.value).isprintable()
        assert len(str(refused.value)) < 500

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "unit", [b"{},", b"[],", b'{"a":1},', b'"\\ud83d\\ude00",', b"[[{}]],", b"1,"]
    )
    def test_img4_four_mebibytes_of_it(self, unit: bytes) -> None:
        """Four mebibytes of the smallest things take a second or two at most."""
        data = b'{"a":[' + unit * ((DOCUMENT_MAX - 20) // len(unit)) + b"0]}"
        begun = time.process_time()
        with contextlib.suppress(Malformed):
            load_json(data, "image manifest")
        assert time.process_time() - begun < 2


BAD_DIGESTS = [
    "sha256:../../x",
    "sha256:" + "../" * 21 + "x",
    "sha256:" + "A" * 64,
    "SHA256:" + "a" * 64,
    "sha256:" + "a" * 63,
    "sha256:" + "a" * 65,
    "sha256:" + "a" * 128,
    "sha512:" + "a" * 64,
    "sha256-" + "a" * 64,
    "sha256:" + "a" * 63 + "\n",
    "sha256:" + "a" * 64 + "\n",
    "sha256: " + "a" * 63,
    "sha256:" + "\u0661" * 64,
    "sha256:",
    "a" * 64,
    "md5:" + "a" * 32,
    "blake3:" + "a" * 64,
    "",
    ":",
    "/",
]


class TestDigests:
    """IMG5: digests that are none."""

    @pytest.mark.parametrize("text", BAD_DIGESTS)
    def test_img5_refused(self, text: str) -> None:
        """A digest that is not of the one form is a ValueError, naming it."""
        with pytest.raises(ValueError, match="digest") as refused:
            Digest.parse(text)
        assert isinstance(refused.value, SpecError)

    @pytest.mark.parametrize(("algorithm", "hex_"), [("sha256", "../x"), ("x/", "a")])
    def test_img5_made_by_hand(self, algorithm: str, hex_: str) -> None:
        """There is no other way to make one either."""
        with pytest.raises(SpecError):
            Digest(algorithm, hex_)

    def test_img5_unknown_algorithm_is_never_used(self) -> None:
        """Content named by an unknown algorithm can be read about, but not be used."""
        text = "multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8"
        place = Descriptor(media_type="a/b", digest=digest_of(text), size=1)

        assert isinstance(place.address, ForeignDigest)
        assert str(place.address) == text
        for use in (lambda: place.digest, lambda: place.verify(b"x")):
            with pytest.raises(JailboxError, match="cannot check content"):
                use()

    @pytest.mark.parametrize("text", ["a/b:c", "a..b:c", "..:c", "a:../b", "a:b/c"])
    def test_img5_no_path_even_then(self, text: str) -> None:
        """Nothing that could be a path is taken for an unknown algorithm."""
        with pytest.raises(SpecError):
            digest_of(text)


def walk(documents: dict[str, bytes]) -> Callable[[Descriptor], bytes]:
    """Serve documents by digest."""
    return lambda place: documents[str(place.digest)]


class TestIndexes:
    """IMG8: indexes without end."""

    def test_img8_contains_itself(self) -> None:
        """An index that is served inside of itself is refused."""
        itself = Descriptor(media_type=OCI_INDEX, digest=Digest.of(b"x"), size=1)

        class Lying(Descriptor):
            # As if somebody had found the digest of what contains it.
            def verify(self, content: bytes, origin: str = "") -> bytes:
                return content

        top = Lying(media_type=OCI_INDEX, digest=itself.digest, size=1)
        served = Index(manifests=(itself,)).to_bytes()
        with pytest.raises(Malformed, match="contains itself"):
            pick(top, lambda _: served, HERE)

    def nest(self, depth: int) -> tuple[Descriptor, dict[str, bytes]]:
        """Put a manifest below so many indexes."""
        data = MANIFEST.to_bytes()
        place = Descriptor.of(data, OCI_MANIFEST, platform=HERE)
        documents = {str(place.digest): data}
        for _ in range(depth):
            data = Index(manifests=(place,)).to_bytes()
            place = Descriptor.of(data, OCI_INDEX)
            documents[str(place.digest)] = data
        return place, documents

    def test_img8_deep(self) -> None:
        """Eight indexes one in another are followed, nine are not."""
        top, documents = self.nest(INDEX_DEPTH_MAX)
        assert pick(top, walk(documents), HERE)[2] == MANIFEST

        top, documents = self.nest(INDEX_DEPTH_MAX + 1)
        with pytest.raises(Malformed, match="deeper than 8"):
            pick(top, walk(documents), HERE)

    def test_img8_wide(self) -> None:
        """An index that leads to many others is left after the first of them."""
        documents: dict[str, bytes] = {}
        inner = []
        for n in range(INDEX_DOCUMENTS_MAX + 1):
            data = Index(manifests=(), annotations={"n": str(n)}).to_bytes()
            inner.append(Descriptor.of(data, OCI_INDEX))
            documents[str(inner[-1].digest)] = data
        data = Index(manifests=tuple(inner)).to_bytes()
        top = Descriptor.of(data, OCI_INDEX)
        documents[str(top.digest)] = data
        with pytest.raises(Malformed, match="more than 64"):
            pick(top, walk(documents), HERE)

    def test_img8_long(self) -> None:
        """An index of more than a thousand entries is refused, before they are read."""
        entry = Descriptor.of(b"x", OCI_MANIFEST)
        most = Index(manifests=(entry,) * MANIFESTS_MAX)
        assert Index.from_bytes(most.to_bytes()) == most
        with pytest.raises(Malformed, match="at most 1000"):
            Index.from_bytes(Index(manifests=(entry,) * (MANIFESTS_MAX + 1)).to_bytes())

    def test_img8_lies(self) -> None:
        """A document inside of an index that is not what was promised is refused."""
        top, documents = self.nest(1)
        inner = Index.from_bytes(documents[str(top.digest)]).manifests[0]
        for wrong in (b"{}", documents[str(inner.digest)] + b" "):
            with pytest.raises(DigestMismatch):
                pick(top, walk({**documents, str(inner.digest): wrong}), HERE)

    def test_img8_nothing_for_this_machine(self) -> None:
        """An index without an image for the machine says which it has."""
        top, documents = self.nest(1)
        with pytest.raises(NotFound, match="which has linux/amd64"):
            pick(top, walk(documents), Platform.parse("linux/riscv64"))


class TestLayers:
    """IMG9, IMG16: how many layers, and of what kind."""

    def test_img9_none(self) -> None:
        """A manifest without layers is refused."""
        with pytest.raises(Malformed, match="no layers"):
            Manifest.from_bytes(Manifest(config=CONFIG, layers=()).to_bytes())

    def test_img9_as_many_as_the_kernel_stacks(self) -> None:
        """500 layers are read; one more is refused by its number."""
        most = Manifest(config=CONFIG, layers=(LAYER,) * LAYERS_MAX)
        assert Manifest.from_bytes(most.to_bytes()) == most
        more = Manifest(config=CONFIG, layers=(LAYER,) * (LAYERS_MAX + 1))
        with pytest.raises(Malformed, match="501 items; at most 500"):
            Manifest.from_bytes(more.to_bytes())

    def test_img9_not_as_many_as_diff_ids(self) -> None:
        """A config with another number of diff ids than its manifest has layers."""
        document = ImageDocument.from_bytes(config())
        document.check(MANIFEST)
        with pytest.raises(Malformed, match="1 diff_ids for 2 layers"):
            document.check(Manifest(config=CONFIG, layers=(LAYER, LAYER)))

    @pytest.mark.parametrize(
        "media_type",
        [
            "application/vnd.oci.image.layer.v1.squashfs",
            "application/vnd.erofs",
            "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
            "application/vnd.oci.image.layer.v1.tar+xz",
            "application/vnd.oci.image.layer.v1.tar+GZIP",
            "application/octet-stream",
            "",
        ],
    )
    def test_img16_other_kinds(self, media_type: str) -> None:
        """A layer that is no tar archive, plain, gzip or zstd, is refused by type."""
        with pytest.raises(UnsupportedMediaType) as refused:
            compression_of(media_type)
        assert refused.value.media_type == media_type

    def test_img16_every_known_kind(self) -> None:
        """There is no kind of layer that would be mounted."""
        assert set(LAYERS.values()) == {"none", "gzip", "zstd"}
        assert not [name for name in LAYERS if ".tar" not in name]

    def test_img16_before_anything_is_fetched(self) -> None:
        """A manifest with such a layer, or of another artifact, is refused whole."""
        odd = Descriptor.of(b"x", "application/vnd.erofs")
        with pytest.raises(UnsupportedMediaType, match="erofs"):
            Manifest(config=CONFIG, layers=(LAYER, odd)).check_image()
        with pytest.raises(UnsupportedMediaType, match="another artifact"):
            Manifest(config=odd, layers=(LAYER,)).check_image()
        Manifest(
            config=Descriptor.of(b"x", DOCKER_CONFIG),
            layers=(Descriptor.of(b"x", DOCKER_LAYER_GZIP),),
        ).check_image()

    @pytest.mark.parametrize("media_type", [*DOCKER_SCHEMA_1, None])
    def test_schema_1(self, media_type: str | None) -> None:
        """A manifest of schema 1 is refused with a sentence, and what to do."""
        document = {"schemaVersion": 1, "name": "a", "fsLayers": [], "history": []}
        with pytest.raises(UnsupportedMediaType, match="schema 1") as refused:
            read_manifest(json.dumps(document).encode(), media_type)
        assert "Push the image again" in refused.value.__notes__[0]


class TestConfig:
    """IMG11, IMG12: what a config says is data for the payload."""

    def env(self, *entries: str) -> dict[str, str]:
        """Read variables."""
        return dict(ImageDocument.from_bytes(config(Env=list(entries))).config.env)

    def test_img11_variables(self) -> None:
        """Whatever it is called, a variable is a name and a value, and nothing else."""
        assert self.env(
            "LD_PRELOAD=/x", "PYTHONPATH=a=b", "=x", "A=1", "A=2", "E="
        ) == {
            "LD_PRELOAD": "/x",
            "PYTHONPATH": "a=b",
            "A": "2",
            "E": "",
        }

    def test_img11_without_equals(self) -> None:
        """An entry without '=' takes the variable away, as other tools do."""
        assert self.env("A=1", "B=2", "A", "C") == {"B": "2"}

    @pytest.mark.parametrize(
        "section",
        [
            {"Env": ["A=\0"]},
            {"Cmd": ["a\0b"]},
            {"Entrypoint": ["\0"]},
            {"WorkingDir": "/a\0"},
            {"Volumes": {"/a\0": {}}},
            {"User": "a\0"},
            {"User": "1e3"},
            {"User": "root:"},
            {"StopSignal": "SIGNOTHING"},
            {"StopSignal": "999"},
            {"Env": "A=1"},
            {"Env": [["A=1"]]},
            {"ExposedPorts": ["80"]},
            {"Healthcheck": {"Interval": -1}},
            {"Healthcheck": {"Retries": 1.5}},
        ],
        ids=repr,
    )
    def test_img11_what_the_kernel_cannot_be_given(self, section: Any) -> None:  # noqa: ANN401
        """What cannot be given to a program is refused, naming the place."""
        with pytest.raises(Malformed) as refused:
            ImageDocument.from_bytes(config(**section))
        assert (refused.value.place or "").startswith("config.")

    def test_img11_ten_megabytes(self) -> None:
        """An environment of ten megabytes is larger than a config may be."""
        with pytest.raises(Malformed, match="larger than"):
            ImageDocument.from_bytes(config(Env=["A=" + "x" * 10_000_000]))

    @pytest.mark.parametrize(
        ("written", "read"),
        [
            ("", "/"),
            ("/", "/"),
            ("/a/.", "/a"),
            ("/a//b/", "/a/b"),
            ("a/b", "/a/b"),
            ("../x", "/../x"),
            ("/a/../../x", "/a/../../x"),
        ],
    )
    def test_img12_paths(self, written: str, read: str) -> None:
        """
        Paths are absolute in one spelling, and keep their '..'.

        What that means depends on links: it is resolved in the jail's root.
        """
        section = ImageDocument.from_bytes(
            config(WorkingDir=written, Volumes={written: {}, "/v": {}})
        ).config
        assert section.cwd == read
        assert section.volumes == (read, "/v")


HOSTILE_CONFIG: dict[str, Any] = {
    "Labels": {
        "jailbox.security": "unconfined",
        "io.containers.autoupdate": "registry",
        "run": "podman run --privileged IMAGE",
        "io.podman.annotations.privileged": "TRUE",
    },
    "ExposedPorts": {"22/tcp": {}, "0-65535/udp": {}},
    "Healthcheck": {"Test": ["CMD-SHELL", "reboot"], "Interval": 1},
    "OnBuild": ["RUN reboot"],
    "Shell": ["/bin/evil", "-c"],
    "HostConfig": {"Privileged": True, "CapAdd": ["ALL"], "Binds": ["/:/host"]},
    "Privileged": True,
    "CapAdd": ["ALL"],
    "SecurityOpt": ["seccomp=unconfined"],
    "NetworkMode": "host",
    "PidMode": "host",
    "Devices": ["/dev/mem"],
    "Runtime": "evil",
    "RestartPolicy": {"Name": "always"},
    "LogConfig": {"Type": "syslog"},
    "CgroupParent": "/",
    "Ulimits": [{"Name": "core", "Hard": -1, "Soft": -1}],
    "Hostname": "host",
    "MacAddress": "02:42:ac:11:00:02",
    "AttachStdin": True,
    "Tty": True,
    "OpenStdin": True,
    "Memory": -1,
}


def test_img10_metadata_is_no_policy() -> None:
    """
    IMG10: nothing that a config says beyond its program, variables, user and directory
    changes what the kernel is told about a container.
    """
    usual = {"Env": ["PATH=/bin"], "Cmd": ["/bin/true"], "WorkingDir": "/srv"}
    document = json.loads(config(**usual, **HOSTILE_CONFIG))
    document["history"] = [{"created_by": "RUN --privileged evil", "security": "none"}]
    document["container_config"] = HOSTILE_CONFIG
    document["config.runtime"] = {"linux": {"seccomp": None, "devices": ["a"]}}

    def plans(data: bytes) -> tuple[str, str]:
        image = ImageDocument.from_bytes(data).config
        rootfs = attrs.evolve(ROOTFS, config=image)
        spec = ContainerSpec(image=Host())
        found = compile_container(
            spec, facts(), rootfs, keeper="K", prepared=0, hostname="box"
        )
        program = spec.program(image)
        assert program is not None
        user = identify(program.user, program.groups, rootfs.passwd, rootfs.group)
        main = compile_program(
            program, spec, rootfs, found.security, user, hostname="box"
        )
        return found.plan.describe(), attrs.evolve(found.plan, program=main).describe()

    assert plans(json.dumps(document).encode()) == plans(config(**usual))


# From the grammar: one for each rule, as written, and whether every reader takes it.
NAMES: list[tuple[str, bool]] = [
    ("a", True),
    ("a.b", True),
    ("a_b", True),
    ("a__b", True),
    ("a---b", True),
    ("0", True),
    ("a/b/c/d", True),
    ("localhost/a", True),
    ("a.b:1/c", True),
    ("[::1]:5/c", True),
    ("A/b", True),
    ("a:" + "t" * 128, True),
    ("a:_.-", True),
    ("a" * 247, True),
    ("h.x/" + "a" * 255, True),
    ("a@sha256:" + "0" * 64, True),
    ("a:t@sha256:" + "0" * 64, True),
    ("a..b", False),
    ("a.", False),
    (".a", False),
    ("a___b", False),
    ("a_.b", False),
    ("a-", False),
    ("A", False),
    ("a/B", False),
    ("a//b", False),
    ("a/", False),
    ("/a", False),
    ("", False),
    ("a b", False),
    (" a", False),
    ("a\n", False),
    ("ä", False),
    ("a:", False),
    ("a:" + "t" * 129, False),
    ("a:-t", False),
    ("a:.t", False),
    ("a:t/b", False),
    ("a:\u0661", False),
    ("a@", False),
    ("a@sha256:0", False),
    ("a@sha256:" + "0" * 63 + "G", False),
    ("a@sha256:" + "A" * 64, False),
    ("a@md5:" + "0" * 32, False),
    ("a@sha256:" + "0" * 64 + "@", False),
    ("a.b:x/c", False),
    ("[::1%0]/c", False),
    ("h_h.x/a", False),
    ("-h.x/a", False),
    ("http://h.x/a", False),
    ("0" * 64, False),
    ("a" * 248, False),
    ("h.x/" + "a" * 256, False),
    ("../a", False),
    ("a/../b", False),
    ("a/./b", False),
    ("a\0b", False),
    ("a" * 10_000_000, False),
    (("a-" * 1000)[:2000], False),
]


@pytest.mark.parametrize(
    ("text", "good"),
    NAMES,
    ids=lambda value: (
        str(value) if isinstance(value, bool) else f"{len(value)} {value[:30]!r}"
    ),
)
def test_reg15_reference_grammar(text: str, good: bool) -> None:  # noqa: FBT001
    """REG15: the names that are taken are those of the grammar that all tools share."""
    begun = time.monotonic()
    if good:
        reference = Reference.parse(text)
        assert Reference.parse(str(reference)) == reference
    else:
        with pytest.raises(InvalidReference) as refused:
            Reference.parse(text)
        assert str(refused.value).isprintable()
    assert time.monotonic() - begun < 1
