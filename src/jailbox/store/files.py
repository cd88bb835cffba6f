"""
The files of a store: made whole, replaced whole, removed whole, and on the disk.

Every name is relative to the directory of the store, which is held by descriptor: where
the process stands, how long the path is and whether links are in it no longer matters.

The order is the design. Data reaches the disk before the name that makes it visible
(write, fsync, link, fsync of the directory); what is removed disappears by one rename
before anything of it is deleted. What is found in ``tmp`` or ``trash`` is nobody's,
unless it is locked.
"""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterable
from types import TracebackType
from typing import Final, Self

from jailbox.linux.fd import Fd
from jailbox.store.errors import storing
from jailbox.store.locks import EXCLUSIVE, Held, acquire, adopt, is_still, open_held

__all__ = ["READ_ONLY_FILE", "RECORD_FILE", "Files", "Temporary"]

RECORD_FILE: Final = 0o600
READ_ONLY_FILE: Final = 0o444

_TRIES = 100


class Files:
    """
    The directory of a store.

    Attributes:
        path: Where it is, absolute; for messages and for those who mount.

        timeout: Seconds to wait for what other processes hold.
    """

    def __init__(self, root: Fd, path: str, *, timeout: float) -> None:
        self._root = root
        self.path = path
        self.timeout = timeout

    @property
    def fd(self) -> int:
        """The descriptor of the directory, owned here."""
        return self._root.fileno()

    def close(self) -> None:
        """Let go of the directory. Idempotent."""
        self._root.close()

    def where(self, name: str) -> str:
        """Return the absolute path of *name*."""
        return os.path.join(self.path, name)

    def trying(self, operation: str, name: str) -> storing:
        """Turn every `OSError` of a block into a `StoreError` about *name*."""
        return storing(operation, self.where(name))

    # ---- reading -----------------------------------------------------------

    def open(self, name: str, flags: int = os.O_RDONLY) -> int:
        """
        Open *name*; the descriptor is the caller's.

        Raises:
            OSError: As `os.open` does.
        """
        flags |= os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(name, flags, dir_fd=self.fd)

    def read(self, name: str, operation: str) -> bytes | None:
        """Read a small file whole; ``None`` if it is not there."""
        with self.trying(operation, name):
            try:
                fd = self.open(name)
            except FileNotFoundError:
                return None
            try:
                return read_all(fd)
            finally:
                os.close(fd)

    def stat(self, name: str) -> os.stat_result | None:
        """Look at *name*, not following it; ``None`` if it is not there."""
        with self.trying("look", name):
            try:
                return os.stat(name, dir_fd=self.fd, follow_symlinks=False)
            except FileNotFoundError:
                return None

    def list(self, directory: str) -> list[str]:
        """Name what is in *directory*, sorted."""
        with self.trying("list", directory):
            fd = self.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                return sorted(os.listdir(fd))
            finally:
                os.close(fd)

    # ---- locks -------------------------------------------------------------

    def lock(
        self,
        name: str,
        kind: int,
        what: str,
        *,
        flags: int = os.O_RDWR | os.O_CREAT,
        timeout: float | None = None,
    ) -> Held:
        """
        Wait for the lock on a file. See `jailbox.store.locks.acquire`.

        Raises:
            DeadlineExceeded: If others held it all the time; it names them.
        """
        wait = self.timeout if timeout is None else timeout
        with self.trying(f"lock {what}", name):
            return acquire(
                name, kind, dir_fd=self.fd, timeout=wait, what=what, flags=flags
            )

    def try_lock(self, name: str) -> Held | None:
        """
        Lock *name* against everybody if nobody else has it.

        ``None`` if somebody has, or if it is not there.
        """
        with self.trying("lock", name):
            try:
                held = open_held(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=self.fd)
            except FileNotFoundError:
                return None
            with contextlib.ExitStack() as undo:
                undo.callback(held.close)
                if adopt(held, EXCLUSIVE) and is_still(held, name, dir_fd=self.fd):
                    undo.pop_all()
                    return held
            return None

    # ---- making ------------------------------------------------------------

    def temporary(self, operation: str, *, directory: bool = False) -> "Temporary":
        """
        Make a file, or a directory, that is locked while it is being filled.

        Use it as a context manager: what was not published is removed.
        """
        for _ in range(_TRIES):
            name = f"tmp/{secrets.token_hex(8)}"
            with self.trying(operation, name):
                if directory:
                    os.mkdir(name, 0o700, dir_fd=self.fd)
                    flags = os.O_RDONLY | os.O_DIRECTORY
                else:
                    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
                try:
                    held = open_held(name, flags, dir_fd=self.fd)
                except FileNotFoundError:
                    continue
                # gc may have come between: it locks what it looks at.
                try:
                    mine = adopt(held, EXCLUSIVE)
                    if mine and is_still(held, name, dir_fd=self.fd):
                        return Temporary(self, held, name, operation)
                except BaseException:
                    held.close()
                    self.discard(name)
                    raise
                held.close()
        with self.trying(operation, "tmp"):
            raise OSError(errno.EBUSY, "what was made was removed at once")

    def write_new(self, name: str, data: bytes, operation: str) -> bool:
        """
        Make the file *name* unless it is there; whether it was made now.

        Either it is there whole and on the disk afterwards, or it is not there.
        """
        with self.temporary(operation) as temporary:
            temporary.write(data)
            return temporary.publish(name, mode=RECORD_FILE)

    def write_over(self, name: str, data: bytes, operation: str) -> None:
        """Put *data* where *name* is or is to be. Whoever looks sees old or new."""
        with self.temporary(operation) as temporary:
            temporary.write(data)
            temporary.replace(name, mode=RECORD_FILE)

    def make_directory(self, name: str, operation: str) -> None:
        """Make a directory unless it is there; on the disk afterwards."""
        with self.trying(operation, name):
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=self.fd)
            self.sync(_directory_of(name))

    def sync(self, directory: str) -> None:
        """
        Wait until the names in *directory* are on the disk.

        Raises:
            OSError: If they cannot be written.
        """
        fd = self.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    # ---- removing ----------------------------------------------------------

    def withdraw(self, names: Iterable[str], operation: str) -> None:
        """
        Make files invisible, for good; then delete them.

        What is not there is passed over. They disappear by renames, which need
        neither space nor inodes. If that cannot be made durable they come back.
        """
        moved: list[tuple[str, str]] = []
        try:
            for name in names:
                with self.trying(operation, name):
                    away = f"trash/{secrets.token_hex(8)}"
                    try:
                        self._rename(name, away)
                    except FileNotFoundError:
                        continue
                    moved.append((name, away))
            for directory in sorted({_directory_of(name) for name, _ in moved}):
                with self.trying(operation, directory):
                    self.sync(directory)
        except BaseException:
            for name, away in reversed(moved):
                with contextlib.suppress(OSError):
                    self._rename(away, name)
            raise
        for _, away in moved:
            self.discard(away)

    def throw_away(self, name: str, operation: str) -> str:
        """
        Move a directory to the trash; its name there.

        Raises:
            StoreError: If it cannot be moved.
        """
        away = f"trash/{secrets.token_hex(8)}"
        with self.trying(operation, name):
            self._rename(name, away)
        return away

    def discard(self, name: str) -> None:
        """Delete a file that nobody needs; gc comes again if it cannot be."""
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=self.fd)

    def _rename(self, old: str, new: str) -> None:
        os.rename(old, new, src_dir_fd=self.fd, dst_dir_fd=self.fd)


