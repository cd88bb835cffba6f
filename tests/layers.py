"""
Layers for tests: archives by hand, trees of them, and what is seen through a stack.

An archive is made of headers that say what they are told, right or wrong: nothing here
checks anything. A stack of trees is looked at by the rules of overlayfs, in Python, so
that the kernel is not asked about itself.
"""

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from jailbox.linux.workshop import Unpacked, UnpackPolicy, Workshop

__all__ = ["END", "Yard", "archive", "entry", "header", "pax", "view"]

BLOCK = 512
END = b"\0" * (2 * BLOCK)

OPAQUE = "user.overlay.opaque"


# ---- archives ---------------------------------------------------------------


def octal(number: int, size: int) -> bytes:
    """Write a number as octal digits and a NUL."""
    return f"{number:0{size - 1}o}".encode() + b"\0"


def header(
    name: bytes | str = b"f",
    kind: str = "0",
    *,
    mode: bytes | int = 0o644,
    uid: bytes | int = 0,
    gid: bytes | int = 0,
    size: bytes | int = 0,
    mtime: bytes | int = 1_000_000,
    link: bytes | str = b"",
    magic: bytes = b"ustar\x0000",
    device: tuple[bytes | int, bytes | int] = (0, 0),
    prefix: bytes = b"",
    rest: bytes = b"",
    checksum: bytes | None = None,
) -> bytes:
    """
    Make one header block. Numbers may be given as the bytes of their field.

    *rest* stands where the prefix begins, for dialects that have no prefix.
    """

    def number(value: bytes | int, length: int) -> bytes:
        if isinstance(value, int):
            return octal(value, length)
        return value.ljust(length, b"\0")

    fields = [
        _bytes(name).ljust(100, b"\0"),
        number(mode, 8),
        number(uid, 8),
        number(gid, 8),
        number(size, 12),
        number(mtime, 12),
        b" " * 8,
        kind.encode("latin-1"),
        _bytes(link).ljust(100, b"\0"),
        magic.ljust(8, b"\0"),
        b"\0" * 64,
        number(device[0], 8),
        number(device[1], 8),
        (rest or prefix).ljust(167, b"\0"),
    ]
    block = b"".join(fields)
    assert len(block) == BLOCK, len(block)
    if checksum is None:
        checksum = octal(sum(block), 7) + b" "
    return block[:148] + checksum.ljust(8, b"\0") + block[156:]


def entry(
    name: bytes | str = b"f",
    kind: str = "0",
    content: bytes = b"",
    **fields: Any,  # noqa: ANN401
) -> bytes:
    """Make an entry with its content, of the size that it has."""
    fields.setdefault("size", len(content))
    return header(name, kind, **fields) + padded(content)


def padded(content: bytes) -> bytes:
    """Fill the last block up."""
    return content + b"\0" * (-len(content) % BLOCK)


def pax(records: Mapping[str, bytes | str], kind: str = "x") -> bytes:
    """Make an extended header."""
    body = b"".join(record(key, _bytes(value)) for key, value in records.items())
    return entry("pax", kind, body)


def record(key: str, value: bytes) -> bytes:
    """Make one record of an extended header, with its length in front."""
    tail = b" " + key.encode() + b"=" + value + b"\n"
    length = len(tail)
    while length != len(tail) + len(str(length)):
        length = len(tail) + len(str(length))
    return str(length).encode() + tail


def archive(*entries: bytes) -> bytes:
    """Put entries together, with the marks at the end."""
    return b"".join(entries) + END


