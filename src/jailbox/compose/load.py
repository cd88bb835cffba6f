"""
Files to one document: read, fill in, hold against the schema, extend, include, merge.

What reads files is given (`Files`), so that this room touches no disk; `project` gives
the real one.
"""

import re
from collections.abc import Callable
from collections.abc import Mapping as AnyMapping
from posixpath import dirname
from typing import Protocol

from attrs import Factory, define, evolve, frozen

from jailbox.compose.canonical import canonical
from jailbox.compose.dotenv import read_dotenv
from jailbox.compose.interpolate import interpolated
from jailbox.compose.merge import merged, unique
from jailbox.compose.paths import Base
from jailbox.compose.read import read
from jailbox.compose.schema import DOCUMENT
from jailbox.compose.shape import check
from jailbox.compose.tree import (
    Mapping,
    Node,
    Sequence,
    Tagged,
    as_mapping,
    problem,
    stripped,
)
from jailbox.errors import ComposeError

__all__ = ["Files", "Loader", "load_files", "own_name", "plain_name", "text_at"]


class Files(Protocol):
    """Where the texts of files come from."""

    def read(self, path: str) -> str:
        """
        Return what is in a file.

        Raises:
            OSError: It cannot be read.
        """

    def exists(self, path: str) -> bool:
        """Tell whether there is such a file."""


@frozen
class Loader:
    """
    What loading goes by.

    Attributes:
        files: Where texts come from.

        env: The variables.

        base: Where relative paths begin.

        unset: Told the name of each variable that is used and not set.

        chain: The files that include this one, outermost first.
    """

    files: Files
    env: AnyMapping[str, str]
    base: Base
    unset: Callable[[str], None] = lambda _name: None
    chain: tuple[str, ...] = ()


@define
class _Extending:
    """The documents that services are taken from, read once each."""

    loader: Loader
    documents: dict[str, Mapping] = Factory(dict)


def load_files(
    paths: AnyMapping[str, str | None] | list[str], loader: Loader
) -> Mapping:
    """
    Load compose files, each laid over the ones before it.

    Args:
        paths: The files, absolute, each with its text; ``None`` to have it read.

        loader: What loading goes by.

    Returns:
        One document: canonical, without ``extends`` of other services and without
        ``include``.

    Raises:
        ComposeError: A file is missing, or what is in it makes no sense.
    """
    result = Mapping()
    texts = (
        paths.items() if isinstance(paths, AnyMapping) else ((p, None) for p in paths)
    )
    for path, text in texts:
        for document in _documents(path, text, loader):
            result = merged(result, _whole(document, path, loader))
    return unique(result)


def _documents(path: str, text: str | None, loader: Loader) -> list[Mapping]:
    if text is None:
        text = text_at(path, loader)
    return [_checked(document, path, loader) for document in read(text, path)]


def text_at(path: str, loader: Loader, asker: ComposeError | None = None) -> str:
    """
    Return what is in a file.

    Raises:
        ComposeError: It cannot be read; *asker* is the error that says who names it.
    """
    try:
        return loader.files.read(path)
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        if asker is not None:
            raise ComposeError(
                asker.file,
                asker.path,
                f"names the file {path}, which cannot be read: {why}",
                line=asker.line,
                kind="file",
            ) from error
        raise ComposeError(
            path, "the file", f"cannot be read: {why}", kind="file"
        ) from error


def _checked(document: Mapping, path: str, loader: Loader) -> Mapping:
    """Fill in a document, hold it against the schema, and make it canonical."""
    filled = interpolated(document, loader.env, loader.unset)
    problems = [
        problem(filled, where, text, kind="schema", file=path)
        for where, text in check(filled, DOCUMENT)
    ]
    if problems:
        first = problems[0]
        for other in problems[1:]:
            first.add_note(f"Also: {other.message}")
        raise first
    return canonical(filled, loader.base)


def _whole(document: Mapping, path: str, loader: Loader) -> Mapping:
    """Put into a document what it extends and what it includes."""
    document = _extended(document, path, _Extending(loader))
    included = document.pop("include", None)
    if not isinstance(included, Sequence):
        return document
    result = Mapping()
    for index, entry in enumerate(included):
        asker = problem(included, (index,), "is included", file=path)
        inner = _included(as_mapping(entry), asker, path, loader)
        result = _imported(result, inner)
    return merged(result, document)


# What is included.


def _included(
    entry: Mapping, asker: ComposeError, path: str, loader: Loader
) -> Mapping:
    paths = [loader.base.join(str(one)) for one in _rows(entry.get("path"))]
    chain = (*loader.chain, path)
    for one in paths:
        if one in chain:
            raise ComposeError(
                asker.file,
                "include",
                f"goes in a circle: {' -> '.join((*chain, one))}",
                line=asker.line,
                kind="cycle",
            )
    wish = entry.get("project_directory")
    folder = loader.base.join(str(wish)) if wish else dirname(paths[0])
    env = dict(loader.env)
    named = [loader.base.join(str(one)) for one in _rows(entry.get("env_file"))]
    default = f"{folder}/.env"
    if not named and loader.files.exists(default):
        named = [default]
    found: dict[str, str] = {}
    for one in named:
        text = text_at(one, loader, asker)
        found.update(read_dotenv(text, loader.env, before=found, file=one))
    env = {**found, **env}
    inner = evolve(
        loader, env=env, base=evolve(loader.base, directory=folder), chain=chain
    )
    texts: dict[str, str | None] = {one: text_at(one, loader, asker) for one in paths}
    result = load_files(texts, inner)
    result.pop("name", None)
    _resolve_own(result, env)
    return result


