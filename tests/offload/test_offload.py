"""Segmentation and receive offload on loopback: what arrives is the same in all combinations."""

import contextlib
import errno
import select
import socket
import time
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from support.net import LIMIT, Call, open_udp
from support.offload import (
    ALL,
    END,
    LO,
    MOST,
    Received,
    combinations,
    compose,
    exchange,
    expect,
    fill,
    open_pair,
    read_until_end,
)

from ipv4batch import ControlFlags, ControlMessage, Message, PacketConn, new_messages


def check(
    gso: bool, gro: bool, datas: Iterable[bytes], into: list[Message] | None = None, **control: Any
) -> None:
    """Send datagrams from one connection to another and see all of them arrive as they were."""
    oob = ControlMessage(**control).marshal() or None
    with open_pair(gso, gro) as (reader, writer):
        messages = [Message(data, oob, reader.local_addr) for data in datas]
        (received,) = exchange(writer, [reader], messages, into)
        assert received == [expect(writer, bytes(m.buffers[0]), **control) for m in messages]
        assert (writer.gso, writer.gso_error) == (gso, None)


@combinations
@pytest.mark.parametrize("size", [0, 1, 9, 1200, 1472, 32753, 32754, MOST])
def test_sizes(gso: bool, gro: bool, size: int) -> None:
    check(gso, gro, [compose(i, size) for i in range(70)], new_messages(16, MOST, ALL))


@combinations
@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 128, 1000, 5000])
@pytest.mark.parametrize("last", [9, 4])
def test_lengths_of_runs(gso: bool, gro: bool, count: int, last: int) -> None:
    check(gso, gro, [compose(i, 9) for i in range(count - 1)] + [compose(count - 1, last)])


def test_a_long_batch_of_long_datagrams() -> None:
    check(True, True, [compose(i, 1200) for i in range(5000)], ttl=7, tos=184, src="127.0.0.5")


