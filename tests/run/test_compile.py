"""
From spec and facts to a plan: whole plans as text, and what changes them.

A plan that differs from its golden file fails; ``UPDATE_GOLDEN=1`` rewrites the files,
and whoever reviews reads the difference.
"""

import os
from pathlib import Path

import attrs
import pytest

import jailbox as jb
from jailbox import Limits, Mount, Security
from jailbox.errors import NotEnforced, SpecError, Unsupported
from jailbox.linux.facts import HostFacts, facts_from
from jailbox.linux.plan import Dir, Fs, Prepared
from jailbox.run.compile import Compiled, compile_container, compile_program
from jailbox.run.rootfs import Rootfs, Shown
from jailbox.run.users import identify
from jailbox.spec.container import ContainerSpec, ProgramSpec
from jailbox.spec.image import ImageConfig
from tests.linux.cgroup.recordings import machine
from tests.linux.test_facts import readings

GOLDEN = Path(__file__).parent / "golden"

ROOTFS = Rootfs(
    prepared=Prepared(key="k", ops=()),
    overlays=(Shown("/usr", "/usr"),),
    config=ImageConfig(env={"PATH": "/usr/bin"}),
    passwd="root:x:0:0::/root:/bin/sh\nwww:x:33:33::/srv:/bin/sh\n",
    group="root:x:0:\nwww:x:33:\naudio:x:29:www\n",
)

ALL_CAPS = "000001ffffffffff"


def facts(kind: str = "v2-root") -> HostFacts:
    """Return the facts of a recorded machine with a new kernel, as root."""
    seen = readings(caps=ALL_CAPS, euid=0, egid=0, user="root", release="6.18.0")
    layout = machine(kind).layout()
    return attrs.evolve(facts_from(seen), cgroups=layout, landlock_abi=6)


def compiled(spec: ContainerSpec, where: HostFacts) -> Compiled:
    """Compile for a keeper called K."""
    return compile_container(
        spec, where, ROOTFS, keeper="K", prepared=0, hostname="box"
    )


def text(spec: ContainerSpec, where: HostFacts) -> str:
    """Describe the plan of *spec* with its main program."""
    found = compiled(spec, where)
    program = spec.program(ImageConfig()) or ProgramSpec(argv=("true",))
    user = identify(program.user, program.groups, ROOTFS.passwd, ROOTFS.group)
    main = compile_program(program, spec, ROOTFS, found.security, user, hostname="box")
    plan = attrs.evolve(found.plan, program=main)
    return plan.describe() + "\n"


HOST = jb.Image.host().source

PLANS = {
    "default-v2": (ContainerSpec(image=HOST, command=("true",)), "v2-root"),
    "default-v1": (ContainerSpec(image=HOST, command=("true",)), "v1-root"),
    "judge-hybrid": (
        ContainerSpec(
            image=HOST,
            command=("prog", "x"),
            user="www",
            read_only=True,
            limits=Limits(memory="64M", cpu_time=1, wall=3, processes=8, disk="16M"),
        ),
        "hybrid-root",
    ),
    "mounts": (
        ContainerSpec(
            image=HOST,
            command=("true",),
            network="host",
            mounts=(
                Mount.bind("/data", "/a/b"),
                Mount.bind("/out", "/a", writable=True),
                Mount.tmpfs("/scratch", size="1M"),
            ),
        ),
        "v2-root",
    ),
}


class TestPlans:
    @pytest.mark.parametrize("name", PLANS)
    def test_a_plan_is_as_in_its_golden_file(self, name: str) -> None:
        """
        The whole plan, as text, is the one that was reviewed.
        """
        spec, kind = PLANS[name]
        file = GOLDEN / f"plan-{name}.txt"
        found = text(spec, facts(kind))
        if os.environ.get("UPDATE_GOLDEN"):
            file.write_text(found, encoding="utf-8")

        assert found == file.read_text(encoding="utf-8")

    def test_a_plan_for_an_old_kernel(self) -> None:
        """
        On Linux 6.1 layers have names for a moment, what the kernel notes is in
        ``trusted.*`` attributes, several layers are one below, and nothing is shared.
        """
        shared = Prepared(key="k", ops=(Fs(0, "tmpfs", (), attr=0), Dir(0, "etc")))
        rootfs = attrs.evolve(ROOTFS, layers=("/up", "/low"), prepared=shared)
        old = attrs.evolve(facts("v2-root"), kernel=(6, 1, 0), landlock_abi=2)
        spec = ContainerSpec(image=HOST, command=("true",))
        plan = compile_container(
            spec, old, rootfs, keeper="K", prepared=None, hostname="box"
        ).plan
        file = GOLDEN / "plan-old.txt"
        found = plan.describe() + "\n"
        if os.environ.get("UPDATE_GOLDEN"):
            file.write_text(found, encoding="utf-8")

        assert found == file.read_text(encoding="utf-8")

    @pytest.mark.parametrize("permissions", ["r", "w", "rm"])
    def test_half_of_a_device_is_no_promise(self, permissions: str) -> None:
        """
        A device that may only be read, or only be written to, is refused, for nothing
        enforces that; who allows it to be missing finds it listed.
        """
        device = Mount.device("/dev/zero", "/dev/other", permissions)
        spec = ContainerSpec(image=HOST, command=("true",), mounts=(device,))
        allowed = attrs.evolve(spec, security=Security().degrading("devices"))
        both = attrs.evolve(spec, mounts=(attrs.evolve(device, permissions="rwm"),))

        with pytest.raises(NotEnforced, match="/dev/zero") as caught:
            compiled(spec, facts("v2-root"))

        assert caught.value.degrade == "devices"
        assert "devices" in compiled(allowed, facts("v2-root")).plan.degraded
        assert "devices" not in compiled(both, facts("v2-root")).plan.degraded

    def test_equal_specs_have_equal_plans(self) -> None:
        """
        Compiling is a pure function, so that plans can be kept.
        """
        spec, kind = PLANS["judge-hybrid"]

        assert compiled(spec, facts(kind)) == compiled(spec, facts(kind))

    def test_parents_of_mounts_come_first(self) -> None:
        """
        A mount below another one is attached after it, whatever the caller's order.
        """
        lines = text(*_of("mounts")).splitlines()
        at = [n for n, line in enumerate(lines) if "'/a'" in line or "'/a/b'" in line]

        assert "'/a'" in lines[at[0]]
        assert "'/a/b'" in lines[at[1]]

    def test_values_of_variables_are_never_described(self) -> None:
        """
        A described plan names variables and keeps their values to itself.
        """
        spec = ContainerSpec(image=HOST, command=("true",), env={"TOKEN": "hunter2"})
        found = text(spec, facts())

        assert "TOKEN" in found
        assert "hunter2" not in found


