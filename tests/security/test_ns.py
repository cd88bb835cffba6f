"""
NS: namespaces, and whose /proc it is.
"""

import os

import pytest

import jailbox as jb
from tests.security.asking import DENIED, UNWRITABLE, Answers

pytestmark = pytest.mark.userns

KINDS = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"]


def test_ns1_seven_namespaces_of_its_own(answers: Answers) -> None:
    """
    NS1: No namespace of a jail is the host's, but that of time.
    """
    for kind in KINDS:
        assert os.readlink(f"/proc/self/ns/{kind}") != answers[f"ns.{kind}"], kind


def test_ns1_no_two_jails_share_one() -> None:
    """
    NS1: Two jails that run at the same time share no namespace.
    """
    host = jb.Image.host()
    command = ["readlink", *(f"/proc/self/ns/{kind}" for kind in KINDS)]
    with jb.Container(host) as one, jb.Container(host) as two:
        first = set(one.exec(command).stdout.split())
        second = set(two.exec(command).stdout.split())

    assert len(KINDS) == len(first) == len(second)
    assert not first & second


class TestProcesses:
    def test_ns2_only_those_of_the_jail(self, answers: Answers) -> None:
        """
        NS2: /proc shows init and the program itself, and nothing of the host.
        """
        assert {"1", answers["status.Pid"]} == set(answers["proc.pids"].split())

    def test_ns2_those_of_the_host_do_not_exist(self, answers: Answers) -> None:
        """
        NS2: A process of the host can be neither signaled nor opened.
        """
        assert {"kill": "ESRCH", "pidfd_open": "ESRCH"} == answers.group("host-pid")

    def test_ns3_the_root_is_the_jails(self, answers: Answers) -> None:
        """
        NS3: /proc/self/cwd is the jail's root, and /proc/1/root is that or closed.
        """
        assert "yes" == answers["same-as-root.own-cwd"]
        assert answers["same-as-root.init-root"] in {"yes", "EACCES"}


def test_ns4_no_shared_memory_with_the_host(answers: Answers) -> None:
    """
    NS4: Segments, semaphores and queues of the host are not there.
    """
    assert answers.group("ipc") == dict.fromkeys(
        ("mqueue", "msg", "sem", "shm"), "ENOENT"
    )


def test_ns5_the_host_name(answers: Answers) -> None:
    """
    NS5: The host name is the jail's, and cannot be set.
    """
    assert os.uname().nodename != answers["uts.nodename"]
    assert "EPERM" == answers["call.sethostname"]
    assert "EPERM" == answers["call.setdomainname"]


def test_ns5_a_host_name_that_was_asked_for() -> None:
    """
    NS5: A jail is called as it was told.
    """
    result = jb.run(jb.Image.host(), ["uname", "-n"], hostname="box")

    assert "box\n" == result.stdout


def test_ns6_abstract_sockets_of_the_host(answers: Answers) -> None:
    """
    NS6: An abstract socket on which the host listens cannot be reached
    (CVE-2020-15257).
    """
    assert "ECONNREFUSED" == answers["connect.abstract"]


def test_ns7_groups_begin_at_the_jail(answers: Answers) -> None:
    """
    NS7: A program sees itself at the root of every control group.
    """
    lines = [line for line in answers["proc.cgroup"].split("|") if line]

    assert lines
    assert all(line.endswith(":/") for line in lines), lines


def test_ns8_proc_is_proc(answers: Answers) -> None:
    """
    NS8: /proc is the root of a proc file system.
    """
    assert ("9fa0", "1") == (answers["proc.magic"], answers["proc.inode"])


def test_ns9_ids_are_mapped_away(answers: Answers, one_id: bool) -> None:  # noqa: FBT001
    """
    NS9: Root of the jail is nobody's root, and maps cannot be written.
    """
    lines = answers["proc.uid_map"].strip("|").split("|")
    ranges = [tuple(map(int, line.split())) for line in lines]

    # An ordinary user's ranges may lie apart.
    assert 0 == ranges[0][0]
    assert (1 if one_id else 65536) == sum(count for _, _, count in ranges)
    if os.geteuid() == 0:
        assert ranges[0][1] >= 65536
    assert {"EPERM"} == set(answers.group("write").values())


class TestInit:
    def test_ns10_environment_and_name(self, answers: Answers) -> None:
        """
        NS10: The environment of our process cannot be read, and its command line is
        fixed: neither holds anything of the host program.
        """
        assert "EACCES" == answers["init.environ"]
        assert "jailbox" == answers["init.cmdline"]

    def test_ns10_memory(self, answers: Answers) -> None:
        """
        NS10: Nor can its memory and its map of memory.
        """
        assert "EACCES" == answers["init.mem"]
        assert "EACCES" == answers["init.maps"]

    def test_ns12_executable(self, answers: Answers) -> None:
        """
        NS12: The executable of our process can be neither read nor written.
        """
        assert "EACCES" == answers["init.exe"]
        assert answers["init.exe-write"] in {*DENIED, "ETXTBSY"}


@pytest.mark.parametrize("name", ["ns_last_pid", "hostname", "domainname"])
def test_ns11_settings_of_namespaces(name: str, answers: Answers) -> None:
    """
    NS11: Settings that belong to the jail's own namespaces cannot be written either.
    """
    assert answers[f"open-write./proc/sys/kernel/{name}"] in UNWRITABLE
