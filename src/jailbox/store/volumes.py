"""
Volumes: directories of a store that outlast containers.

A record makes a volume visible, and is its lease, as with images: whoever uses it holds
a shared lock on that file, and whoever removes it needs an exclusive one. The directory
is made before the record and deleted after it; one without a record is garbage.
"""

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Final, Self

from jailbox.errors import InUse, NotFound, SpecError, StoreError
from jailbox.linux.disk import sync_filesystem
from jailbox.store.adding import GcLock
from jailbox.store.files import Files, Temporary, read_all
from jailbox.store.locks import (
    EXCLUSIVE,
    SHARED,
    Held,
    adopt,
    holders,
    is_still,
    open_held,
)
from jailbox.store.records import VolumeRecord, volume_file
from jailbox.store.trash import Trash
from jailbox.store.workshop import Workshop

__all__ = ["Scratch", "VolumeLease", "Volumes"]

_PLACES: Final = ("volumes", "records/volumes")
_DATA: Final = "data"
_FILLED: Final = "filled"
_PATIENCE: Final = 0.1


class VolumeLease:
    """
    A volume that stays while this is held.

    Attributes:
        record: The volume.

        path: Where its files are, absolute.
    """

    def __init__(self, record: VolumeRecord, path: str, held: Held) -> None:
        self.record = record
        self.path = path
        self._held = held

    def release(self) -> None:
        """Let go of it, unless that has happened."""
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


class Scratch:
    """
    A directory for as long as somebody holds it; gc removes it after a crash.

    Attributes:
        path: Where its files go, absolute.
    """

    def __init__(self, files: Files, trash: Trash) -> None:
        self._trash = trash
        self._temporary = files.temporary("make a volume", directory=True)
        self._there = True
        try:
            os.close(_make_data(self._temporary))
        except BaseException:
            self.release()
            raise
        self.path = files.where(f"{self._temporary.name}/{_DATA}")

    def release(self) -> None:
        """Delete it, unless that has happened."""
        if self._there:
            self._there = False
            self._trash.drop(self._temporary)


