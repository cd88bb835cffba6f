"""
Whom a jail may talk to.

Two answers so far: nobody, or whoever the host may. Networks between jails join this
sum when they exist.
"""

from typing import Literal, TypeAlias

import attrs

from jailbox.spec.checks import choice

__all__ = ["DEFAULT_NETWORK", "Network", "NetworkMode"]

NetworkMode: TypeAlias = Literal["none", "host"]

_MODES: tuple[NetworkMode, ...] = ("none", "host")


def _mode(value: NetworkMode) -> NetworkMode:
    return choice(value, "network", _MODES)


@attrs.frozen
class Network:
    """
    Whom a jail may talk to.

    >>> Network()
    Network(mode='none')

    Attributes:
        mode: ``none``: a network of its own with nothing but its loopback. ``host``:
            the host's network as it is, with every service that listens there.
    """

    mode: NetworkMode = attrs.field(default="none", converter=_mode)

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
