"""Departures of write_paced by the kernel's stamps, beside the same loop in C.

The receiver's stamps (SO_TIMESTAMPNS) are taken when the datagram is sent, since loopback delivers
it within the call. A lateness is against the earliest departure of the run, as the schedule has it.
The two take turns, and each figure is the median of the rounds.
"""

import argparse
import socket
import statistics
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from processes import ask_for_room, build_c

from ipv4batch import ControlFlags, Message, PacketConn, new_messages

SIZE = 1200
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


class Receiver:
    """Notes the kernel's time of each datagram, in a thread."""

    def __init__(self, sock: socket.socket, count: int) -> None:
        self.conn = PacketConn(sock)
        self.conn.timeout = 2
        self.conn.set_control_message(ControlFlags.TIMESTAMP)
        self.stamps: list[int] = []
        self._count = count
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        into = new_messages(64, SIZE, ControlFlags.TIMESTAMP)
        try:
            while len(self.stamps) < self._count:
                for message in into[: self.conn.read_batch(into)]:
                    control = message.control_message()
                    if control is not None:
                        self.stamps.append(control.timestamp_ns)
        except TimeoutError:
            pass

    def collect(self) -> list[int]:
        """Read all that has come: after the run, so that nothing competes with it."""
        self._thread.start()
        self._thread.join()
        return self.stamps


@contextmanager
def receiving(count: int) -> Iterator[Receiver]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        ask_for_room(sock)
        sock.bind(("127.0.0.1", 0))
        yield Receiver(sock, count)


def measure(
    send: Callable[[int], None], count: int, interval: int, burst: int
) -> tuple[dict[str, float], float, int]:
    """Lateness in us by quantile, the rate's error in percent, and how many are missing."""
    with receiving(count) as receiver:
        send(receiver.conn.local_addr[1])
        stamps = receiver.collect()
    start = min(at - i // burst * interval for i, at in enumerate(stamps))
    late = sorted(at - start - i // burst * interval for i, at in enumerate(stamps))
    found = {name: late[int(q * (len(late) - 1))] / 1000 for name, q in QUANTILES.items()}
    planned = (count - 1) // burst * interval
    return found, 100 * ((stamps[-1] - stamps[0]) / planned - 1), count - len(stamps)


def ours(count: int, interval: int, burst: int, gso: bool) -> Callable[[int], None]:
    def send(port: int) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            conn = PacketConn(sock)
            conn.gso = gso
            messages = [Message(bytes(SIZE), addr=("127.0.0.1", port)) for _ in range(count)]
            conn.write_paced(messages, interval, burst=burst)

    return send


def in_c(count: int, interval: int, burst: int) -> Callable[[int], None]:
    program = build_c("pace")

    def send(port: int) -> None:
        words = [program, port, count, interval, burst, SIZE]
        subprocess.run([str(word) for word in words], check=True)

    return send


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5)
    arguments = parser.parse_args()
    print(f"{'departures, us after their time':44}" + "".join(f"{q:>10}" for q in QUANTILES))
    for title, interval, burst, gso in (
        ("10,000 a second", 100_000, 1, False),
        ("1,000 a second", 1_000_000, 1, False),
        ("200,000 a second, bursts of 16, gso", 80_000, 16, True),
    ):
        count = int(arguments.seconds * 1e9 / interval) * burst
        count = min(count, 12_000)  # what a receive buffer of 32 MiB holds
        sides = {
            "write_paced": ours(count, interval, burst, gso),
            "C loop": in_c(count, interval, burst),
        }
        runs = {name: [] for name in sides}
        for _ in range(arguments.rounds):
            for name, send in sides.items():
                runs[name].append(measure(send, count, interval, burst))
        for name, results in runs.items():
            cells = [statistics.median(found[q] for found, _, _ in results) for q in QUANTILES]
            rate = statistics.median(abs(error) for _, error, _ in results)
            missing = sum(lost for _, _, lost in results)
            print(
                f"{title + ': ' + name:44}"
                + "".join(f"{cell:10.1f}" for cell in cells)
                + f"   rate within {rate:.4f} %, {missing} missing"
            )


if __name__ == "__main__":
    main()
