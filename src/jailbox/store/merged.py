"""
A stack of layers read as one file system, where it lies: nothing is mounted or started.

What an upper layer has hides what a lower one has; a whiteout hides it without putting
anything in its place; directories show what all of them have, down to one that is
opaque. Links lead to where they would lead in a container, never out of the image.

Trees do not change and only we can reach them, so a path that was looked at component
by component stays what it was.

Source: kernel *overlayfs.rst*, "whiteouts and opaque directories".
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import BinaryIO, Final, Self, TypeAlias

import attrs

from jailbox.errors import ContentError, NotFound, NotPermitted
from jailbox.spec.change import Change, ChangeKind, FileType
from jailbox.spec.digest import Digest
from jailbox.store.records import Stacked

__all__ = ["Merged", "Node", "compare"]

_LINKS_MAX: Final = 40
"""As many links as the kernel follows in one path (*path_resolution(7)*)."""

_OPAQUE: Final = "user.overlay.opaque"
_CHUNK: Final = 1 << 18

Part: TypeAlias = tuple[Digest, str]
"""Where something is: the tree, and the path in it."""


@attrs.frozen
class Node:
    """
    One path of a stack.

    Attributes:
        parts: Where it is, the uppermost first. Only directories have several.

        status: What the uppermost is, as of `os.lstat`.
    """

    parts: tuple[Part, ...]
    status: os.stat_result = attrs.field(eq=False)

    @property
    def is_directory(self) -> bool:
        """Whether there may be something in it."""
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self.status.st_mode)


class Merged:
    """
    The file system of an image. Close it, or use it as a context manager.

    Args:
        layers: Its layers, the lowest first. The same one may be there twice.

        fds: A descriptor of each tree, taken.

        name: What the image is called, for errors.
    """

    def __init__(
        self, layers: Sequence[Stacked], fds: Mapping[Digest, int], name: str
    ) -> None:
        self._order = tuple(layer.tree for layer in reversed(layers))
        self._fds = fds
        self._spare = list(fds.values())
        self._name = name

    # ---- looking -----------------------------------------------------------

    def root(self) -> Node:
        """Return ``/``."""
        parts = []
        for tree in self._order:
            parts.append((tree, "."))
            if self._is_opaque((tree, ".")):
                break
        return Node(tuple(parts), self._status(parts[0]) or _absent())

    def child(self, directory: Node, name: str) -> Node | None:
        """Return what *name* is in a directory; ``None`` if it is not there."""
        found: os.stat_result | None = None
        parts = []
        for tree, path in directory.parts:
            part = (tree, f"{path}/{name}")
            status = self._status(part)
            if status is None:
                continue
            if _is_whiteout(status):
                break
            is_directory = stat.S_ISDIR(status.st_mode)
            if found is None:
                found = status
            elif not is_directory:
                break
            parts.append(part)
            if not is_directory or self._is_opaque(part):
                break
        return None if found is None else Node(tuple(parts), found)

    def children(self, directory: Node) -> dict[str, Node]:
        """Return everything in a directory, by name, sorted."""
        names: set[str] = set()
        for tree, path in directory.parts:
            with self._reading(path):
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                fd = os.open(path, flags, dir_fd=self._fds[tree])
                try:
                    names.update(os.listdir(fd))
                finally:
                    os.close(fd)
        found = {}
        for name in sorted(names):
            node = self.child(directory, name)
            if node is not None:
                found[name] = node
        return found

    def find(self, path: str, *, follow: bool = True) -> Node:
        """
        Find a path as a program in a container would.

        Args:
            path: Absolute, or relative to ``/``.

            follow: Whether the last component may be a link that is followed.

        Raises:
            NotFound: If it is not there.

            ContentError: If there are too many links.
        """
        above = [self.root()]
        todo = _components(path)
        links = 0
        while todo:
            name = todo.pop()
            if name == "..":
                del above[max(1, len(above) - 1) :]
                continue
            here = above[-1]
            node = self.child(here, name) if here.is_directory else None
            if node is None:
                raise NotFound("file", path, where=self._name)
            if node.is_link and (todo or follow):
                links += 1
                if links > _LINKS_MAX:
                    raise ContentError(f"too many links: {path} in {self._name}")
                target = self.target(node)
                if target.startswith("/"):
                    del above[1:]
                todo.extend(_components(target))
                continue
            above.append(node)
        return above[-1]

    # ---- reading -----------------------------------------------------------

    def open(self, node: Node) -> BinaryIO:
        """
        Open a regular file for reading; the caller closes it.

        Raises:
            ContentError: If it is no regular file.
        """
        tree, path = node.parts[0]
        if not stat.S_ISREG(node.status.st_mode):
            kind = FileType.of_mode(node.status.st_mode)
            raise ContentError(f"{path[1:]} of {self._name} is a {kind}, no file")
        with self._reading(path):
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            return open(os.open(path, flags, dir_fd=self._fds[tree]), "rb")

    def target(self, node: Node) -> str:
        """Return where a symbolic link leads."""
        tree, path = node.parts[0]
        with self._reading(path):
            return os.readlink(path, dir_fd=self._fds[tree])

    # ---- owning ------------------------------------------------------------

    def close(self) -> None:
        """Let go of the trees. Idempotent."""
        while self._spare:
            os.close(self._spare.pop())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _status(self, part: Part) -> os.stat_result | None:
        tree, path = part
        with self._reading(path):
            try:
                return os.stat(path, dir_fd=self._fds[tree], follow_symlinks=False)
            except (FileNotFoundError, NotADirectoryError):
                return None

    def _is_opaque(self, part: Part) -> bool:
        tree, path = part
        with self._reading(path):
            # There is no getxattrat() before Linux 6.13.
            place = f"/proc/self/fd/{self._fds[tree]}/{path}"
            try:
                return os.getxattr(place, _OPAQUE, follow_symlinks=False) == b"y"
            except OSError as error:
                if error.errno not in {errno.ENODATA, errno.EOPNOTSUPP}:
                    raise
                return False

    @contextlib.contextmanager
    def _reading(self, path: str) -> Iterator[None]:
        where = f"{path[1:] or '/'} of {self._name}"
        try:
            yield
        except PermissionError as error:
            raise NotPermitted(
                f"read {where}",
                "the right to read files of others",
                errno=error.errno,
                hint="It belongs to a subordinate id of yours: read it in a container.",
            ) from error
        except OSError as error:
            raise ContentError(
                f"cannot read {where}: {os.strerror(error.errno or errno.EIO)}"
            ) from error


def _absent() -> os.stat_result:
    raise ContentError("a layer has no root directory")


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _components(path: str) -> list[str]:
    """Split a path, the last component first."""
    return [name for name in reversed(path.split("/")) if name not in {"", "."}]


# ---- comparing -----------------------------------------------------------------


def compare(before: Merged, after: Merged) -> Iterator[Change]:
    """
    Yield what differs from *before* in *after*, sorted by path.

    Content, type, permissions, owners, link targets and device numbers count, times do
    not. Of a directory that was removed, what was in it is not told. What both have
    from the same layers is not looked at.
    """
    todo: list[tuple[str, Node | None, Node | None]]
    todo = [("/", before.root(), after.root())]
    while todo:
        path, old, new = todo.pop()
        if old is not None and new is not None and old.parts == new.parts:
            continue
        if new is None:
            if old is not None:
                yield _change(ChangeKind.REMOVED, path, old)
            continue
        if old is None:
            yield _change(ChangeKind.ADDED, path, new)
        elif not _equal(before, old, after, new):
            yield _change(ChangeKind.MODIFIED, path, new)
        if new.is_directory:
            below = path.rstrip("/")
            olds = before.children(old) if old and old.is_directory else {}
            news = after.children(new)
            # Taken from the end: the first in order comes last.
            todo.extend(
                (f"{below}/{name}", olds.get(name), news.get(name))
                for name in sorted({*olds, *news}, reverse=True)
            )


def _equal(before: Merged, old: Node, after: Merged, new: Node) -> bool:
    was, now = old.status, new.status
    same = ("st_mode", "st_uid", "st_gid")
    if any(getattr(was, name) != getattr(now, name) for name in same):
        return False
    if new.is_directory:
        return True
    if new.is_link:
        return before.target(old) == after.target(new)
    if stat.S_ISREG(now.st_mode):
        if was.st_size != now.st_size:
            return False
        with before.open(old) as one, after.open(new) as other:
            while chunk := one.read(_CHUNK):
                if chunk != other.read(_CHUNK):
                    return False
        return True
    return was.st_rdev == now.st_rdev


def _change(kind: ChangeKind, path: str, node: Node) -> Change:
    status = node.status
    sized = stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)
    return Change(
        kind,
        path,
        FileType.of_mode(status.st_mode),
        size=status.st_size if sized else 0,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
    )
