"""
What a jail's control groups shall be, as values that can be sent and printed.

A `CgroupPlan` names directories to make, files to write, ways to join, and files to
read while the jail runs and after it has ended. Whoever obeys it needs to know nothing
about versions. A `CgroupReport` is what the files said at the end.

Not for deciding what goes into a plan: `plan` does, with the words of `v1` and `v2`.
"""

from typing import Literal

import attrs

from jailbox.linux.cgroup.detect import Kind

__all__ = [
    "CgroupDir",
    "CgroupPlan",
    "CgroupReport",
    "CgroupStats",
    "CpuClock",
    "Freezer",
    "Join",
]

Join = Literal["no", "tasks", "into"]
"""How the first process of the jail gets into a directory: not at all; it writes ``0``
to ``tasks`` itself, which costs 10 us (``cgroup.procs`` costs 6 to 12 ms, for a lock
over all processes of the machine); or it is born there (``CLONE_INTO_CGROUP``)."""

Named = tuple[tuple[str, str], ...]
"""Paths by label."""


@attrs.frozen(kw_only=True)
class CgroupDir:
    """
    One directory to make.

    Attributes:
        path: Absolute path.

        writes: Names of files in it and what to write to them, in order.

        join: How the jail gets into it. A directory with ``no`` is a parent: it may
            exist already and stays. The others must be new, for a group of that name
            that is there already may be frozen, full or somebody else's.
    """

    path: str
    writes: tuple[tuple[str, str], ...] = ()
    join: Join = "no"


@attrs.frozen
class CpuClock:
    """
    Where the processor time of the whole jail can be read, its dead included.

    Attributes:
        path: The file.

        unit: What it holds: one number of nanoseconds (``ns``), or lines among which
            ``usage_usec`` counts microseconds (``stat``).
    """

    path: str
    unit: Literal["ns", "stat"]


@attrs.frozen(kw_only=True)
class Freezer:
    """
    How to pause and resume.

    Attributes:
        path: The file to write.

        freeze: What to write to pause.

        thaw: What to write to resume.

        state: The file that tells when it is done.

        frozen: The line to wait for in it.

        killable: A frozen process dies of SIGKILL. Where not, thaw after killing.
    """

    path: str
    freeze: str
    thaw: str
    state: str
    frozen: str
    killable: bool


