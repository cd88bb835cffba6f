"""
Variables in a tree: filled in, then made what the place asks for.

``replicas: ${N}`` is text until N is known, and a number after.
"""

from collections.abc import Callable
from collections.abc import Mapping as AnyMapping

from jailbox.compose.schema import DOCUMENT
from jailbox.compose.shape import scalar_at
from jailbox.compose.template import InvalidTemplate, MissingVariable, substitute
from jailbox.compose.tree import Mapping, Node, Path, as_mapping, mapped, problem
from jailbox.errors import ComposeError

__all__ = ["interpolated"]

_TRUE = frozenset(("true", "t", "y", "yes", "on", "1"))
_FALSE = frozenset(("false", "f", "n", "no", "off", "0"))


def interpolated(
    document: Mapping,
    env: AnyMapping[str, str],
    unset: Callable[[str], None] = lambda _name: None,
) -> Mapping:
    """
    Fill in the variables of a document.

    Args:
        document: A compose file as it was read.

        env: The variables.

        unset: Told the name of each variable that is used and not set.

    Raises:
        ComposeError: Every template that is wrong, every variable that is required
            and missing, and every value that does not fit its place.
    """
    problems: list[ComposeError] = []

    def filled(path: Path, value: Node) -> Node:
        if not isinstance(value, str):
            return value
        try:
            text = substitute(value, env, unset)
        except InvalidTemplate as error:
            hint = "A dollar sign that stands for itself is written '$$'."
            problems.append(
                problem(document, path, f"{error}", kind="interpolation", hint=hint)
            )
            return value
        except MissingVariable as error:
            problems.append(problem(document, path, f"{error}", kind="interpolation"))
            return value
        shape = scalar_at(DOCUMENT, path)
        if shape is None or not shape.cast:
            return text
        try:
            return _cast(text, shape.cast)
        except ValueError:
            found = f"{text!r}" if text == value else f"{value!r}, which is {text!r}"
            problems.append(
                problem(document, path, f"is {found}: no {shape.cast}", kind="cast")
            )
            return text

    fresh = as_mapping(mapped(document, filled))
    if problems:
        first = problems[0]
        for other in problems[1:]:
            first.add_note(f"Also: {other.message}")
        raise first
    return fresh


def _cast(text: str, kind: str) -> Node:
    if kind == "integer":
        return int(text, 0) if text.lstrip("+-")[:1] != "0" else int(text)
    if kind == "number":
        return float(text)
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError(text)
