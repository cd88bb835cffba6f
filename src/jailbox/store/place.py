"""
Where a store is, whether it is one, and whether there can be one.

A store is a directory with a file ``format``, which is made last. A version that is not
known here is refused: it is never guessed what a later one meant. What a file system
must be able to do is tried when a store is made, once, and what is missing is named.
"""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from typing import Final

from jailbox.errors import ContentError, SpecError, StoreError, Unsupported
from jailbox.linux.fd import Fd
from jailbox.spec.digest import ALGORITHMS
from jailbox.store.errors import storing
from jailbox.store.files import Files
from jailbox.store.locks import EXCLUSIVE, adopt, open_held

__all__ = ["VERSION", "default_path", "open_store"]

VERSION: Final = 1
"""The version of the layout that is written and read here."""

_FORMAT: Final = "format"
_WORDS: Final = "jailbox store"

_DIRECTORIES: Final = (
    "blobs",
    *(f"blobs/{algorithm}" for algorithm in ALGORITHMS),
    "trees",
    "records",
    "records/images",
    "records/layers",
    "tags",
    "leases",
    "locks",
    "tmp",
    "trash",
)

_OTHERS_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def default_path() -> str:
    """
    Say where the store of this user is, if nobody says otherwise.

    ``/var/lib/jailbox`` for root, else ``jailbox`` in ``$XDG_DATA_HOME``, which is
    ``~/.local/share`` unless it is an absolute path.
    """
    if os.geteuid() == 0:
        return "/var/lib/jailbox"
    data = os.environ.get("XDG_DATA_HOME", "")
    if not os.path.isabs(data):
        data = os.path.expanduser("~/.local/share")
    return os.path.join(data, "jailbox")


def open_store(path: str, *, read_only: bool, timeout: float) -> Files:
    """
    Open the directory of a store; make one if there is none.

    Any path that leads to the same directory is the same store.

    Args:
        path: Absolute or relative.

        read_only: Never make one, and never write to it.

        timeout: Seconds to wait for what other processes hold.

    Raises:
        SpecError: If there is something else than a store.

        ContentError: If it has a newer format, or none that can be read.

        StoreError: If it cannot be opened or made.

        Unsupported: If the file system lacks something that a store needs.
    """
    path = _absolute(path)
    with contextlib.ExitStack() as undo:
        root = undo.enter_context(_open_directory(path, make=not read_only))
        files = Files(root, _real(root, path), timeout=timeout)
        _check_owner(root, files.path)
        words = files.read(_FORMAT, "open the store")
        if words is None:
            if read_only:
                raise ContentError(f"there is no store of images: {files.path}")
            _make(files)
        else:
            _check_format(words, files.path)
        undo.pop_all()
        return files


def _absolute(path: str) -> str:
    if "\0" in path or not path:
        raise SpecError("store", "is no path", value=path)
    return os.path.abspath(path)


def _open_directory(path: str, *, make: bool) -> Fd:
    with storing("open the store", path):
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        try:
            return Fd(os.open(path, flags))
        except NotADirectoryError:
            if os.path.exists(path):
                raise SpecError("store", "is no directory", value=path) from None
            raise
        except FileNotFoundError:
            if not make:
                raise
        with storing("make the store", path):
            os.makedirs(path, 0o700, exist_ok=True)
            return Fd(os.open(path, flags))


def _real(root: Fd, path: str) -> str:
    """Say where the directory is, without links, if that can be said."""
    real = os.path.realpath(path)
    with contextlib.suppress(OSError):
        if os.path.samestat(os.stat(real), os.fstat(root.fileno())):
            return real
    return path


def _check_owner(root: Fd, path: str) -> None:
    if os.fstat(root.fileno()).st_mode & _OTHERS_MAY_WRITE and os.path.exists(
        os.path.join(path, _FORMAT)
    ):
        raise StoreError(
            "trust the store, for others may write to it",
            path,
            errno.EPERM,
            hint=f"Look into it, then: chmod go-w {path}",
        )


