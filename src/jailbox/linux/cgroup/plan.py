"""
From wishes and facts to control groups: who holds which limit, and how.

`cgroup_plan` says what to make, `enforcement` says what holds each limit and refuses
the ones that nothing can hold, `update_writes` changes a running jail, and
`parse_collected` reads the bill. All of it is pure: limits and a layout in, values
out.

Not for the words of either version (`v1`, `v2`), and not for obeying.
"""

import errno
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal, TypeVar

import attrs

from jailbox.errors import NotEnforced, SpecError
from jailbox.linux.cgroup import v1, v2
from jailbox.linux.cgroup.base import (
    CgroupDir,
    CgroupPlan,
    CgroupReport,
    CgroupStats,
    CpuClock,
    Freezer,
)
from jailbox.linux.cgroup.detect import CgroupLayout, Hierarchy, Refusal
from jailbox.spec.limits import DEFAULT_PROCESSES, Limits, format_cpuset, parse_cpuset

if TYPE_CHECKING:
    from jailbox.linux.facts import HostFacts

__all__ = [
    "MEMORY_MIN",
    "Enforcement",
    "Mechanism",
    "cgroup_plan",
    "check_limits",
    "enforcement",
    "keeper_dirs",
    "parse_collected",
    "parse_stats",
    "update_writes",
]

MEMORY_MIN = 4 << 20
"""The least memory that a jail can be bounded to, in bytes.

Making the namespaces, mounts and first page tables of a jail is charged to it: 1.3 MiB
at its least, 2 MiB at its peak, measured on Linux 6.18. Below this bound it depends on
the day whether a jail starts, and a failed start is a bad way to learn that."""

Mechanism = Literal["cgroup", "rlimit", "affinity", "init", "tmpfs"]
"""What holds a limit: a control group; a resource limit; the processor mask that
children inherit; our own init, which counts and kills; the size of a file system."""

# Names that end up as directories beside files of the kernel.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_KERNEL_FILES = re.compile(
    r"(tasks|release_agent|notify_on_release)$"
    r"|(cgroup|cpu|cpuacct|cpuset|blkio|io|memory|pids|freezer|devices|hugetlb|misc"
    r"|rdma|dmem|net_cls|net_prio|perf_event|irq|debug)\."
)


def _name(value: str, argument: str) -> str:
    if not _NAME.fullmatch(value) or _KERNEL_FILES.match(value):
        raise SpecError(
            argument,
            "cannot name a control group",
            value=value,
            accepted=(
                "1 to 128 of A-Z a-z 0-9 _ . -, not beginning with . or -, and no "
                "name of the kernel's own files"
            ),
        )
    return value


# --- what to make -----------------------------------------------------------


def _wanted(
    limits: Limits, layout: CgroupLayout, *, usage: bool
) -> dict[Hierarchy, frozenset[str]]:
    """
    Choose the controllers that are used, by hierarchy.

    As few as possible: in version 1 each costs a directory, 0.1 ms for memory and
    0.04 ms for the others, between making, joining and removing.
    """
    names = []
    if usage or limits.memory is not None or limits.memory_reservation is not None:
        names.append("memory")
    if usage or limits.processes is not None:
        names.append("pids")
    if limits.cpus is not None or limits.cpu_shares is not None:
        names.append("cpu")
    if limits.cpuset is not None:
        names.append("cpuset")
    if usage:
        # Bytes of version 1 would need a hierarchy of their own. What init's children
        # read and wrote is known without.
        names.append("io")
    found: dict[Hierarchy, frozenset[str]] = {}
    for name in names:
        holder = layout.holder(name)
        if holder is not None:
            found[holder] = found.get(holder, frozenset()) | {name}
    return found


