"""Arguments, environment, users and names: strict, before any process exists."""

from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jailbox.errors import SpecError, SpecTypeError, shown
from jailbox.spec.command import (
    ID_MAX,
    User,
    argv_of,
    container_name,
    cwd_of,
    env_of,
    groups_of,
    hostname_of,
    labels_of,
    terminal_size,
    umask_of,
    user_of,
)

# A busy machine is no failure.
UNHURRIED = settings(deadline=None)

# What the types forbid and people pass nevertheless.
Wrong: TypeAlias = Any


class TestArgv:
    """What is executed."""

    def test_list(self) -> None:
        """Lists and tuples of text, bytes and paths become a tuple of str."""
        assert argv_of(["ls", b"-l", PurePosixPath("/a")]) == ("ls", "-l", "/a")
        assert argv_of(("ls", "")) == ("ls", "")

    def test_shell(self) -> None:
        """A text is read by the jail's shell, if that is asked for."""
        assert argv_of("ls | wc", shell=True) == ("/bin/sh", "-c", "ls | wc")

    @pytest.mark.parametrize("command", ["ls -l", b"ls -l"], ids=repr)
    def test_text_without_shell(self, command: str) -> None:
        """CTR-10: a text without shell=True is a TypeError with advice."""
        with pytest.raises(TypeError) as caught:
            argv_of(command)
        assert str(caught.value) == (
            f"argv={command!r} is one text, not a list of arguments "
            "(accepted: ['program', 'argument', ...])"
        )
        assert caught.value.__notes__ == [
            "Pass a list, or shell=True to have a shell read the text."
        ]

    def test_list_with_shell(self) -> None:
        """A list with shell=True is refused: a shell reads one text."""
        with pytest.raises(SpecTypeError, match="which shell=True needs"):
            argv_of(["ls"], shell=True)

    @pytest.mark.parametrize(
        "command", [None, 3, {"ls"}, {"ls": "-l"}, iter(["ls"]), Path("/bin/ls")]
    )
    def test_other_types(self, command: Wrong) -> None:
        """Sets, mappings, iterators and single paths are refused."""
        with pytest.raises(SpecTypeError, match="is not a list or tuple"):
            argv_of(command)

    @pytest.mark.parametrize(
        ("command", "message"),
        [
            ([], "argv is empty"),
            ([""], "argv[0] is empty"),
            (["a", "b\0c"], "argv[1]='b\\x00c' has a NUL character"),
            (["a", 3], "argv[1]=3 is no text"),
            (["a", None], "argv[1]=None is no text"),
            (["a\ud800"], "argv[0]='a\\ud800' cannot be encoded"),
        ],
    )
    def test_refused(self, command: list[Any], message: str) -> None:
        """A refusal names the argument by its place."""
        with pytest.raises(SpecError) as caught:
            argv_of(command)
        assert str(caught.value).startswith(f"{message} (accepted: ")


class TestEnv:
    """Variables."""

    def test_accepted(self) -> None:
        """Values may be text, bytes or paths; None is none at all."""
        env = env_of({"A": "1", "B": b"\xff", "C": PurePosixPath("/c"), "D": ""})

        assert env == {"A": "1", "B": "\udcff", "C": "/c", "D": ""}
        assert env_of(None) == {}

    @pytest.mark.parametrize(
        ("env", "message"),
        [
            ([], "env is not a mapping but list"),
            ("A=1", "env is not a mapping but str"),
            ({"": "x"}, "env='' has a bad name"),
            ({"A=B": "x"}, "env='A=B' has a bad name"),
            ({"A\0B": "x"}, "env='A\\x00B' has a NUL character"),
            ({3: "x"}, "env=3 has a name that is no text"),
            ({"A": 3}, "env['A'] is no text"),
            ({"A": None}, "env['A'] is no text"),
            ({"A": "x\0y"}, "env['A'] has a NUL character"),
        ],
    )
    def test_refused(self, env: Wrong, message: str) -> None:
        """A refusal names the variable, and never its value."""
        with pytest.raises(SpecError) as caught:
            env_of(env)
        assert str(caught.value).startswith(f"{message} (accepted: ")

    @pytest.mark.parametrize("home", ["/a\nb", "/a\rb", "/a:b"])
    def test_home(self, home: str) -> None:
        """ID12: HOME cannot forge a line of a file that programs copy it into."""
        with pytest.raises(ValueError, match=r"^env\['HOME'\] has a line break or"):
            env_of({"HOME": home})

    def test_other_variables_may_have_lines(self) -> None:
        """Any other variable may have line breaks and colons."""
        assert env_of({"PATH": "/a:/b", "PS1": "\n"})["PATH"] == "/a:/b"


