"""The receiving side of a measurement.

It serves one sender, which leads: for each transfer the sender names a way and a mode, and then
burst after burst goes through the same steps on the control channel::

    sender  burst (how many)       ready             sent             done
            ------------------>  <---------  =data=  ------>  <----------------  then the check

In the mode "turns" reading starts when the sender has said "sent", so that the reader finds a
full queue and has the machine to itself; in the mode "overlap" it reads from "ready" on. What was
read is checked after "done", outside of all timing, while the sender writes the next burst.
"""

import select
import socket
import time
from dataclasses import asdict, dataclass

from .channel import Channel, ChannelMessage, PerfError
from .datagrams import HEADER_SIZE, MAX_SIZE, Checker, Tally
from .ways import WAYS, Reader, make_slots, ways_here

PROTOCOL = 2
"""Changes with every change to what the two sides say to each other or to the datagrams."""

MODES = ("turns", "overlap")

MAX_COUNT = 10_000_000
"""Datagrams of one transfer; the checker keeps a byte for each."""

MAX_BATCH = 1024
"""Messages that Linux takes in one sendmmsg; no burst is longer either."""

RCVBUF_ASKED = 4 << 20
"""Bytes of SO_RCVBUF asked for; net.core.rmem_max may allow less, and Linux doubles what it
grants."""

# Datagrams of a burst, unless a batch is longer. Many more would leave the processor's second-level
# cache, and cache misses, which cost all ways the same, would blur the difference between them.
_BURST = 256

# Milliseconds without a datagram, after the sender has sent all, that make the rest lost.
_GRACE_MS = 50

# Of what a stranger keeps sending, no more than this is read between two bursts.
_MOST_DRAINED = 65536


