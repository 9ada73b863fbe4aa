"""Batches of whole packets: what RawConn writes, header and all, is what raw sockets read."""

import errno
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP
from support.net import open_raw, own_host

from ipv4batch import (
    ControlFlags,
    ControlMessage,
    Header,
    HeaderFlags,
    Message,
    PacketConn,
    RawConn,
    checksum,
    new_messages,
)

HERE = own_host(12)
"""The packets of other tests go to other addresses."""

ELSEWHERE = own_host(13)
EXPERIMENT = 253  # for experiments (RFC 3692)
OPTIONS = [b"", b"\x01\x01\x01\x00", b"\x94\x04\x00\x00", b"\x01" * 39 + b"\x00"]

pytestmark = pytest.mark.usefixtures("needs_raw")


@pytest.fixture(params=[socket.IPPROTO_ICMP, EXPERIMENT], ids=["icmp", "unassigned"])
def protocol(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def writer(protocol: int) -> Iterator[RawConn]:
    """It hears itself, as does every socket of its protocol."""
    with RawConn(open_raw(protocol, HERE)) as conn:
        yield conn


@pytest.fixture
def raw() -> Iterator[RawConn]:
    with RawConn(open_raw(EXPERIMENT, HERE)) as conn:
        yield conn


def header(**fields: Any) -> Header:
    return Header(**{"dst": HERE, "ttl": 7, "protocol": EXPERIMENT, **fields})


def echo_reply(sequence: int, data: bytes) -> bytes:
    """An ICMP message that the kernel lets pass without a word (RFC 792)."""
    start = bytes(2), b"\xbe\xef" + sequence.to_bytes(2, "big") + data
    return start[0] + checksum(bytes(2).join(start)).to_bytes(2, "big") + start[1]


def packet(header: Header, payload: bytes) -> Message:
    return Message([header.marshal(), payload], addr=(HERE, 0))


def as_sent(header: Header, payload: bytes) -> bytes:
    """The packet as the kernel completes it: with total length and checksum."""
    head = bytearray(header.marshal())
    head[2:4] = (len(head) + len(payload)).to_bytes(2, "big")
    head[10:12] = bytes(2)
    head[10:12] = checksum(head).to_bytes(2, "big")
    return bytes(head) + payload


def read(reader: PacketConn | RawConn | socket.socket, count: int) -> list[bytes]:
    """The next `count` packets."""
    if isinstance(reader, socket.socket):
        return [reader.recv(2048) for _ in range(count)]
    arrived: list[bytes] = []
    while len(arrived) < count:
        messages = new_messages(count - len(arrived))
        arrived += [m.data for m in messages[: reader.read_batch(messages)]]
    return arrived


def write(conn: RawConn, messages: Sequence[Message]) -> None:
    assert conn.write_batch(messages) == len(messages)
    assert [m.n for m in messages] == [sum(map(len, m.buffers)) for m in messages]
    assert {m.errno for m in messages} == {0}


def assert_nothing_arrived(conn: RawConn) -> None:
    """Loopback delivers before a write is over."""
    with pytest.raises(BlockingIOError):
        conn.read_batch([Message(bytearray(2048))], socket.MSG_DONTWAIT)


def test_each_of_64_packets_arrives_as_written_whoever_reads(
    writer: RawConn, protocol: int
) -> None:
    packets = []
    for i in range(64):
        head = header(protocol=protocol, id=1000 + i, tos=i * 4, ttl=64 - i, src=f"127.0.7.{i}")
        data = bytes(range(i)) * 4
        packets.append((head, echo_reply(i, data) if protocol == socket.IPPROTO_ICMP else data))
    with ExitStack() as stack:
        plain, one, other = (stack.enter_context(open_raw(protocol, HERE)) for _ in range(3))
        write(writer, [packet(*each) for each in packets])
        expected = [as_sent(*each) for each in packets]
        for reader in (plain, PacketConn(one), RawConn(other), writer):
            assert read(reader, 64) == expected


def test_the_kernel_answers_a_ping() -> None:
    with RawConn(open_raw(socket.IPPROTO_ICMP, HERE)) as conn:
        request = ICMP(type="echo-request", id=0x1234, seq=5) / b"are you there?"
        head = header(protocol=socket.IPPROTO_ICMP, id=9, src=ELSEWHERE)
        with open_raw(socket.IPPROTO_ICMP, ELSEWHERE) as asker:
            write(conn, [packet(head, bytes(request))])
            answer = IP(asker.recv(2048))
        assert read(conn, 1) == [as_sent(head, bytes(request))]
    assert (answer.src, answer.dst) == (HERE, ELSEWHERE)
    assert answer[ICMP].type == 0
    assert (answer[ICMP].id, answer[ICMP].seq) == (0x1234, 5)
    assert bytes(answer[ICMP].payload) == b"are you there?"


@pytest.mark.parametrize("options", OPTIONS, ids=bytes.hex)
def test_options_arrive_behind_the_header(raw: RawConn, options: bytes) -> None:
    head = header(id=1, src=ELSEWHERE, options=options)
    write(raw, [packet(head, b"payload")])
    (arrived,) = read(raw, 1)
    assert arrived == as_sent(head, b"payload")
    assert arrived[20:] == options + b"payload"


def test_the_kernel_fills_in_length_checksum_and_source(raw: RawConn) -> None:
    wrong = header(id=77, total_len=9999, checksum=0xDEAD)
    write(raw, [packet(wrong, b"payload")])
    wrong.src = HERE
    assert read(raw, 1) == [as_sent(wrong, b"payload")]


def test_the_kernel_fills_in_an_id_of_0(raw: RawConn) -> None:
    write(raw, [packet(header(), b"payload")] * 8)
    # Any one of them may be 0 by chance.
    assert {IP(each).id for each in read(raw, 8)} != {0}


@pytest.mark.parametrize("options", OPTIONS, ids=bytes.hex)
def test_scapy_understands_what_was_written(raw: RawConn, options: bytes) -> None:
    flags = HeaderFlags.DONT_FRAGMENT
    head = header(tos=0xB9, id=0xCAFE, flags=flags, ttl=33, src=ELSEWHERE, options=options)
    write(raw, [packet(head, b"payload")])
    (arrived,) = read(raw, 1)
    decoded = IP(arrived)
    assert (decoded.version, decoded.ihl, decoded.tos) == (4, 5 + len(options) // 4, 0xB9)
    assert (decoded.len, decoded.id, decoded.flags) == (27 + len(options), 0xCAFE, "DF")
    assert (decoded.frag, decoded.ttl, decoded.proto) == (0, 33, EXPERIMENT)
    assert (decoded.src, decoded.dst) == (ELSEWHERE, HERE)
    assert b"".join(map(bytes, decoded.options)) == options
    assert bytes(decoded.payload) == b"payload"
    # Built anew without them, the packet gets the same length and checksum.
    del decoded.len, decoded.chksum
    assert bytes(decoded) == arrived


def test_what_scapy_builds_is_written(raw: RawConn) -> None:
    built = bytes(IP(dst=HERE, src=ELSEWHERE, id=5, ttl=9, proto=EXPERIMENT) / b"by scapy")
    write(raw, [Message(built, addr=(HERE, 0))])
    assert read(raw, 1) == [built]


def test_fragments_are_put_together_again(raw: RawConn) -> None:
    more = HeaderFlags.MORE_FRAGMENTS
    parts = [
        packet(header(id=31, src=ELSEWHERE, flags=more), b"0123456789abcdef"),
        packet(header(id=31, src=ELSEWHERE, frag_off=2), b"the rest"),
    ]
    write(raw, parts)
    arrived = IP(*read(raw, 1))
    assert (arrived.len, arrived.flags, arrived.frag) == (20 + 24, 0, 0)
    assert bytes(arrived.payload) == b"0123456789abcdefthe rest"


@pytest.mark.parametrize("cuts", [(), (1,), (19, 20), (20, 20, 22), range(1, 27)])
def test_it_does_not_matter_where_one_buffer_ends(raw: RawConn, cuts: Sequence[int]) -> None:
    head = header(id=2, src=ELSEWHERE)
    whole = head.marshal() + b"payload"
    ends = zip((0, *cuts), (*cuts, len(whole)), strict=True)
    write(raw, [Message([whole[start:end] for start, end in ends], addr=(HERE, 0))])
    assert read(raw, 1) == [as_sent(head, b"payload")]


def test_one_header_may_stand_before_many_payloads(raw: RawConn) -> None:
    head = header(id=3, src=ELSEWHERE)
    start = head.marshal()
    payloads = [str(i).encode() for i in range(20)]
    write(raw, [Message([start, each], addr=(HERE, 0)) for each in payloads])
    assert read(raw, 20) == [as_sent(head, each) for each in payloads]
    assert start == head.marshal()


def test_a_packet_is_cut_where_the_buffers_end(raw: RawConn) -> None:
    head = header(id=4, src=ELSEWHERE)
    expected = as_sent(head, b"payload")
    rooms = [1, 19, 20, 21, 26, 27, 28]
    write(raw, [packet(head, b"payload")] * len(rooms))
    messages = [Message([bytearray(1), bytearray(room - 1)]) for room in rooms]
    assert raw.read_batch(messages) == len(rooms)
    assert [m.data for m in messages] == [expected[:room] for room in rooms]
    assert [m.truncated for m in messages] == [room < 27 for room in rooms]


# Addresses


def test_the_port_is_0(raw: RawConn) -> None:
    sent = [packet(header(src=ELSEWHERE), b"1"), packet(header(), b"2")]
    write(raw, sent)
    arrived = new_messages(2)
    assert raw.read_batch(arrived) == 2
    assert [m.addr for m in arrived] == [(ELSEWHERE, 0), (HERE, 0)]
    assert [m.addr for m in sent] == [(HERE, 0)] * 2


def test_a_port_leads_nowhere(raw: RawConn) -> None:
    head = header(id=6, src=ELSEWHERE)
    write(raw, [Message([head.marshal(), b"x"], addr=(HERE, 4321))])
    assert read(raw, 1) == [as_sent(head, b"x")]


def test_the_address_leads_and_the_header_keeps_its_own(raw: RawConn) -> None:
    head = header(id=6, src=HERE, dst=ELSEWHERE)
    with RawConn(open_raw(EXPERIMENT, ELSEWHERE)) as other:
        write(raw, [packet(head, b"x")])
        assert read(other, 1) == [as_sent(head, b"x")]
        # It is the address to which the route leads, and nothing leads to broadcast unasked.
        with pytest.raises(PermissionError, match=f"'write ip4:253 {HERE}'"):
            raw.write_batch([Message([head.marshal(), b"x"], addr=("127.255.255.255", 0))])


def test_a_packet_without_an_address_is_refused(raw: RawConn) -> None:
    message = Message([header().marshal(), b"x"])
    with pytest.raises(OSError, match=f"'write ip4:253 {HERE}'") as caught:
        raw.write_batch([message])
    assert caught.value.errno == message.errno == errno.EDESTADDRREQ
    assert_nothing_arrived(raw)


# Control messages


def test_control_messages_come_with_packets(raw: RawConn) -> None:
    asked = ControlFlags.TTL | ControlFlags.DST | ControlFlags.INTERFACE | ControlFlags.TOS
    raw.set_control_message(asked)
    fields = [{"ttl": 1, "tos": 0, "src": HERE}, {"ttl": 255, "tos": 0xFF, "src": ELSEWHERE}]
    write(raw, [packet(header(**each), b"x") for each in fields])
    arrived = new_messages(2, control=asked)
    assert raw.read_batch(arrived) == 2
    lo = socket.if_nametoindex("lo")
    expected = [ControlMessage(dst=HERE, ifindex=lo, **each) for each in fields]
    assert [m.control_message() for m in arrived] == expected
    assert not any(m.control_truncated for m in arrived)


def test_a_control_message_gives_a_source_to_a_header_that_has_none(raw: RawConn) -> None:
    oob = ControlMessage(src="127.0.0.5", ttl=99, tos=0x48).marshal()
    heads = [header(id=7), header(id=8, src=ELSEWHERE)]
    write(raw, [Message([each.marshal(), b"x"], oob, (HERE, 0)) for each in heads])
    # All else stays as the header has it.
    heads[0].src = "127.0.0.5"
    assert read(raw, 2) == [as_sent(each, b"x") for each in heads]


def test_a_reply_leaves_with_a_header_of_its_own(raw: RawConn) -> None:
    raw.set_control_message(ControlFlags.DST)
    write(raw, [packet(header(src=ELSEWHERE), b"question")])
    (question,) = new_messages(1, control=ControlFlags.DST)
    assert raw.read_batch([question]) == 1
    head = header(id=9, dst=ELSEWHERE)
    with RawConn(open_raw(EXPERIMENT, ELSEWHERE)) as asker:
        write(raw, [question.reply([head.marshal(), b"answer"])])
        head.src = HERE
        assert read(asker, 1) == [as_sent(head, b"answer")]


# Wrong headers: the kernel refuses what has no room for a header, and loses the others.

GOOD = Header(dst=HERE, src=HERE, ttl=7, protocol=EXPERIMENT, id=5).marshal()
REFUSED = {
    "nothing": b"",
    "a byte too few": GOOD[:19],
    "a length behind the end": b"\x46" + GOOD[1:],
}


@pytest.mark.parametrize("wrong", REFUSED.values(), ids=REFUSED)
def test_what_holds_no_header_is_refused(raw: RawConn, wrong: bytes) -> None:
    messages = [Message(each, addr=(HERE, 0)) for each in (GOOD, wrong, GOOD)]
    assert raw.write_batch(messages) == 1
    with pytest.raises(OSError, match=f"'write ip4:253 {HERE}'") as caught:
        raw.write_batch(messages[1:])
    assert caught.value.errno == messages[1].errno == errno.EINVAL
    assert len(read(raw, 1)) == 1
    assert_nothing_arrived(raw)

    assert raw.write_all(messages, errors="skip") == 2
    assert [m.errno for m in messages] == [0, errno.EINVAL, 0]
    assert len(read(raw, 2)) == 2
    assert_nothing_arrived(raw)


@pytest.mark.parametrize("first", [0x05, 0x65, 0xF5])
def test_another_version_is_taken_and_lost(raw: RawConn, first: int) -> None:
    write(raw, [Message([bytes([first]), GOOD[1:], b"x"], addr=(HERE, 0))])
    assert_nothing_arrived(raw)


@pytest.mark.parametrize("first", [0x40, 0x44])
def test_a_header_length_under_20_arrives_nowhere(raw: RawConn, first: int) -> None:
    message = Message([bytes([first]), GOOD[1:], b"x"], addr=(HERE, 0))
    # Some kernels refuse it, others take it and lose it.
    assert raw.write_all([message], errors="skip") == int(message.errno == 0)
    assert message.errno in (0, errno.EINVAL)
    assert_nothing_arrived(raw)


def test_the_headers_protocol_says_who_reads(raw: RawConn) -> None:
    head = header(id=11, src=HERE, protocol=EXPERIMENT + 1)
    with RawConn(open_raw(EXPERIMENT + 1, HERE)) as other:
        write(raw, [packet(head, b"x")])
        assert read(other, 1) == [as_sent(head, b"x")]
    assert_nothing_arrived(raw)


def test_a_packet_larger_than_the_links_mtu_is_refused(raw: RawConn) -> None:
    """The kernel makes no fragments of what has a header already."""
    messages = [packet(header(), bytes(length)) for length in (10, 65536, 20)]
    assert raw.write_batch(messages) == 1
    with pytest.raises(OSError, match=f"'write ip4:253 {HERE}'") as caught:
        raw.write_batch(messages[1:])
    assert caught.value.errno == messages[1].errno == errno.EMSGSIZE
    assert [len(each) for each in read(raw, 1)] == [30]
    assert_nothing_arrived(raw)
