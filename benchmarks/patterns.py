"""What programs do with batches: striping over links, relays, buffers that adjoin, round trips.

Each row is a way to do something and the way that it is held against, in one process on loopback;
a round trip is to another process and back. They take turns within a round, and a ratio is taken
within a round. A measurement is of some bursts. What brings datagrams to the timed part, or takes
them away from it, is not timed.
"""

import argparse
import gc
import io
import multiprocessing
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import NamedTuple

from grid import Spread
from processes import ask_for_room
from rich import box
from rich.console import Console
from rich.table import Table

from ipv4batch import ControlMessage, Message, PacketConn, new_messages

SIZE, BATCH, RUN, TRIP = 1200, 64, 54, 64
ROUNDS, BURSTS = 41, 40

Burst = Callable[[], int]
"""Times one burst; gives its nanoseconds a datagram."""

Endpoint = tuple[str, int]
Send = Callable[[PacketConn, list[Message], int, Endpoint], None]
"""Sends on, to an endpoint, so many datagrams that a connection has read into a list."""


class Way(NamedTuple):
    """A way to do it."""

    name: str
    burst: Burst


@dataclass
class Pattern:
    """Ways to do the same, of which the first is what the others are held against."""

    title: str
    ways: list[Way]
    goals: dict[str, float]
    times: dict[str, list[float]] = field(default_factory=dict)

    def measure(self, number: int, bursts: int) -> None:
        """One round, in which each way begins once in a while."""
        start = number % len(self.ways)
        for way in self.ways[start:] + self.ways[:start]:
            found = [way.burst() for _ in range(bursts)]
            self.times.setdefault(way.name, []).append(statistics.median(found))

    def ratio(self, name: str) -> Spread:
        reference = self.times[self.ways[0].name]
        return Spread.over(a / b for a, b in zip(self.times[name], reference, strict=True))