def _check_format(words: bytes, path: str) -> None:
    text = words.decode("ascii", "replace")
    name, _, number = text.rstrip("\n").rpartition(" ")
    if text != f"{name} {number}\n" or name != _WORDS or not number.isdecimal():
        raise ContentError(
            f"the format of the store cannot be read: {path}/{_FORMAT}",
            hint=f"It should say: {_WORDS} {VERSION}",
        )
    if int(number) != VERSION or number != str(VERSION):
        raise ContentError(
            f"the store has format {number}, this jailbox knows {VERSION}: {path}",
            hint="Upgrade jailbox, or use another store.",
        )


def _make(files: Files) -> None:
    """Make a store; two processes may do it at once, and either may be killed."""
    strangers = set(files.list(".")) - {name.partition("/")[0] for name in _DIRECTORIES}
    strangers -= {"lost+found"}
    if strangers:
        raise SpecError(
            "store",
            "is neither a store nor empty",
            value=files.path,
            hint=f"There is, for example, {min(strangers)!r}.",
        )
    with files.trying("make the store", "."):
        os.fchmod(files.fd, 0o700)
    for name in _DIRECTORIES:
        files.make_directory(name, "make the store")
    _probe(files)
    files.write_new(_FORMAT, f"{_WORDS} {VERSION}\n".encode(), "make the store")


# ---- what a file system must be able to do -----------------------------------


def _probe(files: Files) -> None:
    """
    Try what layers and locks need, below ``tmp``.

    Raises:
        Unsupported: Naming what is missing.
    """
    with files.temporary("try the file system", directory=True) as temporary:
        # Short, for what is tried ends up in the words of an error.
        place = temporary.fileno()
        try:
            with _missing("file locks", files):
                _try_locks(place)
            with _missing("hard links", files):
                os.link("file", "link", src_dir_fd=place, dst_dir_fd=place)
            with _missing("symbolic links", files):
                os.symlink("file", "symlink", dir_fd=place)
            with _missing("permissions of files", files):
                os.chmod("file", 0o640, dir_fd=place)
                _expect(os.stat("file", dir_fd=place).st_mode & 0o7777 == 0o640)  # noqa: PLR2004
            with _missing("names that differ in case only", files):
                _expect(not _exists("FILE", place))
            with _missing("attributes of users (user.*)", files):
                _try_attributes(place)
            with _missing("marks of deleted files (whiteouts)", files):
                os.mknod(
                    "whiteout", stat.S_IFCHR | 0o600, os.makedev(0, 0), dir_fd=place
                )
        finally:
            for name in ("file", "link", "symlink", "whiteout"):
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=place)
            with contextlib.suppress(OSError):
                os.rmdir(temporary.name, dir_fd=files.fd)
                temporary.forget()


_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM}


@contextlib.contextmanager
def _missing(feature: str, files: Files) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StoreError("make the store", files.path, error.errno) from error
        raise Unsupported(
            f"{feature} on the file system of the store",
            path=files.path,
            errno=error.errno,
            hint="Keep the store on ext4, xfs, btrfs or tmpfs: a volume, not the"
            " overlay of a container.",
        ) from error


def _expect(what: bool) -> None:  # noqa: FBT001  # it is an assertion
    if not what:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


def _exists(name: str, place: int) -> bool:
    try:
        os.stat(name, dir_fd=place)
    except FileNotFoundError:
        return False
    return True


def _try_locks(place: int) -> None:
    flags = os.O_RDWR | os.O_CREAT
    with (
        open_held("file", flags, dir_fd=place) as one,
        open_held("file", flags, dir_fd=place) as other,
    ):
        _expect(adopt(one, EXCLUSIVE) and not adopt(other, EXCLUSIVE))


def _try_attributes(place: int) -> None:
    fd = os.open("file", os.O_RDWR | os.O_CLOEXEC, dir_fd=place)
    try:
        name = f"user.jailbox.{secrets.token_hex(4)}"
        os.setxattr(fd, name, b"y")
        _expect(os.getxattr(fd, name) == b"y")
    finally:
        os.close(fd)
