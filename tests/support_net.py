"""What the tests of issue 3's calls share: connections on loopback and raw sockets that watch."""

import contextlib
import math
import pathlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import ipv4batch

LIMIT = 10.0
"""Seconds after which a read that should succeed at once is given up."""

LOOPBACK = "127.0.0.1"


def open_udp(host: str = LOOPBACK, timeout: float | None = LIMIT) -> ipv4batch.PacketConn:
    """A PacketConn on a UDP socket of its own, bound to a port that the system chose."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(timeout)
    sock.bind((host, 0))
    return ipv4batch.PacketConn(sock)


def open_raw(protocol: int, host: str = LOOPBACK) -> socket.socket:
    """A raw socket with a time limit, bound to `host`."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol)
    sock.settimeout(LIMIT)
    sock.bind((host, 0))
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
