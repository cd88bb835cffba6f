"""
How long does it take to have a thousand containers that sleep?

A thousand containers, each with a program that waits, started one after the other;
against ``crun run -d``, one after the other too.

Answer: see ``docs/explanation/speed.md``.
"""

import contextlib
import shutil
import subprocess
import time

import jailbox as jb
from benchmarks.measure import Bar
from benchmarks.peers import bundle, remove_groups, runtime_worker, set_group
from benchmarks.question import Answer, Options
from benchmarks.stage import WAIT, Stage

__all__ = ["ask"]


def _ours(stage: Stage, count: int) -> tuple[float, float]:
    image = jb.Image.from_dir(stage.root)
    with contextlib.ExitStack() as stack:
        began = time.monotonic()
        for _ in range(count):
            stack.enter_context(jb.Container(image, list(WAIT)))
        made = time.monotonic()
    return made - began, time.monotonic() - made


def _crun(stage: Stage, count: int) -> float:
    place = bundle(stage.path / "crun-sleepers", stage.root, WAIT)
    names = [f"sleeper-{number}" for number in range(count)]
    taken = 0.0
    with runtime_worker("crun") as worker:
        try:
            for name in names:
                set_group(place, f"/jailbox/peer-{name}")
                command = ["crun", "run", "-d", "-b", str(place), name]
                taken += worker.ask("start", command)[0]
        finally:
            for name in names:
                with contextlib.suppress(RuntimeError):
                    worker.ask("start", ["crun", "delete", "-f", name])
    remove_groups()
    return taken


def ask(stage: Stage, options: Options) -> Answer:
    """Make them."""
    count = 100 if options.quick else 1000
    facts: dict[str, float | str] = {}
    made, gone = _ours(stage, count)
    facts["containers"] = count
    facts["jailbox: seconds until all run"] = round(made, 2)
    facts["jailbox: seconds until all are gone"] = round(gone, 2)
    measured = None
    if shutil.which("crun") is None:
        facts["crun"] = "absent: not installed"
    else:
        try:
            theirs = _crun(stage, count)
        except (RuntimeError, subprocess.SubprocessError) as error:
            facts["crun"] = f"absent: it does not start here ({error})"
        else:
            facts["crun: seconds until all run"] = round(theirs, 2)
            measured = theirs / made
    facts["docker"] = "absent"
    return Answer(
        bars=(
            Bar(
                text=f"{count:,} sleeping containers, faster than crun (1 worker)",
                bound=4,
                measured=measured,
                at_most=False,
                note=str(facts.get("crun", "")),
            ),
            Bar(
                text="the same, faster than docker (4 workers)",
                bound=30,
                measured=None,
                at_most=False,
            ),
        ),
        facts=facts,
    )
