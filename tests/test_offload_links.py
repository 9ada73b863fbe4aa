"""Offload between two network namespaces: devices differ in what they can do, results do not."""

import contextlib
import ctypes
import errno
import itertools
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator

import pytest
from pyroute2 import IPRoute
from support_net import LIMIT, leaks_allowed, wait_for
from test_offload import ALL, END, compose, exchange, expect, read_until_end

from ipv4batch import ControlMessage, Message, PacketConn, new_messages

CLONE_NEWNET = 0x40000000
HERE, THERE = "192.0.2.1", "192.0.2.2"
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


@pytest.fixture
def needs_ethtool(needs_netns: None, require: Callable[[str], None]) -> None:
    if shutil.which("ethtool") is None:
        require("ethtool is not installed")


FEATURES = {
    "all": "tx on tso on gso on gro on tx-udp-segmentation on",
    "no-gro": "tx on tso on gso on gro off tx-udp-segmentation on",
    "no-checksums": "tx off rx off gro off",
    "no-checksums-gro": "tx off rx off gro on",
    "no-gso": "tx on tso off gso off gro on tx-udp-segmentation off",
    "nothing": "tx off rx off sg off tso off gso off gro off tx-udp-segmentation off",
}


@pytest.mark.usefixtures("needs_ethtool")
@pytest.mark.parametrize(("here", "there"), [(1500, 1500), (9000, 9000), (1500, 9000)])
@pytest.mark.parametrize("features", FEATURES.values(), ids=FEATURES)
def test_devices_make_no_difference(here: int, there: int, features: str) -> None:
    fits = here - 28
    sizes = [*[9] * 70, 4, 0, *[1200] * 60, *[fits] * 30, fits - 1]
    with open_link(here, there) as link:
        for end in link:
            end.switch(features)
        for gso, gro in itertools.product([False, True], repeat=2):
            with open_ends(link, gso, gro) as (reader, writer):
                send_and_compare(link, writer, reader, sizes, ttl=7, tos=184)
                # Old kernels refuse with EIO where the device computes no checksums.
                assert writer.gso_error is None or writer.gso_error.errno == errno.EIO
                assert writer.gso is (gso and writer.gso_error is None)


@pytest.mark.parametrize("run", [1, 2, 63, 64, 65, 128, 1000, 5000])
def test_runs_of_any_length_over_a_link(needs_netns: None, run: int) -> None:
    """Up to what fits the link, in one piece each."""
    with open_link(1500, 1500) as link:
        for gso, gro in itertools.product([False, True], repeat=2):
            with open_ends(link, gso, gro) as (reader, writer):
                for size in (1200, 1472):
                    send_and_compare(link, writer, reader, [size] * run)
                assert (writer.gso, writer.gso_error) == (gso, None)
