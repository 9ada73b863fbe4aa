"""recv_errors and read_errors: what the network has to say about datagrams that were sent."""

import errno
import os
import pickle
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from support.net import Call, open_udp

from ipv4batch import ErrorOrigin, ICMPType, Message, PacketConn, QueuedError

Endpoint = tuple[str, int]
PORT_UNREACHABLE = 3
FRAGMENTATION_NEEDED = 4
IP_RECVERR = 11


@pytest.fixture
def writer() -> Iterator[PacketConn]:
    with open_udp() as conn:
        conn.recv_errors = True
        yield conn


@pytest.fixture
def dead() -> Endpoint:
    """An address at which nobody listens."""
    with open_udp() as conn:
        return conn.local_addr


def refused(addr: Endpoint, data: bytes) -> tuple[Any, ...]:
    """The entry for a datagram to a port that nobody has."""
    unreachable = (ErrorOrigin.ICMP, ICMPType.DESTINATION_UNREACHABLE, PORT_UNREACHABLE)
    return (errno.ECONNREFUSED, *unreachable, 0, addr[0], addr, data)


def write_numbers(writer: PacketConn, dead: Endpoint, numbers: range) -> None:
    for number in numbers:
        assert writer.write_to(b"%d" % number, dead) == len(b"%d" % number)


def another(conn: PacketConn) -> socket.socket:
    """A socket object on the same socket, for what a connection does not offer."""
    return socket.socket(fileno=os.dup(conn.fileno()))


def numbers_of(errors: list[QueuedError]) -> list[int]:
    return [int(error.data) for error in errors]


def assert_reads(reader: PacketConn, data: bytes) -> None:
    buffer = bytearray(100)
    n, _, _ = reader.read_from(buffer)
    assert buffer[:n] == data


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)), bytes(500)], ids=len)
def test_a_port_that_nobody_has(writer: PacketConn, dead: Endpoint, data: bytes) -> None:
    """Loopback answers before the write returns."""
    writer.write_to(data, dead)
    assert writer.read_errors() == [refused(dead, data)]
    assert writer.read_errors() == []


def test_an_entry_is_a_named_tuple(writer: PacketConn, dead: Endpoint) -> None:
    writer.write_to(b"data", dead)
    (error,) = writer.read_errors()
    assert type(error) is QueuedError
    assert isinstance(error, tuple)
    assert QueuedError.__match_args__ == (
        *("errno", "origin", "icmp_type", "icmp_code", "mtu", "offender", "addr", "data"),
    )
    assert tuple(getattr(error, name) for name in QueuedError.__match_args__) == error
    assert error == refused(dead, b"data")
    assert [type(value) for value in error] == [int] * 5 + [str, tuple, bytes]
    assert repr(error) == (
        "ipv4batch.QueuedError(errno=111, origin=2, icmp_type=3, icmp_code=3, mtu=0, "
        f"offender='127.0.0.1', addr={dead}, data=b'data')"
    )
    with pytest.raises(AttributeError):
        error.errno = 0  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(error)) == error


def test_a_long_datagram_is_quoted_in_part(writer: PacketConn, dead: Endpoint) -> None:
    """As much as an ICMP message of 576 bytes holds behind three headers (RFC 1812, 4.3.2.3)."""
    data = bytes(k % 251 for k in range(2000))
    writer.write_to(data, dead)
    (error,) = writer.read_errors()
    assert error.data == data[: 576 - 20 - 8 - 20 - 8]


def test_the_entry_tells_which_address_it_was(writer: PacketConn, dead: Endpoint) -> None:
    """The host that refused has the address that was written to, one of the many of loopback."""
    addr = ("127.99.88.77", dead[1])
    writer.write_to(b"x", addr)
    assert writer.read_errors() == [refused(addr, b"x")]


def test_the_queue_keeps_the_order(writer: PacketConn, dead: Endpoint) -> None:
    write_numbers(writer, dead, range(20))
    assert numbers_of(writer.read_errors()) == list(range(20))


