"""mtu_discover and mtu: how large a datagram may be, and who says when it is too large."""

import contextlib
import errno
import os
import pathlib
import re
import select
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from support.net import open_raw, wait_for
from support.router import NEAR, SERVER, Network, routed

from ipv4batch import (
    ErrorOrigin,
    ICMPType,
    Message,
    MTUDiscover,
    PacketConn,
    RawConn,
)

HEADERS = 28
"""Bytes of the IPv4 and the UDP header, which count into the MTU."""

NARROW = 1000
"""The MTU of the link behind the router."""

FRAGMENTATION_NEEDED = 4


@pytest.fixture
def network(needs_netns: None) -> Iterator[Network]:
    with routed() as made:
        made.set_mtu("router", "far", NARROW)
        made.set_mtu("server", "far", NARROW)
        yield made


@pytest.fixture
def server(network: Network) -> PacketConn:
    return network.open_udp("server")


@pytest.fixture
def client(network: Network, server: PacketConn) -> PacketConn:
    """Connected to the server, and it hears of errors."""
    made = network.open_udp("client", peer=(SERVER, server.local_addr[1]))
    made.recv_errors = True
    return made


def loopback_mtu() -> int:
    """An IPv4 datagram ends at 65535 bytes, and the interface's MTU may be one more."""
    return min(65535, int(pathlib.Path("/sys/class/net/lo/mtu").read_text()))


def test_the_modes_have_the_numbers_of_the_kernel() -> None:
    """IP_PMTUDISC_DONT and so on in linux/in.h."""
    assert [(mode.name, int(mode)) for mode in MTUDiscover] == [
        *(("DONT", 0), ("WANT", 1), ("DO", 2), ("PROBE", 3), ("INTERFACE", 4), ("OMIT", 5)),
    ]


@pytest.mark.parametrize("mode", MTUDiscover)
def test_every_mode_is_set_and_read(conn: PacketConn, mode: MTUDiscover) -> None:
    conn.mtu_discover = mode
    assert conn.mtu_discover == mode
    assert type(conn.mtu_discover) is int
    assert MTUDiscover(conn.mtu_discover) is mode
    conn.mtu_discover = 0
    conn.mtu_discover = int(mode)
    assert conn.mtu_discover == mode
    with socket.socket(fileno=os.dup(conn.fileno())) as sock:
        ip_mtu_discover = 10
        assert sock.getsockopt(socket.IPPROTO_IP, ip_mtu_discover) == mode


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (-1, ValueError, "mtu_discover: -1 is out of range, 0 to 5"),
        (6, ValueError, "mtu_discover: 6 is out of range, 0 to 5"),
        (2**63, ValueError, "mtu_discover: 9223372036854775808 is out of range"),
        ("DO", TypeError, "mtu_discover: an int is required, not str"),
        (2.0, TypeError, "mtu_discover: an int is required, not float"),
        (None, TypeError, "mtu_discover: an int is required, not NoneType"),
    ],
)
def test_what_is_no_mode_changes_nothing(
    conn: PacketConn, value: Any, error: type[Exception], text: str
) -> None:
    conn.mtu_discover = MTUDiscover.DO
    with pytest.raises(error, match=re.escape(text)):
        conn.mtu_discover = value
    with pytest.raises((TypeError, AttributeError)):
        del conn.mtu_discover
    assert conn.mtu_discover == MTUDiscover.DO


def test_a_raw_connection_has_both(needs_raw: None) -> None:
    with open_raw(253) as sock, RawConn(sock) as conn:
        conn.mtu_discover = MTUDiscover.PROBE
        assert conn.mtu_discover == MTUDiscover.PROBE
        with pytest.raises(OSError, match=r"\[Errno 107\] .*: 'mtu ip4:253 127.0.0.1'"):
            _ = conn.mtu
        sock.connect(("127.0.0.1", 0))
        assert conn.mtu == loopback_mtu()


def test_the_mtu_of_loopback(conn: PacketConn) -> None:
    with socket.socket(fileno=os.dup(conn.fileno())) as sock:
        sock.connect(conn.local_addr)
        assert conn.mtu == loopback_mtu()
        assert type(conn.mtu) is int
    with pytest.raises(AttributeError):
        conn.mtu = 1500  # type: ignore[misc]


def test_a_socket_that_is_not_connected_has_no_mtu(conn: PacketConn) -> None:
    expected = (
        f"[Errno {errno.ENOTCONN}] Transport endpoint is not connected: "
        f"'mtu udp4 127.0.0.1:{conn.local_addr[1]}'"
    )
    with pytest.raises(OSError, match=f"^{re.escape(expected)}$") as caught:
        _ = conn.mtu
    assert caught.value.errno == errno.ENOTCONN


@pytest.mark.parametrize("name", ["mtu", "mtu_discover"])
def test_a_closed_connection_has_neither(conn: PacketConn, name: str) -> None:
    conn.close()
    with pytest.raises(OSError, match=f"The connection is closed: '{name} udp4'"):
        getattr(conn, name)


