"""
The helper reads records that are damaged, and does nothing wrong with its memory.
"""

from pathlib import Path

import pytest

from tests.native.damage import compile_reader, read_damaged

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
