"""Advice about Dockerfiles: each rule, where it speaks and where it is silent."""

import pytest

from jailbox.dockerfile import Ignore, parse
from jailbox.dockerfile.lint import RULES, lint

HEAD = "FROM scratch\n"

CASES = [
    ("ConsistentInstructionCasing", "FROM scratch\nRUN x\nrun y\n", 3),
    ("CopyIgnoredFile", HEAD + "COPY secret.txt /\n", 2),
    ("DuplicateStageName", "FROM scratch AS a\nFROM scratch AS a\n", 2),
    ("ExposeInvalidFormat", HEAD + "EXPOSE 127.0.0.1:80:80\n", 2),
    ("ExposeProtoCasing", HEAD + "EXPOSE 80/TCP\n", 2),
    ("FromAsCasing", "FROM scratch as a\n", 1),
    ("FromPlatformFlagConstDisallowed", "FROM --platform=linux/arm64 x AS a\n", 1),
    ("InvalidDefaultArgInFrom", "ARG TAG\nFROM x:$TAG\n", 2),
    (
        "InvalidDefinitionDescription",
        "# check=experimental=all\n# other\nFROM scratch AS a\n",
        3,
    ),
    ("JSONArgsRecommended", HEAD + "CMD run it\n", 2),
    ("LegacyKeyValueFormat", HEAD + "ENV a b\n", 2),
    ("MaintainerDeprecated", HEAD + "MAINTAINER me\n", 2),
    ("MultipleInstructionsDisallowed", HEAD + 'CMD ["a"]\nCMD ["b"]\n', 2),
    ("NoEmptyContinuation", HEAD + "RUN a \\\n\n  b\n", 4),
    ("RedundantTargetPlatform", "FROM --platform=$TARGETPLATFORM scratch\n", 1),
    ("ReservedStageName", "FROM scratch AS context\n", 1),
    ("SecretsUsedInArgOrEnv", HEAD + "ARG DB_PASSWORD\n", 2),
    ("StageNameCasing", "FROM scratch AS Big\n", 1),
    ("UndefinedArgInFrom", "ARG TAGS=1\nFROM x:${TAG}1\n", 2),
    ("UndefinedVar", HEAD + "COPY $what /\n", 2),
    ("WorkdirRelativePath", HEAD + "WORKDIR app\n", 2),
]


def given(text: str) -> list[tuple[str, int]]:
    """Return rules and lines of the advice about a text."""
    report = lint(parse(text), ignore=Ignore.parse("secret.txt\n"))
    return [(one.rule, one.line) for one in report.warnings]


def test_every_rule_is_tried() -> None:
    """There is a case for every rule."""
    assert sorted(rule for rule, _text, _line in CASES) == sorted(RULES)


@pytest.mark.parametrize(("rule", "text", "line"), CASES)
def test_speaks(rule: str, text: str, line: int) -> None:
    """A rule speaks in the line where it is broken."""
    assert (rule, line) in given(text)


@pytest.mark.parametrize(("rule", "text", "line"), CASES)
def test_is_left_out(rule: str, text: str, line: int) -> None:
    """A build argument leaves a rule out, and only that rule."""
    args = {"BUILDKIT_DOCKERFILE_CHECK": f"skip={rule};experimental=all"}
    report = lint(parse(text), args=args, ignore=Ignore.parse("secret.txt\n"))
    assert (rule, line) not in [(one.rule, one.line) for one in report.warnings]


@pytest.mark.parametrize(
    "text",
    [
        'FROM scratch AS a\nWORKDIR /app\nWORKDIR sub\nCMD ["x"]\n',
        'FROM scratch AS a\nSHELL ["sh"]\nFROM a\nCMD x\n',
        "FROM scratch AS a\nENV A=1\nFROM a\nCOPY $A /\n",
        "FROM --platform=$BUILDPLATFORM scratch\n",
        "FROM --platform=linux/arm64 x AS for_arm64\n",
        "FROM scratch\nARG PUBLIC_KEY\nARG HTTP=1\nRUN a\n",
        "FROM python:3\nENV V=$PYTHON_VERSION\n",
        "FROM scratch\n# check=skip=WorkdirRelativePath\nWORKDIR app\n",
        "# check=skip=all\nFROM scratch\nWORKDIR app\n",
    ],
)
def test_is_silent(text: str) -> None:
    """What is meant gets no advice."""
    assert given(text) == []


def test_failing() -> None:
    """A file may want a build to fail for advice, and only if there is some."""
    head = "# check=error=true\nFROM scratch\n"
    assert lint(parse(head + "WORKDIR app\n")).fails
    assert not lint(parse(head + "WORKDIR /app\n")).fails
