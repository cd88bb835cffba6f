"""
What happens to each system call: the values that say it.

How they become a program is in `compile`, which of them is the default in `default`,
how they are read from JSON in `document`.
"""

import enum
import errno
from collections.abc import Collection, Mapping
from typing import Any, Final, Self

import attrs

from jailbox.errors import Unsupported
from jailbox.linux.tables import SYSCALLS
from jailbox.spec.capabilities import capability_name

__all__ = [
    "ALLOW",
    "ALL_BITS",
    "Action",
    "Compare",
    "Kind",
    "Op",
    "Profile",
    "Rule",
    "deny",
    "has_table",
]


class Kind(enum.Enum):
    """
    What can happen to a call; from the strictest, as the kernel ranks them.

    Source: ``include/uapi/linux/seccomp.h``, ``SECCOMP_RET_*``.
    """

    KILL_PROCESS = 0x8000_0000
    KILL_THREAD = 0x0000_0000
    TRAP = 0x0003_0000
    ERRNO = 0x0005_0000
    TRACE = 0x7FF0_0000
    LOG = 0x7FFC_0000
    ALLOW = 0x7FFF_0000


@attrs.frozen
class Action:
    """
    What happens to a call.

    Attributes:
        kind: What.

        data: The errno of ERRNO, the message of TRACE; else 0.
    """

    kind: Kind
    data: int = 0

    @property
    def verdict(self) -> int:
        """What a filter returns for it."""
        return self.kind.value | self.data

    def __str__(self) -> str:
        if self.kind is Kind.ERRNO:
            return errno.errorcode.get(self.data, f"ERRNO({self.data})")
        return f"{self.kind.name}({self.data})" if self.data else self.kind.name


ALLOW: Final = Action(Kind.ALLOW)


def deny(number: int) -> Action:
    """Return the action that fails a call with an errno."""
    return Action(Kind.ERRNO, number)


class Op(enum.Enum):
    """How an argument is compared, by the word of the OCI specification."""

    EQ = "SCMP_CMP_EQ"
    NE = "SCMP_CMP_NE"
    LT = "SCMP_CMP_LT"
    LE = "SCMP_CMP_LE"
    GE = "SCMP_CMP_GE"
    GT = "SCMP_CMP_GT"
    MASKED_EQ = "SCMP_CMP_MASKED_EQ"


_SIGNS: Final = {
    Op.EQ: "==",
    Op.NE: "!=",
    Op.LT: "<",
    Op.LE: "<=",
    Op.GE: ">=",
    Op.GT: ">",
}

ALL_BITS: Final = 0xFFFF_FFFF_FFFF_FFFF


@attrs.frozen
class Compare:
    """
    A claim about one argument of a call, taken as an unsigned number.

    What the kernel does not read of the argument is not looked at. A negative number
    is written as in C: ``-1`` of an ``int`` is 0xffffffff, or 64 ones.

    Attributes:
        index: Which argument, from 0.

        op: How it is compared.

        value: With what.

        mask: For ``MASKED_EQ``: the bits of both sides that count.
    """

    index: int
    op: Op
    value: int
    mask: int = ALL_BITS

    def __str__(self) -> str:
        if self.op is Op.MASKED_EQ:
            return f"arg{self.index} & {self.mask:#x} == {self.value:#x}"
        return f"arg{self.index} {_SIGNS[self.op]} {self.value:#x}"


@attrs.frozen
class Rule:
    """
    What happens to some calls.

    Attributes:
        names: The calls. A name that the architecture does not have means nothing.

        action: What happens.

        when: The rule counts only when all of these hold.
    """

    names: tuple[str, ...]
    action: Action
    when: tuple[Compare, ...] = ()


def has_table(_: object, __: object, arch: str) -> None:
    """Refuse an architecture whose calls we do not know: an attrs validator."""
    if arch not in SYSCALLS:
        raise Unsupported(f"table of system calls for {arch}")


