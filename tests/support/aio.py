"""What the tests of ipv4batch.aio share: the event loops that a test runs under, and waiting with a
limit.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import pytest

from support.net import LIMIT

with contextlib.suppress(ImportError):
    import uvloop

    # The first loop of a process opens a pipe for good, which is not to be in a test.
    uvloop.new_event_loop().close()

LIBRARIES = ["asyncio", "uvloop", "trio"]

Main = Callable[[], Coroutine[Any, Any, Any]]


def run_under(library: str, main: Main) -> Any:
    """The result of a coroutine function under a library's loop, within the time limit."""
    if library == "trio":
        trio = pytest.importorskip("trio")

        async def limited() -> Any:
            with trio.fail_after(LIMIT):
                return await main()

        return trio.run(limited)

    factory = pytest.importorskip("uvloop").new_event_loop if library == "uvloop" else None
    return run_on(factory, main)


def run_on(factory: Callable[[], asyncio.AbstractEventLoop] | None, main: Main) -> Any:
    """The same under a loop that `factory` makes."""

    async def limited() -> Any:
        async with asyncio.timeout(LIMIT):
            return await main()

    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(limited())


class Tasks:
    """Tasks beside the test's own, under either library."""

    def __init__(self, library: str) -> None:
        self._trio = library == "trio"
        self.done: dict[str, Any] = {}
        self._scopes: dict[str, Any] = {}

    @contextlib.asynccontextmanager
    async def open(self) -> Any:
        if self._trio:
            import trio

            async with trio.open_nursery() as self._nursery:
                yield self
        else:
            async with asyncio.TaskGroup() as self._group:
                yield self

    async def start(self, name: str, call: Callable[[], Awaitable[Any]]) -> None:
        """Start a task, and let it run until it waits. What it returns or raises will be
        done[name].
        """

        async def run() -> None:
            try:
                self.done[name] = await call()
            except Exception as error:
                self.done[name] = error

        if self._trio:
            import trio

            scope = self._scopes[name] = trio.CancelScope()

            async def scoped() -> None:
                with scope:
                    await run()

            self._nursery.start_soon(scoped)
        else:
            self._scopes[name] = self._group.create_task(run())
        await self.settle()

    def cancel(self, name: str) -> None:
        self._scopes[name].cancel()

    async def settle(self, rounds: int = 5) -> None:
        """Let every task run until it waits for something from outside."""
        for _ in range(rounds):
            if self._trio:
                import trio

                await trio.testing.wait_all_tasks_blocked()
            else:
                await asyncio.sleep(0)

    async def until(self, condition: Callable[[], object]) -> None:
        """Let the others run until something is so. The time limit is that of the run."""
        while not condition():
            if self._trio:
                import trio

                await trio.sleep(0.001)
            else:
                await asyncio.sleep(0.001)


@contextlib.contextmanager
def loop_errors(loop: asyncio.AbstractEventLoop) -> Iterator[list[dict[str, Any]]]:
    """What comes to a loop's exception handler meanwhile."""
    found: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: found.append(context))
    yield found
    loop.set_exception_handler(None)


class Recorder(asyncio.DatagramProtocol):
    """A protocol that notes what it is called with."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.datagrams: list[bytes] = []
        self.peers: list[Any] = []
        self.errors: list[Any] = []
        self.transport: Any = None
        self.lost: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.datagrams.append(data)
        self.peers.append(addr)

    def error_received(self, exc: Exception) -> None:
        self.errors.append(exc)

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


async def until(condition: Callable[[], object]) -> None:
    """Let the loop run until something is so. The time limit is that of run_on."""
    while not condition():
        await asyncio.sleep(0.001)
