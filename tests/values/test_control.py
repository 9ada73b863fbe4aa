"""ControlMessage and new_control_message: a control buffer as an object and as bytes."""

import contextlib
import copy
import pickle
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ipv4batch import ECN, ControlFlags, ControlMessage, new_control_message

# Python's socket has few of these.
IP, UDP, SOCKET = socket.IPPROTO_IP, socket.IPPROTO_UDP, socket.SOL_SOCKET
IP_TOS, IP_TTL, IP_PKTINFO, IP_RECVERR = 1, 2, 8, 11
SCM_TIMESTAMPNS, SO_RXQ_OVFL = 35, 40
UDP_SEGMENT, UDP_GRO = 103, 104

HEADER = struct.Struct("@Nii")
PKTINFO = struct.Struct("@i4s4s")

GOLDEN = bytes.fromhex("1c00000000000000 0000000008000000 03000000 7f000001 00000000 00000000")

LIMITS = {
    "ttl": (0, 255),
    "ifindex": (0, 2**31 - 1),
    "tos": (0, 255),
    "timestamp_ns": (0, 2**63 - 1),
    "drops": (0, 2**32 - 1),
    "segment_size": (0, 65535),
}
PARTS = {"ecn": (0, 3), "dscp": (0, 63)}
NAMES = ("ttl", "src", "dst", "ifindex", "tos", "timestamp_ns", "drops", "segment_size")
EMPTY = dict(zip(NAMES, (0, None, None, 0, None, None, None, 0), strict=True))
FULL_VALUES = (64, "127.0.0.1", "10.0.0.1", 3, 0xB9, 1_700_000_000_123_456_789, 7, 1200)
FULL = dict(zip(NAMES, FULL_VALUES, strict=True))

NUMBERS = {name: st.just(EMPTY[name]) | st.integers(*LIMITS[name]) for name in LIMITS}
ADDRESSES = st.none() | st.ip_addresses(v=4).map(str)
FIELDS = st.fixed_dictionaries({**NUMBERS, "src": ADDRESSES, "dst": ADDRESSES})

AS_IN_GO = pytest.mark.skipif(
    struct.calcsize("N") != 8 or sys.byteorder != "little", reason="64 bits, little-endian"
)


def item(level: int, kind: int, data: bytes) -> bytes:
    """A control message, with the padding behind it (cmsg(3))."""
    header = HEADER.pack(socket.CMSG_LEN(len(data)), level, kind)
    return (header + data).ljust(socket.CMSG_SPACE(len(data)), b"\0")


def items(buffer: bytes) -> dict[tuple[int, int], bytes]:
    """What stands in a control buffer, by level and type; each only once."""
    found = {}
    while buffer:
        length, level, kind = HEADER.unpack_from(buffer)
        assert (level, kind) not in found
        found[level, kind] = buffer[HEADER.size : length]
        space = socket.CMSG_SPACE(length - HEADER.size)
        assert buffer[length:space] == bytes(space - length)
        buffer = buffer[space:]
    return found


def fields(control: ControlMessage) -> dict[str, Any]:
    return {name: getattr(control, name) for name in EMPTY}


def set_later(**values: Any) -> ControlMessage:
    control = ControlMessage()
    for name, value in values.items():
        setattr(control, name, value)
    return control


def parsed(buffer: Any, **values: Any) -> ControlMessage:
    control = ControlMessage(**values)
    control.parse(buffer)
    return control


MAKERS = pytest.mark.parametrize("make", [ControlMessage, set_later])


@AS_IN_GO
@pytest.mark.parametrize(
    ("flags", "size"),
    [
        (0, 0),
        (ControlFlags.TTL, 24),
        (ControlFlags.SRC, 32),
        (15, 56),
        (ControlFlags.TIMESTAMP, 32),
        (ControlFlags.TOS | ControlFlags.DROPS | ControlFlags.SEGMENT, 72),
        (255, 160),
    ],
)
def test_gos_sizes(flags: int, size: int) -> None:
    assert new_control_message(flags) == bytearray(size)


def test_the_size_is_that_of_the_items() -> None:
    sizes = {1: 4, 2 | 4 | 8: 12, 16: 1, 32: 16, 64: 4, 128: 4}
    for flags in range(256):
        expected = sum(socket.CMSG_SPACE(size) for bits, size in sizes.items() if flags & bits)
        buffer = new_control_message(flags)
        assert (type(buffer), buffer) == (bytearray, bytearray(expected))
        buffer += b"Nobody else holds it."


@pytest.mark.parametrize("flags", [-1, 256, 1 << 64, None, "1", 1.0])
def test_flags_that_do_not_exist(flags: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="^flags: "):
        new_control_message(flags)


