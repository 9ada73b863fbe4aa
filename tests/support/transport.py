"""The ways to a datagram transport: asyncio's own, and each to ours."""

import asyncio
import asyncio.selector_events
import contextlib
import socket
from collections.abc import Callable
from typing import Any

import pytest

from ipv4batch import aio
from support.aio import Recorder, run_on, until
from support.net import LOOPBACK


class Way:
    """One way to a transport: a loop, and how an endpoint is made on it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ours = name != "stock"

    def factory(self) -> Callable[[], asyncio.AbstractEventLoop]:
        if self.name == "loop":
            return aio.EventLoop
        if self.name == "uvloop":
            return aio.loop_factory(pytest.importorskip("uvloop").Loop)
        return asyncio.SelectorEventLoop

    def run(self, main: Callable[[], Any]) -> Any:
        return run_on(self.factory(), main)

    @contextlib.asynccontextmanager
    async def open(self, protocol: type[asyncio.BaseProtocol] = Recorder, **options: Any) -> Any:
        """A transport and its protocol, closed at the end."""
        if not options:
            options["local_addr"] = (LOOPBACK, 0)
        if self.name == "function":
            create: Any = aio.create_datagram_endpoint
        else:
            create = asyncio.get_running_loop().create_datagram_endpoint
        transport, made = await create(protocol, **options)
        assert isinstance(transport, aio.DatagramTransport) == self.ours
        yield transport, made
        transport.close()
        await asyncio.sleep(0)
        await until(lambda: "closed" in repr(transport))


WAYS = [Way(name) for name in ("stock", "loop", "uvloop", "function")]

# The first 3.11s have no pause_reading of datagrams, and these tests of both use it.
PAUSES = (
    asyncio.selector_events._SelectorDatagramTransport.pause_reading  # type: ignore[attr-defined]
    is not asyncio.ReadTransport.pause_reading
)


def address(transport: Any) -> Any:
    return transport.get_extra_info("sockname")


def send(peer: socket.socket, transport: Any, *datagrams: bytes) -> None:
    for data in datagrams:
        peer.sendto(data, address(transport))


def numbers(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(start, count)]


def received(peer: socket.socket, count: int) -> list[bytes]:
    return [peer.recv(70000) for _ in range(count)]


def assert_nothing_more(peer: socket.socket) -> None:
    peer.setblocking(False)
    with pytest.raises(BlockingIOError):
        peer.recv(1)
