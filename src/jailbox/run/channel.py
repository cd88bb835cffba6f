"""
A conversation about one program, or one jail: what has been said so far.

Several threads may wait for the same jail. Each waits for the descriptor to be
readable and then calls `update`; whoever comes first takes the message, and all of
them look at the state.
"""

import contextlib
import os
import threading
from collections.abc import Iterator

from jailbox.linux.keeper import send
from jailbox.linux.messages import (
    End,
    Exited,
    Gone,
    Inbox,
    Ready,
    Report,
    Started,
)
from jailbox.linux.record import MESSAGE_SIGNAL, SIGNAL

__all__ = ["Channel"]

_SIGKILL = 9


class Channel:
    """
    Our end of a channel. Owns its descriptor.

    Attributes:
        ready: The jail is complete.

        started: The program was executed.

        exited: How the program ended.

        gone: Nothing is left of the jail.

        report: What was refused.

        terminal: Our side of the program's terminal; owned by whoever takes it.

        layer: The writable layer that came with *ready* or *report*; likewise.

        over: Nobody is left at the other side.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self._inbox = Inbox()
        self.ready: Ready | None = None
        self.started: Started | None = None
        self.exited: Exited | None = None
        self.gone: Gone | None = None
        self.report: Report | None = None
        self.terminal: int | None = None
        self.layer: int | None = None
        self.over = False

    def fileno(self) -> int:
        """The descriptor, still owned here."""
        return self._fd

    @contextlib.contextmanager
    def watched(self) -> Iterator[int | None]:
        """Lend a descriptor to wait for that nobody else closes; ``None`` if closed."""
        with self._lock:
            fd = os.dup(self._fd) if self._fd >= 0 else None
        try:
            yield fd
        finally:
            if fd is not None:
                os.close(fd)

    def update(self) -> None:
        """Take every message that is there. Never waits."""
        with self._lock:
            while not self.over and self._fd >= 0:
                received = self._inbox.receive(self._fd)
                if received is None:
                    return
                message, fd = received
                match message:
                    case Ready():
                        self.ready, self.layer = message, fd
                    case Started():
                        self.started, self.terminal = message, fd
                    case Exited():
                        self.exited = message
                    case Gone():
                        self.gone = message
                    case Report():
                        self.report = message
                        self.layer = self.layer if fd is None else fd
                    case End():
                        self.over = True

    def signal(self, number: int, *, tree: bool = False) -> None:
        """Ask the supervisor to send a signal; to everything below it with *tree*."""
        with self._lock:
            if self._fd < 0 or self.over:
                return
            try:
                send(self._fd, SIGNAL.pack(MESSAGE_SIGNAL, number, tree, 0))
            except OSError:
                # It has just ended; the next update() says so.
                return

    def close(self) -> None:
        """Leave. An exec whose channel is closed while it runs is ended."""
        with self._lock:
            fds = [self._fd, self.terminal, self.layer]
            self._fd = -1
            self.terminal = self.layer = None
        for fd in fds:
            if fd is not None and fd >= 0:
                os.close(fd)
