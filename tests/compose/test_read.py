"""YAML as compose files are written in it."""

import pytest

from jailbox.compose.read import MAX_DEPTH, MAX_NODES, plain, read
from jailbox.compose.tree import Mapping, Sequence, at
from jailbox.errors import ComposeError


def one(text: str) -> Mapping:
    """Read a text with one document."""
    (document,) = read(text, "compose.yaml")
    return document


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("yes", "yes"),
        ("on", "on"),
        ("22:22", "22:22"),
        ("0644", 420),
        ("0o644", 420),
        ("0x1F", 31),
        ("1_000", 1000),
        ("-7", -7),
        ("08", 8.0),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("~", None),
        ("", None),
        ("2001-01-01", "2001-01-01"),
        ("1.2.3", "1.2.3"),
    ],
)
def test_plain_scalars(text: str, value: object) -> None:
    """Scalars without quotes are what Go's reader takes them for."""
    found = plain(text)
    assert found == value
    assert type(found) is type(value)


def test_quotes_make_text() -> None:
    """What is quoted is text, whatever it looks like."""
    assert one("a: '1'\nb: \"true\"\nc: !!str 5\n") == {"a": "1", "b": "true", "c": "5"}


def test_places() -> None:
    """Every key knows the line and the column where it stands."""
    document = one("services:\n  web:\n    ports:\n      - 80\n")
    place = at(document, ("services", "web", "ports", 0))
    assert place is not None
    assert (place.file, place.line, place.column) == ("compose.yaml", 4, 9)


def test_absent_places() -> None:
    """What is not there stands where its nearest parent stands."""
    document = one("services:\n  web:\n    image: x\n")
    place = at(document, ("services", "web", "build", "context"))
    assert place is not None
    assert place.line == 2


def test_merge_keys() -> None:
    """Own keys win over merged ones, and the first of several over the others."""
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], x: 3}\n"
    assert one(text)["c"] == {"x": 3, "y": 1, "z": 2}


def test_anchors_of_tagged_values() -> None:
    """An alias is the value of its anchor."""
    assert one("a: &n [1, 2]\nb: *n\n")["b"] == [1, 2]


def test_documents() -> None:
    """Documents of one file come one after the other, the empty ones left out."""
    assert read("a: 1\n---\n---\nb: 2\n", "x") == [{"a": 1}, {"b": 2}]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "twice, first in line 1"),
        ("a: b: c\n", 1, "no YAML"),
        ("a: [1, 2\n", 2, "no YAML"),
        ("a: &x\n  b: *x\n", 2, "into itself"),
        ("a: *nobody\n", 1, "nobody"),
        ("1: a\n", 1, "no text"),
        ("a: {<<: 3}\n", 1, "no mapping"),
        ("a: !!int x\n", 1, "!!int"),
    ],
)
def test_mistakes(text: str, line: int, words: str) -> None:
    """A mistake is named with its file and line."""
    with pytest.raises(ComposeError) as error:
        read(text, "compose.yaml")
    assert error.value.kind == "yaml"
    assert (error.value.file, error.value.line) == ("compose.yaml", line)
    assert words in str(error.value)


def test_only_mappings() -> None:
    """A file that is no mapping is no compose file."""
    with pytest.raises(ComposeError, match="no mapping"):
        read("- a\n", "x")


def test_bombs() -> None:
    """CMP1: aliases that multiply are counted, not walked."""
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for level in range(1, 12):
        inner = ", ".join([f"*a{level - 1}"] * 10)
        text += f"a{level}: &a{level} [{inner}]\n"
    with pytest.raises(ComposeError, match=f"more than {MAX_NODES}"):
        read(text, "x")


def test_depth() -> None:
    """CMP1: nesting a hundred thousand deep is refused, and does no harm."""
    with pytest.raises(ComposeError, match=f"deeper than {MAX_DEPTH}"):
        read("a: " + "[" * 100_000, "x")


def test_no_code() -> None:
    """CMP1: a tag that would make a Python object makes text."""
    text = "a: !!python/object/apply:os.system ['true']\n"
    assert isinstance(one(text)["a"], Sequence)
