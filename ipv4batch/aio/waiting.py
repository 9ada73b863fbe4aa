"""Waiting for a descriptor, under asyncio and under trio.

A gate stands for one direction of one descriptor. Any number of tasks wait at it; readiness wakes
one, which tries again. Whoever is woken and cancelled before it ran passes the wake-up on, so that
none is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import trio

FAIR_CALLS = 16
"""So many calls in a row may succeed without a wait before the other tasks of the loop get their
turn.
"""


class Gate(Protocol):
    """Where tasks wait for one direction of a descriptor."""

    async def wait(self) -> None: ...

    def wake(self) -> None:
        """Let the task that waits longest try again."""

    def close(self) -> None:
        """Let all tasks try again, and leave the descriptor alone from now on."""


class AsyncioGate:
    """A gate of an asyncio loop: add_reader or add_writer, for as long as somebody waits."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fd: int,
        add: Callable[[int, Callable[[], None]], object],
        remove: Callable[[int], object],
    ) -> None:
        self._loop = loop
        self._fd = fd
        self._add = add
        self._remove = remove
        self._registered = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def wait(self) -> None:
        future: asyncio.Future[None] = self._loop.create_future()
        if not self._registered:
            self._add(self._fd, self._ready)
            self._registered = True
        self._waiting.append(future)
        try:
            await future
        except BaseException:
            if future in self._waiting:
                self._waiting.remove(future)
            else:
                self.wake()
            raise

    def _ready(self) -> None:
        # The registration outlives a waiter by one call, since the next one often comes at once.
        if self._waiting:
            self.wake()
        else:
            self._unregister()

    def _unregister(self) -> None:
        if self._registered and not self._loop.is_closed():
            self._remove(self._fd)
        self._registered = False

    def wake(self) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)
                return

    def close(self) -> None:
        self._unregister()
        while self._waiting:
            self.wake()


class TrioGate:
    """A gate of a trio run. trio lets one task wait for a descriptor; the others wait for
    duplicates of it.
    """

    def __init__(self, fd: int, wait: Callable[[int], object]) -> None:
        self._fd = fd
        self._wait = wait
        self._taken = False
        self._waiting: deque[trio.CancelScope] = deque()

    async def wait(self) -> None:
        import trio

        scope = trio.CancelScope()
        own = not self._taken
        fd = self._fd if own else os.dup(self._fd)
        self._taken = True
        self._waiting.append(scope)
        try:
            with scope:
                await self._wait(fd)  # type: ignore[misc]
        except BaseException:
            if scope.cancel_called:
                self.wake()
            raise
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(scope)
            if own:
                self._taken = False
            else:
                os.close(fd)

    def wake(self) -> None:
        if self._waiting:
            self._waiting.popleft().cancel()

    def close(self) -> None:
        while self._waiting:
            self.wake()


def running_trio() -> bool:
    """Whether the caller runs under trio: sniffio tells, which trio brings with it."""
    if "trio" not in sys.modules:
        return False
    import sniffio

    return sniffio.current_async_library() == "trio"


async def give_way(under_trio: bool) -> None:
    """Let other tasks run."""
    if under_trio:
        import trio

        await trio.lowlevel.checkpoint()
    else:
        await asyncio.sleep(0)


async def pause(seconds: float, under_trio: bool) -> None:
    """Sleep."""
    if under_trio:
        import trio

        await trio.sleep(seconds)
    else:
        await asyncio.sleep(seconds)
