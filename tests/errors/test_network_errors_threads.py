"""recv_errors on a connection that also writes to a healthy peer: threads and long batches."""

import errno
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.net import LIMIT, Call, leaks_allowed, open_udp
from support.offload import enlarge
from support.router import NEAR, SERVER, Network, routed

from ipv4batch import ErrorOrigin, Message, MTUDiscover, PacketConn, capabilities, new_messages

Endpoint = tuple[str, int]

DURATION = 1.0
"""Seconds for which threads race."""

COUNT = 2048
"""Messages of a batch that takes two calls of sendmmsg(2), of 1024 each."""


@pytest.fixture
def writer() -> Iterator[PacketConn]:
    with open_udp() as conn:
        conn.recv_errors = True
        yield conn


@pytest.fixture
def dead() -> Endpoint:
    """An address at which nobody listens."""
    with open_udp() as conn:
        return conn.local_addr


def healthy(reader: PacketConn, count: int) -> list[Message]:
    return [Message(b"healthy", None, reader.local_addr) for _ in range(count)]


@pytest.mark.parametrize("gso", [False, True], ids=["plain", "gso"])
def test_no_write_to_a_healthy_peer_fails_while_another_thread_reads_errors(
    reader: PacketConn, writer: PacketConn, dead: Endpoint, gso: bool
) -> None:
    """Each error that leaves the queue announces the next one, in the midst of a write."""
    enlarge(writer)
    writer.gso = gso
    turn = threading.Semaphore(0)
    over = threading.Event()
    errors: set[tuple[Any, ...]] = set()

    def read_errors() -> None:
        while turn.acquire(timeout=LIMIT) and not over.is_set():
            errors.update(error[:7] for error in writer.read_errors(1_000_000))

    call = Call(read_errors)
    to_dead = [Message(b"dead", None, dead)] * 1000
    # Sizes that change make runs short, so that there are many sends.
    to_reader = [Message(bytes(i % 2 + 1), None, reader.local_addr) for i in range(1000)]
    try:
        end = time.monotonic() + DURATION
        while time.monotonic() < end:
            assert writer.write_batch(to_dead) == len(to_dead)
            turn.release()
            assert writer.write_batch(to_reader) == len(to_reader)
            assert writer.write_to(b"healthy", reader.local_addr) == 7
            assert writer.write_all(to_reader) == len(to_reader)
    finally:
        over.set()
        turn.release()
        call.result()
    assert errors == {(errno.ECONNREFUSED, ErrorOrigin.ICMP, 3, 3, 0, dead[0], dead)}


@pytest.mark.parametrize("where", [0, 1022, 1023, 1024, COUNT - 1])
@pytest.mark.parametrize("gso", [False, True], ids=["plain", "gso"])
def test_a_port_that_nobody_has_in_a_long_batch(
    reader: PacketConn, writer: PacketConn, dead: Endpoint, where: int, gso: bool
) -> None:
    writer.gso = gso
    messages = healthy(reader, COUNT)
    messages[where].addr = dead
    assert writer.write_batch(messages) == COUNT
    assert {(message.n, message.errno) for message in messages} == {(7, 0)}
    assert [error[:7] for error in writer.read_errors()] == [
        (errno.ECONNREFUSED, ErrorOrigin.ICMP, 3, 3, 0, dead[0], dead)
    ]


@pytest.fixture
def network(needs_netns: None) -> Iterator[Network]:
    """The link beyond the router takes packets of up to 1000 bytes."""
    with routed() as made:
        for place in ("router", "server"):
            made.set_mtu(place, "far", 1000)
        yield made


@pytest.mark.parametrize("where", [0, 1022, 1023, 1024, COUNT - 1])
def test_a_datagram_that_a_router_finds_too_big_in_a_long_batch(
    network: Network, where: int
) -> None:
    """Its report is the same errno as that of a message that is too big for the system itself."""
    near = network.open_udp("router")
    client = network.open_udp("client")
    client.recv_errors = True
    client.mtu_discover = MTUDiscover.DO
    messages = [Message(b"healthy", None, (NEAR, near.local_addr[1])) for _ in range(COUNT)]
    messages[where] = Message(bytes(1200), None, (SERVER, 9))
    assert client.write_batch(messages) == COUNT
    assert {message.errno for message in messages} == {0}
    (error,) = client.read_errors(wait=True)
    assert (error.errno, error.origin, error.mtu) == (errno.EMSGSIZE, ErrorOrigin.ICMP, 1000)
    assert (error.offender, error.addr) == (NEAR, (SERVER, 9))


# Reports that come again and again, as far as strace can make them

SCRIPT = """
import socket, sys
from ipv4batch import Message, PacketConn

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, PacketConn(sock) as conn:
    conn.recv_errors = True
    messages = [Message(b"healthy", None, ("127.0.0.1", int(sys.argv[1])))] * 4
    try:
        print(conn.write_batch(messages))
    except OSError as error:
        print(error.errno)
"""


def write_with_reports(strace: str, reader: PacketConn, name: str, times: int) -> int:
    """What write_batch returns or raises, when the kernel fails its first sends like that."""
    call = "sendmmsg" if capabilities()["sendmmsg"] else "sendmsg"
    inject = f"inject={call}:error={name}:when=1..{times}"
    traced = [strace, "-f", "-o", os.devnull, "-e", f"trace={call}", "-e", inject]
    script = [sys.executable, "-P", "-c", SCRIPT, str(reader.local_addr[1])]
    done = subprocess.run(
        [*traced, *script], stdout=subprocess.PIPE, timeout=30, check=True, env=leaks_allowed()
    )
    return int(done.stdout)


@pytest.fixture
def strace(require: Callable[[str], None]) -> str:
    found = shutil.which("strace")
    if (
        found is None
        or subprocess.run([found, "-o", os.devnull, "true"], env=leaks_allowed()).returncode != 0
    ):
        require("strace is not installed, or not allowed to trace")
    return str(found)


@pytest.mark.parametrize("name", ["ECONNREFUSED", "EHOSTDOWN", "ENOPROTOOPT", "EPROTO", "ENONET"])
def test_reports_that_come_between_the_tries_fail_no_write(
    strace: str, reader: PacketConn, name: str
) -> None:
    """No send fails with these by itself, so each was the report of another datagram."""
    assert write_with_reports(strace, reader, name, 50) == 4
    assert reader.read_batch(new_messages(8)) == 4


@pytest.mark.parametrize("name", ["EHOSTUNREACH", "ENETUNREACH", "EOPNOTSUPP"])
def test_an_error_that_may_be_the_messages_own_is_given_one_more_try(
    strace: str, reader: PacketConn, name: str
) -> None:
    assert write_with_reports(strace, reader, name, 1) == 4
    assert write_with_reports(strace, reader, name, 2) == getattr(errno, name)
    assert reader.read_batch(new_messages(8)) == 4
    with pytest.raises(BlockingIOError):
        reader.read_batch(new_messages(8), socket.MSG_DONTWAIT)
