"""AsyncPacketConn under asyncio, uvloop and trio."""

import contextlib
import errno
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from support.aio import LIBRARIES, Tasks, run_under
from support.clogged import SIZE, Clogged
from support.net import LOOPBACK, open_udp, send, udp_socket

from ipv4batch import (
    ControlFlags,
    ControlMessage,
    Message,
    PacketConn,
    TimestampKind,
    capabilities,
    new_messages,
)
from ipv4batch.aio import AsyncPacketConn

pytestmark = pytest.mark.parametrize("library", LIBRARIES)


@pytest.fixture
def aconn() -> Iterator[AsyncPacketConn]:
    conn = AsyncPacketConn(udp_socket())
    yield conn
    conn.close()


def texts(msgs: list[Message]) -> list[bytes]:
    return [m.data for m in msgs]


def test_a_batch_that_is_there_and_one_that_comes(library: str, aconn: AsyncPacketConn) -> None:
    send(aconn.conn, b"a", b"b", b"c")

    async def main() -> None:
        msgs = new_messages(2)
        assert await aconn.read_batch(msgs) == 2
        assert texts(msgs) == [b"a", b"b"]
        assert await aconn.read_batch(msgs) == 1
        async with Tasks(library).open() as tasks:
            await tasks.start("read", lambda: aconn.read_batch(msgs))
            assert tasks.done == {}
            send(aconn.conn, b"later")
        assert tasks.done == {"read": 1}
        assert msgs[0].data == b"later"

    run_under(library, main)


def test_one_datagram_there_and_back(library: str, aconn: AsyncPacketConn) -> None:
    async def main() -> None:
        async with AsyncPacketConn(open_udp()) as client:
            client.conn.set_control_message(ControlFlags.TTL)
            assert await client.write_to(b"ping", aconn.conn.local_addr) == 4
            buffer = bytearray(10)
            assert await aconn.read_from(buffer) == (4, None, client.conn.local_addr)
            await aconn.write_to(b"pong!", client.conn.local_addr, ControlMessage(ttl=9))
            n, control, addr = await client.read_from(buffer)
            assert (n, addr, buffer[:5]) == (5, aconn.conn.local_addr, b"pong!")
            assert control is not None
            assert control.ttl == 9

    run_under(library, main)


def test_batches(library: str, aconn: AsyncPacketConn) -> None:
    async def main() -> list[list[bytes]]:
        found = []
        send(aconn.conn, b"1", b"2", b"3")
        async for msgs in aconn.batches(2, size=10):
            found.append(texts(msgs))
            if msgs[0].data == b"3":
                send(aconn.conn, b"4")
            elif msgs[0].data == b"4":
                break
        return found

    assert run_under(library, main) == [[b"1", b"2"], [b"3"], [b"4"]]


def test_two_tasks_read_one_connection(library: str, aconn: AsyncPacketConn) -> None:
    async def main() -> None:
        async with Tasks(library).open() as tasks:
            for name in ("first", "second"):
                await tasks.start(name, lambda: aconn.read_from(bytearray(10)))
            assert tasks.done == {}
            send(aconn.conn, b"a")
            await tasks.until(lambda: tasks.done)
            await tasks.settle()
            assert len(tasks.done) == 1
            send(aconn.conn, b"bb")
        assert {result[0] for result in tasks.done.values()} == {1, 2}

    run_under(library, main)


def test_what_waits_in_the_queue_wakes_the_other_task(library: str, aconn: AsyncPacketConn) -> None:
    """With gro, a datagram that comes to the queue with another's does not show on the socket."""
    aconn.conn.gro = True

    async def main() -> None:
        with open_udp() as writer:
            writer.gso = True
            async with Tasks(library).open() as tasks:
                for name in ("first", "second", "third"):
                    await tasks.start(name, lambda: aconn.read_from(bytearray(10)))
                writer.write_all([Message(b"%d" % i, addr=aconn.conn.local_addr) for i in range(3)])
        assert [result[0] for result in tasks.done.values()] == [1, 1, 1]
        assert aconn.conn.pending == 0

    run_under(library, main)


