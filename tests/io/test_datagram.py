"""PacketConn.read_from and write_to on UDP sockets."""

import array
import errno
import ipaddress
import re
import socket
from typing import Any

import pytest
from support.net import open_udp

from ipv4batch import ControlFlags, ControlMessage, PacketConn

LO = socket.if_nametoindex("lo")
ALL = ControlFlags.TTL | ControlFlags.SRC | ControlFlags.DST | ControlFlags.INTERFACE


def assert_nothing_sent(reader: PacketConn, writer: PacketConn) -> None:
    """Loopback keeps the order: a marker that comes first came alone."""
    buffer = bytearray(100)
    writer.write_to(b"marker", reader.local_addr)
    n, _, _ = reader.read_from(buffer)
    assert buffer[:n] == b"marker"
    with pytest.raises(BlockingIOError):
        reader.read_from(buffer, socket.MSG_DONTWAIT)


def test_a_datagram_arrives_with_its_length_and_the_address_of_its_sender(
    reader: PacketConn, writer: PacketConn
) -> None:
    buffer = bytearray(b"." * 20)
    assert writer.write_to(b"payload", reader.local_addr) == 7
    assert reader.read_from(buffer) == (7, None, writer.local_addr)
    assert buffer == b"payload............."


def test_arguments_have_names(reader: PacketConn, writer: PacketConn) -> None:
    buffer = bytearray(20)
    control = ControlMessage(ttl=9)
    reader.set_control_message(ControlFlags.TTL)
    sent = writer.write_to(
        flags=socket.MSG_DONTWAIT, control_message=control, addr=reader.local_addr, data=b"abc"
    )
    n, arrived, addr = reader.read_from(flags=socket.MSG_DONTWAIT, buffer=buffer)
    assert (sent, n, addr) == (3, 3, writer.local_addr)
    assert arrived.ttl == 9


@pytest.mark.parametrize(
    "data",
    [b"\0\xffab", bytearray(b"bytes"), memoryview(b"a view")[2:], array.array("H", [1, 2, 3])],
    ids=["bytes", "bytearray", "memoryview", "array"],
)
def test_any_bytes_like_object_is_sent(reader: PacketConn, writer: PacketConn, data: Any) -> None:
    buffer = bytearray(20)
    expected = bytes(memoryview(data))
    assert writer.write_to(data, reader.local_addr) == len(expected)
    n, _, _ = reader.read_from(buffer)
    assert buffer[:n] == expected


def test_any_writable_buffer_is_read_into(reader: PacketConn, writer: PacketConn) -> None:
    words = array.array("H", [0x4142] * 4)
    whole = bytearray(b"<......>")
    for buffer in (words, memoryview(whole)[1:7]):
        writer.write_to(b"123456", reader.local_addr)
        assert reader.read_from(buffer)[0] == 6
    assert words.tobytes() == b"123456" + array.array("H", [0x4142]).tobytes()
    assert whole == b"<123456>"


@pytest.mark.parametrize("convert", [str, ipaddress.IPv4Address, socket.inet_aton])
def test_the_host_of_an_address_has_three_forms(
    reader: PacketConn, writer: PacketConn, convert: Any
) -> None:
    host, port = reader.local_addr
    writer.write_to(b"x", (convert(host), port))
    assert reader.read_from(bytearray(1))[0] == 1


def test_a_connected_socket_needs_no_address(reader: PacketConn) -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(reader.local_addr)
    with PacketConn(sock) as conn, open_udp() as other:
        for sent in (conn.write_to(b"one"), conn.write_to(b"two", None)):
            assert sent == 3
            assert reader.read_from(bytearray(9)) == (3, None, conn.local_addr)
        conn.write_to(b"elsewhere", other.local_addr)
        assert other.read_from(bytearray(9)) == (9, None, conn.local_addr)
        assert_nothing_sent(reader, conn)


@pytest.mark.parametrize("size", [0, 1, 2, 63, 1472, 1473, 9000, 32768, 65507])
def test_sizes(reader: PacketConn, writer: PacketConn, size: int) -> None:
    data = bytes(i * 7 % 251 for i in range(size))
    buffer = bytearray(b"\xee" * (size + 2))
    assert writer.write_to(data, reader.local_addr) == size
    assert reader.read_from(memoryview(buffer)[1 : size + 1]) == (size, None, writer.local_addr)
    assert buffer == b"\xee" + data + b"\xee"


def test_an_empty_datagram_is_a_datagram(reader: PacketConn, writer: PacketConn) -> None:
    buffer = bytearray(b"..")
    reader.set_control_message(ControlFlags.TTL)
    assert writer.write_to(b"", reader.local_addr) == 0
    n, control, addr = reader.read_from(buffer)
    assert (n, control.src, addr) == (0, "127.0.0.1", writer.local_addr)
    assert buffer == b".."


