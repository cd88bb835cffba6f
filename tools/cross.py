"""
Compile the C part for the other architectures, and run what can be run of it.

The helper is compiled and linked whole, as it is shipped. Of the extension every C
file of ours is compiled, with warnings as errors; the glue that cffi generates is not,
for there are no headers of a foreign Python. The tests of the file protocol, which
need no Python, then run in a user-mode emulator.

Nothing that is compiled here is kept.
"""

import concurrent.futures
import errno
import os
import runpy
import shlex
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

PROJECT = Path(__file__).parent.parent
BUILD = "src/jailbox/_native/build.py"
TREE_TEST = "tests/native/test_tree.c"

# Seconds that an emulated program may take to answer.
PATIENCE = 60.0

# How a report begins (jailbox.h): message, step, errno.
REPORT = struct.Struct("<Iii")
MESSAGE_REPORT = 16
STEP_RECORD = 2


class Machine(NamedTuple):
    """An architecture, and what it is called in the names of tools."""

    name: str
    triple: str
    qemu: str

    @property
    def compiler(self) -> str:
        """The C compiler that makes code for it."""
        return f"{self.triple}-gcc"


MACHINES = (
    Machine("aarch64", "aarch64-linux-gnu", "qemu-aarch64-static"),
    Machine("riscv64", "riscv64-linux-gnu", "qemu-riscv64-static"),
)


class Job(NamedTuple):
    """One command, and what its success shows."""

    what: str
    command: list[str]


def recipe_of(machine: Machine) -> dict[str, Any]:
    """Return the names of the build recipe, executed as if on *machine*."""
    with mock.patch("platform.machine", return_value=machine.name):
        return runpy.run_path(BUILD)


def jobs(machine: Machine, place: Path) -> Iterator[Job]:
    """Say what is compiled for *machine*."""
    build = recipe_of(machine)
    helper = place / f"helper-{machine.name}"
    version = 'JB_VERSION="0"'
    command = build["helper_command"]([machine.compiler], str(helper), version)
    yield Job("helper", [*command, "-Werror"])
    flags = [*build["EXTENSION_FLAGS"], "-O2", *build["OWN_WARNINGS"], "-Werror"]
    for source in build["in_room"](*build["EXTENSION_SOURCES"]):
        compile_only = ["-fPIC", f"-D{version}", f"-I{build['ROOM']}", "-c"]
        yield Job(
            Path(source).name,
            [machine.compiler, *flags, *compile_only, "-o", os.devnull, source],
        )
    tree = build["in_room"](*build["TREE_SOURCES"], "tree_job.c")
    yield Job(
        "tests",
        [
            *[machine.compiler, "-std=gnu11", "-O1", "-static", "-Werror"],
            *[*build["WARNINGS"], f"-I{build['ROOM']}"],
            *["-o", str(place / f"tree-{machine.name}"), TREE_TEST, *tree],
        ],
    )


def run(machine: Machine, place: Path) -> Iterator[Job]:
    """Say what is run as *machine*; it was compiled before."""
    work = place / f"work-{machine.name}"
    work.mkdir()
    tree = str(place / f"tree-{machine.name}")
    yield Job("tests of files", [machine.qemu, tree, str(work), "1", "200"])


def done(machine: Machine, job: Job) -> str:
    """Do *job*; return what is wrong, or nothing."""
    ended = subprocess.run(job.command, capture_output=True, text=True, check=False)
    if ended.returncode == 0:
        return ""
    said = f"{ended.stdout}{ended.stderr}"
    return f"{machine.name}, {job.what}: {shlex.join(job.command)}\n{said}"


def helper_answers(machine: Machine, place: Path) -> str:
    """
    Start the helper and tell it nonsense: it must say that it was, and end.

    By then it has relocated itself, made system calls, read a record and sent one.
    """
    helper = place / f"helper-{machine.name}"
    size, most = helper.stat().st_size, recipe_of(machine)["HELPER_MAX_SIZE"]
    if size > most:
        return f"{machine.name}: the helper has {size} bytes, more than {most}\n"
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.settimeout(PATIENCE)
        ours.send(b"nonsense")
        # It is number 3 for the helper, whatever it is here.
        started = subprocess.Popen(
            ["sh", "-c", f'exec "$@" 3<&{theirs.fileno()}', "sh", machine.qemu, helper],
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        try:
            said = ours.recv(65536)[: REPORT.size]
        except TimeoutError:
            said = b""
        finally:
            started.kill()
            started.wait()
    found = REPORT.unpack(said) if len(said) == REPORT.size else ()
    if found == (MESSAGE_REPORT, STEP_RECORD, errno.EPROTO):
        return ""
    return f"{machine.name}: the helper answered {found or 'nothing'}\n"


def main() -> int:
    """Compile and run for every machine; return how the process ends."""
    os.chdir(PROJECT)
    tools = [tool for each in MACHINES for tool in (each.compiler, each.qemu)]
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        print(f"cross: not installed: {' '.join(missing)}")
        return 1
    with (
        tempfile.TemporaryDirectory() as directory,
        concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as workers,
    ):
        place = Path(directory)
        todo = [(each, job) for each in MACHINES for job in jobs(each, place)]
        complaints = [*filter(None, workers.map(lambda pair: done(*pair), todo))]
        if not complaints:
            ready = [(each, job) for each in MACHINES for job in run(each, place)]
            complaints += filter(None, workers.map(lambda pair: done(*pair), ready))
            complaints += filter(
                None, [helper_answers(machine, place) for machine in MACHINES]
            )
    print(*complaints, sep="\n", end="")
    print(f"cross: {len(todo)} compiled, {len(complaints)} complaints")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
