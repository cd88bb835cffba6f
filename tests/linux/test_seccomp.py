"""
Programs: what they answer, whatever the profile.

A program is right when it answers every call as its profile says. Two readings of the
profile are compared: the compiled one, on a machine for classic BPF (`bpf_machine`),
and a naive one (`seccomp_oracle`).
"""

import ast
import inspect
import itertools
import types
from collections.abc import Iterator
from typing import TypedDict

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jailbox.errors import SpecError
from jailbox.linux import bpf, caps, landlock, seccomp, tables
from jailbox.linux.seccomp import (
    ALLOW,
    Action,
    Compare,
    Kind,
    Op,
    Profile,
    Rule,
    default,
    default_profile,
    deny,
    document,
    program,
)
from jailbox.linux.seccomp import compile as compiler
from jailbox.linux.seccomp import profile as values
from jailbox.linux.tables import AUDIT_ARCH, SYSCALLS
from jailbox.spec.capabilities import ALL_CAPABILITIES
from tests.linux.bpf_machine import Refused, check, execute, run, seccomp_data
from tests.linux.seccomp_oracle import (
    ARCHES,
    ENOSYS,
    EPERM,
    I386,
    X32,
    naive,
    telling_arguments,
)


class Options(TypedDict, total=False):
    """What a default profile may be asked for."""

    capabilities: frozenset[str]
    nesting: bool


PROFILES: dict[str, Options] = {
    "default": {},
    "all capabilities": {"capabilities": ALL_CAPABILITIES},
    "no capabilities": {"capabilities": frozenset()},
    "nesting": {"nesting": True},
}


