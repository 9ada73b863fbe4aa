"""Message: its buffers, control data and address, and what a call leaves in it."""

import array
import ctypes
import errno
import gc
import ipaddress
import mmap
import os
import re
import socket
import subprocess
import sys
import textwrap
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support_net import Call, open_udp

from ipv4batch import (
    ControlFlags,
    ControlMessage,
    Message,
    PacketConn,
    new_control_message,
    new_messages,
)

Pair = tuple[PacketConn, PacketConn]


@pytest.fixture
def pair() -> Iterator[Pair]:
    with open_udp() as a, open_udp() as b:
        yield a, b


def receive(pair: Pair, data: bytes, message: Message, flags: int = 0) -> Message:
    """Send `data` from the first to the second, which reads it into the message."""
    writer, reader = pair
    assert writer.write_to(data, reader.local_addr) == len(data)
    assert reader.read_batch([message], flags) == 1
    return message


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
def test_any_writable_buffer_is_filled_and_sent(pair: Pair, make: Callable[[], Any]) -> None:
    buffer = make()
    message = receive(pair, b"datagram", Message(buffer))
    assert message.buffers == (buffer,)
    assert message.buffers[0] is buffer
    assert message.data == memoryview(buffer).tobytes() == b"datagram"
    assert message.view.tolist() == list(b"datagram")
    message.addr = pair[1].local_addr
    assert pair[0].write_batch([message]) == 1
    assert receive(pair, b"", Message(bytearray(9))).data == b"datagram"


@pytest.mark.parametrize("kind", [list, tuple, iter, lambda parts: (part for part in parts)])
def test_buffers_from_an_iterable_are_a_tuple(kind: Callable[[Any], Any]) -> None:
    parts = [bytearray(b"ab"), b"", memoryview(b"cde")]
    message = Message(kind(parts))
    assert type(message.buffers) is tuple
    assert all(got is given for got, given in zip(message.buffers, parts, strict=True))
    assert message.buffers is message.buffers


@pytest.mark.parametrize("nothing", [(), [], iter(()), {}])
def test_no_buffers(pair: Pair, nothing: Any) -> None:
    message = Message(bytearray(4))
    message.buffers = nothing
    assert message.buffers == ()
    assert receive(pair, b"lost", message).n == 0
    assert message.data == b""
    assert message.truncated
    message.addr = pair[1].local_addr
    assert pair[0].write_batch([message]) == 1
    assert pair[1].read_from(bytearray(4))[0] == 0


def test_data_goes_over_several_buffers(pair: Pair) -> None:
    parts = [bytearray(2), bytearray(), memoryview(bytearray(5))[1:4], bytearray(b"....")]
    message = receive(pair, b"abcdefg", Message(parts))
    assert (message.n, message.data) == (7, b"abcdefg")
    assert [bytes(part) for part in parts] == [b"ab", b"", b"cde", b"fg.."]
    assert receive(pair, b"ABC", message).data == b"ABC"
    assert [bytes(part) for part in parts] == [b"AB", b"", b"Cde", b"fg.."]

    pair[1].write_batch([Message(parts, addr=pair[0].local_addr)])
    buffer = bytearray(20)
    assert pair[0].read_from(buffer)[0] == 9
    assert buffer[:9] == b"ABCdefg.."


def test_a_message_takes_1024_buffers(pair: Pair) -> None:
    parts = [bytearray(1) for _ in range(1024)]
    data = bytes(i % 251 for i in range(1024))
    message = receive(pair, data, Message(parts))
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
    pair: Pair, make: Callable[[], Any], error: type[Exception], text: str
) -> None:
    buffer = bytearray(4)
    message = Message(buffer)
    with pytest.raises(error, match=re.escape(text)):
        message.buffers = make()
    with pytest.raises(error, match=re.escape(text)):
        Message(make())
    assert message.buffers == (buffer,)
    assert receive(pair, b"data", message).data == b"data"


@pytest.mark.parametrize("fixed", [b"fixed", memoryview(b"fixed"), memoryview(b"fixed")[1:]])
@pytest.mark.parametrize("several", [False, True])
def test_read_only_buffers_are_for_writes(pair: Pair, fixed: Any, several: bool) -> None:
    writer, reader = pair
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


