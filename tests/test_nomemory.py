"""Every public call with each of its allocations failed in turn: MemoryError, and no trace."""

import array
import contextlib
import copy
import dataclasses
import errno
import functools
import gc
import importlib.util
import inspect
import ipaddress
import itertools
import os
import pathlib
import select
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any

import pytest
from support_net import LIMIT, LOOPBACK, open_raw

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
    refill: str | None = None
    """Set where the kernel's part is done before the result can be made: the state after a
    MemoryError may then be that of a call that is done, and this makes it the one before."""


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

GROUP, SOURCE = "239.255.91.17", "127.0.0.1"
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
            if case.refill is not None and state() == after:
                eval(compiled(case.refill), env)
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


@pytest.fixture(autouse=True, scope="module")
def short_collections() -> Iterator[None]:
    """Collections look at what an attempt makes and not at everything else."""
    fill_addresses()
    gc.collect()
    gc.freeze()
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()


# Functions and enumerations

case("checksum", r"ipv4batch.checksum(b'\1\2\3', start=0)", "0xFBFD")
case("checksum: refused", "ipv4batch.checksum('text')", show="None", raises=TypeError)
case("new_control_message", "ipv4batch.new_control_message(4)", "bytearray(32)")
case("parse_header", "ipv4batch.parse_header(bytearray(PLAIN.marshal()))", "PLAIN")
case("parse_header: refused", "ipv4batch.parse_header(b'E')", show="None", raises=ValueError)
case("drops_between", "ipv4batch.drops_between(2**31, None)", "2**31")
case("capabilities", "ipv4batch.capabilities()", "ipv4batch.capabilities()")
case("new_messages: none", "ipv4batch.new_messages(0)", "[]")
case(
    "new_messages",
    "ipv4batch.new_messages(3, 1500, ControlFlags.DST)",
    "[(1500, 32)] * 3",
    "[(len(m.buffers[0]), len(m.oob)) for m in r]",
)
for enumeration, number in [
    ("ECN", 3),
    ("ControlFlags", 6),
    ("ErrorOrigin", 2),
    ("HeaderFlags", 3),
    ("ICMPType", 8),
    ("MTUDiscover", 2),
]:
    case(enumeration, f"ipv4batch.{enumeration}({number})", f"{number}")
case("ICMPType: text", "str(ipv4batch.ICMPType.ECHO_REPLY)", "'echo reply'")
case("QueuedError", "QueuedError(QUEUED)", "QUEUED")


# Records and messages: every attribute is read and set, in each form that it takes


def attribute(name: str, make: str, value: str, needs: str | None = None, read: str = "") -> None:
    """Enter the reading and the setting of an attribute of what `make` makes."""
    attr = name.partition(".")[2]
    label = f": {value}"
    set_it = f"setattr(it, '{attr}', {value})"
    case(f"{name}{label}", f"it.{attr}", read or value, given=f"it = {make}; {set_it}", needs=needs)
    case(
        f"{name} ={label}",
        set_it,
        given=f"it = {make}",
        state=f"it.{attr}",
        after=read or value,
        needs=needs,
    )


for name, values in {
    "ControlMessage.ttl": "7",
    "ControlMessage.src": "'127.0.0.5' None",
    "ControlMessage.dst": "'127.0.0.6'",
    "ControlMessage.ifindex": "1000",
    "ControlMessage.tos": "43 None",
    "ControlMessage.timestamp_ns": "10**18 None",
    "ControlMessage.drops": "70000",
    "ControlMessage.segment_size": "1200",
    "ControlMessage.ecn": "1",
    "ControlMessage.dscp": "46",
    "Header.version": "4",
    "Header.len": "24",
    "Header.tos": "1",
    "Header.total_len": "48879",
    "Header.id": "51966",
    "Header.flags": "2",
    "Header.frag_off": "1500",
    "Header.ttl": "255",
    "Header.protocol": "1",
    "Header.checksum": "57005",
    "Header.src": "'172.16.254.254' None",
    "Header.dst": "'192.168.0.1'",
    "Header.options": r"b'\1\1\1\1' bytearray(8)",
    "Message.buffers": "() (b'1',bytearray(2)) (memoryview(bytearray(9))[3:],)",
    "Message.oob": "bytearray(9) None",
    "Message.addr": "('10.1.2.3',40000) None",
}.items():
    for value in values.split():
        attribute(name, f"{name.partition('.')[0]}()", value)
