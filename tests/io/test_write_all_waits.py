"""write_all waits: for room in the socket's buffer (EAGAIN) and on the link (ENOBUFS)."""

import contextlib
import errno
import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.net import Call
from support.router import NEAR, Network, linked

from ipv4batch import Message

SLOW, STUCK = 200_000, 150
"""Bytes a second of a link: a message takes 3 milliseconds, or as many seconds."""

SLACK = 1.5
"""Seconds after which something does not count as happening at once; machines can be busy."""


def fate(error: Any) -> tuple[int, int]:
    """The two attributes that write_all adds to an exception."""
    return error.index, error.written


class Link:
    """A writer whose link takes its time, and the reader at its other end.

    With much room at the link the socket's small buffer fills first, which is EAGAIN. With little
    room the link itself does, which the kernel tells as ENOBUFS where errors are received.
    """

    def __init__(self, network: Network, full: int) -> None:
        self.reader = network.open_udp("server")
        self.writer = network.open_udp("client", sndbuf=5000 if full == errno.EAGAIN else None)
        self.writer.recv_errors = full == errno.ENOBUFS
        self.messages = [
            Message((b"%08d" % k, bytes(492)), None, (NEAR, self.reader.local_addr[1]))
            for k in range(100)
        ]

    def assert_all_arrive(self) -> None:
        for number in range(100):
            self.reader.read_from(buffer := bytearray(500))
            assert buffer[:8] == b"%08d" % number

    def assert_stopped(self, error: Any, least: int = 1) -> None:
        """It failed somewhere, and the message there knows."""
        where, written = fate(error)
        assert least <= where == written < 100
        assert [message.errno for message in self.messages] == (
            [0] * where + [error.errno] + [errno.ECANCELED] * (99 - where)
        )


@pytest.fixture
def link(
    request: pytest.FixtureRequest, needs_netns: None, require: Callable[[str], None]
) -> Iterator[Link]:
    rate, full = request.param
    with linked() as network:
        if not network.set_rate("client", "link", rate, 3000 if full == errno.ENOBUFS else 10**7):
            require("the kernel has no token bucket filter (tc-tbf(8))")
        yield Link(network, full)


def each_link(*links: tuple[int, int]) -> pytest.MarkDecorator:
    names = [f"{'slow' if rate == SLOW else 'stuck'}-{errno.errorcode[e]}" for rate, e in links]
    return pytest.mark.parametrize("link", links, ids=names, indirect=True)


slow_link = each_link((SLOW, errno.EAGAIN), (SLOW, errno.ENOBUFS))
stuck_socket = each_link((STUCK, errno.EAGAIN))
stuck_link = each_link((STUCK, errno.ENOBUFS))
each_mode = pytest.mark.parametrize("errors", ["raise", "skip"])


@slow_link
@pytest.mark.parametrize("timeout", [None, 60.0])
@each_mode
def test_room_is_waited_for(link: Link, timeout: float | None, errors: Any) -> None:
    """That it is needed, one call without a wait shows."""
    link.writer.timeout = timeout
    with pytest.raises(OSError, match=r"\[Errno (11|105)\]") as caught:
        link.writer.write_all(link.messages, socket.MSG_DONTWAIT)
    link.assert_stopped(caught.value)
    rest = link.messages[fate(caught.value)[0] :]
    assert link.writer.write_all(rest, errors=errors) == len(rest)
    link.assert_all_arrive()
    assert {(message.n, message.errno) for message in link.messages} == {(500, 0)}


@each_link((SLOW, errno.EAGAIN))
def test_the_timeout_is_for_all_together(link: Link) -> None:
    """Room comes every few milliseconds, so that no single wait is that long."""
    link.writer.timeout = 0.1
    call = Call(link.writer.write_all, link.messages)
    with pytest.raises(TimeoutError, match="timed out") as caught:
        call.result()
    link.assert_stopped(caught.value, least=15)
    assert call.started + 0.1 <= call.ended


@stuck_socket
@each_mode
@pytest.mark.parametrize("limit", ["timeout", "deadline", "deadline moved"])
def test_the_wait_ends_with_timeout_and_deadline(link: Link, limit: str, errors: Any) -> None:
    link.writer.timeout = 0.1 if limit == "timeout" else None
    if limit == "deadline":
        link.writer.set_write_deadline(time.monotonic() + 0.1)
    call = Call(link.writer.write_all, link.messages, 0, errors)
    if limit == "deadline moved":
        call.wait_until_waiting()
        link.writer.set_write_deadline(time.monotonic())
    with pytest.raises(TimeoutError, match="timed out: 'write udp4 0.0.0.0:") as caught:
        call.result()
    assert caught.value.errno == errno.ETIMEDOUT
    assert call.ended - call.started < 0.1 + SLACK
    link.assert_stopped(caught.value)


