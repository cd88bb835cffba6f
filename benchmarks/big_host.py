"""
Does a start cost more when the host is large, or busy with others?

The same start from a Python process that holds 2 GiB of touched memory, and on a
machine with 4,000 more processes that sleep, against the small quiet case; and what
`os.fork` and `execve` alone would cost in the large one.

Answer: see ``docs/explanation/speed.md``.
"""

from benchmarks.measure import Bar, Contender, ratio, rounds
from benchmarks.question import Answer, Options, settle
from benchmarks.stage import NOOP, WAIT, Stage
from benchmarks.worker import Worker

__all__ = ["ask"]

_LARGE = 2 << 30
_CROWD = 4000


def ask(stage: Stage, options: Options) -> Answer:
    """Time starts from a small and a large process, and in a crowd."""
    argv = [str(stage.root), *NOOP]
    noop = str(stage.noop)
    with Worker() as small, Worker(touch=_LARGE) as large:
        found = rounds(
            [
                Contender("small host", small.turn("jail", argv)),
                Contender("2 GiB host", large.turn("jail", argv)),
            ],
            options.rounds,
        )
        forks = rounds(
            [
                Contender("fork and exec, small host", small.turn("fork", [noop])),
                Contender("fork and exec, 2 GiB host", large.turn("fork", [noop])),
            ],
            options.some(0.1),
        )
    crowded: dict[str, list[float]] = {"alone": [], "4,000 idle processes": []}
    with Worker() as small, Worker() as crowd:
        turn = small.turn("jail", argv)
        for _ in range(1 if options.quick else 3):
            for name in crowded:
                if name != "alone":
                    crowd.ask("gather", [str(_CROWD), noop, *WAIT[1:]])
                settle(1)
                part = rounds([Contender(name, turn)], options.some(0.4))
                crowded[name] += part[name]
                if name != "alone":
                    crowd.ask("leave", [])
                    settle(1)
    samples = found | forks | crowded
    bars = []
    for text, who, base in (
        ("start in a host process with 2 GiB", "2 GiB host", "small host"),
        ("start beside 4,000 idle processes", "4,000 idle processes", "alone"),
    ):
        medians, quarters = ratio(samples, who, base)
        bars.append(Bar(text=text, bound=1.2, measured=medians, lower=quarters))
    return Answer(bars=tuple(bars), samples=samples)
