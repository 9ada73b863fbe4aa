"""OSPF-style hello: a packet with an IPv4 header of one's own, over raw sockets (RFC 2328).

Needs CAP_SYS_ADMIN, for a network of its own, and CAP_NET_RAW: two routers on a link. One
multicasts a hello to all OSPF routers, marked as network control and with a TTL of 1, so that it
stays on the link; the other has joined the group and takes the packet apart.
"""

import socket
import struct
import time

from _namespaces import Namespace

from ipv4batch import VERSION, ControlFlags, ControlMessage, Header, RawConn, checksum

OSPF = 89
ALL_SPF_ROUTERS = "224.0.0.5"
NETWORK_CONTROL = 0xC0  # DSCP CS6 (RFC 4594)
HELLO = 1
ROUTER_ID = "192.0.2.1"
AREA = "0.0.0.0"


def hello() -> bytes:
    """An OSPF header of 24 bytes (RFC 2328, A.3.1) and a hello of 20 (A.3.2)."""
    mask, interval, options, priority, dead = "255.255.255.0", 10, 0, 1, 40
    body = struct.pack("!4sHBBI8x", socket.inet_aton(mask), interval, options, priority, dead)
    ids = socket.inet_aton(ROUTER_ID) + socket.inet_aton(AREA)
    start = struct.pack("!BBH", 2, HELLO, 24 + len(body)) + ids
    # The checksum leaves out the 8 bytes of authentication, which this packet has not.
    check = checksum(start + bytes(4) + body)
    return start + struct.pack("!HH", check, 0) + bytes(8) + body


def describe(packet: memoryview) -> str:
    version, kind, length = struct.unpack_from("!BBH", packet)
    assert length == len(packet)
    assert checksum(bytes(packet[:16]) + bytes(packet[24:])) == 0
    router, area = (socket.inet_ntoa(packet[at : at + 4]) for at in (4, 8))
    interval, dead = struct.unpack_from("!H2xI", packet, 28)
    return (
        f"OSPF version {version}, type {kind} from router {router} of area {area}, "
        f"every {interval} s, dead after {dead} s"
    )


def main() -> None:
    with Namespace() as here, Namespace() as there, here.entered():
        here.connect("link", ROUTER_ID, there, "link", "192.0.2.2")
        with (
            RawConn(here.socket(socket.SOCK_RAW, OSPF)) as router,
            RawConn(there.socket(socket.SOCK_RAW, OSPF)) as neighbour,
        ):
            neighbour.join_group(there.index("link"), ALL_SPF_ROUTERS)
            neighbour.set_control_message(ControlFlags.DST | ControlFlags.INTERFACE)
            neighbour.set_deadline(time.monotonic() + 5)

            packet = hello()
            header = Header(
                version=VERSION,
                tos=NETWORK_CONTROL,
                ttl=1,
                protocol=OSPF,
                dst=ALL_SPF_ROUTERS,
            )
            way = ControlMessage(ifindex=here.index("link"))
            print(f"router: sent {router.write_to(header, packet, way)} bytes")

            header, payload, control = neighbour.read_from(bytearray(1500))
            print(f"neighbour: {header}")
            print(f"neighbour: came to {control.dst} from {control.src}")
            print(f"neighbour: {describe(payload)}")


if __name__ == "__main__":
    main()
