"""Which groups a jail gets, what holds its limits, and what is refused."""

import errno
import pickle
import re
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jailbox.errors import NotEnforced, SpecError
from jailbox.linux.cgroup import (
    MEMORY_MIN,
    CgroupLayout,
    CgroupPlan,
    cgroup_plan,
    check_limits,
    enforcement,
    keeper_dirs,
    update_writes,
)
from jailbox.linux.facts import Helper, HostFacts, IdRange
from jailbox.spec.limits import Limits
from tests.linux.cgroup.recordings import (
    CORPUS,
    MACHINES,
    WISHES,
    expectations,
    machine,
)

JUDGE, _ = WISHES["judge"]
SERVICE, _ = WISHES["service"]


def facts(name: str, **more: Any) -> HostFacts:  # noqa: ANN401  # its fields
    """Return the facts of a rootless machine with recorded control groups."""
    given_: dict[str, Any] = {
        "kernel": (6, 12, 0),
        "release": "6.12.0",
        "arch": "x86_64",
        "euid": 1000,
        "egid": 1000,
        "cpus": (0, 1, 2, 3),
        "cgroups": machine(name).layout(),
    }
    return HostFacts(**(given_ | more))


def plan(name: str, limits: Limits, *, freezable: bool = False) -> CgroupPlan:
    """Plan the groups of a jail on a recorded machine."""
    layout = machine(name).layout()
    return cgroup_plan(limits, layout, "c1", keeper="k1", freezable=freezable)


class TestGolden:
    """Plans as text."""

    @pytest.mark.parametrize("wish", WISHES)
    @pytest.mark.parametrize("name", MACHINES)
    def test_plan(self, name: str, wish: str) -> None:
        """The plan for a wish on every recorded machine is the one in its folder."""
        expected = (CORPUS / name / f"plan-{wish}").read_text(encoding="utf-8")

        assert expectations(name)[f"plan-{wish}"] == expected


