"""What a jail may do: defaults, presets, and what is refused."""

import json
import pickle
from typing import Any, TypeAlias

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jailbox.errors import SpecError
from jailbox.spec.capabilities import ALL_CAPABILITIES, DEFAULT_CAPABILITIES
from jailbox.spec.security import (
    DEFAULT_MASKED_PATHS,
    DEFAULT_NETWORK_SYSCTLS,
    DEFAULT_READONLY_PATHS,
    DEFAULT_SECURITY,
    DEGRADABLE,
    Security,
    sysctl_path,
)

# A busy machine is no failure.
UNHURRIED = settings(deadline=None)

# What the types forbid and people pass nevertheless.
Wrong: TypeAlias = Any

PROFILE: dict[str, Any] = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 1,
    "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": []}],
    "syscalls": [
        {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
        {
            "names": ["personality"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}],
        },
        {"name": "mount", "action": "SCMP_ACT_KILL"},
    ],
}


class TestPresets:
    """Three starting points."""

    def test_default(self) -> None:
        """The default is a filter, eleven capabilities, ids of its own, no gains."""
        security = Security.default()

        assert security == Security() == DEFAULT_SECURITY
        assert security.capabilities == DEFAULT_CAPABILITIES
        assert security.seccomp == "default"
        assert security.no_new_privileges
        assert security.userns == "private"
        assert security.masked_paths == DEFAULT_MASKED_PATHS
        assert security.readonly_paths == DEFAULT_READONLY_PATHS
        assert security.loosened() == ()

    def test_default_may_miss_landlock_only(self) -> None:
        """Only Landlock, which older kernels lack, may be missing unasked."""
        assert Security().degrade == {"landlock"}

    def test_strict(self) -> None:
        """Strict has no capability, and nothing of it may be missing."""
        security = Security.strict()

        assert security.capabilities == frozenset()
        assert security.degrade == frozenset()
        assert security.loosened() == ()

    def test_trusted(self) -> None:
        """Trusted says in full what it gives up; ids stay apart from the host's."""
        security = Security.trusted()
        lines = security.loosened()

        assert security.capabilities == ALL_CAPABILITIES
        assert security.userns == "private"
        assert "no filter of system calls" in lines
        assert "setuid programs gain privileges" in lines
        assert "no Landlock" in lines
        assert "keeps CAP_SYS_ADMIN" in lines
        assert "shows /proc/kcore" in lines
        assert "can write /proc/sys" in lines
        assert len(lines) == 30 + 3 + len(DEFAULT_MASKED_PATHS) + 5

    def test_printed(self) -> None:
        """Only what differs from the default is printed, in a fixed order."""
        security = Security(seccomp="unconfined", degrade={"userns", "cgroup"})

        assert repr(Security()) == "Security()"
        assert repr(security) == (
            "Security(seccomp='unconfined', degrade=('cgroup', 'userns'))"
        )
        assert eval(repr(security), {"Security": Security}) == security  # noqa: S307

    @pytest.mark.parametrize(
        "security",
        [
            Security(),
            Security.strict(),
            Security.trusted(),
            Security(seccomp=PROFILE, sysctls={"net.ipv4.ip_forward": 1}),
        ],
        ids=["default", "strict", "trusted", "profile"],
    )
    def test_value(self, security: Security) -> None:
        """Every one is comparable, hashable and picklable."""
        twin = pickle.loads(pickle.dumps(security))  # noqa: S301

        assert twin == security == attrs.evolve(security)
        assert hash(twin) == hash(security)


class TestCapabilities:
    """Adding and dropping."""

    def test_adding(self) -> None:
        """Adding keeps more, in any spelling."""
        security = Security().adding("net_raw", "CAP_MKNOD")

        assert security.capabilities - DEFAULT_CAPABILITIES == {
            "CAP_NET_RAW",
            "CAP_MKNOD",
        }
        assert security.loosened() == ("keeps CAP_MKNOD", "keeps CAP_NET_RAW")

    def test_dropping(self) -> None:
        """Dropping keeps fewer; what was not kept may be dropped too."""
        security = Security().dropping("chown", "sys_admin")

        assert security.capabilities == DEFAULT_CAPABILITIES - {"CAP_CHOWN"}

    def test_all(self) -> None:
        """ALL is every capability, both ways."""
        assert Security().dropping("ALL") == Security(capabilities=())
        assert Security().adding("ALL").capabilities == ALL_CAPABILITIES
        assert Security().dropping("ALL").adding("kill").capabilities == {"CAP_KILL"}

    @pytest.mark.parametrize("value", ["CAP_KILL", ["CAP_X"], [3], None, 3])
    def test_refused(self, value: Wrong) -> None:
        """Unknown names, and one text in place of several, are refused."""
        with pytest.raises(SpecError, match=r"^capabilities[ =]"):
            Security(capabilities=value)


