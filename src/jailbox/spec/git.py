"""
Addresses of Git repositories, as Dockerfiles and build contexts write them.

``https://host/repo.git#ref:directory``, ``git@host:repo``, and options as a query:
``?tag=v1&subdir=/src``. An ``https`` address is one of Git only if its path ends with
``.git``: anything else is a file to be downloaded. Nothing is fetched here.

Source: moby/buildkit, *frontend/dockerfile/docs/reference.md*, "ADD", and
*docs/build/concepts/context.md* of docker/docs, "Git repositories".
"""

import re
from collections.abc import Mapping
from typing import Literal, TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit

import attrs

from jailbox.errors import SpecError, SpecTypeError

__all__ = ["GitAddress", "GitTimes", "git_address"]

GitTimes: TypeAlias = Literal["checkout", "commit"]

_TEXT_MAX = 8192
_SCHEMES = ("http", "https", "ssh", "git")
_SCHEME = re.compile(r"([a-zA-Z0-9]+)://")
_SCP = re.compile(
    r"(?P<remote>[A-Za-z0-9_-]+@[A-Za-z0-9.-]+:[^?#]*)"
    r"(?:\?(?P<query>[^#]*))?(?:#(?P<fragment>.*))?"
)
_GITHUB = "github.com/"
_TRUE = {"1", "t", "T", "TRUE", "true", "True"}
_FALSE = {"0", "f", "F", "FALSE", "false", "False"}


@attrs.frozen(kw_only=True)
class GitAddress:
    """
    A repository, what of it, and how to get it.

    >>> git_address("https://example.com/foo.git#v1:src")
    GitAddress(remote='https://example.com/foo.git', ref='v1', subdir='src')

    Attributes:
        remote: What ``git fetch`` is given.

        ref: Branch, tag or commit; ``None`` for the usual one.

        subdir: The directory that is wanted; ``None`` for all.

        checksum: The commit that the ref must lead to, or the beginning of it.

        keep_git_dir: Whether ``.git`` is kept; ``None`` if that is not said.

        submodules: Whether submodules are fetched; ``None`` if that is not said.

        mtime: Which times files get; ``None`` if that is not said.

        fetch_by_commit: Whether the commit is asked for, and not the ref.

        like_a_path: Whether it could as well be a local path: ``github.com/a/b``.

        unencrypted: Whether it is fetched in the clear.
    """

    remote: str
    ref: str | None = None
    subdir: str | None = None
    checksum: str | None = None
    keep_git_dir: bool | None = None
    submodules: bool | None = None
    mtime: GitTimes | None = None
    fetch_by_commit: bool = False
    like_a_path: bool = False
    unencrypted: bool = False

    @property
    def short_name(self) -> str:
        """The name of the repository without directories: ``foo``."""
        return self.remote.rpartition("/")[2].removesuffix(".git")

    def __repr__(self) -> str:
        fields = attrs.fields(GitAddress)
        given = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields
            if getattr(self, field.name) != field.default
        ]
        return f"GitAddress({', '.join(given)})"


def git_address(text: str) -> GitAddress | None:
    """
    Read the address of a Git repository; ``None`` if it is something else.

    Raises:
        SpecError: If it is one, but its options make no sense.
    """
    if not isinstance(text, str):
        raise SpecTypeError("address", "is no text", value=text, accepted="str")
    if len(text) > _TEXT_MAX or text.startswith(("./", "../")):
        return None
    found = _split(text)
    if found is None:
        return None
    query, fragment, address = found
    ref, _, subdir = fragment.partition(":")
    address = attrs.evolve(address, ref=ref or None, subdir=subdir or None)
    return _with_options(address, _options(query))


def _split(text: str) -> tuple[str, str, GitAddress] | None:
    """Split into query, fragment, and what is before them."""
    scheme = _SCHEME.match(text)
    like_a_path = text.startswith(_GITHUB)
    if scheme is None and not like_a_path:
        scp = _SCP.fullmatch(text)
        if scp is None:
            return None
        remote = GitAddress(remote=scp["remote"])
        return scp["query"] or "", scp["fragment"] or "", remote
    if scheme is not None and scheme[1].lower() not in _SCHEMES:
        return None
    try:
        url = urlsplit(f"https://{text}" if like_a_path else text)
    except ValueError:
        return None
    is_file = not unquote(url.path).endswith(".git")
    if is_file and url.scheme in {"http", "https"} and not like_a_path:
        return None
    bare = f"{url.netloc}{url.path}"
    address = GitAddress(
        remote=bare if like_a_path else f"{url.scheme}://{bare}",
        like_a_path=like_a_path,
        unencrypted=url.scheme in {"http", "git"},
    )
    return url.query, unquote(url.fragment), address


def _refusal(problem: str) -> SpecError:
    # The address itself is not shown: there may be a password in it.
    return SpecError("git address:", problem)


def _options(query: str) -> Mapping[str, str]:
    options: dict[str, str] = {}
    try:
        given = parse_qs(query, keep_blank_values=True, max_num_fields=100)
    except ValueError:
        raise _refusal("malformed query") from None
    for name, values in given.items():
        if len(values) > 1:
            raise _refusal(f'query "{name}" has multiple values')
        options[name] = values[0]
    return options


_SWITCHES = ("submodules", "keep-git-dir", "fetch-by-commit")
_NAMES = ("ref", "tag", "branch", "subdir", "checksum", "commit", "mtime", *_SWITCHES)


def _switch(options: Mapping[str, str], name: str) -> bool | None:
    if name not in options:
        return None
    value = options[name]
    if value in _TRUE or not value:
        return True
    if value in _FALSE:
        return False
    raise _refusal(f'invalid {name} value: "{value}"')


def _with_options(address: GitAddress, options: Mapping[str, str]) -> GitAddress:
    for name, value in options.items():
        if name not in _NAMES:
            raise _refusal(f'unexpected query "{name}"')
        if not value and name not in _SWITCHES:
            raise _refusal(f'query "{name}" has no value')
    tag, branch = options.get("tag"), options.get("branch")
    ref = _agreed("ref", address.ref, options.get("ref"))
    if tag is not None:
        ref = _agreed("ref", ref, _prefixed("refs/tags/", tag))
    if branch is not None:
        if tag is not None:
            raise _refusal("branch conflicts with tag")
        ref = _agreed("ref", ref, _prefixed("refs/heads/", branch))
    checksum = options.get("commit", options.get("checksum"))
    by_commit = _switch(options, "fetch-by-commit") or False
    if by_commit and checksum is None:
        raise _refusal("fetch-by-commit requires checksum")
    if ref is None and not by_commit:
        ref = checksum
    return attrs.evolve(
        address,
        ref=ref,
        subdir=_agreed("subdir", address.subdir, options.get("subdir")),
        checksum=checksum,
        keep_git_dir=_switch(options, "keep-git-dir"),
        submodules=_switch(options, "submodules"),
        mtime=_times(options.get("mtime")),
        fetch_by_commit=by_commit,
    )


def _times(value: str | None) -> GitTimes | None:
    if value is None:
        return None
    if value == "checkout":
        return "checkout"
    if value == "commit":
        return "commit"
    raise _refusal(f'invalid mtime value: "{value}"')


def _prefixed(prefix: str, name: str) -> str:
    return name if name.startswith(prefix) else prefix + name


def _agreed(what: str, one: str | None, other: str | None) -> str | None:
    """Take what is said in two places, if they do not differ."""
    if one is not None and other is not None and one != other:
        raise _refusal(f'{what} conflicts: "{one}" vs "{other}"')
    return one if other is None else other
