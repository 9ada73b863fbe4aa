"""Traceroute: echo requests with a growing TTL find the routers on the way (RFC 792).

Needs CAP_SYS_ADMIN, for a network of its own, and CAP_NET_RAW: a host, two routers and a server
in a row. A router that a packet's TTL does not suffice to pass drops it, and says so in an ICMP
message from its own address. traceroute.py does the same with one batch and no raw socket.

Run it as root: python examples/traceroute_icmp.py
"""

import socket
import struct
import time

from _namespaces import FAR_SERVER, two_routers

from ipv4batch import ControlFlags, ICMPFilter, ICMPType, PacketConn, checksum, parse_header

IDENTIFIER = 0x4B42
MOST_HOPS = 30


def echo_request(sequence: int) -> bytes:
    header = struct.pack("!BBHHH", ICMPType.ECHO, 0, 0, IDENTIFIER, sequence)
    payload = b"HELLO-R-U-THERE"
    return header[:2] + struct.pack("!H", checksum(header + payload)) + header[4:] + payload


def answers(packet: bytes, sequence: int) -> bool:
    """Whether an ICMP message is the answer to our request of this number."""
    if packet[0] == ICMPType.TIME_EXCEEDED:
        # It quotes the IPv4 header and the start of the packet that was dropped.
        packet = packet[8 + parse_header(packet[8:]).len :]
    return struct.unpack_from("!HH", packet, 4) == (IDENTIFIER, sequence)


def read_answer(conn: PacketConn, sequence: int) -> ICMPType:
    """Wait for the answer to a request, print who gave it, and return its type."""
    buffer = bytearray(1500)
    while True:
        n, control, peer = conn.read_from(buffer)
        if answers(bytes(buffer[:n]), sequence):
            kind = ICMPType(buffer[0])
            print(f"{sequence}: {peer[0]}, {kind}, came back with ttl {control.ttl}")
            return kind


def trace(conn: PacketConn) -> None:
    only = ICMPFilter()
    only.set_all(True)
    only.accept(ICMPType.TIME_EXCEEDED)
    only.accept(ICMPType.ECHO_REPLY)
    conn.icmp_filter = only
    conn.set_control_message(ControlFlags.TTL)

    for hop in range(1, MOST_HOPS + 1):
        conn.ttl = hop
        conn.write_to(echo_request(hop), (FAR_SERVER, 0))
        conn.set_read_deadline(time.monotonic() + 3)
        try:
            if read_answer(conn, hop) == ICMPType.ECHO_REPLY:
                return
        except TimeoutError:
            print(f"{hop}: no answer")


def main() -> None:
    with (
        two_routers() as host,
        PacketConn(host.socket(socket.SOCK_RAW, socket.IPPROTO_ICMP)) as conn,
    ):
        trace(conn)


if __name__ == "__main__":
    main()
