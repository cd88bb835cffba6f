"""
The file protocol against enemies, real file systems and the clock.

The agents here are processes of the test (`tests.native.agents`); jails come in at
`tests/run` and above.
"""

import asyncio
import contextlib
import errno
import json
import os
import shutil
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jailbox._native import ffi, lib
from jailbox.errors import ContentError, DeadlineExceeded, EngineError
from jailbox.flow import adrive, drive
from jailbox.linux.tree import (
    Bounds,
    Copied,
    Item,
    LayerChange,
    Request,
    Task,
    ask,
    receive,
    send,
    send_items,
    serving,
)
from jailbox.spec.change import ChangeKind, FileType
from tests.native.agents import SANITIZERS, SHARED, PlainAgents, compile_c

FRAME = struct.Struct("=II")


# ---- what the tests are made of --------------------------------------------


@pytest.fixture(scope="module")
def agent(shared_place: Path) -> Path:
    """Return an agent with sanitizers."""
    return compile_c(shared_place / "agent", "tree_agent.c", SHARED, *SANITIZERS)


@pytest.fixture(scope="module")
def quick_agent(shared_place: Path) -> Path:
    """Return an agent as fast as it gets."""
    return compile_c(
        shared_place / "quick-agent", "tree_agent.c", SHARED, optimize="-O2"
    )


@pytest.fixture(scope="module")
def flip(shared_place: Path) -> Path:
    """Return the attacker of races."""
    return compile_c(shared_place / "flip", "flip.c", [])


def task(path: str = "/x", local: str | None = None, timeout: float = 20) -> Task:
    """Make a task that has enough time."""
    return Task.begin("test", path, local, timeout)


