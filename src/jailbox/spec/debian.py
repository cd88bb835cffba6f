"""
What is wanted of a Debian root file system that is made here, and where it comes from.

Pure: a wish, the text of the host's sources, the lines that apt is to read, and a key
that is the same for equal wishes.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

import attrs

from jailbox.errors import SpecError
from jailbox.spec.checks import choice, instance, several
from jailbox.spec.platform import Platform
from jailbox.spec.reference import Reference

__all__ = [
    "DebianWish",
    "Mirrors",
    "Variant",
    "debian_architecture",
    "mirrors_of",
    "source_lines",
]

Variant: TypeAlias = Literal[
    "essential", "apt", "minbase", "buildd", "important", "standard"
]
"""How much of Debian: from what cannot be missing to what a machine usually has."""

_VARIANTS: tuple[Variant, ...] = (
    "essential",
    "apt",
    "minbase",
    "buildd",
    "important",
    "standard",
)

_ARCHITECTURES = {
    ("386", None): "i386",
    ("arm", "v5"): "armel",
    ("arm", "v6"): "armel",
    ("arm", "v7"): "armhf",
    ("arm", "v8"): "armhf",
    ("ppc64le", None): "ppc64el",
}

# Debian policy, 5.6.1; a "-" at the end is apt's way to say "not this one".
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+(:[a-z0-9-]+)?(=[A-Za-z0-9.+~:-]+)?")
_SUITE = re.compile(r"[a-z][a-z0-9.-]{0,63}")
_COMPONENT = re.compile(r"[a-z][a-z0-9-]{0,63}")
# Nothing that apt would read as the end of a word, or of a line.
_MIRROR = re.compile(r"(https?|file|ftp)://?[!-Z^-~]+")

_ROLLING = ("sid", "unstable", "experimental", "rc-buggy")

_LINE = re.compile(r"^deb\s+(?:\[[^\]]*\]\s+)?(?P<uri>\S+)\s", re.MULTILINE)
_FIELD = re.compile(
    r"^(?P<name>[A-Za-z-]+):[ \t]*(?P<value>.*(?:\n[ \t].*)*)", re.MULTILINE
)


def _suite(value: str) -> str:
    return _word(value, _SUITE, "suite", "a name as 'bookworm'")


def _word(value: str, pattern: re.Pattern[str], argument: str, accepted: str) -> str:
    if not pattern.fullmatch(instance(value, str, argument, accepted)):
        raise SpecError(argument, "is malformed", value=value, accepted=accepted)
    return value


def _packages(value: Iterable[str]) -> tuple[str, ...]:
    accepted = "names of packages: ['git', 'python3']"
    found = several(value, "packages", accepted)
    return tuple(
        sorted({_word(name, _PACKAGE, "packages", accepted) for name in found})
    )


def _components(value: Iterable[str]) -> tuple[str, ...]:
    accepted = "names of components: ['main', 'contrib']"
    found = several(value, "components", accepted)
    words = [_word(name, _COMPONENT, "components", accepted) for name in found]
    if not words:
        raise SpecError("components", "is empty", accepted=accepted)
    return tuple(dict.fromkeys(words))


def _mirror(value: str | None) -> str | None:
    accepted = "an address as 'http://deb.debian.org/debian'"
    return None if value is None else _word(value, _MIRROR, "mirror", accepted)


def _variant(value: Variant) -> Variant:
    return choice(value, "variant", _VARIANTS)


@attrs.frozen
class Mirrors:
    """
    Where packages are fetched.

    Attributes:
        archive: The address of Debian's archive.

        security: The address of the archive of its security updates, or ``None``.
    """

    archive: str = "http://deb.debian.org/debian"
    security: str | None = "http://deb.debian.org/debian-security"


@attrs.frozen(kw_only=True)
class DebianWish:
    """
    A Debian root file system that is wanted.

    Attributes:
        suite: ``bookworm``, ``trixie``, ``sid``, ``stable``, ...

        packages: What is in it beside the variant, sorted.

        variant: How much of Debian it is.

        components: Parts of the archive.

        mirror: The one address to fetch from; ``None`` for where the host does.

        keyring: Path of a file of keys that the archive is signed by; ``None`` for
            Debian's own.
    """

    suite: str = attrs.field(converter=_suite)
    packages: tuple[str, ...] = attrs.field(default=(), converter=_packages)
    variant: Variant = attrs.field(default="minbase", converter=_variant)
    components: tuple[str, ...] = attrs.field(default=("main",), converter=_components)
    mirror: str | None = attrs.field(default=None, converter=_mirror)
    keyring: str | None = None

    def name(self, architecture: str, sources: Iterable[str], keys: bytes) -> Reference:
        """
        Name the image that it becomes: equal wishes have equal names.

        Args:
            architecture: As Debian calls it.

            sources: The lines that apt reads.

            keys: What is in the keyring.
        """
        asked = json.dumps(
            {
                "architecture": architecture,
                "keys": hashlib.sha256(keys).hexdigest(),
                "packages": self.packages,
                "sources": list(sources),
                "suite": self.suite,
                "variant": self.variant,
            },
            sort_keys=True,
        )
        key = hashlib.sha256(asked.encode()).hexdigest()[:16]
        return Reference.parse(
            f"localhost/debian/{self.suite}:{self.variant}-{architecture}-{key}"
        )


def debian_architecture(platform: Platform) -> str:
    """
    Return what Debian calls an architecture.

    >>> debian_architecture(Platform.parse("linux/arm/v7"))
    'armhf'
    """
    found = platform.normalized()
    return _ARCHITECTURES.get(
        (found.architecture, found.variant),
        _ARCHITECTURES.get((found.architecture, None), found.architecture),
    )


def mirrors_of(texts: Iterable[str]) -> Mirrors:
    """
    Find out where a Debian machine fetches its packages.

    Args:
        texts: Its lists of sources, of either format.
    """
    archive = security = None
    for uri in (uri for text in texts for uri in _uris(text)):
        last = urlsplit(uri).path.rstrip("/").rpartition("/")[2]
        if last == "debian":
            archive = archive or uri
        elif last == "debian-security":
            security = security or uri
    usual = Mirrors()
    return Mirrors(archive or usual.archive, security or usual.security)


def _uris(text: str) -> Iterator[str]:
    bare = "\n".join(line for line in text.split("\n") if not line.startswith("#"))
    for found in _LINE.finditer(bare):
        yield found["uri"]
    for stanza in re.split(r"\n[ \t]*\n", bare):
        fields = {
            found["name"].lower(): found["value"].split()
            for found in _FIELD.finditer(stanza)
        }
        enabled = fields.get("enabled", ["yes"])[:1] != ["no"]
        if enabled and "deb" in fields.get("types", ()):
            yield from fields.get("uris", ())


def source_lines(wish: DebianWish, mirrors: Mirrors) -> tuple[str, ...]:
    """
    Decide what the image's ``sources.list`` says: from there it is made, and updated.

    Args:
        wish: What is wanted.

        mirrors: Where the host fetches from.
    """
    components = " ".join(wish.components)
    if wish.mirror is not None:
        return (f"deb {wish.mirror} {wish.suite} {components}",)
    lines = [f"deb {mirrors.archive} {wish.suite} {components}"]
    if wish.suite not in _ROLLING:
        lines.append(f"deb {mirrors.archive} {wish.suite}-updates {components}")
        if mirrors.security is not None:
            lines.append(f"deb {mirrors.security} {wish.suite}-security {components}")
    return tuple(lines)
