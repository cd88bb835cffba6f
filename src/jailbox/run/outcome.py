"""
What came of a program: everything that is known at its end, as one value.
"""

from collections.abc import Callable, Sequence
from typing import Any

import attrs

from jailbox.linux.cgroup import CgroupReport
from jailbox.linux.messages import Exited, Gone, Reason
from jailbox.run.streams import Capture
from jailbox.run.verdict import (
    Ending,
    exit_code_of,
    judge,
    oom_of,
    signal_of,
    usage_of,
)
from jailbox.spec.limits import Limits
from jailbox.spec.result import Result

__all__ = ["Wiring", "outcome"]


@attrs.frozen(kw_only=True)
class Wiring:
    """
    What a process needs to know of the jail that it runs in.

    Attributes:
        argv: The program and its arguments.

        limits: What it runs under.

        degraded: What is missing, as was allowed.

        kill: Ends it, and everything that it has started.

        kill_jail: Ends the whole jail.

        collected: Reads what the jail's groups have counted, once it is over.

        text: Output is text.

        whole_jail: The jail ends with it.

        timeout: Seconds; ``None`` for none.

        supervised: The timeout is held by a monitor; we only look after it.

        owned: It ends with us. A detached jail does not.

        logged: What it writes goes to a log, and not to us.

        paused: Whether its jail's time stands still, and its monitor's with it.
    """

    argv: tuple[str, ...]
    limits: Limits
    degraded: tuple[str, ...]
    kill: Callable[[], None]
    kill_jail: Callable[[], None]
    collected: Callable[[], CgroupReport]
    text: bool = True
    whole_jail: bool = False
    timeout: float | None = None
    supervised: bool = False
    owned: bool = True
    logged: bool = False
    paused: Callable[[], bool] = lambda: False


def outcome(
    wiring: Wiring,
    exited: Exited,
    gone: Gone | None,
    captures: Sequence[Capture],
    *,
    timed_out: bool,
    exceeded: bool,
) -> Result[Any]:
    """
    Put a result together.

    Args:
        wiring: The program, and the jail that it ran in.

        exited: What its supervisor said about its end.

        gone: The same about the end of its jail, if that is over.

        captures: Its output.

        timed_out: We ended it at the end of its time.

        exceeded: We ended it because it wrote too much.
    """
    report = wiring.collected()
    books = exited if gone is None or not wiring.whole_jail else gone
    truncated = any(capture.dropped for capture in captures)
    hard = wiring.limits.output is not None
    ending = Ending(
        status=exited.status,
        wall_reached=exited.reason == Reason.WALL or timed_out,
        cpu_reached=exited.reason == Reason.CPU_TIME,
        # Also if it ended by itself before we could end it.
        output_exceeded=exceeded or (hard and truncated),
        disk_full=exited.disk_full,
        oom_killed=oom_of(report, wiring.limits),
        pids_denied=report.pids_denied,
    )
    values = {capture.name: capture.value() for capture in captures}
    return Result(
        argv=wiring.argv,
        stdout=_shaped(values.get("stdout", b""), wiring),
        stderr=_shaped(values.get("stderr", b""), wiring),
        exit_code=exit_code_of(exited.status),
        signal=signal_of(exited.status),
        verdict=judge(ending),
        usage=usage_of(
            report,
            cpu_user=books.cpu_user,
            cpu_system=books.cpu_system,
            max_rss=max(exited.max_rss, books.max_rss),
            wall=exited.wall,
        ),
        limits=wiring.limits,
        truncated=truncated,
        degraded=wiring.degraded,
    )


def _shaped(data: bytes, wiring: Wiring) -> str | bytes:
    return data.decode("utf-8", "replace") if wiring.text else data
