"""System calls that fail on purpose: the process that tries them, and how a test runs it.

As a script it reads cases from its input, one line of JSON each, and prints what became of each.
It runs under the library of faults/faults.c, which makes the calls fail that a case names.
"""

import contextlib
import ctypes
import json
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from operator import attrgetter
from typing import Any

from ipv4batch import ControlFlags, ControlMessage, Message, MTUDiscover, PacketConn, new_messages
from support.net import Call, leaks_allowed

SOURCE = pathlib.Path(__file__).parent / "faults.c"
LIMIT = 50
TOTAL = 12
"""Datagrams of a case; of read_errors there are fewer."""
ERRORS = 3
RUN, SEGMENTS = 2, 3
"""So many in a row go to one reader, and so many are coalesced with receive offload."""
UDP_SEGMENT = 103  # linux/udp.h
IP_OPTIONS = (12, 8, 13)  # IP_RECVTTL, IP_PKTINFO, IP_RECVTOS in linux/in.h

Case = dict[str, Any]
"""op, offload, recv_errors, timeout; faults: [call, errno, how many pass, how often it fails]."""

Outcome = dict[str, Any]
"""steps: what each call gave; arrived; hits of each fault; the seconds that it took."""


def build(compiler: str, folder: pathlib.Path) -> pathlib.Path:
    """Compile the library of faults."""
    library = folder / "faults.so"
    options = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC"]
    command = [compiler, *options, "-o", library, SOURCE, "-ldl"]
    subprocess.run(command, check=True, timeout=LIMIT, env=leaks_allowed())
    return library