def _bytes(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else os.fsencode(text)


# ---- trees ------------------------------------------------------------------


@attrs.define(eq=False)
class Yard:
    """
    A place where layers become trees.

    Attributes:
        workshop: What does the work.

        place: An empty directory that is ours.

        trees: What was made, the lowest first.
    """

    workshop: Workshop
    place: Path
    policy: UnpackPolicy = UnpackPolicy()
    trees: list[Path] = attrs.field(factory=list)

    def unpack(
        self,
        data: bytes,
        *,
        lowers: Sequence[Path] = (),
        bottom: bool = False,
        policy: UnpackPolicy | None = None,
    ) -> tuple[Path, Unpacked]:
        """Unpack one archive into a new tree."""
        tree = self.place / f"tree{len(list(self.place.iterdir()))}"
        tree.mkdir(mode=0o755)
        memory = os.memfd_create("archive", os.MFD_CLOEXEC)
        target = os.open(tree, os.O_RDONLY)
        below = [os.open(path, os.O_RDONLY) for path in lowers]
        try:
            with os.fdopen(os.dup(memory), "wb") as file:
                file.write(data)
            os.lseek(memory, 0, os.SEEK_SET)
            done = self.workshop.unpack(
                memory,
                target,
                lowers=below,
                bottom=bottom,
                policy=policy or self.policy,
            )
        finally:
            for fd in (memory, target, *below):
                os.close(fd)
        return tree, done

    def remove(self, tree: Path) -> None:
        """Take a tree away."""
        place = os.open(tree.parent, os.O_PATH)
        try:
            self.workshop.remove(place, tree.name)
        finally:
            os.close(place)

    def add(self, data: bytes, *, merged: bool = False) -> Unpacked:
        """
        Lay a layer on the others, as a store does it.

        With *merged* it is unpacked on what lies below even if it can do without.
        """
        below = self.trees[::-1]
        if not (merged and below):
            tree, done = self.unpack(data, bottom=not below)
            if done.self_contained:
                self.trees.append(tree)
                return done
            self.remove(tree)
        tree, done = self.unpack(data, lowers=below)
        self.trees.append(tree)
        return done

    def clear(self) -> None:
        """Take everything away."""
        for tree in self.place.iterdir():
            self.remove(tree)


def view(trees: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """Describe what a stack of trees, the lowest first, looks like."""
    seen: dict[str, Path] = {}
    for tree in trees:
        _lay(seen, tree, tree)
    return _describe(seen)


def _lay(seen: dict[str, Path], tree: Path, directory: Path) -> None:
    for place in sorted(directory.iterdir()):
        name = os.fsdecode(os.path.relpath(os.fsencode(place), os.fsencode(tree)))
        status = place.lstat()
        below = [each for each in seen if each.startswith(name + "/")]
        is_directory = stat.S_ISDIR(status.st_mode)
        was = seen.get(name)
        merges = is_directory and was is not None and stat.S_ISDIR(was.lstat().st_mode)
        if not merges or OPAQUE in os.listxattr(place, follow_symlinks=False):
            for each in below:
                del seen[each]
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            seen.pop(name, None)
            continue
        seen[name] = place
        if is_directory:
            _lay(seen, tree, place)


_TYPES = {
    stat.S_IFREG: "f", stat.S_IFDIR: "d", stat.S_IFLNK: "l", stat.S_IFCHR: "c",
    stat.S_IFBLK: "b", stat.S_IFIFO: "p",
}  # fmt: skip


def _describe(seen: dict[str, Path]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    names: dict[tuple[int, int], list[str]] = {}
    for name, place in seen.items():
        status = place.lstat()
        kind = _TYPES[stat.S_IFMT(status.st_mode)]
        about: dict[str, Any] = {
            "t": kind,
            "m": f"{stat.S_IMODE(status.st_mode):04o}",
            "u": status.st_uid,
            "g": status.st_gid,
            "mt": status.st_mtime_ns // 1_000_000_000,
        }
        if kind == "f":
            about["s"] = status.st_size
            about["h"] = hashlib.sha256(place.read_bytes()).hexdigest()
            names.setdefault((status.st_dev, status.st_ino), []).append(name)
        elif kind == "l":
            about["l"] = os.fsdecode(os.readlink(os.fsencode(place)))
        elif kind in "cb":
            device = status.st_rdev
            about["dev"] = f"{os.major(device)},{os.minor(device)}"
        attributes = {
            each: os.getxattr(place, each, follow_symlinks=False).decode("latin-1")
            for each in os.listxattr(place, follow_symlinks=False)
            if not each.startswith("user.overlay.")
        }
        if attributes:
            about["x"] = attributes
        found[name] = about
    for group in names.values():
        for name in group:
            if len(group) > 1:
                found[name]["hl"] = sorted(set(group) - {name})
    return found
