"""REG1 to REG16: what a hostile registry, or somebody between, can do to a client."""

import gc
import json
import logging
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from jailbox.errors import DigestMismatch, HostError, JailboxError, RegistryError
from jailbox.registry.client import Client
from jailbox.registry.credentials import IdentityToken, Keychain, Login, RegistryToken
from jailbox.registry.http import Bounds, Request, Transport, Trouble
from jailbox.registry.pace import Call
from jailbox.registry.pull import pull
from jailbox.registry.push import copy, push
from jailbox.registry.retry import Policy
from jailbox.registry.settings import Endpoint, Settings
from jailbox.spec import media
from jailbox.spec.descriptor import Descriptor
from jailbox.spec.platform import Platform
from jailbox.spec.reference import Reference
from jailbox.testing import Habits, Registry
from jailbox.testing.web import Asked, Site, Told
from tests.registries import HASTY, Made, Shelf, make, put

AMD64 = Platform.parse("linux/amd64")
CANARY = "canary-5ecret-of-ours"
STATUSES = (301, 302, 303, 307, 308)


def name_in(registry: Registry) -> Reference:
    """Return the name of an image in a registry."""
    return Reference.parse(f"{registry.address}/group/base:1")


def get(client: Client, reference: Reference, *, timeout: float | None = None) -> Shelf:
    """Pull an image."""
    shelf = Shelf()
    pull(client, reference, shelf, platform=AMD64, timeout=timeout)
    return shelf


@pytest.fixture
def guarded() -> Iterator[Registry]:
    """Return a registry with a user and an image."""
    with Registry(Habits(auth="basic"), users={"me": CANARY}) as registry:
        put(registry, "group/base", make())
        yield registry


@pytest.fixture
def me(guarded: Registry) -> Iterator[Client]:
    """Return a client of its user."""
    with guarded.client("me", settings=HASTY) as client:
        yield client


def secrets_in(requests: list[Asked]) -> list[str]:
    """Return every header that is no business of another host."""
    private = ("authorization", "cookie", "proxy-authorization", "referer")
    return [each.headers[n] for each in requests for n in private if n in each.headers]


class TestRedirects:
    @pytest.mark.parametrize("auth", ["basic", "bearer"])
    @pytest.mark.parametrize("status", STATUSES)
    def test_secrets_stay(
        self, guarded: Registry, me: Client, status: int, auth: str
    ) -> None:
        """REG1, REG2: another host, or port, gets no Authorization, and no cookie."""
        guarded.habits = Habits(redirect=status, auth=auth)  # type: ignore[arg-type]
        get(me, name_in(guarded))

        assert len(guarded.elsewhere) == 3
        assert secrets_in(guarded.elsewhere) == []
        assert CANARY not in repr(guarded.elsewhere)

    def test_uploads_stay(self, guarded: Registry, me: Client) -> None:
        """REG1: what is uploaded to another host goes there without secrets."""
        seen: list[Asked] = []

        def take(asked: Asked) -> Told:
            seen.append(asked)
            return Told(status=201)

        with Site(take) as site:
            guarded.habits = Habits(auth="basic", location_to=site.url)
            made = make(1)
            # It never arrives at the registry, which says so at the end.
            with pytest.raises(RegistryError):
                push(me, made.top, made, Reference.parse(f"{guarded.address}/new:1"))

        assert seen
        assert secrets_in(seen) == []

    def test_https_to_http(self, tls: tuple[ssl.SSLContext, Path]) -> None:
        """REG3: from https to http no redirect is followed; no request is made."""
        seen: list[Asked] = []

        def take(asked: Asked) -> Told:
            seen.append(asked)
            return Told(status=200)

        with Site(take) as site, Registry(context=tls[0]) as registry:
            put(registry, "group/base", make())
            registry.habits = Habits(redirect_to=f"{site.url}/x")
            endpoint = Endpoint(ca=tls[1])
            with (
                Client(
                    endpoints={registry.address: endpoint},
                    keychain=Keychain(),
                    settings=HASTY,
                ) as client,
                pytest.raises(RegistryError, match="https to http"),
            ):
                get(client, name_in(registry))
        assert seen == []


