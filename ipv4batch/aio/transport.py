"""DatagramTransport: asyncio's datagram transport over batches.

The contract is that of the datagram transport of asyncio's selector event loops, of the Python that
runs. What is done for each datagram is done in C: see csrc/python/aio/core.h, whose
TransportCore calls the methods of this class that its comments name.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import errno
import logging
import os
import socket
import threading
import warnings
from asyncio import constants, selector_events, transports, trsock
from collections.abc import Callable, Sequence
from typing import Any, cast

from .. import ControlFlags, ErrorOrigin, Message, PacketConn, new_messages
from .._ipv4batch import TransportCore
from .conn import TURN, left_of_turn

logger = logging.getLogger("asyncio")

HEADER_SIZE: int = getattr(selector_events._SelectorDatagramTransport, "_header_size", 0)  # type: ignore[attr-defined]
"""What this Python's asyncio counts for each datagram that waits, beside its bytes."""

BATCH = 64
"""Messages that a protocol gets at once; as many as datagrams of one wake-up: see deliver.c."""

MESSAGE_SIZE = 65536 + 4096
"""Room for any datagram. One page more than 64 KiB, for the reason that inbox.c gives."""

NO_BUFFERS_FIRST = 0.001
NO_BUFFERS_LAST = 0.064
"""Seconds between tries while a device's queue is full; each wait is twice as long as the last."""

FREE, UNTIL_WRITABLE, UNTIL_BUFFERS = range(3)
"""TransportCore.blocked"""


