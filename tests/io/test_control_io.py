"""Control messages both ways: what a connection asks for arrives, and what is set leaves."""

import errno
import socket
import time
from collections.abc import Iterator, Sequence

import pytest
from support.net import open_raw, open_udp, own_host

from ipv4batch import (
    ControlFlags,
    ControlMessage,
    Header,
    Message,
    PacketConn,
    RawConn,
    drops_between,
    new_control_message,
    new_messages,
)

HERE = own_host(14)
"""The packets of other tests go to other addresses."""

PROTOCOL = 253  # for experiments (RFC 3692)
LO = socket.if_nametoindex("lo")

PATH = ControlFlags.SRC | ControlFlags.DST | ControlFlags.INTERFACE
FLAGS = PATH | ControlFlags.TTL | ControlFlags.TOS | ControlFlags.TIMESTAMP
SUBSETS = [ControlFlags(bits) for bits in range(FLAGS + 1)]
"""All but DROPS, of which the kernel says nothing until there are some, and SEGMENT, GRO's."""

Conn = PacketConn | RawConn


OPEN = {
    "udp": lambda: open_udp(HERE),
    "raw packets": lambda: PacketConn(open_raw(PROTOCOL, HERE)),
    "whole packets": lambda: RawConn(open_raw(PROTOCOL, HERE)),
}


@pytest.fixture(params=OPEN)
def conn(request: pytest.FixtureRequest) -> Iterator[Conn]:
    """A connection of each kind, that sends to itself."""
    if request.param != "udp":
        request.getfixturevalue("needs_raw")
    with OPEN[request.param]() as opened:
        yield opened


kernels_header = pytest.mark.parametrize("conn", ["udp", "raw packets"], indirect=True)
"""Where the caller writes the header, a control message does not change it: test_rawconn.py."""


def message(conn: Conn, payload: bytes = b"x", control: ControlMessage | None = None) -> Message:
    """What `conn` sends to itself, with a header where that is the caller's."""
    buffers = [payload]
    if isinstance(conn, RawConn):
        header = Header(dst=HERE, src=HERE, protocol=PROTOCOL, ttl=5, tos=0xB9)
        buffers = [header.marshal(), payload]
    return Message(buffers, control and control.marshal(), conn.local_addr)


def marked(conn: Conn) -> Message:
    """One with a TTL and a TOS that tell."""
    mark = None if isinstance(conn, RawConn) else ControlMessage(ttl=5, tos=0xB9)
    return message(conn, control=mark)


def exchange(sender: Conn, messages: Sequence[Message], reader: Conn) -> list[Message]:
    """Send the messages and read as many, with room for all control data."""
    assert sender.write_batch(messages) == len(messages)
    arrived: list[Message] = []
    while len(arrived) < len(messages):
        some = new_messages(len(messages) - len(arrived), control=FLAGS | ControlFlags.DROPS)
        arrived += some[: reader.read_batch(some)]
    return arrived


def assert_delivered(conn: Conn, flags: ControlFlags) -> None:
    """Just these flags are on, and just what they ask for arrives."""
    assert conn.control_flags == flags
    before = time.time_ns()
    (arrived,) = exchange(conn, [marked(conn)], conn)
    after = time.time_ns()
    control = arrived.control_message()
    if not flags:
        assert (arrived.nn, control) == (0, None)
        return
    assert control is not None
    if flags & ControlFlags.TIMESTAMP:
        assert before <= control.timestamp_ns <= after
    assert control == ControlMessage(
        src=HERE,
        ttl=5 if flags & ControlFlags.TTL else 0,
        tos=0xB9 if flags & ControlFlags.TOS else None,
        dst=HERE if flags & PATH else None,
        ifindex=LO if flags & PATH else 0,
        timestamp_ns=control.timestamp_ns if flags & ControlFlags.TIMESTAMP else None,
    )


# What arrives