def test_max_is_a_limit(writer: PacketConn, dead: Endpoint) -> None:
    write_numbers(writer, dead, range(70))
    assert numbers_of(writer.read_errors(1)) == [0]
    assert numbers_of(writer.read_errors(max=3)) == [1, 2, 3]
    assert numbers_of(writer.read_errors(wait=True)) == list(range(4, 68))
    assert numbers_of(writer.read_errors(2, True)) == [68, 69]
    assert writer.read_errors(2**31 - 1) == []


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"max": 0}, ValueError, "max: 0 is out of range, 1 to 2147483647"),
        ({"max": -1}, ValueError, "max: -1 is out of range"),
        ({"max": 2**31}, ValueError, "max: 2147483648 is out of range"),
        ({"max": "1"}, TypeError, "max: an int is required, not str"),
        ({"max": None}, TypeError, "max: an int is required, not NoneType"),
        ({"most": 1}, TypeError, "read_errors.. got an unexpected keyword argument 'most'"),
    ],
)
def test_wrong_arguments_take_nothing(
    writer: PacketConn,
    dead: Endpoint,
    arguments: dict[str, Any],
    error: type[Exception],
    text: str,
) -> None:
    writer.write_to(b"x", dead)
    with pytest.raises(error, match=text):
        writer.read_errors(**arguments)
    assert writer.read_errors() == [refused(dead, b"x")]


def test_the_switch(reader: PacketConn, dead: Endpoint) -> None:
    assert reader.recv_errors is False
    for value, on in ((True, True), (0, False), ("yes", True), (False, False), (1, True)):
        reader.recv_errors = value  # type: ignore[assignment]
        assert reader.recv_errors is on
        reader.write_to(b"x", dead)
        assert reader.read_errors() == [refused(dead, b"x")] * on
    with pytest.raises((TypeError, AttributeError)):
        del reader.recv_errors


def test_off_again_it_says_nothing(writer: PacketConn, dead: Endpoint) -> None:
    """The kernel empties the queue then (IP_RECVERR, net/ipv4/ip_sockglue.c)."""
    writer.write_to(b"x", dead)
    writer.recv_errors = False
    assert writer.read_errors() == []


def write_one(writer: PacketConn, data: bytes, addr: Endpoint) -> None:
    assert writer.write_to(data, addr) == len(data)


def write_batch(writer: PacketConn, data: bytes, addr: Endpoint) -> None:
    assert writer.write_batch([Message(data, None, addr)]) == 1


def write_all(writer: PacketConn, data: bytes, addr: Endpoint) -> None:
    assert writer.write_all([Message(data, None, addr)]) == 1


each_write = pytest.mark.parametrize("write", [write_one, write_batch, write_all])
each_offload = pytest.mark.parametrize("gso", [False, True], ids=["plain", "gso"])


@each_write
@each_offload
def test_an_error_of_one_peer_fails_no_write_to_another(
    reader: PacketConn, writer: PacketConn, dead: Endpoint, write: Any, gso: bool
) -> None:
    writer.gso = gso
    for number in range(5):
        write(writer, b"%d" % number, dead)
        write(writer, b"to another", reader.local_addr)
        assert_reads(reader, b"to another")
    assert writer.read_errors() == [refused(dead, b"%d" % number) for number in range(5)]


@each_offload
@pytest.mark.parametrize("call", ["write_batch", "write_all"])
def test_nor_inside_of_one_batch(
    reader: PacketConn, writer: PacketConn, dead: Endpoint, call: str, gso: bool
) -> None:
    writer.gso = gso
    addrs = [dead if number % 7 in (0, 3, 4) else reader.local_addr for number in range(60)]
    messages = [Message(b"%02d" % number, None, addr) for number, addr in enumerate(addrs)]
    assert getattr(writer, call)(messages) == 60
    assert {(message.n, message.errno) for message in messages} == {(2, 0)}
    for number, addr in enumerate(addrs):
        if addr != dead:
            assert_reads(reader, b"%02d" % number)
    expected = [refused(dead, b"%02d" % number) for number in range(60) if addrs[number] == dead]
    errors = writer.read_errors()
    if gso:
        # A run of segments is quoted as the one datagram that it left as, or as its segments.
        assert {error[:7] for error in errors} == {refused(dead, b"")[:7]}
        assert b"".join(error.data for error in errors) == b"".join(e[7] for e in expected)
    else:
        assert errors == expected


