"""
Images for other processors.
"""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import jailbox as jb
from jailbox import Container, Image, Store
from jailbox.errors import Unsupported
from jailbox.linux.elf import native

pytestmark = pytest.mark.userns

S390X = b"\x7fELF\2\2\1".ljust(16, b"\0") + b"\0\2\0\x16".ljust(48, b"\0")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Return a store of its own, which is emptied at the end."""
    store = Store(tmp_path / "store")
    yield store
    for image in store.images():
        image.remove(force=True)
    store.close()


@pytest.fixture
def image(store: Store) -> Image:
    """Return an image that claims to be for this machine; its programs are not."""
    if "s390x" in native():
        pytest.skip("this machine runs what is to be foreign")
    files = {
        "bin/sh": S390X,
        "bin/script": b"#!/bin/sh -e\n",
        "bin/busybox": Path("/bin/busybox").read_bytes(),
        "bin/text": b"no program\n",
    }
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
    archive.seek(0)
    return Image.from_tar(archive, store=store)


@pytest.mark.parametrize("program", ["sh", "/bin/sh", "script", "bin/script"])
def test_refused(image: Image, program: str) -> None:
    """The header counts: it says what is wanted, what is available, and what to do."""
    with pytest.raises(Unsupported, match="programs for linux/s390x: /bin/sh") as error:
        jb.run(image, [program])
    hint = str(error.value.hint)
    assert f"linux/{native()[0]}" in hint
    assert "qemu-user-static" in hint


def test_container_refused(image: Image) -> None:
    """A container is refused too, and nothing of it runs."""
    container = Container(image, ["sh"])
    try:
        with pytest.raises(Unsupported, match="s390x"):
            container.start()
    finally:
        container.remove()


def test_own(image: Image) -> None:
    """What is for this machine runs, whatever else is in the image."""
    assert jb.run(image, ["busybox", "echo", "fine"]).stdout == "fine\n"
