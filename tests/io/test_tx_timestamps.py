"""tx_timestamps and read_tx_timestamps: when each message left, and that the time is its own."""

import errno
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from support.net import LOOPBACK, Call, open_udp, raw_pair, udp_socket, wait_for
from support.signals import SignalError, handled, interrupt

from ipv4batch import (
    ControlFlags,
    ControlMessage,
    Header,
    Message,
    PacketConn,
    TimestampKind,
    TxTimestamp,
    capabilities,
    new_messages,
)

BOTH = TimestampKind.SCHED | TimestampKind.SOFTWARE
SO_TIMESTAMPING, SO_NO_CHECK = 37, 11
RX_SOFTWARE, SOFTWARE = 8, 16

pytestmark = pytest.mark.skipif(
    not capabilities()["tx_timestamps"], reason="this kernel has no ids for departure times"
)


@pytest.fixture
def writer() -> Iterator[PacketConn]:
    with open_udp() as conn:
        conn.tx_timestamps = BOTH
        yield conn


def numbered(reader: PacketConn, count: int, size: int = 8) -> list[Message]:
    return [Message(number.to_bytes(size), addr=reader.local_addr) for number in range(count)]


def read_stamps(conn: PacketConn, count: int) -> list[TxTimestamp]:
    """So many, as they come."""
    found: list[TxTimestamp] = []
    while len(found) < count:
        found += conn.read_tx_timestamps(count - len(found), wait=True)
    return found


def times_of(stamps: list[TxTimestamp]) -> dict[int, dict[int, int]]:
    """The times of each id, by their kind."""
    times: dict[int, dict[int, int]] = {}
    for stamp in stamps:
        assert stamp.kind not in times.setdefault(stamp.tx_id, {})
        times[stamp.tx_id][stamp.kind] = stamp.ns
    return times


def ids_of(messages: list[Message]) -> list[int]:
    ids = [message.tx_id for message in messages]
    assert None not in ids
    return [int(number or 0) for number in ids]


def test_each_message_has_its_times(writer: PacketConn, reader: PacketConn) -> None:
    messages = numbered(reader, 5)
    assert [message.tx_id for message in messages] == [None] * 5
    before = time.time_ns()
    assert writer.write_batch(messages) == 5
    stamps = read_stamps(writer, 10)
    after = time.time_ns()
    assert ids_of(messages) == [1, 2, 3, 4, 5]
    assert stamps == [
        (number, kind, stamps[i].ns)
        for i, (number, kind) in enumerate(
            (number, kind) for number in range(1, 6) for kind in (1, 2)
        )
    ]
    assert before <= stamps[0].ns
    assert [stamp.ns for stamp in stamps] == sorted(stamp.ns for stamp in stamps)
    assert stamps[-1].ns <= after
    assert writer.read_tx_timestamps() == []
    assert writer.write_all(messages[:2]) == 2
    assert ids_of(messages) == [6, 7, 3, 4, 5]
    assert writer.read_tx_timestamps(3, wait=True)[0].tx_id == 6


@pytest.mark.parametrize("kinds", [TimestampKind.SCHED, TimestampKind.SOFTWARE])
def test_the_kinds_that_were_asked_for(
    writer: PacketConn, reader: PacketConn, kinds: TimestampKind
) -> None:
    writer.tx_timestamps = kinds
    assert writer.tx_timestamps == kinds
    writer.write_all(numbered(reader, 3))
    assert [(s.tx_id, s.kind) for s in read_stamps(writer, 3)] == [(i, kinds) for i in (1, 2, 3)]
    assert writer.read_tx_timestamps() == []


def test_off_again(writer: PacketConn, reader: PacketConn) -> None:
    messages = numbered(reader, 2)
    writer.write_all(messages)
    writer.tx_timestamps = 0
    assert writer.tx_timestamps == 0
    writer.write_all(messages)
    assert ids_of(messages) == [1, 2]
    writer.tx_timestamps = BOTH
    writer.write_all(messages)
    assert ids_of(messages) == [3, 4]
    # What was under way is not lost.
    assert [stamp.tx_id for stamp in read_stamps(writer, 8)] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert writer.read_tx_timestamps() == []


