"""What is concluded about a machine, from what it says about itself."""

import json
import os
import pickle
import time
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jailbox.linux.facts import (
    Helper,
    HostFacts,
    IdRange,
    Readings,
    Rlimit,
    existing,
    facts_from,
    parse_id_map,
    parse_release,
    parse_status,
    parse_subordinate,
    read_facts,
    take_readings,
)

ALL_CAPS = "000001ffffffffff"
DOCKER_CAPS = "00000000a80425fb"

STATUS = """\
Name:\tpython3
Uid:\t1000\t1000\t1000\t1000
CapEff:\t{caps}
CapBnd:\t{caps}
NoNewPrivs:\t{nnp}
Seccomp:\t{seccomp}
"""

MOUNTS = """\
22 28 0:20 / /proc rw,nosuid - proc proc rw
28 1 254:1 / / rw,relatime - ext4 /dev/vda1 rw
"""

WHOLE = "         0          0 4294967295\n"

RANGES = "alice:100000:65536\n1000:200000:10\nbob:300000:65536\n"


def readings(  # the defaults are an ordinary user with everything installed
    *,
    caps: str = "0000000000000000",
    nnp: int = 0,
    seccomp: int = 0,
    texts: dict[str, str] | None = None,
    **more: Any,  # noqa: ANN401  # fields of Readings
) -> Readings:
    """Return the readings of a machine."""
    usual = {
        "/etc/subuid": RANGES,
        "/etc/subgid": RANGES,
        "/proc/filesystems": "nodev\tproc\nnodev\toverlay\n\text4\n",
        "/proc/self/mountinfo": MOUNTS,
        "/proc/self/status": STATUS.format(caps=caps, nnp=nnp, seccomp=seccomp),
        "/proc/self/uid_map": WHOLE,
        "/proc/swaps": "Filename\tType\tSize\tUsed\tPriority\n",
        "/proc/sys/kernel/seccomp/actions_avail": "kill_process errno allow\n",
        "/proc/sys/user/max_user_namespaces": "96365\n",
    }
    helper = Helper("/usr/bin/newuidmap", privileged=True)
    defaults: dict[str, Any] = {
        "release": "6.12.9-amd64",
        "machine": "x86_64",
        "euid": 1000,
        "egid": 1000,
        "user": "alice",
        "helpers": (("newuidmap", helper), ("newgidmap", helper)),
        "namespaces": ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"),
    }
    return Readings(texts=usual | (texts or {}), **(defaults | more))


class TestParsing:
    """Text to values."""

    @pytest.mark.parametrize(
        ("release", "expected"),
        [
            ("6.18.44-fc-v669", (6, 18, 44)),
            ("6.1.0-28-amd64", (6, 1, 0)),
            ("5.4", (5, 4, 0)),
            ("6.19-rc1", (6, 19, 0)),
            ("4.18.0-553.el8_10.x86_64", (4, 18, 0)),
            ("5.15.0+", (5, 15, 0)),
            ("odd", (0, 0, 0)),
            ("", (0, 0, 0)),
        ],
    )
    def test_release(self, release: str, expected: tuple[int, int, int]) -> None:
        """A release is read as far as it is numbers."""
        assert parse_release(release) == expected

    def test_status(self) -> None:
        """The fields of /proc/self/status are read by name."""
        fields = parse_status("Name:\tx\nCapEff:\t00ff\nbroken\n")

        assert fields == {"Name": "x", "CapEff": "00ff"}

    def test_id_map(self) -> None:
        """An id map is rows of three numbers; others are passed over."""
        assert parse_id_map("  0 1000 1\n 1 100000 65536\nx y z\n") == (
            (0, 1000, 1),
            (1, 100000, 65536),
        )

    def test_subordinate_by_name_and_number(self) -> None:
        """Ranges belong to a user by name or by number, and to nobody else."""
        assert parse_subordinate(RANGES, "alice", 1000) == (
            IdRange(100000, 65536),
            IdRange(200000, 10),
        )
        assert parse_subordinate(RANGES, "carol", 1) == ()

    @pytest.mark.parametrize(
        "line", ["alice:1", "alice:x:1", "alice:1:0", "alice:-1:5", "#alice:1:2", "::"]
    )
    def test_subordinate_nonsense(self, line: str) -> None:
        """A line that gives no ids gives no ids."""
        assert parse_subordinate(line, "alice", 1000) == ()

    def test_subordinate_of_nobody(self) -> None:
        """A user without a name owns no lines without one."""
        assert parse_subordinate(":1:65536\n", "", 1000) == ()

    @given(st.text(), st.text())
    def test_never_fails(self, one: str, two: str) -> None:
        """Whatever the files say is read without an exception."""
        parse_release(one)
        parse_status(one)
        parse_id_map(one)
        parse_subordinate(one, two, 0)

    @given(
        st.dictionaries(
            st.sampled_from(sorted(readings().texts)).filter(
                lambda path: path != "/proc/self/status"
            ),
            st.text(),
        )
    )
    def test_facts_of_nonsense(self, texts: dict[str, str]) -> None:
        """Facts can be concluded from files of any content."""
        facts_from(readings(texts=texts)).describe()

    def test_facts_of_nothing(self) -> None:
        """A machine that shows no file is one that can do little, and not an error."""
        facts = facts_from(
            Readings(texts={}, release="6.1", machine="riscv64", euid=5, egid=5)
        )

        assert not facts.is_rootful
        assert not facts.has_user_namespaces
        assert not facts.has_seccomp
        assert not facts.has_overlay
        assert facts.id_mode == "single"
        assert facts.cgroups.backend == "none"


