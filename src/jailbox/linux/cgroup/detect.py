"""
Which control groups this machine offers us, decided from recorded text.

In: the text of ``/proc/self/mountinfo`` and ``/proc/self/cgroup``, and a
`CgroupNode` for each directory that `chains` names. Out: a `CgroupLayout`, which says
for every controller either the directory to work below, or why there is none and what
would help.

Not for reading the files (that is `jailbox.linux.readings`), nor for making groups
(the native part, obeying a `CgroupPlan`). Nothing here touches the machine, so that
the recording of another one can be asked the same questions.
"""

import errno
from collections.abc import Iterable, Mapping
from typing import Literal

import attrs

__all__ = [
    "KNOBS",
    "CgroupLayout",
    "CgroupNode",
    "Chain",
    "Hierarchy",
    "Kind",
    "Mounted",
    "Refusal",
    "chains",
    "detect",
    "parse_membership",
    "parse_mountinfo",
]

Kind = Literal["v1", "hybrid", "v2", "none"]

PARENT = "jailbox"
"""The one directory of ours below each base; everything else is made inside it."""

CONTROLLERS = frozenset({
    "blkio", "cpu", "cpuacct", "cpuset", "freezer", "io", "memory", "pids",
})  # fmt: skip
"""The controllers that we have a use for; other hierarchies are not looked at."""

KNOBS = (
    "cgroup.freeze",
    "cgroup.kill",
    "memory.memsw.limit_in_bytes",
    "memory.swap.max",
)
"""Files whose presence depends on the kernel's version, configuration or command line,
and which a plan wants to know about before it names them."""

# The real root of version 2 has none of the files that its children have, so there
# the version of the kernel must tell.
_SINCE = {"cgroup.freeze": (5, 2, 0), "cgroup.kill": (5, 14, 0)}


# --- the two files of /proc -------------------------------------------------


@attrs.frozen(kw_only=True)
class Mounted:
    """
    One line of mountinfo: what is mounted where.

    Attributes:
        root: The directory of the file system that is seen at *path*.

        path: Where it is mounted.

        kind: Type of the file system.

        source: What the mounter called it; any text.

        options: Options of the mount.

        super_options: Options of the file system.

    Source: *proc_pid_mountinfo(5)*.
    """

    root: str
    path: str
    kind: str
    source: str
    options: frozenset[str]
    super_options: frozenset[str]

    @property
    def read_only(self) -> bool:
        """Nothing can be written here, whatever the modes of files say."""
        return "ro" in self.options or "ro" in self.super_options


def _unescape(field: str) -> str:
    """Undo the kernel's octal escapes of blank, tab, newline and backslash."""
    if "\\" not in field:
        return field
    head, *rest = field.split("\\")
    for part in rest:
        digits = part[:3]
        if len(digits) == 3 and all(c in "01234567" for c in digits):  # noqa: PLR2004
            head += chr(int(digits, 8)) + part[3:]
        else:
            head += "\\" + part
    return head


def parse_mountinfo(text: str) -> tuple[Mounted, ...]:
    """
    Read ``/proc/self/mountinfo``, in the order of the kernel.

    Lines that do not have its shape are passed over: a fact that cannot be read is a
    fact that is not there.
    """
    found = []
    for line in text.splitlines():
        left, separator, right = line.partition(" - ")
        before, after = left.split(" "), right.split(" ")
        if not separator or len(before) < 6 or len(after) < 3:  # noqa: PLR2004
            continue
        found.append(
            Mounted(
                root=_unescape(before[3]),
                path=_unescape(before[4]),
                options=frozenset(before[5].split(",")),
                kind=_unescape(after[0]),
                source=_unescape(after[1]),
                super_options=frozenset(after[2].split(",")),
            )
        )
    return tuple(found)


def parse_membership(text: str) -> dict[str, str]:
    """
    Read ``/proc/self/cgroup``: our own group in each hierarchy.

    Returns:
        Path by controller; the unified hierarchy is ``""``. Paths are as seen from the
        root of our cgroup namespace and begin with ``/..`` above it.
    """
    own: dict[str, str] = {}
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        names, separator, path = rest.partition(":")
        if not separator or not number.isdecimal() or not path.startswith("/"):
            continue
        for name in names.split(","):
            own[name] = path
    return own


# --- what to look at --------------------------------------------------------