@AS_IN_GO
@MAKERS
def test_golden_bytes(make: Callable[..., ControlMessage]) -> None:
    assert make(src="127.0.0.1", ifindex=3).marshal() == GOLDEN


def test_golden_text() -> None:
    control = ControlMessage(ttl=64, src="127.0.0.1", dst="10.0.0.1", ifindex=3)
    assert str(control) == "ttl=64 src=127.0.0.1 dst=10.0.0.1 ifindex=3"
    assert str(ControlMessage()) == "ttl=0 src=<nil> dst=<nil> ifindex=0"
    # What Go does not know follows where it is set.
    assert str(ControlMessage(tos=0, timestamp_ns=5, drops=0, segment_size=9)) == (
        "ttl=0 src=<nil> dst=<nil> ifindex=0 tos=0 timestamp_ns=5 drops=0 segment_size=9"
    )


def test_a_new_control_message_is_empty() -> None:
    assert fields(ControlMessage()) == EMPTY
    assert ControlMessage().marshal() == b""
    assert fields(ControlMessage(*FULL.values())) == FULL


@MAKERS
@pytest.mark.parametrize("name", LIMITS)
def test_numbers_up_to_their_limits(make: Callable[..., ControlMessage], name: str) -> None:
    for value in (*LIMITS[name], EMPTY[name]):
        assert fields(make(**{name: value})) == {**EMPTY, name: value}
        control = ControlMessage(**FULL)
        setattr(control, name, value)
        assert fields(control) == {**FULL, name: value}


@pytest.mark.parametrize("name", [*LIMITS, *PARTS])
def test_numbers_over_their_limits(name: str) -> None:
    low, high = (LIMITS | PARTS)[name]
    for value in (low - 1, high + 1, 1 << 64, -1 << 64):
        text = f"{name}: {value} is out of range, {low} to {high}"
        for make in (set_later, ControlMessage) if name in LIMITS else (set_later,):
            with pytest.raises(ValueError, match=f"^{text}$"):
                make(**{name: value})


@pytest.mark.parametrize("name", [*LIMITS, *PARTS])
def test_numbers_are_ints(name: str) -> None:
    for value in ("1", 1.0, b"1") if EMPTY.get(name, 0) is None else ("1", 1.0, b"1", None):
        text = f"{name}: an int is required, not {type(value).__name__}"
        with pytest.raises(TypeError, match=f"^{text}$"):
            setattr(ControlMessage(), name, value)


@pytest.mark.parametrize("name", [*NAMES, *PARTS])
def test_a_refused_value_changes_nothing(name: str) -> None:
    control = ControlMessage(**FULL)
    for value in (-1, 1.5, "::1", b"12345"):
        with pytest.raises((TypeError, ValueError), match=f"^{name}: "):
            setattr(control, name, value)
    with pytest.raises(TypeError, match=f"^{name}: cannot be deleted$"):
        delattr(control, name)
    assert fields(control) == FULL


def test_ecn_and_dscp_are_the_parts_of_tos() -> None:
    for tos in range(256):
        control = ControlMessage(tos=tos)
        assert (control.dscp, control.ecn) == (tos >> 2, tos & 3)
        assert control.ecn in list(ECN)
        assert set_later(ecn=ECN(tos & 3), dscp=tos >> 2) == control


def test_each_part_of_tos_leaves_the_other_alone() -> None:
    control = ControlMessage(tos=0xFF)
    control.ecn = ECN.NOT_ECT
    assert control.tos == 0xFC
    control.ecn, control.dscp = ECN.CE, 0
    assert control.tos == 3
    control.tos = None
    assert (control.ecn, control.dscp) == (None, None)
    control.dscp = 46
    assert control.tos == 0xB8


SENT = {
    "ttl": ((IP, IP_TTL), struct.Struct("=i")),
    "tos": ((IP, IP_TOS), struct.Struct("=i")),
    "segment_size": ((UDP, UDP_SEGMENT), struct.Struct("=H")),
}


@settings(deadline=None)
@given(FIELDS)
@example(FULL)
@example({**EMPTY, "tos": 0})
def test_marshal_emits_what_can_be_sent(values: dict[str, Any]) -> None:
    found = items(ControlMessage(**values).marshal())
    for name, (key, form) in SENT.items():
        expected = None if values[name] == EMPTY[name] else form.pack(values[name])
        assert found.pop(key, None) == expected
    if values["src"] is not None or values["ifindex"] != 0:
        source = socket.inet_aton(values["src"] or "0.0.0.0")
        assert found.pop((IP, IP_PKTINFO)) == PKTINFO.pack(values["ifindex"], source, bytes(4))
    assert found == {}


