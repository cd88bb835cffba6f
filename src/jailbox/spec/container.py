"""
Everything that is wanted of a container and of a program in it, in one value each.

A field is checked when the value is made; `ContainerSpec.check` then looks at how the
fields go together, and says everything it found at once. Nothing here knows a machine:
the same spec may run on several.
"""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from enum import StrEnum
from typing import Literal, TypeAlias

import attrs

from jailbox.errors import SpecError, SpecTypeError, shown
from jailbox.spec.checks import brief, choice, flag, instance, several, whole
from jailbox.spec.command import (
    AnyCommand,
    User,
    argv_of,
    container_name,
    cwd_of,
    env_of,
    groups_of,
    hostname_of,
    labels_of,
    terminal_size,
    umask_of,
    user_of,
)
from jailbox.spec.image import ImageConfig
from jailbox.spec.limits import DEFAULT_LIMITS, Limits
from jailbox.spec.mapping import FrozenMap
from jailbox.spec.mount import (
    AnyMount,
    Bind,
    Cow,
    Device,
    Mount,
    Tmpfs,
    VolumeMount,
)
from jailbox.spec.network import DEFAULT_NETWORK, Network, NetworkMode
from jailbox.spec.security import DEFAULT_SECURITY, Security, sysctl_path
from jailbox.spec.signals import signal_number
from jailbox.spec.units import parse_duration, parse_size

__all__ = [
    "DEFAULT_MAX_OUTPUT",
    "DEFAULT_STOP_TIMEOUT",
    "ContainerSpec",
    "ContainerState",
    "ProgramSpec",
    "Stderr",
]

DEFAULT_MAX_OUTPUT = 64 << 20
"""How much of a stream is kept, in bytes, before it is cut off."""

DEFAULT_STOP_TIMEOUT = 10.0
"""Seconds between the stop signal and the kill."""

_PASS_FDS_MAX = 64

Stderr: TypeAlias = Literal["pipe", "stdout"]
"""Where standard error goes: a stream of its own, or into standard output."""


