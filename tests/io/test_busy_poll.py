"""busy_poll: a read looks again before it sleeps, and ends as one that sleeps does."""

import errno
import os
import signal
import socket
import sys
import threading
import time
from typing import Any

import pytest
from support.net import Call, open_udp

from ipv4batch import Message, PacketConn, new_messages

SOON = 0.02
"""Seconds within which an end must have been seen; the best of some tries counts."""

TRIES = 8
MOST = 1_000_000


def test_it_is_an_attribute(reader: PacketConn) -> None:
    assert reader.busy_poll == 0
    for value in (1, 50, MOST, 0):
        reader.busy_poll = value
        assert reader.busy_poll == value


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (-1, ValueError),
        (MOST + 1, ValueError),
        (1 << 70, ValueError),
        (1.5, TypeError),
        ("1", TypeError),
        (None, TypeError),
    ],
)
def test_wrong_values(reader: PacketConn, value: Any, error: type[Exception]) -> None:
    reader.busy_poll = 7
    with pytest.raises(error, match="busy_poll"):
        reader.busy_poll = value
    with pytest.raises(TypeError, match="busy_poll: cannot be deleted"):
        del reader.busy_poll
    assert reader.busy_poll == 7


def looks(count: int) -> float:
    """Processor seconds of a read that times out after so many milliseconds."""
    with open_udp(timeout=count / 1000) as conn:
        conn.busy_poll = MOST
        started = time.thread_time()
        with pytest.raises(TimeoutError):
            conn.read_batch(new_messages(1))
        return time.thread_time() - started


def test_it_looks_instead_of_sleeping() -> None:
    assert max(looks(50) for _ in range(TRIES)) > 0.01
    with open_udp(timeout=0.05) as conn:
        started = time.thread_time()
        with pytest.raises(TimeoutError):
            conn.read_batch(new_messages(1))
        assert time.thread_time() - started < 0.01


@pytest.mark.parametrize("gro", [False, True])
@pytest.mark.parametrize("call", ["read_batch", "read_from"])
def test_what_comes_meanwhile_is_read(writer: PacketConn, gro: bool, call: str) -> None:
    with open_udp() as reader:
        reader.busy_poll = MOST
        reader.gro = gro
        message = Message(bytearray(9))
        buffer = bytearray(9)
        for number in range(20):
            waiting = (
                Call(reader.read_batch, [message])
                if call == "read_batch"
                else Call(reader.read_from, buffer)
            )
            time.sleep(0.001 * (number % 3))
            writer.write_to(b"%d" % number, reader.local_addr)
            result = waiting.result()
            if call == "read_batch":
                assert (result, message.data) == (1, b"%d" % number)
            else:
                assert bytes(buffer[: result[0]]) == b"%d" % number


def test_it_sleeps_when_the_time_is_over(reader: PacketConn, writer: PacketConn) -> None:
    reader.busy_poll = 1000
    call = Call(reader.read_batch, new_messages(1)).wait_until_waiting()
    writer.write_to(b"x", reader.local_addr)
    assert call.result() == 1


def test_a_read_that_may_not_wait_does_not_look_again(reader: PacketConn) -> None:
    reader.busy_poll = MOST
    started = time.monotonic()
    with pytest.raises(BlockingIOError):
        reader.read_batch(new_messages(1), socket.MSG_DONTWAIT)
    reader.timeout = 0
    with pytest.raises(BlockingIOError):
        reader.read_from(bytearray(9))
    assert time.monotonic() - started < 0.5


@pytest.mark.parametrize("how", ["close", "deadline", "timeout"])
def test_it_ends(how: str) -> None:
    late = []
    for _ in range(TRIES):
        conn = open_udp(timeout=0.03 if how == "timeout" else None)
        conn.busy_poll = MOST
        call = Call(conn.read_batch, new_messages(1))
        time.sleep(0.01)
        if how == "close":
            conn.close()
        elif how == "deadline":
            conn.set_read_deadline(time.monotonic())
        due = call.started + 0.03 if how == "timeout" else time.monotonic()
        with pytest.raises(OSError, match=r"closed|timed out") as caught:
            call.result()
        late.append(call.ended - due)
        expected = errno.EBADF if how == "close" else errno.ETIMEDOUT
        assert caught.value.errno == expected
        conn.close()
    assert min(late) < SOON


class AlarmError(Exception):
    """What the handler raises."""


def test_a_signal_is_seen(reader: PacketConn) -> None:
    seen_at = 0.0

    def handler(*_: object) -> None:
        nonlocal seen_at
        seen_at = time.monotonic()
        raise AlarmError

    reader.busy_poll = MOST
    reader.timeout = None
    before = signal.signal(signal.SIGALRM, handler)
    late = []
    try:
        for _ in range(TRIES):
            due = time.monotonic() + 0.01
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            with pytest.raises(AlarmError):
                reader.read_batch(new_messages(1))
            late.append(seen_at - due)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert min(late) < SOON


def test_other_threads_run_meanwhile(reader: PacketConn, writer: PacketConn) -> None:
    reader.busy_poll = MOST
    turns = 0
    over = threading.Event()

    def count() -> None:
        nonlocal turns
        while not over.is_set():
            turns += 1
            time.sleep(0)

    counting, reading = Call(count), Call(reader.read_batch, new_messages(1))
    time.sleep(0.05)
    assert turns > 10
    writer.write_to(b"x", reader.local_addr)
    assert reading.result() == 1
    over.set()
    counting.result()


def test_two_readers_get_one_datagram_each(reader: PacketConn, writer: PacketConn) -> None:
    reader.busy_poll = MOST
    lists = [new_messages(1, 9) for _ in range(2)]
    calls = [Call(reader.read_batch, messages) for messages in lists]
    writer.write_to(b"1", reader.local_addr)
    writer.write_to(b"2", reader.local_addr)
    assert [call.result() for call in calls] == [1, 1]
    assert {messages[0].data for messages in lists} == {b"1", b"2"}


@pytest.mark.skipif(sys.platform != "linux", reason="os.fork in a test")
def test_a_fork_meanwhile(reader: PacketConn, writer: PacketConn) -> None:
    """The child has the parent's setting, and neither disturbs the other."""
    reader.busy_poll = MOST
    call = Call(reader.read_batch, new_messages(1))
    time.sleep(0.005)
    child = os.fork()
    if child == 0:
        try:
            reader.timeout = 0.01
            reader.read_batch(new_messages(1))
        except TimeoutError:
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    writer.write_to(b"x", reader.local_addr)
    assert call.result() == 1
