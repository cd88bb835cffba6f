"""
What is said to an agent, and what it answers: requests and replies as bytes.

The protocol and its reasons stand in ``_native/tree.h``.
"""

import errno
import os
import struct
import sys
from typing import Any, Literal, TypeAlias

import attrs

from jailbox._native import ffi, lib
from jailbox.linux.tree_values import NS, LayerChange, Reply, Stat
from jailbox.spec.change import ChangeKind, FileType

__all__ = ["Flag", "Reader", "Request", "Verb", "decode", "encode"]

_C: TypeAlias = Any  # A pointer or structure of cffi, which has no types.

_FRAME = struct.Struct("=II")

Verb: TypeAlias = Literal[
    "GET", "PUT", "SET", "MKDIR", "REMOVE", "RENAME", "LINK", "CHANGES"
]

Flag: TypeAlias = Literal[
    "FOLLOW",
    "DATA_TOO",
    "XATTRS",
    "INTO",
    "PARENTS",
    "EXIST_OK",
    "NEW_ONLY",
    "KEEP",
    "OWNER",
    "MODE",
    "TIME",
    "NOW",
    "RECURSIVE",
    "MISSING_OK",
    "DIRECTORY",
]

_WHERE = {"root": "ROOT", "upper": "UPPER", "lower": "LOWER"}


@attrs.frozen(kw_only=True)
class Request:
    """
    One request to an agent; the meaning of each field stands in ``tree.h``.

    Attributes:
        verb: What to do.

        path: Absolute path in the jail; may be empty for ``CHANGES``.

        second: A second path, a target, or a name.

        flags: How.

        where: Which directory of the agent a ``GET`` is about.

        depth: How far below the path a ``GET`` goes; ``None`` to the end.

        mode: Permission bits.

        owner: uid and gid; sets the flag ``OWNER``.

        mtime_ns: A time; sets the flag ``TIME``.

        max_bytes: Bound of a ``GET``; ``None`` leaves it to the bounds.
    """

    verb: Verb
    path: str = ""
    second: str = ""
    flags: tuple[Flag, ...] = ()
    where: Literal["root", "upper", "lower"] = "root"
    depth: int | None = 0
    mode: int = 0
    owner: tuple[int, int] | None = None
    mtime_ns: int | None = None
    max_bytes: int | None = None

    def encode(self) -> bytes:
        """
        Write it as a frame.

        Raises:
            OSError: ENAMETOOLONG, as the kernel would say.
        """
        path, second = encode(self.path), encode(self.second)
        for each in (path, second):
            if len(each) > lib.JB_TREE_PATH_MAX:
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        flags = 0
        for flag in self.flags:
            flags |= getattr(lib, f"JB_TREE_{flag}")
        fixed = ffi.new("struct jb_tree_request *")
        if self.owner is not None:
            flags |= lib.JB_TREE_OWNER
            fixed.uid, fixed.gid = self.owner
        if self.mtime_ns is not None:
            flags |= lib.JB_TREE_TIME
            fixed.time_s, fixed.time_ns = divmod(self.mtime_ns, NS)
        fixed.flags = flags
        fixed.where = getattr(lib, f"JB_TREE_{_WHERE[self.where]}")
        fixed.depth = lib.JB_TREE_ALL if self.depth is None else self.depth
        fixed.mode = self.mode
        fixed.path_size = len(path)
        fixed.second_size = len(second)
        fixed.max_bytes = self.max_bytes or 0
        payload = bytes(ffi.buffer(fixed)) + path + second
        number = getattr(lib, f"JB_TREE_{self.verb}")
        return _FRAME.pack(number, len(payload)) + payload


def encode(path: str) -> bytes:
    """Write a path of a jail as its bytes."""
    return path.encode("utf-8", "surrogateescape")


def decode(path: bytes) -> str:
    """Read the bytes of a path of a jail; `encode` gives them back."""
    return path.decode("utf-8", "surrogateescape")


