"""Checks of the rows of docs/porting-from-go.rst: constants, connections and their options."""

import socket
import struct
import time
from functools import partial

import pytest

from ipv4batch import (
    Conn,
    ControlFlags,
    HeaderFlags,
    ICMPFilter,
    PacketConn,
    RawConn,
    new_control_message,
)
from support.net import LIMIT, open_raw, open_udp
from support.porting import (
    ALL,
    BOTH,
    GROUP,
    HOSTS,
    ICMP_FILTER,
    IP_HDRINCL,
    PROTOCOL,
    ROWS,
    SOL_RAW,
    VALUES,
    Ends,
    check,
    paragraph,
    resolve,
)

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
