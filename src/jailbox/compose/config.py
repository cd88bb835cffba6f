"""
The canonical form of a project: what ``docker compose config`` prints.

Plain dictionaries, lists and scalars: sizes as text of bytes, durations as Go writes
them, what is published as text.
"""

from collections.abc import Callable
from collections.abc import Mapping as AnyMapping
from typing import TypeAlias

from jailbox.compose.schema import DOCUMENT, SERVICE
from jailbox.compose.shape import Anything, Either, Keys, ListOf, MapOf, Shape
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
from jailbox.compose.values import duration, size, text_of, written_duration

__all__ = ["Written", "config"]

Written: TypeAlias = "dict[str, Written] | list[Written] | str | float | bool | None"
Writer: TypeAlias = Callable[[Node], Written]
Rule: TypeAlias = "Writer | AnyMapping[str, Rule] | None"


def config(document: Mapping) -> dict[str, Written]:
    """
    Write a normalized document.

    Raises:
        ComposeError: A size, a duration or a number makes no sense.
    """
    return _Printer(document).mapping(document, (), _DOCUMENT, DOCUMENT)


def _size(node: Node) -> str:
    return str(size(node))


def _duration(node: Node) -> str:
    return written_duration(duration(str(node)))


def _float(node: Node) -> float:
    return float(str(node))


def _int(node: Node) -> int:
    if isinstance(node, float) and node.is_integer():
        return int(node)
    return int(str(node))


def _mode(node: Node) -> str:
    number = int(node, 8) if isinstance(node, str) else _int(node)
    return f"{number:04o}"


def _name(node: Node) -> str:
    return text_of(node)


_EACH_TEXT: dict[str, Rule] = {"*": _name}
_BLKIO: dict[str, Rule] = {"*": {"rate": _size}}
_ULIMITS: dict[str, Rule] = {"*": {"": _int, "soft": _int, "hard": _int}}
_UPDATE: dict[str, Rule] = {
    "delay": _duration,
    "monitor": _duration,
    "max_failure_ratio": _float,
}
_GRANT: dict[str, Rule] = {"*": {"mode": _mode}}
_BUILD: dict[str, Rule] = {
    "args": _EACH_TEXT,
    "labels": _EACH_TEXT,
    "provenance": _name,
    "sbom": _name,
    "shm_size": _size,
    "ulimits": _ULIMITS,
    "secrets": _GRANT,
}
_SERVICE: dict[str, Rule] = {
    "annotations": _EACH_TEXT,
    "blkio_config": {
        "device_read_bps": _BLKIO,
        "device_write_bps": _BLKIO,
    },
    "build": _BUILD,
    "configs": _GRANT,
    "cpus": _float,
    "cpu_percent": _float,
    "cpu_period": _name,
    "cpu_quota": _name,
    "deploy": {
        "labels": _EACH_TEXT,
        "update_config": _UPDATE,
        "rollback_config": _UPDATE,
        "resources": {
            "limits": {"cpus": _float, "memory": _size, "pids": _int},
            "reservations": {
                "cpus": _float,
                "memory": _size,
                "devices": {"*": {"options": _EACH_TEXT}},
            },
        },
        "restart_policy": {"delay": _duration, "window": _duration},
    },
    "gpus": {"*": {"options": _EACH_TEXT}},
    "healthcheck": {
        "interval": _duration,
        "timeout": _duration,
        "start_period": _duration,
        "start_interval": _duration,
    },
    "labels": _EACH_TEXT,
    "logging": {"options": _EACH_TEXT},
    "mem_limit": _size,
    "mem_reservation": _size,
    "memswap_limit": _size,
    "networks": {"*": {"driver_opts": _EACH_TEXT}},
    "pids_limit": _int,
    "secrets": _GRANT,
    "shm_size": _size,
    "stop_grace_period": _duration,
    "storage_opt": _EACH_TEXT,
    "sysctls": _EACH_TEXT,
    "ulimits": _ULIMITS,
    "volumes": {"*": {"tmpfs": {"size": _size, "mode": _mode}}},
}
_RESOURCE: dict[str, Rule] = {"driver_opts": _EACH_TEXT, "labels": _EACH_TEXT}
_DOCUMENT: dict[str, Rule] = {
    "services": {"*": _SERVICE},
    "networks": {"*": _RESOURCE},
    "volumes": {"*": _RESOURCE},
    "secrets": {"*": _RESOURCE},
    "configs": {"*": _RESOURCE},
}


