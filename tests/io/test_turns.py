"""Long lists: signals, close() and deadlines are seen on the way, and each outcome is exact."""

import contextlib
import errno
import gc
import pathlib
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.net import Call, open_udp
from support.offload import enlarge

from ipv4batch import Message, PacketConn, new_messages

TURN = 1024
LONG = 400_000
"""Messages that take so long that something happens on the way: a second or more."""

LATE = 0.01
"""Seconds after which a handler, or a close(), must have been seen; the best of some tries counts,
since the machine can be busy."""

TRIES = 5

each_offload = pytest.mark.parametrize("gso", [False, True], ids=["plain", "gso"])
each_mode = pytest.mark.parametrize("errors", ["raise", "skip"])


class StopError(Exception):
    """What a handler raises; nothing can be put on it, as on a frozen dataclass."""

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("__"):
            raise AttributeError(name)
        super().__setattr__(name, value)


@contextlib.contextmanager
def alarm(seconds: float, handler: Callable[[], None]) -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, lambda *_: handler())
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def numbered(count: int, addr: Any) -> list[Message]:
    return [Message(b"%08d" % number, None, addr) for number in range(count)]


def check_outcomes(messages: list[Message], written: int, *own: int) -> None:
    """So many went, from the front; one may have its own errno, and the rest was not tried."""
    rest = len(messages) - written - len(own)
    assert [m.errno for m in messages] == [0] * written + [*own] + [errno.ECANCELED] * rest
    assert [m.n for m in messages] == [8] * written + [0] * (rest + len(own))


@each_offload
@each_mode
def test_a_handlers_exception_passes_as_it_is(reader: PacketConn, gso: bool, errors: Any) -> None:
    raised_at = 0.0

    def stop() -> None:
        nonlocal raised_at
        raised_at = time.monotonic()
        raise StopError("now")

    late: list[float] = []
    seconds = 0.02
    while len(late) < TRIES:
        with open_udp() as writer:
            writer.gso = gso
            messages = [Message(b"x", None, reader.local_addr)] * LONG
            messages[-1] = last = Message(b"x", None, reader.local_addr)
            due = time.monotonic() + seconds
            with pytest.raises(StopError, match="now") as caught, alarm(seconds, stop):
                writer.write_all(messages, errors=errors)
            if writer.last_written == 0 and seconds < 1:
                seconds *= 2  # it came while the messages were checked
                continue
            late.append(raised_at - due)
            assert vars(caught.value) == {}
            assert 0 < writer.last_written < LONG
            assert writer.last_written % TURN == 0
            assert last.errno == errno.ECANCELED
    assert min(late) < LATE


@each_offload
@each_mode
def test_the_messages_tell_what_went_before_a_handler_raised(
    reader: PacketConn, gso: bool, errors: Any
) -> None:
    def stop() -> None:
        raise StopError("now")

    for seconds in (0.0005, 0.001, 0.002, 0.005, 0.01):
        messages = numbered(60_000, reader.local_addr)
        with open_udp() as writer:
            writer.gso = gso
            with contextlib.suppress(StopError), alarm(seconds, stop):
                writer.write_all(messages, errors=errors)
            written = writer.last_written
            # An alarm may come before the call: then no message was looked at.
            if {message.errno for message in messages} != {0} or written:
                assert [m.errno for m in messages] == [0] * written + [errno.ECANCELED] * (
                    len(messages) - written
                )


@each_offload
@each_mode
def test_a_close_is_seen_between_turns(reader: PacketConn, gso: bool, errors: Any) -> None:
    late = []
    for _ in range(TRIES):
        writer = open_udp()
        writer.gso = gso
        messages = [Message(b"x", None, reader.local_addr)] * LONG
        call = Call(writer.write_all, messages, 0, errors)
        time.sleep(0.02)
        writer.close()
        closed = time.monotonic()
        with pytest.raises(OSError, match="The connection is closed: 'write udp4'") as caught:
            call.result()
        late.append(call.ended - closed)
        error: Any = caught.value
        assert error.errno == errno.EBADF
        assert 0 < error.written == error.index == writer.last_written < LONG
    assert min(late) < LATE


