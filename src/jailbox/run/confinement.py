"""
What every program of a container is confined by, decided from spec and facts.

Capabilities, the filter of system calls, Landlock, resource limits: what cannot be had
on this machine is an error, or a listed degradation where the caller allowed it.
"""

from collections.abc import Mapping
from typing import Any

import attrs

from jailbox.errors import NotEnforced
from jailbox.linux.cgroup import enforcement
from jailbox.linux.facts import HostFacts
from jailbox.linux.host import JAIL_IDS
from jailbox.linux.landlock import scope_attribute
from jailbox.linux.seccomp import Profile, default_profile, program
from jailbox.spec.capabilities import capability_mask
from jailbox.spec.command import ID_MAX
from jailbox.spec.container import ContainerSpec
from jailbox.spec.limits import Limits
from jailbox.spec.mount import Device
from jailbox.spec.security import Security

__all__ = ["Confinement", "confine"]

# Resource limits by the kernel's number (asm-generic/resource.h).
_RLIMITS = {
    "cpu": 0, "fsize": 1, "data": 2, "stack": 3, "core": 4, "rss": 5, "nproc": 6,
    "nofile": 7, "memlock": 8, "as": 9, "locks": 10, "sigpending": 11, "msgqueue": 12,
    "nice": 13, "rtprio": 14, "rttime": 15,
}  # fmt: skip
_RLIM_INFINITY = 2**64 - 1
_NOFILE_SOFT = 1024


@attrs.frozen(kw_only=True)
class Confinement:
    """
    What every program of a container is confined by.

    Attributes:
        capabilities: Mask that may ever be had.

        seccomp: The filter.

        landlock: The domain of the jail.

        no_new_privs: Setuid programs give nothing.

        rlimits: Resource limits, by number.

        affinity: A cpu mask, or nothing.

        ids: How many ids there are, from 0. With a single one groups cannot be set.

        degraded: What is missing, as was allowed.
    """

    capabilities: int
    seccomp: bytes
    landlock: bytes
    no_new_privs: bool
    rlimits: tuple[tuple[int, int, int], ...]
    affinity: bytes
    ids: int
    degraded: tuple[str, ...] = ()


def confine(spec: ContainerSpec, facts: HostFacts) -> Confinement:
    """
    Decide what confines the programs of a container.

    Raises:
        NotEnforced: If something is asked for that this machine has not got, and it
            was not allowed to be left out.
    """
    security = spec.security
    held = enforcement(spec.limits, facts, security.degrade)
    degraded = set(held.degraded)
    landlock = b""
    if security.landlock:
        found = scope_attribute(facts.landlock_abi or 0)
        if found is None:
            _lack(
                "landlock",
                "this kernel has no Landlock scopes (Linux 6.12)",
                "Use a newer kernel.",
                security,
                degraded,
            )
        landlock = found or b""
    seccomp = b""
    if security.seccomp != "unconfined":
        if facts.has_seccomp:
            seccomp = _filter(security, facts)
        else:
            _lack(
                "seccomp",
                "this kernel has no seccomp filters",
                "Use a kernel with CONFIG_SECCOMP_FILTER.",
                security,
                degraded,
            )
    if security.userns == "private" and not facts.has_user_namespaces:
        _lack(
            "userns",
            "user namespaces are switched off",
            "sysctl -w user.max_user_namespaces=10000",
            security,
            degraded,
        )
    if not facts.is_rootful and not facts.tmpfs_keeps_user_attributes:
        _lack(
            "overlay",
            "directories of an image cannot be removed: before Linux 6.6 a tmpfs "
            "cannot note for an ordinary user that they were",
            "Run as root, or use a newer kernel. With it, removing or replacing a "
            "directory of the image fails with EIO, and everything else works.",
            security,
            degraded,
        )
    for mount in spec.mounts:
        if isinstance(mount, Device) and not {"r", "w"} <= set(mount.permissions):
            _lack(
                "devices",
                f"of {mount.path} nobody can be given only {mount.permissions!r}: "
                "who sees a device may read and write it as its mode says",
                "Give both (Mount.device(path, permissions='rw')), or show a node "
                "whose own mode and owner allow the jail no more.",
                security,
                degraded,
            )
    return Confinement(
        capabilities=capability_mask(security.capabilities),
        seccomp=seccomp,
        landlock=landlock,
        no_new_privs=security.no_new_privileges,
        rlimits=_rlimits(spec.limits, facts, dict(held.rlimits)),
        affinity=_affinity(held.affinity),
        ids=_ids(security, facts),
        degraded=tuple(sorted(degraded)),
    )


def _ids(security: Security, facts: HostFacts) -> int:
    if facts.id_mode == "single":
        return 1
    return JAIL_IDS if security.userns == "private" else ID_MAX + 1


def _lack(
    name: str, reason: str, remedy: str, security: Security, degraded: set[str]
) -> None:
    if name not in security.degrade:
        raise NotEnforced(name, reason, remedy=remedy, degrade=name)
    degraded.add(name)


def _filter(security: Security, facts: HostFacts) -> bytes:
    if isinstance(security.seccomp, str):
        profile = default_profile(security.capabilities, arch=facts.arch)
    else:
        document: Mapping[str, Any] = security.seccomp
        profile = Profile.from_document(
            document,
            arch=facts.arch,
            capabilities=security.capabilities,
            kernel=facts.kernel[:2],
        )
    return program(profile)


def _rlimits(
    limits: Limits, facts: HostFacts, instead: dict[str, int]
) -> tuple[tuple[int, int, int], ...]:
    """
    Decide resource limits: what was asked for, and two defaults.

    A default is only ever lowered to what we may set, so that it never makes a start
    fail; so is what was asked for when it is above our own hard limit.
    """
    wanted: dict[str, tuple[int | None, int | None]] = dict(limits.all_rlimits())
    wanted.update({name: (value, value) for name, value in instead.items()})
    own = facts.rlimit("nofile")
    if "nofile" not in wanted and own is not None:
        wanted["nofile"] = (_NOFILE_SOFT, None if own.hard == -1 else own.hard)
    found = []
    for name, (soft, hard) in sorted(wanted.items()):
        top = facts.clamped(name, -1 if hard is None else hard)
        now = -1 if soft is None else soft
        if top != -1:
            now = top if now == -1 else min(now, top)
        found.append(
            (
                _RLIMITS[name],
                _RLIM_INFINITY if now == -1 else now,
                _RLIM_INFINITY if top == -1 else top,
            )
        )
    return tuple(found)


def _affinity(cpus: tuple[int, ...]) -> bytes:
    if not cpus:
        return b""
    mask = sum(1 << cpu for cpu in cpus)
    size = (max(cpus) // 64 + 1) * 8
    return mask.to_bytes(size, "little")
