"""
The life of a container: states, what each allows, and what outlasts a stop.
"""

import contextlib
import gc
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import jailbox as jb

pytestmark = pytest.mark.userns

HOST = jb.Image.host()

Verb = Callable[[jb.Container], object]

VERBS: dict[str, Verb] = {
    "start": lambda c: c.start(),
    "stop": lambda c: c.stop(0),
    "kill": lambda c: c.kill(),
    "pause": lambda c: c.pause(),
    "resume": lambda c: c.resume(),
    "wait": lambda c: c.wait(5),
    "remove": lambda c: c.remove(),
    "exec": lambda c: c.exec(["true"]),
    "popen": lambda c: c.popen(["true"]).wait(5),
    "stats": lambda c: c.stats(),
    "logs": lambda c: c.logs(),
    "read": lambda c: c.path("/etc/passwd").read_text(),
}

# Which state each verb leads to; a verb that is missing is refused.
TABLE: dict[str, dict[str, str | None]] = {
    "created": {
        "start": "running", "stop": "created", "remove": None, "logs": "created",
        "read": "created",
    },
    "running": {
        "stop": "stopped", "kill": "stopped", "pause": "paused", "remove": None,
        "exec": "running", "popen": "running", "stats": "running", "logs": "running",
        "read": "running",
    },
    "paused": {
        "stop": "stopped", "kill": "stopped", "resume": "running", "remove": None,
        "stats": "paused", "logs": "paused",
    },
    "stopped": {
        "start": "running", "stop": "stopped", "wait": "stopped", "remove": None,
        "logs": "stopped", "read": "stopped",
    },
    "removed": {"remove": None, "logs": None},
}  # fmt: skip

CASES = [
    pytest.param(state, verb, id=f"{state}-{verb}")
    for state in TABLE
    for verb in VERBS
    # Waiting for what does not end is a test of its own.
    if not (verb == "wait" and state in {"running", "paused"})
]


@contextlib.contextmanager
def container_in(state: str) -> Iterator[jb.Container]:
    """Give a container in *state*."""
    container = jb.Container(HOST, ["sleep", "1000"], stop_timeout=0)
    try:
        if state != "created":
            container.start()
        if state == "paused":
            container.pause()
        if state == "stopped":
            container.kill()
        if state == "removed":
            container.remove()
        yield container
    finally:
        container.remove()


def has_several_ids(container: jb.Container) -> bool:
    """Tell whether the jail has more than one id."""
    lines = container.exec(["cat", "/proc/self/uid_map"], text=True).stdout.splitlines()
    return sum(int(line.split()[2]) for line in lines) > 1


class TestStates:
    @pytest.mark.parametrize(("state", "verb"), CASES)
    def test_every_verb_in_every_state(self, state: str, verb: str) -> None:
        """
        A verb either succeeds and leads to the state of the table, or is a StateError
        that names the state and leaves it (CTR-02).
        """
        with container_in(state) as container:
            if verb in TABLE[state]:
                VERBS[verb](container)
                expected = TABLE[state][verb]
            else:
                with pytest.raises(jb.StateError) as caught:
                    VERBS[verb](container)
                assert state in str(caught.value)
                assert caught.value.state == state
                expected = None if state == "removed" else state

            assert container.state == expected

    def test_the_end_of_the_command_is_noticed(self) -> None:
        """
        A container whose command has ended is stopped, without anybody waiting.
        """
        with jb.Container(HOST, ["true"]) as container:
            deadline = time.monotonic() + 5
            while container.state != "stopped" and time.monotonic() < deadline:
                time.sleep(0.002)

            assert container.state == "stopped"
            with pytest.raises(jb.StateError, match="stopped"):
                container.exec(["true"])

    def test_with_removes_on_an_exception(self) -> None:
        """
        The block of a with removes the container, also when it is left by an error.
        """
        with (
            contextlib.suppress(ZeroDivisionError),
            jb.Container(HOST, name="doomed") as container,
        ):
            raise ZeroDivisionError

        assert container.state is None
        with pytest.raises(jb.NotFound):
            jb.Container.get("doomed")

    def test_a_dropped_container_is_removed(self) -> None:
        """
        A container that nobody holds any more is removed.
        """
        jb.Container(HOST, name="dropped").start()
        gc.collect()

        with pytest.raises(jb.NotFound, match="dropped"):
            jb.Container.get("dropped")


