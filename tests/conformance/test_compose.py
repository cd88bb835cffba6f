"""Compose files, against the tests, examples and deployments of other projects."""

import json
from pathlib import Path
from typing import Any

import pytest

from jailbox.compose import Compose
from jailbox.compose.dotenv import read_dotenv
from jailbox.compose.template import substitute
from jailbox.errors import ComposeError

FILES = (
    "compose-go-files",
    "compose-go-inline",
    "compose-go-merge",
    "compose-spec-examples",
    "docker-compose-e2e",
    "awesome-compose",
    "real-world",
    "cli",
)

# Where an entry that is empty is an entry.
ENTRIES = {
    "additional_contexts",
    "annotations",
    "args",
    "configs",
    "depends_on",
    "driver_opts",
    "environment",
    "labels",
    "models",
    "networks",
    "options",
    "secrets",
    "services",
    "sysctls",
    "volumes",
}


def significant(value: object, parent: str = "") -> object:
    """Leave out of a model what the suite does not count."""
    if isinstance(value, dict):
        found = {}
        for key, inner in value.items():
            kept = significant(inner, key)
            empty = kept is None or kept in ({}, [])
            if empty and parent not in ENTRIES:
                continue
            if parent == "bind" and key == "create_host_path" and kept is True:
                continue
            found[key] = None if empty else kept
        return found
    if isinstance(value, list):
        row = [significant(inner) for inner in value]
        return sorted(map(str, row)) if parent == "ssh" else row
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        return str(int(value)) if float(value).is_integer() else str(value)
    return value


def loaded(case: dict[str, Any], base: Path) -> tuple[str, object]:
    """Load the files of a case; return its model, or the kind of its error."""
    project = base / "l1/l2/l3/proj"
    project.mkdir(parents=True)
    for name, text in case["files"].items():
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, newline="")
    for name in case.get("dirs") or ():
        (project / name).mkdir(parents=True, exist_ok=True)
    given = case["args"]
    home = base / "home"
    home.mkdir()
    cwd = project / (given.get("cwd") or ".")
    cwd.mkdir(parents=True, exist_ok=True)
    env = {"PATH": "/usr/bin:/bin", "HOME": str(home), **(given.get("env") or {})}
    try:
        model = Compose.load(
            given["files"],
            directory=cwd,
            project_directory=given.get("project_directory"),
            name=given["project_name"],
            env={key: put_back(text, base, project) for key, text in env.items()},
            env_files=given["env_files"],
            profiles=given["profiles"],
        ).config()
    except ComposeError as error:
        return "error", error.kind
    text = json.dumps(model).replace(str(project), "@PROJ@")
    return "ok", significant(json.loads(text.replace(str(base), "@BASE@")))


def put_back(text: str, base: Path, project: Path) -> str:
    """Put real folders for the names that stand for them."""
    return text.replace("@PROJ@", str(project)).replace("@BASE@", str(base))


def expected(answer: dict[str, Any]) -> tuple[str, object]:
    """Return what a case asks for, as `loaded` says it."""
    if answer["status"] == "error":
        return "error", answer["category"]
    return "ok", significant(answer["config"])


@pytest.mark.slow
@pytest.mark.parametrize("collection", FILES)
def test_models(collection: str, conformance: Path | None, tmp_path: Path) -> None:
    """Every file comes to the model of Docker Compose, or to an error of its kind."""
    wrong = []
    for number, case in enumerate(read_cases(conformance, collection)):
        found = loaded(case, tmp_path / str(number))
        answers = [case["expect"], case.get("expect_alt")]
        if found not in [expected(answer) for answer in answers if answer]:
            wrong.append((case["id"], found[0]))
    assert not wrong


def test_interpolation(conformance: Path | None) -> None:
    """Variables in text come to what Docker Compose makes of them."""
    wrong = []
    for case in read_cases(conformance, "table-interpolation"):
        try:
            found: str | None = substitute(case["template"], case["env"])
        except ValueError:
            found = None
        if found != case["expect"].get("value"):
            wrong.append(case["id"])
    assert not wrong


def test_dotenv(conformance: Path | None) -> None:
    """Files of variables say what Docker Compose reads in them."""
    wrong = []
    for case in read_cases(conformance, "table-dotenv"):
        values: dict[str, str] = {}
        failed = False
        try:
            for text in case["texts"]:
                values.update(read_dotenv(text, case["env"], before=values))
        except ComposeError:
            failed = True
        if (None if failed else values) != case["expect"].get("values"):
            wrong.append(case["id"])
    assert not wrong


def read_cases(conformance: Path | None, collection: str) -> list[dict[str, Any]]:
    """Read the cases of a file; skip where there are none."""
    path = None if conformance is None else conformance / "compose"
    if path is None or not path.is_dir():
        pytest.skip("no conformance cases here: compose")
    lines = (path / f"{collection}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]
