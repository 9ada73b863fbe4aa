"""Options of a socket that were set before the connection, and those that somebody clears later."""

import errno
import fcntl
import os
import select
import socket
from collections.abc import Iterator

import pytest
from support.net import LIMIT, Call, open_raw, open_udp, own_host, udp_socket

from ipv4batch import ControlFlags, Header, Message, PacketConn, RawConn, new_messages

HERE = own_host(20)
EXPERIMENT = 253
UDP_CORK, UDP_SEGMENT, UDP_GRO = 1, 103, 104
IP_RECVERR, IP_RECVTTL, IP_PKTINFO, IP_RECVTOS = 11, 12, 8, 13
IP_RECVOPTS, IP_ORIGDSTADDR, IP_CHECKSUM, IP_RECVFRAGSIZE = 6, 20, 23, 25
SO_TIMESTAMPNS, SO_TIMESTAMPING, SO_RXQ_OVFL = 35, 37, 40
TIMESTAMPING_RX_SOFTWARE, TIMESTAMPING_SOFTWARE = 8, 16

ITEMS = {
    ControlFlags.TTL: (socket.IPPROTO_IP, IP_RECVTTL),
    ControlFlags.SRC | ControlFlags.DST | ControlFlags.INTERFACE: (socket.IPPROTO_IP, IP_PKTINFO),
    ControlFlags.TOS: (socket.IPPROTO_IP, IP_RECVTOS),
    ControlFlags.TIMESTAMP: (socket.SOL_SOCKET, SO_TIMESTAMPNS),
    ControlFlags.DROPS: (socket.SOL_SOCKET, SO_RXQ_OVFL),
}


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with udp_socket() as made:
        yield made


def send_run(sock: socket.socket, count: int = 4) -> list[bytes]:
    """Datagrams of 100 bytes that the kernel coalesces where UDP_GRO is set."""
    datas = [bytes([number]) * 100 for number in range(count)]
    with open_udp() as sender:
        sender.gso = True
        assert sender.write_all([Message(d, addr=sock.getsockname()) for d in datas]) == count
    return datas


def read_all(conn: PacketConn, flags: int = 0) -> list[Message]:
    conn.timeout = 0
    found: list[Message] = []
    while True:
        messages = new_messages(3, 1000, flags)
        try:
            found += messages[: conn.read_batch(messages)]
        except BlockingIOError:
            return found


@pytest.mark.parametrize("before", [False, True], ids=["sent after", "sent before"])
def test_receive_offload(sock: socket.socket, before: bool) -> None:
    sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    datas = send_run(sock) if before else []
    with PacketConn(sock) as conn:
        assert (conn.gro, conn.control_flags) == (True, 0)
        datas = datas or send_run(sock)
        assert [m.data for m in read_all(conn)] == datas
        # As after a setting of its own.
        conn.gro = False
        datas = send_run(sock)
        assert [m.data for m in read_all(conn)] == datas
        conn.set_control_message(ControlFlags.SEGMENT)
        send_run(sock)
        assert [m.n for m in read_all(conn, ControlFlags.SEGMENT)] == [400]


def test_receive_offload_of_a_connection_before(sock: socket.socket) -> None:
    first = PacketConn(sock.fileno())
    first.gro = True
    first.set_control_message(ControlFlags.TTL)
    first.close()
    with PacketConn(sock) as second:
        assert (second.gro, second.control_flags) == (True, ControlFlags.TTL)
        datas = send_run(sock)
        assert [m.data for m in read_all(second)] == datas


@pytest.mark.parametrize("flags", ITEMS, ids=lambda flags: ControlFlags(flags).name)
def test_control_data(sock: socket.socket, flags: ControlFlags) -> None:
    sock.setsockopt(*ITEMS[flags], 1)
    with PacketConn(sock) as conn:
        assert conn.control_flags == flags
        if flags != ControlFlags.DROPS:  # which comes with the first loss
            sock.sendto(b"x", sock.getsockname())
            (message,) = read_all(conn, flags)
            assert message.nn > 0
        # Another flag leaves it on; switched off, it is off.
        conn.set_control_message(ControlFlags.TTL)
        assert conn.control_flags == flags | ControlFlags.TTL
        assert sock.getsockopt(*ITEMS[flags]) == 1
        conn.set_control_message(ControlFlags.TTL | flags, False)
        assert conn.control_flags == 0
        assert sock.getsockopt(*ITEMS[flags]) == 0


def test_all_control_data_at_once(sock: socket.socket) -> None:
    for item in ITEMS.values():
        sock.setsockopt(*item, 1)
    sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    with PacketConn(sock) as conn:
        assert conn.gro
        assert conn.control_flags == 127
        send_run(sock)
        for message in read_all(conn, ControlFlags(127)):
            control = message.control_message()
            assert control is not None
            assert (control.ttl, control.dst, control.segment_size) == (64, "127.0.0.1", 0)


