"""
Variables in text: ``$NAME``, ``${NAME}`` and the forms with an operator.

=====================  ========================================================
``${NAME:-word}``      *word* if NAME is not set or empty
``${NAME-word}``       *word* if NAME is not set
``${NAME:?word}``      an error that says *word* if NAME is not set or empty
``${NAME?word}``       an error that says *word* if NAME is not set
``${NAME:+word}``      *word* if NAME is set and not empty, else nothing
``${NAME+word}``       *word* if NAME is set, else nothing
``$$``                 a dollar sign
=====================  ========================================================

A word may hold variables itself. The forms are those of the compose specification
(12-interpolation.md).
"""

import re
from collections.abc import Callable, Mapping

from attrs import define

__all__ = ["InvalidTemplate", "MissingVariable", "substitute"]

_NAME = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
_OPERATOR = re.compile(r":?[-?+]")
_DEPTH_MAX = 50


class InvalidTemplate(ValueError):
    """The text after a dollar sign is no variable."""


class MissingVariable(ValueError):
    """A variable that must be set is not."""


@define
class _Reader:
    """Reads one text from left to right."""

    env: Mapping[str, str]
    unset: Callable[[str], None]

    def text(self, template: str, depth: int = 0) -> str:
        if depth > _DEPTH_MAX:
            raise InvalidTemplate(f"variables are nested deeper than {_DEPTH_MAX}")
        parts: list[str] = []
        position = 0
        while (dollar := template.find("$", position)) >= 0:
            parts.append(template[position:dollar])
            after = template[dollar + 1 : dollar + 2]
            if after == "$":
                parts.append("$")
                position = dollar + 2
            elif after == "{":
                end = _closing(template, dollar)
                parts.append(self.braced(template[dollar + 2 : end], depth))
                position = end + 1
            elif name := _NAME.match(template, dollar + 1):
                parts.append(self.value(name[0]))
                position = name.end()
            else:
                # A dollar sign before anything else stands for itself.
                parts.append("$")
                position = dollar + 1
        parts.append(template[position:])
        return "".join(parts)

    def value(self, name: str) -> str:
        if name not in self.env:
            self.unset(name)
        return self.env.get(name, "")

    def braced(self, inside: str, depth: int) -> str:
        found = _NAME.match(inside)
        if found is None:
            raise InvalidTemplate(f"'${{{inside}}}' names no variable")
        name, rest = found[0], inside[found.end() :]
        if not rest:
            return self.value(name)
        operator = _OPERATOR.match(rest)
        if operator is None:
            raise InvalidTemplate(
                f"'${{{inside}}}' has {rest[:1]!r} after the name; known are"
                " :- - :? ? :+ +"
            )
        word = rest[operator.end() :]
        value = self.env.get(name)
        given = bool(value) if operator[0][0] == ":" else value is not None
        match operator[0][-1]:
            case "-":
                return value or "" if given else self.text(word, depth + 1)
            case "+":
                return self.text(word, depth + 1) if given else ""
            case _:
                if given:
                    return value or ""
                raise MissingVariable(
                    f"needs the variable {name}: {self.text(word, depth + 1)}"
                )


def substitute(
    template: str,
    env: Mapping[str, str],
    unset: Callable[[str], None] = lambda _name: None,
) -> str:
    """
    Put values for the variables in *template*.

    Args:
        template: The text.

        env: The variables.

        unset: Told the name of each variable that is used bare and is not set; its
            value is then empty.

    Raises:
        InvalidTemplate: A brace is not closed, or what stands in it is no variable.

        MissingVariable: ``${NAME:?word}`` asks for a variable that is not there.
    """
    return template if "$" not in template else _Reader(env, unset).text(template)


def _closing(template: str, dollar: int) -> int:
    """
    Return where the brace opened after *dollar* is closed.

    Braces in the word come in pairs, as in JSON; where they do not, only those of
    variables are counted.
    """
    for opening in (re.compile(r"\$?\{|\}"), re.compile(r"\$\{|\}")):
        depth = 0
        for found in opening.finditer(template, dollar):
            depth += -1 if found[0] == "}" else 1
            if depth == 0:
                return found.start()
    raise InvalidTemplate(f"'{template[dollar:]}' has a brace that is not closed")