class TestRealms:
    @pytest.mark.parametrize(
        "realm",
        [
            "http://evil.invalid/token",
            "https://evil.invalid/token",
            "http://user:password@{host}/token",
            "file:///etc/passwd",
            "//evil.invalid/token",
            "http://localhost:{port}/token",
            "http://169.254.169.254/latest/meta-data",
        ],
    )
    def test_refused(
        self, guarded: Registry, me: Client, realm: str, *, resolved: list[str]
    ) -> None:
        """REG4: no token from a place that a registry has no right to name."""
        host, _, port = guarded.address.partition(":")
        text = realm.format(host=guarded.address, port=port)
        guarded.habits = Habits(auth="bearer", realm=text)

        with pytest.raises(RegistryError, match="token"):
            get(me, name_in(guarded))
        assert not guarded.asked("GET", "/token")
        assert set(resolved) <= {host}

    def test_another_port(self, guarded: Registry, me: Client) -> None:
        """REG4: another server of the same machine gets no password, until named."""
        seen: list[Asked] = []

        def take(asked: Asked) -> Told:
            seen.append(asked)
            return Told(status=200, body=b'{"token": "x"}')

        with Site(take) as site:
            guarded.habits = Habits(auth="bearer", realm=f"{site.url}/token")
            with pytest.raises(RegistryError, match="another place"):
                get(me, name_in(guarded))
            assert seen == []
            endpoint = Endpoint(plain_http=True, token_hosts=[site.address])
            with (
                Client(
                    endpoints={guarded.address: endpoint},
                    keychain=me.keychain,
                    settings=HASTY,
                ) as client,
                pytest.raises(RegistryError, match="401"),
            ):
                get(client, name_in(guarded))
            assert len(seen) == 2

    def test_the_name_means_this_machine(self) -> None:
        """REG4: a public name that leads to this machine is refused, nothing sent."""
        seen: list[Asked] = []

        def take(asked: Asked) -> Told:
            seen.append(asked)
            return Told(status=200)

        with Site(take) as site:
            transport = Transport(Bounds(), proxy=None)
            url = f"http://127.0.0.1:{site.port}/token"
            request = Request(method="GET", url=url, public_only=True)
            outcome = transport.send(request, Call("asking"))
            transport.close()

        assert isinstance(outcome, Trouble)
        assert outcome.kind == "local"
        assert outcome.is_final
        assert seen == []

    def test_redirected(self, guarded: Registry, me: Client) -> None:
        """REG4: a request for a token is not redirected."""
        guarded.habits = Habits(auth="bearer", token_redirect=True)

        with pytest.raises(RegistryError, match="redirected"):
            get(me, name_in(guarded))
        assert guarded.elsewhere == []


class TestSecretsStayHome:
    def test_foreign_layers(self) -> None:
        """REG5: the URLs of foreign layers are not followed."""
        seen: list[Asked] = []

        def take(asked: Asked) -> Told:
            seen.append(asked)
            return Told(status=200, body=b"away")

        with Site(take) as site, Registry() as registry:
            made = make(1, config=b"{}")
            document = json.loads(made.documents[made.top.digest][1])
            away = Descriptor.of(b"away", media.DOCKER_FOREIGN_LAYER).to_document()
            document["layers"].append({**away, "urls": [f"{site.url}/away"]})
            data = json.dumps(document).encode()
            top = Descriptor.of(data, made.top.media_type)
            documents = {top.digest: (top.media_type, data)}
            put(registry, "group/base", Made(top, documents, made.blobs))
            with (
                registry.client(settings=HASTY) as client,
                pytest.raises(RegistryError, match="404"),
            ):
                get(client, name_in(registry))
        assert seen == []

    def test_two_hundred_spellings(self) -> None:
        """REG6: however a name is written, A's credentials never get to B."""
        keys = Keychain({"a.example": Login("me", CANARY)})
        hosts = [
            f"{before}{name}{after}"
            for name in ("a.example", "A.EXAMPLE", "a-example", "aexample", "a.exampl")
            for before in ("", "b.", "a.", "xn--", "a.example.")
            for after in ("", ":443", ":80", ":5000", ".b", ".example", "-b", "x")
        ]
        assert len(hosts) == 200
        for host in hosts:
            found = keys.find(host, "a.example/group")
            assert (found.credentials is not None) == (host.lower() == "a.example")

    def test_really_not_sent(self, guarded: Registry, me: Client) -> None:
        """REG6: a client with credentials for one registry shows them to no other."""
        with Registry(Habits(auth="basic"), users={"me": CANARY}) as other:
            put(other, "group/base", make())
            endpoints = {**guarded.endpoints, **other.endpoints}
            with Client(
                endpoints=endpoints, keychain=me.keychain, settings=HASTY
            ) as both:
                for name in (
                    name_in(other),
                    f"{other.address}/{guarded.address[:3]}/x",
                ):
                    with pytest.raises(RegistryError, match="401"):
                        both.resolve(name)
                with pytest.raises(RegistryError, match="401"):
                    copy(both, name_in(guarded), name_in(other))

            assert secrets_in(other.requests) == []

    def test_failing_helper(self, guarded: Registry, tmp_path: Path) -> None:
        """REG7: a helper that fails is an error; nothing at all is sent instead."""
        file = tmp_path / "config.json"
        document = {
            "credHelpers": {guarded.address: "bad"},
            "auths": {"b.example": {"auth": "bWU6eA=="}},
        }
        file.write_text(json.dumps(document))

        def bad(*_: object) -> object:
            raise PermissionError(13, "denied")

        keys = Keychain({}, (str(file),), run=bad)  # type: ignore[arg-type]
        with (
            Client(
                endpoints=guarded.endpoints, keychain=keys, settings=HASTY
            ) as client,
            pytest.raises(HostError, match="docker-credential-bad"),
        ):
            get(client, name_in(guarded))
        assert secrets_in(guarded.requests) == []


