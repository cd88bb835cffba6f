"""
Every step of a start is made to fail once: it is named, and nothing is left.

Needs a build with fault injection (``JAILBOX_FAULTS=1``).
"""

import errno
import os

import pytest

import jailbox as jb
from jailbox.engine.local import LocalEngine
from jailbox.linux.messages import STEPS
from jailbox.linux.plan import LaunchPlan, Program
from jailbox.linux.record import Descriptors, encode_exec, encode_start
from jailbox.run import sandbox
from tests.leaks import tasks
from tests.security.asking import keeper_of

pytestmark = pytest.mark.userns

HOST = jb.Image.host()

JAIL_STEPS = (
    "cgroup", "clone", "life", "cgroup_join", "fs", "tree", "overlay", "enter",
    "root", "attach", "dir", "link", "node", "mask", "readonly", "sysctl", "hostname",
    "keyring", "identity",
)  # fmt: skip

# Those of the jail that a start by default takes, then those of its program.
PROGRAM_STEPS = (
    "landlock", "capabilities", "fork", "tty", "stdio", "chdir", "rlimit", "priority",
    "no_new_privs", "seccomp", "exec",
)  # fmt: skip
EXEC_STEPS = (
    "fork", "tty", "stdio", "chdir", "rlimit", "priority", "identity", "capabilities",
    "no_new_privs", "seccomp", "exec",
)  # fmt: skip

# What brings a step about that a start by default does not need.
WANTED: dict[str, dict[str, object]] = {
    "readonly": {"read_only": True},
    "sysctl": {"security": jb.Security(sysctls={"kernel.msgmax": "4096"})},
}

ERRNOS = (
    "EPERM", "ENOENT", "EINVAL", "ENOSPC", "EMFILE", "ENOMEM", "ENOSYS", "EAGAIN",
)  # fmt: skip


def run_with_fault(
    monkeypatch: pytest.MonkeyPatch, step: str, number: int
) -> "jb.Result[str]":
    """Run a program whose start is refused at *step*."""

    def record(_: object, plan: LaunchPlan, fds: Descriptors) -> bytearray:
        return encode_start(plan, fds, fault=(STEPS.index(step), number))

    with monkeypatch.context() as patch:
        patch.setattr(LocalEngine, "record", record)
        return jb.run(
            HOST,
            ["true"],
            memory="64M",
            timeout=10,
            **WANTED.get(step, {}),  # type: ignore[arg-type]
        )


def exec_with_fault(
    monkeypatch: pytest.MonkeyPatch, container: jb.Container, step: str, number: int
) -> "jb.Result[str]":
    """Run a further program in *container* that is refused at *step*."""

    def record(_: sandbox.Sandbox, program: Program, fds: Descriptors) -> bytes:
        return encode_exec(program, fds, fault=(STEPS.index(step), number))

    with monkeypatch.context() as patch:
        patch.setattr(sandbox.Sandbox, "_encoded", record)
        return container.exec(["true"], timeout=10)


def left_in(container: jb.Container) -> tuple[int, int]:
    """Count the processes of the jail, and the descriptors of its init."""
    seen = container.exec(["sh", "-c", "echo /proc/[0-9]*"]).stdout
    keeper = keeper_of(os.getpid())
    inits = [
        task.pid
        for task in tasks().values()
        if task.parent == keeper and task.name == "jailbox-init"
    ]
    (init,) = inits
    # Only root may look into it.
    held = len(os.listdir(f"/proc/{init}/fd")) if os.geteuid() == 0 else 0
    return len(seen.split()), held


@pytest.fixture(scope="module", autouse=True)
def injection() -> None:
    """Skip where the helper was built without fault injection."""
    with pytest.MonkeyPatch.context() as patch:
        try:
            run_with_fault(patch, "clone", errno.EPERM)
        except jb.LaunchError:
            return
    pytest.skip("the helper was built without JAILBOX_FAULTS=1")


class TestFaults:
    @pytest.mark.parametrize("name", ERRNOS)
    @pytest.mark.parametrize("step", [*JAIL_STEPS, *PROGRAM_STEPS])
    def test_a_refused_step_is_named(
        self, monkeypatch: pytest.MonkeyPatch, step: str, name: str
    ) -> None:
        """
        A step that is refused, with whatever errno, is a LaunchError with both, and
        leaves no process, group or descriptor (LIF13, LIB9).
        """
        number = getattr(errno, name)
        with pytest.raises(jb.LaunchError) as caught:
            run_with_fault(monkeypatch, step, number)

        assert (caught.value.step, caught.value.errno) == (step, number)
        assert name in str(caught.value)
        assert step in str(caught.value)

    @pytest.mark.parametrize("step", EXEC_STEPS)
    def test_a_refused_step_of_an_exec_is_named(
        self, monkeypatch: pytest.MonkeyPatch, step: str
    ) -> None:
        """
        A further program that is refused at any step between clone and exec is a
        LaunchError with step and errno; its jail goes on, with nothing left in it
        (LIF13, LIB9).
        """
        with jb.Container(HOST) as container:
            container.exec(["true"])
            before = left_in(container)
            for name in ERRNOS:
                number = getattr(errno, name)
                with pytest.raises(jb.LaunchError) as caught:
                    exec_with_fault(monkeypatch, container, step, number)

                assert (caught.value.step, caught.value.errno) == (step, number)

            assert before == left_in(container)

    def test_the_next_start_works(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A hundred refused starts later the next one works.
        """
        for n in range(100):
            with pytest.raises(jb.LaunchError):
                run_with_fault(
                    monkeypatch, JAIL_STEPS[n % len(JAIL_STEPS)], errno.EPERM
                )

        assert jb.run(HOST, ["echo", "fine"]).stdout == "fine\n"
