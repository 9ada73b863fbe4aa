"""What a datagram transport delivers, on asyncio's loop and on ours.

What is asyncio's contract is tested on asyncio's own transport too.
"""

import asyncio
import contextlib
import contextvars
import itertools
import socket
from typing import Any

import pytest
from support.aio import Recorder, loop_errors, until
from support.net import LOOPBACK, open_udp
from support.transport import Way, address, numbers, send

from ipv4batch import ControlFlags, Message, aio


def test_what_waits_is_delivered_in_order(way: Way, peer: socket.socket) -> None:
    async def main() -> None:
        async with way.open() as (transport, protocol):
            sent = [*numbers(70), b"", bytes(65507), b"last"]
            send(peer, transport, *sent)
            await until(lambda: len(protocol.datagrams) == len(sent))
            assert protocol.datagrams == sent
            assert set(protocol.peers) == {peer.getsockname()}
            assert {type(data) for data in protocol.datagrams} == {bytes}

    way.run(main)


def test_coalesced_datagrams(our_way: Way) -> None:
    """More of them than one wake-up gives: the rest waits where no selector sees it."""

    async def main() -> None:
        with open_udp() as writer:
            writer.gso = True
            async with our_way.open() as (transport, protocol):
                assert transport.get_extra_info("conn").control_flags == ControlFlags.SEGMENT
                messages = [Message(b"%03d" % i, addr=address(transport)) for i in range(300)]
                writer.write_all(messages)
                await until(lambda: len(protocol.datagrams) == 300)
                assert protocol.datagrams == [b"%03d" % i for i in range(300)]

    our_way.run(main)


def test_others_get_their_turn(our_way: Way, peer: socket.socket) -> None:
    """A wake-up delivers 64 at most; what is called soon comes between."""
    seen = []

    async def main() -> None:
        async with our_way.open() as (transport, protocol):
            send(peer, transport, *[b""] * 200)
            loop = asyncio.get_running_loop()

            def look() -> None:
                seen.append(len(protocol.datagrams))
                if seen[-1] < 200:
                    loop.call_soon(look)

            look()
            await until(lambda: len(protocol.datagrams) == 200)

    our_way.run(main)
    assert max(after - before for before, after in itertools.pairwise(seen)) <= 128
    assert any(0 < count < 200 for count in seen)


@pytest.mark.parametrize("offload", [False, True])
def test_pausing_ends_the_batch_there(way: Way, offload: bool) -> None:
    class Pausing(Recorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if len(self.datagrams) % 3 == 0:
                self.transport.pause_reading()

    async def main() -> None:
        with open_udp() as writer:
            writer.gso = offload and way.ours
            async with way.open(Pausing) as (transport, protocol):
                writer.write_all([Message(d, addr=address(transport)) for d in numbers(10)])
                for count in (3, 6, 9):
                    await until(lambda: not transport.is_reading())
                    await asyncio.sleep(0.005)
                    assert protocol.datagrams == numbers(count)
                    transport.pause_reading()  # once more is nothing
                    transport.resume_reading()
                    transport.resume_reading()
                await until(lambda: len(protocol.datagrams) == 10)
                assert protocol.datagrams == numbers(10)

    way.run(main)


@pytest.mark.parametrize("end", ["close", "abort"])
def test_closing_ends_the_batch_there(way: Way, peer: socket.socket, end: str) -> None:
    class Closing(Recorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if len(self.datagrams) == 3:
                getattr(self.transport, end)()

    async def main() -> None:
        async with way.open(Closing) as (transport, protocol):
            send(peer, transport, *numbers(10))
            assert await protocol.lost is None
            assert protocol.datagrams == numbers(3)
            assert transport.is_closing()
            assert not transport.is_reading()

    way.run(main)


def test_an_exception_of_the_protocol(way: Way, peer: socket.socket) -> None:
    class Failing(Recorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if data == b"2":
                raise LookupError("two")

    async def main() -> None:
        with loop_errors(asyncio.get_running_loop()) as found:
            async with way.open(Failing) as (transport, protocol):
                send(peer, transport, *numbers(6))
                await until(lambda: len(protocol.datagrams) == 6)
                assert protocol.datagrams == numbers(6)
                assert not transport.is_closing()
        (context,) = found
        assert repr(context["exception"]) == "LookupError('two')"
        assert context["exception"].__traceback__ is not None
        assert context["message"].startswith("Exception in callback ")
        assert type(context["handle"]).__name__ == "Handle"

    way.run(main)


def test_an_exception_that_ends_the_loop(way: Way, peer: socket.socket) -> None:
    found = []

    class Exiting(Recorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            found.append(data)
            if data == b"2":
                raise SystemExit(3)

    async def opening() -> tuple[Any, Any]:
        create: Any = asyncio.get_running_loop().create_datagram_endpoint
        if way.name == "function":
            create = aio.create_datagram_endpoint
        endpoint: tuple[Any, Any] = await create(Exiting, local_addr=(LOOPBACK, 0))
        return endpoint

    with contextlib.closing(way.factory()()) as loop:
        transport, protocol = loop.run_until_complete(opening())
        send(peer, transport, *numbers(5))
        with pytest.raises(SystemExit):
            loop.run_until_complete(asyncio.sleep(5))
        assert found[:3] == numbers(3)
        loop.run_until_complete(until(lambda: len(found) == 5))
        assert found == numbers(5)
        transport.close()
        loop.run_until_complete(protocol.lost)


def test_another_protocol(way: Way, peer: socket.socket) -> None:
    async def main() -> None:
        async with way.open() as (transport, protocol):
            other = Recorder()
            assert transport.get_protocol() is protocol
            transport.set_protocol(other)
            assert transport.get_protocol() is other
            send(peer, transport, b"x")
            await until(lambda: other.datagrams)
            assert protocol.datagrams == []
            other.transport = transport
        assert other.lost.done()

    way.run(main)


number: contextvars.ContextVar[int] = contextvars.ContextVar("number", default=0)


def test_context_variables(way: Way, peer: socket.socket) -> None:
    """Callbacks have the variables of the task that made the endpoint, and keep what they set."""

    class Counting(Recorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            self.calls.append(number.get())
            number.set(number.get() + 1)

    async def main() -> None:
        number.set(5)
        async with way.open(Counting) as (transport, protocol):
            number.set(100)
            send(peer, transport, b"a", b"b")
            await until(lambda: len(protocol.calls) == 2)
            send(peer, transport, b"c")
            await until(lambda: len(protocol.calls) == 3)
            assert protocol.calls == [5, 6, 7]
            assert number.get() == 100
            transport.pause_reading()
            transport.resume_reading()
            send(peer, transport, b"d")
            await until(lambda: len(protocol.calls) == 4)
            assert protocol.calls[3] == 100

    way.run(main)
