"""
Text of a Dockerfile to instructions as they are written.

Continued lines are joined, comments left out, here-documents collected; a keyword, its
flags and its arguments are told apart. What an instruction means is none of this
room's: `FOO bar` is an instruction here. The rules are those of BuildKit's parser.
"""

import json
import re
from collections.abc import Iterator

from attrs import field, frozen

from jailbox.dockerfile.words import WordError, look_at
from jailbox.errors import DockerfileError

__all__ = ["Heredoc", "Source", "Written", "read_source"]

MAX_BYTES = 16 * 1024 * 1024
"""The largest Dockerfile."""

_BLANKS = "\t\v\f\r "
_SPACES = re.compile(r"[\t\v\f\r ]+")
_DIRECTIVE = re.compile(r"#[\t\v\f\r ]*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*")
_HEREDOC = re.compile(r"([0-9]*)<<(-?)([^<]*)")
_APART = re.compile(r"[0-9]*<<")
_DIRECTIVES = ("check", "escape", "syntax")

_WITH_HEREDOCS = ("add", "copy", "run")
_WORDS = ("add", "copy", "volume")
_COMMANDS = ("cmd", "entrypoint", "run", "shell")
_PAIRS = ("env", "label")
_WHOLE = ("maintainer", "stopsignal", "user", "workdir")
_SPLIT = ("expose", "from")


@frozen
class Heredoc:
    """
    A here-document.

    Attributes:
        name: The word that ends it.

        content: Its lines, as they are written.

        expands: Whether variables in it are filled in: its name has no quotes.

        chomps: Whether tabs at the beginning of its lines are taken off (``<<-``).
    """

    name: str
    content: str
    expands: bool
    chomps: bool

    @property
    def text(self) -> str:
        """The lines, without the tabs that ``<<-`` takes off."""
        if not self.chomps:
            return self.content
        return "".join(
            line.lstrip("\t") for line in self.content.splitlines(keepends=True)
        )


@frozen
class Written:
    """
    An instruction as it is written.

    Attributes:
        keyword: The first word, in small letters.

        spelled: The first word as it is written.

        flags: Words after it that begin with ``--``.

        arguments: What follows: the elements of a JSON form; one text for commands
            and the like; names and values for ENV and LABEL; else words.

        is_json: Whether the arguments are in JSON form.

        heredocs: Here-documents, in the order of their names.

        trigger: The instruction of an ONBUILD.

        first: The first line, from 1.

        last: The last line.

        text: The instruction, its lines joined.

        comments: The comment lines right before it.
    """

    keyword: str
    spelled: str
    flags: tuple[str, ...]
    arguments: tuple[str, ...]
    is_json: bool
    heredocs: tuple[Heredoc, ...]
    trigger: "Written | None"
    first: int
    last: int
    text: str
    comments: tuple[str, ...] = ()


@frozen
class Source:
    """
    A Dockerfile as it is written.

    Attributes:
        name: Name of the file.

        escape: The escape character.

        directives: What its head says: ``syntax``, ``escape``, ``check``.

        instructions: Everything that is no comment.

        gaps: Lines that are empty within an instruction.
    """

    name: str
    escape: str
    directives: dict[str, tuple[str, int]] = field(hash=False)
    instructions: tuple[Written, ...]
    gaps: tuple[int, ...] = ()


def read_source(text: str, name: str = "Dockerfile") -> Source:
    """
    Read a Dockerfile.

    Args:
        text: What is in the file.

        name: Its name, for errors.

    Raises:
        DockerfileError: It has no instructions, a here-document is not ended, or an
            instruction cannot be told apart into its parts.
    """
    if len(text) > MAX_BYTES:
        raise DockerfileError(name, 1, f"has {len(text)} characters, past {MAX_BYTES}")
    lines = text.removeprefix("\ufeff").split("\n")
    if lines and not lines[-1]:
        lines.pop()
    directives = _directives(lines, name)
    escape = directives.get("escape", ("\\", 0))[0]
    reader = _Reader(name, lines, escape)
    # They stand in a row at the head: no comments of the first instruction.
    reader.position = len(directives)
    instructions = tuple(reader.instructions())
    if not instructions:
        raise DockerfileError(
            name, max(len(lines), 1), "has no instructions", hint="Begin with FROM."
        )
    return Source(name, escape, directives, instructions, tuple(reader.gaps))


