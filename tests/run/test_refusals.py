"""
What a request gets that makes no sense, and one whose program cannot be executed.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import jailbox as jb
from jailbox import Limits, Mount
from jailbox.engine.choose import default_engine

pytestmark = pytest.mark.userns

HOST = jb.Image.host()


def _keeper_number() -> int:
    engine: Any = default_engine()
    number: int = engine.keeper().number()
    return number


NONSENSE: list[tuple[str, Callable[[], object], tuple[str, ...]]] = [
    ("argv is a str", lambda: jb.run(HOST, "ls"), ("argv", "'ls'", "shell=True")),
    ("argv is empty", lambda: jb.run(HOST, []), ("argv",)),
    ("argv[0] is empty", lambda: jb.run(HOST, [""]), ("argv[0]",)),
    ("argv with NUL", lambda: jb.run(HOST, ["a\0b"]), ("argv[0]", "NUL")),
    ("shell with a list", lambda: jb.run(HOST, ["a"], shell=True), ("argv", "str")),
    ("relative cwd", lambda: jb.run(HOST, ["true"], cwd="rel"), ("cwd='rel'",)),
    ("unknown user", lambda: jb.run(HOST, ["true"], user="nosuch"),
     ("user='nosuch'", "/etc/passwd", "number")),
    ("unknown group", lambda: jb.run(HOST, ["true"], groups=["nosuch"]),
     ("group='nosuch'", "/etc/group", "number")),
    ("user that is no number", lambda: jb.run(HOST, ["true"], user="1e3"),
     ("user='1e3'",)),
    ("negative user", lambda: jb.run(HOST, ["true"], user=-1), ("user=-1",)),
    ("env name with =", lambda: jb.run(HOST, ["true"], env={"A=B": "x"}), ("env",)),
    ("env with NUL", lambda: jb.run(HOST, ["true"], env={"A": "\0"}), ("env['A']",)),
    ("bad host name", lambda: jb.run(HOST, ["true"], hostname="-x"), ("hostname",)),
    ("bad umask", lambda: jb.run(HOST, ["true"], umask=0o1000), ("umask",)),
    ("unknown network", lambda: jb.run(HOST, ["true"], network="lan"),  # type: ignore[arg-type]
     ("network='lan'", "none", "host")),
    ("unknown stderr", lambda: jb.run(HOST, ["true"], stderr="x"),  # type: ignore[arg-type]
     ("stderr='x'",)),
    ("negative memory", lambda: jb.run(HOST, ["true"], memory=-1), ("memory=-1",)),
    ("absurd memory", lambda: jb.run(HOST, ["true"], memory="1K"), ("memory='1K'",)),
    ("memory twice",
     lambda: jb.run(HOST, ["true"], memory="1G", limits=Limits(memory="1G")),
     ("memory",)),
    ("no processors", lambda: Limits(cpus=0), ("cpus=0",)),
    ("absurd processors", lambda: Limits(cpus=1e9), ("cpus=1000000000.0",)),
    ("no time", lambda: Limits(wall=0), ("wall=0",)),
    ("negative cpu time", lambda: Limits(cpu_time=-1), ("cpu_time=-1",)),
    ("negative processes", lambda: Limits(processes=-1), ("processes=-1",)),
    ("limits of another kind", lambda: jb.run(HOST, ["true"], limits=5),  # type: ignore[arg-type]
     ("limits=5", "Limits(")),
    ("negative timeout", lambda: jb.run(HOST, ["true"], timeout=-1), ("timeout=-1",)),
    ("timeout is text", lambda: jb.run(HOST, ["true"], timeout="x"),  # type: ignore[arg-type]
     ("timeout='x'",)),
    ("timeout is NaN", lambda: jb.run(HOST, ["true"], timeout=float("nan")),
     ("timeout=nan",)),
    ("negative max_output", lambda: jb.run(HOST, ["true"], max_output=-1),
     ("max_output=-1",)),
    ("mount over /proc", lambda: Mount.bind("/etc", "/proc"), ("target='/proc'",)),
    ("mount below /proc", lambda: Mount.tmpfs("/proc/x"), ("target='/proc/x'",)),
    ("relative target", lambda: Mount.tmpfs("x"), ("target='x'",)),
    ("duplicate targets",
     lambda: jb.run(HOST, ["true"], mounts=[Mount.tmpfs("/x"), Mount.tmpfs("/x/")]),
     ("mounts[1].target='/x'", "mounts[0]")),
    ("no mount", lambda: jb.run(HOST, ["true"], mounts=["/x"]),  # type: ignore[list-item]
     ("mounts[0]='/x'",)),
    ("missing source",
     lambda: jb.run(HOST, ["true"], mounts=[Mount.bind("/no/such", "/x")]),
     ("source='/no/such'",)),
    ("descriptor that is closed", lambda: jb.run(HOST, ["true"], pass_fds=[987]),
     ("pass_fds[0]=987", "open")),
    ("descriptor that is none", lambda: jb.run(HOST, ["true"], pass_fds=[-1]),
     ("pass_fds[0]=-1",)),
    ("descriptors that are none", lambda: jb.run(HOST, ["true"], pass_fds=3),  # type: ignore[arg-type]
     ("pass_fds=3",)),
    ("input that is none", lambda: jb.run(HOST, ["true"], input=5),  # type: ignore[arg-type]
     ("input=5",)),
    ("image is no name", lambda: jb.run("De bian", ["true"]), ("image='De bian'",)),
    ("unknown stop signal", lambda: jb.Container(HOST, stop_signal="SIGFOO"),
     ("stop_signal='SIGFOO'", "SIGTERM")),
    ("bad name", lambda: jb.Container(HOST, name="a/b"), ("name='a/b'",)),
    ("bad label", lambda: jb.Container(HOST, labels={"a": 1}), ("labels",)),  # type: ignore[dict-item]
]  # fmt: skip


class TestNonsense:
    @pytest.mark.parametrize(
        ("call", "words"),
        [pytest.param(call, words, id=name) for name, call, words in NONSENSE],
    )
    def test_nonsense_is_named_before_anything_is_done(
        self, call: Callable[[], object], words: tuple[str, ...]
    ) -> None:
        """
        A request that makes no sense is a SpecError with argument, value and what is
        accepted; the keeper is never asked for a jail.
        """
        before = _keeper_number()

        with pytest.raises(jb.SpecError) as caught:
            call()

        text = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", ())])
        assert [word for word in words if word not in text] == []
        # `Keeper.number()` counts; a jail in between would have taken one. The main
        # program of an unknown source is the one that is found out that late.
        assert _keeper_number() - before in {1, 2}

    def test_a_directory_that_is_missing_is_no_image(self) -> None:
        """
        An image directory that does not exist is named.
        """
        with pytest.raises(jb.ImageNotFound, match="/no/such"):
            jb.run(jb.Image.from_dir("/no/such"), ["true"])

    def test_missing_source_creates_nothing(self, tmp_path: Path) -> None:
        """
        A mount whose source is missing makes neither source nor target.
        """
        source = tmp_path / "missing"
        with pytest.raises(jb.SpecError):
            jb.run(HOST, ["true"], mounts=[Mount.bind(source, "/x")])

        assert not source.exists()


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory of things that cannot be executed."""
    place = tmp_path_factory.mktemp("programs")
    ls = Path("/bin/ls").read_bytes()
    contents = {
        "junk": b"junk\n",
        "script": b"#!/no/such/python -u\nprint()\n",
        "crlf": b"#!/bin/sh\r\necho hi\r\n",
        "cut": ls[:100],
        "foreign": ls[:18] + b"\xf7\x00" + ls[20:],  # EM_BPF
        "loader": ls.replace(b"/lib64/ld-linux", b"/lib64/no-linux")
        .replace(b"/lib/ld-linux", b"/lib/no-linux"),
        "closed": b"#!/bin/sh\n",
    }  # fmt: skip
    for name, content in contents.items():
        (place / name).write_bytes(content)
        (place / name).chmod(0o644 if name == "closed" else 0o755)
    place.chmod(0o755)
    return place


