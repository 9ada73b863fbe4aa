"""What a Message holds, for how long, and that it cannot change while a call uses it."""

import gc
import mmap
import os
import socket
import subprocess
import sys
import textwrap
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from support.net import Call, receive

from ipv4batch import (
    Message,
    PacketConn,
)

Pair = tuple[PacketConn, PacketConn]


def grows(buffer: bytearray) -> bool:
    """Whether nobody holds the buffer, which could not be resized then."""
    try:
        buffer.append(0)
    except BufferError:
        return False
    del buffer[-1]
    return True


def refill(message: Message) -> None:
    message.__init__(buffers=b"", oob=None)


def fail(message: Message) -> None:
    with pytest.raises(TypeError):
        message.buffers = [message.buffers[0], "no buffer"]
    message.buffers = ()
    message.oob = None


@pytest.mark.parametrize(
    "let_go",
    [
        lambda message: (setattr(message, "buffers", ()), setattr(message, "oob", None)),
        lambda message: (setattr(message, "buffers", b""), setattr(message, "oob", b"")),
        refill,
        fail,
    ],
)
def test_buffers_are_held_until_they_are_replaced(
    conn_pair: Pair, let_go: Callable[[Message], None]
) -> None:
    first, second, oob = bytearray(4), bytearray(4), bytearray(64)
    message = receive(conn_pair, b"data", Message([first, second], oob))
    assert not any(map(grows, (first, second, oob)))
    let_go(message)
    assert all(map(grows, (first, second, oob)))
    assert message.data == b""


def test_a_message_that_is_gone_holds_nothing() -> None:
    buffer, oob, mapped = bytearray(4), bytearray(8), mmap.mmap(-1, 8)
    message = Message([buffer, mapped], oob)
    with pytest.raises(BufferError):
        mapped.close()
    del message
    assert grows(buffer)
    assert grows(oob)
    mapped.close()


def test_a_message_that_cannot_be_made_holds_nothing() -> None:
    buffer, oob = bytearray(4), bytearray(8)
    with pytest.raises(TypeError, match="addr"):
        Message(buffer, oob, "nobody")
    assert grows(buffer)
    assert grows(oob)


class Marked(bytearray):
    """A buffer that can have attributes and be watched."""


