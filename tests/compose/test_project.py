"""Projects: files found, laid over each other, extended, included, and checked."""

import os
import textwrap
from pathlib import Path

import pytest

from jailbox.compose import Compose
from jailbox.errors import ComposeError


def put(folder: Path, **files: str) -> Path:
    """Write files; ``__`` in a name is a slash, ``_yaml`` an ending."""
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_yaml", ".yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return folder


def load(folder: Path, *files: str, **options: object) -> Compose:
    """Load files of a folder, with an environment of their own."""
    options.setdefault("env", {})
    return Compose.load(list(files) or None, directory=folder, **options)  # type: ignore[arg-type]


def service(compose: Compose, name: str) -> dict[str, object]:
    """Return a service of the canonical form."""
    services = compose.config()["services"]
    assert isinstance(services, dict)
    found = services[name]
    assert isinstance(found, dict)
    return found  # type: ignore[return-value]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a name that is one."""
    (tmp_path / "shop").mkdir()
    return tmp_path / "shop"


class TestFinding:
    def test_here_and_above(self, folder: Path) -> None:
        """A project is found from below, and named by its directory."""
        put(folder, compose_yaml="services: {a: {image: x}}", below__x="")
        found = load(folder / "below")
        assert found.name == "shop"
        assert found.files == (str(folder / "compose.yaml"),)

    def test_override_beside(self, folder: Path) -> None:
        """A file for overriding that lies beside is laid over it."""
        put(folder, compose_yaml="services: {a: {image: x}}")
        (folder / "compose.override.yml").write_text("services: {a: {image: y}}")
        assert service(load(folder), "a")["image"] == "y"

    def test_none(self, folder: Path) -> None:
        """Where there is none, the error says what was looked for."""
        with pytest.raises(ComposeError, match=r"compose\.yaml") as error:
            load(folder)
        assert error.value.kind == "file"

    @pytest.mark.parametrize("name", ["Shop", "a b", "../x", "a\n", "-a"])
    def test_names(self, folder: Path, name: str) -> None:
        """CMP4: a name that could be a path, or more than one line, is none."""
        put(folder, compose_yaml="services: {a: {image: x}}")
        with pytest.raises(ComposeError, match="is no name"):
            load(folder, name=name)

    def test_environment(self, folder: Path) -> None:
        """The environment wins over .env, and this process is not looked at."""
        put(folder, compose_yaml="services: {a: {image: '$A-$B-$HOME'}}")
        (folder / ".env").write_text("A=1\nB=2\n")
        found = load(folder, env={"A": "9"})
        assert service(found, "a")["image"] == "9-2-"
        assert found.unset == ("HOME",)

    def test_nothing_changes(self, folder: Path) -> None:
        """Loading leaves the directory and the environment of the process alone."""
        put(folder, compose_yaml="services: {a: {image: x}}")
        before = (Path.cwd(), dict(os.environ))
        load(folder)
        assert (Path.cwd(), dict(os.environ)) == before


class TestLaying:
    def test_over(self, folder: Path) -> None:
        """Mappings merge, sequences join, commands are replaced."""
        put(
            folder,
            a_yaml="""
                services:
                  web:
                    image: x
                    command: [one]
                    environment: [A=1, B=1]
                    ports: ["80:80", "81:81"]
            """,
            b_yaml="""
                services:
                  web:
                    command: two three
                    environment: {B: 2}
                    ports: ["82:82", "81:81"]
            """,
        )
        found = service(load(folder, "a.yaml", "b.yaml"), "web")
        assert found["command"] == ["two", "three"]
        assert found["environment"] == {"A": "1", "B": "2"}
        ports = found["ports"]
        assert isinstance(ports, list)
        assert [port["published"] for port in ports] == ["80", "81", "82"]

    def test_reset_and_override(self, folder: Path) -> None:
        """!reset takes away, !override replaces."""
        put(
            folder,
            a_yaml="services: {a: {image: x, dns: [1.1.1.1], labels: {l: m}}}",
            b_yaml="services: {a: {labels: !reset {}, dns: !override [9.9.9.9]}}",
        )
        found = service(load(folder, "a.yaml", "b.yaml"), "a")
        assert "labels" not in found
        assert found["dns"] == ["9.9.9.9"]

    def test_kinds_that_differ(self, folder: Path) -> None:
        """A mapping cannot be laid over what is none; the line is named."""
        put(
            folder,
            a_yaml="x-a: [1]\nservices: {a: {image: x}}",
            b_yaml="services: {}\nx-a: {b: 1}",
        )
        with pytest.raises(ComposeError, match=r"b\.yaml:2: x-a"):
            load(folder, "a.yaml", "b.yaml")

    def test_extends(self, folder: Path) -> None:
        """What is extended lies beneath; its paths begin at its own file."""
        put(
            folder,
            compose_yaml="""
                services:
                  a:
                    extends: {file: lib/base.yaml, service: b}
                    environment: {B: 2}
            """,
            lib__base_yaml="""
                services:
                  b: {image: x, volumes: ["./data:/data"], environment: {A: 1}}
            """,
        )
        found = service(load(folder), "a")
        assert found["environment"] == {"A": "1", "B": "2"}
        volumes = found["volumes"]
        assert isinstance(volumes, list)
        assert volumes[0]["source"] == str(folder / "lib/data")

    def test_include(self, folder: Path) -> None:
        """What is included brings its services, with its own variables."""
        put(
            folder,
            compose_yaml="include: [sub/compose.yaml]\nservices: {a: {image: x}}",
            sub__compose_yaml="services: {b: {image: '$TAG', build: .}}",
        )
        (folder / "sub/.env").write_text("TAG=own\n")
        found = service(load(folder), "b")
        assert found["image"] == "own"
        build = found["build"]
        assert isinstance(build, dict)
        assert build["context"] == str(folder / "sub")

    def test_profiles(self, folder: Path) -> None:
        """A service with profiles is there when one of them is enabled."""
        put(
            folder,
            compose_yaml="services: {a: {image: x}, b: {image: y, profiles: [p]}}",
        )
        assert load(folder).disabled == ("b",)
        assert load(folder, profiles=["p"]).disabled == ()

    def test_env_file(self, folder: Path) -> None:
        """What a service says wins over its files; a bare name asks what is set."""
        put(
            folder,
            compose_yaml="""
                services:
                  a:
                    image: x
                    env_file: [one.env, {path: two.env, required: false}]
                    environment: {B: own, C: null}
            """,
        )
        (folder / "one.env").write_text("A=1\nB=file\n")
        found = service(load(folder, env={"C": "env"}), "a")
        assert found["environment"] == {"A": "1", "B": "own", "C": "env"}