class TestRoot:
    """Who has root's rights."""

    def test_root(self) -> None:
        """Root with all capabilities in the first user namespace is rootful."""
        facts = facts_from(readings(caps=ALL_CAPS, euid=0, user="root"))

        assert facts.is_rootful
        assert facts.id_mode == "private"

    def test_without_sys_resource(self) -> None:
        """Root without CAP_SYS_RESOURCE is rootful, but cannot raise limits."""
        facts = facts_from(
            readings(
                caps="000001fffeffffff",
                euid=0,
                rlimits=(Rlimit("nofile", 1024, 20000), Rlimit("core", 0, -1)),
            )
        )

        assert facts.is_rootful
        assert facts.clamped("nofile", 10**6) == 20000
        assert facts.clamped("nofile", -1) == 20000
        assert facts.clamped("nofile", 512) == 512
        assert facts.clamped("core", -1) == -1
        assert facts.clamped("unheard", 7) == 7

    def test_with_sys_resource(self) -> None:
        """Limits are lowered with CAP_SYS_RESOURCE too: a jail has it not."""
        facts = facts_from(
            readings(caps=ALL_CAPS, euid=0, rlimits=(Rlimit("nofile", 9, 9),))
        )

        assert facts.clamped("nofile", 10**6) == 9

    def test_root_of_a_container(self) -> None:
        """User 0 with a container's capabilities is not rootful."""
        facts = facts_from(readings(caps=DOCKER_CAPS, euid=0))

        assert not facts.is_rootful

    def test_root_of_a_user_namespace(self) -> None:
        """All capabilities in a user namespace are not root's rights."""
        facts = facts_from(
            readings(
                caps=ALL_CAPS,
                euid=0,
                texts={"/proc/self/uid_map": "0 100000 65536\n"},
            )
        )

        assert not facts.initial_user_namespace
        assert not facts.is_rootful
        assert not facts.can_idmap_mounts

    def test_user_with_capabilities(self) -> None:
        """Capabilities count, not the number of the user."""
        assert facts_from(readings(caps=ALL_CAPS, euid=1000)).is_rootful


class TestIds:
    """Which ids the users of a jail get."""

    def test_subordinate(self) -> None:
        """With ranges and helpers a jail gets many ids."""
        facts = facts_from(readings())

        assert facts.id_mode == "subuid"
        assert facts.why_single_id is None

    @pytest.mark.parametrize(
        ("more", "why"),
        [
            ({"helpers": ()}, "newuidmap is not installed"),
            (
                {"helpers": (("newuidmap", Helper("/x/newuidmap", privileged=False)),)},
                "/x/newuidmap is neither set-user-id nor has capabilities",
            ),
            ({"nnp": 1}, "no_new_privs is set, so newuidmap has no rights"),
            (
                {"texts": {"/etc/subuid": "bob:1:65536\n"}},
                "/etc/subuid gives this user fewer than 65536 ids",
            ),
            (
                {"texts": {"/etc/subgid": "alice:1:1000\n"}},
                "/etc/subgid gives this user fewer than 65536 ids",
            ),
        ],
    )
    def test_single(self, more: dict[str, Any], why: str) -> None:
        """Where anything of it is missing a jail has one id, and the reason is told."""
        facts = facts_from(readings(**more))

        assert facts.id_mode == "single"
        assert facts.why_single_id == why


