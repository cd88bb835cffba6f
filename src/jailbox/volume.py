"""
Volume, as its users hold it. Thin: every line of work is an engine's.
"""

from collections.abc import Iterable, Mapping
from typing import Self

import attrs

from jailbox.engine.choose import default_engine
from jailbox.errors import NotEnforced, SpecError
from jailbox.image import Store, store_path
from jailbox.spec.command import labels_of
from jailbox.spec.mapping import FrozenMap
from jailbox.spec.mount import volume_name
from jailbox.spec.texts import AnyPath
from jailbox.spec.units import parse_size

__all__ = ["Volume"]


def _seed(value: Mapping[str, str | bytes]) -> dict[str, bytes]:
    files = {}
    for path, content in value.items():
        parts = path.split("/")
        if "\0" in path or not all(parts) or {".", ".."} & set(parts):
            raise SpecError(
                "seed", "has a name that is none", value=path, accepted="'a/file'"
            )
        files[path] = content.encode() if isinstance(content, str) else bytes(content)
    clash = next(
        (p for p in files for q in files if q.startswith(f"{p}/")),
        None,
    )
    if clash is not None:
        raise SpecError("seed", "has a file that is a directory too", value=clash)
    return files


@attrs.frozen
class Volume:
    """
    A directory of a store that outlasts containers, and may be shared by several.

    A value: it is mounted by its name (`Mount.volume`), and made by `create`, or by the
    first container that mounts it.

    >>> Volume("database")
    Volume('database')

    Attributes:
        name: Its name.

        store: Path of the store that it is in; ``None`` for the usual one.
    """

    name: str = attrs.field(converter=volume_name)
    store: str | None = attrs.field(default=None, converter=store_path)

    @classmethod
    def create(
        cls,
        name: str,
        *,
        labels: Mapping[str, str] | None = None,
        seed: Mapping[str, str | bytes] | None = None,
        size: int | str | None = None,
        exist_ok: bool = False,
        store: Store | AnyPath | None = None,
    ) -> Self:
        """
        Make a volume. It is on the disk when this returns.

        Args:
            name: What it is called.

            labels: Texts to keep with it.

            seed: The files in it at first, by path. They belong to root of whichever
                container; nothing of an image is copied then.

            size: The most that it may hold. No file system that a store is kept on
                bounds a directory without a quota of its own, so this is refused; it
                is here to say so.

            exist_ok: If there is one of that name, return it as it is.

            store: Where it is kept.

        Raises:
            SpecError: If there is one of that name.

            NotEnforced: If a size is wanted.
        """
        volume = cls(name, store_path(store))
        if size is not None:
            raise NotEnforced(
                "the size of a volume",
                f"nothing bounds a directory to {parse_size(size, 'size')} bytes",
                remedy=(
                    "Mount.tmpfs(target, size) is bounded and lives in memory;"
                    " Limits(disk=...) bounds what a container writes elsewhere."
                ),
            )
        default_engine().volumes.create(
            name,
            labels=labels_of(labels),
            seed=None if seed is None else _seed(seed),
            exist_ok=exist_ok,
            store=volume.store,
        )
        return volume

    @classmethod
    def get(cls, name: str, *, store: Store | AnyPath | None = None) -> Self:
        """
        Find a volume.

        Raises:
            NotFound: If there is none.
        """
        volume = cls(name, store_path(store))
        default_engine().volumes.info(name, volume.store)
        return volume

    @classmethod
    def list(
        cls,
        *,
        labels: Mapping[str, str] | None = None,
        store: Store | AnyPath | None = None,
    ) -> "list[Self]":
        """
        Return all volumes, sorted by name.

        Args:
            labels: Only those that have all of these.

            store: Where they are kept.
        """
        wanted = set(labels_of(labels).items())
        where = store_path(store)
        return [
            cls(info.name, where)
            for info in default_engine().volumes.list(where)
            if wanted <= set(info.labels.items())
        ]

    @classmethod
    def prune(cls, *, store: Store | AnyPath | None = None) -> "Iterable[str]":
        """Remove all volumes that no container uses; their names."""
        return tuple(default_engine().volumes.prune(store_path(store)))

    @property
    def labels(self) -> FrozenMap[str, str]:
        """What its maker wrote on it."""
        found = default_engine().volumes.info(self.name, self.store).labels
        return FrozenMap(found)

    @property
    def created(self) -> float:
        """When it was made, in seconds since 1970."""
        return default_engine().volumes.info(self.name, self.store).created

    def size(self) -> int:
        """Count the bytes that it takes on the disk."""
        return default_engine().volumes.size(self.name, self.store)

    def remove(self) -> None:
        """
        Remove it with everything in it.

        Raises:
            NotFound: If there is none.

            InUse: If a container uses it. Nothing was removed.
        """
        default_engine().volumes.remove(self.name, self.store)

    def __repr__(self) -> str:
        where = "" if self.store is None else f", store={self.store!r}"
        return f"Volume({self.name!r}{where})"
