"""
How much a jail may use.

Wishes only. Which of them a machine can enforce, and how, is decided in
`jailbox.run.compile`; a limit that cannot be enforced there is an error or an allowed
degradation, never silence.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import TypeAlias

import attrs

from jailbox.errors import SpecError, SpecTypeError
from jailbox.spec.checks import brief, mapping, several, whole
from jailbox.spec.mapping import FrozenMap
from jailbox.spec.units import format_size, parse_duration, parse_size

__all__ = [
    "CPUS_MAX",
    "DEFAULT_LIMITS",
    "DEFAULT_PROCESSES",
    "MEMORY_MIN",
    "RLIMIT_NAMES",
    "UNLIMITED",
    "Limits",
    "Rlimit",
    "format_cpuset",
    "parse_cpuset",
]

Rlimit: TypeAlias = tuple[int | None, int | None]
"""A soft and a hard limit; ``None`` is unlimited."""

UNLIMITED: Rlimit = (None, None)

RLIMIT_NAMES: frozenset[str] = frozenset(
    {
        "as",
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    }
)
"""Every resource limit of Linux, as in OCI but lower case and without ``RLIMIT_``."""

# Fields that are resource limits of their own; giving both would be two answers.
_RLIMIT_FIELDS = {
    "open_files": "nofile",
    "file_size": "fsize",
    "core": "core",
    "stack": "stack",
}

DEFAULT_PROCESSES = 2048
"""As Podman: far above what programs need, far below what hurts a host."""

CPUS_MAX = 8192
"""The most processors a Linux kernel can be built for."""

CPUS_MIN = 0.01
"""The kernel counts in parts of a period of 100 ms, of which 1 ms is the least."""

MEMORY_MIN = 1 << 20
"""Below one MiB not even a static program starts."""

_PROCESSES_MAX = 1 << 22  # the kernel's own bound of pid_max
_OPEN_FILES_MAX = 1 << 30  # the same of nr_open
_STACK_MIN = 1 << 16
_COUNT_MAX = 2**63 - 1


def _size(
    value: int | str | None, argument: str, minimum: int, why: str = ""
) -> int | None:
    if value is None:
        return None
    size = parse_size(value, argument)
    if size < minimum:
        raise SpecError(
            argument,
            "is too small",
            value=value,
            accepted=f"at least {minimum} bytes{why}",
        )
    return size


def _count(value: int | None, argument: str, minimum: int, maximum: int) -> int | None:
    if value is None:
        return None
    accepted = f"an int from {minimum} to {maximum}, or None"
    return whole(value, argument, minimum, maximum, accepted)


def _seconds(value: float | timedelta | None, argument: str) -> float | None:
    if value is None:
        return None
    seconds = parse_duration(value, argument)
    if seconds == 0:
        raise SpecError(
            argument, "is zero", value=value, accepted="more than 0 seconds, or None"
        )
    return seconds


# attrs and mypy want one named function for each field.


def _memory(value: int | str | None) -> int | None:
    return _size(value, "memory", MEMORY_MIN, ": nothing starts in less")


def _memory_reservation(value: int | str | None) -> int | None:
    return _size(value, "memory_reservation", 1)


def _cpu_shares(value: int | None) -> int | None:
    return _count(value, "cpu_shares", 2, 1 << 18)


def _shm(value: int | str | None) -> int | None:
    return _size(value, "shm", 1)


def _oom_score_adj(value: int | None) -> int | None:
    return _count(value, "oom_score_adj", -1000, 1000)


def _swap(value: int | str | None) -> int | None:
    return _size(value, "swap", 0)


def _cpus(value: float | None) -> float | None:
    return None if value is None else _processors(value)


def _processors(value: object) -> float:
    accepted = f"a number of processors from {CPUS_MIN} to {CPUS_MAX}, or None"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SpecTypeError("cpus", "is not a number", value=value, accepted=accepted)
    # NaN fails every comparison, so it is refused here too.
    if not CPUS_MIN <= value <= CPUS_MAX:
        raise SpecError("cpus", "is out of range", value=value, accepted=accepted)
    return float(value)


def _cpu_time(value: float | timedelta | None) -> float | None:
    return _seconds(value, "cpu_time")


def _wall(value: float | timedelta | None) -> float | None:
    return _seconds(value, "wall")


def _processes(value: int | None) -> int | None:
    return _count(value, "processes", 1, _PROCESSES_MAX)


def _disk(value: int | str | None) -> int | None:
    return _size(value, "disk", 1)


def _inodes(value: int | None) -> int | None:
    return _count(value, "inodes", 1, _COUNT_MAX)


def _output(value: int | str | None) -> int | None:
    return _size(value, "output", 0)


def _open_files(value: int | None) -> int | None:
    return _count(value, "open_files", 3, _OPEN_FILES_MAX)


def _file_size(value: int | str | None) -> int | None:
    return _size(value, "file_size", 0)


def _core(value: int | str | None) -> int | None:
    return _size(value, "core", 0)


def _stack(value: int | str | None) -> int | None:
    return _size(value, "stack", _STACK_MIN)


_CPUSET_ACCEPTED = f"numbers and ranges below {CPUS_MAX} such as '0-3,5'"
_CPUSET_PART = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")


def parse_cpuset(value: str | Iterable[int]) -> tuple[int, ...]:
    """
    Read a set of processors: ``"0-3,5"`` or their numbers.

    Returns:
        The numbers, ascending, each once.

    Raises:
        SpecError: If it is none, empty, or names a processor no kernel can have.
    """
    numbers: set[int] = set()
    if isinstance(value, str):
        for part in value.split(","):
            match = _CPUSET_PART.fullmatch(part)
            first = int(match[1]) if match else -1
            last = int(match[2] or match[1]) if match else -1
            if not 0 <= first <= last < CPUS_MAX:
                raise SpecError(
                    "cpuset",
                    "is not a set of processors",
                    value=value,
                    accepted=_CPUSET_ACCEPTED,
                )
            numbers.update(range(first, last + 1))
        return tuple(sorted(numbers))
    for number in several(value, "cpuset", _CPUSET_ACCEPTED):
        numbers.add(whole(number, "cpuset", 0, CPUS_MAX - 1, _CPUSET_ACCEPTED))
    if not numbers:
        raise SpecError("cpuset", "is empty", accepted=_CPUSET_ACCEPTED)
    return tuple(sorted(numbers))


def format_cpuset(numbers: Iterable[int]) -> str:
    """Print processors in the kernel's list format, ascending: ``0-3,5``."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in runs)


