"""Images from a registry."""

import threading
import time

import attrs
import pytest

from jailbox.errors import (
    DeadlineExceeded,
    DigestMismatch,
    ImageNotFound,
    Malformed,
    NotFound,
    RateLimited,
    RegistryError,
    UnsupportedMediaType,
)
from jailbox.registry.client import Client
from jailbox.registry.credentials import Keychain
from jailbox.registry.events import Done, Event, Moved, Resolved, Retried, Warned
from jailbox.registry.pull import Pulled, pull
from jailbox.registry.settings import Endpoint, Settings
from jailbox.spec.platform import Platform
from jailbox.spec.reference import Reference
from jailbox.testing import Habits, Registry
from tests.registries import HASTY, Made, Shelf, index_of, make, put

AMD64 = Platform.parse("linux/amd64")
ARM = Platform.parse("linux/arm/v7")


def get(
    client: Client,
    reference: Reference,
    shelf: Shelf | None = None,
    platform: Platform = AMD64,
    events: list[Event] | None = None,
    timeout: float | None = None,
) -> Pulled:
    """Pull, in short."""
    heard = None if events is None else events.append
    return pull(
        client,
        reference,
        shelf or Shelf(),
        platform=platform,
        on_event=heard,
        timeout=timeout,
    )


class TestWhole:
    def test_everything_comes(
        self, registry: Registry, client: Client, base: Reference
    ) -> None:
        """IMG-02: manifest, config and layers arrive as the bytes that they are."""
        made, shelf = make(3), Shelf()
        put(registry, "group/base", made)
        pulled = get(client, base, shelf)

        assert pulled.top == pulled.manifest == made.top
        assert shelf.blobs == made.blobs
        assert shelf.documents == {made.top.digest: made.documents[made.top.digest][1]}
        assert pulled.document is not None
        diff_ids = pulled.document.diff_ids
        kept = sorted(shelf.layers, key=lambda layer: len(layer.diff_ids))
        assert [layer.diff_ids for layer in kept] == [diff_ids[:n] for n in (1, 2, 3)]

    def test_nothing_comes_twice(
        self, registry: Registry, client: Client, base: Reference
    ) -> None:
        """What is there is not fetched again: only the manifest is looked at."""
        put(registry, "group/base", make())
        shelf = Shelf()
        get(client, base, shelf)
        registry.requests.clear()
        events: list[Event] = []
        get(client, base, shelf, events=events)

        assert [each.method for each in registry.requests] == ["GET"]
        assert [each.how for each in events if isinstance(each, Done)] == [
            "present"
        ] * 3

    def test_by_digest(
        self, registry: Registry, client: Client, base: Reference
    ) -> None:
        """An image can be named by digest; a tag beside it does not count."""
        made = make()
        put(registry, "group/base", made, tag=None)
        name = attrs.evolve(base, tag="no-such-tag", digest=made.top.digest)

        assert get(client, name).top == made.top

    def test_latest(self, registry: Registry, client: Client, base: Reference) -> None:
        """A name without a tag means the tag latest."""
        put(registry, "group/base", make(), tag="latest")

        get(client, attrs.evolve(base, tag=None))
        assert registry.asked("GET", "/manifests/latest") == 1

    def test_events(self, registry: Registry, client: Client, base: Reference) -> None:
        """What happens is told in values: the name resolved once, each blob done."""
        made = make(big=200_000)
        put(registry, "group/base", made)
        events: list[Event] = []
        get(client, base, events=events)

        assert [each for each in events if isinstance(each, Resolved)] == [
            Resolved(str(base), made.top.digest, registry.url)
        ]
        done = {each.digest: each for each in events if isinstance(each, Done)}
        assert set(done) == set(made.blobs)
        assert all(each.how == "received" for each in done.values())
        assert all(isinstance(each, Resolved | Done | Moved) for each in events)

    def test_a_failing_listener_ends_it(
        self, registry: Registry, client: Client, base: Reference
    ) -> None:
        """What a callback raises comes out of the call."""
        put(registry, "group/base", make())

        def tired(_: Event) -> None:
            raise KeyError("enough")

        with pytest.raises(KeyError, match="enough"):
            pull(client, base, Shelf(), platform=AMD64, on_event=tired)

    def test_no_thread_is_left(
        self, registry: Registry, client: Client, base: Reference
    ) -> None:
        """The threads of a pull end with it."""
        put(registry, "group/base", make(8))
        get(client, base)

        names = [each.name for each in threading.enumerate()]
        assert not [name for name in names if "jailbox-registry" in name]