def test_the_view_is_of_one_buffer_and_shows_later_changes(pair: Pair) -> None:
    buffer = bytearray(6)
    message = receive(pair, b"abcd", Message(buffer))
    view = message.view
    assert (view.format, view.nbytes, view.readonly) == ("B", 4, False)
    buffer[0] = ord("X")
    assert bytes(view) == b"Xbcd"
    view[1] = ord("Y")
    assert message.data == b"XYcd"
    receive(pair, b"123456", message)
    assert (bytes(view), bytes(message.view)) == (b"1234", b"123456")
    assert Message(b"fixed").view.readonly


@pytest.mark.parametrize("parts", [(), (bytearray(2), bytearray(2))])
def test_other_messages_have_no_view(parts: tuple[bytearray, ...]) -> None:
    with pytest.raises(ValueError, match=f"view: a message of {len(parts)} buffers has no view"):
        _ = Message(parts).view


# Control data and address


def test_a_control_buffer_takes_what_arrives(pair: Pair) -> None:
    writer, reader = pair
    reader.set_control_message(ControlFlags.TTL | ControlFlags.DST)
    oob = new_control_message(ControlFlags.TTL | ControlFlags.DST)
    message = receive(pair, b"x", Message(bytearray(1), oob))
    assert message.oob is oob
    assert 0 < message.nn <= len(oob)
    assert not message.control_truncated
    arrived = ControlMessage()
    arrived.parse(memoryview(oob)[: message.nn])
    assert (arrived.ttl, arrived.dst) == (64, "127.0.0.1")
    assert message.control_message().src == writer.local_addr[0]


def test_control_message_fills_what_it_is_given(pair: Pair) -> None:
    pair[1].set_control_message(ControlFlags.TTL)
    oob = new_control_message(ControlFlags.TTL)
    message = receive(pair, b"x", Message(bytearray(1), oob))
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


def test_without_control_data_there_is_no_control_message(pair: Pair) -> None:
    into = ControlMessage(ttl=5)
    message = receive(pair, b"x", Message(bytearray(1), bytearray(64)))
    assert (message.nn, message.control_message(into)) == (0, None)
    assert into == ControlMessage(ttl=5)


@pytest.mark.parametrize("room", [None, 0, 1, 8])
def test_control_data_without_room_is_cut(pair: Pair, room: int | None) -> None:
    pair[1].set_control_message(ControlFlags.TTL)
    oob = None if room is None else bytearray(room)
    message = receive(pair, b"data", Message(bytearray(4), oob))
    assert message.control_truncated
    assert message.flags & socket.MSG_CTRUNC
    assert not message.truncated
    assert message.data == b"data"
    assert message.control_message() is None
    message.oob = bytearray(64)
    assert not receive(pair, b"data", message).control_truncated
    assert message.control_message().ttl == 64


@pytest.mark.parametrize(("flags", "n"), [(0, 4), (socket.MSG_TRUNC, 8)])
def test_a_datagram_without_room_is_cut(pair: Pair, flags: int, n: int) -> None:
    message = receive(pair, b"12345678", Message(bytearray(4)), flags)
    assert message.truncated
    assert message.flags & socket.MSG_TRUNC
    assert (message.n, message.data, bytes(message.view)) == (n, b"1234", b"1234")
    assert not receive(pair, b"1234", message, flags).truncated


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


def test_a_control_buffer_that_is_read_only_or_broken(pair: Pair) -> None:
    writer, reader = pair
    message = Message(bytearray(1), ControlMessage(ttl=9).marshal(), reader.local_addr)
    with pytest.raises(ValueError, match=r"msgs\[0\].oob: read-only, and cannot be read into"):
        reader.read_batch([message])
    assert writer.write_batch([message]) == 1
    message.oob = bytearray(b"\xff" * 24)
    with pytest.raises(ValueError, match=r"msgs\[0\].oob: .* at byte 0"):
        writer.write_batch([message])


@pytest.mark.parametrize("convert", [str, ipaddress.IPv4Address, socket.inet_aton])
def test_addr_becomes_the_same_tuple_while_the_endpoint_stays(
    pair: Pair, convert: Callable[[str], Any]
) -> None:
    writer, _ = pair
    host, port = writer.local_addr
    message = Message(bytearray(1), None, (convert(host), port))
    addr = message.addr
    assert addr == (host, port)
    assert [type(part) for part in addr] == [str, int]
    message.addr = (convert(host), port)
    assert message.addr is addr
    for _ in range(3):
        assert receive(pair, b"x", message).addr is addr
    message.addr = None
    assert message.addr is None
    message.addr = ("192.0.2.255", 65535)
    assert message.addr == ("192.0.2.255", 65535)
    assert receive(pair, b"x", message).addr == addr
    with open_udp() as other:
        assert receive((other, pair[1]), b"x", message).addr == other.local_addr != addr
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
def test_results_are_read_only(pair: Pair, field: str) -> None:
    message = receive(pair, b"data", Message(bytearray(4)))
    before = getattr(message, field)
    with pytest.raises(AttributeError):
        setattr(message, field, 1)
    assert getattr(message, field) == before


