"""The error tree: its drawing, its messages, and its way through pickle."""

import copy
import errno
import pickle
import re
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jailbox import errors
from jailbox.errors import (
    BootstrapError,
    ComposeError,
    ContentError,
    DeadlineExceeded,
    DigestMismatch,
    DockerfileError,
    EngineError,
    ExitError,
    HostError,
    ImageNotFound,
    InUse,
    InvalidReference,
    JailboxError,
    LaunchError,
    LayerError,
    LayerTooLarge,
    LimitExceeded,
    Malformed,
    NotEnforced,
    NotFound,
    NotPermitted,
    OutOfMemory,
    RateLimited,
    RegistryError,
    SpecError,
    SpecTypeError,
    StateError,
    StoreError,
    Unauthorized,
    Unsupported,
    UnsupportedMediaType,
    printable,
    shown,
)
from jailbox.spec.limits import DEFAULT_LIMITS, Limits
from jailbox.spec.result import DEFAULT_USAGE, Result, Usage, Verdict

# A busy machine is no failure.
UNHURRIED = settings(deadline=None)

ESC = "\x1b[2J"


def failed(
    verdict: Verdict = Verdict.EXIT,
    limits: Limits = DEFAULT_LIMITS,
    usage: Usage = DEFAULT_USAGE,
    stderr: str = "",
) -> Result[str]:
    """Make the result of a program that did not end well."""
    return Result(
        argv=("/bin/sh",),
        stdout="out",
        stderr=stderr,
        exit_code=3,
        verdict=verdict,
        limits=limits,
        usage=usage,
    )


