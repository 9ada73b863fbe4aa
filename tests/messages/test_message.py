"""Message: its buffers, control data and address, and what a call leaves in it."""

import array
import ctypes
import errno
import ipaddress
import mmap
import re
import socket
from collections.abc import Callable
from typing import Any

import pytest
from support.net import open_udp, receive

from ipv4batch import (
    ControlFlags,
    ControlMessage,
    Header,
    Message,
    PacketConn,
    checksum,
    new_control_message,
)

Pair = tuple[PacketConn, PacketConn]


def strided() -> memoryview:
    return memoryview(bytearray(8))[::2]


# Buffers


def test_a_message_begins_empty() -> None:
    message = Message()
    assert (message.buffers, message.oob, message.addr) == ((), None, None)
    assert (message.n, message.nn, message.flags, message.errno) == (0, 0, 0, 0)
    assert message.data == b""
    assert not message.truncated
    assert not message.control_truncated
    assert message.control_message() is None


MAKERS: list[Callable[[], Any]] = [
    lambda: bytearray(8),
    lambda: memoryview(bytearray(12))[2:10],
    lambda: memoryview(bytearray(8)).cast("B", (2, 4)),
    lambda: mmap.mmap(-1, 8),
    lambda: array.array("H", [0] * 4),
    lambda: ctypes.create_string_buffer(8),
    lambda: (ctypes.c_uint32 * 2)(),
]


@pytest.mark.parametrize("make", MAKERS)
def test_any_writable_buffer_is_filled_and_sent(conn_pair: Pair, make: Callable[[], Any]) -> None:
    buffer = make()
    message = receive(conn_pair, b"datagram", Message(buffer))
    assert message.buffers == (buffer,)
    assert message.buffers[0] is buffer
    assert message.data == memoryview(buffer).tobytes() == b"datagram"
    assert message.view.tolist() == list(b"datagram")
    message.addr = conn_pair[1].local_addr
    assert conn_pair[0].write_batch([message]) == 1
    assert receive(conn_pair, b"", Message(bytearray(9))).data == b"datagram"


@pytest.mark.parametrize("kind", [list, tuple, iter, lambda parts: (part for part in parts)])
def test_buffers_from_an_iterable_are_a_tuple(kind: Callable[[Any], Any]) -> None:
    parts = [bytearray(b"ab"), b"", memoryview(b"cde")]
    message = Message(kind(parts))
    assert type(message.buffers) is tuple
    assert all(got is given for got, given in zip(message.buffers, parts, strict=True))
    assert message.buffers is message.buffers


@pytest.mark.parametrize("nothing", [(), [], iter(()), {}])
def test_no_buffers(conn_pair: Pair, nothing: Any) -> None:
    message = Message(bytearray(4))
    message.buffers = nothing
    assert message.buffers == ()
    assert receive(conn_pair, b"lost", message).n == 0
    assert message.data == b""
    assert message.truncated
    message.addr = conn_pair[1].local_addr
    assert conn_pair[0].write_batch([message]) == 1
    assert conn_pair[1].read_from(bytearray(4))[0] == 0


def test_data_goes_over_several_buffers(conn_pair: Pair) -> None:
    parts = [bytearray(2), bytearray(), memoryview(bytearray(5))[1:4], bytearray(b"....")]
    message = receive(conn_pair, b"abcdefg", Message(parts))
    assert (message.n, message.data) == (7, b"abcdefg")
    assert [bytes(part) for part in parts] == [b"ab", b"", b"cde", b"fg.."]
    assert receive(conn_pair, b"ABC", message).data == b"ABC"
    assert [bytes(part) for part in parts] == [b"AB", b"", b"Cde", b"fg.."]

    conn_pair[1].write_batch([Message(parts, addr=conn_pair[0].local_addr)])
    buffer = bytearray(20)
    assert conn_pair[0].read_from(buffer)[0] == 9
    assert buffer[:9] == b"ABCdefg.."


def test_a_message_takes_1024_buffers(conn_pair: Pair) -> None:
    parts = [bytearray(1) for _ in range(1024)]
    data = bytes(i % 251 for i in range(1024))
    message = receive(conn_pair, data, Message(parts))
    assert message.data == data
    with pytest.raises(ValueError, match="buffers: 1025 buffers; a message takes at most 1024"):
        message.buffers = [*parts, bytearray(1)]
    assert message.data == data


