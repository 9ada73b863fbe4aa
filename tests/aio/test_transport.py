"""A datagram transport itself: its end, what it tells, and its memory.

What is asyncio's contract is tested on asyncio's own transport too.
"""

import asyncio
import gc
import logging
import socket
import time
import warnings
from typing import Any

import pytest
from support.aio import Recorder, until
from support.net import LOOPBACK
from support.transport import Way, address, assert_nothing_more, numbers, received, send

from ipv4batch import PacketConn, aio


def test_close_sends_what_waits_and_abort_does_not(our_way: Way, peer: socket.socket) -> None:
    async def main() -> None:
        for end in ("close", "abort"):
            async with our_way.open() as (transport, protocol):
                for data in numbers(5):
                    transport.sendto(data, peer.getsockname())
                getattr(transport, end)()
                transport.close()  # once more is nothing
                transport.abort()
                assert await protocol.lost is None
            if end == "close":
                assert received(peer, 5) == numbers(5)
        assert received(peer, 1) == [b"0"]  # a lone one leaves at once
        assert_nothing_more(peer)

    our_way.run(main)


def test_sending_after_the_end_is_in_vain(our_way: Way, peer: socket.socket) -> None:
    async def main() -> None:
        async with our_way.open(remote_addr=peer.getsockname()) as (transport, _):
            pass
        transport.sendto(b"x")
        transport.sendto(b"x")
        async with our_way.open() as (transport, _):
            pass
        transport.sendto(b"x", peer.getsockname())
        transport.close()
        transport.abort()
        assert repr(transport) == f"<DatagramTransport closed fd={transport._fd}>"
        assert_nothing_more(peer)

    our_way.run(main)


def test_a_transport_that_was_not_closed(way: Way) -> None:
    loop = asyncio.SelectorEventLoop() if way.name == "function" else way.factory()()

    async def opening() -> Any:
        create: Any = asyncio.get_running_loop().create_datagram_endpoint
        if way.name == "function":
            create = aio.create_datagram_endpoint
        return await create(asyncio.DatagramProtocol, local_addr=(LOOPBACK, 0))

    endpoint = loop.run_until_complete(opening())
    fd = endpoint[0].get_extra_info("socket").fileno()
    if way.name == "uvloop":
        loop.remove_reader(endpoint[0]._fd)
    loop.close()
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        del endpoint, opening, loop
        gc.collect()
    # (Those of tests before this one may still have been there.)
    assert ResourceWarning in [w.category for w in found if f" fd={fd}>" in str(w.message)]


def test_what_it_tells(way: Way, peer: socket.socket) -> None:
    async def main() -> None:
        async with way.open() as (transport, _):
            sock = transport.get_extra_info("socket")
            assert transport.get_extra_info("sockname") == sock.getsockname()
            assert transport.get_extra_info("peername") is None
            assert transport.get_extra_info("nothing", 5) == 5
            assert sock.type == socket.SOCK_DGRAM
            if way.ours:
                assert type(transport.get_extra_info("conn")) is PacketConn
            fd = sock.fileno()
            assert transport.get_write_buffer_size() == 0
            assert transport.get_write_buffer_limits() == (16384, 65536)
            assert repr(transport).endswith(f" fd={fd} read=polling write=<idle, bufsize=0>>")
            transport.pause_reading()
            assert f" fd={fd} read=idle " in repr(transport)
            assert isinstance(transport, asyncio.Transport)
            transport.close()
            assert " closing fd=" in repr(transport)

    way.run(main)


def test_debug_mode(way: Way, peer: socket.socket, caplog: pytest.LogCaptureFixture) -> None:
    class Slow(Recorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            time.sleep(0.02)

    caplog.set_level(logging.DEBUG, "asyncio")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        loop.slow_callback_duration = 0.01
        async with way.open(Slow) as (transport, protocol):
            send(peer, transport, b"x")
            await until(lambda: protocol.datagrams)
            transport.pause_reading()
            transport.resume_reading()
            await asyncio.sleep(0)

    way.run(main)
    text = caplog.text
    assert "pauses reading" in text
    assert "resumes reading" in text
    assert "Datagram endpoint local_addr=" in text or way.name == "uvloop"
    # uvloop has no such warning.
    assert way.name == "uvloop" or ("Executing <Handle " in text and " took 0.0" in text)


def test_memory_does_not_grow(our_way: Way, peer: socket.socket) -> None:
    import tracemalloc

    async def main() -> None:
        async with our_way.open() as (transport, protocol):
            there = peer.getsockname()

            async def move(count: int) -> None:
                for _ in range(count):
                    for _ in range(20):
                        transport.sendto(bytes(500), there)
                        peer.sendto(bytes(500), address(transport))
                    received(peer, 1)
                    await until(lambda: len(protocol.datagrams) == 20)
                    received(peer, 19)
                    protocol.datagrams.clear()
                    protocol.peers.clear()

            await move(5)
            tracemalloc.start()
            await move(5)
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            await move(50)
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - before
            tracemalloc.stop()
            assert grown < 5000

    our_way.run(main)
