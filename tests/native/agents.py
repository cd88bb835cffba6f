"""
Agents as plain processes: the file protocol tested without a jail.

They are compiled with sanitizers, so that every test of files is also a test of
their memory.
"""

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
NATIVE = HERE.parent.parent / "src/jailbox/_native"

# What both sides are made of (build.py, TREE_SOURCES).
SHARED = ["tree.c", "tree_wire.c", "tree_source.c", "tree_sink.c", "tree_layer.c"]

# What packing is made of (build.py, PACK_SOURCES), and what of the rest it needs.
PACKING = [
    "pack.c",
    "pack_tar.c",
    "pack_file.c",
    "pack_memory.c",
    "tree_layer.c",
    "tree_wire.c",
    "tree_source.c",
]

WARNINGS = [
    "-Wall",
    "-Wextra",
    "-Wshadow",
    "-Wconversion",
    "-Wsign-conversion",
    "-Wstrict-prototypes",
    "-Wmissing-prototypes",
    "-Wcast-qual",
    "-Wpointer-arith",
    "-Wvla",
    "-Wformat=2",
    "-Wundef",
    "-Wnull-dereference",
    "-Wimplicit-fallthrough",
    "-Werror",
]

SANITIZERS = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]


def compile_c(
    program: Path, main: str, sources: list[str], *options: str, optimize: str = "-O1"
) -> Path:
    """Compile *main* of this folder with *sources* of the C room."""
    subprocess.run(
        [
            os.environ.get("CC", "gcc"),
            "-std=gnu11",
            optimize,
            *WARNINGS,
            *options,
            f"-I{NATIVE}",
            "-o",
            program,
            HERE / main,
            *(NATIVE / name for name in sources),
        ],
        check=True,
    )
    return program


class PlainAgents:
    """
    The files of a directory of the host, served by processes of their own.

    Attributes:
        layers: Where the writable layer is seen; one, or none.

        mount_points: What was made to be mounted on.
    """

    def __init__(
        self,
        program: Path,
        root: Path,
        *,
        upper: Path | None = None,
        lower: Path | None = None,
        userxattr: bool = False,
        bases: tuple[int, int] = (0, 0),
        chroot: bool = False,
        options: tuple[str, ...] = ("/",),
    ) -> None:
        self.layers = options if upper is not None else ()
        self.mount_points: frozenset[str] = frozenset()
        # Bit 1: the process is the agent's own; bit 2: marks are user.overlay.*.
        flags = 1 | (2 if userxattr else 0)
        self._command = [
            str(each) for each in (root, upper or "-", lower or "-", flags, *bases)
        ] + (["chroot"] if chroot else [])
        self._program = program

    @contextlib.contextmanager
    def connect(self, overlay: int = -1) -> Iterator[socket.socket]:
        """Start an agent; it must end by itself when the socket is closed."""
        ours, theirs = socket.socketpair()
        with theirs:
            agent = subprocess.Popen(
                [self._program, str(theirs.fileno()), *self._command],
                pass_fds=(theirs.fileno(),),
                stderr=subprocess.PIPE,
                # It allocates nothing; and without /proc the search cannot work.
                env={"ASAN_OPTIONS": "detect_leaks=0"},
            )
        try:
            with ours:
                yield ours
        finally:
            try:
                _, complaint = agent.communicate(timeout=20)
            finally:
                agent.kill()
                agent.wait()
            # 1: it was left in the middle of something.
            assert agent.returncode in {0, 1}, complaint.decode()
            assert b"Sanitizer" not in complaint, complaint.decode()
            assert b"runtime error" not in complaint, complaint.decode()