class TestPlan:
    """What is made."""

    @pytest.mark.parametrize(
        ("limits", "freezable", "leaves"),
        [
            (Limits(), False, ["memory", "pids"]),
            (JUDGE, False, ["memory", "pids", "unified"]),
            (Limits(), True, ["memory", "pids", "unified"]),
            (Limits(cpus=1), False, ["cpu", "memory", "pids"]),
            (Limits(cpuset="0"), False, ["cpuset", "memory", "pids"]),
        ],
    )
    def test_few_directories(
        self, limits: Limits, *, freezable: bool, leaves: list[str]
    ) -> None:
        """On a hybrid machine a jail pays only for the hierarchies that it uses."""
        made = plan("hybrid-root", limits, freezable=freezable).leaves

        assert [leaf.path.split("/")[4] for leaf in made] == leaves

    @pytest.mark.parametrize("wish", WISHES)
    def test_one_directory_in_version_2(self, wish: str) -> None:
        """In version 2 every jail has one directory, whatever it wishes."""
        limits, freezable = WISHES[wish]

        assert len(plan("v2-root", limits, freezable=freezable).leaves) == 1

    @pytest.mark.parametrize("name", MACHINES)
    def test_parents_come_first(self, name: str) -> None:
        """
        Each directory stands after its parent, and the jail's own are
        named for it.
        """
        layout = machine(name).layout()
        bases = {h.base for h in layout.hierarchies}
        made = plan(name, SERVICE, freezable=True)
        seen = set(bases)
        for directory in made.dirs:
            parent, _, last = directory.path.rpartition("/")
            assert directory.path in bases or parent in seen
            assert (directory.join != "no") == (last == "c1")
            seen.add(directory.path)

    def test_joins_never_by_cgroup_procs(self) -> None:
        """
        Version 1 is joined through tasks, version 2 by being born in it: a write to
        cgroup.procs would cost milliseconds.
        """
        made = plan("hybrid-root", SERVICE, freezable=True)

        assert {d.join for d in made.leaves if "/unified/" not in d.path} == {"tasks"}
        assert {d.join for d in made.leaves if "/unified/" in d.path} == {"into"}

    def test_memory_before_memory_and_swap(self) -> None:
        """Version 1 takes the sum of memory and swap only after memory itself."""
        made = plan("v1-root", JUDGE)
        (writes,) = [d.writes for d in made.leaves if "/memory/" in d.path]

        assert [file for file, _ in writes] == [
            "memory.limit_in_bytes",
            "memory.memsw.limit_in_bytes",
        ]

    def test_no_swap_by_default(self) -> None:
        """A memory limit without a word about swap allows none."""
        old = dict(plan("v1-root", Limits(memory="64M")).leaves[0].writes)
        new = dict(plan("v2-root", Limits(memory="64M")).leaves[0].writes)

        assert old["memory.memsw.limit_in_bytes"] == old["memory.limit_in_bytes"]
        assert new["memory.swap.max"] == "0"

    def test_cpuset_is_filled_from_the_top(self) -> None:
        """
        Version 1: parents and jail get processors and memory nodes before anybody
        joins, since an empty cpuset takes nobody.
        """
        made = plan("v1-root", Limits(cpuset="2-3"))
        writes = [dict(d.writes) for d in made.dirs if "/cpuset/" in d.path]

        assert [w["cpuset.cpus"] for w in writes] == ["0-7", "0-7", "2-3"]
        assert [w["cpuset.mems"] for w in writes] == ["0-1", "0-1", "0-1"]

    def test_room_for_init(self) -> None:
        """The bound of processes does not count our own init."""
        (writes,) = [d.writes for d in plan("v2-root", Limits(processes=1)).leaves]

        assert ("pids.max", "2") in writes

    def test_bound_past_every_process_id(self) -> None:
        """A bound that the kernel would refuse as too large bounds nothing."""
        (writes,) = [
            d.writes for d in plan("v2-root", Limits(processes=1 << 22)).leaves
        ]

        assert ("pids.max", "max") in writes

    def test_half_a_processor(self) -> None:
        """cpus=0.5 is half of every period."""
        new = plan("v2-root", Limits(cpus=0.5)).leaves[0].writes
        old = plan("v1-root", Limits(cpus=0.5)).leaves[0].writes

        assert ("cpu.max", "50000 100000") in new
        assert ("cpu.cfs_quota_us", "50000") in old

    def test_who_eats_dies(self) -> None:
        """
        The OOM killer takes one process, as in version 1: what else runs in a container
        goes on, and a shell tells by its exit code.
        """
        (leaf,) = plan("v2-root", Limits(memory=64 << 20)).leaves

        assert not [name for name, _ in leaf.writes if "oom" in name]

    def test_clock(self) -> None:
        """
        A budget of processor time has a clock that counts the dead too: that of the
        unified tree where there is one, else cpuacct.
        """
        limits = Limits(cpu_time=1)
        hybrid, old = plan("hybrid-root", limits).clock, plan("v1-root", limits).clock

        assert hybrid is not None
        assert old is not None
        assert (hybrid.unit, old.unit) == ("stat", "ns")
        assert plan("hybrid-root", Limits()).clock is None

    def test_freezer(self) -> None:
        """
        Version 2 freezes with death still possible; version 1 alone
        must thaw to kill.
        """
        new = plan("hybrid-root", Limits(), freezable=True)
        old = plan("v1-root", Limits(), freezable=True)

        assert new.freezer is not None
        assert new.freezer.killable
        assert new.kill is not None
        assert old.freezer is not None
        assert not old.freezer.killable
        assert old.kill is None
        assert plan("v2-root", Limits()).freezer is None

    def test_nothing_without_groups(self) -> None:
        """Where no group may be made, none is planned."""
        made = plan("v2-docker", SERVICE, freezable=True)

        assert made == CgroupPlan(backend="none")

    def test_without_what_was_made(self) -> None:
        """
        Parents that exist are left out the next time, and only if
        they would be equal.
        """
        first = plan("v2-root", Limits())
        done = frozenset(first.parents)

        assert first.without(done).dirs == first.leaves
        with_cpu = plan("v2-root", Limits(cpus=1)).without(done)
        assert with_cpu.parents == plan("v2-root", Limits(cpus=1)).parents

    @pytest.mark.parametrize("name", MACHINES)
    def test_keeper_makes_the_usual_parents(self, name: str) -> None:
        """
        What a keeper makes once is all that a jail without wishes for
        processors needs.
        """
        made = frozenset(keeper_dirs(machine(name).layout(), "k1"))

        assert plan(name, JUDGE).without(made).parents == ()

    def test_located(self) -> None:
        """Every file to read lies in one of the jail's own directories."""
        made = plan("hybrid-root", SERVICE, freezable=True)
        for label, path in made.collect + made.live:
            index, file = made.located(path)
            assert made.leaves[index].path + "/" + file == path
            assert label.partition("/")[2] == file
        with pytest.raises(KeyError):
            made.located("/sys/fs/cgroup/memory/memory.stat")

    def test_value(self) -> None:
        """A plan is a value: hashable and picklable."""
        made = plan("hybrid-root", SERVICE, freezable=True)

        assert pickle.loads(pickle.dumps(made)) == made  # noqa: S301  # our own
        assert hash(made) == hash(plan("hybrid-root", SERVICE, freezable=True))

    @pytest.mark.parametrize(
        "name", ["", ".", "..", "a/b", "-x", "memory.max", "cgroup.procs", "tasks", "ä"]
    )
    def test_names(self, name: str) -> None:
        """A name that is no directory's, or that of a kernel file, is refused."""
        layout = machine("v2-root").layout()
        with pytest.raises(SpecError, match="cannot name a control group"):
            cgroup_plan(Limits(), layout, name, keeper="k1")
        with pytest.raises(SpecError, match="cannot name a control group"):
            cgroup_plan(Limits(), layout, "c1", keeper=name)

    @given(
        memory=st.none() | st.integers(1 << 20, 2**63 - 1),
        cpus=st.none() | st.floats(0.01, 8192),
        processes=st.none() | st.integers(1, 1 << 22),
        name=st.sampled_from(MACHINES),
        freezable=st.booleans(),
    )
    def test_only_numbers_that_the_kernel_reads(
        self,
        memory: int | None,
        cpus: float | None,
        processes: int | None,
        name: str,
        *,
        freezable: bool,
    ) -> None:
        """
        Every limit becomes plain decimal numbers, never an exponent
        or a fraction.
        """
        limits = Limits(memory=memory, cpus=cpus, processes=processes)
        for directory in plan(name, limits, freezable=freezable).leaves:
            for file, value in directory.writes:
                assert re.fullmatch(r"[0-9]+( [0-9]+)?|max", value), (file, value)
                if file in {"cpu.cfs_quota_us", "cpu.max"}:
                    assert int(value.split()[0]) >= 1000


