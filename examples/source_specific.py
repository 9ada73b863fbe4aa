"""Source-specific multicast: hear the sources that you name, or all but those that you name.

Needs CAP_SYS_ADMIN, for a network of its own: a link to a station that has three addresses and
sends to a group from each of them. First the host joins single sources (RFC 4607); then it joins
the group as a whole and shuts sources out and in again (RFC 3678).
"""

import socket
import time

from _namespaces import Namespace

from ipv4batch import ControlMessage, PacketConn

GROUP = "232.1.2.3"
SOURCES = ("192.0.2.2", "192.0.2.3", "192.0.2.4")


def heard(host: PacketConn, station: PacketConn) -> str:
    """Send to the group from every source, and tell which of them arrived."""
    endpoint = (GROUP, host.local_addr[1])
    for source in SOURCES:
        station.write_to(b"news", endpoint, ControlMessage(src=source))
    # Unicast always arrives, and last: it ends the list.
    station.write_to(b"end", ("192.0.2.1", endpoint[1]))

    buffer = bytearray(1500)
    sources = []
    while True:
        n, _, peer = host.read_from(buffer)
        if buffer[:n] == b"end":
            return ", ".join(sources) or "nobody"
        sources.append(peer[0])


def main() -> None:
    with Namespace() as here, Namespace() as there, here.entered():
        here.connect("link", "192.0.2.1", there, "link", SOURCES[0])
        for source in SOURCES[1:]:
            there.add_address("link", source)
        sock = here.socket(socket.SOCK_DGRAM)
        sock.bind(("0.0.0.0", 0))
        with PacketConn(sock) as host, PacketConn(there.socket(socket.SOCK_DGRAM)) as station:
            host.set_deadline(time.monotonic() + 5)
            station.multicast_interface = there.index("link")

            host.join_source_specific_group("link", GROUP, SOURCES[0])
            print("joined one source:", heard(host, station))
            host.join_source_specific_group("link", GROUP, SOURCES[2])
            print("joined another:", heard(host, station))
            host.leave_source_specific_group("link", GROUP, SOURCES[0])
            print("left the first:", heard(host, station))
            host.leave_source_specific_group("link", GROUP, SOURCES[2])
            print("left both:", heard(host, station))

            host.join_group("link", GROUP)
            print("joined the group:", heard(host, station))
            host.exclude_source_specific_group("link", GROUP, SOURCES[1])
            print("shut one out:", heard(host, station))
            host.include_source_specific_group("link", GROUP, SOURCES[1])
            print("let it in again:", heard(host, station))


if __name__ == "__main__":
    main()
