"""
Shapes: what kind of value may stand where, and how a tree is held against them.

A shape is data. The shapes of the compose specification are in `jailbox.compose.
schema`; here is what a shape is, the check, and the look-up of what text at some place
is to become.
"""

import difflib
import re
from collections.abc import Iterable, Iterator
from collections.abc import Mapping as AnyMapping

from attrs import Factory, field, frozen

from jailbox.compose.tree import Mapping, Node, Path, Sequence, Tagged

__all__ = [
    "Anything",
    "Either",
    "Keys",
    "ListOf",
    "MapOf",
    "Scalar",
    "Shape",
    "check",
    "scalar_at",
]


def _kinds_of(names: Iterable[str]) -> frozenset[str]:
    return frozenset(names)


@frozen
class Shape:
    """What may stand somewhere."""


@frozen
class Anything(Shape):
    """Whatever it is, it is left alone."""


@frozen
class Scalar(Shape):
    """
    A scalar of some kinds: text, integer, number, boolean, null.

    Attributes:
        kinds: The kinds that are taken.

        cast: What text is to become after variables are filled in: ``boolean``,
            ``integer``, ``number``, or ``""`` to leave it.

        among: The only values, if there are only some.

        pattern: What text must match, whole.

        minimum: The least a number may be.

        maximum: The most a number may be.
    """

    kinds: frozenset[str] = field(converter=_kinds_of)
    cast: str = ""
    among: tuple[str, ...] = ()
    pattern: str | None = None
    minimum: float | None = None
    maximum: float | None = None


@frozen
class ListOf(Shape):
    """A sequence; no entry stands twice if *unique*."""

    item: Shape
    unique: bool = False


@frozen
class MapOf(Shape):
    """A mapping whose keys are names that the file chooses."""

    value: Shape
    keys: str = ".+"


@frozen
class Keys(Shape):
    """A mapping whose keys are known; those that begin with ``x-`` are extensions."""

    known: AnyMapping[str, Shape]
    required: tuple[str, ...] = ()
    extensible: bool = True


@frozen
class Either(Shape):
    """One of several; which one is told by what the value is."""

    options: tuple[Shape, ...] = Factory(tuple)


def check(node: Node, shape: Shape, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Hold *node* against *shape*: where what is wrong, in the order of the file."""
    if isinstance(node, Tagged):
        if not node.reset:
            yield from check(node.value, shape, path)
        return
    match shape:
        case Scalar():
            yield from _scalar(node, shape, path)
        case ListOf():
            yield from _list(node, shape, path)
        case MapOf():
            yield from _map(node, shape, path)
        case Keys():
            yield from _keys(node, shape, path)
        case Either(options):
            fitting = [one for one in options if _takes(one, node)]
            if fitting:
                yield from check(node, fitting[0], path)
            else:
                yield path, f"must be {_words(shape)}, and is {_kind(node)}"


def _scalar(node: Node, shape: Scalar, path: Path) -> Iterator[tuple[Path, str]]:
    if not _takes(shape, node):
        yield path, f"must be {_words(shape)}, and is {_kind(node)}"
        return
    if isinstance(node, str):
        if shape.among and node not in shape.among:
            near = difflib.get_close_matches(node, shape.among, 1)
            guess = f"; did you mean {near[0]!r}?" if near else ""
            yield path, f"is {node!r}; known are {', '.join(shape.among)}{guess}"
        if shape.pattern is not None and not re.fullmatch(shape.pattern, node):
            yield path, f"is {node!r}, which is none of {shape.pattern}"
    elif isinstance(node, int | float) and not isinstance(node, bool):
        if shape.minimum is not None and node < shape.minimum:
            yield path, f"is {node}; the least is {shape.minimum:g}"
        if shape.maximum is not None and node > shape.maximum:
            yield path, f"is {node}; the most is {shape.maximum:g}"


def _list(node: Node, shape: ListOf, path: Path) -> Iterator[tuple[Path, str]]:
    if not isinstance(node, Sequence):
        yield path, f"must be a sequence, and is {_kind(node)}"
        return
    seen: list[Node] = []
    for index, value in enumerate(node):
        yield from check(value, shape.item, (*path, index))
        if shape.unique:
            if value in seen:
                yield (*path, index), f"repeats {value!r}"
            seen.append(value)


def _map(node: Node, shape: MapOf, path: Path) -> Iterator[tuple[Path, str]]:
    if not isinstance(node, Mapping):
        yield path, f"must be a mapping, and is {_kind(node)}"
        return
    for key, value in node.items():
        if not re.fullmatch(shape.keys, key, re.DOTALL):
            yield (*path, key), "is no name: letters, digits, '.', '_' and '-' are"
        else:
            yield from check(value, shape.value, (*path, key))


def _keys(node: Node, shape: Keys, path: Path) -> Iterator[tuple[Path, str]]:
    if not isinstance(node, Mapping):
        yield path, f"must be a mapping, and is {_kind(node)}"
        return
    for key, value in node.items():
        if key in shape.known:
            yield from check(value, shape.known[key], (*path, key))
        elif not (shape.extensible and key.startswith("x-")):
            near = difflib.get_close_matches(key.lower(), shape.known, 1)
            guess = f"; did you mean {near[0]!r}?" if near else ""
            yield (*path, key), f"is no key that is known here{guess}"
    for key in shape.required:
        if key not in node:
            yield path, f"lacks {key!r}"


def _takes(shape: Shape, node: Node) -> bool:
    match shape:
        case Scalar(kinds):
            return bool(kinds & _kinds(node))
        case ListOf():
            return isinstance(node, Sequence)
        case MapOf() | Keys():
            return isinstance(node, Mapping)
        case Either(options):
            return any(_takes(one, node) for one in options)
        case _:
            return True


def _kinds(node: Node) -> frozenset[str]:
    match node:
        case None:
            return frozenset(("null",))
        case bool():
            return frozenset(("boolean",))
        case int():
            return frozenset(("integer", "number"))
        case float():
            whole = node.is_integer()
            return frozenset(("integer", "number") if whole else ("number",))
        case str():
            return frozenset(("string",))
        case _:
            return frozenset()


_ARTICLES = {
    "string": "text",
    "integer": "an integer",
    "number": "a number",
    "boolean": "a boolean",
    "null": "nothing",
}


def _kind(node: Node) -> str:
    match node:
        case Mapping():
            return "a mapping"
        case Sequence():
            return "a sequence"
        case None:
            return "empty"
        case bool():
            return "a boolean"
        case str():
            return "text"
        case _:
            return "a number"


def _words(shape: Shape) -> str:
    match shape:
        case Scalar(kinds):
            names = [text for kind, text in _ARTICLES.items() if kind in kinds]
            return " or ".join(names)
        case ListOf():
            return "a sequence"
        case Either(options):
            return " or ".join(dict.fromkeys(map(_words, options)))
        case _:
            return "a mapping"


def scalar_at(shape: Shape, path: Path) -> Scalar | None:
    """Return what a scalar at *path* should be, if the shapes say it."""
    for position, step in enumerate(path):
        match shape:
            case ListOf(item) if isinstance(step, int):
                shape = item
            case MapOf(value):
                shape = value
            case Keys(known) if step in known:
                shape = known[str(step)]
            case Either(options):
                found = (scalar_at(one, path[position:]) for one in options)
                return next((one for one in found if one is not None), None)
            case _:
                return None
    if isinstance(shape, Either):
        # Text stays text where text is meant; else the first that asks for a cast.
        return next((one for one in shape.options if isinstance(one, Scalar)), None)
    return shape if isinstance(shape, Scalar) else None
