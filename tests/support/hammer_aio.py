"""The hammer's event loop: a thread with endpoints that come and go, to which all threads send."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

from ipv4batch import aio
from support.net import LOOPBACK

HELD = 0.02
"""Seconds that an endpoint is open."""


class Answering(asyncio.DatagramProtocol):
    """Notes each datagram, and answers some."""

    def __init__(self, came: Callable[[bytes], None], fresh: Callable[[], bytes]) -> None:
        self._came = came
        self._fresh = fresh
        self._random = random.Random(0)
        self.transport: Any = None
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._came(data)
        if self._random.random() < 0.2:
            self.transport.sendto(self._fresh(), addr)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


class Endpoints:
    """An endpoint on a loop of its own, and its successors."""

    def __init__(self, came: Callable[[bytes], None], fresh: Callable[[], bytes]) -> None:
        self._came = came
        self._fresh = fresh
        self.transport: Any = None
        self.made = 0

    def run(self, is_over: Callable[[], bool]) -> None:
        """What the thread does. Raises what a callback has raised."""
        aio.run(self._main(is_over))

    async def _main(self, is_over: Callable[[], bool]) -> None:
        failed: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context))
        while not is_over() and not failed:
            transport, protocol = await aio.create_datagram_endpoint(
                lambda: Answering(self._came, self._fresh),
                local_addr=(LOOPBACK, 0),
                recv_errors=self.made % 2 == 1,
            )
            self.transport = transport
            self.made += 1
            await asyncio.sleep(HELD / 2)
            transport.pause_reading()
            await asyncio.sleep(0)
            transport.resume_reading()
            await asyncio.sleep(HELD / 2)
            if self.made % 3 == 0:
                transport.abort()
            else:
                transport.close()
            assert await protocol.lost is None
        assert failed == []