class TestExecution:
    @pytest.mark.parametrize(
        ("path", "errno", "kind", "detail", "advice"),
        [
            ("nosuch", "ENOENT", "missing", None, "does not exist"),
            ("/no/such", "ENOENT", "missing", None, "does not exist"),
            ("/usr", "EACCES", "permission", None, "may not be executed"),
            ("/p/closed", "EACCES", "permission", None, "executable bit"),
            ("/p/script", "ENOENT", "interpreter", "/no/such/python", "interpreter"),
            ("/p/crlf", "ENOENT", "interpreter", "/bin/sh\r", "CR"),
            ("/p/loader", "ENOENT", "loader", "no-linux", "dynamic loader"),
            ("/p/foreign", "ENOEXEC", "architecture", "BPF", "processor"),
            ("/p/junk", "ENOEXEC", "format", None, "no program"),
            ("/p/cut", "ENOEXEC", "format", None, "no program"),
        ],
    )
    def test_what_cannot_be_executed_is_explained(
        self,
        programs: Path,
        path: str,
        errno: str,
        kind: str,
        detail: str | None,
        advice: str,
    ) -> None:
        """
        A program that cannot be executed is a LaunchError at the step exec, with the
        errno, the cause and advice; nothing is left.
        """
        with pytest.raises(jb.LaunchError) as caught:
            jb.run(HOST, [path], mounts=[Mount.bind(programs, "/p")])

        error = caught.value
        assert error.step == "exec"
        assert error.filename is None
        assert path in str(error)
        assert errno in str(error)
        assert error.cause is not None
        assert (error.cause.kind, error.cause.path) == (kind, path)
        assert (detail is None) == (error.cause.detail is None)
        assert (detail or "") in (error.cause.detail or "")
        assert advice in (error.hint or "")

    def test_a_closed_program_beats_a_missing_one(self, programs: Path) -> None:
        """
        On a search path, a program that exists but is closed is what is reported.
        """
        with pytest.raises(jb.LaunchError, match="EACCES"):
            jb.run(
                HOST,
                ["closed"],
                env={"PATH": "/p:/usr/bin"},
                mounts=[Mount.bind(programs, "/p")],
            )

    def test_missing_working_directory_is_named(self) -> None:
        """
        A working directory that the jail has not got is a LaunchError at chdir.
        """
        with pytest.raises(jb.LaunchError) as caught:
            jb.run(HOST, ["true"], cwd="/no/such")

        assert caught.value.step == "chdir"
        assert "/no/such" in str(caught.value)

    def test_a_container_lives_on_after_a_refused_exec(self) -> None:
        """
        An exec that is refused leaves its container as it was.
        """
        with jb.Container(HOST) as container:
            with pytest.raises(jb.LaunchError, match="nosuch"):
                container.exec(["nosuch"])

            assert container.exec(["echo", "alive"]).stdout == "alive\n"

    def test_a_container_whose_command_is_missing_does_not_start(self) -> None:
        """
        A start that is refused leaves a container that can be removed.
        """
        container = jb.Container(HOST, ["nosuch"])
        with pytest.raises(jb.LaunchError, match="nosuch"):
            container.start()
        state = container.state
        container.remove()

        assert state == "created"

    def test_arguments_of_a_megabyte_arrive(self) -> None:
        """
        Arguments and variables that are larger than a datagram travel as well.
        """
        words = [f"{n:07d}" + "x" * 1000 for n in range(700)]

        result = jb.run(
            HOST,
            ["sh", "-c", 'printf "%s\\n" "$@"; echo "${#BIG}"', "sh", *words],
            env={"BIG": "y" * 100_000},
            limits=Limits(stack="64M"),
        )

        assert result.stdout.splitlines() == [*words, "100000"]

    def test_arguments_that_are_too_long_are_refused(self) -> None:
        """
        More arguments than the kernel takes are E2BIG, by name.
        """
        with pytest.raises(jb.LaunchError, match="E2BIG"):
            jb.run(HOST, ["true", "x" * (200 * 1024)])

    def test_a_pipe_is_no_program(self, tmp_path: Path) -> None:
        """
        Executing a pipe is refused and does not wait for a writer.
        """
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(jb.LaunchError, match="EACCES"):
            jb.run(HOST, ["/p/pipe"], mounts=[Mount.bind(tmp_path, "/p")], timeout=5)
