"""
A mapping that is a value: it cannot change, it hashes, pickles and prints.

Specs hold these instead of dicts, so that equal specs are equal keys of a cache. Only
for what is small and read; it is not a persistent data structure.
"""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

__all__ = ["FrozenMap", "freeze"]

K = TypeVar("K")
V_co = TypeVar("V_co", covariant=True)


class FrozenMap(Mapping[K, V_co]):
    """
    A read-only, hashable copy of a mapping.

    Keeps the order of its source, but equality and hash do not look at it.

    >>> FrozenMap({"a": 1})
    FrozenMap({'a': 1})
    >>> FrozenMap({"a": 1}) == {"a": 1}
    True
    """

    __slots__ = ("_hash", "_items")

    _items: dict[K, V_co]
    _hash: int | None

    def __init__(self, items: Mapping[K, V_co] | None = None) -> None:
        self._items = {} if items is None else dict(items)
        self._hash = None

    def __getitem__(self, key: K) -> V_co:
        return self._items[key]

    def __iter__(self) -> Iterator[K]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, FrozenMap):
            return self._items == other._items
        if isinstance(other, Mapping):
            return self._items == dict(other)
        return NotImplemented

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(frozenset(self._items.items()))
        return self._hash

    def __repr__(self) -> str:
        return f"FrozenMap({self._items!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Without the hash: that of a str differs between processes.
        return FrozenMap, (self._items,)


# JSON: the shape is known to whoever asked for it.
def freeze(document: Any) -> Any:  # noqa: ANN401
    """
    Make a hashable copy of a JSON-like document: FrozenMap for dict, tuple for list.

    Anything else is kept as it is.
    """
    if isinstance(document, Mapping):
        return FrozenMap({key: freeze(value) for key, value in document.items()})
    if isinstance(document, list | tuple):
        return tuple(freeze(item) for item in document)
    return document
