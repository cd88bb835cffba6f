"""
Advice about Dockerfiles: what is allowed, and rarely meant.

The rules have the names of the reference ("Build checks"). Each is a function over a
stage, or over the file; `lint` runs them all, and leaves out what the file's
``# check=skip=...`` leaves out. No image is looked at: what a base image has in its
environment is told by the caller, or guessed.
"""

import difflib
import re
from collections.abc import Callable, Iterator, Mapping

from attrs import define, field, frozen

from jailbox.dockerfile.ignore import Ignore
from jailbox.dockerfile.instructions import (
    Add,
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Instruction,
    Label,
    Location,
    Maintainer,
    Pair,
    SetShell,
    User,
    Volume,
    Workdir,
)
from jailbox.dockerfile.parser import Dockerfile, Stage
from jailbox.dockerfile.words import WordError, look_at
from jailbox.errors import InvalidReference
from jailbox.spec.reference import Reference

__all__ = ["RULES", "Advice", "Report", "lint"]

RULES: Mapping[str, str] = {
    "ConsistentInstructionCasing": "All keywords should be in capitals, or none.",
    "CopyIgnoredFile": "What is copied should not be left out by the ignore file.",
    "DuplicateStageName": "Names of stages should differ.",
    "ExposeInvalidFormat": "EXPOSE should name a port, not where it is published.",
    "ExposeProtoCasing": "The protocol of a port should be in small letters.",
    "FromAsCasing": "FROM and AS should be written alike.",
    "FromPlatformFlagConstDisallowed": "A stage should not have a fixed platform.",
    "InvalidDefaultArgInFrom": "FROM should name an image without build arguments.",
    "InvalidDefinitionDescription": "A comment should begin with what it describes.",
    "JSONArgsRecommended": "Commands in JSON form get signals; a shell keeps them.",
    "LegacyKeyValueFormat": "Names and values should stand as name=value.",
    "MaintainerDeprecated": "A label should say who made an image.",
    "MultipleInstructionsDisallowed": "Only the last one in a stage counts.",
    "NoEmptyContinuation": "An instruction should have no empty lines in it.",
    "RedundantTargetPlatform": "The platform is the target's without being said.",
    "ReservedStageName": "A stage should not be called scratch or context.",
    "SecretsUsedInArgOrEnv": "Secrets stay in the image; mount them instead.",
    "StageNameCasing": "Names of stages should be in small letters.",
    "UndefinedArgInFrom": "FROM should use arguments that are declared.",
    "UndefinedVar": "Variables should be declared before they are used.",
    "WorkdirRelativePath": "A relative directory depends on the base image.",
}
"""Every rule, and what it asks for."""

_EXPERIMENTAL = frozenset(("InvalidDefinitionDescription",))
_OPTION = "BUILDKIT_DOCKERFILE_CHECK"
_PREDEFINED = frozenset(
    f"{side}{part}"
    for side in ("TARGET", "BUILD")
    for part in ("PLATFORM", "OS", "ARCH", "VARIANT")
) | {"TARGETSTAGE"}
_PROXIES = frozenset(
    name
    for one in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (one, one.lower())
)
_SECRET = re.compile(
    r"(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)"
    r"(?:_|$)",
    re.IGNORECASE,
)
_PUBLIC = re.compile(r"(?:_|^)public(?:_|$)", re.IGNORECASE)
_EXPOSED = re.compile(r"[0-9]+(?:-[0-9]+)?(?:/[a-zA-Z]+)?")
_CHECK = re.compile(r"check\s*=\s*(.*)")


@frozen
class Advice:
    """
    One thing that is allowed, and rarely meant.

    Attributes:
        rule: The rule, one of `RULES`.

        detail: What is written, and what would be better.

        line: Where, from 1.
    """

    rule: str
    detail: str
    line: int


@frozen
class Report:
    """
    What there is to say about a Dockerfile.

    Attributes:
        warnings: The advice, in the order of the file.

        fails: Whether the file wants a build to fail for it (``check=error=true``).
    """

    warnings: tuple[Advice, ...]
    fails: bool


@frozen
class _Wish:
    """What a file says about checks."""

    skip: frozenset[str] = frozenset()
    experimental: frozenset[str] = frozenset()
    error: bool = False

    def leaves_out(self, rule: str) -> bool:
        if "all" in self.skip or rule in self.skip:
            return True
        wanted = {"all", rule} & self.experimental
        return rule in _EXPERIMENTAL and not wanted


