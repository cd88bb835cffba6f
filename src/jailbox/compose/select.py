"""
What of a project is used: the services of enabled profiles, and what those name.
"""

from collections.abc import Iterable

from jailbox.compose.tree import Mapping, Sequence, as_mapping

__all__ = ["without_disabled", "without_unused"]


def without_disabled(document: Mapping, profiles: Iterable[str]) -> list[str]:
    """Take out the services that no enabled profile has; return their names."""
    services = as_mapping(document["services"])
    enabled = {*profiles}
    disabled: list[str] = []
    if "*" in enabled:
        return disabled
    for name, service in list(services.items()):
        wishes = service.get("profiles") if isinstance(service, Mapping) else None
        if (
            isinstance(wishes, Sequence)
            and wishes
            and not enabled & {*map(str, wishes)}
        ):
            disabled.append(name)
            del services[name]
    for service in services.values():
        depends = service.get("depends_on") if isinstance(service, Mapping) else None
        if isinstance(depends, Mapping):
            for wish, how in list(depends.items()):
                optional = isinstance(how, Mapping) and how.get("required") is False
                if optional and wish not in services:
                    del depends[wish]
    return disabled


def without_unused(document: Mapping) -> None:
    """Leave out the networks, volumes, secrets and configurations that nobody uses."""
    services = as_mapping(document["services"])
    used: dict[str, set[str]] = {
        kind: set() for kind in ("networks", "volumes", "secrets", "configs")
    }
    for node in services.values():
        service = as_mapping(node)
        used["networks"].update(as_mapping(service.get("networks")))
        for mount in _rows(service.get("volumes")):
            if mount.get("type") == "volume":
                used["volumes"].add(str(mount.get("source")))
        for kind in ("secrets", "configs"):
            for grant in _rows(service.get(kind)):
                used[kind].add(str(grant.get("source")))
        build = as_mapping(service.get("build"))
        for grant in _rows(build.get("secrets")):
            used["secrets"].add(str(grant.get("source")))
    for kind, names in used.items():
        things = document.get(kind)
        if isinstance(things, Mapping):
            for name in [name for name in things if name not in names]:
                del things[name]
    document.pop("models", None)


def _rows(node: object) -> list[Mapping]:
    if not isinstance(node, Sequence):
        return []
    return [entry for entry in node if isinstance(entry, Mapping)]
