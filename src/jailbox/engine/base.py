"""
The seam: what the faces ask of wherever containers run.

Values go in, handles come out; whatever waits is a flow. `jailbox.engine.local` is
this machine. An engine elsewhere needs no change above this file.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Protocol, TypeAlias

import attrs

from jailbox.flow import Flow
from jailbox.spec.change import Change
from jailbox.spec.command import Input
from jailbox.spec.container import ContainerSpec, ContainerState, ProgramSpec
from jailbox.spec.result import Result

if TYPE_CHECKING:
    from jailbox.engine.changes import Changes
    from jailbox.engine.doctor import Report
    from jailbox.engine.snapshot import Snapshot
    from jailbox.registry.client import Client
    from jailbox.registry.events import Event
    from jailbox.run.files import Files
    from jailbox.run.process import Process
    from jailbox.spec.commit import CommitSpec
    from jailbox.spec.debian import DebianWish
    from jailbox.spec.digest import Digest
    from jailbox.spec.image import ImageConfig, Stored
    from jailbox.spec.info import ImageInfo
    from jailbox.spec.platform import Platform
    from jailbox.spec.reference import Reference
    from jailbox.store.check import CheckReport
    from jailbox.store.prune import Pruned
    from jailbox.store.usage import Usage

__all__ = [
    "ArchiveFormat",
    "Box",
    "Engine",
    "Images",
    "Io",
    "LogEntry",
    "Stats",
    "VolumeInfo",
    "Volumes",
]


ArchiveFormat: TypeAlias = Literal["docker", "oci", "oci-dir"]
"""What images are saved as: what ``docker load`` reads, or an OCI layout."""


@attrs.frozen(kw_only=True)
class Io:
    """
    How a program is connected to its caller.

    Attributes:
        text: Output is text rather than bytes.

        stdin: It gets a pipe for its input, which is otherwise empty.

        pass_fds: Descriptors of the caller that it gets as 3, 4, ...; borrowed.
    """

    text: bool = True
    stdin: bool = False
    pass_fds: tuple[int, ...] = ()


@attrs.frozen(kw_only=True)
class Stats:
    """
    One look at a running container. ``None`` is what nobody counts.

    Attributes:
        memory: Bytes in use.

        memory_peak: The most so far.

        cpu_time: Seconds of processor time so far.

        processes: Processes and threads now.

        io_read: Bytes read from block devices so far.

        io_written: Bytes written to block devices so far.
    """

    memory: int | None = None
    memory_peak: int | None = None
    cpu_time: float | None = None
    processes: int | None = None
    io_read: int | None = None
    io_written: int | None = None


@attrs.frozen
class LogEntry:
    """
    A piece of what the main program wrote.

    Attributes:
        time: Seconds since the epoch.

        stream: ``stdout``, ``stderr``, or ``truncated`` where the log was full.

        data: The bytes.
    """

    time: float
    stream: str
    data: bytes

    @property
    def text(self) -> str:
        """The bytes as text."""
        return self.data.decode("utf-8", "replace")


class Box(Protocol):
    """One container, wherever it is."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def spec(self) -> ContainerSpec:
        """What was wanted."""

    @property
    def state(self) -> ContainerState | None:
        """The state it is in now; ``None`` when it is removed."""

    @property
    def result(self) -> Result[Any] | None:
        """What came of its last run, if that is over."""

    @property
    def pid(self) -> int | None:
        """The number of its main program in it, while it runs."""

    def start(self, timeout: float | None) -> Flow[None]:
        """Start it."""

    def stop(self, timeout: float | None) -> Flow[None]:
        """Ask it to end, then end it."""

    def kill(self, number: int) -> Flow[None]:
        """Send its main program a signal; SIGKILL ends everything."""

    def pause(self, timeout: float | None) -> Flow[None]:
        """Stop the time of everything in it."""

    def resume(self) -> Flow[None]:
        """Let it go on."""

    def wait(self, timeout: float | None) -> Flow[Result[Any]]:
        """Wait for its end."""

    def remove(self) -> Flow[None]:
        """End it and remove everything of it."""

    def execute(
        self, program: ProgramSpec, io: Io, source: Input | None
    ) -> Flow[Result[Any]]:
        """Run a program in it to its end."""

    def open(self, program: ProgramSpec, io: Io) -> "Flow[Process[Any]]":
        """Start a program in it; the process."""

    def files(self) -> "Files":
        """Its files."""

    def changes(self) -> "Changes":
        """What differs from the image."""

    def commit(self, wish: "CommitSpec") -> "Flow[Stored]":
        """Make an image of its files."""

    def snapshot(self, *, end: bool = False) -> "Flow[Snapshot]":
        """Keep its files as they are, without touching them."""

    def reset(self, snapshot: "Snapshot") -> Flow[None]:
        """End what runs in it, and let its files be those of a snapshot."""

    def fork(
        self, count: int, snapshot: "Snapshot | None" = None, *, end: bool = False
    ) -> "Flow[Sequence[Box]]":
        """Make containers that have its files, and their own from there on."""

    def stats(self) -> Stats:
        """What it uses now."""

    def logs(self) -> Sequence[LogEntry]:
        """What its main program wrote so far."""


