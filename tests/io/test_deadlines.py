"""set_deadline, set_read_deadline and set_write_deadline, also while other threads wait."""

import errno
import fractions
import math
import os
import re
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from support.net import Call, open_udp

from ipv4batch import Conn, Message, PacketConn

SOON = 0.05
"""Seconds until a deadline that a test waits for."""

SLACK = 1.5
"""Seconds after which something does not count as happening at once; machines can be busy."""

FAR = 600.0

Read = Callable[[PacketConn], int]


@pytest.fixture
def conn() -> Iterator[PacketConn]:
    """Without a timeout, and written to by itself."""
    with open_udp(timeout=None) as made:
        yield made


def read_from(conn: PacketConn) -> int:
    return conn.read_from(bytearray(10))[0]


def read_batch(conn: PacketConn) -> int:
    messages = [Message(bytearray(10)) for _ in range(3)]
    assert conn.read_batch(messages) == 1
    return messages[0].n


each_read = pytest.mark.parametrize("read", [read_from, read_batch])
each_read_setter = pytest.mark.parametrize("setter", ["set_deadline", "set_read_deadline"])
read_and_setter = pytest.mark.parametrize(
    ("read", "setter"), [(read_from, "set_read_deadline"), (read_batch, "set_deadline")]
)


def write_to_itself(conn: PacketConn, data: bytes) -> None:
    conn.write_to(data, conn.local_addr)


def assert_timed_out(call: Call, at: float) -> None:
    """The call ended with TimeoutError, not before its time and soon after."""
    with pytest.raises(TimeoutError, match="timed out"):
        call.result()
    assert at <= call.ended < at + SLACK


@each_read
@each_read_setter
def test_a_read_ends_at_its_deadline(conn: PacketConn, setter: str, read: Read) -> None:
    deadline = time.monotonic() + SOON
    getattr(conn, setter)(deadline)
    assert_timed_out(Call(read, conn), deadline)


def test_the_error_is_a_timeout_and_tells_where(conn: PacketConn) -> None:
    conn.set_deadline(time.monotonic())
    with pytest.raises(TimeoutError) as caught:
        conn.read_from(bytearray(1))
    assert caught.value.errno == errno.ETIMEDOUT
    assert str(caught.value) == (
        f"[Errno {errno.ETIMEDOUT}] timed out: 'read udp4 127.0.0.1:{conn.local_addr[1]}'"
    )


@each_read
@each_read_setter
@pytest.mark.parametrize("before", [None, FAR])
def test_set_or_moved_earlier_while_a_read_waits(
    conn: PacketConn, setter: str, read: Read, before: float | None
) -> None:
    conn.set_deadline(before and time.monotonic() + before)
    call = Call(read, conn).wait_until_waiting()
    deadline = time.monotonic() + SOON
    getattr(conn, setter)(deadline)
    assert_timed_out(call, deadline)


@each_read
@each_read_setter
def test_set_to_a_time_that_is_past_while_a_read_waits(
    conn: PacketConn, setter: str, read: Read
) -> None:
    call = Call(read, conn).wait_until_waiting()
    now = time.monotonic()
    getattr(conn, setter)(now - 1)
    assert_timed_out(call, now)


@read_and_setter
def test_moved_later_while_a_read_waits(conn: PacketConn, setter: str, read: Read) -> None:
    first = time.monotonic() + 0.4
    conn.set_read_deadline(first)
    call = Call(read, conn).wait_until_waiting()
    later = first + 0.1
    getattr(conn, setter)(later)
    assert time.monotonic() < first, "too late to see anything"
    assert_timed_out(call, later)


@read_and_setter
def test_cleared_while_a_read_waits(conn: PacketConn, setter: str, read: Read) -> None:
    deadline = time.monotonic() + 0.4
    conn.set_read_deadline(deadline)
    call = Call(read, conn).wait_until_waiting()
    getattr(conn, setter)(None)
    assert time.monotonic() < deadline, "too late to see anything"
    call.join(deadline + 0.1 - time.monotonic())
    assert call.is_alive()
    write_to_itself(conn, b"data")
    assert call.result() == 4


@each_read
def test_moved_many_times_while_a_read_waits(conn: PacketConn, read: Read) -> None:
    """Every move wakes the reader, which takes the datagram in the end and leaves nothing open."""
    descriptors = len(os.listdir("/proc/self/fd"))
    call = Call(read, conn).wait_until_waiting()
    for step in range(1000):
        conn.set_read_deadline(time.monotonic() + FAR + step if step % 3 else None)
    call.wait_until_waiting()
    write_to_itself(conn, b"data")
    assert call.result() == 4
    # One wake-up descriptor may stay for those who wait next: an eventfd, or the ends of a pipe.
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 2


