"""
How fast does a tree become a layer?

The digest of the archive of a Debian tree (minbase, Python, compilers, git; made once
by mmdebstrap below ``~/.cache/jailbox-benchmarks``) against a straight C program doing
the same with one thread and with two; and packing it with zstd against ``tar | zstd``.

Only the rows about packing are asked here.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Bar, Contender, ratio, rounds, timed
from benchmarks.question import Answer, Options
from benchmarks.stage import HERE, Stage
from jailbox.engine.local import LocalEngine
from jailbox.linux.workshop import Workshop
from jailbox.spec.media import Compression
from jailbox.store.diff import pack_layer

__all__ = ["ask", "find_tree"]

_CACHE = Path.home() / ".cache/jailbox-benchmarks"
_PACKAGES = "python3,build-essential,git,curl,ca-certificates"


def find_tree() -> Path | str:
    """Find the tree, or make it; or say why there is none."""
    place = _CACHE / "rootfs"
    if place.is_dir():
        return place
    program = shutil.which("mmdebstrap")
    if program is None or os.geteuid() != 0:
        return "mmdebstrap is not installed, or we are not root"
    _CACHE.mkdir(parents=True, exist_ok=True)
    unfinished = _CACHE / f"rootfs-{os.getpid()}"
    command = [program, "--quiet", "--mode=root", "--variant=minbase"]
    command += [f"--include={_PACKAGES}", "bookworm", str(unfinished)]
    if subprocess.run(command, check=False).returncode != 0:
        return "mmdebstrap has failed; its words are above"
    unfinished.rename(place)
    return place


def _floor(stage: Stage) -> str | None:
    """Compile the floor, where OpenSSL's headers are installed."""
    output = stage.path / "pack_floor"
    command = ["cc", "-std=gnu11", "-O2", "-o", str(output)]
    command += [str(HERE / "pack_floor.c"), "-lcrypto", "-lpthread"]
    done = subprocess.run(command, check=False, capture_output=True)
    return str(output) if done.returncode == 0 else None


@contextlib.contextmanager
def _workshop() -> Iterator[Workshop]:
    engine = LocalEngine()
    try:
        yield Workshop(engine.keeper)
    finally:
        engine.close()


def ask(stage: Stage, options: Options) -> Answer:
    """Pack it."""
    tree = find_tree()
    floor = _floor(stage)
    facts: dict[str, float | str] = {}
    if isinstance(tree, str) or floor is None:
        why = tree if isinstance(tree, str) else "libssl-dev is not installed"
        text = "digest of a 500 MB tree against C"
        return Answer(bars=(Bar(text=text, bound=1.3, measured=None, note=why),))
    with _workshop() as workshop:
        fd = os.open(tree, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

        def pack(compression: Compression) -> None:
            _, layer = pack_layer(
                lambda out: workshop.pack(fd, out), compression=compression
            )
            facts[f"bytes, {compression}"] = layer.size

        def run(*command: str) -> None:
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

        contenders = [
            Contender("digest", timed(lambda: pack("none"))),
            Contender("C, one thread", timed(lambda: run(floor, str(tree)))),
            Contender("C, two threads", timed(lambda: run(floor, str(tree), "2"))),
        ]
        if shutil.which("zstd") is not None:
            line = f"tar -C {tree} -cf - . | zstd -T0 -3 -q"
            contenders += [
                Contender("pack + zstd", timed(lambda: pack("zstd"))),
                Contender("tar through zstd", timed(lambda: run("sh", "-c", line))),
            ]
        try:
            found = rounds(contenders, options.some(0.1, 3), warm=1)
        finally:
            os.close(fd)
    medians, quarters = ratio(found, "digest", "C, one thread")
    two, two_quarters = ratio(found, "digest", "C, two threads")
    bars = [
        Bar(
            text="digest of a 500 MB tree against C with one thread",
            bound=1.3,
            measured=medians,
            lower=quarters,
        ),
        Bar(
            text="the same against C with two threads",
            bound=1.3,
            measured=two,
            lower=two_quarters,
        ),
    ]
    if "tar through zstd" in found:
        medians, quarters = ratio(found, "tar through zstd", "pack + zstd")
        bars.append(
            Bar(
                text="pack + zstd faster than tar through zstd -T0 -3",
                bound=1,
                measured=medians,
                lower=quarters,
                at_most=False,
            )
        )
    return Answer(bars=tuple(bars), samples=found, facts=facts)
