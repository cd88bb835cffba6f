"""
What an addition in progress relies on, so that gc leaves it alone.

A pull stores blobs and layers long before the image that needs them. Until then
nothing refers to them, and to gc they look like garbage. So whoever adds keeps a list:
a file in ``leases``, locked as long as the addition lives, with a line for everything
that it made or found. A list whose lock is free is nobody's.

Relying on something takes the store's gc lock, shared, for the moment in which it is
noted and looked for. gc takes it exclusively while it decides, never while it deletes.
"""

import contextlib
import os
import secrets
import threading
from collections.abc import Iterator
from typing import Literal

from jailbox.spec.digest import Digest
from jailbox.store.files import RECORD_FILE, Files
from jailbox.store.locks import (
    EXCLUSIVE,
    SHARED,
    Held,
    adopt,
    is_still,
    open_held,
)

__all__ = ["Additions", "GcLock", "Relied"]

Relied = Literal["blob", "tree"]

_GATE, _LOCK = "locks/gate", "locks/gc"


class GcLock:
    """
    The lock between those who add and the one who collects.

    Whoever collects closes a gate first, so that additions that follow one upon the
    other do not keep it waiting for ever.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._mine = threading.local()

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        """
        Keep gc from deciding, for a moment. Nests: who is in needs no gate.

        Raises:
            DeadlineExceeded: If a gc decides for longer than anybody should.
        """
        if getattr(self._mine, "inside", False):
            yield
            return
        what = "the lock of the store"
        with self._files.lock(_GATE, SHARED, what):
            lock = self._files.lock(_LOCK, SHARED, what)
        with lock:
            self._mine.inside = True
            try:
                yield
            finally:
                self._mine.inside = False

    @contextlib.contextmanager
    def exclusive(self, timeout: float | None = None) -> Iterator[None]:
        """
        Keep everybody from adding, for a moment.

        Raises:
            DeadlineExceeded: If somebody holds it all the time; it names them.
        """
        what = "the lock of the store"
        with (
            self._files.lock(_GATE, EXCLUSIVE, what, timeout=timeout),
            self._files.lock(_LOCK, EXCLUSIVE, what, timeout=timeout),
        ):
            yield


class Additions:
    """The additions of one `Store` object: one list, which ends with the last."""

    def __init__(self, files: Files, gc_lock: GcLock) -> None:
        self._files = files
        self._gc_lock = gc_lock
        self._guard = threading.Lock()
        self._count = 0
        self._list: tuple[str, Held] | None = None
        self._pid = os.getpid()

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Keep what is added and found until the end of the block. Nests."""
        self._forget_parent()
        with self._guard:
            if self._count == 0:
                self._list = self._make()
            self._count += 1
        try:
            yield
        finally:
            self._forget_parent()
            with self._guard:
                self._count = max(0, self._count - 1)
                if self._count == 0 and self._list is not None:
                    name, held = self._list
                    self._list = None
                    self._files.discard(name)
                    held.close()

    @contextlib.contextmanager
    def relying(self, kind: Relied, digest: Digest) -> Iterator[None]:
        """
        Note that something is needed, and keep gc away while it is looked for or made.

        Outside of `open` it is kept for the length of the block only.
        """
        with self._gc_lock.shared():
            held = self._current()
            if held is not None:
                with self._files.trying("note what an addition needs", held[0]):
                    os.write(held[1].fileno(), f"{kind} {digest}\n".encode())
            yield

    def looking(
        self, kind: Relied, digest: Digest
    ) -> contextlib.AbstractContextManager[None]:
        """As `relying` if an addition is open; else without a lock."""
        if self._current() is None:
            return contextlib.nullcontext()
        return self.relying(kind, digest)

    def living(self) -> dict[Relied, set[Digest]]:
        """
        Collect what additions in progress rely on, and remove lists of dead ones.

        Only for whoever holds the gc lock.
        """
        found: dict[Relied, set[Digest]] = {"blob": set(), "tree": set()}
        for entry in self._files.list("leases"):
            name = f"leases/{entry}"
            dead = self._files.try_lock(name)
            if dead is not None:
                self._files.discard(name)
                dead.close()
                continue
            text = self._files.read(name, "read what an addition needs") or b""
            for line in text.decode("ascii").splitlines():
                kind, _, digest = line.partition(" ")
                if kind == "blob":
                    found["blob"].add(Digest.parse(digest))
                else:
                    found["tree"].add(Digest.parse(digest))
        return found

    def _make(self) -> tuple[str, Held]:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW
        while True:
            name = f"leases/{secrets.token_hex(8)}"
            with self._files.trying("begin an addition", name):
                held = open_held(name, flags, dir_fd=self._files.fd, mode=RECORD_FILE)
                try:
                    mine = adopt(held, EXCLUSIVE)
                    if mine and is_still(held, name, dir_fd=self._files.fd):
                        return name, held
                except BaseException:
                    self._files.discard(name)
                    held.close()
                    raise
            held.close()

    def _current(self) -> tuple[str, Held] | None:
        self._forget_parent()
        with self._guard:
            return self._list

    def _forget_parent(self) -> None:
        # A forked child has no locks: the addition is its parent's.
        if self._pid != os.getpid():
            self._guard = threading.Lock()
            self._pid, self._count, self._list = os.getpid(), 0, None