class TestEnforcement:
    """What holds."""

    @pytest.mark.parametrize("name", ["hybrid-root", "v1-root", "v2-root"])
    def test_groups_hold_everything(self, name: str) -> None:
        """
        With all controllers every limit is held by a group, and
        nothing is degraded.
        """
        limits = attrs.evolve(SERVICE, cpu_time=1)
        found = enforcement(limits, facts(name))

        assert found.backend == machine(name).layout().backend
        assert dict(found.mechanisms) == dict.fromkeys(
            ("cpu_time", "cpus", "cpuset", "memory", "processes"), "cgroup"
        )
        assert found.degraded == ()
        assert found.rlimits == ()

    @pytest.mark.parametrize(
        ("limits", "protection"),
        [
            (Limits(memory="64M"), "memory"),
            (Limits(cpus=1), "cpus"),
            (Limits(cpuset="0"), "cpuset"),
        ],
    )
    @pytest.mark.parametrize(
        "name", ["none", "v2-docker", "v2-user-session", "v2-service-delegated"]
    )
    def test_refused(self, name: str, limits: Limits, protection: str) -> None:
        """CG10: a limit that nothing holds is an error with file, errno and remedy."""
        with pytest.raises(NotEnforced) as caught:
            enforcement(limits, facts(name))

        error = caught.value
        assert error.protection == protection
        assert error.path is not None
        assert error.path.startswith("/sys/fs/cgroup")
        assert error.errno in {
            errno.ENOENT,
            errno.EROFS,
            errno.EACCES,
            errno.EBUSY,
        }
        assert error.remedy
        assert error.degrade == protection

    def test_message(self) -> None:
        """The message names the limit, the cause, the file and the errno."""
        with pytest.raises(NotEnforced) as caught:
            enforcement(Limits(memory="64M"), facts("v2-docker"))

        assert str(caught.value) == (
            "cannot enforce memory: the cgroup file system is mounted read-only: "
            "/sys/fs/cgroup: EROFS (Read-only file system)"
        )
        assert "docker run" in caught.value.__notes__[0]
        assert "Its price:" in caught.value.__notes__[0]

    @pytest.mark.parametrize("word", ["memory", "cgroup"])
    def test_allowed(self, word: str) -> None:
        """
        When the caller allows it, memory is bounded for each process,
        and that is said.
        """
        found = enforcement(Limits(memory="64M"), facts("none"), {word})

        assert "memory" in found.degraded
        assert dict(found.rlimits)["data"] == 64 << 20
        assert ("memory", "rlimit") in found.mechanisms

    def test_one_word_does_not_allow_another(self) -> None:
        """Consent to go without one limit is no consent to go without another."""
        with pytest.raises(NotEnforced, match="cannot enforce cpus"):
            enforcement(Limits(memory="64M", cpus=1), facts("none"), {"memory"})

    def test_affinity_is_no_cpuset(self) -> None:
        """
        A processor mask is inherited but can be widened again, so it
        is a degradation.
        """
        found = enforcement(Limits(cpuset="1,3"), facts("none"), {"cpuset"})

        assert found.affinity == (1, 3)
        assert "cpuset" in found.degraded

    def test_no_limits_at_all(self) -> None:
        """
        A jail without limits runs where there are no groups; its bill
        is an estimate.
        """
        found = enforcement(Limits(processes=None), facts("none"))

        assert found.degraded == ("usage",)

    def test_processes_of_one_id(self) -> None:
        """
        With one id, RLIMIT_NPROC in the jail's own user namespace is
        a true bound.
        """
        found = enforcement(Limits(processes=32), facts("none"))

        assert found.rlimits == (("nproc", 32),)
        assert ("processes", "rlimit") in found.mechanisms
        assert "processes" not in found.degraded

    def test_processes_of_many_ids(self) -> None:
        """
        With many ids it bounds each user alone: refused, unless allowed, or unless the
        namespace as a whole is bounded.
        """
        ids = (IdRange(100000, 65536),)
        helper = Helper("/usr/bin/newuidmap", privileged=True)
        many = facts("none", subuid=ids, subgid=ids, newuidmap=helper, newgidmap=helper)
        assert many.id_mode == "subuid"

        with pytest.raises(NotEnforced, match="cannot enforce processes"):
            enforcement(Limits(processes=32), many)
        allowed = enforcement(Limits(processes=32), many, {"processes"})
        assert "processes" in allowed.degraded
        whole = enforcement(Limits(processes=32), many, bounded_namespace=True)
        assert "processes" not in whole.degraded
        # The default that nobody asked for is applied as far as it goes, and listed.
        assert "processes" in enforcement(Limits(), many).degraded

    def test_supervised(self) -> None:
        """Time, output and disk hold without any group."""
        limits = Limits(cpu_time=1, wall=1, output="1M", disk="1M", inodes=9)
        found = enforcement(limits, facts("none"))

        assert dict(found.mechanisms) == {
            "cpu_time": "init",
            "disk": "tmpfs",
            "inodes": "tmpfs",
            "output": "init",
            "processes": "rlimit",
            "wall": "init",
        }

    def test_swap_that_is_not_counted(self) -> None:
        """Memory that can leave for swap uncounted is not bounded: that is refused."""
        layout = machine("v1-root").layout()
        layout = attrs.evolve(
            layout,
            hierarchies=tuple(attrs.evolve(h, knobs=()) for h in layout.hierarchies),
        )
        swapping = facts("none", cgroups=layout, swap_in_use=True)

        with pytest.raises(NotEnforced, match="cannot enforce swap") as caught:
            enforcement(Limits(memory="64M"), swapping)
        assert "swapaccount=1" in caught.value.remedy
        still = attrs.evolve(swapping, swap_in_use=False)
        assert enforcement(Limits(memory="64M"), still).degraded == ()


