"""
For which processor a program is.
"""

from pathlib import Path

import pytest

from jailbox.linux.elf import architecture_of, emulated, native


def header(machine: int, *, bits: int = 64, big: bool = False) -> bytes:
    """Make the beginning of a program."""
    ident = bytes([0x7F, *b"ELF", 2 if bits == 64 else 1, 2 if big else 1, 1])
    order = "big" if big else "little"
    number = machine.to_bytes(2, order)  # type: ignore[arg-type]
    return ident.ljust(16, b"\0") + b"\2\0" + number


@pytest.mark.parametrize(
    ("head", "architecture"),
    [
        (header(62), "amd64"),
        (header(3, bits=32), "386"),
        (header(183), "arm64"),
        (header(40, bits=32), "arm"),
        (header(243), "riscv64"),
        (header(22, big=True), "s390x"),
        (header(999), None),
        (header(62)[:19], None),
        (b"#!/bin/sh\n" + bytes(64), None),
        (b"", None),
    ],
)
def test_header(head: bytes, architecture: str | None) -> None:
    """The header says it, in either byte order; what it does not say is not guessed."""
    assert architecture_of(head) == architecture


@pytest.mark.parametrize(
    ("machine", "runs"),
    [
        ("x86_64", ("amd64", "386")),
        ("aarch64", ("arm64", "arm")),
        ("armv7l", ("arm",)),
        ("m68k", ()),
    ],
)
def test_native(machine: str, runs: tuple[str, ...]) -> None:
    """A 64-bit machine runs its 32-bit relative; a strange one is not judged."""
    assert native(machine) == runs


@pytest.mark.parametrize(
    ("text", "usable"),
    [
        ("enabled\ninterpreter /usr/bin/q\nflags: POCF\n", True),
        ("enabled\ninterpreter /usr/bin/q\nflags: OC\n", False),
        ("disabled\ninterpreter /usr/bin/q\nflags: F\n", False),
    ],
)
def test_emulated(tmp_path: Path, text: str, *, usable: bool) -> None:
    """An emulator is of use if it is switched on, and open before the jail begins."""
    (tmp_path / "qemu-aarch64").write_text(text, encoding="ascii")
    assert emulated("arm64", str(tmp_path)) is usable
    assert not emulated("arm", str(tmp_path))
