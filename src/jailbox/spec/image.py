"""
What a container is made of, before anybody has looked at it.

An image here is a source of a root file system and a configuration. Where the files
are and how they are put together is the business of `jailbox.run.rootfs`.
"""

from collections.abc import Mapping
from typing import TypeAlias

import attrs

from jailbox.spec.command import User
from jailbox.spec.mapping import FrozenMap
from jailbox.spec.texts import AnyPath, absolute_path

__all__ = ["DEFAULT_PATH", "Directory", "Host", "ImageConfig", "Source"]

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where programs are looked for in an image that does not say."""


# A class is no converter to mypy if it is generic.
def _env(value: Mapping[str, str]) -> FrozenMap[str, str]:
    return FrozenMap(value)


@attrs.frozen(kw_only=True)
class ImageConfig:
    """
    How an image wants to be run.

    Attributes:
        env: Variables.

        entrypoint: What stands before the command.

        cmd: The command, if the caller gives none.

        user: As whom; ``None`` for root.

        cwd: Working directory.

        stop_signal: Number of the signal that asks it to end; ``None`` for SIGTERM.

    Source: OCI image-spec, *config.md*.
    """

    env: FrozenMap[str, str] = attrs.field(factory=FrozenMap, converter=_env)
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    user: User | None = None
    cwd: str = "/"
    stop_signal: int | None = None


@attrs.frozen
class Host:
    """The machine's own root file system: programs and libraries, nothing personal."""


def _path(value: AnyPath) -> str:
    return absolute_path(value, "path")


@attrs.frozen
class Directory:
    """A directory of the host as root file system; it is never written to."""

    path: str = attrs.field(converter=_path)


Source: TypeAlias = Host | Directory
