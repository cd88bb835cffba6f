"""What a registry has: blobs, manifests, tags, and uploads that are under way."""

import hashlib
import json
import threading
import uuid
from typing import Any

import attrs

__all__ = ["Content", "Manifest"]


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    """Return the digest of bytes, as a text."""
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


@attrs.frozen
class Manifest:
    """A manifest or an index, as it was put."""

    media_type: str
    data: bytes = attrs.field(repr=False)


@attrs.define
class _Repository:
    blobs: dict[str, bytes] = attrs.field(factory=dict)
    manifests: dict[str, Manifest] = attrs.field(factory=dict)
    tags: dict[str, str] = attrs.field(factory=dict)
    uploads: dict[str, bytearray] = attrs.field(factory=dict)


class Content:
    """
    Everything that a registry has, in memory.

    Tests may look and change; what is done by name of a repository makes it.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._repositories: dict[str, _Repository] = {}

    def repositories(self) -> tuple[str, ...]:
        """Return the names of all repositories."""
        with self.lock:
            return tuple(self._repositories)

    def __contains__(self, name: str) -> bool:
        return name in self._repositories

    def at(self, name: str) -> _Repository:
        """Return a repository, made if need be."""
        with self.lock:
            return self._repositories.setdefault(name, _Repository())

    def add_blob(self, name: str, data: bytes) -> str:
        """Put a blob into a repository; return its digest."""
        digest = digest_of(data)
        self.at(name).blobs[digest] = data
        return digest

    def add_manifest(
        self, name: str, data: bytes, media_type: str, tag: str | None = None
    ) -> str:
        """Put a manifest into a repository, nothing checked; return its digest."""
        digest = digest_of(data)
        repository = self.at(name)
        repository.manifests[digest] = Manifest(media_type, data)
        if tag is not None:
            repository.tags[tag] = digest
        return digest

    def find(self, name: str, reference: str) -> tuple[str, Manifest] | None:
        """Return a manifest by tag or digest, with its digest."""
        repository = self.at(name)
        digest = repository.tags.get(reference, reference)
        found = repository.manifests.get(digest)
        return None if found is None else (digest, found)

    def part(self, name: str, digest: str) -> str | None:
        """Return what a blob is in the manifests of a repository, if anything."""
        for each in list(self.at(name).manifests.values()):
            document = json.loads(each.data)
            if document.get("config", {}).get("digest") == digest:
                return "config"
            if any(layer["digest"] == digest for layer in document.get("layers", ())):
                return "layer"
        return None

    def missing(self, name: str, data: bytes) -> list[str]:
        """Return what a manifest points to that is not there."""
        document = json.loads(data)
        repository = self.at(name)
        blobs = [document.get("config"), *document.get("layers", ())]
        lost = [
            each["digest"]
            for each in blobs
            if each and each["digest"] not in repository.blobs and not each.get("urls")
        ]
        lost += [
            each["digest"]
            for each in document.get("manifests", ())
            if each["digest"] not in repository.manifests
        ]
        return lost

    def referrers(self, name: str, digest: str) -> list[dict[str, Any]]:
        """Return descriptors of the manifests that say something about one."""
        found = []
        for own, each in self.at(name).manifests.items():
            document = json.loads(each.data)
            if (document.get("subject") or {}).get("digest") == digest:
                found.append(
                    {
                        "mediaType": each.media_type,
                        "digest": own,
                        "size": len(each.data),
                        "artifactType": document.get("artifactType")
                        or document.get("config", {}).get("mediaType"),
                    }
                )
        return found

    def begin_upload(self, name: str) -> str:
        """Begin an upload; return its name."""
        session = uuid.uuid4().hex
        self.at(name).uploads[session] = bytearray()
        return session
