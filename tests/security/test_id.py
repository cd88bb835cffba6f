"""
ID: as whom a program runs, and what it may become.
"""

import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import jailbox as jb
from tests.security.asking import PROBE, Answers, Asker, on_the_host

pytestmark = pytest.mark.userns

DEFAULT_CAPABILITIES = "00000000800405fb"
NONE = "0" * 16

PASSWD = "root:x:0:0::/root:/bin/sh\n1000:x:0:0::/:/bin/sh\nann:x:1001:50::/home/ann:\n"
GROUP = "root:x:0:\nstaff:x:50:\nvideo:x:60:ann,bob\nhost:x:70:bob\n"


def sets(answers: Answers) -> dict[str, str]:
    """The five capability sets, by the names of the kernel."""
    return {
        name: answers[f"status.Cap{name}"]
        for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")
    }


class TestRoot:
    def test_id1_capabilities(self, answers: Answers) -> None:
        """
        ID1: Root has the eleven capabilities of the default and can have no other;
        none is inheritable or ambient.
        """
        assert sets(answers) == {
            "Inh": NONE,
            "Prm": DEFAULT_CAPABILITIES,
            "Eff": DEFAULT_CAPABILITIES,
            "Bnd": DEFAULT_CAPABILITIES,
            "Amb": NONE,
        }

    def test_id3_no_new_privileges(self, answers: Answers) -> None:
        """
        ID3: A program cannot gain privileges by executing another, and cannot take
        that back.
        """
        assert "1" == answers["status.NoNewPrivs"]
        assert "EINVAL" == answers["nnp.clear"]

    def test_id6_ambient_capabilities(self, answers: Answers) -> None:
        """
        ID6: No capability can be made ambient.
        """
        assert "EPERM" == answers["ambient.raise"]

    def test_id7_more_capabilities(self, answers: Answers) -> None:
        """
        ID7: capset() does not give CAP_SYS_ADMIN.
        """
        assert "EPERM" == answers["capset.sys_admin"]

    def test_id8_bounding_set(self, answers: Answers) -> None:
        """
        ID8: CAP_SYS_ADMIN is not in the bounding set.
        """
        assert "0" == answers["bounding.sys_admin"]

    def test_id16_keyrings(self, answers: Answers) -> None:
        """
        ID16: Keys of the kernel can be neither read, added nor requested.
        """
        assert answers.group("keyring") == {
            "keyctl": "EPERM",
            "add_key": "EPERM",
            "request_key": "EPERM",
        }

    def test_id17_signals_are_as_new(self, answers: Answers) -> None:
        """
        ID17: No signal is blocked or ignored.
        """
        assert NONE == answers["status.SigIgn"]
        assert NONE == answers["status.SigBlk"]

    def test_id18_the_rest_of_a_process(self, answers: Answers) -> None:
        """
        ID18: umask 022, no core files, no niceness, an ordinary scheduler.
        """
        assert str(0o022) == answers["id.umask"]
        assert {"soft": "0", "hard": "0"} == answers.group("rlimit-core")
        assert "0" == answers["id.nice"]
        assert "0" == answers["id.scheduler"]


