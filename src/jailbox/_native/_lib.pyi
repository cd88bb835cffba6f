"""
What the compiled part offers, for type checkers. A test compares it with the real one.
"""

from typing import Any

ffi: Any
lib: Any
