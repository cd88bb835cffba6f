"""
JSON of OCI, Docker and Podman -> the fields of a profile.

What decides about calls must be understood word for word: a misspelled ``args`` that
nobody looked at would turn a condition into a blank check. What does not is skipped,
as the specification wants, and noted.

This reads one document and knows nothing of the default profile; merging profiles is
nobody's.

Source: OCI runtime-spec, *config-linux.md*, "Seccomp"; moby/profiles; runc.
"""

import errno
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from jailbox.errors import SpecError, SpecTypeError, shown
from jailbox.linux.seccomp.profile import (
    Action,
    Compare,
    Kind,
    Op,
    Rule,
    deny,
    has_table,
)
from jailbox.linux.tables import SYSCALLS

__all__ = ["Reader"]

_ACTIONS: Final = {
    "SCMP_ACT_ALLOW": Kind.ALLOW,
    "SCMP_ACT_ERRNO": Kind.ERRNO,
    "SCMP_ACT_KILL": Kind.KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": Kind.KILL_PROCESS,
    "SCMP_ACT_KILL_THREAD": Kind.KILL_THREAD,
    "SCMP_ACT_LOG": Kind.LOG,
    "SCMP_ACT_TRACE": Kind.TRACE,
    "SCMP_ACT_TRAP": Kind.TRAP,
}
_OPS: Final = {op.value: op for op in Op}

_STRICTEST_FIRST: Final = {kind: rank for rank, kind in enumerate(Kind)}

_PASSIVE: Final = (Kind.ALLOW, Kind.LOG, Kind.TRACE)
"""Under these a call may happen, and the kernel says itself what it does not have."""

_DATA_MAX: Final = {Kind.ERRNO: 4095, Kind.TRACE: 0xFFFF}
"""What has an errno, and how large. Source: ``MAX_ERRNO``, ``SECCOMP_RET_DATA``."""

# How OCI and Docker spell an architecture.
_OCI_ARCHES: Final = {
    "x86_64": "SCMP_ARCH_X86_64",
    "aarch64": "SCMP_ARCH_AARCH64",
    "riscv64": "SCMP_ARCH_RISCV64",
}
_DOCKER_ARCHES: Final = {"x86_64": "amd64", "aarch64": "arm64", "riscv64": "riscv64"}

_SUPERVISOR: Final = ("listenerPath", "listenerMetadata")

_FLAG_KEPT: Final = "SECCOMP_FILTER_FLAG_TSYNC"
"""Nothing to do for it: a filter is installed where there is one thread."""

_FLAGS: Final = (
    _FLAG_KEPT,
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
)

_KEYS: Final = {
    "architectures",
    "archMap",
    "defaultAction",
    "defaultErrno",
    "defaultErrnoRet",
    "flags",
    "syscalls",
    *_SUPERVISOR,
}
_CALL_KEYS: Final = {
    "action",
    "args",
    "comment",
    "errno",
    "errnoRet",
    "excludes",
    "includes",
    "name",
    "names",
}
_MAP_KEYS: Final = {"architecture", "subArchitectures"}
_ARG_KEYS: Final = {"index", "op", "value", "valueTwo"}
_FILTER_KEYS: Final = {"arches", "caps", "minKernel"}


