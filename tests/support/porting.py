"""docs/porting-from-go.rst: its rows and paragraphs, and what the checks of them work on."""

import os
import pathlib
import re
import socket
from collections.abc import Callable
from typing import Any, NamedTuple

import ipv4batch
from ipv4batch import (
    Conn,
    ControlFlags,
    ControlMessage,
    Header,
    Message,
    RawConn,
)
from support.net import LIMIT, open_raw, own_host

PAGE = (pathlib.Path(__file__).parent.parent.parent / "docs/porting-from-go.rst").read_text()

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


# What the checks work on

PROTOCOL = 254  # for experiments (RFC 3692)
GROUP = "239.41.59.26"
HOSTS = (own_host(19), own_host(20))
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
