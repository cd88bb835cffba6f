"""
``.dockerignore``: which paths of a context are left out.

Patterns are Go's path patterns with ``**`` for any directories, and ``!`` to take
back; the last that fits decides, and what fits a directory fits all beneath it
(Dockerfile reference, ".dockerignore file").
"""

import posixpath
import re
from collections.abc import Iterable
from functools import cached_property

from attrs import field, frozen

from jailbox.errors import SpecError

__all__ = ["Ignore", "Pattern", "read_patterns"]

_WILD = frozenset("*?[\\")
# With more stars than this a regular expression may take long: then we step ourselves.
_STARS_MAX = 3


def read_patterns(text: str) -> tuple[str, ...]:
    """Read the patterns of an ignore file; comments and empty lines are none."""
    found = []
    for line in text.removeprefix("\ufeff").split("\n"):
        if line.startswith("#"):
            continue
        pattern = line.strip()
        if not pattern:
            continue
        sign = "!" if pattern.startswith("!") else ""
        pattern = pattern.removeprefix("!").strip()
        if pattern:
            pattern = _clean(pattern)
            if len(pattern) > 1:
                pattern = pattern.removeprefix("/")
        found.append(sign + pattern)
    return tuple(found)


@frozen
class Pattern:
    """
    One pattern of an ignore file.

    Attributes:
        text: The pattern, cleaned, without its ``!``.

        takes_back: Whether what fits is left in after all.
    """

    text: str
    takes_back: bool

    @classmethod
    def parse(cls, text: str) -> "Pattern":
        """
        Read a pattern.

        Raises:
            SpecError: It is ``!`` alone, or has a bracket that makes no sense.
        """
        pattern = _clean(text.strip())
        takes_back = pattern.startswith("!")
        if takes_back:
            pattern = pattern[1:]
            if not pattern:
                raise SpecError(".dockerignore", "has '!' with no pattern after it")
        _check(pattern)
        return cls(pattern, takes_back)

    @cached_property
    def _tokens(self) -> tuple[str, ...]:
        return tuple(_tokens(self.text))

    @cached_property
    def _regex(self) -> re.Pattern[str] | None:
        """The pattern as a regular expression, if it is one that is quick."""
        stars = sum(token in _ANY for token in self._tokens)
        if stars > _STARS_MAX:
            return None
        return re.compile(
            "".join(_REGEX.get(one, one) for one in self._tokens), re.DOTALL
        )

    def fits(self, path: str) -> bool:
        """Tell whether the pattern fits *path* itself, whatever fits its parents."""
        text = self.text
        if text == "**":
            return True
        bare = text.removeprefix("**") if text.startswith("**/") else text
        if not _WILD.intersection(bare):
            if bare is not text:
                return path.endswith(bare) or path == bare[1:]
            return path == text
        regex = self._regex
        if regex is not None:
            return regex.fullmatch(path) is not None
        return _steps(self._tokens, path)

    @cached_property
    def root(self) -> str:
        """What every path that fits begins with: the part before any wildcard."""
        parts: list[str] = []
        for part in self.text.split("/"):
            if _WILD.intersection(part):
                return "".join(f"{one}/" for one in parts)
            parts.append(part)
        return self.text


@frozen
class Ignore:
    """
    The patterns of an ignore file, in their order.

    Attributes:
        patterns: The patterns.
    """

    patterns: tuple[Pattern, ...] = field()

    @classmethod
    def of(cls, patterns: Iterable[str]) -> "Ignore":
        """
        Read patterns.

        Raises:
            SpecError: One of them makes no sense.
        """
        return cls(tuple(Pattern.parse(one) for one in patterns if one.strip()))

    @classmethod
    def parse(cls, text: str) -> "Ignore":
        """
        Read an ignore file.

        Raises:
            SpecError: A pattern makes no sense.
        """
        return cls.of(read_patterns(text))

    def ignores(self, path: str) -> bool:
        """
        Tell whether a path is left out, by itself or with one of its directories.

        Args:
            path: The path in the context, with slashes and without one in front.
        """
        path = posixpath.normpath(path) if path.endswith("/") else path
        parents = [path[:position] for position, char in enumerate(path) if char == "/"]
        ignored = False
        for pattern in self.patterns:
            # A pattern that could not change the answer is not looked at.
            if pattern.takes_back == ignored and (
                pattern.fits(path) or any(map(pattern.fits, parents))
            ):
                ignored = not pattern.takes_back
        return ignored

    def prunes(self, directory: str) -> bool:
        """
        Tell whether a directory need not be entered: all beneath it is left out.

        False wherever a later ``!`` may take something back.
        """
        if not self.ignores(directory):
            return False
        inside = f"{directory}/"
        return not any(
            pattern.takes_back
            and (pattern.root.startswith(inside) or inside.startswith(pattern.root))
            for pattern in self.patterns
        )


