"""
Which machine an image is for, and which of several images suits a machine best.

Architectures have older and newer variants, and a machine runs what was made for an
older one: an ARM v7 board runs v6, a current x86 runs what was made for the first. The
order of preference is containerd's, so that the same index gives the same image here.

Nothing here looks at this machine: what it is, and whether its userland is of 32 bits,
is found out by `jailbox.linux`.

Source: OCI image-spec, *image-index.md*, "Platform Variants"; containerd/platforms,
*database.go*, *compare.go*.
"""

import re
from collections.abc import Iterable
from typing import Protocol, TypeVar

import attrs

from jailbox.errors import SpecError, SpecTypeError

__all__ = ["Platform", "Platformed", "choose", "rank"]

_ACCEPTED = "'os/architecture' or 'os/architecture/variant': 'linux/arm/v7'"
_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")

_SYSTEMS = {"macos": "darwin"}

# What people and other tools call them: architecture, and variant if the word says it.
_ALIASES: dict[str, tuple[str, str | None]] = {
    "x86_64": ("amd64", None),
    "x86-64": ("amd64", None),
    "i386": ("386", None),
    "i486": ("386", None),
    "i586": ("386", None),
    "i686": ("386", None),
    "aarch64": ("arm64", None),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv5l": ("arm", "v5"),
    "armv6l": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
    "armv8l": ("arm", "v8"),
    "ppc64el": ("ppc64le", None),
}

# The variant that is meant where none is written.
_USUAL = {"amd64": "v1", "arm": "v7", "arm64": "v8"}

# Newest first; a machine of one runs all that follow.
_VARIANTS = {"amd64": ("v4", "v3", "v2", "v1"), "arm": ("v8", "v7", "v6", "v5")}

# What a 64-bit machine may run beside its own, with the variant to begin at.
_SMALLER = {"amd64": ("386", None), "arm64": ("arm", "v8")}

_ARM64 = re.compile(r"v([89])(?:\.([0-9]))?")
# ARM v9.0 is v8.5 and more; from there both lines grow alike.
_V9_IS_V8 = 5


def _word(value: object) -> str:
    if not isinstance(value, str):
        raise SpecTypeError("platform", "is no text", value=value, accepted=_ACCEPTED)
    return value


@attrs.frozen(order=True)
class Platform:
    """
    A kind of machine: operating system, architecture, and variant of it.

    Made from a document it holds the words of the document; `normalized` gives the
    usual ones.

    >>> Platform.parse("linux/arm/v7")
    Platform('linux/arm/v7')
    >>> str(Platform.parse("aarch64"))
    'linux/arm64'

    Attributes:
        os: ``linux``.

        architecture: As Go calls it: ``amd64``, ``arm64``, ``arm``, ``386``, ...

        variant: ``v7`` and the like, or ``None``.

        os_version: Version of the operating system; not used on Linux.

        os_features: What of the operating system is needed.
    """

    os: str = attrs.field(converter=_word)
    architecture: str = attrs.field(converter=_word)
    variant: str | None = attrs.field(default=None, order=str)
    os_version: str | None = attrs.field(default=None, order=str)
    os_features: tuple[str, ...] = ()

    @staticmethod
    def parse(text: "str | Platform") -> "Platform":
        """
        Read a platform: ``linux/amd64``, ``linux/arm/v6``, ``arm64``, ``x86_64``.

        An architecture alone means Linux. Other names of an architecture become the
        usual ones, and a variant that goes without saying is dropped.

        Raises:
            SpecError: If it is malformed, or names an operating system alone.
        """
        if isinstance(text, Platform):
            return text.normalized()
        if not isinstance(text, str):
            raise SpecTypeError(
                "platform", "is no text", value=text, accepted=_ACCEPTED
            )
        words = text.split("/")
        # os/architecture/variant
        most = 3
        if len(words) > most or not all(_WORD.fullmatch(word) for word in words):
            raise SpecError("platform", "is malformed", value=text, accepted=_ACCEPTED)
        if len(words) == 1:
            if words[0].lower() in {"linux", "darwin", "macos", "windows", "freebsd"}:
                raise SpecError(
                    "platform", "has no architecture", value=text, accepted=_ACCEPTED
                )
            words = ["linux", *words]
        variant = words[2] if len(words) == most else None
        return Platform(words[0], words[1], variant).normalized()

    def normalized(self) -> "Platform":
        """
        Return the same platform in the usual words.

        Lower case, one name for each architecture, and no variant where it is the usual
        one: v1 of amd64, v8 of arm64. For 32-bit ARM it is always written.
        """
        architecture = self.architecture.lower()
        variant = self.variant.lower() if self.variant else None
        architecture, said = _ALIASES.get(architecture, (architecture, None))
        # People write "7" for "v7", and "v8.0" is v8.
        if variant and variant[0].isdigit():
            variant = f"v{variant}"
        variant = variant or said
        if architecture == "arm64" and variant in {"v8.0", "v9.0"}:
            variant = variant.removesuffix(".0")
        if architecture == "arm":
            variant = variant or _USUAL["arm"]
        elif variant == _USUAL.get(architecture):
            variant = None
        system = self.os.lower()
        return attrs.evolve(
            self,
            os=_SYSTEMS.get(system, system),
            architecture=architecture,
            variant=variant,
        )

    def __str__(self) -> str:
        text = f"{self.os}/{self.architecture}"
        return f"{text}/{self.variant}" if self.variant else text

    def __repr__(self) -> str:
        # What str() leaves out is rare: then all is shown.
        if not self.os_version and not self.os_features:
            return f"Platform({str(self)!r})"
        return (
            f"Platform({str(self)!r}, os_version={self.os_version!r}, "
            f"os_features={self.os_features!r})"
        )


