"""Multicast groups on two links: who hears what, as the traffic and the kernel's lists show."""

import errno
import ipaddress
import pathlib
import re
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from support.net import open_udp
from support.router import Network

from ipv4batch import ControlFlags, ControlMessage, Message, PacketConn, new_messages

LINKS = ("left", "right")
HOST = {"left": "192.0.2.1", "right": "198.51.100.1"}
STATION = {"left": ("192.0.2.2", "192.0.2.3"), "right": ("198.51.100.2", "198.51.100.3")}
GROUPS = ONE, OTHER = ("239.1.2.3", "232.4.5.6")

FLAGS = ControlFlags.TTL | ControlFlags.DST | ControlFlags.INTERFACE


class Stream(NamedTuple):
    """What one source sends to one group on one link."""

    link: str
    group: str
    source: str


STREAMS = {
    Stream(link, group, source) for link in LINKS for group in GROUPS for source in STATION[link]
}


def streams(link: str = "", group: str = "", source: str = "") -> set[Stream]:
    """Those with this link, this group and this source, where one is given."""
    return {
        stream
        for stream in STREAMS
        if all(want in ("", has) for want, has in zip((link, group, source), stream, strict=True))
    }


@pytest.fixture
def network(needs_netns: None) -> Iterator[Network]:
    """A host, where the test is, with two links to a station."""
    with Network("host", "station") as made:
        host, station = made.places.values()
        for link in LINKS:
            host.connect(link, HOST[link], station, link, STATION[link][0])
            station.add_address(link, STATION[link][1])
        with host.entered():
            yield made


def indices(network: Network, place: str) -> dict[str, int]:
    return {link: network.places[place].index(link) for link in LINKS}


@pytest.fixture
def host(network: Network) -> PacketConn:
    conn = network.open_udp("host")
    conn.set_control_message(FLAGS)
    return conn


@pytest.fixture
def station(network: Network) -> PacketConn:
    return network.open_udp("station")


Heard = Callable[[], set[Stream]]


@pytest.fixture
def heard(network: Network, host: PacketConn, station: PacketConn) -> Heard:
    """Lets the station send all streams in one batch, and tells which of them the host hears."""
    there, here = indices(network, "station"), indices(network, "host")
    port = host.local_addr[1]
    messages = [
        Message(
            " ".join(stream).encode(),
            ControlMessage(src=stream.source, ifindex=there[stream.link]).marshal(),
            (stream.group, port),
        )
        for stream in STREAMS
    ]
    # Unicast always arrives, and last: it ends the list.
    messages += [
        Message(b"end", ControlMessage(ifindex=there[link]).marshal(), (HOST[link], port))
        for link in LINKS
    ]

    def send_and_hear() -> set[Stream]:
        assert station.write_batch(messages) == len(messages)
        found: set[Stream] = set()
        ends = 0
        while ends < len(LINKS):
            arrived = new_messages(len(messages), control=FLAGS)
            for m in arrived[: host.read_batch(arrived)]:
                if m.data == b"end":
                    ends += 1
                    continue
                stream = Stream(*m.data.decode().split())
                assert stream not in found
                found.add(stream)
                assert m.control_message() == ControlMessage(
                    ttl=1, src=stream.source, dst=stream.group, ifindex=here[stream.link]
                )
        return found

    return send_and_hear


def joined() -> set[tuple[str, str]]:
    """The kernel's list of groups, each with its link: the host's own, without all-hosts."""
    found = set()
    link = ""
    for line in pathlib.Path("/proc/thread-self/net/igmp").read_text().splitlines()[1:]:
        fields = line.split()
        if not line[0].isspace():
            link = fields[1]
        else:
            group = socket.inet_ntoa(int(fields[0], 16).to_bytes(4, sys.byteorder))
            found.add((link, group))
    return {(link, group) for link, group in found if group != "224.0.0.1"}


def filters() -> dict[Stream, tuple[int, int]]:
    """The kernel's list of sources: how many sockets include each, and how many exclude it."""
    found = {}
    for line in pathlib.Path("/proc/thread-self/net/mcfilter").read_text().splitlines()[1:]:
        _, link, group, source, include, exclude = line.split()
        addresses = (socket.inet_ntoa(int(each, 16).to_bytes(4, "big")) for each in (group, source))
        found[Stream(link, *addresses)] = int(include), int(exclude)
    return found


