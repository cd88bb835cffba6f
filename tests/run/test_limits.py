"""
Limits that hold, verdicts that say which one was reached, and a bill that is right.
"""

import os
import signal
import subprocess
import threading
import time

import pytest

import jailbox as jb
from jailbox import Limits

pytestmark = pytest.mark.userns

HOST = jb.Image.host()


def python(code: str, **options: object) -> "jb.Result[str]":
    """Run Python code on the host image."""
    return jb.run(HOST, ["python3", "-c", code], **options)  # type: ignore[arg-type]


EAT = "kept = [b'x' * (1 << 20) for _ in range({})]; print('survived')"


@pytest.mark.cgroup
class TestMemory:
    def test_past_the_limit_the_jail_is_killed(self) -> None:
        """
        Allocating more than the limit ends with the verdict ``memory`` (LIM-01).
        """
        result = python(EAT.format(80), memory="64M")

        assert result.verdict == "memory"
        assert result.signal == 9
        assert result.stdout == ""
        assert result.usage.memory_peak is not None
        assert 60 << 20 < result.usage.memory_peak <= 64 << 20
        assert "64 MiB" in result.explain()
        with pytest.raises(jb.OutOfMemory):
            result.check()

    def test_within_the_limit_nothing_happens(self) -> None:
        """
        A program that stays below its limit is not disturbed.
        """
        assert python(EAT.format(40), memory="96M").stdout == "survived\n"

    def test_the_verdict_is_right_behind_a_shell(self) -> None:
        """
        A shell that turns the kill into exit code 137 does not hide the limit (C17).
        """
        code = EAT.format(80)
        result = jb.run(
            HOST, ["sh", "-c", f'python3 -c "{code}"; exit $?'], memory="64M"
        )

        assert result.exit_code == 137
        assert result.verdict == "memory"

    def test_a_kill_from_outside_is_told_apart(self) -> None:
        """
        A SIGKILL that no limit sent is the verdict ``signal`` (CG3, LIF10).
        """
        result = jb.run(HOST, ["sh", "-c", "kill -9 $$"], memory="64M")

        assert (result.verdict, result.signal) == ("signal", 9)

    def test_a_program_that_gets_along_is_ok(self) -> None:
        """
        A child that was killed for memory does not spoil a program that ends well.
        """
        code = EAT.format(80)
        result = jb.run(
            HOST, ["sh", "-c", f'python3 -c "{code}"; echo fine'], memory="64M"
        )

        assert (result.verdict, result.stdout) == ("ok", "fine\n")

    def test_an_exec_that_is_killed_for_memory_says_so(self) -> None:
        """
        In a container, the limit ends the program that ate, with the same verdict.
        """
        with jb.Container(HOST, memory="64M") as container:
            eaten = container.exec(["python3", "-c", EAT.format(80)])
            after = container.exec(["sh", "-c", "kill -9 $$"])

        assert eaten.verdict == "memory"
        assert after.verdict == "signal"

    def test_parallel_jails_do_not_kill_each_other(self) -> None:
        """
        Of jails side by side only the one that eats is killed.
        """
        found: list[str] = []

        def modest() -> None:
            found.append(python("import time; time.sleep(.3)", memory="32M").verdict)

        threads = [threading.Thread(target=modest) for _ in range(4)]
        for thread in threads:
            thread.start()
        eater = python(EAT.format(80), memory="64M")
        for thread in threads:
            thread.join()

        assert eater.verdict == "memory"
        assert found == ["ok"] * 4


SPIN = "while :; do :; done"


