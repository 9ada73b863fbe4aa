"""ECN and DSCP of single datagrams: what the sender marks, the receiver sees."""

import itertools
from collections.abc import Iterator

import pytest
from support.net import open_udp, own_host, raw_pair
from support.router import SERVER, routed

from ipv4batch import (
    ECN,
    ControlFlags,
    ControlMessage,
    Header,
    Message,
    PacketConn,
    new_messages,
    parse_header,
)

GRE = 47
EXPEDITED = 46
"""The DSCP of expedited forwarding (RFC 3246)."""

Pair = tuple[PacketConn, PacketConn, tuple[str, int]]


@pytest.fixture
def loopback() -> Iterator[Pair]:
    with open_udp() as reader, open_udp() as writer:
        yield reader, writer, reader.local_addr


@pytest.fixture
def through_a_router(needs_netns: None) -> Iterator[Pair]:
    with routed() as network:
        reader, writer = network.open_udp("server"), network.open_udp("client")
        yield reader, writer, (SERVER, reader.local_addr[1])


@pytest.fixture(params=["loopback", "through_a_router"])
def pair(request: pytest.FixtureRequest) -> Pair:
    """Who reads, who writes, and where to."""
    made: Pair = request.getfixturevalue(request.param)
    made[0].set_control_message(ControlFlags.TOS)
    return made


def control_messages(reader: PacketConn, count: int) -> list[ControlMessage]:
    """Those of the next datagrams, which carry their numbers: each mark is a path of its own."""
    messages = new_messages(count, 16, ControlFlags.TOS | ControlFlags.TTL)
    found: dict[int, ControlMessage] = {}
    while len(found) < count:
        for message in messages[: reader.read_batch(messages)]:
            control = message.control_message()
            assert control is not None
            found[int(message.data)] = control
    return [found[number] for number in range(count)]


def marked(addr: tuple[str, int], controls: list[ControlMessage]) -> list[Message]:
    """A datagram with each of them, and its number."""
    return [
        Message(b"%d" % number, control.marshal(), addr) for number, control in enumerate(controls)
    ]


def with_ecn(mark: ECN) -> ControlMessage:
    control = ControlMessage()
    control.ecn = mark
    return control


@pytest.mark.parametrize("gso", [False, True], ids=["plain", "gso"])
def test_each_message_of_a_batch_has_its_mark(pair: Pair, gso: bool) -> None:
    reader, writer, addr = pair
    writer.gso = gso
    marks = [ECN(number // 3 % 4) for number in range(48)]
    assert writer.write_all(marked(addr, [with_ecn(mark) for mark in marks])) == 48
    arrived = control_messages(reader, 48)
    assert [control.ecn for control in arrived] == marks
    assert {(control.tos, control.dscp) for control in arrived} == {(mark, 0) for mark in ECN}


def test_write_to_and_read_from(pair: Pair) -> None:
    reader, writer, addr = pair
    for mark in ECN:
        writer.write_to(b"x", addr, with_ecn(mark))
        _, control, _ = reader.read_from(bytearray(1))
        assert control is not None
        assert (control.ecn, control.dscp, control.tos) == (mark, 0, mark)


def test_dscp_and_ecn_are_two_parts_of_one_byte(pair: Pair) -> None:
    """The upper six bits and the lower two (RFC 2474, RFC 3168)."""
    reader, writer, addr = pair
    asked = [(0, ECN.CE), (EXPEDITED, ECN.NOT_ECT), (EXPEDITED, ECN.ECT_0), (63, ECN.CE)]
    controls = []
    for dscp, mark in asked:
        controls.append(ControlMessage(tos=0x55))
        controls[-1].ecn = mark
        controls[-1].dscp = dscp
    writer.write_all(marked(addr, controls))
    arrived = control_messages(reader, len(asked))
    assert [(control.dscp, control.ecn) for control in arrived] == asked
    assert [control.tos for control in arrived] == [dscp << 2 | mark for dscp, mark in asked]


def test_every_value_of_the_byte(loopback: Pair) -> None:
    reader, writer, addr = loopback
    reader.set_control_message(ControlFlags.TOS)
    for tos in range(256):
        writer.write_to(b"0", addr, ControlMessage(tos=tos))
        (control,) = control_messages(reader, 1)
        assert (control.tos, control.dscp, control.ecn) == (tos, tos >> 2, tos & 3)


def test_the_sockets_own_mark_is_for_messages_without_one(pair: Pair) -> None:
    reader, writer, addr = pair
    writer.tos = EXPEDITED << 2 | ECN.ECT_1
    controls = [ControlMessage(), with_ecn(ECN.CE), ControlMessage(tos=0), ControlMessage()]
    writer.write_all(marked(addr, controls))
    assert [(control.dscp, control.ecn) for control in control_messages(reader, 4)] == [
        (EXPEDITED, ECN.ECT_1),
        (0, ECN.CE),
        (0, ECN.NOT_ECT),
        (EXPEDITED, ECN.ECT_1),
    ]


def test_marks_and_ttls_go_together(pair: Pair) -> None:
    """A router takes one from the TTL and leaves the mark alone."""
    reader, writer, addr = pair
    reader.set_control_message(ControlFlags.TTL | ControlFlags.TOS)
    asked = list(itertools.product((7, 60), ECN))
    controls = [ControlMessage(ttl=ttl, tos=mark) for ttl, mark in asked]
    writer.write_all(marked(addr, controls))
    hops = 0 if addr[0] == "127.0.0.1" else 1
    arrived = [(control.ttl + hops, control.ecn) for control in control_messages(reader, 8)]
    assert arrived == asked


def test_what_was_not_asked_for_does_not_arrive(loopback: Pair) -> None:
    reader, writer, addr = loopback
    reader.set_control_message(ControlFlags.TTL)
    writer.write_to(b"0", addr, with_ecn(ECN.CE))
    (control,) = control_messages(reader, 1)
    assert (control.ttl, control.tos, control.ecn, control.dscp) == (64, None, None, None)


def test_a_reply_does_not_carry_the_mark_back(loopback: Pair) -> None:
    reader, writer, addr = loopback
    reader.set_control_message(ControlFlags.TOS | ControlFlags.DST)
    writer.set_control_message(ControlFlags.TOS)
    writer.write_to(b"0", addr, with_ecn(ECN.CE))
    (message,) = new_messages(1, 16, ControlFlags.TOS | ControlFlags.DST)
    assert reader.read_batch([message]) == 1
    assert reader.write_all([message.reply(b"0")]) == 1
    (control,) = control_messages(writer, 1)
    assert (control.tos, control.src) == (0, addr[0])


def test_a_raw_packet_has_the_mark_in_its_header(needs_raw: None) -> None:
    with raw_pair(GRE, own_host(1)) as (reader, writer):
        for mark in ECN:
            header = Header(ttl=9, protocol=GRE, dst=own_host(1), tos=EXPEDITED << 2 | mark)
            writer.write_to(header, b"payload")
            (message,) = new_messages(1)
            reader.read_batch([message])
            assert parse_header(message.data).tos == EXPEDITED << 2 | mark
