"""Limits: what is accepted, what is refused, how they print."""

import pickle
import time
from datetime import timedelta
from typing import Any, TypeAlias

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jailbox.errors import SpecError, SpecTypeError
from jailbox.spec.limits import (
    CPUS_MAX,
    DEFAULT_LIMITS,
    RLIMIT_NAMES,
    Limits,
    format_cpuset,
    parse_cpuset,
)

# A busy machine is no failure.
UNHURRIED = settings(deadline=None)

# What the types forbid and people pass nevertheless.
Wrong: TypeAlias = Any


class TestDefaults:
    """What a jail gets for which nothing was asked."""

    def test_defaults(self) -> None:
        """Only processes and core dumps are bounded by default."""
        bounded = {
            name: value
            for name, value in attrs.asdict(Limits(), recurse=False).items()
            if value not in (None, {})
        }

        assert bounded == {"processes": 2048, "core": 0}
        assert Limits() == DEFAULT_LIMITS

    def test_printed(self) -> None:
        """Only what differs from the default is printed, as people would write it."""
        limits = Limits(memory="256M", cpu_time=2, wall=5, processes=32)

        assert repr(Limits()) == "Limits()"
        assert repr(limits) == (
            "Limits(memory='256 MiB', cpu_time=2.0, wall=5.0, processes=32)"
        )
        assert repr(Limits(memory=1_500_001)) == "Limits(memory=1500001)"

    @UNHURRIED
    @given(
        st.builds(
            Limits,
            memory=st.none() | st.integers(1 << 20, 2**63 - 1),
            disk=st.none() | st.integers(1, 2**63 - 1),
            core=st.none() | st.integers(0, 2**63 - 1),
            wall=st.none() | st.floats(0.001, 1e6),
            processes=st.none() | st.integers(1, 1000),
        )
    )
    def test_printed_is_code(self, limits: Limits) -> None:
        """What is printed makes the same limits again."""
        assert eval(repr(limits), {"Limits": Limits}) == limits  # noqa: S307

    def test_value(self) -> None:
        """Equal limits are equal, hash equally, and pickle."""
        limits = Limits(memory="1G", rlimits={"nproc": 3})

        assert limits == Limits(memory=1 << 30, rlimits={"RLIMIT_NPROC": (3, 3)})
        assert hash(limits) == hash(attrs.evolve(limits))
        assert pickle.loads(pickle.dumps(limits)) == limits  # noqa: S301


class TestFields:
    """Each limit by itself."""

    @pytest.mark.parametrize(
        ("field", "given", "held"),
        [
            ("memory", "256M", 256 << 20),
            ("cpus", 1, 1.0),
            ("cpus", 0.5, 0.5),
            ("cpuset", "3,0-1,1", "0-1,3"),
            ("cpuset", [5, 0, 1], "0-1,5"),
            ("cpu_time", timedelta(seconds=2), 2.0),
            ("wall", 0.1, 0.1),
            ("processes", 1, 1),
            ("processes", None, None),
            ("disk", "1G", 1 << 30),
            ("inodes", 100, 100),
            ("output", 0, 0),
            ("open_files", 64, 64),
            ("file_size", "1M", 1 << 20),
            ("core", None, None),
            ("stack", "8M", 8 << 20),
        ],
    )
    def test_accepted(self, field: str, given: Wrong, held: object) -> None:
        """What people write is held as one canonical value."""
        assert getattr(Limits(**{field: given}), field) == held

    @pytest.mark.parametrize(
        "field",
        # A score may be negative; it is in a test of its own.
        [f.name for f in attrs.fields(Limits) if f.name != "oom_score_adj"],
    )
    @pytest.mark.parametrize(
        "value", [-1, True, float("nan"), "1e3g", object(), b"1", "0-1000000000"]
    )
    def test_refused(self, field: str, value: Wrong) -> None:
        """CG11: no field takes a negative, a bool, NaN, or nonsense."""
        with pytest.raises(SpecError) as caught:
            Limits(**{field: value})
        assert caught.value.argument.startswith(field)

    @pytest.mark.parametrize(
        ("facts", "message"),
        [
            (
                {"memory": 4096},
                (
                    "memory=4096 is too small "
                    "(accepted: at least 1048576 bytes: nothing starts in less)"
                ),
            ),
            (
                {"memory": 2**80},
                (
                    "memory=1208925819614629174706176 is too large "
                    "(accepted: at most 2**63 - 1 bytes)"
                ),
            ),
            (
                {"cpus": 0},
                (
                    "cpus=0 is out of range "
                    "(accepted: a number of processors from 0.01 to 8192, or None)"
                ),
            ),
            (
                {"cpuset": "0-1000000000"},
                (
                    "cpuset='0-1000000000' is not a set of processors "
                    "(accepted: numbers and ranges below 8192 such as '0-3,5')"
                ),
            ),
            (
                {"wall": 0},
                "wall=0 is zero (accepted: more than 0 seconds, or None)",
            ),
            (
                {"processes": 0},
                (
                    "processes=0 is out of range "
                    "(accepted: an int from 1 to 4194304, or None)"
                ),
            ),
            (
                {"swap": "1G"},
                (
                    "swap=1073741824 needs a memory limit "
                    "(accepted: swap together with memory)"
                ),
            ),
        ],
    )
    def test_golden(self, facts: dict[str, Any], message: str) -> None:
        """Refusals name the argument, the value and what is accepted."""
        with pytest.raises(SpecError) as caught:
            Limits(**facts)
        assert str(caught.value) == message

    @pytest.mark.parametrize("value", [-1001, 1001, True, "1", 0.5])
    def test_score_refused(self, value: Wrong) -> None:
        """A score is a whole number that the kernel takes."""
        with pytest.raises(SpecError, match="oom_score_adj"):
            Limits(oom_score_adj=value)

    def test_reservation_within_the_limit(self) -> None:
        """No more can be reserved than may be used."""
        with pytest.raises(SpecError, match="more than the limit"):
            Limits(memory="32M", memory_reservation="33M")

    def test_refused_quickly(self) -> None:
        """CG11: absurd values are refused before anything is counted, in 10 ms."""
        absurd: list[tuple[str, Wrong]] = [
            ("cpuset", "0-1000000000"),
            ("cpuset", range(10**12)),
            ("memory", 2**80),
            ("memory", "9" * 30 + "E"),
            ("memory", "1" * 10**6),
            ("processes", 10**4000),
        ]
        start = time.monotonic()
        for field, value in absurd:
            with pytest.raises(SpecError):
                Limits(**{field: value})
        assert time.monotonic() - start < 0.06

    def test_extra_swap(self) -> None:
        """A memory limit alone means no swap; without one, swap is left alone."""
        assert Limits().extra_swap is None
        assert Limits(memory="1G").extra_swap == 0
        assert Limits(memory="1G", swap="2G").extra_swap == 2 << 30


