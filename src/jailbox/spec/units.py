"""
Sizes and durations: read what people write, print what people read.

Sizes are bytes, durations are seconds, everywhere below. Not for dates, and not for
rates.
"""

import math
import re
from datetime import timedelta

from jailbox.errors import SpecError, SpecTypeError

__all__ = [
    "SIZE_MAX",
    "format_duration",
    "format_size",
    "parse_duration",
    "parse_size",
]

SIZE_MAX = 2**63 - 1
"""The largest size: the kernel counts bytes in a signed 64 bit number."""

DURATION_MAX = 1e9
"""The longest duration, in seconds (31 years). More is a mistake in units."""

SIZE_ACCEPTED = "an int of bytes, '256M' or '256MiB' (binary), '256MB' (decimal)"
DURATION_ACCEPTED = "seconds as int or float, or a timedelta"

_PREFIXES = "KMGTPE"

# "256mb" is left out on purpose: Docker reads it as binary, the world as decimal.
_UNITS: dict[str, int] = {"": 1, "B": 1, "b": 1}
for _power, _prefix in enumerate(_PREFIXES, start=1):
    _UNITS[_prefix] = _UNITS[_prefix.lower()] = _UNITS[f"{_prefix}iB"] = 1024**_power
    _UNITS[f"{_prefix}B"] = 1000**_power
_UNITS["kB"] = 1000

# Bounded digits: Python refuses to convert very long ones, with an error of its own.
_SIZE = re.compile(r"([0-9]{1,30})(?:\.([0-9]{1,30}))? ?([A-Za-z]{0,3})")


def parse_size(value: int | str, argument: str = "size") -> int:
    """
    Read a size in bytes.

    ``"256M"``, ``"256m"``, ``"256MiB"`` and ``"256 MiB"`` are binary, ``"256MB"`` is
    decimal. A fraction needs a unit and is rounded down to bytes: ``"1.5G"``.

    Args:
        value: The size.

        argument: What the size is for; named in errors.

    Raises:
        SpecError: If *value* is no size, is negative, or is past `SIZE_MAX`.
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise SpecTypeError(
            argument, "is not a size", value=value, accepted=SIZE_ACCEPTED
        )
    number = value if isinstance(value, int) else _size_from_text(value, argument)
    if number < 0:
        raise SpecError(argument, "is negative", value=value, accepted=SIZE_ACCEPTED)
    if number > SIZE_MAX:
        raise SpecError(
            argument, "is too large", value=value, accepted="at most 2**63 - 1 bytes"
        )
    return int(number)


def _size_from_text(text: str, argument: str) -> int:
    match = _SIZE.fullmatch(text)
    unit = _UNITS.get(match[3]) if match else None
    if match is None or unit is None or (match[2] and match[3] in ("", "B", "b")):
        hint = None
        if match is not None and match[3].lower() in ("kb", "mb", "gb", "tb"):
            prefix = match[3][0].upper()
            hint = (
                f"Write {match[1]}{prefix}B for powers of 1000, "
                f"{match[1]}{prefix}iB for powers of 1024."
            )
        raise SpecError(
            argument, "is not a size", value=text, accepted=SIZE_ACCEPTED, hint=hint
        )
    whole, fraction = match[1], match[2] or ""
    # Exact: a float would lose the last bytes of a large size.
    return int(whole + fraction) * unit // int(10 ** len(fraction))


def parse_duration(value: float | timedelta, argument: str = "duration") -> float:
    """
    Read a duration in seconds.

    Args:
        value: Seconds, or a timedelta.

        argument: What the duration is for; named in errors.

    Raises:
        SpecError: If *value* is no duration, negative, not finite, or past 31 years.
    """
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise SpecTypeError(
            argument, "is not a duration", value=value, accepted=DURATION_ACCEPTED
        )
    elif isinstance(value, int) and abs(value) > DURATION_MAX:
        # float() of a huge int would fail.
        seconds = math.inf if value > 0 else -math.inf
    else:
        seconds = float(value)
    if math.isnan(seconds):
        raise SpecError(
            argument, "is not a duration", value=value, accepted=DURATION_ACCEPTED
        )
    if seconds < 0:
        raise SpecError(
            argument, "is negative", value=value, accepted=DURATION_ACCEPTED
        )
    if seconds > DURATION_MAX:
        raise SpecError(
            argument,
            "is too long",
            value=value,
            accepted=f"at most {DURATION_MAX:g} seconds; None for no bound",
        )
    return seconds


def format_size(size: int) -> str:
    """
    Print a size in the largest binary unit it reaches: ``256 MiB``, ``1.5 GiB``.

    Exact if there is no point in it, else rounded to one decimal place.
    """
    unit, suffix = 1, "B"
    for power, prefix in enumerate(_PREFIXES, start=1):
        if size < 1024**power:
            break
        unit, suffix = 1024**power, f"{prefix}iB"
    if size % unit == 0:
        return f"{size // unit} {suffix}"
    return f"{size / unit:.1f} {suffix}"


_MINUTE, _HOUR = 60, 3600


def format_duration(seconds: float) -> str:
    """Print a duration: ``350 ms``, ``2.5 s``, ``2 min 30 s``, ``3 h 5 min``."""
    if round(seconds, 3) < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 2 * _MINUTE:
        return f"{seconds:.3g} s"
    if seconds < 2 * _HOUR:
        minutes, rest = divmod(round(seconds), _MINUTE)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, rest = divmod(round(seconds), _HOUR)
    return f"{hours} h {rest // _MINUTE} min" if rest >= _MINUTE else f"{hours} h"
