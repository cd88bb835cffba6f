"""
Containers that outlive the program that started them.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

import jailbox as jb
from jailbox import Container, ContainerState, Image

pytestmark = pytest.mark.userns

NAME = f"outlives-{os.getpid()}"


def elsewhere(code: str) -> str:
    """Run *code* in another process, and return what it prints."""
    prelude = "from jailbox import *\nimport os, signal\n"
    done = subprocess.run(
        [sys.executable, "-c", f"{prelude}name = {NAME!r}\n{code}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout


@pytest.fixture(autouse=True)
def removed() -> Iterator[None]:
    """Whatever a test starts is removed at its end."""
    yield
    try:
        Container.get(NAME).remove()
    except jb.NotFound:
        return


START = "Container(Image.host(), {command}, name=name, detach=True).start()\n"


class TestOutliving:
    """Who started it is gone."""

    def test_it_runs_on_after_its_program(self) -> None:
        """A detached container runs on when the program that started it has ended."""
        elsewhere(START.format(command="['sleep', '60']"))

        found = Container.get(NAME)

        assert found.state is ContainerState.RUNNING
        assert "sleep" in found.exec(["cat", "/proc/2/cmdline"]).stdout

    def test_it_survives_a_kill_of_its_program(self) -> None:
        """It runs on when the program that started it is killed."""
        prelude = "from jailbox import *\nimport os, signal\n"
        code = START.format(command="['sleep', '60']")
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                f"{prelude}name = {NAME!r}\n{code}os.kill(os.getpid(), 9)",
            ],
            timeout=60,
            check=False,
        )

        assert done.returncode == -signal.SIGKILL
        assert Container.get(NAME).exec(["echo", "here"]).stdout == "here\n"

    def test_files_written_by_one_are_read_by_another(self) -> None:
        """Every process that finds it sees the same files."""
        elsewhere(START.format(command="['sleep', '60']"))
        elsewhere("Container.get(name).path('/tmp/x').write_text('from afar')")

        assert Container.get(NAME).path("/tmp/x").read_text() == "from afar"

    def test_its_log_and_exit_code_are_kept(self) -> None:
        """What it wrote and how it ended is known to whoever asks later."""
        elsewhere(
            START.format(command="['sh', '-c', 'echo one; echo two >&2; exit 7']")
            + "Container.get(name).wait(timeout=30)"
        )

        found = Container.get(NAME)
        result = found.wait(timeout=30)

        assert found.state is ContainerState.STOPPED
        assert result.exit_code == 7
        assert [(e.stream, e.text) for e in found.logs()] == [
            ("stdout", "one\n"),
            ("stderr", "two\n"),
        ]

    def test_any_process_may_stop_it(self) -> None:
        """A process that found it can stop it; the others see that."""
        elsewhere(START.format(command="['sleep', '60']"))
        found = Container.get(NAME)

        elsewhere("Container.get(name).stop(1)")

        assert found.wait(timeout=30).signal == signal.SIGTERM
        assert found.state is ContainerState.STOPPED

    def test_a_stopped_one_is_refused_with_the_reason(self) -> None:
        """
        Its files ended with it: to reach them, or to start it as if they had not, is
        refused with what to do instead.
        """
        elsewhere(START.format(command="['true']"))
        found = Container.get(NAME)
        found.wait(timeout=30)

        for action in (found.start, found.changes, found.path("/x").read_bytes):
            with pytest.raises(jb.StateError, match="is stopped") as caught:
                action()
            assert "ends with its jail" in "".join(caught.value.__notes__)
        assert found.state is ContainerState.STOPPED

    def test_any_process_may_remove_it(self) -> None:
        """After a removal there is no container of that name, for anybody."""
        elsewhere(START.format(command="['sleep', '60']"))
        found = Container.get(NAME)

        elsewhere("Container.get(name).remove()")

        assert found.state is None
        with pytest.raises(jb.NotFound, match=NAME):
            Container.get(NAME)


class TestViews:
    """Objects for it come and go; the container stays."""

    def test_dropping_the_object_leaves_it_alone(self) -> None:
        """Neither the object that started it nor one that found it ends it."""
        Container(Image.host(), ["sleep", "60"], name=NAME, detach=True).start()
        Container.get(NAME)

        assert Container.get(NAME).state is ContainerState.RUNNING

    def test_it_is_listed(self) -> None:
        """The list of containers has it, with its labels."""
        labels = {"for": NAME}
        elsewhere(
            "Container(Image.host(), name=name, detach=True, "
            f"labels={labels!r}).start()"
        )

        assert [c.name for c in Container.list(labels)] == [NAME]

    def test_a_name_is_given_once(self) -> None:
        """A second container of the name is refused, and the first one unharmed."""
        elsewhere(START.format(command="['sleep', '60']"))

        with pytest.raises(jb.SpecError, match="taken"):
            Container(Image.host(), name=NAME, detach=True).start()

        assert Container.get(NAME).state is ContainerState.RUNNING

    def test_a_start_that_fails_leaves_nothing(self) -> None:
        """A program that cannot be executed is an error, and the name is free."""
        with pytest.raises(jb.LaunchError, match="nosuch"):
            Container(Image.host(), ["nosuch"], name=NAME, detach=True).start()

        with pytest.raises(jb.NotFound):
            Container.get(NAME)
