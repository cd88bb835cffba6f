"""
The narrow waist: what the kernel is told, in order, as values that print themselves.

Above this room everything speaks of mounts, limits and users; below it there are only
descriptors, flags and masks. `describe()` of a plan is the dry run, the debug log, the
golden test and the bug report.

Pure: making a plan opens nothing. `jailbox.linux.record` turns it into bytes,
`jailbox.linux.launch` has it carried out.
"""

from typing import TypeAlias

import attrs

__all__ = [
    "Attach",
    "Back",
    "Collect",
    "Dir",
    "Enter",
    "File",
    "Forth",
    "Fs",
    "Graft",
    "Group",
    "LaunchPlan",
    "Lay",
    "Link",
    "Map",
    "Mask",
    "Namespaces",
    "Node",
    "Op",
    "Open",
    "Overlay",
    "Past",
    "Prepared",
    "Program",
    "ReadOnly",
    "Root",
    "Stage",
    "Strike",
    "Sysctl",
    "Take",
    "Tree",
]

CLONE_NEWCGROUP = 0x02000000

ATTR_RDONLY = 0x1
ATTR_NOSUID = 0x2
ATTR_NODEV = 0x4
ATTR_NOEXEC = 0x8
_ATTR_NAMES = (
    (ATTR_RDONLY, "ro"),
    (ATTR_NOSUID, "nosuid"),
    (ATTR_NODEV, "nodev"),
    (ATTR_NOEXEC, "noexec"),
)


def _attrs(value: int) -> str:
    return ",".join(name for bit, name in _ATTR_NAMES if value & bit) or "-"


@attrs.frozen
class Fs:
    """A new file system of *type* in *slot*; options as the kernel spells them."""

    slot: int
    type: str
    options: tuple[str, ...] = ()
    attr: int = ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC

    def describe(self) -> str:
        """Tell the operation in one line."""
        options = " ".join(self.options)
        return f"{self.slot} = new {self.type} [{options}] {_attrs(self.attr)}"


@attrs.frozen
class Tree:
    """
    A clone of the mount tree at *source* in *slot*.

    *source* is a path of the host, opened without following a last symbolic link, or
    the number of a prepared tree. With *idmap* the jail's ids stand for the host's.
    """

    slot: int
    source: str | int
    attr: int = ATTR_NOSUID | ATTR_NODEV
    recursive: bool = True
    idmap: bool = False

    def describe(self) -> str:
        """Tell the operation in one line."""
        kind = "prepared" if isinstance(self.source, int) else "tree"
        more = " recursive" * self.recursive + " idmapped" * self.idmap
        return f"{self.slot} = {kind} {self.source!r}{more} {_attrs(self.attr)}"


@attrs.frozen
class Overlay:
    """
    An overlay of *lowers* (slots, the uppermost first) in *slot*.

    What is written goes to the directories *name* of the slot *layer*; ``-1`` makes
    it read-only. With *stack* there is one slot in *lowers*, and the layers are the
    mounts ``0``, ``1``, ... of the tree there, so many. *below* is a slot for the same
    without the writable layer, to compare with; ``-1`` is none. With *by_name* layers
    get names between a `Stage` and a `Strike`, for kernels that take no descriptors.
    With *given*, a slot, there is a layer above them that is not the image's: nothing
    is compared with it.
    """

    slot: int
    lowers: tuple[int, ...]
    layer: int
    name: str
    userxattr: bool = True
    volatile: bool = True
    reuse: bool = False
    mode: int = 0o755
    attr: int = ATTR_NOSUID | ATTR_NODEV
    stack: int = 0
    below: int = -1
    by_name: bool = False
    given: int = -1

    def describe(self) -> str:
        """Tell the operation in one line."""
        more = " userxattr" * self.userxattr + " volatile" * self.volatile
        more += " by name" * self.by_name
        more += f" given {self.given}" if self.given >= 0 else ""
        lowers = ",".join(map(str, self.lowers))
        lowers += f"/0..{self.stack - 1}" if self.stack else ""
        more += f" below {self.below}" if self.below >= 0 else ""
        return (
            f"{self.slot} = overlay {self.name!r} of {lowers} on {self.layer}"
            f"{more} {_attrs(self.attr)}"
        )


@attrs.frozen
class Graft:
    """The tree in slot *source* is mounted at *path* of the tree in *slot*."""

    slot: int
    path: str
    source: int

    def describe(self) -> str:
        """Tell the operation in one line."""
        return f"graft {self.source} at {self.path} of {self.slot}"


