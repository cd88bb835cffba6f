"""Rules of the house that a machine can check."""

import ast
import importlib
import importlib.metadata
import json
import pkgutil
import re
import runpy
import struct
import subprocess
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

import jailbox
from jailbox import _version

PROJECT = Path(__file__).parent.parent
MODULES = sorted(PROJECT.glob("src/**/*.py"))
TESTS = sorted(PROJECT.glob("tests/**/*.py"))

# What `import jailbox` must not pay for; each is loaded where it is first needed.
LATE = {
    "asyncio",
    "cffi",
    "concurrent.futures",
    "ctypes",
    "email",
    "http",
    "jailbox._native",
    "multiprocessing",
    "shutil",
    "socket",
    "ssl",
    "subprocess",
    "tarfile",
    "tempfile",
    "urllib3",
    "yaml",
    "zstandard",
}

# Runs before the import: writes what it does that is more than reading modules.
WITNESS = """
import json, os, sys
deeds = []
acts = (
    "os.", "shutil.", "signal.", "socket.", "subprocess.", "_thread.", "pty.",
    "ctypes.", "mmap.", "syslog.", "tempfile.", "fcntl.", "resource.",
)
looks = ("os.listdir", "os.scandir", "os.walk")
roots = tuple(os.path.realpath(each) for each in sys.path if each)

def witness(event, args):
    if event == "open":
        path, mode, flags = args
        where = os.path.realpath(os.fsdecode(path))
        reads = flags is None or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if not (reads and where.startswith(roots)):
            deeds.append(f"open {path} {mode} {flags}")
    elif event.startswith(acts) and event not in looks:
        deeds.append(f"{event} {args}")

sys.addaudithook(witness)
before = set(sys.modules)
import jailbox
done = list(deeds)
print(json.dumps({"deeds": done, "modules": sorted(set(sys.modules) - before)}))
"""


@pytest.fixture(scope="module")
def imported() -> dict[str, list[str]]:
    """Return what ``import jailbox`` does and loads in a fresh interpreter."""
    said = subprocess.run(
        [sys.executable, "-B", "-c", WITNESS],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, list[str]] = json.loads(said.stdout)
    return found


def test_contracts() -> None:
    """Imports go down only, and every room has its floor."""
    # In a process of its own, for the linter leaves threads behind.
    linter = "import sys; from importlinter.cli import lint_imports as lint"
    said = subprocess.run(
        [
            sys.executable,
            "-c",
            f"{linter}; sys.exit(lint(no_cache=True, no_logo=True))",
        ],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert said.returncode == 0, said.stdout + said.stderr


def test_public_names() -> None:
    """``jailbox.__all__`` is sorted and names everything public, and only that."""
    public = {
        name
        for name, value in vars(jailbox).items()
        if not name.startswith("_")
        and not isinstance(value, types.ModuleType)
        and value is not getattr(typing, name, None)
    }

    assert sorted(jailbox.__all__) == jailbox.__all__
    assert public <= set(jailbox.__all__)
    assert all(hasattr(jailbox, name) for name in jailbox.__all__)


def test_rooms_do_not_hide_names() -> None:
    """
    A public name stays what it is, whatever is imported later.

    Importing a room sets an attribute of the package: ``jailbox.run`` is both a
    function and a room.
    """
    before = {name: getattr(jailbox, name) for name in jailbox.__all__}
    for module in pkgutil.walk_packages(jailbox.__path__, "jailbox."):
        if module.name != "jailbox._native.build":
            importlib.import_module(module.name)

    assert {name: getattr(jailbox, name) for name in jailbox.__all__} == before


def test_import_does_nothing(imported: dict[str, list[str]]) -> None:
    """Importing jailbox reads modules: no file, process, thread, socket, signal."""
    assert imported["deeds"] == []


def test_import_is_cheap(imported: dict[str, list[str]]) -> None:
    """Importing jailbox loads none of the expensive modules."""
    assert "jailbox" in imported["modules"]
    assert LATE & set(imported["modules"]) == set()


def test_version() -> None:
    """The installed metadata and the source tree are of one version."""
    assert importlib.metadata.version("jailbox") == _version.__version__


@pytest.mark.parametrize(
    "file", [*MODULES, *TESTS], ids=lambda file: str(file.relative_to(PROJECT))
)
def test_docstrings(file: Path) -> None:
    """Every module says what it is for, and every test which fact it proves."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), f"{file}: no module docstring"
    silent = [
        f"{file}:{node.lineno}: {node.name}"
        for node in functions(tree)
        if node.name.startswith("test_") and not ast.get_docstring(node)
    ]

    assert silent == []


def functions(
    tree: ast.Module,
) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield every function of a module, methods too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_no_dataclasses() -> None:
    """Values are attrs classes everywhere."""
    users = [
        str(file.relative_to(PROJECT))
        for file in MODULES
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if (isinstance(node, ast.ImportFrom) and node.module == "dataclasses")
        or (
            isinstance(node, ast.Import)
            and any(name.name == "dataclasses" for name in node.names)
        )
    ]

    assert users == []


def test_nobody_is_ended_by_number() -> None:
    """
    A number may be another process' a moment later: Python sends signals to processes
    by descriptors only (LIF17).
    """
    calls = re.compile(r"os\.(kill|killpg)\(|signal\.pthread_kill\(|waitpid\(")
    sources = [*(PROJECT / "src/jailbox").rglob("*.py")]

    assert len(sources) > 100
    assert [
        f"{source}: {found[0]}"
        for source in sources
        if (found := calls.search(source.read_text(encoding="utf-8")))
    ] == []


@pytest.mark.slow
def test_helper_stands_alone(tmp_path: Path) -> None:
    """
    The helper needs no library and no loader: between clone and exec there is nothing
    that could allocate, lock or look a name up (LIB1).
    """
    build = runpy.run_path(str(PROJECT / "src/jailbox/_native/build.py"))
    command = build["helper_command"](
        ["gcc"], str(tmp_path / "helper"), 'JB_VERSION=""'
    )
    subprocess.run(command, cwd=PROJECT, check=True)

    image = (tmp_path / "helper").read_bytes()

    kind, _, _, _, at, _, _, _, size, count = struct.unpack_from(
        "<HHIQQQIHHH", image, 16
    )
    headers = [
        struct.unpack_from("<IIQQQQ", image, at + n * size) for n in range(count)
    ]
    dynamic = next(head for head in headers if head[0] == 2)
    tags = struct.iter_unpack("<QQ", image[dynamic[2] : dynamic[2] + dynamic[5]])
    assert kind == 3  # position-independent
    assert 3 not in [head[0] for head in headers]  # PT_INTERP
    assert 1 not in [tag for tag, _ in tags]  # DT_NEEDED


def test_what_is_said_to_be_tested_is() -> None:
    """Every file, class and test that ``tests/README.md`` names is there."""
    text = (PROJECT / "tests/README.md").read_text(encoding="utf-8")
    names = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", text)
    missing = []
    for file, name in names:
        path = PROJECT / ("" if file.startswith("tools/") else "tests") / file
        source = path.read_text(encoding="utf-8") if path.exists() else None
        if source is None or (name and not re.search(rf"(def|class) {name}\b", source)):
            missing.append(f"{file}::{name}")

    assert len(names) > 80
    assert missing == []