def run(library: pathlib.Path, cases: list[Case]) -> list[Outcome]:
    """What becomes of each case, all in one process."""
    before = os.environ.get("LD_PRELOAD", "")  # sanitizers, which have to come first
    try:
        done = subprocess.run(
            [sys.executable, "-P", __file__],
            env={
                **os.environ,
                "LD_PRELOAD": f"{before} {library}".strip(),
                "PYTHONPATH": str(pathlib.Path(__file__).parent.parent),
            },
            input="\n".join(map(json.dumps, cases)),
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
    except subprocess.TimeoutExpired as error:
        reached = len((error.stdout or b"").splitlines())
        raise AssertionError(f"it does not end: {cases[reached]}") from error
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    last = cases[len(outcomes)] if len(outcomes) < len(cases) else None
    assert (done.returncode, done.stderr, last) == (0, "", None)
    return outcomes


# What follows runs in the process that has the library.


def open_udp() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return sock


def number_of(data: bytes) -> int:
    """The number of a datagram; that of one which has lost its bounds is no such number."""
    return int.from_bytes(data, "big") if len(data) == 4 else -len(data)


def drain(sock: socket.socket) -> list[int]:
    """What has come to a plain socket; loopback delivers before a write returns."""
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(number_of(sock.recv(100, socket.MSG_DONTWAIT)))
    return found


def describe(error: OSError) -> dict[str, Any]:
    where = {name: getattr(error, name, None) for name in ("index", "written")}
    text = re.sub(r":\d+'", ":PORT'", str(error))
    return {"type": type(error).__name__, "errno": error.errno, "text": text, **where}


class Faults:
    """Armed from the first step to the first exception."""

    def __init__(self, faults: list[tuple[str, int, int, int]]) -> None:
        self._library = ctypes.CDLL(None)
        self._faults = faults
        self.hits: dict[str, int] = {}

    def __enter__(self) -> "Faults":
        for name, error, before, times in self._faults:
            known = self._library.faults_arm(name.encode(), error, before, times)
            assert known == 0, name
        return self

    def disarm(self) -> None:
        for name, *_ in self._faults:
            self.hits[name] = self._library.faults_disarm(name.encode())

    def __exit__(self, *_: object) -> None:
        self.disarm()


class AlarmError(Exception):
    """What the handler of the timer raises."""


def alarm(signum: int, frame: Any) -> None:
    raise AlarmError


Step = Callable[[int], tuple[int, int]]
"""From how many have been moved to the result of a call, and how many that has moved."""


def take_steps(
    case: Case,
    step: Step,
    total: int,
    messages: list[Message],
    counts: Callable[[], int] = lambda: 0,
) -> Outcome:
    """Call until all have been moved, or two calls have failed.

    `counts` gives how many the last call has moved that a signal handler ended.
    """
    steps: list[Any] = []
    moved = failed = 0
    started = time.monotonic()
    with Faults(case["faults"]) as armed:
        while moved < total and failed < 2 and len(steps) < 20:
            try:
                if "alarm" in case:
                    signal.setitimer(signal.ITIMER_REAL, case["alarm"])
                result, by = step(moved)
            except AlarmError as error:
                armed.disarm()
                steps.append("alarm" if vars(error) == {} else "alarm with attributes")
                moved += counts()
            except OSError as error:
                armed.disarm()
                errnos = [message.errno for message in messages]
                steps.append({**describe(error), "errnos": errnos})
                moved += getattr(error, "index", 0)
                failed += 1
            else:
                steps.append(result)
                moved += by
    signal.setitimer(signal.ITIMER_REAL, 0)
    return {
        "steps": steps,
        "hits": armed.hits,
        "seconds": time.monotonic() - started,
        "errnos": [message.errno for message in messages],
    }


def merge(steps: list[Any]) -> list[Any]:
    """Results in a row, of calls that move one datagram each, as their sum."""
    merged: list[Any] = []
    for each in steps:
        if merged and isinstance(each, int) and isinstance(merged[-1], int):
            merged[-1] += each
        else:
            merged.append(each)
    return merged


def write(case: Case) -> Outcome:
    """Some to one reader and as many to another, each time on another path.

    So offload makes runs of so many, in the order of the list.
    """
    with open_udp() as one, open_udp() as other, PacketConn(open_udp()) as conn:
        conn.timeout = case["timeout"]
        conn.gso = case["offload"]
        conn.recv_errors = case["recv_errors"]
        conn.mtu_discover = case.get("mtu_discover", conn.mtu_discover)
        messages = [
            Message(
                i.to_bytes(4, "big"),
                ControlMessage(ttl=9 + i // RUN).marshal(),
                (one, other)[i // RUN % 2].getsockname(),
            )
            for i in range(TOTAL)
        ]

        def write_batch(moved: int) -> tuple[int, int]:
            return (conn.write_batch(messages[moved:]),) * 2

        def write_to(moved: int) -> tuple[int, int]:
            message = messages[moved]
            assert conn.write_to(message.buffers[0], message.addr) == 4
            return 1, 1

        def write_all(moved: int) -> tuple[int, int]:
            return (conn.write_all(messages[moved:]),) * 2

        def write_all_skip(moved: int) -> tuple[int, int]:
            return conn.write_all(messages[moved:], errors="skip"), TOTAL

        step = {f.__name__: f for f in (write_batch, write_to, write_all, write_all_skip)}
        outcome = take_steps(case, step[case["op"]], TOTAL, messages, lambda: conn.last_written)
        if case["op"] == "write_to":
            outcome["steps"] = merge(outcome["steps"])
        arrived = [drain(one), drain(other)]
        pending = 0
        try:
            conn.write_to(b"one more", one.getsockname())
        except OSError as error:
            pending = error.errno
        return {**outcome, "arrived": arrived, "gso": conn.gso, "pending": pending}


def send(to: tuple[str, int], coalesced: bool, total: int = TOTAL) -> None:
    """Numbered datagrams, or coalesced ones for receive offload to split."""
    size = SEGMENTS if coalesced else 1
    control = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("H", 4))] if coalesced else []
    with open_udp() as sock:
        for first in range(0, total, size):
            numbers = range(first, first + size)
            sock.sendmsg([number.to_bytes(4, "big") for number in numbers], control, 0, to)


def read(case: Case) -> Outcome:
    with PacketConn(open_udp()) as conn:
        conn.timeout = case["timeout"]
        conn.gro = case["offload"]
        conn.recv_errors = case["recv_errors"]
        total = case.get("total", TOTAL)
        send(conn.local_addr, coalesced=case["offload"] and total == TOTAL, total=total)
        messages = new_messages(total, 100)
        buffer = bytearray(100)
        found: list[int] = []

        def read_batch(moved: int) -> tuple[int, int]:
            n = conn.read_batch(messages)
            found.extend(number_of(message.data) for message in messages[:n])
            return n, n

        def read_from(moved: int) -> tuple[int, int]:
            n, _, _ = conn.read_from(buffer)
            found.append(number_of(buffer[:n]))
            return 1, 1

        step = read_batch if case["op"] == "read_batch" else read_from
        outcome = take_steps(case, step, total, [])
        if case["op"] == "read_from":
            outcome["steps"] = merge(outcome["steps"])
        with contextlib.suppress(BlockingIOError):
            raise AssertionError(conn.read_from(buffer, socket.MSG_DONTWAIT))
        return {**outcome, "arrived": [found]}


def read_errors(case: Case) -> Outcome:
    with PacketConn(open_udp()) as conn, open_udp() as closed:
        nobody = closed.getsockname()
        closed.close()
        conn.timeout = case["timeout"]
        conn.gso = conn.gro = case["offload"]
        conn.recv_errors = True
        for number in range(ERRORS):
            conn.write_to(number.to_bytes(4, "big"), nobody)
        found: list[int] = []

        def step(moved: int) -> tuple[int, int]:
            errors = conn.read_errors(wait=case["timeout"] != 0)
            found.extend(number_of(error.data) for error in errors)
            return len(errors), len(errors)

        outcome = take_steps(case, step, ERRORS, [])
        assert conn.read_errors() == []
        return {**outcome, "arrived": [found]}


ALL = ControlFlags.TTL | ControlFlags.SRC | ControlFlags.TOS
Action = Callable[[PacketConn], Any]
"""What is done to a connection, or a look at it."""


def assign(name: str, value: Any) -> tuple[Action, Action]:
    return lambda conn: setattr(conn, name, value), attrgetter(name)


def look(name: str) -> tuple[Action, Action]:
    return attrgetter(name), attrgetter(name)


def kernel_flags(conn: PacketConn) -> list[Any]:
    """What the connection says of its control flags, and what the kernel says."""
    with socket.socket(fileno=os.dup(conn.fileno())) as sock:
        options = [sock.getsockopt(socket.IPPROTO_IP, number) for number in IP_OPTIONS]
    return [int(conn.control_flags), *options]


OPTIONS: dict[str, tuple[Action, Action]] = {
    "tos": assign("tos", 8),
    "ttl": assign("ttl", 9),
    "multicast_ttl": assign("multicast_ttl", 9),
    "multicast_loopback": assign("multicast_loopback", False),
    "multicast_all": assign("multicast_all", False),
    "multicast_interface": assign("multicast_interface", "lo"),
    "mtu_discover": assign("mtu_discover", MTUDiscover.DO),
    "recv_errors": assign("recv_errors", True),
    "gso": assign("gso", True),
    "gro": assign("gro", True),
    "set_control_message": (lambda conn: conn.set_control_message(ALL), kernel_flags),
    "set_control_message beside gro": (
        lambda conn: conn.set_control_message(ControlFlags.TTL),
        attrgetter("control_flags"),
    ),
    "join_group": (lambda conn: conn.join_group("lo", "239.1.2.3"), lambda conn: None),
    "set_bpf": (lambda conn: conn.set_bpf([(6, 0, 0, 0xFFFF)]), lambda conn: None),
    "look at tos": look("tos"),
    "look at multicast_interface": look("multicast_interface"),
    "look at local_addr": look("local_addr"),
    "look at remote_addr": look("remote_addr"),
    "PacketConn": (lambda conn: PacketConn(conn.fileno()).fileno(), PacketConn.fileno),
}


def option(case: Case) -> Outcome:
    """An attribute or method that makes a system call, first with the fault and then without."""
    with PacketConn(open_udp()) as conn:
        action, observe = OPTIONS[case["option"]]
        if case["option"].endswith("beside gro"):
            conn.set_control_message(ControlFlags.SEGMENT)
            conn.gro = True
        before = observe(conn)
        error = None
        with Faults(case["faults"]) as armed:
            try:
                action(conn)
            except OSError as caught:
                error = caught
        between = observe(conn)
        action(conn)
        return {
            "raised": error and describe(error),
            "changed": between != before,
            "between": between,
            "after": observe(conn),
            "hits": armed.hits,
        }


def close(case: Case) -> Outcome:
    """The end of a connection while a call waits on it."""
    conn = PacketConn(open_udp())
    number = conn.fileno()
    call = Call(conn.read_batch, new_messages(1)).wait_until_waiting()
    with Faults(case["faults"]) as armed:
        conn.close()
        try:
            call.result()
        except OSError as error:
            ended = error.errno
    left = os.path.exists(f"/proc/self/fd/{number}")
    return {"ended": ended, "left": left, "hits": armed.hits}


OPERATIONS: dict[str, Callable[[Case], Outcome]] = {
    **dict.fromkeys(("write_batch", "write_to", "write_all", "write_all_skip"), write),
    **dict.fromkeys(("read_batch", "read_from"), read),
    "read_errors": read_errors,
    "option": option,
    "close": close,
}


def main() -> None:
    signal.signal(signal.SIGALRM, alarm)
    for line in sys.stdin:
        case = json.loads(line)
        print(json.dumps(OPERATIONS[case["op"]](case)), flush=True)


if __name__ == "__main__":
    main()
