"""forward: what messages have received goes on, without an object for any of them."""

import errno
import re
import socket
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.net import open_raw, open_udp, own_host, raw_pair
from support.offload import compose, enlarge

from ipv4batch import (
    ControlFlags,
    ControlMessage,
    Header,
    Message,
    PacketConn,
    RawConn,
    checksum,
    new_messages,
    parse_header,
)

ICMP = socket.IPPROTO_ICMP
Endpoint = tuple[str, int]

each_offload = pytest.mark.parametrize("gso", [False, True], ids=["plain", "gso"])
each_mode = pytest.mark.parametrize("errors", ["raise", "skip"])


@pytest.fixture
def relay() -> Iterator[PacketConn]:
    with open_udp() as conn:
        yield conn


@pytest.fixture
def sink() -> Iterator[PacketConn]:
    with open_udp() as conn:
        conn.timeout = 0
        enlarge(conn)
        yield conn


def arrived(conn: PacketConn) -> list[bytes]:
    messages = new_messages(64, 65535)
    found: list[bytes] = []
    while True:
        try:
            count = conn.read_batch(messages)
        except BlockingIOError:
            return found
        found += [message.data for message in messages[:count]]


def receive(relay: PacketConn, datas: Sequence[bytes], into: list[Message]) -> list[Message]:
    """Messages that have received these, which another connection sends."""
    enlarge(relay)
    with open_udp() as source:
        assert source.write_all([Message(d, None, relay.local_addr) for d in datas]) == len(datas)
    count = 0
    while count < len(datas):
        count += relay.read_batch(into[count:])
    return into[:count]


@each_offload
@pytest.mark.parametrize("gro", [False, True])
@pytest.mark.parametrize(
    "sizes",
    [
        [0],
        [1, 2, 3],
        [1200] * 100,
        [1200] * 64 + [7],
        [0, 9, 9, 0, 1400] * 20,
        [65507],
        [*range(50)],
    ],
    ids=["nothing", "few", "run", "tail", "mixed", "most", "growing"],
)
def test_what_was_received_goes_on(
    relay: PacketConn, sink: PacketConn, sizes: list[int], gso: bool, gro: bool
) -> None:
    relay.gso = gso
    relay.gro = sink.gro = gro
    datas = [compose(k, size) for k, size in enumerate(sizes)]
    messages = receive(relay, datas, new_messages(len(datas), max(sizes)))
    before = [(m.n, m.nn, m.flags, m.addr, m.buffers, m.data) for m in messages]
    for _ in range(2):
        assert relay.forward(messages, sink.local_addr) == len(datas) == relay.last_written
        assert arrived(sink) == datas
    # They stay what was received.
    assert [(m.n, m.nn, m.flags, m.addr, m.buffers, m.data) for m in messages] == before
    assert {m.errno for m in messages} == {0}


sizes_of_buffers = st.lists(st.integers(0, 40), min_size=1, max_size=5)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(buffers=st.lists(sizes_of_buffers, min_size=1, max_size=20), gso=st.booleans())
def test_any_buffers(
    relay: PacketConn, sink: PacketConn, buffers: list[list[int]], gso: bool
) -> None:
    relay.gso = gso
    into = [Message([bytearray(size) for size in sizes]) for sizes in buffers]
    datas = [compose(k, (7 * k + 3) % (sum(sizes) + 1)) for k, sizes in enumerate(buffers)]
    messages = receive(relay, datas, into)
    assert relay.forward(messages, addr=sink.local_addr) == len(datas)
    assert arrived(sink) == datas


@each_offload
def test_without_an_address_each_goes_back(relay: PacketConn, gso: bool) -> None:
    relay.gso = gso
    sources = [open_udp() for _ in range(3)]
    for k in range(30):
        sources[k % 3].write_to(b"%04d" % k, relay.local_addr)
    messages = new_messages(30, 100)
    assert relay.read_batch(messages) == 30
    assert relay.forward(messages) == 30
    for k, source in enumerate(sources):
        source.timeout = 0
        assert arrived(source) == [b"%04d" % i for i in range(k, 30, 3)]
        source.close()


