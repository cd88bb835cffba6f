"""Layers of others: what becomes of them is what other tools make of them."""

import gzip
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from jailbox.engine.choose import default_engine
from jailbox.engine.local import LocalEngine
from jailbox.errors import LayerError
from jailbox.linux.workshop import UnpackPolicy, Workshop
from tests.layers import Yard, view

pytestmark = [pytest.mark.root, pytest.mark.userns]


@pytest.fixture
def yard() -> Iterator[Yard]:
    """Return a place for trees."""
    engine = default_engine()
    assert isinstance(engine, LocalEngine)
    with tempfile.TemporaryDirectory(prefix="layers-") as name:
        place = Path(name) / "trees"
        place.mkdir()
        victim = Path(name) / "victim"
        victim.mkdir()
        (victim / "hello").write_text("hello", encoding="utf-8")
        policy = UnpackPolicy(unended=True)
        made = Yard(Workshop(engine.keeper), place, policy)
        yield made
        made.clear()
        assert [Path("hello")] == [p.relative_to(victim) for p in victim.iterdir()]
        assert "hello" == (victim / "hello").read_text(encoding="utf-8")


def plain(data: bytes) -> bytes:
    """Undo a compression, as the bytes say."""
    if data.startswith(b"\x1f\x8b"):
        return gzip.decompress(data)
    if data.startswith((b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18")):
        content = b""
        while data:
            frame = zstandard.ZstdDecompressor().decompressobj()
            content += frame.decompress(data)
            if not frame.eof:
                raise EOFError("a frame is cut short")
            data = frame.unused_data
        return content
    return data


def same(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Say what differs between two pictures."""
    differences = [f"{p}: only ours" for p in ours if p not in theirs]
    differences += [f"{p}: only theirs" for p in theirs if p not in ours]
    for path in sorted(set(ours) & set(theirs)):
        left, right = dict(ours[path]), dict(theirs[path])
        keys = set(left) | set(right)
        if "mt" not in right:
            keys.discard("mt")
        if right["t"] == "l":
            keys.discard("m")
        differences += [
            f"{path}: {key}: {left.get(key)!r} is not {right.get(key)!r}"
            for key in sorted(keys)
            if left.get(key) != right.get(key)
        ]
    return differences


@pytest.mark.collection("archive-cases")
@pytest.mark.parametrize("merged", [False, True], ids=["alone", "merged"])
def test_layers(
    case: dict[str, Any], collection: Path, yard: Yard, *, merged: bool
) -> None:
    """A stack of layers is refused, or becomes the files that the case expects."""
    expected = case["expect"]
    refused = None
    try:
        for layer in case["layers"]:
            data = (collection / layer["file"]).read_bytes()
            yard.add(plain(data), merged=merged)
    except (LayerError, zlib.error, zstandard.ZstdError, EOFError, OSError) as error:
        refused = error
    if refused is not None:
        assert expected["judge"] in {"refuse", "either"}, refused
        return
    assert expected["judge"] in {"apply", "either"}
    found = view(yard.trees)
    for path in expected.get("present", []):
        assert path in found
    for path in expected.get("absent", []):
        assert path not in found
    if "exactly" in expected:
        assert sorted(expected["exactly"]) == sorted(found)
    answers = expected.get("answers", [])
    if answers:
        differences = [same(found, answer) for answer in answers]
        assert [] in differences, differences[0]
    root = yard.trees[0]
    for check, path, *values in expected.get("checks", []):
        where = found.get(path.lstrip("/"))
        if check == "fileNotExists":
            assert where is None
        elif check == "fileValue" and len(yard.trees) == 1:
            assert values[0] == (root / path.lstrip("/")).read_text(encoding="utf-8")
    if "xattr" in expected:
        path, name, value = expected["xattr"]
        assert value == found[path]["x"][name]
