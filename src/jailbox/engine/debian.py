"""
Debian root file systems, made here of packages, without a registry.

Nothing of the host changes. ``mmdebstrap`` runs in a jail of the host's programs, with
the host's network. It has root's rights over the ids of its jail and nothing else:
what it unpacks is in the jail's own layer, what it mounts is in the jail's own tree,
and all of that is gone with it. What it makes leaves the jail as a stream that goes
into the store as any other archive does. A stream counts only if the program that
wrote it ended well.
"""

import glob
import os
import shutil
import threading
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from jailbox.engine.base import Io
from jailbox.errors import BootstrapError, Unsupported
from jailbox.flow import Flow, drive
from jailbox.linux.facts import HostFacts
from jailbox.spec.command import Input
from jailbox.spec.container import ContainerSpec
from jailbox.spec.debian import (
    DebianWish,
    debian_architecture,
    mirrors_of,
    source_lines,
)
from jailbox.spec.image import Host, ImageConfig
from jailbox.spec.mount import Bind, Mount
from jailbox.spec.platform import Platform
from jailbox.spec.reference import Reference
from jailbox.spec.result import Result
from jailbox.spec.security import Security
from jailbox.store.rootfs import import_rootfs
from jailbox.store.store import Store

__all__ = ["Run", "debian_image", "debian_name"]

Run: TypeAlias = Callable[
    [ContainerSpec, Io, Input | None, float | None], Flow[Result[Any]]
]
"""How a container is run to its end."""

_KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"
_KEYS_MAX: Final = 16 << 20
_SOURCES: Final = (
    "/etc/apt/sources.list",
    "/etc/apt/sources.list.d/*.list",
    "/etc/apt/sources.list.d/*.sources",
)
_SOURCES_MAX: Final = 1 << 20

_PASSED: Final = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")

# Nothing is younger than this in an image, so that equal packages make equal images.
# The beginning of 1980 wherever one is on earth: archives of ZIP know nothing earlier.
_EPOCH: Final = 315_619_200

# Where the keys of somebody's own archive are seen by the program that makes it.
_KEYS_THERE: Final = "/run/archive-keys.gpg"

# A mount namespace of its own, in which it may mount: /proc and /dev of what it makes.
_SCRIPT: Final = (
    "mkdir -p /etc/apt/apt.conf.d /etc/apt/preferences.d /etc/apt/trusted.gpg.d &&"
    ' exec unshare --mount mmdebstrap "$@" >&3'
)

# Besides what every jail has: mounting, over nothing but its own tree.
_SECURITY: Final = Security().adding("SYS_ADMIN")

_CONFIG: Final = ImageConfig(
    env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
    cmd=("bash",),
)

_CHUNK: Final = 1 << 20


class _AbandonedError(Exception):
    """Whoever wrote the stream did not end well."""