def cgroup_plan(
    limits: Limits,
    layout: CgroupLayout,
    name: str,
    *,
    keeper: str,
    freezable: bool = False,
    usage: bool = True,
) -> CgroupPlan:
    """
    Decide which control groups a jail gets, and what is written into them.

    Args:
        limits: What is wanted. What the layout cannot hold is left out: `enforcement`
            speaks about it.

        layout: The control groups of the machine.

        name: Name of the jail, unique below *keeper*.

        keeper: Name of the directory for all jails of one embedding program.

        freezable: The jail can be paused, and killed as a whole.

        usage: Count memory and processes even without a limit on them.

    Raises:
        SpecError: If a name cannot be that of a group.
    """
    _name(name, "name")
    _name(keeper, "keeper")
    wanted = _wanted(limits, layout, usage=usage)
    unified = layout.unified
    timed = limits.cpu_time is not None
    if unified is not None and (freezable or timed):
        # Needs no controller, costs one directory, and can be cloned into.
        wanted.setdefault(unified, frozenset())
    for controller, needed in (("cpuacct", timed), ("freezer", freezable)):
        holder = layout.holder(controller)
        if needed and unified is None and holder is not None:
            wanted[holder] = wanted.get(holder, frozenset()) | {controller}

    plan = _Draft()
    for hierarchy in layout.hierarchies:
        if hierarchy in wanted:
            plan.add(hierarchy, wanted[hierarchy], limits, f"{keeper}/{name}")
    return CgroupPlan(
        backend=layout.backend,
        dirs=tuple(plan.dirs),
        collect=tuple(plan.collect),
        live=tuple(plan.live),
        groups=tuple(plan.groups),
        clock=plan.clock,
        freezer=plan.freezer if freezable else None,
        kill=plan.kill,
    )


def keeper_dirs(layout: CgroupLayout, keeper: str) -> tuple[CgroupDir, ...]:
    """
    Decide what is made once for all jails of one embedding program.

    Plans of jails without wishes for processors then need no parent beyond these. In
    version 2 nothing else is given to children here: every controller that a group has
    makes each of its children dearer.

    Returns:
        Directories, each after its parent. All but the base of version 2 are ours:
        the keeper's may go with it, ``jailbox`` when it is empty.
    """
    _name(keeper, "keeper")
    plan = _Draft()
    for hierarchy in layout.hierarchies:
        # A cpuset of version 1 cannot be filled later than its children.
        names = {"memory", "pids", "io"}
        if hierarchy.version == 1:
            names |= {"cpu", "cpuset"}
            if layout.unified is None:
                names |= {"cpuacct", "freezer"}
        used = names.intersection(hierarchy.controllers)
        if used or hierarchy.version == 2:  # noqa: PLR2004
            plan.add(hierarchy, frozenset(used), Limits(), f"{keeper}/x")
    return tuple(d for d in plan.dirs if d.join == "no")


@attrs.define(eq=False)
class _Draft:
    """A plan while hierarchies are added to it."""

    dirs: list[CgroupDir] = attrs.field(factory=list)
    collect: list[tuple[str, str]] = attrs.field(factory=list)
    live: list[tuple[str, str]] = attrs.field(factory=list)
    groups: list[tuple[str, str]] = attrs.field(factory=list)
    clock: CpuClock | None = None
    freezer: Freezer | None = None
    kill: str | None = None

    def add(
        self,
        hierarchy: Hierarchy,
        wanted: frozenset[str],
        limits: Limits,
        relative: str,
    ) -> None:
        """Add the directories of one hierarchy."""
        top = hierarchy.parent
        if top is None:  # only usable hierarchies are wanted
            return
        keeper, _, _ = relative.partition("/")
        leaf = f"{top}/{relative}"
        if hierarchy.version == 1:
            above = v1.parent_writes(wanted, hierarchy)
            own = v1.limit_writes(limits, wanted, hierarchy)
            collects, lives = v1.collects(wanted), v1.lives(wanted)
            if "cpuacct" in wanted:
                self.clock = v1.clock(leaf)
            if "freezer" in wanted:
                self.freezer = v1.freezer(leaf)
        else:
            above = v2.subtree_control(wanted)
            own = v2.limit_writes(limits, wanted, hierarchy)
            collects, lives = v2.collects(wanted), v2.lives(wanted)
            self.clock = v2.clock(leaf)
            self.freezer = v2.freezer(leaf, hierarchy)
            self.kill = v2.kill_file(leaf, hierarchy)
            missing = v2.subtree_control(wanted - set(hierarchy.enabled))
            if missing and hierarchy.base is not None:
                self.dirs.append(CgroupDir(path=hierarchy.base, writes=missing))
        self.dirs += [
            CgroupDir(path=top, writes=above),
            CgroupDir(path=f"{top}/{keeper}", writes=above),
            CgroupDir(
                path=leaf,
                writes=own,
                join="tasks" if hierarchy.version == 1 else "into",
            ),
        ]
        label = hierarchy.version
        self.collect += [(f"{label}/{file}", f"{leaf}/{file}") for file in collects]
        self.live += [(f"{label}/{file}", f"{leaf}/{file}") for file in lives]
        self.groups += [(f"{label}/{name}", leaf) for name in sorted(wanted)]


