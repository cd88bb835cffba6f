"""
Programs of other processors are refused before anything is started.

What counts is the header of the program that would be executed, or of the interpreter
that its first line names: manifests lie.
"""

import posixpath
from collections.abc import Callable
from typing import BinaryIO, Final

from jailbox.errors import JailboxError, Unsupported
from jailbox.linux.elf import architecture_of, emulated, native
from jailbox.linux.plan import Program

__all__ = ["check_program"]

_HEAD: Final = 256


def check_program(program: Program, open_file: Callable[[str], BinaryIO]) -> None:
    """
    Look at what a program of an image is for.

    What cannot be found or read in the image is left to the kernel: it may be there by
    the time it is executed.

    Args:
        program: What is to be executed.

        open_file: Opens a file of the image.

    Raises:
        Unsupported: If it is for another processor, and no emulator is registered.
    """
    runs = native()
    path, head = _found(program, open_file)
    if head.startswith(b"#!"):
        words = head[2:].split(b"\n", 1)[0].split()
        path = words[0].decode("utf-8", "replace") if words else path
        head = _head(path, open_file) or b""
    wanted = architecture_of(head)
    if wanted is None or not runs or wanted in runs or emulated(wanted):
        return
    available = ", ".join(f"linux/{one}" for one in runs)
    raise Unsupported(
        f"way to run programs for linux/{wanted}",
        path=f"{path} of the image",
        hint=(
            f"It runs {available}: get the image for that"
            f" (platform='linux/{runs[0]}'). Or let the host emulate the other: install"
            " qemu-user-static and binfmt-support, which register it."
        ),
    )


def _found(program: Program, open_file: Callable[[str], BinaryIO]) -> tuple[str, bytes]:
    name = program.argv[0]
    if "/" in name:
        path = posixpath.join("/", program.cwd, name)
        return path, _head(path, open_file) or b""
    for directory in program.path.split(":"):
        path = posixpath.join("/", directory, name)
        head = _head(path, open_file)
        if head is not None:
            return path, head
    return name, b""


def _head(path: str, open_file: Callable[[str], BinaryIO]) -> bytes | None:
    try:
        with open_file(path) as file:
            return file.read(_HEAD)
    except (JailboxError, OSError):
        return None