class TestMistakes:
    @pytest.mark.parametrize(
        ("text", "place", "words", "kind"),
        [
            ("services:\n  a:\n    imagee: x\n", 3, "did you mean 'image'", "schema"),
            ("services:\n  a:\n    image: [x]\n", 3, "must be text", "schema"),
            ("services:\n  a: {image: x}\nservice: {}\n", 3, "'services'", "schema"),
            (
                "services:\n  a:\n    build: .\n    links: [bb]\n  b: {build: .}\n",
                4,
                "did you mean 'b'",
                "reference",
            ),
            ("services:\n  a:\n    image: '${A'\n", 3, "not closed", "interpolation"),
            (
                "services:\n  a:\n    image: '${A:?say A}'\n",
                3,
                "say A",
                "interpolation",
            ),
            ("services:\n  a:\n    image: x\n    init: maybe\n", 4, "boolean", "cast"),
            ("services:\n  a:\n    ports: [80]\n", 2, "nothing to run", "empty"),
            (
                "services:\n  a:\n    image: x\n    ports: ['80:x']\n",
                4,
                "container port 'x'",
                "value",
            ),
            (
                "services:\n  a:\n    image: x\n    volumes: ['data:/d']\n",
                4,
                "volume 'data'",
                "reference",
            ),
            (
                "services:\n  a: {image: x}\n  b/../c: {image: x}\n",
                3,
                "is no name",
                "schema",
            ),
        ],
    )
    def test_each(
        self, folder: Path, text: str, place: int, words: str, kind: str
    ) -> None:
        """A mistake has its file, its line, its kind, and what was meant."""
        put(folder, compose_yaml=text)
        with pytest.raises(ComposeError) as error:
            load(folder)
        assert words in str(error.value)
        assert (error.value.line, error.value.kind) == (place, kind)
        assert error.value.file == str(folder / "compose.yaml")

    def test_cycle(self, folder: Path) -> None:
        """CMP5: a circle of dependencies is named in its order."""
        put(
            folder,
            compose_yaml="""
                services:
                  a: {image: x, depends_on: [b]}
                  b: {image: x, depends_on: [c]}
                  c: {image: x, depends_on: [a]}
            """,
        )
        with pytest.raises(ComposeError, match="a -> b -> c -> a") as error:
            load(folder)
        assert error.value.kind == "cycle"

    @pytest.mark.parametrize("count", [200, 2000])
    def test_long_chains(self, folder: Path, count: int) -> None:
        """Dependencies as long as anybody likes are no circle, and end."""
        lines = ["services:", "  s0: {image: x}"]
        lines += [
            f"  s{n}: {{image: x, depends_on: [s{n - 1}]}}" for n in range(1, count)
        ]
        put(folder, compose_yaml="\n".join(lines))
        services = load(folder).config()["services"]
        assert isinstance(services, dict)
        assert len(services) == count

    @pytest.mark.parametrize("kind", ["extends", "include"])
    def test_circles_of_files(self, folder: Path, kind: str) -> None:
        """A service that extends itself, a file that includes itself: both end."""
        text = {
            "extends": "services: {a: {extends: b}, b: {extends: a}}",
            "include": "include: [compose.yaml]\nservices: {a: {image: x}}",
        }[kind]
        put(folder, compose_yaml=text)
        with pytest.raises(ComposeError, match="in a circle") as error:
            load(folder)
        assert error.value.kind == "cycle"

    def test_several_at_once(self, folder: Path) -> None:
        """Everything that is wrong with a file is said, the first as the error."""
        put(folder, compose_yaml="services: {a: {imag: x, comand: y}}")
        with pytest.raises(ComposeError) as error:
            load(folder)
        assert "imag" in str(error.value)
        assert any("comand" in note for note in error.value.__notes__)
