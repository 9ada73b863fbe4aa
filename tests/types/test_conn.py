"""Conn, PacketConn and RawConn: what they are made of, and what they tell."""

import contextlib
import errno
import math
import os
import pathlib
import re
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.net import LIMIT, Wrapped, open_raw, own_host, raises, udp_socket

from ipv4batch import Conn, PacketConn, RawConn

HERE = own_host(9)
PROTOCOL = 253  # for experiments (RFC 3692)

Make = Callable[[], Any]


class Answers:
    """An object whose fileno() does as it is told."""

    def __init__(self, answer: Callable[[], Any]) -> None:
        self.fileno = answer


@pytest.fixture
def tcp() -> Iterator[socket.socket]:
    """A connected one."""
    with socket.create_server((HERE, 0)) as listener:
        client = socket.create_connection(listener.getsockname(), LIMIT, (HERE, 0))
        server, _ = listener.accept()
    with client, server:
        yield client


# What a connection is made of


@pytest.mark.parametrize("kind", [Conn, PacketConn])
@pytest.mark.parametrize("form", [lambda sock: sock, Wrapped, lambda sock: sock.fileno()])
def test_a_socket_comes_in_three_forms(
    sock: socket.socket, kind: type[Conn], form: Callable[[socket.socket], Any]
) -> None:
    for conn in (kind(form(sock)), kind(sock=form(sock))):
        assert conn.fileno() == sock.fileno()
        assert conn.local_addr == sock.getsockname()


@pytest.mark.parametrize("kind", [Conn, PacketConn, RawConn])
def test_raw_sockets_are_for_all(needs_raw: None, kind: type[Conn]) -> None:
    with open_raw(PROTOCOL, HERE) as raw:
        kind(raw)
        # Whole packets are written through a RawConn alone.
        assert raw.getsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL) == (kind is RawConn)


def test_tcp_is_for_conn(tcp: socket.socket) -> None:
    assert Conn(tcp).remote_addr == tcp.getpeername()


OTHERS: list[tuple[Make, str]] = [
    (lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM), "a socket of AF_INET6 (10)"),
    (lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM), "a socket of AF_UNIX (1)"),
    (lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW), "a socket of another family (16)"),
    (pathlib.Path(__file__).open, "a regular file"),
    (pathlib.Path("/dev/null").open, "a character device"),
]


@pytest.mark.parametrize("kind", [Conn, PacketConn, RawConn])
@pytest.mark.parametrize("as_int", [False, True])
@pytest.mark.parametrize(("make", "what"), OTHERS)
def test_another_file_is_refused_and_named(
    kind: type[Conn], as_int: bool, make: Make, what: str
) -> None:
    with contextlib.closing(make()) as file:
        text = f"{kind.__name__}: an AF_INET socket.* is required; descriptor {file.fileno()} is "
        with pytest.raises(ValueError, match=text + re.escape(what)):
            kind(file.fileno() if as_int else file)
        os.fstat(file.fileno())


def test_more_files_that_are_no_sockets() -> None:
    ends = os.pipe()
    folder = os.open("/", os.O_RDONLY)
    for descriptor, what in ((ends[0], "a pipe"), (ends[1], "a pipe"), (folder, "a directory")):
        with pytest.raises(ValueError, match=f"Conn: .*; descriptor {descriptor} is {what}"):
            Conn(descriptor)
        os.close(descriptor)
        with pytest.raises(ValueError, match=f"Conn: .*; descriptor {descriptor} is not open"):
            Conn(descriptor)


def test_a_socket_of_another_type_is_refused_and_named(
    sock: socket.socket, tcp: socket.socket
) -> None:
    for kind, wrong, wanted, what in (
        (PacketConn, tcp, "SOCK_DGRAM or SOCK_RAW", "SOCK_STREAM (1)"),
        (RawConn, tcp, "SOCK_RAW", "SOCK_STREAM (1)"),
        (RawConn, sock, "SOCK_RAW", "SOCK_DGRAM (2)"),
    ):
        text = (
            f"{kind.__name__}: an AF_INET socket of type {wanted} is required; "
            f"descriptor {wrong.fileno()} is an AF_INET socket of {what}"
        )
        with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
            kind(wrong)


@pytest.mark.parametrize("kind", [Conn, PacketConn, RawConn])
def test_a_closed_socket_is_refused(kind: type[Conn], sock: socket.socket) -> None:
    sock.close()
    with pytest.raises(ValueError, match=f"{kind.__name__}: .* is required; this one is closed"):
        kind(sock)


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (-1, ValueError, "sock: -1 is out of range, 0 to 2147483647"),
        (2**31, ValueError, "sock: 2147483648 is out of range"),
        (None, TypeError, "sock: a socket, an object with fileno() or an int is required, not No"),
        (3.0, TypeError, "an int is required, not float"),
        ("3", TypeError, "an int is required, not str"),
        # True is the int 1, as everywhere; there is no socket.
        (True, ValueError, "descriptor 1 is "),
        (Answers(raises(LookupError("its own"))), LookupError, "its own"),
        (Answers(raises(OSError(errno.EIO, "its own"))), OSError, "its own"),
        (Answers(lambda: "3"), TypeError, "'str' object cannot be interpreted as an integer"),
        (Answers(lambda: None), TypeError, "'NoneType' object cannot be interpreted as an int"),
        (Answers(lambda: -2), ValueError, "this one is closed"),
        (Answers(lambda: 2**31), ValueError, "fileno(): 2147483648 is no descriptor"),
        (Answers(lambda: 2**70), OverflowError, "too large"),
        (Answers(3), TypeError, "'int' object is not callable"),
    ],
)
def test_what_is_no_socket_is_refused(value: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=re.escape(text)):
        PacketConn(value)


