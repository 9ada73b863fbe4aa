"""Sockets that are closed, and numbers that are used again, under a call."""

import errno
import os
import socket

import pytest
from support.net import LIMIT, Call, assert_closed, open_udp, udp_socket, wait_for

from ipv4batch import Message, PacketConn, new_messages


def open_pair() -> tuple[socket.socket, PacketConn]:
    sock = udp_socket()
    return sock, PacketConn(sock)


@pytest.mark.parametrize("end", ["close", "timeout", "datagram"])
@pytest.mark.parametrize("gro", [False, True])
def test_a_socket_is_closed_under_a_call(end: str, gro: bool) -> None:
    """The call ends with the first thing that wakes it, and does not look for the number."""
    sock, conn = open_pair()
    conn.gro = gro
    conn.timeout = 0.3 if end == "timeout" else LIMIT
    addr, number = conn.local_addr, sock.fileno()
    call = Call(conn.read_batch, new_messages(3, 100)).wait_until_waiting()
    sock.close()
    # Another socket has the number at once, and something to read.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other, open_udp() as sender:
        other.bind(("127.0.0.1", 0))
        assert other.fileno() == number
        sender.write_to(b"for another", other.getsockname())
        if end == "close":
            conn.close()
        elif end == "datagram":
            sender.write_to(b"for nobody", addr)  # the waiting call keeps the socket alive
        assert_closed(call)
        assert other.recv(100, socket.MSG_DONTWAIT) == b"for another"


def test_a_number_is_free_when_the_last_call_is_out() -> None:
    """close() and a new file at once, again and again: the call never gets the other's datagram."""
    with open_udp() as sender:
        for turn in range(100):
            sock, conn = open_pair()
            conn.timeout = LIMIT
            messages = new_messages(3, 100)
            call = Call(conn.read_batch, messages)
            if turn % 2:  # else it may be anywhere
                wait_for(lambda m=messages[0]: "in use" in repr(m), "the call is inside")
            conn.close()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                other.bind(("127.0.0.1", 0))
                sender.write_to(b"for another", other.getsockname())
                assert_closed(call)
                assert other.recv(100, socket.MSG_DONTWAIT) == b"for another"
            assert sock.fileno() == -1


def test_a_borrowed_number_that_is_another_file() -> None:
    """It is the lender's business; the connection says what the system says."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    conn = PacketConn(sock.fileno())
    number = sock.detach()
    pipe = os.pipe()
    os.dup2(pipe[0], number)
    for call in (
        lambda: conn.read_batch(new_messages(1)),
        lambda: conn.read_from(bytearray(9)),
        lambda: conn.write_to(b"x", ("127.0.0.1", 9)),
        lambda: conn.write_all([Message(b"x", None, ("127.0.0.1", 9))], errors="skip"),
    ):
        with pytest.raises(OSError, match=r"\[Errno 88\]") as caught:
            call()
        assert caught.value.errno == errno.ENOTSOCK
    conn.close()
    for opened in (*pipe, number):
        os.close(opened)