class TestSeccomp:
    """Filters."""

    def test_profile(self) -> None:
        """ISO-04: a profile in the JSON of Docker is taken, and held unchangeable."""
        security = Security(seccomp=json.loads(json.dumps(PROFILE)))

        assert security.seccomp == Security(seccomp=PROFILE).seccomp
        assert not isinstance(security.seccomp, str)
        assert security.seccomp["syscalls"][0]["names"] == ("read", "write")
        assert security.loosened() == ("a filter of system calls of its own",)

    @pytest.mark.parametrize(
        ("profile", "message"),
        [
            ("off", "seccomp='off' is not known"),
            (None, "seccomp is not a mapping but NoneType"),
            ([], "seccomp is not a mapping but list"),
            ({}, "seccomp['defaultAction']=None is not an action"),
            ({"defaultAction": "ALLOW"}, "seccomp['defaultAction']='ALLOW' is not an"),
            (
                {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": {}},
                "seccomp['syscalls']=FrozenMap({}) is not a list",
            ),
            (
                {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": ["read"]},
                "seccomp['syscalls'][0]='read' is not a rule",
            ),
            (
                {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": "read"}]},
                "seccomp['syscalls'][0]['names']='read' is not a list of names",
            ),
            (
                {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"]}]},
                "seccomp['syscalls'][0]['action']=None is not an action",
            ),
            (
                {"defaultAction": "SCMP_ACT_ALLOW", "x": {1, 2}},
                "seccomp is not a JSON document",
            ),
        ],
    )
    def test_refused(self, profile: Wrong, message: str) -> None:
        """A profile that no filter can be made of is refused at the place."""
        with pytest.raises(SpecError) as caught:
            Security(seccomp=profile)
        assert str(caught.value).startswith(message)

    def test_endless_profile(self) -> None:
        """A document that contains itself is refused."""
        profile: dict[str, Any] = {"defaultAction": "SCMP_ACT_ALLOW"}
        profile["self"] = profile

        with pytest.raises(SpecError, match="is not a JSON document"):
            Security(seccomp=profile)


class TestPaths:
    """Masks."""

    def test_default_covers_the_leaks(self) -> None:
        """C.3: what every peer leaves open is masked."""
        for path in (
            "/proc/kallsyms",
            "/proc/kmsg",
            "/sys/kernel/debug",
            "/sys/fs/bpf",
        ):
            assert path in DEFAULT_MASKED_PATHS
        assert len(set(DEFAULT_MASKED_PATHS)) == len(DEFAULT_MASKED_PATHS)

    def test_unmasking(self) -> None:
        """A path can be shown, or made writable, by its name."""
        security = Security().unmasking("/proc/kallsyms/", "/proc/irq")

        assert "/proc/kallsyms" not in security.masked_paths
        assert "/proc/irq" not in security.readonly_paths
        assert security.loosened() == ("shows /proc/kallsyms", "can write /proc/irq")

    def test_unmasking_something_else(self) -> None:
        """A path that is not masked is refused: it may be a typing error."""
        with pytest.raises(SpecError, match="is neither masked nor read only here"):
            Security().unmasking("/proc/kalsyms")

    @pytest.mark.parametrize("field", ["masked_paths", "readonly_paths"])
    @pytest.mark.parametrize(
        "value", ["/proc/x", ["proc/x"], ["/"], ["/proc/../etc"], [3], None, ["/a\0"]]
    )
    def test_refused(self, field: str, value: Wrong) -> None:
        """One text in place of several, relative paths, / and ".." are refused."""
        with pytest.raises(SpecError) as caught:
            Security(**{field: value})
        assert caught.value.argument == field

    def test_spelling(self) -> None:
        """Paths are held in one spelling, each once."""
        security = Security(masked_paths=["//proc//x/", "/proc/x"])

        assert security.masked_paths == ("/proc/x",)


class TestSysctls:
    """Kernel settings of the jail's own."""

    @pytest.mark.parametrize(
        ("key", "path"),
        [
            ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
            ("net/ipv4/ip_forward", "net/ipv4/ip_forward"),
            ("net.ipv4.conf.eth0/1.forwarding", "net/ipv4/conf/eth0.1/forwarding"),
            ("net/ipv4/conf/eth0.1/forwarding", "net/ipv4/conf/eth0.1/forwarding"),
            ("kernel.shmmax", "kernel/shmmax"),
            ("kernel.shm_rmid_forced", "kernel/shm_rmid_forced"),
            ("kernel.msgmax", "kernel/msgmax"),
            ("kernel.sem", "kernel/sem"),
            ("kernel.hostname", "kernel/hostname"),
            ("fs.mqueue.msg_max", "fs/mqueue/msg_max"),
        ],
    )
    def test_path(self, key: str, path: str) -> None:
        """A key names one file, with dots or slashes, as sysctl(8) reads it."""
        assert sysctl_path(key) == path

    @pytest.mark.parametrize(
        "key",
        [
            "",
            "net",
            "net.",
            ".net.x",
            "net..x",
            "net/../kernel/core_pattern",
            "net.ipv4.//.x",
            "net/./x",
            "kernel.core_pattern",
            "kernel/core_pattern",
            "kernel.semaphore",
            "kernel.sem/x",
            "kernel.shm/x",
            "kernel.domainname",
            "fs.mqueue",
            "fs.file-max",
            "vm.swappiness",
            "NET.ipv4.x",
            "net.ipv4.x+kernel.core_pattern",
            "net.ipv4.x=1",
            "net.ipv4.x\n",
            "net.ipv4. x",
            "net.ipv4.\u00e4",
            "net." + "x" * 300,
            "/proc/sys/net/x",
        ],
        ids=lambda key: repr(key)[:40],
    )
    def test_refused_keys(self, key: str) -> None:
        """NT13: what is not a namespaced setting, or no key, is refused."""
        with pytest.raises(ValueError, match=r"^sysctls=.* has a key that is refused"):
            Security(sysctls={key: "1"})

    @pytest.mark.parametrize(
        "value",
        ["", "1\n", "1\n2", "1+x", "\0", "\x1b", "\u00e4", "x" * 5000, 2**64, -(2**64)],
        ids=lambda value: repr(value)[:20],
    )
    def test_refused_values(self, value: Wrong) -> None:
        """NT13: a value is one line of printable ASCII without a plus."""
        with pytest.raises(ValueError, match=r"^sysctls\['net.ipv4.x'\]=.* is refused"):
            Security(sysctls={"net.ipv4.x": value})

    @pytest.mark.parametrize("value", [True, None, 1.5, b"1"], ids=repr)
    def test_refused_types(self, value: Wrong) -> None:
        """A bool is no 1."""
        with pytest.raises(TypeError, match="is not a setting"):
            Security(sysctls={"net.ipv4.x": value})

    @pytest.mark.parametrize("value", [[("net.x", 1)], "net.x=1", None, {3: 1}])
    def test_no_mapping(self, value: Wrong) -> None:
        """Only a mapping from texts is accepted."""
        with pytest.raises(TypeError, match=r"^sysctls"):
            Security(sysctls=value)

    def test_accepted(self) -> None:
        """Numbers become text; what is printed is what is written."""
        security = Security(sysctls={"net.ipv4.ip_forward": 1, "kernel.sem": "1 2 3 4"})

        assert security.sysctls == {"net.ipv4.ip_forward": "1", "kernel.sem": "1 2 3 4"}

    def test_given_twice(self) -> None:
        """Two spellings of one setting are two answers."""
        with pytest.raises(SpecError, match="is given twice"):
            Security(sysctls={"net.ipv4.x": 1, "net/ipv4/x": 2})

    def test_own_defaults_are_allowed(self) -> None:
        """What a private network sets by default passes the same check."""
        assert Security(sysctls=DEFAULT_NETWORK_SYSCTLS).sysctls == (
            DEFAULT_NETWORK_SYSCTLS
        )

    @UNHURRIED
    @given(st.text(st.sampled_from("netkrl./_x0"), max_size=30))
    def test_nothing_slips_through(self, tail: str) -> None:
        """NT13: whatever the spelling, the file is below a directory of the list."""
        for head in ("net.", "net/", "kernel.", "kernel/"):
            try:
                parts = sysctl_path(head + tail).split("/")
            except SpecError:
                continue
            assert not {"", ".", ".."} & set(parts)
            assert parts[0] == "net"


class TestDegrade:
    """Consent to what is missing."""

    def test_degrading(self) -> None:
        """Consent is added to what was allowed before, and is a loosening."""
        security = Security().degrading("memory", "cgroup")

        assert security.degrade == {"landlock", "memory", "cgroup"}
        assert security.loosened() == ("may miss cgroup", "may miss memory")

    @pytest.mark.parametrize("value", ["memory", ["everything"], [3], None, 3, [[]]])
    def test_refused(self, value: Wrong) -> None:
        """Only names of the list can be missing, and never a text letter by letter."""
        with pytest.raises(SpecError, match=r"^degrade[ =]"):
            Security(degrade=value)

    def test_all_names(self) -> None:
        """Every name of the list is accepted."""
        assert Security(degrade=DEGRADABLE).degrade == DEGRADABLE


@pytest.mark.parametrize("field", ["no_new_privileges", "landlock"])
@pytest.mark.parametrize("value", [0, 1, "no", None])
def test_flags(field: str, value: Wrong) -> None:
    """A flag is a bool: "no" would be true."""
    with pytest.raises(TypeError, match=f"^{field}=.* is not a bool"):
        Security(**{field: value})


def test_ids_of_the_host() -> None:
    """Giving up the user namespace is a loosening that says what it means."""
    assert Security(userns="host").loosened() == (
        "ids of the host: root in the jail is root",
    )


@pytest.mark.parametrize("value", ["", "auto", None, True])
def test_userns(value: Wrong) -> None:
    """A user namespace is private or the host's."""
    with pytest.raises(SpecError, match=r"^userns=.*'private' or 'host'\)$"):
        Security(userns=value)