def burst_length(rcvbuf: int, size: int, batch: int) -> int:
    """How many datagrams of `size` bytes safely wait in a receive buffer of `rcvbuf` bytes, as
    SO_RCVBUF returns it; whole batches where that is possible.

    The kernel charges a datagram with the memory that it takes: a power of two that holds the
    bytes, the headers and struct skb_shared_info, and struct sk_buff. Drivers round small ones up
    further. Of what was read, Linux may go on charging up to a quarter of the buffer
    (udp_rmem_release).
    """
    charge = max(4096, (1 << (size + 512 - 1).bit_length()) + 256)
    fitting = max(1, min(rcvbuf * 3 // 4 // charge, max(_BURST, batch)))
    return fitting if fitting < batch else fitting - fitting % batch


def make_data_socket(host: str, port: int) -> socket.socket:
    """A non-blocking UDP socket, bound, with a large receive buffer."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RCVBUF_ASKED)
        sock.bind((host, port))
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def serve(channel: Channel, sock: socket.socket) -> Tally:
    """Serve the sender at the other end of `channel` until it says goodbye, with datagrams from
    `sock`; both stay the caller's. Returns what became of all datagrams of the run.

    Raises PerfError when the sender goes, hangs or breaks the protocol, and OSError; the sender
    is told.
    """
    try:
        run = _Run(channel, sock, channel.receive("hello"))
        tallies = []
        while (message := channel.receive("transfer", "bye")).op == "transfer":
            tallies.append(run.transfer(message))
        return Tally.total(tallies)
    except Exception as error:
        # A defect of this side, too, has to reach the user, who sits at the sender.
        known = isinstance(error, (PerfError, OSError))
        channel.report(str(error) if known else f"{type(error).__name__}: {error}")
        raise


@dataclass
class _Reads:
    """What the timed reads of one transfer took and brought."""

    cpu_ns: int = 0
    wall_ns: int = 0
    datagrams: int = 0


class _Run:
    """One sender's run, as its "hello" describes it."""

    def __init__(self, channel: Channel, sock: socket.socket, hello: ChannelMessage) -> None:
        theirs = hello.integer("protocol", 0, 1 << 31)
        if theirs != PROTOCOL:
            raise PerfError(
                f"sender and receiver speak protocols {theirs} and {PROTOCOL}: "
                "run the same version of ipv4batch on both sides"
            )
        self._run = hello.integer("run", 0, 0xFFFFFFFF)
        self._size = hello.integer("size", HEADER_SIZE, MAX_SIZE)
        self._count = hello.integer("count", 1, MAX_COUNT)
        batch = hello.integer("batch", 1, MAX_BATCH)
        rcvbuf = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        self._burst = burst_length(rcvbuf, self._size, batch)
        # One byte more than a datagram of the run, so that a longer one does not pass for it.
        slots = make_slots(self._burst, self._size + 1)
        self._readers: dict[str, Reader] = {
            name: WAYS[name].reader(sock, slots, batch) for name in ways_here()
        }
        self._channel = channel
        self._sock = sock
        self._data = select.poll()
        self._data.register(sock, select.POLLIN)
        self._both = select.poll()
        self._both.register(sock, select.POLLIN)
        self._both.register(channel, select.POLLIN)
        channel.send(
            "welcome",
            port=sock.getsockname()[1],
            burst=self._burst,
            rcvbuf_asked=RCVBUF_ASKED,
            rcvbuf=rcvbuf,
            ways=" ".join(self._readers),
        )

    def transfer(self, message: ChannelMessage) -> Tally:
        """Serve one transfer, send its result, and return what became of its datagrams."""
        way, mode = message.text("way"), message.text("mode")
        if way not in self._readers or mode not in MODES:
            raise PerfError(f"the sender asks for an unknown transfer: {way!r}, {mode!r}")
        reader = self._readers[way]
        first = message.integer("first", 0, 1 << 62)
        checker = Checker(self._run, self._size, first, self._count)
        reads = _Reads()
        reader.start()
        while (message := self._channel.receive("burst", "finish")).op == "burst":
            count = message.integer("count", 1, self._burst)
            self._drain(reader, checker)
            self._channel.send("ready")
            filled = self._read(reader, count, mode, reads)
            for index in range(filled):
                checker.check(reader.datagram(index))
        self._drain(reader, checker)
        reader.stop()
        tally = checker.tally()
        self._channel.send("result", **asdict(reads), **asdict(tally))
        return tally

    def _read(self, reader: Reader, count: int, mode: str, reads: _Reads) -> int:
        """Read a burst, add to `reads` what it took, and return how many datagrams came."""
        all_sent = mode == "turns"
        if all_sent:
            self._channel.receive("sent")
        filled = 0
        last_arrival = time.perf_counter_ns()
        while filled < count:
            wall = time.perf_counter_ns()
            cpu = time.thread_time_ns()
            after = reader.read(filled, count)
            reads.cpu_ns += time.thread_time_ns() - cpu
            now = time.perf_counter_ns()
            reads.wall_ns += now - wall
            if after > filled:
                filled, last_arrival = after, now
            elif all_sent:
                if not self._data.poll(_GRACE_MS):
                    break
            elif self._only_told():
                self._channel.receive("sent")
                all_sent = True
        reads.datagrams += filled
        self._channel.send("done", received=filled, idle_ns=time.perf_counter_ns() - last_arrival)
        if not all_sent:
            self._channel.receive("sent")
        return filled

    def _only_told(self) -> bool:
        """Wait for a datagram or the sender's "sent"; tell whether the latter came and no
        datagram.
        """
        # Between "ready" and "done" the sender says "sent" and nothing else, so no message can be
        # waiting in the channel's own buffer, where poll would not see it.
        events = self._both.poll(self._channel.timeout * 1000)
        if not events:
            raise PerfError(f"the sender sent nothing for {self._channel.timeout:g} s")
        return self._sock.fileno() not in [descriptor for descriptor, _ in events]

    def _drain(self, reader: Reader, checker: Checker) -> None:
        """Read and count what came after its burst was over, so that it takes no later one's
        place.
        """
        room = bytearray(self._size + 1)
        for _ in range(_MOST_DRAINED):
            try:
                length = reader.late(room)
            except BlockingIOError:
                break
            checker.check(memoryview(room)[:length])