@pytest.mark.parametrize("flag", FLAGS)
def test_one_flag_delivers_what_it_names(conn: Conn, flag: ControlFlags) -> None:
    conn.set_control_message(flag)
    assert_delivered(conn, flag)
    conn.set_control_message(flag, on=False)
    assert_delivered(conn, ControlFlags(0))


def test_all_flags_set_together_and_cleared_together(conn: Conn) -> None:
    assert_delivered(conn, ControlFlags(0))
    for flags in SUBSETS:
        conn.set_control_message(flags)
        assert_delivered(conn, flags)
        conn.set_control_message(FLAGS, on=False)
    assert_delivered(conn, ControlFlags(0))


@pytest.mark.parametrize("order", [list(FLAGS), list(FLAGS)[::-1]])
def test_flags_are_added_and_taken_away_one_by_one(conn: Conn, order: list[ControlFlags]) -> None:
    on = ControlFlags(0)
    for flag in order:
        conn.set_control_message(flag)
        on |= flag
        assert_delivered(conn, on)
    for flag in order:
        conn.set_control_message(flag, on=False)
        on &= ~flag
        assert_delivered(conn, on)


@pytest.mark.parametrize("cleared", [ControlFlags(bits) for bits in range(2, PATH + 1, 2)])
def test_clearing_some_of_the_path_leaves_the_others(conn: Conn, cleared: ControlFlags) -> None:
    conn.set_control_message(FLAGS)
    conn.set_control_message(cleared, on=False)
    assert_delivered(conn, FLAGS & ~cleared)
    conn.set_control_message(PATH & ~cleared, on=False)
    assert_delivered(conn, FLAGS & ~PATH)


@pytest.mark.parametrize("conn", ["raw packets", "whole packets"], indirect=True)
def test_a_flag_that_is_none_of_the_sockets_leaves_the_others_as_they_are(conn: Conn) -> None:
    """UDP_GRO is UDP's."""
    conn.set_control_message(PATH)
    with pytest.raises(OSError, match=f": 'set_control_message ip4:253 {HERE}'") as caught:
        conn.set_control_message(ControlFlags.SEGMENT)
    assert caught.value.errno == errno.ENOPROTOOPT
    assert_delivered(conn, PATH)


@pytest.mark.parametrize("flags", SUBSETS[1:], ids=int)
def test_a_new_control_message_has_room_for_what_its_flags_deliver(flags: ControlFlags) -> None:
    with open_udp(HERE) as conn:
        conn.set_control_message(flags)
        conn.write_batch([message(conn)])
        arrived = Message(bytearray(1), new_control_message(flags))
        assert conn.read_batch([arrived]) == 1
        assert 0 < arrived.nn <= len(arrived.oob)
        assert not arrived.control_truncated


def test_control_data_that_finds_no_room_is_reported(conn: Conn) -> None:
    conn.set_control_message(FLAGS)
    conn.write_batch([marked(conn)] * 3)
    rooms = [None, new_control_message(ControlFlags.TTL), new_control_message(FLAGS)]
    arrived = [Message(bytearray(100), oob) for oob in rooms]
    assert conn.read_batch(arrived) == 3
    assert [m.control_truncated for m in arrived] == [True, True, False]
    assert not any(m.truncated for m in arrived)
    assert arrived[0].control_message() is None
    assert arrived[1].nn <= len(arrived[1].oob)
    assert arrived[2].control_message().tos == 0xB9


