"""
What the C part is made of: file lists, compiler flags, and the cffi recipe.

One C tree is compiled twice: into the extension ``jailbox._native._lib`` and
into the helper, a freestanding executable that the extension carries inside
itself. ``setup.py`` does the compiling; this file only says what and how.

It is executed as a file by cffi with the project root as working directory,
so paths are relative to that and nothing of the package is imported. It is not
part of the installed package.

To add a C file: put its name in one of the lists below.
"""

import os
import platform
from pathlib import Path

from cffi import FFI

ROOM = "src/jailbox/_native"

# The declarations that Python sees stand in these headers, between two markers.
CDEF_HEADERS = ["jailbox.h", "tree.h"]

# Files between host and jail: the same protocol on both sides (tree_internal.h).
TREE_SOURCES = ["tree.c", "tree_wire.c", "tree_source.c", "tree_sink.c", "tree_layer.c"]

# A tree becomes an archive, in a worker (pack.h); compares as the tree's side does.
PACK_SOURCES = ["pack.c", "pack_tar.c", "pack_file.c", "pack_memory.c"]

# The host's side: loaded into the Python process.
EXTENSION_SOURCES = ["channel.c", "spawn.c", *TREE_SOURCES, "tree_job.c"]

# The jail's side: keeper, init and stager. No libc, no Python.
HELPER_SOURCES = [
    "helper.c",
    "keeper.c",
    "jails.c",
    "ahead.c",
    "gate.c",
    "groups.c",
    "userns.c",
    "rooms.c",
    "template.c",
    "jail.c",
    "ops.c",
    "byname.c",
    "program.c",
    "supervisor.c",
    "visitors.c",
    "fds.c",
    "life.c",
    "workers.c",
    "worker.c",
    "resident.c",
    "untar.c",
    "unpack.c",
    "remove.c",
    "packing.c",
    "channel.c",
    *TREE_SOURCES,
    *PACK_SOURCES,
    "freestanding.c",
]

WARNINGS = [
    "-Wall",
    "-Wextra",
    "-Wshadow",
    "-Wconversion",
    "-Wsign-conversion",
    "-Wstrict-prototypes",
    "-Wpointer-arith",
    "-Wvla",
    "-Wformat=2",
    "-Wundef",
    "-Wnull-dereference",
    "-Wimplicit-fallthrough",
]

# The glue that cffi generates is not clean under these two; our own files are.
OWN_WARNINGS = ["-Wmissing-prototypes", "-Wcast-qual"]

# A warning stops the build where we read it (CI), not on a stranger's compiler.
if os.environ.get("JAILBOX_WERROR") == "1":
    WARNINGS.append("-Werror")

# Control-flow protection is spelled differently by each architecture.
CONTROL_FLOW = {
    "x86_64": ["-fcf-protection"],
    "aarch64": ["-mbranch-protection=standard"],
}.get(platform.machine(), [])

EXTENSION_FLAGS = [
    "-std=gnu11",
    *WARNINGS,
    *CONTROL_FLOW,
    "-fvisibility=hidden",
    "-fstack-protector-strong",
    "-fstack-clash-protection",
    # Distributions define an older level: undefine it, or the compiler warns.
    "-U_FORTIFY_SOURCE",
    "-D_FORTIFY_SOURCE=3",
]

EXTENSION_LINK_FLAGS = ["-Wl,-z,relro,-z,now,-z,noexecstack"]

HELPER_FLAGS = [
    "-std=gnu11",
    *WARNINGS,
    *OWN_WARNINGS,
    *CONTROL_FLOW,
    "-Os",
    "-ffreestanding",
    "-fPIE",
    "-fvisibility=hidden",
    # Without libc there is no thread area to keep a canary in.
    "-fno-stack-protector",
    # Otherwise the compiler turns the loop inside memset() into memset().
    "-fno-tree-loop-distribute-patterns",
    # Nobody unwinds these frames.
    "-fno-unwind-tables",
    "-fno-asynchronous-unwind-tables",
    "-ffunction-sections",
    "-fdata-sections",
]
if platform.machine() == "aarch64":
    # Outlined atomics live in libgcc and ask libc which CPU this is.
    HELPER_FLAGS.append("-mno-outline-atomics")

HELPER_LINK_FLAGS = [
    "-nostdlib",
    "-static-pie",
    # Said by -static-pie alone on most architectures, but not on riscv64.
    "-Wl,--no-dynamic-linker",
    "-Wl,--gc-sections,--build-id=none,--strip-all",
    "-Wl,-z,relro,-z,now,-z,noexecstack,-z,text",
]

# Bytes. The helper is written to a memfd for every embedding process.
HELPER_MAX_SIZE = 128 * 1024
if platform.machine() == "aarch64":
    # A page may have 64 KiB there, and data begins on one of its own.
    HELPER_MAX_SIZE += 64 * 1024


def in_room(*names: str) -> list[str]:
    """Return the paths of files of this room, relative to the project root."""
    return [f"{ROOM}/{name}" for name in names]


def headers() -> list[str]:
    """Return every header of the room: touching one rebuilds everything."""
    return sorted(str(path) for path in Path(ROOM).glob("*.h"))


def cdef() -> str:
    """Return what stands in the headers between the two markers."""
    return "\n".join(map(declarations, CDEF_HEADERS))


def declarations(header: str) -> str:
    """Return what stands in *header* between the two markers."""
    text = Path(ROOM, header).read_text(encoding="utf-8")
    before, begin, rest = text.partition("/* cffi:begin */")
    inside, end, _ = rest.partition("/* cffi:end */")
    if not (begin and end):
        message = f"{ROOM}/{header}: no cffi:begin and cffi:end markers"
        raise SystemExit(message)
    # Kept, so that an error of cffi names the line of the header.
    line = before.count("\n") + 1
    return f'# {line} "{ROOM}/{header}"\n{inside}'


def helper_command(compiler: list[str], output: str, *defines: str) -> list[str]:
    """
    Return the compiler call that makes the helper in one go.

    Args:
        compiler: The compiler and what always goes with it.

        output: Where the executable is written.

        defines: Macros as ``NAME`` or ``NAME=value``.
    """
    macros = [f"-D{define}" for define in defines]
    sources = in_room(*HELPER_SOURCES)
    return [
        *compiler,
        *HELPER_FLAGS,
        *macros,
        f"-I{ROOM}",
        "-o",
        output,
        *sources,
        *HELPER_LINK_FLAGS,
    ]


def ffibuilder() -> FFI:
    """Return the cffi recipe of the extension."""
    ffi = FFI()
    ffi.cdef(cdef())
    ffi.set_source(
        "jailbox._native._lib",
        "".join(f'#include "{header}"\n' for header in CDEF_HEADERS),
        sources=in_room(*EXTENSION_SOURCES),
        # What is listed here goes into the sdist, and rebuilds when touched.
        depends=[*headers(), *in_room("build.py", *HELPER_SOURCES)],
        include_dirs=[ROOM],
        extra_compile_args=EXTENSION_FLAGS,
        extra_link_args=EXTENSION_LINK_FLAGS,
    )
    return ffi
