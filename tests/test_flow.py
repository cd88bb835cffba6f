"""Operations as generators: what both drivers promise."""

import asyncio
import contextlib
import fcntl
import gc
import os
import signal
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import Any, NoReturn, TypeVar

import pytest

from jailbox.flow import Flow, Offload, Ready, adrive, drive, offload, ready

T = TypeVar("T")
Driver = Callable[[Flow[Any]], Any]


def drive_with_asyncio(flow: Flow[T]) -> T:
    """Run a flow with the asynchronous driver, in a loop of its own."""
    return asyncio.run(adrive(flow))


@pytest.fixture(params=[drive, drive_with_asyncio], ids=["drive", "adrive"])
def run(request: pytest.FixtureRequest) -> Driver:
    """Both drivers, one after the other."""
    driver: Driver = request.param
    return driver


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe: the end to read, the end to write."""
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        # Some tests are about a closed end.
        with contextlib.suppress(OSError):
            os.close(fd)


class TestReady:
    """Waiting for descriptors and moments."""

    def test_result(self, run: Driver) -> None:
        """What the flow returns is what the driver returns."""

        def flow() -> Flow[str]:
            yield Ready(deadline=0)
            return "done"

        assert run(flow()) == "done"

    def test_readable(self, run: Driver, pipe: tuple[int, int]) -> None:
        """A descriptor with something to read is ready to be read."""
        os.write(pipe[1], b"x")

        assert run(ready(reads=(pipe[0],))) == ((pipe[0],), ())

    def test_becomes_readable(self, run: Driver, pipe: tuple[int, int]) -> None:
        """The wait ends when something is written, not before."""
        threading.Timer(0.02, os.write, (pipe[1], b"x")).start()

        assert run(ready(reads=(pipe[0],))) == ((pipe[0],), ())
        assert os.read(pipe[0], 2) == b"x"

    @pytest.mark.parametrize("both", [False, True])
    def test_becomes_writable(self, run: Driver, both: bool) -> None:  # noqa: FBT001
        """The wait ends when there is room again, also if both ways are waited for."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.settimeout(0)
            sent = 0
            with contextlib.suppress(BlockingIOError):
                while True:
                    sent += ours.send(bytes(65536))
            threading.Timer(0.02, theirs.recv, (sent, socket.MSG_WAITALL)).start()

            fd = ours.fileno()
            assert run(ready((fd,) if both else (), (fd,))) == ((), (fd,))

    def test_several(self, run: Driver, pipe: tuple[int, int]) -> None:
        """Of several descriptors, those that are ready are named, and no others."""
        reader, writer = pipe
        with open(os.devnull, "rb") as null:
            answer = run(ready(reads=(reader, null.fileno()), writes=(writer,)))

            assert answer == ((null.fileno(),), (writer,))

    def test_both_ways(self, run: Driver) -> None:
        """One descriptor may be waited for in both directions at once."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            fd = ours.fileno()

            assert run(ready((fd,), (fd,))) == ((), (fd,))
            theirs.send(b"x")
            assert run(ready((fd,), (fd,))) == ((fd,), (fd,))

    def test_end_of_file(self, run: Driver, pipe: tuple[int, int]) -> None:
        """End of file is something to read."""
        os.close(pipe[1])

        assert run(ready(reads=(pipe[0],))) == ((pipe[0],), ())

    def test_nobody_reads(self, run: Driver, pipe: tuple[int, int]) -> None:
        """A full pipe that nobody reads any more is ready: the next write tells."""
        os.set_blocking(pipe[1], False)
        with contextlib.suppress(BlockingIOError):
            while os.write(pipe[1], bytes(65536)):
                pass
        os.close(pipe[0])

        assert run(ready(writes=(pipe[1],))) == ((), (pipe[1],))

    def test_deadline(self, run: Driver, pipe: tuple[int, int]) -> None:
        """A deadline is never early, and at most 50 ms late."""
        deadline = time.monotonic() + 0.05

        assert run(ready(reads=(pipe[0],), deadline=deadline)) == ((), ())
        assert 0 <= time.monotonic() - deadline < 0.05

    def test_passed_deadline(self, run: Driver, pipe: tuple[int, int]) -> None:
        """Past its deadline a wait still says what is ready, and does not block."""
        assert run(ready(reads=(pipe[0],), deadline=0)) == ((), ())
        os.write(pipe[1], b"x")
        assert run(ready(reads=(pipe[0],), deadline=0)) == ((pipe[0],), ())

    def test_sleep(self, run: Driver) -> None:
        """Without descriptors a wait is a sleep."""
        moment = time.monotonic() + 0.02

        assert run(ready(deadline=moment)) == ((), ())
        assert time.monotonic() >= moment

    def test_endless_deadline(self, run: Driver, pipe: tuple[int, int]) -> None:
        """A deadline in a thousand years is no overflow."""
        os.write(pipe[1], b"x")
        deadline = time.monotonic() + 3e10

        assert run(ready(reads=(pipe[0],), deadline=deadline)) == ((pipe[0],), ())

    def test_closed_descriptor(self, run: Driver) -> None:
        """Waiting for a closed descriptor is an error in the flow, not a spin."""
        # A number that nobody takes meanwhile: the event loop opens some of its own.
        closed = fcntl.fcntl(0, fcntl.F_DUPFD, 900)
        os.close(closed)

        def flow() -> Flow[str]:
            with pytest.raises(OSError, match="Bad file descriptor") as caught:
                yield from ready(reads=(closed,))
            return str(caught.value)

        assert run(flow()) == f"[Errno 9] Bad file descriptor: {closed}"


class TestOffload:
    """Work that blocks."""

    def test_result(self, run: Driver) -> None:
        """The result of the work is the answer."""
        assert run(offload(lambda: 3)) == 3

    def test_exception(self, run: Driver) -> None:
        """What the work raises is raised in the flow, which may handle it."""

        def flow() -> Flow[str]:
            try:
                yield Offload(lambda: os.environb[b"absent"])
            except KeyError as error:
                return f"no {error}"
            return "nothing"

        assert run(flow()) == "no b'absent'"

    def test_unhandled_exception(self, run: Driver) -> None:
        """What the flow does not handle comes out of the driver, as itself."""
        mistake = ValueError("mine")

        def work() -> NoReturn:
            raise mistake

        with pytest.raises(ValueError, match="mine") as caught:
            run(offload(work))
        assert caught.value is mistake

    def test_stop_iteration(self, run: Driver) -> None:
        """Work that raises StopIteration neither hangs nor ends the flow silently."""
        with pytest.raises(RuntimeError, match="StopIteration"):
            run(offload(lambda: next(iter(()))))


class TestFlow:
    """What a flow may rely on."""

    def test_finally_may_wait(self, run: Driver) -> None:
        """When a wait fails, clean-up runs and may wait itself."""
        steps = []

        def work() -> NoReturn:
            raise ValueError("mine")

        def flow() -> Flow[None]:
            try:
                yield from offload(work)
            finally:
                yield from ready(deadline=0)
                steps.append((yield from offload(lambda: "cleaned")))

        with pytest.raises(ValueError, match="mine"):
            run(flow())
        assert steps == ["cleaned"]

    def test_going_on(self, run: Driver) -> None:
        """After a failure it has handled, a flow goes on as before."""

        def flow() -> Flow[list[tuple[int, int]]]:
            numbers = []
            for number in range(3):
                try:
                    numbers.append((yield from offload(partial(divmod, 6, number))))
                except ZeroDivisionError:
                    numbers.append((0, 0))
            return numbers

        assert run(flow()) == [(0, 0), (6, 0), (3, 0)]

    def test_nesting(self, run: Driver) -> None:
        """Flows are made of flows."""

        def double(number: int) -> Flow[int]:
            return 2 * (yield from offload(lambda: number))

        def flow() -> Flow[int]:
            return (yield from double(1)) + (yield from double(2))

        assert run(flow()) == 6

    def test_own_exception(self, run: Driver) -> None:
        """An exception of the flow itself comes out, first wait or later."""

        def flow() -> Flow[None]:
            yield Ready(deadline=0)
            raise LookupError("mine")

        with pytest.raises(LookupError, match="mine"):
            run(flow())

    def test_failure_is_freed(self) -> None:
        """A failed flow is freed with its error, without help of the collector."""

        # Not shown for adrive: asyncio.run itself keeps a failed coroutine in a cycle.
        class Held:
            pass

        seen: list[weakref.ref[Held]] = []

        def flow() -> Flow[None]:
            held = Held()
            seen.append(weakref.ref(held))
            yield from offload(lambda: 1 // 0)

        gc.collect()
        gc.disable()
        try:
            with pytest.raises(ZeroDivisionError):
                drive(flow())
            assert seen[0]() is None
        finally:
            gc.enable()

    def test_threads(self) -> None:
        """Flows run side by side in threads."""
        results = []

        def flow(number: int) -> Flow[int]:
            yield Ready(deadline=time.monotonic() + 0.02)
            return number

        threads = [
            threading.Thread(target=lambda n=n: results.append(drive(flow(n))))
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(results) == list(range(8))


class TestInterrupt:
    """Ctrl-C while a flow waits."""

    def test_keyboard_interrupt(self, pipe: tuple[int, int]) -> None:
        """Ctrl-C ends the wait, clean-up runs and may wait, and the interrupt stays."""
        steps = []

        def interrupt(number: int, frame: FrameType | None) -> None:
            raise KeyboardInterrupt

        def flow() -> Flow[None]:
            try:
                yield from ready(reads=(pipe[0],))
            finally:
                steps.append((yield from ready(deadline=time.monotonic() + 0.01)))

        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            with pytest.raises(KeyboardInterrupt):
                drive(flow())
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert steps == [((), ())]

    def test_harmless_signal(self, pipe: tuple[int, int]) -> None:
        """A signal whose handler returns does not end the wait."""
        seen = []
        before = signal.signal(signal.SIGALRM, lambda number, _: seen.append(number))
        deadline = time.monotonic() + 0.05
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            assert drive(ready(reads=(pipe[0],), deadline=deadline)) == ((), ())
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert seen == [signal.SIGALRM]
        assert time.monotonic() >= deadline


class TestAsyncio:
    """What only the asynchronous driver can do."""

    async def _soon(self) -> None:
        """Let other tasks go on to their next wait."""
        for _ in range(10):
            await asyncio.sleep(0)

    def test_side_by_side(self) -> None:
        """Twenty waits together take as long as one."""

        async def main() -> float:
            start = time.monotonic()
            await asyncio.gather(
                *(adrive(ready(deadline=start + 0.1)) for _ in range(20))
            )
            return time.monotonic() - start

        assert 0.1 <= asyncio.run(main()) < 0.4

    def test_same_descriptor(self, pipe: tuple[int, int]) -> None:
        """Two flows may wait for one descriptor; both are answered."""

        async def main() -> list[Any]:
            waits = [asyncio.ensure_future(adrive(ready((pipe[0],)))) for _ in "ab"]
            await self._soon()
            os.write(pipe[1], b"x")
            return await asyncio.gather(*waits)

        assert asyncio.run(main()) == [((pipe[0],), ())] * 2

    def test_busy_flow_is_fair(self, pipe: tuple[int, int]) -> None:
        """A flow whose descriptor is always ready does not starve the others."""
        os.write(pipe[1], b"x")
        stop: list[bool] = []

        def busy() -> Flow[None]:
            while not stop:
                yield from ready(reads=(pipe[0],))

        async def main() -> None:
            task = asyncio.ensure_future(adrive(busy()))
            await self._soon()
            stop.append(True)
            await task

        asyncio.run(asyncio.wait_for(main(), 5))

    def test_cancel(self, pipe: tuple[int, int]) -> None:
        """A cancel is raised where the flow waits; clean-up may wait, and it stays."""
        steps: list[object] = []

        def flow() -> Flow[None]:
            try:
                yield from ready(reads=(pipe[0],))
            except asyncio.CancelledError:
                steps.append("told")
                raise
            finally:
                steps.append((yield from ready(deadline=time.monotonic() + 0.01)))

        async def main() -> bool:
            task = asyncio.ensure_future(adrive(flow()))
            await self._soon()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return task.cancelled()

        assert asyncio.run(main())
        assert steps == ["told", ((), ())]

    def test_timeout(self, pipe: tuple[int, int]) -> None:
        """asyncio.timeout works around a flow."""

        async def main() -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await adrive(ready(reads=(pipe[0],)))

        asyncio.run(main())

    def test_cancel_during_work(self) -> None:
        """Work that has begun is finished, and its result owned, before cancelling."""
        begun, go = threading.Event(), threading.Event()
        steps: list[object] = []

        def work() -> str:
            begun.set()
            go.wait()
            return "made"

        def flow() -> Flow[None]:
            made = yield from offload(work)
            steps.append(made)
            try:
                yield from ready()
            finally:
                steps.append(f"freed {made}")

        async def main() -> None:
            task = asyncio.ensure_future(adrive(flow()))
            await asyncio.to_thread(begun.wait)
            task.cancel()
            await self._soon()
            task.cancel()  # an impatient user changes nothing
            await self._soon()
            assert not task.done()
            go.set()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        assert steps == ["made", "freed made"]

    def test_cancel_during_last_work(self) -> None:
        """If the flow ends with that work, its result arrives, and then the cancel."""
        begun, go = threading.Event(), threading.Event()
        results = []

        def work() -> str:
            begun.set()
            go.wait()
            return "made"

        async def caller() -> None:
            results.append(await adrive(offload(work)))
            await asyncio.sleep(3600)

        async def main() -> None:
            task = asyncio.ensure_future(caller())
            await asyncio.to_thread(begun.wait)
            task.cancel()
            await self._soon()
            go.set()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert task.cancelling() == 1

        asyncio.run(main())
        assert results == ["made"]

    def test_cancel_during_failing_work(self) -> None:
        """Work that fails meanwhile tells the flow why, and the cancel stays."""
        begun, go = threading.Event(), threading.Event()
        steps = []

        def work() -> NoReturn:
            begun.set()
            go.wait()
            raise ValueError("mine")

        def flow() -> Flow[None]:
            try:
                yield from offload(work)
            except ValueError as error:
                steps.append(str(error))
            yield from ready()

        async def main() -> None:
            task = asyncio.ensure_future(adrive(flow()))
            await asyncio.to_thread(begun.wait)
            task.cancel()
            await self._soon()
            go.set()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        assert steps == ["mine"]

    def test_abandoned(self, pipe: tuple[int, int]) -> None:
        """A coroutine that is closed closes its flow."""
        steps = []

        def flow() -> Flow[None]:
            try:
                yield from ready(reads=(pipe[0],))
            except GeneratorExit:
                steps.append("closed")
                raise

        async def main() -> None:
            coroutine = adrive(flow())
            coroutine.send(None)
            coroutine.close()

        asyncio.run(main())
        assert steps == ["closed"]

    def test_no_descriptor_is_left(self, pipe: tuple[int, int]) -> None:
        """However waits end, no descriptor of ours stays open."""

        async def main() -> tuple[int, int]:
            before = len(os.listdir("/proc/self/fd"))
            for _ in range(3):
                wait = asyncio.ensure_future(adrive(ready(reads=(pipe[0],))))
                await self._soon()
                wait.cancel()
                await asyncio.gather(wait, return_exceptions=True)
                await adrive(ready((pipe[0],), deadline=time.monotonic() + 0.01))
            return before, len(os.listdir("/proc/self/fd"))

        before, after = asyncio.run(main())
        assert before == after
