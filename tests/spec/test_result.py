"""Results: what they say, print and raise."""

import pickle
import signal
import subprocess
import sys
from typing import Any

import pytest

from jailbox.errors import ExitError, LimitExceeded, OutOfMemory
from jailbox.spec.limits import Limits
from jailbox.spec.result import Cause, Result, Usage, Verdict


def result(
    verdict: Verdict,
    exit_code: int | None = None,
    signal: int | None = None,
    stdout: str = "",
    argv: tuple[str, ...] = ("/usr/bin/make", "all"),
) -> Result[str]:
    """Make a result with little in it."""
    return Result(
        argv=argv,
        stdout=stdout,
        stderr="",
        exit_code=exit_code,
        signal=signal,
        verdict=verdict,
    )


OK = result(Verdict.OK, 0, stdout="hi\n")
LIMITS = [v for v in Verdict if v.is_limit]


class TestVerdict:
    """Why a program ended."""

    def test_words(self) -> None:
        """LIM-11: the verdicts are these ten words, and compare as text."""
        assert [str(v) for v in Verdict] == [
            "ok",
            "exit",
            "signal",
            "memory",
            "cpu_time",
            "wall",
            "pids",
            "disk",
            "output",
            "denied",
        ]
        assert Verdict("memory") is Verdict.MEMORY
        text: str = Verdict.MEMORY
        assert text == "memory"

    def test_limits(self) -> None:
        """Six of them are limits of the run."""
        assert [str(v) for v in LIMITS] == [
            "memory",
            "cpu_time",
            "wall",
            "pids",
            "disk",
            "output",
        ]


class TestUsage:
    """What was used."""

    def test_cpu(self) -> None:
        """Processor time is both kinds together."""
        assert Usage(cpu_user=1.5, cpu_system=0.25).cpu == 1.75

    def test_printed(self) -> None:
        """Usage is printed in units for people; what was not measured is left out."""
        usage = Usage(
            cpu_user=0.1,
            wall=2.5,
            memory_peak=1 << 20,
            io_read=0,
            io_written=4096,
            processes=3,
        )

        assert str(usage) == (
            "cpu 100 ms, wall 2.5 s, memory 1 MiB, read 0 B, written 4 KiB, processes 3"
        )
        assert str(Usage()) == "cpu 0 ms, wall 0 ms"


