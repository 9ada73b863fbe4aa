"""asyncio's datagram endpoints, uvloop's and rloop's, beside ipv4batch's on the same loops.

    python benchmarks/aio.py [--quick] [--rounds N] [--loops LOOP ...] [--record FILE]

Each loop runs in a process of its own. They take turns: each measurement of a round is made on all
loops before the next one is. A figure is the median over the rounds; a ratio is the median of the
ratios within each round, which a busy machine disturbs less. rloop takes part if it is installed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import json
import multiprocessing
import os
import pathlib
import platform
import resource
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ipv4batch import ControlFlags, ControlMessage, Message, PacketConn, aio, new_messages

SO_RCVBUFFORCE, SO_SNDBUFFORCE = 33, 32
ROOM = 32 << 20
UDP_GRO = 104

BURST = 1000
"""Datagrams of a backlog."""
SENT = 256
"""Datagrams that are sent in one iteration of the loop."""
CLIENTS = 1000
SECONDS = 0.03
"""How long the clients of a server ask, for each repeat."""
PINGS = 150
"""Questions of a lone client, for each repeat."""
MILLION = 1_000_000

BASES = ("asyncio", "uvloop", "rloop")


class Task(NamedTuple):
    """What is measured: see Child for each kind."""

    kind: str
    size: int
    peers: int = 1
    offload: bool = False

    @property
    def title(self) -> str:
        """As the tables call it."""
        peers = "1 peer" if self.peers == 1 else f"{self.peers} peers"
        offload = "offload" if self.offload else "no offload"
        return {
            "receive": f"receive, {self.size} bytes, {peers}, {offload}",
            "send": f"sendto of {SENT}, {self.size} bytes, {peers}, {offload}",
            "echo": f"echo server, {CLIENTS} clients, {self.size} bytes",
            "lookup": f"lookup server, {CLIENTS} clients",
            "ping": f"a question and its answer, {self.size} bytes, p50",
        }[self.kind]


TASKS = [
    *(Task("receive", size, peers) for size in (1200, 64) for peers in (1, 1000)),
    *(Task("receive", size, 1, True) for size in (1200, 64)),
    *(Task("send", size, peers) for size in (1200, 64) for peers in (1, 1000)),
    *(Task("send", size, 1, True) for size in (1200, 64)),
    Task("echo", 64),
    Task("lookup", 40),
    Task("ping", 64),
]

GOALS = {
    ("receive", False): (6.5, 2.4, 1.5),
    ("receive", True): (15, 6, 4),
    ("send", True): (10, 10, 8),
    ("send", False): (1.1, 1.1, 1.0),
    ("echo", False): (1.8, 1.2, 1.0),
    ("lookup", False): (1.8, 1.2, 1.0),
    ("ping", False): (1.0, 1 / 1.05, 1 / 1.1),
}
"""How many times as fast ipv4batch should be, against asyncio, uvloop and rloop."""


def base_factory(base: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes the loops of others."""
    if base == "asyncio":
        return asyncio.SelectorEventLoop
    if base == "uvloop":
        import uvloop

        return uvloop.Loop  # type: ignore[no-any-return]
    import rloop

    return type(rloop.new_event_loop())


def roomy_socket(host: str = "127.0.0.1") -> socket.socket:
    """A UDP socket with buffers as large as may be."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for force, option in ((SO_RCVBUFFORCE, socket.SO_RCVBUF), (SO_SNDBUFFORCE, socket.SO_SNDBUF)):
        try:
            sock.setsockopt(socket.SOL_SOCKET, force, ROOM)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, option, ROOM)
    sock.bind((host, 0))
    return sock


def sources(count: int) -> list[str]:
    """Addresses of loopback for so many peers."""
    return [f"127.1.{number // 250}.{number % 250 + 1}" for number in range(count)]


class Counting(asyncio.DatagramProtocol):
    """Counts what arrives, until it is enough."""

    count = wanted = 0
    done: asyncio.Future[None]

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.count += 1
        if self.count == self.wanted:
            self.done.set_result(None)


class Echo(asyncio.DatagramProtocol):
    """Answers with what it was sent."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data, addr)


class Lookup(asyncio.DatagramProtocol):
    """Answers a question (a number of two bytes, and a name) as a name server would."""

    def __init__(self) -> None:
        self.names = {b"host%d.example" % number: bytes(4) for number in range(1000)}

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        found = self.names.get(data[2:].rstrip(b"."))
        self.transport.sendto(data[:2] + (found or b"") + data[2:], addr)


