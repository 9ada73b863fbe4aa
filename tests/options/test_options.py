"""tos, ttl and the flags of control messages, and on the wire as a raw socket sees it."""

import errno
import re
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.net import LIMIT, open_raw, open_udp, own_host

from ipv4batch import Conn, ControlFlags, ControlMessage, PacketConn, RawConn

HERE = own_host(6)
GOS = ControlFlags.TTL | ControlFlags.SRC | ControlFlags.DST | ControlFlags.INTERFACE

# From linux/in.h; socket has them from Python 3.12 and 3.14 on.
IP_PKTINFO, IP_RECVTTL = 8, 12


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server((HERE, 0)) as listener:
        client = socket.create_connection(listener.getsockname(), LIMIT, (HERE, 0))
        server, _ = listener.accept()
    return client, server


@pytest.fixture
def udp() -> Iterator[PacketConn]:
    with open_udp(HERE) as conn:
        yield conn


@pytest.fixture
def tcp() -> Iterator[Conn]:
    client, server = tcp_pair()
    with server, Conn(client) as conn:
        yield conn


@pytest.fixture
def raw(needs_raw: None) -> Iterator[PacketConn]:
    with PacketConn(open_raw(253, HERE)) as conn:
        yield conn


@pytest.fixture(params=["udp", "tcp", "raw"])
def conn(request: pytest.FixtureRequest) -> Conn:
    made: Conn = request.getfixturevalue(request.param)
    return made


def where(conn: Conn) -> str:
    """How an error calls this connection."""
    host, port = conn.local_addr
    if port == 0:
        return f"ip4:253 {host}"
    return f"{'udp4' if isinstance(conn, PacketConn) else 'tcp4'} {host}:{port}"


# The attributes


def test_options_start_as_the_systems(conn: Conn) -> None:
    assert conn.tos == 0
    assert conn.ttl == 64


@pytest.mark.parametrize(
    ("name", "option", "values"),
    [
        ("tos", socket.IP_TOS, [0x48, 0xFC, 0, ControlFlags.DST]),
        ("ttl", socket.IP_TTL, [1, 2, 128, 255]),
    ],
)
def test_an_option_is_the_sockets(conn: Conn, name: str, option: int, values: list[int]) -> None:
    twin = Conn(conn.fileno())
    with socket.socket(fileno=socket.dup(conn.fileno())) as sock:
        for value in values:
            setattr(conn, name, value)
            assert getattr(conn, name) == getattr(twin, name) == value
            assert sock.getsockopt(socket.IPPROTO_IP, option) == value
        sock.setsockopt(socket.IPPROTO_IP, option, 4)
        assert getattr(conn, name) == 4


def test_tcp_keeps_the_ecn_bits_to_itself(tcp: Conn) -> None:
    tcp.tos = 0x2B
    assert tcp.tos == 0x28


def test_tos_has_all_bits_on_udp(udp: PacketConn) -> None:
    for value in range(256):
        udp.tos = value
        assert udp.tos == value


@pytest.mark.parametrize(
    ("name", "value", "error", "text"),
    [
        ("tos", -1, ValueError, "tos: -1 is out of range, 0 to 255"),
        ("tos", 256, ValueError, "tos: 256 is out of range, 0 to 255"),
        ("tos", "8", TypeError, "tos: an int is required, not str"),
        ("tos", 8.0, TypeError, "tos: an int is required, not float"),
        ("ttl", 0, ValueError, "ttl: 0 is out of range, 1 to 255"),
        ("ttl", -1, ValueError, "ttl: -1 is out of range, 1 to 255"),
        ("ttl", 256, ValueError, "ttl: 256 is out of range, 1 to 255"),
        ("ttl", 1 << 70, ValueError, "is out of range, 1 to 255"),
        ("ttl", None, TypeError, "ttl: an int is required, not NoneType"),
    ],
)
def test_what_is_no_such_value_is_refused(
    conn: Conn, name: str, value: Any, error: type[Exception], text: str
) -> None:
    setattr(conn, name, 16)
    with pytest.raises(error, match=re.escape(text)):
        setattr(conn, name, value)
    with pytest.raises(TypeError, match=f"{name}: cannot be deleted"):
        delattr(conn, name)
    assert getattr(conn, name) == 16


@pytest.mark.parametrize("name", ["tos", "ttl"])
def test_a_closed_connection_has_no_options(conn: Conn, name: str) -> None:
    network = where(conn).split()[0]
    conn.close()
    text = f"The connection is closed: '{name} {network}'"
    with pytest.raises(OSError, match=re.escape(text)) as caught:
        getattr(conn, name)
    assert caught.value.errno == errno.EBADF
    with pytest.raises(OSError, match=re.escape(text)):
        setattr(conn, name, 1)


def test_a_socket_closed_behind_a_connection_is_an_error_of_the_option() -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    conn = PacketConn(sock)
    sock.close()
    with pytest.raises(OSError, match="'ttl udp4'") as caught:
        conn.ttl = 5
    assert caught.value.errno == errno.EBADF


# On the wire