class Reader:
    """Reads frames that the C part has checked: sizes add up, names are names."""

    def __init__(self) -> None:
        self._entry = ffi.new("struct jb_tree_entry *")
        self._change = ffi.new("struct jb_tree_change *")
        self._open: list[str] = []
        self._found: list[tuple[str, Stat]] = []
        self._data: list[bytes] = []
        self._changes: list[LayerChange] = []

    def feed(self, frames: bytes) -> None:
        """Take whole frames."""
        at = 0
        while at < len(frames):
            kind, size = _FRAME.unpack_from(frames, at)
            at += _FRAME.size
            payload = frames[at : at + size]
            at += size
            if kind == lib.JB_TREE_DATA:
                self._data.append(payload)
            elif kind == lib.JB_TREE_HOLE:
                self._data.append(bytes(int.from_bytes(payload, sys.byteorder)))
            elif kind == lib.JB_TREE_ENTRY:
                self._take_entry(payload)
            elif kind == lib.JB_TREE_CHANGE:
                self._take_change(payload)
            elif self._open:
                self._open.pop()

    def reply(self) -> Reply:
        """Everything that came."""
        # One piece needs no copy.
        data = self._data[0] if len(self._data) == 1 else b"".join(self._data)
        return Reply(tuple(self._found), data, tuple(self._changes))

    def _take_entry(self, payload: bytes) -> None:
        entry = self._entry
        ffi.memmove(entry, payload, ffi.sizeof(entry[0]))
        at = ffi.sizeof(entry[0])
        name = decode(payload[at : at + entry.name_size])
        at += entry.name_size
        stat = _stat(entry, name, payload[at : at + entry.link_size])
        path = ""
        if self._open:
            # The top is called "" here: what it is called there, the caller knows.
            path = f"{self._open[-1]}/{name}" if self._open[-1] else name
        self._found.append((path, stat))
        if entry.flags & lib.JB_TREE_OPEN:
            self._open.append(path)

    def _take_change(self, payload: bytes) -> None:
        change = self._change
        ffi.memmove(change, payload, ffi.sizeof(change[0]))
        at = ffi.sizeof(change[0])
        path = payload[at : at + change.path_size]
        at += change.path_size
        now_link = payload[at : at + change.now.link_size]
        at += change.now.link_size
        old_link = payload[at : at + change.old.link_size]
        name = decode(path.rpartition(b"/")[2])
        what = change.what
        self._changes.append(
            LayerChange(
                _KINDS.get(change.kind, ChangeKind.MODIFIED),
                decode(path),
                _stat(change.now, name, now_link) if change.now.mode else None,
                _stat(change.old, name, old_link) if change.old.mode else None,
                content=bool(what & lib.JB_TREE_CONTENT),
                mode=bool(what & lib.JB_TREE_MODE_BITS),
                owner=bool(what & lib.JB_TREE_OWNERSHIP),
                mtime=bool(what & lib.JB_TREE_MTIME),
                attributes=bool(what & lib.JB_TREE_ATTRIBUTES),
            )
        )


_KINDS = {
    lib.JB_TREE_ADDED: ChangeKind.ADDED,
    lib.JB_TREE_MODIFIED: ChangeKind.MODIFIED,
    lib.JB_TREE_REMOVED: ChangeKind.REMOVED,
}


def _stat(entry: _C, name: str, link: bytes) -> Stat:
    kind = FileType.of_mode(entry.mode)
    return Stat(
        name=name,
        type=kind,
        mode=entry.mode & 0o7777,
        uid=entry.uid,
        gid=entry.gid,
        size=entry.size,
        mtime_ns=entry.time_s * NS + entry.time_ns,
        links=entry.links,
        inode=entry.inode,
        device=_device(entry.device),
        special=_device(entry.special),
        target=decode(link) if kind is FileType.SYMLINK else None,
    )


def _device(number: int) -> int:
    return os.makedev(number >> 32, number & 0xFFFFFFFF)
