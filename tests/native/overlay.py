"""
A program that changes the files of an overlay and tells what it sees.

Run in a mount namespace of its own: ``overlay.py LOWER UPPER WORK MERGED OPTIONS OPS``,
where OPS is a JSON list of operations, or a number: the seed of a random one. Prints
what was there before and after, as JSON. A script, because mounting is for a process
that ends.
"""

import contextlib
import ctypes
import json
import os
import random
import shutil
import stat
import sys
from collections.abc import Callable
from typing import Any


def mount(lower: str, upper: str, work: str, merged: str, options: str) -> None:
    """Mount the overlay, for this namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    data = f"lowerdir={lower},upperdir={upper},workdir={work}"
    if options:
        data += f",{options}"
    if libc.mount(b"overlay", merged.encode(), b"overlay", 0, data.encode()):
        raise OSError(ctypes.get_errno(), "mount")


def snapshot(top: str) -> dict[str, list[Any]]:
    """Describe everything below *top*: type, mode, owner, time, content."""
    found: dict[str, list[Any]] = {}
    for directory, directories, files in os.walk(top):
        for name in directories + files:
            path = os.path.join(directory, name)
            status = os.lstat(path)
            content = ""
            if stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    content = file.read().hex()
            # The time of a directory follows from what happened in it.
            time = 0 if stat.S_ISDIR(status.st_mode) else status.st_mtime_ns
            found[os.path.relpath(path, top)] = [
                stat.S_IFMT(status.st_mode),
                stat.S_IMODE(status.st_mode),
                status.st_uid,
                status.st_gid,
                time,
                content,
            ]
    return found


# ---- operations ------------------------------------------------------------


def write(path: str, text: str = "new") -> None:
    """Write a file, in place."""
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def append(path: str, text: str = "x") -> None:
    """Write at the end of a file."""
    with open(path, "a", encoding="ascii") as file:
        file.write(text)


def open_only(path: str) -> None:
    """Open a file for writing, and do not write: that copies it up."""
    with open(path, "r+b"):
        pass


def rewrite(path: str) -> None:
    """Write what is there already, and give the file its old time."""
    status = os.stat(path)
    with open(path, "r+b") as file:
        content = file.read()
        file.seek(0)
        file.write(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def forge(path: str, text: str) -> None:
    """Write other bytes of the same length, and give the file its old time."""
    status = os.stat(path)
    with open(path, "r+", encoding="ascii") as file:
        file.write(text)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def there_and_back(path: str) -> None:
    """Rename something and rename it back."""
    os.rename(path, path + ".away")
    os.rename(path + ".away", path)


def recreate(path: str) -> None:
    """Remove a directory with everything in it, and make it again, empty."""
    status = os.stat(path)
    shutil.rmtree(path)
    os.mkdir(path)
    os.chmod(path, stat.S_IMODE(status.st_mode))
    os.chown(path, status.st_uid, status.st_gid)


def remove(path: str) -> None:
    """Remove whatever it is."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def replace(path: str, make: Callable[[str], object]) -> None:
    """Put something else in its place."""
    remove(path)
    make(path)


def symlink(path: str, target: str = "somewhere") -> None:
    """Make a symbolic link."""
    os.symlink(target, path)


def link(path: str, other: str) -> None:
    """Make a hard link called *other*."""
    os.link(path, os.path.join(os.path.dirname(path), other))


def rename(path: str, other: str) -> None:
    """Rename to another name of the same directory."""
    os.rename(path, os.path.join(os.path.dirname(path), other))


def setxattr(path: str, name: str, value: str) -> None:
    """Set an extended attribute."""
    os.setxattr(path, name, bytes.fromhex(value))


OPERATIONS: dict[str, Callable[..., Any]] = {
    "append": append,
    "chmod": os.chmod,
    "chown": os.chown,
    "forge": forge,
    "link": link,
    "mkdir": os.mkdir,
    "mkfifo": os.mkfifo,
    "open": open_only,
    "recreate": recreate,
    "remove": remove,
    "rename": rename,
    "rewrite": rewrite,
    "setxattr": setxattr,
    "symlink": symlink,
    "there_and_back": there_and_back,
    "utime": lambda path, time: os.utime(path, (time, time)),
    "write": write,
}


def random_step(top: str, dice: random.Random) -> None:
    """Do something somewhere."""
    paths = [
        os.path.join(directory, name)
        for directory, directories, files in os.walk(top)
        for name in directories + files
    ]
    directories = [top, *(each for each in paths if os.path.isdir(each))]
    names = ["a", "b", "c", "f", "g", "x", "deep", "er", "new"]
    new = os.path.join(dice.choice(directories), dice.choice(names))
    old = dice.choice(paths) if paths else new
    steps: list[Callable[[], object]] = [
        lambda: write(new),
        lambda: os.mkdir(new),
        lambda: symlink(new),
        lambda: append(old),
        lambda: open_only(old),
        lambda: rewrite(old),
        lambda: there_and_back(old),
        lambda: os.chmod(old, dice.choice([0o644, 0o755, 0o700])),
        lambda: os.chown(old, dice.choice([0, 1]), 0, follow_symlinks=False),
        lambda: os.utime(old, (5, 5)),
        lambda: remove(old),
        lambda: os.rename(old, new),
        lambda: os.link(old, new, follow_symlinks=False),
        lambda: recreate(old),
        lambda: replace(old, write),
        lambda: replace(old, os.mkdir),
    ]
    # EXDEV, ENOTEMPTY, EISDIR and so on: another step may be possible.
    with contextlib.suppress(OSError, ValueError, UnicodeDecodeError):
        dice.choice(steps)()


def main() -> None:
    """Mount, change, tell."""
    lower, upper, work, merged, options, ops = sys.argv[1:]
    mount(lower, upper, work, merged, options)
    before = snapshot(merged)
    what = json.loads(ops)
    if isinstance(what, int):
        dice = random.Random(what)  # noqa: S311  # repeatable is the point
        for _ in range(30):
            random_step(merged, dice)
    else:
        for name, path, *arguments in what:
            OPERATIONS[name](os.path.join(merged, path), *arguments)
    json.dump({"before": before, "after": snapshot(merged)}, sys.stdout)


if __name__ == "__main__":
    main()