class TestUserNamespaces:
    """Which switches forbid them."""

    def test_allowed(self) -> None:
        """Without a switch they are there."""
        assert facts_from(readings()).has_user_namespaces

    def test_none(self) -> None:
        """A maximum of zero forbids them, to root too."""
        texts = {"/proc/sys/user/max_user_namespaces": "0\n"}

        assert not facts_from(readings(texts=texts)).has_user_namespaces
        rootful = facts_from(readings(texts=texts, caps=ALL_CAPS, euid=0))
        assert not rootful.has_user_namespaces

    def test_debian_switch(self) -> None:
        """Debian's switch forbids them to users, not to root."""
        texts = {"/proc/sys/kernel/unprivileged_userns_clone": "0\n"}

        assert not facts_from(readings(texts=texts)).has_user_namespaces
        assert facts_from(
            readings(texts=texts, caps=ALL_CAPS, euid=0)
        ).has_user_namespaces

    @pytest.mark.parametrize(
        ("label", "stripped"),
        [
            ("unconfined\n", True),
            ("", True),
            ("my-python (unconfined)\n", False),
            ("chrome (enforce)\n", False),
        ],
    )
    def test_apparmor(self, label: str, *, stripped: bool) -> None:
        """Ubuntu's switch strips programs that no profile allows."""
        texts = {
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n",
            "/proc/self/attr/current": label,
        }
        facts = facts_from(readings(texts=texts))

        assert facts.userns_stripped_by_apparmor is stripped
        assert facts.has_user_namespaces is not stripped

    def test_apparmor_spares_root(self) -> None:
        """Ubuntu's switch does not concern a program with CAP_SYS_ADMIN."""
        texts = {"/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n"}
        facts = facts_from(readings(texts=texts, caps=ALL_CAPS, euid=0))

        assert facts.apparmor_restricts_userns
        assert not facts.userns_stripped_by_apparmor


class TestNesting:
    """What a container around us leaves to be seen."""

    def test_bare(self) -> None:
        """A bare machine does not seem nested."""
        assert not facts_from(readings()).seems_nested

    def test_filter(self) -> None:
        """A seccomp filter upon us is seen."""
        facts = facts_from(readings(seccomp=2, caps=DOCKER_CAPS, euid=0))

        assert facts.seccomp_mode == 2
        assert facts.seems_nested

    def test_masks(self) -> None:
        """Covered parts of /proc are named; what only adds a file system is none."""
        text = MOUNTS + (
            "30 22 0:9 / /proc/sys/fs/binfmt_misc rw - binfmt_misc binfmt_misc rw\n"
            "31 22 0:9 / /proc/fs/nfsd rw - nfsd nfsd rw\n"
            "32 22 0:5 /null /proc/kcore rw - tmpfs tmpfs rw\n"
            "33 22 0:20 /sys /proc/sys ro - proc proc rw\n"
        )
        facts = facts_from(readings(texts={"/proc/self/mountinfo": text}))

        assert facts.masked_proc == ("/proc/kcore", "/proc/sys")
        assert facts.seems_nested


class TestKernelAbilities:
    """What a version brings."""

    @pytest.mark.parametrize(
        ("name", "since", "rootful"),
        [
            ("has_new_mount_api", (5, 2, 0), False),
            ("can_clone_into_cgroup", (5, 7, 0), False),
            ("can_overlay", (5, 11, 0), False),
            ("can_set_mount_attributes", (5, 12, 0), False),
            ("can_idmap_mounts", (5, 12, 0), True),
            ("can_overlay_idmapped", (5, 19, 0), True),
            ("overlay_appends_layers", (6, 7, 0), False),
            ("has_binfmt_namespaces", (6, 7, 0), False),
            ("overlay_takes_descriptors", (6, 13, 0), False),
            ("can_mount_on_detached", (6, 15, 0), False),
        ],
    )
    def test_since(
        self, name: str, since: tuple[int, int, int], *, rootful: bool
    ) -> None:
        """An ability begins with its version, and not one earlier."""
        caps = ALL_CAPS if rootful else "0"
        base = facts_from(readings(caps=caps))
        major, minor, _ = since
        before = (major, minor - 1, 99) if minor else (major - 1, 99, 99)

        assert getattr(attrs.evolve(base, kernel=since), name) is True
        assert getattr(attrs.evolve(base, kernel=before), name) is False

    def test_overlay_module_on_disk(self) -> None:
        """An overlay that is not loaded yet counts if its module is there."""
        texts = {"/proc/filesystems": "\text4\n"}

        assert not facts_from(readings(texts=texts)).has_overlay
        assert facts_from(readings(texts=texts, modules=("overlay",))).has_overlay

    def test_root_may_always_overlay(self) -> None:
        """Root mounts overlays on kernels where users may not."""
        facts = facts_from(readings(caps=ALL_CAPS, release="5.4.0"))

        assert facts.can_overlay

    def test_execution_from_memory(self) -> None:
        """Only the strictest setting of memfd_noexec forbids the helper."""
        path = "/proc/sys/vm/memfd_noexec"
        allowed = {
            value: facts_from(readings(texts={path: f"{value}\n"})).memfd_exec
            for value in (0, 1, 2)
        }

        assert allowed == {0: True, 1: True, 2: False}
        assert facts_from(readings()).memfd_exec

    def test_time_namespaces(self) -> None:
        """Time namespaces are there if the kernel names them."""
        assert facts_from(readings()).has_time_namespaces
        assert not facts_from(readings(namespaces=("user",))).has_time_namespaces

    def test_swap(self) -> None:
        """Swap is in use if a device is listed below the heading."""
        heading = readings().texts["/proc/swaps"]
        used = heading + "/dev/vdb partition 1 0 -2\n"

        assert not facts_from(readings()).swap_in_use
        assert facts_from(readings(texts={"/proc/swaps": used})).swap_in_use


