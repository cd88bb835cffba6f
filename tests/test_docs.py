"""
Every example in the documentation runs, and says what it claims to say.

A page's ``python`` blocks run in order in one namespace. What they print must
equal the ``output`` block right behind them, where ``...`` stands for anything.
A block that needs something of the machine says so in its fence
(```` ```python userns cgroup ````) and is left out by name where that is absent,
like a marked test.

Files in ``docs/examples`` run as programs; ``NAME.out`` is what they print.
"""

import contextlib
import doctest
import io
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from tests import abilities

PROJECT = Path(__file__).parent.parent
PAGES = [PROJECT / "README.md", *sorted(PROJECT.glob("docs/**/*.md"))]
EXAMPLES = PROJECT / "docs/examples"
BLOCK = re.compile(
    r"^```python(?P<needs>[^\n]*)\n(?P<code>.*?)^```$"
    r"(?:\n+^```output\n(?P<output>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)


@attrs.frozen
class Block:
    """One example of a page."""

    line: int
    needs: list[str]
    code: str
    output: str | None


def blocks(page: Path) -> Iterator[Block]:
    """Yield the examples of *page* in order."""
    text = page.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("code"))
        yield Block(line, match["needs"].split(), match["code"], match["output"])


def differs(want: str, got: str) -> str:
    """Return how *got* is not what was wanted, or nothing."""
    if doctest.OutputChecker().check_output(want, got, doctest.ELLIPSIS):
        return ""
    return f"wanted:\n{want}\ngot:\n{got}"


def with_examples(pages: list[Path]) -> list[Path]:
    """Return those of *pages* that have an example."""
    return [page for page in pages if any(blocks(page))]


@pytest.mark.parametrize(
    "page", with_examples(PAGES), ids=lambda page: str(page.relative_to(PROJECT))
)
@pytest.mark.usefixtures("keeper")
def test_page(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples of a page run, and print what the page says."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page):
        for need in block.needs:
            if reason := abilities.ABILITIES[need]():
                pytest.skip(f"line {block.line}: {reason}")
        # Blank lines in front, so that tracebacks name the line of the page.
        code = compile("\n" * block.line + block.code, page, "exec")
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(code, names)  # noqa: S102  # It is our own documentation.
        if block.output is not None:
            assert differs(block.output, said.getvalue()) == "", block.line


def test_every_block_is_found() -> None:
    """No page has a Python block that the runner does not see."""
    for page in PAGES:
        fences = re.findall(r"^\s*```\s*py", page.read_text("utf-8"), re.MULTILINE)

        assert len(fences) == len(list(blocks(page))), page


@pytest.mark.slow
@pytest.mark.userns
@pytest.mark.cgroup
def test_examples(tmp_path: Path) -> None:
    """Each example program ends well and prints what stands beside it."""
    for program in sorted(EXAMPLES.glob("*.py")):
        done = subprocess.run(
            [sys.executable, "-W", "error", program],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

        assert done.returncode == 0, f"{program}:\n{done.stderr}"
        want = program.with_suffix(".out").read_text(encoding="utf-8")
        assert differs(want, done.stdout) == "", program


def test_links() -> None:
    """Every link between pages leads to a file that exists."""
    broken = [
        f"{page.relative_to(PROJECT)}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
        if not (page.parent / target).exists()
    ]

    assert broken == []
