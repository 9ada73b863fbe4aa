"""Two network namespaces with a link of devices between them, for tests of offload."""

import contextlib
import ctypes
import os
import socket
import subprocess
from collections.abc import Iterator

from pyroute2 import IPRoute

from ipv4batch import ControlMessage, Message, PacketConn, new_messages
from support.net import LIMIT, leaks_allowed, wait_for
from support.offload import ALL, END, compose, exchange, expect, read_until_end

HERE, THERE = "192.0.2.1", "192.0.2.2"
CLONE_NEWNET = 0x40000000


LIBC = ctypes.CDLL(None, use_errno=True)


def check(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@contextlib.contextmanager
def returning() -> Iterator[None]:
    """This thread's network namespace is afterwards what it was before."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        yield
    finally:
        check(LIBC.setns(home, CLONE_NEWNET))
        os.close(home)


class Namespace:
    """A network namespace, which lasts until it and its sockets are closed."""

    def __init__(self) -> None:
        with returning():
            check(LIBC.unshare(CLONE_NEWNET))
            self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        with returning():
            check(LIBC.setns(self.fd, CLONE_NEWNET))
            yield

    def bring_up(self, address: str, mtu: int) -> None:
        """Put the one end of the cable that is here into service."""
        with self.entered(), IPRoute() as routes:
            (self.index,) = routes.link_lookup(ifname="veth0")
            routes.addr("add", index=self.index, address=address, prefixlen=24)
            routes.link("set", index=self.index, mtu=mtu, state="up")

    def is_up(self) -> bool:
        with self.entered(), IPRoute() as routes:
            return routes.link("get", index=self.index)[0].get("operstate") == "UP"

    def switch(self, features: str) -> None:
        """Switch features of the device, such as "tx off gso off" (ethtool(8), -K)."""
        with self.entered():
            command = ["ethtool", "-K", "veth0", *features.split()]
            subprocess.run(command, check=True, capture_output=True, env=leaks_allowed())

    def open(self, host: str) -> PacketConn:
        with self.entered():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.settimeout(LIMIT)
        sock.bind((host, 0))
        return PacketConn(sock)


Link = tuple[Namespace, Namespace]


@contextlib.contextmanager
def open_link(mtu_here: int, mtu_there: int) -> Iterator[Link]:
    """Two namespaces with a cable between them."""
    here, there = Namespace(), Namespace()
    try:
        with here.entered(), IPRoute() as routes:
            peer = {"ifname": "veth0", "net_ns_fd": there.fd}
            routes.link("add", ifname="veth0", kind="veth", peer=peer)
        here.bring_up(HERE, mtu_here)
        there.bring_up(THERE, mtu_there)
        wait_for(lambda: here.is_up() and there.is_up(), "both ends are up")
        yield here, there
    finally:
        os.close(here.fd)
        os.close(there.fd)


@contextlib.contextmanager
def open_ends(link: Link, gso: bool, gro: bool) -> Iterator[tuple[PacketConn, PacketConn]]:
    """A reader there and a writer here, as open_pair has them on loopback."""
    here, there = link
    with there.open(THERE) as reader, here.open(HERE) as writer:
        reader.set_control_message(ALL)
        # The first datagram waits until the neighbour's address is known, and only a few do.
        writer.write_to(END, reader.local_addr)
        assert read_until_end(reader, new_messages(1)) == []
        writer.gso = gso
        reader.gro = gro
        yield reader, writer


def send_and_compare(
    link: Link, writer: PacketConn, reader: PacketConn, sizes: list[int], **control: int
) -> None:
    """Send datagrams of these sizes, and see that they arrive as they are."""
    oob = ControlMessage(**control).marshal() or None
    datas = [compose(i, size) for i, size in enumerate(sizes)]
    messages = [Message(data, oob, reader.local_addr) for data in datas]
    (received,) = exchange(writer, [reader], messages, new_messages(64, 9000, ALL))
    seen = {"src": HERE, "dst": THERE, "ifindex": link[1].index} | control
    assert received == [expect(writer, data, **seen) for data in datas]
