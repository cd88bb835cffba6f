"""
How long does a start take?

`jailbox.run` of a static program that does nothing, with full isolation, limits and
captured output, from the call to the result, everything taken away again: compared
with the floor (``floor.c``), which does the same in one straight C program, and with
`subprocess.run` of the same program without any isolation.

Starts of one kind find a jail that was made ahead of them, between the turns of the
others. So every bar says in its note how long a start takes that does not: each of
those has a host name of its own, and is the first of its kind.

Answer: see ``docs/explanation/speed.md``.
"""

import itertools
import subprocess

import jailbox as jb
from benchmarks.floor import Floor
from benchmarks.measure import Bar, Contender, Stats, ratio, rounds, timed
from benchmarks.question import Answer, Options
from benchmarks.stage import NOOP, Stage, static_busybox

__all__ = ["ask"]

_FLOOR = "against the floor"
_FIRST = ", first of its kind"


def ask(stage: Stage, options: Options) -> Answer:
    """Time starts of both kinds of images, with and without a network of their own."""
    images = {"directory": jb.Image.from_dir(stage.root)}
    argv: dict[str, tuple[str, ...]] = {"directory": NOOP}
    outside = {"directory": str(stage.noop)}
    facts: dict[str, float | str] = {}
    busybox = static_busybox()
    if busybox is None or not busybox.startswith("/usr/"):
        facts["host image"] = "absent: no static busybox in /usr"
    else:
        images["host"] = jb.Image.host()
        argv["host"] = (busybox, "true")
        outside["host"] = busybox
    names = (f"first-{number}" for number in itertools.count())
    with Floor(stage.path, images, argv, outside) as floor:
        contenders = []
        for name, image in images.items():
            command = list(argv[name])

            def default(image: jb.Image = image, command: list[str] = command) -> None:
                jb.run(image, command, check=True)

            def shared(image: jb.Image = image, command: list[str] = command) -> None:
                jb.run(image, command, network="host", check=True)

            def first(image: jb.Image = image, command: list[str] = command) -> None:
                jb.run(image, command, hostname=next(names), check=True)

            def first_shared(
                image: jb.Image = image, command: list[str] = command
            ) -> None:
                name = next(names)
                jb.run(image, command, network="host", hostname=name, check=True)

            def plain(command: list[str] = [outside[name], *command[1:]]) -> None:  # noqa: B006  # bound, never changed
                subprocess.run(command, capture_output=True, check=True)

            contenders += [
                Contender(f"{name}: jailbox", timed(default)),
                Contender(f"{name}: jailbox, network=host", timed(shared)),
                Contender(f"{name}: jailbox{_FIRST}", timed(first)),
                Contender(
                    f"{name}: jailbox, network=host{_FIRST}", timed(first_shared)
                ),
                Contender(f"{name}: floor", floor.turn(name, "cold")),
                Contender(
                    f"{name}: floor, network=host", floor.turn(name, "cold", "host")
                ),
                Contender(f"{name}: floor, made ahead", floor.turn(name, "ready")),
                Contender(
                    f"{name}: floor, made ahead, network=host",
                    floor.turn(name, "ready", "host"),
                ),
                Contender(f"{name}: floor, spawn", floor.turn(name, "spawn")),
                Contender(f"{name}: subprocess.run", timed(plain)),
            ]
        found = rounds(contenders, options.rounds)
    bars = []
    for name in images:
        bars += _bars(found, name)
    return Answer(bars=tuple(bars), samples=found, facts=facts)


def _bars(found: dict[str, list[float]], name: str) -> list[Bar]:
    ours, shared = f"{name}: jailbox", f"{name}: jailbox, network=host"
    plain, floor = f"{name}: subprocess.run", f"{name}: floor"
    bars = []
    for what, bound, who, base in (
        (f"start ({name} image) {_FLOOR}", 1.25, ours, floor),
        (
            f"the same, network=host, {_FLOOR}",
            1.25,
            shared,
            f"{floor}, network=host",
        ),
        ("the same, network=host, against subprocess.run", 2.2, shared, plain),
        ("the same, network=none, against subprocess.run", 3.2, ours, plain),
    ):
        medians, quarters = ratio(found, who, base)
        note = f"{_FIRST[2:]}: {ratio(found, f'{who}{_FIRST}', base)[0]:.2f} x; "
        if base == plain:
            own = f"{floor}, network=host" if who == shared else floor
            ready = own.replace("floor", "floor, made ahead", 1)
            note += (
                f"the floor itself: {ratio(found, own, plain)[0]:.2f} x; "
                f"with namespaces made ahead {ratio(found, ready, plain)[0]:.2f} x"
            )
        else:
            ready = base.replace("floor", "floor, made ahead", 1)
            strict = ratio(found, who, ready)
            note += (
                "against a floor whose namespaces were made before the clock ran: "
                f"{strict[0]:.2f} x ({strict[1]:.2f})"
            )
        bars.append(
            Bar(text=what, bound=bound, measured=medians, lower=quarters, note=note)
        )
    stats = Stats.of(found[ours])
    bars.append(
        Bar(
            text=f"p95 of a start ({name} image) against its median",
            bound=4,
            measured=stats.p95 / stats.median,
        )
    )
    return bars
