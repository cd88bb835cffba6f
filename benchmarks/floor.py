"""
The floor: prints what jailbox would do as tables of C, compiles, and talks to it.

The tables come from jailbox's own plan of the same start (`LaunchPlan`), so the floor
makes the same jail whatever the defaults become. What it costs is measured in
``floor.c``; nothing is timed here.
"""

import os
import stat
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from benchmarks.measure import Turn
from benchmarks.stage import HERE, compile_c
from jailbox import Image
from jailbox.engine.local import LocalEngine
from jailbox.linux import plan as words
from jailbox.linux.plan import LaunchPlan, Program
from jailbox.run.rootfs import Rootfs
from jailbox.spec.container import ContainerSpec
from jailbox.spec.network import NetworkMode

__all__ = ["Floor", "Variant"]

Variant = Literal["cold", "ready", "spawn"]

# Outside of what jailbox gives to its own jails (0x70000000 and up).
_ID_BASE = 0x6FFF0000
_NATIVE = HERE.parent / "src/jailbox/_native"


def _quoted(text: str) -> str:
    escaped = "".join(
        chr(b) if 32 <= b < 127 and chr(b) not in '"\\' else f"\\{b:03o}"
        for b in os.fsencode(text)
    )
    return f'"{escaped}"'


def _strings(items: Iterable[str]) -> str:
    return "".join(f"{_quoted(item)}, " for item in items)


def _array(kind: str, name: str, rows: Iterable[str], end: str) -> str:
    body = "".join(f"  {row},\n" for row in rows)
    return f"static const {kind} {name}[] = {{\n{body}  {end}\n}};\n"


class _Tables:
    """The text of ``floor_plan.h``, table by table."""

    def __init__(self, *, private_parent: str) -> None:
        self.parts: list[str] = []
        self.plans: list[str] = []
        self._parent = private_parent
        self._prepared: dict[str, words.Op] = {}

    def add_plan(self, name: str, plan: LaunchPlan, rootfs: Rootfs) -> None:
        """Print the tables of one plan."""
        tag = f"P{len(self.plans)}"
        trees = self._trees(plan)
        if rootfs.prepared is not None:
            for op in rootfs.prepared.ops:
                # What the files say is nothing that a start could notice.
                if isinstance(op, words.Dir | words.Link) and "etc/" not in op.path:
                    self._prepared[op.path] = op
        for _, target, _ in trees[1:]:
            # A place to mount on is made ahead, not by every start anew.
            parts = target.strip("/").split("/")
            for length in range(1, len(parts) + 1):
                path = "/".join(parts[:length])
                last = length == len(parts) and os.path.isfile(target)
                made: words.Op = (
                    words.File(0, path, b"") if last else words.Dir(0, path)
                )
                self._prepared.setdefault(path, made)
        ops = plan.ops
        settings = [op for op in ops if isinstance(op, words.Sysctl)]
        readonly = [op.path for op in ops if isinstance(op, words.ReadOnly)]
        masks = [op.path for op in ops if isinstance(op, words.Mask)]
        there = [path for path in (*readonly, *masks) if os.path.exists(path)]
        directories = [p for p in masks if p in there and os.path.isdir(p)]
        files = [p for p in masks if p in there and not os.path.isdir(p)]
        self.parts += [
            _array(
                "struct tree",
                f"{tag}_TREES",
                (
                    f"{{{_quoted(source) if source else 'NULL'}, {_quoted(target)}, "
                    f"{'true' if overlay else 'false'}}}"
                    for source, target, overlay in trees
                ),
                "{NULL, NULL, false}",
            ),
            _array(
                "struct setting",
                f"{tag}_SYSCTLS",
                (
                    f"{{{_quoted(f'/proc/sys/{s.path}'.replace('/sys/sys/', '/sys/'))},"
                    f" {_quoted(s.value)}}}"
                    for s in settings
                ),
                "{NULL, NULL}",
            ),
        ]
        for table, paths in (
            ("READONLY", [p for p in readonly if p in there]),
            ("DIRECTORIES", directories),
            ("FILES", files),
        ):
            self.parts.append(
                _array("char *const", f"{tag}_{table}", map(_quoted, paths), "NULL")
            )
        self._add_groups(tag, plan)
        self.plans.append(
            f"{{{_quoted(name)}, {'true' if plan.network else 'false'}, {tag}_TREES, "
            f"{tag}_SYSCTLS, {tag}_READONLY, {tag}_DIRECTORIES, {tag}_FILES, "
            f"{tag}_GROUPS, {tag}_COLLECTS}}"
        )

    def _trees(self, plan: LaunchPlan) -> list[tuple[str, str, bool]]:
        sources = {op.slot: op for op in plan.ops if isinstance(op, words.Tree)}
        overlays = {op.slot: op for op in plan.ops if isinstance(op, words.Overlay)}
        found = []
        for op in plan.ops:
            if isinstance(op, words.Root):
                slot, target = op.slot, "/"
            elif isinstance(op, words.Attach):
                slot, target = op.slot, op.path
            else:
                continue
            layered = slot in overlays
            if layered:
                (slot,) = overlays[slot].lowers
            if slot in sources:
                source = sources[slot].source
                found.append(
                    ("" if isinstance(source, int) else source, target, layered)
                )
        return found

    def _add_groups(self, tag: str, plan: LaunchPlan) -> None:
        own = [group for group in plan.groups if not group.shared]
        rows = []
        for number, group in enumerate(own):
            self.parts.append(
                _array(
                    "struct setting",
                    f"{tag}_SETTINGS_{number}",
                    (f"{{{_quoted(k)}, {_quoted(v)}}}" for k, v in group.settings),
                    "{NULL, NULL}",
                )
            )
            parent = f"{os.path.dirname(group.path)}/{self._parent}"
            rows.append(
                f"{{{_quoted(parent)}, {'true' if group.join == 'tasks' else 'false'},"
                f" {tag}_SETTINGS_{number}}}"
            )
        self.parts.append(
            _array("struct group", f"{tag}_GROUPS", rows, "{NULL, false, NULL}")
        )
        self.parts.append(
            _array(
                "struct collect",
                f"{tag}_COLLECTS",
                (
                    f"{{{own.index(plan.groups[c.group])}, {_quoted(c.file)}}}"
                    for c in plan.collect
                    if plan.groups[c.group] in own
                ),
                "{0, NULL}",
            )
        )

    def add_program(self, program: Program, last_capability: int) -> None:
        """Print what holds for the program."""
        filter_words = (
            program.seccomp[at : at + 8] for at in range(0, len(program.seccomp), 8)
        )
        self.parts += [
            f"#define ID_BASE {_quoted(str(_ID_BASE))}\n",
            f"#define ID_BASE_NUMBER {_ID_BASE}u\n",
            f"#define TTY_GID {_quoted(str(_ID_BASE + 5))}\n",
            f"#define CAPABILITIES {program.bounding:#x}ull\n",
            f"#define LAST_CAPABILITY {last_capability}u\n",
            f"#define ARGV {_strings(program.argv)}\n",
            f"#define ENVP {_strings(program.env)}\n",
            f"#define LANDLOCK {''.join(f'{b}, ' for b in program.landlock)} 0\n",
            _array(
                "struct sock_filter",
                "FILTER",
                (
                    f"{{{int.from_bytes(w[:2], 'little')}, {w[2]}, {w[3]}, "
                    f"{int.from_bytes(w[4:], 'little')}u}}"
                    for w in filter_words
                ),
                "",
            ),
            "static const struct { int number; uint64_t soft; uint64_t hard; }"
            " RLIMITS[] = {"
            + "".join(f"{{{n}, {s}ull, {h}ull}}, " for n, s, h in program.rlimits)
            + "};\n",
        ]

    def text(self) -> str:
        """All of it."""
        rows = []
        for path, op in sorted(self._prepared.items()):
            link = _quoted(op.target) if isinstance(op, words.Link) else "NULL"
            mode = 0
            if isinstance(op, words.Dir):
                mode = stat.S_IFDIR | op.mode
            elif isinstance(op, words.File):
                mode = stat.S_IFREG | op.mode
            rows.append(f"{{{_quoted(path)}, {link}, 0{mode:o}}}")
        parts = [
            *self.parts,
            _array("struct entry", "PREPARED", rows, "{NULL, NULL, 0}"),
            _array("struct plan", "PLANS", self.plans, "{0}"),
        ]
        return "\n".join(parts)


