"""Images between registries and the real store: unpacked while they come."""

import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from jailbox.engine.choose import default_engine
from jailbox.engine.local import LocalEngine
from jailbox.errors import DigestMismatch, Malformed, RegistryError, StoreError
from jailbox.linux.workshop import Workshop
from jailbox.registry.client import Client
from jailbox.registry.events import Done, Event, Moved, Retried
from jailbox.registry.keep import pull_image, push_image
from jailbox.spec import media
from jailbox.spec.descriptor import Descriptor
from jailbox.spec.digest import Digest
from jailbox.spec.platform import Platform
from jailbox.spec.reference import Reference
from jailbox.store.decompress import open_layer
from jailbox.store.store import Store
from jailbox.testing import Habits, Registry
from tests.registries import HASTY, Made, config_of, index_of, make, put
from tests.store.workshops import Layout, PlainWorkshop, tar_of

AMD64 = Platform.parse("linux/amd64")


class Watched(PlainWorkshop):
    """A workshop that a test can look at, and make slow or broken."""

    def __init__(self) -> None:
        super().__init__()
        self.began: list[float] = []
        self.failure: Exception | None = None

    def unpack(self, stream, target, **more):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN003, ANN201
        """Unpack as the one below does."""
        self.began.append(time.monotonic())
        if self.failure is not None:
            raise self.failure
        return super().unpack(stream, target, **more)


@pytest.fixture
def workshop() -> Watched:
    """Return who unpacks."""
    return Watched()


@pytest.fixture
def store(workshop: Watched) -> Iterator[Store]:
    """Return an empty store."""
    place = tempfile.mkdtemp(prefix="keep-", dir="/dev/shm")
    with Store(
        f"{place}/store", workshop=lambda: workshop, opener=open_layer, timeout=10
    ) as made:
        yield made
    shutil.rmtree(place)


def stack(*layers: Layout) -> Made:
    """Make an image of given layers."""
    plain = [tar_of(layer) for layer in layers]
    packed = [gzip.compress(each, 1, mtime=0) for each in plain]
    config = config_of([str(Digest.of(each)) for each in plain])
    document = {
        "schemaVersion": 2,
        "mediaType": media.OCI_MANIFEST,
        "config": Descriptor.of(config, media.OCI_CONFIG).to_document(),
        "layers": [
            Descriptor.of(each, media.OCI_LAYER_GZIP).to_document() for each in packed
        ],
    }
    data = json.dumps(document).encode()
    top = Descriptor.of(data, media.OCI_MANIFEST)
    return Made(
        top,
        {top.digest: (media.OCI_MANIFEST, data)},
        {Digest.of(each): each for each in (config, *packed)},
    )


def leftovers(store: Store) -> list[str]:
    """Name what is left of attempts."""
    rooms = ("tmp", "trash", "leases")
    return [name for room in rooms for name in os.listdir(f"{store.path}/{room}")]


