"""
This machine as an engine: one keeper for the process, plans kept for equal specs.
"""

import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from jailbox.engine.base import Io
from jailbox.engine.box import LocalBox
from jailbox.engine.detached import DetachedBox, find_detached, list_detached
from jailbox.engine.doctor import Report, Trial, doctor
from jailbox.engine.foreign import check_program
from jailbox.errors import EngineError, JailboxError, LaunchError, SpecError
from jailbox.flow import Flow, drive
from jailbox.linux.cgroup.plan import keeper_dirs
from jailbox.linux.facts import HostFacts, read_facts
from jailbox.linux.keeper import Keeper, KeeperConfig
from jailbox.linux.plan import Group, LaunchPlan, Program
from jailbox.linux.probe import landlock_abi
from jailbox.linux.record import Descriptors, encode_start
from jailbox.linux.state import run_directory
from jailbox.run.compile import Compiled, compile_container, compile_program
from jailbox.run.host import HOSTNAME, host_rootfs
from jailbox.run.images import directory_rootfs
from jailbox.run.process import Process
from jailbox.run.rootfs import Rootfs, with_copies
from jailbox.run.sandbox import Sandbox, Wanted
from jailbox.run.streams import check_input
from jailbox.run.users import identify
from jailbox.spec.command import Input
from jailbox.spec.container import ContainerSpec, ProgramSpec
from jailbox.spec.image import Directory, Host, Stored
from jailbox.spec.mount import VolumeMount
from jailbox.spec.result import Result
from jailbox.spec.security import DEFAULT_MASKED_PATHS

if TYPE_CHECKING:
    from jailbox.engine.images import LocalImages
    from jailbox.engine.volumes import LocalVolumes, Mounted
    from jailbox.run.stored import StoredImage
    from jailbox.store.leases import Lease

__all__ = ["LocalEngine"]

T = TypeVar("T")

_KEPT = 256
"""How many plans and records are kept; one is some 6 KiB."""


class _Recent(OrderedDict[Hashable, Any]):
    """What was made lately, by what it was made from."""

    def of(self, key: Hashable, make: Callable[[], T]) -> T:
        found: T | None = self.get(key)
        if found is None:
            # Two threads may make the same; values are equal and the last one stays.
            found = make()
            self[key] = found
            if len(self) > _KEPT:
                self.popitem(last=False)
        return found


def _resolver() -> str | None:
    """How the host finds names, for a jail that shares its network."""
    try:
        with open("/etc/resolv.conf", encoding="utf-8", errors="replace") as file:
            return file.read(_RESOLVER_MAX)
    except OSError:
        return None


_RESOLVER_MAX = 64 << 10


@attrs.frozen
class _Prepared:
    """A run, ready but for the name of its jail."""

    compiled: Compiled
    program: Program


