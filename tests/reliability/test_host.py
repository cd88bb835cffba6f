"""
The host process: many threads, forks, event loops, odd signals and descriptors; and
what it must not notice.
"""

import asyncio
import contextlib
import gc
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import jailbox as jb

pytestmark = pytest.mark.userns

HOST = jb.Image.host()


def python(code: str, **options: object) -> "subprocess.CompletedProcess[str]":
    """Run Python code in a host process of its own."""
    return subprocess.run(  # type: ignore[call-overload, no-any-return]  # noqa: PLW1510
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        **{"capture_output": True, "text": True, "timeout": 60, "check": False}
        | options,
    )


class TestThreads:
    def test_many_threads_run_at_once(self) -> None:
        """
        32 threads with 20 runs each: every result is right (ASY-05).
        """
        wrong: list[object] = []

        def work(thread: int) -> None:
            for n in range(20):
                text = f"{thread}-{n}"
                result = jb.run(HOST, ["echo", text], env={"X": text}, timeout=30)
                if result.stdout != f"{text}\n" or not result.ok:
                    wrong.append(result)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert wrong == []

    def test_a_jail_outlives_the_thread_that_started_it(self) -> None:
        """
        The end of a thread does not end what it started (LIF3).
        """
        made: list[jb.Container] = []
        thread = threading.Thread(
            target=lambda: made.append(jb.Container(HOST, ["sleep", "99"]).start())
        )
        thread.start()
        thread.join()
        time.sleep(0.05)
        with made[0] as container:
            assert container.state == "running"

    def test_many_threads_use_one_container(self) -> None:
        """
        Execs of one container run side by side, each with its own output.
        """
        wrong: list[object] = []

        def work(thread: int) -> None:
            for n in range(20):
                result = container.exec(["echo", f"{thread}-{n}"], timeout=30)
                if result.stdout != f"{thread}-{n}\n":
                    wrong.append(result)

        with jb.Container(HOST) as container:
            threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        assert wrong == []

    def test_the_interpreter_is_free_while_we_wait(self) -> None:
        """
        Another thread never stands still for 50 ms during a hundred starts (LIB3).
        """
        gaps: list[float] = []
        done = threading.Event()

        def beat() -> None:
            last = time.monotonic()
            while not done.is_set():
                time.sleep(0.001)
                now = time.monotonic()
                gaps.append(now - last)
                last = now

        thread = threading.Thread(target=beat)
        thread.start()
        for _ in range(100):
            jb.run(HOST, ["true"])
        done.set()
        thread.join()

        assert max(gaps) < 0.05

    def test_environments_do_not_mix(self) -> None:
        """
        Two hundred jails at once from 16 threads: each sees its own variables, and is
        right (LIF15, LIF16).
        """
        wrong: list[object] = []
        gate = threading.Barrier(16)

        def work(thread: int) -> None:
            gate.wait()
            with contextlib.ExitStack() as stack:
                jails = [
                    (
                        n,
                        stack.enter_context(
                            jb.Container(HOST, env={"N": f"{thread}.{n}"})
                        ),
                    )
                    for n in range(13)
                ]
                for n, container in jails:
                    found = container.exec(["sh", "-c", "echo $N"]).stdout
                    if found != f"{thread}.{n}\n":
                        wrong.append(found)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert wrong == []


class TestFork:
    def test_a_forked_child_has_its_own_keeper(self) -> None:
        """
        After os.fork() the child runs jails of its own, and its end leaves the
        parent's jails alone (LIB4).
        """
        result = python(
            """
            import os, jailbox as jb
            H = jb.Image.host()
            with jb.Container(H) as parents:
                pid = os.fork()
                if pid == 0:
                    assert jb.run(H, ["echo", "child"]).stdout == "child\\n"
                    with jb.Container(H) as own:
                        assert own.exec(["true"]).ok
                    parents.remove()
                    os._exit(0)
                assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
                assert parents.exec(["echo", "parent"]).stdout == "parent\\n"
            print("fine")
            """
        )

        assert (result.stdout, result.stderr) == ("fine\n", "")

    def test_a_child_that_exits_normally_leaves_the_parent_alone(self) -> None:
        """
        Finalizers that run in a forked child do not end the parent's jails.
        """
        result = python(
            """
            import os, sys, jailbox as jb
            with jb.Container(jb.Image.host()) as parents:
                process = parents.popen(["cat"], stdin=True)
                pid = os.fork()
                if pid == 0:
                    sys.exit(0)
                os.waitpid(pid, 0)
                print(process.communicate("alive").stdout)
            """
        )

        assert result.stdout == "alive\n"

    def test_multiprocessing_works(self) -> None:
        """
        Forked workers of multiprocessing run jails.
        """
        result = python(
            """
            import multiprocessing as mp
            import jailbox as jb
            def work(n): return jb.run(jb.Image.host(), ["echo", str(n)]).stdout
            work(0)
            with mp.get_context("fork").Pool(2) as pool:
                print(pool.map(work, range(4)))
            """
        )

        assert result.stdout == "['0\\n', '1\\n', '2\\n', '3\\n']\n", result.stderr