def test_control_data_does_not_go_along(relay: PacketConn, sink: PacketConn) -> None:
    relay.set_control_message(ControlFlags.TTL | ControlFlags.DST)
    sink.set_control_message(ControlFlags.TTL)
    with open_udp() as source:
        source.write_to(b"x", relay.local_addr, ControlMessage(ttl=9))
    [message] = new_messages(1, 10, ControlFlags(255))
    assert relay.read_batch([message]) == 1
    control = message.control_message()
    assert control is not None
    assert control.ttl == 9
    assert relay.forward([message], sink.local_addr) == 1
    assert message.control_message() == control
    [got] = new_messages(1, 10, ControlFlags.TTL)
    assert sink.read_batch([got]) == 1
    control = got.control_message()
    assert control is not None
    assert control.ttl == relay.ttl


@pytest.mark.parametrize("count", [1, 3, 50])
@pytest.mark.parametrize("gso", [False, True])
def test_a_coalesced_datagram_goes_as_its_datagrams(
    relay: PacketConn, sink: PacketConn, count: int, gso: bool
) -> None:
    relay.set_control_message(ControlFlags.SEGMENT)
    relay.gso = gso
    datas = [compose(k, 1000) for k in range(count)] + [b"the last one"]
    with open_udp() as source:
        source.gso = True
        assert source.write_all([Message(d, None, relay.local_addr) for d in datas]) == len(datas)
    messages = new_messages(count + 1, 65535, ControlFlags.SEGMENT)
    read = relay.read_batch(messages)
    assert read == 1
    assert relay.forward(messages[:read], sink.local_addr) == 1
    assert arrived(sink) == datas


def test_one_message_many_times(relay: PacketConn, sink: PacketConn) -> None:
    relay.gso = True
    [message] = receive(relay, [b"again"], new_messages(1, 100))
    assert relay.forward([message] * 70, sink.local_addr) == 70
    assert arrived(sink) == [b"again"] * 70
    assert message.errno == 0


def test_many_turns(require: Callable[[str], None], relay: PacketConn, sink: PacketConn) -> None:
    if enlarge(sink) < 4000 * 2048:
        require("a large receive buffer needs CAP_NET_ADMIN")
    datas = [b"%05d" % k for k in range(3000)]
    messages = receive(relay, datas, new_messages(3000, 100))
    assert relay.forward(messages, sink.local_addr) == 3000
    assert arrived(sink) == datas
    relay.set_write_deadline(0)
    with pytest.raises(TimeoutError) as caught:
        relay.forward(messages, sink.local_addr)
    error: Any = caught.value
    assert (error.index, error.written) == (1024, 1024)
    assert [m.errno for m in messages] == [0] * 1024 + [errno.ETIMEDOUT] + [errno.ECANCELED] * 1975


@each_offload
def test_truncated_ones(relay: PacketConn, sink: PacketConn, gso: bool) -> None:
    relay.gso = gso
    datas = [compose(k, 200 if k in (3, 7) else 90) for k in range(10)]
    messages = receive(relay, datas, new_messages(10, 100))
    expected = "msgs[3].truncated: the datagram was longer than the buffers"
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}"):
        relay.forward(messages, sink.local_addr)
    assert arrived(sink) == []
    assert {m.errno for m in messages} == {0}
    assert relay.forward(messages, sink.local_addr, errors="skip") == 8
    assert arrived(sink) == [data for data in datas if len(data) == 90]
    assert [m.errno for m in messages] == [errno.EMSGSIZE if k in (3, 7) else 0 for k in range(10)]
    assert (relay.gso, relay.gso_error) == (gso, None)


