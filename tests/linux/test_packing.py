"""
Packing by a worker: what the library's users get, and what they are told.
"""

import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from jailbox.engine.local import LocalEngine
from jailbox.errors import LayerError, LayerTooLarge, StoreError
from jailbox.linux.workshop import Owner, Packed, PackPolicy, Workshop

pytestmark = pytest.mark.userns


@pytest.fixture
def workshop() -> Iterator[Workshop]:
    """Return a workshop of this process."""
    engine = LocalEngine()
    yield Workshop(engine.keeper)
    engine.close()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a small tree."""
    (tmp_path / "tree/d").mkdir(parents=True)
    (tmp_path / "tree/d/f").write_text("content")
    (tmp_path / "tree/z").write_text("z" * 100_000)
    return tmp_path / "tree"


def opened(path: Path) -> int:
    """Open a directory."""
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def packed(
    workshop: Workshop,
    tree: Path,
    *,
    layer: bool = False,
    lower: Path | None = None,
    owners: tuple[Owner, ...] = (),
    policy: PackPolicy | None = None,
) -> tuple[Packed, bytes]:
    """Pack into memory."""
    memory = os.memfd_create("archive", os.MFD_CLOEXEC)
    fds = [opened(tree)] + ([] if lower is None else [opened(lower)])
    try:
        done = workshop.pack(
            fds[0],
            memory,
            kind="layer" if layer else "tree",
            lowers=fds[1:],
            owners=owners,
            policy=policy or PackPolicy(),
        )
        return done, os.pread(memory, os.fstat(memory).st_size, 0)
    finally:
        for fd in (memory, *fds):
            os.close(fd)


def names(data: bytes) -> list[str]:
    """Paths in an archive."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return tar.getnames()


class TestPack:
    def test_a_tree(self, workshop: Workshop, tree: Path) -> None:
        """The archive holds the tree, and the counts are those of it."""
        done, data = packed(workshop, tree)

        assert names(data) == [".", "d", "d/f", "z"]
        assert (done.entries, done.bytes, done.skipped) == (4, 100_007, ())

    def test_a_layer_beside_what_it_lies_on(
        self, workshop: Workshop, tree: Path, tmp_path: Path
    ) -> None:
        """What is the same below is not in it."""
        upper = tmp_path / "upper"
        upper.mkdir()
        upper.chmod(tree.stat().st_mode & 0o7777)
        (upper / "z").write_text("other")
        _, data = packed(workshop, upper, layer=True, lower=tree)

        assert names(data) == ["z"]

    def test_owners_from_a_table(self, workshop: Workshop, tree: Path) -> None:
        """IMG-09, B20: owners that the disk could not hold are written back."""
        owners = (Owner(b"z", 42, 5000, 0o4755), Owner(b"d/f", 205001, 7, 0o600))
        _, data = packed(workshop, tree, owners=owners)
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            found = {m.name: (m.uid, m.gid, m.mode) for m in tar}

        assert found["z"] == (42, 5000, 0o4755)
        assert found["d/f"] == (205001, 7, 0o600)

    def test_refusals(self, workshop: Workshop, tree: Path) -> None:
        """A bound and a name that means a removal are named, with the path."""
        with pytest.raises(LayerTooLarge, match="bytes: 50000") as too_large:
            packed(workshop, tree, policy=PackPolicy(max_bytes=50_000))
        assert too_large.value.name == "z"
        (tree / ".wh.x").touch()
        with pytest.raises(LayerError, match="removal") as refused:
            packed(workshop, tree)
        assert refused.value.name == ".wh.x"

    def test_a_pipe_that_nobody_reads(self, workshop: Workshop, tree: Path) -> None:
        """The worker ends with an error, not by a signal."""
        reading, writing = os.pipe()
        os.close(reading)
        fd = opened(tree)
        try:
            with pytest.raises(StoreError, match="EPIPE"):
                workshop.pack(fd, writing)
        finally:
            os.close(fd)
            os.close(writing)


class TestRoundTrip:
    def test_packed_unpacked_and_packed_again(
        self, workshop: Workshop, tree: Path, tmp_path: Path
    ) -> None:
        """What our unpacker makes of our archive packs to the same bytes."""
        (tree / "hard").hardlink_to(tree / "z")
        (tree / "link").symlink_to("n" * 300)
        (tree / ("x" * 200)).touch()
        os.setxattr(tree / "d/f", "user.a", b"\0b")
        _, data = packed(workshop, tree, policy=PackPolicy(times="exact"))
        target = tmp_path / "again"
        target.mkdir()
        memory = os.memfd_create("archive", os.MFD_CLOEXEC)
        os.write(memory, data)
        os.lseek(memory, 0, os.SEEK_SET)
        fd = os.open(target, os.O_RDONLY)
        try:
            workshop.unpack(memory, fd)
        finally:
            os.close(fd)
            os.close(memory)
        _, again = packed(workshop, target, policy=PackPolicy(times="exact"))

        assert hashlib.sha256(again).digest() == hashlib.sha256(data).digest()


class TestFingerprint:
    def test_one_flipped_byte_is_seen(self, workshop: Workshop, tree: Path) -> None:
        """STO13: any byte of any file, a mode, a name; a time is not."""
        fd = opened(tree)
        try:
            first = workshop.fingerprint(fd)
            os.utime(tree / "z", (5, 5))
            assert workshop.fingerprint(fd) == first
            with (tree / "z").open("r+b") as file:
                file.seek(77_777)
                file.write(b"y")
            second = workshop.fingerprint(fd)
            (tree / "z").chmod(0o600)
            third = workshop.fingerprint(fd)
            (tree / "d/f").rename(tree / "d/g")
            fourth = workshop.fingerprint(fd)
        finally:
            os.close(fd)

        assert len({first, second, third, fourth}) == 4


class TestMemory:
    def test_the_memory_of_small_work_is_told(
        self, workshop: Workshop, tree: Path
    ) -> None:
        """
        Also of a worker that is done at once, what it took is told: more than nothing,
        less than what a worker may take at all.
        """
        done, archive = packed(workshop, tree)
        memory = os.memfd_create("archive", os.MFD_CLOEXEC)
        os.write(memory, archive)
        os.lseek(memory, 0, os.SEEK_SET)
        target = tree.parent / "unpacked"
        target.mkdir()
        fd = opened(target)
        try:
            unpacked = workshop.unpack(memory, fd)
        finally:
            os.close(memory)
            os.close(fd)

        for taken in (done.max_rss, unpacked.max_rss):
            assert 16 << 10 < taken < 64 << 20
