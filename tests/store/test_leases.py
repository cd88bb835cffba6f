"""Leases and locks: held by the living, freed by any death, inherited by nobody."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jailbox.errors import DeadlineExceeded, ImageNotFound, InUse, StoreError
from jailbox.store.locks import EXCLUSIVE, SHARED
from jailbox.store.store import Store
from tests.store.images import add_image, named, open_store

PROJECT = Path(__file__).parent.parent.parent
PATIENCE = 1.0
"""Seconds within which a lock of the dead must be free."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Return a store with an image called base."""
    with open_store(tmp_path / "store") as store:
        add_image(store, {"a": "1"}, name="base")
        yield store


@contextlib.contextmanager
def another(store: Store, script: str) -> Iterator[subprocess.Popen[str]]:
    """Run *script* in another process, which has `store`, until it says "ready"."""
    head = f"""
    import os, sys, time
    from tests.store.images import add_image, named, open_store
    store = open_store({store.path!r})
    """
    program = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(script)],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        yield program
    finally:
        program.kill()
        program.wait()
        for stream in (program.stdin, program.stdout):
            assert stream is not None
            stream.close()


HOLD = """
lease = store.lease(named("base"))
print("ready", flush=True)
sys.stdin.read()
"""


class TestLeases:
    def test_an_image_in_use_is_not_removed(self, store: Store) -> None:
        """
        A leased image is not removed, by name or by digest, and the error names who
        uses it; afterwards it is.
        """
        with store.lease(named("base")) as lease:
            digest = lease.record.digest
            with pytest.raises(InUse, match=rf"\(pid {os.getpid()}\)"):
                store.remove(named("base"))
            with pytest.raises(InUse, match=rf"\(pid {os.getpid()}\)"):
                store.remove(digest, force=True)
            assert store.get("base") == lease.record
        store.remove(named("base"))

    def test_sto7_the_lease_of_another_process_counts(self, store: Store) -> None:
        """
        What another process uses is neither removed nor collected.
        """
        with another(store, HOLD) as holder:
            with pytest.raises(InUse) as caught:
                store.remove(named("base"))
            store.gc()

            assert caught.value.users == (f"python (pid {holder.pid})",)
            assert len(store.images.layers(store.get("base"))) == 1

    def test_several_may_use_an_image(self, store: Store) -> None:
        """
        Leases do not exclude each other.
        """
        with store.lease(named("base")) as one, store.lease(named("base")) as two:
            one.release()
            with pytest.raises(InUse):
                store.remove(named("base"))
            assert not two.released

    def test_a_dropped_lease_is_free(self, store: Store) -> None:
        """
        A lease that nobody refers to any more is released.
        """
        lease = store.lease(named("base"))
        del lease

        store.remove(named("base"))

    def test_a_lease_outlives_its_store(self, store: Store) -> None:
        """
        A lease is held after the `Store` that gave it was closed.
        """
        with open_store(store.path) as other:
            lease = other.lease(named("base"))
        with lease, pytest.raises(InUse):
            store.remove(named("base"))

    def test_a_lease_can_be_handed_over(self, store: Store) -> None:
        """
        A process that is given a copy of the descriptor holds the image when the one
        that took the lease has let go of it.
        """
        ours, theirs = socket.socketpair()
        lease = store.lease(named("base"))
        with ours, theirs:
            socket.send_fds(ours, [b"x"], [lease.fileno()])
            _, (copy,), _, _ = socket.recv_fds(theirs, 1, 1)
        lease.release()
        with pytest.raises(InUse):
            store.remove(named("base"))
        os.close(copy)
        store.remove(named("base"))

    def test_a_removed_image_cannot_be_leased(self, store: Store) -> None:
        """
        Whoever waited while an image was removed is told that it is not there, and does
        not hold what nobody can see.
        """
        digest = store.get("base").digest
        name = f"records/images/{digest.hex}.json"
        results: list[object] = []

        def lease() -> None:
            try:
                results.append(store.images.lease(digest))
            except ImageNotFound as error:
                results.append(error)

        with store._files.lock(name, EXCLUSIVE, "test", flags=os.O_RDWR):
            thread = threading.Thread(target=lease)
            thread.start()
            while len(_waiters(store, name)) < 2:
                time.sleep(0.001)
            store._files.withdraw([name], "remove")
        thread.join()

        assert isinstance(results[0], ImageNotFound)

    def test_using_is_noted(self, store: Store) -> None:
        """
        A lease notes that the image was used, if that was not noted within a minute.
        """
        digest = store.get("base").digest
        path = f"{store.path}/records/images/{digest.hex}.json"
        os.utime(path, (1e9, 1e9))
        assert store.images.last_used(digest) == 1e9
        store.lease(digest).release()

        noted = store.images.last_used(digest)
        assert abs(noted - time.time()) < 10
        store.lease(digest).release()
        assert store.images.last_used(digest) == noted


