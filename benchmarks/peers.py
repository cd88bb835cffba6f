"""
How much faster is it than calling a sandbox program, or a daemon?

`jailbox.run` of the no-op against `subprocess.run` of ``bwrap --unshare-all``, of
``crun run`` and of ``runc run`` with Docker's default confinement in the same root
directory, and against docker-py. Who is not installed is absent.

Answer: see ``docs/explanation/speed.md``.
"""

import contextlib
import glob
import importlib
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

import jailbox as jb
from benchmarks.measure import Bar, Contender, Turn, ratio, rounds, timed
from benchmarks.question import Answer, Options
from benchmarks.stage import NOOP, Stage
from benchmarks.worker import Worker, unified_mount

__all__ = [
    "ask",
    "bundle",
    "docker_client",
    "remove_groups",
    "runtime_worker",
    "set_group",
]

# Docker's defaults, which jailbox's are no wider than.
_CAPABILITIES = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD",
    "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
]  # fmt: skip
_MASKED = [
    "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi",
    "/sys/firmware",
]  # fmt: skip
_READONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


def bundle(place: Path, root: Path, argv: tuple[str, ...]) -> Path:
    """Write an OCI bundle for *argv* in *root*: namespaces, mounts, limits, masks."""
    capabilities = dict.fromkeys(("bounding", "effective", "permitted"), _CAPABILITIES)
    safe = ["nosuid", "noexec", "nodev"]
    mounts = [
        ("/proc", "proc", []),
        ("/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        (
            "/dev/pts",
            "devpts",
            ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
        ),
        ("/dev/shm", "tmpfs", [*safe, "mode=1777", "size=65536k"]),
        ("/dev/mqueue", "mqueue", safe),
        ("/sys", "sysfs", [*safe, "ro"]),
    ]
    config = {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": list(argv),
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": capabilities,
            "noNewPrivileges": True,
        },
        "root": {"path": str(root), "readonly": True},
        "hostname": "peer",
        "mounts": [
            {"destination": where, "type": kind, "source": kind, "options": options}
            for where, kind, options in mounts
        ],
        "linux": {
            "cgroupsPath": "/jailbox/peer",
            "resources": {"memory": {"limit": 256 << 20}, "pids": {"limit": 2048}},
            "namespaces": [
                {"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")
            ],
            "maskedPaths": _MASKED,
            "readonlyPaths": _READONLY,
        },
    }
    place.mkdir()
    (place / "config.json").write_text(json.dumps(config))
    return place


def set_group(place: Path, path: str) -> None:
    """Name the control group of the next container of a bundle."""
    file = place / "config.json"
    config = json.loads(file.read_text("utf-8"))
    config["linux"]["cgroupsPath"] = path
    file.write_text(json.dumps(config))


def remove_groups() -> None:
    """Take away what runtimes leave of the groups above those of containers."""
    for path in (*glob.glob("/sys/fs/cgroup/*/jailbox"), "/sys/fs/cgroup/jailbox"):
        with contextlib.suppress(OSError):
            os.rmdir(path)


def runtime_worker(name: str) -> Worker:
    """A worker that can call an OCI runtime on this machine."""
    return Worker(hide_unified=name == "crun" and unified_mount() is not None)


@attrs.frozen
class Docker:
    """A daemon that answered."""

    client: Any
    image: str


def docker_client(stage: Stage) -> Docker | str:
    """Ask for Docker, with the no-op as an image; or say why there is none."""
    try:
        docker: Any = importlib.import_module("docker")
    except ImportError:
        return "docker-py is not installed"
    try:
        client = docker.from_env()
        client.ping()
        archive = shutil.make_archive(str(stage.path / "image"), "tar", stage.root)
        client.api.import_image(archive, repository="jailbox-bench", tag="noop")
    except Exception as error:  # noqa: BLE001  # whatever it is, it is absent
        return f"no daemon answers: {type(error).__name__}"
    return Docker(client, "jailbox-bench:noop")


def _bwrap(stage: Stage) -> Turn:
    command = [
        "bwrap", "--unshare-all", "--bind", str(stage.root), "/", "--proc", "/proc",
        "--dev", "/dev", *NOOP,
    ]  # fmt: skip
    return timed(lambda: subprocess.run(command, capture_output=True, check=True))


def _runtime(worker: Worker, name: str, place: Path) -> Turn:
    numbers = itertools.count()

    def turn() -> list[float]:
        command = [name, "run", "-b", str(place), f"{name}-bench-{next(numbers)}"]
        return worker.ask("spawn", command)

    return turn


@contextlib.contextmanager
def _contenders(
    stage: Stage, absent: dict[str, float | str]
) -> Iterator[list[Contender]]:
    found = []
    with contextlib.ExitStack() as stack:
        if shutil.which("bwrap") is None:
            absent["bwrap"] = "absent: not installed"
        else:
            found.append(Contender("bwrap", _bwrap(stage)))
        for name in ("crun", "runc"):
            if shutil.which(name) is None:
                absent[name] = "absent: not installed"
                continue
            place = bundle(stage.path / name, stage.root, NOOP)
            worker = stack.enter_context(runtime_worker(name))
            turn = _runtime(worker, name, place)
            try:
                turn()
            except RuntimeError as error:
                absent[name] = f"absent: it does not start here ({error})"
                continue
            found.append(Contender(name, turn))
        docker = docker_client(stage)
        if isinstance(docker, str):
            absent["docker-py"] = f"absent: {docker}"
        else:

            def contain() -> None:
                docker.client.containers.run(
                    docker.image, list(NOOP), remove=True, network_mode="none"
                )

            found.append(Contender("docker-py", timed(contain)))
        yield found


def ask(stage: Stage, options: Options) -> Answer:
    """Race them."""
    image = jb.Image.from_dir(stage.root)
    facts: dict[str, float | str] = {}

    def ours() -> None:
        jb.run(image, list(NOOP), check=True)

    with _contenders(stage, facts) as peers:
        contenders = [Contender("jailbox", timed(ours)), *peers]
        found = rounds(contenders, options.some(0.5, 5))
    remove_groups()
    bars = []
    for name, bound in (("bwrap", 2.5), ("crun", 4), ("runc", 10), ("docker-py", 60)):
        medians, quarters = (
            ratio(found, name, "jailbox") if name in found else (None, None)
        )
        bars.append(
            Bar(
                text=f"faster than {name}",
                bound=bound,
                measured=medians,
                lower=quarters,
                at_most=False,
                note=str(facts.get(name, "")),
            )
        )
    if "crun" in found and unified_mount() is not None:
        facts["crun"] = "refuses hybrid control groups: it ran without the v2 mount"
    return Answer(bars=tuple(bars), samples=found, facts=facts)
