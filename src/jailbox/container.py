"""
Container, and `run`: what users hold. Thin: every line of work is an engine's.
"""

import os
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, overload

import attrs

from jailbox.engine.base import Box, Io, LogEntry, Stats
from jailbox.engine.choose import default_engine
from jailbox.engine.logs import chosen
from jailbox.errors import SpecError, SpecTypeError, StateError
from jailbox.flow import drive
from jailbox.image import Image
from jailbox.spec.checks import several, whole
from jailbox.spec.command import AnyCommand, Input, User, argv_of, user_of
from jailbox.spec.commit import CommitSpec
from jailbox.spec.container import (
    ContainerSpec,
    ContainerState,
    ProgramSpec,
    Stderr,
)
from jailbox.spec.image import Source
from jailbox.spec.limits import DEFAULT_LIMITS, Limits
from jailbox.spec.mount import Mount
from jailbox.spec.network import Network, NetworkMode
from jailbox.spec.result import Result
from jailbox.spec.security import Security
from jailbox.spec.signals import signal_number
from jailbox.spec.texts import AnyPath, absolute_path
from jailbox.spec.units import parse_duration, parse_size

if TYPE_CHECKING:
    from jailbox.engine.changes import Changes
    from jailbox.engine.snapshot import Snapshot
    from jailbox.linux.tree import Copied
    from jailbox.run.files import ContainerPath, Files
    from jailbox.run.files import Source as FileSource
    from jailbox.run.process import Process
    from jailbox.spec.reference import Reference

__all__ = ["Container", "run"]

_FD_MAX = 2**31 - 1


def _source(image: Image | str) -> Source:
    if isinstance(image, str):
        return Image.get(image).source
    if not isinstance(image, Image):
        raise SpecTypeError(
            "image",
            "is no image",
            value=image,
            accepted="a name, Image.get(name), Image.host(), Image.from_dir(path)",
        )
    return image.source


def _limits(
    limits: Limits | None,
    memory: int | str | None,
    max_output: int | str | None = None,
) -> Limits:
    """Put the two bounds that have an argument of their own into the limits."""
    found = DEFAULT_LIMITS if limits is None else limits
    if not isinstance(found, Limits):
        raise SpecTypeError(
            "limits", "are no limits", value=limits, accepted="Limits(memory='256M')"
        )
    changes: dict[str, Any] = {}
    if memory is not None:
        if found.memory is not None:
            raise SpecError(
                "memory", "is given twice", value=memory, accepted="memory= or limits="
            )
        changes["memory"] = memory
    if max_output is not None:
        changes["output"] = parse_size(max_output, "max_output")
    return attrs.evolve(found, **changes) if changes else found


def _seconds(timeout: float | timedelta | None) -> float | None:
    return None if timeout is None else parse_duration(timeout, "timeout")


def _descriptors(pass_fds: Sequence[int]) -> tuple[int, ...]:
    accepted = "numbers of open descriptors: [3, 4]"
    fds = several(pass_fds, "pass_fds", accepted)
    for number, fd in enumerate(fds):
        argument = f"pass_fds[{number}]"
        whole(fd, argument, 0, _FD_MAX, accepted)
        try:
            os.fstat(fd)
        except OSError:
            raise SpecError(
                argument, "is not open", value=fd, accepted=accepted
            ) from None
    return tuple(fds)