class TestUser:
    def test_id2_capabilities(self, user_answers: Answers) -> None:
        """
        ID2: A user other than root has no capability at all.
        """
        assert sets(user_answers) == {
            "Inh": NONE,
            "Prm": NONE,
            "Eff": NONE,
            "Bnd": DEFAULT_CAPABILITIES,
            "Amb": NONE,
        }
        assert "1000" == user_answers["id.uid"]

    def test_id4_setuid_programs(self, ask: Asker, many_ids: None) -> None:
        """
        ID4: A setuid program of root, executed by user 1000, runs as user 1000.
        """
        with jb.Container(jb.Image.host(), mounts=[ask.mount]) as jail:
            made = f"cp {PROBE} /tmp/suid && chmod 4755 /tmp/suid"
            jail.exec(made, shell=True, check=True)
            assert jail.exec(["stat", "-c", "%a %u", "/tmp/suid"]).stdout == "4755 0\n"
            answers = Answers.of(jail.exec(["/tmp/suid", "ids"], user="1000").stdout)

        assert {"1000"} == {answers["id.uid"], answers["id.euid"]}

    def test_id4_without_no_new_privs_nosuid_holds(
        self, ask: Asker, many_ids: None
    ) -> None:
        """
        ID4: Also without no_new_privs a setuid program gives nothing: the root is
        mounted nosuid.
        """
        security = jb.Security(no_new_privileges=False)
        with jb.Container(
            jb.Image.host(), mounts=[ask.mount], security=security
        ) as jail:
            made = f"cp {PROBE} /tmp/suid && chmod 4755 /tmp/suid"
            jail.exec(made, shell=True, check=True)
            answers = Answers.of(jail.exec(["/tmp/suid", "ids"], user="1000").stdout)

        assert "0" == answers["status.NoNewPrivs"]
        assert {"1000"} == {answers["id.uid"], answers["id.euid"]}

    def test_id5_file_capabilities(self, ask: Asker) -> None:
        """
        ID5: A program with cap_net_raw+ep runs, without CAP_NET_RAW.
        """
        with jb.Container(jb.Image.host(), mounts=[ask.mount]) as jail:
            jail.exec(["cp", PROBE, "/tmp/caps"], check=True)
            given = Answers.of(jail.exec([PROBE, "cap-file", "/tmp/caps"]).stdout)
            answers = Answers.of(jail.exec(["/tmp/caps", "ids"]).stdout)

        assert "ok" == given["setxattr.capability"]
        assert not int(answers["status.CapEff"], 16) >> 13 & 1


class TestNames:
    @pytest.mark.parametrize(
        "user",
        [
            "-1", "4294967295", "4294967296", "2147483648x", "1e3", "0x0",
            "\N{FULLWIDTH DIGIT ONE}", "1 ", "", "1:2:3", "a/b", "a\nb",
        ],
    )  # fmt: skip
    def test_id9_only_numbers_and_names(self, user: str) -> None:
        """
        ID9: What is neither a decimal number below 2**32-1 nor a name is refused
        before any process exists.
        """
        with pytest.raises(ValueError):
            jb.run(jb.Image.host(), ["true"], user=user)

    def test_id10_a_number_is_a_number(
        self, rootfs: Callable[[], Path], ask: Asker, many_ids: None
    ) -> None:
        """
        ID10: user="1000" is uid 1000, also where the image has a user *named* 1000
        whose uid is 0.
        """
        image = jb.Image.from_dir(_with_users(rootfs()))
        answers = ask(image, "ids", user="1000")

        assert "1000" == answers["id.uid"]

    def test_id11_groups_are_the_images(
        self, rootfs: Callable[[], Path], ask: Asker, many_ids: None
    ) -> None:
        """
        ID11: A user has the groups that the image gives it and its primary one; none
        of the host's.
        """
        image = jb.Image.from_dir(_with_users(rootfs()))
        answers = ask(image, "ids", user="ann")

        assert "1001" == answers["id.uid"]
        assert "50" == answers["id.gid"]
        assert {"50", "60"} == set(answers["id.groups"].split())

    def test_id11_the_group_is_dropped_from_root(
        self, ask: Asker, directory: jb.Image, many_ids: None
    ) -> None:
        """
        ID11: A file that root's group may not read, though others may, is refused to
        who has that group: supplementary groups are not merely empty.
        """
        mounts = [jb.Mount.tmpfs("/made"), ask.mount]
        with jb.Container(directory, mounts=mounts) as jail:
            script = "echo x > /made/f && chown 0:50 /made/f && chmod 0604 /made/f"
            jail.exec(script, shell=True, check=True)
            found = jail.exec(["cat", "/made/f"], user="1000:50")
            other = jail.exec(["cat", "/made/f"], user="1000:51")

        assert (1, "x\n") == (found.exit_code, other.stdout)

    @pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\0b", "a:b"])
    def test_id12_control_characters(
        self, text: str, rootfs: Callable[[], Path]
    ) -> None:
        """
        ID12: Line breaks, NUL and colons are refused in user names, host names and home
        directories, and the user database of the image is never written.
        """
        root = rootfs()
        before = (root / "etc/passwd").read_bytes()
        image = jb.Image.from_dir(root)
        with pytest.raises((ValueError, jb.NotFound)):
            jb.run(image, ["true"], user=text)
        with pytest.raises(ValueError):
            jb.run(image, ["true"], hostname=text)
        with pytest.raises(ValueError):
            jb.run(image, ["true"], env={"HOME": f"/{text}"})

        assert (root / "etc/passwd").read_bytes() == before

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["passwd", "group"])
    @pytest.mark.parametrize("what", ["canary", "fifo", "directory", "huge", "device"])
    def test_id13_hostile_databases(
        self, name: str, what: str, rootfs: Callable[[], Path], tmp_path: Path
    ) -> None:
        """
        ID13: A user database that is a link to a file of the host, a pipe, a directory,
        11 MiB or a device is not followed, not waited for and not read without bound.
        """
        root = rootfs()
        canary = tmp_path / "canary"
        canary.write_text("spy:x:4242:4242::/:/bin/sh\nspy:x:4242:\n")
        file = root / "etc" / name
        file.unlink()
        match what:
            case "canary":
                file.symlink_to(canary)
            case "fifo":
                os.mkfifo(file)
            case "directory":
                file.mkdir()
            case "huge":
                file.write_bytes(b"a" * 60 + b"\n" + b"spy:x:4242:4242::/:\n" * 600_000)
            case "device" if os.geteuid() == 0:
                os.mknod(file, 0o666 | stat.S_IFCHR, os.makedev(1, 5))
            case _:
                file.symlink_to("/dev/zero")
        began = time.monotonic()
        user = "spy" if name == "passwd" else "0:spy"
        with pytest.raises(jb.JailboxError):
            jb.run(jb.Image.from_dir(root), ["true"], user=user)

        assert time.monotonic() - began < 1