def test_errno_is_of_the_last_write(pair: Pair) -> None:
    writer, reader = pair
    message = Message(b"data", None, ("127.0.0.1", 0))
    with pytest.raises(OSError, match="Invalid argument"):
        writer.write_batch([message])
    assert (message.errno, message.n) == (errno.EINVAL, 0)
    message.addr = reader.local_addr
    assert writer.write_batch([message]) == 1
    assert (message.errno, message.n) == (0, 4)


def test_the_text_of_a_message(pair: Pair) -> None:
    message = receive(pair, b"data", Message([bytearray(2), bytearray(9)]))
    addr = pair[0].local_addr
    assert repr(message) == (
        f"<ipv4batch.Message buffers=2 n=4 nn=0 flags=0x{message.flags:x} addr={addr}>"
    )


def test_a_reply_goes_back_the_way_but_not_with_the_received_ttl(pair: Pair) -> None:
    client, _ = pair
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


def test_a_reply_without_control_data_or_a_peer(pair: Pair) -> None:
    reply = receive(pair, b"data", Message(bytearray(4))).reply(b"back")
    assert (reply.addr, reply.oob) == (pair[0].local_addr, None)
    with pytest.raises(ValueError, match="addr: a message without a peer has no reply"):
        Message(bytearray(4)).reply(b"back")
    with pytest.raises(TypeError, match="buffers: .* is required, not int"):
        Message(addr=("192.0.2.1", 5)).reply(1)


# Memory


def grows(buffer: bytearray) -> bool:
    """Whether nobody holds the buffer, which could not be resized then."""
    try:
        buffer.append(0)
    except BufferError:
        return False
    del buffer[-1]
    return True


def refill(message: Message) -> None:
    message.__init__(buffers=b"", oob=None)


def fail(message: Message) -> None:
    with pytest.raises(TypeError):
        message.buffers = [message.buffers[0], "no buffer"]
    message.buffers = ()
    message.oob = None


@pytest.mark.parametrize(
    "let_go",
    [
        lambda message: (setattr(message, "buffers", ()), setattr(message, "oob", None)),
        lambda message: (setattr(message, "buffers", b""), setattr(message, "oob", b"")),
        refill,
        fail,
    ],
)
def test_buffers_are_held_until_they_are_replaced(
    pair: Pair, let_go: Callable[[Message], None]
) -> None:
    first, second, oob = bytearray(4), bytearray(4), bytearray(64)
    message = receive(pair, b"data", Message([first, second], oob))
    assert not any(map(grows, (first, second, oob)))
    let_go(message)
    assert all(map(grows, (first, second, oob)))
    assert message.data == b""


def test_a_message_that_is_gone_holds_nothing() -> None:
    buffer, oob, mapped = bytearray(4), bytearray(8), mmap.mmap(-1, 8)
    message = Message([buffer, mapped], oob)
    with pytest.raises(BufferError):
        mapped.close()
    del message
    assert grows(buffer)
    assert grows(oob)
    mapped.close()


def test_a_message_that_cannot_be_made_holds_nothing() -> None:
    buffer, oob = bytearray(4), bytearray(8)
    with pytest.raises(TypeError, match="addr"):
        Message(buffer, oob, "nobody")
    assert grows(buffer)
    assert grows(oob)


class Marked(bytearray):
    """A buffer that can have attributes and be watched."""