class TestPull:
    def test_an_image_is_there(
        self, registry: Registry, client: Client, base: Reference, store: Store
    ) -> None:
        """What was pulled has a name, a manifest, a config, blobs and trees."""
        made = make(3, big=500_000)
        put(registry, "group/base", made)
        record = pull_image(client, store, base, platform=AMD64)

        assert store.get(base) == record
        assert store.images.manifest(record) == made.documents[made.top.digest][1]
        assert {each.digest for each in record.blobs} == {*made.blobs, made.top.digest}
        trees = [Path(store.layers.path(each.tree)) for each in record.layers]
        assert (trees[0] / "file-0").read_text() == "linux/amd64 0\n"
        assert (trees[2] / "big").stat().st_size == 500_000
        assert leftovers(store) == []

    def test_nothing_comes_twice(
        self,
        registry: Registry,
        client: Client,
        base: Reference,
        store: Store,
        workshop: Watched,
    ) -> None:
        """A second pull asks for the manifest, and unpacks nothing."""
        put(registry, "group/base", make(3))
        first = pull_image(client, store, base, platform=AMD64)
        registry.requests.clear()
        count = workshop.unpacked

        assert pull_image(client, store, base, platform=AMD64) == first
        assert [each.method for each in registry.requests] == ["GET"]
        assert workshop.unpacked == count

    def test_layers_are_shared(
        self, registry: Registry, client: Client, base: Reference, store: Store
    ) -> None:
        """What another image has is not fetched again."""
        put(registry, "group/base", make(2))
        put(registry, "group/base", make(3), tag="3")
        pull_image(client, store, base, platform=AMD64)
        events: list[Event] = []
        pull_image(
            client,
            store,
            attrs.evolve(base, tag="3"),
            platform=AMD64,
            on_event=events.append,
        )

        how = [each.how for each in events if isinstance(each, Done)]
        assert sorted(how) == ["present", "present", "received", "received"]

    def test_of_an_index(
        self, registry: Registry, client: Client, base: Reference, store: Store
    ) -> None:
        """The index that an image was found in is kept with it."""
        made = index_of(
            {"linux/arm64": make(platform="linux/arm64"), str(AMD64): make()}
        )
        put(registry, "group/base", made)
        record = pull_image(client, store, base, platform=AMD64)

        kept = {each.digest for each in record.blobs}
        assert made.top.digest in kept
        assert store.blobs.read(made.top.digest) == made.documents[made.top.digest][1]

    @pytest.mark.slow
    def test_unpacked_while_it_comes(
        self,
        registry: Registry,
        client: Client,
        base: Reference,
        store: Store,
        workshop: Watched,
    ) -> None:
        """REG-04: unpacking begins long before the last byte is there."""
        put(registry, "group/base", make(1))
        registry.habits = Habits(drip=0.004)
        ended: list[float] = []

        def listen(event: Event) -> None:
            if isinstance(event, Done):
                ended.append(time.monotonic())

        pull_image(client, store, base, platform=AMD64, on_event=listen)

        assert ended[-1] - workshop.began[0] > 0.3

    def test_layers_that_need_others(
        self, registry: Registry, client: Client, base: Reference, store: Store
    ) -> None:
        """A layer that cannot stand alone waits for those below it."""
        made = stack(
            {"etc": None, "etc/motd": "hi" * 100_000},
            {"opt": None, "opt/x": "1"},
            {"etc": None, "etc/second": ("link", "etc/motd")},
            {"etc": None, "etc/third": ("link", "etc/second")},
        )
        put(registry, "group/base", made)
        record = pull_image(client, store, base, platform=AMD64)

        top = Path(store.layers.path(record.layers[3].tree))
        assert (top / "etc/third").read_text() == "hi" * 100_000
        assert [layer.tree == layer.diff_id for layer in record.layers] == [
            True,
            True,
            False,
            False,
        ]

    def test_the_same_layer_at_several_places(
        self, registry: Registry, client: Client, base: Reference, store: Store
    ) -> None:
        """A layer that comes again, elsewhere in the stack, is fetched once."""
        linked: Layout = {"etc": None, "etc/second": ("link", "etc/motd")}
        made = stack(
            {"etc": None, "etc/motd": "one"},
            linked,
            {"etc": None, "etc/motd": "two"},
            linked,
        )
        put(registry, "group/base", made)
        record = pull_image(client, store, base, platform=AMD64)

        tops = [Path(store.layers.path(record.layers[n].tree)) for n in (1, 3)]
        assert [(top / "etc/second").read_text() for top in tops] == ["one", "two"]
        assert registry.asked("GET", "/blobs/") == 4

    def test_resumed(
        self, registry: Registry, client: Client, base: Reference, store: Store
    ) -> None:
        """A layer that broke off is unpacked in one go all the same."""
        put(registry, "group/base", make(1, big=600_000))
        registry.habits = Habits(drop=1)
        events: list[Event] = []
        record = pull_image(client, store, base, platform=AMD64, on_event=events.append)

        assert any(isinstance(each, Retried) for each in events)
        tree = Path(store.layers.path(record.layers[0].tree))
        assert (tree / "big").stat().st_size == 600_000

    def test_begun_anew(
        self, registry: Registry, client: Client, base: Reference, store: Store
    ) -> None:
        """REG14: where the parts do not fit, what was unpacked of them is gone."""
        made = make(1, big=400_000)
        put(registry, "group/base", made)
        registry.habits = Habits(drop=1)
        blobs = registry.content.at("group/base").blobs
        layer = max(blobs, key=lambda digest: len(blobs[digest]))
        right = blobs[layer]
        blobs[layer] = right[:1000] + bytes(len(right) - 1000)

        def mend(event: Event) -> None:
            if isinstance(event, Retried):
                blobs[layer] = right

        record = pull_image(client, store, base, platform=AMD64, on_event=mend)

        tree = Path(store.layers.path(record.layers[0].tree))
        assert (tree / "big").stat().st_size == 400_000
        assert leftovers(store) == []

    def test_blob_there_but_no_tree(
        self,
        registry: Registry,
        client: Client,
        base: Reference,
        store: Store,
        workshop: Watched,
    ) -> None:
        """A layer whose packed bytes are there is unpacked from them, not fetched."""
        made = make(1)
        put(registry, "group/base", made)
        with store.adding():
            for data in made.blobs.values():
                store.blobs.put(data)
            pull_image(client, store, base, platform=AMD64)

        assert registry.asked("GET", "/blobs/") == 0
        assert workshop.unpacked == 1


