"""Platforms: their words, and which image a machine takes."""

import itertools

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jailbox.errors import SpecError
from jailbox.spec.platform import Platform, choose, rank


@attrs.frozen
class Entry:
    """What stands in an index."""

    platform: Platform | None
    name: str = ""


def index(*names: str) -> list[Entry]:
    """Make the entries of an index; ``?`` does not say its platform."""
    return [
        Entry(None if name == "?" else Platform(*name.split("/")), name)  # type: ignore[arg-type]
        for name in names
    ]


DEBIAN = (
    *("linux/amd64", "linux/arm/v5", "linux/arm/v7", "linux/arm64/v8", "linux/386"),
    *("linux/mips64le", "linux/ppc64le", "linux/riscv64", "linux/s390x"),
)
ALPINE = ("linux/amd64", "linux/arm/v6", "linux/arm/v7", "linux/arm64/v8", "linux/386")
LEVELS = ("linux/amd64/v2", "linux/amd64", "linux/amd64/v4", "linux/amd64/v3")
MINOR = ("linux/arm64/v8", "linux/arm64/v8.2", "linux/arm64/v9", "linux/arm64/v9.2")


class TestChoice:
    """ARC-01: which manifest of an index a machine takes."""

    @pytest.mark.parametrize(
        ("machine", "offered", "chosen"),
        [
            ("linux/amd64", DEBIAN, "linux/amd64"),
            ("linux/amd64/v3", DEBIAN, "linux/amd64"),
            ("linux/arm64", DEBIAN, "linux/arm64/v8"),
            ("linux/arm64/v8", ("linux/arm64",), "linux/arm64"),
            ("linux/riscv64", DEBIAN, "linux/riscv64"),
            ("linux/ppc64le", DEBIAN, "linux/ppc64le"),
            ("linux/s390x", DEBIAN, "linux/s390x"),
            ("linux/386", DEBIAN, "linux/386"),
            # Raspberry Pi: 1 and Zero are v6, 2 and later with 32 bits are v7.
            ("linux/arm/v6", DEBIAN, "linux/arm/v5"),
            ("linux/arm/v7", DEBIAN, "linux/arm/v7"),
            ("linux/arm/v6", ALPINE, "linux/arm/v6"),
            ("linux/arm/v7", ALPINE, "linux/arm/v7"),
            ("linux/arm/v8", ALPINE, "linux/arm/v7"),
            ("linux/arm", ALPINE, "linux/arm/v7"),
            ("linux/arm/v5", ALPINE, None),
            ("linux/arm/v6", ("linux/arm/v7",), None),
            ("linux/arm/v7", ("linux/arm",), "linux/arm"),
            ("linux/amd64", LEVELS, "linux/amd64"),
            ("linux/amd64/v2", LEVELS, "linux/amd64/v2"),
            ("linux/amd64/v3", LEVELS, "linux/amd64/v3"),
            ("linux/amd64/v4", LEVELS, "linux/amd64/v4"),
            ("linux/amd64/v4", LEVELS[:2], "linux/amd64/v2"),
            ("linux/amd64", ("linux/amd64/v2",), None),
            ("linux/arm64", MINOR, "linux/arm64/v8"),
            ("linux/arm64/v8.5", MINOR, "linux/arm64/v8.2"),
            ("linux/arm64/v9", MINOR, "linux/arm64/v9"),
            ("linux/arm64/v9", MINOR[:2], "linux/arm64/v8.2"),
            ("linux/arm64/v9.1", MINOR, "linux/arm64/v9"),
            ("linux/arm64/v9.2", MINOR, "linux/arm64/v9.2"),
            ("linux/arm64", ("linux/arm64/v9",), None),
            # Not by itself: not every 64-bit machine runs them.
            ("linux/amd64", ("linux/386",), None),
            ("linux/arm64", ("linux/arm/v7",), None),
            ("linux/amd64", ("windows/amd64",), None),
            ("linux/amd64", ("unknown/unknown",), None),
            ("linux/amd64", (), None),
            # What other tools write.
            ("linux/amd64", ("linux/x86_64",), "linux/x86_64"),
            ("linux/arm64", ("Linux/aarch64",), "Linux/aarch64"),
            ("linux/arm/v7", ("linux/armhf",), "linux/armhf"),
            ("linux/arm/v7", ("linux/arm/7",), "linux/arm/7"),
            # One that says nothing is the last resort.
            ("linux/amd64", ("?", "linux/amd64"), "linux/amd64"),
            ("linux/amd64", ("linux/arm64", "?"), "?"),
        ],
    )
    def test_table(
        self, machine: str, offered: tuple[str, ...], chosen: str | None
    ) -> None:
        """The machine takes this one of these, in whatever order they stand."""
        wish = Platform.parse(machine)
        for order in (offered, offered[::-1]):
            found = choose(index(*order), wish)
            assert (None if found is None else found.name) == chosen

    def test_smaller_when_asked(self) -> None:
        """A 64-bit machine takes 32-bit images if that is asked for, as second best."""
        amd64, arm64 = Platform.parse("linux/amd64"), Platform.parse("linux/arm64")

        def name(wish: Platform, *offered: str) -> str | None:
            found = choose(index(*offered), wish, smaller=True)
            return None if found is None else found.name

        assert name(amd64, "linux/386") == "linux/386"
        assert name(amd64, "linux/386", "linux/amd64") == "linux/amd64"
        assert name(arm64, "linux/arm/v6", "linux/arm/v7") == "linux/arm/v7"
        assert name(amd64, "linux/arm/v7") is None

    def test_first_of_equals(self) -> None:
        """Of two for the same machine the first is taken."""
        entries = [Entry(Platform.parse("linux/amd64"), name) for name in "ab"]
        found = choose(entries, Platform.parse("linux/amd64"))
        assert found is entries[0]

    def test_features(self) -> None:
        """An image that needs a feature that the machine does not have is not taken."""
        plain = Platform.parse("linux/amd64")
        needs = attrs.evolve(plain, os_features=("sse9",))
        versioned = attrs.evolve(plain, os_version="10")

        assert rank(needs, plain) is None
        assert rank(plain, needs) == 0
        assert rank(needs, needs) == 0
        assert rank(versioned, plain) == 0
        assert rank(plain, versioned) is None

    @given(st.permutations(DEBIAN + ALPINE + LEVELS + MINOR))
    def test_order_does_not_matter(self, offered: list[str]) -> None:
        """Which is best does not depend on the order of the index."""
        for machine in ("linux/arm/v7", "linux/amd64/v3", "linux/arm64/v9.1"):
            wish = Platform.parse(machine)
            usual = choose(index(*DEBIAN, *ALPINE, *LEVELS, *MINOR), wish)
            found = choose(index(*offered), wish)
            assert usual is not None
            assert found is not None
            assert found.platform is not None
            assert usual.platform is not None
            assert found.platform.normalized() == usual.platform.normalized()


