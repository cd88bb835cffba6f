"""
A workshop of Python for tests of the store: it works in this process.

It knows what the store asks for and no more: it takes tar archives of our own making.
The real one is tested where it is, and together with the store in `test_store_real`.
"""

import contextlib
import io
import os
import shutil
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import attrs

from jailbox.errors import ContentError
from jailbox.linux.workshop import DEFAULT_POLICY, UnpackPolicy
from jailbox.store.feeding import Source
from jailbox.store.owners import Left, Owner

__all__ = ["Layout", "PlainWorkshop", "plain", "tar_of"]

# What a layer consists of: text or bytes for a file, None for a directory, a tuple with
# a target for links.
Layout = Mapping[str, str | bytes | tuple[str, str] | None]


def tar_of(layout: Layout) -> bytes:
    """
    Make a plain tar. ``("symlink", target)`` and ``("link", target)`` make links.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, what in layout.items():
            info = tarfile.TarInfo(name)
            data = b""
            if what is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            elif isinstance(what, tuple):
                kinds = {"symlink": tarfile.SYMTYPE, "link": tarfile.LNKTYPE}
                info.type, info.linkname = kinds[what[0]], what[1]
            else:
                data = what.encode() if isinstance(what, str) else what
                info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def plain(file: BinaryIO, media_type: str) -> Source:
    """Open layers that are not packed."""
    assert "gzip" not in media_type
    return file


@attrs.frozen
class PlainUnpacked:
    """What came of unpacking."""

    entries: int
    self_contained: bool
    owners: tuple[Owner, ...] = ()
    skipped: tuple[Left, ...] = ()


@attrs.frozen
class PlainMeasured:
    """What a tree takes."""

    bytes: int
    inodes: int


class PlainWorkshop:
    """
    Unpacks, removes and looks, in Python and in this process.

    Attributes:
        unpacked: How often a layer was unpacked.

        owners: What is given as owners that could not be kept.
    """

    def __init__(self) -> None:
        self.unpacked = 0
        self.owners: tuple[Owner, ...] = ()

    def unpack(
        self,
        stream: int,
        target: int,
        *,
        lowers: Sequence[int] = (),
        bottom: bool = False,
        policy: UnpackPolicy = DEFAULT_POLICY,
    ) -> PlainUnpacked:
        """Unpack a plain tar. A link to what is not in it needs lower layers."""
        self.unpacked += 1
        place = Path(f"/proc/self/fd/{target}")
        entries, alone = 0, True
        with (
            _no_tar(),
            open(os.dup(stream), "rb") as file,
            tarfile.open(fileobj=file, mode="r|") as tar,
        ):
            for info in tar:
                entries += 1
                path = place / info.name
                if not path.parent.is_dir():
                    alone = False
                    path.parent.mkdir(parents=True)
                if info.isdir():
                    path.mkdir(exist_ok=True)
                elif info.issym():
                    path.symlink_to(info.linkname)
                elif info.islnk():
                    source = place / info.linkname
                    if not source.exists():
                        alone = False
                        if not _copied(info.linkname, place, lowers):
                            continue
                    os.link(source, path)
                else:
                    content = tar.extractfile(info)
                    assert content is not None
                    path.write_bytes(content.read())
        return PlainUnpacked(entries, alone, self.owners)

    def remove(self, parent: int, name: str) -> None:
        """Delete a tree."""
        top = f"/proc/self/fd/{parent}/{name}"
        for place, _, _ in os.walk(top):
            os.chmod(place, 0o700)
        shutil.rmtree(top)

    def measure(self, tree: int) -> PlainMeasured:
        """Add up what a tree takes."""
        seen: dict[int, int] = {}
        for path in _below(f"/proc/self/fd/{tree}/."):
            found = os.lstat(path)
            seen[found.st_ino] = found.st_blocks * 512
        return PlainMeasured(sum(seen.values()), len(seen))


@contextlib.contextmanager
def _no_tar() -> Iterator[None]:
    try:
        yield
    except tarfile.TarError as error:
        raise ContentError(f"no tar: {error}") from error


def _copied(name: str, place: Path, lowers: Sequence[int]) -> bool:
    for lower in lowers:
        below = Path(f"/proc/self/fd/{lower}/{name}")
        if below.exists():
            path = place / name
            with contextlib.suppress(FileExistsError):
                path.parent.mkdir(parents=True)
            shutil.copy(below, path)
            return True
    if lowers:
        raise ContentError(f"hard link to nothing: {name}")
    return False


def _below(top: str) -> Iterator[str]:
    yield top
    for place, directories, files in sorted(os.walk(top)):
        for name in sorted([*directories, *files]):
            yield os.path.join(place, name)
