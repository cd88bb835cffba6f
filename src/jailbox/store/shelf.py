"""
Named files of an archive or a directory: what images come in, and go out in.

An OCI layout and an archive of ``docker save`` are a few files with known names. Here
they are looked up by name, never unpacked: whatever else an archive holds, and wherever
its names point, nothing of it reaches a file system.

The reader of archives is strict and bounded. What no tool that makes such archives
writes (devices, sparse files, names that lead out) is refused, and so is an archive in
which two readers could find different files under one name.

Source: POSIX.1-2017, *pax*; GNU tar manual, "Basic Tar Format".
"""

import os
import stat
from collections.abc import Iterator
from types import TracebackType
from typing import BinaryIO, Protocol, Self

import attrs

from jailbox.errors import Malformed
from jailbox.linux.fd import Fd
from jailbox.linux.inroot import open_in_root
from jailbox.store.errors import storing

__all__ = [
    "MEMBERS_MAX",
    "ArchiveShelf",
    "DirectoryShelf",
    "Piece",
    "Shelf",
    "read_small",
]

MEMBERS_MAX = 1 << 14
"""How many entries an archive of images may have."""

_KIND = "image archive"
_BLOCK = 512
_LONG_MAX = 1 << 16  # bytes of a GNU long name or a pax header
_LINKS_MAX = 8
_CHUNK = 1 << 20
_NAME_MAX = 4096


class Piece:
    """
    A part of a file, read from its beginning to its end.

    It has its own place in the file: pieces of one file do not disturb each other.

    Attributes:
        size: How many bytes it has.
    """

    def __init__(self, fd: int, start: int, size: int, name: str) -> None:
        self._fd = fd
        self._at = start
        self._end = start + size
        self._name = name
        self.size = size

    def seek(self, at: int) -> None:
        """Go on at this byte of the piece."""
        self._at = self._end - self.size + at

    def read(self, size: int = -1, /) -> bytes:
        """
        Return some bytes, at most *size*; none at the end.

        Raises:
            Malformed: If the file has become shorter.
        """
        left = self._end - self._at
        wanted = left if size < 0 else min(size, left)
        if not wanted:
            return b""
        with storing("read an image", self._name):
            data = os.pread(self._fd, min(wanted, _CHUNK), self._at)
        if not data:
            raise Malformed(_KIND, "is cut short", place=self._name)
        self._at += len(data)
        return data


class Shelf(Protocol):
    """Files by name."""

    def find(self, name: str) -> Piece | None:
        """Open a file; ``None`` if there is none. Valid until `close`."""

    def close(self) -> None:
        """Let go of everything. Idempotent."""


def read_small(shelf: Shelf, name: str, limit: int) -> bytes | None:
    """
    Read a small file whole; ``None`` if there is none.

    Raises:
        Malformed: If it is larger than *limit* bytes.
    """
    piece = shelf.find(name)
    if piece is None:
        return None
    if piece.size > limit:
        raise Malformed(_KIND, f"is larger than {limit} bytes", place=name)
    parts = []
    while part := piece.read():
        parts.append(part)
    return b"".join(parts)


# --- a directory --------------------------------------------------------------


class DirectoryShelf:
    """
    The files of a directory.

    Links are followed inside of it, as if it were the root.
    """

    def __init__(self, path: str) -> None:
        """
        Open a directory.

        Raises:
            StoreError: If it cannot be opened.
        """
        self._path = path
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        with storing("read an image", path):
            self._root = Fd(os.open(path, flags))
        self._open: list[Fd] = []

    def find(self, name: str) -> Piece | None:
        """Open a file; ``None`` if there is none. Valid until `close`."""
        found = open_in_root(self._root.fileno(), name)
        if found is None:
            return None
        fd = Fd(found)
        # A blob is opened, read and done with; one descriptor is enough.
        while self._open:
            self._open.pop().close()
        self._open.append(fd)
        return Piece(found, 0, os.fstat(found).st_size, os.path.join(self._path, name))

    def close(self) -> None:
        """Let go of everything. Idempotent."""
        while self._open:
            self._open.pop().close()
        self._root.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


# --- an archive ---------------------------------------------------------------