for name in ("ControlMessage.src", "Header.dst"):
    for form in ("IPv4Address('10.1.2.3')", r"b'\12\1\2\3'"):
        attribute(name, f"{name.partition('.')[0]}()", form, read="'10.1.2.3'")

RECORDS = {
    "ControlMessage": "ControlMessage(9, '10.0.0.1', '10.0.0.2', 300, 7, 10**18, 2**31, 1000)",
    "Header": "Header(4, 24, 7, 999, 888, 2, 777, 64, 17, 666, '10.0.0.1', '10.0.0.2', b'1234')",
    "ICMPFilter": "ICMPFilter(0xFFFFFF00)",
}
for kind, record in RECORDS.items():
    case(kind, record, record)
    for name, call in {
        "__eq__": f"it == {record}",
        "__ne__": f"it != {record}",
        "__repr__": "repr(it)",
        "__str__": "str(it)",
        "__getnewargs__": "it.__getnewargs__()",
        "marshal": "it.marshal()",
        "will_block": "it.will_block(8)",
        "blocked": "it.blocked",
    }.items():
        if name in vars(getattr(ipv4batch, kind)):
            case(f"{kind}.{name}", call, call, given=f"it = {record}", state="copy.copy(it)")
for kind, call, after in [
    ("ControlMessage", "parse(PARSED.marshal())", "PARSED"),
    ("ControlMessage", "parse(bytes(17))", ""),
    ("Header", "parse(PLAIN.marshal())", "PLAIN"),
    ("Header", "parse(b'E')", ""),
    ("ICMPFilter", "accept(8)", "ICMPFilter(0)"),
    ("ICMPFilter", "block(31)", "ICMPFilter(1 << 31)"),
    ("ICMPFilter", "block(32)", ""),
    ("ICMPFilter", "set_all(True)", "ICMPFilter(2**32 - 1)"),
]:
    case(
        f"{kind}.{call.partition('(')[0]}: {call}",
        f"it.{call}",
        given=f"it = {kind}()",
        show="None",
        state="copy.copy(it)",
        after=after or "before",
        raises=None if after else ValueError,
    )

# What a received message tells

for name, call, show in [
    *((name, f"it.{name}", "r") for name in ("n", "nn", "flags", "errno", "data", "view")),
    *((name, f"it.{name}", "r") for name in ("truncated", "control_truncated")),
    ("control_message", "it.control_message()", "(r.ttl, r.src, r.dst, r.ifindex, r.tos)"),
    ("control_message: into", "it.control_message(ControlMessage(drops=9))", "(r.src, r.drops)"),
    ("reply", "it.reply([b'1', b'2'])", "(r.buffers, r.oob)"),
    ("segments", "it.segments()", "r"),
    ("__repr__", "repr(it)", "r"),
]:
    case(
        f"Message.{name}",
        call,
        "(lambda r: " + show + ")(" + call + ")",
        show,
        given="it = ends.received(bytearray(500))",
    )
WORDS = "array.array('I', bytes(400))"
case("Message.view: of words", "it.view", "DATA", given=f"it = ends.received({WORDS})")
PAIR = "[bytearray(100), bytearray(400)]"
case("Message.data: of two", "it.data", "DATA", given=f"it = ends.received({PAIR})")
case(
    "Message",
    "Message(iter([b'1', bytearray(2)]), oob=b'', addr=(LOOPBACK, 9999))",
    "((b'1', bytearray(2)), b'', (LOOPBACK, 9999))",
    "(r.buffers, r.oob, r.addr)",
)


# Connections: conn is one on sock, to is another socket

for name, value in {
    "Conn.timeout": "1.5",
    "Conn.tos": "8",
    "Conn.ttl": "33",
    "DatagramConn.gso": "True",
    "DatagramConn.gro": "True",
    "DatagramConn.recv_errors": "True",
    "DatagramConn.mtu_discover": "2",
    "DatagramConn.multicast_ttl": "7",
    "DatagramConn.multicast_loopback": "False",
    "DatagramConn.multicast_interface": "socket.if_nametoindex('lo')",
}.items():
    needs = name[-3:] if name[-3:] in ("gso", "gro") else None
    attribute(name, "conn", value, needs)
