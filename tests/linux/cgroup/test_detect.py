"""What a machine's control groups are taken for, from its own files."""

import errno
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jailbox.linux.cgroup.detect import (
    CgroupLayout,
    CgroupNode,
    chains,
    detect,
    parse_membership,
    parse_mountinfo,
)
from tests.linux.cgroup.recordings import (
    CORPUS,
    MACHINES,
    expectations,
    format_nodes,
    machine,
    parse_nodes,
)

LINE = (
    "30 22 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
)


class TestMountinfo:
    """What is mounted where."""

    def test_line(self) -> None:
        """A line tells root, place, type, source and both kinds of options."""
        (mounted,) = parse_mountinfo(LINE)

        assert (mounted.root, mounted.path) == ("/", "/sys/fs/cgroup")
        assert (mounted.kind, mounted.source) == ("cgroup2", "cgroup2")
        assert mounted.options == {"rw", "nosuid"}
        assert mounted.super_options == {"rw", "nsdelegate"}

    def test_any_number_of_optional_fields(self) -> None:
        """Propagation fields before the hyphen may be none or several."""
        none = LINE.replace(" shared:9", "")
        two = LINE.replace("shared:9", "shared:9 master:2")

        assert parse_mountinfo(none) == parse_mountinfo(two) == parse_mountinfo(LINE)

    def test_escapes(self) -> None:
        r"""
        The kernel's \040, \011, \012 and \134 in paths are undone,
        and only they.
        """
        text = LINE.replace("/sys/fs/cgroup", r"/a\040b\134040\011c\9")

        assert parse_mountinfo(text)[0].path == "/a b\\040\tc\\9"

    def test_read_only_either_way(self) -> None:
        """A mount is read-only by its own option or by that of the file system."""
        by_mount = LINE.replace("rw,nosuid", "ro,nosuid")
        by_super = LINE.replace("rw,nsdelegate", "ro,nsdelegate")

        assert parse_mountinfo(by_mount)[0].read_only
        assert parse_mountinfo(by_super)[0].read_only
        assert not parse_mountinfo(LINE)[0].read_only

    @given(st.text())
    def test_never_fails(self, text: str) -> None:
        """Whatever /proc says is read without an exception."""
        parse_mountinfo(text)
        parse_membership(text)
        assert detect(text, text, {}, kernel=(6, 1, 0)).kind in {
            "v1",
            "v2",
            "hybrid",
            "none",
        }


class TestMembership:
    """Our own groups."""

    def test_lines(self) -> None:
        """
        Every controller of a version 1 line has its path; the unified
        one is unnamed.
        """
        own = parse_membership("6:cpu,cpuacct:/a\n1:name=systemd:/b\n0::/c:d\nbad\n")

        assert own == {"cpu": "/a", "cpuacct": "/a", "name=systemd": "/b", "": "/c:d"}


class TestChains:
    """Which directories decide."""

    def test_from_the_top_to_our_own_group(self) -> None:
        """The candidates go from the mount down to the group of the caller."""
        (chain,) = chains(parse_mountinfo(LINE), {"": "/a/b"})

        assert chain.places == (
            "/sys/fs/cgroup",
            "/sys/fs/cgroup/a",
            "/sys/fs/cgroup/a/b",
        )
        assert chain.own == "/sys/fs/cgroup/a/b"

    def test_mount_of_a_part(self) -> None:
        """A mount that shows a part of the hierarchy begins at that part."""
        text = LINE.replace("0:26 /", "0:26 /docker/4f")
        (chain,) = chains(parse_mountinfo(text), {"": "/docker/4f/x"})

        assert chain.places == ("/sys/fs/cgroup", "/sys/fs/cgroup/x")

    @pytest.mark.parametrize("own", ["/../other", "/elsewhere", "/docker/4ff"])
    def test_own_group_outside(self, own: str) -> None:
        """
        Where our own group is not visible, only the top of the mount
        is looked at.
        """
        text = LINE.replace("0:26 /", "0:26 /docker/4f")
        (chain,) = chains(parse_mountinfo(text), {"": own})

        assert chain.places == ("/sys/fs/cgroup",)
        assert chain.own is None

    def test_hidden_mount(self) -> None:
        """A cgroup mount under a later mount of the same path does not count."""
        cover = "99 22 0:9 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n"

        assert chains(parse_mountinfo(LINE + cover), {"": "/"}) == ()

    def test_second_mount_of_a_controller(self) -> None:
        """Of two mounts of one controller, the one below /sys/fs/cgroup counts."""
        text = (
            "9 1 0:7 / /mnt/pids rw - cgroup cgroup rw,pids\n"
            "8 1 0:7 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
        )

        assert [c.mount for c in chains(parse_mountinfo(text), {})] == [
            "/sys/fs/cgroup/pids"
        ]

    def test_named_hierarchies_are_not_ours(self) -> None:
        """A hierarchy without a controller that we use is passed over."""
        text = (
            "9 1 0:7 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n"
            "8 1 0:8 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices\n"
        )

        assert chains(parse_mountinfo(text), {}) == ()


