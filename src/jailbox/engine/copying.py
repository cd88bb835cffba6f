"""
Copy what an image has in a directory into a volume; runs in a jail, on its own.

Its source is given to a Python in a jail of the host's programs, as ``-c``: there, and
with the ids of the jail, it may read files of any owner and make such. It knows nothing
of jailbox. Layers come as they lie in a store: directories, with marks of overlayfs.

Arguments: the directory of the volume, the path in the image, the layers from the
lowest on.
"""

import contextlib
import os
import shutil
import stat
import sys

_OPAQUE = "user.overlay.opaque"


def main(target: str, path: str, *layers: str) -> None:
    """Copy, over whatever an earlier attempt left."""
    clear(target)
    for layer in layers:
        place, hidden = found(layer, path)
        if hidden:
            clear(target)
        if place is not None:
            merge(place, target, {})


def found(layer: str, path: str) -> tuple[str | None, bool]:
    """Find the directory in a layer, and tell whether it hides what is below."""
    place, hidden = layer, False
    for name in filter(None, path.split("/")):
        place = os.path.join(place, name)
        try:
            mode = os.lstat(place).st_mode
        except FileNotFoundError:
            return None, hidden
        if not stat.S_ISDIR(mode):
            return None, True
        hidden = hidden or opaque(place)
    return place, hidden


def opaque(directory: str) -> bool:
    """Tell whether nothing of the layers below is seen in it."""
    try:
        return os.getxattr(directory, _OPAQUE, follow_symlinks=False) == b"y"
    except OSError:
        return False


def clear(directory: str) -> None:
    """Remove everything in a directory."""
    for entry in os.listdir(directory):
        remove(os.path.join(directory, entry))


def remove(path: str) -> None:
    """Remove a file or a tree, if it is there."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def merge(source: str, target: str, links: dict[tuple[int, int], str]) -> None:
    """Lay one directory over another."""
    for name in sorted(os.listdir(source)):
        old, new = os.path.join(source, name), os.path.join(target, name)
        status = os.lstat(old)
        mode = status.st_mode
        if stat.S_ISCHR(mode) and status.st_rdev == 0:
            remove(new)
        elif stat.S_ISDIR(mode):
            if not os.path.isdir(new) or os.path.islink(new):
                remove(new)
                os.mkdir(new, 0o700)
            elif opaque(old):
                clear(new)
            merge(old, new, links)
        else:
            remove(new)
            first = links.setdefault((status.st_dev, status.st_ino), new)
            if first != new:
                os.link(first, new, follow_symlinks=False)
            elif make(old, new, mode):
                dress(old, new, status)
    dress(source, target, os.lstat(source))


def make(old: str, new: str, mode: int) -> bool:
    """Make what is no directory; devices and sockets are left out."""
    if stat.S_ISREG(mode):
        shutil.copyfile(old, new, follow_symlinks=False)
    elif stat.S_ISLNK(mode):
        os.symlink(os.readlink(old), new)
    elif stat.S_ISFIFO(mode):
        os.mkfifo(new)
    else:
        return False
    return True


def dress(old: str, new: str, status: os.stat_result) -> None:
    """Give it owner, mode, attributes and times."""
    # With a single id everything is its own already.
    with contextlib.suppress(OSError):
        os.lchown(new, status.st_uid, status.st_gid)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(new, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(old, follow_symlinks=False):
        if not name.startswith("user.overlay."):
            with contextlib.suppress(OSError):
                value = os.getxattr(old, name, follow_symlinks=False)
                os.setxattr(new, name, value, follow_symlinks=False)
    times = (status.st_atime_ns, status.st_mtime_ns)
    os.utime(new, ns=times, follow_symlinks=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