def test_cancellation_loses_nothing(library: str, aconn: AsyncPacketConn) -> None:
    """Whether it comes before the wait, during it, or after readiness and before the task ran."""

    async def main() -> None:
        async with Tasks(library).open() as tasks:
            await tasks.start("waiting", lambda: aconn.read_from(bytearray(10)))
            tasks.cancel("waiting")
            await tasks.settle()
            await tasks.start("woken", lambda: aconn.read_from(bytearray(10)))
            await tasks.start("next", lambda: aconn.read_from(bytearray(10)))
            send(aconn.conn, b"datagram")
            gates = aconn._gates
            assert gates is not None
            gates[0].wake()
            tasks.cancel("woken")
        assert tasks.done == {"next": (8, None, tasks.done["next"][2])}

    run_under(library, main)


def test_a_cancelled_read_finds_the_next_datagram(library: str, aconn: AsyncPacketConn) -> None:
    async def main() -> None:
        batches = aconn.batches(4, 10)
        async with Tasks(library).open() as tasks:
            await tasks.start("cancelled", batches.__anext__)
            tasks.cancel("cancelled")
            await tasks.settle()
        send(aconn.conn, b"x")
        assert texts(await batches.__anext__()) == [b"x"]

    run_under(library, main)


def test_others_get_their_turn_though_there_is_always_something(
    library: str, aconn: AsyncPacketConn
) -> None:
    async def main() -> None:
        async with Tasks(library).open() as tasks:
            ran = []

            async def other() -> None:
                ran.append(True)

            reads = 0
            send(aconn.conn, b"x")
            task = tasks.start("other", other)
            starting = False
            while not ran:
                if not starting:
                    starting = True
                    await task
                await aconn.read_from(bytearray(10))
                send(aconn.conn, b"x")
                reads += 1
                assert reads < 100

    run_under(library, main)


def test_close_ends_what_waits(library: str, aconn: AsyncPacketConn) -> None:
    async def main() -> None:
        async with Tasks(library).open() as tasks:
            await tasks.start("read", lambda: aconn.read_batch(new_messages(1)))
            await tasks.start("read too", lambda: aconn.read_from(bytearray(1)))
            aconn.close()
        assert [error.errno for error in tasks.done.values()] == [errno.EBADF] * 2
        with pytest.raises(OSError, match="closed"):
            await aconn.write_to(b"", (LOOPBACK, 9))

    run_under(library, main)


def test_errors_of_the_network(library: str, aconn: AsyncPacketConn) -> None:
    aconn.conn.recv_errors = True
    with open_udp() as conn:
        dead = conn.local_addr

    async def main() -> None:
        assert await aconn.read_errors() == []
        send(aconn.conn, b"a datagram is no error")
        async with Tasks(library).open() as tasks:
            await tasks.start("errors", lambda: aconn.read_errors(wait=True))
            assert tasks.done == {}
            await aconn.write_to(b"x", dead)
        (error,) = tasks.done["errors"]
        assert (error.errno, error.addr) == (errno.ECONNREFUSED, dead)

    run_under(library, main)


def test_write_all_waits_for_room(library: str, clogged: Clogged) -> None:
    async def main() -> None:
        aconn = AsyncPacketConn(clogged.conn)
        async with Tasks(library).open() as tasks:
            await tasks.start("all", lambda: aconn.write_all(clogged.messages(20)))
            await tasks.start("one", lambda: aconn.write_to(bytes(SIZE), clogged.conn.local_addr))
            assert tasks.done == {}
            clogged.unclog()
        assert tasks.done == {"all": 20, "one": SIZE}
        # Those that went before the network was slow, or while it was, may be there too.
        assert await aconn.read_batch(new_messages(99, SIZE)) >= 21

    run_under(library, main)


def test_a_message_that_stands_there_many_times_waits_for_room(
    library: str, clogged: Clogged
) -> None:
    async def main() -> None:
        aconn = AsyncPacketConn(clogged.conn)
        async with Tasks(library).open() as tasks:
            await tasks.start("all", lambda: aconn.write_all(clogged.messages(1) * 20))
            assert tasks.done == {}
            clogged.unclog()
        assert tasks.done == {"all": 20}

    run_under(library, main)


