"""
MT: mounts, and the root of a jail.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import jailbox as jb
from jailbox.spec.security import DEFAULT_MASKED_PATHS
from tests.security.asking import PROBE, UNWRITABLE, Answers, Asker
from tests.security.conftest import Rounds

pytestmark = pytest.mark.userns

SECONDS_OF_A_RACE = 1.5

SETTINGS = [
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/core_uses_pid",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sys/vm/overcommit_memory",
]

MACHINE = [
    "/proc/bus/pci/devices",
    "/proc/fs/nfsd/x",
    "/proc/irq/default_smp_affinity",
    "/proc/sysrq-trigger",
    "/sys/fs/cgroup/memory/notify_on_release",
    "/sys/fs/cgroup/memory/release_agent",
    "/sys/fs/cgroup/release_agent",
    "/sys/kernel/uevent_helper",
    "/sys/power/state",
]


EMPTY = frozenset({"0 bytes", "0 entries", "ENOENT"})


def snapshot(path: Path) -> str:
    """Everything about a tree: names, modes, owners, times, content."""
    digest = hashlib.sha256()
    for directory, names, files in os.walk(path):
        names.sort()
        for name in [".", *sorted(files), *names]:
            found = os.lstat(os.path.join(directory, name))
            facts = (directory, name, found.st_mode, found.st_uid, found.st_gid)
            digest.update(repr((*facts, found.st_mtime_ns, found.st_size)).encode())
    return digest.hexdigest()


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """Return a directory of the host that must stay as it is."""
    path = tmp_path / "canary"
    path.mkdir(mode=0o777)
    path.chmod(0o777)
    (path / "secret").write_text("of the host", encoding="ascii")
    (path / "below").mkdir()
    before = snapshot(path)
    yield path
    assert snapshot(path) == before


class TestKernelSettings:
    @pytest.mark.parametrize("path", SETTINGS)
    def test_mt1_settings(self, path: str, answers: Answers) -> None:
        """
        MT1: Settings of the kernel cannot be opened to be written.
        """
        assert answers[f"open-write.{path}"] in UNWRITABLE

    @pytest.mark.parametrize("path", MACHINE)
    def test_mt2_mt20_triggers(self, path: str, answers: Answers) -> None:
        """
        MT2, MT20: Nor can what makes the kernel do something: sysrq, interrupts,
        buses, power, release agents.
        """
        assert answers[f"open-write.{path}"] in UNWRITABLE

    def test_mt1_mt20_nothing_below(self, answers: Answers) -> None:
        """
        MT1, MT20: Nothing at all can be written below /proc/sys, /sys and
        /sys/fs/cgroup.
        """
        assert {"0"} == set(answers.group("writable-below").values())


class TestMasks:
    def test_mt3_mt21_nothing_is_seen(self, answers: Answers) -> None:
        """
        MT3, MT21: A masked file is empty or cannot be opened, neither to be read nor
        to be written; a masked directory has no entries; those that the kernel has
        not got are absent.
        """
        masked = answers.group("masked")

        assert set(DEFAULT_MASKED_PATHS) == masked.keys()
        assert set(masked.values()) <= {*EMPTY, "EACCES"}, masked
        assert "0 bytes" == masked["/proc/kallsyms"]
        assert set(answers.group("masked-write").values()) <= UNWRITABLE

    @pytest.mark.root
    def test_mt3_without_a_user_namespace(self, ask: Asker) -> None:
        """
        MT3: Where root of the jail is root of the host, every masked path is covered:
        none depends on who may open it.
        """
        env = {"PROBE_MASKED": ":".join(DEFAULT_MASKED_PATHS)}
        security = jb.Security(userns="host")
        masked = ask(jb.Image.host(), env=env, security=security).group("masked")

        assert set(DEFAULT_MASKED_PATHS) == masked.keys()
        assert set(masked.values()) <= EMPTY, masked

    def test_mt3_nothing_can_be_made(self, answers: Answers) -> None:
        """
        MT3: Nothing can be made in a masked directory.
        """
        assert set(answers.group("create").values()) <= UNWRITABLE
        assert answers.group("create")

    @pytest.mark.parametrize("null", ["file", "link", "fifo"])
    def test_mt4_sources_are_ours(
        self, null: str, rootfs: Callable[[], Path], canary: Path, ask: Asker
    ) -> None:
        """
        MT4: A /dev/null of the image, whatever it is, is no source of a mask
        (CVE-2025-31133).
        """
        root = rootfs()
        path = root / "dev/null"
        match null:
            case "file":
                path.write_text("read me")
            case "link":
                path.symlink_to(canary / "secret")
            case _:
                os.mkfifo(path)
        image = jb.Image.from_dir(root)
        env = {"PROBE_MASKED": ":".join(DEFAULT_MASKED_PATHS)}
        answers = ask(image, env=env)

        assert "1:3" == answers["dev.null"]
        assert set(answers.group("masked").values()) <= {*EMPTY, "EACCES"}


class TestImages:
    @pytest.mark.parametrize(
        "path", ["dev", "proc", "sys", "dev/pts", "dev/shm", "sys/fs", "sys/fs/cgroup"]
    )
    @pytest.mark.parametrize(
        "what", ["absolute", "relative", "file", "fifo", "missing"]
    )
    def test_mt5_api_directories(
        self, path: str, what: str, rootfs: Callable[[], Path], canary: Path
    ) -> None:
        """
        MT5: An image whose /dev, /proc or /sys is no directory is refused, or gets a
        fresh one; nothing of the host is touched (CVE-2019-19921, CVE-2023-27561).
        """
        root = rootfs()
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.is_dir():
            place.rmdir()
        match what:
            case "absolute":
                place.symlink_to(canary)
            case "relative":
                place.symlink_to(os.path.relpath(canary, place.parent))
            case "file":
                place.write_text("x")
            case "fifo":
                os.mkfifo(place)
        try:
            command = "stat -f -c %T /proc /dev /dev/pts /dev/shm; ls /dev/secret"
            result = jb.run(jb.Image.from_dir(root), command, shell=True)
        except (jb.ContentError, jb.LaunchError):
            assert path in {"dev", "proc", "sys"}
            assert what != "missing"
        else:
            kinds = result.stdout.split()
            assert kinds == ["proc", "tmpfs", "devpts", "tmpfs"], result

    @pytest.mark.parametrize(
        "target",
        [
            "/proc", "/proc/x", "/sys", "/sys/x", "/dev/pts", "/", ".", "a/../..",
            "/proc/self/../../proc", "/a/../proc", "/dev/pts/0",
        ],
    )  # fmt: skip
    def test_mt6_targets_that_are_ours(self, target: str, canary: Path) -> None:
        """
        MT6: Nothing can be mounted over the root, /proc, /sys, /dev/pts or by a
        relative path.
        """
        with pytest.raises(ValueError):
            jb.Mount.bind(canary, target)


class TestRaces:
    @pytest.mark.slow
    def test_mt7_mt8_targets(
        self,
        rootfs: Callable[[], Path],
        canary: Path,
        tmp_path: Path,
        rounds: Rounds,
    ) -> None:
        """
        MT7, MT8: While a part of a mount's target flips between a directory and a
        link to the host, the mount is inside or the start fails; nothing is mounted
        on, made or removed on the host (CVE-2021-30465).
        """
        root = rootfs()
        (root / "volume").mkdir()
        (root / "trap").symlink_to(canary)
        source = tmp_path / "source"
        source.mkdir()
        (source / "inside").touch()
        image = jb.Image.from_dir(root)
        mount = jb.Mount.bind(source, "/volume/made/deep", writable=True)
        with _flipping(root, "volume", "trap"):
            for _ in rounds(SECONDS_OF_A_RACE):
                try:
                    result = jb.run(image, ["ls", "/volume/made/deep"], mounts=[mount])
                    rounds.came[result.stdout.strip() or "nothing"] += 1
                except jb.LaunchError as error:
                    rounds.came[f"refused: {error.step}"] += 1

        assert str(canary) not in Path("/proc/self/mountinfo").read_text()
        assert rounds.came

    @pytest.mark.slow
    def test_mt17_sources(self, canary: Path, tmp_path: Path, rounds: Rounds) -> None:
        """
        MT17: A source that flips between a directory and a link is opened once: what
        is seen is one or the other, twice the same. An ordinary user's start, which
        has to find it a second time, fails if it is not the same any more.
        """
        (tmp_path / "real").mkdir()
        (tmp_path / "real/inside").touch()
        (tmp_path / "trap").symlink_to(canary)
        mount = jb.Mount.bind(tmp_path / "real", "/volume")
        seen = set()
        command = "ls /volume; echo /; ls /volume"
        with _flipping(tmp_path, "real", "trap"):
            for _ in rounds(SECONDS_OF_A_RACE):
                try:
                    result = jb.run(
                        jb.Image.host(), command, shell=True, mounts=[mount]
                    )
                except jb.SpecError:  # There was none at that moment.
                    rounds.came["absent"] += 1
                    continue
                except jb.LaunchError as error:
                    if os.geteuid() == 0 or error.step != "tree":
                        raise
                    rounds.came["refused"] += 1
                    continue
                first, _, second = result.stdout.partition("/\n")
                assert first == second
                rounds.came[first.replace("\n", " ").strip()] += 1
                seen.add(first)

        assert seen <= {"inside\n", "below\nsecret\n"}


def test_mt17_a_link_as_source(canary: Path, tmp_path: Path) -> None:
    """
    MT17: A source that is a link shows what it leads to; the link itself, which the
    jail would follow in its own root, is not mounted.
    """
    (tmp_path / "link").symlink_to("canary")
    volume = jb.Mount.bind(tmp_path / "link", "/volume")
    result = jb.run(jb.Image.host(), ["cat", "/volume/secret"], mounts=[volume])

    assert "of the host" == result.stdout


class _flipping:  # noqa: N801  # used as a context manager
    """Exchange two entries of a directory as fast as possible, in a process."""

    def __init__(self, directory: Path, one: str, two: str) -> None:
        self._names = (str(directory / one), str(directory / two))

    def __enter__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._flip)
        self._thread.start()

    def _flip(self) -> None:
        one, two = self._names
        spare = f"{one}.spare"
        while not self._stop.is_set():
            # The name is absent for a moment; that is a state like the others.
            os.rename(one, spare)
            os.rename(two, one)
            os.rename(spare, two)
            time.sleep(0)
            os.rename(one, spare)
            os.rename(two, one)
            os.rename(spare, two)

    def __exit__(self, *args: object) -> None:
        self._stop.set()
        self._thread.join()


class TestTable:
    def test_mt9_nothing_is_shared(self, answers: Answers) -> None:
        """
        MT9: No mount propagates, neither out nor in, and nothing of an old root is
        left.
        """
        for mount in answers.mounts.values():
            assert not [tag for tag in mount.tags if tag != "-"], mount.text
            assert not mount.place.startswith("//"), mount.text
            assert mount.kind in {
                "overlay", "tmpfs", "proc", "sysfs", "devpts", "mqueue", "devtmpfs",
                "ext4", "xfs", "btrfs", "overlayfs", "zfs", "f2fs",
            }, mount.text  # fmt: skip

    def test_mt9_no_other_place(self, image: jb.Image, answers: Answers) -> None:
        """
        MT9: There are exactly the mounts that a jail is made of.
        """
        known = {
            "/", "/proc", "/sys", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", PROBE,
            "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32",
            *(f"/dev/{n}" for n in ("null", "zero", "full", "random")),
            *(f"/dev/{n}" for n in ("urandom", "tty")),
            *DEFAULT_MASKED_PATHS,
            *(f"/proc/{n}" for n in ("bus", "fs", "irq", "sys", "sysrq-trigger")),
        }  # fmt: skip
        others = answers.mounts.keys() - known
        interpreter = {os.path.abspath(p) for p in _prefixes()}

        assert others <= (interpreter if image == jb.Image.host() else set())

    def test_mt10_the_hosts_table_is_unchanged(self) -> None:
        """
        MT10: Many jails later the host's mounts are, byte for byte, what they were.
        """
        before = Path("/proc/self/mountinfo").read_bytes()
        for _ in range(50):
            jb.run(jb.Image.host(), ["true"])

        assert before == Path("/proc/self/mountinfo").read_bytes()

    def test_mt13_flags(self, answers: Answers) -> None:
        """
        MT13: No mount but /proc's own devices has nosuid unset; where no devices are
        nodev, where no programs are noexec, and /sys is read only.
        """
        mounts = answers.mounts
        expected = {
            "/": {"nosuid", "nodev"},
            "/proc": {"nosuid", "nodev", "noexec"},
            "/sys": {"ro", "nosuid", "nodev", "noexec"},
            "/dev": {"nosuid", "noexec"},
            "/dev/pts": {"nosuid", "noexec"},
            "/dev/shm": {"nosuid", "nodev", "noexec"},
            "/dev/mqueue": {"nosuid", "nodev", "noexec"},
            PROBE: {"ro", "nosuid", "nodev"},
        }
        for place, flags in expected.items():
            assert flags <= mounts[place].options, mounts[place].text
        for mount in mounts.values():
            assert "nosuid" in mount.options, mount.text

    def test_mt18_no_path_of_the_host(
        self, directory: jb.Image, ask: Asker, busybox_rootfs: Path
    ) -> None:
        """
        MT18: Where the image is on the host, and where the program that started the
        jail stands, cannot be seen.
        """
        answers = ask(directory)
        table = "\n".join(answers.group("mountinfo").values())

        assert str(busybox_rootfs) not in table
        assert str(Path.cwd()) not in table
        assert str(Path.home()) not in table.replace(f"{ask.program}", "")


def _prefixes() -> set[str]:
    import sys

    return {sys.base_prefix, sys.base_exec_prefix, sys.prefix, sys.exec_prefix}


class TestWaysOut:
    def test_mt11_up(self, answers: Answers) -> None:
        """
        MT11: Above the root there is the root.
        """
        assert "ok" == answers["root.climb"]

    def test_mt12_chroot(self, answers: Answers) -> None:
        """
        MT12: Who leaves a chroot of their own is still in the jail.
        """
        assert "ok" == answers["root.chroot"]

    def test_mt14_remounting(self, answers: Answers) -> None:
        """
        MT14: Nothing that is read only can be made writable.
        """
        assert {"EPERM"} == set(answers.group("remount").values())

    def test_mt14_the_kernel_refuses_too(self, ask: Asker, tmp_path: Path) -> None:
        """
        MT14: That is not the filter's merit alone: without it, and with every
        capability of the jail, a read-only mount of the host stays one.
        """
        security = jb.Security.trusted()
        command = "mount -o remount,bind,rw /volume; touch /volume/made"
        result = jb.run(
            jb.Image.host(),
            command,
            shell=True,
            security=security,
            mounts=[jb.Mount.bind(tmp_path, "/volume")],
        )

        assert result.exit_code != 0
        assert [] == os.listdir(tmp_path)


class TestReadOnly:
    def test_mt15_a_read_only_root(self, image: jb.Image, ask: Asker) -> None:
        """
        MT15: With read_only=True nothing can be made in the root; a tmpfs that was
        asked for can be written.
        """
        answers = ask(
            image,
            "create",
            "/made",
            "/usr/made",
            "/etc/made",
            "/tmp/made",
            "/volume/made",
            read_only=True,
            mounts=[jb.Mount.tmpfs("/volume")],
        )

        assert answers.group("create") == {
            "/made": "EROFS",
            "/usr/made": "EROFS",
            "/etc/made": "EROFS",
            "/tmp/made": "EROFS",
            "/volume/made": "ok",
        }

    @pytest.mark.root
    def test_mt16_below_a_read_only_volume(self, ask: Asker, tmp_path: Path) -> None:
        """
        MT16: A read-only volume is read only in the mounts below it as well.
        """
        below = tmp_path / "below"
        below.mkdir()
        volume = jb.Mount.bind(tmp_path, "/volume")
        subprocess.run(["mount", "-t", "tmpfs", "none", below], check=True)
        try:
            answers = ask(
                jb.Image.host(), "create", "/volume/below/made", mounts=[volume]
            )
        finally:
            subprocess.run(["umount", below], check=True)

        assert "EROFS" == answers["create./volume/below/made"]


def test_mt19_setuid_by_copy_up(rootfs: Callable[[], Path], many_ids: None) -> None:
    """
    MT19: A setuid program of a lower layer that is changed in the jail still gives
    nothing (CVE-2023-0386).
    """
    root = rootfs()
    program = root / "bin/suid"
    shutil.copy(root / "bin/busybox", root / "bin/id-copy")
    shutil.copy(root / "bin/busybox", program)
    program.chmod(0o4755)
    with jb.Container(jb.Image.from_dir(root)) as jail:
        jail.exec("printf x >> /bin/suid; chmod 4755 /bin/suid", shell=True, check=True)
        result = jail.exec(
            "ln -s /bin/suid /tmp/id; /tmp/id -u", shell=True, user="1000"
        )

    assert "1000\n" == result.stdout


@pytest.mark.parametrize("path", ["/proc/self/attr", "/proc/sys", "/sys/fs/cgroup"])
def test_mt22_nothing_over_proc(path: str, tmp_path: Path) -> None:
    """
    MT22: Nothing can be put over a file that we write to: such a mount is refused
    (CVE-2019-19921), and what is written to is proved to be procfs.
    """
    with pytest.raises(ValueError):
        jb.Mount.tmpfs(path)
    with pytest.raises(ValueError):
        jb.Mount.bind(tmp_path, path)


def test_mt23_terminals(answers: Answers) -> None:
    """
    MT23: No terminal of the host is seen: /dev/pts is the jail's own, and empty.
    """
    assert "ptmx" == answers["pts.entries"].strip()
    assert "ENOENT" == answers["open./dev/pts/0"]


def test_mt24_a_missing_source(tmp_path: Path) -> None:
    """
    MT24: A source that is not there is an error that names it, and is not made.
    """
    missing = tmp_path / "missing"
    with pytest.raises(jb.SpecError, match="missing"):
        jb.run(jb.Image.host(), ["true"], mounts=[jb.Mount.bind(missing, "/volume")])

    assert not missing.exists()


def test_mt25_small_file_systems(answers: Answers) -> None:
    """
    MT25: /dev and /dev/shm hold as much as they are meant to, and no more.
    """
    assert "ENOSPC" == answers["fill.dev"]
    assert int(answers["filled.dev"]) <= 64
    assert "ENOSPC" == answers["fill.shm"]
    assert int(answers["filled.shm"]) <= 64 << 10


@pytest.mark.root
def test_mt26_mounts_die_with_the_jail(tmp_path: Path) -> None:
    """
    MT26: Killing a jail frees its mounts at once: the file system that it showed can
    be unmounted.
    """
    subprocess.run(["mount", "-t", "tmpfs", "none", tmp_path], check=True)
    unmounted = False
    try:
        volume = jb.Mount.bind(tmp_path, "/volume", writable=True)
        with jb.Container(jb.Image.host(), mounts=[volume]) as jail:
            jail.exec(["touch", "/volume/made"], check=True)
        deadline = time.monotonic() + 1
        while not unmounted and time.monotonic() < deadline:
            done = subprocess.run(
                ["umount", tmp_path], check=False, capture_output=True
            )
            unmounted = done.returncode == 0
    finally:
        if not unmounted:
            subprocess.run(["umount", "-l", tmp_path], check=True)

    assert unmounted


LOCK = """
import fcntl, sys, time
file = open(sys.argv[1], "rb")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


