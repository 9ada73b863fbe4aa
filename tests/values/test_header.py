"""Header, parse_header and the two constants: an IPv4 header as an object and as bytes."""

import copy
import pickle
import re
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, IPOption_NOP, IPOption_Router_Alert, IPOption_RR

from ipv4batch import HEADER_LEN, VERSION, Header, HeaderFlags, checksum, parse_header

GOLDEN = bytes.fromhex("4501beefcafe45dcff01deadac10fefec0a80001")
GOLDEN_FIELDS = {
    "version": 4,
    "len": 20,
    "tos": 1,
    "total_len": 0xBEEF,
    "id": 0xCAFE,
    "flags": HeaderFlags.DONT_FRAGMENT,
    "frag_off": 1500,
    "ttl": 255,
    "protocol": 1,
    "checksum": 0xDEAD,
    "src": "172.16.254.254",
    "dst": "192.168.0.1",
    "options": b"",
}
GOLDEN_TEXT = (
    "ver=4 hdrlen=20 tos=0x1 totallen=48879 id=0xcafe flags=0x2 fragoff=0x5dc ttl=255 proto=1"
    " cksum=0xdead src=172.16.254.254 dst=192.168.0.1"
)

LIMITS = {
    "version": (4, 4),
    "len": (0, 60),
    "tos": (0, 255),
    "total_len": (0, 65535),
    "id": (0, 65535),
    "flags": (0, 7),
    "frag_off": (0, 8191),
    "ttl": (0, 255),
    "protocol": (0, 255),
    "checksum": (0, 65535),
}

OPTIONS = st.integers(0, 10).flatmap(
    lambda words: st.binary(min_size=4 * words, max_size=4 * words)
)
ADDRESSES = st.ip_addresses(v=4).map(str)
FIELDS = st.fixed_dictionaries(
    {
        **{name: st.integers(low, high) for name, (low, high) in LIMITS.items() if name != "len"},
        "src": st.none() | ADDRESSES,
        "dst": ADDRESSES,
        "options": OPTIONS,
    }
)


def fields(header: Header) -> dict[str, Any]:
    return {name: getattr(header, name) for name in GOLDEN_FIELDS}


def set_later(**values: Any) -> Header:
    header = Header()
    for name, value in values.items():
        setattr(header, name, value)
    return header


def parse_later(data: Any) -> Header:
    header = Header()
    header.parse(data)
    return header


MAKERS = pytest.mark.parametrize("make", [Header, set_later], ids=["constructor", "attribute"])
PARSERS = pytest.mark.parametrize("parse", [parse_header, parse_later], ids=["function", "method"])


def test_constants() -> None:
    assert VERSION == 4
    assert HEADER_LEN == 20


@MAKERS
def test_golden_bytes(make: Callable[..., Header]) -> None:
    assert make(**GOLDEN_FIELDS).marshal() == GOLDEN


@PARSERS
def test_golden_fields(parse: Callable[[Any], Header]) -> None:
    assert fields(parse(GOLDEN)) == GOLDEN_FIELDS
    assert parse(GOLDEN) == Header(**GOLDEN_FIELDS)


def test_golden_text() -> None:
    assert str(parse_header(GOLDEN)) == GOLDEN_TEXT
    assert str(Header(options=bytes(8))) == (
        "ver=4 hdrlen=28 tos=0x0 totallen=0 id=0x0 flags=0x0 fragoff=0x0 ttl=0 proto=0"
        " cksum=0x0 src=<nil> dst=<nil>"
    )


def test_a_new_header_is_empty() -> None:
    others = {"src": None, "dst": None, "options": b""}
    numbers = {**dict.fromkeys(LIMITS, 0), "version": VERSION, "len": HEADER_LEN}
    assert fields(Header()) == {**numbers, **others}


@MAKERS
@pytest.mark.parametrize("name", LIMITS)
def test_numbers_up_to_their_limits(make: Callable[..., Header], name: str) -> None:
    for value in LIMITS[name]:
        header = make(**{name: value})
        assert getattr(header, name) == value
        assert fields(header) == {**fields(Header()), name: value}


