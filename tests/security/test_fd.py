"""
FD: which descriptors a program gets, and where it stands.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import jailbox as jb
from tests.leaks import tasks
from tests.security.asking import Answers, Asker, keeper_of

pytestmark = pytest.mark.userns

THREADS = 8
JAILS = 200


def test_fd1_only_the_three_streams(image: jb.Image, ask: Asker) -> None:
    """
    FD1: A program has descriptors 0, 1 and 2, however many inheritable ones, sockets
    and directories the host has open.
    """
    opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(50)]
    opened.append(os.open("/", os.O_RDONLY | os.O_DIRECTORY))
    left, right = socket.socketpair()
    opened += [left.detach(), right.detach()]
    try:
        for fd in opened:
            os.set_inheritable(fd, True)  # noqa: FBT003
        answers = ask(image)
    finally:
        for fd in opened:
            os.close(fd)

    assert {"0", "1", "2"} == answers.group("fd").keys()


def test_fd1_and_those_that_are_passed(image: jb.Image, ask: Asker) -> None:
    """
    FD1: Descriptors that are passed become 3, 4, ..., and there is no other.
    """
    reader, writer = os.pipe()
    try:
        answers = ask(image, pass_fds=[reader, writer])
    finally:
        os.close(reader)
        os.close(writer)

    assert {"0", "1", "2", "3", "4"} == answers.group("fd").keys()
    assert answers["fd.3"] == answers["fd.4"]


@pytest.mark.root
@pytest.mark.slow
def test_fd2_nothing_of_the_host_at_the_exec(ask: Asker, tmp_path: Path) -> None:
    """
    FD2: A child that is stopped right before its execve holds no directory, no socket
    and no file of the host: only its streams.
    """
    if shutil.which("strace") is None:
        pytest.skip("no strace")
    program = (
        "import jailbox as jb, sys\n"
        "jb.run(jb.Image.host(), ['true'])\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "jb.run(jb.Image.host(), ['/bin/true'])\n"
    )
    host = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert host.stdin is not None
    assert host.stdout is not None
    with host:
        assert host.stdout.readline() == b"ready\n"
        keeper = keeper_of(host.pid)
        # The exec of the program is delayed at its entry: long enough to look.
        delay = "inject=execveat:delay_enter=1500000"
        log = tmp_path / "strace"
        words = ["strace", "-f", "-o", str(log), "-e", "trace=execveat", "-e", delay]
        with subprocess.Popen(
            [*words, "-p", str(keeper)], stderr=subprocess.PIPE
        ) as tracer:
            assert tracer.stderr is not None
            assert b"attached" in tracer.stderr.readline()
            host.stdin.write(b"go\n")
            host.stdin.flush()
            links = _links_at_exec(keeper)
            host.stdin.close()
            host.wait(20)
            tracer.terminate()
            tracer.stderr.read()

    assert {0, 1, 2} == links.keys()
    for link in links.values():
        assert re.fullmatch(r"pipe:\[\d+\]|/dev/null", link), links


def _links_at_exec(keeper: int) -> dict[int, str]:
    """What the grandchild of *keeper* holds, once it stands before its exec."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        now = tasks()
        for pid, task in now.items():
            parent = now.get(task.parent)
            if parent is None or parent.parent != keeper:
                continue
            try:
                call = Path(f"/proc/{pid}/syscall").read_text(encoding="ascii")
                if call.split()[0] != "322":  # execveat on x86-64
                    continue
                return {
                    int(fd): os.readlink(f"/proc/{pid}/fd/{fd}")
                    for fd in os.listdir(f"/proc/{pid}/fd")
                }
            except OSError:
                continue
    raise AssertionError("no program stood before its exec")


