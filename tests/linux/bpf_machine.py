"""
A classic BPF machine: the oracle of the seccomp tests.

It checks a program as the kernel does when a filter is attached
(`bpf_check_classic`, `seccomp_check_filter`) and then runs it on one
`struct seccomp_data`. It is written from the kernel's description alone and shares
no line with the compiler, so that one mistake is not made twice. It is not fast and
knows no instruction that seccomp refuses.

Source: Linux *Documentation/networking/filter.rst*, *include/uapi/linux/seccomp.h*.
"""

import struct

MAX_INSTRUCTIONS = 4096
DATA_SIZE = 64

# What seccomp accepts: loads of words, arithmetic, jumps, returns, scratch memory.
LOADS = {0x20, 0x00, 0x01, 0x80, 0x81, 0x60, 0x61}
STORES = {0x02, 0x03}
ARITHMETIC = {
    0x04, 0x0C, 0x14, 0x1C, 0x24, 0x2C, 0x34, 0x3C, 0x54, 0x5C,
    0x44, 0x4C, 0xA4, 0xAC, 0x64, 0x6C, 0x74, 0x7C, 0x84,
}  # fmt: skip
MOVES = {0x07, 0x87}
JUMP = 0x05
CONDITIONAL = {0x15, 0x1D, 0x25, 0x2D, 0x35, 0x3D, 0x45, 0x4D}
RETURNS = {0x06, 0x16}
MASK = 0xFFFFFFFF

Instruction = tuple[int, int, int, int]


class Refused(Exception):
    """The kernel would not attach this program."""


def decode(program: bytes) -> list[Instruction]:
    """Split bytes into (code, jt, jf, k)."""
    if len(program) % 8:
        raise Refused("not a whole number of instructions")
    return list(struct.iter_unpack("<HBBI", program))


def check(program: bytes) -> list[Instruction]:
    """Refuse what the kernel refuses; return the instructions."""
    code = decode(program)
    if not 0 < len(code) <= MAX_INSTRUCTIONS:
        raise Refused(f"{len(code)} instructions")
    for at, (op, jt, jf, k) in enumerate(code):
        left = len(code) - at - 1
        if op == JUMP:
            if k >= left:
                raise Refused(f"{at}: jump out of the program")
        elif op in CONDITIONAL:
            if max(jt, jf) >= left:
                raise Refused(f"{at}: branch out of the program")
        elif op == 0x20:
            if k % 4 or k >= DATA_SIZE:
                raise Refused(f"{at}: load from {k}")
        elif op in {0x60, 0x61, *STORES}:
            if k >= 16:
                raise Refused(f"{at}: scratch cell {k}")
        elif op in {0x34, 0x94} and k == 0:
            raise Refused(f"{at}: division by zero")
        elif op in {0x64, 0x74} and k >= 32:
            raise Refused(f"{at}: shift by {k}")
        elif op not in LOADS | ARITHMETIC | MOVES | RETURNS:
            raise Refused(f"{at}: unknown instruction {op:#x}")
    if code[-1][0] not in RETURNS:
        raise Refused("does not end with a return")
    return code


def seccomp_data(
    nr: int, arch: int, args: tuple[int, ...] = (), address: int = 0
) -> bytes:
    """Make the bytes that the kernel shows to a filter, on a little-endian machine."""
    six = (*args, 0, 0, 0, 0, 0, 0)[:6]
    return struct.pack("<IIQ6Q", nr & MASK, arch, address, *six)


def execute(code: list[Instruction], data: bytes) -> int:
    """Run checked instructions on *data*; return what the program returns."""
    accumulator = index = at = 0
    scratch = [0] * 16
    while True:
        op, jt, jf, k = code[at]
        at += 1
        if op == 0x06:
            return k
        if op == 0x16:
            return accumulator
        if op == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, k)
        elif op == JUMP:
            at += k
        elif op in CONDITIONAL:
            other = index if op & 0x08 else k
            taken = {
                0x10: accumulator == other,
                0x20: accumulator > other,
                0x30: accumulator >= other,
                0x40: bool(accumulator & other),
            }[op & 0xF0]
            at += jt if taken else jf
        elif op in ARITHMETIC:
            accumulator = _arithmetic(op, accumulator, index if op & 0x08 else k)
        elif op == 0x00:
            accumulator = k
        elif op == 0x01:
            index = k
        elif op == 0x80:
            accumulator = len(data)
        elif op == 0x81:
            index = len(data)
        elif op == 0x60:
            accumulator = scratch[k]
        elif op == 0x61:
            index = scratch[k]
        elif op == 0x02:
            scratch[k] = accumulator
        elif op == 0x03:
            scratch[k] = index
        elif op == 0x07:
            index = accumulator
        elif op == 0x87:
            accumulator = index
        else:  # `check` refuses what is not above
            raise AssertionError(f"{op:#x}")


def _arithmetic(op: int, left: int, right: int) -> int:
    """One ALU instruction on 32-bit numbers."""
    match op & 0xF0:
        case 0x00:
            result = left + right
        case 0x10:
            result = left - right
        case 0x20:
            result = left * right
        case 0x30:
            result = left // right if right else 0
        case 0x40:
            result = left | right
        case 0x50:
            result = left & right
        case 0x60:
            result = left << right
        case 0x70:
            result = left >> right
        case 0xA0:
            result = left ^ right
        case _:
            result = -left
    return result & MASK


def run(program: bytes, nr: int, arch: int, args: tuple[int, ...] = ()) -> int:
    """Check *program*, run it on one call, return its 32-bit verdict."""
    return execute(check(program), seccomp_data(nr, arch, args))
