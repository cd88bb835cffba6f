"""Blobs: whole or not at all, by digest and size."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from jailbox.errors import DigestMismatch, NotFound
from jailbox.spec.digest import Digest
from jailbox.store.store import Store
from tests.store.images import open_store

DATA = b"some bytes of a layer"
DIGEST = Digest.of(DATA)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Return an empty store."""
    with open_store(tmp_path / "store") as store:
        yield store


def leftovers(store: Store) -> list[str]:
    """Name what is left of attempts."""
    return os.listdir(f"{store.path}/tmp") + os.listdir(f"{store.path}/leases")


class TestWriting:
    def test_what_is_committed_is_there(self, store: Store) -> None:
        """
        Bytes that were committed are found by their digest, and read back.
        """
        with store.blobs.writer() as writer:
            writer.write(DATA[:5])
            writer.write(memoryview(DATA)[5:])

            assert writer.written == len(DATA)
            assert writer.commit() == DIGEST
        assert store.blobs.has(DIGEST, len(DATA))
        assert store.blobs.size(DIGEST) == len(DATA)
        assert store.blobs.read(DIGEST) == DATA
        with store.blobs.open(DIGEST) as file:
            assert file.read() == DATA
        assert leftovers(store) == []

    def test_what_is_not_committed_is_not_there(self, store: Store) -> None:
        """
        Bytes that were not committed leave nothing.
        """
        with store.blobs.writer() as writer:
            writer.write(DATA)

        assert store.blobs.list() == []
        assert leftovers(store) == []

    @pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
    def test_both_algorithms(self, store: Store, algorithm: str) -> None:
        """
        A blob that is expected by SHA-512 is stored by it.
        """
        digest = Digest.of(DATA, algorithm)

        assert store.blobs.put(DATA, digest) == digest
        assert store.blobs.list() == [digest]

    def test_the_wrong_bytes_do_not_enter(self, store: Store) -> None:
        """
        Bytes of another digest are refused, naming both and where they came from.
        """
        with store.blobs.writer(Digest.of(b"x"), origin="example/blob") as writer:
            writer.write(DATA)
            with pytest.raises(DigestMismatch) as caught:
                writer.commit()

        assert caught.value.expected == str(Digest.of(b"x"))
        assert caught.value.actual == str(DIGEST)
        assert caught.value.origin == "example/blob"
        assert store.blobs.list() == []
        assert leftovers(store) == []

    def test_too_few_bytes_do_not_enter(self, store: Store) -> None:
        """
        Fewer bytes than announced are refused, also if nobody told their digest.
        """
        with store.blobs.writer(size=len(DATA) + 1) as writer:
            writer.write(DATA)
            with pytest.raises(DigestMismatch, match="expected 22 bytes, got 21"):
                writer.commit()
        assert leftovers(store) == []

    def test_too_many_bytes_stop_at_once(self, store: Store) -> None:
        """
        The first byte too many is refused, before it is written.
        """
        with store.blobs.writer(size=len(DATA) - 1) as writer:
            with pytest.raises(DigestMismatch):
                writer.write(DATA)
            assert os.fstat(writer.fileno()).st_size == 0

    def test_a_writer_is_used_once(self, store: Store) -> None:
        """
        After commit a writer takes nothing more.
        """
        with store.blobs.writer() as writer:
            writer.commit()
            with pytest.raises(ValueError, match="committed or closed"):
                writer.write(DATA)

    def test_sto9_a_second_copy_is_the_first(self, store: Store) -> None:
        """
        Two writers of the same blob both succeed, and one copy is there.
        """
        with store.blobs.writer(DIGEST) as one, store.blobs.writer(DIGEST) as other:
            one.write(DATA)
            other.write(DATA)
            one.commit()
            first = os.stat(f"{store.path}/blobs/sha256/{DIGEST.hex}").st_ino
            other.commit()

        assert os.stat(f"{store.path}/blobs/sha256/{DIGEST.hex}").st_ino == first
        assert leftovers(store) == []


class TestReading:
    def test_the_wrong_size_is_not_there(self, store: Store) -> None:
        """
        A blob of another length than is asked for counts as missing.
        """
        store.blobs.put(DATA)

        assert not store.blobs.has(DIGEST, len(DATA) + 1)

    @pytest.mark.parametrize("at", [0, len(DATA) // 2, len(DATA) - 1])
    def test_sto13_a_flipped_byte_is_not_read(self, store: Store, at: int) -> None:
        """
        A blob with one byte changed on the disk is an error, naming the file.
        """
        store.blobs.put(DATA)
        path = Path(f"{store.path}/blobs/sha256/{DIGEST.hex}")
        path.chmod(0o600)
        changed = bytearray(DATA)
        changed[at] ^= 1
        path.write_bytes(changed)

        with pytest.raises(DigestMismatch, match=str(path)):
            store.blobs.read(DIGEST)

    def test_what_is_not_there(self, store: Store) -> None:
        """
        A blob that is missing is told with its digest and the store.
        """
        with pytest.raises(NotFound, match=f"no blob '{DIGEST}' in {store.path}"):
            store.blobs.read(DIGEST)
