"""
The questions about speed can be asked, and their answers have the shape of a table.

Whether a bar is reached is not a matter of tests: the machine they run on is busy.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.measure import Bar, Contender, Stats, ratio, rounds

PROJECT = Path(__file__).parent.parent


class TestNumbers:
    def test_the_order_of_attempts_does_not_matter(self) -> None:
        """Of a hundred and one attempts, each figure is the one at its place."""
        stats = Stats.of([float(n) for n in reversed(range(101))])

        assert stats == Stats(count=101, best=0, p25=25, median=50, p95=95)

    def test_everybody_has_a_turn_in_every_round(self) -> None:
        """Turns of the first rounds are taken and do not count."""
        taken: list[str] = []

        def of(name: str) -> Contender:
            def turn() -> list[float]:
                taken.append(name)
                return [1.0]

            return Contender(name, turn)

        found = rounds([of("a"), of("b")], 5, warm=2)

        assert found == {"a": [1.0] * 5, "b": [1.0] * 5}
        assert [taken.count(name) for name in "ab"] == [7, 7]
        pairs = [set(taken[at : at + 2]) for at in range(0, 14, 2)]
        assert pairs == [{"a", "b"}] * 7

    def test_a_ratio_is_of_medians_and_of_quarters(self) -> None:
        """One slow attempt changes neither."""
        found = {"slow": [2.0, 2.0, 2.0, 90.0], "fast": [1.0, 1.0, 1.0, 1.0]}

        assert ratio(found, "slow", "fast") == (2.0, 2.0)

    @pytest.mark.parametrize(
        ("at_most", "measured", "reached"),
        [
            (True, 1.2, True),
            (True, 1.3, False),
            (False, 1.2, False),
            (False, 1.3, True),
            (True, None, None),
        ],
    )
    def test_a_bar_is_reached_from_its_own_side(
        self, *, at_most: bool, measured: float | None, reached: bool | None
    ) -> None:
        """What could not be measured is neither reached nor missed."""
        bar = Bar(text="x", bound=1.25, measured=measured, at_most=at_most)

        assert bar.reached is reached

    def test_a_bar_is_only_reached_by_both_figures(self) -> None:
        """A good median with a bad fastest quarter is noise that flatters."""
        flattered = Bar(text="x", bound=1.25, measured=0.7, lower=1.36)

        assert flattered.reached is False


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
@pytest.mark.parametrize("name", ["start", "executing", "importing", "memory"])
def test_a_question_is_answered(name: str, tmp_path: Path) -> None:
    """Asked in a hurry, a question still gives every figure, and leaves a file."""
    command = [sys.executable, "-m", "benchmarks", "--quick", "--rounds", "3"]
    subprocess.run(
        [*command, "--only", name, "--results", str(tmp_path)],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=True,
        capture_output=True,
        timeout=120,
    )

    (file,) = tmp_path.iterdir()
    answer = json.loads(file.read_text())["answers"][name]
    assert answer["bars"]
    assert all(bar["bound"] > 0 for bar in answer["bars"])
