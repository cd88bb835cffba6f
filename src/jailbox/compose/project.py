"""
A project: the files that make it, its name, its variables, and what it comes to.

The one file of this room that looks at the disk.
"""

import os
import re
from collections.abc import Iterable
from collections.abc import Mapping as AnyMapping
from pathlib import Path
from typing import Any

from attrs import field, frozen

from jailbox.compose.checks import check_cycles, check_references
from jailbox.compose.config import config
from jailbox.compose.dotenv import read_dotenv, read_raw
from jailbox.compose.load import Loader, load_files
from jailbox.compose.normalize import normalized, resolved
from jailbox.compose.paths import Base
from jailbox.compose.tree import Mapping, Sequence, problem
from jailbox.errors import ComposeError

__all__ = ["Project", "load_project"]

NAMES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
OVERRIDES = (
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
)
_PROJECT = re.compile(r"[a-z0-9][a-z0-9_-]*")


@frozen
class Project:
    """
    A compose project, loaded.

    Attributes:
        name: Its name: the prefix of what it makes.

        directory: Where its relative paths begin.

        files: The files that it was made of.

        document: Everything it says, canonical and normalized.

        disabled: The services that no enabled profile has.

        environment: The variables it was loaded with.

        unset: The variables that it uses and nobody has set.
    """

    name: str
    directory: str
    files: tuple[str, ...]
    document: Mapping = field(repr=False, eq=False)
    disabled: tuple[str, ...] = ()
    environment: AnyMapping[str, str] = field(factory=dict, repr=False)
    unset: tuple[str, ...] = ()

    def config(self) -> dict[str, Any]:
        """Return the canonical form: what ``docker compose config`` prints."""
        return config(self.document)


class _Disk:
    """Files as they lie on the disk."""

    def read(self, path: str) -> str:
        return Path(path).read_text(encoding="utf-8")

    def exists(self, path: str) -> bool:
        return Path(path).is_file()


def load_project(
    files: Iterable[str] | None = None,
    *,
    directory: str | os.PathLike[str] = ".",
    project_directory: str | os.PathLike[str] | None = None,
    name: str | None = None,
    env: AnyMapping[str, str] | None = None,
    env_files: Iterable[str] | None = None,
    profiles: Iterable[str] = (),
) -> Project:
    """
    Load a project.

    Args:
        files: Compose files, each laid over those before; ``None`` to look for one in
            *directory* and above.

        directory: Where relative names of files begin.

        project_directory: Where relative paths in the files begin; the directory of
            the first file, if it is not given.

        name: The name of the project, over the one in the files.

        env: The environment; that of this process, if it is not given.

        env_files: Files of variables, beneath the environment; the project's
            ``.env``, if it is not given.

        profiles: Profiles to enable; ``"*"`` for all.

    Raises:
        ComposeError: A file is missing or makes no sense.
    """
    disk = _Disk()
    cwd = os.path.abspath(directory)
    given = dict(os.environ if env is None else env)
    folder = None
    if project_directory is not None:
        folder = os.path.normpath(os.path.join(cwd, project_directory))
    named = list(files) if files is not None else None
    variables = _variables(disk, given, env_files, named, folder, cwd)
    if named is None and (listed := variables.get("COMPOSE_FILE")):
        separator = variables.get("COMPOSE_PATH_SEPARATOR") or os.pathsep
        named = [one for one in listed.split(separator) if one]
    paths = (
        [os.path.normpath(os.path.join(cwd, one)) for one in named]
        if named
        else _discovered(folder or cwd)
    )
    if folder is None:
        folder = os.path.dirname(paths[0])
    wanted = [one for one in profiles if one]
    if not wanted:
        wanted = [
            one for one in variables.get("COMPOSE_PROFILES", "").split(",") if one
        ]
    unset: dict[str, None] = {}
    chosen = name or variables.get("COMPOSE_PROJECT_NAME")
    if chosen is not None:
        _check_name(chosen, "the project name")
    texts: dict[str, str | None] = dict.fromkeys(paths)
    base = Base(folder, variables.get("HOME"))
    if chosen is None:
        chosen = _own_name(texts, Loader(disk, variables, base)) or _from_directory(
            folder
        )
    variables["COMPOSE_PROJECT_NAME"] = chosen
    variables.setdefault("PWD", folder)
    loader = Loader(disk, variables, base, lambda key: unset.setdefault(key, None))
    document = load_files(texts, loader)
    if not document:
        raise ComposeError(paths[0], "the file", "is empty", kind="empty")
    full = normalized(document, chosen, variables.get)
    check_cycles(full)
    disabled = _without_disabled(full, wanted)
    check_references(full, disabled)
    _read_variables(full, disk, variables)
    _without_unused(full)
    return Project(
        chosen, folder, tuple(paths), full, tuple(disabled), variables, tuple(unset)
    )