@each_read
@pytest.mark.parametrize("past", [-math.inf, -1e300, -1, 0, 1e-9])
def test_past_its_deadline_a_read_takes_what_is_there(
    conn: PacketConn, read: Read, past: float
) -> None:
    conn.set_deadline(past)
    write_to_itself(conn, b"data")
    assert read(conn) == 4
    with pytest.raises(TimeoutError):
        read(conn)
    conn.set_deadline(None)
    write_to_itself(conn, b"data")
    assert read(conn) == 4


def test_past_its_deadline_a_write_that_needs_no_wait_is_made(conn: PacketConn) -> None:
    conn.set_deadline(0)
    assert conn.write_to(b"data", conn.local_addr) == 4
    assert conn.write_batch([Message(b"data", None, conn.local_addr)] * 3) == 3


@each_read
def test_the_deadline_of_writes_does_not_end_a_read(conn: PacketConn, read: Read) -> None:
    conn.set_write_deadline(time.monotonic() - 1)
    call = Call(read, conn).wait_until_waiting()
    conn.set_write_deadline(time.monotonic() - 1)
    call.wait_until_waiting()
    write_to_itself(conn, b"data")
    assert call.result() == 4


def test_many_waiters_end_together_and_the_connection_goes_on(conn: PacketConn) -> None:
    calls = [Call(read, conn) for read in (read_from, read_batch) for _ in range(10)]
    for call in calls:
        call.wait_until_waiting()
    deadline = time.monotonic() + SOON
    conn.set_deadline(deadline)
    for call in calls:
        assert_timed_out(call, deadline)
    conn.set_deadline(None)
    call = Call(read_from, conn).wait_until_waiting()
    write_to_itself(conn, b"data")
    assert call.result() == 4


def test_many_waiters_go_on_when_the_deadline_is_cleared(conn: PacketConn) -> None:
    deadline = time.monotonic() + 0.6
    conn.set_deadline(deadline)
    calls = [Call(read_from, conn).wait_until_waiting() for _ in range(10)]
    conn.set_deadline(None)
    assert time.monotonic() < deadline, "too late to see anything"
    calls[0].join(deadline + 0.05 - time.monotonic())
    assert all(call.is_alive() for call in calls)
    for _ in calls:
        write_to_itself(conn, b"data")
    assert [call.result() for call in calls] == [4] * len(calls)


@pytest.mark.parametrize(("timeout", "deadline"), [(SOON, FAR), (FAR, SOON)])
def test_the_nearer_of_timeout_and_deadline_counts(
    conn: PacketConn, timeout: float, deadline: float
) -> None:
    now = time.monotonic()
    conn.timeout = timeout
    conn.set_read_deadline(now + deadline)
    assert_timed_out(Call(read_from, conn), now + SOON)


def test_moving_the_deadline_does_not_prolong_the_timeout(conn: PacketConn) -> None:
    conn.timeout = 0.3
    call = Call(read_from, conn).wait_until_waiting()
    while call.is_alive():
        conn.set_deadline(time.monotonic() + FAR)
        call.join(0.02)
        assert time.monotonic() < call.started + 0.3 + SLACK
    assert_timed_out(call, call.started + 0.3)


def test_a_connection_that_never_waits_needs_no_deadline(conn: PacketConn) -> None:
    conn.timeout = 0
    for deadline in (0, time.monotonic() + FAR, None):
        conn.set_deadline(deadline)
        with pytest.raises(BlockingIOError):
            conn.read_from(bytearray(1))


@pytest.mark.parametrize("setter", ["set_deadline", "set_read_deadline", "set_write_deadline"])
def test_what_is_no_time_is_refused_and_changes_nothing(conn: PacketConn, setter: str) -> None:
    conn.set_deadline(0)
    with pytest.raises(ValueError, match="deadline: nan is no number of seconds"):
        getattr(conn, setter)(math.nan)
    for wrong in ("1", b"1", [1], 1j):
        with pytest.raises(TypeError, match=re.escape(type(wrong).__name__)):
            getattr(conn, setter)(wrong)
    with pytest.raises(TimeoutError):
        conn.read_from(bytearray(1))


@pytest.mark.parametrize("forever", [math.inf, 1e300, 10**18])
def test_a_time_that_never_comes_is_none(conn: PacketConn, forever: float) -> None:
    conn.set_deadline(0)
    conn.set_deadline(forever)
    call = Call(read_from, conn).wait_until_waiting()
    write_to_itself(conn, b"data")
    assert call.result() == 4


def test_any_real_number_is_a_time(conn: PacketConn) -> None:
    for number in (0, True, fractions.Fraction(1, 3), 0.5):
        conn.set_deadline(None)
        conn.set_deadline(number)
        with pytest.raises(TimeoutError):
            conn.read_from(bytearray(1))


def test_every_connection_has_deadlines_until_it_is_closed() -> None:
    with Conn(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as conn:
        conn.set_deadline(time.monotonic())
    for setter in ("set_deadline", "set_read_deadline", "set_write_deadline"):
        with pytest.raises(OSError, match="The connection is closed: .* tcp4'"):
            getattr(conn, setter)(None)
