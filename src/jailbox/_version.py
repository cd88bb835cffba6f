"""
The version of this source tree, written down once.

The package metadata reads it, the build stamps it into the C part as
``JB_VERSION``, and loading the C part compares the two, so that a stale build
is refused by name. Nothing else belongs here.
"""

__version__ = "0.1.0"