@MAKERS
@pytest.mark.parametrize("name", LIMITS)
def test_numbers_over_their_limits(make: Callable[..., Header], name: str) -> None:
    low, high = LIMITS[name]
    for value in (low - 1, high + 1, 1 << 64, -1 << 64):
        text = f"{name}: {value} is out of range, {low} to {high}"
        with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
            make(**{name: value})


@MAKERS
@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("value", [None, "1", 1.0, b"1"])
def test_numbers_are_ints(make: Callable[..., Header], name: str, value: Any) -> None:
    text = f"{name}: an int is required, not {type(value).__name__}"
    with pytest.raises(TypeError, match=f"^{text}$"):
        make(**{name: value})


def test_numbers_may_be_anything_that_stands_for_an_int() -> None:
    class Hops:
        def __index__(self) -> int:
            return 9

    assert Header(ttl=Hops(), flags=HeaderFlags.MORE_FRAGMENTS).ttl == 9
    assert type(Header(flags=HeaderFlags.MORE_FRAGMENTS).flags) is int


@pytest.mark.parametrize("name", GOLDEN_FIELDS)
def test_a_refused_value_changes_nothing(name: str) -> None:
    header = parse_header(GOLDEN)
    for value in (1.5, -1, "::1", b"12345"):
        with pytest.raises((TypeError, ValueError), match=f"^{name}: "):
            setattr(header, name, value)
    with pytest.raises(TypeError, match=f"^{name}: cannot be deleted$"):
        delattr(header, name)
    assert fields(header) == GOLDEN_FIELDS


@pytest.mark.parametrize("size", range(0, 41, 4))
@pytest.mark.parametrize("convert", [bytes, bytearray, memoryview])
def test_options_set_the_length(convert: Callable[[bytes], Any], size: int) -> None:
    options = bytes(range(1, size + 1))
    for header in (Header(dst="127.0.0.1", options=convert(options)), set_later(dst="127.0.0.1")):
        header.options = convert(options)
        assert (header.len, header.options) == (20 + size, options)
        assert type(header.options) is bytes
        packed = header.marshal()
        assert packed[0] == 4 << 4 | (20 + size) // 4
        assert packed[20:] == options


@MAKERS
@pytest.mark.parametrize("size", [1, 2, 3, 5, 39, 41, 44, 64, 1 << 16])
def test_options_that_no_header_holds(make: Callable[..., Header], size: int) -> None:
    text = f"options: {size} bytes; at most 40 and a multiple of 4 fit into a header"
    with pytest.raises(ValueError, match=f"^{text}$"):
        make(options=bytes(size))


def test_options_are_copied_and_leave_nothing_of_longer_ones() -> None:
    options = bytearray(b"12345678")
    header = Header(dst="127.0.0.1", options=options)
    options[:] = b"abcd"
    assert header.options == b"12345678"
    header.options = options
    assert header.marshal()[20:] == b"abcd"


def test_a_length_that_was_given_stands() -> None:
    header = Header(len=20, dst="127.0.0.1", options=b"1234")
    assert header.len == 20
    assert header.marshal()[0] == 0x46


def test_marshal_says_first_that_the_length_is_wrong() -> None:
    for header in (Header(len=19), Header(len=0, dst="127.0.0.1", options=b"1234")):
        with pytest.raises(ValueError, match="^len: header too short$"):
            header.marshal()
    with pytest.raises(ValueError, match="^dst: missing address$"):
        Header(src="127.0.0.1", options=b"1234").marshal()


def test_a_missing_source_is_written_as_zeros() -> None:
    assert Header(dst="1.2.3.4").marshal()[12:] == bytes([0, 0, 0, 0, 1, 2, 3, 4])
    header = parse_header(GOLDEN)
    header.src = None
    assert header.marshal() == GOLDEN[:12] + bytes(4) + GOLDEN[16:]


