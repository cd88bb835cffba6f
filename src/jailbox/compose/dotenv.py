r"""
Files of environment variables: ``.env``, and what ``env_file`` names.

.. code-block:: text

    NAME=value              until the end of the line, or until " #"
    NAME="two\nlines"       escapes and variables are looked at
    NAME='as it is'         neither are; may go over several lines
    export NAME=value       the word is skipped
    NAME: value             as well
    NAME                    takes what the environment has, or nothing
"""

import re
from collections import ChainMap
from collections.abc import Mapping

from attrs import define

from jailbox.compose.template import InvalidTemplate, MissingVariable, substitute
from jailbox.errors import ComposeError

__all__ = ["read_dotenv", "read_raw"]

_BLANK = " \t\v\f\r\x85\xa0"
_NAME_EXTRA = "_.-[]"
_ESCAPE = re.compile(r'\\([abcfnrtv$"\\]|0[0-9]{0,3})')
_SIMPLE = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    '"': '"',
    "\\": "\\",
    # A dollar sign that stands for itself, in the words of templates.
    "$": "$$",
}


def read_dotenv(
    text: str,
    env: Mapping[str, str],
    *,
    before: Mapping[str, str] | None = None,
    file: str = ".env",
) -> dict[str, str]:
    """
    Read a file of environment variables.

    Args:
        text: What is in the file.

        env: The environment: what variables in values mean, before the file itself.

        before: What files read before this one have set.

        file: Name of the file, for errors.

    Raises:
        ComposeError: A name has a character that it cannot have, a quote is not
            closed, or a variable in a value makes no sense.
    """
    return _Reader(text.removeprefix("\ufeff"), env, before or {}, file).read()


def read_raw(text: str) -> dict[str, str]:
    """Read ``NAME=value`` lines in which nothing is looked at (``format: raw``)."""
    found: dict[str, str] = {}
    for line in text.removeprefix("\ufeff").splitlines():
        bare = line.lstrip()
        if bare and not bare.startswith("#"):
            name, equals, value = bare.partition("=")
            if equals:
                found[name.strip()] = value
    return found


@define
class _Reader:
    text: str
    env: Mapping[str, str]
    before: Mapping[str, str]
    file: str
    position: int = 0

    def read(self) -> dict[str, str]:
        found: dict[str, str] = {}
        known = ChainMap(dict(self.env), found, dict(self.before))
        while self.skip():
            name, alone = self.name()
            if alone:
                if name in self.env:
                    found[name] = self.env[name]
                continue
            found[name] = self.value(known)
        return found

    def skip(self) -> bool:
        """Go to the next statement; tell whether there is one."""
        text = self.text
        while self.position < len(text):
            if text[self.position].isspace():
                self.position += 1
            elif text[self.position] == "#":
                end = text.find("\n", self.position)
                self.position = len(text) if end < 0 else end
            else:
                return True
        return False

    def name(self) -> tuple[str, bool]:
        """Read a name up to what ends it; tell whether it stands alone."""
        text = self.text
        start = self.position
        if text.startswith("export", start) and text[start + 6 : start + 7] in _BLANK:
            start += 6
            while start < len(text) and text[start] in _BLANK:
                start += 1
        end = start
        while end < len(text) and text[end] not in "=:\n":
            char = text[end]
            if not (char in _BLANK or char in _NAME_EXTRA or char.isalnum()):
                raise self.error(start, f"has {char!r} in the name of a variable")
            end += 1
        name = text[start:end].rstrip()
        alone = end == len(text) or text[end] == "\n"
        self.position = end + 1
        if " " in name:
            raise self.error(start, f"has a space in the name {name!r}")
        while not alone and text[self.position : self.position + 1] in tuple(_BLANK):
            self.position += 1
        return name, alone

    def value(self, known: Mapping[str, str]) -> str:
        text, start = self.text, self.position
        quote = text[start : start + 1]
        if quote not in ("'", '"'):
            end = text.find("\n", start)
            end = len(text) if end < 0 else end
            self.position = end
            bare = text[start:end].partition(" #")[0].rstrip()
            return self.expanded(bare, start, known)
        end = start + 1
        while end < len(text) and text[end] != quote:
            end += 2 if text[end] == "\\" else 1
        if end >= len(text):
            line = text[start:].partition("\n")[0]
            raise self.error(start, f"has a quote that is not closed: {line}")
        self.position = end + 1
        inside = text[start + 1 : end]
        if quote == "'":
            return inside.replace("\\'", "'")
        return self.expanded(_ESCAPE.sub(_unescaped, inside), start, known)

    def expanded(self, value: str, start: int, known: Mapping[str, str]) -> str:
        try:
            return substitute(value, known)
        except (InvalidTemplate, MissingVariable) as error:
            raise self.error(start, str(error)) from None

    def error(self, where: int, text: str) -> ComposeError:
        line = self.text.count("\n", 0, where) + 1
        return ComposeError(
            self.file, "environment file", text, line=line, kind="dotenv"
        )


def _unescaped(found: re.Match[str]) -> str:
    escape = found[1]
    if escape[0] == "0":
        return chr(int(escape, 8))
    return _SIMPLE.get(escape, found[0])
