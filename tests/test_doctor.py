"""The doctor: what is wrong, what follows, what to do, and at which price."""

import errno
import json
import os
import pickle
import sys
import time
from pathlib import Path
from typing import Any

import attrs
import pytest

from jailbox.engine.doctor import (
    Device,
    Directory,
    Finding,
    Report,
    Surroundings,
    Trial,
    diagnose,
    doctor,
    look_around,
)
from jailbox.linux.facts import Helper, HostFacts, IdRange, Rlimit
from tests.linux.cgroup.recordings import machine

ROOT_CAPS = (1 << 41) - 1
PASTA = "/usr/bin/pasta"


def facts(name: str = "v2-user-delegated", **more: Any) -> HostFacts:  # noqa: ANN401
    """Return the facts of a rootless machine on which nothing is wrong."""
    ranges = (IdRange(100000, 65536),)
    helper = Helper("/usr/bin/newuidmap", privileged=True)
    layout = machine(name).layout()
    if name == "v2-user-delegated":
        # The one thing that distributions leave out.
        layout = attrs.evolve(
            layout,
            hierarchies=tuple(
                attrs.evolve(h, controllers=(*h.controllers, "cpuset"), withheld=())
                for h in layout.hierarchies
            ),
        )
    usual: dict[str, Any] = {
        "kernel": (6, 18, 0),
        "release": "6.18.0",
        "arch": "x86_64",
        "euid": 1000,
        "egid": 1000,
        "max_user_namespaces": 1000,
        "max_net_namespaces": 1000,
        "subuid": ranges,
        "subgid": ranges,
        "newuidmap": helper,
        "newgidmap": helper,
        "filesystems": ("overlay",),
        "namespaces": ("net", "user"),
        "seccomp_actions": ("errno",),
        "landlock_abi": 7,
        "rlimits": (Rlimit("nofile", 1024, 20000), Rlimit("nproc", 99, -1)),
        "cgroups": layout,
    }
    return HostFacts(**(usual | more))


def around(**more: Any) -> Surroundings:  # noqa: ANN401  # fields of Surroundings
    """Return surroundings in which nothing is wrong."""
    place = Directory(
        path="/x", existing="/x", writable=True, free_bytes=9 << 30, free_inodes=9
    )
    usual: dict[str, Any] = {
        "pasta": PASTA,
        "kvm": Device(path="/dev/kvm", present=True, usable=True),
        "tun": Device(path="/dev/net/tun", present=True, usable=True),
        "run_dir": place,
        "store_dir": place,
        "trial": Trial(started=True, seconds=0.003),
    }
    return Surroundings(**(usual | more))


class TestHealthy:
    """A machine on which nothing is wrong."""

    def test_nothing_to_say(self) -> None:
        """A machine with everything gets no advice."""
        report = diagnose(facts(), around())

        assert {f.state for f in report} == {"ok"}
        assert report.ok
        assert all(not f.fix for f in report)

    def test_table(self) -> None:
        """The report prints as a table with a verdict below."""
        assert (
            repr(diagnose(facts(), around()))
            == """\
ok        kernel              Linux 6.18.0 on x86_64, with the whole new mount interface
ok        user namespaces     up to 1000
ok        ids                 subordinate ids 100000+65536, mapped by newuidmap
ok        /proc               whole, so jails can have their own
ok        clone3              with CLONE_INTO_CGROUP and pidfds
ok        helper              may be executed from memory
ok        control groups      v2: memory pids cpu cpuset, in
                              /sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/jailbox
ok        overlay             for this user
ok        idmapped mounts     only for root; the layers of this user need none of them
ok        seccomp             1 actions
ok        Landlock            ABI 7, with scopes
ok        network namespaces  up to 1000
ok        own limits          open files 20000, processes unlimited
ok        pasta               /usr/bin/pasta
ok        KVM                 /dev/kvm is there; only a boot proves it
ok        run directory       /x: 9.0 GiB free
ok        store               /x: 9.0 GiB free
ok        a real jail         started and ended in 3 ms
Jails start here, and nothing is missing."""
        )

    def test_root(self) -> None:
        """Root needs no subordinate ids and no pasta."""
        root = facts(
            "hybrid-root", euid=0, caps_effective=ROOT_CAPS, newuidmap=None, subuid=()
        )
        report = diagnose(root, around(pasta=None))

        assert {f.state for f in report} == {"ok"}


