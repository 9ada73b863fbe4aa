"""One-way delay and jitter of a link, by the kernel's times at both ends (RFC 7679, RFC 3393).

Needs CAP_SYS_ADMIN, for a network of its own: two hosts with a link between them. The sender's
datagrams leave on a schedule, one each millisecond (write_paced), and the kernel tells when each
went to the device (tx_timestamps). The receiver's kernel tells when each came (TIMESTAMP). Both
use one clock here; between two machines the clocks have to be kept together, by PTP or by NTP.

Run it as root: python examples/one_way_delay.py
"""

import itertools
import socket
import statistics

from _namespaces import Namespace, skip

from ipv4batch import (
    ControlFlags,
    Message,
    PacketConn,
    TimestampKind,
    capabilities,
    new_messages,
)

SENDER, RECEIVER = "192.0.2.1", "192.0.2.2"
COUNT = 100
INTERVAL_NS = 1_000_000


def open_udp(place: Namespace, host: str) -> PacketConn:
    sock = place.socket(socket.SOCK_DGRAM)
    sock.bind((host, 0))
    sock.settimeout(5)
    return PacketConn(sock)


def departures(conn: PacketConn, messages: list[Message]) -> list[int]:
    """When each message left, in ns."""
    left: dict[int, int] = {}
    while len(left) < len(messages):
        left |= {stamp.tx_id: stamp.ns for stamp in conn.read_tx_timestamps(wait=True)}
    return [left[message.tx_id or 0] for message in messages]


def arrivals(conn: PacketConn) -> dict[int, int]:
    """When each datagram came, in ns, by its number."""
    came: dict[int, int] = {}
    into = new_messages(64, 64, ControlFlags.TIMESTAMP)
    while len(came) < COUNT:
        for message in into[: conn.read_batch(into)]:
            control = message.control_message()
            if control is not None:
                came[int.from_bytes(message.data)] = control.timestamp_ns or 0
    return came


def main() -> None:
    if not capabilities()["tx_timestamps"]:
        skip("needs Linux 6.13, for departure times")
    with Namespace() as here, Namespace() as there:
        here.connect("link", SENDER, there, "link", RECEIVER)
        with open_udp(here, SENDER) as sender, open_udp(there, RECEIVER) as receiver:
            receiver.set_control_message(ControlFlags.TIMESTAMP)
            sender.tx_timestamps = TimestampKind.SOFTWARE
            messages = [Message(i.to_bytes(2), addr=receiver.local_addr) for i in range(COUNT)]
            sender.write_paced(messages, INTERVAL_NS)
            left, came = departures(sender, messages), arrivals(receiver)
    delays = [(came[number] - at) / 1e6 for number, at in enumerate(left)]
    # Between one datagram and the next, as RFC 3393 has it.
    jitter = [abs(b - a) for a, b in itertools.pairwise(delays)]
    print(f"{len(delays)} datagrams of {COUNT}")
    print(f"one-way delay: median {statistics.median(delays):.3f} ms, most {max(delays):.3f} ms")
    print(f"jitter: median {statistics.median(jitter):.3f} ms, most {max(jitter):.3f} ms")
    if min(delays) < 0:
        raise RuntimeError("a datagram came before it had left")


if __name__ == "__main__":
    main()
