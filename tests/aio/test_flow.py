"""Flow control of the transport: a socket or a device without room is waited for."""

import asyncio
import errno
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest
from support.aio import Recorder, run_on, until
from support.router import NEAR, Network, linked

from ipv4batch import Message, PacketConn, aio
from ipv4batch.aio.transport import HEADER_SIZE

SLOW = 200_000
"""Bytes a second: a datagram takes 3 milliseconds."""
SIZE = 500
COUNT = 100

each_full = pytest.mark.parametrize("full", [errno.EAGAIN, errno.ENOBUFS], ids=errno.errorcode.get)


class Link:
    """A socket whose link takes its time, and the reader at its other end."""

    def __init__(self, network: Network, full: int) -> None:
        self.reader: PacketConn = network.open_udp("server")
        with network.open_udp("client", sndbuf=5000 if full == errno.EAGAIN else None) as conn:
            self.sock = conn_socket(conn)
        # A device that has no room for all of a run drops what it has none for, as a network does.
        self.recv_errors = full == errno.ENOBUFS
        self.to = (NEAR, self.reader.local_addr[1])
        self.other: PacketConn = network.open_udp("server")

    def assert_arrive(self, count: int = COUNT, reader: PacketConn | None = None) -> None:
        for number in range(count):
            (reader or self.reader).read_from(buffer := bytearray(SIZE))
            assert buffer[:8] == b"%08d" % number


def conn_socket(conn: PacketConn) -> Any:
    import os
    import socket

    return socket.socket(fileno=os.dup(conn.fileno()))


def datagram(number: int) -> bytes:
    return b"%08d" % number + bytes(SIZE - 8)


@pytest.fixture
def link(full: int, needs_netns: None, require: Callable[[str], None]) -> Iterator[Link]:
    with linked() as network:
        if not network.set_rate("client", "link", SLOW, 3000 if full == errno.ENOBUFS else 10**7):
            require("the kernel has no token bucket filter (tc-tbf(8))")
        yield Link(network, full)


def run(link: Link, main: Callable[[Any, Any], Any]) -> None:
    async def opening() -> None:
        transport, protocol = await aio.create_datagram_endpoint(
            Recorder, sock=link.sock, recv_errors=link.recv_errors, gso=not link.recv_errors
        )
        try:
            await main(transport, protocol)
        finally:
            transport.close()
            await protocol.lost

    run_on(None, opening)


@each_full
def test_what_finds_no_room_waits(link: Link) -> None:
    async def main(transport: Any, protocol: Recorder) -> None:
        transport.set_write_buffer_limits(high=10_000, low=5_000)
        used = time.process_time()
        for number in range(COUNT):
            transport.sendto(datagram(number), link.to)
        await asyncio.sleep(0)
        assert protocol.calls == ["pause"]
        waiting = transport.get_write_buffer_size()
        assert 10_000 < waiting <= COUNT * (SIZE + HEADER_SIZE)
        assert waiting % (SIZE + HEADER_SIZE) == 0
        await until(lambda: protocol.calls == ["pause", "resume"])
        assert transport.get_write_buffer_size() <= 5_000
        await until(lambda: transport.get_write_buffer_size() == 0)
        assert protocol.errors == []
        # It takes a quarter of a second, and the loop slept most of it.
        assert time.process_time() - used < 0.2
        link.assert_arrive()

    run(link, main)


@each_full
def test_close_waits_for_what_waits(link: Link) -> None:
    async def main(transport: Any, protocol: Recorder) -> None:
        for number in range(COUNT):
            transport.sendto(datagram(number), link.to)
        transport.close()
        assert transport.get_write_buffer_size() > 0
        await asyncio.sleep(0)
        assert not protocol.lost.done()
        await protocol.lost
        link.assert_arrive()

    run(link, main)


@each_full
def test_abort_drops_what_waits(link: Link) -> None:
    async def main(transport: Any, protocol: Recorder) -> None:
        for number in range(COUNT):
            transport.sendto(datagram(number), link.to)
        await asyncio.sleep(0)
        transport.abort()
        assert transport.get_write_buffer_size() == 0
        await protocol.lost

    run(link, main)


@each_full
def test_messages_wait_too(link: Link) -> None:
    """In order with what sendto was given, and as they were when they were handed over."""

    async def main(transport: Any, protocol: Recorder) -> None:
        buffers = [bytearray(datagram(number)) for number in range(COUNT)]
        messages = [Message([b[:8], b[8:]], addr=link.to) for b in buffers]
        transport.send_messages(messages[:50])
        transport.sendto(datagram(50), link.to)
        transport.send_messages(messages[51:])
        for message in messages:
            for part in message.buffers:
                part[:] = bytes(len(part))  # type: ignore[index]
        assert transport.get_write_buffer_size() > 0
        await until(lambda: transport.get_write_buffer_size() == 0)
        link.assert_arrive()
        assert protocol.errors == []

    run(link, main)


@each_full
def test_two_peers_in_turn(link: Link) -> None:
    """With offload the runs of one peer go before those of the other, and room ends in between."""

    async def main(transport: Any, protocol: Recorder) -> None:
        for number in range(COUNT):
            transport.sendto(datagram(number), link.to)
            transport.sendto(datagram(number), (NEAR, link.other.local_addr[1]))
        await asyncio.sleep(0)
        assert transport.get_write_buffer_size() > 0
        await until(lambda: transport.get_write_buffer_size() == 0)
        assert protocol.errors == []
        link.assert_arrive()
        link.assert_arrive(reader=link.other)

    run(link, main)


@each_full
@pytest.mark.parametrize("errors", ["raise", "skip"])
def test_a_list_waits_too(link: Link, errors: Literal["raise", "skip"]) -> None:
    """A full device queue is no failure of a message, which "skip" would pass over."""
    messages = [Message(datagram(number), addr=link.to) for number in range(COUNT)]

    async def main() -> None:
        async with aio.AsyncPacketConn(link.sock) as conn:
            conn.conn.recv_errors = link.recv_errors
            assert await conn.write_all(messages, errors=errors) == COUNT

    run_on(None, main)
    assert {m.errno for m in messages} == {0}
    link.assert_arrive()