class Labelled(Message):
    """A message that can have attributes and be watched."""

    def __init__(self, label: str, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.label = label


@pytest.mark.parametrize(
    "hold",
    [
        lambda buffer: Message(buffer),
        lambda buffer: Message([b"", memoryview(memoryview(buffer)[1:])]),
        lambda buffer: Message(b"", buffer),
        lambda buffer: [Message(iter([buffer])) for _ in range(3)],
        lambda buffer: Labelled("", buffer),
    ],
)
def test_a_cycle_through_a_buffer_is_collected(hold: Callable[[Marked], Any]) -> None:
    gc.collect()  # so that none comes on its own in between
    buffer = Marked(8)
    buffer.holder = hold(buffer)
    watch = weakref.ref(buffer)
    del buffer
    assert watch() is not None
    gc.collect()
    assert watch() is None


def test_a_subclass_is_a_message_with_attributes(pair: Pair) -> None:
    message = Labelled("first", bytearray(4))
    assert receive(pair, b"data", message).data == b"data"
    assert (message.label, repr(message)[:10]) == ("first", "<Labelled ")
    message.itself = message
    watch = weakref.ref(message)
    del message
    gc.collect()
    assert watch() is None


# new_messages


@pytest.mark.parametrize("control", [0, ControlFlags.TTL, ControlFlags.TTL | ControlFlags.DST, 255])
@pytest.mark.parametrize("size", [0, 1, 1500])
def test_new_messages_have_memory_of_their_own_on_one_slab(control: int, size: int) -> None:
    messages = new_messages(5, size, control)
    assert len(messages) == 5
    parts = [message.buffers[0] for message in messages]
    assert [part.nbytes for part in parts] == [size] * 5
    if control:
        parts += [message.oob for message in messages]
        assert {part.nbytes for part in parts[5:]} == {len(new_control_message(control))}
    else:
        assert {message.oob for message in messages} == {None}
    assert len({id(part.obj) for part in parts}) == 1
    for number, part in enumerate(parts):
        assert not any(part)
        part[:] = bytes([number + 1]) * part.nbytes
    for number, part in enumerate(parts):
        assert set(part) <= {number + 1}


def test_new_messages_are_ready_for_a_read(pair: Pair) -> None:
    writer, reader = pair
    everything = ControlFlags.TTL | ControlFlags.INTERFACE | ControlFlags.TOS
    reader.set_control_message(everything)
    for data in (b"a" * 2048, b"b" * 2049, b"c"):
        writer.write_to(data, reader.local_addr)
    messages = new_messages(count=4, control=everything)
    assert reader.read_batch(messages) == 3
    assert [(m.n, m.truncated) for m in messages[:3]] == [(2048, False), (2048, True), (1, False)]
    assert {m.control_message().ttl for m in messages[:3]} == {64}
    assert not any(m.control_truncated for m in messages)
    kept = messages[2].view
    del messages
    assert bytes(kept) == b"c"


def test_no_new_messages() -> None:
    assert new_messages(0) == new_messages(0, 0) == new_messages(0, size=2**31 - 1) == []


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((-1,), ValueError, "count: -1 is out of range, 0 to 2147483647"),
        ((2**31,), ValueError, "count: 2147483648 is out of range"),
        ((2**100,), ValueError, "count: 1267650600228229401496703205376 is out of range"),
        ((1, -1), ValueError, "size: -1 is out of range, 0 to 2147483647"),
        ((1, 2**31), ValueError, "size: 2147483648 is out of range"),
        ((1, 1, -1), ValueError, "control: -1 is out of range, 0 to 255"),
        ((1, 1, 256), ValueError, "control: 256 is out of range"),
        ((1.0,), TypeError, "count: an int is required, not float"),
        ((1, "1"), TypeError, "size: an int is required, not str"),
        ((), TypeError, "new_messages() missing argument 'count'"),
    ],
)
def test_messages_that_cannot_be(
    arguments: tuple[Any, ...], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=re.escape(text)):
        new_messages(*arguments)


@pytest.mark.skipif(
    os.environ.get("IPV4BATCH_TEST_SANITIZED", "0") not in ("", "0"),
    reason="AddressSanitizer ends a process that asks for that much",
)
def test_messages_that_no_memory_can_hold() -> None:
    with pytest.raises(MemoryError):
        new_messages(2**31 - 1, 2**31 - 1)


# In use by another thread


def assert_pinned(message: Message) -> None:
    for field, value in (("buffers", bytearray(1)), ("oob", None), ("addr", None)):
        before = getattr(message, field)
        with pytest.raises(RuntimeError, match=f"{field}: the message is in use by another call"):
            setattr(message, field, value)
        assert getattr(message, field) is before
    assert repr(message).endswith(" in use>")


