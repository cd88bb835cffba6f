"""
What this machine can do: read once, frozen, and passed around.

`jailbox.linux.readings` is the only place that looks; `facts_from` turns what it read
into `HostFacts` and is pure, so the recording of another machine answers the same
questions. Everybody else takes a `HostFacts` and asks its predicates.

Not for trying things out: nothing is created, mounted or started here, and no process
is spawned. What only an attempt can tell is told by the attempt (`jailbox.doctor`
makes one).
"""

from collections.abc import Callable, Iterable

from jailbox.linux.cgroup.detect import Mounted, detect, parse_mountinfo
from jailbox.linux.host import (
    CAP_SYS_ADMIN,
    CAP_SYS_RESOURCE,
    Helper,
    HostFacts,
    IdMode,
    IdRange,
    Rlimit,
)
from jailbox.linux.readings import Readings, existing, take_readings

__all__ = [
    "CAP_SYS_ADMIN",
    "CAP_SYS_RESOURCE",
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

_ALL_IDS = 2**32 - 1


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
