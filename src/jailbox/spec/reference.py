"""
Names of images: what people write, and the one full name that it stands for.

``ruby:2.2.4`` is short for ``docker.io/library/ruby:2.2.4``; ``host:5000/a/b`` already
is a full name. The grammar and the rule which first part is a host are those of the
Distribution project, which every registry and every other tool shares; a name that one
of them refuses is refused here.

Source: github.com/distribution/reference, *reference.go* (grammar), *normalize.go*.
"""

import re
from typing import Self

import attrs

from jailbox.errors import InvalidReference, SpecError, shown
from jailbox.spec.digest import Digest

__all__ = [
    "DEFAULT_DOMAIN",
    "DEFAULT_TAG",
    "PATH_MAX",
    "Reference",
    "WrittenName",
    "as_written",
    "parse_any",
]

DEFAULT_DOMAIN = "docker.io"
"""The registry that is meant where none is written."""

DEFAULT_TAG = "latest"
"""The tag that is meant where none is written: see `Reference.tagged`."""

PATH_MAX = 255
"""How long a name may be, in characters, not counting domain, tag and digest."""

_TEXT_MAX = 2048
_LEGACY_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])"
_DOMAIN_TEXT = rf"{_HOST}(?::[0-9]+)?"
_COMPONENT_TEXT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_PATH_TEXT = rf"{_COMPONENT_TEXT}(?:/{_COMPONENT_TEXT})*"
_TAG_TEXT = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_PART = r"[A-Za-z][A-Za-z0-9]*"
_DIGEST_TEXT = rf"{_PART}(?:[-_+.]{_PART})*:[0-9a-fA-F]{{32,}}"

_DOMAIN = re.compile(_DOMAIN_TEXT)
_COMPONENT = re.compile(_COMPONENT_TEXT)
_PATH = re.compile(_PATH_TEXT)
_TAG = re.compile(_TAG_TEXT)
_WRITTEN = re.compile(
    rf"(?:(?P<domain>{_DOMAIN_TEXT})/)?(?P<path>{_PATH_TEXT})"
    rf"(?::(?P<tag>{_TAG_TEXT}))?(?:@(?P<digest>{_DIGEST_TEXT}))?"
)
_IDENTIFIER = re.compile(r"[0-9a-f]{64}")


def _name(domain: str, path: str) -> str:
    return f"{domain}/{path}" if domain else path


@attrs.frozen
class WrittenName:
    """
    The parts of a name as it was written, nothing added.

    In ``a/b`` the domain is ``a``, whatever is meant by it: that is decided by
    `Reference.parse`.

    Attributes:
        domain: What stands before the first slash, if it could be a host; or ``""``.

        path: The rest of the name.

        tag: The tag, or ``None``.

        digest: The digest, or ``None``.
    """

    domain: str
    path: str
    tag: str | None = None
    digest: Digest | None = None

    @property
    def name(self) -> str:
        """Domain and path."""
        return _name(self.domain, self.path)


def as_written(text: str) -> WrittenName:
    """
    Split a name into its parts.

    Raises:
        InvalidReference: If it does not follow the grammar; the message names the part.
    """
    _check_text(text)
    found = _WRITTEN.fullmatch(text)
    if found is None:
        raise _complaint(text, text)
    if len(found["path"]) > PATH_MAX:
        raise InvalidReference(text, f"is too long: more than {PATH_MAX} characters")
    digest = None if found["digest"] is None else _digest(text, found["digest"])
    return WrittenName(found["domain"] or "", found["path"], found["tag"], digest)


def _check_text(text: object) -> None:
    if not isinstance(text, str):
        raise InvalidReference(shown(text), "is no text")
    if not text:
        raise InvalidReference(text, "is empty")
    if len(text) > _TEXT_MAX:
        raise InvalidReference(text, "is too long")


def _domain_of(value: object) -> str:
    if not isinstance(value, str) or not _DOMAIN.fullmatch(value):
        raise InvalidReference(str(value), "is no registry: a host and maybe a port")
    return value


