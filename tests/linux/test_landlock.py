"""Landlock rule sets: the bytes, and what a real kernel makes of them."""

import ctypes
import errno
import os
import subprocess
import sys

import pytest

from jailbox.linux.landlock import (
    DEGRADATION,
    SCOPE_ABI,
    SCOPE_ONLY,
    Ruleset,
    scope_attribute,
)
from jailbox.spec.security import DEGRADABLE

CREATE_RULESET = 444
VERSION = 1

# Confines itself by the rule set on its command line; then tries to reach a process
# and an abstract socket outside of itself, and one of its own.
CONFINED = """
import ctypes, errno, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
attribute = bytes.fromhex(sys.argv[1])
ruleset = libc.syscall(444, attribute, len(attribute), 0)
assert ruleset >= 0 and not libc.prctl(38, 1, 0, 0, 0)
assert libc.syscall(446, ruleset, 0) == 0

def tried(act):
    try:
        act()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "ok"

own = socket.socket(socket.AF_UNIX)
own.bind("\\0jailbox-own-%d" % os.getpid())
own.listen()
def connect(name):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(name)
print(tried(lambda: os.kill(os.getppid(), 0)))
print(tried(lambda: connect("\\0" + sys.argv[2])))
print(tried(lambda: os.kill(os.getpid(), 0)))
print(tried(lambda: connect(own.getsockname())))
"""


def version() -> int:
    """Return the kernel's version of Landlock, 0 without one."""
    libc = ctypes.CDLL(None, use_errno=True)
    return max(0, int(libc.syscall(CREATE_RULESET, None, 0, VERSION)))


def test_bytes() -> None:
    """The rule set handles no files and no ports, and both scopes."""
    assert SCOPE_ONLY.attribute() == bytes(16) + (3).to_bytes(8, sys.byteorder)


def test_rights() -> None:
    """Each field is where the kernel looks for it."""
    ruleset = Ruleset(files=1 << 15, network=2, scoped=1)
    fields = [ruleset.attribute()[at : at + 8] for at in (0, 8, 16)]

    assert [int.from_bytes(field, sys.byteorder) for field in fields] == [1 << 15, 2, 1]


@pytest.mark.parametrize("abi", range(10))
def test_versions(abi: int) -> None:
    """Versions without scopes get no rule set; the name of what is missing is known."""
    attribute = scope_attribute(abi)

    assert attribute == (SCOPE_ONLY.attribute() if abi >= SCOPE_ABI else None)
    assert DEGRADATION in DEGRADABLE


def test_kernel_confines() -> None:
    """
    NT12: in a real kernel, a process so confined reaches no process and no abstract
    socket outside of itself, and still its own.
    """
    attribute = scope_attribute(version())
    if attribute is None:
        pytest.skip(f"Landlock {version()} has no scopes (needs {SCOPE_ABI})")
    name = f"jailbox-outside-{os.getpid()}"
    done = subprocess.run(
        [sys.executable, "-I", "-c", LISTENER, CONFINED, attribute.hex(), name],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert done.stdout.split() == ["EPERM", "EPERM", "ok", "ok"]


# Listens at an abstract name, outside of the process that is confined.
LISTENER = """
import socket, subprocess, sys
script, attribute, name = sys.argv[1:]
with socket.socket(socket.AF_UNIX) as outside:
    outside.bind("\\0" + name)
    outside.listen()
    subprocess.run([sys.executable, "-I", "-c", script, attribute, name], check=True)
"""


def test_kernel_refuses_too_much() -> None:
    """A right that no kernel knows is an error of the kernel's, never silence."""
    if not version():
        pytest.skip("no Landlock in this kernel")
    libc = ctypes.CDLL(None, use_errno=True)
    attribute = Ruleset(scoped=1 << 63).attribute()

    assert libc.syscall(CREATE_RULESET, attribute, len(attribute), 0) == -1
    assert ctypes.get_errno() in {errno.EINVAL, errno.E2BIG}
