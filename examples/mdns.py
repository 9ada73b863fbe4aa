"""One-shot multicast DNS: ask the link for a name, and answer such a question (RFC 6762, 5.1).

Needs CAP_SYS_ADMIN, for a network of its own: a host on a link with a responder, which has port
5353 there. A question from any other port is a one-shot question: its answer goes back to the
asker alone, by unicast, and repeats the question.
"""

import socket
import struct
import threading
import time

from _namespaces import Namespace

from ipv4batch import ControlFlags, PacketConn

GROUP, PORT = "224.0.0.251", 5353
NAME = "printer.local"
TYPE_A, CLASS_IN = 1, 1
ANSWER_FLAGS = 0x8400  # a response, and an authoritative one
TTL = 10  # seconds; answers to one-shot questions are not to be kept for longer


def encode_name(name: str) -> bytes:
    return b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0"


def question(number: int) -> bytes:
    head = struct.pack("!6H", number, 0, 1, 0, 0, 0)
    return head + encode_name(NAME) + struct.pack("!2H", TYPE_A, CLASS_IN)


def answer_to(query: bytes, address: str) -> bytes:
    number = struct.unpack_from("!H", query)[0]
    head = struct.pack("!6H", number, ANSWER_FLAGS, 1, 1, 0, 0)
    record = struct.pack("!2HIH", TYPE_A, CLASS_IN, TTL, 4) + socket.inet_aton(address)
    return head + query[12:] + encode_name(NAME) + record


def respond(conn: PacketConn, address: str) -> None:
    """Answer one question."""
    buffer = bytearray(9000)
    while True:
        n, control, asker = conn.read_from(buffer)
        query = bytes(buffer[:n])
        # The port is open to unicast and to other groups too: only the group's datagrams count.
        if control.dst == GROUP and query == question(struct.unpack_from("!H", query)[0]):
            print(f"responder: a question for {NAME} to {control.dst}")
            conn.write_to(answer_to(query, address), asker)
            return


def ask(conn: PacketConn) -> None:
    conn.multicast_interface = "link"
    conn.write_to(question(0xBEEF), (GROUP, PORT))
    buffer = bytearray(9000)
    n, _, responder = conn.read_from(buffer)
    number, flags, _, answers = struct.unpack_from("!4H", buffer)
    assert (number, flags, answers) == (0xBEEF, ANSWER_FLAGS, 1)
    print(f"host: {NAME} is {socket.inet_ntoa(buffer[n - 4 : n])}, says {responder[0]}")


def main() -> None:
    with Namespace() as here, Namespace() as there, here.entered():
        here.connect("link", "192.0.2.1", there, "link", "192.0.2.2")
        sock = there.socket(socket.SOCK_DGRAM)
        sock.bind(("0.0.0.0", PORT))
        with PacketConn(sock) as there_conn, PacketConn(here.socket(socket.SOCK_DGRAM)) as conn:
            there_conn.set_control_message(ControlFlags.DST)
            there_conn.join_group(there.index("link"), GROUP)
            for each in (there_conn, conn):
                each.set_deadline(time.monotonic() + 5)
            responder = threading.Thread(target=respond, args=(there_conn, "192.0.2.2"))
            responder.start()
            ask(conn)
            responder.join()


if __name__ == "__main__":
    main()
