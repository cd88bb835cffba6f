"""
Put the numbers of a run into the page: ``python -m benchmarks.report RESULT.json``.

Replaces what stands between the two markers of ``docs/explanation/speed.md``. The
words around the numbers are written by people.
"""

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.measure import BAR_HEADER, Bar
from benchmarks.stage import HERE

__all__ = ["tables"]

PAGE = HERE.parent / "docs/explanation/speed.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
_KEYS = ("min", "p25", "median", "p95", "n")


def tables(document: dict[str, Any]) -> str:
    """Print a result as Markdown."""
    machine = document["machine"]
    parts = [
        "| machine | |\n|---|---|\n"
        + "\n".join(f"| {key} | {value} |" for key, value in machine.items())
    ]
    rows = []
    details = []
    for name, answer in document["answers"].items():
        rows += [
            Bar(**{k: v for k, v in found.items() if k != "reached"}).row()
            for found in answer["bars"]
        ]
        lines = [
            f"| {who} | {s['best']:.2f} | {s['p25']:.2f} | {s['median']:.2f} "
            f"| {s['p95']:.2f} | {s['count']} |"
            for who, s in answer["milliseconds"].items()
        ]
        details.append(f"### {name}\n")
        if lines:
            head = f"| milliseconds | {' | '.join(_KEYS)} |\n|---|---|---|---|---|---|"
            details.append("\n".join([head, *lines]) + "\n")
        if answer["facts"]:
            facts = [f"- {key}: {value}" for key, value in answer["facts"].items()]
            details.append("\n".join(facts) + "\n")
    parts.append("\n".join([BAR_HEADER, *rows]))
    parts.append("## The times\n\n" + "\n".join(details).rstrip())
    return "\n\n".join(parts)


def main() -> None:
    """Read the result, write the page."""
    document = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    text = PAGE.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(
        f"{before}{BEGIN}\n\n{tables(document)}\n\n{END}{after}", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
