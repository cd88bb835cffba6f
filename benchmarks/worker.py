"""
A process that times things when it is told to: ``python -m benchmarks.worker``.

Some parents cannot be this one: one with 2 GiB of memory, one that sees other mounts.
It reads a line of JSON and answers with one. `Worker` is this side of it.
"""

import argparse
import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.measure import Turn, timed

__all__ = ["Worker", "unified_mount"]


def unified_mount() -> str | None:
    """Where the second version of control groups is, beside the first one."""
    mounts = Path("/proc/self/mountinfo").read_text("utf-8").splitlines()
    first = any(" - cgroup " in line for line in mounts)
    places = [line.split()[4] for line in mounts if " - cgroup2 " in line]
    return places[0] if first and places else None


class Worker:
    """
    A timing process.

    Args:
        touch: Bytes of memory that it holds, every page written to.

        hide_unified: It has mounts of its own, without that of the second version of
            control groups: crun refuses a machine that has both.
    """

    def __init__(self, *, touch: int = 0, hide_unified: bool = False) -> None:
        command = [sys.executable, "-m", "benchmarks.worker", "--touch", str(touch)]
        if hide_unified and unified_mount() is not None:
            script = f'umount {unified_mount()} && exec "$@"'
            command = ["unshare", "-m", "sh", "-c", script, "sh", *command]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )
        self.ask("ping", [])

    def ask(self, verb: str, argv: Sequence[str], attempts: int = 1) -> list[float]:
        """Have something done, and say how long each attempt took."""
        talk_in, talk_out = self._process.stdin, self._process.stdout
        if talk_in is None or talk_out is None:
            raise RuntimeError("the worker has no pipes")
        talk_in.write(json.dumps([verb, list(argv), attempts]) + "\n")
        talk_in.flush()
        line = talk_out.readline()
        if not line:
            raise RuntimeError(f"the worker ended at {verb} {argv}")
        found: list[float] = json.loads(line)
        return found

    def turn(self, verb: str, argv: Sequence[str] = (), attempts: int = 1) -> Turn:
        """Make a turn of it."""
        return lambda: self.ask(verb, argv, attempts)

    def close(self) -> None:
        """End it."""
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


# --- the other side -----------------------------------------------------------


def _spawn(argv: Sequence[str]) -> None:
    subprocess.run(argv, capture_output=True, check=True)


def _start(argv: Sequence[str]) -> None:
    """Run what leaves something running: a pipe would wait for its end."""
    null = subprocess.DEVNULL
    subprocess.run(argv, stdin=null, stdout=null, stderr=null, check=True)


def _jail(argv: Sequence[str], network: str = "none") -> None:
    import jailbox

    image = jailbox.Image.from_dir(argv[0])
    mode: Any = network
    jailbox.run(image, list(argv[1:]), network=mode, check=True)


def _fork(argv: Sequence[str]) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            os.execv(argv[0], list(argv))  # forking is what is timed
        finally:
            os._exit(127)
    os.waitpid(pid, 0)


class _Crowd:
    """Processes that only sleep."""

    def __init__(self) -> None:
        self._pids: list[int] = []

    def gather(self, argv: Sequence[str]) -> None:
        count, *command = argv
        for _ in range(int(count)):
            self._pids.append(os.posix_spawn(command[0], command, {}))

    def leave(self, _argv: Sequence[str]) -> None:
        for pid in self._pids:
            os.kill(pid, 9)
        for pid in self._pids:
            os.waitpid(pid, 0)
        self._pids = []


def main() -> None:
    """Answer until nobody asks any more."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--touch", type=int, default=0)
    held = bytearray(parser.parse_args().touch)
    for page in range(0, len(held), 4096):
        held[page] = 1
    crowd = _Crowd()
    verbs: dict[str, Any] = {
        "ping": lambda argv: None,
        "spawn": _spawn,
        "start": _start,
        "jail": _jail,
        "jail-host": lambda argv: _jail(argv, "host"),
        "fork": _fork,
        "gather": crowd.gather,
        "leave": crowd.leave,
        "sleep": lambda argv: time.sleep(float(argv[0])),
    }
    for line in sys.stdin:
        verb, argv, attempts = json.loads(line)
        found = timed(functools.partial(verbs[verb], argv), attempts)()
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
