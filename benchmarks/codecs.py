"""Headers, control messages, and what is asked of a received message: by pyperf.

Run by `make bench`, which reads the JSON; alone: `python benchmarks/codecs.py -o codecs.json`.
"""

import random
import socket
import time
from collections.abc import Callable, Iterator

import pyperf

from ipv4batch import ControlMessage, Message, PacketConn, new_messages

PEERS = 1000
SIZE = 1200

# A header as a router meets it, with a checksum that is there: dpkt and scapy compute one where
# there is none. It is of a later fragment, since dpkt looks into the payload of any other.
HEADER = """
import socket, struct
fields = (0x45, 1, 20, 0xcafe, 0x20b9, 64, 17, 0xdead,
    socket.inet_aton("172.16.254.254"), socket.inet_aton("192.168.0.1"))
data = struct.pack("!BBHHHBBH4s4s", *fields)
"""

# Name: set-up, then what is timed. Each parse makes a new object; struct's is a tuple.
CODECS = {
    "Header parse, ipv4batch": (
        HEADER + "from ipv4batch import parse_header",
        "parse_header(data)",
    ),
    "Header parse, dpkt": (HEADER + "from dpkt.ip import IP", "IP(data)"),
    "Header parse, scapy": (HEADER + "from scapy.layers.inet import IP", "IP(data)"),
    "Header parse, struct": (
        HEADER + "unpack = struct.Struct('!BBHHHBBH4s4s').unpack",
        "unpack(data)",
    ),
    "Header marshal, ipv4batch": (
        HEADER + "from ipv4batch import parse_header\nheader = parse_header(data)",
        "header.marshal()",
    ),
    "Header marshal, dpkt": (HEADER + "from dpkt.ip import IP\nheader = IP(data)", "bytes(header)"),
    "Header marshal, scapy": (
        HEADER + "from scapy.layers.inet import IP\nheader = IP(data)",
        "bytes(header)",
    ),
    "Header marshal, struct": (
        HEADER + "pack = struct.Struct('!BBHHHBBH4s4s').pack",
        "pack(*fields)",
    ),
}

CONTROL = """
from ipv4batch import ControlMessage
message = ControlMessage(ttl=64, src="127.0.0.1", ifindex=1)
data = message.marshal()
"""

CODECS |= {
    "ControlMessage parse, ipv4batch": (CONTROL, "ControlMessage().parse(data)"),
    "ControlMessage marshal, ipv4batch": (CONTROL, "message.marshal()"),
}


def sources(peers: int) -> list[bytes]:
    """One socket is many peers: control data for as many sources."""
    return [
        ControlMessage(src=f"127.0.{1 + i // 250}.{1 + i % 250}").marshal() for i in range(peers)
    ]


def batches(peers: int, count: int) -> Iterator[list[Message]]:
    """Lists of up to 64 received messages, `count` in all, from peers in no order."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiving,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending,
    ):
        receiving.bind(("127.0.0.1", 0))
        address = receiving.getsockname()
        reader, writer = PacketConn(receiving), PacketConn(sending)
        paths = sources(peers)
        messages = new_messages(64, SIZE)
        payload = bytes(SIZE)
        while count > 0:
            length = min(64, count)
            writer.write_batch(
                [Message(payload, random.choice(paths), address) for _ in range(length)]
            )
            yield messages[: reader.read_batch(messages)]
            count -= length


def received(peers: int) -> Callable[[int], float]:
    """Seconds that `data` and `addr` of so many received messages take, from that many peers."""

    def run(loops: int) -> float:
        seconds = 0.0
        for messages in batches(peers, loops):
            start = time.perf_counter()
            for message in messages:
                message.data  # noqa: B018
                message.addr  # noqa: B018
            seconds += time.perf_counter() - start
        return seconds

    return run


def main() -> None:
    # A value of 20 ms is long enough for its clock, and the messages have to be received first.
    runner = pyperf.Runner(processes=5, values=5, warmups=1, min_time=0.02)
    for name, (setup, statement) in CODECS.items():
        runner.timeit(name, statement, setup)
    for peers in (1, PEERS):
        runner.bench_time_func(f"data and addr, peers: {peers}", received(peers))


if __name__ == "__main__":
    main()