class _Stream:
    """
    What comes out of a jail, of which the end counts only when somebody says so.

    Args:
        fd: Where it comes from; owned.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._decided = threading.Event()
        self._good = False

    def read(self, size: int, /) -> bytes:
        """Return some of it; nothing at its good end."""
        data = os.read(self._fd, min(size, _CHUNK))
        if not data:
            self._decided.wait()
            if not self._good:
                raise _AbandonedError
        return data

    def decide(self, *, good: bool) -> None:
        """Say how it ended. The first word counts."""
        if not self._decided.is_set():
            self._good = good
            self._decided.set()

    def close(self) -> None:
        """Let the writer notice that nobody reads."""
        os.close(self._fd)


class _Import:
    """A stream on its way into the store, in a thread."""

    def __init__(self, store: Store, stream: _Stream, platform: Platform) -> None:
        self._store = store
        self._stream = stream
        self._platform = platform
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def begin(self, names: tuple[Reference, ...], comment: str) -> None:
        self._names, self._comment = names, comment
        self._thread.start()

    def _run(self) -> None:
        try:
            import_rootfs(
                self._store,
                self._stream,
                platform=self._platform,
                config=_CONFIG,
                names=self._names,
                comment=self._comment,
                move=True,
            )
        except _AbandonedError:
            pass
        except BaseException as error:  # noqa: BLE001  # it is raised where it is awaited
            self.error = error
        finally:
            self._stream.close()

    def join(self) -> None:
        self._thread.join()


def debian_name(wish: DebianWish, platform: Platform) -> Reference:
    """
    Name the image that a wish becomes on this machine.

    Raises:
        Unsupported: If there are no keys to check packages with.
    """
    lines = source_lines(wish, mirrors_of(_texts()))
    return wish.name(debian_architecture(platform), lines, _keys(wish))


def debian_image(
    wish: DebianWish,
    platform: Platform,
    store: Store,
    *,
    run: Run,
    facts: HostFacts,
    timeout: float | None = None,
) -> Reference:
    """
    Make an image of packages, and give it the name that equal wishes find it by.

    Raises:
        Unsupported: If a program or keys are missing here, or there is one id only.

        BootstrapError: If the program that makes it failed: no network, no such
            suite, no such package. Nothing is left of it.

        DeadlineExceeded: After *timeout*.
    """
    _check(facts)
    name = debian_name(wish, platform)
    reading, writing = os.pipe2(os.O_CLOEXEC)
    stream = _Stream(reading)
    importing = _Import(store, stream, platform)
    try:
        importing.begin((name,), f"Debian {wish.suite}, of packages")
        try:
            spec = _spec(wish, platform)
            result = drive(run(spec, Io(pass_fds=(writing,)), None, timeout))
            stream.decide(good=result.ok)
        finally:
            # Also if the start was refused, or somebody pressed Ctrl-C.
            stream.decide(good=False)
            os.close(writing)
    finally:
        importing.join()
    if importing.error is not None:
        raise importing.error
    if not result.ok:
        raise BootstrapError(f"Debian {wish.suite}", result, hint=_hint(result))
    return name


def _check(facts: HostFacts) -> None:
    if shutil.which("mmdebstrap", path="/usr/bin:/bin") is None:
        raise Unsupported(
            "mmdebstrap",
            hint="Install it: apt-get install mmdebstrap. Or load an image instead.",
        )
    if facts.id_mode == "single":
        raise Unsupported(
            "subordinate ids for this user",
            path="/etc/subuid",
            hint=(
                "The files of a Debian system belong to several users: give yourself a"
                " range of ids (usermod --add-subuids 100000-165535"
                " --add-subgids 100000-165535 NAME)."
            ),
        )


def _spec(wish: DebianWish, platform: Platform) -> ContainerSpec:
    keyring = _KEYRING
    mounts: list[Bind] = []
    arguments = [
        "--mode=root",
        "--format=tar",
        "--skip=output/dev",
        f"--variant={wish.variant}",
        f"--architectures={debian_architecture(platform)}",
        # Copies of this machine's, which have nothing to do in an image.
        '--customize-hook=rm -f "$1/etc/resolv.conf" "$1/etc/hostname"',
    ]
    if wish.keyring is not None:
        keyring = _KEYS_THERE
        mounts.append(Mount.bind(os.path.abspath(wish.keyring), keyring))
        # Programs in the image have to trust its archive as well.
        arguments.append(
            '--setup-hook=mkdir -p "$1/etc/apt/trusted.gpg.d" && '
            f'cp {keyring} "$1/etc/apt/trusted.gpg.d/archive-keys.gpg" && '
            'chmod 0644 "$1/etc/apt/trusted.gpg.d/archive-keys.gpg"'
        )
    arguments.append(f"--keyring={keyring}")
    if wish.packages:
        arguments.append(f"--include={','.join(wish.packages)}")
    lines = source_lines(wish, mirrors_of(_texts()))
    return ContainerSpec(
        image=Host(),
        command=("sh", "-c", _SCRIPT, "sh", *arguments, wish.suite, "-", *lines),
        env=_environment(),
        mounts=mounts,
        network="host",
        security=_SECURITY,
        pass_fds=1,
    )


def _environment() -> dict[str, str]:
    """Say how the network is reached, and nothing else of ours."""
    env = {"LC_ALL": "C", "SOURCE_DATE_EPOCH": str(_EPOCH)}
    for name in _PASSED:
        for spelled in (name, name.upper()):
            if value := os.environ.get(spelled):
                env[spelled] = value
    return env


def _texts() -> list[str]:
    texts = []
    for pattern in _SOURCES:
        for path in sorted(glob.glob(pattern)):
            try:
                with open(path, encoding="utf-8", errors="replace") as file:
                    texts.append(file.read(_SOURCES_MAX))
            except OSError:
                continue  # Not ours to read: as if it were not there.
    return texts


def _keys(wish: DebianWish) -> bytes:
    path = wish.keyring or _KEYRING
    try:
        with open(path, "rb") as file:
            return file.read(_KEYS_MAX)
    except OSError as error:
        raise Unsupported(
            "keys of the archive",
            path=path,
            errno=error.errno,
            hint="Install debian-archive-keyring, or give keyring= a file of keys.",
        ) from error


_HINTS: Final = (
    ("Unable to locate package", "There is no such package in that suite."),
    ("has no installation candidate", "There is no such package in that suite."),
    ("does not have a Release file", "There is no such suite at that mirror."),
    ("404  Not Found", "There is no such suite at that mirror."),
    ("Temporary failure resolving", "The mirror's name is not found: no network?"),
    ("Could not resolve", "The mirror's name is not found: no network?"),
    ("Could not connect", "The mirror cannot be reached."),
    ("Unable to connect", "The mirror cannot be reached."),
    ("NO_PUBKEY", "The archive is signed by keys that are not in keyring=."),
    ("No space left", "The root file system is made in memory: it took too much."),
    ("is not supported by", "Programs of that architecture cannot run here."),
)


def _hint(result: Result[Any]) -> str | None:
    written = f"{result.stdout}\n{result.stderr}"
    for words, hint in _HINTS:
        if words in written:
            return hint
    return None
