"""
What is wanted of an image that is made of a container.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from jailbox.spec.checks import flag
from jailbox.spec.image import ImageConfig
from jailbox.spec.mapping import FrozenMap
from jailbox.spec.reference import Reference

__all__ = ["CommitSpec"]


def _reference(name: "str | Reference | None") -> Reference | None:
    return Reference.parse(name) if isinstance(name, str) else name


def _optional(texts: Iterable[str] | None) -> tuple[str, ...] | None:
    return None if texts is None else tuple(texts)


def _map(texts: Mapping[str, str] | None) -> FrozenMap[str, str]:
    return FrozenMap(texts or {})


@attrs.frozen(kw_only=True)
class CommitSpec:
    """
    An image to be, in terms of the one that a container was made of.

    Attributes:
        reference: What it is called, or ``None``.

        message: Why, for its history.

        author: By whom.

        cmd: Its command; ``None`` for that of the image below. So are the others.

        entrypoint: What stands before its command.

        env: Variables beside those of the image below.

        labels: Texts beside its.

        cwd: Its working directory.

        user: As whom it is run.

        stop_signal: What asks it to end.

        exposed_ports: What it listens at.

        volumes: What of it is not kept with a container.

        pause: Its programs stand still meanwhile.
    """

    reference: Reference | None = attrs.field(default=None, converter=_reference)
    message: str | None = None
    author: str | None = None
    cmd: tuple[str, ...] | None = attrs.field(default=None, converter=_optional)
    entrypoint: tuple[str, ...] | None = attrs.field(default=None, converter=_optional)
    env: FrozenMap[str, str] = attrs.field(factory=FrozenMap, converter=_map)
    labels: FrozenMap[str, str] = attrs.field(factory=FrozenMap, converter=_map)
    cwd: str | None = None
    user: Any = None
    stop_signal: Any = None
    exposed_ports: tuple[str, ...] | None = attrs.field(
        default=None, converter=_optional
    )
    volumes: tuple[str, ...] | None = attrs.field(default=None, converter=_optional)
    pause: bool = attrs.field(default=True, validator=flag)

    def config(self, below: ImageConfig) -> ImageConfig:
        """
        Change the config of an image as is wanted.

        Raises:
            Malformed: If something cannot be given to a program.
        """
        wanted = {
            name: value
            for name in (
                *("cmd", "entrypoint", "cwd", "user", "stop_signal"),
                *("exposed_ports", "volumes"),
            )
            if (value := getattr(self, name)) is not None
        }
        if "entrypoint" in wanted and "cmd" not in wanted:
            # As everywhere: what was the old program's argument is not the new one's.
            wanted["cmd"] = ()
        return attrs.evolve(
            below,
            env={**below.env, **self.env},
            labels={**below.labels, **self.labels},
            **wanted,
        )
