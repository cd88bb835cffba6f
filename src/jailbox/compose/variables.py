"""
Files of variables and of labels that services name: beneath what services say.
"""

from collections.abc import Mapping as AnyMapping

from jailbox.compose.dotenv import read_dotenv, read_raw
from jailbox.compose.load import Files
from jailbox.compose.normalize import resolved
from jailbox.compose.tree import (
    Mapping,
    Node,
    Path,
    as_mapping,
    as_sequence,
    problem,
)

__all__ = ["with_files"]


def with_files(document: Mapping, files: Files, env: AnyMapping[str, str]) -> None:
    """
    Put what files of variables and labels hold beneath what services say.

    Args:
        document: A normalized document; its services are changed.

        files: Where texts come from.

        env: The variables of the project.

    Raises:
        ComposeError: A file that is required is missing, or makes no sense.
    """
    reader = _Reader(document, files, env)
    for name, node in as_mapping(document["services"]).items():
        service, path = as_mapping(node), ("services", name)
        found = reader.variables(as_sequence(service.get("env_file")), path)
        if found or "environment" in service:
            own = resolved(as_mapping(service.get("environment")), env.get)
            service["environment"] = _over(found, own)
        labels = reader.labels(as_sequence(service.get("label_file")), path)
        if labels:
            service["labels"] = _over(labels, as_mapping(service.get("labels")))


def _over(found: AnyMapping[str, str], own: AnyMapping[str, Node]) -> Mapping:
    """Lay what a service says over what was read; a bare name asks for what is."""
    merged = Mapping()
    merged.update(found)
    for key, value in own.items():
        if value is not None or key not in merged:
            merged[key] = value
    return merged


class _Reader:
    def __init__(
        self, document: Mapping, files: Files, env: AnyMapping[str, str]
    ) -> None:
        self.document = document
        self.files = files
        self.env = env

    def variables(self, entries: list[Node], path: Path) -> dict[str, str]:
        found: dict[str, str] = {}
        for index, entry in enumerate(entries):
            wish = as_mapping(entry)
            file = str(wish.get("path"))
            if wish.get("required") is False and not self.files.exists(file):
                continue
            text = self.text(file, (*path, "env_file", index))
            if wish.get("format") == "raw":
                found.update(read_raw(text))
            else:
                found.update(read_dotenv(text, self.env, before=found, file=file))
        return found

    def labels(self, entries: list[Node], path: Path) -> dict[str, str]:
        found: dict[str, str] = {}
        for index, entry in enumerate(entries):
            text = self.text(str(entry), (*path, "label_file", index))
            found.update(read_dotenv(text, {}, before=found, file=str(entry)))
        return found

    def text(self, file: str, path: Path) -> str:
        try:
            return self.files.read(file)
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise problem(
                self.document,
                path,
                f"names {file}, which cannot be read: {why}",
                kind="file",
                hint="'required: false' leaves out a file of variables that is absent.",
            ) from error