class LocalEngine:
    """
    Containers on this machine.

    Thread-safe. Belongs to the process that made it; `jailbox.engine.choose` gives a
    forked child another.
    """

    def __init__(self, store: str | None = None, *, offline: bool = False) -> None:
        """
        Nothing is started or opened yet.

        Args:
            store: Where the usual store of images is; ``None`` for where this user's
                is.

            offline: Never ask a registry.
        """
        self._store = store
        self._offline = offline
        self._images: LocalImages | None = None
        self._lock = threading.Lock()
        self._keeper: Keeper | None = None
        self._facts: HostFacts | None = None
        self._recent = _Recent()
        self._boxes: weakref.WeakValueDictionary[str, LocalBox] = (
            weakref.WeakValueDictionary()
        )
        self._serial = 0

    # --- what there is ---------------------------------------------------------

    @property
    def facts(self) -> HostFacts:
        """This machine, read once."""
        if self._facts is None:
            self._facts = read_facts(DEFAULT_MASKED_PATHS, landlock_abi)
        return self._facts

    def keeper(self) -> Keeper:
        """The living keeper, started on first use."""
        keeper = self._keeper
        if keeper is not None and keeper.alive:
            return keeper
        with self._lock:
            keeper = self._keeper
            if keeper is None or not keeper.alive:
                if keeper is not None:
                    keeper.close()
                    self._recent.clear()
                config = KeeperConfig(facts=self.facts, groups=self.parents())
                keeper = Keeper(config)
                self._keeper = keeper
            return keeper

    def parents(self) -> tuple[Group, ...]:
        """The control groups that all jails of a keeper stand below."""
        return tuple(
            Group(
                path=directory.path.replace("/KEEPER", "/{keeper}"),
                settings=directory.writes,
                shared=True,
            )
            for directory in keeper_dirs(self.facts.cgroups, "KEEPER")
        )

    @property
    def images(self) -> "LocalImages":
        """The images of this machine; what they need is loaded when asked for."""
        if self._images is None:
            from jailbox.engine.images import LocalImages

            with self._lock:
                if self._images is None:
                    self._images = LocalImages(
                        lambda: self.facts,
                        self.keeper,
                        run=self.run,
                        path=self._store,
                        offline=self._offline,
                    )
        return self._images

    @property
    def volumes(self) -> "LocalVolumes":
        """The volumes of this machine."""
        from jailbox.engine.volumes import LocalVolumes

        return LocalVolumes(self.images.store, self.run, self._detached_users)

    def _detached_users(self, name: str, store: str) -> list[str]:
        """Name the detached containers that have a volume of a store mounted."""
        return [
            f"container {box.name}"
            for box in list_detached(self)
            for mount in box.spec.mounts
            if isinstance(mount, VolumeMount)
            and mount.name == name
            and self.images.store(mount.store).path == store
        ]

    def mounted(
        self, spec: ContainerSpec, rootfs: Rootfs, *, build: bool = False
    ) -> "Flow[Mounted | None]":
        """
        Make directories of the volumes of a container; ``None`` if there are none.

        Args:
            spec: What is wanted.

            rootfs: What its root is put together from.

            build: What it writes becomes a layer, also where the image says that there
                is a volume.
        """
        named = any(isinstance(mount, VolumeMount) for mount in spec.mounts)
        if not named and (build or not rootfs.config.volumes):
            return None
        return (yield from self.volumes.mounted(spec, rootfs, build=build))

    def close(self) -> None:
        """End the keeper and with it every container of this process."""
        with self._lock:
            keeper, self._keeper = self._keeper, None
            images, self._images = self._images, None
        if keeper is not None:
            keeper.close()
        if images is not None:
            images.close()

    def settle(self) -> None:
        """
        Hold nothing of the machine that no container of this process needs.

        After some starts in a row the next container is made ahead, and holds the
        file systems that it was made from for up to two seconds more.
        """
        keeper = self._keeper
        if keeper is not None and keeper.alive:
            keeper.settle()

    def new_name(self, prefix: str) -> str:
        """Make a name for control groups that no other jail of this keeper has."""
        with self._lock:
            self._serial += 1
            return f"{prefix}-{self._serial}"

    # --- deciding ----------------------------------------------------------------

    def rootfs(self, spec: ContainerSpec) -> Rootfs:
        """Find what the root file system is put together from."""
        match spec.image:
            case Host():
                private = spec.network.private
                rootfs = self._recent.of(
                    ("host", private), lambda: host_rootfs(network=not private)
                )
                return with_copies(rootfs, spec.mounts)
            case Directory(path, config):
                rootfs = directory_rootfs(path, config)
            case Stored() as image:
                stored: StoredImage = self._recent.of(
                    image, lambda: self.images.root(image)
                )
                rootfs = stored.rootfs()
            case _:
                raise SpecError(
                    "image",
                    "is no image",
                    value=spec.image,
                    accepted="Image.host(), Image.from_dir(path), Image.get(name)",
                )
        if not spec.network.private:
            rootfs = attrs.evolve(rootfs, resolver=_resolver())
        return with_copies(rootfs, spec.mounts)

    def lease(self, spec: ContainerSpec) -> "Lease | None":
        """Keep an image of a store from being removed; ``None`` for any other."""
        if isinstance(spec.image, Stored):
            return self.images.lease(spec.image)
        return None

    def compile(
        self,
        spec: ContainerSpec,
        rootfs: Rootfs,
        *,
        hostname: str,
        keep_layer: bool = False,
        reuse: bool = False,
        given: bool = False,
        past: int = 0,
        keeper: Keeper | None = None,
    ) -> Compiled:
        """Decide everything about a container but its programs."""
        keeper = keeper or self.keeper()
        prepared = stack = None
        if rootfs.prepared is not None and self.facts.can_clone_detached:
            prepared = keeper.prepare(rootfs.prepared)
            if prepared is None:
                raise EngineError("the keeper holds as many shared trees as it can")
        if rootfs.stack is not None and self.facts.can_mount_on_detached:
            stack = keeper.prepare(rootfs.stack)
        name = keeper.name
        # Containers that differ in their name alone are made the same way.
        nameless = attrs.evolve(spec, name=None, labels=None)
        return self._recent.of(
            (
                nameless,
                rootfs,
                name,
                prepared,
                stack,
                keep_layer,
                reuse,
                given,
                past,
                hostname,
            ),
            lambda: compile_container(
                spec,
                self.facts,
                rootfs,
                keeper=name,
                prepared=prepared,
                stack=stack,
                hostname=hostname,
                keep_layer=keep_layer,
                reuse=reuse,
                given=given,
                past=past,
            ),
        )

    def compile_program(
        self,
        program: ProgramSpec,
        spec: ContainerSpec,
        rootfs: Rootfs,
        compiled: Compiled,
        *,
        hostname: str,
        log_limit: int | None = None,
    ) -> Program:
        """Decide everything about one program."""
        user = program.user or spec.user or rootfs.config.user
        groups = program.groups or spec.groups
        identity = identify(user, groups, rootfs.passwd, rootfs.group)
        return compile_program(
            program,
            spec,
            rootfs,
            compiled.security,
            identity,
            hostname=hostname,
            log_limit=log_limit,
        )

    def check_program(self, spec: ContainerSpec, program: Program) -> None:
        """
        Refuse a program of a stored image that this machine cannot execute.

        Raises:
            Unsupported: If it is for another processor.
        """
        image = spec.image
        if isinstance(image, Stored):
            where = (program.argv[0], program.path, program.cwd)

            def look() -> bool:
                check_program(program, lambda path: self.images.open(image, path))
                return True

            self._recent.of(("architecture", image, where), look)

    def record(self, plan: LaunchPlan, fds: Descriptors) -> bytearray:
        """Encode a plan; equal ones are encoded once."""
        return bytearray(self._recent.of((plan, fds), lambda: encode_start(plan, fds)))

    def _prepare_run(
        self, spec: ContainerSpec, rootfs: Rootfs, *, given: bool = False
    ) -> _Prepared:
        spec.check()
        program = spec.program(rootfs.config)
        if program is None:
            raise SpecError(
                "argv",
                "is missing, and the image names no command",
                accepted="['program', ...]",
            )
        hostname = spec.hostname or HOSTNAME
        compiled = self.compile(spec, rootfs, hostname=hostname, given=given)
        main = self.compile_program(program, spec, rootfs, compiled, hostname=hostname)
        self.check_program(spec, main)
        # One wake-up less: what is run to its end was executed.
        main = attrs.evolve(main, quiet=main.tty is None)
        plan = attrs.evolve(compiled.plan, program=main)
        return _Prepared(attrs.evolve(compiled, plan=plan), main)

    # --- doing -------------------------------------------------------------------

    def run(
        self,
        spec: ContainerSpec,
        io: Io,
        source: Input | None = None,
        timeout: float | None = None,
    ) -> Flow[Result[Any]]:
        """Run one program in a container of its own, to its end."""
        if source is not None:
            check_input(source)
        lease = self.lease(spec)
        try:
            return (yield from self._run(spec, io, source, timeout))
        finally:
            if lease is not None:
                lease.release()

    def run_on(
        self,
        layer: int,
        spec: ContainerSpec,
        io: Io,
        source: Input | None = None,
        timeout: float | None = None,
        *,
        rootfs: Rootfs | None = None,
    ) -> Flow[Result[Any]]:
        """
        Run one program in a container whose writable layer is a directory of the disk.

        What the program wrote is in the directory ``UPPER`` of *layer* afterwards, as
        the tree of a layer: owners are those of the image, also where the jail had ids
        of its own; what is not there any more is a character device 0:0; a directory
        that hides what is below has ``user.overlay.opaque``. Nobody writes to it any
        more when this returns.

        A step of a build is: a directory below ``tmp`` of the store
        (`jailbox.store.written.writing`), this, and `Written.keep`, which packs
        ``UPPER`` and renames it into its place; no byte is copied. A further run on the
        same *layer* goes on where the one before ended. What else lies in *layer*
        (`run.overlays.SCRATCH`) is removed with the directory.

        Args:
            layer: Descriptor of a directory that nobody else uses, on a file system
                with attributes of users; borrowed. It may not be on an overlay.

            spec: What is wanted. Its image is to be leased by the caller.

            io: How the program is connected.

            source: What it reads.

            timeout: Seconds.

            rootfs: What lies below, instead of what the image of *spec* has.

        Raises:
            LaunchError: If the kernel refuses the directory as a layer.
        """
        if source is not None:
            check_input(source)
        return (yield from self._run(spec, io, source, timeout, layer, rootfs))

    def _run(
        self,
        spec: ContainerSpec,
        io: Io,
        source: Input | None,
        timeout: float | None,
        layer: int | None = None,
        rootfs: Rootfs | None = None,
    ) -> Flow[Result[Any]]:
        keeper = self.keeper()
        # Its files may have changed: a directory is looked at for every run, and what
        # was found is part of the question that the kept plan answers.
        below = self.rootfs(spec) if rootfs is None else rootfs
        given = layer is not None
        mounted = yield from self.mounted(spec, below, build=given)
        spec = spec if mounted is None else mounted.spec
        try:
            return (
                yield from self._run_in(keeper, spec, io, source, timeout, layer, below)
            )
        finally:
            if mounted is not None:
                mounted.release()

    def _run_in(
        self,
        keeper: Keeper,
        spec: ContainerSpec,
        io: Io,
        source: Input | None,
        timeout: float | None,
        layer: int | None,
        below: Rootfs,
    ) -> Flow[Result[Any]]:
        given = layer is not None
        ready = self._recent.of(
            (spec, keeper.name, below, given),
            lambda: self._prepare_run(spec, below, given=given),
        )
        sandbox = Sandbox(
            keeper,
            ready.compiled,
            self.new_name("run"),
            spec.limits,
            records=self.record,
        )
        wanted = Wanted(
            stdin=source is not None and spec.tty is None,
            merge=spec.stderr == "stdout",
            text=io.text,
            pass_fds=io.pass_fds,
            max_output=spec.max_output,
            timeout=timeout,
        )
        process: Process[Any] | None = sandbox.start(ready.program, wanted, layer)
        assert process is not None  # noqa: S101  # there is a program
        try:
            if spec.tty is not None:
                # Its terminal comes with the news that it was executed.
                yield from process.begin()
            return (yield from process.communication(source))
        finally:
            process.close()
            sandbox.close()

    def create(self, spec: ContainerSpec) -> LocalBox:
        """Make a container; nothing is started."""
        spec.check()
        with self._lock:
            self._serial += 1
            name = spec.name or f"jail-{os.getpid()}-{self._serial}"
            if name in self._boxes:
                raise SpecError(
                    "name",
                    "is taken by another container of this process",
                    value=name,
                    accepted="another name, or none",
                )
            kind = DetachedBox if spec.detach else LocalBox
            box = kind(self, attrs.evolve(spec, name=name))
            self._boxes[name] = box
        return box

    def forget(self, name: str) -> None:
        """A container is removed: its name is free."""
        with self._lock:
            self._boxes.pop(name, None)

    def find(self, name: str) -> LocalBox:
        """Find a container by its name."""
        with self._lock:
            box = self._boxes.get(name)
        return find_detached(self, name) if box is None else box

    def boxes(self) -> Sequence[LocalBox]:
        """Every container of this process, and every detached one of this user."""
        with self._lock:
            own = dict(self._boxes)
        others = [box for box in list_detached(self) if box.name not in own]
        return (*own.values(), *others)

    def doctor(self) -> Report:
        """Examine the machine, and start one real jail."""
        return doctor(
            run_dir=run_directory(), landlock_abi=landlock_abi, trial=self._trial
        )

    def _trial(self) -> Trial:
        began = time.monotonic()
        spec = ContainerSpec(image=Host(), command=("true",))
        try:
            result = drive(self.run(spec, Io()))
        except LaunchError as error:
            return Trial(
                started=False,
                step=error.step,
                errno=error.errno or 0,
                detail=error.detail or "",
            )
        except (JailboxError, OSError) as error:
            return Trial(started=False, message=str(error))
        return Trial(started=result.ok, seconds=time.monotonic() - began)
