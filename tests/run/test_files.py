"""
Files of a container as its users see them: what is put where, and what paths can do.

The agents are plain processes that serve a directory of the test, changed into it
where the test is root; so what is stated here is about the files, not about jails.
"""

import contextlib
import errno
import io
import os
import pickle
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from jailbox.errors import (
    ContentError,
    DeadlineExceeded,
    EngineError,
    SpecError,
)
from jailbox.run.files import Bounds, ContainerPath, Copied, Files, items_of
from jailbox.run.paths import glob_matcher
from jailbox.spec.change import ChangeKind, FileType
from tests.native.agents import SANITIZERS, SHARED, PlainAgents, compile_c

IS_ROOT = os.geteuid() == 0


@pytest.fixture(scope="module")
def agent(shared_place: Path) -> Path:
    """Return an agent with sanitizers."""
    return compile_c(shared_place / "agent", "tree_agent.c", SHARED, *SANITIZERS)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the root directory of the container."""
    place = tmp_path / "root"
    place.mkdir()
    return place


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """Return a directory of the host."""
    place = tmp_path / "host"
    place.mkdir()
    return place


@pytest.fixture
def files(agent: Path, root: Path) -> Files:
    """Return the files of the container."""
    if not IS_ROOT:
        pytest.skip("files are given to root of the container, so root must serve")
    return Files(PlainAgents(agent, root, chroot=True))


def grow(place: Path, *paths: str) -> Path:
    """Make files that contain their own names; a final slash makes a directory."""
    for path in paths:
        whole = place / path
        if path.endswith("/"):
            whole.mkdir(parents=True, exist_ok=True)
        else:
            whole.parent.mkdir(parents=True, exist_ok=True)
            whole.write_text(whole.name)
    return place


def seen(place: Path) -> set[str]:
    """Name everything below *place*: directories with a slash, links with a target."""
    found = set()
    for path in place.rglob("*"):
        name = str(path.relative_to(place))
        if path.is_symlink():
            found.add(f"{name} -> {os.readlink(path)}")
        else:
            found.add(f"{name}/" if path.is_dir() else name)
    return found


def inode(path: Path) -> int:
    """Return the number of a file."""
    return path.stat().st_ino


class Mounted:
    """An agent in a mount namespace where something was mounted before."""

    layers = ()
    mount_points: frozenset[str] = frozenset()

    def __init__(self, program: Path, root: Path, mount: str) -> None:
        self._program = program
        self._root = root
        self._mount = mount

    @contextlib.contextmanager
    def connect(self, overlay: int = -1) -> Iterator[socket.socket]:
        """Mount and serve."""
        ours, theirs = socket.socketpair()
        with theirs:
            number = theirs.fileno()
            serve = f"exec {self._program} {number} {self._root} - - 1 0 0"
            process = subprocess.Popen(
                ["unshare", "-m", "sh", "-c", f"{self._mount} && {serve}"],
                pass_fds=(number,),
            )
        try:
            with ours:
                yield ours
        finally:
            assert process.wait(timeout=20) == 0


# ---- where a copy lands -------------------------------------------------------


class TestPutLands:
    @pytest.mark.parametrize(
        ("there", "target", "lands"),
        [
            ("app/", "/app", {"app/", "app/src/", "app/src/f"}),
            ("app/", "/app/", {"app/", "app/src/", "app/src/f"}),
            ("", "/app", {"app/", "app/f"}),
            ("", "/app/", {"app/", "app/f"}),
            ("", "/", {"src/", "src/f"}),
            ("app/src/old", "/app", {"app/", "app/src/", "app/src/f", "app/src/old"}),
        ],
    )
    def test_a_directory(
        self,
        files: Files,
        root: Path,
        host: Path,
        there: str,
        target: str,
        lands: object,
    ) -> None:
        """
        A directory goes inside an existing directory, and becomes a missing one.
        """
        grow(root, there) if there else None
        grow(host, "src/f")

        files.put(host / "src", target)

        assert seen(root) == lands

    @pytest.mark.parametrize(
        ("there", "target", "lands"),
        [
            ("app/", "/app", {"app/", "app/f"}),
            ("app/", "/app/g", {"app/", "app/g"}),
            ("app/g", "/app/g", {"app/", "app/g"}),
            ("", "/g", {"g"}),
            ("", "/", {"f"}),
        ],
    )
    def test_a_file(
        self,
        files: Files,
        root: Path,
        host: Path,
        there: str,
        target: str,
        lands: set[str],
    ) -> None:
        """
        A file goes inside an existing directory, and else becomes the target.
        """
        grow(root, there) if there else None
        grow(host, "f")

        files.put(host / "f", target)

        assert seen(root) == lands
        assert "f" in {path.read_text() for path in root.rglob("*") if path.is_file()}

    @pytest.mark.parametrize("source", ["src/.", "src/./"])
    @pytest.mark.parametrize("there", ["app/", "app/old", ""])
    def test_the_content_of_a_directory(
        self, files: Files, root: Path, host: Path, source: str, there: str
    ) -> None:
        """
        A source that ends with "/." is put as the target, not inside of it.
        """
        grow(root, there) if there else None
        grow(host, "src/f")

        files.put(f"{host}/{source.rstrip('/')}", "/app")

        assert seen(root) - {"app/old"} == {"app/", "app/f"}

    @pytest.mark.parametrize(
        ("there", "source", "target", "error"),
        [
            ("f", "src", "/f", NotADirectoryError),
            ("", "src/f", "/missing/", NotADirectoryError),
            ("", "src/f", "/missing/g", FileNotFoundError),
            ("", "src", "/missing/src", FileNotFoundError),
            ("f", "src/f", "/f/g", NotADirectoryError),
            ("f", "src/f", "/f/", NotADirectoryError),
            ("d/f/", "src/f", "/d", IsADirectoryError),
            ("d/src", "src", "/d", NotADirectoryError),
        ],
    )
    def test_refusals(
        self,
        files: Files,
        root: Path,
        host: Path,
        there: str,
        source: str,
        target: str,
        error: type[OSError],
    ) -> None:
        """
        Nothing becomes what it is not: the error names the path in the container, and
        nothing is changed.
        """
        grow(root, there) if there else None
        grow(host, "src/f")
        before = seen(root)

        with pytest.raises(error) as caught:
            files.put(host / source, target)

        assert str(caught.value.filename).startswith(target.rstrip("/"))
        assert "in the jail" in caught.value.__notes__[0]
        assert seen(root) == before

    def test_missing_parents(self, files: Files, root: Path, host: Path) -> None:
        """
        Directories that lead to the target are made when that is asked for.
        """
        grow(host, "src/f")

        files.put(host / "src", "/a/b/c", parents=True)
        files.put(host / "src/f", "/d/e/g", parents=True)

        assert seen(root) == {"a/", "a/b/", "a/b/c/", "a/b/c/f", "d/", "d/e/", "d/e/g"}

    def test_links_in_the_target_stay_inside(
        self, files: Files, root: Path, host: Path
    ) -> None:
        """
        Links of the container are followed as the container sees them.
        """
        grow(root, "real/", "etc/")
        (root / "absolute").symlink_to("/real")
        (root / "etc/up").symlink_to("../../../real")
        grow(host, "f", "g", "h")
        (root / "file").symlink_to("real/target")

        files.put(host / "f", "/absolute")
        files.put(host / "g", "/etc/up/")
        files.put(host / "h", "/file")

        assert seen(root / "real") == {"f", "g", "target"}
        assert (root / "real/target").read_text() == "h"
        assert (root / "file").is_symlink()
        assert seen(host) == {"f", "g", "h"}

    def test_a_missing_source(self, files: Files, host: Path) -> None:
        """
        A source that is not there is named as the caller named it.
        """
        with pytest.raises(FileNotFoundError) as caught:
            files.put(host / "missing", "/x")

        assert caught.value.filename == f"{host}/missing"
        assert "on the host" in caught.value.__notes__[0]

    def test_a_source_that_is_a_link(
        self, files: Files, root: Path, host: Path
    ) -> None:
        """
        A link is put as a link, or as what it points to when that is asked for.
        """
        grow(host, "f")
        (host / "link").symlink_to("f")

        files.put(host / "link", "/as-link")
        files.put(host / "link", "/as-file", follow_symlinks=True)

        assert seen(root) == {"as-link -> f", "as-file"}


class TestGetLands:
    @pytest.mark.parametrize(
        ("there", "path", "target", "lands"),
        [
            ("out/", "/src", "out", {"out/", "out/src/", "out/src/f"}),
            ("out/", "/src", "out/", {"out/", "out/src/", "out/src/f"}),
            ("out/", "/src/.", "out", {"out/", "out/f"}),
            ("", "/src", "out", {"out/", "out/f"}),
            ("", "/src/.", "out", {"out/", "out/f"}),
            ("out/", "/src/f", "out", {"out/", "out/f"}),
            ("", "/src/f", "out", {"out"}),
            ("out", "/src/f", "out", {"out"}),
            ("out/", "/", "out", {"out/", "out/src/", "out/src/f"}),
        ],
    )
    def test_copies(
        self,
        files: Files,
        root: Path,
        host: Path,
        there: str,
        path: str,
        target: str,
        lands: set[str],
    ) -> None:
        """
        Copies out land as copies in do.
        """
        grow(root, "src/f")
        grow(host, there) if there else None

        files.get(path, f"{host}/{target}")

        assert seen(host) == lands
        assert {each.read_text() for each in host.rglob("*") if each.is_file()} == {"f"}

    def test_relative_targets(
        self, files: Files, root: Path, host: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A relative target is one of the current directory, also ".".
        """
        grow(root, "src/f", "g")
        monkeypatch.chdir(host)

        files.get("/src", "out")
        files.get("/g", ".")
        files.get("/src/.", ".")

        assert seen(host) == {"out/", "out/f", "g", "f"}

    def test_without_a_target(self, files: Files, root: Path) -> None:
        """
        Without a target, the content of a file is returned.
        """
        grow(root, "f")

        assert files.get("/f") == b"f"

    def test_a_link_is_no_way_out(self, files: Files, root: Path, host: Path) -> None:
        """
        A target that is a link to a directory is refused, unless it is written with a
        slash; one to a file is replaced, and the file is untouched.
        """
        grow(root, "f")
        grow(host, "elsewhere/", "mine")
        (host / "link").symlink_to("elsewhere")
        (host / "other").symlink_to("mine")

        with pytest.raises(SpecError, match="link to a directory"):
            files.get("/f", host / "link")
        assert seen(host / "elsewhere") == set()
        files.get("/f", f"{host}/link/")
        files.get("/f", host / "other")

        assert seen(host / "elsewhere") == {"f"}
        assert (host / "mine").read_text() == "mine"
        assert (host / "other").read_text() == "f"
        assert not (host / "other").is_symlink()

    def test_nothing_is_replaced_unless_allowed(
        self, files: Files, root: Path, host: Path
    ) -> None:
        """
        With replace=False, what is there stays.
        """
        grow(root, "f")
        (host / "f").write_text("mine")

        with pytest.raises(FileExistsError) as caught:
            files.get("/f", host / "f", replace=False)

        assert caught.value.filename == f"{host}/f"
        assert (host / "f").read_text() == "mine"

    def test_a_missing_path(self, files: Files, host: Path) -> None:
        """
        A path that is not there is named, and nothing is made.
        """
        with pytest.raises(FileNotFoundError) as caught:
            files.get("/missing", host / "out")

        assert caught.value.filename == "/missing"
        assert seen(host) == set()

    def test_a_link_itself(self, files: Files, root: Path, host: Path) -> None:
        """
        A link is copied as a link, or as what it means inside when that is asked for.
        """
        grow(root, "etc/secret")
        (root / "link").symlink_to("/etc/secret")

        files.get("/link", host / "as-link")
        files.get("/link", host / "as-file", follow_symlinks=True)

        assert seen(host) == {"as-link -> /etc/secret", "as-file"}
        assert (host / "as-file").read_text() == "secret"