@each_mode
def test_what_was_not_received_is_refused(relay: PacketConn, sink: PacketConn, errors: Any) -> None:
    good = receive(relay, [b"1", b"2", b"3"], new_messages(3, 10))
    never = Message(bytearray(10))
    written = receive(relay, [b"4"], new_messages(1, 10))[0]
    written.addr = sink.local_addr
    written.buffers = b"data"
    assert relay.write_batch([written]) == 1
    changed = receive(relay, [b"5"], new_messages(1, 10))[0]
    changed.buffers = bytearray(10)
    with_other_oob = receive(relay, [b"6"], new_messages(1, 10))[0]
    with_other_oob.oob = bytearray(64)
    assert arrived(sink) == [b"data"]
    for wrong in (never, written, changed):
        for place in (0, 2, 3):
            messages = [*good[:place], wrong, *good[place:]]
            with pytest.raises(ValueError, match=rf"^msgs\[{place}\]: nothing was received"):
                relay.forward(messages, sink.local_addr, errors=errors)
    for bad in (None, b"bytes"):
        with pytest.raises(TypeError, match=r"^msgs\[3\]: a Message is required"):
            relay.forward([*good, bad], sink.local_addr, errors=errors)  # type: ignore[list-item]
    assert arrived(sink) == []
    assert relay.forward([*good, with_other_oob], sink.local_addr, errors=errors) == 4
    assert arrived(sink) == [b"1", b"2", b"3", b"6"]


@pytest.mark.parametrize(
    ("addr", "error"),
    [
        (("127.0.0.1",), TypeError),
        ("127.0.0.1", TypeError),
        (("nowhere", 9), ValueError),
        (("127.0.0.1", 65536), ValueError),
        (("127.0.0.1", "9"), TypeError),
    ],
)
def test_wrong_addresses(relay: PacketConn, addr: Any, error: type[Exception]) -> None:
    messages = receive(relay, [b"1"], new_messages(1, 10))
    with pytest.raises(error, match="^addr"):
        relay.forward(messages, addr)


def test_other_wrong_arguments(relay: PacketConn, sink: PacketConn) -> None:
    messages = receive(relay, [b"1"], new_messages(1, 10))
    calls: list[tuple[Any, type[Exception], str]] = [
        (lambda: relay.forward(7), TypeError, "msgs"),  # type: ignore[arg-type]
        (lambda: relay.forward(messages, sink.local_addr, -1), ValueError, "flags"),
        (lambda: relay.forward(messages, sink.local_addr, 0, "no"), ValueError, "errors"),  # type: ignore[arg-type]
    ]
    for call, error, text in calls:
        with pytest.raises(error, match=text):
            call()
    assert arrived(sink) == []
    assert relay.forward([], sink.local_addr) == 0
    relay.close()
    with pytest.raises(OSError, match="The connection is closed") as caught:
        relay.forward(messages, sink.local_addr)
    assert (caught.value.index, caught.value.written) == (0, 0)  # type: ignore[attr-defined]
    with pytest.raises(OSError, match="The connection is closed"):
        PacketConn.__new__(PacketConn).forward(messages, sink.local_addr)


def test_a_message_that_is_read_into(relay: PacketConn, sink: PacketConn) -> None:
    from support.net import Call

    messages = receive(relay, [b"1"], new_messages(1, 10))
    call = Call(relay.read_batch, messages).wait_until_waiting()
    with open_udp() as other:
        with pytest.raises(RuntimeError, match=r"^msgs\[0\]: in use by another call"):
            other.forward(messages, sink.local_addr)
        other.write_to(b"2", relay.local_addr)
    assert call.result() == 1
    assert relay.forward(messages, sink.local_addr) == 1
    assert arrived(sink) == [b"2"]


@each_offload
@each_mode
def test_failures_are_exact(relay: PacketConn, sink: PacketConn, gso: bool, errors: Any) -> None:
    """Some have no address to go back to that takes them."""
    relay.gso = gso
    messages = receive(relay, [b"%03d" % k for k in range(100)], new_messages(100, 10))
    for k, message in enumerate(messages):
        message.addr = ("127.255.255.255", 9) if k % 10 == 5 else sink.local_addr
    failing = [k for k in range(100) if k % 10 == 5]
    if errors == "skip":
        assert relay.forward(messages, errors="skip") == 90
        assert [m.errno for m in messages] == [errno.EACCES * (k in failing) for k in range(100)]
        assert arrived(sink) == [b"%03d" % k for k in range(100) if k not in failing]
        return
    with pytest.raises(PermissionError) as caught:
        relay.forward(messages)
    error: Any = caught.value
    sent = [k for k, message in enumerate(messages) if message.errno == 0]
    assert (error.index, error.written) == (5, len(sent))
    assert arrived(sink) == [b"%03d" % k for k in sent]
    assert {messages[k].errno for k in range(100) if k not in sent and k != 5} == {errno.ECANCELED}


