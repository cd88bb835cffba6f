"""
Options as docker-py names them, told in the words of jailbox.

What jailbox does not offer raises `NotOffered` with the reason; what makes no sense is
left to the library, which is to refuse it.
"""

import re
from typing import Any

from jailbox import Limits, Mount, Network, Security
from jailbox.errors import SpecError
from tests.conformance.runtime_expect import Json

__all__ = ["NotOffered", "arguments"]

_NETWORK = "networks between containers are not there yet"
_LATER = {
    "ports": _NETWORK,
    "publish_all_ports": _NETWORK,
    "expose": _NETWORK,
    "links": _NETWORK,
    "network_aliases": _NETWORK,
    "ip": _NETWORK,
    "mac_address": _NETWORK,
    "volumes_from": "named volumes are not there yet",
    "restart_policy": "a container is not started again by itself yet",
    "healthcheck": "nothing asks a container for its health yet",
    "env_file": "files of variables belong to compose",
}
_NEVER = {
    "pid_mode": "process numbers are never shared",
    "device_cgroup_rules": "devices are shown one by one, by Mount.device",
    "blkio_weight": "no share of disk time is offered (LIM-08)",
    "mem_swappiness": "how eagerly to swap is the host's business",
    "cpuset_mems": "memory nodes are not offered",
    "cpu_period": "processors are given as a number, Limits(cpus=...)",
    "cpu_quota": "processors are given as a number, Limits(cpus=...)",
}


class NotOffered(Exception):  # an answer, not a failure
    """Jailbox has nothing of the kind."""


def arguments(options: dict[str, Any]) -> dict[str, Any]:
    """Translate the options of a container into arguments of ours."""
    given = dict(options)
    for name in given:
        if name in _LATER:
            raise NotOffered(_LATER[name])
        if name in _NEVER:
            raise NotOffered(_NEVER[name])
    wanted: dict[str, Any] = {}
    for name, argument in _SAME.items():
        if name in given:
            wanted[argument] = given.pop(name)
    _program(given, wanted)
    _modes(given)
    wanted["mounts"] = [*_mounts(given)]
    wanted["limits"] = _limits(given)
    wanted["security"] = _security(given)
    _network(given, wanted)
    for ignored in ("auto_remove", "init", "stdin_open", "image", "labels"):
        value = given.pop(ignored, None)
        if ignored == "labels" and value is not None:
            wanted["labels"] = value
    if given:
        raise NotOffered(f"unknown to this runner: {', '.join(sorted(given))}")
    return wanted


_SAME = {
    "user": "user",
    "working_dir": "cwd",
    "hostname": "hostname",
    "domainname": "domainname",
    "read_only": "read_only",
    "stop_signal": "stop_signal",
    "stop_timeout": "stop_timeout",
    "group_add": "groups",
    "tty": "tty",
}


def _program(given: dict[str, Any], wanted: dict[str, Any]) -> None:
    env = given.pop("environment", None)
    if isinstance(env, list):
        env = dict(item.partition("=")[::2] for item in env)
    if env is not None:
        wanted["env"] = env
    if "entrypoint" in given:
        entrypoint = given.pop("entrypoint")
        if isinstance(entrypoint, str):
            entrypoint = [entrypoint] if entrypoint else []
        wanted["entrypoint"] = entrypoint
    if "command" in given:
        wanted["argv"] = given.pop("command")


def _modes(given: dict[str, Any]) -> None:
    """Namespaces can be shared with nobody."""
    for name in ("ipc_mode", "uts_mode", "cgroupns"):
        value = given.pop(name, "private")
        if value not in ("private", ""):
            raise NotOffered(
                f"{name}={value}: every jail has namespaces of its own, which nobody "
                "shares"
            )
    if given.pop("privileged", False):
        raise NotOffered("nothing gives a jail all rights on the host")


def _mounts(given: dict[str, Any]) -> list[Mount]:
    found: list[Mount] = []
    volumes = given.pop("volumes", [])
    if isinstance(volumes, dict):
        raise NotOffered("named volumes are not there yet")
    found += [_bind(text) for text in volumes]
    for item in given.pop("mounts", []):
        found.append(_mount(item))
    tmpfs = given.pop("tmpfs", {})
    for target, text in tmpfs.items():
        found.append(_tmpfs(target, text))
    found += [_device(text) for text in given.pop("devices", [])]
    return found


def _bind(text: str) -> Mount:
    parts = text.split(":")
    if len(parts) == 1 or not parts[0].startswith(("/", ".")):
        raise NotOffered("named volumes are not there yet")
    words = parts[2].split(",") if len(parts) > 2 else []
    for word in words:
        if word not in ("ro", "rw", "z", "Z", "nocopy", "rprivate", "private"):
            if re.fullmatch(r"r?(shared|slave)", word):
                raise NotOffered("mounts are never propagated")
            raise SpecError("volumes", "has an unknown word", value=word)
    return Mount.bind(parts[0], parts[1], writable="ro" not in words)


