"""
One request, one answer: urllib3, held to bounds.

Decides nothing: no redirect is followed, nothing is repeated, no status is judged. What
goes wrong comes back as a value (`Trouble`), not as an exception: urllib3's exceptions
carry its frames, and those hold the headers that were sent, secrets included.

No state is shared between two transports, and none is global.
"""

import contextlib
import ipaddress
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Literal, Self, TypeAlias
from urllib.parse import unquote

import attrs
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from jailbox._version import __version__
from jailbox.errors import SpecError
from jailbox.registry.address import is_local, origin_of
from jailbox.registry.pace import Call, Interrupted, Pace, paced_context, paced_socket
from jailbox.registry.secret import Secret

__all__ = [
    "FROM_ENVIRONMENT",
    "Bounds",
    "Reply",
    "Request",
    "Transport",
    "Trouble",
]

CHUNK = 256 << 10
"""How much of a body is passed on at once, in bytes."""

FROM_ENVIRONMENT = Secret("environment")
"""Take the proxy that ``http_proxy``, ``https_proxy`` and ``no_proxy`` name."""

_DRAIN_MAX = 64 << 10
_USER_AGENT = f"jailbox/{__version__}"

Headers: TypeAlias = Mapping[str, str | Secret]
Body: TypeAlias = Callable[[], Iterable[bytes]]
Kind: TypeAlias = Literal["tls", "unreachable", "timeout", "broken", "proxy", "local"]


@attrs.frozen(kw_only=True)
class Bounds:
    """
    How long the network may take. All in seconds.

    Attributes:
        connect: Until a connection stands.

        stall: For one wait, in which nothing at all moves.

        answer: Until the status and all headers of an answer are there.

        rate: Bytes a second that a body must bring, on average over `stall` seconds.
    """

    connect: float = 10.0
    stall: float = 30.0
    answer: float = 60.0
    rate: int = 1024


@attrs.frozen(kw_only=True)
class Request:
    """
    What is asked.

    Attributes:
        body: Gives the body's pieces from the beginning, each time it is called.

        length: How many bytes these are.

        public_only: Refuse to speak to this machine and to its link, whatever the name
            resolves to.
    """

    method: str
    url: str
    headers: Headers = attrs.field(factory=dict)
    body: Body | None = None
    length: int = 0
    public_only: bool = False


@attrs.frozen
class Trouble:
    """
    Why there was no answer.

    Attributes:
        kind: What to do depends on it: ``tls`` and ``local`` are final.

        reason: In words, without secrets.
    """

    kind: Kind
    reason: str
    hint: str | None = None

    @property
    def is_final(self) -> bool:
        """Whether trying again cannot help."""
        return self.kind in {"tls", "local"}