def _directives(lines: list[str], name: str) -> dict[str, tuple[str, int]]:
    """Read the comments at the head that say how to read the file."""
    found: dict[str, tuple[str, int]] = {}
    for number, line in enumerate(lines, start=1):
        match = _DIRECTIVE.fullmatch(line.lstrip(_BLANKS).rstrip("\r"))
        if match is None or match[1].lower() not in _DIRECTIVES:
            break
        key, value = match[1].lower(), match[2]
        if key in found:
            raise DockerfileError(
                name, number, f"has the directive {key!r} twice; it can be there once"
            )
        if key == "escape" and value not in ("\\", "`"):
            raise DockerfileError(
                name, number, f"has the escape character {value!r}; it is \\ or `"
            )
        found[key] = (value, number)
    return found


class _Reader:
    def __init__(self, name: str, lines: list[str], escape: str) -> None:
        self.name = name
        self.lines = lines
        self.escape = escape
        self.position = 0
        self.gaps: list[int] = []
        token = re.escape(escape)
        self.continued = re.compile(rf"(?:([^{token}])|^){token}[ \t]*$")

    def instructions(self) -> Iterator[Written]:
        comments: list[str] = []
        while self.position < len(self.lines):
            line = self.lines[self.position].rstrip("\r").lstrip(_BLANKS)
            self.position += 1
            first = self.position
            if line.startswith("#"):
                comments.append(line[1:].strip())
                continue
            text, ended = self.part(line)
            if ended and not text:
                comments = []
                continue
            parts = [text]
            while not ended and self.position < len(self.lines):
                line = self.lines[self.position].rstrip("\r")
                self.position += 1
                bare = line.lstrip(_BLANKS)
                if bare.startswith("#"):
                    continue
                if not bare:
                    self.gaps.append(self.position)
                    continue
                text, ended = self.part(line)
                parts.append(text)
            yield self.written("".join(parts), first, tuple(comments))
            comments = []

    def part(self, line: str) -> tuple[str, bool]:
        """Take off the character that continues a line; tell whether there was none."""
        found = self.continued.search(line)
        if found is None:
            return line, True
        return line[: found.start()] + (found[1] or ""), False

    def written(self, text: str, first: int, comments: tuple[str, ...]) -> Written:
        spelled, flags, rest = _split(text)
        keyword = spelled.lower()
        is_json, arguments, trigger = self.arguments(keyword, rest, first)
        holder = keyword if trigger is None else trigger.keyword
        plain = not (is_json or (trigger is not None and trigger.is_json))
        heredocs: tuple[Heredoc, ...] = ()
        if holder in _WITH_HEREDOCS and plain and "<<" in text:
            heredocs = tuple(self.heredocs(text, first))
        return Written(
            keyword,
            spelled,
            flags,
            arguments,
            is_json,
            heredocs,
            trigger,
            first,
            self.position,
            text,
            comments,
        )

    def arguments(
        self, keyword: str, rest: str, line: int
    ) -> tuple[bool, tuple[str, ...], Written | None]:
        """Tell the arguments of an instruction apart, by its keyword."""
        if keyword == "onbuild":
            return False, (), self.trigger(rest, line)
        if keyword == "healthcheck":
            kind, _, command = rest.partition(_first_space(rest))
            is_json, arguments = self.command(command.lstrip(), line)
            return is_json, ((kind, *arguments) if kind else ()), None
        if keyword in _COMMANDS:
            return (*self.command(rest, line), None)
        if keyword in _WORDS:
            found = self.json(rest, line)
            if found is not None:
                return True, found, None
            return False, tuple(_SPACES.split(rest)) if rest else (), None
        if keyword in _SPLIT:
            return False, tuple(_SPACES.split(rest)) if rest else (), None
        if keyword == "arg":
            return False, tuple(self.quoted_words(rest)), None
        if keyword in _PAIRS:
            return False, tuple(self.pairs(keyword, rest, line)), None
        if keyword in _WHOLE:
            return False, (rest,) if rest else (), None
        return False, ("",), None

    def command(self, rest: str, line: int) -> tuple[bool, tuple[str, ...]]:
        found = self.json(rest, line)
        if found is not None:
            return True, found
        return False, (rest,) if rest else ()

    def json(self, rest: str, line: int) -> tuple[str, ...] | None:
        """Read a JSON form; what is none is no error, it is the other form."""
        rest = rest.lstrip()
        if not rest.startswith("["):
            return None
        try:
            value = json.loads(rest)
        except (ValueError, RecursionError):
            return None
        if not all(isinstance(one, str) for one in value):
            raise DockerfileError(
                self.name, line, "has a JSON form with what is no string in it"
            )
        return tuple(value)

    def trigger(self, rest: str, line: int) -> Written | None:
        if not rest:
            return None
        spelled, flags, inner = _split(rest)
        keyword = spelled.lower()
        is_json, arguments, trigger = self.arguments(keyword, inner, line)
        return Written(
            keyword, spelled, flags, arguments, is_json, (), trigger, line, line, rest
        )

    def pairs(self, keyword: str, rest: str, line: int) -> Iterator[str]:
        words = list(self.quoted_words(rest))
        if not words:
            return
        if "=" not in words[0]:
            # The old form: a name, and all that follows is its value.
            parts = _SPACES.split(rest, maxsplit=1)
            if len(parts) == 1:
                raise DockerfileError(
                    self.name, line, f"{keyword.upper()} must have a name and a value"
                )
            yield from parts
            return
        for word in words:
            name, equals, value = word.partition("=")
            if not equals:
                raise DockerfileError(
                    self.name,
                    line,
                    f"has no '=' in {word!r}; written is name=value",
                    hint="A value with spaces is put into quotes.",
                )
            yield name
            yield value

    def quoted_words(self, rest: str) -> Iterator[str]:
        """Split at spaces outside of quotes; quotes and escapes stay."""
        word, quote, begun = "", "", False
        position = 0
        while position < len(rest):
            char = rest[position]
            position += 1
            if not quote and char.isspace():
                if word or begun:
                    yield word
                word, begun = "", False
                continue
            if quote and char == quote:
                quote = ""
            elif not quote and char in "'\"":
                quote, begun = char, True
            elif char == self.escape and quote != "'":
                if position == len(rest):
                    quote = ""
                    continue
                word += char
                char = rest[position]
                position += 1
            word += char
        if word or begun:
            yield word

    def heredocs(self, text: str, first: int) -> Iterator[Heredoc]:
        for name, expands, chomps in named_heredocs(text):
            content = []
            while True:
                if self.position == len(self.lines):
                    raise DockerfileError(
                        self.name,
                        first,
                        f"has a here-document that no line {name!r} ends",
                    )
                line = self.lines[self.position]
                self.position += 1
                ending = line.rstrip("\r")
                if (ending.lstrip("\t") if chomps else ending) == name:
                    break
                content.append(f"{line}\n")
            yield Heredoc(name, "".join(content), expands, chomps)


