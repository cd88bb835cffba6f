"""Mounts: where they may go, and how they are written."""

import copy
import pickle
from pathlib import PurePosixPath
from typing import Any, TypeAlias, assert_never

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jailbox.errors import SpecError, SpecTypeError
from jailbox.spec.mount import (
    AnyMount,
    Bind,
    Cow,
    Device,
    Mount,
    Tmpfs,
    VolumeMount,
    mount_target,
)

# A busy machine is no failure.
UNHURRIED = settings(deadline=None)

# What the types forbid and people pass nevertheless.
Wrong: TypeAlias = Any


class TestTarget:
    """Paths that something may be mounted on."""

    @pytest.mark.parametrize(
        ("value", "target"),
        [
            ("/data", "/data"),
            ("/data/", "/data"),
            ("//a//./b", "/a/b"),
            (PurePosixPath("/a"), "/a"),
            ("/dev/shm", "/dev/shm"),
            ("/dev/fuse", "/dev/fuse"),
            ("/process", "/process"),
            ("/srv/proc", "/srv/proc"),
            ("/etc/hosts", "/etc/hosts"),
        ],
    )
    def test_accepted(self, value: str, target: str) -> None:
        """A target is held in one spelling."""
        assert mount_target(value) == target

    @pytest.mark.parametrize(
        "value",
        [
            "/proc",
            "/proc/x",
            "//proc//x/",
            "/./proc",
            "/sys",
            "/sys/x",
            "/dev",
            "/dev/",
            "/dev/pts",
            "/dev/pts/0",
            "/",
            "//",
            "/.",
            ".",
            "a/../..",
            "",
            "/a/..",
            "/../proc",
            "/a/../proc",
            "relative",
            "/a\nb",
            "/a\x00b",
            "/a\x7f",
        ],
    )
    def test_refused(self, value: str) -> None:
        """MT6: nothing is mounted over what the jail itself is made of."""
        with pytest.raises(SpecError) as caught:
            mount_target(value)
        assert caught.value.argument == "target"

    def test_golden(self) -> None:
        """A refusal names the argument, the value and what is accepted."""
        with pytest.raises(SpecError) as caught:
            Mount.bind("/srv", "/proc/self")
        assert str(caught.value) == (
            "target='/proc/self' cannot be mounted on (accepted: an absolute path "
            "without '..', not /, and not on or below /proc and /sys, not /dev itself, "
            "not below /dev/pts)"
        )

    @UNHURRIED
    @given(st.text(st.sampled_from("/.procsysdev"), max_size=20))
    def test_nothing_slips_through(self, text: str) -> None:
        """MT6: however a path is spelled, it is refused or outside of those."""
        try:
            parts = mount_target(f"/{text}").split("/")[1:]
        except SpecError:
            return
        assert parts[0] not in ("", "proc", "sys")
        assert parts != ["dev"]
        assert parts[:2] != ["dev", "pts"]
        assert not {"", ".", ".."} & set(parts)


class TestBind:
    """Host directories."""

    def test_default(self) -> None:
        """A bind mount is read only unless it says otherwise."""
        assert Mount.bind("/srv/data/", "/data") == Bind(
            source="/srv/data",
            target="/data",
            writable=False,
            recursive=True,
            exec=True,
        )

    def test_printed(self) -> None:
        """What is printed shows every choice."""
        assert repr(Mount.bind("/a", "/b", writable=True)) == (
            "Bind(source='/a', target='/b', writable=True, recursive=True, exec=True)"
        )

    def test_relative_source(self) -> None:
        """A relative source is refused, with the way out."""
        with pytest.raises(
            SpecError, match=r"^source='data' is not absolute"
        ) as caught:
            Mount.bind("data", "/data")
        assert caught.value.__notes__ == [
            "A spec knows no current directory: Path(...).resolve()."
        ]

    @pytest.mark.parametrize("option", ["writable", "recursive", "exec"])
    @pytest.mark.parametrize("value", [0, 1, "no", None])
    def test_flags(self, option: str, value: Wrong) -> None:
        """A flag is a bool: "no" would be true."""
        with pytest.raises(SpecTypeError, match=f"^{option}=.* is not a bool"):
            Mount.bind("/a", "/b", **{option: value})


class TestTmpfs:
    """File systems in memory."""

    def test_default(self) -> None:
        """It is bounded, for everybody to write, and not for programs."""
        assert Mount.tmpfs("/scratch") == Tmpfs(
            "/scratch", size=64 << 20, mode=0o1777, exec=False
        )
        assert repr(Mount.tmpfs("/t")) == (
            "Tmpfs(target='/t', size=67108864, mode=0o1777, inodes=None, uid=0, "
            "gid=0, exec=False, writable=True)"
        )

    @pytest.mark.parametrize(
        ("options", "problem"),
        [
            ({"size": 0}, "size=0 is zero"),
            ({"size": "1e3"}, "size='1e3' is not a size"),
            ({"size": None}, "size=None is not a size"),
            ({"mode": 0o10000}, "mode=4096 is out of range"),
            ({"mode": "1777"}, "mode='1777' is not an int"),
            ({"inodes": 0}, "inodes=0 is out of range"),
            ({"uid": -1}, "uid=-1 is out of range"),
            ({"gid": 2**32 - 1}, "gid=4294967295 is out of range"),
            ({"exec": 1}, "exec=1 is not a bool"),
        ],
    )
    def test_refused(self, options: dict[str, Any], problem: str) -> None:
        """Zero would mean no bound to the kernel, and is refused like nonsense."""
        with pytest.raises(SpecError) as caught:
            Mount.tmpfs("/t", **options)
        assert str(caught.value).startswith(problem)


class TestDevice:
    """Device nodes."""

    def test_default(self) -> None:
        """A device keeps its place and can be read and written."""
        assert Mount.device("/dev/fuse") == Device("/dev/fuse", "/dev/fuse", "rw")
        assert Mount.device("/dev/fuse", "/dev/other", "mr").permissions == "rm"

    @pytest.mark.parametrize("permissions", ["", "x", "rr", "RW", "r w", None, 6])
    def test_permissions(self, permissions: Wrong) -> None:
        """Permissions are letters of rwm, each once."""
        with pytest.raises(SpecError) as caught:
            Mount.device("/dev/fuse", permissions=permissions)
        assert caught.value.argument == "permissions"


ALL: list[AnyMount] = [
    Mount.bind("/a", "/b"),
    Mount.cow("/a", "/b"),
    Mount.tmpfs("/b"),
    Mount.device("/dev/fuse"),
    Mount.volume("data", "/v"),
]


class TestSum:
    """The kinds together."""

    @pytest.mark.parametrize("mount", ALL, ids=lambda mount: type(mount).__name__)
    def test_value(self, mount: AnyMount) -> None:
        """Every mount is comparable, hashable, copyable and picklable."""
        twin = pickle.loads(pickle.dumps(mount))  # noqa: S301

        assert twin == mount == copy.deepcopy(mount)
        assert hash(twin) == hash(mount)
        assert isinstance(mount, Mount)

    @pytest.mark.parametrize("mount", ALL, ids=lambda mount: type(mount).__name__)
    def test_match(self, mount: AnyMount) -> None:
        """A match over five cases is all there is; mypy proves it."""
        match mount:
            case (
                Bind(_, target)
                | Cow(_, target)
                | Tmpfs(target)
                | Device(_, target)
                | VolumeMount(_, target)
            ):
                assert target == mount.target
            case _:
                assert_never(mount)
