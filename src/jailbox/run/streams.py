"""
What flows between the host and a program: bounded capture, and input.

Nothing here waits; descriptors are read and written when somebody says they are ready.
"""

import errno
import os
from collections.abc import Iterable, Iterator
from typing import Literal, TypeAlias

import attrs

from jailbox.errors import SpecTypeError
from jailbox.spec.command import Input

__all__ = ["Capture", "Feed", "Record", "StreamName", "lines_of"]

StreamName: TypeAlias = Literal["stdout", "stderr"]

_CHUNK = 65536


@attrs.frozen
class Record:
    """
    A piece of output.

    Attributes:
        stream: Where it was written.

        data: The bytes: a line with its end, or what was left at the end.
    """

    stream: StreamName
    data: bytes

    @property
    def text(self) -> str:
        """The line as text, without its end."""
        return self.data.decode("utf-8", "replace").rstrip("\r\n")


class Capture:
    """
    One stream of a program: read, kept up to a bound, given in pieces.

    Owns its descriptor.
    """

    __slots__ = ("_fd", "_kept", "_limit", "_size", "dropped", "name")

    def __init__(self, fd: int, name: StreamName, limit: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._limit = limit
        self._kept: list[bytes] = []
        self._size = 0
        self.name = name
        self.dropped = False

    @property
    def fd(self) -> int | None:
        """What to wait for; ``None`` after the end of the stream."""
        return self._fd if self._fd >= 0 else None

    def read(self) -> bytes | None:
        """
        Take what is there; ``b""`` at the end, ``None`` if there is nothing yet.

        What goes beyond the bound is dropped, so that the program is never held up.
        """
        if self._fd < 0:
            return b""
        try:
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return None
        except OSError as error:
            # The program's side of a terminal says this when it is closed.
            if error.errno != errno.EIO:
                raise
            data = b""
        if not data:
            self.close()
            return b""
        room = self._limit - self._size
        kept = data if len(data) <= room else data[:room]
        self.dropped = self.dropped or len(data) > room
        if kept:
            self._kept.append(kept)
            self._size += len(kept)
        return kept or None

    def drain(self) -> Iterator[bytes]:
        """Take all that is there, and end."""
        while data := self.read():
            yield data
        self.close()

    def close(self) -> None:
        """Stop reading; what was kept stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def value(self) -> bytes:
        """Everything that was kept."""
        return b"".join(self._kept)


class Feed:
    """
    Input for a program: from a str, bytes, a file, or an iterable of them.

    Owns its descriptor. Ends the input when there is no more; a program that does not
    read to the end is no error.
    """

    __slots__ = ("_fd", "_pending", "_source")

    def __init__(self, fd: int, source: Input) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._pending = memoryview(b"")
        self._source = _pieces(source)

    @property
    def fd(self) -> int | None:
        """What to wait for; ``None`` when everything is written."""
        return self._fd if self._fd >= 0 else None

    def write(self) -> None:
        """Give as much as is taken."""
        while self._fd >= 0:
            if not self._pending:
                piece = next(self._source, None)
                if piece is None:
                    self.close()
                    return
                self._pending = memoryview(piece)
                continue
            try:
                self._pending = self._pending[os.write(self._fd, self._pending) :]
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in {errno.EPIPE, errno.EIO}:
                    raise
                self.close()
                return

    def close(self) -> None:
        """End the input."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _pieces(source: Input) -> Iterator[bytes]:
    if isinstance(source, str):
        yield source.encode()
    elif isinstance(source, bytes | bytearray | memoryview):
        yield bytes(source)
    elif hasattr(source, "read"):
        while piece := source.read(_CHUNK):
            yield piece.encode() if isinstance(piece, str) else bytes(piece)
    else:
        for piece in source:
            yield piece.encode() if isinstance(piece, str) else bytes(piece)


def check_input(source: object) -> None:
    """
    Refuse what cannot be input, before anything is started.

    Raises:
        SpecTypeError: If it is neither text, bytes, a file nor an iterable.
    """
    if isinstance(source, str | bytes | bytearray | memoryview):
        return
    if not hasattr(source, "read") and not isinstance(source, Iterable):
        raise SpecTypeError(
            "input",
            "cannot be written to a program",
            value=source,
            accepted="str, bytes, a file, or an iterable of str or bytes",
        )


class lines_of:  # noqa: N801  # reads as the function that it is
    """Cut pieces of two streams into lines; each line is one `Record`."""

    def __init__(self) -> None:
        self._rest: dict[StreamName, bytes] = {"stdout": b"", "stderr": b""}

    def feed(self, stream: StreamName, data: bytes) -> Iterator[Record]:
        """Add a piece; gives the lines that are complete."""
        *lines, rest = (self._rest[stream] + data).split(b"\n")
        self._rest[stream] = rest
        for line in lines:
            yield Record(stream, line + b"\n")

    def end(self) -> Iterator[Record]:
        """Give what has no line end."""
        for stream, rest in self._rest.items():
            if rest:
                yield Record(stream, rest)
                self._rest[stream] = b""
