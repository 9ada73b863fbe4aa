"""write_all: every message goes, and what does not go is told exactly."""

import errno
import re
import socket
from typing import Any

import pytest
from support.failing import FAILING, Endpoint
from support.net import open_udp

from ipv4batch import Message, PacketConn, new_messages

each_failure = pytest.mark.parametrize("code", FAILING, ids=errno.errorcode.get)
each_offload = pytest.mark.parametrize("gso", [False, True], ids=["plain", "gso"])


def compose(number: int) -> bytes:
    return b"%08d" % number


def numbered(count: int, addr: Endpoint) -> list[Message]:
    return [Message(compose(number), None, addr) for number in range(count)]


def arrived(conn: PacketConn) -> list[bytes]:
    """What lies in the receive buffer; loopback delivers before the write returns."""
    messages = new_messages(64, 64)
    found: list[bytes] = []
    while True:
        try:
            count = conn.read_batch(messages, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return found
        found += [message.data for message in messages[:count]]


def fate(error: Any) -> tuple[int, int]:
    """The two attributes that write_all adds to an exception."""
    return error.index, error.written


@each_offload
@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 129, 250])
def test_all_are_written_in_order(
    reader: PacketConn, writer: PacketConn, count: int, gso: bool
) -> None:
    writer.gso = gso
    messages = numbered(count, reader.local_addr)
    assert writer.write_all(messages) == count
    assert arrived(reader) == [compose(number) for number in range(count)]
    assert {(message.n, message.errno) for message in messages} == {(8, 0)}


@pytest.mark.parametrize("count", [1023, 1024, 1025, 2048, 2500])
def test_more_than_the_kernel_takes_in_one_call(count: int) -> None:
    """Ten readers, so that the receive buffers hold them all."""
    readers = [open_udp() for _ in range(10)]
    with open_udp() as writer:
        messages = [
            Message(compose(number), None, readers[number % 10].local_addr)
            for number in range(count)
        ]
        assert writer.write_all(messages) == count
        for k, reader in enumerate(readers):
            assert arrived(reader) == [compose(number) for number in range(k, count, 10)]
            reader.close()
    assert {message.n for message in messages} == {8}


def test_one_message_may_stand_many_times(reader: PacketConn, writer: PacketConn) -> None:
    message = Message(b"again", None, reader.local_addr)
    assert writer.write_all((message,) * 70) == 70
    assert arrived(reader) == [b"again"] * 70


@pytest.mark.parametrize("errors", ["raise", "skip"])
@pytest.mark.parametrize("empty", [[], ()], ids=["list", "tuple"])
def test_nothing_to_write(writer: PacketConn, empty: Any, errors: Any) -> None:
    assert writer.write_all(empty, errors=errors) == 0


