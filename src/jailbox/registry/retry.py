"""
When to try again, and how long to wait before. Pure.

Only what changes nothing when it is done twice is repeated; which that is, the caller
knows.
"""

import datetime as dt
import email.utils
import math
import re
from collections.abc import Mapping

import attrs

__all__ = ["RETRIED", "Policy", "pause", "reset_time", "retry_after"]

RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
"""The statuses after which the same request may have another outcome."""

_SECONDS = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")
_STAMP_MAX = 100
_YEAR = 366 * 24 * 3600.0


@attrs.frozen(kw_only=True)
class Policy:
    """
    How patient to be.

    Attributes:
        attempts: How often a request is made, at most.

        backoff: Seconds before the second attempt; doubled each time.

        backoff_max: Seconds between two attempts, at most.

        retry_after_max: How long a registry may make us wait, in seconds. If it wishes
            for more, that is an error that says when to come back.
    """

    attempts: int = 5
    backoff: float = 0.25
    backoff_max: float = 10.0
    retry_after_max: float = 60.0


def pause(
    policy: Policy, attempt: int, wish: float | None = None, *, jitter: float = 1.0
) -> float | None:
    """
    Return how many seconds to wait after the failed *attempt*; ``None``: give up.

    Args:
        attempt: Which attempt has failed, from 1.

        wish: What ``Retry-After`` said, in seconds.

        jitter: Between 0 and 1, by chance: clients that failed together shall not come
            back together.
    """
    if attempt >= policy.attempts:
        return None
    if wish is not None and wish > policy.retry_after_max:
        return None
    growth = policy.backoff * 2.0 ** min(attempt - 1, 30)
    own = min(growth, policy.backoff_max) * (0.5 + jitter / 2)
    return own if wish is None else max(wish, min(own, policy.backoff))


def retry_after(text: str | None, now: dt.datetime) -> float | None:
    """
    Read ``Retry-After``: seconds, or a date. ``None`` if absent or unreadable.

    Source: RFC 9110, 10.2.3.
    """
    if not text or len(text) > _STAMP_MAX:
        return None
    text = text.strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), _YEAR)
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    seconds = (moment - now).total_seconds()
    return min(max(seconds, 0.0), _YEAR) if math.isfinite(seconds) else None


def reset_time(headers: Mapping[str, str], now: dt.datetime) -> dt.datetime | None:
    """
    Return when a limit of requests ends, by whichever header says so.

    ``Retry-After``, else ``RateLimit-Reset`` or ``X-RateLimit-Reset``, which hold
    seconds from now or, where the number is that large, since the epoch.
    """
    wish = retry_after(headers.get("retry-after"), now)
    if wish is None:
        for name in ("ratelimit-reset", "x-ratelimit-reset"):
            text = headers.get(name, "").strip()
            if _SECONDS.fullmatch(text):
                wish = float(text)
                if wish > _YEAR:
                    wish = max(0.0, wish - now.timestamp())
                break
    if wish is None or wish > _YEAR:
        return None
    return now + dt.timedelta(seconds=wish)
