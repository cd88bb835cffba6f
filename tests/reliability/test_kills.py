"""
Hosts that are killed at random moments leave nothing: a few dozen of `soak`.
"""

import os
import random

import pytest

from tests.reliability.soak import files_of, kill_once

pytestmark = [pytest.mark.userns, pytest.mark.slow]


class TestKills:
    @pytest.mark.parametrize("seed", range(16))
    def test_nothing_survives_a_kill(self, seed: int) -> None:
        """
        A host that is killed in the middle of starts, runs and execs leaves no process
        and nothing on disk within a second (CLN-01, CLN-05, LIF1, LIF2, LIF4).
        """
        delay = random.Random(seed).uniform(0, 0.2)  # noqa: S311  # no secret
        _, alive, left = kill_once(delay)

        assert (alive, left) == ([], [])

    def test_the_count_looks_at_the_right_places(self) -> None:
        """
        While a host lives, its keeper's file and groups are seen.
        """
        assert files_of(os.getpid()) != []