def fate(client: PacketConn, server: PacketConn, size: int) -> str | tuple[Any, ...]:
    """What becomes of a datagram that takes `size` bytes with its headers."""
    data = bytes(k % 251 for k in range(size - HEADERS))
    message = Message(data)
    if client.write_all([message], errors="skip") == 0:
        assert message.errno == errno.EMSGSIZE
        (entry,) = client.read_errors()
        # This host itself says it, and keeps nothing of the datagram.
        assert entry[5:] == (None, client.remote_addr, b"")
        return "refused here", *entry[:5]

    found: list[str | tuple[Any, ...]] = []

    def look() -> bool:
        with contextlib.suppress(BlockingIOError):
            n, _, _ = server.read_from(buffer := bytearray(65536), socket.MSG_DONTWAIT)
            assert buffer[:n] == data
            found.append("arrives")
        for entry in client.read_errors():
            assert entry[5:7] == (NEAR, client.remote_addr)
            assert len(entry.data) > 500
            assert data.startswith(entry.data)
            found.append(("refused by the router", *entry[:5]))
        return bool(found)

    # Between namespaces a datagram is delivered by another task.
    wait_for(look, f"the {size} bytes arrive or are refused")
    assert len(found) == 1
    return found[0]


ARRIVES = "arrives"
BY_ROUTER = (
    *("refused by the router", errno.EMSGSIZE, ErrorOrigin.ICMP),
    *(ICMPType.DESTINATION_UNREACHABLE, FRAGMENTATION_NEEDED, NARROW),
)
HERE = ("refused here", errno.EMSGSIZE, ErrorOrigin.LOCAL, 0, 0, NARROW)
HERE_BY_LINK = (*HERE[:-1], 1500)


@pytest.mark.parametrize(
    ("mode", "fates", "learned"),
    [
        (MTUDiscover.DONT, {1200: ARRIVES, 1001: ARRIVES, 1501: ARRIVES, 9000: ARRIVES}, 1500),
        (MTUDiscover.WANT, {1200: BY_ROUTER, 1001: ARRIVES, 1501: ARRIVES, 9000: ARRIVES}, NARROW),
        (MTUDiscover.DO, {1200: BY_ROUTER, 1001: HERE, 1501: HERE, 9000: HERE}, NARROW),
        (
            MTUDiscover.PROBE,
            {1200: BY_ROUTER, 1001: BY_ROUTER, 1500: BY_ROUTER, 1501: HERE_BY_LINK},
            NARROW,
        ),
        (MTUDiscover.INTERFACE, {1200: ARRIVES, 1500: ARRIVES, 1501: HERE_BY_LINK}, 1500),
        (MTUDiscover.OMIT, {1200: ARRIVES, 1500: ARRIVES, 1501: ARRIVES, 9000: ARRIVES}, 1500),
    ],
)
def test_what_becomes_of_large_datagrams(
    client: PacketConn,
    server: PacketConn,
    mode: MTUDiscover,
    fates: dict[int, Any],
    learned: int,
) -> None:
    """As ip(7) has it for IP_MTU_DISCOVER; those that fit the path arrive before and after."""
    client.mtu_discover = mode
    assert client.mtu == 1500
    assert fate(client, server, NARROW) == ARRIVES
    assert {size: fate(client, server, size) for size in fates} == fates
    assert client.mtu == learned
    assert fate(client, server, NARROW) == ARRIVES


def test_what_one_socket_learned_all_know(
    network: Network, client: PacketConn, server: PacketConn
) -> None:
    """The kernel keeps the path MTU with the route to the host."""
    client.mtu_discover = MTUDiscover.DO
    assert fate(client, server, 1200) == BY_ROUTER
    assert network.open_udp("client", peer=(SERVER, 9)).mtu == NARROW


@pytest.mark.parametrize("call", ["write_batch", "write_all"])
def test_one_message_of_many_is_too_large(
    client: PacketConn, server: PacketConn, call: str
) -> None:
    client.mtu_discover = MTUDiscover.DO
    messages = [Message(bytes(size)) for size in (100, 1473, 200)]
    if call == "write_batch":
        assert client.write_batch(messages) == 1
        with pytest.raises(OSError, match="Message too long"):
            client.write_batch(messages[1:])
        assert client.write_batch(messages[2:]) == 1
    else:
        assert client.write_all(messages, errors="skip") == 2
    assert [message.errno for message in messages] == [0, errno.EMSGSIZE, 0]
    for size in (100, 200):
        assert server.read_from(bytearray(2000))[0] == size
    # The kernel adds an entry each time that it is asked to send the message.
    assert {entry[:5] for entry in client.read_errors()} == {HERE_BY_LINK[1:]}


def test_what_a_router_said_of_one_peer_fails_no_write_to_another(
    network: Network, server: PacketConn
) -> None:
    """The report is pending when the next write begins, and could be taken for its own error."""
    conn = network.open_udp("client")
    conn.recv_errors = True
    conn.mtu_discover = MTUDiscover.DO
    assert conn.write_to(bytes(1200), (SERVER, server.local_addr[1])) == 1200
    pending = select.poll()
    pending.register(conn, 0)
    assert [event for _, event in pending.poll(10_000)] == [select.POLLERR]
    near = network.open_udp("router")
    assert conn.write_to(b"mine", (NEAR, near.local_addr[1])) == 4
    assert near.read_from(bytearray(9))[0] == 4
    (error,) = conn.read_errors()
    assert (error.errno, error.mtu, error.addr[0]) == (errno.EMSGSIZE, NARROW, SERVER)
