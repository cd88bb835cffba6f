"""
Packing as a plain process, and a reader of layers that is not ours.

The packer is compiled with sanitizers. The reader is the shortest program that does
what the image specification says about layers; it trusts what it reads.
"""

import io
import os
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from enum import IntFlag
from pathlib import Path

import attrs

from tests.native.agents import PACKING, SANITIZERS, compile_c

OVERLAY = Path(__file__).parent / "overlay.py"


class Flag(IntFlag):
    """What a packer is told (pack.h)."""

    LAYER = 1
    EXACT_TIMES = 2
    EPOCH = 4
    ANY_NAME = 8


@attrs.frozen
class Packed:
    """
    What came out of a packer.

    Attributes:
        data: The archive, or what was written of it.

        counts: Entries, bytes of content, things left out.

        skipped: Paths of things left out.

        refused: Why there is no archive, or nothing.
    """

    data: bytes
    counts: tuple[int, ...]
    skipped: tuple[str, ...]
    refused: str

    @property
    def members(self) -> list[tarfile.TarInfo]:
        """What Python reads in it."""
        with tarfile.open(fileobj=io.BytesIO(self.data)) as tar:
            return tar.getmembers()

    @property
    def names(self) -> list[str]:
        """Paths, in order."""
        return [member.name for member in self.members]

    def member(self, name: str) -> tarfile.TarInfo:
        """Find one entry."""
        (found,) = (each for each in self.members if each.name == name)
        return found


class Packer:
    """A program that packs."""

    def __init__(self, place: Path) -> None:
        self.program = place / "packer"
        if not self.program.exists():
            compile_c(self.program, "pack_agent.c", PACKING, *SANITIZERS)

    def __call__(
        self,
        tree: Path,
        lower: Path | None = None,
        *,
        owners: Path | None = None,
        flags: int = 0,
        bases: tuple[int, int] = (0, 0),
        epoch: int = 0,
        limits: tuple[int, int] = (0, 0),
    ) -> Packed:
        """Pack, by a process that must not complain about itself."""
        words = [tree, lower or "-", owners or "-", flags, *bases, epoch, *limits]
        done = subprocess.run(
            [self.program, *map(str, words)],
            capture_output=True,
            check=False,
            env={"ASAN_OPTIONS": "detect_leaks=0"},
        )
        said = done.stderr.decode("utf-8", "surrogateescape")
        assert "Sanitizer" not in said, said
        assert "runtime error" not in said, said
        counts, *lines = said.splitlines()
        skipped = [line for line in lines if line.startswith("skipped ")]
        (refused,) = [line for line in lines if line not in skipped] or [""]
        assert bool(refused) == bool(done.returncode)
        return Packed(
            done.stdout,
            tuple(int(word) for word in counts.split()[1::2]),
            tuple(line.partition(" ")[2] for line in skipped),
            refused,
        )


def owners_table(
    path: Path, owners: Mapping[bytes, tuple[int, int, int, int, int]]
) -> Path:
    """Write a table of (uid, gid, mode, major, minor) by path, in the walk's order."""
    with path.open("wb") as file:
        for name, values in sorted(
            owners.items(), key=lambda item: item[0].replace(b"/", b"\0")
        ):
            file.write(struct.pack("=6I", len(name), *values) + name)
    return path


def apply_layer(data: bytes, target: Path) -> None:
    """Do to *target* what the layer says: image-spec, *layer.md*."""
    directories: list[tuple[Path, tarfile.TarInfo]] = []
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            place = target / member.name
            if place.name == ".wh..wh..opq":
                for child in place.parent.iterdir():
                    # What this layer itself has put there comes behind the mark.
                    _remove(child)
                continue
            if place.name.startswith(".wh."):
                _remove(place.with_name(place.name[4:]))
                continue
            if member.isdir():
                if not place.is_dir() or place.is_symlink():
                    _remove(place)
                    place.mkdir()
                directories.append((place, member))
                continue
            _remove(place)
            _make(tar, member, place, target)
    for place, member in reversed(directories):
        _describe(place, member)


def _make(
    tar: tarfile.TarFile, member: tarfile.TarInfo, place: Path, target: Path
) -> None:
    if member.islnk():
        os.link(target / member.linkname, place, follow_symlinks=False)
        return
    if member.issym():
        place.symlink_to(member.linkname)
    elif member.isfifo():
        os.mkfifo(place)
    elif member.isdev():
        kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
        device = os.makedev(member.devmajor, member.devminor)
        os.mknod(place, kind | member.mode, device)
    else:
        content = tar.extractfile(member)
        assert content is not None
        place.write_bytes(content.read())
    _describe(place, member)


def _describe(place: Path, member: tarfile.TarInfo) -> None:
    if os.geteuid() == 0:
        os.chown(place, member.uid, member.gid, follow_symlinks=False)
    if not member.issym():
        place.chmod(member.mode)
        for key, value in member.pax_headers.items():
            if key.startswith("SCHILY.xattr."):
                os.setxattr(
                    place,
                    key.removeprefix("SCHILY.xattr."),
                    value.encode("utf-8", "surrogateescape"),
                )
    second, _, fraction = member.pax_headers.get("mtime", "0.").partition(".")
    time = int(second) * 10**9 + int(fraction.ljust(9, "0") or 0)
    if not time:
        time = int(member.mtime) * 10**9
    os.utime(place, ns=(time, time), follow_symlinks=False)


def _remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def overlaid(place: Path, operations: str, *, userns: bool) -> str:
    """
    Do things in an overlay with ``user.overlay.*`` marks; return what was seen.

    Args:
        place: A directory with ``lower``; gets ``upper``, ``work`` and ``merged``.

        operations: As *overlay.py* takes them.

        userns: As root of a user namespace, not of the host.
    """
    names = [place / name for name in ("lower", "upper", "work", "merged")]
    for name in names:
        name.mkdir(exist_ok=True)
    mode = ["--user", "--map-root-user"] if userns else []
    done = subprocess.run(
        [
            "unshare", *mode, "--mount", sys.executable, OVERLAY, *names, "userxattr",
            operations,
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
