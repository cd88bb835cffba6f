"""Mappings that are values."""

import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jailbox.spec.mapping import FrozenMap, freeze

# A busy machine is no failure.
UNHURRIED = settings(deadline=None)


class TestFrozenMap:
    """A mapping that cannot change."""

    def test_is_a_copy(self) -> None:
        """Changing the source later does not change the value."""
        source = {"a": 1}
        frozen = FrozenMap(source)
        source["a"] = 2

        assert frozen["a"] == 1

    def test_cannot_be_changed(self) -> None:
        """There is no way to set, delete or add an item, or an attribute."""
        frozen: Any = FrozenMap({"a": 1})

        with pytest.raises(TypeError):
            frozen["a"] = 2
        with pytest.raises(TypeError):
            del frozen["a"]
        with pytest.raises(AttributeError):
            frozen.other = 2

    def test_is_a_mapping(self) -> None:
        """It reads like a dict, in the order of its source."""
        frozen = FrozenMap({"b": 1, "a": 2})

        assert list(frozen) == ["b", "a"]
        assert len(frozen) == 2
        assert "a" in frozen
        assert frozen.get("x") is None
        assert {**frozen} == {"b": 1, "a": 2}
        assert repr(frozen) == "FrozenMap({'b': 1, 'a': 2})"

    @UNHURRIED
    @given(st.dictionaries(st.text(), st.integers()))
    def test_equal_is_equal(self, items: dict[str, int]) -> None:
        """Equal items are equal values with equal hashes, whatever their order."""
        frozen = FrozenMap(items)
        other = FrozenMap(dict(reversed(items.items())))

        assert frozen == other == items
        assert hash(frozen) == hash(other)
        assert frozen != FrozenMap({**items, "more" * 30: 1})
        assert frozen != 3

    def test_pickle(self) -> None:
        """It pickles, and leaves behind its hash, which another process computes."""
        frozen = FrozenMap({"a": 1})
        hash(frozen)

        twin = pickle.loads(pickle.dumps(frozen))  # noqa: S301
        assert twin == frozen
        assert hash(twin) == hash(frozen)
        assert str(hash(frozen)).encode() not in pickle.dumps(frozen, 0)


class TestFreeze:
    """JSON documents as values."""

    def test_document(self) -> None:
        """Objects become mappings, arrays tuples; the result hashes."""
        frozen = freeze({"a": [1, {"b": [None, "x"]}]})

        assert frozen == {"a": (1, FrozenMap({"b": (None, "x")}))}
        assert isinstance(hash(frozen), int)
