"""A call with one of its allocations failed, and what it leaves behind."""

import array
import contextlib
import copy
import dataclasses
import errno
import functools
import gc
import ipaddress
import itertools
import os
import pathlib
import select
import socket
import sys
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any

import pytest

import ipv4batch
from ipv4batch import (
    ControlFlags,
    ControlMessage,
    Header,
    ICMPFilter,
    Message,
    PacketConn,
    QueuedError,
    RawConn,
)
from support.net import LOOPBACK, open_raw

_testcapi = pytest.importorskip("_testcapi", reason="this Python cannot fail its allocations")

FAILED: Any = object()
TRIES_AFTER_THE_LAST = 12
"""A call is through when so many more allocations could fail and none of them was its own."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A call, what it gives, and what it changes; all of them expressions, see Scene."""

    call: str
    result: str = "None"
    show: str = "plain(r)"
    """What is compared with `result`, made from r, the call's result or its exception."""
    given: str = ""
    """Statements that come before."""
    state: str = "None"
    """What the call may change; it is as before after a MemoryError."""
    after: str = "before"
    """The state when the call is done."""
    raises: type[Exception] | None = None


CASES: dict[str, Case] = {}
NEEDS: dict[str, str] = {}
"""What cases need of the capabilities of kernel and process."""


def case(name: str, call: str, *more: str, needs: str | None = None, **fields: Any) -> None:
    """Enter a case for a public name; after a colon stands what is special about it."""
    assert name not in CASES
    CASES[name] = Case(call, *more, **fields)
    if needs is not None:
        NEEDS[name] = needs


# What the expressions can use

DATA = bytes(300)
"""Long enough for its length to be an int that is allocated."""

EVERYTHING = ControlFlags(127)
EVERYBODY = ("255.255.255.255", 9)
PROTOCOL = 253
"""The number is for experiments (RFC 3692)."""

# The kernel lists the groups of all processes: another run of the suite has another one.
GROUP = f"239.255.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
SOURCE = "127.0.0.1"
PARSED = ControlMessage(9, None, "0.0.0.0", 300, 7, segment_size=1000)
PLAIN = Header(src="0.0.0.0", dst="10.0.0.1", ttl=1)
QUEUED = (1, 2, 3, 4, 5, "6", None, b"8")


def plain(value: Any) -> Any:
    """Something that can be compared with what another such call gives."""
    if isinstance(value, OSError):
        return None
    return repr(value) if isinstance(value, ipv4batch.Conn) else value


