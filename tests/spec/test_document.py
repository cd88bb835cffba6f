"""The documents of images: written, read, and nothing lost on the way."""

import json
import pickle
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jailbox.errors import DigestMismatch, Malformed
from jailbox.spec.descriptor import Descriptor
from jailbox.spec.digest import Digest
from jailbox.spec.document import (
    History,
    ImageDocument,
    Index,
    Manifest,
    chain_ids,
    layout_version,
    read_manifest,
)
from jailbox.spec.image import Healthcheck, ImageConfig
from jailbox.spec.media import (
    DOCKER_CONFIG,
    DOCKER_INDEX,
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    OCI_MANIFEST,
    compression_of,
    is_layer,
)
from jailbox.spec.pick import pick
from jailbox.spec.platform import Platform
from jailbox.spec.strict import dump_json, load_json

FULL: dict[str, Any] = {
    "created": "2015-10-31T22:22:56.015925234Z",
    "author": "Alyssa P. Hacker",
    "architecture": "arm",
    "os": "linux",
    "variant": "v6",
    "config": {
        "User": "alice:100",
        "ExposedPorts": {"8080/tcp": {}},
        "Env": ["PATH=/bin", "FOO=a=b"],
        "Entrypoint": ["/bin/app"],
        "Cmd": ["--flag"],
        "Volumes": {"/data": {}},
        "WorkingDir": "/home/alice",
        "Labels": {"a": "b"},
        "StopSignal": "SIGRTMIN+3",
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 30_000_000_001},
        "Shell": ["/bin/bash", "-c"],
        "OnBuild": ["RUN true"],
        "Tty": False,
        "MacAddress": None,
    },
    "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(b"1"))], "more": 1},
    "history": [
        {"created": "2020-01-01T00:00:00+01:00", "created_by": "sh", "x": [1]},
        {"comment": "c", "empty_layer": True},
    ],
    "moby.buildkit.cache.v0": "e30=",
}


class TestConfig:
    """IMG-10: the config of an image as a typed value."""

    def test_fields(self) -> None:
        """What a config says is there by name, in our types."""
        document = ImageDocument.from_bytes(json.dumps(FULL).encode())
        config = document.config

        assert document.platform == Platform("linux", "arm", "v6")
        assert document.created == FULL["created"]
        assert document.author == "Alyssa P. Hacker"
        assert config.env["PATH"] == "/bin"
        assert config.env["FOO"] == "a=b"
        assert (config.entrypoint, config.cmd) == (("/bin/app",), ("--flag",))
        assert str(config.user) == "alice:100"
        assert config.cwd == "/home/alice"
        assert config.labels["a"] == "b"
        assert config.exposed_ports == ("8080/tcp",)
        assert config.volumes == ("/data",)
        assert config.stop_signal == 37
        assert config.healthcheck == Healthcheck(
            test=("CMD", "true"), interval=30.000000001
        )
        assert config.shell == ("/bin/bash", "-c")
        assert config.on_build == ("RUN true",)
        assert document.history[1] == History(comment="c", empty_layer=True)
        assert document.diff_ids == (Digest.of(b"1"),)

    def test_nothing_is_lost(self) -> None:
        """Written back, a config says all that it said, known to us or not."""
        document = ImageDocument.from_bytes(json.dumps(FULL).encode())
        written = json.loads(document.to_bytes())

        assert written == FULL
        assert ImageDocument.from_bytes(document.to_bytes()) == document

    def test_least(self) -> None:
        """What is not said has its usual value."""
        data = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers",'
        document = ImageDocument.from_bytes(data + b'"diff_ids":[]}}')
        assert document == ImageDocument(
            platform=Platform("linux", "amd64"), diff_ids=()
        )
        assert document.config == ImageConfig()

    def test_null_says_nothing(self) -> None:
        """Docker writes null for what is not set."""
        keys = (*FULL["config"],)
        document = {**FULL, "config": dict.fromkeys(keys), "history": None}
        read = ImageDocument.from_bytes(json.dumps(document).encode())
        assert attrs.evolve(read.config, extra={}) == ImageConfig()

    @pytest.mark.parametrize(
        ("change", "place"),
        [
            ({"os": None}, None),
            ({"architecture": 1}, "architecture"),
            ({"created": "yesterday"}, "created"),
            ({"created": "2020-13-01T00:00:00Z"}, "created"),
            ({"rootfs": {"type": "layers"}}, "rootfs"),
            ({"rootfs": {"type": "other", "diff_ids": []}}, "rootfs"),
            ({"rootfs": {"type": "layers", "diff_ids": ["x"]}}, "rootfs.diff_ids[0]"),
            ({"history": [{"empty_layer": 1}]}, "history[0].empty_layer"),
            ({"history": [{"created": "x"}]}, "history[0].created"),
            ({"config": {"Labels": {"a": 1}}}, "config.Labels.a"),
            ({"config": {"Volumes": {"/a": []}}}, "config.Volumes./a"),
            ({"config": {"Cmd": "sh"}}, "config.Cmd"),
        ],
        ids=repr,
    )
    def test_refused(self, change: dict[str, Any], place: str | None) -> None:
        """A wrong type is refused with its place in the document."""
        with pytest.raises(Malformed) as refused:
            ImageDocument.from_bytes(json.dumps(FULL | change).encode())
        assert refused.value.place == place

    def test_a_value(self) -> None:
        """A config is a key, and crosses between processes."""
        document = ImageDocument.from_bytes(json.dumps(FULL).encode())
        assert hash(document) == hash(ImageDocument.from_bytes(document.to_bytes()))
        assert pickle.loads(pickle.dumps(document)) == document  # noqa: S301


