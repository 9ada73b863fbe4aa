"""Explicit congestion notification: marks go out, are counted at the other side and echoed back.

Takes no privileges; everything is on loopback. The sender marks every datagram of a batch as
ECN-capable, but each fourth as one that met congestion, as a router with a long queue would
(RFC 3168). The receiver counts the marks that the control data shows and answers with the
counts, as the transports QUIC and RTP do (RFC 9000, RFC 6679), so that the sender can slow down.

Run it: python examples/ecn.py
"""

import socket
import struct
import time
from collections import Counter

from ipv4batch import ECN, ControlFlags, ControlMessage, Message, PacketConn, new_messages

COUNTS = struct.Struct("!4I")
"""The answer: how many datagrams came with each of the four marks."""

DATAGRAMS = 32


def open_udp() -> PacketConn:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    conn = PacketConn(sock)
    conn.set_deadline(time.monotonic() + 5)
    return conn


def with_mark(mark: ECN) -> bytes:
    control = ControlMessage()
    control.ecn = mark
    return control.marshal()


def describe(counts: "Counter[int]") -> str:
    return ", ".join(f"{mark.name} {counts[mark]}" for mark in ECN)


def receive(conn: PacketConn) -> None:
    """Count the marks of what comes, and tell whoever sent it."""
    conn.set_control_message(ControlFlags.TOS)
    messages = new_messages(DATAGRAMS, 1500, ControlFlags.TOS)
    counts: Counter[int] = Counter()
    while counts.total() < DATAGRAMS:
        arrived = messages[: conn.read_batch(messages)]
        counts.update(message.control_message().ecn for message in arrived)
    print(f"receiver: {describe(counts)}")
    conn.write_all([arrived[0].reply(COUNTS.pack(*(counts[mark] for mark in ECN)))])


def main() -> None:
    with open_udp() as sender, open_udp() as receiver:
        capable, congested = with_mark(ECN.ECT_0), with_mark(ECN.CE)
        sender.write_all(
            [
                Message(b"data", congested if number % 4 == 3 else capable, receiver.local_addr)
                for number in range(DATAGRAMS)
            ]
        )
        receive(receiver)

        answer = bytearray(COUNTS.size)
        sender.read_from(answer)
        echoed = Counter(dict(zip(ECN, COUNTS.unpack(answer), strict=True)))
        print(f"sender: {describe(echoed)}")
        print(f"sender: {echoed[ECN.CE] / echoed.total():.0%} met congestion")


if __name__ == "__main__":
    main()
