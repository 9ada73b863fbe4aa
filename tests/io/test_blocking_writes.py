"""How writes wait for room: on a loopback whose queue lets nothing out."""

import re
import signal
import socket
import time
from collections.abc import Callable

import pytest
from support.clogged import SIZE, Clogged
from support.net import (
    SLACK,
    Call,
    assert_closed,
)
from support.signals import (
    Counter,
    SignalError,
    handled,
    interrupt,
    signal_main,
    when_main_waits,
)

from ipv4batch import Message


def write_batch(clogged: Clogged) -> int:
    return clogged.conn.write_batch(clogged.messages(2))


def write_all(clogged: Clogged) -> int:
    return clogged.conn.write_all(clogged.messages(2))


def write_to(clogged: Clogged) -> int:
    return clogged.conn.write_to(bytes(SIZE), clogged.conn.local_addr)


Write = Callable[[Clogged], int]
each_write = pytest.mark.parametrize("write", [write_batch, write_all, write_to])


@each_write
def test_a_write_without_room_ends_as_the_timeout_says(clogged: Clogged, write: Write) -> None:
    where = f"'write udp4 127.0.0.1:{clogged.conn.local_addr[1]}'"
    clogged.conn.timeout = 0
    with pytest.raises(BlockingIOError, match=re.escape(where)):
        write(clogged)
    clogged.conn.timeout = 0.05
    started = time.monotonic()
    with pytest.raises(TimeoutError, match=re.escape(f"timed out: {where}")):
        write(clogged)
    assert 0.05 <= time.monotonic() - started < 0.05 + SLACK


@each_write
def test_a_write_goes_on_when_there_is_room(clogged: Clogged, write: Write) -> None:
    counter = Counter()
    with handled(signal.SIGUSR1, counter):
        call = when_main_waits(counter.signal_three_times, clogged.unclog)
        assert write(clogged) in (1, 2, SIZE)
        call.result()
    assert counter.count == 3
    assert clogged.conn.read_from(bytearray(SIZE))[0] == SIZE


def test_a_batch_that_finds_some_room_does_not_wait_for_more(clogged: Clogged) -> None:
    clogged.unclog()
    clogged.clog()
    started = time.monotonic()
    assert 1 <= clogged.conn.write_batch(clogged.messages(100)) < 100
    assert time.monotonic() - started < SLACK


@each_write
def test_a_handler_that_raises_ends_a_write(clogged: Clogged, write: Write) -> None:
    with handled(signal.SIGUSR1, interrupt):
        call = when_main_waits(signal_main)
        with pytest.raises(SignalError):
            write(clogged)
        call.result()


def test_close_ends_all_waiting_writes(clogged: Clogged) -> None:
    calls = [Call(write, clogged) for write in (write_batch, write_all, write_to) * 2]
    for call in calls:
        call.wait_until_waiting()
    clogged.conn.close()
    for call in calls:
        assert_closed(call)


def test_a_deadline_ends_waiting_writes(clogged: Clogged) -> None:
    calls = [Call(write, clogged) for write in (write_batch, write_all, write_to)]
    clogged.conn.set_read_deadline(0)
    for call in calls:
        call.wait_until_waiting()
    deadline = time.monotonic() + 0.05
    clogged.conn.set_write_deadline(deadline)
    for call in calls:
        with pytest.raises(TimeoutError, match="timed out: 'write"):
            call.result()
        assert deadline <= call.ended < deadline + SLACK


def test_a_message_that_is_being_written_can_be_written_again_but_not_changed(
    clogged: Clogged,
) -> None:
    message = Message(bytearray(SIZE), addr=clogged.conn.local_addr)
    calls = [Call(clogged.conn.write_batch, [message, message]) for _ in range(2)]
    for call in calls:
        call.wait_until_waiting()
    for field in ("buffers", "oob", "addr"):
        with pytest.raises(RuntimeError, match=f"{field}: the message is in use by another call"):
            setattr(message, field, getattr(message, field))
    with pytest.raises(RuntimeError, match=r"msgs\[0\]: in use by another call"):
        clogged.conn.read_batch([message], socket.MSG_DONTWAIT)
    with pytest.raises(BlockingIOError):
        clogged.conn.write_batch([message], socket.MSG_DONTWAIT)
    clogged.unclog()
    assert [call.result() for call in calls] == [2, 2]
    message.buffers = ()
