"""
Volumes of a service in their short form: ``./data:/data:ro``, ``cache:/cache``.

The form is that of the compose specification (05-services.md, "volumes").
"""

import re

from jailbox.compose.tree import Mapping, as_mapping

__all__ = ["parse_volume"]

_PROPAGATIONS = ("rprivate", "private", "rshared", "shared", "rslave", "slave")
_CONSISTENCIES = ("consistent", "cached", "delegated")
_DRIVE = re.compile(r"[a-zA-Z]:[\\/]")


def parse_volume(text: str) -> Mapping:
    """
    Read a volume in its short form into its long one.

    Raises:
        ValueError: It is no volume.
    """
    if not text:
        raise ValueError("is empty")
    parts = _parts(text)
    if any(not part for part in parts):
        raise ValueError("has an empty section between colons")
    full = Mapping()
    match parts:
        case [target]:
            full.put("type", "volume")
            full.put("target", target)
            return full
        case [source, target]:
            options = ""
        case [source, target, options]:
            pass
        case _:
            raise ValueError("has more than a source, a target and options")
    full.put("type", "bind" if _is_path(source) else "volume")
    full.put("source", source)
    full.put("target", target)
    for option in filter(None, options.split(",")):
        _option(full, option)
    return full


def _option(full: Mapping, option: str) -> None:
    match option:
        case "ro":
            full.put("read_only", True)  # noqa: FBT003
        case "rw":
            full.pop("read_only", None)
        case "nocopy":
            _under(full, "volume")["nocopy"] = True
        case "z" | "Z":
            _under(full, "bind")["selinux"] = option
        case _ if option in _PROPAGATIONS:
            _under(full, "bind")["propagation"] = option
        case _ if option in _CONSISTENCIES:
            full.put("consistency", option)
        case _:
            # Options of volume drivers are theirs; they are not for us to refuse.
            pass


def _under(full: Mapping, key: str) -> Mapping:
    return as_mapping(full.setdefault(key, Mapping()))


def _parts(text: str) -> list[str]:
    """Split at colons, except that of a Windows drive."""
    head = text[:2] if _DRIVE.match(text) else ""
    parts = text.removeprefix(head).split(":")
    # The target may be on a drive as well: C:\\a:D:\\b.
    joined: list[str] = []
    skip = False
    for index, part in enumerate(parts):
        if skip:
            skip = False
            continue
        following = parts[index + 1] if index + 1 < len(parts) else ""
        drive = _DRIVE.match(f"{part}:{following}")
        if joined and drive:
            joined.append(f"{part}:{following}")
            skip = True
            continue
        joined.append(part)
    joined[0] = head + joined[0]
    return joined


def _is_path(source: str) -> bool:
    return source[0] in "./~\\" or _DRIVE.match(source) is not None
