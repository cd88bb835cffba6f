"""
Operations as generators that ask for what they cannot do themselves.

A *flow* is written once and yields waits; a driver answers them. `drive` answers by
blocking, `adrive` by awaiting, so every face of jailbox is one line and the logic
exists once::

    def wait_exit(fd: int, deadline: float | None) -> Flow[bool]:
        readable, _ = yield from ready(reads=(fd,), deadline=deadline)
        return bool(readable)

    drive(wait_exit(fd, None))
    await adrive(wait_exit(fd, None))

There are two kinds of waits, and their fewness is the design: `Ready` (descriptors
or a moment) and `Offload` (work that blocks briefly).

What goes wrong while waiting, also KeyboardInterrupt and cancellation, is thrown
into the flow where it waits. So ``finally`` and ``with`` work in a flow, and may
wait themselves, exactly as in a coroutine.

This room knows no jail, opens nothing and starts no thread of its own.
"""

import contextvars
import errno
import os
import select
import time
from collections.abc import Callable, Generator
from types import GeneratorType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import attrs

if TYPE_CHECKING:
    import asyncio

__all__ = ["Flow", "Offload", "Ready", "Wait", "adrive", "drive", "offload", "ready"]

T = TypeVar("T")

Answer: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]
"""Descriptors that can be read, and descriptors that can be written."""


@attrs.frozen
class Ready:
    """
    Wait until one of several descriptors is ready, or until a moment.

    The answer is a pair: the descriptors of *reads* that can be read without
    blocking, and those of *writes* that can be written. End of file and errors count
    as ready: the next read or write tells. Both are empty when *deadline* has passed.
    Without descriptors this is a sleep.

    Attributes:
        reads: Descriptors to read from; borrowed.

        writes: Descriptors to write to; borrowed. One may be in both.

        deadline: Moment of `time.monotonic`, in seconds, or ``None`` for never.
    """

    reads: tuple[int, ...] = ()
    writes: tuple[int, ...] = ()
    deadline: float | None = None


@attrs.frozen
class Offload:
    """
    Run *work* where blocking is allowed. The answer is its result.

    For disk, hashing and starting processes: what blocks briefly and releases the
    interpreter lock. Cancelling waits for work that has begun and hands its result
    to the flow first, so that nothing it made is lost.
    """

    work: Callable[[], Any]


Wait: TypeAlias = Ready | Offload

Flow: TypeAlias = Generator[Wait, Any, T]
"""An operation that results in a T."""


def ready(
    reads: tuple[int, ...] = (),
    writes: tuple[int, ...] = (),
    deadline: float | None = None,
) -> Flow[Answer]:
    """Ask for `Ready` in a flow, with a typed answer."""
    answer: Answer = yield Ready(reads, writes, deadline)
    return answer


def offload(work: Callable[[], T]) -> Flow[T]:
    """Ask for `Offload` in a flow, with a typed answer."""
    answer: T = yield Offload(work)
    return answer


# The same numbers on every system that has poll(); written out because importing this
# module must work where select has no poll.
_POLLIN, _POLLOUT, _POLLERR, _POLLHUP, _POLLNVAL = 0x01, 0x04, 0x08, 0x10, 0x20

# POLLHUP and POLLERR are reported unasked. For a reader they mean end of file or an
# error to be fetched by read(), for a writer EPIPE from write().
_READABLE = _POLLIN | _POLLHUP | _POLLERR
_WRITABLE = _POLLOUT | _POLLHUP | _POLLERR

# poll() counts milliseconds in an int: longer waits are made of several.
_LONGEST_POLL = 1000 * 3600 * 24


def _poll(wait: Ready, *, block: bool) -> Answer | None:
    """
    Look once, waiting at most until the deadline.

    Returns ``None`` if it is too early for an answer.
    """
    # A fresh poll object costs a tenth of what a selector costs, and there is no
    # state that two threads or a forked child could share.
    poll = select.poll()
    reads, writes, deadline = wait.reads, wait.writes, wait.deadline
    for fd in reads:
        poll.register(fd, _POLLIN)
    for fd in writes:
        poll.register(fd, _POLLOUT | (_POLLIN if fd in reads else 0))
    timeout: float | None = 0
    if block:
        timeout = None
        if deadline is not None:
            timeout = min(max((deadline - time.monotonic()) * 1000, 0), _LONGEST_POLL)
    events = poll.poll(timeout)
    if not events:
        if deadline is not None and time.monotonic() >= deadline:
            return (), ()
        return None
    readable, writable = [], []
    for fd, event in events:
        if event & _POLLNVAL:
            # Answering "ready" would make the flow spin or touch a stranger's file.
            raise OSError(errno.EBADF, f"{os.strerror(errno.EBADF)}: {fd}")
        if event & _READABLE and fd in reads:
            readable.append(fd)
        if event & _WRITABLE and fd in writes:
            writable.append(fd)
    return tuple(readable), tuple(writable)