class TestCwd:
    """Working directories."""

    def test_accepted(self) -> None:
        """A directory is absolute; None leaves it to the image."""
        assert cwd_of("/a//b/") == "/a/b"
        assert cwd_of(None) is None

    @pytest.mark.parametrize("cwd", ["", ".", "a", "~"])
    def test_relative(self, cwd: str) -> None:
        """A relative directory is refused."""
        with pytest.raises(SpecError, match=r"^cwd=.* is not absolute"):
            cwd_of(cwd)


class TestUser:
    """As whom."""

    @pytest.mark.parametrize(
        ("value", "user"),
        [
            (0, User(0)),
            (1000, User(1000)),
            (ID_MAX, User(4294967294)),
            ("0", User(0)),
            ("4294967294", User(ID_MAX)),
            ("1000:100", User(1000, 100)),
            ("www-data", User("www-data")),
            ("www-data:www-data", User("www-data", "www-data")),
            ("_apt:0", User("_apt", 0)),
            ("host$", User("host$")),
            (User("a"), User("a")),
        ],
    )
    def test_accepted(self, value: Wrong, user: User) -> None:
        """A user is an id or a name, and maybe a group."""
        assert user_of(value) == user

    @pytest.mark.parametrize(
        "value",
        [
            "-1",
            "4294967295",
            "4294967296",
            "2147483648x",
            "1e3",
            "0x0",
            "１",  # noqa: RUF001
            "1 ",
            "",
            "1:2:3",
            "a/b",
            "a\nb",
            "00",
            "01",
            "+1",
            " 1",
            "1_0",
            ":",
            "1:",
            ":1",
            "a b",
            "-a",
            ".a",
            "ä",
            "a\x00",
            "a" * 33,
            "1:-1",
            "1:4294967295",
            "9" * 5000,
        ],
        ids=lambda value: repr(value)[:20],
    )
    def test_refused(self, value: str) -> None:
        """ID9: what two readers could understand differently is refused."""
        with pytest.raises(ValueError, match=r"^user=.* is no id and no name"):
            user_of(value)

    @pytest.mark.parametrize("value", [-1, 2**32 - 1, 2**64, 10**5000], ids=shown)
    def test_refused_numbers(self, value: int) -> None:
        """ID9: an id that the kernel has not got is refused."""
        with pytest.raises(ValueError, match=r"^user=.* is out of range"):
            user_of(value)

    @pytest.mark.parametrize("value", [True, 1.0, b"1", [1], (1, 2)])
    def test_refused_types(self, value: Wrong) -> None:
        """A bool is no user 1, and a pair no user with a group."""
        with pytest.raises(SpecTypeError, match=r"^user="):
            user_of(value)

    def test_direct(self) -> None:
        """A User made by hand is checked the same way, and digits are an id."""
        assert User("1000", "0") == User(1000, 0)
        wrong = [("1e3", None), ("a", "b c"), (-1, None), (0, 2**32 - 1)]
        pairs: list[tuple[Wrong, Wrong]] = [*wrong]
        for user, group in pairs:
            with pytest.raises(SpecError, match=r"^(user|group)="):
                User(user, group)

    @pytest.mark.parametrize("text", ["1000", "1000:100", "a", "a:b", "0:b"])
    def test_printed(self, text: str) -> None:
        """A user is printed as it is written."""
        assert str(user_of(text)) == text

    @UNHURRIED
    @given(st.text())
    def test_round_trip(self, text: str) -> None:
        """Whatever is accepted means itself when written again."""
        try:
            user = user_of(text)
        except SpecError:
            return
        assert user_of(str(user)) == user
        assert text.isascii()


class TestGroups:
    """Supplementary groups."""

    def test_accepted(self) -> None:
        """Groups are ids and names, each once, in order."""
        assert groups_of([100, "audio", "100", 5]) == (100, "audio", 5)
        assert groups_of(()) == ()

    @pytest.mark.parametrize(
        "value",
        ["audio", b"audio", None, 5, [-1], [True], [1.5], ["a b"], [None], [2**32 - 1]],
        ids=repr,
    )
    def test_refused(self, value: Wrong) -> None:
        """One text is not several groups."""
        with pytest.raises(SpecError, match=r"^groups"):
            groups_of(value)

    def test_endless(self) -> None:
        """An endless iterator is refused, not followed."""
        with pytest.raises(SpecError, match="has too many items"):
            groups_of(iter(int, 1))


