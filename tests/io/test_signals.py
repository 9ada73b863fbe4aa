"""Signals that come while calls wait: handlers run, what they raise ends the call."""

import errno
import os
import signal
import socket
import threading
import time
from typing import Any

import pytest
from support.net import LIMIT, SLACK, Call, Read, each_read, read_batch, read_from, send, wait_for
from support.signals import (
    Counter,
    SignalError,
    handled,
    interrupt,
    signal_main,
    when_main_waits,
)

from ipv4batch import Message, PacketConn


@each_read
def test_a_handler_runs_during_the_wait_and_the_call_goes_on(conn: PacketConn, read: Read) -> None:
    counter = Counter()
    with handled(signal.SIGUSR1, counter):
        call = when_main_waits(counter.signal_three_times, lambda: send(conn, b"data"))
        assert read(conn) == [b"data"]
        call.result()
    assert counter.count == 3


def test_signals_do_not_prolong_the_timeout(conn: PacketConn) -> None:
    conn.timeout = 0.3
    counter = Counter()
    over = threading.Event()

    def pester() -> None:
        while not over.wait(0.01):
            signal_main()

    with handled(signal.SIGUSR1, counter):
        started = time.monotonic()
        call = Call(pester)
        with pytest.raises(TimeoutError):
            read_batch(conn)
        took = time.monotonic() - started
        over.set()
        call.result()
    assert 0.3 <= took < 0.3 + SLACK
    assert counter.count > 1


@each_read
def test_a_handler_that_raises_ends_the_wait(conn: PacketConn, read: Read) -> None:
    with handled(signal.SIGUSR1, interrupt):
        call = when_main_waits(signal_main)
        with pytest.raises(SignalError):
            read(conn)
        call.result()
    send(conn, b"data")
    assert read(conn) == [b"data"]


@each_read
def test_ctrl_c(conn: PacketConn, read: Read) -> None:
    with handled(signal.SIGINT, signal.default_int_handler):
        call = when_main_waits(lambda: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            read(conn)
        call.result()
    send(conn, b"data")
    assert read(conn) == [b"data"]


def test_a_signal_to_another_thread_does_not_end_its_wait(conn: PacketConn) -> None:
    counter = Counter()
    with handled(signal.SIGUSR1, counter):
        call = Call(read_batch, conn).wait_until_waiting()
        for count in range(3):
            signal.pthread_kill(call.ident, signal.SIGUSR1)
            wait_for(lambda so_far=count: counter.count > so_far, "the handler runs")
        call.wait_until_waiting()
        send(conn, b"data")
        assert call.result() == [b"data"]


@pytest.mark.parametrize("batch", [True, False])
def test_a_datagram_that_comes_with_the_signal_is_not_lost(conn: PacketConn, batch: bool) -> None:
    """It is in the buffer or still in the socket, whichever of the two was first."""
    for number in range(100):
        sent = b"number %d" % number
        buffer = bytearray(20)
        message = Message(buffer)
        steps = [signal_main, lambda data=sent: send(conn, data)]
        with handled(signal.SIGUSR1, interrupt):
            call = when_main_waits(*(steps if number % 2 else reversed(steps)))
            with pytest.raises(SignalError):
                _ = conn.read_batch([message]) if batch else conn.read_from(buffer)
                time.sleep(LIMIT)  # The read was first: the signal comes now.
            call.result()
        taken = bytes(buffer).rstrip(b"\0")
        assert message.data == (taken if batch else b"")
        if not taken:
            taken = read_from(conn, socket.MSG_DONTWAIT)[0]
        assert taken == sent
        with pytest.raises(BlockingIOError):
            read_from(conn, socket.MSG_DONTWAIT)


@pytest.mark.parametrize("signum", [signal.SIGUSR1, signal.SIGINT])
def test_a_handler_that_raises_ends_a_long_row_of_failures(conn: PacketConn, signum: int) -> None:
    """None of these writes waits, and yet the exception does not wait for the last of them."""
    refused = Message(b"x", addr=("255.255.255.255", 9))  # not without SO_BROADCAST

    def signal_after_the_first() -> None:
        wait_for(lambda: refused.errno == errno.EACCES, "the first write has failed")
        signal_main(signum)

    with handled(signum, interrupt):
        call = Call(signal_after_the_first)
        with pytest.raises(SignalError) as caught:
            conn.write_all([refused] * 200_000, errors="skip")
        call.result()
    error: Any = caught.value
    # It passes as it is; the messages and the connection tell how far the call came.
    assert not hasattr(error, "index")
    assert not hasattr(error, "written")
    assert conn.last_written == 0
    assert refused.errno in (errno.EACCES, errno.ECANCELED)