@pytest.mark.parametrize("room", range(9))
def test_a_datagram_is_cut_where_the_buffer_ends(
    reader: PacketConn, writer: PacketConn, room: int
) -> None:
    buffer = bytearray(b"." * 12)
    for data in (b"12345678", b"next"):
        writer.write_to(data, reader.local_addr)
    assert reader.read_from(memoryview(buffer)[:room])[0] == room
    assert buffer == b"12345678"[:room].ljust(12, b".")
    assert reader.read_from(buffer)[0] == 4
    assert buffer[:4] == b"next"


@pytest.mark.parametrize("room", [0, 3, 8, 12])
def test_msg_trunc_tells_the_whole_length(
    reader: PacketConn, writer: PacketConn, room: int
) -> None:
    buffer = bytearray(b"." * 12)
    writer.write_to(b"12345678", reader.local_addr)
    assert reader.read_from(memoryview(buffer)[:room], socket.MSG_TRUNC)[0] == 8
    assert buffer == b"12345678"[:room].ljust(12, b".")


def test_msg_peek_leaves_the_datagram(reader: PacketConn, writer: PacketConn) -> None:
    reader.set_control_message(ALL)
    writer.write_to(b"12345678", reader.local_addr, ControlMessage(ttl=3))
    size, _, _ = reader.read_from(bytearray(), socket.MSG_PEEK | socket.MSG_TRUNC)
    first, second = bytearray(size), bytearray(size)
    assert reader.read_from(first, socket.MSG_PEEK) == reader.read_from(second)
    assert first == second == b"12345678"
    with pytest.raises(BlockingIOError):
        reader.read_from(first, socket.MSG_DONTWAIT)


def test_control_messages_go_both_ways(reader: PacketConn, writer: PacketConn) -> None:
    reader.set_control_message(ALL)
    asked = ControlMessage(ttl=7, src="127.0.0.9", ifindex=LO)
    writer.write_to(b"x", reader.local_addr, asked)
    n, control, addr = reader.read_from(bytearray(1))
    assert (n, addr) == (1, ("127.0.0.9", writer.local_addr[1]))
    assert control == ControlMessage(ttl=7, src="127.0.0.9", dst="127.0.0.1", ifindex=LO)
    assert asked == ControlMessage(ttl=7, src="127.0.0.9", ifindex=LO)

    writer.write_to(b"x", reader.local_addr)
    _, control, addr = reader.read_from(bytearray(1))
    assert (control.ttl, control.src, addr) == (64, "127.0.0.1", writer.local_addr)


@pytest.mark.parametrize("flags", [ControlFlags.TTL, ControlFlags.DST, ALL])
def test_the_source_in_a_control_message_is_the_peer(
    reader: PacketConn, writer: PacketConn, flags: ControlFlags
) -> None:
    reader.set_control_message(flags)
    writer.write_to(b"x", reader.local_addr, ControlMessage(src="127.9.8.7"))
    _, control, addr = reader.read_from(bytearray(1))
    assert control.src == addr[0] == "127.9.8.7"
    assert control.ttl == (64 if flags & ControlFlags.TTL else 0)
    assert control.dst == ("127.0.0.1" if flags & ControlFlags.DST else None)


def test_there_is_no_control_message_when_nothing_arrived(
    reader: PacketConn, writer: PacketConn
) -> None:
    for on in (False, True, False):
        reader.set_control_message(ALL, on)
        writer.write_to(b"x", reader.local_addr)
        assert (reader.read_from(bytearray(1))[1] is not None) is on


