"""
Deadlines that hold on the wire, and a way to end an operation from another thread.

A timeout of a socket is for one ``recv``: a peer that sends a byte a minute never
meets it. So the sockets of this room ask, before each wait, how long the operation that
they work for may still take; and an operation that is over shuts down the sockets that
are waiting for it.

What is not covered is the look-up of a host's name, which the C library does as it
likes.
"""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any

from jailbox.errors import DeadlineExceeded

__all__ = ["Call", "Interrupted", "Pace", "paced_context"]


class Interrupted(Exception):
    """The operation was ended by another thread. Never reaches a caller."""


class Call:
    """
    One operation of a caller, in however many threads and requests.

    Attributes:
        action: What it is, for errors.

        timeout: How long it may take, in seconds, or ``None``.
    """

    def __init__(self, action: str, timeout: float | None = None) -> None:
        self.action = action
        self.timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._waiting: set[socket.socket] = set()

    def remaining(self) -> float | None:
        """Return how many seconds are left; ``None``: no bound."""
        if self._deadline is None:
            return None
        return max(0.0, self._deadline - time.monotonic())

    def check(self) -> None:
        """
        Go on only if there is time and nobody ended it.

        Raises:
            DeadlineExceeded: If the time is over.
            Interrupted: If `cancel` was called.
        """
        if self._over.is_set():
            raise Interrupted
        if self.timeout is not None and self.remaining() == 0:
            raise DeadlineExceeded(self.action, self.timeout)

    def sleep(self, seconds: float) -> None:
        """
        Wait, unless it is ended before.

        Raises:
            DeadlineExceeded: At once, if the time would be over before.
        """
        self.check()
        left = self.remaining()
        if left is not None and self.timeout is not None and left <= seconds:
            raise DeadlineExceeded(self.action, self.timeout)
        if self._over.wait(seconds):
            raise Interrupted

    def cancel(self) -> None:
        """End it: whoever works for it stops at once, in every thread."""
        with self._lock:
            self._over.set()
            waiting = list(self._waiting)
        for each in waiting:
            # Closed already by its own thread, or never connected.
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def watching(self, each: socket.socket) -> Iterator[None]:
        """Let `cancel` end a wait on this socket."""
        with self._lock:
            if self._over.is_set():
                raise Interrupted
            self._waiting.add(each)
        try:
            yield
        finally:
            with self._lock:
                self._waiting.discard(each)


class Pace(threading.local):
    """
    Which operation the requests of this thread are made for.

    Attributes:
        call: The operation, or ``None`` between two.

        stall: Seconds that one wait may take.

        until: When what is under way now must be over, in monotonic seconds.
    """

    def __init__(self, stall: float) -> None:
        super().__init__()
        self.call: Call | None = None
        self.stall = stall
        self.until: float | None = None

    @contextlib.contextmanager
    def working_for(self, call: Call) -> Iterator[None]:
        """Make the waits of this thread those of *call*, until the end of the block."""
        before, self.call = self.call, call
        try:
            yield
        finally:
            self.call = before
            self.until = None

    def allowance(self) -> float:
        """Return how long the next wait may take."""
        bounds = [self.stall]
        if self.until is not None:
            bounds.append(self.until - time.monotonic())
        if self.call is not None and (left := self.call.remaining()) is not None:
            bounds.append(left)
        return min(bounds)

    @contextlib.contextmanager
    def wait(self, each: socket.socket) -> Iterator[None]:
        """Bound one wait on a socket."""
        seconds = self.allowance()
        if seconds <= 0:
            raise TimeoutError("timed out")
        each.settimeout(seconds)
        if self.call is None:
            yield
            return
        with self.call.watching(each):
            yield


class _Paced:
    """The waits of a socket, bounded. To be mixed with a class of sockets."""

    pace: Pace

    # `socket` and `SSLSocket` differ in the types of what they pass on.
    def recv(self, *args: Any) -> bytes:  # noqa: ANN401
        with self.pace.wait(self):  # type: ignore[arg-type]
            data: bytes = super().recv(*args)  # type: ignore[misc]
        return data

    def recv_into(self, *args: Any) -> int:  # noqa: ANN401
        with self.pace.wait(self):  # type: ignore[arg-type]
            count: int = super().recv_into(*args)  # type: ignore[misc]
        return count

    def sendall(self, *args: Any) -> None:  # noqa: ANN401
        with self.pace.wait(self):  # type: ignore[arg-type]
            super().sendall(*args)  # type: ignore[misc]


def paced_socket(sock: socket.socket, pace: Pace) -> socket.socket:
    """Take over a connected socket of TCP, paced."""
    kind = type("PacedSocket", (_Paced, socket.socket), {"pace": pace})
    timeout = sock.gettimeout()
    paced: socket.socket = kind(sock.family, sock.type, sock.proto, sock.detach())
    paced.settimeout(timeout)
    return paced


def paced_context(context: ssl.SSLContext, pace: Pace) -> ssl.SSLContext:
    """Let the sockets that *context* makes be paced."""
    context.sslsocket_class = type(
        "PacedTlsSocket", (_Paced, ssl.SSLSocket), {"pace": pace}
    )
    return context
