"""Network namespaces: small networks for the examples, which vanish when the script ends.

A namespace (network_namespaces(7)) has interfaces, addresses and routes of its own, so nothing
that an example sends leaves it. A script that lacks a privilege for that is ended, with one
line that names the privilege and exit code 77.
"""

import contextlib
import ctypes
import errno
import itertools
import os
import pathlib
import socket
import sys
import time
from collections.abc import Iterator
from types import TracebackType
from typing import NoReturn

_CLONE_NEWNET = 0x40000000

# Of interfaces, far from those that the kernel gives by itself.
_numbers = itertools.count(1000)


def skip(reason: str) -> NoReturn:
    """Say why the script cannot run here, and end it."""
    print(f"{pathlib.Path(sys.argv[0]).name}: {reason}", file=sys.stderr)
    sys.exit(77)


try:
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError
    from pyroute2.netns import setns
except ImportError:
    skip("needs the package pyroute2, to make a network of its own")


class Namespace:
    """A network namespace; it lasts until it is closed and its sockets are."""

    def __init__(self) -> None:
        home = _current()
        if ctypes.CDLL(None).unshare(_CLONE_NEWNET) < 0:
            skip("needs CAP_SYS_ADMIN, to make network namespaces; run it as root")
        with _returning(home):
            self._fd = _current()
            self._routes = IPRoute()
        try:
            self._up("lo")
        except NetlinkError as error:
            self.close()
            if error.code == errno.EPERM:
                skip("needs CAP_NET_ADMIN, to set up its network; run it as root")
            raise

    def __enter__(self) -> "Namespace":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._routes.close()
        os.close(self._fd)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """What this thread opens inside is in this namespace, and stays in it."""
        with _returning(_current()):
            setns(self._fd)
            yield

    def socket(self, kind: socket.SocketKind, protocol: int = 0) -> socket.socket:
        """A new IPv4 socket in this namespace."""
        with self.entered():
            try:
                return socket.socket(socket.AF_INET, kind, protocol)
            except PermissionError:
                skip("needs CAP_NET_RAW, to open raw sockets; run it as root")

    def index(self, interface: str) -> int:
        """The number of an interface, by which a socket in here knows it."""
        return int(self._routes.link_lookup(ifname=interface)[0])

    def connect(
        self, interface: str, address: str, other: "Namespace", its_interface: str, its_address: str
    ) -> None:
        """Lay a cable to another namespace, with a /24 network on it."""
        # The kernel is slow to bring a cable up whose two ends have the same number.
        self._routes.link(
            "add",
            ifname=interface,
            index=next(_numbers),
            kind="veth",
            peer={"ifname": its_interface, "index": next(_numbers), "net_ns_fd": other._fd},
        )
        self.add_address(interface, address)
        other.add_address(its_interface, its_address)
        self._up(interface)
        other._up(its_interface)
        self._wait_for_carrier(interface)
        other._wait_for_carrier(its_interface)

    def add_address(self, interface: str, address: str) -> None:
        """Give an interface an address, with a /24 network around it."""
        self._routes.addr("add", index=self.index(interface), address=address, prefixlen=24)

    def add_route(self, network: str, gateway: str) -> None:
        """Reach a network through a router."""
        self._routes.route("add", dst=network, gateway=gateway)

    def forward(self) -> None:
        """Be a router."""
        with self.entered():
            pathlib.Path("/proc/sys/net/ipv4/ip_forward").write_text("1")

    def _up(self, interface: str) -> None:
        self._routes.link("set", index=self.index(interface), state="up")

    def _wait_for_carrier(self, interface: str) -> None:
        """A cable drops what is sent before both of its ends are up."""
        deadline = time.monotonic() + 10
        while not self._routes.link_lookup(ifname=interface, operstate="UP"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{interface} has no carrier")
            time.sleep(0.001)


FAR_SERVER = "203.0.113.2"


@contextlib.contextmanager
def two_routers() -> Iterator[Namespace]:
    """A host that reaches FAR_SERVER by way of 192.0.2.2 and 198.51.100.2."""
    with Namespace() as host, Namespace() as near, Namespace() as far, Namespace() as server:
        host.connect("link", "192.0.2.1", near, "inner", "192.0.2.2")
        near.connect("outer", "198.51.100.1", far, "inner", "198.51.100.2")
        far.connect("outer", "203.0.113.1", server, "link", FAR_SERVER)
        near.forward()
        far.forward()
        host.add_route("203.0.113.0/24", "192.0.2.2")
        host.add_route("198.51.100.0/24", "192.0.2.2")
        near.add_route("203.0.113.0/24", "198.51.100.2")
        far.add_route("192.0.2.0/24", "198.51.100.1")
        server.add_route("192.0.2.0/24", "203.0.113.1")
        yield host


def _current() -> int:
    """A descriptor of the namespace that this thread is in."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY)


@contextlib.contextmanager
def _returning(home: int) -> Iterator[None]:
    try:
        yield
    finally:
        setns(home)
        os.close(home)