# Groups


@pytest.mark.parametrize("link", LINKS)
def test_a_group_is_joined_on_one_link(host: PacketConn, heard: Heard, link: str) -> None:
    index = socket.if_nametoindex(link)
    assert (heard(), joined()) == (set(), set())
    for join, leave in ((index, link), (link, index)):
        host.join_group(join, ONE)
        assert heard() == streams(link, ONE)
        assert joined() == {(link, ONE)}
        host.leave_group(leave, ONE)
        assert (heard(), joined()) == (set(), set())


def test_each_link_has_groups_of_its_own(host: PacketConn, heard: Heard) -> None:
    host.join_group("left", ONE)
    host.join_group("right", OTHER)
    assert heard() == streams("left", ONE) | streams("right", OTHER)
    host.join_group("right", ONE)
    assert heard() == streams(group=ONE) | streams("right", OTHER)
    assert joined() == {("left", ONE), ("right", ONE), ("right", OTHER)}
    with pytest.raises(OSError, match=f": 'leave_group udp4 0.0.0.0:{host.local_addr[1]}'"):
        host.leave_group("left", OTHER)
    host.leave_group("left", ONE)
    assert heard() == streams("right")
    assert joined() == {("right", ONE), ("right", OTHER)}


@pytest.mark.parametrize("link", LINKS)
def test_none_is_the_interface_that_the_route_leads_to(
    network: Network, host: PacketConn, heard: Heard, link: str
) -> None:
    with pytest.raises(OSError, match="'join_group udp4 0.0.0.0:") as caught:
        host.join_group(None, ONE)
    assert caught.value.errno == errno.ENODEV
    gateway, source = STATION[link]
    network.places["host"].add_route("224.0.0.0/4", gateway)
    host.join_group(None, ONE)
    host.join_source_specific_group(None, OTHER, source)
    assert heard() == streams(link, ONE) | streams(link, OTHER, source)
    host.leave_group(None, ONE)
    host.leave_source_specific_group(None, OTHER, source)
    assert (heard(), joined(), filters()) == (set(), set(), {})


def test_arguments_have_names_and_addresses_three_forms(host: PacketConn) -> None:
    host.join_group(group=ipaddress.IPv4Address(ONE), interface="left")
    assert joined() == {("left", ONE)}
    host.leave_group(group=socket.inet_aton(ONE), interface="left")
    assert joined() == set()
    host.join_source_specific_group(
        source=socket.inet_aton("192.0.2.2"), group=ipaddress.IPv4Address(OTHER), interface="left"
    )
    assert filters() == {Stream("left", OTHER, "192.0.2.2"): (1, 0)}


def test_a_closed_connection_has_left_its_groups(host: PacketConn) -> None:
    host.join_group("left", ONE)
    host.join_source_specific_group("right", OTHER, STATION["right"][0])
    assert joined() == {("left", ONE), ("right", OTHER)}
    host.close()
    assert (joined(), filters()) == (set(), {})


# Sources


@pytest.mark.parametrize("link", LINKS)
def test_sources_are_joined_and_left_one_by_one(host: PacketConn, heard: Heard, link: str) -> None:
    index = socket.if_nametoindex(link)
    first, second = STATION[link]
    host.join_source_specific_group(link, OTHER, first)
    assert heard() == streams(link, OTHER, first)
    assert filters() == {Stream(link, OTHER, first): (1, 0)}
    host.join_source_specific_group(index, OTHER, second)
    assert heard() == streams(link, OTHER)
    assert filters() == {Stream(link, OTHER, each): (1, 0) for each in (first, second)}
    host.leave_source_specific_group(index, OTHER, first)
    assert heard() == streams(link, OTHER, second)
    assert filters() == {Stream(link, OTHER, second): (1, 0)}
    host.leave_source_specific_group(link, OTHER, second)
    assert (heard(), joined(), filters()) == (set(), set(), {})


