"""
Packing: what stands in the archive of a tree, and of a layer.

The C part runs here as a plain process with sanitizers; the worker around it, and the
streams behind it, have tests of their own.
"""

import hashlib
import io
import json
import os
import random
import shutil
import socket
import stat
import string
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.native.overlay import snapshot
from tests.native.packing import Flag, Packer, apply_layer, overlaid, owners_table


@pytest.fixture(scope="module")
def pack(shared_place: Path) -> Packer:
    """Return the packer."""
    return Packer(shared_place)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return an empty directory."""
    place = tmp_path / "tree"
    place.mkdir(mode=0o755)
    return place


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


class TestBytes:
    def test_order_is_that_of_bytes_and_parents_come_first(
        self, pack: Packer, tree: Path
    ) -> None:
        """
        Each directory is sorted by bytes, and what is in a directory comes right
        behind it.
        """
        grow(
            tree, "b", "a/z", "a/b/c", "a-b", "B", "\N{LATIN SMALL LETTER E WITH ACUTE}"
        )

        assert pack(tree).names == [
            ".", "B", "a", "a/b", "a/b/c", "a/z", "a-b", "b",
            "\N{LATIN SMALL LETTER E WITH ACUTE}",
        ]  # fmt: skip

    def test_the_same_tree_gives_the_same_bytes(
        self, pack: Packer, tmp_path: Path
    ) -> None:
        """
        The order in which files were made, their inodes and the time of packing leave
        no trace.
        """
        names = [f"{number:x}" * 3 for number in range(300)]
        digests = set()
        for seed in (1, 2):
            random.Random(seed).shuffle(names)  # noqa: S311  # repeatable
            place = grow(tmp_path / str(seed), *names, "d/x")
            for path in (*place.rglob("*"), place):
                os.utime(path, (1_000_000_000, 1_000_000_000))
            digests.add(hashlib.sha256(pack(place).data).hexdigest())

        assert len(digests) == 1

    def test_an_archive_is_whole_blocks_and_ends_with_two_of_zeros(
        self, pack: Packer, tree: Path
    ) -> None:
        """No padding to a size of a tape follows."""
        grow(tree, "a")
        data = pack(tree).data

        assert len(data) == 512 * (1 + 2 + 2)
        assert data[-1024:] == bytes(1024)

    def test_nothing_of_the_host_is_told(self, pack: Packer, tree: Path) -> None:
        """Owners are numbers: no name of a user or a group is written."""
        grow(tree, "a")

        assert {(each.uname, each.gname) for each in pack(tree).members} == {("", "")}

    @pytest.mark.skipif(shutil.which("tar") is None, reason="GNU tar is not installed")
    def test_gnu_tar_lists_the_same(self, pack: Packer, tree: Path) -> None:
        """GNU tar's list of our archive is that of its own."""
        grow(tree, "a/b", "x" * 90 + "/" + "y" * 90 + "/" + "z" * 200, "empty/")
        (tree / "link").symlink_to("a" * 150)
        (tree / "hard").hardlink_to(tree / "a/b")
        os.mkfifo(tree / "p")
        archive = tree.with_suffix(".tar")
        archive.write_bytes(pack(tree).data)
        listing = ["tar", "--numeric-owner", "--full-time", "--utc"]
        theirs = tree.with_suffix(".theirs.tar")
        subprocess.run(
            ["tar", "-C", tree, "--sort=name", "--format=posix", "-cf", theirs, "."],
            check=True,
        )
        ours_lines, theirs_lines = (
            subprocess.run(
                [*listing, "-tvf", each], check=True, capture_output=True, text=True
            ).stdout.splitlines()
            for each in (archive, theirs)
        )

        # They write "./a" and fractions of seconds.
        def plain(line: str) -> list[str]:
            parts = line.replace(" ./", " ").split()
            return [part.partition(".")[0] or part for part in parts]

        assert sorted(map(plain, ours_lines)) == sorted(map(plain, theirs_lines))


