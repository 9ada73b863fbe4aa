"""Multipath: one batch leaves by three links, and each datagram says by which one it came.

Needs CAP_SYS_ADMIN, for a network of its own: a host and a station with three links between them.
Every message of the batch carries the number of its link, its interface, in its control data. The
station reads them all from one socket, and learns from the control data that the kernel delivers
on which link a datagram came (INTERFACE), to which of its addresses (DST), and when (TIMESTAMP).

Run it as root: python examples/multipath.py
"""

import socket
import time

from _namespaces import Namespace

from ipv4batch import ControlFlags, ControlMessage, Message, PacketConn, new_messages

LINKS = {
    "fibre": ("192.0.2.1", "192.0.2.2"),
    "copper": ("198.51.100.1", "198.51.100.2"),
    "radio": ("203.0.113.1", "203.0.113.2"),
}
"""The host's and the station's address on each of them."""

CONTROL = ControlFlags.INTERFACE | ControlFlags.DST | ControlFlags.TIMESTAMP
ROUNDS = 2


def open_udp(place: Namespace) -> PacketConn:
    sock = place.socket(socket.SOCK_DGRAM)
    sock.bind(("0.0.0.0", 0))
    conn = PacketConn(sock)
    conn.set_deadline(time.monotonic() + 5)
    return conn


def compose(here: Namespace, port: int) -> list[Message]:
    """One datagram for each link, and once more."""
    batch = []
    for link, (_, address) in list(LINKS.items()) * ROUNDS:
        by_this_link = ControlMessage(ifindex=here.index(link)).marshal()
        batch.append(Message(f"{len(batch)} by {link}".encode(), by_this_link, (address, port)))
    return batch


def read(conn: PacketConn, count: int) -> list[Message]:
    messages = new_messages(count, 1500, CONTROL)
    done = 0
    while done < count:
        done += conn.read_batch(messages[done:])
    return messages


def main() -> None:
    with Namespace() as here, Namespace() as there:
        for link, (ours, theirs) in LINKS.items():
            here.connect(link, ours, there, link, theirs)
        links = {there.index(link): link for link in LINKS}  # by the station's numbers
        with open_udp(here) as host, open_udp(there) as station:
            station.set_control_message(CONTROL)
            batch = compose(here, station.local_addr[1])
            started = time.time_ns()
            written = host.write_all(batch)
            # Links do not keep the order among each other, so it is restored.
            for message in sorted(read(station, written), key=lambda message: message.data):
                control = message.control_message()
                print(
                    f"{message.data.decode()!r} came on {links[control.ifindex]} to {control.dst} "
                    f"after {(control.timestamp_ns - started) / 1e6:.3f} ms"
                )


if __name__ == "__main__":
    main()
