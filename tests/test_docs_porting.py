"""docs/porting-from-go.rst against the package: a row for every name of Go's, and each row true."""

import contextlib
import ipaddress
import os
import pathlib
import re
import socket
import struct
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytest
from support_net import LIMIT, Call, open_raw, open_udp

import ipv4batch
from ipv4batch import (
    Conn,
    ControlFlags,
    ControlMessage,
    Header,
    HeaderFlags,
    ICMPFilter,
    ICMPType,
    Message,
    PacketConn,
    RawConn,
    new_control_message,
    new_messages,
    parse_header,
)

PAGE = (pathlib.Path(__file__).parent.parent / "docs/porting-from-go.rst").read_text()

BOTH = ("PacketConn", "RawConn")
_OF_BOTH = """
    TOS SetTOS TTL SetTTL SetControlMessage SetDeadline SetReadDeadline SetWriteDeadline Close
    LocalAddr ReadFrom WriteTo ReadBatch WriteBatch MulticastTTL SetMulticastTTL
    MulticastLoopback SetMulticastLoopback MulticastInterface SetMulticastInterface
    JoinGroup LeaveGroup JoinSourceSpecificGroup LeaveSourceSpecificGroup
    ExcludeSourceSpecificGroup IncludeSourceSpecificGroup ICMPFilter SetICMPFilter SetBPF
"""
OF_BOTH = _OF_BOTH.split()
MEMBERS = {
    "Conn": "TOS SetTOS TTL SetTTL",
    "Message": "Buffers OOB Addr N NN Flags",
    "ControlMessage": "TTL Src Dst IfIndex Marshal Parse String",
    "Header": "Version Len TOS TotalLen ID Flags FragOff TTL Protocol Checksum Src Dst Options "
    "Marshal Parse String",
    "ICMPType": "String Protocol",
    "ICMPFilter": "Accept Block SetAll WillBlock",
}
_VALUES = """
    Version 4 HeaderLen 20 MoreFragments 1 DontFragment 2
    FlagTTL 1 FlagSrc 2 FlagDst 4 FlagInterface 8
    ICMPTypeEchoReply 0 ICMPTypeDestinationUnreachable 3 ICMPTypeRedirect 5 ICMPTypeEcho 8
    ICMPTypeRouterAdvertisement 9 ICMPTypeRouterSolicitation 10 ICMPTypeTimeExceeded 11
    ICMPTypeParameterProblem 12 ICMPTypeTimestamp 13 ICMPTypeTimestampReply 14
    ICMPTypePhoturis 40 ICMPTypeExtendedEchoRequest 42 ICMPTypeExtendedEchoReply 43
"""
VALUES = {name: int(value) for name, value in re.findall(r"(\w+) (\d+)", _VALUES)}
_OTHERS = """
    HeaderFlags ControlFlags Conn PacketConn RawConn Message ControlMessage Header ICMPType
    ICMPFilter NewConn NewPacketConn NewRawConn NewControlMessage ParseHeader
"""
GO_NAMES = [
    *VALUES,
    *_OTHERS.split(),
    *(f"{kind}.{name}" for kind in BOTH for name in OF_BOTH),
    *(f"{kind}.{name}" for kind, names in MEMBERS.items() for name in names.split()),
]


class Row(NamedTuple):
    here: str
    same: str


def rows() -> dict[str, Row]:
    """The tables of the page by Go's name; a table for both types has rows for each."""
    found: dict[str, Row] = {}
    for table in PAGE.split(".. csv-table::")[1:]:
        kinds = [kind + "." for kind in BOTH] if ":name: of-both" in table else [""]
        for line in re.findall(r"(?m)^   (``.*)$", table):
            names, here, same = (cell.strip() for cell in line.split("|"))
            for kind in kinds:
                for name in re.findall(r"``([\w.]+)``", names):
                    assert kind + name not in found, f"{name} has two rows"
                    found[kind + name] = Row(kind + here.strip("`"), same)
    return found