def _of(name: str) -> tuple[ContainerSpec, HostFacts]:
    spec, kind = PLANS[name]
    return spec, facts(kind)


class TestRefusals:
    def test_a_limit_without_back_end_is_named(self) -> None:
        """
        A memory limit where nothing can enforce it is NotEnforced, with the remedy.
        """
        spec = ContainerSpec(image=HOST, limits=Limits(memory="64M"))
        with pytest.raises(NotEnforced, match="memory") as caught:
            compiled(spec, facts("none"))

        assert caught.value.remedy
        assert caught.value.degrade == "memory"

    def test_what_is_allowed_to_be_missing_is_listed(self) -> None:
        """
        With degrade the plan goes on without it and says so.
        """
        spec = ContainerSpec(
            image=HOST,
            limits=Limits(memory="64M"),
            security=Security(degrade={"memory"}),
        )

        assert "memory" in compiled(spec, facts("none")).plan.degraded

    def test_an_old_kernel_is_named(self) -> None:
        """
        A kernel without what every jail needs is Unsupported, with the version.
        """
        old = facts_from(readings(caps=ALL_CAPS, euid=0, egid=0, release="5.4.0"))
        with pytest.raises(Unsupported, match="Linux"):
            compiled(ContainerSpec(image=HOST), old)

    def test_another_user_needs_more_than_one_id(self) -> None:
        """
        Where only one id is mapped, another user is refused with the way out.
        """
        spec = ContainerSpec(image=HOST, user=1000)
        found = compiled(spec, facts())
        one = attrs.evolve(found.security, ids=1)
        user = identify(spec.user, (), ROOTFS.passwd, ROOTFS.group)
        with pytest.raises(SpecError, match="subordinate") as caught:
            compile_program(
                ProgramSpec(argv=("true",)), spec, ROOTFS, one, user, hostname="box"
            )

        assert "usermod" in (caught.value.hint or "")

    @pytest.mark.parametrize("groups", [(), (65536,)])
    def test_ids_of_a_jail_are_bounded(self, groups: tuple[int, ...]) -> None:
        """
        A user or group that a jail has not got is refused before anything is made.
        """
        spec = ContainerSpec(image=HOST, user=0 if groups else 65536, groups=groups)
        found = compiled(spec, facts())
        user = identify(spec.user, spec.groups, ROOTFS.passwd, ROOTFS.group)

        with pytest.raises(SpecError, match="ids below 65536"):
            compile_program(
                ProgramSpec(argv=("true",)),
                spec,
                ROOTFS,
                found.security,
                user,
                hostname="box",
            )


class TestUsers:
    @pytest.mark.parametrize(
        ("user", "groups", "expected"),
        [
            (None, (), (0, 0, (0,), "/root")),
            ("www", (), (33, 33, (29, 33), "/srv")),
            ("33", (), (33, 33, (29, 33), "/srv")),
            ("www:0", (), (33, 0, (0,), "/srv")),
            ("1234", (), (1234, 0, (0,), "/")),
            ("1234:www", (), (1234, 33, (33,), "/")),
            ("0", ("audio", 7), (0, 0, (0, 7, 29), "/root")),
        ],
    )
    def test_users_are_those_of_the_image(
        self,
        user: str | None,
        groups: tuple[int | str, ...],
        expected: tuple[object, ...],
    ) -> None:
        """
        Names and groups are looked up in the image; a number needs no entry.
        """
        spec = ProgramSpec(argv=("true",), user=user, groups=groups)
        found = identify(spec.user, spec.groups, ROOTFS.passwd, ROOTFS.group)

        assert (found.uid, found.gid, found.groups, found.home) == expected

    @pytest.mark.parametrize(
        "passwd", ["", "www\n", "www:x:33\n", "www:x:a:b::/:/\n", "www:x:-1:0::/:/\n",
                   "www:x:99999999999:0::/:/\n", "#www:x:33:33::/:/\n"],
    )  # fmt: skip
    def test_broken_lines_are_no_users(self, passwd: str) -> None:
        """
        A line that is no user is passed over, and its name is not known.
        """
        spec = ProgramSpec(argv=("true",), user="www")
        with pytest.raises(SpecError, match="www"):
            identify(spec.user, (), passwd, "")