@contextlib.contextmanager
def directory(path: Path) -> Iterator[int]:
    """Open a directory for as long as this lasts."""
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def ordinary() -> Iterator[None]:
    """Be an ordinary user for as long as this lasts."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def entry(
    mode: int,
    name: bytes = b"x",
    *,
    link: bytes = b"",
    xattrs: bytes = b"",
    size: int = 0,
    opened: bool | None = None,
) -> bytes:
    """Write an ENTRY as an agent would."""
    if opened is None:
        opened = stat.S_ISREG(mode) or stat.S_ISDIR(mode)
    fixed = ffi.new(
        "struct jb_tree_entry *",
        {
            "mode": mode,
            "size": size,
            "flags": lib.JB_TREE_OPEN if opened else 0,
            "name_size": len(name),
            "link_size": len(link),
            "xattrs_size": len(xattrs),
        },
    )
    payload = bytes(ffi.buffer(fixed)) + name + link + xattrs
    return FRAME.pack(lib.JB_TREE_ENTRY, len(payload)) + payload


def frame(kind: int, payload: bytes = b"") -> bytes:
    """Write a frame."""
    return FRAME.pack(kind, len(payload)) + payload


def answer(number: int = 0) -> bytes:
    """Write an ANSWER: done, or refused with an errno."""
    fixed = ffi.new("struct jb_tree_answer *", {"error": number})
    return frame(lib.JB_TREE_ANSWER, bytes(ffi.buffer(fixed)))


END = frame(lib.JB_TREE_END)
DIRECTORY = stat.S_IFDIR | 0o755
FILE = stat.S_IFREG | 0o644


def data(content: bytes) -> bytes:
    """Write a DATA."""
    return frame(lib.JB_TREE_DATA, content)


def hole(size: int) -> bytes:
    """Write a HOLE."""
    return frame(lib.JB_TREE_HOLE, struct.pack("=Q", size))


def hear(
    target: Path, *stream: bytes, bounds: Bounds | None = None, **options: bool
) -> Copied:
    """Receive what a made-up agent says, as *target*."""
    ours, theirs = socket.socketpair()
    with ours, directory(target.parent) as fd:

        def speak() -> None:
            with theirs, contextlib.suppress(OSError):
                theirs.sendall(b"".join(stream))

        speaker = threading.Thread(target=speak)
        speaker.start()
        try:
            return drive(
                receive(
                    ours,
                    Request(verb="GET", path="/x"),
                    fd,
                    target.name.encode(),
                    task(local=str(target)),
                    bounds or Bounds(),
                    **options,
                )
            )
        finally:
            ours.close()
            speaker.join()


def get(sock: socket.socket, path: str, *, follow: bool = False) -> bytes:
    """Read a file through an agent."""
    request = Request(
        verb="GET",
        path=path,
        flags=("DATA_TOO", "FOLLOW") if follow else ("DATA_TOO",),
        depth=None,
    )
    return drive(ask(sock, request, task(path), Bounds())).data


def put(sock: socket.socket, path: str, content: bytes) -> None:
    """Write a file through an agent, as it is usually done."""
    request = Request(verb="PUT", path=path, flags=("FOLLOW", "KEEP"))
    drive(send_items(sock, request, [Item("file", b"x", content)], task(path)))


def tree_of(path: Path) -> dict[str, str]:
    """Describe everything below *path* in one line each."""
    found = {}
    for place in sorted(path.rglob("*")):
        status = place.lstat()
        if place.is_symlink():
            what = f"link {os.readlink(place)}"
        elif place.is_dir():
            what = f"directory {stat.S_IMODE(status.st_mode):o}"
        else:
            what = f"file {stat.S_IMODE(status.st_mode):o} {place.read_bytes()!r}"
        found[str(place.relative_to(path))] = what
    return found


# ---- the C part alone -------------------------------------------------------


class TestNative:
    @pytest.mark.parametrize("seed", [1, 2, 3])
    def test_harness(self, shared_place: Path, tmp_path: Path, seed: int) -> None:
        """
        Random streams and requests, valid for a while and then not, neither touch
        memory that is not theirs nor files outside of the directory.
        """
        program = shared_place / "test_tree"
        if not program.exists():
            sources = [*SHARED, "tree_job.c"]
            compile_c(program, "test_tree.c", sources, *SANITIZERS)

        done = subprocess.run(
            [program, tmp_path, str(seed), "2000"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

        assert done.stdout + done.stderr == ""
        assert done.returncode == 0


# ---- what a hostile agent may say -------------------------------------------


class TestHostileAgent:
    @pytest.mark.parametrize(
        "name",
        [b"", b".", b"..", b"/", b"a/b", b"../a", b"a\0b", b"/etc", b"x" * 256],
    )
    def test_names_that_are_no_names(self, tmp_path: Path, name: bytes) -> None:
        """
        A name that is not one plain component is refused, and nothing is left.
        """
        with pytest.raises(EngineError, match="protocol"):
            hear(
                tmp_path / "out",
                entry(DIRECTORY),
                entry(FILE, name),
                END,
                END,
                answer(),
            )

        assert os.listdir(tmp_path) == []

    def test_the_top_is_called_as_the_caller_says(self, tmp_path: Path) -> None:
        """
        What the agent calls the top does not matter.
        """
        hear(tmp_path / "out", entry(FILE, b"evil"), data(b"x"), END, answer())

        assert tree_of(tmp_path) == {"out": "file 644 b'x'"}

    def test_links_are_made_and_never_passed(self, tmp_path: Path) -> None:
        """
        A directory under the name of a link that came before it is refused, so
        nothing is written where the link leads.
        """
        outside = tmp_path / "outside"
        outside.mkdir()
        link = str(outside).encode()

        with pytest.raises(FileExistsError):
            hear(
                tmp_path / "out",
                entry(DIRECTORY),
                entry(stat.S_IFLNK | 0o777, b"a", link=link),
                entry(DIRECTORY, b"a"),
                entry(FILE, b"f"),
                data(b"x"),
                END,
                END,
                END,
                answer(),
            )

        assert tree_of(tmp_path) == {"outside": "directory 755"}

    def test_links_of_an_earlier_copy_are_not_passed(self, tmp_path: Path) -> None:
        """
        A link that a first copy brought does not lead a second one outside, neither
        as a directory nor as a file.
        """
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "f").write_text("mine")
        first = (
            entry(DIRECTORY),
            entry(stat.S_IFLNK | 0o777, b"d", link=str(outside).encode()),
            entry(stat.S_IFLNK | 0o777, b"f", link=str(outside / "f").encode()),
            END,
            answer(),
        )
        hear(tmp_path / "out", *first)

        with pytest.raises(NotADirectoryError):
            hear(
                tmp_path / "out",
                entry(DIRECTORY),
                entry(DIRECTORY, b"d"),
                entry(FILE, b"f"),
                data(b"theirs"),
                END,
                END,
                END,
                answer(),
            )
        hear(
            tmp_path / "out",
            entry(DIRECTORY),
            entry(FILE, b"f"),
            data(b"theirs"),
            END,
            END,
            answer(),
        )

        assert (outside / "f").read_text() == "mine"
        assert os.listdir(outside) == ["f"]
        assert not (tmp_path / "out/f").is_symlink()

    def test_devices_are_never_made(self, tmp_path: Path) -> None:
        """
        Devices, pipes and sockets are left out and named, the rest is copied.
        """
        kinds = [stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK]

        copied = hear(
            tmp_path / "out",
            entry(DIRECTORY),
            *(entry(kind | 0o666, b"special%d" % kind) for kind in kinds),
            entry(FILE, b"f"),
            END,
            END,
            answer(),
        )

        assert os.listdir(tmp_path / "out") == ["f"]
        assert tuple(f"special{kind}" for kind in kinds) == copied.skipped
        assert len(kinds) == copied.skipped_count

    def test_a_device_alone_is_an_error(self, tmp_path: Path) -> None:
        """
        The one thing that was asked for is not silently left out.
        """
        with pytest.raises(OSError, match="not supported") as caught:
            hear(tmp_path / "out", entry(stat.S_IFCHR | 0o666), answer())

        assert caught.value.errno == errno.EOPNOTSUPP

    def test_set_id_bits_are_dropped(self, tmp_path: Path) -> None:
        """
        Set-id and sticky bits of the jail do not arrive, unless they are asked for.
        """
        stream = (
            entry(stat.S_IFDIR | 0o7755),
            entry(stat.S_IFREG | 0o6755, b"f"),
            END,
            END,
            answer(),
        )

        hear(tmp_path / "out", *stream)
        hear(tmp_path / "kept", *stream, keep_setid=True)

        assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o755
        assert stat.S_IMODE((tmp_path / "out/f").stat().st_mode) == 0o755
        assert stat.S_IMODE((tmp_path / "kept").stat().st_mode) == 0o7755
        assert stat.S_IMODE((tmp_path / "kept/f").stat().st_mode) == 0o6755

    def test_everything_belongs_to_the_caller(self, tmp_path: Path) -> None:
        """
        Owners of the jail mean nothing on the host.
        """
        fixed = ffi.new(
            "struct jb_tree_entry *",
            {"mode": FILE, "uid": 12345, "gid": 54321, "name_size": 1,
             "flags": lib.JB_TREE_OPEN},
        )  # fmt: skip
        payload = bytes(ffi.buffer(fixed)) + b"x"

        hear(tmp_path / "out", frame(lib.JB_TREE_ENTRY, payload), END, answer())

        status = (tmp_path / "out").stat()
        assert (os.geteuid(), os.getegid()) == (status.st_uid, status.st_gid)

    @pytest.mark.parametrize(
        "name",
        [b"security.capability", b"trusted.overlay.opaque", b"user.overlay.opaque",
         b"system.posix_acl_access", b"user.", b"user.a\0b"],
    )  # fmt: skip
    def test_attributes_that_mean_something(self, tmp_path: Path, name: bytes) -> None:
        """
        No attribute but plain ones of the namespace user is ever set (TAR10).
        """
        xattrs = struct.pack("=II", len(name), 1) + name + b"y"

        with pytest.raises(EngineError, match="protocol"):
            hear(tmp_path / "out", entry(FILE, xattrs=xattrs), END, answer())

        assert os.listdir(tmp_path) == []

    @pytest.mark.parametrize(
        ("stream", "bound"),
        [
            ([entry(DIRECTORY, b"d")] * 300, "directories"),
            ([entry(DIRECTORY)] + [entry(FILE, b"f"), END] * 200, "entries"),
            ([entry(FILE)] + [data(b"x" * 60_000)] * 30, "bytes"),
            ([entry(FILE), hole(1 << 40), END, answer()], "bytes"),
            ([entry(FILE), hole((1 << 64) - 1), hole(2), END, answer()], "bytes"),
        ],
        ids=["depth", "entries", "data", "hole", "holes that wrap around"],
    )
    def test_bounds(self, tmp_path: Path, stream: list[bytes], bound: str) -> None:
        """
        A stream that is too deep, too many or too large ends at the bound, which is
        named, and leaves nothing.
        """
        if bound == "entries":
            stream = [stream[0]] + [
                part
                for number in range(200)
                for part in (entry(FILE, b"f%d" % number), END)
            ]

        with pytest.raises(ContentError, match=f"more than .* {bound}"):
            hear(
                tmp_path / "out",
                *stream,
                bounds=Bounds(entries=100, bytes=1_000_000, depth=20),
            )

        assert os.listdir(tmp_path) == []

    @pytest.mark.parametrize(
        "stream",
        [
            [answer()],
            [data(b"x")],
            [END],
            [hole(1)],
            [entry(FILE), entry(FILE), END, END, answer()],
            [entry(FILE), answer()],
            [entry(DIRECTORY), data(b"x")],
            [entry(DIRECTORY, opened=False), answer()],
            [entry(FILE, opened=False), answer()],
            [entry(FILE), frame(lib.JB_TREE_HOLE, b"abc"), END, answer()],
            [entry(FILE), frame(lib.JB_TREE_END, b"x"), answer()],
            [entry(FILE, link=b"x"), END, answer()],
            [entry(FILE)[:-1] + b"", b"\0" * 100],
            [frame(lib.JB_TREE_PUT)],
            [frame(99)],
            [FRAME.pack(lib.JB_TREE_ENTRY, 1 << 31)],
            [FRAME.pack(lib.JB_TREE_DATA, 0xFFFFFFFF)],
            [frame(lib.JB_TREE_ANSWER, b"short")],
            [answer(-1)],
            [answer(1 << 30)],
            [answer()[:-8] + b"\0" * 8 + b"detail"],
        ],
        ids=range(21),
    )
    def test_grammar(self, tmp_path: Path, stream: list[bytes]) -> None:
        """
        A stream that is not what an agent may say is refused, and nothing is left.
        """
        with pytest.raises(EngineError):
            hear(tmp_path / "out", *stream)

        assert os.listdir(tmp_path) == []

    @pytest.mark.parametrize(
        "more", [entry(FILE), END, data(b"x"), hole(1)], ids=range(4)
    )
    def test_nothing_follows_the_top(self, tmp_path: Path, more: bytes) -> None:
        """
        What comes after the one thing that was asked for is refused.
        """
        with pytest.raises(EngineError):
            hear(tmp_path / "out", entry(FILE), END, more, answer())

        assert {"out": "file 644 b''"} == tree_of(tmp_path)

    @pytest.mark.parametrize("cut", [0, 1, 9, 95, 200, 299])
    def test_truncation(self, tmp_path: Path, cut: int) -> None:
        """
        A stream that stops anywhere leaves neither the file nor a part of it.
        """
        whole = b"".join(
            [
                entry(DIRECTORY),
                entry(FILE, b"f"),
                data(b"x" * 100),
                END,
                END,
                answer(),
            ]
        )

        with pytest.raises(EngineError, match="before it answered"):
            hear(tmp_path / "out", whole[:cut])

        assert len(whole) > 299
        assert os.listdir(tmp_path) == []

    def test_a_replaced_file_survives_truncation(self, tmp_path: Path) -> None:
        """
        Until its successor is complete, the old file stays.
        """
        (tmp_path / "out").write_text("old")

        with pytest.raises(EngineError):
            hear(tmp_path / "out", entry(FILE), data(b"new"))

        assert tree_of(tmp_path) == {"out": "file 644 b'old'"}

    @pytest.mark.parametrize("mode", [0o000, 0o500])
    def test_closed_directories_are_undone_too(
        self, shared_place: Path, mode: int
    ) -> None:
        """
        A copy that fails is removed by an ordinary user, too, even where its
        directories are read-only.
        """
        place = shared_place / f"closed-{mode}"
        place.mkdir()
        place.chmod(0o777)

        with ordinary(), pytest.raises(EngineError):
            hear(
                place / "out",
                entry(DIRECTORY),
                entry(stat.S_IFDIR | mode, b"d"),
                entry(FILE, b"f"),
                END,
                END,
            )

        assert [] == os.listdir(place)

    def test_sizes_are_not_believed(self, tmp_path: Path) -> None:
        """
        A file is as long as what came, whatever was announced.
        """
        hear(tmp_path / "out", entry(FILE, size=1 << 62), data(b"x"), END, answer())

        assert (tmp_path / "out").read_bytes() == b"x"

    def test_replies_to_questions_are_bounded(self) -> None:
        """
        An agent that answers a question for ever fills no memory.
        """
        ours, theirs = socket.socketpair()

        def speak() -> None:
            with theirs, contextlib.suppress(OSError):
                theirs.sendall(entry(FILE))
                while True:
                    theirs.sendall(data(bytes(60_000)))

        speaker = threading.Thread(target=speak)
        speaker.start()
        request = Request(verb="GET", path="/x", flags=("DATA_TOO",))
        with ours, pytest.raises(ContentError, match="more than 1000000 bytes"):
            drive(ask(ours, request, task(), Bounds(bytes=1_000_000)))
        speaker.join()


# ---- time --------------------------------------------------------------------


class TestDeadlines:
    def test_a_silent_agent(self) -> None:
        """
        An agent that says nothing is waited for until the deadline, and no longer.
        """
        ours, theirs = socket.socketpair()
        request = Request(verb="GET", path="/x")
        began = time.monotonic()
        with ours, theirs, pytest.raises(DeadlineExceeded):
            drive(ask(ours, request, task(timeout=0.2), Bounds()))

        assert 0.2 <= time.monotonic() - began < 0.25

    def test_an_agent_that_does_not_listen(self, tmp_path: Path) -> None:
        """
        An agent that takes nothing is waited for until the deadline, and no longer.
        """
        ours, theirs = socket.socketpair()
        item = Item("file", b"x", bytes(10_000_000))
        request = Request(verb="PUT", path="/x")
        began = time.monotonic()
        with ours, theirs, pytest.raises(DeadlineExceeded):
            drive(send_items(ours, request, [item], task(timeout=0.2)))

        assert 0.2 <= time.monotonic() - began < 0.25

    def test_an_agent_that_never_ends(self, tmp_path: Path) -> None:
        """
        An agent that always has more to say is stopped at the deadline, and what it
        said is removed.
        """
        ours, theirs = socket.socketpair()

        def speak() -> None:
            chunk = data(bytes(60_000))
            with theirs, contextlib.suppress(OSError):
                theirs.sendall(entry(FILE))
                while True:
                    theirs.sendall(chunk)
                    # Removing gigabytes would take its own time.
                    time.sleep(0.001)

        speaker = threading.Thread(target=speak)
        speaker.start()
        request = Request(verb="GET", path="/x")
        began = time.monotonic()
        with (
            ours,
            directory(tmp_path) as fd,
            pytest.raises(DeadlineExceeded),
        ):
            drive(receive(ours, request, fd, b"out", task(timeout=0.3), Bounds()))
        took = time.monotonic() - began
        speaker.join()

        assert 0.3 <= took < 0.35
        assert os.listdir(tmp_path) == []

    def test_closing_the_socket_ends_it(self) -> None:
        """
        An operation without a deadline ends when another thread shuts the socket.
        """
        ours, theirs = socket.socketpair()
        timer = threading.Timer(0.1, ours.shutdown, [socket.SHUT_RDWR])
        timer.start()
        request = Request(verb="GET", path="/x")
        with ours, theirs, pytest.raises(EngineError):
            drive(ask(ours, request, Task.begin("test", "/x"), Bounds()))
        timer.join()

    def test_an_event_loop_goes_on(self, tmp_path: Path) -> None:
        """
        Under asyncio, a copy lets other tasks run, and can be cancelled.
        """
        (tmp_path / "f").write_bytes(bytes(1000))
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        async def main() -> bytes:
            ticking = asyncio.create_task(tick())
            request = Request(verb="GET", path="/f", flags=("DATA_TOO",))
            with directory(tmp_path) as root, serving(root) as sock:
                reply = await adrive(ask(sock, request, task(), Bounds()))
            ours, theirs = socket.socketpair()
            with ours, theirs, pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await adrive(ask(ours, request, task(), Bounds()))
            ticking.cancel()
            return reply.data

        assert bytes(1000) == asyncio.run(main())
        assert ticks >= 5


# ---- races -------------------------------------------------------------------

RACE_SECONDS = 2.0
"""How long each race is run; at some 10,000 rounds a second of the attacker."""


@contextlib.contextmanager
def flipping(flip: Path, one: Path, other: Path) -> Iterator[None]:
    """Swap *one* and *other* for as long as this lasts."""
    attacker = subprocess.Popen([flip, one, other])
    try:
        yield
        assert attacker.poll() is None
    finally:
        attacker.kill()
        attacker.wait()


def repeat(action: Callable[[], None]) -> int:
    """Repeat *action* for the time of a race; how often it was not refused."""
    done = tried = 0
    until = time.monotonic() + RACE_SECONDS
    while time.monotonic() < until:
        tried += 1
        with contextlib.suppress(OSError):
            action()
            done += 1
    assert tried > 200
    return done


@pytest.mark.slow
class TestRaces:
    CANARY = b"the secret of the host"

    @pytest.fixture
    def canary(self, tmp_path: Path) -> Path:
        """Return a directory of the host with a file that must not be touched."""
        place = tmp_path / "host"
        place.mkdir()
        (place / "f").write_bytes(self.CANARY)
        (place / "f").chmod(0o640)
        os.utime(place / "f", (1, 1))
        return place

    def intact(self, canary: Path) -> bool:
        """Say whether nothing happened to the host."""
        status = (canary / "f").stat()
        return (
            (canary / "f").read_bytes() == self.CANARY
            and status.st_mode == stat.S_IFREG | 0o640
            and status.st_mtime == 1
            and status.st_uid == os.geteuid()
            and os.listdir(canary) == ["f"]
        )

    @pytest.mark.parametrize("escape", ["absolute", "dotdot"])
    def test_ex5_file_out(
        self, quick_agent: Path, flip: Path, tmp_path: Path, canary: Path, escape: str
    ) -> None:
        """
        While a file is swapped with a link to a file of the host, a copy out delivers
        the file, what the link means inside, or an error; never the host's (EX5).
        """
        root = tmp_path / "root"
        root.mkdir()
        (root / "x").write_bytes(b"inside")
        target = f"../../../../../{canary}/f" if escape == "dotdot" else canary / "f"
        (root / "y").symlink_to(target)
        seen = set()

        with PlainAgents(quick_agent, root).connect() as sock:

            def look() -> None:
                seen.add(get(sock, "/x"))
                seen.add(get(sock, "/x", follow=True))

            with flipping(flip, root / "x", root / "y"):
                done = repeat(look)

        assert seen <= {b"inside", b""}
        assert b"inside" in seen
        assert done > 0

    def test_ex5_directory_out(
        self, quick_agent: Path, flip: Path, tmp_path: Path, canary: Path
    ) -> None:
        """
        The same for a directory on the way, and for one that is copied with it (EX5).
        """
        root = tmp_path / "root"
        (root / "top/x").mkdir(parents=True)
        (root / "top/x/f").write_bytes(b"inside")
        (root / "top/y").symlink_to(canary)
        seen = set()

        with PlainAgents(quick_agent, root).connect() as sock:

            def look() -> None:
                seen.add(get(sock, "/top"))
                seen.add(get(sock, "/top/x/f"))

            with flipping(flip, root / "top/x", root / "top/y"):
                repeat(look)

        # Both names may be seen as the directory, one after the other.
        assert seen <= {b"inside", b"", b"insideinside"}
        assert b"inside" in seen

    def test_ex6_file_in(
        self, quick_agent: Path, flip: Path, tmp_path: Path, canary: Path
    ) -> None:
        """
        While the target of a copy in is swapped with a link to a file of the host,
        that file is not changed, nor its mode, owner and time (EX6).
        """
        root = tmp_path / "root"
        root.mkdir()
        (root / "x").write_bytes(b"inside")
        (root / "y").symlink_to(canary / "f")

        with PlainAgents(quick_agent, root).connect() as sock:

            def change() -> None:
                put(sock, "/x", b"overwritten")
                for flags in (("MODE",), ("MODE", "FOLLOW")):
                    request = Request(
                        verb="SET",
                        path="/x",
                        flags=flags,
                        mode=0o777,
                        mtime_ns=5,
                        owner=(1, 1),
                    )
                    with contextlib.suppress(OSError):
                        drive(ask(sock, request, task(), Bounds()))

            with flipping(flip, root / "x", root / "y"):
                done = repeat(change)

        assert self.intact(canary)
        assert done > 0

    def test_ex6_directory_in(
        self, quick_agent: Path, flip: Path, tmp_path: Path, canary: Path
    ) -> None:
        """
        The same where a directory on the way is swapped, for every verb that changes
        something (EX6).
        """
        root = tmp_path / "root"
        (root / "x").mkdir(parents=True)
        (root / "x/f").write_bytes(b"inside")
        (root / "y").symlink_to(canary)
        items = [
            Item("directory", b"x", mode=0o755),
            Item("file", b"f", b"overwritten"),
            Item("directory", b"new", mode=0o755),
            Item("file", b"n", b"n"),
            Item("end"),
            Item("end"),
        ]

        with PlainAgents(quick_agent, root).connect() as sock:

            def change() -> None:
                put(sock, "/x/f", b"overwritten")
                for request in (
                    Request(verb="MKDIR", path="/x/made", flags=("PARENTS",)),
                    Request(verb="LINK", path="/x/made", second="/"),
                    Request(verb="RENAME", path="/x/f", second="/x/g"),
                    Request(verb="RENAME", path="/x/g", second="/x/f"),
                    Request(verb="SET", path="/x/f", flags=("MODE",), mode=0o777),
                    Request(verb="REMOVE", path="/x/made", flags=("RECURSIVE",)),
                    Request(verb="REMOVE", path="/x/f"),
                ):
                    with contextlib.suppress(OSError):
                        drive(ask(sock, request, task(), Bounds()))
                for flags in ((), ("FOLLOW",)):
                    whole = Request(verb="PUT", path="/x", flags=flags)
                    with contextlib.suppress(OSError):
                        drive(send_items(sock, whole, items, task()))

            with flipping(flip, root / "x", root / "y"):
                repeat(change)

        assert self.intact(canary)

    def test_removing_does_not_follow(
        self, quick_agent: Path, flip: Path, tmp_path: Path, canary: Path
    ) -> None:
        """
        While a directory is swapped with a link to one of the host, removing it with
        everything below removes nothing there.
        """
        root = tmp_path / "root"

        with PlainAgents(quick_agent, tmp_path).connect() as sock:

            def remove() -> None:
                shutil.rmtree(root, ignore_errors=True)
                (root / "top/x/deep").mkdir(parents=True)
                (root / "top/x/f").write_bytes(b"inside")
                (root / "top/y").symlink_to(canary)
                attacker = subprocess.Popen([flip, root / "top/x", root / "top/y"])
                request = Request(verb="REMOVE", path="/root/top", flags=("RECURSIVE",))
                try:
                    drive(ask(sock, request, task(), Bounds()))
                finally:
                    attacker.kill()
                    attacker.wait()

            until = time.monotonic() + RACE_SECONDS
            while time.monotonic() < until:
                with contextlib.suppress(OSError):
                    remove()

        assert self.intact(canary)

    def test_sending_does_not_follow(
        self, quick_agent: Path, flip: Path, tmp_path: Path, canary: Path
    ) -> None:
        """
        While a directory of the host's source is swapped with a link out of it, what
        the link leads to is not sent.
        """
        source, root = tmp_path / "source", tmp_path / "root"
        root.mkdir()
        (source / "x").mkdir(parents=True)
        (source / "x/f").write_bytes(b"inside")
        (source / "y").symlink_to(canary)
        seen = set()

        with (
            PlainAgents(quick_agent, root).connect() as sock,
            directory(tmp_path) as fd,
        ):

            def copy() -> None:
                request = Request(verb="PUT", path="/copy", flags=("FOLLOW",))
                drive(send(sock, request, fd, b"source", task(), Bounds()))
                for file in (root / "copy").rglob("f"):
                    if not file.is_symlink() and not file.parent.is_symlink():
                        seen.add(file.read_bytes())
                shutil.rmtree(root / "copy")

            with flipping(flip, source / "x", source / "y"):
                repeat(copy)

        assert seen <= {b"inside"}


# ---- speed -------------------------------------------------------------------


@pytest.mark.slow
class TestSpeed:
    def test_ten_thousand_small_files(
        self,
        quick_agent: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """
        Putting 10,000 small files takes at most 1.5 times as long as ``cp -r``.
        """
        source, root = tmp_path / "source", tmp_path / "root"
        root.mkdir()
        for i in range(100):
            (source / f"{i}").mkdir(parents=True)
            for k in range(100):
                (source / f"{i}/{k}").write_bytes(b"x" * 400)
        ours, theirs, out = [], [], []

        with (
            PlainAgents(quick_agent, root).connect() as sock,
            directory(tmp_path) as fd,
        ):
            for turn in range(8):
                began = time.perf_counter()
                request = Request(verb="PUT", path=f"/put{turn}", owner=(0, 0))
                if os.geteuid() != 0:
                    request = Request(verb="PUT", path=f"/put{turn}")
                copied = drive(send(sock, request, fd, b"source", task(), Bounds()))
                ours.append(time.perf_counter() - began)
                assert copied.entries == 10_101
                began = time.perf_counter()
                subprocess.run(["cp", "-r", source, root / f"cp{turn}"], check=True)
                theirs.append(time.perf_counter() - began)
                began = time.perf_counter()
                request = Request(
                    verb="GET", path=f"/put{turn}", depth=None, flags=("DATA_TOO",)
                )
                name = b"got%d" % turn
                drive(receive(sock, request, fd, name, task(), Bounds()))
                out.append(time.perf_counter() - began)
                # Who else works on this machine must not decide.
                if turn >= 2 and min(ours) <= min(theirs):
                    break

        with capsys.disabled():
            sys.stdout.write(
                f"\n10,000 files of 400 bytes: put {min(ours):.3f} s, "
                f"get {min(out):.3f} s, cp -r {min(theirs):.3f} s\n"
            )
        assert min(ours) <= 1.5 * min(theirs)


# ---- what a layer changed ----------------------------------------------------

LOWER = {
    "a/f": "one",
    "a/g": "two",
    "a/deep/er/h": "three",
    "b/x": "four",
    "b/empty": "",
    "c": "five",
}

OVERLAY = Path(__file__).parent.parent / "native/overlay.py"


class Layer:
    """
    An overlay that something was done to, of which only the directories are left.

    Attributes:
        before: What was to be seen in it before.

        after: And after.
    """

    def __init__(
        self, place: Path, operations: object, options: str, mode: tuple[str, ...]
    ) -> None:
        for name in ("lower", "upper", "work", "merged"):
            (place / name).mkdir()
        for path, text in LOWER.items():
            (place / "lower" / path).parent.mkdir(parents=True, exist_ok=True)
            (place / "lower" / path).write_text(text)
        (place / "lower/link").symlink_to("a/f")
        (place / "lower/hard").hardlink_to(place / "lower/c")
        done = subprocess.run(
            [
                "unshare", *mode, sys.executable, OVERLAY,
                *(place / name for name in ("lower", "upper", "work", "merged")),
                options, json.dumps(operations),
            ],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        self.before, self.after = told["before"], told["after"]
        self._place = place
        self._userxattr = "userxattr" in options

    def changes(self) -> tuple[LayerChange, ...]:
        """Compare, with the rights of this process."""
        with (
            directory(self._place / "upper") as upper,
            directory(self._place / "lower") as lower,
            serving(upper=upper, lower=lower, userxattr=self._userxattr) as sock,
        ):
            request = Request(verb="CHANGES")
            return drive(ask(sock, request, task(), Bounds())).changes

    def told(self) -> list[str]:
        """Say the changes in a line each."""
        return sorted(f"{each.kind} {each.path}" for each in self.changes())

    def expected(self) -> list[str]:
        """Say the same from what was seen before and after."""
        found = []
        for path in self.before.keys() | self.after.keys():
            old, new = self.before.get(path), self.after.get(path)
            parent = os.path.dirname(path)
            if old is None:
                found.append(f"added {path}")
            elif new is None:
                # What was in a directory that is gone needs no mention of its own.
                if parent == "" or stat.S_ISDIR(self.after.get(parent, [0])[0]):
                    found.append(f"removed {path}")
            elif old[0] != new[0]:
                found += [f"removed {path}", f"added {path}"]
            elif old != new:
                found.append(f"modified {path}")
        return sorted(found)


@pytest.fixture(
    params=[
        pytest.param(("", ("--mount",)), marks=pytest.mark.root, id="trusted"),
        pytest.param(
            ("userxattr", ("--user", "--map-root-user", "--mount")),
            marks=pytest.mark.userns,
            id="userxattr",
        ),
    ]
)
def layer(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[object], Layer]:
    """Return a maker of layers, as the host's root and in a user namespace."""
    options, mode = request.param
    return lambda operations: Layer(tmp_path, operations, options, mode)


