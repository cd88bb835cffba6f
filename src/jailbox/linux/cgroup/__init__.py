"""
Control groups: which ones a machine offers, what a jail gets, what they counted.

Decides only. Directories are made, joined, read and removed by the native part, which
obeys a `CgroupPlan`.
"""

from jailbox.linux.cgroup.base import (
    CgroupDir,
    CgroupPlan,
    CgroupReport,
    CgroupStats,
    CpuClock,
    Freezer,
)
from jailbox.linux.cgroup.detect import CgroupLayout, Hierarchy, Refusal
from jailbox.linux.cgroup.plan import (
    MEMORY_MIN,
    Enforcement,
    cgroup_plan,
    check_limits,
    enforcement,
    keeper_dirs,
    parse_collected,
    parse_stats,
    update_writes,
)

__all__ = [
    "MEMORY_MIN",
    "CgroupDir",
    "CgroupLayout",
    "CgroupPlan",
    "CgroupReport",
    "CgroupStats",
    "CpuClock",
    "Enforcement",
    "Freezer",
    "Hierarchy",
    "Refusal",
    "cgroup_plan",
    "check_limits",
    "enforcement",
    "keeper_dirs",
    "parse_collected",
    "parse_stats",
    "update_writes",
]
