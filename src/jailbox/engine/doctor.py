"""
The doctor: what this machine can do for jails, what is missing, and what to do.

`jailbox.engine.diagnose` is pure: facts in, `Report` out, so that the recording of
another machine can be examined here. `doctor` gathers the facts and asks. It creates
nothing and leaves nothing; the one real jail it may start is started by whoever calls
it (*trial*).

Not for deciding how jails are made: every text here follows from facts that the plans
are made from as well.
"""

import contextlib
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from jailbox.engine.diagnose import diagnose
from jailbox.engine.report import Finding, Report, State
from jailbox.engine.surroundings import Device, Directory, Surroundings, Trial

if TYPE_CHECKING:
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
