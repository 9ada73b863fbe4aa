"""Checks of the rows of docs/porting-from-go.rst: datagrams, messages, headers, and ICMP."""

import ipaddress
import socket
import struct
import tracemalloc
from functools import partial
from typing import Any

import pytest

from ipv4batch import (
    ControlFlags,
    ControlMessage,
    Header,
    ICMPFilter,
    ICMPType,
    Message,
    PacketConn,
    new_messages,
    parse_header,
)
from support.net import Call, open_raw
from support.porting import HOSTS, IP_PKTINFO, MEMBERS, PROTOCOL, Ends, check, paragraph

# Datagrams and messages


@paragraph("Exceptions", "Minus one", "Waiting")
@check("ReadBatch", "WriteBatch")
def batches(ends: Ends) -> None:
    out = [ends.message(b"one"), ends.message(b"two"), Message(b"nowhere"), ends.message(b"no")]
    assert ends.here.write_batch(out) == 2
    with pytest.raises(OSError, match="Destination address required"):
        ends.here.write_batch(out[2:], 0)
    messages = new_messages(5)
    assert ends.there.read_batch(messages) == 2
    start = 20 if ends.raw else 0
    assert [message.data[start:] for message in messages[:2]] == [b"one", b"two"]
    assert [message.n for message in messages] == [start + 3] * 2 + [0] * 3
    assert messages[0].addr == ends.here.local_addr
    with pytest.raises(BlockingIOError):
        ends.there.read_batch(messages, socket.MSG_DONTWAIT)
    ends.there.timeout = 0
    with pytest.raises(BlockingIOError):
        ends.there.read_batch(messages)


@paragraph("Order of arguments")
@check("PacketConn.ReadFrom", "PacketConn.WriteTo")
def datagram(ends: Ends) -> None:
    ends.there.set_control_message(ControlFlags.TTL)
    address = ends.there.local_addr
    assert ends.here.write_to(b"datagram", address, ControlMessage(ttl=3)) == 8
    buffer = bytearray(4)
    n, control, peer = ends.there.read_from(buffer, socket.MSG_TRUNC)
    assert (n, control.ttl, peer, buffer) == (8, 3, ends.here.local_addr, b"data")


@paragraph("Results", "Short packets")
@check("RawConn.ReadFrom", "RawConn.WriteTo")
def packet(ends: Ends) -> None:
    header = Header(ttl=3, protocol=PROTOCOL, dst=HOSTS[1], options=b"\1\1\1\0")
    assert ends.here.write_to(header, b"datagram") == 8
    arrived, payload, control = ends.there.read_from(bytearray(26))
    assert (arrived.len, arrived.ttl, arrived.dst) == (24, 3, HOSTS[1])
    assert (bytes(payload), control) == (b"da", None)
    # The kernel looks at the control message's destination: broadcast takes SO_BROADCAST.
    with pytest.raises(PermissionError):
        ends.here.write_to(header, b"datagram", ControlMessage(dst="127.255.255.255"))


@check("Message", *(f"Message.{name}" for name in MEMBERS["Message"].split()))
def message(ends: Ends) -> None:
    ends.there.set_control_message(ControlFlags.TTL)
    ends.here.write_batch([Message([b"ab", b"cd"], addr=ends.there.local_addr)])
    parts, oob = [bytearray(3), bytearray(4)], bytearray(100)
    got = Message(buffers=parts, oob=oob, addr=None)
    assert (got.buffers, got.oob, got.addr) == (tuple(parts), oob, None)
    ends.there.read_batch([got])
    assert parts == [b"abc", b"d\0\0\0"]
    assert (got.n, got.nn, got.flags) == (4, socket.CMSG_SPACE(4), 0)
    assert got.addr == ends.here.local_addr
    assert ControlMessage(ttl=64).marshal() == bytes(oob[: got.nn])
    for attribute in ("n", "nn", "flags"):
        with pytest.raises(AttributeError):
            setattr(got, attribute, 1)
    got.buffers, got.oob = bytearray(1), None
    assert (got.buffers, got.oob) == ((b"\0",), None)


# Control messages and headers


