"""Random use of offload, against lists of what should arrive; and gro switched under a reader."""

import collections
import contextlib
import functools
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.net import LIMIT, Call, open_udp
from support.offload import (
    ALL,
    MOST,
    Received,
    combinations,
    compose,
    enlarge,
    expect,
    open_pair,
    shred,
)

from ipv4batch import ControlFlags, ControlMessage, Message, PacketConn, new_messages

HOSTS = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
CONTROLS: list[dict[str, Any]] = [{}, {"ttl": 3}, {"ttl": 4, "tos": 184}, {"src": "127.0.0.9"}]
LONGEST_LIST = 150
DURATION = 2.0
"""Seconds for which threads race."""


class Write(NamedTuple):
    """Messages of one batch, in rows of equal ones: count, size, shorter last, path, buffers."""

    rows: list[tuple[int, int, int, int, int, int]]


class Read(NamedTuple):
    """A call of one reader: the list's length, each buffer's size, and whether it only looks."""

    reader: int
    length: int
    room: int
    peek: bool


sizes = st.sampled_from([0, 1, 2, 9, 1200, 1472, 32753, 32754, MOST]) | st.integers(0, 3000)
rows = st.tuples(
    st.integers(1, 140),
    sizes,
    st.integers(0, 3),
    st.integers(0, len(HOSTS) - 1),
    st.integers(0, len(CONTROLS) - 1),
    st.integers(1, 20),
)
writes = st.builds(Write, st.lists(rows, max_size=6))
reads = st.builds(
    Read,
    st.integers(0, len(HOSTS) - 1),
    st.sampled_from([1, 2, 64, 65, LONGEST_LIST]) | st.integers(1, LONGEST_LIST),
    st.sampled_from([MOST, MOST, MOST, 0, 5, 1000]),
    st.sampled_from([False, False, False, True]),
)


@functools.cache
def pool(room: int) -> list[Message]:
    """Messages to read into, of two buffers."""
    first = min(room, 7)
    return [
        Message([bytearray(first), bytearray(room - first)], bytearray(256))
        for _ in range(LONGEST_LIST)
    ]


class Model:
    """The network, and for each reader the datagrams that it has not read yet."""

    def __init__(self, writer: PacketConn, readers: list[PacketConn]) -> None:
        self.writer = writer
        self.readers = readers
        self.waiting: list[collections.deque[Received]] = [collections.deque() for _ in readers]
        self.numbers = itertools.count()
        self.room = min(enlarge(reader) for reader in readers) // 2
        self.used = 0

    def write(self, write: Write) -> None:
        messages: list[Message] = []
        arriving: list[tuple[int, Received]] = []
        for count, size, shorter, to, control, buffers in write.rows:
            oob = ControlMessage(**CONTROLS[control]).marshal() or None
            for i in range(count):
                length = max(size - shorter, 0) if i == count - 1 else size
                # What the kernel may count for a datagram; the rest of the rows is left out.
                self.used += 2 * length + 2048
                if self.used > self.room:
                    break
                data = compose(next(self.numbers), length)
                messages.append(Message(shred(data, buffers), oob, self.readers[to].local_addr))
                control_data = {"dst": HOSTS[to], **CONTROLS[control]}
                arriving.append((to, expect(self.writer, data, **control_data)))
        assert self.writer.write_batch(messages) == len(messages)
        assert [(m.n, m.errno) for m in messages] == [(len(r.data), 0) for _, r in arriving]
        for to, received in arriving:
            self.waiting[to].append(received)

    def read(self, read: Read) -> None:
        reader, waiting = self.readers[read.reader], self.waiting[read.reader]
        into = pool(read.room)[: read.length]
        if not waiting:
            with pytest.raises(BlockingIOError):
                reader.read_batch(into, socket.MSG_DONTWAIT)
            assert reader.pending == 0
            return
        n = reader.read_batch(into, socket.MSG_PEEK if read.peek else 0)
        if read.peek:
            assert n == read.length
            expected = [waiting[0]] * n
        else:
            assert 1 <= n <= min(read.length, len(waiting))
            expected = [waiting.popleft() for _ in range(n)]
        got = [(Received(m.data, m.addr, m.control_message()), m.truncated) for m in into[:n]]
        assert got == [
            (r._replace(data=r.data[: read.room]), len(r.data) > read.room) for r in expected
        ]
        assert reader.pending <= (len(waiting) if reader.gro else 0)

    def drain(self) -> None:
        """Read all that is left, and see that there is no more."""
        for index, waiting in enumerate(self.waiting):
            while waiting:
                self.read(Read(index, LONGEST_LIST, MOST, False))
            self.read(Read(index, 1, MOST, False))
        self.used = 0


@contextlib.contextmanager
def open_model(gso: bool, gro: bool) -> Iterator[Model]:
    with contextlib.ExitStack() as stack:
        writer, *readers = [stack.enter_context(open_udp(host)) for host in [HOSTS[0], *HOSTS]]
        writer.gso = gso
        for reader in readers:
            reader.set_control_message(ALL)
            reader.gro = gro
        yield Model(writer, readers)


@combinations
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(writes | reads, max_size=20))
def test_all_arrives_as_it_was_sent(gso: bool, gro: bool, steps: list[Write | Read]) -> None:
    with open_model(gso, gro) as model:
        for step in steps:
            if isinstance(step, Read):
                model.read(step)
                continue
            if model.used > model.room // 2:
                model.drain()
            model.write(step)
        model.drain()
        assert (model.writer.gso, model.writer.gso_error) == (gso, None)


def switch_gro(reader: PacketConn) -> None:
    reader.gro = not reader.gro


def switch_segment(reader: PacketConn) -> None:
    on = reader.control_flags & ControlFlags.SEGMENT
    reader.set_control_message(ControlFlags.SEGMENT, not on)


@pytest.mark.parametrize(("turn", "room"), [(switch_gro, 128), (switch_segment, 65535)])
def test_gro_is_switched_while_datagrams_come_and_are_read(
    turn: Callable[[PacketConn], None], room: int
) -> None:
    """Three threads: whatever is on at the moment, each message that is read is one datagram, or
    says how it is to be cut into them."""
    datas = [compose(i, 100) for i in range(64)]
    with open_pair(gso=True) as (reader, writer):
        messages = [Message(data, None, reader.local_addr) for data in datas]
        in_flight = threading.Semaphore(enlarge(reader) // (len(messages) * 2048))
        over = threading.Event()

        def switch() -> None:
            while not over.is_set():
                turn(reader)

        def write() -> None:
            while in_flight.acquire(timeout=LIMIT) and not over.is_set():
                assert writer.write_batch(messages) == len(messages)

        calls = [Call(switch), Call(write)]
        into = new_messages(len(messages), room, ControlFlags(255))
        expected = itertools.cycle(datas)
        read = 0
        end = time.monotonic() + DURATION
        try:
            while time.monotonic() < end:
                n = reader.read_batch(into)
                batch = [data for message in into[:n] for data in message.segments()]
                assert batch == list(itertools.islice(expected, len(batch)))
                in_flight.release((read + len(batch)) // 64 - read // 64)
                read += len(batch)
        finally:
            over.set()
            in_flight.release()
            for call in calls:
                call.result()