# What the answer is depends on the wait; only the flow that asked knows.
def _answer(wait: Wait) -> Any:  # noqa: ANN401
    """Answer a wait by blocking."""
    match wait:
        case Ready():
            while (answer := _poll(wait, block=True)) is None:
                pass
            return answer
        case Offload(work):
            return work()


def _ended(flow: Flow[Any]) -> bool:
    """Whether a flow that has been started has come to its end."""
    return not isinstance(flow, GeneratorType) or flow.gi_frame is None


def drive(flow: Flow[T]) -> T:
    """
    Run *flow* to its end in this thread, and return its result.

    An exception of a wait goes into the flow. Whatever the flow raises comes out.
    """
    answer: Any = None
    failure: BaseException | None = None
    try:
        while True:
            try:
                if failure is None:
                    wait = flow.send(answer)
                else:
                    wait = flow.throw(failure)
                    failure = None
                answer = _answer(wait)
            except BaseException as error:
                # If the flow has ended, then the error, or StopIteration with the
                # result, is its own. Otherwise the wait failed, or the user
                # pressed Ctrl-C, and the flow has to hear of it.
                if _ended(flow):
                    if isinstance(error, StopIteration):
                        result: T = error.value
                        return result
                    raise
                failure = error
    finally:
        # The traceback of the failure refers to this frame: break the cycle, so that
        # what the flow held is freed now and not by the collector.
        failure = None


async def adrive(flow: Flow[T]) -> T:
    """
    Run *flow* to its end without blocking the event loop, and return its result.

    Cancelling the task throws CancelledError into the flow where it waits.
    """
    answer: Any = None
    failure: BaseException | None = None
    late: BaseException | None = None
    try:
        while True:
            try:
                if failure is None:
                    wait = flow.send(answer)
                else:
                    wait = flow.throw(failure)
                    failure = None
                if late is not None:
                    failure, late = late, None
                elif isinstance(wait, Ready):
                    answer = await _ready(wait)
                else:
                    answer, failure, late = await _offloaded(wait.work)
            except GeneratorExit:
                # Nobody will await us again: the flow cannot wait any more either.
                flow.close()
                raise
            except BaseException as error:
                if _ended(flow):
                    if late is not None:
                        _cancel_again()
                    if isinstance(error, StopIteration):
                        result: T = error.value
                        return result
                    raise
                failure = error
    finally:
        failure = late = None


async def _ready(wait: Ready) -> Answer:
    """Answer `Ready` by awaiting."""
    import asyncio

    loop = asyncio.get_running_loop()
    # A flow whose descriptors are always ready must not starve the others.
    await asyncio.sleep(0)
    while (answer := _poll(wait, block=False)) is None:
        changed = loop.create_future()
        timer = None
        if wait.deadline is not None:
            remaining = max(wait.deadline - time.monotonic(), 0)
            timer = loop.call_later(remaining, _wake, changed)
        # An event loop knows one reader and one writer for each descriptor, and
        # silently forgets the first when a second comes. An epoll descriptor of our
        # own never collides, holds all we wait for, and is itself readable.
        with select.epoll() as epoll:
            for fd in wait.reads:
                epoll.register(fd, _POLLIN | (_POLLOUT if fd in wait.writes else 0))
            for fd in wait.writes:
                if fd not in wait.reads:
                    epoll.register(fd, _POLLOUT)
            loop.add_reader(epoll.fileno(), _wake, changed)
            try:
                await changed
            finally:
                loop.remove_reader(epoll.fileno())
                if timer is not None:
                    timer.cancel()
    return answer


def _wake(future: "asyncio.Future[None]") -> None:
    """Finish *future*, which may be finished or cancelled already."""
    if not future.done():
        future.set_result(None)


async def _offloaded(
    work: Callable[[], Any],
) -> tuple[Any, BaseException | None, BaseException | None]:
    """
    Answer `Offload` in a thread of the loop.

    Returns the result, what the work raised, and a cancellation that came meanwhile.
    A thread cannot be stopped: if the flow were told of the cancellation first, a
    descriptor or process that the work makes would be owned by nobody.
    """
    import asyncio

    def attempt() -> Any:  # noqa: ANN401  (whatever the work results in)
        try:
            return work()
        except StopIteration as error:
            # A future cannot hold it, and would hang.
            raise RuntimeError("work raised StopIteration") from error

    loop = asyncio.get_running_loop()
    # Not a task: asyncio.run cancels all tasks at its end, and this must finish.
    running = loop.run_in_executor(None, contextvars.copy_context().run, attempt)
    late: BaseException | None = None
    while not running.done():
        try:
            await asyncio.wait({running})
        except asyncio.CancelledError as error:
            late = error
    failure = running.exception()
    return None if failure else running.result(), failure, late


def _cancel_again() -> None:
    """
    Renew the cancellation of this task for its next wait.

    The flow ended before it could hear of it: its result goes to the caller, who
    then owns it, and the cancellation is raised where the caller waits next.
    """
    import asyncio

    task = asyncio.current_task()
    if task is not None:
        task.uncancel()
        task.cancel()
