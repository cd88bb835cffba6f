"""Images to a registry, and from one to another."""

import json

import attrs
import pytest

from jailbox.errors import DigestMismatch, NotFound, RegistryError
from jailbox.registry.client import Client
from jailbox.registry.events import Done, Event, Retried
from jailbox.registry.pull import pull
from jailbox.registry.push import copy, push
from jailbox.spec.descriptor import Descriptor
from jailbox.spec.platform import Platform
from jailbox.spec.reference import Reference
from jailbox.testing import Habits, Registry
from tests.registries import HASTY, Made, Shelf, index_of, make, put

AMD64 = Platform.parse("linux/amd64")


def has(registry: Registry, name: str, made: Made, tag: str | None = "1") -> bool:
    """Return whether a registry has all of an image."""
    held = registry.content.at(name)
    whole = {
        str(d): data for d, data in made.blobs.items()
    }.items() <= held.blobs.items()
    documents = {str(digest) for digest in made.documents}
    named = tag is None or held.tags.get(tag) == str(made.top.digest)
    return whole and documents <= set(held.manifests) and named


class TestWhole:
    def test_everything_goes(
        self, registry: Registry, client: Client, base: Reference
    ) -> None:
        """Blobs, manifest and tag arrive, the name last."""
        made = make(3, big=100_000)
        push(client, made.top, made, base)

        assert has(registry, "group/base", made)
        last = registry.requests[-1]
        assert (last.method, last.path) == ("PUT", "/v2/group/base/manifests/1")
        assert last.body == made.documents[made.top.digest][1]
        assert last.headers["content-type"] == made.top.media_type

    def test_nothing_goes_twice(
        self, registry: Registry, client: Client, base: Reference
    ) -> None:
        """REG-01: the second push sends no blob."""
        made = make(3)
        push(client, made.top, made, base)
        registry.requests.clear()
        events: list[Event] = []
        push(client, made.top, made, base, on_event=events.append)

        assert registry.asked("POST") == registry.asked("PATCH") == 0
        assert registry.asked("PUT") == registry.asked("PUT", "/manifests/") == 1
        assert [each.how for each in events if isinstance(each, Done)] == [
            "present"
        ] * 4

    def test_index(self, registry: Registry, client: Client, base: Reference) -> None:
        """An index goes with all that it lists, the inner ones first."""
        inner = index_of({"linux/arm64": make(platform="linux/arm64")})
        made = index_of({"linux/amd64": make(), "": inner})
        push(client, made.top, made, base)

        assert has(registry, "group/base", made)
        put_ = [each.path for each in registry.requests if "/manifests/" in each.path]
        assert put_[-1].endswith("/manifests/1")
        assert put_.index(f"/v2/group/base/manifests/{inner.top.digest}") == 1

    def test_by_digest(
        self, registry: Registry, client: Client, base: Reference
    ) -> None:
        """Without a tag an image is pushed under its digest; a wrong one is refused."""
        made = make()
        name = attrs.evolve(base, tag=None, digest=made.top.digest)
        push(client, made.top, made, name)

        assert has(registry, "group/base", made, tag=None)
        wrong = attrs.evolve(base, digest=make(3).top.digest)
        with pytest.raises(DigestMismatch):
            push(client, made.top, made, wrong)

    def test_incomplete(
        self, registry: Registry, client: Client, base: Reference
    ) -> None:
        """What the source does not have is named, and nothing gets the name."""
        made = make()
        with pytest.raises(NotFound, match="sha256"):
            push(client, made.top, attrs.evolve(made, blobs={}), base)
        assert registry.content.at("group/base").tags == {}

    def test_foreign_layers(
        self, registry: Registry, client: Client, base: Reference
    ) -> None:
        """A layer that is elsewhere, and not here, is not sent and not asked for."""
        made = make()
        document = json.loads(made.documents[made.top.digest][1])
        away = Descriptor.of(
            b"away", "application/vnd.docker.image.rootfs.foreign.diff"
        )
        document["layers"].append(
            {**away.to_document(), "urls": ["http://127.0.0.1:1/away"]}
        )
        data = json.dumps(document).encode()
        top = Descriptor.of(data, made.top.media_type)
        made = attrs.evolve(
            made, top=top, documents={top.digest: (top.media_type, data)}
        )
        push(client, made.top, made, base)

        assert has(registry, "group/base", made)


