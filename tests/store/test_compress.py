"""
What is packed: any tool reads it, and it is the same whoever packs it.
"""

import gzip
import hashlib
import io
import os
import random
import shutil
import subprocess
import threading
import time
import zlib

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from jailbox.spec.media import Compression
from jailbox.store.compress import compressor
from jailbox.store.decompress import open_archive

NOISE = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(9000))
PLAIN = (NOISE + b"jailbox" * 30_000 + bytes(400_000)) * 3
KINDS: list[Compression] = ["none", "gzip", "zstd"]


def packed(
    data: bytes,
    kind: Compression,
    *,
    threads: int | None = None,
    level: int | None = None,
    pieces: int = 1 << 20,
) -> bytes:
    """Pack *data*, given in pieces of that size."""
    found = bytearray()
    with compressor(kind, found.extend, threads=threads, level=level) as packer:
        for at in range(0, len(data), pieces):
            piece = bytearray(data[at : at + pieces])
            packer.write(piece)
            # It is the caller's again.
            piece[:] = bytes(len(piece))
        packer.finish()
    return bytes(found)


class TestBytes:
    @pytest.mark.parametrize("kind", ["gzip", "zstd"])
    def test_cores_make_no_difference(self, kind: Compression) -> None:
        """One thread, two or five: the bytes are the same."""
        one, *others = (packed(PLAIN, kind, threads=n) for n in (1, 2, 5))

        assert others == [one, one]

    @pytest.mark.parametrize("kind", ["gzip", "zstd"])
    def test_pieces_make_no_difference(self, kind: Compression) -> None:
        """In how many pieces the bytes come leaves no trace."""
        sizes = (1000, 4096, 262_144, 262_145, 1 << 22)

        assert len({packed(PLAIN, kind, pieces=size) for size in sizes}) == 1

    def test_nothing_of_the_host_is_told(self) -> None:
        """The header of gzip has no time, no name, and no operating system."""
        for data in (b"", b"x", PLAIN):
            assert packed(data, "gzip")[:10] == bytes.fromhex("1f8b08000000000000ff")

    def test_gzip_is_one_member(self) -> None:
        """Readers that know one member only read all of it."""
        member = zlib.decompressobj(wbits=31)

        assert member.decompress(packed(PLAIN, "gzip")) == PLAIN
        assert member.eof
        assert member.unused_data == b""

    def test_levels(self) -> None:
        """A higher level gives fewer bytes."""
        text = b"".join(b"%d %x;" % (n * n, n) for n in range(50_000))

        for kind in KINDS[1:]:
            assert len(packed(text, kind, level=9)) < len(packed(text, kind, level=1))


class TestReaders:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(
        "size", [0, 1, 262_143, 262_144, 262_145, 524_288, 524_289, len(PLAIN)]
    )
    def test_round_trip(self, kind: Compression, size: int) -> None:
        """What is packed is read back, whatever its size is to that of a block."""
        data = random.Random(size).randbytes(size // 2)  # noqa: S311  # repeatable
        data += bytes(size - len(data))
        source = open_archive(io.BytesIO(packed(data, kind)))
        pieces = []
        while piece := source.read(1 << 20):
            pieces.append(piece)

        assert b"".join(pieces) == data

    @settings(max_examples=30, deadline=None)
    @given(st.binary(max_size=3000), st.integers(1, 500))
    def test_small_round_trips(self, data: bytes, pieces: int) -> None:
        """However little there is, and in however small pieces it comes."""
        assert gzip.decompress(packed(data, "gzip", pieces=pieces)) == data
        zstd = zstandard.ZstdDecompressor().decompressobj()
        assert zstd.decompress(packed(data, "zstd", pieces=pieces)) == data

    @pytest.mark.parametrize("kind", ["gzip", "zstd"])
    def test_reference_tools_read_it(self, kind: str) -> None:
        """The tools that everybody has read it without a warning."""
        if shutil.which(kind) is None:
            pytest.skip(f"{kind} is not installed")
        known: Compression = "gzip" if kind == "gzip" else "zstd"
        done = subprocess.run(
            [kind, "-dc"], input=packed(PLAIN, known), capture_output=True, check=True
        )

        assert done.stdout == PLAIN
        assert done.stderr == b""

    def test_blocks_cost_little(self) -> None:
        """Cutting into blocks costs less than half a percent."""
        text = NOISE.hex().encode()

        assert len(packed(text, "gzip")) < len(gzip.compress(text, 6)) * 1.005


class TestThreads:
    @pytest.mark.parametrize("kind", ["gzip", "zstd"])
    def test_none_is_left(self, kind: Compression) -> None:
        """Threads end with the `with`, also when it is left by an error."""
        before = set(os.listdir("/proc/self/task"))
        packed(PLAIN, kind, threads=3)

        def fail(_: bytes | bytearray | memoryview) -> None:
            raise OSError(28, "full")

        def pack() -> None:
            with compressor(kind, fail, threads=3) as packer:
                for _ in range(20):
                    packer.write(NOISE * 30)
                packer.finish()

        with pytest.raises(OSError, match="full"):
            pack()
        assert threading.active_count() == 1
        # The kernel may see a thread a little longer than Python does.
        deadline = time.monotonic() + 5
        while set(os.listdir("/proc/self/task")) != before:
            assert time.monotonic() < deadline

    def test_what_is_small_needs_none(self) -> None:
        """A layer of one block is packed where it is."""
        with compressor("gzip", lambda _: None) as packer:
            packer.write(NOISE[:1000])
            packer.finish()
            assert threading.active_count() == 1
