"""
The words of control groups version 1: one hierarchy for each controller.

Turns wanted limits into files of one hierarchy, and text of those files into numbers.
Not for choosing hierarchies: `plan` does.

Source: kernel *admin-guide/cgroup-v1/*.
"""

from collections.abc import Mapping

from jailbox.linux.cgroup.base import CgroupReport, CgroupStats, CpuClock, Freezer
from jailbox.linux.cgroup.detect import Hierarchy
from jailbox.spec.limits import Limits

__all__ = [
    "PERIOD_US",
    "clock",
    "collects",
    "freezer",
    "limit_writes",
    "lives",
    "parent_writes",
    "parse_collected",
    "parse_live",
    "tasks_value",
    "update_memory",
]

PERIOD_US = 100_000
"""The period of CPU quotas that every new group has; quotas are counted in it."""

INIT_TASKS = 1
"""Our own init is a process of the jail, but not one that the caller asked for."""

_PID_MAX = 1 << 22

_COLLECT = {
    "memory": ("memory.max_usage_in_bytes", "memory.oom_control"),
    "pids": ("pids.peak", "pids.events"),
    "cpu": ("cpu.stat",),
    "cpuacct": ("cpuacct.usage_user", "cpuacct.usage_sys"),
}

_LIVE = {
    "memory": ("memory.usage_in_bytes", "memory.max_usage_in_bytes"),
    "pids": ("pids.current",),
    "cpuacct": ("cpuacct.usage",),
}


def limit_writes(
    limits: Limits, wanted: frozenset[str], hierarchy: Hierarchy
) -> tuple[tuple[str, str], ...]:
    """
    Give the writes that make *limits* hold in a new group.

    Args:
        limits: What is wanted.

        wanted: The controllers of this hierarchy that are used.

        hierarchy: The hierarchy.
    """
    writes: list[tuple[str, str]] = []
    if "cpuset" in wanted:
        # Both are empty in a new group, and nobody can join while one is.
        writes.append(("cpuset.cpus", limits.cpuset or hierarchy.cpus))
        writes.append(("cpuset.mems", hierarchy.mems))
    if "memory" in wanted and limits.memory is not None:
        writes.append(("memory.limit_in_bytes", str(limits.memory)))
        if "memory.memsw.limit_in_bytes" in hierarchy.knobs:
            # Counts memory too, and may never be below it: hence second.
            total = limits.memory + (limits.extra_swap or 0)
            writes.append(("memory.memsw.limit_in_bytes", str(total)))
    if "memory" in wanted and limits.memory_reservation is not None:
        writes.append(("memory.soft_limit_in_bytes", str(limits.memory_reservation)))
    if "pids" in wanted and limits.processes is not None:
        writes.append(("pids.max", tasks_value(limits.processes)))
    if "cpu" in wanted and limits.cpus is not None:
        writes.append(("cpu.cfs_quota_us", str(round(limits.cpus * PERIOD_US))))
    if "cpu" in wanted and limits.cpu_shares is not None:
        writes.append(("cpu.shares", str(limits.cpu_shares)))
    return tuple(writes)


def tasks_value(processes: int | None) -> str:
    """
    Print a bound of processes, with room for our own init.

    The kernel refuses numbers past the largest process id; they bound nothing.
    """
    if processes is None or processes + INIT_TASKS > _PID_MAX:
        return "max"
    return str(processes + INIT_TASKS)


def parent_writes(
    wanted: frozenset[str], hierarchy: Hierarchy
) -> tuple[tuple[str, str], ...]:
    """Give the writes that a parent needs before it can have children."""
    if "cpuset" not in wanted:
        return ()
    return ("cpuset.cpus", hierarchy.cpus), ("cpuset.mems", hierarchy.mems)


def update_memory(
    old: Limits, new: Limits, *, swap: bool
) -> tuple[tuple[str, str], ...]:
    """
    Give the writes that change a memory limit, in the order that the kernel takes.

    Memory may never exceed memory and swap together, not even between two writes.
    """
    memory = -1 if new.memory is None else new.memory
    limit = ("memory.limit_in_bytes", str(memory))
    if not swap:
        return (limit,)
    total = -1 if new.memory is None else new.memory + (new.extra_swap or 0)
    both = ("memory.memsw.limit_in_bytes", str(total))
    before = -1 if old.memory is None else old.memory + (old.extra_swap or 0)
    grows = total == -1 or (before != -1 and total >= before)
    return (both, limit) if grows else (limit, both)


def collects(wanted: frozenset[str]) -> tuple[str, ...]:
    """Name the files that tell at the end what was used."""
    return tuple(f for name in sorted(wanted) for f in _COLLECT.get(name, ()))


def lives(wanted: frozenset[str]) -> tuple[str, ...]:
    """Name the files that tell what is used now."""
    return tuple(f for name in sorted(wanted) for f in _LIVE.get(name, ()))


def clock(path: str) -> CpuClock:
    """Give the clock of a cpuacct group."""
    return CpuClock(f"{path}/cpuacct.usage", "ns")


def freezer(path: str) -> Freezer:
    """
    Give the way to pause a freezer group.

    A frozen process does not die before it is thawed.
    """
    return Freezer(
        path=f"{path}/freezer.state",
        freeze="FROZEN",
        thaw="THAWED",
        state=f"{path}/freezer.state",
        frozen="FROZEN",
        killable=False,
    )


# --- text -> numbers --------------------------------------------------------


def number(data: bytes | None) -> int | None:
    """Read a file that holds one number; ``None`` if it does not."""
    text = (data or b"").strip()
    return int(text) if text.isdigit() else None


def lines(data: bytes | None) -> list[bytes]:
    """Split into lines, without a last one that was cut off."""
    return (data or b"").split(b"\n")[:-1]


def table(data: bytes | None) -> dict[str, int]:
    """Read a file of lines with a name and a number."""
    found = {}
    for line in lines(data):
        name, _, value = line.partition(b" ")
        if value.strip().isdigit():
            found[name.decode("ascii", "replace")] = int(value)
    return found


def without_init(count: int | None) -> int | None:
    """Take our own init off a count of processes."""
    return None if count is None else max(0, count - INIT_TASKS)


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1e9


def parse_collected(files: Mapping[str, bytes]) -> CgroupReport:
    """Read what was collected at the end, by file name."""
    cpu = table(files.get("cpu.stat"))
    return CgroupReport(
        memory_peak=number(files.get("memory.max_usage_in_bytes")),
        oom_kills=table(files.get("memory.oom_control")).get("oom_kill", 0),
        processes_peak=without_init(number(files.get("pids.peak"))),
        pids_denied=table(files.get("pids.events")).get("max", 0),
        cpu_user=_seconds(number(files.get("cpuacct.usage_user"))),
        cpu_system=_seconds(number(files.get("cpuacct.usage_sys"))),
        throttled=_seconds(cpu.get("throttled_time")),
    )


def parse_live(files: Mapping[str, bytes]) -> CgroupStats:
    """Read what is used now, by file name."""
    return CgroupStats(
        memory=number(files.get("memory.usage_in_bytes")),
        memory_peak=number(files.get("memory.max_usage_in_bytes")),
        cpu_time=_seconds(number(files.get("cpuacct.usage"))),
        processes=without_init(number(files.get("pids.current"))),
    )
