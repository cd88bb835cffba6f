"""
What this machine can do: read once, frozen, and passed around.

`read_facts` is the only place that looks; `facts_from` turns what it read into
`HostFacts` and is pure, so the recording of another machine answers the same
questions. Everybody else takes a `HostFacts` and asks its predicates.

Not for trying things out: nothing is created, mounted or started here, and no process
is spawned. What only an attempt can tell is told by the attempt (`jailbox.doctor`
makes one).
"""

import contextlib
import os
import platform
import resource
from collections.abc import Callable, Iterable, Mapping
from glob import glob, has_magic
from typing import Literal

import attrs

from jailbox.linux.cgroup.detect import (
    KNOBS,
    CgroupLayout,
    CgroupNode,
    Chain,
    Mounted,
    chains,
    detect,
    parse_membership,
    parse_mountinfo,
)

__all__ = [
    "Helper",
    "HostFacts",
    "IdMode",
    "IdRange",
    "Readings",
    "Rlimit",
    "existing",
    "facts_from",
    "parse_id_map",
    "parse_release",
    "parse_status",
    "parse_subordinate",
    "read_facts",
    "take_readings",
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
_ALL_IDS = 2**32 - 1

JAIL_IDS = 65536
"""How many ids a jail is given where they can be given."""

_TEXTS = (
    "/etc/subgid",
    "/etc/subuid",
    "/proc/cmdline",
    "/proc/filesystems",
    "/proc/self/attr/current",
    "/proc/self/cgroup",
    "/proc/self/mountinfo",
    "/proc/self/status",
    "/proc/self/uid_map",
    "/proc/swaps",
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
    "/proc/sys/kernel/pid_max",
    "/proc/sys/kernel/seccomp/actions_avail",
    "/proc/sys/kernel/unprivileged_userns_clone",
    "/proc/sys/user/max_net_namespaces",
    "/proc/sys/user/max_user_namespaces",
    "/proc/sys/vm/memfd_noexec",
    "/sys/kernel/security/lsm",
)

_RLIMITS = (
    "as", "core", "cpu", "data", "fsize", "memlock", "msgqueue", "nice", "nofile",
    "nproc", "rtprio", "rttime", "sigpending", "stack",
)  # fmt: skip


# --- values -----------------------------------------------------------------


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
class Readings:
    """
    What `take_readings` saw, before anybody thought about it.

    A recording of this value from another machine stands for that machine.

    Attributes:
        texts: Content by path; a file that could not be read is not there.

        release: ``uname -r``.

        machine: ``uname -m``.

        euid: Effective user.

        egid: Effective group.

        user: Name of the user, for subordinate ids.

        page_size: In bytes.

        memory: Physical memory, in bytes.

        cpus: CPUs that this process may run on.

        rlimits: Our own resource limits.

        namespaces: Names in ``/proc/self/ns``.

        helpers: Programs found, by name.

        modules: Kernel modules found on disk of those we ask for.

        nodes: The cgroup directories that decide.

        masks: Which of the candidates for masking exist.

        guarded: Those of them that only root may open.

        landlock_abi: Version of Landlock, 0 if absent; ``None`` if nobody asked.
    """

    texts: Mapping[str, str]
    release: str
    machine: str
    euid: int
    egid: int
    user: str = ""
    page_size: int = 4096
    memory: int = 0
    cpus: tuple[int, ...] = (0,)
    rlimits: tuple[Rlimit, ...] = ()
    namespaces: tuple[str, ...] = ()
    helpers: tuple[tuple[str, Helper], ...] = ()
    modules: tuple[str, ...] = ()
    nodes: tuple[CgroupNode, ...] = ()
    masks: tuple[str, ...] = ()
    guarded: tuple[str, ...] = ()
    landlock_abi: int | None = None


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


# --- text -> facts (pure) ---------------------------------------------------


def parse_release(release: str) -> tuple[int, int, int]:
    """
    Read a kernel release: ``6.18.44-fc`` is (6, 18, 44).

    What is no number counts as 0, so an odd kernel is taken for an old one.
    """
    numbers = []
    for part in release.split(".")[:3]:
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        numbers.append(int(digits) if digits else 0)
        if digits != part:
            break
    while len(numbers) < 3:  # noqa: PLR2004
        numbers.append(0)
    return numbers[0], numbers[1], numbers[2]


def parse_status(text: str) -> dict[str, str]:
    """Read ``/proc/self/status`` into its fields."""
    fields = {}
    for line in text.splitlines():
        name, separator, value = line.partition(":")
        if separator:
            fields[name] = value.strip()
    return fields


def parse_id_map(text: str) -> tuple[tuple[int, int, int], ...]:
    """Read a ``uid_map``: (inside, outside, count) for each line."""
    rows = []
    for line in text.splitlines():
        parts = line.split()
        if len(parts) == 3 and all(p.isdecimal() for p in parts):  # noqa: PLR2004
            rows.append((int(parts[0]), int(parts[1]), int(parts[2])))
    return tuple(rows)


def parse_subordinate(text: str, user: str, uid: int) -> tuple[IdRange, ...]:
    """
    Read ``/etc/subuid`` or ``/etc/subgid`` for one user, given by name or number.

    Ranges that come from a name service are not seen.

    Source: *subuid(5)*.
    """
    ranges = []
    for line in text.splitlines():
        parts = line.strip().split(":")
        if len(parts) != 3 or not parts[0]:  # noqa: PLR2004
            continue
        owner, start, count = parts
        if owner not in {user, str(uid)}:
            continue
        if start.isdecimal() and count.isdecimal() and int(count):
            ranges.append(IdRange(int(start), int(count)))
    return tuple(ranges)


def _masked_proc(mounts: Iterable[Mounted]) -> tuple[str, ...]:
    """
    Name what lies over parts of ``/proc``.

    The kernel refuses a fresh proc to a user namespace unless it can see one in full;
    automounts that only add a file system (binfmt_misc, nfsd) do not hide anything.
    """
    harmless = {"autofs", "binfmt_misc", "nfsd"}
    return tuple(
        sorted(
            {
                m.path
                for m in mounts
                if m.path.startswith("/proc/") and m.kind not in harmless
            }
        )
    )


def _number(text: str | None) -> int | None:
    """Read a number that fills a file."""
    text = (text or "").strip()
    return int(text) if text.isdecimal() else None


def facts_from(seen: Readings) -> HostFacts:
    """Conclude the facts from what was read. Pure."""
    text = seen.texts
    status = parse_status(text.get("/proc/self/status", ""))
    mounts = parse_mountinfo(text.get("/proc/self/mountinfo", ""))
    id_map = parse_id_map(text.get("/proc/self/uid_map", ""))
    userns_switch = _number(text.get("/proc/sys/kernel/unprivileged_userns_clone"))
    apparmor = _number(
        text.get("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
    )
    helpers = dict(seen.helpers)
    # The file is there if the kernel knows swap; its first line is a heading.
    swaps = text.get("/proc/swaps", "").splitlines()
    counts_swap = bool(swaps) and "swapaccount=0" not in (
        text.get("/proc/cmdline", "").split()
    )
    return HostFacts(
        kernel=parse_release(seen.release),
        release=seen.release,
        arch=seen.machine,
        page_size=seen.page_size,
        memory_total=seen.memory,
        swap_in_use=len(swaps) > 1,
        cpus=seen.cpus,
        pid_max=_number(text.get("/proc/sys/kernel/pid_max")) or 32768,
        euid=seen.euid,
        egid=seen.egid,
        caps_effective=int(status.get("CapEff", "0"), 16),
        caps_bounding=int(status.get("CapBnd", "0"), 16),
        no_new_privs=status.get("NoNewPrivs") == "1",
        seccomp_mode=int(status.get("Seccomp", "0")),
        initial_user_namespace=id_map == ((0, 0, _ALL_IDS),),
        max_user_namespaces=_number(text.get("/proc/sys/user/max_user_namespaces")),
        max_net_namespaces=_number(text.get("/proc/sys/user/max_net_namespaces")),
        unprivileged_userns_clone=None if userns_switch is None else userns_switch != 0,
        apparmor_restricts_userns=bool(apparmor),
        apparmor_label=_label(text.get("/proc/self/attr/current", "")),
        subuid=parse_subordinate(text.get("/etc/subuid", ""), seen.user, seen.euid),
        subgid=parse_subordinate(text.get("/etc/subgid", ""), seen.user, seen.euid),
        newuidmap=helpers.get("newuidmap"),
        newgidmap=helpers.get("newgidmap"),
        # 2 forbids; 1 only changes a default that we do not rely on.
        memfd_exec=_number(text.get("/proc/sys/vm/memfd_noexec")) != 2,  # noqa: PLR2004
        seccomp_actions=tuple(
            text.get("/proc/sys/kernel/seccomp/actions_avail", "").split()
        ),
        landlock_abi=seen.landlock_abi,
        lsms=tuple(
            name
            for name in text.get("/sys/kernel/security/lsm", "").strip().split(",")
            if name
        ),
        namespaces=seen.namespaces,
        filesystems=tuple(
            sorted(
                line.split()[-1]
                for line in text.get("/proc/filesystems", "").splitlines()
                if line.split()
            )
        ),
        overlay_loadable="overlay" in seen.modules,
        cgroups=detect(
            mounts,
            text.get("/proc/self/cgroup", ""),
            {node.path: node for node in seen.nodes},
            kernel=parse_release(seen.release),
            swap=counts_swap,
        ),
        rlimits=seen.rlimits,
        masks=seen.masks,
        guarded=seen.guarded,
        masked_proc=_masked_proc(mounts),
    )


def _label(text: str) -> str:
    """Read an AppArmor label without its mode: ``docker-default (enforce)``."""
    return text.strip("\0\n ").rpartition(" (")[0] or text.strip("\0\n ")


# --- the machine -> text (the only I/O) -------------------------------------


def _read(path: str) -> str | None:
    """Read a small file; ``None`` if it cannot be read, for whatever reason."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        data = b""
        while block := os.read(fd, 65536):
            data += block
    except OSError:
        return None
    finally:
        os.close(fd)
    return os.fsdecode(data)


def _writable(path: str) -> bool:
    """Ask the kernel, with the rights that would be used."""
    return os.access(
        path, os.W_OK, effective_ids=os.access in os.supports_effective_ids
    )


def _look(place: str, chain: Chain) -> CgroupNode:
    """Look at one directory of a cgroup file system."""
    join = "cgroup.procs" if chain.version == 2 else "tasks"  # noqa: PLR2004
    writable = _writable(place) and _writable(f"{place}/{join}") and not chain.read_only
    knobs = tuple(k for k in KNOBS if os.path.exists(f"{place}/{k}"))
    if chain.version == 1:
        has_cpus = "cpuset" in chain.controllers
        return CgroupNode(
            path=place,
            writable=writable,
            knobs=knobs,
            cpus=(_read(f"{place}/cpuset.cpus") or "").strip() if has_cpus else "",
            mems=(_read(f"{place}/cpuset.mems") or "").strip() if has_cpus else "",
        )
    return CgroupNode(
        path=place,
        writable=writable,
        controllers=tuple((_read(f"{place}/cgroup.controllers") or "").split()),
        enabled=tuple((_read(f"{place}/cgroup.subtree_control") or "").split()),
        top=not os.path.exists(f"{place}/cgroup.type"),
        # Reading all of it on the real root lists every process of the machine.
        busy=place == chain.own or bool(_first_byte(f"{place}/cgroup.procs")),
        knobs=knobs,
        cpus=(_read(f"{place}/cpuset.cpus.effective") or "").strip(),
        mems=(_read(f"{place}/cpuset.mems.effective") or "").strip(),
    )


def _first_byte(path: str) -> bytes:
    """Read one byte, to learn whether there is any."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, 1)
    except OSError:
        return b""
    finally:
        os.close(fd)


def _nodes(texts: Mapping[str, str]) -> tuple[CgroupNode, ...]:
    """Look at cgroup directories, from the top down to the first that is ours."""
    nodes = []
    mounts = parse_mountinfo(texts.get("/proc/self/mountinfo", ""))
    own = parse_membership(texts.get("/proc/self/cgroup", ""))
    for chain in chains(mounts, own):
        for place in chain.places:
            nodes.append(_look(place, chain))
            if nodes[-1].writable:
                break
    return tuple(nodes)


def _helper(name: str) -> Helper | None:
    """Find a program on the usual paths, and see whether it has rights of its own."""
    for directory in os.get_exec_path():
        path = os.path.join(directory, name)
        if not directory.startswith("/") or not os.access(path, os.X_OK):
            continue
        privileged = False
        with contextlib.suppress(OSError):
            info = os.stat(path)
            privileged = bool(info.st_mode & 0o4000) and info.st_uid == 0
            if not privileged:
                privileged = bool(os.getxattr(path, "security.capability"))
        return Helper(path, privileged)
    return None


def _user_name(uid: int) -> str:
    """Give the name of a user, or an empty text."""
    import pwd  # may ask name services: only on the way that needs it

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def existing(candidates: Iterable[str]) -> tuple[str, ...]:
    """
    Keep those paths that exist on this machine, with patterns expanded.

    Args:
        candidates: Absolute paths; ``*`` and ``?`` stand for what is there.
    """
    found: dict[str, None] = {}
    for path in candidates:
        if has_magic(path):
            found.update(dict.fromkeys(sorted(glob(path))))
        elif os.path.lexists(path):
            found[path] = None
    return tuple(found)


def _is_guarded(path: str) -> bool:
    """Whether neither group nor others may do anything with *path*."""
    with contextlib.suppress(OSError):
        return not os.lstat(path).st_mode & 0o077
    return False


def take_readings(
    masks: Iterable[str] = (), landlock_abi: Callable[[], int] | None = None
) -> Readings:
    """Look at this machine, and think nothing of it."""
    texts = {path: text for path in _TEXTS if (text := _read(path)) is not None}
    uname = os.uname()
    uid = os.geteuid()
    module = f"/lib/modules/{uname.release}/kernel/fs/overlayfs"
    rlimits = []
    for name in _RLIMITS:
        number = getattr(resource, f"RLIMIT_{name.upper()}", None)
        if number is not None:
            soft, hard = resource.getrlimit(number)
            rlimits.append(Rlimit(name, soft, hard))
    try:
        namespaces = tuple(sorted(os.listdir("/proc/self/ns")))
    except OSError:
        namespaces = ()
    helpers = ((name, _helper(name)) for name in ("newuidmap", "newgidmap"))
    return Readings(
        texts=texts,
        release=uname.release,
        machine=uname.machine or platform.machine(),
        euid=uid,
        egid=os.getegid(),
        user="root" if uid == 0 else _user_name(uid),
        page_size=os.sysconf("SC_PAGE_SIZE"),
        memory=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        cpus=tuple(sorted(os.sched_getaffinity(0))),
        rlimits=tuple(rlimits),
        namespaces=namespaces,
        helpers=tuple((n, h) for n, h in helpers if h is not None),
        modules=("overlay",) if os.path.isdir(module) else (),
        nodes=_nodes(texts),
        masks=(found := existing(masks)),
        guarded=tuple(path for path in found if _is_guarded(path)),
        landlock_abi=landlock_abi() if landlock_abi is not None else None,
    )


def read_facts(
    masks: Iterable[str] = (), landlock_abi: Callable[[], int] | None = None
) -> HostFacts:
    """
    Read the facts of this machine. Starts and creates nothing.

    To be called once; facts do not change under a running program, and what does
    (free memory, load) is no fact.

    Args:
        masks: Paths that are worth masking; those that exist become
            `HostFacts.masks`.

        landlock_abi: Asks the kernel for its version of Landlock, 0 if absent. Given
            by the native part, for Python cannot make that call.
    """
    return facts_from(take_readings(masks, landlock_abi))
