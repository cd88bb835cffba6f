"""Images and their names."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from jailbox.errors import (
    ContentError,
    DigestMismatch,
    ImageNotFound,
    InUse,
    JailboxError,
    NotFound,
)
from jailbox.spec.digest import Digest
from jailbox.spec.reference import Reference
from jailbox.store.records import tag_file
from jailbox.store.store import Store
from tests.store.images import (
    add_image,
    add_layers,
    config_of,
    manifest_of,
    named,
    open_store,
)
from tests.store.workshops import tar_of

BASE = {"etc": None, "etc/motd": "hi"}
TOP = {"opt": None, "opt/x": "1"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Return an empty store."""
    with open_store(tmp_path / "store") as store:
        yield store


class TestAdding:
    def test_a_manifest_stays_as_it_arrived(self, store: Store) -> None:
        """
        The manifest of an image is kept byte for byte, spaces and order included.
        """
        layer = tar_of({"a": "1"})
        config = config_of([layer])
        manifest = manifest_of(config, [layer]).replace(b"\n", b"\n\n")
        add_layers(store, [layer])
        store.blobs.put(config)
        record = store.images.add(manifest)

        assert store.images.manifest(record) == manifest
        assert record.digest == Digest.of(manifest)
        assert record.config == Digest.of(config)

    def test_the_config_is_typed(self, store: Store) -> None:
        """
        The config of an image is read into a value.
        """
        record = add_image(store, BASE, config={"Env": ["A=1"], "Cmd": ["sh"]})
        document = store.images.document(record)

        assert document.config.env == {"A": "1"}
        assert document.config.cmd == ("sh",)
        assert document.diff_ids == tuple(layer.diff_id for layer in record.layers)

    def test_adding_again_changes_nothing(self, store: Store) -> None:
        """
        An image that is there is not written again: leases are on its file.
        """
        first = add_image(store, BASE, TOP)
        path = f"{store.path}/records/images/{first.digest.hex}.json"
        before = os.stat(path).st_ino
        second = add_image(store, BASE, TOP)

        assert first == second
        assert os.stat(path).st_ino == before

    @pytest.mark.parametrize("missing", ["config", "layer", "also"])
    def test_nothing_is_visible_without_its_parts(
        self, store: Store, missing: str
    ) -> None:
        """
        An image whose config, layer or further blob is not there is refused.
        """
        layer = tar_of({"a": "1"})
        config = config_of([layer])
        if missing != "layer":
            add_layers(store, [layer])
        if missing != "config":
            store.blobs.put(config)
        also = [Digest.of(b"index")] if missing == "also" else []

        with pytest.raises(NotFound):
            store.images.add(manifest_of(config, [layer]), also=also)
        assert store.images.list() == []

    def test_what_belongs_to_it_is_kept_with_it(self, store: Store) -> None:
        """
        Blobs that came along, like the index it was found in, stay as long as it.
        """
        layer = tar_of({"a": "1"})
        config = config_of([layer])
        with store.adding():
            add_layers(store, [layer])
            store.blobs.put(config)
            index = store.blobs.put(b'{"manifests": []}')
            record = store.images.add(manifest_of(config, [layer]), also=[index])
        store.gc()

        assert store.blobs.has(index)
        store.remove(record.digest)
        store.gc()
        assert not store.blobs.has(index)

    def test_a_config_of_another_image_is_refused(self, store: Store) -> None:
        """
        A manifest and a config with different numbers of layers do not fit.
        """
        one, two = tar_of({"a": "1"}), tar_of({"b": "1"})
        config = config_of([one, two])
        add_layers(store, [one])
        store.blobs.put(config)

        with pytest.raises(ContentError, match="2 diff_ids for 1 layers"):
            store.images.add(manifest_of(config, [one]))


