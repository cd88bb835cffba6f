"""
The doctor: what this machine can do for jails, what is missing, and what to do.

`diagnose` is pure: facts in, `Report` out, so that the recording of another machine
can be examined here. `doctor` gathers the facts and asks. It creates nothing and
leaves nothing; the one real jail it may start is started by whoever calls it (*trial*).

Not for deciding how jails are made: every text here follows from facts that the plans
are made from as well.
"""

import contextlib
import html
import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

import attrs

if TYPE_CHECKING:
    from jailbox.linux.cgroup.detect import Refusal
    from jailbox.linux.facts import HostFacts

__all__ = [
    "Device",
    "Directory",
    "Finding",
    "Report",
    "State",
    "Surroundings",
    "Trial",
    "diagnose",
    "doctor",
    "look_around",
]

State = Literal["ok", "degraded", "missing"]

_WIDTH = 88
_GIB = 1 << 30


# --- values -----------------------------------------------------------------


@attrs.frozen
class Finding:
    """
    One thing that was examined.

    Attributes:
        name: What.

        state: ``ok``; ``degraded`` if jails work, but something is weaker or left out;
            ``missing`` if jails do not start with their usual protections.

        detail: What is so.

        consequence: What follows for jails, or empty.

        fix: What to do, to be copied, or empty.

        cost: What the fix gives away in security, or empty if there is no fix.
    """

    name: str
    state: State
    detail: str
    consequence: str = ""
    fix: str = ""
    cost: str = ""