def test_a_message_that_is_being_read_cannot_be_changed(pair: Pair) -> None:
    writer, reader = pair
    buffer = bytearray(8)
    messages = [Message(bytearray(8)), receive(pair, b"old", Message(buffer, bytearray(64)))]
    pinned = messages[1]
    call = Call(reader.read_batch, messages).wait_until_waiting()
    assert_pinned(pinned)
    assert (pinned.data, bytes(pinned.view)) == (b"old", b"old")
    assert pinned.addr == writer.local_addr
    other = Message(bytearray(8))
    for call_again in (writer.read_batch, writer.write_batch, reader.read_batch):
        with pytest.raises(RuntimeError, match=r"msgs\[1\]: in use by another call"):
            call_again([other, pinned], socket.MSG_DONTWAIT)
    # The list was taken as it stood; what becomes of it is nothing to the call.
    messages.clear()
    writer.write_to(b"new", reader.local_addr)
    assert call.result() == 1
    assert (other.n, pinned.data) == (0, b"old")
    pinned.buffers = other.buffers = ()
    assert grows(buffer)


@pytest.mark.parametrize("field", ["buffers", "oob", "addr"])
def test_a_failed_read_lets_the_message_go(pair: Pair, field: str) -> None:
    reader = pair[1]
    message = Message(bytearray(8))
    call = Call(reader.read_batch, [message]).wait_until_waiting()
    reader.set_deadline(0)
    with pytest.raises(TimeoutError):
        call.result()
    setattr(message, field, getattr(message, field))


def test_a_read_that_begins_while_buffers_are_being_set(pair: Pair) -> None:
    writer, reader = pair
    calls = []

    def slow_buffers() -> Any:
        yield bytearray(2)
        calls.append(Call(reader.read_batch, [message]).wait_until_waiting())

    message = Message(bytearray(8))
    with pytest.raises(RuntimeError, match="buffers: the message is in use by another call"):
        message.buffers = slow_buffers()
    writer.write_to(b"whole", reader.local_addr)
    assert calls[0].result() == 1
    assert message.data == b"whole"


# In processes of their own, because what goes wrong here crashes


def run_script(script: str, *flags: str) -> None:
    """Run it with a memory manager that spoils what is free, to a last line that says so."""
    done = subprocess.run(
        [sys.executable, "-P", *flags, "-c", textwrap.dedent(script) + "print('well')\n"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=os.environ | {"PYTHONMALLOC": "debug"},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "well\n", "")


def test_the_collector_finds_messages_in_a_cycle() -> None:
    """A collector that clears a memoryview in use crashes."""
    run_script("""
        import gc, ipv4batch
        messages = ipv4batch.new_messages(2)
        cycle = [*messages]
        cycle.append(cycle)
        del messages, cycle
        assert gc.collect() > 0
    """)


def test_the_collector_passes_over_a_view_of_bare_memory() -> None:
    """Such a memoryview has no object to hold instead of it, so the message keeps it in use."""
    run_script("""
        import ctypes, gc, ipv4batch
        make = ctypes.pythonapi.PyMemoryView_FromMemory
        make.restype = ctypes.py_object
        make.argtypes = [ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int]
        memory = ctypes.create_string_buffer(b"bare", 100)
        PyBUF_WRITE = 0x200

        class Own(ipv4batch.Message):
            pass

        for _ in range(20):
            message = Own(make(ctypes.addressof(memory), 100, PyBUF_WRITE))
            message.itself = message
            del message
            gc.collect()
        assert memory.value == b"bare"
    """)


@pytest.mark.parametrize("look", ["message.view", "message.segments()[0]"])
def test_buffers_that_are_set_while_a_view_is_made(look: str) -> None:
    """Making it allocates, so the collector may run, and with it a callback or a finalizer."""
    run_script(f"""
        import array, gc, ipv4batch
        unset = []

        def callback(phase, info):
            unset.append(len(message.buffers))
            message.buffers = ()

        message = ipv4batch.Message()
        gc.disable()
        gc.callbacks.append(callback)
        for threshold in range(1, 20):
            gc.collect()
            message.buffers = array.array("B", bytes(200))
            gc.set_threshold(threshold, 1000, 1000)
            gc.enable()
            try:
                view = {look}
            except ValueError:
                view = None
            gc.disable()
            assert view is None or view.tobytes() == b""
        assert 1 in unset
    """)


@pytest.mark.parametrize("other", [memoryview(b"something else"), bytes(3), None])
def test_segments_are_of_the_messages_own_view(pair: Pair, other: Any) -> None:
    class Own(Message):
        @property
        def view(self) -> Any:
            return other

    message = receive(pair, b"data", Own(bytearray(8)))
    assert message.view is other
    (segment,) = message.segments()
    assert type(segment) is memoryview
    assert segment == b"data"