def test_a_refused_message_of_a_later_turn(library: str, aconn: AsyncPacketConn) -> None:
    async def main() -> None:
        there = aconn.conn.local_addr
        read = new_messages(1)
        send(aconn.conn, b"x")
        assert await aconn.read_batch(read) == 1
        never = Message(bytearray(10))
        with pytest.raises(ValueError, match=r"msgs\[1050\]: nothing was received"):
            await aconn.forward([*read * 1050, never], there)
        wrong = Message(b"x", oob=bytes(20), addr=there)
        with pytest.raises(ValueError, match=r"msgs\[1050\]\.oob"):
            await aconn.write_all([*[Message(b"x", addr=there)] * 1050, wrong])
        with pytest.raises(BlockingIOError):
            aconn.conn.read_batch(read, socket.MSG_DONTWAIT)

    run_under(library, main)


def test_a_message_that_fails(library: str, aconn: AsyncPacketConn) -> None:
    async def main() -> None:
        good = Message(b"x", addr=aconn.conn.local_addr)
        bad = Message(bytes(65508), addr=aconn.conn.local_addr)
        with pytest.raises(OSError, match="too long") as caught:
            await aconn.write_all([good, bad, good])
        assert caught.value.errno == errno.EMSGSIZE
        assert (caught.value.index, caught.value.written) == (1, 1)  # type: ignore[attr-defined]
        assert await aconn.write_all([good, bad, good], errors="skip") == 2
        assert bad.errno == errno.EMSGSIZE
        assert await aconn.read_batch(new_messages(9)) == 3
        with pytest.raises(ValueError, match="'raise' or 'skip'"):
            await aconn.write_all([], errors="ignore")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"msgs\[1\]"):
            await aconn.write_all([good, 1])  # type: ignore[list-item]
        with pytest.raises(TypeError, match=r"msgs\[1500\]"):
            await aconn.write_all([good] * 1500 + [1])  # type: ignore[list-item]
        with pytest.raises(BlockingIOError):
            aconn.conn.read_batch(new_messages(1), socket.MSG_DONTWAIT)
        many = [Message(b"x", addr=aconn.conn.local_addr) for _ in range(2500)]
        many[1100] = many[2200] = bad
        assert await aconn.write_all(many, errors="skip") == 2498
        with pytest.raises(OSError, match="too long") as caught:
            await aconn.write_all(many)
        assert (caught.value.index, caught.value.written) == (1100, 1100)  # type: ignore[attr-defined]

    run_under(library, main)


def test_a_relay(library: str, aconn: AsyncPacketConn) -> None:
    async def main() -> None:
        async with AsyncPacketConn(open_udp()) as target:
            send(aconn.conn, b"one", b"two")
            msgs = new_messages(4)
            n = await aconn.read_batch(msgs)
            assert await aconn.forward(msgs[:n], target.conn.local_addr) == 2
            assert await target.read_batch(msgs) == 2
            assert texts(msgs[:2]) == [b"one", b"two"]

    run_under(library, main)


def test_a_relay_of_what_was_truncated(library: str, aconn: AsyncPacketConn) -> None:
    async def main() -> None:
        send(aconn.conn, b"one", b"too long", b"two")
        msgs = new_messages(3, 4)
        assert await aconn.read_batch(msgs) == 3
        there = aconn.conn.local_addr
        with pytest.raises(ValueError, match=r"msgs\[1\]\.truncated"):
            await aconn.forward(msgs, there)
        assert await aconn.forward(msgs, there, errors="skip") == 2
        assert [m.errno for m in msgs] == [0, errno.EMSGSIZE, 0]
        assert await aconn.read_batch(again := new_messages(3)) == 2
        assert texts(again[:2]) == [b"one", b"two"]

    run_under(library, main)


def test_a_relay_waits_for_room(library: str, clogged: Clogged) -> None:
    async def main() -> None:
        aconn = AsyncPacketConn(clogged.conn)
        with open_udp() as source, udp_socket() as sock:
            for _ in range(20):
                sock.sendto(bytes(SIZE), source.local_addr)
            msgs = new_messages(20, SIZE)
            assert source.read_batch(msgs) == 20
        async with Tasks(library).open() as tasks:
            await tasks.start("all", lambda: aconn.forward(msgs, clogged.conn.local_addr))
            assert tasks.done == {}
            clogged.unclog()
        assert tasks.done == {"all": 20}

    run_under(library, main)