@attrs.frozen
class Take:
    """
    The descriptor that the caller hands over as the layer, in *slot*.

    With *idmapped* it is one that was made by `Lay`, with the ids of this jail.
    """

    slot: int
    idmapped: bool = False

    def describe(self) -> str:
        """Tell the operation in one line."""
        more = " idmapped" * self.idmapped
        return f"{self.slot} = the layer kept from before{more}"


@attrs.frozen
class Lay:
    """
    A clone of the directory that the caller hands over as the layer, in *slot*.

    With *idmap* the jail's ids stand for those on the disk: what the jail's root writes
    belongs to id 0 there, as in an unpacked image.
    """

    slot: int
    idmap: bool = False
    attr: int = ATTR_NOSUID | ATTR_NODEV

    def describe(self) -> str:
        """Tell the operation in one line."""
        return (
            f"{self.slot} = the layer handed in{' idmapped' * self.idmap}"
            f" {_attrs(self.attr)}"
        )


@attrs.frozen
class Map:
    """
    A clone of the layer in slot *source*, where the jail's ids stand for its own.

    The layer itself is what the caller gets back: the next jail has other ids.
    """

    slot: int
    source: int
    attr: int = ATTR_NOSUID | ATTR_NODEV

    def describe(self) -> str:
        """Tell the operation in one line."""
        return f"{self.slot} = layer {self.source} idmapped {_attrs(self.attr)}"


@attrs.frozen
class Past:
    """
    The caller's *index*-th layer of a time that is over, in *slot*; for reading.

    With *idmap* the jail's ids stand for those in it.
    """

    slot: int
    index: int
    idmap: bool = False
    attr: int = ATTR_NOSUID | ATTR_NODEV | ATTR_RDONLY

    def describe(self) -> str:
        """Tell the operation in one line."""
        more = " idmapped" * self.idmap
        return f"{self.slot} = past layer {self.index}{more} {_attrs(self.attr)}"


@attrs.frozen
class Namespaces:
    """Own namespaces from here on, except that of mounts; loopback is up."""

    def describe(self) -> str:
        """Tell the operation in one line."""
        return "own namespaces"


@attrs.frozen
class Enter:
    """A mount namespace with nothing in it; *returns* says that a `Back` follows."""

    returns: bool = False

    def describe(self) -> str:
        """Tell the operation in one line."""
        return "enter an empty mount namespace"


@attrs.frozen
class Back:
    """
    The host's mounts are in sight once more.

    The kernel lists mounts in the order in which they were made, and programs take the
    first one for the root: where that is made after the `Enter`, the others have to
    come after it.
    """

    def describe(self) -> str:
        """Tell the operation in one line."""
        return "back to the host's mounts"


@attrs.frozen
class Forth:
    """In the own mount namespace again, for good."""

    def describe(self) -> str:
        """Tell the operation in one line."""
        return "forth to the own mount namespace"


@attrs.frozen
class Stage:
    """A place of the jail's own, for a moment, where layers can be given names."""

    def describe(self) -> str:
        """Tell the operation in one line."""
        return "stage layers"


@attrs.frozen
class Strike:
    """The stage is gone; what was made on it stays."""

    def describe(self) -> str:
        """Tell the operation in one line."""
        return "strike the stage"


@attrs.frozen
class Root:
    """*slot* becomes the root."""

    slot: int

    def describe(self) -> str:
        """Tell the operation in one line."""
        return f"root = {self.slot}"


@attrs.frozen
class Attach:
    """
    *slot* is mounted at *path* of the root.

    *make* says what to make when the target is missing (``dir``, ``file``, ``source``
    for what *slot* is); *strict* allows no symbolic link on the way.
    """

    slot: int
    path: str
    make: str = ""
    strict: bool = False

    def describe(self) -> str:
        """Tell the operation in one line."""
        more = f" make {self.make}" if self.make else ""
        return f"mount {self.slot} at {self.path!r}{more}{' strict' * self.strict}"


@attrs.frozen
class Dir:
    """Directory *path* in *slot* (``-1``: in the root)."""

    slot: int
    path: str
    mode: int = 0o755
    exist_ok: bool = False

    def describe(self) -> str:
        """Tell the operation in one line."""
        return f"mkdir {self.slot}:{self.path!r} {self.mode:o}"


@attrs.frozen
class Link:
    """Symbolic link *path* to *target*, in *slot*."""

    slot: int
    path: str
    target: str
    exist_ok: bool = False

    def describe(self) -> str:
        """Tell the operation in one line."""
        return f"symlink {self.slot}:{self.path!r} -> {self.target!r}"


