"""
Text of Dockerfiles to instructions; nothing is run, and no file is read.

`lines` tells apart what is written, `parser` says what it means, `words` puts in
variables, `ignore` knows which paths are left out.
"""

from jailbox.dockerfile.ignore import Ignore
from jailbox.dockerfile.parser import Dockerfile, Stage, parse, parse_trigger
from jailbox.dockerfile.words import WordError, expand, expand_words

__all__ = [
    "Dockerfile",
    "Ignore",
    "Stage",
    "WordError",
    "expand",
    "expand_words",
    "parse",
    "parse_trigger",
]