class Floor:
    """
    The compiled floor, waiting for requests.

    Args:
        directory: Where it is built.

        images: What jails are made of, by name.

        argv: The program, by name of the image.

        outside: Where the host has the program, by name of the image.
    """

    def __init__(
        self,
        directory: Path,
        images: Mapping[str, Image],
        argv: Mapping[str, Sequence[str]],
        outside: Mapping[str, str],
    ) -> None:
        self._processes: dict[str, subprocess.Popen[str]] = {}
        engine = LocalEngine()
        networks: tuple[NetworkMode, ...] = ("none", "host")
        try:
            for name, image in images.items():
                tables = _Tables(private_parent=f"floor-{os.getpid()}-{name}")
                for network in networks:
                    spec = ContainerSpec(
                        image=image.source, command=tuple(argv[name]), network=network
                    )
                    rootfs = engine.rootfs(spec)
                    ready = engine._prepare_run(spec, rootfs)
                    tables.add_plan(network, ready.compiled.plan, rootfs)
                    if network == "none":
                        last = Path("/proc/sys/kernel/cap_last_cap").read_text("ascii")
                        tables.add_program(ready.program, int(last))
                tables.parts.append(f"#define OUTSIDE {_quoted(outside[name])}\n")
                self._build(directory / f"floor-{name}", name, tables.text())
        finally:
            engine.close()

    def _build(self, place: Path, name: str, tables: str) -> None:
        place.mkdir()
        (place / "floor_plan.h").write_text(tables)
        program = place / "floor"
        compile_c(HERE / "floor.c", program, f"-I{place}", f"-I{_NATIVE}")
        self._processes[name] = subprocess.Popen(
            [str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def turn(
        self,
        image: str,
        variant: Variant,
        network: NetworkMode = "none",
        attempts: int = 1,
    ) -> Turn:
        """Make a turn of *attempts* starts, timed in C."""
        process = self._processes[image]
        talk_in, talk_out = process.stdin, process.stdout
        if talk_in is None or talk_out is None:
            raise RuntimeError("the floor has no pipes")

        def turn() -> list[float]:
            talk_in.write(f"{network} {variant} {attempts}\n")
            talk_in.flush()
            answer = talk_out.readline().split()
            if len(answer) != attempts:
                raise RuntimeError("the floor has failed; its words are above")
            return [int(word) / 1e9 for word in answer]

        return turn

    def close(self) -> None:
        """End it; it takes its groups away."""
        for process in self._processes.values():
            process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
