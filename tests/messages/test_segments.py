"""Segment sizes by hand: ControlMessage.segment_size for writes, Message.segments() after reads."""

import errno
import socket
import struct
from collections.abc import Iterator

import pytest
from support.net import open_udp
from support.offload import ALL, compose, enlarge, fill, open_pair

from ipv4batch import ControlFlags, ControlMessage, Message, PacketConn, new_messages

SEGMENT = ControlFlags.SEGMENT
UDP_SEGMENT, UDP_GRO = 103, 104  # linux/udp.h


@pytest.fixture
def reader() -> Iterator[PacketConn]:
    """A connection that gets coalesced datagrams as they are."""
    with open_udp() as conn:
        conn.set_control_message(SEGMENT)
        yield conn


def read_one(reader: PacketConn) -> Message:
    (message,) = new_messages(1, 65536, reader.control_flags)
    assert reader.read_batch([message]) == 1
    return message


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


@pytest.mark.parametrize(
    ("total", "size"),
    [(2, 1), (100, 10), (101, 10), (99, 10), (64, 1), (1200 * 54, 1200), (65000, 32000)],
)
def test_the_kernel_cuts_a_message_up_and_segments_finds_the_pieces(
    reader: PacketConn, writer: PacketConn, total: int, size: int
) -> None:
    data = bytes(i * 7 % 251 for i in range(total))
    oob = ControlMessage(segment_size=size).marshal()
    assert writer.write_batch([Message(data, oob, reader.local_addr)]) == 1
    message = read_one(reader)
    assert message.data == data
    assert message.control_message().segment_size == size
    assert [bytes(segment) for segment in message.segments()] == cut(data, size)


def test_a_reader_without_offload_gets_the_pieces() -> None:
    with open_pair() as (reader, writer):
        data = b"".join(compose(i, 100) for i in range(20)) + b"rest"
        oob = ControlMessage(ttl=9, segment_size=100).marshal()
        assert writer.write_batch([Message(data, oob, reader.local_addr)]) == 1
        into = new_messages(21, 128, ALL)
        fill(reader, into)
        assert [m.data for m in into] == cut(data, 100)
        assert {m.control_message().ttl for m in into} == {9}
        assert {m.control_message().segment_size for m in into} == {0}


def test_write_to_and_read_from_know_the_segment_size(
    reader: PacketConn, writer: PacketConn
) -> None:
    assert writer.write_to(bytes(1000), reader.local_addr, ControlMessage(segment_size=300)) == 1000
    n, control, addr = reader.read_from(bytearray(65536))
    assert (n, control.segment_size, addr) == (1000, 300, writer.local_addr)
    writer.write_to(b"alone", reader.local_addr)
    n, control, _ = reader.read_from(bytearray(65536))
    assert (n, control) == (5, None)


@pytest.mark.parametrize(
    ("sizes", "runs"),
    [
        ([9], [[9]]),
        ([9] * 63, [[9] * 63]),
        ([9] * 64, [[9] * 64]),
        ([9] * 65, [[9] * 64, [9]]),
        ([9] * 130, [[9] * 64, [9] * 64, [9] * 2]),
        ([1200] * 64, [[1200] * 54, [1200] * 10]),
        ([32746] * 3, [[32746] * 2, [32746]]),
        ([32754] * 2, [[32754], [32754]]),
        ([9, 9, 8, 9, 9], [[9, 9, 8], [9, 9]]),
        ([9, 10, 10, 11], [[9], [10, 10], [11]]),
        ([9, 0, 0, 9, 9], [[9], [0], [0], [9, 9]]),
        ([5, 4, 3, 2, 1], [[5, 4], [3, 2], [1]]),
    ],
)
def test_a_run_goes_as_one(sizes: list[int], runs: list[list[int]]) -> None:
    """Loopback leaves a run whole, so a reader that asks for it sees what was handed over."""
    with open_pair(gso=True) as (reader, writer):
        enlarge(reader)
        reader.set_control_message(ControlFlags.SEGMENT)
        into = new_messages(len(runs), 65536, reader.control_flags)
        messages = [Message(compose(i, n), None, reader.local_addr) for i, n in enumerate(sizes)]
        assert writer.write_batch(messages) == len(messages)
        fill(reader, into)
        assert [[len(segment) for segment in m.segments()] for m in into] == runs
        assert b"".join(m.data for m in into) == b"".join(
            compose(i, n) for i, n in enumerate(sizes)
        )