def run(
    image: Image | str,
    argv: AnyCommand | None = None,
    *,
    shell: bool = False,
    entrypoint: AnyCommand | None = None,
    input: Input | None = None,
    text: bool = True,
    check: bool = False,
    timeout: float | timedelta | None = None,
    limits: Limits | None = None,
    memory: int | str | None = None,
    max_output: int | str | None = None,
    env: Mapping[str, AnyPath] | None = None,
    cwd: AnyPath | None = None,
    user: int | str | User | None = None,
    groups: Iterable[int | str] = (),
    umask: int = 0o022,
    mounts: Iterable[Mount] = (),
    network: NetworkMode | Network = "none",
    hostname: str | None = None,
    domainname: str | None = None,
    read_only: bool = False,
    security: Security | None = None,
    tty: tuple[int, int] | bool | None = None,
    stderr: Stderr | None = None,
    pass_fds: Sequence[int] = (),
) -> Result[Any]:
    r"""
    Run one program in a container of its own, and return what came of it.

    Nothing of the container is left when this returns, however it returns.

    >>> run(Image.host(), ["echo", "hello"]).stdout
    'hello\n'

    Args:
        image: What the container is made of; a name is looked for in the store.

        argv: The program and its arguments, as a list; a str with *shell*. By default
            the image's command; after the image's entry point, if it has one.

        shell: Have ``/bin/sh -c`` of the image read *argv*, without an entry point.

        entrypoint: What stands before *argv* instead of the image's entry point;
            ``[]`` for nothing.

        input: What the program reads: str, bytes, a file, or an iterable of them.
            By default its input is empty.

        text: Output as str (UTF-8, with replacement); otherwise as bytes.

        check: Raise `ExitError` unless it ended well.

        timeout: Seconds until everything is killed and `DeadlineExceeded` is raised,
            with the output so far. ``Limits.wall`` does the same, but returns.

        limits: How much it may use.

        memory: Short for ``Limits(memory=...)``.

        max_output: Bytes of a stream after which it is ended (verdict ``output``). By
            default the first 64 MiB are kept and the rest is dropped.

        env: Variables. Nothing of the host's is added.

        cwd: Working directory.

        user: As whom: a number, a name of the image, either with ``:group``.

        groups: Supplementary groups, besides those that the image gives the user.

        umask: Permission bits that new files do not get.

        mounts: What else is seen inside: `Mount.bind`, `Mount.tmpfs`, `Mount.device`.

        network: ``none`` or ``host``; a `Network` has names and addresses too.

        hostname: Its host name.

        domainname: What follows it in its full name.

        read_only: The root file system cannot be written to.

        security: What it may do.

        tty: A terminal of its own, at which *input* is typed and of which everything
            is standard output: columns and rows, or ``True`` for 80 by 24.

        stderr: ``"stdout"`` puts standard error into standard output.

        pass_fds: Open descriptors that it gets as 3, 4, ...; they stay the caller's.

    Raises:
        SpecError: If the request makes no sense. Nothing was done.

        HostError: If this machine cannot do it.

        LaunchError: If the kernel refused a step; ``step="exec"`` if it is the
            program itself that cannot be executed.

        DeadlineExceeded: After *timeout*.

        ExitError: With *check*.
    """
    fds = _descriptors(pass_fds)
    spec = ContainerSpec(
        image=_source(image),
        command=None if argv is None else argv_of(argv, shell=shell),
        entrypoint=() if shell and entrypoint is None else entrypoint,
        env=env,
        cwd=cwd,
        user=user,
        groups=groups,
        umask=umask,
        mounts=mounts,
        limits=_limits(limits, memory, max_output),
        security=security,
        network=network,
        hostname=hostname,
        domainname=domainname,
        read_only=read_only,
        tty=tty,
        stderr=stderr,
        pass_fds=len(fds),
    )
    io = Io(text=text, pass_fds=fds)
    result = drive(default_engine().run(spec, io, input, _seconds(timeout)))
    return result.check() if check else result


class _CopyOut(Protocol):
    """``container.get(path, target)``."""

    @overload
    def __call__(
        self, path: AnyPath, target: None = None, *, max_bytes: int = ...
    ) -> bytes: ...

    @overload
    def __call__(
        self,
        path: AnyPath,
        target: AnyPath,
        *,
        replace: bool = ...,
        follow_symlinks: bool = ...,
        timeout: float | timedelta | None = ...,
    ) -> "Copied": ...


class _Get:
    """
    Two words of the field that are the same: find a container, and copy out of one.

    ``Container.get(name)`` finds the container of that name: one of this process, or a
    detached one of this user.

    ``container.get(path, target)`` copies a file or directory out of it: to *target*
    on the host, or as bytes without one. `jailbox.run.files.Files.get` has the options.

    Raises:
        NotFound: If there is no such container.

        FileNotFoundError: If there is no such file.
    """

    @overload
    def __get__(
        self, instance: None, owner: "type[Container]"
    ) -> "Callable[[str], Container]": ...

    @overload
    def __get__(self, instance: "Container", owner: "type[Container]") -> _CopyOut: ...

    def __get__(
        self, instance: "Container | None", owner: "type[Container]"
    ) -> "Callable[[str], Container] | _CopyOut":
        if instance is None:
            return owner.find
        copy_out: _CopyOut = instance.files.get
        return copy_out


