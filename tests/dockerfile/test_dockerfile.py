"""Dockerfiles: what is written, what it says, and what is wrong with it."""

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jailbox.dockerfile import Ignore, WordError, expand, expand_words, parse
from jailbox.dockerfile.ignore import Pattern
from jailbox.dockerfile.instructions import Copy, Env, Healthcheck, Run
from jailbox.errors import DockerfileError


class TestParser:
    def test_stages(self) -> None:
        """Stages have names, numbers and platforms, and ARG may stand before them."""
        file = parse(
            "ARG V=1\nFROM --platform=linux/arm64 a:$V AS Build\nRUN x\nFROM scratch\n"
        )
        assert [one.pairs[0].name for one in file.arguments] == ["V"]
        assert [stage.name for stage in file.stages] == ["build", None]
        assert file.stages[0].base.platform == "linux/arm64"
        assert file.stages[1].index == 1

    def test_heredocs(self) -> None:
        """A here-document is the command, or a file; quotes keep its variables."""
        text = "FROM a\nRUN <<-'EOF'\n\techo $X\n\tEOF\nCOPY <<a.txt b /d/\nhi\na.txt\n"
        run, copy = parse(text).stages[0].instructions
        assert isinstance(run, Run)
        assert (run.heredocs[0].text, run.heredocs[0].expands) == ("echo $X\n", False)
        assert isinstance(copy, Copy)
        assert (copy.heredocs[0].name, copy.sources) == ("a.txt", ("b",))
        assert copy.target == "/d/"

    def test_continuation(self) -> None:
        """Lines are joined over comments; the other escape character joins too."""
        text = "# escape=`\nFROM a\nENV A=1 `\n  # no\n  B=c:\\d\n"
        (env,) = parse(text).stages[0].instructions
        assert isinstance(env, Env)
        assert [(pair.name, pair.value) for pair in env.pairs] == [
            ("A", "1"),
            ("B", "c:\\d"),
        ]
        assert (env.location.first, env.location.last) == (3, 5)

    def test_times(self) -> None:
        """Times of a health check are seconds."""
        text = 'FROM a\nHEALTHCHECK --interval=1m30s --timeout=250ms CMD ["x"]\n'
        (check,) = parse(text).stages[0].instructions
        assert isinstance(check, Healthcheck)
        assert (check.interval, check.timeout, check.retries) == (90.0, 0.25, None)

    @pytest.mark.parametrize(
        ("text", "line", "words"),
        [
            ("", 1, "no instructions"),
            ("RUN x\n", 1, "before any FROM"),
            ("FROM a\n\nCOPPY a b\n", 3, "did you mean COPY?"),
            ("FROM a\nRUN --mont=x y\n", 2, "did you mean --mount?"),
            ("FROM a\nCOPY a\n", 2, "a source and a target"),
            ("FROM a\nCOPY --chmod 7 a b\n", 2, "lacks a value after --chmod"),
            ("FROM a\nCOPY --link=perhaps a b\n", 2, "neither true nor false"),
            ("FROM a\nRUN <<EOF\nx\n", 2, "no line 'EOF' ends"),
            ("FROM a\nENV X\n", 2, "name and a value"),
            ("FROM a\nCMD [1]\n", 2, "no string"),
            ("FROM a\nHEALTHCHECK --interval=3 CMD x\n", 2, "is no time"),
            ("FROM a\nONBUILD ONBUILD RUN x\n", 2, "put off twice"),
            ("FROM a AS 1\n", 1, "stage name"),
            ("FROM a\nSHELL sh\n", 2, "JSON form"),
            ("# escape=x\nFROM a\n", 1, "escape character"),
        ],
    )
    def test_mistakes(self, text: str, line: int, words: str) -> None:
        """A mistake has its file, its line, and what was probably meant."""
        with pytest.raises(DockerfileError) as error:
            parse(text, "app/Dockerfile")
        assert (error.value.source, error.value.line) == ("app/Dockerfile", line)
        assert words in str(error.value)


NAMES = st.sampled_from(["A", "B", "UNSET"])
# What both a shell and a Dockerfile read in the same way, inside of double quotes.
PLAIN = st.text(alphabet="ab/.", max_size=5)
WORDS = st.one_of(
    PLAIN,
    NAMES.map(lambda name: f"${{{name}}}"),
    st.tuples(
        NAMES, st.sampled_from([":-", "-", ":+", "+", "#", "##", "%", "%%"]), PLAIN
    ).map(lambda parts: f"${{{parts[0]}{parts[1]}{parts[2]}}}"),
    st.tuples(
        NAMES,
        st.sampled_from(["#", "##", "%", "%%"]),
        st.sampled_from(["*a", "a*", "?"]),
    ).map(lambda parts: f"${{{parts[0]}{parts[1]}{parts[2]}}}"),
)


class TestWords:
    @pytest.mark.slow
    @given(st.lists(WORDS, min_size=1, max_size=30))
    def test_as_a_shell(self, words: list[str]) -> None:
        """Expansion is that of a shell, where a shell has it."""
        env = {"A": "a/b.ab", "B": ""}
        script = "\n".join(f'printf "%s\\n" "{word}"' for word in words)
        said = subprocess.run(
            ["/bin/sh", "-c", script], env=env, check=True, capture_output=True
        )
        found = [expand(f'"{word}"', env) for word in words]
        assert "".join(f"{one}\n" for one in found) == said.stdout.decode()

    def test_split(self) -> None:
        """Values are split at spaces, quoted ones are not."""
        assert expand_words('$A "$A" x', {"A": "1 2"}) == ("1", "2", "1 2", "x")

    @pytest.mark.parametrize("text", ["'a", '"a', "${A", "${}", "${A^B}", "${A:?no}"])
    def test_mistakes(self, text: str) -> None:
        """What makes no sense is refused."""
        with pytest.raises(WordError):
            expand(text, {})

    def test_depth(self) -> None:
        """Variables within variables are bounded."""
        with pytest.raises(WordError, match="deeper"):
            expand("${A:-" * 5000 + "}" * 5000, {})


class TestIgnore:
    def test_last_decides(self) -> None:
        """The last pattern that fits decides, also for what lies beneath."""
        ignore = Ignore.parse("# no\n*\n!src\nsrc/*.log\n")
        assert ignore.ignores("README")
        assert not ignore.ignores("src/a/b.c")
        assert ignore.ignores("src/x.log")

    def test_pruning(self) -> None:
        """A directory is entered only where something in it may be taken back."""
        ignore = Ignore.parse("vendor\nlib\n!lib/a/keep\n")
        assert ignore.prunes("vendor")
        assert not ignore.prunes("lib")
        assert not ignore.prunes("lib/a")
        assert ignore.prunes("lib/b")
        assert not ignore.prunes("src")

    @given(
        st.text(alphabet="ab*/?", min_size=1, max_size=8),
        st.text(alphabet="ab/", min_size=1, max_size=8),
    )
    def test_two_ways(self, pattern: str, path: str) -> None:
        """Patterns with many stars fit the same as those with few."""
        plain = Pattern.parse(pattern)
        many = Pattern.parse(pattern)
        object.__setattr__(many, "_regex", None)
        assert plain.fits(path) == many.fits(path)

    def test_hostile_patterns(self) -> None:
        """A pattern made to be slow is not: places are counted, not paths tried."""
        pattern = Pattern.parse("*a" * 60 + "b")
        assert not pattern.fits("a" * 2000)