class TestMount:
    def test_mounted(self, registry: Registry, client: Client, base: Reference) -> None:
        """A blob of another repository of the registry is mounted, not sent."""
        made = make()
        put(registry, "other", made)
        near = [Reference.parse(f"{registry.address}/other")]
        events: list[Event] = []
        push(client, made.top, made, base, near=near, on_event=events.append)

        assert has(registry, "group/base", made)
        assert registry.asked("PUT", "/blobs/") == 0
        assert {each.how for each in events if isinstance(each, Done)} == {"mounted"}

    @pytest.mark.parametrize("path", ["nothing", "other"])
    def test_not_mounted(
        self, registry: Registry, client: Client, base: Reference, path: str
    ) -> None:
        """Where that does not work the blob is sent, and no upload is left open."""
        made = make()
        put(registry, "other", made)
        registry.habits = Habits(no_mount=True)
        near = [Reference.parse(f"{registry.address}/{path}")]
        push(client, made.top, made, base, near=near)

        assert has(registry, "group/base", made)
        assert registry.content.at("group/base").uploads == {}

    def test_of_another_registry(
        self, registry: Registry, client: Client, base: Reference
    ) -> None:
        """Another registry's repositories are of no use, and not told about."""
        made = make()
        near = [Reference.parse("registry.invalid/other")]
        push(client, made.top, made, base, near=near)

        assert not any("mount" in each.query for each in registry.requests)


class TestHabits:
    @pytest.mark.parametrize(
        "habits",
        [
            Habits(location_relative=False),
            Habits(location_query=True),
            Habits(location_query=True, location_relative=False),
            Habits(location_uuid=True),
            Habits(monolithic=True),
            Habits(single_post=True),
            Habits(in_parts=True),
            Habits(in_parts=True, chunk_max=300_000),
            Habits(in_parts=True, chunk_min=1 << 20, location_query=True),
            Habits(chunk_min=1 << 20),
            Habits(head_405=True),
            Habits(failures=1),
            Habits(failures=3),
            Habits(upload_drop=1),
            Habits(unavailable=2),
            Habits(too_many=3),
        ],
        ids=repr,
    )
    def test_arrives(
        self, registry: Registry, client: Client, base: Reference, habits: Habits
    ) -> None:
        """However a registry wants its uploads, they arrive."""
        registry.habits = habits
        made = make(2, big=900_000)
        for _ in range(2):
            push(client, made.top, made, base)

        assert has(registry, "group/base", made)

    def test_repeated(
        self, registry: Registry, client: Client, base: Reference
    ) -> None:
        """REG16: an upload that failed begins anew, after a look whether it arrived."""
        registry.habits = Habits(failures=1)
        made = make(1, config=b"{}")
        events: list[Event] = []
        push(client, made.top, made, base, on_event=events.append)

        heads = registry.asked("HEAD")
        assert heads == len(made.blobs) + 1
        assert sum(isinstance(each, Retried) for each in events) == 1

    def test_refused_for_good(
        self, registry: Registry, client: Client, base: Reference
    ) -> None:
        """A registry that never takes it is an error after a few attempts."""
        registry.habits = Habits(failures=10_000)
        made = make(1)
        with pytest.raises(RegistryError, match="500"):
            push(client, made.top, made, base)
        assert len(registry.requests) < 60


