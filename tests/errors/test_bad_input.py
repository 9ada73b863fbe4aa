"""What read_batch and write_batch refuse, before anything is sent or changed."""

import errno
import gc
import ipaddress
import re
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from support.net import LOOPBACK, Call, open_udp

from ipv4batch import ControlFlags, ControlMessage, Message, PacketConn, new_messages

CALLS = ["read_batch", "write_batch"]
INDICES = [0, 1, 63, 1023, 1024, 1200]


def results(messages: Sequence[Message]) -> list[tuple[Any, ...]]:
    return [(m.n, m.nn, m.flags, m.errno, m.addr) for m in messages]


def with_results(conn: PacketConn) -> list[Message]:
    """Messages for a read or for a write to `conn`, none of whose results is 0."""
    messages = new_messages(4, 8, ControlFlags.TTL)
    with open_udp() as other:
        other.set_control_message(ControlFlags.TTL)
        assert other.write_batch([Message(b"more than 8", None, other.local_addr)] * 4) == 4
        assert other.read_batch(messages) == 4
        for message in messages:
            message.addr = None
            with pytest.raises(OSError, match="Destination address required"):
                other.write_batch([message])
            message.addr = conn.local_addr
    expected = (8, 24, socket.MSG_TRUNC, errno.EDESTADDRREQ, conn.local_addr)
    assert results(messages) == [expected] * 4
    return messages


class Untouched:
    """Sees that a call has sent nothing, read nothing and changed none of some messages."""

    def __init__(self, reader: PacketConn, writer: PacketConn) -> None:
        self.reader, self.writer, self.messages = reader, writer, with_results(reader)
        # One datagram waits, so that a read could succeed.
        writer.write_batch([Message(b"kept", None, reader.local_addr)])
        self.before = self.state()

    def state(self) -> Any:
        return [(m.data, bytes(m.oob), m.buffers) for m in self.messages], results(self.messages)

    def check(self) -> None:
        assert self.state() == self.before
        for message in self.messages:
            message.buffers = message.buffers
        self.writer.write_batch([Message(b"marker", None, self.reader.local_addr)])
        found = new_messages(3, 10)
        assert self.reader.read_batch(found) == 2
        assert [m.data for m in found[:2]] == [b"kept", b"marker"]


@pytest.fixture
def untouched(reader: PacketConn, writer: PacketConn) -> Untouched:
    return Untouched(reader, writer)


def call(name: str, reader: PacketConn, writer: PacketConn) -> Callable[..., int]:
    """A read of the reader or a write of the writer, which are what could succeed."""
    method: Callable[..., int] = getattr(reader if name == "read_batch" else writer, name)
    return method


# One item of the list

HEADER = struct.Struct("Nii")
"""struct cmsghdr: length with these 16 bytes, level, type (cmsg(3))."""

GOOD = ControlMessage(ttl=3).marshal()
READ_ONLY = memoryview(bytearray(8)).toreadonly()

NO_MESSAGES = [None, b"data", "data", (b"data", None, (LOOPBACK, 9)), Message, 7]

UNREADABLE: list[tuple[Message, str]] = [
    (Message(b"12345678"), "buffers[0]"),
    (Message(b""), "buffers[0]"),
    (Message([bytearray(1), READ_ONLY]), "buffers[1]"),
    (Message(bytearray(8), GOOD), "oob"),
]

UNPARSABLE = {
    "zeros": (bytes(24), "invalid header length at byte 0"),
    "under a header": (HEADER.pack(15, 0, 2) + bytes(8), "invalid message length at byte 0"),
    "too long": (HEADER.pack(25, 0, 2) + bytes(8), "short buffer at byte 0"),
    "longest": (HEADER.pack(2**64 - 1, 0, 2) + bytes(8), "short buffer at byte 0"),
    "second": (GOOD + HEADER.pack(21, 0, 2), "short buffer at byte 24"),
    "zeros behind": (GOOD + bytes(16), "invalid header length at byte 24"),
}