@each_offload
@pytest.mark.parametrize("limit", ["timeout", "deadline", "deadline and never waits"])
def test_the_time_is_seen_between_turns(reader: PacketConn, gso: bool, limit: str) -> None:
    with open_udp(timeout=0.05 if limit == "timeout" else None) as writer:
        writer.gso = gso
        messages = [Message(b"x", None, reader.local_addr)] * LONG
        messages[-1] = last = Message(b"x", None, reader.local_addr)
        if limit != "timeout":
            writer.set_write_deadline(time.monotonic() + 0.05)
        if limit == "deadline and never waits":
            writer.timeout = 0
        with pytest.raises(TimeoutError, match="timed out: 'write udp4") as caught:
            writer.write_all(messages)
        error: Any = caught.value
        assert 0 < error.written == error.index == writer.last_written < LONG
        assert error.index % TURN == 0
        assert last.errno == errno.ECANCELED


@each_offload
def test_each_errno_after_the_time_is_over(reader: PacketConn, gso: bool) -> None:
    with open_udp() as writer:
        writer.gso = gso
        messages = numbered(5 * TURN, reader.local_addr)
        writer.set_write_deadline(0)  # past: the first turn needs no wait
        with pytest.raises(TimeoutError) as caught:
            writer.write_all(messages)
        assert (caught.value.index, caught.value.written) == (TURN, TURN)  # type: ignore[attr-defined]
        check_outcomes(messages, TURN, errno.ETIMEDOUT)
        # The others are for the first datagram, and stop where the deadline is seen.
        assert writer.write_batch(messages) == writer.last_written == TURN


@each_offload
@each_mode
@pytest.mark.parametrize("where", [0, TURN - 1, TURN, 2 * TURN + 7, 3 * TURN - 1])
def test_what_is_wrong_is_found_before_anything_is_sent(
    reader: PacketConn, writer: PacketConn, where: int, gso: bool, errors: Any
) -> None:
    writer.gso = gso
    messages: list[Any] = numbered(3 * TURN, reader.local_addr)
    good = messages[where]
    for wrong, error in [(None, TypeError), (Message(b"x", b"\1" * 16), ValueError)]:
        messages[where] = wrong
        for call in (writer.write_batch, lambda m: writer.write_all(m, errors=errors)):
            with pytest.raises(error, match=rf"^msgs\[{where}\]"):
                call(messages)
    messages[where] = good
    assert {message.errno for message in messages} == {0}
    assert writer.last_written == 0
    with pytest.raises(BlockingIOError):
        reader.read_batch(new_messages(1), socket.MSG_DONTWAIT)


@each_offload
def test_a_message_that_is_read_into_by_another_call(reader: PacketConn, gso: bool) -> None:
    with open_udp() as writer, open_udp() as other:
        writer.gso = gso
        messages = numbered(2 * TURN, reader.local_addr)
        messages[-1] = Message(bytearray(8), None, reader.local_addr)
        call = Call(other.read_batch, [messages[-1]]).wait_until_waiting()
        with pytest.raises(RuntimeError, match=rf"^msgs\[{2 * TURN - 1}\]: in use by another"):
            writer.write_all(messages)
        assert {message.errno for message in messages} == {0}
        writer.write_to(b"x", other.local_addr)
        assert call.result() == 1


@pytest.mark.parametrize("places", [(0, 1), (3, TURN), (TURN - 1, 3 * TURN - 1)])
def test_a_read_finds_a_message_twice_wherever_it_stands(
    reader: PacketConn, writer: PacketConn, places: tuple[int, int]
) -> None:
    messages = new_messages(3 * TURN, 8)
    first, second = places
    messages[second] = messages[first]
    writer.write_to(b"x", reader.local_addr)
    with pytest.raises(
        ValueError, match=rf"^msgs\[{second}\]: the same Message as msgs\[{first}\]"
    ):
        reader.read_batch(messages)
    messages[second] = Message(b"read-only")
    with pytest.raises(ValueError, match=rf"^msgs\[{second}\].buffers\[0\]: read-only"):
        reader.read_batch(messages)
    messages[second] = Message(bytearray(8))
    messages[first].buffers = bytearray(9)  # nothing is still in use
    assert reader.read_batch(messages) == reader.last_read == 1