@attrs.frozen(kw_only=True, cache_hash=True)
class Profile:
    """
    What happens to every call of a jail.

    For each call the first rule that names it and whose conditions hold decides.

    Attributes:
        arch: Whose numbers are meant, as ``uname -m`` says it.

        default: What happens to a known call that no rule decides about.

        rules: The rules, in order.

        unknown: What happens to a number that is no call we know.

        foreign: What happens to a call by another ABI of the machine.

        ignored: What the document that this was made from says and this does not
            follow, one line each. Not part of the comparison.
    """

    arch: str = attrs.field(validator=has_table)
    default: Action
    rules: tuple[Rule, ...] = ()
    unknown: Action = Action(Kind.ERRNO, errno.ENOSYS)
    foreign: Action = Action(Kind.KILL_PROCESS)
    ignored: tuple[str, ...] = attrs.field(default=(), eq=False)

    def decisions(self) -> dict[str, tuple[Rule, ...]]:
        """
        Return for every call of the architecture what decides about it.

        That is any number of rules with conditions, then one without.
        """
        found: dict[str, list[Rule]] = {name: [] for name in SYSCALLS[self.arch]}
        for rule in (*self.rules, Rule(tuple(found), self.default)):
            for name in rule.names:
                rules = found.get(name)
                if rules is not None and not (rules and not rules[-1].when):
                    rules.append(rule)
        return {name: tuple(rules) for name, rules in found.items()}

    def describe(self) -> str:
        """
        Print the profile for a reader.

        First the calls that depend on their arguments, then the others, by action.
        """
        plain: dict[str, list[str]] = {}
        chosen: dict[str, list[str]] = {}
        for name, (*conditional, last) in sorted(self.decisions().items()):
            if conditional:
                tests = [
                    f"    if {' and '.join(map(str, rule.when))}: {rule.action}"
                    for rule in conditional
                ]
                text = "\n".join([*tests, f"    else: {last.action}"])
                chosen.setdefault(text, []).append(name)
            else:
                plain.setdefault(str(last.action), []).append(name)
        lines = [
            f"architecture {self.arch}",
            f"another ABI: {self.foreign}",
            f"unknown number: {self.unknown}",
        ]
        for text, names in chosen.items():
            lines += [f"{', '.join(names)}:", text]
        for text, names in sorted(plain.items()):
            lines += [f"{text}: {len(names)} calls", *(f"    {name}" for name in names)]
        return "\n".join(lines) + "\n"

    @classmethod
    def from_document(
        cls,
        document: Mapping[str, Any],
        *,
        arch: str,
        capabilities: Collection[str],
        kernel: tuple[int, int] = (6, 18),
    ) -> Self:
        """
        Read a profile as OCI, Docker and Podman write it in JSON.

        Where several rules are about one call, one without conditions wins over those
        with, and the first of several such wins, as in libseccomp. Of several with
        conditions that hold, libseccomp takes one by an order of its own; here it is
        the strictest, so that the answer is never looser than there. A rule that only
        repeats the default is passed over, and two comparisons of one argument in one
        rule are two rules, as in runc.

        Calls newer than everything that the document names get ENOSYS instead of
        another errno, as in runc.

        Args:
            document: The parsed JSON.

            arch: Whose numbers are meant, as ``uname -m`` says it.

            capabilities: The bounding set, which ``includes`` and ``excludes`` ask for.

            kernel: The running kernel, which ``minKernel`` asks for.

        Raises:
            SpecError: If the document makes no sense, or needs a supervisor
                (``SCMP_ACT_NOTIFY``).
            Unsupported: If the architecture has no table.

        Source: OCI runtime-spec, *config-linux.md*, "Seccomp"; *seccomp_rule_add(3)*.
        """
        # Late: the reader makes its rules of the values above.
        from jailbox.linux.seccomp.document import Reader

        names = frozenset(map(capability_name, capabilities))
        return cls(**Reader(arch, names, kernel).read(document))