@check("ControlMessage", *(f"ControlMessage.{n}" for n in MEMBERS["ControlMessage"].split()))
def control_message(ends: Ends) -> None:
    control = ControlMessage(ttl=64, src="127.0.0.1", dst="10.0.0.1", ifindex=3)
    assert (control.ttl, control.src) == (64, "127.0.0.1")
    assert (control.dst, control.ifindex) == ("10.0.0.1", 3)
    assert str(control) == "ttl=64 src=127.0.0.1 dst=10.0.0.1 ifindex=3"
    assert str(ControlMessage(tos=1)) == "ttl=0 src=<nil> dst=<nil> ifindex=0 tos=1"
    path = struct.pack("=i4s4s", 3, socket.inet_aton("127.0.0.1"), bytes(4))
    assert ControlMessage(src="127.0.0.1", ifindex=3).marshal() == item(IP_PKTINFO, path)
    assert control.marshal() == item(socket.IP_TTL, struct.pack("=i", 64)) + item(IP_PKTINFO, path)
    assert ControlMessage(dst="10.0.0.1").marshal() == b""
    control.parse(item(IP_PKTINFO, struct.pack("=i4s4s", 5, bytes(4), b"\x0a\0\0\2")))
    assert control == ControlMessage(ttl=64, src="127.0.0.1", dst="10.0.0.2", ifindex=5)
    with pytest.raises(ValueError, match="short buffer"):
        control.parse(item(socket.IP_TTL, b"\1")[:16])
    extra = ControlMessage(tos=1, timestamp_ns=2, drops=3, segment_size=4)
    assert (extra.tos, extra.timestamp_ns, extra.drops, extra.segment_size) == (1, 2, 3, 4)


def item(kind: int, data: bytes) -> bytes:
    """A control message of the level of IP (cmsg(3))."""
    head = struct.pack("@Nii", socket.CMSG_LEN(len(data)), socket.IPPROTO_IP, kind)
    return (head + data).ljust(socket.CMSG_SPACE(len(data)), b"\0")


GOLDEN = bytes.fromhex("4501beefcafe45dcff01deadac10fefec0a80001")
FIELDS: dict[str, tuple[str, Any, Any]] = {
    "TOS": ("tos", 1, 255),
    "TotalLen": ("total_len", 0xBEEF, 0),
    "ID": ("id", 0xCAFE, 1),
    "Flags": ("flags", 2, 7),
    "FragOff": ("frag_off", 1500, 8191),
    "TTL": ("ttl", 255, 0),
    "Protocol": ("protocol", 1, 255),
    "Checksum": ("checksum", 0xDEAD, 0),
    "Src": ("src", "172.16.254.254", "0.0.0.0"),
    "Dst": ("dst", "192.168.0.1", "1.2.3.4"),
    "Options": ("options", b"", b"\1" * 40),
}


def header_field(attribute: str, golden: Any, other: Any, ends: Ends) -> None:
    header = parse_header(GOLDEN)
    assert getattr(header, attribute) == golden
    setattr(header, attribute, other)
    assert getattr(parse_header(header.marshal()), attribute) == other
    assert header != parse_header(GOLDEN)


for _name, _field in FIELDS.items():
    check(f"Header.{_name}")(partial(header_field, *_field))


@check("Header", "ParseHeader", *(f"Header.{n}" for n in ("Marshal", "Parse", "String")))
def header(ends: Ends) -> None:
    parsed = parse_header(GOLDEN + b"payload")
    again = Header()
    again.parse(GOLDEN)
    assert again == parsed
    assert parsed.marshal() == GOLDEN
    assert str(parsed) == (
        "ver=4 hdrlen=20 tos=0x1 totallen=48879 id=0xcafe flags=0x2 fragoff=0x5dc ttl=255 "
        "proto=1 cksum=0xdead src=172.16.254.254 dst=192.168.0.1"
    )
    with pytest.raises(ValueError, match="header too short"):
        parse_header(GOLDEN[:19])
    with pytest.raises(ValueError, match="header too short"):
        Header(len=19).marshal()
    with pytest.raises(ValueError, match="missing address"):
        Header().marshal()


@paragraph("Headers")
@check("Header.Version", "Header.Len")
def header_version_and_length(ends: Ends) -> None:
    header = parse_header(GOLDEN)
    header.options = bytes(8)
    assert (header.version, header.len, len(header.marshal())) == (4, 28, 28)
    with pytest.raises(ValueError, match="version"):
        header.version = 6


# ICMP

ICMP_TEXTS = """
0 echo reply, 3 destination unreachable, 5 redirect, 8 echo, 9 router advertisement,
10 router solicitation, 11 time exceeded, 12 parameter problem, 13 timestamp,
14 timestamp reply, 40 photuris, 42 extended echo request, 43 extended echo reply
"""


@paragraph("ICMP types")
@check("ICMPType", "ICMPType.String", "ICMPType.Protocol")
def icmp_type(ends: Ends) -> None:
    texts = ", ".join(f"{each:d} {each}" for each in ICMPType)
    assert texts == " ".join(ICMP_TEXTS.split())
    assert {each.protocol for each in ICMPType} == {1}
    with pytest.raises(ValueError, match="200"):
        ICMPType(200)


