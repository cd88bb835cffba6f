"""
JSON of strangers, read so that every reader understands the same.

Two parsers that disagree about a document are a way to smuggle content past one of
them. So what is ambiguous is refused: a key twice, NaN, a byte order mark, anything
after the document. What could take long or much room is bounded, and found early.

Source: security.md, IMG3, IMG4; GHSA-xmmx-7jpf-fx42 for why.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeVar

import attrs

from jailbox.errors import Malformed, SpecError, shown
from jailbox.spec.mapping import FrozenMap, freeze

__all__ = [
    "DEPTH_MAX",
    "DOCUMENT_MAX",
    "Node",
    "dump_json",
    "frozen_extra",
    "frozen_texts",
    "joined",
    "load_json",
    "text_or_none",
]

DOCUMENT_MAX = 4 << 20
"""The largest manifest, index or config, in bytes. Registries refuse more, too."""

DEPTH_MAX = 64
"""How deep objects and lists may be nested in a document."""

_NODES_MAX = 100_000
_DIGITS_MAX = 40
_INT64_MAX = 2**63 - 1

T = TypeVar("T")


class _RefusedError(ValueError):
    """What a hook of the parser found; never leaves this module."""


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _RefusedError(f"has the key {shown(key)} twice")
            seen.add(key)
    return found


def _no_constant(name: str) -> Any:  # noqa: ANN401  (it does not return)
    raise _RefusedError(f"has a {name}, which is no JSON")


def _int(digits: str) -> int:
    # Bounded: converting takes quadratic time.
    if len(digits) > _DIGITS_MAX:
        raise _RefusedError(f"has a number of {len(digits)} digits")
    return int(digits)


def _float(digits: str) -> float:
    number = float(digits)
    if number in {float("inf"), float("-inf")}:
        raise _RefusedError("has a number that is too large")
    return number


_DECODER = json.JSONDecoder(
    object_pairs_hook=_no_twins,
    parse_constant=_no_constant,
    parse_int=_int,
    parse_float=_float,
)

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def load_json(data: bytes, kind: str, *, limit: int = DOCUMENT_MAX) -> dict[str, Any]:
    """
    Read a JSON object.

    Args:
        data: All of its bytes.

        kind: What it is, for messages: ``image manifest``.

        limit: The largest size that is read, in bytes.

    Raises:
        Malformed: If it is too large, is no UTF-8, is no JSON, is no object, or is one
            that readers could understand differently.
    """
    if len(data) > limit:
        raise Malformed(kind, f"is larger than {limit} bytes")
    if data.count(b"{") + data.count(b"[") > _NODES_MAX:
        # Each costs a thousand times its byte, in memory and in time.
        raise Malformed(kind, f"has more than {_NODES_MAX} objects and lists")
    if data.startswith(b"\xef\xbb\xbf"):
        raise Malformed(kind, "begins with a byte order mark")
    try:
        text = str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise Malformed(kind, f"is no UTF-8 at byte {error.start}") from None
    try:
        document = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        problem = f"is no JSON: {error.msg} at character {error.pos}"
        raise Malformed(kind, problem) from None
    except _RefusedError as error:
        raise Malformed(kind, str(error)) from None
    except RecursionError:
        raise Malformed(kind, f"is nested deeper than {DEPTH_MAX}") from None
    if not isinstance(document, dict):
        raise Malformed(kind, "is no object")
    _check_depth(document, kind)
    if _SURROGATE.search(data):
        _check_surrogates(document, kind)
    return document


def _check_depth(document: Any, kind: str) -> None:  # noqa: ANN401  (JSON)
    level: list[Any] = [document]
    for _ in range(DEPTH_MAX + 1):
        below: list[Any] = []
        for node in level:
            inner = node.values() if isinstance(node, dict) else node
            below += [item for item in inner if isinstance(item, dict | list)]
        if not below:
            return
        level = below
    raise Malformed(kind, f"is nested deeper than {DEPTH_MAX}")


def _check_surrogates(document: dict[str, Any], kind: str) -> None:
    """Refuse half a character: it cannot be written back, nor given to the kernel."""
    try:
        dump_json(document)
    except UnicodeEncodeError:
        raise Malformed(kind, "has half of a surrogate pair") from None


def _plain(value: object) -> object:
    """Turn what a value holds back into what JSON knows."""
    if isinstance(value, FrozenMap):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not part of a document")


def dump_json(document: object) -> bytes:
    """Write a document: one line, keys in the order given, the same bytes each time."""
    text = json.dumps(
        document,
        ensure_ascii=False,
        allow_nan=False,
        separators=(",", ":"),
        default=_plain,
    )
    return text.encode("utf-8")


# Classes are no converters to mypy if they are generic.
def frozen_texts(value: Mapping[str, str]) -> FrozenMap[str, str]:
    """Make the read-only copy that a value holds."""
    return FrozenMap(value)


def frozen_extra(value: Mapping[str, Any]) -> FrozenMap[str, Any]:
    """Make a read-only copy of what is not known, hashable all the way down."""
    frozen: FrozenMap[str, Any] = freeze(value)
    return frozen


def joined(known: dict[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """
    Write what is known and set, then what is kept; one level down, both of one key.
    """
    document = {key: value for key, value in known.items() if value is not None}
    for key, value in extra.items():
        below = document.get(key)
        document[key] = {**below, **value} if isinstance(below, dict) else value
    return document


@attrs.frozen
class Node:
    """
    A place in a document, asked for what should be there.

    Every question is answered or refused with the place. ``null`` counts as absent, as
    it does for all tools that are written in Go.

    Attributes:
        kind: What the document is.

        place: Where in it; ``""`` for the whole.

        value: What is there.
    """

    kind: str
    place: str
    value: Any

    def refusal(self, problem: str) -> Malformed:
        """Make the error that says what is wrong here."""
        return Malformed(self.kind, problem, place=self.place or None)

    def _at(self, key: str) -> "Node":
        place = f"{self.place}.{key}" if self.place else key
        return Node(self.kind, place, self.object()[key])

    def object(self) -> dict[str, Any]:
        """Take an object."""
        if not isinstance(self.value, dict):
            raise self.refusal("is no object")
        return self.value

    def get(self, key: str) -> "Node | None":
        """Return what has a name in this object, or ``None``."""
        return None if self.object().get(key) is None else self._at(key)

    def need(self, key: str) -> "Node":
        """Return what has a name in this object, and must be there."""
        found = self.get(key)
        if found is None:
            raise self.refusal(f"has no {shown(key)}")
        return found

    def rest(self, known: Collection[str]) -> FrozenMap[str, Any]:
        """Return what is not known, to be kept and written back."""
        left = {key: value for key, value in self.object().items() if key not in known}
        kept: FrozenMap[str, Any] = freeze(left)
        return kept

    def no_lookalikes(self, known: Iterable[str]) -> None:
        """
        Refuse a key that differs from a known one by upper and lower case only.

        Go takes it for the known one, and sees another document than we do.
        """
        words = {word.lower(): word for word in known}
        for key in self.object():
            word = words.get(key.lower(), key)
            if word != key:
                raise self.refusal(f"has {shown(key)} where {shown(word)} is meant")

    def text(self) -> str:
        """Take a text."""
        if not isinstance(self.value, str):
            raise self.refusal("is no text")
        return self.value

    def clean_text(self) -> str:
        """Take a text that can be given to the kernel: one without NUL."""
        text = self.text()
        if "\0" in text:
            raise self.refusal("has a NUL character")
        return text

    def whole(self, minimum: int = 0, maximum: int = _INT64_MAX) -> int:
        """Take an int within bounds."""
        if not isinstance(self.value, int) or isinstance(self.value, bool):
            raise self.refusal("is no whole number")
        if not minimum <= self.value <= maximum:
            raise self.refusal(f"is not from {minimum} to {maximum}")
        return self.value

    def flag(self) -> bool:
        """Take true or false."""
        if not isinstance(self.value, bool):
            raise self.refusal("is neither true nor false")
        return self.value

    def list(self, most: int | None = None) -> "list[Node]":
        """Take a list, of at most so many."""
        if not isinstance(self.value, list):
            raise self.refusal("is no list")
        if most is not None and len(self.value) > most:
            raise self.refusal(f"has {len(self.value)} items; at most {most} are read")
        return [
            Node(self.kind, f"{self.place}[{n}]", item)
            for n, item in enumerate(self.value)
        ]

    def texts(self) -> tuple[str, ...]:
        """Take a list of texts without NUL."""
        return tuple(item.clean_text() for item in self.list())

    def names(self) -> tuple[str, ...]:
        """Take the keys of an object of empty objects: how Go writes a set."""
        for key in self.object():
            if not isinstance(self.value[key], dict):
                raise self._at(key).refusal("is no object")
            if "\0" in key:
                raise self.refusal("has a name with a NUL character")
        return tuple(self.object())

    def text_map(self) -> FrozenMap[str, str]:
        """Take an object of texts."""
        return FrozenMap({key: self._at(key).text() for key in self.object()})

    def read(self, reader: Callable[[str], T]) -> T:
        """Have a reader take the text; say where, if it refuses."""
        try:
            return reader(self.text())
        except SpecError as error:
            raise self.refusal(f"is refused: {error}") from error


def text_or_none(node: Node | None) -> str | None:
    """Take a text, if there is one."""
    return None if node is None else node.text()
