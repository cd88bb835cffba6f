"""Layers of strangers, unpacked by our store, against what other tools make of them."""

import hashlib
import io
import json
import posixpath
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import pytest

from jailbox.engine.choose import default_engine
from jailbox.engine.local import LocalEngine
from jailbox.errors import ContentError, StoreError
from jailbox.linux.workshop import Workshop
from jailbox.spec.digest import Digest
from jailbox.store.decompress import open_layer
from jailbox.store.records import LayerRecord
from jailbox.store.store import Store
from tests.conformance.conftest import cases, folder

pytestmark = [pytest.mark.root, pytest.mark.userns]

LISTING = Path(__file__).with_name("tree_listing.py")

Files: TypeAlias = dict[str, dict[str, Any]]


@attrs.frozen
class Outcome:
    """What became of a case: files, or why it was refused."""

    files: Files | None
    refusal: str | None
    victim: str | None


def diff_id(data: bytes, media_type: str) -> Digest:
    """Say what a config would: the digest of the plain layer."""
    hasher = Digest.of(b"").hasher()
    source = open_layer(io.BytesIO(data), media_type)
    while chunk := source.read(1 << 20):
        hasher.update(chunk)
    return Digest("sha256", hasher.hexdigest())


def stack(store: Store, place: Path, case: dict[str, Any]) -> list[LayerRecord]:
    """Store and unpack the layers of a case, each on top of those before."""
    below: list[LayerRecord] = []
    with store.adding():
        for layer in case["layers"]:
            data = (place / layer["file"]).read_bytes()
            blob = store.blobs.put(data)
            assert blob.hex == layer["sha256"]
            below.append(
                store.layers.add(
                    blob,
                    media_type=layer["media"],
                    diff_id=diff_id(data, layer["media"]),
                    parents=below,
                )
            )
    return below


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> Iterator[dict[str, Outcome]]:
    """Unpack all cases, and list what came of them in one go."""
    engine = default_engine()
    assert isinstance(engine, LocalEngine)
    source = folder(request.config)
    assert source is not None
    place = Path(tempfile.mkdtemp(prefix="archive-cases-", dir=None))
    victim = place / "victim/hello"
    victim.parent.mkdir()
    stacks: dict[str, list[str]] = {}
    refusals: dict[str, str] = {}
    victims: dict[str, str] = {}
    try:
        with Store(place / "store", workshop=lambda: Workshop(engine.keeper)) as store:
            for case in cases(request.config, "archive-cases"):
                victim.write_text("hello")
                try:
                    layers = stack(store, source / "archive-cases", case)
                except (ContentError, StoreError) as error:
                    refusals[case["id"]] = str(error)
                else:
                    stacks[case["id"]] = [
                        store.layers.path(layer.tree) for layer in reversed(layers)
                    ]
                victims[case["id"]] = victim.read_text()
            listed = subprocess.run(
                ["unshare", "--mount", "--", sys.executable, LISTING],
                input=json.dumps(list(stacks.values())).encode(),
                stdout=subprocess.PIPE,
                check=True,
            )
            found = dict(zip(stacks, json.loads(listed.stdout), strict=True))
            yield {
                name: Outcome(found.get(name), refusals.get(name), victims[name])
                for name in victims
            }
            assert store.images.list() == []
            store.gc()
    finally:
        shutil.rmtree(place)


def differences(files: Files, answer: Files) -> list[str]:
    """Say in what a tree is not an answer."""
    said = [f"{path!r} is too much" for path in files.keys() - answer.keys()]
    said += [f"{path!r} is missing" for path in answer.keys() - files.keys()]
    for path in sorted(files.keys() & answer.keys()):
        for key, value in answer[path].items():
            got = files[path].get(key)
            if key == "hl" and got is not None:
                got, value = sorted(got), sorted(value)  # noqa: PLW2901
            if got != value:
                said.append(f"{path!r}: {key} is {got!r}, not {value!r}")
    return said


def resolve(files: Files, path: str, *, last: bool = True) -> str:
    """Follow links inside of the tree."""
    place = ""
    parts = [part for part in path.split("/") if part]
    for _ in range(1000):
        if not parts:
            return place
        part = parts.pop(0)
        if part == ".":
            continue
        if part == "..":
            place = posixpath.dirname(place)
            continue
        here = posixpath.join(place, part)
        said = files.get(here, {})
        if said.get("t") == "l" and (parts or last):
            target = said["l"]
            if target.startswith("/"):
                place = ""
            parts = [*(p for p in target.split("/") if p), *parts]
        else:
            place = here
    raise AssertionError(f"links without end: {path}")


def holds(files: Files, check: list[str], content: dict[str, str]) -> bool:
    """Say whether a check of a suite holds."""
    kind, *words = check
    match kind:
        case "fileValue":
            place = resolve(files, words[0])
            return files.get(place, {}).get("h") == content[words[1]]
        case "fileNotExists":
            return resolve(files, words[0]) not in files
        case "sameFile":
            one, other = (resolve(files, word) for word in words)
            same = one == other or other in files.get(one, {}).get("hl", [])
            return one in files and same
        case "sameSymlinkFile":
            one, other = (resolve(files, word, last=False) for word in words)
            alike = files.get(one, {}).get("l") == files.get(other, {}).get("l")
            return one in files and other in files and alike
    raise AssertionError(kind)


@pytest.mark.collection("archive-cases")
def test_archive(case: dict[str, Any], outcomes: dict[str, Outcome]) -> None:
    """
    Layers become the tree that the tools agree on, or are refused as they refuse them;
    what lies beside the target is never touched.
    """
    expected, outcome = case["expect"], outcomes[case["id"]]
    assert outcome.victim == "hello"
    if expected["judge"] == "refuse":
        assert outcome.refusal is not None, f"it became {outcome.files}"
        return
    if outcome.files is None:
        assert expected["judge"] == "either", outcome.refusal
        return
    files = outcome.files
    answers = expected.get("answers", [])
    assert not answers or any(not differences(files, answer) for answer in answers), [
        differences(files, answer) for answer in answers
    ]
    assert not [path for path in expected.get("present") or [] if path not in files]
    assert not [path for path in expected.get("absent") or [] if path in files]
    if expected.get("exactly") is not None:
        assert sorted(files) == sorted(expected["exactly"])
    if expected.get("xattr"):
        path, name, value = expected["xattr"]
        assert files[path]["x"][name] == value
    for check in expected.get("checks") or []:
        digests = {
            word: hashlib.sha256(word.encode()).hexdigest() for word in check[1:]
        }
        assert holds(files, check, digests), check
