"""How reads wait: what ends a wait, what does not, and that no datagram is lost over it."""

import errno
import os
import re
import socket
import time

import pytest
from support.net import (
    LIMIT,
    SLACK,
    Call,
    Read,
    assert_closed,
    each_read,
    open_udp,
    read_batch,
    read_from,
    send,
    wait_for,
)

from ipv4batch import Message, PacketConn

# Reads


def test_a_batch_takes_what_is_there_and_does_not_wait_for_more(conn: PacketConn) -> None:
    for count in (1, 2, 5):
        sent = [bytes([number]) for number in range(count)]
        send(conn, *sent)
        assert read_batch(conn, room=5) == sent
    send(conn, *[bytes([number]) for number in range(7)])
    assert len(read_batch(conn, room=5)) == 5
    assert read_batch(conn, room=5) == [b"\x05", b"\x06"]


def test_a_batch_that_waits_ends_with_the_first_datagram(conn: PacketConn) -> None:
    call = Call(read_batch, conn).wait_until_waiting()
    send(conn, b"first")
    assert call.result() == [b"first"]


def test_an_empty_batch_waits_for_nothing(conn: PacketConn) -> None:
    for call in (conn.read_batch, conn.write_batch, conn.write_all):
        assert call([]) == call(()) == 0
    send(conn, b"kept")
    assert conn.read_batch([]) == 0
    assert read_batch(conn) == [b"kept"]


@each_read
@pytest.mark.parametrize("seconds", [0.001, 0.1])
def test_a_timeout_is_raised_after_its_time(conn: PacketConn, read: Read, seconds: float) -> None:
    conn.timeout = seconds
    started = time.monotonic()
    where = f"'read udp4 127.0.0.1:{conn.local_addr[1]}'"
    with pytest.raises(TimeoutError, match=re.escape(f"timed out: {where}")) as caught:
        read(conn)
    assert seconds <= time.monotonic() - started < seconds + SLACK
    assert caught.value.errno == errno.ETIMEDOUT
    send(conn, b"data")
    assert read(conn) == [b"data"]


def test_the_timeout_counts_for_the_whole_call(conn: PacketConn) -> None:
    """A wait that goes on after each of many wake-ups does not begin anew."""
    conn.timeout = 0.3
    call = Call(read_batch, conn).wait_until_waiting()
    while call.is_alive():
        conn.set_write_deadline(None)
        assert time.monotonic() < call.started + 0.3 + SLACK
        call.join(0.01)
    with pytest.raises(TimeoutError):
        call.result()
    assert call.ended - call.started >= 0.3


@each_read
@pytest.mark.parametrize("how", ["timeout", "flags", "both", "descriptor"])
def test_a_call_that_may_not_wait_ends_at_once(conn: PacketConn, read: Read, how: str) -> None:
    flags = socket.MSG_DONTWAIT if how in ("flags", "both") else 0
    conn.timeout = 0 if how in ("timeout", "both") else LIMIT
    if how == "descriptor":
        os.set_blocking(conn.fileno(), False)
        conn = PacketConn(conn.fileno())
    started = time.monotonic()
    with pytest.raises(BlockingIOError, match="'read udp4 127.0.0.1:") as caught:
        read(conn, flags=flags)
    assert caught.value.errno == errno.EAGAIN
    assert time.monotonic() - started < SLACK
    send(conn, b"data")
    assert read(conn, flags=flags) == [b"data"]


@each_read
@pytest.mark.parametrize("timeout", [None, 0, 1e-9, LIMIT])
def test_what_is_there_is_taken_without_a_wait(
    conn: PacketConn, read: Read, timeout: float | None
) -> None:
    """A wait would need a wake-up descriptor, which stays open for the next one."""
    conn.timeout = timeout
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        send(conn, b"data")
        assert read(conn) == [b"data"]
    assert os.listdir("/proc/self/fd") == before
    assert conn.write_to(b"data", conn.local_addr) == 4
    assert conn.write_batch([Message(b"more", addr=conn.local_addr)]) == 1
    assert os.listdir("/proc/self/fd") == before


def test_a_blocking_descriptor_stays_as_it_is() -> None:
    with open_udp(timeout=None) as conn:
        for timeout, error in ((0, BlockingIOError), (0.001, TimeoutError)):
            conn.timeout = timeout
            with pytest.raises(error):
                read_batch(conn)
            assert os.get_blocking(conn.fileno())


def read_and_time(read: Read, conn: PacketConn) -> tuple[OSError, float]:
    """How the read failed, and for how many seconds the thread was busy."""
    before = time.thread_time()
    with pytest.raises(OSError, match="'read udp4") as caught:
        read(conn)
    return caught.value, time.thread_time() - before


@each_read
@pytest.mark.parametrize("how", [socket.SHUT_RD, socket.SHUT_RDWR])
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_read_of_a_socket_that_was_shut_down_waits_in_peace(
    conn: PacketConn, read: Read, how: int, when: str
) -> None:
    """The kernel calls such a socket readable for ever, though there is nothing to read."""
    with socket.socket(fileno=os.dup(conn.fileno())) as sock:
        sock.connect(conn.local_addr)
        if when == "before":
            sock.shutdown(how)
        conn.timeout = 0.4
        call = Call(read_and_time, read, conn)
        if when == "meanwhile":
            call.wait_until_waiting()
            sock.shutdown(how)
        error, busy = call.result()
        assert isinstance(error, TimeoutError)
        assert busy < 0.1
        conn.timeout = None
        call = Call(read_and_time, read, conn).wait_until_waiting()
        conn.close()
        assert call.result()[0].errno == errno.EBADF


# Several threads


@each_read
def test_close_ends_a_wait(conn: PacketConn, read: Read) -> None:
    call = Call(read, conn).wait_until_waiting()
    closed = time.monotonic()
    conn.close()
    assert_closed(call)
    assert call.ended - closed < SLACK


def test_close_ends_all_waits_and_then_the_socket_is_closed() -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    conn = PacketConn(sock)
    calls = [Call(read, conn) for read in (read_batch, read_from) for _ in range(5)]
    conn.recv_errors = True
    calls.append(Call(conn.read_errors, 1, True))
    for call in calls:
        call.wait_until_waiting()
    conn.close()
    for call in calls:
        assert_closed(call)
    assert sock.fileno() == -1


def test_closing_a_borrowed_descriptor_ends_waits_and_leaves_it_open(conn: PacketConn) -> None:
    borrowed = PacketConn(conn.fileno())
    borrowed.timeout = LIMIT
    call = Call(read_batch, borrowed).wait_until_waiting()
    borrowed.close()
    assert_closed(call)
    send(conn, b"data")
    assert read_batch(conn) == [b"data"]


def test_two_readers_share_what_was_sent(conn: PacketConn) -> None:
    got: list[list[bytes]] = [[], []]

    def read_all(mine: list[bytes]) -> None:
        while True:
            mine.extend(read_batch(conn, room=8))

    calls = [Call(read_all, mine).wait_until_waiting() for mine in got]
    sent = [str(number).encode() for number in range(2000)]
    for at in range(0, len(sent), 20):
        send(conn, *sent[at : at + 20])
        wait_for(lambda so_far=at: sum(map(len, got)) >= so_far, "the readers keep up")
    wait_for(lambda: sum(map(len, got)) >= len(sent), "everything is read")
    conn.close()
    for call in calls:
        assert_closed(call)
    assert sorted(got[0] + got[1]) == sorted(sent)