def _resolve_own(document: Mapping, env: AnyMapping[str, str]) -> None:
    """Give variables without a value what the included project's environment has."""
    services = document.get("services")
    if not isinstance(services, Mapping):
        return
    for service in services.values():
        if not isinstance(service, Mapping):
            continue
        wishes = service.get("environment")
        if isinstance(wishes, Mapping):
            for name, value in wishes.items():
                if value is None and name in env:
                    wishes[name] = env[name]


_IMPORTED = ("services", "networks", "volumes", "secrets", "configs", "models")


def _imported(into: Mapping, included: Mapping) -> Mapping:
    """Take over what an included project defines; the same twice is once."""
    for kind in _IMPORTED:
        things = included.get(kind)
        if not isinstance(things, Mapping):
            continue
        known = as_mapping(into.setdefault(kind, Mapping(things.place)))
        for name, thing in things.items():
            if name in known and known[name] != thing:
                raise problem(
                    included,
                    (kind, name),
                    "is defined by another included file too, and differently",
                )
            known.put(name, thing, things.places.get(name))
    for key, value in included.items():
        if key.startswith("x-"):
            into.setdefault(key, value)
    return into


def _rows(node: Node) -> list[Node]:
    if node is None:
        return []
    return list(node) if isinstance(node, Sequence) else [node]


# What is extended.


def _extended(document: Mapping, path: str, extending: _Extending) -> Mapping:
    services = document.get("services")
    if not isinstance(services, Mapping):
        return document
    fresh = services.like()
    for name, service in services.items():
        fresh.put(
            name,
            _service(name, service, document, path, extending, ()),
            services.places.get(name),
        )
    result = document.like()
    for key, value in document.items():
        result.put(key, value, document.places.get(key))
    result["services"] = fresh
    return result


def _service(
    name: str,
    service: Node,
    document: Mapping,
    path: str,
    extending: _Extending,
    chain: tuple[tuple[str, str], ...],
) -> Node:
    """Return a service with what it extends beneath it."""
    if isinstance(service, Tagged):
        inner = _service(name, service.value, document, path, extending, chain)
        return Tagged(service.reset, inner)
    wish = as_mapping(service).get("extends")
    if not isinstance(service, Mapping) or not isinstance(wish, Mapping):
        return service
    where = ("services", name, "extends")
    here = (path, name)
    if here in chain:
        circle = " -> ".join(one for _file, one in (*chain, here))
        raise problem(
            document, where, f"goes in a circle: {circle}", kind="cycle", file=path
        )
    if not isinstance(wish.get("service"), str):
        raise problem(document, where, "lacks 'service'", file=path)
    target = str(wish["service"])
    file = wish.get("file")
    if file is None:
        source, source_path = document, path
    else:
        source_path = str(file)
        asker = problem(document, where, "extends", file=path)
        source = _source(source_path, asker, extending)
    services = source.get("services")
    if not isinstance(services, Mapping) or target not in services:
        raise problem(
            document,
            where,
            f"names the service {target!r}, which is not in {source_path}",
            kind="reference",
            file=path,
        )
    beneath = _service(
        target, services[target], source, source_path, extending, (*chain, here)
    )
    beneath = stripped(beneath)
    own = service.like()
    for key, value in service.items():
        if key != "extends":
            own.put(key, value, service.places.get(key))
    if beneath is None:
        own.put("extends", wish, service.places.get("extends"))
        return own
    bottom, top = Mapping(), Mapping()
    for layer, part in ((bottom, beneath), (top, own)):
        wrapped = Mapping()
        wrapped.put(name, part, services.places.get(target))
        layer.put("services", wrapped)
    return as_mapping(merged(bottom, top)["services"])[name]


def _source(path: str, asker: ComposeError, extending: _Extending) -> Mapping:
    found = extending.documents.get(path)
    if found is None:
        loader = extending.loader
        text = text_at(path, loader, asker)
        inner = evolve(loader, base=evolve(loader.base, directory=dirname(path)))
        found = Mapping()
        for document in _documents(path, text, inner):
            found = merged(found, document)
        extending.documents[path] = found
    return found


# What it is called.


def own_name(texts: AnyMapping[str, str | None], loader: Loader) -> str | None:
    """
    Return the name that the last of some files says, without what names cannot have.

    Raises:
        ComposeError: A file cannot be read, or its name cannot be filled in.
    """
    found: str | None = None
    for path in texts:
        for document in read(text_at(path, loader), path):
            if isinstance(name := document.get("name"), str):
                alone = document.like()
                alone.put("name", name, document.places.get("name"))
                found = str(interpolated(alone, loader.env)["name"]) or None
    return None if found is None else plain_name(found)


def plain_name(name: str) -> str:
    """Return *name* in small letters, without what names of projects cannot have."""
    return re.sub(r"[^a-z0-9_-]", "", name.lower()).lstrip("_-")
