"""
What differs between a container's file system and its image.

One value for each path. How changes are found (whiteouts, upper directories) is known
in `jailbox.run`, not here.
"""

from enum import StrEnum

import attrs

from jailbox.errors import printable

__all__ = ["Change", "ChangeKind", "FileType"]


class ChangeKind(StrEnum):
    """What happened to a path."""

    ADDED = "added"
    MODIFIED = "modified"
    REMOVED = "removed"


class FileType(StrEnum):
    """What a path is."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    FIFO = "fifo"
    SOCKET = "socket"
    CHARACTER_DEVICE = "character device"
    BLOCK_DEVICE = "block device"

    @classmethod
    def of_mode(cls, mode: int) -> "FileType":
        """
        Read the type out of ``st_mode``.

        Source: *inode(7)*; written out, for jailbox also runs where ``stat`` differs.

        Raises:
            ValueError: If the bits mean no type of Linux.
        """
        return _TYPES[mode >> 12] if mode >> 12 in _TYPES else cls(f"mode {mode:o}")


_TYPES = {
    0o01: FileType.FIFO,
    0o02: FileType.CHARACTER_DEVICE,
    0o04: FileType.DIRECTORY,
    0o06: FileType.BLOCK_DEVICE,
    0o10: FileType.FILE,
    0o12: FileType.SYMLINK,
    0o14: FileType.SOCKET,
}


@attrs.frozen(order=False)
class Change:
    """
    One path that differs from the image.

    >>> print(Change("added", "/app/x", "file", size=3, mode=0o644))
    added /app/x

    Attributes:
        kind: ``added``, ``modified`` or ``removed``.

        path: Absolute path in the jail.

        type: What it is now; for a removed path what it was, or ``None`` if unknown.

        size: Bytes of a file's content, length of a symbolic link's target; else 0.

        mode: Permission bits, without the type.

        uid: Owner, as seen in the jail.

        gid: Group, as seen in the jail.
    """

    kind: ChangeKind = attrs.field(converter=ChangeKind)
    path: str
    type: FileType | None = attrs.field(
        default=None, converter=attrs.converters.optional(FileType)
    )
    size: int = attrs.field(default=0, kw_only=True)
    mode: int = attrs.field(default=0, kw_only=True, repr=lambda mode: f"0o{mode:o}")
    uid: int = attrs.field(default=0, kw_only=True)
    gid: int = attrs.field(default=0, kw_only=True)

    def __str__(self) -> str:
        return f"{self.kind} {printable(self.path)}"
