"""Offload with several threads on one connection, and with an error of the network that waits."""

import collections
import errno
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from support.net import LIMIT, Call, open_udp, wait_for
from support.offload import enlarge, open_pair
from support.router import SERVER, Network, routed

from ipv4batch import Message, PacketConn, new_messages

SLACK = 1.5
"""Seconds after which something does not count as happening at once; machines can be busy."""

UDP_GRO = 104  # linux/udp.h; the module socket has no name for it

DURATION = 1.0
"""Seconds for which threads race."""

Pair = tuple[PacketConn, PacketConn]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A reader with gro, and a writer with gso."""
    with open_pair(gso=True, gro=True) as made:
        yield made


def numbered(reader: PacketConn, numbers: range, size: int = 100) -> list[Message]:
    """Datagrams that say which they are all along, so that one which was cut or glued is seen."""
    datas = (struct.pack("!I", number) * (size // 4) for number in numbers)
    return [Message(data, None, reader.local_addr) for data in datas]


def number_of(message: Message) -> int:
    (number,) = struct.unpack_from("!I", message.view)
    assert message.data == struct.pack("!I", number) * 25
    assert not message.truncated
    return int(number)


# Readers that wait


@pytest.mark.parametrize("readers", [2, 3])
def test_no_reader_sleeps_while_datagrams_are_pending(pair: Pair, readers: int) -> None:
    """One reader takes a coalesced datagram; the segments that it leaves wake the others."""
    reader, writer = pair
    reader.timeout = None
    run = numbered(reader, range(readers))
    read: list[int] = []
    turn = threading.Barrier(readers)

    def read_one_a_turn() -> None:
        into = new_messages(1)
        while reader.read_batch(into) == 1:
            read.append(number_of(into[0]))
            turn.wait()

    calls = [Call(read_one_a_turn) for _ in range(readers)]
    written = 0
    try:
        end = time.monotonic() + DURATION
        while time.monotonic() < end:
            written += writer.write_batch(run)
            wait_for(lambda total=written: len(read) == total, "each reader has one")
    finally:
        # Those who have read wait for each other, and those who have not for a datagram.
        turn.abort()
        reader.close()
        for call in calls:
            with pytest.raises((OSError, threading.BrokenBarrierError)):
                call.result()
    assert collections.Counter(read) == dict.fromkeys(range(readers), written // readers)


# Switching


def test_gro_is_switched_on_at_once_beside_threads_that_write(pair: Pair) -> None:
    """Only reads that are under way are waited for."""
    sink = pair[0]
    over = threading.Event()
    wrote = threading.Semaphore(0)

    def write() -> None:
        messages = numbered(sink, range(1024), 1200)
        end = time.monotonic() + 2 * SLACK
        while not over.is_set() and time.monotonic() < end:
            conn.write_batch(messages)
            wrote.release()

    with open_udp() as conn:
        calls = [Call(write) for _ in range(2)]
        for _ in range(4):
            assert wrote.acquire(timeout=LIMIT)
        started = time.monotonic()
        conn.gro = True
        took = time.monotonic() - started
        over.set()
        for call in calls:
            call.result()
    assert took < SLACK


def test_gro_off_again_leaves_the_option_and_splits_coalesced_datagrams(pair: Pair) -> None:
    """Without the option, what the kernel has coalesced would lose its segment size."""
    reader, writer = pair
    run = numbered(reader, range(64))
    into = new_messages(len(run), 256)
    with socket.socket(fileno=socket.dup(reader.fileno())) as sock:
        for on in (True, False, False, True, False):
            reader.gro = on
            assert reader.gro is on
            assert sock.getsockopt(socket.IPPROTO_UDP, UDP_GRO) == 1
            assert writer.write_batch(run) == len(run)
            assert reader.read_batch(into) == len(run)
            assert [number_of(message) for message in into] == list(range(len(run)))


@pytest.mark.parametrize("readers", [1, 3])
@pytest.mark.parametrize("rounds_in_flight", [1, 4])
def test_gro_is_switched_while_several_threads_read(
    pair: Pair, readers: int, rounds_in_flight: int
) -> None:
    """Nothing is lost or given twice, and no datagram is cut, or glued to another."""
    reader, writer = pair
    assert enlarge(reader) > rounds_in_flight * 64 * 2048
    run = numbered(reader, range(64))
    room = threading.Semaphore(rounds_in_flight)
    over = threading.Event()
    lock = threading.Lock()
    read: collections.Counter[int] = collections.Counter()

    def read_all() -> None:
        into = new_messages(8, 256)
        while True:
            numbers = [number_of(message) for message in into[: reader.read_batch(into)]]
            with lock:
                before = read.total()
                read.update(numbers)
                rounds = read.total() // len(run) - before // len(run)
            for _ in range(rounds):
                room.release()

    def write() -> int:
        rounds = 0
        while room.acquire(timeout=LIMIT) and not over.is_set():
            assert writer.write_batch(run) == len(run)
            rounds += 1
        return rounds

    calls = [Call(read_all) for _ in range(readers)]
    writing = Call(write)
    try:
        end = time.monotonic() + DURATION
        while time.monotonic() < end:
            reader.gro = not reader.gro
        over.set()
        room.release()
        rounds = writing.result()
        wait_for(
            lambda: read.total() == rounds * len(run) or not any(map(Call.is_alive, calls)),
            "all is read",
        )
    finally:
        over.set()
        room.release()
        writing.join(LIMIT)
        reader.close()
        for call in calls:
            with pytest.raises(OSError, match="The connection is closed"):
                call.result()
    assert read == dict.fromkeys(range(len(run)), rounds)


# An error of the network that waits


@pytest.fixture
def network(needs_netns: None) -> Iterator[Network]:
    with routed() as made:
        for place in ("router", "server"):
            made.set_mtu(place, "far", 1000)
        yield made


def write_batch(conn: PacketConn, messages: list[Message]) -> int:
    return conn.write_batch(messages)


def write_all(conn: PacketConn, messages: list[Message]) -> int:
    return conn.write_all(messages)


@pytest.mark.parametrize("first", [write_batch, write_all])
@pytest.mark.parametrize("then", [write_batch, write_all])
def test_a_report_about_a_path_does_not_end_offload(
    network: Network, first: Any, then: Any
) -> None:
    """A router finds an earlier datagram too big: EMSGSIZE, which a refused run has too."""
    server = network.open_udp("server")
    client = network.open_udp("client", peer=(SERVER, server.local_addr[1]))
    client.gso = True
    client.write_to(bytes(1200))
    poll = select.poll()
    poll.register(client.fileno(), 0)
    wait_for(lambda: poll.poll(0) != [], "the router's report has come")

    run = [Message(b"%d" % number * 500) for number in range(8)]
    assert first(client, run) == len(run)
    assert (client.gso, client.gso_error) == (True, None)
    assert [(message.n, message.errno) for message in run] == [(500, 0)] * len(run)
    with pytest.raises(OSError, match="Message too long: 'write udp4 ") as caught:
        then(client, run)
    assert caught.value.errno == errno.EMSGSIZE
    # It is told once, and the write that told it wrote nothing.
    assert then(client, [Message(b"the end")]) == 1
    expected = [b"%d" % number * 500 for number in range(8)]
    # The datagram that was too big comes in fragments, or not at all.
    assert [data for data in read_until(server, b"the end") if len(data) < 1200] == expected
    assert (client.gso, client.gso_error) == (True, None)


def read_until(conn: PacketConn, end: bytes) -> list[bytes]:
    into = new_messages(16)
    datas: list[bytes] = []
    while end not in datas:
        datas += [message.data for message in into[: conn.read_batch(into)]]
    assert datas.pop() == end
    return datas