def broken() -> Any:
    yield bytearray(1)
    raise LookupError("the iterable's own")


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: None, TypeError, "buffers: a bytes-like object or an iterable of them is req"),
        (lambda: 8, TypeError, "buffers: a bytes-like object or an iterable of them is required"),
        (lambda: "text", TypeError, "an iterable of them is required, not str"),
        (lambda: ["text"], TypeError, "buffers[0]: a bytes-like object is required, not str"),
        (lambda: [b"", 1], TypeError, "buffers[1]: a bytes-like object is required, not int"),
        (lambda: [[b""]], TypeError, "buffers[0]: a bytes-like object is required, not list"),
        (strided, BufferError, "not C-contiguous"),
        (lambda: [bytearray(1), strided()], BufferError, "not C-contiguous"),
        (broken, LookupError, "the iterable's own"),
    ],
)
def test_what_is_no_buffer_is_refused_and_changes_nothing(
    conn_pair: Pair, make: Callable[[], Any], error: type[Exception], text: str
) -> None:
    buffer = bytearray(4)
    message = Message(buffer)
    with pytest.raises(error, match=re.escape(text)):
        message.buffers = make()
    with pytest.raises(error, match=re.escape(text)):
        Message(make())
    assert message.buffers == (buffer,)
    assert receive(conn_pair, b"data", message).data == b"data"


@pytest.mark.parametrize("fixed", [b"fixed", memoryview(b"fixed"), memoryview(b"fixed")[1:]])
@pytest.mark.parametrize("several", [False, True])
def test_read_only_buffers_are_for_writes(conn_pair: Pair, fixed: Any, several: bool) -> None:
    writer, reader = conn_pair
    parts = [bytearray(b"a"), fixed] if several else fixed
    message = Message(parts, addr=reader.local_addr)
    assert writer.write_batch([message]) == 1
    expected = (b"a" if several else b"") + bytes(fixed)
    other = Message(bytearray(9))
    where = f"msgs[1].buffers[{int(several)}]: read-only, and cannot be read into"
    with pytest.raises(ValueError, match=re.escape(where)):
        reader.read_batch([other, message])
    assert other.n == 0
    assert reader.read_batch([other]) == 1
    assert other.data == expected


def test_the_view_is_of_one_buffer_and_shows_later_changes(conn_pair: Pair) -> None:
    buffer = bytearray(6)
    message = receive(conn_pair, b"abcd", Message(buffer))
    view = message.view
    assert (view.format, view.nbytes, view.readonly) == ("B", 4, False)
    buffer[0] = ord("X")
    assert bytes(view) == b"Xbcd"
    view[1] = ord("Y")
    assert message.data == b"XYcd"
    receive(conn_pair, b"123456", message)
    assert (bytes(view), bytes(message.view)) == (b"1234", b"123456")
    assert Message(b"fixed").view.readonly


@pytest.mark.parametrize("parts", [(), (bytearray(2), bytearray(2))])
def test_other_messages_have_no_view(parts: tuple[bytearray, ...]) -> None:
    with pytest.raises(ValueError, match=f"view: a message of {len(parts)} buffers has no view"):
        _ = Message(parts).view


# Control data and address


def test_a_control_buffer_takes_what_arrives(conn_pair: Pair) -> None:
    writer, reader = conn_pair
    reader.set_control_message(ControlFlags.TTL | ControlFlags.DST)
    oob = new_control_message(ControlFlags.TTL | ControlFlags.DST)
    message = receive(conn_pair, b"x", Message(bytearray(1), oob))
    assert message.oob is oob
    assert 0 < message.nn <= len(oob)
    assert not message.control_truncated
    arrived = ControlMessage()
    arrived.parse(memoryview(oob)[: message.nn])
    assert (arrived.ttl, arrived.dst) == (64, "127.0.0.1")
    assert message.control_message().src == writer.local_addr[0]


def test_control_message_fills_what_it_is_given(conn_pair: Pair) -> None:
    conn_pair[1].set_control_message(ControlFlags.TTL)
    oob = new_control_message(ControlFlags.TTL)
    message = receive(conn_pair, b"x", Message(bytearray(1), oob))
    into = ControlMessage(tos=3, dst="192.0.2.1")
    assert message.control_message(into) is into
    assert message.control_message(into=into) is into
    assert into == message.control_message(None) == ControlMessage(ttl=64, src="127.0.0.1")
    with pytest.raises(TypeError, match="into: a ControlMessage is required, not dict"):
        message.control_message({})

    oob[:8] = b"\xff" * 8
    with pytest.raises(ValueError, match="oob: .* at byte 0"):
        message.control_message(into)
    assert into == ControlMessage(ttl=64, src="127.0.0.1")


def test_without_control_data_there_is_no_control_message(conn_pair: Pair) -> None:
    into = ControlMessage(ttl=5)
    message = receive(conn_pair, b"x", Message(bytearray(1), bytearray(64)))
    assert (message.nn, message.control_message(into)) == (0, None)
    assert into == ControlMessage(ttl=5)


