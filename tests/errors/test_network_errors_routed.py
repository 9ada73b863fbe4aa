"""read_errors behind a router: who says what of which datagram, on UDP and raw sockets."""

import errno
import select
from collections.abc import Iterator
from typing import Any

import pytest
from support.net import own_host, raw_pair
from support.router import CLIENT, NEAR, SERVER, Network, routed

from ipv4batch import (
    ControlMessage,
    ErrorOrigin,
    Header,
    ICMPType,
    Message,
    MTUDiscover,
    PacketConn,
    QueuedError,
    parse_header,
)

Endpoint = tuple[str, int]
UNREACHABLE, EXCEEDED = ICMPType.DESTINATION_UNREACHABLE, ICMPType.TIME_EXCEEDED
NET, HOST, PROTOCOL, PORT, FRAGMENTATION_NEEDED = 0, 1, 2, 3, 4
"""Codes of destination unreachable (RFC 792)."""

NO_ROUTE = ("203.0.113.1", 9)
"""The client sends it to the router, who knows no way."""

UNLIKELY = 253
"""A protocol for experiments (RFC 3692), which no host takes."""


@pytest.fixture
def network(needs_netns: None) -> Iterator[Network]:
    with routed() as made:
        made.places["client"].add_route("203.0.113.0/24", NEAR)
        yield made


@pytest.fixture
def client(network: Network) -> PacketConn:
    conn = network.open_udp("client")
    conn.recv_errors = True
    return conn


@pytest.fixture
def server(network: Network) -> PacketConn:
    return network.open_udp("server")


def read_all(conn: PacketConn, count: int) -> list[QueuedError]:
    """The next entries, in the order of their payloads; those who send them do not agree on one."""
    found: list[QueuedError] = []
    while len(found) < count:
        found += conn.read_errors(wait=True)
    assert len(found) == count
    return sorted(found, key=lambda error: error.data)


def from_network(
    code: int, icmp: tuple[int, int], offender: str, addr: Endpoint, data: bytes, mtu: int = 0
) -> tuple[Any, ...]:
    return (code, ErrorOrigin.ICMP, *icmp, mtu, offender, addr, data)


def test_a_port_that_nobody_has_behind_the_router(client: PacketConn) -> None:
    addr = (SERVER, 9)
    client.write_to(b"data", addr)
    expected = from_network(errno.ECONNREFUSED, (UNREACHABLE, PORT), SERVER, addr, b"data")
    assert client.read_errors(wait=True) == [expected]


def test_a_ttl_that_does_not_suffice(client: PacketConn, server: PacketConn) -> None:
    addr = (SERVER, server.local_addr[1])
    client.write_to(b"short", addr, ControlMessage(ttl=1))
    client.write_to(b"long", addr, ControlMessage(ttl=2))
    expected = from_network(errno.EHOSTUNREACH, (EXCEEDED, 0), NEAR, addr, b"short")
    assert client.read_errors(wait=True) == [expected]
    buffer = bytearray(9)
    assert server.read_from(buffer) == (4, None, (CLIENT, client.local_addr[1]))
    assert buffer[:4] == b"long"


def test_a_network_that_the_router_does_not_know(client: PacketConn) -> None:
    client.write_to(b"data", NO_ROUTE)
    expected = from_network(errno.ENETUNREACH, (UNREACHABLE, NET), NEAR, NO_ROUTE, b"data")
    assert client.read_errors(wait=True) == [expected]


@pytest.mark.parametrize("discover", [MTUDiscover.WANT, MTUDiscover.DO])
def test_a_link_that_is_too_narrow(network: Network, client: PacketConn, discover: int) -> None:
    """The router tells the MTU of its next link (RFC 1191)."""
    network.set_mtu("router", "far", 1000)
    client.mtu_discover = discover
    addr, data = (SERVER, 9), bytes(k % 251 for k in range(1200))
    client.write_to(data, addr)
    (error,) = client.read_errors(wait=True)
    quoted = data[: 576 - 20 - 8 - 20 - 8]
    narrow = (UNREACHABLE, FRAGMENTATION_NEEDED)
    assert error == from_network(errno.EMSGSIZE, narrow, NEAR, addr, quoted, mtu=1000)


