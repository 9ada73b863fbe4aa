"""new_messages: messages on one slab of memory."""

import os
import re
import tracemalloc
from typing import Any

import pytest
from support.net import Call

from ipv4batch import (
    ControlFlags,
    PacketConn,
    new_control_message,
    new_messages,
)

Pair = tuple[PacketConn, PacketConn]


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


def test_new_messages_are_ready_for_a_read(conn_pair: Pair) -> None:
    writer, reader = conn_pair
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


def test_a_message_costs_little_until_its_buffers_are_looked_at() -> None:
    """Python's views of the slab are made when somebody asks for them, and are one for good."""
    count = 1000
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        messages = new_messages(count, 64)
        each = (tracemalloc.get_traced_memory()[0] - before) / count
    finally:
        tracemalloc.stop()
    assert 64 < each <= 400
    [first] = messages[0].buffers
    assert messages[0].buffers[0] is first
    assert (type(first), first.nbytes, first.readonly) == (memoryview, 64, False)
    first[:2] = b"ab"
    messages[0].buffers = messages[1].buffers
    assert bytes(first[:2]) == b"ab"
    assert messages[1].buffers[0][:2] == bytes(2)


def test_the_buffers_are_looked_at_while_a_read_waits(conn: PacketConn) -> None:
    [message] = new_messages(1, 64, ControlFlags.TTL)
    conn.set_control_message(ControlFlags.TTL)
    call = Call(conn.read_batch, [message]).wait_until_waiting()
    [buffer] = message.buffers
    assert len(message.oob) == len(new_control_message(ControlFlags.TTL))
    conn.write_to(b"arrived", conn.local_addr)
    assert call.result() == 1
    assert (bytes(buffer[:7]), message.data, message.view) == (b"arrived",) * 3
    assert message.control_message().ttl == 64
