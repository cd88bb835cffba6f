"""Sizes, durations and scalars of compose files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jailbox.compose.values import duration, size, text_of, written_duration


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [("64", 64), ("64b", 64), ("1k", 1024), ("1kb", 1024), ("1.5G", 1610612736)],
)
def test_sizes(text: str, bytes_: int) -> None:
    """Sizes are binary, with and without a b, as on Docker's command line."""
    assert size(text) == bytes_


@pytest.mark.parametrize("text", ["", "1x", "m", "1 0", "--1", "9" * 100])
def test_no_sizes(text: str) -> None:
    """What is no size is said to be none."""
    with pytest.raises(ValueError, match="no size"):
        size(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("90s", "1m30s"),
        ("1.5h", "1h30m0s"),
        ("250ms", "250ms"),
        ("1500ms", "1.5s"),
        ("0", "0s"),
        ("-1m", "-1m0s"),
        ("1us", "1µs"),
    ],
)
def test_durations(text: str, shown: str) -> None:
    """Durations are written as Go writes them."""
    assert written_duration(duration(text)) == shown


@pytest.mark.parametrize("text", ["", "5", "s", "1m 3s", "1d"])
def test_no_durations(text: str) -> None:
    """A duration has units, and nothing between them."""
    with pytest.raises(ValueError, match="no duration"):
        duration(text)


@given(st.integers(min_value=0, max_value=10**17))
def test_durations_come_back(nanoseconds: int) -> None:
    """A duration that was written is read as the same, to a microsecond."""
    assert abs(duration(written_duration(nanoseconds)) - nanoseconds) <= 1000


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_come_back(value: float) -> None:
    """A number that was written is the same number."""
    assert float(text_of(value)) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "true"),
        (3.0, "3"),
        (1e21, "1e+21"),
        (1e-5, "1e-05"),
        (7, "7"),
    ],
)
def test_text(value: bool | float | None, text: str) -> None:  # noqa: FBT001
    """Scalars are written as Go writes them."""
    assert text_of(value) == text