class TestFinding:
    def test_by_name_digest_and_digits(self, store: Store) -> None:
        """
        An image is found by its name, its digest, and the first digits of its digest
        or of its config's, with or without the name of the algorithm.
        """
        record = add_image(store, BASE, name="debian:12")
        add_image(store, TOP, name="other")

        for wish in (
            "debian:12",
            "docker.io/library/debian:12",
            named("debian:12"),
            record.digest,
            record.digest.hex[:12],
            f"sha256:{record.digest.hex[:12]}",
            record.config.hex[:12],
        ):
            assert store.get(wish) == record

    def test_latest_is_meant_if_nothing_is_said(self, store: Store) -> None:
        """
        A name without a tag means ``latest``.
        """
        record = add_image(store, BASE, name="debian")

        assert store.get("debian:latest") == record
        assert list(store.tags.list()) == [named("debian:latest")]

    def test_a_name_with_a_digest_is_a_name_of_its_own(self, store: Store) -> None:
        """
        A name that is pinned to a digest, say of an index, is set and found as such.
        """
        record = add_image(store, BASE)
        pinned = named(f"debian:12@{Digest.of(b'index')}")
        store.tags.set(pinned, record.digest)

        assert store.get(pinned) == record
        assert store.tags.get(named("debian:12")) is None

    def test_digits_that_fit_several(self, store: Store) -> None:
        """
        Digits that begin several digests find none of them, and the error names all.
        """
        records = [add_image(store, {"a": str(n)}) for n in range(2)]
        hexes = [record.digest.hex for record in records]
        path = Path(store.path, "records/images")
        twin = f"{hexes[0][:8]}{hexes[1][8:]}"
        # A made-up digest that begins as another does.
        (path / f"{twin}.json").write_bytes(
            attrs.evolve(records[0], digest=Digest("sha256", twin)).to_bytes()
        )

        with pytest.raises(ImageNotFound) as caught:
            store.images.find(hexes[0][:8])
        assert hexes[0] in str(caught.value.hint)
        assert twin in str(caught.value.hint)

    def test_a_typo_is_told_as_it_was_written(self, store: Store) -> None:
        """
        A name that is not there is told as people write it, with the store.
        """
        with pytest.raises(ImageNotFound) as caught:
            store.get("debain:12")
        assert caught.value.name == "debain:12"
        assert caught.value.where == store.path


class TestTags:
    def test_a_name_moves(self, store: Store) -> None:
        """
        A name that is set again means the new image; the old one stays.
        """
        old = add_image(store, BASE, name="base")
        new = add_image(store, TOP, name="base")

        assert store.get("base") == new
        assert store.get(old.digest) == old
        assert store.tags.of(old.digest) == ()

    def test_untagging_keeps_the_image(self, store: Store) -> None:
        """
        Removing a name from the tags leaves the image.
        """
        record = add_image(store, BASE, name="base")

        assert store.tags.remove(named("base")) == record.digest
        assert store.tags.list() == {}
        assert store.get(record.digest) == record

    @pytest.mark.parametrize(
        "text",
        [
            "ruby:2.2.4",
            "host:5000/a/b:1",
            "localhost/x",
            "[::1]:5000/a/b",
            f"{'a' * 60}.example/{'b' * 120}/{'c' * 60}:{'t' * 128}",
        ],
    )
    def test_any_name_is_a_file(self, store: Store, text: str) -> None:
        """
        Every name has a file of its own, in one directory, however long it is.
        """
        record = add_image(store, BASE)
        store.tags.set(named(text), record.digest)

        assert store.get(text) == record
        assert list(store.tags.list()) == [named(text).tagged()]
        assert len(os.listdir(f"{store.path}/tags")) == 1

    def test_names_do_not_meet_in_a_file(self) -> None:
        """
        Long names that begin alike have different files.
        """
        names = {
            tag_file(Reference.parse(f"reg.example/{'a' * 200}/{n}")) for n in range(9)
        }

        assert len(names) == 9
        assert all(len(name) < 255 for name in names)

    def test_a_record_in_the_wrong_place_is_no_name(self, store: Store) -> None:
        """
        The file of one name, copied to that of another, does not give it the image.
        """
        add_image(store, BASE, name="base")
        there = Path(store.path, tag_file(named("base")))
        Path(store.path, tag_file(named("other"))).write_bytes(there.read_bytes())

        assert store.tags.get(named("other")) is None


