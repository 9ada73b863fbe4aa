"""The peers in Python: ipv4batch, socket and asyncio, each as a process that measures itself.

The first argument names one of `PEERS`. It reads a measurement a line, "batch size control offload
bursts burst", and answers with a line of the nanoseconds of each burst's sending and one of its
receiving, as loop.c does. Buffers, addresses and control data are made once, before the clock
starts, where the call that is measured lets its caller do so.
"""

import asyncio
import gc
import itertools
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from processes import Task, ask_for_room

from ipv4batch import ControlFlags, ControlMessage, Message, PacketConn

STRIDE = 2048
SO_TIMESTAMPNS = 35
CONTROL_ROOM = 256
CONTROL = (
    ControlFlags.TTL
    | ControlFlags.TOS
    | ControlFlags.SRC
    | ControlFlags.DST
    | ControlFlags.INTERFACE
    | ControlFlags.TIMESTAMP
)

Address = tuple[str, int]


class Pair(NamedTuple):
    """Two functions that each move a whole burst."""

    send: Callable[[], None]
    receive: Callable[[], None]


def bound() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ask_for_room(sock)
    sock.bind(("127.0.0.1", 0))
    return sock


def slots(count: int, size: int) -> list[memoryview]:
    """Buffers of `size` bytes, as far apart as in the other peers, every page of them touched."""
    slab = memoryview(bytearray(b"\1") * (count * STRIDE))
    return [slab[start : start + size] for start in range(0, count * STRIDE, STRIDE)]


def parts(messages: list[Message], batch: int) -> list[list[Message]]:
    return [messages[start : start + batch] for start in range(0, len(messages), batch)]


def path() -> bytes:
    """What every message is sent with: a TTL, a TOS and a source."""
    return ControlMessage(ttl=9, tos=2, src="127.0.0.1").marshal()


@contextmanager
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    with bound() as receiver, bound() as sender:
        yield receiver, sender


@contextmanager
def ipv4batch_pair(task: Task) -> Iterator[Pair]:
    with sockets() as (receiver_sock, sender_sock):
        receiver, sender = PacketConn(receiver_sock), PacketConn(sender_sock)
        if task.control:
            receiver.set_control_message(CONTROL)
        receiver.gro = sender.gso = bool(task.offload)
        oob = path() if task.control else None
        address = receiver_sock.getsockname()
        outgoing = parts(
            [Message(slot, oob, address) for slot in slots(task.burst, task.size)], task.batch
        )
        incoming = parts(
            [
                Message(slot, bytearray(CONTROL_ROOM) if task.control else None)
                for slot in slots(task.burst, STRIDE)
            ],
            task.batch,
        )

        def send(write_batch: Callable[[list[Message]], int] = sender.write_batch) -> None:
            for messages in outgoing:
                if write_batch(messages) != len(messages):
                    raise RuntimeError("not all were sent")

        def receive(read_batch: Callable[[list[Message]], int] = receiver.read_batch) -> None:
            for messages in incoming:
                if read_batch(messages) != len(messages):
                    raise RuntimeError("not all have come")

        yield Pair(send, receive)


@contextmanager
def sendto_pair(task: Task) -> Iterator[Pair]:
    with sockets() as (receiver_sock, sender_sock):
        address = receiver_sock.getsockname()
        outgoing = slots(task.burst, task.size)
        incoming = slots(task.burst, STRIDE)

        def send(sendto: Callable[..., int] = sender_sock.sendto) -> None:
            for slot in outgoing:
                sendto(slot, address)

        def receive(recvfrom: Callable[..., object] = receiver_sock.recvfrom_into) -> None:
            for slot in incoming:
                recvfrom(slot)

        yield Pair(send, receive)


@contextmanager
def sendmsg_pair(task: Task) -> Iterator[Pair]:
    with sockets() as (receiver_sock, sender_sock):
        room = CONTROL_ROOM if task.control else 0
        if task.control:
            # Python 3.11 has no names for these; the numbers are those of linux/in.h.
            for option in (12, socket.IP_RECVTOS, 8):
                receiver_sock.setsockopt(socket.IPPROTO_IP, option, 1)
            receiver_sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        address = receiver_sock.getsockname()
        outgoing = [[slot] for slot in slots(task.burst, task.size)]
        incoming = [[slot] for slot in slots(task.burst, STRIDE)]
        info = bytes(4) + socket.inet_aton("127.0.0.1") + bytes(4)
        control = [
            (socket.IPPROTO_IP, socket.IP_TTL, (9).to_bytes(4, sys.byteorder)),
            (socket.IPPROTO_IP, socket.IP_TOS, (2).to_bytes(4, sys.byteorder)),
            (socket.IPPROTO_IP, 8, info),
        ]
        ancillary = control if task.control else []

        def send(sendmsg: Callable[..., int] = sender_sock.sendmsg) -> None:
            for buffers in outgoing:
                sendmsg(buffers, ancillary, 0, address)

        def receive(recvmsg: Callable[..., object] = receiver_sock.recvmsg_into) -> None:
            for buffers in incoming:
                recvmsg(buffers, room)

        yield Pair(send, receive)


class Counting(asyncio.DatagramProtocol):
    """Counts what comes, and tells when it is enough."""

    def __init__(self) -> None:
        self.left = 0
        self.done: asyncio.Future[None] | None = None

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.left -= 1
        if self.left == 0 and self.done is not None:
            self.done.set_result(None)


@contextmanager
def asyncio_pair(task: Task) -> Iterator[Pair]:
    with ExitStack() as stack:
        receiver_sock, sender_sock = stack.enter_context(sockets())
        runner = stack.enter_context(asyncio.Runner(loop_factory=loop_factory()))
        loop = runner.get_loop()
        receiver_sock.setblocking(False)
        sender_sock.setblocking(False)
        address = receiver_sock.getsockname()
        receiver, counting = loop.run_until_complete(
            loop.create_datagram_endpoint(Counting, sock=receiver_sock)
        )
        sender, _ = loop.run_until_complete(
            loop.create_datagram_endpoint(Counting, sock=sender_sock)
        )
        outgoing = slots(task.burst, task.size)

        # Nothing is read while the loop does not run, and what is sent goes out at once.
        def send() -> None:
            for slot in outgoing:
                sender.sendto(slot, address)

        async def receive_all() -> None:
            counting.left = task.burst
            counting.done = loop.create_future()
            await counting.done

        yield Pair(send, lambda: loop.run_until_complete(receive_all()))
        receiver.close()
        sender.close()
        loop.run_until_complete(asyncio.sleep(0))


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    if sys.argv[1] == "uvloop":
        import uvloop

        return uvloop.new_event_loop
    return asyncio.new_event_loop


PEERS = {
    "ipv4batch": ipv4batch_pair,
    "sendto": sendto_pair,
    "sendmsg": sendmsg_pair,
    "asyncio": asyncio_pair,
    "uvloop": asyncio_pair,
}


def measure(task: Task) -> tuple[list[int], list[int]]:
    clock = time.perf_counter_ns
    sent, received = [], []
    with PEERS[sys.argv[1]](task) as pair:
        for _ in itertools.repeat(None, task.bursts):
            start = clock()
            pair.send()
            between = clock()
            pair.receive()
            received.append(clock() - between)
            sent.append(between - start)
    return sent, received


def main() -> None:
    # A collection in the middle would be counted against whichever direction it falls on.
    gc.disable()
    for line in sys.stdin:
        for times in measure(Task(*map(int, line.split()))):
            print(*times, flush=True)
        gc.collect()


if __name__ == "__main__":
    main()
