"""
Where does the time of a start go? ``python -m benchmarks.profile [--perf]``.

Prints three views of `jailbox.run` of a no-op: the steps of the Python side by a
profiler, the system calls of every process with the time spent in them (strace, which
slows everything down: read it for counts and shares), and, where ``perf`` works, the
kernel functions that the cpus were in. It is a lamp, not a measurement.
"""

import argparse
import cProfile
import io
import os
import pstats
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import jailbox as jb
from benchmarks.measure import Stats
from benchmarks.stage import NOOP, Stage, static_busybox

__all__: list[str] = []

_CALL = re.compile(r"^(?P<pid>\d+)\s+(?P<at>\d+\.\d+) (?P<call>\w+)\(")
_SPENT = re.compile(r"<(?P<spent>\d+\.\d+)>$")
_RESUMED = re.compile(r"<\.\.\. (?P<call>\w+) resumed>")


def _starts(image: jb.Image, argv: list[str], count: int) -> list[float]:
    found = []
    for _ in range(count):
        began = time.perf_counter()
        jb.run(image, argv, check=True)
        found.append(time.perf_counter() - began)
    return found


def _python(image: jb.Image, argv: list[str], count: int) -> None:
    profiler = cProfile.Profile()
    profiler.enable()
    _starts(image, argv, count)
    profiler.disable()
    text = io.StringIO()
    stats = pstats.Stats(profiler, stream=text)
    stats.sort_stats("tottime").print_stats(25)
    print(f"\n## Python, {count} starts, by own time\n\n{text.getvalue().strip()}")


def _child(image: str, argv: list[str], count: int) -> list[str]:
    code = (
        "import jailbox as jb, sys\n"
        "image = jb.Image.from_dir(sys.argv[1]) if sys.argv[1] else jb.Image.host()\n"
        "for _ in range(int(sys.argv[2])): jb.run(image, sys.argv[3:], check=True)\n"
    )
    return [sys.executable, "-c", code, image, str(count), *argv]


def _calls(image: str, argv: list[str], count: int) -> None:
    if shutil.which("strace") is None:
        print("\n## System calls: absent, strace is not installed")
        return
    with tempfile.NamedTemporaryFile("r") as trace:
        command = ["strace", "-f", "-ttt", "-T", "-o", trace.name]
        subprocess.run([*command, *_child(image, argv, count)], check=True)
        lines = trace.read().splitlines()
    requests = [n for n, line in enumerate(lines) if "CLONE_NEWPID" in line]
    # From the second last start to the last one: one whole start, everything warm.
    first, last = requests[-2], requests[-1]
    spent: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    roles: dict[str, str] = {}
    for line in lines[first:last]:
        pid = line.split(maxsplit=1)[0]
        role = roles.setdefault(pid, f"process {len(roles) + 1}")
        took = _SPENT.search(line)
        call = _CALL.match(line) or _RESUMED.search(line)
        if took and call:
            spent[role, call["call"]].append(float(took["spent"]) * 1e6)
    print("\n## One start, system calls (microseconds, under strace)\n")
    print("| who | call | calls | total | longest |\n|---|---|---|---|---|")
    most = sorted(spent.items(), key=lambda item: -sum(item[1]))
    for (who, name), times in most[:45]:
        print(
            f"| {who} | {name} | {len(times)} | {sum(times):.0f} | {max(times):.0f} |"
        )
    print(f"\n{sum(map(len, spent.values()))} calls by {len(roles)} processes")


def _perf(image: str, argv: list[str], count: int) -> None:
    if shutil.which("perf") is None:
        print("\n## Kernel: absent, perf is not installed")
        return
    with tempfile.TemporaryDirectory() as directory:
        data = os.path.join(directory, "perf.data")
        record = ["perf", "record", "-q", "-a", "-g", "-o", data, "--"]
        done = subprocess.run(
            [*record, *_child(image, argv, count)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            print(f"\n## Kernel: absent, perf says: {done.stderr.strip()}")
            return
        report = f"perf report -i {data} --stdio --no-children -g none".split()
        text = subprocess.run(
            [*report, "--sort", "comm,symbol", "--percent-limit", "0.7"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    print(f"\n## Kernel and processes, {count} starts, both cpus\n\n{text.strip()}")


def main() -> None:
    """Shine it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile")
    parser.add_argument("--host", action="store_true", help="the host image")
    parser.add_argument("--perf", action="store_true", help="ask perf as well")
    parser.add_argument("--starts", type=int, default=200)
    options = parser.parse_args()
    with Stage() as stage:
        busybox = static_busybox()
        if options.host and busybox is not None:
            image, name, argv = jb.Image.host(), "", [busybox, "true"]
        else:
            image, name = jb.Image.from_dir(stage.root), str(Path(stage.root))
            argv = list(NOOP)
        _starts(image, argv, 20)
        times = Stats.of(_starts(image, argv, options.starts))
        print(f"# {options.starts} starts in a row, milliseconds\n")
        print("| | min | p25 | median | p95 | n |\n|---|---|---|---|---|---|")
        print(times.row("jailbox.run"))
        _python(image, argv, options.starts)
        _calls(name, argv, 8)
        if options.perf:
            _perf(name, argv, options.starts)


if __name__ == "__main__":
    main()
