"""One batch over two links: interface and source of every message, and replies that find back."""

import contextlib
import errno
import os
import pathlib
import socket
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pytest
from pyroute2 import IPRoute
from support.net import LIMIT
from support.router import Network

from ipv4batch import (
    ControlFlags,
    ControlMessage,
    Header,
    Message,
    PacketConn,
    RawConn,
    new_messages,
)

LINKS = ("left", "right")
HOST = {"left": ("192.0.2.1", "192.0.2.11"), "right": ("198.51.100.1", "198.51.100.11")}
STATION = {"left": "192.0.2.2", "right": "198.51.100.2"}
PROTOCOL = 253  # for experiments (RFC 3692)
ETH_P_IP = 0x0800

TTL = 7

FLAGS = ControlFlags.TTL | ControlFlags.DST | ControlFlags.INTERFACE


Conn = PacketConn | RawConn
Ends = tuple[Conn, Conn]


class Path(NamedTuple):
    """By which link a message goes, from which address and to which; each may be of any link."""

    link: str
    src: str
    dst: str


PATHS = [
    Path(link, src, dst)
    for src in (*HOST["left"], *HOST["right"])
    for dst in STATION.values()
    for link in LINKS
]


def namespace() -> str:
    return os.readlink("/proc/thread-self/ns/net")


@pytest.fixture
def network(needs_netns: None) -> Iterator[Network]:
    """A host with two addresses on each of two links to a station."""
    before = namespace(), socket.if_nameindex()
    with Network("host", "station") as made:
        host, station = made.places.values()
        for place in (host, station):
            with place.entered():
                for scope in ("all", "default"):
                    accept_any_source = pathlib.Path("/proc/sys/net/ipv4/conf", scope, "rp_filter")
                    accept_any_source.write_text("0")
        for link in LINKS:
            host.connect(link, HOST[link][0], station, link, STATION[link])
            host.add_address(link, HOST[link][1])
        yield made
    assert (namespace(), socket.if_nameindex()) == before


def indices(network: Network, place: str) -> dict[str, int]:
    return {link: network.places[place].index(link) for link in LINKS}


@pytest.fixture(params=["udp", "raw packets", "whole packets"])
def ends(network: Network, request: pytest.FixtureRequest) -> Iterator[Ends]:
    """A connection of each kind on the host, and one on the station."""
    udp, whole = request.param == "udp", request.param == "whole packets"
    if not udp:
        request.getfixturevalue("needs_raw")
    with contextlib.ExitStack() as stack:
        conns = []
        for place in network.places.values():
            sock = place.socket(*((socket.SOCK_DGRAM,) if udp else (socket.SOCK_RAW, PROTOCOL)))
            sock.settimeout(LIMIT)
            sock.bind(("0.0.0.0", 0))
            conns.append(stack.enter_context(RawConn(sock) if whole else PacketConn(sock)))
            conns[-1].set_control_message(FLAGS)
        yield conns[0], conns[1]


def buffers(conn: Conn, data: bytes, dst: str, src: str | None = None) -> list[bytes]:
    """The data, behind a header where that is the caller's."""
    if isinstance(conn, RawConn):
        return [Header(ttl=TTL, protocol=PROTOCOL, src=src, dst=dst).marshal(), data]
    return [data]


def message(conn: Conn, data: bytes, dst: tuple[str, int], control: ControlMessage) -> Message:
    return Message(buffers(conn, data, dst[0], control.src), control.marshal(), dst)


def payload(arrived: Message) -> str:
    """Behind the header, where there is one: on raw sockets, whose port is 0."""
    return arrived.data[0 if arrived.addr[1] else 20 :].decode()


def send(conn: Conn, messages: Sequence[Message]) -> None:
    """In one call."""
    assert conn.write_batch(messages) == len(messages)


def receive(conn: Conn, count: int) -> list[Message]:
    arrived: list[Message] = []
    while len(arrived) < count:
        messages = new_messages(count - len(arrived), control=FLAGS)
        arrived += messages[: conn.read_batch(messages)]
    return arrived


def ask(ends: Ends, network: Network) -> dict[Path, Message]:
    """Send along all paths in one batch; what arrived, by the path that it says it took."""
    host, station = ends
    links = indices(network, "host")
    port = station.local_addr[1]
    controls = [ControlMessage(ttl=TTL, src=src, ifindex=links[link]) for link, src, _ in PATHS]
    send(
        host,
        [
            message(host, " ".join(path).encode(), (path.dst, port), control)
            for path, control in zip(PATHS, controls, strict=True)
        ],
    )
    return by_path(receive(station, len(PATHS)))


def by_path(arrived: Sequence[Message]) -> dict[Path, Message]:
    return {Path(*payload(m).split()): m for m in arrived}


def test_the_messages_of_one_batch_take_their_own_paths(ends: Ends, network: Network) -> None:
    arrived = ask(ends, network)
    assert set(arrived) == set(PATHS)
    links = indices(network, "station")
    assert set(links.values()).isdisjoint(indices(network, "host").values())
    for path, m in arrived.items():
        assert m.addr == (path.src, ends[0].local_addr[1])
        expected = ControlMessage(ttl=TTL, src=path.src, dst=path.dst, ifindex=links[path.link])
        assert m.control_message() == expected