@pytest.mark.parametrize("gso", [False, True])
@pytest.mark.parametrize("gro", [False, True])
def test_messages_that_are_cut_by_hand_go_among_others(gso: bool, gro: bool) -> None:
    """They are no part of a run, not even when they are equal."""
    with open_pair(gso, gro) as (reader, writer):
        by_hand = ControlMessage(segment_size=10).marshal()
        datas = [compose(i, 40) for i in range(12)]
        messages = [Message(data, None, reader.local_addr) for data in datas]
        for i in (3, 4, 5, 9):
            messages[i].oob = by_hand
        assert writer.write_batch(messages) == 12
        expected: list[bytes] = []
        for message, data in zip(messages, datas, strict=True):
            expected += cut(data, 10) if message.oob else [data]
        into = new_messages(len(expected), 64, ALL)
        fill(reader, into)
        assert [m.data for m in into] == expected
        assert (writer.gso, reader.pending) == (gso, 0)


def test_with_gro_the_segment_size_is_used_up(reader: PacketConn, writer: PacketConn) -> None:
    """Each message is one datagram, which has none; without gro it is there again."""
    oob = ControlMessage(segment_size=10).marshal()
    reader.gro = True
    writer.write_batch([Message(bytes(25), oob, reader.local_addr)])
    into = new_messages(3, 64, SEGMENT)
    fill(reader, into)
    assert [(m.n, m.nn, m.control_message(), len(m.segments())) for m in into] == [
        (10, 0, None, 1),
        (10, 0, None, 1),
        (5, 0, None, 1),
    ]
    reader.gro = False
    assert reader.control_flags == SEGMENT
    writer.write_batch([Message(bytes(25), oob, reader.local_addr)])
    assert [len(segment) for segment in read_one(reader).segments()] == [10, 10, 5]


def test_segments_share_the_messages_memory(reader: PacketConn, writer: PacketConn) -> None:
    buffer = bytearray(64)
    message = Message(buffer, bytearray(64))
    oob = ControlMessage(segment_size=4).marshal()
    writer.write_batch([Message(b"aaaabbbbcc", oob, reader.local_addr)])
    assert reader.read_batch([message]) == 1
    first, second, third = message.segments()
    assert {segment.obj is buffer for segment in (first, second, third)} == {True}
    assert [segment.readonly for segment in (first, second, third)] == [False] * 3
    buffer[4:8] = b"BBBB"
    third[:] = b"CC"
    assert (bytes(second), buffer[:10]) == (b"BBBB", b"aaaaBBBBCC")
    assert (first.format, first.itemsize, first.ndim) == ("B", 1, 1)


def item(kind: int, data: bytes) -> bytes:
    """One item of control data at the level of UDP."""
    return struct.pack("@Nii", 16 + len(data), socket.IPPROTO_UDP, kind) + data


def read_with(reader: PacketConn, writer: PacketConn, oob: bytes) -> Message:
    """A message of 10 bytes whose 24 bytes of control data were replaced."""
    cut_in_two = ControlMessage(segment_size=5).marshal()
    writer.write_batch([Message(b"0123456789", cut_in_two, reader.local_addr)])
    message = Message(bytearray(64), bytearray(64))
    assert reader.read_batch([message]) == 1
    assert (message.n, message.nn) == (10, 24)
    message.oob[: len(oob)] = oob
    return message


@pytest.mark.parametrize(
    ("oob", "pieces"),
    [
        (item(UDP_GRO, struct.pack("i", 5)), [b"01234", b"56789"]),
        (item(UDP_GRO, struct.pack("i", 4)), [b"0123", b"4567", b"89"]),
        (item(UDP_GRO, struct.pack("i", 1)), [b"%d" % i for i in range(10)]),
        (item(UDP_GRO, struct.pack("i", 10)), [b"0123456789"]),
        (item(UDP_GRO, struct.pack("i", 65535)), [b"0123456789"]),
        (item(UDP_GRO, struct.pack("i", 0)), [b"0123456789"]),
        (item(UDP_SEGMENT, struct.pack("H", 8)), [b"01234567", b"89"]),
        (item(99, struct.pack("i", 3)), [b"0123456789"]),
    ],
)
def test_segments_follow_the_control_data(
    reader: PacketConn, writer: PacketConn, oob: bytes, pieces: list[bytes]
) -> None:
    message = read_with(reader, writer, oob)
    assert [bytes(segment) for segment in message.segments()] == pieces