ILLNESSES: list[tuple[str, dict[str, Any], dict[str, Any], str, str, str]] = [
    # finding, facts, surroundings, state, in the detail, in the fix
    ("kernel", {"kernel": (5, 4, 0)}, {}, "missing", "mount_setattr", "Upgrade"),
    ("kernel", {"kernel": (6, 1, 0)}, {}, "degraded", "6.13", "Upgrade"),
    ("kernel", {"kernel": (6, 14, 0)}, {}, "degraded", "6.15", "Upgrade"),
    (
        "user namespaces",
        {"max_user_namespaces": None},
        {},
        "missing",
        "CONFIG_USER_NS",
        "kernel",
    ),
    (
        "user namespaces",
        {"max_user_namespaces": 0},
        {},
        "missing",
        "is 0",
        "sysctl -w user.max_user_namespaces=15000",
    ),
    (
        "user namespaces",
        {"unprivileged_userns_clone": False},
        {},
        "missing",
        "is 0",
        "sysctl -w kernel.unprivileged_userns_clone=1",
    ),
    (
        "user namespaces",
        {"apparmor_restricts_userns": True},
        {},
        "missing",
        "AppArmor",
        "AppArmor switch",
    ),
    (
        "AppArmor switch",
        {"apparmor_restricts_userns": True},
        {},
        "missing",
        "is 1",
        "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    ),
    (
        "user namespaces",
        {"seccomp_mode": 2},
        {},
        "degraded",
        "seccomp filter",
        "--security-opt seccomp=unconfined",
    ),
    ("ids", {"newuidmap": None}, {}, "degraded", "not installed", "install uidmap"),
    ("ids", {"subuid": ()}, {}, "degraded", "/etc/subuid", "--add-subuids"),
    ("ids", {"no_new_privs": True}, {}, "degraded", "no_new_privs", "NoNewPrivileges"),
    (
        "/proc",
        {"masked_proc": ("/proc/kcore",)},
        {},
        "missing",
        "/proc/kcore",
        "systempaths=unconfined",
    ),
    (
        "/proc",
        {"masked_proc": ("/proc/kcore",), "caps_effective": ROOT_CAPS},
        {},
        "degraded",
        "/proc/kcore",
        "systempaths=unconfined",
    ),
    ("clone3", {"kernel": (5, 2, 0)}, {}, "missing", "5.3", "Upgrade"),
    ("clone3", {"kernel": (5, 6, 0)}, {}, "degraded", "5.7", "Upgrade"),
    (
        "helper",
        {"memfd_exec": False},
        {},
        "missing",
        "memfd_noexec",
        "vm.memfd_noexec=0",
    ),
    ("overlay", {"filesystems": ()}, {}, "missing", "no overlay", "modprobe overlay"),
    (
        "overlay",
        {"kernel": (5, 4, 0), "release": "5.4"},
        {},
        "missing",
        "5.11",
        "root",
    ),
    (
        "overlay",
        {"kernel": (6, 1, 0), "release": "6.1"},
        {},
        "degraded",
        "6.6",
        "root",
    ),
    (
        "idmapped mounts",
        {"kernel": (5, 15, 0), "caps_effective": ROOT_CAPS},
        {},
        "missing",
        "5.19",
        "Upgrade",
    ),
    ("seccomp", {"seccomp_actions": ()}, {}, "missing", "no filters", "CONFIG_SECCOMP"),
    ("Landlock", {"landlock_abi": 0}, {}, "degraded", "absent", "lsm="),
    ("Landlock", {"landlock_abi": 4}, {}, "degraded", "ABI 4", "Upgrade"),
    (
        "network namespaces",
        {"max_net_namespaces": 0},
        {},
        "missing",
        "is 0",
        "user.max_net_namespaces=15000",
    ),
    (
        "network namespaces",
        {"namespaces": ()},
        {},
        "missing",
        "CONFIG_NET_NS",
        "kernel",
    ),
    (
        "own limits",
        {"rlimits": (Rlimit("nofile", 64, 64),)},
        {},
        "degraded",
        "64 open files",
        "ulimit -n",
    ),
    ("pasta", {}, {"pasta": None}, "degraded", "not installed", "install passt"),
    (
        "pasta",
        {},
        {"tun": Device(path="/dev/net/tun", present=True, usable=False)},
        "degraded",
        "closed",
        "chmod 0666 /dev/net/tun",
    ),
    (
        "pasta",
        {},
        {"tun": Device(path="/dev/net/tun", present=False, usable=False)},
        "degraded",
        "absent",
        "--device /dev/net/tun",
    ),
    (
        "KVM",
        {},
        {"kvm": Device(path="/dev/kvm", present=False, usable=False)},
        "degraded",
        "absent",
        "firmware",
    ),
    (
        "KVM",
        {},
        {"kvm": Device(path="/dev/kvm", present=True, usable=False)},
        "degraded",
        "closed",
        "usermod -aG kvm",
    ),
    (
        "store",
        {},
        {"store_dir": Directory(path="/s/j", existing="/s", writable=False)},
        "missing",
        "not writable",
        "install -d -m 700 -o USER /s/j",
    ),
    (
        "run directory",
        {},
        {
            "run_dir": Directory(
                path="/s", existing="/s", writable=False, read_only=True
            )
        },
        "missing",
        "read-only",
        "writable one",
    ),
    (
        "store",
        {},
        {
            "store_dir": Directory(
                path="/s", existing="/s", writable=True, free_bytes=5 << 20
            )
        },
        "degraded",
        "0.0 GiB free",
        "df -h /s",
    ),
    (
        "store",
        {},
        {
            "store_dir": Directory(
                path="/s",
                existing="/s",
                writable=True,
                free_bytes=9 << 30,
                free_inodes=0,
            )
        },
        "degraded",
        "no inodes",
        "df -i /s",
    ),
    (
        "a real jail",
        {"masked_proc": ("/proc/kcore",)},
        {"trial": Trial(started=False, step="fs", errno=errno.EPERM, detail="proc")},
        "missing",
        "refused at the step fs (proc): Operation not permitted",
        "systempaths=unconfined",
    ),
    (
        "a real jail",
        {},
        {"trial": Trial(started=False, message="the helper is not built")},
        "missing",
        "the helper is not built",
        "",
    ),
]

CGROUP_ILLNESSES = [
    ("none", "no cgroup file system", "mount -t cgroup2"),
    ("v1-user", "only memory pids", "chown -R USER"),
    ("v2-docker", "mounted read-only", "--security-opt writable-cgroups=true"),
    ("v2-docker-privileged", "holds processes itself", "/sys/fs/cgroup/main"),
    ("v2-service-delegated", "holds processes itself", "DelegateSubgroup=main"),
    ("v2-user-session", "not delegated to this user", "systemd-run --user --scope"),
]


class TestIllnesses:
    """DOC-02: every failure has its cause, its consequence, its fix and its price."""

    @pytest.mark.parametrize(
        ("name", "wrong", "nearby", "state", "detail", "fix"), ILLNESSES
    )
    def test_found(
        self,
        name: str,
        wrong: dict[str, Any],
        nearby: dict[str, Any],
        state: str,
        detail: str,
        fix: str,
    ) -> None:
        """A simulated failure is found, with cause and fix."""
        finding = diagnose(facts(**wrong), around(**nearby))[name]

        assert finding.state == state
        assert detail in finding.detail
        assert fix in finding.fix
        assert finding.consequence
        assert bool(finding.fix) == bool(finding.cost)

    @pytest.mark.parametrize(("name", "detail", "fix"), CGROUP_ILLNESSES)
    def test_control_groups(self, name: str, detail: str, fix: str) -> None:
        """Groups that cannot be used degrade, and the advice fits the cause."""
        finding = diagnose(facts(name))["control groups"]

        assert finding.state == "degraded"
        assert detail in finding.detail
        assert fix in finding.fix
        assert "memory limits" in finding.consequence or name == "v1-user"
        assert finding.cost

    def test_partly_delegated(self) -> None:
        """What the usual delegation lacks is named alone."""
        layout = machine("v2-user-delegated").layout()
        finding = diagnose(facts(cgroups=layout))["control groups"]

        assert finding.state == "degraded"
        assert finding.consequence.startswith("Not enforced: cpuset=.")
        assert "delegate.conf" in finding.fix

    def test_without_a_unified_tree(self) -> None:
        """Without version 2, pausing and killing are weaker, and that is said."""
        finding = diagnose(facts("v1-root"))["pause and kill"]

        assert finding.state == "degraded"
        assert "mount -t cgroup2" in finding.fix

    def test_landlock_not_asked(self) -> None:
        """What nobody asked the kernel is not claimed."""
        finding = diagnose(facts(landlock_abi=None))["Landlock"]

        assert finding.state == "degraded"
        assert "not asked" in finding.detail

    def test_apparmor_of_others(self) -> None:
        """Ubuntu's switch is harmless for root and for a program with a profile."""
        profile = facts(apparmor_restricts_userns=True, apparmor_label="python")
        root = facts(apparmor_restricts_userns=True, caps_effective=ROOT_CAPS)

        assert diagnose(profile)["AppArmor switch"].state == "ok"
        assert diagnose(root)["AppArmor switch"].state == "ok"

    def test_verdict(self) -> None:
        """The verdict names what keeps jails from starting, or what is weaker."""
        broken = diagnose(facts(max_user_namespaces=0, landlock_abi=0))
        weaker = diagnose(facts(landlock_abi=0))

        assert not broken.ok
        assert [f.name for f in broken.missing] == ["user namespaces"]
        assert repr(broken).endswith(
            "do not start here as they should: user namespaces."
        )
        assert weaker.ok
        assert [f.name for f in weaker.degraded] == ["Landlock"]
        assert repr(weaker).endswith("Weaker or left out: Landlock.")


class TestReport:
    """The report as a value."""

    REPORT = Report(
        (
            Finding("a", "ok", "fine"),
            Finding("<b>", "missing", "x & y", "means <i>", "do 'it'", "much"),
        )
    )

    def test_by_name(self) -> None:
        """A finding is got by its name."""
        assert self.REPORT["a"].detail == "fine"
        with pytest.raises(KeyError):
            self.REPORT["c"]

    def test_table(self) -> None:
        """Consequence, fix and price stand below the finding."""
        assert repr(self.REPORT) == (
            "ok        a    fine\n"
            "missing   <b>  x & y\n"
            "          means: means <i>\n"
            "          fix: do 'it'\n"
            "          price: much\n"
            "Jails do not start here as they should: <b>."
        )

    def test_html(self) -> None:
        """In a notebook the report is a table, and no text becomes markup."""
        html = self.REPORT._repr_html_()

        assert html.startswith("<table><tr><td>ok</td>")
        assert "&lt;b&gt;" in html
        assert "x &amp; y" in html
        assert "means &lt;i&gt;" in html
        assert "<b>" not in html
        assert "<i>" not in html

    def test_document(self) -> None:
        """A report becomes plain values that JSON takes."""
        document = json.loads(json.dumps(self.REPORT.document()))

        assert document["ok"] is False
        assert document["findings"][1]["fix"] == "do 'it'"

    def test_value(self) -> None:
        """A report is comparable and picklable."""
        report = diagnose(facts(), around())

        assert report == diagnose(facts(), around())
        assert pickle.loads(pickle.dumps(report)) == report  # noqa: S301

    def test_long_words_are_not_broken(self) -> None:
        """A command can be copied from the table as it is."""
        setting = "kernel.apparmor_restrict_unprivileged_userns=0"
        lines = repr(diagnose(facts(apparmor_restricts_userns=True))).splitlines()

        assert any(setting in line for line in lines)


class TestThisMachine:
    """DOC-01: the doctor at work."""

    def test_real(self) -> None:
        """The doctor examines this machine and agrees with its facts."""
        report = doctor(landlock_abi=lambda: 7)

        assert f"Linux {os.uname().release}" in report["kernel"].detail
        assert report["Landlock"].state == "ok"

    def test_fast(self) -> None:
        """DOC-01: an examination takes less than 200 ms."""
        taken = []
        for _ in range(3):
            began = time.perf_counter()
            doctor(run_dir="/run/jailbox", store_dir="/var/lib/jailbox")
            taken.append(time.perf_counter() - began)

        assert min(taken) < 0.2

    def test_leaves_nothing(self, tmp_path: Path) -> None:
        """DOC-01: nothing is made, not even the directories that were asked about."""
        descriptors = os.listdir("/proc/self/fd")
        place = tmp_path / "not" / "there"
        report = doctor(run_dir=str(place), store_dir=str(place))

        assert list(tmp_path.iterdir()) == []
        assert os.listdir("/proc/self/fd") == descriptors
        assert f"to be made in {tmp_path}" in report["store"].detail

    def test_directories_in_the_way(self, tmp_path: Path) -> None:
        """A file where a directory should be makes its parent the nearest one."""
        (tmp_path / "file").touch()
        seen = look_around(run_dir=str(tmp_path / "file" / "x")).run_dir

        assert seen is not None
        assert seen.existing == str(tmp_path)

    def test_trial(self) -> None:
        """A real jail is started once, by whoever can, and what came of it is told."""
        started = []

        def trial() -> Trial:
            started.append(1)
            return Trial(started=False, step="clone", errno=errno.ENOSYS)

        report = doctor(trial=trial)

        assert started == [1]
        assert "refused at the step clone" in report["a real jail"].detail
        assert not report.ok

    def test_elsewhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """On another system there is one finding, and no error."""
        monkeypatch.setattr(sys, "platform", "darwin")
        report = doctor()

        assert [f.name for f in report] == ["platform"]
        assert not report.ok
