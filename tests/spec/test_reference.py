"""Names of images: parts, full and familiar forms, and what is said of bad ones."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jailbox.errors import InvalidReference
from jailbox.spec.digest import Digest
from jailbox.spec.reference import Reference, as_written, parse_any

HEX = "a" * 64
PIN = f"@sha256:{HEX}"

# As people write it; in full; familiar.
VECTORS: list[tuple[str, str, str]] = [
    ("ruby:2.2.4", "docker.io/library/ruby:2.2.4", "ruby:2.2.4"),
    ("wkoszek/base", "docker.io/wkoszek/base", "wkoszek/base"),
    (f"host:5000/a/b{PIN}", f"host:5000/a/b{PIN}", f"host:5000/a/b{PIN}"),
    ("debian", "docker.io/library/debian", "debian"),
    ("library/debian", "docker.io/library/debian", "debian"),
    ("docker.io/debian", "docker.io/library/debian", "debian"),
    ("docker.io/library/debian:12", "docker.io/library/debian:12", "debian:12"),
    ("index.docker.io/debian", "docker.io/library/debian", "debian"),
    ("index.docker.io/a/b", "docker.io/a/b", "a/b"),
    (
        "registry-1.docker.io/a/b",
        "registry-1.docker.io/a/b",
        "registry-1.docker.io/a/b",
    ),
    ("library/a/b", "docker.io/library/a/b", "library/a/b"),
    ("localhost/a", "localhost/a", "localhost/a"),
    ("localhost:5000/a", "localhost:5000/a", "localhost:5000/a"),
    ("localhost", "docker.io/library/localhost", "localhost"),
    ("localhost:5000", "docker.io/library/localhost:5000", "localhost:5000"),
    ("example.com", "docker.io/library/example.com", "example.com"),
    ("example.com/a", "example.com/a", "example.com/a"),
    ("example/a", "docker.io/example/a", "example/a"),
    ("Example/a", "Example/a", "Example/a"),
    ("my_host/a", "docker.io/my_host/a", "my_host/a"),
    ("127.0.0.1/a", "127.0.0.1/a", "127.0.0.1/a"),
    ("[::1]/a", "[::1]/a", "[::1]/a"),
    ("[2001:db8::1]:443/a:b", "[2001:db8::1]:443/a:b", "[2001:db8::1]:443/a:b"),
    ("a:B_.-1", "docker.io/library/a:B_.-1", "a:B_.-1"),
    (f"a{PIN}", f"docker.io/library/a{PIN}", f"a{PIN}"),
    (f"a:b{PIN}", f"docker.io/library/a:b{PIN}", f"a:b{PIN}"),
    ("a-----b/c__d/e.f", "docker.io/a-----b/c__d/e.f", "a-----b/c__d/e.f"),
    ("1a/2", "docker.io/1a/2", "1a/2"),
    ("xn--n3h.com/a", "xn--n3h.com/a", "xn--n3h.com/a"),
    ("a.b/c.d/e", "a.b/c.d/e", "a.b/c.d/e"),
    ("host:65536/a", "host:65536/a", "host:65536/a"),
]


@pytest.mark.parametrize(("text", "full", "familiar"), VECTORS)
def test_vectors(text: str, full: str, familiar: str) -> None:
    """IMG-01: a name has one full form and one familiar form, and all read as equal."""
    reference = Reference.parse(text)

    assert str(reference) == full
    assert reference.familiar() == familiar
    assert Reference.parse(full) == reference == Reference.parse(familiar)
    assert repr(reference) == f"Reference({full!r})"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("Debian", "has an upper-case letter: 'Debian'"),
        ("a/B/c", "has an upper-case letter: 'B'"),
        ("a//b", "has two slashes in a row"),
        ("a/b/", "ends with a slash"),
        ("", "is empty"),
        (":tag", "has no name"),
        ("a:-x", "has a bad tag: '-x'"),
        ("a:x:y", "has a bad part: 'a:x'"),
        ("a@sha256:xyz", "has a bad digest: 'sha256:xyz'"),
        (f"a@sha256:{'A' * 64}", "has a bad digest"),
        (f"a@sha512:{'a' * 128}", "has a digest that is not sha256"),
        ("a b", "has a bad part: 'a b'"),
        (" a", "begins or ends with a space"),
        ("https://a.b/c", "is an address"),
        ("ho_st.x/a", "has a bad registry: 'ho_st.x'"),
        ("a.b:port/c", "has a bad registry: 'a.b:port'"),
        ("_a", "has a bad part: '_a'"),
        (HEX, "is the hash of an image"),
        ("a" * 256, "is too long"),
        ("a" * 100_000, "is too long"),
    ],
)
def test_the_offending_part(text: str, part: str) -> None:
    """IMG-01: a bad name is refused with the part that is wrong."""
    with pytest.raises(InvalidReference, match=re.escape(part)) as refused:
        Reference.parse(text)
    assert refused.value.reference == text


@pytest.mark.parametrize("value", [None, 1, b"debian", ["debian"]])
def test_no_text(value: object) -> None:
    """What is no text is refused as a name."""
    with pytest.raises(InvalidReference, match="is no text"):
        Reference.parse(value)  # type: ignore[arg-type]


class TestVersions:
    """Which version of an image is meant."""

    def test_tagged(self) -> None:
        """Without tag and digest it is the latest; a digest wins over a tag."""
        assert str(Reference.parse("a").tagged()) == "docker.io/library/a:latest"
        assert str(Reference.parse("a:1").tagged()) == "docker.io/library/a:1"
        both = Reference.parse(f"a:1{PIN}").tagged()
        assert str(both) == f"docker.io/library/a{PIN}"
        assert both.tagged() is both

    def test_at(self) -> None:
        """The same name can be had with another tag, with a digest, or bare."""
        name = Reference.parse(f"a:1{PIN}")
        assert name.at("2").tag == "2"
        assert name.at("2").digest is None
        assert name.at(Digest("sha256", HEX)) == Reference.parse(f"a{PIN}")
        assert name.at(None) == Reference.parse("a")
        with pytest.raises(InvalidReference, match="is no tag"):
            name.at("-")

    def test_made_by_hand(self) -> None:
        """Parts are held to the grammar, also without a text."""
        assert Reference("h.x", "a", "1") == Reference.parse("h.x/a:1")
        for parts in (("h x", "a"), ("h.x", "A"), ("h.x", "a" * 256), ("h.x", "a", "")):
            with pytest.raises(InvalidReference):
                Reference(*parts)

    def test_any(self) -> None:
        """A digest, or its digits alone, name an image too."""
        assert parse_any(HEX) == Digest("sha256", HEX)
        assert parse_any(f"sha256:{HEX}") == Digest("sha256", HEX)
        assert parse_any(HEX[1:]) == Reference.parse(HEX[1:])
        assert parse_any("sha256:1") == Reference.parse("sha256:1")


COMPONENT = st.from_regex(r"\A[a-z0-9]{1,4}(([._]|__|-{1,3})[a-z0-9]{1,4}){0,2}\Z")
HOST = st.from_regex(
    r"\A([A-Za-z0-9]([A-Za-z0-9-]{0,4}[A-Za-z0-9])?\.[a-z]{2}|\[::[0-9a-f]{0,4}\])"
    r"(:[0-9]{1,5})?\Z"
)
TAG = st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}\Z")


@given(
    host=st.none() | HOST,
    parts=st.lists(COMPONENT, min_size=1, max_size=4),
    tag=st.none() | TAG,
    pinned=st.booleans(),
)
@example(host=None, parts=["0_0.0", "0"], tag=None, pinned=False)
def test_grammar(
    host: str | None, parts: list[str], tag: str | None, *, pinned: bool
) -> None:
    """
    Everything that the grammar makes is read, and written back the same; except where
    the first part is a registry for its dot, and none by the grammar.
    """
    path = "/".join(parts)
    version = (f":{tag}" if tag else "") + (PIN if pinned else "")
    text = (f"{host}/" if host else "") + path + version
    if host is None and re.fullmatch("[0-9a-f]{64}", text):
        return
    if host is None and len(parts) > 1 and {".", "_"} <= set(parts[0]):
        # The dot makes a registry of it, and no host has an underscore.
        with pytest.raises(InvalidReference, match="has a bad registry"):
            Reference.parse(text)
        return
    reference = Reference.parse(text)

    assert Reference.parse(str(reference)) == reference
    assert Reference.parse(reference.familiar()) == reference
    assert reference.tag == tag
    if host is not None:
        assert str(reference) == text
        written = as_written(text)
        assert (written.domain, written.path, written.tag) == (host, path, tag)


@given(st.text(st.sampled_from("aA0./:@_-[] \nsha256\u0661"), max_size=30))
def test_any_text(text: str) -> None:
    """Whatever is read is also read from its full form; the rest is refused by us."""
    try:
        reference = Reference.parse(text)
    except InvalidReference:
        return
    assert Reference.parse(str(reference)) == reference


def test_order() -> None:
    """Names can be sorted, with and without tags."""
    names = [Reference.parse(text) for text in ("b", "a:2", "a", f"a{PIN}", "a:1")]
    assert [name.path[-1] for name in sorted(names)] == ["a", "a", "a", "a", "b"]