def named_heredocs(text: str) -> list[tuple[str, bool, bool]]:
    """Find the here-documents that a text asks for: name, expands, chomps."""
    try:
        words = look_at(
            text, {}, keep_quotes=True, keep_escapes=True, keep_unset=True
        ).words
    except WordError:
        return []
    found = []
    for position, word in enumerate(words):
        # The name may stand apart, but not from "<<-".
        apart = _APART.fullmatch(word) and position + 1 < len(words)
        heredoc = heredoc_of(f"<<{words[position + 1]}" if apart else word)
        if heredoc is not None:
            found.append(heredoc)
    return found


def heredoc_of(word: str) -> tuple[str, bool, bool] | None:
    """Read a word like ``<<-"EOF"``: name, expands, chomps."""
    match = _HEREDOC.fullmatch(word)
    if match is None or not match[3]:
        return None
    try:
        raw = look_at(match[3], {}, keep_quotes=True, keep_unset=True)
        bare = look_at(match[3], {}, keep_unset=True)
    except WordError:
        return None
    if len(raw.words) != 1:
        return None
    return bare.text, bare.text == raw.words[0], match[2] == "-"


def _first_space(text: str) -> str:
    found = re.search(r"\s", text)
    return found[0] if found else " "


def _split(text: str) -> tuple[str, tuple[str, ...], str]:
    """Split an instruction into its keyword, its flags and the rest."""
    parts = _SPACES.split(text.strip(), maxsplit=1)
    if len(parts) == 1:
        return parts[0], (), ""
    flags, rest = _flags(parts[1].strip())
    return parts[0], tuple(flags), rest.strip()


def _flags(text: str) -> tuple[list[str], str]:
    """Take the words that begin with ``--`` from the front; quotes are taken off."""
    flags: list[str] = []
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        if not text.startswith("--", position):
            return flags, text[position:]
        word, quote = "", ""
        while position < len(text):
            char = text[position]
            if not quote and char.isspace():
                break
            position += 1
            if char == "\\":
                word += text[position : position + 1]
                position += 1
            elif quote and char == quote:
                quote = ""
            elif not quote and char in "'\"":
                quote = char
            else:
                word += char
        if word == "--":
            return flags, text[position:]
        flags.append(word)
    return flags, ""