def _cpuset(value: str | Iterable[int] | None) -> str | None:
    return None if value is None else format_cpuset(parse_cpuset(value))


def _rlimit_part(value: int | str | None, argument: str) -> int | None:
    if value is None or value == "unlimited":
        return None
    return parse_size(value, argument)


def _rlimit(value: object, argument: str) -> Rlimit:
    """Read (soft, hard), or one value for both."""
    pair = tuple(value) if isinstance(value, tuple | list) else (value, value)
    try:
        soft, hard = pair
    except ValueError:
        raise SpecError(
            argument, "is not a pair", value=value, accepted="(soft, hard)"
        ) from None
    soft, hard = _rlimit_part(soft, argument), _rlimit_part(hard, argument)
    if hard is not None and (soft is None or soft > hard):
        raise SpecError(
            argument,
            "has a soft limit above the hard one",
            value=value,
            accepted="soft <= hard",
        )
    return soft, hard


def _rlimits(value: Mapping[str, object] | None) -> FrozenMap[str, Rlimit]:
    if value is None or value is _NO_RLIMITS:
        return _NO_RLIMITS
    limits: dict[str, Rlimit] = {}
    for given, pair in mapping(value, "rlimits", "{'memlock': (0, 0)}").items():
        name = given.lower().removeprefix("rlimit_") if isinstance(given, str) else ""
        if name not in RLIMIT_NAMES:
            raise SpecError(
                "rlimits",
                "has an unknown name",
                value=given,
                accepted=", ".join(sorted(RLIMIT_NAMES)),
            )
        argument = f"rlimits[{name!r}]"
        if name in limits:
            raise SpecError(argument, "is given twice")
        limits[name] = _rlimit(pair, argument)
    return FrozenMap(limits)


_NO_RLIMITS: FrozenMap[str, Rlimit] = FrozenMap()


def _size_repr(size: int | None) -> str:
    """Print a size as people write it, if that loses nothing."""
    if size is None or size < 1 << 10:
        return repr(size)
    text = format_size(size)
    return repr(size if "." in text else text)