@attrs.frozen(kw_only=True)
class Chain:
    """
    The directories of one hierarchy in which we might work.

    Attributes:
        version: 1 or 2.

        mount: Where the hierarchy is mounted.

        controllers: Controllers of a version 1 hierarchy; empty for version 2, where
            every directory has its own list.

        places: Candidates from the top down to our own group. The first one that is
            writable is taken.

        own: Our own group as a directory; ``None`` if it is not visible here.

        read_only: The mount refuses every write.
    """

    version: Literal[1, 2]
    mount: str
    controllers: tuple[str, ...]
    places: tuple[str, ...]
    own: str | None
    read_only: bool


def _below(mounted: Mounted, own: str | None) -> tuple[tuple[str, ...], str | None]:
    """Give the visible directories from the mount down to the group *own*."""
    top = mounted.path
    if own is None or ".." in own.split("/"):
        return (top,), None
    root = mounted.root.rstrip("/")
    if own != root and not own.startswith(root + "/"):
        return (top,), None
    places, path = [top], top.rstrip("/")
    for part in own[len(root) :].split("/"):
        if part:
            path += "/" + part
            places.append(path)
    return tuple(places), places[-1]


def chains(mounts: Iterable[Mounted], own: Mapping[str, str]) -> tuple[Chain, ...]:
    """
    Name the directories that decide: version 1 hierarchies first, then the unified one.

    Where one controller is mounted several times, the place below ``/sys/fs/cgroup``
    counts, or else the first. A mount hides an earlier one of the same path.
    """
    by_path = {
        m.path: m for m in mounts if m.kind in {"cgroup", "cgroup2"} or _hides(m)
    }
    usual = sorted(
        by_path.values(), key=lambda m: not m.path.startswith("/sys/fs/cgroup")
    )
    taken: set[str] = set()
    found: list[Chain] = []
    unified: Chain | None = None
    for mounted in usual:
        if mounted.kind == "cgroup":
            names = tuple(sorted(mounted.super_options & CONTROLLERS))
            if not names or taken.intersection(names):
                continue
            taken.update(names)
            places, here = _below(mounted, own.get(names[0]))
            found.append(
                Chain(
                    version=1,
                    mount=mounted.path,
                    controllers=names,
                    places=places,
                    own=here,
                    read_only=mounted.read_only,
                )
            )
        elif mounted.kind == "cgroup2" and unified is None:
            places, here = _below(mounted, own.get(""))
            unified = Chain(
                version=2,
                mount=mounted.path,
                controllers=(),
                places=places,
                own=here,
                read_only=mounted.read_only,
            )
    found.sort(key=lambda chain: chain.mount)
    return (*found, unified) if unified else tuple(found)


def _hides(mounted: Mounted) -> bool:
    """Something else may lie over a cgroup mount, as tmpfs masks do."""
    return mounted.path.startswith("/sys/fs/cgroup/") or (
        mounted.path == "/sys/fs/cgroup"
    )


# --- what was seen there ----------------------------------------------------


@attrs.frozen(kw_only=True)
class CgroupNode:
    """
    What one directory of a cgroup file system showed.

    Attributes:
        path: The directory.

        writable: We may make children in it and move processes through it: the
            directory and its ``cgroup.procs`` are writable for us.

        controllers: ``cgroup.controllers``: what may be given to children (version 2).

        enabled: ``cgroup.subtree_control``: what is given to children now (version 2).

        top: The real root of the machine, which alone may hold processes and give
            controllers to children at the same time (version 2).

        busy: It holds processes itself (version 2).

        knobs: Which of `KNOBS` exist in it.

        cpus: ``cpuset.cpus`` in effect, or empty.

        mems: ``cpuset.mems`` in effect, or empty.
    """

    path: str
    writable: bool = False
    controllers: tuple[str, ...] = ()
    enabled: tuple[str, ...] = ()
    top: bool = False
    busy: bool = False
    knobs: tuple[str, ...] = ()
    cpus: str = ""
    mems: str = ""


# --- what follows from it ---------------------------------------------------


@attrs.frozen(kw_only=True)
class Refusal:
    """
    Why a controller cannot be used, in a form that an error or a doctor can show.

    Attributes:
        reason: What is so, without a full stop.

        path: The file or directory that says so.

        errno: What the kernel would answer.

        remedy: What to do about it: sentences, with the command to copy.

        cost: What the remedy gives away, or empty.
    """

    reason: str
    path: str
    errno: int
    remedy: str
    cost: str = ""