class TestStopAndKill:
    def test_stop_lets_the_command_end_well(self) -> None:
        """
        `stop` sends the stop signal and waits: the command can clean up.
        """
        script = "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.01; done"
        with jb.Container(HOST, ["sh", "-c", script]) as container:
            _await_log(container, b"up")
            container.stop(5)

            assert container.wait().exit_code == 7
            assert container.logs()[-1].text == "bye\n"

    def test_stop_sends_the_signal_that_was_asked_for(self) -> None:
        """
        The stop signal can be another one than SIGTERM.
        """
        script = "trap 'exit 5' USR1; echo up; while :; do sleep 0.01; done"
        with jb.Container(
            HOST, ["sh", "-c", script], stop_signal="SIGUSR1"
        ) as container:
            _await_log(container, b"up")
            container.stop(5)

            assert container.wait().exit_code == 5

    def test_stop_kills_after_its_grace(self) -> None:
        """
        A command that ignores the stop signal is killed when its time is over.
        """
        script = "trap '' TERM; echo up; while :; do sleep 10; done"
        with jb.Container(HOST, ["sh", "-c", script]) as container:
            _await_log(container, b"up")
            began = time.monotonic()
            container.stop(0.2)
            took = time.monotonic() - began

            assert 0.2 <= took < 0.3
            assert container.wait().signal == 9

    def test_kill_sends_any_signal(self) -> None:
        """
        `kill` sends the main program the signal that it is told.
        """
        with jb.Container(HOST, ["sleep", "100"]) as container:
            container.kill("SIGINT")
            result = container.wait(5)

            assert (result.signal, result.verdict) == (2, "signal")

    def test_stop_ends_everything_that_ran(self) -> None:
        """
        What was started in the container ends with it, whatever it ignores.
        """
        with jb.Container(HOST) as container:
            process = container.popen(
                ["sh", "-c", "trap '' TERM HUP INT; setsid sleep 1000 & sleep 1000"]
            )
            container.stop(0)

            assert process.wait(5) == -9
            assert container.state == "stopped"

    @pytest.mark.root
    def test_files_are_kept_until_the_container_is_removed(self) -> None:
        """
        What was written is there after a stop and a new start, with its owners.
        """
        with jb.Container(HOST) as container:
            container.exec(
                "echo kept > /tmp/a; chown 33:33 /tmp/a; chmod 600 /tmp/a;"
                " mkdir /new; rm -r /usr/share/doc/* 2>&-;"
                " echo x >> /usr/lib/os-release",
                shell=True,
            )
            script = (
                "stat -c %u:%g:%a /tmp/a; cat /tmp/a; ls -d /new;"
                " tail -1 /usr/lib/os-release"
            )
            before = container.exec(script, shell=True).stdout
            for _ in range(3):
                container.stop(0)
                container.start()
            after = container.exec(script, shell=True).stdout

        assert before == "33:33:600\nkept\n/new\nx\n"
        assert after == before

    @pytest.mark.root
    def test_two_containers_share_nothing(self) -> None:
        """
        What one container writes, another one of the same image does not see.
        """
        with jb.Container(HOST) as one, jb.Container(HOST) as two:
            one.exec(
                "echo x > /var/secret; echo y > /usr/bin/new", shell=True, check=True
            )

            assert two.exec("ls /var/secret /usr/bin/new", shell=True).stdout == ""


class TestPause:
    @pytest.mark.cgroup
    def test_time_stands_still_while_paused(self) -> None:
        """
        Nothing in a paused container runs until it is resumed.
        """
        with jb.Container(HOST, ["sh", "-c", "while :; do echo x; done"]) as container:
            _await_log(container, b"x")
            container.pause()
            time.sleep(0.05)
            before = container.stats().cpu_time
            time.sleep(0.15)
            during = container.stats().cpu_time
            container.resume()
            time.sleep(0.1)
            after = container.stats().cpu_time

        assert before is not None
        assert during == before
        assert after is not None
        assert after > before

    def test_last_words_arrive_though_ours_were_not_read(self) -> None:
        """
        How a container ended is known also when it ended before it read our last
        request.
        """
        for _ in range(20):
            with jb.Container(HOST, ["sleep", "1000"]) as container:
                container.kill("SIGCONT")
                container.kill()

                assert container.wait().signal == 9

    def test_a_paused_container_ends_at_once_when_killed(self) -> None:
        """
        A frozen tree is killed as fast as a running one.
        """
        with jb.Container(HOST, ["sleep", "1000"]) as container:
            container.pause()
            began = time.monotonic()
            container.kill()

            assert time.monotonic() - began < 0.1
            assert container.wait().signal == 9

    def test_a_paused_container_can_be_removed(self) -> None:
        """
        Removing a paused container leaves nothing frozen behind.
        """
        container = jb.Container(HOST, ["sleep", "1000"]).start()
        container.pause()
        began = time.monotonic()
        container.remove()

        assert time.monotonic() - began < 0.1

    def test_an_exec_that_is_frozen_times_out(self) -> None:
        """
        The deadline of a program holds also while its container is paused.
        """
        with jb.Container(HOST) as container:
            process = container.popen(["sleep", "1000"], timeout=0.3)
            container.pause()
            began = time.monotonic()
            with pytest.raises(jb.DeadlineExceeded):
                process.wait()

            assert time.monotonic() - began < 1.5