attribute(
    "DatagramConn.icmp_filter",
    "RawConn(ends.raw(socket.IPPROTO_ICMP))",
    "ICMPFilter(2**32 - 1)",
    "raw_sockets",
)
CONNECT = "sock.connect(to.getsockname())"
for name, call, given in [
    ("Conn.local_addr", "conn.local_addr", ""),
    ("Conn.remote_addr", "conn.remote_addr", CONNECT),
    ("Conn.__repr__", "repr(conn)", CONNECT),
    ("Conn.fileno", "conn.fileno()", ""),
    ("Conn.__enter__", "conn.__enter__()", ""),
    ("DatagramConn.mtu", "conn.mtu", CONNECT),
    ("DatagramConn.control_flags", "conn.control_flags", "conn.set_control_message(255)"),
    ("DatagramConn.pending", "conn.pending", ""),
    ("DatagramConn.gso_error", "conn.gso_error", ""),
]:
    case(name, call, f"plain({call})", given=given)
for name in ("set_deadline", "set_read_deadline", "set_write_deadline"):
    case(f"Conn.{name}", f"conn.{name}(1e9)")
for name, call in (("close", "conn.close()"), ("__exit__", "conn.__exit__(None, None, None)")):
    case(f"Conn.{name}", call, state="(conn.fileno(), sock.fileno())", after="(-1, -1)")
for name in ("Conn", "PacketConn"):
    call = f"ipv4batch.{name}(to)"
    case(name, call, "(to.fileno(), 0)", "(r.fileno(), r.timeout)")
case("PacketConn: a descriptor", "PacketConn(to.fileno())", "to.fileno()", "r.fileno()")
case("PacketConn: refused", "PacketConn(object())", show="None", raises=TypeError)
case("RawConn", "RawConn(raw)", "0", "r.timeout", given="raw = ends.raw()", needs="raw_sockets")
case(
    "DatagramConn.gso_error: refused",
    "conn.gso_error.errno",
    "errno.EINVAL",
    # SO_NO_CHECK (socket(7)): what has no checksums cannot be segmented.
    given="sock.setsockopt(socket.SOL_SOCKET, 11, 1); conn.gso = True\n"
    "assert conn.write_batch([Message(b'x', addr=to.getsockname())] * 2) == 2",
    needs="gso",
)
case(
    "DatagramConn.set_control_message",
    "conn.set_control_message(flags=EVERYTHING, on=True)",
    state="conn.control_flags",
    after="int(EVERYTHING)",
)
for form in (
    "[[6, 0, 0, 0]]",
    "((6, 0, 0, 0),)",
    r"'1\n6 0 0 0\n'",
    "array.array('I', [6, 0])",
):
    case(
        f"DatagramConn.set_bpf: {form}",
        "conn.set_bpf(it)",
        given=f"it = {form}",
        state="passes(sock)",
        after="False",
    )
case(
    "DatagramConn.set_bpf: None",
    "conn.set_bpf(None)",
    given="conn.set_bpf([[6, 0, 0, 0]])",
    state="passes(sock)",
    after="True",
)
for name, earlier in {
    "join_group": "",
    "leave_group": "join_group",
    "join_source_specific_group": "",
    "leave_source_specific_group": "join_source_specific_group",
    "exclude_source_specific_group": "join_group",
    "include_source_specific_group": "join_group exclude_source_specific_group",
}.items():
    source = ", SOURCE" if "source" in name else ""
    calls = earlier.split()
    case(
        f"DatagramConn.{name}",
        f"conn.{name}('lo', GROUP{source})",
        given=f"done = joined(*{[*calls, name]}); join(conn, *{calls})",
        state="memberships()",
        after="done",
    )

# Input and output

