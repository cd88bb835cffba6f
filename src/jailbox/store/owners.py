"""
Owners, devices and attributes that a tree could not be given, noted beside it.

Where one id is all there is, every file of a tree is ours. What it should have been is
kept, so that the layer can be written again as it came.
"""

import json
import os
from collections.abc import Iterable
from typing import Self

import attrs

from jailbox.errors import ContentError
from jailbox.store.workshop import NotedEntry, NotedOwner

__all__ = ["Left", "Noted", "Owner"]


@attrs.frozen
class Owner:
    """
    Whose a file should be.

    Attributes:
        path: Where it is in the tree.

        uid: Its owner.

        gid: Its group.

        mode: Its mode, type included.
    """

    path: bytes
    uid: int
    gid: int
    mode: int


@attrs.frozen
class Left:
    """
    What was left out of a tree.

    Attributes:
        kind: ``device``, ``xattr``, ...

        path: Where it would be.

        name: Of the attribute; else empty.

        mode: Its mode, type included.

        device: Major and minor number, of a device.

        uid: Its owner.

        gid: Its group.
    """

    kind: str
    path: bytes
    name: bytes
    mode: int
    device: tuple[int, int]
    uid: int
    gid: int


@attrs.frozen
class Noted:
    """
    Everything that is noted beside a tree. False if that is nothing.

    Attributes:
        owners: Whose its files should be; of two about one path the later counts.

        left: What is not in it.
    """

    owners: tuple[Owner, ...] = ()
    left: tuple[Left, ...] = ()

    @classmethod
    def of(cls, owners: Iterable[NotedOwner], left: Iterable[NotedEntry]) -> Self:
        """Take over what the workshop tells."""
        return cls(
            tuple(Owner(o.path, o.uid, o.gid, o.mode) for o in owners),
            tuple(
                Left(e.kind, e.path, e.name, e.mode, e.device, e.uid, e.gid)
                for e in left
            ),
        )

    def __bool__(self) -> bool:
        return bool(self.owners or self.left)

    def to_bytes(self) -> bytes:
        """Write it: JSON, with names of any bytes as Python decodes them."""
        text = os.fsdecode
        document = {
            "owners": [[text(o.path), o.uid, o.gid, o.mode] for o in self.owners],
            "left": [
                [e.kind, text(e.path), text(e.name), e.mode, e.device, e.uid, e.gid]
                for e in self.left
            ],
        }
        return json.dumps(document, separators=(",", ":")).encode("ascii")

    @classmethod
    def from_bytes(cls, data: bytes, path: str) -> Self:
        """
        Read it.

        Raises:
            ContentError: If it is damaged.
        """
        raw = os.fsencode
        try:
            document = json.loads(data)
            return cls(
                tuple(
                    Owner(raw(path), uid, gid, mode)
                    for path, uid, gid, mode in document["owners"]
                ),
                tuple(
                    Left(kind, raw(path), raw(name), mode, (device[0], device[1]), u, g)
                    for kind, path, name, mode, device, u, g in document["left"]
                ),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ContentError(f"owners of a layer are damaged: {path}") from error
