"""
The helper reads records that are damaged, and does nothing wrong with its memory.
"""

from pathlib import Path

import pytest

from tests.native.damage import HELPER, compile_reader, read_damaged

pytestmark = pytest.mark.slow


class TestDamage:
    @pytest.mark.parametrize("seed", [1, 5000])
    def test_a_damaged_record_breaks_nothing(
        self, seed: int, shared_place: Path, tmp_path: Path
    ) -> None:
        """
        Keepers, inits, monitors and workers are told things that no library says, on a
        kernel that refuses what it likes: whatever they read lies in what was sent, and
        whatever they write in memory of their own.
        """
        program = shared_place / "damage"
        if not program.exists():
            compile_reader(program)

        assert read_damaged(program, tmp_path, seed, 700) == ""

    def test_all_of_the_helper_takes_part(self) -> None:
        """
        What is compiled with sanitizers is what the build makes the helper of, but for
        its first instructions and what stands in for the C library.
        """
        import runpy

        built = runpy.run_path("src/jailbox/_native/build.py")["HELPER_SOURCES"]

        assert sorted(HELPER) == sorted(set(built) - {"helper.c", "freestanding.c"})
