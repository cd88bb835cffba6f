"""Profiles as OCI, Docker and Podman write them in JSON."""

from collections.abc import Collection
from typing import Any

import pytest

from jailbox.errors import SpecError, SpecTypeError, Unsupported
from jailbox.linux.seccomp import ALLOW, Kind, Profile, program
from jailbox.linux.tables import AUDIT_ARCH
from tests.linux.bpf_machine import run
from tests.linux.seccomp_oracle import ARCHES, ENOSYS, I386, answer

ALLOW_ALL: dict[str, Any] = {"defaultAction": "SCMP_ACT_ALLOW"}


def read(
    *calls: dict[str, Any],
    arch: str = "x86_64",
    capabilities: Collection[str] = (),
    **document: object,
) -> Profile:
    """Read a document with these calls."""
    return Profile.from_document(
        {**ALLOW_ALL, **document, "syscalls": list(calls)},
        arch=arch,
        capabilities=capabilities,
        kernel=(6, 18),
    )


def call(names: str, action: str = "ERRNO", **more: object) -> dict[str, Any]:
    """Write one element of ``syscalls``."""
    return {"names": names.split(), "action": f"SCMP_ACT_{action}", **more}


def arg(index: int, op: str, value: int, two: int | None = None) -> dict[str, Any]:
    """Write one element of ``args``."""
    found: dict[str, Any] = {"index": index, "op": f"SCMP_CMP_{op}", "value": value}
    return found if two is None else {**found, "valueTwo": two}


def said(profile: Profile, name: str, *args: int) -> str:
    """Return what the program of a profile answers, as text."""
    return str(answer(profile, name, *args))


