"""
How many containers a second can four threads start?

Starts per second from four threads, with a network of their own and with the host's,
against plain spawns of the same program from four threads.

Answer: see ``docs/explanation/speed.md``.
"""

import statistics
import subprocess
import threading
import time
from collections.abc import Callable

import jailbox as jb
from benchmarks.floor import Floor
from benchmarks.measure import Bar
from benchmarks.question import Answer, Options, settle
from benchmarks.stage import NOOP, Stage

__all__ = ["ask"]

_THREADS = 4


def _rate(action: Callable[[int], int], seconds: float) -> float:
    """How often a second all threads do it; *action* says how often it did."""
    counts = [0] * _THREADS
    gate = threading.Barrier(_THREADS + 1)
    end = [0.0]

    def work(number: int) -> None:
        gate.wait()
        while time.monotonic() < end[0]:
            counts[number] += action(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(_THREADS)]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    end[0] = began + seconds
    gate.wait()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.monotonic() - began)


def _actions(stage: Stage, floor: Floor) -> dict[str, Callable[[int], int]]:
    image = jb.Image.from_dir(stage.root)
    plain = [str(stage.noop)]

    def spawn(_number: int) -> int:
        subprocess.run(plain, capture_output=True, check=True)
        return 1

    def shared(_number: int) -> int:
        jb.run(image, list(NOOP), network="host")
        return 1

    def private(_number: int) -> int:
        jb.run(image, list(NOOP))
        return 1

    return {
        "plain": spawn,
        "jailbox, network=host": shared,
        "jailbox": private,
        "floor, network=host": lambda n: len(floor.turn(str(n), "cold", "host", 5)()),
        "floor": lambda n: len(floor.turn(str(n), "cold", "none", 5)()),
    }


def ask(stage: Stage, options: Options) -> Answer:
    """Count; four floors in as many processes say what the kernel would allow."""
    names = [str(number) for number in range(_THREADS)]
    image = jb.Image.from_dir(stage.root)
    seconds = 0.5 if options.quick else 2.0
    with Floor(
        stage.path,
        dict.fromkeys(names, image),
        dict.fromkeys(names, NOOP),
        dict.fromkeys(names, str(stage.noop)),
    ) as floor:
        actions = _actions(stage, floor)
        rates: dict[str, list[float]] = {name: [] for name in actions}
        for _ in range(1 if options.quick else 5):
            for name, action in actions.items():
                rates[name].append(_rate(action, seconds))
                settle()
    found = {name: statistics.median(values) for name, values in rates.items()}
    bars = []
    for text, bound, name in (
        ("starts per second of 4 threads, network=host", 40, "network=host"),
        ("the same with a network of their own", 25, ""),
    ):
        ours, least = (
            (f"{who}, {name}" if name else who) for who in ("jailbox", "floor")
        )
        bars.append(
            Bar(
                text=f"{text}, of plain spawns",
                bound=bound,
                measured=100 * found[ours] / found["plain"],
                at_most=False,
                unit="%",
                note=f"four floors: {100 * found[least] / found['plain']:.0f} %",
            )
        )
    return Answer(
        bars=tuple(bars),
        facts={f"{name}: per second": round(rate, 1) for name, rate in found.items()},
    )