@attrs.frozen(kw_only=True, repr=False, cache_hash=True)
class Limits:
    """
    How much a jail may use: all its processes together, unless said otherwise.

    >>> Limits(memory="256M", cpu_time=2, processes=32)
    Limits(memory='256 MiB', cpu_time=2.0, processes=32)
    >>> Limits(memory="256M").memory
    268435456

    ``None`` means no bound of ours. Derive with ``attrs.evolve``.

    Attributes:
        memory: Bytes of memory, page cache of the jail included. Past it the kernel
            kills the jail; the verdict is ``memory``.

        memory_reservation: Bytes that the kernel leaves to it when memory is short,
            as far as it can. No bound.

        swap: Bytes of swap *beyond* memory. ``None`` with a memory limit means none.

        cpus: How many processors' worth of time per time: ``0.5`` is half of one.

        cpu_shares: Its weight against other groups when processors are short: 2 to
            262144, where 1024 is usual.

        cpuset: Which processors, in the kernel's list format: ``0-3,5``.

        cpu_time: Seconds of processor time, summed over the whole tree and its past.

        wall: Seconds from start to end, however they are spent.

        processes: Processes and threads at the same time.

        disk: Bytes of the writable layer.

        inodes: Files in the writable layer.

        shm: Bytes of ``/dev/shm``; ``None`` for 64 MiB.

        oom_score_adj: How willingly the kernel ends its programs when memory of the
            whole machine is short: -1000 to 1000. Less than the caller's own needs
            the right to.

        output: Bytes on one of stdout and stderr, past which the program is ended
            with the verdict ``output``. To cut off and let it run is ``max_output``.

        open_files: Descriptors of one process. ``None``: soft 1024, hard as here.

        file_size: Bytes of one file that a process writes.

        core: Bytes of a core dump; 0 for none at all.

        stack: Bytes of a process' stack.

        rlimits: Other resource limits, name to (soft, hard): ``{"memlock": (0, 0)}``.
    """

    memory: int | None = attrs.field(default=None, converter=_memory, repr=_size_repr)
    memory_reservation: int | None = attrs.field(
        default=None, converter=_memory_reservation, repr=_size_repr
    )
    swap: int | None = attrs.field(default=None, converter=_swap, repr=_size_repr)
    cpus: float | None = attrs.field(default=None, converter=_cpus)
    cpu_shares: int | None = attrs.field(default=None, converter=_cpu_shares)
    cpuset: str | None = attrs.field(default=None, converter=_cpuset)
    cpu_time: float | None = attrs.field(default=None, converter=_cpu_time)
    wall: float | None = attrs.field(default=None, converter=_wall)
    processes: int | None = attrs.field(default=DEFAULT_PROCESSES, converter=_processes)
    disk: int | None = attrs.field(default=None, converter=_disk, repr=_size_repr)
    inodes: int | None = attrs.field(default=None, converter=_inodes)
    shm: int | None = attrs.field(default=None, converter=_shm, repr=_size_repr)
    oom_score_adj: int | None = attrs.field(default=None, converter=_oom_score_adj)
    output: int | None = attrs.field(default=None, converter=_output, repr=_size_repr)
    open_files: int | None = attrs.field(default=None, converter=_open_files)
    file_size: int | None = attrs.field(
        default=None, converter=_file_size, repr=_size_repr
    )
    core: int | None = attrs.field(default=0, converter=_core, repr=_size_repr)
    stack: int | None = attrs.field(default=None, converter=_stack, repr=_size_repr)
    rlimits: FrozenMap[str, Rlimit] = attrs.field(
        default=_NO_RLIMITS, converter=_rlimits
    )

    def __attrs_post_init__(self) -> None:
        reserved = self.memory_reservation
        bound = self.memory
        if reserved is not None and bound is not None and reserved > bound:
            raise SpecError(
                "memory_reservation",
                "is more than the limit",
                value=reserved,
                accepted=f"at most memory, {bound}",
            )
        if self.swap is not None and self.memory is None:
            raise SpecError(
                "swap",
                "needs a memory limit",
                value=self.swap,
                accepted="swap together with memory",
            )
        if self.rlimits:
            for field, name in _RLIMIT_FIELDS.items():
                # core has a default, which an entry in rlimits replaces.
                given = getattr(self, field) not in (None, 0)
                if given and name in self.rlimits:
                    raise SpecError(
                        f"rlimits[{name!r}]",
                        f"is also given as {field}",
                        accepted=f"either {field} or rlimits",
                    )

    def __repr__(self) -> str:
        return f"Limits({', '.join(brief(self, DEFAULT_LIMITS))})"

    @property
    def extra_swap(self) -> int | None:
        """Bytes of swap beyond memory: 0 if memory is bounded and swap not given."""
        return 0 if self.swap is None and self.memory is not None else self.swap

    def all_rlimits(self) -> FrozenMap[str, Rlimit]:
        """Every resource limit that was asked for, named fields included."""
        limits: dict[str, Rlimit] = {}
        for field, name in _RLIMIT_FIELDS.items():
            value = getattr(self, field)
            if value is not None:
                limits[name] = (value, value)
        return FrozenMap(limits | dict(self.rlimits))


DEFAULT_LIMITS = Limits()
"""The limits of a jail for which none were given."""
