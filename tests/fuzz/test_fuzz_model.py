"""Random sequences of calls on five connections and their messages, against lists of datagrams."""

import contextlib
import errno
import os
import time
from collections.abc import Callable

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule
from support.failing import FAILING
from support.model import (
    HOSTS,
    PAIR,
    PEEK,
    Network,
    Outgoing,
    counts,
    hosts,
    peers,
    places,
    run,
    sizes,
    some,
    time_limit,
)
from support.net import LIMIT
from support.offload import compose

from ipv4batch import ControlFlags, ControlMessage, Message, PacketConn

Failures = dict[int, int]
"""What the kernel refuses, by its place in a list."""

failures = st.dictionaries(st.integers(0, 20), st.sampled_from(sorted(FAILING)), min_size=1)


class Model(Network):
    """What is refused, what fails and what ends, beside all that goes well."""

    # Failures.

    def write_some_that_fail(
        self, index: int, start: int, count: int, failing: Failures
    ) -> tuple[list[Message], list[Outgoing | None], Failures]:
        """A list to write; what each of its messages makes arrive, or None; and the errors."""
        chosen = list(some(self.outgoing, start, count))
        if self.peers[index].conn.gso:
            # write_all keeps the order of each path only: see offload/test_stripes.py.
            chosen.sort(key=lambda each: (each.to, each.path))
        row: list[Outgoing | None] = [*chosen]
        for outgoing in row:
            assert outgoing is not None
            self.make_room(outgoing.to, sum(map(len, outgoing.buffers)))
        for place in sorted(failing):
            row.insert(place, None)
        found = [place for place, outgoing in enumerate(row) if outgoing is None]
        codes = dict(zip(found, (failing[place] for place in sorted(failing)), strict=True))
        addr = self.peers[0].conn.local_addr
        messages = [
            FAILING[codes[place]](addr) if outgoing is None else outgoing.message
            for place, outgoing in enumerate(row)
        ]
        return messages, row, codes

    def check_written(
        self, index: int, messages: list[Message], row: list[Outgoing | None]
    ) -> None:
        """These were written, as far as they could be."""
        for message, outgoing in zip(messages, row, strict=True):
            if outgoing is not None:
                data = b"".join(outgoing.buffers)
                self.arrive(self.peers[index], data, outgoing.to, outgoing.path)
                assert (message.n, message.errno) == (len(data), 0)
        assert self.peers[index].conn.gso_error is None

    @rule(index=hosts, start=places, count=st.integers(0, 70), failing=failures)
    def write_batch_with_failures(
        self, index: int, start: int, count: int, failing: Failures
    ) -> None:
        conn = self.peers[index].conn
        messages, row, codes = self.write_some_that_fail(index, start, count, failing)
        first = min(codes)
        if first == 0:
            with pytest.raises(OSError, match=rf"^\[Errno {codes[0]}\]"):
                conn.write_batch(messages)
            assert messages[0].errno == codes[0]
        else:
            assert conn.write_batch(messages) == first
        self.check_written(index, messages[:first], row[:first])

    @rule(index=hosts, start=places, count=st.integers(0, 70), failing=failures)
    def write_all_with_failures(
        self, index: int, start: int, count: int, failing: Failures
    ) -> None:
        messages, row, codes = self.write_some_that_fail(index, start, count, failing)
        first = min(codes)
        before = [message.n for message in messages]
        with pytest.raises(OSError, match=rf"^\[Errno {codes[first]}\]") as raised:
            self.peers[index].conn.write_all(messages)
        assert messages[first].errno == codes[first]
        conn = self.peers[index].conn
        assert (raised.value.index, raised.value.written) == (first, conn.last_written)
        # With gso, runs that begin before it bring messages from behind it.
        went = [k for k, message in enumerate(messages) if message.errno == 0]
        assert len(went) == conn.last_written
        assert {*range(first)} <= {*went}
        assert conn.gso or len(went) == first
        rest = [k for k in range(len(messages)) if k not in {first, *went}]
        assert {messages[k].errno for k in rest} <= {errno.ECANCELED}
        assert [messages[k].n for k in rest] == [before[k] for k in rest]
        self.check_written(index, [messages[k] for k in went], [row[k] for k in went])

    @rule(index=hosts, start=places, count=st.integers(0, 70), failing=failures)
    def write_all_and_skip(self, index: int, start: int, count: int, failing: Failures) -> None:
        messages, row, codes = self.write_some_that_fail(index, start, count, failing)
        written = self.peers[index].conn.write_all(messages, errors="skip")
        assert written == len(messages) - len(codes)
        assert {place: m.errno for place, m in enumerate(messages) if m.errno} == codes
        self.check_written(index, messages, row)

    @rule(index=peers, start=places, count=st.integers(1, 3))
    def refuse(self, index: int, start: int, count: int) -> None:
        """What is wrong with a list is told before anything is read or sent."""
        conn, into = self.peers[index].conn, some(self.into, start, count)
        fixed = [Message(b"fixed")]
        written = [outgoing.message for outgoing in some(self.outgoing, start, count)]
        for function, argument, error, field in [
            (conn.read_batch, [*into, into[0]], ValueError, ""),
            (conn.read_batch, [*into, None], TypeError, ""),
            (conn.read_batch, [*into, *fixed], ValueError, r"\.buffers\[0\]"),
            (conn.read_batch, [*into, Message(bytearray(1), b"oob")], ValueError, r"\.oob"),
            (conn.write_batch, [*written, None], TypeError, ""),
            (conn.write_all, [*written, Message(b"", b"\1" + bytes(15))], ValueError, r"\.oob"),
        ]:
            with pytest.raises(error, match=rf"^msgs\[{len(argument) - 1}\]{field}: "):
                function(argument)

    # Replies.

    @rule(index=peers, start=places, count=counts, size=sizes)
    def reply(self, index: int, start: int, count: int, size: int) -> None:
        """Read, and answer each whose writer is still there."""
        into = some(self.into, start, count)
        readers = [each for each in self.peers if each.waiting and not each.whole]
        if not readers or not into:
            return
        peer = readers[index % len(readers)]
        n = peer.conn.read_batch(into)
        found = self.expect(peer, n, 0)
        answers = []
        for message, (datagram, flags) in zip(into, found, strict=False):
            self.check_message(message, datagram, flags, 0)
            data = compose(next(self.numbers), size)
            answer = message.reply(data)
            assert (answer.buffers, answer.addr) == ((data,), datagram.addr)
            told = datagram.local and flags & ControlFlags.DST and message.oob is not None
            assert (answer.oob is not None) == bool(told)
            # Other addresses may be some other program's by now.
            to = [i for i, each in enumerate(self.peers) if each.conn.local_addr == answer.addr]
            answers += [(i, answer) for i in to]
        for to, _ in answers:
            self.make_room(to, size)
        assert peer.conn.write_all([answer for _, answer in answers]) == len(answers)
        for to, answer in answers:
            self.arrive(peer, answer.data, to, 0)

    # Waits, forks and ends.

    @rule(index=peers, how=st.integers(0, 3), start=places, count=counts)
    def hurry(self, index: int, how: int, start: int, count: int) -> None:
        """A time that is past or short ends a call that would have to wait, and no other."""
        conn = self.peers[index].conn
        if how == 0:
            conn.timeout = 0
        elif how == 1:
            conn.timeout = 0.001
        elif how == 2:
            conn.set_deadline(0)
        else:
            conn.set_read_deadline(time.monotonic() + 0.001)
        if self.peers[index].waiting:
            self.read_batch(index, start, count, 0)
        else:
            for function, argument in [
                (conn.read_batch, self.into[:1]),
                (conn.read_from, bytearray(9)),
            ]:
                with pytest.raises(BlockingIOError if how == 0 else TimeoutError):
                    function(argument)
        self.write_to(index, 9, 0, 0)
        conn.timeout = LIMIT
        conn.set_deadline(None)

    @rule(index=peers)
    def fork(self, index: int) -> None:
        """What gro has taken is the parent's, and nothing that the child does disturbs it."""
        before = [peer.conn.pending for peer in self.peers]
        child = os.fork()
        if child == 0:
            try:
                pending = [peer.conn.pending for peer in self.peers]
                for peer in self.peers:
                    peer.conn.close()
                os._exit(0 if not any(pending) else 1)
            finally:
                os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
        assert [peer.conn.pending for peer in self.peers] == before

    @rule(index=peers)
    def close(self, index: int) -> None:
        """Close a connection, and its partner's; others take their place, and what was on its way
        is lost.
        """
        closed = list(PAIR) if index in PAIR else [index]
        for each in closed:
            self.check_closed(self.peers[each].conn)
            self.peers[each] = self.open((HOSTS + list(PAIR.values()))[each])
        if index in PAIR:
            self.connect()
        for outgoing in self.outgoing:
            if outgoing.to == index:
                outgoing.message.addr = self.peers[index].conn.local_addr

    def check_closed(self, conn: PacketConn) -> None:
        conn.close()
        with contextlib.closing(conn):
            calls: list[tuple[Callable[..., object], tuple[object, ...]]] = [
                (conn.read_batch, (self.into, PEEK)),
                (conn.read_from, (bytearray(9),)),
                (conn.write_batch, ([outgoing.message for outgoing in self.outgoing],)),
                (conn.write_to, (b"", (HOSTS[0], 9), ControlMessage(ttl=2))),
            ]
            for function, arguments in calls:
                with pytest.raises(OSError, match="The connection is closed") as raised:
                    function(*arguments)
                assert raised.value.errno == errno.EBADF


@time_limit
def test_random_calls() -> None:
    run(Model, 60)
