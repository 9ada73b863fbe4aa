"""The datagram transport: what asyncio's does, on asyncio's loop and on ours.

What is asyncio's contract is tested on asyncio's own transport too.
"""

import asyncio
import asyncio.selector_events
import contextlib
import contextvars
import errno
import gc
import itertools
import logging
import socket
import threading
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from support.aio import Recorder, loop_errors, run_on, until
from support.net import LOOPBACK, open_udp, udp_socket

from ipv4batch import ControlFlags, Message, PacketConn, aio

Endpoint = tuple[Any, Any]
Open = Callable[..., Awaitable[Endpoint]]


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


@pytest.fixture(params=WAYS, ids=lambda way: way.name)
def way(request: pytest.FixtureRequest) -> Way:
    """Asyncio's own transport, and each way to ours."""
    if not request.param.ours and not PAUSES:
        pytest.skip("asyncio's own transport cannot pause here")
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=WAYS[1:], ids=lambda way: way.name)
def our_way(request: pytest.FixtureRequest) -> Way:
    """Each way to our transport."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    with udp_socket() as sock:
        yield sock


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


# What arrives.


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


# What is sent.


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
            with pytest.raises(error):
                transport.sendto(data, addr)
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


# The end.


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


# Endpoints that are not ours.


def test_other_endpoints_are_the_loops_own(our_way: Way, tmp_path: Any) -> None:
    if our_way.name == "function":
        pytest.skip("it makes endpoints of IPv4 alone")

    async def main() -> None:
        create: Any = asyncio.get_running_loop().create_datagram_endpoint
        options: list[dict[str, Any]] = []
        if our_way.name == "loop":
            options.append({"family": socket.AF_UNIX, "local_addr": str(tmp_path / "socket")})
        if socket.has_ipv6:
            options.append({"local_addr": ("::1", 0)})
        for option in options:
            try:
                transport, protocol = await create(Recorder, **option)
            except OSError:
                continue  # a machine without IPv6
            assert not isinstance(transport, aio.DatagramTransport)
            transport.close()
            await protocol.lost
        with pytest.raises(ValueError, match="unexpected address family"):
            await create(Recorder)

    our_way.run(main)


def test_a_socket_of_ones_own(way: Way, peer: socket.socket) -> None:
    async def main() -> None:
        sock = udp_socket()
        async with way.open(sock=sock) as (transport, protocol):
            assert sock.gettimeout() == 0
            send(peer, transport, b"x")
            await until(lambda: protocol.datagrams)
        assert sock.fileno() == -1

    way.run(main)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"sock": "stream"}, "A UDP Socket"),
        ({"sock": "udp", "local_addr": (LOOPBACK, 0)}, "socket modifier keyword arguments"),
        ({"family": socket.AF_INET6}, "AF_INET"),
    ],
)
def test_arguments_that_do_not_fit(options: dict[str, Any], error: str) -> None:
    async def main() -> None:
        with contextlib.ExitStack() as stack:
            if "sock" in options:
                kind = socket.SOCK_STREAM if options["sock"] == "stream" else socket.SOCK_DGRAM
                made = {**options, "sock": stack.enter_context(socket.socket(socket.AF_INET, kind))}
            else:
                made = options
            with pytest.raises(ValueError, match=error):
                await aio.create_datagram_endpoint(Recorder, **made)

    run_on(None, main)


def test_what_cannot_be_made_leaves_no_socket(peer: socket.socket) -> None:
    def fail() -> Recorder:
        raise LookupError("no protocol")

    async def main() -> None:
        with pytest.raises(LookupError):
            await aio.create_datagram_endpoint(fail, local_addr=(LOOPBACK, 0))
        with pytest.raises(ValueError, match="flags"):
            await aio.create_datagram_endpoint(Recorder, local_addr=(LOOPBACK, 0), control=1 << 20)
        with pytest.raises(LookupError):
            await aio.create_datagram_endpoint(fail, sock=peer)
        assert peer.fileno() >= 0

    run_on(None, main)


def test_endpoints_with_options(way: Way) -> None:
    async def main() -> None:
        local = {"local_addr": ("localhost", 0), "family": socket.AF_INET}
        async with way.open(**local, reuse_port=True) as (first, _):
            local = {"local_addr": address(first)}
            async with way.open(**local, reuse_port=True) as (second, _):
                assert address(first) == address(second)
        async with way.open(
            local_addr=(LOOPBACK, 0), remote_addr=(LOOPBACK, 9), allow_broadcast=True
        ) as (transport, _):
            sock = transport.get_extra_info("socket")
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST) == 1
            assert transport.get_extra_info("peername") is None
        with udp_socket() as taken, pytest.raises(OSError, match="in use"):
            async with way.open(local_addr=taken.getsockname()):
                pass

    way.run(main)


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