@each_write
def test_a_connected_socket_goes_on_too(dead: Endpoint, write: Any) -> None:
    with open_udp() as conn, another(conn) as sock:
        sock.connect(dead)
        conn.recv_errors = True
        for number in range(4):
            write(conn, b"%d" % number, dead)
        assert conn.read_errors() == [refused(dead, b"%d" % number) for number in range(4)]


def test_without_it_an_unconnected_socket_hears_nothing(reader: PacketConn, dead: Endpoint) -> None:
    """The kernel reports to sockets that asked or are connected only (udp(7))."""
    with open_udp() as writer:
        for write in (write_one, write_batch, write_all):
            write(writer, b"x", dead)
            write(writer, b"to another", reader.local_addr)
            assert_reads(reader, b"to another")
        assert writer.read_errors() == []
        with pytest.raises(BlockingIOError):
            writer.read_from(bytearray(1), socket.MSG_DONTWAIT)


@each_write
def test_the_kernels_own_way_fails_the_next_write(
    reader: PacketConn, dead: Endpoint, write: Any
) -> None:
    """Asked behind the connection's back, the kernel fails a write to somebody else, once."""
    with open_udp() as writer, another(writer) as sock:
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        write(writer, b"x", dead)
        with pytest.raises(ConnectionRefusedError):
            write(writer, b"to another", reader.local_addr)
        write(writer, b"to another", reader.local_addr)
        assert_reads(reader, b"to another")
        assert writer.read_errors() == [refused(dead, b"x")]


@each_write
def test_without_it_a_connected_socket_is_told_once(dead: Endpoint, write: Any) -> None:
    with open_udp() as conn, another(conn) as sock:
        sock.connect(dead)
        for _ in range(2):
            write(conn, b"x", dead)
            with pytest.raises(ConnectionRefusedError):
                write(conn, b"x", dead)
        assert conn.read_errors() == []


def test_its_own_failure_still_fails_a_write(writer: PacketConn, dead: Endpoint) -> None:
    """The errors of the network are set apart, and those of the message are not."""
    writer.write_to(b"x", dead)
    with pytest.raises(OSError, match="Destination address required"):
        writer.write_to(b"x")
    messages = [Message(b"1", None, dead), Message(b"2"), Message(b"3", None, dead)]
    with pytest.raises(OSError, match="Destination address required") as caught:
        writer.write_all(messages)
    error: Any = caught.value
    assert (error.index, error.written) == (1, 1)
    assert writer.write_all(messages, errors="skip") == 2
    assert [message.errno for message in messages] == [0, errno.EDESTADDRREQ, 0]
    assert [entry.data for entry in writer.read_errors()] == [b"x", b"1", b"1", b"3"]


def test_a_read_is_told_once_and_the_queue_stays(writer: PacketConn, dead: Endpoint) -> None:
    writer.write_to(b"x", dead)
    with pytest.raises(ConnectionRefusedError, match="'read udp4 127.0.0.1:"):
        writer.read_from(bytearray(9))
    write_one(writer, b"mine", writer.local_addr)
    assert_reads(writer, b"mine")
    assert writer.read_errors() == [refused(dead, b"x")]


def test_a_read_waits_in_peace_while_errors_are_queued(writer: PacketConn, dead: Endpoint) -> None:
    """The kernel announces them to whoever polls, which must not turn the wait into a loop."""
    writer.write_to(b"x", dead)
    with pytest.raises(ConnectionRefusedError):
        writer.read_from(bytearray(9))
    writer.timeout = 0.4
    before = time.thread_time()
    with pytest.raises(TimeoutError):
        writer.read_from(bytearray(9))
    assert time.thread_time() - before < 0.1
    writer.timeout = None
    call = Call(writer.read_from, bytearray(9)).wait_until_waiting()
    write_one(writer, b"mine", writer.local_addr)
    assert call.result() == (4, None, writer.local_addr)


