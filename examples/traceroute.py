"""Traceroute: one batch of datagrams, one for each TTL, finds all routers of a path at once.

Needs CAP_SYS_ADMIN, for a network of its own: a host, two routers and a server in a row. No raw
socket is needed, as it is for traceroute_icmp.py: with recv_errors the kernel keeps what the ICMP
messages say in a queue of the socket, and read_errors takes it from there. Each message of the
batch has a TTL of its own and carries it, too, and the ICMP message quotes that.

Run it as root: python examples/traceroute.py
"""

import errno
import socket
import time

from _namespaces import FAR_SERVER, two_routers

from ipv4batch import ControlMessage, ICMPType, Message, PacketConn, QueuedError

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
        Message(b"%d" % hop, ControlMessage(ttl=hop).marshal(), (FAR_SERVER, UNUSED_PORT))
        for hop in range(1, MOST_HOPS + 1)
    ]
    conn.recv_errors = True
    conn.set_deadline(time.monotonic() + 3)
    print(f"{conn.write_all(batch)} datagrams to {FAR_SERVER}")
    for hop, error in read_answers(conn).items():
        print(f"{hop}: {error.offender}, {ICMPType(error.icmp_type)}, code {error.icmp_code}")


def main() -> None:
    with two_routers() as host, PacketConn(host.socket(socket.SOCK_DGRAM)) as conn:
        trace(conn)


if __name__ == "__main__":
    main()
