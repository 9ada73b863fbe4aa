"""How connections end: closed, closed behind their back, or forgotten."""

import errno
import gc
import os
import re
import socket
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from support.net import LIMIT, Call, Wrapped, open_raw, own_host, raises, udp_socket

from ipv4batch import (
    Conn,
    ControlFlags,
    Header,
    ICMPFilter,
    Message,
    PacketConn,
    RawConn,
    new_messages,
)

HERE = own_host(10)
PROTOCOL = 253  # for experiments (RFC 3692)


def test_an_object_is_closed_and_an_int_is_not(sock: socket.socket) -> None:
    borrowed = PacketConn(sock.fileno())
    with borrowed as entered:
        assert entered is borrowed
    assert borrowed.fileno() == -1
    assert sock.fileno() >= 0

    wrapped = Wrapped(sock)
    with pytest.raises(LookupError), PacketConn(wrapped) as conn:
        raise LookupError("passes through")
    conn.close()
    conn.close()
    assert (wrapped.closed, sock.fileno(), conn.fileno()) == (1, -1, -1)


def test_two_connections_share_a_socket(sock: socket.socket) -> None:
    one, other = PacketConn(sock), Conn(sock)
    one.close()
    assert (one.fileno(), other.fileno(), sock.fileno()) == (-1, -1, -1)
    other.close()


@pytest.mark.parametrize("error", [OSError(errno.EIO, "not now"), KeyboardInterrupt("not now")])
def test_a_close_that_fails_can_be_called_again(sock: socket.socket, error: BaseException) -> None:
    class Stubborn(Wrapped):
        def close(self) -> None:
            if self.closed == 0:
                self.closed += 1
                raise error
            super().close()

    conn = PacketConn(Stubborn(sock))
    with pytest.raises(type(error), match="not now"):
        conn.close()
    assert conn.fileno() == -1
    with pytest.raises(OSError, match="closed"):
        conn.read_batch(new_messages(1))
    assert sock.fileno() >= 0
    conn.close()
    assert sock.fileno() == -1
    conn.close()


def test_with_calls_the_close_of_a_subclass(sock: socket.socket) -> None:
    class Sub(PacketConn):
        closed = 0

        def close(self) -> None:
            self.closed += 1
            super().close()

    with Sub(sock) as conn:
        pass
    assert (conn.closed, conn.fileno()) == (1, -1)


def test_the_object_is_asked_at_every_call(sock: socket.socket) -> None:
    wrapped = Wrapped(sock)
    conn = PacketConn(wrapped)
    with udp_socket() as other:
        wrapped.sock = other
        assert conn.local_addr == other.getsockname()
        conn.write_to(b"data", sock.getsockname())
        assert sock.recvfrom(9) == (b"data", other.getsockname())


def test_an_exception_of_fileno_passes_through(sock: socket.socket) -> None:
    wrapped = Wrapped(sock)
    conn = PacketConn(wrapped)
    wrapped.fileno = raises(LookupError("its own"))
    for use in (conn.fileno, conn.__repr__, lambda: conn.ttl, lambda: conn.read_from(bytearray(1))):
        with pytest.raises(LookupError, match="its own"):
            use()
    conn.close()
    assert (wrapped.closed, conn.fileno()) == (1, -1)


def test_fileno_may_close_the_connection(sock: socket.socket) -> None:
    wrapped = Wrapped(sock)
    conn = PacketConn(wrapped)

    def closes() -> int:
        conn.close()
        return 0

    wrapped.fileno = closes
    with pytest.raises(OSError, match="The connection is closed: 'read udp4'"):
        conn.read_from(bytearray(1))
    assert (wrapped.closed, sock.fileno()) == (1, -1)


# After the end

MESSAGES = [Message(bytearray(9), addr=("127.0.0.1", 9))]
GROUP, SOURCE = "232.1.2.3", "192.0.2.1"


def received() -> list[Message]:
    """What forward takes."""
    with PacketConn(udp_socket()) as conn:
        conn.write_to(b"x", conn.local_addr)
        messages = new_messages(1, 9)
        assert conn.read_batch(messages) == 1
        return messages


USES: dict[str, Callable[[Any], Any]] = {
    "local_addr": lambda conn: conn.local_addr,
    "remote_addr": lambda conn: conn.remote_addr,
    "tos": lambda conn: conn.tos,
    "tos=": lambda conn: setattr(conn, "tos", 4),
    "ttl": lambda conn: conn.ttl,
    "ttl=": lambda conn: setattr(conn, "ttl", 9),
    "set_deadline": lambda conn: conn.set_deadline(None),
    "set_read_deadline": lambda conn: conn.set_read_deadline(1.0),
    "set_write_deadline": lambda conn: conn.set_write_deadline(1.0),
}

