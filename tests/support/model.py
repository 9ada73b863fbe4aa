"""The network as lists of datagrams: what random sequences of calls are compared with."""

import collections
import dataclasses
import itertools
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from ipv4batch import ControlFlags, ControlMessage, Message, PacketConn, new_messages
from support.net import open_udp
from support.offload import compose, enlarge, shred

HOSTS = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
"""Of those that write to each other and to themselves."""
PAIR = {3: "127.0.0.4", 4: "127.0.0.5"}
"""Of the two that are connected."""
PATHS: list[dict[str, Any]] = [{}, {"ttl": 3}, {"ttl": 4, "tos": 184}, {"src": "127.0.0.9"}]
OWN_SOURCE = 3
"""Paths before this one."""
SEGMENT = ControlFlags.SEGMENT
PEEK, TRUNC = socket.MSG_PEEK, socket.MSG_TRUNC
MOST_MESSAGES = 150
LARGEST = 65507


class Datagram(NamedTuple):
    """What arrives, whatever of it a reader asks for."""

    data: bytes
    addr: tuple[str, int]
    dst: str
    ttl: int
    tos: int
    local: bool
    """Whether its destination was asked for before it came: else the kernel does not tell where an
    answer leaves from."""


@dataclasses.dataclass
class Waiting:
    """A datagram on its way, with what its reader asked for once gro has taken it."""

    datagram: Datagram
    flags: int | None = None


@dataclasses.dataclass
class Peer:
    """A connection, what was set on it, and what it has not read yet."""

    conn: PacketConn
    room: int
    flags: int = 0
    gso: bool = False
    gro: bool = False
    used: int = 0
    waiting: collections.deque[Waiting] = dataclasses.field(default_factory=collections.deque)

    @property
    def whole(self) -> bool:
        """Whether coalesced datagrams are handed out as they are."""
        return bool(self.flags & SEGMENT) and not self.gro


@dataclasses.dataclass
class Outgoing:
    """A message to write, and what it should make arrive."""

    message: Message
    buffers: list[bytearray]
    to: int
    path: int


peers = st.integers(0, len(HOSTS) + len(PAIR) - 1)
hosts = st.integers(0, len(HOSTS) - 1)
paths = st.integers(0, len(PATHS) - 1)
places = st.integers(0, MOST_MESSAGES - 1)
sizes = st.sampled_from([0, 1, 9, 100, 1200, 1472, 9000, LARGEST]) | st.integers(0, 2000)
shorter = st.sampled_from([0, 1, 8, LARGEST, -3])
"""By how much the last of a row is shorter than the others: to one byte at most, or longer."""
rooms = st.sampled_from([0, 1, 5, 100, 1500, LARGEST])
counts = st.sampled_from([0, 1, 2, 64, 65]) | st.integers(1, MOST_MESSAGES)
flags = st.sampled_from([ControlFlags.TTL, ControlFlags.DST, ControlFlags.TOS, SEGMENT])
read_flags = st.sampled_from([0, 0, 0, PEEK, TRUNC, PEEK | TRUNC])
reads = st.lists(st.tuples(peers, places, counts, read_flags), max_size=6)


def some(items: Sequence[Any], start: int, count: int) -> list[Any]:
    """So many of a list in a row, from some place on and at most once each."""
    return [items[(start + i) % len(items)] for i in range(min(count, len(items)))]


time_limit = pytest.mark.timeout(max(300, settings.default.max_examples))
"""Much more than they take; but to make a failing sequence short takes long."""


