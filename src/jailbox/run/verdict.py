"""
Why a program ended, from what its supervisor and its control groups say.

Pure. Nothing that the program wrote is looked at, so that it cannot fake a verdict.
"""

import attrs

from jailbox.linux.cgroup import CgroupReport
from jailbox.spec.limits import Limits
from jailbox.spec.result import Usage, Verdict

__all__ = ["Ending", "exit_code_of", "judge", "signal_of", "usage_of"]

_SIGKILL = 9
_SIGSYS = 31


@attrs.frozen(kw_only=True)
class Ending:
    """
    What is known when a program has ended.

    Attributes:
        status: As of *wait(2)*.

        wall_reached: Its supervisor ended it at the end of its time.

        cpu_reached: ... at the end of its processor time.

        output_exceeded: We ended it because it wrote too much.

        disk_full: The writable layer had no room when it ended.

        oom_killed: The kernel killed in its group, for the group's own limit.

        pids_denied: Forks that were refused by the limit.
    """

    status: int
    wall_reached: bool = False
    cpu_reached: bool = False
    output_exceeded: bool = False
    disk_full: bool = False
    oom_killed: bool = False
    pids_denied: int = 0


def exit_code_of(status: int) -> int | None:
    """The exit code in a wait status; ``None`` if a signal ended it."""
    return None if status & 0x7F else status >> 8 & 0xFF


def signal_of(status: int) -> int | None:
    """The signal in a wait status; ``None`` if it exited."""
    return status & 0x7F or None


def judge(ending: Ending) -> Verdict:
    """
    Say why it ended.

    What somebody brought about comes first, then what the kernel counted. A count
    matters only if the program failed: one that got along did.
    """
    if ending.output_exceeded:
        return Verdict.OUTPUT
    if ending.cpu_reached:
        return Verdict.CPU_TIME
    if ending.wall_reached:
        return Verdict.WALL
    if ending.status == 0:
        return Verdict.OK
    if ending.oom_killed:
        return Verdict.MEMORY
    if signal_of(ending.status) == _SIGSYS:
        return Verdict.DENIED
    if ending.pids_denied:
        return Verdict.PIDS
    if ending.disk_full:
        return Verdict.DISK
    return Verdict.SIGNAL if signal_of(ending.status) else Verdict.EXIT


def usage_of(
    report: CgroupReport,
    *,
    cpu_user: float,
    cpu_system: float,
    max_rss: int,
    wall: float,
) -> Usage:
    """
    Make the bill: what groups counted, and what the kernel's own books say.

    The books count every process that was waited for, and in a jail all of them are.
    Without a memory group the peak is that of the largest single process.
    """
    return Usage(
        cpu_user=cpu_user,
        cpu_system=cpu_system,
        wall=wall,
        memory_peak=report.memory_peak if report.memory_peak is not None else max_rss,
        io_read=report.io_read,
        io_written=report.io_written,
        processes=report.processes_peak,
    )


def oom_of(report: CgroupReport, limits: Limits) -> bool:
    """Whether the jail's own limit made the kernel kill."""
    return report.ran_out_of_memory(limits.memory)