class TestLocks:
    """What the threat model says about locks on files that a jail may only read."""

    @staticmethod
    def is_locked(path: Path) -> bool:
        """Whether somebody holds *path*."""
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def test_mt_a_mount_shares_locks(self, canary: Path) -> None:
        """
        A jail can lock a file of the host that it was given to read, as any reader can;
        the lock ends with the jail.
        """
        shared = canary / "secret"
        shared.chmod(0o644)
        mount = jb.Mount.bind(canary, "/volume")
        with jb.Container(jb.Image.host(), mounts=[mount]) as jail:  # noqa: SIM117
            with jail.popen(["python3", "-c", LOCK, "/volume/secret"]) as holder:
                assert "held" == next(iter(holder)).text.strip()
                assert self.is_locked(shared)
                jail.kill()

        assert not self.is_locked(shared)

    @pytest.mark.parametrize("read_only", [False, True])
    def test_mt_an_image_shares_no_locks(self, *, read_only: bool) -> None:
        """
        A lock on a file of an image is the jail's own affair, also where the image is
        the host.
        """
        with jb.Container(jb.Image.host(), read_only=read_only) as jail:  # noqa: SIM117
            with jail.popen(["python3", "-c", LOCK, "/usr/bin/env"]) as holder:
                assert "held" == next(iter(holder)).text.strip()
                assert not self.is_locked(Path("/usr/bin/env"))
                holder.kill()
