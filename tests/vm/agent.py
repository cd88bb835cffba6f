"""
The other end of `machine.VM.run`, inside of the virtual machine.

It reads requests from a serial port, a line of JSON each, runs what they name, and
sends the output while it comes: lines ``{"output": ...}``, then ``{"status": ...}``.
It needs nothing but Python, and is the only program that the machine starts by itself.
"""

import glob
import json
import os
import subprocess
import sys
import time
from typing import Any

PORT = "agent"


def find_port() -> str:
    """Wait for the serial port that the host has given our name."""
    while True:
        for path in glob.glob("/sys/class/virtio-ports/*/name"):
            with open(path, encoding="ascii") as file:
                if file.read().strip() == PORT:
                    return "/dev/" + path.split("/")[-2]
        time.sleep(0.01)


def send(port: int, **message: object) -> None:
    """Send one message."""
    data = json.dumps(message).encode() + b"\n"
    while data:
        data = data[os.write(port, data) :]


def carry_out(port: int, request: dict[str, Any]) -> None:
    """Run one program, and tell what it says and how it ends."""
    with subprocess.Popen(
        request["argv"],
        cwd=request["cwd"],
        env=request["env"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        while data := os.read(process.stdout.fileno(), 65536):
            send(port, output=data.decode("utf-8", "replace"))
    send(port, status=process.returncode)


def serve() -> None:
    """Serve requests until the machine is switched off."""
    port = os.open(find_port(), os.O_RDWR | os.O_CLOEXEC)
    send(port, ready=sys.version)
    waiting = b""
    while True:
        data = os.read(port, 65536)
        if not data:
            # Nobody is connected at the other side yet.
            time.sleep(0.05)
        waiting += data
        while b"\n" in waiting:
            line, _, waiting = waiting.partition(b"\n")
            try:
                carry_out(port, json.loads(line))
            except OSError as error:
                send(port, output=f"{error}\n")
                send(port, status=127)


if __name__ == "__main__":
    serve()