@pytest.mark.parametrize("call", ["write_to", "write_batch", "write_all"])
@pytest.mark.parametrize("code", [errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.EMSGSIZE])
def test_whatever_is_pending_fails_no_write_to_another(
    network: Network, client: PacketConn, call: str, code: int
) -> None:
    """The kernel has it ready for the next call on the socket, whomever that is for."""
    network.set_mtu("router", "far", 1000)
    client.mtu_discover = MTUDiscover.DO
    neighbour = network.open_udp("router")
    data = bytes(1200) if code == errno.EMSGSIZE else b"data"
    ttl = ControlMessage(ttl=1 if code == errno.EHOSTUNREACH else 9)
    client.write_to(data, (SERVER, 9), ttl)
    poll = select.poll()
    poll.register(client, 0)
    assert poll.poll(10_000) == [(client.fileno(), select.POLLERR)]
    message = Message(b"to another", None, (NEAR, neighbour.local_addr[1]))
    if call == "write_to":
        assert client.write_to(message.buffers[0], message.addr) == 10
    else:
        assert getattr(client, call)([message]) == 1
    assert neighbour.read_from(bytearray(20))[0] == 10
    assert [error.errno for error in client.read_errors()] == [code]


@pytest.mark.parametrize("call", ["write_batch", "write_all"])
def test_one_batch_and_each_message_has_its_own_fate(
    client: PacketConn, server: PacketConn, call: str
) -> None:
    healthy, dead = (SERVER, server.local_addr[1]), (SERVER, 9)
    short = ControlMessage(ttl=1).marshal()
    messages = [
        Message(b"0 arrives", None, healthy),
        Message(b"1 no port", None, dead),
        Message(b"2 arrives", None, healthy),
        Message(b"3 no ttl", short, healthy),
        Message(b"4 no route", None, NO_ROUTE),
        Message(b"5 arrives", None, healthy),
    ]
    assert getattr(client, call)(messages) == 6
    assert read_all(client, 3) == [
        from_network(errno.ECONNREFUSED, (UNREACHABLE, PORT), SERVER, dead, b"1 no port"),
        from_network(errno.EHOSTUNREACH, (EXCEEDED, 0), NEAR, healthy, b"3 no ttl"),
        from_network(errno.ENETUNREACH, (UNREACHABLE, NET), NEAR, NO_ROUTE, b"4 no route"),
    ]
    buffer = bytearray(9)
    for number in (0, 2, 5):
        server.read_from(buffer)
        assert buffer == b"%d arrives" % number


def test_a_healthy_peer_hears_all_while_errors_come_in(
    client: PacketConn, server: PacketConn
) -> None:
    """They come at any time, also in the middle of a batch; a router sends a few only."""
    healthy = (SERVER, server.local_addr[1])
    messages = [
        Message(b"%02d" % number, None, NO_ROUTE if number % 10 == 5 else healthy)
        for number in range(40)
    ]
    for _ in range(5):
        assert client.write_all(messages) == 40
        for number in range(40):
            if number % 10 != 5:
                server.read_from(buffer := bytearray(2))
                assert buffer == b"%02d" % number
    errors = client.read_errors(wait=True)
    assert {error[:7] for error in errors} == {
        from_network(errno.ENETUNREACH, (UNREACHABLE, NET), NEAR, NO_ROUTE, b"")[:7]
    }
    assert {error.data for error in errors} <= {b"05", b"15", b"25", b"35"}


def test_a_network_that_is_not_known_here_fails_at_once(client: PacketConn) -> None:
    """Nothing of it is in the queue."""
    with pytest.raises(OSError, match="Network is unreachable"):
        client.write_to(b"x", ("203.0.114.1", 9))
    assert client.read_errors() == []


def test_a_protocol_that_nobody_takes(needs_raw: None) -> None:
    """The kernel hands on what quotes at least 8 bytes behind the header (RFC 792)."""
    addr = ("127.0.0.1", 0)
    expected = from_network(
        errno.ENOPROTOOPT, (UNREACHABLE, PROTOCOL), "127.0.0.1", addr, b"eight or more"
    )
    with raw_pair(UNLIKELY, own_host(16)) as (conn, _):
        conn.recv_errors = True
        for _ in range(2):
            assert conn.write_to(b"eight or more", addr) == 13
        assert conn.read_errors() == [expected] * 2


def test_a_raw_connection_is_given_its_header_back(needs_raw: None) -> None:
    header = Header(ttl=9, id=77, protocol=UNLIKELY, src=own_host(16), dst="127.0.0.1")
    with raw_pair(UNLIKELY, own_host(16)) as (_, conn):
        conn.recv_errors = True
        for _ in range(2):
            assert conn.write_to(header, b"eight or more") == 13
        errors = conn.read_errors()
        assert len(errors) == 2
        for error in errors:
            assert error[:3] == (errno.ENOPROTOOPT, ErrorOrigin.ICMP, UNREACHABLE)
            quoted = parse_header(error.data)
            assert (quoted.id, quoted.ttl, quoted.dst) == (77, 9, "127.0.0.1")
            assert error.data[20:] == b"eight or more"
