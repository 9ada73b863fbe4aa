"""Many threads on the same few objects, doing everything at once: what test_hammer.py runs.

A Hammer's threads share connections that are closed and made anew all the time, messages, and value
types. Each goes through all actions in an order of its own until the time is over. A result that is
out of range, a datagram that nobody sent, or an exception that is not documented ends the thread,
and fails the test.
"""

import collections
import contextlib
import errno
import inspect
import itertools
import random
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from ipv4batch import (
    ControlFlags,
    ControlMessage,
    Header,
    Message,
    PacketConn,
    RawConn,
    capabilities,
    new_messages,
)
from support.hammer_aio import Endpoints
from support.hammer_values import Values
from support.net import LIMIT, LOOPBACK, Call, open_raw, own_host, udp_socket

C = TypeVar("C", PacketConn, RawConn)

RAW_PROTOCOL = 253  # for experiments (RFC 3692)
RAW_HOST = own_host(17)
"""An address of this process alone: raw sockets get all that is sent to theirs."""

MOST = 1200
"""Bytes of the longest datagram."""

BATCH = 8
ALL = ControlFlags(127)
CAN_STAMP = capabilities()["tx_timestamps"]
PATH = ControlFlags.TTL | ControlFlags.SRC | ControlFlags.DST | ControlFlags.INTERFACE


