"""Which endpoints create_datagram_endpoint makes, and which it refuses.

What is asyncio's contract is tested on asyncio's own transport too.
"""

import asyncio
import contextlib
import socket
from typing import Any

import pytest
from support.aio import Recorder, run_on, until
from support.net import LOOPBACK, udp_socket
from support.transport import Way, address, send

from ipv4batch import aio


def test_other_endpoints_are_the_loops_own(our_way: Way, tmp_path: Any) -> None:
    if our_way.name == "function":
        pytest.skip("it makes endpoints of IPv4 alone")

    async def main() -> None:
        create: Any = asyncio.get_running_loop().create_datagram_endpoint
        options: list[dict[str, Any]] = []
        if our_way.name == "loop":
            options.append({"family": socket.AF_UNIX, "local_addr": str(tmp_path / "socket")})
        if socket.has_ipv6:
            options.append({"local_addr": ("::1", 0)})
        for option in options:
            try:
                transport, protocol = await create(Recorder, **option)
            except OSError:
                continue  # a machine without IPv6
            assert not isinstance(transport, aio.DatagramTransport)
            transport.close()
            await protocol.lost
        with pytest.raises(ValueError, match="unexpected address family"):
            await create(Recorder)

    our_way.run(main)


def test_a_socket_of_ones_own(way: Way, peer: socket.socket) -> None:
    async def main() -> None:
        sock = udp_socket()
        async with way.open(sock=sock) as (transport, protocol):
            assert sock.gettimeout() == 0
            send(peer, transport, b"x")
            await until(lambda: protocol.datagrams)
        assert sock.fileno() == -1

    way.run(main)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"sock": "stream"}, "A UDP Socket"),
        ({"sock": "udp", "local_addr": (LOOPBACK, 0)}, "socket modifier keyword arguments"),
        ({"family": socket.AF_INET6}, "AF_INET"),
    ],
)
def test_arguments_that_do_not_fit(options: dict[str, Any], error: str) -> None:
    async def main() -> None:
        with contextlib.ExitStack() as stack:
            if "sock" in options:
                kind = socket.SOCK_STREAM if options["sock"] == "stream" else socket.SOCK_DGRAM
                made = {**options, "sock": stack.enter_context(socket.socket(socket.AF_INET, kind))}
            else:
                made = options
            with pytest.raises(ValueError, match=error):
                await aio.create_datagram_endpoint(Recorder, **made)

    run_on(None, main)


def test_what_cannot_be_made_leaves_no_socket(peer: socket.socket) -> None:
    def fail() -> Recorder:
        raise LookupError("no protocol")

    async def main() -> None:
        with pytest.raises(LookupError):
            await aio.create_datagram_endpoint(fail, local_addr=(LOOPBACK, 0))
        with pytest.raises(ValueError, match="flags"):
            await aio.create_datagram_endpoint(Recorder, local_addr=(LOOPBACK, 0), control=1 << 20)
        with pytest.raises(LookupError):
            await aio.create_datagram_endpoint(fail, sock=peer)
        assert peer.fileno() >= 0

    run_on(None, main)


def test_endpoints_with_options(way: Way) -> None:
    async def main() -> None:
        local = {"local_addr": ("localhost", 0), "family": socket.AF_INET}
        async with way.open(**local, reuse_port=True) as (first, _):
            local = {"local_addr": address(first)}
            async with way.open(**local, reuse_port=True) as (second, _):
                assert address(first) == address(second)
        async with way.open(
            local_addr=(LOOPBACK, 0), remote_addr=(LOOPBACK, 9), allow_broadcast=True
        ) as (transport, _):
            sock = transport.get_extra_info("socket")
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST) == 1
            assert transport.get_extra_info("peername") is None
        with udp_socket() as taken, pytest.raises(OSError, match="in use"):
            async with way.open(local_addr=taken.getsockname()):
                pass

    way.run(main)
