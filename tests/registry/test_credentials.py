"""Who we are at which registry."""

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from jailbox.errors import HostError, SpecError
from jailbox.registry.credentials import (
    Found,
    IdentityToken,
    Keychain,
    Login,
    RegistryToken,
    credential_files,
)

CANARY = "canary-5ecret"


def auth(user: str, password: str) -> dict[str, str]:
    """Make an entry as `docker login` writes it."""
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


class Helpers:
    """Credential helpers that answer what a test says."""

    def __init__(self, **answers: str | int | Exception) -> None:
        self.answers = answers
        self.asked: list[tuple[str, str]] = []

    def __call__(
        self, argv: list[str], asked: str
    ) -> "subprocess.CompletedProcess[str]":
        """Answer as a program would."""
        self.asked.append((argv[0], asked))
        answer = self.answers[argv[0].removeprefix("docker-credential-")]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, int):
            return subprocess.CompletedProcess(argv, answer, CANARY, CANARY)
        code = 1 if answer.startswith("credentials not found") else 0
        return subprocess.CompletedProcess(argv, code, answer, "")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return where a file of credentials may be written."""
    return tmp_path / "config.json"


def keychain(file: Path, document: object, helpers: Helpers | None = None) -> Keychain:
    """Make a keychain of one file."""
    file.write_text(json.dumps(document), encoding="utf-8")
    return Keychain({}, (str(file),), run=helpers or Helpers())


def secret_of(found: Found) -> str:
    """Return the one secret that was found."""
    credentials = found.credentials
    assert credentials is not None
    secret = (
        credentials.password if isinstance(credentials, Login) else credentials.token
    )
    return secret.reveal()


class TestGiven:
    def test_touches_no_disk(self) -> None:
        """REG-02: for a registry with credentials given, no file is read."""
        given = {"r.example": Login("me", CANARY)}
        # A file that cannot be read as one would be an error.
        keys = Keychain(given, ("/proc/self/mem",))

        assert keys.find("R.example") == Found(Login("me", CANARY))
        with pytest.raises(HostError):
            keys.find("other.example")

    def test_other_types_are_refused(self) -> None:
        """A pair of texts is no login: nobody guesses what the second one is."""
        with pytest.raises(SpecError, match="Login"):
            Keychain({"r.example": ("me", CANARY)})  # type: ignore[dict-item]

    def test_not_shown(self) -> None:
        """REG9: a keychain can be printed."""
        keys = Keychain({"r.example": Login("me", CANARY)})

        assert CANARY not in repr(keys)

    def test_nobody(self) -> None:
        """Without anything given or read, we are nobody in particular."""
        assert Keychain().find("r.example") == Found()


class TestFiles:
    def test_places(self) -> None:
        """Podman's files come first, then Docker's; variables move them."""
        assert credential_files({"XDG_RUNTIME_DIR": "/run/user/7"}, "/home/me") == (
            "/run/user/7/containers/auth.json",
            "/home/me/.config/containers/auth.json",
            "/home/me/.docker/config.json",
        )
        assert credential_files(
            {"XDG_CONFIG_HOME": "/c", "DOCKER_CONFIG": "/d"}, "/home/me"
        ) == ("/c/containers/auth.json", "/d/config.json")
        assert credential_files({"REGISTRY_AUTH_FILE": "/f"}, "/home/me") == ("/f",)

    @pytest.mark.parametrize(
        ("entry", "expected"),
        [
            (auth("me", "a:b"), Login("me", "a:b")),
            ({"username": "me", "password": "x"}, Login("me", "x")),
            ({"identitytoken": "x"}, IdentityToken("x")),
            ({**auth("me", "y"), "identitytoken": "x"}, IdentityToken("x")),
            ({"registrytoken": "x"}, RegistryToken("x")),
            ({"email": "me@example"}, None),
            ({}, None),
        ],
    )
    def test_entries(self, file: Path, entry: dict[str, str], expected: Any) -> None:  # noqa: ANN401
        """Every form in which a file holds credentials is read."""
        keys = keychain(file, {"auths": {"r.example": entry}})

        assert keys.find("r.example").credentials == expected

    @pytest.mark.parametrize(
        "key",
        ["r.example", "R.Example", "https://r.example", "http://r.example/v1/"],
    )
    def test_spellings(self, file: Path, key: str) -> None:
        """Docker's keys may be URLs."""
        keys = keychain(file, {"auths": {key: auth("me", "x")}})

        assert secret_of(keys.find("r.example")) == "x"

    @pytest.mark.parametrize(
        "key",
        [
            "r.example:5000",
            "r.example.evil",
            "evil.r.example",
            "r.exampl",
            "https://evil/r.example",
            "https://r.example@evil",
            "r.example@evil",
            "evil/r.example",
            "",
            "https://",
        ],
    )
    def test_other_registries(self, file: Path, key: str) -> None:
        """REG6: what is for another registry, however similar, is not for this one."""
        keys = keychain(file, {"auths": {key: auth("me", CANARY)}})

        assert keys.find("r.example") == Found()

    def test_docker_hub(self, file: Path) -> None:
        """What Docker keeps under its old address is for docker.io."""
        keys = keychain(
            file, {"auths": {"https://index.docker.io/v1/": auth("me", "x")}}
        )

        assert secret_of(keys.find("docker.io")) == "x"

    def test_repositories(self, file: Path) -> None:
        """Podman's keys may name a repository, or its beginning; the longest wins."""
        keys = keychain(
            file,
            {
                "auths": {
                    "r.example": auth("all", "1"),
                    "r.example/group": auth("group", "2"),
                    "r.example/group/base": auth("base", "3"),
                }
            },
        )

        assert secret_of(keys.find("r.example", "other/base")) == "1"
        assert secret_of(keys.find("r.example", "group/other")) == "2"
        assert secret_of(keys.find("r.example", "group/base")) == "3"
        assert secret_of(keys.find("r.example", "groups/base")) == "1"

    def test_the_first_file_wins(self, tmp_path: Path) -> None:
        """A file is asked only if those before it know nothing."""
        first, second = tmp_path / "1", tmp_path / "2"
        first.write_text(json.dumps({"auths": {"a.example": auth("me", "1")}}))
        second.write_text(
            json.dumps(
                {"auths": {"a.example": auth("me", "2"), "b.example": auth("me", "3")}}
            )
        )
        keys = Keychain({}, (str(tmp_path / "0"), str(first), str(second)))

        assert secret_of(keys.find("a.example")) == "1"
        assert secret_of(keys.find("b.example")) == "3"

    @pytest.mark.parametrize(
        "text",
        [
            f'{{"auths": {{"r.example": {{"auth": "{CANARY}"}}}}}}',
            f'{{"auths": "{CANARY}"',
            f'["{CANARY}"]',
            f"{CANARY}",
        ],
    )
    def test_broken(self, file: Path, text: str) -> None:
        """A file that cannot be understood is named; nothing of it is repeated."""
        file.write_text(text)

        with pytest.raises(HostError, match=r"config\.json") as caught:
            Keychain({}, (str(file),)).find("r.example")
        assert CANARY not in str(caught.value)

    def test_empty(self, file: Path) -> None:
        """An empty file is none."""
        file.write_text("\n")

        assert Keychain({}, (str(file),)).find("r.example") == Found()