# --- what holds, and what does not ------------------------------------------


@attrs.frozen(kw_only=True)
class Enforcement:
    """
    What holds each limit that was asked for.

    Attributes:
        backend: ``v1``, ``hybrid``, ``v2`` or ``none``.

        mechanisms: What holds it, by name of the limit; partly only, if the name is in
            *degraded* too.

        degraded: Names of limits that do not hold as promised, sorted.

        rlimits: Resource limits to set in place of groups: name (lower case) to value.
            ``nproc`` is to be set inside of the payload's user namespace.

        affinity: Processors to confine init to, in place of a cpuset; empty for no
            change.
    """

    backend: str
    mechanisms: tuple[tuple[str, Mechanism], ...] = ()
    degraded: tuple[str, ...] = ()
    rlimits: tuple[tuple[str, int], ...] = ()
    affinity: tuple[int, ...] = ()


def _refuse(protection: str, refusal: Refusal, more: str = "") -> NotEnforced:
    """Make the error for a limit that nothing holds."""
    remedy = refusal.remedy
    if refusal.cost:
        remedy += f" Its price: {refusal.cost}."
    if more:
        remedy += f" {more}"
    return NotEnforced(
        protection,
        refusal.reason,
        remedy=remedy,
        path=refusal.path,
        errno=refusal.errno,
        degrade=protection,
    )


def enforcement(
    limits: Limits,
    facts: "HostFacts",
    degrade: Iterable[str] = (),
    *,
    bounded_namespace: bool = False,
) -> Enforcement:
    """
    Say what holds each limit here, or refuse.

    Args:
        limits: What is wanted.

        facts: The machine.

        degrade: Names of limits that may be missing, or ``cgroup`` for all that groups
            would hold.

        bounded_namespace: The payload's user namespace is created by a user that
            creates no other, with ``RLIMIT_NPROC`` in force. The kernel then holds the
            number of processes for the namespace as a whole. Set only inside of it,
            the limit holds for each of its users alone, and a payload that may change
            its user escapes by doing so (tried on Linux 6.18).

    Raises:
        NotEnforced: If a limit that was asked for cannot be held, and that was not
            allowed.
    """
    allowed = frozenset(degrade)
    layout = facts.cgroups
    mechanisms: dict[str, Mechanism] = {}
    degraded: set[str] = set()
    rlimits: dict[str, int] = {}
    affinity: tuple[int, ...] = ()

    def lack(protection: str, refusal: Refusal, more: str = "") -> None:
        if protection not in allowed and "cgroup" not in allowed:
            raise _refuse(protection, refusal, more)
        degraded.add(protection)

    def refusal(controller: str) -> Refusal | None:
        return layout.refusal(controller)

    if limits.memory is not None:
        why = refusal("memory")
        if why is None:
            mechanisms["memory"] = "cgroup"
            holder = layout.holder("memory")
            if facts.swap_in_use and holder is not None and not _bounds_swap(holder):
                lack("swap", _swap_uncounted(holder))
        else:
            lack("memory", why, "With it, each process is bounded on its own.")
            mechanisms["memory"] = "rlimit"
            rlimits["data"] = limits.memory
    if limits.cpus is not None:
        why = refusal("cpu")
        if why is None:
            mechanisms["cpus"] = "cgroup"
        else:
            lack("cpus", why)
    # Neither bounds anything: they say who goes first, and need the same controllers.
    for name, controller in (("memory_reservation", "memory"), ("cpu_shares", "cpu")):
        if getattr(limits, name) is not None:
            why = refusal(controller)
            if why is None:
                mechanisms[name] = "cgroup"
            else:
                lack(name, why)
    if limits.cpuset is not None:
        why = refusal("cpuset")
        if why is None:
            mechanisms["cpuset"] = "cgroup"
        else:
            # Inherited, but any program may ask for all processors again.
            lack("cpuset", why, "With it, programs are confined unless they object.")
            mechanisms["cpuset"] = "affinity"
            affinity = parse_cpuset(limits.cpuset)
    if limits.processes is not None:
        why = refusal("pids")
        if why is None:
            mechanisms["processes"] = "cgroup"
        else:
            mechanisms["processes"] = "rlimit"
            rlimits["nproc"] = limits.processes
            if facts.id_mode != "single" and not bounded_namespace:
                if limits.processes == DEFAULT_PROCESSES:
                    # Nobody asked: the default is applied as far as it goes.
                    degraded.add("processes")
                else:
                    lack("processes", why, "With it, each user is bounded on its own.")
    if limits.cpu_time is not None:
        exact = layout.unified is not None or layout.holder("cpuacct") is not None
        mechanisms["cpu_time"] = "cgroup" if exact else "init"
    for name in ("wall", "output"):
        if getattr(limits, name) is not None:
            mechanisms[name] = "init"
    for name in ("disk", "inodes"):
        if getattr(limits, name) is not None:
            mechanisms[name] = "tmpfs"
    if layout.holder("memory") is None or layout.holder("pids") is None:
        # A bill that is an estimate says so. It stops nobody.
        degraded.add("usage")
    return Enforcement(
        backend=layout.backend,
        mechanisms=tuple(sorted(mechanisms.items())),
        degraded=tuple(sorted(degraded)),
        rlimits=tuple(sorted(rlimits.items())),
        affinity=affinity,
    )