@stuck_socket
@each_mode
@pytest.mark.parametrize("how", ["timeout", "flags"])
def test_nothing_is_waited_for_without_leave(link: Link, how: str, errors: Any) -> None:
    if how == "timeout":
        link.writer.timeout = 0
    with pytest.raises(BlockingIOError, match="'write udp4 0.0.0.0:") as caught:
        link.writer.write_all(link.messages, socket.MSG_DONTWAIT if how == "flags" else 0, errors)
    link.assert_stopped(caught.value)


@stuck_socket
def test_what_was_skipped_before_counts_in_the_index_only(link: Link) -> None:
    link.writer.timeout = 0.1
    skipped = Message(b"to nobody")
    with pytest.raises(TimeoutError) as caught:
        link.writer.write_all([skipped, *link.messages], errors="skip")
    where, written = fate(caught.value)
    assert 1 <= written == where - 1
    assert skipped.errno == errno.EDESTADDRREQ
    assert link.messages[written].errno == errno.ETIMEDOUT


@stuck_socket
@each_mode
def test_a_close_ends_the_wait(link: Link, errors: Any) -> None:
    call = Call(link.writer.write_all, link.messages, 0, errors).wait_until_waiting()
    link.writer.close()
    with pytest.raises(OSError, match="The connection is closed: 'write udp4'") as caught:
        call.result()
    assert caught.value.errno == errno.EBADF
    link.assert_stopped(caught.value)


class AlarmError(Exception):
    """What a signal handler of these tests raises."""


@contextlib.contextmanager
def alarms(handler: Callable[[], None]) -> Iterator[None]:
    """SIGALRM every 10 milliseconds."""
    before = signal.signal(signal.SIGALRM, lambda *_: handler())
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.01)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@each_link((STUCK, errno.EAGAIN), (STUCK, errno.ENOBUFS))
@each_mode
def test_a_signal_handlers_exception_ends_the_wait(link: Link, errors: Any) -> None:
    def handler() -> None:
        raise AlarmError

    with pytest.raises(AlarmError), alarms(handler):
        link.writer.write_all(link.messages, errors=errors)
    # Only the one that found no room may tell so.
    told = [m.errno for m in link.messages if m.errno not in (0, errno.ECANCELED)]
    assert told in ([], [errno.EAGAIN], [errno.ENOBUFS])


@slow_link
def test_other_signals_do_not_disturb(link: Link) -> None:
    seen: list[None] = []
    with alarms(lambda: seen.append(None)):
        assert link.writer.write_all(link.messages) == 100
    assert len(seen) > 3
    link.assert_all_arrive()


@stuck_link
def test_a_full_link_is_waited_for_only_so_long(link: Link) -> None:
    call = Call(link.writer.write_all, link.messages)
    with pytest.raises(OSError, match=r"\[Errno 105\]") as caught:
        call.result()
    assert caught.value.errno == errno.ENOBUFS
    link.assert_stopped(caught.value)
    assert 0.09 < call.ended - call.started < 0.1 + SLACK


@stuck_link
def test_skip_leaves_out_what_a_full_link_refuses(link: Link) -> None:
    """And the wait is as long for many as for one."""
    some = link.messages[:24]
    call = Call(link.writer.write_all, some, 0, "skip")
    written = call.result()
    assert 1 <= written < 24
    assert [message.errno for message in some] == [0] * written + [errno.ENOBUFS] * (24 - written)
    assert call.ended - call.started < 0.1 + SLACK


@stuck_link
@pytest.mark.parametrize("limit", ["flags", "timeout 0", "timeout", "deadline"])
def test_a_full_link_is_not_waited_for_past_the_limit(link: Link, limit: str) -> None:
    """The best of five counts, since the machine can be busy; a whole wait takes 0.1 seconds."""
    took = []
    for _ in range(5):
        if limit == "deadline":
            link.writer.set_write_deadline(time.monotonic() + 0.02)
        elif limit != "flags":
            link.writer.timeout = 0 if limit == "timeout 0" else 0.02
        started = time.monotonic()
        with pytest.raises(OSError, match=r"\[Errno (105|110)\]"):
            link.writer.write_all(link.messages, socket.MSG_DONTWAIT if limit == "flags" else 0)
        took.append(time.monotonic() - started)
    assert min(took) < 0.08


@stuck_link
def test_a_close_ends_the_wait_for_a_full_link(link: Link) -> None:
    call = Call(link.writer.write_all, link.messages * 40, 0, "skip").wait_until_waiting()
    link.writer.close()
    with pytest.raises(OSError, match="The connection is closed") as caught:
        call.result()
    assert caught.value.errno == errno.EBADF
    where, written = fate(caught.value)
    assert 1 <= written <= where < 4000
