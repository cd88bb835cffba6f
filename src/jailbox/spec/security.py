"""
What a jail may do, beyond using things up.

Wishes only: names, not masks, programs or mounts. Filters and masks are compiled from
them in `jailbox.linux`, and what a machine cannot apply is refused or degraded in
`jailbox.run.confinement`.

The defaults are those of ``docs/explanation/threat-model.md``: what programs need that
know nothing of jails, and not more.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self, TypeAlias

import attrs

from jailbox.errors import SpecError, SpecTypeError, shown
from jailbox.spec.capabilities import (
    ALL_CAPABILITIES,
    DEFAULT_CAPABILITIES,
    capability_name,
)
from jailbox.spec.checks import brief, choice, flag, mapping, several
from jailbox.spec.mapping import FrozenMap, freeze
from jailbox.spec.texts import AnyPath, absolute_path

__all__ = [
    "DEFAULT_MASKED_PATHS",
    "DEFAULT_NETWORK_SYSCTLS",
    "DEFAULT_READONLY_PATHS",
    "DEGRADABLE",
    "Security",
    "sysctl_path",
]

Seccomp: TypeAlias = Literal["default", "unconfined"] | FrozenMap[str, Any]
UserNamespace: TypeAlias = Literal["private", "host"]

DEFAULT_MASKED_PATHS: tuple[str, ...] = (
    # What Docker masks.
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    # What every peer leaves open: addresses, layout and memory of the kernel.
    "/proc/config.gz",
    "/proc/iomem",
    "/proc/ioports",
    "/proc/kallsyms",
    "/proc/key-users",
    "/proc/kmsg",
    "/proc/kpagecgroup",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/modules",
    "/proc/pagetypeinfo",
    "/proc/slabinfo",
    "/proc/vmallocinfo",
    "/sys/devices/virtual/dmi",
    "/sys/fs/bpf",
    "/sys/fs/pstore",
    "/sys/kernel/debug",
    "/sys/kernel/notes",
    "/sys/kernel/security",
    "/sys/kernel/tracing",
    "/sys/kernel/vmcoreinfo",
    "/sys/module",
)
"""Paths that look empty in a jail. Those that a kernel has not got are skipped."""

DEFAULT_READONLY_PATHS: tuple[str, ...] = (
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)
"""Paths that cannot be written to in a jail. All of ``/sys`` is read only anyway."""

DEFAULT_NETWORK_SYSCTLS: FrozenMap[str, str] = FrozenMap(
    {
        "net.ipv4.ip_unprivileged_port_start": "0",
        "net.ipv4.ping_group_range": "0 2147483647",
    }
)
"""Set in a private network: ports below 1024 and ``ping`` work without capabilities."""

DEGRADABLE: frozenset[str] = frozenset(
    {
        "cgroup",
        "cpu_shares",
        "cpu_time",
        "cpus",
        "cpuset",
        "devices",
        "disk",
        "inodes",
        "landlock",
        "masks",
        "memory",
        "memory_reservation",
        "network",
        "overlay",
        "processes",
        "rlimits",
        "seccomp",
        "swap",
        "sysctls",
        "usage",
        "userns",
    }
)
"""Every protection and limit that a caller may allow to be missing, by name."""

_ACTIONS = frozenset(
    {
        "SCMP_ACT_ALLOW",
        "SCMP_ACT_ERRNO",
        "SCMP_ACT_KILL",
        "SCMP_ACT_KILL_PROCESS",
        "SCMP_ACT_KILL_THREAD",
        "SCMP_ACT_LOG",
        "SCMP_ACT_NOTIFY",
        "SCMP_ACT_TRACE",
        "SCMP_ACT_TRAP",
    }
)


def _capabilities(value: Iterable[str]) -> frozenset[str]:
    if value is DEFAULT_CAPABILITIES:
        return DEFAULT_CAPABILITIES
    names = several(value, "capabilities", "{'CAP_CHOWN', ...}")
    return frozenset(capability_name(name, "capabilities") for name in names)


_SECCOMP_WORDS: tuple[Literal["default", "unconfined"], ...] = ("default", "unconfined")
_SECCOMP_ACCEPTED = "'default', 'unconfined', or a profile as OCI and Docker write it"


def _seccomp(value: str | Mapping[str, Any]) -> Seccomp:
    if isinstance(value, str):
        return choice(value, "seccomp", _SECCOMP_WORDS)
    given = mapping(value, "seccomp", _SECCOMP_ACCEPTED)
    try:
        profile: FrozenMap[str, Any] = freeze(given)
        hash(profile)
    except (RecursionError, TypeError):
        raise SpecTypeError(
            "seccomp", "is not a JSON document", accepted=_SECCOMP_ACCEPTED
        ) from None
    _check_profile(profile)
    return profile


def _check_profile(profile: FrozenMap[str, Any]) -> None:
    """Check what every profile has; names of calls are for the compiler to judge."""
    _check_action(profile.get("defaultAction"), "seccomp['defaultAction']")
    rules = profile.get("syscalls", ())
    if not isinstance(rules, tuple):
        raise SpecTypeError(
            "seccomp['syscalls']", "is not a list", value=rules, accepted="a list"
        )
    for number, rule in enumerate(rules):
        place = f"seccomp['syscalls'][{number}]"
        if not isinstance(rule, FrozenMap):
            raise SpecTypeError(
                place, "is not a rule", value=rule, accepted="names, action, args"
            )
        # Profiles of 2016 have one "name" in place of "names".
        names = rule.get("names", (rule.get("name"),))
        if not isinstance(names, tuple) or not all(isinstance(n, str) for n in names):
            raise SpecTypeError(
                f"{place}['names']", "is not a list of names", value=names
            )
        _check_action(rule.get("action"), f"{place}['action']")


def _check_action(action: object, place: str) -> None:
    if not isinstance(action, str) or action not in _ACTIONS:
        raise SpecError(
            place,
            "is not an action",
            value=action,
            accepted=", ".join(sorted(_ACTIONS)),
        )


def _inner_paths(value: Iterable[AnyPath], argument: str) -> tuple[str, ...]:
    given = several(value, argument, "('/proc/x', ...)")
    paths = dict.fromkeys(absolute_path(path, argument) for path in given)
    for path in paths:
        if path == "/" or ".." in path.split("/"):
            raise SpecError(
                argument,
                "cannot be masked",
                value=path,
                accepted="absolute paths other than /, without '..'",
            )
    return tuple(paths)


def _masked(value: Iterable[AnyPath]) -> tuple[str, ...]:
    if value is DEFAULT_MASKED_PATHS:
        return DEFAULT_MASKED_PATHS
    return _inner_paths(value, "masked_paths")


def _readonly(value: Iterable[AnyPath]) -> tuple[str, ...]:
    if value is DEFAULT_READONLY_PATHS:
        return DEFAULT_READONLY_PATHS
    return _inner_paths(value, "readonly_paths")


# Only what belongs to a namespace of the jail. Anything else would be the host's.
_SYSCTL_ALLOWED = re.compile(
    r"net/.+|kernel/(?:shm[a-z_]*|msg[a-z_]*|sem|hostname)|fs/mqueue/.+"
)
_SYSCTL_KEY = re.compile(r"[a-z0-9_./-]{1,255}")
_SYSCTL_VALUE = re.compile(r"[ \t!-*,-~]{1,4096}")  # printable ASCII without "+"
_SYSCTL_ACCEPTED = "net.*, kernel.shm*, kernel.msg*, kernel.sem, fs.mqueue.*"


def sysctl_path(key: str) -> str:
    """
    Find the file of a kernel setting, below ``/proc/sys``.

    As *sysctl(8)* reads it: the first separator decides, and the other one stands for
    itself the other way round.

    >>> sysctl_path("net.ipv4.conf.eth0/1.forwarding")
    'net/ipv4/conf/eth0.1/forwarding'

    Raises:
        SpecError: If the key is malformed or not a setting of a jail's own.
    """
    if not isinstance(key, str):
        raise SpecTypeError(
            "sysctls", "has a key that is no text", value=key, accepted=_SYSCTL_ACCEPTED
        )
    path = key
    if "." in key.partition("/")[0]:
        path = key.translate({ord("."): "/", ord("/"): "."})
    segments = path.split("/")
    if (
        not _SYSCTL_KEY.fullmatch(key)
        or any(segment in ("", ".", "..") for segment in segments)
        or not _SYSCTL_ALLOWED.fullmatch(path)
    ):
        raise SpecError(
            "sysctls", "has a key that is refused", value=key, accepted=_SYSCTL_ACCEPTED
        )
    return path


def _sysctls(value: Mapping[str, str | int]) -> FrozenMap[str, str]:
    settings: dict[str, str] = {}
    paths: set[str] = set()
    for key, setting in mapping(value, "sysctls", "{'key': 'value'}").items():
        path = sysctl_path(key)
        argument = f"sysctls[{shown(key)}]"
        if path in paths:
            raise SpecError(argument, "is given twice")
        paths.add(path)
        if isinstance(setting, bool) or not isinstance(setting, str | int):
            raise SpecTypeError(
                argument, "is not a setting", value=setting, accepted="str or int"
            )
        # Bounded before it is printed: Python refuses to print very long numbers.
        number = isinstance(setting, int) and abs(setting) < 2**64
        text = str(int(setting)) if number else setting
        if not isinstance(text, str) or not _SYSCTL_VALUE.fullmatch(text):
            raise SpecError(
                argument,
                "is refused",
                value=setting,
                accepted="printable ASCII on one line, without '+'",
            )
        settings[key] = text
    return FrozenMap(settings)


def _degrade(value: Iterable[str]) -> frozenset[str]:
    names = several(value, "degrade", "{'landlock', ...}")
    for name in names:
        if not isinstance(name, str) or name not in DEGRADABLE:
            raise SpecError(
                "degrade",
                "has nothing that can be missing",
                value=name,
                accepted=", ".join(sorted(DEGRADABLE)),
            )
    return frozenset(names)


_USERNS: tuple[UserNamespace, ...] = ("private", "host")


def _userns(value: UserNamespace) -> UserNamespace:
    return choice(value, "userns", _USERNS)


def _sorted_repr(names: frozenset[str]) -> str:
    # Sets print in another order in every process; golden files want one.
    return repr(tuple(sorted(names)))


@attrs.frozen(kw_only=True, repr=False, cache_hash=True)
class Security:
    """
    What a jail may do.

    >>> Security().dropping("ALL")
    Security(capabilities=())

    The default lets ordinary programs work, root inside of the jail included.
    `strict` takes away everything that can be, `trusted` gives most of it back.

    Attributes:
        capabilities: What root in the jail keeps, as ``CAP_`` names. Other users have
            none.

        seccomp: ``default``, ``unconfined``, or a profile in the JSON shape of OCI and
            Docker.

        no_new_privileges: Whether setuid programs and file capabilities give nothing.

        landlock: Whether abstract sockets and signals are confined by Landlock too.
            Kernels before 6.12 cannot; by default that is allowed (*degrade*).

        userns: ``private`` for a user namespace with ids of its own; ``host`` for
            none: root in the jail is then root of the host.

        masked_paths: Paths that look empty.

        readonly_paths: Paths that cannot be written to.

        sysctls: Kernel settings of the jail's own namespaces.

        degrade: Names out of `DEGRADABLE` that may be missing where a machine cannot
            apply them. They are then listed in ``Result.degraded``.
    """

    capabilities: frozenset[str] = attrs.field(
        default=DEFAULT_CAPABILITIES, converter=_capabilities, repr=_sorted_repr
    )
    seccomp: Seccomp = attrs.field(default="default", converter=_seccomp)
    no_new_privileges: bool = attrs.field(default=True, validator=flag)
    landlock: bool = attrs.field(default=True, validator=flag)
    userns: UserNamespace = attrs.field(default="private", converter=_userns)
    masked_paths: tuple[str, ...] = attrs.field(
        default=DEFAULT_MASKED_PATHS, converter=_masked
    )
    readonly_paths: tuple[str, ...] = attrs.field(
        default=DEFAULT_READONLY_PATHS, converter=_readonly
    )
    sysctls: FrozenMap[str, str] = attrs.field(factory=FrozenMap, converter=_sysctls)
    degrade: frozenset[str] = attrs.field(
        default=frozenset({"landlock"}), converter=_degrade, repr=_sorted_repr
    )

    def __repr__(self) -> str:
        return f"Security({', '.join(brief(self, DEFAULT_SECURITY))})"

    @classmethod
    def default(cls) -> Self:
        """What a jail gets that asks for nothing."""
        return cls()

    @classmethod
    def strict(cls) -> Self:
        """
        Take away what can be: no capabilities, and nothing may be missing.

        Programs that change users or owners, such as package managers, do not work.
        """
        return cls(capabilities=(), degrade=())

    @classmethod
    def trusted(cls) -> Self:
        """
        Believe the program: the jail keeps things apart, and defends nothing.

        All capabilities within the user namespace, no filter of system calls, setuid
        programs work, nothing is masked.
        """
        return cls(
            capabilities=ALL_CAPABILITIES,
            seccomp="unconfined",
            no_new_privileges=False,
            landlock=False,
            masked_paths=(),
            readonly_paths=(),
        )

    def adding(self, *capabilities: str) -> Self:
        """Keep more capabilities; ``"ALL"`` for every one."""
        return attrs.evolve(
            self, capabilities=self.capabilities | _listed(capabilities)
        )

    def dropping(self, *capabilities: str) -> Self:
        """Keep fewer capabilities; ``"ALL"`` for none."""
        return attrs.evolve(
            self, capabilities=self.capabilities - _listed(capabilities)
        )

    def unmasking(self, *paths: AnyPath) -> Self:
        """
        Show paths that are masked, and make those writable that are read only.

        Raises:
            SpecError: If a path is neither, so that a typing error is not a silent one.
        """
        shown_paths = set(_inner_paths(paths, "paths"))
        for path in sorted(shown_paths):
            if path not in self.masked_paths and path not in self.readonly_paths:
                raise SpecError(
                    "paths", "is neither masked nor read only here", value=path
                )
        return attrs.evolve(
            self,
            masked_paths=tuple(p for p in self.masked_paths if p not in shown_paths),
            readonly_paths=tuple(
                p for p in self.readonly_paths if p not in shown_paths
            ),
        )

    def degrading(self, *names: str) -> Self:
        """Allow more to be missing: names out of `DEGRADABLE`."""
        return attrs.evolve(self, degrade=self.degrade | _degrade(names))

    def loosened(self) -> tuple[str, ...]:
        """Say what is weaker than the default, one line each; for logs, reviews."""
        usual = DEFAULT_SECURITY
        lines = [
            f"keeps {name}" for name in sorted(self.capabilities - usual.capabilities)
        ]
        if self.seccomp == "unconfined":
            lines.append("no filter of system calls")
        elif self.seccomp != "default":
            lines.append("a filter of system calls of its own")
        if not self.no_new_privileges:
            lines.append("setuid programs gain privileges")
        if not self.landlock:
            lines.append("no Landlock")
        if self.userns == "host":
            lines.append("ids of the host: root in the jail is root")
        lines += [
            f"shows {p}" for p in usual.masked_paths if p not in self.masked_paths
        ]
        lines += [
            f"can write {p}"
            for p in usual.readonly_paths
            if p not in (*self.readonly_paths, *self.masked_paths)
        ]
        lines += [f"may miss {name}" for name in sorted(self.degrade - usual.degrade)]
        return tuple(lines)


def _listed(names: tuple[str, ...]) -> frozenset[str]:
    return ALL_CAPABILITIES if "ALL" in names else _capabilities(names)


DEFAULT_SECURITY = Security()
"""The one value for every jail that asks for nothing, so that caches meet it again."""
