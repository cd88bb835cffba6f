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
from benchmarks.measure import Bar
from benchmarks.question import Answer, Options, settle
from benchmarks.stage import NOOP, Stage

__all__ = ["ask"]

_THREADS = 4


def _rate(action: Callable[[], object], seconds: float) -> float:
    """How often *action* is done per second by all threads together."""
    counts = [0] * _THREADS
    gate = threading.Barrier(_THREADS + 1)
    end = [0.0]

    def work(number: int) -> None:
        gate.wait()
        while time.monotonic() < end[0]:
            action()
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(n,)) for n in range(_THREADS)]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    end[0] = began + seconds
    gate.wait()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.monotonic() - began)


def ask(stage: Stage, options: Options) -> Answer:
    """Count."""
    image = jb.Image.from_dir(stage.root)
    plain = [str(stage.noop)]
    actions: dict[str, Callable[[], object]] = {
        "plain": lambda: subprocess.run(plain, capture_output=True, check=True),
        "jailbox, network=host": lambda: jb.run(image, list(NOOP), network="host"),
        "jailbox": lambda: jb.run(image, list(NOOP)),
    }
    seconds = 0.5 if options.quick else 2.0
    rates: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(1 if options.quick else 5):
        for name, action in actions.items():
            rates[name].append(_rate(action, seconds))
            settle()
    found = {name: statistics.median(values) for name, values in rates.items()}
    base = found["plain"]
    return Answer(
        bars=(
            Bar(
                text="starts per second of 4 threads, network=host, of plain spawns",
                bound=40,
                measured=100 * found["jailbox, network=host"] / base,
                at_most=False,
                unit="%",
            ),
            Bar(
                text="the same with a network of their own",
                bound=25,
                measured=100 * found["jailbox"] / base,
                at_most=False,
                unit="%",
            ),
        ),
        facts={f"{name}: per second": round(rate, 1) for name, rate in found.items()},
    )