def arrivals(reader: PacketConn, count: int) -> list[tuple[int, int]]:
    """The number and the kernel's time of each datagram, in ns."""
    found: list[tuple[int, int]] = []
    into = new_messages(64, 2000, ControlFlags.TIMESTAMP)
    while len(found) < count:
        for message in into[: reader.read_batch(into)]:
            control = message.control_message()
            assert control is not None
            found.append((int.from_bytes(message.data), control.timestamp_ns or 0))
    return found


def check_order(
    messages: list[Message], stamps: list[TxTimestamp], arrived: list[tuple[int, int]], since: int
) -> None:
    """Scheduled, sent and received in this order, each message. So no time is another's: a later
    one would be after the arrival, and each is given once.
    """
    times, ids = times_of(stamps), ids_of(messages)
    assert set(times) == set(ids)
    for number, received in arrived:
        sched, software = times[ids[number]][1], times[ids[number]][2]
        assert since <= sched <= software <= received


@pytest.mark.parametrize("gso", [False, True])
def test_scheduled_sent_received(writer: PacketConn, reader: PacketConn, gso: bool) -> None:
    reader.set_control_message(ControlFlags.TIMESTAMP)
    writer.gso = gso
    for _ in range(10):
        since = time.time_ns()
        messages = numbered(reader, 50, 300)
        assert writer.write_all(messages) == 50
        arrived = arrivals(reader, 50)
        # A run of 50 has the times of its first message.
        stamps = read_stamps(writer, 2 if gso else 100)
        assert len(set(ids_of(messages))) == (1 if gso else 50)
        check_order(messages, stamps, arrived, since)


def test_runs_of_stripes_have_a_time_each(writer: PacketConn, reader: PacketConn) -> None:
    writer.gso = True
    with open_udp() as other:
        messages = numbered(reader, 20, 100)
        for message in messages[1::2]:
            message.addr = other.local_addr
        assert writer.write_all(messages) == 20
        assert ids_of(messages) == [1, 2] * 10
        assert {stamp.tx_id for stamp in read_stamps(writer, 4)} == {1, 2}
        assert writer.write_batch(messages) == 20
        assert ids_of(messages) == list(range(21, 41))
        assert {stamp.tx_id for stamp in read_stamps(writer, 40)} == set(range(21, 41))


def test_a_run_that_is_refused_goes_with_an_id_each(reader: PacketConn) -> None:
    with udp_socket() as sock, PacketConn(sock) as conn:
        sock.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
        conn.gso, conn.tx_timestamps = True, BOTH
        messages = numbered(reader, 10, 100)
        assert conn.write_all(messages) == 10
        assert not conn.gso
        assert ids_of(messages) == list(range(1, 11))
        assert [s.tx_id for s in read_stamps(conn, 20)] == [i for i in range(1, 11) for _ in "ab"]


@pytest.mark.parametrize("gso", [False, True])
def test_failures_take_no_time_from_others(
    writer: PacketConn, reader: PacketConn, gso: bool
) -> None:
    writer.gso = gso
    messages = numbered(reader, 9, 100)
    messages[4].buffers = bytes(65_508)
    messages[7].addr = ("127.0.0.1", 0)
    assert writer.write_all(messages, errors="skip") == 7
    assert [m.errno for m in messages] == [
        *[0] * 4, errno.EMSGSIZE, 0, 0, errno.EINVAL, 0
    ]  # fmt: skip
    assert messages[4].tx_id is messages[7].tx_id is None
    sent = [message for message in messages if message.errno == 0]
    ids = set(ids_of(sent))
    assert {stamp.tx_id for stamp in read_stamps(writer, 2 * len(ids))} == ids
    assert writer.read_tx_timestamps() == []


COUNT = int(os.environ.get("IPV4BATCH_STAMPED", "20000"))
"""Messages of the test of threads. A million: IPV4BATCH_STAMPED=1000000."""