class TestWords:
    """How platforms are written."""

    @pytest.mark.parametrize(
        ("text", "usual"),
        [
            ("linux/amd64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v2", "linux/amd64/v2"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/v7", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm64/v8.0", "linux/arm64"),
            ("linux/arm64/v9.0", "linux/arm64/v9"),
            ("linux/aarch64", "linux/arm64"),
            ("LINUX/X86_64", "linux/amd64"),
            ("linux/i686", "linux/386"),
            ("macos/arm64", "darwin/arm64"),
            ("riscv64", "linux/riscv64"),
            ("armv6l", "linux/arm/v6"),
        ],
    )
    def test_usual_words(self, text: str, usual: str) -> None:
        """A platform has one usual spelling, whoever wrote it."""
        platform = Platform.parse(text)
        assert str(platform) == usual
        assert Platform.parse(platform) == platform == Platform.parse(usual)
        assert platform.normalized() == platform

    @pytest.mark.parametrize(
        "text",
        ["", "linux", "windows", "linux/", "/amd64", "a/b/c/d", "linux/am d", "\0"],
    )
    def test_refused(self, text: str) -> None:
        """What is no platform is refused, and what is one is shown."""
        with pytest.raises(SpecError, match="linux/arm/v7"):
            Platform.parse(text)

    @pytest.mark.parametrize("value", [None, 1, b"linux/amd64"])
    def test_no_text(self, value: object) -> None:
        """What is no text is refused as such."""
        with pytest.raises(TypeError):
            Platform.parse(value)  # type: ignore[arg-type]

    def test_shown(self) -> None:
        """It prints as it is written, and with all that it has if that is more."""
        assert repr(Platform.parse("arm")) == "Platform('linux/arm/v7')"
        assert "'10.0'" in repr(Platform("windows", "amd64", os_version="10.0"))

    def test_order(self) -> None:
        """Platforms can be sorted, with and without variants."""
        names = ["linux/arm/v7", "linux/arm64", "linux/arm/v6", "linux/amd64"]
        for order in itertools.permutations(names):
            found = [str(p) for p in sorted(Platform.parse(n) for n in order)]
            assert found == sorted(names)
