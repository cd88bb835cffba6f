"""
Addresses of content: what bytes are called, and what they are checked against.

A `Digest` is of an algorithm that jailbox computes, and safe as a part of a path: its
texts are matched whole, so there is no slash, no dot and no second spelling in it. A
document may also name content by an algorithm that is not known here. That is a
`ForeignDigest`: kept and written back, but never used to find or to check anything.

Source: OCI image-spec, *descriptor.md*, "Digests".
"""

import re
from typing import Protocol, Self, TypeAlias

import attrs

from jailbox.errors import SpecError, SpecTypeError

__all__ = ["ALGORITHMS", "AnyDigest", "Digest", "ForeignDigest", "Hasher", "digest_of"]

ALGORITHMS: dict[str, int] = {"sha256": 64, "sha512": 128}
"""The algorithms that are computed here, and how many hexadecimal digits each has."""

_ACCEPTED = "'sha256:' and 64, or 'sha512:' and 128 hexadecimal digits in lower case"

# Before anything is matched or shown: a digest comes from documents of strangers.
_FOREIGN_MAX = 512
_HEX = re.compile(r"[0-9a-f]+")
_FOREIGN = re.compile(r"([a-z0-9]+(?:[+._-][a-z0-9]+)*):([a-zA-Z0-9=_-]+)")


class Hasher(Protocol):
    """What ``hashlib`` gives: bytes go in, at the end a digest comes out."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Take in more bytes."""

    def hexdigest(self) -> str:
        """Return the digits of all bytes so far."""


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise SpecTypeError("digest", "is no text", value=value, accepted=_ACCEPTED)
    return value


def _known(algorithm: object) -> str:
    algorithm = _text(algorithm)
    if algorithm not in ALGORITHMS:
        raise SpecError(
            "digest", "has an unknown algorithm", value=algorithm, accepted=_ACCEPTED
        )
    return algorithm


@attrs.frozen(order=True)
class Digest:
    """
    The address of content, ``algorithm:hex``.

    >>> Digest.of(b"").hex[:12]
    'e3b0c44298fc'

    Attributes:
        algorithm: ``sha256`` or ``sha512``.

        hex: The hash, in lower-case hexadecimal digits.
    """

    algorithm: str = attrs.field(converter=_known)
    hex: str = attrs.field(converter=_text)

    def __attrs_post_init__(self) -> None:
        if len(self.hex) != ALGORITHMS[self.algorithm] or not _HEX.fullmatch(self.hex):
            raise SpecError(
                "digest",
                "has not the digits of its algorithm",
                value=f"{self.algorithm}:{self.hex}",
                accepted=_ACCEPTED,
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """
        Read a digest: ``sha256:`` and 64 lower-case hexadecimal digits.

        Raises:
            SpecError: If it is anything else: upper case, short, long, with an unknown
                algorithm or another separator.
        """
        algorithm, colon, digits = _text(text).partition(":")
        if not colon:
            raise SpecError("digest", "has no ':'", value=text, accepted=_ACCEPTED)
        if algorithm not in ALGORITHMS:
            raise SpecError(
                "digest", "has an unknown algorithm", value=text, accepted=_ACCEPTED
            )
        return cls(algorithm, digits)

    @classmethod
    def of(
        cls, data: bytes | bytearray | memoryview, algorithm: str = "sha256"
    ) -> Self:
        """Compute the digest of bytes."""
        # Loaded when there is something to hash: it brings OpenSSL with it.
        import hashlib

        return cls(algorithm, hashlib.new(_known(algorithm), data).hexdigest())

    def hasher(self) -> Hasher:
        """Begin to compute a digest of the same algorithm, to compare it with."""
        import hashlib

        return hashlib.new(self.algorithm)

    @property
    def short(self) -> str:
        """The first twelve digits: for people, never for finding anything."""
        return self.hex[:12]

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


@attrs.frozen
class ForeignDigest:
    """
    A well-formed address by an algorithm that is not computed here.

    Attributes:
        algorithm: Its name.

        encoded: The rest, in whatever encoding the algorithm has.
    """

    algorithm: str
    encoded: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.encoded}"


AnyDigest: TypeAlias = Digest | ForeignDigest


def digest_of(text: str) -> AnyDigest:
    """
    Read an address from a document: of a known algorithm, or well-formed at least.

    Raises:
        SpecError: If it is neither.
    """
    text = _text(text)
    if text.partition(":")[0] in ALGORITHMS:
        return Digest.parse(text)
    found = _FOREIGN.fullmatch(text) if len(text) <= _FOREIGN_MAX else None
    if found is None:
        raise SpecError("digest", "is malformed", value=text, accepted=_ACCEPTED)
    return ForeignDigest(found[1], found[2])
