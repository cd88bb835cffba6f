"""
Isolated buckets for Python programs: build, start and watch Linux containers.

No daemon, no command line, no root, nothing to download for the first run::

    import jailbox as jb
    from jailbox import Image, Limits

    jb.run(Image.host(), ["python3", "-V"]).stdout
    jb.run(Image.host(), ["python3", "-c", code], limits=Limits(memory="256M", wall=5))

Importing this probes nothing, makes nothing and starts nothing.
"""

from typing import TYPE_CHECKING

# A room and a function have the same name. Loading a package binds its name here, once:
# now, before the function takes it. The room itself is empty (see its docstring).
import jailbox.run  # noqa: F401
from jailbox._version import __version__
from jailbox.container import Container, run
from jailbox.engine.base import LogEntry, Stats
from jailbox.errors import (
    ContentError,
    DeadlineExceeded,
    EngineError,
    ExitError,
    HostError,
    ImageNotFound,
    JailboxError,
    LaunchError,
    LimitExceeded,
    NotEnforced,
    NotFound,
    NotPermitted,
    OutOfMemory,
    SpecError,
    SpecTypeError,
    StateError,
    Unsupported,
)
from jailbox.image import Image, Store
from jailbox.spec.change import Change
from jailbox.spec.container import ContainerState
from jailbox.spec.image import ImageConfig
from jailbox.spec.limits import Limits
from jailbox.spec.mount import Mount
from jailbox.spec.network import Network
from jailbox.spec.result import Cause, Result, Usage, Verdict
from jailbox.spec.security import Security
from jailbox.volume import Volume

if TYPE_CHECKING:
    from jailbox.engine.changes import Changes
    from jailbox.engine.doctor import Report
    from jailbox.engine.snapshot import Snapshot
    from jailbox.run.files import ContainerPath
    from jailbox.run.process import Process

__all__ = [
    "Cause",
    "Change",
    "Changes",
    "Container",
    "ContainerPath",
    "ContainerState",
    "ContentError",
    "DeadlineExceeded",
    "EngineError",
    "ExitError",
    "HostError",
    "Image",
    "ImageConfig",
    "ImageNotFound",
    "JailboxError",
    "LaunchError",
    "LimitExceeded",
    "Limits",
    "LogEntry",
    "Mount",
    "Network",
    "NotEnforced",
    "NotFound",
    "NotPermitted",
    "OutOfMemory",
    "Process",
    "Result",
    "Security",
    "Snapshot",
    "SpecError",
    "SpecTypeError",
    "StateError",
    "Stats",
    "Store",
    "Unsupported",
    "Usage",
    "Verdict",
    "Volume",
    "__version__",
    "doctor",
    "run",
]


def doctor() -> "Report":
    """
    Examine this machine: what it can do for jails, what is missing, what to do.

    Starts one jail to see that it works, and leaves nothing. Prints as a table.
    """
    from jailbox.engine.choose import default_engine

    return default_engine().doctor()


# Classes of the kernel half, for annotations and isinstance; loaded when asked for, so
# that importing the package needs no kernel.
_LATE = {
    "Changes": "jailbox.engine.changes",
    "ContainerPath": "jailbox.run.files",
    "Process": "jailbox.run.process",
    "Snapshot": "jailbox.engine.snapshot",
}


def __getattr__(name: str) -> type:
    if name in _LATE:
        from importlib import import_module

        late: type = getattr(import_module(_LATE[name]), name)
        return late
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
