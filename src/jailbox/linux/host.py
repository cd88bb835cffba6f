"""
A machine, as plans see it: frozen facts, and the questions that they answer.

Pure: how the facts are come by is `jailbox.linux.facts`. The recording of another
machine answers the same questions.
"""

from typing import Literal

import attrs

from jailbox.linux.cgroup.detect import CgroupLayout

__all__ = [
    "CAP_SYS_ADMIN",
    "CAP_SYS_RESOURCE",
    "JAIL_IDS",
    "Helper",
    "HostFacts",
    "IdMode",
    "IdRange",
    "Rlimit",
]

IdMode = Literal["private", "subuid", "single"]

CAP_CHOWN = 0
CAP_DAC_OVERRIDE = 1
CAP_SETGID = 6
CAP_SETUID = 7
CAP_SYS_ADMIN = 21
CAP_SYS_RESOURCE = 24

_ROOTFUL = sum(
    1 << cap
    for cap in (CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_SETGID, CAP_SETUID, CAP_SYS_ADMIN)
)

JAIL_IDS = 65536
"""How many ids a jail is given where they can be given."""


@attrs.frozen
class IdRange:
    """
    A row of user or group ids.

    Attributes:
        start: The first one.

        count: How many.
    """

    start: int
    count: int


@attrs.frozen
class Helper:
    """
    A program of the host that we may call upon.

    Attributes:
        path: Where it is.

        privileged: It is set-user-id root or has file capabilities.
    """

    path: str
    privileged: bool


@attrs.frozen
class Rlimit:
    """
    One resource limit of this process; -1 is no limit.

    Attributes:
        name: Lower case, without ``RLIMIT_``.

        soft: What holds now.

        hard: How far it may be raised without CAP_SYS_RESOURCE.
    """

    name: str
    soft: int
    hard: int