def _waiters(store: Store, name: str) -> list[str]:
    """List the descriptors of this process that are open on a file of the store."""
    path = f"{store.path}/{name}"
    found = []
    for entry in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{entry}") == path:
                found.append(entry)
    return found


class TestDeaths:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        "script",
        [
            HOLD,
            """
            lock = store._additions._gc_lock
            with lock.exclusive():
                print("ready", flush=True)
                sys.stdin.read()
            """,
            """
            with store._files.lock("locks/layer-x", 2, "a layer"):
                print("ready", flush=True)
                sys.stdin.read()
            """,
            """
            with store.adding():
                store.blobs.put(b"garbage")
                with store.blobs.writer() as writer:
                    writer.write(b"more")
                    print("ready", flush=True)
                    sys.stdin.read()
            """,
        ],
        ids=["lease", "gc", "layer", "addition"],
    )
    def test_sto8_the_dead_hold_nothing(self, store: Store, script: str) -> None:
        """
        When the holder of any lock is killed, others go on within a second.
        """
        with another(store, script) as holder:
            holder.kill()
            holder.wait()
            began = time.monotonic()
            with store._files.lock("locks/layer-x", EXCLUSIVE, "test"):
                store.remove(named("base"))
                store.gc(timeout=PATIENCE)

            assert time.monotonic() - began < PATIENCE
        assert store.blobs.list() == []
        assert os.listdir(f"{store.path}/tmp") == []
        assert os.listdir(f"{store.path}/leases") == []

    @pytest.mark.slow
    def test_sto11_a_forked_child_holds_nothing(self, store: Store) -> None:
        """
        A child that was forked while locks were held has none of them: when the parent
        is killed they are free within a second, though the child lives.
        """
        script = """
        with store.adding(), store._files.lock("locks/layer-x", 2, "x"):
            lease = store.lease(named("base"))
            told, tell = os.pipe()
            child = os.fork()
            if child == 0:
                assert lease.released
                os.write(tell, b"released")
                time.sleep(1000)
            # One of them speaks: what two write into a pipe may come in any order.
            os.close(tell)
            print(child, os.read(told, 8).decode(), flush=True)
            sys.stdin.read()
        """
        head = f"""
        import os, sys, time
        from tests.store.images import add_image, named, open_store
        store = open_store({store.path!r})
        """
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(script)],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as program:
            assert program.stdout is not None
            number, _, said = program.stdout.readline().partition(" ")
            child = int(number)
            try:
                assert said == "released\n"
                with pytest.raises(InUse):
                    store.remove(named("base"))
                program.kill()
                program.wait()
                began = time.monotonic()
                with store._files.lock("locks/layer-x", EXCLUSIVE, "test"):
                    store.remove(named("base"))
                    store.gc(timeout=PATIENCE)
                assert time.monotonic() - began < PATIENCE
                os.kill(child, 0)
            finally:
                os.kill(child, signal.SIGKILL)

    def test_sto11_a_child_does_not_free_what_its_parent_holds(
        self, store: Store
    ) -> None:
        """
        A forked child that drops its copy of a lease, and uses the store itself, leaves
        the parent's lease and addition alone.
        """
        with store.adding():
            blob = store.blobs.put(b"needed soon")
            lease = store.lease(named("base"))
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    lease.release()
                    mine = store.lease(named("base"))
                    add_image(store, {"b": "2"}, name="of-child")
                    mine.release()
                    status = 0
                finally:
                    os._exit(status)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            store.gc()
            with lease, pytest.raises(InUse):
                store.remove(named("base"))
            assert store.blobs.has(blob)
        assert store.tags.get(named("of-child"))

    def test_sto11_a_program_that_is_executed_gets_no_lock(self, store: Store) -> None:
        """
        Descriptors of locks are closed when a program is executed.
        """
        with store.adding(), store.lease(named("base")):
            said = subprocess.run(
                ["ls", "-l", "/proc/self/fd"],
                capture_output=True,
                text=True,
                check=True,
                close_fds=False,
            )

        assert store.path not in said.stdout