# One of each, with its whole message and advice.
GOLDEN: list[tuple[JailboxError, str, list[str]]] = [
    (JailboxError("it broke", hint="Mend it."), "it broke", ["Mend it."]),
    (
        SpecError("memory", "is negative", value=-1, accepted="a size", hint="Hm."),
        "memory=-1 is negative (accepted: a size)",
        ["Hm."],
    ),
    (
        SpecTypeError("argv", "is one text", value="ls -l"),
        "argv='ls -l' is one text",
        [],
    ),
    (
        StateError("web", "stopped", "exec", ["running", "paused"]),
        "container 'web' cannot exec: it is stopped (accepted: running or paused)",
        [],
    ),
    (
        DockerfileError(
            "Dockerfile", 3, "unknown instruction RUM", column=1, suggestion="RUN"
        ),
        "Dockerfile:3:1: unknown instruction RUM; did you mean RUN?",
        [],
    ),
    (
        ComposeError("compose.yaml", "services.web.ports[0]", "is no port", line=7),
        "compose.yaml:7: services.web.ports[0] is no port",
        [],
    ),
    (
        InvalidReference("Debian", "has an upper-case letter"),
        "image='Debian' has an upper-case letter",
        [],
    ),
    (
        HostError("no way to do it", path="/proc/x", errno=errno.ENOENT),
        "no way to do it: /proc/x: ENOENT (No such file or directory)",
        [],
    ),
    (
        Unsupported("open_tree", since="5.2", hint="Use a newer kernel."),
        "this machine has no open_tree (Linux 5.2 or newer)",
        ["Use a newer kernel."],
    ),
    (
        NotPermitted(
            "make a user namespace",
            "kernel.unprivileged_userns_clone=1",
            path="/proc/sys/kernel/unprivileged_userns_clone",
        ),
        (
            "not permitted to make a user namespace: needs "
            "kernel.unprivileged_userns_clone=1: "
            "/proc/sys/kernel/unprivileged_userns_clone"
        ),
        [],
    ),
    (
        NotEnforced(
            "memory",
            "no cgroup of ours",
            remedy="Run under systemd-run --user --scope.",
            path="/sys/fs/cgroup/cgroup.procs",
            errno=errno.EACCES,
            degrade="memory",
        ),
        (
            "cannot enforce memory: no cgroup of ours: /sys/fs/cgroup/cgroup.procs: "
            "EACCES (Permission denied)"
        ),
        [
            (
                "Run under systemd-run --user --scope. "
                "To go on without it: Security(degrade={'memory'})."
            )
        ],
    ),
    (
        StoreError("set a tag", "/srv/store/tags", errno.ENOSPC),
        "cannot set a tag: /srv/store/tags: ENOSPC (No space left on device)",
        [
            (
                "Free space or inodes on that file system: prune images that are not "
                "needed, or keep the store elsewhere."
            )
        ],
    ),
    (
        InUse("image", "debian:12", ["python (pid 7)"], hint="End it first."),
        "image 'debian:12' is used by python (pid 7)",
        ["End it first."],
    ),
    (ContentError("layer 3 is cut short"), "layer 3 is cut short", []),
    (
        NotFound("user", "www", where="/etc/passwd of the image"),
        "no user 'www' in /etc/passwd of the image",
        [],
    ),
    (ImageNotFound("debian:12"), "no image 'debian:12'", []),
    (
        DigestMismatch("sha256:aa", "sha256:bb", "layer 1 of debian:12"),
        "layer 1 of debian:12: expected sha256:aa, got sha256:bb",
        [],
    ),
    (
        Malformed("image manifest", "is no text", place="layers[3].mediaType"),
        "image manifest: layers[3].mediaType is no text",
        [],
    ),
    (
        LayerError("cannot be made", 7, "usr/x", errno.ENAMETOOLONG),
        ("layer: entry 7, 'usr/x', cannot be made: ENAMETOOLONG (File name too long)"),
        [],
    ),
    (
        LayerTooLarge("bytes", 1000, 0),
        "layer: entry 0 exceeds the bound of bytes: 1000",
        [],
    ),
    (
        UnsupportedMediaType("application/x-erofs", "layer", hint="Convert it."),
        "layer of this media type is not supported: 'application/x-erofs'",
        ["Convert it."],
    ),
    (
        RegistryError(
            "GET",
            "https://me:secret@r.example/v2/?token=secret#secret",
            "Too Many Requests",
            status=429,
            retry_after=30.0,
        ),
        "GET https://r.example/v2/: 429 Too Many Requests",
        [],
    ),
    (
        Unauthorized(
            "GET", "https://r.example/v2/", "denied", status=403, hint="Log in."
        ),
        "GET https://r.example/v2/: 403 denied",
        ["Log in."],
    ),
    (
        RateLimited(
            "GET",
            "https://r.example/v2/",
            "too many requests",
            status=429,
            retry_after=3600.0,
            reset=datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC),
        ),
        (
            "GET https://r.example/v2/: 429 too many requests; "
            "come back at 2026-05-04 03:02:01 UTC"
        ),
        [],
    ),
    (
        LaunchError("mount", errno.EPERM, "/proc", 2, hint="Files mask /proc."),
        "launch failed at mount #2: /proc: EPERM (Operation not permitted)",
        ["Files mask /proc."],
    ),
    (
        ExitError(failed(stderr="sh: 1: odd\n")),
        "sh exited with code 3",
        ["It wrote last:\n    sh: 1: odd"],
    ),
    (
        BootstrapError("Debian sid", failed(stderr="E: no way\n"), hint="No network?"),
        "Debian sid could not be made: sh exited with code 3",
        ["No network?", "It wrote last:\n    E: no way"],
    ),
    (
        LimitExceeded(failed(Verdict.WALL, limits=Limits(wall=5))),
        "sh ended: time used up",
        [
            (
                "Killed: the time of 5 s was used up while running sh. "
                "Raise Limits.wall, or let the program finish sooner."
            )
        ],
    ),
    (
        OutOfMemory(
            failed(
                Verdict.MEMORY,
                limits=Limits(memory="256M"),
                usage=Usage(memory_peak=256 << 20),
            )
        ),
        "sh ended: memory limit reached",
        [
            (
                "Killed: memory limit 256 MiB reached (peak 256 MiB) while running sh. "
                "Raise Limits.memory, or let the program use less."
            )
        ],
    ),
    (
        DeadlineExceeded("make", 2.5, failed(stderr="a\nb"), hint="Raise timeout."),
        "make did not finish within 2.5 s",
        ["Raise timeout.", "It wrote last:\n    a\n    b"],
    ),
    (
        EngineError("the keeper is gone", "killed by SIGKILL", hint="Try again."),
        "the keeper is gone: killed by SIGKILL",
        ["Try again."],
    ),
]