class TestTime:
    def test_processor_time_is_that_of_the_whole_tree(self) -> None:
        """
        Four spinners with cpu_time=0.5 end near half a second of summed time (LIM-04).
        """
        script = f"({SPIN}) & ({SPIN}) & ({SPIN}) & {SPIN}"
        result = jb.run(
            HOST, ["sh", "-c", script], limits=Limits(cpu_time=0.5), timeout=10
        )

        assert result.verdict == "cpu_time"
        assert 0.45 < result.usage.cpu < 0.65
        assert "500 ms" in result.explain()

    def test_sleeping_costs_no_processor_time(self) -> None:
        """
        Time that is slept does not count for cpu_time.
        """
        result = jb.run(HOST, ["sleep", "0.4"], limits=Limits(cpu_time=0.2))

        assert result.verdict == "ok"

    def test_wall_time_counts_sleep(self) -> None:
        """
        Time that is slept does count for wall (LIM-05).
        """
        result = jb.run(HOST, ["sleep", "9"], limits=Limits(wall=0.2))

        assert result.verdict == "wall"
        assert 0.2 <= result.usage.wall < 0.25

    @pytest.mark.cgroup
    @pytest.mark.slow
    def test_a_quota_slows_down(self) -> None:
        """
        Half a processor takes twice as long for the same work (LIM-03).
        """
        code = "import time\nwhile time.process_time() < 0.5: pass"

        result = python(code, limits=Limits(cpus=0.5), timeout=10)

        # Others may use the machine too: only the lower bound is ours.
        assert result.usage.wall > 0.85
        assert result.usage.cpu < 0.65

    @pytest.mark.cgroup
    def test_processors_can_be_chosen(self) -> None:
        """
        A jail runs on the processors of its cpuset only.
        """
        cpu = min(os.sched_getaffinity(0))
        code = "import os; print(os.sched_getaffinity(0))"

        assert python(code, limits=Limits(cpuset=f"{cpu}")).stdout == f"{{{cpu}}}\n"


class TestOthers:
    @pytest.mark.cgroup
    def test_a_fork_bomb_is_contained(self) -> None:
        """
        A fork bomb reaches the limit of processes, ends on time, and the host is well
        (LIM-02, LIF9).
        """
        with pytest.raises(jb.DeadlineExceeded) as caught:
            jb.run(
                HOST,
                ["sh", "-c", "f() { f | f & }; f; sleep 9"],
                limits=Limits(processes=40),
                timeout=0.5,
            )

        result = caught.value.result
        assert result is not None
        assert result.usage.wall < 0.7
        assert result.usage.processes is None or result.usage.processes <= 41
        assert subprocess.run(["true"], check=False).returncode == 0

    @pytest.mark.cgroup
    def test_a_program_that_cannot_fork_says_pids(self) -> None:
        """
        A program that fails after the limit of processes is the verdict ``pids``.
        """
        code = (
            "import os, time\nfor _ in range(9):\n    if not os.fork(): time.sleep(9)"
        )

        result = python(code, limits=Limits(processes=5))

        assert (result.verdict, result.exit_code) == ("pids", 1)
        assert "5" in result.explain()

    def test_a_full_layer_is_told(self) -> None:
        """
        Writing past the size of the layer is ENOSPC, and the verdict ``disk`` (LIM-06).
        """
        result = jb.run(
            HOST,
            ["dd", "if=/dev/zero", "of=/var/big", "bs=64k"],
            limits=Limits(disk="4M"),
        )

        assert "No space left" in result.stderr
        assert result.verdict == "disk"
        assert "4 MiB" in result.explain()

    def test_files_are_counted(self) -> None:
        """
        More files than allowed are refused, and the verdict is ``disk``.
        """
        script = "for n in $(seq 200); do echo > /var/$n || exit 1; done"

        result = jb.run(HOST, ["sh", "-c", script], limits=Limits(inodes=50))

        assert result.verdict == "disk"

    def test_a_forbidden_call_is_told(self) -> None:
        """
        A program that a filter kills is the verdict ``denied``.
        """
        profile = {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL"}],
        }
        result = jb.run(
            HOST, ["mkdir", "/tmp/x"], security=jb.Security(seccomp=profile)
        )

        assert (result.verdict, result.signal) == ("denied", signal.SIGSYS)

    def test_resource_limits_hold(self) -> None:
        """
        Open files, file size, core and stack are as asked for (LIM-07).
        """
        limits = Limits(open_files=77, file_size="1M", core=0, stack="4M")

        result = jb.run(
            HOST,
            ["sh", "-c", "ulimit -n; ulimit -f; ulimit -c; ulimit -s"],
            limits=limits,
        )

        assert result.stdout.split() == ["77", "2048", "0", "4096"]

    def test_a_limit_on_files_above_ours_is_lowered(self) -> None:
        """
        A resource limit above our own hard limit is lowered, and the program starts.
        """
        assert jb.run(HOST, ["true"], limits=Limits(open_files=1 << 30)).ok