@pytest.mark.parametrize("kind", [list, tuple])
@pytest.mark.parametrize("count", [TURN - 1, TURN, TURN + 1, 2 * TURN, 3 * TURN])
def test_a_read_takes_what_is_there_in_several_turns(
    require: Callable[[str], None], reader: PacketConn, writer: PacketConn, count: int, kind: Any
) -> None:
    if enlarge(reader) < count * 2048:
        require("a large receive buffer needs CAP_NET_ADMIN")
    sent = numbered(count, reader.local_addr)
    assert writer.write_batch(kind(sent)) == writer.last_written == count
    messages = new_messages(3 * TURN, 8)
    assert reader.read_batch(kind(messages)) == reader.last_read == count
    assert [m.data for m in messages[:count]] == [b"%08d" % k for k in range(count)]
    assert {m.n for m in messages[count:]} <= {0}
    assert {m.addr for m in messages[:count]} == {writer.local_addr}


def test_a_list_that_becomes_shorter(reader: PacketConn, writer: PacketConn) -> None:
    """With the GIL it is looked at again for each turn; without, a copy is."""
    messages = numbered(100_000, reader.local_addr)
    kept = list(messages)
    with alarm(0.05, messages.clear):
        try:
            assert writer.write_all(messages) == 100_000
        except RuntimeError as error:
            assert str(error) == "msgs: the list became shorter during the call"  # noqa: PT017
            assert error.index == error.written > 0  # type: ignore[attr-defined] # noqa: PT017
    assert writer.last_written == sum(message.errno == 0 for message in kept)
    messages = numbered(100_000, reader.local_addr)
    kept = list(messages)
    with alarm(0.05, lambda: messages.__setitem__(-1, "no message")):  # type: ignore[call-overload]
        try:
            writer.write_all(messages)
        except TypeError as error:
            assert str(error).startswith("msgs[99999]: a Message is required")  # noqa: PT017
            assert error.index == 99999  # type: ignore[attr-defined] # noqa: PT017
    written = sum(message.errno == 0 for message in kept)
    assert writer.last_written == written


def test_two_threads_write_one_long_list(reader: PacketConn) -> None:
    messages = [Message(b"x", None, reader.local_addr)] * 20_000
    with open_udp() as writer:
        calls = [Call(writer.write_all, messages) for _ in range(2)]
        assert [call.result() for call in calls] == [20_000] * 2


@each_offload
@each_mode
def test_no_memory_stays_with_the_connection(reader: PacketConn, gso: bool, errors: Any) -> None:
    def resident() -> int:
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize()

    messages = [Message(b"x", None, reader.local_addr)] * 100_000
    with open_udp() as writer:
        writer.gso = gso
        assert writer.write_all(messages[:TURN], errors=errors) == TURN
        gc.collect()
        before = resident()
        assert writer.write_all(messages, errors=errors) == len(messages)
        assert resident() - before < 1 << 20


def test_time_grows_with_the_list_alone(reader: PacketConn, writer: PacketConn) -> None:
    """Every second message fails, and nothing is planned anew for that."""
    writer.gso = True
    large = Message(bytes(65530), None, reader.local_addr)

    def seconds(count: int) -> float:
        messages = [Message(b"x", None, reader.local_addr), large] * (count // 2)
        started = time.thread_time()
        assert writer.write_all(messages, errors="skip") == count // 2
        return time.thread_time() - started

    few, many = (min(seconds(count) for _ in range(TRIES)) for count in (2_500, 20_000))
    assert many < 8 * few * 2  # 64 times as long, if it grew with the square


def test_the_timeout_is_read_at_the_start(reader: PacketConn) -> None:
    """Another thread sets it to 0 on the way, and the call goes on."""
    messages = [Message(b"x", None, reader.local_addr)] * LONG
    stop = threading.Event()
    with open_udp() as writer:

        def switch() -> None:
            while not stop.is_set():
                writer.timeout = 0
                writer.timeout = 1e-6

        call = Call(switch)
        writer.timeout = 1000
        try:
            assert writer.write_all(messages[: LONG // 8]) == LONG // 8
        except (BlockingIOError, TimeoutError):
            # The switch came first.
            assert writer.last_written % TURN == 0
        finally:
            stop.set()
            call.result()
