"""The table of capabilities."""

from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jailbox.errors import SpecError, SpecTypeError
from jailbox.spec.capabilities import (
    ALL_CAPABILITIES,
    CAPABILITIES,
    DEFAULT_CAPABILITIES,
    capability_mask,
    capability_name,
    capability_names,
)

# A busy machine is no failure.
UNHURRIED = settings(deadline=None)

# What the types forbid and people pass nevertheless.
Wrong: TypeAlias = Any


class TestTable:
    """Names and numbers."""

    def test_numbers(self) -> None:
        """There are 41, numbered from 0; spot checks against the kernel's header."""
        assert sorted(CAPABILITIES.values()) == list(range(41))
        assert CAPABILITIES["CAP_CHOWN"] == 0
        assert CAPABILITIES["CAP_SETPCAP"] == 8
        assert CAPABILITIES["CAP_NET_RAW"] == 13
        assert CAPABILITIES["CAP_SYS_ADMIN"] == 21
        assert CAPABILITIES["CAP_SETFCAP"] == 31
        assert CAPABILITIES["CAP_CHECKPOINT_RESTORE"] == 40

    def test_default(self) -> None:
        """ID1: the default is the mask 800405fb, eleven capabilities."""
        assert len(DEFAULT_CAPABILITIES) == 11
        assert capability_mask(DEFAULT_CAPABILITIES) == 0x800405FB


class TestNames:
    """Spelling."""

    @pytest.mark.parametrize("name", ["chown", "CHOWN", "cap_chown", "CAP_CHOWN"])
    def test_spellings(self, name: str) -> None:
        """Case and prefix do not matter."""
        assert capability_name(name) == "CAP_CHOWN"

    @pytest.mark.parametrize(
        "name",
        ["", "CAP_", "CAP_X", "ALL", "CAP_CAP_CHOWN", "chown ", "ſetuid"],  # noqa: RUF001
    )
    def test_unknown(self, name: str) -> None:
        """What is no capability is refused, letters that only look alike included."""
        with pytest.raises(SpecError, match="is not a capability"):
            capability_name(name)

    @pytest.mark.parametrize("name", [None, 0, b"chown", ["chown"]])
    def test_wrong_type(self, name: Wrong) -> None:
        """A number is no name."""
        with pytest.raises(SpecTypeError, match="is not a name"):
            capability_name(name)


class TestMask:
    """Names to bits and back."""

    @UNHURRIED
    @given(st.frozensets(st.sampled_from(sorted(ALL_CAPABILITIES))))
    def test_round_trip(self, names: frozenset[str]) -> None:
        """The mask of names gives back the names."""
        assert capability_names(capability_mask(names)) == names

    def test_newer_bits(self) -> None:
        """Bits of a newer kernel are left out."""
        assert capability_names(1 << 63 | 1) == {"CAP_CHOWN"}
