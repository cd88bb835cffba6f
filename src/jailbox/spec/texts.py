"""
Texts that end up in system calls: no NUL, encodable, absolute where it matters.

Bytes become str with *surrogateescape*, as everywhere in Python, so that a value has
one type and loses nothing: `bytes_of` gives them back. Only grammar: whether something
exists at a path, or is a symbolic link, is asked by whoever opens it, by descriptor.
"""

from typing import Protocol, TypeAlias

from jailbox.errors import SpecError, SpecTypeError

__all__ = ["AnyPath", "PathLike", "absolute_path", "bytes_of", "text_of"]


class PathLike(Protocol):
    """What ``os.PathLike`` is, without importing ``os``."""

    def __fspath__(self) -> str | bytes: ...


AnyPath: TypeAlias = str | bytes | PathLike


def text_of(value: AnyPath, argument: str, *, secret: bool = False) -> str:
    """
    Take a text for the kernel: a str, bytes, or a path object.

    Args:
        value: The text.

        argument: What it is for; named in errors.

        secret: Whether errors must not show it.

    Raises:
        SpecError: If it has a NUL or cannot be encoded, or is something else.
    """
    text: object = value
    if not isinstance(text, str | bytes):
        # Looked up as os.fspath does, in the type.
        fspath = getattr(type(text), "__fspath__", None)
        if fspath is not None:
            text = fspath(text)
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    kind: type[SpecError]
    if not isinstance(text, str):
        kind, problem, accepted = SpecTypeError, "is no text", "str, bytes or a path"
    elif "\0" in text:
        kind, problem, accepted = SpecError, "has a NUL character", "text without NUL"
    elif not _encodable(text):
        kind, problem, accepted = SpecError, "cannot be encoded", "Unicode or bytes"
    else:
        return text
    if secret:
        raise kind(argument, problem, accepted=accepted)
    raise kind(argument, problem, value=value, accepted=accepted)


def _encodable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        bytes_of(text)
    except UnicodeEncodeError:
        return False
    return True


def bytes_of(text: str) -> bytes:
    """Encode a text of a spec for the kernel: the reverse of `text_of`."""
    return text.encode("utf-8", "surrogateescape")


def absolute_path(value: AnyPath, argument: str, hint: str | None = None) -> str:
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
            hint=hint,
        )
    if "//" in path or "/." in path or path.endswith("/"):
        parts = [part for part in path.split("/") if part not in ("", ".")]
        path = "/" + "/".join(parts)
    return path