class TestFailures:
    @pytest.mark.parametrize("fault", ["corrupt", "short", "long"])
    def test_wrong_bytes(
        self,
        registry: Registry,
        client: Client,
        base: Reference,
        store: Store,
        fault: str,
    ) -> None:
        """IMG-02: a wrong byte is a DigestMismatch, and nothing enters the store."""
        put(registry, "group/base", make(1, big=200_000))
        registry.habits = Habits(**{fault: "layer"})  # type: ignore[arg-type]

        with pytest.raises(DigestMismatch):
            pull_image(client, store, base, platform=AMD64)
        assert store.images.list() == []
        assert store.tags.list() == {}
        assert store.layers.list() == []
        assert leftovers(store) == []
        store.gc()
        assert store.blobs.list() == []

    def test_no_archive(
        self, registry: Registry, client: Client, base: Reference, store: Store
    ) -> None:
        """A layer that is what its digest says, but cannot be unpacked, says so."""
        made = stack({"etc": None})
        packed = next(data for data in made.blobs.values() if data[:2] == b"\x1f\x8b")
        wrong = b"\x1f\x8bno gzip"
        text = made.documents[made.top.digest][1].decode()
        text = text.replace(str(Digest.of(packed)), str(Digest.of(wrong)))
        text = text.replace(f'"size": {len(packed)}', f'"size": {len(wrong)}')
        data = text.encode()
        top = Descriptor.of(data, media.OCI_MANIFEST)
        put(
            registry,
            "group/base",
            Made(
                top,
                {top.digest: (media.OCI_MANIFEST, data)},
                {**made.blobs, Digest.of(wrong): wrong},
            ),
        )
        with pytest.raises(Malformed, match="gzip"):
            pull_image(client, store, base, platform=AMD64)
        assert leftovers(store) == []

    def test_the_disk_fails(
        self,
        registry: Registry,
        client: Client,
        base: Reference,
        store: Store,
        workshop: Watched,
    ) -> None:
        """A full disk ends it at once; what is tried again later works."""
        put(registry, "group/base", make(3, big=300_000))
        workshop.failure = StoreError("unpack a layer", "/store", 28)

        with pytest.raises(StoreError, match="ENOSPC"):
            pull_image(client, store, base, platform=AMD64)
        assert leftovers(store) == []
        assert threading.active_count() < 20

        workshop.failure = None
        pull_image(client, store, base, platform=AMD64)

    def test_a_lower_layer_never_comes(
        self, registry: Registry, client: Client, base: Reference, store: Store
    ) -> None:
        """Who waits for a layer below is told when it will not come."""
        made = stack(
            {"etc": None, "etc/motd": "hi"},
            {"etc": None, "etc/second": ("link", "etc/motd")},
        )
        put(registry, "group/base", made)
        document = json.loads(made.documents[made.top.digest][1])
        del registry.content.at("group/base").blobs[document["layers"][0]["digest"]]
        began = time.monotonic()

        with pytest.raises(RegistryError, match="404"):
            pull_image(client, store, base, platform=AMD64)
        assert time.monotonic() - began < 2
        assert leftovers(store) == []

    def test_interrupted(
        self, registry: Registry, client: Client, base: Reference, store: Store
    ) -> None:
        """What a callback raises ends downloads and unpacking alike."""
        put(registry, "group/base", make(2, big=400_000))
        registry.habits = Habits(drip=0.01)

        def tired(event: Event) -> None:
            if isinstance(event, Moved):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            pull_image(client, store, base, platform=AMD64, on_event=tired)
        assert leftovers(store) == []