class TestValue:
    """Facts as values."""

    def test_copy(self) -> None:
        """Facts are equal when concluded again, hashable and picklable."""
        facts = facts_from(readings())

        assert facts == facts_from(readings())
        assert hash(facts) == hash(facts_from(readings()))
        assert pickle.loads(pickle.dumps(facts)) == facts  # noqa: S301

    def test_document(self) -> None:
        """Facts become plain values that JSON takes."""
        document = json.loads(json.dumps(facts_from(readings()).document()))

        assert document["kernel"] == [6, 12, 9]
        assert document["cgroups"]["kind"] == "none"

    def test_description(self) -> None:
        """Facts print what a bug report needs."""
        assert facts_from(readings(landlock_abi=7)).describe() == (
            "Linux 6.12.9-amd64 on x86_64, 1 cpus, 0 MiB\n"
            "rootless, subuid ids, euid 1000, caps 0000000000000000, bounding "
            "0000000000000000\n"
            "namespaces: cgroup ipc mnt net pid time user uts\n"
            "user namespaces: 96365\n"
            "seccomp yes (mode 0), landlock 7, lsm ?\n"
            "overlay: yes\n"
            "masked in /proc: nothing\n"
            "cgroups: kind none, limits by none"
        )


class TestThisMachine:
    """What is read here."""

    def test_agrees_with_python(self) -> None:
        """What is read agrees with what Python knows."""
        facts = read_facts()

        assert facts.release == os.uname().release
        assert facts.kernel >= (4, 0, 0)
        assert facts.euid == os.geteuid()
        assert set(facts.cpus) == os.sched_getaffinity(0)
        assert facts.page_size == os.sysconf("SC_PAGESIZE")
        assert facts.memory_total > 1 << 20
        assert "user" in facts.namespaces or not facts.has_user_namespaces
        assert facts.rlimit("nofile") is not None
        assert facts.landlock_abi is None

    @pytest.mark.root
    def test_as_root(self) -> None:
        """Root with CAP_SYS_ADMIN sees itself as such."""
        facts = read_facts()

        assert facts.is_rootful == (facts.initial_user_namespace and facts.euid == 0)

    def test_landlock_is_asked_of_the_kernel(self) -> None:
        """The version of Landlock is what the given probe answers."""
        assert read_facts(landlock_abi=lambda: 7).landlock_abi == 7

    def test_masks(self, tmp_path: Any) -> None:  # noqa: ANN401
        """Of the paths to mask those are kept that exist, with patterns expanded."""
        (tmp_path / "a1").touch()
        (tmp_path / "a2").touch()
        (tmp_path / "dangling").symlink_to("nowhere")
        candidates = [
            f"{tmp_path}/a*",
            f"{tmp_path}/none",
            f"{tmp_path}/none*",
            f"{tmp_path}/dangling",
            f"{tmp_path}/a1",
        ]

        assert existing(candidates) == (
            f"{tmp_path}/a1",
            f"{tmp_path}/a2",
            f"{tmp_path}/dangling",
        )

    def test_recording_stands_for_the_machine(self) -> None:
        """Facts from readings that went through a pickle are the machine's facts."""
        seen = pickle.loads(pickle.dumps(take_readings()))  # noqa: S301

        assert facts_from(seen) == read_facts()

    def test_leaves_nothing(self) -> None:
        """Reading opens nothing that stays open, and starts nothing."""
        before = os.listdir("/proc/self/fd"), os.listdir("/proc/self/task")
        read_facts(["/proc/kcore"])

        assert (os.listdir("/proc/self/fd"), os.listdir("/proc/self/task")) == before

    def test_cost(self) -> None:
        """Reading all facts takes less than 5 ms."""
        taken = []
        for _ in range(10):
            began = time.perf_counter()
            read_facts(["/proc/kcore"])
            taken.append(time.perf_counter() - began)

        assert min(taken) < 0.005


def test_helper_without_rights(tmp_path: Any, monkeypatch: Any) -> None:  # noqa: ANN401
    """A helper on the path that is not privileged is found, and known as useless."""
    program = tmp_path / "newuidmap"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    facts = read_facts()

    assert isinstance(facts, HostFacts)
    assert facts.newuidmap == Helper(str(program), privileged=False)
    assert facts.newgidmap is None
    assert not facts.can_map_subordinate_ids
