"""Multicast on two links: join groups, tell them apart, and choose where to send.

Needs CAP_SYS_ADMIN, for a network of its own: a host with two links, "left" and "right", to a
station. The host joins one group on each. It hears each group on its link only, and the control
message says on which link and to which group a datagram came. Then the host sends to the group
of its left link, with a TTL that lets the datagram cross two routers.
"""

import socket
import time

from _namespaces import Namespace

from ipv4batch import ControlFlags, ControlMessage, PacketConn

GROUPS = {"left": "239.1.2.3", "right": "239.4.5.6"}


def open_udp(place: Namespace) -> PacketConn:
    sock = place.socket(socket.SOCK_DGRAM)
    sock.bind(("0.0.0.0", 0))
    conn = PacketConn(sock)
    conn.multicast_all = False  # nothing of groups that only other sockets have joined
    conn.set_control_message(ControlFlags.TTL | ControlFlags.DST | ControlFlags.INTERFACE)
    conn.set_deadline(time.monotonic() + 5)
    return conn


def host_hears(host: PacketConn, station: PacketConn, links: dict[str, int]) -> None:
    """The station sends to each group on each link, and two of the four arrive."""
    buffer = bytearray(1500)
    for link, group in GROUPS.items():
        host.join_group(link, group)
    for index in links.values():
        for group in GROUPS.values():
            endpoint = (group, host.local_addr[1])
            station.write_to(f"to {group}".encode(), endpoint, ControlMessage(ifindex=index))
    for _ in GROUPS:
        n, control, peer = host.read_from(buffer)
        print(
            f"host: {buffer[:n].decode()!r} on {socket.if_indextoname(control.ifindex)} "
            f"for {control.dst} from {peer[0]}, ttl {control.ttl}"
        )


def host_speaks(host: PacketConn, station: PacketConn, links: dict[str, int]) -> None:
    """The host sends by the left link, and does not hear itself."""
    buffer = bytearray(1500)
    station.join_group(links["left"], GROUPS["left"])
    host.multicast_interface = "left"
    host.multicast_ttl = 3
    host.multicast_loopback = False
    host.write_to(b"hello", (GROUPS["left"], station.local_addr[1]))
    n, control, peer = station.read_from(buffer)
    print(f"station: {buffer[:n].decode()!r} from {peer[0]}, ttl {control.ttl}")


def main() -> None:
    with Namespace() as here, Namespace() as there, here.entered():
        here.connect("left", "192.0.2.1", there, "left", "192.0.2.2")
        here.connect("right", "198.51.100.1", there, "right", "198.51.100.2")
        links = {link: there.index(link) for link in GROUPS}  # the station's numbers of them
        with open_udp(here) as host, open_udp(there) as station:
            host_hears(host, station, links)
            host_speaks(host, station, links)


if __name__ == "__main__":
    main()
