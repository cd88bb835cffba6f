"""
What has to reach the disk before something else may.

Not for files of jails: this is how the store of images waits for its own writes.
"""

import os

from jailbox._native import lib

__all__ = ["sync_filesystem"]


def sync_filesystem(fd: int) -> None:
    """
    Wait until everything written to the file system of *fd* is on the disk.

    One call for a whole tree of files, where `os.fsync` needs one for each.

    Raises:
        OSError: If something could not be written.

    Source: *syncfs(2)*; errors are told since Linux 5.8.
    """
    failed = lib.jb_sync_filesystem(fd)
    if failed:
        raise OSError(-failed, os.strerror(-failed))