DATAGRAM_USES: dict[str, Callable[[Any], Any]] = {
    "gso=": lambda conn: setattr(conn, "gso", True),
    "gro=": lambda conn: setattr(conn, "gro", True),
    "gro=off": lambda conn: setattr(conn, "gro", False),
    "recv_errors=": lambda conn: setattr(conn, "recv_errors", True),
    "mtu_discover": lambda conn: conn.mtu_discover,
    "mtu_discover=": lambda conn: setattr(conn, "mtu_discover", 2),
    "mtu": lambda conn: conn.mtu,
    "multicast_ttl": lambda conn: conn.multicast_ttl,
    "multicast_ttl=": lambda conn: setattr(conn, "multicast_ttl", 9),
    "multicast_all": lambda conn: conn.multicast_all,
    "multicast_all=": lambda conn: setattr(conn, "multicast_all", False),
    "multicast_loopback": lambda conn: conn.multicast_loopback,
    "multicast_loopback=": lambda conn: setattr(conn, "multicast_loopback", False),
    "multicast_interface": lambda conn: conn.multicast_interface,
    "multicast_interface=": lambda conn: setattr(conn, "multicast_interface", "lo"),
    "icmp_filter": lambda conn: conn.icmp_filter,
    "icmp_filter=": lambda conn: setattr(conn, "icmp_filter", ICMPFilter()),
    "max_pacing_rate": lambda conn: conn.max_pacing_rate,
    "max_pacing_rate=": lambda conn: setattr(conn, "max_pacing_rate", None),
    "read_batch": lambda conn: conn.read_batch(MESSAGES),
    "write_batch": lambda conn: conn.write_batch(MESSAGES),
    "write_all": lambda conn: conn.write_all(MESSAGES),
    "forward": lambda conn: conn.forward(received()),
    "write_all skip": lambda conn: conn.write_all(MESSAGES, errors="skip"),
    "write_paced": lambda conn: conn.write_paced(MESSAGES, 0),
    "read_fileno": lambda conn: conn.read_fileno(),
    "tx_timestamps=": lambda conn: setattr(conn, "tx_timestamps", 1),
    "read_tx_timestamps": lambda conn: conn.read_tx_timestamps(),
    "read_errors": lambda conn: conn.read_errors(),
    "read_errors wait": lambda conn: conn.read_errors(wait=True),
    "set_control_message": lambda conn: conn.set_control_message(ControlFlags.TTL),
    "join_group": lambda conn: conn.join_group("lo", GROUP),
    "leave_group": lambda conn: conn.leave_group("lo", GROUP),
    "join_source_specific_group": lambda conn: conn.join_source_specific_group(1, GROUP, SOURCE),
    "leave_source_specific_group": lambda conn: conn.leave_source_specific_group(1, GROUP, SOURCE),
    "exclude_source_specific_group": lambda conn: conn.exclude_source_specific_group(
        1, GROUP, SOURCE
    ),
    "include_source_specific_group": lambda conn: conn.include_source_specific_group(
        1, GROUP, SOURCE
    ),
    "set_bpf": lambda conn: conn.set_bpf([(6, 0, 0, 0)]),
    "set_bpf None": lambda conn: conn.set_bpf(None),
    "read_from": lambda conn: conn.read_from(bytearray(9)),
}
PACKET_USES = {"write_to": lambda conn: conn.write_to(b"data", ("127.0.0.1", 9))}
RAW_USES = {"write_to": lambda conn: conn.write_to(Header(dst=HERE, ttl=1), b"data")}
KINDS: dict[type[Conn], dict[str, Callable[[Any], Any]]] = {
    Conn: USES,
    PacketConn: USES | DATAGRAM_USES | PACKET_USES,
    RawConn: USES | DATAGRAM_USES | RAW_USES,
}
REMEMBERED = {
    "timeout": LIMIT,
    "control_flags": 0,
    "gso": False,
    "gso_error": None,
    "gso_refusals": [],
    "busy_poll": 0,
    "last_read": 0,
    "last_written": 0,
    "gro": False,
    "recv_errors": False,
    "pending": 0,
}
"""What needs no descriptor is told as before."""

each_use = pytest.mark.parametrize(
    ("kind", "use"),
    [
        pytest.param(kind, use, id=f"{kind.__name__}-{name}")
        for kind, uses in KINDS.items()
        for name, use in uses.items()
    ],
)


def socket_for(kind: type[Conn], request: pytest.FixtureRequest) -> socket.socket:
    if kind is not RawConn:
        return udp_socket()
    request.getfixturevalue("needs_raw")
    return open_raw(PROTOCOL, HERE)


def assert_closed(conn: Conn, use: Callable[[Any], Any]) -> None:
    network = "ip4:253" if isinstance(conn, RawConn) else "udp4"
    with pytest.raises(OSError, match=rf"The connection is closed: '\w.* {network}'") as caught:
        use(conn)
    assert caught.value.errno == errno.EBADF
    assert conn.fileno() == -1


@pytest.mark.parametrize("kind", KINDS)
def test_every_public_name_is_used_below(kind: type[Conn]) -> None:
    used = {re.sub("[ =].*", "", name) for name in KINDS[kind]} | {"close", "fileno"}
    public = {name for name in dir(kind) if not name.startswith("_")}
    assert public - used - set(REMEMBERED) == set()


