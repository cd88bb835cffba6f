"""
Play the races of the security checks as often as is asked for.

    python tests/security/races.py --rounds 10000

In the test suite each of them takes a second or two. Prints how many rounds each had,
and what came of them; exits with what pytest says.
"""

import argparse
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

RACES = (
    "test_ex.py::test_ex2_nobody_looks_into_who_joins",
    "test_ex.py::TestCopies::test_ex5_out",
    "test_ex.py::TestCopies::test_ex6_in",
    "test_mt.py::TestRaces::test_mt7_mt8_targets",
    "test_mt.py::TestRaces::test_mt17_sources",
)


def main() -> int:
    """Play them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10_000)
    options = parser.parse_args()
    tests = [f"{HERE / race}" for race in RACES]
    return int(pytest.main([*tests, "-q", f"--rounds={options.rounds}"]))


if __name__ == "__main__":
    sys.exit(main())
