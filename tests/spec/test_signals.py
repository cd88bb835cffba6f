"""Names and numbers of signals."""

import signal
from typing import Any, TypeAlias

import pytest

from jailbox.errors import SpecError, SpecTypeError
from jailbox.spec.signals import SIGNALS, signal_name, signal_number

# What the types forbid and people pass nevertheless.
Wrong: TypeAlias = Any


class TestTable:
    """The table against this machine's."""

    def test_numbers(self) -> None:
        """Every name of the table has the number that Linux gives it."""
        # Python leaves out the coprocessor fault, which nothing sends any more.
        known = {s.name: s.value for s in signal.Signals}

        assert {n: v for n, v in SIGNALS.items() if n != "SIGSTKFLT"}.items() <= (
            known.items()
        )
        assert SIGNALS["SIGSTKFLT"] == 16
        assert list(SIGNALS.values()) == list(range(1, 32))

    def test_realtime(self) -> None:
        """Realtime signals count from both ends, as kill -l does."""
        assert signal_number("SIGRTMIN") == signal.SIGRTMIN
        assert signal_number("RTMIN+3") == signal.SIGRTMIN + 3
        assert signal_number("RTMAX-1") == signal.SIGRTMAX - 1
        assert signal_number("RTMAX") == 64


class TestNumber:
    """Reading."""

    @pytest.mark.parametrize("value", ["SIGTERM", "TERM", 15, signal.SIGTERM], ids=repr)
    def test_spellings(self, value: int | str) -> None:
        """A signal is a name, with or without SIG, or a number."""
        number = signal_number(value)

        assert number == 15
        assert type(number) is int

    @pytest.mark.parametrize(
        "value", ["", "SIG", "termi", "SIGSIGTERM", "KILLED", "15", "TERM ", "RTMIN+31"]
    )
    def test_unknown_name(self, value: str) -> None:
        """An unknown name is refused."""
        with pytest.raises(SpecError) as caught:
            signal_number(value, "stop_signal")
        assert str(caught.value) == (
            f"stop_signal={value!r} is not a signal "
            "(accepted: a name such as 'SIGTERM' or 'TERM', or a number from 1 to 64)"
        )

    @pytest.mark.parametrize("value", [0, -1, -15, 65, 10**30])
    def test_unknown_number(self, value: int) -> None:
        """A number that is no signal is refused; 0 would only look."""
        with pytest.raises(SpecError, match="is not a signal"):
            signal_number(value)

    @pytest.mark.parametrize("value", [True, None, 15.0, b"TERM"])
    def test_wrong_type(self, value: Wrong) -> None:
        """A bool is no signal 1."""
        with pytest.raises(SpecTypeError, match="is not a signal"):
            signal_number(value)


class TestName:
    """Printing."""

    @pytest.mark.parametrize("number", [*range(1, 32), *range(34, 65)])
    def test_round_trip(self, number: int) -> None:
        """The name of a signal is read as its number."""
        assert signal_number(signal_name(number)) == number

    def test_nameless(self) -> None:
        """Numbers without a name are called by their number."""
        assert signal_name(32) == "signal 32"
        assert signal_name(99) == "signal 99"
