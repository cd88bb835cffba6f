"""
Spec and facts become a plan. Nothing is touched.

Everything that a jail is made of is decided here, once, and the plan of equal specs is
equal: `jailbox.engine.local` keeps it. The order of the operations is that of
``security.md`` B.3 for a root built from descriptors: what needs the host's view comes
first, then the jail's own namespaces, then the rest of the root.
"""

import posixpath
from collections.abc import Mapping
from typing import Any

import attrs

from jailbox.errors import NotEnforced, SpecError, Unsupported
from jailbox.linux.cgroup import CgroupPlan, cgroup_plan, check_limits, enforcement
from jailbox.linux.cgroup.plan import keeper_dirs
from jailbox.linux.facts import HostFacts
from jailbox.linux.landlock import scope_attribute
from jailbox.linux.plan import (
    ATTR_NODEV,
    ATTR_NOEXEC,
    ATTR_NOSUID,
    ATTR_RDONLY,
    CLONE_NEWCGROUP,
    Attach,
    Collect,
    Dir,
    Enter,
    File,
    Fs,
    Group,
    LaunchPlan,
    Link,
    Mask,
    Namespaces,
    Node,
    Op,
    Open,
    Overlay,
    Program,
    ReadOnly,
    Root,
    Stage,
    Strike,
    Sysctl,
    Take,
    Tree,
)
from jailbox.linux.seccomp import Profile, default_profile, program
from jailbox.run.names import Etc, name_files
from jailbox.run.rootfs import Rootfs
from jailbox.run.users import Identity
from jailbox.spec.capabilities import capability_mask
from jailbox.spec.command import ID_MAX
from jailbox.spec.container import ContainerSpec, ProgramSpec
from jailbox.spec.image import DEFAULT_PATH
from jailbox.spec.limits import Limits
from jailbox.spec.mount import Bind, Device, Tmpfs
from jailbox.spec.network import Network
from jailbox.spec.security import (
    DEFAULT_MASKED_PATHS,
    DEFAULT_NETWORK_SYSCTLS,
    Security,
    sysctl_path,
)

__all__ = ["PLACEHOLDER", "Compiled", "compile_container", "compile_program"]

PLACEHOLDER = "jail"
"""Stands for the name of a jail in the paths of its groups while a plan is made."""

_SAFE = ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC
_DEV_SIZE = 64 << 10
_SHM_SIZE = 64 << 20
_TTY_GID = 5

_MOUNT_POINTS_OF_SYSFS = frozenset(
    {
        "/sys/fs/bpf",
        "/sys/fs/pstore",
        "/sys/kernel/debug",
        "/sys/kernel/security",
        "/sys/kernel/tracing",
    }
)