class TestCopy:
    def test_to_another(
        self, registry: Registry, client: Client, base: Reference
    ) -> None:
        """REG-06: an index and all its images get to another registry as they are."""
        made = index_of({"linux/amd64": make(big=200_000), "linux/arm64": make(3)})
        with Registry() as source:
            put(source, "from", made)
            endpoints = {**source.endpoints, **registry.endpoints}
            with Client(
                endpoints=endpoints, keychain=client.keychain, settings=HASTY
            ) as both:
                name = Reference.parse(f"{source.address}/from:1")
                got = copy(both, name, base)

        assert got == made.top
        assert has(registry, "group/base", made)

    def test_within_one(
        self, registry: Registry, client: Client, base: Reference
    ) -> None:
        """Within a registry nothing is fetched but manifests, and nothing sent."""
        made = make()
        put(registry, "from", made)
        copy(client, Reference.parse(f"{registry.address}/from:1"), base)

        assert has(registry, "group/base", made)
        assert registry.asked("GET", "/blobs/") == registry.asked("PUT", "/blobs/") == 0

    def test_one_platform(
        self, registry: Registry, client: Client, base: Reference
    ) -> None:
        """By request the image for one machine alone is copied."""
        wanted = make()
        made = index_of(
            {"linux/arm64": make(platform="linux/arm64"), str(AMD64): wanted}
        )
        put(registry, "from", made)
        source = Reference.parse(f"{registry.address}/from:1")
        copy(client, source, base, platform=AMD64)

        assert has(registry, "group/base", wanted)

    def test_the_source_breaks(
        self, registry: Registry, client: Client, base: Reference
    ) -> None:
        """What breaks off at the source is resumed there, and sent as one."""
        made = make(1, big=900_000)
        with Registry(Habits(drop=1)) as source:
            put(source, "from", made)
            endpoints = {**source.endpoints, **registry.endpoints}
            with Client(
                endpoints=endpoints, keychain=client.keychain, settings=HASTY
            ) as both:
                copy(both, Reference.parse(f"{source.address}/from:1"), base)

        assert has(registry, "group/base", made)

    def test_the_source_lies(
        self, registry: Registry, client: Client, base: Reference
    ) -> None:
        """Wrong bytes of the source are an error about the source; no name is set."""
        made = make(1, big=100_000)
        with Registry(Habits(corrupt="layer")) as source:
            put(source, "from", made)
            endpoints = {**source.endpoints, **registry.endpoints}
            with Client(
                endpoints=endpoints, keychain=client.keychain, settings=HASTY
            ) as both:
                name = Reference.parse(f"{source.address}/from:1")
                with pytest.raises(DigestMismatch, match=source.address):
                    copy(both, name, base)

        assert registry.content.at("group/base").tags == {}


class TestVerbs:
    def test_resolve(self, registry: Registry, client: Client, base: Reference) -> None:
        """REG-06: a name is resolved by one HEAD."""
        made = make()
        put(registry, "group/base", made)

        assert client.resolve(base) == made.top
        assert [each.method for each in registry.requests] == ["HEAD"]

    @pytest.mark.parametrize(
        "habits",
        [
            Habits(head_405=True),
            Habits(no_digest_header=True),
            Habits(content_type="application/json"),
        ],
        ids=repr,
    )
    def test_resolve_by_fetching(
        self, registry: Registry, client: Client, base: Reference, habits: Habits
    ) -> None:
        """Where HEAD does not tell everything, the manifest is fetched."""
        registry.habits = habits
        made = make()
        put(registry, "group/base", made)

        assert client.resolve(base) == made.top
        assert len(registry.requests) == 2

    @pytest.mark.parametrize(
        ("habits", "count", "pages"),
        [
            (Habits(), 3, 1),
            (Habits(page=10), 25, 3),
            (Habits(page=10, link_absolute=True), 20, 2),
            (Habits(null_tags=True), 0, 1),
        ],
        ids=repr,
    )
    def test_tags(
        self,
        registry: Registry,
        client: Client,
        base: Reference,
        habits: Habits,
        count: int,
        pages: int,
    ) -> None:
        """REG-06: tags are listed, page by page."""
        registry.habits = habits
        names = [f"v{n:03}" for n in range(count)]
        registry.content.at("group/base").tags.update(dict.fromkeys(names, "sha256:0"))

        assert client.tags(base) == tuple(names)
        assert len(registry.requests) == pages

    def test_delete(self, registry: Registry, client: Client, base: Reference) -> None:
        """A tag is deleted; by digest the manifest goes, with all its tags."""
        made = make()
        put(registry, "group/base", made)
        put(registry, "group/base", made, tag="2")
        held = registry.content.at("group/base")
        client.delete(base)

        assert set(held.tags) == {"2"}
        client.delete(attrs.evolve(base, digest=made.top.digest))
        assert not held.tags
        assert not held.manifests

    def test_referrers(
        self, registry: Registry, client: Client, base: Reference
    ) -> None:
        """What says something about an image is listed."""
        made = make()
        put(registry, "group/base", made)
        about = make(1, config=b"{}", extra={"subject": made.top.to_document()})
        put(registry, "group/base", about, tag=None)

        found = client.referrers(base)
        assert [each.digest for each in found] == [about.top.digest]

    def test_the_bytes_are_what_pull_gets(
        self, registry: Registry, client: Client, base: Reference
    ) -> None:
        """What was pushed is what is pulled."""
        made, shelf = make(3, docker=True), Shelf()
        push(client, made.top, made, base)
        pulled = pull(client, base, shelf, platform=AMD64)

        assert pulled.top == made.top
        assert shelf.blobs == made.blobs