class DatagramTransport(transports._FlowControlMixin, asyncio.DatagramTransport):
    """What create_datagram_endpoint gives; see asyncio.DatagramTransport for what it has.

    get_extra_info knows "conn" beside "socket", "sockname" and "peername": the PacketConn.
    """

    _sock: socket.socket | None = None  # for __del__, should __init__ fail

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        address: tuple[str, int] | None = None,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
        *,
        gso: bool = True,
        gro: bool = True,
        control: int = 0,
        recv_errors: bool = False,
        tx_timestamps: int = 0,
    ) -> None:
        conn = PacketConn(sock)
        super().__init__(extra, loop)
        self._loop: asyncio.AbstractEventLoop
        self._extra: dict[str, Any]
        self._extra["socket"] = trsock.TransportSocket(sock)
        self._extra["sockname"] = sock.getsockname()
        if "peername" not in self._extra:
            try:
                self._extra["peername"] = sock.getpeername()
            except OSError:
                self._extra["peername"] = None
        self._extra["conn"] = conn
        # Offload is for speed alone: where the kernel has none, things work without it.
        with contextlib.suppress(OSError, NotImplementedError):
            conn.gso = gso
        if control:
            conn.set_control_message(control)
        if recv_errors:
            conn.recv_errors = True
        if tx_timestamps:
            conn.tx_timestamps = tx_timestamps
        self._control = control
        self._gro = gro and not control & ControlFlags.SEGMENT
        self._conn = conn
        self._fd = sock.fileno()
        self._thread = threading.get_ident()
        self._address = address
        self._closing = False
        self._paused = False
        self._conn_lost = 0  # as in asyncio: not 0 once connection_lost is scheduled
        self._reader_on = self._writer_on = False
        self._timer: asyncio.TimerHandle | None = None
        self._no_buffers = NO_BUFFERS_FIRST
        self._messages: list[Message] | None = None
        self._context = contextvars.copy_context()
        # Selector loops keep what programs may call from what transports call.
        self._calls: Any = loop
        prefix = ""
        if isinstance(loop, selector_events.BaseSelectorEventLoop):
            prefix = "_"
            cast(Any, loop)._transports[self._fd] = self
        self._add_reader: Callable[..., object] = getattr(loop, prefix + "add_reader")
        self._remove_reader: Callable[[int], object] = getattr(loop, prefix + "remove_reader")
        self._add_writer: Callable[..., object] = getattr(loop, prefix + "add_writer")
        self._remove_writer: Callable[[int], object] = getattr(loop, prefix + "remove_writer")
        self._core = TransportCore(self, conn, loop.call_soon, HEADER_SIZE)
        self._core.connect(address, bool(self._extra["peername"]))
        # Found before the method of the class: a call of it is a call of C.
        self.sendto = self._core.sendto  # type: ignore[method-assign]
        self._sock = sock
        self.set_protocol(protocol)
        loop.call_soon(protocol.connection_made, self)
        loop.call_soon(self._start_reading)
        if waiter is not None:
            loop.call_soon(_set_result_unless_done, waiter)

    def __repr__(self) -> str:
        info = [type(self).__name__]
        if self._sock is None:
            info.append("closed")
        elif self._closing:
            info.append("closing")
        info.append(f"fd={self._fd}")
        if self._sock is not None and not self._loop.is_closed():
            info.append("read=polling" if self._reader_on else "read=idle")
            state = "polling" if self._writer_on else "idle"
            info.append(f"write=<{state}, bufsize={self.get_write_buffer_size()}>")
        return f"<{' '.join(info)}>"

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        if self._sock is not None:
            _warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            self._sock.close()

    # The protocol, and reading.

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        batches = hasattr(protocol, "messages_received")
        if batches:
            self._core.give_back()  # what the former protocol has not got is read as messages
        if batches and self._messages is None:
            self._messages = new_messages(BATCH, MESSAGE_SIZE, self._control)
        elif not batches:
            self._messages = None
        self._protocol: Any = protocol
        self._core.protocol = protocol
        if self._gro:
            self._receive_coalesced(batches)
        if self._reader_on:
            self._remove_reader(self._fd)
            self._start_reading()

    def _receive_coalesced(self, batches: bool) -> None:
        """Turn receive offload on: the core takes datagrams apart, or the connection does."""
        with contextlib.suppress(OSError, NotImplementedError):
            self._conn.set_control_message(ControlFlags.SEGMENT, not batches)
            self._conn.gro = batches

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol  # type: ignore[no-any-return]

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return not self._closing and not self._paused

    def _start_reading(self) -> None:
        if not self.is_reading():
            return
        batches = self._messages is not None
        self._add_reader(self._fd, self._read_messages if batches else self._core.read_ready)
        self._reader_on = True
        self._context = contextvars.copy_context()
        if batches:
            self._core.reading = False  # it may be in the middle of a delivery
        else:
            self._core.start()
        if self._core.left or self._conn.pending:
            self._loop.call_soon(self._read_messages if batches else self._core.read_again)

    def _stop_reading(self) -> None:
        self._core.reading = False
        if self._reader_on:
            self._remove_reader(self._fd)
        self._reader_on = False

    def pause_reading(self) -> None:
        if not self.is_reading():
            return
        self._paused = True
        self._stop_reading()
        if self._loop.get_debug():
            logger.debug("%r pauses reading", self)

    def resume_reading(self) -> None:
        if self._closing or not self._paused:
            return
        self._paused = False
        self._start_reading()
        if self._loop.get_debug():
            logger.debug("%r resumes reading", self)

    def _read_messages(self) -> None:
        """What the core's read_ready is for datagram_received, for messages_received."""
        if self.is_reading() and self._messages is not None:
            self._context.run(self._read_batch, self._messages)

    def _read_batch(self, messages: list[Message]) -> None:
        core, conn, protocol = self._core, self._conn, self._protocol
        try:
            count = conn.read_batch(messages, socket.MSG_DONTWAIT)
        except (BlockingIOError, InterruptedError):
            count = 0
        except OSError as error:
            self._read_failed(error)
            return
        core.delivering = True
        try:
            if count:
                protocol.messages_received(messages[:count])
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._callback_failed(error)
        finally:
            core.delivering = False
            core.flush()
            if (conn.recv_errors or conn.tx_timestamps) and self.is_reading():
                self._read_errors(None)
            if self.is_reading() and conn.pending:
                self._loop.call_soon(self._read_messages)

    # What the core says of reading.

    def _read_failed(self, error: BaseException) -> None:
        if isinstance(error, OSError):
            # The report of an error that is in the queue too is told once, with what the queue has.
            if not (self._conn.recv_errors and self._read_errors(None)):
                self._protocol.error_received(error)
        elif isinstance(error, MemoryError):
            self._callback_failed(error)  # nothing was read: the next wake-up tries again
        else:
            self._fatal_error(error, "Fatal read error on datagram transport")

    def _callback_failed(self, error: BaseException) -> None:
        """An exception of datagram_received. asyncio's Handle says the same of it."""
        # The loop's own handle is not to be had; this one names the same callback.
        handle = asyncio.Handle(self._core.read_ready, (), self._loop)
        self._loop.call_exception_handler(
            {
                "message": f"Exception in callback of {self!r}",
                "exception": error,
                "handle": handle,
                "transport": self,
                "protocol": self._protocol,
            }
        )

    def _no_memory(self, error: BaseException) -> None:
        """A datagram was read, and there was no memory to deliver it: it stays for later."""
        self._callback_failed(error)

    def _read_errors(self, _: None) -> bool:
        """Errors of the network and departure times, as far as they are wanted; whether there were
        errors.
        """
        errors = self._conn.read_errors()
        for found in errors:
            if self._conn_lost or self._protocol is None:
                break
            if found.errno and found.origin in (ErrorOrigin.ICMP, ErrorOrigin.LOCAL):
                told = OSError(found.errno, os.strerror(found.errno))
                told.queued_error = found  # type: ignore[attr-defined]
                self._protocol.error_received(told)
        if self._conn.tx_timestamps and (stamps := self._conn.read_tx_timestamps(1024)):
            getattr(self._protocol, "tx_timestamps_received", lambda _: None)(stamps)
        return bool(errors)

    # Writing.

    def sendto(self, data: Any, addr: Any = None) -> None:
        """Send a copy of `data` to `addr`, as asyncio.DatagramTransport.sendto."""
        self._core.sendto(data, addr)

    def send_messages(self, msgs: Sequence[Message]) -> None:
        """Send messages with their own buffers, control data and addresses.

        They go out in the list's order, behind what sendto was given before, and are the caller's
        again when this returns: what finds no room is copied and waits. An OSError of a message
        goes to error_received, and the others go out. Raises TypeError, ValueError and
        RuntimeError as PacketConn.write_all, with nothing sent.
        """
        core = self._core
        if core.lost:
            self._sent_in_vain(None)
            return
        for index, m in enumerate(msgs):
            if not isinstance(m, Message):
                kind = type(m).__name__
                raise TypeError(f"msgs[{index}]: a Message is required, not {kind}")
        core.flush()
        # The first call gets the whole list, so that it refuses a message before anything is sent.
        # After a stop one turn of the list goes at a time, which bounds the work of each stop.
        now, end = msgs, len(msgs)
        while now:
            if core.waiting or core.lost:
                core.append([*now, *msgs[end:]])
                self._appended(None)
                break
            try:
                self._conn.write_all(now, socket.MSG_DONTWAIT)
            except OSError as error:
                again = error.errno in (errno.EAGAIN, errno.ENOBUFS)
                left = left_of_turn(error, now, again)
                if now is msgs:
                    index = error.index  # type: ignore[attr-defined]
                    end = min(index - index % TURN + TURN, end)
                now = [now[i] for i in left]
                if again:
                    core.append(now)
                    now = []
                    core.flush()
                    self._appended(None)
                else:
                    self._send_failed(error)
                    if self._conn_lost:
                        return
            else:
                now = []
            if not now:
                now, end = msgs[end : end + TURN], end + TURN

    def get_write_buffer_size(self) -> int:
        return self._core.buffer_size

    def _maybe_pause_protocol(self) -> None:
        # What waits for its turn goes out anyway.
        if self._core.blocked:
            super()._maybe_pause_protocol()  # type: ignore[misc]

    # What the core says of writing.

    def _resolve(self, addr: tuple[str, Any]) -> tuple[str, Any]:
        """The address of a name: sought, as a socket's sendto does; uvloop refuses to."""
        host = addr[0]
        if is_address(host):
            return addr  # what is wrong is the port
        if host in ("", "<broadcast>"):
            return ("0.0.0.0" if host == "" else "255.255.255.255"), addr[1]
        if not isinstance(self._loop, selector_events.BaseSelectorEventLoop):
            if ":" in host:
                raise ValueError(f"UDP.sendto(): socket family mismatch: {host!r} is not of IPv4")
            raise ValueError(f"UDP.sendto(): address {addr!r} requires a DNS lookup")
        found = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_DGRAM)
        return str(found[0][4][0]), addr[1]

    def _sent_in_vain(self, _: None) -> None:
        if self._conn_lost >= constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES:
            logger.warning("socket.send() raised exception.")
        self._conn_lost += 1

    def _appended(self, _: None) -> None:
        self._maybe_pause_protocol()

    def _send_failed(self, error: BaseException) -> None:
        if isinstance(error, OSError):
            if self._protocol is not None:
                self._protocol.error_received(error)
        else:
            self._fatal_error(error, "Fatal write error on datagram transport")

    def _flushed(self, blocked: int) -> None:
        """What waits now, after a flush that began or ended blocked, waits for this."""
        if threading.get_ident() != self._thread:
            loop = self._loop
            # A sendto of another thread: what follows, the end of a transport too, is the loop's.
            with contextlib.suppress(RuntimeError):  # it is closed
                if loop is not None:
                    loop.call_soon_threadsafe(self._flushed_elsewhere)
            return
        if self._conn_lost:
            return
        if blocked == UNTIL_WRITABLE:
            if not self._writer_on:
                self._add_writer(self._fd, self._core.flush)
                self._writer_on = True
        else:
            self._stop_writing()
        if blocked == UNTIL_BUFFERS:
            self._timer = self._loop.call_later(self._no_buffers, self._core.flush)
            self._no_buffers = min(self._no_buffers * 2, NO_BUFFERS_LAST)
        else:
            self._no_buffers = NO_BUFFERS_FIRST
        if blocked:
            self._maybe_pause_protocol()
        self._maybe_resume_protocol()  # type: ignore[attr-defined]
        self._end_if_sent()

    def _flushed_elsewhere(self) -> None:
        """The same for a flush of another thread."""
        if self._loop is not None:
            self._flushed(self._core.blocked)

    def _stop_writing(self) -> None:
        if self._writer_on:
            self._remove_writer(self._fd)
        self._writer_on = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # The end.

    def close(self) -> None:
        if self._closing:
            return
        self._closing = self._core.closing = True
        self._stop_reading()
        self._core.flush()
        self._end_if_sent()

    def abort(self) -> None:
        self._force_close(None)

    def _end_if_sent(self) -> None:
        if self._closing and not self._conn_lost and not self._core.waiting:
            self._conn_lost += 1
            self._core.lost = self._address is not None
            self._stop_writing()
            self._loop.call_soon(self._call_connection_lost, None)

    def _fatal_error(self, exc: BaseException, message: str = "Fatal error on transport") -> None:
        if isinstance(exc, OSError):
            if self._loop.get_debug():
                logger.debug("%r: %s", self, message, exc_info=True)
        else:
            self._loop.call_exception_handler(
                {
                    "message": message,
                    "exception": exc,
                    "transport": self,
                    "protocol": self._protocol,
                }
            )
        self._force_close(exc)

    def _force_close(self, exc: BaseException | None) -> None:
        if self._conn_lost:
            return
        self._core.discard()
        self._stop_writing()
        self._closing = True
        self._stop_reading()
        self._conn_lost += 1
        self._loop.call_soon(self._call_connection_lost, exc)

    def _call_connection_lost(self, exc: BaseException | None) -> None:
        try:
            self._core.flush()  # what was sent to a transport that closes and has no peer
            self._protocol.connection_lost(exc)
        finally:
            self._stop_writing()
            self._core.lose()
            self._conn.close()
            self._sock = None
            self._protocol = None
            self._messages = None
            self._loop = None  # type: ignore[assignment]


def is_address(host: object) -> bool:
    """Whether a host needs no resolving: an IPv4 address in digits."""
    try:
        socket.inet_pton(socket.AF_INET, host)  # type: ignore[arg-type]
    except (OSError, TypeError, UnicodeError, ValueError):
        return False
    return True


def _set_result_unless_done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
