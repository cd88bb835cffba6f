"""
A digest of a tree: of everything in it that a container could see, but for times.

Two trees that were unpacked from the same layer have the same one. What overlayfs keeps
for itself in attributes does not count, but for the mark of opaque directories.
"""

import hashlib
import os
import stat
from typing import Final

from jailbox.spec.digest import Hasher

__all__ = ["fingerprint"]

_CHUNK: Final = 1 << 20
_OVERLAY: Final = "user.overlay."
_OPAQUE: Final = "user.overlay.opaque"


def fingerprint(tree: int) -> str:
    """
    Compute the digest of a tree.

    Args:
        tree: Descriptor of its directory, borrowed; ``O_PATH`` is enough.

    Raises:
        OSError: If something cannot be read. That is so for files of subordinate ids
            that are closed to us.
    """
    hasher = hashlib.sha256()
    seen: dict[int, bytes] = {}
    top = b"/proc/self/fd/%d/." % tree
    todo = [b""]
    while todo:
        path = todo.pop()
        place = top + path
        status = os.lstat(place)
        _tell(hasher, path, status, place)
        if stat.S_ISDIR(status.st_mode):
            names = sorted(os.listdir(place), reverse=True)
            todo.extend(path + b"/" + name for name in names)
        elif status.st_nlink > 1 and status.st_ino in seen:
            # The content was read under its first name.
            hasher.update(b"link\0" + seen[status.st_ino] + b"\0")
        elif stat.S_ISREG(status.st_mode):
            seen[status.st_ino] = path
            _content(hasher, place)
    return hasher.hexdigest()


def _tell(hasher: Hasher, path: bytes, status: os.stat_result, place: bytes) -> None:
    words = [status.st_mode, status.st_uid, status.st_gid]
    if stat.S_ISREG(status.st_mode):
        words.append(status.st_size)
    elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        words.append(status.st_rdev)
    hasher.update(b"%b\0%b\0" % (path, " ".join(map(str, words)).encode()))
    if stat.S_ISLNK(status.st_mode):
        hasher.update(os.readlink(place) + b"\0")
    for name in sorted(os.listxattr(place, follow_symlinks=False)):
        if not name.startswith(_OVERLAY) or name == _OPAQUE:
            value = os.getxattr(place, name, follow_symlinks=False)
            text = os.fsencode(name)
            hasher.update(b"%b\0%d\0%b" % (text, len(value), value))


def _content(hasher: Hasher, place: bytes) -> None:
    fd = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        while chunk := os.read(fd, _CHUNK):
            hasher.update(chunk)
    finally:
        os.close(fd)
