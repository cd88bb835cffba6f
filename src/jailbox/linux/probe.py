"""
What only a system call can tell about this machine, for `jailbox.linux.facts`.
"""

from jailbox._native import lib

__all__ = ["landlock_abi"]


def landlock_abi() -> int:
    """Ask the kernel for its version of Landlock; 0 if it has none."""
    return max(0, int(lib.jb_landlock_abi()))
