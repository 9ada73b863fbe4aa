"""write_paced: departures on an absolute schedule, by the kernel's stamps and by late_ns."""

import errno
import itertools
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from support.net import LIMIT, Call, open_udp
from support.signals import SignalError, handled, interrupt

from ipv4batch import ControlFlags, Message, PacketConn, new_messages

MS = 1_000_000
ON_TIME = 5 * MS
"""A median is better than that; a single departure on a busy machine may not be."""


def numbered(reader: PacketConn, count: int, size: int = 8) -> list[Message]:
    return [Message(number.to_bytes(size), addr=reader.local_addr) for number in range(count)]


def arrivals(reader: PacketConn, count: int) -> list[tuple[int, int]]:
    """The number and the kernel's time of each datagram, in ns."""
    found: list[tuple[int, int]] = []
    into = new_messages(count, 2000, ControlFlags.TIMESTAMP)
    while len(found) < count:
        for message in into[: reader.read_batch(into)]:
            control = message.control_message()
            assert control is not None
            found.append((int.from_bytes(message.data), control.timestamp_ns))
    return found


@pytest.fixture
def reader() -> Iterator[PacketConn]:
    """The kernel begins to stamp some time after it was asked to. Until then a datagram gets the
    time at which it is read (__sock_recv_timestamp, net/socket.c).
    """
    with open_udp() as conn:
        conn.set_control_message(ControlFlags.TIMESTAMP)
        (message,) = into = new_messages(1, 8, ControlFlags.TIMESTAMP)
        deadline = time.monotonic() + LIMIT
        while True:
            assert time.monotonic() < deadline
            conn.write_to(b"", conn.local_addr)
            sent = time.time_ns()
            conn.read_batch(into)
            control = message.control_message()
            assert control is not None
            if control.timestamp_ns <= sent:
                break
        yield conn