@settings(deadline=None)
@given(FIELDS)
def test_what_is_marshalled_is_parsed(values: dict[str, Any]) -> None:
    control = parsed(ControlMessage(**values).marshal())
    info = values["src"] is not None or values["ifindex"] > 0
    not_sent = {
        "src": None,
        "dst": "0.0.0.0" if info else None,
        "timestamp_ns": None,
        "drops": None,
    }
    assert fields(control) == {**values, **not_sent}


def test_the_kernel_takes_what_is_marshalled_and_gives_what_is_parsed(
    udp_pair: tuple[socket.socket, socket.socket],
) -> None:
    reader, writer = udp_pair
    for option in (12, 13, IP_PKTINFO):  # IP_RECVTTL, IP_RECVTOS
        reader.setsockopt(IP, option, 1)
    reader.setsockopt(SOCKET, SCM_TIMESTAMPNS, 1)
    control = ControlMessage(ttl=9, src="127.0.0.9", tos=0xB9)
    ancillary = [(*key, data) for key, data in items(control.marshal()).items()]
    writer.sendmsg([b"x"], ancillary, 0, reader.getsockname())
    _, arrived, _, addr = reader.recvmsg(1, 500)
    got = parsed(b"".join(item(*one) for one in arrived))
    assert (got.ttl, got.tos, addr[0]) == (9, 0xB9, "127.0.0.9")
    assert (got.dst, got.ifindex) == ("127.0.0.1", socket.if_nametoindex("lo"))
    assert got.timestamp_ns > 1_600_000_000 * 10**9


@pytest.mark.parametrize(
    ("level", "kind", "data", "expected"),
    [
        (IP, IP_TTL, struct.pack("=i", 255), {"ttl": 255}),
        (IP, IP_TTL, b"\x40", {"ttl": 64}),
        (IP, IP_TOS, b"\xb9", {"tos": 0xB9}),
        (IP, IP_TOS, b"\x00", {"tos": 0}),
        (IP, IP_TOS, struct.pack("=i", 0xB9), {"tos": 0xB9}),
        (SOCKET, SCM_TIMESTAMPNS, struct.pack("=qq", 17, 5), {"timestamp_ns": 17_000_000_005}),
        (SOCKET, SO_RXQ_OVFL, struct.pack("=I", 2**32 - 1), {"drops": 2**32 - 1}),
        (SOCKET, SO_RXQ_OVFL, bytes(4), {"drops": 0}),
        (UDP, UDP_GRO, struct.pack("=i", 1472), {"segment_size": 1472}),
        (UDP, UDP_SEGMENT, struct.pack("=H", 65000), {"segment_size": 65000}),
        (IP, IP_PKTINFO, PKTINFO.pack(3, b"mine", b"1234"), {"dst": "49.50.51.52", "ifindex": 3}),
    ],
)
def test_items_are_decoded_by_their_length(
    level: int, kind: int, data: bytes, expected: dict[str, Any]
) -> None:
    assert fields(parsed(item(level, kind, data))) == {**EMPTY, **expected}
    # Only what is there changes, and the last item may come without its padding.
    bare = item(level, kind, data)[: socket.CMSG_LEN(len(data))]
    assert fields(parsed(bare, **FULL)) == {**FULL, **expected}


@pytest.mark.parametrize(
    ("level", "kind", "data"),
    [
        *[(IP, IP_TTL, bytes(size)) for size in (0, 2, 3, 5, 8)],
        *[(IP, IP_TOS, bytes(size)) for size in (0, 2, 3, 5, 8)],
        *[(IP, IP_PKTINFO, bytes(size)) for size in (0, 4, 11)],
        *[(SOCKET, SCM_TIMESTAMPNS, bytes(size)) for size in (0, 4, 8, 12, 15, 17)],
        *[(SOCKET, SO_RXQ_OVFL, bytes(size)) for size in (0, 1, 2, 3, 5, 8)],
        *[(UDP, UDP_GRO, bytes(size)) for size in (0, 1, 3, 5, 8)],
        (SOCKET, SCM_TIMESTAMPNS, struct.pack("=qq", -1, 0)),
        (SOCKET, SCM_TIMESTAMPNS, struct.pack("=qq", 1, 10**9)),
        (SOCKET, SCM_TIMESTAMPNS, struct.pack("=qq", 2**62, 0)),
    ],
)
def test_items_that_no_kernel_sends(level: int, kind: int, data: bytes) -> None:
    control = ControlMessage(**FULL)
    for before in (b"", item(IP, IP_TTL, b"\x07")):
        with pytest.raises(ValueError, match=f"^b: .* at byte {len(before)}$"):
            control.parse(before + item(level, kind, data))
        assert fields(control) == FULL


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (0, "invalid header length"),
        (HEADER.size - 1, "invalid message length"),
        (HEADER.size + 2, "short buffer"),
        (1 << 31, "short buffer"),
    ],
)
def test_buffers_that_are_no_row_of_items(length: int, text: str) -> None:
    control = ControlMessage(**FULL)
    for before in (b"", item(IP, IP_TTL, b"\x07")):
        with pytest.raises(ValueError, match=f"^b: {text} at byte {len(before)}$"):
            control.parse(before + HEADER.pack(length, IP, IP_TTL) + b"\x01")
    assert fields(control) == FULL