@pytest.mark.parametrize(
    ("flag", "level", "option"),
    [
        (ControlFlags.TTL, socket.IPPROTO_IP, 12),  # IP_RECVTTL
        (ControlFlags.TOS, socket.IPPROTO_IP, 13),  # IP_RECVTOS
        (PATH, socket.IPPROTO_IP, 8),  # IP_PKTINFO
        (ControlFlags.TIMESTAMP, socket.SOL_SOCKET, 35),  # SO_TIMESTAMPNS
    ],
)
def test_what_was_on_before_stays_on_until_it_is_turned_off(
    conn: Conn, flag: ControlFlags, level: int, option: int
) -> None:
    """The socket's maker may have asked for it; control_flags tell what was asked for here."""
    with socket.socket(fileno=socket.dup(conn.fileno())) as sock:
        sock.setsockopt(level, option, 1)
        for other in FLAGS & ~flag:
            conn.set_control_message(other)
            conn.set_control_message(other, on=False)
        assert conn.control_flags == 0
        (arrived,) = exchange(conn, [marked(conn)], conn)
        assert arrived.nn > 0
        conn.set_control_message(flag, on=False)
        assert sock.getsockopt(level, option) == 0
    assert_delivered(conn, ControlFlags(0))


# What leaves


@kernels_header
def test_each_message_leaves_with_its_own_ttl(conn: PacketConn) -> None:
    conn.set_control_message(ControlFlags.TTL)
    for first in range(0, 256, 64):
        ttls = range(first, first + 64)
        sent = [message(conn, b"%d" % ttl, ControlMessage(ttl=ttl)) for ttl in ttls]
        arrived = exchange(conn, sent, conn)
        # 0 stands for none: the socket's own.
        assert [m.control_message().ttl for m in arrived] == [ttl or conn.ttl for ttl in ttls]
        assert [m.data[-len(b"%d" % ttl) :] for m, ttl in zip(arrived, ttls, strict=True)] == [
            b"%d" % ttl for ttl in ttls
        ]


@kernels_header
def test_each_message_leaves_with_its_own_tos(conn: PacketConn) -> None:
    conn.set_control_message(ControlFlags.TOS)
    for first in range(0, 256, 64):
        toses = list(range(first, first + 64))
        sent = [message(conn, control=ControlMessage(tos=tos)) for tos in toses]
        arrived = exchange(conn, sent, conn)
        assert [m.control_message().tos for m in arrived] == toses


@kernels_header
def test_what_one_message_sets_the_next_one_does_not_have(conn: PacketConn) -> None:
    conn.set_control_message(FLAGS)
    conn.ttl, conn.tos = 33, 0x28
    controls = [None, ControlMessage(ttl=1, tos=0, src="127.0.0.5"), None, ControlMessage(tos=1)]
    arrived = exchange(conn, [message(conn, control=control) for control in controls], conn)
    received = [m.control_message() for m in arrived]
    assert [(c.ttl, c.tos, c.src) for c in received] == [
        (33, 0x28, HERE),
        (1, 0, "127.0.0.5"),
        (33, 0x28, HERE),
        (33, 1, HERE),
    ]


@kernels_header
def test_each_message_leaves_with_its_own_source(conn: PacketConn) -> None:
    conn.set_control_message(ControlFlags.SRC)
    sources = [f"127.{i}.{255 - i}.{i + 1}" for i in range(64)]
    sent = [message(conn, control=ControlMessage(src=source)) for source in sources]
    arrived = exchange(conn, sent, conn)
    port = conn.local_addr[1]
    assert [m.addr for m in arrived] == [(source, port) for source in sources]
    assert [m.control_message().src for m in arrived] == sources


def test_all_at_once_and_each_message_another() -> None:
    """The receiver's control messages are the sender's, with what the receiver adds."""
    with open_udp(HERE) as sender, open_udp("0.0.0.0") as reader:
        reader.set_control_message(FLAGS & ~ControlFlags.TIMESTAMP)
        port = reader.local_addr[1]
        controls = [
            ControlMessage(ttl=i + 1, tos=4 * i, src=f"127.1.2.{i + 1}", ifindex=LO)
            for i in range(64)
        ]
        sent = [
            Message(b"x", control.marshal(), (f"127.3.4.{i + 1}", port))
            for i, control in enumerate(controls)
        ]
        arrived = exchange(sender, sent, reader)
        for i, control in enumerate(controls):
            control.dst = f"127.3.4.{i + 1}"
        assert [m.control_message() for m in arrived] == controls


