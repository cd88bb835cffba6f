"""Layers: unpacked once, visible only when whole."""

import io
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from jailbox.errors import ContentError, DigestMismatch, NotFound, StoreError
from jailbox.linux.workshop import DEFAULT_POLICY, UnpackPolicy
from jailbox.spec.digest import Digest
from jailbox.spec.document import chain_ids
from jailbox.store.owners import Left, Noted, Owner
from jailbox.store.store import Store
from tests.store.images import LAYER, add_layers, open_store
from tests.store.workshops import PlainUnpacked, PlainWorkshop, tar_of

BASE = tar_of({"etc": None, "etc/motd": "hi", "bin": None, "bin/sh": "#!"})
ALONE = tar_of({"opt": None, "opt/x": "1"})
LINKED = tar_of({"etc": None, "etc/second": ("link", "etc/motd")})


@pytest.fixture
def workshop() -> PlainWorkshop:
    """Return who unpacks."""
    return PlainWorkshop()


@pytest.fixture
def store(tmp_path: Path, workshop: PlainWorkshop) -> Iterator[Store]:
    """Return an empty store."""
    with open_store(tmp_path / "store", workshop) as store:
        yield store


def leftovers(store: Store) -> list[str]:
    """Name what is left of attempts."""
    return [
        name for room in ("tmp", "trash") for name in os.listdir(f"{store.path}/{room}")
    ]