class Child:
    """What one loop's process does when it is told to: nanoseconds a datagram, or rates."""

    def __init__(self, ours: bool) -> None:
        self._ours = ours

    async def endpoint(
        self, protocol: type[Any], sock: socket.socket, offload: bool = False
    ) -> tuple[Any, Any]:
        """A transport and its protocol."""
        if self._ours:
            return await aio.create_datagram_endpoint(protocol, sock=sock, gso=offload, gro=offload)
        return await asyncio.get_running_loop().create_datagram_endpoint(protocol, sock=sock)

    async def receive(self, task: Task, repeats: int) -> float:
        """From a backlog that is there when the clock starts."""
        times = []
        sock = roomy_socket()
        to = sock.getsockname()
        transport, protocol = await self.endpoint(Counting, sock, task.offload)
        with PacketConn(roomy_socket("0.0.0.0")) as writer:
            writer.gso = task.offload
            oobs = [ControlMessage(src=source).marshal() for source in sources(task.peers)]
            messages = [
                Message(bytes(task.size), oobs[i % len(oobs)] if task.peers > 1 else None, to)
                for i in range(BURST)
            ]
            for _ in range(repeats):
                protocol.count, protocol.wanted = 0, BURST
                protocol.done = asyncio.get_running_loop().create_future()
                writer.write_all(messages)
                start = time.perf_counter_ns()
                await asyncio.wait_for(protocol.done, 10)
                times.append((time.perf_counter_ns() - start) / BURST)
        transport.close()
        await asyncio.sleep(0.01)
        return statistics.median(times)

    async def send(self, task: Task, repeats: int) -> float:
        """Until all of them are handed over to the kernel."""
        times = []
        transport, _ = await self.endpoint(Counting, roomy_socket(), task.offload)
        with PacketConn(roomy_socket("0.0.0.0")) as sink:
            sink.gro = task.offload  # else the receiver would cut up what was sent
            port = sink.local_addr[1]
            hosts = sources(task.peers) if task.peers > 1 else ["127.0.0.1"]
            addresses = [(hosts[i % len(hosts)], port) for i in range(SENT)]
            data = bytes(task.size)
            there = new_messages(SENT, 2048)
            for _ in range(repeats * 4):
                start = time.perf_counter_ns()
                for address in addresses:
                    transport.sendto(data, address)
                await asyncio.sleep(0)
                times.append((time.perf_counter_ns() - start) / SENT)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        sink.read_batch(there, socket.MSG_DONTWAIT)
        transport.close()
        await asyncio.sleep(0.01)
        return statistics.median(times)

    async def serve(self, protocol: type[Any], ask: Callable[..., Any], *arguments: Any) -> Any:
        """What clients in a process of their own find, while a server runs here."""
        sock = roomy_socket()
        transport, _ = await self.endpoint(protocol, sock)
        port = transport.get_extra_info("sockname")[1]
        loop = asyncio.get_running_loop()
        context = multiprocessing.get_context("spawn")
        queue = context.Queue()
        process = context.Process(target=ask, args=(queue, port, *arguments))
        process.start()
        try:
            result = await loop.run_in_executor(None, queue.get, True, 30)
        finally:
            await loop.run_in_executor(None, process.join)
            transport.close()
        return result

    async def echo(self, task: Task, repeats: int) -> Any:
        """Nanoseconds a request, with all clients asking; and of an answer p50 and p99."""
        return await self.serve(Echo, ask_together, task.size, repeats)

    async def lookup(self, task: Task, repeats: int) -> Any:
        """The same of a server that looks names up."""
        return await self.serve(Lookup, ask_together, task.size, repeats)

    async def ping(self, task: Task, repeats: int) -> Any:
        """The median time of a question and its answer, in nanoseconds."""
        return await self.serve(Echo, ask_alone, task.size, repeats)

    async def memory(self, datagrams: int) -> tuple[float, float]:
        """Kilobytes a transport of 200, and by how many so many datagrams make it grow."""

        def resident() -> float:
            return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * (
                resource.getpagesize() / 1024
            )

        before = resident()
        made = [await self.endpoint(Counting, roomy_socket(), True) for _ in range(200)]
        each = (resident() - before) / len(made)
        await self.receive(Task("receive", 64, 1, True), 50)
        before = resident()
        await self.receive(Task("receive", 64, 1, True), datagrams // BURST)
        grown = resident() - before
        for transport, _ in made:
            transport.close()
        await asyncio.sleep(0.01)
        return each, grown


def ask_together(queue: Any, port: int, size: int, repeats: int) -> None:
    """CLIENTS clients, each with an address of its own, ask as soon as they are answered."""
    with PacketConn(roomy_socket("0.0.0.0")) as conn:
        conn.set_control_message(ControlFlags.DST)
        name = b"\0\1host7.example".ljust(size, b".")
        questions = {
            source: Message(name, ControlMessage(src=source).marshal(), ("127.0.0.1", port))
            for source in sources(CLIENTS)
        }
        answers = new_messages(128, 2048, ControlFlags.DST)
        control = ControlMessage()
        conn.timeout = 5
        start = time.perf_counter_ns()
        asked = dict.fromkeys(questions, start)
        times = []
        conn.write_all(list(questions.values()))
        while time.perf_counter_ns() - start < SECONDS * repeats * 1e9:
            n = conn.read_batch(answers)
            now = time.perf_counter_ns()
            again = []
            for m in answers[:n]:
                m.control_message(control)
                client = control.dst or ""
                times.append(now - asked[client])
                asked[client] = now
                again.append(questions[client])
            conn.write_all(again)
        each = (time.perf_counter_ns() - start) / len(times)
        cuts = statistics.quantiles(times, n=100)
        queue.put([each, cuts[49], cuts[98]])


def ask_alone(queue: Any, port: int, size: int, repeats: int) -> None:
    """One client that waits for each answer."""
    times = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.connect(("127.0.0.1", port))
        data, buffer = bytes(size), bytearray(size)
        for _ in range(PINGS * repeats):
            start = time.perf_counter_ns()
            sock.send(data)
            sock.recv_into(buffer)
            times.append(time.perf_counter_ns() - start)
    queue.put(statistics.median(times[len(times) // 8 :]))


def be_child(base: str, ours: bool) -> None:
    """Answer tasks on standard input, until it ends."""
    child = Child(ours)
    with asyncio.Runner(loop_factory=base_factory(base)) as runner:
        for line in sys.stdin:
            kind, *rest, repeats = json.loads(line)
            if kind == "memory":
                print(json.dumps(runner.run(child.memory(repeats))), flush=True)
            else:
                task = Task(kind, *rest)
                print(json.dumps(runner.run(getattr(child, kind)(task, repeats))), flush=True)


@contextlib.contextmanager
def children(bases: list[str]) -> Iterator[dict[tuple[str, bool], subprocess.Popen[str]]]:
    """The processes, by loop and by whose transport it is."""
    running = {
        (base, ours): subprocess.Popen(
            [sys.executable, __file__, "--child", base, *(["--ours"] if ours else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for base in bases
        for ours in (False, True)
    }
    try:
        yield running
    finally:
        for process in running.values():
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.close()
            process.wait(10)
            process.stdout.close()


def ask(process: subprocess.Popen[str], question: list[Any]) -> Any:
    """What a child says to a task."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(question) + "\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"benchmarks: a child failed at {question}")
    return json.loads(line)


Measured = dict[Task, dict[tuple[str, bool], list[Any]]]


def first(value: Any) -> float:
    """The figure that is compared, of one or several."""
    return float(value[0] if isinstance(value, list) else value)


def measure(rounds: int, repeats: int, running: Any) -> Measured:
    """Each task, so many times on each loop."""
    found: Measured = {task: {key: [] for key in running} for task in TASKS}
    for number in range(rounds):
        order = list(running) if number % 2 == 0 else list(reversed(running))
        for task in TASKS:
            for key in order:
                found[task][key].append(ask(running[key], [*task, repeats]))
    return found


def table(found: Measured, bases: list[str]) -> Iterator[str]:
    """Nanoseconds on each loop, and how many times as fast ipv4batch is on the same loop."""
    head = [f"{'ns, and times as fast (goal)':52}"]
    head += [f"{base:>8} {'ours':>8} {'':14}" for base in bases]
    yield "".join(head)
    for task, results in found.items():
        goals = GOALS[task.kind, task.offload]
        line = [f"{task.title:52}"]
        for base in bases:
            theirs, ours = ([first(v) for v in results[base, o]] for o in (False, True))
            ratio = statistics.median(t / o for t, o in zip(theirs, ours, strict=True))
            goal = goals[BASES.index(base)]
            line.append(
                f"{statistics.median(theirs):8.0f} {statistics.median(ours):8.0f} "
                f"{ratio:5.2f} ({goal:4.2f})  "
            )
        yield "".join(line).rstrip()


def latencies(found: Measured, bases: list[str]) -> Iterator[str]:
    """What the clients of the servers find."""
    for task, results in found.items():
        if task.kind not in ("echo", "lookup"):
            continue
        for base in bases:
            for ours in (False, True):
                each, p50, p99 = map(statistics.median, zip(*results[base, ours], strict=True))
                yield (
                    f"{task.title:36} {base:8} {'ours' if ours else '':5} "
                    f"{1e9 / each:8.0f} a second, p50 {p50 / 1e6:6.2f} ms, p99 {p99 / 1e6:6.2f} ms"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke test")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--record", type=pathlib.Path, help="write the table to this file too")
    parser.add_argument("--loops", nargs="+", choices=BASES, default=BASES)
    parser.add_argument("--child", choices=BASES, help=argparse.SUPPRESS)
    parser.add_argument("--ours", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        be_child(arguments.child, arguments.ours)
        return
    bases = [
        base
        for base in arguments.loops
        if base == "asyncio" or importlib.util.find_spec(base) is not None
    ]
    rounds, repeats = (1, 2) if arguments.quick else (arguments.rounds, 15)
    datagrams = MILLION // 50 if arguments.quick else MILLION
    with children(bases) as running:
        found = measure(rounds, repeats, running)
    with children(["asyncio"]) as running:  # memory that was used before hides what is used now
        each, grown = ask(running["asyncio", True], ["memory", datagrams])
    lines = [
        f"Python {platform.python_version()}, Linux {platform.release()}, "
        f"{os.cpu_count()} processors, {rounds} rounds",
        "",
        *table(found, bases),
        "",
        *latencies(found, bases),
        "",
        f"memory: {each:.0f} KiB a transport; {datagrams} datagrams through one: {grown:+.0f} KiB",
    ]
    print("\n".join(lines))
    if arguments.record:
        arguments.record.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