@pytest.fixture
def refuses(
    reader: PacketConn, writer: PacketConn, untouched: Untouched
) -> Callable[[str, int, Any, type[Exception], str], None]:
    """Calls with 1200 messages and one more at index k, which alone is bad."""

    def check(name: str, k: int, bad: Any, error: type[Exception], text: str) -> None:
        fillers = new_messages(1196, 8)
        for message in fillers:
            message.addr = reader.local_addr
        batch = untouched.messages[:2] + fillers + untouched.messages[2:]
        batch.insert(k, bad)
        with pytest.raises(error, match=re.escape(f"msgs[{k}]{text}")):
            call(name, reader, writer)(batch)
        assert {m.n for m in fillers} == {0}
        untouched.check()

    return check


@pytest.mark.parametrize("k", INDICES)
@pytest.mark.parametrize("item", NO_MESSAGES, ids=repr)
@pytest.mark.parametrize("name", CALLS)
def test_what_is_no_message(refuses: Any, name: str, k: int, item: Any) -> None:
    text = f": a Message is required, not {type(item).__name__}"
    refuses(name, k, item, TypeError, text)


@pytest.mark.parametrize("k", INDICES)
@pytest.mark.parametrize(("message", "field"), UNREADABLE, ids=["data", "empty", "view", "oob"])
def test_what_cannot_be_read_into(refuses: Any, k: int, message: Message, field: str) -> None:
    refuses("read_batch", k, message, ValueError, f".{field}: read-only, and cannot be read into")


@pytest.mark.parametrize("k", INDICES)
@pytest.mark.parametrize("kind", [bytes, bytearray])
@pytest.mark.parametrize(("oob", "text"), UNPARSABLE.values(), ids=UNPARSABLE)
def test_control_data_that_does_not_parse(
    refuses: Any, reader: PacketConn, k: int, kind: Any, oob: bytes, text: str
) -> None:
    message = Message(b"data", kind(oob), reader.local_addr)
    refuses("write_batch", k, message, ValueError, f".oob: {text}")


@pytest.mark.parametrize(("first", "second"), [(0, 1), (0, 3), (2, 3), (1, 1024)])
def test_the_same_message_twice_in_a_read(
    reader: PacketConn, writer: PacketConn, untouched: Untouched, first: int, second: int
) -> None:
    batch = untouched.messages + new_messages(1100, 8)
    batch[second] = batch[first]
    text = f"msgs[{second}]: the same Message as msgs[{first}], which a read cannot fill twice"
    with pytest.raises(ValueError, match=re.escape(text)):
        reader.read_batch(batch)
    untouched.check()


# The arguments