@attrs.frozen(kw_only=True)
class HostFacts:
    """
    The facts of a machine that plans are made from.

    Comparable, hashable and picklable: it may serve as a key of a cache, and may come
    from another machine.

    Attributes:
        kernel: Version of the kernel, as three numbers.

        release: The same as the kernel spells it.

        arch: ``x86_64``, ``aarch64``, ``riscv64``, ... as ``uname -m`` says.

        page_size: In bytes.

        memory_total: Physical memory, in bytes.

        swap_in_use: Memory can be moved to a swap device.

        cpus: CPUs that this process may run on.

        pid_max: Where process numbers wrap around.

        euid: Effective user.

        egid: Effective group.

        caps_effective: Effective capabilities, one bit each.

        caps_bounding: Bounding set: no process below us can have more.

        no_new_privs: Set-user-id programs give us nothing.

        seccomp_mode: 0 is free; 2 means that a filter is upon us already.

        initial_user_namespace: All ids of the machine are ours to map.

        max_user_namespaces: How many this namespace may hold; 0 turns them off;
            ``None`` if the kernel has none.

        max_net_namespaces: The same for network namespaces.

        unprivileged_userns_clone: Debian's switch; ``None`` where it does not exist.

        apparmor_restricts_userns: Ubuntu's switch: user namespaces come without
            rights for programs without a profile.

        apparmor_label: Profile that confines us, ``unconfined``, or empty.

        subuid: Ranges of user ids that `newuidmap` may map for us.

        subgid: The same for groups.

        newuidmap: The helper that maps users, if found.

        newgidmap: The helper that maps groups, if found.

        memfd_exec: A program may be executed from memory, as our helper is.

        seccomp_actions: What a filter may answer; empty if there are no filters.

        landlock_abi: Version of Landlock, 0 if absent; ``None`` if nobody asked.

        lsms: Security modules of the kernel, empty if it does not tell.

        namespaces: Kinds of namespaces, as named in ``/proc/self/ns``.

        filesystems: File systems that the kernel has loaded.

        overlay_loadable: The overlay file system is not loaded, but its module is on
            the disk.

        cgroups: Which control groups we may use.

        rlimits: Our own resource limits.

        masks: Paths worth masking that exist here.

        guarded: Those of them that only root may open. Nobody in a user namespace of
            its own is that root.

        masked_proc: What is mounted over parts of ``/proc``. If anything is, the
            kernel lets no user namespace mount a fresh one.
    """

    kernel: tuple[int, int, int]
    release: str
    arch: str
    page_size: int = 4096
    memory_total: int = 0
    swap_in_use: bool = False
    cpus: tuple[int, ...] = (0,)
    pid_max: int = 32768
    euid: int
    egid: int
    caps_effective: int = 0
    caps_bounding: int = 0
    no_new_privs: bool = False
    seccomp_mode: int = 0
    initial_user_namespace: bool = True
    max_user_namespaces: int | None = None
    max_net_namespaces: int | None = None
    unprivileged_userns_clone: bool | None = None
    apparmor_restricts_userns: bool = False
    apparmor_label: str = ""
    subuid: tuple[IdRange, ...] = ()
    subgid: tuple[IdRange, ...] = ()
    newuidmap: Helper | None = None
    newgidmap: Helper | None = None
    memfd_exec: bool = True
    seccomp_actions: tuple[str, ...] = ()
    landlock_abi: int | None = None
    lsms: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    filesystems: tuple[str, ...] = ()
    overlay_loadable: bool = False
    cgroups: CgroupLayout = attrs.field(factory=CgroupLayout)
    rlimits: tuple[Rlimit, ...] = ()
    masks: tuple[str, ...] = ()
    guarded: tuple[str, ...] = ()
    masked_proc: tuple[str, ...] = ()

    # --- who we are ---

    def has_cap(self, number: int) -> bool:
        """Say whether the capability is effective."""
        return bool(self.caps_effective >> number & 1)

    @property
    def is_rootful(self) -> bool:
        """
        We have root's rights over the machine, not only over a namespace of ours.

        User 0 alone says nothing: in a container it usually lacks CAP_SYS_ADMIN, and
        some machines withhold CAP_SYS_RESOURCE from root itself.
        """
        return self.initial_user_namespace and (
            self.caps_effective & _ROOTFUL == _ROOTFUL
        )

    @property
    def seems_nested(self) -> bool:
        """
        A container is around us, as far as its work shows.

        Told by a seccomp filter or covered parts of ``/proc``, never by a marker file:
        ``/.dockerenv`` is found on bare machines too.
        """
        return self.seccomp_mode == 2 or bool(self.masked_proc)  # noqa: PLR2004

    # --- ids ---

    @property
    def has_user_namespaces(self) -> bool:
        """No switch forbids us to make user namespaces. A filter still may."""
        if not self.max_user_namespaces:
            return False
        if self.is_rootful:
            return True
        return (
            self.unprivileged_userns_clone is not False
            and not self.userns_stripped_by_apparmor
        )

    @property
    def userns_stripped_by_apparmor(self) -> bool:
        """A user namespace of ours would come without capabilities."""
        return (
            self.apparmor_restricts_userns
            and not self.has_cap(CAP_SYS_ADMIN)
            and self.apparmor_label in {"", "unconfined"}
        )

    @property
    def can_map_subordinate_ids(self) -> bool:
        """``newuidmap`` and ``newgidmap`` can give a namespace many ids."""
        return self.why_single_id is None

    @property
    def why_single_id(self) -> str | None:
        """Say what keeps subordinate ids from us; ``None`` if nothing does."""
        for helper, name in (
            (self.newuidmap, "newuidmap"),
            (self.newgidmap, "newgidmap"),
        ):
            if helper is None:
                return f"{name} is not installed"
            if not helper.privileged:
                return f"{helper.path} is neither set-user-id nor has capabilities"
        if self.no_new_privs:
            return "no_new_privs is set, so newuidmap has no rights"
        for ranges, path in (
            (self.subuid, "/etc/subuid"),
            (self.subgid, "/etc/subgid"),
        ):
            if sum(r.count for r in ranges) < JAIL_IDS:
                return f"{path} gives this user fewer than {JAIL_IDS} ids"
        return None

    @property
    def id_mode(self) -> IdMode:
        """
        Which ids the users of a jail get.

        ``private``: a range of its own, as root. ``subuid``: subordinate ids of the
        user. ``single``: only the one id of the user.
        """
        if self.is_rootful:
            return "private"
        return "subuid" if self.can_map_subordinate_ids else "single"

    # --- the kernel's abilities, by version ---

    @property
    def has_new_mount_api(self) -> bool:
        """``open_tree``, ``move_mount``, ``fsopen``, ``fsmount``: Linux 5.2."""
        return self.kernel >= (5, 2, 0)

    @property
    def can_set_mount_attributes(self) -> bool:
        """``mount_setattr``, recursively: Linux 5.12."""
        return self.kernel >= (5, 12, 0)

    @property
    def can_idmap_mounts(self) -> bool:
        """Mounts can show other owners: Linux 5.12, and only root may ask."""
        return self.kernel >= (5, 12, 0) and self.is_rootful

    @property
    def can_overlay_idmapped(self) -> bool:
        """An overlay takes idmapped layers: Linux 5.19."""
        return self.kernel >= (5, 19, 0) and self.can_idmap_mounts

    @property
    def has_overlay(self) -> bool:
        """The overlay file system is loaded, or can be."""
        return "overlay" in self.filesystems or self.overlay_loadable

    @property
    def can_overlay(self) -> bool:
        """We may mount an overlay; in a user namespace since Linux 5.11."""
        return self.has_overlay and (self.is_rootful or self.kernel >= (5, 11, 0))

    @property
    def overlay_appends_layers(self) -> bool:
        """``lowerdir+`` adds one layer at a time: Linux 6.7."""
        return self.kernel >= (6, 7, 0)

    @property
    def overlay_takes_descriptors(self) -> bool:
        """Layers are given by descriptor (``FSCONFIG_SET_FD``): Linux 6.13."""
        return self.kernel >= (6, 13, 0)

    @property
    def can_mount_on_detached(self) -> bool:
        """A detached tree can be built up before it is attached: Linux 6.15."""
        return self.kernel >= (6, 15, 0)

    @property
    def can_clone_detached(self) -> bool:
        """A tree that is mounted nowhere can be cloned: Linux 6.15."""
        return self.kernel >= (6, 15, 0)

    @property
    def tmpfs_keeps_user_attributes(self) -> bool:
        """Files of a tmpfs have attributes of users, ``user.*``: Linux 6.6."""
        return self.kernel >= (6, 6, 0)

    @property
    def can_clone_into_cgroup(self) -> bool:
        """``CLONE_INTO_CGROUP``: Linux 5.7."""
        return self.kernel >= (5, 7, 0)

    @property
    def has_binfmt_namespaces(self) -> bool:
        """A user namespace can have its own binfmt_misc: Linux 6.7."""
        return self.kernel >= (6, 7, 0)

    @property
    def has_seccomp(self) -> bool:
        """Filters of system calls can be installed."""
        return bool(self.seccomp_actions)

    @property
    def has_time_namespaces(self) -> bool:
        """Clocks can be shifted for a jail: Linux 5.6 with CONFIG_TIME_NS."""
        return "time" in self.namespaces

    # --- limits ---

    def rlimit(self, name: str) -> Rlimit | None:
        """Find one of our own resource limits by its lower-case name."""
        for limit in self.rlimits:
            if limit.name == name:
                return limit
        return None

    def clamped(self, name: str, value: int) -> int:
        """
        Lower *value* to what we may set; -1 is no limit.

        CAP_SYS_RESOURCE is no exception: a jail sets its limits when it has left the
        machine's user namespace, where alone the kernel would honor it.
        """
        own = self.rlimit(name)
        if own is None or own.hard == -1:
            return value
        return own.hard if value == -1 else min(value, own.hard)

    # --- telling ---

    def describe(self) -> str:
        """Tell the facts in lines, for people, logs and bug reports."""
        ids = f"{self.id_mode} ids, euid {self.euid}"
        caps = f"caps {self.caps_effective:016x}, bounding {self.caps_bounding:016x}"
        power = "rootful" if self.is_rootful else "rootless"
        memory = f"{self.memory_total >> 20} MiB"
        filters = f"{'yes' if self.has_seccomp else 'no'} (mode {self.seccomp_mode})"
        modules = " ".join(self.lsms) or "?"
        return "\n".join(
            (
                f"Linux {self.release} on {self.arch}, {len(self.cpus)} cpus, {memory}",
                f"{power}, {ids}, {caps}",
                f"namespaces: {' '.join(self.namespaces) or 'none'}",
                f"user namespaces: {self.max_user_namespaces}",
                f"seccomp {filters}, landlock {self.landlock_abi}, lsm {modules}",
                f"overlay: {'yes' if self.has_overlay else 'no'}",
                f"masked in /proc: {' '.join(self.masked_proc) or 'nothing'}",
                f"cgroups: {self.cgroups.describe()}",
            )
        )

    def document(self) -> dict[str, object]:
        """Give the facts as plain values, ready for JSON."""
        return attrs.asdict(self)
