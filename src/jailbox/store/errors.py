"""
What the kernel refused, told as an error of the store.
"""

import errno as errno_table
from types import TracebackType
from typing import Self

from jailbox.errors import JailboxError, StoreError

__all__ = ["storing"]


class storing:  # noqa: N801  # reads as a word at every use: with storing("set a tag")
    """
    Turn every `OSError` of a block into a `StoreError`, which says what was tried.

    Errors that jailbox raises on purpose pass. A class, for it stands on the way of
    every start of a container, where a generator would cost more.

    Args:
        operation: What is tried, in the infinitive.

        path: On what.
    """

    __slots__ = ("operation", "path")

    def __init__(self, operation: str, path: str) -> None:
        self.operation = operation
        self.path = path

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, OSError) and not isinstance(error, JailboxError):
            number = error.errno or errno_table.EIO
            raise StoreError(self.operation, self.path, number) from error