class TestLoops:
    def test_run_works_inside_a_running_loop(self) -> None:
        """
        The blocking face works where an event loop runs, as in a notebook.
        """

        async def main() -> str:
            return str(jb.run(HOST, ["echo", "hi"]).stdout)

        assert asyncio.run(main()) == "hi\n"

    def test_run_works_in_an_executor(self) -> None:
        """
        Runs in the threads of a loop go side by side with its subprocesses (LIF11).
        """

        async def main() -> list[object]:
            async def native(n: int) -> str:
                process = await asyncio.create_subprocess_exec(
                    "echo", str(n), stdout=asyncio.subprocess.PIPE
                )
                out, _ = await process.communicate()
                return out.decode()

            async def jailed(n: int) -> str:
                result = await asyncio.to_thread(jb.run, HOST, ["echo", str(n)])
                return str(result.stdout)

            return await asyncio.gather(
                *(native(n) if n % 2 else jailed(n) for n in range(40))
            )

        assert asyncio.run(main()) == [f"{n}\n" for n in range(40)]


@contextlib.contextmanager
def sigchld(handler: object) -> Iterator[None]:
    """Handle SIGCHLD differently for a while."""
    before = signal.signal(signal.SIGCHLD, handler)  # type: ignore[arg-type]
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)


class TestSignals:
    def test_ignored_sigchld_changes_nothing(self) -> None:
        """
        Exit codes are right in a host that ignores SIGCHLD (LIF11).
        """
        with sigchld(signal.SIG_IGN):
            codes = [
                jb.run(HOST, ["sh", "-c", f"exit {n}"]).exit_code for n in range(20)
            ]

        assert codes == list(range(20))

    def test_a_handler_that_reaps_everything_sees_nothing_of_ours(self) -> None:
        """
        A host that calls waitpid(-1) on SIGCHLD never meets a process of ours.
        """
        met: list[int] = []

        def reap(*_: object) -> None:
            with contextlib.suppress(ChildProcessError):
                while (pid := os.waitpid(-1, os.WNOHANG)[0]) > 0:
                    met.append(pid)

        with sigchld(reap):
            codes = [
                jb.run(HOST, ["sh", "-c", f"exit {n}"]).exit_code for n in range(50)
            ]
            with jb.Container(HOST) as container:
                container.exec(["true"])

        assert codes == list(range(50))
        assert met == []

    def test_the_host_is_unchanged(self) -> None:
        """
        Directory, umask, signals, namespaces, groups, limits and children of the host
        are the same after jails as before jailbox was imported (LIB5, LIB6).
        """
        result = python(
            """
            import os, pathlib, signal, resource
            def snapshot():
                read = lambda p: pathlib.Path(p).read_text()
                status = read("/proc/self/status").splitlines()
                names = ("Umask", "Sig", "Shd", "Cap", "NoNew", "Seccomp", "Uid",
                         "Groups", "Threads")
                return {
                    "status": [l for l in status if l.startswith(names)],
                    "cwd": os.getcwd(), "environ": dict(os.environ),
                    "ns": [os.readlink(f"/proc/self/ns/{n}")
                           for n in sorted(os.listdir("/proc/self/ns"))],
                    "cgroup": read("/proc/self/cgroup"),
                    "mounts": read("/proc/self/mountinfo"),
                    "oom": read("/proc/self/oom_score_adj"),
                    "handlers": [signal.getsignal(s) for s in signal.valid_signals()],
                    "limits": [resource.getrlimit(n) for n in range(16)],
                    "children": read("/proc/self/task/%d/children" % os.getpid()),
                }
            before = snapshot()
            import jailbox as jb
            assert snapshot() == before
            for _ in range(5):
                jb.run(jb.Image.host(), ["true"], memory="64M")
            with jb.Container(jb.Image.host()) as c:
                c.exec(["true"])
            after = snapshot()
            print([k for k in before if before[k] != after[k]])
            """
        )

        assert (result.stdout, result.stderr) == ("[]\n", "")