def test_items_that_the_package_does_not_know_push_out_none(sock: socket.socket) -> None:
    """The kernel puts time stamps first, and cuts what finds no room."""
    for option in (IP_RECVOPTS, IP_ORIGDSTADDR, IP_CHECKSUM, IP_RECVFRAGSIZE):
        sock.setsockopt(socket.IPPROTO_IP, option, 1)
    sock.setsockopt(
        socket.SOL_SOCKET, SO_TIMESTAMPING, TIMESTAMPING_RX_SOFTWARE | TIMESTAMPING_SOFTWARE
    )
    for item in ITEMS.values():
        sock.setsockopt(*item, 1)
    sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    with PacketConn(sock) as conn:
        datas = send_run(sock)
        conn.timeout = LIMIT
        messages = [Message(bytearray(1000), bytearray(1000)) for _ in range(10)]
        assert conn.read_batch(messages) == len(datas)
        for message, data in zip(messages, datas, strict=False):
            control = message.control_message()
            assert control is not None
            assert (message.data, message.control_truncated) == (data, False)
            assert (control.ttl, control.dst, control.tos) == (64, "127.0.0.1", 0)


def test_errors_of_the_network(sock: socket.socket) -> None:
    with udp_socket() as dead:
        nobody = dead.getsockname()
    sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    with PacketConn(sock) as conn:
        assert conn.recv_errors
        conn.write_to(b"x", nobody)
        assert select.select([sock], [], [], LIMIT)[0]
        conn.write_to(b"x", sock.getsockname())  # no error of another peer
        assert [e.addr for e in conn.read_errors()] == [nobody]
        conn.recv_errors = False
        assert sock.getsockopt(socket.IPPROTO_IP, IP_RECVERR) == 0


@pytest.mark.parametrize(
    ("name", "option", "value"), [("UDP_SEGMENT", UDP_SEGMENT, 100), ("UDP_CORK", UDP_CORK, 1)]
)
def test_what_changes_each_datagram_is_refused(
    sock: socket.socket, name: str, option: int, value: int
) -> None:
    sock.setsockopt(socket.IPPROTO_UDP, option, value)
    with pytest.raises(ValueError, match=rf"^PacketConn: {name} of the socket is {value}, and "):
        PacketConn(sock)
    sock.setsockopt(socket.IPPROTO_UDP, option, 0)
    with PacketConn(sock) as conn:
        conn.write_to(bytes(1000), conn.local_addr)
        assert conn.read_from(bytearray(2000))[0] == 1000


@pytest.mark.usefixtures("needs_raw")
@pytest.mark.parametrize("protocol", [EXPERIMENT, socket.IPPROTO_RAW])
def test_headers_of_the_callers_own(protocol: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol) as sock:
        if protocol != socket.IPPROTO_RAW:
            PacketConn(sock)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 1)
        with pytest.raises(ValueError, match=r"^PacketConn: IP_HDRINCL of .* use RawConn$"):
            PacketConn(sock)
        RawConn(sock)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 0)
        PacketConn(sock)


def test_a_refusal_leaves_the_socket_and_no_connection(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_UDP, UDP_CORK, 1)
    conn = PacketConn.__new__(PacketConn)
    with pytest.raises(ValueError, match="UDP_CORK"):
        conn.__init__(sock)  # type: ignore[misc]
    assert conn.fileno() == -1
    with pytest.raises(OSError, match="closed") as caught:
        conn.write_to(b"x", sock.getsockname())
    assert caught.value.errno == errno.EBADF
    assert sock.fileno() >= 0


def test_a_descriptor_that_does_not_block(sock: socket.socket) -> None:
    """That is the timeout of a mere descriptor. A socket object has its own, which holds."""
    sock.settimeout(None)
    assert PacketConn(sock.fileno()).timeout is None
    fcntl.fcntl(sock, fcntl.F_SETFL, fcntl.fcntl(sock, fcntl.F_GETFL) | os.O_NONBLOCK)
    assert PacketConn(sock.fileno()).timeout == 0
    conn = PacketConn(sock)
    assert conn.timeout is None
    call = Call(conn.read_batch, new_messages(1)).wait_until_waiting()
    sock.sendto(b"x", sock.getsockname())
    assert call.result() == 1


@pytest.mark.parametrize("how", ["gro", "found", "segment"])
def test_coalesced_datagrams_are_whole_when_the_option_is_cleared(
    sock: socket.socket, how: str
) -> None:
    """By somebody else, while such datagrams wait in the socket."""
    if how == "found":
        sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    with PacketConn(sock) as conn:
        if how == "gro":
            conn.gro = True
        if how == "segment":
            conn.set_control_message(ControlFlags.SEGMENT)
            conn.set_control_message(ControlFlags.SEGMENT, False)
        datas = send_run(sock)
        sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 0)
        assert [m.data for m in read_all(conn)] == datas


@pytest.mark.usefixtures("needs_raw")
def test_packets_have_one_header_when_the_option_is_cleared() -> None:
    with (
        PacketConn(open_raw(EXPERIMENT, HERE)) as reader,
        open_raw(EXPERIMENT, HERE) as sock,
        RawConn(sock) as writer,
    ):
        header = Header(total_len=25, ttl=9, protocol=EXPERIMENT, src=HERE, dst=HERE)
        message = Message([header.marshal(), b"batch"], addr=(HERE, 0))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 0)
        writer.write_to(header, b"alone")
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 0)
        assert writer.write_batch([message]) == 1
        buffer = bytearray(100)
        for sent in (b"alone", b"batch"):
            n, _, _ = reader.read_from(buffer)
            assert bytes(buffer[:n]) == sent