# ---- what is kept --------------------------------------------------------------


class TestFidelity:
    @pytest.fixture
    def source(self, host: Path) -> Path:
        """Return a tree with something of everything."""
        place = grow(host, "src/plain", "src/empty/", "src/d/e/f/g") / "src"
        (place / "program").write_bytes(b"\x7fELF")
        (place / "program").chmod(0o4755)
        (place / "closed").mkdir()
        (place / "closed/f").write_text("f")
        (place / "closed").chmod(0o500)
        (place / "secret").write_text("s")
        (place / "secret").chmod(0o400)
        (place / "sticky").mkdir()
        (place / "sticky").chmod(0o3777)
        (place / "dangling").symlink_to("/no/where")
        (place / "loop").symlink_to("loop")
        (place / os.fsdecode(b"caf\xe9 \xff\n\x1b")).write_text("bytes")
        (place / ("x" * 255)).write_text("long")
        (place / "-rf").write_text("dash")
        for number, path in enumerate([place, *place.rglob("*")]):
            moment = 1_000_000_000 + number * 1_000_000_007
            os.utime(path, ns=(moment, moment), follow_symlinks=False)
        # Their times were changed by what was made in them.
        os.utime(place, ns=(1, 1))
        return place

    def described(self, place: Path) -> dict[str, object]:
        """Say everything about a tree that a copy has to keep."""
        return {
            str(path.relative_to(place)): (
                stat.filemode(path.lstat().st_mode),
                path.lstat().st_mtime_ns,
                os.readlink(path)
                if path.is_symlink()
                else path.is_file() and path.read_bytes(),
            )
            for path in [place, *place.rglob("*")]
        }

    def test_in_and_out(
        self, files: Files, root: Path, host: Path, source: Path
    ) -> None:
        """
        Names, modes, times, links and content arrive in the container, and come back.
        """
        copied = files.put(source, "/")
        returned = files.get("/src", host / "back", keep_setid=True)

        entries = 1 + sum(1 for _ in source.rglob("*"))
        assert isinstance(returned, Copied)
        assert copied.entries == returned.entries == entries
        assert self.described(root / "src") == self.described(source)
        assert self.described(host / "back") == self.described(source)

    def test_owners(self, files: Files, root: Path, host: Path) -> None:
        """
        What is put belongs to root of the container, or to whom the caller says, by
        number or by a name of the container.
        """
        grow(host, "src/d/f")
        (host / "src/link").symlink_to("f")
        os.chown(host / "src/d/f", 12345, 12345)
        grow(root, "etc/")
        (root / "etc/passwd").write_text("www:x:33:34::/:/bin/sh\n")
        (root / "etc/group").write_text("staff:x:50:\n")

        def owners(path: str) -> set[tuple[int, int]]:
            places = [root / path, *(root / path).rglob("*")]
            return {(each.lstat().st_uid, each.lstat().st_gid) for each in places}

        files.put(host / "src", "/root")
        files.put(host / "src", "/numbers", owner="1000:100")
        files.put(host / "src", "/number", owner=7)
        files.put(host / "src", "/name", owner="www")
        files.put(host / "src", "/names", owner="www:staff")
        files.put(b"x", "/bytes", owner="www")

        assert owners("root") == {(0, 0)}
        assert owners("numbers") == {(1000, 100)}
        assert owners("number") == {(7, 0)}
        assert owners("name") == {(33, 34)}
        assert owners("names") == {(33, 50)}
        assert owners("bytes") == {(33, 34)}
        with pytest.raises(SpecError, match="'nobody' is not in"):
            files.put(host / "src", "/x", owner="nobody")

    def test_inherited_groups(self, files: Files, root: Path, host: Path) -> None:
        """
        A directory that hands down its group does not give it to what is put there.
        """
        grow(root, "shared/")
        os.chown(root / "shared", 0, 50)
        (root / "shared").chmod(0o2755)
        grow(host, "src/d/f", "single")

        files.put(host / "src", "/shared")
        files.put(host / "single", "/shared")

        for path in (root / "shared").rglob("*"):
            assert path.stat().st_gid == 0
        assert stat.S_IMODE((root / "shared/src/d").stat().st_mode) == 0o755

    def test_default_acls(self, files: Files, root: Path, host: Path) -> None:
        """
        A directory with a default access list does not change the modes of what is put
        there.
        """
        grow(root, "listed/")
        # Version 2; user::rwx, group::---, other::---, as acl(5) lays them out.
        entries = b"".join(
            tag + permissions + b"\xff\xff\xff\xff"
            for tag, permissions in (
                (b"\x01\0", b"\x07\0"),
                (b"\x04\0", b"\0\0"),
                (b"\x20\0", b"\0\0"),
            )
        )
        try:
            os.setxattr(
                root / "listed", "system.posix_acl_default", b"\x02\0\0\0" + entries
            )
        except OSError as error:
            pytest.skip(f"no access lists here: {error}")
        grow(host, "src/d/f")
        (host / "src/d/f").chmod(0o644)

        files.put(host / "src", "/listed")
        files.put(host / "src/d/f", "/listed")

        assert stat.S_IMODE((root / "listed/src/d/f").stat().st_mode) == 0o644
        assert stat.S_IMODE((root / "listed/src/d").stat().st_mode) == 0o755
        assert stat.S_IMODE((root / "listed/f").stat().st_mode) == 0o644

    def test_merging_keeps_what_is_there(
        self, files: Files, root: Path, host: Path
    ) -> None:
        """
        A directory that is there keeps its mode, owner and time, and what else is in
        it; files are replaced by new ones, so hard links elsewhere stay as they were.
        """
        grow(root, "app/src/kept", "app/src/f", "app/src/d/")
        (root / "app/src/d").chmod(0o711)
        os.link(root / "app/src/f", root / "linked")
        (root / "app/src/link").symlink_to("/linked")
        os.utime(root / "app/src/d", (5, 5))
        grow(host, "src/d/", "src/f", "src/link")
        (host / "src/f").write_text("new")

        files.put(host / "src", "/app")

        assert (root / "app/src/kept").read_text() == "kept"
        assert (root / "app/src/f").read_text() == "new"
        assert (root / "linked").read_text() == "f"
        assert (root / "app/src/link").read_text() == "link"
        assert not (root / "app/src/link").is_symlink()
        assert stat.S_IMODE((root / "app/src/d").stat().st_mode) == 0o711
        assert (root / "app/src/d").stat().st_mtime == 5

    def test_attributes(self, files: Files, root: Path, host: Path) -> None:
        """
        Attributes of users are copied when that is asked for; marks of an overlay
        never are (TAR10).
        """
        grow(host, "src/f")
        try:
            os.setxattr(host / "src/f", "user.note", b"n\0te")
            os.setxattr(host / "src", "user.empty", b"")
            os.setxattr(host / "src", "user.overlay.opaque", b"y")
            os.setxattr(root, "user.probe", b"")
        except OSError as error:
            pytest.skip(f"no attributes here: {error}")

        files.put(host / "src", "/plain")
        files.put(host / "src", "/with", xattrs=True)
        files.get("/with", host / "back", xattrs=True)

        assert os.listxattr(root / "plain/f") == []
        for place in (root / "with", host / "back"):
            assert os.getxattr(place / "f", "user.note") == b"n\0te"
            assert os.listxattr(place) == ["user.empty"]

    def test_holes(self, files: Files, root: Path, host: Path) -> None:
        """
        Holes stay holes, at both ends and between, past four gigabytes; a copy costs
        what the data costs.
        """
        with open(host / "sparse", "wb") as file:
            file.seek(5 << 30)
            file.write(b"middle")
            file.truncate(6 << 30)

        files.put(host / "sparse", "/sparse")
        files.get("/sparse", host / "back")

        for path in (root / "sparse", host / "back"):
            status = path.stat()
            assert status.st_size == 6 << 30
            assert status.st_blocks * 512 < 1 << 20
            with open(path, "rb") as file:
                file.seek(5 << 30)
                assert file.read(8) == b"middle\0\0"

    @pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 1_000_000, 20_000_003])
    def test_sizes(self, files: Files, root: Path, host: Path, size: int) -> None:
        """
        Content of every size arrives, whatever it is cut into on the way.
        """
        content = os.urandom(size)
        (host / "f").write_bytes(content)

        files.put(host / "f", "/f")
        files.put(content, "/g")

        assert (root / "f").read_bytes() == content
        assert (root / "g").read_bytes() == content
        assert files.get("/f") == content
        assert files.get("/f", host / "back").bytes == size
        assert (host / "back").read_bytes() == content

    def test_special_files_are_skipped(
        self, files: Files, root: Path, host: Path
    ) -> None:
        """
        Pipes, sockets and devices are left out and named, in both directions and at
        once (EX7).
        """
        for place in (host / "src", root / "src"):
            place.mkdir()
            os.mkfifo(place / "pipe")
            os.mknod(place / "device", stat.S_IFCHR | 0o666, os.makedev(1, 5))
            with socket.socket(socket.AF_UNIX) as sock:
                sock.bind(os.path.relpath(place / "socket"))
            grow(place, "f")

        began = time.monotonic()
        put = files.put(host / "src", "/put")
        got = files.get("/src", host / "got")

        assert time.monotonic() - began < 1
        assert isinstance(got, Copied)
        for copied in (put, got):
            assert set(copied.skipped) == {"pipe", "device", "socket"}
            assert copied.skipped_count == 3
            assert copied.entries == 2
        assert seen(root / "put") == seen(host / "got") == {"f"}

    def test_special_files_alone(self, files: Files, root: Path, host: Path) -> None:
        """
        A pipe, a socket or a device alone is an error at once, in every call (EX7).
        """
        os.mkfifo(root / "pipe")
        os.mkfifo(host / "pipe")
        os.mknod(root / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
        began = time.monotonic()
        for action in (
            lambda: files.get("/pipe"),
            lambda: files.get("/zero"),
            lambda: files.get("/pipe", host / "out"),
            lambda: files.get("/zero", host / "out"),
            lambda: files.put(host / "pipe", "/in"),
            lambda: files.put(b"x", "/zero"),
            lambda: files.put(b"x", "/pipe"),
            lambda: files.write("/pipe", b"x"),
        ):
            with pytest.raises(OSError) as caught:
                action()
            assert caught.value.errno in {errno.EOPNOTSUPP, errno.EEXIST}

        assert time.monotonic() - began < 2
        assert stat.S_ISFIFO((root / "pipe").stat().st_mode)
        assert stat.S_ISCHR((root / "zero").stat().st_mode)
        assert seen(host) == {"pipe"}

    def test_files_of_the_kernel(self, agent: Path, host: Path) -> None:
        """
        Files without a size are read to their end; one that waits for more is an error
        at once (EX7).
        """
        files = Files(PlainAgents(agent, Path("/")))

        began = time.monotonic()
        status = files.get("/proc/self/status")
        with contextlib.suppress(OSError):
            # Refused, or what the kernel has said so far; never waited for.
            files.get("/proc/kmsg", host / "kmsg")
        assert time.monotonic() - began < 1
        assert b"tree_agent" in status or b"agent" in status
        with pytest.raises(OSError, match=r"kmsg|not permitted|unavailable"):
            files.get("/proc/kmsg")

    def test_a_growing_file_ends(self, files: Files, root: Path) -> None:
        """
        A file that is written to without end is read up to the size it had (EX7).
        """
        place = root / "log"
        place.write_bytes(b"x" * 100_000)
        stop = threading.Event()

        def grow_on() -> None:
            with open(place, "ab") as file:
                while not stop.is_set():
                    file.write(b"y" * 65536)
                    file.flush()
                    if file.tell() > 1 << 28:
                        file.truncate(100_000)

        writer = threading.Thread(target=grow_on)
        writer.start()
        try:
            content = files.get("/log", timeout=5)
        finally:
            stop.set()
            writer.join()

        assert content.startswith(b"x" * 100_000)

    def test_hard_links_become_files(
        self, files: Files, root: Path, host: Path
    ) -> None:
        """
        Names of one file become files of their own.
        """
        grow(host, "src/one")
        os.link(host / "src/one", host / "src/two")

        files.put(host / "src", "/src")

        assert (root / "src/two").read_text() == "one"
        assert inode(root / "src/one") != inode(root / "src/two")


# ---- from memory ----------------------------------------------------------------


class TestFromMemory:
    def test_a_mapping(self, files: Files, root: Path) -> None:
        """
        A mapping becomes files below the target, text in UTF-8, directories as needed.
        """
        files.put(
            {
                "main.py": "print('ä')\n",
                "data/raw.bin": b"\0\xff",
                "data/more/deep.txt": bytearray(b"deep"),
                "view": memoryview(b"view"),
            },
            "/work",
        )

        assert seen(root) == {
            "work/",
            "work/main.py",
            "work/data/",
            "work/data/raw.bin",
            "work/data/more/",
            "work/data/more/deep.txt",
            "work/view",
        }
        assert (root / "work/main.py").read_text() == "print('ä')\n"
        assert (root / "work/data/raw.bin").read_bytes() == b"\0\xff"
        assert stat.S_IMODE((root / "work/main.py").stat().st_mode) == 0o644
        assert stat.S_IMODE((root / "work/data").stat().st_mode) == 0o755

    def test_a_mapping_merges(self, files: Files, root: Path) -> None:
        """
        A mapping goes into the target, not inside a directory of its own.
        """
        grow(root, "work/kept")

        files.put({"f": b"f"}, "/work")
        files.put({}, "/nothing")

        assert seen(root) == {"work/", "work/kept", "work/f", "nothing/"}

    def test_many(self, files: Files, root: Path) -> None:
        """
        A mapping may be large, in number and in bytes.
        """
        many = {f"d{i % 7}/f{i}": f"{i}" for i in range(3000)}
        many["big"] = "x" * 3_000_000

        copied = files.put(many, "/many")

        assert copied.entries == 3000 + 1 + 7 + 1
        assert (root / "many/d3/f10").read_text() == "10"
        assert (root / "many/big").stat().st_size == 3_000_000

    @pytest.mark.parametrize(
        "path", ["", "/abs", "a//b", "a/", "../x", "a/../../x", ".", "./a", "a\0b"]
    )
    def test_paths_that_are_refused(self, path: str) -> None:
        """
        A path of a mapping is plain and relative; anything else is refused before
        anything is done.
        """
        with pytest.raises(SpecError):
            items_of({path: b""})

    @pytest.mark.parametrize(
        "mapping", [{"a": b"", "a/b": b""}, {"a/b": b"", "a": b""}]
    )
    def test_a_file_and_a_directory(self, mapping: dict[str, bytes]) -> None:
        """
        One name cannot be both.
        """
        with pytest.raises(SpecError, match="also a directory"):
            items_of(mapping)

    def test_content_that_is_none(self) -> None:
        """
        Content is bytes or text.
        """
        with pytest.raises(SpecError, match="no content for 'a'"):
            items_of({"a": 1})  # type: ignore[dict-item]

    def test_bytes(self, files: Files, root: Path) -> None:
        """
        Bytes become the target itself, never something in a directory.
        """
        grow(root, "d/")

        files.put(b"content", "/f")

        assert (root / "f").read_bytes() == b"content"
        with pytest.raises(IsADirectoryError):
            files.put(b"content", "/d")
        with pytest.raises(NotADirectoryError):
            files.put(b"content", "/g/")


# ---- all or nothing -------------------------------------------------------------


class TestAllOrNothing:
    def test_a_source_that_cannot_be_read(
        self, files: Files, root: Path, host: Path
    ) -> None:
        """
        When the source fails in the middle, nothing of it is in the container: neither
        the new directory nor a temporary one.
        """
        grow(host, "src/a/f")
        deep = host / "src"
        for _ in range(140):
            deep = deep / "d"
        os.makedirs(deep)

        with pytest.raises(ContentError, match="more than 128 directories"):
            files.put(host / "src", "/app")

        assert seen(root) == set()

    @pytest.mark.parametrize(
        ("bounds", "message"),
        [
            (Bounds(entries=3), "more than 3 entries"),
            (Bounds(bytes=3), "more than 3 bytes"),
            (Bounds(depth=1), "more than 1 directories"),
        ],
    )
    def test_bounds(
        self, files: Files, root: Path, host: Path, bounds: Bounds, message: str
    ) -> None:
        """
        A bound that is reached is named, in both directions, and nothing is left.
        """
        for place in (host, root):
            grow(place, "src/a", "src/bb", "src/d/cc")

        with pytest.raises(ContentError, match=message) as caught:
            files.put(host / "src", "/app", bounds=bounds)
        assert "Bounds(" in caught.value.__notes__[0]
        with pytest.raises(ContentError, match=message):
            files.get("/src", host / "out", bounds=bounds)

        assert "app/" not in seen(root)
        assert not any(".jb-" in each for each in seen(root) | seen(host))
        assert not (host / "out").exists()

    def test_reading_is_bounded(self, files: Files, root: Path) -> None:
        """
        A file that is too large is refused before its first byte is sent.
        """
        with open(root / "huge", "wb") as file:
            file.truncate(1 << 40)

        with pytest.raises(ContentError, match="more than 1000 bytes"):
            files.read("/huge", max_bytes=1000)
        with pytest.raises(ContentError, match="more than 1073741824 bytes"):
            files.get("/huge")

    def test_a_container_that_dies(self, agent: Path, root: Path, host: Path) -> None:
        """
        An agent that is killed in the middle is an error that says so; what was
        received is removed, and what was sent is not under its name.
        """
        grow(host, "src/")
        (root / "big").write_bytes(bytes(50_000_000))
        (host / "src/big").write_bytes(bytes(50_000_000))
        (root / "old").write_text("old")

        class Dying(PlainAgents):
            @contextlib.contextmanager
            def connect(self, overlay: int = -1) -> Iterator[socket.socket]:
                with super().connect(overlay) as sock:
                    # The end of file in the middle of a conversation.
                    timer = threading.Timer(0.01, sock.shutdown, [socket.SHUT_RDWR])
                    timer.start()
                    try:
                        yield sock
                    finally:
                        timer.join()

        files = Files(Dying(agent, root))
        with pytest.raises(EngineError, match="before it answered"):
            files.get("/big", host / "out")
        with pytest.raises(EngineError, match="before it answered"):
            files.put(host / "src/big", "/old")
        with pytest.raises(EngineError, match="before it answered"):
            files.put(host / "src", "/new")

        assert not (host / "out").exists()
        assert (root / "old").read_text() == "old"
        assert seen(root) == {"big", "old"}
        assert seen(host) == {"src/", "src/big"}

    def test_deadlines(self, agent: Path, root: Path) -> None:
        """
        A timeout is honored, named, and may be a timedelta.
        """

        class Silent(PlainAgents):
            @contextlib.contextmanager
            def connect(self, overlay: int = -1) -> Iterator[socket.socket]:
                ours, theirs = socket.socketpair()
                with ours, theirs:
                    yield ours

        files = Files(Silent(agent, root))
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded, match=r"read '/x' .* within 0.1 s"):
            files.read("/x", timeout=timedelta(milliseconds=100))

        assert 0.1 <= time.monotonic() - began < 0.15
        with pytest.raises(SpecError):
            files.read("/x", timeout=-1)

    @pytest.mark.root
    def test_full_disk(self, agent: Path, host: Path, root: Path) -> None:
        """
        A container without room is an error of that name, and nothing is left.
        """
        (host / "big").write_bytes(bytes(3_000_000))
        files = Files(Mounted(agent, root, f"mount -t tmpfs -o size=1M none {root}"))

        with pytest.raises(OSError, match="No space") as caught:
            files.put(host / "big", "/big")

        assert caught.value.errno == errno.ENOSPC
        assert caught.value.filename == "/big"

    @pytest.mark.root
    def test_a_mounted_file(self, agent: Path, host: Path, root: Path) -> None:
        """
        A file that is mounted cannot be replaced: it is written into, and keeps mode
        and owner, and nothing else is left.
        """
        grow(root, "conf")
        (host / "mounted").write_bytes(b"longer than before" * 10_000)
        (host / "mounted").chmod(0o600)
        number = inode(host / "mounted")
        mount = f"mount --bind {host}/mounted {root}/conf"
        files = Files(Mounted(agent, root, mount))

        files.path("/conf").write_text("short")

        assert (host / "mounted").read_text() == "short"
        assert inode(host / "mounted") == number
        assert stat.S_IMODE((host / "mounted").stat().st_mode) == 0o600
        files.put(os.urandom(300_000), "/conf")
        assert (host / "mounted").stat().st_size == 300_000
        assert seen(root) == {"conf"}
        with pytest.raises(OSError, match="busy"):
            files.remove("/conf")

    def test_excludes(self, files: Files, root: Path, host: Path) -> None:
        """
        Patterns leave out names anywhere, or paths from the top; and what is below
        them.
        """
        grow(
            host,
            "src/a.py",
            "src/a.pyc",
            "src/sub/b.pyc",
            "src/.git/config",
            "src/sub/.git/config",
            "src/build/x",
            "src/sub/build/y",
            "src/docs/a/b.tmp",
            "src/docs/c.tmp",
        )

        files.put(
            host / "src", "/", excludes=["*.pyc", ".git", "/build", "docs/**/*.tmp"]
        )

        assert seen(root) == {
            "src/",
            "src/a.py",
            "src/sub/",
            "src/sub/build/",
            "src/sub/build/y",
            "src/docs/",
            "src/docs/a/",
        }
        with pytest.raises(SpecError, match="one pattern, not several"):
            files.put(host / "src", "/", excludes="*.pyc")