class TestPlatforms:
    @pytest.fixture
    def images(self) -> dict[str, Made]:
        """Return an image for each of some machines."""
        names = ("linux/amd64", "linux/arm64", "linux/arm/v6")
        return {name: make(platform=name) for name in names}

    def test_chosen(
        self,
        registry: Registry,
        client: Client,
        base: Reference,
        images: dict[str, Made],
    ) -> None:
        """ARC-01: of an index, the image for the machine comes, and nothing else."""
        made = index_of(images)
        put(registry, "group/base", made)
        shelf = Shelf()
        pulled = get(client, base, shelf, ARM)

        assert pulled.top == made.top
        assert pulled.manifest.digest == images["linux/arm/v6"].top.digest
        assert set(shelf.blobs) == set(images["linux/arm/v6"].blobs)
        assert made.top.digest in shelf.documents

    def test_none(
        self,
        registry: Registry,
        client: Client,
        base: Reference,
        images: dict[str, Made],
    ) -> None:
        """Where there is no image for the machine, those that there are are listed."""
        put(registry, "group/base", index_of(images))

        with pytest.raises(NotFound, match="linux/amd64, linux/arm64, linux/arm/v6"):
            get(client, base, platform=Platform.parse("linux/s390x"))

    def test_a_single_manifest_for_another_machine(
        self, registry: Registry, client: Client, base: Reference
    ) -> None:
        """What the config says counts; by request it is a warning."""
        put(registry, "group/base", make(platform="linux/arm64"))
        events: list[Event] = []

        with pytest.raises(NotFound, match="linux/arm64"):
            get(client, base)
        pull(
            client,
            base,
            Shelf(),
            platform=AMD64,
            insist=False,
            on_event=events.append,
        )
        assert any(
            isinstance(each, Warned) and "linux/arm64" in each.message
            for each in events
        )

    def test_the_tag_moves(self, registry: Registry, base: Reference) -> None:
        """REG13: a tag that moves meanwhile does not mix two images."""
        old = index_of({"linux/amd64": make(1)})
        new = index_of({"linux/amd64": make(3)})
        put(registry, "group/base", old)
        moved: list[Event] = []

        def move(event: Event) -> None:
            if isinstance(event, Resolved):
                put(registry, "group/base", new)
                moved.append(event)

        shelf = Shelf()
        with registry.client(settings=HASTY) as client:
            pulled = pull(client, base, shelf, platform=AMD64, on_event=move)

        assert moved
        assert pulled.top == old.top
        assert set(shelf.blobs) == set(old.blobs)
        assert registry.asked("GET", "/manifests/1") == 1


class TestKinds:
    @pytest.mark.parametrize("docker", [False, True])
    def test_families(
        self, registry: Registry, client: Client, base: Reference, *, docker: bool
    ) -> None:
        """Docker's and OCI's images are both read."""
        made = index_of({"linux/amd64": make(docker=docker)}, docker=docker)
        put(registry, "group/base", made)

        assert get(client, base).document is not None

    def test_artifact(
        self, registry: Registry, client: Client, base: Reference
    ) -> None:
        """What is no image is kept as blobs, and said not to be one."""
        made, shelf = make(config=b"{}"), Shelf()
        put(registry, "group/base", made)
        pulled = get(client, base, shelf)

        assert pulled.document is None
        assert shelf.layers == []
        assert shelf.blobs == made.blobs

    def test_schema_1(
        self, registry: Registry, client: Client, base: Reference
    ) -> None:
        """IMG-07: the first kind of manifest is refused with a sentence."""
        registry.content.add_manifest(
            "group/base",
            b'{"schemaVersion": 1}',
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            "1",
        )
        with pytest.raises(UnsupportedMediaType, match="schema 1"):
            get(client, base)

    @pytest.mark.parametrize(
        "said", ["", "application/json", "text/plain; charset=utf-8"]
    )
    def test_sloppy_content_type(
        self, registry: Registry, client: Client, base: Reference, said: str
    ) -> None:
        """A registry that does not say what it sends is understood all the same."""
        registry.habits = Habits(content_type=said)
        put(registry, "group/base", index_of({"linux/amd64": make()}))

        get(client, base)

    def test_a_false_content_type(
        self, registry: Registry, client: Client, base: Reference
    ) -> None:
        """IMG3: what is called something else than it calls itself is refused."""
        put(registry, "group/base", make())
        registry.habits = Habits(content_type="application/vnd.oci.image.index.v1+json")
        with pytest.raises((Malformed, UnsupportedMediaType)):
            get(client, base)

    @pytest.mark.parametrize(
        "habits",
        [
            Habits(chunked=True),
            Habits(no_length=True),
            Habits(gzip=True),
            Habits(lower_headers=True),
            Habits(no_digest_header=True),
            Habits(strict_accept=True),
        ],
        ids=repr,
    )
    def test_habits(
        self, registry: Registry, client: Client, base: Reference, habits: Habits
    ) -> None:
        """However a registry frames what it sends, the bytes are the same."""
        registry.habits = habits
        made, shelf = make(big=300_000), Shelf()
        put(registry, "group/base", made)
        get(client, base, shelf)

        assert shelf.blobs == made.blobs