SEND = "sock.sendto(DATA, sock.getsockname())"
FILL = "sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)"
case(
    "PacketConn.read_from",
    "conn.read_from(bytearray(500), flags=0)",
    "(300, 64, LOOPBACK, conn.local_addr)",
    "(r[0], r[1].ttl, r[1].src, r[2])",
    given=f"conn.set_control_message(EVERYTHING); {SEND}",
    state="waiting(sock)",
    after="None",
    refill=SEND,
)
case(
    "PacketConn.write_to",
    "conn.write_to(DATA, to.getsockname(), ControlMessage(ttl=3), flags=0)",
    "len(DATA)",
    state="waiting(to)",
    after="DATA",
)
RAW_ENDS = (
    "raw = ends.raw(); it = RawConn(raw); host = raw.getsockname()[0]\n"
    "head = Header(ttl=9, protocol=PROTOCOL, id=1, src=host, dst=host)\n"
)
case(
    "RawConn.read_from",
    "it.read_from(bytearray(500))",
    "(head.ttl, DATA, head.src)",
    "(r[0].ttl, bytes(r[1]), r[2].src)",
    given=RAW_ENDS + "it.set_control_message(EVERYTHING); it.write_to(head, DATA)",
    state="waiting(raw)",
    after="None",
    refill="it.write_to(head, DATA)",
    needs="raw_sockets",
)
case(
    "RawConn.write_to",
    "it.write_to(head, DATA, ControlMessage(tos=0))",
    "len(DATA)",
    given=RAW_ENDS,
    state="(waiting(raw) or bytes(20))[20:]",
    after="DATA",
    needs="raw_sockets",
)
# CPython never allocates small ints: a count over 256 is allocated.
for number in (3, 258):
    case(
        f"DatagramConn.read_batch: {number}",
        "conn.read_batch(msgs, flags=0)",
        f"{number}",
        given=f"{FILL}\nfor _ in range({number}): {SEND}\n"
        f"msgs = ipv4batch.new_messages({number}, 500)",
        state="(waiting(sock), msgs[-1].n)",
        after="(None, 300)",
    )
    for name in ("write_batch", "write_all"):
        case(
            f"DatagramConn.{name}: {number}",
            f"conn.{name}(msgs, flags=0)",
            f"{number}",
            given=f"msgs = [Message(DATA, addr=to.getsockname())] * {number}",
            state="waiting(to)",
            after="DATA",
        )
case(
    "DatagramConn.read_errors",
    "conn.read_errors(max=300)",
    "[(LOOPBACK, nobody, DATA)]",
    "[(e.offender, e.addr, e.data) for e in r]",
    given="nobody = ends.nobody(); conn.recv_errors = True; conn.write_to(DATA, nobody)",
    state="has_errors(sock)",
    after="False",
    refill="conn.write_to(DATA, nobody)",
)

# Calls that raise

GOOD_AND_BAD = "good, bad = Message(DATA, addr=to.getsockname()), Message(DATA, addr=EVERYBODY)"
NONE = "msgs = ipv4batch.new_messages(2)"
for name, call, given, error in [
    ("PacketConn.read_from: waits", "read_from(bytearray(1))", "conn.timeout = 1e-6", TimeoutError),
    ("PacketConn.read_from: closed", "read_from(bytearray(1))", "conn.close()", OSError),
    ("PacketConn.write_to: refused", "write_to(DATA, EVERYBODY)", "", PermissionError),
    ("DatagramConn.read_batch: waits", "read_batch(msgs)", "conn.timeout = 1e-6", TimeoutError),
    ("DatagramConn.read_batch: empty", "read_batch(msgs, flags=0)", "", BlockingIOError),
    ("DatagramConn.read_batch: no message", "read_batch([*msgs, None])", "", TypeError),
    ("DatagramConn.write_batch: closed", "write_batch(msgs)", "conn.close()", OSError),
    ("DatagramConn.write_batch: refused", "write_batch([bad])", GOOD_AND_BAD, PermissionError),
]:
    setup = f"{NONE}\n{given}" if "msgs" in call else given
    # A message that is still held by the call could not be changed.
    free = "[setattr(m, 'oob', None) for m in msgs]" if "msgs" in call else "None"
    case(name, f"conn.{call}", given=setup, raises=error, show="None", state=free)