class TestManifests:
    """IMG-07: manifests and indexes of OCI and of Docker."""

    @pytest.mark.parametrize(
        ("manifest", "config", "layer"),
        [
            (OCI_MANIFEST, OCI_CONFIG, OCI_LAYER),
            (OCI_MANIFEST, OCI_CONFIG, OCI_LAYER_GZIP),
            (OCI_MANIFEST, OCI_CONFIG, OCI_LAYER_ZSTD),
            (DOCKER_MANIFEST, DOCKER_CONFIG, DOCKER_LAYER_GZIP),
            (DOCKER_MANIFEST, "application/octet-stream", DOCKER_LAYER_GZIP),
        ],
    )
    def test_kinds(self, manifest: str, config: str, layer: str) -> None:
        """Every usual combination is written and read the same."""
        value = Manifest(
            media_type=manifest,
            config=Descriptor.of(b"{}", config),
            layers=(Descriptor.of(b"x", layer),),
        )
        assert read_manifest(value.to_bytes(), manifest) == value
        assert read_manifest(value.to_bytes()) == value
        value.check_image()
        assert is_layer(layer)

    def test_docker_index(self) -> None:
        """A list of Docker's is an index, with the platforms of its entries."""
        document = {
            "schemaVersion": 2,
            "mediaType": DOCKER_INDEX,
            "manifests": [
                {
                    "mediaType": DOCKER_MANIFEST,
                    "size": 1,
                    "digest": str(Digest.of(b"x")),
                    "platform": {
                        "architecture": "arm",
                        "os": "linux",
                        "variant": "v7",
                        "features": ["sse4"],
                    },
                }
            ],
        }
        value = read_manifest(dump_json(document))
        assert isinstance(value, Index)
        assert value.platforms() == (Platform("linux", "arm", "v7"),)
        assert json.loads(value.to_bytes()) == document

    def test_without_its_name(self) -> None:
        """OCI documents need not say what they are: then their form does."""
        manifest = Manifest(
            config=Descriptor.of(b"{}", OCI_CONFIG),
            layers=(Descriptor.of(b"x", OCI_LAYER),),
        )
        for value in (manifest, Index(manifests=())):
            document = json.loads(value.to_bytes())
            del document["mediaType"]
            assert read_manifest(dump_json(document)) == value

    def test_compressions(self) -> None:
        """A layer's type says how it is compressed."""
        assert compression_of(OCI_LAYER) == "none"
        assert compression_of(DOCKER_LAYER_GZIP) == "gzip"
        assert compression_of(OCI_LAYER_ZSTD) == "zstd"

    def test_same_bytes(self) -> None:
        """What is equal is written as the same bytes, in whatever order it was made."""
        one = Descriptor.of(b"x", OCI_LAYER, annotations={"a": "1", "b": "2"})
        read = Descriptor.from_bytes(dump_json(one.to_document()))
        assert dump_json(read.to_document()) == dump_json(one.to_document())

    def test_checked(self) -> None:
        """Bytes are what a descriptor points to, by size and by digest."""
        place = Descriptor.of(b"abc", OCI_LAYER)
        assert place.verify(b"abc") == b"abc"
        with pytest.raises(DigestMismatch, match="expected 3 bytes, got 4 bytes"):
            place.verify(b"abcd", "layer 1")
        with pytest.raises(DigestMismatch, match="layer 1: expected sha256:"):
            place.verify(b"abd", "layer 1")

    def test_embedded(self) -> None:
        """Content that came along is checked when it is asked for."""
        assert Descriptor.of(b"abc", "a/b").embedded() is None
        assert Descriptor.of(b"abc", "a/b", data=b"abc").embedded() == b"abc"
        with pytest.raises(DigestMismatch):
            Descriptor.of(b"abc", "a/b", data=b"abd").embedded()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=8,
)
UNKNOWN = st.dictionaries(st.text(min_size=1).map(lambda t: f"x-{t}"), JSON, max_size=3)


