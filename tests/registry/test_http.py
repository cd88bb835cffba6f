"""One request, one answer: proxies, deadlines, and connections that are kept."""

import base64
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from jailbox.errors import DeadlineExceeded, RegistryError, SpecError
from jailbox.registry.client import Client
from jailbox.registry.credentials import Keychain
from jailbox.registry.http import Bounds, Reply, Request, Transport, Trouble
from jailbox.registry.pace import Call, Interrupted
from jailbox.registry.pull import pull
from jailbox.registry.secret import Secret
from jailbox.registry.settings import Endpoint
from jailbox.spec.platform import Platform
from jailbox.spec.reference import Reference
from jailbox.testing import Habits, Registry
from jailbox.testing.web import Asked, Site, Told
from tests.registries import HASTY, Shelf, make, put

AMD64 = Platform.parse("linux/amd64")
FAR = "registry.invalid"


@pytest.fixture
def asked() -> list[Asked]:
    """Return what a proxy is asked."""
    return []


@pytest.fixture
def proxy(asked: list[Asked]) -> Iterator[Site]:
    """Return a proxy that answers everything itself."""

    def answer(each: Asked) -> Told:
        asked.append(each)
        return Told(status=200, body=b'{"tags": ["through-the-proxy"]}')

    with Site(answer) as site:
        yield site


def far_client(**settings: object) -> Client:
    """Make a client for a registry that nobody can reach directly."""
    return Client(
        endpoints={FAR: Endpoint(plain_http=True)},
        keychain=Keychain(),
        settings=attrs.evolve(HASTY, **settings),  # type: ignore[arg-type]
    )


class TestProxies:
    def test_given(self, proxy: Site, asked: list[Asked]) -> None:
        """REG-05: a proxy that is given is asked; its password is not shown."""
        url = f"http://me:s%20ecret@{proxy.address}"
        with far_client(proxy=url) as client:
            assert client.tags(f"{FAR}/a") == ("through-the-proxy",)
            assert "s%20ecret" not in f"{client.settings!r} {client!r}"

        assert asked[0].origin == FAR
        shown = asked[0].headers["proxy-authorization"].removeprefix("Basic ")
        assert base64.b64decode(shown) == b"me:s ecret"

    @pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy"])
    def test_of_the_environment(
        self,
        proxy: Site,
        asked: list[Asked],
        monkeypatch: pytest.MonkeyPatch,
        name: str,
    ) -> None:
        """REG-05: without one, the usual variables count; `no_proxy` too."""
        for other in ("http_proxy", "HTTP_PROXY", "all_proxy", "no_proxy"):
            monkeypatch.delenv(other, raising=False)
        # Python takes HTTP_PROXY for a header of a request where it runs as CGI.
        monkeypatch.delenv("REQUEST_METHOD", raising=False)
        monkeypatch.setenv(name, proxy.address)
        with far_client() as client:
            client.tags(f"{FAR}/a")
            monkeypatch.setenv("no_proxy", FAR)
            with pytest.raises(RegistryError, match="name is not known"):
                client.tags(f"{FAR}/a")
        assert len(asked) == 1

    def test_not_to_this_machine(
        self, registry: Registry, proxy: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is on this machine is not asked for through a proxy."""
        monkeypatch.setenv("http_proxy", proxy.address)
        put(registry, "a", make())
        with registry.client(settings=HASTY) as client:
            assert client.tags(f"{registry.address}/a") == ("1",)

    def test_none(self, proxy: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """None is none, whatever the environment says."""
        monkeypatch.setenv("http_proxy", proxy.address)
        with far_client(proxy=None) as client, pytest.raises(RegistryError):
            client.tags(f"{FAR}/a")

    def test_no_address(self) -> None:
        """What is no address of a proxy is refused."""
        with far_client(proxy="socks5://h") as client, pytest.raises(SpecError):
            client.tags(f"{FAR}/a")


class TestDeadlines:
    @pytest.fixture
    def context(self, tmp_path: Path) -> ssl.SSLContext:
        """Return the context of a server that vouches for itself."""
        openssl = shutil.which("openssl")
        if openssl is None:
            pytest.skip("no openssl (package openssl)")
        command = [openssl, "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"]
        command += ["-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=r"]
        command += ["-addext", "subjectAltName=IP:127.0.0.1"]
        command += ["-keyout", "key.pem", "-out", "cert.pem"]
        subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
        return context

    @pytest.mark.slow
    def test_over_tls(self, context: ssl.SSLContext, tmp_path: Path) -> None:
        """A deadline holds on an encrypted connection, too."""
        with Registry(context=context) as registry:
            put(registry, "a", make(1))
            endpoints = {registry.address: Endpoint(ca=tmp_path / "cert.pem")}
            with Client(
                endpoints=endpoints, keychain=Keychain(), settings=HASTY
            ) as client:
                name = Reference.parse(f"{registry.address}/a:1")
                pull(client, name, Shelf(), platform=AMD64)
                registry.habits = Habits(drip=0.05)
                began = time.monotonic()
                with pytest.raises(DeadlineExceeded):
                    pull(client, name, Shelf(), platform=AMD64, timeout=0.4)
                assert 0.3 < time.monotonic() - began < 0.8

    def test_before_it_begins(self) -> None:
        """Without time no request is made."""
        with far_client() as client, pytest.raises(DeadlineExceeded, match="tags"):
            client.tags(f"{FAR}/a", timeout=0)

    @pytest.mark.slow
    def test_ended_by_another_thread(self) -> None:
        """An operation that is ended stops waiting at once, in the middle of a read."""
        call = Call("waiting")
        with Site(lambda _: Told(status=200, body=b"x" * 99, drip=1)) as site:
            transport = Transport(Bounds(), proxy=None)
            reply = transport.send(Request(method="GET", url=site.url), call)
            assert isinstance(reply, Reply)
            threading.Timer(0.1, call.cancel).start()
            began = time.monotonic()
            with pytest.raises(Interrupted):
                reply.text(99)
            took = time.monotonic() - began
            transport.close()
        assert took < 1


class TestTrouble:
    @pytest.mark.parametrize(
        ("url", "kind"),
        [
            ("http://127.0.0.1:1/", "unreachable"),
            ("http://name.invalid/", "unreachable"),
        ],
    )
    def test_unreachable(self, url: str, kind: str) -> None:
        """What cannot be reached is a value that says why."""
        transport = Transport(Bounds(connect=1), proxy=None)
        outcome = transport.send(Request(method="GET", url=url), Call("asking"))
        transport.close()

        assert isinstance(outcome, Trouble)
        assert outcome.kind == kind
        assert not outcome.is_final

    def test_a_body_that_fails(self, registry: Registry) -> None:
        """What the source of a body raises is raised, and not taken for the network."""

        def broken() -> Iterator[bytes]:
            yield b"x"
            raise KeyError("ours")

        transport = Transport(Bounds(), proxy=None)
        request = Request(
            method="PUT",
            url=f"{registry.url}/v2/a/manifests/1",
            headers={"Authorization": Secret("x")},
            body=broken,
            length=9,
        )
        with pytest.raises(KeyError, match="ours"):
            transport.send(request, Call("sending"))
        transport.close()
