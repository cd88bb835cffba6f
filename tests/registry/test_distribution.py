"""The real server: Distribution, as Debian ships it, with passwords and with TLS."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

from jailbox.errors import ImageNotFound, RegistryError, Unauthorized
from jailbox.registry.client import Client
from jailbox.registry.credentials import Keychain, Login
from jailbox.registry.events import Done, Event
from jailbox.registry.pull import pull
from jailbox.registry.push import copy, push
from jailbox.registry.settings import Endpoint
from jailbox.spec.platform import Platform
from jailbox.spec.reference import Reference
from tests.registries import HASTY, Made, Shelf, index_of, make

AMD64 = Platform.parse("linux/amd64")
USER, PASSWORD = "somebody", "pass:word with spaces"

pytestmark = pytest.mark.slow


@attrs.frozen
class Server:
    """A running server."""

    address: str
    root: Path

    def name(self, path: str = "group/base:1") -> Reference:
        """Return the name of an image in it."""
        return Reference.parse(f"{self.address}/{path}")


def free_port() -> int:
    """Return a port of this machine that nobody listens at."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextmanager
def distribution(root: Path, http: str = "", more: str = "") -> Iterator[Server]:
    """Run the server until the end of the block."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("no docker-registry (package docker-registry)")
    port = free_port()
    config = root / "config.yml"
    config.write_text(
        f"""\
version: 0.1
log: {{level: error}}
storage:
  filesystem: {{rootdirectory: {root}/data}}
  delete: {{enabled: true}}