def test_each_link_has_sources_of_its_own(host: PacketConn, heard: Heard) -> None:
    left, right = STATION["left"][1], STATION["right"][0]
    host.join_source_specific_group("left", OTHER, left)
    host.join_source_specific_group("right", OTHER, right)
    assert heard() == streams("left", OTHER, left) | streams("right", OTHER, right)
    # There is nobody of that name on this link.
    host.join_source_specific_group("left", OTHER, right)
    host.leave_source_specific_group("right", OTHER, right)
    assert heard() == streams("left", OTHER, left)
    assert filters() == {Stream("left", OTHER, each): (1, 0) for each in (left, right)}


@pytest.mark.parametrize("link", LINKS)
def test_sources_are_excluded_and_included_again(host: PacketConn, heard: Heard, link: str) -> None:
    index = socket.if_nametoindex(link)
    first, second = STATION[link]
    for each in LINKS:
        host.join_group(each, ONE)
    assert (heard(), filters()) == (streams(group=ONE), {})
    host.exclude_source_specific_group(link, ONE, first)
    assert heard() == streams(group=ONE) - streams(link, ONE, first)
    assert filters() == {Stream(link, ONE, first): (0, 1)}
    host.exclude_source_specific_group(index, ONE, second)
    assert heard() == streams(group=ONE) - streams(link)
    assert filters() == {Stream(link, ONE, each): (0, 1) for each in (first, second)}
    host.include_source_specific_group(index, ONE, first)
    assert heard() == streams(group=ONE) - streams(link, ONE, second)
    host.include_source_specific_group(link, ONE, second)
    assert (heard(), filters()) == (streams(group=ONE), {})
    assert joined() == {(each, ONE) for each in LINKS}


# Sending


@pytest.fixture
def member(network: Network, station: PacketConn) -> PacketConn:
    """The station, where it hears the group on both links."""
    station.set_control_message(FLAGS)
    for index in indices(network, "station").values():
        station.join_group(index, ONE)
    return station


def sent(
    conn: PacketConn, member: PacketConn, control: ControlMessage | None = None, group: str = ONE
) -> ControlMessage:
    """What the member sees of a datagram to the group."""
    (m,) = new_messages(1, control=FLAGS)
    to = (group, member.local_addr[1])
    assert conn.write_batch([Message(b"x", control and control.marshal(), to)]) == 1
    assert member.read_batch([m]) == 1
    arrived = m.control_message()
    assert arrived is not None
    return arrived


def received(conn: PacketConn, count: int) -> list[bytes]:
    """At least so many datagrams, and all that came with them."""
    data: list[bytes] = []
    while len(data) < count:
        messages = new_messages(count + 1)
        data += [m.data for m in messages[: conn.read_batch(messages)]]
    return data


def test_multicast_ttl(host: PacketConn, member: PacketConn) -> None:
    host.multicast_interface = "left"
    assert sent(host, member).ttl == host.multicast_ttl == 1
    for ttl in (2, 33, 255):
        host.multicast_ttl = ttl
        assert host.multicast_ttl == sent(host, member).ttl == ttl
    assert sent(host, member, ControlMessage(ttl=9)).ttl == 9
    assert sent(host, member).ttl == 255
    # Unicast has its own.
    assert sent(host, member, group=STATION["left"][0]).ttl == host.ttl == 64


def test_a_multicast_ttl_of_0_stays_at_home(host: PacketConn, member: PacketConn) -> None:
    host.join_group("left", ONE)
    host.multicast_interface = "left"
    ports = (host.local_addr[1], member.local_addr[1])
    for ttl in (0, 1):
        host.multicast_ttl = ttl
        messages = [Message(b"%d" % ttl, addr=(ONE, port)) for port in ports]
        assert host.write_batch(messages) == 2
    assert received(host, 2) == [b"0", b"1"]
    assert received(member, 1) == [b"1"]


