"""
What else is seen in a jail: host directories, memory file systems, devices.

Wishes only: a source is a text here, opened by `jailbox.linux`, and looked for
nowhere. Every mount is ``nosuid``, and private; loosening is written out
(``writable=True``).
"""

import re
from typing import TypeAlias

import attrs

from jailbox.errors import SpecError
from jailbox.spec.checks import flag, instance, whole
from jailbox.spec.command import ID_MAX
from jailbox.spec.texts import AnyPath, absolute_path
from jailbox.spec.units import parse_size

__all__ = [
    "AnyMount",
    "Bind",
    "Cow",
    "Device",
    "Mount",
    "Tmpfs",
    "VolumeMount",
    "mount_target",
    "volume_name",
]

_TARGET_ACCEPTED = (
    "an absolute path without '..', not /, and not on or below /proc and /sys, "
    "not /dev itself, not below /dev/pts"
)

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def mount_target(value: AnyPath, argument: str = "target") -> str:
    """
    Take a path inside of a jail that something may be mounted on.

    Raises:
        SpecError: If it is relative, has ".." or control characters, or would cover
            what the jail itself is made of.
    """
    target = absolute_path(value, argument)
    parts = target.split("/")
    if (
        target == "/"
        or ".." in parts
        or parts[1] in ("proc", "sys")
        or target == "/dev"
        or parts[1:3] == ["dev", "pts"]
    ):
        raise SpecError(
            argument, "cannot be mounted on", value=value, accepted=_TARGET_ACCEPTED
        )
    if _CONTROL.search(target):
        # They would forge lines of /proc/self/mountinfo for whoever reads it badly.
        raise SpecError(
            argument,
            "has control characters",
            value=value,
            accepted="a path without control characters",
        )
    return target


def _target(value: AnyPath) -> str:
    return mount_target(value)


def _source(value: AnyPath) -> str:
    return absolute_path(
        value, "source", hint="A spec knows no current directory: Path(...).resolve()."
    )


def _size(value: int | str) -> int:
    size = parse_size(value, "size")
    if size == 0:
        # The kernel takes 0 for "no bound at all".
        raise SpecError("size", "is zero", value=value, accepted="at least 1 byte")
    return size


def _mode(value: int) -> int:
    return whole(value, "mode", 0, 0o7777, "an int from 0 to 0o7777")


def _inodes(value: int | None) -> int | None:
    return None if value is None else whole(value, "inodes", 1, 2**63 - 1)


def _uid(value: int) -> int:
    return whole(value, "uid", 0, ID_MAX)


def _gid(value: int) -> int:
    return whole(value, "gid", 0, ID_MAX)


def _permissions(value: str) -> str:
    letters = set(instance(value, str, "permissions", "letters of 'rwm'"))
    if not letters or letters - set("rwm") or len(letters) != len(value):
        raise SpecError(
            "permissions", "is not known", value=value, accepted="letters of 'rwm'"
        )
    return "".join(letter for letter in "rwm" if letter in letters)


