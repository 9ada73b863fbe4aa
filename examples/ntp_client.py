"""An NTP client whose times of departure and arrival are the kernel's (RFC 5905).

It needs no privilege, and a kernel that tells departure times (Linux 6.13). The server is a thread
on loopback, so that no packet leaves the host. A clock that is read in Python is read before the
request has left and after the answer has come, and what lies between counts as the network's. With
tx_timestamps and TIMESTAMP it does not, so the offset of the clocks is known more exactly.

Run it: python examples/ntp_client.py
"""

import socket
import struct
import sys
import threading
import time

from ipv4batch import (
    ControlFlags,
    Message,
    PacketConn,
    TimestampKind,
    capabilities,
    new_messages,
)

FORMAT = struct.Struct("!BBbb11I")
"""Flags, stratum, poll and precision; delay, dispersion, reference; and four times."""

EPOCH = 2_208_988_800
"""Seconds from 1900, where NTP's clock starts, to 1970."""

CLIENT, SERVER = 0o43, 0o44  # version 4, mode 3 and 4


def to_ntp(ns: int) -> tuple[int, int]:
    """Seconds and their fraction in 2**32 parts."""
    seconds, rest = divmod(ns, 1_000_000_000)
    return (seconds + EPOCH) & 0xFFFFFFFF, (rest << 32) // 1_000_000_000


def from_ntp(seconds: int, fraction: int) -> int:
    return (seconds - EPOCH) * 1_000_000_000 + (fraction * 1_000_000_000 >> 32)


def open_udp() -> PacketConn:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.settimeout(2)
    conn = PacketConn(sock)
    conn.set_control_message(ControlFlags.TIMESTAMP)
    return conn


def arrival(message: Message) -> int:
    """When the kernel got a datagram, in ns."""
    control = message.control_message()
    assert control is not None
    return control.timestamp_ns or 0


def serve_one(conn: PacketConn) -> None:
    """Answer one request: stratum 1, no delay."""
    (request,) = messages = new_messages(1, FORMAT.size, ControlFlags.TIMESTAMP)
    conn.read_batch(messages)
    asked = FORMAT.unpack(request.data)
    times = (*asked[-2:], *to_ntp(arrival(request)), *to_ntp(time.time_ns()))
    conn.write_to(FORMAT.pack(SERVER, 1, 0, -20, 0, 0, 0, 0, 0, *times), request.addr)


def ask(conn: PacketConn, server: tuple[str, int]) -> tuple[int, int]:
    """The server's clock less ours, and the round trip, in ns."""
    conn.tx_timestamps = TimestampKind.SOFTWARE
    blank = FORMAT.pack(CLIENT, 0, 0, -20, *[0] * 9, *to_ntp(time.time_ns()))
    conn.write_all([Message(blank, addr=server)])
    (answer,) = messages = new_messages(1, FORMAT.size, ControlFlags.TIMESTAMP)
    conn.read_batch(messages)
    *_, came, came_fraction, left, left_fraction = FORMAT.unpack(answer.data)
    (departure,) = conn.read_tx_timestamps(wait=True)
    t1, t2 = departure.ns, from_ntp(came, came_fraction)
    t3, t4 = from_ntp(left, left_fraction), arrival(answer)
    return ((t2 - t1) + (t3 - t4)) // 2, (t4 - t1) - (t3 - t2)


def main() -> None:
    if not capabilities()["tx_timestamps"]:
        print("ntp_client.py: needs Linux 6.13, for departure times", file=sys.stderr)
        sys.exit(77)
    with open_udp() as server, open_udp() as client:
        serving = threading.Thread(target=serve_one, args=(server,))
        serving.start()
        offset, trip = ask(client, server.local_addr)
        serving.join()
    print(f"the clocks differ by {abs(offset) / 1e6:.3f} ms")
    print(f"round trip {trip / 1e6:.3f} ms")


if __name__ == "__main__":
    main()
