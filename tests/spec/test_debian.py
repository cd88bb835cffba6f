"""
What is wanted of a Debian system, and where its packages come from.
"""

import pytest

from jailbox.errors import SpecError
from jailbox.spec.debian import (
    DebianWish,
    Mirrors,
    debian_architecture,
    mirrors_of,
    source_lines,
)
from jailbox.spec.platform import Platform

ONE_LINE = """\
# deb http://old.example/debian bookworm main
deb [arch=amd64 signed-by=/k.gpg] http://near.example/debian/ bookworm main contrib
deb-src http://src.example/debian bookworm main
deb http://near.example/debian-security bookworm-security main
"""

STANZAS = """\
Types: deb deb-src
# A comment of somebody's.
URIs: https://near.example/debian
Suites: trixie trixie-updates
Components: main

Types: deb
Enabled: no
URIs: http://off.example/debian-security
Suites: trixie-security

Types: deb
URIs:
 https://near.example/debian-security
Suites: trixie-security
"""


class TestMirrors:
    """Packages come from where the host's come from."""

    def test_lines(self) -> None:
        """Lists of one line each are read; comments, options and sources are not."""
        assert mirrors_of([ONE_LINE]) == Mirrors(
            "http://near.example/debian/", "http://near.example/debian-security"
        )

    def test_stanzas(self) -> None:
        """Lists in stanzas are read, with folded fields; what is off is passed over."""
        assert mirrors_of([STANZAS]) == Mirrors(
            "https://near.example/debian", "https://near.example/debian-security"
        )

    def test_first(self) -> None:
        """The first address of a kind wins, over all files."""
        assert mirrors_of([ONE_LINE, STANZAS]) == mirrors_of([ONE_LINE])

    @pytest.mark.parametrize("text", ["", "nonsense", "deb http://x.example/apt a b\n"])
    def test_none(self, text: str) -> None:
        """A machine that names no archive of Debian gets Debian's own address."""
        assert mirrors_of([text]) == Mirrors()


class TestLines:
    """What stands in the image's list of sources."""

    def test_stable(self) -> None:
        """A released suite has its updates, and those for security."""
        wish = DebianWish(suite="bookworm", components=("main", "contrib"))
        assert source_lines(wish, Mirrors("http://a/debian", "http://b")) == (
            "deb http://a/debian bookworm main contrib",
            "deb http://a/debian bookworm-updates main contrib",
            "deb http://b bookworm-security main contrib",
        )

    def test_rolling(self) -> None:
        """Unstable has neither."""
        lines = source_lines(DebianWish(suite="sid"), Mirrors())
        assert lines == ("deb http://deb.debian.org/debian sid main",)

    def test_mirror(self) -> None:
        """An address of the caller's is the only one."""
        wish = DebianWish(suite="noble", mirror="http://archive.example/ubuntu")
        lines = source_lines(wish, Mirrors())
        assert lines == ("deb http://archive.example/ubuntu noble main",)


class TestName:
    """The name is the key of the cache."""

    def name(
        self, keys: bytes = b"k", architecture: str = "amd64", **wish: object
    ) -> str:
        """Name a wish."""
        made = DebianWish(**({"suite": "bookworm"} | wish))  # type: ignore[arg-type]
        lines = source_lines(made, Mirrors())
        return str(made.name(architecture, lines, keys))

    def test_equal(self) -> None:
        """Packages are a set: neither order nor repetition makes another image."""
        one = self.name(packages=["git", "curl"])
        assert one == self.name(packages=("curl", "git", "curl"))
        assert one.startswith("localhost/debian/bookworm:minbase-amd64-")

    def test_different(self) -> None:
        """Whatever changes what comes out changes the name."""
        names = [
            self.name(),
            self.name(packages=["git"]),
            self.name(variant="buildd"),
            self.name(suite="trixie"),
            self.name(architecture="i386"),
            self.name(components=["main", "contrib"]),
            self.name(mirror="http://deb.debian.org/debian"),
            self.name(keys=b"others"),
        ]
        assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("platform", "name"),
    [
        ("linux/amd64", "amd64"),
        ("linux/amd64/v3", "amd64"),
        ("386", "i386"),
        ("linux/arm/v7", "armhf"),
        ("linux/arm/v6", "armel"),
        ("linux/arm/v5", "armel"),
        ("aarch64", "arm64"),
        ("ppc64le", "ppc64el"),
        ("riscv64", "riscv64"),
    ],
)
def test_architecture(platform: str, name: str) -> None:
    """Debian has names of its own for architectures."""
    assert debian_architecture(Platform.parse(platform)) == name


@pytest.mark.parametrize(
    "wish",
    [
        {"suite": "--help"},
        {"suite": "book worm"},
        {"suite": ""},
        {"suite": "a", "packages": "git"},
        {"suite": "a", "packages": ["-x"]},
        {"suite": "a", "packages": ["a,b"]},
        {"suite": "a", "packages": ["?essential"]},
        {"suite": "a", "packages": ["/etc/x.deb"]},
        {"suite": "a", "variant": "huge"},
        {"suite": "a", "components": []},
        {"suite": "a", "components": ["main\n"]},
        {"suite": "a", "mirror": "deb.debian.org"},
        {"suite": "a", "mirror": "http://x/ [trusted=yes]"},
        {"suite": "a", "mirror": "http://x/\ndeb http://y"},
        {"suite": "a", "mirror": "http://x/[a]"},
        {"suite": 12},
    ],
)
def test_refused(wish: dict[str, object]) -> None:
    """What apt would take for an option, a line or a pattern of its own is refused."""
    with pytest.raises(SpecError):
        DebianWish(**wish)  # type: ignore[arg-type]
