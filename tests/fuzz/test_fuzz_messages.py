"""Random changes and uses of messages, against what is known of each of them."""

import array
import contextlib
import dataclasses
import errno
import ipaddress
import re
import socket
import struct
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)
from support.model import cut, run, time_limit
from support.net import open_udp

from ipv4batch import (
    ControlFlags,
    ControlMessage,
    Message,
    capabilities,
    new_control_message,
)

COUNT = 4
MMSG = capabilities()["sendmmsg"]
ASKED = ControlFlags.TTL | ControlFlags.DST
WHOLE = len(new_control_message(ASKED))
HEADER = struct.Struct("@Nii")
ALIGNMENT = struct.calcsize("N")
PADDING = -(HEADER.size + struct.calcsize("i")) % ALIGNMENT
LEAST = WHOLE - PADDING
"""The last item, which is the TTL, comes without its padding where there is no room for that."""
FAILURE = re.escape(f"[Errno {errno.EDESTADDRREQ}] ")

indices = st.integers(0, COUNT - 1)
some = st.lists(indices, min_size=1, max_size=9)
contents = st.binary(max_size=40)
buffers = st.one_of(
    contents,
    contents.map(bytearray),
    contents.map(bytearray).map(memoryview),
    contents.map(lambda data: memoryview(data)[::1]),
    st.lists(st.integers(0, 65535), max_size=9).map(lambda items: array.array("H", items)),
)
oobs = st.one_of(
    st.none(),
    st.sampled_from([b"", bytes(9), ControlMessage(ttl=9).marshal(), bytes(40), b"\7" * 16]),
    st.sampled_from([0, 15, 16, 31, LEAST - 1, LEAST, WHOLE - 1, WHOLE, 300]).map(bytearray),
    st.integers(1, 255).map(lambda ttl: bytearray(ControlMessage(ttl=ttl, tos=4).marshal())),
    st.integers(1, 8).map(lambda lacking: ControlMessage(ttl=9).marshal()[:-lacking]),
    st.integers(1, 65535).map(lambda size: ControlMessage(segment_size=size).marshal()),
)
strange = memoryview(bytes(20))[::2]
Refused = tuple[str, Any, type[Exception] | tuple[type[Exception], ...]]
REFUSED: list[Refused] = [
    ("buffers", "text", TypeError),
    ("buffers", 3, TypeError),
    ("buffers", None, TypeError),
    ("buffers", [bytearray(1), 3], TypeError),
    ("buffers", [b""] * 1025, ValueError),
    ("buffers", strange, (BufferError, ValueError)),
    ("oob", "text", TypeError),
    ("oob", 3, TypeError),
    ("addr", "127.0.0.1", TypeError),
    ("addr", ("a.name", 3), ValueError),
    ("addr", ("127.0.0.1", 65536), ValueError),
    ("addr", ("127.0.0.1",), (TypeError, ValueError)),
]


def plain(buffer: Any) -> bytes:
    return memoryview(buffer).cast("B").tobytes() if memoryview(buffer).nbytes else b""


