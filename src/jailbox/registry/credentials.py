"""
Who we are at which registry.

What the caller gave is taken as it is: then no file is read and no program run. Else
the files of Docker and Podman are asked. A secret is found for one registry, by its
exact host and port, and is never offered to another.

Source: docker-cli, *config.json* and *credential helpers*; containers-auth.json(5).
"""

import base64
import binascii
import json
import logging
import os
import re
import subprocess
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import attrs

from jailbox.errors import HostError, SpecError
from jailbox.registry.secret import Secret, as_secret

__all__ = [
    "Credentials",
    "Found",
    "IdentityToken",
    "Keychain",
    "Login",
    "RegistryToken",
    "credential_files",
]

log = logging.getLogger("jailbox.registry")

HELPER_TIMEOUT = 60.0
"""How long a credential helper may take, in seconds: it may ask a person."""

_FILE_MAX = 4 << 20
_ANSWER_MAX = 1 << 20
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

# The words with which Docker's helpers say that they have nothing.
_NOTHING_FOUND = "credentials not found in native keychain"
# What a helper answers instead of a name if its secret is an identity token.
_TOKEN_USER = "<token>"  # noqa: S105  (a name, not a secret)

DOCKER_HUB = "docker.io"
_HUB_NAMES = frozenset({DOCKER_HUB, "index.docker.io", "registry-1.docker.io"})
_HUB_KEY = "https://index.docker.io/v1/"


@attrs.frozen
class Login:
    """
    A user's name and password.

    >>> Login("me", "hunter2")
    Login(username='me', password=***)
    """

    username: str
    password: Secret = attrs.field(converter=as_secret)


@attrs.frozen
class IdentityToken:
    """A token that is exchanged for others (``docker login`` with a browser)."""

    token: Secret = attrs.field(converter=as_secret)


@attrs.frozen
class RegistryToken:
    """A token that is shown to the registry as it is."""

    token: Secret = attrs.field(converter=as_secret)


Credentials: TypeAlias = Login | IdentityToken | RegistryToken


@attrs.frozen
class Found:
    """
    What a look-up gave.

    Attributes:
        credentials: What to show; ``None``: we are nobody in particular.

        warnings: What went wrong on the way, and what was done instead.
    """

    credentials: Credentials | None = None
    warnings: tuple[str, ...] = ()


Runner: TypeAlias = Callable[[list[str], str], "subprocess.CompletedProcess[str]"]


def credential_files(environ: Mapping[str, str], home: str) -> tuple[str, ...]:
    """
    Return the files that may hold credentials, in the order in which they count.

    Podman's first, as Podman does: ``REGISTRY_AUTH_FILE`` alone if it is set, else the
    one of this login and the lasting one; then Docker's.
    """
    if named := environ.get("REGISTRY_AUTH_FILE"):
        return (named,)
    docker = environ.get("DOCKER_CONFIG") or os.path.join(home, ".docker")
    config = environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    runtime = environ.get("XDG_RUNTIME_DIR")
    return (
        *([os.path.join(runtime, "containers/auth.json")] if runtime else ()),
        os.path.join(config, "containers/auth.json"),
        os.path.join(docker, "config.json"),
    )


def run_helper(argv: list[str], asked: str) -> "subprocess.CompletedProcess[str]":
    """Run a credential helper: a question on stdin, an answer on stdout."""
    return subprocess.run(  # noqa: S603  (the user's own files name it)
        argv,
        input=asked,
        capture_output=True,
        text=True,
        timeout=HELPER_TIMEOUT,
        check=False,
    )


def _by_registry(given: Mapping[str, Credentials]) -> dict[str, Credentials]:
    found = {}
    for name, credentials in given.items():
        if not isinstance(credentials, Login | IdentityToken | RegistryToken):
            raise SpecError(
                f"logins[{name!r}]",
                "is no credentials",
                accepted="Login, IdentityToken or RegistryToken",
            )
        found[_canonical(name)] = credentials
    return found


