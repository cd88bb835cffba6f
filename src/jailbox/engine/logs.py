"""
Pieces of a log: the ones that are wanted.

Pure: an engine gives all of them, wherever it is.
"""

import time
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from jailbox.engine.base import LogEntry
from jailbox.errors import SpecTypeError
from jailbox.spec.checks import choice, whole
from jailbox.spec.units import parse_duration

__all__ = ["chosen"]

_STREAMS = ("stdout", "stderr")
_TAIL_MAX = 2**63 - 1


def chosen(
    entries: Iterable[LogEntry],
    *,
    since: float | timedelta | datetime | None = None,
    tail: int | None = None,
    stream: str | None = None,
) -> tuple[LogEntry, ...]:
    """
    Choose entries of a log; all of them unless said otherwise.

    Args:
        entries: The log, in order.

        since: Only what was written later: a moment, or so long ago.

        tail: Only so many last lines, of what is left by the others.

        stream: Only ``stdout`` or ``stderr``.
    """
    moment = _moment(since)
    name = None if stream is None else choice(stream, "stream", _STREAMS)
    found = [
        entry
        for entry in entries
        if entry.time >= moment and name in {None, entry.stream}
    ]
    if tail is not None:
        count = whole(tail, "tail", 0, _TAIL_MAX)
        found = [*_tail(found, count)]
    return tuple(found)


def _moment(since: float | timedelta | datetime | None) -> float:
    if since is None:
        return 0.0
    if isinstance(since, datetime):
        if since.tzinfo is None:
            raise SpecTypeError(
                "since",
                "has no time zone",
                value=since,
                accepted="datetime.now(UTC), or so many seconds ago",
            )
        return since.timestamp()
    return time.time() - parse_duration(since, "since")


def _tail(entries: list[LogEntry], count: int) -> Iterator[LogEntry]:
    """Give what belongs to the last *count* lines; entries are cut where lines end."""
    pieces: list[tuple[int, LogEntry]] = []
    # Which line of a stream is not at its end yet: another entry goes on with it.
    open_lines: dict[str, int] = {}
    lines = 0
    for entry in entries:
        for part in entry.data.splitlines(keepends=True):
            number = open_lines.pop(entry.stream, lines)
            lines += number == lines
            if not part.endswith(b"\n"):
                open_lines[entry.stream] = number
            pieces.append((number, LogEntry(entry.time, entry.stream, part)))
    for number, piece in pieces:
        if number >= lines - count:
            yield piece
