"""Making a Message: its arguments, what a subclass may do, and what it costs."""

import gc
import ipaddress
import sys
import threading
import tracemalloc
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from ipv4batch import Message

ADDR = ("192.0.2.1", 9)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Message(b"data", None, ADDR),
        lambda: Message(b"data", addr=ADDR),
        lambda: Message(addr=ADDR, buffers=b"data"),
        lambda: Message(b"data", None, addr=ADDR),
        lambda: Message(*[b"data"], addr=ADDR),
    ],
)
def test_arguments_by_place_and_by_name(make: Callable[[], Message]) -> None:
    m = make()
    assert (m.buffers, m.oob, m.addr) == ((b"data",), None, ADDR)
    assert (m.n, m.nn, m.flags, m.errno, m.data) == (0, 0, 0, 0, b"")


class Other(Message):
    """Its constructor goes another way than that of Message itself."""


@pytest.mark.parametrize("kind", [Message, Other])
@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda t: t(b"", None, None, None), "Message() takes at most 3 arguments, 4 given"),
        (lambda t: t(b"", buffers=b""), "Message() got two values for argument 'buffers'"),
        (lambda t: t(b"", address=ADDR), "Message() got an unexpected keyword argument 'address'"),
        (lambda t: t(b"", **{"": ADDR}), "Message() got an unexpected keyword argument ''"),
        (lambda t: t(**{1: b""}), "keywords must be strings"),
    ],
)
def test_wrong_arguments(kind: type[Message], call: Callable[[Any], Any], text: str) -> None:
    with pytest.raises(TypeError) as raised:
        call(kind)
    assert text in str(raised.value)


def test_a_subclass_has_its_own_constructor() -> None:
    class Numbered(Message):
        number: int

        def __new__(cls, number: int, data: bytes) -> "Numbered":
            made = super().__new__(cls)
            made.number = number
            return made

        def __init__(self, number: int, data: bytes) -> None:
            super().__init__(data, addr=("192.0.2.1", number))

    m = Numbered(7, b"x")
    assert (type(m), m.number, m.buffers, m.addr) == (Numbered, 7, (b"x",), ("192.0.2.1", 7))
    assert type(Other(b"y", addr=ADDR)) is Other


def test_init_again_changes_what_it_names() -> None:
    m = Message(b"one", addr=ADDR)
    m.__init__(bytearray(b"two"))  # type: ignore[misc]
    assert (m.buffers, m.addr) == ((bytearray(b"two"),), ADDR)
    m.__init__(addr=None)  # type: ignore[misc]
    assert (m.buffers, m.addr) == ((bytearray(b"two"),), None)


def test_a_bytes_object_is_held_as_it_is() -> None:
    data, control = bytes(bytearray(b"payload")), bytes(16)  # no constant, which may be immortal
    before = sys.getrefcount(data)
    m = Message(data, addr=ADDR)
    assert m.buffers[0] is data
    assert sys.getrefcount(data) == before + 1
    m.buffers = [data, bytearray(3)]
    assert m.buffers == (data, bytearray(3))
    m.buffers = data
    assert m.buffers == (data,)
    m.buffers = ()
    assert m.buffers == ()
    assert sys.getrefcount(data) == before
    m = Message(data, control)
    assert m.oob is control
    m.oob = bytearray(control)
    assert m.oob == control
    m.oob = None
    assert m.oob is None


class Text(str):
    """A str that is more than one."""

    __slots__ = ()


class Pair(NamedTuple):
    host: Any
    port: Any


class Number(int):
    pass


@pytest.mark.parametrize(
    ("addr", "same"),
    [
        (("255.255.255.255", 65535), ("255.255.255.255", 65535)),
        (("0.0.0.0", 0), ("0.0.0.0", 0)),
        (("10.20.30.40", 1), ("10.20.30.40", 1)),
        ((Text("10.20.30.40"), 1), ("10.20.30.40", 1)),
        (Pair("10.20.30.40", 1), ("10.20.30.40", 1)),
        (("10.20.30.40", Number(1)), ("10.20.30.40", 1)),
        (("10.20.30.40", True), ("10.20.30.40", 1)),
        ((ipaddress.IPv4Address("1.2.3.4"), 1), ("1.2.3.4", 1)),
        ((b"\1\2\3\4", 1), ("1.2.3.4", 1)),
    ],
)
def test_an_address_in_each_form(addr: Any, same: tuple[str, int]) -> None:
    assert Message(addr=addr).addr == same
    m = Message()
    m.addr = addr
    assert m.addr == same


@pytest.mark.parametrize(
    "host",
    [
        *("", ".", "1", "1.2.3", "1.2.3.", "1.2.3.4.", "1.2.3.4.5", ".1.2.3", "1..2.3"),
        *("01.2.3.4", "1.2.3.04", "1.2.3.256", "1.2.3.1000", "256.1.1.1", "1.2.3.4 ", " 1.2.3.4"),
        *("1.2.3.4\0", "1.2.3.\0", "1.2.3.4\0.5", "1.2.3.a", "1.2.3./", "1.2.3.:", "-1.2.3.4"),
        *("1.2.3.\u0664", "\xb9.2.3.4", "1,2,3,4", "0x1.2.3.4"),
    ],
)
def test_a_text_that_is_no_address(host: str) -> None:
    with pytest.raises(ValueError, match="^addr: "):
        Message(b"x", addr=(host, 1))


@pytest.mark.parametrize("port", [-1, 65536, 2**31, -(2**70), 2**70])
def test_a_port_out_of_range(port: int) -> None:
    with pytest.raises(ValueError, match="addr: port: .* is out of range, 0 to 65535"):
        Message(addr=("1.2.3.4", port))


def test_what_a_message_takes() -> None:
    """The object is below pymalloc's limit, and there is nothing beside it for bytes."""
    data = bytes(100)
    messages: list[Any] = [None] * 1000
    assert sys.getsizeof(Message(data, addr=ADDR)) + 16 < 512
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for i in range(len(messages)):
            messages[i] = Message(data, addr=ADDR)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken / len(messages) < 300


def test_threads_make_and_change_messages() -> None:
    kept = Message(b"")
    wrong: list[Any] = []

    def work(number: int) -> None:
        data, addr = bytes([number]) * 10, (f"10.0.0.{number}", number)
        for _ in range(3000):
            m = Message(data, addr=addr)
            if (m.buffers, m.addr) != ((data,), addr):
                wrong.append((m.buffers, m.addr))
            kept.buffers = data
            kept.addr = addr
            (seen,) = kept.buffers
            if len(set(seen)) != 1:
                wrong.append(seen)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
