"""
For which platform this machine takes images.

What counts is this interpreter, not the kernel: a 32-bit system on a 64-bit kernel, as
Raspberry Pi OS is, has 32-bit programs and wants 32-bit images.
"""

import os
import sys

from jailbox.spec.platform import Platform

__all__ = ["host_platform", "platform_from"]

_ARCHITECTURES = {
    ("x86_64", 64): "amd64",
    ("x86_64", 32): "386",
    ("aarch64", 64): "arm64",
    ("aarch64", 32): "arm",
}

# What each level of x86-64 has beyond the one below (x86-64 psABI, 3.1.1), as
# /proc/cpuinfo calls it.
_LEVELS = (
    ("v2", "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3"),
    ("v3", "avx avx2 bmi1 bmi2 f16c fma abm movbe xsave"),
    ("v4", "avx512f avx512bw avx512cd avx512dq avx512vl"),
)


def host_platform() -> Platform:
    """Return the platform of this machine, with the variant of its processor."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            cpuinfo = file.read(64 << 10)
    except OSError:
        cpuinfo = ""
    bits = 64 if sys.maxsize > 2**32 else 32
    return platform_from(os.uname().machine, bits, cpuinfo)


def platform_from(machine: str, bits: int, cpuinfo: str) -> Platform:
    """
    Decide the platform.

    Args:
        machine: As of ``uname -m``: of the kernel.

        bits: Of a pointer of this interpreter.

        cpuinfo: The text of ``/proc/cpuinfo``.
    """
    if machine.startswith("armv"):
        # armv6l, armv7l, armv8l: the last is a 64-bit processor in 32-bit mode.
        return Platform("linux", "arm", f"v{machine[4:5]}").normalized()
    architecture = _ARCHITECTURES.get((machine, bits), machine)
    variant = None
    if architecture == "amd64":
        variant = _level(cpuinfo)
    elif architecture == "arm":
        variant = "v8"
    return Platform("linux", architecture, variant).normalized()


def _level(cpuinfo: str) -> str:
    """Return the highest level of x86-64 of which all is there."""
    level = "v1"
    for line in cpuinfo.splitlines():
        if line.startswith("flags"):
            flags = set(line.partition(":")[2].split())
            for name, needed in _LEVELS:
                if not flags.issuperset(needed.split()):
                    break
                level = name
            break
    return level