def _path_of(value: object) -> str:
    if not isinstance(value, str) or not _PATH.fullmatch(value):
        raise InvalidReference(str(value), "is no path of a repository")
    if len(value) > PATH_MAX:
        raise InvalidReference(value, f"is too long: more than {PATH_MAX} characters")
    return value


def _tag_of(value: object) -> str | None:
    if value is None or (isinstance(value, str) and _TAG.fullmatch(value)):
        return value
    raise InvalidReference(str(value), _TAG_PROBLEM)


@attrs.frozen(order=True)
class Reference:
    """
    The full name of an image: where it is from, and which of its versions.

    >>> Reference.parse("ruby:2.2.4")
    Reference('docker.io/library/ruby:2.2.4')
    >>> Reference.parse("ruby:2.2.4").familiar()
    'ruby:2.2.4'

    Attributes:
        domain: The registry: ``docker.io``, ``host:5000``.

        path: The repository in it: ``library/ruby``.

        tag: The tag, or ``None`` if none was written.

        digest: The digest, or ``None``. It wins over the tag.
    """

    domain: str = attrs.field(converter=_domain_of)
    path: str = attrs.field(converter=_path_of)
    tag: str | None = attrs.field(default=None, converter=_tag_of, order=str)
    digest: Digest | None = attrs.field(default=None, order=str)

    @classmethod
    def parse(cls, text: str) -> Self:
        """
        Read a name and make it full: ``docker.io`` and ``library/`` are added.

        The first part is a registry if it has a dot or a colon, an upper-case letter,
        or is ``localhost``. No tag is added: `tagged` does.

        Raises:
            InvalidReference: If it does not follow the grammar; the message names the
                part that does not.
        """
        _check_text(text)
        if _IDENTIFIER.fullmatch(text):
            raise InvalidReference(
                text, "is the hash of an image, not a name", hint=f"sha256:{text}"
            )
        domain, rest = _full(text)
        full = f"{domain}/{rest}"
        found = _WRITTEN.fullmatch(full)
        # The second: a domain that is none is then taken for a part of the path.
        if found is None or found["domain"] != domain:
            raise _complaint(text, full)
        if len(found["path"]) > PATH_MAX:
            raise InvalidReference(
                text, f"is too long: more than {PATH_MAX} characters"
            )
        digest = None if found["digest"] is None else _digest(text, found["digest"])
        return cls(domain, found["path"], found["tag"], digest)

    @property
    def name(self) -> str:
        """Domain and path, without tag and digest."""
        return _name(self.domain, self.path)

    def tagged(self) -> "Reference":
        """
        Say which version is meant: the digest if there is one, else the tag.

        Adds ``latest`` where neither was written, and drops a tag beside a digest.

        >>> str(Reference.parse("debian").tagged())
        'docker.io/library/debian:latest'
        """
        if self.digest is not None:
            return self if self.tag is None else attrs.evolve(self, tag=None)
        return self if self.tag is not None else attrs.evolve(self, tag=DEFAULT_TAG)

    def at(self, version: str | Digest | None) -> "Reference":
        """Return the same name with another version: a tag, a digest, or none."""
        if isinstance(version, Digest):
            return attrs.evolve(self, tag=None, digest=version)
        return attrs.evolve(self, tag=version, digest=None)

    def familiar(self) -> str:
        """Write it as people do: without ``docker.io`` and ``library/``."""
        if self.domain != DEFAULT_DOMAIN:
            return str(self)
        short = self.path.removeprefix(_OFFICIAL)
        return (self.path if "/" in short else short) + self._version()

    def _version(self) -> str:
        tag = "" if self.tag is None else f":{self.tag}"
        return tag if self.digest is None else f"{tag}@{self.digest}"

    def __str__(self) -> str:
        return self.name + self._version()

    def __repr__(self) -> str:
        return f"Reference({str(self)!r})"


