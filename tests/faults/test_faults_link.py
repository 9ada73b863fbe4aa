"""Links that go down and come back, addresses and devices that go, while they are in use."""

import errno
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pyroute2 import IPRoute
from support.net import LIMIT, Call, wait_for
from support.router import CLIENT, NEAR, Network, linked

from ipv4batch import Message, PacketConn, new_messages


def numbered(numbers: range, addr: tuple[str, int]) -> list[Message]:
    return [Message(b"%04d" % number, None, addr) for number in numbers]


@pytest.fixture
def network(needs_netns: None) -> Iterator[Network]:
    with linked() as made:
        yield made


def set_link(network: Network, state: str, place: str = "client") -> None:
    """Turn an end of the link on or off."""
    with network.places[place].entered(), IPRoute() as routes:
        index = socket.if_nametoindex("link")
        routes.link("set", index=index, state=state)
        if state == "up" and place == "client":
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


def change(network: Network, command: str, **what: Any) -> None:
    """Do something to the client's end of the link, or to its address."""
    with network.places["client"].entered(), IPRoute() as routes:
        make = routes.addr if "address" in what else routes.link
        make(command, index=socket.if_nametoindex("link"), **what)


def outcomes(conn: PacketConn, addr: tuple[str, int], first: int) -> list[int]:
    """The errno of each kind of write, 0 if it went, of ten datagrams in all."""
    found = []
    for number, write in enumerate(
        [
            conn.write_batch,
            conn.write_all,
            lambda messages: conn.write_all(messages, errors="skip"),
            lambda messages: conn.write_to(messages[0].buffers[0], addr),
        ]
    ):
        start = first + 3 * number
        messages = numbered(range(start, start + (3 if number < 3 else 1)), addr)
        try:
            write(messages)
        except OSError as error:
            found.append(error.errno)
            continue
        found.append(max(message.errno for message in messages))
    return found


@pytest.mark.parametrize("host", ["0.0.0.0", CLIENT])
@pytest.mark.parametrize("gone", ["address", "device"])
def test_an_address_or_a_device_goes(network: Network, gone: str, host: str) -> None:
    """Writes have nowhere to go, reads wait; what was not taken is never sent."""
    with network.open_udp("server") as reader, network.open_udp("client", host) as writer:
        addr = (NEAR, reader.local_addr[1])
        address = {"address": CLIENT, "prefixlen": 24}
        waiting = Call(writer.read_batch, new_messages(2)).wait_until_waiting()
        assert outcomes(writer, addr, 0) == [0] * 4
        change(network, "del", **(address if gone == "address" else {}))
        assert outcomes(writer, addr, 10) == [errno.ENETUNREACH] * 4
        assert waiting.wait_until_waiting().is_alive()
        if gone == "address":
            change(network, "add", **address)
            assert outcomes(writer, addr, 20) == [0] * 4
            answer = (CLIENT, writer.local_addr[1])
            assert reader.write_to(b"answer", answer) == 6
            assert waiting.result() == 1
        writer.close()
        room = new_messages(64, 100)
        found: list[bytes] = []
        expected = [*range(10), *(range(20, 30) if gone == "address" else ())]
        while len(found) < len(expected):
            found += [message.data for message in room[: reader.read_batch(room)]]
        assert found == [b"%04d" % number for number in expected]
        with pytest.raises(BlockingIOError):
            reader.read_batch(room, socket.MSG_DONTWAIT)
        if gone == "device":
            with pytest.raises(OSError, match="The connection is closed"):
                waiting.result()


@pytest.mark.parametrize("place", ["client", "server"])
@pytest.mark.parametrize("offload", [False, True])
def test_a_link_that_comes_and_goes_all_the_time(
    network: Network, offload: bool, place: str
) -> None:
    """Either end of it. No datagram comes twice, and none that a write has said to have failed."""
    with network.open_udp("server") as reader, network.open_udp("client") as writer:
        writer.gso = reader.gro = offload
        addr = (NEAR, reader.local_addr[1])
        found: list[bytes] = []
        over = threading.Event()

        def read_all() -> None:
            room = new_messages(64, 100)
            while b"last" not in found:
                found.extend(message.data for message in room[: reader.read_batch(room)])

        def flap() -> None:
            try:
                for _ in range(5):
                    refused = len(failed)
                    set_link(network, "down", place)
                    if place == "client":
                        wait_for(lambda n=refused: len(failed) > n, "a write fails")
                    before = len(found)
                    set_link(network, "up", place)
                    wait_for(lambda n=before: len(found) > n, "something arrives")
            finally:
                over.set()

        taken: list[bytes] = []
        failed: list[bytes] = []
        calls = [Call(read_all), Call(flap)]
        number = 0
        while not over.is_set():
            messages = numbered(range(number, number + 20), addr)
            number += 20
            written = writer.write_all(messages, errors="skip")
            assert written == sum(message.errno == 0 for message in messages)
            for message in messages:
                (failed if message.errno else taken).append(bytes(message.buffers[0]))
                assert message.errno in (0, errno.ENETUNREACH, errno.ENETDOWN)
        assert bool(failed) is (place == "client")
        # What the other end has not taken by now waits for it, or was dropped by the link.
        deadline = time.monotonic() + LIMIT
        while calls[0].is_alive() and time.monotonic() < deadline:
            writer.write_to(b"last", addr)
            calls[0].join(0.05)
        for call in calls:
            call.result()
        arrived = [data for data in found if data != b"last"]
        assert len(arrived) == len(set(arrived))
        assert set(arrived) <= set(taken)
        assert len(arrived) > 0
