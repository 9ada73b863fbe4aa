"""Ping sweep: one batch of echo requests asks many hosts at once who is there (RFC 792).

Needs CAP_NET_RAW, for raw ICMP sockets. It asks 64 addresses of this host's own, so no packet
leaves it. Python's clock would measure how long the program took to write the batch and to come
back to it. Here the kernel tells when each request left (tx_timestamps) and when each answer came
(TIMESTAMP), so a round trip is the network's alone.

Run it as root: python examples/ping_sweep.py
"""

import os
import socket
import statistics
import struct
import sys

from ipv4batch import (
    ControlFlags,
    ICMPFilter,
    ICMPType,
    Message,
    PacketConn,
    TimestampKind,
    capabilities,
    checksum,
    new_messages,
    parse_header,
)

HOSTS = [f"127.77.0.{number}" for number in range(1, 65)]
IDENTIFIER = os.getpid() & 0xFFFF


def open_icmp() -> PacketConn:
    if not capabilities()["tx_timestamps"]:
        print("ping_sweep.py: needs Linux 6.13, for departure times", file=sys.stderr)
        sys.exit(77)
    try:
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    except PermissionError:
        print("ping_sweep.py: needs CAP_NET_RAW, for raw sockets; run it as root", file=sys.stderr)
        sys.exit(77)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)  # for answers and times
    sock.settimeout(2)
    conn = PacketConn(sock)
    only = ICMPFilter()
    only.set_all(True)
    only.accept(ICMPType.ECHO_REPLY)
    conn.icmp_filter = only
    conn.set_control_message(ControlFlags.TIMESTAMP)
    conn.tx_timestamps = TimestampKind.SOFTWARE
    return conn


def echo_request(sequence: int) -> bytes:
    header = struct.pack("!BBHHH", ICMPType.ECHO, 0, 0, IDENTIFIER, sequence)
    return header[:2] + struct.pack("!H", checksum(header)) + header[4:]


def departures(conn: PacketConn, requests: list[Message]) -> list[int]:
    """When each request left, in ns."""
    left: dict[int, int] = {}
    while len(left) < len(requests):
        left |= {stamp.tx_id: stamp.ns for stamp in conn.read_tx_timestamps(wait=True)}
    return [left[request.tx_id or 0] for request in requests]


def arrivals(conn: PacketConn) -> dict[int, int]:
    """When the answer to each request came, in ns, until no more come."""
    came: dict[int, int] = {}
    messages = new_messages(len(HOSTS), 128, ControlFlags.TIMESTAMP)
    try:
        while len(came) < len(HOSTS):
            for message in messages[: conn.read_batch(messages)]:
                # A raw socket's batch has whole packets, the IPv4 header among them.
                icmp = message.data[parse_header(message.data).len :]
                identifier, sequence = struct.unpack_from("!HH", icmp, 4)
                control = message.control_message()
                if identifier == IDENTIFIER and control is not None:
                    came[sequence] = control.timestamp_ns or 0
    except TimeoutError:
        pass
    return came


def main() -> None:
    with open_icmp() as conn:
        requests = [Message(echo_request(i), addr=(host, 0)) for i, host in enumerate(HOSTS)]
        print(f"{conn.write_all(requests)} requests in one batch")
        left, came = departures(conn, requests), arrivals(conn)
    print(f"{len(came)} of {len(HOSTS)} hosts answer")
    trips = [(at - left[sequence]) / 1e6 for sequence, at in came.items()]
    print(f"round trip: median {statistics.median(trips):.3f} ms, most {max(trips):.3f} ms")
    if min(trips) < 0:
        raise RuntimeError("an answer came before its request had left")


if __name__ == "__main__":
    main()
