"""
How long does ``import jailbox`` take?

In fresh interpreters, by the interpreter's own account (``-X importtime``).

Answer: see ``docs/explanation/speed.md``.
"""

import subprocess
import sys

from benchmarks.measure import Bar, Contender, Stats, rounds, timed
from benchmarks.question import Answer, Options
from benchmarks.stage import Stage

__all__ = ["ask"]


def _import_time() -> list[float]:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import jailbox"],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(filter(None, sys.path))},
    )
    for line in done.stderr.splitlines():
        _, total, name = line.split("|")
        if name.strip() == "jailbox":
            return [int(total) / 1e6]
    raise RuntimeError("jailbox was not imported")


def ask(stage: Stage, options: Options) -> Answer:
    """Import it again and again."""
    empty = [sys.executable, "-c", "pass"]
    found = rounds(
        [
            Contender("import jailbox", _import_time),
            Contender(
                "an interpreter that does nothing",
                timed(lambda: subprocess.run(empty, check=True)),
            ),
        ],
        options.some(0.3, 5),
    )
    stats = Stats.of(found["import jailbox"])
    return Answer(
        bars=(
            Bar(
                text="import jailbox",
                bound=60,
                measured=stats.median * 1e3,
                lower=stats.p25 * 1e3,
                unit="ms",
            ),
        ),
        samples=found,
    )
