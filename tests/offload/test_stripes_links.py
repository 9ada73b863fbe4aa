"""Striping over real links: each sees its own, and a narrow path costs the other nothing."""

import contextlib
import errno
import os
import pathlib
import socket
from collections.abc import Iterator

import pytest
from pyroute2 import IPRoute
from support.links import Namespace
from support.net import wait_for
from support.offload import enlarge

from ipv4batch import ControlMessage, Message, PacketConn, new_messages

pytestmark = pytest.mark.usefixtures("needs_netns")

COUNT = 64
HERE = ["192.0.2.1", "198.51.100.1"]
THERE = ["192.0.2.2", "198.51.100.2"]
NARROW = "192.0.2.9"
"""An address of the other end, which a route with an MTU of 1280 leads to."""


class Links:
    """Two links between two namespaces."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.here, self.there = Namespace(), Namespace()
        for place in (self.here, self.there):
            stack.callback(os.close, place.fd)
            # IPv6 would send packets of its own, which are counted.
            with place.entered(), contextlib.suppress(OSError):
                pathlib.Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
        with self.here.entered(), IPRoute() as routes:
            for k in (0, 1):
                peer = {"ifname": f"veth{k}", "net_ns_fd": self.there.fd}
                routes.link("add", ifname=f"veth{k}", kind="veth", peer=peer)
        for place, hosts in ((self.here, HERE), (self.there, THERE)):
            with place.entered(), IPRoute() as routes:
                for k, host in enumerate(hosts):
                    (index,) = routes.link_lookup(ifname=f"veth{k}")
                    routes.addr("add", index=index, address=host, prefixlen=24)
                    routes.link("set", index=index, state="up")
                    if place is self.there and k == 0:
                        routes.addr("add", index=index, address=NARROW, prefixlen=32)
        with self.here.entered(), IPRoute() as routes:
            self.indexes = [routes.link_lookup(ifname=f"veth{k}")[0] for k in (0, 1)]
            metrics = {"mtu": 1280}
            routes.route("add", dst=f"{NARROW}/32", oif=self.indexes[0], metrics=metrics)
        wait_for(lambda: self.sent() is not None, "all links are up")

    def sent(self) -> list[int] | None:
        """Packets that each link of this end has sent: a run is one. None while one is down."""
        with self.here.entered(), IPRoute() as routes:
            links = [routes.link("get", index=index)[0] for index in self.indexes]
        if any(link.get("operstate") != "UP" for link in links):
            return None
        return [link.get("stats64")["tx_packets"] for link in links]


@pytest.fixture
def links() -> Iterator[Links]:
    with contextlib.ExitStack() as stack:
        yield Links(stack)


def packets(links: Links, writer: PacketConn, messages: list[Message]) -> list[int]:
    """How many packets each link sends for a write of all of them."""
    before = links.sent()
    assert writer.write_all(messages) == len(messages)
    assert {m.errno for m in messages} == {0}
    after = links.sent()
    assert before is not None
    assert after is not None
    return [new - old for old, new in zip(before, after, strict=True)]


def learn(links: Links, writer: PacketConn, readers: list[PacketConn]) -> None:
    """Let neighbours be known, of which only few datagrams wait for."""
    for reader in readers:
        writer.write_to(b"", reader.local_addr)
        reader.read_from(bytearray(1))


@pytest.mark.parametrize("by", ["destination", "interface", "source"])
def test_each_link_has_its_messages_in_runs(links: Links, by: str) -> None:
    """That go to two addresses, or to one by either interface, or from two."""
    with (
        links.there.open("0.0.0.0") as one,
        links.there.open(THERE[1]) as other,
        links.here.open("0.0.0.0") as writer,
    ):
        writer.gso = True
        port = one.local_addr[1]
        to = [(THERE[0], port), other.local_addr]
        learn(links, writer, [other])
        writer.write_to(b"", to[0])
        one.read_from(bytearray(1))
        oobs: list[bytes | None] = [None, None]
        if by == "interface":
            oobs = [ControlMessage(ifindex=index).marshal() for index in links.indexes]
        if by == "source":
            oobs = [ControlMessage(src=host).marshal() for host in HERE]
        messages = [Message(b"%04d" % k * 250, oobs[k % 2], to[k % 2]) for k in range(COUNT)]
        assert packets(links, writer, messages) == [1, 1]
        for k, reader in enumerate((one, other)):
            enlarge(reader)
            into = new_messages(COUNT, 1000)
            got: list[bytes] = []
            while len(got) < COUNT // 2:
                got += [m.data for m in into[: reader.read_batch(into)]]
            assert got == [b"%04d" % i * 250 for i in range(k, COUNT, 2)]


def test_a_narrow_path_costs_the_other_nothing(links: Links) -> None:
    with (
        links.there.open(THERE[0]) as wide,
        links.there.open(NARROW) as narrow,
        links.here.open(HERE[0]) as writer,
    ):
        writer.gso = True
        for reader in (wide, narrow):
            enlarge(reader)
        learn(links, writer, [wide, narrow])
        size = 1400
        messages = [
            Message(b"%04d" % k * (size // 4), None, (wide, narrow)[k % 2].local_addr)
            for k in range(2 * 46)  # 46 of this size make one run
        ]
        for _ in range(3):
            # One packet for all of the one path, and two fragments for each of the other.
            assert packets(links, writer, messages) == [1 + 2 * 46, 0]
            assert writer.gso is True
            ((addr, code),) = writer.gso_refusals
            assert addr == narrow.local_addr
            assert code in (errno.EMSGSIZE, errno.EINVAL)  # EINVAL before Linux 6.14
            assert writer.gso_error is not None
            assert writer.gso_error.errno == code
            into = new_messages(100, size)
            for k, reader in enumerate((wide, narrow)):
                got: list[bytes] = []
                while len(got) < 46:
                    got += [m.data for m in into[: reader.read_batch(into)]]
                assert got == [m.buffers[0] for m in messages[k::2]]
        writer.gso = True
        assert (writer.gso_refusals, writer.gso_error) == ([], None)


def test_the_peer_of_a_connected_socket_has_no_address_in_the_list(links: Links) -> None:
    with links.there.open(NARROW) as narrow, links.here.open(HERE[0]) as writer:
        with socket.socket(fileno=os.dup(writer.fileno())) as sock:
            sock.connect(narrow.local_addr)
        writer.gso = True
        assert writer.write_all([Message(bytes(1400))] * 4) == 4
        ((addr, code),) = writer.gso_refusals
        assert (addr, writer.gso) == (None, True)
        assert code in (errno.EMSGSIZE, errno.EINVAL)