@attrs.frozen
class _Member:
    """Where an entry's bytes are, or what it is a link to."""

    start: int
    size: int
    link: str | None = None
    directory: bool = False


class ArchiveShelf:
    """
    The files of a plain tar archive that can be sought in.

    Its table of contents is read once, in the beginning.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        """
        Read the table of contents.

        Args:
            file: A regular file, borrowed until `close`. It is read from its beginning.

            name: What to call it in errors.

        Raises:
            Malformed: If it is no tar, or one that archives of images are not.
        """
        self._fd = file.fileno()
        self._name = name
        with storing("read an image", name):
            found = os.fstat(self._fd)
        if not stat.S_ISREG(found.st_mode):
            raise Malformed(_KIND, "is no regular file", place=name)
        self._members: dict[str, _Member] = {}
        self._twice: set[str] = set()
        for path, member in _walk(Piece(self._fd, 0, found.st_size, name)):
            if path in self._members and not member.directory:
                self._twice.add(path)
            self._members[path] = member
            if len(self._members) > MEMBERS_MAX:
                raise Malformed(_KIND, f"has more than {MEMBERS_MAX} entries")

    def find(self, name: str) -> Piece | None:
        """
        Open a file, links followed; ``None`` if there is none.

        Raises:
            Malformed: If there are two of that name, or links lead nowhere.
        """
        path = _clean(name, name)
        for _ in range(_LINKS_MAX):
            if path in self._twice:
                raise Malformed(_KIND, "is in it twice", place=path)
            member = self._members.get(path)
            if member is None or member.directory:
                return None
            if member.link is None:
                place = f"{self._name}: {path}"
                return Piece(self._fd, member.start, member.size, place)
            path = member.link
        raise Malformed(_KIND, "is a link without end", place=name)

    def close(self) -> None:
        """Nothing is held here. Idempotent."""
        self._members = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _clean(name: str, entry: str) -> str:
    """Write a name in one way; refuse one that leads out."""
    if "\0" in name or len(name) > _NAME_MAX:
        raise Malformed(_KIND, "has a bad name", place=entry)
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts:
        raise Malformed(_KIND, "leads out of the archive", place=entry)
    return "/".join(parts)


def _target(entry: str, target: str, *, relative: bool) -> str:
    """Say which entry a link means. Symbolic ones count from where they are."""
    if target.startswith("/") or not relative:
        return _clean(target, entry)
    parts = entry.split("/")[:-1]
    for part in target.split("/"):
        if part == "..":
            if not parts:
                raise Malformed(_KIND, "leads out of the archive", place=entry)
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return _clean("/".join(parts), entry)


class _Headers:
    """The blocks of an archive, one header after the other."""

    def __init__(self, whole: Piece) -> None:
        self._whole = whole
        self.at = 0

    def block(self) -> bytes | None:
        """Return the next block; ``None`` at the end."""
        data = self.take(_BLOCK) if self.at < self._whole.size else b""
        return data or None

    def take(self, size: int) -> bytes:
        """Return the next bytes, all of them."""
        self.check(size)
        data = b""
        while len(data) < size:
            data += self._whole.read(size - len(data))
        self.at += size
        return data

    def skip(self, size: int) -> None:
        """Go on behind so many bytes."""
        self.check(size)
        self.at = min(self.at + size, self._whole.size)
        self._whole.seek(self.at)

    def pad(self, size: int) -> None:
        """Go on at the next block. The last one may be cut short, if all zeros were."""
        self.skip(min(-size % _BLOCK, self._whole.size - self.at))

    def check(self, size: int) -> None:
        """Refuse what goes beyond the end."""
        if size > self._whole.size - self.at:
            raise Malformed(_KIND, "is cut short", place=f"byte {self.at}")


def _walk(whole: Piece) -> Iterator[tuple[str, _Member]]:
    """Yield every entry: its name, and where it is."""
    headers = _Headers(whole)
    long_name: str | None = None
    long_link: str | None = None
    pax: dict[str, str] = {}
    entries = 0
    while (block := headers.block()) is not None:
        if not block.strip(b"\0"):
            return
        entries += 1
        if entries > MEMBERS_MAX:
            raise Malformed(_KIND, f"has more than {MEMBERS_MAX} entries")
        place = f"byte {headers.at - _BLOCK}"
        _check_sum(block, place)
        size, kind = _number(block[124:136], place), block[156:157]
        if kind in {b"L", b"K", b"x", b"g"}:
            if size > _LONG_MAX:
                raise Malformed(_KIND, "has a header that is too long", place=place)
            data = headers.take(size)
            headers.pad(size)
            if kind == b"L":
                long_name = _text(data, place)
            elif kind == b"K":
                long_link = _text(data, place)
            elif kind == b"x":
                pax = _pax(data, place)
            continue
        name = pax.get("path") or long_name or _short_name(block, place)
        link = pax.get("linkpath") or long_link or _text(block[157:257], place)
        if "size" in pax:
            size = _decimal(pax["size"], place)
        long_name, long_link, pax = None, None, {}
        path = _clean(name, name)
        match kind:
            case b"0" | b"\0" | b"7":
                # Old archives mark a directory by a slash.
                if name.endswith("/"):
                    yield path, _Member(headers.at, 0, directory=True)
                else:
                    headers.check(size)
                    yield path, _Member(headers.at, size)
                headers.skip(size)
                headers.pad(size)
            case b"5":
                yield path, _Member(headers.at, 0, directory=True)
            case b"1":
                yield path, _Member(0, 0, _target(path, link, relative=False))
            case b"2":
                yield path, _Member(0, 0, _target(path, link, relative=True))
            case _:
                raise Malformed(
                    _KIND,
                    f"is of kind {kind!r}, which no archive of images has",
                    place=name,
                )


def _text(data: bytes, place: str) -> str:
    try:
        return data.split(b"\0", 1)[0].decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed(_KIND, "has a name that is no UTF-8", place=place) from None


def _short_name(block: bytes, place: str) -> str:
    name = _text(block[:100], place)
    # Only POSIX has the rest of a name there; GNU has times.
    prefix = _text(block[345:500], place) if block[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _check_sum(block: bytes, place: str) -> None:
    said = _number(block[148:156], place)
    blank = block[:148] + b" " * 8 + block[156:]
    # Old tars added up signed bytes.
    if said not in {sum(blank), sum(byte - 256 * (byte > 127) for byte in blank)}:  # noqa: PLR2004
        raise Malformed(_KIND, "is no tar header: its sum is wrong", place=place)


def _number(field: bytes, place: str) -> int:
    """Read a number: octal digits, or base 256 where the first bit is set."""
    if field[0] & 0x80:
        # The second bit is the sign; and nothing here has 2**63 bytes.
        if field[0] != 0x80 or any(field[1:4]):  # noqa: PLR2004
            raise Malformed(_KIND, "has a number that is too large", place=place)
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if digits and not all(0x30 <= digit <= 0x37 for digit in digits):  # noqa: PLR2004
        raise Malformed(_KIND, "has a number that is none", place=place)
    return int(digits or b"0", 8)


def _decimal(text: str, place: str) -> int:
    most = 18
    if not text.isascii() or not text.isdigit() or len(text) > most:
        raise Malformed(_KIND, "has a size that is none", place=place)
    return int(text)


def _pax(data: bytes, place: str) -> dict[str, str]:
    """Read the records of a pax header: ``length key=value`` and a line feed."""
    found: dict[str, str] = {}
    at = 0
    while at < len(data):
        digits, space, _ = data[at : at + 8].partition(b" ")
        if not space or not digits.isdigit():
            raise Malformed(_KIND, "has a malformed pax header", place=place)
        end = at + int(digits)
        key, equals, value = data[at + len(digits) + 1 : end - 1].partition(b"=")
        if not equals or end > len(data) or data[end - 1 : end] != b"\n":
            raise Malformed(_KIND, "has a malformed pax header", place=place)
        if key.startswith(b"GNU.sparse"):
            raise Malformed(_KIND, "has a sparse file", place=place)
        if key in {b"path", b"linkpath", b"size"}:
            found[key.decode()] = _text(value, place)
        at = end
    return found
