"""
The image ``busybox`` of the runtime cases, and images with a few files on top of it.

As the collection's README describes them. A directory is a root file system: layers
are applied here, whiteouts included.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from jailbox import Image
from jailbox.spec.image import ImageConfig
from jailbox.spec.strict import Node

__all__ = ["BUSYBOX", "lay", "make_base", "make_image"]

BUSYBOX = Path("/bin/busybox")

_PASSWD = """\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
sys:x:3:3:sys:/dev:/bin/false
mail:x:8:8:mail:/var/spool/mail:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
operator:x:37:37:Operator:/var:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
"""
_GROUP = """\
root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
adm:x:4:
tty:x:5:
disk:x:6:
mail:x:8:
wheel:x:10:root
audio:x:29:
www-data:x:33:
operator:x:37:
users:x:100:
nogroup:x:65534:
"""
_CONFIG: dict[str, Any] = {
    "Cmd": ["sh"],
    "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
}


def make_base(root: Path) -> None:
    """Make the directory of the image ``busybox``."""
    for name in ("bin", "dev", "etc", "home", "proc", "root", "sys", "usr", "var"):
        (root / name).mkdir(parents=True)
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    shutil.copy(BUSYBOX, root / "bin/busybox")
    listed = subprocess.run(
        [BUSYBOX, "--list"], capture_output=True, text=True, check=True
    )
    for applet in set(listed.stdout.split()) - {"busybox"}:
        (root / "bin" / applet).symlink_to("/bin/busybox")
    (root / "etc/passwd").write_text(_PASSWD)
    (root / "etc/group").write_text(_GROUP)


def make_image(base: Path, root: Path, image: dict[str, Any] | None) -> Image:
    """
    Make an image: the base with a layer on top, and its configuration.

    Args:
        base: The directory of ``busybox``, which is not touched.

        root: Where a directory of its own may be made.

        image: ``config`` and ``files`` of the case; ``None`` for the base itself.
    """
    wanted = image or {}
    config = _CONFIG | (wanted.get("config") or {})
    if "Env" in (wanted.get("config") or {}):
        config["Env"] = [*_CONFIG["Env"], *wanted["config"]["Env"]]
    files = wanted.get("files")
    if files:
        shutil.copytree(base, root, symlinks=True, copy_function=_link)
        _apply(root, files)
    return Image.from_dir(
        root if files else base, ImageConfig.from_node(Node("config", "", config))
    )


def _link(source: str, target: str) -> None:
    """Programs are shared by the images; what a layer writes is written anew."""
    if os.path.islink(source):
        os.symlink(os.readlink(source), target)
    else:
        os.link(source, target)


def _apply(root: Path, files: dict[str, dict[str, Any]]) -> None:
    """Put a layer over a directory."""
    plain: dict[str, dict[str, Any]] = {}
    for path, entry in files.items():
        place = root / path.lstrip("/")
        if place.name == ".wh..wh..opq":
            shutil.rmtree(place.parent, ignore_errors=True)
            place.parent.mkdir(parents=True)
        elif place.name.startswith(".wh."):
            gone = place.with_name(place.name.removeprefix(".wh."))
            if gone.is_dir() and not gone.is_symlink():
                shutil.rmtree(gone)
            else:
                gone.unlink(missing_ok=True)
        else:
            plain[path.lstrip("/")] = entry
    lay(root, plain)


def lay(root: Path, files: dict[str, dict[str, Any]]) -> None:
    """Make files below a directory, as the cases describe them."""
    links = {p: e for p, e in files.items() if e.get("type") == "hardlink"}
    for path, entry in files.items():
        if path not in links:
            _make(root / path, entry)
    for path, entry in links.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).hardlink_to(root / entry["target"].lstrip("/"))
    # Last, for whatever is made in a directory changes its time.
    for path, entry in files.items():
        if "mtime" in entry:
            moment = entry["mtime"]
            os.utime(root / path, (moment, moment), follow_symlinks=False)


def _make(place: Path, entry: dict[str, Any]) -> None:
    kind = entry.get("type", "file")
    place.parent.mkdir(parents=True, exist_ok=True)
    mode = int(entry.get("mode", "755" if kind == "dir" else "644"), 8)
    if kind == "dir":
        place.mkdir(exist_ok=True)
    elif kind == "symlink":
        place.symlink_to(entry["target"])
    elif kind == "fifo":
        os.mkfifo(place)
    else:
        # A name may stand for a file of the base, which is not to be changed.
        place.unlink(missing_ok=True)
        if entry.get("busybox"):
            shutil.copy(BUSYBOX, place)
        else:
            content = entry.get("content", "") * entry.get("times", 1)
            place.write_text(content)
    if os.geteuid() == 0:
        uid, gid = entry.get("uid", 0), entry.get("gid", 0)
        os.chown(place, uid, gid, follow_symlinks=False)
    if kind != "symlink":
        place.chmod(mode)
