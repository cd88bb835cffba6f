"""
A virtual machine with a kernel of our choice, without any rights or hardware.

It runs under QEMU's own translator (TCG), some twenty times slower than the machine it
runs on, and boots in a few seconds because it has next to no devices. The kernel is
started directly; an initial file system of some 20 files loads what it lacks and hands
over to the disk (`tests.vm.disk`), on which an agent waits for requests.

A power cut is `VM.cut`: what the guest had not yet sent to a disk of its own is lost.
Disks given as *disks* keep what was written, and can be given to the next machine.
"""

import contextlib
import gzip
import json
import lzma
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import attrs

from tests import scratch
from tests.vm.agent import PORT

BUSYBOX = "/bin/busybox"
QEMU = "qemu-system-x86_64"
MODULES = ("virtio_pci", "virtio_blk", "virtio_console", "overlay")
BOOT_PATIENCE = 120.0

INIT = """\
#!/bin/busybox sh
# Loads what the kernel lacks, mounts the disk and goes over to it.
export PATH=/bin
busybox mount -t proc proc /proc
for module in /modules/*; do
  busybox insmod $module || echo "insmod $module failed"
done
busybox mount -t devtmpfs dev /dev
busybox mount -t ext4 -o noatime /dev/vda /root || busybox sh
cd /root
busybox mount -t proc -o nosuid,nodev,noexec proc proc
busybox mount -t sysfs -o nosuid,nodev,noexec sysfs sys
busybox mount -t devtmpfs dev dev
busybox mkdir -p dev/pts dev/shm
busybox mount -t devpts -o gid=5,mode=620 devpts dev/pts
busybox mount -t tmpfs -o mode=1777 shm dev/shm
busybox mount -t tmpfs -o mode=755 run run
busybox mount -t cgroup2 cgroup2 sys/fs/cgroup
busybox ifconfig lo 127.0.0.1 up
exec busybox switch_root /root /sbin/init
"""


def why_not() -> str | None:
    """Return why no virtual machine can be started here, or None."""
    for program, package in ((QEMU, "qemu-system-x86"), ("mke2fs", "e2fsprogs")):
        if shutil.which(program) is None:
            return f"no {program} (package {package})"
    if not os.path.exists(BUSYBOX):
        return f"no {BUSYBOX} (package busybox-static)"
    return None


# ---- kernels -----------------------------------------------------------------


@attrs.frozen
class Kernel:
    """
    A kernel as ``tools/kernels`` leaves it.

    Attributes:
        place: A directory with ``vmlinuz`` and ``modules``.
    """

    place: Path

    @property
    def release(self) -> str:
        """The version as the kernel spells it."""
        return self.place.name

    @property
    def version(self) -> tuple[int, ...]:
        """The first two numbers of it."""
        return tuple(int(part) for part in self.release.split(".")[:2])

    @property
    def image(self) -> Path:
        """What is booted."""
        return self.place / "vmlinuz"

    def modules(self, names: Sequence[str]) -> list[tuple[str, bytes]]:
        """Return the modules *names* and what they need, each after its needs."""
        found: dict[str, bytes] = {}

        def add(name: str) -> None:
            data = self._module(name)
            if name in found or data is None:
                return
            for needed in _needs(data):
                add(needed)
            found[name] = data

        for name in names:
            add(name)
        return list(found.items())

    def _module(self, name: str) -> bytes | None:
        """Read a module; one that is not there is built into the kernel."""
        plain = self.place / "modules" / f"{name}.ko"
        if plain.exists():
            return plain.read_bytes()
        packed = plain.with_suffix(".ko.xz")
        return lzma.decompress(packed.read_bytes()) if packed.exists() else None


def _needs(module: bytes) -> list[str]:
    found = re.search(rb"\0depends=([^\0]*)\0", module)
    names = found[1].decode().split(",") if found else []
    return [name for name in names if name]


def kernels(place: Path) -> list[Kernel]:
    """Find the kernels below *place*, the oldest first."""
    found = [Kernel(image.parent) for image in place.glob("*/vmlinuz")]
    return sorted(found, key=lambda kernel: kernel.version)


def _initial(kernel: Kernel, place: Path) -> Path:
    """Pack the initial file system of *kernel*."""
    root = place / "initial"
    for name in ("bin", "dev", "modules", "proc", "root"):
        (root / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, root / "bin/busybox")
    for number, (name, data) in enumerate(kernel.modules(MODULES)):
        (root / "modules" / f"{number:02}-{name}.ko").write_bytes(data)
    (root / "init").write_text(INIT, encoding="ascii")
    (root / "init").chmod(0o755)
    names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    packed = subprocess.run(
        [BUSYBOX, "cpio", "-o", "-H", "newc"],
        cwd=root,
        input=names.encode(),
        capture_output=True,
        check=True,
    )
    initial = place / "initial.gz"
    initial.write_bytes(gzip.compress(packed.stdout, 1))
    return initial


