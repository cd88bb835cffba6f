"""What holds for the whole room: purity, examples, and answers to any input."""

import ast
import doctest
import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jailbox.spec
from jailbox.errors import SpecError
from jailbox.spec import command, limits, mount, security, signals, texts, units
from jailbox.spec.capabilities import capability_name
from jailbox.spec.container import ContainerSpec, ProgramSpec
from jailbox.spec.network import Network

# A busy machine is no failure.
UNHURRIED = settings(deadline=None)

MODULES = [
    importlib.import_module(f"jailbox.spec.{found.name}")
    for found in pkgutil.iter_modules(jailbox.spec.__path__)
]


def short(module: ModuleType) -> str:
    """Name a module in the report."""
    return module.__name__.rpartition(".")[2]


@pytest.mark.parametrize("module", MODULES, ids=short)
def test_pure(module: ModuleType) -> None:
    """A value touches nothing: no module of the room imports what acts."""
    tree = ast.parse(Path(module.__file__ or "").read_text("utf-8"))
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }

    assert not imported & {"os", "io", "socket", "subprocess", "threading", "pathlib"}


@pytest.mark.parametrize("module", MODULES, ids=short)
def test_examples(module: ModuleType) -> None:
    """The examples in docstrings give what they say."""
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("module", MODULES, ids=short)
def test_exports(module: ModuleType) -> None:
    """Everything that a module exports exists."""
    for name in module.__all__:
        assert hasattr(module, name)


def test_there_are_examples() -> None:
    """The room has examples at all."""
    finder = doctest.DocTestFinder()
    found = sum(len(test.examples) for m in MODULES for test in finder.find(m))

    assert found > 10


# Whatever a caller may come up with, small and absurd.
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**30, -(10**30), 10**4000, 2**63, 2**32 - 1, 2**64])
    | st.floats()
    | st.complex_numbers()
    | st.text(st.characters(exclude_categories=()))
    | st.text(st.sampled_from("0123456789abckKMGTiB.:-+,/ \0\n=_"))
    | st.binary()
    | st.builds(object)
    | st.sampled_from([int, Path, ..., NotImplemented])
)
KEYS = st.none() | st.integers() | st.text() | st.binary()
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(KEYS, inner, max_size=3)
        | st.builds(iter, st.lists(inner, max_size=3))
    ),
    max_leaves=6,
)

READERS: dict[str, Callable[[Any], object]] = {
    "parse_size": units.parse_size,
    "parse_duration": units.parse_duration,
    "parse_cpuset": limits.parse_cpuset,
    "mount_target": mount.mount_target,
    "bind": lambda value: mount.Mount.bind(value, "/a"),
    "tmpfs": lambda value: mount.Mount.tmpfs("/a", value, value),
    "device": mount.Mount.device,
    "network": Network.of,
    "signal_number": signals.signal_number,
    "capability_name": capability_name,
    "sysctl_path": security.sysctl_path,
    "text_of": lambda value: texts.text_of(value, "x"),
    "absolute_path": lambda value: texts.absolute_path(value, "x"),
    "argv_of": command.argv_of,
    "argv_of a shell": lambda value: command.argv_of(value, shell=True),
    "env_of": command.env_of,
    "cwd_of": command.cwd_of,
    "user_of": command.user_of,
    "User": command.User,
    "groups_of": command.groups_of,
    "umask_of": command.umask_of,
    "hostname_of": command.hostname_of,
    "container_name": command.container_name,
    "labels_of": command.labels_of,
    "terminal_size": command.terminal_size,
    "unmasking": security.Security().unmasking,
    "adding": security.Security().adding,
    "degrading": security.Security().degrading,
}


def refusal(act: Callable[[], object]) -> SpecError | None:
    """Do something; return how it was refused. Any other error is a failure."""
    try:
        act()
    except SpecError as error:
        return error
    return None


@pytest.mark.parametrize("reader", READERS)
@UNHURRIED
@given(value=ANYTHING)
def test_any_value(reader: str, value: object) -> None:
    """Whatever is passed, it is read, or refused with one printable line of ours."""
    refused = refusal(lambda: READERS[reader](value))
    assert str(refused).isprintable()
    assert len(str(refused)) < 1000


@pytest.mark.parametrize(
    "cls",
    [limits.Limits, security.Security, ContainerSpec, ProgramSpec],
    ids=lambda cls: cls.__name__,
)
@UNHURRIED
@given(data=st.data())
def test_any_field(cls: type[attrs.AttrsInstance], data: st.DataObject) -> None:
    """Whatever a field gets, the value is made and is a key, or it is refused."""
    must: dict[type, dict[str, Any]] = {
        ContainerSpec: {"image": "x"},
        ProgramSpec: {"argv": ["x"]},
    }
    names = [f.name for f in attrs.fields(cls) if f.name != "image"]
    wishes = data.draw(st.dictionaries(st.sampled_from(names), ANYTHING, max_size=2))

    def make() -> None:
        value: Any = cls(**must.get(cls, {}) | wishes)
        hash(value)
        assert repr(value).isprintable()
        assert attrs.evolve(value) == value

    assert str(refusal(make)).isprintable()