class _Printer:
    def __init__(self, root: Mapping) -> None:
        self.root = root

    def mapping(
        self, node: Mapping, path: Path, rules: AnyMapping[str, Rule], shape: Shape
    ) -> dict[str, Written]:
        found: dict[str, Written] = {}
        known = isinstance(shape, Keys)
        for key, value in node.items():
            if known and path and key.startswith("x-"):
                continue
            if key == "environment" and path[:1] == ("services",):
                found[key] = _environment(value)
            elif key == "extra_hosts":
                found[key] = _hosts(value)
            elif key == "ssh" and path[-1:] == ("build",):
                found[key] = _ssh(value)
            else:
                rule = rules.get(key, rules.get("*"))
                inner = _inside(shape, key)
                written = self.node(value, (*path, key), rule, inner)
                if known and _is_nothing(key, written):
                    continue
                found[key] = written
        if shape is SERVICE:
            found.setdefault("command", None)
            found.setdefault("entrypoint", None)
            found.pop("env_file", None)
            found.pop("label_file", None)
        return found

    def node(self, node: Node, path: Path, rule: Rule, shape: Shape) -> Written:
        if isinstance(node, Tagged):
            return self.node(node.value, path, rule, shape)
        if isinstance(shape, Either):
            shape = _chosen(shape, node)
        if isinstance(node, Mapping):
            rules = rule if isinstance(rule, AnyMapping) else {}
            return self.mapping(node, path, rules, shape)
        if isinstance(node, Sequence):
            inner = rule.get("*") if isinstance(rule, AnyMapping) else rule
            return [
                self.node(value, (*path, index), inner, _inside(shape, index))
                for index, value in enumerate(node)
            ]
        if isinstance(rule, AnyMapping):
            rule = rule.get("")
        if not callable(rule) or (node is None and rule is not _name):
            return node
        if node == "" and rule is not _name:
            return None
        try:
            return rule(node)
        except ValueError as error:
            text = str(error)
            if not text.startswith("is "):
                text = f"is {node!r}, which is no number"
            raise problem(self.root, path, text) from None


def _inside(shape: Shape, step: str | int) -> Shape:
    match shape:
        case Keys(known):
            return known.get(str(step), Anything())
        case MapOf(value):
            return value
        case ListOf(item):
            return item
        case _:
            return Anything()


def _chosen(shape: Either, node: Node) -> Shape:
    """Return the option for mappings or for sequences, whichever *node* is."""
    for option in shape.options:
        if isinstance(option, Either):
            return _chosen(option, node)
        if isinstance(node, Mapping) and isinstance(option, Keys | MapOf):
            return option
        if isinstance(node, Sequence) and isinstance(option, ListOf):
            return option
    return Anything()


# What is said even when it is no, or none.
_SAID = {
    "attach",
    "create_host_path",
    "enable_ipv4",
    "enable_ipv6",
    "gw_priority",
    "init",
    "max_attempts",
    "oom_score_adj",
    "parallelism",
    "replicas",
    "required",
    "retries",
    "scale",
    "target",
}

# What is text of bytes: none of them is as good as nothing said.
_SIZES = {
    "mem_limit",
    "mem_reservation",
    "memory",
    "memswap_limit",
    "shm_size",
    "size",
}


def _is_nothing(key: str, value: Written) -> bool:
    """Tell whether a value says no more than its absence."""
    if value == "":
        return True
    nothing = value is False or (value == "0" if key in _SIZES else value == 0)
    return nothing and key not in _SAID


def _environment(node: Node) -> dict[str, Written]:
    return {
        key: None if value is None else text_of(value)
        for key, value in as_mapping(node).items()
    }


def _hosts(node: Node) -> list[Written]:
    found = sorted(
        f"{name}={address}"
        for name, addresses in as_mapping(node).items()
        for address in as_sequence(addresses)
    )
    return [*found]


def _ssh(node: Node) -> list[Written]:
    wishes = as_mapping(node).items()
    return [f"{key}: {value}" if value else key for key, value in wishes]
