"""
Values of compose files as text and numbers: sizes, durations, scalars.

Sizes are those of Docker's command line, in which ``kb`` and ``k`` are both 1,024;
durations are Go's (``1m30s``), which the compose specification names.
"""

import math
import re
from decimal import Decimal

from jailbox.compose.tree import Node

__all__ = ["duration", "size", "text_of", "written_duration"]

_SIZE = re.compile(r"(-?\d+(?:\.\d+)?) ?([bkmgtpe])?(?:i?b)?", re.IGNORECASE)
_POWERS = {unit: 1024**power for power, unit in enumerate("bkmgtpe")}
_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_SECOND = _UNITS["s"]
_DIGITS_MAX = 64
_PLAIN = (-4, 21)
"""Between which powers of ten Go writes a number without an exponent."""


def text_of(node: Node) -> str:
    """Write a scalar as text: ``true``, ``null`` as nothing, ``3`` for 3.0."""
    match node:
        case None:
            return ""
        case bool():
            return "true" if node else "false"
        case float() if math.isfinite(node):
            return _number(node)
        case _:
            return str(node)


def _number(value: float) -> str:
    """Write a number in the shortest form, as Go does (strconv, format 'g')."""
    exponent = math.floor(math.log10(abs(value))) if value else 0
    if not _PLAIN[0] <= exponent < _PLAIN[1]:
        digits, _, power = f"{Decimal(repr(value)):e}".partition("e")
        mantissa = digits.rstrip("0").rstrip(".") if "." in digits else digits
        return f"{mantissa}e{'-' if power[0] == '-' else '+'}{abs(int(power)):02d}"
    text = format(Decimal(repr(value)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def size(value: Node) -> int:
    """
    Read a size in bytes: ``512m``, ``1.5gb``, ``64``; -1 is no limit.

    Raises:
        ValueError: It is no size.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value)
    text = str(value).strip()
    found = _SIZE.fullmatch(text) if len(text) < _DIGITS_MAX else None
    if found is None:
        raise ValueError(f"is {value!r}, which is no size; 512m and 1gb are")
    return int(Decimal(found[1]) * _POWERS[(found[2] or "b").lower()])


def duration(text: str) -> int:
    """
    Read a duration in nanoseconds: ``1m30s``, ``1.5h``, ``250ms``.

    Raises:
        ValueError: It is no duration.
    """
    bare = text.strip().lstrip("+-")
    if bare == "0":
        return 0
    total, position = Decimal(0), 0
    while position < len(bare) < _DIGITS_MAX:
        found = _PART.match(bare, position)
        if found is None:
            break
        total += Decimal(found[1]) * _UNITS[found[2]]
        position = found.end()
    if not bare or position != len(bare):
        unit = " (it has no unit)" if bare.replace(".", "").isdigit() else ""
        raise ValueError(f"is {text!r}, which is no duration{unit}; 1m30s is one")
    return int(total) * (-1 if text.strip().startswith("-") else 1)


def written_duration(nanoseconds: int) -> str:
    """Write a duration as Go does: ``1m30s``, ``1.5s``, ``250ms``."""
    sign, rest = ("-" if nanoseconds < 0 else ""), abs(nanoseconds)
    if rest == 0:
        return "0s"
    if rest < _SECOND:
        for unit in ("ms", "µs", "ns"):
            if rest >= _UNITS[unit]:
                return f"{sign}{_fraction(rest, _UNITS[unit])}{unit}"
    hours, rest = divmod(rest, _UNITS["h"])
    minutes, rest = divmod(rest, _UNITS["m"])
    text = f"{_fraction(rest, _SECOND)}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{sign}{hours}h{text}" if hours else f"{sign}{text}"


def _fraction(amount: int, unit: int) -> str:
    return (
        text_of(float(Decimal(amount) / unit)) if amount % unit else str(amount // unit)
    )