def _bounds_swap(holder: Hierarchy) -> bool:
    """Groups of this hierarchy can be bounded in swap."""
    knobs = {1: "memory.memsw.limit_in_bytes", 2: "memory.swap.max"}
    return knobs[holder.version] in holder.knobs


def _swap_uncounted(holder: Hierarchy) -> Refusal:
    """Explain a kernel that swaps without counting."""
    knob = "memory.swap.max" if holder.version == 2 else "memory.memsw.limit_in_bytes"  # noqa: PLR2004
    return Refusal(
        reason="swap is in use, but the kernel does not count it by group",
        path=f"{holder.base}/{knob}",
        errno=errno.ENOENT,
        remedy="Boot with swapaccount=1 on the kernel's command line, or swapoff -a.",
        cost="accounting costs about 1 % of memory where it is not built in",
    )


def check_limits(limits: Limits, facts: "HostFacts") -> None:
    """
    Refuse limits that make no sense on this machine, before anything is made.

    Raises:
        SpecError: With everything that was found.
    """
    problems = []
    if limits.memory is not None and limits.memory < MEMORY_MIN:
        problems.append(
            SpecError(
                "memory",
                "is too small: starting a jail takes up to 2 MiB of it",
                value=limits.memory,
                accepted=f"at least {MEMORY_MIN} bytes ('4M')",
            )
        )
    if limits.cpuset is not None:
        holder = facts.cgroups.holder("cpuset")
        listed = holder.cpus if holder is not None else ""
        there = set(parse_cpuset(listed)) if listed else set(facts.cpus)
        absent = set(parse_cpuset(limits.cpuset)) - there
        if absent:
            problems.append(
                SpecError(
                    "cpuset",
                    f"names processors that are not here: {format_cpuset(absent)}",
                    value=limits.cpuset,
                    accepted=f"some of {format_cpuset(there)}",
                )
            )
    if problems:
        raise SpecError.several("limits", problems)


# --- changing a running jail ------------------------------------------------

_CHANGEABLE = ("memory", "swap", "cpus", "cpuset", "processes")
_SUPERVISED = ("cpu_time", "wall", "output")


