"""
Classic BPF as seccomp knows it: an assembler and a disassembler.

A seccomp filter reads a ``struct seccomp_data`` (number of the call, architecture,
six arguments) and returns one word, the verdict. The kernel takes up to 4096
instructions, and only jumps forward.

This room knows instructions and nothing of calls or policies: what is to be decided
comes from `jailbox.linux.seccomp`. It loads nothing into the kernel.

Source: Linux *Documentation/networking/filter.rst*,
*Documentation/userspace-api/seccomp_filter.rst*.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import attrs

__all__ = [
    "ARCH",
    "INSTRUCTIONS_MAX",
    "NUMBER",
    "Assembler",
    "Block",
    "argument",
    "decide",
    "disassemble",
    "length",
]

INSTRUCTIONS_MAX: Final = 4096
"""More instructions the kernel does not take. Source: ``BPF_MAXINSNS``."""

NUMBER: Final = 0
ARCH: Final = 4
_ARGUMENTS: Final = 16
"""Where ``nr``, ``arch`` and ``args`` stand in ``struct seccomp_data``."""

_FAR: Final = 255
"""A branch has eight bits for each of its two targets."""

_WORD: Final = 0xFFFF_FFFF

_LOAD: Final = 0x20
_AND: Final = 0x54
_JUMP: Final = 0x05
_RETURN: Final = 0x06
_BRANCHES: Final = {"jeq": 0x15, "jgt": 0x25, "jge": 0x35, "jset": 0x45}
_SIGNS: Final = {0x15: "==", 0x25: ">", 0x35: ">=", 0x45: "&"}

_INSTRUCTION: Final = struct.Struct("<HBBI")

Leaf = TypeVar("Leaf")


def argument(index: int, *, high: bool = False) -> int:
    """
    Return where half of an argument stands, in bytes.

    All architectures here are little-endian: the low half comes first.
    """
    return _ARGUMENTS + 8 * index + 4 * high


@attrs.define(eq=False)
class Block:
    """
    Some instructions of a program under construction.

    Attributes:
        inner: First instruction, counted from the end of the program.

        word: What must be in the accumulator there (a place in
            ``struct seccomp_data``), or ``None`` if it does not matter.

        outer: An instruction that loads *word* and goes on at *inner*, once there
            is one.
    """

    inner: int
    word: int | None = None
    outer: int | None = None


class Assembler:
    """
    Makes a program from its end to its beginning.

    So a jump is written after what it jumps to, and its distance is known. A target
    beyond the reach of a branch gets a stepping stone on the way: the copy of a
    return, or a long jump.
    """

    def __init__(self) -> None:
        self._reversed: list[tuple[int, int, int, int]] = []
        self._returns: dict[int, Block] = {}
        self._stones: dict[int, int] = {}

    def _emit(self, code: int, k: int, true: int = 0, false: int = 0) -> int:
        self._reversed.append((code, true, false, k))
        return len(self._reversed) - 1

    def _distance(self, target: int) -> int:
        """Return how many instructions one written now would skip to *target*."""
        return len(self._reversed) - target - 1

    def _stone(self, target: int) -> int:
        """Write something that does as *target* does; it is the next instruction."""
        code, _, _, k = self._reversed[target]
        if code != _RETURN:
            code, k = _JUMP, self._distance(target)
        self._stones[target] = self._emit(code, k)
        return self._stones[target]

    def _nearest(self, target: int) -> int:
        """Return the stepping stone to *target* written last, or *target*."""
        while target in self._stones:
            target = self._stones[target]
        return target

    def give(self, verdict: int) -> Block:
        """Return a block that ends the program with *verdict*."""
        if verdict not in self._returns:
            self._returns[verdict] = Block(self._emit(_RETURN, verdict))
        return self._returns[verdict]

    def enter(self, block: Block, holding: int | None = None) -> int:
        """Return where to jump to run *block* when *holding* is in the accumulator."""
        if block.word is None or block.word == holding:
            return block.inner
        if block.outer is None:
            if self._distance(block.inner):
                self._stone(block.inner)
            block.outer = self._emit(_LOAD, block.word)
        return block.outer

    def branch(
        self, name: str, k: int, true: Block, false: Block, *, holding: int | None
    ) -> int:
        """Write a branch on the accumulator, which has *holding* in it."""
        yes, no = self.enter(true, holding), self.enter(false, holding)
        yes, no = self._nearest(yes), self._nearest(no)
        # A stepping stone moves the branch one further away from the other target.
        while True:
            if self._distance(yes) > _FAR:
                yes = self._stone(yes)
            elif self._distance(no) > _FAR:
                no = self._stone(no)
            else:
                break
        code = _BRANCHES[name]
        return self._emit(code, k, self._distance(yes), self._distance(no))

    def test(self, word: int, name: str, k: int, true: Block, false: Block) -> Block:
        """Return a block that compares *word* with *k* and goes one of two ways."""
        return Block(self.branch(name, k, true, false, holding=word), word)

    def masked(self, word: int, mask: int, k: int, true: Block, false: Block) -> Block:
        """Return a block that goes one way if the bits *mask* of *word* equal *k*."""
        if k == 0 and mask != _WORD:
            return self.test(word, "jset", mask, false, true)
        return self.cut(word, mask, "jeq", k, true, false)

    def cut(
        self, word: int, mask: int, name: str, k: int, true: Block, false: Block
    ) -> Block:
        """Return a block that compares the bits *mask* of *word* with *k*."""
        if mask == _WORD:
            return self.test(word, name, k, true, false)
        self.branch(name, k, true, false, holding=None)
        return Block(self._emit(_AND, mask), word)

    def finish(self, start: Block) -> bytes:
        """Return the program that begins with *start*, which was made last."""
        entry = self.enter(start)
        if self._distance(entry):
            self._stone(entry)
        return b"".join(_INSTRUCTION.pack(*i) for i in reversed(self._reversed))


def decide(
    assembler: Assembler,
    word: int,
    ranges: Sequence[tuple[int, Leaf]],
    block: Callable[[Leaf], Block],
) -> Block:
    """
    Return a block that finds the range *word* is in and goes on with its leaf.

    A binary search over groups of neighboring ranges; inside a group, single numbers
    that differ from the rest are picked out one by one. That takes fewer instructions
    than a search over all ranges, since a single number costs one comparison instead
    of two.

    Args:
        assembler: Where the instructions go.

        word: What is looked up, as a place in ``struct seccomp_data``.

        ranges: First number of each range, and its leaf. Sorted, beginning with 0;
            a range ends before the next one, the last is open.

        block: Makes the instructions of a leaf; asked again for an equal leaf, it
            should give the same block.
    """

    def pick(group: _Group[Leaf]) -> Block:
        rest = _rest(group)
        result = block(rest)
        for number, leaf, _ in reversed(group):
            if leaf != rest:
                chosen = block(leaf)
                result = assembler.test(word, "jeq", number, chosen, result)
        return result

    def search(groups: Sequence[_Group[Leaf]]) -> Block:
        if len(groups) == 1:
            return pick(groups[0])
        middle = len(groups) // 2
        # The far half first: the program is made from its end.
        above, below = search(groups[middle:]), search(groups[:middle])
        start, _, _ = groups[middle][0]
        return assembler.test(word, "jge", start, above, below)

    return search(_groups(ranges))


_Group = list[tuple[int, Leaf, bool]]
"""Neighboring ranges: first number, leaf, and whether it is the only number."""

_SINGLES_MAX: Final = 3
"""More single numbers in one group make the search long rather than small."""


def _groups(ranges: Sequence[tuple[int, Leaf]]) -> list[_Group[Leaf]]:
    """
    Cut *ranges* into as few groups as possible.

    Taking as much as fits, from the left, gives the fewest: a part of what fits into
    one group always fits too.
    """
    groups: list[_Group[Leaf]] = []
    for at, (start, leaf) in enumerate(ranges):
        single = at + 1 < len(ranges) and ranges[at + 1][0] == start + 1
        if not groups or not _fits([*groups[-1], (start, leaf, single)]):
            groups.append([])
        groups[-1].append((start, leaf, single))
    return groups


def _fits(group: _Group[Leaf]) -> bool:
    """Whether all ranges have the same leaf but for a few single numbers."""
    rest = _rest(group)
    others = [single for _, leaf, single in group if leaf != rest]
    return all(others) and len(others) <= _SINGLES_MAX


def _rest(group: _Group[Leaf]) -> Leaf:
    """Return the leaf of the wide ranges of a group, or the last leaf without one."""
    return next((leaf for _, leaf, single in group if not single), group[-1][1])


def length(program: bytes) -> int:
    """Return the number of instructions in *program*."""
    return len(program) // _INSTRUCTION.size


def disassemble(
    program: bytes,
    *,
    number: Callable[[int], str | None] = lambda _: None,
    verdict: Callable[[int], str] = hex,
) -> str:
    """
    Print *program* for a reader, one instruction a line.

    Args:
        program: What `Assembler.finish` returned.

        number: Names the number of a call, where one is compared.

        verdict: Names what a return returns.
    """
    code = list(_INSTRUCTION.iter_unpack(program))
    # Which words may be in the accumulator. Jumps only go forward, so one pass in
    # order has seen every way to an instruction before the instruction itself.
    holding: list[set[str]] = [set() for _ in code]
    lines = []
    for at, (op, true, false, k) in enumerate(code):
        held = holding[at]
        subject = held.copy().pop() if len(held) == 1 else "it"
        ways = [at + 1]
        match op:
            case _ if op == _LOAD:
                held = {_word(k)}
                text = f"load {_word(k)}"
            case _ if op == _AND:
                held = {f"({subject} & {k:#x})"}
                text = f"and {k:#x}"
            case _ if op == _JUMP:
                ways = [at + 1 + k]
                text = f"goto {ways[0]}"
            case _ if op == _RETURN:
                ways = []
                text = f"return {verdict(k)}"
            case _:
                ways = [at + 1 + true, at + 1 + false]
                sign = _SIGNS[op]
                name = number(k) if subject == "nr" else None
                value = f"{k} {name}" if name else f"{k:#x}"
                text = f"if {subject} {sign} {value}: {ways[0]} else {ways[1]}"
        for way in ways:
            holding[way] |= held
        lines.append(f"{at:4} {text}")
    return "\n".join(lines) + "\n"


def _word(place: int) -> str:
    """Name a place in ``struct seccomp_data``."""
    if place == NUMBER:
        return "nr"
    if place == ARCH:
        return "arch"
    index, half = divmod(place - _ARGUMENTS, 8)
    return f"arg{index}" + (".high" if half else "")
