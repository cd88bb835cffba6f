"""
Records have the shape that the C compiler gives the structures of the helper.
"""

import struct
from typing import Any

import pytest

from jailbox._native import ffi
from jailbox.linux import record
from jailbox.linux.messages import STEPS
from jailbox.linux.plan import LaunchPlan, Program
from jailbox.linux.record import Descriptors, encode_exec, encode_start, stamp_start

SIZES = {
    "jb_start": record.START.size + record.PROGRAM.size,
    "jb_program": record.PROGRAM.size,
    "jb_exec": record.EXEC.size + record.PROGRAM.size,
    "jb_op": record.OP.size,
    "jb_group": record.GROUP.size,
    "jb_setting": record.SETTING.size,
    "jb_collect": record.COLLECT.size,
    "jb_rlimit": record.RLIMIT.size,
    "jb_configure": record.CONFIGURE.size,
    "jb_prepare": record.PREPARE.size,
    "jb_kill": record.KILL.size,
    "jb_signal": record.SIGNAL.size,
    "jb_large": record.LARGE.size,
    "jb_report": record.REPORT.size,
    "jb_ready": record.READY.size,
    "jb_started": record.STARTED.size,
    "jb_exited": record.EXITED.size,
    "jb_work": record.WORK.size,
    "jb_note": record.NOTE.size,
}

PLAN = LaunchPlan(
    namespaces=0x1234,
    network=True,
    userns=True,
    ops=(),
    hostname="box",
    wall=1.5,
    cpu_time=2.5,
    cpus=3,
    program=Program(
        argv=("prog", "\udcff"), env=("A=b",), uid=7, gid=8, groups=(9, 10), timeout=4.0
    ),
)


class TestSizes:
    @pytest.mark.parametrize(("name", "size"), SIZES.items(), ids=SIZES.keys())
    def test_a_format_is_as_large_as_its_structure(self, name: str, size: int) -> None:
        """
        The format of a record has the size of the structure.
        """
        assert size == ffi.sizeof(f"struct {name}")

    def test_the_program_follows_the_fixed_part(self) -> None:
        """
        What a START and an EXEC say of their program stands where C looks for it.
        """
        assert ffi.offsetof("struct jb_start", "program") == record.START.size
        assert ffi.offsetof("struct jb_exec", "program") == record.EXEC.size
        assert ffi.offsetof("struct jb_gone", "texts") == record.GONE.size
        assert ffi.offsetof("struct jb_worked", "detail") == record.WORKED.size

    def test_every_step_has_its_name(self) -> None:
        """
        The names of steps are those of the enumeration, by number.
        """
        numbers = ffi.typeof("enum jb_step").relements
        names = {n.removeprefix("JB_STEP_").lower(): v for n, v in numbers.items()}

        assert names == {name: number for number, name in enumerate(STEPS)}


def read_start(data: bytearray) -> Any:  # noqa: ANN401
    """Look at a record as C does."""
    return ffi.cast("struct jb_start *", ffi.from_buffer(data))


class TestEncoding:
    def test_c_reads_what_was_encoded(self) -> None:
        """
        Every number of a START is where C reads it.
        """
        data = encode_start(PLAN, Descriptors(stdin=5, stdout=6), fault=(7, 13))
        stamp_start(data, 2**40, "name", 11)
        start = read_start(data)

        assert (start.message, start.size) == (2, len(data))
        assert (start.id, start.fds) == (2**40, 11)
        assert ffi.string(start.name) == b"name"
        assert start.namespaces == 0x1234
        assert (start.wall_ns, start.cpu_ns) == (1_500_000_000, 2_500_000_000)
        assert (start.cpus, start.fail_step, start.fail_errno) == (3, 7, 13)
        program = start.program
        assert (program.argc, program.envc) == (2, 1)
        assert (program.uid, program.gid, program.umask) == (7, 8, 0o022)
        assert getattr(program, "in") == 5
        assert (program.out, program.err, program.log) == (6, -1, -1)
        assert program.timeout_ns == 4_000_000_000

    def test_spans_name_what_stands_behind(self) -> None:
        """
        Strings and arrays are found by their spans, with a NUL behind each string.
        """
        data = encode_start(PLAN, Descriptors())
        start = read_start(data)

        def at(span: Any) -> bytes:  # noqa: ANN401
            return bytes(data[span.offset : span.offset + span.length])

        assert at(start.hostname) == b"box"
        assert data[start.hostname.offset + 3] == 0
        assert at(start.program.argv) == b"prog\0\xff\0"
        assert at(start.program.env) == b"A=b\0"
        assert struct.unpack("<2I", at(start.program.groups)) == (9, 10)
        assert at(start.program.seccomp) == b""

    def test_arrays_are_aligned(self) -> None:
        """
        Everything behind the fixed part begins at a multiple of eight.
        """
        start = read_start(encode_start(PLAN, Descriptors()))

        assert start.hostname.offset % 8 == 0
        assert start.program.groups.offset % 8 == 0

    def test_equal_plans_give_equal_records(self) -> None:
        """
        Encoding is a pure function.
        """
        assert encode_start(PLAN, Descriptors()) == encode_start(PLAN, Descriptors())

    def test_long_names_are_cut(self) -> None:
        """
        A name never runs over its field, and always ends with NUL.
        """
        data = encode_start(PLAN, Descriptors())
        stamp_start(data, 1, "x" * 200)

        assert ffi.string(read_start(data).name) == b"x" * 63
        assert read_start(data).size == len(data)

    def test_an_exec_says_how_large_it_is(self) -> None:
        """
        An EXEC carries its message number and its size.
        """
        data = encode_exec(Program(argv=("true",)), Descriptors())

        assert struct.unpack_from("<2I", data) == (4, len(data))
