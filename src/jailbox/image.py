"""
Image, and `Store`: what users hold. Thin: every line of work is an engine's.
"""

import os
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, BinaryIO, Literal, Self, TypeAlias, cast

import attrs

from jailbox.engine.base import ArchiveFormat
from jailbox.engine.choose import default_engine
from jailbox.errors import ImageNotFound, SpecError, SpecTypeError, StateError
from jailbox.spec.checks import choice
from jailbox.spec.image import NO_CONFIG, Directory, Host, ImageConfig, Source, Stored
from jailbox.spec.texts import AnyPath, absolute_path, text_of
from jailbox.spec.units import parse_duration, parse_size

if TYPE_CHECKING:
    from jailbox.registry.client import Client
    from jailbox.registry.events import Event
    from jailbox.spec.change import Change
    from jailbox.spec.debian import Variant
    from jailbox.spec.digest import Digest
    from jailbox.spec.info import ImageInfo
    from jailbox.spec.platform import Platform
    from jailbox.spec.reference import Reference
    from jailbox.store.check import CheckReport
    from jailbox.store.prune import Pruned
    from jailbox.store.usage import Usage

__all__ = ["Image", "PullPolicy", "Store", "store_path"]

PullPolicy: TypeAlias = Literal["missing", "always", "never"]
"""When a registry is asked: if an image is not there, every time, or not at all."""

_FORMATS: tuple[ArchiveFormat, ...] = ("docker", "oci", "oci-dir")
_POLICIES: tuple[PullPolicy, ...] = ("missing", "always", "never")


def _absolute(path: AnyPath | None) -> str | None:
    return None if path is None else os.path.abspath(text_of(path, "store"))


