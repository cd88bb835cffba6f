"""Dockerfiles, their words and ignore files, against the tests of other projects."""

from typing import Any

import pytest

from jailbox.dockerfile import Dockerfile, Ignore, parse
from jailbox.dockerfile.ignore import read_patterns
from jailbox.dockerfile.lines import Written, read_source
from jailbox.dockerfile.lint import lint
from jailbox.dockerfile.words import WordError, look_at
from jailbox.errors import DockerfileError, SpecError


def described(written: Written) -> dict[str, object]:
    """Say what the suite says of an instruction."""
    found: dict[str, object] = {
        "keyword": written.keyword,
        "args": list(written.arguments),
        "json": written.is_json,
    }
    if written.flags:
        found["flags"] = list(written.flags)
    if written.heredocs:
        found["heredocs"] = [
            {
                "name": one.name,
                "content": one.content,
                "expand": one.expands,
                "chomp": one.chomps,
            }
            for one in written.heredocs
        ]
    if written.trigger is not None:
        trigger = described(written.trigger)
        del trigger["lines"]
        found["trigger"] = trigger
    found["lines"] = [written.first, written.last]
    return found


def stages(file: Dockerfile) -> list[dict[str, object]]:
    """Say what the suite says of the stages of a file."""
    return [
        {
            "name": stage.name or "",
            "base": stage.base.image,
            "platform": stage.base.platform or "",
            "commands": [one.keyword for one in stage.instructions],
        }
        for stage in file.stages
    ]


@pytest.mark.collection("dockerfile-parser")
def test_parser(case: dict[str, Any]) -> None:
    """A file comes apart as BuildKit takes it apart, or is refused in the same line."""
    text = case["text"].encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    expected = case["expect"]
    if expected["parse"] == "fail":
        with pytest.raises(DockerfileError) as refused:
            read_source(text)
        assert expected["error_line"] in (0, refused.value.line)
        return
    source = read_source(text)
    assert source.escape == expected["escape"]
    assert [described(one) for one in source.instructions] == expected["instructions"]
    if expected["valid"]:
        assert stages(parse(text)) == expected["stages"]
        return
    with pytest.raises(DockerfileError) as invalid:
        parse(text)
    assert invalid.value.line == expected["error_line"]


@pytest.mark.collection("dockerfile-shell")
def test_words(case: dict[str, Any]) -> None:
    """Words come to what BuildKit makes of them."""
    if case.get("buildkit_differs"):
        pytest.skip("no conformance cases here: another builder's wish")
    env = dict(pair.split("=", 1) for pair in case["env"] if "=" in pair)
    expected = case["expect"]
    escape = case.get("escape", "\\")
    if expected.get("error"):
        with pytest.raises(WordError):
            look_at(case["word"], env, escape)
        return
    found = look_at(case["word"], env, escape)
    if case["kind"] == "words":
        assert list(found.words) == expected["words"]
        return
    assert found.text == expected["word"]
    if "matched" in expected:
        assert sorted(found.used) == sorted(expected["matched"] or ())
    if "unmatched" in expected:
        assert sorted(found.unset) == sorted(expected["unmatched"] or ())


@pytest.mark.collection("dockerignore")
def test_ignore(case: dict[str, Any]) -> None:
    """The same paths are left out of a context as BuildKit leaves out."""
    expected = case["expect"]
    if expected.get("error"):
        with pytest.raises(SpecError):
            Ignore.of(case.get("patterns") or read_patterns(case["text"]))
        return
    match case.get("kind"):
        case "file":
            patterns = case.get("patterns") or expected.get("patterns") or []
            assert list(read_patterns(case["text"])) == patterns
        case "context":
            patterns = read_patterns(case["text"])
            ignore = Ignore.of(patterns)
            assert list(patterns) == expected["patterns"]
            found = [ignore.ignores(path) for path in case["paths"]]
            assert found == expected["matches"]
        case _:
            ignore = Ignore.of(case["patterns"])
            assert ignore.ignores(case["path"]) == expected["match"]


@pytest.mark.collection("dockerfile-lint")
def test_lint(case: dict[str, Any]) -> None:
    """The same advice is given in the same lines as BuildKit gives it."""
    options = case.get("options") or {}
    args = {
        key.removeprefix("build-arg:"): value
        for key, value in options.items()
        if key.startswith("build-arg:")
    }
    text = case["text"]
    if case.get("fragment"):
        text = f"FROM scratch\n{text}"
    ignore = Ignore.parse(case["dockerignore"]) if case.get("dockerignore") else None
    expected = case["expect"]
    if "..." in text:
        text = text.replace("\n...\n", "\n")
    report = lint(parse(text), args=args, ignore=ignore)
    if "rule" in expected:
        found = expected["rule"] in {warning.rule for warning in report.warnings}
        assert found == expected["warns"]
        return
    given = sorted((warning.rule, warning.line) for warning in report.warnings)
    wanted = sorted((one["rule"], one["line"]) for one in expected["warnings"])
    assert given == wanted
    assert report.fails == expected.get("error", "").startswith("lint violation")
