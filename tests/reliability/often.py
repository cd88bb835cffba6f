"""
What has to be right every time, a thousand times.

    python -m tests.reliability.often --count 1000

Exits with 1 if anything was wrong once. Not part of the test suite, which does a few
dozen of the same.
"""

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jailbox as jb

HOST = jb.Image.host()
PROJECT = Path(__file__).parent.parent.parent
BURST = 10_000_000
PIDS = 310


# --- every status (LIF11) -----------------------------------------------------


def _reap(*_: object) -> None:
    """Take every child that has ended, as some hosts do."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0] > 0:
            pass


@contextlib.contextmanager
def sigchld(way: str) -> Iterator[None]:
    """Treat SIGCHLD in a *way* for a while."""
    ways: dict[str, object] = {"ignored": signal.SIG_IGN, "reaping": _reap}
    handler = ways.get(way, signal.SIG_DFL)
    before = signal.signal(signal.SIGCHLD, handler)  # type: ignore[arg-type]
    if way == "blocked":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        signal.signal(signal.SIGCHLD, before)


def wrong_runs(count: int) -> int:
    """Run *count* programs; how many had another exit code than they should."""
    return sum(
        jb.run(HOST, ["sh", "-c", f"exit {n % 256}"]).exit_code != n % 256
        for n in range(count)
    )


def _wrong_subprocesses(count: int) -> int:
    return sum(
        subprocess.run(["sh", "-c", f"exit {n % 256}"], check=False).returncode
        != n % 256
        for n in range(count)
    )


def _wrong_in_a_loop(count: int) -> int:
    async def all_of_them() -> int:
        wrong = 0
        for n in range(count):
            script = f"exit {n % 256}"
            program = await asyncio.create_subprocess_exec("sh", "-c", script)
            wrong += await program.wait() != n % 256
        return wrong

    return asyncio.run(all_of_them())


def _wrong_processes(count: int) -> int:
    wrong = 0
    spawn = multiprocessing.get_context("forkserver")
    for n in range(count):
        process = spawn.Process(target=os._exit, args=(n % 256,))
        process.start()
        process.join()
        wrong += process.exitcode != n % 256
    return wrong


NEIGHBORS: dict[str, Callable[[int], int]] = {
    "subprocess": _wrong_subprocesses,
    "asyncio": _wrong_in_a_loop,
    "multiprocessing": _wrong_processes,
}


def statuses(count: int) -> dict[str, int]:
    """
    Run programs however the host treats SIGCHLD, and beside its other children.

    Returns:
        How many statuses were wrong, by case.
    """
    wrong = {}
    for way in ("ignored", "blocked", "reaping"):
        with sigchld(way):
            wrong[way] = wrong_runs(count)
    for name, work in NEIGHBORS.items():
        theirs: list[int] = []

        def beside(work: Callable[[int], int] = work, to: list[int] = theirs) -> None:
            to.append(work(count))

        thread = threading.Thread(target=beside)
        thread.start()
        wrong[f"beside {name}"] = wrong_runs(count)
        thread.join()
        # A neighbor that came to no result was wrong every time.
        wrong[name] = sum(theirs) if theirs else count
    return wrong


# --- every byte (CTR-09) ------------------------------------------------------


def bursts(count: int) -> dict[str, int]:
    """Run programs that say nothing, and others that say much and end at once."""
    silent = loud = 0
    burst = ["head", "-c", str(BURST), "/dev/zero"]
    for _ in range(count):
        result = jb.run(HOST, ["true"])
        silent += (result.exit_code, result.stdout) != (0, "")
        much = jb.run(HOST, burst, text=False)
        loud += (much.exit_code, len(much.stdout)) != (0, BURST)
    return {"true": silent, "bursts": loud}


# --- every number (LIF17) -----------------------------------------------------


def why_not() -> str | None:
    """Why there can be no small range of process numbers here, or ``None``."""
    if os.geteuid() != 0:
        return "only root can bound process numbers"
    major, minor = platform.release().split(".")[:2]
    if (int(major), int(minor)) < (6, 14):
        # There the bound would be that of the whole machine.
        return "before Linux 6.14 a process namespace has no pid_max of its own"
    return None


def reuse(count: int) -> dict[str, int]:
    """
    Keep handles of programs that have ended, and use them when others have their
    numbers. To be called in a process namespace of its own.

    Returns:
        How many statuses were wrong, how many programs of the host were hit, and
        whether the numbers did not even go around.
    """
    Path("/proc/sys/kernel/pid_max").write_text(str(PIDS), encoding="ascii")
    wrong = hit = around = highest = 0
    handles: list[jb.Process[str]] = []
    with jb.Container(HOST) as container:
        for n in range(count):
            stranger = subprocess.Popen(["sleep", "1000"])
            around += stranger.pid < highest
            highest = stranger.pid
            program = container.popen(["sh", "-c", f"exit {n % 256}"])
            wrong += program.wait() != n % 256
            wrong += jb.run(HOST, ["sh", "-c", f"exit {n % 7}"]).exit_code != n % 7
            handles.append(program)
            for old in handles[-PIDS:]:
                with contextlib.suppress(jb.JailboxError, ProcessLookupError):
                    old.kill()
            hit += stranger.poll() is not None
            stranger.kill()
            stranger.wait()
    once = int(around == 0)
    return {"statuses": wrong, "strangers hit": hit, "never used again": once}


# --- the command --------------------------------------------------------------

PARTS: dict[str, Callable[[int], dict[str, int]]] = {
    "statuses": statuses,
    "bursts": bursts,
    "reuse": reuse,
}
ALONE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


def wrong_in(part: str, count: int) -> dict[str, int]:
    """Do one part in a process of its own; how often each case was wrong."""
    words = [sys.executable, "-m", "tests.reliability.often", "--part", part]
    done = subprocess.run(
        [*(ALONE if part == "reuse" else ()), *words, "--count", str(count)],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        check=True,
    )
    wrong: dict[str, int] = json.loads(done.stdout)
    return wrong


def main() -> int:
    """Do all of it, or one part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part is not None:
        print(json.dumps(PARTS[options.part](options.count)))  # noqa: T201
        return 0
    bad = 0
    for part in PARTS:
        if part == "reuse" and (reason := why_not()):
            print(f"reuse: not tried: {reason}")  # noqa: T201  # it is a program
            continue
        began = time.monotonic()
        wrong = wrong_in(part, options.count)
        took = time.monotonic() - began
        bad += sum(wrong.values())
        print(  # noqa: T201
            f"{part}, {options.count} each in {took:.0f} s; wrong: {wrong}", flush=True
        )
    return int(bad != 0)


if __name__ == "__main__":
    sys.exit(main())
