"""
The machine's own root file system as an image: programs and libraries, nothing else.

An allowlist, because a list of what to hide is never complete. What is shown: ``/usr``
and the directories beside it that hold programs, the caller's interpreter and virtual
environment, and of ``/etc`` what programs need to start. Home directories, keys,
``/etc/shadow``, sockets, other users' files are not hidden: they are not there.

The root is assembled of parts because the kernel refuses an overlay of ``/`` in a
user namespace (it has locked mounts below).
"""

import hashlib
import os
import stat
import sys

from jailbox.linux.plan import Dir, File, Fs, Link, Op, Prepared
from jailbox.run.names import Etc
from jailbox.run.rootfs import Rootfs, Shown
from jailbox.spec.image import DEFAULT_PATH, ImageConfig

__all__ = ["GROUP", "HOSTNAME", "PASSWD", "host_rootfs"]

HOSTNAME = "jailbox"
"""The host name of a jail that nobody named, so that its plan is like the others'."""

PASSWD = (
    "root:x:0:0:root:/root:/bin/sh\n"  # noqa: S105  # the file of that name
    "daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
    "bin:x:2:2:bin:/bin:/usr/sbin/nologin\n"
    "sys:x:3:3:sys:/dev:/usr/sbin/nologin\n"
    "mail:x:8:8:mail:/var/mail:/usr/sbin/nologin\n"
    "www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
)
"""The users of the jail; the host's are none of its business."""

GROUP = (
    "root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\nadm:x:4:\ntty:x:5:\ndisk:x:6:\n"
    "mail:x:8:\nwww-data:x:33:\nusers:x:100:\nnogroup:x:65534:\n"
)

_PROGRAMS = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")

# What programs read to start. Directories are copied whole; nothing here is secret.
_ETC = (
    "alternatives", "bash.bashrc", "ca-certificates.conf", "debian_version",
    "fonts", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "magic",
    "mime.types", "networks", "nsswitch.conf", "os-release", "profile", "protocols",
    "rpc", "services", "shells", "ssl", "terminfo", "timezone",
)  # fmt: skip

_OTHERS_ENTER = 0o005

_FILE_MAX = 2 << 20
_ETC_MAX = 8 << 20
"""Bytes of configuration that are copied at most; a host's is a tenth of that."""

_EMPTY_DIRECTORIES = (
    ("dev", 0o755), ("etc", 0o755), ("home", 0o755), ("media", 0o755), ("mnt", 0o755),
    ("opt", 0o755), ("proc", 0o555), ("root", 0o711), ("run", 0o755), ("srv", 0o755),
    ("sys", 0o555), ("tmp", 0o1777), ("usr", 0o755), ("var", 0o755),
    ("var/cache", 0o755), ("var/lib", 0o755), ("var/log", 0o755), ("var/tmp", 0o1777),
)  # fmt: skip


def host_rootfs(*, network: bool = False) -> Rootfs:
    """
    Assemble the host's own programs into a root file system.

    Args:
        network: The jail shares the host's network: name resolution is as on the host.
    """
    ops: list[Op] = [Fs(0, "tmpfs", ("mode=0755",), attr=0)]
    ops += [Dir(0, path, mode) for path, mode in _EMPTY_DIRECTORIES]
    overlays = [Shown("/usr", "/usr")]
    for name in _PROGRAMS:
        path = f"/{name}"
        if os.path.islink(path):
            ops.append(Link(0, name, os.readlink(path)))
        elif os.path.isdir(path):
            ops.append(Dir(0, name))
            overlays.append(Shown(path, path))
    ops += _configuration()
    shown = [Shown(path, path) for path in _interpreter()]
    # In the shared layer, so that no jail has to make them, nor is told it did.
    ops += [
        Dir(0, path, exist_ok=True)
        for place in shown
        for path in _with_parents(place.target.strip("/"))
    ]
    if network and os.path.isfile("/etc/resolv.conf"):
        shown.append(Shown(os.path.realpath("/etc/resolv.conf"), "/etc/resolv.conf"))
        ops.append(File(0, "etc/resolv.conf", b""))
    key = hashlib.sha256(repr(ops).encode()).hexdigest()[:16]
    return Rootfs(
        prepared=Prepared(key=f"host-{key}", ops=tuple(ops)),
        overlays=tuple(overlays),
        shown=tuple(shown),
        settled=True,
        config=ImageConfig(env={"PATH": _search_path()}),
        passwd=PASSWD,
        group=GROUP,
        etc=Etc(),
        hostname=HOSTNAME,
    )


