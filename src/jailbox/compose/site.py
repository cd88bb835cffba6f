"""
Where a project lies: its files, its directory, and the variables it is loaded with.

Only here and in `jailbox.compose.project` does this room look at the disk.
"""

import os
from collections.abc import Iterable
from collections.abc import Mapping as AnyMapping
from pathlib import Path

from attrs import frozen

from jailbox.compose.dotenv import read_dotenv
from jailbox.errors import ComposeError

__all__ = ["Disk", "Names", "Site", "find_site"]

Names = str | os.PathLike[str] | Iterable[str]
"""The name of a file, or the names of several."""

NAMES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
OVERRIDES = (
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
)


class Disk:
    """Files as they lie on the disk."""

    def read(self, path: str) -> str:
        """Return what is in a file."""
        return Path(path).read_text(encoding="utf-8")

    def exists(self, path: str) -> bool:
        """Tell whether there is such a file."""
        return Path(path).is_file()


@frozen
class Site:
    """
    Where a project lies.

    Attributes:
        files: Its compose files, absolute.

        directory: Where relative paths in them begin.

        variables: The environment over what files of variables say.
    """

    files: tuple[str, ...]
    directory: str
    variables: dict[str, str]


def find_site(
    files: Names | None,
    env_files: Names | None,
    env: AnyMapping[str, str],
    cwd: str,
    directory: str | None,
) -> Site:
    """
    Find the files of a project, and read its files of variables.

    Args:
        files: The compose files; ``None`` to go by ``COMPOSE_FILE``, or to look in
            *cwd* and above.

        env_files: The files of variables; ``None`` to go by ``COMPOSE_ENV_FILES``, or
            to take the ``.env`` of the project.

        env: The environment.

        cwd: Where relative names begin, absolute.

        directory: The directory of the project, absolute; ``None`` for that of its
            first file.

    Raises:
        ComposeError: A file is missing, or a file of variables makes no sense.
    """
    named = _absolute(files, cwd) or _absolute(_by_variable(env), cwd)
    place = directory or _directory(named, cwd)
    variables = _variables(env_files, env, cwd, place)
    found = named or _absolute(_by_variable(variables), cwd)
    if not found:
        found = _discovered(place)
    return Site(tuple(found), directory or os.path.dirname(found[0]), variables)


def _absolute(names: Names | None, cwd: str) -> list[str]:
    if names is None:
        return []
    several = [names] if isinstance(names, str | os.PathLike) else names
    return [os.path.normpath(os.path.join(cwd, one)) for one in several]


def _by_variable(env: AnyMapping[str, str]) -> list[str]:
    separator = env.get("COMPOSE_PATH_SEPARATOR") or os.pathsep
    return [one for one in env.get("COMPOSE_FILE", "").split(separator) if one]


def _directory(named: list[str], cwd: str) -> str:
    """Return the directory whose ``.env`` counts."""
    if named:
        return os.path.dirname(named[0])
    for place in (Path(cwd), *Path(cwd).parents):
        if any((place / name).is_file() for name in NAMES):
            return str(place)
    return cwd


def _variables(
    env_files: Names | None, env: AnyMapping[str, str], cwd: str, directory: str
) -> dict[str, str]:
    """Put the environment over what files of variables say."""
    paths = _absolute(env_files, cwd)
    if env_files is None and (listed := env.get("COMPOSE_ENV_FILES")):
        paths = _absolute(listed.split(","), cwd)
    elif env_files is None:
        default = os.path.join(directory, ".env")
        paths = [default] if os.path.isfile(default) else []
    found: dict[str, str] = {}
    for path in paths:
        try:
            text = Disk().read(path)
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise ComposeError(
                path, "environment file", f"cannot be read: {why}", kind="file"
            ) from error
        found.update(read_dotenv(text, env, before=found, file=path))
    return {**found, **env}


def _discovered(directory: str) -> list[str]:
    """Return the compose file of a directory, and the one to be laid over it."""
    for name in NAMES:
        path = os.path.join(directory, name)
        if os.path.isfile(path):
            beside = (os.path.join(directory, over) for over in OVERRIDES)
            return [path, *[over for over in beside if os.path.isfile(over)][:1]]
    raise ComposeError(
        directory,
        "the project",
        f"has none of {', '.join(NAMES)}, here or above",
        kind="file",
        hint="Name the file: Compose.load('path/to/compose.yaml').",
    )
