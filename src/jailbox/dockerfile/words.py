"""
Words of a Dockerfile: variables put in, quotes taken off.

A small part of a shell: ``$name``, ``${name}`` with the operators below, quotes and
escapes. No command runs, and no path is looked at.

=============================  ================================================
``${name:-word}``              *word* if name is not set or empty (``-``: not set)
``${name:+word}``              *word* if name is set and not empty (``+``: set)
``${name:?word}``              an error if name is not set or empty (``?``: not set)
``${name#p}``, ``${name##p}``  without the shortest, the longest prefix like *p*
``${name%p}``, ``${name%%p}``  without the shortest, the longest suffix like *p*
``${name/p/word}``             the first part like *p* replaced (``//``: all parts)
=============================  ================================================

The forms and their order are those of BuildKit's frontend (Dockerfile reference,
"Environment replacement").
"""

import re
from collections.abc import Mapping

from attrs import define, field, frozen

__all__ = ["Expanded", "WordError", "expand", "expand_words"]

_SPECIAL = "@*#?-$!0"
_DEPTH_MAX = 50


class WordError(ValueError):
    """A word of a Dockerfile makes no sense; the text says why."""


@frozen
class Expanded:
    """
    A word with its variables put in.

    Attributes:
        text: The word.

        words: The same, split at spaces that no quote protects.

        used: The variables that it names and that are set.

        unset: The variables that it names and that are not.
    """

    text: str
    words: tuple[str, ...]
    used: frozenset[str]
    unset: frozenset[str]


def expand(word: str, env: Mapping[str, str], escape: str = "\\") -> str:
    """
    Put variables into a word, and take off its quotes.

    Args:
        word: The word.

        env: The variables.

        escape: The escape character of the file.

    Raises:
        WordError: A quote or a brace is not closed, an operator is none, or a
            variable that is required is missing.
    """
    return look_at(word, env, escape).text


def expand_words(
    text: str, env: Mapping[str, str], escape: str = "\\"
) -> tuple[str, ...]:
    """Put variables into a text, then split it at spaces that no quote protects."""
    return look_at(text, env, escape).words


def look_at(
    text: str,
    env: Mapping[str, str],
    escape: str = "\\",
    *,
    keep_quotes: bool = False,
    keep_escapes: bool = False,
    keep_unset: bool = False,
) -> Expanded:
    """
    Read a word, and say which variables it uses.

    Args:
        text: The word.

        env: The variables.

        escape: The escape character of the file.

        keep_quotes: Leave quotes where they are.

        keep_escapes: Leave escape characters where they are.

        keep_unset: Leave variables that are not set as they are written.

    Raises:
        WordError: The word makes no sense.
    """
    lexer = _Lexer(text, env, escape, keep_quotes, keep_escapes, keep_unset)
    found = lexer.until("", raw=keep_escapes)
    return Expanded(
        found.text, found.split(), frozenset(lexer.used), frozenset(lexer.unset)
    )


@define
class _Text:
    """Text that is being made, and the words it falls into."""

    parts: list[str] = field(factory=list)
    words: list[str] = field(factory=list)
    word: str = ""

    @property
    def text(self) -> str:
        return "".join(self.parts)

    def add(self, text: str, *, whole: bool) -> None:
        """Add text; unless it is *whole*, spaces in it end a word."""
        self.parts.append(text)
        if whole:
            self.word += text
            return
        for char in text:
            if not char.isspace():
                self.word += char
            elif self.word:
                self.words.append(self.word)
                self.word = ""

    def split(self) -> tuple[str, ...]:
        return (*self.words, self.word) if self.word else tuple(self.words)


