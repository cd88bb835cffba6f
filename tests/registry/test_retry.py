"""When to try again, and how long to wait before."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jailbox.registry.retry import Policy, pause, reset_time, retry_after

NOW = dt.datetime(2026, 5, 4, 3, 2, 1, tzinfo=dt.UTC)
POLICY = Policy(attempts=4, backoff=1, backoff_max=3, retry_after_max=60)


class TestPause:
    def test_grows(self) -> None:
        """Each pause is twice the one before, up to a bound; then it is enough."""
        assert [pause(POLICY, n) for n in (1, 2, 3, 4)] == [1, 2, 3, None]

    def test_by_chance(self) -> None:
        """Chance makes a pause shorter, by at most a half."""
        assert pause(POLICY, 1, jitter=0) == 0.5

    def test_wish(self) -> None:
        """REG16: the registry's wish is respected, unless it is for too long."""
        assert pause(POLICY, 1, 30) == 30
        assert pause(POLICY, 1, 61) is None
        assert pause(POLICY, 4, 0) is None

    @given(st.integers(1, 10**6), st.floats(0, 10**9), st.floats(0, 1))
    def test_bounded(self, attempt: int, wish: float, jitter: float) -> None:
        """No pause is longer than the policy allows, whatever a registry wishes."""
        got = pause(POLICY, attempt, wish, jitter=jitter)

        assert got is None or 0 <= got <= 60


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("0", 0),
            (" 120 ", 120),
            ("1.5", 1.5),
            ("Mon, 04 May 2026 03:03:01 GMT", 60),
            ("Mon, 04 May 2026 03:00:00 GMT", 0),
            ("Mon, 04 May 2026 03:03:01 -0000", 60),
            (None, None),
            ("", None),
            ("-1", None),
            ("soon", None),
            ("1e9", None),
            ("9" * 1000, None),
            ("Mon, 99 May 2026 03:03:01 GMT", None),
        ],
    )
    def test_read(self, text: str | None, expected: float | None) -> None:
        """Seconds and dates are read; nonsense is nothing."""
        assert retry_after(text, NOW) == expected

    @given(st.text(max_size=120))
    def test_anything(self, text: str) -> None:
        """REG11: whatever stands there, it is a bounded number or nothing."""
        got = retry_after(text, NOW)

        assert got is None or 0 <= got <= 366 * 86400

    @pytest.mark.parametrize(
        ("headers", "seconds"),
        [
            ({"retry-after": "60"}, 60),
            ({"ratelimit-reset": "90"}, 90),
            ({"x-ratelimit-reset": str(int(NOW.timestamp()) + 30)}, 30),
            ({"retry-after": "10", "ratelimit-reset": "90"}, 10),
            ({"ratelimit-limit": "100;w=21600"}, None),
        ],
    )
    def test_reset(self, headers: dict[str, str], seconds: float | None) -> None:
        """The moment to come back is told by whichever header has it."""
        expected = None if seconds is None else NOW + dt.timedelta(seconds=seconds)

        assert reset_time(headers, NOW) == expected