def test_waiting_for_an_error(writer: PacketConn, dead: Endpoint) -> None:
    call = Call(writer.read_errors, 64, True).wait_until_waiting()
    writer.write_to(b"x", dead)
    assert call.result() == [refused(dead, b"x")]


def test_what_is_there_needs_no_wait(writer: PacketConn, dead: Endpoint) -> None:
    writer.set_read_deadline(0)
    write_numbers(writer, dead, range(3))
    assert numbers_of(writer.read_errors(wait=True)) == [0, 1, 2]


def read_errors_and_time(conn: PacketConn) -> tuple[TimeoutError, float]:
    """How the wait failed, and for how many seconds the thread was busy."""
    before = time.thread_time()
    with pytest.raises(TimeoutError) as caught:
        conn.read_errors(wait=True)
    return caught.value, time.thread_time() - before


@pytest.mark.parametrize("limit", ["timeout", "deadline", "deadline moved"])
def test_the_wait_ends_with_timeout_and_deadline(writer: PacketConn, limit: str) -> None:
    """A datagram that can be read is no error, and no reason to look again and again."""
    write_one(writer, b"mine", writer.local_addr)
    writer.timeout = 0.2 if limit == "timeout" else None
    began = time.monotonic()
    if limit == "deadline":
        writer.set_read_deadline(time.monotonic() + 0.2)
    call = Call(lambda: read_errors_and_time(writer))
    if limit == "deadline moved":
        call.wait_until_waiting()
        writer.set_deadline(time.monotonic() + 0.2)
    error, busy = call.result()
    assert error.errno == errno.ETIMEDOUT
    assert str(error).startswith(f"[Errno {errno.ETIMEDOUT}] timed out: 'read udp4 127.0.0.1:")
    assert 0.2 <= call.ended - began < 1.7
    assert busy < 0.1
    assert_reads(writer, b"mine")


@pytest.mark.parametrize("state", ["pending error", "shut down"])
def test_what_poll_reports_for_ever_is_no_reason_to_look_again(dead: Endpoint, state: str) -> None:
    """POLLERR and POLLHUP are there with an empty queue too."""
    with open_udp(timeout=0.3) as conn, another(conn) as sock:
        sock.connect(dead)
        if state == "shut down":
            sock.shutdown(socket.SHUT_RDWR)
        else:
            conn.write_to(b"x")
        assert read_errors_and_time(conn)[1] < 0.1


def test_a_connection_that_never_waits(writer: PacketConn, dead: Endpoint) -> None:
    writer.timeout = 0
    assert writer.read_errors() == []
    with pytest.raises(BlockingIOError):
        writer.read_errors(wait=True)
    writer.write_to(b"x", dead)
    assert writer.read_errors(wait=True) == [refused(dead, b"x")]


def test_a_close_ends_the_wait(writer: PacketConn) -> None:
    call = Call(writer.read_errors, 64, True).wait_until_waiting()
    writer.close()
    with pytest.raises(OSError, match="The connection is closed") as caught:
        call.result()
    assert caught.value.errno == errno.EBADF
    for wait in (False, True):
        with pytest.raises(OSError, match="The connection is closed: 'read_errors udp4'"):
            writer.read_errors(wait=wait)
    with pytest.raises(OSError, match="The connection is closed: 'recv_errors udp4'"):
        writer.recv_errors = True


def test_threads_share_the_queue(writer: PacketConn, dead: Endpoint) -> None:
    calls = [Call(writer.read_errors, 1, True).wait_until_waiting() for _ in range(8)]
    write_numbers(writer, dead, range(8))
    assert sorted(numbers_of([call.result()[0] for call in calls])) == list(range(8))
    assert writer.read_errors() == []