NOTHING: list[str] = []


class TestChanges:
    @pytest.mark.parametrize(
        ("operations", "told"),
        [
            ([], NOTHING),
            ([["write", "n"]], ["added n"]),
            ([["mkdir", "n"], ["write", "n/f"]], ["added n", "added n/f"]),
            ([["write", "a/f", "new"]], ["modified a/f"]),
            ([["append", "a/f"]], ["modified a/f"]),
            ([["forge", "a/f", "eno"]], ["modified a/f"]),
            ([["utime", "a/f", 7]], ["modified a/f"]),
            ([["chmod", "a/f", 0o600]], ["modified a/f"]),
            ([["chmod", "a", 0o700]], ["modified a"]),
            ([["setxattr", "a/f", "user.n", "00"]], ["modified a/f"]),
            ([["remove", "a/f"]], ["removed a/f"]),
            ([["remove", "a"]], ["removed a"]),
            ([["remove", "link"]], ["removed link"]),
            ([["rename", "c", "d"]], ["added d", "removed c"]),
            ([["link", "c", "d"]], ["added d"]),
            ([["mkfifo", "p"]], ["added p"]),
            ([["remove", "link"], ["symlink", "link", "x"]], ["modified link"]),
            ([["remove", "c"], ["mkdir", "c"]], ["added c", "removed c"]),
            (
                [["remove", "b"], ["write", "b"]],
                ["added b", "removed b"],
            ),
            ([["write", "n"], ["remove", "n"]], NOTHING),
        ],
        ids=range(20),
    )
    def test_what_was_done(
        self,
        layer: Callable[[object], Layer],
        operations: list[list[object]],
        told: list[str],
    ) -> None:
        """
        Each thing that can be done to a file is told as what it is.
        """
        assert layer(operations).told() == told

    @pytest.mark.parametrize(
        "operations",
        [
            [["open", "a/f"]],
            [["rewrite", "a/f"]],
            [["there_and_back", "a/f"]],
            [["there_and_back", "link"]],
            [["chmod", "a/f", 0o600], ["chmod", "a/f", 0o644]],
            [["chmod", "a", 0o700], ["chmod", "a", 0o755]],
            [["open", "hard"]],
            [["open", "b/empty"]],
        ],
        ids=range(8),
    )
    def test_what_was_undone(
        self, layer: Callable[[object], Layer], operations: list[list[object]]
    ) -> None:
        """
        A file that was only copied up, or got back what it had, is no change.
        """
        found = layer(operations)

        assert any((found._place / "upper").rglob("*"))
        assert found.told() == []

    def test_what_a_change_says(self, layer: Callable[[object], Layer]) -> None:
        """
        A change says what is different, and what both sides are.
        """
        found = {
            each.path: each
            for each in layer(
                [
                    ["forge", "a/f", "eno"],
                    ["chmod", "a/g", 0o600],
                    ["utime", "c", 7],
                    ["setxattr", "b/x", "user.n", "00"],
                    ["remove", "a/deep"],
                    ["symlink", "s", "to"],
                ]
            ).changes()
        }

        forged, mode, time = found["a/f"], found["a/g"], found["c"]
        assert (forged.content, forged.mode, forged.mtime) == (True, False, False)
        assert (mode.content, mode.mode, mode.mtime) == (False, True, False)
        assert (time.content, time.mode, time.mtime) == (False, False, True)
        assert (found["b/x"].attributes, found["b/x"].content) == (True, False)
        assert mode.old
        assert mode.now
        assert (mode.old.mode, mode.now.mode) == (0o644, 0o600)
        assert found["a/deep"].kind is ChangeKind.REMOVED
        assert found["a/deep"].now is None
        assert found["a/deep"].old
        assert found["a/deep"].old.type is FileType.DIRECTORY
        assert found["s"].now
        assert found["s"].now.target == "to"
        assert found["s"].old is None

    def test_a_directory_made_anew(self, layer: Callable[[object], Layer]) -> None:
        """
        A directory that was removed and made again hides what the image had in it:
        that is removed; what was put back as it was is no change.
        """
        found = layer(
            [
                ["recreate", "a"],
                ["mkdir", "a/deep"],
                ["write", "a/g", "two"],
                ["write", "a/new"],
            ]
        )

        assert found.told() == [
            "added a/new",
            # Its time is not what it was.
            "modified a/g",
            "removed a/deep/er",
            "removed a/f",
        ]
        assert not {each.path: each for each in found.changes()}["a/g"].content

    @pytest.mark.slow
    @pytest.mark.parametrize("seed", range(25))
    def test_like_before_and_after(
        self, layer: Callable[[object], Layer], seed: int
    ) -> None:
        """
        After thirty random operations, the changes are the difference between what was
        to be seen before and after.
        """
        found = layer(seed)

        assert found.told() == found.expected()

    @pytest.mark.root
    def test_renamed_directories(self, tmp_path: Path) -> None:
        """
        A directory of the image that was renamed is removed in one place, and added in
        the other with everything in it, what was changed and what was not.
        """
        found = Layer(
            tmp_path,
            [
                ["rename", "a", "z"],
                ["write", "z/new"],
                ["remove", "z/g"],
                ["rename", "z/deep", "flat"],
                ["append", "z/flat/er/h"],
            ],
            "redirect_dir=on",
            ("--mount",),
        )

        assert found.told() == [
            "added z",
            "added z/f",
            "added z/flat",
            "added z/flat/er",
            "added z/flat/er/h",
            "added z/new",
            "removed a",
        ]
        assert found.told() == found.expected()

    @pytest.mark.root
    def test_forged_marks_mean_nothing(self, tmp_path: Path) -> None:
        """
        What a jail can write itself is not taken for a mark of the overlay: in a layer
        that keeps its marks in trusted.overlay.*, user.overlay.opaque is data.
        """
        found = Layer(tmp_path, [["write", "a/new"]], "", ("--mount",))
        os.setxattr(tmp_path / "upper/a", "user.overlay.opaque", b"y")

        assert found.told() == ["added a/new"]

    @pytest.mark.root
    def test_ids_are_those_of_the_jail(self, tmp_path: Path) -> None:
        """
        Owners are told as the jail sees them, and what only the range shifts is no
        change.
        """
        for name in ("lower", "upper"):
            (tmp_path / name).mkdir()
            for file in ("same", "other"):
                (tmp_path / name / file).write_text("x")
                os.utime(tmp_path / name / file, (5, 5))
        os.chown(tmp_path / "lower/same", 7, 8)
        os.chown(tmp_path / "upper/same", 100_007, 100_008)
        os.chown(tmp_path / "lower/other", 7, 8)
        os.chown(tmp_path / "upper/other", 100_007, 100_009)
        with (
            directory(tmp_path / "upper") as upper,
            directory(tmp_path / "lower") as lower,
            serving(upper=upper, lower=lower, upper_base=100_000) as sock,
        ):
            request = Request(verb="CHANGES")
            (found,) = drive(ask(sock, request, task(), Bounds())).changes

        assert found.path == "other"
        assert found.owner
        assert found.now
        assert (found.now.uid, found.now.gid) == (7, 9)

    def test_links_in_a_layer_lead_nowhere(self, tmp_path: Path) -> None:
        """
        A link in the layer, to a directory of the host, is a link: nothing behind it
        is looked at.
        """
        for name in ("lower", "upper", "host"):
            (tmp_path / name).mkdir()
        (tmp_path / "host/f").write_text("secret")
        (tmp_path / "lower/d").mkdir()
        (tmp_path / "upper/d").symlink_to(tmp_path / "host")
        with (
            directory(tmp_path / "upper") as upper,
            directory(tmp_path / "lower") as lower,
            serving(upper=upper, lower=lower) as sock,
        ):
            request = Request(verb="CHANGES")
            found = drive(ask(sock, request, task(), Bounds())).changes

        assert [(each.kind, each.path) for each in found] == [
            (ChangeKind.REMOVED, "d"),
            (ChangeKind.ADDED, "d"),
        ]