class Volumes:
    """The volumes of a store, by name."""

    def __init__(
        self,
        files: Files,
        gc_lock: GcLock,
        trash: Trash,
        workshop: Callable[[], Workshop],
    ) -> None:
        self._files = files
        self._gc_lock = gc_lock
        self._trash = trash
        self._workshop = workshop

    # ---- finding -----------------------------------------------------------

    def get(self, name: str) -> VolumeRecord:
        """
        Find a volume.

        Raises:
            NotFound: If there is none.

            ContentError: If its record is damaged.
        """
        file = volume_file(name)
        data = self._files.read(file, "read a volume's record")
        if data is None:
            raise self._missing(name)
        return VolumeRecord.from_bytes(data, self._files.where(file))

    def all(self) -> list[VolumeRecord]:
        """Return all volumes, sorted by name."""
        found = []
        for entry in self._entries("records/volumes"):
            with contextlib.suppress(NotFound):
                found.append(self.get(entry.removesuffix(".json")))
        return found

    def size(self, record: VolumeRecord) -> int:
        """Return the bytes that a volume takes on the disk."""
        with self._files.trying("measure a volume", f"volumes/{record.tree}"):
            fd = self._files.open(
                f"volumes/{record.tree}/{_DATA}", os.O_RDONLY | os.O_DIRECTORY
            )
        try:
            return self._workshop().measure(fd).bytes
        finally:
            os.close(fd)

    def _missing(self, name: str) -> NotFound:
        return NotFound("volume", name, where=self._files.path)

    def _entries(self, directory: str) -> list[str]:
        if self._files.stat(directory) is None:
            return []
        return self._files.list(directory)

    # ---- making ------------------------------------------------------------

    def create(
        self,
        name: str,
        *,
        labels: Mapping[str, str] | None = None,
        seed: int | None = None,
        exist_ok: bool = False,
    ) -> VolumeRecord:
        """
        Make a volume; it is on the disk when this returns.

        Args:
            name: What it is called.

            labels: Texts to keep with it.

            seed: Descriptor of a plain tar with what is in it at first; it then takes
                nothing of an image.

            exist_ok: If there is one of that name, return it.

        Raises:
            SpecError: If there is one of that name.

            LayerError: If the seed is malformed.
        """
        file = volume_file(name)
        if self._files.stat(file) is None:
            for place in _PLACES:
                self._files.make_directory(place, "make a volume")
            record = VolumeRecord(
                name=name,
                tree=secrets.token_hex(16),
                labels=dict(labels or {}),
                created=int(time.time()),
            )
            with self._gc_lock.shared():
                self._place(record.tree, seed)
                made = self._files.write_new(file, record.to_bytes(), "record a volume")
            if made:
                return record
            self._delete(record.tree)
        if not exist_ok:
            raise SpecError("name", "is taken by another volume", value=name)
        return self.get(name)

    def scratch(self) -> Scratch:
        """Make a directory that has no name, and goes with whoever holds it."""
        return Scratch(self._files, self._trash)

    def _place(self, tree: str, seed: int | None) -> None:
        temporary = self._files.temporary("make a volume", directory=True)
        try:
            with self._files.trying("make a volume", temporary.name):
                data = _make_data(temporary)
                try:
                    if seed is not None:
                        self._workshop().unpack(seed, data, bottom=True)
                        _mark(temporary.fileno())
                    sync_filesystem(data)
                finally:
                    os.close(data)
            temporary.move(f"volumes/{tree}")
        except BaseException:
            self._trash.drop(temporary)
            raise
        temporary.close()

    @contextlib.contextmanager
    def filling(self, lease: VolumeLease) -> Iterator[bool]:
        """
        Fill a volume that nobody has used yet.

        Yields:
            Whether there is anything to do. What is in it then is of somebody who did
            not finish. It is filled when the block ends without an error.
        """
        place = f"volumes/{lease.record.tree}"
        marker = f"{place}/{_FILLED}"
        if self._files.stat(marker) is not None:
            yield False
            return
        with self._files.lock(f"{place}/lock", EXCLUSIVE, "a volume"):
            if self._files.stat(marker) is not None:
                yield False
                return
            yield True
            with self._files.trying("fill a volume", place):
                fd = self._files.open(place, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    sync_filesystem(fd)
                    _mark(fd)
                finally:
                    os.close(fd)

    # ---- using -------------------------------------------------------------

    def lease(self, name: str) -> VolumeLease:
        """
        Use a volume: nobody removes it until the lease is released.

        Raises:
            NotFound: If there is none.

            DeadlineExceeded: If somebody takes too long to remove it.
        """
        file = volume_file(name)
        with self._files.trying("lease a volume", file):
            try:
                held = self._files.lock(
                    file, SHARED, f"volume {name}", flags=os.O_RDONLY
                )
            except StoreError as error:
                if isinstance(error.__cause__, FileNotFoundError):
                    raise self._missing(name) from None
                raise
            try:
                data = read_all(held.fileno())
                record = VolumeRecord.from_bytes(data, self._files.where(file))
                path = self._files.where(f"volumes/{record.tree}/{_DATA}")
                return VolumeLease(record, path, held)
            except BaseException:
                held.close()
                raise

    # ---- removing ----------------------------------------------------------

    def remove(self, name: str) -> None:
        """
        Remove a volume with everything in it.

        Raises:
            NotFound: If there is none.

            InUse: If somebody uses it; it names them. Nothing was removed.
        """
        file = volume_file(name)
        with self._files.trying("remove a volume", file):
            try:
                held = open_held(file, os.O_RDWR | os.O_NOFOLLOW, dir_fd=self._files.fd)
            except FileNotFoundError:
                raise self._missing(name) from None
            with held:
                deadline = time.monotonic() + _PATIENCE
                while not adopt(held, EXCLUSIVE):
                    if time.monotonic() > deadline:
                        raise InUse(
                            "volume",
                            name,
                            holders(held),
                            hint="It can be removed when its containers are.",
                        )
                    time.sleep(_PATIENCE / 20)
                if not is_still(held, file, dir_fd=self._files.fd):
                    raise self._missing(name)
                tree = VolumeRecord.from_bytes(
                    read_all(held.fileno()), self._files.where(file)
                ).tree
                self._files.withdraw([file], "remove a volume")
        self._delete(tree)

    def collect(self, timeout: float | None = None) -> int:
        """
        Delete directories that no record speaks of; how many.

        Raises:
            ContentError: If a record is damaged: nobody knows then what it speaks of.
        """
        if not self._entries("volumes"):
            return 0
        with self._gc_lock.exclusive(timeout):
            known = {record.tree for record in self.all()}
            garbage = [tree for tree in self._entries("volumes") if tree not in known]
            away = [
                self._trash.take(f"volumes/{t}", "remove a volume") for t in garbage
            ]
        for name in away:
            if name is not None:
                self._trash.delete(name)
        return len(garbage)

    def _delete(self, tree: str) -> None:
        """Delete what has no record any more. What fails is left to `collect`."""
        away = self._trash.take(f"volumes/{tree}", "remove a volume")
        if away is not None:
            self._trash.delete(away)


def _make_data(temporary: Temporary) -> int:
    """Make the directory that is mounted; its descriptor is the caller's."""
    os.mkdir(_DATA, dir_fd=temporary.fileno())
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    data = os.open(_DATA, flags, dir_fd=temporary.fileno())
    os.fchmod(data, 0o755)
    return data


def _mark(directory: int) -> None:
    """Note that nothing is to be copied into it any more."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
    os.close(os.open(_FILLED, flags, 0o600, dir_fd=directory))
    os.fsync(directory)
