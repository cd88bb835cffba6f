"""
YAML text to trees.

What compose files are written in is YAML as Go's reader takes it: booleans are
``true`` and ``false`` only, ``0644`` is octal, ``22:22`` is text, a key stands once.
PyYAML's parser (in C where there is libyaml) gives the events; the tree is made here,
without recursion, so that depth and size are bounded before anything walks it.
"""

import re
from collections.abc import Iterator
from typing import Any

import yaml
from attrs import Factory, define

from jailbox.compose.tree import Mapping, Node, Place, Sequence, Tagged, as_mapping
from jailbox.errors import ComposeError

__all__ = ["MAX_BYTES", "MAX_DEPTH", "MAX_NODES", "read"]

MAX_BYTES = 16 * 1024 * 1024
"""The largest compose file."""

MAX_DEPTH = 100
"""How deep mappings and sequences may be nested."""

MAX_NODES = 500_000
"""How many values a file may have, those that aliases repeat counted each time."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_TRUE = frozenset(("true", "True", "TRUE"))
_FALSE = frozenset(("false", "False", "FALSE"))
_INT = re.compile(r"[-+]?(?:0x[0-9a-fA-F_]+|0o?[0-7_]+|0b[01_]+|0|[1-9][0-9_]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_TAG = "tag:yaml.org,2002:"
_DIGITS_MAX = 400


def read(text: str, file: str) -> list[Mapping]:
    """
    Read the documents of a compose file; the empty ones are left out.

    Args:
        text: What is in the file.

        file: Its name, for errors.

    Raises:
        ComposeError: The text is no YAML, a key stands twice, an alias holds itself,
            a document is no mapping, or a bound is passed.
    """
    if len(text) > MAX_BYTES:
        raise ComposeError(
            file,
            "the file",
            f"has {len(text)} characters, past {MAX_BYTES}",
            kind="yaml",
        )
    try:
        documents = list(_documents(text.removeprefix("\ufeff"), file))
    except yaml.YAMLError as error:
        raise _unreadable(error, file) from None
    found = []
    for document in documents:
        if document is None:
            continue
        if not isinstance(document, Mapping):
            raise ComposeError(
                file, "the file", "is no mapping at its top level", kind="schema"
            )
        found.append(document)
    return found


@define
class _Open:
    """A mapping or a sequence that is being read."""

    node: Mapping | Sequence
    anchor: str | None
    tag: str | None
    key: str | None = None
    key_place: Place | None = None
    merges: list[Node] = Factory(list)
    size: int = 1


@define
class _Anchored:
    node: Node
    size: int
    done: bool


def _documents(text: str, file: str) -> Iterator[Node]:
    loader = _Loader(text)
    stack: list[_Open] = []
    anchors: dict[str, _Anchored] = {}
    total = 0
    try:
        while loader.check_event():
            event = loader.get_event()
            if isinstance(event, yaml.DocumentStartEvent):
                anchors = {}
                continue
            place = _place(event, file)
            total += 1
            if isinstance(event, yaml.CollectionStartEvent):
                if len(stack) == MAX_DEPTH:
                    raise _bound(place, f"is nested deeper than {MAX_DEPTH}")
                opened: Mapping | Sequence = (
                    Mapping(place)
                    if isinstance(event, yaml.MappingStartEvent)
                    else Sequence(place)
                )
                stack.append(_Open(opened, event.anchor, event.tag))
                if event.anchor is not None:
                    anchors[event.anchor] = _Anchored(opened, 0, done=False)
                continue
            if isinstance(event, yaml.CollectionEndEvent):
                ended = stack.pop()
                node, size = _closed(ended), ended.size
                place = ended.node.place or place
                if ended.anchor is not None:
                    anchors[ended.anchor] = _Anchored(node, size, done=True)
            elif isinstance(event, yaml.AliasEvent):
                known = anchors.get(event.anchor or "")
                if known is None:
                    raise _at(
                        place, f"names the anchor {event.anchor!r}, which is none"
                    )
                if not known.done:
                    raise _at(place, f"puts {event.anchor!r} into itself")
                node, size = known.node, known.size
                total += size
            elif not isinstance(event, yaml.ScalarEvent):
                continue
            else:
                node, size = _scalar(event, place), 1
                if event.anchor is not None:
                    anchors[event.anchor] = _Anchored(node, 1, done=True)
            if total > MAX_NODES:
                raise _bound(place, f"has more than {MAX_NODES} values")
            if not stack:
                yield node
                continue
            _put(stack[-1], node, place, size)
    finally:
        loader.dispose()


def _place(event: yaml.Event, file: str) -> Place:
    mark = event.start_mark
    if mark is None:
        return Place(file, 1, 1)
    return Place(file, mark.line + 1, mark.column + 1)


def _put(parent: _Open, node: Node, place: Place, size: int) -> None:
    """Give *parent* what was read: an entry, a key, or the value of its key."""
    parent.size += size
    into = parent.node
    if isinstance(into, Sequence):
        into.add(node, place)
        return
    if parent.key is None:
        if not isinstance(node, str):
            raise _at(place, f"has the key {node!r}, which is no text")
        if node in into.places and node != "<<":
            first = into.places[node].line
            raise _at(place, f"has the key {node!r} twice, first in line {first}")
        parent.key, parent.key_place = node, place
        into.places[node] = place
        return
    key, parent.key = parent.key, None
    if key == "<<":
        del into.places[key]
        parent.merges.extend(node if isinstance(node, Sequence) else [node])
        if not all(isinstance(one, Mapping) for one in parent.merges):
            raise _at(place, "merges ('<<') what is no mapping")
        return
    into[key] = node


def _closed(ended: _Open) -> Node:
    """Finish a mapping or a sequence: merge keys, then the tag."""
    node: Node = ended.node
    if isinstance(node, Mapping) and ended.merges:
        merged = node.like()
        for source in reversed(ended.merges):
            found = as_mapping(source)
            for key, value in found.items():
                merged.put(key, value, found.places.get(key))
        # Own keys win; the mapping itself is kept, since anchors may point at it.
        for key, value in merged.items():
            if key not in node:
                node.put(key, value, merged.places.get(key))
    return _tagged(ended.tag, node)


def _tagged(tag: str | None, node: Node) -> Node:
    if tag in ("!reset", "!override"):
        return Tagged(tag == "!reset", node)
    return node


def _scalar(event: yaml.ScalarEvent, place: Place) -> Node:
    """Read a scalar: plain ones by their looks, quoted ones as text."""
    value: str = event.value
    tag: str | None = event.tag
    if tag is None or tag == "!":
        return value if event.style or tag == "!" else plain(value)
    if not tag.startswith(_TAG):
        return _tagged(tag, value if event.style else plain(value))
    kind = tag.removeprefix(_TAG)
    if kind in ("str", "binary", "timestamp"):
        return value
    found = plain(value)
    fits = {
        "null": found is None,
        "bool": isinstance(found, bool),
        "int": isinstance(found, int) and not isinstance(found, bool),
        "float": isinstance(found, int | float) and not isinstance(found, bool),
    }
    if not fits.get(kind, False):
        raise _at(place, f"is {value!r}, which is no !!{kind}")
    return float(found) if kind == "float" and isinstance(found, int) else found


def plain(text: str) -> bool | int | float | str | None:
    """Read a scalar without quotes: null, a boolean, a number, or else text."""
    if text in _NULLS:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if text[0] not in "-+.0123456789" or len(text) > _DIGITS_MAX:
        return text
    if _INT.fullmatch(text):
        return _integer(text)
    if _SPECIAL.fullmatch(text):
        return float(text.replace(".", "").lower())
    if _FLOAT.fullmatch(text):
        return float(text.replace("_", ""))
    return text


def _integer(text: str) -> int | float | str:
    digits = text.replace("_", "")
    sign, bare = (digits[0], digits[1:]) if digits[0] in "-+" else ("", digits)
    try:
        if bare[:2] in ("0x", "0o", "0b"):
            number = int(bare, 0)
        elif len(bare) > 1 and bare[0] == "0":
            number = int(bare, 8)
        else:
            number = int(bare)
    except ValueError:
        return text
    return -number if sign == "-" else number


def _at(place: Place, text: str) -> ComposeError:
    return ComposeError(
        place.file, f"column {place.column}", text, line=place.line, kind="yaml"
    )


def _bound(place: Place, text: str) -> ComposeError:
    error = _at(place, text)
    error.add_note("Bounds keep a hostile file from filling memory; split the file.")
    return error


def _unreadable(error: yaml.YAMLError, file: str) -> ComposeError:
    """Translate what PyYAML says: its problem, at its place."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    text = getattr(error, "problem", None) or str(error).partition("\n")[0]
    if mark is None:
        return ComposeError(file, "the file", f"is no YAML: {text}", kind="yaml")
    place = Place(file, mark.line + 1, mark.column + 1)
    return _at(place, f"is no YAML: {text}")