class Temporary:
    """
    A file or directory in ``tmp``, held by a lock until it is published or given up.

    Attributes:
        name: Its name in the store.

        operation: What it is made for, for errors.
    """

    def __init__(self, files: Files, held: Held, name: str, operation: str) -> None:
        self._files = files
        self._held = held
        self._there = True
        self.name = name
        self.operation = operation

    def fileno(self) -> int:
        """The descriptor, owned here."""
        return self._held.fileno()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write all of *data* at the end."""
        view = memoryview(data)
        with self._files.trying(self.operation, self.name):
            while view:
                view = view[os.write(self.fileno(), view) :]

    def publish(self, name: str, *, mode: int) -> bool:
        """
        Give the file its name, unless something has it; whether it was given.

        Either way, what has the name is on the disk afterwards.
        """
        files, directory = self._files, _directory_of(name)
        with files.trying(self.operation, name):
            os.fchmod(self.fileno(), mode)
            os.fsync(self.fileno())
            try:
                os.link(
                    self.name,
                    name,
                    src_dir_fd=files.fd,
                    dst_dir_fd=files.fd,
                    follow_symlinks=False,
                )
                made = True
            except FileExistsError:
                made = False
            try:
                files.sync(directory)
            except OSError:
                if made:
                    files.discard(name)
                raise
        return made

    def replace(self, name: str, *, mode: int) -> None:
        """
        Give the file its name, also if something has it.

        If that cannot be made durable, what had the name before has it again.
        """
        files, before = self._files, f"{self.name}.old"
        with files.trying(self.operation, name):
            os.fchmod(self.fileno(), mode)
            os.fsync(self.fileno())
            try:
                os.link(name, before, src_dir_fd=files.fd, dst_dir_fd=files.fd)
                had = True
            except FileNotFoundError:
                had = False
            try:
                files._rename(self.name, name)  # noqa: SLF001  # of the same room
                self._there = False
                files.sync(_directory_of(name))
            except OSError:
                with contextlib.suppress(OSError):
                    if had:
                        files._rename(before, name)  # noqa: SLF001
                    elif not self._there:
                        os.unlink(name, dir_fd=files.fd)
                raise
            if had:
                files.discard(before)

    def move(self, name: str) -> bool:
        """
        Give the directory its name, unless something has it; whether it was given.

        Its content must be on the disk already. The name is, afterwards.
        """
        files = self._files
        with files.trying(self.operation, name):
            try:
                files._rename(self.name, name)  # noqa: SLF001
            except OSError as error:
                if error.errno not in {errno.EEXIST, errno.ENOTEMPTY}:
                    raise
                return False
            self._there = False
            files.sync(_directory_of(name))
        return True

    def forget(self) -> None:
        """Leave it where it is: somebody else removes it."""
        self._there = False

    def close(self) -> None:
        """Remove what was not moved, and free the lock. Idempotent."""
        if self._there:
            self._there = False
            self._files.discard(self.name)
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def read_all(fd: int) -> bytes:
    """
    Read a small file to its end.

    Raises:
        OSError: As `os.read` does.
    """
    parts = []
    while part := os.read(fd, 1 << 16):
        parts.append(part)
    return b"".join(parts)


def _directory_of(name: str) -> str:
    return os.path.dirname(name) or "."