class TestRecordedMachines:
    """The machines of the corpus."""

    @pytest.mark.parametrize("name", MACHINES)
    def test_layout(self, name: str) -> None:
        """The layout of every recorded machine is the one in its folder."""
        expected = (CORPUS / name / "layout").read_text(encoding="utf-8")

        assert expectations(name)["layout"] == expected

    @pytest.mark.parametrize("name", MACHINES)
    def test_value(self, name: str) -> None:
        """A layout is a value: equal when made again, hashable, and picklable."""
        layout = machine(name).layout()

        assert layout == machine(name).layout()
        assert hash(layout) == hash(machine(name).layout())
        assert pickle.loads(pickle.dumps(layout)) == layout  # noqa: S301  # our own

    @pytest.mark.parametrize("name", MACHINES)
    def test_recording(self, name: str) -> None:
        """What is recorded of a machine is read back as it was written."""
        nodes = machine(name).nodes

        assert parse_nodes(format_nodes(tuple(nodes.values()))) == nodes

    @pytest.mark.parametrize(
        ("name", "kind", "backend"),
        [
            ("hybrid-root", "hybrid", "hybrid"),
            ("none", "none", "none"),
            ("v1-root", "v1", "v1"),
            ("v1-user", "v1", "v1"),
            ("v2-docker", "v2", "none"),
            ("v2-docker-privileged", "v2", "none"),
            ("v2-root", "v2", "v2"),
            ("v2-root-bare", "v2", "v2"),
            ("v2-service-delegated", "v2", "none"),
            ("v2-user-delegated", "v2", "v2"),
            ("v2-user-session", "v2", "none"),
        ],
    )
    def test_backend(self, name: str, kind: str, backend: str) -> None:
        """The back end is what is mounted, or none where we may not use it."""
        layout = machine(name).layout()

        assert (layout.kind, layout.backend) == (kind, backend)

    @pytest.mark.parametrize(
        ("name", "controller", "number"),
        [
            ("none", "memory", errno.ENOENT),
            ("v1-user", "cpu", errno.EACCES),
            ("v2-docker", "memory", errno.EROFS),
            ("v2-docker-privileged", "memory", errno.EBUSY),
            ("v2-service-delegated", "pids", errno.EBUSY),
            ("v2-user-delegated", "cpuset", errno.ENOENT),
            ("v2-user-session", "memory", errno.EACCES),
        ],
    )
    def test_refusal(self, name: str, controller: str, number: int) -> None:
        """A controller that cannot be used is refused with file, errno and remedy."""
        refusal = machine(name).layout().refusal(controller)

        assert refusal is not None
        assert refusal.errno == number
        assert refusal.path.startswith("/sys/fs/cgroup")
        assert refusal.remedy

    @pytest.mark.parametrize(
        "name", ["hybrid-root", "v1-root", "v2-root", "v2-root-bare"]
    )
    def test_root_stays_out_of_its_own_group(self, name: str) -> None:
        """CG13: as root, nothing is made below the group of the calling process."""
        recorded = machine(name)
        own = parse_membership(recorded.cgroup)
        for hierarchy in recorded.layout().hierarchies:
            names = hierarchy.controllers or ("",)
            group = hierarchy.mount + own.get(names[0], own.get("", "/")).rstrip("/")
            assert hierarchy.parent == f"{hierarchy.mount}/jailbox"
            assert group == hierarchy.mount or not str(hierarchy.parent).startswith(
                f"{group}/"
            )

    def test_user_gets_the_whole_delegated_subtree(self) -> None:
        """
        An ordinary user works at the top of what was delegated: moving a process needs
        the common ancestor of both groups to be writable.
        """
        layout = machine("v2-user-delegated").layout()

        assert layout.unified is not None
        assert layout.unified.parent == (
            "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/jailbox"
        )

    def test_controllers_of_a_usable_hierarchy_are_not_refused(self) -> None:
        """What can be used is not refused."""
        layout = machine("hybrid-root").layout()

        for name in ("memory", "pids", "cpu", "cpuset", "cpuacct", "freezer"):
            assert layout.holder(name) is not None
            assert layout.refusal(name) is None

    def test_controller_that_nobody_has(self) -> None:
        """
        A controller outside of every mounted hierarchy is refused by
        /proc/cgroups.
        """
        refusal = machine("hybrid-root").layout().refusal("hugetlb")

        assert refusal is not None
        assert refusal.path == "/proc/cgroups"


class TestKnobs:
    """Files that not every kernel has."""

    @pytest.mark.parametrize(
        ("kernel", "knobs"),
        [
            ((4, 19, 0), ("memory.swap.max",)),
            ((5, 4, 0), ("cgroup.freeze", "memory.swap.max")),
            ((5, 14, 0), ("cgroup.freeze", "cgroup.kill", "memory.swap.max")),
        ],
    )
    def test_below_the_real_root(
        self, kernel: tuple[int, int, int], knobs: tuple[str, ...]
    ) -> None:
        """
        The real root has no such files, so the version tells what its
        children have.
        """
        recorded = machine("v2-root")
        layout = detect(
            recorded.mountinfo, recorded.cgroup, recorded.nodes, kernel=kernel
        )

        assert layout.unified is not None
        assert layout.unified.knobs == knobs

    def test_without_swap(self) -> None:
        """A kernel that does not count swap has no file for it."""
        recorded = machine("v2-root")
        layout = detect(
            recorded.mountinfo,
            recorded.cgroup,
            recorded.nodes,
            kernel=recorded.kernel,
            swap=False,
        )

        assert layout.unified is not None
        assert "memory.swap.max" not in layout.unified.knobs

    def test_writable_but_on_a_read_only_mount(self) -> None:
        """A read-only mount is refused whatever its directories claim."""
        text = LINE.replace("rw,nosuid", "ro,nosuid")
        node = CgroupNode(path="/sys/fs/cgroup", writable=True, controllers=("pids",))
        layout = detect(text, "0::/\n", {node.path: node}, kernel=(6, 1, 0))

        assert layout.unified is None
        refusal = layout.refusal("pids")
        assert refusal is not None
        assert refusal.errno == errno.EROFS


def test_layout_of_nothing() -> None:
    """Without a cgroup file system everything is refused, and that is said."""
    layout = CgroupLayout()

    assert layout.backend == "none"
    assert layout.describe() == "kind none, limits by none"
    refusal = layout.refusal("memory")
    assert refusal is not None
    assert "mount -t cgroup2" in refusal.remedy