class Reply:
    """
    An answer: its status and headers, and a body that is read once, or closed.

    Attributes:
        status: The status.

        headers: Its headers, by lower-case names.

        url: What was asked for.
    """

    def __init__(
        self,
        response: urllib3.BaseHTTPResponse,
        url: str,
        transport: "Transport",
        call: Call,
    ) -> None:
        self.status = response.status
        self.headers = {k.lower(): v for k, v in response.headers.items()}
        self.url = url
        self._response = response
        self._transport = transport
        self._call = call

    @property
    def length(self) -> int | None:
        """What ``Content-Length`` says, or ``None``."""
        text = self.headers.get("content-length", "")
        return int(text) if text.isascii() and text.isdigit() else None

    def pieces(self, *, decode: bool = False) -> Iterator[bytes | Trouble]:
        """
        Read the body, piece by piece; a `Trouble` is the last piece of a broken one.

        Raises:
            DeadlineExceeded: If the operation has no time left.
        """
        bounds = self._transport.bounds
        began, count = time.monotonic(), 0
        while True:
            piece = self._read(decode=decode)
            if isinstance(piece, Trouble) or piece:
                yield piece
            if isinstance(piece, Trouble) or not piece:
                return
            count += len(piece)
            if (took := time.monotonic() - began) > bounds.stall:
                if count < bounds.rate * took:
                    yield Trouble("timeout", "the answer comes too slowly")
                    return
                began, count = time.monotonic(), 0

    def _read(self, *, decode: bool) -> bytes | Trouble:
        with self._transport.pace.working_for(self._call):
            try:
                data: bytes = self._response.read1(CHUNK, decode_content=decode)
            except Exception as error:  # noqa: BLE001  (told below, without its frames)
                trouble = _trouble(error)
            else:
                return data
        self.close()
        self._call.check()
        return trouble

    def text(self, limit: int) -> bytes | Trouble:
        """Read a small body: at most *limit* bytes, and one more that tells of more."""
        found = bytearray()
        # Who compresses a document that was not asked for so says that it did.
        for piece in self.pieces(decode=True):
            if isinstance(piece, Trouble):
                return piece
            found += piece
            if len(found) > limit:
                self.close()
                return bytes(found[: limit + 1])
        return bytes(found)

    def drop(self) -> None:
        """Have done with it: the connection is kept if the rest is short."""
        left = _DRAIN_MAX
        for piece in self.pieces():
            left -= 0 if isinstance(piece, Trouble) else len(piece)
            if left < 0:
                break
        self.close()

    def close(self) -> None:
        """Read no further."""
        with contextlib.suppress(Exception):
            if not self._response.closed:
                self._response.close()
            self._response.release_conn()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Transport:
    """
    Connections, kept for the next request.

    Args:
        bounds: How long things may take.

        context: How TLS servers are verified; taken over.

        proxy: `FROM_ENVIRONMENT`, the URL of a proxy, or ``None`` for none.

        connections: How many are kept for each server.
    """

    def __init__(
        self,
        bounds: Bounds,
        context: Callable[[], ssl.SSLContext] = ssl.create_default_context,
        *,
        proxy: Secret | None = FROM_ENVIRONMENT,
        connections: int = 8,
    ) -> None:
        self.bounds = bounds
        self.pace = Pace(bounds.stall)
        self._context = context
        self._proxy = proxy
        self._connections = connections
        # By proxy, and by whether local servers are refused.
        self._managers: dict[tuple[Secret | None, bool], urllib3.PoolManager] = {}

    def close(self) -> None:
        """Close all connections."""
        for each in self._managers.values():
            each.clear()

    def send(self, request: Request, call: Call) -> Reply | Trouble:
        """
        Make a request, and return when the headers of the answer are there.

        Raises:
            DeadlineExceeded: If *call* has no time left.
        """
        call.check()
        manager = self._manager(request)
        body = None if request.body is None else _SentBody(request.body, self)
        with self.pace.working_for(call):
            self.pace.until = time.monotonic() + self.bounds.answer
            try:
                response = manager.urlopen(
                    request.method,
                    request.url,
                    body=body,
                    headers=_revealed(request),
                    retries=False,
                    redirect=False,
                    preload_content=False,
                    decode_content=False,
                    timeout=self._timeout(call),
                )
            except Exception as error:  # noqa: BLE001  (told without its frames)
                trouble = _trouble(error)
            else:
                return Reply(response, request.url, self, call)
        call.check()
        if body is not None and body.failure is not None:
            # Ours, not the network's.
            raise body.failure
        if trouble.kind == "tls":
            trouble = attrs.evolve(trouble, reason=self._about_tls(request, trouble))
        return trouble

    def _timeout(self, call: Call) -> urllib3.Timeout:
        left = call.remaining()
        connect, stall = self.bounds.connect, self.bounds.stall
        if left is not None:
            connect, stall = min(connect, left), min(stall, left)
        # urllib3 refuses 0; what is over is found by the next check.
        return urllib3.Timeout(connect=max(connect, 1e-3), read=max(stall, 1e-3))

    def _manager(self, request: Request) -> urllib3.PoolManager:
        proxy = self._proxy_for(request.url)
        key = (proxy, request.public_only and proxy is None)
        found = self._managers.get(key)
        if found is None:
            # Two threads may make one each; both work, one is kept.
            found = self._managers.setdefault(key, self._make(*key))
        return found

    def _make(self, proxy: Secret | None, public_only: bool) -> urllib3.PoolManager:  # noqa: FBT001
        options: dict[str, Any] = {
            "maxsize": self._connections,
            "blocksize": CHUNK,
        }
        if proxy is None:
            manager = urllib3.PoolManager(**options)
        else:
            manager = urllib3.ProxyManager(
                proxy.reveal(), proxy_headers=_proxy_headers(proxy), **options
            )
        made = partial(_PlainConnection, self.pace, public_only)
        made_tls = partial(_TlsConnection, self.pace, public_only)
        manager.pool_classes_by_scheme = {
            "http": partial(_pool, HTTPConnectionPool, made),  # type: ignore[dict-item]
            "https": partial(self._tls_pool, made_tls),  # type: ignore[dict-item]
        }
        return manager

    def _tls_pool(self, made: Any, *args: Any, **options: Any) -> HTTPConnectionPool:  # noqa: ANN401
        # Not before it is needed: reading the system's certificates takes a while.
        context = paced_context(self._context(), self.pace)
        return _pool(HTTPSConnectionPool, made, *args, ssl_context=context, **options)

    def _proxy_for(self, url: str) -> Secret | None:
        if self._proxy is not FROM_ENVIRONMENT:
            return self._proxy
        origin = origin_of(url)
        if origin is None or _is_loopback(origin.host):
            return None
        # Asked each time: a program may set them after we were made.
        if urllib.request.proxy_bypass_environment(origin.netloc):  # type: ignore[attr-defined]
            return None
        named = urllib.request.getproxies_environment()
        found = named.get(origin.scheme) or named.get("all")
        if not found:
            return None
        return Secret(found if "://" in found else f"http://{found}")

    def _about_tls(self, request: Request, trouble: Trouble) -> str:
        """Say which names a certificate has that is not for the host we asked."""
        origin = origin_of(request.url)
        if origin is None or "mismatch" not in trouble.reason:
            return trouble.reason
        # OpenSSL names one side of a mismatch; urllib3's own check names both. The
        # chain is verified as before, and the connection ends before a request.
        with urllib3.HTTPSConnectionPool(
            origin.host,
            origin.port,
            ssl_context=self._context(),
            assert_hostname=origin.host,
            timeout=self.bounds.connect,
            retries=False,
        ) as pool:
            try:
                pool.urlopen("HEAD", "/")
            except Exception as error:  # noqa: BLE001
                return _trouble(error).reason
        return trouble.reason