by_class = pytest.mark.parametrize(
    ("error", "message", "notes"), GOLDEN, ids=[type(e).__name__ for e, _, _ in GOLDEN]
)


def below(cls: type[JailboxError]) -> Iterator[type[JailboxError]]:
    """Walk the classes of the tree, each once."""
    yield cls
    for child in cls.__subclasses__():
        yield from below(child)


def drawn() -> list[tuple[str, str | None, str | None]]:
    """Read the drawing: class, parent, builtin."""
    lines = re.findall(
        r"^    ([│ ]*)(?:[├└]── )?(\w+)(?:\((\w+)\))?$",
        errors.__doc__ or "",
        re.MULTILINE,
    )
    path: list[str] = []
    tree: list[tuple[str, str | None, str | None]] = []
    for indent, name, builtin in lines:
        depth = 0 if name == "JailboxError" else len(indent) // 4 + 1
        path[depth:] = [name]
        tree.append((name, path[depth - 1] if depth else None, builtin or None))
    return tree


class TestTree:
    """The classes and how they hang together."""

    def test_drawing(self) -> None:
        """The tree drawn in the module's docstring is the tree of the classes."""
        classes = []
        for cls in below(JailboxError):
            own = [base for base in cls.__bases__ if issubclass(base, JailboxError)]
            builtin = [b for b in cls.__bases__ if not issubclass(b, JailboxError)]
            classes.append(
                (
                    cls.__name__,
                    own[0].__name__ if own else None,
                    builtin[0].__name__ if own and builtin else None,
                )
            )

        assert sorted(classes) == sorted(drawn())

    def test_exported(self) -> None:
        """Every class of the tree is exported."""
        names = {cls.__name__ for cls in below(JailboxError)}

        assert names | {"printable", "shown"} == set(errors.__all__)

    def test_examples_are_complete(self) -> None:
        """The golden list below has an example of every class."""
        assert {type(error) for error, _, _ in GOLDEN} == set(below(JailboxError))

    @pytest.mark.parametrize(
        ("cls", "builtin"),
        [
            (SpecError, ValueError),
            (SpecTypeError, TypeError),
            (SpecTypeError, ValueError),
            (StateError, ValueError),
            (NotFound, LookupError),
            (Malformed, ValueError),
            (LaunchError, OSError),
            (DeadlineExceeded, TimeoutError),
        ],
    )
    def test_builtins(self, cls: type[JailboxError], builtin: type[Exception]) -> None:
        """What people catch already catches ours."""
        assert issubclass(cls, builtin)


