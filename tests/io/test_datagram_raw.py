"""read_from and write_to on raw sockets: headers stripped, parsed and written."""

import ctypes
import errno
import re
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from support.net import open_raw, own_host, raw_pair

from ipv4batch import ControlFlags, ControlMessage, Header, Message, PacketConn, RawConn

PROTOCOL = 253  # for experiments (RFC 3692)
HERE, OTHER = own_host(1), own_host(2)
"""The packets of other tests go to other addresses."""

ALL = ControlFlags.TTL | ControlFlags.SRC | ControlFlags.DST | ControlFlags.INTERFACE
OPTIONS = {
    0: b"",
    4: b"\x01\x01\x01\x00",
    40: b"\x01" * 39 + b"\x00",
}
PAYLOAD = bytes(range(100, 150))

pytestmark = pytest.mark.usefixtures("needs_raw")

Pair = tuple[PacketConn, RawConn]


@pytest.fixture
def pair() -> Iterator[Pair]:
    with raw_pair(PROTOCOL, HERE) as made:
        yield made


@pytest.fixture
def raw() -> Iterator[RawConn]:
    """A connection that hears itself."""
    with RawConn(open_raw(PROTOCOL, HERE)) as conn:
        yield conn


def header(options: bytes = b"", **fields: Any) -> Header:
    return Header(**{"dst": HERE, "ttl": 7, "protocol": PROTOCOL, "options": options, **fields})


# PacketConn takes the header off.


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_nothing_past_the_payload_is_written(pair: Pair, options: bytes) -> None:
    reader, writer = pair
    for length in (0, 1, 39, 40, 41, len(PAYLOAD)):
        whole = bytearray(b"\xee" * 200)
        writer.write_to(header(options), PAYLOAD[:length])
        assert reader.read_from(whole)[0] == length
        assert whole == PAYLOAD[:length] + b"\xee" * (200 - length)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_the_header_is_taken_off_whatever_the_buffers_length(pair: Pair, options: bytes) -> None:
    reader, writer = pair
    for length in (0, 1, 7, 39, 40, 41, len(PAYLOAD)):
        payload = PAYLOAD[:length]
        for room in range(len(payload) + len(options) + 24):
            whole = bytearray(b"\xee" * (room + 2))
            assert writer.write_to(header(options), payload) == length
            n, control, addr = reader.read_from(memoryview(whole)[1 : room + 1])
            assert (n, control, addr) == (min(room, length), None, (HERE, 0))
            assert whole[1 : n + 1] == payload[:room]
            assert whole[0] == whole[room + 1] == 0xEE


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("room", [0, 3, 39, 40, 41, 49, 50, 51, 120])
def test_msg_peek_and_msg_trunc_count_the_payload(pair: Pair, options: bytes, room: int) -> None:
    reader, writer = pair
    writer.write_to(header(options), PAYLOAD)
    for flags, n in (
        (socket.MSG_PEEK, min(room, len(PAYLOAD))),
        (socket.MSG_PEEK | socket.MSG_TRUNC, len(PAYLOAD)),
        (socket.MSG_TRUNC, len(PAYLOAD)),
    ):
        buffer = bytearray(room)
        assert reader.read_from(buffer, flags)[0] == n
        assert buffer[: len(PAYLOAD)] == PAYLOAD[:room]
    with pytest.raises(BlockingIOError):
        reader.read_from(bytearray(room), socket.MSG_DONTWAIT)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_large_payloads(pair: Pair, options: bytes) -> None:
    reader, writer = pair
    payload = bytes(i * 31 % 253 for i in range(20000))
    for room in (len(payload) - 1, len(payload), len(payload) + 1):
        buffer = bytearray(room)
        writer.write_to(header(options), payload)
        n, _, _ = reader.read_from(buffer)
        assert buffer[:n] == payload[:room]


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_options_that_the_socket_adds_are_taken_off(pair: Pair, options: bytes) -> None:
    """The kernel writes the header here, as for a peer that knows nothing of this package."""
    reader, _ = pair
    with open_raw(PROTOCOL, HERE) as plain:
        plain.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, options)
        plain.sendto(b"payload", (HERE, 0))
    buffer = bytearray(7)
    assert reader.read_from(buffer) == (7, None, (HERE, 0))
    assert buffer == b"payload"


