"""
A project: the files that make it, its name, its variables, and what it comes to.

Only here and in `jailbox.compose.site` does this room look at the disk.
"""

import os
import re
from collections.abc import Iterable
from collections.abc import Mapping as AnyMapping

from attrs import field, frozen

from jailbox.compose.checks import check_cycles, check_references
from jailbox.compose.config import Written, config
from jailbox.compose.load import Loader, load_files, own_name, plain_name
from jailbox.compose.normalize import normalized
from jailbox.compose.paths import Base
from jailbox.compose.select import without_disabled, without_unused
from jailbox.compose.site import Disk, Names, find_site
from jailbox.compose.tree import Mapping
from jailbox.compose.variables import with_files
from jailbox.errors import ComposeError

__all__ = ["Compose"]

_PROJECT = re.compile(r"[a-z0-9][a-z0-9_-]*")


@frozen
class Compose:
    """
    A compose project, loaded: services, and what they share.

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

    @classmethod
    def load(
        cls,
        files: Names | None = None,
        *,
        directory: str | os.PathLike[str] = ".",
        project_directory: str | os.PathLike[str] | None = None,
        name: str | None = None,
        env: AnyMapping[str, str] | None = None,
        env_files: Names | None = None,
        profiles: Iterable[str] = (),
    ) -> "Compose":
        """
        Load a project.

        Args:
            files: A compose file, or several, each laid over those before; ``None`` to
                look for one in *directory* and above.

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
        cwd = os.path.abspath(directory)
        folder = None
        if project_directory is not None:
            folder = os.path.normpath(os.path.join(cwd, project_directory))
        known = os.environ if env is None else env
        site = find_site(files, env_files, known, cwd, folder)
        variables = dict(site.variables)
        base = Base(site.directory, variables.get("HOME"))
        texts: dict[str, str | None] = dict.fromkeys(site.files)
        chosen = _name(name, texts, Loader(Disk(), variables, base))
        variables["COMPOSE_PROJECT_NAME"] = chosen
        variables.setdefault("PWD", site.directory)
        unset: dict[str, None] = {}
        loader = Loader(
            Disk(), variables, base, lambda key: unset.setdefault(key, None)
        )
        document = load_files(texts, loader)
        if not document:
            raise ComposeError(site.files[0], "the file", "is empty", kind="empty")
        full = normalized(document, chosen, variables.get)
        check_cycles(full)
        listed = variables.get("COMPOSE_PROFILES", "").split(",")
        enabled = [one for one in profiles if one] or [one for one in listed if one]
        disabled = without_disabled(full, enabled)
        check_references(full, disabled)
        with_files(full, loader.files, variables)
        without_unused(full)
        return cls(
            chosen,
            site.directory,
            site.files,
            full,
            tuple(disabled),
            variables,
            tuple(unset),
        )

    def config(self) -> dict[str, Written]:
        """Return the canonical form: what ``docker compose config`` prints."""
        return config(self.document)


def _name(given: str | None, texts: AnyMapping[str, str | None], loader: Loader) -> str:
    """Choose the name: what is given, or the files' own, or the directory's."""
    chosen = given or loader.env.get("COMPOSE_PROJECT_NAME")
    if chosen is not None:
        if not _PROJECT.fullmatch(chosen):
            raise ComposeError(
                "the project name",
                chosen,
                "is no name: small letters, digits, '_' and '-' are, begun by a letter"
                " or a digit",
            )
        return chosen
    folder = loader.base.directory
    name = own_name(texts, loader) or plain_name(os.path.basename(folder))
    if not name:
        raise ComposeError(
            folder,
            "the project",
            "has no name, and its directory's gives none",
            hint="Give a name: Compose.load(..., name='app').",
        )
    return name
