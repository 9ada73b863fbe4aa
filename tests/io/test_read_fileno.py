"""read_fileno: what select, selectors, asyncio and trio see of a connection with a queue."""

import asyncio
import errno
import os
import resource
import select
import selectors
import socket
from collections.abc import Callable, Iterator

import pytest
from support.net import LIMIT, Wrapped, open_udp, udp_socket

from ipv4batch import ControlFlags, Message, PacketConn, capabilities, new_messages

COUNT, ROOM = 40, 8


@pytest.fixture
def conn() -> Iterator[PacketConn]:
    with open_udp() as made:
        made.gro = True
        yield made


@pytest.fixture
def messages() -> list[Message]:
    return new_messages(ROOM, 100)


def send_coalesced(conn: PacketConn, count: int = COUNT) -> None:
    """Datagrams that the kernel gives as one."""
    with open_udp() as sender:
        sender.gso = True
        batch = [Message(b"%5d" % i, addr=conn.local_addr) for i in range(count)]
        assert sender.write_all(batch) == count


def is_readable(fd: int, timeout: float = 0) -> bool:
    return bool(select.select([fd], [], [], timeout)[0])


def test_a_poll_of_the_socket_does_not_see_the_queue(
    conn: PacketConn, messages: list[Message]
) -> None:
    """Which is why there is another descriptor."""
    send_coalesced(conn)
    assert is_readable(conn.fileno())
    assert conn.read_batch(messages) == ROOM
    assert not is_readable(conn.fileno())
    assert is_readable(conn.read_fileno())
    assert conn.pending == COUNT - ROOM


def test_select(conn: PacketConn, messages: list[Message]) -> None:
    send_coalesced(conn)
    got: list[bytes] = []
    while is_readable(conn.read_fileno(), 0.05):
        got += [message.data for message in messages[: conn.read_batch(messages)]]
    assert got == [b"%5d" % i for i in range(COUNT)]


@pytest.mark.parametrize(
    "name", [n for n in dir(selectors) if n.endswith("Selector") and n != "BaseSelector"]
)
def test_selectors(conn: PacketConn, messages: list[Message], name: str) -> None:
    if name.startswith("_") or name == "KqueueSelector":
        pytest.skip("no selector of this platform")
    with getattr(selectors, name)() as selector:
        selector.register(conn.read_fileno(), selectors.EVENT_READ)
        send_coalesced(conn)
        got = 0
        while selector.select(0.05):
            got += conn.read_batch(messages)
        assert got == COUNT


def test_until_blocking_io_error(conn: PacketConn, messages: list[Message]) -> None:
    """The other way: then a poll of the socket does."""
    conn.timeout = 0
    got = 0
    for _ in range(3):
        send_coalesced(conn)
        assert is_readable(conn.fileno(), LIMIT)
        with pytest.raises(BlockingIOError):
            while True:
                got += conn.read_batch(messages)
        assert conn.pending == 0
    assert got == 3 * COUNT


def test_asyncio(conn: PacketConn, messages: list[Message]) -> None:
    got = 0

    async def main() -> None:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def readable() -> None:
            nonlocal got
            got += conn.read_batch(messages)
            if got == COUNT:
                done.set()

        loop.add_reader(conn.read_fileno(), readable)
        try:
            send_coalesced(conn)
            await asyncio.wait_for(done.wait(), LIMIT)
        finally:
            loop.remove_reader(conn.read_fileno())

    asyncio.run(main())
    assert got == COUNT


def test_trio(conn: PacketConn, messages: list[Message]) -> None:
    trio = pytest.importorskip("trio")

    async def main() -> int:
        got = 0
        send_coalesced(conn)
        with trio.fail_after(LIMIT):
            while got < COUNT:
                await trio.lowlevel.wait_readable(conn.read_fileno())
                got += conn.read_batch(messages)
        return got

    assert trio.run(main) == COUNT


def test_edge_triggered_polls_see_each_arrival(conn: PacketConn, messages: list[Message]) -> None:
    conn.timeout = 0
    with select.epoll() as epoll:
        epoll.register(conn.read_fileno(), select.EPOLLIN | select.EPOLLET)
        for _ in range(3):
            send_coalesced(conn)
            assert epoll.poll(LIMIT)
            with pytest.raises(BlockingIOError):
                while True:
                    conn.read_batch(messages)
            assert not is_readable(conn.read_fileno())


