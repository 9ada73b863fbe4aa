"""What many tests share: sockets and connections, datagrams to and fro, calls in threads."""

import contextlib
import errno
import ipaddress
import math
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ipv4batch

LIMIT = 10.0
"""Seconds after which a read that should succeed at once is given up."""

LOOPBACK = "127.0.0.1"

SLACK = 1.5
"""Seconds after which something does not count as happening at once; machines can be busy."""


def udp_socket(host: str = LOOPBACK, timeout: float | None = LIMIT) -> socket.socket:
    """A UDP socket bound to a port that the system chose."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(timeout)
    sock.bind((host, 0))
    return sock


def open_udp(host: str = LOOPBACK, timeout: float | None = LIMIT) -> ipv4batch.PacketConn:
    """A PacketConn on such a socket of its own."""
    return ipv4batch.PacketConn(udp_socket(host, timeout))


def own_host(number: int) -> str:
    """An address of 127.0.0.0/8 for this process, one of 30: raw sockets get all that is sent to
    theirs, from another run of the suite too.
    """
    return str(ipaddress.IPv4Address("127.128.0.0") + os.getpid() % 2**18 * 32 + number)


def open_raw(protocol: int, host: str = LOOPBACK) -> socket.socket:
    """A raw socket with a time limit, bound to `host`."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol)
    sock.setblocking(False)
    sock.bind((host, 0))
    # Until it was bound it got what was sent to anybody.
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.recv(1)
    sock.settimeout(LIMIT)
    return sock


@contextlib.contextmanager
def raw_pair(
    protocol: int, host: str = LOOPBACK
) -> Iterator[tuple[ipv4batch.PacketConn, ipv4batch.RawConn]]:
    """A PacketConn that reads and a RawConn that writes packets of a protocol to `host`."""
    with (
        ipv4batch.PacketConn(open_raw(protocol, host)) as reader,
        ipv4batch.RawConn(open_raw(protocol, host)) as writer,
    ):
        yield reader, writer


class Wrapped:
    """A socket inside another object, as libraries have them."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.closed = 0

    def fileno(self) -> int:
        return self.sock.fileno()

    def close(self) -> None:
        self.closed += 1
        self.sock.close()


def raises(error: Exception) -> Callable[[], int]:
    def fileno() -> int:
        raise error.with_traceback(None)  # which would grow each time

    return fileno


def send(conn: ipv4batch.PacketConn, *datagrams: bytes) -> None:
    """Send them to a connection from another socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for data in datagrams:
            sock.sendto(data, conn.local_addr)


def read_batch(conn: ipv4batch.PacketConn, room: int = 5, flags: int = 0) -> list[bytes]:
    """Datagrams of at most 20 bytes that one call gets."""
    messages = [ipv4batch.Message(bytearray(20)) for _ in range(room)]
    n = conn.read_batch(messages, flags)
    assert [message.n for message in messages[n:]] == [0] * (room - n)
    return [message.data for message in messages[:n]]


def read_from(conn: ipv4batch.PacketConn, flags: int = 0) -> list[bytes]:
    """The one datagram that one call gets."""
    buffer = bytearray(20)
    n, _, _ = conn.read_from(buffer, flags)
    return [bytes(buffer[:n])]


def receive(
    pair: tuple[ipv4batch.PacketConn, ipv4batch.PacketConn],
    data: bytes,
    message: ipv4batch.Message,
    flags: int = 0,
) -> ipv4batch.Message:
    """Send `data` from the first to the second, which reads it into the message."""
    writer, reader = pair
    assert writer.write_to(data, reader.local_addr) == len(data)
    assert reader.read_batch([message], flags) == 1
    return message


Read = Callable[[ipv4batch.PacketConn], list[bytes]]
each_read = pytest.mark.parametrize("read", [read_batch, read_from])


class Call(threading.Thread):
    """A call in a thread of its own, with its result, its exception and the time it took."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        super().__init__(daemon=True)
        self._function = lambda: function(*arguments)
        self._result: Any = None
        self._error: BaseException | None = None
        self.started = self.ended = math.nan
        self.start()

    def run(self) -> None:
        self.started = time.monotonic()
        try:
            self._result = self._function()
        except BaseException as error:
            self._error = error
        self.ended = time.monotonic()

    def wait_until_waiting(self) -> "Call":
        """Return once the thread sleeps in the kernel's poll or epoll."""
        wait_for(self._is_waiting, "the call waits")
        return self

    def result(self) -> Any:
        """What the call returned; its exception is raised here."""
        self.join(LIMIT)
        assert not self.is_alive(), "the call has not ended"
        if self._error is not None:
            raise self._error
        return self._result

    def _is_waiting(self) -> bool:
        assert self.is_alive() or self._error is None, self._error
        if self.native_id is None:
            return False
        task = pathlib.Path(f"/proc/self/task/{self.native_id}")
        try:
            asleep = task.joinpath("stat").read_text().rpartition(")")[2].split()[0] == "S"
            where = task.joinpath("wchan").read_text()
        except OSError:
            return False
        # A kernel that tells nobody where its threads sleep says 0.
        return asleep and ("poll" in where or where == "0")


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Look again and again until the condition holds."""
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, f"still not so: {what}"
        time.sleep(0.001)


def assert_closed(call: Call) -> None:
    """The call ends, because its connection was closed."""
    with pytest.raises(OSError, match="The connection is closed: '(read|write) udp4'") as caught:
        call.result()
    assert caught.value.errno == errno.EBADF


def leaks_allowed() -> dict[str, str]:
    """The environment of a child that frees not all at its end, which is then no leak of ours.

    Such are programs of the system, which inherit the sanitizer of `make sanitize`.
    """
    options = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
    return {**os.environ, "ASAN_OPTIONS": options.lstrip(":")}


def run_script(
    script: str, *arguments: str, frees_all: bool = True, pass_fds: tuple[int, ...] = ()
) -> str:
    """What a script prints; it must end well and complain of nothing.

    One that ends while calls are inside, or leaves an interpreter, does not free all.
    """
    environment = os.environ if frees_all else leaks_allowed()
    done = subprocess.run(
        [sys.executable, "-P", "-W", "ignore::DeprecationWarning", "-c", script, *arguments],
        env={**environment, "PYTHONPATH": str(pathlib.Path(__file__).parent.parent)},
        pass_fds=pass_fds,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
