"""
Read the C part with other eyes: gcc's analyzer, clang-tidy, clang-format.

Nothing that is compiled here is kept. Sources and flags are those of the build, so
what is read is what is shipped.
"""

import concurrent.futures
import os
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parent.parent
BUILD = "src/jailbox/_native/build.py"

# Flags that only gcc knows.
GCC_ONLY = {"-fno-tree-loop-distribute-patterns", "-fstack-clash-protection"}


def commands() -> list[list[str]]:
    """Return every reading that is to be done, one command for each."""
    build: dict[str, Any] = runpy.run_path(BUILD)  # The names of an executed file.
    own = [*build["OWN_WARNINGS"], '-DJB_VERSION="0"', f"-I{build['ROOM']}"]
    sides = {
        "EXTENSION_SOURCES": [*build["EXTENSION_FLAGS"], "-O2", *own],
        "HELPER_SOURCES": [*build["HELPER_FLAGS"], *own],
    }
    clang = Path(sys.executable).parent
    includes = output_of(["gcc", "-print-file-name=include"])
    found = []
    for side, flags in sides.items():
        for source in build["in_room"](*build[side]):
            gcc = ["gcc", *flags, "-Werror", "-fanalyzer", "-c", "-o", os.devnull]
            found.append([*gcc, source])
            known = [flag for flag in flags if flag not in GCC_ONLY]
            # The wheel of clang-tidy brings no headers of its own.
            known += ["-isystem", includes]
            found.append([str(clang / "clang-tidy"), "--quiet", source, "--", *known])
    files = sorted(str(file) for file in Path(build["ROOM"]).glob("*.[ch]"))
    found.append([str(clang / "clang-format"), "--dry-run", "-Werror", *files])
    return found


def output_of(command: list[str]) -> str:
    """Return what *command* prints, without the line end."""
    return subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()


def read(command: list[str]) -> str:
    """Return what a reader complains about, or nothing."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    return f"{shlex.join(command)}\n{done.stdout}{done.stderr}"


def main() -> int:
    """Read everything; return how the process ends."""
    os.chdir(PROJECT)
    if shutil.which("gcc") is None:
        print("native: gcc is not installed")
        return 1
    todo = commands()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as readers:
        complaints = list(filter(None, readers.map(read, todo)))
    print(*complaints, sep="\n", end="")
    print(f"native: {len(todo)} readings, {len(complaints)} with complaints")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