@attrs.frozen(kw_only=True)
class Hierarchy:
    """
    One mounted hierarchy, and what we can do in it.

    Attributes:
        version: 1 or 2.

        mount: Where it is mounted.

        base: The directory in which ``jailbox`` is made; ``None`` if nowhere.

        controllers: Usable below *base*, sorted. Version 2 may have none and still
            offer kill, freeze, and CPU time.

        enabled: Of these, what *base* already gives to its children (version 2).

        knobs: Which of `KNOBS` are known to exist in groups below *base*.

        cpus: The CPUs that a group below *base* can have, as the kernel lists them.

        mems: The same for memory nodes.

        refusal: Why *base* is ``None``.

        withheld: Why a controller that the hierarchy has is not usable below *base*.
    """

    version: Literal[1, 2]
    mount: str
    base: str | None
    controllers: tuple[str, ...] = ()
    enabled: tuple[str, ...] = ()
    knobs: tuple[str, ...] = ()
    cpus: str = ""
    mems: str = ""
    refusal: Refusal | None = None
    withheld: tuple[tuple[str, Refusal], ...] = ()

    @property
    def parent(self) -> str | None:
        """The directory of ours that holds all groups."""
        return None if self.base is None else f"{self.base.rstrip('/')}/{PARENT}"


@attrs.frozen(kw_only=True)
class CgroupLayout:
    """
    The control groups of a machine, as far as we may use them.

    Attributes:
        kind: What is mounted: ``v1``, ``hybrid``, ``v2`` or ``none``.

        hierarchies: All that are mounted and concern us, version 2 last.
    """

    kind: Kind = "none"
    hierarchies: tuple[Hierarchy, ...] = ()

    @property
    def backend(self) -> Kind:
        """
        Which back end holds limits: *kind*, or ``none`` if we may not use it.

        A hierarchy without the memory, pids and cpu controllers holds nothing.
        """
        if any(self.holder(name) for name in ("memory", "pids", "cpu")):
            return self.kind
        return "none"

    @property
    def unified(self) -> Hierarchy | None:
        """The version 2 hierarchy, if we may make groups in it."""
        for hierarchy in self.hierarchies:
            if hierarchy.version == 2 and hierarchy.base is not None:  # noqa: PLR2004
                return hierarchy
        return None

    def holder(self, controller: str) -> Hierarchy | None:
        """Find the hierarchy in which we can use *controller*."""
        for hierarchy in self.hierarchies:
            if hierarchy.base is not None and controller in hierarchy.controllers:
                return hierarchy
        return None

    def refusal(self, controller: str) -> Refusal | None:
        """Say why *controller* cannot be used; ``None`` if it can."""
        if self.holder(controller) is not None:
            return None
        unified = None
        for hierarchy in self.hierarchies:
            for name, refusal in hierarchy.withheld:
                if name == controller:
                    return refusal
            if controller in hierarchy.controllers:
                return hierarchy.refusal
            if hierarchy.version == 2:  # noqa: PLR2004
                unified = hierarchy
        if not self.hierarchies:
            return _NOT_MOUNTED
        if unified is not None and unified.refusal is not None:
            return unified.refusal
        return Refusal(
            reason=f"no mounted hierarchy has the {controller} controller",
            path="/proc/cgroups",
            errno=errno.ENOENT,
            remedy=(
                f"The kernel was built or started without it: look for {controller} "
                "in /proc/cgroups and for cgroup_disable= in /proc/cmdline."
            ),
        )

    def describe(self) -> str:
        """Tell the layout in lines, for people, logs and golden files."""
        lines = [f"kind {self.kind}, limits by {self.backend}"]
        for hierarchy in self.hierarchies:
            names = " ".join(hierarchy.controllers) or "no controllers"
            lines.append(f"v{hierarchy.version} {hierarchy.mount}: {names}")
            if hierarchy.base is not None:
                lines.append(f"  groups below {hierarchy.parent}")
            if hierarchy.enabled:
                lines.append(f"  already enabled: {' '.join(hierarchy.enabled)}")
            if hierarchy.knobs:
                lines.append(f"  knobs: {' '.join(hierarchy.knobs)}")
            if hierarchy.cpus:
                lines.append(f"  cpus {hierarchy.cpus}, mems {hierarchy.mems or '-'}")
            if hierarchy.refusal is not None:
                lines.extend(_told(hierarchy.refusal))
            for name, refusal in hierarchy.withheld:
                lines.append(f"  without {name}:")
                lines.extend(_told(refusal, "    "))
        return "\n".join(lines)