@settings(deadline=None)
@given(FIELDS)
def test_every_field_has_its_place(values: dict[str, Any]) -> None:
    packed = Header(**values).marshal()
    first, *numbers, src, dst = struct.unpack_from("!BBHHHBBH4s4s", packed)
    assert first == 4 << 4 | len(packed) // 4
    fragment = {"fragment": values["flags"] << 13 | values["frag_off"]}
    names = ("tos", "total_len", "id", "fragment", "ttl", "protocol", "checksum")
    assert numbers == [{**values, **fragment}[name] for name in names]
    assert ".".join(map(str, src)) == values["src"] or (src == bytes(4) and values["src"] is None)
    assert ".".join(map(str, dst)) == values["dst"]
    assert packed[20:] == values["options"]


@settings(deadline=None)
@given(FIELDS)
def test_what_is_marshalled_is_parsed(values: dict[str, Any]) -> None:
    header = Header(**values)
    expected = Header(**{**values, "src": values["src"] or "0.0.0.0"})
    assert parse_header(header.marshal()) == expected
    assert header == Header(**values)


@settings(deadline=None)
@given(st.sampled_from([b"", b"\x44", b"\x45", b"\x4f", b"\x65"]), st.binary(max_size=80))
def test_any_bytes_are_a_header_or_a_value_error(start: bytes, rest: bytes) -> None:
    header = parse_header(GOLDEN)
    data = start + rest
    words = data[0] & 15 if data else 0
    if len(data) >= 20 and data[0] >> 4 == 4 and 5 <= words <= len(data) // 4:
        header.parse(data)
        assert header.marshal() == data[: 4 * words]
    else:
        with pytest.raises(ValueError, match="^b: "):
            header.parse(data)
        assert fields(header) == GOLDEN_FIELDS


@PARSERS
@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "header too short: 0 bytes of at least 20"),
        (GOLDEN[:19], "header too short: 19 bytes of at least 20"),
        (b"\x65" + GOLDEN[1:], "version 6 is not 4"),
        (b"\x05" + GOLDEN[1:], "version 0 is not 4"),
        (b"\x44" + GOLDEN[1:], "invalid header length: IHL 4 is under 5"),
        (b"\x40" + GOLDEN[1:], "invalid header length: IHL 0 is under 5"),
        (b"\x46" + GOLDEN[1:], "extension header too short: 20 bytes of 24"),
        (b"\x4f" + GOLDEN[1:] + bytes(39), "extension header too short: 59 bytes of 60"),
    ],
)
def test_bytes_that_are_no_header(parse: Callable[[Any], Header], data: bytes, text: str) -> None:
    with pytest.raises(ValueError, match=f"^b: {text}$"):
        parse(data)


@PARSERS
@pytest.mark.parametrize("data", [None, "text", 20, [0x45]])
def test_only_bytes_are_parsed(parse: Callable[[Any], Header], data: Any) -> None:
    with pytest.raises(TypeError, match="^b: a bytes-like object is required"):
        parse(data)


@PARSERS
@pytest.mark.parametrize("convert", [bytes, bytearray, memoryview, lambda b: memoryview(b)[:20]])
def test_what_follows_the_header_is_ignored(
    parse: Callable[[Any], Header], convert: Callable[[bytes], Any]
) -> None:
    assert parse(convert(GOLDEN + b"payload")) == Header(**GOLDEN_FIELDS)


def test_parsing_again_leaves_no_old_options() -> None:
    header = parse_header(b"\x47" + GOLDEN[1:] + b"12345678")
    assert (header.len, header.options) == (28, b"12345678")
    header.parse(GOLDEN)
    assert (header.len, header.options) == (20, b"")
    assert header.marshal() == GOLDEN


def test_the_bytes_are_free_after_parsing() -> None:
    data = bytearray(GOLDEN)
    parse_later(data)
    data.append(0)


@pytest.mark.parametrize("name", [name for name in GOLDEN_FIELDS if name != "version"])
def test_headers_are_equal_when_all_fields_are(name: str) -> None:
    other = {"src": None, "dst": "192.168.0.2", "options": b"1234"}.get(name, 3)
    changed = Header(**{**GOLDEN_FIELDS, name: other})
    same = Header(**fields(changed))
    assert (changed == same, changed != same) == (True, False)
    golden = parse_header(GOLDEN)
    assert (changed == golden, changed != golden) == (False, True)


