"""
Everything that jailbox raises on purpose.

The tree asks five questions, so that a caller can act on the branch without
reading the text: is it my request, my machine, the content, the network, or the
program?

.. code-block:: text

    JailboxError
    ├── SpecError(ValueError)
    │   ├── SpecTypeError(TypeError)
    │   ├── StateError
    │   ├── DockerfileError
    │   ├── ComposeError
    │   └── InvalidReference
    ├── HostError
    │   ├── Unsupported
    │   ├── NotPermitted
    │   ├── NotEnforced
    │   └── StoreError(OSError)
    ├── ContentError
    │   ├── NotFound(LookupError)
    │   │   └── ImageNotFound
    │   ├── DigestMismatch
    │   ├── InUse
    │   ├── Malformed(ValueError)
    │   │   └── LayerError
    │   │       └── LayerTooLarge
    │   └── UnsupportedMediaType
    ├── RegistryError
    │   ├── Unauthorized
    │   └── RateLimited
    ├── LaunchError(OSError)
    ├── ExitError
    │   ├── BootstrapError
    │   └── LimitExceeded
    │       └── OutOfMemory
    ├── DeadlineExceeded(TimeoutError)
    └── EngineError

Facts are attributes and the message is made from them, in one line without
control characters. Advice is a note (PEP 678): ``str(error)`` stays short, a
traceback shows the advice. Every class survives pickling with its notes, because
executors send errors between processes.

This is the lowest floor: it imports nothing of jailbox, decides nothing, and knows
no (step, errno) table. Translating what the kernel said belongs to `jailbox.linux`.
"""

import errno as errno_table
import os
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jailbox.spec.result import Cause, Result

__all__ = [
    "BootstrapError",
    "ComposeError",
    "ContentError",
    "DeadlineExceeded",
    "DigestMismatch",
    "DockerfileError",
    "EngineError",
    "ExitError",
    "HostError",
    "ImageNotFound",
    "InUse",
    "InvalidReference",
    "JailboxError",
    "LaunchError",
    "LayerError",
    "LayerTooLarge",
    "LimitExceeded",
    "Malformed",
    "NotEnforced",
    "NotFound",
    "NotPermitted",
    "OutOfMemory",
    "RateLimited",
    "RegistryError",
    "SpecError",
    "SpecTypeError",
    "StateError",
    "StoreError",
    "Unauthorized",
    "Unsupported",
    "UnsupportedMediaType",
    "printable",
    "shown",
]

_SHOWN_MAX = 120
_NOTHING: Any = object()