@pytest.mark.parametrize("number", [3, 4, 5, 6, 7, 8, 10, 16, 20, 32, 64])
def test_fd3_no_way_out_by_a_descriptor(number: int, tmp_path: Path) -> None:
    """
    FD3: A working directory below /proc/self/fd leads nowhere: the program does not
    run (CVE-2024-21626).
    """
    mark = tmp_path / "ran"
    with pytest.raises(jb.LaunchError) as caught:
        jb.run(
            jb.Image.host(),
            ["touch", "/out/ran"],
            cwd=f"/proc/self/fd/{number}",
            mounts=[jb.Mount.bind(tmp_path, "/out", writable=True)],
        )

    assert caught.value.step == "chdir"
    assert not mark.exists()


def test_fd3_the_working_directory_is_inside(answers: Answers) -> None:
    """
    FD3: getcwd(2) says an absolute path of the jail, never "(unreachable)".
    """
    assert answers["cwd.name"] == "/"


def test_fd4_no_input_is_the_jails_null_device(answers: Answers) -> None:
    """
    FD4: Without input, descriptor 0 is the null device of the jail's own /dev.
    """
    assert answers["fd-is-null.0"] == "yes"


def test_fd5_no_stream_is_a_directory(answers: Answers) -> None:
    """
    FD5: None of the three streams can be entered.
    """
    assert answers.group("fchdir") == dict.fromkeys("012", "ENOTDIR")


def test_fd6_the_descriptors_of_init_are_hidden(answers: Answers) -> None:
    """
    FD6: /proc/1/fd cannot be listed.
    """
    assert answers["init.fd"] == "EACCES"


@pytest.mark.slow
def test_fd7_no_race_with_descriptors_of_other_threads(ask: Asker) -> None:
    """
    FD7: FD1 holds in every one of many jails that threads start while another opens
    and closes inheritable descriptors.
    """
    stop = threading.Event()
    seen: list[frozenset[str]] = []

    def disturb() -> None:
        while not stop.is_set():
            fds = [os.open("/", os.O_RDONLY) for _ in range(20)]
            for fd in fds:
                os.set_inheritable(fd, True)  # noqa: FBT003
            for fd in fds:
                os.close(fd)

    def start() -> None:
        image = jb.Image.host()
        for _ in range(JAILS // THREADS):
            # Shell built-ins: nothing else opens a descriptor.
            found = jb.run(image, ["sh", "-c", "echo /proc/self/fd/*"]).stdout
            seen.append(frozenset(found.split()))

    disturber = threading.Thread(target=disturb)
    disturber.start()
    workers = [threading.Thread(target=start) for _ in range(THREADS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    stop.set()
    disturber.join()

    # 3 is the directory that the pattern is matched against.
    expected = frozenset(f"/proc/self/fd/{n}" for n in range(4))
    assert JAILS == len(seen)
    assert {expected} == set(seen)


def test_fd8_output_can_only_be_written(answers: Answers) -> None:
    """
    FD8: Standard output and error are open for writing alone.
    """
    assert [str(os.O_WRONLY)] * 2 == [answers["fd-mode.1"], answers["fd-mode.2"]]


def test_fd9_a_host_without_standard_streams(tmp_path: Path) -> None:
    """
    FD9: In a host process that has closed 0, 1 and 2, where our own descriptors land
    on these numbers, a program still gets its own input and output.
    """
    program = (
        "import os, sys\n"
        "import jailbox as jb\n"
        "os.closerange(0, 3)\n"
        "r = jb.run(jb.Image.host(), ['sh', '-c', 'cat; echo error >&2'], input='in')\n"
        f"open({str(tmp_path / 'result')!r}, 'w').write(repr((r.stdout, r.stderr)))\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)

    result = (tmp_path / "result").read_text(encoding="utf-8")
    assert "('in', 'error\\n')" == result


def test_fd_stdin_is_what_was_given(ask: Asker) -> None:
    """
    FD8: Input comes through a pipe that can only be read.
    """
    result = ask.run(jb.Image.host(), input="x")

    answers = Answers.of(result.stdout)
    assert answers["fd-mode.0"] == str(os.O_RDONLY)
    assert answers["fd.0"].startswith("pipe:")
