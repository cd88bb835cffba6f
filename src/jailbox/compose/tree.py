"""
The data of a compose file: mappings, sequences and scalars that know where they stood.

Not for reading text, and not for deciding what the data means.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

from attrs import frozen

from jailbox.errors import ComposeError

__all__ = [
    "Mapping",
    "Node",
    "Path",
    "Place",
    "Sequence",
    "Tagged",
    "as_mapping",
    "as_sequence",
    "at",
    "mapped",
    "problem",
    "shown_path",
    "stripped",
]


class Place(NamedTuple):
    """Where something stands: a file, a line and a column, both from 1."""

    file: str
    line: int
    column: int


Path: TypeAlias = tuple[str | int, ...]
"""Where in the document something is: ``("services", "web", "ports", 0)``."""


class Mapping(dict[str, "Node"]):
    """A mapping; `place` is where it begins, `places` where each key stands."""

    __slots__ = ("place", "places")

    def __init__(self, place: Place | None = None) -> None:
        super().__init__()
        self.place = place
        self.places: dict[str, Place] = {}

    def put(self, key: str, value: "Node", place: Place | None = None) -> None:
        """Set *key*, and where it stands if that is known."""
        self[key] = value
        if place is not None:
            self.places[key] = place

    def like(self) -> "Mapping":
        """Return an empty mapping that stands in the same place."""
        return Mapping(self.place)


class Sequence(list["Node"]):
    """A sequence; `place` is where it begins, `places` where each entry stands."""

    __slots__ = ("place", "places")

    def __init__(self, place: Place | None = None) -> None:
        super().__init__()
        self.place = place
        self.places: list[Place | None] = []

    def add(self, value: "Node", place: Place | None = None) -> None:
        """Append an entry, and where it stands if that is known."""
        self.append(value)
        self.places.append(place)

    def like(self) -> "Sequence":
        """Return an empty sequence that stands in the same place."""
        return Sequence(self.place)

    def entries(self) -> Iterator[tuple["Node", Place | None]]:
        """Iterate over entries, each with where it stands."""
        return zip(self, self.places, strict=True)


@frozen
class Tagged:
    """
    A value under ``!reset`` or ``!override``: it replaces what it is merged over.

    Attributes:
        reset: Whether the value is taken away instead.

        value: What was written under the tag.
    """

    reset: bool
    value: "Node"


Node: TypeAlias = bool | int | float | str | Mapping | Sequence | Tagged | None


def as_mapping(node: Node) -> Mapping:
    """Return *node* if it is a mapping, and an empty one if it is not."""
    return node if isinstance(node, Mapping) else Mapping()


def as_sequence(node: Node) -> Sequence:
    """Return *node* if it is a sequence, and an empty one if it is not."""
    return node if isinstance(node, Sequence) else Sequence()


def mapped(
    node: Node, change: Callable[[Path, "Node"], "Node"], path: Path = ()
) -> Node:
    """Return the tree with *change* applied to every scalar in it."""
    if isinstance(node, Mapping):
        fresh = node.like()
        fresh.places = node.places
        for key, value in node.items():
            fresh[key] = mapped(value, change, (*path, key))
        return fresh
    if isinstance(node, Sequence):
        row = node.like()
        row.places = list(node.places)
        for index, value in enumerate(node):
            row.append(mapped(value, change, (*path, index)))
        return row
    if isinstance(node, Tagged):
        return Tagged(node.reset, mapped(node.value, change, path))
    return change(path, node)


def stripped(node: Node) -> Node:
    """Return the tree without tags: what was reset is gone, the rest is as written."""
    if isinstance(node, Tagged):
        return None if node.reset else stripped(node.value)
    if isinstance(node, Mapping):
        fresh = node.like()
        for key, value in node.items():
            if not (isinstance(value, Tagged) and value.reset):
                fresh.put(key, stripped(value), node.places.get(key))
        return fresh
    if isinstance(node, Sequence):
        row = node.like()
        for value, place in node.entries():
            if not (isinstance(value, Tagged) and value.reset):
                row.add(stripped(value), place)
        return row
    return node


def shown_path(path: Path) -> str:
    """Write a path as people do: ``services.web.ports[0]``."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step}" if text else step
    return text or "the file"


def at(node: Node, path: Path) -> Place | None:
    """Return where *path* stands in *node*; of what is absent, its nearest parent."""
    found = node.place if isinstance(node, Mapping | Sequence) else None
    for step in path:
        if isinstance(node, Mapping) and step in node:
            found = node.places.get(str(step), found)
            node = node[str(step)]
        elif isinstance(node, Sequence) and isinstance(step, int) and step < len(node):
            found = node.places[step] or found
            node = node[step]
        else:
            break
    return found


def problem(
    root: Node,
    path: Path,
    text: str,
    *,
    kind: str = "value",
    file: str = "compose",
    hint: str | None = None,
) -> ComposeError:
    """Make the error that says what is wrong at *path*, with file and line."""
    place = at(root, path)
    return ComposeError(
        place.file if place else file,
        shown_path(path),
        text,
        line=place.line if place else None,
        kind=kind,
        hint=hint,
    )