def median(values: list[int]) -> int:
    return sorted(values)[len(values) // 2]


@pytest.mark.parametrize("gso", [False, True])
@pytest.mark.parametrize(("interval", "burst"), [(2 * MS, 1), (5 * MS, 4), (MS // 10, 1)])
def test_departures(
    writer: PacketConn, reader: PacketConn, interval: int, burst: int, gso: bool
) -> None:
    count = 42 if interval >= MS else 500  # long enough for one interruption to be an exception
    messages = numbered(reader, count)
    writer.gso = gso
    reading = Call(lambda: arrivals(reader, count))
    assert writer.write_paced(messages, interval, burst=burst) == count
    found = reading.result()
    assert [number for number, _ in found] == list(range(count))
    start = min(at - number // burst * interval for number, at in found)
    late = [at - start - number // burst * interval for number, at in found]
    assert median(late) < ON_TIME
    assert {m.errno for m in messages} == {0}
    assert all(m.late_ns >= 0 for m in messages)
    assert median([m.late_ns for m in messages]) < ON_TIME
    for tick in range(0, count, burst):
        assert not gso or len({m.late_ns for m in messages[tick : tick + burst]}) == 1


def test_offsets_of_each_message(writer: PacketConn, reader: PacketConn) -> None:
    """As a capture is replayed with its own spacing."""
    offsets = [0, 0, 10 * MS, 40 * MS, 40 * MS, 100 * MS]
    messages = numbered(reader, 6)
    assert writer.write_paced(messages, offsets) == 6
    times = [at for _, at in arrivals(reader, 6)]
    for (k, a), (_, b) in itertools.pairwise(enumerate(times)):
        # As far as it was on time, each gap is that of the offsets.
        late = abs(messages[k].late_ns) + abs(messages[k + 1].late_ns)
        assert abs(b - a - (offsets[k + 1] - offsets[k])) < ON_TIME + late


@pytest.mark.parametrize("catch_up", [True, False])
def test_what_is_late_is_caught_up_with_or_moves_the_rest(
    writer: PacketConn, reader: PacketConn, catch_up: bool
) -> None:
    """A signal handler keeps the call from its schedule for 60 ms."""
    interval, pause = 5 * MS, 60 * MS

    def handler(signum: int, frame: Any) -> None:
        time.sleep(pause / 1e9)

    messages = numbered(reader, 20)
    with handled(signal.SIGALRM, handler):
        signal.setitimer(signal.ITIMER_REAL, 0.012)
        started = time.monotonic_ns()
        assert writer.write_paced(messages, interval, catch_up=catch_up) == 20
        taken = time.monotonic_ns() - started
    late = [m.late_ns for m in messages]
    delayed = max(range(20), key=late.__getitem__)
    assert late[delayed] > pause // 2
    if catch_up:
        assert all(ns > late[delayed] - 6 * interval for ns in late[delayed : delayed + 5])
    else:
        assert taken > 19 * interval + pause // 2
        assert median(late[delayed + 1 :]) < ON_TIME


def test_nothing_and_one(writer: PacketConn, reader: PacketConn) -> None:
    started = time.monotonic()
    assert writer.write_paced([], 10**12) == 0
    assert writer.write_paced(numbered(reader, 1), 10**12) == 1
    assert writer.write_paced(numbered(reader, 3), 10**12, burst=4) == 3
    assert writer.write_paced((), ()) == 0
    assert time.monotonic() - started < LIMIT
    assert Message().late_ns == 0


def test_more_than_a_turn(writer: PacketConn, reader: PacketConn) -> None:
    started = time.monotonic_ns()
    assert writer.write_paced(numbered(reader, 3000, 2), 20_000) == 3000
    assert time.monotonic_ns() - started >= 2999 * 20_000


@pytest.mark.parametrize("interval", [10 * MS, MS // 100])
def test_a_signal_ends_it(writer: PacketConn, reader: PacketConn, interval: int) -> None:
    messages = numbered(reader, 100_000)
    with handled(signal.SIGALRM, interrupt):
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        started = time.monotonic()
        with pytest.raises(SignalError):
            writer.write_paced(messages, interval)
        assert time.monotonic() - started < 0.05 + LIMIT / 4
    sent = writer.last_written
    assert 0 < sent < len(messages)
    assert {m.errno for m in messages[:sent]} == {0}
    assert {m.errno for m in messages[sent:]} == {errno.ECANCELED}


@pytest.mark.parametrize("interval", [20 * MS, MS // 100])
def test_close_ends_it(writer: PacketConn, reader: PacketConn, interval: int) -> None:
    messages = numbered(reader, 100_000)
    timer = threading.Timer(0.05, writer.close)
    timer.start()
    started = time.monotonic()
    with pytest.raises(OSError, match="The connection is closed") as raised:
        writer.write_paced(messages, interval)
    assert time.monotonic() - started < 0.05 + LIMIT / 4
    timer.join()
    assert raised.value.errno == errno.EBADF
    assert raised.value.index == raised.value.written > 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("interval", [20 * MS, MS // 100])
def test_a_deadline_ends_it(writer: PacketConn, reader: PacketConn, interval: int) -> None:
    messages = numbered(reader, 100_000)
    writer.set_write_deadline(time.monotonic() + 0.05)
    started = time.monotonic()
    with pytest.raises(TimeoutError) as raised:
        writer.write_paced(messages, interval)
    assert 0.04 < time.monotonic() - started < 0.05 + LIMIT / 4
    assert raised.value.index == raised.value.written > 0  # type: ignore[attr-defined]
    assert messages[raised.value.index - 1].errno == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("errors", ["raise", "skip"])
def test_a_deadline_that_is_over(writer: PacketConn, reader: PacketConn, errors: str) -> None:
    """Also when the call before has left other values on the stack: a signal's."""

    def write(interval: int) -> None:
        writer.write_paced(messages, interval, errors=errors)

    messages = numbered(reader, 3)
    with handled(signal.SIGALRM, interrupt):
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        with pytest.raises(SignalError):
            write(10**12)
    writer.set_write_deadline(time.monotonic())
    with pytest.raises(TimeoutError) as raised:
        write(0)
    assert (raised.value.index, raised.value.written) == (0, 0)  # type: ignore[attr-defined]
    assert [m.errno for m in messages] == [errno.ECANCELED] * 3


def test_a_timeout_is_for_room_alone(reader: PacketConn) -> None:
    with open_udp(timeout=0.01) as conn:
        assert conn.write_paced(numbered(reader, 6), 10 * MS) == 6
        conn.timeout = 0
        assert conn.write_paced(numbered(reader, 3), 10 * MS) == 3


def test_failures_are_as_in_write_all(writer: PacketConn, reader: PacketConn) -> None:
    messages = numbered(reader, 9)
    messages[4].buffers = bytes(65_508)
    with pytest.raises(OSError, match="Message too long") as raised:
        writer.write_paced(messages, MS, burst=2)
    assert (raised.value.index, raised.value.written) == (4, 4)  # type: ignore[attr-defined]
    cancelled = [errno.ECANCELED] * 4
    assert [m.errno for m in messages] == [0] * 4 + [errno.EMSGSIZE, *cancelled]
    assert writer.write_paced(messages, MS, 0, "skip", burst=2) == 8
    assert [m.errno for m in messages] == [0] * 4 + [errno.EMSGSIZE] + [0] * 4
    wanted = [*range(4), *range(4), *range(5, 9)]
    assert [number for number, _ in arrivals(reader, 12)] == wanted


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"interval_ns": -1}, ValueError, "interval_ns: -1 is out of range, 0 to 36000000000000"),
        ({"interval_ns": 10**16}, ValueError, "interval_ns: 10000000000000000 is out of range"),
        ({"interval_ns": 1.5}, TypeError, "interval_ns: an int is required, not float"),
        ({"interval_ns": None}, TypeError, "interval_ns: an int is required, not NoneType"),
        ({"interval_ns": [0]}, ValueError, "interval_ns: 1 offsets for 2 messages"),
        ({"interval_ns": [5, 4]}, ValueError, "interval_ns[1]: 4 is out of range, 5 to 36000000"),
        ({"interval_ns": [-1, 4]}, ValueError, "interval_ns[0]: -1 is out of range, 0 to"),
        ({"interval_ns": [0, "1"]}, TypeError, "interval_ns[1]: an int is required, not str"),
        ({"interval_ns": [0, 1], "burst": 2}, ValueError, "burst: offsets in interval_ns are of "),
        ({"burst": 0}, ValueError, "burst: 0 is out of range, 1 to 1024"),
        ({"burst": 1025}, ValueError, "burst: 1025 is out of range, 1 to 1024"),
        ({"errors": "ignore"}, ValueError, "errors: 'raise' or 'skip' is required"),
        ({"msgs": [1, 2]}, TypeError, "msgs[0]: a Message is required, not int"),
        ({"msgs": 5}, TypeError, "msgs: a sequence of Message is required, not int"),
    ],
)
def test_bad_input(
    writer: PacketConn, reader: PacketConn, given: Any, error: type[Exception], text: str
) -> None:
    arguments = {"msgs": numbered(reader, 2), "interval_ns": MS, **given}
    with pytest.raises(error, match=re.escape(text)):
        writer.write_paced(**arguments)
    with pytest.raises(BlockingIOError):
        reader.read_batch(new_messages(1), socket.MSG_DONTWAIT)


def test_a_burst_is_a_run(writer: PacketConn, reader: PacketConn) -> None:
    """With gso the kernel gets a burst as one datagram, as a reader of whole ones sees."""
    writer.gso = True
    reader.set_control_message(ControlFlags.SEGMENT)
    assert writer.write_paced(numbered(reader, 12, 100), 2 * MS, burst=4) == 12
    into = new_messages(1, 2000, ControlFlags.SEGMENT | ControlFlags.TIMESTAMP)
    pieces: list[int] = []
    while sum(pieces) < 12:
        reader.read_batch(into)
        pieces.append(len(into[0].segments()))
    assert pieces == [4, 4, 4]


def test_two_threads_each_on_its_schedule(writer: PacketConn, reader: PacketConn) -> None:
    lists = [numbered(reader, 30), numbered(reader, 30)]
    calls = [Call(lambda k=k: writer.write_paced(lists[k], 2 * MS)) for k in range(2)]
    assert [call.result() for call in calls] == [30, 30]
    assert median([m.late_ns for each in lists for m in each]) < ON_TIME


def test_a_fork_in_the_midst_of_it(writer: PacketConn, reader: PacketConn) -> None:
    messages = numbered(reader, 40)
    forked: list[int] = []

    def fork() -> None:
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        forked.append(os.waitpid(pid, 0)[1])

    timer = threading.Timer(0.03, fork)
    timer.start()
    assert writer.write_paced(messages, 3 * MS) == 40
    timer.join()
    assert forked == [0]
