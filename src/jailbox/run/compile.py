"""
Spec and facts become a plan. Nothing is touched.

Everything that a jail is made of is decided here, once, and the plan of equal specs is
equal: `jailbox.engine.local` keeps it. What confines its programs is decided in
`jailbox.run.confinement`, and how its root is put together in `jailbox.run.assembly`.
"""

import posixpath
from collections.abc import Iterable

import attrs

from jailbox.errors import NotEnforced, SpecError, Unsupported
from jailbox.linux.cgroup import CgroupPlan, cgroup_plan, check_limits
from jailbox.linux.cgroup.plan import keeper_dirs
from jailbox.linux.facts import HostFacts
from jailbox.linux.plan import (
    CLONE_NEWCGROUP,
    Attach,
    Collect,
    Group,
    LaunchPlan,
    Program,
)
from jailbox.run.assembly import root_ops
from jailbox.run.confinement import Confinement, confine
from jailbox.run.names import name_files
from jailbox.run.overlays import Lowers, Slots
from jailbox.run.rootfs import Rootfs
from jailbox.run.users import Identity
from jailbox.spec.container import ContainerSpec, ProgramSpec
from jailbox.spec.image import DEFAULT_PATH
from jailbox.spec.network import Network

__all__ = ["PLACEHOLDER", "Compiled", "compile_container", "compile_program"]

PLACEHOLDER = "jail"
"""Stands for the name of a jail in the paths of its groups while a plan is made."""


@attrs.frozen(kw_only=True)
class Compiled:
    """
    What a container is, decided.

    Attributes:
        plan: What the kernel is told.

        cgroups: Its control groups, with `PLACEHOLDER` for its name.

        security: What holds for every program of it, as bytes and masks.
    """

    plan: LaunchPlan
    cgroups: CgroupPlan
    security: Confinement

    @property
    def mount_points(self) -> frozenset[str]:
        """Where something is mounted that may not have been there: absolute paths."""
        attached = (op for op in self.plan.ops if isinstance(op, Attach) and op.make)
        return frozenset(posixpath.join("/", op.path) for op in attached)


def compile_container(
    spec: ContainerSpec,
    facts: HostFacts,
    rootfs: Rootfs,
    *,
    keeper: str,
    prepared: int | None,
    hostname: str,
    stack: int | None = None,
    keep_layer: bool = False,
    reuse: bool = False,
    given: bool = False,
    past: int = 0,
) -> Compiled:
    """
    Decide everything about a container but its main program.

    Args:
        spec: What is wanted; checked.

        facts: The machine.

        rootfs: What the root is put together from.

        keeper: Name of the keeper, below which control groups are made.

        prepared: Number of the prepared layer of *rootfs*; with ``None`` it is built
            anew.

        hostname: The host name that it gets.

        stack: Number of the prepared layers of *rootfs*; ``None`` takes them one by
            one.

        keep_layer: The writable layer outlasts the jail.

        reuse: The layer is one from an earlier start.

        given: The layer is a directory of the caller's, whose files belong to the ids
            of the image.

        past: How many layers of a time that is over lie above those of *rootfs*.

    Raises:
        NotEnforced: If a protection or limit cannot be applied here, and that was not
            allowed.

        Unsupported: If the machine lacks something without which there is no jail.
    """
    _require(facts)
    check_limits(spec.limits, facts)
    confinement = confine(spec, facts)
    cgroups = cgroup_plan(
        spec.limits, facts.cgroups, PLACEHOLDER, keeper=keeper, freezable=keep_layer
    ).without(frozenset(keeper_dirs(facts.cgroups, keeper)))
    slots = Slots()
    lowers = Lowers(prepared, stack, compare=keep_layer, past=past)
    names = _name_files(spec, rootfs, hostname)
    layer = root_ops(
        slots, spec, facts, rootfs, lowers, names, reuse=reuse, given=given
    )
    groups, collect = _groups(cgroups)
    clock_group, clock_file = _clock(cgroups)
    stat = cgroups.clock is not None and cgroups.clock.unit == "stat"
    plan = LaunchPlan(
        namespaces=CLONE_NEWCGROUP,
        network=spec.network.private,
        userns=spec.security.userns == "private",
        groups=groups,
        collect=collect,
        ops=tuple(slots.ops),
        layer=layer,
        keep_layer=keep_layer,
        hostname=hostname,
        domainname=spec.domainname or "",
        oom_score_adj=spec.limits.oom_score_adj or 0,
        ahead=not (keep_layer or reuse or given) and _repeatable(spec, rootfs),
        wall=spec.limits.wall,
        cpu_time=spec.limits.cpu_time,
        cpu_group=clock_group,
        cpu_file=clock_file,
        cpu_key="usage_usec " if stat else "",
        cpu_unit=1000 if stat else 1,
        cpus=len(facts.cpus),
        init_bounding=confinement.capabilities,
        degraded=confinement.degraded,
    )
    return Compiled(plan=plan, cgroups=cgroups, security=confinement)


_OWN = ("/dev", "/proc", "/sys")