def _mount(item: dict[str, Any]) -> Mount:
    match item.get("type"):
        case "bind":
            if item.get("propagation", "rprivate") not in ("private", "rprivate"):
                raise NotOffered("mounts are never propagated")
            return Mount.bind(
                item["source"],
                item["target"],
                writable=not item.get("read_only", False),
                recursive=not item.get("non_recursive", False),
            )
        case "tmpfs":
            more: dict[str, Any] = {}
            if "tmpfs_size" in item:
                more["size"] = item["tmpfs_size"]
            if "tmpfs_mode" in item:
                mode = item["tmpfs_mode"]
                more["mode"] = int(mode, 8) if isinstance(mode, str) else mode
            if item.get("read_only"):
                more["writable"] = False
            return Mount.tmpfs(item["target"], **more)
        case "volume":
            raise NotOffered("named volumes are not there yet")
    raise SpecError("mounts", "has an unknown type", value=item.get("type"))


def _tmpfs(target: str, text: str) -> Mount:
    more: dict[str, Any] = {}
    for word in filter(None, text.split(",")):
        name, _, value = word.partition("=")
        match name:
            case "size":
                more["size"] = value
            case "mode":
                more["mode"] = int(value, 8)
            case "uid" | "gid":
                more[name] = int(value)
            case "nr_inodes":
                more["inodes"] = int(value)
            case "exec":
                more["exec"] = True
            case "ro":
                more["writable"] = False
            case "rw" | "noexec" | "nosuid" | "nodev":
                pass
            case _:
                raise SpecError("tmpfs", "has an unknown word", value=word)
    return Mount.tmpfs(target, **more)


def _device(text: str) -> Mount:
    parts = text.split(":")
    path, rest = parts[0], parts[1:]
    permissions = "rw"
    if rest and re.fullmatch(r"[rwm]+", rest[-1]):
        permissions = rest.pop()
    return Mount.device(path, rest[0] if rest else None, permissions)


def _limits(given: dict[str, Any]) -> Limits:
    wanted: dict[str, Any] = {}
    memory = given.pop("mem_limit", None)
    both = given.pop("memswap_limit", None)
    if memory is not None:
        wanted["memory"] = memory
    if both is not None:
        if both == -1:
            raise NotOffered("swap without a bound, beside a bound of memory")
        wanted["swap"] = _size(both) - _size(memory or 0)
        if wanted["swap"] < 0:
            raise SpecError("memswap_limit", "is below the memory limit", value=both)
    if "mem_reservation" in given:
        wanted["memory_reservation"] = given.pop("mem_reservation")
    pids = given.pop("pids_limit", None)
    if pids is not None:
        wanted["processes"] = None if pids in (0, -1) else pids
    if "nano_cpus" in given:
        wanted["cpus"] = given.pop("nano_cpus") / 1e9
    if "cpu_shares" in given:
        wanted["cpu_shares"] = given.pop("cpu_shares")
    if "cpuset_cpus" in given:
        wanted["cpuset"] = given.pop("cpuset_cpus")
    if "shm_size" in given:
        wanted["shm"] = given.pop("shm_size")
    if "oom_score_adj" in given:
        wanted["oom_score_adj"] = given.pop("oom_score_adj")
    rlimits = {}
    for item in given.pop("ulimits", []):
        soft = item["soft"]
        hard = item.get("hard", soft)
        rlimits[item["name"]] = (
            None if soft == -1 else soft,
            None if hard == -1 else hard,
        )
    if rlimits:
        wanted["rlimits"] = rlimits
    return Limits(**wanted)


def _size(value: int | str) -> int:
    from jailbox.spec.units import parse_size

    return parse_size(value, "memory")


def _security(given: dict[str, Any]) -> Security:
    security = Security()
    dropped = given.pop("cap_drop", [])
    added = given.pop("cap_add", [])
    if "ALL" in (name.upper() for name in dropped):
        security = security.dropping("ALL").adding(*_upper(added))
    else:
        security = security.adding(*_upper(added)).dropping(*_upper(dropped))
    changes: dict[str, Any] = {}
    for option in given.pop("security_opt", []):
        _security_option(option, changes)
    if "sysctls" in given:
        changes["sysctls"] = given.pop("sysctls")
    import attrs

    return attrs.evolve(security, **changes) if changes else security


def _upper(names: list[str]) -> list[str]:
    return ["ALL" if name.upper() == "ALL" else name for name in names]


def _security_option(option: Json, changes: dict[str, Any]) -> None:
    if isinstance(option, dict):
        changes["seccomp"] = option["seccomp"]
        return
    name, _, value = option.replace(":", "=", 1).partition("=")
    match name:
        case "no-new-privileges":
            changes["no_new_privileges"] = value != "false"
        case "seccomp":
            changes["seccomp"] = value
        case "apparmor" | "label":
            # Neither is used by jailbox; without it is what is asked for.
            if value not in ("unconfined", "disable"):
                raise NotOffered(f"{name} profiles are not applied")
        case "unmask" | "mask" | "proc-opts" | "systempaths":
            raise NotOffered("a word of one peer; ours is Security.unmasking()")
        case _:
            raise SpecError("security_opt", "is unknown", value=option)


def _network(given: dict[str, Any], wanted: dict[str, Any]) -> None:
    network = given.pop("network", "none")
    if network not in ("none", "host"):
        raise NotOffered(_NETWORK)
    more: dict[str, Any] = {}
    for name, argument in _NAMES.items():
        if name in given:
            more[argument] = given.pop(name)
    if isinstance(more.get("hosts"), list):
        more["hosts"] = dict(item.partition(":")[::2] for item in more["hosts"])
    wanted["network"] = Network(network, **more)


_NAMES = {
    "extra_hosts": "hosts",
    "dns": "dns",
    "dns_search": "dns_search",
    "dns_opt": "dns_options",
}
