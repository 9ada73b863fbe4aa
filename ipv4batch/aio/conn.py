"""AsyncPacketConn: the calls of PacketConn as coroutines."""

from __future__ import annotations

import asyncio
import errno
import select
import socket
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, SupportsIndex, TypeVar

from .. import ControlMessage, Message, PacketConn, QueuedError, TxTimestamp, new_messages
from .waiting import FAIR_CALLS, AsyncioGate, Gate, TrioGate, give_way, pause, running_trio

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from .._ipv4batch import _Endpoint, _Socket

_T = TypeVar("_T")

Gates = tuple[Gate, Gate, Gate, Gate]
"""For reads, writes, errors of the network and departure times."""

TURN = 1024
"""So many messages at a time: as PacketConn.write_all does it."""

OF_THE_CONNECTION = (errno.EBADF, errno.ENOMEM, errno.ENOTSOCK)
"""Errors that are no message's."""

NO_BUFFERS_TRIES = 7
NO_BUFFERS_FIRST = 0.001
"""A full device queue is waited for as PacketConn.write_all does it: 1, 2, 4, ... 64 ms."""


def left_of_turn(error: OSError, msgs: Sequence[Message], again: bool) -> list[int]:
    """The places in `msgs` of what a turn of write_all or forward, which `error` stopped, has left.

    The message for which it stopped is among them if it is to go `again`, or was not tried.
    """
    index: int = error.index  # type: ignore[attr-defined]
    end = min(index - index % TURN + TURN, len(msgs))
    # With gso, messages behind the one that failed may have gone before it. The errno of each does
    # not tell, for a message may stand there twice.
    left = sorted(getattr(error, "_left", range(index, end)))
    if left and not again and msgs[index].errno != errno.ECANCELED:
        left.remove(index)
    return left


class Batches:
    """The iterator of AsyncPacketConn.batches."""

    def __init__(self, conn: AsyncPacketConn, messages: list[Message]) -> None:
        self._conn = conn
        self._messages = messages

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[Message]:
        return self._messages[: await self._conn.read_batch(self._messages)]