class Container:
    r"""
    A container: a place of its own for programs.

    With ``with`` it is started, and always removed. Otherwise it lasts until it is
    removed or this process ends, however it ends.

    >>> with Container(Image.host()) as c:
    ...     c.exec(["echo", "hello"]).stdout
    'hello\n'

    Args:
        image: What it is made of; a name is looked for in the store.

        command: The main program, with which it ends; after the image's entry point, if
            it has one. By default the image's command, whose input then is silent and
            never ends, so that a shell waits. If there is none the container waits for
            requests.

        entrypoint: What stands before *command* instead of the image's entry point;
            ``[]`` for nothing.

        tty: A terminal for the main program. What it writes is in `logs`.

        name: Its name; by default one is made.

        labels: Texts of the caller.

        detach: It outlives this process.

        The others are as for `run`, and hold for every program in it.
    """

    _box: Box
    _closer: "weakref.finalize[Any, Any] | None"

    def __init__(
        self,
        image: Image | str,
        command: AnyCommand | None = None,
        *,
        shell: bool = False,
        entrypoint: AnyCommand | None = None,
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        memory: int | str | None = None,
        env: Mapping[str, AnyPath] | None = None,
        cwd: AnyPath | None = None,
        user: int | str | User | None = None,
        groups: Iterable[int | str] = (),
        umask: int = 0o022,
        mounts: Iterable[Mount] = (),
        network: NetworkMode | Network = "none",
        hostname: str | None = None,
        domainname: str | None = None,
        read_only: bool = False,
        security: Security | None = None,
        tty: tuple[int, int] | bool | None = None,
        stop_signal: int | str | None = None,
        stop_timeout: float | timedelta = 10.0,
        detach: bool = False,
    ) -> None:
        argv = None if command is None else argv_of(command, shell=shell)
        spec = ContainerSpec(
            image=_source(image),
            command=argv,
            entrypoint=() if shell and entrypoint is None else entrypoint,
            name=name,
            labels=labels,
            env=env,
            cwd=cwd,
            user=user,
            groups=groups,
            umask=umask,
            mounts=mounts,
            limits=_limits(limits, memory),
            security=security,
            network=network,
            hostname=hostname,
            domainname=domainname,
            read_only=read_only,
            tty=tty,
            stop_signal=stop_signal,
            stop_timeout=stop_timeout,
            detach=detach,
        )
        self._adopt(default_engine().create(spec))

    get = _Get()

    def _adopt(self, box: Box) -> None:
        self._see(box)
        # Tied to this object: whoever drops it has nothing left to stop it with.
        if not box.spec.detach:
            self._closer = weakref.finalize(self, _remove, box)
            self._closer.atexit = False

    @classmethod
    def find(cls, name: str) -> Self:
        """
        Find a container by its name; the same as ``Container.get(name)``.

        Raises:
            NotFound: If there is none.
        """
        return cls._view(default_engine().find(name))

    @classmethod
    def list(cls, labels: Mapping[str, str] | None = None) -> "list[Self]":
        """Every container, or those that have all of *labels*."""
        wanted = dict(labels or {})
        return [
            cls._view(box)
            for box in default_engine().boxes()
            if wanted.items() <= dict(box.spec.labels).items()
        ]

    @classmethod
    def _view(cls, box: Box) -> Self:
        container = cls.__new__(cls)
        container._see(box)  # noqa: SLF001  # it is one of ours
        return container

    def _see(self, box: Box) -> None:
        """Look at a container that somebody else answers for."""
        self._box = box
        self._closer = None

    # --- what is known -----------------------------------------------------------

    @property
    def name(self) -> str:
        """Its name."""
        return self._box.name

    @property
    def labels(self) -> Mapping[str, str]:
        """The caller's texts."""
        return self._box.spec.labels

    @property
    def spec(self) -> ContainerSpec:
        """What was wanted."""
        return self._box.spec

    @property
    def state(self) -> ContainerState | None:
        """``created``, ``running``, ``paused`` or ``stopped``; ``None`` if removed."""
        return self._box.state

    @property
    def result(self) -> "Result[Any] | None":
        """What came of its last run; ``None`` while it runs, and before the first."""
        return self._box.result

    @property
    def pid(self) -> int | None:
        """The number of its main program inside of it; ``None`` if it does not run."""
        return self._box.pid

    # --- life ----------------------------------------------------------------------

    def create(self) -> Self:
        """Do nothing: it is created when it is made. For symmetry with other tools."""
        return self

    def start(self, timeout: float | timedelta | None = None) -> Self:
        """
        Start it. With a command, until that has been executed.

        Raises:
            StateError: If it runs or is removed.

            LaunchError: If the kernel refused a step.
        """
        drive(self._box.start(_seconds(timeout)))
        return self

    def stop(self, timeout: float | timedelta | None = None) -> None:
        """
        Send its stop signal, wait, then end everything in it.

        Args:
            timeout: Seconds between the two; by default its *stop_timeout*.
        """
        drive(self._box.stop(_seconds(timeout)))

    def restart(self, timeout: float | timedelta | None = None) -> Self:
        """
        Stop it, if it runs, and start it again. Its files are kept.

        Args:
            timeout: Seconds between its stop signal and the end; by default its
                *stop_timeout*.
        """
        self.stop(timeout)
        return self.start()

    def kill(self, signal: int | str = "SIGKILL") -> None:
        """Send its main program a signal; SIGKILL ends everything in it."""
        drive(self._box.kill(signal_number(signal, "signal")))

    def pause(self, timeout: float | timedelta | None = None) -> None:
        """Stop the time of everything in it."""
        drive(self._box.pause(_seconds(timeout)))

    def resume(self) -> None:
        """Let everything in it go on."""
        drive(self._box.resume())

    def wait(self, timeout: float | timedelta | None = None) -> Result[Any]:
        """
        Wait for the end of its main program.

        Raises:
            DeadlineExceeded: After *timeout*; the container goes on.
        """
        return drive(self._box.wait(_seconds(timeout)))

    def remove(self, *, force: bool = True) -> None:
        """
        End it and remove everything of it. Idempotent.

        Args:
            force: Also if it runs.

        Raises:
            StateError: If it runs, without *force*.
        """
        if not force:
            state = self.state
            if state in {ContainerState.RUNNING, ContainerState.PAUSED}:
                raise StateError(
                    self.name, str(state), "remove", ["created", "stopped"]
                )
        drive(self._box.remove())
        if self._closer is not None:
            self._closer.detach()

    def __enter__(self) -> Self:
        if self.state is ContainerState.CREATED:
            try:
                self.start()
            except BaseException:
                self.remove()
                raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.remove()

    # --- programs --------------------------------------------------------------------

    def exec(
        self,
        argv: AnyCommand,
        *,
        shell: bool = False,
        input: Input | None = None,
        text: bool = True,
        check: bool = False,
        timeout: float | timedelta | None = None,
        max_output: int | None = None,
        env: Mapping[str, AnyPath] | None = None,
        cwd: AnyPath | None = None,
        user: int | str | User | None = None,
        groups: Iterable[int | str] = (),
        umask: int = 0o022,
        stderr: Stderr | None = None,
        pass_fds: Sequence[int] = (),
    ) -> Result[Any]:
        """
        Run a program in it to its end, and return what came of it.

        Arguments are as for `run`. After *timeout* the program and everything that it
        has started is ended; the container goes on.

        Raises:
            StateError: If it does not run.

            DeadlineExceeded: After *timeout*, with the output so far.
        """
        fds = _descriptors(pass_fds)
        program = self._program(
            argv, shell, env, cwd, user, groups, umask, stderr, timeout, max_output, fds
        )
        io = Io(text=text, pass_fds=fds)
        result = drive(self._box.execute(program, io, input))
        return result.check() if check else result

    def popen(
        self,
        argv: AnyCommand,
        *,
        shell: bool = False,
        stdin: bool = False,
        text: bool = True,
        tty: tuple[int, int] | bool | None = None,
        timeout: float | timedelta | None = None,
        max_output: int | None = None,
        env: Mapping[str, AnyPath] | None = None,
        cwd: AnyPath | None = None,
        user: int | str | User | None = None,
        groups: Iterable[int | str] = (),
        umask: int = 0o022,
        stderr: Stderr | None = None,
        pass_fds: Sequence[int] = (),
    ) -> "Process[Any]":
        """
        Start a program in it, and return when it has been executed.

        Args:
            stdin: It gets a pipe for its input, which is otherwise empty.

            tty: A terminal of its own: columns and rows, or ``True`` for 80 by 24.

            timeout: Seconds after which the program and everything that it has
                started is ended, whether anybody looks or not.

            The others are as for `run`.
        """
        fds = _descriptors(pass_fds)
        program = self._program(
            argv, shell, env, cwd, user, groups, umask, stderr, timeout, max_output,
            fds, tty,
        )  # fmt: skip
        io = Io(text=text, stdin=stdin, pass_fds=fds)
        return drive(self._box.open(program, io))

    @staticmethod
    def _program(
        argv: AnyCommand,
        shell: bool,  # noqa: FBT001  # as its callers have it, once more
        env: Mapping[str, AnyPath] | None,
        cwd: AnyPath | None,
        user: int | str | User | None,
        groups: Iterable[int | str],
        umask: int,
        stderr: Stderr | None,
        timeout: float | timedelta | None,
        max_output: int | None,
        fds: tuple[int, ...],
        tty: tuple[int, int] | bool | None = None,  # noqa: FBT001
    ) -> ProgramSpec:
        return ProgramSpec(
            argv=argv_of(argv, shell=shell),
            env=env,
            cwd=cwd,
            user=user,
            groups=groups,
            umask=umask,
            tty=tty,
            stderr=stderr,
            timeout=timeout,
            max_output=max_output,
            pass_fds=len(fds),
        )

    # --- files ---------------------------------------------------------------------

    @property
    def files(self) -> "Files":
        """Everything that can be done with its files, whether it runs or not."""
        return self._box.files()

    def path(self, path: AnyPath = "/") -> "ContainerPath":
        """A path in it that can be read and written like a `pathlib.Path`."""
        return self.files.path(path)

    def put(
        self,
        source: "FileSource",
        target: AnyPath,
        *,
        excludes: Iterable[str] = (),
        owner: "int | str | User | None" = None,
        parents: bool = False,
        timeout: float | timedelta | None = None,
    ) -> "Copied":
        """
        Copy into it: a file, a directory, bytes, or a mapping of names to bytes.

        Where it lands, and more ways to copy, are told at
        `jailbox.run.files.Files.put`.

        Args:
            source: A path of the host, bytes, or ``{"name": b"content"}``.

            target: Where to, in the container.

            excludes: Patterns of what is left out.

            owner: As ``1000`` or ``"1000:100"``; by default root of the container.

            parents: Make missing directories on the way.

            timeout: Seconds after which nothing more is copied.
        """
        return self.files.put(
            source,
            target,
            excludes=excludes,
            owner=owner,
            parents=parents,
            timeout=timeout,
        )

    def changes(self) -> "Changes":
        """
        What differs from the image, sorted by path.

        A tuple of `Change`, which can be applied to a directory of the host, shown as
        a patch, and taken back.
        """
        return self._box.changes()

    # --- images and snapshots ------------------------------------------------------

    def commit(
        self,
        reference: "str | Reference | None" = None,
        *,
        message: str | None = None,
        author: str | None = None,
        cmd: AnyCommand | None = None,
        entrypoint: AnyCommand | None = None,
        env: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        cwd: AnyPath | None = None,
        user: int | str | User | None = None,
        stop_signal: int | str | None = None,
        exposed_ports: Iterable[str] | None = None,
        volumes: Iterable[str] | None = None,
        pause: bool = True,
    ) -> Image:
        """
        Make an image of its files: that of the container, and what was written.

        Whether it runs or not. What is mounted into it is not part of it. It takes as
        long as what was written is large, however large the image is.

        Args:
            reference: What to call it; another image loses that name.

            message: Why, for its history.

            author: By whom.

            cmd: Its command; the image's by default. So are the others.

            entrypoint: What stands before its command, which then is empty unless
                *cmd* is given.

            env: Variables beside the image's.

            labels: Texts beside the image's.

            cwd: Working directory.

            user: As whom it is run.

            stop_signal: What asks it to end.

            exposed_ports: What it listens at, as ``8080/tcp``.

            volumes: Directories whose content is not kept with a container.

            pause: Everything in it stands still meanwhile; else a file that is just
                being written is refused, or is half of what it will be.

        Raises:
            SpecError: If its image is in no store: `Image.host` and directories.

            Unsupported: Before Linux 6.15, and of a detached container.
        """
        wish = CommitSpec(
            reference=reference,
            message=message,
            author=author,
            cmd=None if cmd is None else argv_of(cmd, shell=False),
            entrypoint=None if entrypoint is None else argv_of(entrypoint, shell=False),
            env=env,
            labels=labels,
            cwd=None if cwd is None else absolute_path(cwd, "cwd"),
            user=None if user is None else user_of(user),
            stop_signal=(
                None
                if stop_signal is None
                else signal_number(stop_signal, "stop_signal")
            ),
            exposed_ports=exposed_ports,
            volumes=volumes,
            pause=pause,
        )
        return Image(drive(self._box.commit(wish)))

    def snapshot(self, *, end: bool = False) -> "Snapshot":
        """
        Keep its files as they are now, for `reset` and `fork`.

        Nothing is copied: it takes the same few milliseconds however much was written.
        A root cannot be exchanged under programs that run on it. So a container that
        runs has to run nothing at the moment but its init, which is replaced; or its
        programs are ended.

        The snapshot stays in memory for as long as it is kept, or a container comes
        from it. What is mounted into the container is not part of it.

        Args:
            end: End what runs in it. A main program is started anew afterwards.

        Raises:
            StateError: If something runs in it, without *end*.

            Unsupported: Before Linux 6.15, and of a detached container.
        """
        return drive(self._box.snapshot(end=end))

    def reset(self, snapshot: "Snapshot") -> Self:
        """
        Let its files be what they were in a snapshot of it, or of what it comes from.

        What runs in it is ended. If it ran it runs again afterwards, with its main
        program started anew.

        Raises:
            SpecError: If the snapshot is of another image.
        """
        drive(self._box.reset(snapshot))
        return self

    def fork(
        self, count: int = 1, *, snapshot: "Snapshot | None" = None, end: bool = False
    ) -> "Sequence[Self]":
        """
        Make containers that begin with its files, and share nothing it writes later.

        They are wanted as this one was, with names of their own, and run if this one
        runs; with its main program, if it has one, started anew. As other containers
        they last until they are removed, or until nobody has them any more.

        Args:
            count: How many.

            snapshot: Begin with the files of this one, instead of those of now.

            end: As for `snapshot`.

        Raises:
            StateError: As `snapshot` does.
        """
        whole(count, "count", 1, 10_000)
        made = []
        for box in drive(self._box.fork(count, snapshot, end=end)):
            container = type(self).__new__(type(self))
            container._adopt(box)  # noqa: SLF001  # it is one of ours
            made.append(container)
        return made

    # --- numbers and words ---------------------------------------------------------

    def stats(self) -> Stats:
        """What it uses now."""
        return self._box.stats()

    def logs(
        self,
        *,
        since: float | timedelta | datetime | None = None,
        tail: int | None = None,
        stream: str | None = None,
    ) -> tuple[LogEntry, ...]:
        """
        What its main program wrote so far, in pieces with their time.

        Args:
            since: Only what was written later: a moment, or so long ago (seconds).

            tail: Only so many last lines.

            stream: Only ``stdout`` or ``stderr``.
        """
        return chosen(self._box.logs(), since=since, tail=tail, stream=stream)

    def __repr__(self) -> str:
        return f"<Container {self.name!r} {self.state or 'removed'}>"


def _remove(box: Box) -> None:
    drive(box.remove())