def test_the_descriptor(conn: PacketConn) -> None:
    fd = conn.read_fileno()
    assert fd == conn.read_fileno()
    assert fd != conn.fileno()
    assert not os.get_inheritable(fd)
    assert not is_readable(fd)
    assert not select.select([], [fd], [], 0)[1]
    conn.close()
    with pytest.raises(OSError, match="read_fileno") as caught:
        conn.read_fileno()
    assert caught.value.errno == errno.EBADF
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_nobody_else_pays() -> None:
    """Neither a descriptor nor a system call."""
    before = set(os.listdir("/proc/self/fd"))
    with open_udp() as conn:
        conn.gro = True
        send_coalesced(conn)
        conn.read_batch(new_messages(ROOM, 100))
        assert len(set(os.listdir("/proc/self/fd")) - before) == 1


def test_a_borrowed_descriptor(messages: list[Message]) -> None:
    with udp_socket() as sock:
        conn = PacketConn(sock.fileno())
        conn.gro = True
        conn.timeout = LIMIT
        fd = conn.read_fileno()
        send_coalesced(conn)
        assert is_readable(fd)
        conn.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def test_a_connection_that_is_forgotten_leaves_no_descriptor() -> None:
    with udp_socket() as sock:
        fd = PacketConn(sock).read_fileno()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def test_another_socket_in_the_object(messages: list[Message]) -> None:
    with udp_socket() as first, udp_socket() as second:
        holder = Wrapped(first)
        conn = PacketConn(holder)
        fd = conn.read_fileno()
        holder.sock = second
        second.sendto(b"x", second.getsockname())
        assert not is_readable(fd)
        assert conn.read_fileno() == fd
        assert is_readable(fd)
        first.sendto(b"x", first.getsockname())
        assert conn.read_batch(messages) == 1
        assert not is_readable(fd)
        holder.sock = first
        conn.close()


@pytest.mark.parametrize("flags", [0, socket.MSG_PEEK])
def test_read_from_and_peek(conn: PacketConn, flags: int) -> None:
    fd = conn.read_fileno()
    send_coalesced(conn, 2)
    buffer = bytearray(10)
    assert conn.read_from(buffer, flags)[0] == 5
    assert is_readable(fd)
    assert conn.read_from(buffer)[0] == 5
    assert is_readable(fd) == bool(flags)


def test_gro_off_again(conn: PacketConn, messages: list[Message]) -> None:
    """What was queued before, and what is split now."""
    fd = conn.read_fileno()
    send_coalesced(conn)
    assert conn.read_batch(messages) == ROOM
    conn.gro = False
    conn.set_control_message(ControlFlags.SEGMENT)
    got = ROOM
    while is_readable(fd, 0.05):
        got += conn.read_batch(messages)
    assert got == COUNT


def test_an_error_of_the_network(messages: list[Message]) -> None:
    """As of fileno(): until read_errors has taken it."""
    with udp_socket() as dead:
        nobody = dead.getsockname()
    with open_udp() as conn:
        conn.recv_errors = True
        fd = conn.read_fileno()
        conn.write_to(b"x", nobody)
        assert is_readable(fd, LIMIT)
        assert [e.errno for e in conn.read_errors()] == [errno.ECONNREFUSED]
        assert not is_readable(fd)


def in_child(check: Callable[[], bool]) -> bool:
    child = os.fork()
    if child == 0:
        result = 1
        try:
            result = 0 if check() else 1
        finally:
            os._exit(result)
    return os.waitpid(child, 0)[1] == 0


def test_a_child_has_one_of_its_own(conn: PacketConn, messages: list[Message]) -> None:
    """The queue is the parent's to read, and what the child does is not seen there."""
    fd = conn.read_fileno()
    send_coalesced(conn)
    assert conn.read_batch(messages) == ROOM

    def check() -> bool:
        own = conn.read_fileno()
        before = is_readable(own)
        send_coalesced(conn)
        during = is_readable(own)
        conn.read_batch(new_messages(COUNT, 100))
        return (before, during, is_readable(own)) == (False, True, False)

    def closes() -> bool:
        conn.close()
        return True

    assert in_child(check)
    assert is_readable(fd)
    assert conn.read_fileno() == fd
    assert in_child(closes)
    got = ROOM
    while is_readable(fd, 0.05):
        got += conn.read_batch(messages)
    assert got == COUNT


def test_where_the_descriptors_run_out(conn: PacketConn, messages: list[Message]) -> None:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (conn.fileno() + 1, limit[1]))
    try:
        with pytest.raises(OSError, match="read_fileno udp4") as caught:
            conn.read_fileno()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    assert caught.value.errno == errno.EMFILE
    send_coalesced(conn)
    assert is_readable(conn.read_fileno())
    assert capabilities()["gro"]
