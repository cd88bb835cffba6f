"""What the files of control groups say, at the end and in between."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jailbox.linux.cgroup import (
    CgroupReport,
    CgroupStats,
    parse_collected,
    parse_stats,
)

V1 = {
    "1/memory.max_usage_in_bytes": b"67108864\n",
    "1/memory.oom_control": b"oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    "1/pids.peak": b"33\n",
    "1/pids.events": b"max 7\n",
    "1/cpu.stat": b"nr_periods 9\nnr_throttled 4\nthrottled_time 250000000\n",
    "1/cpuacct.usage_user": b"1500000000\n",
    "1/cpuacct.usage_sys": b"500000000\n",
}

V2 = {
    "2/memory.peak": b"67108864\n",
    "2/memory.events": (
        b"low 0\nhigh 0\nmax 91\noom 3\noom_kill 2\noom_group_kill 1\n"
    ),
    "2/pids.peak": b"33\n",
    "2/pids.events": b"max 7\n",
    "2/cpu.stat": (
        b"usage_usec 2000000\nuser_usec 1500000\nsystem_usec 500000\nnice_usec 0\n"
        b"nr_periods 9\nnr_throttled 4\nthrottled_usec 250000\n"
    ),
    "2/io.stat": (
        b"254:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n"
        b"254:16 rbytes=1024 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n"
    ),
}


class TestCollected:
    """The bill at the end."""

    def test_version_1(self) -> None:
        """Version 1 counts memory, processes, time and throttling; no bytes."""
        assert parse_collected(V1) == CgroupReport(
            memory_peak=67108864,
            oom_kills=2,
            processes_peak=32,
            pids_denied=7,
            cpu_user=1.5,
            cpu_system=0.5,
            throttled=0.25,
        )

    def test_version_2(self) -> None:
        """
        Version 2 counts the same, bytes over all devices, and whose
        shortage it was.
        """
        assert parse_collected(V2) == CgroupReport(
            memory_peak=67108864,
            oom_kills=2,
            oom_events=3,
            processes_peak=32,
            pids_denied=7,
            cpu_user=1.5,
            cpu_system=0.5,
            io_read=5120,
            io_written=8192,
            throttled=0.25,
        )

    def test_hybrid(self) -> None:
        """Where both are there, each gives what it has."""
        files = {k: v for k, v in V1.items() if "cpu" not in k}
        files["2/cpu.stat"] = V2["2/cpu.stat"]
        report = parse_collected(files)

        assert (report.cpu_user, report.memory_peak) == (1.5, 67108864)

    def test_nothing(self) -> None:
        """Without files nothing was counted, which is not zero."""
        assert parse_collected({}) == CgroupReport()

    def test_older_kernels(self) -> None:
        """Peaks that a kernel lacks are unknown; the rest is read."""
        files = {k: v for k, v in V2.items() if not k.endswith(".peak")}
        report = parse_collected(files)

        assert (report.memory_peak, report.processes_peak) == (None, None)
        assert report.oom_kills == 2

    def test_cut_off(self) -> None:
        """A line that was cut off in the middle of a number is not counted."""
        cut = V2["2/io.stat"][:80]
        assert parse_collected({"2/io.stat": cut}).io_read == 4096

    @given(st.dictionaries(st.sampled_from([*V1, *V2, "x", "3/y"]), st.binary()))
    def test_never_fails(self, files: dict[str, bytes]) -> None:
        """Whatever the files say is read without an exception."""
        report = parse_collected(files)
        parse_stats(files)
        assert report.oom_kills >= 0


class TestOutOfMemory:
    """Whose shortage it was."""

    LIMIT = 64 << 20

    @pytest.mark.parametrize(
        ("report", "expected"),
        [
            (CgroupReport(oom_kills=1, oom_events=1), True),
            # Version 2: somebody else's shortage.
            (CgroupReport(oom_kills=1, oom_events=0), False),
            # Version 1: told by the peak.
            (CgroupReport(oom_kills=1, memory_peak=64 << 20), True),
            (CgroupReport(oom_kills=1, memory_peak=(64 << 20) - (1 << 20)), True),
            (CgroupReport(oom_kills=1, memory_peak=8 << 20), False),
            # CG3: a SIGKILL from outside.
            (CgroupReport(memory_peak=64 << 20), False),
            (CgroupReport(oom_events=5), False),
        ],
    )
    def test_told_apart(self, report: CgroupReport, *, expected: bool) -> None:
        """
        The jail's own limit is told apart from a shortage of the
        machine and a kill.
        """
        assert report.ran_out_of_memory(self.LIMIT) is expected

    def test_without_a_limit(self) -> None:
        """Without a limit of its own a jail cannot have reached it."""
        assert not CgroupReport(oom_kills=1, oom_events=1).ran_out_of_memory(None)


class TestStats:
    """A look in between."""

    def test_version_1(self) -> None:
        """A look at version 1: memory, time, processes without our init."""
        assert parse_stats(
            {
                "1/memory.usage_in_bytes": b"4096\n",
                "1/memory.max_usage_in_bytes": b"8192\n",
                "1/cpuacct.usage": b"2500000000\n",
                "1/pids.current": b"3\n",
            }
        ) == CgroupStats(memory=4096, memory_peak=8192, cpu_time=2.5, processes=2)

    def test_version_2(self) -> None:
        """A look at version 2: the same, and bytes."""
        assert parse_stats(
            {
                "2/memory.current": b"4096\n",
                "2/memory.peak": b"8192\n",
                "2/cpu.stat": b"usage_usec 2500000\n",
                "2/pids.current": b"3\n",
                "2/io.stat": b"",
            }
        ) == CgroupStats(
            memory=4096,
            memory_peak=8192,
            cpu_time=2.5,
            processes=2,
            io_read=0,
            io_written=0,
        )
