"""
Kill hosts at random moments, and start jails in a row; count what is left.

    python tests/reliability/soak.py --kills 500 --starts 2000

Exits with 1 if anything is left. Not part of the test suite, which does a few dozen of
the same: this takes minutes.
"""

import argparse
import gc
import os
import random
import resource
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

CHILD = """
import os, sys, threading
import jailbox as jb
H = jb.Image.host()
jb.run(H, ["true"])
print("up", flush=True)
def again():
    n = 0
    while True:
        n += 1
        if n % 3 == 0:
            with jb.Container(H, memory="64M") as c:
                c.exec(["true"])
                script = "trap '' TERM HUP; setsid sleep 1000 & sleep 1000"
                p = c.popen(["sh", "-c", script])
        elif n % 3 == 1:
            jb.run(H, ["sh", "-c", "(setsid sleep 0.01 &) ; echo x"], memory="64M")
        else:
            jb.run(H, ["sleep", "0.002"])
for _ in range(2):
    threading.Thread(target=again, daemon=True).start()
again()
"""

PATIENCE = 1.0
SLOW = 0.3  # seconds after which it is told what the kernel is busy with
RUN = Path("/run/jailbox")


def processes_of(host: int) -> list[str]:
    """
    Name the processes that belong to jails of *host*: those in its control groups,
    and its keeper.
    """
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            groups = Path(f"/proc/{entry}/cgroup").read_text(encoding="utf-8")
            state = Path(f"/proc/{entry}/stat").read_text(encoding="utf-8")
        except OSError:
            continue
        if f"/jailbox/{host}-" in groups and state.rpartition(") ")[2][0] not in "ZX":
            found.append(f"{entry} {state.split('(')[1].split(')')[0]}")
    return found


def waiting(host: int) -> list[str]:
    """Say where in the kernel the keeper of *host* and its children stand."""
    said: dict[int, tuple[int, str]] = {}
    keepers = set()
    for entry in os.listdir("/proc"):
        place = Path("/proc", entry)
        try:
            pid = int(entry)
            name, _, rest = (
                (place / "stat").read_text(encoding="utf-8").rpartition(") ")
            )
            state, parent = rest.split()[:2]
            lock = place / "fd/5"
            if lock.is_symlink() and f"/{host}-" in os.readlink(lock):
                keepers.add(pid)
            # For root alone; of the others it is as good as nowhere.
            stack = (place / "stack").read_text(encoding="utf-8").split()[1:32:2]
        except (OSError, ValueError):
            continue
        said[pid] = (int(parent), f"{name}) {state} {' '.join(stack)}")
    return [
        text
        for pid, (parent, text) in said.items()
        if pid in keepers or parent in keepers
    ]


def files_of(host: int) -> list[str]:
    """Name what is on disk for *host*: control groups and the keeper's file."""
    found = [str(p) for p in RUN.glob(f"{host}-*")]
    for base in Path("/sys/fs/cgroup").glob("*/jailbox"):
        found += [str(p) for p in base.glob(f"{host}-*")]
    found += [str(p) for p in Path("/sys/fs/cgroup/jailbox").glob(f"{host}-*")]
    return found


def kill_once(delay: float) -> tuple[float, list[str], list[str]]:
    """
    Start a host that starts jails, kill it after *delay*.

    Returns:
        Seconds until no process was alive, those that were after `PATIENCE`, and what
        was on disk then.
    """
    host = subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE)
    assert host.stdout is not None
    host.stdout.readline()
    time.sleep(delay)
    host.kill()
    host.wait()
    host.stdout.close()
    began = time.monotonic()
    told = False
    while True:
        # What was there at that moment: the look itself takes time on a busy machine.
        took = time.monotonic() - began
        alive, left = processes_of(host.pid), files_of(host.pid)
        if not (alive or left) or took > PATIENCE:
            return took, alive, left
        if took > SLOW and not told:
            told = True
            print("slow:", alive, left, waiting(host.pid), file=sys.stderr)  # noqa: T201
        time.sleep(0.005)


def kills(count: int, seed: int = 1) -> int:
    """Kill *count* hosts; how many of them left something."""
    dice = random.Random(seed)  # noqa: S311  # no secret
    times, bad = [], 0
    for _ in range(count):
        took, alive, left = kill_once(dice.uniform(0, 0.2))
        times.append(took)
        if alive or left:
            bad += 1
            print("left:", alive, left, file=sys.stderr)  # noqa: T201
    times.sort()
    print(  # noqa: T201  # it is a program
        f"{count} kills: {bad} left something; clean after"
        f" {statistics.median(times) * 1e3:.0f} ms (median),"
        f" {times[-1] * 1e3:.0f} ms (longest)"
    )
    return bad


def resident() -> int:
    """Bytes of memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def starts(count: int) -> int:
    """Start *count* jails in a row; 1 if anything grew."""
    import jailbox as jb

    host = jb.Image.host()

    def cycle(number: int) -> None:
        for _ in range(number):
            assert jb.run(host, ["true"], memory="64M").ok

    cycle(200)
    gc.collect()
    descriptors, memory = len(os.listdir("/proc/self/fd")), resident()
    began = time.monotonic()
    cycle(count)
    took = time.monotonic() - began
    gc.collect()
    grown = resident() - memory
    more = len(os.listdir("/proc/self/fd")) - descriptors
    jails = sum("run-" in p for p in processes_of(os.getpid()))
    print(  # noqa: T201  # it is a program
        f"{count} starts: {took / count * 1e3:.2f} ms each; {more} descriptors,"
        f" {grown / count:.0f} bytes each of memory, {jails} processes more"
    )
    return int(more != 0 or grown > 1024 * count or jails != 0)


def main() -> int:
    """Run both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--starts", type=int, default=2000)
    options = parser.parse_args()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    return int(bool(kills(options.kills) + starts(options.starts)))


if __name__ == "__main__":
    sys.exit(main())