def _canonical(registry: str) -> str:
    """One spelling for each registry. Ports are kept: another port is another one."""
    name = registry.lower()
    return DOCKER_HUB if name in _HUB_NAMES else name


@attrs.frozen
class Keychain:
    """
    Where credentials are looked up.

    Attributes:
        logins: What the caller gave, by registry (``host`` or ``host:port``). For a
            registry in here nothing else is asked.

        files: Files of Docker or Podman, the first one that knows the registry counts.

        run: Runs a credential helper.
    """

    logins: Mapping[str, Credentials] = attrs.field(
        factory=dict, converter=_by_registry
    )
    files: tuple[str, ...] = ()
    run: Runner = attrs.field(default=run_helper, repr=False, kw_only=True)

    @classmethod
    def of_user(cls, logins: Mapping[str, Credentials] | None = None) -> "Keychain":
        """
        Return the keychain of whoever runs this process.

        Args:
            logins: What counts more than any file, by registry.
        """
        home = os.path.expanduser("~")
        return cls(logins or {}, credential_files(os.environ, home))

    def find(self, registry: str, repository: str = "") -> Found:
        """
        Look up who we are at *registry*.

        A helper that is configured but not installed is a warning, and we go on as
        nobody in particular, for most images are public.

        Args:
            registry: Host, with the port if the reference has one.

            repository: Podman's files may name one, or the beginning of one.

        Raises:
            HostError: If a file cannot be understood, or a helper fails. Credentials
                of another registry are never the answer.
        """
        wanted = _canonical(registry)
        if wanted in self.logins:
            return Found(self.logins[wanted])
        warnings: tuple[str, ...] = ()
        for path in self.files:
            document = _read(path)
            if document is not None:
                found = self._find_in(path, document, wanted, repository)
                warnings += found.warnings
                if found.credentials is not None:
                    return Found(found.credentials, warnings)
        return Found(None, warnings)

    def _find_in(
        self, path: str, document: Mapping[str, Any], wanted: str, repository: str
    ) -> Found:
        helper = _helper_for(document, wanted)
        if helper is not None:
            return self._ask(path, helper, wanted)
        entries = document.get("auths")
        if isinstance(entries, dict):
            for key in _keys(entries, wanted, repository):
                if isinstance(entries[key], dict) and entries[key]:
                    return Found(_read_entry(path, key, entries[key]))
        if isinstance(store := document.get("credsStore"), str) and store:
            return self._ask(path, store, wanted)
        return Found()

    def _ask(self, path: str, helper: str, registry: str) -> Found:
        """Ask a helper for the credentials of one registry."""
        if not _HELPER.fullmatch(helper):
            raise HostError(f"no name of a credential helper: {helper!r}", path=path)
        program = f"docker-credential-{helper}"
        asked = _HUB_KEY if registry == DOCKER_HUB else registry
        try:
            answer = self.run([program, "get"], asked)
        except FileNotFoundError:
            warning = (
                f"the credential helper {program}, which {path} names for {registry}, "
                "is not installed: going on without credentials"
            )
            log.warning(warning, extra={"registry": registry})
            return Found(None, (warning,))
        except subprocess.TimeoutExpired:
            reason = f"did not answer within {HELPER_TIMEOUT:g} s"
        except OSError as error:
            reason = error.strerror or "could not be run"
        else:
            return _helper_answer(answer, program, path, registry)
        raise _helper_error(program, path, registry, reason)


