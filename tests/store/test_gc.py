"""Garbage: what goes, what stays, and that it never matters when."""

import io
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jailbox.errors import DeadlineExceeded, StoreError
from jailbox.spec.digest import Digest
from jailbox.store.store import Store
from tests.store.images import LAYER, add_image, add_layers, named, open_store
from tests.store.workshops import PlainMeasured, PlainWorkshop, tar_of

LAYERS = [tar_of({"a": "1"}), tar_of({"b": "2"})]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Return a store with an image called base."""
    with open_store(tmp_path / "store") as store:
        add_image(store, {"x": "1"}, name="base")
        yield store


def everything(store: Store) -> list[str]:
    """Name all files of the store but for those of the two locks that stay."""
    return sorted(
        str(path.relative_to(store.path))
        for path in Path(store.path).rglob("*")
        if not path.is_dir() and path.parent.name != "locks"
    )


class TestCollecting:
    def test_nothing_that_is_needed_goes(self, store: Store) -> None:
        """
        In a store without garbage gc does nothing, once or twice.
        """
        before = everything(store)
        first, second = store.gc(), store.gc()

        assert (first.blobs, first.layers, first.leftovers) == (0, 0, 0)
        assert first == second
        assert everything(store) == before

    def test_what_nothing_needs_goes(self, store: Store) -> None:
        """
        Blobs and layers without an image go, with their records.
        """
        before = everything(store)
        add_layers(store, LAYERS)
        store.blobs.put(b"alone")
        collected = store.gc()

        assert (collected.layers, collected.blobs) == (2, 3)
        assert everything(store) == before

    def test_an_addition_in_progress_stays(self, store: Store) -> None:
        """
        What was added since `adding` began stays, also what was there before and was
        only found; afterwards it is garbage.
        """
        there = store.blobs.put(b"there")
        with store.adding():
            new = store.blobs.put(b"new")
            assert store.blobs.has(there)
            (layer, _) = add_layers(store, LAYERS)
            with open_store(store.path) as other:
                other.gc()
            assert store.blobs.has(new)
            assert store.blobs.has(there)
            assert store.layers.get(layer.tree) == layer
        store.gc()
        assert not store.blobs.has(new)
        assert store.layers.list() == [store.get("base").layers[0].tree]

    def test_additions_nest(self, store: Store) -> None:
        """
        What was added in an inner block stays until the end of the outer one.
        """
        with store.adding():
            with store.adding():
                blob = store.blobs.put(b"new")
            store.gc()
            assert store.blobs.has(blob)
        assert os.listdir(f"{store.path}/leases") == []

    def test_what_is_being_made_stays(self, store: Store) -> None:
        """
        A blob that is half written, and a layer that is being unpacked, are not
        leftovers.
        """
        with store.blobs.writer() as writer:
            writer.write(b"half")
            assert store.gc().leftovers == 0
            writer.write(b" and half")
            with store.adding():
                digest = writer.commit()
                assert store.blobs.read(digest) == b"half and half"

    def test_a_layer_being_unpacked_stays(self, tmp_path: Path) -> None:
        """
        A layer that is being unpacked is not disturbed by a gc, nor is it when done.
        """

        class Slow(PlainWorkshop):
            def measure(self, tree: int) -> PlainMeasured:
                assert own.gc().leftovers == 0
                return super().measure(tree)

        with open_store(tmp_path / "slow", Slow()) as own, own.adding():
            record = own.layers.add(io.BytesIO(LAYERS[0]), media_type=LAYER)
            own.gc()

            assert own.layers.get(record.tree) == record

    def test_leftovers_go(self, store: Store) -> None:
        """
        What the dead were making, and what they had begun to delete, goes.
        """
        tree = Path(store.path, "tmp/0011223344556677/root/deep/er")
        tree.mkdir(parents=True)
        (tree / "file").write_text("...")
        Path(store.path, "tmp/file").write_text("...")
        Path(store.path, "tmp/file.old").write_text("...")
        Path(store.path, "trash/0011223344556677/root").mkdir(parents=True)
        Path(store.path, "trash/file").write_text("...")
        Path(store.path, "leases/0011223344556677").write_text("blob sha256:...")
        Path(store.path, "trees", "ab" * 32, "root").mkdir(parents=True)
        Path(store.path, "locks/layer-x").touch()
        collected = store.gc()

        assert collected.leftovers == 5
        assert collected.layers == 1
        for room in ("tmp", "trash", "leases"):
            assert os.listdir(f"{store.path}/{room}") == []
        assert len(os.listdir(f"{store.path}/trees")) == 1
        assert sorted(os.listdir(f"{store.path}/locks")) == ["gate", "gc"]

    def test_cln05_closed_directories_are_deleted(self, store: Store) -> None:
        """
        Trees with directories that not even their owner may enter are deleted.
        """
        tree = store.get("base").layers[0].tree
        closed = Path(store.layers.path(tree), "closed/inner")
        closed.mkdir(parents=True)
        (closed / "x").touch()
        closed.chmod(0)
        closed.parent.chmod(0)
        store.remove(named("base"))

        assert store.gc().layers == 1
        assert os.listdir(f"{store.path}/trash") == []

    def test_a_deletion_that_fails_is_gone_on_with(self, tmp_path: Path) -> None:
        """
        A tree that cannot be deleted now is invisible, and goes with the next gc.
        """

        class Failing(PlainWorkshop):
            fails = True

            def remove(self, parent: int, name: str) -> None:
                if self.fails:
                    raise StoreError("delete", name, 5)
                super().remove(parent, name)

        workshop = Failing()
        with open_store(tmp_path / "failing", workshop) as store:
            add_image(store, {"a": "1"}, name="base")
            store.remove(named("base"))
            with pytest.raises(StoreError, match="EIO"):
                store.gc()
            assert store.layers.list() == []
            assert len(os.listdir(f"{store.path}/trash")) == 1
            workshop.fails = False
            assert store.gc().leftovers == 1
            assert os.listdir(f"{store.path}/trash") == []

    def test_waiting_for_additions_ends(self, store: Store) -> None:
        """
        A gc waits for an addition only as long as it was told to.
        """
        with store._additions._gc_lock.shared():
            error: list[BaseException] = []

            def collect() -> None:
                try:
                    store.gc(timeout=0.1)
                except DeadlineExceeded as caught:
                    error.append(caught)

            thread = threading.Thread(target=collect)
            thread.start()
            thread.join()

        assert "waiting for the lock of the store" in str(error[0])


class TestClocks:
    @pytest.mark.parametrize("years", [-10, 10])
    def test_sto16_gc_does_not_look_at_clocks(
        self, store: Store, monkeypatch: pytest.MonkeyPatch, years: int
    ) -> None:
        """
        After a jump of the clock by ten years gc removes the same, and leases hold.
        """
        garbage = store.blobs.put(b"garbage")
        for path in Path(store.path).rglob("*"):
            if path.is_file():
                os.utime(path, (time.time() - years * 3e7,) * 2)
        then = time.time() + years * 31_557_600
        monkeypatch.setattr(time, "time", lambda: then)

        with store.lease(named("base")) as lease, store.blobs.writer() as writer:
            writer.write(b"half")
            collected = store.gc()
            assert (collected.blobs, collected.layers, collected.leftovers) == (1, 0, 0)
            assert store.get("base") == lease.record
        assert not store.blobs.has(garbage)


def test_blobs_of_both_algorithms_are_collected(store: Store) -> None:
    """
    A blob is garbage whatever algorithm names it.
    """
    digest = store.blobs.put(b"x", Digest.of(b"x", "sha512"))

    assert store.gc().blobs == 1
    assert not store.blobs.has(digest)
