"""
One document over another: what of two definitions holds.

Documents are canonical before they are merged (`jailbox.compose.canonical`), so that
mappings meet mappings. Mappings are merged key by key; sequences are joined, and an
entry for the same port, target or name replaces the earlier one; commands are replaced
whole. A value under ``!reset`` takes away, one under ``!override`` replaces
(compose specification, 13-merge.md).
"""

from collections.abc import Callable, Hashable

from jailbox.compose.tree import (
    Mapping,
    Node,
    Path,
    Sequence,
    Tagged,
    as_mapping,
    problem,
    stripped,
)

__all__ = ["merged", "unique"]

_REPLACED = {("command",), ("entrypoint",)}
_WHOLE = "*"


def merged(base: Mapping, over: Mapping) -> Mapping:
    """Return *base* with *over* laid over it; neither is changed."""
    return _mappings(base, over, (), over)


def _merge(base: Node, over: Node, path: Path, root: Mapping) -> Node:
    if isinstance(over, Tagged):
        return stripped(over.value)
    if over is None:
        return base
    if base is None or _replaces(path):
        return stripped(over)
    match base, over:
        case Mapping(), Mapping():
            if path[-1:] == ("logging",) and _drivers_differ(base, over):
                return stripped(over)
            return _mappings(base, over, path, root)
        case Sequence(), Sequence():
            return _joined(base, over, path)
        case (Mapping(), _) | (_, Mapping()) | (Sequence(), _) | (_, Sequence()):
            if path[-2:-1] == ("ulimits",):
                return stripped(over)
            raise problem(root, path, "cannot be laid over what is of another kind")
        case _:
            return over


def _mappings(base: Mapping, over: Mapping, path: Path, root: Mapping) -> Mapping:
    result = base.like()
    for key, value in base.items():
        result.put(key, value, base.places.get(key))
    for key, value in over.items():
        place = over.places.get(key)
        if isinstance(value, Tagged) and value.reset:
            result.pop(key, None)
        elif key not in result:
            result.put(key, stripped(value), place)
        else:
            result.put(key, _merge(result[key], value, (*path, key), root), place)
    return result


def _replaces(path: Path) -> bool:
    if path[:1] == ("services",) and path[2:] in _REPLACED:
        return True
    return path[-2:] == ("healthcheck", "test")


def _drivers_differ(base: Mapping, over: Mapping) -> bool:
    return "driver" in over and "driver" in base and over["driver"] != base["driver"]


def _joined(base: Sequence, over: Sequence, path: Path) -> Sequence:
    result = base.like()
    extension = str(path[0]).startswith("x-")
    for value, place in (*base.entries(), *over.entries()):
        if isinstance(value, Tagged) and value.reset:
            continue
        if extension and len(result) >= len(base) and value in base:
            continue
        result.add(stripped(value), place)
    return _deduplicated(result, path)


def unique(document: Mapping) -> Mapping:
    """Return *document* with every entry that a later one replaces left out."""
    return as_mapping(_unique(document, ()))


def _unique(node: Node, path: Path) -> Node:
    if isinstance(node, Mapping):
        fresh = node.like()
        for key, value in node.items():
            fresh.put(key, _unique(value, (*path, key)), node.places.get(key))
        return fresh
    if isinstance(node, Sequence):
        return _deduplicated(node, path)
    if isinstance(node, Tagged):
        return Tagged(node.reset, _unique(node.value, path))
    return node


def _deduplicated(row: Sequence, path: Path) -> Sequence:
    identity = _identity(path)
    if identity is None:
        return row
    result = row.like()
    positions: dict[Hashable, int] = {}
    for value, place in row.entries():
        key = identity(value)
        if key in positions:
            result[positions[key]] = value
            result.places[positions[key]] = place
        else:
            positions[key] = len(result)
            result.add(value, place)
    return result


def _field(*names: str) -> Callable[[Node], Hashable]:
    def identity(value: Node) -> Hashable:
        if isinstance(value, Mapping):
            return tuple(str(value.get(name)) for name in names)
        return str(value)

    return identity


def _port(value: Node) -> Hashable:
    if not isinstance(value, Mapping):
        return str(value)
    return (
        str(value.get("host_ip") or "0.0.0.0"),  # noqa: S104  # what is meant
        str(value.get("published", "")),
        str(value.get("target")),
        str(value.get("protocol", "tcp")),
    )


_IDENTITIES: dict[tuple[str, ...], Callable[[Node], Hashable]] = {
    ("ports",): _port,
    ("volumes",): _field("target"),
    ("devices",): _field("target"),
    ("configs",): _field("target", "source"),
    ("secrets",): _field("target"),
    ("env_file",): _field("path"),
    ("label_file",): _field(),
    ("tmpfs",): _field(),
    ("cap_add",): _field(),
    ("cap_drop",): _field(),
    ("dns",): _field(),
    ("dns_opt",): _field(),
    ("dns_search",): _field(),
    ("expose",): _field(),
    ("links",): _field(),
    ("profiles",): _field(),
    ("build", "tags"): _field(),
    ("build", "platforms"): _field(),
    ("build", "extra_hosts", _WHOLE): _field(),
    ("extra_hosts", _WHOLE): _field(),
    ("networks", _WHOLE, "aliases"): _field(),
    ("networks", _WHOLE, "link_local_ips"): _field(),
}


def _identity(path: Path) -> Callable[[Node], Hashable] | None:
    tail = tuple(map(str, path[2:]))
    if path[0] != "services" or not tail:
        return None
    if tail[0] == "networks" and tail[2:]:
        tail = (tail[0], _WHOLE, *tail[2:])
    elif tail[-2:-1] == ("extra_hosts",):
        tail = (*tail[:-1], _WHOLE)
    return _IDENTITIES.get(tail)
