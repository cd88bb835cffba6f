"""
Loading that fails or dies at any step: the store is as it was, and the next try works.
"""

import contextlib
import errno
import io
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jailbox.errors import JailboxError
from jailbox.linux.disk import sync_filesystem
from jailbox.spec.platform import Platform
from jailbox.store import layers
from jailbox.store.archive import load, save
from jailbox.store.layout import write_layout
from jailbox.store.store import Store
from tests.store.formats import Made, content, layout_of, spread, tarred, tree
from tests.store.images import named
from tests.store.workshops import PlainWorkshop

HERE = Platform.parse("linux/amd64")
CALLS = ("fsync", "link", "mkdir", "open", "rename", "unlink", "write")
FILES = tarred(layout_of(Made({"a": "1"}, {"b": "2"}, name="x:1"), Made({"c": "3"})))
DIED = 77


@contextlib.contextmanager
def at_step(number: int, act: Callable[[], None]) -> Iterator[list[int]]:
    """
    Do something instead of the system call with this number; count all.

    Calls that the workshop of the tests makes in the trees are counted too.
    """
    count = [0]

    def instead(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:  # noqa: ANN401
            count[0] += 1
            if count[0] == number:
                act()
            return real(*args, **more)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, instead(getattr(os, name)))
        patch.setattr(layers, "sync_filesystem", instead(sync_filesystem))
        yield count


def no_space() -> None:
    """Say what a full disk says."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def opened(path: Path) -> Store:
    """Open a store whose workshop is of Python."""
    work = PlainWorkshop()
    return Store(path, workshop=lambda: work)


def steps(path: Path) -> int:
    """Count the calls of one load."""
    with opened(path) as store, at_step(0, no_space) as count:
        load(store, io.BytesIO(FILES), platform=HERE)
    return count[0]


@pytest.mark.slow
def test_disk_full_at_every_step(tmp_path: Path) -> None:
    """
    Whichever call fails, loading says so in an error of ours and leaves nothing; or it
    does not matter, and all is there. Trying again works.
    """
    total = steps(tmp_path / "counted")
    assert total > 50
    refused = 0
    with opened(tmp_path / "store") as store:
        (before,) = load(
            store, io.BytesIO(tarred(layout_of(Made({"z": "1"})))), platform=HERE
        )
        was = content(store)
        for number in range(1, total + 1):
            try:
                with at_step(number, no_space):
                    load(store, io.BytesIO(FILES), platform=HERE)
            except (JailboxError, OSError) as error:
                # A pipe is never full of disk, and our workshop is a simple one.
                refused += isinstance(error, JailboxError)
                assert content(store) == was, number
            else:
                for name in store.tags.list():
                    store.remove(name)
                for record in store.images.list():
                    if record != before.record:
                        store.images.remove(record.digest)
                store.gc()
                assert content(store) == was, number
        loaded = load(store, io.BytesIO(FILES), platform=HERE)
        assert [tree(store, one.record) for one in loaded] == [
            {"a": "1", "b": "2"},
            {"c": "3"},
        ]
    assert refused > total // 2


@pytest.mark.slow
def test_killed_at_every_step(tmp_path: Path) -> None:
    """
    Whichever call a process dies at, no half image is seen, the store is sound, and the
    next process loads the same.
    """
    total = steps(tmp_path / "counted")
    for number in range(1, total + 1):
        path = tmp_path / "store"
        with warnings.catch_warnings():
            # Nothing runs in the child but this thread.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            with opened(path) as store, at_step(number, lambda: os._exit(DIED)):
                load(store, io.BytesIO(FILES), platform=HERE)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status in {0, DIED}
        with opened(path) as store:
            for name, digest in store.tags.list().items():
                record = store.get(digest)
                assert tree(store, record) == {"a": "1", "b": "2"}, name
            if number % 10 == 0 or status == 0:
                report = store.check(full=True)
                assert report.ok, (number, report)
                loaded = load(store, io.BytesIO(FILES), platform=HERE)
                assert len(loaded) == 2
                for name in store.tags.list():
                    store.remove(name)
                for record in store.images.list():
                    store.images.remove(record.digest)
                store.gc()
                found = content(store)
                assert not any(found.values()), (number, found)


@pytest.mark.parametrize("form", ["archive", "layout"])
def test_output_that_fails(tmp_path: Path, form: str) -> None:
    """
    Whichever call fails, what is written appears whole or not at all, and nothing else
    stays.
    """
    with opened(tmp_path / "store") as store:
        source = spread(layout_of(Made({"a": "1"})), tmp_path / "source")
        (loaded,) = load(store, source, platform=HERE)
        chosen = [(loaded.record, [named("x:1")])]
        target = tmp_path / "out"

        def write() -> None:
            if form == "archive":
                save(store, chosen, target)
            else:
                write_layout(store, chosen, target)

        number, done = 0, False
        while not done:
            number += 1
            with at_step(number, no_space) as count:
                try:
                    write()
                except JailboxError:
                    assert not target.exists(), number
                else:
                    done = count[0] < number
            if target.exists() and not done:
                # That it failed did not matter.
                shutil.rmtree(target) if form == "layout" else target.unlink()
        assert number > 3
        assert sorted(os.listdir(tmp_path)) == ["out", "source", "store"]
        (again,) = load(store, target, platform=HERE)
        assert again.record == loaded.record