@pytest.mark.parametrize("room", [None, 0, 1, 8])
def test_control_data_without_room_is_cut(conn_pair: Pair, room: int | None) -> None:
    conn_pair[1].set_control_message(ControlFlags.TTL)
    oob = None if room is None else bytearray(room)
    message = receive(conn_pair, b"data", Message(bytearray(4), oob))
    assert message.control_truncated
    assert message.flags & socket.MSG_CTRUNC
    assert not message.truncated
    assert message.data == b"data"
    assert message.control_message() is None
    message.oob = bytearray(64)
    assert not receive(conn_pair, b"data", message).control_truncated
    assert message.control_message().ttl == 64


@pytest.mark.parametrize(("flags", "n"), [(0, 4), (socket.MSG_TRUNC, 8)])
def test_a_datagram_without_room_is_cut(conn_pair: Pair, flags: int, n: int) -> None:
    message = receive(conn_pair, b"12345678", Message(bytearray(4)), flags)
    assert message.truncated
    assert message.flags & socket.MSG_TRUNC
    assert (message.n, message.data, bytes(message.view)) == (n, b"1234", b"1234")
    assert not receive(conn_pair, b"1234", message, flags).truncated


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        ("text", TypeError, "a bytes-like object is required, not str"),
        ([b""], TypeError, "a bytes-like object is required, not list"),
        (strided(), BufferError, "not C-contiguous"),
    ],
)
def test_what_is_no_control_buffer_is_refused(
    value: Any, error: type[Exception], text: str
) -> None:
    oob = bytearray(8)
    message = Message(b"x", oob)
    with pytest.raises(error, match=re.escape(text)) as caught:
        message.oob = value
    assert error is BufferError or str(caught.value).startswith("oob")
    assert message.oob is oob


def test_a_control_buffer_that_is_read_only_or_broken(conn_pair: Pair) -> None:
    writer, reader = conn_pair
    message = Message(bytearray(1), ControlMessage(ttl=9).marshal(), reader.local_addr)
    with pytest.raises(ValueError, match=r"msgs\[0\].oob: read-only, and cannot be read into"):
        reader.read_batch([message])
    assert writer.write_batch([message]) == 1
    message.oob = bytearray(b"\xff" * 24)
    with pytest.raises(ValueError, match=r"msgs\[0\].oob: .* at byte 0"):
        writer.write_batch([message])


@pytest.mark.parametrize("convert", [str, ipaddress.IPv4Address, socket.inet_aton])
def test_addr_becomes_the_same_tuple_while_the_endpoint_stays(
    conn_pair: Pair, convert: Callable[[str], Any]
) -> None:
    writer, _ = conn_pair
    host, port = writer.local_addr
    message = Message(bytearray(1), None, (convert(host), port))
    addr = message.addr
    assert addr == (host, port)
    assert [type(part) for part in addr] == [str, int]
    message.addr = (convert(host), port)
    assert message.addr is addr
    for _ in range(3):
        assert receive(conn_pair, b"x", message).addr is addr
    message.addr = None
    assert message.addr is None
    message.addr = ("192.0.2.255", 65535)
    assert message.addr == ("192.0.2.255", 65535)
    assert receive(conn_pair, b"x", message).addr == addr
    with open_udp() as other:
        assert receive((other, conn_pair[1]), b"x", message).addr == other.local_addr != addr
    assert addr == (host, port)


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        ("127.0.0.1:9", TypeError, "addr: a (host, port) tuple is required"),
        (["127.0.0.1", 9], TypeError, "addr: a (host, port) tuple is required"),
        (("127.0.0.1", 9, 0), TypeError, "addr: a (host, port) tuple is required"),
        (("localhost", 9), ValueError, "addr: 'localhost' is no IPv4 address; resolve a name"),
        ((b"\x7f\0\1", 9), ValueError, "addr: a packed IPv4 address has 4 bytes, not 3"),
        (("127.0.0.1", 65536), ValueError, "addr: port: 65536 is out of range, 0 to 65535"),
    ],
)
def test_what_is_no_address_is_refused(value: Any, error: type[Exception], text: str) -> None:
    message = Message(addr=("192.0.2.1", 5))
    with pytest.raises(error, match=re.escape(text)):
        message.addr = value
    assert message.addr == ("192.0.2.1", 5)


@pytest.mark.parametrize("field", ["buffers", "oob", "addr"])
def test_fields_cannot_be_deleted(field: str) -> None:
    message = Message(bytearray(1), bytearray(8), ("192.0.2.1", 5))
    with pytest.raises(TypeError, match=f"{field}: cannot be deleted"):
        delattr(message, field)
    assert getattr(message, field)


# Results


