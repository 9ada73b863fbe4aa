"""What a datagram transport sends, on asyncio's loop and on ours.

What is asyncio's contract is tested on asyncio's own transport too.
"""

import asyncio
import contextlib
import errno
import socket
import threading
import time
from typing import Any

import pytest
from support.aio import Recorder, run_on, until
from support.net import LIMIT, LOOPBACK, open_udp, udp_socket
from support.transport import WAYS, Way, assert_nothing_more, numbers, received, send

from ipv4batch import aio


def test_a_lone_datagram_leaves_at_once(way: Way, peer: socket.socket) -> None:
    async def main() -> None:
        async with way.open() as (transport, _):
            transport.sendto(b"alone", peer.getsockname())
            assert received(peer, 1) == [b"alone"]

    way.run(main)


def test_an_answer_leaves_in_the_wake_up_of_its_question(way: Way, peer: socket.socket) -> None:
    class Echo(Recorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            self.transport.sendto(data, addr)
            asyncio.get_running_loop().call_soon(self.look)

        def look(self) -> None:
            peer.setblocking(False)
            self.calls.append(peer.recv(10))

    async def main() -> None:
        async with way.open(Echo) as (transport, protocol):
            send(peer, transport, *numbers(3))
            await until(lambda: len(protocol.calls) == 3)
            assert protocol.calls == numbers(3)

    way.run(main)


@pytest.mark.parametrize("size", [1, 1200, 1473, 60000])
def test_many_in_one_iteration(way: Way, size: int) -> None:
    async def main() -> None:
        with open_udp() as reader:
            reader.gro = True
            async with way.open() as (transport, protocol):
                sent = [bytes([i]) * size for i in range(100)]
                for data in sent:
                    transport.sendto(data, reader.local_addr)
                await asyncio.sleep(0)
                assert transport.get_write_buffer_size() == 0
                buffer = bytearray(65507)
                got = []
                with contextlib.suppress(BlockingIOError):
                    while True:
                        n, _, _ = reader.read_from(buffer, socket.MSG_DONTWAIT)
                        got.append(bytes(buffer[:n]))
                assert len(got) >= 3  # the buffer of the socket has an end
                assert got == sent[: len(got)]
                assert len(got) == 100 or size > 1000
                assert protocol.errors == []

    way.run(main)


def test_to_many_peers_from_tasks(our_way: Way) -> None:
    async def main() -> None:
        socks = [udp_socket() for _ in range(20)]
        async with our_way.open() as (transport, _):

            async def talk(sock: socket.socket) -> None:
                for data in numbers(3):
                    transport.sendto(data, sock.getsockname())
                    await asyncio.sleep(0)

            async with asyncio.TaskGroup() as group:
                for sock in socks:
                    group.create_task(talk(sock))
            await asyncio.sleep(0)
        for sock in socks:
            assert received(sock, 3) == numbers(3)
            sock.close()

    our_way.run(main)


def test_what_is_sent_is_a_copy(way: Way, peer: socket.socket) -> None:
    async def main() -> None:
        async with way.open() as (transport, _):
            data = bytearray(b"before")
            for _ in range(3):
                transport.sendto(data, peer.getsockname())
            transport.sendto(memoryview(data)[2:4], addr=peer.getsockname())
            data[:] = b"after!"
            data.clear()
            await asyncio.sleep(0)
            assert received(peer, 4) == [b"before"] * 3 + [b"fo"]

    way.run(main)


def test_empty_datagrams_go_out(our_way: Way, peer: socket.socket) -> None:
    async def main() -> None:
        async with our_way.open() as (transport, _):
            for data in (b"", b"x", b"", b""):
                transport.sendto(data, peer.getsockname())
            await asyncio.sleep(0)
            assert received(peer, 4) == [b"", b"x", b"", b""]

    our_way.run(main)


@pytest.mark.parametrize(
    ("data", "addr", "error"),
    [
        ("text", (LOOPBACK, 9), TypeError),
        (7, (LOOPBACK, 9), TypeError),
        (b"x", None, TypeError),
        (b"x", LOOPBACK, TypeError),
        (b"x", (LOOPBACK,), TypeError),
        (b"x", (LOOPBACK, "9"), TypeError),
        (b"x", (LOOPBACK, -1), ValueError),
        (b"x", (LOOPBACK, 65536), ValueError),
        (b"x", (9, 9), TypeError),
        (b"x", ("::1", 9), (OSError, ValueError)),
        (memoryview(b"1234")[::2], (LOOPBACK, 9), BufferError),
    ],
)
def test_what_cannot_be_sent_raises_at_once(
    our_way: Way, peer: socket.socket, data: Any, addr: Any, error: Any
) -> None:
    async def main() -> None:
        async with our_way.open() as (transport, protocol):
            transport.sendto(b"first", peer.getsockname())
            with pytest.raises(error) as raised:
                transport.sendto(data, addr)
            assert error is not BufferError or str(raised.value).startswith("data: ")
            transport.sendto(b"next", peer.getsockname())
            await asyncio.sleep(0)
            assert received(peer, 2) == [b"first", b"next"]
            assert protocol.errors == []
            assert not transport.is_closing()

    our_way.run(main)


def test_names(peer: socket.socket) -> None:
    """As a socket does it, on asyncio's loops; uvloop refuses names, and so does ours on it."""

    async def main() -> None:
        async with WAYS[1].open() as (transport, protocol):
            for host in ("localhost", ""):
                transport.sendto(host.encode(), (host, peer.getsockname()[1]))
            transport.sendto(b"x", ("<broadcast>", 9))
            await asyncio.sleep(0)
            assert received(peer, 2) == [b"localhost", b""]
            assert [error.errno for error in protocol.errors] in ([], [errno.EACCES])

    WAYS[1].run(main)


@pytest.mark.parametrize("lone", [True, False])
def test_an_error_of_one_datagram(way: Way, peer: socket.socket, lone: bool) -> None:
    async def main() -> None:
        async with way.open() as (transport, protocol):
            for data in ([] if lone else [b"1", b"2"]) + [bytes(65508), b"3", b"4"]:
                transport.sendto(data, peer.getsockname())
            await asyncio.sleep(0)
            assert received(peer, 2 if lone else 4) == numbers(5, 3 if lone else 1)
            (error,) = protocol.errors
            assert type(error) is OSError
            assert error.errno == errno.EMSGSIZE

    way.run(main)


def test_an_error_that_closes(peer: socket.socket) -> None:
    """What the protocol does in error_received counts for what waits."""

    class Aborting(Recorder):
        def error_received(self, exc: Exception) -> None:
            super().error_received(exc)
            self.transport.abort()

    async def main() -> None:
        options = {"local_addr": (LOOPBACK, 0), "gso": False}  # with it runs go before the rest
        async with WAYS[3].open(Aborting, **options) as (transport, protocol):
            for data in (b"first", bytes(65508), *numbers(300)):
                transport.sendto(data, peer.getsockname())
            assert await protocol.lost is None
            assert len(protocol.errors) == 1
            assert received(peer, 1) == [b"first"]
            assert_nothing_more(peer)

    WAYS[3].run(main)


@pytest.mark.parametrize("close", [False, True])
def test_what_is_sent_for_an_error_goes_out(way: Way, peer: socket.socket, close: bool) -> None:
    class Retrying(Recorder):
        def error_received(self, exc: Exception) -> None:
            super().error_received(exc)
            self.transport.sendto(b"again", peer.getsockname())

    async def main() -> None:
        async with way.open(Retrying) as (transport, protocol):
            for data in (b"1", bytes(65508), b"2"):
                transport.sendto(data, peer.getsockname())
            if close:
                transport.close()
                assert await protocol.lost is None
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert sorted(received(peer, 3)) == [b"1", b"2", b"again"]

    way.run(main)


def test_the_network_refuses_a_connected_endpoint(way: Way) -> None:
    async def main() -> None:
        with udp_socket() as closed:
            dead = closed.getsockname()
        async with way.open(remote_addr=dead) as (transport, protocol):
            transport.sendto(b"x")
            await until(lambda: protocol.errors)
            assert type(protocol.errors[0]) is ConnectionRefusedError
            assert not transport.is_closing()

    way.run(main)


def test_the_network_refuses_an_unconnected_endpoint(peer: socket.socket) -> None:
    async def main() -> None:
        with udp_socket() as closed:
            dead = closed.getsockname()
        options = {"local_addr": (LOOPBACK, 0), "recv_errors": True}
        async with WAYS[3].open(**options) as (transport, protocol):
            for size in (1, 2, 3):  # of one size they would be a run, of which one error tells
                transport.sendto(b"x" * size, dead)
                transport.sendto(b"y", peer.getsockname())
                await asyncio.sleep(0)
            await until(lambda: len(protocol.errors) == 3)
            assert {type(error) for error in protocol.errors} == {ConnectionRefusedError}
            assert {error.queued_error.addr for error in protocol.errors} == {dead}
            assert received(peer, 3) == [b"y"] * 3
            send(peer, transport, b"z")
            await until(lambda: protocol.datagrams)

    WAYS[3].run(main)


def test_a_connected_endpoint_has_one_address(way: Way, peer: socket.socket) -> None:
    async def main() -> None:
        there = peer.getsockname()
        async with way.open(remote_addr=there) as (transport, _):
            transport.sendto(b"1")
            transport.sendto(b"2", there)
            transport.sendto(b"3", tuple(there))
            with pytest.raises(ValueError, match=r"Invalid address: must be None or \('127"):
                transport.sendto(b"4", (LOOPBACK, 9))
            await asyncio.sleep(0)
            assert received(peer, 3) == numbers(4, 1)
            assert transport.get_extra_info("peername") == there

    way.run(main)


def test_from_another_thread(our_way: Way, peer: socket.socket) -> None:
    """The loop sleeps and is told nothing; yet all leave at once."""

    async def main() -> None:
        async with our_way.open() as (transport, _):

            def talk() -> list[bytes]:
                for data in numbers(4):
                    transport.sendto(data, peer.getsockname())
                return received(peer, 4)

            result: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()
            thread = threading.Thread(target=lambda: result.set_result(talk()))
            thread.start()
            thread.join()
            assert result.result() == numbers(4)

    our_way.run(main)


def test_a_flush_of_another_thread_ends_a_transport_that_closes(our_way: Way) -> None:
    """It was the last to send what waited. The loop, which sleeps, has to be woken for the end."""

    async def main() -> None:
        async with our_way.open() as (transport, protocol):
            transport._closing = transport._core.closing = True
            timer = threading.Timer(0.05, transport._flushed, (transport._core.blocked,))
            timer.start()
            started = time.monotonic()
            assert await asyncio.wait_for(protocol.lost, LIMIT / 4) is None
            assert time.monotonic() - started < LIMIT / 8  # not by the time-out, which wakes it too
            timer.join()

    our_way.run(main)


def test_from_many_threads_at_once(our_way: Way) -> None:
    """While the loop sends too, and the transport is closed in the middle."""
    count, size = 100, 100

    async def main() -> None:
        with open_udp() as reader:
            async with our_way.open() as (transport, protocol):
                sent = [0] * 4

                def talk(who: int) -> None:
                    for number in range(count):
                        transport.sendto(bytes([who]) * size, reader.local_addr)
                        sent[who] = number + 1

                threads = [threading.Thread(target=talk, args=(who,)) for who in range(4)]
                for thread in threads:
                    thread.start()
                while any(thread.is_alive() for thread in threads):
                    transport.sendto(bytes(size), reader.local_addr)
                    await asyncio.sleep(0.001)  # the threads need the GIL
                    with contextlib.suppress(BlockingIOError):
                        while True:
                            buffer = bytearray(size)
                            reader.read_from(buffer, socket.MSG_DONTWAIT)
                            assert len(set(buffer)) == 1
                    if min(sent) > count // 2:
                        transport.close()
                for thread in threads:
                    thread.join()
                assert sent == [count] * 4
                assert protocol.errors == []

    our_way.run(main)


def test_what_is_sent_while_another_thread_flushes(peer: socket.socket) -> None:
    async def main() -> None:
        entered, go_on = threading.Event(), threading.Event()

        class Waits(Recorder):
            def error_received(self, exc: Exception) -> None:
                super().error_received(exc)
                entered.set()
                assert go_on.wait(LIMIT)

        transport, protocol = await aio.create_datagram_endpoint(Waits, local_addr=(LOOPBACK, 0))

        def enough_to_flush() -> None:
            for _ in range(3):
                transport.sendto(bytes(60000), ("255.255.255.255", 9))  # EACCES

        transport.sendto(b"first", peer.getsockname())  # the loop's turn has begun
        thread = threading.Thread(target=enough_to_flush)
        thread.start()
        assert entered.wait(LIMIT)
        transport.sendto(b"second", peer.getsockname())
        for _ in range(3):
            await asyncio.sleep(0)  # the turn is over
        go_on.set()
        await asyncio.to_thread(thread.join)
        assert transport.get_write_buffer_size() == 0
        assert [peer.recv(10), peer.recv(10)] == [b"first", b"second"]
        assert [error.errno for error in protocol.errors] == [errno.EACCES] * 3
        transport.close()
        await protocol.lost

    run_on(None, main)
