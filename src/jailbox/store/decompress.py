"""
Plain bytes of packed ones: gzip, zstd, or as they are; and xz and bzip2 of archives.

What bytes are packed with is seen in the bytes themselves: media types are what a
stranger wrote, and often wrong. Memory is bounded whatever comes: a window of zstd may
have 128 MiB, and no piece of output is larger than what was asked for. How much output
there may be is bounded by who unpacks it.

A stream that was cut off is seen here, whichever kind it is of: a diff id is not always
known before.
"""

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO, Final, Protocol

import zstandard

from jailbox.errors import Malformed
from jailbox.spec.media import compression_of

__all__ = ["Begun", "Decompressed", "open_archive", "open_layer"]


def _fastest() -> Any:  # noqa: ANN401  # a module
    """ISA-L where it is installed (extra ``fast``): twice as fast as zlib."""
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib
    return isal_zlib


_INFLATE: Any = _fastest()

_GZIP, _ZSTD, _XZ, _BZIP2 = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"BZh"

_INPUT: Final = 256 << 10
_MAGIC: Final = 6

ZSTD_WINDOW_MAX: Final = 128 << 20
"""Bytes. The reference tool refuses more by itself, too (``zstd --long``)."""

_XZ_MEMORY_MAX: Final = 256 << 20


class Decompressed(Protocol):
    """Plain bytes, to be read once."""

    def read(self, size: int, /) -> bytes:
        """Return some bytes, at most *size*; none at the end."""


class _Members:
    """
    A stream of members, one behind the other, as gzip, bzip2 and xz allow it.

    Behind the last one there may be zeros, with which tapes were filled up; anything
    else is refused.
    """

    def __init__(
        self, file: Decompressed, begun: bytes, kind: str, make: Callable[[], Any]
    ) -> None:
        self._file = file
        self._rest = begun
        self._kind = kind
        self._make = make
        self._decoder: Any = make()
        self._fresh = True  # between members
        self._padding = False  # behind the last one

    def read(self, size: int, /) -> bytes:
        """Return some plain bytes; none at the end."""
        while True:
            if not self._rest and not self._hungry():
                if not self._fresh:
                    raise self._refusal("ends too early")
                return b""
            if self._padding:
                self._skip_padding()
                continue
            if plain := self._decode(size):
                return plain

    def _hungry(self) -> bool:
        """Get more input, unless the decoder still has some; false at the end."""
        if not self._fresh and self._has_more():
            return True
        self._rest = self._file.read(_INPUT)
        return bool(self._rest)

    def _has_more(self) -> bool:
        return not getattr(self._decoder, "needs_input", True)

    def _decode(self, size: int) -> bytes:
        decoder = self._decoder
        data, self._rest = self._rest, b""
        self._fresh = False
        try:
            plain: bytes = decoder.decompress(data, size)
        except (OSError, EOFError, _INFLATE.error, lzma.LZMAError, ValueError) as error:
            raise self._refusal(f"cannot be decompressed: {error}") from None
        if decoder.eof:
            self._rest = decoder.unused_data
            self._decoder, self._fresh = self._make(), True
            self._padding = self._rest[:1] == b"\0"
        else:
            # Only zlib hands back what it had no room for.
            self._rest = getattr(decoder, "unconsumed_tail", b"")
        return plain

    def _skip_padding(self) -> None:
        if self._rest.strip(b"\0"):
            raise self._refusal("has something behind its end")
        self._rest = b""

    def _refusal(self, problem: str) -> Malformed:
        return Malformed(f"{self._kind} stream", problem)


_END = b"\xa5" * 64


def _end_frame() -> bytes:
    """
    Make a frame of zstd that holds `_END`, which its own bytes do not contain.

    The library does not tell whether a stream ended between two frames or inside of
    one. So a frame of ours is put behind the end: only if its content comes out last,
    the stream had ended well. A frame that was cut off swallows it.

    Source: RFC 8878, 3.1.1: magic, descriptor (single segment), size of the content,
    one block (last, run-length) and its byte.
    """
    block = len(_END) << 3 | 1 << 1 | 1
    return _ZSTD + bytes([0x20, len(_END)]) + block.to_bytes(3, "little") + _END[:1]