class TestProgram:
    """What a program answers, whatever the profile."""

    @pytest.mark.parametrize("arch", ARCHES)
    @pytest.mark.parametrize("options", PROFILES.values(), ids=PROFILES)
    def test_every_number(self, arch: str, options: Options) -> None:
        """
        For every number from 0 to 1100 and in the x32 range, with arguments at the
        edges of every comparison, the program of a default profile answers as the
        profile says.
        """
        profile = default_profile(arch=arch, **options)
        code = check(program(profile))
        native = AUDIT_ARCH[arch]
        conditional = {
            SYSCALLS[arch][name]
            for rule in profile.rules
            if rule.when
            for name in rule.names
            if name in SYSCALLS[arch]
        }
        plain = [(0,) * 6, (2**64 - 1,) * 6]
        numbers = itertools.chain(
            range(1101), range(X32, X32 + 1101), (2**31, 2**32 - 1, X32 - 1)
        )
        for number in numbers:
            for args in telling_arguments(profile) if number in conditional else plain:
                verdict = execute(code, seccomp_data(number, native, args))
                assert verdict == naive(profile, number, native, args).verdict, (
                    number,
                    args,
                )

    @pytest.mark.parametrize("arch", ARCHES)
    def test_foreign_abi(self, arch: str) -> None:
        """A call by another ABI ends the process, whatever its number."""
        code = check(program(default_profile(arch=arch)))

        for foreign in {I386, *AUDIT_ARCH.values()} - {AUDIT_ARCH[arch]}:
            for number in (0, 1, 41, 59, 102, 120, 2**32 - 1):
                verdict = execute(code, seccomp_data(number, foreign))
                assert verdict == Kind.KILL_PROCESS.value

    @pytest.mark.slow
    @settings(max_examples=150, deadline=None)
    @given(data=st.data())
    def test_any_profile(self, data: st.DataObject) -> None:
        """The program of any profile answers as the profile says."""
        profile = data.draw(profiles())
        code = check(program(profile))
        arch = AUDIT_ARCH[profile.arch]
        numbers = [SYSCALLS[profile.arch].get(name, 1000) for name in SOME_CALLS]

        for args in telling_arguments(profile)[:60]:
            for number in [*numbers, 470, X32 + 1]:
                verdict = execute(code, seccomp_data(number, arch, args))
                assert verdict == naive(profile, number, arch, args).verdict

    @pytest.mark.parametrize("arch", ARCHES)
    def test_far_jumps(self, arch: str) -> None:
        """A program whose branches must go further than 255 instructions is right."""
        names = sorted(SYSCALLS[arch])
        profile = Profile(
            arch=arch,
            default=ALLOW,
            rules=tuple(
                Rule((name,), deny(number), (Compare(number % 6, Op.GT, number << 30),))
                for number, name in enumerate(names, 1)
            ),
        )
        code = program(profile)
        assert bpf.length(code) > 4 * 255
        instructions = check(code)

        for name, number in SYSCALLS[arch].items():
            limit = (names.index(name) + 1) << 30
            for argument in (limit, limit + 1, 0, 2**64 - 1):
                args = (argument,) * 6
                assert (
                    execute(instructions, seccomp_data(number, AUDIT_ARCH[arch], args))
                    == naive(profile, number, AUDIT_ARCH[arch], args).verdict
                )

    def test_too_long(self) -> None:
        """A profile that needs more than 4096 instructions is refused."""
        many = tuple(Compare(0, Op.NE, value << 32 | value) for value in range(1200))
        profile = Profile(
            arch="x86_64", default=ALLOW, rules=(Rule(("mmap",), EPERM, many),)
        )

        with pytest.raises(SpecError, match="instructions"):
            program(profile)

    def test_decided_without_arguments(self) -> None:
        """
        A call that is allowed whatever its arguments is decided before an argument is
        loaded, so that the kernel can keep the answer in its bitmap.
        """
        profile = default_profile(arch="x86_64")
        code = check(program(profile))
        head = seccomp_data(0, AUDIT_ARCH["x86_64"])[:16]

        for name, rules in profile.decisions().items():
            number = SYSCALLS["x86_64"][name].to_bytes(4, "little")
            if len(rules) == 1:
                assert execute(code, number + head[4:]) == rules[0].action.verdict

    def test_cached_by_content(self) -> None:
        """Equal profiles share one program."""
        one = Profile(arch="x86_64", default=ALLOW, rules=(Rule(("read",), EPERM),))
        other = Profile(arch="x86_64", default=ALLOW, rules=(Rule(("read",), EPERM),))

        assert one is not other
        assert program(one) is program(other)

    @pytest.mark.parametrize("arch", ARCHES)
    def test_small(self, arch: str) -> None:
        """The default program has less than 128 instructions, and a search is short."""
        code = check(program(default_profile(arch=arch)))
        depth = [0] * (len(code) + 1)
        for at, (op, true, false, k) in enumerate(code):
            ways = {0x05: (k,), 0x06: ()}.get(
                op, (0,) if op in {0x20, 0x54} else (true, false)
            )
            for way in ways:
                depth[at + 1 + way] = max(depth[at + 1 + way], depth[at] + 1)

        assert len(code) < 128
        assert max(depth) < 24

    def test_disassembly(self) -> None:
        """A program can be read: words, names of calls, names of verdicts."""
        profile = Profile(
            arch="aarch64",
            default=ALLOW,
            unknown=ALLOW,
            rules=(
                Rule(("read",), EPERM, (Compare(0, Op.EQ, 3),)),
                Rule(("fchmod",), Action(Kind.TRACE, 7), (Compare(1, Op.GE, 2),)),
            ),
        )

        assert seccomp.describe_program(profile) == DISASSEMBLED


DISASSEMBLED = """\
   0 load arch
   1 if arch == 0xc00000b7: 2 else 13
   2 load nr
   3 if nr == 52 fchmod: 4 else 8
   4 load arg1
   5 and 0xffff
   6 if (arg1 & 0xffff) >= 0x2: 7 else 12
   7 return TRACE(7)
   8 if nr == 63 read: 9 else 12
   9 load arg0
  10 if arg0 == 0x3: 11 else 12
  11 return EPERM
  12 return ALLOW
  13 return KILL_PROCESS
"""


