"""
What a step of a runtime case showed, and whether that is what was expected of it.

The language is that of the collection's README: equal values, regular expressions, and
operators such as ``{"$min": 2}``. Pure: values in, mismatches out.
"""

import re
from collections.abc import Iterator
from typing import Any, TypeAlias

import attrs

__all__ = ["Json", "Shown", "mismatches"]

Json: TypeAlias = Any
"""What a document holds; the README of the collection says what that is."""


@attrs.define
class Shown:
    """
    What a step showed.

    Attributes:
        exit: The exit code, as a shell counts.

        stdout: Standard output.

        stderr: Standard error.

        error: The category of a refusal.

        why: The refusal in words, for whoever reads the failure.

        seconds: How long it took.

        attrs: What was asked about.

        changes: Changes, as ``A /x``.
    """

    exit: int | None = None
    stdout: str = ""
    stderr: str = ""
    error: str | None = None
    why: str = ""
    seconds: float = 0.0
    attrs: Any = None
    changes: frozenset[str] = frozenset()


def mismatches(expected: dict[str, Any], shown: Shown) -> tuple[str, ...]:
    """Compare; nothing if everything is as expected."""
    return tuple(_all(expected, shown))


def _all(expected: dict[str, Any], shown: Shown) -> Iterator[str]:
    yield from _refusal(expected, shown)
    for key, wanted in expected.items():
        if key == "error" or (key == "exit" and shown.error is not None):
            # A library that raises has no exit code to show.
            continue
        if not _holds(key, wanted, shown):
            yield f"{key}: expected {wanted!r}, shown {_part(key, shown)!r}"


def _refusal(expected: dict[str, Any], shown: Shown) -> Iterator[str]:
    wanted = expected.get("error", [None])
    accepted = wanted if isinstance(wanted, list) else [wanted]
    if shown.error in accepted or ("any" in accepted and shown.error is not None):
        return
    yield f"error: expected {wanted!r}, shown {shown.error!r} ({shown.why})"


def _part(key: str, shown: Shown) -> object:
    if key.startswith("changes"):
        return sorted(shown.changes)
    if key.startswith("seconds"):
        return shown.seconds
    name = key.removesuffix("_not_regex").removesuffix("_regex")
    if name == "output":
        return shown.stdout + shown.stderr
    return getattr(shown, name, None)


def _holds(key: str, wanted: Json, shown: Shown) -> bool:
    found = _part(key, shown)
    match key:
        case "seconds_min":
            return bool(shown.seconds >= wanted)
        case "seconds_max":
            return bool(shown.seconds <= wanted)
        case "attrs":
            return _matches(wanted, found)
        case "changes":
            return set(wanted) == shown.changes
        case "changes_has":
            return set(wanted) <= shown.changes
        case "changes_lacks":
            return not any(
                re.search(pattern, change)
                for pattern in wanted
                for change in shown.changes
            )
        case "exit":
            return found in (wanted if isinstance(wanted, list) else [wanted])
    if key.endswith("_regex"):
        patterns = wanted if isinstance(wanted, list) else [wanted]
        hits = [bool(re.search(p, str(found), re.MULTILINE)) for p in patterns]
        return not any(hits) if key.endswith("_not_regex") else all(hits)
    return bool(found == wanted)


def _matches(wanted: Json, found: Json) -> bool:
    if not isinstance(wanted, dict):
        return bool(wanted == found)
    operators = [key for key in wanted if key.startswith("$")]
    if operators:
        return all(_operator(name, wanted[name], found) for name in operators)
    return isinstance(found, dict) and all(
        key in found and _matches(value, found[key]) for key, value in wanted.items()
    )


def _operator(name: str, wanted: Json, found: Json) -> bool:
    items = list(found) if isinstance(found, list | tuple | dict) else [found]
    match name:
        case "$regex":
            return bool(re.search(wanted, str(found), re.MULTILINE))
        case "$in":
            return found in wanted
        case "$min":
            return found is not None and bool(found >= wanted)
        case "$max":
            return found is not None and bool(found <= wanted)
        case "$contains":
            parts = wanted if isinstance(wanted, list) else [wanted]
            return all(any(_matches(part, item) for item in items) for part in parts)
        case "$lacks":
            parts = wanted if isinstance(wanted, list) else [wanted]
            return not any(_matches(part, item) for item in items for part in parts)
        case "$empty":
            return bool(not found) is wanted
    message = f"unknown operator {name}"
    raise ValueError(message)