http:
  addr: 127.0.0.1:{port}
{http}{more}"""
    )
    with (root / "log").open("wb") as log:
        server = subprocess.Popen(
            [program, "serve", config], stdout=log, stderr=log, cwd=root
        )
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert server.poll() is None, (root / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.02)
        yield Server(f"127.0.0.1:{port}", root)
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server that lets everybody in."""
    with distribution(tmp_path_factory.mktemp("plain")) as server:
        yield server


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server that wants a password."""
    root = tmp_path_factory.mktemp("guarded")
    htpasswd = shutil.which("htpasswd")
    if htpasswd is None:
        pytest.skip("no htpasswd (package apache2-utils)")
    line = subprocess.run(
        [htpasswd, "-Bbn", USER, PASSWORD], capture_output=True, check=True
    ).stdout
    (root / "users").write_bytes(line)
    more = f"auth:\n  htpasswd: {{realm: here, path: {root}/users}}\n"
    with distribution(root, more=more) as server:
        yield server


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where a certificate for 127.0.0.1 is, its key and its authority."""
    root = tmp_path_factory.mktemp("certificate")
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl (package openssl)")
    new = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt"]
    new += ["ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    for arguments in (
        [*new, "-subj", "/CN=test authority", "-keyout", "ca.key", "-out", "ca.pem"],
        [
            *new,
            *("-subj", "/CN=registry", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
            *("-CA", "ca.pem", "-CAkey", "ca.key"),
            *("-keyout", "server.key", "-out", "server.pem"),
        ],
    ):
        subprocess.run(arguments, cwd=root, capture_output=True, check=True)
    return root


@pytest.fixture(scope="module")
def encrypted(
    certificate: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Return a server that speaks TLS, with a certificate of a private authority."""
    http = (
        f"  tls: {{certificate: {certificate}/server.pem,"
        f" key: {certificate}/server.key}}\n"
    )
    with distribution(tmp_path_factory.mktemp("tls"), http) as server:
        yield server


def client_of(
    server: Server, login: Login | None = None, *, endpoint: Endpoint | None = None
) -> Client:
    """Make a client that may speak to a server."""
    logins = {} if login is None else {server.address: login}
    return Client(
        endpoints={server.address: endpoint or Endpoint(plain_http=True)},
        keychain=Keychain(logins),
        settings=HASTY,
    )


def there_and_back(client: Client, server: Server, made: Made, path: str) -> Shelf:
    """Push an image and pull it again."""
    shelf = Shelf()
    name = server.name(path)
    push(client, made.top, made, name)
    pulled = pull(client, name, shelf, platform=AMD64)
    assert pulled.top == made.top
    return shelf


class TestPlain:
    @pytest.mark.parametrize("docker", [False, True])
    def test_there_and_back(self, plain: Server, *, docker: bool) -> None:
        """What the real server was given, it gives back."""
        made = make(3, docker=docker, big=3_000_000)
        with client_of(plain) as client:
            shelf = there_and_back(client, plain, made, f"back/{docker}:1".lower())

        assert shelf.blobs == made.blobs

    def test_index(self, plain: Server) -> None:
        """An index, with an index in it, too."""
        inner = index_of({"linux/arm64": make(platform="linux/arm64")})
        made = index_of({"linux/amd64": make(), "": inner})
        with client_of(plain) as client:
            shelf = there_and_back(client, plain, made, "index:1")

        assert made.top.digest in shelf.documents

    def test_nothing_twice(self, plain: Server) -> None:
        """REG-01: the second push sends nothing; another name of the blobs mounts."""
        made = make(3)
        events: list[Event] = []
        with client_of(plain) as client:
            push(client, made.top, made, plain.name("twice:1"))
            push(client, made.top, made, plain.name("twice:2"), on_event=events.append)
            assert {e.how for e in events if isinstance(e, Done)} == {"present"}
            events.clear()
            copy(
                client,
                plain.name("twice:1"),
                plain.name("thrice:1"),
                on_event=events.append,
            )
            assert {e.how for e in events if isinstance(e, Done)} == {"mounted"}
            assert set(client.tags(plain.name("twice"))) == {"1", "2"}

    def test_verbs(self, plain: Server) -> None:
        """Names are resolved, listed, and deleted."""
        made = make()
        with client_of(plain) as client:
            push(client, made.top, made, plain.name("verbs:1"))
            assert client.resolve(plain.name("verbs:1")) == made.top
            assert (
                client.manifest(plain.name("verbs:1")).data
                == (made.documents[made.top.digest][1])
            )
            assert client.referrers(plain.name("verbs:1")) == ()
            client.delete(attrs.evolve(plain.name("verbs"), digest=made.top.digest))
            with pytest.raises(ImageNotFound):
                client.resolve(plain.name("verbs:1"))
            with pytest.raises(ImageNotFound):
                client.tags(plain.name("never-there"))

    def test_many_tags(self, plain: Server) -> None:
        """A long list of tags is complete."""
        made = make(1)
        with client_of(plain) as client:
            push(client, made.top, made, plain.name("many:0"))
            held = plain.root / "data/docker/registry/v2/repositories/many"
            tags = held / "_manifests/tags"
            for number in range(1, 250):
                shutil.copytree(tags / "0", tags / str(number))

            assert len(client.tags(plain.name("many"))) == 250

    def test_damaged(self, plain: Server) -> None:
        """A layer that rotted on the server's disk is found."""
        made = make(1, big=50_000)
        with client_of(plain) as client:
            push(client, made.top, made, plain.name("rotten:1"))
            document = json.loads(made.documents[made.top.digest][1])
            hexed = document["layers"][0]["digest"][7:]
            blobs = plain.root / "data/docker/registry/v2/blobs/sha256"
            file = blobs / hexed[:2] / hexed / "data"
            data = bytearray(file.read_bytes())
            data[1000] ^= 1
            file.write_bytes(data)

            with pytest.raises(Exception, match="expected sha256"):
                pull(client, plain.name("rotten:1"), Shelf(), platform=AMD64)

    def test_https_by_default(self, plain: Server) -> None:
        """REG8: plain HTTP is not spoken unless it was allowed, to this machine too."""
        with (
            client_of(plain, endpoint=Endpoint()) as client,
            pytest.raises(RegistryError, match="TLS") as caught,
        ):
            client.resolve(plain.name())
        assert "plain_http" in str(caught.value.hint)


class TestGuarded:
    def test_with_the_password(self, guarded: Server) -> None:
        """Who knows the password may do everything."""
        made = make(2, big=200_000)
        with client_of(guarded, Login(USER, PASSWORD)) as client:
            assert there_and_back(client, guarded, made, "a:1").blobs == made.blobs

    @pytest.mark.parametrize(
        "login", [None, Login(USER, "wrong"), Login("x", PASSWORD)]
    )
    def test_without(self, guarded: Server, login: Login | None) -> None:
        """Who does not is told so, for pulls and pushes."""
        made = make(1)
        with client_of(guarded, login) as client:
            with pytest.raises(Unauthorized, match="401"):
                client.resolve(guarded.name())
            with pytest.raises(Unauthorized, match="401") as caught:
                push(client, made.top, made, guarded.name())
        assert PASSWORD not in str(caught.value)
        assert any(guarded.address in note for note in caught.value.__notes__)


class TestEncrypted:
    def test_with_its_authority(self, encrypted: Server, certificate: Path) -> None:
        """REG-05: a private authority is trusted for the registry it was named for."""
        made = make(2, big=2_000_000)
        ca = certificate / "ca.pem"
        for given in (ca, str(ca), ca.read_bytes()):
            with client_of(encrypted, endpoint=Endpoint(ca=given)) as client:
                shelf = there_and_back(client, encrypted, made, "a:1")
            assert shelf.blobs == made.blobs

    def test_without(self, encrypted: Server) -> None:
        """REG8: without it there is no connection, and no other way is tried."""
        with (
            client_of(encrypted, endpoint=Endpoint()) as client,
            pytest.raises(RegistryError, match="certificate") as caught,
        ):
            client.resolve(encrypted.name())
        assert "ca=" in str(caught.value.hint)

    def test_another_name(self, encrypted: Server, certificate: Path) -> None:
        """REG8: a certificate for another host is refused, and both are named."""
        port = encrypted.address.partition(":")[2]
        name = Reference.parse(f"localhost:{port}/a:1")
        endpoints = {f"localhost:{port}": Endpoint(ca=certificate / "ca.pem")}
        with (
            Client(endpoints=endpoints, keychain=Keychain(), settings=HASTY) as client,
            pytest.raises(RegistryError, match="localhost") as caught,
        ):
            client.resolve(name)
        assert "127.0.0.1" in str(caught.value)
