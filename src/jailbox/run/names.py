"""
Names inside of a jail: the files of ``/etc`` that say who it is and where others are.

Images leave ``/etc/hosts``, ``/etc/hostname`` and ``/etc/resolv.conf`` to whoever
starts them. They come as a layer of their own between the image and what the jail
writes: so they can be changed like every other file, are no change of the jail's, and
cost no mount.

Pure: texts out of wishes.
"""

import attrs

from jailbox.spec.container import ContainerSpec

__all__ = ["Etc", "name_files"]


@attrs.frozen
class Etc:
    """
    The directory ``/etc`` of an image, which a layer above it has to look like.

    Attributes:
        mode: Its permission bits.
    """

    mode: int = 0o755


def name_files(
    spec: ContainerSpec, hostname: str, resolver: str | None
) -> tuple[tuple[str, bytes], ...]:
    """
    Write the files that name things, by their names in ``/etc``.

    Args:
        spec: What is wanted.

        hostname: The host name that the jail gets.

        resolver: The host's ``resolv.conf``, for a jail that shares its network.
    """
    files = [
        ("hosts", _hosts(spec, hostname)),
        ("hostname", f"{hostname}\n"),
    ]
    network = spec.network
    if network.dns or network.dns_search or network.dns_options:
        files.append(("resolv.conf", _resolver(spec, resolver)))
    elif resolver is not None:
        files.append(("resolv.conf", resolver))
    return tuple((name, text.encode("utf-8", "replace")) for name, text in files)


def _hosts(spec: ContainerSpec, hostname: str) -> str:
    names = hostname
    if spec.domainname is not None:
        names = f"{hostname}.{spec.domainname} {hostname}"
    lines = [
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        # As Debian does: every jail has a loopback, and not every one more than that.
        f"127.0.1.1\t{names}",
    ]
    lines += [f"{address}\t{name}" for name, address in spec.network.hosts.items()]
    return "".join(f"{line}\n" for line in lines)


def _resolver(spec: ContainerSpec, resolver: str | None) -> str:
    """What was asked for, and for the rest what the host does."""
    network = spec.network
    lines = [f"nameserver {address}" for address in network.dns]
    if network.dns_search:
        lines.append(f"search {' '.join(network.dns_search)}")
    if network.dns_options:
        lines.append(f"options {' '.join(network.dns_options)}")
    asked = {line.split()[0] for line in lines}
    lines += [
        line.strip()
        for line in (resolver or "").splitlines()
        if line.split()[:1]
        and line.split()[0] not in asked | {"#", ";", "domain"}
        and not line.startswith(("#", ";"))
    ]
    return "".join(f"{line}\n" for line in lines)
