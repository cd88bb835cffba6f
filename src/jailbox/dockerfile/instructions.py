"""
Instructions of a Dockerfile, each with what it says in fields of its own.

Values only. Words are as they are written: variables in them are put in when a stage
is planned, since only then they are known (`jailbox.dockerfile.words`).
"""

from typing import TypeAlias

from attrs import frozen

from jailbox.dockerfile.lines import Heredoc

__all__ = [
    "Add",
    "Arg",
    "Base",
    "Cmd",
    "Command",
    "Copy",
    "Entrypoint",
    "Env",
    "Expose",
    "Healthcheck",
    "Instruction",
    "Label",
    "Location",
    "Maintainer",
    "Onbuild",
    "Pair",
    "Run",
    "SetShell",
    "Stopsignal",
    "User",
    "Volume",
    "Workdir",
]


@frozen
class Location:
    """
    Where an instruction stands.

    Attributes:
        file: Name of the file.

        first: Its first line, from 1.

        last: Its last line.

        text: What is written there, lines joined.

        keyword: Its keyword, in small letters.

        comments: The comment lines right before it.
    """

    file: str
    first: int
    last: int
    text: str
    keyword: str
    comments: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.file}:{self.first}"


@frozen
class Pair:
    """A name and its value, as they are written; ``None`` is no value at all."""

    name: str
    value: str | None


@frozen
class Command:
    """
    A command.

    Attributes:
        words: The words of the exec form, or the one text of the shell form.

        shell: Whether it is the shell form: the text is given to the shell.
    """

    words: tuple[str, ...]
    shell: bool


@frozen(kw_only=True)
class _Placed:
    """What every instruction has: where it stands."""

    location: Location

    @property
    def keyword(self) -> str:
        """The keyword, in small letters."""
        return self.location.keyword


@frozen(kw_only=True)
class Base(_Placed):
    """
    ``FROM``: what a stage begins with.

    Attributes:
        image: The image, the stage, or ``scratch``.

        name: The name of the stage, in small letters, or ``None``.

        platform: The platform, or ``None``.
    """

    image: str
    name: str | None = None
    platform: str | None = None


@frozen(kw_only=True)
class Arg(_Placed):
    """``ARG``: variables of the build, with their defaults."""

    pairs: tuple[Pair, ...]


@frozen(kw_only=True)
class Env(_Placed):
    """``ENV``: variables of the image; `old` is the form without ``=``."""

    pairs: tuple[Pair, ...]
    old: bool = False


@frozen(kw_only=True)
class Label(_Placed):
    """``LABEL``: labels of the image; `old` is the form without ``=``."""

    pairs: tuple[Pair, ...]
    old: bool = False


@frozen(kw_only=True)
class Maintainer(_Placed):
    """``MAINTAINER``: who made it; the author of the image."""

    name: str


@frozen(kw_only=True)
class Run(_Placed):
    """
    ``RUN``: a command whose changes become a layer.

    Attributes:
        command: The command; for a here-document alone, empty.

        heredocs: What the command reads, or is.

        mounts: ``--mount`` as they are written.

        network: ``--network``, or ``None``.

        security: ``--security``, or ``None``.

        devices: ``--device`` as they are written.
    """

    command: Command
    heredocs: tuple[Heredoc, ...] = ()
    mounts: tuple[str, ...] = ()
    network: str | None = None
    security: str | None = None
    devices: tuple[str, ...] = ()


@frozen(kw_only=True)
class Copy(_Placed):
    """
    ``COPY``: files of the context, of a stage or of an image.

    Attributes:
        sources: Paths, as they are written.

        target: Where they go.

        heredocs: Files that stand in the Dockerfile; their names go before `sources`.

        source_stage: ``--from``, or ``None`` for the context.

        owner: ``--chown``, or ``None``.

        mode: ``--chmod``, or ``None``.

        link: ``--link``: a layer of its own, whatever lies beneath.

        parents: ``--parents``: directories of the sources are kept.

        excludes: ``--exclude``: patterns of what is left out.
    """

    sources: tuple[str, ...]
    target: str
    heredocs: tuple[Heredoc, ...] = ()
    source_stage: str | None = None
    owner: str | None = None
    mode: str | None = None
    link: bool = False
    parents: bool = False
    excludes: tuple[str, ...] = ()


@frozen(kw_only=True)
class Add(_Placed):
    """
    ``ADD``: like `Copy`, and addresses and archives besides.

    Attributes:
        checksum: ``--checksum`` of what an address gives, or ``None``.

        keep_git: ``--keep-git-dir``: the ``.git`` directory comes along.

        unpack: ``--unpack``; ``None`` unpacks local archives only.
    """

    sources: tuple[str, ...]
    target: str
    heredocs: tuple[Heredoc, ...] = ()
    owner: str | None = None
    mode: str | None = None
    link: bool = False
    excludes: tuple[str, ...] = ()
    checksum: str | None = None
    keep_git: bool = False
    unpack: bool | None = None


@frozen(kw_only=True)
class Cmd(_Placed):
    """``CMD``: the command of the image, or arguments of its entrypoint."""

    command: Command


@frozen(kw_only=True)
class Entrypoint(_Placed):
    """``ENTRYPOINT``: what always runs."""

    command: Command


@frozen(kw_only=True)
class SetShell(_Placed):
    """``SHELL``: what shell forms are given to."""

    words: tuple[str, ...]


@frozen(kw_only=True)
class Workdir(_Placed):
    """``WORKDIR``: where commands run; made if it is not there."""

    path: str


@frozen(kw_only=True)
class User(_Placed):
    """``USER``: whom commands run as."""

    user: str


@frozen(kw_only=True)
class Volume(_Placed):
    """``VOLUME``: directories that containers have on their own."""

    paths: tuple[str, ...]


@frozen(kw_only=True)
class Expose(_Placed):
    """``EXPOSE``: ports that a container listens on."""

    ports: tuple[str, ...]


@frozen(kw_only=True)
class Stopsignal(_Placed):
    """``STOPSIGNAL``: what ends a container."""

    signal: str


@frozen(kw_only=True)
class Healthcheck(_Placed):
    """
    ``HEALTHCHECK``: how a container is asked whether it is well.

    Attributes:
        command: The command, or ``None`` for ``NONE``: no check, not even the base's.

        interval: Seconds between two checks, or ``None``; so are the other times.

        timeout: How long a check may take.

        start_period: How long failures do not count after a start.

        start_interval: Seconds between two checks in that time.

        retries: How many failures in a row make it unwell, or ``None``.
    """

    command: Command | None
    interval: float | None = None
    timeout: float | None = None
    start_period: float | None = None
    start_interval: float | None = None
    retries: int | None = None


@frozen(kw_only=True)
class Onbuild(_Placed):
    """``ONBUILD``: an instruction for builds that begin with this image."""

    trigger: str


Instruction: TypeAlias = (
    Add
    | Arg
    | Cmd
    | Copy
    | Entrypoint
    | Env
    | Expose
    | Healthcheck
    | Label
    | Maintainer
    | Onbuild
    | Run
    | SetShell
    | Stopsignal
    | User
    | Volume
    | Workdir
)
"""What may stand in a stage."""