def _repeatable(spec: ContainerSpec, rootfs: Rootfs) -> bool:
    """
    Whether the root comes out the same when it is made a moment earlier.

    What is done in our own file systems does. A target that is looked up in a
    directory which somebody may change meanwhile, or in another mount, may not.
    """
    security = spec.security
    targets = {mount.target for mount in spec.mounts}
    live = targets.union(place.target for place in (*rootfs.overlays, *rootfs.shown))
    for path in targets.union(security.masked_paths, security.readonly_paths):
        if _below(path, _OWN):
            continue
        if not rootfs.settled or _below(path, live - {path}):
            return False
    return True


def _below(path: str, places: Iterable[str]) -> bool:
    return any(path == place or path.startswith(f"{place}/") for place in places)


# --- what must be there ------------------------------------------------------


def _require(facts: HostFacts) -> None:
    if not facts.has_user_namespaces and not facts.is_rootful:
        raise NotEnforced(
            "userns",
            "user namespaces are switched off",
            path="/proc/sys/user/max_user_namespaces",
            remedy="sysctl -w user.max_user_namespaces=10000 (and, on Ubuntu, "
            "kernel.apparmor_restrict_unprivileged_userns=0); see jailbox.doctor().",
        )
    if not facts.can_set_mount_attributes:
        raise Unsupported("mount_setattr()", since="5.12")
    if not facts.can_overlay:
        raise Unsupported("overlay file system", since="5.11 in a user namespace")
    if facts.is_rootful and not facts.can_overlay_idmapped:
        raise Unsupported("overlay of id-mapped layers", since="5.19")


def _name_files(
    spec: ContainerSpec, rootfs: Rootfs, hostname: str
) -> tuple[tuple[str, bytes], ...]:
    """Write the files that name things, unless the image has just these."""
    network = spec.network
    known = hostname == rootfs.hostname and spec.domainname is None
    if known and network in _PLAIN_NETWORKS:
        return ()
    return name_files(spec, hostname, rootfs.resolver)


_PLAIN_NETWORKS = (Network("none"), Network("host"))


# --- control groups ----------------------------------------------------------


def _groups(cgroups: CgroupPlan) -> tuple[tuple[Group, ...], tuple[Collect, ...]]:
    groups = []
    for directory in cgroups.dirs:
        shared = directory.join == "no"
        path = directory.path if shared else posixpath.dirname(directory.path)
        groups.append(
            Group(
                path=path,
                settings=directory.writes,
                join=directory.join,
                shared=shared,
            )
        )
    indexes = {directory.path: n for n, directory in enumerate(cgroups.dirs)}
    collect = tuple(
        Collect(indexes[posixpath.dirname(path)], posixpath.basename(path), label)
        for label, path in cgroups.collect
        if posixpath.dirname(path) in indexes
    )
    return tuple(groups), collect


def _clock(cgroups: CgroupPlan) -> tuple[int, str]:
    if cgroups.clock is None:
        return -1, ""
    directory, file = posixpath.split(cgroups.clock.path)
    for number, group in enumerate(cgroups.dirs):
        if group.path == directory:
            return number, file
    return -1, ""


# --- programs ----------------------------------------------------------------


def compile_program(
    spec: ProgramSpec,
    container: ContainerSpec,
    rootfs: Rootfs,
    confinement: Confinement,
    identity: Identity,
    *,
    hostname: str,
    log_limit: int | None = None,
) -> Program:
    """
    Decide everything about one program of a container.

    Raises:
        SpecError: If an id is asked for that the jail has not got.
    """
    one_id = confinement.ids == 1
    if not one_id and max(identity.uid, *identity.groups) >= confinement.ids:
        raise SpecError(
            "user",
            "has an id that a jail has not got",
            value=max(identity.uid, *identity.groups),
            accepted=f"ids below {confinement.ids}, also for groups",
        )
    if one_id and (identity.uid or identity.gid):
        raise SpecError(
            "user",
            "cannot be had: this account has no range of subordinate ids",
            value=str(spec.user or container.user),
            accepted="root (0)",
            hint="Add a range to /etc/subuid and /etc/subgid "
            "(usermod --add-subuids 100000-165535 --add-subgids 100000-165535 NAME) "
            "and install newuidmap (Debian: uidmap).",
        )
    env = _environment(spec, container, rootfs, identity, hostname)
    return Program(
        argv=spec.argv,
        env=tuple(f"{name}={value}" for name, value in env.items()),
        path=env.get("PATH", DEFAULT_PATH),
        cwd=spec.cwd or container.cwd or rootfs.config.cwd,
        make_cwd=spec.cwd is None and container.cwd is None,
        uid=identity.uid,
        gid=identity.gid,
        groups=None if one_id else identity.groups,
        umask=spec.umask,
        bounding=confinement.capabilities,
        permitted=confinement.capabilities,
        no_new_privs=confinement.no_new_privs,
        rlimits=confinement.rlimits,
        seccomp=confinement.seccomp,
        landlock=confinement.landlock,
        affinity=confinement.affinity,
        tty=spec.tty,
        timeout=spec.timeout,
        log_limit=log_limit,
    )


def _environment(
    spec: ProgramSpec,
    container: ContainerSpec,
    rootfs: Rootfs,
    identity: Identity,
    hostname: str,
) -> dict[str, str]:
    env = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname, "HOME": identity.home}
    if spec.tty is not None:
        env["TERM"] = "xterm"
    return env | dict(rootfs.config.env) | dict(container.env) | dict(spec.env)
