"""
The reader of archives of images: what it finds, and what it refuses.
"""

import io
import os
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jailbox.errors import Malformed
from jailbox.store.outgoing import TarPlace
from jailbox.store.shelf import MEMBERS_MAX, ArchiveShelf, DirectoryShelf, read_small

UNHURRIED = settings(deadline=None)


OPENED: list[BinaryIO] = []


@pytest.fixture(autouse=True)
def closing() -> Iterator[None]:
    """Close what `shelf` opened."""
    yield
    while OPENED:
        OPENED.pop().close()


def shelf(data: bytes) -> ArchiveShelf:
    """Read an archive from a file that is on no disk."""
    while len(OPENED) > 10:
        OPENED.pop(0).close()
    file = os.fdopen(os.memfd_create("archive"), "w+b")
    OPENED.append(file)
    file.write(data)
    file.flush()
    return ArchiveShelf(file, "archive")


def header(
    name: bytes,
    size: bytes = b"00000000000\0",
    kind: bytes = b"0",
    link: bytes = b"",
    magic: bytes = b"ustar\x0000",
) -> bytes:
    """Make a header with a right sum, whatever is in it."""
    block = bytearray(
        name.ljust(100, b"\0")
        + b"0000644\0"
        + b"0000000\0" * 2
        + size.ljust(12, b"\0")
        + b"00000000000\0"
        + b" " * 8
        + kind
        + link.ljust(100, b"\0")
        + magic
    ).ljust(512, b"\0")
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def entry(
    name: bytes, data: bytes = b"", kind: bytes = b"0", link: bytes = b""
) -> bytes:
    """Make an entry."""
    size = b"%011o\0" % len(data)
    return header(name, size, kind, link) + data + bytes(-len(data) % 512)


END = bytes(1024)


class TestDialects:
    """Archives as tools write them."""

    @pytest.mark.parametrize(
        "form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
    )
    def test_every_form(self, form: int) -> None:
        """Files are found in every dialect, under short and long names."""
        names = ["a", "d/" * 40 + "b", "d" * 90 + "/" + "e" * 90]
        if form != tarfile.USTAR_FORMAT:
            names += ["x" * 300, "ä/ö"]
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
            for name in names:
                info = tarfile.TarInfo(name)
                info.size = 700
                archive.addfile(info, io.BytesIO(name.encode().ljust(700)))
        found = shelf(buffer.getvalue())
        for name in names:
            data = read_small(found, name, 1000)
            assert data == name.encode().ljust(700)
            assert read_small(found, f"./{name}", 1000) == data
        assert found.find("nothing") is None

    @given(
        st.dictionaries(
            st.from_regex(r"\A[a-z]{1,8}(/[a-z]{1,8}){0,3}\Z"),
            st.binary(max_size=2000),
            max_size=6,
        )
    )
    @UNHURRIED
    def test_what_is_written_is_read(self, files: dict[str, bytes]) -> None:
        """What we write is read by us, and by Python's reader, as the same."""
        tops = {name.split("/")[0] for name in files if "/" in name}
        files = {n: d for n, d in files.items() if "/" in n or n not in tops}
        files = {
            name: data
            for name, data in files.items()
            if not any(other.startswith(f"{name}/") for other in files)
        }
        buffer = io.BytesIO()
        place = TarPlace(buffer.write)
        for name, data in files.items():
            place.put(name, data)
        place.finish()
        found = shelf(buffer.getvalue())
        for name, data in files.items():
            assert read_small(found, name, 1 << 20) == data
        with tarfile.open(fileobj=io.BytesIO(buffer.getvalue())) as archive:
            read = {}
            for member in archive:
                if member.isfile():
                    content = archive.extractfile(member)
                    assert content is not None
                    read[member.name] = content.read()
        assert read == files

    def test_more_than_eight_gigabytes(self) -> None:
        """A size that needs no octal digits is written and read."""

        class Endless:
            def read(self, size: int, /) -> bytes:
                raise EOFError

        buffer = io.BytesIO()
        with pytest.raises(EOFError):
            TarPlace(buffer.write).pour("big", Endless(), 10 << 30)
        assert tarfile.TarInfo.frombuf(buffer.getvalue(), "utf-8", "strict").size == (
            10 << 30
        )
        with tempfile.TemporaryFile() as file:
            file.write(buffer.getvalue())
            file.truncate(512 + (10 << 30))
            piece = ArchiveShelf(file, "sparse").find("big")
            assert piece is not None
            assert piece.size == 10 << 30

    def test_pieces_do_not_disturb_each_other(self) -> None:
        """Two files of one archive can be read at the same time."""
        found = shelf(entry(b"a", b"1" * 600) + entry(b"b", b"2" * 600) + END)
        a, b = found.find("a"), found.find("b")
        assert a is not None
        assert b is not None
        assert (a.read(5), b.read(5), a.read(600)) == (b"1" * 5, b"2" * 5, b"1" * 595)
        assert a.read(1) == b""

    def test_without_an_end(self) -> None:
        """An archive that ends without the blocks that say so is read."""
        assert read_small(shelf(entry(b"a", b"1")), "a", 9) == b"1"
        assert read_small(shelf(header(b"a", b"00000000001\0") + b"1"), "a", 9) == b"1"


