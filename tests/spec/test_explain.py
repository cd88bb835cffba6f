"""Explanations, word by word: each says what happened and what to do."""

from typing import Any

import attrs
import pytest

from jailbox.spec.limits import Limits
from jailbox.spec.result import Cause, CauseKind, Result, Usage, Verdict


def explained(verdict: Verdict, **facts: Any) -> str:  # noqa: ANN401
    """Explain the end of ``python`` with these facts."""
    plain: dict[str, Any] = {
        "argv": ("python", "-c", "..."),
        "stdout": "",
        "stderr": "",
    }
    outcome: Result[str] = Result(verdict=verdict, **(plain | facts))
    return outcome.explain()


class TestLimits:
    """A limit was reached."""

    def test_memory(self) -> None:
        """DOC-04: memory: the limit, the peak, and what to raise."""
        text = explained(
            Verdict.MEMORY,
            signal=9,
            limits=Limits(memory="256M"),
            usage=Usage(memory_peak=256 << 20),
        )

        assert text == (
            "Killed: memory limit 256 MiB reached (peak 256 MiB) while running python. "
            "Raise Limits.memory, or let the program use less."
        )

    def test_memory_of_the_host(self) -> None:
        """Without a limit of ours it was the host that ran out."""
        assert explained(Verdict.MEMORY, signal=9) == (
            "Killed: the host ran out of memory while running python. "
            "Set Limits.memory below what the host has free."
        )

    def test_cpu_time(self) -> None:
        """DOC-04: processor time: the budget, and that the whole tree counts."""
        text = explained(
            Verdict.CPU_TIME,
            signal=9,
            limits=Limits(cpu_time=2),
            usage=Usage(cpu_user=1.9, cpu_system=0.11, wall=1.2),
        )

        assert text == (
            "Killed: the processor time of 2 s was used up (2.01 s by all processes "
            "together) while running python. Raise Limits.cpu_time, or look for an "
            "endless loop."
        )

    def test_wall(self) -> None:
        """DOC-04: time: a program that was busy needs more of it."""
        text = explained(
            Verdict.WALL,
            signal=9,
            limits=Limits(wall=5),
            usage=Usage(cpu_user=4.9, wall=5.0),
        )

        assert text == (
            "Killed: the time of 5 s was used up while running python. "
            "Raise Limits.wall, or let the program finish sooner."
        )

    def test_wall_waiting(self) -> None:
        """A program that did nothing all the time was waiting for something."""
        text = explained(
            Verdict.WALL,
            signal=9,
            limits=Limits(wall=5),
            usage=Usage(cpu_user=0.02, wall=5.0),
        )

        assert text == (
            "Killed: the time of 5 s was used up while running python. "
            "It was mostly waiting (processor time 20 ms): for input, a lock, or a "
            "network it has not got? "
            "Raise Limits.wall, or let the program finish sooner."
        )

    def test_pids(self) -> None:
        """DOC-04: processes: the limit, and how the program took it."""
        text = explained(Verdict.PIDS, exit_code=1, limits=Limits(processes=32))

        assert text == (
            "python reached the limit of 32 processes and threads; it exited with "
            "code 1. Raise Limits.processes, or let the program start fewer."
        )

    def test_disk(self) -> None:
        """DOC-04: disk: the limit, and where else data may go."""
        text = explained(Verdict.DISK, signal=6, limits=Limits(disk="64M", inodes=1000))

        assert text == (
            "python filled the writable layer of 64 MiB and 1000 files; it was killed "
            "by SIGABRT. Raise Limits.disk or Limits.inodes, or mount a directory for "
            "the data."
        )

    def test_output(self) -> None:
        """DOC-04: output: the limit, and the gentler way."""
        text = explained(Verdict.OUTPUT, signal=9, limits=Limits(output="1M"))

        assert text == (
            "Killed: python wrote more than 1 MiB to stdout or stderr. Raise "
            "Limits.output; to cut off and let it run, use max_output instead."
        )

    @pytest.mark.parametrize("verdict", list(Verdict))
    def test_without_facts(self, verdict: Verdict) -> None:
        """Every verdict is explained, even if nothing else is known."""
        text = explained(verdict, limits=Limits(processes=None))

        assert "python" in text
        assert "None" not in text.replace("None of", "")
        assert text.endswith(".")


