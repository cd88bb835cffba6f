"""
The numbers of calls, as far as they can be known without the kernel's sources.

That they are what the headers say is checked by ``tools/tables.py --check``.
"""

import pytest

from jailbox.linux.tables import AUDIT_ARCH, SYSCALLS, WIDTHS


class TestTables:
    """The numbers, as far as they can be known without the kernel's sources."""

    @pytest.mark.parametrize(
        ("name", "numbers"),
        [
            ("read", {"x86_64": 0, "aarch64": 63, "riscv64": 63}),
            ("execve", {"x86_64": 59, "aarch64": 221, "riscv64": 221}),
            ("fstat", {"x86_64": 5, "aarch64": 80, "riscv64": 80}),
            ("socket", {"x86_64": 41, "aarch64": 198, "riscv64": 198}),
            ("clone3", {"x86_64": 435, "aarch64": 435, "riscv64": 435}),
            ("memfd_secret", {"x86_64": 447, "aarch64": 447, "riscv64": 447}),
            ("file_setattr", {"x86_64": 469, "aarch64": 469, "riscv64": 469}),
            ("open", {"x86_64": 2}),
            ("renameat", {"x86_64": 264, "aarch64": 38}),
            ("getrlimit", {"x86_64": 97, "aarch64": 163, "riscv64": 163}),
            ("riscv_flush_icache", {"riscv64": 259}),
            ("uretprobe", {"x86_64": 335}),
        ],
    )
    def test_numbers(self, name: str, numbers: dict[str, int]) -> None:
        """Well-known calls have their numbers, and are missing where they are not."""
        found = {arch: table[name] for arch, table in SYSCALLS.items() if name in table}

        assert found == numbers

    @pytest.mark.parametrize("arch", AUDIT_ARCH)
    def test_one_name_a_number(self, arch: str) -> None:
        """No two names share a number, and all are below the last known one."""
        numbers = list(SYSCALLS[arch].values())

        assert len(set(numbers)) == len(numbers)
        assert max(numbers) == 469

    def test_widths(self) -> None:
        """Widths belong to calls, are of at most six arguments, and say something."""
        for name, letters in WIDTHS.items():
            assert any(name in table for table in SYSCALLS.values())
            assert set(letters) <= set("hi.")
            assert len(letters) <= 6
            assert letters[-1] != "."

    @pytest.mark.parametrize(
        ("name", "letters"),
        [
            ("ioctl", "ii"),
            ("socket", "iii"),
            ("clone", "i"),
            ("personality", "i"),
            ("prctl", "i"),
            ("fchmodat", "i.h"),
            ("mmap", "...."),
            ("unshare", "."),
        ],
    )
    def test_widths_that_matter(self, name: str, letters: str) -> None:
        """Arguments that filters look at have the width that the kernel gives them."""
        assert WIDTHS.get(name, "").ljust(6, ".") == letters.ljust(6, ".")
