"""
EX: programs that join a running jail, and what goes in and out of it.
"""

import contextlib
import hashlib
import os
import re
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import jailbox as jb
from jailbox._native import lib
from tests.leaks import tasks
from tests.security.asking import PROBE, Answers, Asker
from tests.security.conftest import Rounds

pytestmark = pytest.mark.userns

EXECS_SECONDS = 1.0
COPIES_SECONDS = 2.0

# What may differ between two programs of one jail.
OF_THE_PROGRAM = re.compile(
    r"(status\.(Vm|Rss|voluntary|nonvoluntary|N?S?[Tt]g?id|NS|Pid|PPid|SigQ|State|Name)"
    r"|proc\.pids|uts\.|fd\.|call\.get_mempolicy|mountinfo|filled|ns\.|burn).*"
)


def digest(path: str) -> str:
    """The content of a file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_ex1_equal_to_the_main_program(image: jb.Image, ask: Asker) -> None:
    """
    EX1: A program that joins has the same capabilities, filter, ids, namespaces,
    groups and masks as the main one.
    """
    main = ask(image)
    with jb.Container(image, mounts=[ask.mount]) as jail:
        first = Answers.of(jail.exec([PROBE], check=True).stdout)
        second = Answers.of(jail.exec([PROBE], check=True).stdout)

    def compared(answers: Answers) -> dict[str, str]:
        return {
            name: value
            for name, value in answers.lines.items()
            if not OF_THE_PROGRAM.fullmatch(name) and not name.endswith("_map")
        }

    # What the first one made, the second one finds.
    made = {"mknod.fifo", "root.chroot"}
    left, right = compared(main), compared(first)
    assert {k: v for k, v in left.items() if right.get(k) != v} == {}
    third = {k: v for k, v in compared(second).items() if k not in made}
    assert {k: v for k, v in third.items() if right.get(k) != v} == {}
    assert first.group("ns") == second.group("ns")
    assert {m.place for m in main.mounts.values()} == set(first.mounts)


@pytest.mark.slow
def test_ex2_nobody_looks_into_who_joins(ask: Asker, rounds: Rounds) -> None:
    """
    EX2: While programs join, root of the jail cannot look into them or trace them
    before they are the program that was asked for (CVE-2016-9962).
    """
    with jb.Container(jb.Image.host(), mounts=[ask.mount]) as jail:  # noqa: SIM117
        with jail.popen([PROBE, "spy", "/tmp/stop"]) as spy:
            for _ in rounds(EXECS_SECONDS):
                jail.exec(["true"])
            jail.exec(["touch", "/tmp/stop"])
            answers = Answers.of(spy.communicate(timeout=20).stdout)

    rounds.came["looks"] = int(answers["spy.looked"])
    rounds.came["hits"] = int(answers["spy.hits"])
    assert int(answers["spy.looked"]) > rounds.played > 10
    assert "0" == answers["spy.hits"], answers.text


class TestExecutables:
    def test_ex3_own_executable(self, ask: Asker, tmp_path: Path) -> None:
        """
        EX3: Programs and scripts that execute /proc/self/exe, and programs that write
        to it, change neither the host's Python, nor our extension, nor the helper
        (CVE-2019-5736).
        """
        files = [sys.executable, lib_file()]
        before = [digest(path) for path in files]
        script = (
            "printf '#!/proc/self/exe\\n' > /tmp/script; chmod +x /tmp/script;"
            "/tmp/script; /proc/self/exe -c true; (echo x > /proc/1/exe);"
            "(echo x > /proc/$PPID/exe); true"
        )
        for _ in range(3):
            jb.run(jb.Image.host(), ["sh", "-c", script], timeout=10)
        with pytest.raises(jb.LaunchError):
            jb.run(jb.Image.host(), ["/proc/1/exe"])

        assert before == [digest(path) for path in files]
        assert jb.run(jb.Image.host(), ["true"]).ok

    @pytest.mark.root
    def test_ex3_the_helper_is_sealed(self) -> None:
        """
        EX3: The helper is a file in memory that nobody, not even its owner, can write.
        """
        keepers = [
            pid
            for pid, task in tasks().items()
            if task.name == "jailbox-keeper" and _watches(pid, os.getpid())
        ]

        assert keepers
        for pid in keepers:
            assert "memfd:" in os.readlink(f"/proc/{pid}/exe")
            with pytest.raises(OSError):
                os.close(os.open(f"/proc/{pid}/exe", os.O_WRONLY))
            fd = os.open(f"/proc/{pid}/exe", os.O_RDONLY)
            try:
                import fcntl

                seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
            finally:
                os.close(fd)
            wanted = (
                fcntl.F_SEAL_SEAL
                | fcntl.F_SEAL_SHRINK
                | fcntl.F_SEAL_GROW
                | fcntl.F_SEAL_WRITE
            )
            assert wanted == seals & wanted


def lib_file() -> str:
    """Where our extension is."""
    import jailbox._native

    directory = Path(jailbox._native.__file__).parent
    (file,) = directory.glob("_lib*.so")
    assert lib is not None
    return str(file)


def _watches(pid: int, host: int) -> bool:
    for fd in os.listdir(f"/proc/{pid}/fdinfo"):
        info = Path(f"/proc/{pid}/fdinfo/{fd}").read_text(encoding="ascii")
        if f"\nPid:\t{host}\n" in info:
            return True
    return False


@pytest.mark.parametrize("number", [3, 5, 8, 16, 64])
def test_ex4_working_directory(number: int) -> None:
    """
    EX4: Nor does a program that joins start in a directory that a descriptor leads to.
    """
    with jb.Container(jb.Image.host()) as jail:
        with pytest.raises(jb.LaunchError) as caught:
            jail.exec(["true"], cwd=f"/proc/self/fd/{number}")
        assert "chdir" == caught.value.step
        assert jail.exec(["pwd"]).stdout == "/\n"


FLIP = (
    "cd /tmp; echo inside > real; ln -s {target} link; mkdir dir;"
    " ln -s {directory} trap;"
    "while :; do mv -T real x; mv -T link real; mv -T x link;"
    " mv -T dir y; mv -T trap dir; mv -T y trap; done"
)


@pytest.mark.slow
class TestCopies:
    def test_ex5_out(self, tmp_path: Path, rounds: Rounds) -> None:
        """
        EX5: While a file flips to a link out of the jail, what is copied out is never
        a file of the host (CVE-2018-15664).
        """
        canary = tmp_path / "canary"
        canary.write_text("of the host")
        canary.chmod(0o644)
        flip = FLIP.format(target=canary, directory=tmp_path)
        seen = set()
        with jb.Container(jb.Image.host()) as jail:  # noqa: SIM117
            with jail.popen(["sh", "-c", flip]) as process:
                target = tmp_path / "copy"
                for _ in rounds(COPIES_SECONDS):
                    try:
                        jail.get("/tmp/real", target)
                    except (jb.JailboxError, OSError) as error:
                        rounds.came[type(error).__name__] += 1
                        continue
                    if target.is_symlink():
                        rounds.came["the link"] += 1
                        assert os.readlink(target) == str(canary)
                    else:
                        rounds.came["the file"] += 1
                        seen.add(target.read_text())
                    target.unlink()
                process.kill()
        assert rounds.played > 10
        assert seen == {"inside\n"}

    def test_ex6_in(self, tmp_path: Path, rounds: Rounds) -> None:
        """
        EX6: While a directory flips to a link out of the jail, what is copied in never
        ends up on the host.
        """
        canary = tmp_path / "canary"
        canary.mkdir()
        canary.chmod(0o777)
        (canary / "file").write_text("of the host")
        (canary / "file").chmod(0o666)
        before = (os.stat(canary), os.stat(canary / "file"))
        source = tmp_path / "file"
        source.write_text("copied")
        flip = FLIP.format(target=canary / "file", directory=canary)
        with jb.Container(jb.Image.host()) as jail:  # noqa: SIM117
            with jail.popen(["sh", "-c", flip]) as process:
                for n in rounds(COPIES_SECONDS):
                    try:
                        jail.put(source, ("/tmp/dir/file", "/tmp/real")[n % 2])
                        rounds.came["copied"] += 1
                    except (jb.JailboxError, OSError) as error:
                        rounds.came[type(error).__name__] += 1
                process.kill()

        after = (os.stat(canary), os.stat(canary / "file"))
        assert rounds.played > 10
        assert rounds.came["copied"]
        assert ["file"] == os.listdir(canary)
        assert "of the host" == (canary / "file").read_text()
        assert [(s.st_mode, s.st_uid, s.st_mtime_ns, s.st_ino) for s in before] == [
            (s.st_mode, s.st_uid, s.st_mtime_ns, s.st_ino) for s in after
        ]

    @pytest.mark.parametrize("path", ["/tmp/fifo", "/dev/zero", "/proc/kmsg", "/tmp/s"])
    def test_ex7_never_a_hang(self, path: str, tmp_path: Path) -> None:
        """
        EX7: A pipe, a device, a socket or a file without an end is an entry of its own
        kind or an error, at once.
        """
        make = "import socket, os; os.mkfifo('/tmp/fifo');"
        make += "socket.socket(socket.AF_UNIX).bind('/tmp/s')"
        with jb.Container(jb.Image.host()) as jail:
            jail.exec(["python3", "-c", make], check=True)
            began = time.monotonic()
            with contextlib.suppress(jb.JailboxError, OSError):
                jail.get(path, tmp_path / "copy")
            took = time.monotonic() - began

        assert took < 1
        copy = tmp_path / "copy"
        if copy.exists():
            assert copy.stat().st_size == 0


class TestPoison:
    MARK = "poisoned"

    def test_ex8_ex9_nothing_of_the_image_runs(
        self, rootfs: Callable[[], Path], ask: Asker, tmp_path: Path
    ) -> None:
        """
        EX8, EX9: Libraries, modules and programs of an image that our own code might
        load or run (name services, encodings, xz) are never run: not at a start, not
        by a lookup of a user, not by a copy (CVE-2019-14271).
        """
        root = rootfs()
        script = f"#!/bin/sh\necho {self.MARK} > /mark\n"
        for name in ("xz", "unpigz", "zstd", "tar", "gzip", "newuidmap"):
            file = root / "usr/bin" / name
            file.parent.mkdir(exist_ok=True, parents=True)
            file.write_text(script)
            file.chmod(0o755)
        (root / "etc/ld.so.preload").write_text("/evil.so\n")
        (root / "etc/nsswitch.conf").write_text("passwd: evil\ngroup: evil\n")
        for place in ("lib/x86_64-linux-gnu", "lib64", "usr/lib"):
            (root / place).mkdir(parents=True, exist_ok=True)
            (root / place / "libnss_evil.so.2").write_text(script)
        for place in [p for p in sys.path if p.startswith("/")]:
            for name in ("warnings.py", "sitecustomize.py", "encodings/idna.py"):
                file = root / place.lstrip("/") / name
                if not file.parent.is_dir() and file.parent.exists():
                    continue
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(f"open('/mark', 'w').write({self.MARK!r})\n")
        source = tmp_path / "source"
        source.mkdir()
        (source / "archive.tar.xz").write_bytes(b"\xfd7zXZ\x00")
        with jb.Container(jb.Image.from_dir(root), mounts=[ask.mount]) as jail:
            jail.exec([PROBE, "nothing"], check=True)
            jail.exec([PROBE, "nothing"], user="root", check=True)
            jail.put(source, "/put")
            jail.get("/put", tmp_path / "got")
            found = jail.exec(["/bin/ls", "/"]).stdout.split()

        assert "mark" not in found
        assert not os.path.exists("/mark")
        assert (tmp_path / "got/archive.tar.xz").exists()


def test_ex10_a_timeout_ends_its_tree_alone() -> None:
    """
    EX10: A timeout of one program ends everything that it started, by setsid, nohup or
    double fork, and nothing else of the jail.
    """
    marker = f"jb{os.urandom(6).hex()}"
    script = (
        f"setsid sh -c 'sleep 60; : {marker}' & nohup sh -c 'sleep 60; : {marker}' &"
        f"(setsid sh -c 'sleep 60; : {marker}' &) ; sleep 60; : {marker}"
    )
    with jb.Container(jb.Image.host()) as jail:  # noqa: SIM117
        with jail.popen(["sh", "-c", "read line; echo alive"], stdin=True) as main:
            with pytest.raises(jb.DeadlineExceeded):
                jail.exec(["sh", "-c", script], timeout=0.4)
            left = _processes_with(marker)
            answer = main.communicate("go\n", timeout=5)

    assert [] == left
    assert "alive\n" == answer.stdout


def _processes_with(marker: str) -> list[int]:
    found = []
    for pid in tasks():
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if marker.encode() in line and pid != os.getpid():
            found.append(pid)
    return found


class TestStates:
    @pytest.mark.parametrize("state", ["created", "stopped", "removed"])
    def test_ex11_wrong_states(self, state: str, tmp_path: Path) -> None:
        """
        EX11: To run something in a jail that does not run is an error that says so, at
        once; so is to copy out of one that is gone.
        """
        jail = jb.Container(jb.Image.host())
        if state != "created":
            jail.start()
        if state == "stopped":
            jail.stop()
        if state == "removed":
            jail.remove()
        began = time.monotonic()
        try:
            with pytest.raises(jb.JailboxError):
                jail.exec(["true"])
            with pytest.raises(jb.JailboxError):
                jail.popen(["true"])
            if state == "removed":
                with pytest.raises(jb.JailboxError):
                    jail.get("/etc/passwd", tmp_path / "x")
        finally:
            jail.remove()

        assert time.monotonic() - began < 1

    @pytest.mark.cgroup
    def test_ex11_a_paused_jail(self) -> None:
        """
        EX11: To run something in a paused jail is an error, or waits no longer than it
        was told.
        """
        with jb.Container(jb.Image.host()) as jail:
            jail.pause()
            began = time.monotonic()
            with pytest.raises(jb.JailboxError):
                jail.exec(["true"], timeout=0.3)
            assert time.monotonic() - began < 1
            jail.resume()
            assert jail.exec(["true"]).ok


@pytest.mark.slow
def test_ex12_nothing_adds_up(ask: Asker) -> None:
    """
    EX12: After hundreds of programs and terminals in one jail, descriptors and threads
    are as many as before.
    """
    with jb.Container(jb.Image.host()) as jail:
        jail.exec(["true"])
        before = (len(os.listdir("/proc/self/fd")), threading.active_count())
        for number in range(200):
            if number % 4:
                jail.exec(["true"])
            else:
                with jail.popen(["true"], tty=True) as process:
                    process.resize(100, 30)
                    process.wait(5)
        after = (len(os.listdir("/proc/self/fd")), threading.active_count())

    assert before == after
