"""
Root file systems of Debian's packages, made on this machine.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import jailbox as jb
from jailbox import Image, Store
from jailbox.engine.local import LocalEngine
from jailbox.errors import (
    BootstrapError,
    DeadlineExceeded,
    ImageNotFound,
    NotFound,
    Unsupported,
)
from jailbox.spec.debian import DebianWish

pytestmark = [pytest.mark.userns, pytest.mark.network, pytest.mark.slow]


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Store]:
    """Return a store of its own, without an image."""
    store = Store(tmp_path / "store")
    yield store
    store.close()


@pytest.fixture
def needs_mmdebstrap() -> None:
    """Skip where it is not installed."""
    if shutil.which("mmdebstrap") is None:
        pytest.skip("no mmdebstrap (package mmdebstrap)")


class TestMade:
    """What came out runs, and says nothing of this machine."""

    def test_runs(self, debian_image: Image) -> None:
        """Programs of Debian's run in it, and its package manager knows its content."""
        release = jb.run(debian_image, ["cat", "/etc/debian_version"]).stdout
        assert release.startswith("12.")
        status = jb.run(debian_image, ["dpkg-query", "--show", "apt"], check=True)
        assert status.stdout.startswith("apt\t2.6")
        assert jb.run(debian_image, ["dpkg", "--audit"], check=True).stdout == ""

    def test_owners(self, debian_image: Image) -> None:
        """Files belong to whom they belong to in Debian."""
        script = "stat -c '%U:%G %a' /etc/shadow /var/mail /usr/bin/chage"
        shown = jb.run(debian_image, script, shell=True, check=True).stdout
        assert shown.splitlines() == [
            "root:shadow 640",
            "root:mail 2775",
            "root:shadow 2755",
        ]

    def test_sources(self, debian_image: Image) -> None:
        """Apt in it has its sources and keys: it can install more."""
        with debian_image.open("/etc/apt/sources.list") as file:
            lines = file.read().decode().split("\n\n")
        assert [line.split()[2] for line in lines] == [
            "bookworm",
            "bookworm-updates",
            "bookworm-security",
        ]
        install = "apt-get -qq install --no-install-recommends hello"
        env = {"DEBIAN_FRONTEND": "noninteractive"}
        done = jb.run(
            debian_image,
            f"apt-get -qq update && {install} >/dev/null && hello",
            shell=True,
            env=env,
            network="host",
            check=True,
        )
        assert done.stdout == "Hello, world!\n"

    @pytest.mark.parametrize("path", ["/etc/resolv.conf", "/etc/hostname"])
    def test_nothing_of_the_host(self, debian_image: Image, path: str) -> None:
        """It does not remember the machine that it was made on."""
        with pytest.raises(NotFound):
            debian_image.open(path)

    def test_once(self, debian_image: Image) -> None:
        """Who asks for the same again gets the same, at once, and under a name too."""
        store = debian_image.source.store  # type: ignore[union-attr]
        again = Image.debian("bookworm", store=store, name="base:1", timeout=1)
        assert again == debian_image
        assert Image.get("base:1", store=store, pull="never") == debian_image
        Image.untag("base:1", store=store)


@pytest.mark.usefixtures("needs_mmdebstrap")
class TestRefused:
    """What cannot be made leaves nothing, and says why."""

    def test_no_such_suite(self, empty: Store) -> None:
        """A suite that the mirror has not got is named, with the last words."""
        with pytest.raises(BootstrapError, match="Debian wormbook") as caught:
            Image.debian("wormbook", store=empty)
        assert caught.value.hint == "There is no such suite at that mirror."
        assert "wormbook" in "\n".join(caught.value.__notes__)
        assert_empty(empty)

    def test_no_such_package(self, empty: Store) -> None:
        """A package that there is not is named."""
        with pytest.raises(BootstrapError) as caught:
            Image.debian("bookworm", ["no-such-package"], "essential", store=empty)
        assert caught.value.hint == "There is no such package in that suite."
        assert "no-such-package" in "\n".join(caught.value.__notes__)
        assert_empty(empty)

    def test_no_way(self, empty: Store) -> None:
        """A mirror that does not answer is said to be the reason."""
        with pytest.raises(BootstrapError) as caught:
            Image.debian("bookworm", store=empty, mirror="http://127.0.0.1:9/debian")
        assert caught.value.hint == "The mirror cannot be reached."
        assert_empty(empty)

    def test_foreign_keys(self, empty: Store) -> None:
        """An archive that is signed by other keys than those given is not believed."""
        keys = "/usr/share/keyrings/debian-archive-bullseye-stable.gpg"
        with pytest.raises(BootstrapError) as caught:
            Image.debian("bookworm", store=empty, keyring=keys)
        assert caught.value.hint == (
            "The archive is signed by keys that are not in keyring=."
        )
        assert_empty(empty)

    def test_too_slow(self, empty: Store) -> None:
        """The deadline ends everything that was begun, and nothing is in the store."""
        with pytest.raises(DeadlineExceeded):
            Image.debian("bookworm", store=empty, timeout=1)
        assert_empty(empty)

    def test_no_keys(self, empty: Store) -> None:
        """Keys that are not there are missed before anything is started."""
        with pytest.raises(Unsupported, match="keys of the archive: /no/such/file"):
            Image.debian("bookworm", store=empty, keyring="/no/such/file")

    def test_no_program(self, empty: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without the program, the package to install is named."""
        monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
        with pytest.raises(Unsupported, match="no mmdebstrap") as caught:
            Image.debian("bookworm", store=empty)
        assert "apt-get install mmdebstrap" in str(caught.value.hint)

    def test_offline(self, empty: Store) -> None:
        """A program that is offline makes nothing."""
        engine = LocalEngine(empty.path, offline=True)
        try:
            with pytest.raises(ImageNotFound):
                engine.images.debian(DebianWish(suite="bookworm"))
        finally:
            engine.close()


def assert_empty(store: Store) -> None:
    """Nothing came into the store, and nothing of an attempt is left."""
    assert store.images() == []
    assert store.check().damage == ()
    assert store.path is not None
    for room in ("trees", "tmp", "tags"):
        found = [
            name for _, _, names in os.walk(f"{store.path}/{room}") for name in names
        ]
        assert found == []
