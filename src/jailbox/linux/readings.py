"""
Looking at this machine, and thinking nothing of it: files and numbers, as they are.

Nothing is created, mounted or started, and no process is spawned. What follows from
what was read is concluded in `jailbox.linux.facts`.
"""

import contextlib
import os
import platform
import resource
from collections.abc import Callable, Iterable, Mapping
from glob import glob, has_magic

import attrs

from jailbox.linux.cgroup.detect import (
    KNOBS,
    CgroupNode,
    Chain,
    chains,
    parse_membership,
    parse_mountinfo,
)
from jailbox.linux.host import Helper, Rlimit

__all__ = ["Readings", "existing", "take_readings"]

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
