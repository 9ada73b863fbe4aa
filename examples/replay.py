"""Replay of a capture with its own spacing: the payloads of a pcap file, at the times that it has.

It needs no privilege, and scapy to read and write the file. First it makes a capture of its own,
in which datagrams come in twos and threes; a capture of yours takes its place as the argument.
write_paced takes the offset of each message from the start, so gaps and bursts are those of the
capture. The receiver's kernel tells when each datagram came.

Run it: python examples/replay.py [FILE.pcap]
"""

import itertools
import pathlib
import socket
import statistics
import sys
import tempfile

from ipv4batch import ControlFlags, Message, PacketConn, new_messages

try:
    from scapy.layers.inet import IP, UDP
    from scapy.packet import Raw
    from scapy.utils import PcapReader, wrpcap
except ImportError:
    print("replay.py: needs scapy, to read captures: pip install scapy", file=sys.stderr)
    sys.exit(77)

GAPS_MS = [0, 1, 9, 1, 1, 20, 1, 7, 2, 2, 15, 3]


def make_capture(path: pathlib.Path) -> None:
    """Datagrams with these gaps between them."""
    packets = []
    for number, at in enumerate(itertools.accumulate(GAPS_MS)):
        packet = IP(src="192.0.2.1", dst="192.0.2.2") / UDP(sport=9, dport=9) / Raw(b"%d" % number)
        packet.time = 1_700_000_000 + at / 1000
        packets.append(packet)
    wrpcap(str(path), packets)


def read_capture(path: pathlib.Path) -> tuple[list[bytes], list[int]]:
    """The payloads of UDP, and their times in ns from the first on."""
    payloads, times = [], []
    with PcapReader(str(path)) as reader:
        for packet in reader:
            if UDP in packet:
                payloads.append(bytes(packet[UDP].payload))
                times.append(int(packet.time * 1_000_000_000))
    return payloads, [at - times[0] for at in times]


def arrivals(conn: PacketConn, count: int) -> list[int]:
    """When each datagram came, in ns."""
    messages = new_messages(count, 65_535, ControlFlags.TIMESTAMP)
    done = 0
    while done < count:
        done += conn.read_batch(messages[done:])
    controls = [message.control_message() for message in messages]
    return [control.timestamp_ns or 0 for control in controls if control is not None]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "capture.pcap")
        if len(sys.argv) > 1:
            path = pathlib.Path(sys.argv[1])
        else:
            make_capture(path)
        payloads, offsets = read_capture(path)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.settimeout(2)
    with (
        PacketConn(sock) as receiver,
        PacketConn(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sender,
    ):
        receiver.set_control_message(ControlFlags.TIMESTAMP)
        messages = [Message(payload, addr=receiver.local_addr) for payload in payloads]
        sender.write_paced(messages, offsets)
        came = arrivals(receiver, len(messages))
    off = [abs((at - came[0]) - offset) / 1e6 for at, offset in zip(came, offsets, strict=True)]
    print(f"{len(payloads)} datagrams over {offsets[-1] / 1e9:.2f} s")
    print(
        f"off the capture's times: median {statistics.median(off):.3f} ms, most {max(off):.3f} ms"
    )


if __name__ == "__main__":
    main()