ROWS = rows()
PARAGRAPHS = re.findall(r"(?m)^\*\*([^*]+)\.\*\*", PAGE)


def resolve(path: str) -> Any:
    value: Any = ipv4batch
    for part in path.split("."):
        value = getattr(value, part)
    return value


def test_every_name_of_go_has_its_row() -> None:
    assert len(GO_NAMES) == len(set(GO_NAMES))
    assert sorted(ROWS) == sorted(GO_NAMES)


@pytest.mark.parametrize("name", GO_NAMES)
def test_the_name_in_the_row_exists(name: str) -> None:
    assert resolve(ROWS[name].here) is not None
    assert ROWS[name].same


def spelled(name: str) -> str:
    """A member's name as Python spells it; a setter is the attribute of its getter."""
    getter = name.removeprefix("Set")
    name = getter if getter in OF_BOTH else name
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
    return {"string": "__str__", "if_index": "ifindex"}.get(words, words)


@pytest.mark.parametrize("name", [name for name in GO_NAMES if "." in name])
def test_a_member_is_spelled_as_the_others_are(name: str) -> None:
    kind, _, member = name.partition(".")
    assert ROWS[name].here == f"{kind}.{spelled(member)}"


@pytest.mark.parametrize("name", _OTHERS.split())
def test_a_type_or_function_is_spelled_as_the_others_are(name: str) -> None:
    function = name in ("NewControlMessage", "ParseHeader")
    assert ROWS[name].here == (spelled(name) if function else name.removeprefix("New"))


# What the checks work on

PROTOCOL = 254  # for experiments (RFC 3692)
GROUP = "239.41.59.26"
HOSTS = ("127.41.59.1", "127.41.59.2")
ALL = ControlFlags.TTL | ControlFlags.SRC | ControlFlags.DST | ControlFlags.INTERFACE
# From the headers of Linux; socket has the first from Python 3.12 on.
IP_PKTINFO, IP_MULTICAST_ALL, IP_HDRINCL, SOL_RAW, ICMP_FILTER = 8, 49, 3, 255, 1


class Ends:
    """Two connections of a kind, the first of which sends to the second."""

    def __init__(self, kind: str) -> None:
        self.kind: Any = getattr(ipv4batch, kind)
        self.raw = self.kind is RawConn
        sockets = [self.open(host) for host in HOSTS]
        self.sock = sockets[0]
        self.here, self.there = (self.kind(sock) for sock in sockets)

    def open(self, host: str) -> socket.socket:
        if self.raw:
            return open_raw(PROTOCOL, host)
        stream = self.kind is Conn
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM)
        sock.settimeout(LIMIT)
        sock.bind((host, 0))
        return sock

    def close(self) -> None:
        self.here.close()
        self.there.close()

    def send(self, data: bytes, to: str = HOSTS[1], src: str | None = None) -> None:
        if self.raw:
            header = Header(ttl=9, protocol=PROTOCOL, src=src, dst=to)
            # The kernel looks up the route with the source of the control message.
            assert self.here.write_to(header, data, ControlMessage(src=src)) == len(data)
        else:
            endpoint = (to, self.there.local_addr[1])
            control = ControlMessage(ttl=9, src=src)
            assert self.here.write_to(data, endpoint, control) == len(data)

    def message(self, data: bytes) -> Message:
        header = Header(ttl=9, protocol=PROTOCOL, dst=HOSTS[1]).marshal() if self.raw else b""
        return Message([header, data], addr=self.there.local_addr)

    def receive(self, flags: int = 0) -> tuple[bytes, ControlMessage | None]:
        buffer = bytearray(100)
        first, second, third = self.there.read_from(buffer, flags)
        return (bytes(second), third) if self.raw else (bytes(buffer[:first]), second)

    def listen_to_groups(self) -> Any:
        """The second takes unicast to any address, and of groups what it joins itself."""
        self.there.close()
        sock = self.open("0.0.0.0")
        sock.setsockopt(socket.IPPROTO_IP, IP_MULTICAST_ALL, 0)
        self.there = self.kind(sock)
        self.here.multicast_interface = "lo"
        return self.there

    def heard(self) -> list[str]:
        """Send to the group from three sources, and tell which of them arrive."""
        sources = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
        mark = os.urandom(8)  # what others send meanwhile does not count
        for source in sources:
            self.send(mark + source.encode(), GROUP, source)
        self.send(mark + b"end", "127.0.0.1")
        found = []
        while (data := self.receive()[0]) != mark + b"end":
            if data.startswith(mark):
                found.append(data[len(mark) :].decode()[-1])
        return found