@define
class _Lexer:
    source: str
    env: Mapping[str, str]
    escape: str
    keep_quotes: bool
    keep_escapes: bool
    keep_unset: bool
    position: int = 0
    depth: int = 0
    used: set[str] = field(factory=set)
    unset: set[str] = field(factory=set)

    def peek(self) -> str:
        return self.source[self.position : self.position + 1]

    def next(self) -> str:
        char = self.peek()
        self.position += 1
        return char

    def until(self, stop: str, *, raw: bool) -> _Text:
        """Read up to *stop* (the end, if it is empty), which is taken as well."""
        found = _Text()
        while char := self.peek():
            if char == stop:
                self.position += 1
                return found
            if char == "'":
                found.add(self.single(), whole=True)
            elif char == '"':
                found.add(self.double(), whole=True)
            elif char == "$":
                found.add(self.dollar(), whole=False)
            elif self.next() == self.escape:
                if raw:
                    found.add(char, whole=True)
                found.add(self.next(), whole=True)
            else:
                found.add(char, whole=False)
        if stop:
            raise WordError(f"ends before the {stop!r} that is missing")
        return found

    def single(self) -> str:
        end = self.source.find("'", self.position + 1)
        if end < 0:
            raise WordError("ends within single quotes")
        inside = self.source[self.position + 1 : end]
        self.position = end + 1
        return f"'{inside}'" if self.keep_quotes else inside

    def double(self) -> str:
        self.position += 1
        parts: list[str] = []
        while char := self.peek():
            if char == '"':
                self.position += 1
                inside = "".join(parts)
                return f'"{inside}"' if self.keep_quotes else inside
            if char == "$":
                parts.append(self.dollar())
                continue
            self.position += 1
            if char == self.escape:
                if self.keep_escapes:
                    parts.append(char)
                following = self.peek()
                if not following:
                    continue
                if following in ('"', "$", self.escape):
                    char = self.next()
            parts.append(char)
        raise WordError("ends within double quotes")

    def name(self) -> str:
        first = self.peek()
        if first and first in _SPECIAL and not first.isdigit():
            return self.next()
        start = self.position
        digits = first.isdecimal()
        while char := self.peek():
            if digits and not char.isdecimal():
                break
            if not (char == "_" or char.isalpha() or char.isdecimal()):
                break
            self.position += 1
        return self.source[start : self.position]

    def value(self, name: str) -> str | None:
        found = self.env.get(name)
        (self.unset if found is None else self.used).add(name)
        return found

    def dollar(self) -> str:
        self.depth += 1
        if self.depth > _DEPTH_MAX:
            raise WordError(f"nests variables deeper than {_DEPTH_MAX}")
        try:
            self.position += 1
            if self.peek() == "{":
                self.position += 1
                return self.braced()
            name = self.name()
            if not name:
                return "$"
            value = self.value(name)
            if value is None:
                return f"${name}" if self.keep_unset else ""
            return value
        finally:
            self.depth -= 1

    def braced(self) -> str:
        first = self.peek()
        if not first:
            raise WordError("ends before the '}' that is missing")
        if first in "{}:":
            raise WordError("has a substitution without a name")
        name = self.name()
        operator = self.next()
        if operator == "}":
            value = self.value(name)
            if value is None:
                return f"${{{name}}}" if self.keep_unset else ""
            return value
        if operator == "/":
            return self.replaced(name)
        empty_is_unset = operator == ":"
        if empty_is_unset:
            operator = self.next()
        shown = f":{operator}" if empty_is_unset else operator
        known = "+-?" if empty_is_unset else "+-?#%"
        if not operator or operator not in known:
            raise WordError(f"has the modifier {shown!r}, which is none here")
        word = self.until("}", raw=operator in "#%").text
        value = self.value(name)
        if value is None and self.keep_unset:
            return f"${{{name}{shown}{word}}}"
        missing = value is None or (empty_is_unset and not value)
        match operator:
            case "-":
                return word if missing else value or ""
            case "+":
                return "" if missing else word
            case "?":
                if missing:
                    why = word or ("is empty" if value is not None else "is not set")
                    raise WordError(f"needs the variable {name}: {why}")
                return value or ""
        longest = word.startswith(operator)
        pattern = word[1:] if longest else word
        return _trimmed(value or "", pattern, longest=longest, at_end=operator == "%")

    def replaced(self, name: str) -> str:
        everywhere = self.peek() == "/"
        if everywhere:
            self.position += 1
        pattern = self.until("/", raw=True).text
        word = self.until("}", raw=True).text
        value = self.value(name)
        if value is None and self.keep_unset:
            slashes = "//" if everywhere else "/"
            return f"${{{name}{slashes}{pattern}/{word}}}"
        regex = re.compile("".join(_regex(pattern, longest=True)), re.DOTALL)
        return regex.sub(lambda _found: word, value or "", count=not everywhere)


def _regex(pattern: str, *, longest: bool) -> list[str]:
    """Translate a shell pattern, part by part: ``*``, ``?`` and escapes."""
    parts: list[str] = []
    position = 0
    while position < len(pattern):
        char = pattern[position]
        position += 1
        if char == "*":
            star = ".*" if longest else ".*?"
            # Several stars are one: so no pattern makes matching slow.
            if not parts or parts[-1] != star:
                parts.append(star)
        elif char == "?":
            parts.append(".")
        elif char == "\\" and position < len(pattern):
            parts.append(re.escape(pattern[position]))
            position += 1
        else:
            parts.append(re.escape(char))
    return parts


def _trimmed(value: str, pattern: str, *, longest: bool, at_end: bool) -> str:
    """Take off the part at the beginning, or at the end, that is like *pattern*."""
    parts = _regex(pattern, longest=longest)
    if at_end:
        parts.reverse()
        value = value[::-1]
    found = re.compile("".join(parts), re.DOTALL).match(value)
    rest = value[found.end() :] if found else value
    return rest[::-1] if at_end else rest
