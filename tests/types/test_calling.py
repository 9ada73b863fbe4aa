"""What calls have in common: arguments, objects that raise when they are asked, names in errors."""

import contextlib
import errno
import gc
import socket
import sys
from collections.abc import Callable
from typing import Any

import pytest
from support.net import Call, run_script

from ipv4batch import Conn, ICMPFilter, Message, PacketConn, RawConn, new_messages


class Unwilling:
    """Raises when it is asked what it is worth."""

    def refuse(self) -> Any:
        raise KeyError("unwilling")

    __bool__ = __index__ = __len__ = refuse


CALLS: dict[str, Callable[[PacketConn, Any], Any]] = {
    "read_batch": lambda conn, give: give(conn.read_batch),
    "write_batch": lambda conn, give: give(conn.write_batch),
    "write_all": lambda conn, give: give(conn.write_all),
    "read_from": lambda conn, give: give(conn.read_from),
    "write_to": lambda conn, give: give(conn.write_to),
    "set_control_message": lambda conn, give: give(conn.set_control_message),
    "new_messages": lambda conn, give: give(new_messages),
}


@pytest.mark.parametrize("name", CALLS)
def test_an_argument_that_is_missing(name: str, conn: PacketConn) -> None:
    with pytest.raises(TypeError, match=rf"{name}\(\) missing"):
        CALLS[name](conn, lambda call: call())


@pytest.mark.parametrize("name", CALLS)
def test_an_argument_that_there_is_not(name: str, conn: PacketConn) -> None:
    with pytest.raises(TypeError, match=rf"{name}\(\) got an unexpected keyword argument 'colour'"):
        CALLS[name](conn, lambda call: call(None, colour=1))


@pytest.mark.parametrize(
    ("name", "keyword"), [("read_batch", "msgs"), ("write_all", "msgs"), ("new_messages", "count")]
)
def test_an_argument_that_is_given_twice(name: str, keyword: str, conn: PacketConn) -> None:
    with pytest.raises(TypeError, match=rf"{name}\(\) got two values for argument '{keyword}'"):
        CALLS[name](conn, lambda call: call([], **{keyword: []}))


def test_the_exception_of_an_argument_is_raised(conn: PacketConn) -> None:
    with pytest.raises(KeyError, match="unwilling"):
        new_messages(Unwilling())  # type: ignore[arg-type]
    with pytest.raises(KeyError, match="unwilling"):
        conn.set_control_message(1, Unwilling())  # type: ignore[arg-type]
    with pytest.raises(KeyError, match="unwilling"):
        conn.multicast_loopback = Unwilling()  # type: ignore[assignment]
    with pytest.raises(KeyError, match="unwilling"):
        ICMPFilter().set_all(Unwilling())  # type: ignore[arg-type]
    assert conn.multicast_loopback is True
    assert conn.control_flags == 0


def test_the_exception_of_an_addresss_class_is_raised() -> None:
    class Host:
        @property
        def __class__(self) -> type:
            raise KeyError("unwilling")

        @__class__.setter
        def __class__(self, value: type) -> None:
            pass

    with pytest.raises(KeyError, match="unwilling"):
        Message(b"x", None, (Host(), 1))  # type: ignore[arg-type]


def test_a_program_in_pieces_is_refused(conn: PacketConn) -> None:
    with pytest.raises(BufferError):
        conn.set_bpf(memoryview(bytes(32))[::2])


def test_the_collector_finds_who_holds_a_messages_buffers() -> None:
    message = Message([bytearray(4), bytearray(4)], bytearray(64))
    assert message in gc.get_referrers(message.buffers)
    assert message in gc.get_referrers(message.buffers[1])
    assert message in gc.get_referrers(message.oob)


class Forgetful:
    """A socket that has no descriptor after some questions, or raises."""

    def __init__(self, sock: socket.socket, answers: int, closed: bool = False) -> None:
        self.sock, self.answers, self.closed = sock, answers, closed

    def fileno(self) -> int:
        self.answers -= 1
        if self.answers >= 0:
            return self.sock.fileno()
        if self.closed:
            return -1
        raise KeyError("forgotten")


def test_an_error_is_told_without_an_address_where_the_socket_does_not_tell(
    sock: socket.socket,
) -> None:
    """The error at hand matters more than that of the question."""
    sock.setblocking(False)
    told = []
    for answers in range(1, 8):
        with contextlib.suppress(KeyError):
            conn = PacketConn(Forgetful(sock, answers))
            conn.timeout = 0
            with pytest.raises(BlockingIOError) as caught:
                conn.read_batch(new_messages(1))
            told.append(str(caught.value))
    port = sock.getsockname()[1]
    assert "'read udp4'" in told[0]
    assert f"'read udp4 127.0.0.1:{port}'" in told[-1]


def test_a_raw_socket_that_closes_as_it_is_given(needs_raw: None) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, 253) as sock:
        refused = []
        for answers in range(6):
            try:
                RawConn(Forgetful(sock, answers, closed=True))
            except (OSError, ValueError) as error:
                refused.append(error)
        assert 0 < len(refused) < 6
        last = refused[-1]
        assert isinstance(last, OSError)
        assert last.errno == errno.EBADF


class Sticky:
    """A socket whose close() raises, once."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock, self.asked = sock, 0

    def fileno(self) -> int:
        return self.sock.fileno()

    def close(self) -> None:
        self.asked += 1
        raise KeyError("stuck")


def test_the_exception_of_a_close_that_comes_late_is_told(
    sock: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last call out closes the socket, and has a result or an exception of its own."""
    told: list[str] = []
    # What the hook gets is not kept: the collector finds no cycle through it.
    monkeypatch.setattr(sys, "unraisablehook", lambda args: told.append(str(args.exc_value)))
    sticky = Sticky(sock)
    conn = PacketConn(sticky)
    conn.timeout = None
    call = Call(conn.read_batch, new_messages(1)).wait_until_waiting()
    conn.close()
    with pytest.raises(OSError, match="The connection is closed") as caught:
        call.result()
    assert caught.value.errno == errno.EBADF
    assert sticky.asked == 1
    assert told == ["'stuck'"]


@pytest.mark.parametrize(
    ("kind", "protocol", "name"),
    [
        (socket.SOCK_DGRAM, 136, "dgram4:136"),  # UDP-Lite
        (socket.SOCK_STREAM, 262, "stream4:262"),  # Multipath TCP
        (socket.SOCK_STREAM, 0, "tcp4"),
        (socket.SOCK_DGRAM, 0, "udp4"),
    ],
)
def test_errors_name_the_network(kind: int, protocol: int, name: str) -> None:
    try:
        sock = socket.socket(socket.AF_INET, kind, protocol)
    except OSError as error:
        pytest.skip(f"this kernel has no such protocol: {error}")
    conn = Conn(sock)
    sock.close()
    with pytest.raises(OSError, match=f"'ttl {name}'") as caught:
        print(conn.ttl)
    assert caught.value.errno == errno.EBADF


def test_capabilities_where_no_descriptor_is_left() -> None:
    script = """
import errno, resource
import ipv4batch
before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, most))
try:
    ipv4batch.capabilities()
except OSError as error:
    print(errno.errorcode[error.errno])
resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))
"""
    assert run_script(script) == "EMFILE\n"