class TestRemoving:
    def test_the_last_name_takes_the_image_along(self, store: Store) -> None:
        """
        An image goes with its last name, not before (IMG-11).
        """
        record = add_image(store, BASE, name="one")
        store.tags.set(named("two"), record.digest)
        store.remove(named("one"))

        assert store.get(record.digest) == record
        store.remove(named("two"))
        with pytest.raises(ImageNotFound):
            store.get(record.digest)

    def test_layers_go_with_the_last_image(self, store: Store) -> None:
        """
        A layer that two images have stays until both are gone.
        """
        add_image(store, BASE, name="base")
        both = add_image(store, BASE, TOP, name="top")
        store.remove(named("base"))
        store.gc()

        assert len(store.images.layers(both)) == 2
        store.remove(named("top"))
        assert store.gc().layers == 2
        assert store.layers.list() == []
        assert store.blobs.list() == []
        assert os.listdir(f"{store.path}/trees") == []

    def test_an_image_with_names_is_not_removed_by_digest(self, store: Store) -> None:
        """
        By its digest an image is removed only if it has no names, or by force.
        """
        record = add_image(store, BASE, name="base")

        with pytest.raises(InUse, match="is used by base:latest"):
            store.remove(record.digest)
        assert store.get("base") == record
        store.remove(record.digest, force=True)
        assert store.images.list() == []
        assert store.tags.list() == {}

    def test_what_is_removed_is_gone(self, store: Store) -> None:
        """
        A removed image is not found by anything; removing it again is an error.
        """
        record = add_image(store, BASE, name="base")
        store.remove(named("base"))

        for wish in ("base", record.digest, record.digest.hex[:12]):
            with pytest.raises(ImageNotFound):
                store.get(wish)
        with pytest.raises(ImageNotFound):
            store.remove(record.digest)


class TestDamage:
    def test_sto13_a_flipped_byte_in_any_record_is_found(self, store: Store) -> None:
        """
        Of the records of an image, its layers and its name, no byte can be changed
        without an error where it is read.
        """
        record = add_image(store, BASE, name="base")
        for place in ("tags", "records/images", "records/layers"):
            (path,) = Path(store.path, place).iterdir()
            data = path.read_bytes()
            for at in range(len(data)):
                changed = bytearray(data)
                changed[at] ^= 1
                path.write_bytes(changed)
                with pytest.raises((ContentError, ValueError)) as caught:
                    store.images.layers(store.get("base"))
                assert isinstance(caught.value, JailboxError)
            path.write_bytes(data)
        assert store.get("base") == record

    def test_sto13_a_changed_config_is_not_believed(self, store: Store) -> None:
        """
        A config whose bytes have changed on the disk is an error.
        """
        record = add_image(store, BASE)
        path = Path(store.path, "blobs/sha256", record.config.hex)
        path.chmod(0o600)
        path.write_bytes(path.read_bytes().replace(b"linux", b"minix"))

        with pytest.raises(DigestMismatch):
            store.images.document(record)

    def test_a_damaged_image_can_be_removed(self, store: Store) -> None:
        """
        An image whose record is damaged can be removed, and then gc works again:
        before, nobody knows what it needs, and everything is kept.
        """
        kept = add_image(store, BASE, name="kept")
        record = add_image(store, TOP)
        path = Path(store.path, "records/images", f"{record.digest.hex}.json")
        path.write_bytes(path.read_bytes()[:-9])

        collected = store.gc()
        assert collected.damaged == (record.digest,)
        assert (collected.layers, collected.blobs) == (0, 0)
        store.remove(record.digest)
        assert store.gc().layers == 1
        assert store.images.list() == [kept]


def test_records_are_json(store: Store) -> None:
    """
    Records are JSON that anybody can read.
    """
    add_image(store, BASE, name="base")

    (path,) = Path(store.path, "tags").iterdir()
    document = json.loads(path.read_bytes())
    assert document["record"]["reference"] == "docker.io/library/base:latest"