class TestAdding:
    def test_a_layer_is_a_tree(self, store: Store) -> None:
        """
        A layer that was added is a directory with its files, and a record.
        """
        (record,) = add_layers(store, [BASE])

        assert record.diff_id == record.tree == record.blob == Digest.of(BASE)
        assert (record.size, record.entries) == (len(BASE), 4)
        assert Path(store.layers.path(record.tree), "etc/motd").read_text() == "hi"
        assert store.layers.get(record.tree) == record
        assert leftovers(store) == []

    def test_adding_again_unpacks_nothing(
        self, store: Store, workshop: PlainWorkshop
    ) -> None:
        """
        A layer that is there is not unpacked again.
        """
        (first,) = add_layers(store, [BASE])
        (second,) = add_layers(store, [BASE])

        assert first == second
        assert workshop.unpacked == 1

    def test_a_layer_that_stands_alone_is_shared(
        self, store: Store, workshop: PlainWorkshop
    ) -> None:
        """
        A layer that needs nothing below it has one tree, whatever is below it.
        """
        one = add_layers(store, [BASE, ALONE])[1]
        other = add_layers(store, [LINKED, ALONE])[1]

        assert one == other
        assert one.tree == Digest.of(ALONE)
        assert workshop.unpacked == 3

    def test_a_layer_that_needs_others_is_named_by_its_chain(
        self, store: Store, workshop: PlainWorkshop
    ) -> None:
        """
        A layer with a hard link to a file below is unpacked again on top of its
        parents, and its tree is named by all of them.
        """
        base, linked = add_layers(store, [BASE, LINKED])

        assert linked.tree == chain_ids([Digest.of(BASE), Digest.of(LINKED)])[1]
        assert linked.diff_id == Digest.of(LINKED)
        assert linked.lowers == (base.tree,)
        assert Path(store.layers.path(linked.tree), "etc/second").read_text() == "hi"
        assert workshop.unpacked == 3
        assert store.layers.find(linked.diff_id, [base]) == linked
        assert store.layers.find(linked.diff_id) is None

    @pytest.mark.parametrize("known", [True, False])
    def test_a_stream_is_read_once(self, store: Store, known: bool) -> None:  # noqa: FBT001
        """
        A layer can come from a stream that cannot be read again, on top of others,
        with or without its digest being known.
        """

        class Once(io.RawIOBase):
            def __init__(self) -> None:
                self._file = io.BytesIO(LINKED)

            def read(self, size: int = -1) -> bytes:
                return self._file.read(min(size, 100))

        base = add_layers(store, [BASE])
        record = store.layers.add(
            Once(),
            media_type=LAYER,
            diff_id=Digest.of(LINKED) if known else None,
            parents=base,
        )

        assert record.diff_id == Digest.of(LINKED)
        assert record.blob is None
        assert Path(store.layers.path(record.tree), "etc/second").read_text() == "hi"
        assert leftovers(store) == []

    def test_the_wrong_layer_does_not_enter(self, store: Store) -> None:
        """
        A layer whose plain tar has another digest than was said is refused, and
        nothing of it stays.
        """
        with pytest.raises(DigestMismatch):
            store.layers.add(
                store.blobs.put(BASE), media_type=LAYER, diff_id=Digest.of(ALONE)
            )

        assert store.layers.list() == []
        assert os.listdir(f"{store.path}/trees") == []
        assert leftovers(store) == []

    def test_what_is_no_tar_does_not_enter(self, store: Store) -> None:
        """
        What the workshop refuses is refused with its error, and nothing of it stays.
        """
        with pytest.raises(ContentError, match="no tar"):
            store.layers.add(io.BytesIO(b"x" * 5000), media_type=LAYER)

        assert store.layers.list() == []
        assert leftovers(store) == []

    def test_what_a_source_raises_is_raised(self, store: Store) -> None:
        """
        An error while a layer is read is told, not what comes of half an archive.
        """

        class Broken(io.RawIOBase):
            def read(self, size: int = -1) -> bytes:
                raise ContentError("cut short")

        with pytest.raises(ContentError, match="cut short"):
            store.layers.add(Broken(), media_type=LAYER)
        assert leftovers(store) == []
        assert threading.active_count() == 1

    def test_a_refusal_in_the_middle_ends_the_source(self, store: Store) -> None:
        """
        If the workshop gives up early, a source that has much more to say does not
        hold up anybody.
        """
        endless = io.BytesIO(b"x" * (8 << 20))

        with pytest.raises(ContentError):
            store.layers.add(endless, media_type=LAYER)
        assert threading.active_count() == 1

    def test_what_follows_the_archive_is_part_of_the_layer(self, store: Store) -> None:
        """
        Bytes behind the end of the archive belong to the digest of the layer.
        """
        padded = BASE + b"\0" * (3 << 20)
        record = store.layers.add(io.BytesIO(padded), media_type=LAYER)

        assert record.diff_id == Digest.of(padded)
        assert record.size == len(padded)

    def test_a_missing_blob(self, store: Store) -> None:
        """
        A layer whose blob is not there cannot be added.
        """
        with pytest.raises(NotFound, match="no blob"):
            store.layers.add(Digest.of(BASE), media_type=LAYER)
        assert leftovers(store) == []

    def test_two_threads_do_it_once(
        self, store: Store, workshop: PlainWorkshop
    ) -> None:
        """
        Several that add the same layer at once get one tree, unpacked once.
        """
        digest = store.blobs.put(BASE)
        records = []

        def add() -> None:
            records.append(store.layers.add(digest, media_type=LAYER, diff_id=digest))

        threads = [threading.Thread(target=add) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(records) == 4
        assert len(set(records)) == 1
        assert workshop.unpacked == 1

    def test_a_tree_without_a_record_is_nobodys(
        self, store: Store, workshop: PlainWorkshop
    ) -> None:
        """
        A tree whose maker died before its record was there is not trusted: the layer
        is unpacked anew.
        """
        digest = Digest.of(BASE)
        Path(f"{store.path}/trees/{digest.hex}/root").mkdir(parents=True)
        (record,) = add_layers(store, [BASE])

        assert Path(store.layers.path(record.tree), "etc/motd").exists()
        assert workshop.unpacked == 1

    def test_a_record_without_a_tree_is_nothing(self, store: Store) -> None:
        """
        A record whose tree has gone is no layer; adding it again mends that.
        """
        (record,) = add_layers(store, [BASE])
        os.rename(f"{store.path}/trees/{record.tree.hex}", f"{store.path}/tmp/away")

        assert store.layers.get(record.tree) is None
        assert add_layers(store, [BASE]) == [record]
        assert Path(store.layers.path(record.tree), "etc/motd").exists()

    def test_a_full_disk_in_the_workshop(self, tmp_path: Path) -> None:
        """
        What the workshop tells about the disk is told, and nothing stays.
        """

        class Full(PlainWorkshop):
            def unpack(
                self,
                stream: int,
                target: int,
                *,
                lowers: Sequence[int] = (),
                bottom: bool = False,
                policy: UnpackPolicy = DEFAULT_POLICY,
            ) -> PlainUnpacked:
                os.mkdir("half", dir_fd=target)
                raise StoreError("unpack a layer", "half", 28)

        with open_store(tmp_path / "full", Full()) as store:
            with pytest.raises(StoreError, match="ENOSPC"):
                store.layers.add(io.BytesIO(BASE), media_type=LAYER)
            assert leftovers(store) == []


class TestOwners:
    def test_owners_are_kept_beside_the_tree(
        self, store: Store, workshop: PlainWorkshop
    ) -> None:
        """
        Owners and devices that a tree cannot have are kept for when it is written
        again (IMG-09).
        """
        owner = Owner(b"etc/sh\xffdow", 0, 42, 0o100640)
        workshop.owners = (owner, Owner(b"home", 205001, 5000, 0o40755))
        (record,) = add_layers(store, [BASE])

        assert store.layers.noted(record) == Noted(workshop.owners)
        assert "owners" not in os.listdir(store.layers.path(record.tree))

    def test_a_tree_that_has_them_has_nothing_noted(self, store: Store) -> None:
        """
        Beside a tree with its owners nothing is written.
        """
        (record,) = add_layers(store, [BASE])

        assert not store.layers.noted(record)
        assert os.listdir(f"{store.path}/trees/{record.tree.hex}") == ["root"]

    def test_what_is_noted_survives_its_file(self) -> None:
        """
        What is noted is read back as it was, whatever bytes names consist of.
        """
        noted = Noted(
            (Owner(b"\xff\x00n", 1, 2, 0o644),),
            (Left("device", b"dev/x", b"", 0o20600, (1, 3), 0, 0),),
        )

        assert Noted.from_bytes(noted.to_bytes(), "owners") == noted

    def test_sto13_changed_owners_are_not_believed(
        self, store: Store, workshop: PlainWorkshop
    ) -> None:
        """
        Noted owners with one byte changed are an error.
        """
        workshop.owners = (Owner(b"etc", 0, 42, 0o40755),)
        (record,) = add_layers(store, [BASE])
        path = Path(f"{store.path}/trees/{record.tree.hex}/owners")
        path.write_bytes(path.read_bytes().replace(b"42", b"43"))

        with pytest.raises(ContentError, match="owners of a layer have changed"):
            store.layers.noted(record)