class AsyncPacketConn:
    """The calls of a PacketConn as coroutines, under asyncio and under trio.

    `sock` is a PacketConn, or what PacketConn takes. `conn` is that PacketConn: options are set
    there. A call tries at once, and lets other tasks run while the socket is not ready. Its
    arguments, result and exceptions are those of the PacketConn's method; timeouts and deadlines of
    the connection do not count, since the event loop has its own. Cancellation loses nothing: no
    call reads a datagram and then waits. Several tasks may read and write one connection. Close it,
    or use `async with`.
    """

    def __init__(self, sock: PacketConn | _Socket) -> None:
        self.conn = sock if isinstance(sock, PacketConn) else PacketConn(sock)
        self._gates: Gates | None = None
        self._owner: object = None  # the loop, or trio's run, that the gates belong to
        self._under_trio = False
        self._epolls: list[select.epoll] = []
        self._quick_calls = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.conn!r}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection. Calls that wait end with OSError EBADF."""
        gates, self._gates, self._owner = self._gates, None, None
        for gate in gates or ():
            gate.close()
        for epoll in self._epolls:
            epoll.close()
        self._epolls = []
        self.conn.close()

    def _enter(self) -> Gates:
        """The gates of the loop that runs now."""
        owner: object
        self._under_trio = running_trio()
        if self._under_trio:
            import trio

            owner = trio.lowlevel.current_trio_token()
        else:
            owner = asyncio.get_running_loop()
        if self._gates is not None and self._owner is owner:
            return self._gates
        fd = self.conn.fileno()
        if fd < 0:
            raise OSError(errno.EBADF, "The connection is closed")
        for gate in self._gates or ():
            gate.close()
        while len(self._epolls) < 2:
            # An error queue is announced by EPOLLERR alone, for which no event needs to be asked
            # for. Such a descriptor is readable when there is one, and not when there are
            # datagrams.
            self._epolls.append(select.epoll())
            self._epolls[-1].register(fd, 0)
        errors, times = (epoll.fileno() for epoll in self._epolls)
        self._owner = owner
        if self._under_trio:
            import trio

            readable, writable = trio.lowlevel.wait_readable, trio.lowlevel.wait_writable
            self._gates = (
                TrioGate(fd, readable),
                TrioGate(fd, writable),
                TrioGate(errors, readable),
                TrioGate(times, readable),
            )
        else:
            loop = asyncio.get_running_loop()
            self._gates = (
                AsyncioGate(loop, fd, loop.add_reader, loop.remove_reader),
                AsyncioGate(loop, fd, loop.add_writer, loop.remove_writer),
                AsyncioGate(loop, errors, loop.add_reader, loop.remove_reader),
                AsyncioGate(loop, times, loop.add_reader, loop.remove_reader),
            )
        return self._gates

    async def _be_fair(self) -> None:
        """Before a call and never after one: a cancellation would lose what it has read."""
        self._quick_calls += 1
        if self._under_trio or self._quick_calls > FAIR_CALLS:
            self._quick_calls = 0
            await give_way(self._under_trio)

    async def _until_ready(self, gate: Gate, call: Callable[[], _T]) -> _T:
        await self._be_fair()
        while True:
            try:
                return call()
            except BlockingIOError:
                self._quick_calls = 0
                self._collect_errors()
                await gate.wait()

    def _collect_errors(self) -> None:
        """Empty the kernel's queue of errors, which would wake those who wait for something else
        again and again, and wake those who wait for what it had.
        """
        counts = self.conn._collect_errors()
        for gate, count in zip((self._gates or ())[2:], counts, strict=False):
            if count:
                gate.wake()

    async def _until_found(self, gate: Gate, call: Callable[[], list[_T]], wait: bool) -> list[_T]:
        await self._be_fair()
        while True:
            found = call()
            # What is left is for others, who may have slept since it came.
            self._collect_errors()
            if found or not wait:
                return found
            await gate.wait()

    async def _read(self, call: Callable[[], _T]) -> _T:
        gate = self._enter()[0]
        result = await self._until_ready(gate, call)
        # What waits in the connection's queue does not wake those who wait for the socket.
        if self.conn.pending:
            gate.wake()
        return result

    async def read_batch(self, msgs: Sequence[Message], flags: int = 0) -> int:
        """Receive datagrams into `msgs` and return how many came, as PacketConn.read_batch.

        Waits for the first.
        """
        return await self._read(lambda: self.conn.read_batch(msgs, flags | socket.MSG_DONTWAIT))

    async def read_from(
        self, buffer: Buffer, flags: int = 0
    ) -> tuple[int, ControlMessage | None, tuple[str, int] | None]:
        """Receive one datagram: (length, control message, address), as PacketConn.read_from."""
        return await self._read(lambda: self.conn.read_from(buffer, flags | socket.MSG_DONTWAIT))

    def batches(self, count: int = 64, size: int = 2048, control: int = 0) -> Batches:
        """Iterate over what arrives: `async for msgs in conn.batches(64)` gives lists of messages.

        The messages are those of new_messages(count, size, control), the same in every step: copy
        (Message.data) what is kept for longer. A loop that was cancelled may go on.
        """
        return Batches(self, new_messages(count, size, control))

    async def write_to(
        self,
        data: Buffer,
        addr: _Endpoint | None = None,
        control_message: ControlMessage | None = None,
        flags: int = 0,
    ) -> int:
        """Send one datagram and return its length, as PacketConn.write_to; waits for room."""
        gate = self._enter()[1]
        flags |= socket.MSG_DONTWAIT
        return await self._until_ready(
            gate, lambda: self.conn.write_to(data, addr, control_message, flags)
        )

    async def write_all(
        self,
        msgs: Sequence[Message],
        flags: int = 0,
        errors: Literal["raise", "skip"] = "raise",
    ) -> int:
        """Send every Message of `msgs` and return how many went, as PacketConn.write_all; waits for
        room.

        Do not change the messages until it returns. When it is cancelled, some may have gone: their
        errno is 0.
        """
        return await self._write_list(
            msgs,
            errors,
            # Here `errors` is for _write_list, which waits for a full device queue.
            lambda rest: self.conn.write_all(rest, flags | socket.MSG_DONTWAIT),
        )

    async def forward(
        self,
        msgs: Sequence[Message],
        addr: _Endpoint | None = None,
        flags: int = 0,
        errors: Literal["raise", "skip"] = "raise",
    ) -> int:
        """Send on what each message received, as PacketConn.forward; waits for room.

        Do not read into the messages until it returns.
        """
        return await self._write_list(
            msgs,
            errors,
            lambda rest: self.conn.forward(rest, addr, flags | socket.MSG_DONTWAIT, errors),
        )

    async def _write_list(
        self, msgs: Sequence[Message], errors: str, write: Callable[[Sequence[Message]], int]
    ) -> int:
        """Call `write`, which stops at what fails, for what has not gone yet, and wait in between.

        The first call gets the whole list, so that it refuses a message before anything is sent.
        After a stop one turn of the list goes at a time, which bounds the work of each stop.
        """
        if errors not in ("raise", "skip"):
            raise ValueError(f"errors: 'raise' or 'skip' is required, not {errors!r}")
        gate = self._enter()[1]
        count = len(msgs)
        await self._be_fair()
        written = tries = first = 0
        end = count
        places: Sequence[int] = range(count)  # of those that go next
        now = msgs
        while True:
            try:
                written += write(now) if places or now is msgs else 0
            except OSError as error:
                index: int = error.index  # type: ignore[attr-defined]
                gone: int = error.written  # type: ignore[attr-defined]
                written += gone
                tries = 0 if gone else tries
                no_room = isinstance(error, BlockingIOError)
                full = error.errno == errno.ENOBUFS and tries < NO_BUFFERS_TRIES
                passed = errors == "skip" and count and error.errno not in OF_THE_CONNECTION
                if not (no_room or full or passed):
                    error.index = places[index] if count else 0  # type: ignore[attr-defined]
                    error.written = written  # type: ignore[attr-defined]
                    raise
                left = left_of_turn(error, now, no_room or full)
                if now is msgs:
                    first = index - index % TURN
                    end = min(first + TURN, count)
                places = [places[i] for i in left]
                if no_room:
                    await gate.wait()
                elif full:
                    await pause(NO_BUFFERS_FIRST * 2**tries, self._under_trio)
                    tries += 1
            else:
                if end == count:
                    return written
                first, end = end, min(end + TURN, count)
                places = range(first, end)
            now = [msgs[i] for i in places]

    async def read_errors(self, max: SupportsIndex = 64, wait: bool = False) -> list[QueuedError]:
        """Take up to `max` errors of the network from their queue, as PacketConn.read_errors; with
        `wait` until there is one.
        """
        gate = self._enter()[2]
        return await self._until_found(gate, lambda: self.conn.read_errors(max), wait)

    async def read_tx_timestamps(
        self, max: SupportsIndex = 64, wait: bool = False
    ) -> list[TxTimestamp]:
        """Take up to `max` times at which messages have left, as PacketConn.read_tx_timestamps;
        with `wait` until there is one.
        """
        gate = self._enter()[3]
        return await self._until_found(gate, lambda: self.conn.read_tx_timestamps(max), wait)