@pytest.mark.parametrize(
    ("oob", "text"),
    [
        (bytes(8), "oob: .*invalid header length"),
        (struct.pack("N", 15), "oob: .*invalid message length"),
        (struct.pack("N", 25), "oob: .*short buffer"),
        (item(UDP_GRO, b"abc"), "oob: an item .* at byte 0"),
        (item(UDP_GRO, b""), "oob: an item .* at byte 0"),
        (item(UDP_GRO, b"12345678"), "oob: an item .* at byte 0"),
    ],
)
def test_control_data_that_does_not_parse(
    reader: PacketConn, writer: PacketConn, oob: bytes, text: str
) -> None:
    message = read_with(reader, writer, oob)
    with pytest.raises(ValueError, match=text):
        message.segments()


def test_segments_of_a_message_that_was_cut(reader: PacketConn, writer: PacketConn) -> None:
    oob = ControlMessage(segment_size=10).marshal()
    for flags in (0, socket.MSG_TRUNC):
        writer.write_batch([Message(bytes(40), oob, reader.local_addr)])
        message = Message(bytearray(25), bytearray(64))
        assert reader.read_batch([message], flags) == 1
        assert (message.n, message.truncated) == (40 if flags else 25, True)
        assert [len(segment) for segment in message.segments()] == [10, 10, 5]


def test_segments_without_one_buffer() -> None:
    assert [bytes(segment) for segment in Message(b"not read").segments()] == [b""]
    for count in (0, 2):
        with pytest.raises(ValueError, match=f"view: a message of {count} buffers"):
            Message([bytearray(1)] * count).segments()
    with pytest.raises(TypeError):
        Message(b"").segments(1)


@pytest.mark.parametrize("size", [9, 10, 65535])
def test_a_segment_size_that_leaves_nothing_to_cut(
    reader: PacketConn, writer: PacketConn, size: int
) -> None:
    oob = ControlMessage(segment_size=size).marshal()
    writer.write_batch([Message(b"9 bytes..", oob, reader.local_addr)])
    assert [bytes(segment) for segment in read_one(reader).segments()] == [b"9 bytes.."]


@pytest.mark.parametrize(
    ("size", "error", "text"),
    [
        (-1, ValueError, "segment_size: -1 is out of range, 0 to 65535"),
        (65536, ValueError, "segment_size: 65536 is out of range, 0 to 65535"),
        ("9", TypeError, "segment_size: an int is required, not str"),
        (None, TypeError, "segment_size: an int is required, not NoneType"),
    ],
)
def test_a_segment_size_that_is_none(size: object, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        ControlMessage(segment_size=size)  # type: ignore[arg-type]


@pytest.mark.parametrize("gso", [False, True])
@pytest.mark.parametrize(
    ("total", "oob", "code"),
    [
        (129, ControlMessage(segment_size=1).marshal(), errno.EINVAL),
        (65508, ControlMessage(segment_size=1200).marshal(), errno.EMSGSIZE),
        (20, item(UDP_SEGMENT, struct.pack("i", 10)), errno.EINVAL),
    ],
    ids=["too-many", "too-long", "no-u16"],
)
def test_what_the_kernel_does_not_cut_up(
    reader: PacketConn, writer: PacketConn, gso: bool, total: int, oob: bytes, code: int
) -> None:
    """It is the message's own error, which says nothing about offload."""
    writer.gso = gso
    messages = [Message(b"1", None, reader.local_addr) for _ in range(4)]
    messages[1] = Message(bytes(total), oob, reader.local_addr)
    assert writer.write_batch(messages) == 1
    with pytest.raises(OSError, match="'write udp4") as caught:
        writer.write_batch(messages[1:])
    assert caught.value.errno == messages[1].errno == code
    assert (writer.gso, writer.gso_error) == (gso, None)


def test_a_closed_connection_says_so_and_stays_as_it_was(conn: PacketConn) -> None:
    conn.set_control_message(SEGMENT)
    conn.close()
    with pytest.raises(OSError, match="The connection is closed: 'set_control_message") as caught:
        conn.set_control_message(SEGMENT, on=False)
    assert caught.value.errno == errno.EBADF
    assert conn.control_flags == SEGMENT


class Turning(socket.socket):
    """Runs something when it is asked for its number."""

    def then(self) -> None:
        """Nothing yet."""

    def fileno(self) -> int:
        then, self.then = self.then, lambda: None
        then()
        return super().fileno()


def test_what_fileno_changes_is_not_undone() -> None:
    with Turning(socket.AF_INET, socket.SOCK_DGRAM) as sock, PacketConn(sock) as conn:
        conn.set_control_message(ControlFlags.TTL)
        sock.then = lambda: conn.set_control_message(SEGMENT)
        conn.set_control_message(ControlFlags.TTL, on=False)
        assert conn.control_flags == SEGMENT
        assert sock.getsockopt(socket.IPPROTO_UDP, UDP_GRO) == 1
