"""
What is executed, and as whom: arguments, environment, directory, user, names.

Strict on purpose. A text that two readers could understand differently (a user called
``1e3``, an argument with a NUL) is refused here, before any process exists. Names of
users are looked up in the image by `jailbox.run`, not here.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any, TypeAlias

import attrs

from jailbox.errors import SpecError, SpecTypeError, shown
from jailbox.spec.checks import instance, mapping, several, whole
from jailbox.spec.mapping import FrozenMap
from jailbox.spec.texts import AnyPath, absolute_path, text_of

__all__ = [
    "ID_MAX",
    "AnyCommand",
    "Input",
    "User",
    "argv_of",
    "container_name",
    "cwd_of",
    "env_of",
    "groups_of",
    "hostname_of",
    "labels_of",
    "terminal_size",
    "umask_of",
    "user_of",
]

Input: TypeAlias = (
    str | bytes | bytearray | memoryview | IO[Any] | Iterable[str | bytes]
)
"""What a program can be given to read."""

AnyCommand: TypeAlias = str | bytes | Sequence[AnyPath]

ID_MAX = 2**32 - 2
"""The largest user or group id: 2**32 - 1 means "leave it alone" to the kernel."""


def argv_of(
    command: AnyCommand, *, shell: bool = False, argument: str = "argv"
) -> tuple[str, ...]:
    """
    Take the arguments of a program, the program first.

    Args:
        command: A list or tuple; with *shell* one str.

        shell: Whether ``/bin/sh -c`` of the jail reads the command.

        argument: What the caller calls it, for errors.

    Raises:
        SpecError: If there is none, or an argument has a NUL.

        SpecTypeError: If it is a str without *shell*, or a list with it.
    """
    if shell:
        if not isinstance(command, str | bytes):
            raise SpecTypeError(
                argument,
                "is not a str, which shell=True needs",
                value=command,
                accepted="one str; or a list without shell=True",
            )
        return ("/bin/sh", "-c", text_of(command, argument))
    if isinstance(command, str | bytes):
        raise SpecTypeError(
            argument,
            "is one text, not a list of arguments",
            value=command,
            accepted="['program', 'argument', ...]",
            hint="Pass a list, or shell=True to have a shell read the text.",
        )
    # Sets have no order, and an iterator is used up by whoever looks first.
    if not isinstance(command, list | tuple):
        raise SpecTypeError(
            argument,
            "is not a list or tuple",
            value=command,
            accepted="['program', ...]",
        )
    if not command:
        raise SpecError(argument, "is empty", accepted="['program', 'argument', ...]")
    argv = tuple(text_of(part, f"{argument}[{n}]") for n, part in enumerate(command))
    if not argv[0]:
        raise SpecError(f"{argument}[0]", "is empty", accepted="the name of a program")
    return argv


def env_of(env: Mapping[str, AnyPath] | None) -> FrozenMap[str, str]:
    """
    Take environment variables. ``None`` means none of the caller's.

    Values never appear in errors: they may be secrets.

    Raises:
        SpecError: If a name is empty or has ``=`` or NUL, or a value has NUL.
    """
    if env is None or env is _NO_VARIABLES:
        return _NO_VARIABLES
    variables: dict[str, str] = {}
    for given, value in mapping(env, "env", "{'NAME': 'value', ...}").items():
        if not isinstance(given, str | bytes):
            raise SpecTypeError(
                "env", "has a name that is no text", value=given, accepted="str"
            )
        name = text_of(given, "env")
        if not name or "=" in name:
            raise SpecError(
                "env",
                "has a bad name",
                value=given,
                accepted="names that are not empty and have no '='",
            )
        variables[name] = _variable(name, value)
    return FrozenMap(variables)


def _variable(name: str, value: AnyPath) -> str:
    argument = f"env[{shown(name)}]"
    text = text_of(value, argument, secret=True)
    if name == "HOME" and any(c in text for c in "\n\r:"):
        # Programs copy it into colon-separated files and lists, one entry a line.
        raise SpecError(
            argument, "has a line break or colon", accepted="the path of a directory"
        )
    return text


_NO_VARIABLES: FrozenMap[str, str] = FrozenMap()


def cwd_of(cwd: AnyPath | None) -> str | None:
    """Take a working directory: an absolute path in the jail."""
    return None if cwd is None else absolute_path(cwd, "cwd")


# --- users ------------------------------------------------------------------

_DECIMAL = re.compile(r"0|[1-9][0-9]{0,9}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,30}\$?")
_USER_ACCEPTED = (
    f"a decimal id up to {ID_MAX} or a name, and maybe ':' and a group: "
    "1000, '1000:100', 'www-data'"
)


def _id_or_name(text: str) -> int | str | None:
    """Read an id or a name; ``None`` if it is neither."""
    if _DECIMAL.fullmatch(text):
        number = int(text)
        return number if number <= ID_MAX else None
    return text if _NAME.fullmatch(text) else None


def _identity(value: object, argument: str, accepted: str) -> int | str:
    if not isinstance(value, str):
        return whole(value, argument, 0, ID_MAX, accepted)
    identity = _id_or_name(value)
    if identity is None:
        raise SpecError(
            argument, "is no id and no name", value=value, accepted=accepted
        )
    return identity


def _user(value: int | str) -> int | str:
    return _identity(value, "user", _USER_ACCEPTED)


def _group(value: int | str | None) -> int | str | None:
    return None if value is None else _identity(value, "group", _USER_ACCEPTED)


@attrs.frozen
class User:
    """
    As whom a program runs.

    >>> print(user_of("1000:100"))
    1000:100

    Attributes:
        user: An id, or a name to be found in the image's ``/etc/passwd``. A text of
            digits is always an id, so that there is no doubt.

        group: An id, a name to be found in ``/etc/group``, or ``None`` for the user's.
    """

    user: int | str = attrs.field(converter=_user)
    group: int | str | None = attrs.field(default=None, converter=_group)

    def __str__(self) -> str:
        return f"{self.user}" if self.group is None else f"{self.user}:{self.group}"


def user_of(value: "int | str | User | None") -> User | None:
    """
    Take a user: ``1000``, ``"1000"``, ``"1000:100"``, ``"www-data"``.

    Raises:
        SpecError: If it is neither a strict decimal id nor a possible name.
    """
    if value is None or isinstance(value, User):
        return value
    if not isinstance(value, str):
        return User(value)
    first, colon, second = value.partition(":")
    user = _id_or_name(first)
    group = _id_or_name(second) if colon else None
    if user is None or (colon and group is None):
        raise SpecError(
            "user", "is no id and no name", value=value, accepted=_USER_ACCEPTED
        )
    return User(user, group)


def groups_of(value: Iterable[int | str]) -> tuple[int | str, ...]:
    """
    Take supplementary groups: ids, or names to be found in the image.

    Raises:
        SpecError: If one is neither.
    """
    accepted = f"ids up to {ID_MAX} and names: (100, 'audio')"
    items = several(value, "groups", accepted)
    return tuple(dict.fromkeys(_identity(item, "groups", accepted) for item in items))


# --- names and numbers ------------------------------------------------------


def umask_of(value: int) -> int:
    """Take a umask: permission bits that new files do not get."""
    return whole(value, "umask", 0, 0o777, "an int from 0 to 0o777")


_HOST_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_HOSTNAME_MAX = 64  # __NEW_UTS_LEN
_HOSTNAME = re.compile(rf"{_HOST_LABEL}(?:\.{_HOST_LABEL})*")


def hostname_of(value: str | None, *, argument: str = "hostname") -> str | None:
    """
    Take a host name: letters, digits, ``-``, ``_``, in labels between dots.

    At most 64 characters, which is what Linux holds.
    """
    if value is None:
        return None
    accepted = "1 to 64 letters, digits, '-', '_' and '.'; no '-' or '.' at an end"
    name = instance(value, str, argument, accepted)
    if len(name) > _HOSTNAME_MAX or not _HOSTNAME.fullmatch(name):
        raise SpecError(argument, "is not a host name", value=value, accepted=accepted)
    return name


_CONTAINER_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}")


def container_name(value: str | None) -> str | None:
    """Take the name of a container, as Docker allows it; at most 64 characters."""
    if value is None:
        return None
    accepted = "1 to 64 letters, digits, '_', '.', '-'; a letter or digit first"
    if not _CONTAINER_NAME.fullmatch(instance(value, str, "name", accepted)):
        raise SpecError("name", "is not a name", value=value, accepted=accepted)
    return value


def labels_of(value: Mapping[str, str] | None) -> FrozenMap[str, str]:
    """Take labels: any text without NUL, under keys that are not empty."""
    if value is None or value is _NO_VARIABLES:
        return _NO_VARIABLES
    accepted = "{'key': 'text', ...}"
    labels: dict[str, str] = {}
    for key, text in mapping(value, "labels", accepted).items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise SpecTypeError(
                "labels", "has an entry that is no text", value=key, accepted=accepted
            )
        if not key:
            raise SpecError("labels", "has an empty key", accepted=accepted)
        labels[text_of(key, "labels")] = text_of(text, f"labels[{shown(key)}]")
    return FrozenMap(labels)


_TERMINAL_MAX = 2**16 - 1  # struct winsize holds unsigned shorts
_TERMINAL_ACCEPTED = f"(columns, rows), each from 1 to {_TERMINAL_MAX}; or True"


# True is a size here, not a switch.
def terminal_size(
    value: tuple[int, int] | bool | None,  # noqa: FBT001
) -> tuple[int, int] | None:
    """Take the size of a terminal: (columns, rows). ``True`` is 80 by 24."""
    if value is None or value is False:
        return None
    if value is True:
        return (80, 24)
    items = several(value, "tty", _TERMINAL_ACCEPTED)
    try:
        columns, rows = items
    except ValueError:
        raise SpecError(
            "tty", "is not a pair", value=value, accepted=_TERMINAL_ACCEPTED
        ) from None
    return (
        whole(columns, "tty", 1, _TERMINAL_MAX, _TERMINAL_ACCEPTED),
        whole(rows, "tty", 1, _TERMINAL_MAX, _TERMINAL_ACCEPTED),
    )
