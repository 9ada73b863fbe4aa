"""A load generator: datagrams at a fixed rate, whatever the receiver does with them.

It needs no privilege: both ends are on loopback. Such an open loop does not wait for answers, so
a slow receiver shows as loss, not as a lower load. write_paced keeps an absolute schedule without
the GIL; with gso a burst goes to the kernel as one. Each message tells how late it went (late_ns),
so you know whether the generator kept its own promise.

Run it: python examples/load_generator.py
"""

import socket
import statistics
import threading

from ipv4batch import Message, PacketConn, new_messages

RATE = 5_000
"""Datagrams a second."""
BURST = 10
COUNT = 1_000
SIZE = 200


class Receiver(threading.Thread):
    """Counts what arrives, until nothing more comes."""

    def __init__(self) -> None:
        super().__init__()
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)  # as much as the host allows
        self.conn = PacketConn(sock)
        self.conn.gro = True
        self.numbers: list[int] = []

    def run(self) -> None:
        messages = new_messages(256, SIZE)
        with self.conn:
            while len(self.numbers) < COUNT:
                try:
                    count = self.conn.read_batch(messages)
                except TimeoutError:
                    return
                self.numbers += [int.from_bytes(m.view[:4]) for m in messages[:count]]


def main() -> None:
    receiver = Receiver()
    addr = receiver.conn.local_addr
    receiver.start()
    with PacketConn(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sender:
        sender.gso = True
        load = [Message(i.to_bytes(4) + bytes(SIZE - 4), addr=addr) for i in range(COUNT)]
        sent = sender.write_paced(load, BURST * 1_000_000_000 // RATE, burst=BURST)
    receiver.join()
    numbers = receiver.numbers
    late = [message.late_ns / 1e6 for message in load]
    print(f"sent {sent}, {RATE} a second in bursts of {BURST}")
    print(f"lost {sent - len(set(numbers))}, repeated {len(numbers) - len(set(numbers))}")
    print(f"late: median {statistics.median(late):.3f} ms, most {max(late):.3f} ms")


if __name__ == "__main__":
    main()
