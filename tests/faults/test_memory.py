"""What messages cost: bytes each, and nothing at all for one more that is read or written."""

import array
import contextlib
import ctypes
import gc
import itertools
import os
import resource
import socket
import sys
import sysconfig
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.net import LOOPBACK

from ipv4batch import ControlFlags, ControlMessage, Message, PacketConn, capabilities, new_messages

BATCH = 1000
ROUNDS = 1000
"""A million messages in all."""

SANITIZED = os.environ.get("IPV4BATCH_TEST_SANITIZED", "0") not in ("", "0")
"""Sanitizers keep what is freed for a while, to see who uses it."""

SLACK = 512 * 1024
"""Bytes by which a process may grow of itself; a byte for each of a million messages is more."""

HEAP = 8 * 1024
"""Bytes by which malloc's own count may differ; Python's small objects are counted as blocks."""

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
CALL = 1024 + (8 * BATCH if FREE_THREADED else 0)
"""Bytes that a call may hold while it runs: its list, its result; not a byte for each of 1000.
Without a GIL another thread may change the list at any moment, and it is copied."""

FEW = 10
"""Blocks that CPython's caches may take or give back; a leak takes one for each call."""

EVERYTHING = ControlFlags(127)
DATA = bytes(range(40))

Round = Callable[[], object]


class Heap(ctypes.Structure):
    """What malloc knows of itself: mallinfo2(3), of glibc 2.33 or later."""

    _fields_ = (
        ("before", ctypes.c_size_t * 4),
        ("hblkhd", ctypes.c_size_t),
        ("between", ctypes.c_size_t * 2),
        ("uordblks", ctypes.c_size_t),
        ("after", ctypes.c_size_t * 2),
    )


_MALLINFO = None if SANITIZED else getattr(ctypes.CDLL(None), "mallinfo2", None)
if _MALLINFO is not None:
    _MALLINFO.restype = Heap