case(
    "DatagramConn.write_all: refused",
    "conn.write_all([bad, good])",
    "(0, 0)",
    "(r.index, r.written)",
    given=GOOD_AND_BAD,
    state="waiting(to)",
    raises=PermissionError,
)
case(
    "DatagramConn.write_all: skips",
    "conn.write_all([bad, good], errors='skip')",
    "1",
    given=GOOD_AND_BAD,
    state="waiting(to)",
    after="DATA",
)

# What it all comes to


@pytest.mark.parametrize("name", CASES)
def test_each_allocation_fails_in_turn(name: str, request: pytest.FixtureRequest) -> None:
    if NEEDS.get(name) == "raw_sockets":
        request.getfixturevalue("needs_raw")
    elif name in NEEDS and not ipv4batch.capabilities()[NEEDS[name]]:
        pytest.skip(f"the kernel has no {NEEDS[name]}")
    fail_in_turn(functools.partial(attempt, name), [0] * 4)


def load(failing: int | None = None) -> bool:
    """Make a module of its own. Tells whether that failed for the allocation."""
    spec = importlib.util.find_spec("ipv4batch._ipv4batch")
    module = importlib.util.module_from_spec(spec)
    gc.collect()
    outcome = make(functools.partial(spec.loader.exec_module, module), failing)
    assert outcome is None or outcome is FAILED, repr(outcome)
    return outcome is FAILED


def test_an_import_fails_as_a_whole() -> None:
    fail_in_turn(load, growth(load))


# What Python's allocators do not give; a limit on the whole process lets it fail.
ARRAYS = """
import resource, socket
from pathlib import Path
from ipv4batch import Message, PacketConn, capabilities

def limit(more):
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + more, hard))

def fails(call, *arguments):
    try:
        call(*arguments)
    except MemoryError:
        return True

_, hard = resource.getrlimit(resource.RLIMIT_AS)
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("127.0.0.1", 0))
sock.setblocking(False)
with PacketConn(sock) as conn:
    one = Message(bytearray(b"12"), addr=conn.local_addr)
    if capabilities()["gro"]:
        limit(1 << 20)
        assert fails(setattr, conn, "gro", True)
        assert not conn.gro
        limit(64 << 20)
        conn.gro = True
        assert conn.write_batch([one]) == conn.read_batch([one]) == 1
    many = [one] * 4_000_000
    limit(64 << 20)
    assert fails(conn.write_batch, many)
    assert fails(conn.write_all, many)
    assert fails(conn.read_batch, many)
    many[0].buffers = bytearray(b"123")
    assert conn.write_batch(many[:2]) == 2
    assert conn.read_batch([Message(bytearray(9))] + many[:1]) == 2
    assert many[0].data == b"123"
"""


def test_there_is_no_memory_for_the_arrays_of_a_call() -> None:
    if os.environ.get("IPV4BATCH_TEST_SANITIZED", "0") not in ("", "0"):
        pytest.skip("sanitizers need all of the address space")
    python = [sys.executable, "-P", "-W", "error", "-c", ARRAYS]
    done = subprocess.run(python, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr


NOT_OURS = {"__new__", "__init__", "__ge__", "__gt__", "__le__", "__lt__", "__hash__"}
"""The constructors stand under the names of their types; order and hash are refused by CPython."""


def public_calls(kind: type, instance: Any) -> Iterator[str]:
    """Every method and attribute; what can be set once more, with an = behind its name."""
    for name, member in vars(kind).items():
        if name in NOT_OURS or not (callable(member) or inspect.isdatadescriptor(member)):
            continue
        yield f"{kind.__name__}.{name}"
        if not callable(member):
            try:
                member.__delete__(instance)
            except TypeError:
                yield f"{kind.__name__}.{name} ="  # "cannot be deleted": it can be set
            except AttributeError:
                pass


def test_every_public_call_is_tried() -> None:
    tried = {name.partition(":")[0] for name in CASES}
    public = {name for name in ipv4batch.__all__ if callable(getattr(ipv4batch, name))}
    with contextlib.ExitStack() as stack:
        conn = PacketConn(Ends(stack).udp())
        for instance in (Message(), ControlMessage(), Header(), ICMPFilter(), conn):
            for kind in type(instance).__mro__[:-1]:
                public.update(public_calls(kind, instance))
    public.update(f"RawConn.{name}" for name in vars(RawConn) if not name.startswith("__"))
    assert public == tried
