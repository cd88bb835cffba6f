"""
The names and numbers of signals on Linux.

A table of our own: the module ``signal`` knows the numbers of the machine it runs on,
and a jail is always Linux.

Source: *signal(7)*, the column of x86, ARM and RISC-V. Realtime signals count from 34,
as glibc does, which keeps 32 and 33 to itself.
"""

from jailbox.errors import SpecError, SpecTypeError

__all__ = ["SIGNALS", "SIGNAL_MAX", "signal_name", "signal_number"]

_ORDER = """
    HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD
    CONT STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS
"""
_RTMIN, _RTMAX = 34, 64

SIGNAL_MAX = _RTMAX
"""The largest number of a signal."""

SIGNALS: dict[str, int] = {
    f"SIG{name}": number for number, name in enumerate(_ORDER.split(), start=1)
}
"""Every signal but the realtime ones, by its usual name."""

_NAMES = {number: name for name, number in SIGNALS.items()}
for _number in range(_RTMIN, _RTMAX + 1):
    _NAMES[_number] = (
        "SIGRTMIN"
        if _number == _RTMIN
        else f"SIGRTMIN+{_number - _RTMIN}"
        if _number < _RTMAX
        else "SIGRTMAX"
    )

_NUMBERS = {
    **SIGNALS,
    "SIGIOT": SIGNALS["SIGABRT"],
    "SIGCLD": SIGNALS["SIGCHLD"],
    "SIGPOLL": SIGNALS["SIGIO"],
    **{f"SIGRTMIN+{n}": _RTMIN + n for n in range(_RTMAX - _RTMIN + 1)},
    **{f"SIGRTMAX-{n}": _RTMAX - n for n in range(_RTMAX - _RTMIN + 1)},
    "SIGRTMIN": _RTMIN,
    "SIGRTMAX": _RTMAX,
}

_ACCEPTED = "a name such as 'SIGTERM' or 'TERM', or a number from 1 to 64"


def signal_number(value: int | str, argument: str = "signal") -> int:
    """
    Take a signal by number or name: ``15``, ``"SIGTERM"``, ``"TERM"``, ``"term"``.

    Members of ``signal.Signals`` are numbers and accepted too.

    Raises:
        SpecError: If there is no such signal.
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise SpecTypeError(
            argument, "is not a signal", value=value, accepted=_ACCEPTED
        )
    if isinstance(value, str):
        name = value.upper()
        name = name if name.startswith("SIG") else f"SIG{name}"
        number = _NUMBERS.get(name, 0)
    else:
        number = int(value)
    if not 1 <= number <= _RTMAX:
        raise SpecError(argument, "is not a signal", value=value, accepted=_ACCEPTED)
    return number


def signal_name(number: int) -> str:
    """Name a signal: ``SIGTERM``, ``SIGRTMIN+1``; ``signal 32`` if it has no name."""
    return _NAMES.get(number, f"signal {number}")
