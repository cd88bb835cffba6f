"""
Landlock rule sets, as bytes.

A rule set says which rights it handles; whatever it handles and no rule grants is
denied. The default one handles no files and no ports, only scopes: a jail cannot
connect to an abstract socket or signal a process outside of itself, even where it
shares the host's network or process ids.

Only the bytes are made here, for any machine; `landlock_create_ruleset(2)` and
`landlock_restrict_self(2)` are the stager's. Which version the kernel has is
`jailbox.linux.facts`'.

Source: kernel *Documentation/userspace-api/landlock.rst*,
*include/uapi/linux/landlock.h*.
"""

import struct
from typing import Final

import attrs

__all__ = ["DEGRADATION", "SCOPE_ABI", "SCOPE_ONLY", "Ruleset", "scope_attribute"]

SCOPE_ABSTRACT_UNIX_SOCKET: Final = 1
SCOPE_SIGNAL: Final = 2

SCOPE_ABI: Final = 6
"""The version that brought scopes: Linux 6.12."""

DEGRADATION: Final = "landlock"
"""What is missing where `scope_attribute` is ``None``, as ``Security.degrade`` says."""

_ATTRIBUTE: Final = struct.Struct("=QQQ")


@attrs.frozen(kw_only=True)
class Ruleset:
    """
    What a rule set handles.

    Attributes:
        files: Rights to files and directories, ``LANDLOCK_ACCESS_FS_*``.

        network: Rights to ports, ``LANDLOCK_ACCESS_NET_*``.

        scoped: What is confined to the processes of the jail, ``LANDLOCK_SCOPE_*``.
    """

    files: int = 0
    network: int = 0
    scoped: int = 0

    def attribute(self) -> bytes:
        """
        Return the ``struct landlock_ruleset_attr``.

        A kernel that knows a shorter one takes it if the rest is zero, and refuses
        with E2BIG otherwise: asking too much is an error, never silence.
        """
        return _ATTRIBUTE.pack(self.files, self.network, self.scoped)


SCOPE_ONLY: Final = Ruleset(scoped=SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL)


def scope_attribute(abi: int) -> bytes | None:
    """
    Return the attribute of the default rule set for a version of Landlock.

    ``None`` if that version has no scopes; then `DEGRADATION` is what is missing.

    Args:
        abi: What `landlock_create_ruleset(2)` says it is; 0 without Landlock.
    """
    return SCOPE_ONLY.attribute() if abi >= SCOPE_ABI else None
