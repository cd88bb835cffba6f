"""
Whom a jail may talk to.

Two answers so far: nobody, or whoever the host may. Networks between jails join this
sum when they exist.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

import attrs

from jailbox.errors import SpecError, SpecTypeError, shown
from jailbox.spec.checks import choice, mapping, several
from jailbox.spec.mapping import FrozenMap

__all__ = ["DEFAULT_NETWORK", "Network", "NetworkMode"]

NetworkMode: TypeAlias = Literal["none", "host"]

_MODES: tuple[NetworkMode, ...] = ("none", "host")


def _mode(value: NetworkMode) -> NetworkMode:
    return choice(value, "network", _MODES)


_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?")
_NAME_ACCEPTED = "letters, digits, '-', '_' and '.'; no '-' or '.' at an end"
_OPTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9:._-]{0,63}")


def _address(value: object, argument: str) -> str:
    accepted = "an IPv4 or IPv6 address"
    if not isinstance(value, str):
        raise SpecTypeError(argument, "is no text", value=value, accepted=accepted)
    # Loaded when there is an address to read: most programs have none.
    from ipaddress import ip_address

    try:
        return str(ip_address(value))
    except ValueError:
        raise SpecError(
            argument, "is no address", value=value, accepted=accepted
        ) from None


def _name(value: object, argument: str) -> str:
    if not isinstance(value, str):
        raise SpecTypeError(
            argument, "is no text", value=value, accepted=_NAME_ACCEPTED
        )
    if not _NAME.fullmatch(value):
        raise SpecError(
            argument, "is no host name", value=value, accepted=_NAME_ACCEPTED
        )
    return value


def _hosts(value: Mapping[str, str]) -> FrozenMap[str, str]:
    given = mapping(value, "hosts", "{'name': 'address'}")
    return FrozenMap(
        {
            _name(name, "hosts"): _address(address, f"hosts[{shown(name)}]")
            for name, address in given.items()
        }
    )


def _dns(value: Iterable[str]) -> tuple[str, ...]:
    given = several(value, "dns", "addresses: ['192.0.2.53']")
    return tuple(_address(each, "dns") for each in given)


def _search(value: Iterable[str]) -> tuple[str, ...]:
    given = several(value, "dns_search", "domains: ['example.com']")
    return tuple(_name(each, "dns_search") for each in given)


def _options(value: Iterable[str]) -> tuple[str, ...]:
    accepted = "words of resolv.conf(5): ['ndots:2', 'rotate']"
    options = several(value, "dns_options", accepted)
    for each in options:
        if not isinstance(each, str) or not _OPTION.fullmatch(each):
            raise SpecError(
                "dns_options", "has no option", value=each, accepted=accepted
            )
    return tuple(options)


@attrs.frozen(repr=False)
class Network:
    """
    Whom a jail may talk to, and how it finds names.

    >>> Network()
    Network(mode='none')
    >>> Network("host", hosts={"db": "192.0.2.7"}).hosts
    FrozenMap({'db': '192.0.2.7'})

    Attributes:
        mode: ``none``: a network of its own with nothing but its loopback. ``host``:
            the host's network as it is, with every service that listens there.

        hosts: Names and their addresses, for ``/etc/hosts``.

        dns: Addresses of name servers, for ``/etc/resolv.conf``. Without them it is
            the host's with the host's network, and else the image's.

        dns_search: Domains in which short names are looked for.

        dns_options: Options, as *resolv.conf(5)* spells them.
    """

    mode: NetworkMode = attrs.field(default="none", converter=_mode)
    hosts: FrozenMap[str, str] = attrs.field(
        factory=FrozenMap, converter=_hosts, kw_only=True
    )
    dns: tuple[str, ...] = attrs.field(default=(), converter=_dns, kw_only=True)
    dns_search: tuple[str, ...] = attrs.field(
        default=(), converter=_search, kw_only=True
    )
    dns_options: tuple[str, ...] = attrs.field(
        default=(), converter=_options, kw_only=True
    )

    def __repr__(self) -> str:
        more = [
            f"{field.name}={value!r}"
            for field in attrs.fields(Network)[1:]
            if (value := getattr(self, field.name))
        ]
        return f"Network({', '.join([f'mode={self.mode!r}', *more])})"

    @property
    def private(self) -> bool:
        """Whether the jail has a network namespace of its own."""
        return self.mode != "host"

    @classmethod
    def of(cls, value: "NetworkMode | Network") -> "Network":
        """Take a network as people write it: ``"none"``, ``"host"``, or a value."""
        return value if isinstance(value, Network) else cls(value)


DEFAULT_NETWORK = Network()
"""Nobody."""
