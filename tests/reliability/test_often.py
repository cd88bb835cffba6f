"""
What has to be right every time, a few dozen times: the rest of it is `often`.
"""

import pytest

from tests.reliability.often import why_not, wrong_in

pytestmark = [pytest.mark.userns, pytest.mark.slow]


class TestOften:
    def test_every_status(self) -> None:
        """
        However the host treats SIGCHLD, and beside its own children of whatever kind,
        all statuses are right, theirs too (LIF11).
        """
        wrong = wrong_in("statuses", 8)

        assert len(wrong) == 9
        assert {case: number for case, number in wrong.items() if number} == {}

    def test_every_byte(self) -> None:
        """
        Programs that say nothing and programs that say much and end at once have their
        exit code and every byte (CTR-09, C10).
        """
        assert wrong_in("bursts", 3) == {"true": 0, "bursts": 0}

    @pytest.mark.root
    def test_every_number(self) -> None:
        """
        Where process numbers are used again at once, no signal to a program that has
        ended reaches another one, and statuses are right (LIF17).
        """
        if reason := why_not():
            pytest.skip(reason)
        assert wrong_in("reuse", 120) == {
            "statuses": 0,
            "strangers hit": 0,
            "never used again": 0,
        }