class TestDescriptors:
    def test_a_host_without_standard_streams_works(self, tmp_path: Path) -> None:
        """
        Descriptors 0 to 2 of the host may be closed (LIB11).
        """
        report = tmp_path / "report"
        python(
            f"""
            import os
            for fd in range(3): os.close(fd)
            import jailbox as jb
            r = jb.run(jb.Image.host(), ["sh", "-c", "cat; echo out; echo err >&2"],
                       input="in ")
            with jb.Container(jb.Image.host()) as c:
                e = c.exec(["cat"], input="exec")
            with open({str(report)!r}, "w") as file:
                file.write(repr((r.stdout, r.stderr, e.stdout)))
            """
        )

        assert report.read_text() == repr(("in out\n", "err\n", "exec"))

    def test_few_descriptors_are_a_named_error(self) -> None:
        """
        A host without descriptors gets EMFILE by name, and can go on when some are
        free again (LIF14).
        """
        result = python(
            """
            import os, resource, jailbox as jb
            H = jb.Image.host()
            jb.run(H, ["true"])
            resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
            held = []
            try:
                while True: held.append(os.open("/dev/null", os.O_RDONLY))
            except OSError: pass
            try: jb.run(H, ["true"]); print("no error")
            except OSError as error: print(error.errno)
            for fd in held: os.close(fd)
            print(jb.run(H, ["echo", "again"]).stdout, end="")
            """
        )

        assert (result.stdout, result.stderr) == ("24\nagain\n", "")

    def test_a_soft_limit_of_32_is_enough(self) -> None:
        """
        Jails run in a host that opens no more than 32 files by its soft limit.
        """
        result = python(
            """
            import resource
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (32, hard))
            import jailbox as jb
            H = jb.Image.host()
            print(all(jb.run(H, ["echo", "x"]).stdout == "x\\n" for _ in range(30)))
            """
        )

        assert (result.stdout, result.stderr) == ("True\n", "")

    def test_a_hard_limit_of_32_works_or_is_named(self) -> None:
        """
        Where even the keeper may open no more than 32 files, a start works (as root)
        or the error names descriptors; nothing is told to have been killed.
        """
        result = python(
            """
            import resource
            resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
            import jailbox as jb
            try: print(jb.run(jb.Image.host(), ["echo", "x"]).stdout, end="")
            except (jb.LaunchError, jb.EngineError) as error:
                print("descriptor" in error.hint)
            """
        )

        assert result.stdout in {"x\n", "True\n"}
        assert result.stderr == ""

    def test_nothing_grows(self) -> None:
        """
        After 300 runs there are as many descriptors and threads as before, and hardly
        more memory (ASY-06, LIB13).
        """

        def cycle(count: int) -> None:
            for _ in range(count):
                jb.run(HOST, ["true"])

        cycle(50)
        gc.collect()
        before = _resources()
        cycle(300)
        gc.collect()
        after = _resources()

        assert after[:2] == before[:2]
        assert after[2] - before[2] < 512 << 10


def _resources() -> tuple[int, int, int]:
    with open("/proc/self/statm", encoding="ascii") as file:
        resident = int(file.read().split()[1]) * resource.getpagesize()
    return len(os.listdir("/proc/self/fd")), threading.active_count(), resident


class TestExit:
    @pytest.mark.parametrize(
        "leave",
        ["pass", "sys.exit(3)", "os._exit(3)", "raise SystemExit", "raise ValueError",
         "os.kill(os.getpid(), 15)", "os.kill(os.getpid(), 9)"],
    )  # fmt: skip
    def test_nothing_survives_the_host(self, leave: str) -> None:
        """
        However a host ends, its containers and the keeper end too (LIF5).
        """
        result = python(
            f"""
            import os, sys, jailbox as jb
            c = jb.Container(jb.Image.host()).start()
            script = "trap '' TERM HUP; setsid sleep 1000 & sleep 1000"
            p = c.popen(["sh", "-c", script])
            d = jb.Container(jb.Image.host(), ["sleep", "1000"]).start()
            d.pause()
            print(os.getpid(), flush=True)
            {leave}
            """
        )
        pid = result.stdout.strip()

        assert pid.isdigit(), result.stderr
        assert _gone_within(1.0, pid) == []

    def test_the_end_of_the_interpreter_is_quiet(self) -> None:
        """
        Objects that are alive at the end of the interpreter make no noise (LIB10).
        """
        result = python(
            """
            import jailbox as jb
            c = jb.Container(jb.Image.host()).start()
            p = c.popen(["sleep", "1000"])
            q = c.path("/tmp")
            """
        )

        assert (result.stdout, result.stderr, result.returncode) == ("", "", 0)


