"""Names of images and addresses of Git, against the tests of other projects."""

from typing import Any

import pytest

from jailbox.errors import InvalidReference, SpecError
from jailbox.spec.git import GitAddress, git_address
from jailbox.spec.reference import Reference, as_written, parse_any

# Our words for the fields of the suite.
GIT_FIELDS = {
    "Remote": "remote",
    "ShortName": "short_name",
    "Ref": "ref",
    "SubDir": "subdir",
    "Checksum": "checksum",
    "KeepGitDir": "keep_git_dir",
    "Submodules": "submodules",
    "MTime": "mtime",
    "FetchByCommit": "fetch_by_commit",
    "IndistinguishableFromLocal": "like_a_path",
    "UnencryptedTCP": "unencrypted",
}


def read(kind: str, text: str) -> dict[str, object]:
    """Read a name in one of the ways, and say what it is."""
    try:
        match kind:
            case "parse":
                written = as_written(text)
                return {
                    "ok": True,
                    "name": written.name,
                    "domain": written.domain,
                    "tag": written.tag or "",
                    "digest": str(written.digest or ""),
                }
            case "normalize":
                reference = Reference.parse(text)
                return {
                    "ok": True,
                    "domain": reference.domain,
                    "path": reference.path,
                    "name": reference.name,
                    "familiar": reference.at(None).familiar(),
                }
            case "any":
                return {"ok": True, "string": str(parse_any(text))}
            case "tagged":
                return {"ok": True, "string": str(Reference.parse(text).tagged())}
    except InvalidReference:
        return {"ok": False}
    raise AssertionError(kind)


def fields(address: GitAddress) -> dict[str, object]:
    """Name what is set as the suite does."""
    return {
        theirs: value
        for theirs, ours in GIT_FIELDS.items()
        if (value := getattr(address, ours)) not in (None, "")
        and not (value is False and theirs not in {"KeepGitDir", "Submodules"})
    }


@pytest.mark.collection("image-reference")
def test_reference(case: dict[str, Any]) -> None:
    """A name is read, normalized and refused as everywhere else."""
    expected = case["expect"]
    if case["kind"] != "git":
        got = read(case["kind"], case["input"])
        assert {key: got.get(key) for key in expected} == expected
        return
    if expected["error"]:
        with pytest.raises(SpecError) as refused:
            git_address(case["input"])
        assert expected["error"] in str(refused.value)
        return
    address = git_address(case["input"])
    assert (address is not None) == expected["git"]
    if address is not None:
        assert fields(address) == expected["fields"]
