"""
What every question needs: a place to build in, and the smallest program there is.

The root directory that is made here holds one static program, ``/bin/noop``, which
ends at once, or waits for its end when it is given any argument. Peers and jailbox get
the same one.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["HERE", "NOOP", "WAIT", "Stage", "compile_c", "static_busybox"]

HERE = Path(__file__).parent
NOOP = ("/bin/noop",)
WAIT = ("/bin/noop", "wait")

_DIRECTORIES = ("bin", "dev", "etc", "proc", "run", "sys", "tmp", "usr", "var")


def compile_c(source: Path, output: Path, *options: str) -> None:
    """Make a static executable of one C file."""
    command = ["cc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-static"]
    command += ["-fmax-errors=3", "-o"]
    subprocess.run([*command, str(output), *options, str(source)], check=True)


def static_busybox() -> str | None:
    """Find a busybox that needs no loader, which the host image shows as well."""
    path = shutil.which("busybox")
    if path is None:
        return None
    with open(path, "rb") as file:
        # An interpreter's name stands in the first page of what needs one.
        return None if b"/ld-" in file.read(4096) else os.path.realpath(path)


class Stage:
    """
    A temporary directory with the program and a root for it.

    Attributes:
        path: The directory.

        root: The root directory for jails.

        noop: The program, as the host finds it.
    """

    def __init__(self) -> None:
        # Not below /tmp of the jail's image, and world-readable: peers drop rights.
        self.path = Path(tempfile.mkdtemp(prefix="jailbox-bench-"))
        self.path.chmod(0o755)
        self.root = self.path / "rootfs"
        for name in _DIRECTORIES:
            (self.root / name).mkdir(parents=True)
        self.noop = self.root / "bin/noop"
        compile_c(HERE / "noop.c", self.noop)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