class ContainerState(StrEnum):
    """In which state a container is."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"


def _env_repr(env: FrozenMap[str, str]) -> str:
    # Values may be secrets: a printed spec ends up in logs.
    return "{" + ", ".join(f"{shown(name)}: ***" for name in env) + "}"


def _argv(value: AnyCommand) -> tuple[str, ...]:
    return argv_of(value)


def _command(value: AnyCommand | None) -> tuple[str, ...] | None:
    return None if value is None else argv_of(value)


def _entrypoint(value: AnyCommand | None) -> tuple[str, ...] | None:
    if isinstance(value, list | tuple) and not value:
        return ()
    return None if value is None else argv_of(value, argument="entrypoint")


def _max_output(value: int | str | None) -> int:
    return DEFAULT_MAX_OUTPUT if value is None else parse_size(value, "max_output")


def _timeout(value: float | timedelta | None) -> float | None:
    return None if value is None else parse_duration(value, "timeout")


def _stop_timeout(value: float | timedelta) -> float:
    return parse_duration(value, "stop_timeout")


def _stop_signal(value: int | str | None) -> int | None:
    return None if value is None else signal_number(value, "stop_signal")


def _domainname(value: str | None) -> str | None:
    return hostname_of(value, argument="domainname")


_STDERR: tuple[Stderr, ...] = ("pipe", "stdout")


def _stderr(value: Stderr | None) -> Stderr | None:
    return None if value is None else choice(value, "stderr", _STDERR)


def _pass_fds(value: int) -> int:
    return whole(value, "pass_fds", 0, _PASS_FDS_MAX)


def _mounts(value: Iterable[Mount]) -> tuple[AnyMount, ...]:
    accepted = "a list of Mount.bind(), volume(), tmpfs() and device()"
    mounts: list[AnyMount] = []
    for number, mount in enumerate(several(value, "mounts", accepted)):
        if not isinstance(mount, Bind | Cow | VolumeMount | Tmpfs | Device):
            raise SpecTypeError(
                f"mounts[{number}]", "is not a mount", value=mount, accepted=accepted
            )
        mounts.append(mount)
    return tuple(mounts)


def _limits(value: Limits | None) -> Limits:
    if value is None:
        return DEFAULT_LIMITS
    return instance(value, Limits, "limits", "Limits(memory='256M', ...)")


def _security(value: Security | None) -> Security:
    if value is None:
        return DEFAULT_SECURITY
    return instance(
        value, Security, "security", "Security(...), strict(), trusted() of it, or None"
    )


def _network(value: NetworkMode | Network) -> Network:
    return Network.of(value)


@attrs.frozen(kw_only=True, repr=False)
class ProgramSpec:
    """
    A program that is to run in a container.

    >>> ProgramSpec(argv=["make", "-j2"], user="1000:100").argv
    ('make', '-j2')

    Attributes:
        argv: The program and its arguments. `argv_of` makes one of a shell command.

        env: Variables, over those of the container.

        cwd: Working directory in the jail; ``None`` for the container's.

        user: As whom; ``None`` for the container's.

        groups: Supplementary groups, besides those that the image gives the user.

        umask: Permission bits that new files do not get.

        tty: Columns and rows of a terminal of its own; ``None`` for no terminal.

        stderr: ``pipe`` or ``stdout``; ``None`` for what goes with *tty*.

        timeout: Seconds after which the program and all it started are killed.

        max_output: Bytes of a stream that are kept; the rest is cut off.

        pass_fds: How many descriptors are handed over, as 3, 4, ...
    """

    argv: tuple[str, ...] = attrs.field(converter=_argv)
    env: FrozenMap[str, str] = attrs.field(
        default=None, converter=env_of, repr=_env_repr
    )
    cwd: str | None = attrs.field(default=None, converter=cwd_of)
    user: User | None = attrs.field(default=None, converter=user_of)
    groups: tuple[int | str, ...] = attrs.field(default=(), converter=groups_of)
    umask: int = attrs.field(default=0o022, converter=umask_of)
    tty: tuple[int, int] | None = attrs.field(default=None, converter=terminal_size)
    stderr: Stderr | None = attrs.field(default=None, converter=_stderr)
    timeout: float | None = attrs.field(default=None, converter=_timeout)
    max_output: int = attrs.field(default=DEFAULT_MAX_OUTPUT, converter=_max_output)
    pass_fds: int = attrs.field(default=0, converter=_pass_fds)

    def check(self) -> None:
        """
        Look at how the fields go together.

        Raises:
            SpecError: With everything that was found.
        """
        _raise_all("program", _stream_findings(self.tty, self.stderr))

    def __repr__(self) -> str:
        return f"ProgramSpec({', '.join(brief(self, _PLAIN_PROGRAM))})"


@attrs.frozen(kw_only=True, repr=False)
class ContainerSpec:
    """
    Everything that is wanted of a container.

    >>> spec = ContainerSpec(image="debian:12", command=["true"], hostname="box")
    >>> spec.check()

    Attributes:
        image: What it is made of. Opaque here.

        command: The main program and its arguments, or only its arguments if there is
            an entry point; ``None`` for the image's.

        entrypoint: What stands before the command; ``None`` for the image's, ``()`` for
            nothing.

        name: Its name; ``None`` to have one made.

        labels: Texts of the caller, kept and never read.

        env: Variables, over those of the image. Nothing of the host's is added.

        cwd: Working directory in the jail; ``None`` for the image's.

        user: As whom the programs run; ``None`` for the image's.

        groups: Supplementary groups, besides those that the image gives the user.

        umask: Permission bits that new files do not get.

        mounts: What else is seen inside.

        limits: How much it may use.

        security: What it may do.

        network: Whom it may talk to.

        hostname: Its host name; ``None`` to have one made.

        domainname: What follows the host name in its full name; ``None`` for nothing.

        read_only: Whether the root file system cannot be written to.

        tty: Columns and rows of a terminal for the main program; ``None`` for none.

        stderr: ``pipe`` or ``stdout``; ``None`` for what goes with *tty*.

        stop_signal: The number of the signal that asks it to end; ``None`` for the
            image's.

        stop_timeout: Seconds after that signal until it is killed.

        max_output: Bytes of a stream that are kept; the rest is cut off.

        pass_fds: How many descriptors the main program gets, as 3, 4, ...

        detach: Whether it outlives the program that starts it.
    """

    image: object
    command: tuple[str, ...] | None = attrs.field(default=None, converter=_command)
    entrypoint: tuple[str, ...] | None = attrs.field(
        default=None, converter=_entrypoint
    )
    name: str | None = attrs.field(default=None, converter=container_name)
    labels: FrozenMap[str, str] = attrs.field(default=None, converter=labels_of)
    env: FrozenMap[str, str] = attrs.field(
        default=None, converter=env_of, repr=_env_repr
    )
    cwd: str | None = attrs.field(default=None, converter=cwd_of)
    user: User | None = attrs.field(default=None, converter=user_of)
    groups: tuple[int | str, ...] = attrs.field(default=(), converter=groups_of)
    umask: int = attrs.field(default=0o022, converter=umask_of)
    mounts: tuple[AnyMount, ...] = attrs.field(default=(), converter=_mounts)
    limits: Limits = attrs.field(default=None, converter=_limits)
    security: Security = attrs.field(default=None, converter=_security)
    network: Network = attrs.field(default=DEFAULT_NETWORK, converter=_network)
    hostname: str | None = attrs.field(default=None, converter=hostname_of)
    domainname: str | None = attrs.field(default=None, converter=_domainname)
    read_only: bool = attrs.field(default=False, validator=flag)
    tty: tuple[int, int] | None = attrs.field(default=None, converter=terminal_size)
    stderr: Stderr | None = attrs.field(default=None, converter=_stderr)
    stop_signal: int | None = attrs.field(default=None, converter=_stop_signal)
    stop_timeout: float = attrs.field(
        default=DEFAULT_STOP_TIMEOUT, converter=_stop_timeout
    )
    max_output: int = attrs.field(default=DEFAULT_MAX_OUTPUT, converter=_max_output)
    pass_fds: int = attrs.field(default=0, converter=_pass_fds)
    detach: bool = attrs.field(default=False, validator=flag)

    def check(self) -> None:
        """
        Look at how the fields go together.

        Raises:
            SpecError: With everything that was found.
        """
        _raise_all("container", self._findings())

    def _findings(self) -> Iterator[SpecError]:
        targets: dict[str, int] = {}
        for number, mount in enumerate(self.mounts):
            first = targets.setdefault(mount.target, number)
            if first != number:
                yield SpecError(
                    f"mounts[{number}].target",
                    f"is also the target of mounts[{first}]",
                    value=mount.target,
                )
        yield from _stream_findings(self.tty, self.stderr)
        if self.detach and self.pass_fds:
            yield SpecError(
                "pass_fds",
                "cannot go with detach: the descriptors end with this process",
                value=self.pass_fds,
            )
        for key in self.security.sysctls:
            path = sysctl_path(key)
            if path.startswith("net/") and not self.network.private:
                yield SpecError(
                    f"sysctls[{shown(key)}]",
                    "would change the host's network",
                    accepted="net.* with a network other than 'host'",
                )
            if path == "kernel/hostname" and self.hostname is not None:
                yield SpecError(
                    f"sysctls[{shown(key)}]",
                    "is also given as hostname",
                    accepted="either one",
                )

    def program(self, config: ImageConfig) -> ProgramSpec | None:
        """
        Put the main program together, with what the image says.

        As everywhere in the field: an entry point of the caller's drops the command of
        the image, and a command of the caller's follows the image's entry point.

        Returns:
            The main program; ``None`` if neither the caller nor the image names one.
        """
        entrypoint, command = self.entrypoint, self.command
        if entrypoint is None:
            entrypoint = config.entrypoint
            command = config.cmd if command is None else command
        argv = entrypoint + (command or ())
        if not argv:
            return None
        return ProgramSpec(
            argv=argv,
            env=self.env,
            cwd=self.cwd,
            user=self.user,
            groups=self.groups,
            umask=self.umask,
            tty=self.tty,
            stderr=self.stderr,
            max_output=self.max_output,
            pass_fds=self.pass_fds,
        )

    def describe(self) -> str:
        """Say what differs from the defaults, one field a line, without secrets."""
        return "\n".join(
            line.replace("=", ": ", 1) for line in brief(self, _PLAIN_CONTAINER)
        )

    def __repr__(self) -> str:
        return f"ContainerSpec({', '.join(brief(self, _PLAIN_CONTAINER))})"


def _stream_findings(
    tty: tuple[int, int] | None, stderr: Stderr | None
) -> Iterator[SpecError]:
    if tty is not None and stderr == "pipe":
        yield SpecError(
            "stderr",
            "cannot be separate: a terminal is one stream",
            value=stderr,
            accepted="None or 'stdout' together with tty",
        )


def _raise_all(subject: str, findings: Iterable[SpecError]) -> None:
    found = tuple(findings)
    if found:
        raise SpecError.several(subject, found)


_PLAIN_CONTAINER = ContainerSpec(image=None)
_PLAIN_PROGRAM = ProgramSpec(argv=("true",))
