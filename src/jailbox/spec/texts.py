"""
Texts that end up in system calls: no NUL, encodable, absolute where it matters.

Bytes become str with *surrogateescape*, as everywhere in Python, so that a value has
one type and loses nothing: `bytes_of` gives them back. Only grammar: whether something
exists at a path, or is a symbolic link, is asked by whoever opens it, by descriptor.
"""

from typing import Protocol, TypeAlias, runtime_checkable

from jailbox.errors import SpecError, SpecTypeError

__all__ = ["AnyPath", "PathLike", "absolute_path", "bytes_of", "text_of"]


@runtime_checkable
class PathLike(Protocol):
    """What ``os.PathLike`` is, without importing ``os``."""

    def __fspath__(self) -> str | bytes: ...


AnyPath: TypeAlias = str | bytes | PathLike


def text_of(value: AnyPath, argument: str) -> str:
    """
    Take a text for the kernel: a str, bytes, or a path object.

    Raises:
        SpecError: If it has a NUL or cannot be encoded, or is something else.
    """
    text = value
    if not isinstance(text, str | bytes) and isinstance(text, PathLike):
        text = text.__fspath__()
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    elif not isinstance(text, str):
        raise SpecTypeError(
            argument, "is no text", value=value, accepted="str, bytes or a path"
        )
    if "\0" in text:
        raise SpecError(
            argument, "has a NUL character", value=value, accepted="text without NUL"
        )
    if not text.isascii():
        try:
            bytes_of(text)
        except UnicodeEncodeError:
            raise SpecError(
                argument, "is not encodable as UTF-8", value=value
            ) from None
    return text


def bytes_of(text: str) -> bytes:
    """Encode a text of a spec for the kernel: the reverse of `text_of`."""
    return text.encode("utf-8", "surrogateescape")


def absolute_path(value: AnyPath, argument: str) -> str:
    """
    Take an absolute path, and write it in one way: no double, no final slash, no ".".

    ".." stays: what it means depends on symbolic links.

    Raises:
        SpecError: If it is relative or no path at all.
    """
    path = text_of(value, argument)
    if not path.startswith("/"):
        raise SpecError(
            argument,
            "is not absolute",
            value=value,
            accepted="a path that starts with /",
        )
    if "//" in path or "/." in path or path.endswith("/"):
        parts = [part for part in path.split("/") if part not in ("", ".")]
        path = "/" + "/".join(parts)
    return path