@attrs.define(eq=False)
class Reader:
    """
    Reads one document for one machine and one set of capabilities.

    Attributes:
        arch: Whose numbers are meant, as ``uname -m`` says it; must have a table.

        capabilities: The bounding set, as names of the kernel.

        kernel: Version of the running kernel.

        ignored: What was skipped, one line each.
    """

    arch: str = attrs.field(validator=has_table)
    capabilities: frozenset[str]
    kernel: tuple[int, int]
    ignored: list[str] = attrs.field(factory=list)

    def read(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of a `Profile`."""
        place = "seccomp"
        _mapping(place, document)
        self.ignored += [f"key {shown(key)}" for key in document.keys() - _KEYS]
        for key in _SUPERVISOR:
            if document.get(key):
                raise _unsupervised(f"{place}.{key}", document[key])
        default = _action(
            place, document, "defaultAction", "defaultErrno", "defaultErrnoRet"
        )
        self._architectures(place, document)
        self._flags(place, document)
        rules = [
            rule
            for where, call in _items(place, document, "syscalls")
            for rule in self._rules(where, call)
        ]
        return {
            "arch": self.arch,
            "default": default,
            "rules": self._resolved(rules, default),
            "unknown": default if default.kind in _PASSIVE else deny(errno.ENOSYS),
            "ignored": tuple(sorted(set(self.ignored))),
        }

    def _architectures(self, place: str, document: Mapping[str, Any]) -> None:
        """Note which ABIs are wanted besides the machine's own."""
        own = _OCI_ARCHES[self.arch]
        wanted = list(_words(place, document, "architectures"))
        maps = _items(place, document, "archMap")
        if wanted and maps:
            raise SpecError(place, "has both architectures and archMap")
        for where, entry in maps:
            known = _mapping(where, entry, _MAP_KEYS)
            if known.get("architecture") == own:
                wanted += _words(where, known, "subArchitectures")
        for arch in wanted:
            if not arch.startswith("SCMP_ARCH_"):
                raise SpecError(
                    f"{place}.architectures",
                    "has an unknown name",
                    value=arch,
                    accepted=f"{own} and others of the specification",
                )
            if arch != own:
                self.ignored.append(f"architecture {shown(arch)}: only {own} runs")

    def _flags(self, place: str, document: Mapping[str, Any]) -> None:
        """Note the flags of seccomp(2) that are asked for."""
        for flag in _words(place, document, "flags"):
            if flag not in _FLAGS:
                raise SpecError(
                    f"{place}.flags",
                    "has an unknown flag",
                    value=flag,
                    accepted=", ".join(_FLAGS),
                )
            if flag != _FLAG_KEPT:
                self.ignored.append(f"flag {flag}")

    def _rules(self, place: str, call: object) -> list[Rule]:
        """Read one element of ``syscalls``."""
        entry = _mapping(place, call, _CALL_KEYS)
        names = _words(place, entry, "names")
        if entry.get("name"):
            if names:
                raise SpecError(place, "has both name and names")
            names = _words(place, {"name": [entry["name"]]}, "name")
        if not names:
            raise SpecError(f"{place}.names", "is missing")
        action = _action(place, entry, "action", "errno", "errnoRet")
        compares = [_compare(*item) for item in _items(place, entry, "args")]
        if not self._applies(place, entry):
            return []
        self.ignored += [
            f"system call {shown(name)}: not one of {self.arch}"
            for name in names
            if name not in SYSCALLS[self.arch]
        ]
        known = tuple(name for name in names if name in SYSCALLS[self.arch])
        alone = len({compare.index for compare in compares}) < len(compares)
        return [
            # Nothing but nothing of an argument is compared: that always holds.
            Rule(known, action, tuple(compare for compare in when if compare.mask))
            for when in ([[each] for each in compares] if alone else [compares])
        ]

    def _applies(self, place: str, entry: Mapping[str, Any]) -> bool:
        """Whether ``includes`` and ``excludes`` let an entry count here."""
        includes = self._matches(f"{place}.includes", entry.get("includes"))
        excludes = self._matches(f"{place}.excludes", entry.get("excludes"))
        return all(includes) and not any(excludes)

    def _matches(self, place: str, filters: object) -> list[bool]:
        """Return which conditions of a filter hold here."""
        if filters is None:
            return []
        entry = _mapping(place, filters, _FILTER_KEYS)
        found = [cap in self.capabilities for cap in _words(place, entry, "caps")]
        if arches := _words(place, entry, "arches"):
            found.append(_DOCKER_ARCHES[self.arch] in arches)
        if (version := entry.get("minKernel")) is not None:
            if not isinstance(version, str) or not re.fullmatch(
                r"[0-9]{1,9}\.[0-9]{1,9}", version
            ):
                raise SpecError(
                    f"{place}.minKernel",
                    "is not a version",
                    value=version,
                    accepted="a text such as '4.8'",
                )
            major, _, minor = version.partition(".")
            found.append(self.kernel >= (int(major), int(minor)))
        return found

    def _resolved(self, rules: Sequence[Rule], default: Action) -> tuple[Rule, ...]:
        """Order the rules so that the first that matches is the right one."""
        numbers = SYSCALLS[self.arch]
        named = [numbers[name] for rule in rules for name in rule.names]
        rules = [rule for rule in rules if rule.action != default]
        decided: dict[str, Action] = {}
        for rule in rules:
            if not rule.when:
                for name in rule.names:
                    decided.setdefault(name, rule.action)
        if default.kind is Kind.ERRNO and named:
            newer = (name for name, number in numbers.items() if number > max(named))
            decided |= dict.fromkeys(newer, deny(errno.ENOSYS))
        resolved = [
            Rule(tuple(name for name in decided if decided[name] == action), action)
            for action in dict.fromkeys(decided.values())
        ]
        for rule in sorted(rules, key=lambda rule: _STRICTEST_FIRST[rule.action.kind]):
            names = tuple(name for name in rule.names if name not in decided)
            if names:
                resolved.append(attrs.evolve(rule, names=names))
        return tuple(resolved)


def _unsupervised(place: str, value: object) -> SpecError:
    """Make the error for what asks a supervisor about calls."""
    return SpecError(
        place,
        "is not supported",
        value=value,
        hint="jailbox runs no supervisor that could be asked about a system call; "
        "use SCMP_ACT_ERRNO, SCMP_ACT_TRAP or SCMP_ACT_KILL_PROCESS.",
    )


def _mapping(
    place: str, value: object, keys: set[str] | None = None
) -> Mapping[str, Any]:
    """Return *value* if it is a JSON object with no other *keys*."""
    if not isinstance(value, Mapping):
        raise SpecTypeError(place, "is not an object", value=value)
    for key in value:
        if keys is not None and key not in keys:
            raise SpecError(
                place, "has an unknown key", value=key, accepted=", ".join(sorted(keys))
            )
    return value


def _items(place: str, entry: Mapping[str, Any], key: str) -> list[tuple[str, object]]:
    """Return the elements of a list that may be absent or null, and their places."""
    value = entry.get(key)
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        raise SpecTypeError(f"{place}.{key}", "is not a list", value=value)
    return [(f"{place}.{key}[{at}]", item) for at, item in enumerate(value)]


def _words(place: str, entry: Mapping[str, Any], key: str) -> list[str]:
    """Return the elements of a list of texts that may be absent or null."""
    words = []
    for where, item in _items(place, entry, key):
        if not isinstance(item, str):
            raise SpecTypeError(where, "is not a text", value=item)
        if not item:
            raise SpecError(where, "is empty")
        words.append(item)
    return words


def _number(place: str, entry: Mapping[str, Any], key: str, most: int) -> int | None:
    """Return a number that may be absent or null."""
    value = entry.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise SpecTypeError(f"{place}.{key}", "is not a whole number", value=value)
    if not 0 <= value <= most:
        raise SpecError(
            f"{place}.{key}", "is out of range", value=value, accepted=f"0 to {most}"
        )
    return value


def _action(
    place: str, entry: Mapping[str, Any], key: str, name_key: str, number_key: str
) -> Action:
    """Read an action and its errno, which may be a number, or a name as in Podman."""
    word = entry.get(key)
    if word == "SCMP_ACT_NOTIFY":
        raise _unsupervised(f"{place}.{key}", word)
    kind = _ACTIONS.get(word) if isinstance(word, str) else None
    if kind is None:
        raise SpecError(
            f"{place}.{key}",
            "is not an action",
            value=word,
            accepted=", ".join(_ACTIONS),
        )
    data = _number(place, entry, number_key, _DATA_MAX.get(kind, 0xFFFF))
    if name := entry.get(name_key):
        by_name = {text: number for number, text in errno.errorcode.items()}
        if not isinstance(name, str) or name not in by_name:
            raise SpecError(
                f"{place}.{name_key}",
                "is not an errno",
                value=name,
                accepted="a name of errno(3) such as 'ENOSYS'",
            )
        data = by_name[name]
    if kind in _DATA_MAX:
        return Action(kind, errno.EPERM if data is None else data)
    if data is not None:
        raise SpecError(f"{place}.{number_key}", f"means nothing with {word}")
    return Action(kind)


def _compare(place: str, item: object) -> Compare:
    """Read one element of ``args``."""
    entry = _mapping(place, item, _ARG_KEYS)
    word = entry.get("op")
    op = _OPS.get(word) if isinstance(word, str) else None
    if op is None:
        raise SpecError(
            f"{place}.op", "is not an operator", value=word, accepted=", ".join(_OPS)
        )
    index = _number(place, entry, "index", 5)
    value = _number(place, entry, "value", 2**64 - 1)
    second = _number(place, entry, "valueTwo", 2**64 - 1)
    if index is None or value is None:
        missing = "index" if index is None else "value"
        raise SpecError(f"{place}.{missing}", "is missing")
    if op is Op.MASKED_EQ:
        return Compare(index, op, (second or 0) & value, value)
    return Compare(index, op, value)