class TestPush:
    def test_there_and_back(
        self, registry: Registry, client: Client, base: Reference, store: Store
    ) -> None:
        """What was pulled is pushed as the bytes that it is; blobs near are mounted."""
        made = make(2)
        put(registry, "group/base", made)
        pull_image(client, store, base, platform=AMD64)
        events: list[Event] = []
        name = Reference.parse(f"{registry.address}/mine:2")
        top = push_image(client, store, base, name, on_event=events.append)

        assert top.digest == made.top.digest
        assert registry.content.at("mine").tags == {"2": str(made.top.digest)}
        assert {each.how for each in events if isinstance(each, Done)} == {"mounted"}

    def test_to_another(
        self, registry: Registry, client: Client, base: Reference, store: Store
    ) -> None:
        """To another registry everything is sent, and comes back with equal digests."""
        made = make(2, docker=True, big=300_000)
        put(registry, "group/base", made)
        pull_image(client, store, base, platform=AMD64)
        with Registry() as other, other.client(settings=HASTY) as there:
            name = Reference.parse(f"{other.address}/mine:2")
            push_image(there, store, base, name)

            held = other.content.at("mine").blobs
            assert set(held) == {str(digest) for digest in made.blobs}
            assert there.resolve(name) == made.top


@pytest.mark.userns
class TestReally:
    def test_with_the_real_workshop(
        self, registry: Registry, client: Client, base: Reference
    ) -> None:
        """The worker in C unpacks what comes: several layers side by side."""
        engine = default_engine()
        assert isinstance(engine, LocalEngine)
        made = stack(
            {"etc": None, "etc/motd": "hi" * 500_000},
            {"opt": None, "opt/x": "1"},
            {"etc": None, "etc/second": ("link", "etc/motd")},
        )
        put(registry, "group/base", made)
        workshop = Workshop(engine.keeper)
        place = tempfile.mkdtemp(prefix="keep-", dir="/dev/shm")
        with Store(
            f"{place}/store", workshop=lambda: workshop, opener=open_layer
        ) as store:
            record = pull_image(client, store, base, platform=AMD64)
            top = Path(store.layers.path(record.layers[2].tree))
            assert (top / "etc/second").read_text() == "hi" * 500_000
            store.remove(base)
            store.gc()
        shutil.rmtree(place)


PULLER = """
import sys
from jailbox.engine.choose import default_engine
from jailbox.linux.workshop import Workshop
from jailbox.registry.client import Client
from jailbox.registry.credentials import Keychain
from jailbox.registry.keep import pull_image
from jailbox.registry.settings import Endpoint
from jailbox.spec.platform import Platform
from jailbox.spec.reference import Reference
from jailbox.store.decompress import open_layer
from jailbox.store.store import Store

path, name = sys.argv[1:]
name = Reference.parse(name)
engine = default_engine()
endpoints = {name.domain: Endpoint(plain_http=True)}
with (
    Store(path, workshop=lambda: Workshop(engine.keeper), opener=open_layer) as store,
    Client(endpoints=endpoints, keychain=Keychain()) as client,
):
    platform = Platform.parse("linux/amd64")
    print(pull_image(client, store, name, platform=platform).digest)
"""


@pytest.mark.slow
@pytest.mark.userns
def test_eight_processes(registry: Registry, base: Reference) -> None:
    """IMG-11: eight processes that pull one image at once all get it, and keep one."""
    made = stack(
        {"etc": None, "etc/motd": "hi" * 500_000},
        {"opt": None, "opt/x": "1" * 500_000},
        {"etc": None, "etc/second": ("link", "etc/motd")},
        {"etc": None, "etc/third": ("link", "etc/second")},
    )
    put(registry, "group/base", made)
    place = tempfile.mkdtemp(prefix="keep-", dir="/dev/shm")
    command = [sys.executable, "-c", PULLER, f"{place}/store", str(base)]
    pullers = [
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(8)
    ]
    said = [each.communicate(timeout=120) for each in pullers]

    assert said == [(f"{made.top.digest}\n", "")] * 8
    assert len(os.listdir(f"{place}/store/trees")) == 4
    for room in ("tmp", "trash", "leases"):
        assert os.listdir(f"{place}/store/{room}") == []
    shutil.rmtree(place)
