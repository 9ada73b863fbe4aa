"""What a read took and could not give for want of memory: the next read gives it."""

import errno
import gc
import itertools
import os
import select
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.net import Call, assert_closed, open_raw, own_host, send, wait_for
from support.nomemory import FAILED, make, short_collections

from ipv4batch import (
    ControlFlags,
    Header,
    Message,
    PacketConn,
    RawConn,
    new_messages,
)

PROTOCOL = 241  # of nobody: others of the machine may use those for experiments
SENT = [bytes([number]) * 300 for number in range(4)]
"""Of a length that is an int which has to be allocated."""


@pytest.fixture(autouse=True, scope="module")
def collections() -> Iterator[None]:
    with short_collections():
        yield


def until_it_works(call: Callable[[], Any]) -> tuple[int, Any]:
    """Call with the first allocation failing, the second ...: how often it failed; the result."""
    for failing in itertools.count():
        gc.collect()  # this empties the free lists, which would give memory without asking for it
        outcome = make(call, failing)
        if outcome is not FAILED:
            return failing, outcome
    raise AssertionError


def lose(conn: PacketConn, read: Callable[[], Any]) -> None:
    """Let a read fail when it has a datagram."""
    before = conn.pending
    for failing in itertools.count():
        gc.collect()
        assert make(read, failing) is FAILED, "no allocation after the receive has failed"
        if conn.pending > before:
            return


def read_from(conn: PacketConn, flags: int = 0) -> Callable[[], Any]:
    buffer = bytearray(400)

    def read() -> Any:
        buffer[:] = bytes(400)
        return conn.read_from(buffer, flags), buffer

    return lambda: read()


@pytest.mark.parametrize("gro", [False, True])
def test_read_from_gives_each_datagram_once_and_in_order(conn: PacketConn, gro: bool) -> None:
    conn.gro = gro
    conn.set_control_message(ControlFlags.TTL | ControlFlags.DST)
    send(conn, *SENT)
    failures = 0
    for data in SENT:
        failed, ((n, control, _), buffer) = until_it_works(read_from(conn))
        assert (n, bytes(buffer)) == (300, data.ljust(400, b"\0"))
        assert (control.ttl, control.dst) == (64, "127.0.0.1")
        failures += failed
    assert failures > 10
    assert conn.pending == 0
    with pytest.raises(BlockingIOError):
        conn.read_from(bytearray(9), socket.MSG_DONTWAIT)


def test_a_batch_gives_it_with_all_that_came_with_it(conn: PacketConn) -> None:
    conn.set_control_message(ControlFlags.TTL)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for data in SENT[:3]:
            sender.sendto(data, conn.local_addr)
        addr = ("127.0.0.1", sender.getsockname()[1])
    lose(conn, read_from(conn))
    peeked = Message(bytearray(400))
    assert conn.read_batch([peeked], socket.MSG_PEEK) == 1
    assert (peeked.data, conn.pending) == (SENT[0], 1)
    messages = new_messages(2, 400, ControlFlags.TTL)
    assert conn.read_batch(messages) == 1
    assert (messages[0].data, messages[0].addr) == (SENT[0], addr)
    assert messages[0].control_message().ttl == 64
    assert not messages[0].truncated
    assert conn.pending == 0
    lose(conn, read_from(conn))
    small = Message([bytearray(100), bytearray(100)], bytearray(8))
    assert conn.read_batch([small]) == 1
    assert (small.data, small.addr) == (SENT[1][:200], addr)
    assert small.truncated
    assert small.control_truncated
    assert conn.read_batch(messages) == 1
    assert messages[0].data == SENT[2]


def test_what_was_cut_stays_cut(conn: PacketConn) -> None:
    send(conn, SENT[1])
    buffer = bytearray(100)
    lose(conn, lambda: conn.read_from(buffer, socket.MSG_TRUNC))
    message = Message(bytearray(400))
    assert conn.read_batch([message], socket.MSG_TRUNC) == 1
    assert (message.n, message.data[:101]) == (300, SENT[1][:100] + b"\0")
    assert message.truncated


def coalesce(conn: PacketConn, datas: list[bytes]) -> None:
    """Datagrams that the kernel coalesces."""
    conn.set_control_message(ControlFlags.SEGMENT | ControlFlags.TTL)
    conn.gso = True
    assert conn.write_all([Message(data, addr=conn.local_addr) for data in datas]) == len(datas)


@pytest.mark.parametrize("how", ["gro", "SEGMENT"])
@pytest.mark.parametrize("room", [200, 400])
def test_a_coalesced_datagram_is_split_where_that_is_asked_for_now(
    conn: PacketConn, how: str, room: int
) -> None:
    datas = [bytes([i]) * 300 for i in range(9)] + [b"short"]
    coalesce(conn, datas)
    buffer = bytearray(65535)
    lose(conn, lambda: conn.read_from(buffer))
    assert conn.pending == 1
    if how == "gro":
        conn.gro = True
    else:
        conn.set_control_message(ControlFlags.SEGMENT, on=False)
    assert conn.pending == 10
    [peeked] = new_messages(1, room)
    assert conn.read_batch([peeked], socket.MSG_PEEK) == 1
    assert (peeked.data, conn.pending) == (datas[0][:room], 10)
    messages = new_messages(4, room, ControlFlags(255))
    found: list[bytes] = []
    for pending in (6, 2, 0):
        n = conn.read_batch(messages, socket.MSG_TRUNC)
        found += [message.data for message in messages[:n]]
        assert conn.pending == pending
        for message in messages[:n]:
            control = message.control_message()
            assert (control.ttl, control.segment_size) == (64, 0)
            assert (message.n, message.truncated) in [(300, room < 300), (5, False)]
    assert found == [data[:room] for data in datas]


