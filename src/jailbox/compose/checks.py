"""
What a document must hold to: what it names is defined, and no two things conflict.
"""

import difflib
from collections.abc import Iterable

from jailbox.compose.tree import Mapping, Node, Path, Sequence, problem
from jailbox.errors import ComposeError

__all__ = ["check_cycles", "check_references"]


def check_references(document: Mapping, disabled: Iterable[str] = ()) -> None:
    """
    Hold a document against itself.

    Args:
        document: A normalized document, of the services that are enabled.

        disabled: Services that a profile leaves out: known, and not to be had.

    Raises:
        ComposeError: A service has nothing to run, names what is not defined, or says
            two things that exclude each other.
    """
    checker = _Checker(document, frozenset(disabled))
    services = document.get("services")
    if isinstance(services, Mapping):
        for name, service in services.items():
            if isinstance(service, Mapping):
                checker.service(name, service)
    secrets = document.get("secrets")
    for name, secret in secrets.items() if isinstance(secrets, Mapping) else ():
        if isinstance(secret, Mapping) and not (
            secret.keys() & {"file", "environment"} or secret.get("external") is True
        ):
            raise checker.wrong(
                ("secrets", name), "must have either 'file' or 'environment'"
            )
    configs = document.get("configs")
    for name, config in configs.items() if isinstance(configs, Mapping) else ():
        if isinstance(config, Mapping):
            checker.config(name, config)


class _Checker:
    def __init__(self, document: Mapping, disabled: frozenset[str]) -> None:
        self.document = document
        self.disabled = disabled

    def wrong(self, path: Path, text: str, kind: str = "value") -> ComposeError:
        return problem(self.document, path, text, kind=kind)

    def known(self, kind: str) -> Mapping:
        found = self.document.get(kind)
        return found if isinstance(found, Mapping) else Mapping()

    def refer(self, kind: str, name: str, path: Path) -> None:
        """Raise unless *name* is defined."""
        names = self.known(kind)
        if name in names:
            return
        near = difflib.get_close_matches(name, names, 1)
        guess = f"; did you mean {near[0]!r}?" if near else ""
        if kind == "services" and name in self.disabled:
            guess = "; it is defined, and its profile is not enabled"
        what = kind.removesuffix("s")
        raise self.wrong(
            path, f"names the {what} {name!r}, which is none{guess}", "reference"
        )

    def config(self, name: str, config: Mapping) -> None:
        sources = [key for key in ("file", "content", "environment") if config.get(key)]
        path = ("configs", name)
        if len(sources) > 1:
            raise self.wrong(path, f"has {' and '.join(sources)}; only one can be")
        if not (config.keys() & {"content", "environment"} or sources) and (
            config.get("external") is not True
        ):
            raise self.wrong(path, "must have 'file', 'content' or 'environment'")

    def service(self, name: str, service: Mapping) -> None:
        path = ("services", name)
        build = service.get("build")
        if not service.get("image") and build is None and "provider" not in service:
            raise self.wrong(
                path, "has neither an image nor a build: nothing to run", "empty"
            )
        if isinstance(build, Mapping):
            self.build(build, service, (*path, "build"))
        if service.get("networks") and service.get("network_mode"):
            raise self.wrong(
                (*path, "network_mode"),
                "excludes 'networks'; a service has the one or the other",
            )
        for kind in ("networks", "models"):
            for wish in _keys(service.get(kind)):
                self.refer(kind, wish, (*path, kind, wish))
        for wish, how in _items(service.get("depends_on")):
            required = not isinstance(how, Mapping) or how.get("required") is not False
            if required:
                self.refer("services", wish, (*path, "depends_on", wish))
        for key in ("configs", "secrets"):
            for index, grant in enumerate(_entries(service.get(key))):
                if isinstance(grant, Mapping):
                    self.refer(key, str(grant.get("source")), (*path, key, index))
        self.mounts(service, path)
        replicas = _at(service, "deploy", "replicas")
        scale = service.get("scale")
        if scale is not None and replicas is not None and scale != replicas:
            raise self.wrong(
                (*path, "scale"), f"is {scale}, and deploy.replicas is {replicas}"
            )
        if service.get("container_name") and _more(scale, replicas):
            raise self.wrong(
                (*path, "container_name"),
                "can be had by one container, and several are asked for",
            )

    def build(self, build: Mapping, service: Mapping, path: Path) -> None:
        for index, grant in enumerate(_entries(build.get("secrets"))):
            if isinstance(grant, Mapping):
                self.refer(
                    "secrets", str(grant.get("source")), (*path, "secrets", index)
                )
        if build.get("dockerfile") and build.get("dockerfile_inline"):
            raise self.wrong(
                (*path, "dockerfile_inline"), "excludes 'dockerfile'; have one of them"
            )
        platform = service.get("platform")
        platforms = list(map(str, _entries(build.get("platforms"))))
        if platform and platforms and platform not in platforms:
            raise self.wrong(
                (*path, "platforms"),
                f"lacks {platform!r}, which is the platform of the service",
            )
        for wish, context in _items(build.get("additional_contexts")):
            if isinstance(context, str) and context.startswith("service:"):
                self.refer(
                    "services",
                    context.removeprefix("service:"),
                    (*path, "additional_contexts", wish),
                )

    def mounts(self, service: Mapping, path: Path) -> None:
        taken: dict[str, str] = {}
        for index, mount in enumerate(_entries(service.get("volumes"))):
            if not isinstance(mount, Mapping):
                continue
            where = (*path, "volumes", index)
            target = str(mount.get("target") or "")
            if not target:
                raise self.wrong(where, "lacks a target")
            taken.setdefault(target, f"volumes[{index}]")
            source = mount.get("source")
            if mount.get("type") == "volume" and isinstance(source, str) and source:
                self.refer("volumes", source, where)
        for index, entry in enumerate(_entries(service.get("tmpfs"))):
            target = str(entry).partition(":")[0]
            if target in taken:
                raise self.wrong(
                    (*path, "tmpfs", index),
                    f"goes to {target}, where {taken[target]} is mounted",
                )
            taken[target] = f"tmpfs[{index}]"