class TestEndings:
    """The program ended by itself, or was killed."""

    def test_ok(self) -> None:
        """A good end needs few words."""
        assert explained(Verdict.OK, exit_code=0) == "python ended well."

    def test_denied(self) -> None:
        """DOC-04: seccomp: that the filter did it, and how to give another."""
        assert explained(Verdict.DENIED, signal=31) == (
            "Killed: python made a system call that the seccomp filter does not allow "
            "(SIGSYS). If it needs that call, give Security(seccomp=...) a profile "
            "that has it."
        )

    @pytest.mark.parametrize(
        ("number", "text"),
        [
            (
                9,
                (
                    "python was killed by SIGKILL. No limit of this run did it: "
                    "someone on "
                    "the host or in the jail sent it, or the host ran out of memory."
                ),
            ),
            (
                11,
                (
                    "python was killed by SIGSEGV. It touched memory that is not its "
                    "own: "
                    "a bug, or a full stack."
                ),
            ),
            (
                25,
                (
                    "python was killed by SIGXFSZ. It wrote a file larger than "
                    "allowed; "
                    "raise Limits.file_size."
                ),
            ),
            (34, "python was killed by SIGRTMIN."),
        ],
    )
    def test_signal(self, number: int, text: str) -> None:
        """A signal is named, and explained if there is something to say."""
        assert explained(Verdict.SIGNAL, signal=number) == text

    @pytest.mark.parametrize(
        ("code", "text"),
        [
            (1, ""),
            (
                126,
                (
                    " A shell says so if a command exists but cannot be executed: is "
                    "its "
                    "mode right, and its format?"
                ),
            ),
            (
                127,
                (
                    " A shell says so if a command does not exist: is it in the "
                    "image, and "
                    "in PATH?"
                ),
            ),
            (
                128,
                "",
            ),
            (
                143,
                (
                    " That is how a shell reports a command that was killed by "
                    "SIGTERM. "
                    "It was asked to end."
                ),
            ),
            (255, ""),
        ],
    )
    def test_exit(self, code: int, text: str) -> None:
        """Codes with a meaning to shells are explained, others are only said."""
        assert explained(Verdict.EXIT, exit_code=code) == (
            f"python exited with code {code}.{text}"
        )

    @pytest.mark.parametrize(
        ("words", "meaning"),
        [
            ("Operation not permitted", "see Security"),
            ("Read-only file system", "see read_only, Mount and Security"),
            ("No space left on device", "see Limits.disk"),
            ("Cannot allocate memory", "see Limits.memory"),
            ("MemoryError", "see Limits.memory"),
            ("Resource temporarily unavailable", "see Limits.processes"),
            ("Too many open files", "see Limits.open_files"),
            ("File too large", "see Limits.file_size"),
            ("Temporary failure in name resolution", "network='host'"),
            ("Name or service not known", "network='host'"),
            ("Network is unreachable", "network='host'"),
            ("Permission denied", "the mode or owner of a file"),
        ],
    )
    def test_last_words(self, words: str, meaning: str) -> None:
        """The usual last words are recognised, in text and in bytes, as likely."""
        stderr = f"Traceback\nOSError: {words}: 'x'\n"
        text = explained(Verdict.EXIT, exit_code=1, stderr=stderr)

        assert f'Its last words include "{words}": likely ' in text
        assert meaning in text
        assert text == explained(Verdict.EXIT, exit_code=1, stderr=stderr.encode())

    def test_only_last_words(self) -> None:
        """What was said long before the end is not looked at."""
        stderr = "Permission denied\n" + "x" * 10_000

        assert explained(Verdict.EXIT, exit_code=1, stderr=stderr) == (
            "python exited with code 1."
        )


NOT_EXECUTED: dict[CauseKind, tuple[str | None, str]] = {
    "missing": (
        None,
        (
            "'/app/x' does not exist in the image, or not in its PATH. Check the "
            "spelling, "
            "install it, or mount it with Mount.bind()."
        ),
    ),
    "permission": (
        None,
        (
            "'/app/x' may not be executed. Set its executable bit, check that user may "
            "reach it, and that its mount allows it (exec=True)."
        ),
    ),
    "interpreter": (
        "/usr/bin/python2",
        (
            "'/app/x' is a script whose interpreter (/usr/bin/python2) is not in the "
            "image. Install the interpreter, or correct the #! line; a line that "
            "ends in "
            "CR is not found either."
        ),
    ),
    "loader": (
        "/lib/ld-musl-x86_64.so.1",
        (
            "'/app/x' needs a dynamic loader (/lib/ld-musl-x86_64.so.1) that is not "
            "in the "
            "image. It was made for another C library: use an image with that one, "
            "or a "
            "static program."
        ),
    ),
    "architecture": (
        "aarch64",
        (
            "'/app/x' was made for another processor (aarch64) than this machine "
            "has. Use "
            "an image or program for this architecture."
        ),
    ),
    "format": (
        None,
        (
            "'/app/x' is no program that this kernel can execute. If it is a script, "
            "its "
            "first line must be #! and an interpreter."
        ),
    ),
}


class TestNotExecuted:
    """The program did not even begin."""

    @pytest.mark.parametrize(("kind", "golden"), list(NOT_EXECUTED.items()))
    def test_golden(self, kind: CauseKind, golden: tuple[str | None, str]) -> None:
        """DOC-04: why a program could not be executed, and the way out."""
        detail, text = golden
        cause = Cause(kind, "/app/x", detail)

        assert explained(Verdict.EXIT, exit_code=127, cause=cause) == text

    @pytest.mark.parametrize("kind", list(NOT_EXECUTED))
    def test_hostile_names(self, kind: CauseKind) -> None:
        """DV8: a path or interpreter out of a jail does not drive the terminal."""
        cause = Cause(kind, "/\x1b[2J\n", "\x1b[2J\r")

        assert explained(Verdict.EXIT, exit_code=127, cause=cause).isprintable()


class TestNotes:
    """What else has to be said."""

    def test_truncated(self) -> None:
        """Output that was cut off is mentioned, however the program ended."""
        assert explained(Verdict.OK, exit_code=0, truncated=True) == (
            "python ended well. Its output was cut off; raise max_output to keep more."
        )

    def test_degraded(self) -> None:
        """What was not applied is mentioned, by name."""
        assert explained(Verdict.OK, exit_code=0, degraded=("memory", "cpus")) == (
            "python ended well. "
            "Not applied on this machine, as was allowed: memory, cpus."
        )

    def test_nothing_is_changed(self) -> None:
        """Explaining a result leaves it as it is."""
        outcome: Result[str] = Result(
            argv=("a",), stdout="", stderr="", exit_code=1, verdict=Verdict.EXIT
        )
        before = attrs.asdict(outcome)
        outcome.explain()

        assert attrs.asdict(outcome) == before
