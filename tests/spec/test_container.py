"""Containers and programs as one value each."""

import pickle
from typing import Any, TypeAlias

import attrs
import pytest

from jailbox.errors import SpecError
from jailbox.spec.command import User
from jailbox.spec.container import (
    DEFAULT_MAX_OUTPUT,
    ContainerSpec,
    ContainerState,
    ProgramSpec,
)
from jailbox.spec.image import ImageConfig
from jailbox.spec.limits import Limits
from jailbox.spec.mount import Mount
from jailbox.spec.network import Network
from jailbox.spec.security import DEFAULT_SECURITY, Security

# What the types forbid and people pass nevertheless.
Wrong: TypeAlias = Any

FULL = ContainerSpec(
    image="debian:12",
    command=["make", "-j2"],
    name="build-1",
    labels={"who": "me"},
    env={"TOKEN": "hush"},
    cwd="/src/",
    user="1000:100",
    groups=[5],
    umask=0o077,
    mounts=[Mount.bind("/srv", "/src"), Mount.tmpfs("/tmp")],
    limits=Limits(memory="1G"),
    security=Security.strict(),
    network="host",
    hostname="box",
    read_only=True,
    tty=(120, 40),
    stderr="stdout",
    stop_signal="INT",
    stop_timeout=3,
    max_output="1M",
    pass_fds=2,
)


class TestContainerSpec:
    """What is wanted of a container."""

    def test_defaults(self) -> None:
        """An image is enough; everything else is the safe default."""
        spec = ContainerSpec(image="x")

        assert spec.command is None
        assert spec.env == {}
        assert spec.network == Network("none")
        assert spec.security is DEFAULT_SECURITY
        assert spec.limits == Limits()
        assert spec.umask == 0o022
        assert spec.stop_signal is None
        assert spec.stop_timeout == 10.0
        assert spec.max_output == DEFAULT_MAX_OUTPUT == 64 << 20
        assert not spec.read_only
        assert not spec.detach
        spec.check()

    def test_canonical(self) -> None:
        """What people write is held as one canonical value each."""
        assert FULL.command == ("make", "-j2")
        assert FULL.cwd == "/src"
        assert FULL.user == User(1000, 100)
        assert FULL.network == Network("host")
        assert FULL.stop_signal == 2
        assert FULL.max_output == 1 << 20
        assert FULL.mounts == (Mount.bind("/srv", "/src"), Mount.tmpfs("/tmp"))
        FULL.check()

    def test_value(self) -> None:
        """A spec is comparable, hashable and picklable, a key of a cache."""
        twin = pickle.loads(pickle.dumps(FULL))  # noqa: S301

        assert twin == FULL == attrs.evolve(FULL)
        assert {twin: 1}[FULL] == 1
        assert attrs.evolve(FULL, umask=0) != FULL

    def test_printed(self) -> None:
        """What differs from the default is printed, without values of variables."""
        assert repr(ContainerSpec(image="x")) == "ContainerSpec(image='x')"
        assert "hush" not in repr(FULL)
        assert "hush" not in FULL.describe()
        assert "env={'TOKEN': ***}" in repr(FULL)

    def test_described(self) -> None:
        """A description has one line for each wish, fit for a terminal."""
        spec = ContainerSpec(
            image="x", command=["a\x1b"], limits=Limits(memory="1G"), labels={"\n": ""}
        )

        assert spec.describe() == (
            "image: 'x'\n"
            "command: ('a\\x1b',)\n"
            "labels: FrozenMap({'\\n': ''})\n"
            "limits: Limits(memory='1 GiB')"
        )

    def test_program(self) -> None:
        """The main program takes its part of the container's wishes."""
        program = FULL.program(ImageConfig())

        assert program == ProgramSpec(
            argv=["make", "-j2"],
            env={"TOKEN": "hush"},
            cwd="/src",
            user="1000:100",
            groups=[5],
            umask=0o077,
            tty=(120, 40),
            stderr="stdout",
            max_output="1M",
            pass_fds=2,
        )
        assert ContainerSpec(image="x").program(ImageConfig()) is None

    @pytest.mark.parametrize(
        ("entrypoint", "command", "argv"),
        [
            (None, None, ("/entry", "-d")),
            (None, ["x"], ("/entry", "x")),
            (["/own"], None, ("/own",)),
            (["/own"], ["x"], ("/own", "x")),
            ([], ["x"], ("x",)),
            ([], None, None),
        ],
    )
    def test_entry_point(
        self,
        entrypoint: list[str] | None,
        command: list[str] | None,
        argv: tuple[str, ...] | None,
    ) -> None:
        """Arguments follow the image's entry point; another one drops its command."""
        config = ImageConfig(entrypoint=("/entry",), cmd=("-d",))
        spec = ContainerSpec(image="x", entrypoint=entrypoint, command=command)

        program = spec.program(config)

        assert (None if program is None else program.argv) == argv

    @pytest.mark.parametrize(
        ("field", "value", "message"),
        [
            ("command", "ls", "argv='ls' is one text, not a list of arguments"),
            ("command", [], "argv is empty"),
            ("name", "../x", "name='../x' is not a name"),
            ("labels", {"": ""}, "labels has an empty key"),
            ("env", {"A=": ""}, "env='A=' has a bad name"),
            ("cwd", "src", "cwd='src' is not absolute"),
            ("user", "1e3", "user='1e3' is no id and no name"),
            ("groups", "audio", "groups='audio' is not several things"),
            ("umask", 512, "umask=512 is out of range"),
            ("mounts", ["/a:/b"], "mounts[0]='/a:/b' is not a mount"),
            ("mounts", Mount.tmpfs("/t"), "mounts=Tmpfs("),
            ("limits", {"memory": 1}, "limits={'memory': 1} is not Limits"),
            ("security", "strict", "security='strict' is not Security"),
            ("network", "bridge", "network='bridge' is not known"),
            ("hostname", "a\n", "hostname='a\\n' is not a host name"),
            ("read_only", 1, "read_only=1 is not a bool"),
            ("tty", (0, 0), "tty=0 is out of range"),
            ("stderr", "null", "stderr='null' is not known"),
            ("stop_signal", "SIGFOO", "stop_signal='SIGFOO' is not a signal"),
            ("stop_timeout", -1, "stop_timeout=-1 is negative"),
            ("max_output", "1e3g", "max_output='1e3g' is not a size"),
            ("pass_fds", -1, "pass_fds=-1 is out of range"),
            ("pass_fds", (3,), "pass_fds=(3,) is not an int"),
            ("detach", "yes", "detach='yes' is not a bool"),
        ],
        ids=lambda value: repr(value)[:24],
    )
    def test_refused(self, field: str, value: Wrong, message: str) -> None:
        """Every field is refused by its name, with what is accepted."""
        with pytest.raises(SpecError) as caught:
            ContainerSpec(image="x", **{field: value})
        assert str(caught.value).startswith(message)
        assert "(accepted: " in str(caught.value)


