"""
For which processor a program is, and whether this machine runs it.

A manifest may say anything; the header of the program is what the kernel goes by.

Source: *elf(5)*; Linux, *Documentation/admin-guide/binfmt-misc.rst*.
"""

import os
from collections.abc import Iterable
from typing import Final

__all__ = ["architecture_of", "emulated", "native"]

_MAGIC: Final = b"\x7fELF"
_MACHINE_AT: Final = 18

# By e_machine and whether it is of 64 bits, as Go and OCI call them.
_MACHINES: Final = {
    (3, False): "386",
    (21, True): "ppc64le",
    (22, True): "s390x",
    (40, False): "arm",
    (62, True): "amd64",
    (183, True): "arm64",
    (243, True): "riscv64",
}

_NATIVE: Final = {
    "x86_64": ("amd64", "386"),
    "aarch64": ("arm64", "arm"),
    "ppc64le": ("ppc64le",),
    "riscv64": ("riscv64",),
    "s390x": ("s390x",),
}

_QEMU: Final = {"amd64": "x86_64", "386": "i386", "arm64": "aarch64"}

_REGISTERED: Final = "/proc/sys/fs/binfmt_misc"


def architecture_of(head: bytes) -> str | None:
    """
    Read what a program is for out of its first bytes.

    Returns:
        ``amd64``, ``arm``, ...; ``None`` if it is no program, or for something that is
        not known here: let the kernel decide.
    """
    if len(head) < _MACHINE_AT + 2 or not head.startswith(_MAGIC):
        return None
    order = "big" if head[5] == 2 else "little"  # noqa: PLR2004  # ELFDATA2MSB
    number = int.from_bytes(head[_MACHINE_AT : _MACHINE_AT + 2], order)  # type: ignore[arg-type]
    return _MACHINES.get((number, head[4] == 2))  # noqa: PLR2004  # ELFCLASS64


def native(machine: str | None = None) -> tuple[str, ...]:
    """
    Return what a machine runs by itself, best first; empty if that is not known.

    Args:
        machine: As of ``uname -m``; by default this one.
    """
    machine = os.uname().machine if machine is None else machine
    if machine.startswith("armv"):
        return ("arm",)
    return _NATIVE.get(machine, ())


def emulated(architecture: str, place: str = _REGISTERED) -> bool:
    """
    Tell whether the host has an emulator registered that jails can use too.

    It has to be opened already (flag ``F``): in a jail its path leads nowhere.
    """
    name = f"qemu-{_QEMU.get(architecture, architecture)}"
    try:
        with open(os.path.join(place, name), encoding="ascii") as file:
            lines: Iterable[str] = file.read().splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith("flags:")), "")
    return "enabled" in lines and "F" in flags.removeprefix("flags:")
