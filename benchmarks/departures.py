"""What tx_timestamps costs a write_all of 64, beside the same loop in C.

A figure is the processor's time in ns for a datagram. Nobody reads the datagrams, and reading the
times off the error queue, between the calls, does not count. The sides take turns.
"""

import argparse
import socket
import statistics
import subprocess
import time

from processes import build_c

from ipv4batch import Message, PacketConn, TimestampKind

COUNT = 64


def ours(port: int, batches: int, size: int, kinds: int) -> float:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        conn = PacketConn(sock)
        conn.tx_timestamps = kinds
        messages = [Message(bytes(size), addr=("127.0.0.1", port)) for _ in range(COUNT)]
        used = 0
        for _ in range(batches):
            before = time.thread_time_ns()
            conn.write_all(messages)
            used += time.thread_time_ns() - before
            while kinds and conn.read_tx_timestamps(1024):
                pass
        return used / (batches * COUNT)


def in_c(port: int, batches: int, size: int) -> float:
    words = [build_c("departures"), port, batches, COUNT, size]
    done = subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batches", type=int, default=1000)
    arguments = parser.parse_args()
    both = TimestampKind.SCHED | TimestampKind.SOFTWARE
    for size in (100, 1200):
        rounds = []
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
            sink.bind(("127.0.0.1", 0))
            port = sink.getsockname()[1]
            for _ in range(arguments.rounds):
                rounds.append(
                    (
                        ours(port, arguments.batches, size, both),
                        in_c(port, arguments.batches, size),
                        ours(port, arguments.batches, size, 0),
                    )
                )
        stamped, loop, plain = (statistics.median(column) for column in zip(*rounds, strict=True))
        ratio = statistics.median(a / b for a, b, _ in rounds)
        print(
            f"{size:5} bytes: {stamped:7.0f} ns stamped, {loop:7.0f} in C, {plain:7.0f} not "
            f"stamped; {ratio:.2f} of the C loop (goal 1.15)"
        )


if __name__ == "__main__":
    main()
