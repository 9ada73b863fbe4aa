"""The peers as processes: built here, started once, and asked for measurement after measurement."""

import contextlib
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

HERE = pathlib.Path(__file__).resolve().parent
BUILD = HERE.parent / "build" / "benchmarks"

PYTHON_PEERS = ("ipv4batch", "sendto", "sendmsg", "asyncio", "uvloop")


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
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def measure(self, task: Task) -> Times:
        """Have a task measured. Raises RuntimeError when the peer has failed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(" ".join(map(str, task)) + "\n")
        self._process.stdin.flush()
        medians = []
        for _ in Times._fields:
            # The first bursts find cold caches and buffers that the kernel has yet to allocate.
            bursts = list(map(int, self._process.stdout.readline().split()))[task.bursts // 8 :]
            if not bursts:
                raise RuntimeError(f"the peer {self.name} failed at {task}")
            medians.append(statistics.median(bursts) / task.burst)
        return Times(*medians)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


def build_c() -> list[str]:
    """The bare C loop, as a command."""
    BUILD.mkdir(parents=True, exist_ok=True)
    program = BUILD / "loop"
    compiler = os.environ.get("CC", "cc")
    subprocess.run(
        [compiler, "-O2", "-Wall", "-Wextra", "-o", program, HERE / "peers" / "loop.c"], check=True
    )
    return [str(program)]


def build_go() -> list[str] | None:
    """The Go program, as a command; None, with a word why, where Go cannot build it."""
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
    return [str(program)]


@contextlib.contextmanager
def peers() -> Iterator[dict[str, Peer]]:
    """All peers that can run here, by name; "ipv4batch" is one of them."""
    commands = {"c": build_c(), "go": build_go()}
    for name in PYTHON_PEERS:
        commands[name] = [sys.executable, str(HERE / "peers" / "python_peer.py"), name]
    started: dict[str, Peer] = {}
    try:
        for name, command in commands.items():
            if command is not None:
                started[name] = Peer(name, command)
        yield started
    finally:
        for peer in started.values():
            peer.close()
