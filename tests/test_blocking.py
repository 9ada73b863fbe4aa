"""How calls wait: what ends a wait, what does not, and that no datagram is lost over it."""

import contextlib
import ctypes
import errno
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support_net import LIMIT, Call, open_udp, wait_for

from ipv4batch import Message, PacketConn

SLACK = 1.5
"""Seconds after which something does not count as happening at once; machines can be busy."""

Read = Callable[[PacketConn], list[bytes]]


@pytest.fixture
def conn() -> Iterator[PacketConn]:
    """With a timeout that no test should see the end of."""
    with open_udp() as made:
        yield made


def send(conn: PacketConn, *datagrams: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for data in datagrams:
            sock.sendto(data, conn.local_addr)


def read_batch(conn: PacketConn, room: int = 5, flags: int = 0) -> list[bytes]:
    messages = [Message(bytearray(20)) for _ in range(room)]
    n = conn.read_batch(messages, flags)
    assert [message.n for message in messages[n:]] == [0] * (room - n)
    return [message.data for message in messages[:n]]


def read_from(conn: PacketConn, flags: int = 0) -> list[bytes]:
    buffer = bytearray(20)
    n, _, _ = conn.read_from(buffer, flags)
    return [bytes(buffer[:n])]


each_read = pytest.mark.parametrize("read", [read_batch, read_from])


def assert_closed(call: Call) -> None:
    with pytest.raises(OSError, match="The connection is closed: '(read|write) udp4'") as caught:
        call.result()
    assert caught.value.errno == errno.EBADF


# Reads


def test_a_batch_takes_what_is_there_and_does_not_wait_for_more(conn: PacketConn) -> None:
    for count in (1, 2, 5):
        sent = [bytes([number]) for number in range(count)]
        send(conn, *sent)
        assert read_batch(conn, room=5) == sent
    send(conn, *[bytes([number]) for number in range(7)])
    assert len(read_batch(conn, room=5)) == 5
    assert read_batch(conn, room=5) == [b"\x05", b"\x06"]


def test_a_batch_that_waits_ends_with_the_first_datagram(conn: PacketConn) -> None:
    call = Call(read_batch, conn).wait_until_waiting()
    send(conn, b"first")
    assert call.result() == [b"first"]


def test_an_empty_batch_waits_for_nothing(conn: PacketConn) -> None:
    for call in (conn.read_batch, conn.write_batch, conn.write_all):
        assert call([]) == call(()) == 0
    send(conn, b"kept")
    assert conn.read_batch([]) == 0
    assert read_batch(conn) == [b"kept"]


@each_read
@pytest.mark.parametrize("seconds", [0.001, 0.1])
def test_a_timeout_is_raised_after_its_time(conn: PacketConn, read: Read, seconds: float) -> None:
    conn.timeout = seconds
    started = time.monotonic()
    where = f"'read udp4 127.0.0.1:{conn.local_addr[1]}'"
    with pytest.raises(TimeoutError, match=re.escape(f"timed out: {where}")) as caught:
        read(conn)
    assert seconds <= time.monotonic() - started < seconds + SLACK
    assert caught.value.errno == errno.ETIMEDOUT
    send(conn, b"data")
    assert read(conn) == [b"data"]


def test_the_timeout_counts_for_the_whole_call(conn: PacketConn) -> None:
    """A wait that goes on after each of many wake-ups does not begin anew."""
    conn.timeout = 0.3
    call = Call(read_batch, conn).wait_until_waiting()
    while call.is_alive():
        conn.set_write_deadline(None)
        assert time.monotonic() < call.started + 0.3 + SLACK
        call.join(0.01)
    with pytest.raises(TimeoutError):
        call.result()
    assert call.ended - call.started >= 0.3


@each_read
@pytest.mark.parametrize("how", ["timeout", "flags", "both", "descriptor"])
def test_a_call_that_may_not_wait_ends_at_once(conn: PacketConn, read: Read, how: str) -> None:
    flags = socket.MSG_DONTWAIT if how in ("flags", "both") else 0
    conn.timeout = 0 if how in ("timeout", "both") else LIMIT
    if how == "descriptor":
        os.set_blocking(conn.fileno(), False)
        conn = PacketConn(conn.fileno())
    started = time.monotonic()
    with pytest.raises(BlockingIOError, match="'read udp4 127.0.0.1:") as caught:
        read(conn, flags=flags)
    assert caught.value.errno == errno.EAGAIN
    assert time.monotonic() - started < SLACK
    send(conn, b"data")
    assert read(conn, flags=flags) == [b"data"]


@each_read
@pytest.mark.parametrize("timeout", [None, 0, 1e-9, LIMIT])
def test_what_is_there_is_taken_without_a_wait(
    conn: PacketConn, read: Read, timeout: float | None
) -> None:
    """A wait would need a wake-up descriptor, which stays open for the next one."""
    conn.timeout = timeout
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        send(conn, b"data")
        assert read(conn) == [b"data"]
    assert os.listdir("/proc/self/fd") == before
    assert conn.write_to(b"data", conn.local_addr) == 4
    assert conn.write_batch([Message(b"more", addr=conn.local_addr)]) == 1
    assert os.listdir("/proc/self/fd") == before


def test_a_blocking_descriptor_stays_as_it_is() -> None:
    with open_udp(timeout=None) as conn:
        for timeout, error in ((0, BlockingIOError), (0.001, TimeoutError)):
            conn.timeout = timeout
            with pytest.raises(error):
                read_batch(conn)
            assert os.get_blocking(conn.fileno())


def read_and_time(read: Read, conn: PacketConn) -> tuple[OSError, float]:
    """How the read failed, and for how many seconds the thread was busy."""
    before = time.thread_time()
    with pytest.raises(OSError, match="'read udp4") as caught:
        read(conn)
    return caught.value, time.thread_time() - before


@each_read
@pytest.mark.parametrize("how", [socket.SHUT_RD, socket.SHUT_RDWR])
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_read_of_a_socket_that_was_shut_down_waits_in_peace(
    conn: PacketConn, read: Read, how: int, when: str
) -> None:
    """The kernel calls such a socket readable for ever, though there is nothing to read."""
    with socket.socket(fileno=os.dup(conn.fileno())) as sock:
        sock.connect(conn.local_addr)
        if when == "before":
            sock.shutdown(how)
        conn.timeout = 0.4
        call = Call(read_and_time, read, conn)
        if when == "meanwhile":
            call.wait_until_waiting()
            sock.shutdown(how)
        error, busy = call.result()
        assert isinstance(error, TimeoutError)
        assert busy < 0.1
        conn.timeout = None
        call = Call(read_and_time, read, conn).wait_until_waiting()
        conn.close()
        assert call.result()[0].errno == errno.EBADF


# Several threads


@each_read
def test_close_ends_a_wait(conn: PacketConn, read: Read) -> None:
    call = Call(read, conn).wait_until_waiting()
    closed = time.monotonic()
    conn.close()
    assert_closed(call)
    assert call.ended - closed < SLACK


def test_close_ends_all_waits_and_then_the_socket_is_closed() -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    conn = PacketConn(sock)
    calls = [Call(read, conn) for read in (read_batch, read_from) for _ in range(5)]
    conn.recv_errors = True
    calls.append(Call(conn.read_errors, 1, True))
    for call in calls:
        call.wait_until_waiting()
    conn.close()
    for call in calls:
        assert_closed(call)
    assert sock.fileno() == -1


def test_closing_a_borrowed_descriptor_ends_waits_and_leaves_it_open(conn: PacketConn) -> None:
    borrowed = PacketConn(conn.fileno())
    borrowed.timeout = LIMIT
    call = Call(read_batch, borrowed).wait_until_waiting()
    borrowed.close()
    assert_closed(call)
    send(conn, b"data")
    assert read_batch(conn) == [b"data"]


def test_two_readers_share_what_was_sent(conn: PacketConn) -> None:
    got: list[list[bytes]] = [[], []]

    def read_all(mine: list[bytes]) -> None:
        while True:
            mine.extend(read_batch(conn, room=8))

    calls = [Call(read_all, mine).wait_until_waiting() for mine in got]
    sent = [str(number).encode() for number in range(2000)]
    for at in range(0, len(sent), 20):
        send(conn, *sent[at : at + 20])
        wait_for(lambda so_far=at: sum(map(len, got)) >= so_far, "the readers keep up")
    wait_for(lambda: sum(map(len, got)) >= len(sent), "everything is read")
    conn.close()
    for call in calls:
        assert_closed(call)
    assert sorted(got[0] + got[1]) == sorted(sent)


# Signals; Python runs their handlers in the main thread, which these tests wait in.


class SignalError(Exception):
    """What a handler raises."""


def interrupt(signum: int, frame: Any) -> None:
    raise SignalError


@contextlib.contextmanager
def handled(signum: int, handler: Callable[[int, Any], Any]) -> Iterator[None]:
    before = signal.signal(signum, handler)
    try:
        yield
    finally:
        signal.signal(signum, before)


def main_waits() -> bool:
    """Whether the main thread sleeps in poll, as far as the kernel tells."""
    task = pathlib.Path(f"/proc/self/task/{os.getpid()}")
    asleep = task.joinpath("stat").read_text().rpartition(")")[2].split()[0] == "S"
    where = task.joinpath("wchan").read_text()
    return asleep and ("poll" in where or where == "0")


def signal_main(signum: int = signal.SIGUSR1) -> None:
    signal.pthread_kill(threading.main_thread().ident, signum)


def when_main_waits(*steps: Callable[[], Any]) -> Call:
    def run() -> None:
        wait_for(main_waits, "the main thread waits")
        for step in steps:
            step()

    return Call(run)


class Counter:
    """A handler that counts."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, signum: int, frame: Any) -> None:
        self.count += 1

    def signal_three_times(self) -> None:
        for count in range(3):
            wait_for(main_waits, "the main thread waits again")
            signal_main()
            wait_for(lambda so_far=count: self.count > so_far, "the handler runs")


@each_read
def test_a_handler_runs_during_the_wait_and_the_call_goes_on(conn: PacketConn, read: Read) -> None:
    counter = Counter()
    with handled(signal.SIGUSR1, counter):
        call = when_main_waits(counter.signal_three_times, lambda: send(conn, b"data"))
        assert read(conn) == [b"data"]
        call.result()
    assert counter.count == 3


def test_signals_do_not_prolong_the_timeout(conn: PacketConn) -> None:
    conn.timeout = 0.3
    counter = Counter()
    over = threading.Event()

    def pester() -> None:
        while not over.wait(0.01):
            signal_main()

    with handled(signal.SIGUSR1, counter):
        started = time.monotonic()
        call = Call(pester)
        with pytest.raises(TimeoutError):
            read_batch(conn)
        took = time.monotonic() - started
        over.set()
        call.result()
    assert 0.3 <= took < 0.3 + SLACK
    assert counter.count > 1


@each_read
def test_a_handler_that_raises_ends_the_wait(conn: PacketConn, read: Read) -> None:
    with handled(signal.SIGUSR1, interrupt):
        call = when_main_waits(signal_main)
        with pytest.raises(SignalError):
            read(conn)
        call.result()
    send(conn, b"data")
    assert read(conn) == [b"data"]


@each_read
def test_ctrl_c(conn: PacketConn, read: Read) -> None:
    with handled(signal.SIGINT, signal.default_int_handler):
        call = when_main_waits(lambda: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            read(conn)
        call.result()
    send(conn, b"data")
    assert read(conn) == [b"data"]


def test_a_signal_to_another_thread_does_not_end_its_wait(conn: PacketConn) -> None:
    counter = Counter()
    with handled(signal.SIGUSR1, counter):
        call = Call(read_batch, conn).wait_until_waiting()
        for count in range(3):
            signal.pthread_kill(call.ident, signal.SIGUSR1)
            wait_for(lambda so_far=count: counter.count > so_far, "the handler runs")
        call.wait_until_waiting()
        send(conn, b"data")
        assert call.result() == [b"data"]


@pytest.mark.parametrize("batch", [True, False])
def test_a_datagram_that_comes_with_the_signal_is_not_lost(conn: PacketConn, batch: bool) -> None:
    """It is in the buffer or still in the socket, whichever of the two was first."""
    for number in range(100):
        sent = b"number %d" % number
        buffer = bytearray(20)
        message = Message(buffer)
        steps = [signal_main, lambda data=sent: send(conn, data)]
        with handled(signal.SIGUSR1, interrupt):
            call = when_main_waits(*(steps if number % 2 else reversed(steps)))
            with pytest.raises(SignalError):
                _ = conn.read_batch([message]) if batch else conn.read_from(buffer)
                time.sleep(LIMIT)  # The read was first: the signal comes now.
            call.result()
        taken = bytes(buffer).rstrip(b"\0")
        assert message.data == (taken if batch else b"")
        if not taken:
            taken = read_from(conn, socket.MSG_DONTWAIT)[0]
        assert taken == sent
        with pytest.raises(BlockingIOError):
            read_from(conn, socket.MSG_DONTWAIT)


@pytest.mark.parametrize("signum", [signal.SIGUSR1, signal.SIGINT])
def test_a_handler_that_raises_ends_a_long_row_of_failures(conn: PacketConn, signum: int) -> None:
    """None of these writes waits, and yet the exception does not wait for the last of them."""
    refused = Message(b"x", addr=("255.255.255.255", 9))  # not without SO_BROADCAST

    def signal_after_the_first() -> None:
        wait_for(lambda: refused.errno == errno.EACCES, "the first write has failed")
        signal_main(signum)

    with handled(signum, interrupt):
        call = Call(signal_after_the_first)
        with pytest.raises(SignalError) as caught:
            conn.write_all([refused] * 200_000, errors="skip")
        call.result()
    error: Any = caught.value
    # An exception that comes when write_all is over already tells no index.
    assert 0 < error.index < 200_000
    assert error.written == 0


# Writes; loopback takes everything at once, unless its queue lets nothing out.

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
        """Let almost nothing out: a byte in a second."""
        self._command("tc qdisc add dev lo root tbf rate 8bit burst 2000 latency 10000s")

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
