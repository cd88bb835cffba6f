"""Capability sets, as the kernel writes them."""

from pathlib import Path

import pytest

from jailbox.linux.caps import DEFAULT, CapabilitySets
from jailbox.spec.capabilities import CAPABILITIES, capability_mask

# Of a container of Podman 4.3, shortened.
STATUS = """\
Name:\tsh
Umask:\t0022
Uid:\t0\t0\t0\t0
CapInh:\t0000000000000000
CapPrm:\t00000000800405fb
CapEff:\t00000000800405fb
CapBnd:\t00000000800405fb
CapAmb:\t0000000000000000
NoNewPrivs:\t0
"""


def test_default() -> None:
    """ID1: root inside a jail keeps the eleven capabilities of 0x800405fb."""
    assert DEFAULT == 0x800405FB
    assert DEFAULT.bit_count() == 11


def test_names_are_those_of_the_kernel() -> None:
    """Every capability of the kernel's header has its number."""
    header = Path("/usr/include/linux/capability.h")
    if not header.exists():
        pytest.skip(f"no {header}")
    lines = [line.split() for line in header.read_text(encoding="ascii").splitlines()]
    defined = {
        line[1]: int(line[2])
        for line in lines
        if line[:1] == ["#define"] and line[1].startswith("CAP_") and len(line) == 3
        if line[2].isdecimal()
    }

    assert len(defined) >= 40
    assert defined.items() <= CAPABILITIES.items()


def test_status() -> None:
    """The five sets are read from the text of a status file."""
    assert CapabilitySets.from_status(STATUS) == CapabilitySets(
        permitted=DEFAULT, effective=DEFAULT, bounding=DEFAULT
    )


def test_own_status() -> None:
    """What the kernel writes about ourselves can be read."""
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    sets = CapabilitySets.from_status(text)

    assert sets.effective & ~sets.permitted == 0


@pytest.mark.parametrize("missing", ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"])
def test_missing_set(missing: str) -> None:
    """A status without one of the sets is no status."""
    with pytest.raises(ValueError, match="set in the status"):
        CapabilitySets.from_status(STATUS.replace(missing, "Cap"))


def test_no_number() -> None:
    """A set that is no number is no set."""
    with pytest.raises(ValueError, match="invalid literal"):
        CapabilitySets.from_status(STATUS.replace("CapAmb:\t0", "CapAmb:\tx"))


def test_payload() -> None:
    """ID1, ID2: root has what the jail keeps, a user nothing; nobody inherits."""
    mask = capability_mask(["CAP_CHOWN", "CAP_KILL"])

    assert CapabilitySets.of_payload(mask, root=True) == CapabilitySets(
        permitted=mask, effective=mask, bounding=mask
    )
    assert CapabilitySets.of_payload(mask, root=False) == CapabilitySets(bounding=mask)


def test_describe() -> None:
    """The sets can be read by a person."""
    assert CapabilitySets.of_payload(0x21, root=False).describe() == (
        "inheritable 0000000000000000 none\n"
        "permitted 0000000000000000 none\n"
        "effective 0000000000000000 none\n"
        "bounding 0000000000000021 chown kill\n"
        "ambient 0000000000000000 none\n"
    )