class TestWait:
    def test_wait_gives_the_result(self) -> None:
        """
        `wait` gives exit code and usage of the main program, as often as asked.
        """
        with jb.Container(HOST, ["sh", "-c", "exit 3"]) as container:
            first, second = container.wait(5), container.wait(5)

            assert (first.exit_code, first.verdict) == (3, "exit")
            assert second == first

    def test_wait_is_a_deadline(self) -> None:
        """
        `wait` returns within 50 ms of its timeout, and the container goes on (CTR-03).
        """
        script = "while :; do :; done"
        with jb.Container(HOST, ["sh", "-c", script]) as container:
            began = time.monotonic()
            with pytest.raises(jb.DeadlineExceeded):
                container.wait(0.2)
            took = time.monotonic() - began

            assert 0.2 <= took < 0.25
            assert container.state == "running"

    def test_many_threads_may_wait(self) -> None:
        """
        Any number of threads wait for one container; all get the same result.
        """
        found: list[object] = []
        with jb.Container(HOST, ["sleep", "1000"]) as container:
            threads = [
                threading.Thread(target=lambda: found.append(container.wait(5).signal))
                for _ in range(8)
            ]
            for thread in threads:
                thread.start()
            time.sleep(0.05)
            container.kill()
            for thread in threads:
                thread.join()

        assert found == [9] * 8