def failure_of(client: Client, reference: Reference) -> JailboxError | None:
    """Pull; return what went wrong."""
    try:
        get(client, reference)
    except JailboxError as error:
        return error
    return None


def everything_told(error: JailboxError) -> str:
    """Return all that an error says, variables of its frames included."""
    frames = error.__traceback__
    # The first one is the test's: it knows the secrets.
    inner = None if frames is None else frames.tb_next
    told = traceback.TracebackException(type(error), error, inner, capture_locals=True)
    return "".join(told.format()) + repr(vars(error)) + repr(error.args)


class TestNotShown:
    @pytest.mark.slow
    @pytest.mark.parametrize("auth", ["basic", "bearer"])
    def test_in_a_thousand_failures(
        self, auth: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """REG9: no secret in messages, notes, logs, or tracebacks with variables."""
        caplog.set_level(logging.DEBUG)
        faults = [
            Habits(auth=auth, cut="manifest"),  # type: ignore[arg-type]
            Habits(auth=auth, corrupt="manifest"),  # type: ignore[arg-type]
            Habits(auth=auth, corrupt="layer"),  # type: ignore[arg-type]
            Habits(auth=auth, redirect_loop=True),  # type: ignore[arg-type]
            Habits(auth=auth, unavailable=9999),  # type: ignore[arg-type]
            Habits(auth=auth, realm="https://x.invalid/"),  # type: ignore[arg-type]
            Habits(auth=auth, token_redirect=True),  # type: ignore[arg-type]
            Habits(auth=auth, says="{authorization}"),  # type: ignore[arg-type]
            Habits(auth=auth, redirect_to="http://127.0.0.1:1/?x=1"),  # type: ignore[arg-type]
            Habits(auth=auth, too_many=9999),  # type: ignore[arg-type]
        ]
        settings = attrs.evolve(HASTY, retries=Policy(attempts=2, backoff=0))
        known = (
            Login("me", CANARY),
            Login("me", f"{CANARY}-wrong"),
            IdentityToken(CANARY),
            IdentityToken(f"{CANARY}-wrong"),
            RegistryToken(CANARY),
        )
        failures = 0
        with Registry(users={"me": CANARY}) as registry:
            put(registry, "group/base", make(1))
            for number in range(500):
                registry.habits = faults[number % len(faults)]
                login = known[number // len(faults) % len(known)]
                keys = Keychain({registry.address: login})
                with Client(
                    endpoints=registry.endpoints, keychain=keys, settings=settings
                ) as client:
                    error = failure_of(client, name_in(registry))
                if error is not None:
                    failures += 1
                    shown = everything_told(error)
                    secrets = [*registry._tokens, CANARY]
                    assert not [each for each in secrets if each in shown]
        assert failures >= 400
        assert CANARY not in caplog.text
        assert "Authorization" not in caplog.text

    def test_printed(self, me: Client) -> None:
        """REG9: neither clients nor keychains show what they know."""
        assert CANARY not in f"{me!r} {me.keychain!r} {me.settings!r} {vars(me)!r}"


class TestBounded:
    HURRIED = Settings(
        bounds=Bounds(connect=1, stall=0.5, answer=0.8, rate=50),
        retries=Policy(attempts=2, backoff=0.01),
    )

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "habits",
        [
            Habits(endless="layer"),
            Habits(endless="config"),
            Habits(endless="manifest"),
            Habits(drip=0.1),
            Habits(drip=3),
            Habits(headers="endless"),
            Habits(headers="drip"),
            Habits(redirect_loop=True),
        ],
        ids=repr,
    )
    def test_time(self, habits: Habits) -> None:
        """REG10: what has no end, or comes too slowly, is given up."""
        with Registry() as registry:
            put(registry, "group/base", make(1))
            registry.habits = habits
            began = time.monotonic()
            with (
                registry.client(settings=self.HURRIED) as client,
                pytest.raises((RegistryError, DigestMismatch)),
            ):
                get(client, name_in(registry))
            assert time.monotonic() - began < 8
            # What still writes to us must not outlive the test.
            registry.habits = Habits()

    @pytest.mark.slow
    def test_endless_interim_answers(self) -> None:
        """REG10: a server that says 100 for ever is given up."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            over = threading.Event()

            def speak() -> None:
                sock, _ = server.accept()
                with sock:
                    sock.settimeout(0.1)
                    while not over.is_set():
                        try:
                            sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)
                        except OSError:
                            return

            speaker = threading.Thread(target=speak)
            speaker.start()
            address = f"127.0.0.1:{server.getsockname()[1]}"
            settings = attrs.evolve(self.HURRIED, retries=Policy(attempts=1))
            began = time.monotonic()
            with (
                Client(
                    endpoints={address: Endpoint(plain_http=True)},
                    keychain=Keychain(),
                    settings=settings,
                ) as client,
                pytest.raises(RegistryError),
            ):
                client.resolve(f"{address}/a:1")
            over.set()
            speaker.join()
        assert time.monotonic() - began < 3

    def test_ten_bytes(self) -> None:
        """IMG7: a descriptor of ten bytes takes ten, whatever is sent."""
        with Registry(Habits(endless="layer")) as registry:
            put(registry, "group/base", make(1))
            gc.collect()
            with (
                registry.client(settings=HASTY) as client,
                pytest.raises(DigestMismatch, match="bytes, got more"),
            ):
                get(client, name_in(registry))
            registry.habits = Habits()


class TestDigests:
    @pytest.mark.parametrize(
        "habits",
        [Habits(wrong_manifest=True), Habits(corrupt="manifest")],
        ids=repr,
    )
    def test_by_digest(self, habits: Habits) -> None:
        """REG12: asked for by digest, only the bytes of that digest are taken."""
        with Registry() as registry, registry.client(settings=HASTY) as client:
            made = make(1)
            put(registry, "group/base", made)
            registry.habits = habits
            name = attrs.evolve(name_in(registry), digest=made.top.digest)
            with pytest.raises(DigestMismatch, match=str(made.top.digest)):
                client.manifest(name)

    def test_the_header_is_not_believed(self) -> None:
        """REG12: what the registry says of the digest changes nothing."""
        with Registry() as registry, registry.client(settings=HASTY) as client:
            made = make(1)
            put(registry, "group/base", made)
            registry.habits = Habits(wrong_digest_header=True)
            name = attrs.evolve(name_in(registry), digest=made.top.digest)

            assert client.manifest(name).descriptor == made.top
            with pytest.raises(DigestMismatch):
                client.manifest(name_in(registry))


@pytest.fixture
def tls(tmp_path: Path) -> tuple[ssl.SSLContext, Path]:
    """Return the context of a server, and the certificate that vouches for it."""
    import shutil
    import subprocess

    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl (package openssl)")
    command = [openssl, "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"]
    command += ["-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=registry"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    return context, tmp_path / "cert.pem"


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names that are looked up from now on."""
    seen: list[str] = []
    real = socket.getaddrinfo

    def watched(host: object, *more: object, **options: object) -> object:
        seen.append(str(host))
        return real(host, *more, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", watched)
    return seen
