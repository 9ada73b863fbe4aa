"""The peers as processes: built here, started once, and asked for measurement after measurement."""

import contextlib
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

HERE = pathlib.Path(__file__).resolve().parent
BUILD = HERE.parent / "build" / "benchmarks"

PYTHON_PEERS = ("ipv4batch", "sendto", "sendmsg", "asyncio", "uvloop")

SO_RCVBUFFORCE = 33
RECEIVE_BUFFER = 16 << 20


class Task(NamedTuple):
    """One measurement; the peers read these numbers in this order."""

    batch: int
    size: int
    control: int
    offload: int
    bursts: int
    burst: int


class Times(NamedTuple):
    """Nanoseconds a datagram in each direction: the median of a measurement's bursts."""

    send: float
    receive: float


class Peer:
    """A program that measures itself, on loopback, when it is told to."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.name = name
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(HERE)},
        )

    def measure(self, task: Task) -> Times:
        """Have a task measured. Raises RuntimeError when the peer has failed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(" ".join(map(str, task)) + "\n")
        self._process.stdin.flush()
        lines = [self._process.stdout.readline() for _ in Times._fields]
        if not all(lines):
            raise RuntimeError(f"the peer {self.name} failed at {task}")
        return times_of(lines, task)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


def times_of(lines: list[str], task: Task) -> Times:
    """From the nanoseconds of each burst, a line for each direction, to those of a datagram. The
    first bursts find cold caches and buffers that the kernel has yet to allocate: an eighth is
    left out.
    """
    bursts = [list(map(int, line.split()))[task.bursts // 8 :] for line in lines]
    return Times(*(statistics.median(times) / task.burst for times in bursts))


def ask_for_room(sock: socket.socket) -> None:
    """Ask for a receive buffer past the system's limit, or within it where that is not allowed."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)


def room(size: int, most: int = 1024) -> int:
    """How many datagrams of a size the receive buffer of a peer takes: it is tried out."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        ask_for_room(receiver)
        receiver.bind(("127.0.0.1", 0))
        for _ in range(most):
            sender.sendto(bytes(size), receiver.getsockname())
        count = 0
        with contextlib.suppress(BlockingIOError):
            while count < most:
                receiver.recv(size, socket.MSG_DONTWAIT)
                count += 1
        return count


def build_c(name: str) -> str:
    """A program of benchmarks/peers in C: "loop" or "threads"."""
    BUILD.mkdir(parents=True, exist_ok=True)
    program = BUILD / name
    source = HERE / "peers" / f"{name}.c"
    compiler = os.environ.get("CC", "cc")
    subprocess.run(
        [compiler, "-O2", "-Wall", "-Wextra", "-o", program, source, "-lpthread"], check=True
    )
    return str(program)


def build_go() -> str | None:
    """The Go program; None, with a word why, where Go cannot build it."""
    if shutil.which("go") is None:
        print("benchmarks: go is not there, so its package is left out", file=sys.stderr)
        return None
    BUILD.mkdir(parents=True, exist_ok=True)
    program = BUILD / "go-peer"
    done = subprocess.run(
        ["go", "build", "-o", program, "."],
        cwd=HERE / "peers" / "go",
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        print(f"benchmarks: go cannot build its peer, which is left out: {reason}", file=sys.stderr)
        return None
    return str(program)


@contextlib.contextmanager
def peers() -> Iterator[dict[str, Peer]]:
    """All peers that can run here, by name; "ipv4batch" is one of them."""
    commands = {"c": [build_c("loop")]}
    if (program := build_go()) is not None:
        commands["go"] = [program]
    for name in PYTHON_PEERS:
        commands[name] = [sys.executable, str(HERE / "peers" / "python_peer.py"), name]
    started: dict[str, Peer] = {}
    try:
        for name, command in commands.items():
            started[name] = Peer(name, command)
        yield started
    finally:
        for peer in started.values():
            peer.close()
