"""
A directory of the host as a root file system.
"""

import os
import stat

import attrs

from jailbox.errors import ContentError, ImageNotFound
from jailbox.linux.inroot import read_in_root
from jailbox.run.names import Etc
from jailbox.run.rootfs import Rootfs
from jailbox.spec.image import DEFAULT_PATH, NO_CONFIG, ImageConfig

__all__ = ["directory_rootfs"]

_API = ("dev", "proc", "sys")


def directory_rootfs(path: str, config: ImageConfig = NO_CONFIG) -> Rootfs:
    """
    Look at a directory that is to be a root file system.

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
