"""
The capability sets of a process, as the kernel writes them.

Names, numbers and masks are `jailbox.spec.capabilities`; which capabilities a payload
keeps is wanted there and decided in `jailbox.run.confinement`; dropping them is the
stager's work. Here a text of the kernel becomes a value, and nothing is read.

Source: *proc_pid_status(5)*, ``CapInh`` to ``CapAmb``; *capabilities(7)*.
"""

from typing import Final, Self

import attrs

from jailbox.spec.capabilities import (
    DEFAULT_CAPABILITIES,
    capability_mask,
    capability_names,
)

__all__ = ["DEFAULT", "CapabilitySets"]

DEFAULT: Final = capability_mask(DEFAULT_CAPABILITIES)
"""The mask of what root inside a jail keeps: 0x800405fb."""

_FIELDS: Final = {
    "CapInh": "inheritable",
    "CapPrm": "permitted",
    "CapEff": "effective",
    "CapBnd": "bounding",
    "CapAmb": "ambient",
}


@attrs.frozen(kw_only=True)
class CapabilitySets:
    """
    The five sets of a process, as masks: bit n is capability n.

    Attributes:
        inheritable: Kept over an exec of a file that has them inheritable.

        permitted: What may be made effective.

        effective: What the kernel looks at.

        bounding: What an exec can give at most.

        ambient: What an exec of an ordinary file keeps.
    """

    inheritable: int = 0
    permitted: int = 0
    effective: int = 0
    bounding: int = 0
    ambient: int = 0

    @classmethod
    def of_payload(cls, mask: int, *, root: bool) -> Self:
        """
        Return what a payload has right after its exec in a jail that keeps *mask*.

        Root has all of it, a user none until it executes a file that gives some; there
        is nothing inheritable or ambient in a jail (CVE-2022-24769).
        """
        own = mask if root else 0
        return cls(permitted=own, effective=own, bounding=mask)

    @classmethod
    def from_status(cls, text: str) -> Self:
        """
        Read the sets from the text of ``/proc/<pid>/status``.

        Raises:
            ValueError: If a set is missing or no number.
        """
        found = {}
        for line in text.splitlines():
            key, _, value = line.partition(":")
            if key in _FIELDS:
                found[_FIELDS[key]] = int(value, 16)
        if missing := set(_FIELDS.values()) - found.keys():
            raise ValueError(f"no {', '.join(sorted(missing))} set in the status")
        return cls(**found)

    def describe(self) -> str:
        """Print the sets for a reader, with the names, one line each."""
        lines = []
        for name in _FIELDS.values():
            mask: int = getattr(self, name)
            names = sorted(each[4:].lower() for each in capability_names(mask))
            lines.append(f"{name} {mask:016x} {' '.join(names) or 'none'}")
        return "\n".join(lines) + "\n"
