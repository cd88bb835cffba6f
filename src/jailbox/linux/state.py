"""
The run directory: what must be known about keepers from outside of them.

A keeper is named by one file that is locked as long as it lives. A file whose lock is
free belongs to nobody: `sweep` removes what its owner left. Liveness is the lock and
nothing else, neither a process number nor an age.
"""

import contextlib
import fcntl
import os
import secrets
import stat
import tempfile
import time
from collections.abc import Iterable

from jailbox.errors import HostError

__all__ = ["claim", "run_directory", "sweep"]

_NOTED_MAX = 64 << 10

_PATIENCE = 0.5
"""Seconds that the groups of a dead keeper may stay busy before they are left."""


def run_directory() -> str:
    """
    Find the directory for state of this boot, and make it if need be.

    ``/run/jailbox`` for root; else below ``XDG_RUNTIME_DIR``, or in the temporary
    directory under the user's number. It must be ours and nobody else's to write.

    Raises:
        HostError: If it belongs to somebody else, or cannot be made.
    """
    uid = os.geteuid()
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if uid == 0:
        path = "/run/jailbox"
    elif os.path.isabs(runtime) and os.access(runtime, os.W_OK):
        path = os.path.join(runtime, "jailbox")
    else:
        path = os.path.join(tempfile.gettempdir(), f"jailbox-{uid}")
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        found = os.lstat(path)
    except OSError as error:
        raise HostError(
            "cannot make the run directory",
            path=path,
            errno=error.errno,
            hint="Set XDG_RUNTIME_DIR to a directory that you can write to.",
        ) from error
    ours = found.st_uid == uid and not found.st_mode & 0o022
    if not stat.S_ISDIR(found.st_mode) or not ours:
        raise HostError(
            "the run directory is not ours alone",
            path=path,
            hint=f"Remove {path}, or have its owner remove it.",
        )
    return path


def claim(directory: str, groups: Iterable[str] = ()) -> tuple[str, int]:
    """
    Take a name for a keeper.

    Args:
        directory: The run directory.

        groups: Its control groups, with ``{keeper}`` for the name. They stand in the
            file: whoever sweeps may have others, or none.

    Returns:
        The name, and the locked descriptor of its file; owned by the caller. The lock
        lasts as long as any copy of the descriptor is open.
    """
    name = f"{os.getpid()}-{secrets.token_hex(4)}"
    path = os.path.join(directory, f"{name}.keeper")
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        lines = "".join(f"{group.replace('{keeper}', name)}\n" for group in groups)
        os.write(fd, os.fsencode(lines))
    except BaseException:
        os.unlink(path)
        os.close(fd)
        raise
    return name, fd


def sweep(directory: str, group_parents: tuple[str, ...]) -> tuple[str, ...]:
    """
    Remove what dead keepers left: their control groups and their names.

    Two living processes never sweep each other, and running it twice is harmless.

    Args:
        directory: The run directory.

        group_parents: Directories below which keepers have a directory of their name.

    Returns:
        The names that were swept.
    """
    swept = []
    for entry in os.listdir(directory):
        name, dot, kind = entry.rpartition(".")
        path = os.path.join(directory, entry)
        if not dot or kind != "keeper":
            continue
        noted = _of_the_dead(path)
        if noted is None:
            continue
        groups = {os.path.join(parent, name) for parent in group_parents}
        groups |= {path for path in noted if os.path.basename(path) == name}
        # Its jails die with it, which takes the kernel a moment.
        deadline = time.monotonic() + _PATIENCE
        while not all([_remove_groups(group) for group in groups]):  # noqa: C419  # each
            if time.monotonic() > deadline:
                break
            time.sleep(0.002)
        else:
            # What is left needs its name, for somebody has to come back for it.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            swept.append(name)
    return tuple(swept)


def _of_the_dead(path: str) -> tuple[str, ...] | None:
    """Read which groups a dead keeper had; ``None`` if it lives."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return tuple(os.fsdecode(os.read(fd, _NOTED_MAX)).splitlines())
    except OSError:
        return None
    finally:
        os.close(fd)


def _remove_groups(path: str) -> bool:
    """Remove a tree of control groups; whether nothing is left of it."""
    try:
        entries = [e.path for e in os.scandir(path) if e.is_dir(follow_symlinks=False)]
        for entry in entries:
            _remove_groups(entry)
        os.rmdir(path)
    except OSError:
        return not os.path.isdir(path)
    return True