def _variables(
    disk: _Disk,
    env: dict[str, str],
    env_files: Iterable[str] | None,
    files: list[str] | None,
    folder: str | None,
    cwd: str,
) -> dict[str, str]:
    """Put the environment over what files of variables say."""
    if env_files is not None:
        paths = [os.path.normpath(os.path.join(cwd, one)) for one in env_files]
    elif listed := env.get("COMPOSE_ENV_FILES"):
        paths = [os.path.normpath(os.path.join(cwd, one)) for one in listed.split(",")]
    else:
        place = folder or (
            os.path.dirname(os.path.normpath(os.path.join(cwd, files[0])))
            if files
            else _home_of(disk, env, cwd)
        )
        default = os.path.join(place, ".env")
        paths = [default] if disk.exists(default) else []
    found: dict[str, str] = {}
    for path in paths:
        try:
            text = disk.read(path)
        except OSError as error:
            raise ComposeError(
                path,
                "environment file",
                f"cannot be read: {error.strerror}",
                kind="file",
            ) from error
        found.update(read_dotenv(text, env, before=found, file=path))
    return {**found, **env}


def _home_of(disk: _Disk, env: AnyMapping[str, str], cwd: str) -> str:
    """Return the directory whose ``.env`` counts while no file is named."""
    if listed := env.get("COMPOSE_FILE"):
        separator = env.get("COMPOSE_PATH_SEPARATOR") or os.pathsep
        return os.path.dirname(os.path.join(cwd, listed.split(separator)[0]))
    place = cwd
    while True:
        if any(disk.exists(os.path.join(place, name)) for name in NAMES):
            return place
        parent = os.path.dirname(place)
        if parent == place:
            return cwd
        place = parent


def _discovered(start: str) -> list[str]:
    place = start
    while True:
        for name in NAMES:
            path = os.path.join(place, name)
            if os.path.isfile(path):
                found = [path]
                for override in OVERRIDES:
                    beside = os.path.join(place, override)
                    if os.path.isfile(beside):
                        found.append(beside)
                        break
                return found
        parent = os.path.dirname(place)
        if parent == place:
            raise ComposeError(
                start,
                "the project",
                f"has none of {', '.join(NAMES)}, here or above",
                kind="file",
                hint="Name the file: Compose.load('path/to/compose.yaml').",
            )
        place = parent


def _own_name(texts: AnyMapping[str, str | None], loader: Loader) -> str | None:
    """Return the name that the last of the files says."""
    from jailbox.compose.interpolate import interpolated
    from jailbox.compose.load import text_at
    from jailbox.compose.read import read

    found: str | None = None
    for path in texts:
        for document in read(text_at(path, loader), path):
            if isinstance(name := document.get("name"), str):
                alone = document.like()
                alone.put("name", name, document.places.get("name"))
                found = str(interpolated(alone, loader.env)["name"]) or None
    return None if found is None else _normal(found)


def _normal(name: str) -> str:
    return re.sub(r"[^a-z0-9_-]", "", name.lower()).lstrip("_-")


def _from_directory(folder: str) -> str:
    name = _normal(os.path.basename(folder))
    if not name:
        raise ComposeError(
            folder,
            "the project",
            "has no name, and its directory's gives none",
            hint="Give a name: Compose.load(..., name='app').",
        )
    return name


def _check_name(name: str, what: str) -> None:
    if not _PROJECT.fullmatch(name):
        raise ComposeError(
            what,
            name,
            "is no name: small letters, digits, '_' and '-' are, begun by a letter or"
            " a digit",
        )