def run(machine: type[RuleBasedStateMachine], percent: int, steps: int = 20) -> None:
    """Run a machine with so many percent of the examples that the profile sets."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=settings.default.max_examples * percent // 100,
            stateful_step_count=steps,
            phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )


def cut(data: bytes, size: int) -> list[bytes]:
    """The segments of a coalesced datagram."""
    return [data[i : i + size] for i in range(0, len(data), size)] if size and data else [data]


class Network(RuleBasedStateMachine):
    """The network, as lists of datagrams."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = itertools.count()
        self.peers = [self.open(host) for host in [*HOSTS, *PAIR.values()]]
        self.connect()
        self.into: list[Message] = []
        self.into_whole = new_messages(20, 65535, ControlFlags(255))
        self.outgoing = [Outgoing(Message(), [], 0, 0) for _ in range(MOST_MESSAGES)]
        self.unaddressed = [Outgoing(Message(), [], 0, 0) for _ in range(MOST_MESSAGES)]

    def open(self, host: str) -> Peer:
        conn = open_udp(host)
        return Peer(conn, enlarge(conn) // 2)

    def connect(self) -> None:
        """Connect the pair."""
        first, second = (self.peers[index].conn for index in PAIR)
        for conn, to in [(first, second), (second, first)]:
            with socket.socket(fileno=os.dup(conn.fileno())) as sock:
                sock.connect(to.local_addr)
            assert conn.remote_addr == to.local_addr

    def teardown(self) -> None:
        for peer in self.peers:
            peer.conn.close()

    # Messages: new ones, and changes of those that are there.

    @initialize(
        size=sizes,
        shorter=shorter,
        room=st.sampled_from([100, 1500, LARGEST]),
        offload=st.tuples(*[st.tuples(st.booleans(), st.booleans()) for _ in [*HOSTS, *PAIR]]),
        first=st.sampled_from([ControlFlags.TTL, ControlFlags.DST, ControlFlags.DST | SEGMENT]),
    )
    def begin(
        self,
        size: int,
        shorter: int,
        room: int,
        offload: tuple[tuple[bool, bool], ...],
        first: int,
    ) -> None:
        for index, (gso, gro) in enumerate(offload):
            self.set(index, gso, gro, first, True)
        self.add_messages_to_read_into(MOST_MESSAGES, room)
        for to in range(len(HOSTS)):
            self.change_outgoing(50 * to, 50, size, shorter, to, 0, 1, True)
        self.change_outgoing(0, MOST_MESSAGES, size, shorter, 0, 0, 1, False)

    @rule(
        start=places,
        count=counts,
        size=sizes,
        shorter=shorter,
        to=hosts,
        path=paths,
        pieces=st.integers(1, 4),
        addressed=st.booleans(),
    )
    def change_outgoing(
        self,
        start: int,
        count: int,
        size: int,
        shorter: int,
        to: int,
        path: int,
        pieces: int,
        addressed: bool,
    ) -> None:
        """Give a row of messages other contents of one size, of which the last may be another.

        Those for the pair have no address, and its own source.
        """
        row = some(self.outgoing if addressed else self.unaddressed, start, count)
        path = path if addressed else path % OWN_SOURCE
        for i, changed in enumerate(row):
            last = min(LARGEST, max(min(size, 1), size - shorter))
            length = last if i == len(row) - 1 else size
            data = compose(next(self.numbers), length)
            changed.buffers = [bytearray(piece) for piece in shred(data, pieces)]
            changed.to, changed.path = to, path
            changed.message.buffers = changed.buffers
            changed.message.oob = ControlMessage(**PATHS[path]).marshal() or None
            changed.message.addr = self.peers[to].conn.local_addr if addressed else None

    @rule(start=places, count=counts, value=st.binary(min_size=1, max_size=4))
    def overwrite_outgoing(self, start: int, count: int, value: bytes) -> None:
        for changed in some([*self.outgoing, *self.unaddressed], start, count):
            for buffer in changed.buffers:
                buffer[: len(value)] = value[: len(buffer)]

    @rule(count=st.integers(1, 40), room=rooms)
    def add_messages_to_read_into(self, count: int, room: int) -> None:
        """New messages take the place of the oldest."""
        self.into += new_messages(count, room, ControlFlags(255))
        del self.into[:-MOST_MESSAGES]

    @rule(
        start=places,
        count=counts,
        parts=st.lists(rooms, max_size=3),
        oob=st.sampled_from([None, 256]),
    )
    def change_messages_to_read_into(
        self, start: int, count: int, parts: list[int], oob: int | None
    ) -> None:
        for changed in some(self.into, start, count):
            changed.buffers = [bytearray(room) for room in parts]
            changed.oob = None if oob is None else bytearray(oob)

    # Writes.

    def arrive(self, writer: Peer, data: bytes, to: int, path: int) -> None:
        seen = {"ttl": 64, "src": writer.conn.local_addr[0], "tos": 0} | PATHS[path]
        addr = (seen["src"], writer.conn.local_addr[1])
        dst = self.peers[to].conn.local_addr[0]
        local = bool(self.peers[to].flags & ControlFlags.DST)
        datagram = Datagram(data, addr, dst, seen["ttl"], seen["tos"], local)
        self.peers[to].waiting.append(Waiting(datagram))

    def make_room(self, to: int, size: int) -> None:
        """Read all that waits before the kernel has to drop any."""
        peer = self.peers[to]
        peer.used += 2 * size + 2048
        if peer.used > peer.room:
            self.drain(to)
            peer.used = 2 * size + 2048

    @rule(
        index=peers,
        start=places,
        count=counts,
        times=st.integers(1, 2),
        method=st.sampled_from([PacketConn.write_batch, PacketConn.write_all]),
        reads=reads,
    )
    def write(
        self,
        index: int,
        start: int,
        count: int,
        times: int,
        method: Callable[..., int],
        reads: list[tuple[int, int, int, int]],
    ) -> None:
        writer = self.peers[index]
        batch = some(self.unaddressed if index in PAIR else self.outgoing, start, count) * times
        for outgoing in batch:
            outgoing.to = self.partner(index) if index in PAIR else outgoing.to
            self.make_room(outgoing.to, sum(map(len, outgoing.buffers)))
        if writer.conn.gso and method is PacketConn.write_all:
            # It keeps the order on each path alone (test_stripes.py), so a path stands together.
            batch.sort(key=lambda outgoing: (outgoing.to, outgoing.path))
        assert method(writer.conn, [outgoing.message for outgoing in batch]) == len(batch)
        for outgoing in batch:
            data = b"".join(outgoing.buffers)
            self.arrive(writer, data, outgoing.to, outgoing.path)
            assert (outgoing.message.n, outgoing.message.errno) == (len(data), 0)
        assert writer.conn.gso_error is None
        self.read(reads)

    def partner(self, index: int) -> int:
        """The other one of the pair."""
        (other,) = set(PAIR) - {index}
        return other

    @rule(index=peers, size=sizes, to=hosts, path=paths)
    def write_to(self, index: int, size: int, to: int, path: int) -> None:
        writer, data = self.peers[index], compose(next(self.numbers), size)
        if index in PAIR:
            to, path = self.partner(index), path % OWN_SOURCE
        control = ControlMessage(**PATHS[path]) if path else None
        addr = None if index in PAIR else self.peers[to].conn.local_addr
        self.make_room(to, size)
        assert writer.conn.write_to(data, addr, control) == size
        self.arrive(writer, data, to, path)

    # Reads.

    def expect(self, peer: Peer, n: int, how: int) -> list[tuple[Datagram, int]]:
        """The next n datagrams, or n times the next, and what is delivered with them."""
        waiting = peer.waiting
        found = [waiting[0]] * n if how & PEEK else [waiting.popleft() for _ in range(n)]
        # What gro has taken from the socket came with what was asked for then.
        assert peer.conn.pending <= len(waiting)
        for taken in itertools.islice(waiting, peer.conn.pending):
            taken.flags = peer.flags if taken.flags is None else taken.flags
        return [(w.datagram, peer.flags if w.flags is None else w.flags) for w in found]

    def expect_whole(self, peer: Peer, n: int, how: int) -> list[tuple[Datagram, int]]:
        """The next n datagrams, which stay as they are if they were only looked at."""
        waiting = list(itertools.islice(peer.waiting, n))
        found = self.expect(peer, n, 0)
        if how & PEEK:
            peer.waiting.extendleft(reversed(waiting))
        return found

    def check_control(self, control: ControlMessage | None, datagram: Datagram, flags: int) -> None:
        if not flags & ~SEGMENT:
            # A coalesced datagram has its segment size, and the peer's address with it.
            assert control is None or (flags and control.src == datagram.addr[0])
            return
        assert control is not None
        assert (control.src, control.ttl, control.tos, control.dst) == (
            datagram.addr[0],
            datagram.ttl if flags & ControlFlags.TTL else 0,
            datagram.tos if flags & ControlFlags.TOS else None,
            datagram.dst if flags & ControlFlags.DST else None,
        )

    def check_message(self, message: Message, datagram: Datagram, flags: int, how: int) -> None:
        room = sum(len(buffer) for buffer in message.buffers)
        size = len(datagram.data)
        assert message.data == datagram.data[:room]
        assert message.n == (size if how & TRUNC else min(size, room))
        assert message.truncated == (size > room)
        assert message.addr == datagram.addr
        assert message.control_truncated == (flags & ~SEGMENT != 0 and message.oob is None)
        self.check_control(message.control_message(), datagram, 0 if message.oob is None else flags)
        if len(message.buffers) == 1:
            assert message.view == message.data

    def read_whole(self, peer: Peer, count: int, how: int) -> None:
        """Each message is as many datagrams as it has segments."""
        into = self.into_whole[: min(count, len(self.into_whole))]
        n = peer.conn.read_batch(into, how & PEEK)
        assert n == len(into) if how & PEEK else 1 <= n <= min(len(into), len(peer.waiting))
        for message in into[:n]:
            pieces = message.segments()
            found = self.expect_whole(peer, len(pieces), how)
            for piece, (datagram, flags) in zip(pieces, found, strict=True):
                assert piece == datagram.data
                assert message.addr == datagram.addr
                self.check_control(message.control_message(), datagram, flags)

    def read_batch(self, index: int, start: int, count: int, how: int) -> None:
        peer, into = self.peers[index], some(self.into, start, count)
        if not into:
            assert peer.conn.read_batch(into, how) == 0
        elif not peer.waiting:
            with pytest.raises(BlockingIOError):
                peer.conn.read_batch(into, how | socket.MSG_DONTWAIT)
        elif peer.whole:
            self.read_whole(peer, count, how)
        else:
            n = peer.conn.read_batch(into, how)
            assert n == len(into) if how & PEEK else 1 <= n <= min(len(into), len(peer.waiting))
            for message, (datagram, flags) in zip(into, self.expect(peer, n, how), strict=False):
                self.check_message(message, datagram, flags, how)

    @rule(reads=reads)
    def read(self, reads: list[tuple[int, int, int, int]]) -> None:
        for index, start, count, how in reads:
            self.read_batch(index, start, count, how)

    @rule(index=peers, room=sizes, how=read_flags)
    def read_from(self, index: int, room: int, how: int) -> None:
        peer, buffer = self.peers[index], bytearray(room)
        if not peer.waiting:
            with pytest.raises(BlockingIOError):
                peer.conn.read_from(buffer, how | socket.MSG_DONTWAIT)
            return
        if peer.whole:
            self.read_one_whole(peer, how & PEEK)
            return
        n, control, addr = peer.conn.read_from(buffer, how)
        ((datagram, flags),) = self.expect(peer, 1, how)
        size = len(datagram.data)
        assert (n, addr) == (size if how & TRUNC else min(size, room), datagram.addr)
        assert buffer == datagram.data[:room].ljust(room, b"\0")
        self.check_control(control, datagram, flags)

    def read_one_whole(self, peer: Peer, how: int) -> None:
        buffer = bytearray(65535)
        n, control, addr = peer.conn.read_from(buffer, how)
        pieces = cut(buffer[:n], control.segment_size if control is not None else 0)
        found = self.expect_whole(peer, len(pieces), how)
        assert pieces == [datagram.data for datagram, _ in found]
        for datagram, flags in found:
            assert addr == datagram.addr
            self.check_control(control, datagram, flags)

    def drain(self, index: int) -> None:
        while self.peers[index].waiting:
            self.read_batch(index, 0, len(self.into), 0)
        self.read_batch(index, 0, 1, 0)
        assert self.peers[index].conn.pending == 0

    # What can be set on a connection, and its end.

    @rule(index=peers, gso=st.booleans(), gro=st.booleans(), flags=flags, on=st.booleans())
    def set(self, index: int, gso: bool, gro: bool, flags: int, on: bool) -> None:
        peer = self.peers[index]
        peer.conn.gso, peer.conn.gro = peer.gso, peer.gro = gso, gro
        peer.conn.set_control_message(flags, on)
        peer.flags = peer.flags | flags if on else peer.flags & ~flags

    @invariant()
    def everything_is_as_it_was_set(self) -> None:
        for peer in self.peers:
            assert (peer.conn.gso, peer.conn.gro) == (peer.gso, peer.gro)
            assert peer.conn.control_flags == peer.flags