class TestWaiting:
    def test_sto10_a_wait_ends_and_names_the_holder(self, store: Store) -> None:
        """
        Waiting for a lock ends at its timeout, and the error names who has it.
        """
        script = """
        with store._files.lock("locks/layer-x", 2, "x"):
            print("ready", flush=True)
            sys.stdin.read()
        """
        with another(store, script) as holder:
            began = time.monotonic()
            with pytest.raises(DeadlineExceeded) as caught:
                store._files.lock("locks/layer-x", SHARED, "layer x", timeout=0.2)

            assert 0.2 <= time.monotonic() - began < 0.3
            expected = (
                f"waiting for layer x, which python (pid {holder.pid}) has,"
                " did not finish within 0.2 s"
            )
            assert str(caught.value) == expected

    def test_sto10_a_wait_ends_when_the_lock_is_free(self, store: Store) -> None:
        """
        A lock that becomes free is had soon afterwards.
        """
        held = store._files.lock("locks/layer-x", EXCLUSIVE, "x")
        timer = threading.Timer(0.1, held.close)
        timer.start()
        began = time.monotonic()
        with store._files.lock("locks/layer-x", EXCLUSIVE, "x"):
            assert time.monotonic() - began < 0.2
        timer.join()

    def test_a_lock_on_a_file_that_went_is_no_lock(self, store: Store) -> None:
        """
        If the file of a lock is removed while somebody waits for it, they do not end up
        with a lock that nobody else sees.
        """
        name = "locks/layer-x"
        held = store._files.lock(name, EXCLUSIVE, "x")
        got = []
        thread = threading.Thread(
            target=lambda: got.append(store._files.lock(name, EXCLUSIVE, "x"))
        )
        thread.start()
        while len(_waiters(store, name)) < 2:
            time.sleep(0.001)
        store._files.discard(name)
        held.close()
        thread.join()

        with got[0], pytest.raises(DeadlineExceeded):
            store._files.lock(name, EXCLUSIVE, "x", timeout=0)

    def test_gc_gets_its_turn(self, store: Store) -> None:
        """
        Additions that follow one upon the other do not keep gc waiting.
        """
        stop = threading.Event()

        def busy() -> None:
            while not stop.is_set():
                with store._additions._gc_lock.shared():
                    time.sleep(0.002)

        threads = [threading.Thread(target=busy) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            began = time.monotonic()
            for _ in range(5):
                store.gc(timeout=5)
            assert time.monotonic() - began < 2
        finally:
            stop.set()
            for thread in threads:
                thread.join()


class TestReadOnly:
    @pytest.mark.root
    def test_sto12_a_store_on_a_read_only_mount_can_be_used(self, store: Store) -> None:
        """
        On a file system that is mounted read-only, images are found and leased, and
        adding says why it cannot be done.
        """
        place = f"{store.path}-ro"
        os.mkdir(place)
        subprocess.run(["mount", "--bind", store.path, place], check=True)
        try:
            subprocess.run(["mount", "-o", "remount,bind,ro", place], check=True)
            with open_store(place, read_only=True) as closed:
                with closed.lease(named("base")) as lease:
                    assert closed.images.document(lease.record).diff_ids
                    with closed.images.open_file(lease.record, "/a") as file:
                        assert file.read() == b"1"
                    assert closed.check().ok
                    # Who may write sees that it is in use.
                    with pytest.raises(InUse):
                        store.remove(named("base"))
                with pytest.raises(StoreError, match="EROFS"):
                    closed.blobs.put(b"new")
                with pytest.raises(StoreError, match="EROFS"):
                    closed.remove(named("base"))
        finally:
            subprocess.run(["umount", place], check=True)
            os.rmdir(place)
