"""
A real Docker engine loads our archives and runs what is in them, and we load its own.

The engine is started for the test, with everything that it has in a directory of ours.
"""

import contextlib
import io
import os
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from jailbox.engine.choose import default_engine
from jailbox.engine.local import LocalEngine
from jailbox.linux.workshop import Workshop
from jailbox.spec.image import ImageConfig
from jailbox.spec.platform import Platform
from jailbox.store.archive import load, save
from jailbox.store.rootfs import import_rootfs
from jailbox.store.store import Store
from tests.store.formats import packed
from tests.store.images import named

pytestmark = [pytest.mark.root, pytest.mark.userns, pytest.mark.slow]

HERE = Platform.parse("linux/amd64")
BUSYBOX = Path("/bin/busybox")
RUNTIME = Path("/run/docker")

Docker: TypeAlias = Callable[..., str]


def root_file_system() -> bytes:
    """Make an archive with a shell in it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("bin", "dev", "etc", "proc", "sys"):
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(info)
        archive.add(BUSYBOX, "bin/busybox")
        info = tarfile.TarInfo("bin/sh")
        info.type, info.linkname, info.mode = tarfile.LNKTYPE, "bin/busybox", 0o755
        archive.addfile(info)
    return buffer.getvalue()


def remove_groups(name: str) -> None:
    """Remove the control groups that the engine has left."""
    for top in Path("/sys/fs/cgroup").glob(f"**/jailbox/{name}"):
        for place, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(place)


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[Docker]:
    """Start an engine without networks; return how to talk to it."""
    engine, client = shutil.which("dockerd"), "/usr/bin/docker"
    if engine is None or not os.path.exists(client):
        pytest.skip("no docker engine")
    if not BUSYBOX.exists():
        pytest.skip("no static busybox")
    place = tmp_path / "docker"
    place.mkdir()
    was_there = RUNTIME.exists()
    group = f"docker-{os.getpid()}"
    address = f"unix://{place}/socket"

    def run(*words: object) -> str:
        said = subprocess.run(
            [client, "-H", address, *(str(word) for word in words)],
            env={"PATH": os.environ["PATH"], "HOME": str(place)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert said.returncode == 0, said.stderr
        return said.stdout

    with (place / "log").open("wb") as log:
        daemon = subprocess.Popen(
            [
                *(engine, "-H", address, "--bridge=none", "--iptables=false"),
                *("--ip6tables=false", "--storage-driver=vfs"),
                *(f"--cgroup-parent=/jailbox/{group}", f"--pidfile={place}/pid"),
                *(f"--data-root={place}/data", f"--exec-root={place}/exec"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        begun = time.monotonic()
        while not (place / "socket").is_socket():
            assert daemon.poll() is None, (place / "log").read_text()
            assert time.monotonic() - begun < 60
            # Nothing can be waited for before the socket is there.
            time.sleep(0.05)
        run("version")
        yield run
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(60)
        remove_groups(group)
        if not was_there:
            shutil.rmtree(RUNTIME, ignore_errors=True)


def test_docker_engine(docker: Docker, tmp_path: Path) -> None:
    """
    It loads archives with layers of every kind under the ids that they have here, runs
    them, and what it saves comes back under the same ids.
    """
    engine = default_engine()
    assert isinstance(engine, LocalEngine)
    data = root_file_system()
    ids = {}
    with Store(tmp_path / "store", workshop=lambda: Workshop(engine.keeper)) as store:
        for kind in ("plain", "gzip", "zstd"):
            name = f"localhost/box:{kind}"
            image = import_rootfs(
                store,
                io.BytesIO(packed(data, kind)),
                platform=HERE,
                config=ImageConfig(
                    cmd=("/bin/sh", "-c", "echo hello $KIND"),
                    env={"KIND": kind, "PATH": "/bin"},
                ),
                names=[named(name)],
            )
            ids[name] = str(image.record.config)
            path = tmp_path / f"{kind}.tar"
            save(store, [(image.record, image.names)], path)

            assert name in docker("load", "-i", path)
            assert docker("inspect", "--format={{.Id}}", name).strip() == ids[name]
            said = docker("run", "--rm", "--network=none", name)
            assert said == f"hello {kind}\n"

        docker("save", "-o", tmp_path / "theirs.tar", *ids)
        loaded = load(store, tmp_path / "theirs.tar", platform=HERE, move=True)

        assert {
            str(name): str(one.record.config) for one in loaded for name in one.names
        } == ids
