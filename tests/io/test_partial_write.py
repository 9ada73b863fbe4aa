"""Writes that stop at a message which fails: what the count says, what went, and how to go on."""

import contextlib
import errno
import re
import socket
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from support.net import LOOPBACK, open_udp

from ipv4batch import ControlMessage, Message, PacketConn, new_messages

LENGTH = 2100
WHERE = [0, 1, 700, 1022, 1023, 1024, 1025, 2047, 2048, LENGTH - 1]
READERS = 20
"""The messages go round among so many sockets that none needs an unusual receive buffer."""

AN_ADDRESS = (LOOPBACK, 9)


class Fault(NamedTuple):
    """A message that the kernel refuses."""

    content: bytes
    addr: tuple[str, int] | None
    control: bytes | None
    errno: int


FAULTS = {
    "too long": Fault(bytes(65508), AN_ADDRESS, None, errno.EMSGSIZE),
    "broadcast": Fault(b"x", ("127.255.255.255", 9), None, errno.EACCES),
    "no address": Fault(b"x", None, None, errno.EDESTADDRREQ),
    "port 0": Fault(b"x", (LOOPBACK, 0), None, errno.EINVAL),
    "no such interface": Fault(
        b"x", AN_ADDRESS, ControlMessage(ifindex=2**31 - 1).marshal(), errno.ENODEV
    ),
}


def faulty(kind: str) -> Message:
    fault = FAULTS[kind]
    return Message(fault.content, fault.control, fault.addr)


@pytest.fixture
def readers() -> Iterator[list[PacketConn]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(open_udp()) for _ in range(READERS)]


def numbered(readers: list[PacketConn], count: int) -> list[Message]:
    addresses = [conn.local_addr for conn in readers]
    return [
        Message(struct.pack("!I", number), None, addresses[number % len(readers)])
        for number in range(count)
    ]


def arrived(readers: list[PacketConn]) -> list[int]:
    """The numbers of all datagrams that are there, of each reader in the order of arrival."""
    found = []
    messages = new_messages(LENGTH // READERS + 1, 8)
    for conn in readers:
        with contextlib.suppress(BlockingIOError):
            count = conn.read_batch(messages, socket.MSG_DONTWAIT)
            found += [struct.unpack("!I", m.data)[0] for m in messages[:count]]
    return found


def dealt(numbers: Any) -> list[int]:
    """The same numbers as `arrived` gives them."""
    return sorted(numbers, key=lambda number: (number % READERS, number))


def check_error(caught: Any, code: int, writer: PacketConn) -> None:
    """The error names the operation, the network and the local address."""
    assert caught.value.errno == code
    text = f"[Errno {code}] "
    assert str(caught.value).startswith(text), caught.value
    where = f": 'write udp4 {LOOPBACK}:{writer.local_addr[1]}'"
    assert str(caught.value).endswith(where), caught.value


@pytest.mark.parametrize("kind", ["too long", "broadcast"])
@pytest.mark.parametrize("k", WHERE)
def test_the_message_that_fails_ends_the_write(
    readers: list[PacketConn], writer: PacketConn, k: int, kind: str
) -> None:
    messages = numbered(readers, LENGTH)
    messages[k] = bad = faulty(kind)
    if k > 0:
        assert writer.write_batch(messages) == k
        assert arrived(readers) == dealt(range(k))
        assert [m.n for m in messages] == [4] * k + [0] * (LENGTH - k)
        assert {m.errno for m in messages[:k]} == {0}

    # From there on it is the first one, and raises; as often as it is tried.
    for _ in range(2):
        with pytest.raises(OSError, match="'write udp4 ") as caught:
            writer.write_batch(messages[k:])
        check_error(caught, FAULTS[kind].errno, writer)
        assert bad.errno == FAULTS[kind].errno
        assert [m.n for m in messages[k:]] == [0] * (LENGTH - k)
        assert arrived(readers) == []

    rest = messages[k + 1 :]
    assert writer.write_batch(rest) == len(rest)
    assert arrived(readers) == dealt(range(k + 1, LENGTH))
    assert {m.errno for m in rest} <= {0}
    assert {m.n for m in rest} <= {4}


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("k", [0, 1, 31, 63])
def test_each_kind_of_failure(
    readers: list[PacketConn], writer: PacketConn, k: int, kind: str
) -> None:
    messages = numbered(readers, 64)
    messages[k] = faulty(kind)
    if k > 0:
        assert writer.write_batch(messages) == k
    with pytest.raises(OSError, match=re.escape(f"[Errno {FAULTS[kind].errno}]")) as caught:
        writer.write_batch(messages[k:])
    check_error(caught, FAULTS[kind].errno, writer)
    assert writer.write_batch(messages[k + 1 :]) == 63 - k
    assert arrived(readers) == dealt(set(range(64)) - {k})


def test_the_errors_are_the_standard_subclasses(writer: PacketConn) -> None:
    with pytest.raises(PermissionError):
        writer.write_batch([faulty("broadcast")])
    with open_udp() as gone:
        unused = gone.local_addr
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(unused)
        conn = PacketConn(sock)
        assert conn.write_batch([Message(b"x")]) == 1
        # The ICMP message to that one has come back, and is the next one's error.
        with pytest.raises(ConnectionRefusedError):
            conn.write_batch([Message(b"y"), Message(b"z")])


@pytest.mark.parametrize("faults", [[0, 1], [5, 6, 7], [0, 1023, 1024, 2099], [1024, 2048]])
def test_a_loop_sends_everything_else(
    readers: list[PacketConn], writer: PacketConn, faults: list[int]
) -> None:
    messages = numbered(readers, LENGTH)
    for k, kind in zip(faults, FAULTS, strict=False):
        messages[k] = faulty(kind)
    start, failed = 0, []
    while start < LENGTH:
        try:
            start += writer.write_batch(messages[start:])
        except OSError as error:
            failed.append((start, error.errno))
            start += 1
    expected = [fault.errno for fault in FAULTS.values()]
    assert failed == list(zip(faults, expected, strict=False))
    assert arrived(readers) == dealt(set(range(LENGTH)) - set(faults))


def test_all_fail(writer: PacketConn) -> None:
    messages = [faulty("port 0") for _ in range(1025)]
    with pytest.raises(OSError, match="'write udp4 ") as caught:
        writer.write_batch(messages)
    check_error(caught, errno.EINVAL, writer)
    assert [m.errno for m in messages] == [errno.EINVAL] + [0] * 1024


def test_a_failing_message_that_stands_more_than_once(
    readers: list[PacketConn], writer: PacketConn
) -> None:
    good = numbered(readers, 3)
    bad = faulty("too long")
    assert writer.write_batch([good[0], bad, good[1], bad, good[2]]) == 1
    with pytest.raises(OSError, match="Message too long"):
        writer.write_batch([bad, good[1], bad, good[2]])
    assert writer.write_batch([good[1], bad, good[2]]) == 1
    assert arrived(readers) == [0, 1]
