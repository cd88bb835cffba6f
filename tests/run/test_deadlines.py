"""
Deadlines: every way to be late ends within 50 ms, with everything that was started.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest

import jailbox as jb

pytestmark = pytest.mark.userns

HOST = jb.Image.host()
TIMEOUT = 0.25

STUBBORN = {
    "sleeps": "echo so far; sleep 1000",
    "spins": "echo so far; while :; do :; done",
    "ignores TERM": "trap '' TERM HUP INT; echo so far; while :; do sleep 1000; done",
    "setsid": "setsid sleep 1000 & echo so far; sleep 1000",
    "double fork": "(setsid sh -c 'sleep 999 & sleep 999' &) ; echo so far; sleep 999",
    "stopped": "sleep 1000 & kill -STOP $!; echo so far; kill -STOP $$; sleep 1000",
    "nohup": "nohup sleep 1000 >/dev/null 2>&1 & echo so far; wait",
    "forks on": "echo so far; f() { sleep 0.01; f & }; f; f; sleep 1000",
}


@contextlib.contextmanager
def on_time(limit: float, *, slack: float = 0.05) -> Iterator[None]:
    """Hold the block to ending within *slack* after *limit*."""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert limit <= took < limit + slack


class TestRun:
    @pytest.mark.parametrize("script", STUBBORN.values(), ids=STUBBORN.keys())
    def test_run_is_ended_on_time(self, script: str) -> None:
        """
        `run` raises within 50 ms of its timeout, whatever the program does; the error
        has the output so far, and nothing is left (C1 to C3, LIF9).
        """
        with pytest.raises(jb.DeadlineExceeded) as caught, on_time(TIMEOUT):
            jb.run(HOST, ["sh", "-c", script], timeout=TIMEOUT)

        result = caught.value.result
        assert result is not None
        assert result.stdout == "so far\n"
        assert result.verdict == "wall"
        assert caught.value.timeout == TIMEOUT
        assert TIMEOUT <= result.usage.wall < TIMEOUT + 0.05

    def test_timeout_is_a_timedelta_too(self) -> None:
        """
        A timeout may be a timedelta; the error is a TimeoutError.
        """
        with pytest.raises(TimeoutError), on_time(0.1):
            jb.run(HOST, ["sleep", "9"], timeout=timedelta(milliseconds=100))

    def test_a_program_in_time_is_not_disturbed(self) -> None:
        """
        A timeout that is not reached changes nothing.
        """
        assert jb.run(HOST, ["sleep", "0.05"], timeout=5).ok

    def test_input_that_nobody_reads_does_not_hold_the_deadline(self) -> None:
        """
        Input that does not fit the pipe does not make the deadline late.
        """
        with pytest.raises(jb.DeadlineExceeded), on_time(TIMEOUT):
            jb.run(HOST, ["sleep", "9"], input=b"x" * (8 << 20), timeout=TIMEOUT)

    def test_output_without_end_does_not_hold_the_deadline(self) -> None:
        """
        A program that writes without end does not make the deadline late.
        """
        with pytest.raises(jb.DeadlineExceeded) as caught, on_time(TIMEOUT):
            jb.run(HOST, ["yes"], timeout=TIMEOUT)

        assert caught.value.result is not None
        assert caught.value.result.stdout.startswith("y\ny\n")

    def test_wall_limit_returns(self) -> None:
        """
        ``Limits.wall`` ends the jail as well, but is told by the verdict (LIM-05).
        """
        with on_time(TIMEOUT):
            result = jb.run(
                HOST,
                ["sh", "-c", STUBBORN["setsid"]],
                limits=jb.Limits(wall=TIMEOUT),
            )

        assert (result.verdict, result.stdout) == ("wall", "so far\n")
        assert not result.ok


class TestExec:
    @pytest.mark.parametrize("script", STUBBORN.values(), ids=STUBBORN.keys())
    def test_exec_is_ended_on_time(self, script: str) -> None:
        """
        An exec ends on time with its whole tree; its container lives on (IO-03, IO-04).
        """
        with jb.Container(HOST) as container:
            with pytest.raises(jb.DeadlineExceeded) as caught, on_time(TIMEOUT):
                container.exec(["sh", "-c", script], timeout=TIMEOUT)
            names = container.exec("cat /proc/[0-9]*/comm", shell=True, timeout=5)

        assert caught.value.result is not None
        assert caught.value.result.stdout == "so far\n"
        assert "sleep" not in names.stdout.split()

    def test_execs_do_not_end_each_other(self) -> None:
        """
        The timeout of one program leaves the others of its container alone.
        """
        with jb.Container(HOST) as container:
            other = container.popen(["cat"], stdin=True)
            with pytest.raises(jb.DeadlineExceeded):
                container.exec(["sleep", "9"], timeout=0.1)

            assert other.communicate("still here").stdout == "still here"


class TestPopen:
    def test_popen_ends_itself(self) -> None:
        """
        The timeout of a process ends it though nobody waits for it.
        """
        with jb.Container(HOST) as container:
            process = container.popen(["sleep", "1000"], timeout=0.2)
            time.sleep(0.3)

            assert process.poll() == -9

    def test_wait_ends_it_on_time(self) -> None:
        """
        `wait(timeout)` ends the process and its tree, within 50 ms.
        """
        with jb.Container(HOST) as container:
            process = container.popen(["sh", "-c", STUBBORN["setsid"]])
            with pytest.raises(jb.DeadlineExceeded) as caught, on_time(TIMEOUT):
                process.wait(TIMEOUT)
            names = container.exec("cat /proc/[0-9]*/comm", shell=True).stdout

        assert caught.value.result is not None
        assert caught.value.result.stdout == "so far\n"
        assert "sleep" not in names.split()

    def test_iteration_ends_on_time(self) -> None:
        """
        Iterating over the output ends with the timeout of the process.
        """
        lines = []
        with jb.Container(HOST) as container:
            process = container.popen(
                ["sh", "-c", "echo a; echo b; sleep 1000"], timeout=TIMEOUT
            )
            with pytest.raises(jb.DeadlineExceeded), on_time(TIMEOUT, slack=0.06):  # noqa: PT012
                for record in process:
                    lines.append(record.text)  # noqa: PERF401  # the loop is left

        assert lines == ["a", "b"]

    def test_a_write_that_nobody_reads_is_ended(self) -> None:
        """
        Writing to a program that does not read ends when the program's time is over.
        """
        with jb.Container(HOST) as container:
            process = container.popen(["sleep", "9"], stdin=True, timeout=0.2)
            began = time.monotonic()
            with pytest.raises(BrokenPipeError):
                process.write(b"x" * (1 << 20))
            took = time.monotonic() - began
            process.close()

        assert took < 0.5


class TestInterruption:
    def test_an_interrupt_ends_everything(self) -> None:
        """
        Ctrl-C in the middle of a run ends the jail and is raised (LIF5).
        """

        def pieces() -> Iterator[bytes]:
            yield b"x"
            raise KeyboardInterrupt

        before = _jails()
        with pytest.raises(KeyboardInterrupt):
            jb.run(HOST, ["sleep", "1000"], input=pieces())

        deadline = time.monotonic() + 1
        while _jails() > before and time.monotonic() < deadline:
            time.sleep(0.002)
        assert _jails() <= before


def _jails() -> int:
    """Count the inits on this machine."""
    count = 0
    for pid in os.listdir("/proc"):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/comm") as file:
            count += file.read() == "jailbox-init\n"
    return count