# ---- the machine ---------------------------------------------------------------


@attrs.frozen
class Done:
    """What came of a program in the machine."""

    status: int
    output: str


class MachineError(Exception):
    """The machine does not do what it should; the end of its console is told."""


class VM:
    """
    A machine that is switched on with `start` and off at the end of ``with``.

    Args:
        kernel: What it boots.

        root: Image of its root file system; what is written to it is forgotten.

        disks: Images of further disks, ``/dev/vdb`` and on. They are written to.

        memory: Its memory, as QEMU reads it.

        cpus: Its processors.
    """

    def __init__(
        self,
        kernel: Kernel,
        root: Path,
        *,
        disks: Sequence[Path] = (),
        memory: str = "1280M",
        cpus: int = 2,
    ) -> None:
        self.kernel = kernel
        self._disks = [(root, ",snapshot=on"), *((disk, "") for disk in disks)]
        self._memory = memory
        self._cpus = cpus
        self._place: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._waiting = b""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.cut()

    def start(self) -> None:
        """
        Switch it on, and wait until its agent answers.

        Raises:
            MachineError: If it does not come up.
        """
        self._place = scratch.make("vm")
        try:
            command = self._command(self._place)
            with (self._place / "errors").open("wb") as errors:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                )
            self._connect(time.monotonic() + BOOT_PATIENCE)
            self._receive(time.monotonic() + BOOT_PATIENCE, "ready")
        except BaseException:
            self.cut()
            raise

    def _command(self, place: Path) -> list[str]:
        options = (
            "console=ttyS0 panic=-1 quiet loglevel=4 mitigations=off nokaslr"
            " random.trust_cpu=on no_timer_check rdinit=/init"
        )
        command = [QEMU, "-accel", "tcg,thread=multi", "-cpu", "max"]
        command += ["-M", "pc,usb=off,vmport=off", "-no-reboot", "-nodefaults"]
        command += ["-smp", str(self._cpus), "-m", self._memory, "-display", "none"]
        command += ["-kernel", str(self.kernel.image), "-append", options]
        command += ["-initrd", str(_initial(self.kernel, place))]
        command += ["-serial", f"file:{place}/console"]
        command += ["-device", "virtio-serial-pci"]
        command += ["-chardev", f"socket,id=a,path={place}/agent,server=on,wait=off"]
        command += ["-device", f"virtserialport,chardev=a,name={PORT}"]
        for number, (disk, more) in enumerate(self._disks):
            drive = f"file={disk},if=none,id=d{number},format=raw{more}"
            command += ["-drive", drive, "-device", f"virtio-blk-pci,drive=d{number}"]
        return command

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        timeout: float = 300,
    ) -> Done:
        """
        Run a program as root and wait for it.

        Raises:
            MachineError: If it takes longer than *timeout*, or the machine is gone.
        """
        assert self._socket is not None
        request = {"argv": list(argv), "cwd": cwd, "env": {**ENV, **(env or {})}}
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        deadline = time.monotonic() + timeout
        output = ""
        while True:
            try:
                message = self._receive(deadline, "output", "status")
            except MachineError as error:
                error.add_note(f"{argv} said before:\n{output}")
                raise
            if "status" in message:
                return Done(message["status"], output)
            output += message["output"]

    def cut(self) -> None:
        """Cut its power. Harmless when it is off."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._place is not None:
            shutil.rmtree(self._place)
            self._place = None
        self._waiting = b""

    def _connect(self, deadline: float) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        while True:
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                self._socket.connect(f"{self._place}/agent")
                return
            self._check(deadline)
            time.sleep(0.05)

    def _receive(self, deadline: float, *keys: str) -> dict[str, Any]:
        """Wait for a message that has one of *keys*."""
        assert self._socket is not None
        while True:
            line, separator, rest = self._waiting.partition(b"\n")
            if separator:
                self._waiting = rest
                message: dict[str, Any] = json.loads(line)
                if any(key in message for key in keys):
                    return message
                continue
            self._check(deadline)
            self._socket.settimeout(1)
            with contextlib.suppress(TimeoutError):
                self._waiting += self._socket.recv(65536)

    def _check(self, deadline: float) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            raise MachineError(f"{self.kernel.release} is gone\n{self._console()}")
        if time.monotonic() > deadline:
            raise MachineError(f"{self.kernel.release} is late\n{self._console()}")

    def _console(self) -> str:
        text = ""
        for name in ("errors", "console"):
            with contextlib.suppress(OSError):
                path = Path(f"{self._place}/{name}")
                text += path.read_text(encoding="utf-8", errors="replace")[-4000:]
        return text


ENV = {
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}
"""What programs in the machine find in their environment."""
