"""
Values of `jailbox.linux.tree`: what a path is, what was copied, what differs.

And what bounds all of that: how much may move, and until when.
"""

import time
from typing import Final, Literal, Self

import attrs

from jailbox.spec.change import ChangeKind, FileType

__all__ = ["Bounds", "Copied", "Item", "LayerChange", "Reply", "Stat", "Task"]

NS: Final = 1_000_000_000


@attrs.frozen(kw_only=True)
class Bounds:
    """
    How much one operation may move. What is reached is named in the error.

    Attributes:
        entries: Files, directories and links.

        bytes: Bytes of content; holes of sparse files count as if they were data.

        depth: Directories within each other; at most 256.
    """

    entries: int = attrs.field(default=1_000_000, validator=attrs.validators.gt(0))
    bytes: int = attrs.field(default=1 << 36, validator=attrs.validators.gt(0))
    depth: int = attrs.field(
        default=128, validator=[attrs.validators.gt(0), attrs.validators.le(256)]
    )


@attrs.frozen(kw_only=True)
class Stat:
    """
    What a path is, as `os.stat` says it, in ids of the jail.

    The fields of `os.stat_result` that mean something outside of the jail are there
    under their names, too.

    Attributes:
        name: Last component of its path.

        type: What it is.

        mode: Permission bits, without the type.

        uid: Owner.

        gid: Group.

        size: Bytes of a file's content.

        mtime_ns: Last change of the content, in nanoseconds since 1970.

        links: Number of hard links.

        inode: Number within *device*.

        device: Number of the file system.

        special: Number of the device, for a device node; else 0.

        target: What a symbolic link says; ``None`` for everything else.
    """

    name: str
    type: FileType
    mode: int = attrs.field(repr=lambda mode: f"0o{mode:o}")
    uid: int
    gid: int
    size: int
    mtime_ns: int
    links: int = attrs.field(repr=False)
    inode: int = attrs.field(repr=False)
    device: int = attrs.field(repr=False)
    special: int = attrs.field(repr=False)
    target: str | None = None

    @property
    def st_mode(self) -> int:
        """Type and permission bits."""
        return TYPE_BITS[self.type] | self.mode

    @property
    def st_uid(self) -> int:
        """Owner."""
        return self.uid

    @property
    def st_gid(self) -> int:
        """Group."""
        return self.gid

    @property
    def st_size(self) -> int:
        """Size, in bytes."""
        return self.size

    @property
    def st_nlink(self) -> int:
        """Number of hard links."""
        return self.links

    @property
    def st_ino(self) -> int:
        """Inode."""
        return self.inode

    @property
    def st_mtime_ns(self) -> int:
        """Last change of the content, in nanoseconds."""
        return self.mtime_ns

    @property
    def st_mtime(self) -> float:
        """Last change of the content, in seconds."""
        return self.mtime_ns / NS


TYPE_BITS = {
    FileType.of_mode(number << 12): number << 12 for number in (1, 2, 4, 6, 8, 10, 12)
}


@attrs.frozen
class LayerChange:
    """
    One difference between a writable layer and what it lies on.

    Attributes:
        kind: Added, modified or removed.

        path: Below the layer, without a leading slash.

        now: What it is, or ``None`` if it was removed.

        old: What it was, or ``None`` if it was added.

        content: Whether the bytes, or the target of a link, differ.

        mode: Whether the permission bits differ.

        owner: Whether owner or group differ.

        mtime: Whether the time of the last change differs.

        attributes: Whether extended attributes or file capabilities differ.
    """

    kind: ChangeKind
    path: str
    now: Stat | None
    old: Stat | None
    content: bool = False
    mode: bool = False
    owner: bool = False
    mtime: bool = False
    attributes: bool = False


@attrs.frozen
class Copied:
    """
    What a copy moved.

    Attributes:
        entries: Files, directories and links.

        bytes: Bytes of content.

        skipped: Paths of devices, pipes and sockets, which are never copied, below
            the source. Of very many only the first are named.

        skipped_count: How many there were.
    """

    entries: int
    bytes: int
    skipped: tuple[str, ...] = ()
    skipped_count: int = 0


@attrs.frozen
class Reply:
    """
    What an agent answered, in its order.

    Attributes:
        found: Paths below the one that was asked for (``""`` is itself), and what
            they are.

        data: Content, if that was asked for.

        changes: Differences, if those were asked for.
    """

    found: tuple[tuple[str, Stat], ...] = ()
    data: bytes = b""
    changes: tuple[LayerChange, ...] = ()


@attrs.frozen
class Item:
    """
    Something in memory that is put into a jail.

    A directory is followed by what is in it, and by `Item.END`.

    Attributes:
        type: ``file``, ``directory``, ``symlink`` or ``end``.

        name: Its name.

        data: Content of a file, or target of a link.

        mode: Permission bits.

        mtime_ns: Last change, or ``None`` for now.
    """

    type: Literal["file", "directory", "symlink", "end"]
    name: bytes = b""
    data: bytes | bytearray | memoryview = b""
    mode: int = 0o644
    mtime_ns: int | None = None


@attrs.frozen
class Task:
    """
    What is being done: for errors, and until when.

    Attributes:
        action: As the caller would say it: ``put 'x' at '/y'``.

        path: The path in the jail that it is about.

        local: The path on the host that it is about, or ``None``.

        timeout: Seconds for all of it, or ``None``.

        deadline: Moment of `time.monotonic`, or ``None``.
    """

    action: str
    path: str
    local: str | None = None
    timeout: float | None = None
    deadline: float | None = None

    @classmethod
    def begin(
        cls,
        action: str,
        path: str,
        local: str | None = None,
        timeout: float | None = None,
    ) -> Self:
        """Make a task whose time runs from now on."""
        deadline = None if timeout is None else time.monotonic() + timeout
        return cls(action, path, local, timeout, deadline)
