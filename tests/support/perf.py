"""What the tests of ipv4batch perf share: commands as users run them, processes, and datagrams."""

import contextlib
import json
import pathlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

from ipv4batch.perf.channel import Channel
from ipv4batch.perf.datagrams import Checker, Composer, Tally
from ipv4batch.perf.sender import Settings, Setup

LIMIT = 60.0
"""Seconds that any step may take on a busy machine."""

RUN = 0x1234
SIZE = 100
COMMAND = [sys.executable, "-m", "ipv4batch"]


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=LIMIT, check=False
    )


@contextlib.contextmanager
def running(*arguments: str, stderr: int = subprocess.PIPE) -> Iterator["subprocess.Popen[str]"]:
    """A command in the background, ended with the context and after LIMIT at the latest."""
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=stderr, text=True
    )
    killer = threading.Timer(LIMIT, process.kill)
    killer.start()
    try:
        yield process
    finally:
        killer.cancel()
        killer.join()
        process.kill()
        process.communicate()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, f"still not: {what}"
        time.sleep(0.01)


def children(pid: int) -> list[int]:
    """The processes whose parent is `pid`, zombies left out."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if int(parent) == pid and state != "Z":
                    found.append(int(entry.name))
    return found


def alive(pid: int) -> bool:
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def datagrams(count: int, run_id: int = RUN, first: int = 0) -> list[bytearray]:
    composer = Composer(run_id, SIZE)
    made = [bytearray(SIZE) for _ in range(count)]
    for index, datagram in enumerate(made):
        composer.compose(first + index, memoryview(datagram))
    return made


def check(*received: bytes | bytearray, count: int, first: int = 0) -> Tally:
    checker = Checker(RUN, SIZE, first, count)
    for datagram in received:
        checker.check(memoryview(datagram))
    return checker.tally()


@contextlib.contextmanager
def channel_and_peer(timeout: float = LIMIT) -> Iterator[tuple[Channel, socket.socket]]:
    ours, theirs = socket.socketpair()
    with Channel(ours, "the peer", timeout) as channel, theirs:
        yield channel, theirs


SETTINGS = Settings(count=1000, size=SIZE, batch=64, rounds=2)
SETUP = Setup(burst=512, rcvbuf_asked=1 << 20, rcvbuf=1 << 21)


def start_listening(process: "subprocess.Popen[str]") -> tuple[str, int]:
    assert process.stdout is not None
    event = json.loads(process.stdout.readline())
    assert event["event"] == "listening"
    return event["host"], event["port"]


def assert_failure(returncode: int, errors: str, expected: str) -> None:
    """The run failed, and its last words are one line that contains `expected`."""
    assert returncode == 1
    *earlier, last = errors.splitlines()
    assert last.startswith("ipv4batch perf: error: ")
    assert expected in last
    assert all(line.startswith("ipv4batch perf: round") for line in earlier)
