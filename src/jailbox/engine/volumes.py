"""
Volumes of this machine: their verbs, and how they come into containers.

To the kernel a volume is a directory like any other that is mounted: all that is
special about it was done before. It is leased, made if need be, and filled with what
the image has at its place, once. What images call a volume gets a directory that goes
with the container.
"""

import inspect
import io
import os
import tarfile
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, BinaryIO

import attrs

from jailbox.engine import copying
from jailbox.engine.base import Io, VolumeInfo
from jailbox.errors import EngineError, InUse
from jailbox.flow import Flow
from jailbox.run.rootfs import Rootfs
from jailbox.spec.container import ContainerSpec
from jailbox.spec.image import Host, Stored
from jailbox.spec.mount import AnyMount, Bind, Mount, VolumeMount
from jailbox.spec.security import DEFAULT_SECURITY
from jailbox.store.records import VolumeRecord
from jailbox.store.store import Store
from jailbox.store.volumes import Scratch, VolumeLease

if TYPE_CHECKING:
    from jailbox.engine.debian import Run

__all__ = ["LocalVolumes", "Mounted"]

_LAYERS = "/mnt"
_TARGET = "/srv"


@attrs.frozen
class Mounted:
    """
    A spec whose volumes are directories now, and what keeps these.

    Attributes:
        spec: What is to be started.
    """

    spec: ContainerSpec
    held: tuple[VolumeLease | Scratch, ...] = ()

    def release(self) -> None:
        """Let go of the volumes; those without a name are deleted."""
        for one in self.held:
            one.release()


class LocalVolumes:
    """
    The volumes of this machine.

    Args:
        store: Opens a store.

        run: Runs a container, in which volumes are filled.

        users: Names the detached containers that use a volume.
    """

    def __init__(
        self,
        store: Callable[[str | None], Store],
        run: "Run",
        users: Callable[[str, str], Sequence[str]],
    ) -> None:
        self._store = store
        self._run = run
        self._users = users

    # ---- life --------------------------------------------------------------

    def create(
        self,
        name: str,
        *,
        labels: Mapping[str, str],
        seed: Mapping[str, bytes] | None = None,
        exist_ok: bool = False,
        store: str | None = None,
    ) -> None:
        """Make a volume."""
        volumes = self._store(store).volumes
        if seed is None:
            volumes.create(name, labels=labels, exist_ok=exist_ok)
            return
        archive = os.memfd_create("jailbox-seed", os.MFD_CLOEXEC)
        with os.fdopen(archive, "w+b") as file:
            _write_seed(file, seed)
            file.seek(0)
            volumes.create(name, labels=labels, seed=archive, exist_ok=exist_ok)

    def info(self, name: str, store: str | None = None) -> VolumeInfo:
        """Describe a volume."""
        return _info(self._store(store).volumes.get(name))

    def size(self, name: str, store: str | None = None) -> int:
        """Return the bytes that a volume takes."""
        volumes = self._store(store).volumes
        return volumes.size(volumes.get(name))

    def list(self, store: str | None = None) -> Sequence[VolumeInfo]:
        """Describe all volumes."""
        return [_info(record) for record in self._store(store).volumes.all()]

    def remove(self, name: str, store: str | None = None) -> None:
        """Remove a volume with everything in it."""
        room = self._store(store)
        users = self._users(name, room.path)
        if users:
            raise InUse("volume", name, users, hint="Remove these containers first.")
        room.volumes.remove(name)

    def prune(self, store: str | None = None) -> Sequence[str]:
        """Remove all volumes that nobody uses; their names."""
        gone = []
        for info in self.list(store):
            try:
                self.remove(info.name, store)
            except InUse:
                continue
            gone.append(info.name)
        return gone

    # ---- in containers -----------------------------------------------------

    def mounted(
        self, spec: ContainerSpec, rootfs: Rootfs, *, build: bool = False
    ) -> Flow[Mounted]:
        """
        Make directories of the volumes of a container, and fill those that are new.

        Whatever is held is let go of by `Mounted.release`.
        """
        held: list[VolumeLease | Scratch] = []
        mounts: list[AnyMount] = []
        try:
            for mount in spec.mounts:
                if isinstance(mount, VolumeMount):
                    lease = self._lease(mount)
                    held.append(lease)
                    yield from self._fill(lease, mount, spec, rootfs)
                    mounts.append(_bind(lease.path, mount))
                else:
                    mounts.append(mount)
            for target in () if build else _nameless(spec, rootfs):
                assert isinstance(spec.image, Stored)  # noqa: S101  # see _nameless()
                scratch = self._store(spec.image.store).volumes.scratch()
                held.append(scratch)
                yield from self._copy(scratch.path, target, spec, rootfs)
                mounts.append(Mount.bind(scratch.path, target, writable=True))
        except BaseException:
            Mounted(spec, tuple(held)).release()
            raise
        return Mounted(attrs.evolve(spec, mounts=mounts), tuple(held))

    def _lease(self, mount: VolumeMount) -> VolumeLease:
        volumes = self._store(mount.store).volumes
        volumes.create(mount.name, exist_ok=True)
        return volumes.lease(mount.name)

    def _fill(
        self,
        lease: VolumeLease,
        mount: VolumeMount,
        spec: ContainerSpec,
        rootfs: Rootfs,
    ) -> Flow[None]:
        with self._store(mount.store).volumes.filling(lease) as empty:
            if empty and mount.copy:
                yield from self._copy(lease.path, mount.target, spec, rootfs)

    def _copy(
        self, path: str, target: str, spec: ContainerSpec, rootfs: Rootfs
    ) -> Flow[None]:
        layers = [] if isinstance(spec.image, Host) else list(rootfs.layers[::-1])
        layers = [layer for layer in layers if _may_have(layer, target)]
        if not layers:
            return
        seen = [f"{_LAYERS}/{number}" for number in range(len(layers))]
        source = inspect.getsource(copying)
        command = ("python3", "-I", "-S", "-c", source, _TARGET, target, *seen)
        binds = [Mount.bind(*pair) for pair in zip(layers, seen, strict=True)]
        filler = ContainerSpec(
            image=Host(),
            command=command,
            mounts=[*binds, Mount.bind(path, _TARGET, writable=True)],
            security=attrs.evolve(
                DEFAULT_SECURITY,
                userns=spec.security.userns,
                degrade=spec.security.degrade,
            ),
        )
        result = yield from self._run(filler, Io(), None, None)
        if not result.ok:
            raise EngineError(
                f"a volume could not be filled with {target} of the image",
                result.summary(),
                hint=result.last_words() or None,
            )


