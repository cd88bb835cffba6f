"""
Instructions as they are written to instructions that say something, and to stages.
"""

import difflib
import re
from collections.abc import Callable

from attrs import define, field, frozen

from jailbox.dockerfile.instructions import (
    Add,
    Arg,
    Base,
    Cmd,
    Command,
    Copy,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Instruction,
    Label,
    Location,
    Maintainer,
    Onbuild,
    Pair,
    Run,
    SetShell,
    Stopsignal,
    User,
    Volume,
    Workdir,
)
from jailbox.dockerfile.lines import Heredoc, Source, Written, heredoc_of, read_source
from jailbox.errors import DockerfileError

__all__ = ["Dockerfile", "Stage", "parse", "parse_trigger"]

_STAGE = re.compile(r"[a-z][a-z0-9-_.]*")
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h)")
_UNITS = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_SHORTEST = 0.001


@frozen
class Stage:
    """
    A stage of a build.

    Attributes:
        base: What it begins with.

        instructions: What is done, in order.

        index: Its number, from 0.
    """

    base: Base
    instructions: tuple[Instruction, ...]
    index: int

    @property
    def name(self) -> str | None:
        """Its name, or ``None``."""
        return self.base.name


@frozen
class Dockerfile:
    """
    A Dockerfile.

    Attributes:
        source: How it is written.

        arguments: The ``ARG`` before the first stage.

        stages: The stages, in order; none, if there is nothing but `arguments`.
    """

    source: Source
    arguments: tuple[Arg, ...]
    stages: tuple[Stage, ...]


def parse(text: str, name: str = "Dockerfile") -> Dockerfile:
    """
    Read a Dockerfile.

    Args:
        text: What is in the file.

        name: Its name, for errors.

    Raises:
        DockerfileError: It makes no sense; says where, what is written there, and what
            was probably meant.
    """
    source = read_source(text, name)
    arguments: list[Arg] = []
    stages: list[Stage] = []
    base: Base | None = None
    inside: list[Instruction] = []
    for written in source.instructions:
        one = _Reader(written, name).instruction()
        if isinstance(one, Base):
            if base is not None:
                stages.append(Stage(base, tuple(inside), len(stages)))
            base, inside = one, []
        elif base is not None:
            inside.append(one)
        elif isinstance(one, Arg):
            arguments.append(one)
        else:
            raise DockerfileError(
                name,
                written.first,
                f"has {written.spelled} before any FROM",
                hint="A build begins with FROM; only ARG may stand before it.",
            )
    if base is not None:
        stages.append(Stage(base, tuple(inside), len(stages)))
    return Dockerfile(source, tuple(arguments), tuple(stages))


def parse_trigger(text: str, name: str = "ONBUILD") -> Instruction:
    """
    Read one instruction: what an image has in its ``OnBuild``.

    Raises:
        DockerfileError: It makes no sense, or is none that may be a trigger.
    """
    source = read_source(text, name)
    one = _Reader(source.instructions[0], name).instruction()
    if len(source.instructions) > 1 or isinstance(one, Base | Onbuild | Maintainer):
        raise DockerfileError(name, 1, f"is no trigger: {text!r}")
    return one


@define
class _Flags:
    """The flags of an instruction, each taken once."""

    given: dict[str, list[str | None]]
    error: Callable[[str], DockerfileError]
    taken: set[str] = field(factory=set)

    def several(self, name: str) -> tuple[str, ...]:
        self.taken.add(name)
        values = self.given.get(name, [])
        if any(not value for value in values):
            raise self.error(f"lacks a value after --{name}")
        return tuple(value for value in values if value)

    def text(self, name: str) -> str | None:
        values = self.several(name)
        if len(values) > 1:
            raise self.error(f"has --{name} twice")
        return values[0] if values else None

    def boolean(self, name: str) -> bool | None:
        self.taken.add(name)
        values = self.given.get(name, [])
        if not values:
            return None
        if len(values) > 1:
            raise self.error(f"has --{name} twice")
        value = (values[0] or "true").lower()
        if value not in ("true", "false"):
            raise self.error(f"has --{name}={value}, which is neither true nor false")
        return value == "true"

    def seconds(self, name: str) -> float | None:
        text = self.text(name)
        if text is None:
            return None
        parts = _DURATION.findall(text)
        if "".join(parts) != text and text != "0":
            raise self.error(
                f"has --{name}={text}, which is no time: 30s and 1m30s are"
            )
        total = 0.0
        for part in parts:
            number = part.rstrip("hmnsuµμ")
            total += float(number) * _UNITS[part[len(number) :]]
        if 0 < total < _SHORTEST:
            raise self.error(f"has --{name}={text}; the shortest time is 1ms")
        return total

    def done(self) -> None:
        for name in self.given:
            if name not in self.taken:
                near = difflib.get_close_matches(name, self.taken, 1)
                guess = f"; did you mean --{near[0]}?" if near else ""
                raise self.error(f"has the flag --{name}, which is none here{guess}")