def _with_users(root: Path) -> Path:
    (root / "etc/passwd").write_text(PASSWD, encoding="ascii")
    (root / "etc/group").write_text(GROUP, encoding="ascii")
    return root


def test_id14_groups_of_a_single_id(answers: Answers, one_id: bool) -> None:  # noqa: FBT001
    """
    ID14: Where one id is mapped, the groups of the caller cannot be dropped: setgroups
    is denied, as the kernel demands. Where there are more, root of the jail may.
    """
    expected = ("deny|", "EPERM") if one_id else ("allow|", "ok")

    assert expected == (answers["proc.setgroups"], answers["setgroups.none"])


class TestSeenFromTheHost:
    @pytest.mark.root
    def test_id15_ids_of_nobody(self) -> None:
        """
        ID15: On the host the processes of a jail belong to an id far above every
        user's, and no two running jails share a range.
        """
        with jb.Container(jb.Image.host()) as one, jb.Container(jb.Image.host()) as two:
            bases = {_base_of(one), _base_of(two)}

        assert 2 == len(bases)
        for base in bases:
            assert base >= 65536
            assert base % 65536 == 0

    def test_id17_a_host_that_blocks_and_ignores(self, ask: Asker) -> None:
        """
        ID17: What the host process blocks and ignores, a jail does not.
        """
        program = (
            "import signal\n"
            "import jailbox as jb\n"
            "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})\n"
            "signal.signal(signal.SIGPIPE, signal.SIG_IGN)\n"
            "signal.signal(signal.SIGUSR1, signal.SIG_IGN)\n"
            "command = ['grep', 'Sig[BI]', '/proc/self/status']\n"
            "print(jb.run(jb.Image.host(), command).stdout)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            check=True,
            timeout=30,
            capture_output=True,
            text=True,
        )

        assert {NONE} == set(re.findall(r"\b[0-9a-f]{16}\b", done.stdout))
        assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def _base_of(jail: jb.Container) -> int:
    """The id that a program of *jail* has on the host."""
    marker = f"jailbox-{os.urandom(8).hex()}"
    with jail.popen(["sh", "-c", "read line", marker], stdin=True) as process:
        status = Path(f"/proc/{on_the_host(marker)}/status").read_text(encoding="utf-8")
        process.kill()
        process.wait(5)
    match = re.search(r"^Uid:\t(\d+)", status, re.MULTILINE)
    assert match is not None
    return int(match[1])
