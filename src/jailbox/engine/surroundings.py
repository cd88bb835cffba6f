"""
What the doctor looks at beyond the facts that plans are made from, and what it means.

Pure: values in, findings out. Who looks is `jailbox.engine.doctor`.
"""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from jailbox.engine.report import Finding, fix_and_price

if TYPE_CHECKING:
    from jailbox.linux.facts import HostFacts

__all__ = ["Device", "Directory", "Surroundings", "Trial", "findings_around"]

_GIB = 1 << 30


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


def findings_around(around: Surroundings, facts: "HostFacts") -> Iterator[Finding]:
    """Examine what is known beyond the facts; what is not known is left out."""
    if around.pasta is not None or around.tun is not None:
        yield _pasta(around, facts)
    if around.kvm is not None:
        yield _kvm(around.kvm)
    if around.run_dir is not None:
        yield _directory("run directory", around.run_dir, 1 << 24)
    if around.store_dir is not None:
        yield _directory("store", around.store_dir, _GIB)
    if around.trial is not None:
        yield _trial(around.trial, facts)


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
    fix, cost = fix_and_price(hint(trial.step, trial.errno, facts, trial.detail) or "")
    return Finding(
        name,
        "missing",
        f"refused at the step {trial.step}{what}: {text}",
        "No jail starts.",
        fix,
        cost or "none",
    )