def test_a_packet_conn_writes_without_a_header(pair: Pair) -> None:
    reader, other = pair
    reader.set_control_message(ALL)
    assert reader.write_to(b"payload", (HERE, 0), ControlMessage(ttl=9, src="127.0.0.9")) == 7
    buffer = bytearray(7)
    n, control, addr = reader.read_from(buffer)
    assert (n, addr, buffer) == (7, ("127.0.0.9", 0), b"payload")
    lo = socket.if_nametoindex("lo")
    assert control == ControlMessage(ttl=9, src="127.0.0.9", dst=HERE, ifindex=lo)
    arrived, payload, _ = other.read_from(bytearray(100))
    assert (arrived.ttl, arrived.src, arrived.protocol) == (9, "127.0.0.9", PROTOCOL)
    assert payload == b"payload"


def test_a_batch_of_raw_packets_keeps_its_headers(pair: Pair) -> None:
    reader, writer = pair
    writer.write_to(header(OPTIONS[4]), b"payload")
    message = Message(bytearray(100))
    assert reader.read_batch([message]) == 1
    assert message.n == 20 + 4 + 7
    assert message.data[20:] == OPTIONS[4] + b"payload"


# RawConn gives header and payload.


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_packet_arrives_with_the_header_that_was_written(raw: RawConn, options: bytes) -> None:
    sent = header(options, tos=0x48, id=0xCAFE, flags=2, ttl=77, src="127.0.0.5")
    assert raw.write_to(sent, PAYLOAD) == len(PAYLOAD)
    arrived, payload, control = raw.read_from(bytearray(200))
    assert payload == PAYLOAD
    assert control is None
    # The kernel fills in the total length and the checksum; a good one sums up to nothing.
    assert arrived.total_len == 20 + len(options) + len(PAYLOAD)
    sent.total_len, sent.checksum = arrived.total_len, arrived.checksum
    assert arrived == sent
    assert arrived.checksum != 0


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_the_payload_is_cut_where_the_buffer_ends(raw: RawConn, options: bytes) -> None:
    start = 20 + len(options)
    for room in range(start + len(PAYLOAD) + 3):
        whole = bytearray(b"\xee" * (room + 2))
        raw.write_to(header(options), PAYLOAD)
        arrived, payload, _ = raw.read_from(memoryview(whole)[1 : room + 1])
        assert (arrived.len, arrived.options, arrived.dst) == (start, options, HERE)
        assert arrived.total_len == start + len(PAYLOAD)
        assert payload == PAYLOAD[: max(0, room - start)]
        assert whole[0] == whole[room + 1] == 0xEE


def test_the_payload_is_a_view_of_the_buffer(raw: RawConn) -> None:
    buffer = bytearray(100)
    raw.write_to(header(OPTIONS[4]), b"payload")
    _, payload, _ = raw.read_from(buffer)
    assert isinstance(payload, memoryview)
    assert (payload.obj, payload.format, payload.nbytes) == (buffer, "B", 7)
    payload[0] = ord("P")
    assert buffer[24:31] == b"Payload"
    with pytest.raises(BufferError):
        buffer.append(0)
    payload.release()
    buffer.append(0)


def test_a_buffer_of_words_gives_a_payload_of_bytes(raw: RawConn) -> None:
    words = memoryview(bytearray(96)).cast("I")
    raw.write_to(header(), b"payload")
    _, payload, _ = raw.read_from(words)
    assert (payload.format, payload.tobytes()) == ("B", b"payload")


def test_a_packet_without_payload(raw: RawConn) -> None:
    assert raw.write_to(header(), b"") == 0
    arrived, payload, _ = raw.read_from(bytearray(100))
    assert (arrived.total_len, len(payload)) == (20, 0)


@pytest.mark.parametrize("room", [0, 19, 20, 30, 100])
def test_msg_peek_and_msg_trunc(raw: RawConn, room: int) -> None:
    raw.write_to(header(), PAYLOAD)
    for flags in (socket.MSG_PEEK, socket.MSG_PEEK | socket.MSG_TRUNC, socket.MSG_TRUNC):
        arrived, payload, _ = raw.read_from(bytearray(room), flags)
        assert arrived.total_len == 20 + len(PAYLOAD)
        assert payload == PAYLOAD[: max(0, room - 20)]
    with pytest.raises(BlockingIOError):
        raw.read_from(bytearray(room), socket.MSG_DONTWAIT)


def test_control_messages_arrive_when_they_are_asked_for(raw: RawConn) -> None:
    lo = socket.if_nametoindex("lo")
    raw.set_control_message(ALL)
    raw.write_to(header(src="127.0.0.5"), b"x")
    assert raw.read_from(bytearray(100))[2] == ControlMessage(7, "127.0.0.5", HERE, lo)
    raw.set_control_message(ALL, False)
    raw.write_to(header(), b"x")
    assert raw.read_from(bytearray(100))[2] is None