def test_a_control_message_leads_nowhere_else_on_udp(
    reader: PacketConn, writer: PacketConn
) -> None:
    writer.write_to(b"x", reader.local_addr, ControlMessage(dst="127.0.0.77"))
    assert reader.read_from(bytearray(1))[0] == 1


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((), TypeError, "read_from() missing argument 'buffer'"),
        ((bytearray(1), 0, 0), TypeError, "read_from() takes at most 2 arguments, 3 given"),
        (("text",), TypeError, "buffer: a bytes-like object is required, not str"),
        ((None,), TypeError, "buffer: a bytes-like object is required, not NoneType"),
        ((b"fixed",), ValueError, "buffer: read-only, and cannot be read into"),
        ((memoryview(b"fixed"),), ValueError, "buffer: read-only, and cannot be read into"),
        ((bytearray(1), "0"), TypeError, "flags: an int is required, not str"),
        ((bytearray(1), 0.0), TypeError, "flags: an int is required, not float"),
        ((bytearray(1), -1), ValueError, "flags: -1 is out of range, 0 to 2147483647"),
        ((bytearray(1), 1 << 31), ValueError, "flags: 2147483648 is out of range"),
    ],
)
def test_wrong_arguments_of_a_read(
    reader: PacketConn,
    writer: PacketConn,
    arguments: tuple[Any, ...],
    error: type[Exception],
    text: str,
) -> None:
    writer.write_to(b"kept", reader.local_addr)
    with pytest.raises(error, match=re.escape(text)):
        reader.read_from(*arguments)
    assert reader.read_from(bytearray(4), socket.MSG_DONTWAIT)[0] == 4


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({}, TypeError, "write_to() missing argument 'data'"),
        ({"data": "text"}, TypeError, "data: a bytes-like object is required, not str"),
        ({"data": [1]}, TypeError, "data: a bytes-like object is required, not list"),
        ({"addr": ["127.0.0.1", 9]}, TypeError, "addr: a (host, port) tuple is required, not ["),
        ({"addr": "127.0.0.1:9"}, TypeError, "addr: a (host, port) tuple is required, not '127"),
        ({"addr": ("127.0.0.1",)}, TypeError, "addr: a (host, port) tuple is required"),
        ({"addr": ("localhost", 9)}, ValueError, "addr: 'localhost' is no IPv4 address; resolve"),
        ({"addr": ("::1", 9)}, ValueError, "addr: '::1' is no IPv4 address"),
        ({"addr": ("127.0.0.1", -1)}, ValueError, "addr: port: -1 is out of range, 0 to 65535"),
        ({"addr": ("127.0.0.1", 65536)}, ValueError, "addr: port: 65536 is out of range"),
        ({"addr": ("127.0.0.1", "9")}, TypeError, "addr: port: an int is required, not str"),
        ({"addr": (0x7F000001, 9)}, TypeError, "addr: an address is a str, an ipaddress.IPv4"),
        ({"control_message": b""}, TypeError, "control_message: a ControlMessage or None is req"),
        ({"flags": "0"}, TypeError, "flags: an int is required, not str"),
        ({"flags": -1}, ValueError, "flags: -1 is out of range, 0 to 2147483647"),
        ({"to": 1}, TypeError, "write_to() got an unexpected keyword argument 'to'"),
    ],
)
def test_wrong_arguments_of_a_write(
    reader: PacketConn,
    writer: PacketConn,
    arguments: dict[str, Any],
    error: type[Exception],
    text: str,
) -> None:
    if arguments:
        arguments = {"data": b"x", "addr": reader.local_addr, **arguments}
    with pytest.raises(error, match=re.escape(text)):
        writer.write_to(**arguments)
    assert_nothing_sent(reader, writer)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"addr": None}, errno.EDESTADDRREQ),
        ({"addr": ("127.0.0.1", 0)}, errno.EINVAL),
        ({"data": bytes(65508)}, errno.EMSGSIZE),
        ({"flags": socket.MSG_OOB}, errno.EOPNOTSUPP),
        ({"control_message": ControlMessage(ifindex=2**31 - 1)}, errno.ENODEV),
    ],
)
def test_the_kernels_refusals_tell_where(
    reader: PacketConn, writer: PacketConn, arguments: dict[str, Any], code: int
) -> None:
    with pytest.raises(OSError, match=rf"\[Errno {code}\]") as caught:
        writer.write_to(**{"data": b"x", "addr": reader.local_addr, **arguments})
    assert caught.value.errno == code
    assert str(caught.value).endswith(f": 'write udp4 127.0.0.1:{writer.local_addr[1]}'")
    assert_nothing_sent(reader, writer)


def test_a_port_that_nobody_has_is_a_refusal(writer: PacketConn) -> None:
    with open_udp() as gone:
        unused = gone.local_addr
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(unused)
    sock.settimeout(10)
    with PacketConn(sock) as conn:
        where = f"udp4 127.0.0.1:{conn.local_addr[1]}"
        conn.write_to(b"x")
        with pytest.raises(ConnectionRefusedError, match=re.escape(f"'read {where}'")):
            conn.read_from(bytearray(1))
        conn.write_to(b"x")
        with pytest.raises(ConnectionRefusedError, match=re.escape(f"'write {where}'")):
            conn.write_to(b"x")


def test_without_a_datagram_a_read_ends_as_the_timeout_says(reader: PacketConn) -> None:
    where = re.escape(f"'read udp4 127.0.0.1:{reader.local_addr[1]}'")
    with pytest.raises(BlockingIOError, match=where):
        reader.read_from(bytearray(1), socket.MSG_DONTWAIT)
    reader.timeout = 0
    with pytest.raises(BlockingIOError, match=where):
        reader.read_from(bytearray(1))
    reader.timeout = 0.001
    with pytest.raises(TimeoutError, match=f"timed out: {where}"):
        reader.read_from(bytearray(1))


def test_buffers_are_free_after_each_call(reader: PacketConn, writer: PacketConn) -> None:
    """A bytearray that somebody holds cannot grow."""
    buffer, data = bytearray(4), bytearray(b"data")
    writer.write_to(data, reader.local_addr)
    reader.read_from(buffer)
    with pytest.raises(BlockingIOError):
        reader.read_from(buffer, socket.MSG_DONTWAIT)
    with pytest.raises(ValueError, match="flags"):
        reader.read_from(buffer, -1)
    with pytest.raises(OSError, match="Destination"):
        writer.write_to(data)
    buffer.append(1)
    data.append(1)


@pytest.mark.parametrize("call", ["read_from", "write_to"])
def test_a_closed_connection_says_so(reader: PacketConn, call: str) -> None:
    reader.close()
    operation = call.partition("_")[0]
    with pytest.raises(OSError, match=f"The connection is closed: '{operation} udp4'") as caught:
        getattr(reader, call)(bytearray(1))
    assert caught.value.errno == errno.EBADF