def _bind(path: str, mount: VolumeMount) -> Bind:
    return Mount.bind(
        path, mount.target, writable=mount.writable, recursive=False, exec=mount.exec
    )


def _nameless(spec: ContainerSpec, rootfs: Rootfs) -> list[str]:
    """
    List what an image calls volumes, and nobody has mounted anything on.

    What outlives this process keeps them in its writable layer, and so does what is
    made of a directory: nobody could remove them, and no store would have them.
    """
    if spec.detach or not isinstance(spec.image, Stored):
        return []
    taken = {mount.target for mount in spec.mounts}
    return [target for target in rootfs.config.volumes if target not in taken]


def _may_have(layer: str, path: str) -> bool:
    """Tell whether a layer may say something about a path."""
    place = layer
    for name in filter(None, path.split("/")):
        place = os.path.join(place, name)
        try:
            if os.path.islink(place) or not os.path.isdir(place):
                os.lstat(place)
                return True
        except FileNotFoundError:
            return False
        except OSError:
            return True
    return True


def _write_seed(file: BinaryIO, seed: Mapping[str, bytes]) -> None:
    made: set[str] = set()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, content in sorted(seed.items()):
            parts = path.split("/")
            for depth in range(1, len(parts)):
                parent = "/".join(parts[:depth])
                if parent not in made:
                    made.add(parent)
                    entry = tarfile.TarInfo(parent)
                    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                    tar.addfile(entry)
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))


def _info(record: VolumeRecord) -> VolumeInfo:
    return VolumeInfo(
        name=record.name, labels=dict(record.labels), created=float(record.created)
    )
