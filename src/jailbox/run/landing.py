"""
What a call about files means: which path, where a copy lands, what a mapping holds.

Paths of the host are opened here, and nothing else is done with them.
"""

import contextlib
import os
import stat
from collections.abc import Generator, Iterable, Mapping
from typing import Any, TypeAlias

import attrs

from jailbox.errors import SpecError, SpecTypeError, shown
from jailbox.linux.tree import Item
from jailbox.spec.texts import AnyPath, absolute_path, text_of

__all__ = [
    "DIRECTORY_MODE",
    "FILE_MODE",
    "Content",
    "Place",
    "bytes_of",
    "items_of",
    "jail_path",
    "landing",
    "name_of",
    "patterns_of",
    "slashed_path",
]

Content: TypeAlias = bytes | bytearray | memoryview | str

DIRECTORY_MODE = 0o755
FILE_MODE = 0o644


def jail_path(value: AnyPath, argument: str = "path") -> str:
    """Check a path of a jail: it is absolute."""
    return absolute_path(value, argument, "Paths in a container start with /.")


def slashed_path(value: AnyPath, argument: str) -> tuple[str, bool]:
    """Take a path of a jail, and whether it was written as a directory."""
    text = text_of(value, argument)
    path = jail_path(text, argument)
    return path, text.endswith(("/", "/."))


def name_of(path: str) -> str:
    """Give the last component of a path, or nothing for the root."""
    return path.rpartition("/")[2]


@attrs.frozen
class Place:
    """
    A path of the host, ready to be opened.

    Attributes:
        directory: The directory it is in.

        name: Its name there, or ``.`` for the directory itself.
    """

    directory: str
    name: str

    @classmethod
    def of(cls, path: str) -> "Place":
        """Take a path apart; one that ends in no name is its own directory."""
        directory, name = os.path.split(path.rstrip("/"))
        if name in {"", ".", ".."}:
            return cls(path or ".", ".")
        return cls(directory or ".", name)

    @contextlib.contextmanager
    def opened(self) -> Generator[int]:
        """Open the directory, for as long as this lasts."""
        fd = os.open(self.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)

    @property
    def raw(self) -> bytes:
        """The name in bytes."""
        return os.fsencode(self.name)


def landing(target: str, name: str, *, contents: bool) -> Place:
    """
    Decide where a copy to the host lands; the table stands at `Files.get`.

    Args:
        target: As the caller wrote it.

        name: What the source is called.

        contents: Whether the inside of the source is meant, not itself.
    """
    follow = target.endswith(("/", "/."))
    bare = target.rstrip("/") or "/"
    try:
        mode = os.stat(target).st_mode if follow else os.lstat(bare).st_mode
    except FileNotFoundError:
        return Place.of(bare)
    if stat.S_ISLNK(mode) and os.path.isdir(bare):
        raise SpecError(
            "target",
            "is a symbolic link to a directory",
            value=target,
            hint="It may have come out of a container. To write where it points to, "
            "end the path with a slash.",
        )
    if not stat.S_ISDIR(mode):
        return Place.of(bare)
    if contents:
        return Place(target, ".")
    return Place(target, name)


def items_of(mapping: Mapping[str, Content]) -> list[Item]:
    """
    Write names and contents as one directory with everything in it.

    Args:
        mapping: Contents by relative path. What stands before a slash becomes a
            directory; text is written in UTF-8.

    Raises:
        SpecError: If a path is absolute, leaves the directory, or is both a file and
            a directory.
    """
    root: dict[str, Any] = {}
    for path, content in mapping.items():
        text = text_of(path, "source")
        *directories, name = text.split("/")
        if any(part in {"", ".", ".."} for part in (*directories, name)):
            raise SpecError(
                "source",
                "has a path that is no plain relative one",
                value=path,
                accepted="names with single slashes between them: 'src/main.py'",
            )
        inner = root
        for part in directories:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                raise _both(path)
        if name in inner:
            raise _both(path)
        inner[name] = content
    items = [Item("directory", b"root", mode=DIRECTORY_MODE)]
    # Without recursion, so that depth is bounded by what the agent takes, not by us.
    stack = [iter(sorted(root.items()))]
    while stack:
        name, content = next(stack[-1], ("", b""))
        raw = name.encode("utf-8", "surrogateescape")
        if not name:
            items.append(Item("end"))
            stack.pop()
        elif isinstance(content, dict):
            items.append(Item("directory", raw, mode=DIRECTORY_MODE))
            stack.append(iter(sorted(content.items())))
        else:
            items.append(Item("file", raw, bytes_of(content, name), mode=FILE_MODE))
    return items


def _both(path: str) -> SpecError:
    return SpecError("source", "names a file that is also a directory", value=path)


def bytes_of(content: object, name: str) -> bytes | bytearray | memoryview:
    """Check the content of the file *name*, and give its bytes."""
    if isinstance(content, str):
        return content.encode()
    if isinstance(content, bytes | bytearray):
        return content
    if isinstance(content, memoryview):
        return content.cast("B")
    raise SpecTypeError(
        "source",
        f"has no content for {shown(name)}",
        value=content,
        accepted="bytes or str",
    )


def patterns_of(excludes: Iterable[str]) -> tuple[bytes, ...]:
    """Check patterns of what is left out, and give their bytes."""
    if isinstance(excludes, str | bytes):
        raise SpecTypeError(
            "excludes",
            "is one pattern, not several",
            value=excludes,
            accepted="a list: ['*.pyc', '.git']",
        )
    return tuple(os.fsencode(text_of(each, "excludes")) for each in excludes)
