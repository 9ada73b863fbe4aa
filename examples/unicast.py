"""Unicast over UDP and TCP on loopback: set and see the TTL and the type of service.

Takes no privileges. A datagram goes from one UDP socket to another and is answered; each side
sees with which TTL, from where and to where it came. Then a TCP connection is marked, which is
all that IPv4 offers to a stream.
"""

import socket
import time

from ipv4batch import Conn, ControlFlags, ControlMessage, PacketConn

AF11 = 0x28
"""Assured forwarding, class 1 (RFC 2597), where IPv4 has the type of service."""


def open_udp(host: str) -> PacketConn:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    conn = PacketConn(sock)
    conn.set_control_message(ControlFlags.TTL | ControlFlags.SRC | ControlFlags.DST)
    conn.set_deadline(time.monotonic() + 5)
    return conn


def udp() -> None:
    buffer = bytearray(1500)
    with open_udp("0.0.0.0") as server, open_udp("127.0.0.1") as client:
        client.ttl = 12
        client.write_to(b"ping", ("127.0.0.2", server.local_addr[1]))

        n, control, peer = server.read_from(buffer)
        print(f"server: {bytes(buffer[:n])} with {control}")

        # The answer comes from the address that was asked, whichever the server has besides.
        answer = ControlMessage(ttl=34, src=control.dst)
        server.write_to(b"pong", peer, answer)

        n, control, peer = client.read_from(buffer)
        print(f"client: {bytes(buffer[:n])} with {control}")


def tcp() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), timeout=5)
        server, _ = listener.accept()
        with client, Conn(server) as conn:
            conn.tos = AF11
            conn.ttl = 56
            server.sendall(b"marked")
            print(f"tcp: {client.recv(100)} sent with tos=0x{conn.tos:x} ttl={conn.ttl}")


if __name__ == "__main__":
    udp()
    tcp()