@paragraph("Types over 31")
@check("ICMPFilter", *(f"ICMPFilter.{name}" for name in MEMBERS["ICMPFilter"].split()))
def icmp_filter_of_types(ends: Ends) -> None:
    made = ICMPFilter()
    assert made == ICMPFilter(0)
    assert made != ICMPFilter(1)
    made.set_all(True)
    made.accept(ICMPType.ECHO)
    assert [kind for kind in range(32) if not made.will_block(kind)] == [8]
    made.set_all(False)
    made.block(ICMPType.ECHO)
    assert [kind for kind in range(32) if made.will_block(kind)] == [8]
    for method in (made.accept, made.block, made.will_block):
        with pytest.raises(ValueError, match="out of range"):
            method(ICMPType.PHOTURIS)
    assert made == ICMPFilter(1 << 8)


# The paragraphs that no row tells in full


@paragraph("Attributes")
def attributes(ends: Ends) -> None:
    ends.here.ttl = 5
    assert ends.here.ttl == 5


@paragraph("Addresses")
def addresses(ends: Ends) -> None:
    packed = socket.inet_aton(HOSTS[1])
    for host in (HOSTS[1], ipaddress.IPv4Address(HOSTS[1]), packed):
        assert Message(addr=(host, 0)).addr == (HOSTS[1], 0)
    with pytest.raises(ValueError, match="resolve a name first"):
        Message(addr=("localhost", 1))
    assert ends.raw
    assert ends.here.local_addr == (HOSTS[0], 0)


@paragraph("Messages")
def messages_in_use(ends: Ends) -> None:
    [message] = messages = new_messages(1)
    with pytest.raises(ValueError, match="cannot fill twice"):
        ends.there.read_batch(messages * 2)
    call = Call(ends.there.read_batch, messages).wait_until_waiting()
    with pytest.raises(RuntimeError, match="in use"):
        message.buffers = b""
    ends.send(b"x")
    assert call.result() == 1
    for attribute in ("n", "nn", "flags", "errno"):
        with pytest.raises(AttributeError):
            setattr(message, attribute, 1)


@paragraph("Length with options")
def length_with_options(ends: Ends) -> None:
    with PacketConn(open_raw(PROTOCOL, HOSTS[1])) as reader:
        header = Header(ttl=1, protocol=PROTOCOL, dst=HOSTS[1], options=bytes(8))
        ends.here.write_to(header, b"payload")
        buffer = bytearray(100)
        n, _, _ = reader.read_from(buffer)
        assert (n, buffer[:n]) == (7, b"payload")


@paragraph("Empty batches")
def empty_batches(ends: Ends) -> None:
    for batch in (ends.here.read_batch, ends.here.write_batch, ends.here.write_all):
        assert batch([]) == 0
    with pytest.raises(ValueError, match="0 instructions"):
        ends.here.set_bpf([])


@paragraph("Options of a header", "Numbers out of range")
def what_is_cut(ends: Ends) -> None:
    header = parse_header(GOLDEN)
    for options in (bytes(3), bytes(44)):
        with pytest.raises(ValueError, match="options"):
            header.options = options
    for attribute, most in {"tos": 255, "id": 65535, "flags": 7, "frag_off": 8191}.items():
        with pytest.raises(ValueError, match=f"{attribute}: .* out of range, 0 to {most}"):
            setattr(header, attribute, most + 1)
    with pytest.raises(ValueError, match="ttl: 256 is out of range"):
        ControlMessage(ttl=256)
    assert header == parse_header(GOLDEN)


@paragraph("Stale options", "Lax parsing")
def parsing(ends: Ends) -> None:
    header = Header(dst="192.0.2.1", options=bytes(8))
    header.parse(GOLDEN)
    assert (header.options, header.len) == (b"", 20)
    for first, text in ((0x44, "invalid header length"), (0x65, "version 6 is not 4")):
        with pytest.raises(ValueError, match=text):
            header.parse(bytes([first]) + GOLDEN[1:])


@paragraph("TTL of one byte")
def ttl_by_length(ends: Ends) -> None:
    control = ControlMessage()
    for data in (b"\x40", struct.pack("=i", 64)):
        control.ttl = 0
        control.parse(item(socket.IP_TTL, data))
        assert control.ttl == 64


@paragraph("Allocation in a batch")
def allocation(ends: Ends) -> None:
    out = [ends.message(b"x") for _ in range(64)]
    messages = new_messages(64)
    for traced in (False, True):  # the connection keeps the arrays of its first call
        if traced:
            tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            count = ends.here.write_batch(out), ends.there.read_batch(messages)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert count == (64, 64)
        assert peak - before < 1000