class _SentBody:
    """
    A body on its way out.

    Attributes:
        failure: What the source of the body raised.
    """

    def __init__(self, body: Body, transport: Transport) -> None:
        self._body = body
        self._transport = transport
        self.failure: Exception | None = None

    def __iter__(self) -> Iterator[bytes]:
        bounds, pace = self._transport.bounds, self._transport.pace
        try:
            for piece in self._body():
                # As long as the body moves, the answer cannot be due.
                pace.until = time.monotonic() + bounds.answer
                yield piece
        except Exception as error:
            self.failure = error
            raise


def _pool(
    kind: type[HTTPConnectionPool],
    made: Any,  # noqa: ANN401  (a class, or what stands in for one)
    *args: Any,  # noqa: ANN401  (urllib3's)
    **options: Any,  # noqa: ANN401
) -> HTTPConnectionPool:
    """Make a pool whose connections are ours."""
    pool = kind(*args, **options)
    pool.ConnectionCls = made
    return pool


class _PlainConnection(HTTPConnection):
    """A connection of plain HTTP, paced."""

    def __init__(
        self,
        pace: Pace,
        public_only: bool,  # noqa: FBT001  (given by `partial`)
        *args: Any,  # noqa: ANN401  (urllib3's)
        **options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(*args, **options)
        self._pace = pace
        self._public_only = public_only

    def connect(self) -> None:
        super().connect()
        _check_peer(self, public_only=self._public_only)
        self.sock = paced_socket(self.sock, self._pace)


class _TlsConnection(HTTPSConnection):
    """A connection of HTTPS; its context makes it paced."""

    def __init__(
        self,
        pace: Pace,
        public_only: bool,  # noqa: FBT001  (given by `partial`)
        *args: Any,  # noqa: ANN401  (urllib3's)
        **options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(*args, **options)
        self._pace = pace
        self._public_only = public_only

    def connect(self) -> None:
        super().connect()
        _check_peer(self, public_only=self._public_only)


class _LocalPeer(Exception):
    """The name of a public server resolves to this machine."""


def _check_peer(connection: HTTPConnection, *, public_only: bool) -> None:
    """
    Refuse a connection to this machine before anything is sent.

    On the connection that stands, not on what the name resolved to before: a name may
    resolve to something else the next time.
    """
    if public_only and is_local(peer := connection.sock.getpeername()[0]):
        connection.close()
        raise _LocalPeer(f"{connection.host} is {peer}, which is no place for a secret")


def _revealed(request: Request) -> dict[str, str]:
    headers = {
        name: value.reveal() if isinstance(value, Secret) else value
        for name, value in request.headers.items()
    }
    headers.setdefault("User-Agent", _USER_AGENT)
    if request.body is not None or request.method in {"POST", "PUT", "PATCH"}:
        headers["Content-Length"] = str(request.length)
    return headers


def _proxy_headers(proxy: Secret) -> dict[str, str] | None:
    parts = urllib3.util.parse_url(proxy.reveal())
    if parts.scheme not in {"http", "https"}:
        raise SpecError("proxy", "is no http address", accepted="http://HOST:PORT")
    return (
        urllib3.make_headers(proxy_basic_auth=unquote(parts.auth))
        if parts.auth
        else None
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _trouble(error: BaseException) -> Trouble:
    """Say in words what an exception says, and keep nothing of it."""
    deepest = _deepest(error)
    reason = _words(deepest)
    match error:
        case _LocalPeer():
            return Trouble("local", str(error))
        case Interrupted():
            return Trouble("broken", "was ended")
        case urllib3.exceptions.ProxyError():
            return Trouble("proxy", f"the proxy failed: {reason}")
        case urllib3.exceptions.SSLError():
            return Trouble("tls", f"TLS failed: {reason}", _TLS_HINT)
        case urllib3.exceptions.NameResolutionError():
            return Trouble("unreachable", f"its name is not known: {reason}")
        case urllib3.exceptions.ConnectTimeoutError():
            return Trouble("unreachable", "no connection within the time")
        case urllib3.exceptions.NewConnectionError():
            return Trouble("unreachable", f"no connection: {reason}")
        case urllib3.exceptions.TimeoutError() | TimeoutError():
            return Trouble("timeout", "nothing came within the time")
    if isinstance(deepest, TimeoutError):
        return Trouble("timeout", "nothing came within the time")
    return Trouble("broken", f"the connection broke: {reason}")


_TLS_HINT = (
    "A registry with a private certificate authority: Endpoint(ca=PEM FILE). "
    "One without encryption: Endpoint(plain_http=True)."
)


def _deepest(error: BaseException) -> BaseException:
    """Return the first cause, a few steps down."""
    for _ in range(8):
        inner = error.__cause__ or error.__context__
        if inner is None:
            inner = next((a for a in error.args if isinstance(a, BaseException)), None)
        if inner is None or inner is error:
            break
        error = inner
    return error


def _words(error: BaseException) -> str:
    """
    Return the words of an exception that cannot hold a secret.

    Those of the operating system and of TLS, which know only numbers and certificates,
    and of urllib3 about names in certificates. Of all others the kind.
    """
    if isinstance(error, ssl.CertificateError) or (
        type(error).__name__ == "CertificateError"
    ):
        return str(getattr(error, "verify_message", "") or error)
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return type(error).__name__
