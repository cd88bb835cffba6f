"""
The helper under sanitizers: records that are damaged in every way, on a made-up kernel.

``python -m tests.native.damage [SECONDS [SEED]]`` goes on for that long (60), each time
with other damage, and says how to see again what it found. The suite runs a short
version (``tests/linux/test_damage.py``).
"""

import os
import runpy
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.native.agents import SANITIZERS, compile_c
from tests.native.records import records

RECIPE = Path(__file__).parent.parent.parent / "src/jailbox/_native/build.py"

# Where it begins, and what stands in for the C library, are of no use in a program.
NOT_HOSTED = {"helper.c", "freestanding.c"}

ROUNDS = 2000


def helper_sources() -> list[str]:
    """Return what the build makes the helper of."""
    sources = runpy.run_path(str(RECIPE))["HELPER_SOURCES"]
    return [name for name in sources if name not in NOT_HOSTED]


def compile_reader(program: Path) -> Path:
    """Compile the helper with a kernel that touches nothing (fake_kernel.h)."""
    return compile_c(
        program,
        "test_helper.c",
        [*helper_sources(), "../../../tests/native/fake_kernel.c"],
        *SANITIZERS,
        # Its headers are those of the kernel; the C library is for the test alone.
        "-ffreestanding",
        "-DJB_FAKE_KERNEL",
        "-DJB_FAULTS",
        f"-I{Path(__file__).parent}",
    )


def read_damaged(program: Path, place: Path, seed: int, rounds: int) -> str:
    """Have *rounds* rounds played; return what the sanitizers complain about."""
    paths = []
    for number, record in enumerate(records()):
        paths.append(place / f"record-{number:02}")
        paths[-1].write_bytes(record)
    done = subprocess.run(
        [program, str(seed), str(rounds), *paths],
        capture_output=True,
        text=True,
        check=False,
        errors="replace",
        # What is left at the end of a round was the process of it.
        env={"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"},
    )
    complaint = done.stdout + done.stderr
    if done.returncode != 0 and not complaint:
        return f"ended with {done.returncode}"
    return complaint


def main() -> int:
    """Go on for some time; return how the process ends."""
    words = sys.argv[1:]
    seconds = float(words[0]) if words else 60
    seed = int(words[1]) if len(words) > 1 else int(time.time())
    end = time.monotonic() + seconds
    rounds = 0
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        program = compile_reader(place / "reader")
        while time.monotonic() < end:
            complaint = read_damaged(program, place, seed + rounds, ROUNDS)
            if complaint:
                sys.stderr.write(f"{complaint}\nSeed {seed + rounds}, {ROUNDS}.\n")
                return 1
            rounds += ROUNDS
    sys.stdout.write(f"{rounds} rounds from seed {seed}: nothing{os.linesep}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