def _clean(path: str) -> str:
    """Shorten a path as Go's `filepath.Clean` does: two slashes in front are one."""
    cleaned = posixpath.normpath(path) if path else path
    return cleaned[1:] if cleaned.startswith("//") else cleaned


_DIRS, _ALL, _STAR, _ONE = "dirs", "all", "star", "one"
_ANY = frozenset((_DIRS, _ALL, _STAR))
_REGEX = {_DIRS: "(?:.*/)?", _ALL: ".*", _STAR: "[^/]*", _ONE: "[^/]"}


def _tokens(pattern: str) -> list[str]:
    """Split a pattern into wildcards and regular expressions of one character."""
    found: list[str] = []
    position = 0
    while position < len(pattern):
        char = pattern[position]
        position += 1
        if char == "*" and pattern[position : position + 1] == "*":
            position += 1
            if pattern[position : position + 1] == "/":
                position += 1
            token = _DIRS if position < len(pattern) else _ALL
            if not found or found[-1] != token:
                found.append(token)
        elif char == "*":
            if not found or found[-1] != _STAR:
                found.append(_STAR)
        elif char == "?":
            found.append(_ONE)
        elif char == "\\" and position < len(pattern):
            found.append(re.escape(pattern[position]))
            position += 1
        elif char == "[":
            end = _bracket(pattern, position)
            found.append(_class(pattern[position:end]))
            position = end + 1
        else:
            found.append(re.escape(char))
    return found


def _class(inside: str) -> str:
    """Write a bracket as Python's: nothing in it nests."""
    sign = "^" if inside.startswith("^") else ""
    body = inside.removeprefix("^")
    safe = re.sub(r"([\[&~|])", r"\\\1", body)
    return f"[{sign}{safe}]"


def _steps(tokens: tuple[str, ...], path: str) -> bool:
    """
    Match without going back: step with all places of the pattern that may be current.

    A place is the number of a token. Any directories of which part was taken are
    written as the complement of their number: they must be ended by a slash.
    """
    places = _spread({0}, tokens)
    for char in path:
        following: set[int] = set()
        for place in places:
            number = ~place if place < 0 else place
            if number == len(tokens):
                continue
            token = tokens[number]
            if token == _DIRS:
                following.add(~number)
                if char == "/":
                    following.add(number + 1)
            elif token == _ALL or (token == _STAR and char != "/"):
                following.add(number)
            elif token == _ONE:
                if char != "/":
                    following.add(number + 1)
            elif token != _STAR and re.fullmatch(token, char, re.DOTALL):
                following.add(number + 1)
        places = _spread(following, tokens)
        if not places:
            return False
    return len(tokens) in places


def _spread(places: set[int], tokens: tuple[str, ...]) -> set[int]:
    """Add the places that are reached without a character."""
    found = set(places)
    stack = [place for place in places if place >= 0]
    while stack:
        place = stack.pop()
        optional = place < len(tokens) and tokens[place] in _ANY
        if optional and place + 1 not in found:
            found.add(place + 1)
            stack.append(place + 1)
    return found


def _bracket(pattern: str, position: int) -> int:
    """Return where a bracket is closed, as Go's `filepath.Match` reads it."""
    start = position
    if pattern[position : position + 1] == "^":
        position += 1
    ranges = 0
    while position < len(pattern):
        if pattern[position] == "]" and ranges:
            return position
        position = _end(pattern, position)
        if pattern[position : position + 1] == "-":
            position = _end(pattern, position + 1)
        ranges += 1
    raise SpecError(
        ".dockerignore", f"has a bracket that is not closed: [{pattern[start:]}"
    )


def _end(pattern: str, position: int) -> int:
    """Skip one end of a range."""
    char = pattern[position : position + 1]
    if char == "\\":
        position += 1
        char = pattern[position : position + 1]
        if char:
            return position + 1
    if not char or char in "-]":
        raise SpecError(
            ".dockerignore", f"has a bracket that makes no sense in {pattern!r}"
        )
    return position + 1


def _check(pattern: str) -> None:
    """Raise unless Go's `filepath.Match` takes the pattern."""
    position = 0
    while position < len(pattern):
        char = pattern[position]
        position += 1
        if char == "[":
            position = _bracket(pattern, position) + 1
        elif char == "\\":
            if position == len(pattern):
                raise SpecError(".dockerignore", f"ends in a backslash: {pattern!r}")
            position += 1