class _Reader:
    """Reads one instruction."""

    def __init__(self, written: Written, file: str) -> None:
        self.written = written
        self.file = file
        self.location = Location(
            file,
            written.first,
            written.last,
            written.text,
            written.keyword,
            written.comments,
        )
        given: dict[str, list[str | None]] = {}
        for flag in written.flags:
            name, equals, value = flag[2:].partition("=")
            given.setdefault(name, []).append(value if equals else None)
        self.flags = _Flags(given, self.error)

    def error(self, text: str, *, suggestion: str | None = None) -> DockerfileError:
        written = self.written
        return DockerfileError(
            self.file,
            written.first,
            f"{written.spelled} {text}",
            suggestion=suggestion,
            hint=f"It is written: {written.text}"[:200],
        )

    def instruction(self) -> Base | Instruction:
        written = self.written
        read = _READERS.get(written.keyword)
        if read is None:
            near = difflib.get_close_matches(written.keyword, _READERS, 1)
            guess = near[0] if near else None
            if guess is not None and not written.spelled.islower():
                guess = guess.upper()
            raise self.error("is no instruction", suggestion=guess)
        return read(self)

    # Parts of instructions.

    def checked(self) -> Location:
        """Return where it stands, once all its flags are taken."""
        self.flags.done()
        return self.location

    def one(self) -> str:
        """Return the only argument."""
        self.flags.done()
        arguments = self.written.arguments
        if len(arguments) != 1:
            raise self.error("takes exactly one argument")
        return arguments[0]

    def several(self) -> tuple[str, ...]:
        """Return the arguments, of which there is one at least."""
        if not self.written.arguments:
            raise self.error("takes one argument or more")
        return self.written.arguments

    def pairs(self) -> tuple[Pair, ...]:
        words = self.several()
        self.flags.done()
        pairs = tuple(map(Pair, words[::2], words[1::2]))
        if not all(pair.name for pair in pairs):
            raise self.error("has a value without a name")
        return pairs

    @property
    def is_old(self) -> bool:
        """Whether names and values stand beside each other, without '='."""
        words = self.written.text.split(maxsplit=2)
        return len(words) > 1 and "=" not in words[1] and not self.written.flags

    def command(self, words: tuple[str, ...]) -> Command:
        return Command(words, shell=not self.written.is_json)

    # Instructions.

    def read_from(self) -> Base:
        match self.written.arguments:
            case [image]:
                name = None
            case [image, word, name] if word.lower() == "as":
                name = name.lower()
                if not _STAGE.fullmatch(name):
                    raise self.error(
                        f"has the stage name {name!r}; it is letters, digits, '-', '_'"
                        " and '.', and begins with a letter"
                    )
            case _:
                raise self.error("takes an image, or 'image AS name'")
        platform = self.flags.text("platform")
        return Base(location=self.checked(), image=image, name=name, platform=platform)

    def read_arg(self) -> Arg:
        pairs = []
        for word in self.several():
            name, equals, value = word.partition("=")
            if not name:
                raise self.error("has a value without a name")
            pairs.append(Pair(name, value if equals else None))
        return Arg(location=self.location, pairs=tuple(pairs))

    def read_env(self) -> Env:
        return Env(location=self.location, pairs=self.pairs(), old=self.is_old)

    def read_label(self) -> Label:
        return Label(location=self.location, pairs=self.pairs(), old=self.is_old)

    def read_maintainer(self) -> Maintainer:
        return Maintainer(location=self.location, name=self.one())

    def read_workdir(self) -> Workdir:
        return Workdir(location=self.location, path=self.one())

    def read_user(self) -> User:
        return User(location=self.location, user=self.one())

    def read_stopsignal(self) -> Stopsignal:
        return Stopsignal(location=self.location, signal=self.one())

    def read_expose(self) -> Expose:
        ports = self.several()
        return Expose(location=self.checked(), ports=ports)

    def read_volume(self) -> Volume:
        paths = self.several()
        if not all(path.strip() for path in paths):
            raise self.error("has a path that is empty")
        return Volume(location=self.checked(), paths=paths)

    def read_cmd(self) -> Cmd:
        command = self.command(self.written.arguments)
        return Cmd(location=self.checked(), command=command)

    def read_entrypoint(self) -> Entrypoint:
        command = self.command(self.written.arguments)
        return Entrypoint(location=self.checked(), command=command)

    def read_shell(self) -> SetShell:
        words = self.several()
        if not self.written.is_json:
            raise self.error('takes its words in JSON form: ["/bin/sh", "-c"]')
        return SetShell(location=self.checked(), words=words)

    def read_run(self) -> Run:
        flags = self.flags
        mounts, devices = flags.several("mount"), flags.several("device")
        network, security = flags.text("network"), flags.text("security")
        if network not in (None, "default", "none", "host"):
            raise self.error(
                f"has --network={network}; known are default, none and host"
            )
        if security not in (None, "sandbox", "insecure"):
            raise self.error(f"has --security={security}; known are sandbox, insecure")
        return Run(
            location=self.checked(),
            command=self.command(self.written.arguments),
            heredocs=self.written.heredocs,
            mounts=mounts,
            network=network,
            security=security,
            devices=devices,
        )

    def files(self) -> tuple[tuple[str, ...], tuple[Heredoc, ...], str]:
        """Tell sources, here-documents and the target apart."""
        words = self.written.arguments
        if len(words) <= 1:
            raise self.error("takes a source and a target, or several sources")
        target = words[-1]
        names = {heredoc.name for heredoc in self.written.heredocs}
        sources, skip = [], False
        for position, word in enumerate(words):
            if skip:
                skip = False
                continue
            apart = word == "<<" and position + 1 < len(words)
            found = heredoc_of(f"<<{words[position + 1]}" if apart else word)
            if found is not None and found[0] in names:
                if position + 1 + apart == len(words):
                    raise self.error("cannot have a here-document as its target")
                skip = apart
            elif position + 1 < len(words):
                sources.append(word)
        return tuple(sources), self.written.heredocs, target

    def read_copy(self) -> Copy:
        sources, heredocs, target = self.files()
        flags = self.flags
        source_stage = flags.text("from")
        owner, mode = flags.text("chown"), flags.text("chmod")
        link, parents = flags.boolean("link"), flags.boolean("parents")
        excludes = flags.several("exclude")
        return Copy(
            location=self.checked(),
            sources=sources,
            target=target,
            heredocs=heredocs,
            source_stage=source_stage,
            owner=owner,
            mode=mode,
            link=link or False,
            parents=parents or False,
            excludes=excludes,
        )

    def read_add(self) -> Add:
        sources, heredocs, target = self.files()
        flags = self.flags
        owner, mode = flags.text("chown"), flags.text("chmod")
        link, keep_git = flags.boolean("link"), flags.boolean("keep-git-dir")
        unpack, checksum = flags.boolean("unpack"), flags.text("checksum")
        excludes = flags.several("exclude")
        return Add(
            location=self.checked(),
            sources=sources,
            target=target,
            heredocs=heredocs,
            owner=owner,
            mode=mode,
            link=link or False,
            excludes=excludes,
            checksum=checksum,
            keep_git=keep_git or False,
            unpack=unpack,
        )

    def read_healthcheck(self) -> Healthcheck:
        kind, *words = self.several()
        flags = self.flags
        if kind.upper() == "NONE":
            if words:
                raise self.error("NONE takes nothing after it")
            return Healthcheck(location=self.checked(), command=None)
        if kind.upper() != "CMD":
            raise self.error(f"has {kind!r}; it is CMD and a command, or NONE")
        times = {
            name: flags.seconds(name)
            for name in ("interval", "timeout", "start-period", "start-interval")
        }
        retries = flags.text("retries")
        if retries is not None and not (retries.isascii() and retries.isdecimal()):
            raise self.error(f"has --retries={retries}, which is no count")
        if not words:
            raise self.error("CMD lacks a command")
        return Healthcheck(
            location=self.checked(),
            command=self.command(tuple(words)),
            interval=times["interval"],
            timeout=times["timeout"],
            start_period=times["start-period"],
            start_interval=times["start-interval"],
            retries=None if retries is None else int(retries),
        )

    def read_onbuild(self) -> Onbuild:
        trigger = self.written.trigger
        self.flags.done()
        if trigger is None:
            raise self.error("takes an instruction")
        if trigger.keyword == "onbuild":
            raise self.error("cannot be put off twice: ONBUILD ONBUILD")
        if trigger.keyword in ("from", "maintainer"):
            raise self.error(f"cannot put off {trigger.spelled}")
        return Onbuild(location=self.location, trigger=trigger.text)


_READERS: dict[str, Callable[[_Reader], Base | Instruction]] = {
    "add": _Reader.read_add,
    "arg": _Reader.read_arg,
    "cmd": _Reader.read_cmd,
    "copy": _Reader.read_copy,
    "entrypoint": _Reader.read_entrypoint,
    "env": _Reader.read_env,
    "expose": _Reader.read_expose,
    "from": _Reader.read_from,
    "healthcheck": _Reader.read_healthcheck,
    "label": _Reader.read_label,
    "maintainer": _Reader.read_maintainer,
    "onbuild": _Reader.read_onbuild,
    "run": _Reader.read_run,
    "shell": _Reader.read_shell,
    "stopsignal": _Reader.read_stopsignal,
    "user": _Reader.read_user,
    "volume": _Reader.read_volume,
    "workdir": _Reader.read_workdir,
}
