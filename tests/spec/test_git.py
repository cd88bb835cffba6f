"""Addresses of Git repositories: what is one, and what its options say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jailbox.errors import SpecError
from jailbox.spec.git import GitAddress, git_address

BASE = "https://example.com/foo.git"


@pytest.mark.parametrize(
    "text",
    [
        *("", "foo", "/foo.git", "./foo.git", "../foo.git", "foo.git", "C:\\foo.git"),
        *("https://example.com/foo", "https://example.com/foo.git/", "ftp://x/foo.git"),
        *("file:///foo.git", "https://[bad/foo.git", "git@", "a b@c:d"),
        "x" * 100_000,
    ],
)
def test_something_else(text: str) -> None:
    """A file, a path and an address of another kind are none."""
    assert git_address(text) is None


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (BASE, GitAddress(remote=BASE)),
        (f"{BASE}#v1", GitAddress(remote=BASE, ref="v1")),
        (f"{BASE}#v1:a/b", GitAddress(remote=BASE, ref="v1", subdir="a/b")),
        (f"{BASE}#:a", GitAddress(remote=BASE, subdir="a")),
        (f"{BASE}#", GitAddress(remote=BASE)),
        (f"{BASE}?submodules", GitAddress(remote=BASE, submodules=True)),
        (f"{BASE}?submodules=f", GitAddress(remote=BASE, submodules=False)),
        (f"{BASE}?keep-git-dir=1", GitAddress(remote=BASE, keep_git_dir=True)),
        (f"{BASE}?branch=refs/heads/x", GitAddress(remote=BASE, ref="refs/heads/x")),
        (
            f"{BASE}?commit=abc",
            GitAddress(remote=BASE, ref="abc", checksum="abc"),
        ),
        (f"{BASE}?ref=v1#v1", GitAddress(remote=BASE, ref="v1")),
        ("git@host:a/b", GitAddress(remote="git@host:a/b")),
        ("ssh://git@host/a/b", GitAddress(remote="ssh://git@host/a/b")),
        ("git://host/a", GitAddress(remote="git://host/a", unencrypted=True)),
        (
            "http://host/a.git",
            GitAddress(remote="http://host/a.git", unencrypted=True),
        ),
        ("github.com/a/b", GitAddress(remote="github.com/a/b", like_a_path=True)),
    ],
)
def test_parts(text: str, address: GitAddress) -> None:
    """The parts and options of an address are told apart."""
    assert git_address(text) == address


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("?tag=a&branch=b", "branch conflicts with tag"),
        ("?ref=a#b", "ref conflicts"),
        ("?subdir=a#:b", "subdir conflicts"),
        ("?tag=a&tag=b", 'query "tag" has multiple values'),
        ("?tag=", 'query "tag" has no value'),
        ("?what=1", 'unexpected query "what"'),
        ("?submodules=maybe", "invalid submodules value"),
        ("?mtime=now", "invalid mtime value"),
        ("?fetch-by-commit", "requires checksum"),
    ],
)
def test_refused(query: str, problem: str) -> None:
    """Options that make no sense are refused; a password is not shown."""
    with pytest.raises(SpecError, match=problem) as refused:
        git_address(f"https://me:secret@example.com/foo.git{query}")
    assert "secret" not in str(refused.value)


def test_short_name() -> None:
    """The short name is the last part without its ending."""
    assert GitAddress(remote="git@host:a/foo.git").short_name == "foo"


@given(st.text(st.sampled_from("git@:/.#?=&hubcomps a[]%"), max_size=40))
def test_any_text(text: str) -> None:
    """Whatever is passed, it is an address, something else, or refused by us."""
    for whole in (text, f"{BASE}{text}", f"git@host:{text}"):
        try:
            address = git_address(whole)
        except SpecError:
            continue
        assert address is None or address.remote
