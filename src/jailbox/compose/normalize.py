"""
What a compose file means without saying it.

Names, the default network, dependencies that follow from links and shared namespaces,
what files of variables hold. After this the document says everything.
"""

from collections.abc import Callable
from collections.abc import Mapping as AnyMapping

from jailbox.compose.tree import Mapping, Node, Place, Sequence, as_sequence
from jailbox.compose.values import text_of

__all__ = ["normalized"]

_SHARED = ("network_mode", "ipc", "pid", "uts", "cgroup")


def normalized(
    document: Mapping, name: str, variable: Callable[[str], str | None]
) -> Mapping:
    """
    Return *document* with what it does not say.

    Args:
        document: A canonical document.

        name: The name of the project.

        variable: The value of a variable of the environment, or ``None``.
    """
    result = document.like()
    for key, value in document.items():
        result.put(key, value, document.places.get(key))
    result["name"] = name
    result.pop("version", None)
    services = _changed(result.get("services"), lambda _n, s: _service(s, variable))
    result["services"] = services
    networks = _changed(result.get("networks"), lambda _n, value: value)
    networks.setdefault("default", Mapping())
    result["networks"] = networks
    for kind in ("networks", "volumes", "secrets", "configs"):
        things = result.get(kind)
        if isinstance(things, Mapping):
            result[kind] = _changed(things, lambda key, thing: _named(key, thing, name))
    return result


def _changed(node: Node, change: Callable[[str, Mapping], Mapping]) -> Mapping:
    if not isinstance(node, Mapping):
        return Mapping()
    fresh = node.like()
    for key, value in node.items():
        known = Mapping(node.places.get(key))
        if isinstance(value, Mapping):
            for inner, one in value.items():
                known.put(inner, one, value.places.get(inner))
        fresh.put(key, change(key, known), node.places.get(key))
    return fresh


def _named(key: str, thing: Mapping, project: str) -> Mapping:
    external = thing.get("external") is True
    if not thing.get("name") and not (external and "name" in thing):
        thing["name"] = key if external else f"{project}_{key}"
    return thing


def _service(service: Mapping, variable: Callable[[str], str | None]) -> Mapping:
    if (
        not service.get("networks")
        and not service.get("network_mode")
        and not service.get("provider")
    ):
        default = Mapping()
        default["default"] = None
        service["networks"] = default
    if service.get("pull_policy") == "if_not_present":
        service["pull_policy"] = "missing"
    build = service.get("build")
    if isinstance(build, Mapping):
        service["build"] = _build(build, variable)
    preparations = service.get("pre_start")
    if isinstance(preparations, Sequence):
        service["pre_start"] = _prepared(preparations, service.get("image"))
    _implied(service)
    return service


def _prepared(preparations: Sequence, image: Node) -> Sequence:
    """What runs before a service has its image and the default network."""
    fresh = preparations.like()
    for hook, place in preparations.entries():
        full = Mapping(place)
        full.update(hook if isinstance(hook, Mapping) else {})
        if not full.get("image"):
            full["image"] = image
        if not full.get("networks"):
            default = Mapping()
            default["default"] = None
            full["networks"] = default
        fresh.add(full, place)
    return fresh


def _build(build: Mapping, variable: Callable[[str], str | None]) -> Mapping:
    fresh = build.like()
    for key, value in build.items():
        fresh.put(key, value, build.places.get(key))
    if "dockerfile" not in fresh and not fresh.get("dockerfile_inline"):
        fresh["dockerfile"] = "Dockerfile"
    arguments = fresh.get("args")
    if isinstance(arguments, Mapping):
        known = resolved(arguments, variable)
        for key in [key for key, value in known.items() if value is None]:
            del known[key]
        fresh["args"] = known
    return fresh


def resolved(
    values: AnyMapping[str, Node], variable: Callable[[str], str | None]
) -> Mapping:
    """Give names without a value what the environment has; what has none stays so."""
    fresh = Mapping()
    for key, value in values.items():
        fresh[key] = variable(key) if value is None else text_of(value)
    return fresh


def _implied(service: Mapping) -> None:
    """Depend on what is linked to, and on whose namespaces or volumes are shared."""
    wishes: list[tuple[str, bool, Place | None]] = [
        (str(link).partition(":")[0], True, place)
        for link, place in as_sequence(service.get("links")).entries()
    ]
    for key in _SHARED:
        mode = service.get(key)
        if isinstance(mode, str) and mode.startswith("service:"):
            place = service.places.get(key)
            wishes.append((mode.removeprefix("service:"), True, place))
    wishes.extend(
        (str(source).partition(":")[0], False, place)
        for source, place in as_sequence(service.get("volumes_from")).entries()
        if not str(source).startswith("container:")
    )
    known = service.get("depends_on")
    depends = Mapping()
    if isinstance(known, Mapping):
        for key, value in known.items():
            depends.put(key, value, known.places.get(key))
    for name, restart, place in wishes:
        if name not in depends:
            full = Mapping()
            full["condition"] = "service_started"
            full["required"] = True
            if restart:
                full["restart"] = True
            depends.put(name, full, place)
    if depends:
        service["depends_on"] = depends
