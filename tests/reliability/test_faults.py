"""
Every step of a start is made to fail once: it is named, and nothing is left.

Needs a build with fault injection (``JAILBOX_FAULTS=1``).
"""

import errno

import pytest

import jailbox as jb
from jailbox.engine.local import LocalEngine
from jailbox.linux.messages import STEPS
from jailbox.linux.plan import LaunchPlan
from jailbox.linux.record import Descriptors, encode_start

pytestmark = pytest.mark.userns

HOST = jb.Image.host()

JAIL_STEPS = (
    "cgroup", "clone", "life", "cgroup_join", "fs", "tree", "overlay", "enter",
    "root", "attach", "dir", "link", "node", "mask", "readonly", "sysctl", "hostname",
    "keyring", "identity",
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
    @pytest.mark.parametrize("step", JAIL_STEPS)
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