def test_a_connection_is_made_once(sock: socket.socket) -> None:
    conn = PacketConn(sock)
    with udp_socket() as other, pytest.raises(RuntimeError, match="initialised once"):
        conn.__init__(other)
    assert conn.fileno() == sock.fileno()
    with pytest.raises(TypeError):
        PacketConn()
    with pytest.raises(TypeError):
        PacketConn(sock, 1)


# What it tells


def test_local_and_remote_address(sock: socket.socket, tcp: socket.socket) -> None:
    conn = PacketConn(sock)
    assert conn.local_addr == sock.getsockname()
    assert conn.remote_addr is None
    with udp_socket("127.0.0.1") as peer:
        sock.connect(peer.getsockname())
        assert conn.remote_addr == peer.getsockname()
    stream = Conn(tcp)
    assert (stream.local_addr, stream.remote_addr) == (tcp.getsockname(), tcp.getpeername())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unbound:
        assert PacketConn(unbound).local_addr == ("0.0.0.0", 0)
    for name in ("local_addr", "remote_addr"):
        with pytest.raises(AttributeError):
            setattr(conn, name, ("127.0.0.1", 9))


@pytest.mark.parametrize("kind", [Conn, PacketConn, RawConn])
def test_raw_sockets_have_no_port(needs_raw: None, kind: type[Conn]) -> None:
    with open_raw(PROTOCOL, HERE) as raw:
        conn, fd = kind(raw), raw.fileno()
        assert (conn.local_addr, conn.remote_addr) == ((HERE, 0), None)
        assert repr(conn) == f"<ipv4batch.{kind.__name__} ip4:253 {HERE} fd={fd}>"
        raw.connect((HERE, 1))  # With port 0 the kernel tells nobody the peer (getpeername).
        assert conn.remote_addr == (HERE, 0)
        assert repr(conn) == f"<ipv4batch.{kind.__name__} ip4:253 {HERE}->{HERE} fd={fd}>"


def test_the_text_of_a_connection(sock: socket.socket, tcp: socket.socket) -> None:
    class Mine(PacketConn):
        pass

    host, port = sock.getsockname()
    conn, borrowed, mine = PacketConn(sock), Conn(sock.fileno()), Mine(sock)
    assert repr(conn) == f"<ipv4batch.PacketConn udp4 {host}:{port} fd={sock.fileno()}>"
    assert repr(borrowed) == f"<ipv4batch.Conn udp4 {host}:{port} fd={sock.fileno()}>"
    assert repr(mine) == f"<Mine udp4 {host}:{port} fd={sock.fileno()}>"
    sock.connect((HERE, port))
    assert f"udp4 {host}:{port}->{HERE}:{port} fd" in repr(conn)
    stream = Conn(tcp)
    ends = "->".join(f"{host}:{port}" for host, port in (tcp.getsockname(), tcp.getpeername()))
    assert repr(stream) == f"<ipv4batch.Conn tcp4 {ends} fd={tcp.fileno()}>"
    sock.close()
    tcp.close()
    for closed in (conn, mine, stream):
        assert re.fullmatch(r"<[\w.]+ (udp4|tcp4) closed>", repr(closed))
    borrowed.close()
    assert repr(borrowed) == "<ipv4batch.Conn udp4 closed>"


@pytest.mark.parametrize("own", [None, 0.0, 0.25, 7.0])
def test_the_timeout_starts_as_the_sockets(sock: socket.socket, own: float | None) -> None:
    sock.settimeout(own)
    conn = PacketConn(sock)
    assert conn.timeout == own
    # A mere descriptor only knows whether it waits, and so does an object that does not tell.
    plain = None if own is None else 0.0
    assert PacketConn(sock.fileno()).timeout == PacketConn(Wrapped(sock)).timeout == plain
    conn.timeout = 3
    assert (conn.timeout, sock.gettimeout()) == (3.0, own)


@pytest.mark.parametrize(
    ("value", "timeout"),
    [
        (None, None),
        (0, 0.0),
        (True, 1.0),
        (2.5, 2.5),
        (1e-12, 1e-9),
        (math.inf, None),
        (1e300, None),
        (10**18, None),
    ],
)
def test_timeouts(sock: socket.socket, value: float | None, timeout: float | None) -> None:
    conn = PacketConn(sock)
    conn.timeout = value
    assert conn.timeout == timeout


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (-1, ValueError, "timeout: -1 is no number of seconds to wait"),
        (-1e-9, ValueError, "timeout: -1e-09 is no number of seconds"),
        (-math.inf, ValueError, "timeout: -inf is no number of seconds"),
        (math.nan, ValueError, "timeout: nan is no number of seconds"),
        ("1", TypeError, "timeout: a number of seconds or None is required, not str"),
        (1j, TypeError, "timeout: a number of seconds or None is required, not complex"),
        (10**400, OverflowError, "too large"),
    ],
)
def test_what_is_no_timeout(
    sock: socket.socket, value: Any, error: type[Exception], text: str
) -> None:
    conn = PacketConn(sock)
    with pytest.raises(error, match=text):
        conn.timeout = value
    with pytest.raises(TypeError, match="timeout: cannot be deleted"):
        del conn.timeout
    assert conn.timeout == LIMIT
