"""
A path in a container that is used like a `pathlib.Path`.

It is no `os.PathLike` on purpose: ``open(box.path("/etc/passwd"))`` would otherwise
open the file of the *host* that happens to be called so.

Nothing is decided here: every method is a call of `jailbox.run.files.Files`.
"""

import errno
import io
import os
import re
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

from jailbox.errors import SpecError
from jailbox.spec.change import FileType

if TYPE_CHECKING:
    from jailbox.linux.tree import Stat
    from jailbox.run.files import Content, Files, Owner

__all__ = ["ContainerPath", "glob_matcher"]

_MODES = {"r", "w", "x", "a"}

# A path that leads nowhere: missing, through a file, in a circle, or longer than the
# path of any file.
_NOWHERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}


class ContainerPath:
    """
    An absolute path in a container.

    >>> box.path("/app") / "main.py"                                # doctest: +SKIP
    ContainerPath('/app/main.py')

    What it says about names is free; what it does is one request to the container.
    """

    __slots__ = ("_files", "_pure")

    def __init__(self, files: "Files", path: str | PurePosixPath) -> None:
        self._files = files
        self._pure = PurePosixPath(path)

    # --- names ---

    def _with(self, path: PurePosixPath) -> "ContainerPath":
        return ContainerPath(self._files, path)

    @property
    def parts(self) -> tuple[str, ...]:
        """Its components; the first is ``/``."""
        return self._pure.parts

    @property
    def name(self) -> str:
        """Its last component."""
        return self._pure.name

    @property
    def stem(self) -> str:
        """Its last component without the suffix."""
        return self._pure.stem

    @property
    def suffix(self) -> str:
        """What stands behind the last dot of its name, with the dot."""
        return self._pure.suffix

    @property
    def suffixes(self) -> list[str]:
        """All of its suffixes."""
        return self._pure.suffixes

    @property
    def parent(self) -> "ContainerPath":
        """The directory it is in."""
        return self._with(self._pure.parent)

    @property
    def parents(self) -> tuple["ContainerPath", ...]:
        """The directories it is in, from the inside out."""
        return tuple(map(self._with, self._pure.parents))

    def joinpath(self, *others: "str | PurePosixPath | ContainerPath") -> Self:
        """Go on from here."""
        return type(self)(self._files, self._pure.joinpath(*map(str, others)))

    def __truediv__(self, other: "str | PurePosixPath | ContainerPath") -> Self:
        return self.joinpath(other)

    def with_name(self, name: str) -> "ContainerPath":
        """The same directory, another name."""
        return self._with(self._pure.with_name(name))

    def with_suffix(self, suffix: str) -> "ContainerPath":
        """The same name, another suffix."""
        return self._with(self._pure.with_suffix(suffix))

    def relative_to(
        self, other: "str | PurePosixPath | ContainerPath"
    ) -> PurePosixPath:
        """
        The way from *other* to here, as a pure path.

        Raises:
            ValueError: If *other* does not lead here.
        """
        return self._pure.relative_to(str(other))

    def is_relative_to(self, other: "str | PurePosixPath | ContainerPath") -> bool:
        """Whether *other* leads here."""
        return self._pure.is_relative_to(str(other))

    def match(self, pattern: str) -> bool:
        """Whether the last components match *pattern*."""
        return self._pure.match(pattern)

    def as_posix(self) -> str:
        """The path as text."""
        return str(self._pure)

    def __str__(self) -> str:
        return str(self._pure)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._pure)!r})"

    def __hash__(self) -> int:
        return hash(self._pure)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ContainerPath):
            return NotImplemented
        return self._pure == other._pure and self._files is other._files

    def __lt__(self, other: "ContainerPath") -> bool:
        return self._pure < other._pure

    # --- looking ---

    def stat(self, *, follow_symlinks: bool = True) -> "Stat":
        """What it is: type, mode, owner, size, time."""
        return self._files.stat(str(self), follow_symlinks=follow_symlinks)

    def lstat(self) -> "Stat":
        """What it is, and a link is a link."""
        return self.stat(follow_symlinks=False)

    def _type(self, *, follow_symlinks: bool = True) -> FileType | None:
        try:
            return self.stat(follow_symlinks=follow_symlinks).type
        except OSError as error:
            if error.errno in _NOWHERE:
                return None
            raise

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Whether something is there."""
        return self._type(follow_symlinks=follow_symlinks) is not None

    def is_file(self) -> bool:
        """Whether it is a file, or a link to one."""
        return self._type() is FileType.FILE

    def is_dir(self) -> bool:
        """Whether it is a directory, or a link to one."""
        return self._type() is FileType.DIRECTORY

    def is_symlink(self) -> bool:
        """Whether it is a symbolic link."""
        return self._type(follow_symlinks=False) is FileType.SYMLINK

    def is_fifo(self) -> bool:
        """Whether it is a pipe with a name."""
        return self._type() is FileType.FIFO

    def is_socket(self) -> bool:
        """Whether it is a socket."""
        return self._type() is FileType.SOCKET

    def readlink(self) -> PurePosixPath:
        """
        What a symbolic link says.

        Raises:
            OSError: EINVAL, if it is none.
        """
        target = self.lstat().target
        if target is None:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(self))
        return PurePosixPath(target)

    def iterdir(self) -> Iterator["ContainerPath"]:
        """What is in the directory, by name."""
        for path, _ in sorted(self._files.list(str(self)), key=lambda each: each[0]):
            yield self / path

    def glob(self, pattern: str) -> Iterator["ContainerPath"]:
        """
        What is below and matches *pattern*, by path.

        ``*``, ``?`` and ``[...]`` stand for parts of a name, ``**`` for any number of
        directories. Links are found and not followed.
        """
        matches, depth = glob_matcher(pattern)
        for path, _ in sorted(
            self._files.list(str(self), depth=depth), key=lambda each: each[0]
        ):
            if matches(path):
                yield self / path

    def rglob(self, pattern: str) -> Iterator["ContainerPath"]:
        """What is anywhere below and matches *pattern*, by path."""
        return self.glob(f"**/{pattern}")

    # --- content ---

    def read_bytes(self, *, max_bytes: int | None = None) -> bytes:
        """Its content."""
        options = {} if max_bytes is None else {"max_bytes": max_bytes}
        return self._files.read(str(self), **options)

    def read_text(
        self,
        encoding: str = "utf-8",
        errors: str = "strict",
        newline: str | None = None,
    ) -> str:
        """Its content, as text."""
        return _text_of(self.read_bytes(), encoding, errors, newline)

    def write_bytes(self, data: "Content") -> int:
        """Replace its content, all at once; returns how many bytes it has now."""
        if isinstance(data, str):
            raise TypeError("write_bytes takes bytes; write_text takes str")
        return self._files.write(str(self), data)

    def write_text(
        self,
        data: str,
        encoding: str = "utf-8",
        errors: str = "strict",
        newline: str | None = None,
    ) -> int:
        """Replace its content, all at once; returns how many characters it has now."""
        if not isinstance(data, str):
            raise TypeError("write_text takes str; write_bytes takes bytes")
        text = data if newline in {None, ""} else data.replace("\n", newline)
        self._files.write(str(self), text.encode(encoding, errors))
        return len(data)

    def open(
        self,
        mode: str = "r",
        encoding: str = "utf-8",
        errors: str = "strict",
        newline: str | None = None,
    ) -> IO[Any]:
        """
        Open it as a file object that holds all of the content in memory.

        What is written arrives when the object is closed, all at once; not at all if
        its ``with`` block ends with an exception.

        Args:
            mode: ``r``, ``w``, ``x`` or ``a``, with ``b`` for bytes. ``+`` is not
                supported.

            encoding: Of text.

            errors: What happens to text that the encoding does not have.

            newline: As for `open`.
        """
        kind, binary = mode[:1], mode[1:] == "b"
        if kind not in _MODES or mode[1:] not in {"", "b", "t"}:
            raise SpecError(
                "mode",
                "is not supported",
                value=mode,
                accepted="r, w, x, a; with b or t",
            )
        if kind == "r":
            content = io.BytesIO(self.read_bytes())
            if binary:
                return content
            return io.TextIOWrapper(content, encoding, errors, newline)
        before = b""
        if kind == "a" and self.exists():
            before = self.read_bytes()

        def finish(data: bytes) -> None:
            self._files.write(str(self), data, new=kind == "x")

        upload = _Upload(finish, before)
        if binary:
            return upload
        return _TextUpload(upload, encoding, errors, newline)

    # --- changing ---

    def touch(self, mode: int = 0o644, *, exist_ok: bool = True) -> None:
        """Make an empty file, or set the time of what is there to now."""
        if exist_ok:
            try:
                self._files.change(str(self), now=True)
            except FileNotFoundError:
                pass
            else:
                return
        self._files.write(str(self), b"", mode=mode, new=True)

    def mkdir(
        self, mode: int = 0o755, *, parents: bool = False, exist_ok: bool = False
    ) -> None:
        """Make a directory."""
        self._files.mkdir(str(self), mode=mode, parents=parents, exist_ok=exist_ok)

    def unlink(self, *, missing_ok: bool = False) -> None:
        """Remove a file or link."""
        self._files.remove(str(self), missing_ok=missing_ok)

    def rmdir(self) -> None:
        """Remove an empty directory."""
        self._files.remove(str(self), directory=True)

    def rmtree(self, *, missing_ok: bool = False) -> None:
        """Remove it with everything below."""
        self._files.remove(str(self), recursive=True, missing_ok=missing_ok)

    def rename(self, target: "str | PurePosixPath | ContainerPath") -> "ContainerPath":
        """
        Give it another path, in place of what is there; returns that path.

        A relative target is beside it: a container path has no current directory.
        """
        other = self.parent / target
        self._files.rename(str(self), str(other))
        return other

    def replace(self, target: "str | PurePosixPath | ContainerPath") -> "ContainerPath":
        """The same as `rename`, as in `pathlib` on Linux."""
        return self.rename(target)

    def symlink_to(self, target: "str | PurePosixPath | ContainerPath") -> None:
        """Make it a symbolic link that says *target*."""
        self._files.symlink(str(self), str(target))

    def chmod(self, mode: int, *, follow_symlinks: bool = True) -> None:
        """Change its permission bits."""
        self._files.change(str(self), mode=mode, follow_symlinks=follow_symlinks)

    def chown(self, owner: "Owner", *, follow_symlinks: bool = True) -> None:
        """Give it to *owner*: ``1000``, ``"1000:100"``, ``"www-data"``."""
        self._files.change(str(self), owner=owner, follow_symlinks=follow_symlinks)


def _text_of(data: bytes, encoding: str, errors: str, newline: str | None) -> str:
    """Decode with the line ends that `open` would give."""
    return io.TextIOWrapper(io.BytesIO(data), encoding, errors, newline).read()


class _Upload(io.BytesIO):
    """Bytes that become a file when they are closed."""

    def __init__(self, finish: Callable[[bytes], None], before: bytes) -> None:
        super().__init__()
        self.write(before)
        self._finish = finish
        self.discard = False

    def close(self) -> None:
        if not self.closed:
            try:
                if not self.discard:
                    self._finish(self.getvalue())
            finally:
                super().close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.discard = self.discard or kind is not None
        self.close()

    def __del__(self) -> None:
        # Whoever drops it unclosed has not said that it is complete.
        self.discard = True
        super().__del__()


class _TextUpload(io.TextIOWrapper):
    """Text that becomes a file when it is closed."""

    def __init__(
        self, upload: _Upload, encoding: str, errors: str, newline: str | None
    ) -> None:
        super().__init__(upload, encoding, errors, newline)
        self._upload = upload

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._upload.discard = kind is not None
        self.close()


def glob_matcher(pattern: str) -> tuple[Callable[[str], bool], int | None]:
    """
    Make a test for relative paths out of a glob, and say how deep it reaches.

    Returns:
        The test, and the number of components that a matching path has at most;
        ``None`` if there is no such number.

    Raises:
        SpecError: If the pattern is empty, absolute, or has ``..`` in it.
    """
    parts = pattern.split("/")
    if any(part in {"", ".", ".."} for part in parts):
        raise SpecError(
            "pattern",
            "is no relative pattern",
            value=pattern,
            accepted="'*.py', 'src/*.py', '**/*.py'",
        )
    pieces = [
        "(?:[^/]+/)*" if part == "**" else _component(part) + "/" for part in parts[:-1]
    ]
    pieces.append(".+" if parts[-1] == "**" else _component(parts[-1]))
    expression = re.compile("".join(pieces), re.DOTALL)
    depth = None if "**" in parts else len(parts)
    return lambda path: expression.fullmatch(path) is not None, depth


def _component(part: str) -> str:
    """Write the pattern of one component as an expression that stays in it."""
    text = ""
    at = 0
    while at < len(part):
        char = part[at]
        end = part.find("]", at + 2 + part.startswith("[!", at)) if char == "[" else -1
        if char == "*":
            text += "[^/]*"
        elif char == "?":
            text += "[^/]"
        elif end > 0:
            inside = part[at + 1 : end].replace("\\", "\\\\").replace("[", "\\[")
            if inside.startswith("!"):
                inside = "^" + inside[1:]
            elif inside.startswith("^"):
                inside = "\\" + inside
            text += f"(?!/)[{inside}]"
            at = end
        else:
            text += re.escape(char)
        at += 1
    return text
