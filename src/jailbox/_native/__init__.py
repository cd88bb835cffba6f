"""
The C part: loaded here, and refused when it belongs to another version.

Only `jailbox.linux` imports this. What the functions mean stands in ``jailbox.h``.
"""

from jailbox._native._lib import ffi, lib
from jailbox._version import __version__

__all__ = ["ffi", "lib"]

_built = ffi.string(lib.jb_version()).decode()
if _built != __version__:
    message = (
        f"the C part of jailbox is version {_built}, the Python part {__version__}: "
        "build it again (pip install -e .)"
    )
    raise ImportError(message)
