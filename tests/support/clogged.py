"""A network that lets nothing out, so that writes wait for room."""

import contextlib
import ctypes
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor

from ipv4batch import Message, PacketConn
from support.net import LIMIT, leaks_allowed

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
        self._inside.submit(
            subprocess.run, text.split(), check=True, timeout=LIMIT, env=leaks_allowed()
        ).result()


WRITING = """
import sys
from support.net import Call
from ipv4batch import Message, PacketConn

conn = PacketConn(int(sys.argv[1]))
conn.timeout = None
messages = [Message(bytes(500), None, conn.local_addr)] * 2
calls = [
    Call(conn.write_batch, messages),
    Call(conn.write_all, messages),
    Call(conn.write_all, messages, 0, "skip"),
    Call(conn.write_to, bytes(500), conn.local_addr),
]
for call in calls:
    call.wait_until_waiting()
"""
"""Calls that wait, in a process that has inherited the socket of a Clogged."""
