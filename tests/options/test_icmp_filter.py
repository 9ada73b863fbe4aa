"""ICMPType, ICMPFilter, and the filter of a raw ICMP socket with real messages."""

import copy
import errno
import pickle
import re
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from support.net import open_raw, open_udp, own_host

from ipv4batch import ICMPFilter, ICMPType, PacketConn, RawConn, checksum

HERE = own_host(18)
"""An address of this process: a raw socket hears all ICMP messages to its own, from anybody."""

TYPES = range(32)
END = 40
"""A type that no filter knows, and that therefore ends what a test reads."""


def message(kind: int, payload: bytes = b"") -> bytes:
    body = struct.pack("!HH", 1, 2) + payload
    return struct.pack("!BBH", kind, 0, checksum(bytes([kind, 0, 0, 0]) + body)) + body


def arrived(conn: PacketConn) -> list[int]:
    """The types of the messages that got through, up to the END that is sent now."""
    conn.write_to(message(END), (HERE, 0))
    buffer = bytearray(100)
    types = []
    while True:
        conn.read_from(buffer)
        if buffer[0] == END:
            return types
        types.append(buffer[0])


@pytest.fixture
def conn(needs_raw: None) -> Iterator[PacketConn]:
    """It hears itself, and what the kernel answers to it."""
    with PacketConn(open_raw(socket.IPPROTO_ICMP, HERE)) as made:
        yield made


def test_types_have_gos_names_and_values() -> None:
    assert {int(kind): str(kind) for kind in ICMPType} == {
        0: "echo reply",
        3: "destination unreachable",
        5: "redirect",
        8: "echo",
        9: "router advertisement",
        10: "router solicitation",
        11: "time exceeded",
        12: "parameter problem",
        13: "timestamp",
        14: "timestamp reply",
        40: "photuris",
        42: "extended echo request",
        43: "extended echo reply",
    }
    assert {kind.protocol for kind in ICMPType} == {socket.IPPROTO_ICMP}
    assert ICMPType(8) is ICMPType.ECHO
    assert f"{ICMPType.ECHO_REPLY}" == "echo reply"


def test_a_new_filter_lets_everything_pass() -> None:
    assert ICMPFilter().blocked == 0
    assert not any(ICMPFilter().will_block(kind) for kind in TYPES)


@pytest.mark.parametrize("kind", [*TYPES, ICMPType.ECHO_REPLY, ICMPType.TIMESTAMP_REPLY])
def test_each_type_has_a_bit_of_its_own(kind: int) -> None:
    made = ICMPFilter()
    made.block(kind)
    assert made.blocked == 1 << kind
    assert [made.will_block(other) for other in TYPES] == [other == kind for other in TYPES]
    made.set_all(True)
    made.accept(kind)
    assert made.blocked == 0xFFFFFFFF ^ 1 << kind
    assert [made.will_block(other) for other in TYPES] == [other != kind for other in TYPES]


def test_blocking_and_accepting_again_change_nothing() -> None:
    made = ICMPFilter(0xF0)
    for _ in range(2):
        made.block(5)
        made.accept(9)
    assert made.blocked == 0xF0
    made.set_all(False)
    assert made.blocked == 0


@pytest.mark.parametrize("method", ["accept", "block", "will_block"])
@pytest.mark.parametrize(
    ("kind", "error", "text"),
    [
        (32, ValueError, "type: 32 is out of range, 0 to 31"),
        (ICMPType.PHOTURIS, ValueError, "type: 40 is out of range, 0 to 31"),
        (ICMPType.EXTENDED_ECHO_REPLY, ValueError, "type: 43 is out of range, 0 to 31"),
        (-1, ValueError, "type: -1 is out of range, 0 to 31"),
        (1 << 80, ValueError, "is out of range, 0 to 31"),
        ("8", TypeError, "type: an int is required, not str"),
        (8.0, TypeError, "type: an int is required, not float"),
        (None, TypeError, "type: an int is required, not NoneType"),
    ],
)
def test_what_is_no_type_from_0_to_31_raises(
    method: str, kind: Any, error: type[Exception], text: str
) -> None:
    made = ICMPFilter(0x12345678)
    with pytest.raises(error, match=re.escape(text)):
        getattr(made, method)(kind)
    assert made.blocked == 0x12345678


@pytest.mark.parametrize(
    ("blocked", "error"), [(-1, ValueError), (1 << 32, ValueError), ("1", TypeError)]
)
def test_a_filter_has_32_bits(blocked: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="blocked: "):
        ICMPFilter(blocked)


