"""Tracepath: one batch of datagrams, one for each TTL, finds all routers of a path at once.

Needs CAP_SYS_ADMIN, for a network of its own: a host, two routers and a server in a row. No raw
socket is needed, as it is for traceroute.py: with recv_errors the kernel keeps what the ICMP
messages say in a queue of the socket, and read_errors takes it from there. Each message of the
batch has a TTL of its own and carries it, too, and the ICMP message quotes that.

Run it as root: python examples/tracepath.py
"""

import errno
import socket
import time

from _namespaces import Namespace

from ipv4batch import ControlMessage, ICMPType, Message, PacketConn, QueuedError

SERVER = "203.0.113.2"
UNUSED_PORT = 33434  # where traceroute(8) begins, since nobody listens there
MOST_HOPS = 30


def read_answers(conn: PacketConn) -> dict[int, QueuedError]:
    """The first answer to each hop's datagram, until nothing is missing on the way."""
    answers: dict[int, QueuedError] = {}
    end = MOST_HOPS
    while not all(hop in answers for hop in range(1, end + 1)):
        try:
            errors = conn.read_errors(wait=True)
        except TimeoutError:
            break
        for error in errors:
            hop = int(error.data)
            answers.setdefault(hop, error)
            if error.errno == errno.ECONNREFUSED:  # the server itself
                end = min(end, hop)
    return {hop: answers[hop] for hop in sorted(answers) if hop <= end}


def trace(conn: PacketConn) -> None:
    batch = [
        Message(b"%d" % hop, ControlMessage(ttl=hop).marshal(), (SERVER, UNUSED_PORT))
        for hop in range(1, MOST_HOPS + 1)
    ]
    conn.recv_errors = True
    conn.set_deadline(time.monotonic() + 3)
    print(f"{conn.write_all(batch)} datagrams to {SERVER}")
    for hop, error in read_answers(conn).items():
        print(f"{hop}: {error.offender}, {ICMPType(error.icmp_type)}, code {error.icmp_code}")


def main() -> None:
    with Namespace() as host, Namespace() as near, Namespace() as far, Namespace() as server:
        host.connect("link", "192.0.2.1", near, "inner", "192.0.2.2")
        near.connect("outer", "198.51.100.1", far, "inner", "198.51.100.2")
        far.connect("outer", "203.0.113.1", server, "link", SERVER)
        near.forward()
        far.forward()
        host.add_route("203.0.113.0/24", "192.0.2.2")
        host.add_route("198.51.100.0/24", "192.0.2.2")
        near.add_route("203.0.113.0/24", "198.51.100.2")
        far.add_route("192.0.2.0/24", "198.51.100.1")
        server.add_route("192.0.2.0/24", "203.0.113.1")

        with PacketConn(host.socket(socket.SOCK_DGRAM)) as conn:
            trace(conn)


if __name__ == "__main__":
    main()