Check = Callable[[Ends], None]
CHECKS: dict[str, Check] = {}


def check(*names: str) -> Callable[[Check], Check]:
    """Register a check for rows; a name without a type is one of both."""

    def register(function: Check) -> Check:
        for name in names:
            both = name in OF_BOTH and name != "ICMPFilter"
            for full in [f"{kind}.{name}" for kind in BOTH] if both else [name]:
                assert full not in CHECKS
                CHECKS[full] = function
        return function

    return register


PARAGRAPH_CHECKS: dict[str, Check] = {}


def paragraph(*leads: str) -> Callable[[Check], Check]:
    """Register a check for the paragraphs that begin with these words."""

    def register(function: Check) -> Check:
        PARAGRAPH_CHECKS.update(dict.fromkeys(leads, function))
        return function

    return register


# Constants, types and functions


def is_value(name: str, value: int, ends: Ends) -> None:
    assert resolve(ROWS[name].here) == value


for _name, _value in VALUES.items():
    check(_name)(partial(is_value, _name, _value))


@check("HeaderFlags")
def header_flags(ends: Ends) -> None:
    assert HeaderFlags(3) == HeaderFlags.MORE_FRAGMENTS | HeaderFlags.DONT_FRAGMENT == 3


@check("ControlFlags")
def control_flags(ends: Ends) -> None:
    assert list(ControlFlags)[:4] == [1, 2, 4, 8]
    assert len(ControlFlags) == 8


@check("NewConn")
def new_conn(ends: Ends) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        assert Conn(sock).ttl == Conn(sock.fileno()).ttl == 64
    with pytest.raises(TypeError, match="sock"):
        Conn("tcp")  # type: ignore[arg-type]


@paragraph("Sockets")
@check("NewPacketConn")
def new_packet_conn(ends: Ends) -> None:
    assert PacketConn(ends.sock.fileno()).local_addr == PacketConn(ends.sock).local_addr
    with socket.socket() as tcp, pytest.raises(ValueError, match="SOCK_DGRAM or SOCK_RAW"):
        PacketConn(tcp)


@check("NewRawConn")
def new_raw_conn(ends: Ends) -> None:
    with open_raw(PROTOCOL, HOSTS[0]) as sock:
        assert sock.getsockopt(socket.IPPROTO_IP, IP_HDRINCL) == 0
        RawConn(sock)
        assert sock.getsockopt(socket.IPPROTO_IP, IP_HDRINCL) == 1
        assert RawConn(sock.fileno()).local_addr == (HOSTS[0], 0)
    with open_udp() as udp, pytest.raises(ValueError, match="SOCK_RAW"):
        RawConn(udp.fileno())


@check("NewControlMessage")
def make_control_message(ends: Ends) -> None:
    for flags in range(16):
        made = new_control_message(flags)
        assert type(made) is bytearray
        int_space, path_space = socket.CMSG_SPACE(4), socket.CMSG_SPACE(12)
        assert len(made) == bool(flags & 1) * int_space + bool(flags & 14) * path_space