def test_filters_are_values() -> None:
    one, same, other = ICMPFilter(0x80000001), ICMPFilter(blocked=0x80000001), ICMPFilter(1)
    assert one == same
    assert not one != same  # noqa: SIM202 - both operators are meant
    assert one != other
    assert not one == other  # noqa: SIM201
    assert one != 0x80000001
    assert repr(one) == "ICMPFilter(0x80000001)"
    assert eval(repr(one)) == one
    with pytest.raises(TypeError, match="unhashable"):
        hash(one)
    with pytest.raises(TypeError, match="not supported"):
        one < same  # type: ignore[operator]  # noqa: B015


def test_filters_can_be_copied_and_pickled() -> None:
    original = ICMPFilter(0x80000001)
    copies = [copy.copy(original), copy.deepcopy(original)]
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        copies.append(pickle.loads(pickle.dumps(original, protocol)))
    original.set_all(False)
    assert copies == [ICMPFilter(0x80000001)] * len(copies)


@pytest.mark.parametrize(
    ("blocked", "passing"),
    [
        (0, [ICMPType.ECHO, ICMPType.ECHO_REPLY]),
        (0xFFFFFFFF, []),
        (0xFFFFFFFF ^ 1 << ICMPType.ECHO_REPLY, [ICMPType.ECHO_REPLY]),
        (0xFFFFFFFF ^ 1 << ICMPType.ECHO, [ICMPType.ECHO]),
        (1 << ICMPType.ECHO_REPLY, [ICMPType.ECHO]),
        (1 << ICMPType.ECHO, [ICMPType.ECHO_REPLY]),
        (0xFFFFFFFF ^ 1 << ICMPType.TIME_EXCEEDED, []),
    ],
)
def test_a_filter_lets_just_those_echo_messages_pass(
    conn: PacketConn, blocked: int, passing: list[ICMPType]
) -> None:
    """The request comes by loopback, and the kernel answers it."""
    conn.icmp_filter = ICMPFilter(blocked)
    conn.write_to(message(ICMPType.ECHO, b"anybody?"), (HERE, 0))
    assert arrived(conn) == passing


def test_a_filter_lets_just_that_type_pass(conn: PacketConn) -> None:
    # The kernel answers the requests, and so sends these types itself.
    silent = [kind for kind in TYPES if kind not in (ICMPType.ECHO, ICMPType.TIMESTAMP)]
    for passing in silent:
        only = ICMPFilter()
        only.set_all(True)
        only.accept(passing)
        conn.icmp_filter = only
        for kind in silent:
            conn.write_to(message(kind), (HERE, 0))
        assert arrived(conn) == [passing]


def test_a_raw_conn_has_a_filter_too(needs_raw: None) -> None:
    with RawConn(open_raw(socket.IPPROTO_ICMP, HERE)) as raw:
        raw.icmp_filter = ICMPFilter(1 << ICMPType.ECHO_REPLY)
        assert raw.icmp_filter == ICMPFilter(1)


def test_the_attribute_is_the_kernels_and_gives_copies(conn: PacketConn) -> None:
    assert conn.icmp_filter == ICMPFilter()
    mine = ICMPFilter(0x80000003)
    conn.icmp_filter = mine
    mine.set_all(False)
    conn.icmp_filter.set_all(False)
    with PacketConn(conn.fileno()) as other:
        assert other.icmp_filter == conn.icmp_filter == ICMPFilter(0x80000003)


@pytest.mark.parametrize("wrong", [None, 0, 0xFF, b"\0\0\0\0", ICMPFilter])
def test_only_a_filter_is_set(conn: PacketConn, wrong: Any) -> None:
    conn.icmp_filter = ICMPFilter(7)
    with pytest.raises(TypeError, match="icmp_filter: an ICMPFilter is required, not "):
        conn.icmp_filter = wrong
    with pytest.raises(TypeError, match="icmp_filter: cannot be deleted"):
        del conn.icmp_filter
    assert conn.icmp_filter == ICMPFilter(7)


def test_other_sockets_have_none_and_say_so(needs_raw: None) -> None:
    with open_udp() as udp, PacketConn(open_raw(253, HERE)) as raw:
        for conn, where in (
            (udp, f"udp4 127.0.0.1:{udp.local_addr[1]}"),
            (raw, f"ip4:253 {HERE}"),
        ):
            with pytest.raises(OSError, match=re.escape(f"'icmp_filter {where}'")) as caught:
                _ = conn.icmp_filter
            assert caught.value.errno in (errno.ENOPROTOOPT, errno.EOPNOTSUPP)
            with pytest.raises(OSError, match=re.escape(f"'icmp_filter {where}'")):
                conn.icmp_filter = ICMPFilter()
    with pytest.raises(OSError, match="The connection is closed: 'icmp_filter udp4'"):
        _ = udp.icmp_filter
    with pytest.raises(OSError, match="The connection is closed: 'icmp_filter udp4'"):
        udp.icmp_filter = ICMPFilter()
