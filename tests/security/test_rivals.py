"""
Mistakes that were seen in other sandboxes for Python, as tests.

Each of these was found in at least one library of this kind, started as its README
says. The limits that silently do not hold are in ``test_cg.py``.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import jailbox as jb
from tests.security.asking import Answers, gone, on_the_host

pytestmark = pytest.mark.userns


@pytest.fixture
def secret() -> Iterator[Path]:
    """Return a file in the home directory of who runs the tests."""
    path = Path.home() / f".jailbox-test-{os.getpid()}"
    path.write_text("secret")
    path.chmod(0o644)
    yield path
    path.unlink()


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Nothing of the host's environment is seen: only what every jail has.
    """
    monkeypatch.setenv("JAILBOX_TEST_SECRET", "secret")
    said = jb.run(jb.Image.host(), ["env"]).stdout

    names = {line.partition("=")[0] for line in said.splitlines()}
    assert {"HOME", "HOSTNAME", "PATH"} == names
    assert "secret" not in said


def test_home_directories(secret: Path) -> None:
    """
    A file in the caller's home directory is not there, whoever may read it.
    """
    result = jb.run(jb.Image.host(), ["cat", str(secret)])

    assert (1, "") == (result.exit_code, result.stdout)


def test_shadow(answers: Answers) -> None:
    """
    /etc/shadow is not there.
    """
    assert "ENOENT" == answers["open./etc/shadow"]


@pytest.mark.root
def test_raw_disks() -> None:
    """
    No disk of the host, by whatever name, is there.
    """
    disks = os.listdir("/sys/block")
    result = jb.run(jb.Image.host(), ["ls", "/dev"])

    assert disks
    assert not set(disks) & set(result.stdout.split())


def test_shared_memory() -> None:
    """
    /dev/shm is the jail's own: what the host has there is not seen, and what the jail
    writes is not on the host, also with read_only=True.
    """
    mark = f"jailbox-test-{os.getpid()}"
    path = Path("/dev/shm") / mark
    path.touch()
    try:
        command = f"ls /dev/shm; echo x > /dev/shm/{mark}-inside"
        result = jb.run(jb.Image.host(), command, shell=True, read_only=True)
    finally:
        path.unlink()

    assert ("", 0) == (result.stdout, result.exit_code)
    assert not Path(f"{path}-inside").exists()


def test_writes_stay_inside() -> None:
    """
    What a jail writes beside its volumes is nowhere on the host.
    """
    mark = f"jailbox-test-{os.getpid()}"
    places = ["/", "/tmp", "/usr", "/usr/bin", "/var/tmp", "/etc", "/root", "/opt"]
    # Where an ordinary user's jail may not write (/usr is not its own), it is told so.
    command = "; ".join(f"echo x > {place}/{mark}" for place in places)
    result = jb.run(jb.Image.host(), f"{command}; cat /tmp/{mark}", shell=True)

    assert "x\n" == result.stdout
    assert not [place for place in places if os.path.lexists(f"{place}/{mark}")]


def test_host_loopback(answers: Answers) -> None:
    """
    A server on 127.0.0.1 of the host cannot be reached, and there is only loopback.
    """
    assert "ECONNREFUSED" == answers["connect.loopback"]
    names = [line.split(":")[0].strip() for line in answers["proc.net-dev"].split("|")]
    assert "lo" in names
    assert not {"eth0", "ens3", "docker0"} & set(names)


def test_low_ports(answers: Answers) -> None:
    """
    A server may listen on port 80 of its own network, without a capability.
    """
    assert "ok" == answers["bind.80"]


def test_sysctls(answers: Answers) -> None:
    """
    No setting of the kernel can be opened to be written.
    """
    assert "0" == answers["writable-below./proc/sys"]


def test_namespaces_and_mounts_inside(answers: Answers) -> None:
    """
    No user namespace can be made inside, and nothing can be mounted.
    """
    assert "EPERM" == answers["unshare.user"]
    assert "EPERM" == answers["clone.user"]
    assert "EPERM" == answers["call.mount"]
    assert "EPERM" == answers["call.fsopen"]


def test_input_of_the_host() -> None:
    """
    A program does not inherit the standard input of the host program.
    """
    program = (
        "import jailbox as jb\n"
        "print(repr(jb.run(jb.Image.host(), ['cat'], timeout=10).stdout))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input="of the host\n",
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )

    assert "''\n" == done.stdout


def test_nothing_of_ours_in_the_output() -> None:
    """
    What a program says is all that is in its output: no warning of ours.
    """
    result = jb.run(jb.Image.host(), ["true"])

    assert ("", "") == (result.stdout, result.stderr)


def test_killing_the_host_program() -> None:
    """
    When the program that embeds us is killed, its jail is gone within a second.
    """
    marker = f"jailbox-{os.urandom(8).hex()}"
    # Not in the host's own command line, which its keeper has too for a moment.
    program = (
        "import jailbox as jb, sys\n"
        "command = ['sh', '-c', 'setsid sleep 60 & sleep 60']\n"
        "jb.run(jb.Image.host(), [*command, sys.stdin.readline().strip()])\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, text=True
    ) as host:
        assert host.stdin is not None
        host.stdin.write(f"{marker}\n")
        host.stdin.flush()
        pid = on_the_host(marker)
        host.kill()
        host.wait()
        assert gone(pid, within=1)