class TestCpuset:
    """Sets of processors."""

    @UNHURRIED
    @given(st.frozensets(st.integers(0, CPUS_MAX - 1), min_size=1, max_size=50))
    def test_round_trip(self, numbers: frozenset[int]) -> None:
        """What is printed is read back as the same set."""
        assert parse_cpuset(format_cpuset(numbers)) == tuple(sorted(numbers))

    @pytest.mark.parametrize(
        "value",
        ["", ",", "1,", "3-1", "1-", "-1", "a", "0-3 ", "１", "0\n", "8192"],  # noqa: RUF001
    )
    def test_refused(self, value: str) -> None:
        """What the kernel would refuse or misread is refused here."""
        with pytest.raises(SpecError, match="is not a set of processors"):
            parse_cpuset(value)

    @pytest.mark.parametrize("value", [[], [-1], [8192], [True], ["1"], 3, b"0"])
    def test_refused_numbers(self, value: Wrong) -> None:
        """An empty set, or a number that is no processor, is refused."""
        with pytest.raises(SpecError):
            parse_cpuset(value)


class TestRlimits:
    """Resource limits by name."""

    def test_all(self) -> None:
        """Named fields and rlimits are one table of (soft, hard)."""
        limits = Limits(
            open_files=64,
            file_size="1M",
            stack="8M",
            rlimits={"memlock": (0, "64K"), "nproc": 5, "as": None},
        )

        assert limits.all_rlimits() == {
            "as": (None, None),
            "core": (0, 0),
            "fsize": (1 << 20, 1 << 20),
            "memlock": (0, 1 << 16),
            "nofile": (64, 64),
            "nproc": (5, 5),
            "stack": (8 << 20, 8 << 20),
        }

    def test_core_can_be_replaced(self) -> None:
        """An entry for core in rlimits takes the place of the default of no core."""
        limits = Limits(rlimits={"core": ("1M", None)})

        assert limits.all_rlimits() == {"core": (1 << 20, None)}

    def test_every_name(self) -> None:
        """There are sixteen, as in the kernel."""
        assert len(RLIMIT_NAMES) == 16
        assert Limits(rlimits=dict.fromkeys(RLIMIT_NAMES, 1)).rlimits.keys() == (
            RLIMIT_NAMES
        )

    @pytest.mark.parametrize(
        ("rlimits", "message"),
        [
            ({"nofiles": 1}, "rlimits='nofiles' has an unknown name"),
            ({3: 1}, "rlimits=3 has an unknown name"),
            ({"nproc": (2, 1)}, "has a soft limit above the hard one"),
            ({"nproc": (None, 1)}, "has a soft limit above the hard one"),
            ({"nproc": (1,)}, "is not a pair"),
            ({"nproc": (1, 2, 3)}, "is not a pair"),
            ({"nproc": 1.5}, "is not a size"),
            ({"nproc": True}, "is not a size"),
            ({"nproc": 1, "RLIMIT_NPROC": 2}, "is given twice"),
        ],
    )
    def test_refused(self, rlimits: dict[str, Any], message: str) -> None:
        """Unknown names and pairs that contradict themselves are refused."""
        with pytest.raises(SpecError, match=message):
            Limits(rlimits=rlimits)

    def test_two_answers(self) -> None:
        """A limit that has a field and an entry in rlimits is refused."""
        with pytest.raises(SpecError) as caught:
            Limits(open_files=3, rlimits={"nofile": 4})
        assert str(caught.value) == (
            "rlimits['nofile'] is also given as open_files "
            "(accepted: either open_files or rlimits)"
        )

    def test_no_mapping(self) -> None:
        """A list of pairs is no mapping."""
        pairs: Any = [("nproc", 1)]
        with pytest.raises(SpecTypeError, match="is not a mapping but list"):
            Limits(rlimits=pairs)
