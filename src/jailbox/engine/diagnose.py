"""
Facts about a machine become findings. Pure.

The recording of another machine can be examined as well.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from jailbox.engine.report import Finding, Report, fix_and_price
from jailbox.engine.surroundings import Surroundings, findings_around

if TYPE_CHECKING:
    from jailbox.linux.cgroup.detect import Refusal
    from jailbox.linux.facts import HostFacts

__all__ = ["diagnose"]


def diagnose(facts: "HostFacts", around: Surroundings | None = None) -> Report:
    """
    Examine a machine by its facts. Pure.

    Args:
        facts: The machine.

        around: What else is known. Without it, what it would tell is not examined.
    """
    around = around or Surroundings()
    findings = [
        _kernel(facts),
        _user_namespaces(facts),
        *_apparmor(facts),
        _ids(facts),
        _proc(facts),
        _clone3(facts),
        _helper(facts),
        *_cgroups(facts),
        _overlay(facts),
        _idmapped(facts),
        _seccomp(facts),
        _landlock(facts),
        _network_namespaces(facts),
        *_rlimits(facts),
    ]
    findings += findings_around(around, facts)
    return Report(tuple(findings))


def _kernel(facts: "HostFacts") -> Finding:
    name = "kernel"
    detail = f"Linux {facts.release} on {facts.arch}"
    upgrade = "Upgrade the kernel."
    if not facts.can_set_mount_attributes:
        return Finding(
            name,
            "missing",
            f"{detail}: lacks mount_setattr (5.12)",
            "The root of a jail cannot be assembled safely.",
            upgrade,
            "none",
        )
    lacks = []
    if not facts.overlay_takes_descriptors:
        lacks.append("overlay layers by descriptor (6.13)")
    if not facts.can_mount_on_detached:
        lacks.append("clones of detached trees (6.15)")
    if lacks:
        return Finding(
            name,
            "degraded",
            f"{detail}: lacks {' and '.join(lacks)}",
            "The root of a jail is assembled in a longer way: a start on the host's "
            "programs takes some ten milliseconds more, and gives the same.",
            upgrade,
            "none",
        )
    return Finding(name, "ok", f"{detail}, with the whole new mount interface")


def _user_namespaces(facts: "HostFacts") -> Finding:
    from jailbox.linux.hints import FILTERED, NONE_ALLOWED, SWITCHED_OFF

    name = "user namespaces"
    consequence = "No jail starts, unless as root with Security(userns='host')."
    if facts.max_user_namespaces is None:
        return Finding(
            name,
            "missing",
            "the kernel was built without them (CONFIG_USER_NS)",
            consequence,
            "Use a kernel of a common distribution.",
            "every user can reach kernel code that namespaces open",
        )
    if facts.max_user_namespaces == 0:
        fix, cost = fix_and_price(NONE_ALLOWED)
        detail = "user.max_user_namespaces is 0"
        return Finding(name, "missing", detail, consequence, fix, cost)
    if facts.unprivileged_userns_clone is False and not facts.is_rootful:
        fix, cost = fix_and_price(SWITCHED_OFF)
        detail = "kernel.unprivileged_userns_clone is 0"
        return Finding(name, "missing", detail, consequence, fix, cost)
    if facts.userns_stripped_by_apparmor:
        return Finding(
            name,
            "missing",
            "AppArmor takes their rights away",
            consequence,
            "See AppArmor switch.",
            "see there",
        )
    allowed = f"up to {facts.max_user_namespaces}"
    if facts.seccomp_mode == 2 and not facts.is_rootful:  # noqa: PLR2004
        fix, cost = fix_and_price(FILTERED)
        return Finding(
            name,
            "degraded",
            f"{allowed}, but a seccomp filter is upon this program and may forbid them",
            "If it does, starting a jail is refused at the step userns or clone.",
            fix,
            cost,
        )
    return Finding(name, "ok", allowed)


def _apparmor(facts: "HostFacts") -> Iterator[Finding]:
    from jailbox.linux.facts import CAP_SYS_ADMIN
    from jailbox.linux.hints import STRIPPED

    if not facts.apparmor_restricts_userns:
        return
    name = "AppArmor switch"
    detail = "kernel.apparmor_restrict_unprivileged_userns is 1"
    if facts.userns_stripped_by_apparmor:
        fix, cost = fix_and_price(STRIPPED)
        yield Finding(
            name,
            "missing",
            f"{detail}, and no profile allows this interpreter",
            "A user namespace of ours comes without rights: mounting in it is refused.",
            fix,
            cost,
        )
        return
    why = f"the profile {facts.apparmor_label}"
    if facts.has_cap(CAP_SYS_ADMIN):
        why = "a program with CAP_SYS_ADMIN"
    yield Finding(name, "ok", f"{detail}, but does not concern {why}")


def _ids(facts: "HostFacts") -> Finding:
    name = "ids"
    mode = facts.id_mode
    if mode == "private":
        return Finding(name, "ok", "every jail gets 65536 ids of its own (root)")
    if mode == "subuid":
        ranges = ", ".join(f"{r.start}+{r.count}" for r in facts.subuid)
        return Finding(name, "ok", f"subordinate ids {ranges}, mapped by newuidmap")
    if facts.no_new_privs:
        fix = "Start this program without no_new_privs: NoNewPrivileges=no in its unit."
        cost = "setuid programs give this program rights again"
    else:
        fix = (
            "As root: apt-get install uidmap; usermod --add-subuids 100000-165535 "
            "--add-subgids 100000-165535 USER."
        )
        cost = "two small setuid programs, and 65536 ids that belong to the user"
    return Finding(
        name,
        "degraded",
        f"one id only: {facts.why_single_id}",
        "Jails work, but programs in them cannot change users or owners, as package "
        "managers do; owners of files in images are kept as metadata.",
        fix,
        cost,
    )


def _proc(facts: "HostFacts") -> Finding:
    from jailbox.linux.hints import MASKED_PROC

    name = "/proc"
    if not facts.masked_proc:
        return Finding(name, "ok", "whole, so jails can have their own")
    count = len(facts.masked_proc)
    detail = f"{count} parts are covered ({facts.masked_proc[0]} ...)"
    if facts.is_rootful:
        # The check is about user namespaces; ours is the first one.
        return Finding(
            name,
            "degraded",
            detail,
            "A jail inside of a jail cannot mount its own /proc.",
            *fix_and_price(MASKED_PROC),
        )
    return Finding(
        name,
        "missing",
        detail,
        "The kernel lets no user namespace mount a fresh /proc: refused at the step "
        "fs, with proc.",
        *fix_and_price(MASKED_PROC),
    )


def _clone3(facts: "HostFacts") -> Finding:
    name = "clone3"
    if facts.kernel < (5, 3, 0):
        return Finding(
            name,
            "missing",
            "the kernel has none (5.3)",
            "No jail starts.",
            "Upgrade the kernel.",
            "none",
        )
    if not facts.can_clone_into_cgroup:
        return Finding(
            name,
            "degraded",
            "without CLONE_INTO_CGROUP (5.7)",
            "Entering a control group of version 2 takes milliseconds more.",
            "Upgrade the kernel.",
            "none",
        )
    return Finding(name, "ok", "with CLONE_INTO_CGROUP and pidfds")


def _helper(facts: "HostFacts") -> Finding:
    name = "helper"
    if facts.memfd_exec:
        return Finding(name, "ok", "may be executed from memory")
    return Finding(
        name,
        "missing",
        "vm.memfd_noexec is 2: nothing may be executed from memory",
        "The helper that makes jails cannot be started.",
        "As root: sysctl -w vm.memfd_noexec=0.",
        "programs can run code that was never a file",
    )


_HOLDS = {
    "memory": "memory limits",
    "pids": "limits of processes over all users of a jail",
    "cpu": "cpus=",
    "cpuset": "cpuset=",
}


def _cgroups(facts: "HostFacts") -> Iterator[Finding]:
    layout = facts.cgroups
    name = "control groups"
    refusals = {
        controller: refusal
        for controller in _HOLDS
        if (refusal := layout.refusal(controller)) is not None
    }
    usable = " ".join(c for c in _HOLDS if c not in refusals)
    if not refusals:
        parents = sorted({h.parent for h in layout.hierarchies if h.parent is not None})
        place = parents[-1] if layout.kind == "v2" and parents else "every hierarchy"
        yield Finding(name, "ok", f"{layout.kind}: {usable}, in {place}")
    else:
        first: Refusal = next(iter(refusals.values()))
        lost = ", ".join(_HOLDS[c] for c in refusals)
        have = f"only {usable}" if usable else "none usable"
        yield Finding(
            name,
            "degraded",
            f"{layout.kind}, {have}: {first.reason} ({first.path})",
            f"Not enforced: {lost}. Asking for one is an error, unless "
            "Security(degrade=...) names it. Time, output and disk limits hold.",
            first.remedy,
            first.cost or "none",
        )
    unified = layout.unified
    if unified is None or "cgroup.kill" not in unified.knobs:
        yield Finding(
            "pause and kill",
            "degraded",
            "no version 2 group with cgroup.freeze and cgroup.kill",
            "Killing relies on the PID namespace alone; pausing needs the version 1 "
            "freezer.",
            "Mount the unified hierarchy beside the others: mount -t cgroup2 none "
            "/sys/fs/cgroup/unified. Linux 5.14 has both files."
            if layout.kind == "v1"
            else "See control groups.",
            "none",
        )


def _overlay(facts: "HostFacts") -> Finding:
    name = "overlay"
    if not facts.has_overlay:
        return Finding(
            name,
            "missing",
            "the kernel has no overlay file system",
            "Images cannot be given a private writable layer.",
            "As root: modprobe overlay.",
            "none",
        )
    if not facts.can_overlay:
        return Finding(
            name,
            "missing",
            f"ordinary users may mount it since Linux 5.11, not in {facts.release}",
            "Images cannot be given a private writable layer.",
            "Run as root, or upgrade the kernel.",
            "root is a higher price than an upgrade",
        )
    if not facts.is_rootful and not facts.tmpfs_keeps_user_attributes:
        return Finding(
            name,
            "degraded",
            f"a tmpfs notes nothing for users before Linux 6.6, as in {facts.release}",
            "Jails are refused; with degrade={'overlay'} they start, and removing a "
            "directory of an image fails with EIO.",
            "Run as root, or upgrade the kernel.",
            "root is a higher price than an upgrade",
        )
    if "overlay" not in facts.filesystems:
        return Finding(name, "ok", "loaded by the first mount")
    return Finding(name, "ok", "for root" if facts.is_rootful else "for this user")


def _idmapped(facts: "HostFacts") -> Finding:
    name = "idmapped mounts"
    if facts.can_overlay_idmapped:
        return Finding(name, "ok", "also below an overlay")
    if not facts.is_rootful:
        return Finding(
            name, "ok", "only for root; the layers of this user need none of them"
        )
    return Finding(
        name,
        "missing",
        f"below an overlay since Linux 5.19, not in {facts.release}",
        "As root no jail starts: owners in images do not fit the ids of a jail.",
        "Upgrade the kernel, or run as an ordinary user.",
        "none",
    )


def _seccomp(facts: "HostFacts") -> Finding:
    name = "seccomp"
    if facts.has_seccomp:
        return Finding(name, "ok", f"{len(facts.seccomp_actions)} actions")
    return Finding(
        name,
        "missing",
        "the kernel has no filters of system calls",
        "Jails are refused, unless Security(degrade={'seccomp'}).",
        "Use a kernel with CONFIG_SECCOMP_FILTER.",
        "none",
    )


_SCOPES_ABI = 6


def _landlock(facts: "HostFacts") -> Finding:
    name = "Landlock"
    consequence = (
        "Abstract sockets and signals are kept apart by the network and PID "
        "namespaces alone."
    )
    abi = facts.landlock_abi
    if abi is None:
        return Finding(
            name, "degraded", "not asked: the native part is not there", consequence
        )
    if abi >= _SCOPES_ABI:
        return Finding(name, "ok", f"ABI {abi}, with scopes")
    if abi > 0:
        return Finding(
            name,
            "degraded",
            f"ABI {abi}, scopes begin with {_SCOPES_ABI} (Linux 6.12)",
            consequence,
            "Upgrade the kernel.",
            "none",
        )
    return Finding(
        name,
        "degraded",
        "absent",
        consequence,
        "Use a kernel with CONFIG_SECURITY_LANDLOCK, and landlock in lsm= on its "
        "command line.",
        "none",
    )


def _network_namespaces(facts: "HostFacts") -> Finding:
    name = "network namespaces"
    if "net" not in facts.namespaces:
        return Finding(
            name,
            "missing",
            "the kernel was built without them (CONFIG_NET_NS)",
            "Only network='host' works, and that isolates nothing.",
            "Use a kernel of a common distribution.",
            "none",
        )
    if facts.max_net_namespaces == 0:
        return Finding(
            name,
            "missing",
            "user.max_net_namespaces is 0",
            "Only network='host' works, and that isolates nothing.",
            "As root: sysctl -w user.max_net_namespaces=15000.",
            "every user can reach kernel code of network devices",
        )
    return Finding(name, "ok", f"up to {facts.max_net_namespaces}")


_FILES_WANTED = 1024


def _rlimits(facts: "HostFacts") -> Iterator[Finding]:
    from jailbox.linux.facts import CAP_SYS_RESOURCE

    name = "own limits"
    files = facts.rlimit("nofile")
    if files is not None and 0 <= files.hard < _FILES_WANTED:
        yield Finding(
            name,
            "degraded",
            f"at most {files.hard} open files",
            "Jails inherit it; starting many at a time runs out of descriptors.",
            "Raise it where this program is started: ulimit -n 4096, LimitNOFILE=4096.",
            "none",
        )
        return
    tasks = facts.rlimit("nproc")
    detail = []
    if files is not None:
        detail.append(f"open files {_bound(files.hard)}")
    if tasks is not None:
        detail.append(f"processes {_bound(tasks.hard)}")
    if facts.euid == 0 and not facts.has_cap(CAP_SYS_RESOURCE):
        detail.append("no CAP_SYS_RESOURCE: hard limits cannot be raised")
    if detail:
        yield Finding(name, "ok", ", ".join(detail))


def _bound(value: int) -> str:
    return "unlimited" if value < 0 else str(value)
