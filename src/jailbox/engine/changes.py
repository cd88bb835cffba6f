"""
What a container changed, as a thing to do something with.

It is a tuple of `Change`; what it can do is read out of the container when it is done,
which therefore must still be there.
"""

import contextlib
import difflib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from jailbox.errors import ContentError, SpecError, printable
from jailbox.flow import drive
from jailbox.spec.change import Change, ChangeKind, FileType
from jailbox.spec.texts import AnyPath, absolute_path

if TYPE_CHECKING:
    from jailbox.engine.box import LocalBox

__all__ = ["Changes"]

_TEXT_MAX = 4 << 20
"""Bytes of a file that is compared line by line; a longer one is only named."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Changes(tuple[Change, ...]):  # noqa: SLOT001  # a tuple has no room for more
    """
    What differs from the image, sorted by path.

    A tuple of `Change`, with three things that can be done with all of it.
    """

    _box: "LocalBox"
    _below: str

    @classmethod
    def of(
        cls, box: "LocalBox", changes: Iterable[Change], below: str = "/"
    ) -> "Changes":
        """Make it of the changes of a container at or below a path."""
        made = cls(changes)
        made._box, made._below = box, below
        return made

    def below(self, path: AnyPath) -> "Changes":
        """
        Choose those below a directory of the container; a copy on write, for example.
        """
        top = absolute_path(path, "path").rstrip("/")
        chosen = [change for change in self if change.path.startswith(f"{top}/")]
        return Changes.of(self._box, chosen, top or "/")

    # --- applying ------------------------------------------------------------------

    def apply(self, target: AnyPath) -> tuple[Change, ...]:
        """
        Do the same to a directory of the host.

        Paths are those below the container's root, or below what was chosen by
        `below`. Nothing outside of *target* is touched: a symbolic link on the way is
        an error. Everything belongs to the caller; set-id bits are not given. A file is
        replaced at once, or not at all.

        Args:
            target: Absolute path of a directory.

        Returns:
            What could not be applied: devices, pipes, sockets.

        Raises:
            SpecError: If something on the way is no directory.
        """
        where = absolute_path(target, "target")
        skipped = []
        with contextlib.ExitStack() as stack:
            top = os.open(where, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, top)
            scratch = stack.enter_context(
                tempfile.TemporaryDirectory(prefix=".jailbox-", dir=where)
            )
            # What is removed makes room for what is added.
            for change in sorted(self, key=lambda each: each.kind != "removed"):
                with self._parent(top, change) as (parent, name):
                    if change.kind is ChangeKind.REMOVED:
                        _remove(parent, name)
                    elif not self._bring(change, parent, name, scratch):
                        skipped.append(change)
        return tuple(skipped)

    @contextlib.contextmanager
    def _parent(self, top: int, change: Change) -> Iterator[tuple[int, str]]:
        """Open the directory that a path is in, one component after the other."""
        path = change.path[len(self._below.rstrip("/")) :]
        *parts, name = [part for part in path.split("/") if part]
        at = os.dup(top)
        try:
            for part in parts:
                try:
                    further = os.open(part, _DIRECTORY, dir_fd=at)
                except FileNotFoundError:
                    os.mkdir(part, dir_fd=at)
                    further = os.open(part, _DIRECTORY, dir_fd=at)
                except OSError as error:
                    raise SpecError(
                        "target",
                        f"has something on the way that is no directory: {part}",
                        value=path,
                        accepted="directories only on the way; no link is followed",
                    ) from error
                os.close(at)
                at = further
            yield at, name
        finally:
            os.close(at)

    def _bring(self, change: Change, parent: int, name: str, scratch: str) -> bool:
        """Put one thing there; whether it is of a kind that can be."""
        there = None
        with contextlib.suppress(FileNotFoundError):
            there = os.stat(name, dir_fd=parent, follow_symlinks=False)
        mode = change.mode & 0o777
        if change.type is FileType.DIRECTORY:
            if there is None or not stat.S_ISDIR(there.st_mode):
                _remove(parent, name)
                os.mkdir(name, dir_fd=parent)
            fd = os.open(name, _DIRECTORY, dir_fd=parent)
            try:
                os.fchmod(fd, mode)
            finally:
                os.close(fd)
            return True
        if change.type not in {FileType.FILE, FileType.SYMLINK}:
            return False
        fresh = os.path.join(scratch, "new")
        self._box.files().get(change.path, fresh)
        if there is not None and stat.S_ISDIR(there.st_mode):
            _remove(parent, name)
        os.replace(fresh, name, dst_dir_fd=parent)
        return True

    # --- showing -------------------------------------------------------------------

    def as_patch(self) -> str:
        """
        Show what changed in files, as ``diff -u`` would; ``patch -p1`` takes it.

        What is no text, or too long for that, is named in a line of its own. Other
        things than files, and modes, are not in it.
        """
        return "".join(
            "".join(self._difference(change))
            for change in self
            if change.type is FileType.FILE
        )

    def _difference(self, change: Change) -> Iterator[str]:
        path = change.path[len(self._below.rstrip("/")) :]
        old, new = self._old(change), self._new(change)
        names = (
            "/dev/null" if change.kind is ChangeKind.ADDED else f"a{printable(path)}",
            "/dev/null" if change.kind is ChangeKind.REMOVED else f"b{printable(path)}",
        )
        if old is None or new is None:
            yield f"Binary files {names[0]} and {names[1]} differ\n"
            return
        for line in difflib.unified_diff(_lines(old), _lines(new), *names):
            if not line.endswith("\n"):
                line = f"{line}\n\\ No newline at end of file\n"  # noqa: PLW2901
            yield line

    def _old(self, change: Change) -> str | None:
        if change.kind is ChangeKind.ADDED:
            return ""
        return _text(lambda: self._box.read_old(change.path, max_bytes=_TEXT_MAX))

    def _new(self, change: Change) -> str | None:
        if change.kind is ChangeKind.REMOVED:
            return ""
        if change.size > _TEXT_MAX:
            return None
        files = self._box.files()
        return _text(lambda: files.read(change.path, max_bytes=_TEXT_MAX))

    # --- taking back ---------------------------------------------------------------

    def discard(self) -> None:
        """
        Take back everything that the container changed, also what is not in here.

        As a reset to its image: what runs in it is ended, and started anew if it ran.
        """
        from jailbox.engine.snapshot import Snapshot

        box = self._box
        drive(box.reset(Snapshot(box.name, box.source, ())))


def _remove(parent: int, name: str) -> None:
    """Remove whatever a name stands for; a link, and not what it points to."""
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(found.st_mode):
        shutil.rmtree(name, dir_fd=parent)
    else:
        os.unlink(name, dir_fd=parent)


def _lines(text: str) -> list[str]:
    """Part a text where ``diff`` does: at newlines, and nothing else."""
    return [line for line in text.replace("\n", "\n\0").split("\0") if line]


def _text(read: Callable[[], bytes]) -> str | None:
    """Read a text; ``None`` for what is none, or too long."""
    try:
        data = read()
    except ContentError:
        return None
    if b"\0" in data:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None