class Images(Protocol):
    """The images of an engine. Stores are named by path; ``None`` is the usual one."""

    def release(self, store: str | None = None) -> None:
        """Close a store; it is opened again when it is needed."""

    def find(self, name: str, store: str | None = None) -> "Stored":
        """Find an image by name, digest, or the first digits of one."""

    def list(self, store: str | None = None) -> "Sequence[Stored]":
        """Find all images."""

    def names(self, image: "Stored") -> "tuple[Reference, ...]":
        """Return the names of an image."""

    def info(self, image: "Stored") -> "ImageInfo":
        """Describe an image."""

    def open(self, image: "Stored", path: str) -> BinaryIO:
        """Open a file of an image."""

    def diff(self, before: "Stored", after: "Stored") -> tuple[Change, ...]:
        """Compare two images of one store."""

    def load(
        self,
        source: str | BinaryIO,
        *,
        select: str | None = None,
        move: bool = False,
        platform: "Platform | None" = None,
        store: str | None = None,
    ) -> "Sequence[Stored]":
        """Take in the images of an archive or a layout: all of them, or none."""

    def import_rootfs(
        self,
        source: str | BinaryIO,
        *,
        names: "Sequence[Reference]",
        config: "ImageConfig | None",
        platform: "Platform | None",
        move: bool = False,
        store: str | None = None,
    ) -> "Stored":
        """Make an image of a root file system in a tar archive."""

    def save(
        self,
        images: "Sequence[tuple[Stored, Sequence[Reference] | None]]",
        target: str | BinaryIO,
        form: ArchiveFormat,
    ) -> None:
        """Write images of one store, each under the names given, or all that it has."""

    def debian(
        self,
        wish: "DebianWish",
        *,
        platform: "Platform | None" = None,
        refresh: bool = False,
        store: str | None = None,
        timeout: float | None = None,
    ) -> "Stored":
        """Find the image that was made for an equal wish, or make it of packages."""

    def tag(self, image: "Stored", name: "Reference") -> None:
        """Give an image a further name; another image loses it."""

    def untag(self, name: "Reference", store: str | None = None) -> None:
        """Take a name away; the image stays."""

    def remove(self, image: "Stored", *, force: bool = False) -> None:
        """Remove an image, and the garbage it leaves."""

    def pull(
        self,
        name: "Reference",
        *,
        client: "Client | None" = None,
        platform: "Platform | None" = None,
        store: str | None = None,
        timeout: float | None = None,
        on_event: "Callable[[Event], None] | None" = None,
    ) -> "Stored":
        """Pull an image and give it its name."""

    def push(
        self,
        image: "Stored",
        name: "Reference",
        *,
        client: "Client | None" = None,
        timeout: float | None = None,
        on_event: "Callable[[Event], None] | None" = None,
    ) -> "Digest":
        """Push an image under a name; the digest by which it is found there."""

    def resolve(self, name: "Reference", client: "Client | None" = None) -> "Digest":
        """Ask what a name stands for in its registry now."""

    def check(self, store: str | None = None, *, full: bool = False) -> "CheckReport":
        """Look whether a store is what it should be."""

    def usage(self, store: str | None = None) -> "Usage":
        """Add up what a store takes."""

    def prune(
        self,
        store: str | None = None,
        *,
        max_bytes: int | None = None,
        older_than: float | None = None,
    ) -> "Pruned":
        """Remove what was not used for long."""


@attrs.frozen(kw_only=True)
class VolumeInfo:
    """
    What is known of a volume.

    Attributes:
        name: Its name.

        labels: What its maker wrote on it.

        created: When it was made, in seconds since 1970.
    """

    name: str
    labels: Mapping[str, str]
    created: float


class Volumes(Protocol):
    """The volumes of an engine. Stores are named by path; ``None`` is the usual one."""

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

    def info(self, name: str, store: str | None = None) -> VolumeInfo:
        """Describe a volume."""

    def size(self, name: str, store: str | None = None) -> int:
        """Return the bytes that a volume takes."""

    def list(self, store: str | None = None) -> Sequence[VolumeInfo]:
        """Describe all volumes."""

    def remove(self, name: str, store: str | None = None) -> None:
        """Remove a volume with everything in it."""

    def prune(self, store: str | None = None) -> Sequence[str]:
        """Remove all volumes that nobody uses; their names."""


class Engine(Protocol):
    """A place where containers run."""

    @property
    def volumes(self) -> Volumes:
        """What outlasts them."""

    @property
    def images(self) -> Images:
        """What they are made of."""

    def run(
        self, spec: ContainerSpec, io: Io, source: Input | None, timeout: float | None
    ) -> Flow[Result[Any]]:
        """Run one program in a container of its own, to its end."""

    def create(self, spec: ContainerSpec) -> Box:
        """Make a container; nothing is started."""

    def find(self, name: str) -> Box:
        """Find a container by its name."""

    def boxes(self) -> Sequence[Box]:
        """Every container there is."""

    def doctor(self) -> "Report":
        """Examine the machine."""
