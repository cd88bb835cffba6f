"""
A directory of the host as a root file system.
"""

import contextlib
import os
import stat
import time

import attrs

from jailbox.errors import ContentError, ImageNotFound
from jailbox.linux.inroot import read_in_root
from jailbox.run.names import Etc
from jailbox.run.rootfs import Rootfs
from jailbox.spec.image import DEFAULT_PATH, NO_CONFIG, ImageConfig

__all__ = ["directory_rootfs"]

_API = ("dev", "proc", "sys")

_KEPT = 64
_SETTLED = 50_000_000
"""Nanoseconds after which a change is told by the time of the last one: file systems
count in ticks of up to ten milliseconds."""

_Signature = tuple[object, ...]

_looked: dict[tuple[str, ImageConfig], tuple[_Signature, Rootfs]] = {}


def directory_rootfs(path: str, config: ImageConfig = NO_CONFIG) -> Rootfs:
    """
    Look at a directory that is to be a root file system.

    What was found is kept for as long as nothing of what was looked at has changed.

    Raises:
        As `_look`.
    """
    signature = _signature(path)
    kept = _looked.get((path, config))
    if kept is not None and signature is not None and kept[0] == signature:
        # The links on the way may lead there by another name now.
        with contextlib.suppress(OSError):
            found = os.stat(kept[1].layers[0])
            if (found.st_dev, found.st_ino) == signature[:2]:
                return kept[1]
    rootfs = _look(path, config)
    if signature is not None and _signature(rootfs.layers[0]) == signature:
        if len(_looked) >= _KEPT:
            _looked.clear()
        _looked[path, config] = (signature, rootfs)
    return rootfs


def _signature(path: str) -> _Signature | None:
    """
    Tell one state of the directory from another; ``None`` if that cannot be told.

    It cannot where a link decides what is read, and shortly after a change.
    """
    try:
        top = os.stat(path)
        parts: list[object] = [top.st_dev, top.st_ino]
        newest = 0
        for name in (*_API, "etc", "etc/passwd", "etc/group"):
            try:
                found = os.lstat(f"{path}/{name}")
            except FileNotFoundError:
                parts.append(None)
                continue
            if stat.S_ISLNK(found.st_mode):
                return None
            parts += (found.st_ino, found.st_mode, found.st_ctime_ns)
            newest = max(newest, found.st_ctime_ns)
    except OSError:
        return None
    return tuple(parts) if time.time_ns() - newest > _SETTLED else None


def _look(path: str, config: ImageConfig) -> Rootfs:
    """
    Look at a directory.

    Raises:
        ImageNotFound: If it is not there.

        ContentError: If it is no directory, or ``dev``, ``proc`` or ``sys`` in it is
            something else than a directory: what we mount there must not end up
            elsewhere.
    """
    if not os.path.isdir(path):
        if os.path.lexists(path):
            raise ContentError(f"{path} is no directory")
        raise ImageNotFound(path, hint="Image.from_dir() needs an existing directory.")
    real = os.path.realpath(path)
    for name in _API:
        entry = os.path.join(real, name)
        if os.path.islink(entry) or (
            os.path.lexists(entry) and not os.path.isdir(entry)
        ):
            raise ContentError(
                f"/{name} of the image is no directory",
                hint=f"An image must have a real directory /{name}, or none.",
            )
    return Rootfs(
        layers=(real,),
        config=attrs.evolve(config, env={"PATH": DEFAULT_PATH} | dict(config.env)),
        etc=_etc(os.path.join(real, "etc")),
        passwd=_text(real, "/etc/passwd"),
        group=_text(real, "/etc/group"),
    )


def _etc(path: str) -> Etc | None:
    """Look at ``/etc``; nothing can be put into one that is no directory."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return Etc()
    return Etc(stat.S_IMODE(mode)) if stat.S_ISDIR(mode) else None


def _text(root: str, path: str) -> str:
    return (read_in_root(root, path) or b"").decode("utf-8", "replace")
