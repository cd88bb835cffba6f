"""
How long does it take to have a thousand containers that sleep?

A thousand containers, each with a program that waits, started one after the other;
against ``crun run -d``, one after the other too.

Answer: see ``docs/explanation/speed.md``.
"""

import contextlib
import shutil
import time

import jailbox as jb
from benchmarks.measure import Bar
from benchmarks.peers import bundle, remove_groups, runtime_worker, set_group
from benchmarks.question import Answer, Options
from benchmarks.stage import WAIT, Stage

__all__ = ["ask"]


class _Crun:
    """Containers of crun that sleep."""

    def __init__(self, stage: Stage) -> None:
        self._place = bundle(stage.path / "crun-sleepers", stage.root, WAIT)
        self._worker = runtime_worker("crun")
        self._names: list[str] = []

    def start(self, count: int) -> float:
        """Start some more; the seconds that it took."""
        taken = 0.0
        for _ in range(count):
            name = f"sleeper-{len(self._names)}"
            set_group(self._place, f"/jailbox/peer-{name}")
            self._names.append(name)
            command = ["crun", "run", "-d", "-b", str(self._place), name]
            taken += self._worker.ask("start", command)[0]
        return taken

    def close(self) -> None:
        """Delete them all."""
        for name in self._names:
            with contextlib.suppress(RuntimeError):
                self._worker.ask("start", ["crun", "delete", "-f", name])
        self._worker.close()
        remove_groups()


def ask(stage: Stage, options: Options) -> Answer:
    """Make them, in turns of a fifth, for the machine's moods are longer than one."""
    count = 100 if options.quick else 1000
    image = jb.Image.from_dir(stage.root)
    facts: dict[str, float | str] = {"containers": count, "docker": "absent"}
    made, theirs, gone = 0.0, 0.0, 0.0
    crun = None
    if shutil.which("crun") is None:
        facts["crun"] = "absent: not installed"
    else:
        crun = _Crun(stage)
    try:
        with contextlib.ExitStack() as stack:
            for _ in range(5):
                began = time.monotonic()
                for _ in range(count // 5):
                    stack.enter_context(jb.Container(image, list(WAIT)))
                made += time.monotonic() - began
                if crun is not None:
                    theirs += crun.start(count // 5)
            gone = time.monotonic()
        gone = time.monotonic() - gone
    except RuntimeError as error:
        facts["crun"] = f"absent: it does not start here ({error})"
        theirs = 0.0
    finally:
        if crun is not None:
            crun.close()
    facts["jailbox: seconds until all run"] = round(made, 2)
    facts["jailbox: seconds until all are gone"] = round(gone, 2)
    if theirs:
        facts["crun: seconds until all run"] = round(theirs, 2)
    return Answer(
        bars=(
            Bar(
                text=f"{count:,} sleeping containers, faster than crun (1 worker)",
                bound=4,
                measured=theirs / made if theirs else None,
                at_most=False,
                note=str(facts.get("crun", "")),
            ),
            Bar(
                text="the same, faster than docker (4 workers)",
                bound=30,
                measured=None,
                at_most=False,
                note="absent",
            ),
        ),
        facts=facts,
    )