def waiting(sock: socket.socket) -> bytes | None:
    """The datagram that would be read next."""
    with contextlib.suppress(BlockingIOError):
        return sock.recv(len(DATA) + 60, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    return None


def unread(conn: PacketConn, sock: socket.socket) -> int:
    """How many datagrams there are to read, of which the socket has one at most."""
    return (waiting(sock) is not None) + conn.pending


def has_errors(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, 0)
    return bool(poll.poll(0))


def passes(sock: socket.socket) -> bool:
    """Whether the socket's filter lets a datagram through."""
    sock.sendto(b"x", sock.getsockname())
    passed = waiting(sock) is not None
    if passed:
        sock.recv(1)
    return passed


def memberships() -> list[list[str]]:
    """What the host's lists say of the group, which is ours alone."""
    packed = socket.inet_aton(GROUP)
    names = packed[::-1].hex().upper(), packed.hex().upper(), "0x" + packed.hex()
    lines = [
        line.split()
        for name in ("igmp", "mcfilter")
        for line in pathlib.Path("/proc/net", name).read_text().splitlines()
    ]
    # Two columns of the first list are timers.
    return [line[:2] + line[4:] for line in lines if any(name in line for name in names)]


def join(conn: PacketConn, *calls: str) -> None:
    for call in calls:
        getattr(conn, call)("lo", GROUP, *[SOURCE] * ("source" in call))


def joined(*calls: str) -> list[list[str]]:
    """The memberships after calls on a connection that is gone afterwards."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        join(PacketConn(sock), *calls)
        return memberships()


MODULES = {
    "copy": copy,
    "errno": errno,
    "partial": functools.partial,
    "IPv4Address": ipaddress.IPv4Address,
}


class Ends:
    """Sockets for one attempt; none of their calls waits."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack

    def udp(self) -> socket.socket:
        sock = self._stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sock.bind((LOOPBACK, 0))
        sock.setblocking(False)
        return sock

    def raw(self, protocol: int = PROTOCOL) -> socket.socket:
        """On an address where nobody else is."""
        sock = self._stack.enter_context(open_raw(protocol, "127.91.17.45"))
        sock.setblocking(False)
        return sock

    def nobody(self) -> tuple[str, int]:
        """An address where nobody listens."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((LOOPBACK, 0))
            return sock.getsockname()

    def received(self, buffer: Any) -> Message:
        """A message with 300 bytes and all the control data that there is."""
        sock = self.udp()
        conn = PacketConn(sock)
        conn.set_control_message(EVERYTHING)
        message = Message(buffer, ipv4batch.new_control_message(EVERYTHING))
        sock.sendto(DATA, sock.getsockname())
        assert conn.read_batch([message]) == 1
        return message


# One attempt


@functools.cache
def compiled(text: str, mode: str = "eval") -> CodeType:
    return compile(text, "<case>", mode)


def make(call: Callable[[], Any], failing: int | None = None) -> Any:
    """Call; give the result, the exception, or FAILED for a MemoryError.

    CPython 3.11 loses an exception for which it cannot allocate a frame object, and complains about
    that itself: this frame has one before, and a call that raises is made from no other.
    """
    sys._getframe()
    try:
        if failing is not None:
            _testcapi.set_nomemory(failing, failing + 1)
        return call()
    except MemoryError:
        return FAILED
    except Exception as error:
        return error.with_traceback(None)
    finally:
        _testcapi.remove_mem_hooks()


def attempt(name: str, failing: int) -> bool:
    """Make the call with one failing allocation. Tells whether the call failed for it."""
    case = CASES[name]
    call_text = case.call if case.raises is None else f"partial({case.call.replace('(', ', ', 1)}"
    with contextlib.ExitStack() as stack:
        ends = Ends(stack)
        env = {**globals(), **MODULES, "ends": ends}
        if "Conn" in name:
            env |= {"sock": (sock := ends.udp()), "conn": PacketConn(sock), "to": ends.udp()}
        exec(compiled(case.given, "exec"), env)
        call = eval(compiled(call_text if case.raises else f"lambda: {call_text}"), env)
        state = eval(compiled(f"lambda: {case.state}"), env)
        result = eval(compiled(case.result), env)
        before = env["before"] = state()
        after = eval(compiled(case.after), env)
        gc.collect()  # this empties the free lists, which would give memory without asking for it
        outcome = make(call, failing)
        failed = outcome is FAILED
        if failed:
            assert state() == before, "MemoryError, and something is done"
            outcome = make(call)
        assert type(outcome) is case.raises or case.raises is None, repr(outcome)
        assert case.raises or not isinstance(outcome, Exception), repr(outcome)
        assert eval(compiled(case.show), env | {"r": outcome}) == result
        assert state() == after
    return failed


SHARED = (None, True, Message, ControlMessage, Header, ICMPFilter, PacketConn, RawConn, QueuedError)
"""Objects whose references a call could lose: those that no attempt owns."""

clear_caches = getattr(sys, "_clear_internal_caches", None) or sys._clear_type_cache


def count(into: "array.array[int]", at: int) -> None:
    clear_caches()
    gc.collect()
    into[at] = sum(map(sys.getrefcount, SHARED))
    into[at + 1] = len(os.listdir("/proc/self/fd"))
    into[at + 2] = sys.getallocatedblocks()
    into[at + 3] = getattr(sys, "gettotalrefcount", int)()


def growth(once: Callable[[], Any]) -> list[int]:
    """How much more of each kind there is at least after each of several rounds."""
    counts = array.array("q", bytes(8 * 4 * 4))
    for at in range(0, len(counts), 4):
        once()
        count(counts, at)
    columns = (counts[kind::4] for kind in range(4))
    return [min(new - old for old, new in itertools.pairwise(column)) for column in columns]


def fail_in_turn(once: Callable[[int], bool], usual: list[int]) -> None:
    """Attempts with each allocation failing, which leave no more behind than `usual`."""
    last = -1
    for failing in itertools.count():
        if once(failing):
            last = failing
        elif failing - last > TRIES_AFTER_THE_LAST:
            break
        left = growth(functools.partial(once, failing))
        leaks = [one > other for one, other in zip(left, usual, strict=True)]
        assert not any(leaks), f"{left} references, descriptors, blocks, all references"


def fill_addresses() -> None:
    """Fill the table of addresses of peers: those to come take the places of these."""
    message = Message()
    for port in range(1000, 65536):
        message.addr = (LOOPBACK, port)
        assert message.addr == (LOOPBACK, port)


@contextlib.contextmanager
def short_collections() -> Iterator[None]:
    """Collections look at what an attempt makes and not at everything else."""
    fill_addresses()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