def test_an_absent_address_is_not_zero() -> None:
    assert Header(src="0.0.0.0") != Header()


def test_headers_have_no_order_no_hash_and_equal_nothing_else() -> None:
    header = parse_header(GOLDEN)
    assert header != GOLDEN
    assert header != tuple(GOLDEN_FIELDS.values())
    with pytest.raises(TypeError, match="unhashable type"):
        hash(header)
    with pytest.raises(TypeError, match="not supported between"):
        assert header < parse_header(GOLDEN)


@settings(deadline=None)
@given(FIELDS, st.integers(*LIMITS["len"]))
def test_copies_are_equal(values: dict[str, Any], length: int) -> None:
    header = Header(len=length, **values)
    copies = [copy.copy(header), copy.deepcopy(header)]
    # Protocols 0 and 1 cannot pass arguments to a constructor.
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        copies.append(pickle.loads(pickle.dumps(header, protocol)))
    assert copies == [header] * len(copies)
    assert {type(made) for made in copies} == {Header}
    header.tos ^= 1
    assert header not in copies


@settings(deadline=None)
@given(FIELDS, st.integers(*LIMITS["len"]))
@example({}, 0)
def test_repr_makes_the_header_again(values: dict[str, Any], length: int) -> None:
    header = Header(len=length, **values)
    assert eval(repr(header)) == header


def test_repr_leaves_out_what_is_not_set() -> None:
    assert repr(Header(ttl=9, dst="10.0.0.1")) == "Header(version=4, len=20, ttl=9, dst='10.0.0.1')"


class Tagged(Header):
    """A subclass with an attribute of its own."""

    tag: str


def test_a_subclass_keeps_what_it_adds() -> None:
    header = Tagged(ttl=3)
    header.tag = "mine"
    for made in (copy.copy(header), pickle.loads(pickle.dumps(header))):
        assert (type(made), made.tag, made.ttl) == (Tagged, "mine", 3)
    assert repr(header).startswith("Tagged(")
    assert header == Header(ttl=3)


SCAPY_OPTIONS = pytest.mark.parametrize(
    "options",
    [
        [],
        [IPOption_Router_Alert()],
        [IPOption_RR(routers=["1.2.3.4", "5.6.7.8"]), IPOption_NOP()],
        [IPOption_NOP()] * 40,
    ],
    ids=["none", "router alert", "record route", "full"],
)


@SCAPY_OPTIONS
def test_scapy_understands_what_is_marshalled(options: list[Any]) -> None:
    header = parse_header(GOLDEN)
    header.options = bytes(IP(options=options))[20:]
    header.checksum = 0
    header.checksum = checksum(header.marshal())
    seen = IP(header.marshal())
    assert (seen.version, seen.ihl, seen.tos, seen.len) == (4, header.len // 4, 1, 0xBEEF)
    assert (seen.id, int(seen.flags), seen.frag, seen.ttl) == (0xCAFE, 2, 1500, 255)
    assert (seen.proto, seen.src, seen.dst) == (1, "172.16.254.254", "192.168.0.1")
    assert b"".join(map(bytes, seen.options)) == header.options
    del seen.chksum
    assert IP(bytes(seen)).chksum == header.checksum


@SCAPY_OPTIONS
def test_what_scapy_builds_is_parsed(options: list[Any]) -> None:
    built = IP(dst="5.6.7.8", src="1.2.3.4", tos=3, id=4, flags=5, frag=6, proto=253, ttl=7)
    built.options = options
    packet = bytes(built / b"payload")
    seen = IP(packet)
    numbers = (4, 4 * seen.ihl, 3, len(packet), 4, 5, 6, 7, 253, seen.chksum)
    assert parse_header(packet) == Header(*numbers, "1.2.3.4", "5.6.7.8", packet[20:-7])
