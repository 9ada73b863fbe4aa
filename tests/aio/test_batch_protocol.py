"""BatchProtocol and send_messages: whole batches, with the metadata of each message."""

import asyncio
import errno
import os
import socket
import time
from typing import Any

import pytest
from support.aio import Recorder, loop_errors, run_on, until
from support.clogged import SIZE, Clogged
from support.net import LOOPBACK, open_udp

from ipv4batch import (
    ControlFlags,
    ControlMessage,
    Message,
    PacketConn,
    TimestampKind,
    aio,
    capabilities,
    new_messages,
)
from ipv4batch.aio.transport import HEADER_SIZE

LOOPS = ["asyncio", "uvloop"]


class Batches(aio.BatchProtocol):
    """Notes the texts of each batch, and does as it is told."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.controls: list[Any] = []
        self.errors: list[Exception] = []
        self.stamps: list[Any] = []
        self.lost: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.then: Any = lambda msgs: None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def messages_received(self, msgs: list[Message]) -> None:
        self.batches.append([m.data for m in msgs])
        self.controls += [m.control_message() for m in msgs]
        self.then(msgs)

    def tx_timestamps_received(self, stamps: list[Any]) -> None:
        self.stamps += stamps

    def error_received(self, exc: Exception) -> None:
        self.errors.append(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)

    @property
    def texts(self) -> list[bytes]:
        return [text for batch in self.batches for text in batch]


def run(loop: str, main: Any, protocol: Any = Batches, **options: Any) -> None:
    async def opening() -> None:
        transport, made = await aio.create_datagram_endpoint(
            protocol, local_addr=(LOOPBACK, 0), **options
        )
        with open_udp() as peer:
            await main(transport, made, peer)
        transport.close()
        await made.lost

    run_on(pytest.importorskip("uvloop").Loop if loop == "uvloop" else None, opening)


def messages(transport: Any, *datagrams: bytes) -> list[Message]:
    return [Message(data, addr=transport.get_extra_info("sockname")) for data in datagrams]


@pytest.mark.parametrize("loop", LOOPS)
def test_a_batch_with_its_metadata(loop: str) -> None:
    async def main(transport: Any, protocol: Batches, peer: PacketConn) -> None:
        peer.ttl = 7
        peer.write_all(messages(transport, b"a", b"", b"c"))
        await until(lambda: protocol.batches)
        assert protocol.batches == [[b"a", b"", b"c"]]
        assert [(c.ttl, c.dst) for c in protocol.controls] == [(7, LOOPBACK)] * 3

    run(loop, main, control=ControlFlags.TTL | ControlFlags.DST)


@pytest.mark.parametrize("loop", LOOPS)
def test_more_than_a_wake_up_gives(loop: str) -> None:
    async def main(transport: Any, protocol: Batches, peer: PacketConn) -> None:
        peer.gso = True
        sent = [b"%03d" % number for number in range(200)]
        peer.write_all(messages(transport, *sent))
        await until(lambda: len(protocol.texts) == 200)
        assert protocol.texts == sent
        assert max(map(len, protocol.batches)) == 64

    run(loop, main)


def test_the_answers_to_a_batch_go_together() -> None:
    async def main(transport: Any, protocol: Batches, peer: PacketConn) -> None:
        looks = []

        def answer(msgs: list[Message]) -> None:
            for m in msgs:
                transport.sendto(m.data.upper(), m.addr)
            looks.append(transport.get_write_buffer_size())

        protocol.then = answer
        peer.write_all(messages(transport, b"a", b"b"))
        await until(lambda: protocol.batches)
        assert looks == [2 * (1 + HEADER_SIZE)]
        for expected in (b"A", b"B"):
            peer.read_from(buffer := bytearray(1))
            assert buffer == expected

    run("asyncio", main)


@pytest.mark.parametrize("end", ["pause_reading", "close", "abort"])
def test_the_end_of_reading(end: str) -> None:
    async def main(transport: Any, protocol: Batches, peer: PacketConn) -> None:
        protocol.then = lambda _: getattr(transport, end)()
        peer.write_all(messages(transport, b"1"))
        await until(lambda: protocol.batches)
        protocol.then = lambda _: None
        if end == "pause_reading":
            peer.write_all(messages(transport, b"2"))
            await asyncio.sleep(0.005)
            assert protocol.batches == [[b"1"]]
            transport.resume_reading()
            await until(lambda: len(protocol.batches) == 2)
        else:
            await protocol.lost
            assert protocol.batches == [[b"1"]]

    run("asyncio", main)


def test_an_exception() -> None:
    async def main(transport: Any, protocol: Batches, peer: PacketConn) -> None:
        def fail(_: object) -> None:
            raise OSError(errno.EIO, "no OSError of ours")

        protocol.then = fail
        with loop_errors(asyncio.get_running_loop()) as found:
            peer.write_all(messages(transport, b"1"))
            await until(lambda: protocol.batches)
            protocol.then = lambda _: None
            peer.write_all(messages(transport, b"2"))
            await until(lambda: len(protocol.batches) == 2)
        assert [context["exception"].errno for context in found] == [errno.EIO]
        assert protocol.errors == []

    run("asyncio", main)


def test_errors_of_the_network() -> None:
    async def main(transport: Any, protocol: Batches, peer: PacketConn) -> None:
        with open_udp() as closed:
            dead = closed.local_addr
        transport.send_messages([Message(b"x", addr=dead), Message(b"y", addr=peer.local_addr)])
        await until(lambda: protocol.errors)
        assert type(protocol.errors[0]) is ConnectionRefusedError
        peer.read_from(buffer := bytearray(1))
        assert buffer == b"y"

    run("asyncio", main, recv_errors=True)


def test_messages_are_sent_with_all_they_have() -> None:
    async def main(transport: Any, protocol: Recorder, peer: PacketConn) -> None:
        peer.set_control_message(ControlFlags.TTL)
        good = Message([b"two ", b"parts"], ControlMessage(ttl=5).marshal(), addr=peer.local_addr)
        long = Message(bytes(65508), addr=peer.local_addr)
        transport.sendto(b"before", peer.local_addr)
        transport.sendto(b"too", peer.local_addr)
        transport.send_messages([good, long, good])
        found = []
        for _ in range(4):
            n, control, _ = peer.read_from(buffer := bytearray(20))
            assert control is not None
            found.append((bytes(buffer[:n]), control.ttl))
        plain = peer.ttl
        assert found == [(b"before", plain), (b"too", plain), *[(b"two parts", 5)] * 2]
        assert [error.errno for error in protocol.errors] == [errno.EMSGSIZE]
        with pytest.raises(TypeError, match=r"msgs\[1\]: a Message is required"):
            transport.send_messages([good, b"x"])
        with pytest.raises(BlockingIOError):
            peer.read_from(bytearray(1), 0x40)

    run("asyncio", main, Recorder)


def test_a_refused_message_while_others_wait_for_room(clogged: Clogged) -> None:
    async def main() -> None:
        sock = socket.socket(fileno=os.dup(clogged.conn.fileno()))
        transport, protocol = await aio.create_datagram_endpoint(Recorder, sock=sock)
        good = Message(bytes(SIZE), addr=clogged.conn.local_addr)
        while not transport.get_write_buffer_size():
            transport.send_messages([good])
        before = transport.get_write_buffer_size()
        wrong = Message(b"x", oob=bytes(20), addr=clogged.conn.local_addr)
        with pytest.raises(ValueError, match=r"msgs\[1\]\.oob"):
            transport.send_messages([good, wrong])
        assert transport.get_write_buffer_size() == before
        transport.send_messages([good])
        assert transport.get_write_buffer_size() > before
        transport.abort()
        await protocol.lost

    run_on(None, main)


@pytest.mark.parametrize("gso", [False, True])
def test_the_same_message_twice_beside_one_that_fails(gso: bool) -> None:
    async def main(transport: Any, protocol: Recorder, peer: PacketConn) -> None:
        with open_udp() as other:
            short, long = (Message(text, addr=peer.local_addr) for text in (b"s", b"long"))
            beside = Message(b"b", addr=other.local_addr)
            refused = Message(b"x", addr=("255.255.255.255", 9))
            # With gso the second of `beside` goes before the one that fails, the second of `short`
            # behind it, for a longer one is between.
            transport.send_messages([short, beside, refused, long, short, beside])
            assert [error.errno for error in protocol.errors] == [errno.EACCES]
            found = new_messages(9)
            assert peer.read_batch(found) == 3
            assert [m.data for m in found[:3]] == [b"s", b"long", b"s"]
            assert other.read_batch(found) == 2

    run("asyncio", main, Recorder, gso=gso)


def test_a_refused_message_of_a_later_turn() -> None:
    async def main(transport: Any, protocol: Recorder, peer: PacketConn) -> None:
        wrong = Message(b"x", oob=bytes(20), addr=peer.local_addr)
        with pytest.raises(ValueError, match=r"msgs\[1050\]\.oob"):
            transport.send_messages([Message(b"x", addr=peer.local_addr)] * 1050 + [wrong])
        with pytest.raises(BlockingIOError):
            peer.read_batch(new_messages(1), socket.MSG_DONTWAIT)

    run("asyncio", main, Recorder)


def test_a_protocol_of_the_other_kind() -> None:
    async def main(transport: Any, protocol: Batches, peer: PacketConn) -> None:
        other = Recorder()
        transport.set_protocol(other)
        peer.write_all(messages(transport, b"datagram"))
        await until(lambda: other.datagrams)
        transport.set_protocol(protocol)
        peer.write_all(messages(transport, b"message"))
        await until(lambda: protocol.batches)
        assert (other.datagrams, protocol.texts) == ([b"datagram"], [b"message"])

    run("asyncio", main)


@pytest.mark.parametrize("gro", [False, True])
@pytest.mark.parametrize("paused", [False, True])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_protocol_of_the_other_kind_in_the_middle_of_a_batch(
    loop: str, paused: bool, gro: bool
) -> None:
    async def main(transport: Any, protocol: Batches, peer: PacketConn) -> None:
        class First(Recorder):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                super().datagram_received(data, addr)
                if data == b"c":
                    if paused:
                        transport.pause_reading()
                    transport.set_protocol(protocol)

        first = First()
        transport.set_protocol(first)
        peer.gso = True  # with gro they come as one
        with loop_errors(asyncio.get_running_loop()) as errors:
            peer.write_all(messages(transport, b"a", b"b", b"c", b"d", b"", b"e"))
            await until(lambda: first.datagrams[2:])
            peer.write_all(messages(transport, b"f"))
            if paused:
                assert protocol.batches == []
                transport.resume_reading()
            await until(lambda: protocol.texts[3:])
        assert (first.datagrams, protocol.texts) == ([b"a", b"b", b"c"], [b"d", b"", b"e", b"f"])
        assert {control.ttl for control in protocol.controls} == {64}
        assert errors == []
        # And back.
        transport.set_protocol(first)
        peer.write_all(messages(transport, b"g"))
        await until(lambda: first.datagrams[3:])
        assert first.datagrams[3:] == [b"g"]
        transport.set_protocol(protocol)

    run(loop, main, gro=gro, control=ControlFlags.TTL)


@pytest.mark.skipif(
    not capabilities()["tx_timestamps"], reason="this kernel has no ids for departure times"
)
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("kind", [Batches, Recorder])
def test_departure_times(loop: str, kind: Any) -> None:
    """Each message that goes at once has its own; a protocol that is not told keeps nobody busy."""

    async def main(transport: Any, protocol: Any, peer: PacketConn) -> None:
        messages = [Message(bytes(10 + k), addr=peer.local_addr) for k in range(6)]
        transport.send_messages(messages)
        assert [message.tx_id for message in messages] == [1, 2, 3, 4, 5, 6]
        transport.sendto(b"not stamped", peer.local_addr)
        peer.write_to(b"x", transport.get_extra_info("sockname"))
        if kind is Batches:
            await until(lambda: protocol.texts and len(protocol.stamps) == 12)
            assert [(s.tx_id, s.kind) for s in protocol.stamps] == [
                (number, kind) for number in range(1, 7) for kind in (1, 2)
            ]
        else:
            await until(lambda: protocol.datagrams)
        used, over = time.thread_time(), time.monotonic() + 0.2
        await until(lambda: time.monotonic() > over)
        assert time.thread_time() - used < 0.1

    run(loop, main, kind, tx_timestamps=TimestampKind.SCHED | TimestampKind.SOFTWARE)
