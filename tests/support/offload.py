"""Offload in tests: pairs of connections, datagrams to send through them, and what must arrive."""

import contextlib
import itertools
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pytest

from ipv4batch import ControlFlags, ControlMessage, Message, PacketConn, new_messages
from support.net import LOOPBACK, open_udp

SO_RCVBUFFORCE = 33  # asm-generic/socket.h; the module socket has no name for it


LO = socket.if_nametoindex("lo")


ALL = (
    ControlFlags.TTL
    | ControlFlags.SRC
    | ControlFlags.DST
    | ControlFlags.INTERFACE
    | ControlFlags.TOS
)


MOST = 65507
"""Bytes that one IPv4 datagram can carry, and so that a run can."""


END = b"the end of what a step has sent"


combinations = pytest.mark.parametrize(
    ("gso", "gro"),
    list(itertools.product([False, True], repeat=2)),
    ids=["plain", "gro", "gso", "both"],
)


class Received(NamedTuple):
    """One datagram as its reader sees it."""

    data: bytes
    addr: tuple[str, int] | None
    control: ControlMessage | None


def enlarge(conn: PacketConn) -> int:
    """Give the receive buffer the room that this process may have; return how much that is."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, fileno=os.dup(conn.fileno())) as sock:
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 25)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 25)
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


@contextlib.contextmanager
def open_pair(gso: bool = False, gro: bool = False) -> Iterator[tuple[PacketConn, PacketConn]]:
    """A connection that reads everything about a datagram, and one that writes."""
    with open_udp() as reader, open_udp() as writer:
        reader.set_control_message(ALL)
        writer.gso = gso
        reader.gro = gro
        yield reader, writer


def size_of(message: Message) -> int:
    return sum(memoryview(buffer).nbytes for buffer in message.buffers)


def steps(messages: Sequence[Message], room: int) -> Iterator[Sequence[Message]]:
    """Cut the messages where a receive buffer of so many bytes could overflow."""
    start = used = 0
    for i, message in enumerate(messages):
        # The kernel counts a datagram with its bookkeeping, and in blocks of up to twice its size.
        cost = 2 * size_of(message) + 2048
        if used + cost > room and i > start:
            yield messages[start:i]
            start, used = i, 0
        used += cost
    yield messages[start:]


def read_until_end(reader: PacketConn, into: list[Message]) -> list[Received]:
    received = []
    while True:
        for message in into[: reader.read_batch(into)]:
            if message.data == END:
                assert reader.pending == 0
                return received
            received.append(Received(message.data, message.addr, message.control_message()))


def exchange(
    writer: PacketConn,
    readers: Sequence[PacketConn],
    messages: Sequence[Message],
    into: list[Message] | None = None,
) -> list[list[Received]]:
    """Write all messages, with as few calls as are safe from loss; return what each reader read."""
    room = min(enlarge(reader) for reader in readers) // 2
    into = into or new_messages(128, 2048, ALL)
    received: list[list[Received]] = [[] for _ in readers]
    for step in steps(messages, room):
        assert writer.write_batch(step) == len(step)
        assert [(m.n, m.errno) for m in step] == [(size_of(m), 0) for m in step]
        for reader, got in zip(readers, received, strict=True):
            writer.write_to(END, reader.local_addr)
            got += read_until_end(reader, into)
    return received


def compose(number: int, size: int) -> bytes:
    """The content of a datagram, which tells its number as far as the size allows."""
    return (struct.pack("<I", number) * (size // 4 + 1))[:size]


def expect(writer: PacketConn, data: bytes, **control: Any) -> Received:
    """How a datagram arrives on loopback, with what its own control data said of it."""
    seen = {"ttl": writer.ttl, "src": LOOPBACK, "dst": LOOPBACK, "ifindex": LO, "tos": 0} | control
    return Received(data, (seen["src"], writer.local_addr[1]), ControlMessage(**seen))


def fill(reader: PacketConn, into: list[Message], flags: int = 0) -> None:
    """Read until every message has a datagram."""
    filled = 0
    while filled < len(into):
        filled += reader.read_batch(into[filled:], flags)


def shred(data: bytes, count: int) -> list[bytes]:
    """The same bytes in so many buffers, of which the last may be empty."""
    step = len(data) // count + 1
    return [data[i * step : (i + 1) * step] for i in range(count)]