PAX = b"x"
REFUSED = {
    "leads up": entry(b"../a"),
    "leads up inside": entry(b"a/../../b"),
    "absolute": entry(b"/etc/passwd"),
    "device": entry(b"a", kind=b"3"),
    "FIFO": entry(b"a", kind=b"6"),
    "sparse": entry(b"a", kind=b"S"),
    "unknown": entry(b"a", kind=b"Z"),
    "link that leads up": entry(b"d/a", kind=b"2", link=b"../../b"),
    "link to the host": entry(b"a", kind=b"2", link=b"/etc/passwd"),
    "hard link to the host": entry(b"a", kind=b"1", link=b"/etc/passwd"),
    "name is no UTF-8": entry(b"\xff"),
    "negative size": header(b"a", b"\xff" * 12),
    "huge size": header(b"a", b"\x80" + b"\xff" * 11),
    "size beyond the end": header(b"a", b"\x80" + (1 << 40).to_bytes(11, "big")),
    "size is no number": header(b"a", b"12x45\0"),
    "size of nines": header(b"a", b"99999999999\0"),
    "cut in a header": entry(b"a")[:300],
    "cut in a file": header(b"a", b"00000001000\0") + b"1" * 100,
    "wrong sum": entry(b"a").replace(b"a\0", b"b\0", 1),
    "pax without end": entry(b"h", b"99 path=a\n", kind=PAX) + entry(b"a"),
    "pax of zero": entry(b"h", b"0 path=a\n", kind=PAX) + entry(b"a"),
    "pax without key": entry(b"h", b"6 abc\n", kind=PAX) + entry(b"a"),
    "pax with a bad size": entry(b"h", b"12 size=-12\n", kind=PAX) + entry(b"a"),
    "pax that leads up": entry(b"h", b"13 path=../a\n", kind=PAX) + entry(b"a"),
    "pax of sparse": entry(b"h", b"22 GNU.sparse.major=1\n", kind=PAX) + entry(b"a"),
    "pax of a gigabyte": header(b"h", b"10000000000\0", kind=PAX),
    "long name of a gigabyte": header(b"h", b"10000000000\0", kind=b"L"),
    "long name that leads up": entry(b"h", b"../a\0", kind=b"L") + entry(b"a"),
}


class TestRefused:
    """Archives that none of these tools writes."""

    @pytest.mark.parametrize("name", REFUSED)
    def test_refused(self, name: str) -> None:
        """It is refused at once, whatever is asked for, with a printable line."""
        begun = time.monotonic()
        with pytest.raises(Malformed) as refused:
            shelf(REFUSED[name] + (b"" if "cut" in name else END))
        assert str(refused.value).isprintable()
        assert time.monotonic() - begun < 1

    def test_a_name_twice(self) -> None:
        """A file that is there twice is refused when it is asked for."""
        found = shelf(entry(b"a", b"1") + entry(b"./a", b"2") + entry(b"b", b"3") + END)
        assert read_small(found, "b", 9) == b"3"
        with pytest.raises(Malformed, match="twice"):
            found.find("a")

    def test_links_without_end(self) -> None:
        """Links in a circle are refused; those that lead nowhere are none."""
        found = shelf(
            entry(b"a", kind=b"2", link=b"b")
            + entry(b"b", kind=b"2", link=b"a")
            + entry(b"c", kind=b"2", link=b"nothing")
            + END
        )
        with pytest.raises(Malformed, match="without end"):
            found.find("a")
        assert found.find("c") is None

    @pytest.mark.slow
    def test_too_many(self) -> None:
        """More entries than any image has are refused by their number."""
        one = entry(b"a/b", kind=b"5")
        assert shelf(one * MEMBERS_MAX).find("a") is None
        with pytest.raises(Malformed, match=str(MEMBERS_MAX)):
            shelf(one * (MEMBERS_MAX + 1))

    def test_too_large(self) -> None:
        """A document that is larger than it may be is refused before it is read."""
        found = shelf(entry(b"a", b"1" * 100) + END)
        assert read_small(found, "a", 100) == b"1" * 100
        with pytest.raises(Malformed, match="larger than 99"):
            read_small(found, "a", 99)

    @given(
        st.lists(
            st.tuples(st.integers(0, 3000), st.integers(0, 255)), min_size=1, max_size=8
        )
    )
    @UNHURRIED
    def test_any_damage(self, flips: list[tuple[int, int]]) -> None:
        """However an archive is damaged, it is read or refused by us, and at once."""
        data = bytearray(
            entry(b"a", b"1" * 600)
            + entry(b"h", b"10 path=b\n", kind=PAX)
            + entry(b"c")
        )
        for place, value in flips:
            data[place % len(data)] = value
        try:
            found = shelf(bytes(data))
            found.find("a")
        except Malformed as refused:
            message = str(refused)
        else:
            message = ""
        assert message.isprintable()

    def test_every_cut(self) -> None:
        """An archive that is cut short anywhere lacks a file, or is refused."""
        whole = entry(b"a", b"1" * 600) + entry(b"b", b"2" * 600)
        for length in range(0, len(whole) - 424, 97):
            try:
                found = shelf(whole[:length]).find("b")
            except Malformed:
                continue
            assert found is None


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[DirectoryShelf]:
    """Return a directory with a file, inside of another one."""
    (tmp_path / "secret").write_text("secret")
    top = tmp_path / "top"
    (top / "d").mkdir(parents=True)
    (top / "d/a").write_text("1")
    (top / "inside").symlink_to("/d/a")
    (top / "outside").symlink_to("../secret")
    with DirectoryShelf(str(top)) as found:
        yield found


def test_directory(directory: DirectoryShelf) -> None:
    """A directory is its own root: links and names stay inside."""
    assert read_small(directory, "d/a", 9) == b"1"
    assert read_small(directory, "inside", 9) == b"1"
    for name in ("outside", "../secret", "d/../../secret", "d/b", "d/a/b"):
        assert directory.find(name) is None
