"""
The way from a pipe to a stored layer: what is known of it, and who fails first.
"""

import errno
import hashlib
import os
import threading
from collections.abc import Callable

import pytest
import zstandard

from jailbox.spec.digest import Digest
from jailbox.spec.media import (
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    Compression,
)
from jailbox.store.diff import pack_layer

PLAIN = hashlib.sha256(b"plain").digest() * 200_000


class Memory:
    """A sink that keeps everything, and fails when it is told to."""

    def __init__(self, room: int = 1 << 40) -> None:
        self.data = bytearray()
        self.committed = False
        self._room = room

    def write(self, data: bytes | bytearray | memoryview, /) -> None:
        """Take some bytes."""
        self.data += data
        if len(self.data) > self._room:
            raise OSError(errno.ENOSPC, "full")

    def commit(self) -> Digest:
        """Say what came."""
        self.committed = True
        return Digest.of(self.data)


def writing(data: bytes) -> Callable[[int], str]:
    """Work that writes *data*."""

    def work(pipe: int) -> str:
        view = memoryview(data)
        while view:
            view = view[os.write(pipe, view) :]
        return "done"

    return work


@pytest.fixture(autouse=True)
def _threads_end() -> object:
    """Nothing is left running, whatever happened."""
    yield
    assert threading.active_count() == 1


class TestLayers:
    @pytest.mark.parametrize(
        ("compression", "media_type"),
        [("none", OCI_LAYER), ("gzip", OCI_LAYER_GZIP), ("zstd", OCI_LAYER_ZSTD)],
    )
    @pytest.mark.parametrize("size", [0, 1, 1 << 20, len(PLAIN)])
    def test_digests_and_sizes(
        self, compression: Compression, media_type: str, size: int
    ) -> None:
        """Both digests and both sizes are those of the bytes."""
        plain, sink = PLAIN[:size], Memory()
        came, layer = pack_layer(writing(plain), compression=compression, sink=sink)

        assert came == "done"
        assert (layer.diff_id, layer.plain_size) == (Digest.of(plain), size)
        assert (layer.digest, layer.size) == (Digest.of(sink.data), len(sink.data))
        assert layer.media_type == media_type
        assert sink.committed

    def test_nothing_need_be_kept(self) -> None:
        """Without a sink, the digests are the same."""
        sink = Memory()
        _, kept = pack_layer(writing(PLAIN), sink=sink)
        _, told = pack_layer(writing(PLAIN))

        assert kept == told
        assert (
            zstandard.ZstdDecompressor().decompressobj().decompress(bytes(sink.data))
            == PLAIN
        )


class TestFailures:
    @pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
    def test_a_sink_that_fails_is_the_cause(self, compression: Compression) -> None:
        """
        The disk is full: that is told, not the broken pipe of whoever wrote; nothing
        is committed, and nobody hangs.
        """
        sink = Memory(room=10)
        noise = os.urandom(20_000_000)

        with pytest.raises(OSError, match="full"):
            pack_layer(writing(noise), compression=compression, sink=sink)
        assert not sink.committed

    def test_work_that_fails_is_the_cause(self) -> None:
        """What the work says is told, and half an archive is not committed."""
        sink = Memory()

        def work(pipe: int) -> None:
            os.write(pipe, b"half")
            raise ValueError("halfway")

        with pytest.raises(ValueError, match="halfway"):
            pack_layer(work, sink=sink)
        assert not sink.committed

    def test_a_sink_that_cannot_commit(self) -> None:
        """What the last step says is told."""

        class Late(Memory):
            def commit(self) -> Digest:
                raise OSError(errno.EIO, "late")

        with pytest.raises(OSError, match="late"):
            pack_layer(writing(PLAIN), sink=Late())
