"""
Profile -> program.

The numbers of calls with equal answers make ranges, the ranges a search tree, the
conditions on arguments the leaves of it. What an instruction is belongs to
`jailbox.linux.bpf`.
"""

import errno
import functools
from collections.abc import Iterable
from typing import Final, assert_never

from jailbox.errors import SpecError
from jailbox.linux import bpf
from jailbox.linux.seccomp.profile import (
    ALL_BITS,
    Action,
    Compare,
    Kind,
    Op,
    Profile,
    Rule,
    deny,
)
from jailbox.linux.tables import AUDIT_ARCH, SYSCALLS, WIDTHS

__all__ = ["describe_program", "program"]

_X32: Final = 0x4000_0000
"""x86-64: a number with this bit means a call of the x32 ABI."""

_LOW: Final = 0xFFFF_FFFF

_KEPT: Final = {"h": 0xFFFF, "i": _LOW, ".": ALL_BITS}
"""The bits that the kernel keeps of an argument, by letter of `tables.WIDTHS`."""

_Leaf = tuple[tuple[tuple[Compare, ...], int], ...]
"""Conditions and verdict of each rule about a call, reduced to what is looked at."""


@functools.lru_cache(maxsize=64)
def program(profile: Profile) -> bytes:
    """
    Return *profile* as an array of ``struct sock_filter``, little-endian.

    Equal profiles give the same bytes, from a cache. Calls that are allowed whatever
    their arguments are found before any argument is loaded, so that the kernel (since
    5.11) answers for them from a bitmap without running the program.

    Raises:
        SpecError: If it takes more instructions than the kernel does.
    """
    leaves: dict[int, _Leaf] = {}
    for name, rules in profile.decisions().items():
        leaves[SYSCALLS[profile.arch][name]] = _leaf(name, rules)
    unknown: _Leaf = (((), profile.unknown.verdict),)
    edges = {0, *leaves, *(number + 1 for number in leaves)}
    if profile.arch == "x86_64":
        leaves[_X32] = (((), deny(errno.ENOSYS).verdict),)
        edges.add(_X32)
    ranges: list[tuple[int, _Leaf]] = []
    for start in sorted(edges):
        leaf = leaves.get(start, unknown)
        if not ranges or ranges[-1][1] != leaf:
            ranges.append((start, leaf))

    assembler = bpf.Assembler()
    blocks: dict[_Leaf, bpf.Block] = {}

    def block(leaf: _Leaf) -> bpf.Block:
        if leaf not in blocks:
            blocks[leaf] = _decision(assembler, leaf)
        return blocks[leaf]

    # At the end of the program, out of the way.
    foreign = assembler.give(profile.foreign.verdict)
    native = bpf.decide(assembler, bpf.NUMBER, ranges, block)
    arch = AUDIT_ARCH[profile.arch]
    code = assembler.finish(assembler.test(bpf.ARCH, "jeq", arch, native, foreign))
    if bpf.length(code) > bpf.INSTRUCTIONS_MAX:
        raise SpecError(
            "seccomp",
            f"makes a program of {bpf.length(code)} instructions",
            accepted=f"at most {bpf.INSTRUCTIONS_MAX}",
        )
    return code


def describe_program(profile: Profile) -> str:
    """Print the program of *profile* for a reader, one instruction a line."""
    names = {number: name for name, number in SYSCALLS[profile.arch].items()}
    return bpf.disassemble(program(profile), number=names.get, verdict=_verdict_name)


def _verdict_name(verdict: int) -> str:
    """Print what a filter returns."""
    return str(Action(Kind(verdict & 0xFFFF_0000), verdict & 0xFFFF))


def _leaf(name: str, rules: Iterable[Rule]) -> _Leaf:
    """Reduce the rules about one call to what the kernel reads of its arguments."""
    widths = WIDTHS.get(name, "").ljust(6, ".")
    return tuple(
        (
            tuple(_reduced(compare, _KEPT[widths[compare.index]]) for compare in when),
            action.verdict,
        )
        for action, when in ((rule.action, rule.when) for rule in rules)
    )


def _reduced(compare: Compare, width: int) -> Compare:
    """
    Put what the kernel reads of an argument into the mask of *compare*.

    A negative value, written with 64 bits, is cut to the width; another one that does
    not fit is left as it is: no argument can be equal to it.
    """
    value = compare.value
    if compare.op is Op.MASKED_EQ:
        mask = compare.mask & width
        return Compare(compare.index, Op.MASKED_EQ, value & mask, mask)
    if value | width >> 1 == ALL_BITS:
        value &= width
    return Compare(compare.index, compare.op, value, width)


def _decision(assembler: bpf.Assembler, leaf: _Leaf) -> bpf.Block:
    """Write the rules about one call."""
    *conditional, (_, last) = leaf
    block = assembler.give(last)
    for when, verdict in reversed(conditional):
        no, block = block, assembler.give(verdict)
        for compare in reversed(when):
            block = _comparison(assembler, compare, block, no)
    return block


def _comparison(
    assembler: bpf.Assembler, compare: Compare, yes: bpf.Block, no: bpf.Block
) -> bpf.Block:
    """Write one comparison, which `_reduced` has been through."""
    match compare.op:
        case Op.EQ | Op.MASKED_EQ:
            return _equal(assembler, compare, yes, no)
        case Op.NE:
            return _equal(assembler, compare, no, yes)
        case Op.GT:
            return _above(assembler, "jgt", compare, yes, no)
        case Op.LE:
            return _above(assembler, "jgt", compare, no, yes)
        case Op.GE:
            return _above(assembler, "jge", compare, yes, no)
        case Op.LT:
            return _above(assembler, "jge", compare, no, yes)
        case _:
            assert_never(compare.op)


def _equal(
    assembler: bpf.Assembler, compare: Compare, yes: bpf.Block, no: bpf.Block
) -> bpf.Block:
    """Write whether the bits of the argument that count are those of the value."""
    if compare.value & ~compare.mask:
        return no
    block = yes
    for high in (True, False):
        shift = 32 * high
        mask, value = compare.mask >> shift & _LOW, compare.value >> shift & _LOW
        if mask:
            word = bpf.argument(compare.index, high=high)
            block = assembler.masked(word, mask, value, block, no)
    return block


def _above(
    assembler: bpf.Assembler, jump: str, compare: Compare, yes: bpf.Block, no: bpf.Block
) -> bpf.Block:
    """Write whether the argument is greater than the value (or equal, for ``jge``)."""
    if compare.value > compare.mask:
        return no
    word = bpf.argument(compare.index)
    low = assembler.cut(word, compare.mask & _LOW, jump, compare.value & _LOW, yes, no)
    if compare.mask <= _LOW:
        return low
    word, value = bpf.argument(compare.index, high=True), compare.value >> 32
    same = assembler.test(word, "jeq", value, low, no)
    return assembler.test(word, "jgt", value, yes, same)
