"""The ways of moving datagrams that a measurement compares, each as a writer and a reader.

All ways use the same kind of non-blocking socket, and buffers of the same layout (`make_slots`).
`write` and `read` are the timed loops, kept as a careful user would write them; all else happens
outside of the timing. A further way is a further entry of `WAYS`.

Offload is no other program than batches: it is the same loop on a connection whose `gso` or `gro`
is on.
"""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ipv4batch import Message, PacketConn, capabilities

Address = tuple[str, int]

# linux/udp.h; Python's socket has no name for it.
_UDP_GRO = 104

# A cache line: no two slots share one.
_ALIGNMENT = 64


def make_slots(count: int, size: int) -> list[memoryview]:
    """`count` buffers of `size` bytes each on one slab of memory, every page of it touched."""
    stride = -(-size // _ALIGNMENT) * _ALIGNMENT
    # A bytearray made from a length is mapped by the kernel at first use, which would be timed.
    slab = memoryview(bytearray(b"\xff") * (count * stride))
    return [slab[start : start + size] for start in range(0, count * stride, stride)]


class Writer(Protocol):
    """Sends what lies in the slots that it was made with."""

    def write(self, first: int, last: int) -> int:
        """Send slots first to last - 1, in order, until the kernel takes no more; return the
        index of the first slot that was not sent. Raises OSError as `socket` does.
        """


class Reader(Protocol):
    """Receives into the slots that it was made with."""

    def start(self) -> None:
        """Prepare the socket, which all readers share, for a transfer."""

    def stop(self) -> None:
        """Leave the socket as `start` found it."""

    def read(self, first: int, last: int) -> int:
        """Receive what is ready into slots first to last - 1, in order; return the index of the
        first slot that stayed empty. Raises OSError as `socket` does.
        """

    def datagram(self, index: int) -> memoryview:
        """What the last read brought into this slot."""

    def late(self, room: bytearray) -> int:
        """Receive one more datagram, after its burst; return its length. Raises BlockingIOError
        when there is none.
        """


class SocketWriter:
    """One `socket.sendto` a datagram; a batch means nothing to it."""

    def __init__(
        self, sock: socket.socket, slots: Sequence[memoryview], address: Address, batch: int
    ) -> None:
        self._sock = sock
        self._slots = slots
        self._address = address

    def write(self, first: int, last: int) -> int:
        send = self._sock.sendto
        address = self._address
        index = first
        try:
            for slot in self._slots[first:last]:
                send(slot, address)
                index += 1
        except BlockingIOError:
            pass
        return index


class SocketReader:
    """One `socket.recvfrom_into` a datagram; a batch means nothing to it."""

    def __init__(self, sock: socket.socket, slots: Sequence[memoryview], batch: int) -> None:
        self._sock = sock
        self._slots = slots
        self._lengths = [0] * len(slots)

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def read(self, first: int, last: int) -> int:
        receive = self._sock.recvfrom_into
        lengths = self._lengths
        index = first
        try:
            for slot in self._slots[first:last]:
                lengths[index], _ = receive(slot)
                index += 1
        except BlockingIOError:
            pass
        return index

    def datagram(self, index: int) -> memoryview:
        return self._slots[index][: self._lengths[index]]

    def late(self, room: bytearray) -> int:
        return self._sock.recv_into(room)


class BatchWriter:
    """`PacketConn.write_batch` with up to `batch` messages a call."""

    def __init__(
        self, sock: socket.socket, slots: Sequence[memoryview], address: Address, batch: int
    ) -> None:
        self._conn = PacketConn(sock)
        self._messages = [Message(slot, addr=address) for slot in slots]
        self._batch = batch

    def write(self, first: int, last: int) -> int:
        write_batch = self._conn.write_batch
        messages = self._messages
        batch = self._batch
        index = first
        try:
            while index < last:
                index += write_batch(messages[index : min(index + batch, last)])
        except BlockingIOError:
            pass
        return index


class BatchReader:
    """`PacketConn.read_batch` with up to `batch` messages a call."""

    def __init__(self, sock: socket.socket, slots: Sequence[memoryview], batch: int) -> None:
        self._sock = sock
        self._conn = PacketConn(sock)
        self._messages = [Message(slot) for slot in slots]
        self._batch = batch

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def read(self, first: int, last: int) -> int:
        read_batch = self._conn.read_batch
        messages = self._messages
        batch = self._batch
        index = first
        try:
            while index < last:
                index += read_batch(messages[index : min(index + batch, last)])
        except BlockingIOError:
            pass
        return index

    def datagram(self, index: int) -> memoryview:
        return self._messages[index].view

    def late(self, room: bytearray) -> int:
        return self._conn.read_from(room)[0]


class OffloadWriter(BatchWriter):
    """The same with segmentation offload."""

    def __init__(
        self, sock: socket.socket, slots: Sequence[memoryview], address: Address, batch: int
    ) -> None:
        super().__init__(sock, slots, address, batch)
        self._conn.gso = True


class OffloadReader(BatchReader):
    """The same with receive offload, which is an option of the socket."""

    def start(self) -> None:
        self._conn.gro = True

    def stop(self) -> None:
        self._conn.gro = False
        # A connection never takes this back by itself, since coalesced datagrams may still
        # wait in the socket; here none do.
        self._sock.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 0)


@dataclass(frozen=True)
class Way:
    """A way of moving datagrams, as the two sides make it."""

    writer: type[SocketWriter] | type[BatchWriter]
    reader: type[SocketReader] | type[BatchReader]


WAYS = {
    "socket": Way(SocketWriter, SocketReader),
    "batch": Way(BatchWriter, BatchReader),
    "offload": Way(OffloadWriter, OffloadReader),
}
"""The ways by the name that the report, JSON and the two sides use; the first is what the others
are compared with."""


def ways_here() -> list[str]:
    """The names of the ways that this kernel can go, in the order of `WAYS`."""
    kernel = capabilities()
    return [name for name in WAYS if name != "offload" or (kernel["gso"] and kernel["gro"])]