def _told(refusal: Refusal, indent: str = "  ") -> list[str]:
    """Tell a refusal in lines."""
    name = errno.errorcode[refusal.errno]
    return [
        f"{indent}refused ({name}, {refusal.path}): {refusal.reason}",
        f"{indent}remedy: {refusal.remedy}",
    ]


_NOT_MOUNTED = Refusal(
    reason="no cgroup file system is mounted",
    path="/sys/fs/cgroup",
    errno=errno.ENOENT,
    remedy=(
        "As root: mount -t cgroup2 none /sys/fs/cgroup. In a container, have the "
        "runtime mount it."
    ),
)


def _read_only(chain: Chain) -> Refusal:
    """Explain a mount that is read-only: nearly always a container around us."""
    return Refusal(
        reason="the cgroup file system is mounted read-only",
        path=chain.mount,
        errno=errno.EROFS,
        remedy=(
            "This is how containers are started. Start the outer one with its own "
            "writable groups: docker run --cgroupns=private --security-opt "
            "writable-cgroups=true, or podman run --security-opt unmask=/sys/fs/cgroup;"
            " else docker run --privileged."
        ),
        cost=(
            "writable groups let the outer container change its own limits; "
            "--privileged removes its isolation altogether"
        ),
    )


def _not_ours(chain: Chain) -> Refusal:
    """Explain a hierarchy in which no directory belongs to us."""
    deepest = chain.own or chain.mount
    if chain.version == 1:
        return Refusal(
            reason="no directory of this hierarchy is writable for us",
            path=deepest,
            errno=errno.EACCES,
            remedy=(
                "Version 1 groups are handed to a user by root: "
                f"D={chain.mount}/USER; mkdir $D && chown -R USER $D, then start "
                "the program with its shell's number written to $D/cgroup.procs. "
                "Better: boot with systemd.unified_cgroup_hierarchy=1."
            ),
            cost="none beyond the limits of that directory",
        )
    return Refusal(
        reason="our group was not delegated to this user",
        path=f"{deepest}/cgroup.procs",
        errno=errno.EACCES,
        remedy=(
            "Start the program in a delegated scope: systemd-run --user --scope "
            "-p Delegate=yes PROGRAM. A service needs Delegate=yes and "
            "DelegateSubgroup=main in its unit."
        ),
        cost="none: the user can only divide what the session already has",
    )


def _occupied(node: CgroupNode, controller: str) -> Refusal:
    """Explain the rule of no internal processes."""
    return Refusal(
        reason=(
            f"{controller} cannot be given to children: the group holds "
            "processes itself"
        ),
        path=f"{node.path}/cgroup.subtree_control",
        errno=errno.EBUSY,
        remedy=(
            "Let the program run one level deeper. In a systemd unit: "
            "DelegateSubgroup=main (systemd 254). In a container, before the program "
            f"starts: mkdir {node.path}/main && for p in $(cat "
            f"{node.path}/cgroup.procs); do echo $p > {node.path}/main/cgroup.procs; "
            "done."
        ),
        cost="none",
    )


def _not_given(node: CgroupNode, controller: str) -> Refusal:
    """Explain a controller that stops above us."""
    if "/user@" in node.path:
        remedy = (
            "As root: mkdir -p /etc/systemd/system/user@.service.d && printf "
            "'[Service]\\nDelegate=cpu cpuset io memory pids\\n' > "
            "/etc/systemd/system/user@.service.d/delegate.conf && systemctl "
            "daemon-reload, then log in again."
        )
    else:
        remedy = (
            "In the unit of the service: Delegate=cpu cpuset io memory pids. In a "
            "container: the runtime around it was started without the controller."
        )
    return Refusal(
        reason=f"the {controller} controller is not delegated to us",
        path=f"{node.path}/cgroup.controllers",
        errno=errno.ENOENT,
        remedy=remedy,
        cost="the user can shape its own share of processors and disks",
    )