@each_offload
@each_failure
@pytest.mark.parametrize("where", [0, 1, 5, 99])
def test_the_first_that_fails_is_told(
    reader: PacketConn, writer: PacketConn, where: int, code: int, gso: bool
) -> None:
    writer.gso = gso
    messages = numbered(100, reader.local_addr)
    messages[where] = FAILING[code](reader.local_addr)
    with pytest.raises(OSError, match=rf"\[Errno {code}\]") as caught:
        writer.write_all(messages)
    assert caught.value.errno == code
    # A run that begins before it goes before it, with messages from behind it.
    written = min(-(-where // 64) * 64, 99) if gso else where
    assert fate(caught.value) == (where, written)
    assert writer.last_written == written
    assert str(caught.value).endswith(f": 'write udp4 127.0.0.1:{writer.local_addr[1]}'")
    sent = [number for number in range(100) if number != where][:written]
    assert arrived(reader) == [compose(number) for number in sent]
    assert [message.errno for message in messages] == [
        0 if number in sent else code if number == where else errno.ECANCELED
        for number in range(100)
    ]
    assert [message.n for message in messages] == [8 * (number in sent) for number in range(100)]


@pytest.mark.parametrize("where", [1022, 1023, 1024, 1025, 2047, 2048])
def test_the_first_that_fails_around_the_end_of_a_call(where: int) -> None:
    with open_udp() as reader, open_udp() as writer:
        messages = [Message(b"x", None, reader.local_addr)] * 2100
        messages[where] = failing = Message(b"x")
        with pytest.raises(OSError, match="Destination address required") as caught:
            writer.write_all(messages)
        assert fate(caught.value) == (where, where)
        assert failing.errno == errno.EDESTADDRREQ
        assert writer.write_all(messages, errors="skip") == 2099


@each_offload
def test_skip_goes_on_and_each_errno_is_exact(
    reader: PacketConn, writer: PacketConn, gso: bool
) -> None:
    writer.gso = gso
    failing = {0: errno.EINVAL, 99: errno.EACCES}
    failing |= dict(enumerate(FAILING, start=10))
    failing |= {step * 11: code for step, code in enumerate(FAILING, start=3)}
    messages = numbered(100, reader.local_addr)
    for where, code in failing.items():
        messages[where] = FAILING[code](reader.local_addr)
    written = [number for number in range(100) if number not in failing]
    assert writer.write_all(messages, errors="skip") == len(written)
    assert [message.errno for message in messages] == [failing.get(k, 0) for k in range(100)]
    assert arrived(reader) == [compose(number) for number in written]


@each_failure
def test_skip_with_nothing_but_failures(writer: PacketConn, code: int) -> None:
    messages = [FAILING[code](("127.0.0.1", 9)) for _ in range(70)]
    assert writer.write_all(messages, errors="skip") == 0
    assert {message.errno for message in messages} == {code}


@pytest.mark.parametrize("errors", ["raise", "skip"])
def test_an_errno_of_another_call_does_not_stay(
    reader: PacketConn, writer: PacketConn, errors: Any
) -> None:
    messages = [Message(b"x") for _ in range(3)]
    assert writer.write_all(messages, errors="skip") == 0
    for message in messages:
        assert message.errno == errno.EDESTADDRREQ
        message.addr = reader.local_addr
    assert writer.write_all(messages, errors=errors) == 3
    assert [message.errno for message in messages] == [0] * 3


def test_the_errno_of_what_comes_after_a_failure_does_not_stay(
    reader: PacketConn, writer: PacketConn
) -> None:
    messages = [Message(b"x") for _ in range(3)]
    writer.write_all(messages, errors="skip")
    with pytest.raises(OSError, match="Destination address required"):
        writer.write_all(messages)
    assert [message.errno for message in messages] == [errno.EDESTADDRREQ] + [errno.ECANCELED] * 2


@pytest.mark.parametrize("wrong", ["", "Raise", "ignore", "skip ", "raise\0"])
def test_another_word_for_errors(reader: PacketConn, writer: PacketConn, wrong: Any) -> None:
    expected = f"errors: 'raise' or 'skip' is required, not {wrong!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        writer.write_all(numbered(1, reader.local_addr), errors=wrong)
    assert arrived(reader) == []


@pytest.mark.parametrize("wrong", [None, 0, b"skip", ["skip"]])
def test_what_is_no_word_for_errors(reader: PacketConn, writer: PacketConn, wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="errors: 'raise' or 'skip' is required"):
        writer.write_all(numbered(1, reader.local_addr), errors=wrong)
    assert arrived(reader) == []


@pytest.mark.parametrize("errors", ["raise", "skip"])
def test_wrong_items_are_refused_before_anything_is_sent(
    reader: PacketConn, writer: PacketConn, errors: Any
) -> None:
    messages: list[Any] = numbered(5, reader.local_addr)
    messages[3] = b"no message"
    with pytest.raises(TypeError, match=r"msgs\[3\]"):
        writer.write_all(messages, errors=errors)
    messages[3] = Message(b"x", b"\x01" * 16, reader.local_addr)
    with pytest.raises(ValueError, match=r"msgs\[3\].*oob"):
        writer.write_all(messages, errors=errors)
    wrong: Any
    for wrong, error in (("0", TypeError), (-1, ValueError), (1 << 31, ValueError)):
        with pytest.raises(error, match="flags"):
            writer.write_all(messages[:3], wrong, errors)
    assert arrived(reader) == []


@pytest.mark.parametrize("errors", ["raise", "skip"])
def test_a_closed_connection(writer: PacketConn, errors: Any) -> None:
    messages = numbered(3, ("127.0.0.1", 9))
    writer.close()
    with pytest.raises(OSError, match="The connection is closed: 'write udp4'") as caught:
        writer.write_all(messages, errors=errors)
    assert caught.value.errno == errno.EBADF
    assert fate(caught.value) == (0, 0)


@pytest.mark.parametrize("errors", ["raise", "skip"])
def test_a_socket_that_was_closed_behind_its_back(writer: PacketConn, errors: Any) -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    conn = PacketConn(sock)
    sock.close()
    with pytest.raises(OSError, match=r"\[Errno 9\]") as caught:
        conn.write_all(numbered(3, ("127.0.0.1", 9)), errors=errors)
    assert fate(caught.value) == (0, 0)
