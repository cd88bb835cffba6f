"""Digests: one spelling each, compared and computed."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jailbox.errors import SpecError
from jailbox.spec.digest import ALGORITHMS, Digest, ForeignDigest, digest_of

EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_known_answer() -> None:
    """The digest of nothing is the one that everybody knows."""
    assert str(Digest.of(b"")) == EMPTY
    assert Digest.parse(EMPTY) == Digest.of(b"")
    assert Digest.of(b"", "sha512").hex.startswith("cf83e1357eefb8bd")


@given(st.binary(), st.sampled_from(list(ALGORITHMS)))
def test_round_trip(data: bytes, algorithm: str) -> None:
    """What is written is read as the same, and computed piece by piece it is equal."""
    digest = Digest.of(data, algorithm)
    hasher = digest.hasher()
    hasher.update(data[:3])
    hasher.update(memoryview(data)[3:])

    assert Digest.parse(str(digest)) == digest
    assert hasher.hexdigest() == digest.hex
    assert digest_of(str(digest)) == digest


@given(st.text(st.sampled_from("sha256:512/.-+_=0aA \n"), max_size=90))
def test_safe_in_a_path(text: str) -> None:
    """Whatever is read as a digest has nothing in it that means something in a path."""
    try:
        digest = digest_of(text)
    except SpecError:
        return
    assert not {"/", "\0", "\n"} & set(str(digest))
    assert ".." not in str(digest)
    assert isinstance(digest, ForeignDigest) == (digest.algorithm not in ALGORITHMS)


def test_a_value() -> None:
    """Digests are keys, have an order, and cross between processes."""
    one, other = Digest("sha256", "0" * 64), Digest("sha256", "1" * 64)

    assert sorted([other, one]) == [one, other]
    assert {one: 1}[Digest.parse(str(one))] == 1
    assert pickle.loads(pickle.dumps(one)) == one  # noqa: S301
    assert one.short == "0" * 12


@pytest.mark.parametrize("value", [None, 1, b"sha256:", ["sha256"]])
def test_other_types(value: object) -> None:
    """What is no text is refused as such."""
    with pytest.raises(TypeError):
        Digest.parse(value)  # type: ignore[arg-type]