_DEVICES = (
    ("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8),
    ("urandom", 1, 9), ("tty", 5, 0),
)  # fmt: skip

_DEV_LINKS = (
    ("ptmx", "pts/ptmx"), ("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2"),
)  # fmt: skip

# Resource limits by the kernel's number (asm-generic/resource.h).
_RLIMITS = {
    "cpu": 0, "fsize": 1, "data": 2, "stack": 3, "core": 4, "rss": 5, "nproc": 6,
    "nofile": 7, "memlock": 8, "as": 9, "locks": 10, "sigpending": 11, "msgqueue": 12,
    "nice": 13, "rtprio": 14, "rttime": 15,
}  # fmt: skip
_RLIM_INFINITY = 2**64 - 1
_NOFILE_SOFT = 1024

_MKNOD = 27
_NET_RAW = 13


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
    security: "Confinement"


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


@attrs.frozen
class _Lowers:
    """
    How the layers of the root are come by.

    Attributes:
        prepared: Number of a layer that the keeper has built.

        stack: Number of a tree with all of the layers.

        compare: They are looked at later without the writable layer.
    """

    prepared: int | None
    stack: int | None
    compare: bool


class _Slots:
    """Hands out slots, and collects operations."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self._next = 0

    def new(self) -> int:
        self._next += 1
        return self._next - 1

    def add(self, *ops: Op) -> None:
        self.ops += ops


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

    Raises:
        NotEnforced: If a protection or limit cannot be applied here, and that was not
            allowed.

        Unsupported: If the machine lacks something without which there is no jail.
    """
    _require(facts)
    check_limits(spec.limits, facts)
    confinement = _confine(spec, facts)
    cgroups = cgroup_plan(
        spec.limits, facts.cgroups, PLACEHOLDER, keeper=keeper, freezable=keep_layer
    ).without(frozenset(keeper_dirs(facts.cgroups, keeper)))
    slots = _Slots()
    lowers = _Lowers(prepared, stack, compare=keep_layer)
    names = _name_files(spec, rootfs, hostname)
    layer = _root_ops(slots, spec, facts, rootfs, lowers, names, reuse=reuse)
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


# --- confinement -------------------------------------------------------------


def _confine(spec: ContainerSpec, facts: HostFacts) -> Confinement:
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
    return _JAIL_IDS if security.userns == "private" else ID_MAX + 1


_JAIL_IDS = 65536
"""Ids of a jail: ``/etc/passwd`` of every system fits in."""


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


# --- the root ----------------------------------------------------------------


def _tmpfs_options(size: int | None, inodes: int | None, mode: int) -> tuple[str, ...]:
    options = [f"mode={mode:o}"]
    if size is not None:
        options.append(f"size={size}")
    if inodes is not None:
        options.append(f"nr_inodes={inodes}")
    return tuple(options)


def _root_ops(
    slots: _Slots,
    spec: ContainerSpec,
    facts: HostFacts,
    rootfs: Rootfs,
    lowers: _Lowers,
    names: tuple[tuple[str, bytes], ...],
    *,
    reuse: bool,
) -> int:
    idmap = facts.can_overlay_idmapped and spec.security.userns == "private"
    # In a user namespace the kernel does not let us leave out what is mounted below.
    deep = not facts.is_rootful
    private = spec.network.private
    fresh_sysfs = private or facts.is_rootful
    masks = _masks(spec, facts, fresh_sysfs=fresh_sysfs)
    slots.add(Namespaces())
    layer = slots.new()
    if reuse:
        slots.add(Take(layer))
    else:
        size, inodes = spec.limits.disk, spec.limits.inodes
        slots.add(Fs(layer, "tmpfs", _tmpfs_options(size, inodes, 0o700), 0))
    attr = ATTR_NOSUID | ATTR_NODEV
    overlays = _Overlays(slots, facts, reuse=reuse)
    root_overlay = _root_overlay(slots, rootfs, lowers, layer, deep=deep, idmap=idmap)
    if names and rootfs.etc is not None:
        place = None if overlays.by_name else layer
        given = _names_layer(slots, place, rootfs.etc, names)
        root_overlay = attrs.evolve(root_overlay, given=given)
    root = overlays.add(root_overlay)
    # After the root: the kernel lists mounts in the order in which they were made, and
    # programs take the first one for the root.
    proc, sysfs = slots.new(), slots.new()
    slots.add(Fs(proc, "proc", (), _SAFE))
    # Only who owns the network namespace may have a sysfs of it.
    if fresh_sysfs:
        slots.add(Fs(sysfs, "sysfs", (), _SAFE | ATTR_RDONLY))
    else:
        slots.add(Tree(sysfs, "/sys", _SAFE | ATTR_RDONLY))
    attached: list[tuple[int, str]] = []
    for number, overlay in enumerate(rootfs.overlays, 1):
        lower, merged = slots.new(), slots.new()
        slots.add(Tree(lower, overlay.source, attr, recursive=deep, idmap=idmap))
        overlays.add(Overlay(merged, (lower,), layer, str(number)))
        attached.append((merged, overlay.target))
    for shown in rootfs.shown:
        tree = slots.new()
        slots.add(
            Tree(tree, shown.source, attr | ATTR_RDONLY, recursive=deep, idmap=idmap)
        )
        attached.append((tree, shown.target))
    wanted = _mount_sources(slots, spec, idmap=idmap)
    devices = _device_sources(slots, facts)
    dev, pts, shm, mqueue = (slots.new() for _ in range(4))
    slots.add(
        # The jail's root may put something there, as in every other container.
        Fs(
            dev,
            "tmpfs",
            (*_tmpfs_options(_DEV_SIZE, None, 0o755), "uid=0", "gid=0"),
            ATTR_NOSUID | ATTR_NOEXEC,
        ),
        Fs(pts, "devpts", _devpts(facts, spec), ATTR_NOSUID | ATTR_NOEXEC),
        Fs(
            shm,
            "tmpfs",
            _tmpfs_options(spec.limits.shm or _SHM_SIZE, None, 0o1777),
            _SAFE,
        ),
        Fs(mqueue, "mqueue", (), _SAFE),
    )
    slots.add(Enter())
    overlays.finish()
    nothing = slots.new()
    if masks:
        slots.add(Open(nothing, "/"))
    slots.add(Root(root))
    for slot, target in attached:
        slots.add(Attach(slot, target, make="source"))
    slots.add(
        Attach(proc, "proc", make="dir", strict=True),
        Attach(sysfs, "sys", make="dir", strict=True),
    )
    if spec.tty is not None:
        # The first terminal of its own devpts is that of the main program.
        slots.add(Link(dev, "console", "pts/0"))
    _dev_ops(slots, dev, pts, shm, mqueue, devices)
    _protect(slots, spec, facts, proc, masks, nothing)
    for slot, target, make in wanted:
        slots.add(Attach(slot, target, make=make))
    if spec.read_only:
        slots.add(ReadOnly("/"))
        slots.add(*(ReadOnly(shown.target) for shown in rootfs.overlays))
    return layer


def _root_overlay(
    slots: _Slots,
    rootfs: Rootfs,
    lowers: _Lowers,
    layer: int,
    *,
    deep: bool,
    idmap: bool,
) -> Overlay:
    """Take the layers of the root; the overlay of them is made by the caller."""
    attr = ATTR_NOSUID | ATTR_NODEV
    count = 0
    sources: list[str | int] = list(rootfs.layers)
    if lowers.stack is not None:
        sources, count, deep = [lowers.stack], len(rootfs.layers), True
    if lowers.prepared is not None:
        sources.append(lowers.prepared)
    taken = []
    for source in sources:
        taken.append(slots.new())
        shared = isinstance(source, int) and not count
        slots.add(
            Tree(taken[-1], source, attr, recursive=deep and not shared, idmap=idmap)
        )
    if lowers.prepared is None and rootfs.prepared is not None:
        taken.append(slots.new())
        slots.add(*_inline(rootfs.prepared.ops, taken[-1]))
    several = (count or len(taken)) > 1
    below = slots.new() if lowers.compare and several else -1
    return Overlay(slots.new(), tuple(taken), layer, "0", stack=count, below=below)


class _Overlays:
    """
    The overlays of a root, in the way that the kernel offers.

    By descriptor they are mounted at once. A stack has to stand in the jail's own mount
    namespace for that, and so has everything before Linux 6.13, where layers are given
    by name (`Stage`). Before Linux 6.6 a tmpfs has no ``user.*`` attributes: what the
    kernel notes about the writable layer is in ``trusted.*`` then. What images note
    about their layers is not, and is read by an overlay of its own below.
    """

    def __init__(self, slots: _Slots, facts: HostFacts, *, reuse: bool) -> None:
        self._slots = slots
        self._reuse = reuse
        self.by_name = not facts.overlay_takes_descriptors
        self._trusted = not facts.tmpfs_keeps_user_attributes and facts.is_rootful
        self._waiting: list[Op] = []

    def add(self, overlay: Overlay) -> int:
        """Add a writable one; its slot."""
        overlay = attrs.evolve(overlay, reuse=self._reuse)
        if self.by_name:
            self._name(overlay)
        elif overlay.stack:
            self._waiting.append(overlay)
        else:
            self._slots.add(overlay)
        return overlay.slot

    def _name(self, overlay: Overlay) -> None:
        several = len(overlay.lowers) > 1
        if several and (self._trusted or overlay.below >= 0):
            # What has had a name cannot have another one later.
            below = overlay.below if overlay.below >= 0 else self._slots.new()
            self._waiting.append(
                Overlay(
                    below, overlay.lowers, -1, "below", volatile=False, by_name=True
                )
            )
            overlay = attrs.evolve(overlay, lowers=(below,), below=-1)
        if overlay.given >= 0:
            image = overlay.lowers
            overlay = attrs.evolve(
                overlay,
                lowers=(overlay.given, *image),
                given=-1,
                below=image[0] if len(image) == 1 else -1,
            )
        self._waiting.append(
            attrs.evolve(overlay, userxattr=not self._trusted, by_name=True)
        )

    def finish(self) -> None:
        """Add what had to wait until here."""
        if self.by_name:
            self._waiting = [Stage(), *self._waiting, Strike()]
        self._slots.add(*self._waiting)


def _inline(ops: tuple[Op, ...], slot: int) -> list[Op]:
    """
    Turn the operations of a shared tree into those of a tree of the jail's own.

    Before Linux 6.15 a tree that is mounted nowhere cannot be cloned, so there is
    nothing to share. Its owners are the jail's from the start.
    """
    found: list[Op] = []
    for op in ops:
        match op:
            case Fs():
                options = (*op.options, "uid=0", "gid=0")
                found.append(attrs.evolve(op, slot=slot, options=options))
            case Dir() | Link() | Node() | File():
                found.append(attrs.evolve(op, slot=slot))
    return found


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


def _names_layer(
    slots: _Slots, layer: int | None, etc: Etc, names: tuple[tuple[str, bytes], ...]
) -> int:
    """
    Make a layer with nothing but names.

    Args:
        slots: Where it is added.

        layer: The slot of what is written to: it is made beside that. With ``None`` it
            is a file system of its own, which can be given a name (`Stage`).

        etc: What ``/etc`` is to be like.

        names: The files in it.
    """
    slot = slots.new()
    place, top = (slot, "") if layer is None else (layer, "names/")
    if layer is None:
        slots.add(Fs(slot, "tmpfs", ("mode=0755", "uid=0", "gid=0"), 0))
    else:
        slots.add(Dir(layer, "names", exist_ok=True))
    slots.add(
        Dir(place, f"{top}etc", etc.mode, exist_ok=True),
        *(File(place, f"{top}etc/{name}", text, exist_ok=True) for name, text in names),
        Link(place, f"{top}etc/mtab", "/proc/mounts", exist_ok=True),
    )
    if layer is not None:
        slots.add(Open(slot, "names", layer))
    return slot


def _masks(
    spec: ContainerSpec, facts: HostFacts, *, fresh_sysfs: bool
) -> tuple[str, ...]:
    """
    Choose the paths that have to be covered; each costs 16 us.

    What only root may open needs no cover from those who cannot be root, and where
    other file systems are mounted a fresh sysfs has empty directories.
    """
    bare = set()
    if spec.security.userns == "private":
        bare |= set(facts.guarded)
    if fresh_sysfs:
        bare |= _MOUNT_POINTS_OF_SYSFS
    return tuple(
        path
        for path in spec.security.masked_paths
        # A path of the caller's may be one of the image's.
        if (path in facts.masks or path not in DEFAULT_MASKED_PATHS)
        and path not in bare
    )


def _devpts(facts: HostFacts, spec: ContainerSpec) -> tuple[str, ...]:
    options = ["newinstance", "ptmxmode=0666", "mode=0620"]
    if facts.id_mode != "single" or spec.security.userns == "host":
        options.append(f"gid={_TTY_GID}")
    return tuple(options)


def _device_sources(slots: _Slots, facts: HostFacts) -> dict[str, int]:
    """Where nodes cannot be made, the host's are cloned; slots by name."""
    if facts.is_rootful and facts.has_cap(_MKNOD):
        return {}
    found = {}
    for name, _, _ in _DEVICES:
        found[name] = slots.new()
        slots.add(
            Tree(
                found[name],
                f"/dev/{name}",
                ATTR_NOSUID | ATTR_NOEXEC,
                recursive=False,
            )
        )
    return found


def _dev_ops(
    slots: _Slots, dev: int, pts: int, shm: int, mqueue: int, devices: dict[str, int]
) -> None:
    if not devices:
        slots.add(*(Node(dev, name, major, minor) for name, major, minor in _DEVICES))
    slots.add(*(Link(dev, name, target) for name, target in _DEV_LINKS))
    slots.add(Dir(dev, "pts"), Dir(dev, "shm", 0o1777), Dir(dev, "mqueue", 0o1777))
    slots.add(Attach(dev, "dev", make="dir", strict=True))
    slots.add(
        Attach(pts, "dev/pts", strict=True),
        Attach(shm, "dev/shm", strict=True),
        Attach(mqueue, "dev/mqueue", strict=True),
    )
    for name, slot in devices.items():
        slots.add(Attach(slot, f"dev/{name}", make="file", strict=True))


def _protect(
    slots: _Slots,
    spec: ContainerSpec,
    facts: HostFacts,
    proc: int,
    masks: tuple[str, ...],
    nothing: int,
) -> None:
    """Settings first, while they can be written; then masks over our own nodes."""
    sysctls = dict(spec.security.sysctls)
    if spec.network.private:
        for key, value in DEFAULT_NETWORK_SYSCTLS.items():
            if key not in sysctls:
                slots.add(Sysctl(proc, sysctl_path(key), _ids_of(key, value, facts)))
    for key, value in sysctls.items():
        slots.add(Sysctl(proc, sysctl_path(key), value))
    for path in spec.security.readonly_paths:
        slots.add(ReadOnly(path, _SAFE))
    if masks:
        null = slots.new()
        slots.add(Open(null, "/dev/null"))
        slots.add(*(Mask(path, nothing, null) for path in masks))


def _ids_of(key: str, value: str, facts: HostFacts) -> str:
    """A range of groups can only name groups that are mapped."""
    if not key.endswith("ping_group_range"):
        return value
    last = {"single": 0, "subuid": 65535}.get(facts.id_mode)
    return value if last is None else f"0 {last}"


def _mount_sources(
    slots: _Slots, spec: ContainerSpec, *, idmap: bool
) -> list[tuple[int, str, str]]:
    """Open what the caller wants mounted: (slot, target, what to make)."""
    wanted = []
    for mount in sorted(spec.mounts, key=lambda m: m.target.count("/")):
        slot = slots.new()
        make = "dir"
        match mount:
            case Bind():
                attr = ATTR_NOSUID | ATTR_NODEV
                attr |= 0 if mount.writable else ATTR_RDONLY
                attr |= 0 if mount.exec else ATTR_NOEXEC
                # Only what is written must come to belong to the caller.
                slots.add(
                    Tree(
                        slot,
                        mount.source,
                        attr,
                        recursive=mount.recursive,
                        idmap=idmap,
                    )
                )
                make = "source"
            case Tmpfs():
                options = [*_tmpfs_options(mount.size, mount.inodes, mount.mode)]
                options += [f"uid={mount.uid}", f"gid={mount.gid}"]
                attr = ATTR_NOSUID | ATTR_NODEV | (0 if mount.exec else ATTR_NOEXEC)
                attr |= 0 if mount.writable else ATTR_RDONLY
                slots.add(Fs(slot, "tmpfs", tuple(options), attr))
            case Device():
                attr = ATTR_NOSUID | ATTR_NOEXEC
                attr |= 0 if "w" in mount.permissions else ATTR_RDONLY
                slots.add(Tree(slot, mount.path, attr, recursive=False))
                make = "file"
        wanted.append((slot, mount.target, make))
    return wanted


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
