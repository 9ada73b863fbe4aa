"""`make scaling`: how throughput grows with threads, under the GIL, and where it stops.

So many pairs of threads in one process, each with a connection of its own: the readers share a
port (SO_REUSEPORT), and the kernel spreads the writers over them. Both directions are counted, for
a second each, by batches and with offload.
"""

import argparse
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

from rich import box
from rich.console import Console
from rich.table import Table

from ipv4batch import Message, PacketConn, new_messages

BATCH, SIZE = 64, 1200
SO_RCVBUFFORCE = 33
RECEIVE_BUFFER = 16 << 20


def bound(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    sock.settimeout(0.1)
    sock.bind(("127.0.0.1", port))
    return sock


def count_until(over: threading.Event, move: Callable[[], int], counts: list[int]) -> None:
    """Move datagrams until it is over; their number goes to `counts`."""
    moved = 0
    while not over.is_set():
        try:
            moved += move()
        except TimeoutError:
            continue
    counts.append(moved)


def throughput(threads: int, readers: bool, offload: bool, seconds: float) -> tuple[float, float]:
    """Datagrams a second that were written and read, by so many writers and as many readers."""
    over = threading.Event()
    written: list[int] = []
    read: list[int] = []
    running = []
    with ExitStack() as stack:
        port = 0
        for _ in range(threads):
            sock = stack.enter_context(bound(port))
            port = sock.getsockname()[1]
            reader = PacketConn(sock)
            reader.gro = offload
            messages = new_messages(BATCH, SIZE)
            running.append((lambda r=reader, m=messages: r.read_batch(m), read))
            sending = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            writer = PacketConn(sending)
            writer.gso = offload
            batch = [Message(bytes(SIZE), addr=("127.0.0.1", port)) for _ in range(BATCH)]
            running.append((lambda w=writer, b=batch: w.write_batch(b), written))
        if not readers:
            running = [(move, counts) for move, counts in running if counts is written]
        started = [
            threading.Thread(target=count_until, args=(over, move, counts))
            for move, counts in running
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2, 4, 8])
    parser.add_argument("--seconds", type=float, default=1.0)
    arguments = parser.parse_args()
    table = Table("threads of a kind", box=box.SIMPLE)
    titles = ("writers alone", "writers and readers: written", "read", "offload: written", "read")
    for title in titles:
        table.add_column(title, justify="right")
    for threads in arguments.threads:
        alone, _ = throughput(threads, False, False, arguments.seconds)
        plain = throughput(threads, True, False, arguments.seconds)
        offload = throughput(threads, True, True, arguments.seconds)
        table.add_row(str(threads), *(f"{value:,.0f}" for value in (alone, *plain, *offload)))
    console = Console(width=110)
    console.print(f"datagrams a second of {SIZE} bytes, {BATCH} a batch, on loopback")
    console.print(table)


if __name__ == "__main__":
    main()