def _older(architecture: str, variant: str | None) -> Iterable[str]:
    """Yield the variants that a machine of *variant* runs too, newest first."""
    known = _VARIANTS.get(architecture, ())
    if variant in known:
        yield from known[known.index(variant) + 1 :]
    found = _ARM64.fullmatch(variant or "") if architecture == "arm64" else None
    if found is not None:
        minor = int(found[2] or 0)
        if found[1] == "9":
            yield from (_minor(9, older) for older in range(minor - 1, -1, -1))
            minor += _V9_IS_V8 + 1
        yield from (_minor(8, older) for older in range(minor - 1, -1, -1))


def _minor(major: int, minor: int) -> str:
    return f"v{major}.{minor}" if minor else f"v{major}"


def _runnable(
    architecture: str, variant: str | None, *, smaller: bool
) -> Iterable[tuple[str, str | None]]:
    """Yield what a machine runs, best first: architecture and variant."""
    yield architecture, variant
    for older in _older(architecture, variant):
        yield architecture, older
    if smaller and architecture in _SMALLER:
        yield from _runnable(*_SMALLER[architecture], smaller=False)


def rank(candidate: Platform, wish: Platform, *, smaller: bool = False) -> int | None:
    """
    Say how well an image suits a machine: 0 is best, ``None`` not at all.

    Args:
        candidate: What the image is for.

        wish: The machine, or what was asked for.

        smaller: Whether a 64-bit machine also takes its 32-bit relative: 386 on amd64,
            arm on arm64. Not every one can run it, so this is asked for.
    """
    candidate, wish = candidate.normalized(), wish.normalized()
    if candidate.os != wish.os:
        return None
    if wish.os_version is not None and candidate.os_version != wish.os_version:
        return None
    if not set(candidate.os_features) <= set(wish.os_features):
        return None
    for place, runnable in enumerate(_runnable(*_machine(wish), smaller=smaller)):
        if _machine(candidate) == runnable:
            return place
    return None


def _machine(platform: Platform) -> tuple[str, str | None]:
    """Architecture and variant of a normalized platform, the usual one written out."""
    usual = _USUAL.get(platform.architecture)
    return platform.architecture, platform.variant or usual


class Platformed(Protocol):
    """Something that may say which platform it is for: a descriptor."""

    @property
    def platform(self) -> Platform | None:
        """What machine it is for; ``None`` if it does not say."""


T = TypeVar("T", bound=Platformed)


def choose(
    candidates: Iterable[T], wish: Platform, *, smaller: bool = False
) -> T | None:
    """
    Return the one of several that suits a machine best, or ``None``.

    Among equals the first wins. One that does not say its platform is taken only if
    none that does will do: what it is stands in its configuration, to be looked at by
    the caller.
    """
    best: T | None = None
    best_rank = -1
    unsaid: T | None = None
    for candidate in candidates:
        if candidate.platform is None:
            unsaid = candidate if unsaid is None else unsaid
            continue
        found = rank(candidate.platform, wish, smaller=smaller)
        if found is not None and (best is None or found < best_rank):
            best, best_rank = candidate, found
    return unsaid if best is None else best
