"""
What the golden files of the default profile must contain.

A change of the default profile shows as a change of these files, for a reviewer to
read: what happens to each call, the program that says so, and its digest. To accept a
change, run ``PYTHONPATH=src python -m tests.linux.seccomp_golden``.
"""

import hashlib
from pathlib import Path

from jailbox.linux import bpf, seccomp
from jailbox.linux.tables import SYSCALLS

FOLDER = Path(__file__).parent / "golden"


def golden_file(arch: str) -> Path:
    """Return where the golden text of an architecture is."""
    return FOLDER / f"seccomp-default-{arch}.txt"


def golden_text(arch: str) -> str:
    """Return what the golden file of an architecture should say."""
    profile = seccomp.default_profile(arch=arch)
    code = seccomp.program(profile)
    return (
        f"{profile.describe()}\n"
        f"program of {bpf.length(code)} instructions\n"
        f"sha256 {hashlib.sha256(code).hexdigest()}\n"
        f"{seccomp.describe_program(profile)}"
    )


if __name__ == "__main__":
    for each in SYSCALLS:
        golden_file(each).write_text(golden_text(each), encoding="utf-8")
