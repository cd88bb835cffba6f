"""
Relative paths of compose files: where they begin, and which are none.

Pure text: no file is looked at.
"""

import posixpath
import re

from attrs import frozen

__all__ = ["Base"]

_REMOTE = re.compile(
    r"(?:[a-z][a-z0-9+.-]*://|git@|github\.com/|docker-image:|service:|target:|oci-layout:)"
)
_DRIVE = re.compile(r"[a-zA-Z]:[\\/]|\\\\")


@frozen
class Base:
    """
    Where relative paths begin.

    Attributes:
        directory: The directory, absolute.

        home: What ``~`` stands for, or ``None`` to leave it.
    """

    directory: str
    home: str | None = None

    def join(self, path: str) -> str:
        """Make *path* absolute; what is absolute already stays as it is written."""
        if path.startswith("/") or _DRIVE.match(path):
            return path
        if self.home is not None and (path == "~" or path.startswith("~/")):
            path = self.home + path[1:]
        return posixpath.normpath(posixpath.join(self.directory, path))

    def context(self, path: str) -> str:
        """Make the path of a build context absolute; addresses stay."""
        return path if _REMOTE.match(path) else self.join(path)