class TestNames:
    def test_names_are_unique(self) -> None:
        """
        A name that is in use is refused; when its container is gone it is free.
        """
        with jb.Container(HOST, name="one"):  # noqa: SIM117
            with pytest.raises(jb.SpecError, match="one"):
                jb.Container(HOST, name="one")
        with jb.Container(HOST, name="one") as again:
            assert again.name == "one"

    def test_default_names_never_clash(self) -> None:
        """
        A thousand containers made at once by eight threads have a thousand names
        (CTR-07).
        """
        made: list[jb.Container] = []

        def make() -> None:
            made.extend(jb.Container(HOST) for _ in range(125))

        threads = [threading.Thread(target=make) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len({c.name for c in made}) == 1000
        for container in made:
            container.remove()

    def test_a_container_is_found_by_its_name(self) -> None:
        """
        `get` finds the same container; an unknown name is NotFound.
        """
        with jb.Container(HOST, name="findme") as container:
            container.path("/tmp/x").write_text("here")
            found = jb.Container.get("findme")

            assert found.path("/tmp/x").read_text() == "here"
        with pytest.raises(jb.NotFound, match="findme"):
            jb.Container.get("findme")

    def test_list_filters_by_labels(self) -> None:
        """
        `list` gives all containers, or those that have every label asked for.
        """
        with (
            jb.Container(HOST, name="l1", labels={"app": "web", "n": "1"}),
            jb.Container(HOST, name="l2", labels={"app": "web"}),
            jb.Container(HOST, name="l3"),
        ):
            web = {c.name for c in jb.Container.list({"app": "web"})}
            one = {c.name for c in jb.Container.list({"app": "web", "n": "1"})}
            everybody = {c.name for c in jb.Container.list()}

        assert (web, one) == ({"l1", "l2"}, {"l1"})
        assert everybody >= {"l1", "l2", "l3"}


class TestLogs:
    def test_logs_keep_stream_order_and_time(self) -> None:
        """
        What the main program wrote is there with stream, order and time.
        """
        script = "echo a; sleep 0.05; echo b >&2; sleep 0.05; printf c"
        before = time.time()
        with jb.Container(HOST, ["sh", "-c", script]) as container:
            container.wait(5)
            logs = container.logs()

        assert [(e.stream, e.text) for e in logs] == [
            ("stdout", "a\n"), ("stderr", "b\n"), ("stdout", "c"),
        ]  # fmt: skip
        times = [e.time for e in logs]
        assert times == sorted(times)
        assert before <= times[0] <= times[-1] <= time.time()
        assert times[1] - times[0] >= 0.04

    def test_five_megabytes_are_complete(self) -> None:
        """
        A burst right before the end is in the log to the last byte (CTR-09).
        """
        with jb.Container(
            HOST, ["sh", "-c", "seq 1 700000; echo end >&2"]
        ) as container:
            container.wait(20)
            logs = container.logs()
        text = b"".join(e.data for e in logs if e.stream == "stdout")

        assert text == "".join(f"{n}\n" for n in range(1, 700001)).encode()
        assert b"".join(e.data for e in logs if e.stream == "stderr") == b"end\n"

    def test_a_full_log_says_so(self) -> None:
        """
        Past the limit output is dropped, the program goes on, and the log says so.
        """
        limits = jb.Limits(output="4K")
        with jb.Container(
            HOST, ["sh", "-c", "seq 1 100000; exit 4"], limits=limits
        ) as container:
            result = container.wait(20)
            logs = container.logs()

        assert result.exit_code == 4
        assert sum(len(e.data) for e in logs) == 4096
        assert logs[-1].stream == "truncated"

    def test_a_new_start_begins_a_new_log(self) -> None:
        """
        The log is that of the latest start.
        """
        with jb.Container(HOST, ["sh", "-c", "cat /f 2>&-; echo > /f again"]) as c:
            c.wait(5)
            first = c.logs()
            c.start()
            c.wait(5)

            assert first == ()
            assert [e.text for e in c.logs()] == ["again\n"]


class TestStats:
    @pytest.mark.cgroup
    def test_stats_are_cheap(self) -> None:
        """
        A hundred samples take less than 100 ms (OBS-02).
        """
        with jb.Container(HOST, ["sleep", "100"], memory="64M") as container:
            container.stats()
            began = time.monotonic()
            for _ in range(100):
                container.stats()

            assert time.monotonic() - began < 0.1

    @pytest.mark.cgroup
    def test_stats_tell_the_truth(self) -> None:
        """
        Memory, processor time and processes are what the container really uses.
        """
        code = (
            "import time, threading\n"
            "kept = bytearray(b'x' * (40 << 20))\n"
            "end = time.process_time() + 0.3\n"
            "while time.process_time() < end: pass\n"
            "print('up', flush=True); time.sleep(100)\n"
        )
        with jb.Container(HOST, ["python3", "-c", code], memory="128M") as container:
            _await_log(container, b"up")
            stats = container.stats()

        assert stats.memory is not None
        assert stats.memory_peak is not None
        assert stats.cpu_time is not None
        assert 40 << 20 < stats.memory < 100 << 20
        assert stats.memory_peak >= stats.memory
        assert 0.28 < stats.cpu_time < 0.6
        assert stats.processes in {1, 2}


class TestPrograms:
    def test_orphans_are_reaped(self) -> None:
        """
        Two hundred orphans later no zombie remains (CTR-08).
        """
        script = (
            "for n in $(seq 200); do (true & ) ; done; sleep 0.2; cat /proc/[0-9]*/stat"
        )
        with jb.Container(HOST) as container:
            container.exec(script, shell=True, timeout=20)
            lines = container.exec("cat /proc/[0-9]*/stat", shell=True).stdout

        states = [line.rpartition(") ")[2][0] for line in lines.splitlines()]
        assert states.count("Z") == 0

    def test_what_was_executed_before_is_not_mixed_up_with_what_is_now(self) -> None:
        """
        Programs that differ in one thing, asked for in turn and again after a restart.
        """

        def ask(container: jb.Container, options: dict[str, Any]) -> str:
            words = ["sh", "-c", 'echo "$A $PWD $(id -u)"']
            return str(container.exec(words, **options).stdout)

        with jb.Container(HOST) as container:
            # A jail of a single id has no other user.
            other = "7" if has_several_ids(container) else "0"
            for _ in range(2):
                found = [
                    ask(container, options)
                    for options in (
                        {},
                        {},
                        {"env": {"A": "b"}},
                        {"cwd": "/usr"},
                        {"user": other},
                        {},
                    )
                ]
                assert found == [
                    " / 0\n",
                    " / 0\n",
                    "b / 0\n",
                    " /usr 0\n",
                    f" / {other}\n",
                    " / 0\n",
                ]
                container.stop()
                container.start()

    def test_exec_leaves_its_background_to_the_container(self) -> None:
        """
        What an exec left in the background lives on, until the container ends.
        """
        with jb.Container(HOST) as container:
            container.exec("sleep 1000 >&- 2>&- & echo $! > /tmp/pid", shell=True)
            alive = container.exec("kill -0 $(cat /tmp/pid)", shell=True)

            assert alive.ok

    def test_programs_of_one_container_see_each_other(self) -> None:
        """
        Programs share files and processes of their container, and each has its own
        environment, directory and user.
        """
        with jb.Container(HOST, env={"A": "container", "B": "container"}) as container:
            container.exec("mkdir /new; touch /new/x", shell=True)
            result = container.exec(
                'echo "$A $B"; pwd; ls', shell=True, env={"B": "exec"}, cwd="/new"
            )

        assert result.stdout == "container exec\n/new\nx\n"


class TestWarnings:
    def test_a_dropped_process_warns(self) -> None:
        """
        A program that is dropped while it runs is ended, with a ResourceWarning
        (LIB10).
        """
        with jb.Container(HOST) as container:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                container.popen(["sleep", "1000"])
                gc.collect()
            deadline = time.monotonic() + 1
            found = ["sleep"]
            while "sleep" in found and time.monotonic() < deadline:
                names = container.exec("cat /proc/[0-9]*/comm", shell=True).stdout
                found = names.splitlines()

        assert [w.category for w in caught] == [ResourceWarning]
        assert "sleep" in str(caught[0].message)
        assert "sleep" not in found


def _await_log(container: jb.Container, text: bytes) -> None:
    deadline = time.monotonic() + 10
    while text not in b"".join(e.data for e in container.logs()):
        assert time.monotonic() < deadline
        time.sleep(0.002)


class TestNobodyWaits:
    @pytest.mark.slow
    def test_others_use_a_container_that_is_being_stopped(self) -> None:
        """
        While a container has time to end, its state is told and programs run in it.
        """
        script = "trap '' TERM; echo up; while :; do sleep 0.05; done"
        with jb.Container(HOST, ["sh", "-c", script]) as c:
            while not c.logs():
                time.sleep(0.01)
            stopper = threading.Thread(target=c.stop, args=(1.5,))
            stopper.start()
            time.sleep(0.2)
            began = time.monotonic()
            assert c.state == "running"
            assert c.exec(["true"]).ok
            assert time.monotonic() - began < 0.5
            stopper.join()
            assert c.state == "stopped"
            assert c.result is not None
            assert c.result.signal == 9

    @pytest.mark.slow
    def test_removed_while_it_is_being_stopped(self) -> None:
        """
        Somebody may remove a container that another one gives time to end.
        """
        script = "trap '' TERM; echo up; while :; do sleep 0.05; done"
        c = jb.Container(HOST, ["sh", "-c", script]).start()
        while not c.logs():
            time.sleep(0.01)
        stopper = threading.Thread(target=c.stop, args=(20,))
        stopper.start()
        time.sleep(0.1)
        began = time.monotonic()
        c.remove()
        stopper.join()

        assert time.monotonic() - began < 5
        assert c.state is None


class TestDeadlinesOfAPausedContainer:
    @pytest.mark.cgroup
    @pytest.mark.slow
    def test_an_exec_times_out_and_the_container_stays(self) -> None:
        """
        The deadline of a program holds within 50 ms while its container is paused; what
        it said is there, the container goes on, and the program does not.
        """
        script = "echo said; sleep 0.6; touch /went-on; sleep 60"
        with jb.Container(HOST) as c:
            p = c.popen(["sh", "-c", script], timeout=0.5)
            next(iter(p))
            c.pause()
            with pytest.raises(jb.DeadlineExceeded) as caught:
                p.wait()
            late = time.monotonic() - p._deadline  # type: ignore[operator]
            assert 0 <= late < 0.05
            assert caught.value.result is not None
            assert caught.value.result.stdout == "said\n"
            assert c.state == "paused"
            c.resume()
            assert c.exec(["true"]).ok
            deadline = time.monotonic() + 5
            while "sleep" in c.exec(["ps", "-e"]).stdout:
                assert time.monotonic() < deadline
            assert not c.path("/went-on").exists()

    @pytest.mark.cgroup
    @pytest.mark.slow
    def test_waiting_for_an_exec_ends_in_time(self) -> None:
        """
        A wait for a program of a paused container ends when it was to end.
        """
        with jb.Container(HOST) as c:
            p = c.popen(["sleep", "60"])
            c.pause()
            began = time.monotonic()
            with pytest.raises(jb.DeadlineExceeded):
                p.wait(0.2)
            assert time.monotonic() - began < 0.25
            c.resume()
            assert c.exec(["true"]).ok