@combinations
@pytest.mark.parametrize("block", [1, 2, 3, 64, 70])
def test_destinations_and_sizes_in_turn(gso: bool, gro: bool, block: int) -> None:
    sizes = [9, 9, 4, 9, 1200, 1200, 0, 1200, 1, 1, 1472, 1471]
    with open_pair(gso, gro) as (one, writer), open_udp("127.0.0.2") as other:
        other.gro = gro
        other.set_control_message(ALL)
        readers = [one, other]
        messages = [
            Message(compose(i, sizes[i % 12]), None, readers[i // block % 2].local_addr)
            for i in range(12 * 24)
        ]
        received = exchange(writer, readers, messages)
        for reader, got in zip(readers, received, strict=True):
            host = reader.local_addr[0]
            to_it = [bytes(m.buffers[0]) for m in messages if m.addr == reader.local_addr]
            assert got == [expect(writer, data, dst=host) for data in to_it]


@combinations
def test_a_connected_socket(gso: bool, gro: bool) -> None:
    with open_pair(gro=gro) as (reader, _):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect(reader.local_addr)
        with PacketConn(sock) as writer:
            writer.gso = gso
            datas = [compose(i, 100) for i in range(200)]
            (received,) = exchange(writer, [reader], [Message(data) for data in datas])
            assert received == [expect(writer, data) for data in datas]


@combinations
def test_several_buffers_a_message(gso: bool, gro: bool) -> None:
    def shred(data: bytes, pieces: int) -> list[bytes]:
        return [data[i * 7 : (i + 1) * 7] for i in range(pieces - 1)] + [data[(pieces - 1) * 7 :]]

    with open_pair(gso, gro) as (reader, writer):
        # 1024 buffers are what one message may have: a run ends before it has more.
        shapes = [1, 2, 3, 100, 100, 1, 513, 513, 1024, 1024]
        datas = [compose(i, 900) for i in range(20 * len(shapes))]
        messages = [
            Message(shred(data, shapes[i // 20]), None, reader.local_addr)
            for i, data in enumerate(datas)
        ]
        messages.insert(7, Message((), None, reader.local_addr))
        datas.insert(7, b"")
        room = [10, 0, 2000]
        into = [Message(map(bytearray, room), bytearray(256)) for _ in range(50)]
        (received,) = exchange(writer, [reader], messages, into)
        assert received == [expect(writer, data) for data in datas]
        assert writer.gso is gso


def test_one_message_many_times() -> None:
    with open_pair(gso=True, gro=True) as (reader, writer):
        (received,) = exchange(writer, [reader], [Message(b"again", None, reader.local_addr)] * 100)
        assert received == [expect(writer, b"again")] * 100


CONTROLS: list[dict[str, Any]] = [
    {},
    {"ttl": 3},
    {"ttl": 4},
    {"tos": 184},
    {"ttl": 4, "tos": 3},
    {"src": "127.0.0.9"},
    {"ttl": 9, "tos": 8, "src": "127.0.0.8", "ifindex": LO},
]


@combinations
@pytest.mark.parametrize("block", [1, 2, 20])
def test_control_data_of_each_message(gso: bool, gro: bool, block: int) -> None:
    with open_pair(gso, gro) as (reader, writer):
        messages, expected = [], []
        for i in range(7 * block):
            control = CONTROLS[i // block]
            data = compose(i, 64)
            oob = ControlMessage(**control).marshal() or None
            messages.append(Message(data, oob, reader.local_addr))
            expected.append(expect(writer, data, **control))
        assert exchange(writer, [reader], messages) == [expected]
        assert writer.gso is gso


@contextlib.contextmanager
def open_run() -> Iterator[tuple[PacketConn, list[Received]]]:
    """A reader with gro for whom a run of 50 has come, and what it should read."""
    with open_pair(gso=True, gro=True) as (reader, writer):
        reader.timeout = 0
        datas = [compose(i, 100) for i in range(50)]
        assert writer.write_batch([Message(d, None, reader.local_addr) for d in datas]) == 50
        assert select.select([reader], [], [], LIMIT)[0] == [reader]
        yield reader, [expect(writer, data) for data in datas]


def take(reader: PacketConn, into: list[Message], flags: int = 0) -> list[Received]:
    n = reader.read_batch(into, flags)
    return [Received(m.data, m.addr, m.control_message()) for m in into[:n]]


@pytest.mark.parametrize("length", [1, 2, 7, 49, 50])
def test_what_one_call_does_not_take_waits_in_order(length: int) -> None:
    with open_run() as (reader, expected):
        into = new_messages(length, 100, ALL)
        for start in range(0, 50, length):
            assert take(reader, into) == expected[start : start + length]
            assert reader.pending == max(50 - start - length, 0)
        with pytest.raises(BlockingIOError):
            reader.read_batch(into)


def test_a_call_takes_what_waits_and_then_what_the_socket_has() -> None:
    with open_pair(gso=True, gro=True) as (reader, writer):
        datas = [compose(i, 100) for i in range(100)]
        messages = [Message(data, None, reader.local_addr) for data in datas]
        writer.write_batch(messages[:50])
        received = take(reader, new_messages(1, 100, ALL))
        writer.write_batch(messages[50:])
        assert select.select([reader], [], [], LIMIT)[0] == [reader]
        received += take(reader, new_messages(64, 100, ALL))
        assert (len(received), reader.pending) == (65, 35)
        received += take(reader, new_messages(64, 100, ALL))
        assert received == [expect(writer, data) for data in datas]


def test_read_from_gives_one_datagram_a_call() -> None:
    with open_run() as (reader, expected):
        buffer = bytearray(100)
        for i, datagram in enumerate(expected):
            n, control, addr = reader.read_from(buffer)
            assert (bytes(buffer[:n]), addr, control) == datagram
            assert reader.pending == 49 - i
        with pytest.raises(BlockingIOError):
            reader.read_from(buffer)


@pytest.mark.parametrize("taken", [0, 1, 49])
def test_msg_peek_shows_the_next_and_leaves_it(taken: int) -> None:
    with open_run() as (reader, expected):
        into = new_messages(3, 100, ALL)
        take(reader, new_messages(taken, 100))
        for _ in range(2):
            assert take(reader, into, socket.MSG_PEEK) == [expected[taken]] * 3
            assert reader.pending == 50 - taken
        buffer = bytearray(100)
        assert reader.read_from(buffer, socket.MSG_PEEK)[0] == 100
        assert buffer == expected[taken].data
        assert take(reader, new_messages(64, 100, ALL)) == expected[taken:]


def test_what_waits_needs_no_wait() -> None:
    """A past deadline and a timeout of zero forbid to wait, not to take what is there."""
    with open_run() as (reader, expected):
        into = new_messages(1, 100, ALL)
        received = take(reader, into)
        for timeout in (0, 0.001, 5, None):
            reader.timeout = timeout
            received += take(reader, into)
            received += take(reader, into, socket.MSG_DONTWAIT)
        reader.set_read_deadline(time.monotonic() - 1)
        received += take(reader, into)
        # The socket itself is empty, so that poll has nothing to tell.
        assert select.select([reader], [], [], 0)[0] == []
        received += take(reader, new_messages(64, 100, ALL))
        assert received == expected
        with pytest.raises(TimeoutError, match="timed out: 'read udp4"):
            reader.read_batch(into)
        reader.set_read_deadline(None)
        reader.timeout = 0.001
        with pytest.raises(TimeoutError, match="timed out: 'read udp4"):
            reader.read_batch(into)
        with pytest.raises(BlockingIOError):
            reader.read_batch(into, socket.MSG_DONTWAIT)


def test_closing_drops_what_waits() -> None:
    with open_run() as (reader, _):
        into = new_messages(1)
        reader.read_batch(into)
        assert reader.pending == 49
        reader.close()
        assert reader.pending == 0
        with pytest.raises(OSError, match="The connection is closed: 'read udp4'") as caught:
            reader.read_batch(into)
        assert caught.value.errno == errno.EBADF


@pytest.mark.parametrize(("taken", "pending"), [(0, 0), (1, 49)])
def test_gro_is_switched_off_while_datagrams_wait(taken: int, pending: int) -> None:
    """What the kernel has coalesced before is still split into its datagrams."""
    with open_pair(gso=True, gro=True) as (reader, writer):
        datas = [compose(i, 100) for i in range(150)]
        for run in (datas[:50], datas[50:100]):
            writer.write_batch([Message(data, None, reader.local_addr) for data in run])
        take(reader, new_messages(taken, 100))
        assert reader.pending == pending
        reader.gro = False
        writer.write_batch([Message(data, None, reader.local_addr) for data in datas[100:]])
        writer.write_to(END, reader.local_addr)
        received = read_until_end(reader, new_messages(7, 100, ALL))
        assert received == [expect(writer, data) for data in datas[taken:]]


def test_segment_is_switched_off_while_coalesced_datagrams_wait() -> None:
    """UDP_GRO stays set: without it the segment size of what waits would be lost."""
    with open_pair(gso=True) as (reader, writer):
        reader.set_control_message(ControlFlags.SEGMENT)
        datas = [compose(i, 100) for i in range(150)]
        for run in (datas[:50], datas[50:100]):
            writer.write_batch([Message(data, None, reader.local_addr) for data in run])
        [whole] = new_messages(1, 65535, ControlFlags.SEGMENT)
        assert reader.read_batch([whole]) == 1
        assert whole.segments() == datas[:50]
        reader.set_control_message(ControlFlags.SEGMENT, on=False)
        assert (reader.control_flags, reader.gro) == (ALL, False)
        writer.write_batch([Message(data, None, reader.local_addr) for data in datas[100:]])
        writer.write_to(END, reader.local_addr)
        received = read_until_end(reader, new_messages(7, 100, ALL))
        assert received == [expect(writer, data) for data in datas[50:]]


def test_coalesced_datagrams_come_whole_again_once_the_queue_is_empty() -> None:
    """However much waits behind it in the socket."""
    with open_pair(gso=True) as (reader, writer):
        datas = [compose(i, 100) for i in range(150)]
        reader.set_control_message(ControlFlags.SEGMENT)
        reader.set_control_message(ControlFlags.SEGMENT, on=False)
        for run in (datas[:50], datas[50:100], datas[100:]):
            writer.write_batch([Message(data, None, reader.local_addr) for data in run])
        assert len(take(reader, new_messages(1, 100))) == 1
        assert reader.pending == 49
        reader.set_control_message(ControlFlags.SEGMENT)
        into = new_messages(64, 65535, ControlFlags(255))
        assert reader.read_batch(into) == 49
        assert [message.data for message in into[:49]] == datas[1:50]
        assert reader.read_batch(into) == 2
        assert [message.segments() for message in into[:2]] == [datas[50:100], datas[100:]]


def test_gro_is_switched_on_while_a_read_waits() -> None:
    with open_pair(gso=True) as (reader, writer):
        into = new_messages(64, 100, ALL)
        call = Call(reader.read_batch, into).wait_until_waiting()
        reader.gro = True
        writer.write_batch([Message(compose(i, 100), None, reader.local_addr) for i in range(40)])
        assert call.result() == 40
        assert [m.data for m in into[:40]] == [compose(i, 100) for i in range(40)]


@combinations
@pytest.mark.parametrize("flags", [0, socket.MSG_TRUNC])
def test_a_datagram_is_cut_where_its_buffers_end(gso: bool, gro: bool, flags: int) -> None:
    with open_pair(gso, gro) as (reader, writer):
        datas = [compose(i, 20) for i in range(30)]
        writer.write_batch([Message(data, None, reader.local_addr) for data in datas])
        into = [Message([bytearray(b"." * 3), bytearray(b"." * i)]) for i in range(30)]
        fill(reader, into, flags)
        for i, (message, data) in enumerate(zip(into, datas, strict=True)):
            room = 3 + i
            assert message.n == (20 if flags else min(20, room))
            assert message.truncated is (room < 20)
            assert b"".join(message.buffers) == data[:room].ljust(room, b".")


@pytest.mark.parametrize("room", range(0, 97, 8))
def test_control_data_is_cut_where_its_buffer_ends(room: int) -> None:
    """As the kernel cuts it for a reader without offload."""
    seen = []
    for on in (False, True):
        with open_pair(gso=on, gro=on) as (reader, writer):
            writer.write_batch([Message(b"data", None, reader.local_addr)] * 3)
            into = [Message(bytearray(4), bytearray(b"." * room)) for _ in range(3)]
            fill(reader, into)
            seen.append([(m.nn, m.flags, m.control_truncated, bytes(m.oob)) for m in into])
    assert seen[0] == seen[1]


@pytest.mark.parametrize("count", [2, 3, 10, 50])
def test_datagrams_of_one_length_without_control_data(count: int) -> None:
    """The shortest way through the queue, to the last byte of the last one."""
    with open_pair(gso=True, gro=True) as (reader, writer):
        reader.set_control_message(ALL, False)
        sent = [bytes([number]) * 99 + b"|" for number in range(count)]
        writer.write_all([Message(data, None, reader.local_addr) for data in sent])
        room = new_messages(count, 100)
        found: list[bytes] = []
        while len(found) < count:
            found += [message.data for message in room[: reader.read_batch(room)]]
        assert found == sent
