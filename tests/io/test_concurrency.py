"""Forty threads on one connection: reads, writes and toggles of options all at once.

Each datagram carries its number and a content that follows from it, so that one which was torn,
mixed with another or given twice is seen.
"""

import contextlib
import errno
import itertools
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from support.net import LIMIT, Call, open_raw, open_udp, own_host

from ipv4batch import ControlFlags, ControlMessage, Message, PacketConn, new_messages

GRE = 47
HERE = own_host(5)
THREADS = 40
IN_FLIGHT = 64
"""Datagrams under way at most, so that the receive buffer holds them all."""

ROUNDS = 1000
"""How often a thread uses what it has."""

MOST = 300
ALL = ControlFlags.TTL | ControlFlags.SRC | ControlFlags.DST | ControlFlags.INTERFACE


def compose(number: int) -> bytes:
    return struct.pack("!I", number) * (1 + number % (MOST // 4))


class Traffic:
    """A connection that writes to itself, and what its threads do with it until they are told."""

    def __init__(self, conn: PacketConn, per_writer: int) -> None:
        self.conn = conn
        self.addr = conn.local_addr
        self.host = self.addr[0]
        self.raw = self.addr[1] == 0
        self.per_writer = per_writer
        self.numbers = itertools.count()
        self.room = threading.Semaphore(IN_FLIGHT)
        self.over = threading.Event()
        self.read: list[int] = []
        self.calls = 0

    def check(self, data: bytes, control: ControlMessage | None) -> None:
        self.room.release()
        (number,) = struct.unpack_from("!I", data)
        assert data == compose(number)
        self.read.append(number)
        if control is not None:
            assert control.src in (None, self.host)
            assert control.dst in (None, self.host)
            assert control.ttl in (0, 33, 64)

    def single_reader(self) -> None:
        buffer = bytearray(MOST + 8)
        while not self.over.is_set():
            n, control, addr = self.conn.read_from(buffer)
            assert addr == self.addr
            self.check(bytes(buffer[:n]), control)

    def batch_reader(self) -> None:
        messages = new_messages(8, MOST + 68, ALL)
        while not self.over.is_set():
            for message in messages[: self.conn.read_batch(messages)]:
                assert message.addr == self.addr
                # read_batch gives the whole packet of a raw socket.
                self.check(message.data[20 if self.raw else 0 :], message.control_message())

    def single_writer(self) -> None:
        control = ControlMessage(ttl=33)
        for _ in range(self.per_writer):
            assert self.room.acquire(timeout=LIMIT)
            data = compose(next(self.numbers))
            assert self.conn.write_to(data, self.addr, control) == len(data)

    def batch_writer(self) -> None:
        for done in range(0, self.per_writer, 4):
            count = min(4, self.per_writer - done)
            for _ in range(count):
                assert self.room.acquire(timeout=LIMIT)
            messages = [Message(compose(next(self.numbers)), None, self.addr) for _ in range(count)]
            while messages:
                del messages[: self.conn.write_batch(messages)]

    def flag_toggler(self) -> None:
        for step in itertools.count():
            if self.over.is_set():
                return
            self.conn.set_control_message(1 << step % 4, step % 3 != 0)
            assert 0 <= self.conn.control_flags <= ALL
            self.calls += 1
            time.sleep(0.0005)

    def option_toggler(self) -> None:
        for step in itertools.count():
            if self.over.is_set():
                return
            self.conn.tos = step % 8 * 32
            self.conn.multicast_ttl = step % 256
            self.conn.multicast_loopback = step % 2
            self.conn.set_bpf([(6, 0, 0, 0xFFFFFFFF)] if step % 2 else [(6, 0, 0, 0xFFFF)])
            assert self.conn.tos % 32 == 0
            self.calls += 1
            time.sleep(0.0005)

    def deadline_mover(self) -> None:
        for step in itertools.count():
            if self.over.is_set():
                return
            self.conn.set_deadline(time.monotonic() + 600 if step % 2 else None)
            assert "PacketConn" in repr(self.conn)
            assert self.conn.local_addr == self.addr
            self.calls += 1
            time.sleep(0.0005)

    def start(self) -> list[Call]:
        kinds: list[tuple[Callable[[], None], int]] = [
            (self.single_reader, 8),
            (self.batch_reader, 8),
            (self.flag_toggler, 4),
            (self.option_toggler, 2),
            (self.deadline_mover, 2),
            (self.single_writer, 8),
            (self.batch_writer, 8),
        ]
        calls = [Call(kind) for kind, count in kinds for _ in range(count)]
        assert len(calls) == THREADS
        return calls


@pytest.fixture
def udp() -> Iterator[PacketConn]:
    with open_udp(timeout=None) as conn:
        yield conn


@pytest.fixture
def gre(needs_raw: None) -> Iterator[PacketConn]:
    sock = open_raw(GRE, HERE)
    sock.settimeout(None)
    with PacketConn(sock) as conn:
        yield conn


@pytest.fixture(params=["udp", "gre"])
def conn(request: pytest.FixtureRequest) -> PacketConn:
    made: PacketConn = request.getfixturevalue(request.param)
    return made


def test_every_datagram_is_read_once_and_whole(conn: PacketConn) -> None:
    traffic = Traffic(conn, per_writer=50)
    calls = traffic.start()
    for call in calls[-16:]:
        call.result()
    total = 16 * 50
    deadline = time.monotonic() + LIMIT
    while len(traffic.read) < total:
        assert time.monotonic() < deadline, f"{len(traffic.read)} of {total} have arrived"
        assert all(call.is_alive() for call in calls[:-16]), [c.result() for c in calls[:-16]]
        time.sleep(0.001)
    assert sorted(traffic.read) == list(range(total))

    # The readers wait; the togglers' last word ends them all.
    traffic.over.set()
    for call in calls[16:24]:
        call.result()
    conn.set_deadline(0)
    for call in calls[:16]:
        with pytest.raises(TimeoutError):
            call.result()
    assert traffic.calls > 20
    assert conn.fileno() >= 0


@pytest.mark.parametrize("after", [0.0, 0.05, 0.2])
def test_one_of_the_threads_closes_the_connection(conn: PacketConn, after: float) -> None:
    traffic = Traffic(conn, per_writer=1_000_000)
    descriptor = conn.fileno()
    calls = traffic.start()
    calls.append(Call(lambda: (time.sleep(after), conn.close())))
    calls.pop().result()
    # Writers that wait for readers would wait in vain.
    for _ in range(THREADS):
        traffic.room.release(IN_FLIGHT)
    for call in calls:
        with pytest.raises(OSError, match="The connection is closed") as caught:
            call.result()
        assert caught.value.errno == errno.EBADF
    assert conn.fileno() == -1
    # The descriptor is free: the next file gets the lowest number, which is at most this one.
    with socket.socket() as probe:
        assert probe.fileno() <= descriptor


def test_many_close_at_once(conn: PacketConn) -> None:
    readers = [Call(conn.read_from, bytearray(10)).wait_until_waiting() for _ in range(20)]
    closers = [Call(conn.close) for _ in range(20)]
    for call in closers:
        assert call.result() is None
    for call in readers:
        with pytest.raises(OSError, match="The connection is closed"):
            call.result()


def test_threads_have_a_message_each_of_one_slab(capfd: pytest.CaptureFixture[str]) -> None:
    """What is taken of one and dropped again changes no count that is another's."""

    def use(message: Message, data: bytes) -> None:
        for _ in range(ROUNDS):
            assert message.view == data
            assert message.segments() == [data]
            assert message.view[1:] == data[1:]

    def drop(some: list[Message]) -> None:
        while some:
            with contextlib.suppress(IndexError):
                some.pop().buffers = ()

    with open_udp() as conn:
        messages = new_messages(8, 100)
        datas = [bytes([i]) * 100 for i in range(8)]
        assert conn.write_all([Message(data, addr=conn.local_addr) for data in datas]) == 8
        assert conn.read_batch(messages) == 8
    for call in [Call(use, *each) for each in zip(messages, datas, strict=True)]:
        call.result()
    for some in [new_messages(1000, 100, ALL) for _ in range(10)]:
        for call in [Call(drop, some) for _ in range(8)]:
            call.result()
    # CPython prints what it finds wrong when it frees something.
    assert capfd.readouterr().err == ""
