"""
A disk that a virtual machine can live on: parts of the machine that runs the tests.

Everything stands where it stands here, so that paths that were written down while
installing (the virtual environment's, the interpreter's) hold there too: some Debian
packages, the interpreter, the packages that jailbox and its tests need, the project.
What needs a compiler is compiled here.
"""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement

PROJECT = Path(__file__).parent.parent.parent

PACKAGES = (
    "base-files", "busybox-static", "coreutils", "dash", "findutils", "grep",
    "libc-bin", "mount", "procps", "sed", "uidmap", "util-linux",
)  # fmt: skip
"""Debian packages whose programs are needed there."""

USERS = {"ranger": 1000, "plain": 1001}
"""Ordinary users, and their ids; the first has a range of subordinate ones."""

_WITHOUT = re.compile(r"/usr/share/(?!zoneinfo/UTC)|/usr/lib/python3/|/etc/")

_STDLIB_WITHOUT = shutil.ignore_patterns(
    "site-packages", "dist-packages", "test", "idlelib", "lib2to3", "tkinter",
    "turtledemo", "ensurepip", "config-*", "*.a",
)  # fmt: skip

COMPILER = """\
#!/bin/sh
# Compiles nothing: what tests want compiled was compiled elsewhere.
while [ "$1" != -o ]; do shift; done
exec cp "/opt/compiled/${2##*/}" "$2"
"""

INIT = """\
#!/bin/sh
# The first process: starts the agent, and buries what others leave behind.
exec </dev/null
busybox hostname jailbox-vm
{python} {agent} &
wait
"""


def make_disk(image: Path, stage: Path, compiled: Iterable[Path] = ()) -> None:
    """
    Make a disk.

    Args:
        image: The file to write.

        stage: An empty directory for what will be on it; left filled.

        compiled: Programs that the compiler there will give, by their names.
    """
    for name in ("dev", "home", "mnt", "proc", "root", "run", "sys", "tmp", "var/tmp"):
        (stage / name).mkdir(parents=True)
    for name in ("tmp", "var/tmp"):
        (stage / name).chmod(0o1777)
    for name in ("bin", "lib", "lib64", "sbin"):
        _copy_one(Path("/") / name, stage)
    for path in _files_of_packages():
        _copy_one(path, stage)
    _copy_python(stage)
    _copy_project(stage)
    (stage / "opt/compiled").mkdir(parents=True)
    for program in compiled:
        shutil.copy2(program, stage / "opt/compiled")
    for name in ("cc", "gcc"):
        script = stage / "usr/bin" / name
        script.write_text(COMPILER, encoding="ascii")
        script.chmod(0o755)
    for path in _libraries(stage):
        _copy_one(path, stage)
    _write_settings(stage)
    _pack(image, stage)


def _copy_one(path: Path, stage: Path) -> None:
    """Copy a file, or a link and what it leads to; directories stay empty."""
    target = stage / str(path).lstrip("/")
    if target.is_symlink() or target.exists() or not os.path.lexists(path):
        return
    # Where /bin is a link, it is one there too.
    real = path.parent.resolve() / path.name
    if real != path:
        _copy_one(real, stage)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        target.symlink_to(os.readlink(path))
        leads = path.parent / os.readlink(path)
        _copy_one(Path(os.path.normpath(leads)), stage)
    elif path.is_dir():
        target.mkdir()
    elif path.is_file():
        shutil.copy2(path, target)


def _files_of_packages() -> Iterable[Path]:
    listed = subprocess.run(
        ["dpkg-query", "--listfiles", *PACKAGES],
        capture_output=True,
        text=True,
        check=True,
    )
    for line in listed.stdout.splitlines():
        if line.startswith("/") and not _WITHOUT.match(line):
            yield Path(line)


def _copy_tree(path: Path, stage: Path, ignore: object = None) -> None:
    target = stage / str(path).lstrip("/")
    shutil.copytree(
        path,
        target,
        symlinks=True,
        dirs_exist_ok=True,
        ignore=ignore,  # type: ignore[arg-type]
    )


