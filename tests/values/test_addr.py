"""Addresses and endpoints: what is taken in which form, and what is refused with which words."""

import array
import ctypes
import ipaddress
import re
import socket
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipv4batch import ControlMessage, Header, Message

FIELDS = {
    "Message.addr": (Message, "addr"),
    "Header.src": (Header, "src"),
    "Header.dst": (Header, "dst"),
    "ControlMessage.src": (ControlMessage, "src"),
    "ControlMessage.dst": (ControlMessage, "dst"),
}

HOST = "192.0.2.1"
PACKED = b"\xc0\x00\x02\x01"


class Place:
    """An attribute that holds an address; of an endpoint it is the host."""

    def __init__(self, name: str) -> None:
        self.type, self.field = FIELDS[name]
        self.object: Any = self.type()

    def wrap(self, host: Any) -> Any:
        return (host, 7) if self.field == "addr" else host

    def set(self, host: Any) -> None:
        setattr(self.object, self.field, self.wrap(host))

    def get(self) -> Any:
        return getattr(self.object, self.field)


@pytest.fixture(params=FIELDS)
def place(request: pytest.FixtureRequest) -> Place:
    return Place(request.param)


class Text(str):
    """A str of another class."""


class Address(ipaddress.IPv4Address):
    """An address of another class."""


TAKEN = {
    "str": HOST,
    "subclass of str": Text(HOST),
    "IPv4Address": ipaddress.IPv4Address(HOST),
    "subclass of IPv4Address": Address(HOST),
    "IPv4Interface": ipaddress.IPv4Interface(f"{HOST}/24"),
    "bytes": PACKED,
    "bytearray": bytearray(PACKED),
    "subclass of bytes": type("Packed", (bytes,), {})(PACKED),
}


@pytest.mark.parametrize("form", TAKEN)
def test_forms_that_are_taken(place: Place, form: str) -> None:
    place.set(TAKEN[form])
    assert place.get() == place.wrap(HOST)
    assert type(place.get()[0] if place.field == "addr" else place.get()) is str
    given_at_once = place.type(**{place.field: place.wrap(TAKEN[form])})
    assert getattr(given_at_once, place.field) == place.wrap(HOST)


@settings(deadline=None)
@given(st.ip_addresses(v=4))
def test_every_address_comes_back_as_text(address: ipaddress.IPv4Address) -> None:
    header = Header()
    for form in (str(address), address, address.packed, bytearray(address.packed)):
        header.dst = form
        assert header.dst == str(address)
        assert header.marshal()[16:] == address.packed
        assert ControlMessage(src=form).src == Message(addr=(form, 0)).addr[0] == str(address)


NAMES = [
    "localhost",
    "example.org",
    "1.2.3.4.example",
    "0x7f.0.0.1",
    "lo",
    "<broadcast>",
    "1.2.3.4a",
]

WRITTEN_WRONGLY = [
    "",
    ".",
    "127.1",
    "127.0.1",
    "2130706433",
    "1.2.3.4.5",
    "1.2.3.4.",
    ".1.2.3.4",
    "1..2.3",
    "01.2.3.4",
    "1.2.3.004",
    "256.2.3.4",
    "1.2.3.1000",
    "1.2.3.99999999999999999999",
]

IPV6 = ["::1", "::", "fe80::1", "2001:db8::1", "::ffff:192.0.2.1", "fe80::1%lo"]

