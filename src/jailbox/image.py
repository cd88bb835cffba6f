"""
Image: a file system that containers start from.

A value: making one touches nothing. The store of named images stands behind the same
class later.
"""

from typing import Self

import attrs

from jailbox.spec.image import NO_CONFIG, Directory, Host, ImageConfig, Source
from jailbox.spec.texts import AnyPath

__all__ = ["Image"]


@attrs.frozen
class Image:
    """
    A root file system, and how it wants to be run.

    >>> Image.from_dir("/srv/rootfs")
    Image(source=Directory(path='/srv/rootfs'))

    Attributes:
        source: Where the files are.
    """

    source: Source

    @classmethod
    def host(cls) -> Self:
        """
        This machine's own programs and libraries; nothing is downloaded.

        The caller's interpreter and virtual environment are there. Home directories,
        keys, passwords, sockets and other users' files are not. What is written goes
        to a layer of the container and never reaches the host.
        """
        return cls(Host())

    @classmethod
    def from_dir(cls, path: AnyPath, config: ImageConfig | None = None) -> Self:
        """
        A directory as root file system. It is never written to.

        Args:
            path: Absolute path of the directory.

            config: How it wants to be run: its command, user, variables, ...
        """
        return cls(Directory(path, NO_CONFIG if config is None else config))
