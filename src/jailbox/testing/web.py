"""
A small web server for tests: one function answers, on a loopback port.

It ends with its block, whatever clients still hold open.
"""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self
from urllib.parse import parse_qs, urlsplit

import attrs

__all__ = ["Asked", "Site", "Told"]

_BODY_MAX = 1 << 30


@attrs.frozen
class Asked:
    """
    A request, as it came.

    Attributes:
        method: The method.

        path: The path, without the query.

        query: The query, by names; of several values the last.

        headers: The headers, by lower-case names.

        body: All of the body.

        origin: By which host and port the site was asked for.

        scopes: All values of ``scope`` in the query.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = attrs.field(repr=False)
    origin: str = ""
    scopes: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Told:
    """
    An answer, and how it is to be sent.

    Attributes:
        status: The status.

        headers: The headers, as they are written.

        body: The body.

        framing: How it is told where the body ends.

        cut: The connection ends after so many bytes of the body.

        endless: The body begins again at its end, for ever.

        drip: Seconds between two bytes.

        lower: Write the names of headers in lower case.

        more_headers: Headers without end, so many seconds apart; ``None``: none.

        silence: End the connection instead.
    """

    status: int
    headers: dict[str, str] = attrs.field(factory=dict)
    body: bytes = attrs.field(default=b"", repr=False)
    framing: Literal["length", "chunked", "close"] = "length"
    cut: int | None = None
    endless: bool = False
    drip: float = 0.0
    lower: bool = False
    more_headers: float | None = None
    silence: bool = False


class _Server(ThreadingHTTPServer):
    """Remembers its connections, to end them."""

    daemon_threads = False
    block_on_close = True
    # Many clients at once are not refused.
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], site: "Site") -> None:
        self.site = site
        self.connections: set[socket.socket] = set()
        self.connections_lock = threading.Lock()
        super().__init__(address, _Handler)

    def get_request(self) -> tuple[Any, Any]:
        sock, address = super().get_request()
        if self.site.context is not None:
            # The handshake belongs to the thread of the connection.
            sock = self.site.context.wrap_socket(
                sock, server_side=True, do_handshake_on_connect=False
            )
        with self.connections_lock:
            self.connections.add(sock)
        return sock, address

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401  (socketserver)
        with self.connections_lock:
            self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Say nothing: clients go as they like."""

    def end(self) -> None:
        """End all connections, and wait until their threads are gone."""
        self.shutdown()
        with self.connections_lock:
            for each in self.connections:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    """Reads a request, has it answered, sends the answer."""

    protocol_version = "HTTP/1.1"
    server: _Server
    # Answers are written in two pieces; the second shall not wait for the first.
    disable_nagle_algorithm = True

    def setup(self) -> None:
        if isinstance(self.request, ssl.SSLSocket):
            self.request.settimeout(10)
            self.request.do_handshake()
            self.request.settimeout(None)
        super().setup()

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def version_string(self) -> str:
        """Be nobody in particular."""
        return "jailbox.testing"

    def _serve(self) -> None:
        self.close_connection = False
        parts = urlsplit(self.path)
        values = parse_qs(parts.query, keep_blank_values=True)
        asked = Asked(
            self.command,
            parts.path,
            {name: each[-1] for name, each in values.items()},
            {name.lower(): value for name, value in self.headers.items()},
            self._body(),
            self.headers.get("Host", ""),
            tuple(values.get("scope", ())),
        )
        self._send(self.server.site.answer(asked))

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            found = bytearray()
            while size := int(self.rfile.readline().split(b";")[0], 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return bytes(found)
        return self.rfile.read(
            min(int(self.headers.get("Content-Length", 0)), _BODY_MAX)
        )

    def _send(self, told: Told) -> None:
        if told.silence:
            self.close_connection = True
            return
        self.send_response_only(told.status)
        for name, value in told.headers.items():
            self.send_header(name.lower() if told.lower else name, value)
        has_body = self.command != "HEAD"
        if told.framing == "chunked" and has_body:
            self.send_header("Transfer-Encoding", "chunked")
        elif told.framing == "close":
            self.send_header("Connection", "close")
            self.close_connection = True
        elif "Content-Length" not in told.headers:
            self.send_header("Content-Length", str(len(told.body)))
        if told.more_headers is not None:
            self._more_headers(told.more_headers)
        self.end_headers()
        if has_body:
            for piece in _pieces(told):
                if told.framing == "chunked":
                    piece = b"%x\r\n%b\r\n" % (len(piece), piece)  # noqa: PLW2901
                self.wfile.write(piece)
            if told.cut is not None:
                self.wfile.flush()
                self.close_connection = True
            elif told.framing == "chunked":
                self.wfile.write(b"0\r\n\r\n")

    def _more_headers(self, pause: float) -> None:
        number = 0
        while True:
            number += 1
            self.send_header(f"X-More-{number}", "x" * 1000)
            self.flush_headers()
            if pause:
                time.sleep(pause)


def _pieces(told: Told) -> Iterator[bytes]:
    body = told.body if told.cut is None else told.body[: told.cut]
    if told.drip:
        for number in range(len(body)):
            yield body[number : number + 1]
            time.sleep(told.drip)
    elif body:
        yield body
    while told.endless and body:
        yield body


class Site:
    """
    A web server that is there while its block lasts.

    Args:
        answer: Answers one request; called from several threads.

        context: Speak TLS.
    """

    def __init__(
        self,
        answer: Callable[[Asked], Told],
        context: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.answer = answer
        self.context = context
        self._server = _Server((host, 0), self)
        self.host = host
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            # Looks so often whether it is to end.
            kwargs={"poll_interval": 0.01},
            name="jailbox-testing-registry",
            daemon=True,
        )
        self._thread.start()

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Where it is, without a slash at the end."""
        scheme = "http" if self.context is None else "https"
        return f"{scheme}://{self.address}"

    def close(self) -> None:
        """End it. Ending it twice is harmless."""
        if self._thread.is_alive():
            self._server.end()
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
