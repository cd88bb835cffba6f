"""
What a container is made of, before anybody has looked at it.

An image here is a source of a root file system and a configuration. Where the files
are and how they are put together is the business of `jailbox.run.rootfs`.
"""

import re
from typing import Any, Self, TypeAlias

import attrs

from jailbox.spec.command import User, user_of
from jailbox.spec.digest import Digest
from jailbox.spec.mapping import FrozenMap
from jailbox.spec.signals import signal_name, signal_number
from jailbox.spec.strict import Node, frozen_extra, frozen_texts, joined
from jailbox.spec.texts import AnyPath, absolute_path

__all__ = [
    "DEFAULT_PATH",
    "NO_CONFIG",
    "Directory",
    "Healthcheck",
    "Host",
    "ImageConfig",
    "Source",
    "Stored",
]

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where programs are looked for in an image that does not say."""


NANOSECONDS = 10**9

_USER, _PORTS, _ENV, _ENTRYPOINT = "User", "ExposedPorts", "Env", "Entrypoint"
_CMD, _VOLUMES, _CWD, _LABELS = "Cmd", "Volumes", "WorkingDir", "Labels"
_STOP, _HEALTH, _SHELL, _ON_BUILD = "StopSignal", "Healthcheck", "Shell", "OnBuild"
_KNOWN = (
    *(_USER, _PORTS, _ENV, _ENTRYPOINT, _CMD, _VOLUMES, _CWD, _LABELS),
    *(_STOP, _HEALTH, _SHELL, _ON_BUILD),
)


@attrs.frozen(kw_only=True)
class Healthcheck:
    """
    How an image wants to be asked whether it is well.

    Attributes:
        test: ``("NONE",)``, ``("CMD", program, ...)`` or ``("CMD-SHELL", command)``;
            empty to inherit.

        interval: Seconds between two questions; ``None`` for the usual, as below.

        timeout: Seconds for an answer.

        start_period: Seconds in which a failure does not count.

        start_interval: Seconds between two questions in that time.

        retries: How many failures in a row make it unwell.

    Source: Docker image-spec v1.2, *Healthcheck*.
    """

    test: tuple[str, ...] = ()
    interval: float | None = None
    timeout: float | None = None
    start_period: float | None = None
    start_interval: float | None = None
    retries: int | None = None
    extra: FrozenMap[str, Any] = attrs.field(
        factory=FrozenMap, converter=frozen_extra, repr=False
    )

    @classmethod
    def from_node(cls, node: Node) -> Self:
        """Read it out of a config."""

        def seconds(key: str) -> float | None:
            found = node.get(key)
            return found.whole() / NANOSECONDS if found else None

        test, retries = node.get("Test"), node.get("Retries")
        return cls(
            test=test.texts() if test else (),
            interval=seconds("Interval"),
            timeout=seconds("Timeout"),
            start_period=seconds("StartPeriod"),
            start_interval=seconds("StartInterval"),
            retries=retries.whole() if retries else None,
            extra=node.rest(
                (
                    "Test",
                    "Interval",
                    "Timeout",
                    "StartPeriod",
                    "StartInterval",
                    "Retries",
                )
            ),
        )

    def to_document(self) -> dict[str, Any]:
        """Write it for a config, in nanoseconds."""

        def duration(seconds: float | None) -> int | None:
            return None if seconds is None else round(seconds * NANOSECONDS)

        return joined(
            {
                "Test": list(self.test) or None,
                "Interval": duration(self.interval),
                "Timeout": duration(self.timeout),
                "StartPeriod": duration(self.start_period),
                "StartInterval": duration(self.start_interval),
                "Retries": self.retries,
            },
            self.extra,
        )


@attrs.frozen(kw_only=True)
class ImageConfig:
    """
    How an image wants to be run.

    It is data, and no policy: nothing in it changes what a container may do.

    Attributes:
        env: Variables.

        entrypoint: What stands before the command.

        cmd: The command, if the caller gives none.

        user: As whom; ``None`` for root.

        cwd: Working directory.

        stop_signal: Number of the signal that asks it to end; ``None`` for SIGTERM.

        labels: What its makers wrote on it.

        exposed_ports: What it listens at: ``8080/tcp``. Nothing is published by that.

        volumes: Directories whose content is not to be kept with the container.

        healthcheck: How to ask whether it is well, or ``None``.

        shell: What reads commands in shell form, or empty for ``/bin/sh -c``.

        on_build: Instructions for a build on top of it.

        extra: What this version does not know, kept so that writing loses nothing.

    Source: OCI image-spec, *config.md*; Docker image-spec v1.2 for the last ones.
    """

    env: FrozenMap[str, str] = attrs.field(factory=FrozenMap, converter=frozen_texts)
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    user: User | None = None
    cwd: str = "/"
    stop_signal: int | None = None
    labels: FrozenMap[str, str] = attrs.field(factory=FrozenMap, converter=frozen_texts)
    exposed_ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    healthcheck: Healthcheck | None = None
    shell: tuple[str, ...] = ()
    on_build: tuple[str, ...] = ()
    extra: FrozenMap[str, Any] = attrs.field(
        factory=FrozenMap, converter=frozen_extra, repr=False
    )

    @classmethod
    def from_node(cls, node: Node) -> Self:
        """
        Read the section ``config`` of an image's config.

        Raises:
            Malformed: If something in it has the wrong type, or cannot be given to the
                kernel: a NUL, a user that is no name, a signal that there is not.
        """

        def texts(key: str) -> tuple[str, ...]:
            found = node.get(key)
            return found.texts() if found else ()

        def names(key: str) -> tuple[str, ...]:
            found = node.get(key)
            return found.names() if found else ()

        user, cwd, stop = node.get(_USER), node.get(_CWD), node.get(_STOP)
        labels, health = node.get(_LABELS), node.get(_HEALTH)
        return cls(
            env=_variables(texts(_ENV)),
            entrypoint=texts(_ENTRYPOINT),
            cmd=texts(_CMD),
            user=user.read(user_of) if user and user.text() else None,
            cwd=cwd.read(_rooted) if cwd else "/",
            stop_signal=stop.read(_signal) if stop and stop.text() else None,
            labels=labels.text_map() if labels else {},
            exposed_ports=names(_PORTS),
            volumes=tuple(dict.fromkeys(_rooted(name) for name in names(_VOLUMES))),
            healthcheck=Healthcheck.from_node(health) if health else None,
            shell=texts(_SHELL),
            on_build=texts(_ON_BUILD),
            extra=node.rest(_KNOWN),
        )

    def to_document(self) -> dict[str, Any]:
        """Write the section ``config``; what is not set is left out."""
        stop = None if self.stop_signal is None else signal_name(self.stop_signal)
        health = self.healthcheck
        return joined(
            {
                _USER: None if self.user is None else str(self.user),
                _PORTS: {port: {} for port in self.exposed_ports} or None,
                _ENV: [f"{name}={value}" for name, value in self.env.items()] or None,
                _ENTRYPOINT: list(self.entrypoint) or None,
                _CMD: list(self.cmd) or None,
                _VOLUMES: {volume: {} for volume in self.volumes} or None,
                _CWD: self.cwd,
                _LABELS: dict(self.labels) or None,
                _STOP: stop,
                _HEALTH: None if health is None else health.to_document(),
                _SHELL: list(self.shell) or None,
                _ON_BUILD: list(self.on_build) or None,
            },
            self.extra,
        )


def _variables(entries: tuple[str, ...]) -> dict[str, str]:
    """
    Read variables; the last of a name wins.

    An entry without ``=`` takes the variable away, as it does in containerd; one
    without a name could not be set and is passed over.
    """
    variables: dict[str, str] = {}
    for entry in entries:
        name, equals, value = entry.partition("=")
        if equals and name:
            variables[name] = value
        else:
            variables.pop(name, None)
    return variables


def _rooted(path: str) -> str:
    """Take a path in the image: a relative one counts from its root, as in Docker."""
    return absolute_path(f"/{path}", "path")


def _signal(text: str) -> int:
    return signal_number(int(text) if _DECIMAL.fullmatch(text) else text)


_DECIMAL = re.compile(r"[0-9]{1,3}")


NO_CONFIG = ImageConfig()
"""An image that wants nothing."""


@attrs.frozen
class Host:
    """The machine's own root file system: programs and libraries, nothing personal."""


def _path(value: AnyPath) -> str:
    return absolute_path(value, "path")


@attrs.frozen
class Directory:
    """
    A directory of the host as root file system; it is never written to.

    Attributes:
        path: Where it is.

        config: How it wants to be run.
    """

    path: str = attrs.field(converter=_path)
    config: ImageConfig = attrs.field(default=NO_CONFIG, repr=False)


@attrs.frozen
class Stored:
    """
    An image in a store.

    Attributes:
        digest: Of its manifest.

        store: Path of the store; ``None`` for the usual one.
    """

    digest: Digest
    store: str | None = None


Source: TypeAlias = Host | Directory | Stored
