"""
Small files of a root file system that is not ours: read with bounds, inside of it.

A path is resolved as if the root were ``/``, whatever its links say. What is not a
regular file, or is too large, is refused, so that a FIFO, a device or a gigabyte in
place of ``/etc/passwd`` does no harm.
"""

import errno
import os
import stat

from jailbox._native import ffi, lib
from jailbox.errors import ContentError

__all__ = ["FILE_MAX", "open_in_root", "read_in_root"]

FILE_MAX = 10 << 20
"""Bytes: containerd's bound for the same files."""


def read_in_root(root: str, path: str) -> bytes | None:
    """
    Read the file *path* of the directory *root*; ``None`` if there is none.

    Raises:
        ContentError: If it is no regular file, or larger than 10 MiB.
    """
    top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = open_in_root(top, path)
    finally:
        os.close(top)
    if fd is None:
        return None
    with open(fd, "rb") as file:
        data = file.read(FILE_MAX + 1)
    if len(data) > FILE_MAX:
        raise ContentError(f"{path} of the image is larger than {FILE_MAX} bytes")
    return data


def open_in_root(root: int, path: str) -> int | None:
    """
    Open the regular file *path* of a directory for reading; ``None`` if there is none.

    Args:
        root: Descriptor of the directory, borrowed.

        path: Resolved as if *root* were ``/``, links too.

    Returns:
        A descriptor, which the caller closes.

    Raises:
        ContentError: If it is no regular file, or cannot be opened.
    """
    # Not to be held up by a FIFO, nor to make a terminal ours.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
    fd = int(lib.jb_open_in_root(root, ffi.from_buffer(path.encode() + b"\0"), flags))
    if fd in {-errno.ENOENT, -errno.ENOTDIR, -errno.ELOOP}:
        return None
    if fd < 0:
        raise ContentError(f"cannot read {path} of the image: {os.strerror(-fd)}")
    # Looked at before it becomes a file: open() itself refuses a directory, in words
    # that name a number, and leaves the descriptor to us.
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise ContentError(f"{path} of the image is no regular file")
    return fd
