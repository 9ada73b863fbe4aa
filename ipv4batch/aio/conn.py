"""AsyncPacketConn: the calls of PacketConn as coroutines."""

from __future__ import annotations

import asyncio
import errno
import select
import socket
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, SupportsIndex, TypeVar

from .. import ControlMessage, Message, PacketConn, QueuedError, new_messages
from .waiting import FAIR_CALLS, AsyncioGate, Gate, TrioGate, give_way, pause, running_trio

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from .._ipv4batch import _Endpoint, _Socket

_T = TypeVar("_T")

NO_BUFFERS_TRIES = 7
NO_BUFFERS_FIRST = 0.001
"""A full device queue is waited for as PacketConn.write_all does it: 1, 2, 4, ... 64 ms."""


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
        self._gates: tuple[Gate, Gate, Gate] | None = None
        self._owner: object = None  # the loop, or trio's run, that the gates belong to
        self._under_trio = False
        self._epoll: select.epoll | None = None
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
        if self._epoll is not None:
            self._epoll.close()
            self._epoll = None
        self.conn.close()

    def _enter(self) -> tuple[Gate, Gate, Gate]:
        """The gates for reads, writes and errors, of the loop that runs now."""
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
        if self._epoll is None:
            # An error queue is announced by EPOLLERR alone, for which no event needs to be asked
            # for. This descriptor is readable when there is one, and not when there are datagrams.
            self._epoll = select.epoll()
            self._epoll.register(fd, 0)
        errors = self._epoll.fileno()
        self._owner = owner
        if self._under_trio:
            import trio

            readable, writable = trio.lowlevel.wait_readable, trio.lowlevel.wait_writable
            self._gates = (
                TrioGate(fd, readable),
                TrioGate(fd, writable),
                TrioGate(errors, readable),
            )
        else:
            loop = asyncio.get_running_loop()
            self._gates = (
                AsyncioGate(loop, fd, loop.add_reader, loop.remove_reader),
                AsyncioGate(loop, fd, loop.add_writer, loop.remove_writer),
                AsyncioGate(loop, errors, loop.add_reader, loop.remove_reader),
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
            lambda rest: self.conn.write_all(rest, flags | socket.MSG_DONTWAIT, errors),
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
        """Call `write` for what has not gone yet, and wait in between."""
        if errors not in ("raise", "skip"):
            raise ValueError(f"errors: 'raise' or 'skip' is required, not {errors!r}")
        gate = self._enter()[1]
        written = tries = 0
        places: Sequence[int] = range(len(msgs))  # of those that have not gone, in the list
        rest = msgs
        await self._be_fair()
        while True:
            failure: OSError | None = None
            try:
                gone = write(rest)
            except OSError as error:
                failure = error
                gone = error.written  # type: ignore[attr-defined]
            written += gone
            tries = 0 if gone else tries
            no_room = isinstance(failure, BlockingIOError)
            again = (errno.EAGAIN, errno.ECANCELED, errno.ENOBUFS)
            # With gso, messages behind the one that failed may have gone before it.
            left = [i for i, m in enumerate(rest) if m.errno in again] if gone < len(rest) else []
            full = any(rest[i].errno == errno.ENOBUFS for i in left) and tries < NO_BUFFERS_TRIES
            if failure is not None and not no_room and not (full and self._is_full(failure)):
                failure.index = places[failure.index] if rest else 0  # type: ignore[attr-defined]
                failure.written = written  # type: ignore[attr-defined]
                raise failure
            if not no_room and not full:
                return written
            places = [places[i] for i in left]
            rest = [rest[i] for i in left]
            if no_room:
                await gate.wait()
            else:
                await pause(NO_BUFFERS_FIRST * 2**tries, self._under_trio)
                tries += 1

    @staticmethod
    def _is_full(error: OSError) -> bool:
        return error.errno == errno.ENOBUFS

    async def read_errors(self, max: SupportsIndex = 64, wait: bool = False) -> list[QueuedError]:
        """Take up to `max` errors of the network from their queue, as PacketConn.read_errors; with
        `wait` until there is one.
        """
        gate = self._enter()[2]
        await self._be_fair()
        while True:
            found = self.conn.read_errors(max)
            if found or not wait:
                return found
            await gate.wait()
