"""
What does an idle container cost in memory?

Fifty containers whose program sleeps: the proportional set size of every process of
ours (keeper and inits, not the programs), divided by fifty.

Answer: see ``docs/explanation/speed.md``.
"""

import contextlib
import os
from pathlib import Path

import jailbox as jb
from benchmarks.measure import Bar
from benchmarks.question import Answer, Options, settle
from benchmarks.stage import WAIT, Stage
from jailbox.engine.choose import default_engine
from jailbox.engine.local import LocalEngine

__all__ = ["ask"]

_COUNT = 50


def _keeper() -> int:
    """The process that the inits are children of."""
    engine = default_engine()
    assert isinstance(engine, LocalEngine)
    text = Path(f"/proc/self/fdinfo/{engine.keeper().pidfd}").read_text("ascii")
    (pid,) = (line.split()[1] for line in text.splitlines() if line.startswith("Pid:"))
    return int(pid)


def _parents() -> dict[int, int]:
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{entry}/stat").read_text("utf-8")
                found[int(entry)] = int(text.rpartition(")")[2].split()[1])
    return found


def _pss(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def ask(stage: Stage, options: Options) -> Answer:
    """Weigh them."""
    image = jb.Image.from_dir(stage.root)
    with contextlib.ExitStack() as stack:
        for _ in range(_COUNT):
            stack.enter_context(jb.Container(image, list(WAIT)))
        settle(1)
        parents = _parents()
        keeper = _keeper()
        inits = [pid for pid, parent in parents.items() if parent == keeper]
        programs = [pid for pid, parent in parents.items() if parent in set(inits)]
        own = _pss(keeper)
        total = own + sum(_pss(pid) for pid in inits)
    return Answer(
        bars=(
            Bar(
                text="memory of one idle container beyond its program (PSS)",
                bound=64,
                measured=total / _COUNT,
                unit="KiB",
            ),
            Bar(
                text="processes of ours per container beside its program",
                bound=1,
                measured=len(inits) / _COUNT,
                unit="",
                note="its init; one keeper for all",
            ),
        ),
        facts={
            "inits": len(inits),
            "programs": len(programs),
            "keeper KiB": own,
            "inits KiB": total - own,
        },
    )
