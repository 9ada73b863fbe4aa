"""The value types that the threads of support/hammer.py share, and what they do to them."""

import random
import socket
import struct

from ipv4batch import (
    ControlFlags,
    ControlMessage,
    Header,
    ICMPFilter,
    Message,
    checksum,
    new_messages,
    parse_header,
)


def whole_headers() -> list[Header]:
    """Headers that differ in each attribute."""
    return [
        Header(
            tos=n, total_len=n, id=n, flags=n, frag_off=n, ttl=n, protocol=n, checksum=n,
            src=f"10.0.0.{n}", dst=f"10.0.1.{n}", options=bytes([n]) * 4 * n,
        )
        for n in range(1, 6)
    ]  # fmt: skip


def whole_controls() -> list[ControlMessage]:
    """Control messages that differ in each attribute that parse() fills from marshal()'s bytes."""
    return [
        ControlMessage(ttl=n, dst=f"10.0.0.{n}", ifindex=n, tos=n, drops=n, segment_size=n)
        for n in range(1, 6)
    ]


def control_bytes(control: ControlMessage) -> bytes:
    """What a kernel would deliver that says this."""
    items = [
        (socket.IPPROTO_IP, socket.IP_TTL, struct.pack("=i", control.ttl)),
        (
            socket.IPPROTO_IP,
            8,  # IP_PKTINFO
            struct.pack("=i", control.ifindex) + 2 * socket.inet_aton(str(control.dst)),
        ),
        (socket.IPPROTO_IP, socket.IP_TOS, struct.pack("=B", control.tos)),
        (socket.SOL_SOCKET, 40, struct.pack("=I", control.drops)),  # SO_RXQ_OVFL
        (socket.IPPROTO_UDP, 104, struct.pack("=i", control.segment_size)),  # UDP_GRO
    ]
    return b"".join(
        struct.pack("@Nii", 16 + len(data), level, kind) + data + bytes(-len(data) % 8)
        for level, kind, data in items
    )


class Values:
    """A part of the Hammer: headers, control messages, a filter and addresses."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.headers = [(str(h), repr(h), h.marshal()) for h in whole_headers()]
        self.header = parse_header(self.headers[0][2])
        self.controls = [(str(c), repr(c), control_bytes(c)) for c in whole_controls()]
        self.control = ControlMessage()
        self.control.parse(self.controls[0][2])
        self.loose_header = Header()
        self.loose_control = ControlMessage()
        self.filter = ICMPFilter()
        self.bits: dict[random.Random, int] = {}

    def do_header(self, r: random.Random) -> None:
        """Each change gives it all of its attributes, so that it is always one of a few."""
        self.header.parse(r.choice(self.headers)[2])
        texts, reprs, whole = zip(*self.headers, strict=True)
        assert str(self.header) in texts
        assert repr(self.header) in reprs
        assert self.header.marshal() in whole
        assert Header(*self.header.__getnewargs__()).marshal() in whole
        assert self.header != Header()

    def do_header_attributes(self, r: random.Random) -> None:
        header = self.loose_header
        header.src = r.choice([None, "10.0.0.1"])
        header.dst = "10.0.0.2"
        header.options = bytes(4 * r.randrange(11))
        header.ttl = r.randrange(256)
        assert header.src in (None, "10.0.0.1")
        assert len(header.options) % 4 == 0
        assert header.marshal()[0] >> 4 == 4

    def do_control(self, r: random.Random) -> None:
        self.control.parse(r.choice(self.controls)[2])
        texts, reprs, _ = zip(*self.controls, strict=True)
        assert str(self.control) in texts
        assert repr(self.control) in reprs
        n = self.control.ttl
        assert n in range(1, 6)
        assert len(self.control.marshal()) > 0

    def do_control_attributes(self, r: random.Random) -> None:
        control = self.loose_control
        control.tos = r.choice([None, 3, 255])
        control.dscp = r.randrange(64)
        control.ecn = r.randrange(4)
        control.src = r.choice([None, "10.0.0.1"])
        control.timestamp_ns = r.choice([None, 2**62])
        assert control.timestamp_ns in (None, 2**62)
        assert control.src in (None, "10.0.0.1")
        assert control.ecn in (None, 0, 1, 2, 3)

    def do_filter(self, r: random.Random) -> None:
        """The bits of others are left alone: each thread has one of its own."""
        bit = self.bits[r]
        self.filter.block(bit)
        assert self.filter.will_block(bit)
        assert repr(self.filter).startswith("ICMPFilter(0x")
        self.filter.accept(bit)
        assert not self.filter.will_block(bit)
        assert not self.filter.blocked >> self.threads

    def do_addresses(self, r: random.Random) -> None:
        """The table of addresses is the module's."""
        message = Message()
        for _ in range(20):
            addr = (f"10.0.{r.randrange(8)}.{r.randrange(256)}", r.randrange(65536))
            message.addr = addr
            assert message.addr == addr
            assert message.addr is message.addr

    def do_functions(self, r: random.Random) -> None:
        data = r.choice(self.headers)[2]
        assert 0 <= checksum(data) <= 65535
        assert parse_header(data).marshal() == data
        assert len(new_messages(3, 100, ControlFlags.TTL)) == 3