NO_SEQUENCES: dict[str, Callable[[list[Message]], Any]] = {
    "int": lambda messages: 5,
    "None": lambda messages: None,
    "one message": lambda messages: messages[0],
    "str": lambda messages: "text",
    "dict": lambda messages: dict(enumerate(messages)),
    "dict of messages": lambda messages: dict.fromkeys(messages, 1),
    "set": lambda messages: set(messages),
    "generator": lambda messages: (m for m in messages),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("kind", NO_SEQUENCES)
def test_what_is_no_sequence(
    reader: PacketConn, writer: PacketConn, untouched: Untouched, name: str, kind: str
) -> None:
    msgs = NO_SEQUENCES[kind](untouched.messages)
    with pytest.raises(TypeError, match=r"^msgs\b"):
        call(name, reader, writer)(msgs)
    if kind == "generator":
        assert next(msgs) is untouched.messages[0]
    untouched.check()


BAD_FLAGS = [
    ("0", TypeError, "flags: an int is required, not str"),
    (None, TypeError, "flags: an int is required, not NoneType"),
    (1.0, TypeError, "flags: an int is required, not float"),
    (-1, ValueError, "flags: -1 is out of range, 0 to 2147483647"),
    (2**31, ValueError, "flags: 2147483648 is out of range, 0 to 2147483647"),
    (2**70, ValueError, "is out of range, 0 to 2147483647"),
]


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("case", BAD_FLAGS, ids=lambda case: repr(case[0]))
def test_flags(
    reader: PacketConn, writer: PacketConn, untouched: Untouched, name: str, case: Any
) -> None:
    flags, error, text = case
    for messages in (untouched.messages, []):
        with pytest.raises(error, match=re.escape(text)):
            call(name, reader, writer)(messages, flags)
    untouched.check()


BAD_ADDRESSES = [
    (("localhost", 9), ValueError, "addr: 'localhost' is no IPv4 address; resolve a name first"),
    (("::1", 9), ValueError, "addr: '::1' is no IPv4 address"),
    (("127.0.0.256", 9), ValueError, "addr: '127.0.0.256' is no IPv4 address"),
    (("127.0.0.1\0", 9), ValueError, r"addr: '127.0.0.1\x00' is no IPv4 address"),
    ((b"127.0.0.1", 9), ValueError, "addr: a packed IPv4 address has 4 bytes, not 9"),
    ((ipaddress.IPv6Address("::1"), 9), TypeError, "addr: an address is a str, an ipaddress.IPv4"),
    ((2130706433, 9), TypeError, "addr: an address is a str, an ipaddress.IPv4Address or 4 packed"),
    ((LOOPBACK, -1), ValueError, "addr: port: -1 is out of range, 0 to 65535"),
    ((LOOPBACK, 65536), ValueError, "addr: port: 65536 is out of range, 0 to 65535"),
    ((LOOPBACK, "9"), TypeError, "addr: port: an int is required, not str"),
    ((LOOPBACK,), TypeError, "addr: a (host, port) tuple is required, not ('127.0.0.1',)"),
    ([LOOPBACK, 9], TypeError, "addr: a (host, port) tuple is required, not ['127.0.0.1', 9]"),
]


@pytest.mark.parametrize(("addr", "error", "text"), BAD_ADDRESSES, ids=repr)
def test_an_address_is_refused_when_it_is_set(
    untouched: Untouched, addr: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=re.escape(text)):
        Message(b"data", None, addr)
    for message in untouched.messages:
        with pytest.raises(error, match=re.escape(text)):
            message.addr = addr
    untouched.check()


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("closed", ["connection", "socket"])
def test_a_closed_connection(untouched: Untouched, name: str, closed: str) -> None:
    text = f"The connection is closed: '{name.partition('_')[0]} udp4'"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        conn = PacketConn(sock)
        (conn if closed == "connection" else sock).close()
        with pytest.raises(OSError, match=re.escape(text)) as caught:
            getattr(conn, name)(untouched.messages)
    assert caught.value.errno == errno.EBADF
    untouched.check()


# What other threads, and Python code within the call, do to its messages


def waiting(reader: PacketConn, messages: list[Message]) -> Call:
    return Call(reader.read_batch, messages).wait_until_waiting()


CHANGES: dict[str, Callable[[list[Any]], Any]] = {
    "cleared": lambda msgs: msgs.clear(),
    "shrunk": lambda msgs: msgs.__delitem__(slice(1, None)),
    "replaced": lambda msgs: msgs.__setitem__(slice(None), ["none"] * 3),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_list_may_change_while_a_read_waits(
    reader: PacketConn, writer: PacketConn, change: Callable[[list[Any]], Any]
) -> None:
    buffers = [bytearray(4) for _ in range(3)]
    messages = [Message(buffer) for buffer in buffers]
    reading = waiting(reader, messages)
    change(messages)
    gc.collect()
    # The call still has all three.
    for buffer in buffers:
        with pytest.raises(BufferError):
            buffer.append(1)
    sent = [Message(content, None, reader.local_addr) for content in (b"1", b"22", b"333")]
    assert writer.write_batch(sent) == 3
    read = reading.result()
    assert 1 <= read <= 3
    # One that is not read now waits until the next read.
    assert [bytes(b).rstrip(b"\0") for b in buffers[:read]] == [b"1", b"22", b"333"][:read]
    messages.clear()
    for buffer in buffers:
        buffer.append(1)


@pytest.mark.parametrize(
    ("field", "value"), [("buffers", bytearray(8)), ("oob", None), ("addr", (LOOPBACK, 9))]
)
def test_a_message_cannot_change_while_a_read_waits(
    reader: PacketConn, writer: PacketConn, field: str, value: Any
) -> None:
    message = Message(bytearray(8), bytearray(32))
    before = message.buffers, message.oob
    reading = waiting(reader, [message])
    with pytest.raises(RuntimeError, match=f"{field}: the message is in use by another call"):
        setattr(message, field, value)
    assert " in use>" in repr(message)
    assert (message.buffers, message.oob, message.n, message.data) == (*before, 0, b"")
    writer.write_batch([Message(b"data", None, reader.local_addr)])
    assert reading.result() == 1
    assert message.data == b"data"
    setattr(message, field, value)
    assert " in use>" not in repr(message)


@pytest.mark.parametrize("name", CALLS)
def test_another_call_cannot_have_a_message_that_is_read(
    reader: PacketConn, writer: PacketConn, name: str
) -> None:
    message, other = Message(bytearray(8)), Message(bytearray(8))
    other.addr = reader.local_addr
    reading = waiting(reader, [message])
    with pytest.raises(RuntimeError, match=re.escape("msgs[1]: in use by another call")):
        call(name, reader, writer)([other, message])
    assert reading.is_alive()
    writer.write_batch([Message(b"data", None, reader.local_addr)])
    assert reading.result() == 1
    assert (message.data, other.n) == (b"data", 0)


@pytest.mark.parametrize("ending", ["deadline", "close"])
def test_a_message_is_free_after_a_read_that_failed(reader: PacketConn, ending: str) -> None:
    message = Message(bytearray(8))
    reading = waiting(reader, [message])
    if ending == "deadline":
        reader.set_deadline(0)
    else:
        reader.close()
    with pytest.raises(OSError, match="timed out" if ending == "deadline" else "is closed"):
        reading.result()
    message.buffers = b""


def test_a_list_that_another_thread_keeps_changing(reader: PacketConn, writer: PacketConn) -> None:
    addr = reader.local_addr
    messages = [Message(b"%d" % i, None, addr) for i in range(40)]
    over = threading.Event()

    def change() -> None:
        while not over.is_set():
            del messages[3:]
            messages.extend([Message(b"%d" % i, None, addr) for i in range(3, 40)])

    changer = Call(change)
    found = new_messages(41, 4)
    for _ in range(50):
        count = writer.write_batch(messages)
        assert 3 <= count <= 40
        assert reader.read_batch(found) == count
        assert [m.data for m in found[:count]] == [b"%d" % i for i in range(count)]
    over.set()
    changer.result()


class Meddler:
    """A socket whose fileno(), which every call asks, does something first."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.meddle: Callable[[], Any] = bool

    def fileno(self) -> int:
        self.meddle()
        return self.sock.fileno()

    def close(self) -> None:
        self.sock.close()


def test_python_code_within_the_call(
    reader: PacketConn, udp_pair: tuple[socket.socket, socket.socket]
) -> None:
    meddler = Meddler(udp_pair[0])
    conn = PacketConn(meddler)
    messages = [Message(b"data", None, reader.local_addr) for _ in range(3)]
    kept = messages[:]
    meddler.meddle = messages.clear
    assert conn.write_batch(messages) == 3
    assert [m.n for m in kept] == [4, 4, 4]
    meddler.meddle = lambda: setattr(kept[0], "addr", (LOOPBACK, 9))
    with pytest.raises(RuntimeError, match="addr: the message is in use by another call"):
        conn.write_batch(kept)
    assert reader.read_batch(new_messages(4, 8)) == 3
    meddler.meddle = conn.close
    with pytest.raises(OSError, match="The connection is closed: 'write udp4'"):
        conn.write_batch(kept)
