"""
Recorded machines: what their control groups looked like, and what follows from it.

A folder of ``tests/corpus/cgroup`` is a machine: ``mountinfo`` and ``cgroup`` as their
kernel printed them, ``nodes`` with a line for each directory that decides, ``kernel``,
and what is expected of it: ``layout`` and ``plan-*``. After a change on purpose,
``PYTHONPATH=src:. python -m tests.linux.cgroup.recordings`` writes the expectations
anew, for a reviewer to read the difference.
"""

from pathlib import Path

import attrs

from jailbox.linux.cgroup.detect import CgroupLayout, CgroupNode, detect
from jailbox.linux.cgroup.plan import cgroup_plan
from jailbox.linux.facts import parse_release
from jailbox.spec.limits import Limits

CORPUS = Path(__file__).parents[2] / "corpus" / "cgroup"

MACHINES = sorted(p.name for p in CORPUS.iterdir() if p.is_dir())

WISHES: dict[str, tuple[Limits, bool]] = {
    "default": (Limits(), False),
    "judge": (Limits(memory="64M", cpu_time=2, wall=5, processes=32), False),
    "service": (
        Limits(memory="1G", swap="512M", cpus=1.5, cpuset="0-1", processes=100),
        True,
    ),
}
"""Limits, and whether the jail shall be freezable, by name of the expected plan."""


@attrs.frozen
class Machine:
    """What was recorded of a machine."""

    mountinfo: str
    cgroup: str
    nodes: dict[str, CgroupNode]
    kernel: tuple[int, int, int]

    def layout(self) -> CgroupLayout:
        """Conclude the layout."""
        return detect(self.mountinfo, self.cgroup, self.nodes, kernel=self.kernel)


def parse_nodes(text: str) -> dict[str, CgroupNode]:
    """Read lines of ``path: flag key=a,b``."""
    nodes = {}
    for line in text.splitlines():
        path, _, rest = line.partition(":")
        words = rest.split()
        flags = {w for w in words if "=" not in w}
        lists = dict(w.split("=", 1) for w in words if "=" in w)

        def names(key: str, lists: dict[str, str] = lists) -> tuple[str, ...]:
            return tuple(lists.get(key, "").split(",")) if lists.get(key) else ()

        nodes[path] = CgroupNode(
            path=path,
            writable="writable" in flags,
            top="top" in flags,
            busy="busy" in flags,
            controllers=names("controllers"),
            enabled=names("enabled"),
            knobs=names("knobs"),
            cpus=lists.get("cpus", ""),
            mems=lists.get("mems", ""),
        )
    return nodes


def format_nodes(nodes: tuple[CgroupNode, ...]) -> str:
    """Print nodes as `parse_nodes` reads them; for recording a machine."""
    lines = []
    for node in nodes:
        words = [w for w in ("writable", "top", "busy") if getattr(node, w)]
        lists = ("controllers", "enabled", "knobs")
        words += [f"{key}={','.join(v)}" for key in lists if (v := getattr(node, key))]
        words += [f"{key}={v}" for key in ("cpus", "mems") if (v := getattr(node, key))]
        lines.append(f"{node.path}: {' '.join(words)}".rstrip() + "\n")
    return "".join(lines)


def machine(name: str) -> Machine:
    """Load a recorded machine."""
    folder = CORPUS / name

    def text(file: str) -> str:
        return (folder / file).read_text(encoding="utf-8")

    return Machine(
        text("mountinfo"),
        text("cgroup"),
        parse_nodes(text("nodes")),
        parse_release(text("kernel").strip()),
    )


def expectations(name: str) -> dict[str, str]:
    """Compute what a machine's folder is expected to hold."""
    layout = machine(name).layout()
    found = {"layout": layout.describe() + "\n"}
    for wish, (limits, freezable) in WISHES.items():
        plan = cgroup_plan(limits, layout, "c1", keeper="k1", freezable=freezable)
        found[f"plan-{wish}"] = plan.describe() + "\n"
    return found


if __name__ == "__main__":
    for each in MACHINES:
        for file, content in expectations(each).items():
            (CORPUS / each / file).write_text(content, encoding="utf-8")
