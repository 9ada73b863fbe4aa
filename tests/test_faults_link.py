"""A link that goes down and comes back while it is in use."""

import errno
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from pyroute2 import IPRoute
from support_net import Call, wait_for
from support_router import NEAR, Network, linked

from ipv4batch import Message, new_messages


def numbered(numbers: range, addr: tuple[str, int]) -> list[Message]:
    return [Message(b"%04d" % number, None, addr) for number in numbers]


@pytest.fixture
def network(needs_netns: None) -> Iterator[Network]:
    with linked() as made:
        yield made


def set_link(network: Network, state: str) -> None:
    """Turn the client's end of the link on or off."""
    client = network.places["client"]
    with client.entered(), IPRoute() as routes:
        index = socket.if_nametoindex("link")
        routes.link("set", index=index, state=state)
        if state == "up":
            lookup = {"ifname": "link", "operstate": "UP"}
            wait_for(lambda: bool(routes.link_lookup(**lookup)), "the link is up")


@pytest.mark.parametrize("offload", [False, True])
def test_a_link_goes_down_and_comes_back(network: Network, offload: bool) -> None:
    with network.open_udp("server") as reader, network.open_udp("client") as writer:
        writer.gso = reader.gro = offload
        addr = (NEAR, reader.local_addr[1])
        messages = numbered(range(40), addr)
        found: list[bytes] = []

        def read_all() -> None:
            room = new_messages(64, 100)
            while len(found) < 60:
                found.extend(message.data for message in room[: reader.read_batch(room)])

        call = Call(read_all).wait_until_waiting()
        assert writer.write_all(messages[:20]) == 20
        set_link(network, "down")
        call.wait_until_waiting()
        with pytest.raises(OSError, match="unreachable") as caught:
            writer.write_all(messages[20:])
        error: Any = caught.value
        assert (error.errno, error.index, error.written) == (errno.ENETUNREACH, 0, 0)
        assert writer.write_all(messages[20:], errors="skip") == 0
        assert {message.errno for message in messages[20:]} == {errno.ENETUNREACH}
        with pytest.raises(OSError, match="unreachable"):
            writer.write_to(b"lost", addr)
        assert call.is_alive()
        set_link(network, "up")
        assert writer.write_all(messages[20:]) == 20
        assert writer.write_all(numbered(range(40, 60), addr)) == 20
        call.result()
        assert found == [b"%04d" % number for number in range(60)]
        assert writer.gso is reader.gro is offload