def test_multicast_interface(network: Network, host: PacketConn, member: PacketConn) -> None:
    here, there = indices(network, "host"), indices(network, "station")
    assert host.multicast_interface is None
    with pytest.raises(OSError, match="'write udp4 0.0.0.0:") as caught:
        sent(host, member)
    assert caught.value.errno == errno.ENETUNREACH
    for link in (*LINKS, *LINKS):
        for interface in (link, here[link]):
            host.multicast_interface = interface
            assert host.multicast_interface == here[link]
            arrived = sent(host, member)
            assert (arrived.ifindex, arrived.src) == (there[link], HOST[link])
    # One message may go elsewhere.
    arrived = sent(host, member, ControlMessage(ifindex=here["left"]))
    assert (arrived.ifindex, arrived.src) == (there["left"], HOST["left"])
    assert sent(host, member).ifindex == there["right"]
    # With None it is where the route leads.
    host.multicast_interface = None
    assert host.multicast_interface is None
    network.places["host"].add_route("224.0.0.0/4", STATION["left"][0])
    assert sent(host, member).ifindex == there["left"]


def test_an_interface_that_was_set_by_its_address_has_an_index(host: PacketConn) -> None:
    with socket.socket(fileno=socket.dup(host.fileno())) as sock:
        for link in LINKS:
            option = socket.inet_aton(HOST[link])
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, option)
            assert host.multicast_interface == socket.if_nametoindex(link)


def test_multicast_loopback(network: Network, host: PacketConn, member: PacketConn) -> None:
    """It is the sender's: whether others on its host hear it."""
    host.join_group("left", ONE)
    sender = network.open_udp("host")
    sender.multicast_interface = "left"
    assert sender.multicast_loopback is True
    ports = (host.local_addr[1], member.local_addr[1])
    for data, on in ((b"1", True), (b"2", False), (b"3", True)):
        sender.multicast_loopback = on
        assert sender.multicast_loopback is on
        assert sender.write_batch([Message(data, addr=(ONE, port)) for port in ports]) == 2
    assert received(host, 2) == [b"1", b"3"]
    assert received(member, 3) == [b"1", b"2", b"3"]


# Errors

JOIN, LEAVE = "join_group", "leave_group"
JOIN_SOURCE, LEAVE_SOURCE = "join_source_specific_group", "leave_source_specific_group"
EXCLUDE, INCLUDE = "exclude_source_specific_group", "include_source_specific_group"
METHODS = (JOIN, LEAVE, JOIN_SOURCE, LEAVE_SOURCE, EXCLUDE, INCLUDE)


def call(conn: PacketConn, method: str, interface: Any = "left", group: Any = ONE) -> None:
    getattr(conn, method)(interface, group, *[STATION["left"][0]][: method not in (JOIN, LEAVE)])


@pytest.mark.parametrize(
    ("before", "method", "code"),
    [
        ([JOIN], JOIN, errno.EADDRINUSE),
        ([], LEAVE, errno.EADDRNOTAVAIL),
        ([JOIN, LEAVE], LEAVE, errno.EADDRNOTAVAIL),
        ([JOIN_SOURCE], JOIN, errno.EADDRINUSE),
        ([JOIN_SOURCE], JOIN_SOURCE, errno.EADDRNOTAVAIL),
        ([], LEAVE_SOURCE, errno.EINVAL),
        ([JOIN], LEAVE_SOURCE, errno.EADDRNOTAVAIL),
        ([], EXCLUDE, errno.EINVAL),
        ([JOIN_SOURCE], EXCLUDE, errno.EINVAL),
        ([JOIN, EXCLUDE], EXCLUDE, errno.EADDRNOTAVAIL),
        ([], INCLUDE, errno.EINVAL),
        ([JOIN], INCLUDE, errno.EADDRNOTAVAIL),
    ],
)
def test_what_is_no_change_is_refused(
    host: PacketConn, before: list[str], method: str, code: int
) -> None:
    for each in before:
        call(host, each)
    lists = joined(), filters()
    with pytest.raises(OSError, match=f": '{method} udp4 0.0.0.0:{host.local_addr[1]}'") as caught:
        call(host, method)
    assert caught.value.errno == code
    assert (joined(), filters()) == lists