def printable(text: str) -> str:
    """
    Escape what must not reach a terminal: control characters and lone surrogates.

    Names, labels and paths may come from a jail. Printed raw, an ESC in them
    would drive the terminal of whoever reads the message.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def shown(value: object) -> str:
    """
    Show *value* in a message: its `repr`, printable and bounded.

    Long values lose their middle. A value whose `repr` fails is named by its type.
    """
    if isinstance(value, str | bytes | bytearray) and len(value) > _SHOWN_MAX:
        # Cut before repr, so that a value of a gigabyte costs nothing.
        half = _SHOWN_MAX // 2
        return f"{printable(repr(value[:half]))}...{printable(repr(value[-half:]))}"
    try:
        text = printable(repr(value))
    except Exception:  # noqa: BLE001  (a foreign __repr__ may raise anything)
        return f"<{type(value).__name__}>"
    if len(text) > _SHOWN_MAX:
        half = _SHOWN_MAX // 2
        text = f"{text[:half]}...{text[-half:]}"
    return text


def _strerror(number: int) -> str:
    """Name and text of an errno: ``EPERM (Operation not permitted)``."""
    name = errno_table.errorcode.get(number)
    text = os.strerror(number)
    return f"{name} ({text})" if name else text


def _rebuild(cls: type["JailboxError"], args: tuple[object, ...]) -> "JailboxError":
    """
    Make an error for unpickling; its attributes follow as state.

    ``__init__`` of the class is passed over on purpose: it takes facts, and pickle
    only knows ``args``. OSError keeps its errno outside of ``__dict__`` and sets it
    in its own ``__init__``.
    """
    error = cls.__new__(cls)
    if isinstance(error, OSError):
        OSError.__init__(error, *args)
    else:
        Exception.__init__(error, *args)
    return error


class JailboxError(Exception):
    """
    Base of everything that jailbox raises on purpose.

    Attributes:
        message: What happened, in one line.

        hint: What to do about it, or ``None``. Also attached as a note.
    """

    message: str
    hint: str | None

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self._tell(message, hint)

    def _tell(self, message: str, hint: str | None) -> None:
        """Set the message and attach the advice."""
        self.message = printable(message)
        self.hint = hint
        if hint is not None:
            self.add_note(hint)

    def _quote(self, result: "Result[Any]") -> None:
        """Attach the last lines that a program wrote to stderr, if any."""
        words = result.last_words()
        if words:
            self.add_note(f"It wrote last:\n{words}")

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        state = self.__dict__.copy()
        if "__notes__" in state:
            # A copy may be annotated without changing the original.
            state["__notes__"] = list(state["__notes__"])
        return _rebuild, (type(self), self.args), state


# --- my request -------------------------------------------------------------


class SpecError(JailboxError, ValueError):
    """
    What was asked for makes no sense. Nothing was done.

    Attributes:
        argument: Name of the argument, as the caller wrote it.

        value: What was given, as bounded `repr`; ``None`` if there is no one value
            to show, or if it may be secret.

        accepted: What would have been accepted, or ``None``.

        findings: Every problem found, one line each; a single one for most errors.
    """

    argument: str
    value: str | None
    accepted: str | None
    findings: tuple[str, ...]

    def __init__(
        self,
        argument: str,
        problem: str,
        *,
        value: object = _NOTHING,
        accepted: str | None = None,
        hint: str | None = None,
    ) -> None:
        self.argument = argument
        self.value = None if value is _NOTHING else shown(value)
        self.accepted = accepted
        subject = argument if self.value is None else f"{argument}={self.value}"
        message = f"{subject} {problem}"
        if accepted is not None:
            message += f" (accepted: {accepted})"
        super().__init__(message, hint=hint)
        self.findings = (self.message,)

    @classmethod
    def several(cls, argument: str, problems: Iterable["SpecError"]) -> "SpecError":
        """
        Make one error of many, to be raised once with everything that was found.

        A single problem is returned as it is.
        """
        problems = tuple(problems)
        if len(problems) == 1:
            return problems[0]
        findings = tuple(line for problem in problems for line in problem.findings)
        error = cls(argument, f"has {len(findings)} problems: " + "; ".join(findings))
        error.findings = findings
        for hint in dict.fromkeys(problem.hint for problem in problems):
            if hint is not None:
                error.add_note(hint)
        return error


class SpecTypeError(SpecError, TypeError):
    """An argument has a type that is never accepted. Nothing was done."""


class StateError(SpecError):
    """
    A container is not in a state that allows the call. Nothing was done.

    Attributes:
        name: Name of the container.

        state: The state it is in.

        action: What was asked for.

        states: The states that would allow it.
    """

    name: str
    state: str
    action: str
    states: tuple[str, ...]

    def __init__(
        self,
        name: str,
        state: str,
        action: str,
        states: Iterable[str] = (),
        *,
        hint: str | None = None,
    ) -> None:
        self.name = name
        self.state = state
        self.action = action
        self.states = tuple(states)
        super().__init__(
            f"container {shown(name)}",
            f"cannot {action}: it is {state}",
            accepted=" or ".join(self.states) or None,
            hint=hint,
        )


class DockerfileError(SpecError):
    """
    A Dockerfile cannot be read or makes no sense.

    Attributes:
        source: Name of the file.

        line: Line, from 1.

        column: Column, from 1, or ``None``.

        suggestion: What was probably meant, or ``None``.
    """

    source: str
    line: int
    column: int | None
    suggestion: str | None

    def __init__(
        self,
        source: str,
        line: int,
        problem: str,
        *,
        column: int | None = None,
        suggestion: str | None = None,
        hint: str | None = None,
    ) -> None:
        self.source = source
        self.line = line
        self.column = column
        self.suggestion = suggestion
        place = f"{source}:{line}" if column is None else f"{source}:{line}:{column}"
        if suggestion is not None:
            problem = f"{problem}; did you mean {suggestion}?"
        super().__init__(f"{place}:", problem, hint=hint)


class ComposeError(SpecError):
    """
    A compose file cannot be read or makes no sense.

    Attributes:
        file: Name of the file.

        path: Where in the document: ``services.web.ports[0]``.

        line: Line, from 1, or ``None``.

        kind: What sort of mistake it is: ``yaml``, ``schema`` (a wrong type, an
            unknown key), ``interpolation``, ``cast`` (a variable's value does not fit),
            ``cycle``, ``dotenv``, ``file`` (one is missing), ``reference`` (to what
            is not defined), ``empty`` (no services, no image), or ``value``.
    """

    file: str
    path: str
    line: int | None
    kind: str

    def __init__(
        self,
        file: str,
        path: str,
        problem: str,
        *,
        line: int | None = None,
        kind: str = "value",
        hint: str | None = None,
    ) -> None:
        self.file = file
        self.path = path
        self.line = line
        self.kind = kind
        place = file if line is None else f"{file}:{line}"
        super().__init__(f"{place}: {path}", problem, hint=hint)


class InvalidReference(SpecError):
    """
    A text is no image reference.

    Attributes:
        reference: The text.
    """

    reference: str

    def __init__(
        self, reference: str, problem: str, *, hint: str | None = None
    ) -> None:
        self.reference = reference
        super().__init__("image", problem, value=reference, hint=hint)


# --- my machine -------------------------------------------------------------


class HostError(JailboxError):
    """
    This machine cannot do it: a fact, not a failure.

    Attributes:
        path: The file that says so, or ``None``.

        errno: What the kernel answered, or ``None``.
    """

    path: str | None
    errno: int | None

    def __init__(
        self,
        problem: str,
        *,
        path: str | None = None,
        errno: int | None = None,
        hint: str | None = None,
    ) -> None:
        self.path = path
        self.errno = errno
        message = problem
        if path is not None:
            message += f": {path}"
        if errno is not None:
            message += f": {_strerror(errno)}"
        super().__init__(message, hint=hint)


class Unsupported(HostError):
    """
    The kernel, its configuration or the architecture lacks a feature.

    Attributes:
        feature: What is missing.

        since: The kernel version that brought it, or ``None``.
    """

    feature: str
    since: str | None

    def __init__(
        self,
        feature: str,
        *,
        since: str | None = None,
        path: str | None = None,
        errno: int | None = None,
        hint: str | None = None,
    ) -> None:
        self.feature = feature
        self.since = since
        problem = f"this machine has no {feature}"
        if since is not None:
            problem += f" (Linux {since} or newer)"
        super().__init__(problem, path=path, errno=errno, hint=hint)


class NotPermitted(HostError):
    """
    The feature is there, but we may not use it.

    Attributes:
        action: What was tried.

        right: Which right is missing.
    """

    action: str
    right: str

    def __init__(
        self,
        action: str,
        right: str,
        *,
        path: str | None = None,
        errno: int | None = None,
        hint: str | None = None,
    ) -> None:
        self.action = action
        self.right = right
        super().__init__(
            f"not permitted to {action}: needs {right}",
            path=path,
            errno=errno,
            hint=hint,
        )


class NotEnforced(HostError):
    """
    A limit or a protection that was promised cannot be applied here.

    Nothing was started: jailbox never drops one silently.

    Attributes:
        protection: Which one: ``memory``, ``seccomp``, ...

        remedy: What would make it possible.

        degrade: The word that allows to go on without it
            (``Security(degrade={...})``), or ``None`` if nothing does.
    """

    protection: str
    remedy: str
    degrade: str | None

    def __init__(
        self,
        protection: str,
        reason: str,
        *,
        remedy: str,
        path: str | None = None,
        errno: int | None = None,
        degrade: str | None = None,
    ) -> None:
        self.protection = protection
        self.remedy = remedy
        self.degrade = degrade
        hint = remedy
        if degrade is not None:
            hint += f" To go on without it: Security(degrade={{{degrade!r}}})."
        super().__init__(
            f"cannot enforce {protection}: {reason}", path=path, errno=errno, hint=hint
        )


_STORE_HINTS = {
    errno_table.ENOSPC: (
        "Free space or inodes on that file system: prune images that are not needed,"
        " or keep the store elsewhere."
    ),
    errno_table.EDQUOT: "Prune images that are not needed, or have the quota raised.",
    errno_table.EROFS: "Images of a read-only store can be used, but not changed.",
    errno_table.EMFILE: "Raise the limit of open files (ulimit -n).",
    errno_table.EACCES: "A store belongs to one user; use one of your own.",
    errno_table.ENAMETOOLONG: "Keep the store at a shorter path.",
    errno_table.EIO: "The disk or its file system fails; look at the kernel's log.",
}


class StoreError(HostError, OSError):
    """
    The disk did not do what the store of images needs. The store is as it was.

    Attributes:
        operation: What was tried: ``store a blob``, ``set a tag``.

        path: The file or directory in question.

        errno: What the kernel answered.
    """

    operation: str
    path: str

    def __init__(
        self, operation: str, path: str, errno: int, *, hint: str | None = None
    ) -> None:
        OSError.__init__(self, errno, os.strerror(errno))
        self.operation = operation
        self.path = path
        if hint is None:
            hint = _STORE_HINTS.get(errno)
        self._tell(f"cannot {operation}: {path}: {_strerror(errno)}", hint)


# --- the content ------------------------------------------------------------


class ContentError(JailboxError):
    """Something stored or received is missing or wrong."""


class NotFound(ContentError, LookupError):
    """
    A thing with that name does not exist.

    Attributes:
        kind: What was looked for: ``container``, ``image``, ``user``, ``file``.

        name: Its name.

        where: Where it was looked for, or ``None``.
    """

    kind: str
    name: str
    where: str | None

    def __init__(
        self,
        kind: str,
        name: str,
        *,
        where: str | None = None,
        hint: str | None = None,
    ) -> None:
        self.kind = kind
        self.name = name
        self.where = where
        message = f"no {kind} {shown(name)}"
        if where is not None:
            message += f" in {where}"
        super().__init__(message, hint=hint)


class ImageNotFound(NotFound):
    """No image of that name is stored here."""

    def __init__(
        self, name: str, *, where: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__("image", name, where=where, hint=hint)


class DigestMismatch(ContentError):
    """
    Bytes are not what their digest or size says.

    Attributes:
        expected: What they should have been.

        actual: What they are.

        origin: Where they came from.
    """

    expected: str
    actual: str
    origin: str

    def __init__(
        self, expected: str, actual: str, origin: str, *, hint: str | None = None
    ) -> None:
        self.expected = expected
        self.actual = actual
        self.origin = origin
        super().__init__(f"{origin}: expected {expected}, got {actual}", hint=hint)


class InUse(ContentError):
    """
    A stored thing cannot be removed: something relies on it. Nothing was done.

    Attributes:
        kind: What it is: ``image``.

        name: Its name.

        users: Who relies on it, in words: programs, tags.
    """

    kind: str
    name: str
    users: tuple[str, ...]

    def __init__(
        self,
        kind: str,
        name: str,
        users: Iterable[str] = (),
        *,
        hint: str | None = None,
    ) -> None:
        self.kind = kind
        self.name = name
        self.users = tuple(users)
        who = ", ".join(self.users) or "somebody"
        super().__init__(f"{kind} {shown(name)} is used by {who}", hint=hint)


class Malformed(ContentError, ValueError):
    """
    Bytes are not of the form that they should have. Nothing of them was taken.

    Attributes:
        kind: What they should have been: ``image manifest``, ``image config``,
            ``image archive``, ``layer``.

        place: Where in it: ``layers[3].size``, the name of an entry; or ``None``.

        problem: What is wrong there.
    """

    kind: str
    place: str | None
    problem: str

    def __init__(
        self,
        kind: str,
        problem: str,
        *,
        place: str | None = None,
        hint: str | None = None,
    ) -> None:
        self.kind = kind
        self.place = place
        self.problem = problem
        where = "" if place is None else f"{place} "
        super().__init__(f"{kind}: {where}{problem}", hint=hint)


class LayerError(Malformed):
    """
    The archive of a layer cannot become files. What it was becoming is incomplete.

    Attributes:
        entry: Which entry of the archive, from 0.

        name: What it is called there; empty if that is not known.

        errno: What the kernel answered, or ``None``.
    """

    entry: int
    name: str
    errno: int | None

    def __init__(
        self,
        problem: str,
        entry: int,
        name: str = "",
        errno: int | None = None,
        *,
        hint: str | None = None,
    ) -> None:
        self.entry = entry
        self.name = name
        self.errno = errno
        place = f"entry {entry}" + (f", {shown(name)}," if name else "")
        if errno is not None:
            problem += f": {_strerror(errno)}"
        super().__init__("layer", problem, place=place, hint=hint)


class LayerTooLarge(LayerError):
    """
    A layer exceeds a bound that was set for it.

    Attributes:
        limit: Which bound: ``bytes``, ``entries``, ``depth``.

        bound: How much it allows.
    """

    limit: str
    bound: int

    def __init__(
        self,
        limit: str,
        bound: int,
        entry: int,
        name: str = "",
        *,
        hint: str | None = None,
    ) -> None:
        self.limit = limit
        self.bound = bound
        super().__init__(
            f"exceeds the bound of {limit}: {bound}", entry, name, hint=hint
        )


class UnsupportedMediaType(ContentError):
    """
    The content is of a kind that jailbox does not handle.

    Attributes:
        media_type: What it calls itself.

        subject: What it is: ``layer``, ``image manifest``.
    """

    media_type: str
    subject: str

    def __init__(
        self,
        media_type: str,
        subject: str,
        reason: str = "of this media type is not supported",
        *,
        hint: str | None = None,
    ) -> None:
        self.media_type = media_type
        self.subject = subject
        super().__init__(f"{subject} {reason}: {shown(media_type)}", hint=hint)


# --- the network ------------------------------------------------------------


def _without_secrets(url: str) -> str:
    """Drop user, password, query and fragment: each of them may carry a token."""
    url = url.partition("#")[0].partition("?")[0]
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url.rpartition("@")[2]
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"


class RegistryError(JailboxError):
    """
    A registry refused, or could not be reached.

    Attributes:
        method: The HTTP method.

        url: Where to, without user, password and query.

        status: The HTTP status, or ``None`` if there was no answer.

        retry_after: Seconds to wait before trying again, as the registry wishes,
            or ``None``.
    """

    method: str
    url: str
    status: int | None
    retry_after: float | None

    def __init__(
        self,
        method: str,
        url: str,
        reason: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        hint: str | None = None,
    ) -> None:
        self.method = method
        self.url = _without_secrets(url)
        self.status = status
        self.retry_after = retry_after
        answer = "" if status is None else f"{status} "
        super().__init__(f"{method} {self.url}: {answer}{reason}", hint=hint)


class Unauthorized(RegistryError):
    """
    A registry wants other credentials than those it got, or any at all.

    ``status`` tells the two cases apart: 401, it does not know who we are; 403, it
    knows, and does not allow it. Many registries also say so of what does not exist.
    """


class RateLimited(RegistryError):
    """
    A registry wants fewer requests, for longer than we are willing to wait.

    Attributes:
        reset: When to come back, in UTC; ``None`` if the registry did not say.
    """

    reset: datetime | None

    def __init__(
        self,
        method: str,
        url: str,
        reason: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        reset: datetime | None = None,
        hint: str | None = None,
    ) -> None:
        self.reset = reset
        if reset is not None:
            reason += f"; come back at {reset:%Y-%m-%d %H:%M:%S} UTC"
        super().__init__(
            method, url, reason, status=status, retry_after=retry_after, hint=hint
        )


# --- the program ------------------------------------------------------------


class LaunchError(JailboxError, OSError):
    """
    The kernel refused a step between the wish and the running program.

    Nothing of the jail is left.

    Attributes:
        step: Which step, by its name in the table of steps.

        errno: What the kernel answered.

        detail: What the step worked on, or ``None``.

        index: Which of several equal steps (the third mount), or ``None``.

        cause: Why the program could not be executed, at the step ``exec``; ``None``
            at others, or if nothing more is known.
    """

    step: str
    detail: str | None
    index: int | None
    cause: "Cause | None"

    def __init__(
        self,
        step: str,
        errno: int,
        detail: str | None = None,
        index: int | None = None,
        *,
        cause: "Cause | None" = None,
        hint: str | None = None,
    ) -> None:
        OSError.__init__(self, errno, os.strerror(errno))
        self.cause = cause
        self.step = step
        self.detail = detail
        self.index = index
        place = step if index is None else f"{step} #{index}"
        message = f"launch failed at {place}: "
        if detail is not None:
            message += f"{detail}: "
        self._tell(message + _strerror(errno), hint)


class ExitError(JailboxError):
    """
    The program ran and did not end well.

    Raised only on request (``check=True`` or `Result.check`).

    Attributes:
        result: Everything known about the run, with its output.
    """

    # Whether output is str or bytes was decided where the program was started;
    # whoever catches the error there knows which.
    result: "Result[Any]"

    def __init__(self, result: "Result[Any]") -> None:
        self.result = result
        summary, advice = result.summary(), result.explain()
        super().__init__(summary, hint=None if advice == f"{summary}." else advice)
        self._quote(result)


class BootstrapError(ExitError):
    """
    A root file system could not be made of packages.

    Attributes:
        system: What was to be made.
    """

    system: str

    def __init__(
        self, system: str, result: "Result[Any]", *, hint: str | None = None
    ) -> None:
        self.system = system
        self.result = result
        message = f"{system} could not be made: {result.summary()}"
        JailboxError.__init__(self, message, hint=hint)
        self._quote(result)


class LimitExceeded(ExitError):
    """
    A limit of the run was reached and ended the program.

    ``result.verdict`` says which, ``result.limits`` its value.
    """


class OutOfMemory(LimitExceeded):
    """The memory limit was reached and the kernel killed the program."""


class DeadlineExceeded(JailboxError, TimeoutError):
    """
    A call did not finish within its ``timeout``.

    The process tree that the call had started is gone.

    Attributes:
        action: What was not finished in time.

        timeout: The timeout, in seconds.

        result: What is known of the run, with its output so far; ``None`` if no
            program was involved.
    """

    action: str
    timeout: float
    # As in ExitError: the caller knows whether it asked for text.
    result: "Result[Any] | None"

    def __init__(
        self,
        action: str,
        timeout: float,
        result: "Result[Any] | None" = None,
        *,
        hint: str | None = None,
    ) -> None:
        message = f"{action} did not finish within {timeout:g} s"
        OSError.__init__(self, message)
        self.action = action
        self.timeout = timeout
        self.result = result
        self._tell(message, hint)
        if result is not None:
            self._quote(result)


class EngineError(JailboxError):
    """
    The engine is gone, or speaks another version.

    Attributes:
        problem: What happened, or to which part of it.

        detail: More about it, or ``None``.
    """

    problem: str
    detail: str | None

    def __init__(
        self, problem: str, detail: str | None = None, *, hint: str | None = None
    ) -> None:
        self.problem = problem
        self.detail = detail
        super().__init__(
            problem if detail is None else f"{problem}: {detail}", hint=hint
        )
