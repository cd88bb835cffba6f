"""
Roots of several layers: what is seen, what is written, and what has changed.
"""

from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from jailbox.engine.base import Io
from jailbox.engine.local import LocalEngine
from jailbox.flow import drive
from jailbox.run.rootfs import Rootfs, stack_of
from jailbox.spec.container import ContainerSpec, ProgramSpec
from jailbox.spec.image import Directory, ImageConfig
from jailbox.spec.mount import Mount

pytestmark = pytest.mark.userns


class Layered(LocalEngine):
    """An engine whose every image has the layers that it is given."""

    def __init__(self, layers: list[Path], *, stacked: bool) -> None:
        super().__init__()
        paths = tuple(map(str, layers))
        self.found = Rootfs(
            layers=paths,
            stack=stack_of(paths, "test") if stacked else None,
            config=ImageConfig(env={"PATH": "/bin"}),
        )

    def rootfs(self, spec: ContainerSpec) -> Rootfs:
        """Find the same root for everybody."""
        return self.found


def spec(*argv: str) -> ContainerSpec:
    """Want a container; what it is made of is the engine's secret."""
    return ContainerSpec(image=Directory("/"), command=argv or None)


@pytest.fixture
def layers(busybox_rootfs: Path, shared_place: Path) -> list[Path]:
    """Make 120 layers on a busybox, the uppermost first; each has a file of its own."""
    made = []
    for number in range(120):
        layer = shared_place / f"layers/{number}"
        (layer / "etc").mkdir(parents=True, exist_ok=True)
        (layer / f"etc/{number}").write_text(f"{number}\n", encoding="ascii")
        (layer / "etc/all").write_text(f"{number}\n", encoding="ascii")
        made.append(layer)
    return [*made, busybox_rootfs]


@pytest.fixture(
    params=[(2, False), (2, True), (3, True), (20, False), (20, True), (121, True)],
    ids=lambda param: f"{param[0]} layers{' stacked' * param[1]}",
)
def engine(layers: list[Path], request: pytest.FixtureRequest) -> Iterator[Layered]:
    """Return an engine whose images have so many layers."""
    count, stacked = request.param
    engine = Layered(layers[-count:], stacked=stacked)
    yield engine
    engine.close()


class TestLayers:
    """What stands in several directories is one root."""

    def test_the_uppermost_is_seen(self, engine: Layered) -> None:
        """A file of several layers is that of the uppermost; all others are there."""
        top = 121 - len(engine.found.layers)

        result = drive(engine.run(spec("cat", "/etc/all", "/etc/119"), Io()))

        assert result.stdout == f"{top}\n119\n"

    def test_what_changed(self, engine: Layered) -> None:
        """Changes are told against all layers together, and the layers stay as are."""
        box = engine.create(spec())
        drive(box.start())
        try:
            script = "echo x >/etc/119; rm /etc/all; touch -r /etc/passwd /etc/new"
            program = ProgramSpec(argv=("sh", "-c", script))
            assert drive(box.execute(program, Io(), None)).ok

            changes = [(change.kind, change.path) for change in box.changes()]
        finally:
            drive(box.remove())

        assert changes == [
            ("modified", "/etc/119"), ("removed", "/etc/all"), ("added", "/etc/new"),
        ]  # fmt: skip
        assert Path(engine.found.layers[-2], "etc/119").read_text() == "119\n"

    def test_the_root_comes_first(self, engine: Layered, tmp_path: Path) -> None:
        """
        However the layers are put together, the list of mounts begins with the root,
        and what the caller wants mounted is there once.
        """
        (tmp_path / "told").write_text("told\n", encoding="ascii")
        mounts = (Mount.bind(str(tmp_path), "/in"), Mount.tmpfs("/scratch"))
        script = "cut -d' ' -f2 /proc/mounts; cat /in/told; echo >/scratch/x"
        wanted = attrs.evolve(spec("sh", "-c", script), mounts=mounts)

        result = drive(engine.run(wanted, Io()))

        first, *others = result.stdout.splitlines()
        assert first == "/"
        assert others[-1] == "told"
        assert result.stderr == ""
        once = ("/", "/proc", "/sys", "/dev", "/dev/pts", "/in", "/scratch")
        assert [others.count(point) for point in once] == [0, 1, 1, 1, 1, 1, 1]

    def test_from_now_on(self, engine: Layered) -> None:
        """A tree of layers is built once for all containers of an image."""
        for _ in range(3):
            assert drive(engine.run(spec("true"), Io())).ok

        assert engine.keeper().prepared == (engine.found.stack is not None)