@given(UNKNOWN, UNKNOWN, UNKNOWN)
def test_unknown_fields(
    top: dict[str, Any], config: dict[str, Any], step: dict[str, Any]
) -> None:
    """Whatever else a document says is kept and written back, deep inside too."""
    document: dict[str, Any] = {
        **FULL,
        **top,
        "config": {"WorkingDir": "/", **config},
        "history": [step],
    }
    try:
        data = dump_json(document)
    except UnicodeEncodeError:
        return
    value = ImageDocument.from_bytes(data)
    written = load_json(value.to_bytes(), "image config")

    assert ImageDocument.from_bytes(value.to_bytes()) == value
    for key, kept in top.items():
        assert written[key] == kept
    for key, kept in config.items():
        assert written["config"].get(key) == kept
    for key, kept in step.items():
        assert written["history"][0].get(key) == kept


class TestChainIds:
    """What a layer is called together with those below it."""

    def test_by_hand(self) -> None:
        """The first is its own; each further one is the digest of two names."""
        a, b, c = (Digest.of(letter) for letter in (b"a", b"b", b"c"))
        ab = Digest.of(f"{a} {b}".encode())

        assert chain_ids(()) == ()
        assert chain_ids((a, b, c)) == (a, ab, Digest.of(f"{ab} {c}".encode()))


class TestPick:
    """Finding one image below a name."""

    def test_platform_of_the_index_above(self) -> None:
        """A manifest that says no platform has that of the index that lists it."""
        manifests = {}
        documents = {}
        entries = []
        for n, name in enumerate(("linux/amd64", "linux/arm64")):
            manifest = Manifest(
                config=Descriptor.of(str(n).encode(), OCI_CONFIG),
                layers=(Descriptor.of(b"x", OCI_LAYER),),
            )
            data = manifest.to_bytes()
            inner = Index(manifests=(Descriptor.of(data, OCI_MANIFEST),)).to_bytes()
            entry = Descriptor.of(
                inner, Index(manifests=()).media_type, platform=Platform.parse(name)
            )
            documents[Digest.of(data)] = data
            documents[Digest.of(inner)] = inner
            entries.append(entry)
            manifests[name] = manifest
        whole = Index(manifests=tuple(entries))
        top = Descriptor.of(whole.to_bytes(), whole.media_type)
        documents[top.digest] = whole.to_bytes()

        for name, manifest in manifests.items():
            place, data, found = pick(
                top, lambda place: documents[place.digest], Platform.parse(name)
            )
            assert found == manifest
            assert place.digest == Digest.of(data)
            assert str(place.platform) == name

    def test_alone(self) -> None:
        """A manifest without an index is taken as it is, whatever the machine."""
        manifest = Manifest(
            config=Descriptor.of(b"{}", OCI_CONFIG),
            layers=(Descriptor.of(b"x", OCI_LAYER),),
        )
        top = Descriptor.of(manifest.to_bytes(), OCI_MANIFEST)
        found = pick(top, lambda _: manifest.to_bytes(), Platform.parse("s390x"))
        assert found == (top, manifest.to_bytes(), manifest)


def test_layout() -> None:
    """There is one version of the layout."""
    assert layout_version(b'{"imageLayoutVersion": "1.0.0"}') == "1.0.0"
    for data in (b"{}", b'{"imageLayoutVersion": "2.0.0"}', b"[]"):
        with pytest.raises(Malformed):
            layout_version(data)