class Mount:
    """
    Something of the host, or of memory, that is seen in a jail.

    >>> Mount.bind("/srv/data", "/data")
    Bind(source='/srv/data', target='/data', writable=False, recursive=True, exec=True)

    Made by `Mount.bind`, `Mount.cow`, `Mount.volume`, `Mount.tmpfs` and
    `Mount.device`; consumed by ``match`` over `AnyMount`.
    """

    __slots__ = ()

    target: str

    @staticmethod
    def bind(
        source: AnyPath,
        target: AnyPath,
        *,
        writable: bool = False,
        recursive: bool = True,
        exec: bool = True,
    ) -> "Bind":
        """
        Show a file or directory of the host at *target*.

        A source that does not exist is an error at the start, and is never created.

        Args:
            source: Absolute path on the host.

            target: Absolute path in the jail.

            writable: Whether the jail may change it.

            recursive: Whether mounts below the source are seen too. They become read
                only with it.

            exec: Whether programs may be executed from it.
        """
        return Bind(source, target, writable=writable, recursive=recursive, exec=exec)

    @staticmethod
    def cow(source: AnyPath, target: AnyPath | None = None) -> "Cow":
        """
        Show a directory of the host at *target*, with changes that stay in the jail.

        The jail may change everything in it, and the host's directory stays as it is.
        What is different is among the container's changes, and can be applied.

        Args:
            source: Absolute path of a directory on the host.

            target: Absolute path in the jail; ``None`` for the same.
        """
        return Cow(source, source if target is None else target)

    @staticmethod
    def tmpfs(
        target: AnyPath,
        size: int | str = "64M",
        mode: int = 0o1777,
        *,
        inodes: int | None = None,
        uid: int = 0,
        gid: int = 0,
        exec: bool = False,
        writable: bool = True,
    ) -> "Tmpfs":
        """
        Mount an empty file system in memory at *target*.

        Args:
            target: Absolute path in the jail.

            size: The most it may hold, in bytes. Counts as memory of the jail.

            mode: Permissions of its root directory.

            inodes: The most files it may hold; ``None`` for the kernel's own bound.

            uid: Owner of its root directory, inside of the jail.

            gid: Group of its root directory, inside of the jail.

            exec: Whether programs may be executed from it. Off, as Docker does it.

            writable: Whether anything can be put there; else it covers *target*.
        """
        return Tmpfs(
            target,
            size=size,
            mode=mode,
            inodes=inodes,
            uid=uid,
            gid=gid,
            exec=exec,
            writable=writable,
        )

    @staticmethod
    def volume(
        name: str,
        target: AnyPath,
        *,
        writable: bool = True,
        copy: bool = True,
        exec: bool = True,
        store: AnyPath | None = None,
    ) -> "VolumeMount":
        """
        Mount a volume: a directory of a store, which outlasts containers.

        One that is not there is made. Files in it belong to the users of the container,
        whichever container that is.

        Args:
            name: Which one.

            target: Absolute path in the jail.

            writable: Whether the jail may change it.

            copy: Whether one that nobody has used begins with what the image has at
                *target*, as in Docker.

            exec: Whether programs may be executed from it.

            store: Path of the store that it is in; by default the usual one.
        """
        return VolumeMount(
            name, target, writable=writable, copy=copy, exec=exec, store=store
        )

    @staticmethod
    def device(
        path: AnyPath, target: AnyPath | None = None, permissions: str = "rw"
    ) -> "Device":
        """
        Show a device node of the host.

        Args:
            path: Absolute path on the host.

            target: Absolute path in the jail; ``None`` for the same.

            permissions: What the jail may do: letters of ``rwm`` (read, write, make).
                Nodes can never be made in a jail. Reading or writing alone is not
                enforced by any mount; it is refused when the container starts, unless
                ``Security(degrade={"devices"})`` allows that it is not.
        """
        return Device(path, path if target is None else target, permissions)


@attrs.frozen
class Bind(Mount):
    """A file or directory of the host; see `Mount.bind`."""

    source: str = attrs.field(converter=_source)
    target: str = attrs.field(converter=_target)
    writable: bool = attrs.field(default=False, validator=flag, kw_only=True)
    recursive: bool = attrs.field(default=True, validator=flag, kw_only=True)
    exec: bool = attrs.field(default=True, validator=flag, kw_only=True)


@attrs.frozen
class Cow(Mount):
    """A directory of the host that is changed in the jail alone; see `Mount.cow`."""

    source: str = attrs.field(converter=_source)
    target: str = attrs.field(converter=_target)


@attrs.frozen
class Tmpfs(Mount):
    """An empty file system in memory; see `Mount.tmpfs`."""

    target: str = attrs.field(converter=_target)
    size: int = attrs.field(default=64 << 20, converter=_size, kw_only=True)
    mode: int = attrs.field(
        default=0o1777, converter=_mode, kw_only=True, repr=lambda mode: f"0o{mode:o}"
    )
    inodes: int | None = attrs.field(default=None, converter=_inodes, kw_only=True)
    uid: int = attrs.field(default=0, converter=_uid, kw_only=True)
    gid: int = attrs.field(default=0, converter=_gid, kw_only=True)
    exec: bool = attrs.field(default=False, validator=flag, kw_only=True)
    writable: bool = attrs.field(default=True, validator=flag, kw_only=True)


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def volume_name(value: str) -> str:
    """
    Take the name of a volume.

    Raises:
        SpecError: If it is none.
    """
    accepted = "up to 100 letters, digits and '_.-', the first a letter or digit"
    if not _NAME.fullmatch(instance(value, str, "name", accepted)):
        raise SpecError("name", "is malformed", value=value, accepted=accepted)
    return value


def _store(value: AnyPath | None) -> str | None:
    return None if value is None else absolute_path(value, "store")


@attrs.frozen
class VolumeMount(Mount):
    """A volume; see `Mount.volume`."""

    name: str = attrs.field(converter=volume_name)
    target: str = attrs.field(converter=_target)
    writable: bool = attrs.field(default=True, validator=flag, kw_only=True)
    copy: bool = attrs.field(default=True, validator=flag, kw_only=True)
    exec: bool = attrs.field(default=True, validator=flag, kw_only=True)
    store: str | None = attrs.field(default=None, converter=_store, kw_only=True)


def _device(value: AnyPath) -> str:
    return absolute_path(value, "path")


@attrs.frozen
class Device(Mount):
    """A device node of the host; see `Mount.device`."""

    path: str = attrs.field(converter=_device)
    target: str = attrs.field(converter=_target)
    permissions: str = attrs.field(default="rw", converter=_permissions)


AnyMount: TypeAlias = Bind | Cow | VolumeMount | Tmpfs | Device
"""Every kind of mount: match over it, and mypy proves that none is forgotten."""
