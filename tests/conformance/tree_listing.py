"""
List file systems of stacked layers, as a container sees them.

Run as a script in a mount namespace of its own. Reads a list of stacks, each a list of
directories with the uppermost first; writes a list of listings in the notation of the
conformance cases: t type, m mode, u and g owner, s size, h sha256, l link target,
x extended attributes, hl other names, dev device, mt mtime.
"""

import hashlib
import json
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

KINDS = {
    stat.S_IFREG: "f",
    stat.S_IFDIR: "d",
    stat.S_IFLNK: "l",
    stat.S_IFCHR: "c",
    stat.S_IFBLK: "b",
    stat.S_IFIFO: "p",
}
# Of the overlay itself.
HIDDEN = ("user.overlay.", "trusted.overlay.")


def text(data: bytes) -> str:
    """Decode as the cases do."""
    return data.decode("utf-8", "surrogateescape")


def entry(path: bytes) -> dict[str, Any]:
    """Describe one file."""
    found = os.lstat(path)
    kind = KINDS[stat.S_IFMT(found.st_mode)]
    said: dict[str, Any] = {
        "t": kind,
        "m": f"{stat.S_IMODE(found.st_mode):04o}",
        "u": found.st_uid,
        "g": found.st_gid,
        "mt": found.st_mtime_ns // 10**9,
    }
    if kind == "f":
        said["s"] = found.st_size
        with open(path, "rb") as file:
            said["h"] = hashlib.file_digest(file, "sha256").hexdigest()
    elif kind == "l":
        said["l"] = text(os.readlink(path))
    elif kind in "cb":
        said["dev"] = f"{os.major(found.st_rdev)},{os.minor(found.st_rdev)}"
    names = [
        name
        for name in os.listxattr(path, follow_symlinks=False)
        if not name.startswith(HIDDEN)
    ]
    if names:
        said["x"] = {
            name: text(os.getxattr(path, name, follow_symlinks=False)) for name in names
        }
    return said


def listing(top: bytes) -> dict[str, dict[str, Any]]:
    """Describe all files below a directory."""
    found: dict[str, dict[str, Any]] = {}
    linked: dict[tuple[int, int], list[str]] = {}
    for place, directories, files in os.walk(top):
        for name in (*directories, *files):
            path = os.path.join(place, name)
            relative = text(os.path.relpath(path, top))
            found[relative] = entry(path)
            status = os.lstat(path)
            if not stat.S_ISDIR(status.st_mode) and status.st_nlink > 1:
                linked.setdefault((status.st_dev, status.st_ino), []).append(relative)
    for names in linked.values():
        for relative in names:
            others = sorted(name for name in names if name != relative)
            if others:
                found[relative]["hl"] = others
    return found


def main() -> None:
    """Mount each stack, list it, unmount it."""
    answers = []
    with tempfile.TemporaryDirectory(prefix="listing-", dir="/dev/shm") as place:
        empty, top = Path(place, "empty"), Path(place, "top")
        empty.mkdir()
        top.mkdir()
        for stack in json.load(sys.stdin):
            lowers = ":".join([*stack, str(empty)])
            options = f"lowerdir={lowers},userxattr"
            subprocess.run(
                ["mount", "-t", "overlay", "overlay", "-o", options, str(top)],
                check=True,
            )
            answers.append(listing(os.fsencode(top)))
            subprocess.run(["umount", str(top)], check=True)
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