@pytest.mark.parametrize(
    "field", ["n", "nn", "flags", "errno", "data", "view", "truncated", "control_truncated"]
)
def test_results_are_read_only(conn_pair: Pair, field: str) -> None:
    message = receive(conn_pair, b"data", Message(bytearray(4)))
    before = getattr(message, field)
    with pytest.raises(AttributeError):
        setattr(message, field, 1)
    assert getattr(message, field) == before


def test_errno_is_of_the_last_write(conn_pair: Pair) -> None:
    writer, reader = conn_pair
    message = Message(b"data", None, ("127.0.0.1", 0))
    with pytest.raises(OSError, match="Invalid argument"):
        writer.write_batch([message])
    assert (message.errno, message.n) == (errno.EINVAL, 0)
    message.addr = reader.local_addr
    assert writer.write_batch([message]) == 1
    assert (message.errno, message.n) == (0, 4)


def test_the_text_of_a_message(conn_pair: Pair) -> None:
    message = receive(conn_pair, b"data", Message([bytearray(2), bytearray(9)]))
    addr = conn_pair[0].local_addr
    assert repr(message) == (
        f"<ipv4batch.Message buffers=2 n=4 nn=0 flags=0x{message.flags:x} addr={addr}>"
    )


def test_a_reply_goes_back_the_way_but_not_with_the_received_ttl(conn_pair: Pair) -> None:
    client, _ = conn_pair
    client.set_control_message(ControlFlags.TTL | ControlFlags.TOS)
    asked = ControlFlags.TTL | ControlFlags.TOS | ControlFlags.DST
    with open_udp("0.0.0.0") as server:
        server.set_control_message(asked)
        question = Message(bytearray(9), new_control_message(asked))
        client.write_to(
            b"question", ("127.8.9.10", server.local_addr[1]), ControlMessage(ttl=7, tos=0x48)
        )
        server.read_batch([question])
        assert question.control_message().ttl == 7
        reply = question.reply([b"an", b"swer"])
        assert type(reply) is Message
        assert (reply.buffers, reply.addr) == ((b"an", b"swer"), client.local_addr)
        sent = ControlMessage()
        sent.parse(reply.oob)
        assert (sent.ttl, sent.tos) == (0, None)
        assert server.write_batch([reply]) == 1
        assert question.data == b"question"

        answer = bytearray(9)
        n, control, addr = client.read_from(answer)
        assert (answer[:n], addr) == (b"answer", ("127.8.9.10", server.local_addr[1]))
        assert (control.ttl, control.tos) == (64, 0)


def test_a_reply_to_what_came_before_its_destination_was_asked_for(conn_pair: Pair) -> None:
    """It leaves from the socket's own address."""
    client, _ = conn_pair
    with open_udp("127.0.0.3") as server:
        client.write_to(b"question", server.local_addr)
        server.set_control_message(ControlFlags.DST)
        question = Message(bytearray(9), new_control_message(ControlFlags.DST))
        server.read_batch([question])
        assert question.control_message().dst == "127.0.0.3"
        reply = question.reply(b"answer")
        assert reply.oob is None
        assert server.write_batch([reply]) == 1
        assert client.read_from(bytearray(9)) == (6, None, server.local_addr)


def test_a_reply_without_control_data_or_a_peer(conn_pair: Pair) -> None:
    reply = receive(conn_pair, b"data", Message(bytearray(4))).reply(b"back")
    assert (reply.addr, reply.oob) == (conn_pair[0].local_addr, None)
    with pytest.raises(ValueError, match="addr: a message without a peer has no reply"):
        Message(bytearray(4)).reply(b"back")
    with pytest.raises(TypeError, match="buffers: .* is required, not int"):
        Message(addr=("192.0.2.1", 5)).reply(1)


@pytest.mark.parametrize("other", [memoryview(b"something else"), bytes(3), None])
def test_segments_are_of_the_messages_own_view(conn_pair: Pair, other: Any) -> None:
    class Own(Message):
        @property
        def view(self) -> Any:
            return other

    message = receive(conn_pair, b"data", Own(bytearray(8)))
    assert message.view is other
    (segment,) = message.segments()
    assert type(segment) is memoryview
    assert segment == b"data"


STRIDED = memoryview(bytearray(20))[::2]
"""A buffer whose bytes do not follow each other."""


@pytest.mark.parametrize(
    ("field", "call"),
    [
        ("buffers[1]", lambda: Message([b"", STRIDED])),
        ("buffers[0]", lambda: Message(STRIDED)),
        ("oob", lambda: Message(oob=STRIDED)),
        ("b", lambda: Header().parse(STRIDED)),
        ("data", lambda: checksum(STRIDED)),
    ],
)
def test_a_strided_buffer_is_named(field: str, call: Callable[[], object]) -> None:
    with pytest.raises(BufferError, match=f"^{re.escape(field)}: .*contiguous"):
        call()