@pytest.mark.parametrize("size", range(HEADER.size))
def test_a_tail_shorter_than_a_header_is_ignored(size: int) -> None:
    tail = b"\xff" * size
    assert parsed(item(IP, IP_TTL, b"\x07") + tail) == ControlMessage(ttl=7)
    assert fields(parsed(tail, **FULL)) == FULL


@pytest.mark.parametrize("convert", [bytes, bytearray, lambda b: memoryview(b"?" + b)[1:]])
def test_other_levels_and_types_are_skipped(convert: Callable[[bytes], Any]) -> None:
    kinds = ((IP, IP_RECVERR), (UDP, IP_TTL), (SOCKET, 1), (41, IP_TTL))
    others = b"".join(item(*kind, b"12345") for kind in kinds)
    assert fields(parsed(convert(others), **FULL)) == FULL
    buffer = convert(others + item(IP, IP_TTL, b"\x07") + others)
    assert fields(parsed(buffer, **FULL)) == {**FULL, "ttl": 7}


@pytest.mark.parametrize("value", [None, "text", 20])
def test_only_bytes_are_parsed(value: Any) -> None:
    with pytest.raises(TypeError, match="^b: a bytes-like object is required"):
        parsed(value)


def assert_copies_are_equal(control: ControlMessage) -> None:
    copies = [copy.copy(control), copy.deepcopy(control), ControlMessage(**fields(control))]
    # Protocols 0 and 1 cannot pass arguments to a constructor.
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        copies.append(pickle.loads(pickle.dumps(control, protocol)))
    for made in copies:
        assert made == control
        assert (str(made), made.marshal()) == (str(control), control.marshal())


@settings(deadline=None)
@given(FIELDS)
def test_copies_are_equal(values: dict[str, Any]) -> None:
    assert_copies_are_equal(ControlMessage(**values))


@settings(deadline=None)
@given(FIELDS)
@example({**EMPTY, "tos": 0})
def test_repr_makes_the_control_message_again(values: dict[str, Any]) -> None:
    assert eval(repr(ControlMessage(**values))) == ControlMessage(**values)


KINDS = (IP_TOS, IP_TTL, IP_PKTINFO, SCM_TIMESTAMPNS, SO_RXQ_OVFL, UDP_SEGMENT, UDP_GRO)
ITEMS = st.builds(
    item, st.sampled_from([IP, UDP, SOCKET]), st.sampled_from(KINDS), st.binary(max_size=16)
)


@settings(deadline=None)
@given(st.binary(max_size=100) | st.lists(ITEMS, max_size=4).map(b"".join))
@example(item(IP, IP_TTL, bytes(4)))
@example(item(IP, IP_TTL, struct.pack("=i", 256)))
@example(item(IP, IP_TOS, struct.pack("=i", -1)))
@example(item(IP, IP_PKTINFO, bytes(12)))
@example(item(IP, IP_PKTINFO, PKTINFO.pack(-1, bytes(4), bytes(4))))
@example(item(UDP, UDP_GRO, struct.pack("=i", 65536)))
def test_what_any_bytes_are_parsed_to_can_be_copied(data: bytes) -> None:
    control = ControlMessage()
    with contextlib.suppress(ValueError):
        control.parse(data)
    assert_copies_are_equal(control)


@pytest.mark.parametrize("name", NAMES)
def test_control_messages_are_equal_when_all_fields_are(name: str) -> None:
    full, changed = ControlMessage(**FULL), ControlMessage(**{**FULL, name: EMPTY[name]})
    assert (full == changed, full != changed) == (False, True)
    setattr(changed, name, FULL[name])
    assert (full == changed, full != changed) == (True, False)


def test_control_messages_have_no_order_and_no_hash() -> None:
    with pytest.raises(TypeError, match="unhashable type"):
        hash(ControlMessage())
    with pytest.raises(TypeError, match="not supported between"):
        assert ControlMessage() < ControlMessage()