def in_heap() -> int:
    """Bytes that malloc has given out, and that were mapped for it; 0 where it does not tell."""
    if _MALLINFO is None:
        return 0
    heap = _MALLINFO()
    return int(heap.uordblks + heap.hblkhd)


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def assert_flat(once: Round, rounds: int = ROUNDS) -> None:
    """Neither Python's allocators nor malloc hold more after many calls than after one."""
    counts = array.array("q", bytes(8 * 11))
    for _ in range(3):
        once()
    gc.collect()
    before, heap = resident(), in_heap()
    for at in range(len(counts)):
        gc.collect()
        counts[at] = sys.getallocatedblocks()
        for _ in range(rounds // 10 if at < 10 else 0):
            once()
    growth = [new - old for old, new in itertools.pairwise(counts)]
    assert abs(counts[-1] - counts[0]) < FEW, growth
    assert in_heap() - heap < HEAP
    if not SANITIZED:
        assert resident() - before < SLACK


def held_meanwhile(once: Round) -> int:
    """The most that Python's allocators hold more during a call than before it."""
    once()
    tracemalloc.start()
    try:
        once()
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        once()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return peak - before


@pytest.fixture(autouse=True, scope="module")
def only_what_is_new() -> Iterator[None]:
    """What is there already is of no interest to the collector, which is asked often."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def conn() -> Iterator[PacketConn]:
    """A connection with one datagram to read, which a look at it leaves there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((LOOPBACK, 0))
        sock.settimeout(10)
        sock.sendto(DATA, sock.getsockname())
        with PacketConn(sock) as made:
            yield made


@pytest.fixture
def sink() -> Iterator[tuple[str, int]]:
    """An address that takes everything and keeps nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, PacketConn(sock) as made:
        sock.bind((LOOPBACK, 0))
        made.set_bpf([(6, 0, 0, 0)])
        yield made.local_addr


def reads(conn: PacketConn, control: ControlFlags) -> tuple[Round, list[Message]]:
    """A call that fills a thousand messages, each with the same datagram, and those messages."""
    conn.set_control_message(control)
    messages = new_messages(BATCH, 64, control)

    def read() -> None:
        assert conn.read_batch(messages, socket.MSG_PEEK) == BATCH

    return read, messages


def writes(conn: PacketConn, sink: tuple[str, int]) -> tuple[Round, list[Message]]:
    messages = [Message(DATA, addr=sink) for _ in range(BATCH)]

    def write() -> None:
        assert conn.write_batch(messages) == BATCH

    return write, messages


@pytest.mark.parametrize("control", [ControlFlags(0), EVERYTHING], ids=["bare", "control"])
def test_a_million_reads(conn: PacketConn, control: ControlFlags) -> None:
    read, messages = reads(conn, control)
    assert_flat(read)
    assert held_meanwhile(read) < CALL
    assert [(m.n, m.data) for m in messages] == [(len(DATA), DATA)] * BATCH
    assert all((m.nn > 0) is bool(control) for m in messages)


@pytest.mark.parametrize("call", ["write_batch", "write_all"])
def test_writes(conn: PacketConn, sink: tuple[str, int], call: str) -> None:
    messages = [Message(DATA, addr=sink) for _ in range(BATCH)]
    write = getattr(conn, call)
    assert write(messages) == BATCH
    assert_flat(lambda: write(messages), ROUNDS // 20)
    assert held_meanwhile(lambda: write(messages)) < CALL


def test_a_million_writes_with_offload(conn: PacketConn, sink: tuple[str, int]) -> None:
    if not capabilities()["gso"]:
        pytest.skip("the kernel has no UDP_SEGMENT")
    write, messages = writes(conn, sink)
    conn.gso = True
    assert_flat(write)
    assert held_meanwhile(write) < CALL
    assert conn.gso
    assert {(m.n, m.errno) for m in messages} == {(len(DATA), 0)}


def test_a_million_through_offload_both_ways(conn: PacketConn) -> None:
    if not (capabilities()["gso"] and capabilities()["gro"]):
        pytest.skip("the kernel has not both of UDP_SEGMENT and UDP_GRO")
    conn.read_from(bytearray(64))
    conn.gso = conn.gro = True
    # 64 datagrams make one for the kernel: as few as fit into a receive buffer of the usual size.
    sent = [Message(DATA, addr=conn.local_addr) for _ in range(64 * 8)]
    received = new_messages(len(sent), 64)

    def there_and_back() -> None:
        assert conn.write_batch(sent) == len(sent)
        count = 0
        while count < len(sent):
            count += conn.read_batch(received)

    assert_flat(there_and_back, ROUNDS * BATCH // len(sent))
    assert held_meanwhile(there_and_back) < CALL
    assert conn.pending == 0


@pytest.mark.parametrize("call", ["read_from", "write_to"])
def test_single_datagrams(conn: PacketConn, sink: tuple[str, int], call: str) -> None:
    conn.set_control_message(EVERYTHING)
    buffer, control = bytearray(64), ControlMessage(ttl=9)

    def once() -> None:
        if call == "read_from":
            assert conn.read_from(buffer, socket.MSG_PEEK)[0] == len(DATA)
        else:
            assert conn.write_to(DATA, sink, control) == len(DATA)

    assert_flat(once, 20 * BATCH)
    assert held_meanwhile(once) < CALL


def test_waits_that_come_to_nothing(conn: PacketConn) -> None:
    """An exception and a wake-up descriptor each time, and none of them stays."""
    conn.read_from(bytearray(64))
    messages = new_messages(BATCH, 64)
    conn.timeout = 1e-9

    def wait() -> None:
        with pytest.raises(TimeoutError):
            conn.read_batch(messages)

    assert_flat(wait, ROUNDS)


def each(messages: list[Message], use: Callable[[Message], object]) -> None:
    for message in messages:
        use(message)


USES: dict[str, Callable[[Message], object]] = {
    "addr": lambda message: message.addr,
    "data": lambda message: message.data,
    "view": lambda message: message.view,
    "control_message": lambda message: message.control_message(),
    "n": lambda message: (message.n, message.nn, message.flags, message.truncated),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_what_is_asked_for_is_not_kept(conn: PacketConn, use: Callable[[Message], object]) -> None:
    """But for the address, which is made once."""
    read, messages = reads(conn, EVERYTHING)

    def ask() -> None:
        read()
        each(messages, use)

    ask()
    assert_flat(ask, 20)
    assert held_meanwhile(ask) < CALL


def test_a_control_message_is_used_again(conn: PacketConn) -> None:
    read, messages = reads(conn, EVERYTHING)
    read()
    control = ControlMessage()

    def parse() -> None:
        assert messages[0].control_message(control) is control
        each(messages, lambda message: message.control_message(control))

    assert_flat(parse, 100)
    assert held_meanwhile(parse) < CALL
    assert control == messages[-1].control_message()


# The address


def test_the_address_is_the_same_tuple_while_the_peer_is_the_same(conn: PacketConn) -> None:
    read, messages = reads(conn, ControlFlags(0))
    read()
    addresses = [message.addr for message in messages]
    assert set(addresses) == {conn.local_addr}
    read()
    assert all(m.addr is addr for m, addr in zip(messages, addresses, strict=True))

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind((LOOPBACK, 0))
        conn.read_from(bytearray(64))
        peer.sendto(b"", conn.local_addr)
        read()
        assert {message.addr for message in messages} == {peer.getsockname()}
        assert all(message.addr is message.addr for message in messages)
        kept = messages[0].addr
        messages[0].addr = peer.getsockname()
        assert messages[0].addr is kept


def test_an_address_is_made_once_for_all_messages_of_a_peer(conn: PacketConn) -> None:
    read, messages = reads(conn, ControlFlags(0))
    assert held_meanwhile(read) < CALL
    messages[0].addr  # noqa: B018
    tracemalloc.start()
    each(messages, USES["addr"])
    read()
    each(messages, USES["addr"])
    in_use, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert in_use < CALL
    assert len({id(message.addr) for message in messages}) == 1


# Bytes

APART = 136 if FREE_THREADED else 0
"""Bytes by which a view is larger that shares no counts with others, as it does without the GIL."""

OF_A_MESSAGE = 640 + APART
"""Bytes that a message takes beside its buffer, all told: it, its view of the slab, its iovec."""

WITH_CONTROL = 1024 + 2 * APART
"""The same with a view for control data."""

OF_A_BUFFER = 128
"""Bytes that one more buffer of a message takes: a Py_buffer, an iovec and a reference."""


@contextlib.contextmanager
def traced() -> Iterator[Callable[[], int]]:
    """Tells how many bytes more Python's allocators hold than at the beginning."""
    gc.collect()  # what is free is given back, and what is asked for is seen
    tracemalloc.start()
    try:
        yield lambda: (gc.collect(), tracemalloc.get_traced_memory()[0])[1]
    finally:
        tracemalloc.stop()


def test_the_size_of_a_message() -> None:
    """It has the kernel's struct, the peer's name, the iovec of a bytes object, and results: those
    of the last call, how late it went, and the number of its departure.
    """
    least = 56 + 16 + 16  # struct msghdr, struct sockaddr_in and struct iovec
    assert least < sys.getsizeof(Message()) <= 224
    assert sys.getsizeof(Message(bytes(9999))) == sys.getsizeof(Message())


@pytest.mark.parametrize("count", [10, 1000, 10000])
@pytest.mark.parametrize("size", [0, 1, 1500, 2048])
@pytest.mark.parametrize(
    ("control", "bound"), [(ControlFlags(0), OF_A_MESSAGE), (EVERYTHING, WITH_CONTROL)]
)
def test_what_new_messages_cost(count: int, size: int, control: ControlFlags, bound: int) -> None:
    with traced() as in_use:
        messages = new_messages(count, size, control)
        slab = count * (size + (len(messages[0].oob) if control else 0))
        cost = in_use() - slab
        assert 192 * count < cost < bound * count + 2 * 4096  # a page for the slab's alignment
        del messages
        assert in_use() < CALL


def test_what_a_buffer_costs() -> None:
    parts = [bytes(1)] * 1001
    few, many = parts[:1], parts
    with traced() as in_use:
        small = Message(few)
        before = in_use()
        large = Message(many)
        assert in_use() - before < OF_A_BUFFER * 1001
    assert (len(small.buffers), len(large.buffers)) == (1, 1001)


# The slab


@pytest.mark.parametrize("control", [ControlFlags(0), EVERYTHING])
def test_the_slab_is_one_piece_that_starts_on_a_page(control: ControlFlags) -> None:
    size, count = 1500, 20
    messages = new_messages(count, size, control)
    buffers = [message.buffers[0] for message in messages]
    start = address(buffers[0])
    assert start % 4096 == 0
    assert [address(buffer) for buffer in buffers] == [start + i * size for i in range(count)]
    (slab,) = {id(buffer.obj) for buffer in buffers}
    if control:
        room = len(messages[0].oob)
        controls = [message.oob for message in messages]
        start += count * size
        assert [address(oob) for oob in controls] == [start + i * room for i in range(count)]
        assert {id(oob.obj) for oob in controls} == {slab}


def address(buffer: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


def test_the_slab_lives_as_long_as_its_last_message() -> None:
    with traced() as in_use:
        messages = new_messages(100, 4096)
        last = messages[50]
        del messages
        assert in_use() > 100 * 4096
        last.buffers = ()
        assert in_use() < 2 * CALL
        assert last.n == 0
