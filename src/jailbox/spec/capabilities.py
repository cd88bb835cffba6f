"""
The names and numbers of Linux capabilities.

A table and the arithmetic between names and bit masks; which of them a jail keeps is
in `jailbox.spec.security`, how they are dropped in `jailbox.linux`.

Source: ``include/uapi/linux/capability.h``, Linux 6.18; *capabilities(7)*.
"""

from collections.abc import Iterable

from jailbox.errors import SpecError, SpecTypeError

__all__ = [
    "ALL_CAPABILITIES",
    "CAPABILITIES",
    "DEFAULT_CAPABILITIES",
    "capability_mask",
    "capability_name",
    "capability_names",
]

_ORDER = """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP
    LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER
    SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE
    SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP
    MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF
    CHECKPOINT_RESTORE
"""

CAPABILITIES: dict[str, int] = {
    f"CAP_{name}": number for number, name in enumerate(_ORDER.split())
}
"""Every capability and its number, in the order of the numbers."""

ALL_CAPABILITIES: frozenset[str] = frozenset(CAPABILITIES)

DEFAULT_CAPABILITIES: frozenset[str] = frozenset(
    {
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_KILL",
        "CAP_NET_BIND_SERVICE",
        "CAP_SETFCAP",
        "CAP_SETGID",
        "CAP_SETPCAP",
        "CAP_SETUID",
        "CAP_SYS_CHROOT",
    }
)
"""What root inside a jail keeps; the same eleven as Podman's default."""


def capability_name(name: str, argument: str = "capability") -> str:
    """
    Spell a capability as the kernel does.

    ``chown``, ``CHOWN`` and ``cap_chown`` all mean ``CAP_CHOWN``.

    Raises:
        SpecError: If there is no such capability.
    """
    if not isinstance(name, str):
        raise SpecTypeError(
            argument, "is not a name", value=name, accepted="a str such as 'CAP_CHOWN'"
        )
    canonical = name.upper()
    if not canonical.startswith("CAP_"):
        canonical = f"CAP_{canonical}"
    # isascii: upper() turns a few foreign letters into ASCII ones.
    if canonical not in CAPABILITIES or not name.isascii():
        raise SpecError(
            argument,
            "is not a capability",
            value=name,
            accepted="a name of capabilities(7) such as 'CAP_CHOWN' or 'chown'",
        )
    return canonical


def capability_mask(names: Iterable[str]) -> int:
    """
    Put capabilities into a bit mask, bit n for number n.

    >>> f"{capability_mask(DEFAULT_CAPABILITIES):016x}"
    '00000000800405fb'
    """
    mask = 0
    for name in names:
        mask |= 1 << CAPABILITIES[capability_name(name)]
    return mask


def capability_names(mask: int) -> frozenset[str]:
    """
    Name the capabilities in a bit mask.

    Bits that are newer than the table are left out.
    """
    return frozenset(
        name for name, number in CAPABILITIES.items() if mask >> number & 1
    )
