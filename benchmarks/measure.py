"""
How things are measured here: side by side, in random order, round after round.

A machine has moods: whatever is measured first and then second compares two moods. So
every contender has its turn in every round, in an order that is drawn anew, and only
ratios inside one run are compared. Knows nothing of containers.
"""

import random
import statistics
import time
from collections.abc import Callable, Sequence

import attrs

__all__ = ["Bar", "Contender", "Stats", "Turn", "ratio", "rounds", "timed"]

Turn = Callable[[], Sequence[float]]
"""One turn of a contender: how many seconds each of its attempts took."""


@attrs.frozen
class Contender:
    """
    Somebody in a race.

    Attributes:
        name: What it is called in tables.

        turn: Does it, and says how long it took.
    """

    name: str
    turn: Turn


@attrs.frozen
class Stats:
    """
    What came of many attempts, in seconds; never a mean.

    Attributes:
        count: Attempts.

        best: The shortest.

        p25: A quarter was shorter: what a quiet machine would give.

        median: Half was.

        p95: The slow ones.
    """

    count: int
    best: float
    p25: float
    median: float
    p95: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> "Stats":
        """Sum up *samples*."""
        ordered = sorted(samples)
        last = len(ordered) - 1
        return cls(
            count=len(ordered),
            best=ordered[0],
            p25=ordered[round(last * 0.25)],
            median=statistics.median(ordered),
            p95=ordered[round(last * 0.95)],
        )

    def row(self, name: str) -> str:
        """Tell it as a line of a table, in milliseconds."""
        return (
            f"| {name} | {self.best * 1e3:.2f} | {self.p25 * 1e3:.2f} "
            f"| {self.median * 1e3:.2f} | {self.p95 * 1e3:.2f} | {self.count} |"
        )


HEADER = "| | min | p25 | median | p95 | n |\n|---|---|---|---|---|---|"


@attrs.frozen(kw_only=True)
class Bar:
    """
    What is demanded, and what was found.

    Attributes:
        text: The demand in words.

        bound: The number in it.

        measured: What was found, by medians; ``None`` if it could not be.

        lower: The same by the fastest quarter, which noise touches less.

        at_most: Less is better.

        unit: ``x``, ``ms``, ``KiB``.

        note: Why not, or under which circumstances.
    """

    text: str
    bound: float
    measured: float | None
    lower: float | None = None
    at_most: bool = True
    unit: str = "x"
    note: str = ""

    @property
    def reached(self) -> bool | None:
        """
        Whether the demand is met; ``None`` if nobody knows.

        By medians and by the fastest quarters: on a busy machine either can flatter.
        """
        if self.measured is None:
            return None
        found = (self.measured, self.measured if self.lower is None else self.lower)
        return max(found) <= self.bound if self.at_most else min(found) >= self.bound

    def row(self) -> str:
        """Tell it as a line of a table."""
        sign = "≤" if self.at_most else "≥"
        verdict = {True: "yes", False: "**no**", None: "absent"}[self.reached]
        found = "-" if self.measured is None else f"{self.measured:.2f} {self.unit}"
        quarter = "" if self.lower is None else f" ({self.lower:.2f})"
        return (
            f"| {self.text} | {sign} {self.bound:g} {self.unit} "
            f"| {found}{quarter} | {verdict} | {self.note} |"
        )


BAR_HEADER = (
    "| question | bar | measured, by medians (by fastest quarters) | reached | note |\n"
    "|---|---|---|---|---|"
)


def timed(action: Callable[[], object], attempts: int = 1) -> Turn:
    """Make a turn of *action*, done *attempts* times in a row."""

    def turn() -> list[float]:
        found = []
        for _ in range(attempts):
            began = time.perf_counter()
            action()
            found.append(time.perf_counter() - began)
        return found

    return turn


def rounds(
    contenders: Sequence[Contender], count: int, *, warm: int = 2
) -> dict[str, list[float]]:
    """
    Let everybody have a turn in each of *count* rounds.

    Args:
        contenders: Who takes part.

        count: Rounds that count.

        warm: Rounds before them that do not.
    """
    draw = random.Random(20)  # noqa: S311  # an order, not a secret
    found: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for number in range(-warm, count):
        order = list(contenders)
        draw.shuffle(order)
        for contender in order:
            samples = contender.turn()
            if number >= 0:
                found[contender.name] += samples
    return found


def ratio(found: dict[str, list[float]], name: str, base: str) -> tuple[float, float]:
    """Divide *name* by *base*: by medians, and by fastest quarters."""
    a, b = Stats.of(found[name]), Stats.of(found[base])
    return a.median / b.median, a.p25 / b.p25