def check_cycles(document: Mapping) -> None:
    """
    Raise if services depend on each other in a circle.

    Raises:
        ComposeError: Names the services of the circle, in order.
    """
    services = document.get("services")
    if not isinstance(services, Mapping):
        return
    edges = {
        name: [wish for wish in _keys(_at(service, "depends_on")) if wish in services]
        for name, service in services.items()
    }
    done: set[str] = set()
    for start in edges:
        trail: list[str] = []
        stack: list[tuple[str, int]] = [(start, 0)]
        while stack:
            name, position = stack.pop()
            if position == 0:
                if name in done:
                    continue
                trail.append(name)
            if position < len(edges[name]):
                stack.append((name, position + 1))
                following = edges[name][position]
                if following in trail:
                    circle = [*trail[trail.index(following) :], following]
                    raise problem(
                        document,
                        ("services", name, "depends_on", following),
                        f"goes in a circle: {' -> '.join(circle)}",
                        kind="cycle",
                    )
                stack.append((following, 0))
            else:
                trail.pop()
                done.add(name)


def _keys(node: Node) -> list[str]:
    return list(node) if isinstance(node, Mapping) else []


def _items(node: Node) -> list[tuple[str, Node]]:
    return list(node.items()) if isinstance(node, Mapping) else []


def _entries(node: Node) -> list[Node]:
    return list(node) if isinstance(node, Sequence) else []


def _at(node: Node, *keys: str) -> Node:
    for key in keys:
        if not isinstance(node, Mapping):
            return None
        node = node.get(key)
    return node


def _more(*counts: Node) -> bool:
    return any(isinstance(count, int) and count > 1 for count in counts)
