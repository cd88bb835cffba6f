"""
Texts that must not be shown.

A secret is a value without a text of its own: it can be passed on, kept and compared,
and whoever prints it, or an error, a log or a traceback with it, prints three stars.
"""

import hmac
from typing import Any, NoReturn

__all__ = ["Secret", "as_secret"]


class Secret:
    """
    A password or a token.

    >>> Secret("hunter2")
    ***
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """
        Return the text. Never keep it in a variable.

        A traceback with variables would show it: reveal where it is sent.
        """
        return self._text

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __reduce__(self) -> NoReturn:
        # Written to a queue or a file it would be readable there.
        raise TypeError("a secret is not pickled")

    def __deepcopy__(self, memo: dict[int, Any]) -> "Secret":
        return self

    def __copy__(self) -> "Secret":
        return self


def as_secret(value: "Secret | str") -> Secret:
    """Wrap a text; leave what is wrapped."""
    return value if isinstance(value, Secret) else Secret(value)
