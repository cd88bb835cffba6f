"""
For tests of programs that use jailbox: a registry in the test process.

Pure Python, on a loopback port, gone at the end of its block::

    from jailbox.testing import Registry

    with Registry() as registry, registry.client() as client:
        client.tags(f"{registry.address}/base")

It can be as odd and as broken as real ones are, on request (`Habits`), and it remembers
what it was asked (`Registry.requests`).
"""

from jailbox.testing.content import Content
from jailbox.testing.habits import Habits
from jailbox.testing.registry import Registry
from jailbox.testing.web import Asked

__all__ = ["Asked", "Content", "Habits", "Registry"]
