"""Texts for the kernel."""

from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jailbox.errors import SpecError, SpecTypeError
from jailbox.spec.texts import absolute_path, bytes_of, text_of

# A busy machine is no failure.
UNHURRIED = settings(deadline=None)

# What the types forbid and people pass nevertheless.
Wrong: TypeAlias = Any


class TestTextOf:
    """One type for text."""

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ("a", "a"),
            (b"a", "a"),
            (b"\xff", "\udcff"),
            ("ä", "ä"),
            (PurePosixPath("/a"), "/a"),
            ("", ""),
        ],
        ids=repr,
    )
    def test_accepted(self, value: str, text: str) -> None:
        """Text, bytes and path objects become str; no byte is lost."""
        assert text_of(value, "argv") == text

    @UNHURRIED
    @given(st.binary().filter(lambda value: b"\0" not in value))
    def test_round_trip(self, value: bytes) -> None:
        """Bytes come back as they were."""
        assert bytes_of(text_of(value, "argv")) == value

    @pytest.mark.parametrize("value", ["a\0b", b"a\0b", "\0"], ids=repr)
    def test_nul(self, value: str) -> None:
        """A NUL would cut the text off in the kernel, and is refused."""
        with pytest.raises(SpecError, match="has a NUL character"):
            text_of(value, "argv")

    def test_surrogate(self) -> None:
        """A surrogate that stands for no byte cannot be encoded, and is refused."""
        with pytest.raises(SpecError, match="cannot be encoded"):
            text_of("a\ud800", "argv")

    @pytest.mark.parametrize("value", [None, 1, 1.5, ["a"], Path, object()])
    def test_wrong_type(self, value: Wrong) -> None:
        """Numbers, lists and classes are no text."""
        with pytest.raises(SpecTypeError, match="is no text"):
            text_of(value, "argv")

    @pytest.mark.parametrize("value", ["hush\0", "hush\ud800", ["hush"]])
    def test_secret(self, value: Wrong) -> None:
        """A secret is on no attribute of the error."""
        with pytest.raises(SpecError) as caught:
            text_of(value, "env", secret=True)
        assert "hush" not in repr(vars(caught.value))


class TestAbsolutePath:
    """One spelling for a path."""

    @pytest.mark.parametrize(
        ("value", "path"),
        [
            ("/", "/"),
            ("//", "/"),
            ("/a", "/a"),
            ("/a/", "/a"),
            ("//a///b/./c/.", "/a/b/c"),
            ("/a/..", "/a/.."),
            ("/.hidden/...", "/.hidden/..."),
            (b"/a\xff", "/a\udcff"),
        ],
    )
    def test_spelling(self, value: str, path: str) -> None:
        """Double and final slashes and "." go; ".." stays."""
        assert absolute_path(value, "cwd") == path

    @pytest.mark.parametrize("value", ["", "a", "./a", "../a", "~/a", b"a"], ids=repr)
    def test_relative(self, value: str) -> None:
        """A relative path is refused: relative to what?"""
        with pytest.raises(SpecError, match=r"is not absolute \(accepted: a path"):
            absolute_path(value, "cwd")

    @UNHURRIED
    @given(st.text(st.sampled_from("/.a")))
    def test_idempotent(self, text: str) -> None:
        """Spelled once, a path stays as it is."""
        path = absolute_path(f"/{text}", "cwd")

        assert absolute_path(path, "cwd") == path
        assert "//" not in path
        assert path == "/" or not path.endswith("/")