def lint(
    file: Dockerfile,
    *,
    args: Mapping[str, str] | None = None,
    ignore: Ignore | None = None,
    base_env: Callable[[str], Mapping[str, str] | None] = lambda _image: None,
) -> Report:
    """
    Look for what is rarely meant.

    Args:
        file: The Dockerfile.

        args: Build arguments; ``BUILDKIT_DOCKERFILE_CHECK`` replaces what the file
            says about checks.

        ignore: The ignore file of the context.

        base_env: The environment of a base image, or ``None`` if it is not known.
    """
    args = args or {}
    said = args.get(_OPTION) or file.source.directives.get("check", ("", 0))[0]
    wish = _wish(said)
    linter = _Linter(file, args, ignore, base_env)
    skipped = _skipped_here(file)
    found = [
        warning
        for warning in linter.warnings()
        if not wish.leaves_out(warning.rule)
        and not {"all", warning.rule} & skipped.get(warning.line, frozenset())
    ]
    found.sort(key=lambda warning: warning.line)
    return Report(tuple(found), wish.error and bool(found))


def _wish(text: str) -> _Wish:
    parts = dict(part.partition("=")[::2] for part in text.split(";"))
    fields = {key.strip().lower(): value.strip() for key, value in parts.items()}
    return _Wish(
        _names(fields.get("skip", "")),
        _names(fields.get("experimental", "")),
        fields.get("error", "").lower() == "true",
    )


def _names(text: str) -> frozenset[str]:
    return frozenset(one.strip() for one in text.split(",") if one.strip())


def _skipped_here(file: Dockerfile) -> dict[int, frozenset[str]]:
    """Return what a comment right before an instruction leaves out, by line."""
    found = {}
    for written in file.source.instructions:
        for comment in written.comments:
            if match := _CHECK.fullmatch(comment):
                skip = _wish(match[1]).skip
                for line in range(written.first, written.last + 1):
                    found[line] = skip
    return found


@define
class _Known:
    """What is known of a stage while its instructions are gone through."""

    env: dict[str, str]
    declared: set[str] = field(factory=set)
    workdir: bool = False
    shell: bool = False
    image: str = ""


