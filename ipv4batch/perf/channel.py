"""The control channel between the two sides of a measurement: JSON objects, one a line.

Every message has an "op" that names it. The channel runs over any stream socket: TCP between
machines, a socket pair on one. No wait on it is without a limit, and a side that fails tells the
other why before it goes.
"""

import contextlib
import json
import socket
import time
from types import TracebackType
from typing import Self

# The longest message is a few hundred bytes; a peer that sends more speaks another protocol.
_LONGEST_LINE = 65536
_LONGEST_TEXT = 1000


class PerfError(Exception):
    """A measurement cannot go on; the text is one line for the user."""


class PeerGoneError(PerfError):
    """The other side closed its end of the channel."""


class ChannelMessage:
    """One message of the other side, whose fields are checked as they are read."""

    def __init__(self, op: str, fields: dict[str, object], peer: str) -> None:
        self.op = op
        self._fields = fields
        self._peer = peer

    def integer(self, name: str, low: int, high: int) -> int:
        """A whole number within [low, high], or PerfError."""
        return self._integer(name, self._fields.get(name), low, high)

    def integers(self, name: str, low: int, high: int) -> tuple[int, ...]:
        """A list of whole numbers within [low, high], or PerfError."""
        values = self._fields.get(name)
        if not isinstance(values, list):
            raise self._unfit(name, values, "a list")
        return tuple(self._integer(name, value, low, high) for value in values)

    def text(self, name: str) -> str:
        """A text, or PerfError; cut to a length that a terminal takes, and on one line."""
        value = self._fields.get(name)
        if not isinstance(value, str):
            raise self._unfit(name, value, "a text")
        return "".join(c if c.isprintable() else " " for c in value[:_LONGEST_TEXT])

    def _integer(self, name: str, value: object, low: int, high: int) -> int:
        # A bool is an int to isinstance, but not to JSON.
        if type(value) is not int or not low <= value <= high:
            raise self._unfit(name, value, f"a whole number from {low} to {high}")
        return value

    def _unfit(self, name: str, value: object, wanted: str) -> PerfError:
        return PerfError(
            f"{self._peer} sent {name} = {value!r:.60} in {self.op!r:.60}, which must be {wanted}"
        )


class Channel:
    """One end of the control channel; the caller's thread alone uses it."""

    def __init__(self, sock: socket.socket, peer: str, timeout: float) -> None:
        """`sock` is a connected stream socket, which the channel owns from now on. `peer` is what
        messages to the user call the other side, `timeout` the seconds that it may take to
        answer.
        """
        self._sock = sock
        self._peer = peer
        self.timeout = timeout
        self._received = bytearray()
        # On TCP each message is waited for, so none may wait for the next one to fill a segment.
        if sock.family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def fileno(self) -> int:
        """The descriptor, readable when a message or the peer's end has come."""
        return self._sock.fileno()

    def send(self, op: str, **fields: object) -> None:
        """Send one message. Raises PeerGoneError, or PerfError when the peer takes nothing in
        time.
        """
        line = json.dumps({"op": op, **fields}).encode() + b"\n"
        self._sock.settimeout(self.timeout)
        try:
            self._sock.sendall(line)
        except TimeoutError:
            raise PerfError(f"{self._peer} took no message for {self.timeout:g} s") from None
        except OSError as error:
            raise self._farewell(error) from error

    def receive(self, *expected: str, timeout: float | None = None) -> ChannelMessage:
        """The next message, whose op is one of `expected`.

        `timeout` in seconds takes the place of the channel's own. Raises PeerGoneError when the
        peer closed the channel, and PerfError when nothing came in time, when the peer reports an
        error, and when it sends anything else than a message that is expected.
        """
        limit = self.timeout if timeout is None else timeout
        message = self._parse(self._line(limit))
        if message.op == "error":
            raise self._reported(message)
        if message.op not in expected:
            raise PerfError(f"{self._peer} sent {message.op!r:.60}, not {' or '.join(expected)}")
        return message

    def report(self, text: str) -> None:
        """Tell the peer why this side ends, if it still listens."""
        # A peer that cannot be told has gone or hangs; this side ends with its own error.
        with contextlib.suppress(PerfError):
            self.send("error", text=text[:_LONGEST_TEXT])

    def close(self) -> None:
        """Close this end; the peer sees it at once."""
        self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _reported(self, message: ChannelMessage) -> PerfError:
        return PerfError(f"{self._peer} reports: {message.text('text')}")

    def _farewell(self, error: OSError) -> PerfError:
        """The error of a peer that has gone: its own report, if it left one to be read."""
        try:
            while (message := self._parse(self._line(0))).op != "error":
                pass
            return self._reported(message)
        except PerfError:
            return PeerGoneError(f"{self._peer} has gone: {error.strerror}")

    def _line(self, limit: float) -> bytes:
        deadline = time.monotonic() + limit
        while (end := self._received.find(b"\n")) < 0:
            if len(self._received) > _LONGEST_LINE:
                raise PerfError(f"{self._peer} does not speak ipv4batch perf's protocol")
            try:
                # A timeout of 0 would mean non-blocking, so a passed deadline gets a moment still.
                self._sock.settimeout(max(deadline - time.monotonic(), 0.001))
                data = self._sock.recv(_LONGEST_LINE)
            except TimeoutError:
                raise PerfError(f"{self._peer} did not answer for {limit:g} s") from None
            except OSError as error:
                raise PeerGoneError(f"{self._peer} has gone: {error.strerror}") from error
            if not data:
                raise PeerGoneError(f"{self._peer} has gone: it closed the control channel")
            self._received += data
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        return line

    def _parse(self, line: bytes) -> ChannelMessage:
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError):
            fields = None
        if not isinstance(fields, dict) or not isinstance(fields.get("op"), str):
            raise PerfError(f"{self._peer} does not speak ipv4batch perf's protocol")
        return ChannelMessage(fields["op"], fields, self._peer)