def _without_disabled(document: Mapping, profiles: list[str]) -> list[str]:
    """Take out the services that no enabled profile has; return their names."""
    services = document["services"]
    assert isinstance(services, Mapping)
    disabled = []
    for name, service in list(services.items()):
        wishes = service.get("profiles") if isinstance(service, Mapping) else None
        if isinstance(wishes, Sequence) and wishes and "*" not in profiles:
            if not any(wish in profiles for wish in wishes):
                disabled.append(name)
                del services[name]
    for service in services.values():
        depends = service.get("depends_on") if isinstance(service, Mapping) else None
        if isinstance(depends, Mapping):
            for wish, how in list(depends.items()):
                optional = isinstance(how, Mapping) and how.get("required") is False
                if optional and wish not in services:
                    del depends[wish]
    return disabled


def _read_variables(
    document: Mapping, disk: _Disk, variables: AnyMapping[str, str]
) -> None:
    """Put what files of variables and labels hold beneath what services say."""
    services = document["services"]
    assert isinstance(services, Mapping)
    for name, service in services.items():
        assert isinstance(service, Mapping)
        path = ("services", name)
        found: dict[str, str] = {}
        files = service.get("env_file")
        for index, entry in enumerate(files if isinstance(files, Sequence) else ()):
            assert isinstance(entry, Mapping)
            file = str(entry["path"])
            if not os.path.isfile(file):
                if entry.get("required") is False:
                    continue
                raise problem(
                    document,
                    (*path, "env_file", index),
                    f"names {file}, which is not there",
                    kind="file",
                    hint="'required: false' leaves out a file that is not there.",
                )
            text = disk.read(file)
            if entry.get("format") == "raw":
                found.update(read_raw(text))
            else:
                found.update(read_dotenv(text, variables, before=found, file=file))
        own = service.get("environment")
        if found or isinstance(own, Mapping):
            merged = Mapping()
            merged.update(found)
            values = own if isinstance(own, Mapping) else {}
            for key, value in resolved(values, variables.get).items():
                if key != key.rstrip():
                    raise problem(
                        document,
                        (*path, "environment", key),
                        "ends in a space; a variable's name does not",
                    )
                if value is not None or key not in merged:
                    merged[key] = value
            service["environment"] = merged
        labels: dict[str, str] = {}
        files = service.get("label_file")
        for index, entry in enumerate(files if isinstance(files, Sequence) else ()):
            file = str(entry)
            if not os.path.isfile(file):
                raise problem(
                    document,
                    (*path, "label_file", index),
                    f"names {file}, which is not there",
                    kind="file",
                )
            labels.update(read_dotenv(disk.read(file), {}, before=labels, file=file))
        if labels:
            merged = Mapping()
            merged.update(labels)
            own = service.get("labels")
            merged.update(own if isinstance(own, Mapping) else {})
            service["labels"] = merged


def _without_unused(document: Mapping) -> None:
    """Leave out the networks, volumes, secrets and configurations that nobody uses."""
    services = document["services"]
    assert isinstance(services, Mapping)
    used: dict[str, set[str]] = {
        kind: set() for kind in ("networks", "volumes", "secrets", "configs")
    }
    for service in services.values():
        assert isinstance(service, Mapping)
        networks = service.get("networks")
        used["networks"].update(networks if isinstance(networks, Mapping) else ())
        for mount in _rows(service.get("volumes")):
            if mount.get("type") == "volume":
                used["volumes"].add(str(mount.get("source")))
        for kind in ("secrets", "configs"):
            for grant in _rows(service.get(kind)):
                used[kind].add(str(grant.get("source")))
        build = service.get("build")
        if isinstance(build, Mapping):
            for grant in _rows(build.get("secrets")):
                used["secrets"].add(str(grant.get("source")))
    for kind, names in used.items():
        things = document.get(kind)
        if isinstance(things, Mapping):
            for name in [name for name in things if name not in names]:
                del things[name]
    document.pop("models", None)


def _rows(node: object) -> list[Mapping]:
    if not isinstance(node, Sequence):
        return []
    return [entry for entry in node if isinstance(entry, Mapping)]