# ---- reading and changing --------------------------------------------------------


class TestFiles:
    @pytest.mark.parametrize("path", ["relative", "", "a/../b"])
    def test_paths_are_absolute(self, files: Files, path: str) -> None:
        """
        A path that does not start with a slash is refused before anything is done.
        """
        with pytest.raises(SpecError, match="is not absolute"):
            files.read(path)

    def test_dotdot_stays_inside(self, files: Files, root: Path) -> None:
        """
        ".." of the root is the root.
        """
        grow(root, "f")

        assert files.read("/../../../../f") == b"f"
        assert files.stat("/..").inode == inode(root)

    def test_stat(self, files: Files, root: Path) -> None:
        """
        What a path is comes as the kernel says it.
        """
        grow(root, "d/f")
        (root / "d/f").chmod(0o4751)
        os.chown(root / "d/f", 3, 4)
        (root / "d/f").chmod(0o4751)
        os.utime(root / "d/f", ns=(1, -1_500_000_000))
        (root / "link").symlink_to("d/f")

        found = files.stat("/link")
        link = files.stat("/link", follow_symlinks=False)
        real = (root / "d/f").stat()

        assert (found.type, found.mode, found.uid, found.gid, found.size) == (
            FileType.FILE, 0o4751, 3, 4, 1,
        )  # fmt: skip
        assert (found.st_mode, found.st_size, found.st_nlink, found.st_ino) == (
            real.st_mode, real.st_size, real.st_nlink, real.st_ino,
        )  # fmt: skip
        assert found.mtime_ns == found.st_mtime_ns == real.st_mtime_ns == -1_500_000_000
        assert found.st_mtime == real.st_mtime
        assert found.device == real.st_dev
        assert (found.st_uid, found.st_gid) == (3, 4)
        assert (found.name, link.name) == ("link", "link")
        assert (link.type, link.target, found.target) == (FileType.SYMLINK, "d/f", None)

    def test_write_replaces_all_at_once(self, files: Files, root: Path) -> None:
        """
        Writing makes a new file in place of the old one, with its mode and owner; who
        has the old one open keeps it.
        """
        grow(root, "f")
        (root / "f").chmod(0o640)
        os.chown(root / "f", 5, 6)
        with open(root / "f", encoding="ascii") as old:
            written = files.write("/f", "new")
            assert old.read() == "f"

        status = (root / "f").stat()
        assert written == 3
        assert (root / "f").read_text() == "new"
        assert (status.st_mode & 0o777, status.st_uid, status.st_gid) == (0o640, 5, 6)
        files.write("/f", b"newer", mode=0o600, owner="7:8")
        status = (root / "f").stat()
        assert (status.st_mode & 0o777, status.st_uid, status.st_gid) == (0o600, 7, 8)

    def test_write_new(self, files: Files, root: Path) -> None:
        """
        A file that must be new is refused when something is there.
        """
        grow(root, "f")
        (root / "dangling").symlink_to("missing")

        with pytest.raises(FileExistsError):
            files.write("/f", b"x", new=True)
        files.write("/a/b/c", b"x", new=True, parents=True)

        assert (root / "f").read_text() == "f"
        assert (root / "a/b/c").read_text() == "x"

    def test_get_to_a_missing_directory(
        self, files: Files, root: Path, host: Path
    ) -> None:
        """
        A file does not become what is written as a directory that is not there; a
        directory does.
        """
        grow(root, "f", "d/a")

        with pytest.raises(NotADirectoryError):
            files.get("/f", f"{host}/missing/")
        assert not (host / "missing").exists()
        files.get("/d", f"{host}/missing/")

        assert (host / "missing/a").exists()

    def test_list(self, files: Files, root: Path) -> None:
        """
        A directory is listed as deep as is asked for.
        """
        grow(root, "d/a", "d/b/c/d")

        def names(depth: int | None) -> set[str]:
            return {path for path, _ in files.list("/d", depth=depth)}

        assert names(1) == {"a", "b"}
        assert names(2) == {"a", "b", "b/c"}
        assert names(None) == {"a", "b", "b/c", "b/c/d"}
        with pytest.raises(NotADirectoryError):
            files.list("/d/a")
        with pytest.raises(ContentError, match="more than 2 entries"):
            files.list("/d", depth=None, bounds=Bounds(entries=2))

    def test_mkdir(self, files: Files, root: Path) -> None:
        """
        Directories are made with the mode that was asked for, and refused as by the
        kernel.
        """
        grow(root, "f", "there/")
        (root / "link").symlink_to("there")

        files.mkdir("/a", mode=0o1777)
        files.mkdir("/x/y/z", parents=True)
        files.mkdir("/there", exist_ok=True)
        files.mkdir("/link", exist_ok=True)
        files.mkdir("/link/inside")

        assert stat.S_IMODE((root / "a").stat().st_mode) == 0o1777
        assert stat.S_IMODE((root / "x/y").stat().st_mode) == 0o755
        assert (root / "there/inside").is_dir()
        for path, error in (
            ("/a", FileExistsError),
            ("/m/n", FileNotFoundError),
            ("/f/n", NotADirectoryError),
            ("/", FileExistsError),
        ):
            with pytest.raises(error):
                files.mkdir(path)
        with pytest.raises(FileExistsError):
            files.mkdir("/f", exist_ok=True)
        files.mkdir("/", exist_ok=True)

    def test_remove(self, files: Files, root: Path, host: Path) -> None:
        """
        Removing takes what was named, never what a link points to.
        """
        grow(root, "f", "d/e/f", "empty/")
        grow(host, "mine")
        (root / "d/out").symlink_to(host)
        (root / "link").symlink_to("d")

        files.remove("/link")
        files.remove("/f")
        files.remove("/empty", directory=True)
        files.remove("/missing", missing_ok=True)
        files.remove("/missing/below", missing_ok=True, recursive=True)
        for path, options, number in (
            ("/d", {}, errno.EISDIR),
            ("/d", {"directory": True}, errno.ENOTEMPTY),
            ("/d/e/f", {"directory": True}, errno.ENOTDIR),
            ("/missing", {}, errno.ENOENT),
            ("/", {"recursive": True}, errno.EBUSY),
            ("/d/..", {"recursive": True}, errno.EBUSY),
        ):
            with pytest.raises(OSError) as caught:
                files.remove(path, **options)
            assert caught.value.errno == number, path
        files.remove("/d", recursive=True)

        assert seen(root) == set()
        assert seen(host) == {"mine"}

    def test_remove_deep(self, files: Files, root: Path) -> None:
        """
        A tree is removed however deep it is, also deeper than a path is long.
        """
        fd = os.open(root, os.O_RDONLY)
        os.mkdir("top", dir_fd=fd)
        for name in ["top"] + ["d" * 50] * 1500:
            inner = os.open(name, os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = inner
            os.mkdir("d" * 50, dir_fd=fd)
            os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        os.close(fd)

        files.remove("/top", recursive=True)

        assert os.listdir(root) == []

    def test_rename(self, files: Files, root: Path) -> None:
        """
        Renaming replaces, unless it must not.
        """
        grow(root, "a", "b", "c", "d/")

        files.rename("/a", "/b")
        files.rename("/b", "/d/e")

        assert seen(root) == {"c", "d/", "d/e"}
        assert (root / "d/e").read_text() == "a"
        with pytest.raises(FileExistsError):
            files.rename("/c", "/d/e", replace=False)
        with pytest.raises(FileNotFoundError):
            files.rename("/missing", "/x")
        with pytest.raises(OSError, match="busy"):
            files.rename("/d", "/")

    def test_change(self, files: Files, root: Path) -> None:
        """
        Mode, owner and time are changed together or alone, of a file, a directory, a
        pipe, or of a link itself.
        """
        grow(root, "f", "d/")
        os.mkfifo(root / "pipe")
        (root / "link").symlink_to("f")

        files.change("/f", mode=0o4711, owner="3:4", mtime_ns=1_500_000_001)
        files.change("/d", mode=0o700)
        files.change("/pipe", mode=0o600, owner=9)
        files.change("/link", owner="5:6", follow_symlinks=False)

        status = (root / "f").stat()
        assert stat.S_IMODE(status.st_mode) == 0o4711
        assert (status.st_uid, status.st_gid) == (3, 4)
        assert status.st_mtime_ns == 1_500_000_001
        assert stat.S_IMODE((root / "d").stat().st_mode) == 0o700
        assert stat.S_IMODE((root / "pipe").stat().st_mode) == 0o600
        assert (root / "pipe").stat().st_uid == 9
        assert ((root / "link").lstat().st_uid, status.st_uid) == (5, 3)
        files.change("/link", now=True)
        assert abs((root / "f").stat().st_mtime - time.time()) < 5

    def test_change_on_old_kernels(self, shared_place: Path, root: Path) -> None:
        """
        Before fchmodat2 (6.6), modes of files and directories are changed all the
        same, and that of a pipe is refused.
        """
        old = compile_c(
            shared_place / "old-agent",
            "tree_agent.c",
            SHARED,
            *SANITIZERS,
            "-DJB_TREE_WITHOUT_FCHMODAT2",
        )
        files = Files(PlainAgents(old, root))
        grow(root, "f", "d/")
        os.mkfifo(root / "pipe")
        (root / "link").symlink_to("f")

        files.change("/f", mode=0o600)
        files.change("/d", mode=0o700)
        files.change("/link", mode=0o640)

        assert stat.S_IMODE((root / "f").stat().st_mode) == 0o640
        assert stat.S_IMODE((root / "d").stat().st_mode) == 0o700
        with pytest.raises(OSError, match="not supported"):
            files.change("/pipe", mode=0o600)

    def test_loops_and_long_names(self, files: Files, root: Path) -> None:
        """
        What the kernel refuses about a path is told as the kernel would.
        """
        (root / "loop").symlink_to("loop")

        for path, number in (
            ("/loop", errno.ELOOP),
            ("/" + "x" * 256, errno.ENAMETOOLONG),
            ("/x" * 3000, errno.ENAMETOOLONG),
        ):
            for action in (files.read, lambda path: files.write(path, b"x")):
                with pytest.raises(OSError) as caught:
                    action(path)
                assert caught.value.errno == number

    def test_errors_survive_pickling(self, files: Files) -> None:
        """
        An error of a file can be sent to another process.
        """
        with pytest.raises(FileNotFoundError) as caught:
            files.read("/missing")

        again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301  # our own

        assert (again.errno, again.filename) == (errno.ENOENT, "/missing")


# ---- paths ------------------------------------------------------------------------


class TestContainerPath:
    def test_names(self, files: Files) -> None:
        """
        A path takes itself apart and goes on as a pure path does.
        """
        path = files.path("/app") / "src" / "main.tar.gz"

        assert str(path) == path.as_posix() == "/app/src/main.tar.gz"
        assert repr(path) == "ContainerPath('/app/src/main.tar.gz')"
        assert (path.name, path.stem, path.suffix) == ("main.tar.gz", "main.tar", ".gz")
        assert path.suffixes == [".tar", ".gz"]
        assert path.parent == files.path("/app/src")
        assert list(map(str, path.parents)) == ["/app/src", "/app", "/"]
        assert path.parts == ("/", "app", "src", "main.tar.gz")
        assert str(path.with_name("x.py").with_suffix(".c")) == "/app/src/x.c"
        assert path.relative_to("/app") == PurePosixPath("src/main.tar.gz")
        assert path.is_relative_to(files.path("/app"))
        assert path.match("*.gz")
        assert str(path / "/etc") == "/etc"
        assert str(path.joinpath("a", PurePosixPath("b"))) == f"{path}/a/b"
        assert sorted([path, path.parent]) == [path.parent, path]
        assert len({path, files.path("/app/src/main.tar.gz")}) == 1
        assert path != "/app/src/main.tar.gz"

    def test_it_is_no_path_of_the_host(self, files: Files) -> None:
        """
        Functions of the host refuse it, so that none of them opens a file of the host
        by mistake.
        """
        path = files.path("/etc/passwd")

        functions: tuple[Callable[[Any], object], ...] = (
            open,
            os.stat,
            Path,
            os.fspath,
        )
        for function in functions:
            with pytest.raises(TypeError):
                function(path)

    def test_questions(self, files: Files, root: Path) -> None:
        """
        Questions about what is there are answered, also when nothing is.
        """
        grow(root, "d/f")
        (root / "link").symlink_to("d")
        (root / "broken").symlink_to("missing")
        (root / "loop").symlink_to("loop")
        os.mkfifo(root / "pipe")
        path = files.path()

        assert (path / "d").is_dir()
        assert not (path / "d").is_file()
        assert (path / "d/f").is_file()
        assert (path / "link").is_dir()
        assert (path / "link").is_symlink()
        assert (path / "link").readlink() == PurePosixPath("d")
        assert (path / "pipe").is_fifo()
        assert not (path / "pipe").is_socket()
        assert not (path / "broken").exists()
        assert (path / "broken").exists(follow_symlinks=False)
        for name in ("missing", "d/f/below", "loop", "x" * 300):
            assert not (path / name).exists()
        with pytest.raises(OSError, match="Invalid"):
            (path / "d").readlink()
        assert (path / "d/f").lstat().size == 1

    def test_text_and_bytes(self, files: Files, root: Path) -> None:
        """
        Text and bytes are written and read as pathlib does.
        """
        path = files.path("/f")

        assert path.write_text("grün\r\nzwei\n") == 11
        assert (root / "f").read_bytes() == "grün\r\nzwei\n".encode()
        assert path.read_text() == "grün\nzwei\n"
        assert path.read_text(newline="") == "grün\r\nzwei\n"
        assert path.write_text("ä\n", encoding="latin-1", newline="\r\n") == 2
        assert path.read_bytes() == b"\xe4\r\n"
        assert path.write_bytes(b"12345") == 5
        assert path.read_bytes(max_bytes=5) == b"12345"
        with pytest.raises(ContentError):
            path.read_bytes(max_bytes=4)
        with pytest.raises(TypeError):
            path.write_text(b"x")  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            path.write_bytes("x")

    def test_open(self, files: Files, root: Path) -> None:
        """
        Files are opened for reading, and for writing, which happens on closing.
        """
        path = files.path("/f")

        with path.open("w") as file:
            file.write("one\n")
            file.write("two\n")
            assert not (root / "f").exists()
        with path.open("a") as file:
            file.write("three\n")
        with path.open() as file:
            assert list(file) == ["one\n", "two\n", "three\n"]
        with path.open("rb") as file:
            assert file.read(3) == b"one"
        with path.open("wb") as file:
            file.write(b"bytes")
        assert path.read_bytes() == b"bytes"
        with path.open("ab") as file:
            file.write(b"!")
        assert path.read_bytes() == b"bytes!"

    def test_open_fails_on_closing(self, files: Files, root: Path) -> None:
        """
        Exclusive creation is refused when something is there; a block that fails
        writes nothing; modes that cannot be are refused at once.
        """
        path = files.path("/f")
        grow(root, "f")

        file = path.open("x")
        file.write("new")
        with pytest.raises(FileExistsError):
            file.close()
        assert file.closed
        for mode in ("w", "wb"):
            with contextlib.suppress(ZeroDivisionError), path.open(mode) as file:
                file.write("half" if mode == "w" else b"half")
                raise ZeroDivisionError
        dropped = path.open("wb")
        dropped.write(b"dropped")
        del dropped
        assert (root / "f").read_text() == "f"
        for mode in ("r+", "rw", "", "tb", "b"):
            with pytest.raises(SpecError, match="mode"):
                path.open(mode)

    def test_directories(self, files: Files, root: Path) -> None:
        """
        Directories are made, listed and removed.
        """
        path = files.path("/d")

        path.mkdir()
        path.mkdir(exist_ok=True)
        (path / "e/f").mkdir(parents=True)
        (path / "b").touch()
        (path / "a").touch(mode=0o600)

        assert [each.name for each in path.iterdir()] == ["a", "b", "e"]
        assert stat.S_IMODE((root / "d/a").stat().st_mode) == 0o600
        with pytest.raises(FileExistsError):
            path.mkdir()
        with pytest.raises(OSError, match="not empty"):
            path.rmdir()
        (path / "e/f").rmdir()
        path.rmtree()
        path.rmtree(missing_ok=True)
        assert seen(root) == set()

    def test_files_come_and_go(self, files: Files, root: Path) -> None:
        """
        Files are touched, renamed, linked, changed and unlinked.
        """
        path = files.path("/f")
        grow(root, "d/")

        path.touch()
        os.utime(root / "f", (1, 1))
        path.touch()
        assert (root / "f").stat().st_mtime > 1
        with pytest.raises(FileExistsError):
            path.touch(exist_ok=False)
        path.chmod(0o640)
        path.chown("3:4")
        status = path.stat()
        assert (status.mode, status.uid, status.gid) == (0o640, 3, 4)
        moved = path.rename("d/g")
        assert moved == files.path("/d/g")
        moved = moved.replace(files.path("/h"))
        link = files.path("/link")
        link.symlink_to(moved)
        assert link.read_bytes() == b""
        with pytest.raises(FileExistsError):
            link.symlink_to("x")
        link.unlink()
        moved.unlink()
        moved.unlink(missing_ok=True)
        with pytest.raises(FileNotFoundError):
            moved.unlink()
        assert seen(root) == {"d/"}

    def test_glob(self, files: Files, root: Path) -> None:
        """
        Patterns find what pathlib finds.
        """
        grow(root, "a.py", "src/b.py", "src/c.txt", "src/deep/er/d.py", "src/.hidden")
        path = files.path()
        for pattern in (
            "*", "*.py", "src/*", "src/*.py", "*/*.py", "**/*.py", "src/**/*.py",
            "s?c/[bc].*", "**/er", "src/[!b].*", "nothing*", "**/deep/**/*.py",
        ):  # fmt: skip
            found = [str(each) for each in path.glob(pattern)]
            wanted = sorted(f"/{each.relative_to(root)}" for each in root.glob(pattern))
            assert found == wanted, pattern
        assert [each.name for each in path.rglob("*.py")] == ["a.py", "b.py", "d.py"]

    @pytest.mark.parametrize("pattern", ["", "/x", "a//b", "../x", "a/../b"])
    def test_patterns_that_are_refused(self, pattern: str) -> None:
        """
        A pattern is relative and goes down only.
        """
        with pytest.raises(SpecError, match="pattern"):
            glob_matcher(pattern)

    @pytest.mark.parametrize(
        ("pattern", "path", "matches"),
        [
            ("[", "[", True),
            ("[]]", "]", True),
            ("[!]]", "x", True),
            ("[^a]", "^", True),
            ("[^a]", "b", False),
            ("a[/]b", "a/b", False),
            ("[\\]", "\\", True),
            ("a.b", "axb", False),
            ("*", "a\nb", True),
            ("**", "a/b", True),
        ],
    )
    def test_odd_patterns(self, pattern: str, path: str, *, matches: bool) -> None:
        """
        What stands in brackets is one character, and never a slash.
        """
        assert glob_matcher(pattern)[0](path) is matches


# ---- changes -------------------------------------------------------------------


class TestChanges:
    @pytest.fixture
    def layered(self, agent: Path, tmp_path: Path) -> Callable[..., Files]:
        """Return a maker of containers with a layer that is seen at a place."""
        for name in ("upper", "lower"):
            (tmp_path / name).mkdir()
        return lambda place: Files(
            PlainAgents(
                agent,
                tmp_path,
                upper=tmp_path / "upper",
                lower=tmp_path / "lower",
                options=(place,),
            )
        )

    @pytest.mark.parametrize("place", ["/", "/usr"])
    def test_changes(
        self, layered: Callable[..., Files], tmp_path: Path, place: str
    ) -> None:
        """
        Changes are told by path in the container, with what is there now; for what was
        removed, with what was there.
        """
        grow(tmp_path / "lower", "f", "d/e", "link")
        grow(tmp_path / "upper", "z", "n/m", "f", "link/")
        (tmp_path / "upper/f").write_text("changed")
        (tmp_path / "upper/f").chmod(0o600)
        if IS_ROOT:
            os.mknod(tmp_path / "upper/d", stat.S_IFCHR)
        prefix = place.rstrip("/")

        found = layered(place).changes()

        told = [(str(each.kind), each.path, str(each.type)) for each in found]
        removed = [("removed", f"{prefix}/d", "directory")] if IS_ROOT else []
        assert told == [
            *removed,
            ("modified", f"{prefix}/f", "file"),
            ("removed", f"{prefix}/link", "file"),
            ("added", f"{prefix}/link", "directory"),
            ("added", f"{prefix}/n", "directory"),
            ("added", f"{prefix}/n/m", "file"),
            ("added", f"{prefix}/z", "file"),
        ]
        (changed,) = (each for each in found if each.kind is ChangeKind.MODIFIED)
        assert (changed.size, changed.mode) == (7, 0o600)

    @pytest.mark.parametrize("place", ["/", "/usr"])
    def test_what_was_there(
        self, layered: Callable[..., Files], tmp_path: Path, place: str
    ) -> None:
        """
        The content of the image can be read beside that of the container.
        """
        grow(tmp_path / "lower", "d/f")
        files = layered(place)

        assert files.read_old(f"{place.rstrip('/')}/d/f") == b"f"
        with pytest.raises(FileNotFoundError):
            files.read_old(f"{place.rstrip('/')}/missing")
        with pytest.raises(IsADirectoryError):
            files.read_old(f"{place.rstrip('/')}/d")

    def test_without_a_layer(self, files: Files) -> None:
        """
        A container without a writable layer has changed nothing.
        """
        assert files.changes() == ()
        with pytest.raises(FileNotFoundError):
            files.read_old("/x")


def test_text_files_decode_like_open(files: Files, root: Path) -> None:
    """
    Text that is read has the line ends that a text file of the host would have.
    """
    (root / "f").write_bytes(b"a\rb\r\nc\n")

    assert files.path("/f").read_text() == io.StringIO("a\rb\r\nc\n", None).read()


def test_paths_are_exported_with_files() -> None:
    """
    Whoever holds files can name the type of their paths.
    """
    assert ContainerPath.__module__ == "jailbox.run.paths"
