"""Advice for every refusal that people meet."""

import errno
import re
from pathlib import Path
from typing import Any

import pytest

from jailbox.linux.facts import Helper, HostFacts, IdRange, Rlimit
from jailbox.linux.hints import _TABLE, STEPS, hint
from tests.linux.cgroup.recordings import machine

HEADER = Path(__file__).parents[2] / "src/jailbox/_native/jailbox.h"


def facts(**more: Any) -> HostFacts:  # noqa: ANN401  # fields of HostFacts
    """Return the facts of a rootless machine on which nothing is wrong."""
    ranges = (IdRange(100000, 65536),)
    helper = Helper("/usr/bin/newuidmap", privileged=True)
    usual: dict[str, Any] = {
        "kernel": (6, 12, 0),
        "release": "6.12.0",
        "arch": "x86_64",
        "euid": 1000,
        "egid": 1000,
        "max_user_namespaces": 1000,
        "subuid": ranges,
        "subgid": ranges,
        "newuidmap": helper,
        "newgidmap": helper,
        "filesystems": ("overlay",),
    }
    return HostFacts(**(usual | more))


class TestTable:
    """The table as a whole."""

    @pytest.mark.parametrize("step", STEPS)
    def test_every_step_has_advice(self, step: str) -> None:
        """There is no step about which nothing is known."""
        assert any(known == step for known, _ in _TABLE)

    def test_only_steps(self) -> None:
        """There is no advice about a step that does not exist."""
        assert {step for step, _ in _TABLE} == set(STEPS)

    def test_steps_of_the_native_part(self) -> None:
        """Every step that the native part reports is known here by its name."""
        names = re.findall(r"^ +JB_STEP_(\w+) =", HEADER.read_text(), re.MULTILINE)

        assert names
        assert {name.lower() for name in names} - {"none"} <= set(STEPS)

    @pytest.mark.parametrize(("step", "number"), _TABLE)
    def test_sentences(self, step: str, number: int) -> None:
        """Every advice is one paragraph of sentences, with and without facts."""
        for known in (None, facts(), facts(cgroups=machine("v2-docker").layout())):
            text = hint(step, number, known, "proc")
            assert text is not None
            assert text[0].isupper() or text.startswith(("/", "proc"))
            assert text.endswith(".")
            assert "\n" not in text
            assert "  " not in text

    def test_loosening_has_a_price(self) -> None:
        """Advice that loosens the host says what that costs."""
        loosening = re.compile(
            r"unconfined|userns=0|userns_clone=1|chmod 0666|max_user_namespaces=|"
            r"add-subuids"
        )
        for known in (
            None,
            facts(max_user_namespaces=0),
            facts(apparmor_restricts_userns=True),
            facts(unprivileged_userns_clone=False),
            facts(seccomp_mode=2),
            facts(newuidmap=None),
        ):
            for step, number in _TABLE:
                text = hint(step, number, known, "proc")
                assert text is not None
                if loosening.search(text):
                    assert "Price: " in text, (step, number)

    def test_unknown(self) -> None:
        """An errno that says it all gets no advice."""
        assert hint("exec", errno.EPIPE) is None
        assert hint("no such step", errno.EPERM) is None

    @pytest.mark.parametrize("step", STEPS)
    @pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EIO])
    def test_anywhere(self, step: str, number: int) -> None:
        """Shortages of the whole program are explained at every step."""
        assert hint(step, number)


class TestFacts:
    """One errno, several causes."""

    @pytest.mark.parametrize(
        ("more", "words"),
        [
            ({"max_user_namespaces": 0}, "sysctl -w user.max_user_namespaces=15000"),
            (
                {"apparmor_restricts_userns": True},
                "kernel.apparmor_restrict_unprivileged_userns=0",
            ),
            (
                {"unprivileged_userns_clone": False},
                "sysctl -w kernel.unprivileged_userns_clone=1",
            ),
            ({"seccomp_mode": 2}, "--security-opt seccomp=unconfined"),
            ({}, "jailbox.doctor() tells which"),
        ],
    )
    @pytest.mark.parametrize("step", ["userns", "clone", "enter", "template"])
    def test_namespaces(self, step: str, more: dict[str, Any], words: str) -> None:
        """The one cause of a refused namespace is told when the facts know it."""
        text = hint(step, errno.EPERM, facts(**more))

        assert text is not None
        assert words in text

    def test_masked_proc(self) -> None:
        """A refused proc mount says what hides it, and how to start the container."""
        text = hint("fs", errno.EPERM, facts(), "proc")

        assert text is not None
        assert "systempaths=unconfined" in text
        assert "unmask=ALL" in text

    def test_sysfs(self) -> None:
        """A refused sysfs mount names the network namespace that it needs."""
        assert "network" in (hint("fs", errno.EPERM, None, "sysfs") or "")

    def test_unknown_file_system(self) -> None:
        """A file system that the kernel lacks is named with its module."""
        assert "modprobe overlay" in (hint("fs", errno.ENODEV, None, "overlay") or "")

    def test_single_id(self) -> None:
        """A refused id map says why there is one id only."""
        text = hint("idmap", errno.EPERM, facts(newuidmap=None))

        assert text is not None
        assert "newuidmap is not installed" in text
        assert "--add-subuids" in text

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("v2-docker", "writable-cgroups=true"),
            ("v2-user-session", "systemd-run --user --scope"),
            ("v2-service-delegated", "DelegateSubgroup=main"),
        ],
    )
    def test_cgroup(self, name: str, words: str) -> None:
        """A refused control group gets the remedy of its layout."""
        text = hint("cgroup", errno.EACCES, facts(cgroups=machine(name).layout()))

        assert text is not None
        assert words in text

    def test_rlimit(self) -> None:
        """A refused resource limit tells the bound that holds here."""
        known = facts(rlimits=(Rlimit("nofile", 1024, 20000),))

        assert "(here 20000)" in (hint("rlimit", errno.EPERM, known, "nofile") or "")
        assert (
            "here" not in (hint("rlimit", errno.EPERM, known, "7") or "").split(".")[0]
        )

    def test_landlock_switched_off(self) -> None:
        """Landlock that is built in but not active is told apart."""
        off = facts(lsms=("capability", "yama"))

        assert "Add it to lsm=" in (hint("landlock", errno.EOPNOTSUPP, off) or "")
        assert "Add it to lsm=" not in (hint("landlock", errno.EOPNOTSUPP) or "")

    def test_old_overlay(self) -> None:
        """An overlay for users on an old kernel is answered with its version."""
        old = facts(kernel=(5, 4, 0), release="5.4.0-x")

        assert "5.4.0-x" in (hint("overlay", errno.EPERM, old) or "")

    def test_missing_program(self) -> None:
        """A missing program is named, and its loader is suspected too."""
        text = hint("exec", errno.ENOENT, None, "/bin/app") or ""

        assert text.startswith("/bin/app does not exist in the jail")
        assert "loader" in text

    def test_processes(self) -> None:
        """Running out of processes tells this user's own bound."""
        known = facts(rlimits=(Rlimit("nproc", 100, 200),))

        assert "this user (100)" in (hint("clone", errno.EAGAIN, known) or "")