@define
class _Linter:
    file: Dockerfile
    args: Mapping[str, str]
    ignore: Ignore | None
    base_env: Callable[[str], Mapping[str, str] | None]
    stages: dict[str, _Known] = field(factory=dict)

    def warnings(self) -> Iterator[Advice]:
        yield from self.spelling()
        yield from self.names()
        for arg in self.file.arguments:
            yield from _described(arg.location, [pair.name for pair in arg.pairs])
            yield from _secrets(arg)
        for stage in self.file.stages:
            yield from self.stage(stage)

    # The file as it is written.

    def spelling(self) -> Iterator[Advice]:
        source = self.file.source
        words = [written.spelled for written in source.instructions]
        small = sum(word.islower() for word in words)
        capitals = sum(word.isupper() for word in words)
        wanted = "small letters" if small > capitals else "capitals"
        for written in source.instructions:
            fits = (
                written.spelled.islower()
                if small > capitals
                else written.spelled.isupper()
            )
            if not fits:
                yield Advice(
                    "ConsistentInstructionCasing",
                    f"{written.spelled!r} should be in {wanted}, as most are",
                    written.first,
                )
            if any(written.first < gap <= written.last for gap in source.gaps):
                yield Advice(
                    "NoEmptyContinuation",
                    f"{written.spelled} has an empty line in it",
                    written.last,
                )

    def names(self) -> Iterator[Advice]:
        seen: set[str] = set()
        for written in self.file.source.instructions:
            if written.keyword != "from" or len(written.arguments) != 3:  # noqa: PLR2004
                continue
            _image, word, name = written.arguments
            if name != name.lower():
                yield Advice(
                    "StageNameCasing",
                    f"the stage name {name!r} should be in small letters",
                    written.first,
                )
            spelled = written.spelled
            if (spelled.islower() and not word.islower()) or (
                spelled.isupper() and not word.isupper()
            ):
                yield Advice(
                    "FromAsCasing",
                    f"{spelled!r} and {word!r} should be written alike",
                    written.first,
                )
            if name.lower() in ("scratch", "context"):
                yield Advice(
                    "ReservedStageName",
                    f"the stage name {name!r} means something else already",
                    written.first,
                )
            if name.lower() in seen:
                yield Advice(
                    "DuplicateStageName",
                    f"a stage is called {name!r} already",
                    written.first,
                )
            seen.add(name.lower())

    # Stages.

    def stage(self, stage: Stage) -> Iterator[Advice]:
        base = stage.base
        if base.name:
            yield from _described(base.location, [base.name])
        yield from self.base(stage)
        yield from _platform(stage)
        below = self.stages.get(base.image.lower())
        if below is None:
            env = self.base_env(base.image)
            known = _Known({"PATH": "", **(env or {})}, image=base.image)
        else:
            known = _Known(
                dict(below.env), set(), below.workdir, below.shell, below.image
            )
        last: dict[str, Location] = {}
        for one in stage.instructions:
            if isinstance(one, Cmd | Entrypoint | Healthcheck):
                if (before := last.get(one.keyword)) is not None:
                    yield Advice(
                        "MultipleInstructionsDisallowed",
                        f"{one.keyword.upper()} stands again in line"
                        f" {one.location.first}, and only the last one counts",
                        before.first,
                    )
                last[one.keyword] = one.location
            yield from self.instruction(one, known)
        if base.name:
            self.stages[base.name] = known
        self.stages[str(stage.index)] = known

    def base(self, stage: Stage) -> Iterator[Advice]:
        base = stage.base
        line = base.location.first
        defaults: dict[str, str] = {}
        declared: set[str] = set(_PREDEFINED)
        for arg in self.file.arguments:
            for pair in arg.pairs:
                declared.add(pair.name)
                if pair.value is not None:
                    defaults[pair.name] = _expanded(pair.value, defaults)
        escape = self.file.source.escape
        values = {**dict.fromkeys(_PREDEFINED, "x"), **defaults}
        for text in (base.image, base.platform or ""):
            try:
                unset = look_at(text, {**values, **self.args}, escape).unset
            except WordError:
                continue
            for name in sorted(unset - declared):
                yield Advice(
                    "UndefinedArgInFrom",
                    f"FROM uses {name!r}, which no ARG before it declares"
                    f"{_guess(name, declared)}",
                    line,
                )
        try:
            image = look_at(base.image, values, escape)
        except WordError:
            return
        if (image.used or image.unset) and not _names_an_image(image.text):
            yield Advice(
                "InvalidDefaultArgInFrom",
                f"{base.image!r} is {image.text!r} without build arguments",
                line,
            )

    def instruction(self, one: Instruction, known: _Known) -> Iterator[Advice]:
        line = one.location.first
        match one:
            case Maintainer():
                yield Advice(
                    "MaintainerDeprecated",
                    "MAINTAINER is LABEL org.opencontainers.image.authors now",
                    line,
                )
            case SetShell():
                known.shell = True
            case Cmd() | Entrypoint():
                if one.command.shell and one.command.words and not known.shell:
                    yield Advice(
                        "JSONArgsRecommended",
                        f"{one.keyword.upper()} should be in JSON form: a shell does"
                        " not pass signals on",
                        line,
                    )
            case Workdir():
                yield from self.undefined([one.path], one, known)
                path = _expanded(one.path, known.env)
                if not path.startswith("/") and not known.workdir:
                    yield Advice(
                        "WorkdirRelativePath",
                        f"{one.path!r} is relative to what the base image says",
                        line,
                    )
                known.workdir = True
            case Arg():
                yield from _described(one.location, [pair.name for pair in one.pairs])
                yield from _secrets(one)
                yield from self.variables(one, one.pairs, known)
            case Env():
                yield from _secrets(one)
                yield from self.variables(one, one.pairs, known)
            case Label():
                yield from self.variables(one, one.pairs, known)
            case Expose():
                yield from self.undefined(one.ports, one, known)
                yield from _ports(one, known.env)
            case Copy() | Add():
                words = [*one.sources, one.target]
                yield from self.undefined(words, one, known)
                yield from self.ignored(one, known.env)
            case User():
                yield from self.undefined([one.user], one, known)
            case Volume():
                yield from self.undefined(one.paths, one, known)
            case _:
                pass

    def variables(
        self, one: Arg | Env | Label, pairs: tuple[Pair, ...], known: _Known
    ) -> Iterator[Advice]:
        """ARG, ENV and LABEL: how they are written, and what they define."""
        bare = isinstance(one, Arg) and all(pair.value is None for pair in pairs)
        old = one.old if isinstance(one, Env | Label) else bare and len(pairs) > 1
        if old:
            word = one.keyword.upper()
            yield Advice(
                "LegacyKeyValueFormat",
                f"'{word} name=value' is clearer than '{word} name value'",
                one.location.first,
            )
        values = [pair.value for pair in pairs if pair.value is not None]
        yield from self.undefined(values, one, known)
        if isinstance(one, Label):
            return
        for pair in pairs:
            known.declared.add(pair.name)
            if pair.value is not None or pair.name in self.args:
                value = self.args.get(pair.name) if isinstance(one, Arg) else None
                known.env[pair.name] = value or _expanded(pair.value or "", known.env)

    def undefined(
        self, words: list[str] | tuple[str, ...], one: Instruction, known: _Known
    ) -> Iterator[Advice]:
        for word in words:
            try:
                unset = look_at(word, known.env, self.file.source.escape).unset
            except WordError:
                continue
            for name in sorted(unset - known.declared - _PROXIES):
                # An image called python is likely to set PYTHON_VERSION.
                prefix = known.image.rpartition("/")[2].partition(":")[0].upper()
                if prefix and name.startswith(f"{prefix}_"):
                    continue
                yield Advice(
                    "UndefinedVar",
                    f"{name!r} is used, and nothing before declares it"
                    f"{_guess(name, {*known.env, *known.declared})}",
                    one.location.first,
                )

    def ignored(self, one: Copy | Add, env: Mapping[str, str]) -> Iterator[Advice]:
        if self.ignore is None or (isinstance(one, Copy) and one.source_stage):
            return
        for source in one.sources:
            path = _expanded(source, env).lstrip("./")
            if path and "://" not in source and self.ignore.ignores(path):
                yield Advice(
                    "CopyIgnoredFile",
                    f"{source!r} is left out by the ignore file",
                    one.location.first,
                )


