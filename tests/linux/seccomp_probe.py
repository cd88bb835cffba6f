"""
A program that puts a filter upon itself and tries calls; run as a process of its own.

Reads a line of JSON: the filter, in hex, and calls, each a number and arguments.
Writes a line of JSON: what each call returned (a negative errno on failure), what the
kernel says about filters before and after, and how ways to start a process ended.

The standard library only, so that it runs in an isolated interpreter.
"""

import ctypes
import fcntl
import json
import mmap
import os
import pty
import subprocess
import sys
import termios
import threading
from collections.abc import Callable

PR_SET_NO_NEW_PRIVS = 38
SECCOMP = 317
CLONE = 56
PTRACE = 101
GETPID_BY_INT_80 = bytes.fromhex("b814000000 cd80 c3")

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def call(number: int, *args: int) -> int:
    """Make a system call; return what it returned, or a negative errno."""
    given = [ctypes.c_ulong(each) for each in args]
    result = int(libc.syscall(ctypes.c_long(number), *given))
    if number == CLONE and result == 0:
        os._exit(0)
    return -ctypes.get_errno() if result == -1 else result


def install(program: bytes) -> None:
    """Put a filter upon this process, as the stager does."""
    code = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))

    wanted = Program(len(program) // 8, ctypes.addressof(code))
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    if error := call(SECCOMP, 1, 0, ctypes.addressof(wanted)):
        raise OSError(-error, "seccomp")


def status() -> dict[str, int]:
    """Return what the kernel says about filters upon this process."""
    with open("/proc/self/status", encoding="ascii") as file:
        fields = dict(line.split(":", 1) for line in file)
    return {key: int(fields[key]) for key in ("Seccomp", "Seccomp_filters")}


def own_terminal() -> int:
    """Make a terminal of our own the controlling one."""
    os.setsid()
    _, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
    return terminal


def ended(action: Callable[[], object]) -> int:
    """Return how a child ended that did something: code, or negative signal."""
    child = os.fork()
    if child == 0:
        action()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def by_32_bit_entry() -> None:
    """Ask for the process id by the entry of 32-bit programs."""
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(GETPID_BY_INT_80)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    ctypes.CFUNCTYPE(ctypes.c_int)(address)()


def be_traced() -> None:
    """Let the parent trace this process."""
    if call(PTRACE, 0, 0, 0, 0):
        os._exit(1)


def in_thread() -> int:
    """Return what a new thread found out."""
    found = []
    thread = threading.Thread(target=lambda: found.append(7))
    thread.start()
    thread.join()
    return found[0]


def main() -> None:
    """Do what standard input says."""
    wish = json.loads(sys.stdin.readline())
    terminal = own_terminal()
    letter = ctypes.create_string_buffer(b"x")
    before = status()
    install(bytes.fromhex(wish["program"]))
    found = {
        "before": before,
        "after": status(),
        "calls": [call(number, *args) for number, args in wish["calls"]],
        "typing": [
            call(
                16,
                high << 32 | terminal,
                high << 32 | request,
                ctypes.addressof(letter),
            )
            for high in (0, 1)
            for request in (termios.TIOCSTI, 0x541C, termios.TIOCGPGRP)
        ],
        "fork": ended(lambda: None),
        "thread": in_thread(),
        "spawn": subprocess.run(["/bin/sh", "-c", "exit 3"], check=False).returncode,
        "32 bit": ended(by_32_bit_entry),
        "traced": ended(be_traced),
    }
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