def test_nothing_is_allocated(relay: PacketConn, sink: PacketConn) -> None:
    messages = receive(relay, [b"x" * 100] * 64, new_messages(64, 100))
    addr = sink.local_addr
    assert relay.forward(messages, addr) == 64
    blocks = []
    for _ in range(4):
        before = sys.getallocatedblocks()
        relay.forward(messages, addr)
        blocks.append(sys.getallocatedblocks() - before)
    assert min(blocks) == 0
    tracemalloc.start()
    try:
        relay.forward(messages, addr)
        tracemalloc.reset_peak()
        size, _ = tracemalloc.get_traced_memory()
        relay.forward(messages, addr)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - size < 1000


def test_a_relay_on_raw_sockets(needs_raw: None) -> None:
    """A packet goes along with its header, by the way to addr: the header names who gets it."""
    protocol, here, there = 253, own_host(1), own_host(2)
    with (
        raw_pair(protocol, here) as (sink, source),
        RawConn(open_raw(protocol, here)) as relay,
    ):
        header = Header(ttl=7, tos=8, id=0x1234, protocol=protocol, src="127.0.0.9", dst=here)
        source.write_to(header, b"payload")
        [message] = new_messages(1, 100)
        assert relay.read_batch([message]) == 1
        packet = message.data
        [got] = new_messages(1, 100)
        assert sink.read_batch([got]) == 1
        assert relay.forward([message], (there, 0)) == 1
        assert sink.read_batch([got]) == 1
        assert got.data == packet
        parsed = parse_header(got.data)
        assert (parsed.ttl, parsed.tos, parsed.id) == (7, 8, 0x1234)
        assert (str(parsed.src), str(parsed.dst)) == ("127.0.0.9", here)
        assert checksum(got.data[:20]) == 0
        assert got.data[20:] == b"payload"
        # Without IP_HDRINCL the kernel would put a second header before it.
        with pytest.raises(OSError, match=r"'forward ip4:253") as caught:
            sink.forward([got], (here, 0))
        assert caught.value.errno == errno.EOPNOTSUPP


def test_through_two_relays_byte_by_byte(sink: PacketConn) -> None:
    """Against a plain relay, with gro and gso on both."""
    datas = [compose(k, 1 + (k * 37) % 1400 if k % 3 else 1200) for k in range(300)]
    with open_udp() as first, open_udp() as second, open_udp() as source:
        for conn in (first, second):
            conn.gso = conn.gro = True
            enlarge(conn)
        source.gso = True
        into = new_messages(64, 1500)
        for k in range(0, len(datas), 50):
            some = [Message(d, None, first.local_addr) for d in datas[k : k + 50]]
            assert source.write_all(some) == 50
            for conn, to in ((first, second), (second, sink)):
                moved = 0
                while moved < 50:
                    n = conn.read_batch(into)
                    assert conn.forward(into[:n], to.local_addr) == n
                    moved += n
        assert arrived(sink) == datas


def test_a_connected_socket_takes_no_address(relay: PacketConn, sink: PacketConn) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(sink.local_addr)
        conn = PacketConn(sock)
        messages = receive(relay, [b"1", b"2"], new_messages(2, 10))
        for message in messages:
            message.addr = None
        assert conn.forward(messages) == 2
        assert arrived(sink) == [b"1", b"2"]


def test_the_read_that_was_longer_than_its_buffers(relay: PacketConn, sink: PacketConn) -> None:
    """With MSG_TRUNC n is the datagram's length: it is truncated all the same."""
    with open_udp() as source:
        source.write_to(bytes(200), relay.local_addr)
    [message] = new_messages(1, 100)
    assert relay.read_batch([message], socket.MSG_TRUNC) == 1
    assert message.n == 200
    with pytest.raises(ValueError, match=r"^msgs\[0\]\.truncated"):
        relay.forward([message], sink.local_addr)
    assert relay.forward([message], sink.local_addr, errors="skip") == 0
    assert message.errno == errno.EMSGSIZE
    assert arrived(sink) == []
