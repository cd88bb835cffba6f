"""
The words of control groups version 2: one hierarchy for everything.

Turns wanted limits into files of the unified hierarchy, and text of those files into
numbers. On a hybrid machine the same hierarchy, without controllers, still kills,
freezes, counts processor time, and can be cloned into.

Not for choosing hierarchies: `plan` does.

Source: kernel *admin-guide/cgroup-v2.rst*.
"""

from collections.abc import Mapping

from jailbox.linux.cgroup.base import CgroupReport, CgroupStats, CpuClock, Freezer
from jailbox.linux.cgroup.detect import Hierarchy
from jailbox.linux.cgroup.v1 import (
    PERIOD_US,
    lines,
    number,
    table,
    tasks_value,
    without_init,
)
from jailbox.spec.limits import Limits

__all__ = [
    "clock",
    "collects",
    "freezer",
    "kill_file",
    "limit_writes",
    "lives",
    "parse_collected",
    "parse_live",
    "subtree_control",
    "update_memory",
]

_COLLECT = {
    "io": ("io.stat",),
    "memory": ("memory.peak", "memory.events"),
    "pids": ("pids.peak", "pids.events"),
}

_LIVE = {
    "io": ("io.stat",),
    "memory": ("memory.current", "memory.peak"),
    "pids": ("pids.current",),
}


def limit_writes(
    limits: Limits, wanted: frozenset[str], hierarchy: Hierarchy
) -> tuple[tuple[str, str], ...]:
    """
    Give the writes that make *limits* hold in a new group.

    Args:
        limits: What is wanted.

        wanted: The controllers that are used.

        hierarchy: The unified hierarchy.
    """
    writes: list[tuple[str, str]] = []
    if "memory" in wanted:
        if limits.memory is not None:
            writes.append(("memory.max", str(limits.memory)))
            if "memory.swap.max" in hierarchy.knobs:
                writes.append(("memory.swap.max", str(limits.extra_swap or 0)))
        if limits.memory_reservation is not None:
            writes.append(("memory.low", str(limits.memory_reservation)))
    if "pids" in wanted and limits.processes is not None:
        writes.append(("pids.max", tasks_value(limits.processes)))
    if "cpu" in wanted and limits.cpus is not None:
        writes.append(("cpu.max", f"{round(limits.cpus * PERIOD_US)} {PERIOD_US}"))
    if "cpu" in wanted and limits.cpu_shares is not None:
        writes.append(("cpu.weight", str(_weight(limits.cpu_shares))))
    if "cpuset" in wanted and limits.cpuset is not None:
        writes.append(("cpuset.cpus", limits.cpuset))
    return tuple(writes)


def _weight(shares: int) -> int:
    """
    Give the weight of version 2 (1 to 10,000) for shares of version 1 (2 to 262,144).

    Source: the formula that runc, crun and systemd agree on (*KEP-2254*).
    """
    return 1 + (shares - 2) * 9999 // 262142


def subtree_control(wanted: frozenset[str]) -> tuple[tuple[str, str], ...]:
    """Give the write by which a parent lets its children have controllers."""
    if not wanted:
        return ()
    names = " ".join(f"+{name}" for name in sorted(wanted))
    return (("cgroup.subtree_control", names),)


def update_memory(
    old: Limits, new: Limits, *, swap: bool
) -> tuple[tuple[str, str], ...]:
    """Give the writes that change a memory limit. Swap is bounded on its own."""
    writes = []
    if new.memory != old.memory:
        writes.append(("memory.max", "max" if new.memory is None else str(new.memory)))
    if swap and new.extra_swap != old.extra_swap:
        value = "max" if new.extra_swap is None else str(new.extra_swap)
        writes.append(("memory.swap.max", value))
    return tuple(writes)


def collects(wanted: frozenset[str]) -> tuple[str, ...]:
    """
    Name the files that tell at the end what was used.

    ``cpu.stat`` is there without the cpu controller.
    """
    files = [f for name in sorted(wanted) for f in _COLLECT.get(name, ())]
    return ("cpu.stat", *files)


def lives(wanted: frozenset[str]) -> tuple[str, ...]:
    """Name the files that tell what is used now."""
    return ("cpu.stat", *(f for name in sorted(wanted) for f in _LIVE.get(name, ())))


def clock(path: str) -> CpuClock:
    """Give the clock of a group."""
    return CpuClock(f"{path}/cpu.stat", "stat")


def freezer(path: str, hierarchy: Hierarchy) -> Freezer | None:
    """Give the way to pause a group; ``None`` before Linux 5.2."""
    if "cgroup.freeze" not in hierarchy.knobs:
        return None
    return Freezer(
        path=f"{path}/cgroup.freeze",
        freeze="1",
        thaw="0",
        state=f"{path}/cgroup.events",
        frozen="frozen 1",
        killable=True,
    )


def kill_file(path: str, hierarchy: Hierarchy) -> str | None:
    """Give the file that kills a group at once; ``None`` before Linux 5.14."""
    return f"{path}/cgroup.kill" if "cgroup.kill" in hierarchy.knobs else None


# --- text -> numbers --------------------------------------------------------


def _seconds(microseconds: int | None) -> float | None:
    return None if microseconds is None else microseconds / 1e6


def io_bytes(data: bytes | None) -> tuple[int | None, int | None]:
    """
    Add up ``io.stat`` over all devices: bytes read and written.

    An empty file is zero: a device is listed when it was used.
    """
    if data is None:
        return None, None
    read = written = 0
    for line in lines(data):
        for word in line.split():
            key, _, value = word.partition(b"=")
            if value.isdigit():
                read += int(value) if key == b"rbytes" else 0
                written += int(value) if key == b"wbytes" else 0
    return read, written


def parse_collected(files: Mapping[str, bytes]) -> CgroupReport:
    """Read what was collected at the end, by file name."""
    cpu = table(files.get("cpu.stat"))
    events = table(files.get("memory.events"))
    read, written = io_bytes(files.get("io.stat"))
    return CgroupReport(
        memory_peak=number(files.get("memory.peak")),
        oom_kills=events.get("oom_kill", 0),
        oom_events=events.get("oom"),
        processes_peak=without_init(number(files.get("pids.peak"))),
        pids_denied=table(files.get("pids.events")).get("max", 0),
        cpu_user=_seconds(cpu.get("user_usec")),
        cpu_system=_seconds(cpu.get("system_usec")),
        io_read=read,
        io_written=written,
        throttled=_seconds(cpu.get("throttled_usec")),
    )


def parse_live(files: Mapping[str, bytes]) -> CgroupStats:
    """Read what is used now, by file name."""
    read, written = io_bytes(files.get("io.stat"))
    return CgroupStats(
        memory=number(files.get("memory.current")),
        memory_peak=number(files.get("memory.peak")),
        cpu_time=_seconds(table(files.get("cpu.stat")).get("usage_usec")),
        processes=without_init(number(files.get("pids.current"))),
        io_read=read,
        io_written=written,
    )
