"""
What happens while an image moves, as values.

A callback gets them one at a time, in whichever thread does the work; two never at
once. What it raises ends the operation.
"""

from typing import Literal, TypeAlias

import attrs

from jailbox.spec.digest import Digest

__all__ = ["Done", "Event", "Moved", "Resolved", "Retried", "Warned"]


@attrs.frozen
class Resolved:
    """
    A name was resolved, once, to what will be moved.

    Attributes:
        reference: The name.

        digest: What it stands for now.

        origin: The registry that said so.
    """

    reference: str
    digest: Digest
    origin: str


@attrs.frozen
class Moved:
    """
    Bytes of a blob have come or gone.

    Attributes:
        digest: Which blob.

        done: How many bytes of it so far; less than before if it began anew.

        total: How many it has.
    """

    digest: Digest
    done: int
    total: int


@attrs.frozen
class Done:
    """
    A blob is where it should be.

    Attributes:
        digest: Which blob.

        size: Its length, in bytes.

        how: ``received``, ``sent``, ``mounted`` (from another repository of the same
            registry), or ``present`` (it was there already).
    """

    digest: Digest
    size: int
    how: Literal["received", "sent", "mounted", "present"]


@attrs.frozen
class Retried:
    """
    Something failed and will be tried again.

    Attributes:
        what: The request, without secrets.

        reason: Why.

        wait: In how many seconds.
    """

    what: str
    reason: str
    wait: float


@attrs.frozen
class Warned:
    """
    Something is not as it should be, and it goes on without.

    Attributes:
        message: What, and what was done instead.
    """

    message: str


Event: TypeAlias = Resolved | Moved | Done | Retried | Warned