def test_the_control_messages_destination_is_where_a_packet_goes(raw: RawConn) -> None:
    """The kernel asks its routes for that address, and the header keeps its own."""
    sent = header(dst=OTHER)
    before = sent.marshal()
    with RawConn(open_raw(PROTOCOL, OTHER)) as other:
        raw.write_to(sent, b"x", ControlMessage(dst=HERE))
        arrived, payload, _ = other.read_from(bytearray(100))
    assert (arrived.dst, payload) == (OTHER, b"x")
    assert sent.marshal() == before
    # Broadcast takes SO_BROADCAST: it is the address that the kernel looked at.
    with pytest.raises(PermissionError, match=f"'write ip4:253 {HERE}'"):
        raw.write_to(header(), b"x", ControlMessage(dst="127.255.255.255"))


def test_arguments_have_names(raw: RawConn) -> None:
    sent = raw.write_to(
        flags=0, control_message=ControlMessage(), payload=b"named", header=header()
    )
    assert sent == 5
    assert raw.read_from(flags=0, buffer=bytearray(100))[1] == b"named"


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"header": b"E"}, TypeError, "header: a Header is required, not bytes"),
        ({"header": None}, TypeError, "header: a Header is required, not NoneType"),
        ({"header": Header()}, ValueError, "header.dst: missing address"),
        ({"header": header(len=16)}, ValueError, "header.len: header too short"),
        ({"payload": "text"}, TypeError, "payload: a bytes-like object is required, not str"),
        ({"payload": None}, TypeError, "payload: a bytes-like object is required, not NoneType"),
        ({"control_message": b""}, TypeError, "control_message: a ControlMessage or None is req"),
        ({"flags": -1}, ValueError, "flags: -1 is out of range"),
        ({"addr": 1}, TypeError, "write_to() got an unexpected keyword argument 'addr'"),
    ],
)
def test_wrong_arguments_of_a_write(
    raw: RawConn, change: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=re.escape(text)):
        raw.write_to(**{"header": header(), "payload": b"", **change})
    with pytest.raises(BlockingIOError):
        raw.read_from(bytearray(100), socket.MSG_DONTWAIT)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((), TypeError, "read_from() missing argument 'buffer'"),
        ((b"fixed",), ValueError, "buffer: read-only, and cannot be read into"),
        (("text",), TypeError, "buffer: a bytes-like object is required, not str"),
        ((bytearray(1), 1.5), TypeError, "flags: an int is required, not float"),
    ],
)
def test_wrong_arguments_of_a_read(
    raw: RawConn, arguments: tuple[Any, ...], error: type[Exception], text: str
) -> None:
    raw.write_to(header(), b"kept")
    with pytest.raises(error, match=re.escape(text)):
        raw.read_from(*arguments)
    assert raw.read_from(bytearray(100), socket.MSG_DONTWAIT)[1] == b"kept"


def test_errors_tell_where(raw: RawConn) -> None:
    with pytest.raises(BlockingIOError, match=f"'read ip4:253 {HERE}'"):
        raw.read_from(bytearray(1), socket.MSG_DONTWAIT)
    with pytest.raises(OSError, match=f"'write ip4:253 {HERE}'") as caught:
        raw.write_to(header(), bytes(65600))
    assert caught.value.errno == errno.EMSGSIZE
    raw.close()
    with pytest.raises(OSError, match="The connection is closed: 'read ip4:253'"):
        raw.read_from(bytearray(1))
    with pytest.raises(OSError, match="The connection is closed: 'write ip4:253'"):
        raw.write_to(header(), b"")


def test_a_buffer_with_a_zero_in_its_shape_costs_no_packet(raw: RawConn) -> None:
    raw.write_to(header(), PAYLOAD)
    nothing = (ctypes.c_char * 5 * 0)()
    assert memoryview(nothing).shape == (0, 5)
    arrived, payload, _ = raw.read_from(nothing)
    assert (arrived.total_len, bytes(payload)) == (20 + len(PAYLOAD), b"")


@pytest.mark.skipif(sys.version_info < (3, 12), reason="__buffer__ is of Python 3.12 (PEP 688)")
def test_an_exporter_that_refuses_the_second_time_costs_no_packet(raw: RawConn) -> None:
    class Exporter:
        asked = 0

        def __buffer__(self, flags: int) -> memoryview:
            self.asked += 1
            if self.asked == 2:
                raise BufferError("not again")
            return memoryview(bytearray(100))

    raw.write_to(header(), PAYLOAD)
    with pytest.raises(BufferError, match="not again"):
        raw.read_from(Exporter())
    assert bytes(raw.read_from(bytearray(100))[1]) == PAYLOAD