@each_use
def test_after_close_every_use_says_so(
    kind: type[Conn], use: Callable[[Any], Any], request: pytest.FixtureRequest
) -> None:
    with socket_for(kind, request) as sock:
        borrowed = kind(sock.fileno())
        borrowed.close()
        assert_closed(borrowed, use)
        conn = kind(sock)
        conn.close()
        assert_closed(conn, use)


@each_use
def test_a_socket_closed_behind_our_back_never_gives_another_file(
    kind: type[Conn], use: Callable[[Any], Any], request: pytest.FixtureRequest
) -> None:
    sock = socket_for(kind, request)
    conn = kind(sock)
    number = sock.fileno()
    sock.close()
    with udp_socket() as impostor:
        assert impostor.fileno() == number, "the test needs the same number"
        impostor.sendto(b"private", impostor.getsockname())
        before = options(impostor)
        assert_closed(conn, use)
        assert repr(conn).endswith(" closed>")
        conn.close()
        assert options(impostor) == before
        assert impostor.recv(9) == b"private"


@pytest.mark.parametrize("batch", [False, True])
def test_a_wait_ends_there_too(batch: bool) -> None:
    sock = udp_socket()
    addr, number = sock.getsockname(), sock.fileno()
    conn = PacketConn(sock)
    message, buffer = Message(bytearray(9)), bytearray(9)
    call = Call(conn.read_batch, [message]) if batch else Call(conn.read_from, buffer)
    call.wait_until_waiting()
    sock.close()
    with udp_socket() as impostor:
        assert impostor.fileno() == number, "the test needs the same number"
        impostor.sendto(b"private", impostor.getsockname())
        # The kernel keeps the old socket alive for as long as somebody polls it.
        impostor.sendto(b"wake up", addr)
        with pytest.raises(OSError, match="The connection is closed: 'read udp4'"):
            call.result()
        assert impostor.recv(9) == b"private"
    assert (message.n, buffer) == (0, bytes(9))
    conn.close()


def options(sock: socket.socket) -> list[int]:
    numbers = (socket.IP_TOS, socket.IP_TTL, socket.IP_MULTICAST_TTL, socket.IP_MULTICAST_LOOP)
    return [sock.getsockopt(socket.IPPROTO_IP, number) for number in numbers]


@pytest.mark.parametrize("kind", KINDS)
def test_what_needs_no_descriptor_is_still_told(
    kind: type[Conn], request: pytest.FixtureRequest
) -> None:
    with kind(socket_for(kind, request)) as conn:
        pass
    for name in set(REMEMBERED) & set(dir(kind)):
        assert getattr(conn, name) == REMEMBERED[name]


def test_a_connection_that_was_never_made_is_closed() -> None:
    for kind, uses in KINDS.items():
        conn = kind.__new__(kind)
        for use in uses.values():
            with pytest.raises(OSError, match="The connection is closed"):
                use(conn)
        assert conn.fileno() == -1
        conn.close()


# Garbage


def test_a_connection_that_is_forgotten_leaves_the_socket_alone(sock: socket.socket) -> None:
    conn = PacketConn(sock)
    told: list[weakref.ref[PacketConn]] = []
    watch = weakref.ref(conn, told.append)
    assert watch() is conn
    del conn
    assert watch() is None
    assert told == [watch]
    assert sock.sendto(b"data", sock.getsockname()) == 4


def test_warnings_of_forgotten_sockets_are_pythons_own() -> None:
    """A connection gives none; the socket that it alone kept does, as without a connection."""
    conn = PacketConn(udp_socket())
    number = conn.fileno()
    borrowed = PacketConn(number)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del borrowed
        assert caught == []
        os.fstat(number)
        del conn
    assert [(w.category, str(w.message)[:23]) for w in caught] == [
        (ResourceWarning, "unclosed <socket.socket")
    ]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


class Attributed(PacketConn):
    """A connection that can have attributes."""


def through_the_socket(sock: socket.socket) -> Wrapped:
    wrapped = Wrapped(sock)
    wrapped.conn = PacketConn(wrapped)
    return wrapped


def through_itself(sock: socket.socket) -> PacketConn:
    conn = Attributed(sock)
    conn.itself = conn
    return conn


@pytest.mark.parametrize("make", [through_the_socket, through_itself])
def test_a_cycle_is_collected(sock: socket.socket, make: Callable[[socket.socket], Any]) -> None:
    gc.collect()  # so that none comes on its own in between
    watch = weakref.ref(make(sock))
    assert watch() is not None
    gc.collect()
    assert watch() is None
    assert sock.fileno() >= 0


def test_a_wait_leaves_no_descriptor_behind(sock: socket.socket) -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = count()
    for end in ("close", "forget"):
        conn = PacketConn(sock.fileno())
        conn.timeout = 0.001
        with pytest.raises(TimeoutError):
            conn.read_from(bytearray(1))
        if end == "close":
            conn.close()
        else:
            del conn
        assert count() == before
