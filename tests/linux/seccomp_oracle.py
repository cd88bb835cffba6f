"""
The naive reading of a profile, and how to ask a program.

This is what a compiled program is compared with. It is written from the docstrings of
`jailbox.linux.seccomp.profile`, and shares nothing with the compiler but the tables.
"""

import errno
import itertools

from jailbox.linux.seccomp import Action, Compare, Kind, Op, Profile, deny, program
from jailbox.linux.tables import AUDIT_ARCH, SYSCALLS, WIDTHS
from tests.linux.bpf_machine import run

ARCHES = sorted(SYSCALLS)

X32 = 0x40000000
I386 = 0x40000003

EPERM = deny(errno.EPERM)
ENOSYS = deny(errno.ENOSYS)


def holds(compare: Compare, given_argument: int, width: int) -> bool:
    """Whether a comparison holds for what the kernel reads of an argument."""
    everything = (1 << width) - 1
    argument, value = given_argument & everything, compare.value
    if compare.op is Op.MASKED_EQ:
        counting = compare.mask & everything
        return argument & counting == value & counting
    if value >= (1 << 64) - (1 << width - 1):  # negative, in 64 bits
        value &= everything
    claims: dict[Op, bool] = {
        Op.EQ: argument == value,
        Op.NE: argument != value,
        Op.LT: argument < value,
        Op.LE: argument <= value,
        Op.GE: argument >= value,
        Op.GT: argument > value,
    }
    return claims[compare.op]


def naive(profile: Profile, number: int, arch: int, args: tuple[int, ...]) -> Action:
    """Read a profile as its docstring says."""
    if arch != AUDIT_ARCH[profile.arch]:
        return profile.foreign
    if profile.arch == "x86_64" and number >= X32:
        return ENOSYS
    names = [name for name, nr in SYSCALLS[profile.arch].items() if nr == number]
    if not names:
        return profile.unknown
    letters = {"h": 16, "i": 32, ".": 64}
    widths = [letters[letter] for letter in WIDTHS.get(names[0], "").ljust(6, ".")]
    for rule in profile.rules:
        if names[0] in rule.names and all(
            holds(each, args[each.index], widths[each.index]) for each in rule.when
        ):
            return rule.action
    return profile.default


def telling_arguments(profile: Profile) -> list[tuple[int, ...]]:
    """Return arguments at and around every value that the profile compares."""
    points: list[set[int]] = [{0, 2**64 - 1} for _ in range(6)]
    for rule in profile.rules:
        for each in rule.when:
            near = {each.value - 1, each.value, each.value + 1, each.mask}
            near |= {each.value | 1 << 32, each.value | 0xFFFFFFFF << 32}
            points[each.index] |= {number & 2**64 - 1 for number in near}
    chosen = set()
    for index, some in enumerate(points):
        for point in some:
            args = [0] * 6
            args[index] = point
            chosen.add(tuple(args))
    chosen |= {
        (first, 0, third, 0, 0, 0)
        for first, third in itertools.product(sorted(points[0]), sorted(points[2]))
    }
    return sorted(chosen)


def action(verdict: int) -> Action:
    """Return what a verdict of a program means."""
    return Action(Kind(verdict & 0xFFFF0000), verdict & 0xFFFF)


def answer(profile: Profile, name: str, *args: int) -> Action:
    """Return what the program of a profile answers to a call."""
    number, arch = SYSCALLS[profile.arch][name], AUDIT_ARCH[profile.arch]
    return action(run(program(profile), number, arch, args))