class TestHelpers:
    def test_asked_for_one_registry(self, file: Path) -> None:
        """A helper of a registry is asked for this registry, and nothing else is."""
        helpers = Helpers(one='{"ServerURL": "x", "Username": "me", "Secret": "x"}')
        keys = keychain(
            file,
            {
                "credHelpers": {"r.example": "one"},
                "credsStore": "two",
                "auths": {"r.example": auth("me", CANARY)},
            },
            helpers,
        )

        assert keys.find("r.example").credentials == Login("me", "x")
        assert helpers.asked == [("docker-credential-one", "r.example")]

    def test_store(self, file: Path) -> None:
        """The store of credentials is asked about whatever the file does not have."""
        helpers = Helpers(keep='{"Username": "<token>", "Secret": "x"}')
        keys = keychain(
            file, {"credsStore": "keep", "auths": {"r.example": {}}}, helpers
        )

        assert keys.find("r.example").credentials == IdentityToken("x")
        assert keys.find("docker.io").credentials == IdentityToken("x")
        assert [each for _, each in helpers.asked] == [
            "r.example",
            "https://index.docker.io/v1/",
        ]

    def test_missing(self, file: Path) -> None:
        """REG-02: a helper that is not installed is a warning, and we are nobody."""
        helpers = Helpers(gone=FileNotFoundError())
        keys = keychain(
            file,
            {
                "credHelpers": {"r.example": "gone"},
                "auths": {"r.example": auth("me", CANARY), "s.example": auth("a", "b")},
            },
            helpers,
        )
        found = keys.find("r.example")

        assert found.credentials is None
        assert len(found.warnings) == 1
        assert "docker-credential-gone" in found.warnings[0]
        assert "r.example" in found.warnings[0]

    def test_nothing_there(self, file: Path) -> None:
        """A helper that has nothing for a registry does not fail."""
        helpers = Helpers(keep="credentials not found in native keychain\n")
        keys = keychain(file, {"credsStore": "keep"}, helpers)

        assert keys.find("r.example") == Found()

    @pytest.mark.parametrize(
        "answer",
        [
            2,
            PermissionError(13, "Permission denied"),
            subprocess.TimeoutExpired(CANARY, 60, CANARY),
            CANARY,
            "[]",
            '{"Username": 1, "Secret": "x"}',
        ],
    )
    def test_failing(self, file: Path, answer: str | int | Exception) -> None:
        """REG7: a helper that fails is an error; no other entry is used instead."""
        keys = keychain(
            file,
            {
                "credHelpers": {"r.example": "bad"},
                "auths": {"r.example": auth("me", "x"), "s.example": auth("a", "b")},
            },
            Helpers(bad=answer),
        )

        with pytest.raises(HostError, match="docker-credential-bad") as caught:
            keys.find("r.example")
        assert "r.example" in str(caught.value)
        assert CANARY not in str(caught.value)

    @pytest.mark.parametrize("name", ["../evil", "/bin/sh", "a b", "-x", "a;b"])
    def test_names(self, file: Path, name: str) -> None:
        """A helper is a name, not a path and not a command line."""
        helpers = Helpers()
        keys = keychain(file, {"credHelpers": {"r.example": name}}, helpers)

        with pytest.raises(HostError, match="helper"):
            keys.find("r.example")
        assert helpers.asked == []

    def test_really_run(
        self, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A helper on the path is run, and gets the registry on its stdin."""
        helper = tmp_path / "docker-credential-real"
        helper.write_text(
            "#!/bin/sh\nread name\n"
            'printf \'{"Username":"%s","Secret":"%s"}\' $1 $name\n'
        )
        helper.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        file.write_text(json.dumps({"credsStore": "real"}))

        found = Keychain({}, (str(file),)).find("r.example")

        assert found.credentials == Login("get", "r.example")