def _copy_python(stage: Path) -> None:
    """Copy the interpreter, its library, and the packages that are needed."""
    executable = Path(sys.executable)
    for each in (executable, executable.parent / "python", executable.resolve()):
        _copy_one(each, stage)
    config = Path(sys.prefix) / "pyvenv.cfg"
    if config.exists():
        _copy_one(config, stage)
    _copy_tree(Path(os.__file__).parent, stage, _STDLIB_WITHOUT)
    seen: set[str] = set()
    for distribution in _needed("jailbox", {"test"}, seen):
        for file in distribution.files or ():
            path = Path(str(distribution.locate_file(file)))
            if ".." not in file.parts:
                _copy_one(path, stage)
                _copy_one(_compiled(path), stage)


def _compiled(path: Path) -> Path:
    """Where the compiled form of a module is."""
    tag = sys.implementation.cache_tag
    return path.parent / "__pycache__" / f"{path.stem}.{tag}.pyc"


def _needed(
    name: str, extras: set[str], seen: set[str]
) -> Iterable[importlib.metadata.Distribution]:
    if name in seen:
        return
    seen.add(name)
    distribution = importlib.metadata.distribution(name)
    yield distribution
    for text in distribution.requires or ():
        requirement = Requirement(text)
        wanted = requirement.marker is None or any(
            requirement.marker.evaluate({"extra": extra}) for extra in (extras or {""})
        )
        if wanted:
            yield from _needed(requirement.name, set(requirement.extras), seen)


def _copy_project(stage: Path) -> None:
    target = stage / str(PROJECT).lstrip("/")
    for name in ("src", "tests"):
        shutil.copytree(PROJECT / name, target / name, dirs_exist_ok=True)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy2(PROJECT / name, target)
    # Ordinary users come here too.
    for path in (target, *target.parents):
        if path == stage:
            break
        path.chmod(0o755)
    for path in (Path(sys.base_prefix), *Path(sys.base_prefix).parents):
        place = stage / str(path).lstrip("/")
        if place.is_dir():
            place.chmod(0o755)


def _libraries(stage: Path) -> list[Path]:
    """Find the shared libraries that programs and modules on the disk need."""
    programs = [
        str(path)
        for path in stage.rglob("*")
        if path.is_file() and not path.is_symlink() and _is_dynamic(path)
    ]
    told = subprocess.run(
        ["ldd", *programs], capture_output=True, text=True, check=False
    )
    found = re.findall(r"(?:=> |^\t)(/\S+) \(0x", told.stdout, re.MULTILINE)
    return [Path(path) for path in sorted(set(found))]


def _is_dynamic(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF" and (
            path.stat().st_mode & 0o111 != 0 or ".so" in path.name
        )


def _write_settings(stage: Path) -> None:
    passwd = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"
    group = "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"
    for name, number in USERS.items():
        passwd += f"{name}:x:{number}:{number}::/home/{name}:/bin/sh\n"
        group += f"{name}:x:{number}:\n"
        home = stage / "home" / name
        home.mkdir(mode=0o755)
        os.chown(home, number, number)
    etc = stage / "etc"
    etc.mkdir(exist_ok=True)
    files = {
        "passwd": passwd,
        "group": group,
        "shadow": "root:*:19000:0:99999:7:::\n",
        "subuid": "ranger:100000:65536\n",
        "subgid": "ranger:100000:65536\n",
        "hosts": "127.0.0.1\tlocalhost jailbox-vm\n",
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
        "os-release": Path("/etc/os-release").read_text(encoding="utf-8"),
        "ld.so.conf": Path("/etc/ld.so.conf").read_text(encoding="utf-8"),
    }
    for name, text in files.items():
        (etc / name).write_text(text, encoding="utf-8")
    (etc / "shadow").chmod(0o640)
    shutil.copytree("/etc/ld.so.conf.d", etc / "ld.so.conf.d")
    subprocess.run(["ldconfig", "-r", stage], check=True)
    init = stage / "usr/sbin/init"
    agent = PROJECT / "tests/vm/agent.py"
    init.write_text(INIT.format(python=sys.executable, agent=agent), encoding="ascii")
    init.chmod(0o755)


def _pack(image: Path, stage: Path) -> None:
    """Make a file system of *stage*, with room to work."""
    command = ["mke2fs", "-q", "-t", "ext4", "-d", str(stage), "-m", "0"]
    command += ["-O", "^has_journal", "-E", "lazy_itable_init=1,nodiscard"]
    subprocess.run([*command, str(image), "1G"], check=True)


def empty_disk(image: Path, size: str = "256M") -> Path:
    """Make a disk with a file system that has a journal, and nothing on it."""
    subprocess.run(["mke2fs", "-q", "-t", "ext4", str(image), size], check=True)
    return image