def update_writes(
    plan: CgroupPlan, layout: CgroupLayout, old: Limits, new: Limits
) -> tuple[tuple[str, str], ...]:
    """
    Decide what to write to turn the limits of a running jail into others.

    ``cpu_time``, ``wall`` and ``output`` are held by supervision and may change
    without a write.

    Args:
        plan: What the jail was started with.

        layout: The control groups of the machine.

        old: The limits that hold now.

        new: The limits that shall hold.

    Returns:
        Path and value of each write, in order.

    Raises:
        SpecError: If something differs that cannot be changed in a running jail.
    """
    changed = [
        a.name
        for a in attrs.fields(Limits)
        if getattr(old, a.name) != getattr(new, a.name)
    ]
    writes: list[tuple[str, str]] = []
    if "memory" in changed or "swap" in changed:
        version, path = _running(plan, "memory", "memory")
        holder = layout.holder("memory")
        swap = holder is not None and _bounds_swap(holder)
        words = v1 if version == 1 else v2
        writes += _at(path, words.update_memory(old, new, swap=swap))
    for name in changed:
        value = getattr(new, name)
        if name == "processes":
            _, path = _running(plan, "pids", name)
            writes.append((f"{path}/pids.max", v1.tasks_value(value)))
        elif name == "cpus":
            version, path = _running(plan, "cpu", name)
            quota = None if value is None else round(value * v1.PERIOD_US)
            if version == 1:
                text = "-1" if quota is None else str(quota)
                writes.append((f"{path}/cpu.cfs_quota_us", text))
            else:
                text = f"{'max' if quota is None else quota} {v1.PERIOD_US}"
                writes.append((f"{path}/cpu.max", text))
        elif name == "cpuset":
            _, path = _running(plan, "cpuset", name)
            holder = layout.holder("cpuset")
            everything = holder.cpus if holder is not None else ""
            writes.append((f"{path}/cpuset.cpus", value or everything))
        elif name not in (*_CHANGEABLE, *_SUPERVISED):
            raise SpecError(
                name,
                "cannot be changed while the container runs",
                value=value,
                accepted=", ".join((*_CHANGEABLE, *_SUPERVISED)),
            )
    return tuple(writes)


def _at(path: str, writes: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    """Place writes in a directory."""
    return ((f"{path}/{file}", value) for file, value in writes)


def _running(plan: CgroupPlan, controller: str, name: str) -> tuple[int, str]:
    """Find the group in which a running jail can be changed."""
    group = plan.group(controller)
    if group is None:
        raise SpecError(
            name,
            "cannot be changed: the container was started without a bound on it",
            accepted=f"a container started with {name}=...",
        )
    return group


# --- reading the bill -------------------------------------------------------


def _by_version(files: Mapping[str, bytes]) -> dict[str, dict[str, bytes]]:
    """Split labels into version and file name."""
    found: dict[str, dict[str, bytes]] = {"1": {}, "2": {}}
    for label, data in files.items():
        version, _, file = label.partition("/")
        if version in found:
            found[version][file] = data
    return found


_NOTHING = CgroupReport()


def parse_collected(files: Mapping[str, bytes]) -> CgroupReport:
    """
    Read what the control groups of a jail counted.

    Args:
        files: Raw content by label of `CgroupPlan.collect`. Missing and unreadable
            ones are passed over.
    """
    split = _by_version(files)
    old = v1.parse_collected(split["1"]) if split["1"] else _NOTHING
    if not split["2"]:
        return old
    new = v2.parse_collected(split["2"])
    if not split["1"]:
        return new
    return CgroupReport(
        memory_peak=_either(new.memory_peak, old.memory_peak),
        oom_kills=new.oom_kills + old.oom_kills,
        oom_events=new.oom_events,
        processes_peak=_either(new.processes_peak, old.processes_peak),
        pids_denied=new.pids_denied + old.pids_denied,
        cpu_user=_either(new.cpu_user, old.cpu_user),
        cpu_system=_either(new.cpu_system, old.cpu_system),
        io_read=new.io_read,
        io_written=new.io_written,
        throttled=_either(new.throttled, old.throttled),
    )


def parse_stats(files: Mapping[str, bytes]) -> CgroupStats:
    """
    Read what a running jail uses now.

    Args:
        files: Raw content by label of `CgroupPlan.live`.
    """
    split = _by_version(files)
    old, new = v1.parse_live(split["1"]), v2.parse_live(split["2"])
    return CgroupStats(
        memory=_either(new.memory, old.memory),
        memory_peak=_either(new.memory_peak, old.memory_peak),
        cpu_time=_either(new.cpu_time, old.cpu_time),
        processes=_either(new.processes, old.processes),
        io_read=new.io_read,
        io_written=new.io_written,
    )


_T = TypeVar("_T")


def _either(first: _T | None, second: _T | None) -> _T | None:
    return first if first is not None else second