# ---- any profile -----------------------------------------------------------

# Calls with arguments of 16, 32 and 64 bits, neighbors and loners.
SOME_CALLS = [
    "read", "write", "close", "mmap", "mprotect", "ioctl", "socket", "socketpair",
    "clone", "kill", "fchmod", "fchmodat", "personality", "unshare", "openat",
    "lseek", "futex", "mseal", "file_setattr", "renameat", "riscv_hwprobe",
]  # fmt: skip

EDGES = [0, 1, 2, 0x7FFF, 0xFFFF, 0x10000, 2**31 - 1, 2**31, 2**32 - 1, 2**32]
EDGES += [2**32 + 1, 2**63, 2**64 - 2**31, 2**64 - 2, 2**64 - 1, 2**64 - 2**15]


def profiles() -> st.SearchStrategy[Profile]:
    """Make any profile over a few calls."""
    numbers = st.sampled_from(EDGES) | st.integers(0, 2**64 - 1)
    actions = st.sampled_from(
        [EPERM, ENOSYS, deny(4095), Action(Kind.TRACE, 9), *map(Action, Kind)]
    )
    compares = st.builds(
        Compare,
        index=st.integers(0, 5),
        op=st.sampled_from(Op),
        value=numbers,
        mask=numbers,
    )
    rules = st.builds(
        Rule,
        names=st.lists(st.sampled_from(SOME_CALLS), min_size=1, max_size=6).map(tuple),
        action=actions,
        when=st.lists(compares, max_size=3).map(tuple),
    )
    return st.builds(
        Profile,
        arch=st.sampled_from(ARCHES),
        default=actions,
        rules=st.lists(rules, max_size=8).map(tuple),
        unknown=actions,
        foreign=actions,
    )


# ---- the machine -----------------------------------------------------------


class TestMachine:
    """The oracle is worth something only if it refuses what the kernel refuses."""

    @pytest.mark.parametrize(
        "code",
        [
            b"",
            bytes(7),
            bytes.fromhex("2000000000000000"),  # load, and no return
            bytes.fromhex("2000000040000000 0600000000000000"),  # beyond the data
            bytes.fromhex("2000000002000000 0600000000000000"),  # not a whole word
            bytes.fromhex("0500000001000000 0600000000000000"),  # over the end
            bytes.fromhex("1500000100000000 0600000000000000"),  # over the end
            bytes.fromhex("9400000002000000 0600000000000000"),  # modulo
            bytes.fromhex("0600000000000000") * 4097,
        ],
    )
    def test_refuses(self, code: bytes) -> None:
        """What is no valid filter is refused."""
        with pytest.raises(Refused):
            check(code)

    def test_runs(self) -> None:
        """A program written by hand returns what its author meant."""
        # load nr; nr == 7 ? return 1 : return 2
        code = bytes.fromhex(
            "2000000000000000 1500000107000000 0600000001000000 0600000002000000"
        )

        assert (run(code, 7, 0), run(code, 8, 0)) == (1, 2)


# ---- the rooms -------------------------------------------------------------

PURE: list[types.ModuleType] = [
    bpf,
    caps,
    compiler,
    default,
    document,
    landlock,
    seccomp,
    tables,
    values,
]


def imported(module: types.ModuleType) -> Iterator[str]:
    """Yield the names of the modules that a module imports."""
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("module", PURE, ids=lambda module: str(module.__name__))
def test_pure(module: types.ModuleType) -> None:
    """What decides touches nothing."""
    hands = {"io", "os", "socket", "subprocess", "threading", "ctypes", "mmap"}

    assert hands.isdisjoint(imported(module))
    assert not any(name.startswith("jailbox._native") for name in imported(module))


def test_values_are_frozen() -> None:
    """Nothing can change a profile that somebody else holds."""
    profile = default_profile(arch="x86_64")
    for value in (profile, profile.rules[0], profile.default, Compare(0, Op.EQ, 1)):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            value.arch = "none"  # type: ignore[union-attr, misc]
