"""
The refusals that the values share, and how a value prints itself.

Arguments are taken as ``object``: the types in signatures are promises of the caller,
and what is checked here is whether they were kept.
"""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, TypeVar

import attrs

from jailbox.errors import SpecError, SpecTypeError, printable

__all__ = ["brief", "choice", "flag", "instance", "mapping", "several", "whole"]

T = TypeVar("T")
L = TypeVar("L", bound=str)

_SEVERAL_MAX = 1 << 16


def whole(
    value: object,
    argument: str,
    minimum: int,
    maximum: int,
    accepted: str | None = None,
) -> int:
    """Take an int within bounds, and no bool."""
    accepted = accepted or f"an int from {minimum} to {maximum}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise SpecTypeError(argument, "is not an int", value=value, accepted=accepted)
    if not minimum <= value <= maximum:
        raise SpecError(argument, "is out of range", value=value, accepted=accepted)
    return int(value)  # a plain one: an IntEnum would print differently


# The shape of an attrs validator: the value itself comes third.
def flag(_: object, attribute: "attrs.Attribute[bool]", value: object) -> None:
    """
    Refuse what is not a bool.

    Not converted: ``bool("no")`` is true, and would open what should stay shut.
    """
    if not isinstance(value, bool):
        raise SpecTypeError(
            attribute.name, "is not a bool", value=value, accepted="True or False"
        )


def choice(value: object, argument: str, options: tuple[L, ...]) -> L:
    """Take one of a few words."""
    accepted = " or ".join(repr(option) for option in options)
    if not isinstance(value, str):
        raise SpecTypeError(argument, "is no text", value=value, accepted=accepted)
    for option in options:
        if option == value:
            return option
    raise SpecError(argument, "is not known", value=value, accepted=accepted)


def several(value: object, argument: str, accepted: str) -> tuple[Any, ...]:
    """Take the items of a list, tuple, set, ...; a text is one thing, not several."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise SpecTypeError(
            argument, "is not several things", value=value, accepted=accepted
        )
    # Bounded: an endless iterator would not come back.
    items = tuple(islice(value, _SEVERAL_MAX + 1))
    if len(items) > _SEVERAL_MAX:
        raise SpecError(
            argument, "has too many items", accepted=f"at most {_SEVERAL_MAX}"
        )
    return items


def mapping(value: object, argument: str, accepted: str) -> Mapping[Any, Any]:
    """Take a mapping. The value is not shown: it may hold secrets."""
    if not isinstance(value, Mapping):
        raise SpecTypeError(
            argument, f"is not a mapping but {type(value).__name__}", accepted=accepted
        )
    return value


def instance(value: object, kind: type[T], argument: str, accepted: str) -> T:
    """Take an instance of one class."""
    if not isinstance(value, kind):
        raise SpecTypeError(
            argument, f"is not {kind.__name__}", value=value, accepted=accepted
        )
    return value


def brief(value: attrs.AttrsInstance, usual: attrs.AttrsInstance) -> list[str]:
    """
    Print the fields of *value* that differ from *usual*, as ``name=value``.

    Those without a default are always printed. A ``repr`` of the field is obeyed.
    """
    parts = []
    for field in attrs.fields(type(value)):
        given = getattr(value, field.name)
        if field.default is attrs.NOTHING or given != getattr(usual, field.name):
            show = field.repr if callable(field.repr) else repr
            parts.append(f"{field.name}={printable(show(given))}")
    return parts