class TestCheck:
    """How the fields go together."""

    @pytest.mark.parametrize(
        ("wishes", "message"),
        [
            (
                {"mounts": [Mount.tmpfs("/a"), Mount.bind("/b", "/a/")]},
                "mounts[1].target='/a' is also the target of mounts[0]",
            ),
            (
                {"tty": True, "stderr": "pipe"},
                (
                    "stderr='pipe' cannot be separate: a terminal is one stream "
                    "(accepted: None or 'stdout' together with tty)"
                ),
            ),
            (
                {"detach": True, "pass_fds": 1},
                (
                    "pass_fds=1 cannot go with detach: the descriptors end with this "
                    "process"
                ),
            ),
            (
                {
                    "network": "host",
                    "security": Security(sysctls={"net.ipv4.ip_forward": 1}),
                },
                (
                    "sysctls['net.ipv4.ip_forward'] would change the host's network "
                    "(accepted: net.* with a network other than 'host')"
                ),
            ),
            (
                {
                    "hostname": "a",
                    "security": Security(sysctls={"kernel.hostname": "b"}),
                },
                (
                    "sysctls['kernel.hostname'] is also given as hostname "
                    "(accepted: either one)"
                ),
            ),
        ],
        ids=["targets", "stderr", "detach", "network", "hostname"],
    )
    def test_relation(self, wishes: dict[str, Any], message: str) -> None:
        """Wishes that contradict each other are found."""
        with pytest.raises(SpecError) as caught:
            ContainerSpec(image="x", **wishes).check()
        assert str(caught.value) == message
        assert caught.value.findings == (message,)

    def test_all_at_once(self) -> None:
        """One error says everything that was found."""
        spec = ContainerSpec(
            image="x",
            mounts=[Mount.tmpfs("/a")] * 3,
            tty=True,
            stderr="pipe",
            detach=True,
            pass_fds=1,
        )

        with pytest.raises(SpecError) as caught:
            spec.check()
        assert [finding.partition("=")[0] for finding in caught.value.findings] == [
            "mounts[1].target",
            "mounts[2].target",
            "stderr",
            "pass_fds",
        ]
        assert str(caught.value).startswith("container has 4 problems: mounts[1]")

    def test_nested_targets(self) -> None:
        """A mount below another one is no contradiction."""
        ContainerSpec(
            image="x", mounts=[Mount.tmpfs("/a"), Mount.tmpfs("/a/b")]
        ).check()


class TestProgramSpec:
    """What is wanted of one more program."""

    def test_defaults(self) -> None:
        """Arguments are enough; the rest is left to the container."""
        program = ProgramSpec(argv=["true"])

        assert program.cwd is None
        assert program.user is None
        assert program.timeout is None
        assert repr(program) == "ProgramSpec(argv=('true',))"
        program.check()

    def test_terminal(self) -> None:
        """A terminal is one stream."""
        with pytest.raises(SpecError, match="a terminal is one stream"):
            ProgramSpec(argv=["sh"], tty=True, stderr="pipe").check()

    def test_timeout(self) -> None:
        """A timeout of zero looks once; a negative one is refused."""
        assert ProgramSpec(argv=["true"], timeout=0).timeout == 0.0
        with pytest.raises(SpecError, match=r"^timeout=-1 is negative"):
            ProgramSpec(argv=["true"], timeout=-1)

    def test_value(self) -> None:
        """A program is comparable, hashable and picklable."""
        program = ProgramSpec(argv=["true"], env={"A": "1"})

        assert pickle.loads(pickle.dumps(program)) == program  # noqa: S301
        assert hash(program) == hash(ProgramSpec(argv=("true",), env={"A": "1"}))


def test_states() -> None:
    """A container has four states, spelled as the design spells them."""
    assert [str(state) for state in ContainerState] == [
        "created",
        "running",
        "paused",
        "stopped",
    ]
