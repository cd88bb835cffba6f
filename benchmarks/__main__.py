"""
Ask everything: ``python -m benchmarks [--quick] [--only NAME] [--rounds N]``.

Run it from the root of the source tree, with jailbox importable. Prints tables, and
writes every sample with the facts of the machine into ``benchmarks/results/``. A bar
that is not reached is said, and is no failure of this program.
"""

import argparse
import importlib
import json
import time
from pathlib import Path

import attrs

from benchmarks.machine import facts
from benchmarks.measure import BAR_HEADER, HEADER, Stats
from benchmarks.question import Answer, Ask, Options, settle
from benchmarks.stage import HERE, Stage

_QUESTIONS = (
    "start", "big_host", "peers", "executing", "throughput", "sleepers", "memory",
    "importing", "putting", "images", "committing",
)  # fmt: skip


def _options() -> tuple[Options, list[str], Path]:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds")
    parser.add_argument("--only", action="append", choices=_QUESTIONS)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--results", type=Path, default=HERE / "results")
    found = parser.parse_args()
    count = found.rounds or (10 if found.quick else 100)
    names = found.only or list(_QUESTIONS)
    return Options(rounds=count, quick=found.quick), names, found.results


def _print(name: str, answer: Answer) -> None:
    print(f"\n## {name}\n\n{BAR_HEADER}")
    for bar in answer.bars:
        print(bar.row())
    if answer.samples:
        print(f"\nMilliseconds:\n\n{HEADER}")
        for contender, samples in answer.samples.items():
            print(Stats.of(samples).row(contender))
    for fact, value in answer.facts.items():
        print(f"- {fact}: {value}")


def _write(path: Path, answers: dict[str, Answer], machine: dict[str, str]) -> None:
    document = {
        "machine": machine,
        "answers": {
            name: {
                "bars": [
                    {**attrs.asdict(bar), "reached": bar.reached} for bar in answer.bars
                ],
                "milliseconds": {
                    who: {
                        key: round(value * 1e3, 3) if key != "count" else value
                        for key, value in attrs.asdict(Stats.of(samples)).items()
                    }
                    for who, samples in answer.samples.items()
                },
                # One line each: read by eye seldom, by programs always.
                "microseconds": {
                    who: " ".join(f"{sample * 1e6:.0f}" for sample in samples)
                    for who, samples in answer.samples.items()
                },
                "facts": answer.facts,
            }
            for name, answer in answers.items()
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")


def main() -> None:
    """Ask, print, write."""
    options, names, results = _options()
    machine = facts()
    for key, value in machine.items():
        print(f"- {key}: {value}")
    answers: dict[str, Answer] = {}
    began = time.strftime("%Y%m%d-%H%M%S")
    path = results / f"{began}-{names[0] if len(names) == 1 else 'all'}.json"
    for name in names:
        ask: Ask = importlib.import_module(f"benchmarks.{name}").ask
        with Stage() as stage:
            answers[name] = ask(stage, options)
        _print(name, answers[name])
        # After every answer: a later question that fails does not lose it.
        _write(path, answers, machine)
        settle()
    print(f"\nwritten to {path}")


main()
