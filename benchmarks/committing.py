"""
How fast does a container become an image, and how fast is it told what it changed?

Ten files are written to a container on the image of a Debian tree (the one of
`benchmarks.images`). `Container.commit` against ``podman commit``, whose container is
made and written to but not run, so that it has nothing to pause; and
`Container.changes` against ``podman diff``. Both stores are on the disk. Podman is a
process each time, as it is for its users.

Last answer, on a machine with much other work: commit 49 ms (29 at best; nearly all of
it waiting for the disk: 6 ms in a store in memory), podman 279 ms; changes 1.3 ms,
podman 57 ms.
"""

import contextlib
import itertools
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.images import find_tree
from benchmarks.measure import Bar, Contender, Turn, ratio, rounds, timed
from benchmarks.question import Answer, Options
from benchmarks.stage import Stage
from jailbox import Container, Image

__all__ = ["ask"]

_FILES = 10


def _after(prepare: Callable[[], object], action: Callable[[], object]) -> Turn:
    """Time an action, each after something that is not timed."""

    def turn() -> list[float]:
        prepare()
        began = time.perf_counter()
        action()
        return [time.perf_counter() - began]

    return turn


class _Podman:
    """A container of podman that is not run, in a storage of its own."""

    def __init__(self, place: Path, tar: Path) -> None:
        self._base = [
            "podman", "--root", str(place / "root"), "--runroot", str(place / "run"),
            "--storage-driver", "overlay",
        ]  # fmt: skip
        self._numbers = itertools.count()
        self.call("import", str(tar), "base:1")
        self.call("create", "--name", "box", "--network", "none", "base:1", "true")
        self.root = Path(self.call("mount", "box").strip())

    def call(self, *words: str) -> str:
        """Run it."""
        return subprocess.run(
            [*self._base, *words], check=True, capture_output=True, text=True
        ).stdout

    def write(self) -> None:
        """Write ten files."""
        number = next(self._numbers)
        for each in range(_FILES):
            (self.root / f"srv/{each}").write_text(f"{number}\n" * 100)

    def close(self) -> None:
        """Remove everything."""
        self.call("umount", "box")
        self.call("rm", "-f", "box")
        self.call("rmi", "-a", "-f")


@contextlib.contextmanager
def _podman(place: Path, tar: Path) -> Iterator[_Podman | None]:
    if shutil.which("podman") is None or os.geteuid() != 0:
        yield None
        return
    place.mkdir()
    podman = _Podman(place, tar)
    try:
        yield podman
    finally:
        podman.close()


def ask(stage: Stage, options: Options) -> Answer:
    """Commit, and list."""
    tree = find_tree()
    commit, listing = (
        "commit of ten changed files on a 500 MB image, in seconds",
        "changes() there, in seconds",
    )
    if isinstance(tree, str):
        return Answer(
            bars=(
                Bar(text=commit, bound=0.020, measured=None, note=tree),
                Bar(text=listing, bound=0.006, measured=None, note=tree),
            )
        )
    tar = stage.path / "base.tar"
    subprocess.run(["tar", "-C", str(tree), "-cf", str(tar), "."], check=True)
    image = Image.from_tar(tar, store=stage.path / "store")
    numbers = itertools.count()
    with (
        Container(image, ["sleep", "100000"]) as jail,
        _podman(stage.path / "podman", tar) as podman,
    ):

        def write() -> None:
            text = f"{next(numbers)}\n" * 100
            jail.put({str(each): text.encode() for each in range(_FILES)}, "/srv")

        contenders = [
            Contender("commit", _after(write, jail.commit)),
            Contender("changes", timed(jail.changes)),
        ]
        if podman is not None:
            contenders += [
                Contender(
                    "podman commit",
                    _after(podman.write, lambda: podman.call("commit", "box")),
                ),
                Contender("podman diff", timed(lambda: podman.call("diff", "box"))),
            ]
        found = rounds(contenders, options.some(1, 20), warm=1)
    bars = [
        Bar(text=commit, bound=0.020, measured=_median(found["commit"])),
        Bar(text=listing, bound=0.006, measured=_median(found["changes"])),
    ]
    if "podman commit" in found:
        for text, bound, ours, theirs in (
            ("commit faster than podman commit", 6, "commit", "podman commit"),
            ("changes() faster than podman diff", 10, "changes", "podman diff"),
        ):
            medians, quarters = ratio(found, theirs, ours)
            bars.append(
                Bar(
                    text=text,
                    bound=bound,
                    measured=medians,
                    lower=quarters,
                    at_most=False,
                )
            )
    return Answer(bars=tuple(bars), samples=found)


def _median(samples: list[float]) -> float:
    return sorted(samples)[len(samples) // 2]
