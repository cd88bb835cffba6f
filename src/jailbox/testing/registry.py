"""
A registry in the test process: the distribution specification, in memory.

Source: opencontainers/distribution-spec v1.1, *spec.md*; distribution,
*docs/spec/auth/token.md*.
"""

import base64
import gzip
import json
import re
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Self
from urllib.parse import parse_qs, quote

import attrs

from jailbox.registry.client import Client
from jailbox.registry.credentials import Keychain, Login
from jailbox.registry.settings import Endpoint, Settings
from jailbox.testing.content import Content, digest_of
from jailbox.testing.habits import Habits
from jailbox.testing.web import Asked, Site, Told

__all__ = ["Registry"]

_NAME = r"(?P<name>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
_DIGEST = r"(?P<digest>[a-z0-9]+:[a-f0-9]{32,128})"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
_ALGORITHMS = ("sha256", "sha512")
_DIGESTED = re.compile(r"[a-z0-9]+:[a-f0-9]{32,}")


@attrs.define
class _Token:
    scopes: set[str]
    uses: int | None
    until: float
    useless: bool = False


class _Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, code: str, **headers: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.headers = {k.replace("_", "-"): v for k, v in headers.items()}


class Registry:
    """
    A registry on a loopback port. Close it, or use it as a context manager.

    Args:
        habits: How it behaves; may be changed at any time (`habits` attribute).

        users: Names and passwords, for `Habits.auth`.

        context: Speak TLS, with the certificate of this context.

    Attributes:
        content: What it has.

        requests: What it was asked, in order; those to `elsewhere` apart.

        elsewhere: What the second origin, where `Habits.redirect` leads, was asked.
    """

    def __init__(
        self,
        habits: Habits | None = None,
        *,
        users: Mapping[str, str] | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.habits = Habits() if habits is None else habits
        self.users = dict(users or {})
        self.content = Content()
        self.requests: list[Asked] = []
        self.elsewhere: list[Asked] = []
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._tokens: dict[str, _Token] = {}
        self._site = Site(self._answer, context)
        self._storage = Site(self._answer_elsewhere)
        self._routes: list[tuple[str, re.Pattern[str], Callable[..., Told]]] = [
            ("GET", re.compile(r"/v2/?"), self._base),
            ("GET", re.compile(rf"/v2/{_NAME}/tags/list"), self._tags),
            (
                "GET",
                re.compile(rf"/v2/{_NAME}/manifests/(?P<reference>[^/]+)"),
                self._manifest,
            ),
            (
                "PUT",
                re.compile(rf"/v2/{_NAME}/manifests/(?P<reference>[^/]+)"),
                self._put_manifest,
            ),
            (
                "DELETE",
                re.compile(rf"/v2/{_NAME}/manifests/(?P<reference>[^/]+)"),
                self._delete_manifest,
            ),
            ("GET", re.compile(rf"/v2/{_NAME}/referrers/{_DIGEST}"), self._referrers),
            ("POST", re.compile(rf"/v2/{_NAME}/blobs/uploads/?"), self._begin),
            (
                "*",
                re.compile(rf"/v2/{_NAME}/blobs/uploads/(?P<session>[0-9a-f]+)"),
                self._upload,
            ),
            ("GET", re.compile(rf"/v2/{_NAME}/blobs/{_DIGEST}"), self._blob),
            ("GET", re.compile(rf"/other/v2/{_NAME}/blobs/{_DIGEST}"), self._bytes),
            ("GET", re.compile(r"/loop/.*"), self._loop),
            ("GET", re.compile(r"/token"), self._token),
            ("POST", re.compile(r"/token"), self._token),
        ]

    # ---- for tests -------------------------------------------------------------

    @property
    def address(self) -> str:
        """Host and port: how references to images in it begin."""
        return self._site.address

    @property
    def url(self) -> str:
        """Where it is."""
        return self._site.url

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        """How it is reached, for `jailbox.registry.client.Client`."""
        return {self.address: Endpoint(plain_http=self._site.context is None)}

    def client(
        self, user: str | None = None, *, settings: Settings | None = None
    ) -> Client:
        """Make a client that may speak to this registry, as one of its users."""
        logins = {} if user is None else {self.address: Login(user, self.users[user])}
        return Client(
            endpoints=self.endpoints, keychain=Keychain(logins), settings=settings
        )

    def asked(self, method: str, path: str = "") -> int:
        """Count requests with this method whose path contains *path*."""
        return sum(
            each.method == method and path in each.path for each in self.requests
        )

    def close(self) -> None:
        """End it. Ending it twice is harmless."""
        self._site.close()
        self._storage.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- answers -----------------------------------------------------------------

    def _answer(self, asked: Asked) -> Told:
        with self._lock:
            self.requests.append(asked)
        try:
            told = self._route(asked)
        except _Refused as refused:
            told = self._error(asked, refused)
        habits = self.habits
        more = {"endless": 0.0, "drip": 0.5}.get(habits.headers or "")
        return attrs.evolve(told, lower=habits.lower_headers, more_headers=more)

    def _route(self, asked: Asked) -> Told:
        if asked.path != "/token":
            self._trouble()
        for method, pattern, answer in self._routes:
            found = pattern.fullmatch(asked.path)
            wanted = "GET" if asked.method == "HEAD" else asked.method
            if found is None or method not in {"*", wanted}:
                continue
            if asked.method == "HEAD" and self.habits.head_405:
                raise _Refused(405, "UNSUPPORTED")
            if asked.path.startswith("/v2"):
                self._check(asked, found.groupdict().get("name"))
            return answer(asked, **found.groupdict())
        raise _Refused(404, "NOT_FOUND")

    def _trouble(self) -> None:
        habits = self.habits
        if self._still("too_many", habits.too_many):
            headers = {"Retry_After": habits.retry_after} if habits.retry_after else {}
            raise _Refused(429, "TOOMANYREQUESTS", **headers)
        if self._still("unavailable", habits.unavailable):
            raise _Refused(503, "UNAVAILABLE")

    def _still(self, what: str, times: int) -> bool:
        """Count up to a number: return whether it was not reached before."""
        with self._lock:
            count = self._counts.get(what, 0)
            self._counts[what] = count + 1
        return count < times

    def _error(self, asked: Asked, refused: _Refused) -> Told:
        words = self.habits.says or refused.code.replace("_", " ").lower()
        authorization = asked.headers.get("authorization", "")
        if authorization.startswith("Basic "):
            authorization = base64.b64decode(authorization[6:]).decode()
        words = words.replace("{authorization}", authorization)
        document = {"errors": [{"code": refused.code, "message": words}]}
        return _json(document, refused.status, refused.headers)

    # ---- who may -------------------------------------------------------------------

    def _check(self, asked: Asked, name: str | None) -> None:
        habits = self.habits
        if habits.auth is None:
            return
        action = "pull" if asked.method in {"GET", "HEAD"} else "push"
        if asked.method == "DELETE" and "/manifests/" in asked.path:
            action = "delete"
        shown = asked.headers.get("authorization", "")
        if habits.auth == "basic":
            if (habits.public and action == "pull") or self._knows(shown):
                return
            raise self._challenge('Basic realm="registry"')
        scope = "" if name is None else f"repository:{name}:{action}"
        token = self._tokens.get(shown.removeprefix("Bearer "))
        if token is not None and self._good(token, scope):
            return
        raise self._challenge(self._bearer(scope, tried=token is not None))

    def _good(self, token: _Token, scope: str) -> bool:
        with self._lock:
            if token.until < time.monotonic() or token.useless:
                return False
            if scope and scope not in token.scopes:
                return False
            if token.uses is None:
                return True
            token.uses -= 1
            return token.uses >= 0

    def _knows(self, shown: str) -> bool:
        try:
            pair = base64.b64decode(shown.removeprefix("Basic ")).decode()
        except ValueError:
            return False
        user, _, password = pair.partition(":")
        return shown.startswith("Basic ") and self.users.get(user) == password

    def _bearer(self, scope: str, *, tried: bool) -> str:
        realm = self.habits.realm or f"{self.url}/token"
        text = f'Bearer realm="{realm}",service="testing"'
        if scope:
            text += f',scope="{scope}"'
        if self.habits.challenge_error and tried:
            text += ',error="insufficient_scope"'
        return text

    def _challenge(self, text: str) -> _Refused:
        if self.habits.two_challenges:
            text = f'Negotiate, {text}, Basic realm="registry"'
        return _Refused(401, "UNAUTHORIZED", WWW_Authenticate=text)

    def _token(self, asked: Asked) -> Told:
        habits = self.habits
        if habits.token_redirect:
            return Told(
                status=307, headers={"Location": f"{self._storage.url}{asked.path}"}
            )
        if asked.method == "POST":
            form = {k: v[-1] for k, v in parse_qs(asked.body.decode()).items()}
            user, password = form.get("username", ""), form.get("password", "")
            known = self.users.get(user) == password and bool(password)
            if form.get("grant_type") == "refresh_token":
                known = form.get("refresh_token") in self.users.values()
            scopes = form.get("scope", "").split()
        elif habits.token_post:
            raise _Refused(405, "UNSUPPORTED")
        else:
            shown = asked.headers.get("authorization")
            known = shown is not None and self._knows(shown)
            if shown is not None and not known:
                raise _Refused(401, "UNAUTHORIZED")
            scopes = list(asked.scopes)
        if not known and not habits.public:
            raise _Refused(401, "UNAUTHORIZED")
        return self._grant(scopes, known=known)

    def _grant(self, scopes: list[str], *, known: bool) -> Told:
        habits = self.habits
        granted = set()
        for scope in scopes:
            resource, _, actions = scope.rpartition(":")
            for action in actions.split(","):
                if known or action == "pull":
                    granted.add(f"{resource}:{action}")
        text = secrets.token_urlsafe(24)
        lifetime = habits.token_lifetime
        useless = habits.challenge_error and self._still("useless", 1)
        until = time.monotonic() + (3600 if lifetime is None else lifetime)
        self._tokens[text] = _Token(granted, habits.token_uses, until, useless)
        document: dict[str, Any] = {habits.token_key: text}
        if lifetime is not None:
            document["expires_in"] = lifetime
        return _json(document)

    # ---- reading -------------------------------------------------------------------

    def _base(self, _: Asked) -> Told:
        return _json({})

    def _loop(self, asked: Asked) -> Told:
        return Told(status=307, headers={"Location": f"{asked.path}x"})

    def _manifest(self, asked: Asked, name: str, reference: str) -> Told:
        habits = self.habits
        found = self.content.find(name, reference)
        if found is None:
            raise _Refused(404, "MANIFEST_UNKNOWN")
        digest, manifest = found
        accepted = asked.headers.get("accept", "")
        if habits.strict_accept and manifest.media_type not in accepted:
            raise _Refused(404, "MANIFEST_UNKNOWN")
        data = manifest.data
        if habits.wrong_manifest and _DIGESTED.fullmatch(reference):
            data = data.replace(b"{", b'{"annotations": {"not": "this one"}, ', 1)
        if habits.wrong_digest_header:
            digest = digest_of(b"something else")
        headers = {"Content-Type": manifest.media_type}
        if habits.content_type is not None:
            headers["Content-Type"] = habits.content_type
        if not headers["Content-Type"]:
            del headers["Content-Type"]
        if not habits.no_digest_header:
            headers["Docker-Content-Digest"] = digest
        if habits.gzip:
            data = gzip.compress(data)
            headers["Content-Encoding"] = "gzip"
        return self._sent(
            asked, Told(status=200, headers=headers, body=data), "manifest"
        )

    def _blob(self, asked: Asked, name: str, digest: str) -> Told:
        habits = self.habits
        if digest not in self.content.at(name).blobs:
            raise _Refused(404, "BLOB_UNKNOWN")
        if habits.redirect is not None:
            # What the query holds is a secret of the other place.
            place = f"{self._storage.url}/{name}/{digest}?signature=s3cr3t"
            return Told(status=habits.redirect, headers={"Location": place})
        if habits.redirect_relative:
            return Told(status=307, headers={"Location": f"/other{asked.path}"})
        if habits.redirect_loop:
            return Told(status=307, headers={"Location": f"/loop/{digest}"})
        if habits.redirect_to is not None:
            return Told(status=307, headers={"Location": habits.redirect_to})
        return self._bytes(asked, name, digest)

    def _answer_elsewhere(self, asked: Asked) -> Told:
        """Answer for the place where blobs are redirected to."""
        with self._lock:
            self.elsewhere.append(asked)
        if "authorization" in asked.headers or "cookie" in asked.headers:
            # As real storage does: it has credentials of its own, in the query.
            return _json({"errors": [{"code": "TWO_CREDENTIALS"}]}, 400)
        name, _, digest = asked.path[1:].rpartition("/")
        if digest not in self.content.at(name).blobs:
            return _json({"errors": [{"code": "BLOB_UNKNOWN"}]}, 404)
        return self._bytes(asked, name, digest)

    def _bytes(self, asked: Asked, name: str, digest: str) -> Told:
        habits = self.habits
        data = self.content.at(name).blobs[digest]
        headers = {"Content-Type": "application/octet-stream"}
        if not habits.no_digest_header:
            headers["Docker-Content-Digest"] = digest
        part = self.content.part(name, digest)
        told = Told(status=200, headers=headers, body=data)
        ranged = re.fullmatch(r"bytes=(\d+)-(\d*)", asked.headers.get("range", ""))
        if ranged and not habits.no_range:
            first, last = int(ranged[1]), len(data) - 1
            if ranged[2]:
                last = min(last, int(ranged[2]))
            if first > last:
                raise _Refused(416, "RANGE_INVALID")
            if habits.wrong_range:
                first = max(0, first - 7)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
            told = Told(status=206, headers=headers, body=data[first : last + 1])
        return self._sent(asked, told, part)

    def _sent(self, asked: Asked, told: Told, part: str | None) -> Told:
        """Apply what is wrong with one kind of content."""
        habits, data = self.habits, told.body
        if part is None:
            return told
        if habits.corrupt == part and data:
            data = data[:-1] + bytes([data[-1] ^ 1])
        if habits.short == part:
            data = data[: max(0, len(data) - 3)]
        if habits.long == part:
            data += b"and more"
        told = attrs.evolve(told, body=data, drip=habits.drip if part == "layer" else 0)
        if habits.chunked:
            told = attrs.evolve(told, framing="chunked")
        elif habits.no_length:
            told = attrs.evolve(told, framing="close")
        if asked.method != "GET":
            return told
        if habits.cut == part:
            return attrs.evolve(told, cut=max(0, len(data) - 3))
        if habits.endless == part:
            return attrs.evolve(told, endless=True, framing="chunked")
        if part == "layer" and self._still("drop", habits.drop):
            return attrs.evolve(told, cut=len(data) // 2)
        return told

    def _tags(self, asked: Asked, name: str) -> Told:
        habits = self.habits
        if name not in self.content:
            raise _Refused(404, "NAME_UNKNOWN")
        tags: list[str] | None = sorted(self.content.at(name).tags)
        last = asked.query.get("last", "")
        tags = [tag for tag in tags or () if tag > last]
        size = int(asked.query.get("n", habits.page or 0)) or len(tags)
        if habits.page is not None:
            size = min(size, habits.page)
        headers = {}
        if len(tags) > size:
            tags = tags[:size]
            path = f"/v2/{name}/tags/list?last={quote(tags[-1])}&n={size}"
            if habits.link_absolute:
                path = f"http://registry.internal{path}"
            headers["Link"] = f'<{path}>; rel="next"'
        if not tags and habits.null_tags:
            tags = None
        return _json({"name": name, "tags": tags}, 200, headers)

    def _referrers(self, _: Asked, name: str, digest: str) -> Told:
        return _json(
            {
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.index.v1+json",
                "manifests": self.content.referrers(name, digest),
            },
            200,
            {"Content-Type": "application/vnd.oci.image.index.v1+json"},
        )

    # ---- writing -------------------------------------------------------------------

    def _put_manifest(self, asked: Asked, name: str, reference: str) -> Told:
        data = asked.body
        try:
            missing = self.content.missing(name, data)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise _Refused(400, "MANIFEST_INVALID") from None
        if missing:
            raise _Refused(404, "MANIFEST_BLOB_UNKNOWN")
        tag: str | None = reference
        if _DIGESTED.fullmatch(reference):
            algorithm = reference.partition(":")[0]
            right = algorithm in _ALGORITHMS and digest_of(data, algorithm) == reference
            if not right:
                raise _Refused(400, "DIGEST_INVALID")
            tag = None
        elif not re.fullmatch(_TAG, reference):
            raise _Refused(400, "TAG_INVALID")
        kind = asked.headers.get("content-type", "")
        digest = self.content.add_manifest(name, data, kind, tag)
        headers = {
            "Location": f"/v2/{name}/manifests/{digest}",
            "Docker-Content-Digest": digest,
        }
        return Told(status=201, headers=headers)

    def _delete_manifest(self, _: Asked, name: str, reference: str) -> Told:
        repository = self.content.at(name)
        with self.content.lock:
            if reference in repository.tags:
                del repository.tags[reference]
                return Told(status=202)
            if repository.manifests.pop(reference, None) is None:
                raise _Refused(404, "MANIFEST_UNKNOWN")
            for tag, digest in list(repository.tags.items()):
                if digest == reference:
                    del repository.tags[tag]
        return Told(status=202)

    def _begin(self, asked: Asked, name: str) -> Told:
        habits, content = self.habits, self.content
        wanted, near = asked.query.get("mount"), asked.query.get("from")
        if wanted and near and not habits.no_mount:
            data = content.at(near).blobs.get(wanted) if near in content else None
            if data is not None:
                content.at(name).blobs[wanted] = data
                place = f"/v2/{name}/blobs/{wanted}"
                return Told(status=201, headers={"Location": place})
        digest = asked.query.get("digest")
        if digest is not None and (habits.monolithic or habits.single_post):
            return self._store(name, digest, asked.body)
        if habits.single_post:
            raise _Refused(405, "UNSUPPORTED")
        session = content.begin_upload(name)
        headers = self._upload_headers(name, session)
        if habits.chunk_min:
            headers["OCI-Chunk-Min-Length"] = str(habits.chunk_min)
        return Told(status=202, headers=headers)

    def _upload_headers(self, name: str, session: str) -> dict[str, str]:
        habits = self.habits
        length = len(self.content.at(name).uploads[session])
        headers = {
            "Docker-Upload-UUID": session,
            "Range": f"0-{max(0, length - 1)}",
        }
        if not habits.location_uuid:
            place = f"/v2/{name}/blobs/uploads/{session}"
            if habits.location_query:
                place += f"?_state={session[::-1]}&x=a%2Bb"
            if habits.location_to is not None:
                place = habits.location_to + place
            elif not habits.location_relative:
                place = self.url + place
            headers["Location"] = place
        return headers

    def _upload(self, asked: Asked, name: str, session: str) -> Told:
        habits, uploads = self.habits, self.content.at(name).uploads
        if session not in uploads:
            raise _Refused(404, "BLOB_UPLOAD_UNKNOWN")
        if habits.location_query and asked.query.get("_state") != session[::-1]:
            raise _Refused(400, "BLOB_UPLOAD_INVALID")
        held = uploads[session]
        match asked.method:
            case "DELETE":
                del uploads[session]
                return Told(status=204)
            case "GET" | "HEAD":
                return Told(status=204, headers=self._upload_headers(name, session))
            case "PATCH":
                return self._patch(asked, name, session)
            case "PUT":
                digest = asked.query.get("digest", "")
                if habits.in_parts and not held and asked.body:
                    raise _Refused(405, "UNSUPPORTED")
                if self._still("upload_drop", habits.upload_drop):
                    return Told(status=500, silence=True)
                if self._still("failures", habits.failures):
                    raise _Refused(500, "UNKNOWN")
                data = bytes(held) + asked.body
                told = self._store(name, digest, data)
                uploads.pop(session, None)
                return told
        raise _Refused(405, "UNSUPPORTED")

    def _patch(self, asked: Asked, name: str, session: str) -> Told:
        habits, held = self.habits, self.content.at(name).uploads[session]
        if habits.chunk_max is not None and len(asked.body) > habits.chunk_max:
            raise _Refused(413, "SIZE_INVALID")
        claimed = re.fullmatch(r"(\d+)-(\d+)", asked.headers.get("content-range", ""))
        if claimed is not None and int(claimed[1]) != len(held):
            raise _Refused(416, "BLOB_UPLOAD_INVALID")
        if habits.chunk_min and held and len(held) % habits.chunk_min:
            # The part before was shorter than it may be, and was not the last.
            raise _Refused(400, "SIZE_INVALID")
        held += asked.body
        return Told(status=202, headers=self._upload_headers(name, session))

    def _store(self, name: str, digest: str, data: bytes) -> Told:
        algorithm = digest.partition(":")[0]
        if algorithm not in _ALGORITHMS or digest_of(data, algorithm) != digest:
            raise _Refused(400, "DIGEST_INVALID")
        self.content.at(name).blobs[digest] = data
        headers = {
            "Location": f"/v2/{name}/blobs/{digest}",
            "Docker-Content-Digest": digest,
        }
        return Told(status=201, headers=headers)


def _json(
    document: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Told:
    found = {"Content-Type": "application/json", **(headers or {})}
    return Told(status=status, headers=found, body=json.dumps(document).encode())
