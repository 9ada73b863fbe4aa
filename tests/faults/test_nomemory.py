"""Every public call with each of its allocations failed in turn: MemoryError, and no trace."""

import contextlib
import errno
import functools
import gc
import importlib.util
import inspect
import itertools
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import support.nomemory_cases  # noqa: F401, the cases enter themselves
from support.net import LIMIT
from support.nomemory import (
    CASES,
    EVERYBODY,
    FAILED,
    NEEDS,
    Ends,
    attempt,
    fail_in_turn,
    growth,
    make,
    short_collections,
)

import ipv4batch
from ipv4batch import (
    ControlMessage,
    Header,
    ICMPFilter,
    Message,
    PacketConn,
    RawConn,
)


@pytest.fixture(autouse=True, scope="module")
def collections() -> Iterator[None]:
    with short_collections():
        yield


@pytest.mark.parametrize("name", CASES)
def test_each_allocation_fails_in_turn(name: str, request: pytest.FixtureRequest) -> None:
    if NEEDS.get(name) == "raw_sockets":
        request.getfixturevalue("needs_raw")
    elif name in NEEDS and not ipv4batch.capabilities()[NEEDS[name]]:
        pytest.skip(f"the kernel has no {NEEDS[name]}")
    fail_in_turn(functools.partial(attempt, name), [0] * 4)


def test_the_messages_tell_where_write_all_ended(
    conn_pair: tuple[PacketConn, PacketConn],
) -> None:
    """Though the exception that would tell it cannot be made."""
    writer, reader = conn_pair
    told = 0
    for failing in itertools.count():
        messages = [Message(b"good", addr=reader.local_addr), Message(b"bad", addr=EVERYBODY)]
        gc.collect()
        outcome = make(lambda msgs=messages: writer.write_all(msgs), failing)
        sent = has_data(reader)
        assert [message.errno for message in messages] == [0, errno.EACCES if sent else 0]
        if outcome is not FAILED:
            break
        told += sent
    assert told > 0
    assert (type(outcome), outcome.index, outcome.written) == (PermissionError, 1, 1)


def has_data(reader: PacketConn) -> bool:
    """Whether there is something to read, which is read."""
    try:
        return reader.read_from(bytearray(9), socket.MSG_DONTWAIT)[0] == 4
    except BlockingIOError:
        return False


def load(failing: int | None = None) -> bool:
    """Make a module of its own. Tells whether that failed for the allocation."""
    spec = importlib.util.find_spec("ipv4batch._ipv4batch")
    module = importlib.util.module_from_spec(spec)
    gc.collect()
    outcome = make(functools.partial(spec.loader.exec_module, module), failing)
    assert outcome is None or outcome is FAILED, repr(outcome)
    return outcome is FAILED


@pytest.mark.skipif(
    sys.version_info[:2] == (3, 13),
    reason="without memory PyDict_SetDefaultRef of CPython 3.13, by which types are made, breaks",
)
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
    many = [one] * 1024
    limit(1 << 19)
    hog = []
    try:
        while True:
            hog.append(bytearray(16000))
    except MemoryError:
        pass
    assert fails(conn.write_batch, many)
    assert fails(conn.write_all, many)
    assert fails(conn.read_batch, many)
    del hog
    many[0].buffers = bytearray(b"123")
    assert conn.write_batch(many[:2]) == 2
    assert conn.read_batch([Message(bytearray(9))] + many[:1]) == 2
    assert many[0].data == b"123"
    # A list of any length needs no more than a turn does.
    limit(4 << 20)
    many *= 100
    limit(1 << 18)
    assert conn.write_all(many, errors="skip") == len(many) == conn.last_written
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