class TestMessages:
    """What errors say."""

    @by_class
    def test_golden(self, error: JailboxError, message: str, notes: list[str]) -> None:
        """Every class makes its message from facts, and a note from advice."""
        assert str(error) == message
        assert error.message == message
        assert getattr(error, "__notes__", []) == notes

    @pytest.mark.parametrize(
        "error",
        [
            SpecError(f"labels[{ESC}]", "is\nodd", value=ESC, accepted=f"{ESC}\r"),
            StateError(ESC, ESC, ESC, [ESC]),
            DockerfileError(ESC, 1, ESC, suggestion=ESC),
            ComposeError(ESC, ESC, ESC),
            InvalidReference(ESC, ESC),
            HostError(ESC, path=ESC),
            Unsupported(ESC, since=ESC),
            NotPermitted(ESC, ESC),
            NotEnforced(ESC, ESC, remedy=""),
            NotFound(ESC, ESC, where=ESC),
            DigestMismatch(ESC, ESC, ESC),
            Malformed(ESC, ESC, place=ESC),
            LayerError(ESC, 0, ESC),
            LayerTooLarge(ESC, 1, 0, ESC),
            UnsupportedMediaType(ESC, ESC),
            RegistryError(ESC, ESC, ESC),
            LaunchError(ESC, errno.EPERM, f"/a\n{ESC}\x07"),
            ExitError(failed()),
            DeadlineExceeded(f"{ESC}\n", 1),
            EngineError(ESC, ESC),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_nothing_drives_the_terminal(self, error: JailboxError) -> None:
        """DV8: whatever a jail puts into a name, the message is one printable line."""
        assert str(error).isprintable()

    def test_facts_are_attributes(self) -> None:
        """A caller can act on a refusal without reading its text."""
        error = LaunchError("mount", errno.EPERM, "/proc", 2)

        assert (error.step, error.errno, error.detail, error.index) == (
            "mount",
            errno.EPERM,
            "/proc",
            2,
        )
        assert error.strerror == "Operation not permitted"

    def test_secrets_stay_out_of_urls(self) -> None:
        """User, password, query and fragment of an address are on no attribute."""
        for url in ("https://a:secret@h/p?secret#secret", "a:secret@h/p?secret"):
            error = RegistryError("GET", url, "refused")

            assert "secret" not in repr(vars(error))
            assert error.url.endswith("h/p")

    def test_limit_errors_hold_the_result(self) -> None:
        """The whole result, with its output, is on the error."""
        result = failed()

        assert ExitError(result).result is result
        assert DeadlineExceeded("make", 1, result).result is result


class TestSeveral:
    """Many findings in one error."""

    def test_all_are_listed(self) -> None:
        """Several problems become one error that lists them all, with all advice."""
        error = SpecError.several(
            "container",
            [
                SpecError("a", "is odd", hint="Advice."),
                SpecError("b", "is even", hint="Advice."),
                SpecError("c", "is prime", hint="More."),
            ],
        )

        assert str(error) == "container has 3 problems: a is odd; b is even; c is prime"
        assert error.findings == ("a is odd", "b is even", "c is prime")
        assert error.__notes__ == ["Advice.", "More."]

    def test_one_is_itself(self) -> None:
        """A single problem stays what it is, type included."""
        problem = SpecTypeError("a", "is odd")

        assert SpecError.several("container", [problem]) is problem
        assert problem.findings == ("a is odd",)


class TestPickle:
    """Executors send errors between processes."""

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    @by_class
    def test_round_trip(
        self, error: JailboxError, message: str, notes: list[str], protocol: int
    ) -> None:
        """Every class survives pickling with type, message, facts, notes and errno."""
        error = copy.copy(error)
        error.add_note("added later")

        twin = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301

        assert type(twin) is type(error)
        assert str(twin) == message
        assert vars(twin) == vars(error)
        assert twin.args == error.args
        assert twin.__notes__ == [*notes, "added later"]
        assert getattr(twin, "errno", None) == getattr(error, "errno", None)

    def test_copies_do_not_share_notes(self) -> None:
        """A copy of an error may be annotated without changing the original."""
        error = JailboxError("it broke", hint="Mend it.")
        copy.copy(error).add_note("more")

        assert error.__notes__ == ["Mend it."]

    def test_value_that_cannot_be_pickled(self) -> None:
        """A refused value that cannot be pickled does not keep the error from it."""
        error = SpecError("env", "is odd", value=lambda: None)

        assert "lambda" in str(pickle.loads(pickle.dumps(error)))  # noqa: S301


class TestPrintable:
    """Text from elsewhere, made fit for a terminal."""

    def test_escapes(self) -> None:
        """Control characters, direction marks and lone surrogates become escapes."""
        assert printable("a\x1bb\nc\x7f\u202e\udcff\x85") == (
            "a\\x1bb\\nc\\x7f\\u202e\\udcff\\x85"
        )

    def test_words_stay(self) -> None:
        """Letters of every script stay readable."""
        assert printable("Straße 東京 👍") == "Straße 東京 👍"

    @UNHURRIED
    @given(st.text(st.characters(exclude_categories=())))
    def test_always_printable(self, text: str) -> None:
        """Nothing gets through that is not printable, and once is enough."""
        assert printable(text).isprintable()
        assert printable(printable(text)) == printable(text)
        printable(text).encode()

    def test_shown_is_bounded(self) -> None:
        """A value of a gigabyte takes no more room in a message than a small one."""
        for value in ("a" * 10_000, b"a" * 10_000, list(range(10_000))):
            assert len(shown(value)) < 200
            assert "..." in shown(value)

    def test_shown_survives_bad_repr(self) -> None:
        """A value whose repr fails is shown by its type."""

        class Odd:
            def __repr__(self) -> str:
                raise RuntimeError

        assert shown(Odd()) == "<Odd>"
        assert shown(10**10_000) == "<int>"