@pytest.mark.timeout(60 + COUNT // 1000)
@pytest.mark.parametrize("gso", [False, True])
def test_threads(writer: PacketConn, reader: PacketConn, gso: bool) -> None:
    """Four threads, a part of whose messages the kernel refuses. Each stamp is of its message, and
    none is missing: the queue has room for those of what is under way.
    """
    writer.gso = gso
    threads, per_call = 4, 20
    done: list[tuple[set[int], int, int]] = []
    stamps: list[TxTimestamp] = []
    asked = [0] * threads
    over = threading.Event()

    def send(which: int) -> None:
        messages = numbered(reader, per_call, 50 + which)
        messages[which].buffers = bytes(65_508)
        for _ in range(COUNT // threads // per_call):
            since = time.time_ns()
            assert writer.write_all(messages, errors="skip") == per_call - 1
            till = time.time_ns()
            sent = [message for message in messages if message.errno == 0]
            ids = set(ids_of(sent))
            done.append((ids, since, till))
            # What the kernel has queued stays below what the receive buffer holds: 250 stamps.
            asked[which] += 2 * len(ids)
            while sum(asked) - len(stamps) > 100:
                time.sleep(0.0001)

    def collect() -> None:
        while not over.is_set():
            stamps.extend(writer.read_tx_timestamps(1024))
        stamps.extend(writer.read_tx_timestamps(10**6))

    def drain() -> None:
        into = new_messages(64, 100)
        while not over.is_set():
            try:
                reader.read_batch(into, socket.MSG_DONTWAIT)
            except BlockingIOError:
                time.sleep(0.0001)

    helpers = [Call(collect), Call(drain)]
    calls = [Call(lambda which=which: send(which)) for which in range(threads)]
    for call in calls:
        call.join(60 + COUNT // 1000)
        call.result()
    over.set()
    for call in helpers:
        call.result()
    times = times_of(stamps)
    assert set(times) == set().union(*(ids for ids, _, _ in done))
    assert sum(len(ids) for ids, _, _ in done) == len(times)
    for ids, since, till in done:
        for number in ids:
            # On loopback a datagram leaves inside the call.
            assert since <= times[number][1] <= times[number][2] <= till


def test_waiting_ends_with_the_first(writer: PacketConn, reader: PacketConn) -> None:
    call = Call(lambda: writer.read_tx_timestamps(wait=True))
    call.wait_until_waiting()
    writer.write_all(numbered(reader, 1))
    assert {stamp.tx_id for stamp in call.result()} == {1}


def test_how_a_wait_ends_otherwise(writer: PacketConn) -> None:
    writer.timeout = 0.02
    with pytest.raises(TimeoutError):
        writer.read_tx_timestamps(wait=True)
    writer.timeout = 0
    with pytest.raises(BlockingIOError):
        writer.read_tx_timestamps(wait=True)
    writer.timeout = None
    writer.set_read_deadline(time.monotonic() + 0.02)
    with pytest.raises(TimeoutError):
        writer.read_tx_timestamps(wait=True)
    writer.set_read_deadline(None)
    with handled(signal.SIGALRM, interrupt):
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        with pytest.raises(SignalError):
            writer.read_tx_timestamps(wait=True)
    call = Call(lambda: writer.read_tx_timestamps(wait=True))
    call.wait_until_waiting()
    writer.close()
    with pytest.raises(OSError, match="The connection is closed"):
        call.result()


@pytest.fixture
def nobody() -> tuple[str, int]:
    """An address at which nothing listens."""
    with udp_socket() as sock:
        host, port = sock.getsockname()
    return str(host), int(port)


def test_network_errors_stay_apart(
    writer: PacketConn, reader: PacketConn, nobody: tuple[str, int]
) -> None:
    """They share the kernel's queue; each call gives its own kind, whoever reads first."""
    writer.recv_errors = True

    def errors() -> None:
        (error,) = writer.read_errors(wait=True)
        assert (error.errno, error.addr) == (errno.ECONNREFUSED, nobody)
        assert error.data == b"lost"

    def stamps() -> None:
        found = writer.read_tx_timestamps(wait=True)
        assert [stamp.tx_id for stamp in found] == [i for i in ids_of(messages) for _ in BOTH]

    for calls in ([errors, stamps], [stamps, errors]):
        messages = [*numbered(reader, 2), Message(b"lost", addr=nobody), *numbered(reader, 2)]
        assert writer.write_all(messages) == 5
        for call in calls:
            call()
        assert writer.read_errors() == []
        assert writer.read_tx_timestamps() == []


def test_one_kind_does_not_end_a_wait_for_the_other(
    writer: PacketConn, reader: PacketConn, nobody: tuple[str, int]
) -> None:
    writer.recv_errors = True
    errors = Call(lambda: writer.read_errors(wait=True))
    errors.wait_until_waiting()
    stamps = Call(lambda: writer.read_tx_timestamps(wait=True))
    stamps.wait_until_waiting()
    writer.write_to(b"lost", nobody)  # write_to asks for no time
    assert [error.data for error in errors.result()] == [b"lost"]
    stamps.join(0.1)
    assert stamps.is_alive()
    errors = Call(lambda: writer.read_errors(wait=True))
    errors.wait_until_waiting()
    messages = numbered(reader, 1)
    writer.write_all(messages)
    assert {stamp.tx_id for stamp in stamps.result()} == set(ids_of(messages))
    errors.join(0.1)
    assert errors.is_alive()
    writer.write_to(b"gone", nobody)
    assert [error.data for error in errors.result()] == [b"gone"]


def test_a_reader_of_datagrams_does_not_spin(writer: PacketConn, reader: PacketConn) -> None:
    """Stamps that nobody reads announce themselves to every poll."""
    writer.write_all(numbered(reader, 10))
    writer.timeout = 0.3
    used = time.thread_time()
    with pytest.raises(TimeoutError):
        writer.read_batch(new_messages(1))
    assert time.thread_time() - used < 0.1
    assert len(writer.read_tx_timestamps()) == 20


def test_stamps_do_not_fill_the_messages_of_others(reader: PacketConn) -> None:
    """What is received brings no more control data than was asked for."""
    with open_udp() as conn:
        conn.set_control_message(ControlFlags.TIMESTAMP | ControlFlags.TTL)
        conn.tx_timestamps = BOTH
        into = new_messages(1, 8, ControlFlags.TIMESTAMP | ControlFlags.TTL)
        reader.write_to(b"1", conn.local_addr)
        assert conn.read_batch(into) == 1
        assert not into[0].control_truncated
        control = into[0].control_message()
        assert control is not None
        assert control.ttl == 64
        assert control.timestamp_ns is not None


def test_what_the_socket_was_set_to_stays(reader: PacketConn) -> None:
    with udp_socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, RX_SOFTWARE | SOFTWARE)
        conn = PacketConn(sock)
        assert conn.tx_timestamps == 0
        conn.tx_timestamps = BOTH
        assert sock.getsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING) & RX_SOFTWARE
        conn.write_all(numbered(reader, 1))
        assert len(read_stamps(conn, 2)) == 2


def test_control_data_goes_along(writer: PacketConn, reader: PacketConn) -> None:
    reader.set_control_message(ControlFlags.TTL | ControlFlags.TOS)
    message = Message(b"1", ControlMessage(ttl=7, tos=8).marshal(), reader.local_addr)
    assert writer.write_batch([message]) == 1
    assert message.nn == len(message.oob)
    into = new_messages(1, 8, ControlFlags.TTL | ControlFlags.TOS)
    assert reader.read_batch(into) == 1
    control = into[0].control_message()
    assert control is not None
    assert (control.ttl, control.tos) == (7, 8)
    assert [stamp.tx_id for stamp in read_stamps(writer, 2)] == [message.tx_id] * 2


def test_forward_and_write_paced(writer: PacketConn, reader: PacketConn) -> None:
    messages = numbered(reader, 4)
    since = time.time_ns()
    assert writer.write_paced(messages, 1_000_000) == 4
    times = times_of(read_stamps(writer, 8))
    assert list(times) == ids_of(messages)
    for place, number in enumerate(ids_of(messages)):
        assert times[number][2] >= since + place * 1_000_000
    into = new_messages(4, 8)
    assert reader.read_batch(into) == 4
    reader.tx_timestamps = TimestampKind.SOFTWARE
    assert reader.forward(into, writer.local_addr) == 4
    assert ids_of(into) == [1, 2, 3, 4]
    assert [stamp.tx_id for stamp in read_stamps(reader, 4)] == [1, 2, 3, 4]


@pytest.mark.usefixtures("needs_raw")
def test_raw() -> None:
    with raw_pair(253) as (reader, writer):
        writer.tx_timestamps = reader.tx_timestamps = BOTH
        header = Header(total_len=22, ttl=9, protocol=253, src=LOOPBACK, dst=LOOPBACK)
        packet = Message(header.marshal() + b"xy", addr=(LOOPBACK, 0))
        assert writer.write_batch([packet]) == 1
        assert [stamp.tx_id for stamp in read_stamps(writer, 2)] == [packet.tx_id] * 2
        payload = Message(b"xy", addr=(LOOPBACK, 0))
        assert reader.write_batch([payload]) == 1
        assert [stamp.tx_id for stamp in read_stamps(reader, 2)] == [payload.tx_id] * 2


def test_the_child_of_a_fork_has_none(writer: PacketConn, reader: PacketConn) -> None:
    writer.write_all(numbered(reader, 3))
    assert len(writer.read_tx_timestamps(1)) == 1
    pid = os.fork()
    if pid == 0:
        os._exit(len(writer.read_tx_timestamps(2, wait=True)) != 2)
    assert os.waitpid(pid, 0)[1] == 0
    assert len(writer.read_tx_timestamps()) == 3


def test_pollers_see_what_is_kept(
    writer: PacketConn, reader: PacketConn, nobody: tuple[str, int]
) -> None:
    """A call that reads the queue for errors leaves the stamps in the connection's own."""
    import select

    poll = select.poll()
    poll.register(writer.read_fileno(), select.POLLIN)
    assert poll.poll(0) == []
    writer.write_all(numbered(reader, 1))
    wait_for(lambda: len(poll.poll(0)) == 1, "the stamps come")
    assert writer.read_errors() == []
    assert len(poll.poll(0)) == 1
    assert len(writer.read_tx_timestamps()) == 2
    assert poll.poll(0) == []


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (8, ValueError, "tx_timestamps: 8 is out of range, 0 to 7"),
        (-1, ValueError, "tx_timestamps: -1 is out of range, 0 to 7"),
        ("SCHED", TypeError, "tx_timestamps: an int is required, not str"),
        (None, TypeError, "tx_timestamps: an int is required, not NoneType"),
    ],
)
def test_bad_kinds(conn: PacketConn, value: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=re.escape(text)):
        conn.tx_timestamps = value
    assert conn.tx_timestamps == 0


def test_no_hardware(conn: PacketConn) -> None:
    for kinds in (4, 7):
        with pytest.raises(NotImplementedError, match="HARDWARE: lo does not stamp what it sends"):
            conn.tx_timestamps = kinds
    assert conn.tx_timestamps == 0


def test_bad_reads(conn: PacketConn, writer: PacketConn) -> None:
    with pytest.raises(ValueError, match="set tx_timestamps before the messages are written"):
        conn.read_tx_timestamps()
    with pytest.raises(ValueError, match="max: 0 is out of range"):
        writer.read_tx_timestamps(0)
    with pytest.raises(TypeError, match="max: an int is required, not str"):
        writer.read_tx_timestamps("1")  # type: ignore[arg-type]
    writer.close()
    with pytest.raises(OSError, match="The connection is closed"):
        writer.read_tx_timestamps()
    with pytest.raises(OSError, match="The connection is closed"):
        writer.tx_timestamps = BOTH
