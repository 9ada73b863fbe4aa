"""How writes wait for room: on a loopback whose queue lets nothing out."""

import contextlib
import ctypes
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from support_net import (
    LIMIT,
    SLACK,
    Call,
    assert_closed,
)
from support_signals import (
    Counter,
    SignalError,
    handled,
    interrupt,
    signal_main,
    when_main_waits,
)

from ipv4batch import Message, PacketConn

CLONE_NEWNET = 0x40000000
SIZE = 500


class Clogged:
    """A connection in a network of its own, with a send buffer that is full until `unclog`."""

    def __init__(self, inside: ThreadPoolExecutor) -> None:
        """Make it in the one thread of `inside`, which stays in that network."""
        self._inside = inside
        assert inside.submit(ctypes.CDLL(None).unshare, CLONE_NEWNET).result() == 0
        self._command("ip link set lo up")
        self.clog()
        sock = inside.submit(socket.socket, socket.AF_INET, socket.SOCK_DGRAM).result()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the least that there is
        sock.settimeout(LIMIT)
        sock.bind(("127.0.0.1", 0))
        self.conn = PacketConn(sock)

    def fill(self) -> int:
        """Write until there is no room; how many datagrams that took."""
        written = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                written += self.conn.write_batch(self.messages(3), socket.MSG_DONTWAIT)
        return written

    def clog(self) -> None:
        """Let almost nothing out: a datagram in a minute, which is as slow as tc can be told."""
        self._command("tc qdisc add dev lo root tbf rate 64bit burst 2000 latency 10000s")

    def unclog(self) -> None:
        """Let out what comes from now on; what is stuck is lost."""
        self._command("tc qdisc del dev lo root")

    def messages(self, count: int) -> list[Message]:
        return [Message(bytes(SIZE), addr=self.conn.local_addr) for _ in range(count)]

    def _command(self, text: str) -> None:
        self._inside.submit(subprocess.run, text.split(), check=True, timeout=LIMIT).result()


@pytest.fixture
def clogged(needs_netns: None, require: Callable[[str], None]) -> Iterator[Clogged]:
    if shutil.which("tc") is None or shutil.which("ip") is None:
        require("a slow network needs ip and tc of iproute2")
    with ThreadPoolExecutor(1) as inside:
        try:
            made = Clogged(inside)
        except subprocess.CalledProcessError as error:
            require(f"a slow network needs {error.cmd}")
        with made.conn:
            assert 1 <= made.fill() < 100
            yield made
            # Datagrams that are stuck would keep the socket, and with it the network, in being.
            with contextlib.suppress(subprocess.CalledProcessError):
                made.unclog()


def write_batch(clogged: Clogged) -> int:
    return clogged.conn.write_batch(clogged.messages(2))


def write_all(clogged: Clogged) -> int:
    return clogged.conn.write_all(clogged.messages(2))


def write_to(clogged: Clogged) -> int:
    return clogged.conn.write_to(bytes(SIZE), clogged.conn.local_addr)


Write = Callable[[Clogged], int]
each_write = pytest.mark.parametrize("write", [write_batch, write_all, write_to])


@each_write
def test_a_write_without_room_ends_as_the_timeout_says(clogged: Clogged, write: Write) -> None:
    where = f"'write udp4 127.0.0.1:{clogged.conn.local_addr[1]}'"
    clogged.conn.timeout = 0
    with pytest.raises(BlockingIOError, match=re.escape(where)):
        write(clogged)
    clogged.conn.timeout = 0.05
    started = time.monotonic()
    with pytest.raises(TimeoutError, match=re.escape(f"timed out: {where}")):
        write(clogged)
    assert 0.05 <= time.monotonic() - started < 0.05 + SLACK


@each_write
def test_a_write_goes_on_when_there_is_room(clogged: Clogged, write: Write) -> None:
    counter = Counter()
    with handled(signal.SIGUSR1, counter):
        call = when_main_waits(counter.signal_three_times, clogged.unclog)
        assert write(clogged) in (1, 2, SIZE)
        call.result()
    assert counter.count == 3
    assert clogged.conn.read_from(bytearray(SIZE))[0] == SIZE


def test_a_batch_that_finds_some_room_does_not_wait_for_more(clogged: Clogged) -> None:
    clogged.unclog()
    clogged.clog()
    started = time.monotonic()
    assert 1 <= clogged.conn.write_batch(clogged.messages(100)) < 100
    assert time.monotonic() - started < SLACK


@each_write
def test_a_handler_that_raises_ends_a_write(clogged: Clogged, write: Write) -> None:
    with handled(signal.SIGUSR1, interrupt):
        call = when_main_waits(signal_main)
        with pytest.raises(SignalError):
            write(clogged)
        call.result()


def test_close_ends_all_waiting_writes(clogged: Clogged) -> None:
    calls = [Call(write, clogged) for write in (write_batch, write_all, write_to) * 2]
    for call in calls:
        call.wait_until_waiting()
    clogged.conn.close()
    for call in calls:
        assert_closed(call)


def test_a_deadline_ends_waiting_writes(clogged: Clogged) -> None:
    calls = [Call(write, clogged) for write in (write_batch, write_all, write_to)]
    clogged.conn.set_read_deadline(0)
    for call in calls:
        call.wait_until_waiting()
    deadline = time.monotonic() + 0.05
    clogged.conn.set_write_deadline(deadline)
    for call in calls:
        with pytest.raises(TimeoutError, match="timed out: 'write"):
            call.result()
        assert deadline <= call.ended < deadline + SLACK


def test_a_message_that_is_being_written_can_be_written_again_but_not_changed(
    clogged: Clogged,
) -> None:
    message = Message(bytearray(SIZE), addr=clogged.conn.local_addr)
    calls = [Call(clogged.conn.write_batch, [message, message]) for _ in range(2)]
    for call in calls:
        call.wait_until_waiting()
    for field in ("buffers", "oob", "addr"):
        with pytest.raises(RuntimeError, match=f"{field}: the message is in use by another call"):
            setattr(message, field, getattr(message, field))
    with pytest.raises(RuntimeError, match=r"msgs\[0\]: in use by another call"):
        clogged.conn.read_batch([message], socket.MSG_DONTWAIT)
    with pytest.raises(BlockingIOError):
        clogged.conn.write_batch([message], socket.MSG_DONTWAIT)
    clogged.unclog()
    assert [call.result() for call in calls] == [2, 2]
    message.buffers = ()