def test_what_is_left_of_a_coalesced_datagram_comes_whole_again(conn: PacketConn) -> None:
    datas = [bytes([i]) * 300 for i in range(5)]
    coalesce(conn, datas)
    buffer = bytearray(65535)
    lose(conn, lambda: conn.read_from(buffer))
    conn.set_control_message(ControlFlags.SEGMENT, on=False)
    assert conn.read_from(buffer)[0] == 300
    conn.set_control_message(ControlFlags.SEGMENT)
    assert conn.pending == 1
    [whole] = new_messages(1, 65535, ControlFlags(255))
    assert conn.read_batch([whole]) == 1
    assert [bytes(piece) for piece in whole.segments()] == datas[1:]
    assert conn.pending == 0


def test_a_look_takes_nothing_that_could_be_lost(conn: PacketConn) -> None:
    send(conn, SENT[2])
    failed, ((n, _, _), buffer) = until_it_works(read_from(conn, socket.MSG_PEEK))
    assert failed > 0
    assert (n, buffer[:300], conn.pending) == (300, SENT[2], 0)
    assert conn.read_from(bytearray(400))[0] == 300


@pytest.mark.parametrize("options", [b"", bytes([1] * 8)])
@pytest.mark.parametrize("room", [4, 400])
def test_packets_of_raw_sockets(needs_raw: None, options: bytes, room: int) -> None:
    """With or without header, whole or cut: as if no memory had been short."""
    here = own_host(15)
    head = Header(ttl=9, protocol=PROTOCOL, id=7, src=here, dst=here, options=options)
    with PacketConn(open_raw(PROTOCOL, here)) as conn, RawConn(open_raw(PROTOCOL, here)) as raw:
        for data in SENT:
            raw.write_to(head, data)
        buffer = bytearray(room)
        found: list[bytes] = []
        for _ in SENT:
            failed, (n, control, addr) = until_it_works(lambda: conn.read_from(buffer))
            assert failed > 0
            assert (control, addr) == (None, (here, 0))
            found.append(bytes(buffer[:n]))
        assert found == [data[:room] for data in SENT]
        large = bytearray(400)
        for data in SENT:
            failed, (header, payload, _) = until_it_works(lambda: raw.read_from(large))
            assert failed > 0
            assert (header.id, header.options, payload) == (7, options, data)
            payload.release()


def test_whoever_waits_gets_it(conn: PacketConn) -> None:
    """Other threads wait for a datagram that this one has taken and cannot give."""
    all_messages = [new_messages(1, 400) for _ in range(4)]
    found, go = [None], threading.Lock()
    go.acquire()

    def read_all(messages: list[Message]) -> None:
        # Nothing here allocates: memory is short for these threads, too.
        while True:
            conn.read_batch(messages)
            found[0] = messages
            go.acquire()

    calls = [Call(read_all, messages) for messages in all_messages]
    buffer = bytearray(400)
    failures = 0
    for _ in range(50):
        for call in calls:
            call.wait_until_waiting()
        send(conn, SENT[3])
        gc.collect()
        outcome = make(lambda: conn.read_from(buffer, socket.MSG_DONTWAIT), 1)
        if isinstance(outcome, tuple):
            continue  # the failing allocation was another's
        failures += outcome is FAILED
        wait_for(lambda: found[0] is not None, "another thread has it")
        assert found[0][0].data == SENT[3]
        found[0] = None
        go.release()
    conn.close()
    for call in calls:
        assert_closed(call)
    assert failures > 0


def test_close_and_fork_forget_it(conn: PacketConn) -> None:
    send(conn, SENT[0])
    lose(conn, read_from(conn))
    child = os.fork()
    if child == 0:
        os._exit(conn.pending)
    assert os.waitpid(child, 0)[1] == 0
    assert conn.pending == 1
    conn.close()
    assert conn.pending == 0


# Errors of the network


def provoke(conn: PacketConn, *sent: bytes) -> None:
    """Send where nobody listens."""
    conn.recv_errors = True
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = closed.getsockname()
    for data in sent:
        conn.write_to(data, nobody)


def test_read_errors_gives_each_once_and_in_order(conn: PacketConn) -> None:
    """What came before the one that failed is given at once."""
    for most in (1, 2, 64):
        provoke(conn, *SENT)
        found: list[bytes] = []
        failures = 0
        while len(found) < len(SENT):
            failed, errors = until_it_works(lambda most=most: conn.read_errors(most))
            failures += failed
            found += [error.data for error in errors]
        assert failures > 5
        assert found == SENT
        assert conn.read_errors() == []


def test_an_entry_of_the_queue_is_no_datagram(conn: PacketConn) -> None:
    """What read_from took from the queue of errors, read_errors gives, and no read of datagrams."""
    provoke(conn, SENT[1])
    buffer = bytearray(400)
    for failing in itertools.count():
        gc.collect()
        flags = socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT
        outcome = make(lambda flags=flags: conn.read_from(buffer, flags), failing)
        if isinstance(outcome, BlockingIOError) or bytes(buffer[:300]) == SENT[1]:
            break
    assert outcome is FAILED
    with pytest.raises(BlockingIOError):
        conn.read_from(bytearray(400), socket.MSG_DONTWAIT)
    (entry,) = conn.read_errors(wait=True)
    assert (entry.errno, entry.data) == (errno.ECONNREFUSED, SENT[1])


def test_a_poll_of_read_fileno_sees_it(conn: PacketConn) -> None:
    fd = conn.read_fileno()
    send(conn, SENT[0])
    lose(conn, read_from(conn))
    assert select.select([fd], [], [], 0)[0]
    assert read_from(conn)()[0][0] == len(SENT[0])
    assert not select.select([fd], [], [], 0)[0]
