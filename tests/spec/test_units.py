"""Sizes and durations: what is read, what is refused, what is printed."""

from datetime import timedelta
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jailbox.errors import SpecError, SpecTypeError, shown
from jailbox.spec.units import (
    SIZE_MAX,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)

# A busy machine is no failure.
UNHURRIED = settings(deadline=None)

# What the types forbid and people pass nevertheless.
Wrong: TypeAlias = Any


class TestParseSize:
    """Reading sizes."""

    @pytest.mark.parametrize(
        ("text", "size"),
        [
            ("0", 0),
            ("123", 123),
            ("123B", 123),
            ("123b", 123),
            ("256K", 256 * 1024),
            ("256k", 256 * 1024),
            ("256KiB", 256 * 1024),
            ("256kB", 256_000),
            ("256KB", 256_000),
            ("256M", 256 * 1024**2),
            ("256m", 256 * 1024**2),
            ("256MiB", 256 * 1024**2),
            ("256 MiB", 256 * 1024**2),
            ("256MB", 256_000_000),
            ("1G", 1024**3),
            ("1GB", 10**9),
            ("2T", 2 * 1024**4),
            ("2P", 2 * 1024**5),
            ("7E", 7 * 1024**6),
            ("1.5G", 3 * 1024**3 // 2),
            ("0.1KB", 100),
            ("1.0000000001K", 1024),
        ],
    )
    def test_text(self, text: str, size: int) -> None:
        """M, m and MiB are binary, MB is decimal; fractions are rounded down."""
        assert parse_size(text) == size

    @pytest.mark.parametrize("number", [0, 1, 2**40, SIZE_MAX])
    def test_number(self, number: int) -> None:
        """A number is bytes."""
        assert parse_size(number) == number

    @pytest.mark.parametrize(
        "text",
        [
            "",
            " ",
            "M",
            "1e3g",
            "NaN",
            "inf",
            "-1",
            "-1M",
            "+1M",
            "0x10",
            "1_000",
            "1 000",
            " 1M",
            "1M ",
            "1M\n",
            "1  M",
            "1.M",
            ".5M",
            "1.5",
            "1.5B",
            "1,5M",
            "1Z",
            "1MiBs",
            "1Mib",
            "1KIB",
            "１M",  # noqa: RUF001
            "1\x00M",
            "1" * 31,
            "1M1",
            "1iB",
        ],
    )
    def test_refused_text(self, text: str) -> None:
        """CG11: whatever is no size for sure is refused."""
        with pytest.raises(SpecError) as caught:
            parse_size(text, "memory")
        assert caught.value.argument == "memory"

    @pytest.mark.parametrize("value", [True, False, None, 1.0, b"1M", [1], 1 + 0j])
    def test_refused_types(self, value: Wrong) -> None:
        """A bool, a float or bytes are no size; the error is a TypeError too."""
        with pytest.raises(SpecTypeError, match=r"^memory=.* is not a size"):
            parse_size(value, "memory")

    @pytest.mark.parametrize(
        "value", [-1, "9999999E", 2**80, 2**63, 10**5000], ids=shown
    )
    def test_out_of_range(self, value: int | str) -> None:
        """CG11: negative sizes and sizes past 63 bits are refused."""
        with pytest.raises(SpecError, match=r"negative|too large"):
            parse_size(value)

    def test_golden(self) -> None:
        """A refusal names the argument, the value and what is accepted."""
        with pytest.raises(SpecError) as caught:
            parse_size("1e3g", "memory")
        assert str(caught.value) == (
            "memory='1e3g' is not a size (accepted: an int of bytes, '256M' or "
            "'256MiB' (binary), '256MB' (decimal))"
        )

    def test_advice_for_small_letters(self) -> None:
        """Docker reads 256mb as binary, the world as decimal: the reader is asked."""
        with pytest.raises(SpecError) as caught:
            parse_size("256mb")
        assert caught.value.__notes__ == [
            "Write 256MB for powers of 1000, 256MiB for powers of 1024."
        ]


class TestParseDuration:
    """Reading durations."""

    @pytest.mark.parametrize(
        ("value", "seconds"),
        [(0, 0.0), (2, 2.0), (0.25, 0.25), (timedelta(minutes=1.5), 90.0), (1e9, 1e9)],
    )
    def test_accepted(self, value: float | timedelta, seconds: float) -> None:
        """A number is seconds, a timedelta what it says."""
        assert parse_duration(value) == seconds
        assert isinstance(parse_duration(value), float)

    @pytest.mark.parametrize("value", [True, None, "5", b"5", [5], 5 + 0j], ids=repr)
    def test_refused_types(self, value: Wrong) -> None:
        """Text is no duration: nobody would know the unit."""
        with pytest.raises(SpecTypeError, match=r"^timeout=.* is not a duration"):
            parse_duration(value, "timeout")

    @pytest.mark.parametrize(
        ("value", "problem"),
        [
            (-1, "is negative"),
            (-1e-9, "is negative"),
            (timedelta(seconds=-1), "is negative"),
            (-(10**400), "is negative"),
            (float("nan"), "is not a duration"),
            (float("inf"), "is too long"),
            (10**400, "is too long"),
            (timedelta.max, "is too long"),
        ],
        ids=shown,
    )
    def test_out_of_range(self, value: float | timedelta, problem: str) -> None:
        """Negative, endless and undefined durations are refused."""
        with pytest.raises(SpecError, match=problem):
            parse_duration(value, "timeout")


class TestFormat:
    """Printing both."""

    @pytest.mark.parametrize(
        ("size", "text"),
        [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (256 << 20, "256 MiB"),
            ((256 << 20) - 1, "256.0 MiB"),
            (3 << 29, "1.5 GiB"),
            (1 << 60, "1 EiB"),
            (1 << 70, "1024 EiB"),
        ],
    )
    def test_size(self, size: int, text: str) -> None:
        """A size is printed in the largest unit it reaches; a point means rounded."""
        assert format_size(size) == text

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (0, "0 ms"),
            (0.0004, "0.4 ms"),
            (0.35, "350 ms"),
            (0.9996, "1 s"),
            (1.256, "1.26 s"),
            (5, "5 s"),
            (120, "2 min"),
            (150.2, "2 min 30 s"),
            (7200, "2 h"),
            (11_100, "3 h 5 min"),
        ],
    )
    def test_duration(self, seconds: float, text: str) -> None:
        """A duration is printed in units that a person counts in."""
        assert format_duration(seconds) == text

    @UNHURRIED
    @given(st.integers(0, SIZE_MAX))
    def test_exact_sizes_come_back(self, size: int) -> None:
        """A size that is printed without a point is read back as itself."""
        text = format_size(size)
        assert "." in text or parse_size(text) == size

    @UNHURRIED
    @given(st.integers(0, SIZE_MAX // 2), st.sampled_from(["", "B", "K", "M", "G"]))
    def test_units_multiply(self, number: int, unit: str) -> None:
        """A size with a unit is the number times the unit, or out of range."""
        size = number * {"": 1, "B": 1, "K": 2**10, "M": 2**20, "G": 2**30}[unit]
        if size <= SIZE_MAX:
            assert parse_size(f"{number}{unit}") == size
        else:
            with pytest.raises(SpecError, match="too large"):
                parse_size(f"{number}{unit}")
