"""Datagrams and control data that do not fit: what is kept, what the results say, and no trace."""

import socket
from typing import Any

import pytest
from support.net import open_udp

from ipv4batch import ControlFlags, ControlMessage, Message, PacketConn, new_control_message

CONTENT = bytes(range(100))
ALL = ControlFlags.TTL | ControlFlags.SRC | ControlFlags.DST | ControlFlags.INTERFACE
FILL = 0xEE
TRUNC, CTRUNC = socket.MSG_TRUNC, socket.MSG_CTRUNC
LAYOUTS = {
    "one": [40],
    "two": [25, 15],
    "many": [0, 1, 0, 19, 20, 0],
    "single bytes": [1] * 40,
}


def send(reader: PacketConn, writer: PacketConn, *contents: bytes) -> None:
    messages = [Message(content, None, reader.local_addr) for content in contents]
    assert writer.write_batch(messages) == len(contents)


def filled(size: int) -> bytearray:
    return bytearray([FILL]) * size


def message_of(sizes: list[int], oob: Any = None) -> Message:
    return Message([filled(size) for size in sizes], oob)


def joined(message: Message) -> bytes:
    return b"".join(bytes(buffer) for buffer in message.buffers)


# Data


@pytest.mark.parametrize("sizes", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("length", [41, 100])
def test_what_fits_is_kept(
    reader: PacketConn, writer: PacketConn, sizes: list[int], length: int
) -> None:
    send(reader, writer, CONTENT[:length], b"the next one")
    messages = [message_of(sizes), message_of(sizes)]
    assert reader.read_batch(messages) == 2
    assert (messages[0].n, messages[0].nn, messages[0].flags) == (40, 0, TRUNC)
    assert messages[0].truncated
    assert not messages[0].control_truncated
    assert messages[0].data == CONTENT[:40]
    assert messages[0].addr == writer.local_addr
    # What was cut off is gone, and does not stand in the next datagram.
    assert (messages[1].data, messages[1].flags) == (b"the next one", 0)
    assert joined(messages[1]) == b"the next one" + filled(28)


@pytest.mark.parametrize("sizes", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("length", [0, 39, 40])
def test_what_fits_exactly_is_not_truncated(
    reader: PacketConn, writer: PacketConn, sizes: list[int], length: int
) -> None:
    send(reader, writer, CONTENT[:length])
    message = message_of(sizes)
    assert reader.read_batch([message]) == 1
    assert (message.n, message.flags, message.truncated) == (length, 0, False)
    assert joined(message) == CONTENT[:length] + filled(40 - length)


@pytest.mark.parametrize("sizes", LAYOUTS.values(), ids=LAYOUTS)
def test_with_trunc_n_is_the_whole_length(
    reader: PacketConn, writer: PacketConn, sizes: list[int]
) -> None:
    send(reader, writer, CONTENT, CONTENT[:8], b"")
    messages = [message_of(sizes) for _ in range(3)]
    assert reader.read_batch(messages, TRUNC) == 3
    assert [(m.n, bool(m.flags & TRUNC)) for m in messages] == [(100, True), (8, False), (0, False)]
    assert [m.data for m in messages] == [CONTENT[:40], CONTENT[:8], b""]


def test_with_trunc_data_and_view_end_with_the_buffer(
    reader: PacketConn, writer: PacketConn
) -> None:
    send(reader, writer, CONTENT)
    slab = filled(100)
    message = Message(memoryview(slab)[10:30])
    assert reader.read_batch([message], socket.MSG_TRUNC) == 1
    assert (message.n, message.data) == (100, CONTENT[:20])
    assert message.view == CONTENT[:20]
    assert slab == filled(10) + CONTENT[:20] + filled(70)


def test_trunc_and_peek_measure_what_is_next(reader: PacketConn, writer: PacketConn) -> None:
    send(reader, writer, CONTENT)
    probe = Message()
    assert reader.read_batch([probe], socket.MSG_TRUNC | socket.MSG_PEEK) == 1
    assert (probe.n, probe.data, probe.addr) == (100, b"", writer.local_addr)
    message = message_of([probe.n])
    assert reader.read_batch([message]) == 1
    assert message.data == CONTENT


def test_the_largest_datagram(reader: PacketConn, writer: PacketConn) -> None:
    content = CONTENT * 655 + b"sevenby"
    send(reader, writer, content, content)
    whole, cut = message_of([65507]), message_of([65506])
    assert reader.read_batch([whole, cut]) == 2
    assert (whole.n, whole.truncated, whole.data) == (65507, False, content)
    assert (cut.n, cut.truncated, cut.data) == (65506, True, content[:-1])


# Control data


@pytest.mark.parametrize(
    ("size", "nn"),
    # First comes the packet info, of 28 bytes and 4 to the next item, and then the TTL, of 20.
    # Where not even the 16 bytes of its header fit, nothing of an item comes.
    [(0, 0), (15, 0), (16, 16), (27, 27), (28, 28), (32, 32), (47, 32), (48, 48), (51, 51)],
)
def test_control_data_that_is_cut(
    reader: PacketConn, writer: PacketConn, size: int, nn: int
) -> None:
    reader.set_control_message(ALL)
    send(reader, writer, b"data")
    memory = filled(100)
    message = Message(bytearray(10), memoryview(memory)[:size])
    assert reader.read_batch([message]) == 1
    assert (message.data, message.addr) == (b"data", writer.local_addr)
    assert message.flags == CTRUNC
    assert message.control_truncated
    assert not message.truncated
    assert message.nn == nn
    assert memory[nn:] == filled(100 - nn)


@pytest.mark.parametrize("oob", [None, b""], ids=["None", "empty"])
def test_no_room_for_control_data(reader: PacketConn, writer: PacketConn, oob: Any) -> None:
    reader.set_control_message(ALL)
    send(reader, writer, b"data")
    message = Message(bytearray(10), None if oob is None else bytearray(oob))
    assert reader.read_batch([message]) == 1
    assert (message.n, message.nn, message.flags) == (4, 0, CTRUNC)
    assert message.control_message() is None


def test_both_are_cut(reader: PacketConn, writer: PacketConn) -> None:
    reader.set_control_message(ALL)
    send(reader, writer, CONTENT)
    message = Message([bytearray(3), bytearray(4)], bytearray(32))
    assert reader.read_batch([message]) == 1
    assert (message.n, message.nn, message.flags) == (7, 32, TRUNC | CTRUNC)
    assert (message.data, message.truncated, message.control_truncated) == (CONTENT[:7], True, True)
    control = message.control_message()
    assert (control.src, control.dst) == (writer.local_addr[0], reader.local_addr[0])
    assert control.ttl == 0


def test_an_item_that_was_cut_does_not_parse(reader: PacketConn, writer: PacketConn) -> None:
    reader.set_control_message(ALL)
    send(reader, writer, b"data")
    message = Message(bytearray(10), bytearray(50))
    assert reader.read_batch([message]) == 1
    assert message.control_truncated
    into = ControlMessage(ttl=1)
    with pytest.raises(ValueError, match="oob: .* at byte 32"):
        message.control_message(into)
    assert into == ControlMessage(ttl=1)


@pytest.mark.parametrize(("size", "nn"), [(52, 52), (55, 55), (56, 56), (100, 56)])
def test_control_data_that_fits_is_not_cut(
    reader: PacketConn, writer: PacketConn, size: int, nn: int
) -> None:
    reader.set_control_message(ALL)
    send(reader, writer, b"data")
    message = Message(bytearray(10), bytearray(size))
    assert reader.read_batch([message]) == 1
    assert (message.nn, message.flags, message.control_truncated) == (nn, 0, False)
    control = message.control_message()
    assert (control.ttl, control.dst) == (64, reader.local_addr[0])


# The same message again


def test_a_message_that_was_cut_is_whole_the_next_time(
    reader: PacketConn, writer: PacketConn
) -> None:
    message = Message([bytearray(20), bytearray(20)], new_control_message(ALL))
    controls = ControlFlags(0), ALL, ControlFlags(0), ALL
    for length, flags in zip((100, 40, 0, 39), controls, strict=True):
        reader.set_control_message(ALL, False)
        reader.set_control_message(flags)
        send(reader, writer, CONTENT[:length])
        assert reader.read_batch([message]) == 1
        assert message.data == CONTENT[:40][:length]
        assert message.nn == (56 if flags else 0)
        assert message.flags == (TRUNC if length > 40 else 0)
        assert message.addr == writer.local_addr


def test_larger_buffers_take_the_whole(reader: PacketConn, writer: PacketConn) -> None:
    reader.set_control_message(ALL)
    message = Message(bytearray(8), bytearray(16))
    send(reader, writer, CONTENT, CONTENT)
    assert reader.read_batch([message]) == 1
    assert message.flags == TRUNC | CTRUNC
    message.buffers = bytearray(100)
    message.oob = new_control_message(ALL)
    assert reader.read_batch([message]) == 1
    assert (message.data, message.nn, message.flags) == (CONTENT, 56, 0)


def test_addresses_come_anew_with_every_read(reader: PacketConn, writer: PacketConn) -> None:
    """A message that was read keeps no length of what an earlier sender left."""
    messages = [message_of([10], new_control_message(ALL)) for _ in range(3)]
    reader.set_control_message(ALL)
    with open_udp("127.200.100.50") as other:
        for sender in (writer, other, writer):
            # Cleared, as the kernel would see it in a message that was never read.
            messages[0].addr = None
            send(reader, sender, b"1", b"22", b"333")
            assert reader.read_batch(messages) == 3
            assert [m.addr for m in messages] == [sender.local_addr] * 3
            assert [m.data for m in messages] == [b"1", b"22", b"333"]
            assert [m.nn for m in messages] == [56] * 3
            assert [m.control_message().src for m in messages] == [sender.local_addr[0]] * 3