@attrs.frozen
class Node:
    """Character device *path* in *slot*."""

    slot: int
    path: str
    major: int
    minor: int
    mode: int = 0o666

    def describe(self) -> str:
        """Tell the operation in one line."""
        return f"mknod {self.slot}:{self.path!r} {self.major}:{self.minor}"


@attrs.frozen
class File:
    """File *path* with *content*, in *slot* (``-1``: in the root)."""

    slot: int
    path: str
    content: bytes
    mode: int = 0o644
    exist_ok: bool = False

    def describe(self) -> str:
        """Tell the operation in one line."""
        return f"write {self.slot}:{self.path!r} {len(self.content)} bytes"


@attrs.frozen
class Open:
    """*slot* = what is at *path* now, of the slot *within* (``-1``: of the root)."""

    slot: int
    path: str
    within: int = -1

    def describe(self) -> str:
        """Tell the operation in one line."""
        place = "" if self.within < 0 else f"{self.within}:"
        return f"{self.slot} = open {place}{self.path!r}"


@attrs.frozen
class Mask:
    """*path* looks empty: an empty directory or the null device is put over it."""

    path: str
    directory: int
    null: int

    def describe(self) -> str:
        """Tell the operation in one line."""
        return f"mask {self.path!r}"


@attrs.frozen
class ReadOnly:
    """*path* becomes read-only."""

    path: str
    attr: int = 0

    def describe(self) -> str:
        """Tell the operation in one line."""
        return f"read-only {self.path!r} {_attrs(self.attr)}"


@attrs.frozen
class Sysctl:
    """*path* below ``/proc/sys`` of the procfs in *slot* is set to *value*."""

    slot: int
    path: str
    value: str
    optional: bool = False

    def describe(self) -> str:
        """Tell the operation in one line."""
        return f"sysctl {self.path} = {self.value}"


Op: TypeAlias = (
    Fs | Tree | Overlay | Graft | Take | Lay | Map | Past | Namespaces | Enter | Back
    | Forth | Stage | Strike | Root | Attach | Dir | Link | Node | File | Open | Mask
    | ReadOnly | Sysctl
)  # fmt: skip


@attrs.frozen(kw_only=True)
class Group:
    """
    A control group.

    Attributes:
        path: The directory; of a jail's own group the parent, its name is added.

        settings: Names of files and what to write to them, in order.

        join: ``into``, ``tasks`` or ``no``, as `jailbox.linux.cgroup` explains.

        shared: It may exist and is only removed when it is empty.
    """

    path: str
    settings: tuple[tuple[str, str], ...] = ()
    join: str = "no"
    shared: bool = False

    def describe(self) -> str:
        """Tell the group in one line."""
        writes = " ".join(f"{name}={value}" for name, value in self.settings)
        return f"group {self.path} ({self.join}) {writes}".rstrip()


@attrs.frozen
class Collect:
    """A file of a group that is read at the end, and the label it is told under."""

    group: int
    file: str
    label: str


@attrs.frozen(kw_only=True)
class Program:
    """
    A program as the kernel starts it: numbers only.

    Attributes:
        argv: The program and its arguments.

        env: ``NAME=value`` each.

        path: Directories to search, as in PATH.

        cwd: Working directory.

        make_cwd: Whether a missing working directory is made.

        uid: User id in the jail.

        gid: Group id in the jail.

        groups: Supplementary groups; ``None`` leaves them (one-id maps).

        umask: Bits that new files do not get.

        bounding: Mask of capabilities that may ever be gained.

        permitted: Mask that user 0 starts with.

        no_new_privs: Whether setuid programs give nothing.

        rlimits: (resource number, soft, hard).

        seccomp: The filter's instructions.

        landlock: A ``landlock_ruleset_attr``, or nothing.

        affinity: A cpu mask, or nothing.

        tty: Columns and rows, or ``None``.

        timeout: Seconds, or ``None``.

        agent: Serve files in place of a program.

        overlay: Which overlay the agent may compare.

        quiet: Nobody waits for the news that it was executed.

        log_limit: Output goes to a log of so many bytes; ``None``: to descriptors.
    """

    argv: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    path: str = ""
    cwd: str = "/"
    make_cwd: bool = False
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] | None = ()
    umask: int = 0o022
    bounding: int = 0
    permitted: int = 0
    no_new_privs: bool = True
    rlimits: tuple[tuple[int, int, int], ...] = ()
    seccomp: bytes = b""
    landlock: bytes = b""
    affinity: bytes = b""
    tty: tuple[int, int] | None = None
    timeout: float | None = None
    agent: bool = False
    overlay: int = -1
    quiet: bool = False
    log_limit: int | None = None

    def describe(self) -> str:
        """Tell the program in lines, without the values of variables."""
        names = " ".join(item.partition("=")[0] for item in self.env)
        nnp = " no_new_privs" * self.no_new_privs
        landlock = " landlock" * bool(self.landlock)
        groups = "kept" if self.groups is None else ",".join(map(str, self.groups))
        return "\n".join(
            (
                f"program {list(self.argv)!r}",
                f"  in {self.cwd!r} as {self.uid}:{self.gid} groups {groups or '-'}",
                f"  env {names}",
                f"  caps {self.permitted:016x} of {self.bounding:016x}{nnp}",
                f"  seccomp {len(self.seccomp) // 8} instructions{landlock}",
                f"  rlimits {self.rlimits!r}",
            )
        )


