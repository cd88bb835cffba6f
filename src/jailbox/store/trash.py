"""
The trash: what is invisible already, and takes its time to be deleted.

Moving something there is one rename. Deleting it is the workshop's business, for files
in trees belong to anybody and may have any mode. A deletion that is interrupted is gone
on with by the next gc.
"""

import os
import stat
from collections.abc import Callable

from jailbox.errors import StoreError
from jailbox.store.files import Files, Temporary
from jailbox.store.workshop import Workshop

__all__ = ["Trash"]


class Trash:
    """The trash of a store."""

    def __init__(self, files: Files, workshop: Callable[[], Workshop]) -> None:
        self._files = files
        self._workshop = workshop

    def take(self, name: str, operation: str) -> str | None:
        """
        Make a directory invisible, for `delete`; its name in the trash.

        ``None`` if it was not there. Where not even a rename finds room, it stays
        where it is, and that name is returned.
        """
        try:
            return self._files.throw_away(name, operation)
        except StoreError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            return name

    def delete(self, name: str) -> bool:
        """
        Delete what `take` returned; whether nothing is left of it.

        Only one process does: whoever locks it. Others leave it alone.
        """
        held = self._files.try_lock(name)
        if held is None:
            return False
        directory, _, entry = name.rpartition("/")
        with held, self._files.trying("delete", name):
            parent = self._files.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                found = os.stat(entry, dir_fd=parent, follow_symlinks=False)
                if stat.S_ISDIR(found.st_mode):
                    self._workshop().remove(parent, entry)
                else:
                    os.unlink(entry, dir_fd=parent)
            finally:
                os.close(parent)
        return True

    def drop(self, temporary: Temporary) -> None:
        """Delete a directory that was being filled. What fails is left to gc."""
        temporary.forget()
        away = self.take(temporary.name, temporary.operation)
        temporary.close()
        if away is not None:
            try:
                self.delete(away)
            except StoreError:
                return

    def empty(self) -> int:
        """Delete everything in the trash; how many entries."""
        return sum(self.delete(f"trash/{entry}") for entry in self._files.list("trash"))