def _interpreter() -> list[str]:
    """Where this Python and its packages are, as far as that is not in ``/usr``."""
    prefixes = (sys.base_prefix, sys.base_exec_prefix, sys.prefix, sys.exec_prefix)
    found: list[str] = []
    for prefix in sorted({os.path.abspath(p) for p in prefixes}, key=len):
        covered = any(prefix == p or prefix.startswith(f"{p}/") for p in found)
        inside = prefix in {"/", "/usr"} or prefix.startswith("/usr/")
        if not covered and not inside and os.path.isdir(prefix):
            found.append(prefix)
    return found


def _with_parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:n]) for n in range(1, len(parts) + 1)]


def _search_path() -> str:
    """The caller's interpreter first: ``python3`` in the jail is the one that asks."""
    directories = [
        os.path.join(sys.prefix, "bin"),
        os.path.join(sys.base_prefix, "bin"),
    ]
    own = [d for d in dict.fromkeys(directories) if d != "/usr/bin"]
    return ":".join([*own, DEFAULT_PATH])


def _configuration() -> list[Op]:
    hosts = f"127.0.0.1\tlocalhost\n::1\tlocalhost\n127.0.1.1\t{HOSTNAME}\n"
    ops: list[Op] = [
        File(0, "etc/passwd", PASSWD.encode()),
        File(0, "etc/group", GROUP.encode()),
        File(0, "etc/hosts", hosts.encode()),
        File(0, "etc/hostname", f"{HOSTNAME}\n".encode()),
        Link(0, "etc/mtab", "../proc/self/mounts"),
    ]
    budget = [_ETC_MAX]
    for name in _ETC:
        _copy(f"/etc/{name}", f"etc/{name}", ops, budget)
    return ops


def _copy(source: str, target: str, ops: list[Op], budget: list[int]) -> None:
    """Add what makes *target* look like *source*; what cannot be read is left out."""
    try:
        found = os.lstat(source)
        mode = stat.S_IMODE(found.st_mode) & 0o755
        if stat.S_ISLNK(found.st_mode):
            link = os.readlink(source)
            # A link to somewhere that the jail has not got would dangle.
            if not link.startswith("/etc/") and _leads_out(source, link):
                _copy(os.path.realpath(source), target, ops, budget)
            else:
                ops.append(Link(0, target, link))
        elif (
            stat.S_ISDIR(found.st_mode)
            and found.st_mode & _OTHERS_ENTER == _OTHERS_ENTER
        ):
            ops.append(Dir(0, target, mode))
            for entry in sorted(os.listdir(source)):
                _copy(f"{source}/{entry}", f"{target}/{entry}", ops, budget)
        elif (
            stat.S_ISREG(found.st_mode)
            and found.st_mode & 0o004
            and found.st_size <= min(_FILE_MAX, budget[0])
        ):
            with open(source, "rb") as file:
                content = file.read(_FILE_MAX)
            budget[0] -= len(content)
            ops.append(File(0, target, content, mode))
    except OSError:
        # Not there, not ours to read, or gone meanwhile: the jail does without.
        return


def _leads_out(source: str, link: str) -> bool:
    """Whether a link of ``/etc`` points where only the host has something."""
    there = os.path.normpath(os.path.join(os.path.dirname(source), link))
    return not there.startswith(
        ("/usr/", "/etc/", "/proc/", *(f"/{p}/" for p in _PROGRAMS))
    )