class TestBroken:
    @pytest.mark.parametrize("part", ["layer", "config", "manifest"])
    @pytest.mark.parametrize("fault", ["corrupt", "short", "long"])
    def test_wrong_bytes(
        self, registry: Registry, client: Client, base: Reference, part: str, fault: str
    ) -> None:
        """IMG-02: a wrong byte, one too few or one too many: nothing is kept of it."""
        registry.habits = Habits(**{fault: part})  # type: ignore[arg-type]
        put(registry, "group/base", make(1))
        shelf = Shelf()

        with pytest.raises((DigestMismatch, Malformed)) as caught:
            get(client, base, shelf)
        assert "sha256" in str(caught.value)
        assert len(registry.requests) <= 10
        assert shelf.layers == []

    @pytest.mark.parametrize("part", ["layer", "config", "manifest"])
    def test_cut_each_time(
        self, registry: Registry, client: Client, base: Reference, part: str
    ) -> None:
        """A connection that breaks each time is an error after a few attempts."""
        registry.habits = Habits(cut=part, no_range=True)  # type: ignore[arg-type]
        put(registry, "group/base", make(1))

        with pytest.raises(RegistryError, match="broke"):
            get(client, base)
        assert len(registry.requests) <= 10

    def test_resumed(self, registry: Registry, client: Client, base: Reference) -> None:
        """REG-04: of a blob that broke off in the middle, only the rest is fetched."""
        registry.habits = Habits(drop=1)
        made, shelf, events = make(1, big=1_000_000), Shelf(), list[Event]()
        put(registry, "group/base", made)
        get(client, base, shelf, events=events)

        ranges = [each.headers.get("range", "") for each in registry.requests]
        begun = [int(each[6:-1]) for each in ranges if each]
        assert len(begun) == 1
        assert 400_000 < begun[0] <= 600_000
        assert shelf.blobs == made.blobs
        assert any(isinstance(each, Retried) for each in events)
        assert shelf.begun == 2

    @pytest.mark.parametrize("fault", ["no_range", "wrong_range"])
    def test_bad_ranges(
        self, registry: Registry, client: Client, base: Reference, fault: str
    ) -> None:
        """REG14: without ranges, or with wrong ones, the right bytes come still."""
        registry.habits = Habits(drop=1, **{fault: True})  # type: ignore[arg-type]
        made, shelf = make(1, big=400_000), Shelf()
        put(registry, "group/base", made)
        get(client, base, shelf)

        assert shelf.blobs == made.blobs

    def test_changed_meanwhile(
        self, registry: Registry, client: Client, base: Reference
    ) -> None:
        """REG14: if the rest is of something else, it begins anew, once."""
        registry.habits = Habits(drop=1)
        made, shelf = make(1, big=400_000), Shelf()
        put(registry, "group/base", made)
        blobs = registry.content.at("group/base").blobs
        layer = max(blobs, key=lambda digest: len(blobs[digest]))
        right = blobs[layer]
        blobs[layer] = bytes(len(right))

        def mend(event: Event) -> None:
            if isinstance(event, Retried):
                blobs[layer] = right

        pull(client, base, shelf, platform=AMD64, on_event=mend)

        assert shelf.blobs == made.blobs
        assert shelf.begun == 3

    def test_missing_layer(
        self, registry: Registry, client: Client, base: Reference
    ) -> None:
        """A blob that is not there is named, with what the registry says."""
        made = make(1)
        put(registry, "group/base", made)
        blobs = registry.content.at("group/base").blobs
        lost = next(
            d for d in blobs if registry.content.part("group/base", d) == "layer"
        )
        del blobs[lost]

        with pytest.raises(RegistryError, match=f"404 blob {lost}: not found"):
            get(client, base)

    def test_missing_tag(
        self, registry: Registry, client: Client, base: Reference
    ) -> None:
        """An image that is not there is an ImageNotFound that names both."""
        with pytest.raises(ImageNotFound, match="manifest unknown") as caught:
            get(client, base)
        assert base.familiar() in str(caught.value)

    def test_one_failure_ends_the_others(
        self, registry: Registry, client: Client, base: Reference
    ) -> None:
        """A blob that fails ends the ones that are under way, at once."""
        made = make(4, big=300_000)
        put(registry, "group/base", made)
        blobs = registry.content.at("group/base").blobs
        small = min(
            (d for d in blobs if registry.content.part("group/base", d) == "layer"),
            key=lambda digest: len(blobs[digest]),
        )
        del blobs[small]
        registry.habits = Habits(drip=0.5)
        began = time.monotonic()

        with pytest.raises(RegistryError, match="404"):
            get(client, base)
        # The others would take a minute, drop by drop.
        assert time.monotonic() - began < 2