class TestCheck:
    """What makes no sense here."""

    def test_fine(self) -> None:
        """Limits within the machine pass."""
        check_limits(Limits(memory=MEMORY_MIN, cpuset="0-3"), facts("v2-root"))

    def test_too_little_memory(self) -> None:
        """
        Memory in which no jail reliably starts is refused early, with
        the least one.
        """
        with pytest.raises(SpecError, match=r"accepted: at least 4194304 bytes"):
            check_limits(Limits(memory=MEMORY_MIN - 1), facts("v2-root"))

    def test_processors_that_are_not_here(self) -> None:
        """A cpuset beyond the machine is refused with the processors there are."""
        with pytest.raises(SpecError) as caught:
            check_limits(Limits(cpuset="2-9"), facts("v2-root"))

        assert "not here: 4-9" in str(caught.value)
        assert caught.value.accepted == "some of 0-3"

    def test_processors_without_a_group(self) -> None:
        """Without the controller, what this program may run on counts."""
        with pytest.raises(SpecError, match="not here: 3"):
            check_limits(Limits(cpuset="3"), facts("none", cpus=(0, 1)))

    def test_all_findings_at_once(self) -> None:
        """Everything that is wrong is said in one error."""
        with pytest.raises(SpecError) as caught:
            check_limits(Limits(memory=MEMORY_MIN - 1, cpuset="99"), facts("v2-root"))

        assert len(caught.value.findings) == 2


