"""Networks of their own for tests: a client and a server on one link, or with a router between."""

import contextlib
import errno
import importlib.util
import pathlib
import socket
from collections.abc import Iterator
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

import ipv4batch
from support.net import LIMIT

_PATH = pathlib.Path(__file__).parent.parent.parent / "examples" / "_namespaces.py"

CLIENT, NEAR, FAR, SERVER = "192.0.2.1", "192.0.2.2", "198.51.100.1", "198.51.100.2"
"""In a row: the router has the two in the middle."""


def _load_namespaces() -> Any:
    spec = importlib.util.spec_from_file_location("_namespaces", _PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Network:
    """Namespaces by their names, and sockets inside them."""

    def __init__(self, *names: str) -> None:
        make = _load_namespaces().Namespace
        self._stack = contextlib.ExitStack()
        self.places = {name: self._stack.enter_context(make()) for name in names}

    def __enter__(self) -> "Network":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def open_udp(
        self,
        place: str,
        host: str = "0.0.0.0",
        peer: tuple[str, int] | None = None,
        sndbuf: int | None = None,
    ) -> ipv4batch.PacketConn:
        """A PacketConn in there, closed with the network; connected if there is a peer."""
        sock = self.places[place].socket(socket.SOCK_DGRAM)
        conn = self._stack.enter_context(ipv4batch.PacketConn(sock))
        conn.timeout = LIMIT
        sock.bind((host, 0))
        if sndbuf is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sndbuf)
        if peer is not None:
            sock.connect(peer)
        return conn

    def set_mtu(self, place: str, interface: str, mtu: int) -> None:
        """Change the MTU of an interface."""
        with self.places[place].entered(), IPRoute() as routes:
            routes.link("set", index=socket.if_nametoindex(interface), mtu=mtu)

    def set_rate(self, place: str, interface: str, rate: int, room: int) -> bool:
        """Let an interface send so many bytes a second, and keep so many waiting (tc-tbf(8)).

        What is over 600 bytes never passes. The kernel measures those in nanoseconds, in 32 bits,
        so that the rate is at least 140. False where the kernel cannot do it.
        """
        with self.places[place].entered(), IPRoute() as routes:
            index = socket.if_nametoindex(interface)
            try:
                routes.tc("replace", "tbf", index, 0x10000, rate=rate, burst=600, limit=room)
            except NetlinkError as error:
                if error.code != errno.ENOENT:
                    raise
                return False
        return True


@contextlib.contextmanager
def linked() -> Iterator[Network]:
    """A client and a server on one link, with the addresses CLIENT and NEAR."""
    with Network("client", "server") as network:
        client, server = network.places["client"], network.places["server"]
        client.connect("link", CLIENT, server, "link", NEAR)
        yield network


@contextlib.contextmanager
def routed() -> Iterator[Network]:
    """A client, a router and a server, on the links "near" and "far"."""
    with Network("client", "router", "server") as network:
        client, router, server = (network.places[name] for name in ("client", "router", "server"))
        client.connect("near", CLIENT, router, "near", NEAR)
        router.connect("far", FAR, server, "far", SERVER)
        router.forward()
        client.add_route("198.51.100.0/24", NEAR)
        server.add_route("192.0.2.0/24", FAR)
        yield network
