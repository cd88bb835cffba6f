"""
Why a program ended and what to do about it, in sentences.

A pure function of a `Result`: tables of facts and advice. Nothing is looked up, and
nothing is claimed that the facts do not say; what is only likely is called so.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from jailbox.errors import printable, shown
from jailbox.spec.result import Cause, Verdict
from jailbox.spec.signals import SIGNAL_MAX, signal_name
from jailbox.spec.units import format_duration, format_size

if TYPE_CHECKING:
    from jailbox.spec.result import Result

__all__ = ["explain", "explain_cause"]


def explain(result: "Result[Any]") -> str:
    """Explain the end of a program, in sentences that fit a terminal and a log."""
    return " ".join(_sentences(result))


def explain_cause(cause: Cause) -> str:
    """Explain why a program could not be executed, likewise."""
    return " ".join(_not_executed(cause))


# The text of a result may be str or bytes; nothing here returns it.
def _sentences(result: "Result[Any]") -> Iterator[str]:
    yield from _reason(result)
    if result.truncated:
        yield "Its output was cut off; raise max_output to keep more."
    if result.degraded:
        names = ", ".join(printable(name) for name in result.degraded)
        yield f"Not applied on this machine, as was allowed: {names}."


def _reason(result: "Result[Any]") -> Iterator[str]:
    if result.cause is not None:
        yield from _not_executed(result.cause)
        return
    match result.verdict:
        case Verdict.OK:
            yield f"{result.program} ended well."
        case Verdict.MEMORY:
            yield from _memory(result)
        case Verdict.CPU_TIME:
            yield from _cpu_time(result)
        case Verdict.WALL:
            yield from _wall(result)
        case Verdict.PIDS:
            yield from _pids(result)
        case Verdict.DISK:
            yield from _disk(result)
        case Verdict.OUTPUT:
            yield from _output(result)
        case Verdict.DENIED:
            yield from _denied(result)
        case Verdict.SIGNAL:
            yield from _signal(result)
        case Verdict.EXIT:
            yield from _exit(result)


def _memory(result: "Result[Any]") -> Iterator[str]:
    limit, peak = result.limits.memory, result.usage.memory_peak
    used = "" if peak is None else f" (peak {format_size(peak)})"
    if limit is None:
        yield (
            f"Killed: the host ran out of memory{used} while running {result.program}."
        )
        yield "Set Limits.memory below what the host has free."
        return
    yield (
        f"Killed: memory limit {format_size(limit)} reached{used} "
        f"while running {result.program}."
    )
    yield "Raise Limits.memory, or let the program use less."


def _cpu_time(result: "Result[Any]") -> Iterator[str]:
    limit = result.limits.cpu_time
    bound = "" if limit is None else f" of {format_duration(limit)}"
    yield (
        f"Killed: the processor time{bound} was used up "
        f"({format_duration(result.usage.cpu)} by all processes together) "
        f"while running {result.program}."
    )
    yield "Raise Limits.cpu_time, or look for an endless loop."


def _wall(result: "Result[Any]") -> Iterator[str]:
    limit, usage = result.limits.wall, result.usage
    bound = "" if limit is None else f" of {format_duration(limit)}"
    yield f"Killed: the time{bound} was used up while running {result.program}."
    if usage.wall > 0 and usage.cpu < usage.wall / 10:
        yield (
            f"It was mostly waiting (processor time {format_duration(usage.cpu)}): "
            "for input, a lock, or a network it has not got?"
        )
    yield "Raise Limits.wall, or let the program finish sooner."


def _ended(result: "Result[Any]") -> str:
    if result.exit_code is not None:
        return f"it exited with code {result.exit_code}"
    if result.signal is not None:
        return f"it was killed by {signal_name(result.signal)}"
    return "it was killed"


def _pids(result: "Result[Any]") -> Iterator[str]:
    limit = result.limits.processes
    bound = "" if limit is None else f" of {limit}"
    yield (
        f"{result.program} reached the limit{bound} processes and threads; "
        f"{_ended(result)}."
    )
    yield "Raise Limits.processes, or let the program start fewer."


def _disk(result: "Result[Any]") -> Iterator[str]:
    bounds = []
    if result.limits.disk is not None:
        bounds.append(format_size(result.limits.disk))
    if result.limits.inodes is not None:
        bounds.append(f"{result.limits.inodes} files")
    bound = f" of {' and '.join(bounds)}" if bounds else ""
    yield f"{result.program} filled the writable layer{bound}; {_ended(result)}."
    yield "Raise Limits.disk or Limits.inodes, or mount a directory for the data."


def _output(result: "Result[Any]") -> Iterator[str]:
    limit = result.limits.output
    bound = "it may" if limit is None else format_size(limit)
    yield f"Killed: {result.program} wrote more than {bound} to stdout or stderr."
    yield "Raise Limits.output; to cut off and let it run, use max_output instead."


def _denied(result: "Result[Any]") -> Iterator[str]:
    yield (
        f"Killed: {result.program} made a system call that the seccomp filter does "
        "not allow (SIGSYS)."
    )
    yield "If it needs that call, give Security(seccomp=...) a profile that has it."


_SIGNALS = {
    "SIGABRT": "It gave up on its own (abort): its last output usually says why.",
    "SIGBUS": (
        "It touched memory without backing: a truncated file it had mapped, or a full "
        "/dev/shm (Mount.tmpfs('/dev/shm', size=...))."
    ),
    "SIGFPE": "It divided by zero, or a number did not fit.",
    "SIGILL": "It met an instruction that this processor has not got.",
    "SIGINT": "It was interrupted.",
    "SIGKILL": (
        "No limit of this run did it: someone on the host or in the jail sent it, or "
        "the host ran out of memory."
    ),
    "SIGPIPE": "It wrote to a pipe or socket that nobody reads any more.",
    "SIGSEGV": "It touched memory that is not its own: a bug, or a full stack.",
    "SIGSYS": "It made a system call that the seccomp filter does not allow.",
    "SIGTERM": "It was asked to end.",
    "SIGTRAP": "It met a breakpoint or assertion.",
    "SIGXCPU": "It used up the processor time of its 'cpu' rlimit; raise it.",
    "SIGXFSZ": "It wrote a file larger than allowed; raise Limits.file_size.",
}


def _signal(result: "Result[Any]") -> Iterator[str]:
    if result.signal is None:
        yield f"{result.program} was killed by a signal."
        return
    name = signal_name(result.signal)
    yield f"{result.program} was killed by {name}."
    if name in _SIGNALS:
        yield _SIGNALS[name]


# How a shell says that it could not run a command, or that a signal ended it.
# Source: POSIX.1-2017, Shell Command Language, 2.8.2.
_SHELL_REFUSED, _SHELL_MISSING, _SHELL_KILLED = 126, 127, 128


def _exit(result: "Result[Any]") -> Iterator[str]:
    code = result.exit_code
    yield f"{result.summary()}."
    if code == _SHELL_MISSING:
        yield (
            "A shell says so if a command does not exist: is it in the image, and in "
            "PATH?"
        )
    elif code == _SHELL_REFUSED:
        yield (
            "A shell says so if a command exists but cannot be executed: is its mode "
            "right, and its format?"
        )
    elif code and _SHELL_KILLED < code <= _SHELL_KILLED + SIGNAL_MAX:
        name = signal_name(code - _SHELL_KILLED)
        yield f"That is how a shell reports a command that was killed by {name}."
        if name in _SIGNALS:
            yield _SIGNALS[name]
    yield from _likely(result.stderr)


# What C libraries and kernels say, and what it mostly means in a jail.
_SAYINGS = (
    (
        "Operation not permitted",
        "a capability or system call that a jail has not got; see Security",
    ),
    (
        "Read-only file system",
        "a read-only root, mount or system path; see read_only, Mount and Security",
    ),
    (
        "No space left on device",
        "a full writable layer or tmpfs; see Limits.disk and Mount.tmpfs(size=...)",
    ),
    (
        "Cannot allocate memory",
        "the memory limit; see Limits.memory",
    ),
    (
        "MemoryError",
        "the memory limit or an rlimit on address space; see Limits.memory",
    ),
    (
        "Resource temporarily unavailable",
        "the limit of processes and threads; see Limits.processes",
    ),
    (
        "Too many open files",
        "the limit of descriptors; see Limits.open_files",
    ),
    (
        "File too large",
        "the limit on the size of one file; see Limits.file_size",
    ),
    (
        "Temporary failure in name resolution",
        "no network, which is the default; network='host' gives the host's",
    ),
    (
        "Name or service not known",
        "no network, which is the default; network='host' gives the host's",
    ),
    (
        "Network is unreachable",
        "no network, which is the default; network='host' gives the host's",
    ),
    (
        "Permission denied",
        "the mode or owner of a file; the jail's user is not the host's",
    ),
)

_TAIL = 4096


def _likely(stderr: str | bytes) -> Iterator[str]:
    """Recognise the usual last words; at most one, for more would be guessing."""
    tail = stderr[-_TAIL:]
    text = tail if isinstance(tail, str) else tail.decode("utf-8", "replace")
    for words, meaning in _SAYINGS:
        if words in text:
            yield f'Its last words include "{words}": likely {meaning}.'
            return


def _not_executed(cause: Cause) -> Iterator[str]:
    path = shown(cause.path)
    detail = None if cause.detail is None else printable(cause.detail)
    match cause.kind:
        case "missing":
            yield f"{path} does not exist in the image, or not in its PATH."
            yield "Check the spelling, install it, or mount it with Mount.bind()."
        case "permission":
            yield f"{path} may not be executed."
            yield (
                "Set its executable bit, check that user may reach it, and that its "
                "mount allows it (exec=True)."
            )
        case "interpreter":
            wanted = f" ({detail})" if detail else ""
            yield f"{path} is a script whose interpreter{wanted} is not in the image."
            yield (
                "Install the interpreter, or correct the #! line; a line that ends in "
                "CR is not found either."
            )
        case "loader":
            wanted = f" ({detail})" if detail else ""
            yield f"{path} needs a dynamic loader{wanted} that is not in the image."
            yield (
                "It was made for another C library: use an image with that one, or a "
                "static program."
            )
        case "architecture":
            made = f" ({detail})" if detail else ""
            yield f"{path} was made for another processor{made} than this machine has."
            yield "Use an image or program for this architecture."
        case "format":
            yield f"{path} is no program that this kernel can execute."
            yield "If it is a script, its first line must be #! and an interpreter."