def _sources_of(ops: tuple[Op, ...]) -> tuple[str, ...]:
    return tuple(
        op.source for op in ops if isinstance(op, Tree) and isinstance(op.source, str)
    )


@attrs.frozen(kw_only=True)
class Prepared:
    """
    A tree that many jails share: slot 0 of *ops*, built once by the keeper.

    *key* is a digest of *ops*, which are hundreds: comparing keys is enough.
    """

    key: str
    ops: tuple[Op, ...] = attrs.field(eq=False)

    @property
    def sources(self) -> tuple[str, ...]:
        """The host's paths that are opened before it is built, in order."""
        return _sources_of(self.ops)


@attrs.frozen(kw_only=True, cache_hash=True)
class LaunchPlan:
    """
    Everything that one jail needs of the kernel.

    Attributes:
        namespaces: ``CLONE_NEW*`` that are made when the jail has joined its groups;
            those of processes, mounts, ipc and names every jail has.

        network: A network namespace with nothing but its loopback.

        userns: Programs get a user namespace of their own.

        groups: Control groups, made in this order.

        collect: What is read of them at the end.

        ops: What is mounted and made, in order.

        layer: Slot of the writable layer, -1 for none.

        keep_layer: The layer and its ids outlast the jail.

        ahead: The next jail like it may be made before it is asked for: what is done
            to its root touches nothing that may change meanwhile.

        hostname: Host name.

        domainname: Domain name, as ``domainname(1)`` shows it.

        oom_score_adj: How willingly the kernel ends it when memory is short.

        wall: Seconds until everything is killed, or ``None``.

        cpu_time: Seconds of processor time of everything together, or ``None``.

        cpu_group: Index of the group whose clock is read, -1 for none.

        cpu_file: The file in it.

        cpu_key: What stands before the number on its line.

        cpu_unit: Nanoseconds of one unit.

        cpus: How many processors may be used at once.

        init_bounding: Capabilities that programs may ever have.

        program: The main program, or ``None``.

        degraded: Names of what could not be applied, as was allowed.

        sources: The host's paths that are opened before the start, in order.
    """

    namespaces: int
    network: bool
    userns: bool
    groups: tuple[Group, ...] = ()
    collect: tuple[Collect, ...] = ()
    ops: tuple[Op, ...]
    layer: int = -1
    keep_layer: bool = False
    ahead: bool = False
    hostname: str = ""
    domainname: str = ""
    oom_score_adj: int = 0
    wall: float | None = None
    cpu_time: float | None = None
    cpu_group: int = -1
    cpu_file: str = ""
    cpu_key: str = ""
    cpu_unit: int = 1
    cpus: int = 1
    init_bounding: int = 0
    program: Program | None = None
    degraded: tuple[str, ...] = ()
    sources: tuple[str, ...] = attrs.field(init=False, eq=False, repr=False)

    @sources.default
    def _sources(self) -> tuple[str, ...]:
        return _sources_of(self.ops)

    def describe(self) -> str:
        """Tell the whole plan in lines."""
        kinds = " net" * self.network + " user" * self.userns
        lines = [f"namespaces {self.namespaces:#x}{kinds}"]
        lines += [group.describe() for group in self.groups]
        lines += [f"collect {item.group}/{item.file}" for item in self.collect]
        lines += [op.describe() for op in self.ops]
        lines.append(f"hostname {self.hostname}")
        if self.wall is not None:
            lines.append(f"wall {self.wall} s")
        if self.cpu_time is not None:
            lines.append(f"cpu time {self.cpu_time} s")
        if self.program is not None:
            lines.append(self.program.describe())
        return "\n".join(lines)