@kernels_header
@pytest.mark.parametrize(
    ("control", "codes"),
    [
        (ControlMessage(ifindex=2**31 - 1), {errno.ENODEV}),
        # EINVAL before Linux 6.15.
        (ControlMessage(src="192.0.2.77"), {errno.ENETUNREACH, errno.EINVAL}),
    ],
)
def test_a_path_that_does_not_exist_fails_one_message(
    conn: PacketConn, control: ControlMessage, codes: set[int]
) -> None:
    messages = [message(conn, b"1"), message(conn, b"2", control), message(conn, b"3")]
    assert conn.write_batch(messages) == 1
    with pytest.raises(OSError, match=f"'write .*{HERE}") as caught:
        conn.write_batch(messages[1:])
    assert caught.value.errno == messages[1].errno
    assert caught.value.errno in codes
    assert conn.write_batch(messages[2:]) == 1
    arrived = new_messages(3)
    assert conn.read_batch(arrived) == 2
    assert [m.data[-1:] for m in arrived[:2]] == [b"1", b"3"]


# Drops


def test_drops_are_those_that_happened(conn: Conn) -> None:
    with socket.socket(fileno=socket.dup(conn.fileno())) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    conn.set_control_message(ControlFlags.DROPS)
    dropped = 0
    told = []
    for _ in range(4):
        messages = [message(conn, bytes(10))] * 50
        assert conn.write_batch(messages) == 50
        arrived = new_messages(50, control=ControlFlags.DROPS)
        count = conn.read_batch(arrived)
        assert 0 < count < 50
        # What stands in the queue was there before the drops of its own round.
        controls = [m.control_message() for m in arrived[:count]]
        told.append({control and control.drops for control in controls})
        assert told[-1] == {dropped or None}
        dropped += 50 - count
    counts = [count for (count,) in told]
    assert sum(map(drops_between, counts, counts[1:])) == counts[-1] > 0


# Replies


def test_replies_leave_by_the_address_that_was_asked() -> None:
    flags = ControlFlags.DST | ControlFlags.TTL | ControlFlags.TOS
    asked = [f"127.5.{i}.1" for i in range(32)]
    with open_udp("0.0.0.0") as server, open_udp(HERE) as client:
        server.set_control_message(flags)
        client.set_control_message(flags)
        port = server.local_addr[1]
        mark = ControlMessage(ttl=9, tos=0x48).marshal()
        questions = exchange(
            client, [Message(host.encode(), mark, (host, port)) for host in asked], server
        )
        assert {m.control_message().ttl for m in questions} == {9}
        answers = exchange(server, [m.reply(b"from " + m.data) for m in questions], client)
        assert [m.addr for m in answers] == [(host, port) for host in asked]
        assert [m.data for m in answers] == [b"from " + host.encode() for host in asked]
        # TTL and TOS do not turn round.
        assert {(m.control_message().ttl, m.control_message().tos) for m in answers} == {(64, 0)}


@pytest.mark.parametrize("flag", PATH)
def test_any_flag_of_the_path_is_enough_for_a_reply(flag: ControlFlags) -> None:
    with open_udp("0.0.0.0") as server, open_udp(HERE) as client:
        server.set_control_message(flag)
        port = server.local_addr[1]
        (question,) = exchange(client, [Message(b"?", addr=("127.5.6.7", port))], server)
        (answer,) = exchange(server, [question.reply(b"!")], client)
        assert answer.addr == ("127.5.6.7", port)


def test_without_control_data_the_system_chooses_the_replys_source() -> None:
    with open_udp("0.0.0.0") as server, open_udp(HERE) as client:
        port = server.local_addr[1]
        (question,) = exchange(client, [Message(b"?", addr=("127.5.6.7", port))], server)
        reply = question.reply(b"!")
        assert (reply.oob, reply.addr) == (None, client.local_addr)
        (answer,) = exchange(server, [reply], client)
        assert answer.addr != ("127.5.6.7", port)