@attrs.frozen(repr=False)
class Report:
    """
    What the doctor found. Prints as a table.

    Attributes:
        findings: Everything that was examined, in reading order.
    """

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Jails start here with all their usual protections or listed weaker ones."""
        return not self.missing

    @property
    def missing(self) -> tuple[Finding, ...]:
        """The findings that keep jails from starting."""
        return tuple(f for f in self.findings if f.state == "missing")

    @property
    def degraded(self) -> tuple[Finding, ...]:
        """The findings that make jails weaker or take abilities from them."""
        return tuple(f for f in self.findings if f.state == "degraded")

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __getitem__(self, name: str) -> Finding:
        for finding in self.findings:
            if finding.name == name:
                return finding
        raise KeyError(name)

    def document(self) -> dict[str, object]:
        """Give the report as plain values, ready for JSON."""
        return {"ok": self.ok, "findings": [attrs.asdict(f) for f in self.findings]}

    def __repr__(self) -> str:
        width = max((len(f.name) for f in self.findings), default=0)
        lines = []
        for finding in self.findings:
            lead = f"{finding.state:<9} {finding.name:<{width}}  "
            lines += _wrapped(lead, finding.detail, " " * len(lead))
            for label, text in _rest(finding):
                indent = " " * 10
                lines += _wrapped(f"{indent}{label}: ", text, f"{indent}  ")
        lines.append(self._verdict())
        return "\n".join(lines)

    def _verdict(self) -> str:
        if not self.ok:
            names = ", ".join(f.name for f in self.missing)
            return f"Jails do not start here as they should: {names}."
        if self.degraded:
            names = ", ".join(f.name for f in self.degraded)
            return f"Jails start here. Weaker or left out: {names}."
        return "Jails start here, and nothing is missing."

    def _repr_html_(self) -> str:
        rows = []
        for finding in self.findings:
            rest = "".join(
                f"<br><small>{label}: {html.escape(text)}</small>"
                for label, text in _rest(finding)
            )
            rows.append(
                f"<tr><td>{finding.state}</td><td>{html.escape(finding.name)}</td>"
                f'<td style="text-align:left">{html.escape(finding.detail)}{rest}'
                "</td></tr>"
            )
        body = "".join(rows)
        return f"<table>{body}</table><p>{html.escape(self._verdict())}</p>"


def _rest(finding: Finding) -> Iterator[tuple[str, str]]:
    """Give what a finding says beyond its detail, with a label."""
    for label, text in (
        ("means", finding.consequence),
        ("fix", finding.fix),
        ("price", finding.cost),
    ):
        if text:
            yield label, text


def _wrapped(lead: str, text: str, indent: str) -> list[str]:
    """Wrap *text* after *lead*. Commands are never broken inside of a word."""
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=lead,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [lead.rstrip()]


@attrs.frozen(kw_only=True)
class Device:
    """
    A device file that a back end would use.

    Attributes:
        path: Where it is.

        present: It exists.

        usable: We may read and write it.
    """

    path: str
    present: bool
    usable: bool


@attrs.frozen(kw_only=True)
class Directory:
    """
    A directory of ours, existing or to be made.

    Attributes:
        path: Where.

        existing: The nearest directory above that exists, or the same.

        writable: We may write to *existing*.

        read_only: Its file system is mounted read-only.

        free_bytes: Room for us.

        free_inodes: Files that fit; ``None`` where files are not counted.
    """

    path: str
    existing: str
    writable: bool
    read_only: bool = False
    free_bytes: int = 0
    free_inodes: int | None = None


@attrs.frozen(kw_only=True)
class Trial:
    """
    What came of starting one real jail.

    Attributes:
        started: It ran to its end.

        seconds: How long it took.

        step: Where the kernel refused, if it did.

        errno: What it answered.

        detail: What the step worked on.

        message: What else went wrong.
    """

    started: bool
    seconds: float = 0.0
    step: str = ""
    errno: int = 0
    detail: str = ""
    message: str = ""


@attrs.frozen(kw_only=True)
class Surroundings:
    """
    What the doctor looks at beyond the facts that plans are made from.

    Attributes:
        pasta: Path of the program that gives ordinary users a network, or ``None``.

        kvm: The device of hardware virtualization.

        tun: The device of virtual network cards.

        run_dir: Where the state of running jails is kept.

        store_dir: Where images are kept.

        trial: What came of a real jail; ``None`` if none was started.
    """

    pasta: str | None = None
    kvm: Device | None = None
    tun: Device | None = None
    run_dir: Directory | None = None
    store_dir: Directory | None = None
    trial: Trial | None = None


# --- facts -> findings (pure) -----------------------------------------------


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
    if around.pasta is not None or around.tun is not None:
        findings.append(_pasta(around, facts))
    if around.kvm is not None:
        findings.append(_kvm(around.kvm))
    if around.run_dir is not None:
        findings.append(_directory("run directory", around.run_dir, 1 << 24))
    if around.store_dir is not None:
        findings.append(_directory("store", around.store_dir, _GIB))
    if around.trial is not None:
        findings.append(_trial(around.trial, facts))
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
        fix, cost = _split(NONE_ALLOWED)
        detail = "user.max_user_namespaces is 0"
        return Finding(name, "missing", detail, consequence, fix, cost)
    if facts.unprivileged_userns_clone is False and not facts.is_rootful:
        fix, cost = _split(SWITCHED_OFF)
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
        fix, cost = _split(FILTERED)
        return Finding(
            name,
            "degraded",
            f"{allowed}, but a seccomp filter is upon this program and may forbid them",
            "If it does, starting a jail is refused at the step userns or clone.",
            fix,
            cost,
        )
    return Finding(name, "ok", allowed)


def _split(advice: str) -> tuple[str, str]:
    """Take a hint apart into what to do and its price."""
    fix, _, cost = advice.partition(" Price: ")
    return fix, cost.rstrip(".")


def _apparmor(facts: "HostFacts") -> Iterator[Finding]:
    from jailbox.linux.facts import CAP_SYS_ADMIN
    from jailbox.linux.hints import STRIPPED

    if not facts.apparmor_restricts_userns:
        return
    name = "AppArmor switch"
    detail = "kernel.apparmor_restrict_unprivileged_userns is 1"
    if facts.userns_stripped_by_apparmor:
        fix, cost = _split(STRIPPED)
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
            *_split(MASKED_PROC),
        )
    return Finding(
        name,
        "missing",
        detail,
        "The kernel lets no user namespace mount a fresh /proc: refused at the step "
        "fs, with proc.",
        *_split(MASKED_PROC),
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


def _pasta(around: Surroundings, facts: "HostFacts") -> Finding:
    name = "pasta"
    if facts.is_rootful:
        detail = around.pasta or "not installed"
        return Finding(name, "ok", f"{detail}; root needs none of it")
    consequence = "Networks beyond 'none' and 'host' are not there for this user."
    if around.pasta is None:
        return Finding(
            name,
            "degraded",
            "not installed",
            consequence,
            "As root: apt-get install passt.",
            "none: it runs as this user",
        )
    tun = around.tun
    if tun is not None and not tun.usable:
        state = "closed to this user" if tun.present else "absent"
        return Finding(
            name,
            "degraded",
            f"{around.pasta}, but {tun.path} is {state}",
            consequence,
            f"As root: chmod 0666 {tun.path}."
            if tun.present
            else f"As root: modprobe tun; in a container: --device {tun.path}.",
            "every user can make virtual network devices in namespaces of their own",
        )
    return Finding(name, "ok", around.pasta)


def _kvm(kvm: Device) -> Finding:
    name = "KVM"
    only = "Only virtual machines are concerned: they are emulated, and slow."
    if not kvm.present:
        return Finding(
            name,
            "degraded",
            f"{kvm.path} is absent",
            only,
            "Switch on virtualization in the firmware, or nested virtualization in the "
            "machine around this one.",
            "none",
        )
    if not kvm.usable:
        return Finding(
            name,
            "degraded",
            f"{kvm.path} is closed to this user",
            only,
            "As root: usermod -aG kvm USER, then log in again.",
            "the user can reach kernel code of virtualization",
        )
    # Some hypervisors show the device and fail at the first boot.
    return Finding(name, "ok", f"{kvm.path} is there; only a boot proves it")


def _directory(name: str, place: Directory, wanted: int) -> Finding:
    consequence = (
        "Images cannot be kept."
        if name == "store"
        else "Detached containers cannot be kept."
    )
    where = place.path
    if place.existing != place.path:
        where += f" (to be made in {place.existing})"
    if place.read_only:
        return Finding(
            name,
            "missing",
            f"{where}: read-only file system",
            consequence,
            "Choose a directory on a writable one.",
            "none",
        )
    if not place.writable:
        return Finding(
            name,
            "missing",
            f"{where}: not writable for this user",
            consequence,
            f"As root: install -d -m 700 -o USER {place.path}; or choose another.",
            "none",
        )
    free = f"{place.free_bytes / _GIB:.1f} GiB free"
    if place.free_bytes < wanted or place.free_inodes == 0:
        if place.free_inodes == 0:
            free += ", no inodes"
        return Finding(
            name,
            "degraded",
            f"{where}: {free}",
            "Jails that write will be refused for want of space.",
            f"Make room: df -h {place.existing}; df -i {place.existing}.",
            "none",
        )
    return Finding(name, "ok", f"{where}: {free}")


def _trial(trial: Trial, facts: "HostFacts") -> Finding:
    from jailbox.linux.hints import hint

    name = "a real jail"
    if trial.started:
        return Finding(name, "ok", f"started and ended in {trial.seconds * 1e3:.0f} ms")
    if not trial.step:
        return Finding(
            name, "missing", trial.message or "did not start", "No jail starts."
        )
    what = f" ({trial.detail})" if trial.detail else ""
    text = os.strerror(trial.errno)
    fix, cost = _split(hint(trial.step, trial.errno, facts, trial.detail) or "")
    return Finding(
        name,
        "missing",
        f"refused at the step {trial.step}{what}: {text}",
        "No jail starts.",
        fix,
        cost or "none",
    )


# --- looking ----------------------------------------------------------------


def _device(path: str) -> Device:
    usable = os.access(
        path, os.R_OK | os.W_OK, effective_ids=os.access in os.supports_effective_ids
    )
    return Device(path=path, present=os.path.exists(path), usable=usable)


def _place(path: str) -> Directory:
    """Look at a directory that may not exist yet, without making it."""
    path = existing = os.path.abspath(path)
    while not os.path.isdir(existing) and existing != "/":
        existing = os.path.dirname(existing)
    writable = os.access(
        existing,
        os.W_OK | os.X_OK,
        effective_ids=os.access in os.supports_effective_ids,
    )
    info = None
    with contextlib.suppress(OSError):
        info = os.statvfs(existing)
    if info is None:
        return Directory(path=path, existing=existing, writable=writable)
    return Directory(
        path=path,
        existing=existing,
        writable=writable,
        read_only=bool(info.f_flag & os.ST_RDONLY),
        free_bytes=info.f_bavail * info.f_frsize,
        # btrfs and some network file systems count none at all.
        free_inodes=info.f_favail if info.f_files else None,
    )


def look_around(
    *,
    run_dir: str | None = None,
    store_dir: str | None = None,
    trial: Callable[[], Trial] | None = None,
) -> Surroundings:
    """Look at what the facts leave out. Creates nothing."""
    pasta = None
    for directory in os.get_exec_path():
        path = os.path.join(directory, "pasta")
        if directory.startswith("/") and os.access(path, os.X_OK):
            pasta = path
            break
    return Surroundings(
        pasta=pasta,
        kvm=_device("/dev/kvm"),
        tun=_device("/dev/net/tun"),
        run_dir=_place(run_dir) if run_dir is not None else None,
        store_dir=_place(store_dir) if store_dir is not None else None,
        trial=trial() if trial is not None else None,
    )


def doctor(
    *,
    facts: "HostFacts | None" = None,
    run_dir: str | None = None,
    store_dir: str | None = None,
    landlock_abi: Callable[[], int] | None = None,
    trial: Callable[[], Trial] | None = None,
) -> Report:
    """
    Examine this machine. Creates nothing, and leaves nothing.

    Args:
        facts: What is known already; read afresh by default, since people call this
            after they changed something.

        run_dir: Where the state of running jails is kept; not examined if ``None``.

        store_dir: The same for images.

        landlock_abi: Asks the kernel for its version of Landlock.

        trial: Starts one real jail and says what came of it.

    Returns:
        A report that prints as a table.
    """
    if sys.platform != "linux":
        return Report(
            (
                Finding(
                    "platform",
                    "missing",
                    f"{sys.platform}, not Linux",
                    "Jails are a feature of the Linux kernel.",
                    "Use an engine in a Linux virtual machine.",
                    "none",
                ),
            )
        )
    from jailbox.linux.facts import read_facts

    if facts is None:
        facts = read_facts(landlock_abi=landlock_abi)
    around = look_around(run_dir=run_dir, store_dir=store_dir, trial=trial)
    return diagnose(facts, around)