class TestUpdate:
    """Changing a running jail."""

    def update(self, name: str, old: Limits, new: Limits) -> list[str]:
        """Return the writes as file=value."""
        layout = machine(name).layout()
        made = cgroup_plan(old, layout, "c1", keeper="k1", freezable=True)
        writes = update_writes(made, layout, old, new)
        return [f"{path.rpartition('/')[2]}={value}" for path, value in writes]

    def test_nothing_changed(self) -> None:
        """Equal limits need no write."""
        assert self.update("v2-root", SERVICE, SERVICE) == []

    def test_more_memory_in_version_1(self) -> None:
        """Growing, the sum of memory and swap goes first."""
        old, new = Limits(memory="64M"), Limits(memory="128M")

        assert self.update("v1-root", old, new) == [
            "memory.memsw.limit_in_bytes=134217728",
            "memory.limit_in_bytes=134217728",
        ]

    def test_less_memory_in_version_1(self) -> None:
        """Shrinking, memory goes first."""
        old, new = Limits(memory="128M"), Limits(memory="64M")

        assert self.update("v1-root", old, new) == [
            "memory.limit_in_bytes=67108864",
            "memory.memsw.limit_in_bytes=67108864",
        ]

    @given(
        st.tuples(st.none() | st.integers(8, 64), st.integers(0, 64)),
        st.tuples(st.none() | st.integers(8, 64), st.integers(0, 64)),
    )
    def test_version_1_never_has_more_memory_than_both(
        self, before: tuple[int | None, int], after: tuple[int | None, int]
    ) -> None:
        """
        Between the writes memory never exceeds memory and swap, as
        the kernel demands.
        """

        def limits(pair: tuple[int | None, int]) -> Limits:
            memory, swap = pair
            if memory is None:
                return Limits()
            return Limits(memory=memory << 20, swap=swap << 20)

        def number(value: str) -> float:
            return float("inf") if value == "-1" else float(value)

        old, new = limits(before), limits(after)
        infinite = float("inf")
        memory = infinite if old.memory is None else float(old.memory)
        both = memory + (old.extra_swap or 0)
        for write in self.update("v1-root", old, new):
            file, _, value = write.partition("=")
            if file == "memory.limit_in_bytes":
                memory = number(value)
            else:
                both = number(value)
            assert memory <= both

    def test_version_2(self) -> None:
        """In version 2 only what differs is written."""
        old = Limits(memory="64M", processes=9, cpus=1, cpuset="0-1")
        new = Limits(memory="128M", processes=10, cpus=2, cpuset="0")

        assert self.update("v2-root", old, new) == [
            "memory.max=134217728",
            "cpus.max=200000 100000".replace("cpus", "cpu"),
            "cpuset.cpus=0",
            "pids.max=11",
        ]

    def test_lifting(self) -> None:
        """A bound can be taken away again."""
        old = Limits(memory="64M", processes=9, cpus=1, cpuset="0-1")
        new = Limits(processes=None)

        assert self.update("v2-root", old, new) == [
            "memory.max=max",
            "memory.swap.max=max",
            "cpu.max=max 100000",
            "cpuset.cpus=0-3",
            "pids.max=max",
        ]
        assert self.update("v1-root", old, new) == [
            "memory.memsw.limit_in_bytes=-1",
            "memory.limit_in_bytes=-1",
            "cpu.cfs_quota_us=-1",
            "cpuset.cpus=0-7",
            "pids.max=max",
        ]

    def test_supervised_limits_need_no_write(self) -> None:
        """Time and output are held by supervision and change without a write."""
        assert self.update("v2-root", Limits(), Limits(wall=9, cpu_time=9)) == []

    def test_unchangeable(self) -> None:
        """What is fixed at the start cannot be changed, and the error says what can."""
        with pytest.raises(SpecError, match="cannot be changed while the container"):
            self.update("v2-root", Limits(), Limits(disk="1M"))

    def test_started_without(self) -> None:
        """A bound whose group was not made at the start cannot be added later."""
        with pytest.raises(SpecError, match="was started without a bound on it"):
            self.update("hybrid-root", Limits(), Limits(cpus=1))


def test_another_back_end() -> None:
    """Facts without groups make the plan of a machine without them: back end none."""
    without = facts("v2-root", cgroups=CgroupLayout())

    assert enforcement(Limits(), without).backend == "none"
    assert cgroup_plan(Limits(), without.cgroups, "c1", keeper="k1").dirs == ()