class TestResult:
    """What came of it."""

    def test_ok(self) -> None:
        """Only the verdict decides whether all is well."""
        assert OK.ok
        assert not result(Verdict.OUTPUT, 0).ok

    @pytest.mark.parametrize("code", [0, 3, 255])
    def test_exit_is_as_in_subprocess(self, code: int) -> None:
        """The return code of an exit is its code, as in subprocess."""
        real = subprocess.run([sys.executable, "-c", f"exit({code})"], check=False)

        assert result(Verdict.EXIT, code).returncode == real.returncode

    def test_signal_is_as_in_subprocess(self) -> None:
        """The return code of a signal is minus its number, as in subprocess."""
        real = subprocess.run(["/bin/sh", "-c", "kill -9 $$"], check=False)

        assert result(Verdict.SIGNAL, signal=9).returncode == real.returncode

    @pytest.mark.parametrize(
        ("outcome", "summary"),
        [
            (OK, "make exited with code 0"),
            (result(Verdict.EXIT, 2), "make exited with code 2"),
            (
                result(Verdict.SIGNAL, signal=signal.SIGSEGV),
                "make was killed by SIGSEGV",
            ),
            (result(Verdict.MEMORY, signal=9), "make ended: memory limit reached"),
            (result(Verdict.CPU_TIME, signal=9), "make ended: processor time used up"),
            (result(Verdict.WALL, signal=9), "make ended: time used up"),
            (result(Verdict.PIDS, 1), "make ended: limit of processes reached"),
            (result(Verdict.DISK, 1), "make ended: writable layer full"),
            (result(Verdict.OUTPUT, signal=9), "make ended: too much output"),
            (result(Verdict.DENIED, signal=31), "make ended: a system call was denied"),
            (result(Verdict.SIGNAL), "make ended: signal"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_summary(self, outcome: Result[str], summary: str) -> None:
        """How it ended fits in half a sentence."""
        assert outcome.summary() == summary

    @pytest.mark.parametrize(
        ("argv", "name"),
        [
            (("/bin/ls", "-l"), "ls"),
            (("ls",), "ls"),
            (("/bin/\x1b[2J",), "\\x1b[2J"),
            (("/bin/",), "the program"),
            ((), "the program"),
            (("a" * 1000,), "a" * 64),
        ],
        ids=["path", "name", "escape", "slash", "empty", "long"],
    )
    def test_program(self, argv: tuple[str, ...], name: str) -> None:
        """The program's name is short and fit to print."""
        assert result(Verdict.OK, 0, argv=argv).program == name

    def test_value(self) -> None:
        """A result is comparable and picklable."""
        full = Result(
            argv=("a",),
            stdout=b"x",
            stderr=b"",
            exit_code=127,
            verdict=Verdict.EXIT,
            usage=Usage(wall=1.0),
            limits=Limits(memory="1G"),
            truncated=True,
            degraded=("memory",),
            cause=Cause("missing", "/a"),
        )

        assert pickle.loads(pickle.dumps(full)) == full  # noqa: S301

    def test_verdict_from_a_word(self) -> None:
        """A verdict that came as text is the verdict."""
        assert result(Verdict("wall")).verdict is Verdict.WALL


class TestText:
    """Text or bytes."""

    def test_plain_annotation_is_text(self) -> None:
        """Result alone means text to a type checker, Result[bytes] bytes."""

        def first_line(outcome: Result) -> str:
            return outcome.stdout.partition("\n")[0]

        def first_byte(outcome: Result[bytes]) -> int:
            return outcome.stdout[0]

        raw = Result(argv=("a",), stdout=b"x", stderr=b"", verdict=Verdict.OK)

        assert first_line(OK) == "hi"
        assert first_byte(raw) == ord("x")


class TestRepr:
    """Results in a prompt, a log, a traceback."""

    def test_short(self) -> None:
        """What matters, in one line."""
        assert repr(OK) == (
            "Result(['/usr/bin/make', 'all'], verdict='ok', exit_code=0, "
            "stdout='hi\\n', stderr='')"
        )

    def test_bounded(self) -> None:
        """A result with megabytes of output prints as quickly as a small one."""
        large = Result(
            argv=("a" * 10_000,) * 1000,
            stdout=b"\0" * (64 << 20),
            stderr=b"x" * (64 << 20),
            signal=9,
            verdict=Verdict.OUTPUT,
            truncated=True,
            degraded=("memory",),
        )

        assert len(repr(large)) < 1200
        assert "truncated=True, degraded=('memory',)" in repr(large)

    def test_printable(self) -> None:
        """DV8: output of a jail does not drive the terminal."""
        assert repr(result(Verdict.OK, 0, stdout="\x1b[2J\r\x07")).isprintable()


class TestCheck:
    """Asking for an exception."""

    def test_ok(self) -> None:
        """A good result returns itself, for chaining."""
        assert OK.check() is OK

    @pytest.mark.parametrize("verdict", [v for v in Verdict if v is not Verdict.OK])
    def test_raises(self, verdict: Verdict) -> None:
        """Everything else raises the class that its verdict calls for."""
        bad = result(verdict, 1)
        expected = (
            OutOfMemory
            if verdict is Verdict.MEMORY
            else LimitExceeded
            if verdict in LIMITS
            else ExitError
        )

        with pytest.raises(ExitError) as caught:
            bad.check()
        assert type(caught.value) is expected
        assert caught.value.result is bad
        assert caught.value.hint == (None if verdict is Verdict.EXIT else bad.explain())


class TestLastWords:
    """The end of stderr, for a traceback."""

    @pytest.mark.parametrize(
        ("stderr", "words"),
        [
            ("", ""),
            ("\n\n", ""),
            (b"one\n", "    one"),
            ("1\n2\n3\n4\n5\n6\n", "    2\n    3\n    4\n    5\n    6"),
            ("\x1b[2J\x07", "    \\x1b[2J\\x07"),
            (b"\xff\n", "    \ufffd"),
            ("x" * 10_000, "    " + "x" * 800),
        ],
        ids=["none", "blank", "bytes", "many", "escape", "odd", "long"],
    )
    def test_golden(self, stderr: str | bytes, words: str) -> None:
        """DV8: at most five lines and 800 characters, escaped."""
        outcome: Result[Any] = Result(
            argv=("a",), stdout="", stderr=stderr, exit_code=1, verdict=Verdict.EXIT
        )

        assert outcome.last_words() == words