@attrs.frozen(kw_only=True)
class CgroupPlan:
    """
    All control groups of one jail.

    Attributes:
        backend: ``v1``, ``hybrid``, ``v2``; ``none`` if there is nothing to make.

        dirs: Directories, each after its parent. Removed in reverse, those that were
            joined only.

        collect: Files to read after the last process is gone and before the
            directories go, by label. One that is missing (older kernels lack some
            peaks) is left out of the answer.

        live: Files to read while the jail runs, by label.

        groups: The directory of the jail for each controller, with its version before
            a slash: ``1/memory``.

        clock: Where processor time is read, if anywhere.

        freezer: How to pause, if asked for and possible.

        kill: The file to which ``1`` is written to kill everything at once, if any.
    """

    backend: Kind
    dirs: tuple[CgroupDir, ...] = ()
    collect: Named = ()
    live: Named = ()
    groups: Named = ()
    clock: CpuClock | None = None
    freezer: Freezer | None = None
    kill: str | None = None

    @property
    def parents(self) -> tuple[CgroupDir, ...]:
        """The directories that outlive the jail."""
        return tuple(d for d in self.dirs if d.join == "no")

    @property
    def leaves(self) -> tuple[CgroupDir, ...]:
        """The directories of this jail alone."""
        return tuple(d for d in self.dirs if d.join != "no")

    def without(self, done: frozenset[CgroupDir]) -> "CgroupPlan":
        """
        Leave out parents that were made already, as they are planned here.

        Keeps them off the path of every start but the first: making one that exists
        and writing what it holds costs 5 to 10 us for each call.
        """
        dirs = tuple(d for d in self.dirs if d.join != "no" or d not in done)
        return self if dirs == self.dirs else attrs.evolve(self, dirs=dirs)

    def located(self, path: str) -> tuple[int, str]:
        """
        Find a file of `collect`, `live`, `clock`, ... in the jail's directories.

        Returns:
            Index into `leaves`, and the name of the file in that directory.
        """
        directory, _, file = path.rpartition("/")
        for index, leaf in enumerate(self.leaves):
            if leaf.path == directory:
                return index, file
        raise KeyError(path)

    def group(self, controller: str) -> tuple[int, str] | None:
        """Find version and directory of the jail's group for *controller*."""
        for label, path in self.groups:
            version, _, name = label.partition("/")
            if name == controller:
                return int(version), path
        return None

    def describe(self) -> str:
        """Tell the plan in lines: dry run, log and golden file."""
        lines = [f"backend {self.backend}"]
        for directory in self.dirs:
            how = {
                "no": "mkdir",
                "tasks": "mkdir, join by tasks",
                "into": "mkdir, clone into",
            }
            lines.append(f"{how[directory.join]} {directory.path}")
            lines += [f"  {file} = {value}" for file, value in directory.writes]
        lines += [f"collect {label} {path}" for label, path in self.collect]
        lines += [f"live {label} {path}" for label, path in self.live]
        if self.clock is not None:
            lines.append(f"clock ({self.clock.unit}) {self.clock.path}")
        if self.freezer is not None:
            lines.append(f"freeze {self.freezer.path} = {self.freezer.freeze}")
        if self.kill is not None:
            lines.append(f"kill {self.kill} = 1")
        return "\n".join(lines)


@attrs.frozen(kw_only=True)
class CgroupReport:
    """
    What the control groups counted over the life of a jail.

    ``None`` is what was not counted; take it from elsewhere.

    Attributes:
        memory_peak: Most memory at a time, in bytes, page cache included.

        oom_kills: Processes that the kernel killed for want of memory.

        oom_events: How often the jail's own limit was at fault, where the kernel tells
            it apart from a shortage of the whole machine (version 2).

        processes_peak: Most processes and threads at a time, without our init.

        pids_denied: Forks refused by the limit.

        cpu_user: Seconds of processor time in programs.

        cpu_system: The same in the kernel.

        io_read: Bytes read from block devices.

        io_written: Bytes written to block devices.

        throttled: Seconds in which the jail waited for its share of the processors.
    """

    memory_peak: int | None = None
    oom_kills: int = 0
    oom_events: int | None = None
    processes_peak: int | None = None
    pids_denied: int = 0
    cpu_user: float | None = None
    cpu_system: float | None = None
    io_read: int | None = None
    io_written: int | None = None
    throttled: float | None = None

    def ran_out_of_memory(self, limit: int | None) -> bool:
        """
        Say whether the jail's own memory *limit* made the kernel kill.

        A kill for a shortage of the whole machine, or by somebody's SIGKILL, is none.
        """
        if limit is None or not self.oom_kills:
            return False
        if self.oom_events is not None:
            return self.oom_events > 0
        # Version 1 does not say whose shortage it was, but its peak does: charges
        # come in batches of up to 64 pages for each processor.
        return self.memory_peak is None or self.memory_peak >= limit - limit // 8


@attrs.frozen(kw_only=True)
class CgroupStats:
    """
    One look at a running jail. ``None`` is what its groups do not count.

    Attributes:
        memory: Bytes in use, page cache included.

        memory_peak: The most so far.

        cpu_time: Seconds of processor time so far.

        processes: Processes and threads now, without our init.

        io_read: Bytes read from block devices so far.

        io_written: Bytes written to block devices so far.
    """

    memory: int | None = None
    memory_peak: int | None = None
    cpu_time: float | None = None
    processes: int | None = None
    io_read: int | None = None
    io_written: int | None = None