@pytest.fixture
def wire(needs_raw: None) -> Iterator[Callable[[int, bytes], tuple[int, int]]]:
    """Gives the type of service and the TTL of the packet of a protocol that ends in a mark."""
    protocols = (socket.IPPROTO_UDP, socket.IPPROTO_TCP, 253)
    taps = {protocol: RawConn(open_raw(protocol, HERE)) for protocol in protocols}

    def seen(protocol: int, mark: bytes) -> tuple[int, int]:
        buffer = bytearray(200)
        while True:
            header, payload, _ = taps[protocol].read_from(buffer)
            if bytes(payload).endswith(mark):
                assert header.protocol == protocol
                return header.tos, header.ttl

    yield seen
    for tap in taps.values():
        tap.close()


Seen = Callable[[int, bytes], tuple[int, int]]


def test_udp_datagrams_carry_them(udp: PacketConn, wire: Seen) -> None:
    udp.write_to(b"plain", udp.local_addr)
    udp.tos, udp.ttl = 0xB9, 3
    udp.write_to(b"marked", udp.local_addr)
    udp.write_to(b"this one", udp.local_addr, ControlMessage(ttl=200))
    udp.write_to(b"again", udp.local_addr)
    assert wire(socket.IPPROTO_UDP, b"plain") == (0, 64)
    assert wire(socket.IPPROTO_UDP, b"marked") == (0xB9, 3)
    assert wire(socket.IPPROTO_UDP, b"this one") == (0xB9, 200)
    assert wire(socket.IPPROTO_UDP, b"again") == (0xB9, 3)


def test_raw_packets_carry_them(raw: PacketConn, wire: Seen) -> None:
    raw.tos, raw.ttl = 0xB9, 255
    raw.write_to(b"marked", (HERE, 0))
    assert wire(253, b"marked") == (0xB9, 255)


def test_each_end_of_a_tcp_connection_has_its_own(wire: Seen) -> None:
    client, server = tcp_pair()
    with Conn(client) as one, Conn(server) as other:
        one.tos, one.ttl = 0x28, 11
        other.tos, other.ttl = 0x88, 222
        client.sendall(b"question")
        assert server.recv(100) == b"question"
        server.sendall(b"answer")
        assert client.recv(100) == b"answer"
        assert wire(socket.IPPROTO_TCP, b"question") == (0x28, 11)
        assert wire(socket.IPPROTO_TCP, b"answer") == (0x88, 222)
        one.tos, one.ttl = 0, 64
        client.sendall(b"as before")
        assert wire(socket.IPPROTO_TCP, b"as before") == (0, 64)


# The flags of control messages


def delivered(conn: PacketConn) -> ControlMessage | None:
    conn.write_to(b"x", conn.local_addr, ControlMessage(ttl=5))
    return conn.read_from(bytearray(100))[1]


def kernel_options(conn: PacketConn) -> tuple[int, int]:
    with socket.socket(fileno=socket.dup(conn.fileno())) as sock:
        return (
            sock.getsockopt(socket.IPPROTO_IP, IP_RECVTTL),
            sock.getsockopt(socket.IPPROTO_IP, IP_PKTINFO),
        )


SUBSETS = [ControlFlags(bits) for bits in range(GOS + 1)]


@pytest.mark.parametrize("off", SUBSETS, ids=int)
def test_clearing_flags_leaves_the_others_delivered(udp: PacketConn, off: ControlFlags) -> None:
    udp.set_control_message(GOS)
    assert udp.control_flags == GOS
    udp.set_control_message(off, False)
    assert_on(udp, GOS & ~off)
    udp.set_control_message(off)
    assert_on(udp, GOS)


@pytest.mark.parametrize("on", SUBSETS, ids=int)
def test_setting_flags_adds_them_one_by_one(udp: PacketConn, on: ControlFlags) -> None:
    for flag in on:
        udp.set_control_message(flag)
    assert_on(udp, on)
    udp.set_control_message(0, on=True)
    udp.set_control_message(flags=0, on=False)
    assert_on(udp, on)


def assert_on(conn: PacketConn, flags: ControlFlags) -> None:
    """Just these flags are on, and what they ask for arrives."""
    about_path = flags & (ControlFlags.SRC | ControlFlags.DST | ControlFlags.INTERFACE)
    assert conn.control_flags == flags
    assert kernel_options(conn) == (bool(flags & ControlFlags.TTL), bool(about_path))
    control = delivered(conn)
    if not flags:
        assert control is None
        return
    assert control is not None
    assert control.src == HERE
    assert control.ttl == (5 if flags & ControlFlags.TTL else 0)
    assert control.dst == (HERE if about_path else None)
    assert control.ifindex == (socket.if_nametoindex("lo") if about_path else 0)


@pytest.mark.parametrize("flags", [-1, 1 << 20, "1", None, 1.0])
def test_flags_that_do_not_exist_change_nothing(udp: PacketConn, flags: Any) -> None:
    udp.set_control_message(ControlFlags.TTL)
    with pytest.raises((TypeError, ValueError), match="flags: "):
        udp.set_control_message(flags)
    assert_on(udp, ControlFlags.TTL)


def test_flags_of_a_closed_connection(udp: PacketConn) -> None:
    udp.close()
    with pytest.raises(OSError, match="The connection is closed: 'set_control_message udp4'"):
        udp.set_control_message(1)