def _version_1(chain: Chain, nodes: Mapping[str, CgroupNode]) -> Hierarchy:
    """Decide about one hierarchy of version 1."""
    node = _first_writable(chain, nodes)
    if node is None:
        return Hierarchy(
            version=1,
            mount=chain.mount,
            base=None,
            controllers=chain.controllers,
            refusal=_read_only(chain) if chain.read_only else _not_ours(chain),
        )
    return Hierarchy(
        version=1,
        mount=chain.mount,
        base=node.path,
        controllers=chain.controllers,
        knobs=node.knobs,
        cpus=node.cpus,
        mems=node.mems,
    )


def _knobs_below(
    node: CgroupNode, kernel: tuple[int, int, int], *, swap: bool
) -> tuple[str, ...]:
    """Tell which knobs the children of a version 2 group have."""
    if not node.top:
        return node.knobs
    knobs = [knob for knob, since in _SINCE.items() if kernel >= since]
    if swap and "memory" in node.controllers:
        knobs.append("memory.swap.max")
    return tuple(knobs)


def _version_2(
    chain: Chain,
    nodes: Mapping[str, CgroupNode],
    elsewhere: frozenset[str],
    kernel: tuple[int, int, int],
    *,
    swap: bool,
) -> Hierarchy:
    """Decide about the unified hierarchy; *elsewhere* is owned by version 1."""
    node = _first_writable(chain, nodes)
    if node is None:
        return Hierarchy(
            version=2,
            mount=chain.mount,
            base=None,
            refusal=_read_only(chain) if chain.read_only else _not_ours(chain),
        )
    # Only the real root may both hold processes and feed children.
    stuck = node.busy and not node.top
    usable = set(node.enabled if stuck else node.controllers) & CONTROLLERS
    withheld = []
    for name in ("cpu", "cpuset", "io", "memory", "pids"):
        if name in usable or name in elsewhere:
            continue
        if name in node.controllers:
            withheld.append((name, _occupied(node, name)))
        elif not node.top:
            withheld.append((name, _not_given(node, name)))
    return Hierarchy(
        version=2,
        mount=chain.mount,
        base=node.path,
        controllers=tuple(sorted(usable)),
        enabled=tuple(sorted(usable.intersection(node.enabled))),
        knobs=_knobs_below(node, kernel, swap=swap),
        cpus=node.cpus,
        mems=node.mems,
        withheld=tuple(withheld),
    )


def _first_writable(chain: Chain, nodes: Mapping[str, CgroupNode]) -> CgroupNode | None:
    """
    Take the highest directory that is ours.

    The highest one, because moving a process needs the right to write to the common
    ancestor of both groups: below it, everything is reachable. For root this is the
    top, so that nothing is ever made below the group of the calling process.
    """
    if chain.read_only:
        return None
    for place in chain.places:
        node = nodes.get(place)
        if node is not None and node.writable:
            return node
    return None


def detect(
    mountinfo: str | Iterable[Mounted],
    membership: str,
    nodes: Mapping[str, CgroupNode],
    *,
    kernel: tuple[int, int, int],
    swap: bool = True,
) -> CgroupLayout:
    """
    Decide which control groups we use, and why not the others.

    Args:
        mountinfo: Text of ``/proc/self/mountinfo``, or what `parse_mountinfo` made of
            it.

        membership: Text of ``/proc/self/cgroup``.

        nodes: What was seen in the places that `chains` names, by path. A place that
            is missing counts as not writable.

        kernel: Version of the kernel.

        swap: The kernel knows swap, and counts it.
    """
    mounts = parse_mountinfo(mountinfo) if isinstance(mountinfo, str) else mountinfo
    found = chains(mounts, parse_membership(membership))
    old = [chain for chain in found if chain.version == 1]
    new = [chain for chain in found if chain.version == 2]  # noqa: PLR2004
    elsewhere = frozenset(name for chain in old for name in chain.controllers)
    kind: Kind
    if old and new:
        kind = "hybrid"
    elif old:
        kind = "v1"
    else:
        kind = "v2" if new else "none"
    return CgroupLayout(
        kind=kind,
        hierarchies=(
            *(_version_1(chain, nodes) for chain in old),
            *(_version_2(chain, nodes, elsewhere, kernel, swap=swap) for chain in new),
        ),
    )
