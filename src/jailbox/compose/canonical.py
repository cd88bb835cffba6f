"""
Short forms made long: one way to say each thing, so that what follows knows one.

``ports: ["80:80"]`` becomes a mapping with a target and a published port,
``environment: [A=1]`` a mapping, ``build: .`` a mapping with a context. The order of
what is written stays. Relative paths are made absolute here too, since the file they
stand in is still known.
"""

import posixpath
import shlex
from collections.abc import Callable

from attrs import frozen

from jailbox.compose.paths import Base
from jailbox.compose.ports import parse_port
from jailbox.compose.tree import (
    Mapping,
    Node,
    Path,
    Sequence,
    Tagged,
    as_mapping,
    as_sequence,
    problem,
)
from jailbox.compose.values import text_of
from jailbox.compose.volumes import parse_volume

__all__ = ["canonical"]


def canonical(document: Mapping, base: Base) -> Mapping:
    """
    Return *document* with every short form made long, and every path absolute.

    Args:
        document: A compose file that has the right shape.

        base: Where its relative paths begin.

    Raises:
        ComposeError: A short form makes no sense.
    """
    return _Writer(document, base).document()


Change = Callable[[Node, Path], Node]


@frozen
class _Writer:
    root: Mapping
    base: Base

    def document(self) -> Mapping:
        root = self.root
        fresh = root.like()
        changes: dict[str, Change] = {
            "services": self.each(self.service),
            "networks": self.each(self.network),
            "volumes": self.each(self.volume),
            "secrets": self.each(self.kept),
            "configs": self.each(self.kept),
            "include": self.list_of(self.include),
        }
        for key, value in root.items():
            change = changes.get(key)
            changed = value if change is None else self.under(value, (key,), change)
            fresh.put(key, changed, root.places.get(key))
        return fresh

    # How changes are put together.

    def under(self, node: Node, path: Path, change: Change) -> Node:
        """Change what is there: nothing stays nothing, and tags stay."""
        if isinstance(node, Tagged):
            return Tagged(node.reset, self.under(node.value, path, change))
        return None if node is None else change(node, path)

    def fields(self, changes: dict[str, Change]) -> Change:
        """Change some keys of a mapping."""

        def change(node: Node, path: Path) -> Node:
            if not isinstance(node, Mapping):
                return node
            fresh = node.like()
            for key, value in node.items():
                one = changes.get(key)
                place = node.places.get(key)
                if one is None:
                    fresh.put(key, value, place)
                else:
                    fresh.put(key, self.under(value, (*path, key), one), place)
            return fresh

        return change

    def each(self, one: Change) -> Change:
        """Change every value of a mapping."""

        def change(node: Node, path: Path) -> Node:
            if not isinstance(node, Mapping):
                return node
            fresh = node.like()
            for key, value in node.items():
                place = node.places.get(key)
                fresh.put(key, self.under(value, (*path, key), one), place)
            return fresh

        return change

    def list_of(self, one: Change) -> Change:
        """Change every entry of a sequence; one entry may become several."""

        def change(node: Node, path: Path) -> Node:
            if not isinstance(node, Sequence):
                return node
            fresh = node.like()
            for index, (value, place) in enumerate(node.entries()):
                found = self.under(value, (*path, index), one)
                if isinstance(found, Sequence):
                    for entry in found:
                        fresh.add(entry, place)
                else:
                    fresh.add(found, place)
            return fresh

        return change

    def wrong(self, path: Path, text: str) -> Exception:
        return problem(self.root, path, text)

    # What the file holds.

    def service(self, node: Node, path: Path) -> Node:
        named = self.named_things
        # The name of `develop` while it was an experiment.
        if isinstance(node, Mapping) and "x-develop" in node and "develop" not in node:
            node.put("develop", node.pop("x-develop"), node.places.get("x-develop"))
        return self.fields(
            {
                "annotations": self.mapping,
                "build": self.build,
                "command": self.command,
                "configs": self.list_of(self.grant(None)),
                "depends_on": self.depends_on,
                "deploy": self.fields(
                    {
                        "labels": self.mapping,
                        "resources": self.fields(
                            {
                                "reservations": self.fields(
                                    {"devices": self.list_of(self.request)}
                                )
                            }
                        ),
                    }
                ),
                "develop": self.fields(
                    {
                        "watch": self.list_of(
                            self.fields(
                                {
                                    "path": self.path,
                                    "ignore": self.row,
                                    "include": self.row,
                                    "exec": self.hook,
                                }
                            )
                        )
                    }
                ),
                "devices": self.list_of(self.device),
                "dns": self.row,
                "dns_search": self.row,
                "entrypoint": self.command,
                "env_file": self.env_file,
                "environment": self.variables,
                "expose": self.list_of(self.text),
                "extends": self.extends,
                "extra_hosts": self.hosts,
                "gpus": self.gpus,
                "group_add": self.list_of(self.text),
                "healthcheck": self.fields({"test": self.test}),
                "label_file": self.label_file,
                "labels": self.mapping,
                "models": named,
                "networks": named,
                "ports": self.list_of(self.port),
                "post_start": self.list_of(self.hook),
                "pre_start": self.list_of(self.hook),
                "pre_stop": self.list_of(self.hook),
                "provider": self.fields({"options": self.each(self.texts)}),
                "secrets": self.list_of(self.grant("/run/secrets/")),
                "sysctls": self.mapping,
                "tmpfs": self.row,
                "volumes": self.list_of(self.mount),
            }
        )(node, path)

    def build(self, node: Node, path: Path) -> Node:
        if isinstance(node, str):
            node = _one(node=node, key="context", like=self.root)
        if isinstance(node, Mapping) and "context" not in node:
            full = node.like()
            full.put("context", ".", node.place)
            for key, value in node.items():
                full.put(key, value, node.places.get(key))
            node = full
        return self.fields(
            {
                "context": self.context,
                "args": self.variables,
                "ssh": self.ssh,
                "labels": self.mapping,
                "additional_contexts": self.contexts,
                "extra_hosts": self.hosts,
                "no_cache_filter": self.row,
                "secrets": self.list_of(self.grant(None)),
            }
        )(node, path)

    def network(self, node: Node, path: Path) -> Node:
        fields = self.fields({"labels": self.mapping})
        return self.external(fields(node, path), path)

    def volume(self, node: Node, path: Path) -> Node:
        fresh = self.external(self.fields({"labels": self.mapping})(node, path), path)
        options = fresh.get("driver_opts") if isinstance(fresh, Mapping) else None
        if isinstance(options, Mapping) and isinstance(fresh, Mapping):
            bound = "bind" in str(options.get("o", "")).split(",")
            if bound and isinstance(options.get("device"), str):
                changed = self.fields({"device": self.path})(options, path)
                fresh.put("driver_opts", changed, fresh.places.get("driver_opts"))
        return fresh

    def kept(self, node: Node, path: Path) -> Node:
        """A secret or a configuration."""
        fields = self.fields({"labels": self.mapping, "file": self.path})
        return self.external(fields(node, path), path)

    def external(self, node: Node, path: Path) -> Node:
        """``external: {name: n}`` is ``external: true`` and ``name: n``."""
        if not isinstance(node, Mapping) or "external" not in node:
            return node
        wish = node["external"]
        if isinstance(wish, Mapping):
            name = wish.get("name")
            if "name" in node and name is not None and node["name"] != name:
                raise self.wrong(
                    path, "has a name and an external.name; only use the name"
                )
            place = node.places.get("external")
            node.put("external", True, place)  # noqa: FBT003
            if name is not None:
                node.put("name", name, place)
        if node["external"] is True:
            others = [
                key
                for key in node
                if key not in ("external", "name") and not key.startswith("x-")
            ]
            if others:
                raise self.wrong(
                    (*path, others[0]),
                    "says how to make what is external, and so is made by others",
                )
        return node

    def include(self, node: Node, path: Path) -> Node:
        if isinstance(node, str):
            node = _one(node=node, key="path", like=self.root)
        return self.fields({"path": self.row, "env_file": self.row})(node, path)

    # The forms.

    def text(self, node: Node, _path: Path) -> Node:
        return text_of(node)

    def path(self, node: Node, _path: Path) -> Node:
        return self.base.join(node) if isinstance(node, str) else node

    def row(self, node: Node, path: Path) -> Node:
        """One, or several."""
        if isinstance(node, Sequence):
            return self.list_of(self.text)(node, path)
        row = Sequence()
        row.add(text_of(node))
        return row

    def texts(self, node: Node, path: Path) -> Node:
        return self.row(node, path)

    def mapping(self, node: Node, path: Path) -> Node:
        """``[A=1, B]`` is ``{A: 1, B: null}``."""
        if not isinstance(node, Sequence):
            return node
        fresh = Mapping(node.place)
        for index, (entry, place) in enumerate(node.entries()):
            if isinstance(entry, Tagged):
                name = str(entry.value).partition("=")[0]
                fresh.put(name, Tagged(entry.reset, None), place)
                continue
            name, equals, value = str(entry).partition("=")
            if not name:
                raise self.wrong((*path, index), "has no name before '='")
            fresh.put(name, value if equals else None, place)
        return fresh

    def variables(self, node: Node, path: Path) -> Node:
        found = self.mapping(node, path)
        for name in found if isinstance(found, Mapping) else ():
            if name != name.rstrip():
                raise self.wrong(
                    (*path, name), "ends in a space; no name of a variable does"
                )
        return found

    def command(self, node: Node, path: Path) -> Node:
        """Text is split as a shell splits words; nothing is expanded."""
        if not isinstance(node, str):
            return node
        row = Sequence()
        try:
            words = shlex.split(node, comments=False)
        except ValueError as error:
            raise self.wrong(path, f"cannot be split into words: {error}") from None
        for word in words:
            row.add(word)
        return row

    def hook(self, node: Node, path: Path) -> Node:
        return self.fields(
            {
                "command": self.command,
                "entrypoint": self.command,
                "environment": self.variables,
            }
        )(node, path)

    def test(self, node: Node, _path: Path) -> Node:
        if not isinstance(node, str):
            return node
        row = Sequence()
        row.add("CMD-SHELL")
        row.add(node)
        return row

    def named_things(self, node: Node, _path: Path) -> Node:
        """``[a, b]`` is ``{a: null, b: null}``."""
        if not isinstance(node, Sequence):
            return node
        fresh = Mapping(node.place)
        for entry, place in node.entries():
            fresh.put(str(entry), None, place)
        return fresh

    def depends_on(self, node: Node, path: Path) -> Node:
        named = self.named_things(node, path)
        if not isinstance(named, Mapping):
            return named
        fresh = named.like()
        for name, wish in named.items():
            place = named.places.get(name)
            if isinstance(wish, Tagged):
                fresh.put(name, wish, place)
                continue
            full = Mapping(place)
            full.put("condition", "service_started", place)
            full.put("required", True, place)  # noqa: FBT003
            if isinstance(wish, Mapping):
                for key, value in wish.items():
                    full.put(key, value, wish.places.get(key))
            fresh.put(name, full, place)
        return fresh

    def extends(self, node: Node, path: Path) -> Node:
        if isinstance(node, str):
            node = _one(node=node, key="service", like=self.root)
        return self.fields({"file": self.path})(node, path)

    def grant(self, folder: str | None) -> Change:
        """A secret or a configuration that a service is given."""

        def change(node: Node, _path: Path) -> Node:
            if isinstance(node, str):
                node = _one(node=node, key="source", like=self.root)
            if folder and isinstance(node, Mapping) and not node.get("target"):
                node.put("target", f"{folder}{text_of(node.get('source'))}")
            return node

        return change

    def env_file(self, node: Node, _path: Path) -> Node:
        rows = node if isinstance(node, Sequence) else _row(node)
        fresh = rows.like()
        for entry, place in rows.entries():
            full = Mapping(place)
            if isinstance(entry, Mapping):
                for key, value in entry.items():
                    full.put(key, value, entry.places.get(key))
            else:
                full.put("path", entry, place)
            full.put("path", self.base.join(str(full["path"])), place)
            if full.get("required") is None:
                full.put("required", True, place)  # noqa: FBT003
            fresh.add(full, place)
        return fresh

    def label_file(self, node: Node, path: Path) -> Node:
        return self.list_of(self.path)(self.row(node, path), path)

    def context(self, node: Node, _path: Path) -> Node:
        return self.base.context(node) if isinstance(node, str) else node

    def contexts(self, node: Node, path: Path) -> Node:
        return self.each(self.context)(self.mapping(node, path), path)

    def ssh(self, node: Node, path: Path) -> Node:
        found = self.mapping(_row(node) if isinstance(node, str) else node, path)
        return self.each(self.path)(found, path)

    def hosts(self, node: Node, path: Path) -> Node:
        """``["a:1.2.3.4"]`` is ``{a: [1.2.3.4]}``."""
        fresh = Mapping(node.place if isinstance(node, Mapping | Sequence) else None)
        if isinstance(node, Mapping):
            for name, value in node.items():
                place = node.places.get(name)
                if isinstance(value, Tagged):
                    fresh.put(name, value, place)
                    continue
                values = value if isinstance(value, Sequence) else [value]
                fresh.put(name, _row(*map(_bare_address, values)), place)
            return fresh
        for index, (entry, place) in enumerate(as_sequence(node).entries()):
            text = str(entry)
            sign = "=" if "=" in text else ":"
            name, found, address = text.partition(sign)
            if not found or not name or not address:
                raise self.wrong(
                    (*path, index), f"is {text!r}; written is 'host=address'"
                )
            row = fresh.setdefault(name, Sequence(place))
            as_sequence(row).add(_bare_address(address), place)
            if place is not None:
                fresh.places.setdefault(name, place)
        return fresh

    def gpus(self, node: Node, path: Path) -> Node:
        if isinstance(node, str):
            row = Sequence()
            row.add(Mapping())
            node = row
        return self.list_of(self.request)(node, path)

    def request(self, node: Node, path: Path) -> Node:
        """A request for devices: all, unless a count or names are given."""
        if not isinstance(node, Mapping):
            return node
        fresh = as_mapping(self.fields({"options": self.mapping})(node, path))
        count = fresh.get("count")
        if isinstance(count, str):
            if count != "all" and not count.lstrip("-").isdigit():
                raise self.wrong(
                    (*path, "count"), f"is {count!r}; it is 'all' or a number"
                )
            number = -1 if count == "all" else int(count)
            fresh.put("count", number, fresh.places.get("count"))
        elif count is None and "device_ids" not in fresh:
            fresh.put("count", -1)
        return fresh

    def device(self, node: Node, path: Path) -> Node:
        if isinstance(node, str):
            source, _, rest = node.partition(":")
            target, _, permissions = rest.partition(":")
            if not source or ":" in permissions:
                raise self.wrong(path, f"is {node!r}; written is source:target:rwm")
            full = Mapping(self.root.place)
            full.put("source", source)
            full.put("target", target or source)
            full.put("permissions", permissions or "rwm")
            return full
        return node

    def port(self, node: Node, path: Path) -> Node:
        if isinstance(node, Mapping):
            full = node.like()
            for key, value in node.items():
                full.put(key, value, node.places.get(key))
            if "published" in full:
                full.put("published", text_of(full["published"]))
            full.setdefault("mode", "ingress")
            full.setdefault("protocol", "tcp")
            return full
        try:
            ports = parse_port(str(text_of(node)))
        except ValueError as error:
            raise self.wrong(path, f"is {node!r}: it {error}") from None
        row = Sequence()
        for port in ports:
            full = Mapping()
            full.put("mode", "ingress")
            full.put("target", port.target)
            full.put("protocol", port.protocol)
            if port.published:
                full.put("published", port.published)
            if port.host_ip:
                full.put("host_ip", port.host_ip)
            row.add(full)
        return row

    def mount(self, node: Node, path: Path) -> Node:
        if isinstance(node, str):
            try:
                full = parse_volume(node)
            except ValueError as error:
                raise self.wrong(path, f"is {node!r}: it {error}") from None
        elif isinstance(node, Mapping):
            full = node.like()
            for key, value in node.items():
                full.put(key, value, node.places.get(key))
        else:
            return node
        source = full.get("source")
        if full.get("type") == "bind" and isinstance(source, str):
            full.put("source", self.base.join(source))
        if isinstance(target := full.get("target"), str) and target:
            full.put("target", posixpath.normpath(target))
        if full.get("type") == "bind":
            full.setdefault("bind", Mapping())
        if full.get("type") == "volume":
            changed = self.fields({"labels": self.mapping})
            full["volume"] = changed(full.get("volume") or Mapping(), path)
        return full


def _one(*, node: Node, key: str, like: Mapping) -> Mapping:
    fresh = like.like()
    fresh.put(key, node)
    return fresh


def _row(*values: Node) -> Sequence:
    row = Sequence()
    for value in values:
        row.add(value)
    return row


def _bare_address(value: Node) -> str:
    text = str(value)
    return text[1:-1] if text.startswith("[") and text.endswith("]") else text
