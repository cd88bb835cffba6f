"""
Published ports in their short form: ``127.0.0.1:8000-8010:80-90/udp``.

The forms are those of the compose specification (05-services.md, "ports").
"""

from attrs import frozen

__all__ = ["Port", "parse_port"]

_PORT_MAX = 65_535
_DIGITS_MAX = 5


@frozen
class Port:
    """
    One port of a container, and where it is published.

    Attributes:
        target: The port of the container.

        published: The port, or the range of ports ("8000-8010") of the host; empty to
            have one chosen.

        host_ip: The address of the host, or empty for all of them.

        protocol: ``tcp``, ``udp`` or ``sctp``.
    """

    target: int
    published: str
    host_ip: str
    protocol: str


def parse_port(text: str) -> list[Port]:
    """
    Read the short form of published ports: a port for each of its range.

    Raises:
        ValueError: It is no port, or two ranges have not the same length.
    """
    bare, _, protocol = text.partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in ("tcp", "udp", "sctp"):
        raise ValueError(f"has the protocol {protocol!r}; known are tcp, udp, sctp")
    address, host, container = _split(bare)
    if not container:
        raise ValueError("names no port of the container")
    first, last = _range(container, "container")
    if not host:
        return [Port(port, "", address, protocol) for port in range(first, last + 1)]
    start, end = _range(host, "host")
    if end - start == last - first:
        return [
            Port(first + step, str(start + step), address, protocol)
            for step in range(last - first + 1)
        ]
    if first != last:
        raise ValueError(f"has ranges of two lengths: {host} and {container}")
    return [Port(first, f"{start}-{end}", address, protocol)]


def _split(text: str) -> tuple[str, str, str]:
    """Split into an address, a port of the host, and one of the container."""
    if text.startswith("["):
        address, bracket, rest = text[1:].partition("]")
        if not bracket or not rest.startswith(":"):
            raise ValueError("has an address whose bracket is not closed")
        host, _, container = rest[1:].rpartition(":")
        return address, host, container
    rest, _, container = text.rpartition(":")
    address, _, host = rest.rpartition(":")
    return address, host, container


def _range(text: str, which: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    try:
        start = _number(first)
        end = _number(last) if dash else start
    except ValueError:
        raise ValueError(f"has the {which} port {text!r}, which is none") from None
    if end < start:
        raise ValueError(f"has the {which} range {text!r}, which goes backward")
    return start, end


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX):
        raise ValueError(text)
    number = int(text)
    if number > _PORT_MAX:
        raise ValueError(text)
    return number
