"""
What this machine allows a test to do, and why not.

An ability answers with nothing when it is there, and with the reason when it is
absent: that reason is what a skipped test says. Every answer is found by trying
or by asking the kernel, once, and changes nothing on the machine.
"""

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Callable

CAP_SYS_ADMIN = 21


@functools.cache
def userns() -> str | None:
    """Return why no user namespace can be made, or None."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return "unshare (util-linux) is not installed, so user namespaces are unknown"
    tried = subprocess.run(
        [unshare, "--user", "--map-root-user", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode != 0:
        return f"no user namespaces: {tried.stderr.strip()}"
    return None


@functools.cache
def root() -> str | None:
    """Return why we are not a root that may mount, or None."""
    if os.geteuid() != 0:
        return f"not root (uid {os.geteuid()})"
    with open("/proc/self/status", encoding="ascii") as file:
        match = re.search(r"^CapEff:\t([0-9a-f]+)$", file.read(), re.MULTILINE)
    if match is None or not int(match[1], 16) >> CAP_SYS_ADMIN & 1:
        return "root without CAP_SYS_ADMIN"
    return None


@functools.cache
def cgroup_kinds() -> frozenset[str]:
    """Return the versions with which we could limit memory: ``v1``, ``v2``."""
    found = set()
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        mounts = [line.partition(" - ") for line in file]
    for left, _, right in mounts:
        place = left.split()[4]
        kind, _, options = right.split(" ", 2)
        if kind == "cgroup" and "memory" in options.strip().split(","):
            found |= {"v1"} if os.access(place, os.W_OK) else set()
        if kind == "cgroup2":
            with open("/proc/self/cgroup", encoding="utf-8") as file:
                own = re.search(r"^0::(.*)$", file.read(), re.MULTILINE)
            parts = [] if own is None else own[1].strip("/").split("/")
            above = ["/".join([place, *parts[:n]]) for n in range(len(parts) + 1)]
            found |= {"v2"} if any(map(_gives_memory, above)) else set()
    return frozenset(found)


def _gives_memory(group: str) -> bool:
    """Say whether we may limit memory below a group of version 2."""
    if not os.access(group, os.W_OK) or not os.access(f"{group}/cgroup.procs", os.W_OK):
        return False
    with open(f"{group}/cgroup.controllers", encoding="ascii") as file:
        return "memory" in file.read().split()


def cgroup(version: str | None = None) -> str | None:
    """Return why limits by control groups (of *version*) do not work, or None."""
    kinds = cgroup_kinds()
    if version is None:
        return None if kinds else "no control groups that we may use for memory"
    return None if version in kinds else f"no usable control groups {version}"


@functools.cache
def network() -> str | None:
    """Return why no other machine can be reached, or None."""
    with open("/proc/net/route", encoding="ascii") as file:
        for line in file:
            if line.split()[1] == "00000000":
                return None
    return "no default route"


ABILITIES: dict[str, Callable[..., str | None]] = {
    "cgroup": cgroup,
    "network": network,
    "root": root,
    "userns": userns,
}