def _gone_within(seconds: float, host: str) -> list[str]:
    """Wait for a keeper of *host* to leave its run directory; what is left."""
    deadline = time.monotonic() + seconds
    while True:
        left = [n for n in os.listdir("/run/jailbox") if n.startswith(f"{host}-")]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.005)


class TestKeeper:
    def test_a_keeper_that_was_killed_is_replaced(self) -> None:
        """
        When the keeper is killed from outside, running calls say so, everything of it
        is gone, and the next start makes a new one.
        """
        result = python(
            """
            import os, signal, time, jailbox as jb
            from jailbox.engine.choose import default_engine
            H = jb.Image.host()
            c = jb.Container(H).start()
            keeper = default_engine().keeper()
            signal.pidfd_send_signal(keeper.pidfd, signal.SIGKILL)
            deadline = time.monotonic() + 2
            while c.state != "stopped" and time.monotonic() < deadline: time.sleep(0.01)
            print(c.state)
            print(jb.run(H, ["echo", "new"]).stdout, end="")
            try: c.start(); print("started")
            except jb.EngineError as error: print("EngineError")
            c.remove()
            with jb.Container(H) as d: print(d.exec(["echo", "fine"]).stdout, end="")
            """
        )

        assert result.stderr == ""
        assert result.stdout.splitlines() == ["stopped", "new", "EngineError", "fine"]

    def test_a_run_whose_keeper_is_killed_ends(self) -> None:
        """
        A run whose keeper dies is an EngineError, at once.
        """
        result = python(
            """
            import signal, threading, time, jailbox as jb
            from jailbox.engine.choose import default_engine
            H = jb.Image.host()
            jb.run(H, ["true"])
            keeper = default_engine().keeper()
            end = lambda: signal.pidfd_send_signal(keeper.pidfd, 9)
            threading.Timer(0.2, end).start()
            began = time.monotonic()
            try: print(jb.run(H, ["sleep", "30"]))
            except jb.EngineError: print("EngineError")
            print(time.monotonic() - began < 2)
            jb.run(H, ["true"])
            """
        )

        assert result.stderr == ""
        assert result.stdout.splitlines() == ["EngineError", "True"]

    def test_a_stopped_host_finds_its_results(self) -> None:
        """
        A host that was stopped for a while finds everything as it went on (LIF19).
        """
        host = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(
                """
                import jailbox as jb
                print("up", flush=True)
                r = jb.run(jb.Image.host(), ["sh", "-c", "sleep 0.3; seq 1000; exit 5"])
                print(r.exit_code, len(r.stdout.split()), r.verdict)
                """)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        with host:
            assert host.stdout is not None
            host.stdout.readline()
            time.sleep(0.2)
            host.send_signal(signal.SIGSTOP)
            time.sleep(0.6)
            host.send_signal(signal.SIGCONT)

            assert host.stdout.read() == "5 1000 exit\n"


class TestBursts:
    def test_no_byte_is_lost(self) -> None:
        """
        Short programs and bursts of 10 MB, again and again: every byte arrives
        (CTR-09, C10).
        """
        for n in range(200):
            assert jb.run(HOST, ["echo", str(n)]).stdout == f"{n}\n"
        for _ in range(5):
            result = jb.run(HOST, ["head", "-c", "10000000", "/dev/zero"], text=False)
            assert len(result.stdout) == 10_000_000

    def test_no_byte_of_an_exec_is_lost(self) -> None:
        """
        The same for programs of one container.
        """
        with jb.Container(HOST) as container:
            for n in range(300):
                assert container.exec(["echo", str(n)]).stdout == f"{n}\n"
            for _ in range(5):
                result = container.exec(
                    ["head", "-c", "10000000", "/dev/zero"], text=False
                )
                assert len(result.stdout) == 10_000_000