def compose(number: int) -> bytes:
    """A datagram of 4 to MOST bytes that can be told to be whole."""
    return struct.pack("!I", number) * (1 + number % (MOST // 4))


def number_in(data: bytes) -> int:
    """The number of a datagram, which must be whole."""
    (number,) = struct.unpack_from("!I", data)
    assert data == compose(number), f"datagram {number} is not whole"
    return int(number)


class Hammer(Values):
    """What the threads share, and the actions: the methods whose name begins with do_."""

    def __init__(self, threads: int, raw: bool) -> None:
        super().__init__(threads)
        self.raw = raw
        self.over = False
        self.replacing = threading.Lock()
        self.numbers = itertools.count()
        self.done: collections.Counter[str] = collections.Counter()
        self.arrived: list[int] = []
        self.conns = [self.open() for _ in range(3)]
        self.raw_conns = [self.open_raw() for _ in range(2)] if raw else []
        self.raw_readers = [self.open_raw_reader()] if raw else []
        self.messages = new_messages(4 * BATCH, MOST, PATH)
        self.list: list[Message] = []
        self.began = time.time_ns()
        self.endpoints = Endpoints(self.came, self.fresh)

    # Connections.

    @staticmethod
    def open() -> PacketConn:
        conn = PacketConn(udp_socket(LOOPBACK, 0.01))
        conn.set_control_message(PATH)
        return conn

    @staticmethod
    def open_raw() -> RawConn:
        conn = RawConn(open_raw(RAW_PROTOCOL, RAW_HOST))
        conn.timeout = 0.01
        return conn

    @staticmethod
    def open_raw_reader() -> PacketConn:
        conn = PacketConn(open_raw(RAW_PROTOCOL, RAW_HOST))
        conn.timeout = 0.01
        return conn

    def fresh(self) -> bytes:
        return compose(next(self.numbers))

    def came(self, data: bytes) -> None:
        """A datagram has arrived: it is one that was sent, and has come whole."""
        number = number_in(data)
        assert number < next(self.numbers), f"datagram {number} was never sent"
        self.arrived.append(number)

    @contextlib.contextmanager
    def on(self, conns: list[C], r: random.Random) -> Iterator[C]:
        """One of the connections, which others may close and set to not wait."""
        conn = r.choice(conns)
        try:
            yield conn
        except (TimeoutError, BlockingIOError, ConnectionRefusedError):
            pass
        except OSError as error:
            # Only a connection that is closed says so, and then for good.
            closed = error.errno == errno.EBADF and "The connection is closed" in str(error)
            if not closed or conn.fileno() != -1:
                raise

    def peer(self, r: random.Random) -> tuple[str, int]:
        """Where to send to; the address of one that is closed comes from its successor."""
        transport = self.endpoints.transport
        if transport is not None and r.random() < 0.2:
            host, port = transport.get_extra_info("sockname")
            return host, port
        while True:
            with contextlib.suppress(OSError):
                return r.choice(self.conns).local_addr

    def replace(self, conns: list[C], r: random.Random, new: C) -> C:
        """Put a new one into the place of another, which is closed by who took it out."""
        with self.replacing:
            place = r.randrange(len(conns))
            old, conns[place] = conns[place], new
        return old

    def do_close(self, r: random.Random) -> None:
        old = self.replace(self.conns, r, self.open())
        with old:
            pass
        assert old.fileno() == -1
        assert repr(old).endswith(" closed>")

    def do_close_raw(self, r: random.Random) -> None:
        if self.raw:
            self.replace(self.raw_conns, r, self.open_raw()).close()
            self.replace(self.raw_readers, r, self.open_raw_reader()).close()

    def do_forget(self, r: random.Random) -> None:
        """A connection without a close, whose socket the collector closes."""
        with udp_socket(LOOPBACK, 0.01) as sock:
            conn = PacketConn(sock)
            conn.gro = True
            assert conn.write_to(self.fresh(), conn.local_addr) > 0
            assert conn.read_from(bytearray(MOST))[0] > 0

    def do_options(self, r: random.Random) -> None:
        with self.on(self.conns, r) as conn:
            conn.tos = r.randrange(0, 256, 4)
            assert conn.tos % 4 == 0
            conn.ttl = r.randint(1, 255)
            assert 1 <= conn.ttl <= 255
            conn.multicast_ttl = r.randrange(256)
            conn.multicast_loopback = r.random() < 0.5
            assert conn.multicast_loopback in (True, False)
            conn.multicast_interface = r.choice([None, 1])
            assert conn.multicast_interface in (None, 1)
            conn.mtu_discover = r.randrange(3)
            assert conn.mtu_discover in range(3)
            conn.set_bpf([(6, 0, 0, 0xFFFFFFFF)])
            # Another thread may have taken off or joined already.
            with contextlib.suppress(FileNotFoundError):
                conn.set_bpf(None)
            for change in (conn.join_group, conn.leave_group):
                with contextlib.suppress(OSError):
                    change(1, "224.0.0.251")

    def do_switch(self, r: random.Random) -> None:
        with self.on(self.conns, r) as conn:
            conn.gso = r.random() < 0.5
            assert conn.gso in (True, False)
            assert conn.gso_error is None
            conn.gro = r.random() < 0.5
            assert conn.gro in (True, False)
            assert 0 <= conn.pending <= 64 * 65536
            conn.recv_errors = r.random() < 0.5
            assert conn.recv_errors in (True, False)
            flags = ControlFlags(r.randrange(ALL + 1))
            conn.set_control_message(flags, r.random() < 0.5)
            assert 0 <= conn.control_flags <= ALL

    def do_time(self, r: random.Random) -> None:
        with self.on(self.conns, r) as conn:
            conn.timeout = r.choice([0, 0.001, 0.01, 0.02])
            assert conn.timeout in (0, 0.001, 0.01, 0.02)
            soon = time.monotonic() + r.choice([-1, 0.001, 600])
            set_deadline = r.choice(
                [conn.set_deadline, conn.set_read_deadline, conn.set_write_deadline]
            )
            set_deadline(r.choice([None, soon]))

    def do_describe(self, r: random.Random) -> None:
        conn = r.choice(self.conns)
        assert repr(conn).startswith("<ipv4batch.PacketConn udp4")
        assert conn.fileno() >= -1
        with self.on(self.conns, r) as conn:
            host, port = conn.local_addr
            assert host == LOOPBACK
            assert 0 < port < 65536
            assert conn.remote_addr is None

    def do_read_errors(self, r: random.Random) -> None:
        with self.on(self.conns, r) as conn:
            for error in conn.read_errors(4, r.random() < 0.1):
                assert error.errno == errno.ECONNREFUSED
                assert error.addr is not None
                assert error.addr[0] == LOOPBACK

    def do_tx_timestamps(self, r: random.Random) -> None:
        if CAN_STAMP:
            with self.on(self.conns, r) as conn:
                conn.tx_timestamps = r.choice([0, 1, 2, 3, 3])

    def do_read_tx_timestamps(self, r: random.Random) -> None:
        with self.on(self.conns, r) as conn:
            stamps = []
            with contextlib.suppress(ValueError):  # until somebody has asked for them
                stamps = conn.read_tx_timestamps(r.choice([1, 64]), r.random() < 0.1)
            assert {stamp.kind for stamp in stamps} <= {1, 2}
            for stamp in stamps:
                assert stamp.tx_id > 0
                assert self.began <= stamp.ns <= time.time_ns()

    # Datagrams.

    def do_write(self, r: random.Random) -> None:
        to = self.peer(r)
        out = [Message(self.fresh(), None, to) for _ in range(r.randint(1, BATCH))]
        with self.on(self.conns, r) as conn:
            assert 1 <= conn.write_batch(out) <= len(out)
            assert out[0].n == len(out[0].buffers[0])
            assert out[0].errno == 0

    def do_write_all(self, r: random.Random) -> None:
        number = next(self.numbers)
        data = compose(number)  # all alike, for segmentation offload
        out = [Message(data, None, self.peer(r))] * r.randint(1, BATCH)
        with self.on(self.conns, r) as conn:
            assert conn.write_all(out) == len(out)
            # One that is refused, since its peer is closed, is not counted and says so itself.
            out = [Message(data, None, out[0].addr) for _ in out]
            written = conn.write_all(out, errors="skip")
            assert written == sum(message.errno == 0 for message in out)
            assert {message.errno for message in out} <= {0, errno.ECONNREFUSED}

    def do_write_paced(self, r: random.Random) -> None:
        out = [Message(self.fresh(), None, self.peer(r)) for _ in range(BATCH)]
        with self.on(self.conns, r) as conn:
            went = conn.write_paced(out, r.choice([0, 10_000]), 0, "skip", burst=r.choice([1, 4]))
            assert went == sum(message.errno == 0 for message in out)
            assert all(message.late_ns >= 0 for message in out)

    def do_sendto(self, r: random.Random) -> None:
        """To the transport of a loop in another thread, which may close at any moment."""
        transport = self.endpoints.transport
        if transport is not None:
            for _ in range(r.randint(1, BATCH)):
                transport.sendto(self.fresh(), self.peer(r))
            assert transport.get_write_buffer_size() >= 0

    def do_write_to(self, r: random.Random) -> None:
        data, to = self.fresh(), self.peer(r)
        control = r.choice([None, ControlMessage(ttl=7)])
        with self.on(self.conns, r) as conn:
            assert conn.write_to(data, to, control) == len(data)

    def do_read(self, r: random.Random) -> None:
        own = new_messages(BATCH, MOST, ALL)
        with self.on(self.conns, r) as conn:
            n = conn.read_batch(own)
            assert 1 <= n <= BATCH
            for message in own[:n]:
                self.came(message.data)
                assert not message.truncated
                assert message.addr is not None
                assert message.addr[0] == LOOPBACK
                control = message.control_message(r.choice([None, ControlMessage()]))
                if control is not None:
                    assert control.src == LOOPBACK
                    assert control.dst in (None, LOOPBACK)
                reply = message.reply(self.fresh())
                assert reply.addr == message.addr
                assert conn.write_batch([reply]) == 1

    def do_read_from(self, r: random.Random) -> None:
        buffer = bytearray(MOST)
        with self.on(self.conns, r) as conn:
            n, control, addr = conn.read_from(buffer)
            self.came(bytes(buffer[:n]))
            assert addr is not None
            assert addr[0] == LOOPBACK
            if control is not None:
                assert control.src == LOOPBACK

    def do_raw(self, r: random.Random) -> None:
        if not self.raw:
            return
        data = self.fresh()
        header = Header(ttl=9, protocol=RAW_PROTOCOL, src=RAW_HOST, dst=RAW_HOST)
        header.total_len = 20 + len(data)
        with self.on(self.raw_conns, r) as conn:
            assert conn.write_to(header, data) == len(data)
        with self.on(self.raw_conns, r) as conn:
            assert conn.write_batch([Message([header.marshal(), data], None, (RAW_HOST, 0))]) == 1
        # Before it was bound a socket may have got what is not for us.
        with self.on(self.raw_conns, r) as conn:
            found, payload, _ = conn.read_from(bytearray(MOST + 20))
            if found.dst == RAW_HOST:
                assert (found.src, found.ttl) == (RAW_HOST, 9)
                self.came(bytes(payload))
        with self.on(self.raw_readers, r) as reader:
            buffer = bytearray(MOST + 20)
            n, _, addr = reader.read_from(buffer)
            if addr == (RAW_HOST, 0):
                self.came(bytes(buffer[:n]))

    # Messages that all use.

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        """Messages that another call may have right now."""
        try:
            yield
        except RuntimeError as error:
            if "in use by another call" not in str(error):
                raise

    def do_read_shared(self, r: random.Random) -> None:
        with self.on(self.conns, r) as conn, self.shared():
            assert 1 <= conn.read_batch(r.sample(self.messages, BATCH)) <= BATCH

    def do_write_shared(self, r: random.Random) -> None:
        """Several may write one message at once."""
        message = Message(self.fresh(), None, self.peer(r))
        self.list.append(message)
        with self.on(self.conns, r) as conn, contextlib.suppress(IndexError):
            assert conn.write_batch([message, self.list[0], message]) >= 1
        with contextlib.suppress(ValueError):
            self.list.remove(message)

    def do_change_list(self, r: random.Random) -> None:
        """Lists that others change while a call begins."""
        own = [Message(self.fresh(), None, self.peer(r)) for _ in range(BATCH)]
        self.list.clear()
        self.list.extend(own)
        with self.on(self.conns, r) as conn, self.shared():
            assert 0 <= conn.write_batch(self.list) <= 4 * self.threads * BATCH

    def do_set_shared(self, r: random.Random) -> None:
        message = r.choice(self.messages)
        with self.shared():
            message.buffers = [bytearray(MOST // 2), bytearray(MOST // 2)]
        with self.shared():
            message.buffers = bytearray(MOST)
        with self.shared():
            message.oob = r.choice([None, bytearray(64)])
        with self.shared():
            message.addr = r.choice([None, (f"10.0.0.{r.randrange(200)}", r.randrange(65536))])

    def do_look_at_shared(self, r: random.Random) -> None:
        message = r.choice(self.messages)
        assert repr(message).startswith("<ipv4batch.Message buffers=")
        assert 0 <= message.n <= MOST
        assert 0 <= message.nn <= 256
        assert message.errno in (0, errno.ECONNREFUSED)
        assert message.truncated in (True, False)
        assert message.control_truncated in (True, False)
        addr = message.addr
        assert addr is None or (addr[0].startswith(("127.0.0.1", "10.0.0.")) and addr[1] < 65536)
        assert sum(len(part) for part in message.buffers) == MOST
        oob = message.oob
        assert oob is None or len(oob) > 0

    # The threads.

    def actions(self) -> list[Callable[[random.Random], None]]:
        return [
            method
            for name, method in inspect.getmembers(self, inspect.ismethod)
            if name.startswith("do_")
        ]

    def thread(self, index: int, until: float) -> None:
        r = random.Random(index)
        self.bits[r] = index
        actions = self.actions()
        try:
            while time.monotonic() < until and not self.over:
                r.shuffle(actions)
                for action in actions:
                    action(r)
                self.done[str(index)] += 1
        finally:
            self.over = True

    def run(self, seconds: float) -> None:
        """Hammer for a time; then nothing is left open, and every thread has come through."""
        until = time.monotonic() + seconds
        calls = [Call(self.thread, index, until) for index in range(self.threads)]
        calls.append(Call(self.endpoints.run, lambda: self.over or time.monotonic() >= until))
        try:
            for call in calls:
                call.join(max(until - time.monotonic(), 0) + LIMIT)
        finally:
            self.over = True
            for conn in [*self.conns, *self.raw_conns, *self.raw_readers]:
                conn.close()
        for call in calls:
            call.result()
