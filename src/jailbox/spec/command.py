"""
What is executed, and as whom: arguments, environment, directory, user, names.

Strict on purpose. A text that two readers could understand differently (a user called
``1e3``, an argument with a NUL) is refused here, before any process exists. Names of
users are looked up in the image by `jailbox.run`, not here.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import attrs

from jailbox.errors import SpecError, SpecTypeError, shown
from jailbox.spec.mapping import FrozenMap
from jailbox.spec.texts import AnyPath, absolute_path, text_of

__all__ = [
    "ID_MAX",
    "AnyCommand",
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

AnyCommand: TypeAlias = str | bytes | Sequence[AnyPath]

ID_MAX = 2**32 - 2
"""The largest user or group id: 2**32 - 1 means "leave it alone" to the kernel."""


def argv_of(command: AnyCommand, *, shell: bool = False) -> tuple[str, ...]:
    """
    Take the arguments of a program, the program first.

    Args:
        command: A list or tuple; with *shell* one str.

        shell: Whether ``/bin/sh -c`` of the jail reads the command.

    Raises:
        SpecError: If there is none, or an argument has a NUL.

        SpecTypeError: If it is a str without *shell*, or a list with it.
    """
    if not isinstance(shell, bool):
        raise SpecTypeError(
            "shell", "is not a bool", value=shell, accepted="True or False"
        )
    if shell:
        if not isinstance(command, str | bytes):
            raise SpecTypeError(
                "argv",
                "is not a str, which shell=True needs",
                value=command,
                accepted="one str; or a list without shell=True",
            )
        return ("/bin/sh", "-c", text_of(command, "argv"))
    if isinstance(command, str | bytes):
        raise SpecTypeError(
            "argv",
            "is one text, not a list of arguments",
            value=command,
            accepted="['program', 'argument', ...]",
            hint="Pass a list, or shell=True to have a shell read the text.",
        )
    # Sets have no order, and an iterator is used up by whoever looks first.
    if not isinstance(command, list | tuple):
        raise SpecTypeError(
            "argv", "is not a list or tuple", value=command, accepted="['program', ...]"
        )
    if not command:
        raise SpecError("argv", "is empty", accepted="['program', 'argument', ...]")
    argv = tuple(text_of(part, f"argv[{n}]") for n, part in enumerate(command))
    if not argv[0]:
        raise SpecError("argv[0]", "is empty", accepted="the name of a program")
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
    if not isinstance(env, Mapping):
        raise SpecTypeError(
            "env", "is not a mapping", accepted="{'NAME': 'value', ...}"
        )
    variables: dict[str, str] = {}
    for given, value in env.items():
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
    try:
        text = text_of(value, argument)
    except SpecError as error:
        # Again without the value, and without a chain that shows it.
        kind = SpecTypeError if isinstance(error, SpecTypeError) else SpecError
        problem = (
            f"is a {type(value).__name__}"
            if kind is SpecTypeError
            else "has a NUL or cannot be encoded"
        )
        raise kind(argument, problem, accepted="str, bytes or a path") from None
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
    """Read one half of a user; ``None`` if it is neither id nor name."""
    if _DECIMAL.fullmatch(text):
        number = int(text)
        return number if number <= ID_MAX else None
    return text if _NAME.fullmatch(text) else None


@attrs.frozen
class User:
    """
    As whom a program runs.

    >>> print(user_of("1000:100"))
    1000:100

    Attributes:
        user: An id, or a name to be found in the image's ``/etc/passwd``. A name never
            consists of digits, so that there is no doubt.

        group: An id, a name to be found in ``/etc/group``, or ``None`` for the user's.
    """

    user: int | str
    group: int | str | None = None

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
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise SpecTypeError(
            "user", "is not a user", value=value, accepted=_USER_ACCEPTED
        )
    if isinstance(value, int):
        if not 0 <= value <= ID_MAX:
            raise SpecError(
                "user", "is out of range", value=value, accepted=_USER_ACCEPTED
            )
        return User(int(value))
    first, colon, second = value.partition(":")
    user = _id_or_name(first)
    group = _id_or_name(second) if colon else None
    if user is None or (colon and group is None):
        raise SpecError("user", "is not a user", value=value, accepted=_USER_ACCEPTED)
    return User(user, group)


def groups_of(value: Iterable[int | str]) -> tuple[int | str, ...]:
    """
    Take supplementary groups: ids, or names to be found in the image.

    Raises:
        SpecError: If one is neither.
    """
    accepted = f"ids up to {ID_MAX} and names: (100, 'audio')"
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise SpecTypeError(
            "groups", "is not a list of groups", value=value, accepted=accepted
        )
    groups: dict[int | str, None] = {}
    for item in value:
        if isinstance(item, bool) or not isinstance(item, int | str):
            raise SpecTypeError("groups", "has no group", value=item, accepted=accepted)
        if isinstance(item, str):
            group = _id_or_name(item)
        else:
            group = int(item) if 0 <= item <= ID_MAX else None
        if group is None:
            raise SpecError("groups", "has no group", value=item, accepted=accepted)
        groups[group] = None
    return tuple(groups)


# --- names and numbers ------------------------------------------------------


def umask_of(value: int) -> int:
    """Take a umask: permission bits that new files do not get."""
    accepted = "an int from 0 to 0o777"
    if isinstance(value, bool) or not isinstance(value, int):
        raise SpecTypeError("umask", "is not a number", value=value, accepted=accepted)
    if not 0 <= value <= 0o777:
        raise SpecError("umask", "is out of range", value=value, accepted=accepted)
    return int(value)


_HOST_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_HOSTNAME = re.compile(rf"{_HOST_LABEL}(?:\.{_HOST_LABEL})*")


def hostname_of(value: str | None) -> str | None:
    """
    Take a host name: letters, digits, ``-``, ``_``, in labels between dots.

    At most 64 characters, which is what Linux holds.
    """
    if value is None:
        return None
    accepted = "1 to 64 letters, digits, '-', '_' and '.'; no '-' or '.' at an end"
    if not isinstance(value, str):
        raise SpecTypeError("hostname", "is no text", value=value, accepted=accepted)
    if len(value) > 64 or not _HOSTNAME.fullmatch(value):
        raise SpecError(
            "hostname", "is not a host name", value=value, accepted=accepted
        )
    return value


_CONTAINER_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}")


def container_name(value: str | None) -> str | None:
    """Take the name of a container, as Docker allows it; at most 64 characters."""
    if value is None:
        return None
    accepted = "1 to 64 letters, digits, '_', '.', '-'; a letter or digit first"
    if not isinstance(value, str):
        raise SpecTypeError("name", "is no text", value=value, accepted=accepted)
    if not _CONTAINER_NAME.fullmatch(value):
        raise SpecError("name", "is not a name", value=value, accepted=accepted)
    return value


def labels_of(value: Mapping[str, str] | None) -> FrozenMap[str, str]:
    """Take labels: any text without NUL, under keys that are not empty."""
    if value is None or value is _NO_VARIABLES:
        return _NO_VARIABLES
    accepted = "{'key': 'text', ...}"
    if not isinstance(value, Mapping):
        raise SpecTypeError(
            "labels", "is not a mapping", value=value, accepted=accepted
        )
    labels: dict[str, str] = {}
    for key, text in value.items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise SpecTypeError(
                "labels", "has an entry that is no text", value=key, accepted=accepted
            )
        if not key:
            raise SpecError("labels", "has an empty key", accepted=accepted)
        labels[text_of(key, "labels")] = text_of(text, f"labels[{shown(key)}]")
    return FrozenMap(labels)


def terminal_size(value: "tuple[int, int] | bool | None") -> tuple[int, int] | None:
    """
    Take the size of a terminal: (columns, rows). ``True`` is 80 by 24.
    """
    if value is None or value is False:
        return None
    if value is True:
        return (80, 24)
    accepted = "(columns, rows), each from 1 to 65535; or True"
    if (
        not isinstance(value, tuple | list)
        or len(value) != 2
        or any(isinstance(n, bool) or not isinstance(n, int) for n in value)
    ):
        raise SpecTypeError(
            "tty", "is not a terminal size", value=value, accepted=accepted
        )
    columns, rows = (int(n) for n in value)
    if not (1 <= columns <= 65535 and 1 <= rows <= 65535):
        raise SpecError("tty", "is out of range", value=value, accepted=accepted)
    return columns, rows
