"""
Which engine is used when nobody says: this machine's.

The only reader of ``JAILBOX_*`` variables, and the only place where the portable half
reaches the kernel half: late, and by name.

``JAILBOX_STORE``
    Where images are kept, unless a call says otherwise.

``JAILBOX_OFFLINE``
    If it is set to anything but ``0``, no registry is ever asked.
"""

import os
import sys

from jailbox.engine.base import Engine
from jailbox.errors import Unsupported

__all__ = ["default_engine"]

_engines: dict[int, Engine] = {}


def default_engine() -> Engine:
    """
    Return the engine of this process, making it on first use.

    A forked child gets its own: it never uses, and never ends, what its parent has.

    Raises:
        Unsupported: If this machine has no engine.
    """
    engine = _engines.get(os.getpid())
    if engine is None:
        if sys.platform != "linux":
            raise Unsupported(
                "Linux kernel to run containers",
                hint="Run this program on Linux; a virtual machine will do.",
            )
        from jailbox.engine.local import LocalEngine

        # Of two threads that come here at once, one wins and both use the same.
        engine = _engines.setdefault(
            os.getpid(),
            LocalEngine(
                os.environ.get("JAILBOX_STORE") or None,
                offline=os.environ.get("JAILBOX_OFFLINE", "0") not in {"", "0"},
            ),
        )
    return engine