@pytest.mark.parametrize("interface", ["nosuch", 2**31 - 1, "192.0.2.77"])
@pytest.mark.parametrize("operation", [*METHODS, "multicast_interface"])
def test_an_interface_that_does_not_exist(operation: str, interface: str | int) -> None:
    with open_udp() as conn:
        where = f": '{operation} interface {interface} udp4 127.0.0.1:{conn.local_addr[1]}"
        with pytest.raises(OSError, match=where) as caught:
            if operation in METHODS:
                call(conn, operation, interface)
            else:
                conn.multicast_interface = interface
        assert caught.value.errno == errno.ENODEV
        assert conn.multicast_interface is None


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        ({"group": "192.0.2.2"}, ValueError, "group: '192.0.2.2' is no multicast group"),
        ({"group": "255.255.255.255"}, ValueError, "group: '255.255.255.255' is no multicast"),
        ({"group": "localhost"}, ValueError, "group: 'localhost' is no IPv4 address; resolve"),
        ({"group": None}, TypeError, "group: an address is a str, an ipaddress.IPv4Address or"),
        ({"interface": 0}, ValueError, "interface: 0 is out of range, 1 to 2147483647"),
        ({"interface": 1.5}, TypeError, "interface: an index, a name, an address or None is req"),
        ({"interface": "le\0ft"}, ValueError, "interface: "),
        ({"interface": b"lo"}, ValueError, "interface: a packed IPv4 address has 4 bytes, not 2"),
    ],
)
def test_wrong_arguments_are_named(
    method: str, wrong: dict[str, Any], error: type[Exception], text: str
) -> None:
    with open_udp() as conn, pytest.raises(error, match=re.escape(text)):
        call(conn, method, **{"interface": "lo", **wrong})


@pytest.mark.parametrize("method", METHODS[2:])
def test_a_source_is_no_group(method: str) -> None:
    with open_udp() as conn, pytest.raises(ValueError, match=f"source: '{ONE}' is a multicast gr"):
        getattr(conn, method)("lo", OTHER, ONE)


def test_an_interface_may_be_given_by_one_of_its_addresses(
    network: Network, host: PacketConn, member: PacketConn
) -> None:
    there = indices(network, "station")
    for link in LINKS:
        packed = socket.inet_aton(HOST[link])
        for address in (HOST[link], ipaddress.IPv4Address(HOST[link]), packed, bytearray(packed)):
            host.multicast_interface = address
            assert host.multicast_interface == socket.if_nametoindex(link)
            assert sent(host, member).ifindex == there[link]
        host.join_group(HOST[link], OTHER)
        with pytest.raises(OSError, match="Address already in use"):
            host.join_group(link, OTHER)
        host.leave_group(ipaddress.IPv4Address(HOST[link]), OTHER)


def test_an_address_of_two_interfaces_is_none(network: Network, host: PacketConn) -> None:
    network.places["host"].add_address("left", HOST["right"])
    with pytest.raises(ValueError, match="interface: 198.51.100.1 is an address of 2 interfaces"):
        host.join_group(HOST["right"], OTHER)
    host.join_group(HOST["left"], OTHER)


def test_the_limit_of_memberships_is_named(host: PacketConn) -> None:
    limit = int(pathlib.Path("/proc/sys/net/ipv4/igmp_max_memberships").read_text())
    for number in range(limit):
        host.join_group("left", f"239.9.9.{number + 1}")
    with pytest.raises(OSError, match="No buffer space available") as caught:
        host.join_group("left", "239.9.8.1")
    assert caught.value.errno == errno.ENOBUFS
    assert "net.ipv4.igmp_max_memberships" in caught.value.__notes__[0]


def test_multicast_all_leaves_out_the_groups_of_other_sockets() -> None:
    with open_udp("0.0.0.0") as joined, open_udp("0.0.0.0") as other, open_udp() as sender:
        assert other.multicast_all is True
        joined.join_group("lo", ONE)
        sender.multicast_interface = "lo"
        sender.multicast_ttl = 0
        port = other.local_addr[1]
        for wanted in (True, False):
            other.multicast_all = wanted
            assert other.multicast_all is wanted
            sender.write_to(b"group", (ONE, port))
            sender.write_to(b"alone", ("127.0.0.1", port))
            got = [other.read_from(bytearray(9))[2] for _ in range(1 + wanted)]
            assert len(got) == 1 + wanted
            with pytest.raises(BlockingIOError):
                other.read_from(bytearray(9), socket.MSG_DONTWAIT)