class TestDocument:
    """Profiles as OCI, Docker and Podman write them."""

    @pytest.mark.parametrize(
        ("action", "more", "expected"),
        [
            ("ALLOW", {}, "ALLOW"),
            ("ERRNO", {}, "EPERM"),
            ("ERRNO", {"errnoRet": 38}, "ENOSYS"),
            ("ERRNO", {"errnoRet": 1, "errno": "EINVAL"}, "EINVAL"),
            ("KILL", {}, "KILL_THREAD"),
            ("KILL_THREAD", {}, "KILL_THREAD"),
            ("KILL_PROCESS", {}, "KILL_PROCESS"),
            ("TRAP", {}, "TRAP"),
            ("TRACE", {}, "TRACE(1)"),
            ("TRACE", {"errnoRet": 300}, "TRACE(300)"),
            ("LOG", {}, "LOG"),
        ],
    )
    def test_actions(self, action: str, more: dict[str, Any], expected: str) -> None:
        """Every action means what the specification says, EPERM unless told."""
        profile = read(call("kill", action, **more), defaultAction="SCMP_ACT_TRAP")

        assert said(profile, "kill") == expected

    def test_default(self) -> None:
        """What no rule names gets the default action, with its errno."""
        profile = read(
            call("read mseal", "ALLOW"),
            defaultAction="SCMP_ACT_ERRNO",
            defaultErrnoRet=13,
        )

        assert said(profile, "read") == "ALLOW"
        assert said(profile, "write") == "EACCES"

    @pytest.mark.parametrize(
        ("op", "two", "matching", "others"),
        [
            ("EQ", None, [10], [9, 11]),
            ("NE", None, [9, 11], [10]),
            ("LT", None, [0, 9], [10, 11]),
            ("LE", None, [0, 10], [11]),
            ("GE", None, [10, 2**32 - 1], [9]),
            ("GT", None, [11, 2**32 - 1], [10]),
            ("MASKED_EQ", 8, [8, 9, 12], [10, 2, 0]),
            # What is outside of the mask does not count, as in libseccomp.
            ("MASKED_EQ", 9, [8, 9, 12], [10, 2, 0]),
            ("MASKED_EQ", None, [0, 1, 4], [8, 10, 2]),
        ],
    )
    def test_operators(
        self, op: str, two: int | None, matching: list[int], others: list[int]
    ) -> None:
        """Every operator compares as the specification says."""
        profile = read(call("kill", args=[arg(1, op, 10, two)]))

        assert {said(profile, "kill", 0, each) for each in matching} == {"EPERM"}
        assert {said(profile, "kill", 0, each) for each in others} == {"ALLOW"}

    def test_negative_numbers(self) -> None:
        """``-1`` may be written with 64 bits, and is found in an argument of 32."""
        for value in (2**64 - 1, 2**32 - 1):
            profile = read(call("kill", args=[arg(0, "EQ", value)]))

            assert said(profile, "kill", 2**32 - 1) == "EPERM"
            assert said(profile, "kill", 2**64 - 1) == "EPERM"
            assert said(profile, "kill", 1) == "ALLOW"

    def test_all_of_several_arguments(self) -> None:
        """Comparisons of different arguments must all hold."""
        profile = read(call("kill", args=[arg(0, "EQ", 1), arg(1, "EQ", 9)]))

        assert said(profile, "kill", 1, 9) == "EPERM"
        assert said(profile, "kill", 1, 8) == "ALLOW"
        assert said(profile, "kill", 2, 9) == "ALLOW"

    def test_any_of_one_argument(self) -> None:
        """Comparisons of one argument are alternatives, as in runc."""
        profile = read(call("kill", args=[arg(1, "EQ", 9), arg(1, "EQ", 15)]))

        assert said(profile, "kill", 0, 9) == "EPERM"
        assert said(profile, "kill", 0, 15) == "EPERM"
        assert said(profile, "kill", 0, 1) == "ALLOW"

    def test_unconditional_wins(self) -> None:
        """A rule without conditions wins over those with, wherever it stands."""
        with_condition = call("kill", args=[arg(1, "EQ", 9)], errnoRet=13)
        for calls in ((with_condition, call("kill")), (call("kill"), with_condition)):
            profile = read(*calls)

            assert said(profile, "kill", 0, 9) == "EPERM"

    def test_empty_mask(self) -> None:
        """A comparison of no bits always holds, and is no condition."""
        nothing = call("kill", args=[arg(1, "MASKED_EQ", 0, 5)])
        profile = read(nothing, call("kill", "LOG", args=[arg(1, "EQ", 9)]))

        assert said(profile, "kill", 0, 9) == "EPERM"
        assert said(profile, "kill", 0, 8) == "EPERM"

    def test_first_unconditional_wins(self) -> None:
        """Of two rules without conditions the first one wins."""
        profile = read(call("kill", errnoRet=13), call("kill", errnoRet=22))

        assert said(profile, "kill") == "EACCES"

    def test_strictest_conditional_wins(self) -> None:
        """Of conditions that overlap the strictest one wins, wherever it stands."""
        loose = call("kill", "LOG", args=[arg(1, "EQ", 9)])
        strict = call("kill", args=[arg(1, "LT", 10)])
        for calls in ((loose, strict), (strict, loose)):
            profile = read(*calls)

            assert said(profile, "kill", 0, 9) == "EPERM"
            assert said(profile, "kill", 0, 10) == "ALLOW"

    def test_default_said_again(self) -> None:
        """A rule that only repeats the default does not hide another one."""
        profile = read(call("kill", "ALLOW"), call("kill"))

        assert said(profile, "kill") == "EPERM"

    def test_unknown_calls(self) -> None:
        """A name that is no call is skipped and noted."""
        profile = read(call("kill frobnicate chown32"))

        assert said(profile, "kill") == "EPERM"
        assert profile.ignored == (
            "system call 'chown32': not one of x86_64",
            "system call 'frobnicate': not one of x86_64",
        )

    def test_newer_than_the_document(self) -> None:
        """Calls newer than all that a denying document names are not there."""
        profile = read(
            call("read futex_waitv", "ALLOW"), defaultAction="SCMP_ACT_ERRNO"
        )

        assert said(profile, "mount") == "EPERM"
        assert said(profile, "futex_waitv") == "ALLOW"
        assert said(profile, "cachestat") == "ENOSYS"
        assert run(program(profile), 1000, AUDIT_ARCH["x86_64"]) == ENOSYS.verdict

    def test_unknown_numbers_of_a_passive_document(self) -> None:
        """A document that allows by default allows what nobody knows."""
        profile = read(call("kill"))

        assert run(program(profile), 1000, AUDIT_ARCH["x86_64"]) == ALLOW.verdict

    @pytest.mark.parametrize(
        ("filters", "arch", "applies"),
        [
            ({}, "x86_64", True),
            ({"includes": {"caps": ["CAP_KILL"]}}, "x86_64", True),
            ({"includes": {"caps": ["CAP_KILL", "CAP_BPF"]}}, "x86_64", False),
            ({"includes": {"caps": ["CAP_SOME_DAY"]}}, "x86_64", False),
            ({"excludes": {"caps": ["CAP_KILL", "CAP_BPF"]}}, "x86_64", False),
            ({"excludes": {"caps": ["CAP_BPF"]}}, "x86_64", True),
            ({"includes": {"arches": ["amd64", "x32"]}}, "x86_64", True),
            ({"includes": {"arches": ["amd64", "x32"]}}, "aarch64", False),
            ({"includes": {"arches": ["arm", "arm64"]}}, "aarch64", True),
            ({"excludes": {"arches": ["riscv64"]}}, "riscv64", False),
            ({"includes": {"minKernel": "4.8"}}, "x86_64", True),
            ({"includes": {"minKernel": "6.18"}}, "x86_64", True),
            ({"includes": {"minKernel": "6.19"}}, "x86_64", False),
            ({"excludes": {"minKernel": "4.8"}}, "x86_64", False),
            ({"includes": {}, "excludes": None}, "x86_64", True),
        ],
    )
    def test_includes_excludes(
        self, filters: dict[str, Any], arch: str, *, applies: bool
    ) -> None:
        """Entries count only on the machines and with the capabilities they name."""
        profile = read(call("kill", **filters), arch=arch, capabilities={"kill"})

        assert (said(profile, "kill") == "EPERM") is applies

    def test_name_of_old(self) -> None:
        """An entry may have one ``name``, as profiles of 2016 do."""
        profile = read({"name": "kill", "action": "SCMP_ACT_ERRNO", "args": []})

        assert said(profile, "kill") == "EPERM"

    def test_architectures(self) -> None:
        """Other ABIs that a document lists do not run, and are noted."""
        wanted = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
        listed = read(call("kill"), architectures=wanted)
        mapped = read(
            call("kill"),
            archMap=[
                {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["x"]},
                {"architecture": wanted[0], "subArchitectures": wanted[1:]},
            ],
        )

        assert listed == mapped
        assert listed.ignored == mapped.ignored
        assert listed.ignored[0].startswith("architecture 'SCMP_ARCH_X32'")
        assert run(program(listed), 20, I386) == Kind.KILL_PROCESS.value

    def test_flags(self) -> None:
        """Known flags are noted; one is kept anyway."""
        profile = read(
            flags=["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]
        )

        assert profile.ignored == ("flag SECCOMP_FILTER_FLAG_SPEC_ALLOW",)

    def test_unknown_keys_on_top(self) -> None:
        """A key that decides about no call is skipped and noted."""
        assert read(extra=1, call=2).ignored == ("key 'call'", "key 'extra'")

    def test_ignored_is_no_content(self) -> None:
        """Documents that differ in what is skipped give equal profiles."""
        assert read(call("kill nonsense")) == read(call("kill"))

    @pytest.mark.parametrize(
        ("document", "message"),
        [
            ({}, "seccomp.defaultAction=None is not an action"),
            ({"defaultAction": "allow"}, "seccomp.defaultAction='allow' is not an"),
            ({"defaultAction": ["x"]}, r"seccomp.defaultAction=\['x'\] is not an"),
            ({"defaultAction": "SCMP_ACT_NOTIFY"}, "seccomp.defaultAction=.*supported"),
            (
                {**ALLOW_ALL, "defaultErrnoRet": 1},
                "seccomp.defaultErrnoRet means nothing with SCMP_ACT_ALLOW",
            ),
            ({**ALLOW_ALL, "syscalls": {}}, "seccomp.syscalls={} is not a list"),
            ({**ALLOW_ALL, "syscalls": [3]}, r"seccomp.syscalls\[0\]=3 is not an obj"),
            ({**ALLOW_ALL, "listenerPath": "/x"}, "seccomp.listenerPath='/x' is not"),
            ({**ALLOW_ALL, "flags": ["X"]}, "seccomp.flags='X' has an unknown flag"),
            ({**ALLOW_ALL, "architectures": ["X"]}, "seccomp.architectures='X' has an"),
            (
                {**ALLOW_ALL, "architectures": ["SCMP_ARCH_X86"], "archMap": [{}]},
                "seccomp has both architectures and archMap",
            ),
        ],
    )
    def test_refused(self, document: dict[str, Any], message: str) -> None:
        """What makes no sense is refused, with the place and what is accepted."""
        with pytest.raises(SpecError, match=f"^{message}"):
            Profile.from_document(document, arch="x86_64", capabilities=())

    @pytest.mark.parametrize(
        ("entry", "message"),
        [
            ({"action": "SCMP_ACT_ALLOW"}, ".names is missing"),
            ({"names": ["x"]}, ".action=None is not an action"),
            (call("x", name="y"), " has both name and names"),
            (call("x", "NOTIFY"), ".action='SCMP_ACT_NOTIFY' is not supported"),
            (call("x", "FLY"), ".action='SCMP_ACT_FLY' is not an action"),
            (call("x", errnoRet=4096), ".errnoRet=4096 is out of range"),
            (call("x", errnoRet=True), ".errnoRet=True is not a whole number"),
            (call("x", errno="EFLY"), ".errno='EFLY' is not an errno"),
            (call("x", errno=[]) | {"errno": [1]}, r".errno=\[1\] is not an errno"),
            (call("x", "ALLOW", errnoRet=1), ".errnoRet means nothing with"),
            (call("x", arg=[]), "='arg' has an unknown key"),
            ({**call(""), "names": [3]}, r".names\[0\]=3 is not a text"),
            ({**call(""), "names": [""]}, r".names\[0\] is empty"),
            ({**call(""), "names": "kill"}, ".names='kill' is not a list"),
            (call("x", args=[{}]), r".args\[0\].op=None is not an operator"),
            (call("x", args=[arg(6, "EQ", 0)]), r".args\[0\].index=6 is out of"),
            (call("x", args=[arg(-1, "EQ", 0)]), r".args\[0\].index=-1 is out of"),
            (call("x", args=[arg(0, "EQ", 2**64)]), r".args\[0\].value=\d+ is out"),
            (call("x", args=[arg(0, "IS", 0)]), r".args\[0\].op='SCMP_CMP_IS' is not"),
            (
                call("x", args=[{"index": 0, "op": "SCMP_CMP_EQ"}]),
                r".args\[0\].value is missing",
            ),
            (
                call("x", args=[{"value": 0, "op": "SCMP_CMP_EQ"}]),
                r".args\[0\].index is missing",
            ),
            (call("x", includes={"cap": []}), ".includes='cap' has an unknown key"),
            (call("x", includes={"minKernel": "6"}), ".includes.minKernel='6' is not"),
            (call("x", excludes={"minKernel": 6}), ".excludes.minKernel=6 is not"),
        ],
    )
    def test_refused_entry(self, entry: dict[str, Any], message: str) -> None:
        """An entry must be understood word for word, with names we know or not."""
        with pytest.raises(SpecError, match=rf"^seccomp\.syscalls\[0\]{message}"):
            read(entry)

    def test_wrong_type(self) -> None:
        """A wrong type is a TypeError too."""
        with pytest.raises(SpecTypeError, match=r"^seccomp=\[\] is not an object"):
            Profile.from_document([], arch="x86_64", capabilities=())  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            read(call("x", args=3))

    def test_unknown_architecture(self) -> None:
        """An architecture without a table is a fact about the machine."""
        with pytest.raises(Unsupported, match="sparc64"):
            read(arch="sparc64")

    def test_hint(self) -> None:
        """Who asks for a supervisor is told what to use instead."""
        with pytest.raises(SpecError) as caught:
            read(call("mount", "NOTIFY"))

        assert "SCMP_ACT_ERRNO" in (caught.value.hint or "")

    @pytest.mark.parametrize("arch", ARCHES)
    def test_like_docker(self, arch: str) -> None:
        """A document in the shape of Docker's own is read and obeyed."""
        profile = read(
            call("read write exit_group getxattrat futex_waitv", "ALLOW"),
            call("ptrace", "ALLOW", includes={"minKernel": "4.8"}),
            *(
                call("socket", "ALLOW", args=[arg(0, "EQ", family)])
                for family in (1, 2, 10)
            ),
            call("mount clone clone3", "ALLOW", includes={"caps": ["CAP_SYS_ADMIN"]}),
            call(
                "clone",
                "ALLOW",
                args=[arg(0, "MASKED_EQ", 2114060288)],
                excludes={"caps": ["CAP_SYS_ADMIN"], "arches": ["s390"]},
            ),
            call("clone3", errnoRet=38, excludes={"caps": ["CAP_SYS_ADMIN"]}),
            arch=arch,
            defaultAction="SCMP_ACT_ERRNO",
            defaultErrnoRet=1,
        )
        expected: dict[tuple[str, int], str] = {
            ("read", 0): "ALLOW",
            ("reboot", 0): "EPERM",
            ("ptrace", 0): "ALLOW",
            ("socket", 10): "ALLOW",
            ("socket", 38): "EPERM",
            ("socket", 38 | 1 << 32): "EPERM",
            ("mount", 0): "EPERM",
            ("clone", 17): "ALLOW",
            ("clone", 0x10000011): "EPERM",
            ("clone3", 0): "ENOSYS",
            ("file_getattr", 0): "ENOSYS",
        }

        assert {
            (name, first): said(profile, name, first) for name, first in expected
        } == expected