@check("Conn")
def conn(ends: Ends) -> None:
    with Conn(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as tcp:
        tcp.set_deadline(time.monotonic())
        assert not isinstance(tcp, PacketConn)


@check(*BOTH)
def a_connection_of_datagrams(ends: Ends) -> None:
    assert isinstance(ends.here, Conn)
    assert ends.here.write_all([ends.message(b"more")] * 3) == 3
    assert [ends.receive()[0] for _ in range(3)] == [b"more"] * 3


# Options

OPTIONS = {
    "TOS": ("tos", socket.IP_TOS, 0x48),
    "TTL": ("ttl", socket.IP_TTL, 9),
    "MulticastTTL": ("multicast_ttl", socket.IP_MULTICAST_TTL, 7),
    "MulticastLoopback": ("multicast_loopback", socket.IP_MULTICAST_LOOP, 0),
}


def option_is_read(attribute: str, option: int, value: int, ends: Ends) -> None:
    assert getattr(ends.here, attribute) != value
    ends.sock.setsockopt(socket.IPPROTO_IP, option, value)
    assert getattr(ends.here, attribute) == value


def option_is_set(attribute: str, option: int, value: int, ends: Ends) -> None:
    setattr(ends.here, attribute, value)
    assert ends.sock.getsockopt(socket.IPPROTO_IP, option) == value


for _name, _option in OPTIONS.items():
    _of_conn = [f"Conn.{_name}", f"Conn.Set{_name}"] if _name in ("TOS", "TTL") else []
    check(_name, *_of_conn[:1])(partial(option_is_read, *_option))
    check(f"Set{_name}", *_of_conn[1:])(partial(option_is_set, *_option))


@check("MulticastInterface")
def multicast_interface(ends: Ends) -> None:
    assert ends.here.multicast_interface is None
    request = socket.inet_aton("127.0.0.1")
    ends.sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, request)
    assert ends.here.multicast_interface == socket.if_nametoindex("lo")


@paragraph("Interfaces")
@check("SetMulticastInterface")
def set_multicast_interface(ends: Ends) -> None:
    for interface in ("lo", socket.if_nametoindex("lo")):
        ends.here.multicast_interface = interface
        assert ends.here.multicast_interface == socket.if_nametoindex("lo")
        ends.here.multicast_interface = None
        assert ends.here.multicast_interface is None


@paragraph("Control flags", "Flags that share an option")
@check("SetControlMessage")
def set_control_message(ends: Ends) -> None:
    ends.there.set_control_message(ALL)
    ends.there.set_control_message(ControlFlags.DST | ControlFlags.SRC, False)
    assert ends.there.control_flags == ControlFlags.TTL | ControlFlags.INTERFACE
    ends.send(b"x")
    control = ends.receive()[1]
    assert control is not None
    assert (control.ttl, control.src, control.dst) == (9, HOSTS[0], HOSTS[1])
    assert control.ifindex == socket.if_nametoindex("lo")
    ends.there.set_control_message(ALL, False)
    ends.send(b"x")
    assert ends.receive() == (b"x", None)


@paragraph("Deadlines")
@check("SetDeadline", "SetReadDeadline")
def read_deadline(ends: Ends) -> None:
    for setter in (ends.there.set_deadline, ends.there.set_read_deadline):
        setter(time.monotonic() - 1)
        ends.send(b"here")
        assert ends.receive()[0] == b"here"
        with pytest.raises(TimeoutError):
            ends.receive()
        setter(None)
        ends.there.timeout = 0.01
        start = time.monotonic()
        with pytest.raises(TimeoutError):
            ends.receive()
        assert time.monotonic() - start >= 0.01
        ends.there.timeout = LIMIT


@check("SetWriteDeadline")
def write_deadline(ends: Ends) -> None:
    """It ends no read, and no write that needs no wait."""
    ends.here.set_write_deadline(0)
    ends.there.set_write_deadline(0)
    ends.there.timeout = 0.01
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        ends.receive()
    assert time.monotonic() - start >= 0.01
    ends.send(b"sent")
    assert ends.receive()[0] == b"sent"