@attrs.frozen
class Store:
    """
    A directory that images are kept in, shared by every process of a user.

    A value: making one touches nothing. It is made, as a directory, when an image is
    put into it.

    >>> Store("/srv/images")
    Store(path='/srv/images')

    Attributes:
        path: Absolute path; ``None`` for the usual one: ``JAILBOX_STORE``, else
            ``/var/lib/jailbox`` for root and ``~/.local/share/jailbox`` for others.
    """

    path: str | None = attrs.field(default=None, converter=_absolute)

    def close(self) -> None:
        """
        Let go of the directory, which is held open from its first use on.

        Harmless: it is opened again when it is needed, and images in use stay in use.
        """
        default_engine().images.release(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def images(self) -> "list[Image]":
        """Every image in it."""
        return [Image(found) for found in default_engine().images.list(self.path)]

    def check(self, *, full: bool = False) -> "CheckReport":
        """
        Look whether everything in it is what it should be. Nothing is changed.

        Args:
            full: Read everything: a single bit that has flipped is found.
        """
        return default_engine().images.check(self.path, full=full)

    def usage(self) -> "Usage":
        """Add up what it takes of the disk, and which image takes how much."""
        return default_engine().images.usage(self.path)

    def prune(
        self,
        *,
        max_bytes: int | str | None = None,
        older_than: float | timedelta | None = None,
    ) -> "Pruned":
        """
        Remove images that were not used for long, and all garbage.

        The least recently used go first, and those that are in use never. Without
        arguments those go that have no name.

        Args:
            max_bytes: Remove until it takes no more than that.

            older_than: Remove what was not used for that long.
        """
        size = None if max_bytes is None else parse_size(max_bytes, "max_bytes")
        age = None if older_than is None else parse_duration(older_than, "older_than")
        return default_engine().images.prune(self.path, max_bytes=size, older_than=age)


def store_path(store: Store | AnyPath | None) -> str | None:
    """Return the absolute path of a store; ``None`` for the usual one."""
    if store is None or isinstance(store, Store):
        return None if store is None else store.path
    return Store(store).path


def _reference(name: "str | Reference") -> "Reference":
    from jailbox.spec.reference import Reference

    return name if isinstance(name, Reference) else Reference.parse(name)


def _platform(platform: "str | Platform | None") -> "Platform | None":
    from jailbox.spec.platform import Platform

    return None if platform is None else Platform.parse(platform)


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

    # ---- without a store ---------------------------------------------------

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

    # ---- finding -----------------------------------------------------------

    @classmethod
    def get(
        cls,
        name: str,
        *,
        pull: PullPolicy = "missing",
        platform: "str | Platform | None" = None,
        store: Store | AnyPath | None = None,
        client: "Client | None" = None,
        timeout: float | timedelta | None = None,
        on_event: "Callable[[Event], None] | None" = None,
    ) -> Self:
        """
        Find an image by its name, and pull it if it is not there.

        >>> Image.get("debian:12")  # doctest: +SKIP
        Image(source=Stored(digest=Digest('sha256:4b4d…')))

        Args:
            name: A name as ``ruby:2.2.4``, ``host:5000/a/b@sha256:...``, a digest, or
                the first digits of one.

            pull: ``missing`` asks a registry if it is not there, ``always`` asks in
                any case, ``never`` opens no connection.

            platform: For which machine, as ``linux/arm/v7``; by default this one.

            store: Where it is kept.

            client: How registries are reached; by default in the usual way.

            timeout: Seconds that it may take.

            on_event: Is called with what happens while it is pulled.

        Raises:
            InvalidReference: If *name* is none.

            ImageNotFound: If it is nowhere.

            RegistryError: If it has to be pulled and the registry does not give it.
        """
        from jailbox.spec.reference import parse_any

        where, policy = store_path(store), choice(pull, "pull", _POLICIES)
        # Before a store is made for it.
        parse_any(name)
        if policy != "always":
            try:
                return cls(default_engine().images.find(name, where))
            except ImageNotFound:
                if policy == "never" or _is_digest(name):
                    raise
        return cls.pull(
            name,
            platform=platform,
            store=store,
            client=client,
            timeout=timeout,
            on_event=on_event,
        )

    @classmethod
    def pull(
        cls,
        name: "str | Reference",
        *,
        platform: "str | Platform | None" = None,
        store: Store | AnyPath | None = None,
        client: "Client | None" = None,
        timeout: float | timedelta | None = None,
        on_event: "Callable[[Event], None] | None" = None,
    ) -> Self:
        """
        Fetch from a registry what is not here of an image, and give it its name.

        Arguments and errors are those of `get`.
        """
        return cls(
            default_engine().images.pull(
                _reference(name),
                client=client,
                platform=_platform(platform),
                store=store_path(store),
                timeout=_seconds(timeout),
                on_event=on_event,
            )
        )

    @classmethod
    def load(
        cls,
        source: AnyPath | BinaryIO,
        name: str | None = None,
        *,
        move: bool = False,
        platform: "str | Platform | None" = None,
        store: Store | AnyPath | None = None,
    ) -> "list[Self]":
        """
        Take in the images of a file: all of them, or none.

        Reads what ``docker save``, ``podman save``, ``skopeo copy``, ``buildah push``
        and ``umoci`` write: OCI layouts as directory or archive, and archives of
        Docker, also packed. A name that means another image here stays where it is,
        unless *move* is given.

        Args:
            source: A path, or an open file.

            name: The one image of it that is wanted; by default all.

            move: Names that are taken get the new images.

            platform: Where there are several images of a name, for which machine; by
                default this one.

            store: Where they are kept.

        Raises:
            Malformed: If it is no such file.

            DigestMismatch: If a part of it is not what it should be.
        """
        found = default_engine().images.load(
            _file(source),
            select=name,
            move=move,
            platform=_platform(platform),
            store=store_path(store),
        )
        return [cls(image) for image in found]

    @classmethod
    def from_tar(
        cls,
        source: AnyPath | BinaryIO,
        name: "str | Reference | None" = None,
        *,
        config: ImageConfig | None = None,
        move: bool = False,
        platform: "str | Platform | None" = None,
        store: Store | AnyPath | None = None,
    ) -> Self:
        """
        Make an image of a root file system in a tar archive, plain or packed.

        The same archive and config make the same image.

        Args:
            source: A path, or an open file.

            name: What to call it.

            config: How it wants to be run.

            move: If the name is taken, it gets the new image.

            platform: For which machine it is; by default this one.

            store: Where it is kept.

        Raises:
            ContentError: If it is no tar, or holds what cannot be unpacked.
        """
        return cls(
            default_engine().images.import_rootfs(
                _file(source),
                names=[] if name is None else [_reference(name)],
                config=config,
                platform=_platform(platform),
                move=move,
                store=store_path(store),
            )
        )

    @classmethod
    def debian(
        cls,
        suite: str,
        packages: Iterable[str] = (),
        variant: "Variant" = "minbase",
        *,
        name: "str | Reference | None" = None,
        components: Iterable[str] = ("main",),
        mirror: str | None = None,
        keyring: AnyPath | None = None,
        platform: "str | Platform | None" = None,
        refresh: bool = False,
        store: Store | AnyPath | None = None,
        timeout: float | timedelta | None = None,
    ) -> Self:
        """
        Make an image of Debian's packages; no registry is asked, no daemon needed.

        ``mmdebstrap`` makes it, in a jail of this machine's own programs: nothing of
        the host changes. That takes some twenty seconds, once: whoever asks for the
        same again gets the image that is there, until *refresh*.

        >>> Image.debian("bookworm", ["git"])  # doctest: +SKIP
        Image(source=Stored(digest=Digest('sha256:8c2e…')))

        Args:
            suite: ``bookworm``, ``trixie``, ``stable``, ``sid``, ...

            packages: What is to be in it beside the variant.

            variant: How much of Debian: ``essential``, ``apt``, ``minbase``,
                ``buildd``, ``important``, ``standard``.

            name: What to call it, too.

            components: Parts of the archive: ``main``, ``contrib``, ...

            mirror: The only address to fetch from. By default those that this machine
                fetches from, with the updates of the suite.

            keyring: A file of keys that the archive is signed by; by default Debian's.

            platform: For which machine, as ``linux/386``; by default this one.

            refresh: Make it anew, of the packages there are now.

            store: Where it is kept.

            timeout: Seconds that it may take.

        Raises:
            Unsupported: If this machine has no ``mmdebstrap``, or this user no range
                of ids.

            BootstrapError: If there is no such suite or package, or no network. It
                quotes what ``mmdebstrap`` wrote last.

            DeadlineExceeded: After *timeout*.
        """
        from jailbox.spec.debian import DebianWish

        wish = DebianWish(
            suite=suite,
            packages=packages,
            variant=variant,
            components=components,
            mirror=mirror,
            keyring=None if keyring is None else absolute_path(keyring, "keyring"),
        )
        called = None if name is None else _reference(name)
        made = cls(
            default_engine().images.debian(
                wish,
                platform=_platform(platform),
                refresh=refresh,
                store=store_path(store),
                timeout=_seconds(timeout),
            )
        )
        if called is not None:
            made.tag(called)
        return made

    @classmethod
    def list(cls, store: Store | AnyPath | None = None) -> "list[Image]":
        """Every image of a store."""
        return Store(store_path(store)).images()

    @staticmethod
    def resolve(name: "str | Reference", *, client: "Client | None" = None) -> "Digest":
        """Ask a registry what a name stands for now; nothing is fetched."""
        return default_engine().images.resolve(_reference(name), client)

    # ---- what is known -----------------------------------------------------

    def _stored(self, verb: str) -> Stored:
        """
        The image in a store that this is.

        Raises:
            StateError: If it is none.
        """
        if not isinstance(self.source, Stored):
            raise StateError(repr(self), "in no store", verb, ["in a store"])
        return self.source

    @property
    def info(self) -> "ImageInfo":
        """Everything that is written down about it."""
        return default_engine().images.info(self._stored("describe it"))

    @property
    def config(self) -> ImageConfig:
        """How it wants to be run."""
        return self.info.config

    @property
    def digest(self) -> "Digest":
        """Digest of its manifest."""
        return self._stored("give its digest").digest

    @property
    def names(self) -> "tuple[Reference, ...]":
        """Its names."""
        return default_engine().images.names(self._stored("give its names"))

    def open(self, path: AnyPath) -> BinaryIO:
        """
        Open a file of it for reading; nothing is run.

        Links lead where they would in a container. The caller closes it.

        Raises:
            NotFound: If there is none.
        """
        stored = self._stored("open a file of it")
        return default_engine().images.open(stored, absolute_path(path, "path"))

    def diff(self, other: "Image") -> "tuple[Change, ...]":
        """
        Compare it with another: what *other* has that this has not, and the reverse.

        Sorted by path; times do not count.
        """
        one = self._stored("compare it")
        two = other._stored("compare it")  # noqa: SLF001  # one of ours
        if one.store != two.store:
            raise SpecError("other", "is in another store", value=other)
        return default_engine().images.diff(one, two)

    # ---- naming, sending, removing -----------------------------------------

    def tag(self, name: "str | Reference") -> None:
        """Give it a further name. If another image has it, that loses it."""
        default_engine().images.tag(self._stored("name it"), _reference(name))

    @staticmethod
    def untag(name: "str | Reference", *, store: Store | AnyPath | None = None) -> None:
        """Take a name away; the image stays."""
        default_engine().images.untag(_reference(name), store_path(store))

    def remove(self, *, force: bool = False) -> None:
        """
        Remove it, and what no other image needs.

        Args:
            force: Also if it has names, which go as well.

        Raises:
            InUse: If a container uses it, or it has names. Nothing was removed.
        """
        default_engine().images.remove(self._stored("remove it"), force=force)

    def save(
        self,
        target: AnyPath | BinaryIO,
        *,
        names: "Iterable[str | Reference] | None" = None,
        format: ArchiveFormat = "docker",
    ) -> None:
        """
        Write it to a file that other tools read. The same image gives the same bytes.

        Args:
            target: A path, where it appears whole or not at all; or an open file.

            names: What it is called there; by default all of its names.

            format: ``docker`` for an archive that ``docker load`` and most others
                read, ``oci`` for the archive of an OCI layout, ``oci-dir`` for a
                directory, which may be a layout with other images already.
        """
        form = choice(format, "format", _FORMATS)
        file = _file(target)
        if form == "oci-dir" and not isinstance(file, str):
            raise SpecTypeError("target", "is no path", value=target, accepted="a path")
        chosen = None if names is None else [_reference(name) for name in names]
        default_engine().images.save([(self._stored("save it"), chosen)], file, form)

    def push(
        self,
        name: "str | Reference",
        *,
        client: "Client | None" = None,
        timeout: float | timedelta | None = None,
        on_event: "Callable[[Event], None] | None" = None,
    ) -> "Digest":
        """
        Send it to a registry: what is not there yet, the name last.

        Args:
            name: What it is to be called there.

            client: How registries are reached; by default in the usual way.

            timeout: Seconds that it may take.

            on_event: Is called with what happens.

        Returns:
            The digest of its manifest, by which it can be pulled.
        """
        return default_engine().images.push(
            self._stored("push it"),
            _reference(name),
            client=client,
            timeout=_seconds(timeout),
            on_event=on_event,
        )


def _file(source: AnyPath | BinaryIO) -> str | BinaryIO:
    if hasattr(source, "read") or hasattr(source, "write"):
        return cast("BinaryIO", source)
    return os.path.abspath(text_of(source, "path"))


def _seconds(timeout: float | timedelta | None) -> float | None:
    return None if timeout is None else parse_duration(timeout, "timeout")


def _is_digest(name: str) -> bool:
    return name.startswith(("sha256:", "sha512:"))