class _WithEnd:
    """A file with the end frame behind it."""

    def __init__(self, file: "Decompressed") -> None:
        self._file = file
        self._frame = b""
        self.ended = False

    def read(self, size: int, /) -> bytes:
        """Return some bytes; none at the end."""
        if self.ended:
            frame, self._frame = self._frame, b""
            return frame
        data = self._file.read(size)
        if data:
            return data
        self.ended = True
        # In two pieces: a whole frame, given at once, is taken for one even behind the
        # first bytes of another (the library's "single pass").
        frame = _end_frame()
        self._frame = frame[1:]
        return frame[:1]


class _Zstd:
    """Frames of zstd, one behind the other; those that say nothing are skipped."""

    def __init__(self, file: "Decompressed") -> None:
        self._file = _WithEnd(file)
        decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_MAX)
        self._reader = decompressor.stream_reader(
            self._file,  # type: ignore[arg-type]  # it only reads
            read_size=_INPUT,
            read_across_frames=True,
            closefd=False,
        )
        self._held = b""

    def read(self, size: int, /) -> bytes:
        """Return some plain bytes; none at the end."""
        while True:
            try:
                data = self._reader.read(size)
            except zstandard.ZstdError as error:
                raise Malformed(
                    "zstd stream", f"cannot be decompressed: {error}"
                ) from None
            if not self._file.ended:
                return data
            # What comes now may be ours: as much is held back until more comes.
            held, self._held = self._held, b""
            if not data and held == _END:
                return b""
            if not data:
                raise Malformed("zstd stream", "ends too early")
            data = held + data
            data, self._held = data[: -len(_END)], data[-len(_END) :]
            if data:
                return data


class Begun:
    """A file of which the first bytes were read already."""

    def __init__(self, file: Decompressed, begun: bytes) -> None:
        self._file = file
        self._begun = begun

    def read(self, size: int, /) -> bytes:
        """Return some bytes; none at the end."""
        if self._begun:
            begun, self._begun = self._begun[:size], self._begun[size:]
            return begun
        return self._file.read(size)


def _gzip_decoder() -> Any:  # noqa: ANN401  # of either library
    return _INFLATE.decompressobj(wbits=31)


def _xz_decoder() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(memlimit=_XZ_MEMORY_MAX)


def _is_zstd(begun: bytes) -> bool:
    # A stream may begin with a frame that is to be skipped (RFC 8878, 3.1.2).
    skipped = begun[:1].hex().startswith("5") and begun[1:4] == b"\x2a\x4d\x18"
    return skipped or begun[:4] == _ZSTD


def open_layer(file: BinaryIO, media_type: str) -> Decompressed:
    """
    Read the plain archive of a layer.

    Args:
        file: The packed bytes, borrowed.

        media_type: What the layer is called in its manifest.

    Returns:
        The plain bytes. Reading them raises `Malformed` where they cannot be had.

    Raises:
        UnsupportedMediaType: If this is no layer that can be unpacked.
    """
    compression_of(media_type)
    begun = file.read(_MAGIC)
    if begun[:2] == _GZIP:
        return _Members(file, begun, "gzip", _gzip_decoder)
    if _is_zstd(begun):
        return _Zstd(Begun(file, begun))
    return Begun(file, begun)


def open_archive(file: Decompressed) -> Decompressed:
    """
    Read the plain bytes of an archive that a person names: also of xz and bzip2.

    Args:
        file: The packed bytes, borrowed.
    """
    begun = file.read(_MAGIC)
    if begun == _XZ:
        return _Members(file, begun, "xz", _xz_decoder)
    if begun[:3] == _BZIP2:
        return _Members(file, begun, "bzip2", bz2.BZ2Decompressor)
    if begun[:2] == _GZIP:
        return _Members(file, begun, "gzip", _gzip_decoder)
    if _is_zstd(begun):
        return _Zstd(Begun(file, begun))
    return Begun(file, begun)