def parses(control: bytes) -> bool:
    """Whether control data is a row of items, with a tail that is too short for one."""
    at = 0
    while len(control) - at >= HEADER.size:
        length = HEADER.unpack_from(control, at)[0]
        if not HEADER.size <= length <= len(control) - at:
            return False
        at += -(-length // ALIGNMENT) * ALIGNMENT
    return True


def told_by(control: bytes) -> ControlMessage:
    """What a write with this control data tells the kernel."""
    message = ControlMessage()
    with contextlib.suppress(ValueError):
        message.parse(control)
    return message


@dataclasses.dataclass
class Known:
    """What a message should be."""

    message: Message
    buffers: tuple[Any, ...] = ()
    oob: Any = None
    addr: tuple[str, int] | None = None
    n: int = 0
    nn: int = 0
    flags: int = 0
    errno: int = 0
    sendable: bool = True
    """Whether a write makes one datagram; that is not tried with what the kernel has delivered."""

    @property
    def content(self) -> bytes:
        return b"".join(map(plain, self.buffers))

    @property
    def control(self) -> bytes:
        return b"" if self.oob is None else plain(self.oob)

    @property
    def readonly(self) -> str | None:
        """The first field that cannot be read into."""
        for index, buffer in enumerate(self.buffers):
            if memoryview(buffer).readonly:
                return f"buffers[{index}]"
        return "oob" if self.oob is not None and memoryview(self.oob).readonly else None


class Messages(RuleBasedStateMachine):
    """A few messages, one connection that writes them and one that reads into them."""

    def __init__(self) -> None:
        super().__init__()
        self.reader, self.writer = open_udp(), open_udp()
        self.reader.set_control_message(ASKED)
        self.known = [Known(Message()) for _ in range(COUNT)]
        self.waiting: list[tuple[bytes, int]] = []
        """Contents and TTL."""

    def teardown(self) -> None:
        self.reader.close()
        self.writer.close()

    # Changes.

    @initialize(
        parts=st.lists(st.lists(buffers, max_size=2), min_size=COUNT, max_size=COUNT),
        addressed=st.integers(0, COUNT),
        readable=st.integers(0, COUNT),
    )
    def begin(self, parts: list[list[Any]], addressed: int, readable: int) -> None:
        for i in range(COUNT):
            self.set_buffers(i, [bytearray(30)] if i < readable else parts[i], False)
            self.set_addr(i, 0 if i < addressed else 4)

    @rule(i=indices, parts=st.lists(buffers, max_size=3), single=st.booleans())
    def set_buffers(self, i: int, parts: list[Any], single: bool) -> None:
        known = self.known[i]
        if single and parts:
            known.message.buffers, known.buffers = parts[0], (parts[0],)
        else:
            known.message.buffers, known.buffers = iter(parts), tuple(parts)

    @rule(i=indices, oob=oobs)
    def set_oob(self, i: int, oob: Any) -> None:
        known = self.known[i]
        known.message.oob = known.oob = oob
        known.sendable = told_by(known.control).segment_size == 0

    @rule(i=indices, how=st.integers(0, 4))
    def set_addr(self, i: int, how: int) -> None:
        host, port = self.reader.local_addr
        known = self.known[i]
        if how == 4:
            known.message.addr = known.addr = None
            return
        address = ipaddress.IPv4Address(host)
        known.message.addr = ([host, address, address.packed, bytearray(address.packed)][how], port)
        known.addr = (host, port)

    @rule(
        i=indices,
        refused=st.sampled_from(REFUSED),
        field=st.sampled_from(["n", "nn", "flags", "errno", "data", "truncated"]),
    )
    def refuse(self, i: int, refused: Refused, field: str) -> None:
        name, value, error = refused
        with pytest.raises(error, match=rf"^{name}|contiguous"):
            setattr(self.known[i].message, name, value)
        with pytest.raises(AttributeError):
            setattr(self.known[i].message, field, 1)

    @rule(i=indices, value=st.binary(min_size=1, max_size=9))
    def overwrite(self, i: int, value: bytes) -> None:
        for buffer in self.known[i].buffers:
            view = memoryview(buffer)
            if view.nbytes and not view.readonly:
                view = view.cast("B")
                view[: len(value)] = value[: len(view)]

    # Uses.

    @rule(items=some, everything=st.booleans())
    def write(self, items: list[int], everything: bool) -> None:
        batch = [self.known[i] for i in items if self.known[i].sendable]
        write = self.writer.write_all if everything else self.writer.write_batch
        messages = [known.message for known in batch]
        for k, known in enumerate(batch):
            if not parses(known.control):
                with pytest.raises(ValueError, match=rf"^msgs\[{k}\]\.oob: "):
                    write(messages)
                return
        first = next((k for k, known in enumerate(batch) if known.addr is None), len(batch))
        if first < len(batch) and (everything or first == 0):
            with pytest.raises(OSError, match=FAILURE):
                write(messages)
        else:
            assert write(messages) == first
        for known in batch[:first]:
            known.n, known.nn = len(known.content), len(known.control)
            known.flags = known.errno = 0
            # What was received has the writer's own address until it gets another.
            if known.addr == self.reader.local_addr:
                self.waiting.append((known.content, told_by(known.control).ttl or 64))
        for known in batch[first:] if everything else []:
            known.errno = errno.ECANCELED
        # sendmmsg forgets why it stopped after a message; sendmsg tells.
        if first < len(batch) and (everything or first == 0 or not MMSG):
            batch[first].errno = errno.EDESTADDRREQ

    @rule(items=st.lists(indices, min_size=1, max_size=COUNT, unique=True), trunc=st.booleans())
    def read(self, items: list[int], trunc: bool) -> None:
        batch = [self.known[i] for i in items]
        messages = [known.message for known in batch]
        how = socket.MSG_TRUNC if trunc else 0
        for k, known in enumerate(batch):
            if known.readonly is not None:
                refused = re.escape(f"msgs[{k}].{known.readonly}: read-only")
                with pytest.raises(ValueError, match=refused):
                    self.reader.read_batch(messages, how)
                return
        if not self.waiting:
            with pytest.raises(BlockingIOError):
                self.reader.read_batch(messages, socket.MSG_DONTWAIT)
            return
        n = self.reader.read_batch(messages, how)
        assert 1 <= n <= min(len(batch), len(self.waiting))
        for known in batch[:n]:
            self.check_read(known, *self.waiting.pop(0), trunc)

    def check_read(self, known: Known, data: bytes, ttl: int, trunc: bool) -> None:
        message, room = known.message, len(known.content)
        known.n = len(data) if trunc else min(len(data), room)
        known.addr = self.writer.local_addr
        assert known.content[: min(len(data), room)] == data[:room]
        assert message.truncated == (len(data) > room)
        assert message.control_truncated == (len(known.control) < LEAST)
        whole = min(len(known.control), WHOLE)
        assert message.nn == whole if whole >= LEAST else message.nn < LEAST
        known.nn, known.flags, known.sendable = message.nn, message.flags, known.oob is None
        if known.nn >= LEAST:
            control = message.control_message()
            assert (control.ttl, control.dst) == (ttl, self.reader.local_addr[0])

    @rule(items=st.lists(indices, min_size=2, max_size=COUNT, unique=True), k=indices)
    def read_into_one_twice(self, items: list[int], k: int) -> None:
        if all(self.known[i].readonly is None for i in items):
            messages = [self.known[i].message for i in items]
            twice = messages[k % len(messages)]
            refused = rf"^msgs\[{len(messages)}\]: the same Message as msgs\[{k % len(messages)}\]"
            with pytest.raises(ValueError, match=refused):
                self.reader.read_batch([*messages, twice])

    @rule(i=indices, data=contents)
    def reply(self, i: int, data: bytes) -> None:
        known = self.known[i]
        control = self.control_of(known)
        if control is ValueError or known.addr is None:
            with pytest.raises(ValueError, match=r"^(oob|addr): "):
                known.message.reply(data)
            return
        answer = known.message.reply([data, b"."])
        assert (answer.buffers, answer.addr) == ((data, b"."), known.addr)
        assert (answer.n, answer.nn, answer.flags, answer.errno) == (0, 0, 0, 0)
        # What was received tells the way back; what was sent may tell nothing of it.
        assert control is None or control.dst is None or answer.oob is not None

    # What holds.

    def control_of(self, known: Known) -> Any:
        """The control message of the last call, None, or ValueError itself."""
        received = known.control[: known.nn]
        if not received:
            return None
        control = ControlMessage()
        try:
            control.parse(received)
        except ValueError:
            return ValueError
        if known.addr is not None:
            control.src = known.addr[0]
        return control

    @invariant()
    def everything_is_as_it_should_be(self) -> None:
        for known in self.known:
            message = known.message
            assert len(message.buffers) == len(known.buffers)
            assert all(a is b for a, b in zip(message.buffers, known.buffers, strict=True))
            assert message.oob is known.oob
            assert message.addr == known.addr
            assert message.addr is message.addr
            assert (message.n, message.nn) == (known.n, known.nn)
            assert (message.flags, message.errno) == (known.flags, known.errno)
            assert f"n={known.n} nn={known.nn} flags=0x{known.flags:x}" in repr(message)
            self.check_content(known)

    def check_content(self, known: Known) -> None:
        message, content = known.message, known.content[: known.n]
        control = self.control_of(known)
        assert message.data == content
        if control is ValueError:
            with pytest.raises(ValueError, match=r"^oob: "):
                message.control_message()
        else:
            assert message.control_message() == control
        if len(known.buffers) != 1:
            for function in (lambda: message.view, message.segments):
                with pytest.raises(ValueError, match=f"^view: .* of {len(known.buffers)} buffers"):
                    function()
            return
        assert message.view == content
        assert message.view.obj is memoryview(known.buffers[0]).obj
        if control is not ValueError:
            size = 0 if control is None else control.segment_size
            assert [bytes(piece) for piece in message.segments()] == cut(content, size)


@time_limit
def test_random_messages() -> None:
    run(Messages, 60, steps=30)