class Bench:
    """Connections, and what a burst needs around its timed part."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._into = new_messages(BATCH, 65535)

    def open_socket(self) -> socket.socket:
        sock = self._stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        ask_for_room(sock)
        sock.bind(("127.0.0.1", 0))
        return sock

    def open(self) -> PacketConn:
        return PacketConn(self.open_socket())

    def drain(self, *conns: PacketConn) -> None:
        """Read what has come to them."""
        for conn in conns:
            while True:
                try:
                    conn.read_batch(self._into, socket.MSG_DONTWAIT)
                except BlockingIOError:
                    break


def write(bench: Bench, sinks: list[PacketConn], writer: PacketConn, out: list[Message]) -> Burst:
    """Send a list with write_all."""

    def burst() -> int:
        start = time.perf_counter_ns()
        writer.write_all(out)
        taken = time.perf_counter_ns() - start
        bench.drain(*sinks)
        return taken // len(out)

    return burst


def striping(bench: Bench) -> Iterator[Pattern]:
    """Lists that alternate, against the same lists sorted."""
    writer = bench.open()
    writer.gso = True
    sinks = [bench.open() for _ in range(4)]
    for sink in sinks:
        sink.gro = True
    sources = [ControlMessage(src=f"127.0.0.{k}").marshal() for k in (2, 3)]
    for title, count, oobs in (
        ("2 peers", 2, [None]),
        ("4 peers", 4, [None]),
        ("2 sources", 1, sources),
    ):
        out = [
            Message(bytes(SIZE), oobs[k % len(oobs)], sinks[k % count].local_addr)
            for k in range(BATCH)
        ]
        paths = max(count, len(oobs))
        by_path = [message for k in range(paths) for message in out[k::paths]]
        yield Pattern(
            f"write_all of 64, gso, {title}",
            [
                Way("sorted", write(bench, sinks, writer, by_path)),
                Way("alternating", write(bench, sinks, writer, out)),
            ],
            {"alternating": 1.3},
        )


def adjoining(bench: Bench) -> Iterator[Pattern]:
    """A run whose buffers follow each other in memory, against buffers that lie apart."""
    writer, sink = bench.open(), bench.open()
    writer.gso = sink.gro = True
    block = memoryview(bytearray(RUN * SIZE))
    apart = memoryview(bytearray(RUN * (SIZE + 64)))
    lists = {
        name: [
            Message(whole[at : at + SIZE], None, sink.local_addr)
            for at in range(0, RUN * step, step)
        ]
        for name, whole, step in (("apart", apart, SIZE + 64), ("adjoining", block, SIZE))
    }
    yield Pattern(
        f"a run of {RUN} buffers",
        [Way(name, write(bench, [sink], writer, out)) for name, out in lists.items()],
        {"adjoining": 0.85},
    )


def relay(bench: Bench, offload: bool, send: Send) -> Burst:
    """Read what a source has sent, and send it on."""
    source, middle, sink = bench.open(), bench.open(), bench.open()
    source.gso = middle.gso = middle.gro = offload
    sink.gro = True
    burst = [Message(bytes(SIZE), None, middle.local_addr) for _ in range(BATCH)]
    into = new_messages(BATCH, SIZE)
    to = sink.local_addr
    middle.timeout = 5

    def once() -> int:
        source.write_all(burst)
        moved = 0
        start = time.perf_counter_ns()
        while moved < BATCH:
            count = middle.read_batch(into)
            send(middle, into, count, to)
            moved += count
        taken = time.perf_counter_ns() - start
        bench.drain(sink)
        return taken // BATCH

    return once


def relays(bench: Bench) -> Iterator[Pattern]:
    """Ways to send on what was read, against ready-made messages, which have other content."""
    for offload in (False, True):
        ready: dict[Endpoint, list[Message]] = {}

        def ready_made(
            conn: PacketConn,
            into: list[Message],
            count: int,
            to: Endpoint,
            ready: dict[Endpoint, list[Message]] = ready,
        ) -> None:
            if to not in ready:
                ready[to] = [Message(bytes(SIZE), None, to) for _ in range(BATCH)]
            conn.write_all(ready[to][:count])

        def forward(conn: PacketConn, into: list[Message], count: int, to: Endpoint) -> None:
            conn.forward(into[:count], to)

        def new(conn: PacketConn, into: list[Message], count: int, to: Endpoint) -> None:
            conn.write_all([Message(message.view, None, to) for message in into[:count]])

        def copies(conn: PacketConn, into: list[Message], count: int, to: Endpoint) -> None:
            conn.write_all([Message(message.data, None, to) for message in into[:count]])

        yield Pattern(
            f"relay, {'gso and gro' if offload else 'plain'}",
            [
                Way("ready-made", relay(bench, offload, ready_made)),
                Way("forward", relay(bench, offload, forward)),
                Way("new messages", relay(bench, offload, new)),
                Way("new messages, data copied", relay(bench, offload, copies)),
            ],
            {"forward": 1.25, "new messages": 2.2, "new messages, data copied": 2.2}
            if offload
            else {"forward": 1.05},
        )


class Datagram(NamedTuple):
    """What a program that knows no Message would keep."""

    data: bytes
    addr: Endpoint


def making() -> Iterator[Pattern]:
    """A message for a payload, against a named tuple of the same."""
    data, addr = bytes(SIZE), ("127.0.0.1", 9)

    def make(kind: Callable[..., object]) -> Burst:
        def burst() -> int:
            start = time.perf_counter_ns()
            for _ in range(1000):
                kind(data, addr=addr)
            return (time.perf_counter_ns() - start) // 1000

        return burst

    yield Pattern(
        "make",
        [Way("a named tuple of two", make(Datagram)), Way("a Message", make(Message))],
        {"a Message": 0.5},
    )


def echo(sock: socket.socket, busy_poll: int | None) -> None:
    """Send each datagram back, until there comes an empty one; by the socket itself with None."""
    if busy_poll is None:
        buffer = memoryview(bytearray(TRIP))
        while True:
            count, peer = sock.recvfrom_into(buffer)
            if count == 0:
                return
            sock.sendto(buffer[:count], peer)
    conn = PacketConn(sock)
    conn.busy_poll = busy_poll
    messages = new_messages(1, TRIP)
    while True:
        conn.read_batch(messages)
        if messages[0].n == 0:
            return
        conn.forward(messages)


def trip(bench: Bench, stack: ExitStack, busy_poll: int | None) -> Burst:
    """Ask another process and wait for its answer, both by the same means."""
    here, there = bench.open_socket(), bench.open_socket()
    here.connect(there.getsockname())
    process = multiprocessing.get_context("fork").Process(target=echo, args=(there, busy_poll))
    process.start()

    def stop() -> None:
        here.send(b"")
        process.join()

    stack.callback(stop)
    question = bytes(TRIP)
    if busy_poll is None:
        buffer = bytearray(TRIP)

        def burst() -> int:
            start = time.perf_counter_ns()
            here.send(question)
            here.recv_into(buffer)
            return time.perf_counter_ns() - start

        return burst
    conn = PacketConn(here)
    conn.busy_poll = busy_poll
    out, into = [Message(question)], new_messages(1, TRIP)

    def burst_of_ours() -> int:
        start = time.perf_counter_ns()
        conn.write_batch(out)
        conn.read_batch(into)
        return time.perf_counter_ns() - start

    return burst_of_ours


def trips(bench: Bench, stack: ExitStack) -> Iterator[Pattern]:
    """Question and answer, against a socket at both ends; the time is that of a round trip."""
    yield Pattern(
        "round trip",
        [
            Way("socket", trip(bench, stack, None)),
            Way("ours", trip(bench, stack, 0)),
            Way("ours, busy_poll of 100", trip(bench, stack, 100)),
        ],
        {"ours": 1.0, "ours, busy_poll of 100": 0.6},
    )


def measure(quick: bool) -> list[Pattern]:
    """All patterns, round by round."""
    with ExitStack() as stack:
        bench = Bench(stack)
        patterns = [
            *striping(bench),
            *relays(bench),
            *adjoining(bench),
            *making(),
            *trips(bench, stack),
        ]
        gc.collect()
        gc.disable()
        try:
            for number in range(2 if quick else ROUNDS):
                for pattern in patterns:
                    pattern.measure(number, 3 if quick else BURSTS)
        finally:
            gc.enable()
    return patterns


def as_text(patterns: list[Pattern]) -> str:
    """The table."""
    table = Table(box=box.SIMPLE)
    table.add_column("pattern", no_wrap=True)
    for title in ("ns a datagram", "min", "median", "max", "goal", "met"):
        table.add_column(title, justify="right", no_wrap=True)
    for pattern in patterns:
        for way in pattern.ways:
            ratio = pattern.ratio(way.name)
            goal = pattern.goals.get(way.name)
            first = way is pattern.ways[0]
            table.add_row(
                f"{pattern.title}: {way.name}",
                f"{statistics.median(pattern.times[way.name]):.0f}",
                *(
                    ("", "1", "")
                    if first
                    else (f"{ratio.low:.2f}", f"{ratio.median:.2f}", f"{ratio.high:.2f}")
                ),
                "" if goal is None else f"<= {goal}",
                "" if goal is None else ("yes" if ratio.median <= goal else "NO"),
            )
    out = io.StringIO()
    Console(file=out, width=112).print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def as_json(patterns: list[Pattern]) -> dict[str, dict[str, list[float]]]:
    """Nanoseconds a datagram of each round, by pattern and way."""
    return {pattern.title: pattern.times for pattern in patterns}


def main() -> None:
    parser = argparse.ArgumentParser(description="patterns of use")
    parser.add_argument("--quick", action="store_true", help="a smoke test")
    print(as_text(measure(parser.parse_args().quick)))


if __name__ == "__main__":
    main()
