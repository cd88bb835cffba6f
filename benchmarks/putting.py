"""
How fast does a tree of small files get into a container?

`Container.put` of 10,000 files of one KiB in a hundred directories against ``cp -r`` of
the same tree to another tmpfs.

Answer: see ``docs/explanation/speed.md``.
"""

import itertools
import shutil
import subprocess
import tempfile
from pathlib import Path

import jailbox as jb
from benchmarks.measure import Bar, Contender, ratio, rounds, timed
from benchmarks.question import Answer, Options
from benchmarks.stage import Stage

__all__ = ["ask"]

_FILES = 10_000
_DIRECTORIES = 100


def ask(stage: Stage, options: Options) -> Answer:
    """Copy it."""
    memory = Path(tempfile.mkdtemp(prefix="jailbox-bench-", dir="/dev/shm"))
    source = memory / "source"
    for number in range(_FILES):
        directory = source / str(number % _DIRECTORIES)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / str(number)).write_bytes(b"x" * 1024)
    numbers = itertools.count()
    image = jb.Image.from_dir(stage.root)

    def ours() -> list[float]:
        with jb.Container(image) as container:
            return list(timed(lambda: container.put(str(source), "/copy"))())

    def copy() -> list[float]:
        target = memory / f"copy-{next(numbers)}"
        command = ["cp", "-r", str(source), str(target)]
        found = list(timed(lambda: subprocess.run(command, check=True))())
        shutil.rmtree(target)
        return found

    try:
        found = rounds(
            [Contender("Container.put", ours), Contender("cp -r", copy)],
            options.some(0.1, 2),
            warm=1,
        )
    finally:
        shutil.rmtree(memory)
    medians, quarters = ratio(found, "Container.put", "cp -r")
    return Answer(
        bars=(
            Bar(
                text="put of 10,000 small files against cp -r",
                bound=1.5,
                measured=medians,
                lower=quarters,
            ),
        ),
        samples=found,
    )
