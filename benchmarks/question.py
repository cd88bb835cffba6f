"""
What a question is, and what an answer to it holds.

Each file of questions has one function, ``ask``, and its last answer in the docstring.
"""

import time
from collections.abc import Callable
from typing import TypeAlias

import attrs

from benchmarks.measure import Bar
from benchmarks.stage import Stage

__all__ = ["Answer", "Ask", "Options"]


@attrs.frozen
class Options:
    """
    How thoroughly to ask.

    Attributes:
        rounds: Rounds of what takes milliseconds; the rest is derived from it.

        quick: Look for crashes and gross ratios only.
    """

    rounds: int = 100
    quick: bool = False

    def some(self, share: float, least: int = 2) -> int:
        """Take a share of the rounds, for what takes longer."""
        return max(least, round(self.rounds * share))


@attrs.frozen(kw_only=True)
class Answer:
    """
    What came of a question.

    Attributes:
        bars: What was demanded, and what was found.

        samples: Every time that was taken, in seconds, by contender.

        facts: Other numbers, and who was absent and why.
    """

    bars: tuple[Bar, ...]
    samples: dict[str, list[float]] = attrs.field(factory=dict)
    facts: dict[str, float | str] = attrs.field(factory=dict)


Ask: TypeAlias = Callable[[Stage, Options], Answer]


def settle(seconds: float = 0.5) -> None:
    """Let what dies slowly (namespaces, groups) be gone before the next question."""
    time.sleep(seconds)
