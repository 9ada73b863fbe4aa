"""What benchmarks/instructions.py counts: run under callgrind, which dumps at each mark.

Every row is a function that does its work so many times. It is called with two numbers; the
difference of the two counts is free of all that does not depend on the number. What is left is the
call with the turn of the loop around it.
"""

import gc
import itertools
import socket
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ipv4batch import (
    ControlFlags,
    ControlMessage,
    Header,
    Message,
    PacketConn,
    capabilities,
    new_messages,
)

FEW, MANY = 40, 240
BATCHES = (1, 8, 64)
SIZE = 64
CONTROL = ControlFlags.TTL | ControlFlags.SRC | ControlFlags.DST | ControlFlags.INTERFACE


class Row(NamedTuple):
    """`work(n)` does something n times, for so many messages each time."""

    name: str
    messages: int
    work: Callable[[int], None]
    without: str | None = None
    """The name of a row that is part of this one, and is taken off."""


def mark() -> None:
    """Where callgrind dumps, because this calls the function that it watches."""
    capabilities()


def batch_rows(receiving: socket.socket, sending: socket.socket, control: bool) -> Iterator[Row]:
    reader, writer = PacketConn(receiving), PacketConn(sending)
    flags = CONTROL if control else ControlFlags(0)
    oob = ControlMessage(ttl=9, src="127.0.0.1").marshal() if control else None
    title = ", TTL and PKTINFO" if control else ""
    reader.set_control_message(CONTROL, control)
    for batch in BATCHES:
        outgoing = [Message(bytes(SIZE), oob, receiving.getsockname()) for _ in range(batch)]
        incoming = new_messages(batch, SIZE, flags)

        def write(times: int, messages: list[Message] = outgoing) -> None:
            call = writer.write_batch
            for _ in itertools.repeat(None, times):
                call(messages)

        def write_and_read(
            times: int, messages: list[Message] = outgoing, into: list[Message] = incoming
        ) -> None:
            send, receive = writer.write_batch, reader.read_batch
            for _ in itertools.repeat(None, times):
                send(messages)
                receive(into)

        written = f"write_batch of {batch}{title}"
        yield Row(f"read_batch of {batch}{title}", batch, write_and_read, without=written)
        yield Row(written, batch, write)
        # What the last row has left there would be read by the next one.
        while True:
            try:
                receiving.recv(SIZE, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break


def offload_rows(receiving: socket.socket, sending: socket.socket) -> Iterator[Row]:
    """Lists that are planned for offload: to one peer, and to two that take turns."""
    writer = PacketConn(sending)
    try:
        writer.gso = True  # capabilities() would tell too, but is the mark
    except OSError:
        return
    addr = receiving.getsockname()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        for title, peers in (("", [addr, addr]), (", two peers", [addr, other.getsockname()])):
            outgoing = [Message(bytes(SIZE), None, peers[k % 2]) for k in range(64)]

            def write(times: int, messages: list[Message] = outgoing) -> None:
                call = writer.write_all
                for _ in itertools.repeat(None, times):
                    call(messages)

            writer.gso = False
            yield Row(f"write_all of 64{title}", 64, write)
            writer.gso = True
            yield Row(f"write_all of 64, gso{title}", 64, write)
    writer.gso = False


def message_rows(receiving: socket.socket, sending: socket.socket) -> Iterator[Row]:
    """What is asked of a received message, and messages that are made."""
    reader, writer = PacketConn(receiving), PacketConn(sending)
    reader.set_control_message(CONTROL)
    writer.write_to(bytes(1200), receiving.getsockname())
    messages = new_messages(1, 1200, CONTROL)
    reader.read_batch(messages)
    (message,) = messages
    into = ControlMessage()
    payload, peer, kept = bytes(1200), message.addr, Message()

    def data(times: int) -> None:
        for _ in itertools.repeat(None, times):
            message.data  # noqa: B018

    def addr(times: int) -> None:
        for _ in itertools.repeat(None, times):
            message.addr  # noqa: B018

    def control(times: int) -> None:
        for _ in itertools.repeat(None, times):
            message.control_message()

    def control_into(times: int) -> None:
        for _ in itertools.repeat(None, times):
            message.control_message(into)

    def make(times: int) -> None:
        for _ in itertools.repeat(None, times):
            Message(payload, addr=peer)

    def reply(times: int) -> None:
        for _ in itertools.repeat(None, times):
            message.reply(payload)

    def set_buffers(times: int) -> None:
        for _ in itertools.repeat(None, times):
            kept.buffers = payload

    def set_addr(times: int) -> None:
        for _ in itertools.repeat(None, times):
            kept.addr = peer

    yield Row("Message(data, addr=a)", 1, make)
    yield Row("Message.reply(data)", 1, reply)
    yield Row("Message.buffers = data", 1, set_buffers)
    yield Row("Message.addr = a", 1, set_addr)
    yield Row("Message.data, 1200 bytes", 1, data)
    yield Row("Message.addr", 1, addr)
    yield Row("Message.control_message()", 1, control)
    yield Row("Message.control_message(into)", 1, control_into)


def codec_rows() -> Iterator[Row]:
    header = Header(ttl=64, protocol=17, src="172.16.254.254", dst="192.168.0.1")
    control = ControlMessage(ttl=64, src="127.0.0.1", ifindex=1)
    for name, value in (("Header", header), ("ControlMessage", control)):
        data = value.marshal()

        def parse(times: int, call: Callable[[bytes], None] = value.parse, b: bytes = data) -> None:
            for _ in itertools.repeat(None, times):
                call(b)

        def marshal(times: int, call: Callable[[], bytes] = value.marshal) -> None:
            for _ in itertools.repeat(None, times):
                call()

        yield Row(f"{name}.parse", 1, parse)
        yield Row(f"{name}.marshal", 1, marshal)


def rows() -> Iterator[Row]:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiving,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending,
    ):
        receiving.bind(("127.0.0.1", 0))
        for control in (False, True):
            yield from batch_rows(receiving, sending, control)
        yield from offload_rows(receiving, sending)
        yield from message_rows(receiving, sending)
        yield from codec_rows()


def main() -> None:
    gc.disable()
    for row in rows():
        # The first times are dearer: caches fill, and the interpreter specialises.
        row.work(MANY)
        mark()
        row.work(FEW)
        mark()
        row.work(MANY)
        mark()
        print(row.name, row.messages, row.without or "", sep="\t", flush=True)


if __name__ == "__main__":
    main()