def _platform(stage: Stage) -> Iterator[Advice]:
    platform, line = stage.base.platform, stage.base.location.first
    if platform is None:
        return
    if platform in ("$TARGETPLATFORM", "${TARGETPLATFORM}"):
        yield Advice(
            "RedundantTargetPlatform", f"{platform} is the platform anyway", line
        )
    elif "$" not in platform:
        # A stage that is called by its platform is chosen by it: that is meant.
        name = stage.base.name or ""
        if not any(part and part in name for part in platform.lower().split("/")):
            yield Advice(
                "FromPlatformFlagConstDisallowed",
                f"--platform should not be fixed to {platform!r}",
                line,
            )


def _ports(one: Expose, env: Mapping[str, str]) -> Iterator[Advice]:
    for port in one.ports:
        text = _expanded(port, env)
        if text and not _EXPOSED.fullmatch(text):
            yield Advice(
                "ExposeInvalidFormat",
                f"{port!r} should be a port: where it is published is said at run time",
                one.location.first,
            )
        protocol = text.partition("/")[2]
        if protocol != protocol.lower():
            yield Advice(
                "ExposeProtoCasing",
                f"{port!r} should have its protocol in small letters",
                one.location.first,
            )


def _secrets(one: Arg | Env) -> Iterator[Advice]:
    for pair in one.pairs:
        if _SECRET.search(pair.name) and not _PUBLIC.search(pair.name):
            yield Advice(
                "SecretsUsedInArgOrEnv",
                f"{one.keyword.upper()} {pair.name!r} looks like a secret, and stays in"
                " the image; RUN --mount=type=secret does not",
                one.location.first,
            )


def _described(location: Location, names: list[str]) -> Iterator[Advice]:
    """A comment before something begins with its name."""
    comments = [one for one in location.comments if not _CHECK.fullmatch(one)]
    if comments and not any(
        comment.startswith(f"{name} ") for comment in comments for name in names
    ):
        name = names[0] if len(names) == 1 else "name"
        yield Advice(
            "InvalidDefinitionDescription",
            f"the comment should be '# {name} ...'",
            location.first,
        )


def _expanded(word: str, env: Mapping[str, str]) -> str:
    try:
        return look_at(word, env).text
    except WordError:
        return word


def _names_an_image(text: str) -> bool:
    if not text:
        return False
    try:
        Reference.parse(text)
    except InvalidReference:
        return False
    return True


def _guess(name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {near[0]}?" if near else ""