def test_a_reply_goes_back_over_the_link_that_its_question_came_by(
    ends: Ends, network: Network
) -> None:
    host, station = ends
    arrived = ask(ends, network)
    station.ttl = TTL
    send(
        station,
        [m.reply(buffers(station, payload(m).encode(), path.src)) for path, m in arrived.items()],
    )
    answers = by_path(receive(host, len(PATHS)))
    assert set(answers) == set(PATHS)
    links = indices(network, "host")
    for path, m in answers.items():
        assert m.addr == (path.dst, station.local_addr[1])
        expected = ControlMessage(ttl=TTL, src=path.dst, dst=path.src, ifindex=links[path.link])
        assert m.control_message() == expected


@pytest.mark.usefixtures("needs_raw")
def test_each_link_carries_its_own_messages_only(ends: Ends, network: Network) -> None:
    """Seen by sockets that are bound to a link, and know nothing of control messages."""
    station = network.places["station"]
    with contextlib.ExitStack() as stack, station.entered():
        taps = {}
        for link in LINKS:
            kind = socket.SOCK_DGRAM  # packets without the link's own header
            taps[link] = stack.enter_context(socket.socket(socket.AF_PACKET, kind))
            taps[link].bind((link, ETH_P_IP))
        ask(ends, network)
        for link, tap in taps.items():
            packets = drain(tap)
            seen = {
                path for packet in packets for path in PATHS if " ".join(path).encode() in packet
            }
            assert len(packets) == len(seen)
            assert seen == {path for path in PATHS if path.link == link}


def drain(sock: socket.socket) -> list[bytes]:
    """What is there; the station has read all of it by now, so it is."""
    packets = []
    with contextlib.suppress(BlockingIOError):
        while True:
            packets.append(sock.recv(2048, socket.MSG_DONTWAIT))
    return packets


@pytest.mark.parametrize("asked", [None, *LINKS])
def test_without_a_source_the_link_chooses_it(
    ends: Ends, network: Network, asked: str | None
) -> None:
    """And with no link asked for, the destination's route chooses that."""
    host, station = ends
    control = ControlMessage(ttl=TTL, ifindex=indices(network, "host")[asked] if asked else 0)
    port = station.local_addr[1]
    send(host, [message(host, b"x", (dst, port), control) for dst in STATION.values()])
    arrived = {m.control_message().dst: m for m in receive(station, 2)}
    for link, dst in STATION.items():
        taken = asked or link
        received = arrived[dst].control_message()
        assert received.src == HOST[taken][0]
        assert received.ifindex == indices(network, "station")[taken]


@pytest.mark.parametrize("ends", ["udp"], indirect=True)
@pytest.mark.parametrize("everyone", ["255.255.255.255", "224.0.0.1"])
def test_a_reply_to_what_went_to_all_goes_back_over_its_link(
    ends: Ends, network: Network, everyone: str
) -> None:
    """Not so with raw sockets: the host's would hear its own broadcasts too."""
    host, station = ends
    with socket.socket(fileno=socket.dup(host.fileno())) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    links = indices(network, "host")
    to = (everyone, station.local_addr[1])
    # Each link gets the other one's address, to which the routes lead over the other one.
    sources = {"left": HOST["right"][0], "right": HOST["left"][0]}
    controls = [ControlMessage(src=sources[link], ifindex=links[link]) for link in LINKS]
    send(host, [message(host, b"who?", to, control) for control in controls])
    arrived = receive(station, 2)
    assert {m.control_message().dst for m in arrived} == {everyone}
    send(station, [m.reply(b"I") for m in arrived])
    answers = {m.control_message().ifindex: m for m in receive(host, 2)}
    for link in LINKS:
        assert answers[links[link]].addr[0] in STATION.values()
        assert answers[links[link]].control_message().dst == sources[link]


def test_a_link_that_is_down_takes_only_its_own_messages_with_it(
    ends: Ends, network: Network
) -> None:
    host, station = ends
    links = indices(network, "host")
    with network.places["host"].entered(), IPRoute() as routes:
        routes.link("set", index=links["left"], state="down")
    port = station.local_addr[1]
    ways = ["right", "left", "left", "right", "left", "right"]
    messages = [
        message(host, f"{i}".encode(), (STATION["right"], port), ControlMessage(ifindex=links[way]))
        for i, way in enumerate(ways)
    ]
    assert host.write_batch(messages) == 1
    with pytest.raises(OSError, match="'write (udp4|ip4:253) 0.0.0.0") as caught:
        host.write_batch(messages[1:])
    assert caught.value.errno == messages[1].errno == errno.ENETUNREACH
    assert host.write_all(messages[1:], errors="skip") == 2
    assert [m.errno for m in messages] == [
        0 if way == "right" else errno.ENETUNREACH for way in ways
    ]
    assert [payload(m) for m in receive(station, 3)] == ["0", "3", "5"]