class TestOutput:
    def test_output_without_end_is_ended(self) -> None:
        """
        `yes` with max_output=1M returns with a megabyte and the verdict ``output``
        (IO-05).
        """
        began = time.monotonic()
        result = jb.run(HOST, ["yes"], max_output="1M", timeout=10)

        assert time.monotonic() - began < 1
        assert (result.verdict, result.truncated) == ("output", True)
        assert result.stdout == "y\n" * (512 << 10)

    def test_each_stream_has_its_own_bound(self) -> None:
        """
        The bound holds for either stream; the one that stays below is complete.
        """
        result = jb.run(
            HOST, ["sh", "-c", "echo out; yes >&2"], max_output=1000, timeout=10
        )

        assert result.stdout == "out\n"
        assert len(result.stderr) == 1000
        assert result.verdict == "output"

    def test_exactly_the_bound_is_fine(self) -> None:
        """
        A program that writes as much as it may is ok.
        """
        result = jb.run(HOST, ["printf", "12345"], max_output=5)

        assert (result.verdict, result.stdout, result.truncated) == (
            "ok",
            "12345",
            False,
        )

    def test_an_exec_is_cut_off_and_goes_on(self) -> None:
        """
        With max_output an exec keeps the beginning, and ends as if all had been read.
        """
        with jb.Container(HOST) as container:
            result = container.exec("seq 1 100000; exit 3", shell=True, max_output=10)

        assert (result.stdout, result.truncated) == ("1\n2\n3\n4\n5\n", True)
        assert (result.exit_code, result.verdict) == (3, "exit")

    def test_memory_is_bounded(self) -> None:
        """
        By default 64 MiB of a stream are kept and the rest is dropped, so that the
        host's memory does not grow with what a program writes.
        """
        result = jb.run(
            HOST, ["head", "-c", "200000000", "/dev/zero"], text=False, timeout=30
        )

        assert result.ok
        assert result.truncated
        assert len(result.stdout) == 64 << 20


class TestUsage:
    def test_processor_time_is_exact(self) -> None:
        """
        The bill names the processor time of a known load within 5 percent (LIM-10).
        """
        code = (
            "import time\n"
            "while time.process_time() < 0.4: pass\n"
            "print(time.process_time())\n"
        )
        result = python(code)
        load = float(result.stdout)

        assert load <= result.usage.cpu < load * 1.05 + 0.02

    @pytest.mark.cgroup
    def test_peak_of_memory_is_that_of_the_jail(self) -> None:
        """
        The peak is that of all processes together, not of the largest.
        """
        code = (
            "import os, time\n"
            "for _ in range(2):\n"
            "    if not os.fork():\n"
            "        kept = bytearray(b'x' * (30 << 20)); time.sleep(.2); os._exit(0)\n"
            "os.wait(); os.wait()\n"
        )
        result = python(code, memory="512M")

        assert result.usage.memory_peak is not None
        assert 60 << 20 < result.usage.memory_peak < 150 << 20

    @pytest.mark.cgroup
    def test_processes_are_counted(self) -> None:
        """
        The bill names the most processes at one time, where the kernel counts them.
        """
        result = jb.run(HOST, ["sh", "-c", "sleep .1 & sleep .1 & sleep .1 & wait"])

        assert result.usage.processes in {4, None}

    def test_the_bill_of_an_exec_is_its_own(self) -> None:
        """
        In a container every program has a bill of its own.
        """
        code = "import time\nwhile time.process_time() < 0.2: pass"
        with jb.Container(HOST) as container:
            busy = container.exec(["python3", "-c", code]).usage
            idle = container.exec(["true"]).usage

        assert busy.cpu >= 0.2
        assert idle.cpu < 0.05


class TestDegradation:
    @pytest.mark.cgroup
    def test_a_limit_that_cannot_hold_is_an_error_or_listed(self) -> None:
        """
        What this machine cannot enforce is refused by name; allowed, it is listed in
        the result (ISO-09).
        """
        security = jb.Security(degrade={"memory", "landlock", "seccomp", "swap"})
        result = jb.run(HOST, ["true"], security=security, memory="64M")

        assert result.ok
        assert set(result.degraded) <= {"memory", "landlock", "seccomp", "swap"}