def test_a_connection_outlives_a_loop(library: str, aconn: AsyncPacketConn) -> None:
    async def read() -> Any:
        async with Tasks(library).open() as tasks:
            await tasks.start("read", lambda: aconn.read_from(bytearray(10)))
            send(aconn.conn, b"x")
        return tasks.done["read"][0]

    assert [run_under(library, read), run_under(library, read)] == [1, 1]


def test_what_it_is_made_of(library: str) -> None:
    with udp_socket() as sock:
        sock.setblocking(True)
        with PacketConn(sock) as conn:
            aconn = AsyncPacketConn(conn)
            assert aconn.conn is conn
            assert repr(aconn) == f"<AsyncPacketConn of {conn!r}>"
            assert conn.timeout is None
    with pytest.raises(TypeError):
        AsyncPacketConn("127.0.0.1")  # type: ignore[arg-type]
    with (
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stream,
        pytest.raises(ValueError, match="SOCK_DGRAM"),
    ):
        AsyncPacketConn(stream)


needs_stamps = pytest.mark.skipif(
    not capabilities()["tx_timestamps"], reason="this kernel has no ids for departure times"
)


@needs_stamps
def test_departure_times(library: str, aconn: AsyncPacketConn) -> None:
    """Tasks that wait for datagrams, for errors and for times each get their own."""
    aconn.conn.recv_errors = True
    aconn.conn.tx_timestamps = TimestampKind.SOFTWARE
    with open_udp() as conn:
        dead = conn.local_addr

    async def read() -> int:
        while True:
            with contextlib.suppress(ConnectionRefusedError):  # the report, which reads get too
                return await aconn.read_batch(new_messages(1))

    async def main() -> None:
        assert await aconn.read_tx_timestamps() == []
        async with Tasks(library).open() as tasks, AsyncPacketConn(open_udp()) as peer:
            await tasks.start("data", read)
            await tasks.start("errors", lambda: aconn.read_errors(wait=True))
            await tasks.start("times", lambda: aconn.read_tx_timestamps(1, wait=True))
            await tasks.start("more", lambda: aconn.read_tx_timestamps(1, wait=True))
            sent = [Message(b"a", addr=peer.conn.local_addr), Message(b"b", addr=dead)]
            assert await aconn.write_all(sent) == 2
            assert await peer.read_batch(new_messages(1)) == 1
            await peer.write_to(b"back", aconn.conn.local_addr)
        assert tasks.done["data"] == 1
        assert [error.addr for error in tasks.done["errors"]] == [dead]
        times = tasks.done["times"] + tasks.done["more"]
        assert sorted(time.tx_id for time in times) == [1, 2]
        assert await aconn.read_errors() == await aconn.read_tx_timestamps() == []

    run_under(library, main)


@needs_stamps
@pytest.mark.parametrize("waiting", ["read_batch", "write_all"])
def test_what_nobody_reads_keeps_nobody_busy(
    library: str, waiting: str, clogged: Clogged, aconn: AsyncPacketConn
) -> None:
    """An error queue announces itself to every poll until it is read."""
    conn = clogged.conn if waiting == "write_all" else aconn.conn
    conn.tx_timestamps = TimestampKind.SCHED
    with open_udp() as other:
        if waiting == "read_batch":
            conn.write_all([Message(b"x", addr=other.local_addr)])

    async def main() -> None:
        waits = aconn if waiting == "read_batch" else AsyncPacketConn(conn)
        messages = clogged.messages(20) if waiting == "write_all" else new_messages(1)
        async with Tasks(library).open() as tasks:
            await tasks.start("waits", lambda: getattr(waits, waiting)(messages))
            used = time.thread_time()
            over = time.monotonic() + 0.2
            await tasks.until(lambda: time.monotonic() > over)
            assert time.thread_time() - used < 0.1
            assert tasks.done == {}
            if waiting == "write_all":
                clogged.unclog()
            else:
                send(conn, b"at last")
        assert len(await waits.read_tx_timestamps()) > 0

    run_under(library, main)
