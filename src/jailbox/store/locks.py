"""
Locks that die with whoever holds them, and are never inherited.

A lock is `flock` on a file of the store. The kernel frees it when the last copy of its
descriptor is closed: on any death of the holder, after any crash, without a process
number written anywhere. A forked child would hold a copy, so it closes all of them
before anything else happens in it; programs that are executed never see them
(close-on-exec).

Waiting is by asking again: only so does it honor a deadline, and answer to Ctrl-C.
"""

import contextlib
import errno
import fcntl
import os
import threading
import time
import weakref
from types import TracebackType
from typing import Final, Self

from jailbox.errors import DeadlineExceeded

__all__ = [
    "EXCLUSIVE",
    "SHARED",
    "Held",
    "acquire",
    "adopt",
    "holders",
    "is_still",
    "open_held",
]

SHARED: Final = fcntl.LOCK_SH
EXCLUSIVE: Final = fcntl.LOCK_EX

_FIRST_PAUSE, _LONGEST_PAUSE = 0.0005, 0.02

# Descriptors that a forked child closes. They are opened and noted under one lock,
# which a fork takes too: a child never has one that is not noted. It may be taken again
# by the thread that has it, for a finalizer can run at any moment.
_noted: set[int] = set()
_guard = threading.RLock()
_watching = False


def _after_fork_in_child() -> None:
    global _guard  # noqa: PLW0603  # the old one is held by a thread that is not here
    for fd in _noted:
        os.close(fd)
    _noted.clear()
    _guard = threading.RLock()


def _before_fork() -> None:
    _guard.acquire()


def _after_fork() -> None:
    _guard.release()


def _close(fd: int, owner: int) -> None:
    # In a forked child the number may be somebody else's by now.
    if os.getpid() == owner:
        with _guard:
            _noted.discard(fd)
            # The lock is gone whatever close() says, and nothing was written.
            with contextlib.suppress(OSError):
                os.close(fd)


class Held:
    """
    A descriptor that this process holds and no child of it gets.

    Closing it frees the lock on it, unless somebody was given a copy.
    """

    __slots__ = ("__weakref__", "_closer", "_number", "_owner")

    def __init__(self, number: int) -> None:
        self._number = number
        self._owner = os.getpid()
        self._closer = weakref.finalize(self, _close, number, self._owner)
        self._closer.atexit = False

    def fileno(self) -> int:
        """The number, owned here."""
        if self.closed:
            raise ValueError("the lock is released")
        return self._number

    @property
    def closed(self) -> bool:
        """Whether it was released; always true in a forked child."""
        return not self._closer.alive or os.getpid() != self._owner

    def close(self) -> None:
        """Release it, unless that has happened."""
        self._closer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def open_held(path: str, flags: int, *, dir_fd: int, mode: int = 0o600) -> Held:
    """
    Open a file of the store such that no forked child keeps it.

    Raises:
        OSError: As `os.open` does.
    """
    global _watching  # noqa: PLW0603  # hooks cannot be taken back: set them once
    with _guard:
        if not _watching:
            os.register_at_fork(
                before=_before_fork,
                after_in_parent=_after_fork,
                after_in_child=_after_fork_in_child,
            )
            _watching = True
        fd = os.open(path, flags | os.O_CLOEXEC, mode, dir_fd=dir_fd)
        _noted.add(fd)
    return Held(fd)


def adopt(held: Held, kind: int) -> bool:
    """
    Lock what is open already, if nobody is in the way; whether that was so.

    Raises:
        OSError: If the file system has no locks.
    """
    try:
        fcntl.flock(held.fileno(), kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_still(held: Held, path: str, *, dir_fd: int) -> bool:
    """Return whether *path* is the file that was opened, and not a later one."""
    mine = os.fstat(held.fileno())
    try:
        there = os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (mine.st_ino, mine.st_dev) == (there.st_ino, there.st_dev)


def acquire(
    path: str,
    kind: int,
    *,
    dir_fd: int,
    timeout: float,
    what: str,
    flags: int = os.O_RDWR | os.O_CREAT,
) -> Held:
    """
    Wait for the lock on a file, which is made if need be.

    A lock file may be removed by whoever holds it exclusively: a lock on a file that
    is no longer there is no lock, and is tried again.

    Args:
        path: The file, below *dir_fd*.

        kind: `SHARED` or `EXCLUSIVE`.

        dir_fd: Borrowed.

        timeout: Seconds.

        what: What is locked, for the error.

        flags: How to open it.

    Raises:
        DeadlineExceeded: If others held it all the time; it names them.

        OSError: If the file cannot be opened, or the file system has no locks.
    """
    deadline = time.monotonic() + timeout
    pause = _FIRST_PAUSE
    while True:
        held = open_held(path, flags, dir_fd=dir_fd)
        try:
            while not adopt(held, kind):
                now = time.monotonic()
                if now >= deadline:
                    raise DeadlineExceeded(
                        f"waiting for {what}, which {_words(holders(held))},",
                        timeout,
                        hint="It is freed when that ends, however it ends.",
                    )
                time.sleep(min(pause, deadline - now))
                pause = min(pause * 2, _LONGEST_PAUSE)
            if is_still(held, path, dir_fd=dir_fd):
                return held
        except BaseException:
            held.close()
            raise
        held.close()


def holders(held: Held) -> tuple[str, ...]:
    """
    Name the processes that have a lock on the same file: ``python3 (pid 12)``.

    Nobody has written that down: the kernel knows. Processes outside of our process
    namespace cannot be seen, so the answer may be empty.

    Source: *proc(5)*, ``/proc/locks``.
    """
    me = os.fstat(held.fileno())
    pids = set()
    try:
        with open("/proc/locks", encoding="ascii") as file:
            for line in file:
                fields = line.split()
                # Those that wait are told with an arrow in the second field.
                if len(fields) >= 6 and fields[1] == "FLOCK":  # noqa: PLR2004
                    _, _, inode = fields[5].rpartition(":")
                    if inode == str(me.st_ino):
                        pids.add(int(fields[4]))
    except OSError:
        return ()
    return tuple(f"{_name(pid)} (pid {pid})" for pid in sorted(pids) if pid > 0)


def _name(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError as error:
        return "somebody" if error.errno != errno.ENOENT else "a process that ended"


def _words(names: tuple[str, ...]) -> str:
    return f"{', '.join(names)} has" if names else "another process has"