class TestEntries:
    def test_kinds(self, pack: Packer, tree: Path) -> None:
        """Files, directories, links and pipes are what they were."""
        grow(tree, "f", "d/")
        (tree / "l").symlink_to("f")
        os.mkfifo(tree / "p")
        kinds = {each.name: each.type for each in pack(tree).members}

        assert kinds == {
            ".": tarfile.DIRTYPE, "d": tarfile.DIRTYPE, "f": tarfile.REGTYPE,
            "l": tarfile.SYMTYPE, "p": tarfile.FIFOTYPE,
        }  # fmt: skip

    @pytest.mark.root
    def test_devices_and_owners(self, pack: Packer, tree: Path) -> None:
        """Numbers of devices, owners and set-id bits are kept."""
        os.mknod(tree / "c", stat.S_IFCHR | 0o640, os.makedev(1, 3))
        os.mknod(tree / "b", stat.S_IFBLK | 0o600, os.makedev(259, 1048575))
        grow(tree, "f")
        os.chown(tree / "f", 12, 3_000_000_000)
        (tree / "f").chmod(0o6755)
        packed = pack(tree)

        found = packed.member("c")
        assert (found.type, found.devmajor, found.devminor) == (tarfile.CHRTYPE, 1, 3)
        found = packed.member("b")
        assert (found.devmajor, found.devminor) == (259, 1048575)
        found = packed.member("f")
        assert (found.uid, found.gid, found.mode) == (12, 3_000_000_000, 0o6755)
        assert found.pax_headers == {"gid": "3000000000"}

    def test_sockets_are_left_out_with_a_note(self, pack: Packer, tree: Path) -> None:
        """What no archive can hold is named."""
        grow(tree, "f")
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(tree / "s"))
            packed = pack(tree)

        assert packed.names == [".", "f"]
        assert packed.skipped == ("s",)

    def test_hard_links(self, pack: Packer, tree: Path) -> None:
        """The first name carries the content, the others point to it."""
        grow(tree, "b/one")
        (tree / "a").hardlink_to(tree / "b/one")
        (tree / "c").hardlink_to(tree / "b/one")
        found = {each.name: (each.size, each.linkname) for each in pack(tree).members}

        assert found["a"] == (3, "")
        assert found["b/one"] == (0, "a")
        assert found["c"] == (0, "a")

    @pytest.mark.slow
    def test_many_hard_links(self, pack: Packer, tree: Path) -> None:
        """However many there are, each finds its first name."""
        (tree / "z").mkdir()
        for number in range(1500):
            (tree / f"{number:04}").write_text("x")
            (tree / f"z/{number:04}").hardlink_to(tree / f"{number:04}")
        links = [(m.name, m.linkname) for m in pack(tree).members if m.islnk()]

        assert links == [(f"z/{n:04}", f"{n:04}") for n in range(1500)]

    @pytest.mark.parametrize("size", [99, 100, 101, 255, 256, 700])
    def test_long_paths(self, pack: Packer, tree: Path, size: int) -> None:
        """A path of any length arrives as it was; so does the target of a link."""
        path = ("d" * 80 + "/") * (size // 81)
        path += "f" * (size - len(path))
        grow(tree, path)
        (tree / "l").symlink_to(path)
        packed = pack(tree)

        assert packed.names[-2 if path < "l" else -1] == path
        assert packed.member("l").linkname == path

    def test_odd_names(self, pack: Packer, tree: Path) -> None:
        """Names are bytes: what is not UTF-8 is not changed, long or short."""
        names = [b"\xff", b"new\nline", b"\xfe" * 150, b"\xc3\xa9" * 120]
        for name in names:
            Path(os.fsdecode(os.fsencode(tree) + b"/" + name)).touch()
        packed = pack(tree)
        found = {os.fsencode(name) for name in packed.names[1:]}

        assert found == set(names)

    def test_times_are_whole_seconds_unless_asked(
        self, pack: Packer, tree: Path
    ) -> None:
        """Nanoseconds need a header of their own for each file, so they are a wish."""
        grow(tree, "a", "b", "c")
        os.utime(tree / "a", ns=(0, 1_500_000_000_250_000_000))
        os.utime(tree / "b", ns=(0, -1_250_000_000))
        os.utime(tree / "c", ns=(0, 7_000_000_000))
        plain, exact = pack(tree), pack(tree, flags=Flag.EXACT_TIMES)

        assert plain.member("a").pax_headers == {}
        assert plain.member("a").mtime == 1_500_000_000
        assert exact.member("a").pax_headers == {"mtime": "1500000000.25"}
        assert plain.member("b").mtime == -2
        assert exact.member("b").mtime == -1.25
        assert exact.member("c").pax_headers == {}

    def test_epoch_clamps_times(self, pack: Packer, tree: Path) -> None:
        """No time is later than SOURCE_DATE_EPOCH; an earlier one stays."""
        grow(tree, "new", "old")
        os.utime(tree / "old", (5, 5))
        packed = pack(tree, flags=Flag.EPOCH | Flag.EXACT_TIMES, epoch=1000)

        assert {each.name: each.mtime for each in packed.members} == {
            ".": 1000, "new": 1000, "old": 5,
        }  # fmt: skip

    def test_attributes(self, pack: Packer, tree: Path) -> None:
        """
        Attributes of users are kept, sorted; marks of overlays and what a record
        cannot say are not.
        """
        grow(tree, "f", "d/")
        for name, value in (
            ("user.b", b"\0\xff\n"), ("user.a", b""), ("user.overlay.opaque", b"y"),
            ("user.odd=name", b"1"),
        ):  # fmt: skip
            os.setxattr(tree / "f", name, value)
            os.setxattr(tree / "d", name, value)
        packed = pack(tree)

        for name in ("f", "d"):
            headers = packed.member(name).pax_headers
            assert list(headers) == ["SCHILY.xattr.user.a", "SCHILY.xattr.user.b"]
            assert os.fsencode(headers["SCHILY.xattr.user.b"]) == b"\0\xff\n"
        assert packed.skipped == ("d", "f")

    @pytest.mark.root
    def test_capabilities_of_files(self, pack: Packer, tree: Path) -> None:
        """
        A file's capabilities are kept; those of the root of a range of ids become
        those of any root.
        """
        grow(tree, "f", "g")
        # A new owner takes them away, so first.
        os.chown(tree / "g", 100_000, 100_000)
        version_2 = bytes.fromhex("01000002") + bytes.fromhex("00040000") + bytes(12)
        version_3 = bytes.fromhex("01000003") + bytes.fromhex("00040000") + bytes(12)
        os.setxattr(tree / "f", "security.capability", version_2)
        os.setxattr(
            tree / "g",
            "security.capability",
            version_3 + (100_000).to_bytes(4, "little"),
        )
        packed = pack(tree, bases=(100_000, 0))

        for name in ("f", "g"):
            headers = packed.member(name).pax_headers
            value = headers["SCHILY.xattr.security.capability"]
            assert os.fsencode(value) == version_2

    @pytest.mark.root
    def test_ids_of_a_range_become_those_of_the_jail(
        self, pack: Packer, tree: Path
    ) -> None:
        """The first id of the range is 0; what is below it is nobody's."""
        grow(tree, "in", "out")
        os.chown(tree / "in", 100_042, 100_000)
        os.chown(tree / "out", 5, 100_001)
        packed = pack(tree, bases=(100_000, 0))

        assert (packed.member("in").uid, packed.member("in").gid) == (42, 0)
        assert (packed.member("out").uid, packed.member("out").gid) == (65534, 1)

    def test_owners_that_the_disk_could_not_hold(
        self, pack: Packer, tree: Path
    ) -> None:
        """
        A table says whose a path is, and that an empty file stands for a device; what
        it does not name stays.
        """
        grow(tree, "a/b", "a-b", "z")
        (tree / "null").touch(0o600)
        owners = {
            b"": (1, 2, 0o711, 0, 0),
            b"a/b": (42, 5000, 0o4755, 0, 0),
            b"a/missing": (7, 7, 0o777, 0, 0),
            b"a-b": (205001, 5000, 0o600, 0, 0),
            b"null": (0, 5, stat.S_IFCHR | 0o666, 1, 3),
        }
        table = owners_table(tree.parent / "owners", owners)
        packed = pack(tree, owners=table)
        found = {m.name: (m.uid, m.gid, m.mode) for m in packed.members}

        assert found["."] == (1, 2, 0o711)
        assert found["a/b"] == (42, 5000, 0o4755)
        assert found["a-b"] == (205001, 5000, 0o600)
        assert found["z"][:2] == (os.getuid(), os.getgid())
        null = packed.member("null")
        assert (null.type, null.devmajor, null.devminor) == (tarfile.CHRTYPE, 1, 3)
        assert packed.refused == ""

    @pytest.mark.parametrize("cut", [1, 23, 24, 26])
    def test_a_torn_table_is_read_up_to_where_it_is_torn(
        self, pack: Packer, tree: Path, cut: int
    ) -> None:
        """What is not there is not read."""
        grow(tree, "abc")
        table = owners_table(tree.parent / "owners", {b"abc": (1, 1, 0o600, 0, 0)})
        table.write_bytes(table.read_bytes()[:cut])

        assert pack(tree, owners=table).member("abc").uid == os.getuid()


class TestContent:
    @pytest.mark.parametrize(
        "size", [0, 1, 511, 512, 513, 65535, 65536, 300_000, 1 << 20, 3_333_333]
    )
    def test_content_of_any_size(self, pack: Packer, tree: Path, size: int) -> None:
        """Content arrives byte for byte, whichever way it is read."""
        content = random.Random(size).randbytes(size)  # noqa: S311  # repeatable
        (tree / "before").write_bytes(content[:100])
        (tree / "f").write_bytes(content)
        (tree / "g").write_text("behind")
        with tarfile.open(fileobj=io.BytesIO(pack(tree).data)) as tar:
            for name, expected in (("f", content), ("g", b"behind")):
                file = tar.extractfile(name)
                assert file is not None
                assert file.read() == expected

    @pytest.mark.parametrize(
        "pieces",
        [
            [(0, 0)], [(0, 5)], [(1 << 20, 5)], [(1 << 20, 4096), (3 << 20, 100_000)],
            [(0, 70_000), (9_999_990, 10)],
        ],
    )  # fmt: skip
    def test_holes_are_zeros(
        self, pack: Packer, tree: Path, pieces: list[tuple[int, int]]
    ) -> None:
        """Of a file with holes, what is not there is written as zeros."""
        expected = bytearray(10_000_000)
        with (tree / "f").open("wb") as file:
            file.truncate(len(expected))
            for offset, size in pieces:
                file.seek(offset)
                file.write(b"x" * size)
                expected[offset : offset + size] = b"x" * size
        packed = pack(tree)

        assert packed.data[1024 : 1024 + len(expected)] == expected

    @pytest.mark.slow
    def test_a_file_that_changes_is_an_error_that_names_it(
        self, pack: Packer, tree: Path
    ) -> None:
        """What shrinks, grows or is written while it is read is not packed."""
        (tree / "d").mkdir()
        with (tree / "d/f").open("wb") as file:
            file.truncate(1 << 30)
        for change in (
            lambda fd: os.truncate(fd, 5),
            lambda fd: os.truncate(fd, 2 << 30),
            lambda fd: os.pwrite(fd, b"x", 7),
        ):
            os.truncate(tree / "d/f", 1 << 30)
            process = subprocess.Popen(
                [pack.program, tree, *"-- 0 0 0 0 0 0".replace("--", "- -").split()],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={"ASAN_OPTIONS": "detect_leaks=0"},
            )
            assert process.stdout is not None
            process.stdout.read(1 << 20)
            with (tree / "d/f").open("r+b") as file:
                change(file.fileno())
            while process.stdout.read(1 << 22):
                pass
            _, said = process.communicate()

            assert process.returncode == 1
            assert said.splitlines()[-1] == b"op 19 errno 116 bound 0 at d/f"

    def test_a_reader_that_goes_away_ends_it(self, pack: Packer, tree: Path) -> None:
        """Nobody is left who writes into a closed pipe."""
        with (tree / "f").open("wb") as file:
            file.truncate(50_000_000)
        process = subprocess.Popen(
            [pack.program, tree, "-", "-", "0", "0", "0", "0", "0", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"ASAN_OPTIONS": "detect_leaks=0"},
            # As in a worker.
            restore_signals=False,
        )
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _, said = process.communicate(timeout=20)

        assert said.splitlines()[-1] == b"op 8 errno 32 bound 0 at f"


class TestBounds:
    @pytest.mark.slow
    def test_depth_is_not_bounded(self, pack: Packer, tree: Path) -> None:
        """
        A tree that is deeper than a path may be long, and than descriptors are many,
        is packed.
        """
        fd = os.open(tree, os.O_PATH)
        depth = 1500
        for _ in range(depth):
            os.mkdir("ddd", dir_fd=fd)
            inner = os.open("ddd", os.O_PATH, dir_fd=fd)
            os.close(fd)
            fd = inner
        os.close(os.open("f", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=fd))
        os.close(fd)
        names = pack(tree).names
        _fell(tree)

        assert len(names) == depth + 2
        assert names[-1] == "ddd/" * depth + "f"

    def test_siblings_of_deep_directories(self, pack: Packer, tree: Path) -> None:
        """The way back up leads to what is still to be packed there."""
        path = tree
        for _ in range(200):
            grow(path, "z", "a/")
            path /= "a"
        names = pack(tree).names

        assert len(names) == 401
        assert names[-200:] == ["a/" * level + "z" for level in reversed(range(200))]

    @pytest.mark.parametrize(
        ("limits", "refused"),
        [
            ((3, 0), "op 16 errno 75 bound 1 at c"),
            ((0, 10), "op 16 errno 75 bound 2 at c"),
        ],
    )
    def test_bounds_are_named(
        self, pack: Packer, tree: Path, limits: tuple[int, int], refused: str
    ) -> None:
        """Which bound was reached, and where, is said."""
        for name in "abc":
            (tree / name).write_bytes(b"12345")

        assert pack(tree, limits=limits).refused == refused

    @pytest.mark.parametrize("flags", [0, Flag.LAYER])
    def test_names_of_marks_are_refused(
        self, pack: Packer, tree: Path, flags: int
    ) -> None:
        """A file that a reader would take for a whiteout is not packed as one."""
        grow(tree, "d/.wh.x")

        assert pack(tree, flags=flags).refused == "op 20 errno 22 bound 0 at d/.wh.x"
        assert pack(tree, flags=flags | Flag.ANY_NAME).names[-1] == "d/.wh.x"

    @pytest.mark.root
    def test_whiteout_devices_are_refused_outside_of_layers(
        self, pack: Packer, tree: Path
    ) -> None:
        """So is the device that an overlay would take for one."""
        os.mknod(tree / "w", stat.S_IFCHR, os.makedev(0, 0))

        assert pack(tree).refused == "op 20 errno 22 bound 0 at w"


NAME = st.text(string.ascii_lowercase + "-.\xe9", min_size=1, max_size=5).filter(
    lambda name: name not in {".", ".."} and not name.startswith(".wh.")
)
TREE = st.recursive(
    st.binary(max_size=2000) | st.none(),
    lambda inner: st.dictionaries(NAME, inner, max_size=5),
    max_leaves=25,
)


class TestRoundTrips:
    @pytest.mark.slow
    @settings(
        max_examples=25,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(content=st.dictionaries(NAME, TREE, max_size=6))
    def test_what_is_unpacked_packs_to_the_same_bytes(
        self, pack: Packer, tmp_path: Path, content: dict[str, object]
    ) -> None:
        """
        An archive, unpacked by a reader that is not ours and packed again, is the same
        archive.
        """
        one, two = tmp_path / "one", tmp_path / "two"
        for place in (one, two):
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
        _sow(one, content)
        first = pack(one, flags=Flag.EXACT_TIMES)
        apply_layer(first.data, two)

        assert pack(two, flags=Flag.EXACT_TIMES).data == first.data


def _sow(place: Path, content: dict[str, object]) -> None:
    for number, (name, what) in enumerate(content.items()):
        path = place / name
        if isinstance(what, dict):
            path.mkdir()
            _sow(path, what)
        elif isinstance(what, bytes):
            path.write_bytes(what)
            if number % 3 == 0 and what:
                path.with_name(f"{name}~").hardlink_to(path)
        else:
            path.symlink_to(name * 30)


# ---- layers -----------------------------------------------------------------

LOWER = {
    "a/f": "one",
    "a/g": "two",
    "a/deep/er/h": "three",
    "b/x": "four",
    "b/empty": "",
    "c": "five",
}

NOTHING: list[str] = []


@pytest.fixture(
    params=[
        pytest.param(False, marks=pytest.mark.root, id="root"),
        pytest.param(True, marks=pytest.mark.userns, id="userns"),
    ]
)
def change(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Callable[[object], dict[str, list[object]]]:
    """Return what changes an overlay and tells what is to be seen in it then."""

    def change(operations: object) -> dict[str, list[object]]:
        for path, text in LOWER.items():
            (tmp_path / "lower" / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "lower" / path).write_text(text)
        (tmp_path / "lower/link").symlink_to("a/f")
        (tmp_path / "lower/hard").hardlink_to(tmp_path / "lower/c")
        told = overlaid(tmp_path, json.dumps(operations), userns=request.param)
        after: dict[str, list[object]] = json.loads(told)["after"]
        return after

    return change


class TestLayers:
    @pytest.mark.parametrize(
        ("operations", "names"),
        [
            ([], NOTHING),
            ([["write", "n"]], ["n"]),
            ([["mkdir", "n"], ["write", "n/f"]], ["n", "n/f"]),
            ([["write", "a/f"]], ["a", "a/f"]),
            ([["append", "a/deep/er/h"]], ["a", "a/deep", "a/deep/er", "a/deep/er/h"]),
            ([["utime", "c", 7]], ["c"]),
            ([["chmod", "a", 0o700]], ["a"]),
            ([["setxattr", "a", "user.n", "00"]], ["a"]),
            ([["remove", "a/f"]], ["a", "a/.wh.f"]),
            ([["remove", "a"]], [".wh.a"]),
            ([["rename", "c", "d"]], [".wh.c", "d"]),
            ([["remove", "c"], ["mkdir", "c"]], ["c"]),
            ([["remove", "b"], ["write", "b"]], ["b"]),
            ([["recreate", "b"]], ["b", "b/.wh..wh..opq"]),
            ([["recreate", "b"], ["write", "b/new"]],
             ["b", "b/.wh..wh..opq", "b/new"]),
            ([["write", "n"], ["remove", "n"]], NOTHING),
        ],
    )  # fmt: skip
    def test_names(
        self,
        pack: Packer,
        tmp_path: Path,
        change: Callable[[object], object],
        operations: object,
        names: list[str],
    ) -> None:
        """
        A layer holds what differs, what is gone by name, and the directories around
        it.
        """
        change(operations)
        packed = pack(tmp_path / "upper", tmp_path / "lower", flags=Flag.LAYER)

        assert packed.names == names

    @pytest.mark.parametrize(
        "operations",
        [
            [["open", "a/f"]],
            [["rewrite", "a/f"]],
            [["there_and_back", "a/f"]],
            [["there_and_back", "link"]],
            [["open", "c"]],
            [["open", "a/deep/er/h"], ["open", "hard"]],
            [["write", "a/new"], ["remove", "a/new"]],
        ],
    )
    def test_no_false_changes(
        self,
        pack: Packer,
        tmp_path: Path,
        change: Callable[[object], object],
        operations: object,
    ) -> None:
        """
        What was opened, renamed there and back, or written with what it held is no
        change; nor is one name of a hard link that was (B8, moby/buildkit#2480).
        """
        change(operations)
        packed = pack(tmp_path / "upper", tmp_path / "lower", flags=Flag.LAYER)

        assert packed.names == []
        assert packed.data == bytes(1024)

    def test_a_new_name_of_an_unchanged_file_carries_its_content(
        self, pack: Packer, tmp_path: Path, change: Callable[[object], object]
    ) -> None:
        """
        A link to a file of the image does not refer to another layer: some readers
        apply each layer by itself.
        """
        change([["link", "a/f", "z"]])
        packed = pack(tmp_path / "upper", tmp_path / "lower", flags=Flag.LAYER)

        assert packed.names == ["a", "a/z"]
        assert packed.member("a/z").isreg()

    @pytest.mark.parametrize("alone", [False, True])
    @pytest.mark.parametrize("seed", range(8))
    def test_applied_to_what_it_was_made_on_it_gives_what_was_seen(
        self,
        pack: Packer,
        tmp_path: Path,
        change: Callable[[object], dict[str, list[object]]],
        seed: int,
        *,
        alone: bool,
    ) -> None:
        """
        After thirty random operations, the layer and what is below it give the same
        tree as the overlay did; packed alone, without knowing what is below, too.
        """
        after = change(seed)
        lower, copy = tmp_path / "lower", tmp_path / "copy"
        packed = pack(
            tmp_path / "upper",
            None if alone else lower,
            flags=Flag.LAYER | Flag.EXACT_TIMES,
        )
        subprocess.run(["cp", "-a", lower, copy], check=True)
        apply_layer(packed.data, copy)
        seen = snapshot(str(copy))
        if os.geteuid() != 0:
            # Nobody but root can give files away again.
            for each in (*seen.values(), *after.values()):
                each[2:4] = [0, 0]

        assert seen == after

    @pytest.mark.parametrize("name", ["user.overlay.redirect", "user.overlay.metacopy"])
    def test_what_is_somewhere_else_is_refused(
        self, pack: Packer, tmp_path: Path, name: str
    ) -> None:
        """A mark that says so is not ignored: the layer would lack content."""
        grow(tmp_path, "upper/d/f", "lower/")
        where = "d" if name.endswith("redirect") else "d/f"
        os.setxattr(tmp_path / "upper" / where, name, b"/x")
        packed = pack(tmp_path / "upper", tmp_path / "lower", flags=Flag.LAYER)

        assert packed.refused == f"op 20 errno 95 bound 0 at {where}"

    def test_whiteouts_that_are_files(self, pack: Packer, tmp_path: Path) -> None:
        """An empty file with the mark is a whiteout where its directory says so."""
        grow(tmp_path, "upper/d/", "upper/e/", "lower/d/f", "lower/e/f")
        for name in "de":
            (tmp_path / "upper" / name / "f").touch()
            os.setxattr(tmp_path / f"upper/{name}/f", "user.overlay.whiteout", b"")
        os.setxattr(tmp_path / "upper/d", "user.overlay.opaque", b"x")
        packed = pack(tmp_path / "upper", tmp_path / "lower", flags=Flag.LAYER)

        assert packed.names == ["d", "d/.wh.f", "e", "e/f"]

    @pytest.mark.root
    def test_ids_of_both_sides_are_those_of_the_jail(
        self, pack: Packer, tmp_path: Path
    ) -> None:
        """What only the range shifts is no change."""
        for name, base in (("lower", 0), ("upper", 100_000)):
            grow(tmp_path / name, "same", "other")
            for file in ("same", "other", "."):
                os.utime(tmp_path / name / file, (5, 5))
                os.chown(tmp_path / name / file, base + 7, base + 8)
        os.chown(tmp_path / "upper/other", 100_007, 100_009)
        packed = pack(
            tmp_path / "upper",
            tmp_path / "lower",
            flags=Flag.LAYER,
            bases=(100_000, 0),
        )

        assert packed.names == ["other"]
        assert (packed.member("other").uid, packed.member("other").gid) == (7, 9)

    @pytest.mark.slow
    def test_depth_beside_a_lower_is_bounded(
        self, pack: Packer, tmp_path: Path
    ) -> None:
        """Where two directories must stay open, the bound is named."""
        for name in ("lower", "upper"):
            path = tmp_path / name
            path.mkdir()
            fd = os.open(path, os.O_PATH)
            for _ in range(1100):
                os.mkdir("d", dir_fd=fd)
                inner = os.open("d", os.O_PATH, dir_fd=fd)
                os.close(fd)
                fd = inner
            os.close(fd)
        packed = pack(tmp_path / "upper", tmp_path / "lower", flags=Flag.LAYER)
        for name in ("lower", "upper"):
            _fell(tmp_path / name)

        # Bound 3 is the depth; a machine that allows few descriptors says EMFILE.
        assert packed.refused.startswith(
            ("op 16 errno 75 bound 3 at d/", "op 2 errno 24")
        )


def _fell(tree: Path) -> None:
    """Remove a tree that is too deep for Python."""
    subprocess.run(["rm", "-rf", tree], check=True)