NO_ADDRESS = [
    " 1.2.3.4",
    "1.2.3.4 ",
    "1.2.3.4\n",
    "1.2.3.4\0",
    "-1.2.3.4",
    "\uff11.2.3.4",
    "\udc80",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_to_be_resolved_first(place: Place, name: str) -> None:
    text = f"{place.field}: {name!r} is no IPv4 address; resolve a name first (socket.getaddrinfo)"
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        place.set(name)


@pytest.mark.parametrize("text", WRITTEN_WRONGLY + IPV6)
def test_what_no_name_can_be_is_only_refused(place: Place, text: str) -> None:
    with pytest.raises(
        ValueError, match=f"^{place.field}: {re.escape(repr(text))} is no IPv4 addr"
    ) as caught:
        place.set(text)
    assert "resolve" not in str(caught.value)


@pytest.mark.parametrize("text", NO_ADDRESS, ids=ascii)
def test_text_around_or_inside_an_address(place: Place, text: str) -> None:
    with pytest.raises(
        ValueError, match=f"^{place.field}: {re.escape(repr(text))} is no IPv4 addr"
    ):
        place.set(text)


@settings(deadline=None, max_examples=500)
@given(
    st.from_regex(r"[0-9]{1,3}(\.[0-9]{0,3}){2,4}", fullmatch=True)
    | st.text("0123456789.", max_size=18)
)
def test_the_same_texts_are_taken_as_by_ipaddress(text: str) -> None:
    try:
        expected = str(ipaddress.IPv4Address(text))
    except ValueError:
        with pytest.raises(ValueError, match="^dst: "):
            Header(dst=text)
    else:
        assert Header(dst=text).dst == expected == text


@pytest.mark.parametrize("size", [0, 3, 5, 16])
@pytest.mark.parametrize("convert", [bytes, bytearray])
def test_packed_addresses_have_four_bytes(
    place: Place, convert: Callable[[int], Any], size: int
) -> None:
    text = f"{place.field}: a packed IPv4 address has 4 bytes, not {size}"
    with pytest.raises(ValueError, match=f"^{text}$"):
        place.set(convert(size))


@pytest.mark.parametrize(
    "value",
    [
        0x7F000001,
        0,
        True,
        1.5,
        [127, 0, 0, 1],
        (127, 0, 0, 1),
        object,
        ipaddress.IPv6Address("::1"),
        # Buffers of four bytes: the bytes of a number are no address.
        memoryview(PACKED),
        array.array("B", PACKED),
        array.array("i", [5]),
        ctypes.c_int32(5),
    ],
    ids=lambda value: type(value).__name__ + repr(value)[:12].partition(" at ")[0],
)
def test_other_types_are_refused(place: Place, value: Any) -> None:
    text = (
        f"{place.field}: an address is a str, an ipaddress.IPv4Address or 4 packed bytes, not "
        + ("array.array" if isinstance(value, array.array) else type(value).__name__)
    )
    with pytest.raises(TypeError, match=f"^{text}$"):
        place.set(value)


def test_a_refused_address_changes_nothing(place: Place) -> None:
    place.set(HOST)
    for value in ("localhost", "::1", b"12345", 7):
        with pytest.raises((TypeError, ValueError), match=f"^{place.field}: "):
            place.set(value)
    with pytest.raises(TypeError, match=f"^{place.field}: cannot be deleted$"):
        delattr(place.object, place.field)
    assert place.get() == place.wrap(HOST)


def test_none_is_no_address(place: Place) -> None:
    assert place.get() is None
    place.set("0.0.0.0")
    assert place.get() == place.wrap("0.0.0.0")
    setattr(place.object, place.field, None)
    assert place.get() is None


def test_a_class_that_packs_wrongly_does_no_harm(place: Place) -> None:
    class Strange(ipaddress.IPv4Address):
        @property
        def packed(self) -> Any:
            return self.answer

    address = Strange(HOST)
    for answer in (b"12345", "text", None, 7):
        address.answer = answer
        with pytest.raises((TypeError, ValueError), match="bytes"):
            place.set(address)
    assert place.get() is None


Endpoint = namedtuple("Endpoint", ["host", "port"])


class Number:
    """No int, but it stands for one."""

    def __index__(self) -> int:
        return 40000


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ((HOST, 0), (HOST, 0)),
        ((HOST, 1), (HOST, 1)),
        ((HOST, 65535), (HOST, 65535)),
        ((HOST, Number()), (HOST, 40000)),
        # To Python it is the int 1, and to socket too.
        ((HOST, True), (HOST, 1)),
        (Endpoint(PACKED, 80), (HOST, 80)),
    ],
)
def test_endpoints_that_are_taken(endpoint: Any, expected: tuple[str, int]) -> None:
    addr = Message(addr=endpoint).addr
    assert addr == expected
    assert [type(part) for part in addr] == [str, int]
    assert type(addr) is tuple


def test_an_endpoint_of_socket_fits() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        message = Message(addr=sock.getsockname())
        assert message.addr == sock.getsockname()
        assert message.addr is message.addr


@pytest.mark.parametrize("port", [-1, 65536, 1 << 32, 1 << 64, -(1 << 64)])
def test_ports_out_of_range(port: int) -> None:
    text = f"addr: port: {port} is out of range, 0 to 65535"
    with pytest.raises(ValueError, match=f"^{text}$"):
        Message(addr=(HOST, port))


@pytest.mark.parametrize("port", [80.0, "80", b"80", None, (80,)])
def test_ports_are_ints(port: Any) -> None:
    text = f"addr: port: an int is required, not {type(port).__name__}"
    with pytest.raises(TypeError, match=f"^{text}$"):
        Message(addr=(HOST, port))


@pytest.mark.parametrize(
    "endpoint",
    [HOST, f"{HOST}:80", [HOST, 80], (), (HOST,), (HOST, 80, 0), ("::1", 80, 0, 0), PACKED, 80],
    ids=repr,
)
def test_an_endpoint_is_a_pair(endpoint: Any) -> None:
    text = f"addr: a (host, port) tuple is required, not {endpoint!r}"
    with pytest.raises(TypeError, match=f"^{re.escape(text)}$"):
        Message(addr=endpoint)


def test_the_host_of_an_endpoint_is_never_none() -> None:
    with pytest.raises(TypeError, match="^addr: an address is a str"):
        Message(addr=(None, 80))


def test_a_refused_endpoint_changes_nothing() -> None:
    message = Message(addr=(HOST, 7))
    for endpoint in (("127.0.0.1", 65536), ("127.0.0.1", "8"), ("127.0.0", 8), "127.0.0.1"):
        with pytest.raises((TypeError, ValueError), match="^addr: "):
            message.addr = endpoint
    assert message.addr == (HOST, 7)