class TestUmask:
    """Permission bits."""

    def test_accepted(self) -> None:
        """A umask is nine bits."""
        assert umask_of(0) == 0
        assert umask_of(0o777) == 0o777

    @pytest.mark.parametrize("value", [-1, 0o1000, True, "022", None])
    def test_refused(self, value: Wrong) -> None:
        """More bits, and text of unknown base, are refused."""
        with pytest.raises(SpecError, match=r"\(accepted: an int from 0 to 0o777\)$"):
            umask_of(value)


class TestHostname:
    """Host names."""

    @pytest.mark.parametrize("name", ["a", "web-1", "my_box", "a.b.c", "9", "a" * 63])
    def test_accepted(self, name: str) -> None:
        """Letters, digits, - and _ in labels between dots."""
        assert hostname_of(name) == name

    @pytest.mark.parametrize(
        "name",
        [
            "",
            "-a",
            "a-",
            ".",
            "a.",
            ".a",
            "a..b",
            "a b",
            "a\n",
            "a\r",
            "a\x00",
            "a:b",
            "ä",
            "a" * 64,
            "a." * 32 + "a",
        ],
    )
    def test_refused(self, name: str) -> None:
        """ID12: nothing gets through that could forge a line of /etc/hosts."""
        with pytest.raises(ValueError, match=r"^hostname=.* is not a host name"):
            hostname_of(name)

    @pytest.mark.parametrize("name", [b"a", 3, True])
    def test_wrong_type(self, name: Wrong) -> None:
        """What is no text is a TypeError."""
        with pytest.raises(SpecTypeError, match=r"^hostname="):
            hostname_of(name)


class TestContainerName:
    """Names of containers."""

    @pytest.mark.parametrize("name", ["a", "web.1_x-y", "0", "A" * 64])
    def test_accepted(self, name: str) -> None:
        """Docker's alphabet, up to 64 characters."""
        assert container_name(name) == name
        assert container_name(None) is None

    @pytest.mark.parametrize(
        "name",
        ["", ".a", "-a", "_a", "a/b", "a b", "a\n", "\x1b", "ä", "a" * 65, "../a"],
    )
    def test_refused(self, name: str) -> None:
        """A name is also a file name of ours: nothing else gets through."""
        with pytest.raises(SpecError, match=r"^name=.* is not a name") as caught:
            container_name(name)
        assert str(caught.value).isprintable()

    @pytest.mark.parametrize("name", [3, b"a", ["a"]])
    def test_wrong_type(self, name: Wrong) -> None:
        """What is no text is a TypeError."""
        with pytest.raises(SpecTypeError, match=r"^name="):
            container_name(name)


class TestLabels:
    """Texts of the caller."""

    def test_accepted(self) -> None:
        """Any text, under any key."""
        assert labels_of({"a b": "", "org.x": "ä\n"}) == {"a b": "", "org.x": "ä\n"}
        assert labels_of(None) == {}

    @pytest.mark.parametrize(
        "labels", [[], "a", {"": "x"}, {"a": 1}, {1: "a"}, {"a\0": ""}, {"a": "\0"}]
    )
    def test_refused(self, labels: Wrong) -> None:
        """Empty keys, NUL and what is no text are refused."""
        with pytest.raises(SpecError, match=r"^labels"):
            labels_of(labels)


class TestTerminal:
    """Sizes of terminals."""

    @pytest.mark.parametrize(
        ("value", "size"),
        [
            (None, None),
            (False, None),
            (True, (80, 24)),
            ((120, 40), (120, 40)),
            ([1, 65535], (1, 65535)),
        ],
    )
    def test_accepted(self, value: Wrong, size: tuple[int, int] | None) -> None:
        """A size is columns and rows; True is the usual one."""
        assert terminal_size(value) == size

    @pytest.mark.parametrize(
        "value",
        ["80x24", 80, (80,), (80, 24, 1), (0, 1), (1, 65536), (True, 1), (1.0, 2)],
    )
    def test_refused(self, value: Wrong) -> None:
        """What does not fit the kernel's two shorts is refused."""
        with pytest.raises(SpecError, match=r"^tty"):
            terminal_size(value)
