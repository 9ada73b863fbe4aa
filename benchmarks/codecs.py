"""Headers, control messages, and what is asked of a received message: by pyperf.

Run by `make bench`, which reads the JSON; alone: `python benchmarks/codecs.py -o codecs.json`.
"""

import random
import socket
import struct
import time
from collections.abc import Callable, Iterator

import pyperf

from ipv4batch import ControlMessage, Header, Message, PacketConn, new_messages

FIELDS = struct.Struct("!BBHHHBBH4s4s")
SOURCE, DESTINATION = "172.16.254.254", "192.168.0.1"
PACKED = socket.inet_aton(SOURCE), socket.inet_aton(DESTINATION)
# A checksum that is there: dpkt and scapy compute one where there is none, which is other work.
VALUES = (0x45, 1, 20, 0xCAFE, 0x4000, 64, 17, 0xDEAD, *PACKED)
HEADER = FIELDS.pack(*VALUES)
PEERS = 1000
SIZE = 1200

Work = Callable[[], object]


# Each makes its parse and marshal in the process that times them: what the others need is not
# imported there.


def with_ipv4batch() -> tuple[Work, Work]:
    into, header = Header(), Header()
    header.parse(HEADER)
    return lambda: into.parse(HEADER), header.marshal


def with_dpkt() -> tuple[Work, Work]:
    from dpkt.ip import IP

    header = IP(HEADER)
    return lambda: IP(HEADER), lambda: bytes(header)


def with_scapy() -> tuple[Work, Work]:
    from scapy.layers.inet import IP

    header = IP(HEADER)
    return lambda: IP(HEADER), lambda: bytes(header)


def with_struct() -> tuple[Work, Work]:
    return lambda: FIELDS.unpack(HEADER), lambda: FIELDS.pack(*VALUES)


def control_messages() -> tuple[Work, Work]:
    message = ControlMessage(ttl=64, src=SOURCE, ifindex=1)
    data = message.marshal()
    into = ControlMessage()
    return lambda: into.parse(data), message.marshal


CODECS = {
    "Header ipv4batch": with_ipv4batch,
    "Header dpkt": with_dpkt,
    "Header scapy": with_scapy,
    "Header struct": with_struct,
    "ControlMessage ipv4batch": control_messages,
}


def timed(make: Callable[[], tuple[Work, Work]], index: int) -> Callable[[int], float]:
    """Seconds that so many calls of a maker's first or second function take."""

    def run(loops: int) -> float:
        function = make()[index]
        repeat = range(loops)
        start = time.perf_counter()
        for _ in repeat:
            function()
        return time.perf_counter() - start

    return run


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
    runner = pyperf.Runner(processes=4, values=5, warmups=1)
    for name, make in CODECS.items():
        for index, what in enumerate(("parse", "marshal")):
            runner.bench_time_func(f"{name} {what}", timed(make, index))
    for peers in (1, PEERS):
        runner.bench_time_func(f"data and addr, peers: {peers}", received(peers))


if __name__ == "__main__":
    main()
