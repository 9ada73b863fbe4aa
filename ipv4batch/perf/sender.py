"""The sending side of a measurement, which leads it; `receiver` tells the steps of a burst."""

import random
import select
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

from .channel import Channel, ChannelMessage, PerfError
from .datagrams import MISSING_LISTED, Composer, Tally
from .progress import Progress
from .receiver import MAX_BATCH, MODES, PROTOCOL
from .ways import WAYS, Writer, make_slots, ways_here

# Any sequence number fits this; a number that does not comes from a broken peer.
_LARGEST = 1 << 62


@dataclass(frozen=True)
class Settings:
    """What the user asks for."""

    count: int
    """Datagrams of one transfer; a round has one transfer for each way and mode."""
    size: int
    """Bytes of a datagram, its UDP payload."""
    batch: int
    """Most messages in one batch call."""
    rounds: int


@dataclass(frozen=True)
class Setup:
    """What the receiver has granted."""

    burst: int
    """Datagrams that are sent before the receiver has to have read them all."""
    rcvbuf_asked: int
    """Bytes of receive buffer that it asked the kernel for."""
    rcvbuf: int
    """Bytes that it got, by the kernel's count, which is twice what the kernel granted."""


@dataclass(frozen=True)
class Transfer:
    """What both sides measured in one transfer: `Settings.count` datagrams by one way."""

    way: str
    mode: str
    """"turns": one side at a time. "overlap": both at once."""
    sent: int
    send_cpu_ns: int
    """CPU time of the sending thread in its writes, user and kernel, in ns."""
    send_wall_ns: int
    """Time on the clock in the same writes, in ns."""
    received: int
    """Datagrams that the timed reads brought, whatever was in them."""
    receive_cpu_ns: int
    receive_wall_ns: int
    elapsed_ns: int
    """From the first write of each burst until the receiver's word that it has read it, less the
    time that it waited for lost datagrams, in ns."""
    tally: Tally


class Sender:
    """Leads one run with the receiver at the other end of a channel."""

    def __init__(
        self, channel: Channel, sock: socket.socket, host: str, settings: Settings
    ) -> None:
        """Agree with the receiver on the run. Datagrams go from `sock`, a non-blocking UDP
        socket, to `host` and the port that the receiver names. Raises PerfError and OSError.
        """
        run = random.getrandbits(32)
        channel.send(
            "hello",
            protocol=PROTOCOL,
            run=run,
            size=settings.size,
            count=settings.count,
            batch=settings.batch,
        )
        welcome = channel.receive("welcome")
        self.setup = Setup(
            burst=welcome.integer("burst", 1, MAX_BATCH),
            rcvbuf_asked=welcome.integer("rcvbuf_asked", 0, _LARGEST),
            rcvbuf=welcome.integer("rcvbuf", 0, _LARGEST),
        )
        self._address = (host, welcome.integer("port", 1, 65535))
        theirs = welcome.text("ways").split()
        self._channel = channel
        self._settings = settings
        self._composer = Composer(run, settings.size)
        self._slots = make_slots(self.setup.burst, settings.size)
        self._writers: dict[str, Writer] = {
            name: WAYS[name].writer(sock, self._slots, self._address, settings.batch)
            for name in ways_here()
            if name in theirs
        }
        self._writable = select.poll()
        self._writable.register(sock, select.POLLOUT)
        self._next = 0
        self._any_arrived = False

    @property
    def transfers(self) -> int:
        """How many transfers the run has in all."""
        return self._settings.rounds * len(MODES) * len(self._writers)

    def run(self, progress: Progress) -> list[list[Transfer]]:
        """Move all datagrams; return the transfers of each round.

        Raises PerfError when the receiver goes, hangs, reports an error or gets no datagram at
        all, and OSError when datagrams cannot be sent; the receiver is told.
        """
        rounds = self._settings.rounds
        try:
            measured = []
            for number in range(rounds):
                progress.stage(f"round {number + 1} of {rounds}")
                measured.append(
                    [self._transfer(way, mode, progress) for way, mode in self._order(number)]
                )
            self._channel.send("bye")
            return measured
        except (PerfError, OSError) as error:
            self._channel.report(str(error))
            raise

    def _order(self, number: int) -> Iterator[tuple[str, str]]:
        """The transfers of a round. Every round starts with another way, so that none profits
        from its place while the machine's speed drifts.
        """
        names = list(self._writers)
        start = number % len(names)
        for mode in MODES:
            for name in names[start:] + names[:start]:
                yield name, mode

    def _transfer(self, way: str, mode: str, progress: Progress) -> Transfer:
        writer = self._writers[way]
        count = self._settings.count
        first = self._next
        self._next += count
        self._channel.send("transfer", way=way, mode=mode, first=first)
        cpu_ns = wall_ns = elapsed_ns = 0
        for start in range(first, first + count, self.setup.burst):
            burst = min(self.setup.burst, first + count - start)
            for index in range(burst):
                self._composer.compose(start + index, self._slots[index])
            self._channel.send("burst", count=burst)
            self._channel.receive("ready")

            wall = time.perf_counter_ns()
            cpu = time.thread_time_ns()
            self._write(writer, burst)
            cpu_ns += time.thread_time_ns() - cpu
            wall_ns += time.perf_counter_ns() - wall
            self._channel.send("sent")
            done = self._channel.receive("done")
            answered = time.perf_counter_ns()

            # While it waits for lost datagrams the receiver is idle, which says nothing about the
            # speed of the others.
            elapsed = answered - wall
            elapsed_ns += elapsed - min(done.integer("idle_ns", 0, _LARGEST), elapsed)
            self._expect_arrivals(done, burst)
            progress.advance(burst)
        self._channel.send("finish")
        result = self._channel.receive("result")
        return Transfer(
            way=way,
            mode=mode,
            sent=count,
            send_cpu_ns=cpu_ns,
            send_wall_ns=wall_ns,
            received=result.integer("datagrams", 0, count),
            receive_cpu_ns=result.integer("cpu_ns", 0, _LARGEST),
            receive_wall_ns=result.integer("wall_ns", 0, _LARGEST),
            elapsed_ns=elapsed_ns,
            tally=_tally(result, count),
        )

    def _write(self, writer: Writer, burst: int) -> None:
        sent = 0
        while (sent := writer.write(sent, burst)) < burst:
            if not self._writable.poll(self._channel.timeout * 1000):
                raise PerfError(f"the kernel took no datagram for {self._channel.timeout:g} s")

    def _expect_arrivals(self, done: ChannelMessage, burst: int) -> None:
        """Give up if the first burst is lost whole: then no datagram will ever get through."""
        self._any_arrived = self._any_arrived or done.integer("received", 0, burst) > 0
        if not self._any_arrived:
            host, port = self._address
            raise PerfError(
                f"none of the first {burst} datagrams arrived at {host}:{port}: "
                "does a firewall drop UDP?"
            )


def _tally(result: ChannelMessage, count: int) -> Tally:
    return Tally(
        intact=result.integer("intact", 0, count),
        corrupt=result.integer("corrupt", 0, _LARGEST),
        duplicate=result.integer("duplicate", 0, _LARGEST),
        stray=result.integer("stray", 0, _LARGEST),
        missing=result.integer("missing", 0, count),
        first_missing=result.integers("first_missing", 0, _LARGEST)[:MISSING_LISTED],
    )