def parse_any(text: str) -> Reference | Digest:
    """
    Read a name, or the digest of an image: ``sha256:...``, or its 64 digits alone.

    Raises:
        InvalidReference: If it is neither.
    """
    _check_text(text)
    if _IDENTIFIER.fullmatch(text):
        return Digest("sha256", text)
    if text.startswith("sha256:"):
        try:
            return Digest.parse(text)
        except SpecError:
            pass  # "sha256" may be the name of an image, and the rest its tag
    return Reference.parse(text)


def _full(text: str) -> tuple[str, str]:
    """Split a name into its domain and the rest, both as they are meant."""
    first, slash, rest = text.partition("/")
    if not slash:
        # "test.com:5000" is an image and its tag: a domain alone names nothing.
        return DEFAULT_DOMAIN, _OFFICIAL + text
    is_domain = (
        first == "localhost" or "." in first or ":" in first or first != first.lower()
    )
    if not is_domain:
        return DEFAULT_DOMAIN, text
    domain = DEFAULT_DOMAIN if first == _LEGACY_DOMAIN else first
    if domain == DEFAULT_DOMAIN and "/" not in rest:
        rest = _OFFICIAL + rest
    return domain, rest


def _digest(text: str, part: str) -> Digest:
    """
    Take the digest of a name.

    Only SHA-256, as in the tools that people share names with: a name that is pinned
    here must be one for them too.
    """
    if not part.startswith("sha256:"):
        raise InvalidReference(text, f"has a digest that is not sha256: {shown(part)}")
    try:
        return Digest.parse(part)
    except SpecError as error:
        raise InvalidReference(text, f"has a bad digest: {shown(part)}") from error


# --- what is wrong with it ----------------------------------------------------

_TAG_PROBLEM = (
    "is no tag: 1 to 128 letters, digits, '_', '.' and '-', not first '.' or '-'"
)


def _complaint(text: str, full: str) -> InvalidReference:
    """Find the part of a name that breaks the grammar, and say so."""
    for check in (_spaces, _bad_digest, _bad_tag, _bad_name):
        problem = check(text, full)
        if problem is not None:
            return InvalidReference(text, problem)
    return InvalidReference(text, "is no image name")


def _spaces(text: str, _: str) -> str | None:
    if text != text.strip():
        return "begins or ends with a space"
    if "://" in text:
        return "is an address; a name has no 'https://'"
    return None


def _bad_digest(_: str, full: str) -> str | None:
    _, at, digest = full.partition("@")
    if at and not re.fullmatch(_DIGEST_TEXT, digest):
        return f"has a bad digest: {shown(digest)}"
    return None


def _split_tag(full: str) -> tuple[str, str | None]:
    name = full.partition("@")[0]
    before, colon, tag = name.rpartition(":")
    # A colon in the first part belongs to a port.
    return (before, tag) if colon and "/" not in tag else (name, None)


def _bad_tag(_: str, full: str) -> str | None:
    tag = _split_tag(full)[1]
    if tag is not None and not _TAG.fullmatch(tag):
        return f"has a bad tag: {shown(tag)} {_TAG_PROBLEM}"
    return None


def _bad_name(text: str, full: str) -> str | None:
    name = _split_tag(full)[0]
    if not text.partition("@")[0].partition(":")[0].strip("/"):
        return "has no name"
    if name.endswith("/"):
        return "ends with a slash"
    domain, slash, path = name.partition("/")
    # Without normalization the first part need not be a domain.
    if slash and full != text and not _DOMAIN.fullmatch(domain):
        return f"has a bad registry: {shown(domain)}"
    for part in path.split("/") if slash else [name]:
        if _COMPONENT.fullmatch(part):
            continue
        if not part:
            return "has two slashes in a row"
        if part != part.lower() and _COMPONENT.fullmatch(part.lower()):
            return f"has an upper-case letter: {shown(part)}"
        return f"has a bad part: {shown(part)}"
    return f"has a bad registry: {shown(domain)}"
