"""read_batch and write_batch: how many go at once, of what shape, and what a call leaves behind."""

import collections
import contextlib
import errno
import re
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from support.net import LIMIT, LOOPBACK, open_udp

from ipv4batch import ControlFlags, ControlMessage, Message, PacketConn, new_messages

COUNTS = [0, 1, 2, 64, 1024, 1025, 5000]
MSG_ERRQUEUE = 0x2000
SO_RCVBUFFORCE = 33
ROOM = 1600
"""Bytes of a receive buffer for a small datagram, which takes less than 800 of them."""


@pytest.fixture
def wide(require: Callable[[str], None]) -> Iterator[Callable[[int], PacketConn]]:
    """Gives a reader with room for so many datagrams."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:

        def make(count: int) -> PacketConn:
            # The kernel gives the double of what it is asked for (socket(7)).
            for option in (socket.SO_RCVBUF, SO_RCVBUFFORCE):
                with contextlib.suppress(PermissionError):
                    sock.setsockopt(socket.SOL_SOCKET, option, count * ROOM // 2)
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) < count * ROOM:
                require("a large receive buffer needs CAP_NET_ADMIN or a larger rmem_max")
            sock.settimeout(LIMIT)
            sock.bind((LOOPBACK, 0))
            return PacketConn(sock)

        yield make


def payload(number: int) -> bytes:
    return struct.pack("!I", number) * (number % 8)


def payloads(count: int) -> list[bytes]:
    """Each is of another content than its neighbours, and every eighth has no bytes."""
    return [payload(number) for number in range(count)]


def to(conn: PacketConn, contents: Sequence[Any]) -> list[Message]:
    return [Message(content, None, conn.local_addr) for content in contents]


def results(messages: Sequence[Message]) -> list[tuple[int, int, int, Any]]:
    return [(m.n, m.nn, m.flags, m.addr) for m in messages]


def read_all(conn: PacketConn, count: int) -> list[bytes]:
    """The next datagrams; one more would be seen."""
    messages = new_messages(count + 1, 100)
    assert conn.read_batch(messages) == count
    return [m.data for m in messages[:count]]


# How many


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("connected", [False, True])
def test_all_are_written_and_read(
    wide: Callable[[int], PacketConn],
    udp_pair: tuple[socket.socket, socket.socket],
    connected: bool,
    count: int,
) -> None:
    reader, writer = wide(count), PacketConn(udp_pair[0])
    contents = payloads(count)
    if connected:
        udp_pair[0].connect(reader.local_addr)
        sent = [Message(content) for content in contents]
    else:
        sent = to(reader, contents)
    assert writer.write_batch(sent) == count
    assert [m.n for m in sent] == [len(content) for content in contents]
    assert {m.errno for m in sent} <= {0}

    messages = new_messages(count, 64)
    assert reader.read_batch(messages) == count
    assert [m.data for m in messages] == contents
    assert [(m.n, m.nn, m.flags) for m in messages] == [(len(c), 0, 0) for c in contents]
    assert {m.addr for m in messages} <= {writer.local_addr}
    with pytest.raises(BlockingIOError):
        reader.read_batch(new_messages(1), socket.MSG_DONTWAIT)


def test_both_ends_connected(udp_pair: tuple[socket.socket, socket.socket]) -> None:
    a, b = udp_pair
    a.connect(b.getsockname())
    b.connect(a.getsockname())
    with open_udp() as stranger:
        stranger.write_batch([Message(b"not for you", None, b.getsockname())])
        assert PacketConn(a).write_batch([Message(b"one"), Message(b"two")]) == 2
    messages = new_messages(3, 10)
    assert PacketConn(b).read_batch(messages) == 2
    assert [m.data for m in messages[:2]] == [b"one", b"two"]
    assert {m.addr for m in messages[:2]} == {a.getsockname()}


def test_an_address_goes_before_the_connections_own(
    reader: PacketConn, udp_pair: tuple[socket.socket, socket.socket]
) -> None:
    a, b = udp_pair
    a.connect(b.getsockname())
    messages = [Message(b"peer"), Message(b"other", None, reader.local_addr), Message(b"peer")]
    assert PacketConn(a).write_batch(messages) == 3
    assert read_all(reader, 1) == [b"other"]
    assert read_all(PacketConn(b), 2) == [b"peer", b"peer"]


def test_a_read_of_many_takes_what_is_there(reader: PacketConn, writer: PacketConn) -> None:
    contents = payloads(20)
    assert writer.write_batch(to(reader, contents)) == 20
    messages = new_messages(64, 64)
    assert reader.read_batch(messages) == 20
    assert [m.data for m in messages[:20]] == contents
    assert results(messages[20:]) == [(0, 0, 0, None)] * 44


def test_a_read_of_few_leaves_the_rest(reader: PacketConn, writer: PacketConn) -> None:
    contents = payloads(20)
    writer.write_batch(to(reader, contents))
    messages = new_messages(8, 64)
    seen = []
    for expected in (8, 8, 4):
        assert reader.read_batch(messages) == expected
        seen += [m.data for m in messages[:expected]]
    assert seen == contents
    # The last read left the second half of the list as it was.
    assert [m.data for m in messages[4:]] == contents[12:16]


@pytest.mark.parametrize("call", ["read_batch", "write_batch"])
@pytest.mark.parametrize("empty", [[], ()], ids=["list", "tuple"])
def test_nothing_to_do_is_done_at_once(reader: PacketConn, call: str, empty: Any) -> None:
    assert getattr(reader, call)(empty) == 0
    assert getattr(reader, call)(msgs=empty, flags=socket.MSG_DONTWAIT) == 0


# Kinds of sequences


class ByIndex(Sequence[Message]):
    """A sequence that is neither a list nor a tuple."""

    def __init__(self, items: Sequence[Message]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Any) -> Any:
        return self.items[index]


@pytest.mark.parametrize("kind", [list, tuple, collections.deque, ByIndex])
def test_any_sequence_will_do(reader: PacketConn, writer: PacketConn, kind: Any) -> None:
    contents = payloads(10)
    assert writer.write_batch(kind(to(reader, contents))) == 10
    messages = new_messages(12, 64)
    assert reader.read_batch(kind(messages)) == 10
    assert [m.data for m in messages[:10]] == contents


# Shapes of messages


EMPTY = [(), b"", [b""], [b"", bytearray(), memoryview(b"")]]


@pytest.mark.parametrize("nothing", EMPTY, ids=["no buffer", "one", "a list", "three"])
def test_datagrams_of_no_bytes(reader: PacketConn, writer: PacketConn, nothing: Any) -> None:
    sent = to(reader, [nothing, b"between", nothing])
    assert writer.write_batch(sent) == 3
    assert [m.n for m in sent] == [0, 7, 0]
    messages = [Message(bytearray(b"old content")) for _ in range(3)]
    assert reader.read_batch(messages) == 3
    assert [m.data for m in messages] == [b"", b"between", b""]
    assert [m.addr for m in messages] == [writer.local_addr] * 3
    assert bytes(messages[2].buffers[0]) == b"old content"


def test_a_message_without_buffers_takes_a_datagram(reader: PacketConn, writer: PacketConn) -> None:
    writer.write_batch(to(reader, [b"", b"lost", b"next"]))
    messages = [Message(), Message(), Message(bytearray(8))]
    assert reader.read_batch(messages) == 3
    assert [(m.n, m.data, m.truncated) for m in messages] == [
        (0, b"", False),
        (0, b"", True),
        (4, b"next", False),
    ]


def test_many_buffers_with_empty_ones_among_them(reader: PacketConn, writer: PacketConn) -> None:
    sent = to(
        reader,
        [
            [b"", b"head", b"", bytearray(b"er "), memoryview(b"-body-")[1:5], b""],
            [b"one"],
            [b"", b"x" * 30],
        ],
    )
    assert writer.write_batch(sent) == 3
    assert [m.n for m in sent] == [11, 3, 30]
    sizes = (0, 3, 0, 0, 5, 1, 40, 0)
    messages = [Message([bytearray(size) for size in sizes]) for _ in range(3)]
    assert reader.read_batch(messages) == 3
    assert [m.data for m in messages] == [b"header body", b"one", b"x" * 30]
    filled = [bytes(buffer).rstrip(b"\0") for buffer in messages[0].buffers]
    assert filled == [b"", b"hea", b"", b"", b"der b", b"o", b"dy", b""]


def test_as_many_buffers_as_a_message_takes(reader: PacketConn, writer: PacketConn) -> None:
    content = payload(7) * 37
    pieces = [content[i : i + 1] for i in range(1024)]
    sent = to(reader, [pieces])
    assert writer.write_batch(sent) == 1
    assert sent[0].n == 1024
    message = Message([bytearray(1) for _ in range(1024)])
    assert reader.read_batch([message]) == 1
    assert message.data == content[:1024]


def test_one_buffer_more_is_refused_when_it_is_set() -> None:
    """The kernel would say EMSGSIZE, and not of which message."""
    message = Message([b"x"] * 1024)
    with pytest.raises(ValueError, match="buffers: 1025 buffers; a message takes at most 1024"):
        message.buffers = [b"x"] * 1025
    assert len(message.buffers) == 1024


def test_the_same_message_many_times_in_a_write(
    wide: Callable[[int], PacketConn], writer: PacketConn
) -> None:
    reader = wide(2100)
    first, second = to(reader, [b"first", b"second"])
    sent = [first, second, second] * 700
    assert writer.write_batch(sent) == 2100
    assert (first.n, second.n) == (5, 6)
    assert read_all(reader, 2100) == [b"first", b"second", b"second"] * 700
    # It is free again, however often it was taken.
    first.buffers = b"other"
    assert writer.write_batch([first]) == 1
    assert read_all(reader, 1) == [b"other"]


def test_what_was_read_is_sent_back(reader: PacketConn, writer: PacketConn) -> None:
    writer.write_batch(to(reader, [b"ping", b"pong"]))
    messages = [Message(bytearray(4)) for _ in range(2)]
    assert reader.read_batch(messages) == 2
    assert reader.write_batch(messages) == 2
    assert read_all(writer, 2) == [b"ping", b"pong"]


# Results


def read_with_control(reader: PacketConn, writer: PacketConn, count: int) -> list[Message]:
    """Messages that a read has set: each has n, nn, flags that are not 0, and an address."""
    reader.set_control_message(ControlFlags.TTL)
    writer.write_batch(to(reader, [b"longer than the buffer"] * count))
    messages = new_messages(count, 6, ControlFlags.TTL)
    assert reader.read_batch(messages) == count
    assert results(messages) == [(6, 24, socket.MSG_TRUNC, writer.local_addr)] * count
    return messages


def test_only_what_was_sent_has_new_results(reader: PacketConn, writer: PacketConn) -> None:
    messages = read_with_control(reader, writer, 4)
    for message in messages:
        message.buffers = b"xy"
    messages[2].addr = (LOOPBACK, 0)
    before = results(messages)
    assert reader.write_batch(messages) == 2
    assert [m.n for m in messages[:2]] == [2, 2]
    assert results(messages[2:]) == before[2:]
    with pytest.raises(OSError, match="Invalid argument"):
        reader.write_batch(messages[2:])
    assert results(messages[2:]) == before[2:]
    assert [m.errno for m in messages] == [0, 0, errno.EINVAL, 0]
    assert read_all(writer, 2) == [b"xy", b"xy"]


def test_nn_of_a_write_is_what_it_sent(reader: PacketConn, writer: PacketConn) -> None:
    control = ControlMessage(ttl=9, tos=4).marshal()
    message = Message(b"data", control, reader.local_addr)
    assert writer.write_batch([message]) == 1
    assert (message.n, message.nn, message.flags) == (4, len(control), 0)


def test_errno_is_that_of_the_last_write(reader: PacketConn, writer: PacketConn) -> None:
    message = Message(b"data")
    assert message.errno == 0
    with pytest.raises(OSError, match="Destination address required"):
        writer.write_batch([message])
    assert message.errno == errno.EDESTADDRREQ
    message.addr = reader.local_addr
    assert writer.write_batch([message]) == 1
    assert message.errno == 0


def test_a_failed_read_changes_nothing(reader: PacketConn, writer: PacketConn) -> None:
    messages = read_with_control(reader, writer, 2)
    before = results(messages)
    for ending, error in ((0, BlockingIOError), (0.001, TimeoutError)):
        reader.timeout = ending
        with pytest.raises(error, match="'read udp4 127.0.0.1:"):
            reader.read_batch(messages)
    assert results(messages) == before


# Flags


def test_peek_leaves_the_datagrams(reader: PacketConn, writer: PacketConn) -> None:
    writer.write_batch(to(reader, [b"first", b"second"]))
    messages = new_messages(2, 10)
    for _ in range(2):
        assert reader.read_batch(messages[:1], socket.MSG_PEEK) == 1
        assert results(messages[:1]) == [(5, 0, 0, writer.local_addr)]
        assert messages[0].data == b"first"
    assert read_all(reader, 2) == [b"first", b"second"]


def test_dontwait_ends_a_call_that_would_wait(reader: PacketConn, writer: PacketConn) -> None:
    messages = new_messages(2, 10)
    where = f"'read udp4 {LOOPBACK}:{reader.local_addr[1]}'"
    with pytest.raises(BlockingIOError, match=re.escape(where)) as caught:
        reader.read_batch(messages, socket.MSG_DONTWAIT)
    assert caught.value.errno == errno.EAGAIN
    assert writer.write_batch(to(reader, [b"data"]), socket.MSG_DONTWAIT) == 1
    assert reader.read_batch(messages, socket.MSG_DONTWAIT) == 1
    assert messages[0].data == b"data"


HARMLESS = {
    "MSG_DONTROUTE": socket.MSG_DONTROUTE,
    "MSG_NOSIGNAL": socket.MSG_NOSIGNAL,
    "unknown": 0x01000000,
}


@pytest.mark.parametrize("flags", HARMLESS.values(), ids=HARMLESS)
def test_flags_that_change_nothing_here(reader: PacketConn, writer: PacketConn, flags: int) -> None:
    assert writer.write_batch(to(reader, [b"one", b"two"]), flags=flags) == 2
    messages = new_messages(3, 10)
    assert reader.read_batch(messages, flags=flags) == 2
    assert [m.data for m in messages[:2]] == [b"one", b"two"]


def test_a_flag_that_the_kernel_refuses(reader: PacketConn, writer: PacketConn) -> None:
    sent = to(reader, [b"one", b"two"])
    with pytest.raises(OSError, match="Operation not supported: 'write udp4 127.0.0.1:") as caught:
        writer.write_batch(sent, socket.MSG_OOB)
    assert caught.value.errno == sent[0].errno == errno.EOPNOTSUPP
    with pytest.raises(BlockingIOError):
        reader.read_batch(new_messages(1), socket.MSG_DONTWAIT)


def test_the_error_queue(reader: PacketConn, writer: PacketConn) -> None:
    writer.recv_errors = True
    messages = [Message(bytearray(10), bytearray(100)) for _ in range(3)]
    with pytest.raises(BlockingIOError):
        writer.read_batch(messages, MSG_ERRQUEUE | socket.MSG_DONTWAIT)
    nobody = reader.local_addr
    reader.close()
    assert writer.write_batch([Message(b"refused", None, nobody)]) == 1
    assert writer.read_batch(messages, MSG_ERRQUEUE) == 1
    assert (messages[0].data, messages[0].addr) == (b"refused", nobody)
    assert messages[0].flags & MSG_ERRQUEUE
    # struct sock_extended_err begins with the errno (ip(7)).
    code = struct.unpack_from("=I", messages[0].oob, socket.CMSG_LEN(0))[0]
    assert code == errno.ECONNREFUSED
    assert results(messages[1:]) == [(0, 0, 0, None)] * 2