def _read(path: str) -> dict[str, Any] | None:
    """Read a file of credentials; ``None`` if there is none."""
    try:
        with open(path, "rb") as file:
            data = file.read(_FILE_MAX + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise HostError(
            "cannot read credentials", path=path, errno=error.errno
        ) from None
    if len(data) > _FILE_MAX:
        raise HostError("credentials of unreasonable size", path=path)
    if not data.strip():
        return None
    # Outside of the clause: the error of JSON holds the whole text.
    document = _json(data)
    if not isinstance(document, dict):
        raise HostError("credentials that are no JSON object", path=path)
    return document


def _json(data: bytes | str) -> object:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _helper_for(document: Mapping[str, Any], wanted: str) -> str | None:
    helpers = document.get("credHelpers")
    if isinstance(helpers, dict):
        for key, helper in helpers.items():
            if _host_of(key) == wanted and isinstance(helper, str) and helper:
                return helper
    return None


def _keys(entries: Mapping[str, Any], wanted: str, repository: str) -> Iterable[str]:
    """
    Yield the keys that are about one registry, the most exact first.

    Podman's may go into the registry: ``host/group/name``, ``host/group``, ``host``.
    Docker's may be URLs: ``https://host/v1/``.
    """
    parts = repository.split("/") if repository else []
    for count in range(len(parts), 0, -1):
        exact = "/".join([wanted, *parts[:count]])
        yield from (key for key in entries if key == exact)
    for key in entries:
        if "://" not in key and _canonical(key) == wanted:
            yield key
    for key in entries:
        if "://" in key and _host_of(key) == wanted:
            yield key


def _host_of(key: str) -> str:
    """Return the registry of a key: scheme and path dropped, as Docker does."""
    rest = key.partition("://")[2] or key
    return _canonical(rest.partition("/")[0])


def _read_entry(path: str, key: str, entry: Mapping[str, Any]) -> Credentials | None:
    """Read what stands in a file under one key."""

    def text(name: str) -> bool:
        return isinstance(entry.get(name), str) and bool(entry[name])

    if text("identitytoken"):
        return IdentityToken(entry["identitytoken"])
    if text("registrytoken"):
        return RegistryToken(entry["registrytoken"])
    if text("username") and text("password"):
        return Login(entry["username"], entry["password"])
    if text("auth"):
        login = _decoded(Secret(entry["auth"]))
        if login is None:
            # No word of what stands there: it may be a password in the wrong place.
            raise HostError(
                f"credentials of {key} that cannot be decoded",
                path=path,
                hint="Log in again with the tool that wrote the file.",
            )
        return login
    return None


def _decoded(auth: Secret) -> Login | None:
    try:
        decoded = Secret(base64.b64decode(auth.reveal(), validate=True).decode())
    except (binascii.Error, ValueError):
        return None
    username, colon, _ = decoded.reveal().partition(":")
    if not colon or not username:
        return None
    # Docker pads passwords with NUL.
    return Login(username, decoded.reveal().partition(":")[2].rstrip("\0"))


def _helper_answer(
    answer: "subprocess.CompletedProcess[str]", program: str, path: str, registry: str
) -> Found:
    if answer.returncode != 0:
        said = (answer.stdout or "").strip()
        if said == _NOTHING_FOUND:
            return Found()
        # What it printed may be anything, a secret too: it is not repeated.
        reason = f"failed with exit code {answer.returncode}"
        raise _helper_error(program, path, registry, reason)
    document = _json(answer.stdout) if len(answer.stdout) <= _ANSWER_MAX else None
    if isinstance(document, dict):
        username, secret = document.get("Username"), document.get("Secret")
        if isinstance(username, str) and isinstance(secret, str):
            if not secret:
                return Found()
            if username == _TOKEN_USER:
                return Found(IdentityToken(secret))
            return Found(Login(username, secret))
    raise _helper_error(program, path, registry, "gave an answer that is none")


def _helper_error(program: str, path: str, registry: str, reason: str) -> HostError:
    return HostError(
        f"the credential helper {program} {reason}, asked for {registry}",
        path=path,
        hint=(
            f"Try `echo {registry} | {program} get`, or take the helper out of the "
            "file. Nothing was sent to the registry."
        ),
    )