@check("Close")
def close(ends: Ends) -> None:
    borrowed = ends.kind(ends.sock.fileno())
    borrowed.close()
    assert borrowed.fileno() == -1
    assert ends.sock.fileno() != -1
    for _ in range(2):
        ends.here.close()
    assert ends.sock.fileno() == ends.here.fileno() == -1


@check("LocalAddr")
def local_addr(ends: Ends) -> None:
    port = 0 if ends.raw else ends.sock.getsockname()[1]
    assert ends.here.local_addr == (HOSTS[0], port)


@check(*(f"{kind}.{get}ICMPFilter" for kind in BOTH for get in ("", "Set")))
def icmp_filter(ends: Ends) -> None:
    with open_raw(socket.IPPROTO_ICMP, HOSTS[0]) as sock:
        conn = ends.kind(sock)
        assert conn.icmp_filter == ICMPFilter()
        conn.icmp_filter = ICMPFilter(5)
        assert conn.icmp_filter == ICMPFilter(5)
        assert sock.getsockopt(SOL_RAW, ICMP_FILTER) == 5


@check("SetBPF")
def set_bpf(ends: Ends) -> None:
    nothing = [(6, 0, 0, 0)]
    for program in (nothing, "1\n6 0 0 0\n", struct.pack("=HBBI", *nothing[0])):
        ends.there.set_bpf(program)
        ends.send(b"dropped")
        ends.there.set_bpf(None)
        ends.send(b"passes")
        assert ends.receive()[0] == b"passes"


@check("JoinGroup", "LeaveGroup", "ExcludeSourceSpecificGroup", "IncludeSourceSpecificGroup")
def group(ends: Ends) -> None:
    there = ends.listen_to_groups()
    assert ends.heard() == []
    there.join_group("lo", GROUP)
    assert ends.heard() == ["1", "2", "3"]
    there.exclude_source_specific_group(socket.if_nametoindex("lo"), GROUP, "127.0.0.2")
    assert ends.heard() == ["1", "3"]
    there.include_source_specific_group("lo", GROUP, "127.0.0.2")
    assert ends.heard() == ["1", "2", "3"]
    there.leave_group("lo", GROUP)
    assert ends.heard() == []


@check("JoinSourceSpecificGroup", "LeaveSourceSpecificGroup")
def source_specific_group(ends: Ends) -> None:
    there = ends.listen_to_groups()
    there.join_source_specific_group("lo", GROUP, "127.0.0.1")
    there.join_source_specific_group("lo", GROUP, "127.0.0.3")
    assert ends.heard() == ["1", "3"]
    there.leave_source_specific_group("lo", GROUP, "127.0.0.1")
    assert ends.heard() == ["3"]


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


# The rows and the paragraphs

NEED_RAW = {"NewRawConn", "PacketConn.ICMPFilter", "PacketConn.SetICMPFilter"}
ON_RAW = {"Addresses", "Results", "Short packets", "Length with options"}


def test_every_row_has_its_check() -> None:
    assert sorted(CHECKS) == sorted(ROWS)


def test_every_paragraph_has_its_check() -> None:
    assert sorted(PARAGRAPH_CHECKS) == sorted(PARAGRAPHS)


def run(kind: str, function: Check) -> None:
    with contextlib.closing(Ends(kind)) as ends:
        function(ends)


@pytest.mark.parametrize("name", CHECKS)
def test_a_row_is_true(name: str, request: pytest.FixtureRequest) -> None:
    kind = name.partition(".")[0]
    if kind == "RawConn" or name in NEED_RAW:
        request.getfixturevalue("needs_raw")
    run(kind if kind in ("Conn", *BOTH) else "PacketConn", CHECKS[name])


@pytest.mark.parametrize("lead", PARAGRAPH_CHECKS)
def test_a_paragraph_is_true(lead: str, request: pytest.FixtureRequest) -> None:
    if lead in ON_RAW:
        request.getfixturevalue("needs_raw")
    run("RawConn" if lead in ON_RAW else "PacketConn", PARAGRAPH_CHECKS[lead])
