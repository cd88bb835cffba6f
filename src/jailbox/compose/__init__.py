"""
Many containers: from the text of compose files to a system that runs.

Named passes over plain data, types last: read, interpolate, extend, include, merge,
canonical, normalize, check, model. Every pass takes a tree and returns a new one; no
pass reads a file, except `load`, which is given something that does.
"""

from jailbox.compose.project import Compose

__all__ = ["Compose"]