class TestPatience:
    def test_too_many_then_well(
        self, registry: Registry, client: Client, base: Reference
    ) -> None:
        """REG-03: after 429 it is tried again."""
        put(registry, "group/base", make())
        registry.habits = Habits(too_many=2)
        events: list[Event] = []
        get(client, base, events=events)

        assert sum(isinstance(each, Retried) for each in events) == 2

    def test_too_many_for_ever(
        self, registry: Registry, client: Client, base: Reference
    ) -> None:
        """REG-03: 429 for ever is RateLimited, which says when to come back."""
        registry.habits = Habits(too_many=1000, retry_after="3600")

        with pytest.raises(RateLimited, match="come back at") as caught:
            get(client, base)
        assert caught.value.retry_after == 3600
        assert caught.value.reset is not None
        assert len(registry.requests) == 1

    @pytest.mark.slow
    @pytest.mark.parametrize("timeout", [0.3, 0.6])
    def test_deadline(
        self, registry: Registry, client: Client, base: Reference, timeout: float
    ) -> None:
        """A timeout is a deadline for all of it, though bytes come all the time."""
        put(registry, "group/base", make())
        registry.habits = Habits(drip=0.05)
        began = time.monotonic()

        with pytest.raises(DeadlineExceeded, match="pulling"):
            get(client, base, timeout=timeout)
        assert time.monotonic() - began < timeout + 0.3

    def test_deadline_while_waiting(
        self, registry: Registry, client: Client, base: Reference
    ) -> None:
        """A pause that is longer than what is left is not begun."""
        registry.habits = Habits(unavailable=1000, retry_after="1")
        began = time.monotonic()

        with pytest.raises((DeadlineExceeded, RegistryError)):
            get(client, base, timeout=0.01)
        assert time.monotonic() - began < 0.3


class TestMirrors:
    def through(self, registry: Registry, *mirrors: str, **more: Endpoint) -> Client:
        """Make a client that asks mirrors first."""
        endpoints = {
            registry.address: Endpoint(plain_http=True, mirrors=mirrors),
            **{
                mirror.partition("/")[0]: Endpoint(plain_http=True)
                for mirror in mirrors
            },
            **more,
        }
        settings: Settings = HASTY
        return Client(endpoints=endpoints, keychain=Keychain(), settings=settings)

    def test_asked_first(self, registry: Registry, base: Reference) -> None:
        """REG-05: a mirror that has everything is enough; it is told whose they are."""
        with Registry() as mirror:
            put(mirror, "cache/group/base", made := make())
            with self.through(registry, f"{mirror.address}/cache") as client:
                pulled = get(client, base)

            assert pulled.top == made.top
            assert registry.requests == []
            assert {each.query["ns"] for each in mirror.requests} == {registry.address}

    @pytest.mark.parametrize(
        "habits", [Habits(), Habits(unavailable=99), Habits(auth="basic")]
    )
    def test_of_no_use(
        self, registry: Registry, base: Reference, habits: Habits
    ) -> None:
        """A mirror that has nothing, fails or lets nobody in is a warning."""
        put(registry, "group/base", make())
        events: list[Event] = []
        with (
            Registry(habits) as mirror,
            self.through(registry, mirror.address) as client,
        ):
            get(client, base, events=events)

        assert any(isinstance(each, Warned) for each in events)

    def test_gone(self, registry: Registry, base: Reference) -> None:
        """A mirror that is not there is passed over."""
        put(registry, "group/base", make())
        with Registry() as mirror:
            address = mirror.address
        with self.through(registry, address) as client:
            get(client, base)

    @pytest.mark.parametrize("fault", ["corrupt", "short", "long"])
    def test_lying(self, registry: Registry, base: Reference, fault: str) -> None:
        """A mirror with wrong blobs does no harm: the registry has the right ones."""
        put(registry, "group/base", made := make())
        shelf = Shelf()
        with Registry(Habits(**{fault: "layer"})) as mirror:  # type: ignore[arg-type]
            put(mirror, "group/base", made)
            with self.through(registry, mirror.address) as client:
                get(client, base, shelf)

        assert shelf.blobs == made.blobs

    def test_a_tag_is_the_mirrors_only_if_it_answers(
        self, registry: Registry, base: Reference
    ) -> None:
        """What the mirror resolved is taken, by digest, wherever it is."""
        put(registry, "group/base", make(2))
        old = make(1)
        with Registry() as mirror:
            put(mirror, "group/base", old)
            with self.through(registry, mirror.address) as client:
                assert get(client, base).top == old.top
