"""
Packed bytes as they come from other tools, and as no tool should make them.
"""

import bz2
import gzip
import hashlib
import io
import lzma
import resource

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from jailbox.errors import Malformed, UnsupportedMediaType
from jailbox.spec.media import OCI_LAYER_GZIP
from jailbox.store import decompress
from jailbox.store.decompress import open_archive, open_layer

NOISE = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(3000))
PLAIN = NOISE + bytes(400_000)

PACKED = {
    "plain": PLAIN,
    "gzip": gzip.compress(PLAIN),
    "two members": gzip.compress(PLAIN[:1000]) + gzip.compress(PLAIN[1000:]),
    "empty member": gzip.compress(b"") + gzip.compress(PLAIN),
    "gzip and zeros": gzip.compress(PLAIN) + bytes(10_240),
    "zstd": zstandard.compress(PLAIN),
    "two frames": zstandard.compress(PLAIN[:1000]) + zstandard.compress(PLAIN[1000:]),
    "skippable frame": b"\x50\x2a\x4d\x18\4\0\0\0abcd" + zstandard.compress(PLAIN),
    "xz": lzma.compress(PLAIN),
    "bzip2": bz2.compress(PLAIN),
}


def read_all(packed: bytes, size: int = 65536, chunk: int = 1 << 20) -> bytes:
    """Read to the end, in pieces of at most *size*."""

    class Dripping(io.BytesIO):
        def read(self, wanted: int | None = -1, /) -> bytes:
            return super().read(min(chunk, wanted if wanted and wanted > 0 else chunk))

    source = open_archive(Dripping(packed))
    pieces = []
    while piece := source.read(size):
        assert len(piece) <= size
        pieces.append(piece)
    return b"".join(pieces)


@pytest.fixture(params=["zlib", "isal.isal_zlib"], autouse=True)
def inflate(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read gzip with either library."""
    library = pytest.importorskip(request.param, reason="isal is not installed")
    monkeypatch.setattr(decompress, "_INFLATE", library)


class TestReading:
    """What other tools write."""

    @pytest.mark.parametrize("kind", PACKED)
    @pytest.mark.parametrize("size", [1000, 65536, 1 << 20])
    def test_all_kinds(self, kind: str, size: int) -> None:
        """Every kind gives the same bytes, in pieces no larger than asked for."""
        assert read_all(PACKED[kind], size) == PLAIN

    @given(st.binary(max_size=2000), st.integers(1, 300), st.integers(6, 50))
    def test_pieces(self, data: bytes, size: int, chunk: int) -> None:
        """How bytes come and go makes no difference."""
        for packed in (
            gzip.compress(data),
            zstandard.compress(data),
            bz2.compress(data),
        ):
            assert read_all(packed, size, chunk) == data

    def test_layers_are_judged_by_their_bytes(self) -> None:
        """A media type says gzip, and the bytes are plain or zstd: the bytes count."""
        for kind in ("plain", "zstd"):
            source = open_layer(io.BytesIO(PACKED[kind]), OCI_LAYER_GZIP)
            assert PLAIN.startswith(source.read(100) + source.read(100))

    def test_layers_are_not_packed_with_everything(self) -> None:
        """No specification of layers knows xz: its bytes are taken as they are."""
        source = open_layer(io.BytesIO(PACKED["xz"]), OCI_LAYER_GZIP)

        assert source.read(6) == b"\xfd7zXZ\0"

    def test_other_kinds_are_no_layers(self) -> None:
        """IMG16: what is no tar archive is refused by its media type."""
        with pytest.raises(UnsupportedMediaType, match="squashfs"):
            open_layer(io.BytesIO(b""), "application/vnd.example.squashfs")


class TestRefusing:
    """What no tool should write."""

    @pytest.mark.parametrize("kind", ["gzip", "zstd", "two frames", "xz", "bzip2"])
    @pytest.mark.parametrize("at", [20, 0.5, -1])
    def test_truncated(self, kind: str, at: float) -> None:
        """TAR20: a stream that ends too early is refused."""
        packed = PACKED[kind]
        end = int(at if at >= 1 or at < 0 else len(packed) * at)

        with pytest.raises(Malformed, match=r"stream: (ends too early|cannot be)"):
            read_all(packed[:end])

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", ["gzip", "zstd", "skippable frame"])
    def test_truncated_anywhere(self, kind: str) -> None:
        """
        TAR20: no beginning of a stream is taken for the whole, unless it ends where a
        member or a frame does.
        """
        plain = NOISE[:300] * 3
        packed = {
            "gzip": gzip.compress(plain),
            "zstd": zstandard.ZstdCompressor(write_checksum=False).compress(plain),
            "skippable frame": PACKED["skippable frame"][:12]
            + zstandard.compress(plain),
        }[kind]
        complete = []
        for end in range(6, len(packed)):
            try:
                read_all(packed[:end])
            except Malformed:
                continue
            complete.append(end)

        assert complete == ([12] if kind == "skippable frame" else [])

    def test_a_stream_that_ends_like_our_mark(self) -> None:
        """Whatever the last bytes are, they are not taken for the mark of the end."""
        for size in (0, 1, 63, 64, 65, 128, 1000):
            plain = b"x" + b"\xa5" * size
            assert read_all(zstandard.compress(plain), 100) == plain

    @pytest.mark.parametrize("kind", ["gzip", "xz", "bzip2"])
    def test_damaged(self, kind: str) -> None:
        """A stream with a wrong byte in the middle is refused, by its own checksum."""
        packed = bytearray(PACKED[kind])
        packed[len(packed) // 2] ^= 0xFF

        with pytest.raises(Malformed, match=rf"^{kind} stream: cannot be decompressed"):
            read_all(bytes(packed))

    def test_garbage_behind_the_end(self) -> None:
        """TAR19: anything but zeros behind the last member is refused."""
        for garbage in (b"garbage", bytes(100) + b"x"):
            with pytest.raises(Malformed, match="gzip stream"):
                read_all(PACKED["gzip"] + garbage)

    def test_windows_are_bounded(self) -> None:
        """TAR18: a frame that wants 2 GiB of memory is refused."""
        frame = b"\x28\xb5\x2f\xfd\x00" + bytes([(31 - 10) << 3]) + b"\1\0\0"

        with pytest.raises(Malformed, match=r"zstd stream: .*memory"):
            read_all(frame)

    def test_a_bomb_takes_no_memory(self) -> None:
        """TAR17: 1 GiB of zeros comes in pieces, however small it is packed."""
        packed = zstandard.ZstdCompressor().compressobj()
        bomb = b"".join(packed.compress(bytes(1 << 20)) for _ in range(1024))
        bomb += packed.flush()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        source, size = open_archive(io.BytesIO(bomb)), 0
        while piece := source.read(1 << 20):
            size += len(piece)

        assert size == 1 << 30
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert after - before < 64 << 10