class Labelled(Message):
    """A message that can have attributes and be watched."""

    def __init__(self, label: str, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.label = label


@pytest.mark.parametrize(
    "hold",
    [
        lambda buffer: Message(buffer),
        lambda buffer: Message([b"", memoryview(memoryview(buffer)[1:])]),
        lambda buffer: Message(b"", buffer),
        lambda buffer: [Message(iter([buffer])) for _ in range(3)],
        lambda buffer: Labelled("", buffer),
    ],
)
def test_a_cycle_through_a_buffer_is_collected(hold: Callable[[Marked], Any]) -> None:
    gc.collect()  # so that none comes on its own in between
    buffer = Marked(8)
    buffer.holder = hold(buffer)
    watch = weakref.ref(buffer)
    del buffer
    assert watch() is not None
    gc.collect()
    assert watch() is None


def test_a_subclass_is_a_message_with_attributes(conn_pair: Pair) -> None:
    message = Labelled("first", bytearray(4))
    assert receive(conn_pair, b"data", message).data == b"data"
    assert (message.label, repr(message)[:10]) == ("first", "<Labelled ")
    message.itself = message
    watch = weakref.ref(message)
    del message
    gc.collect()
    assert watch() is None


# In use by another thread


def assert_pinned(message: Message) -> None:
    for field, value in (("buffers", bytearray(1)), ("oob", None), ("addr", None)):
        before = getattr(message, field)
        with pytest.raises(RuntimeError, match=f"{field}: the message is in use by another call"):
            setattr(message, field, value)
        assert getattr(message, field) is before
    assert repr(message).endswith(" in use>")


def test_a_message_that_is_being_read_cannot_be_changed(conn_pair: Pair) -> None:
    writer, reader = conn_pair
    buffer = bytearray(8)
    messages = [Message(bytearray(8)), receive(conn_pair, b"old", Message(buffer, bytearray(64)))]
    pinned = messages[1]
    call = Call(reader.read_batch, messages).wait_until_waiting()
    assert_pinned(pinned)
    assert (pinned.data, bytes(pinned.view)) == (b"old", b"old")
    assert pinned.addr == writer.local_addr
    other = Message(bytearray(8))
    for call_again in (writer.read_batch, writer.write_batch, reader.read_batch):
        with pytest.raises(RuntimeError, match=r"msgs\[1\]: in use by another call"):
            call_again([other, pinned], socket.MSG_DONTWAIT)
    # The list was taken as it stood; what becomes of it is nothing to the call.
    messages.clear()
    writer.write_to(b"new", reader.local_addr)
    assert call.result() == 1
    assert (other.n, pinned.data) == (0, b"old")
    pinned.buffers = other.buffers = ()
    assert grows(buffer)


@pytest.mark.parametrize("field", ["buffers", "oob", "addr"])
def test_a_failed_read_lets_the_message_go(conn_pair: Pair, field: str) -> None:
    reader = conn_pair[1]
    message = Message(bytearray(8))
    call = Call(reader.read_batch, [message]).wait_until_waiting()
    reader.set_deadline(0)
    with pytest.raises(TimeoutError):
        call.result()
    setattr(message, field, getattr(message, field))


def test_a_read_that_begins_while_buffers_are_being_set(conn_pair: Pair) -> None:
    writer, reader = conn_pair
    calls = []

    def slow_buffers() -> Any:
        yield bytearray(2)
        calls.append(Call(reader.read_batch, [message]).wait_until_waiting())

    message = Message(bytearray(8))
    with pytest.raises(RuntimeError, match="buffers: the message is in use by another call"):
        message.buffers = slow_buffers()
    writer.write_to(b"whole", reader.local_addr)
    assert calls[0].result() == 1
    assert message.data == b"whole"


# In processes of their own, because what goes wrong here crashes


def run_script(script: str, *flags: str) -> None:
    """Run it with a memory manager that spoils what is free, to a last line that says so."""
    done = subprocess.run(
        [sys.executable, "-P", *flags, "-c", textwrap.dedent(script) + "print('well')\n"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=os.environ | {"PYTHONMALLOC": "debug"},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "well\n", "")


def test_nothing_of_old_memory_is_in_what_is_made() -> None:
    """The memory manager fills what is new with 0xcd."""
    run_script(
        """
        import socket
        from ipv4batch import ControlFlags, ControlMessage, Header, PacketConn
        from ipv4batch import new_control_message, new_messages

        flags = ControlFlags(0)
        for flag in ControlFlags:
            flags |= flag
        made = {"control": bytes(new_control_message(flags))}
        for message in new_messages(3, 100, flags):
            made |= {"data": bytes(message.buffers[0]), "oob": bytes(message.oob)}
        # Values whose bytes are all below 0x80, so that each 0xcd is a byte that nobody set.
        control = ControlMessage(ttl=9, src="127.0.0.1", ifindex=1, tos=2, segment_size=100)
        made["marshalled"] = control.marshal()
        made["header"] = Header(dst="127.0.0.1", ttl=9, options=bytes(8)).marshal()
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        with PacketConn(sock) as conn:
            conn.set_control_message(ControlFlags.TTL | ControlFlags.DST | ControlFlags.TOS)
            conn.write_to(b"question", conn.local_addr)
            (message,) = new_messages(1, 100, flags)
            conn.read_batch([message])
            made["read"] = bytes(message.buffers[0])[8:]
            made["reply"] = bytes(message.reply(b"answer").oob)
        assert all(made.values())
        assert not [name for name, content in made.items() if b"\\xcd" in content], made
        """
    )


def test_the_collector_finds_messages_in_a_cycle() -> None:
    """A collector that clears a memoryview in use crashes."""
    run_script("""
        import gc, ipv4batch
        messages = ipv4batch.new_messages(2)
        cycle = [*messages]
        cycle.append(cycle)
        del messages, cycle
        assert gc.collect() > 0
    """)


def test_the_collector_passes_over_a_view_of_bare_memory() -> None:
    """Such a memoryview has no object to hold instead of it, so the message keeps it in use."""
    run_script("""
        import ctypes, gc, ipv4batch
        make = ctypes.pythonapi.PyMemoryView_FromMemory
        make.restype = ctypes.py_object
        make.argtypes = [ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int]
        memory = ctypes.create_string_buffer(b"bare", 100)
        PyBUF_WRITE = 0x200

        class Own(ipv4batch.Message):
            pass

        for _ in range(20):
            message = Own(make(ctypes.addressof(memory), 100, PyBUF_WRITE))
            message.itself = message
            del message
            gc.collect()
        assert memory.value == b"bare"
    """)


@pytest.mark.parametrize("look", ["message.view", "message.segments()[0]"])
def test_buffers_that_are_set_while_a_view_is_made(look: str) -> None:
    """Making it allocates, so the collector may run, and with it a callback or a finalizer."""
    run_script(f"""
        import array, gc, ipv4batch
        unset = []

        def callback(phase, info):
            unset.append(len(message.buffers))
            message.buffers = ()

        message = ipv4batch.Message()
        gc.disable()
        gc.callbacks.append(callback)
        for threshold in range(1, 20):
            gc.collect()
            message.buffers = array.array("B", bytes(200))
            gc.set_threshold(threshold, 1000, 1000)
            gc.enable()
            try:
                view = {look}
            except ValueError:
                view = None
            gc.disable()
            assert view is None or view.tobytes() == b""
        assert 1 in unset
    """)


@pytest.mark.skipif(
    sys.version_info < (3, 12, 7), reason="the collector breaks memoryviews that are held (77894)"
)
def test_a_cycle_through_a_memoryview_is_collected() -> None:
    """Of an exporter in Python, whose memory can be held by its memoryview alone."""

    class Exporter:
        def __init__(self) -> None:
            self.memory = bytearray(100)

        def __buffer__(self, flags: int) -> memoryview:
            return memoryview(self.memory)

    exporter = Exporter()
    exporter.message = Message(memoryview(exporter))  # type: ignore[attr-defined, arg-type]
    gone = weakref.ref(exporter)
    del exporter
    gc.collect()
    assert gone() is None
