"""`make scaling`, and a part of `make bench`: how throughput grows with threads.

So many threads of one process write, each with a connection of its own, to as many sockets that
share a port (SO_REUSEPORT). Either a filter drops what comes, or as many threads of the same
process read it. The C loop does the same in benchmarks/peers/threads.c: where it stops, the
processors or the kernel do, and where we stop before it, the GIL does.
"""

import argparse
import io
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

from grid import Spread
from processes import ask_for_room, build_c
from rich import box
from rich.console import Console
from rich.table import Table

from ipv4batch import Message, PacketConn, new_messages

BATCH, SIZE = 64, 1200
THREADS = (1, 2, 4, 8)
SECONDS = 0.3

Move = Callable[[], int]
"""Moves some datagrams and says how many."""


class Case(NamedTuple):
    """What is counted: who, doing what."""

    who: str
    readers: bool
    offload: bool

    @property
    def title(self) -> str:
        return f"{self.who}, offload" if self.offload else self.who


WHO = ("C loop", "ipv4batch", "socket")
CASES = [
    Case(who, readers, offload)
    for readers in (False, True)
    for offload in (False, True)
    for who in (WHO[:2] if offload else WHO)
]

Counted = dict[Case, dict[int, list[float]]]
"""By case and threads, the datagrams a second of each round: those read, if there are readers."""


def bound(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    ask_for_room(sock)
    sock.bind(("127.0.0.1", port))
    return sock


def reading(case: Case, sock: socket.socket) -> Move:
    # A reader looks up now and then, to see that it is over. A socket with a timeout of Python's
    # own would poll before each call.
    if case.who == "socket":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 0, 100_000))
        buffer = memoryview(bytearray(SIZE))
        recvfrom = sock.recvfrom_into
        return lambda: recvfrom(buffer)[0] // SIZE
    reader = PacketConn(sock)
    reader.gro = case.offload
    reader.timeout = 0.1
    messages = new_messages(BATCH, SIZE)
    return lambda: reader.read_batch(messages)


def writing(case: Case, sock: socket.socket, to: tuple[str, int]) -> Move:
    payload = bytes(SIZE)
    if case.who == "socket":
        sendto = sock.sendto
        return lambda: sendto(payload, to) // SIZE
    writer = PacketConn(sock)
    writer.gso = case.offload
    batch = [Message(payload, addr=to) for _ in range(BATCH)]
    return lambda: writer.write_batch(batch)


def count_until(over: threading.Event, move: Move, counts: list[int]) -> None:
    """Move datagrams until it is over; their number goes to `counts`."""
    moved = 0
    while not over.is_set():
        try:
            moved += move()
        except (TimeoutError, BlockingIOError):
            continue
    counts.append(moved)


def in_threads(case: Case, threads: int, seconds: float) -> tuple[float, float]:
    """Datagrams a second that were written and read, by so many writers and as many readers."""
    over = threading.Event()
    written: list[int] = []
    read: list[int] = []
    work: list[tuple[Move, list[int]]] = []
    with ExitStack() as stack:
        port = 0
        for _ in range(threads):
            receiving = stack.enter_context(bound(port))
            port = receiving.getsockname()[1]
            move = reading(case, receiving)
            if case.readers:
                work.append((move, read))
            else:
                PacketConn(receiving).set_bpf([(6, 0, 0, 0)])
            sending = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            work.append((writing(case, sending, receiving.getsockname()), written))
        started = [
            threading.Thread(target=count_until, args=(over, move, counts)) for move, counts in work
        ]
        start = time.perf_counter()
        for thread in started:
            thread.start()
        time.sleep(seconds)
        over.set()
        for thread in started:
            thread.join()
        elapsed = time.perf_counter() - start
    return sum(written) / elapsed, sum(read) / elapsed


def in_c(program: str, case: Case, threads: int, seconds: float) -> tuple[float, float]:
    """The same of the C loop."""
    arguments = (threads, int(case.readers), int(case.offload), round(seconds * 1000))
    done = subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    written, read, nanoseconds = map(int, done.stdout.split())
    return written / nanoseconds * 1e9, read / nanoseconds * 1e9


def count(rounds: int, threads: tuple[int, ...] = THREADS, seconds: float = SECONDS) -> Counted:
    """Everything, in turns."""
    program = build_c("threads")
    counted: Counted = {}
    for _ in range(rounds):
        for number in threads:
            for case in CASES:
                written, read = (
                    in_c(program, case, number, seconds)
                    if case.who == "C loop"
                    else in_threads(case, number, seconds)
                )
                by_threads = counted.setdefault(case, {})
                by_threads.setdefault(number, []).append(read if case.readers else written)
    return counted


def table_of(counted: Counted, readers: bool) -> Table:
    """Millions of datagrams a second, over the number of threads."""
    table = Table("", box=box.SIMPLE)
    numbers = sorted(next(iter(counted.values())))
    for number in numbers:
        table.add_column(f"{number} thread{'s' * (number > 1)}", justify="right")
    for case, by_threads in counted.items():
        if case.readers == readers:
            spreads = [Spread.over(value / 1e6 for value in by_threads[n]) for n in numbers]
            table.add_row(
                case.title, *(f"{s.median:.2f} ({s.low:.2f}-{s.high:.2f})" for s in spreads)
            )
    return table


def as_text(counted: Counted) -> str:
    """Both tables."""
    out = io.StringIO()
    console = Console(file=out, width=100)
    for readers, what in (
        (False, "writers alone, what they wrote"),
        (True, "as many readers, what they read"),
    ):
        console.print(f"Threads: {what}. Millions a second: median (minimum-maximum)")
        console.print(table_of(counted, readers))
    return out.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description="how throughput grows with threads")
    parser.add_argument("--threads", type=int, nargs="*", default=THREADS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each count")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    counted = count(arguments.rounds, tuple(arguments.threads), arguments.seconds)
    print(f"datagrams of {SIZE} bytes, {BATCH} a batch, on loopback")
    print(as_text(counted), end="")


if __name__ == "__main__":
    main()
